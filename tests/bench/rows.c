/*
 * rows.c - the measurements
 *
 * Baseline and measured runs alternate, so that whatever the machine does besides hits both.  Between two
 * runs everything is stopped again; nothing is started ahead of a timed run.
 */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define CHILDREN_MANY 1000

static double p50_single; /* create -> first query, one client */

void measure_cold(const struct project *p)
{
    struct series fresh = { 0 }, again = { 0 }, post = { 0 }, first = { 0 }, wake = { 0 };
    printf("\nsuspended parent:\n");
    for (int i = 0; i < opt.repeats; i++) {
        series_add(&fresh, baseline_fresh());
        settle();
        double begun = now_ms();
        struct child c = child_make(p);
        series_add(&post, now_ms() - begun);
        free(query(p, c.endpoint, "select 1"));
        series_add(&first, now_ms() - begun);
        endpoint_suspend(p, c.endpoint);
        series_add(&again, baseline_again());
        settle();
        begun = now_ms();
        free(query(p, c.endpoint, "select 1"));
        series_add(&wake, now_ms() - begun);
        endpoint_suspend(p, c.endpoint);
        child_drop(p, &c);
    }
    p50_single = series_p50(&first);
    report_series("baseline: exec of postgres on a fresh clone -> select 1", &fresh, "ms", -1);
    report_series("baseline: exec of postgres on a clone that ran before -> select 1", &again, "ms", -1);
    report_series("POST branches with an endpoint, parent suspended, 1 client", &post, "ms", 10);
    report_series("POST -> first select 1 through the proxy", &first, "ms", 2.0 * series_p50(&fresh));
    report_row("  as a multiple of its baseline", p50_single / series_p50(&fresh), "x", -1);
    report_series("connect to a suspended, materialised endpoint -> first query", &wake, "ms",
                  1.5 * series_p50(&again));
    report_row("  as a multiple of its baseline", series_p50(&wake) / series_p50(&again), "x", -1);
}

struct client {
    const struct project *p;
    pthread_barrier_t *gate;
    struct child made;
    double took;
};

static void *crowd_client(void *arg)
{
    struct client *c = arg;
    pthread_barrier_wait(c->gate);
    double begun = now_ms();
    c->made = child_make(c->p);
    free(query(c->p, c->made.endpoint, "select 1"));
    c->took = now_ms() - begun;
    return NULL;
}

static void *drop_client(void *arg)
{
    struct client *c = arg;
    child_drop(c->p, &c->made);
    return NULL;
}

static void in_parallel(void *(*work)(void *), struct client *clients, int n)
{
    pthread_t *threads = xcalloc((size_t)n, sizeof(*threads));
    for (int i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, &clients[i]) != 0)
            die("cannot start a thread");
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

static void measure_crowd(const struct project *p, int n)
{
    struct series took = { 0 };
    struct client *clients = xcalloc((size_t)n, sizeof(*clients));
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, (unsigned)n);
    for (int done = 0; done < opt.repeats; done += n) {
        for (int i = 0; i < n; i++)
            clients[i] = (struct client){ .p = p, .gate = &gate };
        in_parallel(crowd_client, clients, n);
        for (int i = 0; i < n; i++)
            series_add(&took, clients[i].took);
        in_parallel(drop_client, clients, n);
    }
    pthread_barrier_destroy(&gate);
    auto_free char *name = xasprintf("create -> first query, %d clients at once", n);
    report_series(name, &took, "ms", p50_single * n / (double)sysconf(_SC_NPROCESSORS_ONLN) * 1.2);
    free(clients);
    free(took.v);
}

void measure_crowds(const struct project *p)
{
    printf("\nmany at once:\n");
    measure_crowd(p, 16);
    measure_crowd(p, 64);
}

/* A light writer: one row, one commit, every 20 ms. */
struct writer {
    const struct project *p;
    _Atomic long acked;
    _Atomic bool halt;
};

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    auto_free char *options = xasprintf("endpoint=%s", w->p->endpoint);
    const char *const keys[] = { "host", "port", "user", "password", "dbname", "sslmode", "options", NULL };
    const char *const values[] = { opt.pg_host,    opt.pg_port, w->p->role, w->p->password,
                                   w->p->database, "require",   options,    NULL };
    PGconn *conn = PQconnectdbParams(keys, values, 0);
    if (PQstatus(conn) != CONNECTION_OK)
        die("writer: %s", PQerrorMessage(conn));
    for (long n = 1; !w->halt; n++) {
        auto_free char *sql = xasprintf("INSERT INTO written VALUES (%ld)", n);
        PGresult *r = PQexec(conn, sql);
        if (PQresultStatus(r) != PGRES_COMMAND_OK)
            die("writer: %s", PQerrorMessage(conn));
        PQclear(r);
        w->acked = n;
        pause_ms(20);
    }
    PQfinish(conn);
    return NULL;
}

static bool lsn_is_final(const struct project *p, const struct child *c)
{
    json_t *a = rest("GET", NULL, "/projects/%s/branches/%s", p->id, c->id);
    bool same = strcmp(at(a, "branch.parent_lsn"), c->parent_lsn) == 0;
    json_decref(a);
    return same;
}

void measure_running(const struct project *p)
{
    struct writer w = { .p = p };
    struct series post = { 0 };
    long missing = 0, changed = 0;
    pthread_t thread;
    printf("\nrunning, lightly written parent:\n");
    if (pthread_create(&thread, NULL, writer_main, &w) != 0)
        die("cannot start a thread");
    while (w.acked < 10)
        pause_ms(5);
    for (int i = 0; i < opt.repeats; i++) {
        settle();
        long before = w.acked;
        double begun = now_ms();
        struct child c = child_make(p);
        series_add(&post, now_ms() - begun);
        auto_free char *sql = xasprintf("SELECT count(*) FROM written WHERE n <= %ld", before),
                       *found = query(p, c.endpoint, sql);
        missing += before - strtol(found, NULL, 10);
        changed += !lsn_is_final(p, &c);
        child_drop(p, &c);
    }
    w.halt = true;
    pthread_join(thread, NULL);
    report_series("POST branches on a running, lightly written parent", &post, "ms",
                  strcmp(opt.store, "btrfs") == 0 ? 50 : -1);
    report_row("  commits acknowledged before the POST and missing in the branch", (double)missing, "commits",
               0);
    report_row("  branches whose parent_lsn was not final in the answer", (double)changed, "branches", 0);
}

/* Bytes on disk below a directory, without what is mounted there. */
static double usage(int parent, const char *name, dev_t dev)
{
    struct stat st;
    double sum = 0;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            strcmp(e->d_name, "disk.btrfs") == 0)
            continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
            continue;
        sum += (double)st.st_blocks * 512;
        if (S_ISDIR(st.st_mode))
            sum += usage(dirfd(d), e->d_name, dev);
    }
    closedir(d);
    return sum;
}

/* What the server takes on disk: its directory, and the file system its volumes are on when that is another
 * one. */
static double disk_used(void)
{
    auto_free char *volumes = xasprintf("%s/volumes", opt.data);
    struct stat data, vol;
    struct statfs fs;
    sync();
    if (stat(opt.data, &data) < 0 || stat(volumes, &vol) < 0 || statfs(volumes, &fs) < 0)
        die("cannot look at %s", opt.data);
    double sum = usage(AT_FDCWD, opt.data, data.st_dev);
    if (vol.st_dev != data.st_dev)
        sum += (double)(fs.f_blocks - fs.f_bfree) * (double)fs.f_bsize;
    return sum;
}

static double resident_mb(pid_t pid)
{
    auto_free char *path = xasprintf("/proc/%d/status", (int)pid);
    char line[256];
    double kb = -1;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtod(line + 6, NULL);
    if (f)
        fclose(f);
    if (kb < 0)
        die("process %d is not there", (int)pid);
    return kb / 1024;
}

static int postgres_children(void)
{
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        auto_free char *path = xasprintf("/proc/%s/stat", e->d_name);
        char comm[32] = "";
        int pid = 0, ppid = 0;
        FILE *f = fopen(path, "r");
        if (!f)
            continue;
        if (fscanf(f, "%d (%31[^)]) %*c %d", &pid, comm, &ppid) == 3 && ppid == opt.mered &&
            strcmp(comm, "postgres") == 0)
            n++;
        fclose(f);
    }
    if (d)
        closedir(d);
    return n;
}

void measure_many(const struct project *p)
{
    printf("\n%d branches that nobody connects to:\n", CHILDREN_MANY);
    struct child first = child_make(p);
    child_free(&first);
    double before = disk_used();
    for (int i = 0; i < CHILDREN_MANY; i++) {
        struct child c = child_make(p);
        child_free(&c);
    }
    double each = (disk_used() - before) / CHILDREN_MANY;
    report_row("disk taken by a branch of a suspended parent that nobody connected to", each / 1024, "KB",
               64);
    report_row("1,000 such branches: Postgres processes", postgres_children(), "", 0);
    double mered = resident_mb(opt.mered), proxy = resident_mb(opt.proxy);
    report_row("1,000 such branches: resident memory of mered + mere-proxy", mered + proxy, "MB", 60);
    report_row("  of which mered", mered, "MB", -1);
}
