/*
 * relay.c - the least that a proxy can do: one epoll loop, recv on one socket, send on the other
 *
 * What bench_proxy.py compares mere-proxy with: what is lost on the way is what the machine takes for two
 * more hops.  No limits, no back-pressure, no errors: for clients that send a query and wait for its answer.
 *
 *     plain-relay PORT PATH     from 127.0.0.1:PORT to the unix socket PATH
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"

#define CHUNK  65536
#define EVENTS 64

struct side {
    int fd; /* -1 = closed */
    struct side *other;
};

static int epoll_fd;

static void watch(int fd, struct side *side)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = side };

    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        err(1, "epoll_ctl");
}

static int listen_at(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 128) < 0)
        err(1, "listen");
    return fd;
}

/* Both sides are kept to the end: an event of the other one may be on its way. */
static void let_in(int listener, const struct sockaddr_un *to)
{
    struct side *sides = xcalloc(2, sizeof(*sides));

    sides[0] = (struct side){ accept(listener, NULL, NULL), &sides[1] };
    sides[1] = (struct side){ socket(AF_UNIX, SOCK_STREAM, 0), &sides[0] };
    if (sides[0].fd < 0 || connect(sides[1].fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
        err(1, "connect");
    watch(sides[0].fd, &sides[0]);
    watch(sides[1].fd, &sides[1]);
}

static void move(struct side *from)
{
    static char chunk[CHUNK];
    ssize_t n = from->fd < 0 ? -1 : recv(from->fd, chunk, sizeof(chunk), 0);

    if (n > 0) {
        (void)!send(from->other->fd, chunk, (size_t)n, MSG_NOSIGNAL);
        return;
    }
    fd_close(&from->fd);
    fd_close(&from->other->fd);
}

int main(int argc, char **argv)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    struct epoll_event events[EVENTS];
    int64_t port;
    int listener;

    if (argc != 3 || !text_to_i64(argv[1], 1, 65535, &port) || strlen(argv[2]) >= sizeof(to.sun_path))
        errx(2, "usage: plain-relay PORT PATH");
    memcpy(to.sun_path, argv[2], strlen(argv[2]) + 1);
    epoll_fd = epoll_create1(0);
    listener = listen_at((int)port);
    watch(listener, NULL);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);

        for (int i = 0; i < n; i++)
            if (events[i].data.ptr == NULL)
                let_in(listener, &to);
            else
                move(events[i].data.ptr);
    }
}
