/*
 * scan.h - what a client's SQL may leave behind in its session that Postgres would not show afterwards
 *
 * Pure: sees every byte the client sends, in order, cut anywhere; changes and delays none.  For the sessions
 * of endpoints that park alone.  It knows words, not SQL: what it finds may be harmless, what it does not
 * find is not there.  A word inside a string, a comment or a quoted name counts as well.
 *
 * Custom settings (SET a.b, set_config) and the seed of random() are in no view of Postgres, LOAD brings code
 * with a state of its own, and a text that is run as SQL (DO, query_to_xml) may do any of these.  What
 * changes definitions (DROP, ALTER, CREATE OR REPLACE) may take away a function that other sessions have
 * called: who looks afterwards does not see that it could have set something.
 */
#ifndef MERE_SCAN_H
#define MERE_SCAN_H

#include "pg/wire.h"

/* The longest unnamed statement that is kept: Postgres does not give it back. */
#define SCAN_UNNAMED_MAX 4096
#define SCAN_WORD_MAX    32

enum scan_window { SCAN_SHUT, SCAN_OPEN, SCAN_QUOTED };

struct scan {
    struct wire_scan wire;
    bool stays;        /* holds, or may hold, what cannot be restored; for good */
    bool redefines;    /* a definition is being changed; the owner clears it when it has dealt with it */
    uint8_t nuls;      /* of the message under way: where its text begins and ends */
    uint8_t n;         /* bytes of word; more than SCAN_WORD_MAX: too long to be one of ours */
    bool after_or;     /* the word before was OR */
    bool after_do;     /* it was DO, and nothing has shown yet what kind */
    uint8_t before[2]; /* the last two bytes */
    enum scan_window window; /* between SET or RESET and the end of the name */
    bool keeps;              /* the Parse under way is of the unnamed statement, and is kept */
    char word[SCAN_WORD_MAX];
    struct buf unnamed; /* body of the Parse that made the unnamed statement; empty = not known */
};

void scan_fini(struct scan *s);
/* failing: Postgres has answered with an error and skips messages up to the next Sync. */
void scan_client_bytes(struct scan *s, uint8_t *data, size_t len, bool failing);
/* Postgres answered with an error: which of the last messages it has taken is not known. */
void scan_error(struct scan *s);
/* The last Parse of the unnamed statement, if it is there, is all of it and was not skipped. */
bool scan_has_unnamed(const struct scan *s);

#endif
