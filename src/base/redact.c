/*
 * redact.c - passwords out of a text
 *
 * Any thread, no allocation.  In doubt it takes away more rather than less.
 */
#include "base/redact.h"

#include <ctype.h>

#define WORD "password"

/* A piece of the text that is a secret. */
struct span {
    size_t at, len;
};

static bool ends_uri(char c)
{
    return c == '\0' || isspace((unsigned char)c) || c == '"' || c == '\'' || c == '<' || c == '>';
}

/* A number and then a path, a query or the end: "host:5432/db", not "user:5432@host". */
static bool is_port(const char *s)
{
    size_t n = strspn(s, "0123456789");

    return n > 0 && (s[n] == '/' || s[n] == '?' || s[n] == '#' || ends_uri(s[n]));
}

/* authority: what follows "://".  Its secret reaches from the first : to the last @, since people write
 * passwords as they are; even over a slash, unless what is there is a port. */
static bool in_authority(const char *authority, struct span *ret)
{
    size_t n = strcspn(authority, "/?#"), colon = 0, end, at = 0;

    for (end = 0; !ends_uri(authority[end]); end++)
        continue;
    n = n < end ? n : end;
    while (colon < n && authority[colon] != ':' && authority[colon] != '@')
        colon++;
    if (colon == n || authority[colon] == '@')
        return false;
    for (size_t i = colon + 1; i < n; i++)
        at = authority[i] == '@' ? i : at;
    for (size_t i = n; at == 0 && i < end && !is_port(authority + colon + 1); i++)
        at = authority[i] == '@' ? i : at;
    if (at <= colon + 1)
        return false;
    *ret = (struct span){ colon + 1, at - colon - 1 };
    return true;
}

/* To the closing quote; a backslash, and in SQL a second quote, takes the next one along. */
static size_t quoted_len(const char *s, char quote)
{
    size_t n = 0;

    while (s[n] != '\0' && (s[n] != quote || s[n + 1] == quote)) {
        if ((s[n] == '\\' || s[n] == quote) && s[n + 1] != '\0')
            n++;
        n++;
    }
    return n;
}

/* rest: what follows the word.  password=x, "password": "x", PASSWORD 'x'. */
static bool behind_word(const char *rest, struct span *ret)
{
    size_t i = 0;
    bool named = rest[0] == '"' || rest[0] == '\'', sign;

    i += named;
    i += strspn(rest + i, " \t");
    sign = rest[i] == '=' || (named && rest[i] == ':');
    i += sign;
    i += strspn(rest + i, " \t");
    if (rest[i] == '\'' || (sign && rest[i] == '"')) {
        *ret = (struct span){ i + 1, quoted_len(rest + i + 1, rest[i]) };
        return true;
    }
    if (!sign)
        return false;
    ret->at = i;
    ret->len = strcspn(rest + i, "& \t\r\n\"'");
    return ret->len > 0;
}

/* The first secret at or behind s. */
static bool find(const char *s, struct span *ret)
{
    for (const char *p = s; *p != '\0'; p++) {
        size_t skip = 0;
        bool found = false;

        if (strncmp(p, "://", 3) == 0) {
            skip = 3;
            found = in_authority(p + skip, ret);
        } else if (strncasecmp(p, WORD, sizeof(WORD) - 1) == 0) {
            skip = sizeof(WORD) - 1;
            found = behind_word(p + skip, ret);
        }
        if (found) {
            ret->at += (size_t)(p - s) + skip;
            return true;
        }
    }
    return false;
}

bool redact_concerns(const char *s)
{
    return strstr(s, "://") != NULL || strcasestr(s, WORD) != NULL;
}

static size_t copy(char *out, size_t size, size_t at, const char *s, size_t n)
{
    if (at < size)
        memcpy(out + at, s, n < size - at ? n : size - at);
    return at + n;
}

size_t redact(const char *s, char *out, size_t size)
{
    struct span secret;
    size_t len = 0;

    while (find(s, &secret)) {
        len = copy(out, size - 1, len, s, secret.at);
        len = copy(out, size - 1, len, REDACTED, sizeof(REDACTED) - 1);
        s += secret.at + secret.len;
    }
    len = copy(out, size - 1, len, s, strlen(s));
    out[len < size ? len : size - 1] = '\0';
    return len;
}
