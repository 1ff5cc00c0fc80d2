/*
 * meta_bed.h - what the tests of the metadata share: a file of their own, an arena, an error, and rows to
 * start from
 */
#ifndef MERE_TESTS_META_BED_H
#define MERE_TESTS_META_BED_H

#include "meta/db.h"

#include <check.h>

#include "meta/branch.h"
#include "meta/image.h"
#include "meta/project.h"

extern const char *meta_path;
extern struct db *meta_db;
extern struct arena *meta_arena;
extern struct err meta_err;
#define A meta_arena
#define E meta_err

void meta_setup(void);
void meta_teardown(void);

#define OK(call) ck_assert_msg((call) == 0, "%s: %s (%s)", #call, E.msg, E.detail)
/* Fails with this code, and says nothing of SQL to a stranger. */
#define FAILS(want, call)                                                                                    \
    do {                                                                                                     \
        E = (struct err)ERR_INIT;                                                                            \
        ck_assert_msg((call) == -1, "%s did not fail", #call);                                               \
        ck_assert_msg(E.code == (want), "%s: %s (%s)", #call, E.msg, E.detail);                              \
        ck_assert_msg(strstr(E.msg, "SELECT") == NULL && strstr(E.msg, "constraint") == NULL, "%s", E.msg);  \
    } while (0)
#define COMMIT() OK(db_commit(c, &E))
#define WRITE()                                                                                              \
    auto_dbc *c = NULL;                                                                                      \
    OK(db_write(meta_db, &c, &E))
#define READ()                                                                                               \
    auto_dbc *c = NULL;                                                                                      \
    OK(db_read(meta_db, &c, &E))

/* TESTS(tcase, test, ...) */
void meta_add_tests(TCase *t, const TTest *const *tests, size_t n);
#define TESTS(t, ...)                                                                                        \
    meta_add_tests(t, (const TTest *const[]){ __VA_ARGS__ },                                                 \
                   N_ELEMENTS(((const TTest *const[]){ __VA_ARGS__ })))

struct project a_project(const char *id, const char *name, int64_t created_at);
void add_project(struct dbc *c, const char *id, const char *name, int64_t created_at);
/* Branches are of project "p". */
struct branch a_branch(const char *id, const char *name, int64_t at);
void add_branch(struct dbc *c, const char *id, const char *name, const char *parent_id, int64_t at);
void add_image(struct dbc *c, const char *id, const char *branch_id, const char *state, uint64_t lsn,
               int64_t at);

#endif
