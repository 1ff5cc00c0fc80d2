#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/socket.h>

#define ANSWER_MAX (32u << 20)

static int dial(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || inet_pton(AF_INET, opt.host, &a.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        die("cannot connect to %s:%d", opt.host, opt.port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            die("the server closed the connection");
        data += n;
        len -= (size_t)n;
    }
}

/* All that comes until the end; NUL-terminated. */
static char *receive_all(int fd, size_t *ret_len)
{
    size_t cap = 16384, len = 0;
    char *data = xmalloc(cap);
    for (;;) {
        if (len + 1 == cap) {
            if (cap >= ANSWER_MAX)
                die("the answer does not end");
            cap *= 2;
            data = xrealloc(data, cap);
        }
        ssize_t n = recv(fd, data + len, cap - len - 1, 0);
        if (n < 0)
            die("the answer broke off");
        if (n == 0)
            break;
        len += (size_t)n;
    }
    data[len] = '\0';
    *ret_len = len;
    return data;
}

json_t *rest(const char *method, const char *body, const char *path_fmt, ...)
{
    va_list ap;
    auto_free char *path = NULL, *data = NULL;
    size_t len = 0;
    va_start(ap, path_fmt);
    if (vasprintf(&path, path_fmt, ap) < 0)
        die("out of memory");
    va_end(ap);
    auto_free char *request =
        xasprintf("%s /api/v2%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n"
                  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                  method, path, opt.host, opt.key, body ? strlen(body) : 0, body ? body : "");
    auto_fd fd = dial();
    send_all(fd, request, strlen(request));
    data = receive_all(fd, &len);
    const char *content = strstr(data, "\r\n\r\n");
    long status = strncmp(data, "HTTP/1.1 ", 9) == 0 ? strtol(data + 9, NULL, 10) : 0;
    if (!content || status < 200 || status > 299)
        die("%s %s was answered %ld: %.400s", method, path, status, content ? content + 4 : data);
    return content[4] ? json_loads(content + 4, 0, NULL) : NULL;
}

const char *at(const json_t *j, const char *path)
{
    const json_t *here = j;
    for (const char *p = path; here && *p;) {
        size_t len = strcspn(p, ".");
        auto_free char *step = strndup(p, len);
        here =
            json_is_array(here) ? json_array_get(here, strtoul(step, NULL, 10)) : json_object_get(here, step);
        p += len + (p[len] == '.');
    }
    if (!json_is_string(here))
        die("an answer has no %s", path);
    return json_string_value(here);
}

void wait_operations(const char *project, json_t *answer)
{
    size_t i;
    json_t *op;
    json_array_foreach(json_object_get(answer, "operations"), i, op)
    {
        for (;;) {
            json_t *got =
                rest("GET", NULL, "/projects/%s/operations/%s?wait=true&timeout=10", project, at(op, "id"));
            const char *status = at(got, "operation.status");
            bool open = strcmp(status, "scheduling") == 0 || strcmp(status, "running") == 0;
            if (!open && strcmp(status, "finished") != 0 && strcmp(status, "skipped") != 0)
                die("operation %s ended %s", at(got, "operation.action"), status);
            json_decref(got);
            if (!open)
                break;
        }
    }
}
