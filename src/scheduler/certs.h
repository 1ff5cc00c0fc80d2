/*
 * certs.h - the certificate of the Postgres port: a user's pair of files, or one of our own with the
 * authority that signs it
 *
 * The authority is made once and stays, so that a client which trusts it needs nothing new when the server's
 * certificate is renewed.  Before there is a scheduler; what it does with it then is in internal.h.
 */
#ifndef MERE_CERTS_H
#define MERE_CERTS_H

#include "base/arena.h"
#include "base/err.h"

struct certs {
    const char *cert, *key;   /* PEM files, chain and key: a user's, or ours */
    const char *ca, *ca_key;  /* of our own authority; NULL with a user's pair */
    const char *const *names; /* that our own is for */
    size_t n_names;
    int64_t seconds; /* our own is valid for so long, and renewed when a third of it is left */
};

/*
 * Fills in where our own pair is, below dir, when cert and key are NULL; makes what is missing or due; and
 * sees that the pair can be used.  ERR_PRECONDITION names the file at fault.  What c points to must live as
 * long as c.
 */
int certs_open(struct arena *a, const char *dir, struct certs *c, struct err *err) MUST_CHECK;

/* Makes what is missing or due of our own; *ret_new: there is another pair now. */
int certs_renew(const struct certs *c, bool *ret_new, struct err *err) MUST_CHECK;

#endif
