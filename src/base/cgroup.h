/*
 * cgroup.h - one control group per compute, where the machine has them
 *
 * v2 (preferred), v1 (pids, memory, cpu hierarchies) or none.  A group is named by the caller; its membership
 * is joined by the exec shim before it drops privileges, so that every process of a compute is inside.
 */
#ifndef MERE_CGROUP_H
#define MERE_CGROUP_H

#include "base/arena.h"
#include "base/err.h"

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };

/* Finds out once what is there and writable, and makes the parent group (instance) under our own. */
enum cgroup_kind cgroup_init(const char *instance);
const char *cgroup_kind_name(enum cgroup_kind k); /* "none", "v1", "v2" */
bool cgroup_has_limits(void);                     /* memory and cpu can be limited */

/* Makes the group; idempotent.  memory_bytes 0 and cpu_milli 0 = no limit. */
int cgroup_create(const char *name, uint64_t memory_bytes, int64_t cpu_milli, struct err *err) MUST_CHECK;
/*
 * Where processes wait for a CPU, those of a favoured group get eight times the share of the others' (1024
 * and 100 are the kernel's own defaults).  It stays within its limit.  Quietly nothing where there are no
 * groups.
 */
void cgroup_favour(const char *name, bool favoured);
/*
 * Moves a process and its children into the group: once it is inside, whatever it starts is too, so none is
 * missed.  The kernel makes the first move of a quiet machine wait for all cores (8 to 15 ms, measured);
 * hence done beside a start instead of in it.  Nothing to do, 0, where there are no groups or the process has
 * ended.
 */
int cgroup_join(const char *name, int64_t pid, struct err *err) MUST_CHECK;
bool cgroup_is_empty(const char *name); /* true also when there are no groups here or no such group */
/* Kills all inside, repeatedly until empty or the deadline; 0 when empty. */
int cgroup_kill(const char *name, int timeout_ms, struct err *err) MUST_CHECK;
void cgroup_remove(const char *name); /* an empty group; quietly nothing when absent */
/* Removes the instance's parent group (clean stop). */
void cgroup_fini(void);

#endif
