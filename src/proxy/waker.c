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
#include <sys/socket.h>
#include <unistd.h>

#include "base/crypt.h"
#include "base/id.h"
#include "base/log.h"
#include "base/pass.h"
#include "base/text.h"
#include "proxy/stream.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define WORDS_MAX      8
#define SEATS_MAX      100000

enum verb { WAKE = 1, FIND = 2, LOOK = 4 };

struct waker_ask {
    struct list link; /* of all */
    struct waker *waker;
    enum verb verb;
    uint64_t r;
    char *words; /* what is asked, behind the number */
    struct list guests;
};

/* An endpoint whose logins are still to come: the next lines. */
struct pending {
    struct directory_entry *entry; /* NULL = none */
    int64_t left;
    uint64_t r; /* the answer to this question; 0 = for the directory */
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
    int passed[PASS_MAX]; /* descriptors that came with what is in `in` */
    size_t n_passed;
    struct loop_timer *retry;
    int64_t backoff_ms;
    uint64_t last_r;
    struct list asks;
    struct directory *directory;
    struct pending pending;
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

static void say_ask(struct waker *w, const struct waker_ask *ask)
{
    const char *verb = ask->verb == WAKE ? "WAKE" : ask->verb == FIND ? "FIND" : "LOOK";
    auto_free char *line = xasprintf("%s %" PRIu64 " %s\n", verb, ask->r, ask->words);

    say(w, line);
}

void waker_sessions(struct waker *w, const char *ep, uint64_t g, int n)
{
    auto_free char *line = xasprintf("SESSIONS %s %" PRIu64 " %d\n", ep, g, n);

    say(w, line);
}

static void say_active(struct waker *w, const char *word, const char *ep, uint64_t g, uint64_t q, int active)
{
    auto_free char *line = xasprintf("%s %s %" PRIu64 " %" PRIu64 " %d\n", word, ep, g, q, active);

    say(w, line);
}

void waker_parked(struct waker *w, const char *ep, uint64_t g, uint64_t q, int active)
{
    say_active(w, "PARKED", ep, g, q, active);
}

void waker_stray(struct waker *w, const uint8_t key[WIRE_KEY_SIZE])
{
    char line[] = "STRAY 0123456789abcdef\n";

    for (size_t i = 0; i < WIRE_KEY_SIZE; i++)
        snprintf(line + strlen("STRAY ") + 2 * i, 3, "%02x", key[i]);
    line[strlen(line)] = '\n';
    say(w, line);
}

static void ask_free(struct waker_ask *ask)
{
    list_remove(&ask->link);
    free(ask->words);
    free(ask);
}

static void greet(struct waker *w)
{
    auto_free char *hello = xasprintf("HELLO 4 %d %s %d\n", (int)getpid(), w->host, w->port);
    struct list *l, *next;

    say(w, hello);
    w->ops->sessions(w->arg);
    say(w, "SYNCED\n");
    for (l = w->asks.next; l != &w->asks; l = next) {
        struct waker_ask *ask = LIST_OWNER(l, struct waker_ask, link);

        next = l->next;
        if (list_is_empty(&ask->guests)) /* a LOOK that was still out */
            ask_free(ask);
        else
            say_ask(w, ask);
    }
}

/* --- questions
 * ---------------------------------------------------------------------------------------------------- */

static struct waker_ask *ask_find(struct waker *w, enum verb verb, const char *words)
{
    for (struct list *l = w->asks.next; l != &w->asks; l = l->next) {
        struct waker_ask *ask = LIST_OWNER(l, struct waker_ask, link);

        if (ask->verb == verb && strcmp(ask->words, words) == 0)
            return ask;
    }
    return NULL;
}

/* True when nobody had asked before. */
static bool put_question(struct waker *w, struct waker_guest *guest, enum verb verb, const char *words)
{
    struct waker_ask *ask = ask_find(w, verb, words);
    bool fresh = ask == NULL;

    if (fresh) {
        ask = xcalloc(1, sizeof(*ask));
        *ask = (struct waker_ask){ .waker = w, .verb = verb, .r = ++w->last_r, .words = xstrdup(words) };
        list_init(&ask->guests);
        list_push_back(&w->asks, &ask->link);
        say_ask(w, ask);
    }
    guest->ask = ask;
    list_push_back(&ask->guests, &guest->link);
    return fresh;
}

void waker_wake(struct waker *w, struct waker_guest *guest, const char *kind, const char *name,
                const char *db, const char *moment, bool pooled)
{
    auto_free char *n = encode(name), *d = encode(db), *m = encode(moment);
    auto_free char *words = xasprintf("%s %s %s %s %s", kind, n, d, m, pooled ? "pooled" : "-");

    (void)put_question(w, guest, WAKE, words);
}

void waker_find(struct waker *w, struct waker_guest *guest, const char *name)
{
    auto_free char *words = encode(name);

    (void)put_question(w, guest, FIND, words);
}

bool waker_look(struct waker *w, struct waker_guest *guest, const char *ep)
{
    return put_question(w, guest, LOOK, ep != NULL ? ep : "-");
}

/* A LOOK stays, though nobody waits for it: there is never a second one beside it. */
void waker_leave(struct waker_guest *guest)
{
    struct waker_ask *ask = guest->ask;
    auto_free char *line = NULL;

    list_remove(&guest->link); /* also from the list of those who are being answered */
    guest->ask = NULL;
    if (ask == NULL || !list_is_empty(&ask->guests) || ask->verb == LOOK)
        return;
    if (ask->verb == WAKE) {
        line = xasprintf("CANCEL %" PRIu64 "\n", ask->r);
        say(ask->waker, line);
    }
    ask_free(ask);
}

/* Everybody who asked r, by one of these verbs, is told.  The question is closed first: guests may ask the
 * next one from inside. */
static void answer(struct waker *w, uint64_t r, unsigned verbs, const struct waker_answer *what)
{
    struct waker_ask *ask = NULL;
    struct list guests;

    for (struct list *l = w->asks.next; l != &w->asks && ask == NULL; l = l->next)
        if (LIST_OWNER(l, struct waker_ask, link)->r == r)
            ask = LIST_OWNER(l, struct waker_ask, link);
    if (ask == NULL || !(ask->verb & verbs))
        return; /* cancelled */
    list_init(&guests);
    list_take_all(&guests, &ask->guests);
    for (struct list *l = guests.next; l != &guests; l = l->next)
        LIST_OWNER(l, struct waker_guest, link)->ask = NULL;
    ask_free(ask);
    while (!list_is_empty(&guests)) {
        struct waker_guest *guest = LIST_OWNER(guests.next, struct waker_guest, link);

        list_remove(&guest->link);
        w->ops->answer(guest, what);
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

/* In hexadecimal. */
static bool word_bytes(const char *word, uint8_t *ret, size_t len)
{
    if (strlen(word) != 2 * len || strspn(word, "0123456789abcdef") != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++)
        sscanf(word + 2 * i, "%2hhx", &ret[i]);
    return true;
}

static bool word_endpoint(const char *word)
{
    return id_is_valid(word);
}

/* OK R EP G SOCKET MAX POOLER */
static bool line_ok(struct waker *w, const struct line *l)
{
    auto_free char *socket = text_url_decode(l->words[4], strlen(l->words[4]));
    auto_free char *pooler = text_url_decode(l->words[6], strlen(l->words[6]));
    uint64_t r, g;
    int64_t max;

    if (!word_u64(l->words[1], &r) || !word_endpoint(l->words[2]) || !word_u64(l->words[3], &g) ||
        socket == NULL || !text_to_i64(l->words[5], 1, SEATS_MAX, &max) || pooler == NULL)
        return false;
    w->ops->learn(w->arg, l->words[2], g, socket, (int)max, strcmp(l->words[6], "-") != 0 ? pooler : NULL);
    answer(w, r, WAKE, &(struct waker_answer){ .ep = l->words[2] });
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
    answer(w, r, WAKE | FIND, &(struct waker_answer){ .error = &error });
    return true;
}

static bool line_hold(struct waker *w, const struct line *l)
{
    uint64_t g, q;
    int active;

    if (!word_endpoint(l->words[1]) || !word_u64(l->words[2], &g) || !word_u64(l->words[3], &q))
        return false;
    active = w->ops->hold(w->arg, l->words[1], g);
    if (active >= 0)
        say_active(w, "HELD", l->words[1], g, q, active);
    return true;
}

static bool line_park(struct waker *w, const struct line *l)
{
    uint64_t g, q;
    bool whole = strcmp(l->words[4], "all") == 0;

    if (!word_endpoint(l->words[1]) || !word_u64(l->words[2], &g) || !word_u64(l->words[3], &q) ||
        (!whole && strcmp(l->words[4], "-") != 0))
        return false;
    w->ops->park(w->arg, l->words[1], g, q, whole);
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
    w->ops->drop(w->arg, l->words[1]);
    return true;
}

/* --- the directory
 * ------------------------------------------------------------------------------------------------------ */

/* DIRECTORY KEY */
static bool line_directory(struct waker *w, const struct line *l)
{
    uint8_t key[CRYPT_KEY_SIZE];

    if (!word_bytes(l->words[1], key, sizeof(key)))
        return false;
    directory_renew(w->directory, key);
    explicit_bzero(key, sizeof(key));
    return true;
}

static bool line_complete(struct waker *w, const struct line *l)
{
    (void)l;
    directory_complete(w->directory);
    return true;
}

static bool line_forget(struct waker *w, const struct line *l)
{
    if (!word_endpoint(l->words[1]))
        return false;
    directory_forget(w->directory, l->words[1]);
    return true;
}

static void pending_end(struct waker *w)
{
    struct pending p = w->pending;

    if (p.left > 0)
        return;
    w->pending = (struct pending){ .entry = NULL };
    if (p.r == 0) {
        directory_put(w->directory, p.entry);
        return;
    }
    answer(w, p.r, FIND, &(struct waker_answer){ .found = p.entry });
    directory_entry_free(p.entry);
}

/* A line of it is missing.  What was known of the endpoint holds; who asked is told. */
static void pending_drop(struct waker *w)
{
    struct pending p = w->pending;
    struct wire_error error;

    w->pending = (struct pending){ .entry = NULL };
    if (p.entry == NULL)
        return;
    log_event(LOG_WARN, "waker", "mered did not send all roles of an endpoint; what was known holds", "ep",
              directory_entry_id(p.entry), NULL);
    wire_error_set(&error, "58000", "Try again; the log of mere-proxy says more.",
                   "the control plane gave half an answer");
    if (p.r != 0)
        answer(w, p.r, FIND, &(struct waker_answer){ .error = &error });
    directory_entry_free(p.entry);
}

/* Id, number of logins, addresses and what it does with idle sessions, from word i on. */
static bool pending_begin(struct waker *w, const struct line *l, size_t i, uint64_t r)
{
    const char *ips = l->words[i + 2];
    bool parks = strcmp(l->words[i + 3], "park") == 0;
    int64_t n;

    if (!word_endpoint(l->words[i]) || !text_to_i64(l->words[i + 1], 0, DIRECTORY_LOGINS_MAX, &n) ||
        (!parks && strcmp(l->words[i + 3], "-") != 0))
        return false;
    w->pending = (struct pending){
        .entry = directory_entry_new(l->words[i], strcmp(ips, "-") != 0 ? ips : NULL, parks),
        .left = n,
        .r = r,
    };
    pending_end(w);
    return true;
}

/* ENDPOINT EP N IPS PARK */
static bool line_endpoint(struct waker *w, const struct line *l)
{
    return pending_begin(w, l, 1, 0);
}

/* FOUND R NAME N IPS PARK */
static bool line_found(struct waker *w, const struct line *l)
{
    uint64_t r;

    return word_u64(l->words[1], &r) && r > 0 && pending_begin(w, l, 2, r);
}

/* LOGIN ROLE VERIFIER UNTIL */
static bool line_login(struct waker *w, const struct line *l)
{
    auto_free char *role = text_url_decode(l->words[1], strlen(l->words[1]));
    auto_free char *verifier = text_url_decode(l->words[2], strlen(l->words[2]));
    bool has_one = strcmp(l->words[2], "-") != 0;
    int64_t until = INT64_MAX;
    int rc;

    if (w->pending.entry == NULL || role == NULL || verifier == NULL ||
        (strcmp(l->words[3], "-") != 0 && !text_to_i64(l->words[3], INT64_MIN, INT64_MAX, &until)))
        return false;
    rc = directory_entry_add(w->pending.entry, role, has_one ? verifier : NULL, until);
    explicit_bzero(verifier, strlen(verifier));
    if (rc < 0)
        log_event(LOG_WARN, "waker", "cannot read the verifier of a role; it cannot log in", "ep",
                  directory_entry_id(w->pending.entry), "role", role, NULL);
    w->pending.left--;
    pending_end(w);
    return true;
}

static bool line_looked(struct waker *w, const struct line *l)
{
    uint64_t r;

    if (!word_u64(l->words[1], &r))
        return false;
    answer(w, r, LOOK, &(struct waker_answer){ .ep = NULL });
    return true;
}

/* --- what comes with descriptors
 * --- */

static void drop_passed(struct waker *w)
{
    while (w->n_passed > 0)
        fd_close(&w->passed[--w->n_passed]);
}

/* CERT; both descriptors came with it. */
static bool line_cert(struct waker *w, const struct line *l)
{
    (void)l;
    if (w->n_passed != 2)
        return false;
    w->ops->certificate(w->arg, w->passed[0], w->passed[1]);
    drop_passed(w);
    return true;
}

/* RETIRE; where the sockets go came with it. */
static bool line_retire(struct waker *w, const struct line *l)
{
    (void)l;
    if (w->n_passed != 1)
        return false;
    if (w->ops->retire(w->arg, w->passed[0]))
        w->port = 0;
    else
        loop_timer_set(w->retry, 0); /* the next HELLO says that we listen */
    drop_passed(w);
    return true;
}

/* --- other proxies
 * --- */

/* OTHERS N */
static bool line_others(struct waker *w, const struct line *l)
{
    int64_t n;

    if (!text_to_i64(l->words[1], 0, INT64_MAX, &n))
        return false;
    w->ops->others(w->arg, n);
    return true;
}

/* STRAY KEY */
static bool line_stray(struct waker *w, const struct line *l)
{
    uint8_t key[WIRE_KEY_SIZE];

    if (!word_bytes(l->words[1], key, sizeof(key)))
        return false;
    w->ops->stray(w->arg, key);
    return true;
}

/* --- all lines
 * ----------------------------------------------------------------------------------------------------------
 */

static const char LOGIN[] = "LOGIN";

static const struct {
    const char *word;
    size_t n; /* words in all */
    bool (*fn)(struct waker *w, const struct line *l);
} LINES[] = {
    { "OK", 7, line_ok },
    { "ERR", 5, line_err },
    { "HOLD", 4, line_hold },
    { "PARK", 5, line_park },
    { "GONE", 3, line_gone },
    { "RELEASE", 3, line_release },
    { "DROP", 2, line_drop },
    { "DIRECTORY", 2, line_directory },
    { "ENDPOINT", 5, line_endpoint },
    { LOGIN, 4, line_login },
    { "FORGET", 2, line_forget },
    { "COMPLETE", 1, line_complete },
    { "LOOKED", 2, line_looked },
    { "FOUND", 6, line_found },
    { "CERT", 1, line_cert },
    { "OTHERS", 2, line_others },
    { "STRAY", 2, line_stray },
    { "RETIRE", 1, line_retire },
};

/* Cuts text at single blanks, in place.  No words at all: too many, or a NUL, behind which nothing would be
 * seen. */
static void split(char *text, size_t len, struct line *ret)
{
    char *save = strlen(text) == len ? text : NULL;

    ret->n = 0;
    while (save != NULL && ret->n < WORDS_MAX)
        ret->words[ret->n++] = strsep(&save, " ");
    if (save != NULL)
        ret->n = 0;
}

static void take_line(struct waker *w, char *text, size_t len)
{
    struct line line;

    split(text, len, &line);
    if (line.n == 0 || strcmp(line.words[0], LOGIN) != 0)
        pending_drop(w);
    for (size_t i = 0; line.n > 0 && i < N_ELEMENTS(LINES); i++) {
        if (strcmp(LINES[i].word, line.words[0]) != 0)
            continue;
        if (line.n == LINES[i].n && LINES[i].fn(w, &line))
            return;
        break;
    }
    pending_drop(w);
    log_event(LOG_WARN, "waker", "cannot read a line from mered; skipped", "word",
              line.n > 0 ? line.words[0] : NULL, NULL);
}

/* The whole lines in w->in.  A callback never ends the connection, so w->in stays ours throughout. */
static void take_lines(struct waker *w)
{
    size_t done = 0, len;
    char *end;

    while ((end = memchr(w->in.data + done, '\n', w->in.len - done)) != NULL) {
        len = (size_t)(end - w->in.data) - done;
        if (len >= WAKER_LINE_MAX)
            break;
        *end = '\0';
        take_line(w, w->in.data + done, len);
        done += len + 1;
    }
    buf_consume(&w->in, done);
    if (w->in.len == 0) {
        buf_fini(&w->in);
        drop_passed(w); /* they are of no line to come */
    }
    if (end != NULL || w->in.len >= WAKER_LINE_MAX)
        disconnect(w, "mered sent a line that is too long");
}

/* --- the connection
 * ------------------------------------------------------------------------------------------------- */

static void disconnect(struct waker *w, const char *why)
{
    log_event(LOG_WARN, "waker", "the wake socket is lost; sessions go on", "reason", why, NULL);
    stream_close(&w->stream);
    buf_fini(&w->in);
    directory_entry_free(TAKE(w->pending.entry)); /* who asked asks again */
    drop_passed(w);
    w->backoff_ms = BACKOFF_MIN_MS;
    loop_timer_set(w->retry, w->backoff_ms);
    w->ops->lost(w->arg);
}

/* A read that takes descriptors along. */
static ssize_t read_with_passed(struct waker *w, char *data, size_t len)
{
    int fds[PASS_MAX];
    size_t n_fds;
    ssize_t n = pass_receive(w->stream.fd, data, len, fds, &n_fds);

    if (n_fds > 0) {
        drop_passed(w);
        memcpy(w->passed, fds, n_fds * sizeof(*fds));
        w->n_passed = n_fds;
    }
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? STREAM_AGAIN : STREAM_FAILED;
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
    n = read_with_passed(w, chunk, sizeof(chunk));
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
        disconnect(w, "it cannot be written to, or has to be made anew");
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
                        struct directory *directory, const struct waker_ops *ops, void *arg)
{
    struct waker *w = xcalloc(1, sizeof(*w));

    *w = (struct waker){ .loop = l,
                         .path = path,
                         .host = encode(host),
                         .port = port,
                         .directory = directory,
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
    directory_entry_free(w->pending.entry);
    drop_passed(w);
    loop_timer_del(w->retry);
    free(w->host);
    free(w);
}

bool waker_is_connected(const struct waker *w)
{
    return w->stream.fd >= 0;
}
