/*
 * directory.c - endpoints by id, roles by name
 *
 * Roles are kept in one block for each endpoint, with their texts behind, and sorted once, when the entry is
 * first looked into: it comes in one piece and is never changed.
 */
#include "proxy/directory.h"

#include <string.h>

#include "base/ip.h"

#define N_BUCKETS 4096 /* ten thousand endpoints are many */
#define N_SETTLED 4096 /* a power of two */

struct role {
    char *name;
    struct scram_verifier verifier;
    bool real;
    int64_t until_us;
};

struct directory_entry {
    struct directory_entry *next; /* in the bucket */
    uint64_t round;               /* of the directory that named it last */
    char id[ID_MAX + 1];
    char *ips; /* NULL = from everywhere */
    bool parks;
    struct role *roles;
    size_t n, cap;
    bool sorted;
};

struct directory {
    uint8_t key[CRYPT_KEY_SIZE];
    uint64_t round;
    bool complete;
    struct directory_entry *buckets[N_BUCKETS];
    uint64_t settled[N_SETTLED];
};

/* --- entries
 * --------------------------------------------------------------------------------------------------------
 */

struct directory_entry *directory_entry_new(const char *id, const char *ips, bool parks)
{
    struct directory_entry *e = xcalloc(1, sizeof(*e));

    snprintf(e->id, sizeof(e->id), "%s", id);
    e->ips = ips != NULL ? xstrdup(ips) : NULL;
    e->parks = parks;
    return e;
}

void directory_entry_free(struct directory_entry *e)
{
    if (e == NULL)
        return;
    for (size_t i = 0; i < e->n; i++)
        free(e->roles[i].name);
    if (e->n > 0)
        explicit_bzero(e->roles, e->n * sizeof(*e->roles));
    free(e->roles);
    free(e->ips);
    free(e);
}

/* Not by realloc, which would leave secrets behind. */
static void make_room(struct directory_entry *e)
{
    struct role *more;

    if (e->n < e->cap)
        return;
    e->cap = e->cap > 0 ? e->cap * 2 : 4;
    more = xcalloc(e->cap, sizeof(*more));
    if (e->n > 0) {
        memcpy(more, e->roles, e->n * sizeof(*more));
        explicit_bzero(e->roles, e->n * sizeof(*more));
    }
    free(e->roles);
    e->roles = more;
}

int directory_entry_add(struct directory_entry *e, const char *role, const char *verifier, int64_t until_us)
{
    struct role *r;
    struct err err = ERR_INIT;

    make_room(e);
    r = &e->roles[e->n++];
    *r = (struct role){ .name = xstrdup(role), .until_us = until_us };
    e->sorted = false;
    if (verifier == NULL)
        return 0;
    r->real = scram_verifier_parse(verifier, &r->verifier, &err) == 0;
    return r->real ? 0 : -1;
}

const char *directory_entry_id(const struct directory_entry *e)
{
    return e->id;
}

bool directory_entry_parks(const struct directory_entry *e)
{
    return e != NULL && e->parks;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct role *)a)->name, ((const struct role *)b)->name);
}

static int has_name(const void *name, const void *role)
{
    return strcmp(name, ((const struct role *)role)->name);
}

static const struct role *find_role(struct directory_entry *e, const char *name)
{
    if (e == NULL || e->n == 0)
        return NULL;
    if (!e->sorted)
        qsort(e->roles, e->n, sizeof(*e->roles), by_name);
    e->sorted = true;
    return bsearch(name, e->roles, e->n, sizeof(*e->roles), has_name);
}

/* --- all of them
 * ----------------------------------------------------------------------------------------------------
 */

struct directory *directory_new(void)
{
    struct directory *d = xcalloc(1, sizeof(*d));

    crypt_random(d->key, sizeof(d->key)); /* nobody is challenged before there is another */
    return d;
}

void directory_free(struct directory *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        struct directory_entry *e, *next;

        for (e = d->buckets[i]; e != NULL; e = next) {
            next = e->next;
            directory_entry_free(e);
        }
    }
    explicit_bzero(d, sizeof(*d));
    free(d);
}

/* Where id is, or where it would come. */
static struct directory_entry **slot_of(struct directory *d, const char *id)
{
    uint32_t h = 2166136261u; /* FNV-1a: ids are random already, and made by us */
    struct directory_entry **slot;

    for (const char *p = id; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    slot = &d->buckets[h % N_BUCKETS];
    while (*slot != NULL && strcmp((*slot)->id, id) != 0)
        slot = &(*slot)->next;
    return slot;
}

static void remove_at(struct directory_entry **slot)
{
    struct directory_entry *e = *slot;

    *slot = e->next;
    directory_entry_free(e);
}

void directory_renew(struct directory *d, const uint8_t key[CRYPT_KEY_SIZE])
{
    memcpy(d->key, key, CRYPT_KEY_SIZE);
    d->round++;
}

void directory_complete(struct directory *d)
{
    for (size_t i = 0; i < N_BUCKETS; i++) {
        struct directory_entry **slot = &d->buckets[i];

        while (*slot != NULL) {
            if ((*slot)->round != d->round)
                remove_at(slot);
            else
                slot = &(*slot)->next;
        }
    }
    d->complete = true;
}

bool directory_is_complete(const struct directory *d)
{
    return d->complete;
}

void directory_put(struct directory *d, struct directory_entry *e)
{
    struct directory_entry **slot;

    directory_forget(d, e->id);
    slot = slot_of(d, e->id);
    e->round = d->round;
    *slot = e;
}

void directory_forget(struct directory *d, const char *id)
{
    struct directory_entry **slot = slot_of(d, id);

    if (*slot != NULL)
        remove_at(slot);
}

struct directory_entry *directory_find(struct directory *d, const char *id)
{
    return *slot_of(d, id);
}

void directory_login(const struct directory *d, struct directory_entry *e, const char *name, const char *role,
                     const struct sockaddr *from, struct directory_login *ret)
{
    const struct role *r = find_role(e, role);
    auto_free char *both = xasprintf("%s/%s", name, role); /* an id has no '/' */

    *ret = (struct directory_login){ .until_us = r != NULL ? r->until_us : INT64_MAX };
    ret->from_allowed = e != NULL && (e->ips == NULL || ip_list_has(e->ips, from));
    ret->real = r != NULL && r->real;
    if (ret->real)
        ret->verifier = r->verifier;
    else
        scram_verifier_mock(d->key, both, &ret->verifier);
}

/* --- what need not be asked again
 * ------------------------------------------------------------------------------------
 */

/* 0 is a slot that was never used. */
static uint64_t settled_hash(const struct directory *d, const void *at, size_t len)
{
    uint8_t hash[CRYPT_SHA256_SIZE];
    uint64_t h;

    crypt_hmac(d->key, at, len, hash);
    memcpy(&h, hash, sizeof(h));
    return h | 1ULL << 63;
}

bool directory_is_settled(const struct directory *d, const void *at, size_t len)
{
    uint64_t h = settled_hash(d, at, len);

    return d->settled[h % N_SETTLED] == h;
}

void directory_settle(struct directory *d, const void *at, size_t len)
{
    uint64_t h = settled_hash(d, at, len);

    d->settled[h % N_SETTLED] = h;
}
