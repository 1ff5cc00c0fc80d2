/*
 * scan.c - words in the text of Query and Parse
 *
 * Letters are folded as Postgres folds keywords and, in a database of UTF-8, names.  Bytes above 127 belong
 * to words; digits do not begin one, and '$' ends one, so that no reading of "1set" or "$$set" hides a word.
 */
#include "proxy/scan.h"

#include <string.h>

void scan_fini(struct scan *s)
{
    buf_fini(&s->unnamed);
}

/* --- words
 * ----------------------------------------------------------------------------------------------------------
 */

static void stays(struct scan *s)
{
    s->stays = true;
}

static void redefines(struct scan *s)
{
    s->redefines = true;
}

static void replaces(struct scan *s)
{
    s->redefines |= s->after_or;
}

static void opens(struct scan *s)
{
    s->window = SCAN_OPEN;
}

static void closes(struct scan *s)
{
    if (s->window == SCAN_OPEN)
        s->window = SCAN_SHUT;
}

static void seeds(struct scan *s)
{
    s->stays |= s->window != SCAN_SHUT;
}

static void does(struct scan *s)
{
    s->after_do = true;
}

/* In front of '*' any word that begins so. */
static const struct {
    const char *word;
    void (*act)(struct scan *s);
} WORDS[] = {
    { "set_config", stays },
    { "setseed", stays },
    { "currval", stays },
    { "lastval", stays },
    { "listen", stays },
    { "load", stays },
    { "query_to_xml*", stays },
    { "cursor_to_xml*", stays },
    { "ts_stat", stays },
    { "ts_rewrite", stays },
    { "standard_conforming_strings", stays }, /* prepared texts would be read otherwise than they were */
    { "drop", redefines },
    { "alter", redefines },
    { "replace", replaces },
    { "set", opens },
    { "reset", opens },
    { "to", closes },
    { "seed", seeds },
    { "do", does },
};

static bool is_word(const struct scan *s, const char *word)
{
    size_t len = strlen(word);

    if (word[len - 1] == '*')
        return s->n >= len - 1 && memcmp(s->word, word, len - 1) == 0;
    return s->n == len && memcmp(s->word, word, len) == 0;
}

/* ON CONFLICT DO NOTHING and DO UPDATE; all else may be code. */
static bool is_harmless_do(const struct scan *s)
{
    return is_word(s, "nothing") || is_word(s, "update");
}

static void end_word(struct scan *s)
{
    if (s->n == 0)
        return;
    if (s->n > SCAN_WORD_MAX)
        s->n = SCAN_WORD_MAX; /* still begins like it */
    if (s->after_do && !is_harmless_do(s)) {
        s->stays = true;
        s->redefines = true;
    }
    s->after_do = false;
    for (size_t i = 0; i < N_ELEMENTS(WORDS); i++)
        if (is_word(s, WORDS[i].word))
            WORDS[i].act(s);
    s->after_or = is_word(s, "or");
    s->n = 0;
}

/*
 * Behind SET and RESET, up to '=', TO or the end of the statement, stands a name: a dot in it is a custom
 * setting.  A comment there could hide one, and is taken for one.
 */
static void see_in_window(struct scan *s, uint8_t c)
{
    bool comment = (c == '-' && s->before[0] == '-') || (c == '*' && s->before[0] == '/');

    if (c == '.' || comment)
        s->stays = true;
    else if (c == '"')
        s->window = s->window == SCAN_OPEN ? SCAN_QUOTED : SCAN_OPEN;
    else if (c == '=' || c == ';')
        closes(s);
}

static void see_mark(struct scan *s, uint8_t c)
{
    bool blank = c == ' ' || (c >= '\t' && c <= '\r');

    end_word(s);
    if (s->after_do && !blank) {
        s->stays = true;
        s->redefines = true;
        s->after_do = false;
    }
    if (c == '"' && s->before[0] == '&' && (s->before[1] | 0x20) == 'u')
        s->stays = true; /* a name in Unicode escapes may be any of the words */
    if (s->window != SCAN_SHUT)
        see_in_window(s, c);
}

static void see(struct scan *s, uint8_t c)
{
    bool digit = c >= '0' && c <= '9', upper = c >= 'A' && c <= 'Z';

    if (upper || (c >= 'a' && c <= 'z') || c == '_' || c >= 0x80 || (digit && s->n > 0)) {
        if (s->n < SCAN_WORD_MAX)
            s->word[s->n] = (char)(upper ? c | 0x20 : c);
        if (s->n <= SCAN_WORD_MAX)
            s->n++;
    } else if (!digit) {
        see_mark(s, c);
    }
    s->before[1] = s->before[0];
    s->before[0] = c;
}

/* --- messages
 * -----------------------------------------------------------------------------------------------------------
 */

static void end_text(struct scan *s)
{
    see_mark(s, ';'); /* a DO with nothing behind it is one too */
    s->window = SCAN_SHUT;
    s->after_or = false;
}

/* The text is the first string of a Query, the second one of a Parse. */
static void see_text(struct scan *s, const struct wire_piece *p)
{
    uint8_t text = p->type == 'Q' ? 0 : 1;

    for (size_t i = 0; i < p->len && s->nuls <= text; i++) {
        if (p->data[i] == 0) {
            if (s->nuls == text)
                end_text(s);
            s->nuls++;
        } else if (s->nuls == text) {
            see(s, p->data[i]);
        }
    }
    if (p->ends && s->nuls == text)
        end_text(s); /* cut off: Postgres will refuse it */
}

/* A name that is empty: the unnamed statement. */
static void keep_unnamed(struct scan *s, const struct wire_piece *p, bool failing)
{
    if (p->at == 0 && p->len > 0 && p->data[0] == 0) {
        buf_fini(&s->unnamed);
        s->keeps = p->body_len <= SCAN_UNNAMED_MAX && !failing;
    }
    if (s->keeps)
        buf_add(&s->unnamed, p->data, p->len);
    if (p->ends)
        s->keeps = false;
}

static void begin(struct scan *s, uint8_t type)
{
    s->nuls = 0;
    s->n = 0;
    s->before[0] = s->before[1] = 0;
    if (type == 'Q')
        buf_fini(&s->unnamed); /* Postgres drops it */
    if (type == 'F')
        s->stays = true; /* a function by its number */
}

void scan_client_bytes(struct scan *s, uint8_t *data, size_t len, bool failing)
{
    struct wire_piece p;
    size_t n;

    while ((n = wire_scan_next(&s->wire, data, len, &p)) > 0) {
        if (p.type != 0 && p.starts)
            begin(s, p.type);
        if (p.type == 'P')
            keep_unnamed(s, &p, failing);
        if (p.type == 'Q' || p.type == 'P')
            see_text(s, &p);
        data += n;
        len -= n;
    }
    s->stays |= s->wire.broken;
}

void scan_error(struct scan *s)
{
    buf_fini(&s->unnamed);
    s->keeps = false;
}

bool scan_has_unnamed(const struct scan *s)
{
    return s->unnamed.len > 0 && !s->keeps;
}
