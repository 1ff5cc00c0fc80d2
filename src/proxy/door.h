/*
 * door.h - one door per endpoint: where its compute listens, who is inside, who queues, and whether it is
 * shut
 *
 * The proxy's view of computes, learned over the wake socket.  The loop's thread only.  Knows neither sockets
 * nor bytes: guests are told what to do through door_ops.  Generations count the starts of a compute; what
 * carries an old one changes nothing.
 *
 * A door gives out at most max seats, in the order of arrival.  Shut (between HOLD and RELEASE or GONE) it
 * gives out none.  A guest who has not proved who he is may sit down while nobody waits for it, and has to
 * give the seat up for one who has.
 */
#ifndef MERE_DOOR_H
#define MERE_DOOR_H

#include "base/id.h"
#include "proxy/list.h"

/* The pooler of an endpoint has a door of its own, with seats of its own, under this name. */
#define DOOR_POOLER       "-pooler"
#define DOOR_POOLER_SEATS 10000 /* as PgBouncer is told (pg/pooler.h) */
#define DOOR_ID_MAX       (ID_MAX + sizeof(DOOR_POOLER) - 1)

struct door;
struct doors;

/* Lives inside a client connection. */
struct door_guest {
    struct list link;  /* list_init before first use */
    struct door *door; /* NULL = at none */
    uint64_t g;        /* generation of the seat */
    bool seated;
    bool early; /* seated before it has proved itself */
};

struct door_ops {
    void (*seat)(struct door_guest *guest); /* it may connect now; it may leave at once */
    void (*ask)(struct door_guest *guest);  /* the address is not known any more: it has left the queue */
    bool (*hold)(struct door_guest *guest); /* the door shuts: stop if idle, or step back; true = is active */
    void (*resume)(struct door_guest *guest);   /* it opens again; must not leave */
    void (*gone)(struct door_guest *guest);     /* its compute is over: leave */
    void (*make_way)(struct door_guest *guest); /* early: somebody else needs the seat: leave */
};

struct doors *doors_new(const struct door_ops *ops);
void doors_free(struct doors *all); /* accepts NULL; no guests may be left */

/* A client of this endpoint may join without asking mered: the address is known, or the door is shut and will
 * open. */
bool doors_know(struct doors *all, const char *id);
/* Puts guest at the end of the queue and seats whom it can. */
void door_join(struct doors *all, const char *id, struct door_guest *guest);
/* Seats guest at once as an early one, or not at all; the last seat never where there is a pooler: its first
 * session at Postgres must not fail. */
bool door_sit(struct doors *all, const char *id, struct door_guest *guest);
/* The seat is its own from now on. */
void door_stay(struct door_guest *guest);
/* Out of the queue, or up from the seat; somebody else may get it.  Fine at no door. */
void door_leave(struct door_guest *guest);
/* Up from the seat, which stays taken until door_free_seat. */
struct door *door_keep_seat(struct door_guest *guest);
void door_free_seat(struct door *d);
/* From the seat back to the head of the queue. */
void door_step_back(struct door_guest *guest);

/* mered says where generation g listens. */
void door_learn(struct doors *all, const char *id, uint64_t g, const char *socket, int max);
/* Nobody answers at the address of generation g. */
void door_forget(struct door *d, uint64_t g);
/* Shuts it.  Returns how many inside are active; -1 when g is old and nothing was done. */
int door_hold(struct doors *all, const char *id, uint64_t g);
/* Calls fn for each guest inside.  False when it is not shut for generation g, and nothing was done.  fn must
 * not let anybody leave. */
bool door_each_inside(struct doors *all, const char *id, uint64_t g,
                      void (*fn)(void *arg, struct door_guest *guest), void *arg);
void door_release(struct doors *all, const char *id, uint64_t g);
/* Generation g and all before it are over (UINT64_MAX: whatever there is). */
void door_gone(struct doors *all, const char *id, uint64_t g);
/* The wake socket broke: whoever shut a door cannot go on with it. */
void doors_release_all(struct doors *all);

const char *door_socket(const struct door *d); /* of the generation last learned */
uint64_t door_generation(const struct door *d);
int door_max(const struct door *d);
/* The queue does not move because all seats are taken, not because the compute is away. */
bool door_is_full(const struct door *d);
bool door_is_shut(const struct door *d);
/* Calls fn for each door with guests inside: n on generation g. */
void doors_each(struct doors *all, void (*fn)(void *arg, const char *id, uint64_t g, int n), void *arg);

#endif
