/*
 * backup.h - when a backup schedule is due; pure
 */
#ifndef MERE_BACKUP_H
#define MERE_BACKUP_H

#include "meta/schedule.h"

/*
 * The latest time at or before now_us (microseconds since 1970) at which the entry is due.  All of it is UTC,
 * so no day has 23 or 25 hours.  The 31st of a shorter month is its last day.
 */
int64_t backup_last_due(const struct schedule_entry *e, int64_t now_us);

/*
 * Is any entry due since done_until?  However many times were missed, one snapshot is enough.  *ret_keep_s:
 * for how long it is to be kept, the longest that a due entry says; 0 = until somebody deletes it.
 */
bool backup_is_due(const struct schedule_entry *list, size_t n, int64_t done_until_us, int64_t now_us,
                   int64_t *ret_keep_s);

#endif
