/*
 * workers.c - a few threads for what may wait: disk copies, libpq, SQLite writes of jobs
 */
#include "scheduler/internal.h"

#include "base/log.h"

#include <stdlib.h>

#define KEPT 2 /* workers that take no slow task */

struct queue {
    struct task *head, **tail;
};

struct workers {
    pthread_mutex_t mutex;
    pthread_cond_t more;
    struct queue waiting;  /* for a worker */
    struct queue slow;     /* for one of n - KEPT workers */
    int n_slow;            /* of them at work */
    struct queue finished; /* for the loop */
    int busy;              /* submitted and not yet collected */
    bool stopping;
    int n;
    pthread_t threads[16];
};

static void queue_push(struct queue *q, struct task *t)
{
    t->next = NULL;
    *q->tail = t;
    q->tail = &t->next;
}

static struct task *queue_pop(struct queue *q)
{
    struct task *t = q->head;
    if (t) {
        q->head = t->next;
        if (!q->head)
            q->tail = &q->head;
    }
    return t;
}

void *task_new(struct sched *s, size_t size, void (*run)(struct task *), void (*done)(struct task *))
{
    struct task *t = xcalloc(1, size);
    t->s = s;
    t->a = arena_new(0);
    t->run = run;
    t->done = done;
    return t;
}

void task_submit(struct task *t)
{
    struct workers *w = t->s->workers;
    pthread_mutex_lock(&w->mutex);
    w->busy++;
    if (t->c)
        t->c->tasks++;
    queue_push(t->slow ? &w->slow : &w->waiting, t);
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->mutex);
}

static struct task *next_task(struct workers *w)
{
    struct task *t = queue_pop(&w->waiting);
    if (!t && w->n_slow < w->n - KEPT)
        t = queue_pop(&w->slow);
    return t;
}

static void *work(void *arg)
{
    struct sched *s = arg;
    struct workers *w = s->workers;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        struct task *t;
        while (!(t = next_task(w)) && !w->stopping)
            pthread_cond_wait(&w->more, &w->mutex);
        if (!t)
            break;
        w->n_slow += t->slow;
        pthread_mutex_unlock(&w->mutex);
        t->run(t);
        pthread_mutex_lock(&w->mutex);
        w->n_slow -= t->slow;
        if (w->slow.head)
            pthread_cond_signal(&w->more);
        queue_push(&w->finished, t);
        loop_kick(s->loop);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

int workers_start(struct sched *s, int n, struct err *err)
{
    struct workers *w = xcalloc(1, sizeof(*w));
    pthread_attr_t attr;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->more, NULL);
    w->waiting.tail = &w->waiting.head;
    w->slow.tail = &w->slow.head;
    w->finished.tail = &w->finished.head;
    s->workers = w;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    for (int i = 0; i < n && i < (int)N_ELEMENTS(w->threads); i++) {
        if (pthread_create(&w->threads[i], &attr, work, s) != 0)
            return err_set(err, ERR_INTERNAL, "cannot start a worker thread");
        w->n++;
    }
    pthread_attr_destroy(&attr);
    return 0;
}

void workers_collect(struct sched *s)
{
    struct workers *w = s->workers;
    pthread_mutex_lock(&w->mutex);
    struct task *t;
    while ((t = queue_pop(&w->finished)) != NULL) {
        w->busy--;
        if (t->c)
            t->c->tasks--;
        pthread_mutex_unlock(&w->mutex);
        t->done(t);
        arena_free(t->a);
        free(t);
        pthread_mutex_lock(&w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
}

bool workers_busy(struct sched *s)
{
    pthread_mutex_lock(&s->workers->mutex);
    bool busy = s->workers->busy > 0;
    pthread_mutex_unlock(&s->workers->mutex);
    return busy;
}

void workers_stop(struct sched *s)
{
    struct workers *w = s->workers;
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->stopping = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->mutex);
    for (int i = 0; i < w->n; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->mutex);
    free(w);
    s->workers = NULL;
}
