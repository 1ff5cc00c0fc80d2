/*
 * t_crypt.c - hashes against known answers, sealing against tampering, SCRAM against its definition, the
 * certificate
 */
#include "base/crypt.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "base/fs.h"

Suite *t_crypt_suite(void);

static struct arena *arena;
static struct err err;
static uint8_t key[CRYPT_KEY_SIZE];

static void setup(void)
{
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    crypt_random(key, sizeof(key));
}

static void teardown(void)
{
    arena_free(arena);
}

START_TEST(hashes)
{
    uint8_t h[CRYPT_SHA256_SIZE];

    crypt_sha256("abc", 3, h);
    ck_assert_str_eq(crypt_hex(arena, h, sizeof(h)),
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypt_sha256("", 0, h);
    ck_assert_str_eq(crypt_hex(arena, h, 4), "e3b0c442");
    ck_assert_str_eq(crypt_hex(arena, h, 0), "");
}
END_TEST

START_TEST(randomness)
{
    uint8_t a[64] = { 0 }, b[64] = { 0 };

    crypt_random(a, sizeof(a));
    crypt_random(b, sizeof(b));
    ck_assert_int_ne(memcmp(a, b, sizeof(a)), 0);
    crypt_random(a, 0);
}
END_TEST

START_TEST(sealing)
{
    uint8_t *blob, *again;
    size_t len, again_len;
    char *plain;

    ck_assert_int_eq(crypt_seal(arena, key, "br-x/role", "npg_secret", &blob, &len, &err), 0);
    ck_assert_uint_eq(len, 12 + 10 + 16);
    ck_assert_int_eq(crypt_open(arena, key, "br-x/role", blob, len, &plain, &err), 0);
    ck_assert_str_eq(plain, "npg_secret");
    ck_assert_int_eq(crypt_seal(arena, key, "br-x/role", "npg_secret", &again, &again_len, &err), 0);
    ck_assert_int_ne(memcmp(blob, again, len), 0); /* a new nonce each time */
    ck_assert_int_eq(crypt_seal(arena, key, "", "", &blob, &len, &err), 0);
    ck_assert_int_eq(crypt_open(arena, key, "", blob, len, &plain, &err), 0);
    ck_assert_str_eq(plain, "");
}
END_TEST

START_TEST(every_changed_byte_is_noticed)
{
    uint8_t *blob, other[CRYPT_KEY_SIZE];
    size_t len;
    char *plain = NULL;

    ck_assert_int_eq(crypt_seal(arena, key, "br-x/role", "npg_secret", &blob, &len, &err), 0);
    for (size_t i = 0; i < len; i++) {
        blob[i] ^= 1;
        ck_assert_int_eq(crypt_open(arena, key, "br-x/role", blob, len, &plain, &err), -1);
        ck_assert_int_eq(err.code, ERR_INTERNAL);
        blob[i] ^= 1;
    }
    for (size_t n = 0; n < len; n++)
        ck_assert_int_eq(crypt_open(arena, key, "br-x/role", blob, n, &plain, &err), -1);
    ck_assert_int_eq(crypt_open(arena, key, "br-y/role", blob, len, &plain, &err), -1);
    memcpy(other, key, sizeof(key));
    other[31] ^= 0x80;
    ck_assert_int_eq(crypt_open(arena, other, "br-x/role", blob, len, &plain, &err), -1);
    ck_assert_ptr_null(plain);
    ck_assert_ptr_null(strstr(err.detail, "npg_secret"));
}
END_TEST

static void hmac(const uint8_t k[32], const char *text, uint8_t out[32])
{
    unsigned n = 32;

    HMAC(EVP_sha256(), k, 32, (const uint8_t *)text, strlen(text), out, &n);
}

START_TEST(scram_verifiers)
{
    char salt64[64], stored64[64], server64[64];
    uint8_t salt[64], want[64], salted[32], k[32], h[32];
    const char *v, *w;
    int n;

    ck_assert_int_eq(crypt_scram_verifier(arena, "npg_Secret12345", &v, &err), 0);
    ck_assert_int_eq(sscanf(v, "SCRAM-SHA-256$4096:%63[^$]$%63[^:]:%63s", salt64, stored64, server64), 3);
    n = EVP_DecodeBlock(salt, (uint8_t *)salt64, (int)strlen(salt64));
    ck_assert_int_eq(n, 18); /* 16 bytes and the padding that this decoder counts */
    ck_assert_int_eq(PKCS5_PBKDF2_HMAC("npg_Secret12345", -1, salt, 16, 4096, EVP_sha256(), 32, salted), 1);
    hmac(salted, "Client Key", k);
    crypt_sha256(k, 32, h);
    EVP_DecodeBlock(want, (uint8_t *)stored64, (int)strlen(stored64));
    ck_assert_int_eq(memcmp(want, h, 32), 0);
    hmac(salted, "Server Key", k);
    EVP_DecodeBlock(want, (uint8_t *)server64, (int)strlen(server64));
    ck_assert_int_eq(memcmp(want, k, 32), 0);
    ck_assert_int_eq(crypt_scram_verifier(arena, "npg_Secret12345", &w, &err), 0);
    ck_assert_str_ne(v, w); /* a new salt each time */
    ck_assert_int_eq(crypt_scram_verifier(arena, "", &v, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_int_eq(crypt_scram_verifier(arena, "gr\xc3\xbcn", &v, &err), -1);
}
END_TEST

static bool has_dns_name(X509 *x, const char *name)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

        if (g->type == GEN_DNS && (size_t)ASN1_STRING_length(g->d.dNSName) == strlen(name))
            found |= memcmp(ASN1_STRING_get0_data(g->d.dNSName), name, strlen(name)) == 0;
    }
    GENERAL_NAMES_free(names);
    return found;
}

START_TEST(certificate)
{
    static const char *const NAMES[] = { "localhost", "*.localhost", "127.0.0.1", "::1" };
    char dir[] = "/tmp/t_crypt.XXXXXX";
    const char *cert_path, *key_path;
    struct stat st;
    X509_STORE *store;
    X509_STORE_CTX *ctx;
    EVP_PKEY *pkey;
    X509 *x;
    FILE *f;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    cert_path = arena_printf(arena, "%s/tls.crt", dir);
    key_path = arena_printf(arena, "%s/tls.key", dir);
    umask(0);
    ck_assert_msg(crypt_make_certificate(cert_path, key_path, NAMES, N_ELEMENTS(NAMES), 30, &err) == 0, "%s",
                  err.detail);
    ck_assert_int_eq(stat(key_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(stat(cert_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0644);

    f = fopen(cert_path, "r");
    x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    f = fopen(key_path, "r");
    pkey = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    ck_assert(x != NULL && pkey != NULL);
    ck_assert_int_eq(X509_check_private_key(x, pkey), 1);
    ck_assert(has_dns_name(
        x, "*.localhost")); /* OpenSSL's own check wants two labels behind a star; libpq takes one */
    ck_assert_int_eq(X509_check_host(x, "localhost", 0, 0, NULL), 1);
    ck_assert_int_eq(X509_check_host(x, "example.com", 0, 0, NULL), 0);
    ck_assert_int_eq(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    ck_assert_int_eq(X509_check_ip_asc(x, "0:0:0:0:0:0:0:1", 0), 1);
    ck_assert_int_eq(X509_check_ip_asc(x, "10.0.0.1", 0), 0);
    ck_assert_int_eq(X509_check_ca(x), 1);

    /* it is its own root, for a server */
    store = X509_STORE_new();
    X509_STORE_add_cert(store, x);
    ctx = X509_STORE_CTX_new();
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    ck_assert_msg(X509_verify_cert(ctx) == 1, "%s",
                  X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(x);
    EVP_PKEY_free(pkey);
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}
END_TEST

START_TEST(certificates_that_cannot_be)
{
    static const char *const NAMES[] = { "localhost" };

    ck_assert_int_eq(crypt_make_certificate("/tmp/x.crt", "/tmp/x.key", NAMES, 0, 30, &err), -1);
    ck_assert_int_eq(crypt_make_certificate("/tmp/x.crt", "/tmp/x.key", NAMES, 1, 0, &err), -1);
    ck_assert_int_eq(crypt_make_certificate("/nowhere/x.crt", "/nowhere/x.key", NAMES, 1, 30, &err), -1);
    ck_assert(!fs_exists("/tmp/x.crt"));
}
END_TEST

Suite *t_crypt_suite(void)
{
    Suite *s = suite_create("crypt");
    TCase *c = tcase_create("crypt");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, hashes);
    tcase_add_test(c, randomness);
    tcase_add_test(c, sealing);
    tcase_add_test(c, every_changed_byte_is_noticed);
    tcase_add_test(c, scram_verifiers);
    tcase_add_test(c, certificate);
    tcase_add_test(c, certificates_that_cannot_be);
    suite_add_tcase(s, c);
    return s;
}
