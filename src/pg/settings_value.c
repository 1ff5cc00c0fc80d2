#include "pg/settings_value.h"

#include "base/fs.h"
#include "base/text.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ZONE_DIR   "/usr/share/zoneinfo"
#define NAME_BYTES 64

/* ---- numbers ---- */

struct unit {
    const char *name;
    double factor;
};
/* Largest first: Postgres rounds a fraction to whole numbers of the next one. */
static const struct unit BYTES[] = {
    { "TB", 1099511627776.0 }, { "GB", 1073741824.0 }, { "MB", 1048576.0 }, { "kB", 1024.0 }, { "B", 1.0 },
};
static const struct unit MICROSECONDS[] = {
    { "d", 86400e6 }, { "h", 3600e6 }, { "min", 60e6 }, { "s", 1e6 }, { "ms", 1e3 }, { "us", 1.0 },
};

static const struct base {
    const char *name;
    const char *all; /* units that may be written */
    const struct unit *units;
    size_t n;
    double factor;
} BASES[] = {
    [U_NONE] = { "", "", NULL, 0, 1 },
    [U_KB] = { "kB", "B, kB, MB, GB, TB", BYTES, N_ELEMENTS(BYTES), 1024 },
    [U_8KB] = { "pages of 8kB", "B, kB, MB, GB, TB", BYTES, N_ELEMENTS(BYTES), 8192 },
    [U_MB] = { "MB", "B, kB, MB, GB, TB", BYTES, N_ELEMENTS(BYTES), 1048576 },
    [U_MS] = { "ms", "us, ms, s, min, h, d", MICROSECONDS, N_ELEMENTS(MICROSECONDS), 1e3 },
    [U_S] = { "s", "us, ms, s, min, h, d", MICROSECONDS, N_ELEMENTS(MICROSECONDS), 1e6 },
};

const char *setting_units(enum setting_unit unit)
{
    return BASES[unit].all;
}

const char *setting_unit_name(enum setting_unit unit)
{
    return BASES[unit].name;
}

/* To the nearest whole number, a half to the even one. */
static double round_even(double v)
{
    if (v > 9e15 || v < -9e15)
        return v; /* has no fraction, or is no number of ours */
    double down = (double)(int64_t)v;
    down -= v < down;
    double rest = v - down;
    bool odd = (int64_t)down % 2 != 0;
    return rest > 0.5 || (rest == 0.5 && odd) ? down + 1 : down;
}

static const char *skip_digits(const char *s)
{
    return s + strspn(s, "0123456789");
}

/*
 * -12, 0.5, 1e3: where it ends, or NULL.  No sign but minus, and no zero in front: Postgres takes 010 for an
 * octal number.
 */
static const char *number_end(const char *s)
{
    const char *first = s + (*s == '-'), *end = skip_digits(first);
    if (end == first || (end - first > 1 && *first == '0'))
        return NULL;
    if (*end == '.') {
        const char *fraction = end + 1;
        end = skip_digits(fraction);
        if (end == fraction)
            return NULL;
    }
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1 + (end[1] == '-' || end[1] == '+');
        if (skip_digits(exponent) == exponent)
            return NULL;
        end = skip_digits(exponent);
    }
    return end;
}

static bool scale(const struct base *b, const char *name, double *v)
{
    for (size_t i = 0; i < b->n; i++) {
        if (strcmp(b->units[i].name, name) != 0)
            continue;
        *v *= b->units[i].factor;
        if (i + 1 < b->n)
            *v = round_even(*v / b->units[i + 1].factor) * b->units[i + 1].factor;
        *v /= b->factor;
        return true;
    }
    return false;
}

bool setting_number(const char *s, enum setting_unit unit, bool whole, double *ret)
{
    const char *end = number_end(s);
    if (!end)
        return false;
    errno = 0;
    double v = strtod(s, NULL);
    if (errno != 0)
        return false;
    end += strspn(end, " ");
    if (*end == '\0') {
        if (whole && v != round_even(v))
            return false;
    } else if (!scale(&BASES[unit], end, &v)) {
        return false;
    }
    *ret = whole ? round_even(v) : v;
    return true;
}

const char *setting_text(double v, enum setting_unit unit, char out[SETTING_TEXT_SIZE])
{
    const struct base *b = &BASES[unit];
    double small = v * b->factor;
    for (size_t i = 0; i < b->n && v > 0; i++) {
        double n = small / b->units[i].factor;
        if (n >= 1 && n == round_even(n)) {
            snprintf(out, SETTING_TEXT_SIZE, "%.15g%s", n, b->units[i].name);
            return out;
        }
    }
    snprintf(out, SETTING_TEXT_SIZE, "%.15g", v);
    return out;
}

/* ---- names ---- */

static bool is_made_of(const char *s, const char *more)
{
    size_t len = strlen(s);
    for (size_t i = 0; i < len; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
              strchr(more, s[i])))
            return false;
    return len > 0 && len <= NAME_BYTES;
}

/*
 * A file of the time zone database, which Debian's Postgres shares with the machine.  Postgres takes more
 * (its own spelling of POSIX zones, names in any case), but not the zones that count leap seconds.
 */
bool setting_is_zone(const char *s)
{
    auto_arena *a = arena_new(0);
    struct err ignored = ERR_INIT;
    char *data;
    size_t len;
    if (!is_made_of(s, "/_+-") || s[0] == '/' || text_starts_with(s, "right/"))
        return false;
    return fs_read(a, arena_printf(a, ZONE_DIR "/%s", s), 1 << 20, &data, &len, &ignored) == 0 && len > 44 &&
           memcmp(data, "TZif", 4) == 0;
}

/* "iso, mdy": one format, one order, or one of each, in any order. */
bool setting_is_datestyle(const char *s)
{
    static const struct {
        const char *word;
        int kind;
    } WORDS[] = {
        { "iso", 1 }, { "sql", 1 }, { "postgres", 1 }, { "german", 1 },
        { "ymd", 2 }, { "dmy", 2 }, { "mdy", 2 },
    };
    int seen = 0;
    for (const char *p = s;; p++) {
        size_t i = 0, len;
        p += strspn(p, " ");
        len = strcspn(p, " ,");
        while (i < N_ELEMENTS(WORDS) &&
               !(strlen(WORDS[i].word) == len && strncasecmp(WORDS[i].word, p, len) == 0))
            i++;
        if (i == N_ELEMENTS(WORDS) || (seen & WORDS[i].kind))
            return false;
        seen |= WORDS[i].kind;
        p += len;
        p += strspn(p, " ");
        if (*p != ',')
            return *p == '\0';
    }
}

bool setting_is_locale(const char *s)
{
    if (!is_made_of(s, "_.@-"))
        return false;
    locale_t l = newlocale(LC_ALL_MASK, s, (locale_t)0);
    if (l)
        freelocale(l);
    return l != (locale_t)0;
}
