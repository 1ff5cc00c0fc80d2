/*
 * loop.c - the epoll loop
 *
 * Owns its epoll, event and signal descriptors.  Everything but loop_kick and loop_stop belongs to the loop's
 * thread. Deleted sources are freed at the end of the turn: the kernel may already have handed out events
 * that name them.
 */
#include "base/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "base/clock.h"

#define EVENTS_PER_TURN 64

struct loop_fd {
    struct loop *loop;
    int fd;
    unsigned events;  /* what was asked for */
    bool hangup_told; /* and READ is not asked for: not told again */
    bool watched;     /* in the epoll set */
    bool dead;
    loop_fd_fn fn;
    void *arg;
    struct loop_fd *prev, *next; /* of all, or of the dead */
};

struct loop_timer {
    struct loop *loop;
    int64_t due_us;
    uint64_t seq; /* order of setting: ties, and what was set during a turn waits for the next */
    size_t slot;  /* in the heap, from 1; 0 = not armed */
    loop_timer_fn fn;
    void *arg;
};

struct loop_signal {
    int fd;
    struct loop_fd *source;
    loop_signal_fn fn;
    void *arg;
    struct loop_signal *next;
};

struct loop {
    int epoll_fd, kick_fd;
    struct loop_fd *fds, *dead;
    struct loop_timer **heap; /* heap[1..n_timers], the soonest first */
    size_t n_timers, heap_cap;
    uint64_t seq;
    struct loop_signal *signals;
    struct loop_fd *kick_source;
    loop_timer_fn kick_fn;
    void *kick_arg;
    atomic_bool stop;
};

/* --- descriptors --- */

static uint32_t epoll_mask(const struct loop_fd *f)
{
    uint32_t mask = 0;

    if (f->events & LOOP_READ)
        mask |= EPOLLIN;
    else if (!f->hangup_told)
        mask |= EPOLLRDHUP; /* a reader learns it from read(); who does not read has to be told */
    if (f->events & LOOP_WRITE)
        mask |= EPOLLOUT;
    return mask;
}

/*
 * A hangup cannot be masked: a source that watches nothing and has been told leaves the epoll set, or the
 * loop would spin on it.
 */
static int fd_watch(struct loop_fd *f)
{
    struct epoll_event ev = { .events = epoll_mask(f), .data.ptr = f };
    bool want = !(f->events == 0 && f->hangup_told);
    int op = !want ? EPOLL_CTL_DEL : f->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (!want && !f->watched)
        return 0;
    if (epoll_ctl(f->loop->epoll_fd, op, f->fd, &ev) < 0)
        return -1;
    f->watched = want;
    return 0;
}

struct loop_fd *loop_fd_add(struct loop *l, int fd, unsigned events, loop_fd_fn fn, void *arg)
{
    struct loop_fd *f = xcalloc(1, sizeof(*f));

    *f = (struct loop_fd){ .loop = l, .fd = fd, .events = events, .fn = fn, .arg = arg };
    if (fd_watch(f) < 0) {
        int saved = errno;

        free(f);
        errno = saved;
        return NULL;
    }
    f->next = l->fds;
    if (l->fds != NULL)
        l->fds->prev = f;
    l->fds = f;
    return f;
}

void loop_fd_set(struct loop_fd *f, unsigned events)
{
    if (f->dead || f->events == events)
        return;
    f->events = events;
    f->hangup_told = false;
    if (fd_watch(f) < 0)
        abort(); /* the owner closed the descriptor under us, or the kernel is out of memory */
}

void loop_fd_del(struct loop_fd *f)
{
    struct loop *l;

    if (f == NULL || f->dead)
        return;
    l = f->loop;
    f->dead = true;
    if (f->watched)
        epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, f->fd, NULL);
    if (f->prev != NULL)
        f->prev->next = f->next;
    else
        l->fds = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    f->prev = NULL;
    f->next = l->dead;
    l->dead = f;
}

static void fd_dispatch(struct loop_fd *f, uint32_t got)
{
    unsigned events = 0;

    if (f->dead)
        return;
    if (got & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        events = LOOP_HANGUP | (f->events & (LOOP_READ | ((got & (EPOLLHUP | EPOLLERR)) ? LOOP_WRITE : 0)));
    if (got & EPOLLIN)
        events |= LOOP_READ;
    if (got & EPOLLOUT)
        events |= LOOP_WRITE;
    if ((events & LOOP_HANGUP) && !(f->events & LOOP_READ)) {
        f->hangup_told = true;
        if (fd_watch(f) < 0)
            abort();
    }
    f->fn(f->arg, f->fd, events);
}

static void free_dead(struct loop *l)
{
    while (l->dead != NULL) {
        struct loop_fd *f = l->dead;

        l->dead = f->next;
        free(f);
    }
}

/* --- timers: a binary heap --- */

static bool sooner(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->seq < b->seq;
}

static void heap_put(struct loop *l, size_t slot, struct loop_timer *t)
{
    l->heap[slot] = t;
    t->slot = slot;
}

static void heap_settle(struct loop *l, size_t slot)
{
    struct loop_timer *t = l->heap[slot];

    for (; slot > 1 && sooner(t, l->heap[slot / 2]); slot /= 2)
        heap_put(l, slot, l->heap[slot / 2]);
    for (;;) {
        size_t child = slot * 2;

        if (child > l->n_timers)
            break;
        if (child < l->n_timers && sooner(l->heap[child + 1], l->heap[child]))
            child++;
        if (!sooner(l->heap[child], t))
            break;
        heap_put(l, slot, l->heap[child]);
        slot = child;
    }
    heap_put(l, slot, t);
}

struct loop_timer *loop_timer_new(struct loop *l, loop_timer_fn fn, void *arg)
{
    struct loop_timer *t = xcalloc(1, sizeof(*t));

    *t = (struct loop_timer){ .loop = l, .fn = fn, .arg = arg };
    return t;
}

void loop_timer_clear(struct loop_timer *t)
{
    struct loop *l = t->loop;
    size_t slot = t->slot;

    if (slot == 0)
        return;
    t->slot = 0;
    if (slot != l->n_timers) {
        heap_put(l, slot, l->heap[l->n_timers--]);
        heap_settle(l, slot);
    } else {
        l->n_timers--;
    }
}

void loop_timer_set(struct loop_timer *t, int64_t after_ms)
{
    if (after_ms < 0)
        after_ms = 0;
    loop_timer_set_us(t, after_ms > INT64_MAX / 4000 ? INT64_MAX / 4 : after_ms * 1000);
}

void loop_timer_set_us(struct loop_timer *t, int64_t after_us)
{
    struct loop *l = t->loop;

    loop_timer_clear(t);
    if (after_us < 0)
        after_us = 0;
    t->due_us = clock_mono_us() + after_us;
    t->seq = ++l->seq;
    if (l->n_timers + 2 > l->heap_cap) {
        l->heap_cap = l->heap_cap ? l->heap_cap * 2 : 64;
        l->heap = xrealloc(l->heap, l->heap_cap * sizeof(*l->heap));
    }
    heap_put(l, ++l->n_timers, t);
    heap_settle(l, l->n_timers);
}

bool loop_timer_armed(const struct loop_timer *t)
{
    return t->slot != 0;
}

void loop_timer_del(struct loop_timer *t)
{
    if (t == NULL)
        return;
    loop_timer_clear(t);
    free(t);
}

static void timers_run(struct loop *l)
{
    int64_t now_us = clock_mono_us();
    uint64_t last = l->seq;

    while (l->n_timers > 0 && !atomic_load(&l->stop)) {
        struct loop_timer *t = l->heap[1];

        /* set during this turn: it cannot be due before `now`, so nothing older stands behind it */
        if (t->due_us > now_us || t->seq > last)
            return;
        loop_timer_clear(t);
        t->fn(t->arg);
    }
}

/* How long epoll may sleep, to the microsecond; NULL = until something happens. */
static const struct timespec *sleep_time(const struct loop *l, struct timespec *ret)
{
    int64_t left_us;

    if (l->n_timers == 0)
        return NULL;
    left_us = l->heap[1]->due_us - clock_mono_us();
    if (left_us < 0)
        left_us = 0;
    *ret = (struct timespec){ .tv_sec = left_us / 1000000, .tv_nsec = left_us % 1000000 * 1000 };
    return ret;
}

/* A kernel without the finer call sleeps whole milliseconds, rounded up: a timer never costs a spin of empty
 * turns. */
static int wait_events(struct loop *l, struct epoll_event *events)
{
    struct timespec time;
    const struct timespec *t = sleep_time(l, &time);
    int64_t ms;
    int n = epoll_pwait2(l->epoll_fd, events, EVENTS_PER_TURN, t, NULL);

    if (n >= 0 || errno != ENOSYS)
        return n;
    ms = t != NULL ? t->tv_sec * 1000 + (t->tv_nsec + 999999) / 1000000 : -1;
    return epoll_wait(l->epoll_fd, events, EVENTS_PER_TURN, ms > INT_MAX ? INT_MAX : (int)ms);
}

/* --- signals --- */

static sigset_t sigset_of(const int *signos, size_t n)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < n; i++)
        sigaddset(&set, signos[i]);
    return set;
}

void loop_block_signals(const int *signos, size_t n)
{
    sigset_t set = sigset_of(signos, n);

    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void on_signal(void *arg, int fd, unsigned events)
{
    struct loop_signal *s = arg;
    struct signalfd_siginfo si;

    (void)events;
    if (read(fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        s->fn(s->arg, (int)si.ssi_signo);
}

int loop_signals(struct loop *l, const int *signos, size_t n, loop_signal_fn fn, void *arg, struct err *err)
{
    sigset_t set = sigset_of(signos, n);
    auto_fd fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct loop_signal *s;
    struct loop_fd *source;

    if (fd < 0)
        return err_sys(err, "signalfd");
    s = xcalloc(1, sizeof(*s));
    source = loop_fd_add(l, fd, LOOP_READ, on_signal, s);
    if (source == NULL) {
        free(s);
        return err_sys(err, "watch signals");
    }
    *s =
        (struct loop_signal){ .fd = TAKE_FD(fd), .source = source, .fn = fn, .arg = arg, .next = l->signals };
    l->signals = s;
    return 0;
}

/* --- other threads --- */

void loop_on_kick(struct loop *l, loop_timer_fn fn, void *arg)
{
    l->kick_fn = fn;
    l->kick_arg = arg;
}

void loop_kick(struct loop *l)
{
    uint64_t one = 1;
    int saved = errno;

    /* fails only when the counter is full, and then the loop is awake anyway */
    (void)!write(l->kick_fd, &one, sizeof(one));
    errno = saved;
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    loop_kick(l);
}

static void on_kick(void *arg, int fd, unsigned events)
{
    struct loop *l = arg;
    uint64_t count;

    (void)events;
    if (read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) && l->kick_fn != NULL)
        l->kick_fn(l->kick_arg);
}

/* --- the loop --- */

struct loop *loop_new(struct err *err)
{
    struct loop *l = xcalloc(1, sizeof(*l));

    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd >= 0 && l->kick_fd >= 0)
        l->kick_source = loop_fd_add(l, l->kick_fd, LOOP_READ, on_kick, l);
    if (l->kick_source == NULL) {
        err_sys(err, "make the event loop");
        loop_free(l);
        return NULL;
    }
    return l;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    while (l->signals != NULL) {
        struct loop_signal *s = l->signals;

        l->signals = s->next;
        loop_fd_del(s->source);
        fd_close(&s->fd);
        free(s);
    }
    while (l->fds != NULL)
        loop_fd_del(l->fds);
    free_dead(l);
    fd_close(&l->kick_fd);
    fd_close(&l->epoll_fd);
    free(l->heap); /* timers belong to who made them */
    free(l);
}

static void turn(struct loop *l)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int n = wait_events(l, events);

    if (n < 0 && errno != EINTR)
        abort(); /* our own descriptor is broken: nothing can go on */
    for (int i = 0; i < n && !atomic_load(&l->stop); i++)
        fd_dispatch(events[i].data.ptr, events[i].events);
    timers_run(l);
    free_dead(l);
}

void loop_run(struct loop *l)
{
    while (!atomic_load(&l->stop))
        turn(l);
    atomic_store(&l->stop, false);
}
