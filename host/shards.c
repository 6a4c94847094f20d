#include "shards.h"

#include "error.h"
#include "files.h"
#include "model_folder.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void xft_shards_close(xft_shards *s) {
    for (size_t i = 0; i < s->count; i++) xft_safetensors_close(s->files[i]);
    free(s->files);
    *s = (xft_shards){0};
}

static xft_status open_shard(xft_shards *s, const char *folder, const char *name) {
    XFT_FAIL_IF(strchr(name, '/') || !strcmp(name, ".."), XFT_ERROR_FORMAT, "%s: shard \"%s\" is no plain file name",
                folder, name);
    xft_safetensors **files = realloc(s->files, (s->count + 1) * sizeof *files);
    XFT_FAIL_IF(!files, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %zu shards", s->count + 1);
    s->files = files;
    char *path;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = xft_safetensors_open(path, &s->files[s->count]);
    free(path);
    if (status == XFT_OK) s->count++;
    return status;
}

/* Every shard that weight_map names, and every name in the shard it is promised in. */
static xft_status open_index(xft_shards *s, const char *folder, const char *path) {
    char *text;
    XFT_TRY(xft_read_file(path, &text, NULL));
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error), *map = json_object_get(root, "weight_map");
    free(text);
    xft_status status = XFT_OK;
    if (!json_is_object(map)) status = xft_fail(XFT_ERROR_FORMAT, "%s: %s", path, root ? "no weight_map" : error.text);
    json_t *opened = json_object(), *value;
    const char *name;
    json_object_foreach(map, name, value) {
        const char *file = json_string_value(value);
        if (status != XFT_OK) break;
        if (!file) {
            status = xft_fail(XFT_ERROR_FORMAT, "%s: tensor %s: no file name", path, name);
            break;
        }
        if (!json_object_get(opened, file)) {
            status = open_shard(s, folder, file);
            if (status != XFT_OK) break;
            json_object_set_new(opened, file, json_integer((json_int_t)s->count - 1));
        }
        if (!xft_safetensors_find(s->files[json_integer_value(json_object_get(opened, file))], name))
            status = xft_fail(XFT_ERROR_FORMAT, "%s: tensor %s is not in %s", path, name, file);
    }
    json_decref(opened);
    json_decref(root);
    return status;
}

xft_status xft_shards_open(const char *folder, xft_shards *s) {
    *s = (xft_shards){0};
    char *index;
    XFT_TRY(xft_model_settle(folder));
    XFT_TRY(xft_path_join(folder, XFT_INDEX_NAME, &index));
    xft_status status =
        access(index, F_OK) == 0 ? open_index(s, folder, index) : open_shard(s, folder, XFT_SINGLE_NAME);
    free(index);
    if (status != XFT_OK) xft_shards_close(s);
    return status;
}

const xft_stored_tensor *xft_shards_find(const xft_shards *s, const char *name, const char **path) {
    for (size_t i = 0; i < s->count; i++) {
        const xft_stored_tensor *t = xft_safetensors_find(s->files[i], name);
        if (path) *path = xft_safetensors_path(s->files[i]);
        if (t) return t;
    }
    return NULL;
}
