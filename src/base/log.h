/*
 * log.h - one line per event on standard error, as text or as JSON
 *
 * 2026-11-25T18:30:59.123Z info sched msg="compute ready" ep=ep-x gen=3 ms=71
 * {"ts":"2026-11-25T18:30:59.123Z","level":"info","module":"sched","msg":"compute ready","ep":"ep-x",...}
 *
 * Thread-safe; a line is one write(2).  As text, values with spaces, quotes, control characters are quoted
 * and escaped; as JSON all are strings, and a line too long is still JSON: pairs that do not fit are left
 * out, and "cut" says so.  Only owners log (docs/style.md); secrets never reach here, and a password that
 * does, in a URI or by its name, is not shown (redact.h).
 */
#ifndef MERE_LOG_H
#define MERE_LOG_H

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
/* "debug", "info", "warn", "error"; "text", "json".  False: it is none of these. */
bool log_level_named(const char *word, enum log_level *ret);
bool log_format_named(const char *word, enum log_format *ret);
/* When standard error is the journal (JOURNAL_STREAM), lines begin with their priority, which it takes off.
 */
void log_find_journal(void);
/* The request or operation id added to each line of this thread as req= ; NULL clears.  The string is
 * borrowed. */
void log_set_request(const char *id);

/*
 * log_event(LOG_INFO, "sched", "compute ready", "ep", id, "gen", text, NULL): pairs of const char * key and
 * value, ended by NULL.  A NULL value leaves the pair out.
 */
void log_event(enum log_level level, const char *module, const char *msg, ...) __attribute__((sentinel));

#endif
