/* A config.json. Checked beside the sanitizers: what was read passes the check that models make, and what is written of
 * it reads as the same again. */
#include "input.h"

#include "xft/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void write_and_read(const xft_config *config, const char *base) {
    char *json, *second;
    xft_config again;
    require(xft_config_write(config, base, &json) == XFT_OK);
    require(xft_config_parse(json, "written", &again) == XFT_OK);
    require(again.family == config->family && again.hidden_size == config->hidden_size &&
            again.num_layers == config->num_layers && again.num_kv_heads == config->num_kv_heads &&
            again.rotary == config->rotary && again.rope_scaling == config->rope_scaling &&
            fabs(again.rope_theta - config->rope_theta) <= 1e-14 * config->rope_theta &&
            again.num_experts == config->num_experts && again.gate == config->gate &&
            again.tied_head == config->tied_head);
    require(xft_config_write(&again, json, &second) == XFT_OK && !strcmp(json, second));
    free(json);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = text_of(data, size);
    xft_config config;
    if (xft_config_parse(text, "config.json", &config) == XFT_OK) {
        require(xft_config_check(&config) == XFT_OK);
        require(!config.num_experts || xft_config_routed(&config) <= 64);
        write_and_read(&config, text);
    } else
        require(*xft_error());
    free(text);
    return 0;
}
