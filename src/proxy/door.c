/*
 * door.c - seats and queues
 *
 * Seating one guest may end others, which frees seats, which seats more: door_step() runs one loop for all of
 * it, so that ten thousand waiters cost no stack.  A door is freed when nothing is known about it and nobody
 * is at it.
 */
#include "proxy/door.h"

#include <string.h>

#define N_BUCKETS 1024 /* endpoints that run at once are hundreds */

struct door {
    struct doors *all;
    struct door *next; /* in the bucket */
    char id[DOOR_ID_MAX + 1];
    uint64_t g;
    char *socket; /* NULL = never learned */
    int max, used;
    bool known; /* socket is believed to be good */
    bool shut;
    bool stepping, again; /* door_step is running; it has to look once more */
    int pins;             /* calls under way that still need it */
    struct list queue, inside;
};

struct doors {
    const struct door_ops *ops;
    struct door *buckets[N_BUCKETS];
};

static struct door_guest *guest_of(struct list *l)
{
    return LIST_OWNER(l, struct door_guest, link);
}

static struct door **slot_of(struct doors *all, const char *id)
{
    uint32_t h = 2166136261u; /* FNV-1a: ids are random already */
    struct door **slot;

    for (const char *p = id; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    slot = &all->buckets[h % N_BUCKETS];
    while (*slot != NULL && strcmp((*slot)->id, id) != 0)
        slot = &(*slot)->next;
    return slot;
}

static struct door *door_get(struct doors *all, const char *id)
{
    struct door **slot = slot_of(all, id), *d = *slot;

    if (d != NULL)
        return d;
    d = xcalloc(1, sizeof(*d));
    d->all = all;
    snprintf(d->id, sizeof(d->id), "%s", id);
    list_init(&d->queue);
    list_init(&d->inside);
    *slot = d;
    return d;
}

static void door_tidy(struct door *d)
{
    struct door **slot;

    if (d->pins > 0 || d->known || d->shut || !list_is_empty(&d->queue) || !list_is_empty(&d->inside))
        return;
    slot = slot_of(d->all, d->id);
    *slot = d->next;
    free(d->socket);
    free(d);
}

static void pin(struct door *d)
{
    d->pins++;
}

static void unpin(struct door *d)
{
    d->pins--;
    door_tidy(d);
}

struct doors *doors_new(const struct door_ops *ops)
{
    struct doors *all = xcalloc(1, sizeof(*all));

    all->ops = ops;
    return all;
}

void doors_free(struct doors *all)
{
    if (all == NULL)
        return;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        struct door *d, *next;

        for (d = all->buckets[i]; d != NULL; d = next) {
            next = d->next;
            free(d->socket);
            free(d);
        }
    }
    free(all);
}

static bool can_seat(const struct door *d)
{
    return d->known && !d->shut && d->used < d->max && !list_is_empty(&d->queue);
}

static void take_seat(struct door *d, struct door_guest *guest)
{
    list_remove(&guest->link);
    list_push_back(&d->inside, &guest->link);
    guest->seated = true;
    guest->g = d->g;
    d->used++;
}

static void seat_first(struct door *d)
{
    struct door_guest *guest = guest_of(d->queue.next);

    take_seat(d, guest);
    d->all->ops->seat(guest);
}

static void door_step(struct door *d)
{
    d->again = true;
    if (d->stepping)
        return;
    d->stepping = true;
    pin(d);
    while (d->again) {
        d->again = false;
        while (can_seat(d))
            seat_first(d);
    }
    d->stepping = false;
    unpin(d);
}

/* Those who queue have to ask mered: nobody here knows where to send them. */
static void send_away(struct door *d)
{
    struct list waiting;

    list_init(&waiting);
    list_take_all(&waiting, &d->queue);
    while (!list_is_empty(&waiting)) {
        struct door_guest *guest = guest_of(waiting.next);

        list_remove(&guest->link);
        guest->door = NULL;
        d->all->ops->ask(guest);
    }
}

bool doors_know(struct doors *all, const char *id)
{
    struct door *d = *slot_of(all, id);

    return d != NULL && (d->known || d->shut);
}

/* One early guest for each that waits: the seat is free when its backend has ended. */
static void clear_a_seat(struct door *d)
{
    for (struct list *l = d->inside.next; l != &d->inside; l = l->next) {
        if (guest_of(l)->early) {
            d->all->ops->make_way(guest_of(l));
            return;
        }
    }
}

void door_join(struct doors *all, const char *id, struct door_guest *guest)
{
    struct door *d = door_get(all, id);

    guest->door = d;
    guest->seated = false;
    list_push_back(&d->queue, &guest->link);
    pin(d);
    door_step(d);
    if (door_is_full(d) && !list_is_empty(&d->queue))
        clear_a_seat(d);
    unpin(d);
}

static bool has_pooler(struct doors *all, const char *id)
{
    char pooler[DOOR_ID_MAX + 1];

    snprintf(pooler, sizeof(pooler), "%.*s" DOOR_POOLER, ID_MAX, id);
    return doors_know(all, pooler);
}

bool door_sit(struct doors *all, const char *id, struct door_guest *guest)
{
    struct door *d = *slot_of(all, id);

    if (d == NULL || !d->known || d->shut || !list_is_empty(&d->queue) ||
        d->used + has_pooler(all, id) >= d->max)
        return false;
    guest->door = d;
    guest->early = true;
    take_seat(d, guest);
    return true;
}

void door_stay(struct door_guest *guest)
{
    guest->early = false;
}

static void stand_up(struct door_guest *guest)
{
    list_remove(&guest->link);
    if (guest->seated)
        guest->door->used--;
    guest->seated = guest->early = false;
}

void door_leave(struct door_guest *guest)
{
    struct door *d = guest->door;

    if (d == NULL)
        return;
    stand_up(guest);
    guest->door = NULL;
    door_step(d);
}

struct door *door_keep_seat(struct door_guest *guest)
{
    struct door *d = guest->door;

    list_remove(&guest->link);
    guest->seated = guest->early = false;
    guest->door = NULL;
    pin(d);
    return d;
}

void door_free_seat(struct door *d)
{
    d->used--;
    door_step(d);
    unpin(d);
}

void door_step_back(struct door_guest *guest)
{
    struct door *d = guest->door;

    stand_up(guest);
    list_push_front(&d->queue, &guest->link);
    door_step(d);
}

void door_forget(struct door *d, uint64_t g)
{
    if (d->g != g || !d->known)
        return;
    d->known = false;
    pin(d);
    if (!d->shut)
        send_away(d);
    unpin(d);
}

int door_hold(struct doors *all, const char *id, uint64_t g)
{
    struct door *d = door_get(all, id);
    struct list *l, *prev;
    int active = 0;

    if (g < d->g) {
        door_tidy(d);
        return -1;
    }
    d->g = g;
    d->shut = true;
    /* Backwards: those that step back come to the head of the queue in their old order. */
    for (l = d->inside.prev; l != &d->inside; l = prev) {
        prev = l->prev;
        active += all->ops->hold(guest_of(l));
    }
    return active;
}

bool door_each_inside(struct doors *all, const char *id, uint64_t g,
                      void (*fn)(void *arg, struct door_guest *guest), void *arg)
{
    struct door *d = *slot_of(all, id);

    if (d == NULL || !d->shut || d->g != g)
        return false;
    for (struct list *l = d->inside.next; l != &d->inside; l = l->next)
        fn(arg, guest_of(l));
    return true;
}

static void door_open(struct door *d)
{
    struct list *l, *next;

    d->shut = false;
    pin(d);
    for (l = d->inside.next; l != &d->inside; l = next) {
        next = l->next;
        d->all->ops->resume(guest_of(l));
    }
    if (!d->known)
        send_away(d);
    door_step(d);
    unpin(d);
}

void door_learn(struct doors *all, const char *id, uint64_t g, const char *socket, int max)
{
    struct door *d = door_get(all, id);
    bool reopen = d->shut && g > d->g; /* it was shut for a generation that is over */

    if (g < d->g) {
        door_tidy(d);
        return;
    }
    d->g = g;
    free(d->socket);
    d->socket = xstrdup(socket);
    d->max = max;
    d->known = true;
    if (reopen)
        door_open(d);
    else
        door_step(d);
}

void door_release(struct doors *all, const char *id, uint64_t g)
{
    struct door *d = *slot_of(all, id);

    if (d != NULL && d->shut && g >= d->g)
        door_open(d);
}

static void empty_out(struct door *d, uint64_t g)
{
    struct list old, *l, *next;

    list_init(&old);
    for (l = d->inside.next; l != &d->inside; l = next) {
        next = l->next;
        if (guest_of(l)->g > g)
            continue;
        list_remove(l);
        list_push_back(&old, l);
    }
    while (!list_is_empty(&old)) {
        struct door_guest *guest = guest_of(old.next);

        list_remove(&guest->link);
        list_push_back(&d->inside, &guest->link);
        d->all->ops->gone(guest);
    }
}

void door_gone(struct doors *all, const char *id, uint64_t g)
{
    struct door *d = *slot_of(all, id);

    if (d == NULL || g < d->g)
        return;
    d->known = false;
    d->shut = false;
    pin(d);
    empty_out(d, g);
    send_away(d);
    unpin(d);
}

void doors_release_all(struct doors *all)
{
    for (size_t i = 0; i < N_BUCKETS; i++) {
        struct door *d, *next;

        for (d = all->buckets[i]; d != NULL; d = next) {
            next = d->next;
            if (d->shut)
                door_open(d);
        }
    }
}

const char *door_socket(const struct door *d)
{
    return d->socket;
}

uint64_t door_generation(const struct door *d)
{
    return d->g;
}

int door_max(const struct door *d)
{
    return d->max;
}

bool door_is_full(const struct door *d)
{
    return d->known && !d->shut && d->used >= d->max;
}

bool door_is_shut(const struct door *d)
{
    return d->shut;
}

void doors_each(struct doors *all, void (*fn)(void *arg, const char *id, uint64_t g, int n), void *arg)
{
    for (size_t i = 0; i < N_BUCKETS; i++)
        for (struct door *d = all->buckets[i]; d != NULL; d = d->next)
            if (d->used > 0)
                fn(arg, d->id, d->g, d->used);
}
