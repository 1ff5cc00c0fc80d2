/*
 * directory.h - who may log in where, as mered told before anybody connected
 *
 * Pure data; the loop's thread only.  An entry is an endpoint (or, by itself, what mered found for one
 * question): the roles of its branch with their SCRAM verifiers, and from where clients may come.  An id or a
 * role that is not in it is answered all the same, by a mock verifier of its own that never changes: a client
 * cannot tell the two apart.
 *
 * Verifiers are secrets; what is freed is wiped.
 */
#ifndef MERE_DIRECTORY_H
#define MERE_DIRECTORY_H

#include <sys/socket.h>

#include "base/id.h"
#include "pg/scram.h"

#define DIRECTORY_LOGINS_MAX 4096 /* of one entry */

struct directory;
struct directory_entry;

struct directory_login {
    struct scram_verifier verifier;
    bool real;         /* no mock: there is a password that can be right */
    int64_t until_us;  /* from then on it is not; INT64_MAX = never */
    bool from_allowed; /* the client may come from where it comes */
};

/* ips NULL = from everywhere.  parks: its idle sessions outlive a suspend. */
struct directory_entry *directory_entry_new(const char *id, const char *ips, bool parks);
void directory_entry_free(struct directory_entry *e); /* accepts NULL */
/* verifier NULL: has none.  -1 when it cannot be read; the role is then there, without. */
int directory_entry_add(struct directory_entry *e, const char *role, const char *verifier, int64_t until_us);
const char *directory_entry_id(const struct directory_entry *e);
bool directory_entry_parks(const struct directory_entry *e); /* false for NULL */

struct directory *directory_new(void);
void directory_free(struct directory *d); /* accepts NULL */

/* A whole directory follows: what is not put until directory_complete is forgotten there.  key: what mocks
 * are made of from now on; the same one makes the same mocks. */
void directory_renew(struct directory *d, const uint8_t key[CRYPT_KEY_SIZE]);
void directory_complete(struct directory *d);
/* Was ever complete: what is not in it is not there. */
bool directory_is_complete(const struct directory *d);
/* Takes e over, in place of what had its id. */
void directory_put(struct directory *d, struct directory_entry *e);
void directory_forget(struct directory *d, const char *id);
/* NULL when it is not there. */
struct directory_entry *directory_find(struct directory *d, const char *id);

/* What counts for role at e (NULL: no such endpoint), which was called name.  from: the client's address. */
void directory_login(const struct directory *d, struct directory_entry *e, const char *name, const char *role,
                     const struct sockaddr *from, struct directory_login *ret);

/* Salts of a running compute about which mered knew nothing new: it need not be asked again.  Some may be
 * forgotten.  at: endpoint, generation, role and challenge, as bytes. */
bool directory_is_settled(const struct directory *d, const void *at, size_t len);
void directory_settle(struct directory *d, const void *at, size_t len);

#endif
