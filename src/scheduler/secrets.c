/*
 * secrets.c - passwords that must stay recoverable, and what Postgres keeps of each: sealed with the key of
 * <data>/secret.key, tied to their branch and role
 */
#include "scheduler/internal.h"

#include "base/crypt.h"

#include <string.h>

static const char *place(struct arena *a, const char *what, const char *branch_id, const char *role)
{
    return arena_printf(a, "%s/%s/%s", what, branch_id, role);
}

static int open_verifier(const uint8_t *key, struct arena *a, const struct role *r, char **ret,
                         struct err *err)
{
    return crypt_open(a, key, place(a, "verifier", r->branch_id, r->name), r->verifier, r->verifier_len, ret,
                      err);
}

int secret_seal(struct sched *s, struct arena *a, const char *branch_id, const char *role, const char *plain,
                struct role *ret, struct err *err)
{
    uint8_t *blob;
    if (crypt_seal(a, s->secret, place(a, "role", branch_id, role), plain, &blob, &ret->sealed_len, err) < 0)
        return -1;
    ret->sealed = blob;
    return 0;
}

int secret_open(struct sched *s, struct arena *a, const struct role *r, const char **ret_plain,
                struct err *err)
{
    char *plain;
    if (!r->sealed)
        return err_set(err, ERR_PRECONDITION,
                       "the password of role \"%s\" was set by SQL, so Mere does not know it; nothing was "
                       "changed: reset it "
                       "to get a new one",
                       r->name);
    if (crypt_open(a, s->secret, place(a, "role", r->branch_id, r->name), r->sealed, r->sealed_len, &plain,
                   err) < 0)
        return -1;
    *ret_plain = plain;
    return 0;
}

int secret_seal_verifier(struct sched *s, struct arena *a, const char *branch_id, const char *role,
                         const char *verifier, struct role *ret, struct err *err)
{
    uint8_t *blob;
    if (crypt_seal(a, s->secret, place(a, "verifier", branch_id, role), verifier, &blob, &ret->verifier_len,
                   err) < 0)
        return -1;
    ret->verifier = blob;
    return 0;
}

int secret_open_verifier(struct sched *s, struct arena *a, const struct role *r, const char **ret,
                         struct err *err)
{
    char *verifier = NULL;
    if (r->verifier && open_verifier(s->secret, a, r, &verifier, err) < 0)
        return -1;
    *ret = verifier;
    return 0;
}

int secret_try(const uint8_t *key, struct arena *a, const struct role *r, struct err *err)
{
    char *ignored;
    return open_verifier(key, a, r, &ignored, err);
}

int sched_seal(struct sched *s, struct arena *a, const char *where, const char *plain, const char **ret,
               struct err *err)
{
    uint8_t *blob;
    size_t len;
    if (crypt_seal(a, s->secret, where, plain, &blob, &len, err) < 0)
        return -1;
    char *text = arena_alloc(a, CRYPT_BASE64_SIZE(len));
    crypt_base64(blob, len, text);
    *ret = text;
    return 0;
}

int sched_unseal(struct sched *s, struct arena *a, const char *where, const char *sealed, const char **ret,
                 struct err *err)
{
    size_t len = strlen(sealed);
    uint8_t *blob = arena_alloc(a, len + 1);
    char *plain;
    if (!crypt_unbase64(sealed, len, blob, len, &len))
        return err_set(err, ERR_INTERNAL, "what was sealed is damaged");
    if (crypt_open(a, s->secret, where, blob, len, &plain, err) < 0)
        return -1;
    *ret = plain;
    return 0;
}

int secret_replica(struct sched *s, struct arena *a, const char *project_id, const char **ret_password,
                   const char **ret_verifier, struct err *err)
{
    const char *key = arena_printf(a, "replica/%s", project_id);
    const char *salt_key = arena_printf(a, "replica-salt/%s", project_id);
    uint8_t password[CRYPT_SHA256_SIZE], salt[CRYPT_SHA256_SIZE];
    crypt_hmac(s->secret, key, strlen(key), password);
    crypt_hmac(s->secret, salt_key, strlen(salt_key), salt);
    *ret_password = crypt_hex(a, password, sizeof(password));
    explicit_bzero(password, sizeof(password));
    return crypt_scram_verifier_salted(a, *ret_password, salt, ret_verifier, err);
}
