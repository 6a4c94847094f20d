/* The ids that end an answer of a model, wherever its folder names them. */
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "error.h"
#include "files.h"
#include "xft/checkpoint.h"

typedef struct stop_list {
    uint32_t *ids, count, room;
} stop_list;

static void add_stop(stop_list *stops, uint32_t id) {
    for (uint32_t i = 0; i < stops->count; i++)
        if (stops->ids[i] == id) return;
    if (stops->count < stops->room) stops->ids[stops->count++] = id;
}

/* eos_token_id of a JSON file: a number, a list of them, or null. */
static xft_status stops_of_file(const char *folder, const char *name, stop_list *stops) {
    char *path, *text = NULL;
    xft_status status = xft_path_join(folder, name, &path);
    if (status != XFT_OK) return status;
    if (access(path, F_OK) == 0) status = xft_read_file(path, &text, NULL);
    json_error_t where;
    json_t *root = text ? json_loads(text, 0, &where) : NULL;
    if (text && !root)
        status = xft_fail(XFT_ERROR_FORMAT, "%s:%d:%d: no JSON: %s", path, where.line, where.column, where.text);
    const json_t *eos = json_object_get(root, "eos_token_id");
    const size_t count = json_is_array(eos) ? json_array_size(eos) : eos && !json_is_null(eos);
    for (size_t i = 0; i < count && status == XFT_OK; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < UINT32_MAX)
            add_stop(stops, (uint32_t)json_integer_value(id));
        else
            status = xft_fail(XFT_ERROR_FORMAT, "%s: eos_token_id: expected the id of a token, or a list of ids", path);
    }
    json_decref(root);
    free(text);
    free(path);
    return status;
}

xft_status xft_checkpoint_stops(const char *folder, const xft_tokenizer *tokenizer, uint32_t *ids, uint32_t *count) {
    XFT_NEED(folder, ids, count);
    stop_list stops = {ids, 0, *count};
    uint32_t eos;
    *count = 0;
    XFT_TRY(stops_of_file(folder, "config.json", &stops));
    XFT_TRY(stops_of_file(folder, "generation_config.json", &stops));
    if (tokenizer && xft_tokenizer_role(tokenizer, XFT_TOKEN_EOS, &eos)) add_stop(&stops, eos);
    *count = stops.count;
    return XFT_OK;
}
