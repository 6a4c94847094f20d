/* Loss of a model on a dataset. */
#include "xft/score.h"

#include "callbacks.h"
#include "error.h"

#include <inttypes.h>
#include <math.h>

static xft_status sum_up(xft_evaluator *evaluator, xft_loader *loader, const xft_callbacks *callbacks, double *loss,
                         uint64_t *labels) {
    const xft_batch *batches;
    uint32_t count;
    for (uint64_t step = 0, steps = xft_loader_steps(loader); step < steps; step++) {
        XFT_TRY(xft_progress(callbacks, "evaluating", step, steps));
        XFT_TRY(xft_loader_next(loader, &batches, &count));
        for (uint32_t i = 0; i < count; i++) {
            double sum;
            uint64_t n;
            XFT_TRY(xft_evaluator_run(evaluator, &batches[i], &sum, &n, NULL));
            *loss += sum;
            *labels += n;
        }
    }
    XFT_FAIL_IF(*labels == 0, XFT_ERROR_FORMAT, "evaluation data: holds no label");
    *loss /= (double)*labels;
    XFT_FAIL_IF(!isfinite(*loss), XFT_ERROR_FORMAT, "evaluation loss over %" PRIu64 " labels is not finite", *labels);
    return XFT_OK;
}

xft_status xft_score_loss(xft_model *model, const xft_dataset *data, uint32_t micro_batch, bool packing, bool official,
                          const xft_callbacks *callbacks, double *loss, uint64_t *labels) {
    XFT_NEED(model, data, loss, labels);
    *loss = 0;
    *labels = 0;
    xft_loader *loader;
    xft_evaluator *evaluator = NULL;
    XFT_TRY(xft_loader_create(
        data, &(xft_loader_options){.batch = micro_batch, .micro_batch = micro_batch, .packing = packing}, &loader));
    xft_status status = xft_evaluator_create(model, xft_loader_tokens(loader), xft_loader_sequences(loader), false,
                                             official, &evaluator);
    if (status == XFT_OK) status = sum_up(evaluator, loader, callbacks, loss, labels);
    xft_evaluator_destroy(evaluator);
    xft_loader_destroy(loader);
    return status;
}
