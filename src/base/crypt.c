/*
 * crypt.c - randomness, hashes, sealed secrets, SCRAM verifiers
 *
 * Any thread.  Passwords and keys never reach an error text.  Certificates are in crypt_cert.c.
 */
#include "base/crypt.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sys/random.h>

#define NONCE_SIZE 12
#define TAG_SIZE   16

static void cipher_free(EVP_CIPHER_CTX **ctx)
{
    EVP_CIPHER_CTX_free(*ctx);
}

#define auto_cipher CLEANUP(cipher_free) EVP_CIPHER_CTX

static int crypt_fail(struct err *err, const char *what)
{
    err_set(err, ERR_INTERNAL, "the server could not do this; its log says why");
    return err_detail(err, "OpenSSL refused: %s", what);
}

void crypt_random(void *out, size_t len)
{
    uint8_t *p = out;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort(); /* without randomness no id, key or password may be made */
        p += n;
        len -= (size_t)n;
    }
}

void crypt_sha256(const void *data, size_t len, uint8_t out[CRYPT_SHA256_SIZE])
{
    if (EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) != 1)
        abort();
}

const char *crypt_hex(struct arena *a, const uint8_t *data, size_t len)
{
    static const char HEX[] = "0123456789abcdef";
    char *out = arena_alloc(a, len * 2 + 1);

    for (size_t i = 0; out != NULL && i < len; i++) {
        out[i * 2] = HEX[data[i] >> 4];
        out[i * 2 + 1] = HEX[data[i] & 15];
    }
    return out;
}

int crypt_seal(struct arena *a, const uint8_t key[CRYPT_KEY_SIZE], const char *aad, const char *plain,
               uint8_t **ret, size_t *ret_len, struct err *err)
{
    auto_cipher *ctx = EVP_CIPHER_CTX_new();
    size_t len = strlen(plain), aad_len = strlen(aad);
    uint8_t *blob;
    int n, tail;

    if (len > INT32_MAX / 2 || aad_len > INT32_MAX / 2)
        return err_set(err, ERR_TOO_LARGE, "the secret is too long");
    blob = arena_alloc(a, NONCE_SIZE + len + TAG_SIZE);
    if (blob == NULL)
        return err_memory(err);
    crypt_random(blob, NONCE_SIZE);
    if (ctx == NULL || EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, blob) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &n, (const uint8_t *)aad, (int)aad_len) != 1 ||
        EVP_EncryptUpdate(ctx, blob + NONCE_SIZE, &n, (const uint8_t *)plain, (int)len) != 1 ||
        EVP_EncryptFinal_ex(ctx, blob + NONCE_SIZE + n, &tail) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, blob + NONCE_SIZE + len) != 1)
        return crypt_fail(err, "seal");
    *ret = blob;
    *ret_len = NONCE_SIZE + len + TAG_SIZE;
    return 0;
}

static int open_refused(struct err *err)
{
    err_set(err, ERR_INTERNAL, "a stored secret cannot be read; it was left as it is");
    return err_detail(err, "sealed value was changed, belongs elsewhere, or the key is another one");
}

int crypt_open(struct arena *a, const uint8_t key[CRYPT_KEY_SIZE], const char *aad, const uint8_t *blob,
               size_t len, char **ret, struct err *err)
{
    auto_cipher *ctx = EVP_CIPHER_CTX_new();
    uint8_t tag[TAG_SIZE], *plain;
    size_t aad_len = strlen(aad), plain_len;
    int n, tail;

    if (len < NONCE_SIZE + TAG_SIZE || len > INT32_MAX / 2 || aad_len > INT32_MAX / 2)
        return open_refused(err);
    plain_len = len - NONCE_SIZE - TAG_SIZE;
    plain = arena_alloc(a, plain_len + 1);
    if (plain == NULL)
        return err_memory(err);
    memcpy(tag, blob + len - TAG_SIZE, TAG_SIZE);
    if (ctx == NULL || EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, blob) != 1 ||
        EVP_DecryptUpdate(ctx, NULL, &n, (const uint8_t *)aad, (int)aad_len) != 1 ||
        EVP_DecryptUpdate(ctx, plain, &n, blob + NONCE_SIZE, (int)plain_len) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) != 1)
        return crypt_fail(err, "open");
    if (EVP_DecryptFinal_ex(ctx, plain + n, &tail) != 1) {
        explicit_bzero(plain, plain_len);
        return open_refused(err);
    }
    *ret = (char *)plain;
    return 0;
}

static bool hmac_sha256(const uint8_t *key, const void *data, size_t len, uint8_t out[CRYPT_SHA256_SIZE])
{
    unsigned out_len = CRYPT_SHA256_SIZE;

    return HMAC(EVP_sha256(), key, CRYPT_KEY_SIZE, data, len, out, &out_len) != NULL;
}

void crypt_hmac(const uint8_t key[CRYPT_KEY_SIZE], const void *data, size_t len,
                uint8_t out[CRYPT_SHA256_SIZE])
{
    if (!hmac_sha256(key, data, len, out))
        abort();
}

bool crypt_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypt_base64(const void *data, size_t len, char *out)
{
    EVP_EncodeBlock((uint8_t *)out, data, (int)len);
}

/* Each group of four is written again and compared: the decoder of OpenSSL skips blanks and does not look at
 * the bits that padding leaves over. */
bool crypt_unbase64(const char *text, size_t len, void *out, size_t max, size_t *ret_len)
{
    size_t n = 0;

    if (len % 4 != 0)
        return false;
    for (size_t i = 0; i < len; i += 4) {
        size_t padding = i + 4 < len ? 0 : (size_t)(text[i + 2] == '=') + (text[i + 3] == '=');
        size_t left = 3 - padding;
        uint8_t bytes[3], again[CRYPT_BASE64_SIZE(3)];

        if (EVP_DecodeBlock(bytes, (const uint8_t *)text + i, 4) != 3 || left > max - n)
            return false;
        EVP_EncodeBlock(again, bytes, (int)left);
        if (memcmp(again, text + i, 4) != 0)
            return false;
        memcpy((uint8_t *)out + n, bytes, left);
        n += left;
    }
    *ret_len = n;
    return true;
}

static const char *base64(struct arena *a, const uint8_t *data, size_t len)
{
    char *out = arena_alloc(a, CRYPT_BASE64_SIZE(len));

    if (out != NULL)
        crypt_base64(data, len, out);
    return out;
}

/* SASLprep leaves printable ASCII as it is; the rest would need its tables, and a verifier made without them
 * may not match. */
static bool is_plain_ascii(const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s < 0x20 || *s > 0x7E)
            return false;
    }
    return true;
}

int crypt_scram_keys(const char *password, const uint8_t *salt, size_t salt_len, int iterations,
                     uint8_t ret_stored[CRYPT_SHA256_SIZE], uint8_t ret_server[CRYPT_SHA256_SIZE],
                     struct err *err)
{
    uint8_t salted[CRYPT_SHA256_SIZE], client[CRYPT_SHA256_SIZE];
    size_t len = strlen(password);
    bool ok;

    if (len == 0 || len > 1024 || !is_plain_ascii(password))
        return err_set(err, ERR_INVALID, "a password is 1 to 1024 printable ASCII characters");
    ok = PKCS5_PBKDF2_HMAC(password, (int)len, salt, (int)salt_len, iterations, EVP_sha256(), sizeof(salted),
                           salted) == 1 &&
         hmac_sha256(salted, "Client Key", 10, client) && hmac_sha256(salted, "Server Key", 10, ret_server);
    if (ok)
        crypt_sha256(client, sizeof(client), ret_stored);
    explicit_bzero(salted, sizeof(salted));
    explicit_bzero(client, sizeof(client));
    return ok ? 0 : crypt_fail(err, "SCRAM");
}

int crypt_scram_verifier_salted(struct arena *a, const char *password,
                                const uint8_t salt[CRYPT_SCRAM_SALT_SIZE], const char **ret, struct err *err)
{
    uint8_t stored[CRYPT_SHA256_SIZE], server[CRYPT_SHA256_SIZE];
    const char *s64, *stored64, *server64;

    if (crypt_scram_keys(password, salt, CRYPT_SCRAM_SALT_SIZE, CRYPT_SCRAM_ITERATIONS, stored, server, err) <
        0)
        return -1;
    s64 = base64(a, salt, CRYPT_SCRAM_SALT_SIZE);
    stored64 = base64(a, stored, sizeof(stored));
    server64 = base64(a, server, sizeof(server));
    if (s64 == NULL || stored64 == NULL || server64 == NULL)
        return err_memory(err);
    *ret = arena_printf(a, "SCRAM-SHA-256$%d:%s$%s:%s", CRYPT_SCRAM_ITERATIONS, s64, stored64, server64);
    return *ret != NULL ? 0 : err_memory(err);
}

int crypt_scram_verifier(struct arena *a, const char *password, const char **ret, struct err *err)
{
    uint8_t salt[CRYPT_SCRAM_SALT_SIZE];

    crypt_random(salt, sizeof(salt));
    return crypt_scram_verifier_salted(a, password, salt, ret, err);
}
