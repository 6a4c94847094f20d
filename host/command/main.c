/* xft: from a Hugging Face checkpoint to a merged model. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

volatile sig_atomic_t stop_signal;

/* The second signal ends the process: SA_RESETHAND has put the default back. */
static void on_signal(int number) {
    stop_signal = number;
}

int fail(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("xft: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return code;
}

int fail_status(xft_status status) {
    return fail(status == XFT_ERROR_CANCELLED ? EXIT_STOPPED : EXIT_FAILED, "%s", xft_error());
}

int run_help(call *call) {
    int found = COMMAND_COUNT;
    for (int i = 0; call->operand_count && i < COMMAND_COUNT; i++)
        if (!strcmp(commands[i].name, call->operands[0])) found = i;
    if (call->operand_count && found == COMMAND_COUNT)
        return fail(EXIT_USAGE, "there is no command \"%s\"", call->operands[0]);
    print_help(found, stdout);
    return EXIT_DONE;
}

static int unknown_command(const char *word) {
    const char *names[COMMAND_COUNT];
    for (int i = 0; i < COMMAND_COUNT; i++) names[i] = commands[i].name;
    const char *near = xft_nearest(word, names, COMMAND_COUNT);
    return near ? fail(EXIT_USAGE, "there is no command \"%s\"; did you mean %s?", word, near)
                : fail(EXIT_USAGE, "there is no command \"%s\"; xft help lists them", word);
}

/* xft --help, --version, and what the build makes from the tables. */
static int run_global(int argc, char **argv) {
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_help(COMMAND_COUNT, stdout);
        return EXIT_DONE;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("xft %s\n", xft_version());
        return EXIT_DONE;
    }
    if (!strcmp(argv[1], "--man")) {
        print_man(stdout);
        return EXIT_DONE;
    }
    if (!strcmp(argv[1], "--completion")) {
        if (argc == 3 && print_completion(argv[2], stdout)) return EXIT_DONE;
        return fail(EXIT_USAGE, "--completion needs the name of a shell: bash, zsh or fish");
    }
    return fail(EXIT_USAGE, "unknown option %s; see xft help", argv[1]);
}

int main(int argc, char **argv) {
    static int (*const functions[COMMAND_COUNT])(call *) = {
#define COMMAND(name, stages, operands, brief, about, example) run_##name,
#define OPTION(id, commands, name, argument, help)
#define ALIAS(command, name, key, value, argument, help)
#include "command.def"
#undef COMMAND
#undef OPTION
#undef ALIAS
    };
    int command = 0;
    call call;
    if (argc < 2) {
        print_help(COMMAND_COUNT, stderr);
        return EXIT_USAGE;
    }
    if (argv[1][0] == '-') return run_global(argc, argv);
    while (command < COMMAND_COUNT && strcmp(commands[command].name, argv[1])) command++;
    if (command == COMMAND_COUNT) return unknown_command(argv[1]);

    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int code = call_parse(command, argc - 1, argv + 1, &call);
    if (code == EXIT_DONE && call_option(&call, OPTION_HELP))
        print_help(command, stdout);
    else if (code == EXIT_DONE)
        code = functions[command](&call);
    call_free(&call);
    if (fflush(stdout) || ferror(stdout)) code = fail(EXIT_FAILED, "cannot write to standard output");
    return code;
}
