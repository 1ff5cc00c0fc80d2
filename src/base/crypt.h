/*
 * crypt.h - randomness, hashes, sealed secrets, SCRAM verifiers (OpenSSL)
 */
#ifndef MERE_CRYPT_H
#define MERE_CRYPT_H

#include "base/arena.h"
#include "base/err.h"

#define CRYPT_KEY_SIZE    32
#define CRYPT_SHA256_SIZE 32

void crypt_random(void *out, size_t len); /* getrandom; aborts if the kernel cannot */
void crypt_sha256(const void *data, size_t len, uint8_t out[CRYPT_SHA256_SIZE]);
const char *crypt_hex(struct arena *a, const uint8_t *data, size_t len);
/* HMAC-SHA-256. */
void crypt_hmac(const uint8_t key[CRYPT_KEY_SIZE], const void *data, size_t len,
                uint8_t out[CRYPT_SHA256_SIZE]);
/* Time does not depend on where the two differ (only on len). */
bool crypt_equal(const void *a, const void *b, size_t len);

/* Base64 with padding (RFC 4648): writes CRYPT_BASE64_SIZE(len) bytes, a NUL among them. */
#define CRYPT_BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)
void crypt_base64(const void *data, size_t len, char *out);
/* The reverse of exactly that: no blanks, no second spelling of the same bytes.  False when it is anything
 * else or more than max bytes; out may then hold a part. */
bool crypt_unbase64(const char *text, size_t len, void *out, size_t max, size_t *ret_len) MUST_CHECK;

/* AES-256-GCM: random 12-byte nonce | ciphertext | 16-byte tag.  aad ties the blob to its place (for example
 * "br-x/role"). */
int crypt_seal(struct arena *a, const uint8_t key[CRYPT_KEY_SIZE], const char *aad, const char *plain,
               uint8_t **ret, size_t *ret_len, struct err *err) MUST_CHECK;
/* NUL-terminated plain text; ERR_INTERNAL when the blob was changed or belongs elsewhere. */
int crypt_open(struct arena *a, const uint8_t key[CRYPT_KEY_SIZE], const char *aad, const uint8_t *blob,
               size_t len, char **ret, struct err *err) MUST_CHECK;

/* "SCRAM-SHA-256$4096:salt$StoredKey:ServerKey" as Postgres keeps it, so that a clear password never reaches
 * it (RFC 5802, 7677). */
int crypt_scram_verifier(struct arena *a, const char *password, const char **ret, struct err *err) MUST_CHECK;
#define CRYPT_SCRAM_SALT_SIZE  16
#define CRYPT_SCRAM_ITERATIONS 4096 /* the default of Postgres's scram_iterations */
/* The same with a salt of the caller's, so that it can be made again and compared. */
int crypt_scram_verifier_salted(struct arena *a, const char *password,
                                const uint8_t salt[CRYPT_SCRAM_SALT_SIZE], const char **ret,
                                struct err *err) MUST_CHECK;

/* What it is made of: StoredKey and ServerKey. */
int crypt_scram_keys(const char *password, const uint8_t *salt, size_t salt_len, int iterations,
                     uint8_t ret_stored[CRYPT_SHA256_SIZE], uint8_t ret_server[CRYPT_SHA256_SIZE],
                     struct err *err) MUST_CHECK;

/* A PEM text; it may be a key, so it is wiped when it goes. */
struct crypt_pem {
    char *data;
    size_t len;
};
/* All of a regular file, whatever its position; name is what errors call it.  ERR_PRECONDITION; fd may be -1
 * with errno. */
int crypt_pem_read(int fd, const char *name, struct crypt_pem *ret, struct err *err) MUST_CHECK;
void crypt_pem_fini(struct crypt_pem *p);

/* A certificate (with those that vouch for it behind) and its key, as a server needs them. */
struct crypt_pair {
    struct crypt_pem cert, key;
    int64_t from_us, until_us; /* valid, in microseconds since 1970 */
};
/* Reads both and sees that they belong together; not whether they are valid today.  ERR_PRECONDITION says
 * which file is at fault. */
int crypt_pair_read(const char *cert_path, const char *key_path, struct crypt_pair *ret,
                    struct err *err) MUST_CHECK;
void crypt_pair_fini(struct crypt_pair *p);
/* The authority in ca_path has signed it, for exactly these names in this order. */
bool crypt_pair_is_from(const struct crypt_pair *p, const char *ca_path, const char *const *names,
                        size_t n_names);

/* An authority (EC P-256) that may sign server certificates, valid for so long: key 0600, certificate 0644.
 * A key that is there is kept and only the certificate made anew: what it has signed stays good. */
int crypt_make_authority(const char *cert_path, const char *key_path, int64_t seconds,
                         struct err *err) MUST_CHECK;
/* A server certificate (EC P-256) for the names (DNS or IP), signed by an authority and valid for so long,
 * but not longer than that. */
struct crypt_order {
    const char *cert_path, *key_path; /* made: 0644, 0600 */
    const char *ca_cert_path, *ca_key_path;
    const char *const *names;
    size_t n_names;
    int64_t seconds;
};
int crypt_make_certificate(const struct crypt_order *o, struct err *err) MUST_CHECK;

/* What a connection is bound to that a certificate ends ("tls-server-end-point", RFC 5929): its hash by the
 * digest it is signed with, by SHA-256 where that is MD5 or SHA-1. */
#define CRYPT_DIGEST_MAX 64
struct crypt_binding {
    uint8_t hash[CRYPT_DIGEST_MAX];
    size_t len;
};
/* ERR_NOT_SUPPORTED for a signature without a digest of its own (Ed25519): nothing can be bound to it. */
int crypt_binding_from_der(const uint8_t *der, size_t len, struct crypt_binding *ret,
                           struct err *err) MUST_CHECK;
/* The same of the first certificate of a PEM file, which is the one a server shows. */
int crypt_binding_from_file(const char *cert_path, struct crypt_binding *ret, struct err *err) MUST_CHECK;

#endif
