/*
 * t_certs.c - the authority, the certificate it signs, when either is made anew, and pairs that do not fit
 */
#include "scheduler/certs.h"

#include <check.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/log.h"

Suite *t_certs_suite(void);

#define DAY     ((int64_t)86400)
#define DAY_US  (DAY * 1000000)
#define N_NAMES 4
static const char *const NAMES[] = { "localhost", "*.localhost", "127.0.0.1", "::1", "db.example" };

static struct arena *arena;
static struct err err;
static char dir[32];
static struct certs certs;
static const char *first, *second; /* another pair */

static void setup(void)
{
    arena = arena_new(0);
    err = (struct err)ERR_INIT;
    log_set_level(LOG_ERROR);
    snprintf(dir, sizeof(dir), "/tmp/t_certs.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    certs = (struct certs){ .names = NAMES, .n_names = N_NAMES, .seconds = 100 * DAY };
    first = arena_printf(arena, "%s/other.crt", dir);
    second = arena_printf(arena, "%s/other.key", dir);
}

static void teardown(void)
{
    clock_test_reset();
    ck_assert_int_eq(fs_remove_tree(dir, false, &err), 0);
    arena_free(arena);
}

static void must_open(void)
{
    ck_assert_msg(certs_open(arena, dir, &certs, &err) == 0, "%s (%s)", err.msg, err.detail);
}

static X509 *x509(const char *path)
{
    FILE *f = fopen(path, "r");
    X509 *x;

    ck_assert_msg(f != NULL, "%s", path);
    x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* As a client that trusts ca and nothing else sees it. */
static bool is_trusted(const char *ca_path, const char *cert_path)
{
    X509 *ca = x509(ca_path), *x = x509(cert_path);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool ok;

    X509_STORE_add_cert(store, ca);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    ok = X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(ca);
    X509_free(x);
    return ok;
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static const char *text_of(const char *path)
{
    char *text;
    size_t len;

    ck_assert_int_eq(fs_read(arena, path, 65536, &text, &len, &err), 0);
    return text;
}

static void put(const char *path, const char *text)
{
    ck_assert_int_eq(fs_write_plain(path, text, strlen(text), 0600, (uid_t)-1, (gid_t)-1, &err), 0);
}

static bool renewed(void)
{
    bool made;

    ck_assert_msg(certs_renew(&certs, &made, &err) == 0, "%s (%s)", err.msg, err.detail);
    return made;
}

START_TEST(made_at_the_first_start)
{
    X509 *x, *ca;
    EVP_PKEY *key;
    FILE *f;

    umask(0);
    must_open();
    ck_assert_uint_eq(mode_of(certs.ca_key), 0600);
    ck_assert_uint_eq(mode_of(certs.key), 0600);
    ck_assert_uint_eq(mode_of(certs.ca), 0644);
    ck_assert_uint_eq(mode_of(certs.cert), 0644);
    ck_assert(is_trusted(certs.ca, certs.cert));
    x = x509(certs.cert);
    ca = x509(certs.ca);
    ck_assert_int_eq(X509_check_ca(ca), 1);
    ck_assert_int_eq(X509_check_ca(x), 0); /* it signs nobody else */
    f = fopen(certs.key, "r");
    key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    ck_assert_int_eq(X509_check_private_key(x, key), 1);
    ck_assert_int_ne(X509_check_private_key(ca, key), 1); /* the two have keys of their own */
    ck_assert_int_eq(X509_check_host(x, "localhost", 0, 0, NULL), 1);
    ck_assert_int_eq(X509_check_host(x, "example.com", 0, 0, NULL), 0);
    ck_assert_int_eq(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    ck_assert_int_eq(X509_check_ip_asc(x, "0:0:0:0:0:0:0:1", 0), 1);
    ck_assert_int_eq(X509_check_ip_asc(x, "10.0.0.1", 0), 0);
    X509_free(x);
    X509_free(ca);
    EVP_PKEY_free(key);
    ck_assert(!renewed());
}
END_TEST

START_TEST(renewed_when_a_third_is_left)
{
    const char *was, *ca;
    int64_t now = clock_wall_us();

    must_open();
    was = text_of(certs.cert);
    ca = text_of(certs.ca);
    clock_test_set(0, now + 66 * DAY_US);
    ck_assert(!renewed());
    clock_test_set(0, now + 67 * DAY_US);
    ck_assert(renewed());
    ck_assert_str_ne(text_of(certs.cert), was);
    ck_assert_str_eq(text_of(certs.ca), ca);
    ck_assert(is_trusted(certs.ca, certs.cert));
}
END_TEST

/* Other names, a key or a certificate that is none, one of somebody else: each is made anew, by the same
 * authority. */
START_TEST(made_anew_when_it_is_not_ours)
{
    const char *ca, *key, *cert;
    struct certs others;

    must_open();
    ca = text_of(certs.ca);
    certs.n_names = N_NAMES + 1;
    ck_assert(renewed() && !renewed());
    certs.names++;
    certs.n_names--;
    ck_assert(renewed() && !renewed());
    cert = text_of(certs.cert);
    key = text_of(certs.key);
    for (int i = 0; i < 4; i++) {
        put(i % 2 == 0 ? certs.cert : certs.key, i < 2 ? "nonsense\n" : "");
        ck_assert(renewed() && !renewed());
    }
    put(certs.cert, cert);
    put(certs.key, key);
    ck_assert(!renewed());
    ck_assert_int_eq(unlink(certs.key), 0);
    ck_assert(renewed() && !renewed());
    others = certs;
    others.ca = arena_printf(arena, "%s/ca2.crt", dir);
    others.ca_key = arena_printf(arena, "%s/ca2.key", dir);
    certs = others;
    ck_assert(renewed() && !renewed());
    ck_assert(is_trusted(certs.ca, certs.cert));
    put(second, ca); /* the first authority does not know this one */
    ck_assert(!is_trusted(second, certs.cert));
}
END_TEST

START_TEST(an_authority_that_ends_is_renewed_by_its_key)
{
    const char *was, *key, *old = arena_printf(arena, "%s/old.crt", dir);

    must_open();
    ck_assert_int_eq(crypt_make_authority(certs.ca, certs.ca_key, 50 * DAY, &err), 0);
    was = text_of(certs.ca);
    key = text_of(certs.ca_key);
    ck_assert(!renewed()); /* what it signed is good until it is due */
    ck_assert_int_eq(unlink(certs.cert), 0);
    ck_assert(renewed());
    ck_assert_str_ne(text_of(certs.ca), was);
    ck_assert_str_eq(text_of(certs.ca_key), key);
    put(old, was);
    ck_assert(is_trusted(certs.ca, certs.cert));
    ck_assert(is_trusted(old, certs.cert)); /* whoever has the old file needs no other while it is valid */
}
END_TEST

START_TEST(a_lost_key_of_the_authority_is_no_new_authority)
{
    const char *key;
    bool made;

    must_open();
    key = text_of(certs.ca_key);
    ck_assert_int_eq(unlink(certs.ca_key), 0);
    ck_assert(!renewed());
    ck_assert_int_eq(unlink(certs.cert), 0);
    ck_assert_int_eq(certs_renew(&certs, &made, &err), -1);
    ck_assert_int_eq(err.code, ERR_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(err.msg, certs.ca_key));
    certs.cert = NULL;
    ck_assert_int_eq(certs_open(arena, dir, &certs, &err), -1);
    put(certs.ca_key, key);
    ck_assert(renewed());
    ck_assert_int_eq(unlink(certs.ca_key), 0); /* but one that is taken away whole is */
    ck_assert_int_eq(unlink(certs.ca), 0);
    ck_assert_int_eq(unlink(certs.cert), 0);
    ck_assert(renewed());
}
END_TEST

START_TEST(what_cannot_be_renewed_serves_to_its_end)
{
    int64_t now = clock_wall_us();

    must_open();
    put(certs.ca_key, "nonsense\n");
    certs.cert = NULL;
    clock_test_set(0, now + 80 * DAY_US);
    must_open();
    certs.cert = NULL;
    clock_test_set(0, now + 101 * DAY_US);
    ck_assert_int_eq(certs_open(arena, dir, &certs, &err), -1);
    ck_assert_int_eq(err.code, ERR_PRECONDITION);
}
END_TEST

/* A user's pair is taken as it is, or refused by the name of the file. */
START_TEST(a_pair_of_the_user)
{
    const char *cert, *key, *third = arena_printf(arena, "%s/third.key", dir);
    struct certs mine;
    bool made;

    ck_assert_int_eq(crypt_make_authority(first, second, DAY, &err), 0);
    ck_assert_int_eq(crypt_make_authority(arena_printf(arena, "%s/third.crt", dir), third, DAY, &err), 0);
    cert = text_of(first);
    key = text_of(second);
    mine = (struct certs){ .cert = first, .key = second, .seconds = DAY };
    ck_assert_int_eq(certs_open(arena, dir, &mine, &err), 0);
    ck_assert_ptr_null(mine.ca);
    ck_assert(!fs_exists(arena_printf(arena, "%s/ca.key", dir)));
    clock_test_set(0, clock_wall_us() + 2 * DAY_US); /* no longer valid: said in the log, no more */
    ck_assert_int_eq(certs_open(arena, dir, &mine, &err), 0);
    ck_assert_int_eq(certs_renew(&mine, &made, &err), 0);
    ck_assert(!made);

    const struct {
        const char *cert, *key, *says;
    } BAD[] = {
        { cert, text_of(third), "belong together" },
        { "nonsense\n", key, "holds no certificate" },
        { key, key, "holds no certificate" },
        { cert, "nonsense\n", "holds no key" },
        { cert, cert, "holds no key" },
        { "", key, "empty" },
        { cert, "", "empty" },
    };
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++) {
        put(first, BAD[i].cert);
        put(second, BAD[i].key);
        err = (struct err)ERR_INIT;
        ck_assert_int_eq(certs_open(arena, dir, &mine, &err), -1);
        ck_assert_int_eq(err.code, ERR_PRECONDITION);
        ck_assert_msg(strstr(err.msg, BAD[i].says) != NULL, "%zu: %s", i, err.msg);
        ck_assert_ptr_nonnull(strstr(err.msg, dir));
        ck_assert_ptr_null(strstr(err.detail, "PRIVATE"));
    }
    mine.cert = dir;
    ck_assert_int_eq(certs_open(arena, dir, &mine, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "not a file"));
    mine.cert = "/nonexistent.crt";
    ck_assert_int_eq(certs_open(arena, dir, &mine, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "/nonexistent.crt"));
}
END_TEST

/* A key with a password is refused, and nobody is asked for it. */
START_TEST(an_encrypted_key)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct crypt_pair p;
    FILE *f;

    ck_assert_int_eq(crypt_make_authority(first, second, DAY, &err), 0);
    f = fopen(second, "w");
    ck_assert_int_eq(PEM_write_PrivateKey(f, key, EVP_aes_128_cbc(), (uint8_t *)"pass", 4, NULL, NULL), 1);
    fclose(f);
    EVP_PKEY_free(key);
    ck_assert_int_eq(crypt_pair_read(first, second, &p, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "unencrypted"));
    ck_assert_ptr_null(p.key.data);
}
END_TEST

START_TEST(orders_that_cannot_be)
{
    struct crypt_order o = { .seconds = DAY, .names = NAMES, .n_names = 1 };

    must_open();
    o.cert_path = first;
    o.key_path = second;
    o.ca_cert_path = certs.ca;
    o.ca_key_path = certs.ca_key;
    o.n_names = 0;
    ck_assert_int_eq(crypt_make_certificate(&o, &err), -1);
    o.n_names = 1;
    o.seconds = 0;
    ck_assert_int_eq(crypt_make_certificate(&o, &err), -1);
    o.seconds = DAY;
    o.key_path = "/nowhere/x.key";
    ck_assert_int_eq(crypt_make_certificate(&o, &err), -1);
    ck_assert(!fs_exists(first));
    ck_assert_int_eq(crypt_make_authority(first, second, 0, &err), -1);
}
END_TEST

Suite *t_certs_suite(void)
{
    Suite *s = suite_create("certs");
    TCase *tc = tcase_create("certs");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, made_at_the_first_start);
    tcase_add_test(tc, renewed_when_a_third_is_left);
    tcase_add_test(tc, made_anew_when_it_is_not_ours);
    tcase_add_test(tc, an_authority_that_ends_is_renewed_by_its_key);
    tcase_add_test(tc, a_lost_key_of_the_authority_is_no_new_authority);
    tcase_add_test(tc, what_cannot_be_renewed_serves_to_its_end);
    tcase_add_test(tc, a_pair_of_the_user);
    tcase_add_test(tc, an_encrypted_key);
    tcase_add_test(tc, orders_that_cannot_be);
    suite_add_tcase(s, tc);
    return s;
}
