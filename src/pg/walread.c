#include "pg/walread.h"

#include "base/bytes.h"
#include "base/text.h"
#include "pg/walseg.h"

#include <errno.h>

/* XLogPageHeaderData */
enum {
    PAGE_MAGIC = 0,
    PAGE_INFO = 2,
    PAGE_ADDR = 8,
    PAGE_REM_LEN = 16,
    PAGE_SHORT = 24,
    PAGE_LONG = 40,
    PAGE_CONTRECORD = 0x0001,
    PAGE_OVERWRITTEN = 0x0008, /* the record that began before was given up; another begins here */
    MAGIC_HIGH_BYTE = 0xD1,
};

/* XLogRecord */
enum {
    REC_LEN = 0,
    REC_PREV = 8,
    REC_INFO = 16,
    REC_RMID = 17,
    REC_CRC = 20,
    REC_HEAD = 24,
};
#define REC_LEN_MAX ((uint32_t)1020 << 20) /* XLogRecordMaxSize */

enum {
    RMID_XLOG = 0,
    RMID_XACT = 1,
    RMID_STANDBY = 8,
    RMGR_INFO = 0xF0,
    XLOG_SWITCH = 0x40,
    XLOG_PARAMETER_CHANGE = 0x60
};
/* xl_parameter_change */
enum {
    CHANGE_CONNECTIONS = 0,
    CHANGE_WORKERS = 4,
    CHANGE_SENDERS = 8,
    CHANGE_PREPARED = 12,
    CHANGE_LOCKS = 16,
    CHANGE_SIZE = 20
};
/* xl_info & XLOG_XACT_OPMASK of the records that carry a time first in their data */
enum {
    XACT_OPMASK = 0x70,
    XACT_COMMIT = 0x00,
    XACT_ABORT = 0x20,
    XACT_COMMIT_2PC = 0x30,
    XACT_ABORT_2PC = 0x40
};
#define POSTGRES_EPOCH_US ((int64_t)946684800 * 1000000) /* 2000-01-01 in microseconds since 1970 */

struct walread {
    walread_open_fn *open;
    void *arg;
    uint64_t at;   /* where the next record begins, page header skipped or not */
    uint64_t prev; /* where the last one began; 0 = not known */
    int fd;
    uint64_t segno; /* of fd */
    char name[64];
    uint8_t page[WALSEG_PAGE];
    uint64_t page_at; /* address of what is in page; UINT64_MAX = nothing */
    uint8_t *record;
    size_t record_max;
    struct pg_needs needs;
    char why[256];
};

/* ---- pages ---- */

struct walread *walread_new(walread_open_fn *open, void *arg, uint64_t start)
{
    struct walread *r = xcalloc(1, sizeof(*r));
    *r = (struct walread){ .open = open, .arg = arg, .at = start, .fd = -1, .page_at = UINT64_MAX };
    return r;
}

void walread_close(struct walread *r)
{
    if (!r)
        return;
    fd_close(&r->fd);
    free(r->record);
    free(r);
}

void walread_closep(struct walread **r)
{
    walread_close(*r);
}

const char *walread_why(const struct walread *r)
{
    return r->why;
}

uint64_t walread_at(const struct walread *r)
{
    return r->at;
}

const struct pg_needs *walread_needs(const struct walread *r)
{
    return &r->needs;
}

/* Nothing valid follows.  Returns 0, what walread_next then answers. */
static int ends(struct walread *r, uint64_t where, const char *what)
{
    char lsn[LSN_TEXT_SIZE];
    snprintf(r->why, sizeof(r->why), "%s: %s at %s", r->name, what, text_lsn(where, lsn));
    return 0;
}

static int open_segment(struct walread *r, uint64_t segno, struct err *err)
{
    const char *name = "";
    if (r->fd >= 0 && r->segno == segno)
        return 1;
    fd_close(&r->fd);
    int rc = r->open(r->arg, segno, &r->fd, &name, err);
    snprintf(r->name, sizeof(r->name), "%s", name);
    r->segno = segno;
    if (rc == 0)
        return ends(r, segno * WALSEG_SIZE, "the segment is missing");
    return rc;
}

/* The page that starts at this address is in r->page, and is what its place says. */
static int load_page(struct walread *r, uint64_t address, struct err *err)
{
    if (r->page_at == address)
        return 1;
    int rc = open_segment(r, walseg_no(address), err);
    if (rc <= 0)
        return rc;
    r->page_at = UINT64_MAX;
    ssize_t n = pread(r->fd, r->page, WALSEG_PAGE, (off_t)(address % WALSEG_SIZE));
    if (n < 0)
        return err_sys(err, "read WAL segment %s", r->name);
    if (n != WALSEG_PAGE)
        return ends(r, address, "the segment is truncated");
    if (r->page[PAGE_MAGIC + 1] != MAGIC_HIGH_BYTE || bytes_get64(r->page + PAGE_ADDR) != address)
        return ends(r, address, "no page of this address");
    r->page_at = address;
    return 1;
}

static size_t page_head(uint64_t address)
{
    return address % WALSEG_SIZE == 0 ? PAGE_LONG : PAGE_SHORT;
}

static uint64_t page_of(uint64_t lsn)
{
    return lsn - lsn % WALSEG_PAGE;
}

/* ---- records ---- */

static uint8_t *make_room(struct walread *r, size_t n)
{
    if (n > r->record_max) {
        r->record_max = n < 65536 ? 65536 : n * 2;
        r->record = xrealloc(r->record, r->record_max);
    }
    return r->record;
}

/* In read_rest: the rest of this record was never written, and another begins on the page it would have gone
 * on. */
#define GIVEN_UP 2

/* Brings the bytes of a record that lie on further pages; *at moves behind them. */
static int read_rest(struct walread *r, uint64_t *at, size_t have, size_t len, struct err *err)
{
    while (have < len) {
        uint64_t page = page_of(*at + WALSEG_PAGE - 1);
        int rc = load_page(r, page, err);
        if (rc <= 0)
            return rc;
        unsigned info = bytes_get16(r->page + PAGE_INFO);
        if (info & PAGE_OVERWRITTEN) {
            *at = page;
            return GIVEN_UP;
        }
        if (!(info & PAGE_CONTRECORD) || bytes_get32(r->page + PAGE_REM_LEN) != len - have)
            return ends(r, page, "the rest of the record is not there");
        size_t head = page_head(page), n = WALSEG_PAGE - head < len - have ? WALSEG_PAGE - head : len - have;
        memcpy(make_room(r, have + n) + have, r->page + head,
               n); /* as much as there is, whatever its length says */
        have += n;
        *at = page + head + n;
    }
    return 1;
}

/*
 * The data of a record that names no blocks lies at its end; its length stands in the header part that begins
 * with 255 or 254.  Returns the length, 0 when there is no such part.
 */
static size_t data_size(const uint8_t *rec, size_t len)
{
    size_t at = REC_HEAD, data = 0;
    for (bool more = true; more && at < len;) {
        switch (rec[at]) {
        case 255: /* XLR_BLOCK_ID_DATA_SHORT */
            data = at + 1 < len ? rec[at + 1] : 0;
            more = false;
            break;
        case 254: /* XLR_BLOCK_ID_DATA_LONG */
            data = at + 5 <= len ? bytes_get32(rec + at + 1) : 0;
            more = false;
            break;
        case 253: /* XLR_BLOCK_ID_ORIGIN */
            at += 3;
            break;
        case 252: /* XLR_BLOCK_ID_TOPLEVEL_XID */
            at += 5;
            break;
        default:
            return 0;
        }
    }
    return data > len - REC_HEAD ? 0 : data;
}

static void read_stamp(const uint8_t *rec, size_t len, struct walrec *ret)
{
    unsigned op = ret->info & XACT_OPMASK;
    if (ret->rmid != RMID_XACT ||
        (op != XACT_COMMIT && op != XACT_ABORT && op != XACT_COMMIT_2PC && op != XACT_ABORT_2PC))
        return;
    size_t data = data_size(rec, len);
    if (data < 8)
        return;
    ret->stamp_us = (int64_t)bytes_get64(rec + len - data) + POSTGRES_EPOCH_US;
    ret->commit = op == XACT_COMMIT || op == XACT_COMMIT_2PC;
}

static void read_needs(struct walread *r, size_t len, const struct walrec *rec)
{
    if (rec->rmid != RMID_XLOG || (rec->info & 0xF0) != XLOG_PARAMETER_CHANGE)
        return;
    size_t data = data_size(r->record, len);
    const uint8_t *change = r->record + len - data;
    if (data < CHANGE_SIZE)
        return;
    const struct pg_needs needs = { .max_connections = bytes_get32(change + CHANGE_CONNECTIONS),
                                    .max_worker_processes = bytes_get32(change + CHANGE_WORKERS),
                                    .max_wal_senders = bytes_get32(change + CHANGE_SENDERS),
                                    .max_prepared_transactions = bytes_get32(change + CHANGE_PREPARED),
                                    .max_locks_per_transaction = bytes_get32(change + CHANGE_LOCKS) };
    pg_needs_raise(&r->needs, &needs);
}

static bool crc_right(const uint8_t *rec, size_t len)
{
    uint32_t crc = bytes_crc_add(BYTES_CRC_INIT, rec + REC_HEAD, len - REC_HEAD);
    return bytes_crc_end(bytes_crc_add(crc, rec, REC_CRC)) == bytes_get32(rec + REC_CRC);
}

/* As read_rest, for the whole record at `start`. */
static int read_record(struct walread *r, uint64_t start, uint64_t *ret_end, size_t *ret_len, struct err *err)
{
    int rc = load_page(r, page_of(start), err);
    if (rc <= 0)
        return rc;
    size_t off = start % WALSEG_PAGE, here = WALSEG_PAGE - off;
    /* Records are aligned to 8 bytes, so that the length is whole on this page. */
    uint32_t len = bytes_get32(r->page + off + REC_LEN);
    if (len == 0)
        return ends(r, start, "the WAL ends");
    if (len < REC_HEAD || len > REC_LEN_MAX)
        return ends(r, start, "no valid record");
    size_t n = len < here ? len : here;
    memcpy(make_room(r, n), r->page + off, n);
    *ret_end = start + n;
    *ret_len = len;
    return n < len ? read_rest(r, ret_end, n, len, err) : 1;
}

/* A record that begins a page begins behind its header. */
static int skip_head(struct walread *r, struct err *err)
{
    int rc = load_page(r, r->at, err);
    if (rc > 0)
        r->at += page_head(r->at);
    return rc;
}

int walread_next(struct walread *r, struct walrec *ret, struct err *err)
{
    uint64_t end = 0;
    size_t len = 0;
    int rc;
    do {
        if (r->at % WALSEG_PAGE == 0 && (rc = skip_head(r, err)) <= 0)
            return rc;
        rc = read_record(r, r->at, &end, &len, err);
        if (rc == GIVEN_UP)
            r->at = end;
    } while (rc == GIVEN_UP);
    if (rc <= 0)
        return rc;
    if (r->prev != 0 && bytes_get64(r->record + REC_PREV) != r->prev)
        return ends(r, r->at, "the record does not follow the one before");
    if (!crc_right(r->record, len))
        return ends(r, r->at, "a record with a wrong checksum");
    *ret = (struct walrec){ .start = r->at, .rmid = r->record[REC_RMID], .info = r->record[REC_INFO] };
    read_stamp(r->record, len, ret);
    read_needs(r, len, ret);
    r->prev = r->at;
    r->at = (end + 7) & ~(uint64_t)7;
    if (ret->rmid == RMID_XLOG && (ret->info & RMGR_INFO) == XLOG_SWITCH && r->at % WALSEG_SIZE != 0)
        r->at += WALSEG_SIZE - r->at % WALSEG_SIZE;
    ret->end = r->at;
    return 1;
}

/*
 * What pg_waldump shows of starts and stops, and of nothing else.  Changes that are not logged (unlogged and
 * temporary tables) have the commit record of their transaction.  XLOG_FPI is none of these: it is how an
 * index is built.
 */
bool walrec_is_quiet(const struct walrec *rec)
{
    static const struct {
        uint8_t rmid, op;
    } QUIET[] = {
        { RMID_XLOG, 0x00 },                             /* CHECKPOINT_SHUTDOWN */
        { RMID_XLOG, 0x10 },                             /* CHECKPOINT_ONLINE */
        { RMID_XLOG, 0x20 },                             /* NOOP */
        { RMID_XLOG, XLOG_SWITCH }, { RMID_XLOG, 0x60 }, /* PARAMETER_CHANGE */
        { RMID_XLOG, 0x80 },                             /* FPW_CHANGE */
        { RMID_XLOG, 0x90 },                             /* END_OF_RECOVERY */
        { RMID_XLOG, 0xA0 },                             /* FPI_FOR_HINT */
        { RMID_XLOG, 0xD0 },                             /* OVERWRITE_CONTRECORD */
        { RMID_XLOG, 0xE0 },                             /* CHECKPOINT_REDO, since version 17 */
        { RMID_STANDBY, 0x10 },                          /* RUNNING_XACTS */
    };
    for (size_t i = 0; i < N_ELEMENTS(QUIET); i++)
        if (rec->rmid == QUIET[i].rmid && (rec->info & RMGR_INFO) == QUIET[i].op)
            return true;
    return false;
}
