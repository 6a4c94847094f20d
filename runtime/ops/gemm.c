/* Matrix products and grouped products of ops.h. */
#include "gemm_choice.h"

static uint32_t blocks(uint32_t items, uint32_t size) {
    return items / size + (items % size != 0);
}

static const char *const form_names[] = {"nt", "nn", "tn"};

/* Fills what plain and grouped products share: the choice's form, constants and grid, flops, bytes. c is cut into
 * `row_blocks` in each of `matrices` results. */
static void product(xft_dispatch *d, const xft_gemm_problem *p, const xft_gemm_choice *choice, uint32_t row_blocks,
                    uint32_t matrices, uint32_t out) {
    const uint32_t column_blocks = blocks(p->N, choice->columns);
    d->groups[0] = choice->rows_first ? row_blocks * matrices : column_blocks;
    d->groups[1] = choice->rows_first ? column_blocks : row_blocks;
    d->groups[2] = choice->rows_first ? 1 : matrices;
    d->variant = choice->variant[0] ? choice->variant : NULL;
    const uint32_t head[] = {choice->wg, p->form, p->a, p->b, p->c};
    for (uint32_t i = 0; i < 5; i++) d->constants[i] = head[i];
    for (uint32_t i = 0; i < XFT_GEMM_TILE_CONSTANTS; i++) d->constants[5 + i] = choice->tile[i];
    d->flops = 2.0 * p->M * p->N * p->K;
    d->bytes = (double)xft_bytes(d->tensors[0]) + (double)xft_bytes(d->tensors[1]) + (double)xft_bytes(d->tensors[out]);
}

xft_status xft_gemm(xft_stream *stream, xft_form form, const xft_tensor *a, const xft_tensor *b, const xft_tensor *c,
                    bool accumulate) {
    XFT_ARG(stream, "gemm", a, XFT_FLOATS, 0, 0);
    XFT_ARG(stream, "gemm", b, XFT_FLOATS, 0, 0);
    XFT_ARG(stream, "gemm", c, XFT_FLOATS, 0, 0);
    XFT_OP_FAIL_IF((uint32_t)form > XFT_TN, stream, "gemm: form is %u, must be XFT_NT, XFT_NN or XFT_TN", form);
    const uint32_t a_rows = xft_rows(a), a_cols = xft_cols(a), b_rows = xft_rows(b), b_cols = xft_cols(b);
    xft_gemm_problem problem = {.form = form, .a = a->dtype, .b = b->dtype, .c = c->dtype};
    problem.M = form == XFT_TN ? a_cols : a_rows;
    problem.K = form == XFT_TN ? a_rows : a_cols;
    problem.N = form == XFT_NT ? b_rows : b_cols;
    const uint32_t b_K = form == XFT_NT ? b_cols : b_rows;
    XFT_OP_FAIL_IF(b_K != problem.K, stream, "gemm %s: a [%u,%u] and b [%u,%u] do not share a K (%u, %u)",
                   form_names[form], a_rows, a_cols, b_rows, b_cols, problem.K, b_K);
    XFT_ARG(stream, "gemm", c, XFT_FLOATS, problem.M, problem.N);

    const xft_gemm_choice choice = xft_gemm_choose(xft_stream_device(stream), &problem);
    const xft_gemm_params params = {.M = problem.M,
                                    .N = problem.N,
                                    .K = problem.K,
                                    .ld_a = a->pitch,
                                    .ld_b = b->pitch,
                                    .ld_c = c->pitch,
                                    .accumulate = accumulate,
                                    .block_rows = choice.rows,
                                    .block_columns = choice.columns};
    xft_dispatch d = {.op = XFT_OP_gemm, .tensors = {a, b, c}, .params = &params, .param_size = sizeof params};
    product(&d, &problem, &choice, blocks(problem.M, choice.rows), 1, 2);
    return xft_record(stream, &d);
}

xft_status xft_grouped_gemm(xft_stream *stream, xft_form form, const xft_tensor *a, const xft_tensor *b,
                            const xft_tensor *offsets, const xft_tensor *c, bool accumulate) {
    XFT_ARG(stream, "grouped_gemm", a, XFT_FLOATS, 0, 0);
    XFT_ARG(stream, "grouped_gemm", b, XFT_FLOATS, 0, 0);
    XFT_ARG(stream, "grouped_gemm", c, XFT_FLOATS, 0, 0);
    XFT_OP_FAIL_IF((uint32_t)form > XFT_TN, stream, "grouped_gemm: form is %u, must be XFT_NT, XFT_NN or XFT_TN", form);
    /* The tensor that holds a matrix per expert. */
    const xft_tensor *matrices = form == XFT_TN ? c : b;
    XFT_OP_FAIL_IF(matrices->rank != 3, stream, "grouped_gemm %s: %s has rank %u, must be 3: [E,…,…]", form_names[form],
                   form == XFT_TN ? "c" : "b", matrices->rank);
    const uint32_t experts = matrices->shape[0], R = xft_rows(a);
    XFT_ARG(stream, "grouped_gemm", offsets, XFT_U32_ONLY, 1, experts + 1);
    xft_gemm_problem problem = {.form = form, .a = a->dtype, .b = b->dtype, .c = c->dtype, .experts = experts};
    xft_grouped_gemm_params params = {
        .ld_a = a->pitch, .ld_b = b->pitch, .ld_c = c->pitch, .experts = experts, .accumulate = accumulate};
    if (form == XFT_TN) {
        problem.M = xft_cols(a);
        problem.N = xft_cols(b);
        problem.K = R;
        XFT_ARG(stream, "grouped_gemm", b, XFT_FLOATS, R, 0);
        XFT_OP_FAIL_IF(c->shape[1] != problem.M || c->shape[2] != problem.N, stream,
                       "grouped_gemm tn: c is [%u,%u,%u], must be [%u,%u,%u]", experts, c->shape[1], c->shape[2],
                       experts, problem.M, problem.N);
    } else {
        const uint32_t b_K = form == XFT_NT ? b->shape[2] : b->shape[1];
        problem.M = R;
        problem.N = form == XFT_NT ? b->shape[1] : b->shape[2];
        problem.K = xft_cols(a);
        params.b_rows = b->shape[1];
        XFT_OP_FAIL_IF(b_K != problem.K, stream,
                       "grouped_gemm %s: a [%u,%u] and b [%u,%u,%u] do not share a K (%u, %u)", form_names[form], R,
                       problem.K, experts, b->shape[1], b->shape[2], problem.K, b_K);
        XFT_ARG(stream, "grouped_gemm", c, XFT_FLOATS, R, problem.N);
    }
    params.M = problem.M;
    params.N = problem.N;
    params.K = problem.K;

    const xft_gemm_choice choice = xft_gemm_choose(xft_stream_device(stream), &problem);
    params.block_rows = choice.rows;
    params.block_columns = choice.columns;
    xft_dispatch d = {
        .op = XFT_OP_grouped_gemm, .tensors = {a, b, offsets, c}, .params = &params, .param_size = sizeof params};
    /* An expert may leave one block of rows partly filled, so R / rows + E blocks are always enough. */
    if (form == XFT_TN)
        product(&d, &problem, &choice, blocks(problem.M, choice.rows), experts, 3);
    else
        product(&d, &problem, &choice, R / choice.rows + experts, 1, 3);
    return xft_record(stream, &d);
}
