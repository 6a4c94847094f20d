/* Settings: one YAML file and flags, for all stages.
 *
 *     xft_settings *settings;
 *     xft_values values;
 *     XFT_TRY(xft_settings_create(&settings));
 *     XFT_TRY(xft_settings_load(settings, "pipeline.yaml"));
 *     XFT_TRY(xft_settings_set(settings, "tune.lr", "1e-4"));
 *     XFT_TRY(xft_settings_resolve(settings, XFT_STAGE_TUNE, &values));
 *     … values.lr, values.optimizer, values.data.items[0] …
 *     xft_settings_destroy(settings);
 *
 * A file holds keys that are valid for all stages, and sections that override them for one:
 *
 *     data: [train.jsonl]
 *     lr: 5e-5
 *     tune: {lr: 1e-4, epochs: 4}
 *
 * What counts for a stage, the first that is there: the flag for the stage, the flag for all, the section of the file,
 * its top level, the default of the stage. All settings, with type, default, range and meaning: settings.def.
 *
 * Threads: a settings object belongs to one thread at a time.
 */
#ifndef XFT_SETTINGS_H
#define XFT_SETTINGS_H

#include "xft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum xft_stage {
    XFT_STAGE_SFT = 0, /* dense training: the baseline */
    XFT_STAGE_UPCYCLE,
    XFT_STAGE_TUNE, /* MoE training */
    XFT_STAGE_MERGE,
    XFT_STAGE_EVAL,
    XFT_STAGE_GENERATE,
    XFT_STAGE_RUN, /* the pipeline itself; it has no section in the file */
    XFT_STAGE_COUNT
} xft_stage;

/* "sft", "upcycle" …; "?" for a number that is none. */
XFT_API const char *xft_stage_name(xft_stage stage);

typedef struct xft_text_list {
    const char *const *items;
    uint32_t count;
} xft_text_list;

/* C types of the settings. CHOICE: the number of the word in its row, from 0; the words are in the order of the enums
 * of the library where there is one: xft_dtype, xft_precision, xft_optimizer, xft_schedule, xft_gate, xft_router_init,
 * xft_merge_kind. */
typedef bool xft_value_BOOL;
typedef uint64_t xft_value_INTEGER;
typedef double xft_value_NUMBER;
typedef uint64_t xft_value_BYTES;
typedef uint32_t xft_value_CHOICE;
typedef const char *xft_value_TEXT; /* "" when it is not set */
typedef xft_text_list xft_value_LIST;

/* The settings of one stage, a member for each row of settings.def; those without a meaning in the stage have their
 * default. Texts belong to the settings. */
typedef struct xft_values {
#define SETTING(field, key, type, preset, range, stages, effect, group, argument, help) xft_value_##type field;
#define DEFAULT(field, stages, compat, value)
#include "xft/settings.def"
#undef SETTING
#undef DEFAULT
} xft_values;

typedef struct xft_settings xft_settings;

/* Settings with their defaults. */
XFT_API xft_status xft_settings_create(xft_settings **settings);
/* NULL is accepted. */
XFT_API void xft_settings_destroy(xft_settings *settings);

/* Reads a YAML file into settings. Refused with file, line and column, XFT_ERROR_FORMAT: what is no YAML, unknown keys
 * (the nearest known one is named), keys given twice, keys in a section where they have no meaning, values of another
 * type or out of range. On failure the settings are to be destroyed. */
XFT_API xft_status xft_settings_load(xft_settings *settings, const char *path);
/* The same from `bytes` bytes of text; name: what messages call it. */
XFT_API xft_status xft_settings_parse(xft_settings *settings, const char *text, size_t bytes, const char *name);

/* Sets a value over those of the file: "lr" for all stages, "tune.lr" for one; - and _ are the same. A list grows by
 * one item with each call. XFT_ERROR_INVALID_ARGUMENT: no such setting, or not such a value. */
XFT_API xft_status xft_settings_set(xft_settings *settings, const char *key, const char *value);

/* The settings of a stage, together. Refused: bf16 precisions without dtype bf16, top_k greater than experts. precision
 * comes out as an xft_precision: f32 where dtype is f32, master where it was auto. Numbers without a default are -1
 * when they are not set (lambda). */
XFT_API xft_status xft_settings_resolve(const xft_settings *settings, xft_stage stage, xft_values *values);

/* Where the value of a setting in a stage comes from: "pipeline.yaml:3", "--lr", or NULL: it is the default. */
XFT_API const char *xft_settings_origin(const xft_settings *settings, xft_stage stage, const char *key);

/* Fails with a sentence that says how to set it when a text or list has no value. */
XFT_API xft_status xft_settings_need(const xft_settings *settings, xft_stage stage, const char *key);

/* The resolved settings of a stage as a JSON object, in the order of the table; with `effect_only` those alone on which
 * the result depends. *json is to be freed with free(). */
XFT_API xft_status xft_settings_json(const xft_settings *settings, xft_stage stage, bool effect_only, char **json);

/* ---- The table ---- */

typedef enum xft_setting_type {
    XFT_SETTING_BOOL,
    XFT_SETTING_INTEGER,
    XFT_SETTING_NUMBER,
    XFT_SETTING_BYTES,
    XFT_SETTING_CHOICE,
    XFT_SETTING_TEXT,
    XFT_SETTING_LIST
} xft_setting_type;

typedef struct xft_setting {
    const char *key;
    xft_setting_type type;
    double least, greatest; /* INTEGER, NUMBER, BYTES */
    const char *choices;    /* CHOICE: "a|b|c"; else NULL */
    uint32_t stages;        /* bit 1 << XFT_STAGE_… */
    bool effect;            /* the result of a stage depends on it */
    const char *group;
    const char *argument; /* what help calls the value; "" for BOOL */
    const char *help;
} xft_setting;

/* Row `index` of the table, NULL after the last one. */
XFT_API const xft_setting *xft_settings_row(uint32_t index);
/* The row of a key (- and _ are the same), or NULL. */
XFT_API const xft_setting *xft_settings_find(const char *key);
/* The default of a row in a stage, as text; "": none. */
XFT_API const char *xft_setting_default(const xft_setting *setting, xft_stage stage, bool official);

/* The one of `count` words that begins with `word`, or is nearest to it by edit distance; NULL when none is near. */
XFT_API const char *xft_nearest(const char *word, const char *const *words, uint32_t count);

/* Bytes of "24GiB", "512MB", "1.5G" (G is GiB) or a plain number. */
XFT_API xft_status xft_parse_bytes(const char *text, uint64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
