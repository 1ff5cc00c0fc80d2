/*
 * wake.c - the unix socket where mere-proxy asks for computes (docs/wake-protocol.md is the contract)
 *
 * One proxy takes new clients, the one whose HELLO came last; those it has taken over from serve the sessions
 * they have.  What is told is told to all of them, and what is asked (HOLD, PARK) is answered when all have
 * answered.
 */
#include "scheduler/internal.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/pass.h"
#include "base/text.h"
#include "pg/pooler.h"
#include "pg/wire.h"

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
#define PEERS_MAX      16 /* more proxies at once than keeper.c lets live */

/* A connection with a proxy.  Its place outlives it, so that whoever is in the middle of it finds it gone. */
struct peer {
    struct wake *wake;
    uint64_t number; /* of the connection, never the same again; 0 = a free place */
    int fd;
    struct loop_fd *source;
    bool hello;
    bool listens; /* it takes new clients */
    int64_t pid;
    bool cert_due; /* it is to go as soon as `out` is empty */
    int retire_fd; /* so is RETIRE with this; -1 = not */
    struct teller *teller;
    struct buf in, out;
};

struct wake {
    struct sched *s;
    int listen_fd;
    struct loop_fd *listen_source;
    struct peer peers[PEERS_MAX];
    uint64_t connections;      /* ever */
    struct loop_timer *reopen; /* after a loss */
};

const char *wake_socket_path(struct sched *s, struct arena *a)
{
    return arena_printf(a, "%s/wake.sock", s->env.run_dir);
}

/* The one that takes new clients, or NULL. */
static struct peer *front(struct wake *w)
{
    for (struct peer *p = w->peers; p < w->peers + PEERS_MAX; p++)
        if (p->hello && p->listens)
            return p;
    return NULL;
}

static struct peer *peer_find(struct wake *w, uint64_t number)
{
    for (struct peer *p = w->peers; p < w->peers + PEERS_MAX; p++)
        if (number != 0 && p->number == number)
            return p;
    return NULL;
}

static int n_there(struct wake *w)
{
    int n = 0;
    for (struct peer *p = w->peers; p < w->peers + PEERS_MAX; p++)
        n += p->hello;
    return n;
}

bool wake_connected(struct sched *s)
{
    return front(s->wake) != NULL;
}

bool wake_complete(struct sched *s)
{
    return wake_connected(s) && n_there(s->wake) == 1 + (int)keeper_retired(s);
}

bool wake_anybody(struct sched *s)
{
    return n_there(s->wake) > 0;
}

bool wake_hears(struct sched *s, uint64_t connection)
{
    return peer_find(s->wake, connection) != NULL;
}

/* ---- out ---- */

struct waiter *waiters_add(struct waiter **list, struct asker who)
{
    struct waiter *w = xcalloc(1, sizeof(*w));
    w->who = who;
    while (*list)
        list = &(*list)->next;
    *list = w;
    return w;
}

bool waiters_take(struct waiter **list, struct asker *ret)
{
    struct waiter *w = *list;
    if (!w)
        return false;
    *ret = w->who;
    *list = w->next;
    free(w);
    return true;
}

void waiters_drop(struct waiter **list, uint64_t connection)
{
    struct asker ignored;
    while (*list)
        if (connection == 0 || (*list)->who.connection == connection)
            waiters_take(list, &ignored);
        else
            list = &(*list)->next;
}

/* What it still waits for, it asks for again. */
static void drop_waiters(struct compute *c, void *connection)
{
    waiters_drop(&c->waiters, *(uint64_t *)connection);
    waiters_drop(&c->lookers, *(uint64_t *)connection);
}

/*
 * The only way to lose a proxy, whoever hung up.  Its questions end with it: the next one counts its own,
 * and an answer to an old number would send its client elsewhere.  The doors are for later, since this may be
 * the middle of a change of a compute's state.
 */
static void lose(struct peer *p)
{
    struct wake *w = p->wake;
    uint64_t number = p->number;
    if (number == 0)
        return;
    loop_fd_del(TAKE(p->source));
    fd_close(&p->fd);
    fd_close(&p->retire_fd);
    p->number = 0;
    p->hello = p->listens = p->cert_due = false;
    buf_fini(&p->in);
    buf_fini(&p->out);
    compute_each(w->s, drop_waiters, &number);
    teller_free(TAKE(p->teller));
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

/* RETIRE and its descriptor; false = it takes nothing now. */
static bool pass_retire(struct peer *p)
{
    static const char LINE[] = "RETIRE\n";
    if (pass_send(p->fd, LINE, strlen(LINE), &p->retire_fd, 1) < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    fd_close(&p->retire_fd);
    p->listens = false; /* unless it says otherwise, in another HELLO */
    return true;
}

/* What carries descriptors goes between two lines, and never inside an entry of the directory. */
static bool flush_passed(struct peer *p)
{
    if (p->cert_due && p->out.len == 0)
        p->cert_due = !certs_pass(p->wake->s, p->fd);
    return !p->cert_due && (p->retire_fd < 0 || (p->out.len == 0 && pass_retire(p)));
}

static void flush(struct peer *p)
{
    while (p->out.len > 0) {
        ssize_t n = send(p->fd, p->out.data, p->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            lose(p);
            return;
        }
        if (n < 0)
            break;
        buf_consume(&p->out, (size_t)n);
    }
    bool all = flush_passed(p) && p->out.len == 0;
    loop_fd_set(p->source, all ? LOOP_READ : LOOP_READ | LOOP_WRITE);
    if (p->out.len == 0 && p->teller)
        teller_more(p->teller);
}

void wake_certificate(struct sched *s)
{
    for (struct peer *p = s->wake->peers; p < s->wake->peers + PEERS_MAX; p++) {
        p->cert_due = p->hello;
        if (p->hello)
            flush(p);
    }
}

void wake_retire(struct sched *s, int64_t pid, int fd)
{
    for (struct peer *p = s->wake->peers; p < s->wake->peers + PEERS_MAX; p++) {
        if (!p->hello || p->pid != pid || p->retire_fd >= 0)
            continue;
        p->retire_fd = fd;
        flush(p);
        return;
    }
    fd_close(&fd);
}

size_t wake_backlog(struct sched *s, uint64_t connection)
{
    struct peer *p = peer_find(s->wake, connection);
    return p ? p->out.len : 0;
}

struct teller *wake_teller(struct sched *s, uint64_t connection)
{
    struct peer *p = peer_find(s->wake, connection);
    return p ? p->teller : NULL;
}

void wake_news(struct sched *s)
{
    for (struct peer *p = s->wake->peers; p < s->wake->peers + PEERS_MAX; p++)
        if (p->teller)
            teller_more(p->teller);
}

int64_t wake_told(struct sched *s)
{
    int64_t told = wake_anybody(s) ? INT64_MAX : 0;
    for (struct peer *p = s->wake->peers; p < s->wake->peers + PEERS_MAX; p++)
        if (p->teller && teller_told(p->teller) < told)
            told = teller_told(p->teller);
    return told;
}

static void send_lines(struct peer *p, const struct buf *lines)
{
    buf_add(&p->out, lines->data, lines->len);
    if (p->out.len > OUT_MAX_BYTES) {
        log_event(LOG_ERROR, "wake", "mere-proxy does not read; hanging up", NULL);
        lose(p);
        return;
    }
    flush(p);
}

void wake_send(struct sched *s, const struct buf *lines)
{
    for (struct peer *p = s->wake->peers; p < s->wake->peers + PEERS_MAX; p++)
        if (p->hello)
            send_lines(p, lines);
}

void wake_send_to(struct sched *s, uint64_t connection, const struct buf *lines)
{
    struct peer *p = peer_find(s->wake, connection);
    if (p)
        send_lines(p, lines);
}

/* To one, or (0) to all. */
static void say(struct sched *s, uint64_t connection, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct sched *s, uint64_t connection, const char *fmt, ...)
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
    if (connection == 0)
        wake_send(s, &line);
    else
        wake_send_to(s, connection, &line);
}

void wake_others(struct sched *s)
{
    say(s, 0, "OTHERS %zu\n", keeper_retired(s)); /* of all there are, less itself */
}

static void say_ok(struct compute *c, struct asker who)
{
    auto_free char *socket = text_url_encode(c->socket);
    auto_free char *pooler = pooler_socket(c) ? text_url_encode(pooler_socket(c)) : xstrdup("-");
    say(c->s, who.connection, "OK %" PRId64 " %s %" PRId64 " %s %" PRId64 " %s\n", who.request, c->id,
        c->generation, socket, c->max_clients, pooler);
}

void wake_say_err(struct sched *s, struct asker who, const char *sqlstate, const char *msg, const char *hint)
{
    auto_free char *m = text_url_encode(msg);
    auto_free char *h = text_url_encode(hint && hint[0] ? hint : "-");
    say(s, who.connection, "ERR %" PRId64 " %s %s %s\n", who.request, sqlstate, m, hint && hint[0] ? h : "-");
}

/* The first one that needs the pooler, or does not. */
static bool take_waiter(struct compute *c, bool pooled, struct asker *ret)
{
    struct waiter **p = &c->waiters;
    while (*p && (*p)->pooled != pooled)
        p = &(*p)->next;
    return waiters_take(p, ret);
}

void wake_answer(struct compute *c)
{
    struct asker who;
    while (take_waiter(c, false, &who))
        say_ok(c, who);
    while (pooler_socket(c) && take_waiter(c, true, &who))
        say_ok(c, who);
    if (c->waiters)
        pooler_start(c);
}

void wake_refuse(struct compute *c, const char *sqlstate, const char *msg, const char *hint)
{
    struct asker who;
    while (waiters_take(&c->waiters, &who))
        wake_say_err(c->s, who, sqlstate, msg, hint);
}

void wake_refuse_pooled(struct compute *c, const char *sqlstate, const char *msg, const char *hint)
{
    struct asker who;
    while (take_waiter(c, true, &who))
        wake_say_err(c->s, who, sqlstate, msg, hint);
}

/* A new question to all proxies, by which the last one is over. */
static int64_t ask(struct compute *c)
{
    c->unanswered = n_there(c->s->wake);
    c->active = 0;
    return ++c->question;
}

/* true: c->active is the answer of all, or one is enough. */
static bool answered(struct compute *c, int64_t question, int64_t active)
{
    if (question != c->question || c->unanswered == 0)
        return false;
    c->active += active;
    c->unanswered = c->active > 0 && !c->force ? 0 : c->unanswered - 1;
    return c->unanswered == 0;
}

void wake_hold(struct compute *c)
{
    int64_t question = ask(c);
    say(c->s, 0, "HOLD %s %" PRId64 " %" PRId64 "\n", c->id, c->generation, question);
}

void wake_park(struct compute *c)
{
    int64_t question = ask(c);
    say(c->s, 0, "PARK %s %" PRId64 " %" PRId64 " %s\n", c->id, c->generation, question,
        c->force ? "all" : "-");
}

void wake_release(struct compute *c)
{
    say(c->s, 0, "RELEASE %s %" PRId64 "\n", c->id, c->generation);
}

void wake_gone(struct compute *c)
{
    say(c->s, 0, "GONE %s %" PRId64 "\n", c->id, c->generation);
}

void wake_drop(struct compute *c)
{
    say(c->s, 0, "DROP %s\n", c->id);
}

/* ---- in ---- */

void wake_join(struct sched *s, const struct endpoint *e, struct asker who, bool pooled)
{
    struct compute *c = compute_get(s, e);
    if (c->state == COMPUTE_RUNNING && (!pooled || pooler_socket(c))) {
        say_ok(c, who);
        return;
    }
    if (c->state == COMPUTE_FAILED) {
        wake_say_err(s, who, supervise_sqlstate(c), "the compute of this endpoint could not be started",
                     c->error);
        return;
    }
    waiters_add(&c->waiters, who)->pooled = pooled;
    if (c->state == COMPUTE_RUNNING)
        pooler_start(c);
    compute_want(c, true, false);
}

static void cannot_resolve(struct sched *s, struct asker who, const struct err *err)
{
    log_event(LOG_ERROR, "wake", "cannot resolve", "error", err->msg, "detail", err->detail, NULL);
    wake_say_err(s, who, "58000", "Mere cannot read its metadata", NULL);
}

/* Nothing is woken for a client that cannot come in. */
static bool refuse_pooled(struct sched *s, struct asker who)
{
    if (pg_pooler_is_there(s->info.pooler))
        return false;
    wake_say_err(s, who, "0A000", "pooled connections need PgBouncer, which is not installed on the server",
                 "Install the package " PG_POOLER_PACKAGE
                 " there, or leave \"-pooler\" out and connect directly.");
    return true;
}

static void on_wake(struct sched *s, struct asker who, const char *kind, const char *name, const char *moment,
                    bool pooled)
{
    auto_arena *a = arena_new(0);
    struct wake_place at;
    struct wake_error why = { 0 };
    struct err err = ERR_INIT;
    bool past = strcmp(moment, "-") != 0;
    ops_look(s); /* a branch committed a moment ago may still have work that must come first */
    if (!wake_hears(s, who.connection))
        return; /* that told the proxy something, and it was not there any more */
    if (wake_resolve(s, a, kind, name, past, &at, &why, &err) < 0)
        cannot_resolve(s, who, &err);
    else if (why.msg)
        wake_say_err(s, who, why.sqlstate, why.msg, why.hint);
    else if (past)
        wake_moment(s, who, at.branch.id, moment);
    else if (!pooled || !refuse_pooled(s, who))
        wake_join(s, &at.endpoint, who, pooled);
}

static void on_find(struct sched *s, struct asker who, const char *name)
{
    auto_arena *a = arena_new(0);
    auto_buf lines = { 0 };
    struct wake_found found;
    struct wake_error why = { 0 };
    struct err err = ERR_INIT;
    if (wake_find(s, a, name, &found, &why, &err) < 0) {
        cannot_resolve(s, who, &err);
    } else if (why.msg) {
        wake_say_err(s, who, why.sqlstate, why.msg, why.hint);
    } else {
        buf_addf(&lines, "FOUND %" PRId64, who.request);
        teller_write(s, a, &found.listed, found.roles, found.n_roles, &lines);
        wake_send_to(s, who.connection, &lines);
    }
}

static void drop_waiter(struct compute *c, void *arg)
{
    const struct asker *x = arg;
    for (struct waiter **p = &c->waiters; *p; p = &(*p)->next)
        if ((*p)->who.connection == x->connection && (*p)->who.request == x->request) {
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
static void on_sessions(struct peer *p, const char *ep, int64_t generation)
{
    struct sched *s = p->wake->s;
    struct compute *c = compute_find(s, ep);
    bool serves =
        c && c->generation == generation && (c->state == COMPUTE_RUNNING || c->state == COMPUTE_DRAINING);
    if (!serves)
        say(s, p->number, "GONE %s %" PRId64 "\n", ep, generation);
}

static bool numbers_ok(char **word, const int *at, int64_t *ret)
{
    for (size_t i = 0; at[i] != 0; i++)
        if (!text_to_i64(word[at[i]], 0, INT64_MAX, &ret[i]))
            return false;
    return true;
}

/* Whoever took new clients before is gone, or hangs. */
static void take_over(struct peer *p)
{
    for (struct peer *q = p->wake->peers; q < p->wake->peers + PEERS_MAX; q++)
        if (q != p && q->hello && q->listens)
            lose(q);
}

static bool on_hello_line(struct peer *p, char **word, const int64_t *v)
{
    struct sched *s = p->wake->s;
    auto_free char *host = text_url_decode(word[3], strlen(word[3]));
    if (p->hello)
        return false;
    if (v[0] != WAKE_PROTOCOL) {
        keeper_stranger(s, v[1]);
        return false;
    }
    p->hello = true;
    p->pid = v[1];
    p->listens = v[2] != 0;
    if (p->listens)
        take_over(p);
    keeper_hello(s, v[1], host ? host : word[3], (int)v[2]);
    wake_others(s);
    if (p->hello) {
        p->teller = teller_new(s, p->number);
        p->cert_due = true;
        flush(p);
    }
    return true;
}

static bool on_wake_line(struct peer *p, char **word, const int64_t *v)
{
    auto_free char *name = text_url_decode(word[3], strlen(word[3]));
    auto_free char *moment = text_url_decode(word[5], strlen(word[5]));
    bool pooled = strcmp(word[6], "pooled") == 0;
    if (!name || !moment || (!pooled && strcmp(word[6], "-") != 0))
        return false;
    on_wake(p->wake->s, (struct asker){ p->number, v[0] }, word[2], name, moment, pooled);
    return true;
}

static bool on_find_line(struct peer *p, char **word, const int64_t *v)
{
    auto_free char *name = text_url_decode(word[2], strlen(word[2]));
    if (name)
        on_find(p->wake->s, (struct asker){ p->number, v[0] }, name);
    return name != NULL;
}

static bool on_look_line(struct peer *p, char **word, const int64_t *v)
{
    teller_look(p->wake->s, (struct asker){ p->number, v[0] }, word[2]);
    return true;
}

static bool on_cancel_line(struct peer *p, char **word UNUSED, const int64_t *v)
{
    struct asker x = { p->number, v[0] };
    compute_each(p->wake->s, drop_waiter, &x);
    return true;
}

static bool on_held_line(struct peer *p, char **word, const int64_t *v)
{
    struct compute *c = current(p->wake->s, word[1], v[0]);
    if (c && answered(c, v[1], v[2]))
        supervise_held(c, c->active);
    return true;
}

static bool on_parked_line(struct peer *p, char **word, const int64_t *v)
{
    struct compute *c = current(p->wake->s, word[1], v[0]);
    if (c && answered(c, v[1], v[2]))
        supervise_parked(c, c->active);
    return true;
}

static bool on_sessions_line(struct peer *p, char **word, const int64_t *v)
{
    on_sessions(p, word[1], v[0]);
    return true;
}

/* The key of a CancelRequest that the proxy does not know: one of the others may. */
static bool on_stray_line(struct peer *p, char **word, const int64_t *v UNUSED)
{
    struct wake *w = p->wake;
    uint64_t from = p->number;
    if (strspn(word[1], "0123456789abcdef") != 2 * WIRE_KEY_SIZE || word[1][2 * WIRE_KEY_SIZE] != '\0')
        return false;
    for (struct peer *q = w->peers; q < w->peers + PEERS_MAX; q++)
        if (q->hello && q->number != from)
            say(w->s, q->number, "STRAY %s\n", word[1]);
    return true;
}

static bool on_synced_line(struct peer *p UNUSED, char **word UNUSED, const int64_t *v UNUSED)
{
    return true;
}

static const struct verb {
    const char *word;
    size_t n_words;
    int numbers[4]; /* which words are numbers */
    bool (*act)(struct peer *p, char **word, const int64_t *v);
} VERBS[] = {
    { "HELLO", 5, { 1, 2, 4 }, on_hello_line },   { "SESSIONS", 4, { 2, 3 }, on_sessions_line },
    { "SYNCED", 1, { 0 }, on_synced_line },       { "LOOK", 3, { 1 }, on_look_line },
    { "FIND", 3, { 1 }, on_find_line },           { "WAKE", 7, { 1 }, on_wake_line },
    { "CANCEL", 2, { 1 }, on_cancel_line },       { "HELD", 5, { 2, 3, 4 }, on_held_line },
    { "PARKED", 5, { 2, 3, 4 }, on_parked_line }, { "STRAY", 2, { 0 }, on_stray_line },
};

/* HELLO comes first. */
static bool handle(struct peer *p, char **word, size_t n)
{
    int64_t v[3];
    for (const struct verb *verb = VERBS; verb < VERBS + N_ELEMENTS(VERBS); verb++)
        if (n == verb->n_words && strcmp(word[0], verb->word) == 0)
            return (p->hello || verb->act == on_hello_line) && numbers_ok(word, verb->numbers, v) &&
                   verb->act(p, word, v);
    return false;
}

static bool handle_line(struct peer *p, char *line)
{
    char *word[MAX_WORDS + 1], *save = NULL;
    size_t n = 0;
    for (char *x = strtok_r(line, " ", &save); x && n < MAX_WORDS; x = strtok_r(NULL, " ", &save))
        word[n++] = x;
    return n > 0 && handle(p, word, n);
}

static void take_lines(struct peer *p)
{
    uint64_t number = p->number;
    char *end;
    while (p->number == number && p->in.len > 0 && (end = memchr(p->in.data, '\n', p->in.len)) != NULL) {
        size_t len = (size_t)(end - p->in.data);
        auto_free char *line = xmalloc(len + 1);
        memcpy(line, p->in.data, len);
        line[len] = '\0';
        buf_consume(&p->in, len + 1);
        if (!handle_line(p, line) && p->number == number) {
            log_event(LOG_ERROR, "wake", "mere-proxy said what is not in the protocol; hanging up", NULL);
            lose(p);
        }
    }
    if (p->number == number && p->in.len > LINE_MAX_BYTES)
        lose(p);
}

static void on_proxy(void *arg, int fd, unsigned events)
{
    struct peer *p = arg;
    char data[65536];
    uint64_t number = p->number;
    if (events & LOOP_WRITE)
        flush(p);
    if (p->number != number)
        return;
    ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        log_event(LOG_INFO, "wake", "mere-proxy hung up", NULL);
        lose(p);
        return;
    }
    buf_add(&p->in, data, (size_t)n);
    take_lines(p);
}

static struct peer *free_place(struct wake *w)
{
    for (struct peer *p = w->peers; p < w->peers + PEERS_MAX; p++)
        if (p->number == 0)
            return p;
    return NULL;
}

static void on_accept(void *arg, int fd, unsigned events)
{
    struct wake *w = arg;
    struct ucred from;
    socklen_t len = sizeof(from);
    struct peer *p = free_place(w);
    (void)events;
    auto_fd conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (conn < 0)
        return;
    if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &from, &len) < 0 || from.uid != keeper_uid(w->s)) {
        log_event(LOG_WARN, "wake", "refused a connection that is not from mere-proxy", NULL);
        return;
    }
    if (!p) {
        log_event(LOG_ERROR, "wake", "refused a connection of mere-proxy: there are too many", NULL);
        return;
    }
    p->fd = TAKE_FD(conn);
    p->number = ++w->connections;
    p->source = loop_fd_add(w->s->loop, p->fd, LOOP_READ, on_proxy, p);
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
    w->listen_fd = -1;
    for (struct peer *p = w->peers; p < w->peers + PEERS_MAX; p++)
        *p = (struct peer){ .wake = w, .fd = -1, .retire_fd = -1 };
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
    for (struct peer *p = w->peers; p < w->peers + PEERS_MAX; p++)
        lose(p);
    loop_timer_del(w->reopen);
    loop_fd_del(w->listen_source);
    fd_close(&w->listen_fd);
    (void)unlink(wake_socket_path(s, a));
    free(w);
    s->wake = NULL;
}
