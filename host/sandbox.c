/* Runs a Python program that nobody has read: one process in an empty folder, with limits on time and memory, behind a
 * seccomp filter. The filter needs no privilege and no namespace, so it holds in containers and for every user. It
 * makes the machine read-only: no file is written, no process started, no socket opened, no signal sent. What is killed
 * at the end is therefore all there is. */
#include "sandbox.h"

#include "error.h"
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t default_memory = 2ull << 30, least_memory = 64000000;
/* Calls from this number on are younger than the list of refused ones (452: fchmodat2, Linux 6.6); x32's are far above.
 */
enum { FIRST_UNKNOWN = 452 };
enum { RESULT_FD = 3, TAIL = 4096, MAX_FILES = 64 };
static const double default_timeout = 10;

/* The program is read from stdin and gets a namespace of its own, without a __name__, so that a main block in it does
 * not run (as in human-eval). Only its end reaches the last line. */
static const char driver[] = "import sys\n"
                             "exec(compile(sys.stdin.buffer.read(), 'program', 'exec'), {})\n"
                             "__import__('os').write(3, b'.')\n";

/* ---- The filter ---- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* System calls that are refused with an error number, whatever their arguments. ENOSYS lets the C library fall back to
 * an older call that can be judged by its arguments. */
static const struct {
    int number, error;
} refused[] = {
    /* processes and signals */
    {SYS_clone3, ENOSYS},
    {SYS_ptrace, EPERM},
    {SYS_process_vm_readv, EPERM},
    {SYS_process_vm_writev, EPERM},
    {SYS_kill, EPERM},
    {SYS_tkill, EPERM},
    {SYS_tgkill, EPERM},
    {SYS_rt_sigqueueinfo, EPERM},
    {SYS_rt_tgsigqueueinfo, EPERM},
    {SYS_setpriority, EPERM},
    {SYS_sched_setscheduler, EPERM},
    {SYS_sched_setparam, EPERM},
    {SYS_sched_setattr, EPERM},
    {SYS_sched_setaffinity, EPERM},
    {SYS_ioprio_set, EPERM},
#ifdef SYS_fork
    {SYS_fork, EPERM},
    {SYS_vfork, EPERM},
#endif
#ifdef SYS_pidfd_getfd
    {SYS_pidfd_open, EPERM},
    {SYS_pidfd_send_signal, EPERM},
    {SYS_pidfd_getfd, EPERM},
#endif
    /* network, and memory that outlives the process or escapes its limit */
    {SYS_socket, EPERM},
    {SYS_shmget, EPERM},
    {SYS_shmat, EPERM},
    {SYS_shmctl, EPERM},
    {SYS_semget, EPERM},
    {SYS_semop, EPERM},
    {SYS_semtimedop, EPERM},
    {SYS_semctl, EPERM},
    {SYS_msgget, EPERM},
    {SYS_msgsnd, EPERM},
    {SYS_msgrcv, EPERM},
    {SYS_msgctl, EPERM},
    {SYS_mq_open, EPERM},
    {SYS_mq_unlink, EPERM},
    {SYS_io_uring_setup, ENOSYS},
    {SYS_memfd_create, ENOSYS},
    /* the kernel */
    {SYS_bpf, EPERM},
    {SYS_perf_event_open, EPERM},
    {SYS_userfaultfd, EPERM},
    {SYS_keyctl, EPERM},
    {SYS_add_key, EPERM},
    {SYS_request_key, EPERM},
    {SYS_unshare, EPERM},
    {SYS_setns, EPERM},
    {SYS_mount, EPERM},
    {SYS_umount2, EPERM},
    /* files */
    {SYS_openat2, ENOSYS},
    {SYS_mkdirat, EROFS},
    {SYS_mknodat, EROFS},
    {SYS_unlinkat, EROFS},
    {SYS_renameat2, EROFS},
    {SYS_linkat, EROFS},
    {SYS_symlinkat, EROFS},
    {SYS_truncate, EROFS},
    {SYS_ftruncate, EROFS},
    {SYS_fallocate, EROFS},
    {SYS_fchmod, EROFS},
    {SYS_fchmodat, EROFS},
    {SYS_fchown, EROFS},
    {SYS_fchownat, EROFS},
    {SYS_utimensat, EROFS},
    {SYS_setxattr, EROFS},
    {SYS_lsetxattr, EROFS},
    {SYS_fsetxattr, EROFS},
    {SYS_removexattr, EROFS},
    {SYS_lremovexattr, EROFS},
    {SYS_fremovexattr, EROFS},
#ifdef SYS_renameat
    {SYS_renameat, EROFS},
#endif
#ifdef SYS_open /* the calls from before openat, which younger architectures never had */
    {SYS_creat, EROFS},
    {SYS_mkdir, EROFS},
    {SYS_rmdir, EROFS},
    {SYS_mknod, EROFS},
    {SYS_unlink, EROFS},
    {SYS_rename, EROFS},
    {SYS_link, EROFS},
    {SYS_symlink, EROFS},
    {SYS_chmod, EROFS},
    {SYS_chown, EROFS},
    {SYS_lchown, EROFS},
    {SYS_utime, EROFS},
    {SYS_utimes, EROFS},
    {SYS_futimesat, EROFS},
#endif
};

enum { REFUSED = sizeof refused / sizeof *refused, FILTER_ROOM = 2 * REFUSED + 40 };

/* A filter while it is written. */
typedef struct filter {
    struct sock_filter code[FILTER_ROOM];
    unsigned short count;
} filter;

static void add(filter *f, unsigned short code, uint32_t k, unsigned char if_true, unsigned char if_false) {
    f->code[f->count++] = (struct sock_filter)BPF_JUMP(code, k, if_true, if_false);
}
static void load(filter *f, size_t offset) {
    add(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}
static void answer(filter *f, uint32_t action) {
    add(f, BPF_RET | BPF_K, action, 0, 0);
}
static void refuse(filter *f, int number, int error) {
    add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1);
    answer(f, SECCOMP_RET_ERRNO | (uint32_t)error);
}
/* Refuses a call by the low 32 bits of an argument: when any bit of `bits` is set, or when none is. */
static void refuse_if(filter *f, int number, int argument, uint32_t bits, bool set, int error) {
    add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4);
    load(f, offsetof(struct seccomp_data, args) + 8 * (size_t)argument);
    add(f, BPF_JMP | BPF_JSET | BPF_K, bits, set ? 0 : 1, set ? 1 : 0);
    answer(f, SECCOMP_RET_ERRNO | (uint32_t)error);
    answer(f, SECCOMP_RET_ALLOW);
}

static void write_filter(filter *f) {
#ifdef ARCHITECTURE
    const uint32_t writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
    f->count = 0;
    load(f, offsetof(struct seccomp_data, arch));
    add(f, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    answer(f, SECCOMP_RET_KILL_PROCESS);
    load(f, offsetof(struct seccomp_data, nr));
    add(f, BPF_JMP | BPF_JGE | BPF_K, FIRST_UNKNOWN, 0, 1);
    answer(f, SECCOMP_RET_ERRNO | ENOSYS);
    for (int i = 0; i < REFUSED; i++) refuse(f, refused[i].number, refused[i].error);
#ifdef SYS_open
    refuse_if(f, SYS_open, 1, writing, true, EROFS);
#endif
    refuse_if(f, SYS_openat, 2, writing, true, EROFS);
    refuse_if(f, SYS_clone, 0, CLONE_THREAD, false, EPERM);
    refuse_if(f, SYS_prlimit64, 0, UINT32_MAX, true, EPERM); /* of another process */
    answer(f, SECCOMP_RET_ALLOW);
#else
    f->count = 0;
#endif
}

bool xft_sandbox_isolates(void) {
#ifdef ARCHITECTURE
    uint32_t action = SECCOMP_RET_ERRNO;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
#else
    return false;
#endif
}

/* ---- The process ---- */

/* Everything the child needs, made before the fork: afterwards it may only make system calls. */
typedef struct launch {
    const char *folder;
    char *const *arguments, *const *environment;
    int program, nothing, result, errors, trouble; /* file descriptors */
    rlim_t seconds, bytes;
    bool isolate;
    filter filter;
} launch;

/* What went wrong between fork and exec. */
typedef struct trouble {
    char call[24];
    int error;
} trouble;

static void close_above(int last) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, last + 1, ~0u, 0) == 0) return;
#endif
    for (int fd = last + 1; fd < 65536; fd++) close(fd);
}

static bool limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit old;
    if (getrlimit(resource, &old)) return false;
    if (hard > old.rlim_max) hard = old.rlim_max;
    return setrlimit(resource, &(struct rlimit){soft < hard ? soft : hard, hard}) == 0;
}

/* Processor time, for when the parent cannot watch: a signal that tells what it is comes first. */
static bool set_limits(const launch *l) {
    return limit(RLIMIT_AS, l->bytes, l->bytes) && limit(RLIMIT_CPU, l->seconds, l->seconds + 1) &&
           limit(RLIMIT_FSIZE, 0, 0) && limit(RLIMIT_CORE, 0, 0) && limit(RLIMIT_NOFILE, MAX_FILES, MAX_FILES);
}

/* No capability is left, nor is any regained by exec: with no_new_privs the rule that gives them to root is off. */
static bool drop_privileges(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, none) == 0;
}

static bool install(const filter *f) {
    struct sock_fprog program = {.len = f->count, .filter = (struct sock_filter *)f->code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* Descriptors 0 to 3 are the program, nothing, the errors, the result; all others are closed, the one for trouble by
 * exec. The parent took care that none of ours is below 10. */
static bool arrange_files(const launch *l) {
    if (dup2(l->program, 0) < 0 || dup2(l->nothing, 1) < 0 || dup2(l->errors, 2) < 0 || dup2(l->result, RESULT_FD) < 0)
        return false;
    return dup3(l->trouble, RESULT_FD + 1, O_CLOEXEC) >= 0;
}

_Noreturn static void child(const launch *l) {
    struct step {
        const char *call;
        bool ok;
    } step = {"dup2", arrange_files(l)};
    if (step.ok) {
        close_above(RESULT_FD + 1);
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        step = (struct step){"chdir", chdir(l->folder) == 0};
    }
    if (step.ok) step = (struct step){"setrlimit", set_limits(l)};
    if (step.ok) step = (struct step){"capset", drop_privileges()};
    if (step.ok && l->isolate) step = (struct step){"seccomp", install(&l->filter)};
    if (step.ok) {
        step.call = "exec";
        execve(l->arguments[0], l->arguments, l->environment);
    }
    struct trouble t = {.error = errno};
    strncpy(t.call, step.call, sizeof t.call - 1);
    ssize_t written = write(RESULT_FD + 1, &t, sizeof t);
    _exit(written == (ssize_t)sizeof t ? 126 : 127);
}

/* ---- The parent ---- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What `python3` stands for may be a script that starts the interpreter, which the filter would forbid: asked once, in
 * front of it. */
static xft_status find_interpreter(const char *name, char **path) {
    char *const question[] = {(char *)name, "-c", "import sys; print(sys.executable)", NULL};
    *path = NULL;
    int fds[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    XFT_FAIL_IF(pipe2(fds, O_CLOEXEC), XFT_ERROR_IO, "sandbox: pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int error = posix_spawnp(&pid, name, &actions, NULL, question, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    char text[1024];
    size_t size = 0;
    for (ssize_t got = 1; error == 0 && got != 0 && size < sizeof text - 1;) {
        got = read(fds[0], text + size, sizeof text - 1 - size);
        if (got > 0) size += (size_t)got;
        if (got < 0 && errno != EINTR) break;
    }
    close(fds[0]);
    int ended = 0;
    while (error == 0 && waitpid(pid, &ended, 0) < 0 && errno == EINTR) continue;
    XFT_FAIL_IF(error, XFT_ERROR_IO, "%s: %s: the tests of code problems need Python 3", name, strerror(error));
    text[size] = 0;
    text[strcspn(text, "\n")] = 0;
    XFT_FAIL_IF(ended || text[0] != '/', XFT_ERROR_IO, "%s: does not say where its interpreter is; is it Python 3?",
                name);
    *path = strdup(text);
    XFT_FAIL_IF(!*path, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a path");
    return XFT_OK;
}

/* Descriptors of the parent: `first` of each pipe is read here, `second` is the child's. */
typedef struct ends {
    int program, nothing, result[2], errors[2], trouble[2];
} ends;

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}
static void close_ends(ends *e, bool child_only) {
    int *fds[] = {&e->program,    &e->nothing,   &e->result[1], &e->errors[1],
                  &e->trouble[1], &e->result[0], &e->errors[0], &e->trouble[0]};
    for (int i = 0; i < (child_only ? 5 : 8); i++) close_fd(fds[i]);
}

/* Above the numbers that the child gives them. */
static bool raise_fd(int *fd) {
    int high = *fd < 0 ? -1 : fcntl(*fd, F_DUPFD_CLOEXEC, 10);
    if (*fd >= 0) close(*fd);
    *fd = high;
    return high >= 0;
}
static bool open_pipe(int fds[2]) {
    if (pipe2(fds, O_CLOEXEC)) return fds[0] = fds[1] = -1, false;
    bool first = raise_fd(&fds[0]);
    return raise_fd(&fds[1]) && first;
}

static xft_status open_ends(ends *e, const char *program, size_t bytes) {
    *e = (ends){-1, -1, {-1, -1}, {-1, -1}, {-1, -1}};
    e->program = memfd_create("program", MFD_CLOEXEC);
    e->nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    bool ok = raise_fd(&e->program) && raise_fd(&e->nothing) && open_pipe(e->result) && open_pipe(e->errors) &&
              open_pipe(e->trouble);
    xft_status status = ok ? XFT_OK : xft_fail(XFT_ERROR_IO, "sandbox: pipes: %s", strerror(errno));
    if (status == XFT_OK) status = xft_write_all(e->program, "sandbox: program", program, bytes);
    if (status == XFT_OK && lseek(e->program, 0, SEEK_SET) != 0)
        status = xft_fail(XFT_ERROR_IO, "sandbox: program: %s", strerror(errno));
    if (status != XFT_OK) close_ends(e, false);
    return status;
}

/* The last bytes of a stream. */
typedef struct tail {
    char text[2 * TAIL];
    size_t size;
} tail;

/* Reads what is there; false at the end of the stream. */
static bool read_tail(int fd, tail *t) {
    if (t->size > TAIL) {
        memmove(t->text, t->text + t->size - TAIL, TAIL);
        t->size = TAIL;
    }
    ssize_t got = read(fd, t->text + t->size, TAIL);
    if (got > 0) t->size += (size_t)got;
    return got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
}

/* The last line, printable. */
static void last_line(const tail *t, char *line, size_t room) {
    size_t end = t->size, at;
    while (end > 0 && (unsigned char)t->text[end - 1] <= ' ') end--;
    for (at = end; at > 0 && t->text[at - 1] != '\n';) at--;
    size_t n = end - at < room - 1 ? end - at : room - 1;
    for (size_t i = 0; i < n; i++) line[i] = (unsigned char)t->text[at + i] < ' ' ? ' ' : t->text[at + i];
    while (n > 0 && n == room - 1 && ((unsigned char)line[n - 1] & 0x80)) n--; /* no half character */
    line[n] = 0;
}

static void judge(xft_verdict *v, bool passed, bool ended, int status, double timeout, const tail *errors) {
    v->outcome = passed ? XFT_OUTCOME_PASSED : ended ? XFT_OUTCOME_FAILED : XFT_OUTCOME_TIMEOUT;
    v->message[0] = 0;
    if (passed) return;
    if (!ended || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)) {
        v->outcome = XFT_OUTCOME_TIMEOUT;
        snprintf(v->message, sizeof v->message, "stopped after %g s", timeout);
        return;
    }
    last_line(errors, v->message, sizeof v->message);
    if (WIFSIGNALED(status))
        snprintf(v->message, sizeof v->message, "killed by signal %d (%s)", WTERMSIG(status),
                 sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else if (!v->message[0])
        snprintf(v->message, sizeof v->message, "exit status %d before the end of the tests", WEXITSTATUS(status));
}

/* Waits until the program has passed, ended or used up its time, and ends it. */
static void watch(pid_t pid, ends *e, double timeout, xft_verdict *v) {
    tail errors = {.size = 0};
    double start = now(), left = timeout;
    bool passed = false, ended = false;
    int status = 0;
    while (!passed && !ended && left > 0) {
        struct pollfd fds[] = {{.fd = e->result[0], .events = POLLIN}, {.fd = e->errors[0], .events = POLLIN}};
        double wait = e->result[0] < 0 && e->errors[0] < 0 ? 0.005 : 0.1; /* both closed: only its end is to come */
        poll(fds, 2, (int)(1000 * (left < wait ? left : wait)) + 1);
        char byte;
        if (fds[0].revents && !(passed = read(e->result[0], &byte, 1) == 1)) close_fd(&e->result[0]);
        if (fds[1].revents && !read_tail(e->errors[0], &errors)) close_fd(&e->errors[0]);
        ended = waitpid(pid, &status, WNOHANG) == pid;
        left = start + timeout - now();
    }
    v->seconds = now() - start;
    if (ended) { /* what it wrote last may still lie in the pipes */
        char byte;
        fcntl(e->errors[0], F_SETFL, O_NONBLOCK);
        fcntl(e->result[0], F_SETFL, O_NONBLOCK);
        passed = passed || (e->result[0] >= 0 && read(e->result[0], &byte, 1) == 1);
        for (size_t before = SIZE_MAX; e->errors[0] >= 0 && before != errors.size;) {
            before = errors.size;
            if (!read_tail(e->errors[0], &errors)) break;
        }
    } else {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    }
    judge(v, passed, ended, status, timeout, &errors);
}

static xft_status start(launch *l, ends *e, pid_t *pid) {
    l->program = e->program;
    l->nothing = e->nothing;
    l->result = e->result[1];
    l->errors = e->errors[1];
    l->trouble = e->trouble[1];
    *pid = fork();
    XFT_FAIL_IF(*pid < 0, XFT_ERROR_IO, "sandbox: fork: %s", strerror(errno));
    if (*pid == 0) child(l);
    close_ends(e, true);
    struct trouble t;
    ssize_t got;
    do got = read(e->trouble[0], &t, sizeof t);
    while (got < 0 && errno == EINTR);
    if (got == 0) return XFT_OK;
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) continue;
    return xft_fail(XFT_ERROR_IO, "sandbox: %s of %s: %s", got == (ssize_t)sizeof t ? t.call : "start", l->arguments[0],
                    strerror(got == (ssize_t)sizeof t ? t.error : EIO));
}

static xft_status run_in(const xft_sandbox *s, const char *folder, const char *interpreter, const char *program,
                         size_t bytes, xft_verdict *verdict) {
    char home[300], *arguments[] = {(char *)interpreter, "-s", "-B", "-c", (char *)driver, NULL};
    char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
    char *environment[] = {path,
                           home,
                           "LANG=C.UTF-8",
                           "PYTHONHASHSEED=0",
                           "OPENBLAS_NUM_THREADS=1", /* its buffers for each thread would count as memory */
                           NULL};
    snprintf(home, sizeof home, "HOME=%s", folder);
    launch *l = calloc(1, sizeof *l);
    XFT_FAIL_IF(!l, XFT_ERROR_OUT_OF_HOST_MEMORY, "sandbox: no memory for a process");
    l->folder = folder;
    l->arguments = arguments;
    l->environment = environment;
    l->seconds = (rlim_t)s->timeout + 2;
    l->bytes = (rlim_t)s->memory;
    l->isolate = xft_sandbox_isolates();
    write_filter(&l->filter);
    ends e;
    pid_t pid;
    xft_status status = open_ends(&e, program, bytes);
    if (status == XFT_OK) {
        status = start(l, &e, &pid);
        if (status == XFT_OK) watch(pid, &e, s->timeout, verdict);
        close_ends(&e, false);
    }
    free(l);
    return status;
}

xft_status xft_sandbox_prepare(xft_sandbox *sandbox, char **interpreter) {
    *interpreter = NULL;
    XFT_FAIL_IF(!(sandbox->timeout >= 0 && sandbox->timeout <= 86400), XFT_ERROR_INVALID_ARGUMENT,
                "sandbox: timeout of %g s, expected 0 to 86400", sandbox->timeout);
    XFT_FAIL_IF(sandbox->memory && sandbox->memory < least_memory, XFT_ERROR_INVALID_ARGUMENT,
                "sandbox: memory of %llu bytes; Python needs %llu", (unsigned long long)sandbox->memory,
                (unsigned long long)least_memory);
    XFT_FAIL_IF(!xft_sandbox_isolates() && !sandbox->allow_unprotected, XFT_ERROR_UNSUPPORTED,
                "sandbox: this system has no seccomp filters, so nothing would keep the tests from files and network; "
                "allow_unprotected runs them nevertheless");
    if (sandbox->timeout == 0) sandbox->timeout = default_timeout;
    if (sandbox->memory == 0) sandbox->memory = default_memory;
    return find_interpreter(sandbox->python ? sandbox->python : "python3", interpreter);
}

xft_status xft_sandbox_execute(const xft_sandbox *sandbox, const char *interpreter, const char *program, size_t bytes,
                               xft_verdict *verdict) {
    char *folder;
    XFT_TRY(xft_temporary_folder("xft-sandbox", &folder));
    xft_status status = run_in(sandbox, folder, interpreter, program, bytes, verdict);
    xft_status removed = xft_remove_all(folder);
    free(folder);
    return status == XFT_OK ? removed : status;
}

xft_status xft_sandbox_run(const xft_sandbox *sandbox, const char *program, xft_verdict *verdict) {
    XFT_NEED(program, verdict);
    xft_sandbox s = sandbox ? *sandbox : (xft_sandbox){.timeout = 0};
    char *interpreter;
    XFT_TRY(xft_sandbox_prepare(&s, &interpreter));
    xft_status status = xft_sandbox_execute(&s, interpreter, program, strlen(program), verdict);
    free(interpreter);
    return status;
}
