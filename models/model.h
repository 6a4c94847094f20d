/* A model as its own room sees it. */
#ifndef XFT_MODELS_MODEL_H
#define XFT_MODELS_MODEL_H

#include "weights.h"
#include "xft/model.h"

typedef struct xft_named_tensor {
    char name[XFT_NAME_SIZE];
    xft_tensor tensor;
} xft_named_tensor;

struct xft_model {
    xft_device *device;
    xft_config config;
    xft_model_options options; /* config_json: own copy */
    xft_arena *arena;
    xft_parameters parameters;
    xft_weights weights;
    xft_named_tensor *tensors; /* as the checkpoint names them: every expert alone */
    uint32_t tensor_count;
};

/* The dense configuration a MoE came from, and goes back to. */
xft_config xft_config_dense(const xft_config *moe);

#endif
