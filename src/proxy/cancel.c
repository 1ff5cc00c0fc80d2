/*
 * cancel.c - cancel keys
 */
#include "proxy/cancel.h"

#include <string.h>

#include "base/crypt.h"
#include "proxy/stream.h"

#define N_BUCKETS    4096
#define PID_SIZE     4 /* the first half of the key */
#define CALL_TIME_MS 5000

struct cancel_table {
    struct cancel_key *buckets[N_BUCKETS];
};

struct cancel_call {
    struct stream stream;
    struct loop_timer *timer;
    cancel_done_fn done;
    void *arg;
};

struct cancel_table *cancel_table_new(void)
{
    return xcalloc(1, sizeof(struct cancel_table));
}

void cancel_table_free(struct cancel_table *t)
{
    free(t);
}

static struct cancel_key **bucket_of(struct cancel_table *t, const uint8_t *bytes)
{
    return &t->buckets[((size_t)bytes[2] << 8 | bytes[3]) % N_BUCKETS]; /* random already */
}

static struct cancel_key *find_pid(struct cancel_table *t, const uint8_t *bytes)
{
    struct cancel_key *k = *bucket_of(t, bytes);

    while (k != NULL && memcmp(k->bytes, bytes, PID_SIZE) != 0)
        k = k->next;
    return k;
}

void cancel_key_make(struct cancel_table *t, struct cancel_key *k)
{
    *k = (struct cancel_key){ .listed = false };
    do {
        crypt_random(k->bytes, sizeof(k->bytes));
        k->bytes[0] &= 0x7F; /* process ids are positive to clients that print them */
        k->bytes[3] |= 1;    /* and never zero */
    } while (find_pid(t, k->bytes) != NULL);
}

void cancel_key_list(struct cancel_table *t, struct cancel_key *k)
{
    struct cancel_key **bucket = bucket_of(t, k->bytes);

    if (k->listed)
        return;
    k->next = *bucket;
    *bucket = k;
    k->listed = true;
}

void cancel_key_unlist(struct cancel_table *t, struct cancel_key *k)
{
    struct cancel_key **slot = bucket_of(t, k->bytes);

    if (!k->listed)
        return;
    while (*slot != k)
        slot = &(*slot)->next;
    *slot = k->next;
    k->listed = false;
}

struct cancel_key *cancel_key_find(struct cancel_table *t, const uint8_t bytes[WIRE_KEY_SIZE])
{
    struct cancel_key *k = find_pid(t, bytes);

    return k != NULL && crypt_equal(k->bytes, bytes, WIRE_KEY_SIZE) ? k : NULL;
}

/* --- delivery
 * ----------------------------------------------------------------------------------------------------- */

static void call_over(struct cancel_call *c)
{
    cancel_done_fn done = c->done;
    void *arg = c->arg;

    cancel_call_free(c);
    done(arg);
}

/* Postgres never answers, it closes. */
static void on_call(void *arg, int fd, unsigned events)
{
    struct cancel_call *c = arg;
    char byte;

    (void)fd;
    (void)events;
    if (stream_flush(&c->stream) < 0 || stream_read(&c->stream, &byte, 1) != STREAM_AGAIN)
        call_over(c);
    else
        stream_watch(&c->stream, LOOP_READ);
}

static void on_call_late(void *arg)
{
    call_over(arg);
}

struct cancel_call *cancel_call_new(struct loop *l, const char *socket,
                                    const uint8_t server_key[WIRE_KEY_SIZE], cancel_done_fn done, void *arg)
{
    uint8_t request[WIRE_CANCEL_SIZE];
    auto_fd fd = stream_dial(socket);
    struct cancel_call *c;

    if (fd < 0)
        return NULL;
    c = xcalloc(1, sizeof(*c));
    c->done = done;
    c->arg = arg;
    wire_cancel_build(request, server_key);
    if (stream_open(&c->stream, l, fd, LOOP_READ, on_call, c) < 0) {
        free(c);
        return NULL;
    }
    fd = -1;
    c->timer = loop_timer_new(l, on_call_late, c);
    loop_timer_set(c->timer, CALL_TIME_MS);
    if (stream_send(&c->stream, request, sizeof(request)) < 0) {
        cancel_call_free(c);
        return NULL;
    }
    stream_watch(&c->stream, LOOP_READ);
    return c;
}

void cancel_call_free(struct cancel_call *c)
{
    if (c == NULL)
        return;
    stream_close(&c->stream);
    loop_timer_del(c->timer);
    free(c);
}
