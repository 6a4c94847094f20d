/* run.json and log.jsonl of a run, and fingerprints of its inputs. */
#include "run.h"

#include "error.h"
#include "files.h"
#include "model_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- JSON ---- */

json_t *xft_run_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *xft_run_time(void) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char text[48], seconds[32];
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, sizeof text, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
    return json_string(text);
}

xft_status xft_run_read_json(const char *folder, const char *name, json_t **json) {
    char *path, *text = NULL;
    *json = NULL;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = access(path, F_OK) ? XFT_OK : xft_read_file(path, &text, NULL);
    json_error_t error;
    if (status == XFT_OK && text) {
        *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(*json))
            status = xft_fail(XFT_ERROR_FORMAT, "%s: %s (line %d)", path, *json ? "no JSON object" : error.text,
                              *json ? 1 : error.line);
    }
    if (status != XFT_OK) {
        json_decref(*json);
        *json = NULL;
    }
    free(text);
    free(path);
    return status;
}

xft_status xft_run_write_json(const char *folder, const char *name, const json_t *json) {
    char *path, *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s/%s: no memory to write it", folder, name);
    xft_status status = xft_path_join(folder, name, &path);
    if (status == XFT_OK) status = xft_write_file(path, text, strlen(text));
    free(path);
    free(text);
    return status;
}

xft_status xft_run_origin(const xft_run_job *job, json_t **json) {
    const xft_device_info *info = xft_device_get_info(job->device);
    const char *choices;
    XFT_TRY(xft_device_choices(job->device, &choices));
    *json = json_pack("{s:s,s:s,s:{s:s,s:s,s:s,s:s},s:o,s:O,s:O}", "stage", xft_run_stage_word(job->o.stage), "version",
                      xft_version(), "device", "id", info->id, "name", info->name, "platform", info->platform, "driver",
                      info->driver, "choices", json_loads(choices, 0, NULL), "settings", job->settings, "inputs",
                      job->inputs);
    XFT_FAIL_IF(!*json, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the description of a run");
    return XFT_OK;
}

xft_status xft_run_describe(xft_run_job *job, const char *status, const char *message) {
    json_t *json = json_pack("{s:s,s:s?,s:o,s:I}", "status", status, "message", message, "time", xft_run_time(),
                             "steps", (json_int_t)job->steps),
           *progress = xft_run_progress_json(&job->progress), *origin = NULL;
    xft_status written = xft_run_origin(job, &origin);
    if (written == XFT_OK) {
        json_object_update(json, progress);
        json_object_update(json, origin);
        written = xft_run_write_json(job->o.output, "run.json", json);
    }
    json_decref(origin);
    json_decref(progress);
    json_decref(json);
    return written;
}

/* ---- Log ---- */

/* Bytes of the lines that stay: up to the first that is cut short, is no JSON, or comes after `step`. */
static size_t kept(const char *text, uint64_t step) {
    const char *at = text;
    for (const char *end; (end = strchr(at, '\n')); at = end + 1) {
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL), *number = json_object_get(line, "step");
        bool stays = json_is_object(line) && (!number || (uint64_t)json_integer_value(number) <= step);
        json_decref(line);
        if (!stays) break;
    }
    return (size_t)(at - text);
}

xft_status xft_run_log_open(xft_run_job *job, bool fresh, uint64_t step) {
    char *path, *text = NULL;
    XFT_TRY(xft_path_join(job->o.output, "log.jsonl", &path));
    size_t bytes, size = 0;
    if (!fresh && access(path, F_OK) == 0) {
        xft_status status = xft_read_file(path, &text, &bytes);
        if (status != XFT_OK) {
            free(path);
            return status;
        }
        size = kept(text, step);
        free(text);
    }
    job->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    bool ok = job->log >= 0 && ftruncate(job->log, (off_t)size) == 0;
    xft_status status = ok ? XFT_OK : xft_fail(XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    free(path);
    return status;
}

xft_status xft_run_log(xft_run_job *job, const char *event, json_t *fields) {
    json_t *line = json_pack("{s:s,s:o}", "event", event, "time", xft_run_time());
    if (strcmp(event, "start") != 0) json_object_set_new(line, "step", json_integer((json_int_t)job->progress.step));
    if (fields) json_object_update(line, fields); /* a step line, told one step late, has a step of its own */
    json_decref(fields);
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(line);
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s/log.jsonl: no memory for a line", job->o.output);
    size_t length = strlen(text);
    text[length] = '\n'; /* one write for a line, so that a killed process leaves whole ones */
    xft_status status = xft_write_all(job->log, "log.jsonl", text, length + 1);
    free(text);
    return status == XFT_OK ? status : xft_fail_in(status, "%s", job->o.output);
}

/* ---- Fingerprints ---- */

/* Two multiplicative hashes of 64 bits beside each other, word by word. */
typedef struct hash {
    uint64_t a, b;
} hash;

static void mix_word(hash *h, uint64_t word) {
    h->a = (h->a ^ word) * 0x9e3779b97f4a7c15u;
    h->a ^= h->a >> 29;
    h->b = (h->b + word) * 0xd6e8feb86659fd93u;
    h->b = h->b << 31 | h->b >> 33;
}

static void mix(hash *h, const unsigned char *data, size_t bytes) {
    uint64_t word;
    size_t at = 0;
    for (; at + 8 <= bytes; at += 8) {
        memcpy(&word, data + at, 8);
        mix_word(h, word);
    }
    word = 0;
    memcpy(&word, data + at, bytes - at);
    mix_word(h, word);
    mix_word(h, bytes);
}

static xft_status mix_file(hash *h, const char *path) {
    static const size_t block = 1 << 20;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    XFT_FAIL_IF(fd < 0, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    unsigned char *data = malloc(block);
    xft_status status = data ? XFT_OK : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory to read it", path);
    bool more = true;
    while (status == XFT_OK && more) {
        size_t used = 0;
        while (used < block && more) { /* whole blocks: where they end belongs to the hash */
            ssize_t n = read(fd, data + used, block - used);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) status = xft_fail(XFT_ERROR_IO, "%s: read: %s", path, strerror(errno));
            more = n > 0;
            if (more) used += (size_t)n;
        }
        mix(h, data, used);
    }
    free(data);
    close(fd);
    return status;
}

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

static bool belongs_to_model(const char *name) {
    static const char *const accounts[] = {"run.json",  "stage.json",    "merge.json",
                                           "eval.json", "pipeline.json", "scores.json"}; /* of how it was made */
    for (size_t i = 0; i < sizeof accounts / sizeof *accounts; i++)
        if (!strcmp(name, accounts[i])) return false;
    return ends_with(name, ".json") || ends_with(name, ".safetensors") || !strcmp(name, "merges.txt") ||
           !strcmp(name, "tokenizer.model");
}

static xft_status mix_folder(hash *h, const char *folder) {
    char **names;
    size_t count;
    XFT_TRY(xft_model_settle(folder));
    XFT_TRY(xft_list_folder(folder, &names, &count));
    xft_status status = XFT_OK;
    for (size_t i = 0; i < count && status == XFT_OK; i++) {
        if (!belongs_to_model(names[i])) continue;
        char *path;
        mix(h, (const unsigned char *)names[i], strlen(names[i]));
        status = xft_path_join(folder, names[i], &path);
        if (status == XFT_OK) status = mix_file(h, path);
        free(path);
    }
    xft_free_list(names, count);
    return status;
}

xft_status xft_fingerprint(const char *path, char hex[33]) {
    XFT_NEED(path, hex);
    struct stat s;
    hash h = {1, 2};
    XFT_FAIL_IF(stat(path, &s) != 0, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    XFT_TRY(S_ISDIR(s.st_mode) ? mix_folder(&h, path) : mix_file(&h, path));
    for (int i = 0; i < 4; i++) mix_word(&h, h.a ^ h.b);
    snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, h.a, h.b);
    return XFT_OK;
}
