/*
 * stream.c - a non-blocking socket
 *
 * out is freed whenever it runs empty: an idle session owns no buffer.
 */
#include "proxy/stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static ssize_t plain_read(struct stream *s, void *data, size_t len)
{
    ssize_t n = recv(s->fd, data, len, 0);

    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? STREAM_AGAIN : STREAM_FAILED;
}

static ssize_t plain_write(struct stream *s, const void *data, size_t len)
{
    ssize_t n = send(s->fd, data, len, MSG_NOSIGNAL);

    if (n > 0)
        return n;
    return n < 0 && errno != EAGAIN && errno != EINTR ? STREAM_FAILED : STREAM_AGAIN;
}

static void plain_finish(struct stream *s)
{
    shutdown(s->fd, SHUT_WR);
}

static void plain_release(struct stream *s)
{
    (void)s;
}

static bool plain_pending(const struct stream *s)
{
    (void)s;
    return false;
}

static const struct stream_ops PLAIN = {
    .read = plain_read,
    .write = plain_write,
    .finish = plain_finish,
    .release = plain_release,
    .pending = plain_pending,
};

int stream_dial(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = strlen(path);
    auto_fd fd = -1;

    if (len >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, path, len + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -1;
    return TAKE_FD(fd);
}

int stream_open(struct stream *s, struct loop *l, int fd, unsigned events, loop_fd_fn fn, void *arg)
{
    *s = (struct stream){ .fd = -1, .ops = &PLAIN, .watched = events };
    s->source = loop_fd_add(l, fd, events, fn, arg);
    if (s->source == NULL)
        return -1;
    s->fd = fd;
    return 0;
}

void stream_close(struct stream *s)
{
    if (s->fd < 0)
        return;
    loop_fd_del(TAKE(s->source));
    s->ops->release(s);
    fd_close(&s->fd);
    buf_fini(&s->out);
}

int stream_give_up(struct stream *s)
{
    int fd = TAKE_FD(s->fd);

    loop_fd_del(TAKE(s->source));
    buf_fini(&s->out);
    return fd;
}

ssize_t stream_read(struct stream *s, void *data, size_t len)
{
    ssize_t n = s->ops->read(s, data, len);

    if (n > 0)
        s->bytes_in += (uint64_t)n;
    return n;
}

/* As much as goes.  Bytes written, or -1. */
static ssize_t write_some(struct stream *s, const char *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = s->ops->write(s, data + done, len - done);

        if (n == STREAM_AGAIN)
            break;
        if (n < 0) {
            s->failed = true;
            return -1;
        }
        done += (size_t)n;
        s->bytes_out += (uint64_t)n;
    }
    return (ssize_t)done;
}

int stream_send(struct stream *s, const void *data, size_t len)
{
    ssize_t n = 0;

    if (s->failed)
        return -1;
    if (len == 0)
        return 0;
    if (s->out.len == 0)
        n = write_some(s, data, len);
    if (n < 0)
        return -1;
    buf_add(&s->out, (const char *)data + n, len - (size_t)n);
    return 0;
}

int stream_flush(struct stream *s)
{
    ssize_t n;

    if (s->failed)
        return -1;
    if (s->out.len == 0)
        return 1;
    n = write_some(s, s->out.data, s->out.len);
    if (n < 0)
        return -1;
    buf_consume(&s->out, (size_t)n);
    if (s->out.len > 0)
        return 0;
    buf_fini(&s->out);
    return 1;
}

void stream_finish(struct stream *s)
{
    if (s->fd >= 0 && !s->failed)
        s->ops->finish(s);
}

void stream_watch(struct stream *s, unsigned events)
{
    if (s->fd < 0)
        return;
    if (s->out.len > 0 || s->starved)
        events |= LOOP_WRITE;
    if (events == s->watched)
        return;
    s->watched = events;
    loop_fd_set(s->source, events);
}

bool stream_is_pending(const struct stream *s)
{
    return s->fd >= 0 && s->ops->pending(s);
}

bool stream_has_input(const struct stream *s)
{
    int n = 0;

    if (stream_is_pending(s))
        return true;
    return s->fd >= 0 && ioctl(s->fd, FIONREAD, &n) == 0 && n > 0;
}

bool stream_is_dead(const struct stream *s)
{
    struct pollfd p = { .fd = s->fd };

    return s->fd < 0 || (poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) != 0);
}
