/*
 * fuzz_sasl.c - both sides of a login: what a client sends before he is known, and what a compute answers
 *
 * Input: one byte (the lowest bit: a client's bytes, or a compute's; the rest decides the cuts), then the
 * bytes.  All that is random elsewhere is fixed here, so that there is one right exchange, and seeds hold it.
 */
#include "fuzz.h"

#include <string.h>

#include "proxy/auth.h"
#include "proxy/login.h"

static const char SAME_END[] = "the end is the same however the stream is cut";
static const char NO_OTHER_WAY[] = "only the right exchange lets anybody in";
static const char THE_REST[] = "what lies behind the end stays as it came";
static const char A_REFUSAL[] = "an invalid message is refused with a code and a sentence";
static const char BOUNDED[] = "no more is kept than a message may have";

const char *const fuzz_properties[] = { SAME_END, NO_OTHER_WAY, THE_REST, A_REFUSAL, BOUNDED, NULL };

#define KEPT_MAX (16 * 1024 + 4096)

static const uint8_t RANDOM[SCRAM_RANDOM_SIZE] = { 7 };

/* Of the password "pencil", with the salt of RFC 7677. */
static const char VERIFIER[] = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
                               "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                               "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
static const uint8_t CLIENT_KEY[SCRAM_KEY_SIZE] = {
    0xA6, 0x0F, 0xC9, 0x23, 0xD6, 0x7E, 0x86, 0x44, 0xA9, 0x2D, 0x16, 0xB9, 0x6E, 0xDA, 0x5E, 0xF4,
    0x65, 0x6B, 0x0C, 0x72, 0x5C, 0x48, 0x43, 0x74, 0xBE, 0x25, 0x53, 0x55, 0x76, 0x99, 0x6E, 0x8B,
};

/* The bytes up to the proof of the right client, and of the right compute up to AuthenticationOk. */
static const char RIGHT_CLIENT[] = "p\000\000\000!SCRAM-SHA-256\000\000\000\000\013n,,n=,r=abc"
                                   "p\000\000\000Wc=biws,r=abcBwAAAAAAAAAAAAAAAAAAAAAA,p=y3YN2/bjoxh/fSKo"
                                   "1T78z95WrIrPSWY/3L36Ty68ORM=";
/* The same by a client that sends its first message when it is asked again. */
static const char RIGHT_OLD[] = "p\000\000\000\026SCRAM-SHA-256\000\377\377\377\377"
                                "p\000\000\000\017n,,n=,r=abc"
                                "p\000\000\000Wc=biws,r=abcBwAAAAAAAAAAAAAAAAAAAAAA,p=y3YN2/bjoxh/fSKo"
                                "1T78z95WrIrPSWY/3L36Ty68ORM=";
static const char RIGHT_COMPUTE[] =
    "R\000\000\000\027\000\000\000\012SCRAM-SHA-256\000\000"
    "R\000\000\000G\000\000\000\013r=BwAAAAAAAAAAAAAAAAAAAAAAxyz,s=W22ZaJ0SNY7soEsUEjb"
    "6gQ==,i=4096"
    "R\000\000\0006\000\000\000\014v=3a3sHEpZE5KjN0dQpn28k/x55rDxpI3r/wntwRw04BY="
    "R\000\000\000\010\000\000\000\000";

struct outcome {
    int result;
    size_t left; /* bytes that were not taken */
    struct buf said;
    struct wire_error e;
};

static const struct scram_verifier *verifier(void)
{
    static struct scram_verifier v;
    struct err err = ERR_INIT;

    if (v.iterations == 0 && scram_verifier_parse(VERIFIER, &v, &err) < 0)
        abort();
    return &v;
}

static size_t next_cut(uint64_t *seed, size_t left)
{
    size_t n = *seed != 0 ? 1 + fuzz_below(seed, 60) : left;

    return n < left ? n : left;
}

static void run_auth(const uint8_t *data, size_t len, uint64_t seed, struct outcome *ret)
{
    auto_buf in = { 0 }, offer = { 0 };
    struct auth *a = auth_new(NULL, RANDOM, &offer);
    enum auth_result r = AUTH_MORE;
    size_t at = 0;

    auth_choose(a, verifier(), false);
    while (at < len && r == AUTH_MORE) {
        size_t n = next_cut(&seed, len - at);

        buf_add(&in, data + at, n);
        at += n;
        r = auth_next(a, &in, &ret->said, &ret->e);
        fuzz_expect((r != AUTH_MORE || in.len <= KEPT_MAX) && !fuzz_planted(BOUNDED), BOUNDED);
    }
    ret->result = (int)r;
    ret->left = r == AUTH_PROVED || r == AUTH_DENIED ? in.len + (len - at) : 0;
    auth_free(a);
}

static void run_login(const uint8_t *data, size_t len, uint64_t seed, struct outcome *ret)
{
    auto_buf in = { 0 }, startup = { 0 };
    struct login *l = login_new(&startup, RANDOM, &ret->said);
    enum login_result r = LOGIN_MORE;
    size_t at = 0;

    while (at < len && r == LOGIN_MORE) {
        size_t n = next_cut(&seed, len - at);

        buf_add(&in, data + at, n);
        at += n;
        while ((r = login_next(l, &in)) == LOGIN_CHALLENGED)
            login_prove(l, CLIENT_KEY, verifier()->server_key, &ret->said);
        fuzz_expect((r != LOGIN_MORE || in.len <= KEPT_MAX) && !fuzz_planted(BOUNDED), BOUNDED);
    }
    ret->result = (int)r;
    ret->left = r == LOGIN_DONE || r == LOGIN_REFUSED ? in.len + (len - at) : 0;
    login_free(l);
}

static void run(bool client, const uint8_t *data, size_t len, uint64_t seed, struct outcome *ret)
{
    *ret = (struct outcome){ .result = 0 };
    if (client)
        run_auth(data, len, seed, ret);
    else
        run_login(data, len, seed, ret);
}

static bool lets_in(bool client, const struct outcome *o)
{
    return client ? o->result == AUTH_PROVED : o->result == LOGIN_DONE;
}

static bool begins(const uint8_t *data, size_t len, const char *right, size_t n)
{
    return len >= n && memcmp(data, right, n) == 0;
}

/* A compute may say more on the way (notices, other mechanisms), but not without having proved itself. */
static void check_way(bool client, const uint8_t *data, size_t len)
{
    static const char PROOF[] = "v=3a3sHEpZE5KjN0dQpn28k/x55rDxpI3r/wntwRw04BY=";
    bool right = client ? begins(data, len, RIGHT_CLIENT, sizeof(RIGHT_CLIENT) - 1) ||
                              begins(data, len, RIGHT_OLD, sizeof(RIGHT_OLD) - 1)
                        : memmem(data, len, PROOF, strlen(PROOF)) != NULL;

    fuzz_expect(right && !fuzz_planted(NO_OTHER_WAY), NO_OTHER_WAY);
}

static void check_end(bool client, const uint8_t *data, size_t len, const struct outcome *o)
{
    const char *right = client ? RIGHT_CLIENT : RIGHT_COMPUTE;
    size_t n = client ? sizeof(RIGHT_CLIENT) - 1 : sizeof(RIGHT_COMPUTE) - 1;
    size_t behind = client ? 0 : 9; /* AuthenticationOk is the client's */

    if (lets_in(client, o))
        check_way(client, data, len);
    if (begins(data, len, right, n))
        fuzz_expect(lets_in(client, o) && o->left == len - n + behind && !fuzz_planted(THE_REST), THE_REST);
    if (client && o->result == AUTH_INVALID)
        fuzz_expect(strlen(o->e.sqlstate) == WIRE_SQLSTATE_LEN && o->e.message[0] != '\0' &&
                        !fuzz_planted(A_REFUSAL),
                    A_REFUSAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint8_t head = fuzz_byte(&in);
    bool client = (head & 1) == 0;
    struct outcome whole, other;

    run(client, in.data, in.len, 0, &whole);
    check_end(client, in.data, in.len, &whole);
    run(client, in.data, in.len, 0x9E3779B97F4A7C15u + head, &other);
    if (fuzz_planted(SAME_END))
        other.result++;
    fuzz_expect(other.result == whole.result && other.left == whole.left &&
                    strcmp(buf_str(&other.said), buf_str(&whole.said)) == 0,
                SAME_END);
    buf_fini(&whole.said);
    buf_fini(&other.said);
    return 0;
}
