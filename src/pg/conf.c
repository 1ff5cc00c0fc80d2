#include "pg/conf.h"

#include "base/buf.h"
#include "base/fs.h"
#include "pg/admin.h"
#include "pg/settings.h"

#include <inttypes.h>
#include <string.h>

static const char HBA[] = "# Made by mered at each start.\n"
                          "local replication " PG_REPLICA_ROLE " scram-sha-256\n"
                          "local replication all           reject\n"
                          "local all         " PG_REPLICA_ROLE " reject\n"
                          "local all         " PG_ADMIN_ROLE " peer map=mere\n";
static const char HBA_NOW[] = "local all         all           scram-sha-256\n";
/* Passwords of the past count for nobody.  Nobody but mere-proxy comes near its socket, and it lets in who
 * has proved himself by the present one. */
static const char HBA_THEN[] = "local all         all           trust\n";

/*
 * min_wal_size: an idle branch should hold few segments; Postgres keeps more by itself while a branch is
 * written to. max_wal_size: bounds what a fork of a running branch has to copy and replay.  Checkpoints begin
 * every max_wal_size / (1 + completion target), and one counts when it is complete: at the same distance
 * between them, a target of 0.9 would leave half as much again to replay.
 */
static const char DEFAULTS[] = "# Made by mered at each start.\n"
                               "shared_buffers = '128MB'\n"
                               "min_wal_size = '5MB'\n"
                               "max_wal_size = '192MB'\n"
                               "checkpoint_completion_target = 0.5\n"
                               "log_timezone = 'UTC'\n"
                               "timezone = 'UTC'\n"
                               "datestyle = 'iso, mdy'\n"
                               "default_text_search_config = 'pg_catalog.english'\n"
                               "search_path = '\"$user\", public, " PG_EXTENSION_SCHEMA "'\n"
                               "log_line_prefix = '%m [%p] '\n";

#define PRIMARY_FILE "primary.conf"

static int write_file(const char *dir, const char *name, const char *text, size_t len, struct err *err)
{
    auto_free char *path = xasprintf("%s/%s", dir, name);
    return fs_write_plain(path, text, len, 0644, (uid_t)-1, (gid_t)-1, err);
}

int pg_conf_write(const struct pg_conf *conf, struct err *err)
{
    auto_buf main_conf = { 0 }, hba = { 0 }, ident = { 0 };
    buf_adds(&main_conf, DEFAULTS);
    buf_addf(&main_conf, "max_connections = %d\n", PG_MAX_CONNECTIONS_DEFAULT);
    pg_settings_render(conf->settings, &main_conf);
    if (conf->followed) {
        buf_adds(&main_conf, "include '" PRIMARY_FILE "'\n");
        if (pg_conf_write_primary(conf->conf_dir, NULL, NULL, err) < 0)
            return -1;
    }
    buf_addf(&ident, "# Made by mered at each start.\nmere \"%s\" " PG_ADMIN_ROLE "\n", conf->os_user);
    if (write_file(conf->conf_dir, "postgresql.conf", main_conf.data, main_conf.len, err) < 0)
        return -1;
    buf_adds(&hba, HBA);
    buf_adds(&hba, conf->standby && !conf->followed ? HBA_THEN : HBA_NOW);
    if (write_file(conf->conf_dir, "pg_hba.conf", hba.data, hba.len, err) < 0)
        return -1;
    return write_file(conf->conf_dir, "pg_ident.conf", ident.data, ident.len, err);
}

/* In quotes, as connection strings and postgresql.conf both read it. */
static void add_quoted(struct buf *b, const char *value)
{
    buf_adds(b, "'");
    for (const char *p = value; *p; p++)
        buf_addf(b, *p == '\'' || *p == '\\' ? "\\%c" : "%c", *p);
    buf_adds(b, "'");
}

int pg_conf_write_primary(const char *conf_dir, const char *socket_dir, const char *passfile, struct err *err)
{
    auto_buf conninfo = { 0 }, text = { 0 };
    if (socket_dir) {
        buf_addf(&conninfo, "port=%d user=" PG_REPLICA_ROLE " host=", PG_PORT);
        add_quoted(&conninfo, socket_dir);
        buf_adds(&conninfo, " passfile=");
        add_quoted(&conninfo, passfile);
    }
    buf_adds(&text,
             "# Made by mered when the compute that writes the branch comes or goes.\nprimary_conninfo = ");
    add_quoted(&text, buf_str(&conninfo));
    buf_adds(&text, "\n");
    return write_file(conf_dir, PRIMARY_FILE, text.data, text.len, err);
}

int64_t pg_conf_max_connections(const struct pg_conf *conf)
{
    int64_t own = pg_settings_max_connections(conf->settings);
    return conf->standby && conf->needs.max_connections > own ? conf->needs.max_connections : own;
}

#define RECOVERY_MAX 16

/* Postgres refuses to let readers in, and stops replaying, where a standby has less than what it replays
 * from. */
static size_t add_needs(struct arena *a, const struct pg_conf *conf, const char **out)
{
    const struct {
        const char *name;
        int64_t need, fallback; /* of Postgres */
    } NEEDS[] = {
        { "max_worker_processes", conf->needs.max_worker_processes, 8 },
        { "max_wal_senders", conf->needs.max_wal_senders, 10 },
        { "max_locks_per_transaction", conf->needs.max_locks_per_transaction, 64 },
    };
    size_t n = 0;
    out[n++] = arena_printf(a, "max_connections=%" PRId64, pg_conf_max_connections(conf));
    for (size_t i = 0; i < N_ELEMENTS(NEEDS); i++) {
        int64_t own = pg_settings_integer(conf->settings, NEEDS[i].name, NEEDS[i].fallback);
        out[n++] = arena_printf(a, "%s=%" PRId64, NEEDS[i].name, own > NEEDS[i].need ? own : NEEDS[i].need);
    }
    return n;
}

/* Where WAL comes from that is not in pg_wal, and along which timeline. */
static size_t add_source(struct arena *a, const struct pg_conf *conf, const char **out)
{
    size_t n = 0;
    if (conf->followed) {
        out[n++] =
            arena_printf(a, "restore_command=\"%s\" follow \"%s/archive\" \"%s/pg_wal\" \"%%f\" \"%%p\"",
                         conf->wal_tool, conf->followed, conf->followed);
        out[n++] = "recovery_target_timeline=latest"; /* of those that are visible: the branch's line */
    } else if (conf->first_start || conf->standby) {
        /* They have all their WAL in pg_wal and nothing in an archive of their own; and nobody else's is
           asked.  Who is no standby must have a command; it costs a shell for each segment. */
        out[n++] = conf->standby || conf->promoted ? "restore_command=" : "restore_command=exit 1";
        out[n++] = arena_printf(a, "recovery_target_timeline=%u", (unsigned)conf->fork_tli);
    } else {
        out[n++] = arena_printf(a, "restore_command=\"%s\" fetch \"%s\" \"%%f\" \"%%p\"", conf->wal_tool,
                                conf->archive_dir);
        out[n++] = "recovery_target_timeline=current";
    }
    return n;
}

/* The settings of recovery: of a primary, of the first start of a clone, and of a standby. */
static size_t add_recovery(struct arena *a, const struct pg_conf *conf, const char **out)
{
    size_t n = add_source(a, conf, out);
    json_t *isolation = json_object_get(conf->settings, "default_transaction_isolation");
    /* A standby that serves readers needs settings as large as its parent's; who is promoted serves nobody
       before. */
    out[n++] = conf->first_start ? "hot_standby=off" : "hot_standby=on";
    if (!conf->standby)
        return n;
    /* How long it may lie behind where it does not stream; what is to stay where it is looks for nothing. */
    out[n++] = conf->followed ? "wal_retrieve_retry_interval=1s" : "wal_retrieve_retry_interval=1d";
    if (!conf->followed)
        out[n++] = "primary_conninfo=";
    if (json_is_string(isolation) && strcmp(json_string_value(isolation), "serializable") == 0)
        out[n++] = "default_transaction_isolation=repeatable read"; /* what a standby has at most */
    return n + add_needs(a, conf, out + n);
}

static void add_setting(const char **argv, size_t *at, const char *setting)
{
    argv[(*at)++] = "-c";
    argv[(*at)++] = setting;
}

const char *const *pg_conf_argv(struct arena *a, const struct pg_conf *conf)
{
    const char *const settings[] = {
        arena_printf(a, "config_file=%s/postgresql.conf", conf->conf_dir),
        arena_printf(a, "hba_file=%s/pg_hba.conf", conf->conf_dir),
        arena_printf(a, "ident_file=%s/pg_ident.conf", conf->conf_dir),
        arena_printf(a, "unix_socket_directories=%s", conf->socket_dir),
        arena_printf(a, "port=%d", PG_PORT),
        "listen_addresses=",
        "unix_socket_permissions=0777", /* the directory decides who comes near */
        "ssl=off",
        "archive_mode=on",
        arena_printf(a, "archive_command=\"%s\" push \"%s\" \"%%p\"", conf->wal_tool, conf->archive_dir),
        "wal_level=replica",
        "full_page_writes=on",
        "recovery_init_sync_method=syncfs",
        "wal_sender_timeout=10s", /* a follower that hangs does not hold up a suspend for longer */
        "max_prepared_transactions=0",
        "password_encryption=scram-sha-256",
        arena_printf(a, "superuser_reserved_connections=%d", PG_RESERVED_CONNECTIONS),
        /* The branch may have come with its parent's subscriptions, which are disabled once it is up: until
           then nobody asks the parent's publisher for what the parent is to get. */
        conf->first_start ? "max_logical_replication_workers=0" : "max_logical_replication_workers=4",
        conf->private_shm ? "dynamic_shared_memory_type=posix" : "dynamic_shared_memory_type=mmap",
        "logging_collector=off",
        "log_destination=stderr",
        arena_printf(a, "shared_preload_libraries=%s", conf->preload),
        "session_preload_libraries=",
        conf->relaxed ? "fsync=off" : "fsync=on",
    };
    const char *recovery[RECOVERY_MAX];
    size_t n = add_recovery(a, conf, recovery), at = 0;
    const char **argv = arena_alloc(a, (2 * (N_ELEMENTS(settings) + n) + 4) * sizeof(*argv));
    argv[at++] = arena_printf(a, "%s/postgres", conf->bindir);
    argv[at++] = "-D";
    argv[at++] = conf->data_dir;
    for (size_t i = 0; i < N_ELEMENTS(settings); i++)
        add_setting(argv, &at, settings[i]);
    for (size_t i = 0; i < n; i++)
        add_setting(argv, &at, recovery[i]);
    return argv;
}

int pg_conf_check_path(const char *path, struct err *err)
{
    /* The first four act inside the double quotes of a shell; % is Postgres's, the comma divides directories.
     */
    static const char SPECIAL[] = "\"$`\\%,";
    size_t len = strlen(path);
    for (size_t i = 0; i < len; i++) {
        char c = path[i];
        bool control = (c >= 0 && c < ' ') || c == 0x7f;
        if (control)
            return err_set(err, ERR_INVALID,
                           "a path of Mere may not have a line break or another control character in it: "
                           "the one it was given has 0x%02X at byte %zu; choose another directory",
                           (unsigned)c, i + 1);
        if (strchr(SPECIAL, c))
            return err_set(
                err, ERR_INVALID,
                "a path of Mere may not have any of \" $ ` \\ %% , in it, because Postgres could not "
                "use it: \"%.300s\" has %c; choose another directory",
                path, c);
    }
    return 0;
}

const char *pg_conf_socket(struct arena *a, const char *socket_dir)
{
    return arena_printf(a, "%s/.s.PGSQL.%d", socket_dir, PG_PORT);
}
