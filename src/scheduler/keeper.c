/*
 * keeper.c - keeps one mere-proxy running: starts it, adopts it after our restart, starts it again when it
 * ends
 *
 * It outlives us like a compute; who it is and what it was started with are in the instance table, so that
 * one that would not be started like that today is replaced.
 */
#include "scheduler/internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESPAWN_MS     500
#define STOP_MS        8000
#define READY_MS       15000
#define LAST_WORDS_MAX 2048

struct keeper {
    struct sched *s;
    struct keeper_spec spec;
    char *setup; /* protocol, host and flags as text, to tell another setup by */
    int port;    /* what it listens on; 0 until the first HELLO */
    off_t log_from;
    struct proc_identity who;
    int pidfd;
    struct loop_fd *source;
    struct loop_timer *respawn;
    bool adopted; /* it is from an earlier life of ours */
    bool ended;   /* before it ever was ready; under change_mutex */
};

uid_t keeper_uid(struct sched *s)
{
    return s->env.as_root ? s->keeper->spec.uid : geteuid();
}

static char *log_path(const struct keeper *p)
{
    return xasprintf("%s/logs/proxy.log", p->s->env.data_dir);
}

/* The certificate is no part of it: that of today is handed over. */
static char *describe(const struct keeper_spec *spec)
{
    auto_buf text = { 0 };
    buf_addf(&text, "wake %d\n%s", WAKE_PROTOCOL, spec->listen_host);
    for (size_t i = 0; spec->flags[i]; i++)
        buf_addf(&text, "\n%s", spec->flags[i]);
    return xstrdup(buf_str(&text));
}

static void remember(struct keeper *p)
{
    auto_dbc *c = NULL;
    struct err err = ERR_INIT;
    auto_free char *text = xasprintf("%" PRId64 " %" PRId64 " %s %d\n%s", p->who.pid, p->who.start_time,
                                     p->who.boot_id, p->port, p->setup);
    if (db_write(p->s->env.db, &c, &err) < 0 || instance_set(c, "proxy", text, &err) < 0 ||
        db_commit(c, &err) < 0)
        log_event(LOG_ERROR, "proxy", "cannot record mere-proxy", "detail", err.detail, NULL);
}

/* Who it was, where it listened, and whether it was started with the setup of now. */
static int recall(struct keeper *p, bool *ret_same, struct err *err)
{
    auto_dbc *c = NULL;
    auto_arena *a = arena_new(0);
    const char *text = NULL, *setup;
    if (db_read(p->s->env.db, &c, err) < 0 || instance_get(c, a, "proxy", &text, err) < 0)
        return -1;
    if (text && sscanf(text, "%" SCNd64 " %" SCNd64 " %39s %d", &p->who.pid, &p->who.start_time,
                       p->who.boot_id, &p->port) != 4)
        p->who.pid = 0;
    setup = text ? strchr(text, '\n') : NULL;
    *ret_same = setup && strcmp(setup + 1, p->setup) == 0 &&
                (p->spec.listen_port == 0 || p->spec.listen_port == p->port);
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

static void on_end(void *arg, int fd, unsigned events)
{
    struct keeper *p = arg;
    (void)events;
    loop_fd_del(p->source);
    p->source = NULL;
    (void)proc_reap(fd);
    fd_close(&p->pidfd);
    p->who.pid = 0;
    if (p->s->stopping || gave_up(p))
        return;
    log_event(LOG_ERROR, "proxy", "mere-proxy ended; starting it again", NULL);
    loop_timer_set(p->respawn, RESPAWN_MS);
}

static int spawn(struct keeper *p, struct err *err)
{
    auto_arena *a = arena_new(0);
    struct sched *s = p->s;
    const char *argv[48];
    size_t n = 0;
    bool v6 = strchr(p->spec.listen_host, ':') != NULL;
    argv[n++] = arena_printf(a, "%s/mere-proxy", s->env.bin_dir);
    argv[n++] = "--listen";
    argv[n++] = arena_printf(a, v6 ? "[%s]:%d" : "%s:%d", p->spec.listen_host,
                             p->port ? p->port : p->spec.listen_port);
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
        .argv = argv, .stdin_fd = -1, .stdout_fd = log_fd, .stderr_fd = log_fd, .keep_fd = -1
    };
    if (proc_spawn(&spec, &p->who, &p->pidfd, err) < 0)
        return -1;
    p->source = loop_fd_add(s->loop, p->pidfd, LOOP_READ, on_end, p);
    remember(p);
    return 0;
}

static void on_respawn(void *arg)
{
    struct keeper *p = arg;
    struct err err = ERR_INIT;
    if (spawn(p, &err) < 0) {
        log_event(LOG_ERROR, "proxy", "cannot start mere-proxy", "error", err.msg, "detail", err.detail,
                  NULL);
        loop_timer_set(p->respawn, RESPAWN_MS);
    }
}

/* Ends one of an earlier life.  Its port is free when this returns. */
static void replace(struct keeper *p)
{
    log_event(LOG_INFO, "proxy", "mere-proxy was started with other settings; replacing it", NULL);
    (void)proc_signal(p->pidfd, SIGTERM);
    if (!proc_wait_exit(p->pidfd, STOP_MS)) {
        (void)proc_signal(p->pidfd, SIGKILL);
        (void)proc_wait_exit(p->pidfd, STOP_MS);
    }
    fd_close(&p->pidfd);
}

/* A port that is taken should be one clear sentence, not a proxy that ends again and again. */
static int check_port(const struct keeper_spec *spec, struct err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list;
    auto_free char *port = xasprintf("%d", spec->listen_port);
    if (getaddrinfo(spec->listen_host, port, &hints, &list) != 0)
        return err_set(err, ERR_PRECONDITION, "--pg-listen: \"%s\" is not an address of this machine",
                       spec->listen_host);
    auto_fd fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1, rc = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0)
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
    p->pidfd = -1;
    p->setup = describe(spec);
    p->respawn = loop_timer_new(s->loop, on_respawn, p);
    bool same;
    if (recall(p, &same, err) < 0)
        return -1;
    int alive = p->who.pid ? proc_adopt(&p->who, &p->pidfd, err) : 0;
    if (alive < 0)
        return -1;
    if (alive == 1 && same) {
        log_event(LOG_INFO, "proxy", "adopted mere-proxy", NULL);
        p->adopted = true;
        p->source = loop_fd_add(s->loop, p->pidfd, LOOP_READ, on_end, p);
        return 0;
    }
    if (alive == 1)
        replace(p);
    p->port = spec->listen_port;
    return check_port(spec, err) < 0 ? -1 : spawn(p, err);
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
        bool ready = s->proxy_ready, signalled = s->signalled, ended = s->keeper->ended;
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

void keeper_hello(struct sched *s, int64_t pid, const char *host, int port)
{
    struct keeper *p = s->keeper;
    (void)pid;
    if (p->port != port) {
        p->port = port;
        remember(p);
    }
    if (!s->proxy_ready)
        log_event(LOG_INFO, "proxy", "mere-proxy is there", "host", host, NULL);
    pthread_mutex_lock(&s->change_mutex);
    s->info.pg_port = port;
    s->proxy_ready = true;
    s->changes++;
    pthread_cond_broadcast(&s->change_cond);
    pthread_mutex_unlock(&s->change_mutex);
}

bool keeper_adopted(struct sched *s)
{
    return s->keeper && s->keeper->adopted;
}

void keeper_stop(struct sched *s, bool keep)
{
    struct keeper *p = s->keeper;
    if (!p)
        return;
    loop_fd_del(p->source);
    loop_timer_del(p->respawn);
    if (!keep && p->pidfd >= 0) {
        (void)proc_signal(p->pidfd, SIGTERM);
        if (!proc_wait_exit(p->pidfd, STOP_MS)) {
            log_event(LOG_WARN, "proxy", "mere-proxy did not end in time; killing it", NULL);
            (void)proc_signal(p->pidfd, SIGKILL);
            (void)proc_wait_exit(p->pidfd, STOP_MS);
        }
        (void)proc_reap(p->pidfd);
    }
    fd_close(&p->pidfd);
    free(p->setup);
    free(p);
    s->keeper = NULL;
}
