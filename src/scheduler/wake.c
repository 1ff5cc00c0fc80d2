/*
 * wake.c - the unix socket where mere-proxy asks for computes (docs/wake-protocol.md is the contract)
 *
 * One proxy at a time; the newest HELLO wins.  Names are resolved here, and only here: an unknown or
 * ambiguous one is an error, never another branch.
 */
#include "scheduler/internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define OUT_MAX_BYTES  (1 << 20)
#define MAX_WORDS      8

struct wake {
    struct sched *s;
    int listen_fd;
    struct loop_fd *listen_source;
    int fd;              /* the proxy, or -1 */
    uint64_t connection; /* one number for each connection and for each time without one */
    struct loop_fd *source;
    struct loop_timer *reopen; /* after a loss */
    bool hello;
    struct buf in, out;
};

const char *wake_socket_path(struct sched *s, struct arena *a)
{
    return arena_printf(a, "%s/wake.sock", s->env.run_dir);
}

bool wake_connected(struct sched *s)
{
    return s->wake->fd >= 0 && s->wake->hello;
}

uint64_t wake_connection(struct sched *s)
{
    return s->wake ? s->wake->connection : 0;
}

/* ---- out ---- */

/* What it still waits for, it asks for again. */
static void drop_waiters(struct compute *c, void *arg)
{
    (void)arg;
    while (c->waiters) {
        struct waiter *w = c->waiters;
        c->waiters = w->next;
        free(w);
    }
}

/*
 * The only way to lose the proxy, whoever hung up.  Its questions end with it: the next one counts its own,
 * and an answer to an old number would send its client elsewhere.  The doors are for later, since this may be
 * the middle of a change of a compute's state.
 */
static void lose_proxy(struct wake *w)
{
    if (w->fd < 0)
        return;
    loop_fd_del(w->source);
    w->source = NULL;
    fd_close(&w->fd);
    w->hello = false;
    w->connection++; /* what was asked on it is answered on no other */
    buf_clear(&w->in);
    buf_clear(&w->out);
    compute_each(w->s, drop_waiters, NULL);
    loop_timer_set(w->reopen, 0);
}

/* A door that the proxy held shut is open again, so nothing it said of it counts. */
static void reopen(struct compute *c, void *arg)
{
    (void)arg;
    if (c->state == COMPUTE_DRAINING && !c->force)
        compute_event(c, EVENT_BUSY);
}

static void on_reopen(void *arg)
{
    struct wake *w = arg;
    compute_each(w->s, reopen, NULL);
}

static void flush(struct wake *w)
{
    while (w->out.len > 0) {
        ssize_t n = send(w->fd, w->out.data, w->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            lose_proxy(w);
            return;
        }
        if (n < 0)
            break;
        buf_consume(&w->out, (size_t)n);
    }
    loop_fd_set(w->source, w->out.len > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void say(struct sched *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct sched *s, const char *fmt, ...)
{
    struct wake *w = s->wake;
    va_list ap;
    char *line = NULL;
    if (w->fd < 0)
        return;
    va_start(ap, fmt);
    int n = vasprintf(&line, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    buf_add(&w->out, line, (size_t)n);
    free(line);
    if (w->out.len > OUT_MAX_BYTES) {
        log_event(LOG_ERROR, "wake", "mere-proxy does not read; hanging up", NULL);
        lose_proxy(w);
        return;
    }
    flush(w);
}

static void say_ok(struct compute *c, int64_t request)
{
    auto_free char *socket = text_url_encode(c->socket);
    say(c->s, "OK %" PRId64 " %s %" PRId64 " %s %" PRId64 "\n", request, c->id, c->generation, socket,
        c->max_clients);
}

void wake_say_err(struct sched *s, int64_t request, const char *sqlstate, const char *msg, const char *hint)
{
    auto_free char *m = text_url_encode(msg);
    auto_free char *h = text_url_encode(hint && hint[0] ? hint : "-");
    say(s, "ERR %" PRId64 " %s %s %s\n", request, sqlstate, m, hint && hint[0] ? h : "-");
}

void wake_answer(struct compute *c)
{
    while (c->waiters) {
        struct waiter *w = c->waiters;
        c->waiters = w->next;
        say_ok(c, w->request);
        free(w);
    }
}

void wake_refuse(struct compute *c, const char *sqlstate, const char *msg, const char *hint)
{
    while (c->waiters) {
        struct waiter *w = c->waiters;
        c->waiters = w->next;
        wake_say_err(c->s, w->request, sqlstate, msg, hint);
        free(w);
    }
}

void wake_hold(struct compute *c)
{
    say(c->s, "HOLD %s %" PRId64 "\n", c->id, c->generation);
}

void wake_release(struct compute *c)
{
    say(c->s, "RELEASE %s %" PRId64 "\n", c->id, c->generation);
}

void wake_gone(struct compute *c)
{
    say(c->s, "GONE %s %" PRId64 "\n", c->id, c->generation);
}

void wake_drop(struct compute *c)
{
    say(c->s, "DROP %s\n", c->id);
}

/* ---- names ---- */

struct route_error {
    const char *sqlstate, *msg, *hint;
};

static bool is_reachable(const struct branch *b)
{
    return branch_is_seen(b) && !branch_has_expired(b, clock_wall_us());
}

static int find_branch(struct dbc *db, struct arena *a, const char *name, struct branch *ret,
                       struct route_error *why, struct err *err)
{
    struct branch *list;
    size_t n;
    if (id_looks_like_branch(name) && branch_get_id(db, a, name, ret, err) == 0 && is_reachable(ret))
        return 0;
    if (branch_find_name(db, a, name, &list, &n, err) < 0)
        return -1;
    if (n == 1)
        *ret = list[0];
    else
        *why = n == 0
                   ? (struct route_error){ "3D000", arena_printf(a, "there is no branch \"%s\"", name),
                                           "Check the name, or name the endpoint: options=endpoint=ep-..." }
                   : (struct route_error){ "3D000",
                                           arena_printf(a, "%zu projects have a branch \"%s\"", n, name),
                                           "Name the branch by its id (options=branch=br-...) or the "
                                           "endpoint (options=endpoint=ep-...)." };
    return 0;
}

static int find_writer(struct dbc *db, struct arena *a, const struct branch *b, const char *name,
                       struct endpoint *ret, struct route_error *why, struct err *err)
{
    bool found;
    if (endpoint_find_writer(db, a, b->id, ret, &found, err) < 0)
        return -1;
    if (!found)
        *why = (struct route_error){ "55000", arena_printf(a, "branch \"%s\" has no compute endpoint", name),
                                     "Add one: POST /api/v2/projects/{project_id}/endpoints" };
    return 0;
}

static void check_endpoint(struct arena *a, const struct endpoint *e, struct route_error *why)
{
    if (strcmp(e->desired, "deleted") == 0)
        *why = (struct route_error){ "3D000", arena_printf(a, "there is no endpoint \"%s\"", e->id),
                                     "It was deleted." };
    else if (e->disabled)
        *why =
            (struct route_error){ "55000", arena_printf(a, "endpoint \"%s\" is disabled", e->id),
                                  "Enable it: PATCH /api/v2/projects/{project_id}/endpoints/{endpoint_id}" };
}

/* One of a branch that nobody sees is not there. */
static int find_endpoint(struct dbc *db, struct arena *a, const char *id, struct endpoint *ret,
                         struct branch *ret_branch, struct route_error *why, struct err *err)
{
    int rc = endpoint_get_id(db, a, id, ret, err);
    if (rc == 0)
        rc = branch_get_id(db, a, ret->branch_id, ret_branch, err);
    if (rc < 0 && err->code != ERR_NOT_FOUND)
        return -1;
    if (rc < 0 || !is_reachable(ret_branch))
        *why = (struct route_error){ "3D000", arena_printf(a, "there is no endpoint \"%s\"", id),
                                     "Check the endpoint id in the host name, or in options=endpoint=..." };
    else
        check_endpoint(a, ret, why);
    return 0;
}

/* What a client named.  The present of a branch is served by its writer; its past needs no endpoint. */
struct place {
    struct branch branch;
    struct endpoint endpoint;
};

static int resolve(struct sched *s, struct arena *a, const char *kind, const char *name, bool past,
                   struct place *ret, struct route_error *why, struct err *err)
{
    auto_dbc *db = NULL;
    if (db_read(s->env.db, &db, err) < 0)
        return -1;
    if (strcmp(kind, "branch") != 0)
        return find_endpoint(db, a, name, &ret->endpoint, &ret->branch, why, err);
    if (find_branch(db, a, name, &ret->branch, why, err) < 0)
        return -1;
    if (why->msg || past)
        return 0;
    if (find_writer(db, a, &ret->branch, name, &ret->endpoint, why, err) < 0)
        return -1;
    if (!why->msg)
        check_endpoint(a, &ret->endpoint, why);
    return 0;
}

/* ---- in ---- */

void wake_join(struct sched *s, const struct endpoint *e, int64_t request)
{
    struct compute *c = compute_get(s, e);
    if (c->state == COMPUTE_RUNNING) {
        say_ok(c, request);
        return;
    }
    if (c->state == COMPUTE_FAILED) {
        wake_say_err(s, request, supervise_sqlstate(c), "the compute of this endpoint could not be started",
                     c->error);
        return;
    }
    struct waiter *w = xcalloc(1, sizeof(*w)), **tail = &c->waiters;
    w->request = request;
    while (*tail)
        tail = &(*tail)->next;
    *tail = w;
    compute_want(c, true, false);
}

static void on_wake(struct sched *s, int64_t request, const char *kind, const char *name, const char *moment)
{
    auto_arena *a = arena_new(0);
    struct place at;
    struct route_error why = { 0 };
    struct err err = ERR_INIT;
    bool past = strcmp(moment, "-") != 0;
    ops_look(s); /* a branch committed a moment ago may still have work that must come first */
    if (!wake_connected(s))
        return; /* that told the proxy something, and it was not there any more */
    if (resolve(s, a, kind, name, past, &at, &why, &err) < 0) {
        log_event(LOG_ERROR, "wake", "cannot resolve", "error", err.msg, "detail", err.detail, NULL);
        wake_say_err(s, request, "58000", "Mere cannot read its metadata", NULL);
    } else if (why.msg) {
        wake_say_err(s, request, why.sqlstate, why.msg, why.hint);
    } else if (past) {
        wake_moment(s, request, at.branch.id, moment);
    } else {
        wake_join(s, &at.endpoint, request);
    }
}

struct cancelled {
    int64_t request;
};

static void drop_waiter(struct compute *c, void *arg)
{
    const struct cancelled *x = arg;
    for (struct waiter **p = &c->waiters; *p; p = &(*p)->next)
        if ((*p)->request == x->request) {
            struct waiter *w = *p;
            *p = w->next;
            free(w);
            return;
        }
}

static void on_held(struct sched *s, const char *ep, int64_t generation, int64_t active)
{
    struct compute *c = compute_find(s, ep);
    if (c && c->generation == generation)
        supervise_held(c, active);
}

/* What the proxy still has from before we started: a generation that is over is told so. */
static void on_sessions(struct sched *s, const char *ep, int64_t generation)
{
    struct compute *c = compute_find(s, ep);
    bool current =
        c && c->generation == generation && (c->state == COMPUTE_RUNNING || c->state == COMPUTE_DRAINING);
    if (!current)
        say(s, "GONE %s %" PRId64 "\n", ep, generation);
}

static bool numbers_ok(char **word, const int *at, size_t n, int64_t *ret)
{
    for (size_t i = 0; i < n; i++)
        if (!text_to_i64(word[at[i]], 0, INT64_MAX, &ret[i]))
            return false;
    return true;
}

static bool handle(struct wake *w, char **word, size_t n)
{
    struct sched *s = w->s;
    int64_t v[3];
    if (n == 5 && strcmp(word[0], "HELLO") == 0 && numbers_ok(word, (int[]){ 1, 2, 4 }, 3, v)) {
        auto_free char *host = text_url_decode(word[3], strlen(word[3]));
        w->hello = true;
        keeper_hello(s, v[1], host ? host : word[3], (int)v[2]);
        return v[0] == WAKE_PROTOCOL;
    }
    if (!w->hello)
        return false;
    if (n == 6 && strcmp(word[0], "WAKE") == 0 && numbers_ok(word, (int[]){ 1 }, 1, v)) {
        auto_free char *name = text_url_decode(word[3], strlen(word[3]));
        auto_free char *moment = text_url_decode(word[5], strlen(word[5]));
        if (name && moment)
            on_wake(s, v[0], word[2], name, moment);
        return name && moment;
    }
    if (n == 2 && strcmp(word[0], "CANCEL") == 0 && numbers_ok(word, (int[]){ 1 }, 1, v)) {
        struct cancelled x = { v[0] };
        compute_each(s, drop_waiter, &x);
        return true;
    }
    if (n == 4 && strcmp(word[0], "HELD") == 0 && numbers_ok(word, (int[]){ 2, 3 }, 2, v)) {
        on_held(s, word[1], v[0], v[1]);
        return true;
    }
    if (n == 4 && strcmp(word[0], "SESSIONS") == 0 && numbers_ok(word, (int[]){ 2, 3 }, 2, v)) {
        on_sessions(s, word[1], v[0]);
        return true;
    }
    return n == 1 && strcmp(word[0], "SYNCED") == 0;
}

static bool handle_line(struct wake *w, char *line)
{
    char *word[MAX_WORDS + 1], *save = NULL;
    size_t n = 0;
    for (char *p = strtok_r(line, " ", &save); p && n < MAX_WORDS; p = strtok_r(NULL, " ", &save))
        word[n++] = p;
    return n > 0 && handle(w, word, n);
}

static void on_proxy(void *arg, int fd, unsigned events)
{
    struct wake *w = arg;
    char data[65536];
    if (events & LOOP_WRITE)
        flush(w);
    if (w->fd != fd)
        return;
    ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        log_event(LOG_INFO, "wake", "mere-proxy hung up", NULL);
        lose_proxy(w);
        return;
    }
    buf_add(&w->in, data, (size_t)n);
    char *end;
    while (w->fd == fd && w->in.len > 0 && (end = memchr(w->in.data, '\n', w->in.len)) != NULL) {
        size_t len = (size_t)(end - w->in.data);
        auto_free char *line = xmalloc(len + 1);
        memcpy(line, w->in.data, len);
        line[len] = '\0';
        buf_consume(&w->in, len + 1);
        if (!handle_line(w, line)) {
            log_event(LOG_ERROR, "wake", "mere-proxy said what is not in the protocol; hanging up", NULL);
            lose_proxy(w);
        }
    }
    if (w->in.len > LINE_MAX_BYTES)
        lose_proxy(w);
}

static void on_accept(void *arg, int fd, unsigned events)
{
    struct wake *w = arg;
    struct ucred peer;
    socklen_t len = sizeof(peer);
    (void)events;
    auto_fd conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (conn < 0)
        return;
    if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != keeper_uid(w->s)) {
        log_event(LOG_WARN, "wake", "refused a connection that is not from mere-proxy", NULL);
        return;
    }
    lose_proxy(w);
    w->fd = TAKE_FD(conn);
    w->connection++;
    w->source = loop_fd_add(w->s->loop, w->fd, LOOP_READ, on_proxy, w);
}

int wake_start(struct sched *s, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct wake *w = xcalloc(1, sizeof(*w));
    const char *path = wake_socket_path(s, a);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    s->wake = w;
    w->s = s;
    w->reopen = loop_timer_new(s->loop, on_reopen, w);
    w->fd = w->listen_fd = -1;
    if (strlen(path) >= sizeof(addr.sun_path))
        return err_set(err, ERR_INTERNAL, "the socket path %s is too long", path);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    (void)unlink(path); /* ours: the data directory's lock is held */
    w->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (w->listen_fd < 0 || bind(w->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        chmod(path, 0666) < 0 || listen(w->listen_fd, 8) < 0)
        return err_sys(err, "listen on %s", path);
    w->listen_source = loop_fd_add(s->loop, w->listen_fd, LOOP_READ, on_accept, w);
    return 0;
}

void wake_stop(struct sched *s)
{
    auto_arena *a = arena_new(0);
    struct wake *w = s->wake;
    if (!w)
        return;
    lose_proxy(w);
    loop_timer_del(w->reopen);
    loop_fd_del(w->listen_source);
    fd_close(&w->listen_fd);
    (void)unlink(wake_socket_path(s, a));
    buf_fini(&w->in);
    buf_fini(&w->out);
    free(w);
    s->wake = NULL;
}
