/*
 * crypt_cert.c - certificates: the authority Mere makes for itself, the server certificate it signs, pairs of
 * certificate and key, and what a connection is bound to by a certificate
 *
 * Any thread.  A client that names the authority's file as sslrootcert may use verify-full, and goes on to do
 * so when the server's certificate is renewed.
 */
#include "base/crypt.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"

#define PEM_MAX_BYTES (1024 * 1024)
#define CLOCK_SLACK_S 3600 /* valid from an hour ago, for clients whose clock is a little behind */

static void pkey_free(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}

static void x509_free(X509 **p)
{
    X509_free(*p);
}

static void bio_free(BIO **p)
{
    BIO_free(*p);
}

static void names_free(GENERAL_NAMES **p)
{
    GENERAL_NAMES_free(*p);
}

#define auto_pkey  CLEANUP(pkey_free) EVP_PKEY
#define auto_x509  CLEANUP(x509_free) X509
#define auto_bio   CLEANUP(bio_free) BIO
#define auto_names CLEANUP(names_free) GENERAL_NAMES

/* An address becomes an IP entry, everything else a DNS one: clients compare them by different rules. */
static GENERAL_NAME *alt_name(const char *text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(text);
    ASN1_IA5STRING *dns;

    if (name == NULL)
        return NULL;
    if (ip != NULL) {
        GENERAL_NAME_set0_value(name, GEN_IPADD, ip);
        return name;
    }
    dns = ASN1_IA5STRING_new();
    if (dns == NULL || ASN1_STRING_set(dns, text, -1) != 1) {
        ASN1_IA5STRING_free(dns);
        GENERAL_NAME_free(name);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, GEN_DNS, dns);
    return name;
}

static bool add_alt_names(X509 *x, const char *const *names, size_t n_names)
{
    auto_names *list = GENERAL_NAMES_new();

    for (size_t i = 0; i < n_names; i++) {
        GENERAL_NAME *name = alt_name(names[i]);

        if (name == NULL || list == NULL || sk_GENERAL_NAME_push(list, name) == 0) {
            GENERAL_NAME_free(name);
            return false;
        }
    }
    return X509_add1_ext_i2d(x, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT) == 1;
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext != NULL && X509_add_ext(x, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_serial(X509 *x)
{
    uint8_t serial[16];
    BIGNUM *bn;
    bool ok;

    crypt_random(serial, sizeof(serial));
    serial[0] &= 0x7F; /* positive */
    bn = BN_bin2bn(serial, sizeof(serial), NULL);
    ok = bn != NULL && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL;
    BN_free(bn);
    return ok;
}

/* What every certificate has.  until: NULL = seconds from now. */
static bool fill(X509 *x, EVP_PKEY *key, const char *name, int64_t seconds, const ASN1_TIME *until)
{
    X509_NAME *subject = X509_get_subject_name(x);
    bool dated = until != NULL ? X509_set1_notAfter(x, until) == 1
                               : X509_time_adj_ex(X509_getm_notAfter(x), (int)(seconds / 86400),
                                                  (long)(seconds % 86400), NULL) != NULL;

    return dated && X509_set_version(x, 2) == 1 && set_serial(x) &&
           X509_gmtime_adj(X509_getm_notBefore(x), -CLOCK_SLACK_S) != NULL && X509_set_pubkey(x, key) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0) == 1;
}

static bool sign_authority(X509 *x, EVP_PKEY *key)
{
    return X509_set_issuer_name(x, X509_get_subject_name(x)) == 1 &&
           add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           add_extension(x, x, NID_subject_key_identifier, "hash") && X509_sign(x, key, EVP_sha256()) > 0;
}

static bool sign_server(X509 *x, const struct crypt_order *o, X509 *ca, EVP_PKEY *ca_key)
{
    return X509_set_issuer_name(x, X509_get_subject_name(ca)) == 1 &&
           add_extension(x, ca, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(x, ca, NID_key_usage, "critical,digitalSignature") &&
           add_extension(x, ca, NID_ext_key_usage, "serverAuth") &&
           add_extension(x, ca, NID_subject_key_identifier, "hash") &&
           add_extension(x, ca, NID_authority_key_identifier, "keyid:always") &&
           add_alt_names(x, o->names, o->n_names) && X509_sign(x, ca_key, EVP_sha256()) > 0;
}

static int refused(struct err *err, const char *what)
{
    err_set(err, ERR_INTERNAL, "the TLS certificate could not be made; nothing was changed");
    return err_detail(err, "OpenSSL refused: %s", what);
}

static int write_bio(BIO *bio, const char *path, mode_t mode, struct err *err)
{
    char *pem = NULL;
    long len = BIO_get_mem_data(bio, &pem);

    return fs_write_atomic(path, pem, (size_t)len, mode, err);
}

static int write_key(EVP_PKEY *key, const char *path, struct err *err)
{
    auto_bio *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */

    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return refused(err, "PEM of a key");
    return write_bio(bio, path, 0600, err);
}

static int write_certificate(X509 *x, const char *path, struct err *err)
{
    auto_bio *bio = BIO_new(BIO_s_mem());

    if (bio == NULL || PEM_write_bio_X509(bio, x) != 1)
        return refused(err, "PEM of a certificate");
    return write_bio(bio, path, 0644, err);
}

/* --- reading
 * ------------------------------------------------------------------------------------------------------ */

/* Never asks a terminal for the password of a key. */
static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static const char *problem(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    return reason != NULL ? reason : "no such part in it";
}

static X509 *x509_of(const struct crypt_pem *pem)
{
    auto_bio *bio = BIO_new_mem_buf(pem->data, (int)pem->len);

    return bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL) : NULL;
}

static EVP_PKEY *key_of(const struct crypt_pem *pem)
{
    auto_bio *bio = BIO_new_mem_buf(pem->data, (int)pem->len);

    return bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
}

void crypt_pem_fini(struct crypt_pem *p)
{
    if (p->data != NULL)
        OPENSSL_cleanse(p->data, p->len);
    free(TAKE(p->data));
    p->len = 0;
}

int crypt_pem_read(int fd, const char *name, struct crypt_pem *ret, struct err *err)
{
    struct stat st;
    ssize_t n = 0;

    *ret = (struct crypt_pem){ 0 };
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, ERR_PRECONDITION, "cannot read %s, which is needed for TLS: %s", name,
                       strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > PEM_MAX_BYTES)
        return err_set(err, ERR_PRECONDITION, "cannot read %s, which is needed for TLS: %s", name,
                       !S_ISREG(st.st_mode) ? "it is not a file"
                       : st.st_size == 0    ? "it is empty"
                                            : "it is too large");
    ret->data = xmalloc((size_t)st.st_size);
    while (ret->len < (size_t)st.st_size &&
           (n = pread(fd, ret->data + ret->len, (size_t)st.st_size - ret->len, (off_t)ret->len)) > 0)
        ret->len += (size_t)n;
    if (n >= 0)
        return 0;
    crypt_pem_fini(ret);
    return err_set(err, ERR_PRECONDITION, "cannot read %s, which is needed for TLS: %s", name,
                   strerror(errno));
}

static int read_path(const char *path, struct crypt_pem *ret, struct err *err)
{
    auto_fd fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    return crypt_pem_read(fd, path, ret, err);
}

static int64_t time_us(const ASN1_TIME *t)
{
    struct tm tm;

    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : 0;
}

static int check_pair(const char *cert_path, const char *key_path, struct crypt_pair *p, struct err *err)
{
    auto_x509 *x = NULL;
    auto_pkey *key = NULL;

    ERR_clear_error();
    x = x509_of(&p->cert);
    if (x == NULL) {
        err_set(err, ERR_PRECONDITION, "%s holds no certificate; give a PEM file, the server's own first",
                cert_path);
        return err_detail(err, "%s", problem());
    }
    key = key_of(&p->key);
    if (key == NULL) {
        err_set(err, ERR_PRECONDITION, "%s holds no key that can be used; give an unencrypted PEM file",
                key_path);
        return err_detail(err, "%s", problem());
    }
    if (X509_check_private_key(x, key) != 1)
        return err_set(err, ERR_PRECONDITION,
                       "the key in %s is not that of the first certificate in %s; give the two that belong "
                       "together",
                       key_path, cert_path);
    p->from_us = time_us(X509_get0_notBefore(x));
    p->until_us = time_us(X509_get0_notAfter(x));
    return 0;
}

void crypt_pair_fini(struct crypt_pair *p)
{
    crypt_pem_fini(&p->cert);
    crypt_pem_fini(&p->key);
}

int crypt_pair_read(const char *cert_path, const char *key_path, struct crypt_pair *ret, struct err *err)
{
    *ret = (struct crypt_pair){ 0 };
    if (read_path(cert_path, &ret->cert, err) == 0 && read_path(key_path, &ret->key, err) == 0 &&
        check_pair(cert_path, key_path, ret, err) == 0)
        return 0;
    crypt_pair_fini(ret);
    return -1;
}

/* Does x name each of these, and nothing else? */
static bool has_names(X509 *x, const char *const *names, size_t n_names)
{
    auto_names *list = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

    if (list == NULL || (size_t)sk_GENERAL_NAME_num(list) != n_names)
        return false;
    for (size_t i = 0; i < n_names; i++) {
        GENERAL_NAME *want = alt_name(names[i]);
        bool same = want != NULL && GENERAL_NAME_cmp(want, sk_GENERAL_NAME_value(list, (int)i)) == 0;

        GENERAL_NAME_free(want);
        if (!same)
            return false;
    }
    return true;
}

bool crypt_pair_is_from(const struct crypt_pair *p, const char *ca_path, const char *const *names,
                        size_t n_names)
{
    CLEANUP(crypt_pem_fini) struct crypt_pem pem = { 0 };
    struct err ignored = ERR_INIT;
    auto_x509 *x = x509_of(&p->cert), *ca = NULL;

    if (x == NULL || read_path(ca_path, &pem, &ignored) < 0)
        return false;
    ca = x509_of(&pem);
    return ca != NULL && X509_check_issued(ca, x) == X509_V_OK && X509_verify(x, X509_get0_pubkey(ca)) == 1 &&
           has_names(x, names, n_names);
}

/* --- making
 * ------------------------------------------------------------------------------------------------------- */

/* Its name goes with its key, so that a certificate made anew for the key vouches for what the last one did.
 */
static bool authority_name(EVP_PKEY *key, char out[32])
{
    uint8_t *der = NULL, hash[CRYPT_SHA256_SIZE];
    int len = i2d_PUBKEY(key, &der);

    if (len <= 0)
        return false;
    crypt_sha256(der, (size_t)len, hash);
    OPENSSL_free(der);
    snprintf(out, 32, "Mere authority %02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
    return true;
}

static int read_key(const char *path, EVP_PKEY **ret, struct err *err)
{
    CLEANUP(crypt_pem_fini) struct crypt_pem pem = { 0 };

    if (read_path(path, &pem, err) < 0)
        return -1;
    *ret = key_of(&pem);
    return *ret != NULL ? 0 : err_set(err, ERR_PRECONDITION, "%s holds no key that can be used", path);
}

int crypt_make_authority(const char *cert_path, const char *key_path, int64_t seconds, struct err *err)
{
    auto_pkey *key = NULL;
    auto_x509 *x = X509_new();
    bool kept = fs_exists(key_path);
    char name[32];

    if (seconds <= 0)
        return err_set(err, ERR_INVALID, "a certificate needs a time of validity");
    if (kept && read_key(key_path, &key, err) < 0)
        return -1;
    if (!kept)
        key = EVP_EC_gen("P-256");
    if (x == NULL || key == NULL || !authority_name(key, name) || !fill(x, key, name, seconds, NULL) ||
        !sign_authority(x, key))
        return refused(err, "authority");
    if (!kept && write_key(key, key_path, err) < 0)
        return -1;
    return write_certificate(x, cert_path, err);
}

int crypt_make_certificate(const struct crypt_order *o, struct err *err)
{
    CLEANUP(crypt_pair_fini) struct crypt_pair ca = { 0 };
    auto_pkey *ca_key = NULL, *key = EVP_EC_gen("P-256");
    auto_x509 *ca_cert = NULL, *x = X509_new();
    const ASN1_TIME *until = NULL;

    if (o->n_names == 0 || o->seconds <= 0)
        return err_set(err, ERR_INVALID, "a certificate needs a name and a time of validity");
    if (crypt_pair_read(o->ca_cert_path, o->ca_key_path, &ca, err) < 0)
        return -1;
    ca_cert = x509_of(&ca.cert);
    ca_key = key_of(&ca.key);
    if (ca_cert == NULL || ca_key == NULL || key == NULL || x == NULL)
        return refused(err, "key");
    if (ca.until_us / 1000000 < (int64_t)time(NULL) + o->seconds)
        until = X509_get0_notAfter(ca_cert); /* none outlives who vouches for it */
    if (!fill(x, key, "Mere", o->seconds, until) || !sign_server(x, o, ca_cert, ca_key))
        return refused(err, "certificate");
    if (write_key(key, o->key_path, err) < 0)
        return -1;
    return write_certificate(x, o->cert_path, err);
}

/* --- channel binding
 * ---------------------------------------------------------------------------------------------- */

static int no_certificate(struct err *err)
{
    return err_set(err, ERR_INVALID, "this is no X.509 certificate");
}

static int binding_of(X509 *x, struct crypt_binding *ret, struct err *err)
{
    const EVP_MD *digest;
    unsigned len;
    int nid;

    /* asks the parameters of the signature too: that is where RSA-PSS has its digest */
    if (X509_get_signature_info(x, &nid, NULL, NULL, NULL) != 1 || nid == NID_undef)
        return err_set(err, ERR_NOT_SUPPORTED,
                       "the certificate's signature has no digest, so no connection can be bound to it "
                       "(SCRAM-SHA-256-PLUS); use one signed with RSA or ECDSA");
    digest = nid == NID_md5 || nid == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(nid);
    if (digest == NULL || X509_digest(x, digest, ret->hash, &len) != 1)
        return err_set(err, ERR_NOT_SUPPORTED, "the digest of the certificate's signature is not known here");
    ret->len = len;
    return 0;
}

int crypt_binding_from_der(const uint8_t *der, size_t len, struct crypt_binding *ret, struct err *err)
{
    const uint8_t *p = der;
    auto_x509 *x = len <= INT32_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;

    *ret = (struct crypt_binding){ 0 };
    return x != NULL && p == der + len ? binding_of(x, ret, err) : no_certificate(err);
}

int crypt_binding_from_file(const char *cert_path, struct crypt_binding *ret, struct err *err)
{
    auto_bio *file = BIO_new_file(cert_path, "r");
    auto_x509 *x = file != NULL ? PEM_read_bio_X509_AUX(file, NULL, no_password, NULL) : NULL;

    *ret = (struct crypt_binding){ 0 };
    if (x == NULL) {
        no_certificate(err);
        return err_detail(err, "%s: not readable as PEM", cert_path);
    }
    return binding_of(x, ret, err);
}
