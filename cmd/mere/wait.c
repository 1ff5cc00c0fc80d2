/*
 * wait.c - waiting for operations, and what came of them
 *
 * After a second it says on a terminal what it waits for.  Ctrl-C ends the waiting, not the work.
 */
#include "cli.h"

#include <poll.h>

#include "base/clock.h"

#define LONG_POLL_S   20   /* below what proxies between us and the server cut off */
#define POLL_PAUSE_MS 100  /* when a server answers a long poll at once */
#define SILENT_MS     1000 /* what takes no longer needs no words */

struct wait {
    struct cli *c;
    const char *project;
    int64_t since_ms, deadline_ms;
    bool gone_is_done; /* 404 counts as finished */
    const char *action, *id;
};

static bool is_over(const char *status)
{
    return strcmp(status, "scheduling") != 0 && strcmp(status, "running") != 0 &&
           strcmp(status, "cancelling") != 0;
}

/* About once a second during a call; true ends it. */
static bool on_tick(void *arg)
{
    struct wait *w = arg;
    int64_t ms = clock_mono_ms() - w->since_ms;

    if (ms >= SILENT_MS)
        cli_progress(w->c, "%s, %lld s", w->action, (long long)(ms / 1000));
    return cli_signal() != 0;
}

static int stopped(struct wait *w)
{
    return cli_fail(CLI_TIMED_OUT, "stopped waiting for %s, which goes on: mere operations get %s", w->action,
                    w->id);
}

/* The state of the operation, asked with a long poll of at most left_ms; *ret stays NULL when it is gone and
 * that is what was wanted. */
static int ask_operation(struct wait *w, int64_t left_ms, json_t **ret)
{
    const struct cli_patience patience = { on_tick, w };
    int64_t seconds = left_ms / 1000 < LONG_POLL_S ? left_ms / 1000 : LONG_POLL_S;
    int64_t asked_ms = clock_mono_ms();
    struct cli *c = w->c;
    struct err err = ERR_INIT;
    json_auto_t *answer = NULL;
    int status;
    const char *path = arena_printf(c->arena, "%s/projects/%s/operations/%s?wait=true&timeout=%d", CLI_API,
                                    cli_enc(c, w->project), cli_enc(c, w->id), (int)seconds);

    if (cli_exchange(c, "GET", path, NULL, &patience, &status, &answer, &err) < 0)
        return cli_signal() != 0 ? stopped(w) : cli_no_answer(c, &err);
    if (status == 404 && w->gone_is_done)
        return CLI_OK;
    if (status != 200 || answer == NULL)
        return cli_refused(c, status, answer);
    *ret = json_incref(answer);
    if (left_ms > 0 && clock_mono_ms() - asked_ms < POLL_PAUSE_MS &&
        !is_over(cli_text(c, answer, "operation.status"))) {
        poll(NULL, 0, POLL_PAUSE_MS);
        if (on_tick(w))
            return stopped(w);
    }
    return CLI_OK;
}

/* Follows one operation to its end or the deadline; *ret is how it ended. */
static int wait_operation(struct wait *w, json_t **ret)
{
    struct cli *c = w->c;

    for (;;) {
        int64_t left_ms = w->deadline_ms - clock_mono_ms();
        json_auto_t *answer = NULL;
        const char *status;
        int rc = ask_operation(w, left_ms > 0 ? left_ms : 0, &answer);

        if (rc != CLI_OK || answer == NULL)
            return rc;
        status = cli_text(c, answer, "operation.status");
        w->action = cli_text(c, answer, "operation.action");
        if (strcmp(status, "finished") == 0 || strcmp(status, "skipped") == 0) {
            *ret = json_incref(json_object_get(answer, "operation"));
            return CLI_OK;
        }
        if (is_over(status))
            return cli_fail(CLI_FAILURE, "%s %s: %s", w->action, status,
                            cli_text(c, answer, "operation.error"));
        if (left_ms <= 0)
            return cli_fail(CLI_TIMED_OUT, "%s is not done yet; it goes on: mere operations get %s",
                            w->action, w->id);
    }
}

/* *ret_waited: how many there were to wait for.  Each is put into the answer as it ended. */
static int wait_all(struct cli *c, const char *project, json_t *answer, bool gone_is_done, size_t *ret_waited)
{
    int64_t now = clock_mono_ms();
    struct wait w = { .c = c,
                      .project = project,
                      .since_ms = now,
                      .deadline_ms = now + (int64_t)c->timeout_s * 1000,
                      .gone_is_done = gone_is_done };
    json_t *operations = json_object_get(answer, "operations"), *operation;
    size_t i;

    *ret_waited = 0;
    json_array_foreach(operations, i, operation)
    {
        const char *status = cli_text(c, operation, "status");
        json_auto_t *ended = NULL;
        int rc;

        if (is_over(status) && strcmp(status, "failed") != 0)
            continue;
        w.id = cli_text(c, operation, "id");
        w.action = cli_text(c, operation, "action");
        rc = wait_operation(&w, &ended);
        if (rc != CLI_OK)
            return rc;
        if (ended != NULL)
            json_array_set(operations, i, ended);
        (*ret_waited)++;
    }
    return CLI_OK;
}

/* --- the answer, as things are after the waiting --- */

/* Where the members of an answer can be asked for again, below the project. */
static const struct {
    const char *key, *folder;
} ASKED_AGAIN[] = {
    { "branch", "/branches/" },
    { "endpoint", "/endpoints/" },
};

/* What is not there any more (it was just deleted) stays as it was told. */
static json_t *as_it_is(struct cli *c, const char *project, const char *folder, const char *key, json_t *old)
{
    json_auto_t *answer = NULL;
    struct err err = ERR_INIT;
    int status;
    const char *id = cli_text(c, old, "id");
    const char *path =
        arena_printf(c->arena, "%s/projects/%s%s%s", CLI_API, cli_enc(c, project), folder, cli_enc(c, id));
    json_t *now;

    if (id[0] == '\0' || cli_exchange(c, "GET", path, NULL, NULL, &status, &answer, &err) < 0 ||
        status != 200)
        return json_incref(old);
    now = json_object_get(answer, key);
    return json_incref(now != NULL ? now : old);
}

static void refresh(struct cli *c, const char *project, json_t *answer)
{
    json_t *endpoints = json_object_get(answer, "endpoints"), *one;
    size_t i;

    for (i = 0; i < N_ELEMENTS(ASKED_AGAIN); i++) {
        one = json_object_get(answer, ASKED_AGAIN[i].key);
        if (one != NULL)
            json_object_set_new(answer, ASKED_AGAIN[i].key,
                                as_it_is(c, project, ASKED_AGAIN[i].folder, ASKED_AGAIN[i].key, one));
    }
    json_array_foreach(endpoints, i, one)
        json_array_set_new(endpoints, i, as_it_is(c, project, "/endpoints/", "endpoint", one));
}

/* --- entry points --- */

static int wait_held(struct cli *c, const char *project, json_t *answer, bool gone_is_done,
                     size_t *ret_waited)
{
    int rc;

    cli_hold_signals();
    rc = wait_all(c, project, answer, gone_is_done, ret_waited);
    cli_release_signals();
    cli_progress_end();
    return rc;
}

int cli_wait(struct cli *c, const char *project, json_t *answer)
{
    size_t waited = 0;
    int rc = c->opt[OPT_NO_WAIT] != NULL ? CLI_OK : wait_held(c, project, answer, false, &waited);

    if (rc == CLI_OK && waited > 0)
        refresh(c, project, answer);
    return rc;
}

int cli_wait_gone(struct cli *c, const char *project)
{
    json_auto_t *answer = NULL;
    json_t *operation;
    size_t i = 0, waited;
    int status, rc;

    if (c->opt[OPT_NO_WAIT] != NULL)
        return CLI_OK;
    rc = cli_ask(c, "GET", arena_printf(c->arena, "/projects/%s/operations?limit=1000", cli_enc(c, project)),
                 NULL, &status, &answer);
    if (rc != CLI_OK)
        return rc;
    if (status == 404)
        return CLI_OK;
    /* What failed earlier in the project's life is nobody's concern now. */
    while ((operation = json_array_get(json_object_get(answer, "operations"), i)) != NULL) {
        if (is_over(cli_text(c, operation, "status")))
            json_array_remove(json_object_get(answer, "operations"), i);
        else
            i++;
    }
    return wait_held(c, project, answer, true, &waited);
}
