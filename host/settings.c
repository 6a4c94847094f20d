#include "xft/settings.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <yaml.h>

#include "error.h"
#include "files.h"
#include "xft/ops.h"

/* ---- The table ------------------------------------------------------------------------------------------------- */

enum {
    SFT = 1 << XFT_STAGE_SFT,
    UPCYCLE = 1 << XFT_STAGE_UPCYCLE,
    TUNE = 1 << XFT_STAGE_TUNE,
    MERGE = 1 << XFT_STAGE_MERGE,
    EVAL = 1 << XFT_STAGE_EVAL,
    GENERATE = 1 << XFT_STAGE_GENERATE,
    RUN = 1 << XFT_STAGE_RUN,
    ALL = SFT | UPCYCLE | TUNE | MERGE | EVAL | GENERATE
};
enum { PROCESS = false, EFFECT = true };
enum { COMPAT_ANY, COMPAT_OFFICIAL };

typedef struct row {
    xft_setting setting;
    const char *preset;
    size_t offset; /* in xft_values */
} row;

#define ANY                    0, 0, NULL
#define RANGE(least, greatest) least, greatest, NULL
#define CHOICES(words)         0, 0, words

static const row rows[] = {
#define SETTING(field, key, type, preset, range, stages, effect, group, argument, help)                                \
    {{key, XFT_SETTING_##type, range, stages, effect, group, argument, help}, preset, offsetof(xft_values, field)},
#define DEFAULT(field, stages, compat, value)
#include "xft/settings.def"
#undef SETTING
#undef DEFAULT
};
enum { ROWS = sizeof rows / sizeof *rows };

static const struct {
    size_t offset;
    uint32_t stages;
    int compat;
    const char *value;
} other_defaults[] = {
#define SETTING(field, key, type, preset, range, stages, effect, group, argument, help)
#define DEFAULT(field, stages, compat, value) {offsetof(xft_values, field), stages, compat, value},
#include "xft/settings.def"
#undef SETTING
#undef DEFAULT
};

static const char *const stage_names[XFT_STAGE_COUNT] = {"sft", "upcycle", "tune", "merge", "eval", "generate", "run"};
enum { SECTIONS = XFT_STAGE_RUN }; /* stages before it have a section */

const char *xft_stage_name(xft_stage stage) {
    return (unsigned)stage < XFT_STAGE_COUNT ? stage_names[stage] : "?";
}

const xft_setting *xft_settings_row(uint32_t index) {
    return index < ROWS ? &rows[index].setting : NULL;
}

/* Whether two keys are the same, - being _. */
static bool same_key(const char *a, const char *b, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if ((a[i] == '-' ? '_' : a[i]) != b[i]) return false;
    return b[bytes] == 0;
}

static const row *find_row(const char *key) {
    for (size_t i = 0; i < ROWS; i++)
        if (same_key(key, rows[i].setting.key, strlen(key))) return &rows[i];
    return NULL;
}

const xft_setting *xft_settings_find(const char *key) {
    const row *found = key ? find_row(key) : NULL;
    return found ? &found->setting : NULL;
}

static const char *row_default(const row *row, xft_stage stage, bool official) {
    const char *value = row->preset;
    for (size_t i = 0; i < sizeof other_defaults / sizeof *other_defaults; i++)
        if (other_defaults[i].offset == row->offset && other_defaults[i].stages >> stage & 1 &&
            (other_defaults[i].compat == COMPAT_ANY || official))
            value = other_defaults[i].value;
    return value;
}

const char *xft_setting_default(const xft_setting *setting, xft_stage stage, bool official) {
    const row *found = setting ? find_row(setting->key) : NULL;
    return found ? row_default(found, stage, official) : "";
}

/* ---- Words that are near --------------------------------------------------------------------------------------- */

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b; words of more than 63 bytes are far
 * from all others. */
static uint32_t edit_distance(const char *a, const char *b) {
    enum { LONGEST = 63 };
    const size_t m = strlen(a), n = strlen(b);
    uint32_t d[3][LONGEST + 1]; /* rows i-2, i-1, i, by turns */
    if (m > LONGEST || n > LONGEST) return UINT32_MAX;
    for (uint32_t j = 0; j <= n; j++) d[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        uint32_t *now = d[i % 3], *before = d[(i + 2) % 3], *two_before = d[(i + 1) % 3];
        now[0] = (uint32_t)i;
        for (size_t j = 1; j <= n; j++) {
            uint32_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_before[j - 2] + 1 < best)
                best = two_before[j - 2] + 1;
            now[j] = best;
        }
    }
    return d[m % 3][n];
}

const char *xft_nearest(const char *word, const char *const *words, uint32_t count) {
    const char *nearest = NULL;
    uint32_t least = (uint32_t)(word ? strlen(word) : 0) / 3; /* a third of the letters at most; always one */
    if (least < 1) least = 1;
    for (uint32_t i = 0; word && strlen(word) > 2 && i < count; i++)
        if (!strncmp(word, words[i], strlen(word))) return words[i]; /* a beginning */
    for (uint32_t i = 0; word && i < count; i++) {
        const uint32_t distance = edit_distance(word, words[i]);
        if (distance < least || (distance == least && !nearest)) {
            nearest = words[i];
            least = distance;
        }
    }
    return nearest;
}

static const char *nearest_key(const char *key) {
    const char *words[ROWS + SECTIONS];
    char plain[64];
    size_t i = 0;
    for (; key[i] && i + 1 < sizeof plain; i++) plain[i] = (char)(key[i] == '-' ? '_' : tolower((unsigned char)key[i]));
    plain[i] = 0;
    for (i = 0; i < ROWS; i++) words[i] = rows[i].setting.key;
    for (i = 0; i < SECTIONS; i++) words[ROWS + i] = stage_names[i];
    return xft_nearest(plain, words, ROWS + SECTIONS);
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

typedef union value {
    bool flag;
    uint64_t integer; /* BYTES too */
    double number;
    uint32_t choice;
    const char *text;
    xft_text_list list;
} value;

/* One value that was given. Texts are owned. */
typedef struct entry {
    const row *row;
    int stage; /* -1: all */
    bool flag; /* by xft_settings_set, else from a file */
    value value;
    char *origin;
} entry;

struct xft_settings {
    entry *entries;
    size_t count, room;
};

xft_status xft_parse_bytes(const char *text, uint64_t *bytes) {
    XFT_NEED(text, bytes);
    static const char letters[] = "KMGT";
    char *end = NULL;
    const double number = isdigit((unsigned char)*text) ? strtod(text, &end) : -1;
    double unit = 1;
    bool ok = end != NULL;
    while (ok && *end == ' ') end++;
    const char *letter = ok && *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (letter) {
        const bool decimal = toupper((unsigned char)end[1]) == 'B' && end[2] == 0;
        const bool binary = end[1] == 0 || !strcmp(end + 1, "i") || !strcmp(end + 1, "iB");
        unit = pow(decimal ? 1000 : 1024, (double)(letter - letters) + 1);
        ok = decimal || binary;
    } else if (ok) {
        ok = *end == 0 || !strcmp(end, "B");
    }
    XFT_FAIL_IF(!ok || !(number * unit < 9e18), XFT_ERROR_INVALID_ARGUMENT,
                "\"%.40s\" is no size; expected a number with a unit, such as 24GiB or 512MB", text);
    *bytes = (uint64_t)(number * unit);
    return XFT_OK;
}

static bool parse_bool(const char *text, bool *flag) {
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        *flag = !strcasecmp(text, yes[i]);
        if (*flag || !strcasecmp(text, no[i])) return true;
    }
    return false;
}

static xft_status parse_number(const row *row, const char *text, double *number) {
    const xft_setting *s = &row->setting;
    char *end = NULL;
    *number = isspace((unsigned char)*text) ? 0 : strtod(text, &end);
    const bool whole = s->type != XFT_SETTING_INTEGER || *number == floor(*number);
    if (!end || end == text || *end || !isfinite(*number) || !whole)
        return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "%s: \"%.40s\" is no %s; expected one from %g to %g", s->key, text,
                        s->type == XFT_SETTING_INTEGER ? "whole number" : "number", s->least, s->greatest);
    XFT_FAIL_IF(*number < s->least || *number > s->greatest, XFT_ERROR_INVALID_ARGUMENT,
                "%s: %.40s is out of range; expected a number from %g to %g", s->key, text, s->least, s->greatest);
    return XFT_OK;
}

static xft_status parse_choice(const row *row, const char *text, uint32_t *choice) {
    const size_t bytes = strlen(text);
    const char *word = row->setting.choices;
    for (uint32_t i = 0; bytes && word; i++) {
        const size_t length = strcspn(word, "|");
        if (length == bytes && !memcmp(word, text, bytes)) {
            *choice = i;
            return XFT_OK;
        }
        word = word[length] ? word + length + 1 : NULL;
    }
    return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "%s: \"%.40s\" is none of %s", row->setting.key, text,
                    row->setting.choices);
}

/* The value of a text, for every type but LIST; TEXT stays the caller's. */
static xft_status parse_value(const row *row, const char *text, value *value) {
    double number = 0;
    switch (row->setting.type) {
    case XFT_SETTING_BOOL:
        XFT_FAIL_IF(!parse_bool(text, &value->flag), XFT_ERROR_INVALID_ARGUMENT, "%s: \"%.40s\" is neither yes nor no",
                    row->setting.key, text);
        return XFT_OK;
    case XFT_SETTING_INTEGER:
        XFT_TRY(parse_number(row, text, &number));
        value->integer = (uint64_t)number;
        return XFT_OK;
    case XFT_SETTING_NUMBER:
        return parse_number(row, text, &value->number);
    case XFT_SETTING_BYTES:
        if (xft_parse_bytes(text, &value->integer))
            return xft_fail_in(XFT_ERROR_INVALID_ARGUMENT, "%s", row->setting.key);
        number = (double)value->integer;
        XFT_FAIL_IF(number < row->setting.least || number > row->setting.greatest, XFT_ERROR_INVALID_ARGUMENT,
                    "%s: %.40s is out of range; expected %g to %g bytes", row->setting.key, text, row->setting.least,
                    row->setting.greatest);
        return XFT_OK;
    case XFT_SETTING_CHOICE:
        return parse_choice(row, text, &value->choice);
    default:
        XFT_FAIL_IF(!*text, XFT_ERROR_INVALID_ARGUMENT, "%s: empty; expected %s", row->setting.key,
                    row->setting.argument);
        value->text = text;
        return XFT_OK;
    }
}

static xft_status out_of_memory(void) {
    return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "settings: no host memory left");
}

/* Lists are arrays of owned texts. */
static xft_status list_append(xft_text_list *list, const char *text) {
    const char **items = realloc((void *)list->items, (list->count + 1) * sizeof *items);
    if (!items) return out_of_memory();
    list->items = items;
    items[list->count] = strdup(text);
    if (!items[list->count]) return out_of_memory();
    list->count++;
    return XFT_OK;
}

static void entry_free(entry *entry) {
    if (entry->row->setting.type == XFT_SETTING_TEXT) free((void *)entry->value.text);
    if (entry->row->setting.type == XFT_SETTING_LIST) {
        for (uint32_t i = 0; i < entry->value.list.count; i++) free((void *)entry->value.list.items[i]);
        free((void *)entry->value.list.items);
    }
    free(entry->origin);
}

xft_status xft_settings_create(xft_settings **settings) {
    XFT_NEED(settings);
    *settings = calloc(1, sizeof **settings);
    return *settings ? XFT_OK : out_of_memory();
}

void xft_settings_destroy(xft_settings *settings) {
    if (!settings) return;
    for (size_t i = 0; i < settings->count; i++) entry_free(&settings->entries[i]);
    free(settings->entries);
    free(settings);
}

static entry *find_entry(const xft_settings *settings, const row *row, int stage, bool flag) {
    for (size_t i = 0; i < settings->count; i++) {
        entry *e = &settings->entries[i];
        if (e->row == row && e->stage == stage && e->flag == flag) return e;
    }
    return NULL;
}

/* A new entry without value; its origin is a copy. */
static xft_status add_entry(xft_settings *settings, const row *row, int stage, bool flag, const char *origin,
                            entry **added) {
    if (settings->count == settings->room) {
        const size_t room = settings->room ? 2 * settings->room : 16;
        entry *entries = realloc(settings->entries, room * sizeof *entries);
        if (!entries) return out_of_memory();
        settings->entries = entries;
        settings->room = room;
    }
    *added = &settings->entries[settings->count];
    **added = (entry){.row = row, .stage = stage, .flag = flag, .origin = strdup(origin)};
    if (!(*added)->origin) return out_of_memory();
    settings->count++;
    return XFT_OK;
}

/* Sets, or adds to a list, a value that parse_value accepted or the text of an item. */
static xft_status give_value(entry *entry, const char *text) {
    value value;
    XFT_TRY(parse_value(entry->row, text, &value));
    if (entry->row->setting.type == XFT_SETTING_LIST) return list_append(&entry->value.list, text);
    if (entry->row->setting.type == XFT_SETTING_TEXT) {
        value.text = strdup(text);
        if (!value.text) return out_of_memory();
        free((void *)entry->value.text);
    }
    entry->value = value;
    return XFT_OK;
}

/* ---- Flags ----------------------------------------------------------------------------------------------------- */

static xft_status unknown_key(const char *key) {
    const char *nearest = nearest_key(key);
    return xft_fail(XFT_ERROR_INVALID_ARGUMENT,
                    nearest ? "unknown setting \"%.60s\"; did you mean \"%s\"?" : "unknown setting \"%.60s\"", key,
                    nearest);
}

static xft_status check_stage(const row *row, int stage) {
    char where[80] = "";
    if (stage < 0 || row->setting.stages >> stage & 1) return XFT_OK;
    for (int i = 0; i < XFT_STAGE_COUNT; i++)
        if (row->setting.stages >> i & 1)
            snprintf(where + strlen(where), sizeof where - strlen(where), "%s%s", *where ? ", " : "", stage_names[i]);
    return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "%s has no meaning in %s; it is a setting of %s", row->setting.key,
                    stage_names[stage], where);
}

xft_status xft_settings_set(xft_settings *settings, const char *key, const char *value) {
    XFT_NEED(settings, key, value);
    const char *dot = strchr(key, '.'), *name = dot ? dot + 1 : key;
    const row *row = find_row(name);
    entry *entry;
    char origin[80];
    int stage = -1;
    for (int i = 0; dot && i < SECTIONS; i++)
        if (same_key(key, stage_names[i], (size_t)(dot - key))) stage = i;
    XFT_FAIL_IF(dot && stage < 0, XFT_ERROR_INVALID_ARGUMENT,
                "\"%.60s\": no stage of that name; expected sft, upcycle, tune, merge, eval or generate", key);
    if (!row) return unknown_key(name);
    XFT_TRY(check_stage(row, stage));
    snprintf(origin, sizeof origin, "--%s%s%s", stage < 0 ? "" : stage_names[stage], stage < 0 ? "" : ".",
             row->setting.key);
    for (char *c = origin; *c; c++)
        if (*c == '_') *c = '-';
    entry = find_entry(settings, row, stage, true);
    if (entry) return give_value(entry, value);
    XFT_TRY(add_entry(settings, row, stage, true, origin, &entry));
    const xft_status status = give_value(entry, value);
    if (status != XFT_OK) {
        entry_free(entry);
        settings->count--;
    }
    return status;
}

/* ---- YAML ------------------------------------------------------------------------------------------------------ */

typedef struct reader {
    xft_settings *settings;
    yaml_document_t *document;
    const char *name;
} reader;

static xft_status fail_at(const reader *r, const yaml_node_t *node) {
    return xft_fail_in(XFT_ERROR_FORMAT, "%s:%zu:%zu", r->name, node->start_mark.line + 1, node->start_mark.column + 1);
}

/* The text of a scalar, or NULL when the node is none or holds a zero byte. */
static const char *scalar(const yaml_node_t *node) {
    if (node->type != YAML_SCALAR_NODE) return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

static xft_status read_value(const reader *r, const row *row, entry *entry, const yaml_node_t *node) {
    const char *key = row->setting.key;
    if (row->setting.type == XFT_SETTING_LIST && node->type == YAML_SEQUENCE_NODE) {
        for (const yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top;
             item++) {
            const yaml_node_t *each = yaml_document_get_node(r->document, *item);
            if (!scalar(each)) {
                xft_fail(XFT_ERROR_FORMAT, "%s: expected a list of texts (%s)", key, row->setting.argument);
                return fail_at(r, each);
            }
            if (give_value(entry, scalar(each))) return fail_at(r, each);
        }
        return XFT_OK;
    }
    if (!scalar(node)) {
        xft_fail(XFT_ERROR_FORMAT, "%s: expected one value%s%s, not a %s", key, *row->setting.argument ? ", " : "",
                 row->setting.argument,
                 node->type == YAML_SEQUENCE_NODE  ? "list"
                 : node->type == YAML_MAPPING_NODE ? "section"
                                                   : "text with a zero byte");
        return fail_at(r, node);
    }
    return give_value(entry, scalar(node)) ? fail_at(r, node) : XFT_OK;
}

static xft_status read_mapping(const reader *r, const yaml_node_t *mapping, int stage);

static xft_status read_pair(const reader *r, const yaml_node_t *key, const yaml_node_t *node, int stage) {
    char origin[300];
    entry *entry;
    if (!scalar(key)) {
        xft_fail(XFT_ERROR_FORMAT, "expected the name of a setting");
        return fail_at(r, key);
    }
    for (int i = 0; stage < 0 && i < SECTIONS; i++)
        if (!strcmp(scalar(key), stage_names[i])) return read_mapping(r, node, i);
    const row *row = find_row(scalar(key));
    if (!row) {
        unknown_key(scalar(key));
        return fail_at(r, key);
    }
    if (check_stage(row, stage)) return fail_at(r, key);
    if (find_entry(r->settings, row, stage, false)) {
        xft_fail(XFT_ERROR_FORMAT, "%s: given twice, first at %s", row->setting.key,
                 find_entry(r->settings, row, stage, false)->origin);
        return fail_at(r, key);
    }
    snprintf(origin, sizeof origin, "%s:%zu", r->name, key->start_mark.line + 1);
    XFT_TRY(add_entry(r->settings, row, stage, false, origin, &entry));
    return read_value(r, row, entry, node);
}

static xft_status read_mapping(const reader *r, const yaml_node_t *mapping, int stage) {
    uint32_t seen = 0; /* sections */
    if (mapping->type != YAML_MAPPING_NODE) {
        xft_fail(XFT_ERROR_FORMAT,
                 stage < 0 ? "expected settings, one \"key: value\" per line" : "%s: expected a section of settings",
                 xft_stage_name((xft_stage)stage));
        return fail_at(r, mapping);
    }
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *key = yaml_document_get_node(r->document, pair->key);
        const yaml_node_t *node = yaml_document_get_node(r->document, pair->value);
        for (int i = 0; stage < 0 && scalar(key) && i < SECTIONS; i++) {
            if (strcmp(scalar(key), stage_names[i])) continue;
            if (seen >> i & 1) {
                xft_fail(XFT_ERROR_FORMAT, "%s: this section is given twice", stage_names[i]);
                return fail_at(r, key);
            }
            seen |= 1u << i;
        }
        XFT_TRY(read_pair(r, key, node, stage));
    }
    return XFT_OK;
}

static xft_status fail_yaml(const yaml_parser_t *parser, const char *name) {
    if (parser->error == YAML_MEMORY_ERROR) return out_of_memory();
    if (parser->error == YAML_READER_ERROR)
        return xft_fail(XFT_ERROR_FORMAT, "%s: byte %zu: not YAML: %s", name, parser->problem_offset,
                        parser->problem ? parser->problem : "unreadable");
    return xft_fail(XFT_ERROR_FORMAT, "%s:%zu:%zu: not YAML: %s", name, parser->problem_mark.line + 1,
                    parser->problem_mark.column + 1, parser->problem ? parser->problem : "unreadable");
}

xft_status xft_settings_parse(xft_settings *settings, const char *text, size_t bytes, const char *name) {
    XFT_NEED(settings, text, name);
    yaml_parser_t parser;
    yaml_document_t document, next;
    if (!yaml_parser_initialize(&parser)) return out_of_memory();
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    if (!yaml_parser_load(&parser, &document)) {
        const xft_status status = fail_yaml(&parser, name);
        yaml_parser_delete(&parser);
        return status;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    xft_status status = root ? read_mapping(&(reader){settings, &document, name}, root, -1)
                             : xft_fail(XFT_ERROR_FORMAT, "%s: no settings in it", name);
    if (status == XFT_OK && !yaml_parser_load(&parser, &next)) {
        status = fail_yaml(&parser, name);
    } else if (status == XFT_OK) {
        const yaml_node_t *second = yaml_document_get_root_node(&next);
        if (second)
            status = xft_fail(XFT_ERROR_FORMAT, "%s:%zu: a second document; expected one", name,
                              second->start_mark.line + 1);
        yaml_document_delete(&next);
    }
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    return status;
}

xft_status xft_settings_load(xft_settings *settings, const char *path) {
    XFT_NEED(settings, path);
    char *text;
    size_t bytes;
    XFT_TRY(xft_read_file(path, &text, &bytes));
    const xft_status status = xft_settings_parse(settings, text, bytes, path);
    free(text);
    return status;
}

/* ---- Resolving ------------------------------------------------------------------------------------------------- */

static const entry *lookup(const xft_settings *settings, const row *row, xft_stage stage) {
    const entry *found = find_entry(settings, row, (int)stage, true);
    if (!found) found = find_entry(settings, row, -1, true);
    if (!found) found = find_entry(settings, row, (int)stage, false);
    if (!found) found = find_entry(settings, row, -1, false);
    return found;
}

static void store(const row *row, const value *value, xft_values *values) {
    void *field = (char *)values + row->offset;
    switch (row->setting.type) {
    case XFT_SETTING_BOOL:
        *(bool *)field = value->flag;
        return;
    case XFT_SETTING_INTEGER:
    case XFT_SETTING_BYTES:
        *(uint64_t *)field = value->integer;
        return;
    case XFT_SETTING_NUMBER:
        *(double *)field = value->number;
        return;
    case XFT_SETTING_CHOICE:
        *(uint32_t *)field = value->choice;
        return;
    case XFT_SETTING_TEXT:
        *(const char **)field = value->text;
        return;
    case XFT_SETTING_LIST:
        *(xft_text_list *)field = value->list;
        return;
    }
}

/* Defaults are trusted: "-1" stands for a number that is not set, "" for no text and an empty list. */
static xft_status default_value(const row *row, xft_stage stage, bool official, value *value) {
    const char *text = row_default(row, stage, official);
    *value = (union value){.list = {NULL, 0}};
    if (row->setting.type == XFT_SETTING_LIST) return XFT_OK;
    if (row->setting.type == XFT_SETTING_TEXT) {
        value->text = text;
        return XFT_OK;
    }
    if (row->setting.type == XFT_SETTING_NUMBER && !strcmp(text, "-1")) {
        value->number = -1;
        return XFT_OK;
    }
    return parse_value(row, text, value);
}

static const char *origin_of(const xft_settings *settings, xft_stage stage, const char *key) {
    const char *origin = xft_settings_origin(settings, stage, key);
    return origin ? origin : "default";
}

static xft_status check_together(const xft_settings *settings, xft_stage stage, xft_values *v) {
    const bool trains = stage == XFT_STAGE_SFT || stage == XFT_STAGE_TUNE || stage == XFT_STAGE_MERGE;
    if (trains && v->dtype == 0) {
        XFT_FAIL_IF(v->precision != 0 && xft_settings_origin(settings, stage, "precision"), XFT_ERROR_INVALID_ARGUMENT,
                    "%s: precision: a way of keeping bf16 weights needs dtype: bf16; dtype is f32 (%s)",
                    origin_of(settings, stage, "precision"), origin_of(settings, stage, "dtype"));
        v->precision = 0;
    } else if (v->precision == 0) {
        v->precision = 1;
    }
    XFT_FAIL_IF(stage == XFT_STAGE_UPCYCLE && v->top_k < 2 && v->gate != 2, XFT_ERROR_INVALID_ARGUMENT,
                "top_k: 1 expert per token (%s) is the shared one alone; expected at least 2, or gate: vanilla",
                origin_of(settings, stage, "top_k"));
    XFT_FAIL_IF(stage == XFT_STAGE_UPCYCLE && v->top_k > v->experts, XFT_ERROR_INVALID_ARGUMENT,
                "top_k: %u experts per token (%s) of %u in all (%s); expected at most as many", (unsigned)v->top_k,
                origin_of(settings, stage, "top_k"), (unsigned)v->experts, origin_of(settings, stage, "experts"));
    XFT_FAIL_IF(stage == XFT_STAGE_UPCYCLE && v->top_k < 2 && v->gate != XFT_GATE_VANILLA, XFT_ERROR_INVALID_ARGUMENT,
                "top_k: 1 expert per token (%s); expected at least 2, the shared expert being one, or gate: vanilla",
                origin_of(settings, stage, "top_k"));
    return XFT_OK;
}

xft_status xft_settings_resolve(const xft_settings *settings, xft_stage stage, xft_values *values) {
    XFT_FAIL_IF(!settings || !values || (unsigned)stage >= XFT_STAGE_COUNT, XFT_ERROR_INVALID_ARGUMENT,
                "xft_settings_resolve: settings or values is NULL, or stage %d is none", (int)stage);
    const row *compat = find_row("compat");
    const entry *chosen = lookup(settings, compat, stage);
    const bool official = chosen && chosen->value.choice == 1;
    *values = (xft_values){.model = ""};
    for (size_t i = 0; i < ROWS; i++) {
        const entry *given = lookup(settings, &rows[i], stage);
        value preset;
        XFT_TRY(default_value(&rows[i], stage, official, &preset));
        store(&rows[i], given ? &given->value : &preset, values);
    }
    return check_together(settings, stage, values);
}

const char *xft_settings_origin(const xft_settings *settings, xft_stage stage, const char *key) {
    const row *row = key ? find_row(key) : NULL;
    const entry *given = settings && row ? lookup(settings, row, stage) : NULL;
    return given ? given->origin : NULL;
}

xft_status xft_settings_need(const xft_settings *settings, xft_stage stage, const char *key) {
    XFT_NEED(settings, key);
    XFT_FAIL_IF((unsigned)stage >= XFT_STAGE_COUNT, XFT_ERROR_INVALID_ARGUMENT, "xft_settings_need: stage is %d",
                (int)stage);
    const row *row = find_row(key);
    if (!row) return unknown_key(key);
    const entry *given = lookup(settings, row, stage);
    if (given && !(row->setting.type == XFT_SETTING_LIST && given->value.list.count == 0)) return XFT_OK;
    char flag[40];
    snprintf(flag, sizeof flag, "%s", row->setting.key);
    for (char *c = flag; *c; c++)
        if (*c == '_') *c = '-';
    return xft_fail(XFT_ERROR_INVALID_ARGUMENT,
                    "%s needs %s: give --%s %s, or \"%s: …\" in the configuration file (%s)", xft_stage_name(stage),
                    row->setting.key, flag, row->setting.argument, row->setting.key, row->setting.help);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static json_t *choice_word(const row *row, uint32_t choice) {
    const char *word = row->setting.choices;
    for (; choice; choice--) word += strcspn(word, "|") + 1;
    return json_stringn(word, strcspn(word, "|"));
}

static json_t *value_json(const row *row, const xft_values *values) {
    const void *field = (const char *)values + row->offset;
    const xft_text_list *list = field;
    json_t *array;
    switch (row->setting.type) {
    case XFT_SETTING_BOOL:
        return json_boolean(*(const bool *)field);
    case XFT_SETTING_INTEGER:
    case XFT_SETTING_BYTES:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case XFT_SETTING_NUMBER:
        return json_real(*(const double *)field);
    case XFT_SETTING_CHOICE:
        return choice_word(row, *(const uint32_t *)field);
    case XFT_SETTING_TEXT:
        return json_string(*(const char *const *)field);
    case XFT_SETTING_LIST:
        break;
    }
    array = json_array();
    for (uint32_t i = 0; array && i < list->count; i++) json_array_append_new(array, json_string(list->items[i]));
    return array;
}

xft_status xft_settings_json(const xft_settings *settings, xft_stage stage, bool effect_only, char **json) {
    XFT_NEED(json);
    xft_values values;
    XFT_TRY(xft_settings_resolve(settings, stage, &values));
    json_t *object = json_object();
    bool ok = object != NULL;
    for (size_t i = 0; ok && i < ROWS; i++) {
        const xft_setting *setting = &rows[i].setting;
        if (!(setting->stages >> stage & 1) || (effect_only && !setting->effect)) continue;
        ok = json_object_set_new(object, setting->key, value_json(&rows[i], &values)) == 0;
    }
    *json = ok ? json_dumps(object, JSON_INDENT(2)) : NULL;
    json_decref(object);
    XFT_FAIL_IF(!ok, XFT_ERROR_FORMAT, "settings: a text is no UTF-8");
    return *json ? XFT_OK : out_of_memory();
}
