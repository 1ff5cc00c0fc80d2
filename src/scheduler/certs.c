/*
 * certs.c - making, renewing and handing over the certificate of the Postgres port
 *
 * mere-proxy has given up the right to read the key, so it gets the pair as two sealed descriptors over the
 * wake socket: after each HELLO, and when there is another one.  They hold the last pair that fitted,
 * whatever has become of the files since.
 */
#include "scheduler/certs.h"

#include "base/clock.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/pass.h"
#include "base/text.h"
#include "scheduler/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define AUTHORITY_SECONDS ((int64_t)3650 * 86400)
#define LOOK_MIN_MS       1000
#define LOOK_MAX_MS       3600000
#define LOOKS             30 /* in the life of a certificate, where that is short */

/* ---- on disk ---- */

static int64_t seconds_left(const struct crypt_pair *p)
{
    return (p->until_us - clock_wall_us()) / 1000000;
}

/* Our own is there, for the names of today, and for long enough. */
static bool is_good(const struct certs *c)
{
    CLEANUP(crypt_pair_fini) struct crypt_pair p = { 0 };
    struct err ignored = ERR_INIT;
    return crypt_pair_read(c->cert, c->key, &p, &ignored) == 0 && seconds_left(&p) >= c->seconds / 3 &&
           crypt_pair_is_from(&p, c->ca, c->names, c->n_names);
}

/* One whose key is lost is not replaced unasked: nobody who trusts it would trust the next. */
static int ensure_authority(const struct certs *c, struct err *err)
{
    CLEANUP(crypt_pair_fini) struct crypt_pair p = { 0 };
    struct err ignored = ERR_INIT;
    bool has_key = fs_exists(c->ca_key);
    if (fs_exists(c->ca) && !has_key)
        return err_set(
            err, ERR_PRECONDITION,
            "%s is missing, and the certificate of the Postgres port has to be signed; put it back, "
            "or remove %s too for a new authority, which clients with verify-full must then be "
            "given",
            c->ca_key, c->ca);
    if (has_key && crypt_pair_read(c->ca, c->ca_key, &p, &ignored) == 0 && seconds_left(&p) > c->seconds)
        return 0;
    if (crypt_make_authority(c->ca, c->ca_key, AUTHORITY_SECONDS, err) < 0)
        return -1;
    log_event(has_key ? LOG_INFO : LOG_DEBUG, "certs",
              has_key ? "the authority's certificate is renewed" : "an authority is made", "file", c->ca,
              NULL);
    CRASH_POINT("certs.authority");
    return 0;
}

int certs_renew(const struct certs *c, bool *ret_new, struct err *err)
{
    struct crypt_order order = { .cert_path = c->cert,
                                 .key_path = c->key,
                                 .ca_cert_path = c->ca,
                                 .ca_key_path = c->ca_key,
                                 .names = c->names,
                                 .n_names = c->n_names,
                                 .seconds = c->seconds };
    *ret_new = false;
    if (!c->ca || is_good(c))
        return 0;
    bool first = !fs_exists(c->cert);
    if (ensure_authority(c, err) < 0 || crypt_make_certificate(&order, err) < 0)
        return -1;
    log_event(first ? LOG_DEBUG : LOG_INFO, "certs", "a certificate is made", "file", c->cert, NULL);
    *ret_new = true;
    return 0;
}

/* One that is not valid today is not refused: the clients that care do that, and the others go on. */
static void warn_of_dates(const struct certs *c, const struct crypt_pair *p)
{
    char from[TIME_TEXT_SIZE], until[TIME_TEXT_SIZE];
    if (p->from_us <= clock_wall_us() && clock_wall_us() < p->until_us)
        return;
    log_event(LOG_WARN, "certs",
              "the certificate is not valid today; clients that verify it are refused by it", "file", c->cert,
              "from", text_time(p->from_us, from), "until", text_time(p->until_us, until), NULL);
}

int certs_open(struct arena *a, const char *dir, struct certs *c, struct err *err)
{
    CLEANUP(crypt_pair_fini) struct crypt_pair p = { 0 };
    struct err why = ERR_INIT;
    bool made;
    if (!c->cert) {
        c->cert = arena_printf(a, "%s/tls.crt", dir);
        c->key = arena_printf(a, "%s/tls.key", dir);
        c->ca = arena_printf(a, "%s/ca.crt", dir);
        c->ca_key = arena_printf(a, "%s/ca.key", dir);
    }
    int rc = certs_renew(c, &made, &why);
    if (rc < 0)
        *err = why;
    /* a pair that serves today is no reason not to start */
    if (crypt_pair_read(c->cert, c->key, &p, rc < 0 ? &why : err) < 0 || (rc < 0 && seconds_left(&p) <= 0))
        return -1;
    if (rc < 0)
        log_event(LOG_WARN, "certs", "cannot renew the certificate", "error", err->msg, "detail", err->detail,
                  NULL);
    return 0;
}

/* ---- to mere-proxy ---- */

/* What nobody can change any more, so that the reader sees what was checked.  The descriptor keeps its
 * number: a mere-proxy that is starting was told it. */
static int sealed(const struct crypt_pem *pem, int *ret, struct err *err)
{
    auto_fd fd = memfd_create("mere-certs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || write(fd, pem->data, pem->len) != (ssize_t)pem->len ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_sys(err, "a descriptor for the certificate");
    if (*ret >= 0)
        return dup3(fd, *ret, O_CLOEXEC) < 0 ? err_sys(err, "a descriptor for the certificate") : 0;
    *ret = TAKE_FD(fd);
    return 0;
}

static int take(struct sched *s, struct err *err)
{
    CLEANUP(crypt_pair_fini) struct crypt_pair p = { 0 };
    if (crypt_pair_read(s->certs.cert, s->certs.key, &p, err) < 0)
        return -1;
    warn_of_dates(&s->certs, &p);
    return sealed(&p.cert, &s->cert_fd, err) < 0 ? -1 : sealed(&p.key, &s->cert_key_fd, err);
}

static void failed(const struct err *err)
{
    log_event(LOG_ERROR, "certs", "no new certificate; the old one stays in force", "error", err->msg,
              "detail", err->detail[0] ? err->detail : NULL, NULL);
}

void certs_reload(struct sched *s)
{
    struct err err = ERR_INIT;
    bool made;
    if (certs_renew(&s->certs, &made, &err) < 0 || take(s, &err) < 0) {
        failed(&err);
        return;
    }
    log_event(LOG_INFO, "certs", "the certificate is handed to mere-proxy", "file", s->certs.cert, NULL);
    wake_certificate(s);
}

static void on_look(void *arg)
{
    struct sched *s = arg;
    struct err err = ERR_INIT;
    int64_t ms = s->certs.seconds * 1000 / LOOKS;
    bool made = false;
    if (certs_renew(&s->certs, &made, &err) < 0 || (made && take(s, &err) < 0))
        failed(&err);
    else if (made)
        wake_certificate(s);
    loop_timer_set(s->certs_timer, ms < LOOK_MIN_MS ? LOOK_MIN_MS : ms > LOOK_MAX_MS ? LOOK_MAX_MS : ms);
}

int certs_start(struct sched *s, struct err *err)
{
    if (take(s, err) < 0)
        return -1;
    s->certs_timer = loop_timer_new(s->loop, on_look, s);
    loop_timer_set(s->certs_timer, LOOK_MIN_MS);
    return 0;
}

void certs_stop(struct sched *s)
{
    loop_timer_del(s->certs_timer);
    fd_close(&s->cert_fd);
    fd_close(&s->cert_key_fd);
}

bool certs_pass(const struct sched *s, int socket)
{
    static const char LINE[] = "CERT\n";
    int fds[2] = { s->cert_fd, s->cert_key_fd };
    /* Whoever is gone is found to be so by the next read. */
    return pass_send(socket, LINE, strlen(LINE), fds, N_ELEMENTS(fds)) >= 0 ||
           (errno != EAGAIN && errno != EINTR);
}
