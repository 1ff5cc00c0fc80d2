/*
 * session.h - what the bytes of a session say about it: is it idle, whose is the cancel key, did the server
 * say goodbye
 *
 * Pure: sees every byte that passes, in order, in both directions, and keeps a few words.  The only bytes it
 * changes are the eight of BackendKeyData.  It never delays or drops one: what it does not understand,
 * Postgres judges.
 *
 * Idle means: Postgres's last word is ReadyForQuery 'I', every message that ends in a ReadyForQuery has had
 * its own, and the client has sent nothing since that waits for a Sync.  Counting them one by one matters
 * with pipelining: the first ReadyForQuery must not hide the queries behind it.
 */
#ifndef MERE_SESSION_H
#define MERE_SESSION_H

#include "pg/wire.h"

/* Enough of an ErrorResponse to hold severity and SQLSTATE in any language. */
#define SESSION_KEEP 96

struct session {
    struct wire_scan client, server;
    uint32_t asked;      /* messages sent that end in a ReadyForQuery; the startup packet is the first */
    uint32_t answered;   /* ReadyForQuery seen */
    uint32_t last_query; /* number (in asked) of the last simple Query */
    char status;         /* of the last ReadyForQuery: I, T, E; 0 before the first */
    bool loose;          /* extended messages sent that no Sync has closed */
    bool owed;           /* a COPY FROM STDIN has begun, and no ReadyForQuery has come since */
    bool copying;        /* Postgres is in COPY FROM STDIN, and no data was sent: it swallows a Sync */
    bool data;           /* CopyData, or its end, was sent since the session was last settled */
    uint8_t ends;        /* of COPYs, sent since then and not assigned to one yet; 2 = more than one */
    uint32_t syncs;      /* Sync sent since the last Query or Execute */
    uint32_t swallowed;  /* the same when the first of ends was sent: what that COPY swallows */
    bool bye;            /* the client sent Terminate */
    bool fatal;          /* Postgres said that the session is over */
    bool failing;        /* it said an error, and skips what comes up to its next ReadyForQuery */
    uint32_t errors;     /* it said, all in all */
    bool has_key;        /* server_key is known */
    uint8_t client_key[WIRE_KEY_SIZE]; /* ours, what the client is given */
    uint8_t server_key[WIRE_KEY_SIZE]; /* Postgres's */
    uint8_t kept;
    uint8_t keep[SESSION_KEEP]; /* beginning of the body under way, of those we read */
};

/* client_key: what the client will see instead of Postgres's key. */
void session_init(struct session *s, const uint8_t client_key[WIRE_KEY_SIZE]);
void session_client_bytes(struct session *s, uint8_t *data, size_t len);
void session_server_bytes(struct session *s, uint8_t *data, size_t len);

bool session_is_idle(const struct session *s);
/* A message of ours may follow what the server sent so far. */
bool session_may_add(const struct session *s);

#endif
