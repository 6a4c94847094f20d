/* Data movement and sums. */
#include "op_case.h"
#include "reference.h"

static xft_status record_add(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_add(stream, t[0], t[1], t[2]);
}

static void add_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "add", "[%u,%u] %s -> %s", rows, cols, xft_dtype_name(in), xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *a = case_add(&c, &r, "a", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *b = case_add(&c, &r, "b", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, out, 0, 2, rows, cols);
    xft_add_params p = {rows, cols, cols, cols, cols, rows};
    ref_add(&(ref_call){.d = {a->values, b->values, y->expected}, .params = &p});
    c.record = record_add;
    c.flops = (double)rows * cols;
    c.bytes = (double)rows * cols * (2 * xft_dtype_size(in) + xft_dtype_size(out));
    visit(&c, user);
    case_free(&c);
}

static void cases_add(case_set set, case_visitor visit, void *user) {
    if (set == CASES_BENCH) {
        add_case(2048, 576, XFT_F32, XFT_F32, visit, user);
        add_case(2048, 576, XFT_BF16, XFT_BF16, visit, user);
        return;
    }
    static const uint32_t shapes[][2] = {{3, 5}, {1, 1}, {17, 31}, {1, 4099}, {513, 7}, {64, 576}};
    for (uint32_t i = 0; i < (set == CASES_SMALL ? 1 : sizeof shapes / sizeof *shapes); i++) {
        add_case(shapes[i][0], shapes[i][1], XFT_F32, XFT_F32, visit, user);
        add_case(shapes[i][0], shapes[i][1], XFT_BF16, XFT_BF16, visit, user);
        add_case(shapes[i][0], shapes[i][1], XFT_BF16, XFT_F32, visit, user);
    }
}

void cases_basic(case_set set, const char *only, case_visitor visit, void *user) {
    if (case_wanted(only, "add")) cases_add(set, visit, user);
}
