/* Evaluation: forward passes without noise. */
#include "error.h"
#include "evaluator.h"
#include "record.h"
#include "trainer.h"

#include <stdlib.h>

xft_network xft_evaluator_network(const xft_config *c, const xft_weights *weights, xft_dtype dtype, uint32_t tokens,
                                  uint32_t sequences, bool logits, bool official) {
    return (xft_network){
        .config = c,
        .w = weights,
        .options = {.tokens = tokens, .sequences = sequences, .all_logits = logits, .official = official},
        .dtype = dtype,
        .rope_theta = xft_network_theta(c, official),
        .router = xft_network_router(c, XFT_NOISE_NONE, official),
    };
}

static xft_status record(xft_evaluator *e, xft_device *device) {
    xft_network counted = e->network;
    xft_room count = {.device = device};
    xft_status status = xft_network_take(&counted, &count);
    xft_network_free(&counted);
    if (status == XFT_OK) status = xft_room_arena(&count, device, "evaluation", &e->arena);
    xft_room room = {.device = device, .arena = e->arena};
    if (status == XFT_OK) status = xft_network_take(&e->network, &room);
    if (status == XFT_OK) status = xft_network_upload(&e->network);
    if (status == XFT_OK) status = xft_stream_create(device, &(xft_stream_options){.name = "evaluation"}, &e->stream);
    if (status != XFT_OK) return status;
    xft_network_inputs(&e->network, e->stream, &e->at);
    xft_network_forward(&e->network, e->stream);
    xft_head_loss(&e->network, e->stream);
    xft_stream_output(e->stream, &e->network.loss, &e->loss_at);
    return xft_stream_finish(e->stream);
}

static xft_status create(xft_device *device, const xft_network *network, xft_evaluator **evaluator) {
    xft_evaluator *e = calloc(1, sizeof *e);
    XFT_FAIL_IF(!e, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for an evaluator");
    e->network = *network;
    xft_status status = record(e, device);
    if (status != XFT_OK) {
        xft_evaluator_destroy(e);
        return status;
    }
    *evaluator = e;
    return XFT_OK;
}

xft_status xft_evaluator_create(xft_model *model, uint32_t tokens, uint32_t sequences, bool logits, bool official,
                                xft_evaluator **evaluator) {
    XFT_NEED(model, evaluator);
    *evaluator = NULL;
    XFT_TRY(xft_batch_room_check("xft_evaluator_create", tokens, sequences));
    xft_network network = xft_evaluator_network(&model->config, &model->weights, model->options.dtype, tokens,
                                                sequences, logits, official);
    return create(model->device, &network, evaluator);
}

xft_status xft_trainer_evaluator(xft_trainer *trainer, uint32_t tokens, uint32_t sequences, xft_evaluator **evaluator) {
    XFT_NEED(trainer, evaluator);
    *evaluator = NULL;
    XFT_TRY(xft_batch_room_check("xft_trainer_evaluator", tokens, sequences));
    const xft_trainer *t = trainer;
    xft_network network = xft_evaluator_network(t->network.config, t->network.w, t->network.dtype, tokens, sequences,
                                                false, t->options.official);
    return create(t->model->device, &network, evaluator);
}

void xft_evaluator_destroy(xft_evaluator *e) {
    if (!e) return;
    xft_stream_destroy(e->stream);
    xft_arena_destroy(e->arena);
    xft_network_free(&e->network);
    free(e);
}

xft_status xft_evaluator_run(xft_evaluator *e, const xft_batch *batch, double *loss_sum, uint64_t *labels,
                             float *logits) {
    XFT_FAIL_IF(!e || !batch, XFT_ERROR_INVALID_ARGUMENT, "xft_evaluator_run: evaluator and batch must not be NULL");
    XFT_FAIL_IF(logits && !e->network.options.all_logits, XFT_ERROR_INVALID_ARGUMENT,
                "xft_evaluator_run: the evaluator was made without room for logits");
    XFT_TRY(xft_batch_check(&e->network, xft_stream_device(e->stream), batch));
    void *slot;
    const void *outputs;
    uint64_t ticket;
    XFT_TRY(xft_stream_inputs(e->stream, &slot));
    xft_network_fill(&e->network, &e->at, batch, &(xft_step_block){.inv_labels = 1}, slot);
    XFT_TRY(xft_stream_submit(e->stream, &ticket));
    XFT_TRY(xft_stream_outputs(e->stream, ticket, &outputs));
    if (loss_sum) *loss_sum = *(const float *)(const void *)((const unsigned char *)outputs + e->loss_at);
    if (labels) {
        *labels = 0;
        for (uint32_t i = 0; batch->labels && i < batch->tokens; i++) *labels += batch->labels[i] != UINT32_MAX;
    }
    if (!logits) return XFT_OK;
    xft_tensor used;
    XFT_TRY(xft_tensor_rows(&e->network.logits, 0, batch->tokens, &used));
    return xft_tensor_read(&used, XFT_F32, logits);
}
