/*
 * bytes.h - numbers in files of this machine, and their checksum
 */
#ifndef MERE_BYTES_H
#define MERE_BYTES_H

#include "base/base.h"

/* In the byte order of this machine, as Postgres writes them; p need not be aligned. */
uint16_t bytes_get16(const void *p);
uint32_t bytes_get32(const void *p);
uint64_t bytes_get64(const void *p);

/* CRC-32C (Castagnoli, reflected), of parts: begin with BYTES_CRC_INIT, end with bytes_crc_end. */
#define BYTES_CRC_INIT UINT32_MAX
uint32_t bytes_crc_add(uint32_t crc, const void *p, size_t n);
static inline uint32_t bytes_crc_end(uint32_t crc)
{
    return ~crc;
}

#endif
