/* Choice of form and tile for products: rules by device and size, unless an earlier run has chosen or the tuner has
 * measured better (choice.h). */
#include "gemm_choice.h"

#include "choice.h"

#include <stdio.h>
#include <string.h>

static _Thread_local const char *forced;

void xft_gemm_force(const char *choice) {
    forced = choice;
}

/* What the tuner tries where the device has it. */
static const char *const candidates[] = {"cpu",
                                         "subgroup 4x16",
                                         "subgroup 8x16",
                                         "subgroup 8x32",
                                         "coopmat",
                                         "plain 32x32 4x4",
                                         "plain 64x32 8x4",
                                         "plain 64x64 8x8",
                                         "plain 128x128 8x8"};

const char *xft_gemm_candidate(uint32_t i) {
    return i < sizeof candidates / sizeof *candidates ? candidates[i] : NULL;
}

/* A tile is forced, and one that there is. */
static bool has_forced_tile(void) {
    for (uint32_t i = 0; forced && xft_gemm_candidate(i); i++)
        if (!strcmp(forced, candidates[i])) return true;
    return false;
}

const xft_gemm_size xft_gemm_sizes[XFT_GEMM_SIZES] = {
    {"small", 1ull << 22, 128}, {"medium", 1ull << 27, 384}, {"large", 1ull << 31, 1024}, {"huge", UINT64_MAX, 2048}};

/* Plain form: constants BM BN BK TM TN. */
static xft_gemm_choice plain(uint32_t bm, uint32_t bn, uint32_t tm, uint32_t tn) {
    return (xft_gemm_choice){
        .variant = "", .wg = bm / tm * (bn / tn), .tile = {bm, bn, 16, tm, tn}, .rows = bm, .columns = bn};
}

/* Outputs that the registers of one invocation hold: Intel's Xe-HPC runs 32 invocations on one register file, its other
 * GPUs 8. More would spill (tests/portability.sh). */
static uint32_t most_outputs(const xft_device_info *info) {
    if (!strstr(info->name, "Intel")) return 8 * 8;
    return strstr(info->name, "Max") ? 4 * 4 : 8 * 4;
}

static xft_gemm_choice plain_tile(const xft_device_info *info, const xft_gemm_problem *p) {
    const uint32_t most = info->device_class == XFT_CLASS_CPU ? 8 * 8 : most_outputs(info);
    uint32_t t[4];
    if (has_forced_tile() && sscanf(forced, "plain %ux%u %ux%u", &t[0], &t[1], &t[2], &t[3]) == 4 &&
        t[2] * t[3] <= most)
        return plain(t[0], t[1], t[2], t[3]);
    uint64_t outputs = (uint64_t)p->M * p->N;
    if (p->experts > 0 && p->form == XFT_TN) outputs *= p->experts;
    const bool narrow = p->N <= 32 || (p->M <= 32 && p->form != XFT_TN);
    if (info->device_class == XFT_CLASS_CPU || outputs < 256 * 256 || narrow || most == 4 * 4)
        return plain(32, 32, 4, 4);
    if (most == 8 * 4) return plain(64, 32, 8, 4);
    return outputs < 2048 * 2048 || p->experts > 0 ? plain(64, 64, 8, 8) : plain(128, 128, 8, 8);
}

/* Xe-HPC spills the grouped tile with 32 lanes on a register file, and not with 16. */
static xft_gemm_choice plain_for(const xft_device_info *info, const xft_gemm_problem *p) {
    xft_gemm_choice choice = plain_tile(info, p);
    choice.tile[5] = strstr(info->name, "Intel") && strstr(info->name, "Max") ? 16 : 0;
    return choice;
}

/* The form may be `variant`: it is forced, or nothing is. */
static bool is(const char *variant) {
    return !forced || (!strncmp(forced, variant, strlen(variant)) && strchr(" ", forced[strlen(variant)]));
}

/* CPU form of OpenCL: constants VW MR BM KC PC. */
static bool has_cpu(const xft_device *device) {
    if (forced && is("cpu")) return device->info.api == XFT_API_OPENCL && device->info.device_class == XFT_CLASS_CPU;
    return xft_lanes_for(device) > 0;
}

static uint32_t blocks(uint32_t items, uint32_t size) {
    return items / size + (items % size != 0);
}

static uint32_t round_up(uint32_t x, uint32_t to) {
    return blocks(x, to) * to;
}

/* Rows and panels of columns of a work-group's block in NT and NN, where `rows` is the most: what leaves the busiest
 * core the least to do, and several work-groups to each. Costs per step of k, in passes of one row over one panel:
 * packing a panel of b 16 (behind the arithmetic of the panel before, where there is one), converting a row of a 16-bit
 * a 0.3. */
static void share_out(const xft_gemm_problem *p, uint32_t panels, uint32_t cores, uint32_t mr, uint32_t *rows,
                      uint32_t *columns) {
    const uint32_t fewest = blocks(p->M, *rows), most_rows = *rows;
    const double conversion = p->a == XFT_F32 ? 0 : 0.3;
    double best = 0;
    if (p->experts == 0) *rows = round_up(blocks(p->M, fewest), mr);
    *columns = 1;
    for (uint32_t cuts = fewest; cuts <= (p->experts ? fewest : fewest + 3); cuts++)
        for (uint32_t n = 4; n > 0; n--) {
            const uint32_t r = p->experts ? most_rows : round_up(blocks(p->M, cuts), mr);
            const uint32_t groups = blocks(p->M, r) * blocks(panels, n);
            if (groups < 4 * cores) continue;
            const double cost = blocks(groups, cores) * (r * n + 16.0 * n + conversion * r);
            if (best > 0 && cost >= best) continue;
            best = cost;
            *rows = r;
            *columns = n;
        }
}

/* Depth of a slab: as the first-level cache holds a panel of b; a multiple of the vectors that slabs are made of. It
 * decides the order of the sums. */
static uint32_t cpu_depth(const xft_device_info *info, bool tn, uint32_t vw) {
    uint32_t kc = tn ? 512 : 640, given;
    if (forced && sscanf(forced, "cpu %u", &given) == 1 && given > 0 && given <= kc && given % vw == 0) return given;
    while (kc > vw && 4ull * vw * kc * sizeof(float) > info->local_memory_bytes / 2) kc = kc / 2 / vw * vw;
    return kc;
}

/* Local memory of a work-group: opencl/gemm_cpu.clh, CPU_TILE. */
static uint64_t cpu_bytes(uint32_t kc, uint32_t nr, uint32_t bm, uint32_t pc, uint32_t packed_rows) {
    return 4ull * (2 * kc * nr + bm * pc + (packed_rows ? kc * packed_rows : 1));
}

/* Rows as many as pay for packing a panel of b, with a's copy within the second-level cache. */
static xft_gemm_choice cpu(const xft_device *device, const xft_gemm_problem *p) {
    const xft_device_info *info = &device->info;
    const bool wide = xft_lanes_for(device) == 16, tn = p->form == XFT_TN, converts = !tn && p->a != XFT_F32;
    const uint32_t vw = wide ? 16 : 8, mr = wide ? 12 : 6, nr = 2 * vw, panels = blocks(p->N, nr);
    const uint32_t cores = info->compute_units ? info->compute_units : 1, kc = cpu_depth(info, tn, vw);
    const bool packs = tn || converts;
    uint32_t pc = p->c == XFT_F32 ? nr : tn ? 16 * nr : 4 * nr;
    uint32_t bm = !tn ? 516 : p->M >= 1024 || p->experts > 0 ? 192 : 96;
    while (bm > mr && cpu_bytes(kc, nr, bm, pc, packs ? bm + mr : 0) > info->local_memory_bytes)
        bm = round_up(bm / 2, mr);
    while (tn && pc > nr && cpu_bytes(kc, nr, bm, pc, bm + mr) > info->local_memory_bytes) pc /= 2;

    /* Row blocks of equal size, and enough work-groups for every core. */
    const uint32_t matrices = tn && p->experts > 0 ? p->experts : 1;
    uint32_t rows = bm, columns = nr;
    if (tn) columns = nr * (p->c == XFT_F32 ? panels : blocks(panels, blocks(panels * nr, pc)));
    if (tn) {
        /* One expert may have nearly all the work: its row blocks shall share it out evenly. */
        const uint32_t even = p->experts > 0 && cores <= 8 ? cores : 1;
        rows = round_up(blocks(p->M, round_up(blocks(p->M, bm), even)), mr);
    } else {
        share_out(p, panels, cores, mr, &rows, &columns);
        columns *= nr;
    }
    while (columns > nr && matrices * blocks(p->M, rows) * blocks(p->N, columns) < 4 * cores)
        columns = round_up(columns / 2, nr);
    while (rows > mr && matrices * blocks(p->M, rows) * blocks(p->N, columns) < 4 * cores)
        rows = round_up(rows / 2, mr);
    return (xft_gemm_choice){
        .variant = "cpu", .wg = 1, .tile = {vw, mr, bm, kc, pc}, .rows = rows, .columns = columns, .rows_first = true};
}

/* Subgroup form of Vulkan on a CPU: constants RM BN. Large blocks load less and compile longer (Mesa 22.3: 0.6 s for
 * 4 x 16 per lane, 3 s for 8 x 32), so they are for products that are worth it. */
static bool has_subgroup(const xft_device_info *info) {
    if (info->api != XFT_API_VULKAN || info->subgroup_size < 4 || info->subgroup_size > 16) return false;
    return info->device_class == XFT_CLASS_CPU || (forced && is("subgroup"));
}

static xft_gemm_choice subgroup(const xft_device_info *info, const xft_gemm_problem *p) {
    const double work = (double)p->M * p->N * p->K;
    uint32_t lanes = info->subgroup_size, rm = work < 2e6 ? 4 : 8, bn = work < 6e7 ? 16 : 32;
    if (has_forced_tile()) sscanf(forced, "subgroup %ux%u", &rm, &bn);
    return (xft_gemm_choice){.variant = "subgroup",
                             .wg = lanes,
                             .tile = {rm, bn},
                             .rows = lanes * rm,
                             .columns = bn,
                             .rows_first = p->experts > 0 && p->form == XFT_TN};
}

/* Few rows against the rows of a large matrix, as in decoding: constants ROWS, OpenCL also VW. b is read once (grouped:
 * once per row, which pays while few rows share an expert); ROWS is a power of two, so that few kernels are compiled.
 */
static bool has_gemv(const xft_gemm_problem *p) {
    return p->form == XFT_NT && p->M <= (p->experts > 0 ? 16 : 4);
}

static xft_gemm_choice gemv(const xft_device *device, const xft_gemm_problem *p) {
    const xft_device_info *info = &device->info;
    const uint32_t rows = p->experts > 0 ? 1 : p->M > 2 ? 4 : p->M, lanes = xft_lanes_for(device);
    const bool one_item = lanes > 0, is_cpu = info->device_class == XFT_CLASS_CPU;
    const uint32_t vw = one_item ? lanes : 4;
    const uint32_t groups = is_cpu ? 8 * (info->compute_units ? info->compute_units : 4) : 16384;
    const uint32_t wg = one_item ? 1 : is_cpu ? 16 : 64;
    /* llvmpipe silently ends a kernel after 65535 turns of its loops: count those of a quad of columns */
    const uint32_t turns = p->K / (vw * wg) + 6 * rows + 4, most = one_item ? p->N : 4 * (40000 / turns + 1);
    const uint32_t columns = round_up(blocks(p->N, groups), 4);
    return (xft_gemm_choice){.variant = "gemv",
                             .wg = wg,
                             .tile = {rows, vw},
                             .rows = p->experts > 0 ? 1 : p->M,
                             .columns = columns < most ? columns : most};
}

/* Matrix units, for f16 factors; left out by builds whose compiler does not know them. */
static bool has_coopmat(const xft_device_info *info, const xft_gemm_problem *p) {
    if (!info->cooperative_matrix || p->experts > 0 || p->a != XFT_F16 || p->b != XFT_F16) return false;
    const xft_kernel_source *source = xft_kernel_find(XFT_OP_gemm, "coopmat", info->api);
    return source && source->size > 0 && info->subgroup_size > 0 && 4 * info->subgroup_size <= info->max_workgroup_size;
}

static xft_gemm_choice coopmat(const xft_device_info *info) {
    return (xft_gemm_choice){.variant = "coopmat", .wg = 4 * info->subgroup_size, .rows = 64, .columns = 64};
}

static xft_gemm_choice yardstick(void) {
    return (xft_gemm_choice){.variant = "yardstick", .wg = 64, .rows = 64, .columns = 64};
}

/* CLBlast: the whole product in one dispatch; only when it is forced. */
static bool has_clblast(const xft_device_info *info, const xft_gemm_problem *p) {
    return info->api == XFT_API_OPENCL && p->experts == 0 && p->a == XFT_F32 && p->b == XFT_F32 && p->c == XFT_F32;
}

/* "gemm nt f32 f32 f32 " and what follows. */
static void name_key(const xft_gemm_problem *p, const char *size, char key[XFT_GEMM_KEY]) {
    static const char *const forms[] = {"nt", "nn", "tn"};
    snprintf(key, XFT_GEMM_KEY, "%s %s %s %s %s %s", p->experts > 0 ? "grouped_gemm" : "gemm", forms[p->form],
             xft_dtype_name(p->a), xft_dtype_name(p->b), xft_dtype_name(p->c), size);
}

bool xft_gemm_class(const xft_gemm_problem *p, char key[XFT_GEMM_KEY]) {
    if (has_gemv(p) || p->N <= 32 || p->M <= 32) return false;
    const uint64_t work = (uint64_t)p->M * p->N * p->K;
    uint32_t size = 0;
    while (work >= xft_gemm_sizes[size].below && size + 1 < XFT_GEMM_SIZES) size++;
    name_key(p, xft_gemm_sizes[size].name, key);
    return true;
}

/* The key of this very problem. */
static void problem_key(const xft_gemm_problem *p, char key[XFT_GEMM_KEY]) {
    char size[48];
    const int n = snprintf(size, sizeof size, "%ux%ux%u", p->M, p->N, p->K);
    if (p->experts > 0) snprintf(size + n, sizeof size - (size_t)n, " of %u", p->experts);
    name_key(p, size, key);
}

void xft_gemm_describe(const xft_gemm_choice *choice, char text[XFT_GEMM_KEY]) {
    const uint32_t *t = choice->tile;
    if (!*choice->variant)
        snprintf(text, XFT_GEMM_KEY, "plain %ux%u %ux%u", t[0], t[1], t[3], t[4]);
    else if (!strcmp(choice->variant, "subgroup"))
        snprintf(text, XFT_GEMM_KEY, "subgroup %ux%u", t[0], t[1]);
    else if (!strcmp(choice->variant, "cpu"))
        snprintf(text, XFT_GEMM_KEY, "cpu %u", t[3]);
    else
        snprintf(text, XFT_GEMM_KEY, "%s", choice->variant);
}

static xft_gemm_choice choose(const xft_device *device, const xft_gemm_problem *problem) {
    const xft_device_info *info = &device->info;
    if (forced && is("clblast") && has_clblast(info, problem))
        return (xft_gemm_choice){.variant = "clblast", .wg = 1, .rows = problem->M, .columns = problem->N};
    if (forced && is("yardstick") && problem->experts == 0 && most_outputs(info) > 4 * 4) return yardstick();
    if (is("gemv") && has_gemv(problem)) return gemv(device, problem);
    if (is("coopmat") && has_coopmat(info, problem)) return coopmat(info);
    if (is("cpu") && has_cpu(device)) return cpu(device, problem);
    if (is("subgroup") && has_subgroup(info)) return subgroup(info, problem);
    return plain_for(info, problem);
}

/* The choice that is known under `key`. A text from elsewhere that the device does not take to the letter counts for
 * nothing. */
static bool is_known(const xft_device *device, const char *key, const xft_gemm_problem *problem,
                     xft_gemm_choice *choice) {
    char text[XFT_GEMM_KEY];
    forced = xft_choice_get(device, key);
    const char *known = forced;
    if (known) *choice = choose(device, problem);
    forced = NULL;
    if (!known) return false;
    xft_gemm_describe(choice, text);
    return !strcmp(text, known);
}

xft_gemm_choice xft_gemm_choose(const xft_device *device, const xft_gemm_problem *problem) {
    char key[XFT_GEMM_KEY], class[XFT_GEMM_KEY], text[XFT_GEMM_KEY];
    if (forced) return choose(device, problem);
    problem_key(problem, key);
    xft_gemm_choice choice;
    if (!is_known(device, key, problem, &choice) &&
        !(xft_gemm_class(problem, class) && is_known(device, class, problem, &choice)))
        choice = choose(device, problem);
    xft_gemm_describe(&choice, text);
    xft_choice_note(device, key, text);
    return choice;
}
