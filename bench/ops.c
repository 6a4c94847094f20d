/* xft_bench_ops: every op at the shapes of real models, on every device, beside its peers and its limit. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "op_check.h"
#include "ops/gemm_choice.h"

enum { MAX_DEVICES = 8, MAX_PEERS = 4 };

typedef struct bench_device {
    xft_device *device;
    const xft_device_info *info;
    char name[400];
    bench_roof own, roof; /* measured on it; the better of it and of the same silicon through another API */
} bench_device;

static bench_device devices[MAX_DEVICES];
static uint32_t device_count;
static json_t *rows;
static const char *json;      /* file of the rows, or NULL */
static const char *case_text; /* only cases whose label holds it */
static bool alone;            /* without peers */
static bool tuned_pass;       /* the second pass, for which CLBlast was tuned */
static int failures;
static const char *const form_names[] = {"nt", "nn", "tn"};

/* ---- Products ---- */

typedef struct product {
    bool is_gemm, is_grouped;
    xft_form form;
    uint32_t M, N, K; /* grouped: M (nt, nn) or K (tn) is the rows of all experts */
    uint32_t output;  /* number of the buffer */
    float *a, *b, *c; /* f32 copies for OpenBLAS */
} product;

static float *floats_of(const case_buffer *b) {
    uint64_t n = case_elements(b);
    float *f = malloc(n * sizeof *f);
    if (!f) exit(1);
    for (uint64_t i = 0; i < n; i++) f[i] = b->values ? (float)b->values[i] : 0;
    return f;
}

static product product_of(const op_case *c) {
    product p = {.is_gemm = !strcmp(c->op, "gemm"), .is_grouped = !strcmp(c->op, "grouped_gemm")};
    if (!p.is_gemm && !p.is_grouped) return p;
    const case_buffer *a = &c->buffers[0], *b = &c->buffers[1];
    p.output = p.is_grouped ? 3 : 2;
    p.form = (xft_form)c->u[0];
    p.M = p.form == XFT_TN ? a->shape[1] : a->shape[0];
    p.K = p.form == XFT_TN ? a->shape[0] : a->shape[1];
    p.N = p.form == XFT_NT ? b->shape[b->rank - 2] : b->shape[b->rank - 1];
    p.a = floats_of(a);
    p.b = floats_of(b);
    p.c = floats_of(&c->buffers[p.output]);
    return p;
}

static void product_free(product *p) {
    free(p->a);
    free(p->b);
    free(p->c);
}

/* What must come out, by OpenBLAS, expert by expert: in double it would take minutes. The caller frees it. */
static double *product_expected(const op_case *c, const product *p) {
    const double *offsets = p->is_grouped ? c->buffers[2].values : NULL;
    const uint32_t experts = p->is_grouped ? c->buffers[2].shape[0] - 1 : 1;
    const uint64_t factor = (uint64_t)p->N * p->K, outputs = (uint64_t)p->M * p->N;
    const uint64_t n = outputs * (p->form == XFT_TN ? experts : 1);
    double *expected = malloc(n * sizeof *expected);
    float *sums = calloc(n, sizeof *sums);
    if (!expected || !sums) exit(1);
    for (uint32_t e = 0; e < experts; e++) {
        const bool tn = p->form == XFT_TN;
        const uint64_t begin = offsets ? (uint64_t)offsets[e] : 0;
        const uint32_t rows = offsets ? (uint32_t)(offsets[e + 1] - offsets[e]) : tn ? p->K : p->M;
        if (rows == 0) continue;
        bench_blas(p->form, tn ? p->M : rows, p->N, tn ? rows : p->K, p->a + begin * (tn ? p->M : p->K),
                   p->b + (tn ? begin * p->N : e * factor), sums + (tn ? e * outputs : begin * p->N));
    }
    for (uint64_t i = 0; i < n; i++) expected[i] = (double)sums[i];
    free(sums);
    return expected;
}

/* One plain product of that work by OpenBLAS; a grouped one takes the matrices of expert 0 for all rows. */
static double blas_sample(const product *p) {
    double start = bench_now_ms();
    bench_blas(p->form, p->M, p->N, p->K, p->a, p->b, p->c);
    return bench_now_ms() - start;
}

/* ---- Peers on the device itself, each a way to record the case ---- */

typedef struct peer {
    const char *name, *variant;
    xft_status (*record)(xft_stream *, const op_case *, const xft_tensor *const *);
} peer;

/* The same work as one plain product of ops.h: the peer of a grouped one. */
static xft_status record_plain(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_tensor b = *t[1], out = *t[3];
    xft_form form = (xft_form)c->u[0];
    XFT_TRY(form == XFT_TN ? xft_tensor_at(t[3], 0, &out) : xft_tensor_at(t[1], 0, &b));
    return xft_gemm(stream, form, t[0], &b, &out, false);
}

static xft_status record_forced(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_gemm_force(c->form);
    xft_status status = xft_gemm(stream, (xft_form)c->u[0], t[0], t[1], t[2], false);
    xft_gemm_force(NULL);
    return status;
}

static uint32_t peers_of(const bench_device *d, const op_case *c, const product *p, peer *peers) {
    uint32_t n = 0;
    if (alone) return 0;
    bool clblast = d->info->api == XFT_API_OPENCL && c->buffers[0].dtype == XFT_F32;
    if (p->is_grouped) peers[n++] = (peer){"product", NULL, record_plain};
    if (p->is_gemm && !tuned_pass) peers[n++] = (peer){"plain", "yardstick", record_forced};
    if (p->is_gemm && clblast) peers[n++] = (peer){tuned_pass ? "clblast_tuned" : "clblast", "clblast", record_forced};
    return n;
}

/* ---- One case on one device ---- */

/* The suites' check, before anything is measured: contents known before a single run, compared within the suites'
 * tolerances, the same bits again; prints what is wrong. Root of the normalised mean squared error; negative: it could
 * not be computed. */
static double check(const op_case *c, const bench_device *d) {
    op_checker checker = {.device = d->device};
    op_result result = {0};
    bool any = false;
    for (uint32_t i = 0; i < c->count; i++) any = any || c->buffers[i].expected;
    if (!any)
        snprintf(result.message, sizeof result.message, "the case has no expected values");
    else if (xft_arena_create(d->device, "check", 0, &checker.arena) != XFT_OK)
        snprintf(result.message, sizeof result.message, "%s", xft_error());
    else
        op_check(&checker, c, &result);
    xft_arena_destroy(checker.arena);
    if (!result.passed) {
        printf("%-24s %-46s %-9s WRONG: %s\n", c->op, c->label, d->info->id, result.message);
        failures++;
    }
    return result.passed || result.error > 0 ? sqrt(result.error) : -1;
}

static const char *variant_of(const op_case *c, const bench_device *d, const product *p) {
    if (!p->is_gemm && !p->is_grouped) return "";
    xft_gemm_problem problem = {.form = p->form,
                                .a = c->buffers[0].dtype,
                                .b = c->buffers[1].dtype,
                                .c = c->buffers[p->output].dtype,
                                .M = p->M,
                                .N = p->N,
                                .K = p->K,
                                .experts = p->is_grouped ? c->buffers[2].shape[0] - 1 : 0};
    const char *variant = xft_gemm_choose(d->device, &problem).variant;
    return *variant ? variant : "tile";
}

static json_t *row_of(const op_case *c, const bench_device *d, const product *p, const bench_time *time) {
    bool is_product = p->is_gemm || p->is_grouped;
    json_t *row = json_object(), *shape = json_array();
    json_object_set_new(row, "op", json_string(c->op));
    if (is_product) json_object_set_new(row, "form", json_string(form_names[p->form]));
    json_object_set_new(row, "api", json_string(d->info->api == XFT_API_VULKAN ? "vulkan" : "opencl"));
    json_object_set_new(row, "device", json_string(d->name));
    json_object_set_new(row, "driver", json_string(d->info->driver));
    uint32_t first = 0; /* the first argument that is data */
    while (first + 1 < c->count && (c->buffers[first].rank == 0 || c->buffers[first].dtype == XFT_U32)) first++;
    json_object_set_new(row, "dtype", json_string(xft_dtype_name(c->buffers[first].dtype)));
    if (is_product) {
        json_array_append_new(shape, json_integer(p->M));
        json_array_append_new(shape, json_integer(p->N));
        json_array_append_new(shape, json_integer(p->K));
    }
    for (uint32_t i = 0; !is_product && i < c->buffers[first].rank; i++)
        json_array_append_new(shape, json_integer(c->buffers[first].shape[i]));
    json_object_set_new(row, "shape", shape);
    json_object_set_new(row, "label", json_string(c->label));
    json_object_set_new(row, "variant", json_string(variant_of(c, d, p)));
    json_object_set_new(row, "ms", json_real(time->ms));
    json_object_set_new(row, "spread", json_real(time->spread));
    json_object_set_new(row, "gflops", json_real(c->flops / time->ms * 1e-6));
    json_object_set_new(row, "gbs", json_real(c->bytes / time->ms * 1e-6));
    double limit_ms = fmax(c->flops / d->roof.gflops, c->bytes / d->roof.gbs) * 1e-6;
    json_object_set_new(row, "roofline", json_real(limit_ms / time->ms));
    bench_stamp(row);
    return row;
}

/* The row that the first pass left for this case on this device. */
static json_t *row_again(const op_case *c, const bench_device *d) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (!strcmp(json_string_value(json_object_get(row, "op")), c->op) &&
            !strcmp(json_string_value(json_object_get(row, "label")), c->label) &&
            !strcmp(json_string_value(json_object_get(row, "device")), d->name))
            return row;
    }
    return NULL;
}

/* After every row: a long run that is cut short leaves what it measured. */
static void save(void) {
    if (!json || json_dump_file(rows, json, JSON_INDENT(1)) == 0) return;
    fprintf(stderr, "cannot write %s\n", json);
    exit(1);
}

/* Own time and the peers', sample by sample in turn, so that a change of the machine's speed meets all of them. */
static void measure(const op_case *c, bench_device *d, const product *p) {
    bench_op own, others[MAX_PEERS];
    peer peers[MAX_PEERS];
    const double error = tuned_pass ? -1 : check(c, d);
    if (bench_op_create(d->device, c, &own) != XFT_OK) {
        printf("%-24s %-46s %-9s FAILED: %s\n", c->op, c->label, d->info->id, xft_error());
        failures++;
        return;
    }
    uint32_t wanted = peers_of(d, c, p, peers), n = 0;
    for (uint32_t k = 0; k < wanted; k++) {
        op_case again = *c;
        again.record = peers[k].record;
        again.form = peers[k].variant;
        if (bench_op_create(d->device, &again, &others[n]) == XFT_OK)
            peers[n++] = peers[k];
        else
            printf("    (no %s: %s)\n", peers[k].name, xft_error());
    }
    bool blas = (p->is_gemm || p->is_grouped) && !tuned_pass && !alone;
    double mine[BENCH_MOST_REPEATS], theirs[MAX_PEERS][BENCH_MOST_REPEATS];
    double ratio[MAX_PEERS + 1][BENCH_MOST_REPEATS], blas_best = 1e30;
    uint32_t repeats = bench_repeats(bench_op_sample(&own));
    if (blas) blas_sample(p); /* warm */
    for (uint32_t i = 0; i < repeats; i++) {
        mine[i] = bench_op_sample(&own);
        for (uint32_t k = 0; k < n; k++) {
            theirs[k][i] = bench_op_sample(&others[k]);
            ratio[k][i] = theirs[k][i] / mine[i];
        }
        if (!blas) continue;
        double ms = blas_sample(p);
        ratio[MAX_PEERS][i] = ms / mine[i];
        blas_best = fmin(blas_best, ms);
    }
    bench_time time = bench_summary(mine, repeats); /* sorted: a failed sample comes first */
    if (mine[0] < 0) {
        printf("%-24s %-46s %-9s FAILED: %s\n", c->op, c->label, d->info->id, xft_error());
        failures++;
    }
    json_t *row = tuned_pass ? row_again(c, d) : NULL;
    if (!row) {
        row = row_of(c, d, p, &time);
        json_object_set_new(row, "check", error < 0 ? json_null() : json_real(error));
        json_object_set_new(row, "peers", json_object());
        json_object_set_new(row, "ratios", json_object());
        json_array_append_new(rows, row);
    }
    json_t *gflops = json_object_get(row, "peers"), *ratios = json_object_get(row, "ratios");
    printf("%-24s %-46s %-9s %9.3f ms +-%4.1f%% %8.1f GFLOP/s %6.1f GB/s %5.1f%% of roofline", c->op, c->label,
           d->info->id, time.ms, 100 * time.spread / time.ms, c->flops / time.ms * 1e-6, c->bytes / time.ms * 1e-6,
           100 * json_real_value(json_object_get(row, "roofline")));
    if (error >= 0) printf("  error %.1e", error);
    if (blas) {
        double speed = bench_summary(ratio[MAX_PEERS], repeats).ms;
        json_object_set_new(gflops, "openblas", json_real(c->flops / blas_best * 1e-6));
        json_object_set_new(ratios, "openblas", json_real(speed));
        printf("  x%.2f openblas", speed);
    }
    for (uint32_t k = 0; k < n; k++) {
        double speed = bench_summary(ratio[k], repeats).ms;
        json_object_set_new(gflops, peers[k].name, json_real(c->flops / bench_summary(theirs[k], repeats).ms * 1e-6));
        json_object_set_new(ratios, peers[k].name, json_real(speed));
        printf("  x%.2f %s", speed, peers[k].name);
        bench_op_destroy(&others[k]);
    }
    printf("\n");
    fflush(stdout);
    save();
    bench_op_destroy(&own);
}

static void visit(const op_case *given, void *user) {
    (void)user;
    if (case_text && !strstr(given->label, case_text)) return;
    op_case c = *given;
    product p = product_of(&c);
    double *expected = p.a && !tuned_pass ? product_expected(&c, &p) : NULL;
    if (expected) c.buffers[p.output].expected = expected;
    bool clblast_case = p.is_gemm && c.buffers[0].dtype == XFT_F32;
    for (uint32_t i = 0; i < device_count; i++)
        if (!tuned_pass || (clblast_case && devices[i].info->api == XFT_API_OPENCL)) measure(&c, &devices[i], &p);
    free(expected);
    product_free(&p);
}

/* ---- Devices ---- */

static void open_devices(const char *wanted) {
    xft_device_info *list;
    uint32_t count;
    if (xft_devices(&list, &count) != XFT_OK) {
        fprintf(stderr, "%s\n", xft_error());
        exit(1);
    }
    for (uint32_t i = 0; i < count && device_count < MAX_DEVICES; i++) {
        bench_device *d = &devices[device_count];
        if (wanted ? strcmp(list[i].id, wanted) != 0 && !strstr(list[i].name, wanted) : !list[i].usable) continue;
        if (xft_device_open(list[i].id, NULL, &d->device) != XFT_OK) {
            fprintf(stderr, "%s\n", xft_error());
            continue;
        }
        d->info = xft_device_get_info(d->device);
        bench_device_name(d->info, d->name, sizeof d->name);
        if (bench_measure_roof(d->device, &d->own) != XFT_OK) fprintf(stderr, "%s: %s\n", d->info->id, xft_error());
        device_count++;
    }
    xft_devices_free(list);
    /* The same silicon through another API: CPU devices all run on the host's cores. */
    for (uint32_t i = 0; i < device_count; i++) {
        devices[i].roof = devices[i].own;
        for (uint32_t j = 0; j < device_count; j++) {
            bool cpus =
                devices[i].info->device_class == XFT_CLASS_CPU && devices[j].info->device_class == XFT_CLASS_CPU;
            if (!cpus && strcmp(devices[i].info->id, devices[j].info->same_as) != 0) continue;
            devices[i].roof.gflops = fmax(devices[i].roof.gflops, devices[j].own.gflops);
            devices[i].roof.gbs = fmax(devices[i].roof.gbs, devices[j].own.gbs);
        }
    }
}

static bool tune_clblast(void) {
    bool any = false;
    for (uint32_t i = 0; i < device_count; i++) {
        if (devices[i].info->api != XFT_API_OPENCL || devices[i].info->device_class != XFT_CLASS_CPU) continue;
        if (bench_tune_clblast(devices[i].device) == XFT_OK)
            any = true;
        else
            printf("CLBlast cannot be tuned on %s: %s\n", devices[i].info->id, xft_error());
    }
    return any;
}

static bool known_op(const char *name) {
    for (const char *const *op = op_functions; *op; op++)
        if (!strcmp(*op, name)) return true;
    fprintf(stderr, "there is no op \"%s\"; there are:", name);
    for (const char *const *op = op_functions; *op; op++) fprintf(stderr, " %s", *op);
    fprintf(stderr, "\n");
    return false;
}

static bool has_row(const char *op) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (!strcmp(json_string_value(json_object_get(row, "op")), op)) return true;
    return false;
}

/* Every op that was asked for must have been measured. */
static void report_missing(const char *only) {
    for (const char *const *op = op_functions; *op && !case_text; op++) {
        if ((only && strcmp(only, *op)) || has_row(*op)) continue;
        fprintf(stderr, "%s: no row\n", *op);
        failures++;
    }
    if (!case_text || json_array_size(rows) > 0) return;
    fprintf(stderr, "no case%s%s has \"%s\" in its label\n", only ? " of " : "", only ? only : "", case_text);
    failures++;
}

static void visit_all(const char *op) {
    for (uint32_t i = 0; i < case_family_count; i++) case_families[i](CASES_BENCH, op, visit, NULL);
}

int main(int argc, char **argv) {
    const char *op = NULL, *device = NULL;
    static const struct option options[] = {
        {"op", required_argument, NULL, 'o'},     {"json", required_argument, NULL, 'j'},
        {"device", required_argument, NULL, 'd'}, {"case", required_argument, NULL, 'c'},
        {"alone", no_argument, NULL, 'a'},        {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'o')
            op = optarg;
        else if (o == 'c')
            case_text = optarg;
        else if (o == 'a')
            alone = true;
        else if (o == 'j')
            json = optarg;
        else if (o == 'd')
            device = optarg;
        else
            return 2;
    }
    if (optind < argc) {
        fprintf(stderr, "unexpected argument \"%s\"\n", argv[optind]);
        return 2;
    }
    if (op && !known_op(op)) return 2;
    const char *core = bench_blas_core();
    if (!core) return 1;
    rows = json_array();
    open_devices(device);
    if (device_count == 0) {
        fprintf(stderr, "no device%s%s to measure\n", device ? " called " : "", device ? device : "");
        return 1;
    }
    printf("host: OpenBLAS %s %.1f GFLOP/s at 1024^3, memcpy %.1f GB/s\n", core, bench_blas_gflops(),
           bench_memcpy_gbs());
    for (uint32_t i = 0; i < device_count; i++)
        printf("%s: %s: multiply-adds %.1f GFLOP/s, copy %.1f GB/s; roofline %.1f GFLOP/s, %.1f GB/s\n",
               devices[i].info->id, devices[i].name, devices[i].own.gflops, devices[i].own.gbs, devices[i].roof.gflops,
               devices[i].roof.gbs);
    visit_all(op);
    if (!alone && (!op || !strcmp(op, "gemm")) && tune_clblast()) {
        printf("with CLBlast tuned:\n");
        tuned_pass = true;
        visit_all("gemm");
    }
    report_missing(op);
    save();
    json_decref(rows);
    for (uint32_t i = 0; i < device_count; i++) xft_device_close(devices[i].device);
    return failures ? 1 : 0;
}
