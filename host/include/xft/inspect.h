/* Looking into a checkpoint folder, dense or MoE, without a device: the files are mapped and read once.
 *
 *     char *json, *text;
 *     XFT_TRY(xft_inspect("moe", NULL, &json));
 *     XFT_TRY(xft_inspect_text(json, false, &text));
 *
 * The JSON object:
 *   "folder", "bytes", "parameters"
 *   "config": {"model_type", "family", "hidden_size", … "num_experts", "top_k", "gate", …: what was understood}
 *   "tensors": [{"name", "file", "dtype", "shape": […], "bytes", "nan", "inf", "norm", "mean", "largest"}, …]
 *              norm: root of the sum of squares; largest: greatest absolute value; all over the finite elements
 *   "totals": {"tensors", "nan", "inf"}
 *   "problems": ["…", …]   tensors that are missing or of another shape than config.json asks for
 *   MoE: "layers": [{"layer",
 *       "router": {"w1_norm", "w2_norm", "noise_norm", "noise"}
 *               noise: mean of softplus(Wn x) + eps over x with a mean square of 1, the scale of the noise in training,
 *               times router_noise_scale; it takes x ~ N(0,1), since the folder holds no activations
 *       "cosine": [[E x E]], "distance": [E]
 *               of all weights of an expert as one vector: cosine between experts; |W_e - W_0| / |W_0|
 *       "alpha": [E']          softmax of average_weights, where there are any
 *   }, …]
 *   "merge": merge.json (stage.h), where the folder is a merged model that has one
 */
#ifndef XFT_INSPECT_H
#define XFT_INSPECT_H

#include "xft/callbacks.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is in a folder. A folder whose weights do not fit its config.json is described, too; refused is only what cannot
 * be read. callbacks: progress by tensors ("inspecting"); or NULL. *json is to be freed with free(). */
XFT_API xft_status xft_inspect(const char *folder, const xft_callbacks *callbacks, char **json);

/* The same for a person: tables, as wide as they need to be; tensors: every tensor has a line, not only those with NaN
 * or infinities. *text is to be freed with free(). */
XFT_API xft_status xft_inspect_text(const char *json, bool tensors, char **text);

#ifdef __cplusplus
}
#endif
#endif
