/* model.safetensors.index.json of a folder with two shards. Checked beside the sanitizers: what it names is found. */
#include "input.h"

#include "files.h"
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[64];

static void leave(void) {
    xft_remove_all(folder);
}

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!*folder) {
        static const float values[2];
        const xft_stored_tensor t[] = {
            {.name = "a", .dtype = XFT_STORED_F32, .rank = 1, .shape = {2}, .data = values, .bytes = 8},
            {.name = "b", .dtype = XFT_STORED_F32, .rank = 1, .shape = {2}, .data = values, .bytes = 8}};
        strcpy(folder, "/dev/shm/xft-fuzz-XXXXXX");
        require(mkdtemp(folder) && !atexit(leave));
        require(xft_safetensors_write(in_folder("1.safetensors"), &t[0], 1, NULL, NULL, NULL) == XFT_OK);
        require(xft_safetensors_write(in_folder("2.safetensors"), &t[1], 1, NULL, NULL, NULL) == XFT_OK);
    }
    FILE *file = fopen(in_folder("model.safetensors.index.json"), "wb");
    require(file && fwrite(data, 1, size, file) == size && !fclose(file));
    xft_shards shards;
    if (xft_shards_open(folder, &shards) != XFT_OK) {
        require(*xft_error());
        return 0;
    }
    require(shards.count <= 2);
    for (size_t i = 0; i < shards.count; i++)
        require(xft_shards_find(&shards, xft_safetensors_at(shards.files[i], 0)->name, NULL));
    xft_shards_close(&shards);
    return 0;
}
