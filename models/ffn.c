/* Dense FFN: x_next = x_mid + swiglu(y2 Wg^T, y2 Wu^T) Wd^T with y2 = norm2(x_mid). In the merge stage the matrices are
 * mixtures, and their gradients are reduced at once to those of the mixing coefficients. */
#include "network.h"

static const xft_tensor *next_x(const xft_network *n, uint32_t l) {
    return l + 1 < n->config->num_layers ? &n->layers[l + 1].x : &n->x_end;
}

void xft_ffn_forward(const xft_network *n, xft_stream *s, uint32_t l, bool again) {
    const xft_layer_weights *w = &n->w->layers[l];
    const xft_layer_activations *a = &n->layers[l];

    xft_norm_forward(n, s, &a->x_mid, &w->norm2, &w->norm2_bias, &a->y2, &a->stats2);
    xft_gemm(s, XFT_NT, &a->y2, &w->gate, &a->g, false); // g [T,I] = y2 Wg^T
    xft_gemm(s, XFT_NT, &a->y2, &w->up, &a->u, false);   // u [T,I]
    if (again) return;
    xft_swiglu(s, &a->g, &a->u, &n->h);                        // h [T,I] = silu(g) u
    xft_gemm(s, XFT_NT, &n->h, &w->down, next_x(n, l), false); // x_next [T,H] = h Wd^T
    xft_accumulate(s, &a->x_mid, next_x(n, l));                // += x_mid
}

/* d_W (+)= d_out^T in; in the merge stage d_alpha += (1-lambda) <d_W, W_i> instead. */
static void weight_gradient(const xft_network *n, xft_stream *s, uint32_t l, const xft_tensor *d_out,
                            const xft_tensor *in, const xft_tensor *d_w, const xft_tensor *experts, bool more) {
    if (!n->merge) {
        xft_weight_gradient(n, s, d_out, in, NULL, d_w);
        return;
    }
    const xft_merge *m = n->merge;
    const xft_tensor *room = experts == &m->experts->layers[l].down ? &m->d_down : &m->d_in;
    xft_gemm(s, XFT_TN, d_out, in, room, false);
    xft_mix_backward(s, experts, room, m->lambda, &m->dots, &m->d_alpha[l], more);
}

void xft_ffn_backward(const xft_network *n, xft_stream *s, uint32_t l) {
    const xft_layer_weights *w = &n->w->layers[l], *d = &n->d->layers[l];
    const xft_layer_weights *experts = n->merge ? &n->merge->experts->layers[l] : d;
    const xft_layer_activations *a = &n->layers[l];
    const xft_tensor *d_g = &a->g, *d_u = &a->u; /* written over g and u */
    bool more = n->accumulate, rest = more || n->merge;

    xft_gemm(s, XFT_NN, &n->d_x, &w->down, &n->d_h, false); // d_h [T,I] = d_x Wd
    xft_swiglu_backward(s, &n->d_h, NULL, NULL, NULL, &a->g, &a->u, &n->h, NULL);
    weight_gradient(n, s, l, &n->d_x, &n->h, &d->down, &experts->down, more); // [H,I]
    weight_gradient(n, s, l, d_u, &a->y2, &d->up, &experts->up, rest);        // [I,H]
    weight_gradient(n, s, l, d_g, &a->y2, &d->gate, &experts->gate, rest);    // [I,H]
    if (n->options.frozen && l == 0) return;           /* nothing below the first FFN trains in the merge stage */
    xft_gemm(s, XFT_NN, d_u, &w->up, &n->d_y, false);  // d_y2 [T,H] = d_u Wu
    xft_gemm(s, XFT_NN, d_g, &w->gate, &n->d_y, true); // += d_g Wg
    xft_norm_backward(n, s, &n->d_y, &a->x_mid, &w->norm2, &a->stats2, true, &d->norm2, &d->norm2_bias); // d_x +=
}
