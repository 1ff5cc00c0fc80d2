/*
 * teller.c - tells a mere-proxy who may log in where (docs/wake-protocol.md)
 *
 * First all endpoints, some at a time as the proxy takes them, so that neither this thread nor the memory has
 * more to bear because there are many; then whatever the triggers of the metadata have noted.  What changes
 * meanwhile is noted too, and told again: telling twice is harmless, and forgetting impossible.  Each
 * connection has one of its own, so that no proxy waits for another.
 */
#include "scheduler/internal.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/log.h"
#include "base/text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE       32    /* endpoints, or changes, at once */
#define BACKLOG_MAX 65536 /* bytes; more is told when the proxy has taken these */
#define RETRY_MS    1000  /* after a failure to read */
#define LOGINS_MAX  4096  /* of one endpoint */

struct teller {
    struct sched *s;
    uint64_t connection;
    struct loop_timer *timer; /* the next piece */
    bool told_all;
    char after[ID_MAX + 1]; /* until then: the last endpoint that was told */
    int64_t told;           /* the number of the last change that was; 0 = none yet */
    struct waiter *looking; /* answered when nothing is left to tell */
};

/* ---- lines ---- */

/* Checked when it was set. */
static void write_ips(const struct listed *e, struct buf *lines)
{
    json_auto_t *settings = e->project_settings ? json_loads(e->project_settings, 0, NULL) : NULL;
    json_t *allowed = json_object_get(settings, "allowed_ips"), *ips = json_object_get(allowed, "ips"), *ip;
    bool some = json_is_true(json_object_get(allowed, "protected_branches_only")) && !e->is_protected;
    size_t i;
    if (some || json_array_size(ips) == 0) {
        buf_adds(lines, " -");
        return;
    }
    json_array_foreach(ips, i, ip) buf_addf(lines, "%c%s", i == 0 ? ' ' : ',', json_string_value(ip));
}

/* A role whose verifier cannot be read is told as one without, so that it alone has no way in. */
static void write_login(struct sched *s, struct arena *a, const struct role *r, struct buf *lines)
{
    struct err err = ERR_INIT;
    const char *plain = NULL;
    auto_free char *name = text_url_encode(r->name);
    auto_free char *verifier = NULL;
    if (!r->no_login && r->verifier && secret_open_verifier(s, a, r, &plain, &err) < 0)
        log_event(LOG_ERROR, "directory", "cannot read what is kept of a password", "br", r->branch_id,
                  "role", r->name, "error", err.msg, "detail", err.detail, NULL);
    if (plain)
        verifier = text_url_encode(plain);
    buf_addf(lines, "LOGIN %s %s ", name, verifier ? verifier : "-");
    if (r->valid_until == 0)
        buf_adds(lines, "-\n");
    else
        buf_addf(lines, "%" PRId64 "\n", r->valid_until);
}

void teller_write(struct sched *s, struct arena *a, const struct listed *e, const struct role *roles,
                  size_t n_roles, struct buf *lines)
{
    size_t n = n_roles < LOGINS_MAX ? n_roles : LOGINS_MAX;
    if (n < n_roles)
        log_event(LOG_WARN, "directory",
                  "more roles than mere-proxy is told of: the last ones by name cannot log in", "br",
                  e->branch_id, NULL);
    buf_addf(lines, " %s %zu", e->endpoint_id, n);
    write_ips(e, lines);
    buf_adds(lines, e->park_sessions ? " park\n" : " -\n");
    for (size_t i = 0; i < n; i++)
        write_login(s, a, &roles[i], lines);
}

static int write_endpoint(struct sched *s, struct dbc *c, struct arena *a, const struct listed *e,
                          struct buf *lines, struct err *err)
{
    struct role *roles;
    size_t n;
    if (role_list(c, a, e->branch_id, false, &roles, &n, err) < 0)
        return -1;
    pooler_users_changed(s, e->endpoint_id); /* before the proxy hears of it */
    buf_adds(lines, "ENDPOINT");
    teller_write(s, a, e, roles, n, lines);
    return 0;
}

/* ---- pieces ---- */

/* What roles that do not exist are challenged with has to stay the same, whoever challenges: it is made of
 * what we keep. */
static void write_beginning(struct sched *s, struct arena *a, struct buf *lines)
{
    static const char LABEL[] = "challenges of mere-proxy";
    uint8_t key[CRYPT_SHA256_SIZE];
    crypt_hmac(s->secret, LABEL, strlen(LABEL), key);
    buf_addf(lines, "DIRECTORY %s\n", crypt_hex(a, key, sizeof(key)));
    explicit_bzero(key, sizeof(key));
}

/* 1: there is more, 0: that was all. */
static int write_page(struct teller *t, struct arena *a, struct buf *lines, struct err *err)
{
    struct listed *list;
    size_t n;
    auto_dbc *c = NULL;
    if (db_read(t->s->env.db, &c, err) < 0)
        return -1;
    if (t->after[0] == '\0') {
        write_beginning(t->s, a, lines);
        if (directory_last_change(c, &t->told, err) < 0) /* what comes later is told again */
            return -1;
    }
    if (directory_page(c, a, t->after, PIECE, clock_wall_us(), &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (write_endpoint(t->s, c, a, &list[i], lines, err) < 0)
            return -1;
    t->told_all = n < PIECE;
    if (t->told_all)
        buf_adds(lines, "COMPLETE\n");
    else
        snprintf(t->after, sizeof(t->after), "%s", list[n - 1].endpoint_id);
    return 1;
}

static int write_change(struct teller *t, struct dbc *c, struct arena *a, const char *endpoint_id,
                        struct buf *lines, struct err *err)
{
    struct listed e;
    bool found;
    if (directory_get(c, a, endpoint_id, clock_wall_us(), &e, &found, err) < 0)
        return -1;
    if (found)
        return write_endpoint(t->s, c, a, &e, lines, err);
    buf_addf(lines, "FORGET %s\n", endpoint_id);
    return 0;
}

static int write_changes(struct teller *t, struct arena *a, struct buf *lines, struct err *err)
{
    struct listed_change *list;
    size_t n;
    auto_dbc *c = NULL;
    if (db_read(t->s->env.db, &c, err) < 0 || directory_changes(c, a, t->told, PIECE, &list, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (write_change(t, c, a, list[i].endpoint_id, lines, err) < 0)
            return -1;
    if (n > 0)
        t->told = list[n - 1].seq;
    return n > 0;
}

/* May end the connection, and t with it. */
static void answer(struct teller *t)
{
    auto_buf lines = { 0 };
    struct asker who;
    while (waiters_take(&t->looking, &who))
        buf_addf(&lines, "LOOKED %" PRId64 "\n", who.request);
    if (lines.len > 0)
        wake_send_to(t->s, t->connection, &lines);
}

/* One piece; the next one has its own turn of the loop. */
static void tell(void *arg)
{
    struct teller *t = arg;
    auto_arena *a = arena_new(0);
    auto_buf lines = { 0 };
    struct err err = ERR_INIT;
    if (wake_backlog(t->s, t->connection) > BACKLOG_MAX)
        return; /* teller_more goes on */
    int rc = t->told_all ? write_changes(t, a, &lines, &err) : write_page(t, a, &lines, &err);
    if (rc < 0) {
        log_event(LOG_ERROR, "directory", "cannot read who may log in", "error", err.msg, "detail",
                  err.detail, NULL);
        loop_timer_set(t->timer, RETRY_MS);
        return;
    }
    if (rc == 0) {
        answer(t);
        return;
    }
    loop_timer_set(t->timer, 0);
    wake_send_to(t->s, t->connection, &lines); /* the last: t may be gone */
}

void teller_more(struct teller *t)
{
    if (!loop_timer_armed(t->timer))
        loop_timer_set(t->timer, 0);
}

/* ---- LOOK ---- */

static void look_later(struct sched *s, struct asker who)
{
    struct teller *t = wake_teller(s, who.connection);
    if (!t)
        return; /* it asks again on the next one */
    waiters_add(&t->looking, who);
    teller_more(t);
}

void teller_look(struct sched *s, struct asker who, const char *endpoint_id)
{
    ops_look(s); /* a role that was asked for a moment ago is made first */
    struct compute *c = compute_find(s, endpoint_id);
    if (c && c->standby)
        c = compute_of_branch(s, c->branch_id, c);
    if (!c) {
        look_later(s, who);
    } else if (wake_teller(s, who.connection)) {
        waiters_add(&c->lookers, who);
        catalog_look(c);
    }
}

void teller_looked(struct sched *s, struct waiter **list)
{
    struct asker who;
    while (waiters_take(list, &who))
        look_later(s, who);
}

/* ---- life ---- */

struct teller *teller_new(struct sched *s, uint64_t connection)
{
    struct teller *t = xcalloc(1, sizeof(*t));
    t->s = s;
    t->connection = connection;
    t->timer = loop_timer_new(s->loop, tell, t);
    loop_timer_set(t->timer, 0);
    return t;
}

void teller_free(struct teller *t)
{
    if (!t)
        return;
    waiters_drop(&t->looking, 0);
    loop_timer_del(t->timer);
    free(t);
}

int64_t teller_told(const struct teller *t)
{
    return t->told;
}
