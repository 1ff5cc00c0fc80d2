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

#include "base/clock.h"
#include "base/text.h"

#define LINE_MAX_BYTES  PIPE_BUF
#define VALUE_MAX_BYTES 1024

static atomic_int threshold = LOG_INFO;
static _Thread_local const char *request_id;

struct line {
    char data[LINE_MAX_BYTES];
    size_t len;
};

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_set_request(const char *id)
{
    request_id = id;
}

/* One byte stays free for the newline. */
static void put(struct line *l, const char *s, size_t n)
{
    size_t room = sizeof(l->data) - 1 - l->len;

    if (n > room)
        n = room;
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

static void put_pair(struct line *l, const char *key, const char *value)
{
    size_t n = strlen(value), cut = n > VALUE_MAX_BYTES ? VALUE_MAX_BYTES : n;
    bool quote;

    while (cut < n && cut > 0 && ((unsigned char)value[cut] & 0xC0) == 0x80)
        cut--;
    quote = cut < n || needs_quotes(value, n);
    puts_(l, " ");
    puts_(l, key);
    puts_(l, "=");
    if (!quote) {
        put(l, value, n);
        return;
    }
    puts_(l, "\"");
    put_escaped(l, value, cut, text_is_utf8(value, cut));
    puts_(l, cut < n ? "...\"" : "\"");
}

static void put_head(struct line *l, enum log_level level, const char *module)
{
    static const char *const NAMES[] = { "debug", "info", "warn", "error" };
    char time[TIME_TEXT_SIZE];

    text_time_us(clock_wall_us(), time);
    put(l, time, strlen(time) - 4); /* microseconds and Z: down to milliseconds */
    puts_(l, "Z ");
    puts_(l, NAMES[level]);
    puts_(l, " ");
    puts_(l, module);
}

void log_event(enum log_level level, const char *module, const char *msg, ...)
{
    struct line l = { .len = 0 };
    int saved = errno;
    const char *key;
    va_list ap;

    if ((int)level < atomic_load(&threshold) || level > LOG_ERROR)
        return;
    put_head(&l, level, module);
    put_pair(&l, "msg", msg);
    if (request_id != NULL)
        put_pair(&l, "req", request_id);
    va_start(ap, msg);
    while ((key = va_arg(ap, const char *)) != NULL) {
        const char *value = va_arg(ap, const char *);

        if (value != NULL)
            put_pair(&l, key, value);
    }
    va_end(ap);
    l.data[l.len++] = '\n';
    while (write(STDERR_FILENO, l.data, l.len) < 0 && errno == EINTR)
        continue;
    errno = saved;
}
