/* xft_bench_step: whole training steps, and decoding, of named models. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "xft/generate.h"
#include "xft/plan.h"
#include "xft/train.h"

/* ---- Models: shapes only, the weights are random ---- */

typedef struct named_model {
    const char *name;
    xft_config config;           /* dense */
    uint32_t num_experts, top_k; /* of its MoE */
    uint32_t sequences, length;  /* of a micro-batch */
} named_model;

#define LLAMA(H, I, L, heads, kv, D, V, theta, tied)                                                                   \
    {                                                                                                                  \
        .family = XFT_FAMILY_LLAMA, .hidden_size = H, .intermediate_size = I, .num_layers = L, .num_heads = heads,     \
        .num_kv_heads = kv, .head_size = D, .rotary = D, .vocab_size = V, .max_positions = 2048, .norm_eps = 1e-5f,    \
        .tied_head = tied, .rope_theta = theta, .initializer_range = 0.02f, .pad_token_id = UINT32_MAX,                \
        .bos_token_id = UINT32_MAX, .eos_token_id = UINT32_MAX, .dtype = XFT_F32                                       \
    }
static const named_model models[] = {
    {"tiny", LLAMA(64, 192, 2, 4, 2, 16, 512, 10000, true), 4, 2, 4, 64},
    {"p1", LLAMA(576, 1536, 4, 9, 3, 64, 49152, 100000, true), 8, 6, 2, 256},
    {"demo", LLAMA(256, 688, 4, 8, 8, 32, 1024, 10000, true), 4, 2, 8, 256},
    {"smollm2-135m", LLAMA(576, 1536, 30, 9, 3, 64, 49152, 100000, true), 8, 6, 2, 256},
    {"deepseek-coder-1.3b", LLAMA(2048, 5504, 24, 16, 16, 128, 32256, 100000, false), 8, 6, 1, 1024},
};
enum { MODELS = sizeof models / sizeof *models };

typedef enum stage { SFT, MOE, MERGE, DECODE, STAGES } stage;
static const char *const stage_names[] = {"sft", "moe", "merge", "decode"};

/* Weights of matrix products that a token passes through: attention, `experts` FFNs and the router, head. */
typedef struct work {
    double attention, ffn, head;
} work;

static work work_of(const xft_config *c, uint32_t experts, uint32_t routed) {
    double H = c->hidden_size, q = (double)c->num_heads * c->head_size, kv = (double)c->num_kv_heads * c->head_size;
    work w = {.attention = c->num_layers * (2 * H * q + 2 * H * kv),
              .ffn = c->num_layers * 3 * H * c->intermediate_size * experts,
              .head = H * c->vocab_size};
    if (routed) w.ffn += c->num_layers * (2 * H * routed + (double)routed * routed);
    return w;
}

/* Model FLOPs of one step: 6 per token and active weight (2 forward, 4 backward), for the merge 4 and the weight
 * gradients of the FFN; causal attention: 2 L^2 D per head forward, twice that backward. */
static double flops_of(const named_model *m, stage s) {
    const xft_config *c = &m->config;
    work w = work_of(c, s == MOE ? m->top_k : 1, s == MOE ? m->num_experts - 1 : 0);
    double tokens = (double)m->sequences * m->length, all = w.attention + w.ffn + w.head;
    double products = s == MERGE ? 4 * all + 2 * w.ffn : 6 * all;
    double attention = 6.0 * m->length * c->head_size * c->num_heads * c->num_layers;
    return tokens * (products + attention);
}

/* ---- Running ---- */

typedef struct result {
    double tokens, ms, spread, gflops;
    uint64_t planned, used;
    double resident; /* growth of the peak resident memory, bytes */
    double idle;     /* share of the time of steps in a row in which the device has nothing to do; negative: unknown */
} result;

static double peak_resident(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024.0 * (double)usage.ru_maxrss;
}

static uint64_t buffer_bytes(const xft_device *device) {
    xft_device_counters counters;
    xft_device_get_counters(device, &counters);
    return counters.buffer_bytes;
}

static xft_status make_model(xft_device *device, const named_model *m, stage s, xft_dtype dtype, xft_model **model) {
    xft_config config = m->config;
    if (s == MOE || s == MERGE) {
        config.num_experts = m->num_experts;
        config.top_k = m->top_k;
        config.gate = XFT_GATE_XFT;
        config.gate_mlp = config.gate_noise = true;
        config.noise_epsilon = config.balance_weight = 0.01f;
        config.noise_scale = 1;
        config.shared_expert_weight = 0.75f;
    }
    xft_model_options options = {.dtype = dtype, .mixing = s == MERGE};
    XFT_TRY(xft_model_create(device, &config, &options, model));
    return xft_model_init(*model, 1);
}

/* Times of ops by name, in the order of their first use. */
enum { MOST_OPS = 64 };
typedef struct profile {
    const char *names[MOST_OPS];
    double ms[MOST_OPS], all;
    uint32_t count;
} profile;
static bool print_profile;
static uint32_t asked_repeats; /* 0: as many as are a fair share of time */

static void add_op(void *user, const char *op, double ms) {
    profile *p = user;
    uint32_t i = 0;
    while (i < p->count && strcmp(p->names[i], op)) i++;
    if (i == MOST_OPS) return;
    if (i == p->count) p->names[p->count++] = op;
    p->ms[i] += ms;
    p->all += ms;
}

/* Steps queued one behind the other, as training does it, against the device's own time of a step. */
static xft_status measure_idle(xft_trainer *trainer, const xft_batch *batch, double *idle) {
    const uint32_t steps = asked_repeats ? asked_repeats : 4;
    xft_metrics metrics;
    profile p = {0};
    double start = bench_now_ms();
    for (uint32_t i = 0; i < steps; i++) {
        XFT_TRY(xft_trainer_step(trainer, batch, 1, 1e-4));
        XFT_TRY(xft_trainer_metrics(trainer, &metrics));
    }
    XFT_TRY(xft_trainer_flush(trainer, &metrics));
    double wall = (bench_now_ms() - start) / steps;
    if (xft_trainer_profile(trainer, add_op, &p) != XFT_OK || p.all <= 0) return XFT_OK;
    *idle = p.all < wall ? 1 - p.all / wall : 0;
    for (uint32_t i = 0; i < p.count && print_profile; i++)
        if (p.ms[i] > 0.01 * p.all) printf("    %-26s %9.2f ms %5.1f%%\n", p.names[i], p.ms[i], 100 * p.ms[i] / p.all);
    return XFT_OK;
}

static xft_train_options options_of(const named_model *m, stage s, xft_dtype dtype) {
    return (xft_train_options){.tokens = m->sequences * m->length,
                               .sequences = m->sequences,
                               .merge = s == MERGE,
                               .optimizer = XFT_ADAFACTOR,
                               .precision = dtype == XFT_BF16 ? XFT_PRECISION_STOCHASTIC : XFT_PRECISION_F32,
                               .seed = 1};
}

static xft_status train(xft_device *device, const named_model *m, stage s, xft_dtype dtype, result *r) {
    xft_train_options options = options_of(m, s, dtype);
    const uint32_t tokens = options.tokens;
    options.timers = xft_device_get_info(device)->timestamps;
    uint64_t before = buffer_bytes(device);
    double resident = peak_resident();
    xft_model *model = NULL;
    xft_trainer *trainer = NULL;
    xft_status status = make_model(device, m, s, dtype, &model);
    xft_plan plan = {0};
    if (status == XFT_OK) status = xft_plan_training(xft_model_get_config(model), dtype, &options, device, &plan);
    if (status == XFT_OK) status = xft_trainer_create(model, &options, &trainer);
    uint32_t *ids = calloc(2 * (size_t)tokens + m->sequences + 1, sizeof *ids);
    if (!ids) exit(1);
    uint32_t *labels = ids + tokens, *cu = labels + tokens;
    case_random random = case_seed(m->name);
    for (uint32_t i = 0; i < tokens; i++) ids[i] = case_below(&random, m->config.vocab_size);
    for (uint32_t i = 0; i < tokens; i++) labels[i] = (i + 1) % m->length ? ids[i + 1] : UINT32_MAX;
    for (uint32_t i = 0; i <= m->sequences; i++) cu[i] = i * m->length;
    xft_batch batch = {.tokens = tokens, .sequences = m->sequences, .ids = ids, .labels = labels, .cu_seqlens = cu};
    double samples[BENCH_MOST_REPEATS];
    uint32_t repeats = 0, wanted = BENCH_MOST_REPEATS;
    xft_metrics metrics;
    for (uint32_t i = 0; i <= wanted && status == XFT_OK; i++) { /* the first one compiles */
        double start = bench_now_ms();
        status = xft_trainer_step(trainer, &batch, 1, 1e-4);
        if (status == XFT_OK) status = xft_trainer_flush(trainer, &metrics);
        double spent = bench_now_ms() - start;
        if (i == 0) continue;
        samples[repeats++] = spent;
        wanted = asked_repeats ? asked_repeats : bench_repeats(spent / 10);
    }
    if (status == XFT_OK && !isfinite(metrics.loss)) status = XFT_ERROR_DRIVER;
    double idle = -1;
    if (status == XFT_OK && options.timers) status = measure_idle(trainer, &batch, &idle);
    if (status == XFT_OK) {
        bench_time time = bench_summary(samples, repeats);
        *r = (result){.tokens = tokens,
                      .ms = time.ms,
                      .spread = time.spread,
                      .gflops = flops_of(m, s) / time.ms * 1e-6,
                      .planned = plan.total,
                      .used = buffer_bytes(device) - before,
                      .resident = peak_resident() - resident,
                      .idle = idle};
    }
    free(ids);
    xft_trainer_destroy(trainer);
    xft_model_destroy(model);
    return status;
}

/* Greedy decoding of one prompt. *gbs: bytes of weights that a token reads, times tokens per second. */
static xft_status decode(xft_device *device, const named_model *m, xft_dtype dtype, result *r, double *gbs) {
    enum { PROMPT = 16, NEW = 48 };
    uint64_t before = buffer_bytes(device);
    double resident = peak_resident();
    xft_model *model = NULL;
    xft_generator *generator = NULL;
    xft_generator_options options = {.batch = 1, .capacity = PROMPT + NEW};
    xft_status status = make_model(device, m, DECODE, dtype, &model);
    xft_plan plan = {0};
    if (status == XFT_OK) status = xft_plan_generation(xft_model_get_config(model), dtype, &options, device, &plan);
    if (status == XFT_OK) status = xft_generator_create(model, &options, &generator);
    uint32_t prompt[PROMPT], ids[NEW], count;
    for (uint32_t i = 0; i < PROMPT; i++) prompt[i] = 7 * i % m->config.vocab_size;
    const uint32_t *prompts[] = {prompt}, length = PROMPT;
    double samples[BENCH_MOST_REPEATS], times[2] = {0, 0};
    uint32_t repeats = 0, wanted = 5;
    /* The prompt's time is taken out: the difference of a long and a short run. */
    for (uint32_t i = 0; i <= wanted && status == XFT_OK; i++) {
        for (int k = 0; k < 2 && status == XFT_OK; k++) {
            xft_sampling sampling = {.new_tokens = k ? NEW : 1};
            double start = bench_now_ms();
            status = xft_generate(generator, prompts, &length, 1, &sampling, ids, &count, NULL, NULL);
            times[k] = bench_now_ms() - start;
        }
        if (i > 0) samples[repeats++] = (times[1] - times[0]) / (NEW - 1);
    }
    if (status == XFT_OK) {
        bench_time time = bench_summary(samples, repeats);
        work w = work_of(&m->config, 1, 0);
        double weights = w.attention + w.ffn + w.head;
        *gbs = weights * xft_dtype_size(dtype) / time.ms * 1e-6;
        *r = (result){.tokens = 1,
                      .ms = time.ms,
                      .spread = time.spread,
                      .gflops = 2 * weights / time.ms * 1e-6,
                      .planned = plan.total,
                      .used = buffer_bytes(device) - before,
                      .resident = peak_resident() - resident};
    }
    xft_generator_destroy(generator);
    xft_model_destroy(model);
    return status;
}

/* ---- The report ---- */

static xft_status record_gemm(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_gemm(stream, XFT_NT, t[0], t[1], t[2], false);
}

/* GFLOP/s of the device's own 1024^3 f32 product. */
static double device_gemm(xft_device *device) {
    enum { N = 1024 };
    op_case c;
    case_begin(&c, "gemm", "1024^3");
    case_random r = case_seed("gemm");
    for (int i = 0; i < 3; i++) case_add(&c, &r, "abc", CASE_IN, XFT_F32, 1, 2, N, N);
    c.record = record_gemm;
    bench_op op;
    double best = 0;
    if (bench_op_create(device, &c, &op) == XFT_OK) {
        for (int i = 0; i < 5; i++) {
            double gflops = 2e-6 * N * N * N / bench_op_sample(&op);
            if (gflops > best) best = gflops;
        }
        bench_op_destroy(&op);
    }
    case_free(&c);
    return best;
}

static int failures;
static const char *json; /* file of the rows, or NULL */
static json_t *rows;

/* After every row: a long run that is cut short leaves what it measured. */
static void save(void) {
    if (!json || json_dump_file(rows, json, JSON_INDENT(1)) == 0) return;
    fprintf(stderr, "cannot write %s\n", json);
    exit(1);
}

static void run(xft_device *device, const named_model *m, stage s, xft_dtype dtype, const bench_roof *roof) {
    const xft_device_info *info = xft_device_get_info(device);
    char name[400];
    bench_device_name(info, name, sizeof name);
    uint64_t available = 0;
    xft_plan plan = {0};
    xft_device_memory(device, NULL, &available, NULL);
    if (s == DECODE)
        xft_plan_generation(&m->config, dtype, &(xft_generator_options){.batch = 1, .capacity = 64}, device, &plan);
    else {
        xft_config config = m->config;
        if (s != SFT) {
            config.num_experts = m->num_experts;
            config.top_k = m->top_k;
            config.gate_mlp = config.gate_noise = true;
        }
        const xft_train_options options = options_of(m, s, dtype);
        xft_plan_training(&config, dtype, &options, device, &plan);
    }
    if (plan.total > available) {
        printf("%-20s %-7s %-9s does not fit: %.1f GiB planned, %.1f GiB available\n", m->name, stage_names[s],
               info->id, (double)plan.total / 0x1p30, (double)available / 0x1p30);
        return;
    }
    result r = {0};
    double gbs = 0;
    xft_status status = s == DECODE ? decode(device, m, dtype, &r, &gbs) : train(device, m, s, dtype, &r);
    if (status != XFT_OK) {
        printf("%-20s %-7s %-9s FAILED: %s\n", m->name, stage_names[s], info->id, xft_error());
        failures++;
        return;
    }
    double blas = bench_blas_gflops(), gemm = device_gemm(device);
    printf("%-20s %-7s %-9s %-4s %9.1f ms +-%4.1f%% %8.1f tokens/s %7.1f GFLOP/s", m->name, stage_names[s], info->id,
           xft_dtype_name(dtype), r.ms, 100 * r.spread / r.ms, 1e3 * r.tokens / r.ms, r.gflops);
    if (s == DECODE)
        printf("  %5.1f GB/s of weights, %.2f of copy", gbs, gbs / roof->gbs);
    else
        printf("  x%.2f of OpenBLAS, x%.2f of own 1024^3, %.0f%% of roofline", r.gflops / blas, r.gflops / gemm,
               100 * r.gflops / roof->gflops);
    printf("; planned %.1f MiB, used %.1f, resident +%.1f", (double)r.planned / 0x1p20, (double)r.used / 0x1p20,
           r.resident / 0x1p20);
    if (s != DECODE && r.idle >= 0) printf("; idle %.1f%%", 100 * r.idle);
    putchar('\n');
    fflush(stdout);
    json_t *row =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:f,s:f,s:f,s:f,s:f,s:I,s:I}", "model", m->name, "stage",
                  stage_names[s], "api", info->api == XFT_API_VULKAN ? "vulkan" : "opencl", "device", name, "driver",
                  info->driver, "dtype", xft_dtype_name(dtype), "tokens", (json_int_t)r.tokens, "tokens_per_s",
                  1e3 * r.tokens / r.ms, "spread", r.spread / r.ms, "model_gflops", r.gflops, "openblas_gflops", blas,
                  "device_gemm_gflops", gemm, "bytes_planned", (json_int_t)r.planned, "bytes_used", (json_int_t)r.used);
    bench_stamp(row);
    json_array_append_new(rows, row);
    save();
}

static int find_name(const char *name, const char *what, uint32_t count, const char *(*nth)(uint32_t)) {
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(nth(i), name)) return (int)i;
    fprintf(stderr, "there is no %s \"%s\"; there are:", what, name);
    for (uint32_t i = 0; i < count; i++) fprintf(stderr, " %s", nth(i));
    fprintf(stderr, "\n");
    return -1;
}
static const char *nth_model(uint32_t i) {
    return models[i].name;
}
static const char *nth_stage(uint32_t i) {
    return stage_names[i];
}
static const char *nth_dtype(uint32_t i) {
    return i ? "bf16" : "f32";
}

int main(int argc, char **argv) {
    const char *wanted = NULL;
    int model = -1, only = -1, dtype = 0;
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},   {"stage", required_argument, NULL, 's'},
        {"device", required_argument, NULL, 'd'},  {"dtype", required_argument, NULL, 't'},
        {"json", required_argument, NULL, 'j'},    {"profile", no_argument, NULL, 'p'},
        {"repeats", required_argument, NULL, 'r'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'j')
            json = optarg;
        else if (o == 'p')
            print_profile = true;
        else if (o == 'd')
            wanted = optarg;
        else if (o == 'r')
            asked_repeats = (uint32_t)strtoul(optarg, NULL, 10);
        else if (o == 'm' && (model = find_name(optarg, "model", MODELS, nth_model)) < 0)
            return 2;
        else if (o == 's' && (only = find_name(optarg, "stage", STAGES, nth_stage)) < 0)
            return 2;
        else if (o == 't' && (dtype = find_name(optarg, "dtype", 2, nth_dtype)) < 0)
            return 2;
        else if (o == '?')
            return 2;
    }
    if (asked_repeats > BENCH_MOST_REPEATS)
        return fprintf(stderr, "--repeats is %u; at most %d\n", asked_repeats, BENCH_MOST_REPEATS), 2;
    const char *core = bench_blas_core();
    if (!core) return 1;
    xft_device_info *list;
    uint32_t count, used = 0;
    if (xft_devices(&list, &count) != XFT_OK) return fprintf(stderr, "%s\n", xft_error()), 1;
    printf("host: OpenBLAS %s %.1f GFLOP/s at 1024^3\n", core, bench_blas_gflops());
    rows = json_array();
    for (uint32_t i = 0; i < count; i++) {
        xft_device *device;
        if (wanted ? strcmp(list[i].id, wanted) != 0 && !strstr(list[i].name, wanted) : !list[i].usable) continue;
        if (xft_device_open(list[i].id, NULL, &device) != XFT_OK) {
            fprintf(stderr, "%s\n", xft_error());
            continue;
        }
        used++;
        bench_roof roof;
        if (bench_measure_roof(device, &roof) != XFT_OK) fprintf(stderr, "%s: %s\n", list[i].id, xft_error());
        printf("%s: multiply-adds %.1f GFLOP/s, copy %.1f GB/s, 1024^3 product %.1f GFLOP/s\n", list[i].id, roof.gflops,
               roof.gbs, device_gemm(device));
        /* Without --model: tiny and p1. The others are asked for by name. */
        for (int k = 0; k < MODELS; k++)
            for (int s = 0; s < STAGES; s++)
                if ((model < 0 ? k < 2 : k == model) && (only < 0 || s == only))
                    run(device, &models[k], (stage)s, dtype ? XFT_BF16 : XFT_F32, &roof);
        xft_device_close(device);
    }
    xft_devices_free(list);
    if (!used) return fprintf(stderr, "no device%s%s to measure\n", wanted ? " called " : "", wanted ? wanted : ""), 1;
    save();
    json_decref(rows);
    return failures ? 1 : 0;
}
