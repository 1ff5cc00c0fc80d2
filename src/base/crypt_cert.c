/*
 * crypt_cert.c - the certificate Mere makes for itself
 *
 * Any thread.  Self-signed and its own authority, so that a client may name the file as sslrootcert and use
 * verify-full.
 */
#include "base/crypt.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/fs.h"

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

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
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

static bool fill(X509 *x, EVP_PKEY *key, const char *const *names, size_t n_names, int days)
{
    X509_NAME *subject = X509_get_subject_name(x);

    /* an hour back, for clients whose clock is a little behind */
    return X509_set_version(x, 2) == 1 && set_serial(x) &&
           X509_gmtime_adj(X509_getm_notBefore(x), -3600) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL) != NULL && X509_set_pubkey(x, key) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)"Mere", -1, -1, 0) == 1 &&
           X509_set_issuer_name(x, subject) == 1 &&
           add_extension(x, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(x, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
           add_extension(x, NID_ext_key_usage, "serverAuth") &&
           add_extension(x, NID_subject_key_identifier, "hash") && add_alt_names(x, names, n_names) &&
           X509_sign(x, key, EVP_sha256()) > 0;
}

static int write_pem(BIO *bio, const char *path, mode_t mode, struct err *err)
{
    char *pem = NULL;
    long len = BIO_get_mem_data(bio, &pem);

    return fs_write_atomic(path, pem, (size_t)len, mode, err);
}

static int refused(struct err *err, const char *what)
{
    err_set(err, ERR_INTERNAL, "the TLS certificate could not be made; nothing was changed");
    return err_detail(err, "OpenSSL refused: %s", what);
}

int crypt_make_certificate(const char *cert_path, const char *key_path, const char *const *names,
                           size_t n_names, int days, struct err *err)
{
    auto_pkey *key = EVP_EC_gen("P-256");
    auto_x509 *x = X509_new();
    auto_bio *key_pem = BIO_new(BIO_s_secmem()); /* wiped when freed */
    auto_bio *cert_pem = BIO_new(BIO_s_mem());

    if (n_names == 0 || days <= 0)
        return err_set(err, ERR_INVALID, "a certificate needs a name and a time of validity");
    if (key == NULL || x == NULL || key_pem == NULL || cert_pem == NULL)
        return refused(err, "key");
    if (!fill(x, key, names, n_names, days))
        return refused(err, "certificate");
    if (PEM_write_bio_PKCS8PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        PEM_write_bio_X509(cert_pem, x) != 1)
        return refused(err, "PEM");
    if (write_pem(key_pem, key_path, 0600, err) < 0)
        return -1;
    return write_pem(cert_pem, cert_path, 0644, err);
}
