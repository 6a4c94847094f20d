/* Attention block: x_mid = x + o Wo^T, o = attention(rope(q), rope(k), v), q = norm1(x) Wq^T (+ b), likewise k and v.
 */
#include "network.h"

#include <math.h>

/* q [T,A], k [T,G], v [T,G] of norm1(x), q and k rotated. */
static void project(const xft_network *n, xft_stream *s, uint32_t l) {
    const xft_layer_weights *w = &n->w->layers[l];
    const xft_layer_activations *a = &n->layers[l];
    uint32_t D = n->config->head_size;

    xft_norm_forward(n, s, &a->x, &w->norm1, &w->norm1_bias, &a->y1, &a->stats1);
    xft_gemm(s, XFT_NT, &a->y1, &w->q, &a->q, false); // q [T,A] = y1 Wq^T
    xft_gemm(s, XFT_NT, &a->y1, &w->k, &a->k, false); // k [T,G]
    xft_gemm(s, XFT_NT, &a->y1, &w->v, &a->v, false); // v [T,G]
    if (n->config->qkv_bias) {
        xft_bias(s, &w->q_bias, &a->q);
        xft_bias(s, &w->k_bias, &a->k);
        xft_bias(s, &w->v_bias, &a->v);
    }
    xft_rope(s, &n->table, &n->rows, D, false, &a->q);
    xft_rope(s, &n->table, &n->rows, D, false, &a->k);
}

static void project_back(const xft_network *n, xft_stream *s, uint32_t l) {
    const xft_layer_activations *a = &n->layers[l];
    xft_gemm(s, XFT_NT, &a->o, &n->w->layers[l].o, &a->x_mid, false); // x_mid [T,H] = o Wo^T
    xft_accumulate(s, &a->x, &a->x_mid);                              // += x
}

void xft_attention_block_forward(const xft_network *n, xft_stream *s, uint32_t l) {
    const xft_layer_activations *a = &n->layers[l];
    uint32_t D = n->config->head_size;
    project(n, s, l);
    xft_attention(s, &a->q, &a->k, &a->v, &n->segments, D, 1 / sqrtf((float)D), &a->o, &a->lse);
    project_back(n, s, l);
}

void xft_attention_block_decode(const xft_network *n, xft_stream *s, uint32_t l, const xft_tensor *past,
                                const xft_tensor *k_cache, const xft_tensor *v_cache) {
    const xft_layer_activations *a = &n->layers[l];
    uint32_t D = n->config->head_size;
    project(n, s, l);
    xft_kv_append(s, &a->k, &a->v, past, k_cache, v_cache);
    xft_attention_decode(s, &a->q, k_cache, v_cache, past, D, 1 / sqrtf((float)D), &a->o);
    project_back(n, s, l);
}

void xft_attention_block_backward(const xft_network *n, xft_stream *s, uint32_t l) {
    const xft_layer_weights *w = &n->w->layers[l], *d = &n->d->layers[l];
    const xft_layer_activations *a = &n->layers[l];
    uint32_t D = n->config->head_size;
    bool weights = !n->options.frozen, more = n->accumulate;

    xft_gemm(s, XFT_NN, &n->d_x, &w->o, &n->d_o, false);                 // d_o [T,A] = d_x Wo
    if (weights) xft_weight_gradient(n, s, &n->d_x, &a->o, NULL, &d->o); // d_Wo [H,A] (+)= d_x^T o
    xft_attention_backward(s, &a->q, &a->k, &a->v, &a->o, &n->d_o, &a->lse, &n->segments, D, 1 / sqrtf((float)D),
                           &n->delta, &n->d_q, &n->d_k, &n->d_v);
    xft_rope(s, &n->table, &n->rows, D, true, &n->d_k);
    xft_rope(s, &n->table, &n->rows, D, true, &n->d_q);
    if (weights && n->config->qkv_bias) {
        xft_column_sum(s, &n->d_v, &n->sums_kv, &d->v_bias, more);
        xft_column_sum(s, &n->d_k, &n->sums_kv, &d->k_bias, more);
        xft_column_sum(s, &n->d_q, &n->sums, &d->q_bias, more);
    }
    if (weights) {
        xft_weight_gradient(n, s, &n->d_v, &a->y1, NULL, &d->v); // d_Wv [G,H] (+)= d_v^T y1
        xft_weight_gradient(n, s, &n->d_k, &a->y1, NULL, &d->k); // d_Wk [G,H]
        xft_weight_gradient(n, s, &n->d_q, &a->y1, NULL, &d->q); // d_Wq [A,H]
    }
    xft_gemm(s, XFT_NN, &n->d_v, &w->v, &n->d_y, false); // d_y1 [T,H] = d_v Wv
    xft_gemm(s, XFT_NN, &n->d_k, &w->k, &n->d_y, true);  // += d_k Wk
    xft_gemm(s, XFT_NN, &n->d_q, &w->q, &n->d_y, true);  // += d_q Wq
    xft_norm_backward(n, s, &n->d_y, &a->x, &w->norm1, &a->stats1, true, &d->norm1, &d->norm1_bias); // d_x +=
}
