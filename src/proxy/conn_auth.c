/*
 * conn_auth.c - a connection whose client has not proved who he is
 *
 * Two things go on side by side: the client's exchange (auth.h), which may begin at once, and the search for
 * the verifier to challenge him with.  Where a compute runs, it is the judge: its challenge shows whether the
 * verifier we know is in force.  Where none runs, what we know has to do, and the client waits as long as the
 * others: neither time nor words say whether the endpoint, the role or the password was wrong.
 */
#include "proxy/conn_intern.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"

#define SOUNDING_US 2000 /* what a compute takes to challenge us, before any has */

static void go_on(struct conn *c);

static const char HINT_DENIED[] =
    "Check the endpoint id, the role and the password: which of them is wrong is not told. The password of a "
    "role may also have been changed, or have expired.";

/* --- what we know
 * -------------------------------------------------------------------------------------------------------
 */

void conn_know(struct conn *c, struct directory_entry *e, struct directory_login *ret)
{
    struct sockaddr_storage from = { .ss_family = AF_UNSPEC };
    socklen_t len = sizeof(from);

    (void)getpeername(c->client.fd, (struct sockaddr *)&from, &len);
    directory_login(c->env->directory, e, c->route->name, c->user, (struct sockaddr *)&from, ret);
}

static void what_counts(struct conn *c, struct directory_login *ret)
{
    if (c->found != NULL)
        *ret = *c->found;
    else
        conn_know(c, directory_find(c->env->directory, c->route->name), ret);
}

/* Whoever challenges us knows the same password of the role as we do. */
bool conn_is_known(struct conn *c)
{
    struct directory_login l;
    bool known;

    what_counts(c, &l);
    known = login_matches(c->login, &l.verifier);
    explicit_bzero(&l, sizeof(l));
    return known;
}

/* It does; and waits for the proof, unless the session is to be one of the pooler's. */
static void matched(struct conn *c)
{
    conn_event(c, c->pooled ? EV_CHOSEN : EV_MATCH);
}

static bool is_nowhere(const struct conn *c)
{
    return c->found == NULL && directory_find(c->env->directory, c->route->name) == NULL;
}

/* For the log alone. */
static const char *why_denied(struct conn *c)
{
    struct directory_login l;

    what_counts(c, &l);
    if (is_nowhere(c))
        return "denied: no such endpoint";
    if (!l.real)
        return "denied: no such role, or it has no password to log in with";
    return clock_wall_us() >= l.until_us ? "denied: the password has expired" : "denied: wrong password";
}

void conn_deny(struct conn *c)
{
    c->why = why_denied(c);
    conn_set_error(c, "28P01", HINT_DENIED, "password authentication failed for user \"%s\"", c->user);
    conn_event(c, EV_SAY);
}

/* Endpoint, generation, role and challenge. */
static char *place_of(const struct conn *c)
{
    return xasprintf("%s %" PRIu64 " %s %s", c->ep, c->guest.g, c->user, login_challenge(c->login));
}

static bool is_settled(const struct conn *c)
{
    auto_free char *at = place_of(c);

    return directory_is_settled(c->env->directory, at, strlen(at));
}

static void settle(struct conn *c)
{
    auto_free char *at = place_of(c);

    directory_settle(c->env->directory, at, strlen(at));
}

/* --- the search for the verifier
 * ------------------------------------------------------------------------------------------
 */

static void seek(struct conn *c)
{
    c->sought_us = clock_mono_us();
    snprintf(c->ep, sizeof(c->ep), "%.*s", ID_MAX, c->route->name);
    if (conn_is_direct(c) && door_sit(c->env->doors, c->ep, &c->guest))
        conn_event(c, EV_SIT);
    else
        conn_event(c, EV_ALONE);
}

void conn_begin(struct conn *c)
{
    struct crypt_binding binding;
    bool binds = tls_binding(&c->client, &binding);
    uint8_t random[SCRAM_RANDOM_SIZE];
    auto_buf out = { 0 };

    crypt_random(random, sizeof(random));
    c->auth = auth_new(binds ? &binding : NULL, random, &out);
    (void)stream_send(&c->client, out.data, out.len);
    stream_watch(&c->client, LOOP_READ);
    if (c->route->kind == ROUTE_BRANCH)
        conn_event(c, EV_FIND);
    else
        seek(c);
    go_on(c); /* what came behind the startup packet */
}

void conn_act_find(struct conn *c)
{
    waker_find(c->env->waker, &c->waiter, c->route->name);
}

/* From here on the client's branch has the name that does not change: its endpoint's, or its own id. */
static void found(struct conn *c, struct directory_entry *e)
{
    const char *id = directory_entry_id(e);

    snprintf(c->route->name, sizeof(c->route->name), "%s", id);
    if (id_looks_like_endpoint(id))
        c->route->kind = ROUTE_ENDPOINT;
    if (directory_find(c->env->directory, id) == NULL) {
        c->found = xcalloc(1, sizeof(*c->found));
        conn_know(c, e, c->found);
    }
    seek(c);
}

void conn_act_sound(struct conn *c)
{
    int error = conn_dial(c);

    if (error == 0)
        return;
    if (error == ENOENT || error == ECONNREFUSED)
        door_forget(c->guest.door, c->guest.g);
    conn_event(c, EV_ALONE);
}

static void heard(struct conn *c)
{
    struct conn_env *env = c->env;

    env->soundings_us[env->n_soundings++ % CONN_SOUNDINGS] = (int32_t)(clock_mono_us() - c->sought_us);
    if (conn_is_known(c)) {
        matched(c);
    } else if (is_settled(c)) {
        conn_event(c, EV_CHOSEN);
    } else if (waker_is_connected(env->waker)) {
        conn_event(c, EV_LOOK);
    } else {
        conn_set_error(
            c, "57P03", "Try again; if it goes on, see whether mered runs.",
            "the password of user \"%s\" has to be read anew, and the control plane is not there to do it",
            c->user);
        conn_event(c, EV_SAY);
    }
}

void conn_act_look(struct conn *c)
{
    c->asked_late = !waker_look(c->env->waker, &c->waiter, c->ep);
}

static void looked(struct conn *c)
{
    if (conn_is_known(c)) {
        matched(c);
    } else if (c->asked_late) {
        conn_act_look(c);
    } else {
        settle(c);
        conn_event(c, EV_CHOSEN);
    }
}

/* As long as one of the last computes took. */
static int64_t delay_us(const struct conn *c)
{
    const struct conn_env *env = c->env;
    size_t n = env->n_soundings < CONN_SOUNDINGS ? env->n_soundings : CONN_SOUNDINGS;
    uint16_t dice;

    crypt_random(&dice, sizeof(dice));
    return (n > 0 ? env->soundings_us[dice % n] : SOUNDING_US) - (clock_mono_us() - c->sought_us);
}

/* An endpoint that was made a moment ago may be on its way to us; before the first directory all are. */
void conn_act_delay(struct conn *c)
{
    struct conn_env *env = c->env;

    waker_leave(&c->waiter); /* of what a compute, gone since, had made us ask */
    loop_timer_set_us(c->retry, delay_us(c));
    if (c->found == NULL && directory_find(env->directory, c->route->name) == NULL &&
        (waker_is_connected(env->waker) || !directory_is_complete(env->directory)))
        c->asked_late = !waker_look(env->waker, &c->waiter, NULL);
}

void conn_auth_delayed(struct conn *c)
{
    if (c->waiter.ask == NULL && !loop_timer_armed(c->retry))
        conn_event(c, EV_CHOSEN);
}

static void delay_looked(struct conn *c)
{
    if (c->asked_late && directory_find(c->env->directory, c->route->name) == NULL)
        c->asked_late = !waker_look(c->env->waker, &c->waiter, NULL);
    else
        conn_auth_delayed(c);
}

void conn_auth_answer(struct conn *c, const struct waker_answer *answer)
{
    if (answer->error != NULL)
        conn_refuse(c, answer->error);
    else if (answer->found != NULL)
        found(c, answer->found);
    else if (c->state == CONN_LOOKING)
        looked(c);
    else
        delay_looked(c);
}

/* What a compute that holds the same verifier says of VALID UNTIL is known when it lets us in. */
void conn_act_choose(struct conn *c)
{
    struct directory_login l;

    what_counts(c, &l);
    auth_choose(c->auth, &l.verifier, !l.real || (c->state != CONN_MATCHED && clock_wall_us() >= l.until_us));
    explicit_bzero(&l, sizeof(l));
    go_on(c);
}

/* The exchange goes on as it was: the verifier is chosen. */
void conn_act_alone(struct conn *c)
{
    (void)c;
}

/* Before its proof is asked for, a backend has nothing to say but that it does not want us. */
void conn_auth_server(struct conn *c)
{
    bool ended;
    enum login_result r = conn_read_login(c, &ended);

    if (r == LOGIN_CHALLENGED && c->state == CONN_SOUNDING)
        heard(c);
    else if (r != LOGIN_MORE || ended)
        conn_event(c, EV_ALONE);
}

/* --- the client
 * ---------------------------------------------------------------------------------------------------------
 */

void conn_refuse_address(struct conn *c)
{
    conn_set_error(c, "28000", "The project's setting allowed_ips says from where one may connect.",
                   "This IP address %s is not allowed to connect to this endpoint.", c->peer);
    conn_event(c, EV_SAY);
}

static void proved(struct conn *c)
{
    struct directory_login l;

    limits_proved(c->env->limits, &c->limited);
    if (is_nowhere(c)) { /* deleted since the verifier was chosen */
        conn_deny(c);
        return;
    }
    what_counts(c, &l);
    if (!l.from_allowed) {
        conn_refuse_address(c);
        return;
    }
    memcpy(c->keys.client, auth_client_key(c->auth), SCRAM_KEY_SIZE);
    memcpy(c->keys.server, auth_server_key(c->auth), SCRAM_KEY_SIZE);
    loop_timer_set(c->timer, c->env->connect_timeout_ms);
    if (c->state == CONN_MATCHED) {
        conn_event(c, EV_PROVED);
        return;
    }
    if (c->state == CONN_DOUBTED)
        conn_event(c, EV_ALONE);
    conn_find_way(c);
}

static bool is_unproved(const struct conn *c)
{
    return c->state >= CONN_FINDING && c->state <= CONN_MATCHED;
}

/* Goes on with the exchange as far as the client's bytes and the verifier allow. */
static void go_on(struct conn *c)
{
    auto_buf out = { 0 };
    struct wire_error e;
    enum auth_result r;

    if (!is_unproved(c))
        return;
    r = auth_next(c->auth, &c->in, &out, &e);
    (void)stream_send(&c->client, out.data, out.len);
    if (c->in.len == 0)
        buf_fini(&c->in);
    stream_watch(&c->client, c->in.len < CONN_EARLY_MAX ? LOOP_READ : 0);
    switch (r) {
    case AUTH_MORE:
        break;
    case AUTH_PROVED:
        proved(c);
        break;
    case AUTH_DENIED:
        conn_deny(c);
        break;
    case AUTH_INVALID:
        conn_refuse(c, &e);
        break;
    }
}

void conn_auth_input(struct conn *c, unsigned events)
{
    if (conn_take_early(c, events))
        go_on(c);
    else
        conn_event(c, EV_LOST);
}

void conn_auth_over(struct conn *c)
{
    if (auth_awaits_client(c->auth))
        conn_set_error(c, "08P01", NULL, "no password within %d seconds", CONN_PROOF_TIME_MS / 1000);
    else if (c->state == CONN_SOUNDING)
        conn_set_error(c, "57P03", "Try again in a moment.",
                       "the compute of endpoint \"%s\" did not answer in time", c->ep);
    else
        conn_set_error(c, "57P03", "Try again; if it goes on, see whether mered runs.",
                       "the control plane did not say in time who may log in");
    conn_event(c, EV_SAY);
}
