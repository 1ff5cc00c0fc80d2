/*
 * auth.c - the admin key and API keys
 */
#include "api/auth.h"

#include "base/clock.h"
#include "base/log.h"
#include "meta/apikey.h"

#include <inttypes.h>
#include <string.h>

#define TOKEN_MAX      256
#define TOUCH_EVERY_US (60 * INT64_C(1000000))

void auth_init(struct auth *auth, const char *admin_key)
{
    crypt_sha256(admin_key, strlen(admin_key), auth->admin);
}

/* What comes after "Bearer", whose case does not matter; NULL when there is none. */
static const char *bearer(const char *header, size_t *ret_len)
{
    size_t len;

    if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0)
        return NULL;
    header += 7 + strspn(header + 7, " ");
    len = strcspn(header, " \t");
    if (len == 0 || len > TOKEN_MAX || header[len + strspn(header + len, " \t")] != '\0')
        return NULL;
    *ret_len = len;
    return header;
}

/* The password of "Basic", whatever the user is called, in the arena; NULL when there is none. */
static const char *basic(struct arena *a, const char *header, size_t *ret_len)
{
    char *text = arena_alloc(a, 2 * TOKEN_MAX), *colon;
    size_t len;

    if (header == NULL || strncasecmp(header, "Basic ", 6) != 0)
        return NULL;
    header += 6 + strspn(header + 6, " ");
    if (!crypt_unbase64(header, strcspn(header, " \t"), text, 2 * TOKEN_MAX, &len) ||
        (colon = memchr(text, ':', len)) == NULL)
        return NULL;
    *ret_len = len - (size_t)(colon + 1 - text);
    return colon + 1;
}

static int refuse(struct err *err)
{
    return err_set(
        err, ERR_UNAUTHORIZED,
        "the API key is missing or wrong; send it as \"Authorization: Bearer KEY\". The admin key is "
        "the one line of <data>/admin.key on the server, where <data> is what mered was given with "
        "--data");
}

static bool is_stale(const struct apikey *key, int64_t now_us)
{
    return key->last_used_at + TOUCH_EVERY_US <= now_us;
}

int auth_check(const struct auth *auth, struct http_req *req, const char *authorization, bool take_basic,
               struct principal *ret, struct err *err)
{
    struct apikey key;
    bool found;
    size_t len = 0;
    const char *token = bearer(authorization, &len);
    auto_dbc *c = NULL;

    *ret = (struct principal){ 0 };
    if (token == NULL && take_basic)
        token = basic(req->arena, authorization, &len);
    if (token == NULL)
        return refuse(err);
    crypt_sha256(token, len, ret->hash);
    if (crypt_equal(ret->hash, auth->admin, sizeof(ret->hash))) {
        req->account = "admin";
        return 0;
    }
    if (db_read(sched_db(req->sched), &c, err) < 0 ||
        apikey_find(c, req->arena, ret->hash, &key, &found, err) < 0)
        return -1;
    if (!found)
        return refuse(err);
    ret->touch = is_stale(&key, clock_wall_us());
    req->account = arena_printf(req->arena, "%" PRId64, key.id);
    return 0;
}

/* Looks again: of several requests at once only the first shall write. */
static int touch(struct http_req *req, const struct principal *who, struct err *err)
{
    struct apikey key;
    bool found;
    int64_t now = clock_wall_us();
    auto_dbc *c = NULL;

    if (db_write(sched_db(req->sched), &c, err) < 0 ||
        apikey_find(c, req->arena, who->hash, &key, &found, err) < 0)
        return -1;
    if (!found || !is_stale(&key, now))
        return 0;
    return apikey_touch(c, key.id, now, req->peer, err) < 0 ? -1 : db_commit(c, err);
}

void auth_touch(struct http_req *req, const struct principal *who)
{
    struct err err = ERR_INIT;

    if (who->touch && touch(req, who, &err) < 0)
        log_event(LOG_WARN, "api", "cannot record the use of an API key", "error", err.msg, "detail",
                  err.detail, NULL);
}
