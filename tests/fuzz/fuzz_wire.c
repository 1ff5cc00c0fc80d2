/*
 * fuzz_wire.c - framing of messages after the startup, and the reading of ErrorResponse
 *
 * Input: one byte that decides the cuts, then a stream.  What is found must be what a plain reading of the
 * whole stream finds, however it is cut.
 */
#include "fuzz.h"

#include "pg/wire.h"

static const char SAME_MESSAGES[] = "messages are the same however the stream is cut";
static const char ALL_TAKEN[] = "every byte is taken, unless the stream is broken";
static const char INSIDE[] = "pieces lie inside what was given, one behind the other";
static const char BOUNDARY[] = "a boundary is where a message has just ended";
static const char PREFIX[] = "the beginning of an error says nothing that the whole does not";
static const char FATAL_SAME[] = "whether an error is fatal is said by a field of it";

const char *const fuzz_properties[] = {
    SAME_MESSAGES, ALL_TAKEN, INSIDE, BOUNDARY, PREFIX, FATAL_SAME, NULL
};

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A message as both sides tell it: header, body so far, '.' when whole. */
static void tell_head(struct buf *b, uint8_t type, uint32_t len)
{
    buf_addf(b, "<%02x %u>", type, len);
}

/* Returns whether the stream ends between two messages. */
static bool read_plainly(const uint8_t *p, size_t len, struct buf *ret, bool *ret_broken)
{
    *ret_broken = false;
    while (len >= 5) {
        uint32_t size = get32(p + 1);
        size_t n;

        if (size < 4 || size > INT32_MAX) {
            *ret_broken = true;
            return false;
        }
        tell_head(ret, p[0], size - 4);
        n = len - 5 < size - 4 ? len - 5 : size - 4;
        buf_add(ret, p + 5, n);
        p += 5 + n;
        len -= 5 + n;
        if (n < size - 4)
            return false;
        buf_adds(ret, ".");
    }
    return len == 0;
}

static void scan_chunk(struct wire_scan *s, uint8_t *data, size_t len, struct buf *ret)
{
    struct wire_piece piece;
    size_t n;

    while ((n = wire_scan_next(s, data, len, &piece)) > 0) {
        if (fuzz_planted(INSIDE) && piece.len > 0)
            piece.data++;
        if (piece.type != 0)
            fuzz_expect(n <= len && piece.data + piece.len == data + n && piece.len <= piece.body_len,
                        INSIDE);
        if (piece.starts)
            tell_head(ret, piece.type, piece.body_len);
        if (!fuzz_planted(SAME_MESSAGES) || piece.starts)
            buf_add(ret, data + n - piece.len, piece.len);
        if (piece.ends)
            buf_adds(ret, ".");
        data += n;
        len -= n;
    }
    fuzz_expect((len == 0) == !(s->broken || fuzz_planted(ALL_TAKEN)) || (len == 0 && s->broken), ALL_TAKEN);
}

/* step 0: cut at random. */
static void scan_in_steps(const uint8_t *data, size_t len, size_t step, uint64_t seed)
{
    struct wire_scan s = { 0 };
    auto_buf seen = { 0 }, want = { 0 };
    auto_free uint8_t *copy = xmalloc(len + 1);
    bool broken, boundary = read_plainly(data, len, &want, &broken);

    memcpy(copy, data, len);
    for (size_t at = 0; at < len && !s.broken;) {
        size_t n = step != 0 ? step : 1 + fuzz_below(&seed, 9);

        n = n < len - at ? n : len - at;
        scan_chunk(&s, copy + at, n, &seen);
        at += n;
    }
    fuzz_expect(s.broken == broken && seen.len == want.len &&
                    memcmp(buf_str(&seen), buf_str(&want), seen.len) == 0,
                SAME_MESSAGES);
    if (fuzz_planted(BOUNDARY))
        boundary = boundary || s.have > 0;
    fuzz_expect(wire_scan_at_boundary(&s) == boundary, BOUNDARY);
}

/* The last byte of every field that tells the severity, or nothing. */
static bool says(const uint8_t *body, size_t len, const char *word)
{
    return memmem(body, len, word, strlen(word) + 1) != NULL;
}

static void read_error(const uint8_t *body, size_t len)
{
    char whole[WIRE_SQLSTATE_LEN + 1] = "", part[WIRE_SQLSTATE_LEN + 1] = "";
    bool whole_fatal, part_fatal, found = wire_error_sqlstate(body, len, whole, &whole_fatal);

    if (fuzz_planted(FATAL_SAME))
        whole_fatal = true;
    fuzz_expect(!whole_fatal || says(body, len, "FATAL") || says(body, len, "PANIC"), FATAL_SAME);
    for (size_t n = 0; n < len; n++) {
        auto_free uint8_t *cut = xmalloc(n);

        memcpy(cut, body, n);
        if (!wire_error_sqlstate(cut, n, part, &part_fatal))
            continue;
        if (fuzz_planted(PREFIX))
            part[0] ^= 1;
        fuzz_expect(found && strcmp(part, whole) == 0 &&
                        (part_fatal == whole_fatal || fuzz_planted(FATAL_SAME)),
                    PREFIX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint64_t seed = 0x9E3779B97F4A7C15u + fuzz_byte(&in);

    scan_in_steps(in.data, in.len, in.len + 1, seed);
    scan_in_steps(in.data, in.len, 1, seed);
    scan_in_steps(in.data, in.len, 0, seed);
    if (in.len > 5 && in.data[0] == 'E' && in.len < 300)
        read_error(in.data + 5, in.len - 5);
    return 0;
}
