/* The parts of the `xft` command. It uses public headers only: settings from the command line, calls of the library,
 * printing. */
#ifndef XFT_COMMAND_H
#define XFT_COMMAND_H

#include <jansson.h>
#include <signal.h>
#include <stdio.h>

#include "xft/callbacks.h"
#include "xft/run.h"
#include "xft/settings.h"

/* Exit codes; 128 + SIGINT after a stop. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 130 };

/* ---- Tables ---- */

enum {
#define COMMAND(name, stages, operands, brief, about, example) COMMAND_##name,
#define OPTION(id, commands, name, argument, help)
#define ALIAS(command, name, key, value, argument, help)
#include "command.def"
#undef COMMAND
#undef OPTION
    COMMAND_COUNT,
    COMMAND_EVERY = 31 /* OPTION rows: for all commands */
};
enum {
#define COMMAND(name, stages, operands, brief, about, example)
#define OPTION(id, commands, name, argument, help) OPTION_##id,
#include "command.def"
#undef COMMAND
#undef OPTION
#undef ALIAS
    OPTION_COUNT
};

typedef struct command {
    const char *name;
    uint32_t stages;
    const char *operands, *brief, *about, *example;
} command;
extern const command commands[COMMAND_COUNT];

typedef struct option_row {
    uint32_t commands; /* bit 1 << COMMAND_… */
    const char *name, *argument, *help;
} option_row;
extern const option_row option_rows[OPTION_COUNT];

typedef struct alias_row {
    int command;
    const char *name, *key, *value, *argument, *help;
} alias_row;
extern const alias_row alias_rows[];
extern const uint32_t alias_count;

/* Whether an option belongs to a command. */
bool option_of(int option, int command);
/* Whether a setting belongs to a command. */
bool setting_of(const xft_setting *setting, int command);
/* "micro-batch" for "micro_batch", in a buffer of `room` bytes. */
void flag_name(const char *key, char *flag, size_t room);

/* ---- A call ---- */

typedef struct call {
    int command;
    xft_settings *settings;
    const char **options; /* pairs of OPTION_ number and value, in the order they were given */
    int *option_ids;
    uint32_t option_count;
    char **operands;
    int operand_count;
    bool json;
} call;

/* The last value of an option: "" for one without argument, NULL when it was not given. */
const char *call_option(const call *call, int option);

/* Reads flags and the configuration file. argv[0] is the subcommand. Returns EXIT_DONE, or an exit code after telling
 * what was wrong. */
int call_parse(int command, int argc, char **argv, call *call);
void call_free(call *call);

/* ---- Subcommands: they return an exit code ---- */

#define COMMAND(name, stages, operands, brief, about, example) int run_##name(call *call);
#define OPTION(id, commands, name, argument, help)
#define ALIAS(command, name, key, value, argument, help)
#include "command.def"
#undef COMMAND
#undef OPTION
#undef ALIAS

/* ---- Telling ---- */

/* Set by SIGINT and SIGTERM. */
extern volatile sig_atomic_t stop_signal;

/* "xft: " and the message on stderr; the exit code. */
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a status of the library, with its message; XFT_ERROR_CANCELLED is EXIT_STOPPED. */
int fail_status(xft_status status);

/* Prints an object on stdout and frees it. */
int print_json(json_t *json);
/* Prints a JSON text of the library, and frees it. */
int print_json_text(char *text);

/* "1.5 GiB", in one of a few buffers that are used by turns. */
const char *size_text(uint64_t bytes);
/* "1:02:03" */
const char *duration_text(double seconds);

/* Log lines and progress on stderr. */
extern const xft_callbacks console;

/* Progress of training: a bar on a terminal, lines elsewhere. false when a signal has come. */
bool show_training(void *user, const xft_run_event *event);

/* Columns of the terminal on stderr; 0: it is none. */
int terminal_width(void);
/* A line of the terminal that is written over until it is closed by a line break, or cleared. */
void draw_line(const char *text);
void clear_line(void);
void close_line(void);
/* "[===>   ]" for a share from 0 to 1, `width` characters between the brackets. */
void draw_bar(char *bar, size_t room, double share, int width);

/* Seconds of a clock that only goes forward. */
double clock_seconds(void);

/* ---- Help ---- */

void print_help(int command, FILE *file); /* COMMAND_COUNT: of xft itself */
void print_man(FILE *file);
/* Completion for bash, zsh or fish; false for another shell. */
bool print_completion(const char *shell, FILE *file);

#endif
