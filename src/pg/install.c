#include "pg/install.h"

#include "base/fs.h"
#include "base/text.h"

#include <stdlib.h>
#include <unistd.h>

#define PG_ROOT "/usr/lib/postgresql"

static int by_major(const void *x, const void *y)
{
    const struct pg_install *p = x, *q = y;
    return p->major < q->major ? -1 : p->major > q->major;
}

int pg_install_scan(struct arena *a, struct pg_install **ret, size_t *ret_n, struct err *err)
{
    const char **names = NULL;
    size_t n = 0, found = 0;
    struct err ignored = ERR_INIT;
    if (fs_list(a, PG_ROOT, &names, &n, &ignored) < 0)
        n = 0;
    struct pg_install *list = arena_alloc(a, (n + 1) * sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        int64_t major;
        if (!text_to_i64(names[i], PG_OLDEST_MAJOR, 99, &major))
            continue;
        const char *bindir = arena_printf(a, PG_ROOT "/%s/bin", names[i]);
        if (access(arena_printf(a, "%s/postgres", bindir), X_OK) == 0 &&
            access(arena_printf(a, "%s/initdb", bindir), X_OK) == 0)
            list[found++] = (struct pg_install){ .major = major, .bindir = bindir };
    }
    if (found == 0)
        return err_set(err, ERR_PRECONDITION,
                       "no Postgres server (version %d or later) found under " PG_ROOT
                       "; install one, for example: apt-get install postgresql",
                       PG_OLDEST_MAJOR);
    qsort(list, found, sizeof(*list), by_major);
    *ret = list;
    *ret_n = found;
    return 0;
}
