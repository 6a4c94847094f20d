/* Suite `runtime`: status codes, devices, tensors and arenas. Streams: test_stream.c; kernels and caches:
 * test_kernels.c; wrong arguments of ops: test_arguments.c. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Base ---- */

Test(base, names) {
    cr_expect_str_eq(xft_status_name(XFT_OK), "XFT_OK");
    cr_expect_str_eq(xft_status_name(XFT_ERROR_CANCELLED), "XFT_ERROR_CANCELLED");
    cr_expect_str_eq(xft_status_name((xft_status)99), "unknown status");
    cr_expect_str_eq(xft_status_name((xft_status)-1), "unknown status");
    cr_expect_str_eq(xft_version(), "0.1.0");
    cr_expect_str_eq(xft_error(), "");
    static const char *const names[] = {"f32", "bf16", "f16", "u32"};
    static const uint32_t sizes[] = {4, 2, 2, 4};
    for (int i = 0; i < 4; i++) {
        cr_expect_str_eq(xft_dtype_name((xft_dtype)i), names[i]);
        cr_expect_eq(xft_dtype_size((xft_dtype)i), sizes[i]);
    }
    cr_expect_str_eq(xft_dtype_name((xft_dtype)4), "?");
    cr_expect_eq(xft_dtype_size((xft_dtype)4), 0);
}

/* Every 16-bit number comes back from f32, and a float goes to the nearest one, to even in the middle. */
static void check_halves(float (*widen)(uint16_t), uint16_t (*narrow)(float), uint16_t infinity) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = widen((uint16_t)bits);
        if ((bits & 0x7fff) > infinity) {
            cr_expect(isnan(value), "%04x", bits);
            cr_expect((narrow(value) & 0x7fff) > infinity, "%04x", bits);
        } else {
            cr_expect_eq(narrow(value), bits, "%04x", bits);
        }
    }
    for (uint32_t bits = 0; bits + 1 < infinity; bits++) {
        float below = widen((uint16_t)bits), above = widen((uint16_t)(bits + 1)), middle = below + (above - below) / 2;
        uint16_t even = (uint16_t)(bits & 1 ? bits + 1 : bits);
        if (middle == below || middle == above) continue; /* the smallest subnormals of bf16 */
        cr_expect_eq(narrow(middle), even, "between %04x and the next", bits);
        cr_expect_eq(narrow(nextafterf(middle, 0)), bits, "below the middle of %04x", bits);
        cr_expect_eq(narrow(nextafterf(middle, INFINITY)), bits + 1, "above the middle of %04x", bits);
        cr_expect_eq(narrow(-middle), even | 0x8000, "between -%04x and the next", bits);
    }
    cr_expect_eq(narrow(INFINITY), infinity);
    cr_expect_eq(narrow(3.4e38f), infinity);
}

Test(base, bf16) {
    check_halves(xft_bf16_to_f32, xft_f32_to_bf16, 0x7f80);
}
Test(base, f16) {
    check_halves(xft_f16_to_f32, xft_f32_to_f16, 0x7c00);
}

/* ---- Devices ---- */

Test(device, list) {
    xft_device_info *list;
    uint32_t count;
    OK(xft_devices(&list, &count));
    cr_assert_gt(count, 0);
    for (uint32_t i = 0; i < count; i++) {
        const xft_device_info *d = &list[i];
        cr_expect(*d->id, "device %u has no id", i);
        cr_expect_eq(d->usable, !*d->reason, "%s: usable is %d, reason is \"%s\"", d->id, d->usable, d->reason);
        if (!d->usable) continue;
        cr_expect(*d->name && *d->platform && *d->driver, "%s has no name", d->id);
        cr_expect_geq(d->alignment, 512);
        cr_expect_geq(d->max_workgroup_size, 128);
        cr_expect_geq(d->local_memory_bytes, 16384);
        cr_expect_gt(d->max_allocation_bytes, 0);
        cr_expect_leq(d->max_allocation_bytes, (UINT64_C(4) << 30) - 512);
        for (uint32_t j = 0; j < i; j++) cr_expect(strcmp(d->id, list[j].id), "two devices are called %s", d->id);
    }
    xft_devices_free(list);
    xft_devices_free(NULL);
    REFUSES(xft_devices(NULL, &count), XFT_ERROR_INVALID_ARGUMENT, "list");
    REFUSES(xft_devices(&list, NULL), XFT_ERROR_INVALID_ARGUMENT, "count");
}

Test(device, open) {
    xft_device *device = fixture_open(NULL), *same;
    const xft_device_info *info = xft_device_get_info(device);
    OK(xft_device_open(info->id, NULL, &same));
    cr_expect_str_eq(xft_device_get_info(same)->name, info->name);
    xft_device_close(same);
    OK(xft_device_open(info->api == XFT_API_VULKAN ? "VULKAN" : "OpenCL", NULL, &same));
    xft_device_close(same);
    char part[16];
    snprintf(part, sizeof part, "%.12s", info->name);
    for (char *p = part; *p; p++) *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    OK(xft_device_open(part, NULL, &same));
    xft_device_close(same);
    OK(xft_device_open("auto", NULL, &same));
    xft_device_close(same);
    xft_device_close(device);
    xft_device_close(NULL);
}

static void hold(void *user) {
    (void)user;
}

Test(device, wrong_arguments) {
    xft_device *device = (xft_device *)1;
    REFUSES(xft_device_open("auto", NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "device");
    REFUSES(xft_device_open(NULL, NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "name");
    cr_expect_null(device);
    REFUSES(xft_device_open("", NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "name");
    REFUSES(xft_device_open("no such card", NULL, &device), XFT_ERROR_NO_DEVICE, "no such card");
    REFUSES(xft_device_open("vulkan:77", NULL, &device), XFT_ERROR_NO_DEVICE, "vulkan:77");
    xft_vulkan_objects vulkan = {0};
    REFUSES(xft_device_adopt_vulkan(&vulkan, NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "device");
    REFUSES(xft_device_adopt_vulkan(NULL, NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "objects");
    REFUSES(xft_device_adopt_vulkan(&vulkan, NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "instance");
    vulkan = (xft_vulkan_objects){&device, &device, &device, &device, 0, NULL, NULL, hold, NULL, NULL};
    REFUSES(xft_device_adopt_vulkan(&vulkan, NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "unlock_queue");
    REFUSES(xft_device_open("auto", &(xft_device_options){.subgroup_size = 7}, &device), XFT_ERROR_UNSUPPORTED,
            "subgroup_size");
    xft_opencl_objects opencl = {0};
    REFUSES(xft_device_adopt_opencl(&opencl, NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "device");
    REFUSES(xft_device_adopt_opencl(NULL, NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "objects");
    REFUSES(xft_device_adopt_opencl(&opencl, NULL, &device), XFT_ERROR_INVALID_ARGUMENT, "context");
    const xft_vulkan_needs *needs = xft_vulkan_requirements();
    cr_assert(needs && needs->features && needs->extensions);
    cr_expect_geq(needs->api_version, 1u << 22 | 2u << 12);

    device = fixture_open(NULL);
    REFUSES(xft_device_memory(NULL, NULL, NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "device");
    const char *json;
    REFUSES(xft_device_choices(NULL, &json), XFT_ERROR_INVALID_ARGUMENT, "device");
    REFUSES(xft_device_choices(device, NULL), XFT_ERROR_INVALID_ARGUMENT, "json");
    cr_expect_null(xft_device_get_info(NULL));
    xft_device_counters counters = {.buffers = 7};
    xft_device_get_counters(NULL, &counters);
    cr_expect_eq(counters.buffers, 0);
    fixture_close(device, NULL, NULL);
}

Test(device, memory) {
    xft_device *device = fixture_open(NULL);
    uint64_t total, available;
    bool told;
    OK(xft_device_memory(device, &total, &available, &told));
    cr_expect_gt(total, 0);
    cr_expect_leq(available, total);
    OK(xft_device_memory(device, NULL, NULL, NULL));
    fixture_close(device, NULL, NULL);
}

/* ---- Tensors ---- */

Test(tensor, shapes_and_pitch) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    OK(xft_arena_create(device, "shapes", 0, &arena));
    for (int dtype = 0; dtype < 4; dtype++)
        for (uint32_t cols = 1; cols < 20; cols++) {
            xft_tensor t;
            OK(xft_tensor_create(arena, (xft_dtype)dtype, 3, (const uint32_t[]){2, 3, cols}, &t));
            uint32_t step = xft_dtype_size(t.dtype) == 2 ? 8 : 4;
            cr_expect_eq(t.pitch, (cols + step - 1) / step * step);
            cr_expect_eq(xft_rows(&t), 6);
            cr_expect_eq(xft_cols(&t), cols);
            cr_expect_eq(xft_bytes(&t), (uint64_t)6 * t.pitch * xft_dtype_size(t.dtype));
            cr_expect_eq(t.offset % xft_device_get_info(device)->alignment, 0);
            cr_expect_geq(xft_tensor_footprint(device, t.dtype, 3, t.shape), xft_bytes(&t));
        }
    fixture_close(device, arena, NULL);
}

Test(tensor, wrong_arguments) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    REFUSES(xft_arena_create(NULL, "a", 0, &arena), XFT_ERROR_INVALID_ARGUMENT, "device");
    REFUSES(xft_arena_create(device, "a", 0, NULL), XFT_ERROR_INVALID_ARGUMENT, "arena");
    OK(xft_arena_create(device, "wrong", 0, &arena));
    xft_tensor t, view;
    const uint32_t shape[] = {2, 3, 1, 1, 1}, zero[] = {2, 0}, huge[] = {1u << 20, 1u << 13},
                   rows[] = {65536, 65536, 1};
    REFUSES(xft_tensor_create(NULL, XFT_F32, 2, shape, &t), XFT_ERROR_INVALID_ARGUMENT, "arena");
    REFUSES(xft_tensor_create(arena, XFT_F32, 2, shape, NULL), XFT_ERROR_INVALID_ARGUMENT, "tensor");
    REFUSES(xft_tensor_create(arena, XFT_F32, 2, NULL, &t), XFT_ERROR_INVALID_ARGUMENT, "shape");
    REFUSES(xft_tensor_create(arena, (xft_dtype)9, 2, shape, &t), XFT_ERROR_INVALID_ARGUMENT, "dtype");
    REFUSES(xft_tensor_create(arena, XFT_F32, 0, shape, &t), XFT_ERROR_INVALID_ARGUMENT, "rank");
    REFUSES(xft_tensor_create(arena, XFT_F32, 5, shape, &t), XFT_ERROR_INVALID_ARGUMENT, "rank");
    REFUSES(xft_tensor_create(arena, XFT_F32, 2, zero, &t), XFT_ERROR_INVALID_ARGUMENT, "shape[1]");
    REFUSES(xft_tensor_create(arena, XFT_F32, 2, huge, &t), XFT_ERROR_UNSUPPORTED, "4 GiB");
    REFUSES(xft_tensor_create(arena, XFT_F32, 3, rows, &t), XFT_ERROR_UNSUPPORTED, "rows");
    cr_expect_eq(xft_tensor_footprint(device, XFT_F32, 2, zero), 0);
    cr_expect_eq(xft_tensor_footprint(NULL, XFT_F32, 2, shape), 0);
    OK(xft_tensor_create(arena, XFT_BF16, 2, shape, &t));
    REFUSES(xft_tensor_rows(NULL, 0, 1, &view), XFT_ERROR_INVALID_ARGUMENT, "tensor");
    REFUSES(xft_tensor_rows(&t, 0, 1, NULL), XFT_ERROR_INVALID_ARGUMENT, "view");
    REFUSES(xft_tensor_rows(&t, 1, 2, &view), XFT_ERROR_INVALID_ARGUMENT, "rows");
    REFUSES(xft_tensor_rows(&t, 0, 0, &view), XFT_ERROR_INVALID_ARGUMENT, "rows");
    REFUSES(xft_tensor_rows(&t, UINT32_MAX, 2, &view), XFT_ERROR_INVALID_ARGUMENT, "rows");
    REFUSES(xft_tensor_at(&t, 2, &view), XFT_ERROR_INVALID_ARGUMENT, "index");
    REFUSES(xft_tensor_reshape(&t, 2, (const uint32_t[]){3, 2}, &view), XFT_ERROR_INVALID_ARGUMENT, "rows");
    float values[6];
    REFUSES(xft_tensor_write(NULL, XFT_F32, values), XFT_ERROR_INVALID_ARGUMENT, "tensor");
    REFUSES(xft_tensor_write(&t, XFT_F32, NULL), XFT_ERROR_INVALID_ARGUMENT, "data");
    REFUSES(xft_tensor_write(&t, XFT_U32, values), XFT_ERROR_INVALID_ARGUMENT, "dtype");
    REFUSES(xft_tensor_read(NULL, XFT_F32, values), XFT_ERROR_INVALID_ARGUMENT, "tensor");
    REFUSES(xft_tensor_read(&t, XFT_F32, NULL), XFT_ERROR_INVALID_ARGUMENT, "data");
    REFUSES(xft_tensor_read(&t, XFT_F16, values), XFT_ERROR_INVALID_ARGUMENT, "dtype");
    xft_tensor none = {.dtype = XFT_F32, .rank = 1, .shape = {1, 1, 1, 1}, .pitch = 4};
    REFUSES(xft_tensor_read(&none, XFT_F32, values), XFT_ERROR_INVALID_ARGUMENT, "memory");
    fixture_close(device, arena, NULL);
}

Test(tensor, write_and_read_convert) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    OK(xft_arena_create(device, "transfer", 0, &arena));
    enum { R = 37, C = 21 };
    float values[R * C], back[R * C];
    for (int i = 0; i < R * C; i++) values[i] = (float)i * 0.37f - 100;
    for (int dtype = 0; dtype < 3; dtype++) {
        xft_tensor t;
        OK(xft_tensor_create(arena, (xft_dtype)dtype, 2, (const uint32_t[]){R, C}, &t));
        OK(xft_tensor_write(&t, XFT_F32, values));
        OK(xft_tensor_read(&t, XFT_F32, back));
        for (int i = 0; i < R * C; i++) {
            float expected = dtype == XFT_BF16  ? xft_bf16_to_f32(xft_f32_to_bf16(values[i]))
                             : dtype == XFT_F16 ? xft_f16_to_f32(xft_f32_to_f16(values[i]))
                                                : values[i];
            cr_expect_eq(back[i], expected, "%s element %d", xft_dtype_name(t.dtype), i);
        }
        uint16_t raw[R * C];
        if (dtype == XFT_F32) continue;
        OK(xft_tensor_read(&t, t.dtype, raw));
        cr_expect_eq(raw[C + 1], dtype == XFT_BF16 ? xft_f32_to_bf16(values[C + 1]) : xft_f32_to_f16(values[C + 1]));
    }
    fixture_close(device, arena, NULL);
}

Test(tensor, views) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    OK(xft_arena_create(device, "views", 0, &arena));
    xft_tensor t = fixture_tensor(arena, 12, 5, 0, 1), view, entry;
    float back[60];
    OK(xft_tensor_rows(&t, 7, 2, &view));
    OK(xft_tensor_read(&view, XFT_F32, back));
    for (int i = 0; i < 10; i++) cr_expect_eq(back[i], (float)(35 + i));
    OK(xft_tensor_reshape(&t, 3, (const uint32_t[]){3, 4, 5}, &view));
    OK(xft_tensor_at(&view, 2, &entry));
    cr_expect_eq(entry.rank, 2);
    cr_expect_eq(xft_rows(&entry), 4);
    OK(xft_tensor_read(&entry, XFT_F32, back));
    for (int i = 0; i < 20; i++) cr_expect_eq(back[i], (float)(40 + i));
    OK(xft_tensor_at(&entry, 1, &view));
    cr_expect_eq(view.rank, 1);
    OK(xft_tensor_read(&view, XFT_F32, back));
    cr_expect_eq(back[4], 49);
    REFUSES(xft_tensor_at(&view, 0, &entry), XFT_ERROR_INVALID_ARGUMENT, "rank");
    fixture_close(device, arena, NULL);
}

/* ---- Arenas ---- */

Test(arena, limit_mark_release) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    uint64_t one = xft_tensor_footprint(device, XFT_F32, 2, (const uint32_t[]){16, 16});
    OK(xft_arena_create(device, "three of them", 3 * one, &arena));
    xft_tensor a = fixture_tensor(arena, 16, 16, 1, 0), b = fixture_tensor(arena, 16, 16, 2, 0), c, d;
    cr_expect_eq(xft_arena_used(arena), 2 * one);
    uint64_t mark = xft_arena_mark(arena);
    c = fixture_tensor(arena, 16, 16, 3, 0);
    REFUSES(xft_tensor_create(arena, XFT_F32, 2, a.shape, &d), XFT_ERROR_OUT_OF_DEVICE_MEMORY, "three of them");
    xft_arena_release(arena, mark);
    d = fixture_tensor(arena, 16, 16, 4, 0);
    cr_expect(d.buffer == c.buffer && d.offset == c.offset, "released memory is given out again");
    float back[256];
    OK(xft_tensor_read(&b, XFT_F32, back));
    cr_expect_eq(back[255], 2);
    xft_arena_release(arena, 0);
    cr_expect_eq(xft_arena_used(arena), 0);
    xft_arena_release(NULL, 0);
    cr_expect_eq(xft_arena_mark(NULL), 0);
    fixture_close(device, arena, NULL);
}

Test(arena, reserved_buffers_are_filled_in_order) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    xft_device_counters before, after;
    uint64_t one = xft_tensor_footprint(device, XFT_F32, 2, (const uint32_t[]){16, 16});
    xft_device_get_counters(device, &before);
    OK(xft_arena_create(device, "five of them", 5 * one, &arena));
    OK(xft_arena_reserve(arena, 2 * one));
    OK(xft_arena_reserve(arena, 3 * one));
    REFUSES(xft_arena_reserve(arena, one), XFT_ERROR_OUT_OF_DEVICE_MEMORY, "five of them");
    REFUSES(xft_arena_reserve(arena, 0), XFT_ERROR_INVALID_ARGUMENT, "bytes");
    for (int round = 0; round < 2; round++) {
        xft_tensor t[5];
        for (int i = 0; i < 5; i++) t[i] = fixture_tensor(arena, 16, 16, (float)i, 0);
        cr_expect(t[0].buffer == t[1].buffer && t[1].buffer != t[2].buffer && t[2].buffer == t[4].buffer);
        xft_arena_release(arena, 0);
    }
    xft_device_get_counters(device, &after);
    cr_expect_eq(after.buffer_bytes - before.buffer_bytes, 5 * one);
    fixture_close(device, arena, NULL);
}

Test(arena, too_large_for_the_device) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    uint64_t most = xft_device_get_info(device)->max_allocation_bytes;
    OK(xft_arena_create(device, "large", 0, &arena));
    xft_tensor t;
    uint32_t rows = (uint32_t)(most / 4096) + 1;
    xft_status status = xft_tensor_create(arena, XFT_F32, 2, (const uint32_t[]){rows, 1024}, &t);
    cr_expect(status == XFT_ERROR_OUT_OF_DEVICE_MEMORY || status == XFT_ERROR_UNSUPPORTED, "%s",
              xft_status_name(status));
    cr_expect(strstr(xft_error(), "one"), "%s", xft_error());
    t = fixture_tensor(arena, 2, 2, 1, 1); /* and the arena is of use afterwards */
    fixture_close(device, arena, NULL);
}

/* A planted bug: a write into the memory between two tensors. */
Test(arena, canary_sees_a_write_behind_a_tensor) {
    xft_device *device = fixture_open(&(xft_device_options){.debug = XFT_DEBUG_CANARIES});
    xft_arena *arena;
    OK(xft_arena_create(device, "guarded", 0, &arena));
    xft_tensor a = fixture_tensor(arena, 3, 7, 0, 1), b = fixture_tensor(arena, 5, 9, 0, 1);
    (void)b;
    OK(xft_arena_check(arena));
    xft_tensor beyond = a;
    beyond.shape[0] = 4; /* one row too many, as a kernel with a wrong bound would write */
    float values[28] = {0};
    OK(xft_tensor_write(&beyond, XFT_F32, values));
    REFUSES(xft_arena_check(arena), XFT_ERROR_INVALID_ARGUMENT, "tensor 0 [3,7,1,1]");
    REFUSES(xft_arena_check(NULL), XFT_ERROR_INVALID_ARGUMENT, "arena");
    fixture_close(device, arena, NULL);
    device = fixture_open(NULL);
    OK(xft_arena_create(device, "unguarded", 0, &arena));
    REFUSES(xft_arena_check(arena), XFT_ERROR_INVALID_ARGUMENT, "CANARIES");
    fixture_close(device, arena, NULL);
}

Test(arena, separate_buffers_and_poison) {
    xft_device *device = fixture_open(
        &(xft_device_options){.debug = XFT_DEBUG_SEPARATE_BUFFERS | XFT_DEBUG_POISON | XFT_DEBUG_CANARIES});
    xft_arena *arena;
    OK(xft_arena_create(device, "separate", 0, &arena));
    xft_tensor a, b;
    OK(xft_tensor_create(arena, XFT_F32, 1, (const uint32_t[]){9}, &a));
    OK(xft_tensor_create(arena, XFT_BF16, 1, (const uint32_t[]){9}, &b));
    cr_expect_neq(a.buffer, b.buffer);
    float back[9];
    OK(xft_tensor_read(&a, XFT_F32, back));
    for (int i = 0; i < 9; i++) cr_expect(isnan(back[i]));
    OK(xft_tensor_read(&b, XFT_F32, back));
    for (int i = 0; i < 9; i++) cr_expect(isnan(back[i]));
    OK(xft_arena_check(arena));
    fixture_close(device, arena, NULL);
}
