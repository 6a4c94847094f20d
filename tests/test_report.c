/* Suite `report`: the page is made from logs, opened in a real browser, and its figures are read back. Needs
 * `chromium`. */
#include "xft/report.h"

#include "fixture.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 60, LAYERS = 3, EXPERTS = 5, PAGE = 8 << 20 };

TestSuite(report, .init = fixture_begin, .fini = fixture_end, .timeout = 300);

static FILE *open_file(const char *name) {
    FILE *f = fopen(path_of(name), "w");
    cr_assert(f, "%s", name);
    return f;
}
static void write_text(const char *name, const char *text) {
    FILE *f = open_file(name);
    cr_assert(fputs(text, f) >= 0 && !fclose(f));
}

/* ---- Logs with known figures ---- */

static double loss_of(int stage, int step) {
    return 2.5 - 0.3 * stage - 0.0123 * step + 0.01 * (step * 7 % 5);
}
static double share_of(int step, int layer, int expert) {
    return (1 + (step + layer) % 3 * (expert == layer)) / (double)(EXPERTS + (step + layer) % 3);
}

static void write_stage(const char *name, const char *kind, int stage, bool finished) {
    char file[60];
    cr_assert_eq(mkdir(path_of(name), 0777), 0);
    snprintf(file, sizeof file, "%s/log.jsonl", name);
    FILE *f = open_file(file);
    fprintf(f,
            "{\"event\":\"start\",\"time\":\"2026-11-22T1%d:00:00.000Z\",\"stage\":\"%s\",\"model\":\"base\","
            "\"device\":\"a device\",\"driver\":\"a driver\",\"steps\":%d,\"settings\":{\"lr\":5e-05}}\n",
            stage, kind, STEPS);
    for (int s = 1; s <= STEPS; s++) {
        if (s == 7) /* not finite */
            fprintf(f, "{\"event\":\"step\",\"time\":\"\",\"step\":7,\"loss\":null,\"lr\":5e-05,\"skipped\":1}\n");
        else
            fprintf(
                f,
                "{\"event\":\"step\",\"time\":\"\",\"step\":%d,\"epoch\":%.3f,\"loss\":%.9g,\"balance\":0.02,"
                "\"grad_norm\":%.9g,\"lr\":%.9g,\"tokens\":640,\"labels\":300,\"tokens_per_s\":1234.5,\"seconds\":%d,"
                "\"skipped\":%d,\"memory\":3221225472}\n",
                s, s / 20.0, loss_of(stage, s), 1.0 / s, 5e-5 * (STEPS - s) / STEPS, 2 * s, s > 7);
        if (s % 10 == 0)
            fprintf(f,
                    "{\"event\":\"eval\",\"time\":\"\",\"step\":%d,\"loss\":%.9g,\"perplexity\":%.9g,\"labels\":99}\n",
                    s, loss_of(stage, s) + 0.1, exp(loss_of(stage, s) + 0.1));
        if (s == 30) fputs("{\"event\":\"resume\",\"time\":\"\",\"step\":30}\n", f);
        if (s % 5 || stage == 0) continue;
        fprintf(f, "{\"event\":\"%s\",\"time\":\"\",\"step\":%d,\"%s\":[", stage == 1 ? "router" : "mixing", s,
                stage == 1 ? "load" : "alpha");
        for (int l = 0; l < LAYERS; l++)
            for (int e = 0; e < EXPERTS; e++)
                fprintf(f, "%s%.9g%s", e ? "," : l ? ",[" : "[", share_of(s, l, e), e + 1 < EXPERTS ? "" : "]");
        fputs("]", f);
        for (int l = 0; l < LAYERS && stage == 1; l++)
            fprintf(f, "%s%.9g", l ? "," : ",\"entropy\":[", 1 - 0.01 * l * s / STEPS);
        fputs(stage == 1 ? "]}\n" : "}\n", f);
    }
    if (finished)
        fprintf(f, "{\"event\":\"end\",\"time\":\"2026-11-22T1%d:30:00.000Z\",\"step\":%d,\"seconds\":1800}\n", stage,
                STEPS);
    else
        fputs("{\"event\":\"step\",\"ti", f); /* a line cut short */
    fclose(f);
    snprintf(file, sizeof file, "%s/run.json", name);
    write_text(file, "{\"status\":\"done\",\"device\":{\"id\":\"opencl:0\",\"name\":\"Some <CPU>\",\"platform\":\"P\","
                     "\"driver\":\"PoCL 3.1\"},\"choices\":{\"secret\":1},\"settings\":{\"lr\":5e-05,\"lambda\":0.75,"
                     "\"data\":[\"a.jsonl\",\"b.jsonl\"]}}");
}

static void write_pipeline(void) {
    write_stage("sft", "sft", 0, true);
    write_stage("moe", "tune", 1, true);
    write_stage("dense", "merge", 2, false);
    cr_assert_eq(mkdir(path_of("upcycled"), 0777), 0);
    write_text("scores.json", "{\"scores\":[{\"model\":\"base\",\"pass@1\":0.125,\"pass@10\":0.5,\"loss\":1.5,"
                              "\"perplexity\":4.48168907,\"problems\":40,\"samples\":40},{\"model\":\"merged\","
                              "\"pass@1\":0.375,\"loss\":null,\"problems\":40}]}");
}

/* ---- The browser ---- */

/* The document after the scripts have run; *words gets what the browser wrote to its console. */
static char *open_page(const char *page, const char *hash, char **words) {
    char command[900];
    snprintf(
        command, sizeof command,
        "timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=%s/profile "
        "--window-size=1000,900 --enable-logging=stderr --dump-dom 'file://%s%s' >%s/dom 2>%s/words",
        folder, page, hash, folder, folder);
    cr_assert_eq(system(command), 0, "chromium failed");
    char *texts[2];
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(path_of(i ? "words" : "dom"), "r");
        texts[i] = calloc(1, PAGE);
        cr_assert(f && fread(texts[i], 1, PAGE - 1, f) > 0);
        fclose(f);
    }
    *words = texts[1];
    return texts[0];
}

static int count(const char *text, const char *word) {
    int n = 0;
    for (; (text = strstr(text, word)); text += strlen(word)) n++;
    return n;
}

static json_t *data_of(const char *dom) {
    const char *start = strstr(dom, "id=\"xft-data\">"), *end = start ? strstr(start, "</script>") : NULL;
    cr_assert(end);
    start = strchr(start, '>') + 1;
    json_error_t error;
    json_t *data = json_loadb(start, (size_t)(end - start), 0, &error);
    cr_assert(data, "%s", error.text);
    return data;
}

static double at(json_t *stage, const char *part, const char *column, size_t index) {
    return json_number_value(json_array_get(json_object_get(json_object_get(stage, part), column), index));
}

/* The figures in the page are those of the logs. */
static void check_data(json_t *data) {
    static const char *const names[] = {"sft", "moe", "dense"}, *const kinds[] = {"sft", "tune", "merge"};
    cr_assert_eq(json_array_size(json_object_get(data, "stages")), 3);
    for (int i = 0; i < 3; i++) {
        json_t *stage = json_array_get(json_object_get(data, "stages"), (size_t)i);
        cr_expect_str_eq(json_string_value(json_object_get(stage, "name")), names[i], "in the order of their starts");
        cr_expect_str_eq(json_string_value(json_object_get(stage, "kind")), kinds[i]);
        cr_expect_eq(json_array_size(json_object_get(json_object_get(stage, "step"), "loss")), STEPS);
        for (int s = 1; s <= STEPS; s++) {
            cr_expect_eq(at(stage, "step", "step", (size_t)s - 1), s);
            if (s != 7) cr_expect_float_eq(at(stage, "step", "loss", (size_t)s - 1), loss_of(i, s), 1e-8);
            cr_expect_float_eq(at(stage, "step", "lr", (size_t)s - 1), s == 7 ? 5e-5 : 5e-5 * (STEPS - s) / STEPS,
                               1e-12);
        }
        for (int k = 0; k < 6; k++)
            cr_expect_float_eq(at(stage, "eval", "loss", (size_t)k), loss_of(i, 10 * k + 10) + 0.1, 1e-8);
        json_t *shares =
            json_object_get(json_object_get(stage, i == 1 ? "router" : "mixing"), i == 1 ? "load" : "alpha");
        cr_expect_eq(json_array_size(shares), i ? STEPS / 5 : 0);
        for (int t = 0; t < STEPS / 5 && i; t++)
            for (int l = 0; l < LAYERS; l++)
                for (int e = 0; e < EXPERTS; e++)
                    cr_expect_float_eq(json_number_value(json_array_get(
                                           json_array_get(json_array_get(shares, (size_t)t), (size_t)l), (size_t)e)),
                                       share_of(5 * t + 5, l, e), 1e-8);
        cr_expect_null(json_object_get(json_object_get(stage, "run"), "choices"));
    }
}

/* Numbers of an attribute, wherever it stands: their sum. */
static double sum_of(const char *dom, const char *attribute, int *n) {
    char word[40];
    double sum = 0;
    *n = 0;
    snprintf(word, sizeof word, " %s=\"", attribute);
    for (const char *p = dom; (p = strstr(p, word)); ++*n) sum += strtod(p += strlen(word), NULL);
    return sum;
}

/* What the script has drawn shows these figures. */
static void check_drawing(const char *dom) {
    int n;
    const char *body = strstr(dom, "<main");
    char text[80];
    cr_assert(body && strstr(dom, "data-ready=\"yes\""), "the script ran to its end");
    cr_expect_eq(count(body, "<section"), 3);
    cr_expect_eq(count(body, "<canvas"), LAYERS, "a heat map for each layer");
    cr_expect_float_eq(sum_of(body, "data-alpha", &n), LAYERS, 1e-6, "coefficients of the last record");
    cr_expect_eq(n, LAYERS * EXPERTS);
    cr_expect_float_eq(sum_of(body, "data-value", &n), 0.125 + 0.5 + 1.5 + 4.48168907 + 40 + 40 + 0.375 + 40, 1e-7);
    cr_expect(strstr(body, "12.5 %") && strstr(body, "37.5 %") && strstr(body, "50.0 %"));
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, "data-tile=\"loss\"><b>%.4g</b>", loss_of(i, STEPS));
        cr_expect(strstr(body, text), "no %s", text);
        snprintf(text, sizeof text, "data-tile=\"eval\"><b>%.4g</b>", loss_of(i, STEPS) + 0.1);
        cr_expect(strstr(body, text), "no %s", text);
    }
    cr_expect_eq(count(body, "data-tile=\"memory\"><b>3 GiB</b>"), 3);
    cr_expect_eq(count(body, "data-tile=\"skipped\"><b>1</b>"), 3);
    cr_expect_eq(count(body, "data-series=\"evaluation\""), 3);
    cr_expect_eq(count(body, "data-series=\"layer "), LAYERS, "entropy");
    cr_expect_eq(count(body, "resumed once"), 3);
    cr_expect_eq(count(body, "60 of 60 steps, not finished"), 1);
    cr_expect(strstr(body, "Some &lt;CPU&gt;") && strstr(body, "a.jsonl, b.jsonl"));
    for (const char *p = body; (p = strstr(p, " d=\"")); p++) { /* the curves are inside their frames */
        const char *end = strchr(p + 4, '"');
        cr_expect_null(memmem(p, (size_t)(end - p), "NaN", 3));
        cr_expect_null(memmem(p, (size_t)(end - p), "Infinity", 8));
    }
}

Test(report, figures_are_read_back_in_a_browser) {
    write_pipeline();
    const char *title = "A </script><b>run</b> & \"more\" <!--";
    OK(xft_report_write(folder, title, path_of("report.html")));
    for (int theme = 0; theme < 2; theme++) {
        char *words, *dom = open_page(path_of("report.html"), theme ? "#dark" : "#light", &words);
        cr_expect(!strstr(words, "CONSOLE") && !strstr(words, "Uncaught"), "the console is not silent: %s", words);
        json_t *data = data_of(dom);
        cr_expect_str_eq(json_string_value(json_object_get(data, "title")), title);
        check_data(data);
        check_drawing(dom);
        cr_expect(strstr(dom, theme ? "data-theme=\"dark\"" : "data-theme=\"light\""));
        cr_expect(strstr(dom, "A &lt;/script&gt;&lt;b&gt;run&lt;/b&gt; &amp; \"more\" &lt;!--</h1>"));
        json_decref(data);
        free(words);
        free(dom);
    }
}

Test(report, nothing_comes_from_outside) {
    write_pipeline();
    OK(xft_report_write(folder, NULL, path_of("report.html")));
    FILE *f = fopen(path_of("report.html"), "r");
    char *page = calloc(1, PAGE);
    cr_assert(f && fread(page, 1, PAGE - 1, f) > 0);
    fclose(f);
    static const char *const outside[] = {"src=", "<link", "@import", "url(http", "https://", "fetch(", "import("};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        cr_expect_null(strstr(page, outside[i]), "%s", outside[i]);
    cr_expect_eq(count(page, "http://"), count(page, "http://www.w3.org/2000/svg"));
    cr_expect(strstr(page, strrchr(folder, '/') + 1), "the folder's name is the title");
    free(page);
}

Test(report, a_single_run_and_long_logs) {
    FILE *f = open_file("log.jsonl");
    for (int s = 1; s <= 5000; s++) fprintf(f, "{\"event\":\"step\",\"step\":%d,\"loss\":%d}\n", s, s);
    fclose(f);
    OK(xft_report_write(folder, "long", path_of("report.html")));
    char *words, *dom = open_page(path_of("report.html"), "", &words);
    json_t *data = data_of(dom), *stage = json_array_get(json_object_get(data, "stages"), 0);
    cr_expect_eq(json_array_size(json_object_get(json_object_get(stage, "step"), "loss")), 2000);
    cr_expect(at(stage, "step", "loss", 0) == 1 && at(stage, "step", "loss", 1999) == 5000);
    cr_expect(!strstr(words, "CONSOLE") && strstr(dom, "data-ready=\"yes\""), "%s", words);
    json_decref(data);
    free(words);
    free(dom);
}

Test(report, what_cannot_be_read_is_refused) {
    static const struct {
        const char *file, *text, *reason;
    } broken[] = {
        {"scores.json", "{", "scores.json"},
        {"scores.json", "[]", "no JSON object"},
        {"scores.json", "{\"scores\":7}", "no list of scores"},
        {"scores.json", "{\"scores\":[{\"pass@1\":1}]}", "score 0 has no model"},
        {"log.jsonl", "{\"event\":\"start\"}\n{\"event\":\n{}\n", "log.jsonl:2"},
        {"log.jsonl", "[]\n", "log.jsonl:1: no JSON object"},
        {"log.jsonl", "{}\n", "log.jsonl:1: no event"},
        {"log.jsonl", "{\"event\":\"step\",\"loss\":1}\n", "event step has no step"},
        {"log.jsonl", "{\"event\":\"router\",\"step\":1,\"load\":5}\n", "event router has no load"},
        {"run.json", "no", "run.json"},
    };
    cr_expect_eq(xft_report_write(folder, NULL, path_of("report.html")), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "neither log.jsonl"), "%s", xft_error());
    write_text("report.html", "the one before");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        write_text("log.jsonl", "");
        write_text(broken[i].file, broken[i].text);
        cr_expect_eq(xft_report_write(folder, NULL, path_of("report.html")), XFT_ERROR_FORMAT, "%s", broken[i].text);
        cr_expect(strstr(xft_error(), broken[i].reason), "%s: %s", broken[i].text, xft_error());
        unlink(path_of(broken[i].file));
    }
    cr_expect_eq(xft_report_write(path_of("absent"), NULL, path_of("report.html")), XFT_ERROR_IO);
    cr_expect_eq(xft_report_write(NULL, NULL, path_of("report.html")), XFT_ERROR_INVALID_ARGUMENT);
    struct stat about;
    cr_expect(stat(path_of("report.html"), &about) == 0 && about.st_size == 14, "the one before is there");
}
