/*
 * fuzz_waker.c - the lines that the proxy reads from the wake socket
 *
 * Input: one byte that decides the cuts, then what comes from the socket.  Lines are read inside waker.c,
 * which has no other door than a socket: it is included, and its callbacks write down what they are told.
 */
#include "proxy/waker.c"

#include "fuzz.h"

static const char SAME_TOLD[] = "what is told is the same however the stream is cut";
static const char ENDPOINT_ID[] = "an endpoint is 1 to 60 bytes of [a-z0-9-]";
static const char NUMBERS[] = "generations and places are in range";
static const char WHOLE_LINES[] = "only whole lines of words tell something, and one thing each";
static const char TOO_LONG[] = "a line that is too long costs the connection, and no other does";
static const char ANSWERED[] = "who asked is answered once, by an endpoint or an error";
static const char ERROR_CODE[] = "an error has five bytes of code";

const char *const fuzz_properties[] = { SAME_TOLD, ENDPOINT_ID, NUMBERS,    WHOLE_LINES,
                                        TOO_LONG,  ANSWERED,    ERROR_CODE, NULL };

enum { FIRST, SAME, OTHER, FINDER, LOOKER, GUESTS };

struct told;

struct guest {
    struct waker_guest link;
    struct told *told;
    int number, answers;
};

struct told {
    struct waker waker;
    struct guest guests[GUESTS];
    size_t n;
    bool lost;
    struct buf text;
};

static void tell(struct told *t, const char *what, const char *ep, uint64_t g)
{
    size_t n = strlen(ep);

    fuzz_expect(n >= 1 && n <= 60 && strspn(ep, "abcdefghijklmnopqrstuvwxyz0123456789-") == n &&
                    !fuzz_planted(ENDPOINT_ID),
                ENDPOINT_ID);
    fuzz_expect((g <= INT64_MAX || g == UINT64_MAX) && !fuzz_planted(NUMBERS), NUMBERS);
    buf_addf(&t->text, "%s %s %" PRIu64 "\n", what, ep, g);
    t->n++;
}

/* What a client of its first role would be challenged with; a mock where there is none. */
static void tell_entry(struct told *t, struct directory_entry *e)
{
    struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
    struct directory_login l;

    directory_login(t->waker.directory, e, "x", "ann", &nowhere, &l);
    buf_addf(&t->text, "%d %d %d %d %02x%02x\n", directory_entry_parks(e), l.real, l.from_allowed,
             l.until_us == INT64_MAX, l.verifier.salt[0], l.verifier.stored_key[0]);
}

static void on_learn(void *arg, const char *ep, uint64_t g, const char *socket, int max, const char *pooler)
{
    struct told *t = arg;

    tell(t, "learn", ep, g);
    fuzz_expect(max >= 1 && max <= 100000, NUMBERS);
    buf_addf(&t->text, "at %s %d %s\n", socket, max, pooler != NULL ? pooler : "none");
}

static void on_answer(struct waker_guest *link, const struct waker_answer *answer)
{
    struct guest *guest = LIST_OWNER(link, struct guest, link);
    const struct wire_error *error = answer->error;
    int kinds = (answer->ep != NULL) + (answer->found != NULL) + (error != NULL);

    guest->answers += fuzz_planted(ANSWERED) ? 2 : 1;
    fuzz_expect(kinds == (guest->number == LOOKER ? 0 : 1) && guest->answers == 1, ANSWERED);
    fuzz_expect(answer->found == NULL || guest->number == FINDER, ANSWERED);
    buf_addf(&guest->told->text, "answer %d %s", guest->number, answer->ep != NULL ? answer->ep : "-");
    if (answer->found != NULL)
        tell_entry(guest->told, answer->found);
    if (error == NULL)
        return;
    fuzz_expect(strlen(error->sqlstate) == 5 && !fuzz_planted(ERROR_CODE), ERROR_CODE);
    buf_addf(&guest->told->text, "%s %s %s\n", error->sqlstate, error->message, error->hint);
}

static int on_hold(void *arg, const char *ep, uint64_t g)
{
    tell(arg, "hold", ep, g);
    return 0;
}

static void on_park(void *arg, const char *ep, uint64_t g, uint64_t question, bool whole)
{
    fuzz_expect(question <= INT64_MAX, NUMBERS);
    tell(arg, whole ? "park all" : "park", ep, g);
}

static void on_release(void *arg, const char *ep, uint64_t g)
{
    tell(arg, "release", ep, g);
}

static void on_gone(void *arg, const char *ep, uint64_t g)
{
    tell(arg, "gone", ep, g);
}

static void on_drop(void *arg, const char *ep)
{
    tell(arg, "drop", ep, 0);
}

static void on_lost(void *arg)
{
    ((struct told *)arg)->lost = true;
}

static void on_sessions(void *arg)
{
    (void)arg;
}

/* No input has descriptors, so the line that needs them must tell nothing. */
static void on_certificate(void *arg, int cert_fd, int key_fd)
{
    (void)arg;
    fuzz_expect(cert_fd >= 0 && key_fd >= 0, WHOLE_LINES);
}

static void on_others(void *arg, int64_t n)
{
    struct told *t = arg;

    fuzz_expect(n >= 0, NUMBERS);
    buf_addf(&t->text, "others %" PRId64 "\n", n);
    t->n++;
}

static void on_stray(void *arg, const uint8_t key[WIRE_KEY_SIZE])
{
    struct told *t = arg;

    buf_addf(&t->text, "stray %02x%02x\n", key[0], key[WIRE_KEY_SIZE - 1]);
    t->n++;
}

static bool on_retire(void *arg, int fd)
{
    (void)arg;
    fuzz_expect(fd >= 0, WHOLE_LINES);
    return false;
}

static const struct waker_ops OPS = {
    .learn = on_learn,
    .answer = on_answer,
    .hold = on_hold,
    .park = on_park,
    .release = on_release,
    .gone = on_gone,
    .drop = on_drop,
    .lost = on_lost,
    .sessions = on_sessions,
    .certificate = on_certificate,
    .others = on_others,
    .stray = on_stray,
    .retire = on_retire,
};

/* One for all runs: it is set, and never fires. */
static struct loop_timer *timer(void)
{
    static struct loop_timer *t;
    struct err err = ERR_INIT;

    if (t == NULL)
        t = loop_timer_new(loop_new(&err), try_connect, NULL);
    return t;
}

/* A waker without a connection, and five who ask: questions 1 (twice) and 2, then FIND and LOOK. */
static void told_init(struct told *t)
{
    static const uint8_t KEY[CRYPT_KEY_SIZE] = { 1 };
    static const char *const NAMES[] = {
        [FIRST] = "ep-misty-sea-a5833nbi", [SAME] = "ep-misty-sea-a5833nbi", [OTHER] = "ep-other-sun-b6944ocj"
    };

    *t = (struct told){ .n = 0 };
    t->waker = (struct waker){ .ops = &OPS, .arg = t, .stream = { .fd = -1 }, .retry = timer() };
    t->waker.directory = directory_new();
    directory_renew(t->waker.directory, KEY);
    list_init(&t->waker.asks);
    for (int i = 0; i < GUESTS; i++) {
        t->guests[i] = (struct guest){ .told = t, .number = i };
        list_init(&t->guests[i].link.link);
        if (i == FINDER)
            waker_find(&t->waker, &t->guests[i].link, "main");
        else if (i == LOOKER)
            (void)waker_look(&t->waker, &t->guests[i].link, NULL);
        else
            waker_wake(&t->waker, &t->guests[i].link, "endpoint", NAMES[i], "db", "", false);
    }
}

static void told_fini(struct told *t)
{
    for (int i = 0; i < GUESTS; i++)
        waker_leave(&t->guests[i].link);
    while (!list_is_empty(&t->waker.asks))
        ask_free(LIST_OWNER(t->waker.asks.next, struct waker_ask, link));
    directory_entry_free(t->waker.pending.entry);
    directory_free(t->waker.directory);
    buf_fini(&t->waker.in);
    buf_fini(&t->text);
}

/* step 0: cut at random; never more than waker reads at once. */
static void read_in_steps(struct told *t, const uint8_t *data, size_t len, size_t step, uint64_t seed)
{
    told_init(t);
    for (size_t at = 0; at < len && !t->lost;) {
        size_t n = step != 0 ? step : 1 + fuzz_below(&seed, WAKER_LINE_MAX);

        n = n < len - at ? n : len - at;
        buf_add(&t->waker.in, data + at, n);
        take_lines(&t->waker);
        at += n;
    }
    tell_entry(t, directory_find(t->waker.directory, "ep-misty-sea-a5833nbi"));
    buf_addf(&t->text, "%d\n", directory_is_complete(t->waker.directory));
}

/* How many lines may tell something, and whether the connection is lost. */
static size_t count_plainly(const uint8_t *data, size_t len, bool *ret_lost)
{
    static const char *const WORDS[] = { "OK ",   "HOLD ", "GONE ",   "RELEASE ",
                                         "DROP ", "PARK ", "OTHERS ", "STRAY " };
    size_t n = 0;

    *ret_lost = false;
    while (len > 0 && !*ret_lost) {
        const uint8_t *end = memchr(data, '\n', len);
        size_t line = end != NULL ? (size_t)(end - data) + 1 : len;

        *ret_lost = line > WAKER_LINE_MAX || (end == NULL && line == WAKER_LINE_MAX);
        for (size_t i = 0; i < N_ELEMENTS(WORDS) && end != NULL && !*ret_lost; i++)
            n += line > strlen(WORDS[i]) && memcmp(data, WORDS[i], strlen(WORDS[i])) == 0 &&
                 memchr(data, 0, line) == NULL;
        data += line;
        len -= line;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint64_t seed = 0x9E3779B97F4A7C15u + fuzz_byte(&in);
    struct told whole, others;
    bool lost;
    size_t most = count_plainly(in.data, in.len, &lost);

    read_in_steps(&whole, in.data, in.len, WAKER_LINE_MAX, seed);
    fuzz_expect(whole.n <= most && !(fuzz_planted(WHOLE_LINES) && whole.n > 0), WHOLE_LINES);
    fuzz_expect(whole.lost == lost && !(fuzz_planted(TOO_LONG) && lost), TOO_LONG);
    for (int i = 0; i < 2; i++) {
        read_in_steps(&others, in.data, in.len, i == 0 ? 1 : 0, seed);
        if (fuzz_planted(SAME_TOLD) && others.n > 0)
            others.text.len--;
        fuzz_expect(others.lost == whole.lost && strcmp(buf_str(&others.text), buf_str(&whole.text)) == 0,
                    SAME_TOLD);
        told_fini(&others);
    }
    told_fini(&whole);
    return 0;
}
