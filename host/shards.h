/* The weights of a model folder: model.safetensors, or the shards of model.safetensors.index.json. */
#ifndef XFT_HOST_SHARDS_H
#define XFT_HOST_SHARDS_H

#include "xft/safetensors.h"

typedef struct xft_shards {
    xft_safetensors **files;
    size_t count;
} xft_shards;

xft_status xft_shards_open(const char *folder, xft_shards *shards);
void xft_shards_close(xft_shards *shards);

/* The tensor of that name, or NULL; path (may be NULL): the file it is in, for messages. */
const xft_stored_tensor *xft_shards_find(const xft_shards *shards, const char *name, const char **path);

#endif
