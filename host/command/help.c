/* Help, man page and shell completion, all from the tables. */
#include <string.h>

#include "command.h"

enum { WIDTH = 100, COLUMN = 30 };

/* ---- What is said of an option ---- */

/* Calls `visit` for every flag of a command in the order of the tables; group is its heading. */
typedef void flag_visitor(void *user, const char *group, const char *name, const xft_setting *setting,
                          const char *argument, const char *help);

static void each_flag(int command, flag_visitor *visit, void *user) {
    const xft_setting *s;
    char name[48];
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_of(i, command))
            visit(user, "Options", option_rows[i].name, NULL, option_rows[i].argument, option_rows[i].help);
    for (uint32_t i = 0; i < alias_count; i++)
        if (alias_rows[i].command == command)
            visit(user, "Options", alias_rows[i].name, NULL, alias_rows[i].argument, alias_rows[i].help);
    for (uint32_t i = 0; (s = xft_settings_row(i)); i++) {
        if (!setting_of(s, command)) continue;
        flag_name(s->key, name, sizeof name);
        visit(user, s->group, name, s, s->argument, s->help);
    }
}

static void append(char *text, size_t room, const char *more) {
    const size_t used = strlen(text);
    snprintf(text + used, room - used, "%s", more);
}

/* "a, b or c" of "a|b|c" */
static void append_choices(char *text, size_t room, const char *choices) {
    for (const char *word = choices; *word;) {
        const size_t length = strcspn(word, "|");
        char one[40];
        const bool last = !word[length];
        const bool last_but_one = !last && !strchr(word + length + 1, '|');
        snprintf(one, sizeof one, "%.*s%s", (int)length, word, last ? "" : last_but_one ? " or " : ", ");
        append(text, room, one);
        word += length + !last;
    }
}

/* "default: 5; tune: 4; merge: 1; with compat official: …" for some stages. */
static void append_default(char *text, size_t room, const xft_setting *s, uint32_t stages) {
    const char *first = NULL;
    char part[80];
    for (int stage = 0; stage < XFT_STAGE_COUNT; stage++) {
        if (!(stages >> stage & 1)) continue;
        const char *value = xft_setting_default(s, (xft_stage)stage, false);
        if (!*value || !strcmp(value, "-1")) return;
        if (!first) {
            first = value;
            snprintf(part, sizeof part, " (default: %s", value);
            append(text, room, part);
        } else if (strcmp(first, value)) {
            snprintf(part, sizeof part, "; %s: %s", xft_stage_name((xft_stage)stage), value);
            append(text, room, part);
        }
    }
    const char *told = "";
    for (int stage = 0; stage < XFT_STAGE_COUNT; stage++) {
        const char *official = xft_setting_default(s, (xft_stage)stage, true);
        if (!(stages >> stage & 1) || !strcmp(official, xft_setting_default(s, (xft_stage)stage, false))) continue;
        if (!strcmp(told, official)) continue;
        told = official;
        snprintf(part, sizeof part, "; with compat official: %s", official);
        append(text, room, part);
    }
    append(text, room, ")");
}

static void describe(char *text, size_t room, const xft_setting *s, const char *help, uint32_t stages) {
    snprintf(text, room, "%s", help);
    if (!s) return;
    if (s->type == XFT_SETTING_LIST) append(text, room, "; may be given several times");
    if (s->choices) {
        append(text, room, ": ");
        append_choices(text, room, s->choices);
    }
    append_default(text, room, s, s->stages & stages);
}

/* ---- Help ---- */

/* Wraps text at `column`; the cursor is at `at`. */
static void print_wrapped(FILE *file, const char *text, int column, int at) {
    fprintf(file, "%*s", column > at ? column - at : 0, "");
    at = column;
    while (*text) {
        const int length = (int)strcspn(text, " ");
        if (at > column && at + 1 + length > WIDTH) {
            fprintf(file, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', file);
            at++;
        }
        fprintf(file, "%.*s", length, text);
        at += length;
        text += length;
        while (*text == ' ') text++;
    }
    fputc('\n', file);
}

typedef struct page {
    FILE *file;
    int command;
    const char *group;
} page;

static void help_flag(void *user, const char *group, const char *name, const xft_setting *setting, const char *argument,
                      const char *help) {
    page *p = user;
    char text[600];
    if (!p->group || strcmp(p->group, group)) fprintf(p->file, "\n%s\n", group);
    p->group = group;
    const char *no = setting && setting->type == XFT_SETTING_BOOL ? "[no-]" : "";
    int at = fprintf(p->file, "  --%s%s%s%s", no, name, *argument ? " " : "", argument);
    if (at >= COLUMN) {
        fputc('\n', p->file);
        at = 0;
    }
    describe(text, sizeof text, setting, help, commands[p->command].stages);
    print_wrapped(p->file, text, COLUMN, at);
}

static const char *synopsis(int command) {
    static char text[200];
    const char *operands = commands[command].operands;
    snprintf(text, sizeof text, "xft %s%s%s%s", commands[command].name, *operands ? " " : "", operands,
             command == COMMAND_bench   ? " | --compare FILE FILE"
             : commands[command].stages ? " [--SETTING VALUE…]"
                                        : "");
    return text;
}

void print_help(int command, FILE *file) {
    if (command < COMMAND_COUNT) {
        const struct command *c = &commands[command];
        page p = {file, command, NULL};
        fprintf(file, "xft %s: %s\n\n    %s\n\n", c->name, c->brief, synopsis(command));
        print_wrapped(file, c->about, 0, 0);
        each_flag(command, help_flag, &p);
        if (c->stages & (c->stages - 1)) {
            fputc('\n', file);
            print_wrapped(file,
                          "A setting holds for all stages; --STAGE.SETTING, such as --tune.lr, is for one. In the file "
                          "a section tune: does the same.",
                          0, 0);
        }
        fprintf(file, "\nExample\n  %s\n", c->example);
        return;
    }
    fprintf(file, "xft: upcycle a language model to a mixture of experts, tune it, merge it back\n\n"
                  "    xft COMMAND [--SETTING VALUE…]\n\nCommands\n");
    for (int i = 0; i < COMMAND_COUNT; i++) fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].brief);
    fprintf(file, "\n  --version  print the version\n  --help     print this\n\n"
                  "xft help COMMAND explains a command. Every setting may stand in a YAML file, too (--config FILE):\n"
                  "keys at its top hold for all stages, sections sft:, upcycle:, tune:, merge:, eval: and generate:\n"
                  "for one of them; flags go over the file.\n\n"
                  "Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by a signal.\n");
}

/* ---- Man page ---- */

/* Text of roff: a backslash, and a dash that is to be copied, are escaped; a line must not begin with . or '. */
static void roff(FILE *file, const char *text) {
    if (*text == '.' || *text == '\'') fputs("\\&", file);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", file);
        else if (*text == '-')
            fputs("\\-", file);
        else if (*text == '`')
            fputs("\\(ga", file);
        else if (!strncmp(text, "…", strlen("…"))) {
            fputs("\\&...", file);
            text += strlen("…") - 1;
        } else
            fputc(*text, file);
    }
}

static void man_entry(FILE *file, const char *name, const xft_setting *setting, const char *argument,
                      const char *help) {
    char text[600];
    fputs(".TP\n.B \\-\\-", file);
    if (setting && setting->type == XFT_SETTING_BOOL) fputs("[no\\-]", file);
    roff(file, name);
    if (*argument) fprintf(file, " \\fI%s\\fP", argument);
    fputc('\n', file);
    describe(text, sizeof text, setting, help, UINT32_MAX);
    roff(file, text);
    fputc('\n', file);
}

/* Options are explained with their command, settings once for all. */
static void man_option(void *user, const char *group, const char *name, const xft_setting *setting,
                       const char *argument, const char *help) {
    page *p = user;
    (void)group;
    if (!setting) man_entry(p->file, name, NULL, argument, help);
}

static void man_setting_name(void *user, const char *group, const char *name, const xft_setting *setting,
                             const char *argument, const char *help) {
    page *p = user;
    (void)argument;
    (void)help;
    if (!setting) return;
    fputs(p->group ? ",\n" : ".PP\nSettings:\n", p->file);
    p->group = group;
    roff(p->file, name);
}

static void man_settings(FILE *file) {
    const xft_setting *s;
    const char *group = "";
    char name[48], help[400];
    fputs(".SH SETTINGS\nEvery setting may stand in a YAML file (\\fB\\-\\-config\\fP, and the operand of \\fBxft "
          "run\\fP).\nKeys at its top hold for all stages, sections \\fBsft:\\fP, \\fBupcycle:\\fP, "
          "\\fBtune:\\fP,\n\\fBmerge:\\fP, \\fBeval:\\fP and \\fBgenerate:\\fP for one. Flags go over the "
          "file;\n\\fB\\-\\-\\fISTAGE\\fB.\\fISETTING\\fR is a flag for one stage.\nRelative paths start from the "
          "working directory.\n",
          file);
    for (uint32_t i = 0; (s = xft_settings_row(i)); i++) {
        if (strcmp(group, s->group)) fprintf(file, ".SS %s\n", s->group);
        group = s->group;
        flag_name(s->key, name, sizeof name);
        snprintf(help, sizeof help, "(");
        for (int stage = 0; stage < XFT_STAGE_COUNT; stage++) {
            if (!(s->stages >> stage & 1)) continue;
            if (help[1]) append(help, sizeof help, ", ");
            append(help, sizeof help, xft_stage_name((xft_stage)stage));
        }
        append(help, sizeof help, ") ");
        append(help, sizeof help, s->help);
        man_entry(file, name, s, s->argument, help);
    }
}

void print_man(FILE *file) {
    fprintf(
        file,
        ".TH XFT 1 \"\" \"xft %s\" \"User Commands\"\n.SH NAME\nxft \\- upcycle a language model to a mixture of "
        "experts, tune it, merge it back\n.SH SYNOPSIS\n.B xft\n.I COMMAND\n[\\fB\\-\\-\\fISETTING VALUE\\fR]...\n"
        ".SH DESCRIPTION\nXFT makes a better instruction\\-tuned language model of the same size: a dense model is\n"
        "upcycled into a mixture of experts with a shared expert, the mixture is tuned on instructions, and its\n"
        "experts are merged back into a dense model.\n.B xft\ndoes all of it on GPUs and CPUs, by Vulkan and "
        "OpenCL.\n.SH COMMANDS\n",
        xft_version());
    for (int i = 0; i < COMMAND_COUNT; i++) {
        page p = {file, i, NULL};
        fprintf(file, ".SS ");
        roff(file, synopsis(i));
        fputc('\n', file);
        roff(file, commands[i].about);
        fputc('\n', file);
        each_flag(i, man_option, &p);
        each_flag(i, man_setting_name, &p);
        if (p.group) fputs(".\n", file);
        fputs(".PP\nExample:\n.PP\n.nf\n.RS\n", file);
        roff(file, commands[i].example);
        fputs("\n.RE\n.fi\n", file);
    }
    man_settings(file);
    fputs(".SH FILES\nThe output folder of a training stage holds the model, \\fIrun.json\\fP, \\fIlog.jsonl\\fP,\n"
          "\\fIreport.html\\fP and \\fIcheckpoints/\\fP.\n.SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\nfailed; one message "
          "on standard error\n.TP\n2\nwrong usage\n.TP\n130\nstopped by a signal; training has written a checkpoint\n"
          ".SH ENVIRONMENT\n.TP\n.B XDG_CACHE_HOME\nwhere compiled kernels and measurements are remembered, in "
          "\\fIxftgpu/\\fP (default: \\fI~/.cache\\fP)\n",
          file);
}

/* ---- Completion ---- */

static void word_flag(void *user, const char *group, const char *name, const xft_setting *setting, const char *argument,
                      const char *help) {
    page *p = user;
    (void)group;
    (void)argument;
    (void)help;
    fprintf(p->file, " --%s", name);
    if (setting && setting->type == XFT_SETTING_BOOL) fprintf(p->file, " --no-%s", name);
}

static void words_of(FILE *file, const char *choices) {
    for (; *choices; choices++) fputc(*choices == '|' ? ' ' : *choices, file);
}

static void print_bash(FILE *file) {
    const xft_setting *s;
    char name[48];
    fputs("# Completion of xft for bash.\n_xft() {\n    local current=${COMP_WORDS[COMP_CWORD]} "
          "previous=${COMP_WORDS[COMP_CWORD-1]} words\n    if [ \"$COMP_CWORD\" = 1 ]; then\n        words=\"",
          file);
    for (int i = 0; i < COMMAND_COUNT; i++) fprintf(file, "%s ", commands[i].name);
    fputs("--help --version\"\n        COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n        return\n    fi\n"
          "    case $previous in\n",
          file);
    for (uint32_t i = 0; (s = xft_settings_row(i)); i++) {
        if (!s->choices) continue;
        flag_name(s->key, name, sizeof name);
        fprintf(file, "    --%s) words=\"", name);
        words_of(file, s->choices);
        fputs("\" ;;\n", file);
    }
    fputs("    help) words=\"", file);
    for (int i = 0; i < COMMAND_COUNT; i++) fprintf(file, "%s%s", i ? " " : "", commands[i].name);
    fputs("\" ;;\n    bench) words=\"ops step tune --compare --help\" ;;\n    esac\n"
          "    if [ -z \"$words\" ] && [[ $current == -* ]]; then\n        case ${COMP_WORDS[1]} in\n",
          file);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        page p = {file, i, NULL};
        fprintf(file, "        %s) words=\"", commands[i].name);
        each_flag(i, word_flag, &p);
        fputs("\" ;;\n", file);
    }
    fputs("        esac\n    fi\n    if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
          "    else COMPREPLY=($(compgen -f -- \"$current\")); fi\n}\ncomplete -o filenames -F _xft xft\n",
          file);
}

/* A text between single quotes; zsh's _arguments takes [ ] and : for its own. */
static void quoted(FILE *file, const char *text, const char *escaped) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", file);
        else if (strchr(escaped, *text))
            fprintf(file, "\\%c", *text);
        else
            fputc(*text, file);
    }
}

static void zsh_flag(void *user, const char *group, const char *name, const xft_setting *setting, const char *argument,
                     const char *help) {
    page *p = user;
    (void)group;
    fprintf(p->file, "            '*--%s%s[", name, *argument ? "=" : "");
    quoted(p->file, help, "[]:\\");
    fputc(']', p->file);
    if (setting && setting->choices) {
        fprintf(p->file, ":%s:(", argument);
        words_of(p->file, setting->choices);
        fputc(')', p->file);
    } else if (*argument) {
        fprintf(p->file, ":%s:_files", argument);
    }
    fputs("' \\\n", p->file);
    if (setting && setting->type == XFT_SETTING_BOOL) fprintf(p->file, "            '--no-%s' \\\n", name);
}

static void print_zsh(FILE *file) {
    fputs("#compdef xft\n# Completion of xft for zsh.\n_xft() {\n    local -a names\n    names=(\n", file);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        fprintf(file, "        '%s:", commands[i].name);
        quoted(file, commands[i].brief, ":\\");
        fputs("'\n", file);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then _describe command names; return; fi\n    local name=$words[2]\n"
          "    shift words\n    (( CURRENT-- ))\n    case $name in\n",
          file);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        page p = {file, i, NULL};
        fprintf(file, "    %s)\n        _arguments \\\n", commands[i].name);
        each_flag(i, zsh_flag, &p);
        fputs("            '*:file:_files' ;;\n", file);
    }
    fputs("    esac\n}\nif [ \"$funcstack[1]\" = _xft ]; then _xft \"$@\"; else compdef _xft xft; fi\n", file);
}

static void fish_flag(void *user, const char *group, const char *name, const xft_setting *setting, const char *argument,
                      const char *help) {
    page *p = user;
    (void)group;
    fprintf(p->file, "complete -c xft -n '__fish_seen_subcommand_from %s' -l %s", commands[p->command].name, name);
    if (setting && setting->choices) {
        fputs(" -x -a '", p->file);
        words_of(p->file, setting->choices);
        fputc('\'', p->file);
    } else if (*argument) {
        fputs(" -r", p->file);
    }
    fputs(" -d '", p->file);
    for (; *help; help++) fprintf(p->file, strchr("'\\", *help) ? "\\%c" : "%c", *help);
    fputs("'\n", p->file);
}

static void print_fish(FILE *file) {
    fputs("# Completion of xft for fish.\n", file);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        page p = {file, i, NULL};
        fprintf(file, "complete -c xft -n __fish_use_subcommand -f -a %s -d '%s'\n", commands[i].name,
                commands[i].brief);
        each_flag(i, fish_flag, &p);
    }
}

bool print_completion(const char *shell, FILE *file) {
    static void (*const printers[])(FILE *) = {print_bash, print_zsh, print_fish};
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(shell, shells[i])) continue;
        printers[i](file);
        return true;
    }
    return false;
}
