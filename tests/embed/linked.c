/* linked NAME: a program outside the tree, linked with the installed library, adds two tensors on the named device.
 * Exit code 2 and a message when there is no device. */
#include "common.h"

int main(int argc, char **argv) {
    xft_device *device;
    xft_status status = xft_device_open(argc > 1 ? argv[1] : "auto", NULL, &device);
    if (status != XFT_OK) {
        printf("%s: %s\n", xft_status_name(status), xft_error());
        return status == XFT_ERROR_NO_DEVICE ? 2 : 1;
    }
    int failed = embed_add(device);
    xft_device_close(device);
    return failed;
}
