/*
 * t_crypt.c - hashes and base64 against known answers, sealing against tampering, SCRAM against its
 * definition, what a connection is bound to
 */
#include "base/crypt.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
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

START_TEST(compare)
{
    ck_assert(crypt_equal("abc", "abc", 3));
    ck_assert(!crypt_equal("abc", "abd", 3));
    ck_assert(!crypt_equal("\x00z", "\x80z", 2));
    ck_assert(crypt_equal("x", "y", 0));
}
END_TEST

START_TEST(hmac_of_rfc_4231) /* its keys, filled up with zeros, which changes nothing */
{
    static const uint8_t FIRST[CRYPT_KEY_SIZE] = {
        0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b,
        0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b, 0x0b
    };
    static const uint8_t JEFE[CRYPT_KEY_SIZE] = "Jefe";
    uint8_t h[CRYPT_SHA256_SIZE];

    crypt_hmac(FIRST, "Hi There", 8, h);
    ck_assert_str_eq(crypt_hex(arena, h, sizeof(h)),
                     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    crypt_hmac(JEFE, "what do ya want for nothing?", 28, h);
    ck_assert_str_eq(crypt_hex(arena, h, sizeof(h)),
                     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

START_TEST(base64_of_rfc_4648)
{
    static const char *const PAIRS[][2] = {
        { "", "" },
        { "f", "Zg==" },
        { "fo", "Zm8=" },
        { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" },
        { "\xff\xfe\xfb", "//77" },
    };
    char text[16], bytes[16];
    size_t n;

    for (size_t i = 0; i < N_ELEMENTS(PAIRS); i++) {
        size_t len = strlen(PAIRS[i][0]), len64 = strlen(PAIRS[i][1]);

        ck_assert_uint_eq(CRYPT_BASE64_SIZE(len), len64 + 1);
        crypt_base64(PAIRS[i][0], len, text);
        ck_assert_str_eq(text, PAIRS[i][1]);
        ck_assert(crypt_unbase64(text, len64, bytes, len, &n));
        ck_assert_uint_eq(n, len);
        ck_assert_mem_eq(bytes, PAIRS[i][0], len);
        ck_assert(len == 0 || !crypt_unbase64(text, len64, bytes, len - 1, &n));
    }
}
END_TEST

START_TEST(base64_that_is_none)
{
    static const char *const BAD[] = {
        "Z",    "Zg",   "Zg=",  "Zh==",  "Zm9=", "====", "Z===",   "=Zg=",  "Zg=a",     "Zg==Zg==",
        " Zg=", "Zg= ", "Zm 9", "Zm\n9", "Zm-9", "Zm_9", "Zm9v\n", "Zm9vZ", "Zm9v    ", "\xc3\xbc==",
    };
    char bytes[16];
    size_t n;

    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!crypt_unbase64(BAD[i], strlen(BAD[i]), bytes, sizeof(bytes), &n), "%s", BAD[i]);
    ck_assert(!crypt_unbase64("Zm\0v", 4, bytes, sizeof(bytes), &n));
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

/* A certificate of its own key, signed by the digest (NULL: the key's own way), RSA also by PSS. */
static X509 *signed_by(EVP_PKEY *pkey, const EVP_MD *digest, bool pss)
{
    X509 *x = X509_new();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *how;

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, pkey);
    ck_assert_int_eq(EVP_DigestSignInit(ctx, &how, digest, NULL, pkey), 1);
    if (pss)
        ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING), 0);
    ck_assert_int_gt(X509_sign_ctx(x, ctx), 0);
    EVP_MD_CTX_free(ctx);
    return x;
}

static int binding(X509 *x, struct crypt_binding *ret)
{
    uint8_t *der = NULL;
    int len = i2d_X509(x, &der), rc;

    ck_assert_int_gt(len, 0);
    rc = crypt_binding_from_der(der, (size_t)len, ret, &err);
    OPENSSL_free(der);
    return rc;
}

START_TEST(bindings_of_rfc_5929)
{
    EVP_PKEY *rsa = EVP_RSA_gen(2048), *ec = EVP_EC_gen("P-256");
    EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    const struct {
        EVP_PKEY *pkey;
        const EVP_MD *signed_by, *hashed_by; /* hashed_by NULL: none */
        bool pss;
    } CASES[] = {
        { rsa, EVP_md5(), EVP_sha256(), false },    { rsa, EVP_sha1(), EVP_sha256(), false },
        { rsa, EVP_sha224(), EVP_sha224(), false }, { rsa, EVP_sha256(), EVP_sha256(), false },
        { rsa, EVP_sha512(), EVP_sha512(), false }, { rsa, EVP_sha384(), EVP_sha384(), true },
        { ec, EVP_sha1(), EVP_sha256(), false },    { ec, EVP_sha256(), EVP_sha256(), false },
        { ec, EVP_sha384(), EVP_sha384(), false },  { ed, NULL, NULL, false },
    };

    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        X509 *x = signed_by(CASES[i].pkey, CASES[i].signed_by, CASES[i].pss);
        struct crypt_binding got;
        uint8_t want[64];
        unsigned len;

        if (CASES[i].hashed_by != NULL) {
            ck_assert_msg(binding(x, &got) == 0, "case %zu: %s", i, err.msg);
            ck_assert_int_eq(X509_digest(x, CASES[i].hashed_by, want, &len), 1);
            ck_assert_uint_eq(got.len, len);
            ck_assert_mem_eq(got.hash, want, len);
        } else {
            ck_assert_int_eq(binding(x, &got), -1);
            ck_assert_int_eq(err.code, ERR_NOT_SUPPORTED);
            ck_assert_uint_eq(got.len, 0);
        }
        X509_free(x);
    }
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ed);
}
END_TEST

START_TEST(bindings_of_files)
{
    char dir[] = "/tmp/t_crypt.XXXXXX";
    const char *cert_path, *key_path;
    struct crypt_binding one, got;
    uint8_t *der = NULL, want[32];
    X509 *x;
    FILE *f;
    int len;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    cert_path = arena_printf(arena, "%s/tls.crt", dir);
    key_path = arena_printf(arena, "%s/tls.key", dir);
    ck_assert_int_eq(crypt_make_authority(cert_path, key_path, 3600, &err), 0);
    ck_assert_msg(crypt_binding_from_file(cert_path, &one, &err) == 0, "%s", err.msg);
    f = fopen(cert_path, "a+"); /* what follows is the chain */
    x = PEM_read_X509(f, NULL, NULL, NULL);
    len = i2d_X509(x, &der);
    EVP_Digest(der, (size_t)len, want, NULL, EVP_sha256(), NULL);
    ck_assert_uint_eq(one.len, sizeof(want));
    ck_assert_mem_eq(one.hash, want, sizeof(want));
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    ck_assert_int_eq(PEM_write_X509(f, x), 1);
    fclose(f);
    ck_assert_int_eq(crypt_binding_from_file(cert_path, &got, &err), 0);
    ck_assert_mem_eq(got.hash, want, sizeof(want));

    for (int n = 0; n < len; n++)
        ck_assert_int_eq(crypt_binding_from_der(der, (size_t)n, &got, &err), -1);
    der = OPENSSL_realloc(der, (size_t)len + 1);
    der[len] = 0;
    ck_assert_int_eq(crypt_binding_from_der(der, (size_t)len + 1, &got, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_int_eq(crypt_binding_from_file(key_path, &got, &err), -1);
    ck_assert_int_eq(crypt_binding_from_file("/nowhere/tls.crt", &got, &err), -1);
    ck_assert_int_eq(crypt_binding_from_file(dir, &got, &err), -1);
    OPENSSL_free(der);
    X509_free(x);
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
}
END_TEST

Suite *t_crypt_suite(void)
{
    Suite *s = suite_create("crypt");
    TCase *c = tcase_create("crypt");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, hashes);
    tcase_add_test(c, compare);
    tcase_add_test(c, hmac_of_rfc_4231);
    tcase_add_test(c, base64_of_rfc_4648);
    tcase_add_test(c, base64_that_is_none);
    tcase_add_test(c, randomness);
    tcase_add_test(c, sealing);
    tcase_add_test(c, every_changed_byte_is_noticed);
    tcase_add_test(c, scram_verifiers);
    tcase_add_test(c, bindings_of_rfc_5929);
    tcase_add_test(c, bindings_of_files);
    suite_add_tcase(s, c);
    return s;
}
