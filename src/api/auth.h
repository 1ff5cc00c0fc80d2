/*
 * auth.h - whose key is this
 *
 * Any thread.  The admin key is compared in constant time, API keys are looked up by their SHA-256: the time
 * that takes tells nothing about a key that would do.
 */
#ifndef MERE_AUTH_H
#define MERE_AUTH_H

#include "api/http.h"
#include "base/crypt.h"

struct auth {
    uint8_t admin[CRYPT_SHA256_SIZE]; /* of the admin key */
};

struct principal {
    uint8_t hash[CRYPT_SHA256_SIZE]; /* of the key */
    bool touch; /* an API key whose last use on record is a minute old: auth_touch() once the answer is out */
};

void auth_init(struct auth *auth, const char *admin_key);
/* authorization: the header, or NULL; take_basic: the key may be the password of Basic authentication.  Fills
 * req->account.  ERR_UNAUTHORIZED says where the key is found. */
int auth_check(const struct auth *auth, struct http_req *req, const char *authorization, bool take_basic,
               struct principal *ret, struct err *err) MUST_CHECK;
/* Records the use of an API key.  A failure is logged and nothing else. */
void auth_touch(struct http_req *req, const struct principal *who);

#endif
