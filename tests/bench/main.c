/*
 * main.c - mere-bench: measures forks and wakes of a running server, prints a table, writes it as JSON
 *
 * The server is started by the caller, on an otherwise idle machine; see bench_fork.py.
 */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>

struct options opt = { .repeats = 200 };

struct row {
    char *measure;
    const char *unit;
    double value, limit;
    bool ok;
};
static struct row rows[64];
static size_t n_rows;

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("bench: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    baseline_close();
    exit(2);
}

double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void pause_ms(double ms)
{
    struct timespec t = { .tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(fmod(ms, 1e3) * 1e6) };
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

void series_add(struct series *s, double v)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 256;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
    }
    s->v[s->n++] = v;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double series_quantile(const struct series *s, double q)
{
    if (s->n == 0)
        die("a series is empty");
    double *sorted = xmalloc(s->n * sizeof(*sorted));
    memcpy(sorted, s->v, s->n * sizeof(*sorted));
    qsort(sorted, s->n, sizeof(*sorted), by_value);
    double where = q * (double)(s->n - 1), low = floor(where);
    size_t i = (size_t)low, j = i + 1 < s->n ? i + 1 : i;
    double v = sorted[i] + (sorted[j] - sorted[i]) * (where - low);
    free(sorted);
    return v;
}

void report_row(const char *measure, double value, const char *unit, double limit)
{
    if (n_rows == N_ELEMENTS(rows))
        die("too many rows");
    rows[n_rows++] = (struct row){ .measure = xstrdup(measure),
                                   .unit = unit,
                                   .value = value,
                                   .limit = limit,
                                   .ok = limit < 0 || value <= limit };
    printf("  %-92s %10.2f %s\n", measure, value, unit);
    fflush(stdout);
}

void report_series(const char *measure, const struct series *s, const char *unit, double limit)
{
    auto_free char *p25 = xasprintf("%s, p25", measure), *p75 = xasprintf("%s, p75", measure),
                   *p50 = xasprintf("%s, p50", measure);
    report_row(p50, series_p50(s), unit, limit);
    report_row(p25, series_quantile(s, 0.25), unit, -1);
    report_row(p75, series_quantile(s, 0.75), unit, -1);
}

static double rounded(double v)
{
    return round(v * 100) / 100;
}

int report_end(void)
{
    int missed = 0;
    json_t *all = json_array();
    printf("\n%-92s %10s %-8s %-12s\n", "measure", "value", "unit", "must be");
    for (size_t i = 0; i < n_rows; i++) {
        const struct row *r = &rows[i];
        auto_free char *must = r->limit < 0 ? NULL : xasprintf("<= %.2f", r->limit);
        printf("%-92s %10.2f %-8s %-12s %s\n", r->measure, r->value, r->unit, must ? must : "",
               r->limit < 0 ? ""
               : r->ok      ? "ok"
                            : "MISSED");
        json_array_append_new(all, json_pack("{s:s, s:f, s:s, s:s?, s:b}", "measure", r->measure, "value",
                                             rounded(r->value), "unit", r->unit, "must", must, "ok", r->ok));
        missed += !r->ok;
    }
    if (json_dump_file(all, opt.out, JSON_INDENT(2) | JSON_REAL_PRECISION(8)) < 0)
        die("cannot write %s", opt.out);
    json_decref(all);
    printf("\n%s: %zu rows, %d missed\n", opt.out, n_rows, missed);
    return missed;
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = { { "host", 1, NULL, 'h' },    { "port", 1, NULL, 'p' },
                                           { "pg-host", 1, NULL, 'H' }, { "pg-port", 1, NULL, 'P' },
                                           { "data", 1, NULL, 'd' },    { "store", 1, NULL, 's' },
                                           { "scratch", 1, NULL, 't' }, { "bindir", 1, NULL, 'b' },
                                           { "out", 1, NULL, 'o' },     { "mered", 1, NULL, 'm' },
                                           { "proxy", 1, NULL, 'x' },   { "repeats", 1, NULL, 'n' },
                                           { NULL, 0, NULL, 0 } };
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (c) {
        case 'h':
            opt.host = optarg;
            break;
        case 'p':
            opt.port = (int)strtol(optarg, NULL, 10);
            break;
        case 'H':
            opt.pg_host = optarg;
            break;
        case 'P':
            opt.pg_port = optarg;
            break;
        case 'd':
            opt.data = optarg;
            break;
        case 's':
            opt.store = optarg;
            break;
        case 't':
            opt.scratch = optarg;
            break;
        case 'b':
            opt.bindir = optarg;
            break;
        case 'o':
            opt.out = optarg;
            break;
        case 'm':
            opt.mered = (pid_t)strtol(optarg, NULL, 10);
            break;
        case 'x':
            opt.proxy = (pid_t)strtol(optarg, NULL, 10);
            break;
        case 'n':
            opt.repeats = (int)strtol(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    opt.key = getenv("MERE_API_KEY");
    if (!opt.host || !opt.pg_host || !opt.pg_port || !opt.data || !opt.store || !opt.scratch || !opt.bindir ||
        !opt.out || !opt.key)
        die("usage: MERE_API_KEY=… mere-bench --host --port --pg-host --pg-port --data --store --scratch "
            "--bindir --out --mered --proxy [--repeats N]");
}

int main(int argc, char **argv)
{
    struct project p = { 0 };
    parse(argc, argv);
    printf("%d repeats, store %s, %ld cores\n", opt.repeats, opt.store, sysconf(_SC_NPROCESSORS_ONLN));
    project_make(&p);
    free(query(&p, p.endpoint,
               "CREATE TABLE written (n bigint PRIMARY KEY); CREATE TABLE t AS SELECT generate_series(1, "
               "10000) AS n; SELECT 1"));
    endpoint_suspend(&p, p.endpoint);
    baseline_open(&p, p.branch);
    measure_cold(&p);
    baseline_close();
    measure_crowds(&p);
    measure_running(&p);
    endpoint_suspend(&p, p.endpoint);
    measure_many(&p);
    return report_end() ? 1 : 0;
}
