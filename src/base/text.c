/*
 * text.c - strict parsing and rendering
 *
 * Any thread; pure functions of their arguments, independent of locale and time zone.
 */
#include "base/text.h"

#include <errno.h>
#include <time.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool text_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
    char *end = NULL;
    long long v;

    /* strtoll would skip blanks and take a plus sign */
    if (s == NULL || !(is_digit(s[0]) || (s[0] == '-' && is_digit(s[1]))))
        return false;
    errno = 0;
    v = strtoll(s, &end, 10);
    if (errno != 0 || *end != '\0' || v < min || v > max)
        return false;
    *ret = v;
    return true;
}

bool text_to_size(const char *s, uint64_t *ret_bytes)
{
    static const struct {
        const char *unit;
        int shift;
    } UNITS[] = {
        { "", 0 },     { "b", 0 },  { "k", 10 },  { "kb", 10 },  { "kib", 10 }, { "m", 20 },  { "mb", 20 },
        { "mib", 20 }, { "g", 30 }, { "gb", 30 }, { "gib", 30 }, { "t", 40 },   { "tb", 40 }, { "tib", 40 },
    };
    char *end = NULL;
    unsigned long long v;

    if (s == NULL || !is_digit(s[0]))
        return false;
    errno = 0;
    v = strtoull(s, &end, 10);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < N_ELEMENTS(UNITS); i++) {
        if (strcasecmp(end, UNITS[i].unit) != 0)
            continue;
        if (v > UINT64_MAX >> UNITS[i].shift)
            return false;
        *ret_bytes = (uint64_t)v << UNITS[i].shift;
        return true;
    }
    return false;
}

/* 1..8 hex digits at *s, which moves behind them. */
static bool lsn_half(const char **s, uint64_t *ret)
{
    uint64_t v = 0;
    int n = 0, d;

    while (n < 8 && (d = hex_digit((*s)[n])) >= 0) {
        v = v << 4 | (unsigned)d;
        n++;
    }
    *s += n;
    *ret = v;
    return n > 0;
}

bool text_to_lsn(const char *s, uint64_t *ret)
{
    uint64_t high, low;

    if (s == NULL || !lsn_half(&s, &high) || *s++ != '/' || !lsn_half(&s, &low) || *s != '\0')
        return false;
    *ret = high << 32 | low;
    return true;
}

/* Exactly n digits at *s, which moves behind them; within min..max. */
static bool digits(const char **s, int n, int min, int max, int *ret)
{
    int v = 0;

    for (int i = 0; i < n; i++) {
        if (!is_digit((*s)[i]))
            return false;
        v = v * 10 + ((*s)[i] - '0');
    }
    *s += n;
    *ret = v;
    return v >= min && v <= max;
}

static bool literal(const char **s, char c)
{
    if (**s != c && !(c >= 'A' && c <= 'Z' && **s == c + ('a' - 'A')))
        return false;
    (*s)++;
    return true;
}

/* ".123456": digits beyond microseconds are dropped; no fraction is 0. */
static bool fraction(const char **s, int64_t *ret_us)
{
    int64_t us = 0, unit = 100000;

    *ret_us = 0;
    if (**s != '.')
        return true;
    (*s)++;
    if (!is_digit(**s))
        return false;
    for (; is_digit(**s); (*s)++) {
        us += unit * (**s - '0');
        unit /= 10;
    }
    *ret_us = us;
    return true;
}

/* "Z" or "+02:00", in seconds east of UTC. */
static bool zone(const char **s, int64_t *ret_s)
{
    int sign = **s == '-' ? -1 : 1, hours, minutes;

    *ret_s = 0;
    if (literal(s, 'Z'))
        return true;
    if (**s != '+' && **s != '-')
        return false;
    (*s)++;
    if (!digits(s, 2, 0, 23, &hours) || !literal(s, ':') || !digits(s, 2, 0, 59, &minutes))
        return false;
    *ret_s = sign * (hours * 3600 + minutes * 60);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int DAYS[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return DAYS[month - 1] + (month == 2 && leap);
}

bool text_to_time(const char *s, int64_t *ret_us)
{
    struct tm tm = { 0 };
    int64_t us, offset_s;
    int year, month;

    if (s == NULL || !digits(&s, 4, 1, 9999, &year) || !literal(&s, '-') || !digits(&s, 2, 1, 12, &month) ||
        !literal(&s, '-') || !digits(&s, 2, 1, days_in_month(year, month), &tm.tm_mday) ||
        !literal(&s, 'T') || !digits(&s, 2, 0, 23, &tm.tm_hour) || !literal(&s, ':') ||
        !digits(&s, 2, 0, 59, &tm.tm_min) || !literal(&s, ':') || !digits(&s, 2, 0, 59, &tm.tm_sec) ||
        !fraction(&s, &us) || !zone(&s, &offset_s) || *s != '\0')
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    *ret_us = ((int64_t)timegm(&tm) - offset_s) * 1000000 + us;
    return true;
}

bool text_to_bool(const char *s, bool *ret)
{
    static const struct {
        const char *word;
        bool value;
    } WORDS[] = { { "true", true },   { "on", true },   { "1", true },
                  { "false", false }, { "off", false }, { "0", false } };

    for (size_t i = 0; s != NULL && i < N_ELEMENTS(WORDS); i++) {
        if (strcmp(s, WORDS[i].word) == 0) {
            *ret = WORDS[i].value;
            return true;
        }
    }
    return false;
}

const char *text_lsn(uint64_t lsn, char out[LSN_TEXT_SIZE])
{
    snprintf(out, LSN_TEXT_SIZE, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
    return out;
}

/* The calendar of us; *ret_us is the microsecond inside the second (floored, so that times before 1970 work).
 */
static void broken_down(int64_t us, struct tm *ret, int64_t *ret_us)
{
    int64_t rest = us % 1000000;
    time_t s = (time_t)(us / 1000000);

    if (rest < 0) {
        rest += 1000000;
        s--;
    }
    gmtime_r(&s, ret); /* the whole range of int64_t microseconds fits an int of years */
    *ret_us = rest;
}

const char *text_time(int64_t us, char out[TIME_TEXT_SIZE])
{
    struct tm tm;
    int64_t rest;

    broken_down(us, &tm, &rest);
    strftime(out, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

const char *text_time_us(int64_t us, char out[TIME_TEXT_SIZE])
{
    struct tm tm;
    int64_t rest;
    size_t n;

    broken_down(us, &tm, &rest);
    n = strftime(out, TIME_TEXT_SIZE - 8, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, TIME_TEXT_SIZE - n, ".%06dZ", (int)rest);
    return out;
}

/* The length of the valid UTF-8 sequence at s (n bytes left), or 0; *ret is its code point. */
static size_t utf8_sequence(const unsigned char *s, size_t n, uint32_t *ret)
{
    static const uint32_t SMALLEST[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    uint32_t c;

    if (len == 0 || len > n)
        return 0;
    c = len == 1 ? s[0] : s[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    if (c < SMALLEST[len] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return 0;
    *ret = c;
    return len;
}

bool text_is_utf8(const char *s, size_t len)
{
    uint32_t c;

    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_sequence((const unsigned char *)s + i, len - i, &c);
        if (n == 0)
            return false;
    }
    return true;
}

/* What a reader sees as a blank at the edge of a name. */
static bool is_blank(uint32_t c)
{
    return c == ' ' || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* What a reader does not see, or what makes the text around it read in another order: two names that look the
 * same must be the same. */
static bool is_hidden(uint32_t c)
{
    return (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) ||
           c == 0xFEFF;
}

bool text_is_name(const char *s, size_t max)
{
    size_t len = s != NULL ? strlen(s) : 0;
    uint32_t c = ' ';

    if (len == 0 || len > max)
        return false;
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_sequence((const unsigned char *)s + i, len - i, &c);
        if (n == 0 || c < 0x20 || (c >= 0x7F && c <= 0x9F) || is_hidden(c) || (i == 0 && is_blank(c)))
            return false;
    }
    return !is_blank(c);
}

static bool is_unreserved(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == '~' || c == '-';
}

char *text_url_encode(const char *s)
{
    static const char HEX[] = "0123456789ABCDEF";
    char *out = xmalloc(strlen(s) * 3 + 1), *p = out;

    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (is_unreserved(*s)) {
            *p++ = *s;
            continue;
        }
        *p++ = '%';
        *p++ = HEX[c >> 4];
        *p++ = HEX[c & 15];
    }
    *p = '\0';
    return out;
}

char *text_url_decode(const char *s, size_t len)
{
    auto_free char *out = xmalloc(len + 1);
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = s[i];

        if (c == '%') {
            int high = len - i > 2 ? hex_digit(s[i + 1]) : -1, low = high >= 0 ? hex_digit(s[i + 2]) : -1;

            if (low < 0)
                return NULL;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0')
            return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return TAKE(out);
}

bool text_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}
