/* Settings: the table, YAML files and their faults, flags over them, what a stage gets. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "xft/run.h"
#include "xft/settings.h"

static xft_settings *parsed(const char *yaml) {
    xft_settings *settings = NULL;
    cr_assert_eq(xft_settings_create(&settings), XFT_OK);
    cr_assert_eq(xft_settings_parse(settings, yaml, strlen(yaml), "p.yaml"), XFT_OK, "%s", xft_error());
    return settings;
}

static xft_values resolved(const xft_settings *settings, xft_stage stage) {
    xft_values values;
    cr_assert_eq(xft_settings_resolve(settings, stage, &values), XFT_OK, "%s", xft_error());
    return values;
}

Test(settings, every_row_makes_sense) {
    uint32_t count = 0;
    for (const xft_setting *row; (row = xft_settings_row(count)); count++) {
        cr_expect_eq(xft_settings_find(row->key), row, "%s twice", row->key);
        cr_expect(row->stages != 0 && *row->help && *row->group, "%s", row->key);
        cr_expect_eq(row->type == XFT_SETTING_CHOICE, row->choices != NULL, "%s", row->key);
        cr_expect_eq(row->type == XFT_SETTING_BOOL, *row->argument == 0, "%s", row->key);
    }
    cr_expect_gt(count, 50);
    xft_settings *settings = parsed("seed: 1\n");
    for (int stage = 0; stage < XFT_STAGE_COUNT; stage++) resolved(settings, (xft_stage)stage);
    xft_settings_destroy(settings);
}

Test(settings, a_section_overrides_the_top_and_flags_override_both) {
    xft_settings *s = parsed("# a comment\n"
                             "lr: 1e-4\ndata: [a.jsonl, b.jsonl]\neval_data: c.jsonl\npacking: off\n"
                             "shard_size: 2MB\ntune:\n  lr: 2e-4\n  optimizer: adamw\n  dtype: bf16\n");
    xft_values sft = resolved(s, XFT_STAGE_SFT), tune = resolved(s, XFT_STAGE_TUNE);
    cr_expect_eq(sft.lr, 1e-4);
    cr_expect_eq(tune.lr, 2e-4);
    cr_expect_eq(sft.optimizer, XFT_ADAFACTOR);
    cr_expect_eq(tune.optimizer, XFT_ADAMW);
    cr_expect_eq(sft.precision, XFT_PRECISION_F32);
    cr_expect_eq(tune.precision, XFT_PRECISION_MASTER);
    cr_expect_eq(tune.data.count, 2);
    cr_expect_str_eq(tune.data.items[1], "b.jsonl");
    cr_expect_eq(tune.eval_data.count, 1);
    cr_expect_not(tune.packing);
    cr_expect_eq(tune.shard_size, 2000000);
    cr_expect_str_eq(xft_settings_origin(s, XFT_STAGE_TUNE, "lr"), "p.yaml:8");
    cr_expect_null(xft_settings_origin(s, XFT_STAGE_TUNE, "seed"));

    cr_expect_eq(xft_settings_set(s, "lr", "3e-4"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_TUNE).lr, 3e-4);
    cr_expect_eq(xft_settings_set(s, "tune.lr", "4e-4"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_TUNE).lr, 4e-4);
    cr_expect_eq(resolved(s, XFT_STAGE_SFT).lr, 3e-4);
    cr_expect_str_eq(xft_settings_origin(s, XFT_STAGE_TUNE, "lr"), "--tune.lr");
    cr_expect_eq(xft_settings_set(s, "data", "x.jsonl"), XFT_OK);
    cr_expect_eq(xft_settings_set(s, "data", "y,z.jsonl"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_SFT).data.count, 2);
    cr_expect_str_eq(resolved(s, XFT_STAGE_SFT).data.items[1], "y,z.jsonl");
    cr_expect_eq(xft_settings_set(s, "micro-batch", "3"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_SFT).micro_batch, 3);
    xft_settings_destroy(s);
}

Test(settings, defaults_depend_on_stage_and_compat) {
    xft_settings *s = parsed("tune: {compat: official, dtype: bf16}\n");
    cr_expect(resolved(s, XFT_STAGE_SFT).packing);
    cr_expect_not(resolved(s, XFT_STAGE_TUNE).packing);
    cr_expect_eq(resolved(s, XFT_STAGE_TUNE).precision, XFT_PRECISION_NEAREST);
    cr_expect_eq(resolved(s, XFT_STAGE_UPCYCLE).router_init, XFT_ROUTER_INTENDED);
    cr_expect_eq(resolved(s, XFT_STAGE_SFT).lr, xft_run_default_rate(XFT_RUN_SFT, false));
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).lr, xft_run_default_rate(XFT_RUN_MERGE, false));
    cr_expect_eq(xft_settings_set(s, "compat", "official"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_UPCYCLE).router_init, XFT_ROUTER_OFFICIAL);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).lr, xft_run_default_rate(XFT_RUN_MERGE, true));
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).precision, XFT_PRECISION_F32);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).merge_kind, XFT_MERGE_LEARNED);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).lambda, -1);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).epochs, 1);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).schedule, XFT_SCHEDULE_LINEAR);
    cr_expect_eq(xft_settings_set(s, "lr", "0.5"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).lr, 0.5);
    xft_settings_destroy(s);
}

Test(settings, files_are_refused_by_line_and_reason) {
    static const struct {
        const char *yaml, *place, *reason;
    } cases[] = {
        {"seed: 1\nlamda: 0.5\n", "p.yaml:2:1", "unknown setting \"lamda\"; did you mean \"lambda\"?"},
        {"sft:\n  lr: 1\n  warm_up: 3\n", "p.yaml:3:3", "did you mean \"warmup\"?"},
        {"tun:\n  lr: 1\n", "p.yaml:1:1", "did you mean \"tune\"?"},
        {"qwertzuiop: 1\n", "p.yaml:1:1", "unknown setting \"qwertzuiop\""},
        {"lr: 1\nseed: 2\nlr: 3\n", "p.yaml:3:1", "given twice, first at p.yaml:1"},
        {"micro_batch: 1\nmicro-batch: 2\n", "p.yaml:2:1", "given twice"},
        {"sft: {lr: 1}\nseed: 1\nsft: {seed: 2}\n", "p.yaml:3:1", "section is given twice"},
        {"lr: fast\n", "p.yaml:1:5", "\"fast\" is no number"},
        {"lr: 1e-4x\n", "p.yaml:1:5", "is no number"},
        {"lr: nan\n", "p.yaml:1:5", "is no number"},
        {"lr:\n", "p.yaml:1:4", "is no number"},
        {"lr: 1e9\n", "p.yaml:1:5", "out of range"},
        {"batch: 1.5\n", "p.yaml:1:8", "no whole number"},
        {"batch: -3\n", "p.yaml:1:8", "out of range; expected a number from 1"},
        {"experts: 65\n", "p.yaml:1:10", "expected a number from 2 to 64"},
        {"packing: maybe\n", "p.yaml:1:10", "neither yes nor no"},
        {"dtype: f16\n", "p.yaml:1:8", "none of f32|bf16"},
        {"dtype: f32|bf16\n", "p.yaml:1:8", "none of"},
        {"shard_size: 5 parsecs\n", "p.yaml:1:13", "is no size"},
        {"model: ''\n", "p.yaml:1:8", "empty"},
        {"lr: [1, 2]\n", "p.yaml:1:5", "expected one value, RATE, not a list"},
        {"data: {a: b}\n", "p.yaml:1:7", "not a section"},
        {"data: [[a]]\n", "p.yaml:1:8", "expected a list of texts"},
        {"tune: 3\n", "p.yaml:1:7", "expected a section"},
        {"tune:\n  sft: {lr: 1}\n", "p.yaml:2:3", "unknown setting"},
        {"tune: {experts: 4}\n", "p.yaml:1:8", "has no meaning in tune; it is a setting of upcycle"},
        {"- lr\n", "p.yaml:1:1", "key: value"},
        {"[1]: 2\n", "p.yaml:1:1", "name of a setting"},
        {"lr: [1\n", "p.yaml:2:1", "not YAML"},
        {"\tlr: 1\n", "p.yaml:1:1", "not YAML"},
        {"model: \"a\n", "p.yaml", "not YAML"},
        {"model: *nowhere\n", "p.yaml:1:8", "not YAML"},
        {"seed: 1\n---\nseed: 2\n", "p.yaml:3", "second document"},
        {"model: \"a\\0b\"\n", "p.yaml:1:8", "zero byte"},
        {"model: \xff\xfe\n", "p.yaml: byte 7", "not YAML"},
        {"", "p.yaml", "no settings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        xft_settings *settings = NULL;
        cr_assert_eq(xft_settings_create(&settings), XFT_OK);
        const xft_status status = xft_settings_parse(settings, cases[i].yaml, strlen(cases[i].yaml), "p.yaml");
        cr_expect_eq(status, XFT_ERROR_FORMAT, "%s: %s", cases[i].yaml, xft_status_name(status));
        cr_expect_eq(strncmp(xft_error(), cases[i].place, strlen(cases[i].place)), 0, "%s: %s", cases[i].place,
                     xft_error());
        cr_expect_not_null(strstr(xft_error(), cases[i].reason), "%s: %s", cases[i].reason, xft_error());
        xft_settings_destroy(settings);
    }
    xft_settings *settings = NULL;
    cr_assert_eq(xft_settings_create(&settings), XFT_OK);
    cr_expect_eq(xft_settings_load(settings, "/nonexistent/p.yaml"), XFT_ERROR_IO);
    cr_expect_not_null(strstr(xft_error(), "/nonexistent/p.yaml"));
    xft_settings_destroy(settings);
}

Test(settings, flags_are_refused_by_reason) {
    static const struct {
        const char *key, *value, *reason;
    } cases[] = {
        {"lamda", "1", "did you mean \"lambda\"?"},
        {"micro-bach", "1", "did you mean \"micro_batch\"?"},
        {"tunes.lr", "1", "no stage of that name"},
        {"upcycle.lr", "1", "no meaning in upcycle"},
        {"run.stages", "sft", "no stage of that name"},
        {"lr", "", "is no number"},
        {"lr", " 1", "is no number"},
        {"beta1", "0", "1e-06"},
        {"beta2", "0", "1e-06"},
        {"template", "alpaca", "none of magicoder|chatml|llama3|deepseek-coder"},
    };
    xft_settings *settings = parsed("seed: 1\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(xft_settings_set(settings, cases[i].key, cases[i].value), XFT_ERROR_INVALID_ARGUMENT, "%s",
                     cases[i].key);
        cr_expect_not_null(strstr(xft_error(), cases[i].reason), "%s: %s", cases[i].reason, xft_error());
    }
    cr_expect_null(xft_settings_origin(settings, XFT_STAGE_SFT, "lr"));
    xft_settings_destroy(settings);
}

Test(settings, values_are_checked_together) {
    xft_values values;
    xft_settings *s = parsed("sft: {precision: stochastic}\nupcycle: {experts: 4}\n");
    cr_expect_neq(xft_settings_resolve(s, XFT_STAGE_SFT, &values), XFT_OK);
    cr_expect_not_null(strstr(xft_error(), "p.yaml:1: precision"), "%s", xft_error());
    cr_expect_neq(xft_settings_resolve(s, XFT_STAGE_UPCYCLE, &values), XFT_OK);
    cr_expect_not_null(strstr(xft_error(), "top_k: 6 experts per token (default) of 4 in all (p.yaml:2)"), "%s",
                       xft_error());
    cr_expect_eq(xft_settings_set(s, "top_k", "1"), XFT_OK);
    cr_expect_neq(xft_settings_resolve(s, XFT_STAGE_UPCYCLE, &values), XFT_OK);
    cr_expect_not_null(strstr(xft_error(), "gate: vanilla"), "%s", xft_error());
    cr_expect_eq(xft_settings_set(s, "gate", "vanilla"), XFT_OK);
    cr_expect_eq(xft_settings_resolve(s, XFT_STAGE_UPCYCLE, &values), XFT_OK, "%s", xft_error());
    cr_expect_neq(xft_settings_need(s, XFT_STAGE_SFT, "data"), XFT_OK);
    cr_expect_not_null(strstr(xft_error(), "--data FILE"), "%s", xft_error());
    cr_expect_eq(xft_settings_set(s, "data", "a"), XFT_OK);
    cr_expect_eq(xft_settings_need(s, XFT_STAGE_SFT, "data"), XFT_OK);
    xft_settings_destroy(s);
}

Test(settings, json_holds_what_concerns_the_stage) {
    char *text = NULL;
    xft_settings *s = parsed("model: base\nlr: 3e-4\ndata: [a, b]\n");
    cr_assert_eq(xft_settings_json(s, XFT_STAGE_TUNE, false, &text), XFT_OK, "%s", xft_error());
    json_t *json = json_loads(text, 0, NULL);
    cr_assert_not_null(json);
    cr_expect_eq(json_real_value(json_object_get(json, "lr")), 3e-4);
    cr_expect_str_eq(json_string_value(json_object_get(json, "schedule")), "linear");
    cr_expect_eq(json_array_size(json_object_get(json, "data")), 2);
    cr_expect_not_null(json_object_get(json, "save_every"));
    cr_expect_null(json_object_get(json, "experts"));
    json_decref(json);
    free(text);
    cr_assert_eq(xft_settings_json(s, XFT_STAGE_TUNE, true, &text), XFT_OK);
    json = json_loads(text, 0, NULL);
    cr_expect_null(json_object_get(json, "save_every"));
    cr_expect_not_null(json_object_get(json, "batch"));
    json_decref(json);
    free(text);
    xft_settings_destroy(s);
}

Test(settings, sizes) {
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0}, {"24GiB", 24ull << 30}, {"24G", 24ull << 30}, {"512MB", 512000000}, {"1.5 KiB", 1536},
                {"7B", 7}};
    static const char *const bad[] = {"", "GiB", "-1", "1XB", "1GiBs", "1e30", "nan", "0x10 foo"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cr_expect_eq(xft_parse_bytes(good[i].text, &bytes), XFT_OK, "%s", xft_error());
        cr_expect_eq(bytes, good[i].bytes, "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_neq(xft_parse_bytes(bad[i], &bytes), XFT_OK, "%s", bad[i]);
}

Test(settings, nearest_words) {
    const char *const words[] = {"train", "merge", "temperature"};
    cr_expect_str_eq(xft_nearest("trian", words, 3), "train");
    cr_expect_str_eq(xft_nearest("marge", words, 3), "merge");
    cr_expect_str_eq(xft_nearest("temp", words, 3), "temperature");
    cr_expect_str_eq(xft_nearest("tempurature", words, 3), "temperature");
    cr_expect_null(xft_nearest("xyz", words, 3));
    cr_expect_null(xft_nearest("margo", words, 3)); /* two of five letters */
    cr_expect_null(xft_nearest("prompt", (const char *const[]){"compat", "port"}, 2));
    cr_expect_null(xft_nearest("", words, 3));
    cr_expect_null(xft_nearest("train", words, 0));
}

/* Section 5 of the method: DeepSeek-Coder-1.3B with Evol-Instruct. */
Test(settings, the_recipe_of_the_paper) {
    static const struct {
        xft_stage stage;
        double lr, warmup, epochs;
    } rows[] = {{XFT_STAGE_SFT, 5e-5, 625, 5}, {XFT_STAGE_TUNE, 5e-5, 500, 4}, {XFT_STAGE_MERGE, 0, 125, 1}};
    xft_settings *s = NULL;
    cr_assert_eq(xft_settings_create(&s), XFT_OK);
    cr_assert_eq(xft_settings_load(s, XFT_RECIPES "/deepseek-coder-1.3b.yaml"), XFT_OK, "%s", xft_error());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const xft_values v = resolved(s, rows[i].stage);
        if (rows[i].lr > 0) cr_expect_eq(v.lr, rows[i].lr);
        cr_expect_eq(v.warmup, rows[i].warmup);
        cr_expect_eq(v.epochs, rows[i].epochs);
        cr_expect_eq(v.batch, 64);
        cr_expect_eq(v.length, 1024);
        cr_expect_eq(v.max_norm, 0);
        cr_expect_eq(v.optimizer, XFT_ADAFACTOR);
        cr_expect_eq(v.schedule, XFT_SCHEDULE_LINEAR);
        cr_expect_eq(v.precision, XFT_PRECISION_STOCHASTIC);
    }
    cr_expect_eq(resolved(s, XFT_STAGE_UPCYCLE).experts, 8);
    cr_expect_eq(resolved(s, XFT_STAGE_UPCYCLE).top_k, 6);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).lambda, 0.75);
    cr_expect_eq(resolved(s, XFT_STAGE_EVAL).max_new_tokens, 512);
    cr_expect_eq(xft_settings_set(s, "compat", "official"), XFT_OK);
    cr_expect_eq(resolved(s, XFT_STAGE_MERGE).lr, 1e-5);
    xft_settings_destroy(s);
}
