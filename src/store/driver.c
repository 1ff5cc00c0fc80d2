/*
 * driver.c - the list of drivers
 *
 * Any thread.  Adding a driver is adding a line here; which one is used is decided in open.c.
 */
#include "store/driver.h"

#include "base/fs.h"

static const struct store_driver *const DRIVERS[] = { &STORE_BTRFS, &STORE_REFLINK, &STORE_COPY };

const struct store_driver *driver_find(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS(DRIVERS); i++)
        if (strcmp(DRIVERS[i]->name, name) == 0)
            return DRIVERS[i];
    return NULL;
}

int driver_try(const char *dir, int (*fn)(const char *scratch, struct err *err), struct err *err)
{
    auto_free char *scratch = xasprintf("%s/.probe", dir);
    struct err ignored = ERR_INIT;
    int rc;

    if (fs_remove_tree(scratch, false, err) < 0 || fs_mkdir(scratch, 0700, (uid_t)-1, (gid_t)-1, err) < 0)
        return -1;
    rc = fn(scratch, err);
    if (fs_remove_tree(scratch, false, rc == 0 ? err : &ignored) < 0)
        return -1;
    return rc;
}
