/* xft_make_small FOLDER [DEVICE]: tiny models with a tokenizer, and data, for scripts. */
#include <stdio.h>

#include "small_run.h"

int main(int argc, char **argv) {
    xft_device *device = NULL;
    xft_status status =
        argc < 2 ? XFT_ERROR_INVALID_ARGUMENT : xft_device_open(argc > 2 ? argv[2] : "opencl", NULL, &device);
    if (status == XFT_OK) status = small_run_make(device, argv[1]);
    if (status != XFT_OK) fprintf(stderr, "xft_make_small: %s\n", xft_error());
    xft_device_close(device);
    return status != XFT_OK;
}
