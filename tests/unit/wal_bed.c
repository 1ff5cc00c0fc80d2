/*
 * wal_bed.c - a few WAL segments made by hand, record by record
 */
#include "wal_bed.h"

#include <stdlib.h>
#include <string.h>

uint8_t wal[N_SEGMENTS][1 << 20];
bool absent[N_SEGMENTS];
uint64_t at, prev;

uint8_t *byte_of(uint64_t lsn)
{
    return &wal[walseg_no(lsn) - FIRST][lsn % WALSEG_SIZE];
}

uint64_t start_page(uint64_t lsn, unsigned info, uint32_t rest)
{
    uint8_t *p = byte_of(lsn);
    bool is_long = lsn % WALSEG_SIZE == 0;
    uint16_t magic = 0xD110, bits = (uint16_t)(info | (is_long ? 2 : 0));
    memset(p, 0, WALSEG_PAGE);
    memcpy(p, &magic, 2);
    memcpy(p + 2, &bits, 2);
    memcpy(p + 8, &lsn, 8);
    memcpy(p + 16, &rest, 4);
    return lsn + (is_long ? 40 : 24);
}

static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82F63B78u & -(crc & 1));
    }
    return crc;
}

uint64_t add_bytes(uint8_t rmid, uint8_t info, const uint8_t *data, uint32_t n)
{
    uint32_t len = 24 + n, crc;
    uint8_t *rec = calloc(1, len);
    if (at % WALSEG_PAGE == 0)
        at = start_page(at, 0, 0);
    uint64_t start = at;
    memcpy(rec, &len, 4);
    memcpy(rec + 8, &prev, 8);
    rec[16] = info;
    rec[17] = rmid;
    memcpy(rec + 24, data, n);
    crc = crc32c(crc32c(0xFFFFFFFFu, rec + 24, n), rec, 20) ^ 0xFFFFFFFFu;
    memcpy(rec + 20, &crc, 4);
    for (uint32_t done = 0; done < len;) {
        if (at % WALSEG_PAGE == 0)
            at = start_page(at, 1, len - done);
        uint32_t room = WALSEG_PAGE - (uint32_t)(at % WALSEG_PAGE), m = len - done < room ? len - done : room;
        memcpy(byte_of(at), rec + done, m);
        at += m;
        done += m;
    }
    free(rec);
    at = (at + 7) & ~(uint64_t)7;
    prev = start;
    return start;
}

uint64_t add(uint32_t n)
{
    uint8_t *data = calloc(1, n + 1);
    uint64_t start = add_bytes(10, 0, data, n);
    free(data);
    return start;
}

uint64_t add_xact(uint8_t info, int64_t stamp_us)
{
    uint8_t data[2 + 8] = { 255, 8 };
    stamp_us -= (int64_t)946684800 * 1000000;
    memcpy(data + 2, &stamp_us, 8);
    return add_bytes(1, info, data, sizeof(data));
}

void begin(void)
{
    memset(wal, 0, sizeof(wal));
    memset(absent, 0, sizeof(absent));
    prev = 0;
    at = start_page(FIRST * WALSEG_SIZE, 0, 0);
}
