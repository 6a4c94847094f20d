/* Checkpoints: model folders in the layout of Hugging Face, read and written.
 *
 * A folder holds config.json and model.safetensors, or shards named by model.safetensors.index.json.
 *
 * Threads: a load or save belongs to the thread of the device.
 */
#ifndef XFT_CHECKPOINT_H
#define XFT_CHECKPOINT_H

#include "xft/model.h"
#include "xft/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_load_options {
    xft_dtype dtype;                /* of the model's matrices: XFT_F32 or XFT_BF16 */
    const xft_callbacks *callbacks; /* progress by tensors; or NULL */
    bool mixing; /* MoE: with mixing coefficients, from average_weights where the folder has them, else 1 */
} xft_load_options;

/* Whether a folder holds a model: a configuration and weights. A folder that is missing holds none. */
XFT_API xft_status xft_checkpoint_exists(const char *folder, bool *exists);

/* Text of folder/config.json, to be freed with free(). */
XFT_API xft_status xft_checkpoint_config(const char *folder, char **json, xft_config *config);

/* The ids that end an answer: eos_token_id of config.json and of generation_config.json (one id or a list), and the eos
 * token of the tokenizer (NULL: not asked). ids: room for *count of them; *count becomes their number. */
XFT_API xft_status xft_checkpoint_stops(const char *folder, const xft_tokenizer *tokenizer, uint32_t *ids,
                                        uint32_t *count);

/* Loads a folder onto a device. Refuses missing tensors, unexpected ones, other shapes, and values that are not finite,
 * with file and name. options may be NULL (f32). */
XFT_API xft_status xft_checkpoint_load(xft_device *device, const char *folder, const xft_load_options *options,
                                       xft_model **model);

typedef struct xft_save_options {
    xft_dtype dtype;     /* of every tensor in the files: XFT_F32, BF16 or F16 */
    uint64_t shard_size; /* bytes of tensors in one file at the most (one tensor may be larger); 0: one file */
    const char *carry;   /* folder of the model it was made from, whose tokenizer and generation files are copied as
                          * they are; or NULL. The config.json of a base becomes the base_config.json of its MoE, and
                          * again the config.json of the dense model that is made of that. */
    bool like;           /* every tensor in the number format it has in `carry` (experts that of the FFN they were
                          * made from, and an FFN that of its experts); those it lacks get dtype */
    const xft_callbacks *callbacks; /* progress by tensors; or NULL */
} xft_save_options;

/* Makes `folder` hold the model: config.json, the weights, carried files. The folder is made when it is missing; files
 * in it that belong to no model stay. All is written and on the disk, in FOLDER/model.new, before the first old file
 * goes; config.json comes last. Killed or failing at any moment, it leaves the old model or the new one, whole: what
 * remains to be moved is moved by the next load from the folder or save to it. What killed saves have left is removed.
 * A file system without room for it is refused with numbers before anything is written.
 * Values that are not finite, or too large for f16, are refused. options may be NULL (one file of f32). */
XFT_API xft_status xft_checkpoint_save(const xft_model *model, const char *folder, const xft_save_options *options);

/* Bytes that xft_checkpoint_save writes with these options, all files together, about. */
XFT_API xft_status xft_checkpoint_size(const xft_model *model, const xft_save_options *options, uint64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
