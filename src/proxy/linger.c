#include "proxy/linger.h"

/* A backend that goes on sending to nobody is cut off: it ends by itself when it finds out. */
#define DROPPED_MAX ((uint64_t)1 << 20)

struct lingers {
    struct loop *loop;
    struct list list;
};

struct lingering {
    struct list link;
    struct stream server;
    struct door *door;
};

static void linger_end(struct lingering *l)
{
    stream_close(&l->server);
    list_remove(&l->link);
    door_free_seat(l->door);
    free(l);
}

static void on_server(void *arg, int fd, unsigned events)
{
    struct lingering *l = arg;
    char dropped[8192];
    ssize_t n;

    (void)fd, (void)events;
    while ((n = stream_read(&l->server, dropped, sizeof(dropped))) > 0 && l->server.bytes_in < DROPPED_MAX)
        ;
    if (n != STREAM_AGAIN)
        linger_end(l);
}

struct lingers *lingers_new(struct loop *loop)
{
    struct lingers *all = xcalloc(1, sizeof(*all));

    all->loop = loop;
    list_init(&all->list);
    return all;
}

void lingers_free(struct lingers *all)
{
    if (all == NULL)
        return;
    while (!list_is_empty(&all->list))
        linger_end(LIST_OWNER(all->list.next, struct lingering, link));
    free(all);
}

void linger(struct lingers *all, struct stream *server, struct door_guest *guest)
{
    struct lingering *l = xcalloc(1, sizeof(*l));
    int fd = stream_give_up(server);

    l->door = door_keep_seat(guest);
    list_push_back(&all->list, &l->link);
    l->server.fd = -1;
    if (stream_open(&l->server, all->loop, fd, LOOP_READ, on_server, l) < 0) {
        fd_close(&fd);
        linger_end(l);
        return;
    }
    stream_finish(&l->server);
}
