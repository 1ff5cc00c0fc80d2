#include "pg/relmap.h"

#include "base/err.h"
#include "base/fs.h"

#include <string.h>
#include <sys/stat.h>

/* utils/cache/relmapper.c: a magic number, a count, then pairs of a catalog's OID and its file's number. */
enum { MAGIC = 0x592717, HEAD = 8, PAIR = 8, PG_SUBSCRIPTION = 6100 };

static uint32_t get32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* The file of a shared catalog; 0 = the map does not say. */
static uint32_t shared_file(struct arena *a, const char *pgdata, uint32_t oid)
{
    struct err unread = ERR_INIT;
    char *map;
    size_t len;
    if (fs_read_nofollow(a, arena_printf(a, "%s/global/pg_filenode.map", pgdata), 4096, &map, &len, &unread) <
            0 ||
        len < HEAD || get32(map) != MAGIC)
        return 0;
    for (size_t i = 0; i < get32(map + 4) && HEAD + (i + 1) * PAIR <= len; i++)
        if (get32(map + HEAD + i * PAIR) == oid)
            return get32(map + HEAD + i * PAIR + 4);
    return 0;
}

bool pg_may_have_subscriptions(const char *pgdata)
{
    auto_arena *a = arena_new(0);
    uint32_t file = shared_file(a, pgdata, PG_SUBSCRIPTION);
    struct stat st;
    /* A page of a table is in its file, if only as zeros, as soon as the table has it. */
    return file == 0 || lstat(arena_printf(a, "%s/global/%u", pgdata, (unsigned)file), &st) < 0 ||
           st.st_size > 0;
}
