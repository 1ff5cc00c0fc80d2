/*
 * proc_run.c - programs that run to their end, with a deadline and captured output
 *
 * Any thread; each call waits on its own pidfd and pipe, so that no two callers take each other's exit
 * status.
 */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#define OUTPUT_MAX 65536
#define TAIL_MAX   300
#define REAP_MS    5000 /* a killed process that has not gone by then hangs in the kernel */

/* Takes what the pipe has now; false at its end. */
static bool drain(int fd, struct buf *out)
{
    for (;;) {
        ssize_t n;

        buf_reserve(out, 8192);
        n = read(fd, out->data + out->len, 8192);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        out->len += (size_t)n;
        if (out->len > 2 * OUTPUT_MAX)
            buf_consume(out, out->len - OUTPUT_MAX);
    }
}

/* Until exit or deadline; true: it has exited.  The end of the pipe is not waited for: a grandchild may hold
 * it. */
static bool watch(int pidfd, int out_fd, int timeout_ms, struct buf *out)
{
    struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = out_fd, .events = POLLIN } };
    int64_t end = clock_mono_ms() + timeout_ms;

    for (;;) {
        int64_t left = end - clock_mono_ms();
        int rc = poll(p, 2, left > 0 ? (int)left : 0);

        if (rc < 0 && errno != EINTR)
            return false;
        if (rc < 0)
            continue;
        if (p[1].revents != 0 && !drain(out_fd, out))
            p[1].fd = -1; /* ended: poll leaves it alone */
        if (p[0].revents != 0)
            return true;
        if (rc == 0)
            return false;
    }
}

/* Control characters and broken UTF-8 have no place in a log line or a JSON text. */
static void keep_printable(struct buf *out)
{
    bool utf8;

    if (out->len > OUTPUT_MAX)
        buf_consume(out, out->len - OUTPUT_MAX);
    utf8 = text_is_utf8(out->data != NULL ? out->data : "", out->len);
    for (size_t i = 0; i < out->len; i++) {
        unsigned char c = (unsigned char)out->data[i];

        if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7F || (c >= 0x80 && !utf8))
            out->data[i] = '?';
    }
}

static int failed(const char *program, int status, struct buf *out, struct err *err)
{
    const char *text = buf_str(out), *name = strrchr(program, '/');
    size_t len = strlen(text);

    name = name != NULL ? name + 1 : program;
    while (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > TAIL_MAX) {
        text += len - TAIL_MAX;
        len = TAIL_MAX;
    }
    err_set(err, ERR_INTERNAL, "the program %s failed on the server; its log says why", name);
    if (status >= 0 && WIFEXITED(status))
        return err_detail(err, "%s: exit status %d: %.*s", program, WEXITSTATUS(status), (int)len, text);
    if (status >= 0 && WIFSIGNALED(status))
        return err_detail(err, "%s: ended by signal %d: %.*s", program, WTERMSIG(status), (int)len, text);
    return err_detail(err, "%s: exit status unknown: %.*s", program, (int)len, text);
}

static int timed_out(const struct proc_identity *id, int pidfd, const char *program, int timeout_ms,
                     struct err *err)
{
    kill(-(pid_t)id->pid,
         SIGKILL); /* its process group; ours and not reaped, so the number is still its own */
    proc_signal(pidfd, SIGKILL);
    if (proc_wait_exit(pidfd, REAP_MS))
        proc_reap(pidfd);
    err_set(err, ERR_TIMEOUT, "a program on the server took too long and was ended; try again");
    return err_detail(err, "%s: not finished after %d ms", program, timeout_ms);
}

int proc_run(struct arena *a, const char *const *argv, int timeout_ms, const char **ret_out, struct err *err)
{
    auto_fd pidfd = -1;
    auto_fd out_fd = -1;
    auto_fd child_fd = -1;
    auto_buf out = { 0 };
    struct proc_identity id;
    int fds[2], status, rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, "pipe");
    out_fd = fds[0];
    child_fd = fds[1];
    if (fcntl(out_fd, F_SETFL, O_NONBLOCK) < 0)
        return err_sys(err, "pipe");
    rc = proc_spawn(
        &(struct proc_spec){
            .argv = argv, .stdin_fd = -1, .stdout_fd = child_fd, .stderr_fd = child_fd, .keep_fd = -1 },
        &id, &pidfd, err);
    fd_close(&child_fd);
    if (rc < 0)
        return -1;
    if (!watch(pidfd, out_fd, timeout_ms, &out))
        return timed_out(&id, pidfd, argv[0], timeout_ms, err);
    status = proc_reap(pidfd);
    drain(out_fd, &out);
    keep_printable(&out);
    if (ret_out != NULL) {
        *ret_out = arena_strdup(a, buf_str(&out));
        if (*ret_out == NULL)
            return err_memory(err);
    }
    return status == 0 ? 0 : failed(argv[0], status, &out, err);
}
