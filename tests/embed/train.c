/* train DEVICE FOLDER: a program outside the tree trains FOLDER/moe on FOLDER/data.jsonl with the installed library:
 * stops in the middle, goes on, saves the result once more as shards of bf16, and shows that nothing is left alive. */
#include <fcntl.h>
#include <stdio.h>
#include <xft/checkpoint.h>
#include <xft/run.h>

enum { STEPS = 12, STOP = 5 };

typedef struct watcher {
    int steps, stop, last;
    double first_loss, loss;
} watcher;

static bool watch(void *user, const xft_run_event *event) {
    watcher *w = user;
    if (event->kind != XFT_RUN_EVENT_STEP) return true;
    printf("step %d of %d: loss %.3f, %.0f tokens/s\n", (int)event->step, (int)event->steps, event->metrics.loss,
           event->tokens_per_s);
    if (w->steps++ == 0) w->first_loss = event->metrics.loss;
    w->loss = event->metrics.loss;
    w->last = (int)event->step;
    return w->last != w->stop;
}

static int open_files(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Nothing but the device itself, which keeps the kernels it has compiled: always the same ones. */
static int alive(const xft_device *device, const char *when) {
    static int files = -1;
    static uint64_t kernels;
    xft_device_counters c;
    xft_device_get_counters(device, &c);
    if (files < 0) files = open_files(), kernels = c.kernels;
    if (!c.buffers && !c.buffer_bytes && !c.programs && c.kernels == kernels && open_files() == files) return 0;
    printf("left alive %s: %d buffers, %d programs, %d kernels of %d, %d files of %d\n", when, (int)c.buffers,
           (int)c.programs, (int)c.kernels, (int)kernels, open_files(), files);
    return 1;
}

static int train(xft_device *device, const char *folder, char *output, size_t room) {
    char model[500], data[500];
    const char *files[] = {data};
    snprintf(model, sizeof model, "%s/moe", folder);
    snprintf(data, sizeof data, "%s/data.jsonl", folder);
    snprintf(output, room, "%s/embedded", folder);
    watcher w = {.stop = STOP};
    xft_run_result result;
    xft_run_options options = {.stage = XFT_RUN_TUNE,
                               .model = model,
                               .output = output,
                               .opened = device,
                               .data = files,
                               .data_count = 1,
                               .length = 24,
                               .batch = 6,
                               .micro_batch = 3,
                               .max_steps = STEPS,
                               .lr = 3e-3,
                               .seed = 1,
                               .user = &w,
                               .event = watch};
    if (xft_run(&options, &result) != XFT_ERROR_CANCELLED) {
        printf("it did not stop: %s\n", xft_error());
        return 1;
    }
    printf("%s\n", xft_error());
    if (alive(device, "after the stop")) return 1;
    double first = w.first_loss;
    w = (watcher){0};
    if (xft_run(&options, &result)) {
        printf("it does not go on: %s\n", xft_error());
        return 1;
    }
    if (result.first_step < STOP || result.steps != STEPS || w.last != STEPS || !(w.loss < first)) {
        printf("resumed at %d, ended at %d, loss %g after %g\n", (int)result.first_step, (int)result.steps, w.loss,
               first);
        return 1;
    }
    return alive(device, "after the run");
}

static int save_again(xft_device *device, const char *output) {
    xft_model *model, *back = NULL;
    char folder[600];
    snprintf(folder, sizeof folder, "%s-bf16", output);
    if (xft_checkpoint_load(device, output, NULL, &model)) {
        printf("the result does not load: %s\n", xft_error());
        return 1;
    }
    xft_save_options options = {.dtype = XFT_BF16, .shard_size = 20000, .carry = output};
    int failed = xft_checkpoint_save(model, folder, &options) || xft_checkpoint_load(device, folder, NULL, &back);
    if (failed) printf("saving: %s\n", xft_error());
    xft_model_destroy(back);
    xft_model_destroy(model);
    return failed || alive(device, "after saving");
}

int main(int argc, char **argv) {
    xft_device *device;
    char output[520];
    if (argc < 3) return 2;
    if (xft_device_open(argv[1], NULL, &device)) {
        printf("%s\n", xft_error());
        return 1;
    }
    int failed = train(device, argv[2], output, sizeof output) || save_again(device, output);
    xft_device_close(device);
    if (!failed) printf("trained, stopped, resumed and saved on %s\n", argv[1]);
    return failed;
}
