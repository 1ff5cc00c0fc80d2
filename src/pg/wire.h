/*
 * wire.h - the Postgres wire protocol as bytes: first packets, startup parameters, SASL, errors, message
 * framing
 *
 * Pure: reads and builds byte strings, never touches a descriptor, keeps nothing between calls but what the
 * caller holds. Any thread.  Everything parsed here comes from strangers (clients, and backends whose owner
 * may be hostile): lengths are checked before they are used and nothing is allocated by a length that was
 * read.
 */
#ifndef MERE_WIRE_H
#define MERE_WIRE_H

#include "base/buf.h"

/* Postgres's own bounds for the packet that opens a connection. */
#define WIRE_STARTUP_MIN 8
#define WIRE_STARTUP_MAX 10000
/* More parameters than any client sends; bounds the search for repeated names. */
#define WIRE_PARAMS_MAX 128
#define WIRE_NAME_MAX   63 /* NAMEDATALEN - 1 */

#define WIRE_CANCEL_SIZE  16
#define WIRE_KEY_SIZE     8 /* pid and key of BackendKeyData */
#define WIRE_SQLSTATE_LEN 5

/* What a client is told.  severity is FATAL: each of these ends the connection. */
struct wire_error {
    char sqlstate[WIRE_SQLSTATE_LEN + 1];
    char message[512];
    char hint[512]; /* empty = none */
};

/* Fills *e and returns -1, so that `return wire_error_set(e, ...)` reads well.  hint may be NULL. */
int wire_error_set(struct wire_error *e, const char *sqlstate, const char *hint, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Appends it as an ErrorResponse. */
void wire_error_add(struct buf *b, const struct wire_error *e);

/* --- the first packet
 * ------------------------------------------------------------------------------------------- */

enum wire_first_kind {
    WIRE_INCOMPLETE, /* good so far, more is needed */
    WIRE_SSL,
    WIRE_GSS,
    WIRE_CANCEL,
    WIRE_STARTUP,
    WIRE_INVALID, /* no number of further bytes can make it good; error says why */
};

struct wire_first {
    enum wire_first_kind kind;
    size_t len;                 /* bytes it takes */
    uint16_t minor;             /* WIRE_STARTUP: asked for protocol 3.minor */
    uint8_t key[WIRE_KEY_SIZE]; /* WIRE_CANCEL: as the client was given them */
    struct wire_error error;
};

/* Looks at the len bytes received so far.  Returns ret->kind. */
enum wire_first_kind wire_first_parse(const void *data, size_t len, struct wire_first *ret);

struct wire_param {
    const char *name, *value;
};

struct wire_startup {
    struct wire_param params[WIRE_PARAMS_MAX]; /* point into the packet */
    size_t n;
    uint16_t minor;
};

/* A whole packet of kind WIRE_STARTUP.  -1 with *e when it is not well formed, repeats a name, or has no
 * usable user. */
int wire_startup_parse(const void *packet, const struct wire_first *first, struct wire_startup *ret,
                       struct wire_error *e) MUST_CHECK;
/* NULL when absent. */
const char *wire_startup_find(const struct wire_startup *s, const char *name);
/* "_pq_." names ask for protocol extensions, of which we know none. */
bool wire_param_is_extension(const struct wire_param *p);
/* NegotiateProtocolVersion when the client asked for more than 3.0 without extensions; otherwise adds
 * nothing. */
void wire_negotiate_add(struct buf *b, const struct wire_startup *s);

/* A startup packet of protocol 3.0: begin, any number of params, end. */
size_t wire_startup_begin(struct buf *b);
void wire_startup_param(struct buf *b, const char *name, const char *value);
void wire_startup_end(struct buf *b, size_t mark);

void wire_cancel_build(uint8_t out[WIRE_CANCEL_SIZE], const uint8_t key[WIRE_KEY_SIZE]);

/* --- authentication by SASL
 * ------------------------------------------------------------------------------------- */

/* Postgres's own bound for a message of an exchange. */
#define WIRE_SASL_MAX 1024

struct wire_sasl_initial {
    const char *mechanism; /* points into the message, as data does */
    const void *data;      /* NULL: none came along; the client waits for an empty continuation to send it */
    size_t len;
};

/* The body of a client's first 'p'.  The mechanism is any text: who offered it says whether it may be. */
int wire_sasl_initial_parse(const void *body, size_t len, struct wire_sasl_initial *ret,
                            struct wire_error *e) MUST_CHECK;

/* What a server says: AuthenticationSASL, SASLContinue, SASLFinal. */
void wire_sasl_offer_add(struct buf *b, const char *const *mechanisms, size_t n);
void wire_sasl_continue_add(struct buf *b, const void *data, size_t len);
void wire_sasl_final_add(struct buf *b, const void *data, size_t len);

/* What a client says: SASLInitialResponse, SASLResponse. */
void wire_sasl_initial_add(struct buf *b, const char *mechanism, const void *data, size_t len);
void wire_sasl_response_add(struct buf *b, const void *data, size_t len);

enum wire_auth_code {
    WIRE_AUTH_OK = 0,
    WIRE_AUTH_SASL = 10,
    WIRE_AUTH_SASL_CONTINUE = 11,
    WIRE_AUTH_SASL_FINAL = 12,
};

struct wire_auth {
    uint32_t code;    /* an enum wire_auth_code, or one that is not for us */
    const void *data; /* points into the message */
    size_t len;
};

/* The body of a server's 'R'.  False when it is too short to say what it is. */
bool wire_auth_parse(const void *body, size_t len, struct wire_auth *ret);

/* --- messages after the startup, either direction
 * ----------------------------------------------------------------- */

/* Follows a stream of messages (type, length, body) across reads of any size, without keeping bodies. */
struct wire_scan {
    uint8_t head[5];
    uint8_t have;  /* bytes of head seen */
    bool broken;   /* a length below 4 or above 2^31-1: nothing behind it can be understood */
    uint32_t left; /* body bytes still to come */
    uint32_t at;   /* body bytes gone by */
};

/* One stretch of one message. */
struct wire_piece {
    uint8_t type;
    bool starts; /* the header ended here: body_len is the length of the whole body */
    bool ends;   /* nothing of the message is left */
    uint32_t body_len;
    uint32_t at;   /* position of data in the body */
    uint8_t *data; /* body bytes, in the caller's buffer */
    size_t len;
};

/*
 * Takes the next stretch from data.  Returns how many bytes it covers: 0 only for len 0 or a broken stream.
 * ret->type is 0 as long as the header is incomplete.
 */
size_t wire_scan_next(struct wire_scan *s, uint8_t *data, size_t len, struct wire_piece *ret);
/* Between two messages: the place where one of ours may be added. */
bool wire_scan_at_boundary(const struct wire_scan *s);

/*
 * SQLSTATE out of the body of an ErrorResponse, of which only the beginning need be there.  False when it is
 * not there.  *ret_fatal says whether the session ends with it (severity FATAL or PANIC, untranslated field
 * if present).
 */
bool wire_error_sqlstate(const uint8_t *body, size_t len, char ret[WIRE_SQLSTATE_LEN + 1], bool *ret_fatal);

#endif
