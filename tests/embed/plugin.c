/* plugin LIBRARY NAME: the same through dlopen and the function table alone; nothing of the library is linked. */
#include <dlfcn.h>
#include <string.h>
#include <xft/table.h>

#include "common.h"

int main(int argc, char **argv) {
    if (argc < 3) return 1;
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("%s\n", dlerror());
        return 1;
    }
    xft_get_table_function get;
    *(void **)(&get) = dlsym(library, "xft_get_table");
    if (!get || get(XFT_TABLE_MAJOR + 1, 0) != NULL) {
        printf("xft_get_table is missing or serves a foreign version\n");
        return 1;
    }
    const xft_table *xft = get(XFT_TABLE_MAJOR, XFT_TABLE_MINOR);
    if (!xft || xft->size != sizeof *xft) return 1;

    float a[ROWS * COLS], b[ROWS * COLS], y[ROWS * COLS];
    embed_inputs(a, b);
    const uint32_t shape[2] = {ROWS, COLS};
    xft_device *device = NULL;
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    xft_tensor t[3];
    int failed = xft->device_open(argv[2], NULL, &device) || xft->arena_create(device, "plugin", 0, &arena);
    for (int i = 0; i < 3 && !failed; i++) failed = xft->tensor_create(arena, XFT_F32, 2, shape, &t[i]);
    failed = failed || xft->tensor_write(&t[0], XFT_F32, a) || xft->tensor_write(&t[1], XFT_F32, b) ||
             xft->stream_create(device, NULL, &stream) || xft->add(stream, &t[0], &t[1], &t[2]) ||
             xft->stream_run(stream) || xft->tensor_read(&t[2], XFT_F32, y);
    if (failed)
        printf("failed: %s\n", xft->error());
    else
        failed = embed_judge(y, xft->device_get_info(device)->id);
    xft->stream_destroy(stream);
    xft->arena_destroy(arena);
    xft->device_close(device);
    dlclose(library);
    return failed;
}
