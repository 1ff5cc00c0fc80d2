/*
 * httpc.c - one HTTP call
 *
 * Any thread; blocks up to its deadline.  Follows no redirect: a bearer key must not travel to a host nobody
 * named.
 */
#include "base/httpc.h"

#include <curl/curl.h>
#include <pthread.h>

#define USER_AGENT "mere"

struct answer {
    struct buf *body;
    size_t max_bytes;
    bool too_large;
};

static void curl_init_once(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        abort();
}

static void easy_free(CURL **c)
{
    curl_easy_cleanup(*c);
}

static void slist_free(struct curl_slist **l)
{
    curl_slist_free_all(*l);
}

static void url_free(CURLU **u)
{
    curl_url_cleanup(*u);
}

#define auto_easy  CLEANUP(easy_free) CURL
#define auto_slist CLEANUP(slist_free) struct curl_slist
#define auto_url   CLEANUP(url_free) CURLU

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;

    if (size * n > a->max_bytes - a->body->len) {
        a->too_large = true;
        return 0; /* ends the transfer */
    }
    buf_add(a->body, data, size * n);
    return size * n;
}

static int on_progress(void *arg, curl_off_t down, curl_off_t got, curl_off_t up, curl_off_t sent)
{
    const struct httpc_request *req = arg;

    (void)down;
    (void)got;
    (void)up;
    (void)sent;
    return req->tick(req->tick_arg) ? 1 : 0;
}

static void add_header(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);

    if (longer == NULL)
        abort();
    *list = longer;
}

static bool is_http(const char *url)
{
    return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
}

/* A proxy named in the environment is for the world outside, not for this machine. */
static bool is_loopback(const char *url)
{
    auto_url *u = curl_url();
    char *host = NULL;
    bool yes;

    if (u == NULL || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        return false;
    yes = strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
    curl_free(host);
    return yes;
}

static void set_options(CURL *c, const struct httpc_request *req, struct curl_slist *headers,
                        struct answer *a)
{
    curl_easy_setopt(c, CURLOPT_URL, req->url);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, req->method);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)(req->timeout_ms > 0 ? req->timeout_ms : 1));
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(req->timeout_ms > 0 ? req->timeout_ms : 1));
    curl_easy_setopt(c, CURLOPT_USERAGENT, USER_AGENT);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
    if (strcmp(req->method, "HEAD") == 0)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    if (req->body != NULL) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, req->body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(req->body));
    }
    if (req->tick != NULL) {
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, req);
    }
    if (is_loopback(req->url))
        curl_easy_setopt(c, CURLOPT_PROXY, "");
}

/* The URL is not in the texts: it may carry a password. */
static int call_failed(CURLcode rc, const struct answer *a, const struct httpc_request *req, struct err *err)
{
    if (a->too_large)
        return err_set(err, ERR_TOO_LARGE, "the answer has more than %zu bytes and was dropped",
                       req->max_bytes);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_TIMEOUT, "no answer within %d ms", req->timeout_ms);
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, ERR_UNAVAILABLE, "the call was given up");
    if (rc == CURLE_URL_MALFORMAT ||
        !is_http(req->url)) /* "unsupported protocol" is also said of a garbled answer */
        return err_set(err, ERR_INVALID, "this is not an http or https address");
    err_set(err, ERR_UNAVAILABLE, "the server cannot be reached: %s", curl_easy_strerror(rc));
    return err_detail(err, "%s: %s", req->method, curl_easy_strerror(rc));
}

int httpc_call(const struct httpc_request *req, int *ret_status, struct buf *ret_body, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct answer a = { .body = ret_body, .max_bytes = req->max_bytes };
    auto_slist *headers = NULL;
    auto_easy *c = NULL;
    long status = 0;
    CURLcode rc;

    pthread_once(&once, curl_init_once);
    c = curl_easy_init();
    if (c == NULL)
        abort();
    buf_clear(ret_body);
    add_header(&headers, "Accept: application/json");
    add_header(&headers, "Expect:"); /* no waiting for 100-continue */
    if (req->body != NULL)
        add_header(&headers, "Content-Type: application/json");
    if (req->bearer != NULL) {
        auto_free char *text = NULL;

        if (strpbrk(req->bearer, "\r\n") != NULL)
            return err_set(err, ERR_INVALID, "a key is one line of text");
        text = xasprintf("Authorization: Bearer %s", req->bearer);
        add_header(&headers, text);
    }
    set_options(c, req, headers, &a);
    rc = curl_easy_perform(c);
    if (rc != CURLE_OK)
        return call_failed(rc, &a, req, err);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    *ret_status = (int)status;
    return 0;
}
