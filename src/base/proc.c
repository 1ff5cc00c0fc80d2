/*
 * proc.c - spawn, watch, recognise
 *
 * Any thread.  Never calls waitpid(-1) and never runs code of ours between fork and exec.  Programs run to
 * their end are in proc_run.c.
 */
#include "base/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/text.h"

#define STAT_MAX_BYTES 4096

static const char *const MINIMAL_ENV[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL
};

/* The whole of a small file under /proc; its length or -1. */
static ssize_t read_small(const char *path, char *out, size_t size)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    do {
        n = read(fd, out, size - 1);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        out[n] = '\0';
    return n;
}

static char boot_id[40];

static void boot_id_read(void)
{
    char text[64];

#ifdef MERE_CRASH_POINTS
    const char *fake = getenv("MERE_TEST_BOOT_ID");

    if (fake != NULL) {
        snprintf(boot_id, sizeof(boot_id), "%s", fake);
        return;
    }
#endif
    if (read_small("/proc/sys/kernel/random/boot_id", text, sizeof(text)) <= 0)
        return; /* stays empty: proc_adopt then refuses */
    text[strcspn(text, "\n")] = '\0';
    snprintf(boot_id, sizeof(boot_id), "%.*s", (int)sizeof(boot_id) - 1, text);
}

const char *proc_boot_id(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, boot_id_read);
    return boot_id;
}

/*
 * State (field 3) and start time (field 22) of a process.  The name in field 2 may hold blanks and
 * parentheses: fields are counted from the last closing one.
 */
static bool read_stat(int64_t pid, char *ret_state, int64_t *ret_start)
{
    char path[64], text[STAT_MAX_BYTES], *p, *save = NULL;
    int field = 3;

    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    if (read_small(path, text, sizeof(text)) <= 0 || (p = strrchr(text, ')')) == NULL)
        return false;
    for (p = strtok_r(p + 1, " \n", &save); p != NULL; p = strtok_r(NULL, " \n", &save), field++) {
        if (field == 3)
            *ret_state = p[0];
        if (field == 22)
            return text_to_i64(p, 0, INT64_MAX, ret_start);
    }
    return false;
}

/* The descriptors a child gets, each >= 4 in our own numbering, so that no dup2 in the child overwrites a
 * later one. */
struct child_fds {
    int fd[4];  /* 0, 1, 2 and PROC_KEEP_FD; -1 = none */
    int own[4]; /* copies made here, to be closed; -1 = none */
};

static void child_fds_fini(struct child_fds *c)
{
    for (size_t i = 0; i < N_ELEMENTS(c->own); i++)
        fd_close(&c->own[i]);
}

#define auto_child_fds CLEANUP(child_fds_fini) struct child_fds

static int child_fds_init(struct child_fds *c, const struct proc_spec *spec, struct err *err)
{
    c->fd[0] = spec->stdin_fd;
    c->fd[1] = spec->stdout_fd;
    c->fd[2] = spec->stderr_fd;
    c->fd[PROC_KEEP_FD] = spec->keep_fd;
    for (size_t i = 0; i < N_ELEMENTS(c->fd); i++) {
        if (c->fd[i] < 0 || c->fd[i] > PROC_KEEP_FD)
            continue;
        c->own[i] = fcntl(c->fd[i], F_DUPFD_CLOEXEC, PROC_KEEP_FD + 1);
        if (c->own[i] < 0)
            return err_sys(err, "duplicate descriptor %d", c->fd[i]);
        c->fd[i] = c->own[i];
    }
    return 0;
}

/* 0 or an errno. */
static int add_actions(posix_spawn_file_actions_t *actions, const struct child_fds *c)
{
    int rc = 0;

    for (int i = 0; i <= PROC_KEEP_FD && rc == 0; i++) {
        if (c->fd[i] >= 0)
            rc = posix_spawn_file_actions_adddup2(actions, c->fd[i], i);
        else if (i < PROC_KEEP_FD)
            rc = posix_spawn_file_actions_addopen(actions, i, "/dev/null", O_RDWR, 0);
    }
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, c->fd[PROC_KEEP_FD] >= 0 ? PROC_KEEP_FD + 1
                                                                                        : PROC_KEEP_FD);
    return rc;
}

static int set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attr, &all);
    return rc;
}

/* 0 or an errno. */
static int spawn(const struct proc_spec *spec, const struct child_fds *c, pid_t *ret_pid)
{
    const char *const *envp = spec->envp != NULL ? spec->envp : MINIMAL_ENV;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc;

    rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        rc = add_actions(&actions, c);
        if (rc == 0)
            rc = set_attributes(&attr);
        if (rc == 0)
            rc = posix_spawn(ret_pid, spec->argv[0], &actions, &attr, (char *const *)spec->argv,
                             (char *const *)envp);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* A child that we cannot watch must not live: nobody would ever stop it. */
static int abandon(pid_t pid, struct err *err)
{
    int saved = errno;

    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    errno = saved;
    return err_sys(err, "watch process %lld", (long long)pid);
}

int proc_spawn(const struct proc_spec *spec, struct proc_identity *ret_id, int *ret_pidfd, struct err *err)
{
    auto_child_fds c = { .own = { -1, -1, -1, -1 } };
    auto_fd pidfd = -1;
    int64_t start = 0;
    pid_t pid = 0;
    char state;
    int rc;

    if (spec->argv[0] == NULL || spec->argv[0][0] != '/') {
        errno = EINVAL;
        return err_sys(err, "start a program that is not named by an absolute path");
    }
    if (child_fds_init(&c, spec, err) < 0)
        return -1;
    rc = spawn(spec, &c, &pid);
    if (rc != 0) {
        errno = rc;
        return err_sys(err, "start %s", spec->argv[0]);
    }
    pidfd = pidfd_open(pid, 0); /* ours and not reaped: the pid cannot have been given to another */
    if (pidfd < 0)
        return abandon(pid, err);
    errno = ESRCH;
    if (!read_stat(pid, &state, &start))
        return abandon(pid, err);
    if (ret_id != NULL) {
        *ret_id = (struct proc_identity){ .pid = pid, .start_time = start };
        snprintf(ret_id->boot_id, sizeof(ret_id->boot_id), "%s", proc_boot_id());
    }
    *ret_pidfd = TAKE_FD(pidfd);
    return 0;
}

int proc_adopt(const struct proc_identity *id, int *ret_pidfd, struct err *err)
{
    auto_fd pidfd = -1;
    int64_t start = -1;
    char state = '?';

    if (id->pid <= 0 || id->boot_id[0] == '\0' || strcmp(id->boot_id, proc_boot_id()) != 0)
        return 0;
    pidfd = pidfd_open((pid_t)id->pid, 0);
    if (pidfd < 0 && (errno == ESRCH || errno == EINVAL)) /* EINVAL: the pid is now that of a thread */
        return 0;
    if (pidfd < 0)
        return err_sys(err, "adopt process %lld", (long long)id->pid);
    /* read after opening: if the start time matches now, the descriptor is on that process */
    if (!read_stat(id->pid, &state, &start) || start != id->start_time || state == 'Z' || state == 'X')
        return 0;
    *ret_pidfd = TAKE_FD(pidfd);
    return 1;
}

int proc_reap(int pidfd)
{
    siginfo_t si = { 0 };
    int rc;

    do {
        rc = waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0 || si.si_pid == 0)
        return -1;
    if (si.si_code == CLD_EXITED)
        return W_EXITCODE(si.si_status & 0xFF, 0);
    return si.si_code == CLD_DUMPED ? si.si_status | WCOREFLAG : si.si_status;
}

int proc_signal(int pidfd, int signo)
{
    return pidfd_send_signal(pidfd, signo, NULL, 0);
}

bool proc_wait_exit(int pidfd, int timeout_ms)
{
    struct pollfd p = { .fd = pidfd, .events = POLLIN };
    int64_t end = clock_mono_ms() + timeout_ms;

    for (;;) {
        int64_t left = timeout_ms < 0 ? -1 : end - clock_mono_ms();
        int rc = poll(&p, 1, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);

        if (rc > 0)
            return true;
        if ((rc == 0 && timeout_ms >= 0) || (rc < 0 && errno != EINTR))
            return false;
    }
}

static void dir_close(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

#define auto_dir CLEANUP(dir_close) DIR

/* Does the process have the file open?  One that vanishes meanwhile does not. */
static bool holds(int proc_fd, const char *pid, const struct stat *file)
{
    char name[64];
    auto_fd fd = -1;
    auto_dir *d = NULL;
    struct dirent *e;
    struct stat st;

    snprintf(name, sizeof(name), "%.20s/fd", pid);
    fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    d = fdopendir(fd);
    if (d == NULL)
        return false;
    TAKE_FD(fd);
    while ((e = readdir(d)) != NULL) {
        /* following the link does not block: the open file itself is looked at */
        if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_dev == file->st_dev &&
            st.st_ino == file->st_ino)
            return true;
    }
    return false;
}

int proc_holders(struct arena *a, const char *path, int64_t **ret_pids, size_t *ret_n, struct err *err)
{
    auto_free int64_t *found = NULL;
    size_t n = 0, cap = 0;
    auto_dir *d = NULL;
    struct dirent *e;
    struct stat file;
    int64_t pid;

    *ret_n = 0;
    *ret_pids = NULL;
    if (stat(path, &file) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "stat %s", path);
    d = opendir("/proc");
    if (d == NULL)
        return err_sys(err, "open /proc");
    while ((e = readdir(d)) != NULL) {
        if (!text_to_i64(e->d_name, 1, INT32_MAX, &pid) || pid == getpid() ||
            !holds(dirfd(d), e->d_name, &file))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            found = xrealloc(found, cap * sizeof(*found));
        }
        found[n++] = pid;
    }
    *ret_pids = arena_alloc(a, (n + 1) * sizeof(**ret_pids));
    if (*ret_pids == NULL)
        return err_memory(err);
    if (n > 0)
        memcpy(*ret_pids, found, n * sizeof(*found));
    *ret_n = n;
    return 0;
}
