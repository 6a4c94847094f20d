#include "model_folder.h"

#include "error.h"
#include "files.h"
#include "xft/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Whole, what it replaces is still to go; what it replaces is gone. */
static const char whole_name[] = "model.new", moving_name[] = "model.moving", config_name[] = "config.json";

const char *const xft_carried_names[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "added_tokens.json",
    "merges.txt",
    "vocab.txt",
    "LICENSE",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "LICENSE.txt",
    "spiece.model",
    NULL,
};

static bool is_carried(const char *name) {
    for (size_t i = 0; xft_carried_names[i]; i++)
        if (!strcmp(name, xft_carried_names[i])) return true;
    return false;
}

/* Configuration and weights, in HF's naming, and the account of a merge, which is written after its model. */
static bool is_model(const char *name) {
    static const char *const names[] = {config_name, XFT_BASE_NAME, XFT_SINGLE_NAME, XFT_INDEX_NAME, "merge.json"};
    unsigned shard, shards;
    int end = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return sscanf(name, "model-%5u-of-%5u.safetensors%n", &shard, &shards, &end) == 2 && end && !name[end];
}

static xft_status drop(const char *folder, const char *name) {
    char *path;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = xft_remove_all(path);
    free(path);
    return status;
}

static xft_status move(const char *from, const char *to, const char *name) {
    char *source = NULL, *target = NULL;
    xft_status status = xft_path_join(from, name, &source);
    if (status == XFT_OK) status = xft_path_join(to, name, &target);
    if (status == XFT_OK && rename(source, target) != 0)
        status = xft_fail(XFT_ERROR_IO, "%s: rename: %s", target, strerror(errno));
    free(source);
    free(target);
    return status;
}

/* The old model goes, its configuration first: without that nobody takes the rest for a model. Tokenizer files go when
 * the new one brings its own. */
static xft_status clear(const char *folder, const char *whole) {
    char **names = NULL, **fresh;
    size_t count = 0, fresh_count;
    bool carries = false;
    XFT_TRY(xft_list_folder(whole, &fresh, &fresh_count));
    for (size_t i = 0; i < fresh_count; i++) carries = carries || is_carried(fresh[i]);
    xft_free_list(fresh, fresh_count);
    xft_status status = drop(folder, config_name);
    if (status == XFT_OK) status = xft_list_folder(folder, &names, &count);
    for (size_t i = 0; i < count && status == XFT_OK; i++)
        if (is_model(names[i]) || (carries && is_carried(names[i]))) status = drop(folder, names[i]);
    xft_free_list(names, count);
    return status;
}

static xft_status move_all(const char *moving, const char *folder) {
    char **names;
    size_t count;
    bool config = false;
    XFT_TRY(xft_list_folder(moving, &names, &count));
    xft_status status = XFT_OK;
    for (size_t i = 0; i < count && status == XFT_OK; i++) {
        if (!strcmp(names[i], config_name))
            config = true;
        else
            status = move(moving, folder, names[i]);
    }
    if (status == XFT_OK && config) status = move(moving, folder, config_name);
    if (status == XFT_OK) status = xft_sync_folder(moving); /* that is: of `folder` */
    if (status == XFT_OK) status = xft_remove_all(moving);
    xft_free_list(names, count);
    return status;
}

static xft_status put_in_place(const char *folder, const char *whole, const char *moving) {
    if (access(whole, F_OK) == 0) {
        XFT_TRY(clear(folder, whole));
        XFT_FAIL_IF(rename(whole, moving) != 0, XFT_ERROR_IO, "%s: rename: %s", moving, strerror(errno));
    }
    return access(moving, F_OK) == 0 ? move_all(moving, folder) : XFT_OK;
}

/* The model at work is held by a lock on its own folder: one process moves, others wait until it is done. */
static xft_status settle(const char *folder, const char *whole, const char *moving) {
    int fd = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) fd = open(moving, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return XFT_OK;
    flock(fd, LOCK_EX);
    xft_status status = put_in_place(folder, whole, moving);
    if (status != XFT_OK)
        status = xft_fail_in(status, "%s: a finished model waits in %s to be put in place", folder,
                             access(whole, F_OK) == 0 ? whole_name : moving_name);
    close(fd);
    return status;
}

xft_status xft_model_settle(const char *folder) {
    char *whole, *moving = NULL;
    XFT_TRY(xft_path_join(folder, whole_name, &whole));
    xft_status status = xft_path_join(folder, moving_name, &moving);
    if (status == XFT_OK) status = settle(folder, whole, moving);
    free(whole);
    free(moving);
    return status;
}

xft_status xft_checkpoint_exists(const char *folder, bool *exists) {
    XFT_NEED(folder, exists);
    static const char *const names[] = {config_name, XFT_SINGLE_NAME, XFT_INDEX_NAME};
    bool found[3] = {false};
    *exists = false;
    XFT_TRY(xft_model_settle(folder));
    for (size_t i = 0; i < 3; i++) {
        char *path;
        XFT_TRY(xft_path_join(folder, names[i], &path));
        found[i] = access(path, F_OK) == 0;
        free(path);
    }
    *exists = found[0] && (found[1] || found[2]);
    return XFT_OK;
}

xft_status xft_model_tidy(const char *folder) {
    XFT_TRY(xft_model_settle(folder));
    return xft_remove_left_overs(folder, "model");
}

xft_status xft_model_commit(const char *temporary, const char *folder) {
    char *whole;
    XFT_TRY(xft_path_join(folder, whole_name, &whole));
    xft_status status = XFT_OK;
    if (rename(temporary, whole) != 0) status = xft_fail(XFT_ERROR_IO, "%s: rename: %s", whole, strerror(errno));
    if (status == XFT_OK) status = xft_sync_folder(whole);
    free(whole);
    return status == XFT_OK ? xft_model_settle(folder) : status;
}
