#include "pg/walseg.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* access/xlog_internal.h: XLogPageHeaderData and XLogLongPageHeaderData. */
enum {
    AT_MAGIC = 0,
    AT_INFO = 2,
    AT_PAGEADDR = 8,
    AT_SYSTEM_ID = 24,
    AT_SEG_SIZE = 32,
    SHORT_HEADER = 24,
    LONG_HEADER = 40,
    INFO_LONG_HEADER = 0x0002,
    MAGIC_HIGH_BYTE = 0xD1, /* 0xD10D in version 14, 0xD110 in 15, 0xD118 in 18 */
};
#define RECORD_LEN_MAX ((uint32_t)1 << 30)

static bool all_hex(const char *s, size_t n)
{
    return strspn(s, "0123456789ABCDEF") >= n;
}

enum walseg_kind walseg_parse(const char *name, uint32_t *ret_tli, uint64_t *ret_segno)
{
    unsigned tli, hi, lo;
    size_t len = strlen(name);
    if (len == 16 && all_hex(name, 8) && strcmp(name + 8, ".history") == 0)
        return WALSEG_HISTORY;
    if (len < 24 || !all_hex(name, 24) || sscanf(name, "%8X%8X%8X", &tli, &hi, &lo) != 3)
        return WALSEG_OTHER;
    if (lo >= ((uint64_t)1 << 32) / WALSEG_SIZE)
        return WALSEG_OTHER;
    *ret_tli = tli;
    *ret_segno = (uint64_t)hi * (((uint64_t)1 << 32) / WALSEG_SIZE) + lo;
    if (len == 24)
        return WALSEG_SEGMENT;
    if (strcmp(name + 24, ".partial") == 0)
        return WALSEG_PARTIAL;
    if (len == 24 + 1 + 8 + 7 && name[24] == '.' && all_hex(name + 25, 8) &&
        strcmp(name + 33, ".backup") == 0)
        return WALSEG_BACKUP;
    return WALSEG_OTHER;
}

void walseg_name(uint32_t tli, uint64_t segno, char out[WALSEG_NAME_SIZE])
{
    uint64_t per_id = ((uint64_t)1 << 32) / WALSEG_SIZE;
    snprintf(out, WALSEG_NAME_SIZE, "%08X%08X%08X", (unsigned)tli, (unsigned)(segno / per_id),
             (unsigned)(segno % per_id));
}

int walseg_check(int fd, uint64_t segno, uint64_t system_id, struct err *err)
{
    struct stat st;
    uint8_t head[LONG_HEADER];
    uint64_t address, id;
    uint32_t size;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "stat of a WAL segment");
    if ((uint64_t)st.st_size != WALSEG_SIZE)
        return err_set(err, ERR_INVALID, "a WAL segment of %" PRIu64 " bytes, not %" PRIu64,
                       (uint64_t)st.st_size, WALSEG_SIZE);
    ssize_t n = pread(fd, head, sizeof(head), 0);
    if (n < 0)
        return err_sys(err, "read of a WAL segment");
    if (n != sizeof(head) || head[AT_MAGIC + 1] != MAGIC_HIGH_BYTE || !(head[AT_INFO] & INFO_LONG_HEADER))
        return err_set(err, ERR_INVALID, "no WAL page header");
    memcpy(&address, head + AT_PAGEADDR, sizeof(address));
    memcpy(&id, head + AT_SYSTEM_ID, sizeof(id));
    memcpy(&size, head + AT_SEG_SIZE, sizeof(size));
    if (address != segno * WALSEG_SIZE)
        return err_set(err, ERR_INVALID, "its content is of WAL address %" PRIX64 ", its name says %" PRIX64,
                       address, segno * WALSEG_SIZE);
    if (size != WALSEG_SIZE)
        return err_set(err, ERR_INVALID, "its header says segments of %" PRIu32 " bytes", size);
    if (system_id != 0 && id != system_id)
        return err_set(err, ERR_INVALID, "it belongs to another cluster (system identifier %" PRIu64 ")", id);
    return 0;
}

int walseg_check_pages(int fd, uint64_t segno, uint64_t bytes, struct err *err)
{
    uint8_t head[SHORT_HEADER];
    uint64_t address;
    for (uint64_t at = 0; at < bytes; at += WALSEG_PAGE) {
        if (pread(fd, head, sizeof(head), (off_t)at) != sizeof(head))
            return err_sys(err, "read of a WAL segment");
        memcpy(&address, head + AT_PAGEADDR, sizeof(address));
        bool empty = head[AT_MAGIC] == 0 && head[AT_MAGIC + 1] == 0 && address == 0;
        if (!empty && (head[AT_MAGIC + 1] != MAGIC_HIGH_BYTE || address != segno * WALSEG_SIZE + at))
            return err_set(err, ERR_INVALID, "its page at %" PRIX64 " is of WAL address %" PRIX64,
                           segno * WALSEG_SIZE + at, address);
    }
    return 0;
}

static uint64_t page_header(uint64_t page_start)
{
    return page_start % WALSEG_SIZE == 0 ? LONG_HEADER : SHORT_HEADER;
}

uint64_t walseg_record_start(uint64_t lsn)
{
    return lsn % WALSEG_PAGE == 0 ? lsn + page_header(lsn) : lsn;
}

/* A record's bytes fill the rest of its page, then go on behind the next page's header. */
static uint64_t advance(uint64_t lsn, uint64_t bytes)
{
    for (;;) {
        uint64_t room = WALSEG_PAGE - lsn % WALSEG_PAGE;
        if (bytes <= room)
            return lsn + bytes;
        bytes -= room;
        lsn += room;
        lsn += page_header(lsn);
    }
}

int walseg_record_end(const char *dir, uint32_t tli, uint64_t lsn, uint64_t *ret_end, struct err *err)
{
    char name[WALSEG_NAME_SIZE];
    uint32_t len;
    walseg_name(tli, walseg_no(lsn), name);
    auto_free char *path = xasprintf("%s/%s", dir, name);
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "open %s", path);
    if (walseg_check(fd, walseg_no(lsn), 0, err) < 0)
        return err_wrap(err, "%s", name);
    /* xl_tot_len is the record's first member, and records start 8-byte aligned: it never crosses a page. */
    if (pread(fd, &len, sizeof(len), (off_t)(lsn % WALSEG_SIZE)) != sizeof(len))
        return err_sys(err, "read %s", path);
    if (len < 24 || len > RECORD_LEN_MAX)
        return err_set(err, ERR_INTERNAL, "no WAL record at %" PRIX64 " in %s", lsn, name);
    *ret_end = (advance(lsn, len) + 7) & ~(uint64_t)7;
    return 0;
}
