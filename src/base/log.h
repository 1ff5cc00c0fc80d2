/*
 * log.h - one line per event, key=value, on standard error
 *
 * 2026-11-25T18:30:59.123Z info sched msg="compute ready" ep=ep-x gen=3 ms=71
 * Thread-safe; a line is one write(2).  Values with spaces, quotes, control characters are quoted and
 * escaped. Only owners log (docs/style.md); secrets never reach here.
 */
#ifndef MERE_LOG_H
#define MERE_LOG_H

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
/* The request or operation id added to each line of this thread as req= ; NULL clears.  The string is
 * borrowed. */
void log_set_request(const char *id);

/*
 * log_event(LOG_INFO, "sched", "compute ready", "ep", id, "gen", text, NULL): pairs of const char * key and
 * value, ended by NULL.  A NULL value leaves the pair out.
 */
void log_event(enum log_level level, const char *module, const char *msg, ...) __attribute__((sentinel));

#endif
