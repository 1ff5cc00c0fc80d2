/*
 * server.c - HTTP: the one file that knows the library
 *
 * One thread a connection.  A request is routed and its key checked before its body is read, so that nobody
 * without a key makes us keep anything.  Renders answers and errors, writes one line of log a request:
 * method, pattern of the route, status, time; no query, no body, no header, since those may hold secrets.
 */
#include "api/api.h"

#include "api/auth.h"
#include "api/deadline.h"
#include "api/once.h"
#include "api/resource.h"
#include "api/router.h"
#include "api/settle.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG          511
#define CONNECTION_BYTES (16 * 1024)  /* headers and what is read of a body at once */
#define STACK_BYTES      (256 * 1024) /* deepest: an intent inside SQLite, about 60 KB */
#define DRAIN_MAX                                                                                            \
    (8 << 20) /* a body that is refused is read up to here, so that its sender gets to see why */

#define IDLE_S     60                   /* between two requests of a connection */
#define HEADER_MS  15000                /* from connect to the end of the first request line */
#define REQUEST_MS 30000                /* from there to the end of the body */
#define SEND_MS    120000               /* for the answer */
#define NEXT_MS    (IDLE_S + 15) * 1000 /* from an answer to the next request line */
#define STOP_MS    10000                /* for requests under way when the server stops */

struct api {
    struct MHD_Daemon *daemon;
    struct sched *sched;
    struct auth auth;
    struct deadlines *deadlines;
    struct once once;
    int listen_fd, port;
    bool shared; /* the service manager's too: clients queue there while we are away */
    atomic_bool stopping;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t all_done;
    int active; /* requests between their headers and the end of their answer */
};

struct client {
    struct deadline *deadline;
    char address[NI_MAXHOST];
};

/* One request and its answer. */
struct exchange {
    struct api *api;
    struct client *client;
    struct http_req req;
    struct principal who;
    const struct route *route; /* NULL: none fits */
    const char *allow;         /* for 405 */
    struct buf body;
    size_t received;
    int64_t begin_us;
    struct err err;
    bool begun, failed, answered;
};

/* --- answers --- */

static struct MHD_Response *make_response(const struct http_res *res)
{
    char *text = res->body != NULL   ? json_dumps(res->body, JSON_COMPACT | JSON_REAL_PRECISION(15))
                 : res->text != NULL ? xstrdup(res->text)
                                     : xstrdup("");
    struct MHD_Response *response =
        text != NULL ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;

    if (response == NULL)
        abort(); /* out of memory, or a JSON value that a view should not have made */
    return response;
}

static void add_headers(const struct exchange *x, const struct http_res *res, struct MHD_Response *response,
                        bool close)
{
    if (res->body != NULL || res->text != NULL)
        MHD_add_response_header(response, "Content-Type", res->text != NULL ? res->type : "application/json");
    for (size_t i = 0; i < res->n_headers; i++)
        MHD_add_response_header(response, res->headers[i].name, res->headers[i].value);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Request-Id", x->req.request_id);
    MHD_add_response_header(response, "x-neon-ret-request-id", x->req.request_id);
    if (x->failed && x->allow != NULL)
        MHD_add_response_header(response, "Allow", x->allow);
    if (x->failed && x->err.code == ERR_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (x->failed && err_retryable(x->err.code))
        MHD_add_response_header(response, "Retry-After", "1");
    if (close)
        MHD_add_response_header(response, "Connection", "close");
}

static enum log_level level_of(const struct exchange *x, int status)
{
    if (status < 500 || atomic_load(&x->api->stopping))
        return LOG_INFO;
    return status == 500 ? LOG_ERROR : LOG_WARN;
}

static void log_answer(const struct exchange *x, int status)
{
    char code[16], ms[32];
    bool serious = x->failed && status >= 500;

    snprintf(code, sizeof(code), "%d", status);
    snprintf(ms, sizeof(ms), "%.1f", (double)(clock_mono_us() - x->begin_us) / 1000);
    log_event(level_of(x, status), "api", "request", "method", x->req.method, "route",
              x->route != NULL ? x->route->pattern : "-", "status", code, "ms", ms, "key", x->req.account,
              "code", x->failed ? err_name(x->err.code) : NULL, "error", serious ? x->err.msg : NULL,
              "detail", serious && x->err.detail[0] != '\0' ? x->err.detail : NULL, NULL);
}

static enum MHD_Result answer(struct exchange *x, struct MHD_Connection *connection,
                              const struct http_res *res, bool close)
{
    struct MHD_Response *response = make_response(res);
    enum MHD_Result rc;

    add_headers(x, res, response, close || atomic_load(&x->api->stopping));
    log_answer(x, res->status);
    deadline_set(x->client->deadline, SEND_MS);
    x->answered = true;
    rc = MHD_queue_response(connection, (unsigned)res->status, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result answer_error(struct exchange *x, struct MHD_Connection *connection, bool close)
{
    json_auto_t *body = http_error_json(&x->req, &x->err);
    struct http_res res = { .status = err_http(x->err.code), .body = body };

    return answer(x, connection, &res, close);
}

/* --- a request --- */

static int parse_body(struct exchange *x)
{
    if (strcmp(x->req.method, "GET") == 0) {
        x->req.body = json_object();
        return 0;
    }
    if (http_parse_body(x->body.data, x->body.len, &x->req.body, &x->err) < 0)
        return -1;
    return x->route->takes_body ? 0 : http_known_keys(x->req.body, NULL, 0, &x->err);
}

/* What a client may ask of any change: only if, only once. */
static int change(struct exchange *x, struct http_res *res)
{
    int rc;

    resource_guard_begin(&x->req);
    rc = x->req.idempotency_key != NULL && strcmp(x->req.method, "POST") == 0
             ? once_handle(&x->api->once, &x->req, x->route->handler, x->body.data, x->body.len, res, &x->err)
             : x->route->handler(&x->req, res, &x->err);
    resource_guard_end();
    return rc;
}

/* And of any answer: when it is done, and what it shows. */
static int handle(struct exchange *x, struct http_res *res)
{
    struct settling how;
    bool spec;

    if (parse_body(x) < 0 || settle_read(&x->req, &how, &x->err) < 0 ||
        resource_read_view(&x->req, &spec, &x->err) < 0 || change(x, res) < 0)
        return -1;
    if (settle(&x->req, &how, res, &x->err) == 0 && resource_show(&x->req, spec, res, &x->err) == 0)
        return 0;
    json_decref(TAKE(res->body));
    return -1;
}

/* The whole request is here. */
static enum MHD_Result carry_out(struct exchange *x, struct MHD_Connection *connection)
{
    struct http_res res = { 0 };
    enum MHD_Result rc;

    deadline_set(x->client->deadline, 0);
    if (!x->failed)
        x->failed = handle(x, &res) < 0;
    if (x->failed)
        return answer_error(x, connection, false);
    rc = answer(x, connection, &res, false);
    json_decref(res.body);
    return rc;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static int check_head(struct exchange *x, struct MHD_Connection *connection, int64_t length)
{
    const char *encoding = header(connection, "Content-Encoding");

    if (x->failed) /* the target cannot be read */
        return -1;
    x->route = router_find(&x->req, &x->allow, &x->err);
    if (x->route == NULL)
        return -1;
    if (atomic_load(&x->api->stopping))
        return err_set(&x->err, ERR_UNAVAILABLE, "the server is stopping; nothing was changed");
    if (x->route->auth != ROUTE_OPEN &&
        auth_check(&x->api->auth, &x->req, header(connection, "Authorization"), x->route->auth == ROUTE_BASIC,
                   &x->who, &x->err) < 0)
        return -1;
    if (strcmp(x->req.method, "GET") == 0)
        return 0;
    if (encoding != NULL && strcasecmp(encoding, "identity") != 0)
        return err_set(&x->err, ERR_MEDIA_TYPE, "the body is encoded as \"%.32s\"; send it as it is",
                       encoding);
    if (length > (int64_t)x->route->body_max)
        return err_set(&x->err, ERR_TOO_LARGE,
                       "the body is larger than the %zu bytes it may have here; nothing was changed",
                       x->route->body_max);
    return 0;
}

/* The headers are here.  What is refused now is answered once its body has been read and dropped, unless that
 * would be too much. */
static enum MHD_Result begin(struct exchange *x, struct MHD_Connection *connection, const char *method)
{
    const char *text = header(connection, "Content-Length");
    int64_t length = 0;

    x->begun = true;
    pthread_mutex_lock(&x->api->mutex);
    x->api->active++;
    pthread_mutex_unlock(&x->api->mutex);
    x->req.method = arena_strndup(x->req.arena, method, 32);
    http_set_request_id(&x->req, header(connection, "X-Request-Id"));
    x->req.prefer = header(connection, "Prefer");
    x->req.if_match = header(connection, "If-Match");
    x->req.if_none_match = header(connection, "If-None-Match");
    x->req.idempotency_key = header(connection, "Idempotency-Key");
    log_set_request(x->req.request_id);
    if (text != NULL && !text_to_i64(text, 0, INT64_MAX, &length))
        length = INT64_MAX;
    x->failed = check_head(x, connection, length) < 0;
    if (x->failed && (length > DRAIN_MAX || (length > 0 && header(connection, "Expect") != NULL)))
        return answer_error(x, connection, true);
    return MHD_YES;
}

static enum MHD_Result take(struct exchange *x, const char *data, size_t len)
{
    x->received += len;
    if (x->received > DRAIN_MAX)
        return MHD_NO;
    if (x->failed || strcmp(x->req.method, "GET") == 0)
        return MHD_YES;
    if (x->received > x->route->body_max) {
        buf_fini(&x->body);
        err_set(&x->err, ERR_TOO_LARGE,
                "the body is larger than the %zu bytes it may have here; nothing was changed",
                x->route->body_max);
        x->failed = true;
        return MHD_YES;
    }
    buf_add(&x->body, data, len);
    return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data, size_t *len,
                                 void **state)
{
    struct exchange *x = *state;

    (void)cls;
    (void)url; /* decoded already: an encoded slash cannot be told from one that separates */
    (void)version;
    if (!x->begun)
        return begin(x, connection, method);
    if (*len > 0) {
        enum MHD_Result rc = take(x, data, *len);

        *len = 0;
        return rc;
    }
    return carry_out(x, connection);
}

/* The request line is here. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct exchange *x = xcalloc(1, sizeof(*x));

    x->api = cls;
    x->client = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    x->begin_us = clock_mono_us();
    x->req.arena = arena_new(0);
    x->req.sched = x->api->sched;
    x->req.peer = x->client->address;
    x->req.stopping = &x->api->stopping;
    x->failed = http_parse_target(&x->req, target, &x->err) < 0;
    deadline_set(x->client->deadline, REQUEST_MS);
    return x;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *state;

    (void)cls;
    (void)connection;
    if (x == NULL)
        return;
    *state = NULL;
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        deadline_set(x->client->deadline, NEXT_MS);
    if (!x->answered)
        log_event(LOG_DEBUG, "api", "a request broke off", "route",
                  x->route != NULL ? x->route->pattern : "-", NULL);
    if (x->begun)
        auth_touch(&x->req, &x->who);
    log_set_request(NULL);
    if (x->begun) {
        pthread_mutex_lock(&x->api->mutex);
        if (--x->api->active == 0)
            pthread_cond_signal(&x->api->all_done);
        pthread_mutex_unlock(&x->api->mutex);
    }
    json_decref(x->req.body);
    buf_fini(&x->body);
    arena_free(x->req.arena);
    free(x);
}

/* --- connections --- */

static void name_client(struct client *c, const struct sockaddr *address)
{
    socklen_t len = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    if (getnameinfo(address, len, c->address, sizeof(c->address), NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(c->address, sizeof(c->address), "unknown");
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode what)
{
    struct api *api = cls;
    struct client *c = *state;
    int on = 1;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

        c = xcalloc(1, sizeof(*c));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        name_client(c, MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
        c->deadline = deadline_add(api->deadlines, fd, HEADER_MS);
        *state = c;
    } else if (c != NULL) {
        deadline_del(c->deadline);
        free(c);
        *state = NULL;
    }
}

static void PRINTF_LIKE(2, 0) on_log(void *cls, const char *fmt, va_list ap)
{
    char text[256];

    (void)cls;
    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_event(LOG_DEBUG, "api", text, NULL);
}

/* --- start and stop --- */

static int try_listen(const struct addrinfo *ai)
{
    auto_fd fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
    int on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return TAKE_FD(fd);
}

static int listen_failed(const struct api_config *cfg, int why, struct err *err)
{
    if (why == EADDRINUSE)
        return err_set(
            err, ERR_CONFLICT,
            "port %d on %s is in use; stop what listens there or choose another with --listen HOST:PORT",
            cfg->port, cfg->host);
    if (why == EACCES)
        return err_set(
            err, ERR_FORBIDDEN,
            "port %d may not be opened by this user; choose one above 1023 with --listen HOST:PORT",
            cfg->port);
    errno = why;
    err_sys(err, "listen on %s:%d", cfg->host, cfg->port);
    err_set(err, ERR_PRECONDITION,
            "cannot listen on %s port %d (%s); choose another address with --listen HOST:PORT", cfg->host,
            cfg->port, strerrordesc_np(why));
    return -1;
}

static int open_listener(struct api *api, const struct api_config *cfg, struct err *err)
{
    struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *list;
    struct sockaddr_storage address = { 0 };
    socklen_t len = sizeof(address);
    auto_free char *port = xasprintf("%d", cfg->port);
    int why = 0;

    if (getaddrinfo(cfg->host, port, &hints, &list) != 0)
        return err_set(err, ERR_PRECONDITION,
                       "\"%s\" is no address of this machine; give another with --listen HOST:PORT",
                       cfg->host);
    for (const struct addrinfo *ai = list; ai != NULL && api->listen_fd < 0; ai = ai->ai_next) {
        api->listen_fd = try_listen(ai);
        why = errno;
    }
    freeaddrinfo(list);
    if (api->listen_fd < 0)
        return listen_failed(cfg, why, err);
    if (getsockname(api->listen_fd, (struct sockaddr *)&address, &len) < 0)
        return err_sys(err, "name of the listening socket");
    api->port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                    : ((struct sockaddr_in *)&address)->sin_port);
    return 0;
}

/* poll, since a busy server has descriptors beyond what select can name.  The last connections are never one
 * address's. */
static int start_daemon(struct api *api, const struct api_config *cfg, struct err *err)
{
    unsigned max = (unsigned)cfg->max_connections;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                     MHD_USE_ITC | MHD_USE_ERROR_LOG;

    api->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, api, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, api->listen_fd, MHD_OPTION_URI_LOG_CALLBACK, on_target, api,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, api,
        MHD_OPTION_CONNECTION_LIMIT, max, MHD_OPTION_PER_IP_CONNECTION_LIMIT, max - max / 8,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_END);
    if (api->daemon == NULL)
        return err_set(err, ERR_INTERNAL, "the HTTP server does not start");
    return 0;
}

int api_start(const struct api_config *cfg, struct sched *s, struct api **ret, struct err *err)
{
    struct api *api = xcalloc(1, sizeof(*api));
    pthread_condattr_t attr;

    api->sched = s;
    api->listen_fd = cfg->listen_fd;
    api->port = cfg->port;
    api->shared = cfg->listen_fd >= 0;
    auth_init(&api->auth, cfg->admin_key);
    once_init(&api->once);
    pthread_mutex_init(&api->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&api->all_done, &attr);
    pthread_condattr_destroy(&attr);
    if ((!api->shared && open_listener(api, cfg, err) < 0) || deadlines_start(&api->deadlines, err) < 0 ||
        start_daemon(api, cfg, err) < 0) {
        api_stop(api);
        return -1;
    }
    *ret = api;
    return 0;
}

int api_port(const struct api *api)
{
    return api->port;
}

static void wait_for_requests(struct api *api)
{
    int64_t until_ms = clock_mono_ms() + STOP_MS;
    struct timespec until = { .tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000 };
    int rc = 0;

    pthread_mutex_lock(&api->mutex);
    while (api->active > 0 && rc == 0)
        rc = pthread_cond_timedwait(&api->all_done, &api->mutex, &until);
    pthread_mutex_unlock(&api->mutex);
}

void api_stop(struct api *api)
{
    if (api == NULL)
        return;
    atomic_store(&api->stopping, true);
    if (api->daemon != NULL) {
        /* The library wants the descriptor kept open until it has stopped; shut down, it refuses whoever
         * connects. */
        (void)MHD_quiesce_daemon(api->daemon);
        if (!api->shared)
            (void)shutdown(api->listen_fd, SHUT_RDWR);
        wait_for_requests(api);
        MHD_stop_daemon(api->daemon);
    }
    fd_close(&api->listen_fd);
    deadlines_stop(api->deadlines);
    once_fini(&api->once);
    pthread_cond_destroy(&api->all_done);
    pthread_mutex_destroy(&api->mutex);
    free(api);
}
