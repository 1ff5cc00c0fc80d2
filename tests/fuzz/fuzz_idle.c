/*
 * fuzz_idle.c - is a session idle?  The reader against a model of Postgres
 *
 * Input: a byte of flags (1: the client is well-behaved), then steps, a byte each: the client says something,
 * Postgres reads one message, one of its answers arrives.  The reader sees what passes; the model knows what
 * Postgres is at.  The model is that of Postgres 14 and later: in COPY FROM STDIN it swallows Sync and Flush,
 * and ends the session over anything that does not belong there.
 */
#include "fuzz.h"

#include "proxy/session.h"

static const char NEVER_BUSY[] = "what is idle for us is idle in Postgres";
static const char IN_THE_END[] = "when all that a good client asked for is answered, the session is idle";
static const char COPYING[] = "no session is idle that may still send data of a COPY";

const char *const fuzz_properties[] = { NEVER_BUSY, IN_THE_END, COPYING, NULL };

#define STEPS_MAX 400

enum copy { NO_COPY, SIMPLE_COPY, EXTENDED_COPY };

struct message {
    char type, how; /* o: all is well, b: begins a transaction, c: ends it, e: fails, g: COPY FROM STDIN */
};

struct queue {
    struct message items[4 * STEPS_MAX];
    size_t head, tail;
};

struct postgres {
    char status;
    bool batch;    /* extended messages that no Sync has closed */
    bool skipping; /* to the next Sync */
    bool dead, worked;
    enum copy copy;
};

/* What a well-behaved client remembers. */
struct client {
    bool good;
    size_t outstanding;
    bool batch;
    bool wants_copy; /* has asked for one, and waits for what comes */
    enum copy asked_copy, copy;
};

struct run {
    struct session session;
    struct postgres postgres;
    struct client client;
    struct queue in, out;
};

static void push(struct queue *q, char type, char how)
{
    if (q->tail < N_ELEMENTS(q->items))
        q->items[q->tail++] = (struct message){ type, how };
}

/* --- Postgres; out NULL: only to see what would be done */

static void answer(struct queue *out, char type, char how)
{
    if (out != NULL)
        push(out, type, how);
}

static void ready(struct postgres *p, struct queue *out)
{
    p->batch = p->skipping = false;
    answer(out, 'Z', p->status);
}

static void fail(struct postgres *p, struct queue *out, bool simple)
{
    p->copy = NO_COPY;
    if (p->status == 'T')
        p->status = 'E';
    answer(out, 'E', 'e');
    if (simple)
        ready(p, out);
    else
        p->skipping = true;
}

static void read_in_copy(struct postgres *p, struct message m, struct queue *out)
{
    bool simple = p->copy == SIMPLE_COPY;

    if (m.type == 'f' || (m.type == 'd' && m.how == 'e')) {
        fail(p, out, simple);
    } else if (m.type == 'c') {
        p->copy = NO_COPY;
        answer(out, 'C', 'o');
        if (simple)
            ready(p, out);
    } else if (strchr("dSH", m.type) == NULL) {
        p->dead = true;
        answer(out, 'E', 'x');
    }
}

static void execute(struct postgres *p, struct message m, struct queue *out)
{
    bool simple = m.type == 'Q' || m.type == 'F', runs = simple || m.type == 'E';

    p->worked = true;
    p->batch |= !simple;
    if (m.how == 'e') {
        fail(p, out, simple);
        return;
    }
    if (m.how == 'g' && m.type != 'F' && runs) {
        p->copy = simple ? SIMPLE_COPY : EXTENDED_COPY;
        answer(out, 'G', 'o');
        return;
    }
    if (runs && (m.how == 'b' || m.how == 'c'))
        p->status = m.how == 'b' ? 'T' : 'I';
    answer(out, runs ? 'C' : '1', 'o');
    if (simple)
        ready(p, out);
}

static void postgres_read(struct postgres *p, struct message m, struct queue *out)
{
    if (p->dead)
        return;
    if (p->copy != NO_COPY)
        read_in_copy(p, m, out);
    else if (m.type == 'S')
        ready(p, out);
    else if (!p->skipping && strchr("QFPBEDC", m.type) != NULL)
        execute(p, m, out);
}

static bool is_busy(const struct run *r)
{
    struct postgres p = r->postgres;

    if (p.dead)
        return false;
    if (p.status != 'I' || p.batch || p.copy != NO_COPY)
        return true;
    p.worked = false;
    for (size_t i = r->in.head; i < r->in.tail; i++)
        postgres_read(&p, r->in.items[i], NULL);
    return p.worked;
}

/* --- the client */

static void say(struct run *r, char type, char how)
{
    uint8_t bytes[] = { (uint8_t)type, 0, 0, 0, 5, (uint8_t)how };

    session_client_bytes(&r->session, bytes, sizeof(bytes));
    push(&r->in, type, how);
    if (fuzz_planted(IN_THE_END) && type == 'F')
        r->session.asked++;
    if (fuzz_planted(NEVER_BUSY) && type == 'Q')
        r->session.asked--;
    if (fuzz_planted(COPYING) && type == 'd') {
        r->session.asked = r->session.answered;
        r->session.loose = false;
    }
}

static void ask_for_copy(struct run *r, bool simple)
{
    struct client *c = &r->client;

    if (c->outstanding > 0 || c->batch)
        return;
    if (simple) {
        say(r, 'Q', 'g');
    } else {
        say(r, 'P', 'o');
        say(r, 'E', 'g');
        say(r, 'S', 'o');
    }
    c->wants_copy = true;
    c->asked_copy = simple ? SIMPLE_COPY : EXTENDED_COPY;
    c->outstanding = 1;
}

/* A good client says what has its place, and nothing while it waits to learn whether a COPY begins. */
static void say_if_good(struct run *r, char type, char how)
{
    struct client *c = &r->client;
    bool asks = strchr("QFS", type) != NULL, data = strchr("dcf", type) != NULL;

    if (c->wants_copy || data != (c->copy != NO_COPY) || ((type == 'Q' || type == 'F') && c->batch))
        return;
    if (how == 'g' && (type == 'Q' || type == 'E')) {
        ask_for_copy(r, type == 'Q');
        return;
    }
    say(r, type, how);
    if (type == 'c' || type == 'f') {
        c->batch = c->copy == EXTENDED_COPY;
        c->copy = NO_COPY;
    }
    if (asks)
        c->batch = false;
    c->outstanding += asks;
    c->batch |= strchr("PBEDC", type) != NULL;
}

static void client_hears(struct client *c, struct message m)
{
    if (m.type == 'G') {
        c->copy = c->asked_copy;
        c->outstanding = c->copy == SIMPLE_COPY; /* the Sync was swallowed */
        c->wants_copy = false;
    }
    if (m.type == 'E' && c->copy != NO_COPY) {
        c->batch = c->copy == EXTENDED_COPY;
        c->copy = NO_COPY;
    }
    if (m.type == 'Z' && c->outstanding > 0)
        c->outstanding--;
}

/* --- what passes */

static void deliver(struct run *r)
{
    static const char ERROR[] = "SERROR\0VERROR\0C22000\0", FATAL[] = "SFATAL\0VFATAL\0C08P01\0";
    struct message m;
    uint8_t bytes[64] = { 0 };
    const char *body = NULL;
    size_t len = 1;

    if (r->out.head == r->out.tail)
        return;
    m = r->out.items[r->out.head++];
    bytes[5] = (uint8_t)m.how;
    if (m.type == 'E') {
        body = m.how == 'x' ? FATAL : ERROR;
        len = sizeof(ERROR);
        memcpy(bytes + 5, body, len);
    }
    bytes[0] = (uint8_t)m.type;
    bytes[4] = (uint8_t)(4 + len);
    session_server_bytes(&r->session, bytes, 5 + len);
    client_hears(&r->client, m);
}

static void check(const struct run *r)
{
    bool idle = session_is_idle(&r->session), quiet = r->in.head == r->in.tail && r->out.head == r->out.tail;

    if (r->session.fatal)
        return;
    fuzz_expect(!idle || r->postgres.copy == NO_COPY, COPYING);
    fuzz_expect(!idle || !is_busy(r), NEVER_BUSY);
    if (r->client.good && quiet && !r->postgres.dead && !is_busy(r))
        fuzz_expect(idle, IN_THE_END);
}

static void step(struct run *r, uint8_t byte)
{
    static const char TYPES[] = "QFPBEDCSHdcfrrww", HOWS[] = "oogbceog";
    char type = TYPES[byte & 15u], how = HOWS[byte >> 4 & 7u];

    if (type == 'w')
        deliver(r);
    else if (type == 'r' && r->in.head < r->in.tail)
        postgres_read(&r->postgres, r->in.items[r->in.head++], &r->out);
    else if (type != 'r' && r->client.good)
        say_if_good(r, type, how);
    else if (type != 'r')
        say(r, type, how);
    check(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t KEY[WIRE_KEY_SIZE] = { 1 };
    struct fuzz_input in = { data, size < STEPS_MAX ? size : STEPS_MAX };
    auto_free struct run *r = xcalloc(1, sizeof(*r));

    session_init(&r->session, KEY);
    r->client.good = (fuzz_byte(&in) & 1) != 0;
    r->postgres.status = 'I';
    push(&r->out, 'Z', 'I');
    deliver(r);
    while (in.len > 0)
        step(r, fuzz_byte(&in));
    while (r->in.head < r->in.tail || r->out.head < r->out.tail) {
        step(r, 12);
        step(r, 14);
    }
    return 0;
}
