/*
 * claim.c - who is busy with which volume
 *
 * A list is enough: it holds as many claims as there are calls under way.  There is no queue; an exclusive
 * claim may wait as long as readers keep coming, and the callers' own order of work sees to it that they do
 * not.
 */
#include "store/claim.h"

void claims_init(struct claims *all)
{
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->changed, NULL);
    all->held = NULL;
}

void claims_fini(struct claims *all)
{
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->lock);
}

static bool is_free(const struct claims *all, const struct claim *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (const struct claim *c = all->held; c != NULL; c = c->next)
            if (strcmp(c->id, wanted[i].id) == 0 && (c->exclusive || wanted[i].exclusive))
                return false;
    return true;
}

void claims_take(struct claims *all, struct claim *c, size_t n)
{
    pthread_mutex_lock(&all->lock);
    while (!is_free(all, c, n))
        pthread_cond_wait(&all->changed, &all->lock);
    for (size_t i = 0; i < n; i++) {
        c[i].next = all->held;
        all->held = &c[i];
    }
    pthread_mutex_unlock(&all->lock);
}

static void unlink_claim(struct claims *all, const struct claim *c)
{
    struct claim **at = &all->held;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

void claims_drop(struct claims *all, struct claim *c, size_t n)
{
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < n; i++)
        unlink_claim(all, &c[i]);
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
}
