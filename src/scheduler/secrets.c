/*
 * secrets.c - passwords that must stay recoverable: sealed with the key of <data>/secret.key, tied to their
 * branch and role
 */
#include "scheduler/internal.h"

#include "base/crypt.h"

static const char *place(struct arena *a, const char *branch_id, const char *role)
{
    return arena_printf(a, "role/%s/%s", branch_id, role);
}

int secret_seal(struct sched *s, struct arena *a, const char *branch_id, const char *role, const char *plain,
                struct role *ret, struct err *err)
{
    uint8_t *blob;
    if (crypt_seal(a, s->secret, place(a, branch_id, role), plain, &blob, &ret->sealed_len, err) < 0)
        return -1;
    ret->sealed = blob;
    return 0;
}

int secret_open_with(const uint8_t *key, struct arena *a, const struct role *r, const char **ret_plain,
                     struct err *err)
{
    char *plain;
    if (crypt_open(a, key, place(a, r->branch_id, r->name), r->sealed, r->sealed_len, &plain, err) < 0)
        return -1;
    *ret_plain = plain;
    return 0;
}

int secret_open(struct sched *s, struct arena *a, const struct role *r, const char **ret_plain,
                struct err *err)
{
    if (!r->sealed)
        return err_set(err, ERR_PRECONDITION,
                       "the password of role \"%s\" is not stored; reset it to get a new one", r->name);
    return secret_open_with(s->secret, a, r, ret_plain, err);
}
