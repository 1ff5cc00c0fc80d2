/*
 * internal.h - what the files of the scheduler share; nobody outside includes it
 *
 * Threads: everything here belongs to the loop thread unless it says otherwise.  Workers get a struct task,
 * which holds all they may touch, and give it back.
 */
#ifndef MERE_SCHED_INTERNAL_H
#define MERE_SCHED_INTERNAL_H

#include "base/buf.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/proc.h"
#include "branch/env.h"
#include "meta/branch.h"
#include "meta/directory.h"
#include "meta/endpoint.h"
#include "meta/operation.h"
#include "meta/project.h"
#include "meta/role.h"
#include "pg/admin.h"
#include "scheduler/certs.h"
#include "scheduler/idle.h"
#include "scheduler/sched.h"
#include "scheduler/start_stop.h"

#include <pthread.h>
#include <stdatomic.h>

struct compute;
struct teller;
struct op;
struct keeper;
struct pooler;
struct wake;
struct workers;

struct sched {
    struct env env;
    struct sched_info info;
    struct arena *arena; /* strings that live as long as we do */
    uint8_t secret[32];
    bool keep_computes;

    /* Changed by a reload, read by any thread. */
    _Atomic int64_t suspend_default_seconds, suspend_min_seconds;
    _Atomic uint64_t reserve_bytes;
    bool (*reload)(void *arg, struct arena *a, struct sched_live *ret);
    void *reload_arg;

    struct loop *loop;
    pthread_t loop_thread;
    struct workers *workers;
    struct wake *wake;
    struct keeper *keeper;
    struct certs certs;
    int cert_fd, cert_key_fd; /* the last pair that fitted */
    struct loop_timer *certs_timer;
    struct loop_timer *alive_timer;
    bool hangup_ends; /* SIGHUP, when the terminal is gone that we were started on */

    struct compute *computes[1024]; /* by hash of the endpoint id */
    int n_starting, max_starting;
    struct op *ops;              /* open operations, oldest first */
    bool ops_looking, ops_again; /* ops.c, while it goes through them */
    int inotify_fd;
    struct loop_fd *inotify_source;
    struct loop_timer *housekeeping;
    unsigned housekeepings;
    bool measuring; /* a task measures a branch */
    int64_t measure_after_ms;
    bool sweeping;
    bool stamping; /* images.c */
    bool stopping; /* no start any more */
    bool loop_running;
    _Atomic bool stop_asked; /* set before the kick that tells the loop */

    /* Read by who looks into history, written by who decides what of it goes. */
    pthread_rwlock_t history_lock;
    _Atomic bool sweep_asked;
    _Atomic bool directory_changed; /* mere-proxy is to be told */

    /* Waiting threads: bumped and broadcast whenever an operation or a fork may have changed. */
    pthread_mutex_t change_mutex;
    pthread_cond_t change_cond;
    uint64_t changes;
    bool proxy_ready;   /* under change_mutex */
    int signalled;      /* under change_mutex: the signal that ends us; 0 = none came */
    int schema_readers; /* under change_mutex: requests that read schemas */
};

/* Any thread, after a commit that somebody may wait for. */
void sched_changed(struct sched *s);
/* Any thread: what of history is kept has changed; look soon. */
void sched_sweep_soon(struct sched *s);
/* Any waiting thread: seen = sched_seen(); look; then wait for a change since. false: the deadline
 * (clock_mono_ms) has passed. */
uint64_t sched_seen(struct sched *s);
bool sched_wait_change(struct sched *s, uint64_t seen, int64_t deadline_ms);
/* Any thread: ERR_DISK_FULL when a file system we write to is below its reserve. */
int sched_space(struct sched *s, struct err *err) MUST_CHECK;

/* ---- workers.c ---- */

/* One piece of slow work.  Embed it first in a struct of your own; task_new allocates that. */
struct task {
    struct task *next;
    struct sched *s;
    struct arena *a;
    struct compute *c;            /* it works for this one, which is not forgotten meanwhile; or NULL */
    bool slow;                    /* may take minutes: never on the last workers, which starts need */
    void (*run)(struct task *t);  /* on a worker; may fill err and rc */
    void (*done)(struct task *t); /* on the loop thread; the task is freed afterwards */
    int rc;
    struct err err;
};

void *task_new(struct sched *s, size_t size, void (*run)(struct task *), void (*done)(struct task *));
void task_submit(struct task *t);

int workers_start(struct sched *s, int n, struct err *err) MUST_CHECK;
/* On the loop thread, from the kick: hands finished tasks to their done(). */
void workers_collect(struct sched *s);
bool workers_busy(struct sched *s);
void workers_stop(struct sched *s);

/* ---- compute.c ---- */

enum compute_state {
    COMPUTE_STOPPED,
    COMPUTE_PREPARING,
    COMPUTE_STARTING,
    COMPUTE_RUNNING,
    COMPUTE_DRAINING,
    COMPUTE_STOPPING,
    COMPUTE_CAPTURING,
    COMPUTE_FAILED,
    COMPUTE_N_STATES,
};

/* The door is shut; the activity is looked at a last time; the proxy examines what can be parked. */
enum compute_drain { DRAIN_HOLD, DRAIN_LOOK, DRAIN_PARK };

enum compute_event {
    EVENT_WANT_RUN,
    EVENT_WANT_STOP,
    EVENT_PREPARED,
    EVENT_READY,
    EVENT_IDLE,
    EVENT_BUSY,
    EVENT_EXITED,
    EVENT_CAPTURED,
    EVENT_ERROR,
    EVENT_TIMEOUT,
    EVENT_N,
};

#define FOLLOW_LED_SIZE (ID_MAX + 24)

/* Who asks: one of the proxies, by the number of its connection, with its own number of the question. */
struct asker {
    uint64_t connection;
    int64_t request;
};

/* A question of mere-proxy's that is not answered yet; lists are in the order they came. */
struct waiter {
    struct waiter *next;
    struct asker who;
    bool pooled; /* it needs the pooler as well */
};

/* Where the time of a start went, in milliseconds.  up_ms is the moment at which Postgres let sessions in. */
struct start_phases {
    int64_t wait, prepare, recover, ready;
    int64_t up_ms;
};

struct compute {
    struct compute *next;
    struct sched *s;
    char id[ID_MAX + 1];
    char branch_id[ID_MAX + 1];
    char volume_id[ID_MAX + 1]; /* of its latest start */
    char project_id[ID_MAX + 1];

    enum compute_state state;
    bool standby;   /* it replays what others wrote, and writes nothing */
    uint64_t least; /* of a standby that follows its branch: to be replayed before anybody is let in */
    bool want_run;
    bool force;               /* the wanted stop may cut sessions that are active */
    enum compute_drain drain; /* how far DRAINING has come */
    bool deleted;             /* the row goes once it is stopped */
    int pins;                 /* jobs that need its state to stay; no stop and no start meanwhile */
    int tasks;                /* under way for it */
    int64_t generation;
    int64_t state_since_ms;

    int lock_fd; /* held while preparing and capturing; Postgres holds its own */
    int pidfd;
    int wait_status; /* of its latest end; -1 = not known */
    off_t log_from;  /* where its log was when it was spawned */
    struct loop_fd *pid_source;
    struct proc_identity who;
    int inotify_wd[2];             /* the data directory and its global/, while starting */
    struct loop_timer *timer;      /* deadline of the present state */
    struct loop_timer *idle_timer; /* next look at the activity; the end of the last one's time */
    struct loop_timer *gone_timer; /* next try of the lock after the postmaster's exit */
    int64_t exited_ms;             /* when the postmaster ended; 0 = it lives or none is known */
    int rung;                      /* of the stop ladder */

    /* Of the present start. */
    struct arena *start_arena;
    const char *const *argv;
    const char *socket;
    int64_t max_clients;
    bool first, pending_roles;
    bool empties;            /* before anybody is let in it has to lose its parent's rows */
    bool promoted;           /* it was told that it has replayed enough */
    bool finishing, joining; /* a task verifies it, or moves it into its control group */
    int64_t wake_started_ms;
    struct start_phases phases;
    char start_op[ID_MAX + 1]; /* the operation of a wake by a client, or empty */

    struct pg_admin *admin;
    bool admin_busy;                         /* a task has it */
    char catalog_mark[PG_CATALOG_MARK_SIZE]; /* of the catalogue that the rows were made to agree with */
    struct idle idle;
    int64_t suspend_timeout_ms; /* -1 = never */
    bool suspend_default;       /* it is the setting's, not its endpoint's own */
    bool parks;                 /* its idle sessions outlive a suspend */

    struct pg_archiver archiver; /* as last recorded */
    int64_t archive_backlog;
    bool imaging;            /* images.c takes an image of it */
    uint64_t image_look_lsn; /* no use in looking whether one is due before its WAL is there */

    char led_to[FOLLOW_LED_SIZE]; /* of a follower: the compute, and its generation, that it was led to */
    bool leading;                 /* a task leads it elsewhere */

    struct pooler *pooler; /* NULL = none */

    /* HOLD or PARK, to all proxies. */
    int64_t question; /* its number */
    int unanswered;   /* proxies */
    int64_t active;   /* what those that have answered make together */

    struct waiter *waiters; /* WAKE; of a running one: those who need the pooler, too */
    struct waiter *lookers; /* LOOK, while another task has the admin session */
    enum err_code error_code;
    char error[256]; /* why the last start failed */
    int n_failures;
};

struct compute *compute_find(struct sched *s, const char *endpoint_id);
/* Finds or makes it (state as the row's process tells only after adoption; STOPPED when new). */
struct compute *compute_get(struct sched *s, const struct endpoint *e);
/* The one that writes this branch, other than `but`, and is neither stopped nor failed; or NULL. */
struct compute *compute_of_branch(struct sched *s, const char *branch_id, const struct compute *but);
void computes_free(struct sched *s);    /* all of them, at the end; nothing is stopped */
void compute_forget(struct compute *c); /* frees a stopped one nobody needs */
void compute_want(struct compute *c, bool run, bool force);
/* Level-triggered: does what brings observed nearer to wanted.  Call after any change. */
void compute_step(struct compute *c);
void compute_step_all(struct sched *s);
/* The only caller of the transition table and the only writer of state. */
void compute_event(struct compute *c, enum compute_event ev);
const char *compute_state_name(enum compute_state st);
bool compute_has_served(enum compute_state st); /* Postgres is up, or on its way out */
/* The state it is found in when we start; nothing else writes state beside compute_event. */
void compute_found(struct compute *c, enum compute_state st);
void compute_fail(struct compute *c, enum err_code code,
                  const char *why); /* remembers the reason; follow with EVENT_ERROR or EVENT_EXITED */
typedef void (*compute_fn)(struct compute *c, void *arg);
void compute_each(struct sched *s, compute_fn fn, void *arg);

/* ---- start.c: from wanted to running ---- */

void supervise_prepare(struct compute *c);
void supervise_spawn(struct compute *c);
void supervise_release(struct compute *c); /* ready: let the waiting in, record it */
void supervise_failed(struct compute *c);
/* The machine went down while it ran without syncing: what is on disk may be anything. */
bool supervise_is_lost(const struct branch *b);
/* The endpoint reads a branch that goes on, on a volume of its own that has the endpoint's id. */
bool supervise_follows(const struct endpoint *e, const struct branch *b);
const char *supervise_volume(const struct endpoint *e, const struct branch *b);
/* Finds out why a start ended, where nothing is known yet. */
void supervise_explain(struct compute *c);
/* How clients are told why it does not start. */
const char *supervise_sqlstate(const struct compute *c);
/* Watches the process in c->pidfd, and its data directory until it says that it is ready. */
void supervise_watch(struct compute *c);
#define SUPERVISE_START_TIMEOUT_MS                                                                           \
    300000 /* recovery may replay up to max_wal_size; clients have their own deadline */

/* ---- ready.c: between spawned and running ---- */

void supervise_watch_data(struct compute *c);
void supervise_unwatch_data(struct compute *c);
void supervise_on_inotify(void *arg, int fd, unsigned events);
void supervise_look_at_status(struct compute *c);
void supervise_join_group(struct compute *c); /* beside the start */

/* ---- meter.c ---- */

/* Housekeeping: notes what is used.  In a worker. */
int meter_sweep(struct sched *s, struct err *err) MUST_CHECK;

/* ---- adopt.c ---- */

/* Kills every process that holds the lock of this branch's computes; in a worker or at start. */
int supervise_kill_holders(const struct env *env, struct arena *a, const char *volume_id,
                           struct err *err) MUST_CHECK;

/* At start: finds what survived us and leaves the compute in its true state. */
int supervise_adopt(struct sched *s, const struct endpoint *e, struct err *err) MUST_CHECK;
/* Writes what users see of it: observed, generation, process, times.  Failure is logged: the next write
 * repairs it. */
void supervise_record(struct compute *c, const char *desired);

/* ---- stop.c: from running to suspended ---- */

void supervise_hold(struct compute *c);
void supervise_reopen(struct compute *c);
void supervise_held(struct compute *c, int64_t active);   /* the proxy's answer to HOLD */
void supervise_parked(struct compute *c, int64_t active); /* and to PARK */
void supervise_stop(struct compute *c);                   /* first rung */
void supervise_stop_now(struct compute *c);               /* a start that takes too long */
void supervise_next_rung(struct compute *c);
void supervise_capture(struct compute *c);
void supervise_stopped(struct compute *c);
void supervise_crashed(struct compute *c);
void supervise_exited(struct compute *c); /* the postmaster is gone: wait for the rest, then EVENT_EXITED */
void supervise_look_at(struct compute *c, int64_t after_ms); /* arms the next look at its activity */
/* A task is done with the compute's admin session (NULL = it could not be opened): kept while it runs, else
 * closed. */
void supervise_give_back(struct compute *c, struct pg_admin *admin);
/* From the kick: whoever had the admin session may have given it back. */
void supervise_session_free(struct compute *c);
void supervise_clear(
    struct compute *c); /* lock, group, sockets, session: all that a stopped compute does not have */

/* ---- ops.c ---- */

/* Loads new open operations and works on all that can move. */
void ops_look(struct sched *s);
/* At the end: forgets what is still open; its rows stay. */
void ops_free(struct sched *s);
/* The branch is still being forked, or is being exchanged for another state: nothing of it can start. */
bool ops_keep_from_starting(struct sched *s, const char *branch_id);
/* A task is forking from this branch. */
bool ops_forked_from(struct sched *s, const char *branch_id);
/* A compute changed state: finish what waited for it, go on with what was blocked. */
void ops_compute_changed(struct compute *c);

/* ---- jobs (each starts a task for one operation; the op is finished by ops_finish) ---- */

struct op {
    struct op *next;
    struct sched *s;
    struct arena *a;
    struct operation row;
    char parent_id[ID_MAX + 1]; /* of a fork: the branch it is made from; of a finalize_restore: the one that
                                   is replaced */
    atomic_bool acknowledged; /* of a fork: it is fixed and told; only its image may be incomplete.  Its task
                                 may set it. */
    bool running;             /* it has begun */
    int64_t retry_ms;         /* not before (clock_mono_ms) */
    bool tasked;              /* a task has it: hands off until its done() */
};
/* Its task did not succeed, but may: looked at again, at once or after a while. */
void ops_retry(struct op *op, bool at_once);
/* Final status: commits it, unlinks and frees the op, steps everything. error NULL = finished. */
void ops_finish(struct op *op, const char *status, const char *error);
/* Brings all computes of the operation's branch to a standstill; true when they stand.  refuse: what those
 * are told who wait for one; NULL = they go on waiting, until ops_wake_branch(). */
bool ops_stop_branch(struct sched *s, const char *branch_id, const char *refuse);
void ops_wake_branch(struct sched *s, const char *branch_id);

enum verdict {
    WAIT, /* for a compute, a branch or a while: it is looked at again */
    GO,   /* its task can start */
    DONE, /* it was finished, and freed */
};
/* Of a restore: all of it. */
enum verdict job_restore_look(struct op *op);
void job_fork_start(struct op *op);
/* A branch that was never acknowledged as ready leaves nothing behind, nor do those that wait for it. */
void job_fork_undo(struct op *op);
void job_delete_start(struct op *op);
/*
 * A restored branch takes the place of another one once both stand still.  true: it is over, well or (err is
 * filled) not; false: look again.
 */
bool job_finalize(struct op *op, struct err *err);
void job_apply_start(struct op *op, struct compute *c);
/* Applies all waiting role and database rows of a branch; in a worker.  What Postgres refuses to drop is
 * there to stay, except at a start, where it is left to an operation. */
int job_apply_pending(struct sched *s, struct arena *a, const char *branch_id, struct pg_admin *admin,
                      bool at_start, struct err *err) MUST_CHECK;

/* Brings one role row and the catalogue together, its password too, and settles the row; in a worker. */
int job_make_role(struct sched *s, struct arena *a, struct role *r, struct pg_admin *admin,
                  struct err *err) MUST_CHECK;

/* The same for the extensions of its databases.  What Postgres refuses is not wished for any longer, except
 * at a start. */
int job_apply_extensions(struct sched *s, struct arena *a, const char *branch_id, const char *socket_dir,
                         bool at_start, struct err *err) MUST_CHECK;

/* ---- catalog.c ---- */

/*
 * Makes the rows of a branch those of its catalogue, wishes excepted; in a worker that has the admin session
 * of the branch's writer.  mark becomes that of the catalogue that was read, unless it is to be read again.
 */
int catalog_sync(struct sched *s, struct arena *a, const char *branch_id, struct pg_admin *admin,
                 char mark[PG_CATALOG_MARK_SIZE], struct err *err) MUST_CHECK;

/* ---- wake.c ---- */

int wake_start(struct sched *s, struct err *err) MUST_CHECK;
void wake_stop(struct sched *s);
const char *wake_socket_path(struct sched *s, struct arena *a);
/* The proxy that takes new clients is there. */
bool wake_connected(struct sched *s);
/* So are all that have older ones: what they say together is said of every session. */
bool wake_complete(struct sched *s);
/* Some proxy is there. */
bool wake_anybody(struct sched *s);
void wake_answer(struct compute *c); /* all waiters: OK; but where they need a pooler, it is started first */
void wake_refuse(struct compute *c, const char *sqlstate, const char *msg,
                 const char *hint); /* all waiters: ERR */
/* Those who wait for the pooler. */
void wake_refuse_pooled(struct compute *c, const char *sqlstate, const char *msg, const char *hint);
void wake_hold(struct compute *c);
void wake_park(struct compute *c);
void wake_release(struct compute *c);
void wake_gone(struct compute *c);
void wake_drop(struct compute *c);
/* The proxy is to have another certificate: certs_pass, when the line before it has left. */
void wake_certificate(struct sched *s);

/* The connection is still there: an answer would reach who asked. */
bool wake_hears(struct sched *s, uint64_t connection);
void wake_say_err(struct sched *s, struct asker who, const char *sqlstate, const char *msg, const char *hint);
/* Answers at once when its compute runs, otherwise the request waits for it, and it is wanted. */
void wake_join(struct sched *s, const struct endpoint *e, struct asker who, bool pooled);
#define WAKE_PROTOCOL 4

struct waiter *waiters_add(struct waiter **list, struct asker who);
bool waiters_take(struct waiter **list, struct asker *ret);   /* the first one; false = there is none */
void waiters_drop(struct waiter **list, uint64_t connection); /* those who asked on it; 0 = all */
/* Whole lines, to all proxies; may lose some. */
void wake_send(struct sched *s, const struct buf *lines);
/* The same to one; nothing when it is not there any more. */
void wake_send_to(struct sched *s, uint64_t connection, const struct buf *lines);
size_t wake_backlog(struct sched *s, uint64_t connection);        /* bytes that it has not taken yet */
struct teller *wake_teller(struct sched *s, uint64_t connection); /* NULL = it is not there any more */
/* Something has changed that proxies are told of. */
void wake_news(struct sched *s);
/* Changes up to here need not be kept. */
int64_t wake_told(struct sched *s);
/* How many proxies there are beside each one has changed. */
void wake_others(struct sched *s);
/* The proxy with this pid is to give its listening sockets into fd, which is taken over, and closed when it
 * is not there. */
void wake_retire(struct sched *s, int64_t pid, int fd);

/* ---- wake_name.c ---- */

/* Why a client is not led where it wants to; msg NULL = it is. */
struct wake_error {
    const char *sqlstate, *msg, *hint;
};
/* What a client named.  The present of a branch is served by its writer; its past needs no endpoint. */
struct wake_place {
    struct branch branch;
    struct endpoint endpoint;
};
/* kind, name and whether a moment of it is meant as in docs/wake-protocol.md. */
int wake_resolve(struct sched *s, struct arena *a, const char *kind, const char *name, bool past,
                 struct wake_place *ret, struct wake_error *why, struct err *err) MUST_CHECK;
/* Of a branch: listed.endpoint_id is its writer, or the branch's own id. */
struct wake_found {
    struct listed listed;
    struct role *roles;
    size_t n_roles;
};
int wake_find(struct sched *s, struct arena *a, const char *name, struct wake_found *ret,
              struct wake_error *why, struct err *err) MUST_CHECK;

/* ---- teller.c: what mere-proxy knows of all endpoints ---- */

/* For a proxy that has said HELLO: it is told all, and then what changes. */
struct teller *teller_new(struct sched *s, uint64_t connection);
void teller_free(struct teller *t); /* accepts NULL */
void teller_more(struct teller *t); /* it has taken what it was told, or something has changed: goes on */
/* The number of the last change that it need not be told any more; 0 = none. */
int64_t teller_told(const struct teller *t);
/* LOOK; endpoint_id "-" = nothing is read from Postgres first. */
void teller_look(struct sched *s, struct asker who, const char *endpoint_id);
/* What LOOK has waited for was read: all of *list are answered behind what it has changed. */
void teller_looked(struct sched *s, struct waiter **list);
/* " EP N IPS" and the lines LOGIN. */
void teller_write(struct sched *s, struct arena *a, const struct listed *e, const struct role *roles,
                  size_t n_roles, struct buf *lines);

/* ---- look.c ---- */

/* Reads the roles of a running compute for those in c->lookers, once nobody else has its admin session. */
void catalog_look(struct compute *c);

/* ---- pooler.c ---- */

/* Of a running compute, unless it has one: answers who waits for it when it listens. */
void pooler_start(struct compute *c);
const char *pooler_socket(const struct compute *c); /* NULL = it does not listen */
/* The compute is over. */
void pooler_stop(struct compute *c);
/* Its roles or their passwords are others now: what comes behind this call finds them. */
void pooler_users_changed(struct sched *s, const char *endpoint_id);
/* At start, when the computes are found: those of running ones go on, what else there is goes. */
void pooler_adopt(struct sched *s);
void pooler_free(struct pooler *p); /* memory and descriptors; accepts NULL */

/* ---- wake_moment.c ---- */

/* The request asks for a branch, which is there, as it was: moment as in docs/wake-protocol.md. */
void wake_moment(struct sched *s, struct asker who, const char *branch_id, const char *moment);

/* ---- keeper.c ---- */

struct keeper_spec {
    const char *listen_host;
    int listen_port;
    int listen_fd;            /* a socket that listens there already; -1 = mere-proxy opens it */
    const char *const *flags; /* more words for its command line, ended by NULL */
    int64_t drain_ms;         /* what it takes to end when it is told to */
    uid_t uid;
    gid_t gid;
};
int keeper_start(struct sched *s, const struct keeper_spec *spec, struct err *err) MUST_CHECK;
/* Any thread, once the loop runs: 0 when mere-proxy has said where it listens; else why there is no use in
 * waiting longer: it ended, a signal came, the time is up. */
int keeper_wait(struct sched *s, struct err *err) MUST_CHECK;
/* A mere-proxy said HELLO in our protocol; port 0 = it takes no new clients. */
void keeper_hello(struct sched *s, int64_t pid, const char *host, int port);
/* One said it in another. */
void keeper_stranger(struct sched *s, int64_t pid);
/* Proxies that only serve the sessions they have. */
size_t keeper_retired(struct sched *s);
/* Another setting: one that was started with other flags is followed by one with these, which are copied. */
void keeper_change(struct sched *s, const char *const *flags, int64_t drain_ms);
/* All end, sessions at work within the time to drain, and none is started any more.  True: some live yet, and
 * the loop is kicked when one has ended. */
bool keeper_drain(struct sched *s);
void keeper_stop(struct sched *s, bool keep);
/* There were proxies of an earlier life of ours: a start that fails leaves them alone. */
bool keeper_adopted(struct sched *s);
uid_t keeper_uid(struct sched *s);

/* ---- certs.c ---- */

int certs_start(struct sched *s, struct err *err) MUST_CHECK;
void certs_stop(struct sched *s);
/* The files may have changed: if they are good, mere-proxy gets them. */
void certs_reload(struct sched *s);
/* The line CERT and its two descriptors into the wake socket; false = it takes nothing now. */
bool certs_pass(const struct sched *s, int socket);

/* ---- service.c ---- */

int service_start(struct sched *s, struct err *err) MUST_CHECK;
/* What does not need the loop of it. */
void service_live(struct sched *s, const struct sched_live *live);
void service_stop(struct sched *s);

/* ---- archiver.c ---- */

/* What a running compute says of its archiver; backlog: how many segments wait. */
void archiver_seen(struct compute *c, const struct pg_archiver *now, int64_t backlog);

/* ---- images.c ---- */

/* From housekeeping. */
void images_look(struct sched *s);
/* A running compute's WAL is on disk up to here: is an image of it due? */
void images_flushed(struct compute *c, uint64_t lsn);

/* ---- follow.c ---- */

/* Where the followers' own volume keeps the password of PG_REPLICA_ROLE. */
int follow_write_password(struct sched *s, struct arena *a, const char *project_id, const char *volume_id,
                          struct err *err) MUST_CHECK;
/* c came up or went: it, or those that follow its branch, are told whom to receive WAL from. */
void follow_changed(struct compute *c);
/* At start: what changed while nobody looked. */
void follow_look(struct sched *s);

/* ---- secrets.c (any thread) ---- */

/* A password into ret->sealed, and out of it; ERR_PRECONDITION when none is stored. */
int secret_seal(struct sched *s, struct arena *a, const char *branch_id, const char *role, const char *plain,
                struct role *ret, struct err *err) MUST_CHECK;
int secret_open(struct sched *s, struct arena *a, const struct role *r, const char **ret_plain,
                struct err *err) MUST_CHECK;
/* The same for the verifier: into ret->verifier, and out of it; *ret NULL when there is none. */
int secret_seal_verifier(struct sched *s, struct arena *a, const char *branch_id, const char *role,
                         const char *verifier, struct role *ret, struct err *err) MUST_CHECK;
int secret_open_verifier(struct sched *s, struct arena *a, const struct role *r, const char **ret,
                         struct err *err) MUST_CHECK;
/* Of PG_REPLICA_ROLE in all branches of the project: always the same ones, kept nowhere. */
int secret_replica(struct sched *s, struct arena *a, const char *project_id, const char **ret_password,
                   const char **ret_verifier, struct err *err) MUST_CHECK;
/* Before there is a scheduler: is this key of 32 bytes the one that the verifier of a row is sealed with? */
int secret_try(const uint8_t *key, struct arena *a, const struct role *r, struct err *err) MUST_CHECK;

#endif
