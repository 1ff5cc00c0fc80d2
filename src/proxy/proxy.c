/*
 * proxy.c - accepting, limits, succession, drain
 *
 * Limits: max_clients sessions that got past their startup packet: whoever comes on top of them is told so in
 * a session of its own.  Those whom limits.c does not let in hear why likewise while they are few; from then
 * on one costs four system calls and no memory.
 */
#include "proxy/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pass.h"
#include "proxy/conn.h"
#include "proxy/relay.h"

#define LISTENERS_MAX    PASS_MAX
#define BACKLOG          4096
#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_MS  100  /* when descriptors are out: the listener stays readable, and would spin */
#define LAST_WORDS_MS    1000 /* for final errors to leave */
#define SPARE_CLIENTS    64
#define SPARE_FDS        64
#define HAND_OVER_MS     10000
#define REFUSALS_LOG_MS  10000 /* one line for all of this time */

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
    bool paused, starved; /* nothing is accepted for the moment; descriptors were out at the last try */
    struct refusal {
        struct wire_error error;
        struct buf words; /* the same as they are sent */
        uint64_t n;       /* since the last line in the log */
    } refusals[N_LIMITS_VERDICTS];
    struct loop_timer *accept_timer, *drain_timer, *refusals_timer;
    bool forced; /* the drain is over */
};

size_t proxy_default_unproved(size_t max_clients)
{
    return max_clients / 4 + SPARE_CLIENTS;
}

size_t proxy_descriptors(size_t max_clients, size_t max_unproved)
{
    return max_clients + max_unproved + max_clients + SPARE_FDS;
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

/* Who has a network of version 6 has all of its addresses: its first half is what counts. */
static size_t address_bytes(const union address *a, const void **ret)
{
    if (a->any.sa_family == AF_INET) {
        *ret = &a->v4.sin_addr;
        return sizeof(a->v4.sin_addr);
    }
    *ret = &a->v6.sin6_addr;
    if (!IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
        return sizeof(a->v6.sin6_addr) / 2;
    *ret = &a->v6.sin6_addr.s6_addr[12];
    return sizeof(a->v4.sin_addr);
}

/* --- limits
 * ----------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *sqlstate, *message, *hint, *log;
} REFUSALS[N_LIMITS_VERDICTS] = {
    [LIMITS_RATE] = { "53400", "too many new connections from your address in a short time",
                      "Keep connections open in a pool, or try again later.",
                      "refused connections: too many from one address (connects-per-address)" },
    [LIMITS_ADDRESS] = { "53300", "too many connections from your address that have not logged in yet",
                         "Try again when they have logged in.",
                         "refused connections: too many from one address that have not logged in "
                         "(logins-per-address)" },
    [LIMITS_ALL] = { "53300", "too many connections that have not logged in yet", "Try again later.",
                     "refused connections: too many that have not logged in (logins)" },
};

static void refusals_init(struct proxy *p)
{
    for (size_t i = LIMITS_PASS + 1; i < N_LIMITS_VERDICTS; i++) {
        struct refusal *r = &p->refusals[i];

        wire_error_set(&r->error, REFUSALS[i].sqlstate, REFUSALS[i].hint, "%s", REFUSALS[i].message);
        wire_error_add(&r->words, &r->error);
    }
}

/* The first is told at once; from then on what came in each ten seconds. */
static void log_refusals(void *arg)
{
    struct proxy *p = arg;

    for (size_t i = 0; i < N_LIMITS_VERDICTS; i++) {
        char n[24];

        if (p->refusals[i].n == 0)
            continue;
        snprintf(n, sizeof(n), "%llu", (unsigned long long)p->refusals[i].n);
        log_event(LOG_WARN, "proxy", REFUSALS[i].log, "n", n, NULL);
        p->refusals[i].n = 0;
        loop_timer_set(p->refusals_timer, REFUSALS_LOG_MS);
    }
}

/* What it has sent is taken along: closing with bytes unread would be a reset, which may swallow the words.
 */
static void turn_away(struct refusal *r, int fd)
{
    char bytes[1024];

    (void)!send(fd, r->words.data, r->words.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)!recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    fd_close(&fd);
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

    if (p->env.draining)
        return;
    p->paused = false;
    for (size_t i = 0; i < p->n_listeners; i++)
        loop_fd_set(p->listeners[i].source, LOOP_READ);
}

static void accept_failed(struct proxy *p, int error)
{
    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
        return; /* one connection that died in the backlog */
    if (!p->starved)
        log_event(LOG_WARN, "proxy", "cannot accept; waiting until it can be done", "error", strerror(error),
                  NULL);
    p->starved = true;
    accept_pause(p);
    loop_timer_set(p->accept_timer, ACCEPT_PAUSE_MS);
}

static void let_in(struct proxy *p, int fd, const union address *from)
{
    bool near = address_is_loopback(from);
    struct refusal *refusal = NULL;
    char peer[INET6_ADDRSTRLEN];
    struct limits_guest guest;
    enum limits_verdict verdict;
    const void *bytes;
    size_t len = address_bytes(from, &bytes);
    int64_t now_us = clock_mono_us();

    verdict = limits_enter(p->env.limits, &guest, bytes, near ? 0 : len, now_us);
    if (verdict != LIMITS_PASS) {
        refusal = &p->refusals[verdict];
        refusal->n++;
        if (!loop_timer_armed(p->refusals_timer))
            log_refusals(p);
    }
    if (refusal != NULL && !limits_tell(p->env.limits, &guest, now_us)) {
        turn_away(refusal, fd);
        return;
    }
    address_text(from, peer);
    conn_new(&p->env, fd, peer, near || p->cfg->allow_plaintext, &guest,
             refusal != NULL ? &refusal->error : NULL);
}

static void on_listener(void *arg, int fd, unsigned events)
{
    struct listener *l = arg;
    struct proxy *p = l->proxy;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && !p->paused; i++) {
        union address from;
        socklen_t len = sizeof(from);
        int client = accept4(fd, &from.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client < 0 && errno == EAGAIN) {
            p->starved = false;
            return;
        }
        if (client < 0)
            accept_failed(p, errno);
        else
            let_in(p, client, &from);
    }
}

static void on_conn_closed(void *arg)
{
    struct proxy *p = arg;

    if (p->n_listeners == 0 && p->env.n_conns == 0)
        loop_stop(p->env.loop);
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

/* With any port when none is asked for. */
static bool address_same(const union address *is, const union address *wanted)
{
    if (is->any.sa_family != wanted->any.sa_family ||
        (address_port(wanted) != 0 && address_port(is) != address_port(wanted)))
        return false;
    if (is->any.sa_family == AF_INET)
        return is->v4.sin_addr.s_addr == wanted->v4.sin_addr.s_addr;
    return memcmp(&is->v6.sin6_addr, &wanted->v6.sin6_addr, sizeof(is->v6.sin6_addr)) == 0;
}

/* Listening sockets that another proxy has given; those that are left are closed. */
struct inherited {
    int fds[PASS_MAX];
    size_t n;
};

static void inherited_fini(struct inherited *in)
{
    while (in->n > 0)
        fd_close(&in->fds[--in->n]);
}

#define auto_inherited CLEANUP(inherited_fini) struct inherited

/* One that no proxy has opened has other options. */
static int adopted(int fd, int family)
{
    set_options(fd, family);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* The one that listens there, with any port when none is asked for; or -1. */
static int take_inherited(struct inherited *in, const union address *at, socklen_t len)
{
    for (size_t i = 0; i < in->n; i++) {
        union address is = { 0 };
        socklen_t is_len = sizeof(is);

        if (in->fds[i] < 0 || getsockname(in->fds[i], &is.any, &is_len) < 0 || is_len != len)
            continue;
        if (address_same(&is, at))
            return adopted(TAKE_FD(in->fds[i]), at->any.sa_family);
    }
    return -1;
}

static int open_listener(const union address *at, socklen_t len)
{
    auto_fd fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    set_options(fd, at->any.sa_family);
    if (bind(fd, &at->any, len) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return TAKE_FD(fd);
}

/*
 * One address of the host: the socket that was inherited for it, if any, or (in NULL) a new one.  A name with
 * several gets the same port on each: the first one chooses.
 */
static int listen_on(struct proxy *p, struct inherited *in, const struct addrinfo *ai)
{
    struct listener *l = &p->listeners[p->n_listeners];
    union address bound;
    socklen_t len = sizeof(bound);

    if (ai->ai_addrlen > sizeof(bound))
        return -1;
    memcpy(&bound, ai->ai_addr, ai->ai_addrlen);
    address_text(&bound, l->host);
    if (listens_on(p, l->host))
        return 0;
    if (p->port != 0 && ai->ai_family == AF_INET)
        bound.v4.sin_port = htons((uint16_t)p->port);
    else if (p->port != 0)
        bound.v6.sin6_port = htons((uint16_t)p->port);
    auto_fd fd =
        in != NULL ? take_inherited(in, &bound, ai->ai_addrlen) : open_listener(&bound, ai->ai_addrlen);
    if (fd < 0 && in != NULL)
        return 0;
    if (fd < 0 || getsockname(fd, &bound.any, &len) < 0)
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

/* 0 or an errno.  An address that this machine does not have (often of IPv6) is no error beside another. */
static int listen_each(struct proxy *p, struct inherited *in, const struct addrinfo *all)
{
    for (const struct addrinfo *ai = all; ai != NULL && p->n_listeners < LISTENERS_MAX; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
            continue;
        if (listen_on(p, in, ai) < 0 && errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT)
            return errno;
    }
    return 0;
}

/* Every address the host name has.  What was inherited for others goes first: it may stand in the way. */
static int listen_all(struct proxy *p, struct inherited *in, struct err *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE },
                    *all;
    char port[8];
    int rc;

    snprintf(port, sizeof(port), "%d", p->cfg->port);
    rc = getaddrinfo(p->cfg->host, port, &hints, &all);
    if (rc != 0)
        return err_set(err, ERR_INVALID, "cannot listen on \"%s\": %s", p->cfg->host, gai_strerror(rc));
    p->port = p->cfg->port;
    rc = listen_each(p, in, all);
    inherited_fini(in);
    if (rc == 0)
        rc = listen_each(p, NULL, all);
    freeaddrinfo(all);
    if (rc == 0 && p->n_listeners == 0)
        rc = EADDRNOTAVAIL;
    return rc == 0 ? 0 : listen_error(p->cfg, rc, err);
}

static void stop_listening(struct proxy *p)
{
    for (size_t i = 0; i < p->n_listeners; i++) {
        loop_fd_del(TAKE(p->listeners[i].source));
        fd_close(&p->listeners[i].fd);
    }
    p->n_listeners = 0;
    loop_timer_clear(p->accept_timer);
}

/* --- succession
 * ------ */

static void inherited_add(struct inherited *in, int fds[PASS_MAX], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (in->n < PASS_MAX)
            in->fds[in->n++] = fds[i];
        else
            fd_close(&fds[i]);
    }
}

/*
 * What listens, from the service manager and from the one before us, each in a message of its own; they have
 * let go of it when the pair ends.  Closes hand_fd.
 */
static int inherit(int hand_fd, struct inherited *in, struct err *err)
{
    struct timeval limit = { .tv_sec = HAND_OVER_MS / 1000 };
    int fds[PASS_MAX];
    char byte = 0;
    size_t n;
    ssize_t got;
    auto_fd fd = hand_fd;

    if (fd < 0)
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
        return err_sys(err, "ask for listening sockets");
    while ((got = pass_receive(fd, &byte, 1, fds, &n)) == 1)
        inherited_add(in, fds, n);
    if (got != 0 || in->n == 0)
        return err_set(err, ERR_UNAVAILABLE, "no listening sockets came from the mere-proxy before");
    return 0;
}

/* Whoever is in the backlog is the successor's. */
static bool mered_retire(void *arg, int fd)
{
    struct proxy *p = arg;
    int fds[LISTENERS_MAX];

    for (size_t i = 0; i < p->n_listeners; i++)
        fds[i] = p->listeners[i].fd;
    if (p->n_listeners == 0 || pass_send(fd, "", 1, fds, p->n_listeners) != 1) {
        log_event(LOG_WARN, "proxy", "there is no successor, or nothing to give it; going on", NULL);
        return false;
    }
    log_event(LOG_INFO, "proxy", "retired: a successor takes new clients", NULL);
    stop_listening(p);
    if (p->env.n_conns == 0)
        loop_stop(p->env.loop);
    return true;
}

/* --- what mered says
 * ------------------------------------------------------------------------------------------------------ */

/* Both doors of an endpoint open and shut together. */
static void pooler_of(const char *ep, char ret[DOOR_ID_MAX + 1])
{
    snprintf(ret, DOOR_ID_MAX + 1, "%.*s" DOOR_POOLER, ID_MAX, ep);
}

static void mered_learn(void *arg, const char *ep, uint64_t g, const char *socket, int max,
                        const char *pooler)
{
    struct proxy *p = arg;
    char id[DOOR_ID_MAX + 1];

    door_learn(p->env.doors, ep, g, socket, max);
    pooler_of(ep, id);
    if (pooler != NULL)
        door_learn(p->env.doors, id, g, pooler, DOOR_POOLER_SEATS);
}

static int mered_hold(void *arg, const char *ep, uint64_t g)
{
    struct proxy *p = arg;
    int active = door_hold(p->env.doors, ep, g);
    char id[DOOR_ID_MAX + 1];

    pooler_of(ep, id);
    return active < 0 ? active : active + door_hold(p->env.doors, id, g);
}

static void mered_park(void *arg, const char *ep, uint64_t g, uint64_t question, bool whole)
{
    struct proxy *p = arg;

    conns_park(&p->env, ep, g, question, whole);
}

static void mered_release(void *arg, const char *ep, uint64_t g)
{
    struct proxy *p = arg;
    char id[DOOR_ID_MAX + 1];

    pooler_of(ep, id);
    door_release(p->env.doors, ep, g);
    door_release(p->env.doors, id, g);
}

static void mered_gone(void *arg, const char *ep, uint64_t g)
{
    struct proxy *p = arg;
    char id[DOOR_ID_MAX + 1];

    pooler_of(ep, id);
    door_gone(p->env.doors, ep, g);
    door_gone(p->env.doors, id, g);
}

static void mered_drop(void *arg, const char *ep)
{
    struct proxy *p = arg;

    mered_gone(p, ep, UINT64_MAX);
    conns_drop_parked(&p->env, ep);
}

static void mered_lost(void *arg)
{
    struct proxy *p = arg;

    doors_release_all(p->env.doors);
}

static void tell_sessions(void *arg, const char *id, uint64_t g, int n)
{
    struct proxy *p = arg;
    size_t len = strlen(id), more = sizeof(DOOR_POOLER) - 1;
    bool pooled = len > more && strcmp(id + len - more, DOOR_POOLER) == 0;
    auto_free char *ep = xasprintf("%.*s", (int)(pooled ? len - more : len), id);

    waker_sessions(p->env.waker, ep, g, n);
}

static void mered_sessions(void *arg)
{
    struct proxy *p = arg;

    doors_each(p->env.doors, tell_sessions, p);
}

/* Sessions go on with the one they began with, which lives as long as they do. */
static void mered_certificate(void *arg, int cert_fd, int key_fd)
{
    struct proxy *p = arg;
    struct err err = ERR_INIT;
    struct tls_context *t = tls_context_new(&(struct tls_file){ cert_fd, "from mered" },
                                            &(struct tls_file){ key_fd, "from mered" }, &err);

    if (t == NULL) {
        log_event(LOG_ERROR, "proxy", "the new certificate cannot be used; the old one stays in force",
                  "error", err.msg, "detail", err.detail, NULL);
        return;
    }
    tls_context_free(p->env.tls);
    p->env.tls = t;
    log_event(LOG_INFO, "proxy", "new sessions get the certificate that mered gave", NULL);
}

static void mered_others(void *arg, int64_t n)
{
    struct proxy *p = arg;

    conns_others(&p->env, n);
}

static void mered_stray(void *arg, const uint8_t key[WIRE_KEY_SIZE])
{
    struct proxy *p = arg;

    conns_cancel(&p->env, key);
}

static const struct waker_ops WAKER_OPS = {
    .learn = mered_learn,
    .answer = conn_answer,
    .hold = mered_hold,
    .release = mered_release,
    .park = mered_park,
    .gone = mered_gone,
    .drop = mered_drop,
    .lost = mered_lost,
    .sessions = mered_sessions,
    .certificate = mered_certificate,
    .others = mered_others,
    .stray = mered_stray,
    .retire = mered_retire,
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
    auto_inherited in = { .n = 0 };

    p->cfg = cfg;
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
    list_init(&p->env.parkings);
    list_init(&p->env.strays);
    p->env.doors = doors_new(&CONN_DOOR_OPS);
    p->env.lingers = lingers_new(p->env.loop);
    p->env.cancels = cancel_table_new();
    p->env.directory = directory_new();
    p->env.limits = limits_new(&cfg->limits);
    refusals_init(p);
    p->env.reaper = loop_timer_new(l, conn_reap, &p->env);
    p->accept_timer = loop_timer_new(l, accept_resume, p);
    p->drain_timer = loop_timer_new(l, on_drained, p);
    p->refusals_timer = loop_timer_new(l, log_refusals, p);
    p->env.tls = tls_context_open(cfg->tls_cert, cfg->tls_key, err);
    if (p->env.tls == NULL || inherit(cfg->hand_fd, &in, err) < 0 || listen_all(p, &in, err) < 0) {
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
    p->env.waker =
        waker_new(p->env.loop, p->cfg->wake_socket, proxy_host(p), p->port, p->env.directory, &WAKER_OPS, p);
    log_event(LOG_INFO, "proxy", "listening", "host", proxy_host(p), "port", port, NULL);
}

void proxy_stop(struct proxy *p)
{
    if (p->env.draining) {
        on_drained(p);
        return;
    }
    log_event(LOG_INFO, "proxy", "stopping", NULL);
    stop_listening(p);
    p->env.draining = true;
    loop_timer_set(p->drain_timer, p->cfg->drain_ms);
    conns_drain(&p->env, false);
    if (p->env.n_conns == 0)
        loop_stop(p->env.loop);
}

void proxy_free(struct proxy *p)
{
    if (p == NULL)
        return;
    stop_listening(p);
    conns_free_strays(&p->env);
    conns_free(&p->env);
    waker_free(p->env.waker);
    directory_free(p->env.directory);
    lingers_free(p->env.lingers);
    doors_free(p->env.doors);
    cancel_table_free(p->env.cancels);
    tls_context_free(p->env.tls);
    loop_timer_del(p->env.reaper);
    loop_timer_del(p->accept_timer);
    loop_timer_del(p->drain_timer);
    loop_timer_del(p->refusals_timer);
    for (size_t i = 0; i < N_LIMITS_VERDICTS; i++)
        buf_fini(&p->refusals[i].words);
    limits_free(p->env.limits);
    free(p->env.chunk);
    free(p);
}

const char *proxy_host(const struct proxy *p)
{
    return p->listeners[0].host;
}
