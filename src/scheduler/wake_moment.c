/*
 * wake_moment.c - clients that want a branch as it was: from a moment to the compute that serves it
 *
 * Which moment is meant takes reading WAL, so a worker does it; the loop thread lets the client wait for the
 * compute afterwards.  What was asked on a connection that is lost since is asked again on the next one.
 */
#include "scheduler/internal.h"

#include "base/log.h"
#include "base/text.h"
#include "scheduler/intent.h"

#include <stdio.h>
#include <string.h>

struct ask {
    struct task t;
    struct asker who;
    char branch_id[ID_MAX + 1];
    uint64_t lsn;
    int64_t time_us;
    struct endpoint endpoint; /* the answer */
};

static void ask_run(struct task *t)
{
    struct ask *k = (struct ask *)t;
    t->rc = intent_moment_read(t->s, t->a, k->branch_id, k->lsn, k->time_us, &k->endpoint, &t->err);
}

static void refuse(const struct ask *k)
{
    static const struct {
        enum err_code code;
        const char *sqlstate, *hint;
    } WHY[] = {
        { ERR_INVALID, "22023", "Name an LSN or a time that the branch's history reaches." },
        { ERR_NOT_FOUND, "3D000", "Check the name of the branch." },
        { ERR_DAMAGED, "55000",
          "Look at the branch: GET /api/v2/projects/{project_id}/branches/{branch_id}" },
        { ERR_DISK_FULL, "53100", "Free some space on the server's disk." },
        { ERR_UNAVAILABLE, "57P03", "Try again in a moment." },
        { ERR_TIMEOUT, "57P03", "Try again in a moment." },
    };
    const struct err *err = &k->t.err;
    for (size_t i = 0; i < N_ELEMENTS(WHY); i++)
        if (WHY[i].code == err->code) {
            wake_say_err(k->t.s, k->who, WHY[i].sqlstate, err->msg, WHY[i].hint);
            return;
        }
    log_event(LOG_ERROR, "wake", "cannot lead a client to a moment", "br", k->branch_id, "error", err->msg,
              "detail", err->detail, NULL);
    wake_say_err(k->t.s, k->who, "58000", err->msg, NULL);
}

static void ask_done(struct task *t)
{
    struct ask *k = (struct ask *)t;
    struct sched *s = t->s;
    if (t->rc == 0)
        ops_look(s); /* its start is ordered there, whoever waits for it */
    if (!wake_hears(s, k->who.connection))
        return;
    if (t->rc == 0)
        wake_join(s, &k->endpoint, k->who, false);
    else
        refuse(k);
}

/* "lsn:0/16B3748" or "time:2026-01-01T00:00:00Z", as the proxy has checked it already. */
static bool read_moment(const char *text, uint64_t *ret_lsn, int64_t *ret_time_us)
{
    if (text_starts_with(text, "lsn:"))
        return text_to_lsn(text + strlen("lsn:"), ret_lsn) && *ret_lsn != 0;
    return text_starts_with(text, "time:") && text_to_time(text + strlen("time:"), ret_time_us) &&
           *ret_time_us != 0;
}

void wake_moment(struct sched *s, struct asker who, const char *branch_id, const char *moment)
{
    uint64_t lsn = 0;
    int64_t time_us = 0;
    if (!read_moment(moment, &lsn, &time_us)) {
        wake_say_err(s, who, "22023", "this is neither an LSN nor a time",
                     "Write neon_lsn:0/16B3748 or neon_timestamp:2026-01-01T00:00:00Z.");
        return;
    }
    struct ask *k = task_new(s, sizeof(*k), ask_run, ask_done);
    k->t.slow = true;
    k->who = who;
    k->lsn = lsn;
    k->time_us = time_us;
    snprintf(k->branch_id, sizeof(k->branch_id), "%s", branch_id);
    task_submit(&k->t);
}
