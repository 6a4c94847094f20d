/* Checkpoints: model folders in the layout of Hugging Face, read and written.
 *
 * A folder holds config.json and model.safetensors, or shards named by model.safetensors.index.json.
 *
 * Threads: a load or save belongs to the thread of the device.
 */
#ifndef XFT_CHECKPOINT_H
#define XFT_CHECKPOINT_H

#include "xft/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_load_options {
    xft_dtype dtype;                /* of the model's matrices: XFT_F32 or XFT_BF16 */
    const xft_callbacks *callbacks; /* progress by tensors; or NULL */
    bool mixing; /* MoE: with mixing coefficients, from average_weights where the folder has them, else 1 */
} xft_load_options;

/* Text of folder/config.json, to be freed with free(). */
XFT_API xft_status xft_checkpoint_config(const char *folder, char **json, xft_config *config);

/* Loads a folder onto a device. Refuses missing tensors, unexpected ones, other shapes, and values that are not finite,
 * with file and name. options may be NULL (f32). */
XFT_API xft_status xft_checkpoint_load(xft_device *device, const char *folder, const xft_load_options *options,
                                       xft_model **model);

/* Writes config.json and model.safetensors into an existing folder; matrices and vectors as `dtype` (XFT_F32, XFT_BF16,
 * XFT_F16), which config.json names. Each file appears whole or not at all. callbacks: progress by tensors; or NULL. */
XFT_API xft_status xft_checkpoint_save(const xft_model *model, const char *folder, xft_dtype dtype,
                                       const xft_callbacks *callbacks);

#ifdef __cplusplus
}
#endif
#endif
