/* xft init */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "command.h"
#include "xft/checkpoint.h"
#include "xft/run.h"

/* What is there may have taken hours. */
static int check_output(const char *output) {
    xft_run_state run;
    bool model;
    if (xft_run_find(output, &run, NULL) || xft_checkpoint_exists(output, &model)) return fail_status(XFT_ERROR_IO);
    if (run != XFT_RUN_NONE || model)
        return fail(EXIT_FAILED, "output %s holds a %s; give another folder", output, run ? "training run" : "model");
    return EXIT_DONE;
}

static xft_status make(const char *folder, const char *output, uint64_t seed) {
    char *json;
    xft_config config;
    xft_device *device = NULL;
    xft_model *model = NULL;
    xft_status status = xft_checkpoint_config(folder, &json, &config);
    if (status != XFT_OK) return status;
    status = xft_device_open("auto", NULL, &device);
    if (status == XFT_OK) status = xft_model_create(device, &config, &(xft_model_options){.config_json = json}, &model);
    if (status == XFT_OK) status = xft_model_init(model, seed);
    const xft_save_options options = {.dtype = config.dtype, .carry = folder, .callbacks = &console};
    if (status == XFT_OK) status = xft_checkpoint_save(model, output, &options);
    if (status == XFT_OK)
        printf("%s: %" PRIu32 " tensors, %s of weights on the device\n", output, xft_model_tensor_count(model),
               size_text(xft_model_bytes(model)));
    xft_model_destroy(model);
    xft_device_close(device);
    free(json);
    return status;
}

int run_init(call *call) {
    const char *output = call_option(call, OPTION_OUTPUT), *text = call_option(call, OPTION_SEED);
    char *end = NULL;
    errno = 0;
    const uint64_t seed = text ? strtoull(text, &end, 10) : 1;
    if (!output) return fail(EXIT_USAGE, "init needs --output, a folder for the model");
    if (text && (errno || *end || *text < '0' || *text > '9'))
        return fail(EXIT_USAGE, "--seed \"%s\": must be a whole number", text);
    const int code = check_output(output);
    if (code != EXIT_DONE) return code;
    const xft_status status = make(call->operands[0], output, seed);
    clear_line();
    return status ? fail_status(status) : EXIT_DONE;
}
