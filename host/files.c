#include "files.h"

#include "error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

xft_status xft_path_join(const char *folder, const char *name, char **path) {
    if (asprintf(path, "%s/%s", folder, name) >= 0) return XFT_OK;
    *path = NULL;
    return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s/%s: no memory for the path", folder, name);
}

/* "TEXT.SUFFIX-PID": no two processes share one. */
static xft_status private_name(const char *text, const char *suffix, char **name) {
    if (asprintf(name, "%s.%s-%ld", text, suffix, (long)getpid()) >= 0) return XFT_OK;
    *name = NULL;
    return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for its name", text);
}

/* ---- Reading ---- */

xft_status xft_read_file(const char *path, char **text, size_t *bytes) {
    *text = NULL;
    FILE *file = fopen(path, "rbe");
    XFT_FAIL_IF(!file, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    size_t size = 0, room = 0, n;
    xft_status status = XFT_OK;
    do {
        if (size + 4096 > room) {
            char *grown = realloc(*text, room = 2 * room + (1 << 16));
            if (!grown) {
                status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory to read it", path);
                break;
            }
            *text = grown;
        }
        n = fread(*text + size, 1, room - size - 1, file);
        (*text)[size += n] = 0;
    } while (n);
    if (status == XFT_OK && ferror(file)) status = xft_fail(XFT_ERROR_IO, "%s: read: %s", path, strerror(errno));
    fclose(file);
    if (status == XFT_OK && !bytes && strlen(*text) != size)
        status = xft_fail(XFT_ERROR_FORMAT, "%s: holds a zero byte at offset %zu", path, strlen(*text));
    if (status != XFT_OK) {
        free(*text);
        *text = NULL;
    } else if (bytes) {
        *bytes = size;
    }
    return status;
}

/* ---- Writing ---- */

xft_status xft_write_all(int fd, const char *path, const void *data, uint64_t bytes) {
    const char *at = data;
    while (bytes) {
        ssize_t n = write(fd, at, bytes < (1u << 30) ? bytes : (1u << 30));
        if (n < 0 && errno == EINTR) continue;
        XFT_FAIL_IF(n <= 0, XFT_ERROR_IO, "%s: write: %s", path, strerror(errno));
        at += n;
        bytes -= (uint64_t)n;
    }
    return XFT_OK;
}

xft_status xft_write_begin(const char *path, char **temporary, int *fd) {
    XFT_TRY(private_name(path, "tmp", temporary));
    *fd = open(*temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (*fd >= 0) return XFT_OK;
    xft_status status = xft_fail(XFT_ERROR_IO, "%s: %s", *temporary, strerror(errno));
    free(*temporary);
    *temporary = NULL;
    return status;
}

xft_status xft_write_finish(const char *path, char *temporary, int fd, xft_status status) {
    if (status == XFT_OK && fsync(fd) != 0) status = xft_fail(XFT_ERROR_IO, "%s: fsync: %s", path, strerror(errno));
    if (close(fd) != 0 && status == XFT_OK) status = xft_fail(XFT_ERROR_IO, "%s: close: %s", path, strerror(errno));
    if (status == XFT_OK && rename(temporary, path) != 0)
        status = xft_fail(XFT_ERROR_IO, "%s: rename: %s", path, strerror(errno));
    if (status == XFT_OK)
        status = xft_sync_folder(path);
    else
        unlink(temporary);
    free(temporary);
    return status;
}

xft_status xft_write_file(const char *path, const void *data, size_t bytes) {
    char *temporary;
    int fd;
    XFT_TRY(xft_write_begin(path, &temporary, &fd));
    return xft_write_finish(path, temporary, fd, xft_write_all(fd, path, data, bytes));
}

static xft_status copy_content(int from, const char *path, int to, const char *to_path) {
    char block[1 << 16];
    for (;;) {
        ssize_t n = read(from, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        XFT_FAIL_IF(n < 0, XFT_ERROR_IO, "%s: read: %s", path, strerror(errno));
        if (n == 0) return XFT_OK;
        XFT_TRY(xft_write_all(to, to_path, block, (uint64_t)n));
    }
}

xft_status xft_copy_file(const char *from, const char *to) {
    char *temporary;
    int source = open(from, O_RDONLY | O_CLOEXEC), fd;
    XFT_FAIL_IF(source < 0, XFT_ERROR_IO, "%s: %s", from, strerror(errno));
    xft_status status = xft_write_begin(to, &temporary, &fd);
    if (status == XFT_OK) status = xft_write_finish(to, temporary, fd, copy_content(source, from, fd, to));
    close(source);
    return status;
}

/* ---- Folders ---- */

/* The part of `path` in front of its last name, to be freed; "." and "/" where there is none. */
static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

xft_status xft_sync_folder(const char *path) {
    char *folder = parent_of(path);
    XFT_FAIL_IF(!folder, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int reason = errno;
    if (fd >= 0) close(fd);
    free(folder);
    XFT_FAIL_IF(!ok, XFT_ERROR_IO, "%s: fsync of its folder: %s", path, strerror(reason));
    return XFT_OK;
}

xft_status xft_temporary_folder(const char *name, char **path) {
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder) folder = "/tmp";
    if (asprintf(path, "%s/%s-XXXXXX", folder, name) < 0) {
        *path = NULL;
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for a temporary folder", folder);
    }
    if (mkdtemp(*path)) return XFT_OK;
    xft_status status =
        xft_fail(XFT_ERROR_IO, "%s: no temporary folder can be made there: %s", folder, strerror(errno));
    free(*path);
    *path = NULL;
    return status;
}

xft_status xft_make_folder(const char *path) {
    struct stat s;
    char *copy = strdup(path);
    XFT_FAIL_IF(!copy, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    bool ok = true;
    for (char *at = copy; ok && *at; at++) {
        while (*at == '/') at++;
        while (*at && *at != '/') at++;
        char end = *at;
        *at = 0;
        ok = mkdir(copy, 0777) == 0 || (errno == EEXIST && stat(copy, &s) == 0 && S_ISDIR(s.st_mode));
        *at = end;
        if (!end) break;
    }
    int reason = errno;
    free(copy);
    XFT_FAIL_IF(!ok, XFT_ERROR_IO, "%s: cannot make the folder: %s", path, strerror(reason));
    return XFT_OK;
}

static int is_entry(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

xft_status xft_list_folder(const char *path, char ***names, size_t *count) {
    struct dirent **entries;
    *names = NULL;
    *count = 0;
    int n = scandir(path, &entries, is_entry, alphasort);
    XFT_FAIL_IF(n < 0, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    char **list = calloc((size_t)n + 1, sizeof *list);
    bool ok = list != NULL;
    for (int i = 0; i < n; i++) {
        if (ok) ok = (list[i] = strdup(entries[i]->d_name)) != NULL;
        free(entries[i]);
    }
    free(entries);
    if (!ok) {
        xft_free_list(list, (size_t)n);
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for %d names", path, n);
    }
    *names = list;
    *count = (size_t)n;
    return XFT_OK;
}

void xft_free_list(char **names, size_t count) {
    for (size_t i = 0; names && i < count; i++) free(names[i]);
    free(names);
}

/* Calls `visit` with the path of every entry of a folder. */
static xft_status each_entry(const char *path, xft_status (*visit)(const char *path, void *user), void *user) {
    char **names;
    size_t count;
    XFT_TRY(xft_list_folder(path, &names, &count));
    xft_status status = XFT_OK;
    for (size_t i = 0; i < count && status == XFT_OK; i++) {
        char *name;
        status = xft_path_join(path, names[i], &name);
        if (status == XFT_OK) status = visit(name, user);
        free(name);
    }
    xft_free_list(names, count);
    return status;
}

static xft_status remove_entry(const char *path, void *user) {
    (void)user;
    return xft_remove_all(path);
}

xft_status xft_remove_all(const char *path) {
    struct stat s;
    if (lstat(path, &s) != 0) {
        XFT_FAIL_IF(errno != ENOENT, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
        return XFT_OK;
    }
    if (S_ISDIR(s.st_mode)) XFT_TRY(each_entry(path, remove_entry, NULL));
    XFT_FAIL_IF(remove(path) != 0, XFT_ERROR_IO, "%s: cannot be removed: %s", path, strerror(errno));
    return XFT_OK;
}

/* "NAME.tmp-PID", "NAME.old-PID" */
static bool is_left_over(const char *name) {
    const char *mark = strstr(name, ".tmp-");
    if (!mark) mark = strstr(name, ".old-");
    return mark && mark[5] && strspn(mark + 5, "0123456789") == strlen(mark + 5);
}

xft_status xft_remove_left_overs(const char *folder, const char *begin) {
    char **names;
    size_t count;
    if (access(folder, F_OK) != 0) return XFT_OK;
    XFT_TRY(xft_list_folder(folder, &names, &count));
    xft_status status = XFT_OK;
    for (size_t i = 0; i < count && status == XFT_OK; i++) {
        char *path;
        if (!is_left_over(names[i]) || strncmp(names[i], begin, strlen(begin)) != 0) continue;
        status = xft_path_join(folder, names[i], &path);
        if (status == XFT_OK) status = xft_remove_all(path);
        free(path);
    }
    xft_free_list(names, count);
    return status;
}

/* Not every file system can swap two folders; then the old one steps aside first, and is there until the end. */
static xft_status step_aside(const char *from, const char *to, char **aside) {
    XFT_TRY(private_name(to, "old", aside));
    XFT_FAIL_IF(rename(to, *aside) != 0, XFT_ERROR_IO, "%s: rename: %s", to, strerror(errno));
    if (rename(from, to) == 0) return XFT_OK;
    int reason = errno;
    rename(*aside, to);
    return xft_fail(XFT_ERROR_IO, "%s: rename: %s", to, strerror(reason));
}

xft_status xft_replace(const char *from, const char *to) {
    struct stat s;
    char *old = NULL;
    xft_status status = XFT_OK;
    if (lstat(to, &s) != 0) {
        XFT_FAIL_IF(rename(from, to) != 0, XFT_ERROR_IO, "%s: rename: %s", to, strerror(errno));
    } else if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) {
        old = strdup(from);
        if (!old) status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", from);
    } else {
        status = step_aside(from, to, &old);
    }
    if (status == XFT_OK) status = xft_sync_folder(to);
    if (status == XFT_OK && old) status = xft_remove_all(old);
    free(old);
    return status;
}

/* ---- Space ---- */

static xft_status add_size(const char *path, void *user) {
    *(uint64_t *)user += xft_size_on_disk(path);
    return XFT_OK;
}

uint64_t xft_size_on_disk(const char *path) {
    struct stat s;
    uint64_t bytes = 0;
    if (lstat(path, &s) != 0) return 0;
    if (!S_ISDIR(s.st_mode)) return S_ISREG(s.st_mode) ? (uint64_t)s.st_size : 0;
    return each_entry(path, add_size, &bytes) == XFT_OK ? bytes : 0;
}

xft_status xft_check_space(const char *path, uint64_t bytes, const char *what) {
    char *at = strdup(path);
    struct statvfs s;
    int failed = -1;
    while (at && (failed = statvfs(at, &s)) != 0 && errno == ENOENT && strcmp(at, ".") != 0 && strcmp(at, "/") != 0) {
        char *up = parent_of(at);
        free(at);
        at = up;
    }
    int reason = at ? errno : ENOMEM;
    free(at);
    XFT_FAIL_IF(failed, XFT_ERROR_IO, "%s: free space: %s", path, strerror(reason));
    uint64_t available = (uint64_t)s.f_bavail * s.f_frsize;
    XFT_FAIL_IF(available < bytes, XFT_ERROR_IO,
                "%s: %s needs %.1f MB of disk space, %.1f MB are free; free some, or choose another output folder",
                path, what, (double)bytes / 1e6, (double)available / 1e6);
    return XFT_OK;
}
