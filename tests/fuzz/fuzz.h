/*
 * fuzz.h - what a fuzz target is: one file fuzz_<what>.c, its seeds in corpus/<what>/
 *
 * A target takes any bytes and checks what must be true of them, not only that nothing crashes.  One source,
 * built two ways: alone with libFuzzer (make fuzz), where a broken property ends the process, and inside the
 * unit tests (t_fuzz.c), where the build calls the two names below after the file.
 *
 * Each property has a fault that breaks it: where fuzz_planted() says so, the target spoils what it is about
 * to check.  t_fuzz.c shows for every property that its fault is found; one that cannot fail is a defect.
 */
#ifndef MERE_FUZZ_H
#define MERE_FUZZ_H

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* All that the target checks; ends with NULL. */
extern const char *const fuzz_properties[];

/* property is one of fuzz_properties, the pointer itself. */
void fuzz_expect(bool holds, const char *property);
bool fuzz_planted(const char *property);

/* Seeds are text: hex digits in pairs and "text", blanks between them; *N behind one of them repeats it; #
 * begins a comment.  False when the file is not there or not like that. */
bool seed_read(const char *path, struct buf *ret);

/* Reading an input from its front; an empty one gives zeros. */
struct fuzz_input {
    const uint8_t *data;
    size_t len;
};
uint8_t fuzz_byte(struct fuzz_input *in);

/* Repeatable random numbers; *state is never 0. */
uint64_t fuzz_random(uint64_t *state);
static inline size_t fuzz_below(uint64_t *state, size_t n)
{
    return (size_t)(fuzz_random(state) % n);
}

#endif
