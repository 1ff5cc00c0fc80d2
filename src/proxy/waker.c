/*
 * waker.c - lines to and from mered
 *
 * Owns the connection and the open questions.  What mered sends is trusted in meaning, not in form: a line
 * that cannot be read is logged and skipped, one that does not end costs the connection.
 */
#include "proxy/waker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crypt.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"
#include "proxy/stream.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define WORDS_MAX      8
#define SEATS_MAX      100000

struct waker_ask {
    struct list link; /* of all */
    struct waker *waker;
    uint64_t r;
    char *kind, *name, *db, *moment;
    struct list guests;
};

struct waker {
    struct loop *loop;
    const char *path;
    char *host; /* encoded */
    int port;
    const struct waker_ops *ops;
    void *arg;
    struct stream stream; /* fd -1 = not connected */
    struct buf in;
    struct loop_timer *retry;
    int64_t backoff_ms;
    uint64_t last_r;
    struct list asks;
};

/* --- out
 * ----------------------------------------------------------------------------------------------------------
 */

/* As a word of a line; "-" alone would mean "absent". */
static char *encode(const char *s)
{
    if (s[0] == '\0')
        return xstrdup("-");
    return strcmp(s, "-") == 0 ? xstrdup("%2D") : text_url_encode(s);
}

static void disconnect(struct waker *w, const char *why);

static void say(struct waker *w, const char *line)
{
    if (w->stream.fd < 0)
        return;
    if (stream_send(&w->stream, line, strlen(line)) == 0)
        stream_watch(&w->stream, LOOP_READ);
    else
        loop_timer_set(w->retry, 0); /* not at once: this is the middle of somebody else's call */
}

static void say_wake(struct waker *w, const struct waker_ask *ask)
{
    auto_free char *name = encode(ask->name), *db = encode(ask->db), *moment = encode(ask->moment);
    auto_free char *line = xasprintf("WAKE %" PRIu64 " %s %s %s %s\n", ask->r, ask->kind, name, db, moment);

    say(w, line);
}

void waker_sessions(struct waker *w, const char *ep, uint64_t g, int n)
{
    auto_free char *line = xasprintf("SESSIONS %s %" PRIu64 " %d\n", ep, g, n);

    say(w, line);
}

static void say_held(struct waker *w, const char *ep, uint64_t g, int active)
{
    auto_free char *line = xasprintf("HELD %s %" PRIu64 " %d\n", ep, g, active);

    say(w, line);
}

static void greet(struct waker *w)
{
    auto_free char *hello = xasprintf("HELLO 2 %d %s %d\n", (int)getpid(), w->host, w->port);

    say(w, hello);
    w->ops->sessions(w->arg);
    say(w, "SYNCED\n");
    for (struct list *l = w->asks.next; l != &w->asks; l = l->next)
        say_wake(w, LIST_OWNER(l, struct waker_ask, link));
}

/* --- questions
 * ---------------------------------------------------------------------------------------------------- */

static void ask_free(struct waker_ask *ask)
{
    list_remove(&ask->link);
    free(ask->kind);
    free(ask->name);
    free(ask->db);
    free(ask->moment);
    free(ask);
}

static struct waker_ask *ask_find(struct waker *w, const char *kind, const char *name, const char *db,
                                  const char *moment)
{
    for (struct list *l = w->asks.next; l != &w->asks; l = l->next) {
        struct waker_ask *ask = LIST_OWNER(l, struct waker_ask, link);

        if (strcmp(ask->kind, kind) == 0 && strcmp(ask->name, name) == 0 && strcmp(ask->db, db) == 0 &&
            strcmp(ask->moment, moment) == 0)
            return ask;
    }
    return NULL;
}

void waker_ask(struct waker *w, struct waker_guest *guest, const char *kind, const char *name, const char *db,
               const char *moment)
{
    struct waker_ask *ask = ask_find(w, kind, name, db, moment);

    if (ask == NULL) {
        ask = xcalloc(1, sizeof(*ask));
        *ask = (struct waker_ask){ .waker = w,
                                   .r = ++w->last_r,
                                   .kind = xstrdup(kind),
                                   .name = xstrdup(name),
                                   .db = xstrdup(db),
                                   .moment = xstrdup(moment) };
        list_init(&ask->guests);
        list_push_back(&w->asks, &ask->link);
        say_wake(w, ask);
    }
    guest->ask = ask;
    list_push_back(&ask->guests, &guest->link);
}

void waker_leave(struct waker_guest *guest)
{
    struct waker_ask *ask = guest->ask;
    auto_free char *line = NULL;

    list_remove(&guest->link); /* also from the list of those who are being answered */
    guest->ask = NULL;
    if (ask == NULL)
        return;
    if (!list_is_empty(&ask->guests))
        return;
    line = xasprintf("CANCEL %" PRIu64 "\n", ask->r);
    say(ask->waker, line);
    ask_free(ask);
}

/* Everybody who asked r is told.  The question is closed first: guests may ask the next one from inside. */
static void answer(struct waker *w, uint64_t r, const char *ep, const struct wire_error *error)
{
    struct waker_ask *ask = NULL;
    struct list guests;

    for (struct list *l = w->asks.next; l != &w->asks && ask == NULL; l = l->next)
        if (LIST_OWNER(l, struct waker_ask, link)->r == r)
            ask = LIST_OWNER(l, struct waker_ask, link);
    if (ask == NULL)
        return; /* cancelled */
    list_init(&guests);
    list_take_all(&guests, &ask->guests);
    for (struct list *l = guests.next; l != &guests; l = l->next)
        LIST_OWNER(l, struct waker_guest, link)->ask = NULL;
    ask_free(ask);
    while (!list_is_empty(&guests)) {
        struct waker_guest *guest = LIST_OWNER(guests.next, struct waker_guest, link);

        list_remove(&guest->link);
        w->ops->answer(guest, ep, error);
    }
}

/* --- in
 * -----------------------------------------------------------------------------------------------------------
 */

struct line {
    char *words[WORDS_MAX];
    size_t n;
};

static bool word_u64(const char *word, uint64_t *ret)
{
    int64_t v;

    if (!text_to_i64(word, 0, INT64_MAX, &v))
        return false;
    *ret = (uint64_t)v;
    return true;
}

static bool word_endpoint(const char *word)
{
    return id_is_valid(word);
}

/* OK R EP G SOCKET MAX */
static bool line_ok(struct waker *w, const struct line *l)
{
    auto_free char *socket = text_url_decode(l->words[4], strlen(l->words[4]));
    uint64_t r, g;
    int64_t max;

    if (!word_u64(l->words[1], &r) || !word_endpoint(l->words[2]) || !word_u64(l->words[3], &g) ||
        socket == NULL || !text_to_i64(l->words[5], 1, SEATS_MAX, &max))
        return false;
    w->ops->learn(w->arg, l->words[2], g, socket, (int)max);
    answer(w, r, l->words[2], NULL);
    return true;
}

/* ERR R SQLSTATE MESSAGE HINT */
static bool line_err(struct waker *w, const struct line *l)
{
    auto_free char *message = text_url_decode(l->words[3], strlen(l->words[3]));
    auto_free char *hint = text_url_decode(l->words[4], strlen(l->words[4]));
    struct wire_error error;
    uint64_t r;

    if (!word_u64(l->words[1], &r) || strlen(l->words[2]) != WIRE_SQLSTATE_LEN || message == NULL ||
        hint == NULL)
        return false;
    wire_error_set(&error, l->words[2], strcmp(l->words[4], "-") != 0 ? hint : NULL, "%s", message);
    answer(w, r, NULL, &error);
    return true;
}

static bool line_hold(struct waker *w, const struct line *l)
{
    uint64_t g;
    int active;

    if (!word_endpoint(l->words[1]) || !word_u64(l->words[2], &g))
        return false;
    active = w->ops->hold(w->arg, l->words[1], g);
    if (active >= 0)
        say_held(w, l->words[1], g, active);
    return true;
}

static bool line_release(struct waker *w, const struct line *l)
{
    uint64_t g;

    if (!word_endpoint(l->words[1]) || !word_u64(l->words[2], &g))
        return false;
    w->ops->release(w->arg, l->words[1], g);
    return true;
}

static bool line_gone(struct waker *w, const struct line *l)
{
    uint64_t g;

    if (!word_endpoint(l->words[1]) || !word_u64(l->words[2], &g))
        return false;
    w->ops->gone(w->arg, l->words[1], g);
    return true;
}

static bool line_drop(struct waker *w, const struct line *l)
{
    if (!word_endpoint(l->words[1]))
        return false;
    w->ops->gone(w->arg, l->words[1], UINT64_MAX);
    return true;
}

static const struct {
    const char *word;
    size_t n; /* words in all */
    bool (*fn)(struct waker *w, const struct line *l);
} LINES[] = {
    { "OK", 6, line_ok },     { "ERR", 5, line_err },         { "HOLD", 3, line_hold },
    { "GONE", 3, line_gone }, { "RELEASE", 3, line_release }, { "DROP", 2, line_drop },
};

/* Cuts text at single blanks, in place. */
static void split(char *text, struct line *ret)
{
    char *save = text;

    ret->n = 0;
    while (save != NULL && ret->n < WORDS_MAX)
        ret->words[ret->n++] = strsep(&save, " ");
    if (save != NULL)
        ret->n = 0;
}

static void take_line(struct waker *w, char *text)
{
    struct line line;

    split(text, &line);
    for (size_t i = 0; line.n > 0 && i < N_ELEMENTS(LINES); i++) {
        if (strcmp(LINES[i].word, line.words[0]) != 0)
            continue;
        if (line.n == LINES[i].n && LINES[i].fn(w, &line))
            return;
        break;
    }
    log_event(LOG_WARN, "waker", "cannot read a line from mered; skipped", "word",
              line.n > 0 ? line.words[0] : NULL, NULL);
}

/* The whole lines in w->in.  A callback never ends the connection, so w->in stays ours throughout. */
static void take_lines(struct waker *w)
{
    size_t done = 0;
    char *end;

    while ((end = memchr(w->in.data + done, '\n', w->in.len - done)) != NULL) {
        *end = '\0';
        take_line(w, w->in.data + done);
        done = (size_t)(end - w->in.data) + 1;
    }
    buf_consume(&w->in, done);
    if (w->in.len == 0)
        buf_fini(&w->in);
    if (w->in.len >= WAKER_LINE_MAX)
        disconnect(w, "mered sent a line without end");
}

/* --- the connection
 * ------------------------------------------------------------------------------------------------- */

static void disconnect(struct waker *w, const char *why)
{
    log_event(LOG_WARN, "waker", "the wake socket is lost; sessions go on", "reason", why, NULL);
    stream_close(&w->stream);
    buf_fini(&w->in);
    w->backoff_ms = BACKOFF_MIN_MS;
    loop_timer_set(w->retry, w->backoff_ms);
    w->ops->lost(w->arg);
}

static void on_wake_socket(void *arg, int fd, unsigned events)
{
    struct waker *w = arg;
    char chunk[WAKER_LINE_MAX];
    ssize_t n;

    (void)fd;
    if ((events & LOOP_WRITE) && stream_flush(&w->stream) < 0) {
        disconnect(w, "cannot write");
        return;
    }
    n = stream_read(&w->stream, chunk, sizeof(chunk));
    if (n == STREAM_END || n == STREAM_FAILED) {
        disconnect(w, "mered closed it");
        return;
    }
    if (n > 0) {
        buf_add(&w->in, chunk, (size_t)n);
        take_lines(w);
    }
    stream_watch(&w->stream, LOOP_READ);
}

/* The retry timer. */
static void try_connect(void *arg)
{
    struct waker *w = arg;
    int fd;

    if (w->stream.fd >= 0) {
        disconnect(w, "cannot write");
        return;
    }
    fd = stream_dial(w->path);
    if (fd >= 0 && stream_open(&w->stream, w->loop, fd, LOOP_READ, on_wake_socket, w) == 0) {
        log_event(LOG_INFO, "waker", "connected to mered", NULL);
        greet(w);
        return;
    }
    fd_close(&fd);
    loop_timer_set(w->retry, w->backoff_ms);
    w->backoff_ms = w->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : w->backoff_ms * 2;
}

struct waker *waker_new(struct loop *l, const char *path, const char *host, int port,
                        const struct waker_ops *ops, void *arg)
{
    struct waker *w = xcalloc(1, sizeof(*w));

    *w = (struct waker){ .loop = l,
                         .path = path,
                         .host = encode(host),
                         .port = port,
                         .ops = ops,
                         .arg = arg,
                         .stream = { .fd = -1 } };
    list_init(&w->asks);
    /* anywhere in the lower half of what a number may be: an answer to an earlier proxy fits none of ours */
    crypt_random(&w->last_r, sizeof(w->last_r));
    w->last_r >>= 2;
    w->backoff_ms = BACKOFF_MIN_MS;
    w->retry = loop_timer_new(l, try_connect, w);
    loop_timer_set(w->retry, 0);
    return w;
}

void waker_free(struct waker *w)
{
    if (w == NULL)
        return;
    while (!list_is_empty(&w->asks))
        ask_free(LIST_OWNER(w->asks.next, struct waker_ask, link));
    stream_close(&w->stream);
    buf_fini(&w->in);
    loop_timer_del(w->retry);
    free(w->host);
    free(w);
}

bool waker_is_connected(const struct waker *w)
{
    return w->stream.fd >= 0;
}
