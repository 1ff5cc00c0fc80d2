/*
 * limits.c - meters of addresses and endpoints in two tables of fixed size
 *
 * A meter is found by a keyed hash, so that nobody outside can choose which ones share a set; its full 64
 * bits stand for the name, which is not kept.  A stranger who invents names only ever pushes out what was not
 * used for longest, and loses nothing but its own count by it.
 */
#include "proxy/limits.h"

#include "base/crypt.h"

#define SETS     1024
#define WAYS     8
#define TOLD_MAX 32 /* at once */

static const struct rate_limit TOLD = { { 50, 50, 50 } };

struct meter {
    uint64_t id; /* 0 = free */
    int64_t used_us;
    struct rate_bucket bucket;
    size_t unproved; /* while there are some it stays */
};

struct limits {
    struct limits_config cfg;
    uint8_t key[CRYPT_KEY_SIZE];
    size_t unproved, told;
    struct rate_bucket telling;
    struct meter addresses[SETS * WAYS], endpoints[SETS * WAYS];
};

struct limits *limits_new(const struct limits_config *cfg)
{
    struct limits *l = xcalloc(1, sizeof(*l));

    l->cfg = *cfg;
    crypt_random(l->key, sizeof(l->key));
    return l;
}

void limits_free(struct limits *l)
{
    free(l);
}

/* The meter of this name; NULL when all that it could have are held by others. */
static struct meter *meter_of(struct limits *l, struct meter *table, const void *name, size_t len,
                              int64_t now_us)
{
    uint8_t hash[CRYPT_SHA256_SIZE];
    struct meter *set, *oldest = NULL;
    uint64_t id;

    crypt_hmac(l->key, name, len, hash);
    memcpy(&id, hash, sizeof(id));
    id |= id == 0;
    set = &table[id % SETS * WAYS];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].id == id) {
            set[i].used_us = now_us;
            return &set[i];
        }
        if (set[i].unproved == 0 && (oldest == NULL || set[i].used_us < oldest->used_us))
            oldest = &set[i];
    }
    if (oldest != NULL)
        *oldest = (struct meter){ .id = id, .used_us = now_us };
    return oldest;
}

static enum limits_verdict enter_from(struct limits *l, struct limits_guest *guest, const void *address,
                                      size_t len, int64_t now_us)
{
    struct meter *m = meter_of(l, l->addresses, address, len, now_us);

    if (m == NULL)
        return LIMITS_ALL;
    if (m->unproved >= l->cfg.max_unproved_per_address)
        return LIMITS_ADDRESS;
    if (!rate_take(&m->bucket, &l->cfg.per_address, now_us))
        return LIMITS_RATE;
    m->unproved++;
    guest->address = m;
    return LIMITS_PASS;
}

enum limits_verdict limits_enter(struct limits *l, struct limits_guest *guest, const void *address,
                                 size_t len, int64_t now_us)
{
    enum limits_verdict verdict = LIMITS_PASS;

    *guest = (struct limits_guest){ 0 };
    if (l->unproved >= l->cfg.max_unproved)
        return LIMITS_ALL;
    if (len > 0)
        verdict = enter_from(l, guest, address, len, now_us);
    if (verdict != LIMITS_PASS)
        return verdict;
    l->unproved++;
    guest->unproved = true;
    return LIMITS_PASS;
}

bool limits_tell(struct limits *l, struct limits_guest *guest, int64_t now_us)
{
    if (l->told >= TOLD_MAX || !rate_take(&l->telling, &TOLD, now_us))
        return false;
    l->told++;
    guest->told = true;
    return true;
}

void limits_proved(struct limits *l, struct limits_guest *guest)
{
    l->told -= guest->told;
    l->unproved -= guest->unproved;
    if (guest->address != NULL)
        guest->address->unproved--;
    *guest = (struct limits_guest){ 0 };
}

bool limits_endpoint(struct limits *l, const char *name, int64_t now_us)
{
    struct meter *m = meter_of(l, l->endpoints, name, strlen(name), now_us);

    return m != NULL && rate_take(&m->bucket, &l->cfg.per_endpoint, now_us);
}
