/* From argv to settings and options, by the tables. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

enum {
    SFT = 1 << XFT_STAGE_SFT,
    UPCYCLE = 1 << XFT_STAGE_UPCYCLE,
    TUNE = 1 << XFT_STAGE_TUNE,
    MERGE = 1 << XFT_STAGE_MERGE,
    EVAL = 1 << XFT_STAGE_EVAL,
    GENERATE = 1 << XFT_STAGE_GENERATE,
    RUN = 1 << XFT_STAGE_RUN
};
#define TAKES(name) (1u << COMMAND_##name)

#define COMMAND(name, stages, operands, brief, about, example) {#name, stages, operands, brief, about, example},
#define OPTION(id, commands, name, argument, help)
#define ALIAS(command, name, key, value, argument, help)
const command commands[COMMAND_COUNT] = {
#include "command.def"
};
#undef COMMAND
#undef OPTION
#define COMMAND(name, stages, operands, brief, about, example)
#define OPTION(id, commands, name, argument, help) {commands, name, argument, help},
const option_row option_rows[OPTION_COUNT] = {
#include "command.def"
};
#undef OPTION
#undef ALIAS
#define OPTION(id, commands, name, argument, help)
#define ALIAS(command, name, key, value, argument, help) {COMMAND_##command, name, key, value, argument, help},
const alias_row alias_rows[] = {
#include "command.def"
};
const uint32_t alias_count = sizeof alias_rows / sizeof *alias_rows;

bool option_of(int option, int command) {
    return option_rows[option].commands & (1u << command | 1u << COMMAND_EVERY);
}

bool setting_of(const xft_setting *setting, int command) {
    return setting->stages & commands[command].stages;
}

void flag_name(const char *key, char *flag, size_t room) {
    snprintf(flag, room, "%s", key);
    for (char *c = flag; *c; c++)
        if (*c == '_') *c = '-';
}

/* ---- The flags of a command ---- */

/* What a flag of getopt_long stands for: an option, or a setting, perhaps of one stage, perhaps with a value. */
typedef struct flag {
    char name[48];
    int option; /* -1: a setting */
    char key[48];
    const char *value; /* NULL: its argument */
} flag;

typedef struct flags {
    flag *list;
    struct option *long_options;
    const char **names;
    uint32_t count, room;
} flags;

static flag *add_flag(flags *f, const char *prefix, const char *name, int has_argument) {
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 128;
        f->list = realloc(f->list, f->room * sizeof *f->list);
        f->long_options = realloc(f->long_options, (f->room + 1) * sizeof *f->long_options);
        if (!f->list || !f->long_options) exit(fail(EXIT_FAILED, "no memory left"));
    }
    flag *added = &f->list[f->count];
    char dashed[40];
    flag_name(name, dashed, sizeof dashed);
    *added = (flag){.option = -1};
    snprintf(added->name, sizeof added->name, "%s%s", prefix, dashed);
    f->long_options[f->count] = (struct option){.has_arg = has_argument, .val = 256 + (int)f->count};
    f->count++;
    return added;
}

static void add_setting(flags *f, const xft_setting *s, const char *stage) {
    const bool is_switch = s->type == XFT_SETTING_BOOL;
    char prefix[24] = "", negated[32] = "no-";
    if (*stage) snprintf(prefix, sizeof prefix, "%s.", stage);
    flag *on = add_flag(f, prefix, s->key, is_switch ? optional_argument : required_argument);
    snprintf(on->key, sizeof on->key, "%s%s", prefix, s->key);
    if (!is_switch) return;
    snprintf(negated, sizeof negated, "%sno-", prefix);
    flag *off = add_flag(f, negated, s->key, no_argument);
    snprintf(off->key, sizeof off->key, "%s%s", prefix, s->key);
    off->value = "no";
}

static void make_flags(int command, flags *f) {
    const xft_setting *s;
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_of(i, command))
            add_flag(f, "", option_rows[i].name, *option_rows[i].argument ? required_argument : no_argument)->option =
                i;
    for (uint32_t i = 0; i < alias_count; i++) {
        if (alias_rows[i].command != command) continue;
        flag *added = add_flag(f, "", alias_rows[i].name, alias_rows[i].value ? no_argument : required_argument);
        snprintf(added->key, sizeof added->key, "%s", alias_rows[i].key);
        added->value = alias_rows[i].value;
    }
    for (uint32_t i = 0; (s = xft_settings_row(i)); i++) {
        if (!setting_of(s, command)) continue;
        add_setting(f, s, "");
        const bool several = commands[command].stages & (commands[command].stages - 1);
        for (int stage = 0; several && stage < XFT_STAGE_RUN; stage++)
            if (commands[command].stages & s->stages & 1u << stage) add_setting(f, s, xft_stage_name((xft_stage)stage));
    }
    f->names = calloc(f->count, sizeof *f->names);
    if (!f->names) exit(fail(EXIT_FAILED, "no memory left"));
    for (uint32_t i = 0; i < f->count; i++) f->names[i] = f->long_options[i].name = f->list[i].name;
    f->long_options[f->count] = (struct option){0};
}

/* ---- Parsing ---- */

static int fail_usage(const call *call, const char *format, const char *what, const char *near) {
    char text[400];
    snprintf(text, sizeof text, format, what);
    return near ? fail(EXIT_USAGE, "%s; did you mean --%s?", text, near)
                : fail(EXIT_USAGE, "%s; see xft help %s", text, commands[call->command].name);
}

static int unknown_option(const call *call, const flags *f, const char *argument) {
    char name[80];
    const xft_setting *s;
    if (argument[1] != '-') return fail_usage(call, "unknown option \"%s\"", argument, NULL);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument + 2, "="), argument + 2);
    s = xft_settings_find(name);
    if (s && !setting_of(s, call->command)) return fail_usage(call, "--%s has no meaning here", name, NULL);
    return fail_usage(call, "unknown option --%s", name, xft_nearest(name, f->names, f->count));
}

/* Takes what getopt_long has found. */
static int take(call *call, const flags *f, int found, char **argv) {
    const flag *flag = &f->list[found - 256];
    /* getopt_long takes beginnings of names, too; here a name is a name, so that a slip is not taken for another. */
    const char *typed = argv[optind - 1];
    if (optarg && typed == optarg) typed = argv[optind - 2];
    if (strcspn(typed + 2, "=") != strlen(flag->name)) return unknown_option(call, f, typed);
    const char *value = flag->value ? flag->value : optarg;
    if (flag->option >= 0) {
        call->option_ids[call->option_count] = flag->option;
        call->options[call->option_count++] = value ? value : "";
        return EXIT_DONE;
    }
    if (xft_settings_set(call->settings, flag->key, value ? value : "yes")) return fail(EXIT_USAGE, "%s", xft_error());
    return EXIT_DONE;
}

static int parse_flags(call *call, int argc, char **argv, flags *f) {
    /* Everything behind `bench ops` belongs to the benchmark: "+" stops at the first operand. */
    const char *order = call->command == COMMAND_bench ? "+:h" : ":h";
    opterr = 0;
    optind = 0;
    for (int found; (found = getopt_long(argc, argv, order, f->long_options, NULL)) != -1;) {
        int code = EXIT_DONE;
        if (found == 'h') {
            call->option_ids[call->option_count] = OPTION_HELP;
            call->options[call->option_count++] = "";
        } else if (found == ':') {
            return fail_usage(call, "%s needs a value", argv[optind - 1], NULL);
        } else if (found == '?') {
            return optopt >= 256 ? fail_usage(call, "--%s takes no value", f->names[optopt - 256], NULL)
                                 : unknown_option(call, f, argv[optind - 1]);
        } else {
            code = take(call, f, found, argv);
        }
        if (code != EXIT_DONE) return code;
    }
    call->operands = argv + optind;
    call->operand_count = argc - optind;
    return EXIT_DONE;
}

static int check_operands(const call *call) {
    const char *expected = commands[call->command].operands;
    const bool many = strstr(expected, "…") != NULL;
    if (*expected && *expected != '[' && call->operand_count == 0)
        return fail_usage(call, "%s is missing", expected, NULL);
    if (call->command == COMMAND_bench) return EXIT_DONE; /* it looks for itself */
    if (!many && call->operand_count > (*expected ? 1 : 0))
        return fail_usage(call, "unexpected argument \"%s\"", call->operands[*expected ? 1 : 0], NULL);
    return EXIT_DONE;
}

const char *call_option(const call *call, int option) {
    for (uint32_t i = call->option_count; i-- > 0;)
        if (call->option_ids[i] == option) return call->options[i];
    return NULL;
}

int call_parse(int command, int argc, char **argv, call *call) {
    flags f = {0};
    *call = (struct call){.command = command};
    call->options = calloc((size_t)argc + 1, sizeof *call->options);
    call->option_ids = calloc((size_t)argc + 1, sizeof *call->option_ids);
    if (!call->options || !call->option_ids || xft_settings_create(&call->settings))
        return fail(EXIT_FAILED, "no memory left");
    make_flags(command, &f);
    /* --micro_batch is --micro-batch */
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        for (char *c = argv[i]; !strncmp(argv[i], "--", 2) && *c && *c != '='; c++)
            if (*c == '_') *c = '-';
    int code = parse_flags(call, argc, argv, &f);
    free(f.list);
    free(f.long_options);
    free(f.names);
    if (code != EXIT_DONE) return code;
    call->json = call_option(call, OPTION_JSON) != NULL;
    if (call_option(call, OPTION_HELP)) return EXIT_DONE;
    code = check_operands(call);
    const char *config =
        command == COMMAND_run && code == EXIT_DONE ? call->operands[0] : call_option(call, OPTION_CONFIG);
    if (code == EXIT_DONE && config && xft_settings_load(call->settings, config))
        return fail(EXIT_FAILED, "%s", xft_error());
    return code;
}

void call_free(call *call) {
    xft_settings_destroy(call->settings);
    free(call->options);
    free(call->option_ids);
}
