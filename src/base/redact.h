/*
 * redact.h - passwords out of a text that somebody will read
 *
 * Finds them where they have a name: behind the user of a URI (postgresql://u:SECRET@host), and behind the
 * word "password" as a parameter, a field of JSON, or a literal of SQL.  A text without such a place is taken
 * as it is; this is the net below the rule that no secret goes into a log line, not a reason to break it.
 */
#ifndef MERE_REDACT_H
#define MERE_REDACT_H

#include "base/base.h"

#define REDACTED "***"

/* Whether there may be something to find: cheap, so that nothing is copied for most texts. */
bool redact_concerns(const char *s);
/*
 * Copies s with *** in place of each password, at most size - 1 bytes and a zero.  Returns how long the whole
 * would be: what does not fit is left out, but a secret is never begun.
 */
size_t redact(const char *s, char *out, size_t size);

#endif
