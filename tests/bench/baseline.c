/*
 * baseline.c - what the same machine needs to bring up stock Postgres on the same data, by hand
 *
 * The clone is of the same kind and on the same file system as the server's own (a subvolume snapshot on
 * btrfs), its pg_wal likewise lies on the host file system behind a link.  Making the clone is not timed;
 * fork, setuid, exec, start and the first answer are. The configuration is Postgres's own defaults, a unix
 * socket, and SCRAM for everybody.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct {
    const struct project *p;
    char *source; /* volume that is cloned */
    char *source_wal;
    char *volumes; /* the server's volumes, seen from our scratch directory: its own is closed to the
                      compute's user */
    char *clones;  /* a directory of ours among them */
    char *kept;    /* the clone that has run before */
    char *socket;
    uid_t uid;
    gid_t gid;
    unsigned count;
    bool mounted, is_btrfs, open;
} b;

int run(const char *const *argv)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        die("cannot run %s", argv[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void must_run(const char *const *argv)
{
    if (run(argv) != 0)
        die("%s %s failed", argv[0], argv[1]);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0 || chmod(path, 0644) < 0)
        die("cannot write %s", path);
}

static char *clone_make(void)
{
    auto_free char *name = xasprintf("%s/c%u", b.clones, b.count),
                   *wal = xasprintf("%s/wal%u", opt.scratch, b.count);
    auto_free char *link = xasprintf("%s/pgdata/pg_wal", name);
    b.count++;
    if (b.is_btrfs)
        must_run((const char *const[]){ "btrfs", "-q", "subvolume", "snapshot", b.source, name, NULL });
    else
        must_run((const char *const[]){ "cp", "-a", "--reflink=auto", b.source, name, NULL });
    must_run((const char *const[]){ "cp", "-a", "--reflink=never", b.source_wal, wal, NULL });
    if (unlink(link) < 0 || symlink(wal, link) < 0)
        die("cannot link %s", link);
    auto_free char *recovery = xasprintf("%s/pgdata/recovery.signal", name);
    unlink(recovery);
    must_run((const char *const[]){ "sync", "-f", name, NULL });
    return TAKE(name);
}

static void clone_drop(char *name)
{
    auto_free char *link = xasprintf("%s/pgdata/pg_wal", name);
    char wal[4096];
    ssize_t n = readlink(link, wal, sizeof(wal) - 1);
    if (n > 0) {
        wal[n] = '\0';
        run((const char *const[]){ "rm", "-rf", wal, NULL });
    }
    if (b.is_btrfs)
        run((const char *const[]){ "btrfs", "-q", "subvolume", "delete", name, NULL });
    else
        run((const char *const[]){ "rm", "-rf", name, NULL });
    free(name);
}

/* In the child: becomes the compute's user and Postgres.  Nothing here allocates. */
static NORETURN void become_postgres(char *const *argv, int log)
{
    dup2(log, 1);
    dup2(log, 2);
    if (getuid() == 0 && (setgroups(0, NULL) < 0 || setgid(b.gid) < 0 || setuid(b.uid) < 0))
        _exit(126);
    setsid();
    execv(argv[0], argv);
    _exit(127);
}

static double answer_ms(double begun, pid_t pid)
{
    const char *const keys[] = { "host", "port", "user", "password", "dbname", NULL };
    const char *const values[] = { b.socket, "5432", b.p->role, b.p->password, b.p->database, NULL };
    for (;;) {
        PGconn *conn = PQconnectdbParams(keys, values, 0);
        if (PQstatus(conn) == CONNECTION_OK) {
            PGresult *r = PQexec(conn, "select 1");
            double took = now_ms() - begun;
            if (PQresultStatus(r) != PGRES_TUPLES_OK)
                die("baseline: %s", PQerrorMessage(conn));
            PQclear(r);
            PQfinish(conn);
            return took;
        }
        if (now_ms() - begun > 60000 || waitpid(pid, NULL, WNOHANG) != 0)
            die("baseline: Postgres does not come up: %s (see %s/baseline.log)", PQerrorMessage(conn),
                opt.scratch);
        PQfinish(conn);
        pause_ms(1);
    }
}

static double start_once(const char *clone)
{
    auto_free char *program = xasprintf("%s/postgres", opt.bindir), *data = xasprintf("%s/pgdata", clone);
    auto_free char *conf = xasprintf("config_file=%s/conf/postgresql.conf", opt.scratch);
    auto_free char *log_path = xasprintf("%s/baseline.log", opt.scratch);
    auto_fd log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    char *argv[] = { program, (char[]){ "-D" }, data, (char[]){ "-c" }, conf, NULL };
    double begun = now_ms();
    pid_t pid = fork();
    if (pid == 0)
        become_postgres(argv, log);
    if (pid < 0)
        die("cannot fork");
    double took = answer_ms(begun, pid);
    kill(pid, SIGINT);
    if (waitpid(pid, NULL, 0) != pid)
        die("baseline: lost Postgres");
    return took;
}

/* What earlier runs left to the file system's background threads must not run into the next one. */
void settle(void)
{
    /* A commit sets the cleaner of deleted subvolumes going; it is done in some milliseconds and leaves
     * something to commit. */
    must_run((const char *const[]){ "sync", "-f", b.volumes, NULL });
    pause_ms(50);
    must_run((const char *const[]){ "sync", "-f", b.volumes, NULL });
}

double baseline_fresh(void)
{
    char *clone = clone_make();
    settle();
    double took = start_once(clone);
    clone_drop(clone);
    return took;
}

double baseline_again(void)
{
    settle();
    return start_once(b.kept);
}

static void write_conf(void)
{
    auto_free char *dir = xasprintf("%s/conf", opt.scratch),
                   *main_conf = xasprintf("%s/postgresql.conf", dir);
    auto_free char *hba = xasprintf("%s/pg_hba.conf", dir), *ident = xasprintf("%s/pg_ident.conf", dir);
    auto_free char *text = xasprintf("listen_addresses = ''\nport = 5432\nunix_socket_directories = "
                                     "'%s'\nhba_file = '%s'\nident_file = '%s'\n",
                                     b.socket, hba, ident);
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        die("cannot make %s", dir);
    write_text(main_conf, text);
    write_text(hba, "local all all scram-sha-256\n");
    write_text(ident, "");
}

void baseline_open(const struct project *p, const char *source)
{
    struct stat st;
    auto_free char *real = xasprintf("%s/volumes", opt.data);
    b.p = p;
    b.open = true;
    b.is_btrfs = strcmp(opt.store, "btrfs") == 0;
    b.volumes = xasprintf("%s/vol", opt.scratch);
    b.clones = xasprintf("%s/.bench", b.volumes);
    b.source = xasprintf("%s/%s", b.volumes, source);
    b.source_wal = xasprintf("%s/wal/%s/pg_wal", opt.data, source);
    b.socket = xasprintf("%s/sock", opt.scratch);
    if (mkdir(b.volumes, 0755) < 0 || mkdir(b.socket, 0755) < 0)
        die("cannot make directories in %s", opt.scratch);
    if (getuid() == 0) {
        if (mount(real, b.volumes, NULL, MS_BIND, NULL) < 0)
            die("cannot bind %s", real);
        b.mounted = true;
    } else if (rmdir(b.volumes) < 0 || symlink(real, b.volumes) < 0) {
        die("cannot link %s", real);
    }
    auto_free char *pgdata = xasprintf("%s/pgdata", b.source);
    if (mkdir(b.clones, 0755) < 0 || stat(pgdata, &st) < 0)
        die("there is no %s", pgdata);
    b.uid = st.st_uid;
    b.gid = st.st_gid;
    if (chown(b.socket, b.uid, b.gid) < 0)
        die("cannot give %s away", b.socket);
    write_conf();
    b.kept = clone_make();
    start_once(b.kept);
}

void baseline_close(void)
{
    if (!b.open)
        return;
    b.open = false;
    if (b.kept)
        clone_drop(TAKE(b.kept));
    if (b.clones)
        rmdir(b.clones);
    if (b.mounted && umount(b.volumes) < 0)
        fprintf(stderr, "bench: cannot unmount %s\n", b.volumes);
}
