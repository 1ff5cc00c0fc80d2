/*
 * wake.c - the unix socket where mere-proxy asks for computes (docs/wake-protocol.md is the contract)
 *
 * One proxy at a time; the newest HELLO wins.
 */
#include "scheduler/internal.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "pg/pooler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define OUT_MAX_BYTES  (4 << 20) /* room for the longest entry of the directory, and a lot beside it */
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
    bool cert_due; /* it is to go as soon as `out` is empty */
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

struct waiter *waiters_add(struct waiter **list, int64_t request)
{
    struct waiter *w = xcalloc(1, sizeof(*w));
    w->request = request;
    while (*list)
        list = &(*list)->next;
    *list = w;
    return w;
}

bool waiters_take(struct waiter **list, int64_t *ret_request)
{
    struct waiter *w = *list;
    if (!w)
        return false;
    *ret_request = w->request;
    *list = w->next;
    free(w);
    return true;
}

void waiters_drop(struct waiter **list)
{
    int64_t request;
    while (waiters_take(list, &request))
        ;
}

/* What it still waits for, it asks for again. */
static void drop_waiters(struct compute *c, void *arg)
{
    (void)arg;
    waiters_drop(&c->waiters);
    waiters_drop(&c->lookers);
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
    w->hello = w->cert_due = false;
    w->connection++; /* what was asked on it is answered on no other */
    buf_clear(&w->in);
    buf_clear(&w->out);
    compute_each(w->s, drop_waiters, NULL);
    teller_end(w->s);
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
    if (w->cert_due && w->out.len == 0) /* between two lines, and never inside an entry of the directory */
        w->cert_due = !certs_pass(w->s, w->fd);
    loop_fd_set(w->source, w->out.len > 0 || w->cert_due ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    if (w->out.len == 0)
        teller_more(w->s);
}

void wake_certificate(struct sched *s)
{
    s->wake->cert_due = wake_connected(s);
    if (s->wake->cert_due)
        flush(s->wake);
}

size_t wake_backlog(struct sched *s)
{
    return s->wake->out.len;
}

void wake_send(struct sched *s, const struct buf *lines)
{
    struct wake *w = s->wake;
    if (w->fd < 0)
        return;
    buf_add(&w->out, lines->data, lines->len);
    if (w->out.len > OUT_MAX_BYTES) {
        log_event(LOG_ERROR, "wake", "mere-proxy does not read; hanging up", NULL);
        lose_proxy(w);
        return;
    }
    flush(w);
}

static void say(struct sched *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct sched *s, const char *fmt, ...)
{
    va_list ap;
    auto_buf line = { 0 };
    char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    buf_adds(&line, text);
    free(text);
    wake_send(s, &line);
}

static void say_ok(struct compute *c, int64_t request)
{
    auto_free char *socket = text_url_encode(c->socket);
    auto_free char *pooler = pooler_socket(c) ? text_url_encode(pooler_socket(c)) : xstrdup("-");
    say(c->s, "OK %" PRId64 " %s %" PRId64 " %s %" PRId64 " %s\n", request, c->id, c->generation, socket,
        c->max_clients, pooler);
}

void wake_say_err(struct sched *s, int64_t request, const char *sqlstate, const char *msg, const char *hint)
{
    auto_free char *m = text_url_encode(msg);
    auto_free char *h = text_url_encode(hint && hint[0] ? hint : "-");
    say(s, "ERR %" PRId64 " %s %s %s\n", request, sqlstate, m, hint && hint[0] ? h : "-");
}

/* The first one that needs the pooler, or does not. */
static bool take_waiter(struct compute *c, bool pooled, int64_t *ret_request)
{
    struct waiter **p = &c->waiters;
    while (*p && (*p)->pooled != pooled)
        p = &(*p)->next;
    return waiters_take(p, ret_request);
}

void wake_answer(struct compute *c)
{
    int64_t request;
    while (take_waiter(c, false, &request))
        say_ok(c, request);
    while (pooler_socket(c) && take_waiter(c, true, &request))
        say_ok(c, request);
    if (c->waiters)
        pooler_start(c);
}

void wake_refuse(struct compute *c, const char *sqlstate, const char *msg, const char *hint)
{
    int64_t request;
    while (waiters_take(&c->waiters, &request))
        wake_say_err(c->s, request, sqlstate, msg, hint);
}

void wake_refuse_pooled(struct compute *c, const char *sqlstate, const char *msg, const char *hint)
{
    int64_t request;
    while (take_waiter(c, true, &request))
        wake_say_err(c->s, request, sqlstate, msg, hint);
}

void wake_hold(struct compute *c)
{
    say(c->s, "HOLD %s %" PRId64 "\n", c->id, c->generation);
}

void wake_park(struct compute *c)
{
    say(c->s, "PARK %s %" PRId64 " %s\n", c->id, c->generation, c->force ? "all" : "-");
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

/* ---- in ---- */

void wake_join(struct sched *s, const struct endpoint *e, int64_t request, bool pooled)
{
    struct compute *c = compute_get(s, e);
    if (c->state == COMPUTE_RUNNING && (!pooled || pooler_socket(c))) {
        say_ok(c, request);
        return;
    }
    if (c->state == COMPUTE_FAILED) {
        wake_say_err(s, request, supervise_sqlstate(c), "the compute of this endpoint could not be started",
                     c->error);
        return;
    }
    waiters_add(&c->waiters, request)->pooled = pooled;
    if (c->state == COMPUTE_RUNNING)
        pooler_start(c);
    compute_want(c, true, false);
}

static void cannot_resolve(struct sched *s, int64_t request, const struct err *err)
{
    log_event(LOG_ERROR, "wake", "cannot resolve", "error", err->msg, "detail", err->detail, NULL);
    wake_say_err(s, request, "58000", "Mere cannot read its metadata", NULL);
}

/* Nothing is woken for a client that cannot come in. */
static bool refuse_pooled(struct sched *s, int64_t request)
{
    if (pg_pooler_is_there(s->info.pooler))
        return false;
    wake_say_err(
        s, request, "0A000", "pooled connections need PgBouncer, which is not installed on the server",
        "Install the package " PG_POOLER_PACKAGE " there, or leave \"-pooler\" out and connect directly.");
    return true;
}

static void on_wake(struct sched *s, int64_t request, const char *kind, const char *name, const char *moment,
                    bool pooled)
{
    auto_arena *a = arena_new(0);
    struct wake_place at;
    struct wake_error why = { 0 };
    struct err err = ERR_INIT;
    bool past = strcmp(moment, "-") != 0;
    ops_look(s); /* a branch committed a moment ago may still have work that must come first */
    if (!wake_connected(s))
        return; /* that told the proxy something, and it was not there any more */
    if (wake_resolve(s, a, kind, name, past, &at, &why, &err) < 0)
        cannot_resolve(s, request, &err);
    else if (why.msg)
        wake_say_err(s, request, why.sqlstate, why.msg, why.hint);
    else if (past)
        wake_moment(s, request, at.branch.id, moment);
    else if (!pooled || !refuse_pooled(s, request))
        wake_join(s, &at.endpoint, request, pooled);
}

static void on_find(struct sched *s, int64_t request, const char *name)
{
    auto_arena *a = arena_new(0);
    auto_buf lines = { 0 };
    struct wake_found found;
    struct wake_error why = { 0 };
    struct err err = ERR_INIT;
    if (wake_find(s, a, name, &found, &why, &err) < 0) {
        cannot_resolve(s, request, &err);
    } else if (why.msg) {
        wake_say_err(s, request, why.sqlstate, why.msg, why.hint);
    } else {
        buf_addf(&lines, "FOUND %" PRId64, request);
        teller_write(s, a, &found.listed, found.roles, found.n_roles, &lines);
        wake_send(s, &lines);
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

static struct compute *current(struct sched *s, const char *ep, int64_t generation)
{
    struct compute *c = compute_find(s, ep);
    return c && c->generation == generation ? c : NULL;
}

/* What the proxy still has from before we started: a generation that is over is told so. */
static void on_sessions(struct sched *s, const char *ep, int64_t generation)
{
    struct compute *c = compute_find(s, ep);
    bool serves =
        c && c->generation == generation && (c->state == COMPUTE_RUNNING || c->state == COMPUTE_DRAINING);
    if (!serves)
        say(s, "GONE %s %" PRId64 "\n", ep, generation);
}

static bool numbers_ok(char **word, const int *at, int64_t *ret)
{
    for (size_t i = 0; at[i] != 0; i++)
        if (!text_to_i64(word[at[i]], 0, INT64_MAX, &ret[i]))
            return false;
    return true;
}

static bool on_hello_line(struct wake *w, char **word, const int64_t *v)
{
    auto_free char *host = text_url_decode(word[3], strlen(word[3]));
    if (w->hello)
        return false;
    w->hello = true;
    keeper_hello(w->s, v[1], host ? host : word[3], (int)v[2]);
    if (v[0] != WAKE_PROTOCOL)
        return false;
    teller_begin(w->s);
    wake_certificate(w->s);
    return true;
}

static bool on_wake_line(struct wake *w, char **word, const int64_t *v)
{
    auto_free char *name = text_url_decode(word[3], strlen(word[3]));
    auto_free char *moment = text_url_decode(word[5], strlen(word[5]));
    bool pooled = strcmp(word[6], "pooled") == 0;
    if (!name || !moment || (!pooled && strcmp(word[6], "-") != 0))
        return false;
    on_wake(w->s, v[0], word[2], name, moment, pooled);
    return true;
}

static bool on_find_line(struct wake *w, char **word, const int64_t *v)
{
    auto_free char *name = text_url_decode(word[2], strlen(word[2]));
    if (name)
        on_find(w->s, v[0], name);
    return name != NULL;
}

static bool on_look_line(struct wake *w, char **word, const int64_t *v)
{
    teller_look(w->s, v[0], word[2]);
    return true;
}

static bool on_cancel_line(struct wake *w, char **word UNUSED, const int64_t *v)
{
    struct cancelled x = { v[0] };
    compute_each(w->s, drop_waiter, &x);
    return true;
}

static bool on_held_line(struct wake *w, char **word, const int64_t *v)
{
    struct compute *c = current(w->s, word[1], v[0]);
    if (c)
        supervise_held(c, v[1]);
    return true;
}

static bool on_parked_line(struct wake *w, char **word, const int64_t *v)
{
    struct compute *c = current(w->s, word[1], v[0]);
    if (c)
        supervise_parked(c, v[1]);
    return true;
}

static bool on_sessions_line(struct wake *w, char **word, const int64_t *v)
{
    on_sessions(w->s, word[1], v[0]);
    return true;
}

static bool on_synced_line(struct wake *w UNUSED, char **word UNUSED, const int64_t *v UNUSED)
{
    return true;
}

static const struct verb {
    const char *word;
    size_t n_words;
    int numbers[4]; /* which words are numbers */
    bool (*act)(struct wake *w, char **word, const int64_t *v);
} VERBS[] = {
    { "HELLO", 5, { 1, 2, 4 }, on_hello_line }, { "SESSIONS", 4, { 2, 3 }, on_sessions_line },
    { "SYNCED", 1, { 0 }, on_synced_line },     { "LOOK", 3, { 1 }, on_look_line },
    { "FIND", 3, { 1 }, on_find_line },         { "WAKE", 7, { 1 }, on_wake_line },
    { "CANCEL", 2, { 1 }, on_cancel_line },     { "HELD", 4, { 2, 3 }, on_held_line },
    { "PARKED", 4, { 2, 3 }, on_parked_line },
};

/* HELLO comes first. */
static bool handle(struct wake *w, char **word, size_t n)
{
    int64_t v[3];
    for (const struct verb *verb = VERBS; verb < VERBS + N_ELEMENTS(VERBS); verb++)
        if (n == verb->n_words && strcmp(word[0], verb->word) == 0)
            return (w->hello || verb->act == on_hello_line) && numbers_ok(word, verb->numbers, v) &&
                   verb->act(w, word, v);
    return false;
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
    teller_start(s);
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
    teller_stop(s);
    loop_timer_del(w->reopen);
    loop_fd_del(w->listen_source);
    fd_close(&w->listen_fd);
    (void)unlink(wake_socket_path(s, a));
    buf_fini(&w->in);
    buf_fini(&w->out);
    free(w);
    s->wake = NULL;
}
