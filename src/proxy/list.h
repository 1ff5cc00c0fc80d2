/*
 * list.h - doubly linked lists whose links live inside what is listed
 *
 * A head that points to itself is empty; so does a link that is in no list, and removing it again is
 * harmless.
 */
#ifndef MERE_LIST_H
#define MERE_LIST_H

#include "base/base.h"

struct list {
    struct list *prev, *next;
};

#define LIST_OWNER(link, strct, member) ((strct *)(void *)((char *)(link)-offsetof(strct, member)))

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_push_back(struct list *head, struct list *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void list_push_front(struct list *head, struct list *l)
{
    list_push_back(head->next, l);
}

static inline void list_remove(struct list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

/* Moves all of from to the end of to. */
static inline void list_take_all(struct list *to, struct list *from)
{
    while (!list_is_empty(from)) {
        struct list *l = from->next;

        list_remove(l);
        list_push_back(to, l);
    }
}

#endif
