/* disk_shim: preloaded into a process, it counts what changes the files below $SHIM_FOLDER, and at one of these calls
 * kills the process or lets the call fail.
 *
 *   SHIM_FOLDER   files to watch
 *   SHIM_FROM     counting begins with the call on a path that holds this text
 *   SHIM_UNTIL    … and ends after the one on a path that holds this text; both calls count
 *   SHIM_KILL     number of the call, from 1, at which the process dies of SIGKILL: a write is cut in the middle, of
 *                 anything else nothing is done
 *   SHIM_FAIL     number of the call from which on all fail: disk full (writes), I/O error (anything else)
 *   SHIM_COUNT    file that gets one line per call
 *   SHIM_FREE     bytes that file systems say are free */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_renameat2)(int, const char *, int, const char *, unsigned);
static int (*real_ftruncate)(int, off_t);
static int (*real_remove)(const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_symlink)(const char *, const char *);
static int (*real_statvfs)(const char *, struct statvfs *);

static bool counting, over;
static long calls;

__attribute__((constructor)) static void find(void) {
    *(void **)&real_write = dlsym(RTLD_NEXT, "write");
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_rename = dlsym(RTLD_NEXT, "rename");
    *(void **)&real_renameat2 = dlsym(RTLD_NEXT, "renameat2");
    *(void **)&real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    *(void **)&real_remove = dlsym(RTLD_NEXT, "remove");
    *(void **)&real_unlink = dlsym(RTLD_NEXT, "unlink");
    *(void **)&real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    *(void **)&real_symlink = dlsym(RTLD_NEXT, "symlink");
    *(void **)&real_statvfs = dlsym(RTLD_NEXT, "statvfs");
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

typedef enum verdict { GO_ON, DIE, FAIL } verdict;

static verdict judge(const char *call, const char *path) {
    const char *folder = getenv("SHIM_FOLDER"), *from = getenv("SHIM_FROM"), *until = getenv("SHIM_UNTIL");
    if (!folder || strncmp(path, folder, strlen(folder)) != 0 || over) return GO_ON;
    if (!counting && from && !strstr(path, from)) return GO_ON;
    counting = true;
    calls++;
    if (until && strstr(path, until)) over = true;
    const char *list = getenv("SHIM_COUNT");
    if (list) {
        char line[700];
        int n = snprintf(line, sizeof line, "%ld %s %s\n", calls, call, path + strlen(folder));
        int fd = open(list, O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (fd < 0 || real_write(fd, line, (size_t)n) != n) abort();
        close(fd);
    }
    if (calls == number("SHIM_KILL")) return DIE;
    if (number("SHIM_FAIL") && calls >= number("SHIM_FAIL")) {
        over = false;
        return FAIL;
    }
    return GO_ON;
}

static verdict judge_fd(const char *call, int fd) {
    char link[64], path[600];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return GO_ON;
    path[n] = 0;
    return judge(call, path);
}

static int settle(verdict v) {
    if (v == DIE) raise(SIGKILL);
    errno = EIO;
    return -1;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    switch (judge_fd("write", fd)) {
    case GO_ON:
        return real_write(fd, data, bytes);
    case DIE:
        if (real_write(fd, data, bytes / 2) >= 0) raise(SIGKILL);
        abort();
    default:
        errno = ENOSPC;
        return -1;
    }
}

int fsync(int fd) {
    verdict v = judge_fd("fsync", fd);
    return v == GO_ON ? real_fsync(fd) : settle(v);
}

int ftruncate(int fd, off_t length) {
    verdict v = judge_fd("ftruncate", fd);
    return v == GO_ON ? real_ftruncate(fd, length) : settle(v);
}

int rename(const char *from, const char *to) {
    verdict v = judge("rename", to);
    return v == GO_ON ? real_rename(from, to) : settle(v);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    verdict v = judge("renameat2", to);
    return v == GO_ON ? real_renameat2(a, from, b, to, flags) : settle(v);
}

/* Clean-up still works on a disk that is full or broken: only a kill stops it. */
int remove(const char *path) {
    if (judge("remove", path) == DIE) raise(SIGKILL);
    return real_remove(path);
}

int unlink(const char *path) {
    if (judge("unlink", path) == DIE) raise(SIGKILL);
    return real_unlink(path);
}

int mkdir(const char *path, mode_t mode) {
    verdict v = judge("mkdir", path);
    return v == GO_ON ? real_mkdir(path, mode) : settle(v);
}

int symlink(const char *target, const char *path) {
    verdict v = judge("symlink", path);
    return v == GO_ON ? real_symlink(target, path) : settle(v);
}

int statvfs(const char *path, struct statvfs *s) {
    int status = real_statvfs(path, s);
    if (getenv("SHIM_FREE")) s->f_bavail = (fsblkcnt_t)number("SHIM_FREE") / s->f_frsize;
    return status;
}
