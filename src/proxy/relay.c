/*
 * relay.c - the two-way copy
 *
 * The usual turn is one recv and one send.  A socket that filled less than the chunk is empty, and is not
 * asked again: the loop is level-triggered.
 */
#include "proxy/relay.h"

#define ROUNDS_PER_TURN 8 /* then others get their turn */

/*
 * Moves from one side to the other until there is nothing, or the receiver is full.  Returns STREAM_AGAIN,
 * STREAM_END (from has ended and all of it was passed on) or STREAM_FAILED (from is gone), or 1 when the turn
 * was used up.
 */
static ssize_t pump(struct relay *r, struct stream *from, struct stream *to, relay_hook hook)
{
    for (int i = 0; i < ROUNDS_PER_TURN; i++) {
        ssize_t n;

        if (stream_flush(to) == 0)
            return STREAM_AGAIN;
        n = stream_read(from, r->chunk, RELAY_CHUNK);
        if (n <= 0)
            return n;
        hook(r->arg, r->chunk, (size_t)n);
        (void)stream_send(to, r->chunk,
                          (size_t)n); /* a failure shows in to->failed: its own side reports it */
        if ((size_t)n < RELAY_CHUNK && !stream_is_pending(from))
            return STREAM_AGAIN;
    }
    return 1;
}

static enum relay_result to_server(struct relay *r)
{
    ssize_t n = STREAM_AGAIN;

    if (!r->client_ended && !r->paused && !r->server->failed)
        n = pump(r, r->client, r->server, r->client_hook);
    else
        (void)stream_flush(r->server);
    if (n == STREAM_FAILED)
        return RELAY_CLIENT_LOST;
    if (n == STREAM_END)
        r->client_ended = true;
    if (r->client_ended && !r->half_closed && r->server->out.len == 0) {
        stream_finish(r->server);
        r->half_closed = true;
    }
    return n == 1 ? RELAY_AGAIN : RELAY_GOES_ON;
}

static enum relay_result to_client(struct relay *r)
{
    ssize_t n = pump(r, r->server, r->client, r->server_hook);

    if (r->client->failed)
        return RELAY_CLIENT_LOST;
    if (n == STREAM_END || n == STREAM_FAILED)
        return RELAY_SERVER_END;
    return n == 1 ? RELAY_AGAIN : RELAY_GOES_ON;
}

static void watch(struct relay *r)
{
    bool read_client = !r->client_ended && !r->paused && !r->server->failed && r->server->out.len == 0;

    if (r->server->failed)
        buf_fini(&r->server->out); /* what the server will never take */
    stream_watch(r->client, read_client ? LOOP_READ : 0);
    stream_watch(r->server, r->client->out.len == 0 ? LOOP_READ : 0);
}

static enum relay_result turn(struct relay *r, bool up, bool down)
{
    enum relay_result a = RELAY_GOES_ON, b = RELAY_GOES_ON;

    if (up)
        a = to_server(r);
    if (down && a != RELAY_CLIENT_LOST)
        b = to_client(r);
    if (a == RELAY_CLIENT_LOST || b == RELAY_CLIENT_LOST)
        return RELAY_CLIENT_LOST;
    if (b == RELAY_SERVER_END)
        return b;
    watch(r);
    return a == RELAY_AGAIN || b == RELAY_AGAIN ? RELAY_AGAIN : RELAY_GOES_ON;
}

enum relay_result relay_client_event(struct relay *r, unsigned events)
{
    /* Not being read (held, or ahead of the server), a client that is gone altogether shows only here. */
    if ((events & LOOP_HANGUP) && !(events & LOOP_READ) && stream_is_dead(r->client))
        return RELAY_CLIENT_LOST;
    return turn(r, (events & LOOP_READ) || r->client->starved, (events & LOOP_WRITE) != 0);
}

enum relay_result relay_server_event(struct relay *r, unsigned events)
{
    return turn(r, (events & LOOP_WRITE) != 0, (events & LOOP_READ) != 0);
}

void relay_pause(struct relay *r, bool paused)
{
    r->paused = paused;
    watch(r);
}

bool relay_has_client_bytes(const struct relay *r)
{
    return r->server->out.len > 0 || (!r->client_ended && stream_has_input(r->client));
}
