/* Which device "auto" means among those of the best class: the one whose small product is quickest. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "record.h"

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

xft_status xft_time_stream(xft_stream *stream, uint32_t runs, double enough_ms, double *best_ms) {
    *best_ms = -1;
    for (uint32_t i = 0; i < runs + 1 && (enough_ms <= 0 || *best_ms < enough_ms); i++) {
        const double start = now_ms();
        XFT_TRY(xft_stream_run(stream));
        const double spent = now_ms() - start;
        if (i < 2 || spent < *best_ms) *best_ms = spent; /* the warm-up counts only when it is the end */
    }
    return XFT_OK;
}

/* Milliseconds of one n^3 product on the device, the best of three after a warm-up. */
static xft_status time_product(xft_device *device, uint32_t n, double *best) {
    const uint32_t shape[2] = {n, n};
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    xft_tensor t[3];
    *best = -1;
    xft_status status = xft_arena_create(device, "timing", 3 * xft_tensor_footprint(device, XFT_F32, 2, shape), &arena);
    for (int i = 0; i < 3 && status == XFT_OK; i++) status = xft_tensor_create(arena, XFT_F32, 2, shape, &t[i]);
    if (status == XFT_OK) status = xft_stream_create(device, NULL, &stream);
    for (int i = 0; i < 2 && status == XFT_OK; i++) status = xft_fill(stream, &t[i], 1);
    if (status == XFT_OK) status = xft_stream_run(stream);
    if (status == XFT_OK) status = xft_stream_reset(stream);
    if (status == XFT_OK) status = xft_gemm(stream, XFT_NT, &t[0], &t[1], &t[2], false);
    if (status == XFT_OK) status = xft_time_stream(stream, 3, 0, best);
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
    return status;
}

/* The same on a device that is not open; negative when it fails. */
static double measure(const xft_device_info *info, const xft_device_options *options) {
    xft_open_request request = {.info = info, .options = options};
    xft_device *device = NULL;
    double best = -1;
    xft_status status = xft_device_open_with(xft_driver_of(info), &request, &device);
    if (status == XFT_OK) status = time_product(device, 384, &best);
    xft_device_close(device);
    return status == XFT_OK ? best : -1;
}

xft_status xft_calibrate(xft_device *device) {
    if (device->cost_scale > 0) return XFT_OK;
    device->cost_scale = 1; /* while the product itself is recorded */
    double ms, n = 128;     /* a device so slow that this says enough need not do more */
    xft_status status = time_product(device, 128, &ms);
    if (status == XFT_OK && ms < 2) {
        n = 512;
        status = time_product(device, 512, &ms);
    }
    device->cost_scale = status == XFT_OK ? ms / xft_estimate_ms(device, 2 * n * n * n, 12 * n * n) : 0;
    return status == XFT_OK ? XFT_OK : xft_fail_in(status, "timing %s for its submit budget", device->info.id);
}

/* Names the candidates and their drivers: a remembered choice holds as long as this text does. */
static void describe(const xft_device_info *list, const uint32_t *candidates, uint32_t count, char *text, size_t room) {
    *text = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = strlen(text);
        const xft_device_info *d = &list[candidates[i]];
        snprintf(text + at, room - at, "%s|%s|%s|%s\n", d->id, d->name, d->platform, d->driver);
    }
}

static int remembered(const char *path, const char *among, const xft_device_info *list, const uint32_t *candidates,
                      uint32_t count) {
    json_t *document = path ? json_load_file(path, 0, NULL) : NULL;
    const char *known = json_string_value(json_object_get(document, "among"));
    const char *fastest = json_string_value(json_object_get(document, "fastest"));
    int found = -1;
    for (uint32_t i = 0; known && fastest && strcmp(known, among) == 0 && i < count; i++)
        if (strcmp(list[candidates[i]].id, fastest) == 0) found = (int)candidates[i];
    json_decref(document);
    return found;
}

/* Losing this only costs the measurement, so failures are not reported. */
static void remember(const char *path, const char *among, const char *fastest) {
    char temporary[1100];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    json_t *document = json_pack("{s:s,s:s}", "among", among, "fastest", fastest);
    if (document && (json_dump_file(document, temporary, JSON_INDENT(1)) || rename(temporary, path))) unlink(temporary);
    json_decref(document);
}

int xft_fastest_device(const xft_device_info *list, uint32_t count, uint32_t best, const xft_device_options *options) {
    uint32_t candidates[32], n = 0;
    for (uint32_t i = 0; i < count && n < 32; i++)
        if (list[i].usable && list[i].device_class == list[best].device_class) candidates[n++] = i;
    if (n < 2) return (int)best;
    char among[32 * 400], path[1024];
    describe(list, candidates, n, among, sizeof among);
    xft_device_options quiet = options ? *options : (xft_device_options){0};
    quiet.choices = NULL;
    quiet.debug = 0;
    char *folder = xft_find_cache_dir(&quiet);
    if (folder) snprintf(path, sizeof path, "%s/auto.json", folder);
    int found = remembered(folder ? path : NULL, among, list, candidates, n);
    double quickest = -1;
    for (uint32_t i = 0; found < 0 && i < n; i++) {
        double ms = measure(&list[candidates[i]], &quiet);
        if (ms >= 0 && (quickest < 0 || ms < quickest)) {
            quickest = ms;
            best = candidates[i];
        }
    }
    if (found < 0 && folder) remember(path, among, list[best].id);
    free(folder);
    return found < 0 ? (int)best : found;
}
