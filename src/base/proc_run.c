/*
 * proc_run.c - programs that run to their end, with a deadline and captured output
 *
 * Any thread; each call waits on its own pidfd and pipes, so that no two callers take each other's exit
 * status.
 */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/text.h"

#define OUTPUT_MAX 65536
#define TOLD_MAX   300
#define REAP_MS    5000 /* a killed process that has not gone by then hangs in the kernel */
#define SLICE_MS   200  /* how often somebody who may give up is asked */

/* What comes out of a pipe. */
struct stream {
    int fd, child_fd;
    struct buf text;
    size_t max;
    bool whole; /* more than max is too much; else the last max bytes are kept */
};

enum ending { ENDING_EXIT, ENDING_LATE, ENDING_GIVEN_UP, ENDING_TOO_MUCH };

static void stream_fini(struct stream *st)
{
    fd_close(&st->fd);
    fd_close(&st->child_fd);
    buf_fini(&st->text);
}
#define auto_stream CLEANUP(stream_fini) struct stream

static int stream_open(struct stream *st, struct err *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, "pipe");
    st->fd = fds[0];
    st->child_fd = fds[1];
    return fcntl(st->fd, F_SETFL, O_NONBLOCK) < 0 ? err_sys(err, "pipe") : 0;
}

static bool is_too_much(const struct stream *st)
{
    return st->whole && st->text.len > st->max;
}

/* Takes what the pipe has now; false when there is no more to come. */
static bool drain(struct stream *st)
{
    while (!is_too_much(st)) {
        ssize_t n;

        buf_reserve(&st->text, 8192);
        n = read(st->fd, st->text.data + st->text.len, 8192);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        st->text.len += (size_t)n;
        if (!st->whole && st->text.len > 2 * st->max)
            buf_consume(&st->text, st->text.len - st->max);
    }
    return false;
}

/*
 * Until exit, deadline, or something else that ends it.  The end of the pipes is not waited for: a grandchild
 * may hold them.
 */
static enum ending watch(int pidfd, struct stream *streams, int n, int timeout_ms, const atomic_bool *give_up)
{
    struct pollfd p[3] = { { .fd = pidfd, .events = POLLIN } };
    int64_t end = clock_mono_ms() + timeout_ms;

    for (int i = 0; i < n; i++)
        p[i + 1] = (struct pollfd){ .fd = streams[i].fd, .events = POLLIN };
    for (;;) {
        int64_t left = end - clock_mono_ms();
        int wait = left <= 0 ? 0 : give_up != NULL && left > SLICE_MS ? SLICE_MS : (int)left;
        int rc = poll(p, (nfds_t)n + 1, wait);

        if (rc < 0 && errno != EINTR)
            return ENDING_LATE;
        for (int i = 0; rc > 0 && i < n; i++) {
            if (p[i + 1].revents != 0 && !drain(&streams[i]))
                p[i + 1].fd = -1; /* poll leaves it alone */
            if (is_too_much(&streams[i]))
                return ENDING_TOO_MUCH;
        }
        if (rc > 0 && p[0].revents != 0)
            return ENDING_EXIT;
        if (give_up != NULL && atomic_load(give_up))
            return ENDING_GIVEN_UP;
        if (rc == 0 && end <= clock_mono_ms())
            return ENDING_LATE;
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

/* Of what it said, the end is told, or the beginning. */
static int failed(const char *program, int status, struct buf *out, bool beginning, struct err *err)
{
    const char *text = buf_str(out), *name = strrchr(program, '/');
    size_t len = strlen(text);

    name = name != NULL ? name + 1 : program;
    while (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > TOLD_MAX) {
        text += beginning ? 0 : len - TOLD_MAX;
        len = TOLD_MAX;
    }
    err_set(err, ERR_INTERNAL, "the program %s failed on the server; its log says why", name);
    if (status >= 0 && WIFEXITED(status))
        return err_detail(err, "%s: exit status %d: %.*s", program, WEXITSTATUS(status), (int)len, text);
    if (status >= 0 && WIFSIGNALED(status))
        return err_detail(err, "%s: ended by signal %d: %.*s", program, WTERMSIG(status), (int)len, text);
    return err_detail(err, "%s: exit status unknown: %.*s", program, (int)len, text);
}

static int cut_short(const char *program, enum ending how, int timeout_ms, size_t max, struct err *err)
{
    if (how == ENDING_TOO_MUCH)
        return err_set(err, ERR_TOO_LARGE, "the answer of a program on the server is larger than %zu MB",
                       max >> 20);
    if (how == ENDING_GIVEN_UP)
        return err_set(err, ERR_UNAVAILABLE, "the server is about to stop; try again");
    err_set(err, ERR_TIMEOUT, "a program on the server took too long and was ended; try again");
    return err_detail(err, "%s: not finished after %d ms", program, timeout_ms);
}

/* Runs it; 0 and *ret_status when it has ended by itself, with all it has said in the streams. */
static int run(const char *const *argv, struct stream *streams, int n, int timeout_ms,
               const atomic_bool *give_up, int *ret_status, struct err *err)
{
    auto_fd pidfd = -1;
    struct proc_identity id;
    enum ending how;
    int rc = proc_spawn(&(struct proc_spec){ .argv = argv,
                                             .stdin_fd = -1,
                                             .stdout_fd = streams[0].child_fd,
                                             .stderr_fd = streams[n - 1].child_fd,
                                             .keep_fd = -1 },
                        &id, &pidfd, err);

    for (int i = 0; i < n; i++)
        fd_close(&streams[i].child_fd);
    if (rc < 0)
        return -1;
    how = watch(pidfd, streams, n, timeout_ms, give_up);
    if (how != ENDING_EXIT) {
        kill(-(pid_t)id.pid,
             SIGKILL); /* its process group; ours and not reaped, so the number is still its own */
        proc_signal(pidfd, SIGKILL);
        if (proc_wait_exit(pidfd, REAP_MS))
            proc_reap(pidfd);
        return cut_short(argv[0], how, timeout_ms, streams[0].max, err);
    }
    *ret_status = proc_reap(pidfd);
    for (int i = 0; i < n; i++)
        drain(&streams[i]);
    return is_too_much(&streams[0]) ? cut_short(argv[0], ENDING_TOO_MUCH, 0, streams[0].max, err) : 0;
}

int proc_run(struct arena *a, const char *const *argv, int timeout_ms, const char **ret_out, struct err *err)
{
    auto_stream both = { .fd = -1, .child_fd = -1, .max = OUTPUT_MAX };
    int status;

    if (stream_open(&both, err) < 0 || run(argv, &both, 1, timeout_ms, NULL, &status, err) < 0)
        return -1;
    keep_printable(&both.text);
    if (ret_out != NULL) {
        *ret_out = arena_strdup(a, buf_str(&both.text));
        if (*ret_out == NULL)
            return err_memory(err);
    }
    return status == 0 ? 0 : failed(argv[0], status, &both.text, false, err);
}

static void streams_fini(struct stream (*both)[2])
{
    stream_fini(&(*both)[0]);
    stream_fini(&(*both)[1]);
}

int proc_output(const char *const *argv, int timeout_ms, size_t max_bytes, const atomic_bool *give_up,
                struct buf *ret, struct err *err)
{
    CLEANUP(streams_fini)
    struct stream st[2] = { { .fd = -1, .child_fd = -1, .max = max_bytes, .whole = true },
                            { .fd = -1, .child_fd = -1, .max = OUTPUT_MAX } };
    int status;

    if (stream_open(&st[0], err) < 0 || stream_open(&st[1], err) < 0 ||
        run(argv, st, 2, timeout_ms, give_up, &status, err) < 0)
        return -1;
    if (status != 0) {
        keep_printable(&st[1].text);
        return failed(argv[0], status, &st[1].text, true, err);
    }
    *ret = st[0].text;
    st[0].text = (struct buf){ 0 };
    return 0;
}
