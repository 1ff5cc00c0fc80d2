/*
 * park.h - what of a session has to be there again when its server is another one, and putting it back
 *
 * Pure: bytes of Postgres in, messages for it out.  While a session is idle we ask in it, with its own
 * rights, for all that it holds; what can be restored is kept (a bounded record), and where anything else is
 * there, or cannot be judged, the session may not be parked.  After the next login the record is put back and
 * asked for once more: only a session that is again what it was goes on.
 *
 * Postgres's bytes may be hostile: a database's owner has his own server in the hand, and can only deceive
 * himself.  Our questions name all they use by schema, because search_path is the session's.  They leave
 * nothing behind: statements of ours are named, so that the client's unnamed one stays, and closed.
 */
#ifndef MERE_PG_PARK_H
#define MERE_PG_PARK_H

#include "pg/wire.h"

#define PARK_STATEMENTS_MAX 1000
#define PARK_BYTES_MAX      (256 * 1024) /* of names, values and texts */

struct park;

enum park_result {
    PARK_MORE,
    PARK_YES,    /* it may be parked; or it is restored */
    PARK_NO,     /* park_why; the session itself is as it was, or, when it was to be restored, of no use */
    PARK_BROKEN, /* Postgres broke the protocol or ended the session; what it said is in aside */
};

/* user: who has logged in. */
struct park *park_new(const char *user);
void park_free(struct park *p); /* accepts NULL */

/* Begins to examine: appends the questions.  has_unnamed: the text of the unnamed statement is known. */
void park_examine(struct park *p, bool has_unnamed, struct buf *out);
/* Begins to restore, after an examination that ended with YES.  unnamed: body of the Parse message. */
void park_restore(struct park *p, const struct buf *unnamed, struct buf *out);
/*
 * Until it says something else than MORE, all the server sends is for it; *ret_used: how much of data was.
 * What goes to the client, because it came of itself (notices, notifications, settings), is appended to aside
 * while a session is examined; one that is being restored has none.  After YES, NO and BROKEN it must not be
 * called again until the next beginning.
 */
enum park_result park_next(struct park *p, uint8_t *data, size_t len, size_t *ret_used, struct buf *out,
                           struct buf *aside);
/* ParameterStatus messages for what the client was told and is otherwise now; after a restore. */
void park_tell(const struct park *p, struct buf *out);

const char *park_why(const struct park *p);
size_t park_size(const struct park *p); /* bytes of memory */

/*
 * What is asked, in park_question.c: one statement in text, $1 is the user, rows of four texts.
 *   N code                    a reason why it may not be parked
 *   F print                   one value of all settings that a session can have
 *   S name value              a setting of the session's own
 *   R name value              what clients are told of by themselves
 *   P name text types         a statement by Parse;  Q: by PREPARE
 */
extern const char PARK_QUESTION[];
/* The statements of ours, while we ask. */
#define PARK_ASKS "mere-proxy: state"
#define PARK_ALSO "mere-proxy: another"

#endif
