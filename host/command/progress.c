/* Progress of training: a bar with its numbers on a terminal, lines elsewhere. */
#include <math.h>
#include <stdio.h>

#include "command.h"
#include "xft/run.h"

static void step_text(const xft_run_event *e, char *text, size_t room) {
    const xft_metrics *m = &e->metrics;
    size_t used = (size_t)snprintf(text, room, "%llu/%llu", (unsigned long long)e->step, (unsigned long long)e->steps);
    if (e->eta >= 0) used += (size_t)snprintf(text + used, room - used, "  eta %s", duration_text(e->eta));
    used += (size_t)snprintf(text + used, room - used, "  loss %.4f", m->loss);
    if (m->balance != 0) used += (size_t)snprintf(text + used, room - used, "  balance %.4f", m->balance);
    snprintf(text + used, room - used, "  lr %.2e  norm %.3g  %.0f tokens/s  %s%s", m->lr, m->grad_norm,
             e->tokens_per_s, size_text(e->memory), m->skipped ? "  skipped" : "");
}

static void show_step(const char *name, const xft_run_event *e) {
    static double told, drawn;
    static uint64_t told_at;
    char numbers[200], bar[40], text[300];
    step_text(e, numbers, sizeof numbers);
    if (terminal_width()) {
        if (e->step != e->steps && clock_seconds() - drawn < 0.05) return;
        drawn = clock_seconds();
        draw_bar(bar, sizeof bar, e->steps ? (double)e->step / (double)e->steps : 0, terminal_width() > 110 ? 24 : 10);
        snprintf(text, sizeof text, "%s %s %s", name, bar, numbers);
        draw_line(text);
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
