/*
 * mered - the control plane: reads as the order of start and the reverse order of stop
 */
#include "api/api.h"
#include "base/config.h"
#include "base/rate.h"
#include "base/fs.h"
#include "base/handed.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/notify.h"
#include "meta/db.h"
#include "scheduler/certs.h"
#include "scheduler/datadir.h"
#include "scheduler/start_stop.h"
#include "store/store.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct settings {
    const char *admin_key, *data, *listen, *pg_listen, *pgbouncer, *store, *host_suffix, *compute_user,
        *proxy_user, *tls_cert, *tls_key, *log_level, *log_format, *config;
    const char *connects_per_address, *connects_per_endpoint;
    bool keep_computes, allow_plaintext;
    int64_t suspend_timeout, suspend_timeout_min, max_starting, http_connections, max_clients, logins,
        logins_per_address, certificate_seconds, drain;
    uint64_t reserve;
};

#define ROW(n, t, member, d, lo, hi, placeholder, text, ...)                                                 \
    {                                                                                                        \
        n, t, offsetof(struct settings, member), d, lo, hi, placeholder, text, __VA_ARGS__                   \
    }
#define KEY(...)  ROW(__VA_ARGS__, .live = false)
#define LIVE(...) ROW(__VA_ARGS__, .live = true)       /* SIGHUP changes it */
#define CRED(...) ROW(__VA_ARGS__, .credential = true) /* a file that may come as a credential */
static const struct config_key KEYS[] = {
    CRED("admin-key", CONFIG_STR, admin_key, NULL, 0, 0, "FILE",
         "the key for the API (default DIR/admin.key, made at first start)"),
    LIVE("allow-plaintext", CONFIG_BOOL, allow_plaintext, "false", 0, 0, NULL,
         "Postgres clients on other machines may connect without TLS"),
    KEY("certificate-seconds", CONFIG_INT, certificate_seconds, "31536000", 3, 157680000, "N",
        "a certificate of our own is valid for so long"),
    KEY("compute-user", CONFIG_STR, compute_user, "postgres", 0, 0, "NAME",
        "as root: the user computes run as"),
    LIVE("connects-per-address", CONFIG_STR, connects_per_address, "500,300,200", 0, 0, "A,B,C",
         "Postgres connections a second from one other machine, on average over 1, 60 and 600 s; or off"),
    LIVE("connects-per-endpoint", CONFIG_STR, connects_per_endpoint, "2000,300,200", 0, 0, "A,B,C",
         "the same to one endpoint, from anywhere"),
    KEY("data", CONFIG_STR, data, NULL, 0, 0, "DIR", "the data directory; made when absent (required)"),
    LIVE("drain-seconds", CONFIG_INT, drain, "5", 0, 3600, "N",
         "so long may Postgres sessions go on when mere-proxy is stopped"),
    KEY("host-suffix", CONFIG_STR, host_suffix, NULL, 0, 0, "NAME",
        "endpoint hosts are <endpoint id>.NAME (default localhost)"),
    KEY("http-connections", CONFIG_INT, http_connections, "128", 4, 4096, "N", "REST connections at once"),
    KEY("keep-computes", CONFIG_BOOL, keep_computes, "false", 0, 0, NULL,
        "on SIGTERM leave computes and mere-proxy running (SIGINT stops them)"),
    KEY("listen", CONFIG_STR, listen, "127.0.0.1:7432", 0, 0, "HOST:PORT",
        "where REST is served; port 0 takes a free one"),
    LIVE("log-format", CONFIG_STR, log_format, "text", 0, 0, "FORMAT", "text or json, one line an event"),
    LIVE("log-level", CONFIG_STR, log_level, "info", 0, 0, "LEVEL", "debug, info, warn or error"),
    LIVE("logins", CONFIG_INT, logins, "0", 0, 100000, "N",
         "Postgres connections at once that have not logged in yet; 0 = a quarter of max-clients"),
    LIVE("logins-per-address", CONFIG_INT, logins_per_address, "0", 0, 100000, "N",
         "the same from one other machine; 0 = a quarter of those"),
    LIVE("max-clients", CONFIG_INT, max_clients, "0", 0, 100000, "N",
         "Postgres sessions at once; 0 = 10000, or what the limit on open files allows"),
    LIVE("max-starting", CONFIG_INT, max_starting, "0", 0, 1000, "N",
         "computes starting at once; 0 = two a core"),
    KEY("pg-listen", CONFIG_STR, pg_listen, "127.0.0.1:7433", 0, 0, "HOST:PORT",
        "where Postgres clients connect; port 0 takes a free one"),
    KEY("pgbouncer", CONFIG_STR, pgbouncer, "/usr/sbin/pgbouncer", 0, 0, "FILE",
        "the program that pools connections; without it there are no pooled ones"),
    KEY("proxy-user", CONFIG_STR, proxy_user, "nobody", 0, 0, "NAME", "as root: the user mere-proxy runs as"),
    LIVE("reserve", CONFIG_SIZE, reserve, "0", 0, 0, "SIZE",
         "free space below which nothing is created or started; 0 = min(1GiB, 5%)"),
    KEY("store", CONFIG_STR, store, "auto", 0, 0, "DRIVER", "auto, btrfs, reflink, copy or disk:SIZE"),
    LIVE("suspend-timeout-min-seconds", CONFIG_INT, suspend_timeout_min, "60", 1, 604800, "N",
         "smallest suspend_timeout_seconds a user may set"),
    LIVE("suspend-timeout-seconds", CONFIG_INT, suspend_timeout, "300", 1, 604800, "N",
         "default of suspend_timeout_seconds"),
    CRED("tls-cert", CONFIG_STR, tls_cert, NULL, 0, 0, "FILE",
         "certificate (PEM) of the Postgres port; made at first start when absent"),
    CRED("tls-key", CONFIG_STR, tls_key, NULL, 0, 0, "FILE", "its private key"),
    KEY("config", CONFIG_STR, config, NULL, 0, 0, "FILE", "settings as `name = value` lines"),
};

static int die(const struct err *err)
{
    fprintf(stderr, "mered: %s%s%s%s\n", err->msg, err->detail[0] ? " (" : "", err->detail,
            err->detail[0] ? ")" : "");
    return 1;
}

static void help(void)
{
    puts("usage: mered --data DIR [options]\n\n"
         "Serverless Postgres on this machine: REST on one port, Postgres on another.\n\n"
         "options (each also MERE_<NAME> in the environment, or a line of the file given by --config):");
    config_help(KEYS, N_ELEMENTS(KEYS));
    puts("  --check-config              say whether the settings are good, and end\n"
         "  --print-config              print them and where each is from, and end\n"
         "  --help, --version\n\n"
         "MERE_<NAME>_FILE in the environment names a file that holds the value.  SIGHUP reads the settings "
         "and the\n"
         "certificate again.  Everything else: docs/operations.md");
}

static int find_user(const char *name, uid_t *ret_uid, gid_t *ret_gid, struct err *err)
{
    struct passwd *pw = getpwnam(name);
    if (!pw)
        return err_set(err, ERR_PRECONDITION,
                       "there is no user \"%s\" on this machine; create it or name another in the settings",
                       name);
    if (pw->pw_uid == 0)
        return err_set(err, ERR_PRECONDITION,
                       "\"%s\" is root; computes and mere-proxy must run as an unprivileged user", name);
    *ret_uid = pw->pw_uid;
    *ret_gid = pw->pw_gid;
    return 0;
}

static int who_we_are(struct arena *a, const struct settings *set, struct sched_config *cfg, struct err *err)
{
    struct passwd *pw = getpwuid(geteuid());
    if (!pw)
        return err_set(err, ERR_PRECONDITION,
                       "the user id %u has no name on this machine; Postgres needs one", (unsigned)geteuid());
    cfg->env.os_user = arena_strdup(a, pw->pw_name);
    cfg->env.as_root = geteuid() == 0;
    cfg->env.uid = geteuid();
    cfg->env.gid = getegid();
    if (!cfg->env.as_root)
        return 0;
    if (find_user(set->compute_user, &cfg->env.uid, &cfg->env.gid, err) < 0 ||
        find_user(set->proxy_user, &cfg->proxy_uid, &cfg->proxy_gid, err) < 0)
        return -1;
    cfg->env.proxy_gid = cfg->proxy_gid;
    return 0;
}

static int find_bin_dir(struct arena *a, const char **ret, struct err *err)
{
    static const char *const TOOLS[] = { "mere-exec", "mere-wal", "mere-proxy" };
    const char *self;
    if (fs_realpath(a, "/proc/self/exe", &self, err) < 0)
        return -1;
    *ret = arena_strndup(a, self, (size_t)(strrchr(self, '/') - self));
    for (size_t i = 0; i < N_ELEMENTS(TOOLS); i++)
        if (access(arena_printf(a, "%s/%s", *ret, TOOLS[i]), X_OK) < 0)
            return err_set(err, ERR_PRECONDITION,
                           "%s is not beside mered in %s; build or install all programs together", TOOLS[i],
                           *ret);
    return 0;
}

static void raise_limits(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* How the log is written, once the words are known to be good. */
struct voice {
    enum log_level level;
    enum log_format format;
};

static int check_log(const struct settings *set, struct voice *ret, struct err *err)
{
    if (!log_level_named(set->log_level, &ret->level))
        return err_set(err, ERR_INVALID, "--log-level must be debug, info, warn or error, not \"%.60s\"",
                       set->log_level);
    if (!log_format_named(set->log_format, &ret->format))
        return err_set(err, ERR_INVALID, "--log-format must be text or json, not \"%.60s\"", set->log_format);
    return 0;
}

/* Where `mere` on this machine finds the server and its key by itself. */
static void announce(struct arena *a, const struct sched_config *cfg, const struct datadir *dir,
                     const char *api)
{
    struct err err = ERR_INIT;
    json_auto_t *o =
        json_pack("{s:s, s:s, s:s*}", "api", api, "key_file", dir->admin_key_path, "ca_file", cfg->certs.ca);
    char *text = json_dumps(o, JSON_COMPACT);
    if (fs_write_plain(arena_printf(a, "%s/cli.json", cfg->env.run_dir), text, strlen(text), 0600, (uid_t)-1,
                       (gid_t)-1, &err) < 0)
        log_event(LOG_WARN, "mered", "cannot write cli.json", "detail", err.detail, NULL);
    free(text);
}

struct places {
    const char *api_host, *pg_host;
    int api_port, pg_port;
    int api_fd, pg_fd; /* sockets there that the service manager opened; -1 = none */
};

static int check_flag(struct arena *a, const char *flag, const char *text, const char **ret_host,
                      int *ret_port, struct err *err)
{
    struct err why = ERR_INIT;
    if (config_host_port(a, text, ret_host, ret_port, &why) == 0)
        return 0;
    return err_set(err, ERR_INVALID, "--%s: %s", flag, why.msg);
}

static int check_rate(const char *flag, const char *text, struct err *err)
{
    struct rate_limit ignored;
    if (rate_parse(text, &ignored))
        return 0;
    return err_set(
        err, ERR_INVALID,
        "--%s must be three numbers of connections a second, on average over 1, 60 and 600 seconds, "
        "like 500,300,200; or off; not \"%.60s\"",
        flag, text);
}

/* What is wrong with the settings by themselves, before anything is looked at or made. */
static int check_settings(struct arena *a, const struct settings *set, struct places *at, struct voice *voice,
                          struct err *err)
{
    if (check_log(set, voice, err) < 0)
        return -1;
    if (!set->data)
        return err_set(err, ERR_INVALID, "--data DIR is required (see --help)");
    if (set->data[0] == '\0')
        return err_set(err, ERR_INVALID, "--data is empty; it names the data directory");
    if (!set->tls_cert != !set->tls_key)
        return err_set(err, ERR_INVALID, "--tls-cert and --tls-key go together; only one of them was given");
    if (check_rate("connects-per-address", set->connects_per_address, err) < 0 ||
        check_rate("connects-per-endpoint", set->connects_per_endpoint, err) < 0)
        return -1;
    if (set->pgbouncer[0] != '/')
        return err_set(err, ERR_INVALID, "--pgbouncer must be an absolute path, not \"%.200s\"",
                       set->pgbouncer);
    return check_flag(a, "listen", set->listen, &at->api_host, &at->api_port, err) < 0 ||
                   check_flag(a, "pg-listen", set->pg_listen, &at->pg_host, &at->pg_port, err) < 0
               ? -1
               : 0;
}

/* Where the service manager listens for us is where we do, whatever the settings say. */
static int take_sockets(struct arena *a, struct places *at, struct err *err)
{
    struct handed all[HANDED_MAX];
    size_t n;
    at->api_fd = at->pg_fd = -1;
    if (handed_take(a, all, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        bool api = strcmp(all[i].name, "api") == 0;
        int *fd = api ? &at->api_fd : &at->pg_fd;
        if (!api && strcmp(all[i].name, "postgres") != 0)
            return err_set(
                err, ERR_PRECONDITION,
                "the service manager hands over a socket called \"%.60s\"; it must be called api or "
                "postgres (FileDescriptorName=)",
                all[i].name);
        if (*fd >= 0)
            return err_set(err, ERR_PRECONDITION,
                           "the service manager hands over two sockets called %s; one is all that is taken, "
                           "which may be [::] for every address",
                           all[i].name);
        *fd = all[i].fd;
        *(api ? &at->api_host : &at->pg_host) = all[i].host;
        *(api ? &at->api_port : &at->pg_port) = all[i].port;
    }
    return 0;
}

/* "localhost" is there whatever else the server is called. */
static const char *const *certificate_names(struct arena *a, const struct settings *set, size_t *ret_n)
{
    const char **names = arena_alloc(a, 6 * sizeof(*names));
    size_t n = 0;
    names[n++] = "localhost";
    names[n++] = "*.localhost";
    names[n++] = "127.0.0.1";
    names[n++] = "::1";
    if (set->host_suffix && strcmp(set->host_suffix, "localhost") != 0) {
        names[n++] = set->host_suffix;
        names[n++] = arena_printf(a, "*.%s", set->host_suffix);
    }
    *ret_n = n;
    return names;
}

/* What of our settings is for mere-proxy. */
static const char *const *proxy_flags(struct arena *a, const struct settings *set)
{
    const char **words = arena_alloc(a, 16 * sizeof(*words));
    size_t n = 0;
    words[n++] = arena_printf(a, "--connects-per-address=%s", set->connects_per_address);
    words[n++] = arena_printf(a, "--connects-per-endpoint=%s", set->connects_per_endpoint);
    words[n++] = arena_printf(a, "--drain-seconds=%" PRId64, set->drain);
    words[n++] = arena_printf(a, "--log-level=%s", set->log_level);
    words[n++] = arena_printf(a, "--log-format=%s", set->log_format);
    if (set->max_clients)
        words[n++] = arena_printf(a, "--max-clients=%" PRId64, set->max_clients);
    if (set->logins)
        words[n++] = arena_printf(a, "--logins=%" PRId64, set->logins);
    if (set->logins_per_address)
        words[n++] = arena_printf(a, "--logins-per-address=%" PRId64, set->logins_per_address);
    if (set->allow_plaintext)
        words[n++] = "--allow-plaintext";
    words[n] = NULL;
    return words;
}

static struct sched_live live_of(struct arena *a, const struct settings *set)
{
    return (struct sched_live){ .suspend_default_seconds = set->suspend_timeout,
                                .suspend_min_seconds = set->suspend_timeout_min,
                                .reserve_bytes = set->reserve,
                                .max_starting = (int)set->max_starting,
                                .drain_ms = set->drain * 1000,
                                .proxy_flags = proxy_flags(a, set) };
}

static void speak(const struct voice *voice)
{
    log_set_level(voice->level);
    log_set_format(voice->format);
}

/* What was set at start, and from where it is read again. */
struct daemon {
    struct config_source source;
    struct settings set;
    bool hangup_ends;
};

/* All of the new settings or none of them. */
static bool reload(void *arg, struct arena *a, struct sched_live *ret)
{
    const struct daemon *d = arg;
    struct settings next = { 0 };
    struct places ignored;
    struct voice voice;
    struct err err = ERR_INIT;
    if (config_load(a, &d->source, &next, &err) < 0 || check_settings(a, &next, &ignored, &voice, &err) < 0) {
        log_event(LOG_ERROR, "mered", "the settings are not good; the old ones stay in force", "error",
                  err.msg, NULL);
        return false;
    }
    const char *fixed = config_fixed(a, &d->source, &d->set, &next);
    speak(&voice);
    if (fixed)
        log_event(LOG_WARN, "mered", "settings that cannot change before the next start stay as they were",
                  "names", fixed, NULL);
    log_event(LOG_INFO, "mered", "the settings are read again", NULL);
    *ret = live_of(a, &next);
    return true;
}

static int prepare(struct arena *a, struct daemon *d, struct places *at, struct sched_config *cfg,
                   struct datadir *dir, struct err *err)
{
    const struct settings *set = &d->set;
    struct pg_install *installs;
    struct voice voice;
    if (check_settings(a, set, at, &voice, err) < 0)
        return -1;
    speak(&voice);
    if (take_sockets(a, at, err) < 0 || find_bin_dir(a, &cfg->env.bin_dir, err) < 0 ||
        who_we_are(a, set, cfg, err) < 0 || pg_install_scan(a, &installs, &cfg->env.n_installs, err) < 0 ||
        datadir_open(a, set->data, set->admin_key, dir, err) < 0)
        return -1;
    cfg->certs =
        (struct certs){ .cert = set->tls_cert, .key = set->tls_key, .seconds = set->certificate_seconds };
    cfg->certs.names = certificate_names(a, set, &cfg->certs.n_names);
    if (certs_open(a, dir->path, &cfg->certs, err) < 0 ||
        env_run_dir(a, dir->path, &cfg->env.run_dir, err) < 0) /* last: nothing but run() takes it away */
        return -1;
    cfg->env.installs = installs;
    cfg->env.data_dir = dir->path;
    cfg->secret = dir->secret;
    cfg->version = MERE_VERSION;
    cfg->pg_host = at->pg_host;
    cfg->pg_port = at->pg_port;
    cfg->pg_fd = at->pg_fd;
    cfg->host_suffix = set->host_suffix;
    cfg->pgbouncer = set->pgbouncer;
    cfg->live = live_of(a, set);
    cfg->reload = reload;
    cfg->reload_arg = d;
    cfg->hangup_ends = d->hangup_ends;
    return 0;
}

/* Until it is told to end, by the signal that is returned. */
static int serve(struct arena *a, const struct places *at, const struct sched_config *cfg,
                 const struct datadir *dir, struct sched *sched, struct api *api)
{
    const struct sched_info *info = sched_info(sched);
    const char *url = arena_printf(a, strchr(at->api_host, ':') ? "http://[%s]:%d" : "http://%s:%d",
                                   at->api_host, api_port(api));
    announce(a, cfg, dir, url);
    if (store_notice(cfg->env.store))
        log_event(LOG_INFO, "store", store_notice(cfg->env.store), NULL);
    printf(strchr(at->pg_host, ':') ? "ready api=%s postgres=[%s]:%d store=%s\n"
                                    : "ready api=%s postgres=%s:%d store=%s\n",
           url, at->pg_host, info->pg_port, info->store_driver);
    fflush(stdout);
    notify_ready(
        arena_printf(a, "api=%s, Postgres on port %d, store %s", url, info->pg_port, info->store_driver));
    int signo = sched_wait_signal(sched);
    notify_stopping("ending what is under way");
    return signo;
}

static int run(struct arena *a, struct daemon *d, struct err *err)
{
    const struct settings *set = &d->set;
    struct places at;
    struct sched_config cfg = { 0 };
    struct datadir dir;
    struct sched *sched = NULL;
    struct api *api = NULL;
    bool keep = set->keep_computes;
    int rc = -1;
    if (prepare(a, d, &at, &cfg, &dir, err) < 0)
        return -1;
    notify_status("opening metadata and volumes, taking over what runs");
    struct store_options store = { .dir = dir.path, .driver = set->store, .reserve_bytes = set->reserve };
    struct api_config http = { .host = at.api_host,
                               .port = at.api_port,
                               .listen_fd = at.api_fd,
                               .max_connections = (int)set->http_connections,
                               .admin_key = dir.admin_key };
    if (store_open(&store, &cfg.env.store, err) == 0 &&
        db_open(arena_printf(a, "%s/mere.db", dir.path), &cfg.env.db, err) == 0 &&
        datadir_secret(a, &dir, cfg.env.db, err) == 0 && env_prepare(&cfg.env, err) == 0 &&
        sched_start(&cfg, &sched, err) == 0 && api_start(&http, sched, &api, err) == 0) {
        keep = serve(a, &at, &cfg, &dir, sched, api) != SIGINT && keep;
        rc = 0;
    }
    api_stop(api);
    if (rc == 0)
        sched_stop(sched, keep);
    else
        sched_abandon(sched);
    if (rc < 0) /* what a failed start found running goes on, on its mounts */
        keep = env_any_running(&cfg.env);
    db_close(cfg.env.db);
    store_close(cfg.env.store, keep);
    if (!keep)
        env_cleanup(&cfg.env);
    return rc;
}

/*
 * SIGHUP asks to read settings and certificate again.  But a closed terminal sends it, too, and ends a
 * program that runs in its foreground, unless it was started with nohup: which is told by SIGHUP being
 * ignored.  Ours is not to ignore it, or nobody could ask.
 */
static bool block_signals(void)
{
    static const int SIGNALS[] = { SIGTERM, SIGINT, SIGHUP };
    struct sigaction hangup;
    bool nohup = sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN;
    auto_fd terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_DFL);
    loop_block_signals(SIGNALS, N_ELEMENTS(SIGNALS));
    return terminal >= 0 && !nohup;
}

/* What it may be asked instead of to serve. */
enum errand { SERVE, HELP, VERSION, CHECK_CONFIG, PRINT_CONFIG };

/* Takes the word that asks for it out of argv. */
static enum errand find_errand(int *argc, char **argv)
{
    static const struct {
        const char *word;
        enum errand errand;
    } WORDS[] = { { "--help", HELP },
                  { "--version", VERSION },
                  { "--check-config", CHECK_CONFIG },
                  { "--print-config", PRINT_CONFIG } };
    for (int i = 1; i < *argc; i++) {
        for (size_t w = 0; w < N_ELEMENTS(WORDS); w++) {
            if (strcmp(argv[i], WORDS[w].word) != 0)
                continue;
            memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof(*argv));
            (*argc)--;
            return WORDS[w].errand;
        }
    }
    return SERVE;
}

static int check_config(struct arena *a, const struct settings *set, struct err *err)
{
    struct places at;
    struct voice voice;
    if (check_settings(a, set, &at, &voice, err) < 0)
        return -1;
    puts("the settings are good");
    return 0;
}

static int start(struct arena *a, struct daemon *d, struct err *err)
{
    d->hangup_ends = block_signals();
    log_find_journal();
    notify_open();
    raise_limits();
    umask(077);
    return run(a, d, err);
}

int main(int argc, char **argv)
{
    auto_arena *a = arena_new(0);
    enum errand errand = find_errand(&argc, argv);
    struct daemon d = { .source = { KEYS, N_ELEMENTS(KEYS), "config", argc, argv } };
    struct err err = ERR_INIT;
    if (errand == HELP)
        return help(), 0;
    if (errand == VERSION)
        return puts("mered " MERE_VERSION " (" MERE_COMMIT ")"), 0;
    if (config_load(a, &d.source, &d.set, &err) < 0)
        return die(&err), 2;
    int rc = errand == CHECK_CONFIG   ? check_config(a, &d.set, &err)
             : errand == PRINT_CONFIG ? config_print(a, &d.source, &err)
                                      : start(a, &d, &err);
    return rc == 0 ? 0 : (die(&err), err.code == ERR_INVALID ? 2 : 1);
}
