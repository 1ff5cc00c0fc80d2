/*
 * text.h - strict parsing and rendering of the small things: numbers, sizes, LSNs, times, names
 *
 * Parsers take the whole string or fail (return false, *ret untouched): no blanks, no trailing text,
 * range-checked.
 */
#ifndef MERE_TEXT_H
#define MERE_TEXT_H

#include "base/base.h"

bool text_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
bool text_to_size(const char *s, uint64_t *ret_bytes); /* "512", "10MB", "4GiB", "2g": powers of 1024 */
bool text_to_lsn(const char *s, uint64_t *ret);        /* "0/16B3748"; 1..8 hex digits each side */
bool text_to_time(const char *s,
                  int64_t *ret_us); /* RFC 3339 with zone, optional fraction; microseconds since 1970 */
bool text_to_bool(const char *s, bool *ret); /* true/false/on/off/1/0 */

#define LSN_TEXT_SIZE 18
/* "%X/%X"; returns out. */
const char *text_lsn(uint64_t lsn, char out[LSN_TEXT_SIZE]);
#define TIME_TEXT_SIZE 32
/* "2025-01-16T21:02:01Z", whole seconds. */
const char *text_time(int64_t us, char out[TIME_TEXT_SIZE]);
/* "2025-01-16T21:02:01.123456Z". */
const char *text_time_us(int64_t us, char out[TIME_TEXT_SIZE]);

bool text_is_utf8(const char *s, size_t len); /* valid UTF-8, no surrogates, no overlong forms */
/* 1..max bytes of valid UTF-8 without control characters (U+0000..1F, 7F..9F), without characters that have
 * no width or turn the direction of text (U+200B..F, 202A..E, 2066..9, FEFF), and without leading or trailing
 * blank. */
bool text_is_name(const char *s, size_t max);
/* Percent-encoding of everything but [A-Za-z0-9._~-] into a malloc'd string; and the reverse (NULL when
 * malformed or with a NUL). */
char *text_url_encode(const char *s);
char *text_url_decode(const char *s, size_t len);
bool text_starts_with(const char *s, const char *prefix);

#endif
