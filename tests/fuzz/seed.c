/*
 * seed.c - seeds as text, and the small things that targets share
 */
#include "fuzz.h"

#include <ctype.h>

#include "base/arena.h"
#include "base/fs.h"

#define SEED_MAX 65536

uint8_t fuzz_byte(struct fuzz_input *in)
{
    if (in->len == 0)
        return 0;
    in->len--;
    return *in->data++;
}

uint64_t fuzz_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int digit(char c)
{
    const char *at = c != '\0' ? strchr("0123456789abcdef", c) : NULL;

    return at != NULL ? (int)(at - "0123456789abcdef") : -1;
}

/* One byte or one "text" at *p, which moves behind it. */
static bool take_item(const char **p, struct buf *ret)
{
    const char *s = *p, *end;
    uint8_t byte;

    if (*s == '"') {
        end = strchr(s + 1, '"');
        if (end == NULL)
            return false;
        buf_add(ret, s + 1, (size_t)(end - s - 1));
        *p = end + 1;
        return true;
    }
    if (digit(s[0]) < 0 || digit(s[1]) < 0)
        return false;
    byte = (uint8_t)(digit(s[0]) << 4 | digit(s[1]));
    buf_add(ret, &byte, 1);
    *p = s + 2;
    return true;
}

static bool parse(const char *p, struct buf *ret)
{
    while (*p != '\0') {
        auto_buf item = { 0 };
        long n = 1;

        if (*p == '#')
            p += strcspn(p, "\n");
        if (*p == '\0' || isspace((unsigned char)*p)) {
            p += *p != '\0';
            continue;
        }
        if (!take_item(&p, &item))
            return false;
        if (*p == '*')
            n = strtol(p + 1, (char **)&p, 10);
        if (n < 1 || n > SEED_MAX || ret->len + item.len * (size_t)n > SEED_MAX)
            return false;
        while (n-- > 0)
            buf_add(ret, item.data, item.len);
    }
    return true;
}

bool seed_read(const char *path, struct buf *ret)
{
    struct arena *a = arena_new(0);
    struct err err = ERR_INIT;
    char *text;
    size_t len;
    bool good = fs_read(a, path, SEED_MAX, &text, &len, &err) == 0 && parse(text, ret);

    arena_free(a);
    return good;
}
