/*
 * buf.h - a growable byte buffer, for I/O and for building text
 *
 * Aborts when memory is out.  data is not NUL-terminated except after buf_str().
 */
#ifndef MERE_BUF_H
#define MERE_BUF_H

#include "base/base.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_fini(struct buf *b); /* frees, leaves an empty buffer */
void buf_reserve(struct buf *b, size_t extra);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_consume(struct buf *b, size_t n); /* drops n bytes from the front */
void buf_clear(struct buf *b);             /* len = 0, memory kept */
const char *buf_str(struct buf *b);        /* NUL-terminated view, valid until the next change */

#define auto_buf CLEANUP(buf_fini) struct buf

#endif
