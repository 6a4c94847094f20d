/* The head: logits = y_end head^T, a chunk of rows at a time, so that [T,V] is never in memory as a whole. */
#include "network.h"

static const xft_tensor *head_of(const xft_weights *w) {
    return w->head.rank ? &w->head : &w->embed;
}

void xft_head_logits(const xft_network *n, xft_stream *s) {
    xft_gemm(s, XFT_NT, &n->y_end, head_of(n->w), &n->logits, false);
}

void xft_head_loss(const xft_network *n, xft_stream *s) {
    uint32_t T = n->options.tokens, chunk = n->options.head_chunk;
    for (uint32_t first = 0; first < T; first += chunk) {
        uint32_t rows = first + chunk < T ? chunk : T - first; // C
        xft_tensor y = {0}, d_y = {0}, logits = {0};
        if (xft_tensor_rows(&n->y_end, first, rows, &y) || xft_tensor_rows(&n->logits, 0, rows, &logits)) return;
        xft_tensor labels = xft_slice(&n->labels, first, rows), loss = xft_slice(&n->row_loss, first, rows);
        xft_gemm(s, XFT_NT, &y, head_of(n->w), &logits, false); // logits [C,V]
        xft_cross_entropy(s, &labels, &n->step, &logits, n->d != NULL, &loss);
        if (!n->d) continue;
        const xft_tensor *d_logits = &logits;
        if (xft_tensor_rows(&n->d_y, first, rows, &d_y)) return;
        if (!n->options.frozen) xft_gemm(s, XFT_TN, d_logits, &y, head_of(n->d), n->accumulate || first); // [V,H] (+)=
        xft_gemm(s, XFT_NN, d_logits, head_of(n->w), &d_y, false);                                        // d_y [C,H]
    }
    xft_reduce_sum(s, &n->row_loss, &n->loss, true); // loss +=
}
