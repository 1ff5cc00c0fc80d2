/*
 * deadline.c - a list, a thread that sleeps until the earliest of them
 */
#include "api/deadline.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

struct deadline {
    struct deadlines *all;
    struct deadline *next, **link;
    int fd;
    int64_t at_ms; /* 0 = none */
};

struct deadlines {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* counts on CLOCK_MONOTONIC */
    pthread_t thread;
    struct deadline *list;
    int64_t wake_ms; /* when the thread looks next; INT64_MAX = when told */
    bool stopping;
};

/* Under the mutex: cuts off what is over its time, and says when to look again. */
static int64_t cut_off(struct deadlines *d)
{
    int64_t now = clock_mono_ms(), next = INT64_MAX;

    for (struct deadline *one = d->list; one != NULL; one = one->next) {
        if (one->at_ms != 0 && one->at_ms <= now) {
            (void)shutdown(one->fd, SHUT_RDWR);
            one->at_ms = 0;
        }
        if (one->at_ms != 0 && one->at_ms < next)
            next = one->at_ms;
    }
    return next;
}

static void *run(void *arg)
{
    struct deadlines *d = arg;

    pthread_mutex_lock(&d->mutex);
    while (!d->stopping) {
        struct timespec until;

        d->wake_ms = cut_off(d);
        until.tv_sec = d->wake_ms / 1000;
        until.tv_nsec = d->wake_ms % 1000 * 1000000;
        if (d->wake_ms == INT64_MAX)
            pthread_cond_wait(&d->changed, &d->mutex);
        else
            pthread_cond_timedwait(&d->changed, &d->mutex, &until);
    }
    pthread_mutex_unlock(&d->mutex);
    return NULL;
}

static void deadlines_free(struct deadlines *d)
{
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->mutex);
    free(d);
}

int deadlines_start(struct deadlines **ret, struct err *err)
{
    struct deadlines *d = xcalloc(1, sizeof(*d));
    pthread_condattr_t attr;

    pthread_mutex_init(&d->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &attr);
    pthread_condattr_destroy(&attr);
    d->wake_ms = INT64_MAX;
    errno = pthread_create(&d->thread, NULL, run, d);
    if (errno != 0) {
        deadlines_free(d);
        return err_sys(err, "start the thread of deadlines");
    }
    *ret = d;
    return 0;
}

void deadlines_stop(struct deadlines *d)
{
    if (d == NULL)
        return;
    pthread_mutex_lock(&d->mutex);
    d->stopping = true;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->mutex);
    pthread_join(d->thread, NULL);
    deadlines_free(d);
}

/* Under the mutex. */
static void set(struct deadline *one, int64_t in_ms)
{
    one->at_ms = in_ms != 0 ? clock_mono_ms() + in_ms : 0;
    if (one->at_ms != 0 && one->at_ms < one->all->wake_ms)
        pthread_cond_signal(&one->all->changed);
}

struct deadline *deadline_add(struct deadlines *d, int fd, int64_t in_ms)
{
    struct deadline *one = xcalloc(1, sizeof(*one));

    one->all = d;
    one->fd = fd;
    pthread_mutex_lock(&d->mutex);
    one->next = d->list;
    one->link = &d->list;
    if (one->next != NULL)
        one->next->link = &one->next;
    d->list = one;
    set(one, in_ms);
    pthread_mutex_unlock(&d->mutex);
    return one;
}

void deadline_set(struct deadline *one, int64_t in_ms)
{
    if (one == NULL)
        return;
    pthread_mutex_lock(&one->all->mutex);
    set(one, in_ms);
    pthread_mutex_unlock(&one->all->mutex);
}

void deadline_del(struct deadline *one)
{
    struct deadlines *d = one != NULL ? one->all : NULL;

    if (d == NULL)
        return;
    pthread_mutex_lock(&d->mutex);
    *one->link = one->next;
    if (one->next != NULL)
        one->next->link = one->link;
    pthread_mutex_unlock(&d->mutex);
    free(one);
}
