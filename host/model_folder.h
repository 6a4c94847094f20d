/* Which files of a folder are a model, and how a finished one takes the place of another.
 *
 * A new model is written into FOLDER/model.tmp-PID, a name that is swept away, and when all of it is on the disk
 * renamed to FOLDER/model.new: from then on that is the model of the folder. Moving it into place may be cut off
 * anywhere: the next one to read the folder, or to save there, finishes it. The old files go first and config.json
 * comes last, so that what knows nothing of this finds the old model, the new one, or none, but never a mixture. */
#ifndef XFT_HOST_MODEL_FOLDER_H
#define XFT_HOST_MODEL_FOLDER_H

#include "xft/base.h"

#define XFT_SINGLE_NAME "model.safetensors"
#define XFT_INDEX_NAME  "model.safetensors.index.json"

/* config.json of the dense model that a MoE was made from, in the folder of the MoE. */
#define XFT_BASE_NAME "base_config.json"

/* What a model folder may hold beside configuration and weights, copied as it is; ends with NULL. */
extern const char *const xft_carried_names[];

/* Before a folder is read: puts a model in place whose moving was cut off. Any number of processes may do so. */
xft_status xft_model_settle(const char *folder);

/* Before a folder is written to: settles it, and removes what killed saves have left. */
xft_status xft_model_tidy(const char *folder);

/* Makes the model in `temporary`, all of it on the disk, that of `folder`, which holds `temporary`. */
xft_status xft_model_commit(const char *temporary, const char *folder);

#endif
