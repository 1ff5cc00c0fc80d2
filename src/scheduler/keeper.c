/*
 * keeper.c - keeps one mere-proxy running for new clients: starts it, adopts it after our restart, starts it
 * again when it ends
 *
 * It outlives us like a compute; who it is and what it was started with are in the instance table.  One that
 * would not be started like that today, or from another binary, hands its listening sockets to a successor:
 *
 *     it says HELLO          the successor is started, with one end of a socket pair as its descriptor 3
 *     a byte comes back      the successor has all it needs but the sockets: the old one gets RETIRE and the
 *                            other end, into which it puts them
 *     the pair is closed     the successor failed: the old one goes on
 *
 * A socket that our service manager opened for the Postgres port goes into the pair first; where there is no
 * mere-proxy before, the first one gets it in this way.
 *
 * A retired proxy serves the sessions it has and ends with the last one.
 */
#include "scheduler/internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pass.h"
#include "pg/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RESPAWN_MS     500
#define LAST_WORDS_MS  3000 /* beside the time it drains */
#define KILLED_MS      8000
#define SEEK_MS        5000 /* proxies come back within a second; with FOLLOW_MS less than READY_MS */
#define SEEK_NONE_MS   1500 /* where the one that takes new clients has most probably ended */
#define FOLLOW_MS      8000
#define RETIRED_MAX    8
#define READY_MS       15000
#define LAST_WORDS_MAX 2048

/* A proxy that lives, started by us or by an earlier life of ours. */
struct member {
    struct keeper *keeper;
    struct member *next; /* the one that was retired after it */
    struct proc_identity who;
    char *setup; /* with which it was started; empty = not known */
    bool heard;  /* it has said HELLO */
    int pidfd;
    struct loop_fd *source;
    struct loop_timer *kill; /* it is told to end */
};

enum keeper_state {
    KEEPER_SERVES, /* the first one takes new clients, or soon will */
    KEEPER_SEEKS, /* one of those that live does, and is to be followed by another as soon as it says HELLO */
    KEEPER_FOLLOWS, /* its successor is being started */
    KEEPER_ENDS,    /* it could not hand over and is told to end; then another one is started */
};

struct keeper {
    struct sched *s;
    struct keeper_spec spec; /* its flags are in words */
    struct arena *words;
    enum keeper_state state;
    char *setup; /* of today: protocol, binary, host and flags as text, to tell another one by */
    int port;    /* what it listens on; 0 until the first HELLO */
    off_t log_from;
    struct member *first; /* NULL = none lives */
    struct member *next;  /* its successor, while FOLLOWS */
    int hand_fd;          /* our end of the pair */
    struct loop_fd *hand_source;
    struct member *retired;   /* the oldest one first */
    struct loop_timer *timer; /* of the state; KEEPER_SERVES: the next start */
    bool found;               /* there were some when we started: they do not end with a start that fails */
    bool adopted;             /* the first is one of those */
    bool ended;               /* before it ever was ready; under change_mutex */
};

uid_t keeper_uid(struct sched *s)
{
    return s->env.as_root ? s->keeper->spec.uid : geteuid();
}

static char *log_path(const struct keeper *p)
{
    return xasprintf("%s/logs/proxy.log", p->s->env.data_dir);
}

/* Another file is another binary, whatever its version says. */
static void describe_binary(const struct keeper *p, struct buf *text)
{
    auto_free char *path = xasprintf("%s/mere-proxy", p->s->env.bin_dir);
    struct stat st;
    if (stat(path, &st) == 0)
        buf_addf(text, " %u:%u %" PRIu64 " %" PRId64 " %" PRId64, major(st.st_dev), minor(st.st_dev),
                 (uint64_t)st.st_ino, (int64_t)st.st_size, (int64_t)st.st_mtime);
}

/* The certificate is no part of it: that of today is handed over. */
static char *describe(const struct keeper *p)
{
    auto_buf text = { 0 };
    buf_addf(&text, "wake %d", WAKE_PROTOCOL);
    describe_binary(p, &text);
    buf_addf(&text, "\n%s", p->spec.listen_host);
    for (size_t i = 0; p->spec.flags[i]; i++)
        buf_addf(&text, "\n%s", p->spec.flags[i]);
    return xstrdup(buf_str(&text));
}

static void write_member(struct buf *text, const struct member *m)
{
    static const struct proc_identity NOBODY = { .boot_id = "-" };
    const struct proc_identity *who = m ? &m->who : &NOBODY;
    buf_addf(text, "%" PRId64 " %" PRId64 " %s", who->pid, who->start_time, who->boot_id);
}

/* "PID START BOOT PORT" of the first, then its setup; one "PID START BOOT" a line of those that are retired.
 */
static void remember(struct keeper *p)
{
    auto_dbc *c = NULL;
    struct err err = ERR_INIT;
    auto_buf proxy = { 0 }, retired = { 0 };
    write_member(&proxy, p->first);
    buf_addf(&proxy, " %d\n%s", p->port, p->first ? p->first->setup : "");
    for (const struct member *m = p->retired; m; m = m->next) {
        write_member(&retired, m);
        buf_adds(&retired, "\n");
    }
    if (db_write(p->s->env.db, &c, &err) < 0 || instance_set(c, "proxy", buf_str(&proxy), &err) < 0 ||
        instance_set(c, "retired_proxies", buf_str(&retired), &err) < 0 || db_commit(c, &err) < 0)
        log_event(LOG_ERROR, "proxy", "cannot record mere-proxy", "detail", err.detail, NULL);
}

static void on_end(void *arg, int fd, unsigned events);

static struct member *member_new(struct keeper *p, const struct proc_identity *who, int pidfd,
                                 const char *setup)
{
    struct member *m = xcalloc(1, sizeof(*m));
    *m = (struct member){ .keeper = p, .who = *who, .pidfd = pidfd, .setup = xstrdup(setup) };
    m->source = loop_fd_add(p->s->loop, pidfd, LOOP_READ, on_end, m);
    return m;
}

static void member_free(struct member *m)
{
    if (!m)
        return;
    loop_fd_del(m->source);
    loop_timer_del(m->kill);
    fd_close(&m->pidfd);
    free(m->setup);
    free(m);
}

static void on_late(void *arg)
{
    struct member *m = arg;
    log_event(LOG_WARN, "proxy", "mere-proxy did not end in time; killing it", NULL);
    (void)proc_signal(m->pidfd, SIGKILL);
}

/* Its sessions are told why, as in any stop. */
static void end_member(struct member *m)
{
    if (m->kill)
        return;
    (void)proc_signal(m->pidfd, SIGTERM);
    m->kill = loop_timer_new(m->keeper->s->loop, on_late, m);
    loop_timer_set(m->kill, m->keeper->spec.drain_ms + LAST_WORDS_MS);
}

static void retired_add(struct keeper *p, struct member *m)
{
    struct member **at = &p->retired;
    while (*at)
        at = &(*at)->next;
    m->next = NULL;
    *at = m;
}

static void retired_remove(struct keeper *p, struct member *m)
{
    struct member **at = &p->retired;
    while (*at && *at != m)
        at = &(*at)->next;
    if (*at)
        *at = m->next;
}

static struct member *retired_find(struct keeper *p, int64_t pid)
{
    struct member *m = p->retired;
    while (m && m->who.pid != pid)
        m = m->next;
    return m;
}

/* The one that is noted at text, if it lives; *ret_rest is what is noted behind it. */
static int adopt(struct keeper *p, const char *text, struct member **ret, const char **ret_rest,
                 struct err *err)
{
    struct proc_identity who = { 0 };
    int pidfd, n = 0;
    *ret = NULL;
    *ret_rest = "";
    if (!text ||
        sscanf(text, "%" SCNd64 " %" SCNd64 " %39s%n", &who.pid, &who.start_time, who.boot_id, &n) != 3)
        return 0;
    *ret_rest = text + n;
    int alive = who.pid > 0 ? proc_adopt(&who, &pidfd, err) : 0;
    if (alive > 0)
        *ret = member_new(p, &who, pidfd, "");
    return alive < 0 ? -1 : 0;
}

/* Who lives, where it listened, and whether it was started with the setup of now. */
static int recall(struct keeper *p, bool *ret_same, struct err *err)
{
    auto_dbc *c = NULL;
    auto_arena *a = arena_new(0);
    const char *text = NULL, *retired = NULL;
    if (db_read(p->s->env.db, &c, err) < 0 || instance_get(c, a, "proxy", &text, err) < 0 ||
        instance_get(c, a, "retired_proxies", &retired, err) < 0 || adopt(p, text, &p->first, &text, err) < 0)
        return -1;
    if (sscanf(text, "%d", &p->port) != 1)
        p->port = 0;
    const char *setup = strchr(text, '\n');
    *ret_same = setup && strcmp(setup + 1, p->setup) == 0 &&
                (p->spec.listen_port == 0 || p->spec.listen_port == p->port);
    if (p->first && setup) {
        free(p->first->setup);
        p->first->setup = xstrdup(setup + 1);
    }
    while (retired && *retired) {
        struct member *m;
        if (adopt(p, retired, &m, &retired, err) < 0)
            return -1;
        if (m)
            retired_add(p, m);
        retired += *retired == '\n';
    }
    return 0;
}

/* One that cannot even start is the start's failure; one that served once is started again. */
static bool gave_up(struct keeper *p)
{
    struct sched *s = p->s;
    pthread_mutex_lock(&s->change_mutex);
    p->ended = !s->proxy_ready && !p->adopted;
    p->adopted = false;
    s->changes++;
    pthread_cond_broadcast(&s->change_cond);
    bool ended = p->ended;
    pthread_mutex_unlock(&s->change_mutex);
    return ended;
}

/* hand_fd: where it gets its listening sockets from; -1 = it opens them. */
static int spawn(struct keeper *p, int hand_fd, struct member **ret, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct sched *s = p->s;
    const char *argv[48];
    size_t n = 0;
    bool v6 = strchr(p->spec.listen_host, ':') != NULL;
    argv[n++] = arena_printf(a, "%s/mere-proxy", s->env.bin_dir);
    argv[n++] = "--listen";
    argv[n++] = arena_printf(a, v6 ? "[%s]:%d" : "%s:%d", p->spec.listen_host,
                             p->spec.listen_port ? p->spec.listen_port : p->port);
    if (hand_fd >= 0)
        argv[n++] = "--successor";
    argv[n++] = "--wake-socket";
    argv[n++] = wake_socket_path(s, a);
    argv[n++] = "--tls-cert"; /* what was last found good, whatever the files hold by now */
    argv[n++] = arena_printf(a, "/proc/%d/fd/%d", (int)getpid(), s->cert_fd);
    argv[n++] = "--tls-key";
    argv[n++] = arena_printf(a, "/proc/%d/fd/%d", (int)getpid(), s->cert_key_fd);
    argv[n++] = "--reserved-user";
    argv[n++] = PG_ADMIN_ROLE;
    argv[n++] = "--reserved-user";
    argv[n++] = PG_REPLICA_ROLE;
    for (size_t i = 0; p->spec.flags[i] && n < N_ELEMENTS(argv) - 5; i++)
        argv[n++] = p->spec.flags[i];
    if (s->env.as_root) {
        argv[n++] = "--uid";
        argv[n++] = arena_printf(a, "%u", (unsigned)p->spec.uid);
        argv[n++] = "--gid";
        argv[n++] = arena_printf(a, "%u", (unsigned)p->spec.gid);
    }
    argv[n] = NULL;
    auto_free char *log = log_path(p);
    auto_fd log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    p->log_from = log_fd < 0 ? 0 : lseek(log_fd, 0, SEEK_END);
    struct proc_spec spec = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = log_fd, .stderr_fd = log_fd, .keep_fd = hand_fd
    };
    struct proc_identity who;
    int pidfd;
    if (proc_spawn(&spec, &who, &pidfd, err) < 0)
        return -1;
    *ret = member_new(p, &who, pidfd, p->setup);
    return 0;
}

/* Where it was told to listen, before it has said so. */
static void remember_started(struct keeper *p)
{
    if (p->spec.listen_port)
        p->port = p->spec.listen_port;
    remember(p);
}

/* The first one takes new clients. */
static void serves(struct keeper *p, int port)
{
    struct sched *s = p->s;
    p->state = KEEPER_SERVES;
    if (p->first) /* else what it said before it ended was still on its way */
        loop_timer_clear(p->timer);
    if (p->port != port) {
        p->port = port;
        remember(p);
    }
    pthread_mutex_lock(&s->change_mutex);
    s->info.pg_port = port;
    s->proxy_ready = true;
    s->changes++;
    pthread_cond_broadcast(&s->change_cond);
    pthread_mutex_unlock(&s->change_mutex);
}

/* ---- hand-over ---- */

size_t keeper_retired(struct sched *s)
{
    size_t n = 0;
    for (const struct member *m = s->keeper->retired; m; m = m->next)
        n++;
    return n;
}

static void end_first(struct keeper *p, const char *why)
{
    log_event(LOG_WARN, "proxy", "mere-proxy cannot hand over to another one; ending it and its sessions",
              "reason", why, NULL);
    p->state = KEEPER_ENDS;
    loop_timer_clear(p->timer);
    end_member(p->first);
}

static void close_pair(struct keeper *p)
{
    loop_fd_del(TAKE(p->hand_source));
    fd_close(&p->hand_fd);
}

/* Better the old one than none. */
static void hand_over_failed(struct keeper *p, const char *why)
{
    auto_free char *log = log_path(p);
    log_event(LOG_ERROR, "proxy", "another mere-proxy could not be started; the old one goes on", "reason",
              why, "log", log, NULL);
    close_pair(p);
    if (p->next)
        (void)proc_signal(p->next->pidfd, SIGKILL);
    serves(p, p->port);
}

static void retire_first(struct keeper *p)
{
    retired_add(p, p->first);
    p->first = TAKE(p->next);
    size_t n = keeper_retired(p->s);
    for (struct member *m = p->retired; n > RETIRED_MAX; m = m->next, n--) {
        log_event(LOG_WARN, "proxy", "too many retired mere-proxies; ending the oldest one and its sessions",
                  NULL);
        end_member(m);
    }
}

/* What listens already is a proxy's as well as ours: whichever of them comes next gets it. */
static bool give_listener(struct keeper *p)
{
    return p->spec.listen_fd < 0 || pass_send(p->hand_fd, "", 1, &p->spec.listen_fd, 1) == 1;
}

static void retire_for_next(struct keeper *p)
{
    int64_t old = p->first->who.pid;
    loop_fd_del(TAKE(p->hand_source));
    retire_first(p);
    p->state = KEEPER_SERVES;
    loop_timer_clear(p->timer);
    remember_started(p); /* before: if we end here, the old one is found to listen yet */
    CRASH_POINT("proxy.retiring");
    wake_others(p->s);
    wake_retire(p->s, old, TAKE_FD(p->hand_fd));
    CRASH_POINT("proxy.retired");
    log_event(LOG_INFO, "proxy", "mere-proxy hands over to another one; its sessions go on", NULL);
}

/* The one that was started has all but the sockets, or has failed: then its end says why, too. */
static void on_hand(void *arg, int fd, unsigned events)
{
    struct keeper *p = arg;
    char byte;
    (void)events;
    bool given = recv(fd, &byte, 1, MSG_DONTWAIT) == 1 && give_listener(p);
    if (p->state != KEEPER_FOLLOWS)
        close_pair(p);
    else if (given)
        retire_for_next(p);
    else
        hand_over_failed(p, "it ended");
}

static int open_pair(struct keeper *p, int *ret_theirs)
{
    int pair[2];
    close_pair(p);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    p->hand_fd = pair[0];
    p->hand_source = loop_fd_add(p->s->loop, p->hand_fd, LOOP_READ, on_hand, p);
    *ret_theirs = pair[1];
    return 0;
}

static int start_first(struct keeper *p, struct err *err)
{
    auto_fd theirs = -1;
    if (p->spec.listen_fd >= 0 && open_pair(p, &theirs) < 0)
        return err_sys(err, "socketpair");
    if (spawn(p, theirs, &p->first, err) < 0) {
        close_pair(p);
        return -1;
    }
    remember_started(p);
    return 0;
}

static void start(struct keeper *p)
{
    struct err err = ERR_INIT;
    p->state = KEEPER_SERVES;
    if (start_first(p, &err) == 0)
        return;
    log_event(LOG_ERROR, "proxy", "cannot start mere-proxy", "error", err.msg, "detail", err.detail, NULL);
    loop_timer_set(p->timer, RESPAWN_MS);
}

static void hand_over(struct keeper *p)
{
    struct err err = ERR_INIT;
    auto_fd theirs = -1;
    log_event(LOG_INFO, "proxy",
              "mere-proxy was started otherwise than it would be now; starting its successor", NULL);
    if (open_pair(p, &theirs) < 0) {
        hand_over_failed(p, strerror(errno));
        return;
    }
    p->state = KEEPER_FOLLOWS;
    loop_timer_set(p->timer, FOLLOW_MS);
    if (spawn(p, theirs, &p->next, &err) < 0)
        hand_over_failed(p, err.msg);
}

/* It was started with other flags than it would be now: settings have changed since. */
static void follow_setup(struct keeper *p)
{
    if (p->state == KEEPER_SERVES && p->first && p->first->heard && strcmp(p->first->setup, p->setup) != 0)
        hand_over(p);
}

static void take_setup(struct keeper *p, const char *const *flags, int64_t drain_ms)
{
    struct arena *words = arena_new(0);
    size_t n = 0;
    while (flags[n])
        n++;
    const char **copy = arena_alloc(words, (n + 1) * sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        copy[i] = arena_strdup(words, flags[i]);
    copy[n] = NULL;
    arena_free(p->words);
    free(p->setup);
    p->words = words;
    p->spec.flags = copy;
    p->spec.drain_ms = drain_ms;
    p->setup = describe(p);
}

void keeper_change(struct sched *s, const char *const *flags, int64_t drain_ms)
{
    take_setup(s->keeper, flags, drain_ms);
    follow_setup(s->keeper);
}

/* One that was noted as retired, but takes new clients: it never heard of it.  True: it is the first again.
 */
static bool reinstate(struct keeper *p, int64_t pid)
{
    struct member *m = retired_find(p, pid);
    if (!m)
        return false;
    retired_remove(p, m);
    if (p->first)
        retired_add(p, p->first);
    p->first = m;
    return true;
}

static struct member *member_find(struct keeper *p, int64_t pid)
{
    return p->first && p->first->who.pid == pid ? p->first : retired_find(p, pid);
}

void keeper_hello(struct sched *s, int64_t pid, const char *host, int port)
{
    struct keeper *p = s->keeper;
    struct member *m = member_find(p, pid);
    if (m)
        m->heard = true;
    if (port == 0 || p->state == KEEPER_FOLLOWS || p->state == KEEPER_ENDS)
        return;
    if (reinstate(p, pid) || (p->state == KEEPER_SEEKS && m)) {
        p->port = port;
        hand_over(p);
    } else if (p->state == KEEPER_SERVES) {
        if (!s->proxy_ready)
            log_event(LOG_INFO, "proxy", "mere-proxy is there", "host", host, NULL);
        serves(p, port);
        follow_setup(p);
    }
}

void keeper_stranger(struct sched *s, int64_t pid)
{
    struct keeper *p = s->keeper;
    struct member *m = member_find(p, pid);
    if (m && m == p->first && p->state == KEEPER_SEEKS)
        end_first(p, "it speaks another protocol");
    else if (m && m != p->first)
        end_member(m);
}

/* Nobody that takes new clients has said HELLO.  Who has not said it at all may be what keeps the port. */
static void found_none(struct keeper *p)
{
    for (struct member *m = p->retired; m; m = m->next)
        if (!m->heard)
            end_member(m);
    if (p->first)
        end_first(p, "it did not say HELLO");
    else
        start(p);
}

static void on_timer(void *arg)
{
    struct keeper *p = arg;
    switch (p->state) {
    case KEEPER_SERVES:
        start(p);
        break;
    case KEEPER_SEEKS:
        found_none(p);
        break;
    case KEEPER_FOLLOWS:
        hand_over_failed(p, "it did not start in time");
        break;
    case KEEPER_ENDS: /* it is killed in time */
        break;
    }
}

/* ---- ends ---- */

static void first_ended(struct keeper *p)
{
    if (p->state == KEEPER_FOLLOWS) { /* nobody left to hand anything over */
        close_pair(p);
        (void)proc_signal(p->next->pidfd, SIGKILL);
    }
    if (p->state != KEEPER_SERVES) {
        start(p);
        return;
    }
    if (gave_up(p))
        return;
    log_event(LOG_ERROR, "proxy", "mere-proxy ended; starting it again", NULL);
    loop_timer_set(p->timer, RESPAWN_MS);
}

static void retired_ended(struct keeper *p, struct member *m)
{
    retired_remove(p, m);
    log_event(LOG_INFO, "proxy", "a retired mere-proxy has ended", NULL);
    remember(p);
    wake_others(p->s);
}

static void on_end(void *arg, int fd, unsigned events)
{
    struct member *m = arg;
    struct keeper *p = m->keeper;
    (void)events;
    (void)proc_reap(fd);
    if (m == p->next) {
        p->next = NULL;
        if (p->state == KEEPER_FOLLOWS)
            hand_over_failed(p, "it ended");
    } else if (m == p->first) {
        p->first = NULL;
        if (!p->s->stop_asked)
            first_ended(p);
    } else {
        retired_ended(p, m);
    }
    member_free(m);
    if (p->s->stop_asked)
        sched_kick(p->s);
}

bool keeper_drain(struct sched *s)
{
    struct keeper *p = s->keeper;
    loop_timer_clear(p->timer);
    p->state = KEEPER_ENDS;
    if (p->next) /* it serves nobody yet */
        (void)proc_signal(p->next->pidfd, SIGKILL);
    if (p->first)
        end_member(p->first);
    for (struct member *m = p->retired; m; m = m->next)
        end_member(m);
    return p->next || p->first || p->retired;
}

/* ---- life ---- */

/*
 * A port that is taken should be one clear sentence, not a proxy that ends again and again.  ours: a proxy of
 * ours may be who has it.
 */
static int check_port(const struct keeper_spec *spec, bool ours, struct err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list;
    auto_free char *port = xasprintf("%d", spec->listen_port);
    if (getaddrinfo(spec->listen_host, port, &hints, &list) != 0)
        return err_set(err, ERR_PRECONDITION, "--pg-listen: \"%s\" is not an address of this machine",
                       spec->listen_host);
    auto_fd fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1, rc = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || (bind(fd, list->ai_addr, list->ai_addrlen) < 0 && !(ours && errno == EADDRINUSE)))
        rc = err_set(err, ERR_PRECONDITION,
                     "cannot listen on %s port %d: %s; choose another with --pg-listen HOST:PORT",
                     spec->listen_host, spec->listen_port, strerror(errno));
    freeaddrinfo(list);
    return rc;
}

int keeper_start(struct sched *s, const struct keeper_spec *spec, struct err *err)
{
    struct keeper *p = xcalloc(1, sizeof(*p));
    s->keeper = p;
    p->s = s;
    p->spec = *spec;
    p->hand_fd = -1;
    take_setup(p, spec->flags, spec->drain_ms);
    p->timer = loop_timer_new(s->loop, on_timer, p);
    bool same;
    if (recall(p, &same, err) < 0)
        return -1;
    p->adopted = p->first != NULL;
    p->found = p->first || p->retired;
    if (p->first && same) {
        log_event(LOG_INFO, "proxy", "adopted mere-proxy", NULL);
        return 0;
    }
    if (spec->listen_fd < 0 && check_port(spec, p->found && p->port == spec->listen_port, err) < 0)
        return -1;
    if (!p->found) {
        p->port = 0;
        return start_first(p, err);
    }
    p->state = KEEPER_SEEKS;
    loop_timer_set(p->timer, p->first ? SEEK_MS : SEEK_NONE_MS);
    return 0;
}

/* The end of what it wrote since it was started: its last line, without the time. */
static const char *last_words(struct keeper *p, struct arena *a)
{
    auto_free char *path = log_path(p);
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[LAST_WORDS_MAX + 1];
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = size - p->log_from > LAST_WORDS_MAX ? size - LAST_WORDS_MAX : p->log_from;
    ssize_t n = fd < 0 ? 0 : pread(fd, text, LAST_WORDS_MAX, from);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n <= 0)
        return "nothing";
    text[n] = '\0';
    const char *line = memrchr(text, '\n', (size_t)n), *rest;
    line = line ? line + 1 : text;
    json_auto_t *o = json_loads(line, 0, NULL); /* log-format */
    const char *msg = json_string_value(json_object_get(o, "msg"));
    if (msg)
        return arena_strdup(a, msg);
    rest = strchr(line, ' ');
    return arena_strdup(a, rest && strcspn(line, "Z") < (size_t)(rest - line) ? rest + 1 : line);
}

static int how_it_failed(struct keeper *p, bool ended, struct err *err)
{
    auto_arena *a = arena_new(0);
    auto_free char *log = log_path(p);
    return err_set(err, ERR_UNAVAILABLE, "mere-proxy %s; the last it said: %.300s; its log is %s",
                   ended ? "ended before it was ready" : "did not start in time", last_words(p, a), log);
}

int keeper_wait(struct sched *s, struct err *err)
{
    int64_t deadline = clock_mono_ms() + READY_MS;
    for (;;) {
        pthread_mutex_lock(&s->change_mutex);
        bool ready = s->proxy_ready, signalled = s->signalled != 0, ended = s->keeper->ended;
        uint64_t seen = s->changes;
        pthread_mutex_unlock(&s->change_mutex);
        if (ready)
            return 0;
        if (signalled)
            return err_set(err, ERR_UNAVAILABLE, "stopped by a signal before it was ready");
        if (ended || !sched_wait_change(s, seen, deadline))
            return how_it_failed(s->keeper, ended, err);
    }
}

bool keeper_adopted(struct sched *s)
{
    return s->keeper && s->keeper->found;
}

static void wait_for_end(struct member *m, int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - clock_mono_ms();
    if (!m)
        return;
    if (!proc_wait_exit(m->pidfd, left_ms > 0 ? (int)left_ms : 0)) {
        log_event(LOG_WARN, "proxy", "mere-proxy did not end in time; killing it", NULL);
        (void)proc_signal(m->pidfd, SIGKILL);
        (void)proc_wait_exit(m->pidfd, KILLED_MS);
    }
    (void)proc_reap(m->pidfd);
}

/* All at once: they drain beside each other. */
static void stop_all(struct keeper *p, bool keep)
{
    int64_t deadline_ms = clock_mono_ms() + p->spec.drain_ms + LAST_WORDS_MS;
    if (p->next)
        (void)proc_signal(p->next->pidfd, SIGTERM);
    if (p->first && !keep)
        (void)proc_signal(p->first->pidfd, SIGTERM);
    for (struct member *m = p->retired; m && !keep; m = m->next)
        (void)proc_signal(m->pidfd, SIGTERM);
    wait_for_end(p->next, deadline_ms);
    if (keep)
        return;
    wait_for_end(p->first, deadline_ms);
    for (struct member *m = p->retired; m; m = m->next)
        wait_for_end(m, deadline_ms);
}

void keeper_stop(struct sched *s, bool keep)
{
    struct keeper *p = s->keeper;
    if (!p)
        return;
    close_pair(p); /* a successor that waits for the sockets ends */
    stop_all(p, keep);
    while (p->retired) {
        struct member *m = p->retired;
        retired_remove(p, m);
        member_free(m);
    }
    member_free(p->first);
    member_free(p->next);
    loop_timer_del(p->timer);
    arena_free(p->words);
    free(p->setup);
    free(p);
    s->keeper = NULL;
}
