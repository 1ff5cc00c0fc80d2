/*
 * route.c - naming an endpoint
 *
 * Each way adds a claim; the first one is kept, every later one has to be equal.
 */
#include "proxy/route.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/id.h"
#include "base/text.h"

#define STATE_REJECTED    "08004"
#define STATE_UNSUPPORTED "0A000"
#define STATE_BAD_USER    "28000"
#define STATE_NO_DATABASE "3D000"
#define STATE_BAD_VALUE   "22023"

#define POOLER_SUFFIX "-pooler"
#define LABEL_MAX     63 /* of a host name */

static const char HINT_NAMING[] =
    "Name it in one of these ways: connect with TLS to the host ep-ID.DOMAIN (sslmode=require); add "
    "options=endpoint%3Dep-ID or options=branch%3DNAME to the connection string; or ask for the database as "
    "DATABASE@ep-ID.";

static const char HINT_MOMENT[] =
    "Write neon_lsn:0/16B3748 or neon_timestamp:2026-01-01T00:00:00Z in options, beside the branch.";

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n > m && strcmp(s + n - m, suffix) == 0;
}

/* Records that the client named (kind, name); an equal claim twice is fine. */
static int claim(struct route *r, enum route_kind kind, const char *name, struct wire_error *e)
{
    if (r->kind == ROUTE_NONE) {
        r->kind = kind;
        snprintf(r->name, sizeof(r->name), "%s", name);
        return 0;
    }
    if (r->kind == kind && strcmp(r->name, name) == 0)
        return 0;
    return wire_error_set(
        e, STATE_REJECTED,
        "Host name, options and database@endpoint may be combined, but they must name the same one.",
        "the connection names both \"%.200s\" and \"%.200s\"", r->name, name);
}

/* The id inside "ep-ID-pooler", the pooled host of an endpoint. */
static bool pooled_id(const char *id, char ret[LABEL_MAX + 1])
{
    if (!ends_with(id, POOLER_SUFFIX) || strlen(id) > LABEL_MAX)
        return false;
    snprintf(ret, LABEL_MAX + 1, "%.*s", (int)(strlen(id) - strlen(POOLER_SUFFIX)), id);
    return id_looks_like_endpoint(ret);
}

/* An endpoint id, perhaps that of a pooled host, from a place that can hold nothing else. */
static int claim_endpoint(struct route *r, const char *id, struct wire_error *e)
{
    char direct[LABEL_MAX + 1];

    if (pooled_id(id, direct)) {
        r->pooled = true;
        id = direct;
    }
    if (!id_looks_like_endpoint(id) || !id_is_valid(id))
        return wire_error_set(e, STATE_REJECTED, HINT_NAMING, "\"%.200s\" is not an endpoint id", id);
    return claim(r, ROUTE_ENDPOINT, id, e);
}

static int claim_branch(struct route *r, const char *name, struct wire_error *e)
{
    if (!text_is_name(name, ROUTE_NAME_MAX))
        return wire_error_set(e, STATE_REJECTED, HINT_NAMING,
                              "the branch name in options is empty, too long or has forbidden characters");
    return claim(r, ROUTE_BRANCH, name, e);
}

/* Only a first label with our prefixes names something: the server may well be reached under a name of its
 * own. */
static int claim_sni(struct route *r, const char *sni, struct wire_error *e)
{
    char label[LABEL_MAX + 1];
    size_t n = strcspn(sni, ".");

    if (n > LABEL_MAX)
        return 0;
    for (size_t i = 0; i < n; i++)
        label[i] = (char)tolower((unsigned char)sni[i]);
    label[n] = '\0';
    if (text_starts_with(label, "ep-"))
        return claim_endpoint(r, label, e);
    if (!text_starts_with(label, "br-"))
        return 0;
    if (!id_looks_like_branch(label) || !id_is_valid(label))
        return wire_error_set(e, STATE_REJECTED, HINT_NAMING, "\"%s\" is not a branch id", label);
    return claim(r, ROUTE_BRANCH, label, e);
}

/* --- options
 * ---------------------------------------------------------------------------------------------------- */

/* What isspace() says in the C locale, which is what Postgres splits by. */
static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * One word at *p, which moves behind it.  Postgres's rule: words are separated by blanks, a backslash makes
 * the next byte plain.  The decoded word goes to word (cleared first).
 */
static void take_word(const char **p, struct buf *word)
{
    buf_clear(word);
    for (; **p != '\0' && !is_blank(**p); (*p)++) {
        if (**p == '\\' && *++*p == '\0')
            return;
        buf_add(word, *p, 1);
    }
}

/* One moment, in a form that mered will read as we did. */
static int claim_moment(struct route *r, const char *kind, const char *value, const char *word,
                        struct wire_error *e)
{
    uint64_t lsn = 0;
    int64_t time_us = 0;
    bool good = strcmp(kind, "lsn") == 0 ? text_to_lsn(value, &lsn) && lsn != 0
                                         : text_to_time(value, &time_us) && time_us != 0;
    char moment[ROUTE_MOMENT_MAX + 1];

    if (!good || snprintf(moment, sizeof(moment), "%s:%s", kind, value) > ROUTE_MOMENT_MAX)
        return wire_error_set(e, STATE_BAD_VALUE, HINT_MOMENT, "\"%.100s\" names no moment", word);
    if (r->moment[0] != '\0' && strcmp(r->moment, moment) != 0)
        return wire_error_set(e, STATE_BAD_VALUE, "Name one LSN or one time.",
                              "the connection names two moments");
    memcpy(r->moment, moment, sizeof(moment));
    return 0;
}

static int claim_lsn(struct route *r, const char *value, const char *word, struct wire_error *e)
{
    return claim_moment(r, "lsn", value, word, e);
}

static int claim_time(struct route *r, const char *value, const char *word, struct wire_error *e)
{
    return claim_moment(r, "time", value, word, e);
}

/* Clients say it beside a moment, where it is true anyway. */
static int claim_type(struct route *r, const char *value, const char *word, struct wire_error *e)
{
    if (strcmp(value, "read_only") != 0)
        return wire_error_set(e, STATE_UNSUPPORTED, "Create a branch at that moment and connect to it.",
                              "what is past can only be read (\"%.100s\")", word);
    r->wants_reader = true;
    return 0;
}

static int claim_endpoint_word(struct route *r, const char *value, const char *word, struct wire_error *e)
{
    (void)word;
    return claim_endpoint(r, value, e);
}

static int claim_branch_word(struct route *r, const char *value, const char *word, struct wire_error *e)
{
    (void)word;
    return claim_branch(r, value, e);
}

static const struct {
    const char *prefix;
    int (*claim)(struct route *r, const char *value, const char *word, struct wire_error *e);
} OPTION_WORDS[] = {
    { "endpoint=", claim_endpoint_word }, { "project=", claim_endpoint_word },
    { "branch=", claim_branch_word },     { "neon_lsn:", claim_lsn },
    { "neon_timestamp:", claim_time },    { "neon_endpoint_type:", claim_type },
};

/* 1: the word was ours and is left out; 0: it is Postgres's; -1: refused. */
static int option_word(struct route *r, const char *word, struct wire_error *e)
{
    for (size_t i = 0; i < N_ELEMENTS(OPTION_WORDS); i++) {
        const char *prefix = OPTION_WORDS[i].prefix;

        if (text_starts_with(word, prefix))
            return OPTION_WORDS[i].claim(r, word + strlen(prefix), word, e) < 0 ? -1 : 1;
    }
    return text_starts_with(word, "neon_") && strchr(word, ':') != NULL;
}

/* Copies options to kept without our words; the bytes of the others, blanks included, stay as they are. */
static int read_options(struct route *r, const char *options, struct buf *kept, struct wire_error *e)
{
    auto_buf word = { 0 };
    bool argument = false; /* the word before was -c: this one is a setting, whatever it looks like */
    const char *p = options;

    while (*p != '\0') {
        const char *gap = p, *start;
        int ours = 0;

        while (is_blank(*p))
            p++;
        start = p;
        take_word(&p, &word);
        if (!argument && start < p)
            ours = option_word(r, buf_str(&word), e);
        if (ours < 0)
            return -1;
        if (!ours)
            buf_add(kept, gap, (size_t)(p - gap));
        argument = !argument && strcmp(buf_str(&word), "-c") == 0;
    }
    return 0;
}

static bool is_all_blank(const char *s)
{
    while (is_blank(*s))
        s++;
    return *s == '\0';
}

/* --- the rest of the packet
 * ---------------------------------------------------------------------------------------- */

/* database@endpoint: *ret_len bytes of the value are the database. */
static int read_database(struct route *r, const char *value, size_t *ret_len, struct wire_error *e)
{
    const char *at = strrchr(value, '@');
    char direct[LABEL_MAX + 1];

    *ret_len = strlen(value);
    if (at == NULL || !(id_looks_like_endpoint(at + 1) || pooled_id(at + 1, direct)))
        return 0;
    if (at == value)
        return wire_error_set(e, STATE_NO_DATABASE, "Write DATABASE@ENDPOINT.",
                              "no database named in front of \"%.70s\"", value);
    *ret_len = (size_t)(at - value);
    return claim_endpoint(r, at + 1, e);
}

/* Postgres's own spellings of false. */
static bool is_false(const char *s)
{
    static const char *const WORDS[] = { "false", "off", "no", "0", "f", "n" };

    for (size_t i = 0; i < N_ELEMENTS(WORDS); i++)
        if (strcasecmp(s, WORDS[i]) == 0)
            return true;
    return false;
}

static int check_allowed(const struct wire_startup *s, const char *const *reserved, size_t n,
                         struct wire_error *e)
{
    const char *replication = wire_startup_find(s, "replication"), *user = wire_startup_find(s, "user");

    if (replication != NULL && !is_false(replication))
        return wire_error_set(e, STATE_UNSUPPORTED, "Connect without the parameter \"replication\".",
                              "replication connections are not available");
    for (size_t i = 0; i < n; i++)
        if (strcmp(user, reserved[i]) == 0)
            return wire_error_set(e, STATE_BAD_USER, "Connect as a role of the branch.",
                                  "role \"%.63s\" is reserved", user);
    return 0;
}

static int add_param(struct route *r, const struct wire_param *p, bool *ret_options, struct wire_error *e)
{
    auto_buf kept = { 0 };
    size_t len;

    if (wire_param_is_extension(p))
        return 0;
    if (strcmp(p->name, "options") == 0) {
        if (read_options(r, p->value, &kept, e) < 0)
            return -1;
        if (is_all_blank(buf_str(&kept)))
            return 0;
        *ret_options = true;
    } else if (strcmp(p->name, "database") == 0) {
        if (read_database(r, p->value, &len, e) < 0)
            return -1;
        buf_add(&kept, p->value, len);
        if (len > 0 && len <= WIRE_NAME_MAX)
            snprintf(r->database, sizeof(r->database), "%s", buf_str(&kept));
    } else {
        buf_adds(&kept, p->value);
    }
    wire_startup_param(&r->packet, p->name, buf_str(&kept));
    return 0;
}

/* What PgBouncer keeps apart for each client.  The last one it leaves out: since Postgres 12 it changes
 * nothing that drivers rely on. */
static bool is_pooled_param(const struct wire_param *p)
{
    static const char *const WORDS[] = { "user", "database", "options", "replication" };
    static const char *const SETTINGS[] = {
        "application_name", "client_encoding",    "DateStyle", "standard_conforming_strings",
        "TimeZone",         "extra_float_digits",
    };

    for (size_t i = 0; i < N_ELEMENTS(WORDS); i++)
        if (strcmp(p->name, WORDS[i]) == 0)
            return true;
    for (size_t i = 0; i < N_ELEMENTS(SETTINGS); i++)
        if (strcasecmp(p->name, SETTINGS[i]) == 0)
            return true;
    return wire_param_is_extension(p);
}

/*
 * Many clients share one session of Postgres: what a client wants to be in force from the start would be in
 * force for others, or not at all.  Said here, because PgBouncer's own words name no way out.
 */
static int check_pooled(const struct route *r, const struct wire_startup *s, bool has_options,
                        struct wire_error *e)
{
    char hint[sizeof(e->hint)];

    snprintf(hint, sizeof(hint), "Leave \"-pooler\" out, and connect to \"%s\" directly.", r->name);
    if (has_options)
        return wire_error_set(e, STATE_UNSUPPORTED, hint,
                              "a pooled connection takes no options but those that name the endpoint");
    if (r->moment[0] != '\0' || r->wants_reader)
        return wire_error_set(e, STATE_UNSUPPORTED, hint, "what is past is not pooled");
    if (strcmp(r->database, "pgbouncer") == 0)
        return wire_error_set(e, STATE_UNSUPPORTED, hint,
                              "\"pgbouncer\" is no database for pooled connections");
    for (size_t i = 0; i < s->n; i++)
        if (!is_pooled_param(&s->params[i]))
            return wire_error_set(e, STATE_UNSUPPORTED, hint,
                                  "a pooled connection cannot begin with the setting \"%.63s\"",
                                  s->params[i].name);
    return 0;
}

int route_find(const struct wire_startup *s, const char *sni, const char *const *reserved, size_t n,
               struct route *ret, struct wire_error *e)
{
    const char *database;
    bool has_options = false;
    size_t mark;

    *ret = (struct route){ .kind = ROUTE_NONE };
    if (check_allowed(s, reserved, n, e) < 0)
        return -1;
    snprintf(ret->user, sizeof(ret->user), "%s", wire_startup_find(s, "user"));
    database = wire_startup_find(s, "database");
    if (database == NULL || database[0] == '\0')
        memcpy(ret->database, ret->user, sizeof(ret->user));
    if (sni != NULL && claim_sni(ret, sni, e) < 0)
        return -1;
    mark = wire_startup_begin(&ret->packet);
    for (size_t i = 0; i < s->n; i++)
        if (add_param(ret, &s->params[i], &has_options, e) < 0)
            return -1;
    wire_startup_end(&ret->packet, mark);
    if (ret->kind == ROUTE_NONE)
        return wire_error_set(e, STATE_REJECTED, HINT_NAMING, "no endpoint is named");
    if (ret->wants_reader && ret->moment[0] == '\0')
        return wire_error_set(e, STATE_UNSUPPORTED, "Name an endpoint by its id.",
                              "an endpoint cannot be chosen by its type");
    return ret->pooled ? check_pooled(ret, s, has_options, e) : 0;
}

void route_fini(struct route *r)
{
    buf_fini(&r->packet);
}
