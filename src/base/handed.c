/*
 * handed.c - sockets handed over by the service manager
 */
#include "base/handed.h"

#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"

#define FIRST_FD 3

static int get_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

static bool is_tcp_listener(int fd, int family)
{
    return (family == AF_INET || family == AF_INET6) && get_option(fd, SO_TYPE) == SOCK_STREAM &&
           get_option(fd, SO_ACCEPTCONN) == 1;
}

static int look_at(struct arena *a, struct handed *h, struct err *err)
{
    struct sockaddr_storage at = { 0 };
    socklen_t len = sizeof(at);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    int64_t number;

    if (getsockname(h->fd, (struct sockaddr *)&at, &len) < 0 || !is_tcp_listener(h->fd, at.ss_family) ||
        getnameinfo((struct sockaddr *)&at, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
        !text_to_i64(port, 1, 65535, &number))
        return err_set(err, ERR_PRECONDITION,
                       "the service manager handed over descriptor %d (\"%.60s\"), which is no TCP socket "
                       "that listens (ListenStream=HOST:PORT, Accept=no)",
                       h->fd, h->name);
    if (fcntl(h->fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(h->fd, F_SETFL, O_NONBLOCK) < 0)
        return err_sys(err, "flags of descriptor %d", h->fd);
    h->host = arena_strdup(a, host);
    h->port = (int)number;
    return 0;
}

/* LISTEN_PID: they may have been meant for who started us. */
static bool is_for_us(const char *pid, const char *count, int64_t *ret_n)
{
    int64_t whose;

    return pid != NULL && count != NULL && text_to_i64(pid, 1, INT64_MAX, &whose) && whose == getpid() &&
           text_to_i64(count, 0, INT32_MAX, ret_n);
}

int handed_take(struct arena *a, struct handed ret[HANDED_MAX], size_t *ret_n, struct err *err)
{
    const char *names = getenv("LISTEN_FDNAMES");
    char *rest = names != NULL ? arena_strdup(a, names) : NULL;
    int64_t n = 0;
    bool ours = is_for_us(getenv("LISTEN_PID"), getenv("LISTEN_FDS"), &n);

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    *ret_n = 0;
    if (!ours)
        return 0;
    if (n > HANDED_MAX)
        return err_set(err, ERR_PRECONDITION, "the service manager hands over %lld sockets; %d are the most",
                       (long long)n, HANDED_MAX);
    for (int i = 0; i < (int)n; i++) {
        const char *name = rest != NULL ? strsep(&rest, ":") : NULL;

        ret[i] = (struct handed){ .name = name != NULL ? name : "unknown", .fd = FIRST_FD + i };
        if (look_at(a, &ret[i], err) < 0)
            return -1;
        (*ret_n)++;
    }
    return 0;
}
