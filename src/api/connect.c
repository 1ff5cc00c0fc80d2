/*
 * connect.c - connection strings and settings, by a table of formats
 *
 * Pure.
 */
#include "api/connect.h"

#include "base/buf.h"
#include "base/text.h"

#include <string.h>

struct place {
    const struct view_connection *c;
    const char *uri, *host, *options; /* options: NULL where the host says it all */
    int port;
};

static void add_line(struct buf *out, const char *name, const char *value)
{
    buf_addf(out, "%s=\"", name);
    for (const char *p = value; *p != '\0'; p++) {
        if (strchr("\"\\$`", *p) != NULL)
            buf_adds(out, "\\");
        buf_add(out, p, 1);
    }
    buf_adds(out, "\"\n");
}

static void put_url(struct buf *out, const struct place *p)
{
    buf_addf(out, "%s\n", p->uri);
}

static void put_env(struct buf *out, const struct place *p)
{
    auto_free char *port = xasprintf("%d", p->port);

    add_line(out, "DATABASE_URL", p->uri);
    add_line(out, "PGHOST", p->host);
    add_line(out, "PGPORT", port);
    add_line(out, "PGUSER", p->c->role);
    add_line(out, "PGPASSWORD", p->c->password);
    add_line(out, "PGDATABASE", p->c->database);
    add_line(out, "PGSSLMODE", "require");
    if (p->options != NULL)
        add_line(out, "PGOPTIONS", p->options);
}

static void add_pgpass(struct buf *out, const char *field, const char *end)
{
    for (const char *p = field; *p != '\0'; p++) {
        if (*p == ':' || *p == '\\')
            buf_adds(out, "\\");
        buf_add(out, p, 1);
    }
    buf_adds(out, end);
}

static void put_pgpass(struct buf *out, const struct place *p)
{
    add_pgpass(out, p->host, ":");
    buf_addf(out, "%d:", p->port);
    add_pgpass(out, p->c->database, ":");
    add_pgpass(out, p->c->role, ":");
    add_pgpass(out, p->c->password, "\n");
}

static void add_parameter(struct buf *out, const char *before, const char *value)
{
    auto_free char *encoded = text_url_encode(value);

    buf_addf(out, "%s%s", before, encoded);
}

static void put_jdbc(struct buf *out, const struct place *p)
{
    bool v6 = strchr(p->host, ':') != NULL;

    buf_addf(out, "jdbc:postgresql://%s%s%s:%d", v6 ? "[" : "", p->host, v6 ? "]" : "", p->port);
    add_parameter(out, "/", p->c->database);
    add_parameter(out, "?user=", p->c->role);
    add_parameter(out, "&password=", p->c->password);
    buf_adds(out, "&sslmode=require");
    if (p->options != NULL)
        add_parameter(out, "&options=", p->options);
    buf_adds(out, "\n");
}

/* A start takes longer than the five seconds that Prisma gives a connection by itself; behind a pooler it may
 * prepare nothing. */
static void put_prisma(struct buf *out, const struct place *p)
{
    buf_addf(out, "%s&connect_timeout=15%s\n", p->uri, p->c->pooled ? "&pgbouncer=true" : "");
}

static const struct format {
    const char *name;
    void (*put)(struct buf *out, const struct place *p);
} FORMATS[] = {
    { "url", put_url },   { "env", put_env },       { "pgpass", put_pgpass },
    { "jdbc", put_jdbc }, { "prisma", put_prisma },
};

static const struct format *find_format(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS(FORMATS); i++)
        if (strcmp(FORMATS[i].name, name) == 0)
            return &FORMATS[i];
    return NULL;
}

int connect_text(const struct sched_info *info, const struct view_connection *c, const char *format,
                 struct arena *a, const char **ret, struct err *err)
{
    const struct format *f = find_format(format);
    const char *label = arena_printf(a, "%s%s", c->endpoint_id, c->pooled ? VIEW_POOLER_SUFFIX : "");
    auto_free char *uri = view_uri(info, c);
    struct place p = { .c = c, .uri = uri, .port = info->pg_port };
    auto_buf out = { 0 };

    if (f == NULL)
        return err_set(err, ERR_BAD_REQUEST,
                       "the query parameter format must be url, env, pgpass, jdbc or prisma");
    p.host = info->has_domain ? arena_printf(a, "%s.%s", label, info->host_suffix) : info->pg_host;
    p.options = info->has_domain ? NULL : arena_printf(a, "endpoint=%s", label);
    f->put(&out, &p);
    *ret = arena_strdup(a, buf_str(&out));
    return 0;
}
