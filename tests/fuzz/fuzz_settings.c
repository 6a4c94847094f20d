/* A YAML file of settings. Checked beside the sanitizers: what was taken can be resolved for every stage and printed,
 * or is refused with words. */
#include "input.h"

#include "xft/settings.h"

#include <stdlib.h>

static void resolve(const xft_settings *settings, xft_stage stage) {
    xft_values values;
    char *json;
    if (xft_settings_resolve(settings, stage, &values) != XFT_OK) {
        require(*xft_error());
        return;
    }
    for (uint32_t i = 0; xft_settings_row(i); i++) {
        const char *key = xft_settings_row(i)->key;
        xft_settings_origin(settings, stage, key);
        xft_settings_need(settings, stage, key);
    }
    require(xft_settings_json(settings, stage, false, &json) == XFT_OK);
    free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    xft_settings *settings;
    require(xft_settings_create(&settings) == XFT_OK);
    if (xft_settings_parse(settings, (const char *)data, size, "fuzz.yaml") == XFT_OK)
        for (int stage = 0; stage < XFT_STAGE_COUNT; stage++) resolve(settings, (xft_stage)stage);
    else
        require(*xft_error());
    xft_settings_destroy(settings);
    return 0;
}
