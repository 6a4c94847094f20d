/* Mixture of experts (sections 2 to 4): x_next = x_mid + y, y = w_0 FFN_0(y2) + sum_j r_j FFN_{1+i_j}(y2) for each
 * token, y2 = norm2(x_mid). Tokens are sorted by expert; each expert then works on its own rows of [R, …]. */
#include "network.h"

static const xft_tensor *next_x(const xft_network *n, uint32_t l) {
    return l + 1 < n->config->num_layers ? &n->layers[l + 1].x : &n->x_end;
}

/* The router's first matrix: W1 over Wn, or without noise W1 alone. */
static xft_tensor router_matrix(const xft_network *n, const xft_tensor *both) {
    xft_tensor w = *both;
    if (n->options.noise == XFT_NOISE_NONE && w.rank) w.shape[0] = xft_config_routed(n->config);
    return w;
}

static xft_router_config router_config(const xft_network *n, uint32_t l) {
    xft_router_config router = n->router;
    router.layer = l;
    return router;
}

void xft_moe_block_forward(const xft_network *n, xft_stream *s, uint32_t l, bool again, const xft_tensor *y) {
    const xft_layer_weights *w = &n->w->layers[l];
    const xft_layer_activations *a = &n->layers[l];
    const xft_router_config router = router_config(n, l);
    const xft_tensor matrix = router_matrix(n, &w->router);
    xft_tensor noise = {0}, used = n->used;
    if (n->noise.rank) xft_tensor_at(&n->noise, l, &noise);
    xft_tensor_at(&n->used, l, &used);

    xft_gemm(s, XFT_NT, &a->y2, &matrix, &n->router_h, false); // h [T,2E'] = y2 (W1 | Wn)^T
    xft_router(s, &router, &n->router_h, xft_present(&w->w2), xft_present(&noise), &n->segments, &n->step, &a->state,
               &a->picks, &a->weights);
    if (n->options.backward && !again)
        xft_router_balance(s, &router, &a->state, &n->segments, &n->step, &n->statistics, &a->stats, &a->coefficients,
                           &n->balance);
    xft_expert_group(s, &router, &a->picks, &n->step, &n->counts, &a->offsets, &a->source, &a->inverse,
                     again || !n->options.backward ? NULL : &used);
    xft_gather_rows(s, &a->y2, &a->source, &a->offsets, n->config->top_k, &n->grouped_x); // [R,H]
    xft_grouped_gemm(s, XFT_NT, &n->grouped_x, &w->gate, &a->offsets, &a->g, false);      // g [R,I]
    xft_grouped_gemm(s, XFT_NT, &n->grouped_x, &w->up, &a->offsets, &a->u, false);        // u [R,I]
    if (again) return;
    xft_swiglu(s, &a->g, &a->u, &n->h);                                              // h [R,I]
    xft_grouped_gemm(s, XFT_NT, &n->h, &w->down, &a->offsets, &n->grouped_y, false); // [R,H]
    xft_combine(s, &n->grouped_y, &a->inverse, &a->weights, y, false);               // y [T,H]
}

void xft_moe_forward(const xft_network *n, xft_stream *s, uint32_t l, bool again) {
    const xft_layer_weights *w = &n->w->layers[l];
    const xft_layer_activations *a = &n->layers[l];

    xft_norm_forward(n, s, &a->x_mid, &w->norm2, &w->norm2_bias, &a->y2, &a->stats2);
    xft_moe_block_forward(n, s, l, again, next_x(n, l));    // x_next = moe(y2)
    if (!again) xft_accumulate(s, &a->x_mid, next_x(n, l)); // += x_mid
}

void xft_moe_backward(const xft_network *n, xft_stream *s, uint32_t l) {
    const xft_layer_weights *w = &n->w->layers[l], *d = &n->d->layers[l];
    const xft_layer_activations *a = &n->layers[l];
    const xft_router_config router = router_config(n, l);
    const xft_tensor matrix = router_matrix(n, &w->router), d_matrix = router_matrix(n, &d->router);
    const xft_tensor *d_g = &a->g, *d_u = &a->u; /* written over g and u */
    const xft_tensor *grouped_d = &n->grouped_y; /* d_x of the grouped rows, then d_y2 of them */
    bool more = n->accumulate;

    /* experts: from the gradient of the unweighted outputs; the weights enter in swiglu_backward */
    xft_gather_rows(s, &n->d_x, &a->source, &a->offsets, n->config->top_k, grouped_d); // [R,H]
    xft_grouped_gemm(s, XFT_NN, grouped_d, &w->down, &a->offsets, &n->d_h, false);     // d_h [R,I]
    xft_swiglu_backward(s, &n->d_h, &a->weights, &a->source, &a->offsets, &a->g, &a->u, &n->h, &n->dots);
    xft_weight_gradient(n, s, grouped_d, &n->h, &a->offsets, &d->down);                   // [E,H,I]
    xft_gather_rows(s, &a->y2, &a->source, &a->offsets, n->config->top_k, &n->grouped_x); // [R,H]
    xft_weight_gradient(n, s, d_u, &n->grouped_x, &a->offsets, &d->up);                   // [E,I,H]
    xft_weight_gradient(n, s, d_g, &n->grouped_x, &a->offsets, &d->gate);                 // [E,I,H]
    xft_grouped_gemm(s, XFT_NN, d_u, &w->up, &a->offsets, grouped_d, false);              // [R,H]
    xft_grouped_gemm(s, XFT_NN, d_g, &w->gate, &a->offsets, grouped_d, true);
    xft_combine(s, grouped_d, &a->inverse, NULL, &n->d_y, false); // d_y2 [T,H]

    /* router */
    xft_router_backward(s, &router, &n->dots, &a->inverse, &a->state, xft_present(&w->w2), &a->coefficients,
                        &n->segments, &n->d_router_h, &n->d_g);
    if (w->w2.rank) {
        xft_tensor tanh_h = a->state; /* the first E' columns of the state */
        tanh_h.shape[1] = xft_config_routed(n->config);
        xft_gemm(s, XFT_TN, &n->d_g, &tanh_h, &d->w2, more); // d_W2 [E',E'] (+)= d_g^T a
    }
    xft_gemm(s, XFT_TN, &n->d_router_h, &a->y2, &d_matrix, more); // [2E',H]
    xft_gemm(s, XFT_NN, &n->d_router_h, &matrix, &n->d_y, true);  // d_y2 += d_h (W1 | Wn)

    xft_norm_backward(n, s, &n->d_y, &a->x_mid, &w->norm2, &a->stats2, true, &d->norm2, &d->norm2_bias); // d_x +=
}
