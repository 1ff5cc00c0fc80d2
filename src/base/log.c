/*
 * log.c - one event, one line, one write(2)
 *
 * Any thread.  A line is at most PIPE_BUF bytes, so that lines of several processes on one pipe do not mix;
 * what does not fit is cut.  Never allocates, never fails.
 */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/redact.h"
#include "base/text.h"

#define LINE_MAX_BYTES  PIPE_BUF
#define VALUE_MAX_BYTES 1024
#define JSON_END        ",\"cut\":\"true\"}" /* with the newline the most that is kept free */

static const char *const LEVELS[] = { "debug", "info", "warn", "error" };
static const char *const FORMATS[] = { "text", "json" };

static atomic_int threshold = LOG_INFO, format = LOG_TEXT;
static atomic_bool journal;
static _Thread_local const char *request_id;

struct line {
    char data[LINE_MAX_BYTES];
    size_t len, max; /* max: the end is to fit behind it */
    bool full;       /* something did not fit */
};

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_set_format(enum log_format f)
{
    atomic_store(&format, (int)f);
}

static bool find_word(const char *const *words, size_t n, const char *word, int *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(words[i], word) == 0) {
            *ret = (int)i;
            return true;
        }
    }
    return false;
}

bool log_level_named(const char *word, enum log_level *ret)
{
    int i;

    if (!find_word(LEVELS, N_ELEMENTS(LEVELS), word, &i))
        return false;
    *ret = (enum log_level)i;
    return true;
}

bool log_format_named(const char *word, enum log_format *ret)
{
    int i;

    if (!find_word(FORMATS, N_ELEMENTS(FORMATS), word, &i))
        return false;
    *ret = (enum log_format)i;
    return true;
}

/* The variable is inherited by whoever we start and whoever started us redirects: so the file is compared. */
void log_find_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    atomic_store(&journal, stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode);
}

void log_set_request(const char *id)
{
    request_id = id;
}

static void put(struct line *l, const char *s, size_t n)
{
    size_t room = l->max - l->len;

    if (n > room) {
        l->full = true;
        n = room;
    }
    memcpy(l->data + l->len, s, n);
    l->len += n;
}

static void puts_(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static bool needs_quotes(const char *s, size_t n)
{
    if (n == 0 || !text_is_utf8(s, n))
        return true;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7F || c >= 0x80)
            return true;
    }
    return false;
}

static void put_escaped(struct line *l, const char *s, size_t n, bool utf8)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char hex[8];

        if (c == '"' || c == '\\') {
            put(l, (const char[]){ '\\', (char)c }, 2);
        } else if (c == '\n') {
            puts_(l, "\\n");
        } else if (c == '\t') {
            puts_(l, "\\t");
        } else if (c == '\r') {
            puts_(l, "\\r");
        } else if (c < ' ' || c == 0x7F || (c >= 0x80 && !utf8) ||
                   (c == 0xC2 &&
                    (unsigned char)s[i + 1] < 0xA0)) { /* C2 80..9F: C1 controls move a terminal's cursor */
            snprintf(hex, sizeof(hex), "\\x%02x", c);
            puts_(l, hex);
            if (c == 0xC2 && utf8) {
                snprintf(hex, sizeof(hex), "\\x%02x", (unsigned char)s[++i]);
                puts_(l, hex);
            }
        } else {
            put(l, s + i, 1);
        }
    }
}

/* A value as it is shown: without its passwords, and not too long. */
struct value {
    const char *s;
    size_t n;
    bool cut;
    char clean[VALUE_MAX_BYTES + 1];
};

static void value_take(struct value *v, const char *s)
{
    bool concerns = redact_concerns(s);
    size_t len = concerns ? redact(s, v->clean, sizeof(v->clean)) : strlen(s);

    v->s = concerns ? v->clean : s;
    v->cut = len > VALUE_MAX_BYTES;
    v->n = v->cut ? VALUE_MAX_BYTES : len;
    if (!v->cut)
        return;
    while (v->n > 0 && ((unsigned char)v->s[v->n - 1] & 0xC0) == 0x80) /* no character by half */
        v->n--;
    if (v->n > 0 && ((unsigned char)v->s[v->n - 1] & 0xC0) == 0xC0)
        v->n--;
}

/* --- text --- */

static void text_pair(struct line *l, const char *key, const char *value)
{
    struct value v;

    value_take(&v, value);
    puts_(l, " ");
    puts_(l, key);
    puts_(l, "=");
    if (!v.cut && !needs_quotes(v.s, v.n)) {
        put(l, v.s, v.n);
        return;
    }
    puts_(l, "\"");
    put_escaped(l, v.s, v.n, text_is_utf8(v.s, v.n));
    puts_(l, v.cut ? "...\"" : "\"");
}

static const char *time_now(char out[TIME_TEXT_SIZE])
{
    text_time_us(clock_wall_us(), out);
    memcpy(out + strlen(out) - 4, "Z", 2); /* microseconds and Z: down to milliseconds */
    return out;
}

static void text_head(struct line *l, enum log_level level, const char *module)
{
    char time[TIME_TEXT_SIZE];

    puts_(l, time_now(time));
    puts_(l, " ");
    puts_(l, LEVELS[level]);
    puts_(l, " ");
    puts_(l, module);
}

static void text_end(struct line *l)
{
    (void)l;
}

/* --- JSON.  By hand, alone in all the code: a log line must not need memory, nor a helper of Postgres a
 * library. --- */

static void json_escaped(struct line *l, const char *s, size_t n)
{
    bool utf8 = text_is_utf8(s, n);

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char hex[8];

        if (c == '"' || c == '\\') {
            put(l, (const char[]){ '\\', (char)c }, 2);
        } else if (c < ' ' || c == 0x7F) {
            snprintf(hex, sizeof(hex), "\\u%04x", c);
            puts_(l, hex);
        } else if (c >= 0x80 && !utf8) {
            puts_(l, "\xEF\xBF\xBD"); /* U+FFFD */
        } else {
            put(l, s + i, 1);
        }
    }
}

static void json_pair(struct line *l, const char *key, const char *value)
{
    struct value v;
    size_t begin = l->len;
    bool full = l->full;

    value_take(&v, value);
    l->full = false;
    puts_(l, begin > 0 && l->data[begin - 1] != '{' ? ",\"" : "\"");
    json_escaped(l, key, strlen(key));
    puts_(l, "\":\"");
    json_escaped(l, v.s, v.n);
    puts_(l, v.cut ? "...\"" : "\"");
    if (l->full)
        l->len = begin;
    l->full = l->full || full;
}

static void json_head(struct line *l, enum log_level level, const char *module)
{
    char time[TIME_TEXT_SIZE];

    puts_(l, "{");
    json_pair(l, "ts", time_now(time));
    json_pair(l, "level", LEVELS[level]);
    json_pair(l, "module", module);
}

static void json_end(struct line *l)
{
    l->max += sizeof(JSON_END) - 1;
    puts_(l, l->full ? JSON_END : "}");
}

/* --- a line --- */

static const struct writer {
    void (*head)(struct line *l, enum log_level level, const char *module);
    void (*pair)(struct line *l, const char *key, const char *value);
    void (*end)(struct line *l);
    size_t end_max;
} WRITERS[] = {
    [LOG_TEXT] = { text_head, text_pair, text_end, 0 },
    [LOG_JSON] = { json_head, json_pair, json_end, sizeof(JSON_END) - 1 },
};

/* As syslog numbers them. */
static void put_priority(struct line *l, enum log_level level)
{
    static const char *const PRIORITIES[] = { "<7>", "<6>", "<4>", "<3>" };

    puts_(l, PRIORITIES[level]);
}

void log_event(enum log_level level, const char *module, const char *msg, ...)
{
    const struct writer *w = &WRITERS[atomic_load(&format)];
    struct line l = { .max = LINE_MAX_BYTES - 1 - w->end_max }; /* one byte for the newline */
    int saved = errno;
    const char *key;
    va_list ap;

    if ((int)level < atomic_load(&threshold) || level > LOG_ERROR)
        return;
    if (atomic_load(&journal))
        put_priority(&l, level);
    w->head(&l, level, module);
    w->pair(&l, "msg", msg);
    if (request_id != NULL)
        w->pair(&l, "req", request_id);
    va_start(ap, msg);
    while ((key = va_arg(ap, const char *)) != NULL) {
        const char *value = va_arg(ap, const char *);

        if (value != NULL)
            w->pair(&l, key, value);
    }
    va_end(ap);
    w->end(&l);
    l.data[l.len++] = '\n';
    while (write(STDERR_FILENO, l.data, l.len) < 0 && errno == EINTR)
        continue;
    errno = saved;
}
