#include "fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

xft_device *fixture_open(const xft_device_options *options) {
    const char *name = getenv("XFT_TEST_DEVICE");
    xft_device *device = NULL;
    OK(xft_device_open(name ? name : "auto", options, &device));
    return device;
}

void fixture_close(xft_device *device, xft_arena *arena, xft_stream *stream) {
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
    xft_device_counters c;
    xft_device_get_counters(device, &c);
    cr_expect_eq(c.buffers, 0, "%d buffers are left", (int)c.buffers);
    cr_expect_eq(c.buffer_bytes, 0, "%d bytes are left", (int)c.buffer_bytes);
    cr_expect_eq(c.programs, 0, "%d programs are left", (int)c.programs);
    xft_device_close(device);
}

char folder[100];

void fixture_begin(void) {
    snprintf(folder, sizeof folder, "%s/xft-test-XXXXXX", P_tmpdir);
    cr_assert(mkdtemp(folder), "%s", folder);
}

void fixture_end(void) {
    char command[220];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
}

const char *path_of(const char *name) {
    static char paths[16][600];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

static void empty_folder(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    char file[512];
    while (dir && (entry = readdir(dir))) {
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') remove(file);
    }
    if (dir) closedir(dir);
}

const char *fixture_folder(const char *name) {
    static char path[256];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/xft-test-%ld-%s", base ? base : "/tmp", (long)getpid(), name);
    mkdir(path, 0700);
    empty_folder(path);
    return path;
}

xft_tensor fixture_tensor(xft_arena *arena, uint32_t rows, uint32_t cols, float value, float step) {
    xft_tensor tensor;
    OK(xft_tensor_create(arena, XFT_F32, 2, (const uint32_t[]){rows, cols}, &tensor));
    float *values = malloc((size_t)rows * cols * sizeof *values);
    cr_assert(values);
    for (uint32_t i = 0; i < rows * cols; i++) values[i] = value + step * (float)i;
    OK(xft_tensor_write(&tensor, XFT_F32, values));
    free(values);
    return tensor;
}
