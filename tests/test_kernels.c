/* Suite `runtime`: the table of kernels against what the build embedded, the caches on disk, the text of choices. */
#include "driver_test.h"
#include "fixture.h"
#include "kernel.h"
#include "ops/gemm_choice.h"
#include "op_params.h"
#include "record.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- The table ---- */

Test(kernels, every_row_has_both_forms) {
    for (int op = 0; op < XFT_OP_COUNT; op++) {
        const xft_op_info *info = xft_op_get_info((xft_op)op);
        for (int api = 0; api < 2; api++) {
            const xft_kernel_source *s = xft_kernel_find((xft_op)op, "", (xft_api_kind)api);
            cr_assert(s, "%s", info->name);
            cr_expect_gt(s->size, 0, "%s is empty", info->name);
            cr_expect_str_eq(s->constants[0], "WG", "%s", info->name);
        }
        cr_expect_leq(8 * info->buffer_count + 4 * info->param_words, XFT_ARGUMENT_BYTES,
                      "%s: %u buffers and %u parameters do not fit the push constants", info->name, info->buffer_count,
                      info->param_words);
        bool written = false;
        for (uint32_t i = 0; i < info->buffer_count; i++) {
            cr_expect(!(written && info->access[i] == XFT_READ), "%s: %s is read, after one that is written",
                      info->name, info->buffer_names[i]);
            written |= (info->access[i] & XFT_WRITE) != 0;
        }
        cr_expect(written, "%s writes nothing", info->name);
    }
    cr_expect_null(xft_kernel_find((xft_op)0, "no such variant", XFT_API_VULKAN));
}

/* Name and number of every specialization constant of a module: OpName and OpDecorate SpecId. */
static void check_spirv(const xft_kernel_source *s) {
    enum { OP_NAME = 5, OP_DECORATE = 71, SPEC_ID = 1, BOUND = 1 << 16 };
    static const char *names[BOUND];
    const uint32_t *words = (const uint32_t *)(const void *)s->data;
    uint32_t count = (uint32_t)(s->size / 4), found = 0;
    const char *op = xft_op_get_info(s->op)->name;
    cr_assert(count > 5 && words[0] == 0x07230203, "%s.%s is no SPIR-V", op, s->variant);
    cr_assert_lt(words[3], BOUND);
    memset(names, 0, sizeof names);
    for (uint32_t i = 5; i < count; i += words[i] >> 16) {
        cr_assert_gt(words[i] >> 16, 0);
        if ((words[i] & 0xffff) == OP_NAME) names[words[i + 1]] = (const char *)&words[i + 2];
    }
    for (uint32_t i = 5; i < count; i += words[i] >> 16) {
        if ((words[i] & 0xffff) != OP_DECORATE || words[i + 2] != SPEC_ID) continue;
        uint32_t id = words[i + 3];
        cr_expect_lt(id, s->constant_count, "%s.%s: constant %u is not in the row", op, s->variant, id);
        if (id > 0 && id < s->constant_count)
            cr_expect_str_eq(names[words[i + 1]], s->constants[id], "%s.%s: constant %u", op, s->variant, id);
        found++;
    }
    cr_expect_eq(found, s->constant_count, "%s.%s: %u of %u constants are in the module", op, s->variant, found,
                 s->constant_count);
}

static bool has(const unsigned char *text, uint64_t size, const char *word) {
    return memmem(text, size, word, strlen(word)) != NULL;
}

/* Every constant of the row occurs in the kernel or in what precedes it. */
static void check_opencl(const xft_kernel_source *s) {
    const char *op = xft_op_get_info(s->op)->name;
    uint64_t prelude_size;
    const unsigned char *prelude = xft_opencl_prelude(&prelude_size);
    char head[64];
    snprintf(head, sizeof head, "KERNEL %s(", op);
    cr_expect(has(s->data, s->size, head), "%s.%s has no \"%s\"", op, s->variant, head);
    for (uint32_t i = 1; i < s->constant_count; i++)
        cr_expect(has(s->data, s->size, s->constants[i]) || has(prelude, prelude_size, s->constants[i]),
                  "%s.%s never names %s", op, s->variant, s->constants[i]);
}

Test(kernels, constants_match_their_rows) {
    uint32_t count;
    const xft_kernel_source *sources = xft_kernel_sources(&count);
    cr_assert_geq(count, 2 * XFT_OP_COUNT);
    for (uint32_t i = 0; i < count; i++) {
        if (sources[i].size == 0) continue;                       /* this build's compiler cannot make it */
        if (strcmp(sources[i].variant, "clblast") == 0) continue; /* a library's kernel */
        if (sources[i].api == XFT_API_VULKAN)
            check_spirv(&sources[i]);
        else
            check_opencl(&sources[i]);
    }
}

/* ---- Caches on disk ---- */

/* Runs one op with the cache in `dir`; the text of choices in choices[room] if not NULL. */
static void run_add_of(xft_dtype dtype, const char *dir, const char *given, char *choices, size_t room) {
    xft_device *device = fixture_open(&(xft_device_options){.cache_dir = dir, .choices = given});
    xft_arena *arena;
    xft_stream *stream;
    OK(xft_arena_create(device, "cached", 0, &arena));
    OK(xft_stream_create(device, NULL, &stream));
    xft_tensor a, y;
    float start[15], back[15];
    for (int i = 0; i < 15; i++) start[i] = (float)(i + 1);
    OK(xft_tensor_create(arena, dtype, 2, (const uint32_t[]){3, 5}, &a));
    OK(xft_tensor_create(arena, dtype, 2, (const uint32_t[]){3, 5}, &y));
    OK(xft_tensor_write(&a, XFT_F32, start));
    OK(xft_add(stream, &a, &a, &y));
    OK(xft_stream_run(stream));
    OK(xft_tensor_read(&y, XFT_F32, back));
    for (int i = 0; i < 15; i++) cr_expect_eq(back[i], 2 * (float)(i + 1));
    const char *text;
    OK(xft_device_choices(device, &text));
    if (choices) snprintf(choices, room, "%s", text);
    fixture_close(device, arena, stream);
}

static void run_add(const char *dir, const char *given, char *choices, size_t room) {
    run_add_of(XFT_F32, dir, given, choices, room);
}

/* Calls visit with the path of every file; returns how many there are. */
static uint32_t each_file(const char *dir, void (*visit)(const char *path)) {
    uint32_t count = 0;
    DIR *d = opendir(dir);
    cr_assert(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (visit) visit(path);
        count++;
    }
    closedir(d);
    return count;
}

static void edit(const char *path, void (*change)(unsigned char *data, long *size)) {
    FILE *file = fopen(path, "rb");
    cr_assert(file);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    unsigned char *data = malloc((size_t)size + 1);
    cr_assert(data && fread(data, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    change(data, &size);
    file = fopen(path, "wb");
    cr_assert(file && fwrite(data, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    free(data);
}

static void flip_last(unsigned char *data, long *size) {
    data[*size - 1] ^= 0x55;
}
static void flip_middle(unsigned char *data, long *size) {
    data[*size / 2] ^= 0x55;
}
static void flip_first(unsigned char *data, long *size) {
    (void)size, data[0] ^= 0x55;
}
static void halve(unsigned char *data, long *size) {
    (void)data, *size /= 2;
}
static void empty(unsigned char *data, long *size) {
    (void)data, *size = 0;
}
static void garbage(unsigned char *data, long *size) {
    memset(data, 0xa5, (size_t)*size);
}

static void (*change_of_files)(unsigned char *data, long *size);
static void change_file(const char *path) {
    edit(path, change_of_files);
}
static void remove_file(const char *path) {
    remove(path);
}

Test(caches, damage_is_noticed_and_rebuilt) {
    const char *dir = fixture_folder("cache");
    run_add(dir, NULL, NULL, 0);
    uint32_t files = each_file(dir, NULL);
    cr_assert_gt(files, 0, "nothing is cached");
    static void (*const changes[])(unsigned char *, long *) = {flip_last, flip_middle, flip_first,
                                                               halve,     empty,       garbage};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        change_of_files = changes[i];
        each_file(dir, change_file);
        run_add(dir, NULL, NULL, 0);
        cr_expect_eq(each_file(dir, NULL), files, "change %zu", i);
        run_add(dir, NULL, NULL, 0); /* with the rebuilt one */
    }
    each_file(dir, remove_file);
    run_add(dir, NULL, NULL, 0);
    cr_expect_eq(each_file(dir, NULL), files, "removed files are not written again");
    each_file(dir, remove_file);
    rmdir(dir);
}

/* The one entry of a folder, and all that it holds. */
typedef struct entry {
    char path[512];
    unsigned char data[1 << 20];
    long size;
} entry;
static entry *taken;

static void take_data(unsigned char *data, long *size) {
    cr_assert_leq(*size, (long)sizeof taken->data);
    memcpy(taken->data, data, (size_t)(taken->size = *size));
}
static void take_entry(const char *path) {
    if (!strstr(path, ".bin")) return;
    cr_assert_str_empty(taken->path, "more than one entry");
    snprintf(taken->path, sizeof taken->path, "%s", path);
    edit(path, take_data);
}
static void take_from(const char *dir, entry *e) {
    taken = e;
    *e->path = 0;
    each_file(dir, take_entry);
    cr_assert(*e->path, "no entry in %s", dir);
}
static void put_entry(const char *path, const entry *e) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(e->data, 1, (size_t)e->size, file) == (size_t)e->size);
    fclose(file);
}

/* What lies under an entry's name and was not written for it is not used, and is replaced. */
Test(caches, foreign_content_is_noticed) {
    enum { MAGIC = 8, KEY = 16 };
    static entry own, other, now;
    char dir[256], dir_of_other[256];
    snprintf(dir, sizeof dir, "%s", fixture_folder("own"));
    snprintf(dir_of_other, sizeof dir_of_other, "%s", fixture_folder("other"));
    run_add(dir, NULL, NULL, 0);
    run_add_of(XFT_BF16, dir_of_other, NULL, NULL, 0);
    take_from(dir, &own);
    take_from(dir_of_other, &other);
    if (memcmp(own.data, other.data, MAGIC + KEY) != 0) { /* a file for each kernel: that of the same one in bf16 */
        put_entry(own.path, &other);
        run_add(dir, NULL, NULL, 0);
        take_from(dir, &now);
        cr_expect_arr_eq(now.data, own.data, MAGIC + KEY, "the kernel of bf16 stays under the name of that of f32");
    }
    for (int i = MAGIC; i < MAGIC + KEY; i++) { /* written for something else, such as another device */
        other = own;
        other.data[i] ^= 1;
        put_entry(own.path, &other);
        run_add(dir, NULL, NULL, 0);
        take_from(dir, &now);
        cr_expect_arr_eq(now.data, own.data, MAGIC + KEY, "byte %d of another key", i);
    }
    each_file(dir, remove_file);
    each_file(dir_of_other, remove_file);
    rmdir(dir);
    rmdir(dir_of_other);
}

Test(caches, no_cache_and_no_right_to_write) {
    run_add("", NULL, NULL, 0);
    run_add("/proc/no/such/folder", NULL, NULL, 0);
}

/* ---- Choices ---- */

static void count_report(void *user, const char *products, const char *choice, double ms, double rule_ms) {
    (void)choice;
    cr_expect_str_eq(products, "gemm nt f32 f32 f32 small");
    cr_expect(ms > 0 && ms <= rule_ms);
    ++*(uint32_t *)user;
}

static void see_report(void *user, const char *products, const char *choice, double ms, double rule_ms) {
    cr_expect(*choice && ms > 0 && ms <= rule_ms);
    snprintf(user, XFT_GEMM_KEY, "%s", products);
}

/* What matrix units serve can be tuned as all else. */
Test(choices, products_of_f16_are_tuned) {
    char told[XFT_GEMM_KEY] = "";
    xft_device *device = fixture_open(&(xft_device_options){.cache_dir = ""});
    const xft_gemm_problem f16 = {XFT_NT, XFT_F16, XFT_F16, XFT_F16, 64, 64, 64, 0};
    OK(xft_tune_class(device, &f16, see_report, told));
    cr_expect_str_eq(told, "gemm nt f16 f16 f16 small");
    xft_device_close(device);
}

static const xft_gemm_problem cube = {XFT_NT, XFT_F32, XFT_F32, XFT_F32, 128, 128, 128, 0};

/* A measured choice is made by every later device, one of a text by the device that got it, and by no other. */
Test(choices, measured_ones_are_remembered_and_given_ones_decide) {
    static const char key[] = "\"gemm nt f32 f32 f32 small\"";
    char dir[] = "/tmp/xft-choices-XXXXXX", made[2][1000], name[XFT_GEMM_KEY];
    const char *text;
    uint32_t reports = 0;
    cr_assert(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        xft_device *device = fixture_open(&(xft_device_options){.cache_dir = dir});
        if (i == 0) OK(xft_tune_class(device, &cube, count_report, &reports));
        xft_gemm_choose(device, &cube);
        xft_lanes_for(device); /* noted by the rule, which a known choice does not ask */
        OK(xft_device_choices(device, &text));
        cr_expect(strstr(text, key), "%s", text);
        snprintf(made[i], sizeof made[i], "%s", text);
        xft_device_close(device);
    }
    cr_expect_eq(reports, 1);
    cr_expect_str_eq(made[0], made[1]);

    static const struct {
        const char *choices;
        bool decides, of_class;
    } given[] = {
        {"{\"choices\": {\"gemm nt f32 f32 f32 small\": \"plain 64x32 8x4\"}}", true, true},
        {"{\"choices\": {\"gemm nt f32 f32 f32 128x128x128\": \"plain 64x32 8x4\"}}", true, false},
        {"{\"choices\": {\"gemm nt f32 f32 f32 small\": \"plain 64x64 8x8\", "
         "\"gemm nt f32 f32 f32 128x128x128\": \"plain 64x32 8x4\"}}",
         true, true},
        {"{\"choices\": {\"gemm nt f32 f32 f32 small\": \"plain 0x0 0x0\"}}", false, true},
        {"{\"choices\": {\"gemm nt f32 f32 f32 128x128x128\": \"cpu 7\"}}", false, false},
        {"{\"choices\": {}}", false, false},
    };
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        xft_device *device = fixture_open(&(xft_device_options){.cache_dir = dir, .choices = given[i].choices});
        xft_gemm_choice choice = xft_gemm_choose(device, &cube);
        xft_gemm_describe(&choice, name);
        cr_expect_eq(!strcmp(name, "plain 64x32 8x4"), given[i].decides, "%s: %s", given[i].choices, name);
        OK(xft_device_choices(device, &text));
        cr_expect_eq(strstr(text, key) != NULL, given[i].of_class, "%s: %s", given[i].choices, text);
        xft_device_close(device);
    }
    each_file(dir, remove_file);
    rmdir(dir);
}

/* What a driver may say of the same device after an update: less memory and other vectors; or, where rules go by the
 * class of the device alone, another class. */
static void change_limits(xft_device *device) {
    device->info.local_memory_bytes = 32768;
    device->info.native_vector_width = device->info.native_vector_width == 8 ? 16 : 8;
    if (device->info.api == XFT_API_VULKAN) device->info.device_class = XFT_CLASS_DISCRETE;
}

/* A norm, a product and attention both ways, with the cache in `dir`; gives what came out. */
enum { TOKENS = 37, HEADS = 11, WIDTH = HEADS * 64 };
static void run_block(const char *dir, const char *given, bool changed, char *choices, size_t room, float *out) {
    xft_device *device =
        fixture_open(&(xft_device_options){.cache_dir = dir, .choices = given, .submit_budget_ms = -1});
    const xft_device_info info = device->info;
    if (changed) change_limits(device);
    xft_arena *arena;
    xft_stream *stream;
    OK(xft_arena_create(device, "block", 0, &arena));
    OK(xft_stream_create(device, NULL, &stream));
    xft_tensor x = fixture_tensor(arena, TOKENS, WIDTH, -1, 0.00013f),
               w = fixture_tensor(arena, WIDTH, WIDTH, 1, -7e-6f);
    xft_tensor q = fixture_tensor(arena, TOKENS, WIDTH, 0, 0), o = fixture_tensor(arena, TOKENS, WIDTH, 0, 0);
    xft_tensor g = fixture_tensor(arena, 1, WIDTH, 1, 0.001f), rstd = fixture_tensor(arena, 1, TOKENS, 0, 0);
    xft_tensor lse = fixture_tensor(arena, HEADS, TOKENS, 0, 0), delta = lse, segments, d[3];
    OK(xft_tensor_create(arena, XFT_F32, 2, (const uint32_t[]){HEADS, TOKENS}, &delta));
    for (int i = 0; i < 3; i++) d[i] = fixture_tensor(arena, TOKENS, WIDTH, 0, 0);
    uint32_t seen[TOKENS][4];
    for (uint32_t t = 0; t < TOKENS; t++) memcpy(seen[t], (uint32_t[]){0, TOKENS, TOKENS, 1}, sizeof seen[t]);
    OK(xft_tensor_create(arena, XFT_U32, 2, (const uint32_t[]){TOKENS, 4}, &segments));
    OK(xft_tensor_write(&segments, XFT_U32, seen));
    OK(xft_rms_norm(stream, &x, &g, 1e-5f, &o, &rstd));
    OK(xft_gemm(stream, XFT_NT, &o, &w, &q, false));
    OK(xft_attention(stream, &q, &q, &x, &segments, 64, 0.0003f, &o, &lse));
    OK(xft_attention_backward(stream, &q, &q, &x, &o, &x, &lse, &segments, 64, 0.0003f, &delta, &d[0], &d[1], &d[2]));
    OK(xft_stream_run(stream));
    for (int i = 0; i < 3; i++) OK(xft_tensor_read(&d[i], XFT_F32, out + i * TOKENS * WIDTH));
    const char *text;
    OK(xft_device_choices(device, &text));
    cr_assert_lt(strlen(text), room);
    memcpy(choices, text, strlen(text) + 1);
    device->info = info;
    fixture_close(device, arena, stream);
}

static char first_text[1 << 14], second_text[1 << 14];
static float first_bits[3 * TOKENS * WIDTH], second_bits[3 * TOKENS * WIDTH];

Test(choices, text_is_json_of_all_that_was_chosen) {
    run_block("", NULL, false, first_text, sizeof first_text, first_bits);
    json_t *json = json_loads(first_text, 0, NULL), *choices = json_object_get(json, "choices");
    cr_assert(json, "%s", first_text);
    static const char *const keys[] = {"workgroup", "gemm nt f32 f32 f32 37x704x704", "attention 64",
                                       "attention_backward_q 64", "attention_backward_kv 64"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        cr_expect(json_is_string(json_object_get(choices, keys[i])), "no %s in %s", keys[i], first_text);
    json_decref(json);
}

/* The cache is gone, and rules would decide otherwise: the text of the first run gives its bits again. */
Test(choices, a_text_gives_the_same_bits_without_a_cache_and_under_other_limits) {
    const char *dir = fixture_folder("removed");
    run_block(dir, NULL, false, first_text, sizeof first_text, first_bits);
    run_block(dir, NULL, true, second_text, sizeof second_text, second_bits);
    cr_expect(memcmp(first_bits, second_bits, sizeof first_bits), "limits that change no bits show nothing");
    each_file(dir, remove_file);
    run_block(dir, first_text, true, second_text, sizeof second_text, second_bits);
    cr_expect(!memcmp(first_bits, second_bits, sizeof first_bits), "%s\n%s", first_text, second_text);
    cr_expect_str_eq(first_text, second_text);
    each_file(dir, remove_file);
    rmdir(dir);
}

/* A text of another device is no text. */
Test(choices, another_device_decides_for_itself) {
    static const char *const texts[] = {"{\"device\": \"other\", \"choices\": {\"workgroup\": \"128\"}}",
                                        "{\"api\": \"other\", \"choices\": {\"workgroup\": \"128\"}}",
                                        "{\"choices\": {\"workgroup\": \"128\"}}"};
    for (int i = 0; i < 3; i++) {
        xft_device *device;
        OK(test_device_open(&(xft_device_options){.cache_dir = "", .choices = texts[i]}, &device));
        cr_expect_eq(xft_workgroup_for(device), i < 2 ? 256 : 128);
        xft_device_close(device);
    }
}

static xft_device *cpu_device(const char *choices, uint32_t vector, uint32_t local_memory) {
    xft_device *device;
    OK(test_device_open(&(xft_device_options){.cache_dir = "", .choices = choices}, &device));
    device->info.api = XFT_API_OPENCL;
    device->info.device_class = XFT_CLASS_CPU;
    device->info.native_vector_width = vector;
    device->info.local_memory_bytes = local_memory;
    return device;
}

/* Slabs of products on CPUs decide the order of sums: they are made of whole vectors, fit local memory with all else,
 * and stay as a text says under any limit. */
enum { SLABS = 3 * 3 * 2 };
static void choose_slabs(const xft_device *device, xft_gemm_choice *made) {
    for (int i = 0; i < SLABS; i++) {
        const xft_dtype t = (xft_dtype)(i / 3 % 3), c = i < SLABS / 2 ? XFT_F32 : XFT_BF16;
        made[i] = xft_gemm_choose(device, &(xft_gemm_problem){(xft_form)(i % 3), t, t, c, 300, 2000, 1700, 0});
    }
}

Test(choices, slabs_of_products_fit_and_stay) {
    static const uint32_t memories[] = {32768, 49152, 65536, 262144, 2097152};
    for (uint32_t vector = 8; vector <= 16; vector += 8)
        for (size_t m = 0; m < sizeof memories / sizeof *memories; m++) {
            xft_gemm_choice made[SLABS], again[SLABS];
            xft_device *device = cpu_device(NULL, vector, memories[m]);
            const char *text;
            choose_slabs(device, made);
            OK(xft_device_choices(device, &text));
            xft_device *other = cpu_device(text, 24 - vector, 100000);
            choose_slabs(other, again);
            for (int i = 0; i < SLABS; i++) {
                const uint32_t *t = made[i].tile, vw = t[0], mr = t[1], bm = t[2], kc = t[3], pc = t[4];
                cr_expect_eq(vw, vector);
                cr_expect(kc > 0 && kc % vw == 0, "slabs of %u for vectors of %u", kc, vw);
                cr_expect(made[i].rows <= bm && (i < SLABS / 2 || made[i].columns <= pc));
                const bool packs = i % 3 == XFT_TN || i / 3 % 3 != XFT_F32;
                cr_expect_leq(4 * (2 * kc * 2 * vw + bm * pc + (packs ? kc * (bm + mr) : 1)), memories[m],
                              "product %d, vectors of %u", i, vw);
                cr_expect_str_eq(again[i].variant, "cpu");
                cr_expect(again[i].tile[0] == vw && again[i].tile[3] == kc, "product %d", i);
            }
            xft_device_close(other);
            xft_device_close(device);
        }
}

Test(choices, wrong_texts_are_refused) {
    xft_device *device;
    const char *name = getenv("XFT_TEST_DEVICE");
    static const char *const texts[] = {"{", "[]", "{}", "{\"choices\": 3}", "{\"choices\": {\"a\": 1}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        REFUSES(xft_device_open(name ? name : "auto", &(xft_device_options){.choices = texts[i]}, &device),
                XFT_ERROR_FORMAT, "choices");
}
