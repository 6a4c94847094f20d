/* xft_logits DEVICE FOLDER OUT ID…: the logits of a model for a sequence of ids, as [ids, vocabulary] f32 in OUT; for
 * tests/real_model.sh. */
#include "xft/checkpoint.h"
#include "xft/train.h"

#include <stdio.h>
#include <stdlib.h>

static int run(xft_device *device, const char *folder, const char *path, const uint32_t *ids, uint32_t count) {
    const uint32_t cu_seqlens[] = {0, count};
    const xft_batch batch = {.tokens = count, .sequences = 1, .ids = ids, .cu_seqlens = cu_seqlens};
    xft_model *model = NULL;
    xft_evaluator *evaluator = NULL;
    float *logits = NULL;
    double loss;
    uint64_t labels;
    bool ok = xft_checkpoint_load(device, folder, NULL, &model) == XFT_OK &&
              xft_evaluator_create(model, count, 1, true, false, &evaluator) == XFT_OK;
    if (ok) {
        size_t elements = (size_t)count * xft_model_get_config(model)->vocab_size;
        FILE *out = fopen(path, "wb");
        logits = malloc(elements * sizeof *logits);
        ok = out && logits && xft_evaluator_run(evaluator, &batch, &loss, &labels, logits) == XFT_OK &&
             fwrite(logits, sizeof *logits, elements, out) == elements;
        if (out && fclose(out)) ok = false;
    }
    if (!ok) fprintf(stderr, "%s\n", xft_error());
    free(logits);
    xft_evaluator_destroy(evaluator);
    xft_model_destroy(model);
    return !ok;
}

int main(int argc, char **argv) {
    enum { MOST = 1024 };
    uint32_t ids[MOST];
    xft_device *device;
    if (argc < 5 || argc - 4 > MOST) return 2;
    for (int i = 4; i < argc; i++) ids[i - 4] = (uint32_t)strtoul(argv[i], NULL, 10);
    if (xft_device_open(argv[1], NULL, &device)) {
        fprintf(stderr, "%s\n", xft_error());
        return 1;
    }
    int failed = run(device, argv[2], argv[3], ids, (uint32_t)(argc - 4));
    xft_device_close(device);
    return failed;
}
