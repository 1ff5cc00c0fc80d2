/*
 * proxy.c - accepting, limits, drain
 *
 * Limits: max_clients sessions that got past their startup packet; beside them room for a quarter more that
 * are still greeting, so that a client over the limit can be told so in a session of its own.  Beyond that
 * the backlog waits.
 */
#include "proxy/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/relay.h"

#define LISTENERS_MAX    8
#define BACKLOG          4096
#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_MS  100 /* when descriptors are out: the listener stays readable, and would spin */
#define DRAIN_TIME_MS    5000
#define LAST_WORDS_MS    1000 /* for final errors to leave */
#define SPARE_CLIENTS    64
#define SPARE_FDS        64

#define KEEPALIVE_IDLE_S     60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_COUNT      4

struct proxy {
    const struct proxy_config *cfg;
    struct conn_env env;
    struct listener {
        struct proxy *proxy;
        int fd;
        struct loop_fd *source;
        char host[INET6_ADDRSTRLEN];
    } listeners[LISTENERS_MAX];
    size_t n_listeners;
    int port;
    size_t max_conns;
    bool paused; /* nothing is accepted for the moment */
    struct loop_timer *accept_timer, *drain_timer;
    bool forced; /* the drain is over */
};

static size_t conns_for(size_t max_clients)
{
    return max_clients + max_clients / 4 + SPARE_CLIENTS;
}

size_t proxy_descriptors(size_t max_clients)
{
    return conns_for(max_clients) + max_clients + SPARE_FDS;
}

/* --- addresses
 * ------------------------------------------------------------------------------------------------------ */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
};

static void address_text(const union address *a, char out[INET6_ADDRSTRLEN])
{
    if (a->any.sa_family == AF_INET)
        inet_ntop(AF_INET, &a->v4.sin_addr, out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, &a->v6.sin6_addr, out, INET6_ADDRSTRLEN);
}

static int address_port(const union address *a)
{
    return ntohs(a->any.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port);
}

static bool address_is_loopback(const union address *a)
{
    if (a->any.sa_family == AF_INET)
        return (ntohl(a->v4.sin_addr.s_addr) >> 24) == 127;
    if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
        return a->v6.sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
}

/* --- accepting
 * -------------------------------------------------------------------------------------------------------- */

static void accept_pause(struct proxy *p)
{
    p->paused = true;
    for (size_t i = 0; i < p->n_listeners; i++)
        loop_fd_set(p->listeners[i].source, 0);
}

static void accept_resume(void *arg)
{
    struct proxy *p = arg;

    if (p->env.draining || p->env.n_conns >= p->max_conns)
        return;
    p->paused = false;
    for (size_t i = 0; i < p->n_listeners; i++)
        loop_fd_set(p->listeners[i].source, LOOP_READ);
}

static void accept_failed(struct proxy *p, int error)
{
    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
        return; /* one connection that died in the backlog */
    log_event(LOG_WARN, "proxy", "cannot accept; waiting a moment", "error", strerror(error), NULL);
    accept_pause(p);
    loop_timer_set(p->accept_timer, ACCEPT_PAUSE_MS);
}

static void on_listener(void *arg, int fd, unsigned events)
{
    struct listener *l = arg;
    struct proxy *p = l->proxy;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && !p->paused; i++) {
        char peer[INET6_ADDRSTRLEN];
        union address from;
        socklen_t len = sizeof(from);
        int client = accept4(fd, &from.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client < 0 && errno == EAGAIN)
            return;
        if (client < 0) {
            accept_failed(p, errno);
            continue;
        }
        address_text(&from, peer);
        conn_new(&p->env, client, peer, address_is_loopback(&from));
        if (p->env.n_conns >= p->max_conns)
            accept_pause(p);
    }
}

static void on_conn_closed(void *arg)
{
    struct proxy *p = arg;

    if (p->env.draining) {
        if (p->env.n_conns == 0)
            loop_stop(p->env.loop);
    } else if (p->paused && !loop_timer_armed(p->accept_timer)) {
        accept_resume(p);
    }
}

/* --- listening
 * -------------------------------------------------------------------------------------------------------- */

/* Set on the listener: accepted sockets inherit them, which saves five calls per client. */
static void set_options(int fd, int family)
{
    int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, count = KEEPALIVE_COUNT;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
}

/* A hosts file may list one address twice. */
static bool listens_on(const struct proxy *p, const char *host)
{
    for (size_t i = 0; i < p->n_listeners; i++)
        if (strcmp(p->listeners[i].host, host) == 0)
            return true;
    return false;
}

/* One address of the host.  A name with several gets the same port on each: the first one chooses. */
static int listen_on(struct proxy *p, const struct addrinfo *ai)
{
    struct listener *l = &p->listeners[p->n_listeners];
    union address bound;
    socklen_t len = sizeof(bound);
    auto_fd fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || ai->ai_addrlen > sizeof(bound))
        return -1;
    memcpy(&bound, ai->ai_addr, ai->ai_addrlen);
    address_text(&bound, l->host);
    if (listens_on(p, l->host))
        return 0;
    if (p->port != 0 && ai->ai_family == AF_INET)
        bound.v4.sin_port = htons((uint16_t)p->port);
    else if (p->port != 0)
        bound.v6.sin6_port = htons((uint16_t)p->port);
    set_options(fd, ai->ai_family);
    if (bind(fd, &bound.any, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, &bound.any, &len) < 0)
        return -1;
    p->port = address_port(&bound);
    l->proxy = p;
    l->fd = TAKE_FD(fd);
    p->n_listeners++;
    return 0;
}

static int listen_error(const struct proxy_config *cfg, int error, struct err *err)
{
    err_set(err, ERR_UNAVAILABLE, "cannot listen on %s:%d: %s; choose another address or stop what uses it",
            cfg->host, cfg->port, strerror(error));
    return -1;
}

/* Every address the host name has; one that this machine does not have (often IPv6) is no error beside
 * another. */
static int listen_all(struct proxy *p, struct err *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE },
                    *all;
    char port[8];
    int rc, error = EADDRNOTAVAIL;

    snprintf(port, sizeof(port), "%d", p->cfg->port);
    rc = getaddrinfo(p->cfg->host, port, &hints, &all);
    if (rc != 0)
        return err_set(err, ERR_INVALID, "cannot listen on \"%s\": %s", p->cfg->host, gai_strerror(rc));
    p->port = p->cfg->port;
    for (const struct addrinfo *ai = all; ai != NULL && p->n_listeners < LISTENERS_MAX; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
            continue;
        if (listen_on(p, ai) == 0 || errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT)
            continue;
        error = errno;
        break;
    }
    freeaddrinfo(all);
    return p->n_listeners > 0 && error == EADDRNOTAVAIL ? 0 : listen_error(p->cfg, error, err);
}

/* --- what mered says
 * ------------------------------------------------------------------------------------------------------ */

static void mered_learn(void *arg, const char *ep, uint64_t g, const char *socket, int max)
{
    struct proxy *p = arg;

    door_learn(p->env.doors, ep, g, socket, max);
}

static int mered_hold(void *arg, const char *ep, uint64_t g)
{
    struct proxy *p = arg;

    return door_hold(p->env.doors, ep, g);
}

static void mered_release(void *arg, const char *ep, uint64_t g)
{
    struct proxy *p = arg;

    door_release(p->env.doors, ep, g);
}

static void mered_gone(void *arg, const char *ep, uint64_t g)
{
    struct proxy *p = arg;

    door_gone(p->env.doors, ep, g);
}

static void mered_lost(void *arg)
{
    struct proxy *p = arg;

    doors_release_all(p->env.doors);
}

static void tell_sessions(void *arg, const char *ep, uint64_t g, int n)
{
    struct proxy *p = arg;

    waker_sessions(p->env.waker, ep, g, n);
}

static void mered_sessions(void *arg)
{
    struct proxy *p = arg;

    doors_each(p->env.doors, tell_sessions, p);
}

static const struct waker_ops WAKER_OPS = {
    .learn = mered_learn,
    .answer = conn_answer,
    .hold = mered_hold,
    .release = mered_release,
    .gone = mered_gone,
    .lost = mered_lost,
    .sessions = mered_sessions,
};

/* --- start and stop
 * ------------------------------------------------------------------------------------------------------- */

static void on_drained(void *arg)
{
    struct proxy *p = arg;

    if (p->forced) {
        loop_stop(p->env.loop);
        return;
    }
    p->forced = true;
    loop_timer_set(p->drain_timer, LAST_WORDS_MS);
    conns_drain(&p->env, true);
}

struct proxy *proxy_new(struct loop *l, const struct proxy_config *cfg, struct err *err)
{
    struct proxy *p = xcalloc(1, sizeof(*p));

    p->cfg = cfg;
    p->max_conns = conns_for(cfg->max_clients);
    p->env = (struct conn_env){
        .loop = l,
        .max_sessions = cfg->max_clients,
        .connect_timeout_ms = cfg->connect_timeout_ms,
        .reserved_users = cfg->reserved_users,
        .n_reserved_users = cfg->n_reserved_users,
        .chunk = xmalloc(RELAY_CHUNK),
        .on_close = on_conn_closed,
        .arg = p,
    };
    list_init(&p->env.conns);
    list_init(&p->env.dead);
    p->env.doors = doors_new(&CONN_DOOR_OPS);
    p->env.lingers = lingers_new(p->env.loop);
    p->env.cancels = cancel_table_new();
    p->env.reaper = loop_timer_new(l, conn_reap, &p->env);
    p->accept_timer = loop_timer_new(l, accept_resume, p);
    p->drain_timer = loop_timer_new(l, on_drained, p);
    p->env.tls = tls_context_new(cfg->tls_cert, cfg->tls_key, err);
    if (p->env.tls == NULL || listen_all(p, err) < 0) {
        proxy_free(p);
        return NULL;
    }
    return p;
}

void proxy_start(struct proxy *p)
{
    char port[8];

    snprintf(port, sizeof(port), "%d", p->port);
    for (size_t i = 0; i < p->n_listeners; i++)
        p->listeners[i].source =
            loop_fd_add(p->env.loop, p->listeners[i].fd, LOOP_READ, on_listener, &p->listeners[i]);
    p->env.waker = waker_new(p->env.loop, p->cfg->wake_socket, proxy_host(p), p->port, &WAKER_OPS, p);
    log_event(LOG_INFO, "proxy", "listening", "host", proxy_host(p), "port", port, NULL);
}

static void stop_listening(struct proxy *p)
{
    for (size_t i = 0; i < p->n_listeners; i++) {
        loop_fd_del(TAKE(p->listeners[i].source));
        fd_close(&p->listeners[i].fd);
    }
    p->n_listeners = 0;
}

void proxy_stop(struct proxy *p)
{
    if (p->env.draining) {
        on_drained(p);
        return;
    }
    log_event(LOG_INFO, "proxy", "stopping", NULL);
    stop_listening(p);
    loop_timer_clear(p->accept_timer);
    p->env.draining = true;
    loop_timer_set(p->drain_timer, DRAIN_TIME_MS);
    conns_drain(&p->env, false);
    if (p->env.n_conns == 0)
        loop_stop(p->env.loop);
}

void proxy_free(struct proxy *p)
{
    if (p == NULL)
        return;
    stop_listening(p);
    conns_free(&p->env);
    waker_free(p->env.waker);
    lingers_free(p->env.lingers);
    doors_free(p->env.doors);
    cancel_table_free(p->env.cancels);
    tls_context_free(p->env.tls);
    loop_timer_del(p->env.reaper);
    loop_timer_del(p->accept_timer);
    loop_timer_del(p->drain_timer);
    free(p->env.chunk);
    free(p);
}

const char *proxy_host(const struct proxy *p)
{
    return p->listeners[0].host;
}
