/* What a person sees: sizes and times, JSON, messages, progress. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "command.h"

int print_json(json_t *json) {
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    if (!text) return fail(EXIT_FAILED, "the result cannot be written as JSON");
    return print_json_text(text);
}

int print_json_text(char *text) {
    puts(text);
    free(text);
    return EXIT_DONE;
}

enum { TEXTS = 8, TEXT_ROOM = 32 };
static char *next_text(void) {
    static char texts[TEXTS][TEXT_ROOM];
    static int next;
    return texts[next++ % TEXTS];
}

const char *size_text(uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    char *text = next_text();
    double size = (double)bytes;
    int unit = 0;
    for (; size >= 1024 && unit < 4; unit++) size /= 1024;
    snprintf(text, TEXT_ROOM, unit && size < 100 ? "%.1f %s" : "%.0f %s", size, units[unit]);
    return text;
}

const char *duration_text(double seconds) {
    char *text = next_text();
    const unsigned long s = seconds > 0 && seconds < 1e15 ? (unsigned long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(text, TEXT_ROOM, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, TEXT_ROOM, "%lu:%02lu", s / 60, s % 60);
    return text;
}

double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- One line on a terminal that is written over ---- */

static bool line_open; /* a progress line is on the terminal, without a line break */

int terminal_width(void) {
    struct winsize size;
    if (!isatty(STDERR_FILENO)) return 0;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

void close_line(void) {
    if (line_open) fputc('\n', stderr);
    line_open = false;
}

void clear_line(void) {
    if (line_open) fputs("\r\033[K", stderr);
    line_open = false;
}

void draw_line(const char *text) {
    fprintf(stderr, "\r%.*s\033[K", terminal_width() - 1, text);
    fflush(stderr);
    line_open = true;
}

void draw_bar(char *bar, size_t room, double share, int width) {
    const int full = (int)(share * width);
    size_t used = 0;
    if ((size_t)width + 3 > room) width = (int)room - 3;
    bar[used++] = '[';
    for (int i = 0; i < width; i++) bar[used++] = i < full ? '=' : i == full ? '>' : ' ';
    bar[used++] = ']';
    bar[used] = 0;
}

static void on_log(void *user, xft_log_level level, const char *text) {
    (void)user;
    clear_line();
    fprintf(stderr, "%s%s\n", level == XFT_LOG_WARNING ? "warning: " : "", text);
}

/* Loading, sampling and the like, when it takes a while: a bar on a terminal, elsewhere a line every half minute. A
 * training step has a display of its own. */
static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    static const char *current;
    static double started, drawn;
    char bar[40], text[160];
    const double now = clock_seconds();
    (void)user;
    if (!total || !strcmp(what, "micro-batch")) return !stop_signal;
    if (current != what || done <= 1) started = drawn = now;
    current = what;
    if (terminal_width() && done >= total) {
        clear_line();
    } else if (terminal_width() && now - started > 0.5 && now - drawn > 0.1) {
        drawn = now;
        draw_bar(bar, sizeof bar, (double)done / (double)total, 24);
        snprintf(text, sizeof text, "%s %s %.0f%%", what, bar, 100 * (double)done / (double)total);
        draw_line(text);
    } else if (!terminal_width() && now - drawn > 30) {
        drawn = now;
        fprintf(stderr, "%s: %.0f%%\n", what, 100 * (double)done / (double)total);
    }
    return !stop_signal;
}

const xft_callbacks console = {.log = on_log, .progress = on_progress};
