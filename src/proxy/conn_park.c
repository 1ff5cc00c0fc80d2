/*
 * conn_park.c - sessions that outlive their compute
 *
 * When a door is shut and mered is about to stop the compute, it asks for the sessions inside to be examined
 * (PARK): some at a time, because each asks Postgres for all it holds.  The first one that may not be parked,
 * a client that says something, or a new one at the door, is the answer for all of them: the compute stays.
 * What has passed waits for its generation to be gone, and is parked then: without a server, a seat, or a
 * question.  The client's next byte takes it the way of a new client, but that the keys are there, and that
 * its state is put back before the byte is passed on.
 */
#include "proxy/conn_intern.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

#define AT_ONCE  8 /* of one endpoint */
#define READ_MAX (16 * 1024)

struct parking {
    struct list link; /* env->parkings */
    struct conn_env *env;
    char ep[ID_MAX + 1];
    uint64_t g, question;
    struct list line, under_way;
    bool whole; /* the compute stops in any case: each one counts for himself */
    int active;
};

static const char HINT_GONE[] = "Connect again; what the session had set has to be set anew.";

static struct conn *conn_of(struct list *l)
{
    return LIST_OWNER(l, struct conn_park, link)->c;
}

/* --- whether at all
 * ------------------------------------------------------------------------------------------------------ */

static bool parks(const struct conn *c)
{
    return directory_entry_parks(directory_find(c->env->directory, c->ep));
}

void conn_park_begin(struct conn *c)
{
    if (!conn_is_direct(c) || !parks(c))
        return;
    c->park = xcalloc(1, sizeof(*c->park));
    c->park->c = c;
    list_init(&c->park->link);
    /* Never parked themselves: who is pooled, though what it defines counts for the others, and who comes
     * while others define what nobody here reads. */
    c->park->scan.stays = c->pooled || c->env->others > 0;
}

static struct parking *find(struct conn_env *env, const char *ep)
{
    for (struct list *l = env->parkings.next; l != &env->parkings; l = l->next)
        if (strcmp(LIST_OWNER(l, struct parking, link)->ep, ep) == 0)
            return LIST_OWNER(l, struct parking, link);
    return NULL;
}

/* A definition is changed, or was by somebody nobody has read along with: what a function of before may have
 * set in a session of now, no examination would see. */
static void spoil(struct conn_env *env, const char *ep)
{
    for (struct list *l = env->conns.next; l != &env->conns; l = l->next) {
        struct conn *c = LIST_OWNER(l, struct conn, all);

        if (c->park != NULL && strcmp(c->ep, ep) == 0)
            c->park->scan.stays = true;
    }
}

void conns_others(struct conn_env *env, int64_t n)
{
    env->others = n;
    for (struct list *l = env->conns.next; n > 0 && l != &env->conns; l = l->next) {
        struct conn *c = LIST_OWNER(l, struct conn, all);

        if (c->park != NULL)
            c->park->scan.stays = true;
    }
}

void conn_park_client_bytes(struct conn *c, uint8_t *data, size_t len)
{
    if (c->park != NULL)
        scan_client_bytes(&c->park->scan, data, len, c->session.failing);
}

void conn_park_server_bytes(struct conn *c, uint32_t errors_before)
{
    if (c->park == NULL)
        return;
    if (c->session.errors != errors_before)
        scan_error(&c->park->scan);
    if (c->park->scan.redefines && session_is_idle(&c->session)) {
        c->park->scan.redefines = false;
        spoil(c->env, c->ep);
    }
}

/* --- examining
 * ----------------------------------------------------------------------------------------------------------
 */

static void leave(struct conn *c)
{
    c->park->in = NULL;
    list_remove(&c->park->link);
}

/* Whose turn did not come is as before; who is under way comes to his end. */
static void parking_free(struct parking *all)
{
    while (!list_is_empty(&all->line)) {
        struct conn *c = conn_of(all->line.next);

        leave(c);
        conn_event(c, EV_STAY);
    }
    while (!list_is_empty(&all->under_way))
        leave(conn_of(all->under_way.next));
    list_remove(&all->link);
    free(all);
}

static size_t count(const struct list *list)
{
    size_t n = 0;

    for (const struct list *l = list->next; l != list; l = l->next)
        n++;
    return n;
}

/* Goes on with those in the line, or answers; all may not be there any more afterwards. */
static void step(struct parking *all)
{
    bool decided = all->active > 0 && !all->whole;

    while (!decided && count(&all->under_way) < AT_ONCE && !list_is_empty(&all->line)) {
        struct conn *c = conn_of(all->line.next);

        list_remove(&c->park->link);
        list_push_back(&all->under_way, &c->park->link);
        conn_event(c, EV_EXAMINE);
    }
    if (!decided && !list_is_empty(&all->under_way))
        return;
    waker_parked(all->env->waker, all->ep, all->g, all->question, all->active);
    parking_free(all);
}

static bool may_be_examined(const struct conn *c)
{
    return c->state == CONN_OPEN && c->relay.paused && c->park != NULL && !c->park->scan.stays &&
           wire_scan_at_boundary(&c->park->scan.wire) && session_is_idle(&c->session) &&
           session_may_add(&c->session) && c->client.out.len == 0 && !c->relay.client_ended &&
           !relay_has_client_bytes(&c->relay);
}

static void line_up(void *arg, struct door_guest *guest)
{
    struct parking *all = arg;
    struct conn *c = LIST_OWNER(guest, struct conn, guest);

    if (!may_be_examined(c)) {
        all->active++;
        return;
    }
    c->park->in = all;
    list_push_back(&all->line, &c->park->link);
    conn_event(c, EV_LINE);
}

/* A session of before the endpoint parked: it may have defined anything.  Whom Postgres has not let in is
 * none. */
static bool is_unread(const struct conn *c)
{
    return c->park == NULL && c->session.status != 0;
}

static bool anybody_unread(const struct conn_env *env, const char *ep)
{
    for (const struct list *l = env->conns.next; l != &env->conns; l = l->next) {
        const struct conn *c = LIST_OWNER(l, struct conn, all);

        if (c->state == CONN_OPEN && is_unread(c) && strcmp(c->ep, ep) == 0)
            return true;
    }
    return false;
}

void conns_park(struct conn_env *env, const char *ep, uint64_t g, uint64_t question, bool whole)
{
    struct parking *all = find(env, ep);

    if (anybody_unread(env, ep))
        spoil(env, ep);
    if (all != NULL)
        parking_free(all); /* of an earlier question */
    all = xcalloc(1, sizeof(*all));
    all->env = env;
    all->whole = whole;
    snprintf(all->ep, sizeof(all->ep), "%s", ep);
    all->g = g;
    all->question = question;
    list_init(&all->line);
    list_init(&all->under_way);
    list_push_back(&env->parkings, &all->link);
    if (door_each_inside(env->doors, ep, g, line_up, all))
        step(all);
    else
        parking_free(all); /* the door was opened meanwhile */
}

void conn_park_disturb(struct conn_env *env, const char *ep)
{
    struct parking *all = find(env, ep);

    if (all == NULL || all->whole)
        return;
    all->active++;
    step(all);
}

/* A byte of the client is the end of the examination, but stays where it is: the door is shut. */
void conn_park_client(struct conn *c, unsigned events)
{
    if ((events & LOOP_HANGUP) && stream_is_dead(&c->client)) {
        conn_event(c, EV_LOST);
        return;
    }
    stream_watch(&c->client, 0);
    conn_park_disturb(c->env, c->ep);
}

void conn_act_line(struct conn *c)
{
    stream_watch(&c->client, LOOP_READ);
}

void conn_act_examine(struct conn *c)
{
    auto_buf out = { 0 };

    c->park->park = park_new(c->user);
    park_examine(c->park->park, scan_has_unnamed(&c->park->scan), &out);
    (void)stream_send(&c->server, out.data, out.len); /* a failure shows when it is read */
    stream_watch(&c->server, LOOP_READ);
}

/* Open again, and still paused while the door is shut. */
void conn_act_stay(struct conn *c)
{
    park_free(TAKE(c->park->park));
    if (door_is_shut(c->guest.door)) {
        relay_pause(&c->relay, true);
        return;
    }
    relay_pause(&c->relay, false);
    loop_timer_set(c->timer, 0);
}

/* Postgres may say that it ends, and end: nobody listens any more. */
void conn_act_ready(struct conn *c)
{
    stream_watch(&c->server, 0);
}

static void examined(struct conn *c, enum park_result r)
{
    if (r != PARK_YES)
        log_event(LOG_INFO, "park", "a session cannot be parked", "ep", c->ep, "user", c->user, "reason",
                  park_why(c->park->park), NULL);
    if (r != PARK_YES && c->park->in != NULL)
        c->park->in->active++;
    conn_event(c, r == PARK_YES && door_is_shut(c->guest.door) ? EV_READY : EV_STAY);
}

/* What it said, and then the end. */
static void broken(struct conn *c)
{
    if (c->session.fatal) {
        conn_event(c, EV_END);
        return;
    }
    c->why = "postgres broke the protocol";
    conn_set_error(c, "08P01", "The log of mere-proxy and that of the endpoint say more.",
                   "the compute of endpoint \"%s\" broke the protocol", c->ep);
    conn_event(c, EV_SAY);
}

/* Bytes of the server that are the client's. */
static void pass_on(struct conn *c, uint8_t *data, size_t len)
{
    session_server_bytes(&c->session, data, len);
    (void)stream_send(&c->client, data, len);
}

void conn_examine_input(struct conn *c)
{
    auto_buf out = { 0 }, aside = { 0 };
    enum park_result r;
    size_t used;
    ssize_t n = stream_read(&c->server, c->env->chunk, RELAY_CHUNK);

    if (n == STREAM_END || n == STREAM_FAILED) {
        conn_server_ended(c);
        return;
    }
    if (n < 0) {
        (void)stream_flush(&c->server);
        stream_watch(&c->server, LOOP_READ);
        return;
    }
    r = park_next(c->park->park, c->env->chunk, (size_t)n, &used, &out, &aside);
    pass_on(c, (uint8_t *)aside.data, aside.len);
    pass_on(c, c->env->chunk + used, (size_t)n - used);
    (void)stream_send(&c->server, out.data, out.len);
    stream_watch(&c->server, LOOP_READ);
    if (r == PARK_BROKEN)
        broken(c);
    else if (r != PARK_MORE)
        examined(c, r);
}

/* It is examined, or leaves. */
void conn_leave_line(struct conn *c)
{
    struct parking *all = c->park->in;

    if (all == NULL)
        return;
    leave(c);
    step(all);
}

void conn_park_resume(struct conn *c)
{
    struct parking *all = find(c->env, c->ep);

    if (all != NULL)
        parking_free(all);
    if (c->state == CONN_READY)
        conn_event(c, EV_STAY);
}

/* --- parked
 * -------------------------------------------------------------------------------------------------------------
 */

void conn_act_park(struct conn *c)
{
    char bytes[24];

    snprintf(bytes, sizeof(bytes), "%zu", park_size(c->park->park));
    log_event(LOG_INFO, "park", "parked", "ep", c->ep, "user", c->user, "bytes", bytes, NULL);
    c->retry = loop_timer_new(c->env->loop, conn_on_retry, c);
    c->tries = c->stale = 0;
    c->refusal[0] = '\0';
    stream_watch(&c->client, LOOP_READ);
    loop_timer_set(c->timer, 0); /* it may have said something while the door was shut */
}

static bool may_come_back(struct conn *c)
{
    struct directory_login l;
    struct directory_entry *e = directory_find(c->env->directory, c->ep);

    if (e == NULL)
        return true; /* mered says what has become of it */
    conn_know(c, e, &l);
    explicit_bzero(&l.verifier, sizeof(l.verifier));
    return l.from_allowed;
}

/* Who only says goodbye wakes nobody. */
void conn_parked_input(struct conn *c, unsigned events)
{
    if (!conn_take_early(c, events)) {
        conn_event(c, EV_LOST);
    } else if (c->in.len > 0 && c->in.data[0] == 'X') {
        c->client_done = true;
        conn_event(c, EV_END);
    } else if (c->in.len > 0 && !may_come_back(c)) {
        conn_refuse_address(c);
    } else if (c->in.len > 0) {
        loop_timer_set(c->timer, c->env->connect_timeout_ms);
        conn_find_way(c);
    }
}

void conns_drop_parked(struct conn_env *env, const char *ep)
{
    struct list *next;

    for (struct list *l = env->conns.next; l != &env->conns; l = next) {
        struct conn *c = LIST_OWNER(l, struct conn, all);

        next = l->next;
        if (c->state != CONN_PARKED || strcmp(c->ep, ep) != 0)
            continue;
        conn_set_error(c, "57P01", "The endpoint is being deleted.",
                       "terminating connection due to administrator command");
        conn_event(c, EV_SAY);
    }
}

/* --- restoring
 * ----------------------------------------------------------------------------------------------------------
 */

static void restored(struct conn *c, uint8_t *rest, size_t len)
{
    auto_buf news = { 0 };

    park_tell(c->park->park, &news);
    park_free(TAKE(c->park->park));
    (void)stream_send(&c->client, news.data, news.len);
    buf_add(&c->answer, rest, len);
    conn_event(c, EV_ANSWER);
}

static void not_restored(struct conn *c)
{
    log_event(LOG_WARN, "park", "a session could not be restored", "ep", c->ep, "user", c->user, "reason",
              park_why(c->park->park), NULL);
    conn_set_error(c, "57P01", HINT_GONE, "the session was parked and cannot be restored: %s",
                   park_why(c->park->park));
    conn_event(c, EV_SAY);
}

/* The last word of a server that lets nobody in after all, or of one that was stopped again. */
static void refused(struct conn *c)
{
    auto_buf all = c->answer;
    struct wire_scan scan = { 0 };
    struct wire_piece m;
    uint8_t *data = (uint8_t *)all.data;
    size_t n, len = all.len;

    c->answer = (struct buf){ 0 };
    for (; (n = wire_scan_next(&scan, data, len, &m)) > 0; data += n, len -= n)
        if (m.type == 'E' && m.ends)
            (void)stream_send(&c->client, data, n);
    conn_event(c, EV_END);
}

static void put_back(struct conn *c)
{
    auto_buf out = { 0 };

    buf_fini(&c->answer);
    park_restore(c->park->park, &c->park->scan.unnamed, &out);
    (void)stream_send(&c->server, out.data, out.len);
    stream_watch(&c->server, LOOP_READ);
}

/* Up to the first ReadyForQuery Postgres says what the client has heard before. */
static void take_greeting(struct conn *c, uint8_t *data, size_t len)
{
    session_server_bytes(&c->session, data, len);
    if (c->session.fatal)
        refused(c);
    else if (c->session.server.broken || c->answer.len > RELAY_CHUNK) /* nobody greets so long */
        broken(c);
    else if (session_is_idle(&c->session))
        put_back(c);
}

/* We are let in. */
void conn_act_restore(struct conn *c)
{
    login_free(TAKE(c->login));
    session_init(&c->session, c->key.bytes);
    take_greeting(c, (uint8_t *)c->answer.data, c->answer.len);
}

static void take_answers(struct conn *c, uint8_t *data, size_t len)
{
    auto_buf out = { 0 }, aside = { 0 };
    size_t used;
    enum park_result r = park_next(c->park->park, data, len, &used, &out, &aside);

    (void)stream_send(&c->server, out.data, out.len);
    stream_watch(&c->server, LOOP_READ);
    switch (r) {
    case PARK_MORE:
        break;
    case PARK_YES:
        restored(c, data + used, len - used);
        break;
    case PARK_NO:
        not_restored(c);
        break;
    case PARK_BROKEN:
        pass_on(c, (uint8_t *)aside.data, aside.len);
        broken(c);
        break;
    }
}

void conn_restore_input(struct conn *c)
{
    ssize_t n = stream_read(&c->server, c->env->chunk, READ_MAX);

    if (n == STREAM_END || n == STREAM_FAILED) {
        conn_event(c, EV_STALE); /* nothing of the client's has gone there yet */
        return;
    }
    if (n < 0) {
        (void)stream_flush(&c->server);
        stream_watch(&c->server, LOOP_READ);
        return;
    }
    if (session_is_idle(&c->session)) {
        take_answers(c, c->env->chunk, (size_t)n);
        return;
    }
    buf_add(&c->answer, c->env->chunk, (size_t)n);
    take_greeting(c, c->env->chunk, (size_t)n);
}

void conn_park_end(struct conn *c)
{
    if ((is_unread(c) && parks(c)) || (c->park != NULL && c->park->scan.redefines))
        spoil(c->env, c->ep);
    if (c->park == NULL)
        return;
    park_free(c->park->park);
    scan_fini(&c->park->scan);
    free(TAKE(c->park));
}
