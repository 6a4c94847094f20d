#include "choice.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two JSON objects, from the text or the cache and the tuner, and what this process took; the text handed out. */
struct xft_choices {
    json_t *known, *taken;
    bool changed, given, note_failed;
    char *text;
};

static char *cache_path(const xft_device *device) {
    if (!device->cache_dir) return NULL;
    size_t room = strlen(device->cache_dir) + 64;
    char *path = malloc(room);
    if (!path) return NULL;
    /* One file per device and driver: FNV-1a of their names. */
    uint64_t hash = 0xcbf29ce484222325u;
    const char *const parts[] = {device->info.name, device->info.platform, device->info.driver, xft_version()};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *p = parts[i]; *p; p++) hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    snprintf(path, room, "%s/choices-%s-%016llx.json", device->cache_dir, device->driver->name,
             (unsigned long long)hash);
    return path;
}

/* The "choices" object of a document, when all its values are strings; a new reference. */
static json_t *choices_of(json_t *document) {
    json_t *choices = json_object_get(document, "choices");
    if (!json_is_object(choices)) return NULL;
    const char *key;
    json_t *value;
    json_object_foreach(choices, key, value) {
        if (!json_is_string(value)) return NULL;
    }
    return json_incref(choices);
}

/* The text may come from another device, where a run goes on with other bits. */
static bool is_of(const xft_device *device, const json_t *document) {
    const char *name = json_string_value(json_object_get(document, "device"));
    const char *api = json_string_value(json_object_get(document, "api"));
    return (!name || !strcmp(name, device->info.name)) && (!api || !strcmp(api, device->driver->name));
}

static xft_status take_text(xft_device *device, const char *text) {
    struct xft_choices *c = device->choices;
    json_error_t error;
    json_t *document = json_loads(text, 0, &error);
    XFT_FAIL_IF(!document, XFT_ERROR_FORMAT, "options.choices is not JSON: line %d: %s", error.line, error.text);
    json_t *choices = choices_of(document);
    c->given = choices && is_of(device, document);
    if (c->given) json_object_update(c->known, choices);
    json_decref(document);
    XFT_FAIL_IF(!choices, XFT_ERROR_FORMAT,
                "options.choices has no object \"choices\" of strings; expected the text of xft_device_choices");
    json_decref(choices);
    return XFT_OK;
}

xft_status xft_choices_load(xft_device *device, const char *text) {
    struct xft_choices *c = calloc(1, sizeof *c);
    XFT_FAIL_IF(!c, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the choices of kernels");
    device->choices = c;
    c->known = json_object();
    c->taken = json_object();
    XFT_FAIL_IF(!c->known || !c->taken, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the choices of kernels");
    if (text) XFT_TRY(take_text(device, text));
    char *path = c->given ? NULL : cache_path(device);
    if (path) {
        json_t *document = json_load_file(path, 0, NULL), *choices = choices_of(document);
        if (choices) json_object_update(c->known, choices);
        json_decref(choices);
        json_decref(document);
        free(path);
    }
    return XFT_OK;
}

const char *xft_choice_get(const xft_device *device, const char *key) {
    return json_string_value(json_object_get(device->choices->known, key));
}

xft_status xft_choice_set(xft_device *device, const char *key, const char *value) {
    struct xft_choices *c = device->choices;
    XFT_FAIL_IF(json_object_set_new(c->known, key, json_string(value)), XFT_ERROR_OUT_OF_HOST_MEMORY,
                "no memory for the choice of %s", key);
    c->changed = true;
    return XFT_OK;
}

void xft_choice_note(const xft_device *device, const char *key, const char *value) {
    struct xft_choices *c = device->choices;
    const char *before = json_string_value(json_object_get(c->taken, key));
    if (before && !strcmp(before, value)) return;
    c->note_failed |= json_object_set_new(c->taken, key, json_string(value)) != 0;
}

xft_status xft_choices_noted(const xft_device *device) {
    const bool failed = device->choices->note_failed;
    device->choices->note_failed = false;
    XFT_FAIL_IF(failed, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the choices of kernels");
    return XFT_OK;
}

static json_t *document_of(const xft_device *device, json_t *choices) {
    return json_pack("{s:s,s:s,s:s,s:O}", "device", device->info.name, "api", device->driver->name, "driver",
                     device->info.driver, "choices", choices);
}

void xft_choices_save(xft_device *device) {
    struct xft_choices *c = device->choices;
    if (!c || !c->changed || c->given) return;
    char *path = cache_path(device);
    json_t *document = document_of(device, c->known);
    if (path && document) {
        size_t room = strlen(path) + 32;
        char *temporary = malloc(room);
        if (temporary) {
            snprintf(temporary, room, "%s.%ld", path, (long)getpid());
            if (json_dump_file(document, temporary, JSON_INDENT(1) | JSON_SORT_KEYS) || rename(temporary, path))
                unlink(temporary);
        }
        free(temporary);
    }
    json_decref(document);
    free(path);
}

void xft_choices_free(xft_device *device) {
    struct xft_choices *c = device->choices;
    if (!c) return;
    json_decref(c->known);
    json_decref(c->taken);
    free(c->text);
    free(c);
    device->choices = NULL;
}

xft_status xft_choices_text(xft_device *device, const char **json) {
    struct xft_choices *c = device->choices;
    json_t *all = json_copy(c->known);
    const bool failed = !all || json_object_update(all, c->taken);
    json_t *document = failed ? NULL : document_of(device, all);
    char *text = document ? json_dumps(document, JSON_SORT_KEYS) : NULL;
    json_decref(document);
    json_decref(all);
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the text of the choices");
    free(c->text);
    c->text = text;
    *json = text;
    return XFT_OK;
}
