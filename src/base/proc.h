/*
 * proc.h - processes: spawn, watch, recognise again
 *
 * Spawned children start in their own session with a default signal mask, nothing open but what is named, and
 * no code of ours between fork and exec (posix_spawn).  A process is watched by pidfd; nobody calls
 * waitpid(-1).
 */
#ifndef MERE_PROC_H
#define MERE_PROC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>

/* Who a process is, beyond its pid: survives our restart, not the machine's. */
struct proc_identity {
    int64_t pid;        /* 0 = nobody */
    int64_t start_time; /* field 22 of /proc/pid/stat, clock ticks since boot */
    char boot_id[40];   /* /proc/sys/kernel/random/boot_id */
};

struct proc_spec {
    const char *const *argv;            /* argv[0] is an absolute path; NULL-terminated */
    const char *const *envp;            /* NULL = a minimal environment: PATH, LANG=C.UTF-8 */
    int stdin_fd, stdout_fd, stderr_fd; /* -1 = /dev/null */
    int keep_fd; /* one more descriptor: the child finds it as PROC_KEEP_FD; -1 = none */
};

/* The kept descriptor has a fixed number in the child, because everything above it is closed there without a
 * list. */
#define PROC_KEEP_FD 3

/* Starts it.  *ret_pidfd is the caller's.  A missing binary is an error here, at once. */
int proc_spawn(const struct proc_spec *spec, struct proc_identity *ret_id, int *ret_pidfd,
               struct err *err) MUST_CHECK;

/* 1: this very process lives and *ret_pidfd is open on it; 0: it is gone; -1: error. */
int proc_adopt(const struct proc_identity *id, int *ret_pidfd, struct err *err) MUST_CHECK;

/* After the pidfd became readable: the wait status, or -1 when it was not our child. */
int proc_reap(int pidfd);
int proc_signal(int pidfd, int signo);          /* 0, or -1 with errno */
bool proc_wait_exit(int pidfd, int timeout_ms); /* true: it has exited */

/*
 * Runs a program to its end with a deadline (then SIGKILL and ERR_TIMEOUT).  *ret_out (may be NULL) gets
 * standard output and error together, the last 64 KB of it, in the arena.  Returns 0 only for exit status 0;
 * else the detail holds the output's tail.
 */
int proc_run(struct arena *a, const char *const *argv, int timeout_ms, const char **ret_out,
             struct err *err) MUST_CHECK;

/*
 * The same for a program whose standard output is wanted as it is and whole: into *ret, which is empty
 * before. More than max_bytes ends the program with ERR_TOO_LARGE, give_up (may be NULL) becoming true with
 * ERR_UNAVAILABLE.  Where it fails, the detail holds the beginning of its standard error.
 */
int proc_output(const char *const *argv, int timeout_ms, size_t max_bytes, const atomic_bool *give_up,
                struct buf *ret, struct err *err) MUST_CHECK;

const char *proc_boot_id(void); /* cached; MERE_TEST_BOOT_ID overrides it in crash-point builds */
/*
 * Pids other than our own that hold path open (scan of /proc/pid/fd by device and inode), for the last rung
 * of a stop without cgroups.  An absent path has no holders.
 */
int proc_holders(struct arena *a, const char *path, int64_t **ret_pids, size_t *ret_n,
                 struct err *err) MUST_CHECK;

#endif
