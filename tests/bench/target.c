#include "bench.h"

#include <libpq-fe.h>

static const char CHILD_BODY[] = "{\"endpoints\": [{\"type\": \"read_write\"}]}";

void project_make(struct project *p)
{
    json_t *a = rest("POST", "{\"project\": {\"name\": \"bench\"}}", "/projects");
    p->id = xstrdup(at(a, "project.id"));
    p->branch = xstrdup(at(a, "branch.id"));
    p->endpoint = xstrdup(at(a, "endpoints.0.id"));
    p->role = xstrdup(at(a, "roles.0.name"));
    p->password = xstrdup(at(a, "roles.0.password"));
    p->database = xstrdup(at(a, "databases.0.name"));
    wait_operations(p->id, a);
    json_decref(a);
}

struct child child_make(const struct project *p)
{
    json_t *a = rest("POST", CHILD_BODY, "/projects/%s/branches", p->id);
    struct child c = { .id = xstrdup(at(a, "branch.id")),
                       .endpoint = xstrdup(at(a, "endpoints.0.id")),
                       .parent_lsn = xstrdup(at(a, "branch.parent_lsn")) };
    json_decref(a);
    return c;
}

void child_free(struct child *c)
{
    free(c->id);
    free(c->endpoint);
    free(c->parent_lsn);
    *c = (struct child){ 0 };
}

void child_drop(const struct project *p, struct child *c)
{
    json_t *a = rest("DELETE", NULL, "/projects/%s/branches/%s", p->id, c->id);
    wait_operations(p->id, a);
    json_decref(a);
    child_free(c);
}

void endpoint_suspend(const struct project *p, const char *endpoint)
{
    json_t *a = rest("POST", NULL, "/projects/%s/endpoints/%s/suspend", p->id, endpoint);
    wait_operations(p->id, a);
    json_decref(a);
    for (double deadline = now_ms() + 30000;; pause_ms(2)) {
        a = rest("GET", NULL, "/projects/%s/endpoints/%s", p->id, endpoint);
        bool idle = strcmp(at(a, "endpoint.current_state"), "idle") == 0;
        json_decref(a);
        if (idle)
            return;
        if (now_ms() > deadline)
            die("endpoint %s does not fall asleep", endpoint);
    }
}

char *query(const struct project *p, const char *endpoint, const char *sql)
{
    auto_free char *options = xasprintf("endpoint=%s", endpoint);
    const char *const keys[] = { "host",   "port",    "user",    "password",
                                 "dbname", "sslmode", "options", "connect_timeout",
                                 NULL };
    const char *const values[] = { opt.pg_host, opt.pg_port, p->role, p->password, p->database,
                                   "require",   options,     "120",   NULL };
    PGconn *conn = PQconnectdbParams(keys, values, 0);
    if (PQstatus(conn) != CONNECTION_OK)
        die("connect to %s: %s", endpoint, PQerrorMessage(conn));
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        die("%s: %s", sql, PQerrorMessage(conn));
    char *value = xstrdup(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
    PQclear(r);
    PQfinish(conn);
    return value;
}
