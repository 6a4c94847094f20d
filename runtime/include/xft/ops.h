/* Ops: the mathematics of XFT on tensors. Each call records work into a stream (stream.h); nothing runs before submit.
 *
 * Notation: T tokens (rows) of a micro-batch, H hidden size, I FFN size, V vocabulary, E experts in all, K experts per
 * token in all, E' routed experts (E-1; E with the vanilla gate), k routed picks (K-1; K), R = T*K grouped rows.
 * "=": the output is set; "+=": it is added to. Data tensors ("d:") may be f32 or bf16 where not said otherwise;
 * parameters of norms and router, statistics, and losses are f32; ids, picks and row numbers are u32.
 * Every function checks its tensors (null, dtype, shape, device, overlap of an output with another argument) and
 * refuses with XFT_ERROR_INVALID_ARGUMENT, naming op and argument.
 * All sums run in a fixed order: the same inputs give the same bits.
 */
#ifndef XFT_OPS_H
#define XFT_OPS_H

#include "xft/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Data movement and sums ------------------------------------------------------------------------------------- */

/* y = value; any dtype (u32: the value converted to an integer). */
XFT_API xft_status xft_fill(xft_stream *stream, const xft_tensor *y, float value);

/* y = x, [rows,cols], bit for bit; any dtype, the same for both. */
XFT_API xft_status xft_copy(xft_stream *stream, const xft_tensor *x, const xft_tensor *y);

typedef enum xft_rounding { XFT_ROUND_NEAREST = 0, XFT_ROUND_STOCHASTIC = 1 } xft_rounding;

/* y = x converted, [rows,cols]; f32, bf16, f16 to each other. Stochastic rounding (to bf16) draws from Philox stream
 * ROUNDING keyed by (seed, step, first_token, key, element) and needs `step`, a u32 [16] tensor holding an
 * xft_step_block. */
XFT_API xft_status xft_cast(xft_stream *stream, const xft_tensor *x, const xft_tensor *y, xft_rounding rounding,
                            const xft_tensor *step, uint32_t key);

/* y = a + b, [rows,cols] */
XFT_API xft_status xft_add(xft_stream *stream, const xft_tensor *a, const xft_tensor *b, const xft_tensor *y);

/* y += x, [rows,cols] */
XFT_API xft_status xft_accumulate(xft_stream *stream, const xft_tensor *x, const xft_tensor *y);

/* y[t,:] += b; y [T,N], b f32 [N] */
XFT_API xft_status xft_bias(xft_stream *stream, const xft_tensor *b, const xft_tensor *y);

/* y[n] = or += sum_t x[t,n]; x [T,N], y f32 [N], scratch f32 [C,N], C at least T/16384 rounded up (more is faster: one
 * row for 64 tokens or so). Bias gradients. */
XFT_API xft_status xft_column_sum(xft_stream *stream, const xft_tensor *x, const xft_tensor *scratch,
                                  const xft_tensor *y, bool accumulate);

/* y[0] = or += sum of x; x f32 [rows,cols], rows * (cols/256 + 2) at most 60000; y f32 [1] */
XFT_API xft_status xft_reduce_sum(xft_stream *stream, const xft_tensor *x, const xft_tensor *y, bool accumulate);

/* Purposes of random numbers; the same numbers never serve two. */
typedef enum xft_random_stream {
    XFT_RANDOM_ROUTER = 1,
    XFT_RANDOM_ROUNDING = 2,
    XFT_RANDOM_INIT = 3,
    XFT_RANDOM_SAMPLING = 4,
    XFT_RANDOM_SHUFFLE = 5
} xft_random_stream;

/* y ~ N(0, std), f32; element i of row r from Philox keyed by (seed, INIT, key, r, i): independent of pitch. */
XFT_API xft_status xft_random_normal(xft_stream *stream, const xft_tensor *y, float std, uint64_t seed, uint32_t key);

/* ---- Embedding, norms, rotation, activation --------------------------------------------------------------------- */

/* y[t,:] = w[ids[t],:]; ids u32 [T], w d:[V,H], y d:[T,H]. An id >= V gives a row of zeros. */
XFT_API xft_status xft_embedding(xft_stream *stream, const xft_tensor *ids, const xft_tensor *w, const xft_tensor *y);

/* dw[v,:] += sum over t with ids[t] = v of dy[t,:]; rows of no token are not touched. skip_id: an id whose row gets no
 * gradient (--compat official: pad_token_id), or UINT32_MAX. Sums run over t upwards. */
XFT_API xft_status xft_embedding_backward(xft_stream *stream, const xft_tensor *ids, const xft_tensor *dy,
                                          const xft_tensor *dw, uint32_t skip_id);

/* y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps); x d:[T,H], w f32 [H], y d:[T,H], rstd f32 [T] */
XFT_API xft_status xft_rms_norm(xft_stream *stream, const xft_tensor *x, const xft_tensor *w, float eps,
                                const xft_tensor *y, const xft_tensor *rstd);

/* dx = or += gradient of x; dw f32 [H] = or += gradient of w (dw NULL: none); scratch f32 [C,H], C as in
 * column_sum. dy d:[T,H], dx d:[T,H] */
XFT_API xft_status xft_rms_norm_backward(xft_stream *stream, const xft_tensor *dy, const xft_tensor *x,
                                         const xft_tensor *w, const xft_tensor *rstd, const xft_tensor *dx,
                                         bool accumulate_dx, const xft_tensor *scratch, const xft_tensor *dw,
                                         bool accumulate_dw);

/* y = (x - mean) * rstd * w + b; stats f32 [T,2]: mean, rstd; rstd = 1/sqrt(var + eps), var divides by H */
XFT_API xft_status xft_layer_norm(xft_stream *stream, const xft_tensor *x, const xft_tensor *w, const xft_tensor *b,
                                  float eps, const xft_tensor *y, const xft_tensor *stats);

/* As rms_norm_backward; scratch f32 [2*C,H]; dw and db are given both or neither. */
XFT_API xft_status xft_layer_norm_backward(xft_stream *stream, const xft_tensor *dy, const xft_tensor *x,
                                           const xft_tensor *w, const xft_tensor *stats, const xft_tensor *dx,
                                           bool accumulate_dx, const xft_tensor *scratch, const xft_tensor *dw,
                                           const xft_tensor *db, bool accumulate_dw);

/* Rotates the first `rotary` dimensions of every head of x in place: pairs (i, i + rotary/2) by the angle whose cosine
 * and sine are table[rows[t]][i] and table[rows[t]][rotary/2 + i]; x d:[T,heads*head_size], table f32 [P,rotary],
 * rows u32 [T]. inverse: by minus the angle, which is the backward pass. Llama: rotary = head_size. */
XFT_API xft_status xft_rope(xft_stream *stream, const xft_tensor *table, const xft_tensor *rows, uint32_t head_size,
                            bool inverse, const xft_tensor *x);

/* h = silu(g) * u; all d:[T,I] */
XFT_API xft_status xft_swiglu(xft_stream *stream, const xft_tensor *g, const xft_tensor *u, const xft_tensor *h);

/* From dh, and g and u of the forward pass: g becomes dg, u becomes du, h (may be NULL) is computed anew. All d:[T,I].
 * With experts: rows are grouped rows, dh is that of the unweighted output; source u32 [R], weights f32 [T,K] (of
 * router) and offsets u32 [E+1] are given, dots f32 [R] = <h, dh> (u_e of xft.md section 4), and dg, du and h are
 * scaled by the row's weight. Without: weights, source, offsets, dots are NULL. */
XFT_API xft_status xft_swiglu_backward(xft_stream *stream, const xft_tensor *dh, const xft_tensor *weights,
                                       const xft_tensor *source, const xft_tensor *offsets, const xft_tensor *g,
                                       const xft_tensor *u, const xft_tensor *h, const xft_tensor *dots);

/* ---- Products --------------------------------------------------------------------------------------------------- */

typedef enum xft_form {
    XFT_NT = 0, /* c [M,N] = a [M,K] b [N,K]^T   y = x W^T    */
    XFT_NN = 1, /* c [M,N] = a [M,K] b [K,N]     dx = dy W    */
    XFT_TN = 2  /* c [M,N] = a [K,M]^T b [K,N]   dW = dy^T x  */
} xft_form;

/* c = or += product; a, b, c each f32, bf16 or f16; sums in f32. M, N, K from 1. */
XFT_API xft_status xft_gemm(xft_stream *stream, xft_form form, const xft_tensor *a, const xft_tensor *b,
                            const xft_tensor *c, bool accumulate);

/* Rows offsets[e] to offsets[e+1] belong to expert e; offsets u32 [E+1], on the device.
 * NT: a [R,K], b [E,N,K], c [R,N].  NN: a [R,K], b [E,K,N], c [R,N].  TN: a [R,M], b [R,N], c [E,M,N].
 * Rows from offsets[E] on are not touched. TN with "=" writes zeros for an expert without rows; with "+=" nothing. */
XFT_API xft_status xft_grouped_gemm(xft_stream *stream, xft_form form, const xft_tensor *a, const xft_tensor *b,
                                    const xft_tensor *offsets, const xft_tensor *c, bool accumulate);

/* ---- Attention -------------------------------------------------------------------------------------------------- */

/* What every token may see. cu_seqlens u32 [n+1]: sequence i owns the rows [cu[i], cu[i+1]); unused entries repeat the
 * last. lengths u32 [n]: how many of its rows are tokens; the rest is padding. Rows from cu[n] on are the tail.
 * segments u32 [T,4] = key_begin, key_end, query_end, valid: token t sees the keys [key_begin, min(t+1, key_end)), key
 * t is seen by the queries [t, query_end). Padding and tail see nothing and are not valid. count_padding (--compat
 * official): padding rows see their sequence's tokens and are valid. */
XFT_API xft_status xft_segments(xft_stream *stream, const xft_tensor *cu_seqlens, const xft_tensor *lengths,
                                bool count_padding, const xft_tensor *segments);

/* The longest sequence that attention and its backward take on the device. A limit of one driver: llvmpipe leaves every
 * loop of an invocation, without a word, after 65535 turns of all of them; elsewhere 2^24. */
XFT_API uint32_t xft_attention_longest(const xft_device *device, uint32_t head_size, uint32_t heads, uint32_t kv_heads,
                                       bool backward);

/* Causal grouped-query attention without the T x T matrix: o_h = softmax(scale q_h k^T) v, query head h on key/value
 * head h / (heads / kv_heads). q, o d:[T,heads*D], k, v d:[T,kv_heads*D], D even, 4 to 256; lse f32 [heads,T]: log of
 * the sum of exponentials (natural). Rows that see nothing give o = 0, lse = 0. */
XFT_API xft_status xft_attention(xft_stream *stream, const xft_tensor *q, const xft_tensor *k, const xft_tensor *v,
                                 const xft_tensor *segments, uint32_t head_size, float scale, const xft_tensor *o,
                                 const xft_tensor *lse);

/* dq, dk, dv = gradients; `do_` that of o; delta f32 [heads,T] is scratch. */
XFT_API xft_status xft_attention_backward(xft_stream *stream, const xft_tensor *q, const xft_tensor *k,
                                          const xft_tensor *v, const xft_tensor *o, const xft_tensor *do_,
                                          const xft_tensor *lse, const xft_tensor *segments, uint32_t head_size,
                                          float scale, const xft_tensor *delta, const xft_tensor *dq,
                                          const xft_tensor *dk, const xft_tensor *dv);

/* Appends n new rows of each of B sequences to the caches: row b*n+i of k and v goes to cache row lengths[b]+i of
 * sequence b (rows beyond the capacity are dropped). k, v d:[B*n,kv_heads*D], lengths u32 [B] (before the append),
 * caches d:[B,capacity,kv_heads*D] */
XFT_API xft_status xft_kv_append(xft_stream *stream, const xft_tensor *k, const xft_tensor *v,
                                 const xft_tensor *lengths, const xft_tensor *k_cache, const xft_tensor *v_cache);

/* Attention of n new queries of each of B sequences on the caches (after the append): query i of sequence b sees cache
 * rows 0 to lengths[b]+i. q, o d:[B*n,heads*D] */
XFT_API xft_status xft_attention_decode(xft_stream *stream, const xft_tensor *q, const xft_tensor *k_cache,
                                        const xft_tensor *v_cache, const xft_tensor *lengths, uint32_t head_size,
                                        float scale, const xft_tensor *o);

/* ---- Routing and experts (xft.md sections 2 to 4) --------------------------------------------------------------- */

typedef enum xft_gate {
    XFT_GATE_XFT = 0,          /* TopKUniversalBalancedNoisyGate: the method */
    XFT_GATE_UNNORMALISED = 1, /* TopKUniversalBalancedNoNormalizationNoisyGate: r_j = p_j */
    XFT_GATE_VANILLA = 2 /* TopKBalancedNoisyGate: no shared expert, softmax over the picked logits, E' = E, k = K */
} xft_gate;

/* Where the router's noise comes from. */
typedef enum xft_noise { XFT_NOISE_NONE = 0, XFT_NOISE_STORED = 1, XFT_NOISE_PHILOX = 2 } xft_noise;

typedef struct xft_router_config {
    uint32_t num_experts; /* E */
    uint32_t top_k;       /* K */
    xft_gate gate;
    bool mlp; /* gate network: true: g = W2 tanh(W1 x); false: g = W1 x */
    xft_noise noise;
    float noise_epsilon;  /* 1e-2 */
    float balance_weight; /* 1e-2 */
    bool official;        /* compare n*s instead of z with thr_in (section 3) */
    uint32_t layer;       /* keys the noise */
} xft_router_config;

/* Floats of router state per token: a, g, s, n, z, p and ds/d(Wn x), each E' wide, one after the other: 7 E'. */
XFT_API uint32_t xft_router_state_width(const xft_router_config *config);

/* From h f32 [T,2E'] = (W1 x | Wn x) (without noise, [T,E'] = W1 x) and w2 f32 [E',E'] (NULL: linear gate):
 * state f32 [T,7E'] (xft_router_state_width), picks u32 [T,k] (routed experts from 0, largest first), weights f32 [T,K]
 * = w_0, r_1 … r_k (vanilla: r_1 … r_K). stored_noise f32 [T,E'] (XFT_NOISE_STORED) or NULL. step: u32 [16], the step
 * block; its noise_scale multiplies s. Rows that are not valid (segments) get state and weights 0 and picks UINT32_MAX.
 */
XFT_API xft_status xft_router(xft_stream *stream, const xft_router_config *config, const xft_tensor *h,
                              const xft_tensor *w2, const xft_tensor *stored_noise, const xft_tensor *segments,
                              const xft_tensor *step, const xft_tensor *state, const xft_tensor *picks,
                              const xft_tensor *weights);

/* Balance statistics and loss: stats f32 [3,E'] = importance, load, tokens per routed expert; coefficients f32 [2,E'] =
 * c_imp, c_load (dL_bal/dv, scaled by the step block's balance_scale); loss f32 [1] += balance_scale * L_bal.
 * scratch f32 [C,3E'], C at least T/256 rounded up (more is faster: about one row for 64 tokens, up to 256). */
XFT_API xft_status xft_router_balance(xft_stream *stream, const xft_router_config *config, const xft_tensor *state,
                                      const xft_tensor *segments, const xft_tensor *step, const xft_tensor *scratch,
                                      const xft_tensor *stats, const xft_tensor *coefficients, const xft_tensor *loss);

/* Backward of router and balance loss. dots f32 [R] (of swiglu_backward: u_e per grouped row), inverse u32 [T,K] (of
 * group). Gives dh f32 [T,2E'] ([T,E'] without noise), the gradient of h (before tanh and softplus), and dg f32
 * [T,E'], that of g: dW2 = dg^T a (a: the first E' columns of state), d(W1|Wn) = dh^T x, dx += dh (W1|Wn). */
XFT_API xft_status xft_router_backward(xft_stream *stream, const xft_router_config *config, const xft_tensor *dots,
                                       const xft_tensor *inverse, const xft_tensor *state, const xft_tensor *w2,
                                       const xft_tensor *coefficients, const xft_tensor *segments, const xft_tensor *dh,
                                       const xft_tensor *dg);

/* Sorts the tokens by expert; those without picks (not valid) go nowhere. offsets u32 [E+1]; source u32 [R]: grouped
 * row
 * -> t*K + slot, rows of an expert in order of tokens, UINT32_MAX from offsets[E] on; inverse u32 [T,K]: (t, slot) ->
 * grouped row, UINT32_MAX where there is none; scratch u32 [C,E], C as in router_balance; used u32 [E] (may
 * be NULL) |= got a token, when the step block's marks_used is set. Slot 0 is the shared expert. */
XFT_API xft_status xft_expert_group(xft_stream *stream, const xft_router_config *config, const xft_tensor *picks,
                                    const xft_tensor *step, const xft_tensor *scratch, const xft_tensor *offsets,
                                    const xft_tensor *source, const xft_tensor *inverse, const xft_tensor *used);

/* y[r,:] = x[source[r] / K, :] for the rows below offsets[E]; x d:[T,H], y d:[R,H] */
XFT_API xft_status xft_gather_rows(xft_stream *stream, const xft_tensor *x, const xft_tensor *source,
                                   const xft_tensor *offsets, uint32_t top_k, const xft_tensor *y);

/* y[t,:] = or += sum_j weights[t,j] x[inverse[t,j],:]; weights NULL: all 1. x d:[R,H], inverse u32 [T,K], y d:[T,H] */
XFT_API xft_status xft_combine(xft_stream *stream, const xft_tensor *x, const xft_tensor *inverse,
                               const xft_tensor *weights, const xft_tensor *y, bool accumulate);

/* ---- Head and loss ---------------------------------------------------------------------------------------------- */

/* For a chunk of rows: loss[t] = log-sum-exp(logits[t]) - logits[t][labels[t]] (0 for the label UINT32_MAX), times the
 * step block's inv_labels; with `gradient`, logits become (softmax - onehot) * inv_labels (rows without a label: 0).
 * labels u32 [T] name the NEXT token of each row; logits d:[T,V], loss f32 [T]. */
XFT_API xft_status xft_cross_entropy(xft_stream *stream, const xft_tensor *labels, const xft_tensor *step,
                                     const xft_tensor *logits, bool gradient, const xft_tensor *loss);

/* ids[b] = next token for every row of logits d:[B,V] by the step block's temperature (0: greedy, ties to the lower id)
 * and top_p: the smallest set of most probable ids whose sum reaches top_p, ties by lower id. Philox SAMPLING keyed by
 * (seed, step, first_token + b). */
XFT_API xft_status xft_sample(xft_stream *stream, const xft_tensor *logits, const xft_tensor *step,
                              const xft_tensor *ids);

/* ---- Merging (section 6) ---------------------------------------------------------------------------------------- */

/* alpha = softmax(a); f32 [E'] */
XFT_API xft_status xft_mix_softmax(xft_stream *stream, const xft_tensor *a, const xft_tensor *alpha);

/* w = lambda experts[0] + (1-lambda) sum_i alpha[i] experts[1+i]; experts d:[E,N,K], w d:[N,K], f32 arithmetic */
XFT_API xft_status xft_mix(xft_stream *stream, const xft_tensor *experts, const xft_tensor *alpha, float lambda,
                           const xft_tensor *w);

/* dalpha[i] = or += (1-lambda) <dw, experts[1+i]>, every expert read once. scratch f32 [C,E'], C at least N/64
 * rounded up (more is faster). */
XFT_API xft_status xft_mix_backward(xft_stream *stream, const xft_tensor *experts, const xft_tensor *dw, float lambda,
                                    const xft_tensor *scratch, const xft_tensor *dalpha, bool accumulate);

/* da[i] = alpha[i] (dalpha[i] - sum_j alpha[j] dalpha[j]); f32 [E'] */
XFT_API xft_status xft_mix_softmax_backward(xft_stream *stream, const xft_tensor *alpha, const xft_tensor *dalpha,
                                            const xft_tensor *da);

/* ---- Optimizers (section 5) ------------------------------------------------------------------------------------- */
/* A step: for every gradient xft_sum_squares, or xft_adafactor_statistics whose row sums serve as well, into its part
 * of one `partial` tensor; xft_step_begin; for every t-vector xft_step_advance; then the updates. Nothing is applied,
 * and no t advances, when loss or norm is not finite, nor for an expert whose used flag is 0.
 *
 * Shared by the updates. g d: and w of one shape, [N,K] or [E,N,K]; in a 3-d tensor every entry of the first dimension
 * is a tensor of its own with its t[e] and used[e] (u32 [E]); else t is u32 [1] and used NULL. w f32, master NULL:
 * plain. w bf16 with master f32: the master is updated, w is it rounded to nearest. w bf16, master NULL: updated in
 * place, rounded as `rounding` says (stochastic: Philox ROUNDING keyed by (seed, step, key, row, column)). Weight
 * decay: w -= lr wd w, before the update. */

/* partial f32 [C]: sums of squares over C stretches of rows of g, C >= 1 */
XFT_API xft_status xft_sum_squares(xft_stream *stream, const xft_tensor *g, const xft_tensor *partial);

/* state u32 [8] (an xft_step_state): grad_norm from all of `partial` (f32), clip, skip and the counters; loss and
 * balance, f32 [1], are copied into it. step: u32 [16], the step block. */
XFT_API xft_status xft_step_begin(xft_stream *stream, const xft_tensor *partial, const xft_tensor *loss,
                                  const xft_tensor *balance, const xft_tensor *step, const xft_tensor *state);

/* t[i] += 1 unless the step is skipped or used[i] is 0; t, used u32 [n] (used NULL: all) */
XFT_API xft_status xft_step_advance(xft_stream *stream, const xft_tensor *state, const xft_tensor *used,
                                    const xft_tensor *t);

typedef struct xft_adamw_config {
    float beta1, beta2, eps, weight_decay; /* 0.9, 0.999, 1e-8, … */
} xft_adamw_config;

/* One decoupled AdamW update; m, v f32 of the shape of g. */
XFT_API xft_status xft_adamw(xft_stream *stream, const xft_adamw_config *config, const xft_tensor *g,
                             const xft_tensor *step, const xft_tensor *state, const xft_tensor *t,
                             const xft_tensor *used, const xft_tensor *w, const xft_tensor *master, const xft_tensor *m,
                             const xft_tensor *v, xft_rounding rounding, uint32_t key);

/* Adafactor for matrices, in two calls with xft_step_begin between them. scratch: f32, at least
 * xft_adafactor_scratch(g) elements, free again after each call. rows f32 [E*N] (as a vector) and columns f32 [E,K]:
 * sums of the squares of g along its rows and columns, kept from the first call to the second. */
XFT_API uint64_t xft_adafactor_scratch(const xft_tensor *g);
XFT_API xft_status xft_adafactor_statistics(xft_stream *stream, const xft_tensor *g, const xft_tensor *scratch,
                                            const xft_tensor *rows, const xft_tensor *columns);

/* r f32 [E,N], c f32 [E,K]: the factors, means of the squares over columns and over rows. */
XFT_API xft_status xft_adafactor_update(xft_stream *stream, float weight_decay, const xft_tensor *g,
                                        const xft_tensor *rows, const xft_tensor *columns, const xft_tensor *scratch,
                                        const xft_tensor *step, const xft_tensor *state, const xft_tensor *t,
                                        const xft_tensor *used, const xft_tensor *w, const xft_tensor *master,
                                        const xft_tensor *r, const xft_tensor *c, xft_rounding rounding, uint32_t key);

/* Adafactor for vectors (norms, biases, mixing coefficients): full second moment s; g, w, s f32 [N]; t u32 [1]. */
XFT_API xft_status xft_adafactor_vector(xft_stream *stream, float weight_decay, const xft_tensor *g,
                                        const xft_tensor *step, const xft_tensor *state, const xft_tensor *t,
                                        const xft_tensor *w, const xft_tensor *s);

/* ---- Measuring -------------------------------------------------------------------------------------------------- */

/* y = sum over k = 1 … 8 of a_k, where a_k starts as k x and becomes a_k / 2 + x `rounds` times; f32 vectors of a
 * multiple of 16 elements. It touches no memory while it computes 16 rounds flops per element: what a device reaches
 * here is its roofline in multiply-adds. */
XFT_API xft_status xft_fma_peak(xft_stream *stream, const xft_tensor *x, uint32_t rounds, const xft_tensor *y);

#ifdef __cplusplus
}
#endif
#endif
