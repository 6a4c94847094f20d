/* Progress of training: a bar with its numbers on a terminal, lines elsewhere. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "xft/run.h"

/* Since the start of this process: a single step is too short to tell a rate. */
static double started;
static uint64_t tokens;

/* "3/100 eta 1:20 loss 1.2345 …"; narrow: without what matters least. */
static void step_text(const xft_run_event *e, bool narrow, char *text, size_t room) {
    const xft_metrics *m = &e->metrics;
    const double seconds = clock_seconds() - started;
    size_t used = (size_t)snprintf(text, room, "%llu/%llu", (unsigned long long)e->step, (unsigned long long)e->steps);
    if (e->eta >= 0) used += (size_t)snprintf(text + used, room - used, " eta %s", duration_text(e->eta));
    used += (size_t)snprintf(text + used, room - used, " loss %.4f", m->loss);
    if (m->balance != 0 && !narrow) used += (size_t)snprintf(text + used, room - used, " balance %.4f", m->balance);
    snprintf(text + used, room - used, " lr %.2e norm %.3g %.0f tok/s %s%s", m->lr, m->grad_norm,
             seconds > 0 ? (double)tokens / seconds : 0, size_text(e->memory), m->skipped ? " skipped" : "");
}

/* What the numbers leave of the line is for the bar. */
static void draw_step(const char *name, const xft_run_event *e, const char *numbers) {
    char bar[40], text[300];
    int room = terminal_width() - (int)strlen(name) - (int)strlen(numbers) - 6;
    if (room > 30) room = 30;
    if (room >= 4) draw_bar(bar, sizeof bar, e->steps ? (double)e->step / (double)e->steps : 0, room);
    snprintf(text, sizeof text, "%s %s%s%s", name, room >= 4 ? bar : "", room >= 4 ? " " : "", numbers);
    draw_line(text);
}

static void show_step(const char *name, const xft_run_event *e) {
    static double told, drawn;
    static uint64_t told_at;
    char numbers[200];
    tokens += e->metrics.tokens;
    step_text(e, terminal_width() && terminal_width() < 100, numbers, sizeof numbers);
    if (terminal_width()) {
        if (e->step != e->steps && clock_seconds() - drawn < 0.05) return;
        drawn = clock_seconds();
        draw_step(name, e, numbers);
        return;
    }
    /* Elsewhere a line now and then: the first, the last, every twentieth of the way, or every half minute. */
    const uint64_t stride = e->steps / 20 + 1;
    if (e->step < told_at) told_at = 0;
    if (e->step != e->first_step + 1 && e->step != e->steps && e->step - told_at < stride &&
        clock_seconds() - told < 30)
        return;
    told = clock_seconds();
    told_at = e->step;
    fprintf(stderr, "%s %s\n", name, numbers);
}

bool show_training(void *user, const xft_run_event *e) {
    static const char *const names[] = {"sft", "tune", "merge"};
    const char *name = names[e->stage];
    (void)user;
    switch (e->kind) {
    case XFT_RUN_EVENT_START:
        clear_line();
        started = clock_seconds();
        tokens = 0;
        fprintf(stderr, "%s: %llu steps on %s, %s", name, (unsigned long long)e->steps,
                xft_device_get_info(e->device)->id, xft_device_get_info(e->device)->name);
        if (e->first_step) fprintf(stderr, ", from step %llu on", (unsigned long long)e->first_step);
        fputc('\n', stderr);
        break;
    case XFT_RUN_EVENT_STEP:
        show_step(name, e);
        break;
    case XFT_RUN_EVENT_EVAL:
        clear_line();
        fprintf(stderr, "%s step %llu: evaluation loss %.4f, perplexity %.3f\n", name, (unsigned long long)e->step,
                e->eval_loss, exp(e->eval_loss));
        break;
    case XFT_RUN_EVENT_CHECKPOINT:
        clear_line();
        fprintf(stderr, "%s step %llu: checkpoint %s\n", name, (unsigned long long)e->step, e->path);
        break;
    case XFT_RUN_EVENT_END:
        close_line();
        fprintf(stderr, "%s: done in %s: %s\n", name, duration_text(e->seconds), e->path);
        break;
    }
    return !stop_signal;
}
