/*
 * loop.h - the epoll loop: descriptors, timers, signals, and kicks from other threads
 *
 * One thread runs a loop; only loop_kick and loop_stop may be called from others.  Callbacks run on the
 * loop's thread and may add or remove any source, themselves included.  The only file that includes epoll and
 * signalfd.
 */
#ifndef MERE_LOOP_H
#define MERE_LOOP_H

#include "base/err.h"

struct loop;
struct loop_fd;
struct loop_timer;

/*
 * HANGUP is reported, not asked for: the other side is gone or has closed its half, or the descriptor is in
 * error.  What was sent before may still be readable.  It comes together with the READ or WRITE that was
 * asked for (the call then tells the rest); where READ is not asked for it comes once, until loop_fd_set asks
 * for something else.
 */
enum loop_events { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 };

typedef void (*loop_fd_fn)(void *arg, int fd, unsigned events);
typedef void (*loop_timer_fn)(void *arg);
typedef void (*loop_signal_fn)(void *arg, int signo);

struct loop *loop_new(struct err *err);
void loop_free(struct loop *l);

/* Level-triggered.  The loop does not own fd: remove the source first, then close it.
 * NULL with errno when the kernel refuses (a regular file, too many watches). */
struct loop_fd *loop_fd_add(struct loop *l, int fd, unsigned events, loop_fd_fn fn, void *arg);
void loop_fd_set(struct loop_fd *f,
                 unsigned events);   /* 0 = keep it but watch nothing (hangup is still reported) */
void loop_fd_del(struct loop_fd *f); /* accepts NULL; safe inside any callback, no event comes after */

/* One-shot timer, disarmed when made. */
struct loop_timer *loop_timer_new(struct loop *l, loop_timer_fn fn, void *arg);
void loop_timer_set(struct loop_timer *t, int64_t after_ms); /* re-arms; 0 = next turn */
void loop_timer_set_us(struct loop_timer *t, int64_t after_us);
void loop_timer_clear(struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);
void loop_timer_del(struct loop_timer *t); /* accepts NULL */

/* Signals must be blocked in all threads (loop_block_signals before any thread starts). */
void loop_block_signals(const int *signos, size_t n);
int loop_signals(struct loop *l, const int *signos, size_t n, loop_signal_fn fn, void *arg, struct err *err);

/* fn runs on the loop thread after any number of loop_kick() since the last run. */
void loop_on_kick(struct loop *l, loop_timer_fn fn, void *arg);
void loop_kick(struct loop *l);

void loop_run(struct loop *l); /* until loop_stop */
void loop_stop(struct loop *l);

#endif
