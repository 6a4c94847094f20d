/* Writing a model into an empty folder of the caller's, who makes the folder appear. */
#ifndef XFT_HOST_CHECKPOINT_H
#define XFT_HOST_CHECKPOINT_H

#include "xft/checkpoint.h"

/* Every file whole and on the disk; on failure some of them may be there. */
xft_status xft_checkpoint_write(const xft_model *model, const char *folder, const xft_save_options *options);

#endif
