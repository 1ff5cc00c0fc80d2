/*
 * follow.c - leads followers to the compute that writes their branch, and away when it stops
 *
 * A follower reads its branch's WAL from files (mere-wal follow), which always works and is late by up to a
 * second; while the branch runs it receives it from that compute's socket as well.  Whom to receive from is
 * one file of its configuration, written here before a SIGHUP.  With nobody to receive from the file says so:
 * Postgres would try, and log it, twice a second.
 */
#include "scheduler/internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "pg/conf.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ADMIN_OPEN_MS 10000
#define NOT_KNOWN     "?" /* in led_to */

struct lead {
    struct task t;
    char id[ID_MAX + 1];
    char project_id[ID_MAX + 1];
    char volume_id[ID_MAX + 1];
    char writer[ID_MAX + 1]; /* empty: nobody writes now */
    char led_to[FOLLOW_LED_SIZE];
    int64_t generation; /* of the follower */
};

/* A standby of one moment has its branch's volume. */
static bool follows(const struct compute *c)
{
    return c->standby && strcmp(c->volume_id, c->id) == 0;
}

static const char *passfile(struct arena *a, const char *data_dir)
{
    return arena_printf(a, "%s/" PG_REPLICA_ROLE ".pass", data_dir);
}

int follow_write_password(struct sched *s, struct arena *a, const char *project_id, const char *volume_id,
                          struct err *err)
{
    const char *password, *verifier;
    if (secret_replica(s, a, project_id, &password, &verifier, err) < 0)
        return -1;
    const char *line = arena_printf(a, "*:*:*:" PG_REPLICA_ROLE ":%s\n", password);
    return fs_write_plain(passfile(a, env_pgdata(&s->env, a, volume_id)), line, strlen(line), 0600,
                          s->env.uid, s->env.gid, err);
}

/* The branch may never have been followed. */
static int introduce(struct lead *k, struct err *err)
{
    struct sched *s = k->t.s;
    struct pg_admin *admin = NULL;
    const char *password, *verifier;
    if (secret_replica(s, k->t.a, k->project_id, &password, &verifier, err) < 0 ||
        pg_admin_open(env_socket_dir(&s->env, k->t.a, k->writer), ADMIN_OPEN_MS, &admin, err) < 0)
        return -1;
    int rc = pg_admin_replica_ensure(admin, verifier, err);
    pg_admin_close(admin);
    return rc;
}

static void lead_run(struct task *t)
{
    struct lead *k = (struct lead *)t;
    const struct env *env = &t->s->env;
    const char *socket_dir = NULL;
    struct env_view view;
    if (k->writer[0]) {
        socket_dir = env_socket_dir(env, t->a, k->writer);
        t->rc = introduce(k, &t->err);
    }
    env_view(env, t->a, k->volume_id, k->volume_id, NULL, &view);
    if (t->rc == 0)
        t->rc = pg_conf_write_primary(env_conf_dir(env, t->a, k->id), socket_dir,
                                      passfile(t->a, view.data_dir), &t->err);
}

static bool is_up(const struct compute *c)
{
    return c->state == COMPUTE_RUNNING || c->state == COMPUTE_DRAINING;
}

/* Its branch's writer as led_to names it, or empty; the writer, or NULL.  One that stops sends all it has
 * before it ends, so nobody is led away from it earlier. */
static const struct compute *find_writer(struct compute *c, char ret[FOLLOW_LED_SIZE])
{
    const struct compute *writer = compute_of_branch(c->s, c->branch_id, NULL);
    ret[0] = '\0';
    if (!writer || !compute_has_served(writer->state))
        return NULL;
    snprintf(ret, FOLLOW_LED_SIZE, "%s/%" PRId64, writer->id, writer->generation);
    if (is_up(writer) || strcmp(ret, c->led_to) == 0)
        return writer;
    ret[0] = '\0';
    return NULL;
}

static void lead_step(struct compute *c, void *arg);

static void tell_failure(const struct lead *k)
{
    char now[FOLLOW_LED_SIZE];
    (void)find_writer(k->t.c, now);
    if (strcmp(now, k->led_to) == 0) /* else it stopped meanwhile */
        log_event(LOG_WARN, "follow",
                  "a follower cannot receive WAL from its branch and only reads its files", "ep", k->id,
                  "from", k->led_to, "error", k->t.err.msg, "detail", k->t.err.detail, NULL);
}

static void lead_done(struct task *t)
{
    struct lead *k = (struct lead *)t;
    struct compute *c = t->c;
    c->leading = false;
    if (c->generation != k->generation) {
        snprintf(c->led_to, sizeof(c->led_to), NOT_KNOWN);
    } else if (is_up(c)) {
        if (t->rc < 0) /* not tried again before something changes */
            tell_failure(k);
        snprintf(c->led_to, sizeof(c->led_to), "%s", k->led_to);
        (void)proc_signal(c->pidfd, SIGHUP);
    }
    lead_step(c, NULL);
}

static void lead_step(struct compute *c, void *arg)
{
    char want[FOLLOW_LED_SIZE];
    (void)arg;
    if (!follows(c) || !is_up(c) || c->leading)
        return;
    const struct compute *writer = find_writer(c, want);
    if (strcmp(want, c->led_to) == 0)
        return;
    struct lead *k = task_new(c->s, sizeof(*k), lead_run, lead_done);
    k->t.c = c;
    k->t.slow = true; /* it may wait for a server that hangs */
    k->generation = c->generation;
    snprintf(k->id, sizeof(k->id), "%s", c->id);
    snprintf(k->project_id, sizeof(k->project_id), "%s", c->project_id);
    snprintf(k->volume_id, sizeof(k->volume_id), "%s", c->volume_id);
    snprintf(k->writer, sizeof(k->writer), "%s", writer ? writer->id : "");
    snprintf(k->led_to, sizeof(k->led_to), "%s", want);
    c->leading = true;
    task_submit(&k->t);
}

static void lead_if_of_branch(struct compute *c, void *arg)
{
    const struct compute *writer = arg;
    if (strcmp(c->branch_id, writer->branch_id) == 0)
        lead_step(c, NULL);
}

void follow_changed(struct compute *c)
{
    if (c->standby)
        lead_step(c, NULL);
    else
        compute_each(c->s, lead_if_of_branch, c);
}

static void look_again(struct compute *c, void *arg)
{
    snprintf(c->led_to, sizeof(c->led_to), NOT_KNOWN);
    lead_step(c, arg);
}

void follow_look(struct sched *s)
{
    compute_each(s, look_again, NULL);
}
