/*
 * volume.h - what has to be true of a data directory before it is an image, or a compute may start on it
 *
 * And how WAL gets from one place to another: whole segments, each checked against its name after the copy.
 */
#ifndef MERE_BRANCH_VOLUME_H
#define MERE_BRANCH_VOLUME_H

#include "branch/env.h"

/*
 * Makes a cloned data directory safe to start as somebody else: state that must not cross a fork is dropped
 * (as Postgres's own base backup does), the link to the parent's WAL is taken away, recovery.signal is put
 * in, so that every first start changes timeline. ERR_INVALID when it holds a tablespace or anything else
 * that would be shared.
 */
int volume_strip(const struct env *env, const char *pgdata, struct err *err) MUST_CHECK;

/* A stripped data directory will follow other WAL and never write its own: standby.signal instead of
 * recovery.signal. */
int volume_make_standby(const struct env *env, const char *pgdata, struct err *err) MUST_CHECK;

/*
 * A stripped data directory and its WAL, put into pg_wal already: it starts as a standby, and becomes a
 * primary when it is promoted.  That comes to the same as recovery.signal but for the checkpoint, which it
 * does not wait for.  What it has of other timelines is none of its archive's business.
 */
int volume_await_promotion(const struct env *env, const char *pgdata, const char *pg_wal,
                           struct err *err) MUST_CHECK;
bool volume_awaits_promotion(const char *pgdata);

/* pg_wal of this data directory is a link to `target`, and to nothing else; made when absent, followed when
 * the data directory was moved.  ERR_INTERNAL when it points to another branch's WAL. */
int volume_link_wal(const char *pgdata, const char *target, struct err *err) MUST_CHECK;

/* <data>/wal/<branch>/{pg_wal,pg_wal/archive_status,archive}, owned by the compute's uid; emptied first when
 * `fresh`. */
int volume_make_wal(const struct env *env, const char *volume, bool fresh, struct err *err) MUST_CHECK;

/*
 * Copies the WAL [from, to] of a branch's timeline into dir (which is there): each segment from the
 * branch's archive, or from its pg_wal when it is not archived yet; what lies behind `to` in the last one
 * becomes zeros, so that recovery ends exactly there. Also the timeline's history file.  ERR_INTERNAL names a
 * segment that is missing or not what its name says.
 */
int volume_gather_wal(const struct env *env, const char *volume, uint32_t tli, uint64_t from, uint64_t to,
                      uint64_t system_id, const char *dir, struct err *err) MUST_CHECK;

/*
 * The parts of it.  volume: whose WAL directory.  One segment, from the archive or from pg_wal, its first
 * `bytes` checked against its name (and the cluster's system identifier unless 0); the timeline's history
 * file, which the first timeline has not; and zeros behind `to` in the last segment of [from, to].
 */
int volume_copy_segment(const struct env *env, const char *volume, uint32_t tli, uint64_t segno,
                        uint64_t bytes, uint64_t system_id, const char *dir, struct err *err) MUST_CHECK;
int volume_copy_history(const struct env *env, const char *volume, uint32_t tli, const char *dir,
                        struct err *err) MUST_CHECK;
int volume_end_wal(const char *dir, uint32_t tli, uint64_t from, uint64_t to, struct err *err) MUST_CHECK;

#endif
