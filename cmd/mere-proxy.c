/*
 * mere-proxy.c - the data path: takes client connections, wakes computes through mered, relays bytes
 *
 * One thread, one loop.  Reads as the order of start; everything that needs privileges happens before
 * drop_privileges().
 */
#include "base/base.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/config.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/rate.h"
#include "base/text.h"
#include "proxy/proxy.h"

#define RESERVED_MAX       32
#define CLIENTS_MAX        100000
#define CLIENTS_DEFAULT    10000
#define DESCRIPTORS_ROOT   65536 /* what root may raise its own limit to */
#define CONNECT_TIMEOUT_MS 30000
#define LOGINS_MAX         100000
#define DRAIN_S            5
#define DRAIN_MAX_S        3600
#define HAND_FD            3
#define PER_ADDRESS        "500,300,200"
#define PER_ENDPOINT       "2000,300,200"

static const char USAGE[] =
    "usage: mere-proxy --listen HOST:PORT --wake-socket PATH --tls-cert FILE --tls-key FILE [options]\n"
    "\n"
    "  --listen HOST:PORT         where clients connect (port 0: a free one)\n"
    "  --wake-socket PATH         the socket of mered\n"
    "  --tls-cert FILE            certificate chain, PEM\n"
    "  --tls-key FILE             its private key, PEM, not encrypted\n"
    "  --successor                take the listening sockets that are given over descriptor 3\n"
    "  --uid N, --gid N           as root: who to become once the port and the key are open\n"
    "  --connect-timeout-ms N     how long a client may wait for its compute (30000)\n"
    "  --max-clients N            sessions at once (10000, or what the limit on open files allows)\n"
    "  --connects-per-address A,B,C\n"
    "                             new connections a second from one address of another machine, on average\n"
    "                             over 1, 60 and 600 s (" PER_ADDRESS "), or off\n"
    "  --connects-per-endpoint A,B,C\n"
    "                             the same to one endpoint, from anywhere (" PER_ENDPOINT ")\n"
    "  --logins N                 connections at once that have not logged in yet (a quarter of the "
    "sessions\n"
    "                             and 64)\n"
    "  --logins-per-address N     the same from one address of another machine (a quarter of those)\n"
    "  --allow-plaintext          other machines need not use TLS either\n"
    "  --reserved-user NAME       a user that clients may not be; may be repeated\n"
    "  --drain-seconds N          how long sessions may go on once it is told to end (5)\n"
    "  --log-level LEVEL          debug, info, warn or error (info)\n"
    "  --log-format FORMAT        text or json (text)\n";

struct options {
    struct proxy_config proxy;
    const char *listen;
    int64_t uid, gid;                   /* -1 = as we are */
    int64_t max_clients;                /* 0 = by the limit on open files */
    int64_t logins, logins_per_address; /* 0 = by the number of clients */
    const char *reserved[RESERVED_MAX];
    bool help;
};

enum option_id {
    OPT_LISTEN = 1,
    OPT_WAKE_SOCKET,
    OPT_TLS_CERT,
    OPT_TLS_KEY,
    OPT_SUCCESSOR,
    OPT_UID,
    OPT_GID,
    OPT_CONNECT_TIMEOUT,
    OPT_MAX_CLIENTS,
    OPT_CONNECTS_PER_ADDRESS,
    OPT_CONNECTS_PER_ENDPOINT,
    OPT_LOGINS,
    OPT_LOGINS_PER_ADDRESS,
    OPT_ALLOW_PLAINTEXT,
    OPT_RESERVED_USER,
    OPT_DRAIN_SECONDS,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_HELP,
};

static const struct option OPTIONS[] = {
    { "listen", required_argument, NULL, OPT_LISTEN },
    { "wake-socket", required_argument, NULL, OPT_WAKE_SOCKET },
    { "tls-cert", required_argument, NULL, OPT_TLS_CERT },
    { "tls-key", required_argument, NULL, OPT_TLS_KEY },
    { "successor", no_argument, NULL, OPT_SUCCESSOR },
    { "uid", required_argument, NULL, OPT_UID },
    { "gid", required_argument, NULL, OPT_GID },
    { "connect-timeout-ms", required_argument, NULL, OPT_CONNECT_TIMEOUT },
    { "max-clients", required_argument, NULL, OPT_MAX_CLIENTS },
    { "connects-per-address", required_argument, NULL, OPT_CONNECTS_PER_ADDRESS },
    { "connects-per-endpoint", required_argument, NULL, OPT_CONNECTS_PER_ENDPOINT },
    { "logins", required_argument, NULL, OPT_LOGINS },
    { "logins-per-address", required_argument, NULL, OPT_LOGINS_PER_ADDRESS },
    { "allow-plaintext", no_argument, NULL, OPT_ALLOW_PLAINTEXT },
    { "reserved-user", required_argument, NULL, OPT_RESERVED_USER },
    { "drain-seconds", required_argument, NULL, OPT_DRAIN_SECONDS },
    { "log-level", required_argument, NULL, OPT_LOG_LEVEL },
    { "log-format", required_argument, NULL, OPT_LOG_FORMAT },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static int take_number(const char *name, int64_t min, int64_t max, int64_t *ret, struct err *err)
{
    if (text_to_i64(optarg, min, max, ret))
        return 0;
    return err_set(err, ERR_INVALID, "--%s takes a number from %lld to %lld, not \"%.60s\"", name,
                   (long long)min, (long long)max, optarg);
}

static int take_rate(const char *name, const char *text, struct rate_limit *ret, struct err *err)
{
    if (rate_parse(text, ret))
        return 0;
    return err_set(err, ERR_INVALID, "--%s takes three numbers like " PER_ADDRESS ", or off; not \"%.60s\"",
                   name, text);
}

static int take_drain(struct options *o, struct err *err)
{
    int64_t seconds;

    if (take_number("drain-seconds", 0, DRAIN_MAX_S, &seconds, err) < 0)
        return -1;
    o->proxy.drain_ms = seconds * 1000;
    return 0;
}

/* They hold at once: what is wrong with the other options is said like everything else. */
static int take_log(int option, struct err *err)
{
    enum log_level level;
    enum log_format format;

    if (option == OPT_LOG_LEVEL && log_level_named(optarg, &level))
        return log_set_level(level), 0;
    if (option == OPT_LOG_FORMAT && log_format_named(optarg, &format))
        return log_set_format(format), 0;
    return err_set(err, ERR_INVALID, "\"%.60s\" is no %s; see mere-proxy --help", optarg,
                   option == OPT_LOG_LEVEL ? "level of the log" : "format of the log");
}

static int take_option(struct options *o, int option, struct err *err)
{
    switch ((enum option_id)option) {
    case OPT_LISTEN:
        o->listen = optarg;
        return 0;
    case OPT_WAKE_SOCKET:
        o->proxy.wake_socket = optarg;
        return 0;
    case OPT_TLS_CERT:
        o->proxy.tls_cert = optarg;
        return 0;
    case OPT_TLS_KEY:
        o->proxy.tls_key = optarg;
        return 0;
    case OPT_SUCCESSOR:
        o->proxy.hand_fd = HAND_FD;
        return 0;
    case OPT_UID:
        return take_number("uid", 1, UINT32_MAX - 1, &o->uid, err);
    case OPT_GID:
        return take_number("gid", 1, UINT32_MAX - 1, &o->gid, err);
    case OPT_CONNECT_TIMEOUT:
        return take_number("connect-timeout-ms", 1, 3600 * 1000, &o->proxy.connect_timeout_ms, err);
    case OPT_MAX_CLIENTS:
        return take_number("max-clients", 1, CLIENTS_MAX, &o->max_clients, err);
    case OPT_CONNECTS_PER_ADDRESS:
        return take_rate("connects-per-address", optarg, &o->proxy.limits.per_address, err);
    case OPT_CONNECTS_PER_ENDPOINT:
        return take_rate("connects-per-endpoint", optarg, &o->proxy.limits.per_endpoint, err);
    case OPT_LOGINS:
        return take_number("logins", 1, LOGINS_MAX, &o->logins, err);
    case OPT_LOGINS_PER_ADDRESS:
        return take_number("logins-per-address", 1, LOGINS_MAX, &o->logins_per_address, err);
    case OPT_ALLOW_PLAINTEXT:
        o->proxy.allow_plaintext = true;
        return 0;
    case OPT_RESERVED_USER:
        if (o->proxy.n_reserved_users == RESERVED_MAX)
            return err_set(err, ERR_INVALID, "--reserved-user may be given %d times", RESERVED_MAX);
        o->reserved[o->proxy.n_reserved_users++] = optarg;
        return 0;
    case OPT_DRAIN_SECONDS:
        return take_drain(o, err);
    case OPT_LOG_LEVEL:
    case OPT_LOG_FORMAT:
        return take_log(option, err);
    case OPT_HELP:
        o->help = true;
        return 0;
    }
    return err_set(err, ERR_INVALID, "unknown or incomplete option; see mere-proxy --help");
}

static int take_options(struct options *o, struct arena *a, int argc, char **argv, struct err *err)
{
    int option;

    *o = (struct options){ .uid = -1,
                           .gid = -1,
                           .proxy.connect_timeout_ms = CONNECT_TIMEOUT_MS,
                           .proxy.drain_ms = DRAIN_S * 1000,
                           .proxy.hand_fd = -1 };
    o->proxy.reserved_users = o->reserved;
    (void)rate_parse(PER_ADDRESS, &o->proxy.limits.per_address);
    (void)rate_parse(PER_ENDPOINT, &o->proxy.limits.per_endpoint);
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
        if (take_option(o, option, err) < 0)
            return -1;
    if (o->help)
        return 0;
    if (optind < argc)
        return err_set(err, ERR_INVALID, "\"%.60s\" is not an option; see mere-proxy --help", argv[optind]);
    if (o->listen == NULL || o->proxy.wake_socket == NULL || o->proxy.tls_cert == NULL ||
        o->proxy.tls_key == NULL)
        return err_set(err, ERR_INVALID,
                       "--listen, --wake-socket, --tls-cert and --tls-key are needed; see mere-proxy --help");
    if (o->gid < 0)
        o->gid = o->uid;
    return config_host_port(a, o->listen, &o->proxy.host, &o->proxy.port, err);
}

static size_t unproved_for(const struct options *o, size_t clients)
{
    return o->logins > 0 ? (size_t)o->logins : proxy_default_unproved(clients);
}

/* As many descriptors as we may have, and as many clients as they serve. */
static void set_limits(struct options *o)
{
    struct limits_config *limits = &o->proxy.limits;
    struct rlimit r;
    size_t clients = o->max_clients > 0 ? (size_t)o->max_clients : CLIENTS_DEFAULT;
    char text[24];

    getrlimit(RLIMIT_NOFILE, &r);
    if (geteuid() == 0 && r.rlim_max < DESCRIPTORS_ROOT) {
        struct rlimit more = { .rlim_cur = DESCRIPTORS_ROOT, .rlim_max = DESCRIPTORS_ROOT };

        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            r = more;
    }
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    while (clients > 1 && proxy_descriptors(clients, unproved_for(o, clients)) > r.rlim_cur)
        clients -= clients / 16 + 1;
    snprintf(text, sizeof(text), "%zu", clients);
    if (o->max_clients > 0 && clients < (size_t)o->max_clients)
        log_event(LOG_WARN, "proxy", "the limit on open files allows fewer clients", "max_clients", text,
                  NULL);
    o->proxy.max_clients = clients;
    limits->max_unproved = unproved_for(o, clients);
    limits->max_unproved_per_address =
        o->logins_per_address > 0 ? (size_t)o->logins_per_address : limits->max_unproved / 4 + 1;
}

/* For good: no way back, no core dump or debugger that would show the key. */
static int drop_privileges(const struct options *o, struct err *err)
{
    if (geteuid() == 0 && o->uid >= 0) {
        uid_t uid = (uid_t)o->uid;
        gid_t gid = (gid_t)o->gid;

        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
            return err_sys(err, "give up root");
        if (setuid(0) == 0 || geteuid() == 0)
            return err_set(err, ERR_INTERNAL, "root was not given up");
    } else if (o->uid >= 0 && (uid_t)o->uid != geteuid()) {
        return err_set(err, ERR_FORBIDDEN, "--uid needs root");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_sys(err, "prctl");
    return 0;
}

static void on_signal(void *arg, int signo)
{
    /* In a session of our own there is no terminal to interrupt us: SIGINT is meant for somebody else. */
    if (signo == SIGTERM || (signo == SIGINT && getsid(0) != getpid()))
        proxy_stop(arg);
}

static int fail(const struct err *err)
{
    log_event(LOG_ERROR, "proxy", err->msg, "detail", err->detail[0] != '\0' ? err->detail : NULL, NULL);
    return 1;
}

static int run(struct options *o, struct err *err)
{
    static const int SIGNALS[] = { SIGTERM, SIGINT };
    struct loop *loop;
    struct proxy *proxy;
    int rc = -1;

    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    loop_block_signals(SIGNALS, N_ELEMENTS(SIGNALS));
    set_limits(o);
    loop = loop_new(err);
    if (loop == NULL)
        return -1;
    proxy = proxy_new(loop, &o->proxy, err);
    if (proxy != NULL && drop_privileges(o, err) == 0 &&
        loop_signals(loop, SIGNALS, N_ELEMENTS(SIGNALS), on_signal, proxy, err) == 0) {
        proxy_start(proxy);
        loop_run(loop);
        log_event(LOG_INFO, "proxy", "stopped", NULL);
        rc = 0;
    }
    proxy_free(proxy);
    loop_free(loop);
    return rc;
}

int main(int argc, char **argv)
{
    auto_arena *arena = arena_new(0);
    struct err err = ERR_INIT;
    struct options o;

    if (take_options(&o, arena, argc, argv, &err) < 0)
        return fail(&err);
    if (o.help) {
        fputs(USAGE, stdout);
        return 0;
    }
    return run(&o, &err) < 0 ? fail(&err) : 0;
}
