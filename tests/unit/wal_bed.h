/*
 * wal_bed.h - a few WAL segments made by hand, record by record
 */
#ifndef MERE_TESTS_WAL_BED_H
#define MERE_TESTS_WAL_BED_H

#include "base/err.h"
#include "pg/walseg.h"

#define N_SEGMENTS 3
#define FIRST      5 /* their number */
extern uint8_t wal[N_SEGMENTS][1 << 20];
extern bool absent[N_SEGMENTS];
extern uint64_t at, prev; /* where the next record goes, and where the last one began */

void begin(void); /* all empty; at is where the first record goes */
uint8_t *byte_of(uint64_t lsn);
uint64_t start_page(uint64_t lsn, unsigned info, uint32_t rest);
/* A record with data after its header; returns where it begins. */
uint64_t add_bytes(uint8_t rmid, uint8_t info, const uint8_t *data, uint32_t n);
uint64_t add(uint32_t n); /* of n zeros */
uint64_t add_xact(uint8_t info, int64_t stamp_us);

#endif
