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

/* A self-signed EC P-256 certificate for the names (DNS or IP), valid for days, as PEM: key 0600, certificate
 * 0644. */
int crypt_make_certificate(const char *cert_path, const char *key_path, const char *const *names,
                           size_t n_names, int days, struct err *err) MUST_CHECK;

#endif
