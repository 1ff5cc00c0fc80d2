/*
 * t_directory.c - who may log in where: replacing, forgetting, mocks, addresses
 */
#include "proxy/directory.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>

#include "scram_bed.h"

Suite *t_directory_suite(void);

#define EP1 "ep-misty-sea-a5833nbi"
#define EP2 "ep-other-sun-b6944ocj"

static const uint8_t KEY[CRYPT_KEY_SIZE] = { 1, 2, 3 };

static struct directory *dir;

static void setup(void)
{
    scram_bed_setup();
    dir = directory_new();
    directory_renew(dir, KEY);
}

static void teardown(void)
{
    directory_free(dir);
    scram_bed_teardown();
}

static struct directory_login of(struct directory_entry *e, const char *name, const char *role,
                                 const char *ip)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct directory_login l;

    inet_pton(AF_INET, ip, &from.sin_addr);
    directory_login(dir, e, name, role, (struct sockaddr *)&from, &l);
    return l;
}

static struct directory_login at(const char *ep, const char *role)
{
    return of(directory_find(dir, ep), ep, role, "10.1.2.3");
}

static void put(const char *ep, const char *role, const char *ips)
{
    struct directory_entry *e = directory_entry_new(ep, ips, false);

    ck_assert_int_eq(directory_entry_add(e, role, here.text, INT64_MAX), 0);
    directory_put(dir, e);
}

static bool same(const struct directory_login *a, const struct directory_login *b)
{
    return memcmp(&a->verifier, &b->verifier, sizeof(a->verifier)) == 0;
}

START_TEST(roles)
{
    struct directory_entry *e = directory_entry_new(EP1, NULL, false);
    struct directory_login l;

    for (int i = 0; i < 300; i++) /* in no order */
        ck_assert_int_eq(
            directory_entry_add(e, arena_printf(here.arena, "role%d", i * 7 % 300), here.text, i), 0);
    ck_assert_int_eq(directory_entry_add(e, "none", NULL, INT64_MAX), 0);
    ck_assert_int_eq(directory_entry_add(e, "bad", "md5abc", INT64_MAX), -1);
    directory_put(dir, e);
    for (int i = 0; i < 300; i++) {
        l = at(EP1, arena_printf(here.arena, "role%d", i * 7 % 300));
        ck_assert(l.real && l.from_allowed);
        ck_assert_int_eq(l.until_us, i);
        ck_assert_mem_eq(&l.verifier, &here.verifier, sizeof(l.verifier));
    }
    ck_assert(!at(EP1, "none").real && !at(EP1, "bad").real && !at(EP1, "role300").real && !at(EP1, "").real);
}
END_TEST

/* The same every time, another for each name, and with what a real one has. */
START_TEST(mocks)
{
    struct directory_login a, b;

    put(EP1, "ann", NULL);
    a = at(EP1, "nobody");
    b = at(EP1, "nobody");
    ck_assert(same(&a, &b) && !a.real && a.from_allowed);
    ck_assert_int_eq(a.verifier.iterations, here.verifier.iterations);
    ck_assert_uint_eq(a.verifier.salt_len, here.verifier.salt_len);
    b = at(EP1, "somebody");
    ck_assert(!same(&a, &b));
    b = at(EP2, "nobody"); /* an endpoint that is not there */
    ck_assert(!same(&a, &b) && !b.real && !b.from_allowed);
    directory_free(dir);
    dir = directory_new();
    directory_renew(dir, KEY);
    b = at(EP1, "nobody"); /* known or not, and in another process: the same */
    ck_assert(same(&a, &b));
    a = at(EP1, "ann");
    put(EP1, "ann", NULL);
    b = at(EP1, "ann");
    ck_assert(!same(&a, &b));
}
END_TEST

START_TEST(replacing_and_forgetting)
{
    ck_assert(!directory_is_complete(dir));
    put(EP1, "ann", NULL);
    put(EP1, "bob", NULL);
    ck_assert(at(EP1, "bob").real && !at(EP1, "ann").real);
    directory_forget(dir, EP1);
    directory_forget(dir, EP1);
    ck_assert_ptr_null(directory_find(dir, EP1));
    ck_assert(!at(EP1, "bob").real);
    put(EP1, "ann", NULL);
    put(EP2, "ann", NULL);
    directory_renew(dir, KEY);
    put(EP2, "bob", NULL);
    ck_assert(at(EP1, "ann").real); /* holds until it is complete */
    directory_renew(dir, KEY);      /* cut off, and begun again */
    put(EP2, "bob", NULL);
    directory_complete(dir);
    ck_assert(directory_is_complete(dir));
    ck_assert_ptr_null(directory_find(dir, EP1));
    ck_assert(at(EP2, "bob").real);
    directory_renew(dir, KEY);
    directory_complete(dir);
    ck_assert_ptr_null(directory_find(dir, EP2));
    ck_assert(directory_is_complete(dir));
}
END_TEST

START_TEST(many)
{
    for (int i = 0; i < 20000; i++)
        put(arena_printf(here.arena, "ep-x-y-%d", i), "ann", NULL);
    for (int i = 0; i < 20000; i++)
        ck_assert(at(arena_printf(here.arena, "ep-x-y-%d", i), "ann").real);
}
END_TEST

START_TEST(addresses)
{
    struct directory_entry *e;

    put(EP1, "ann", "10.0.0.0/8,192.168.1.1");
    e = directory_find(dir, EP1);
    ck_assert(of(e, EP1, "ann", "10.255.0.1").from_allowed && of(e, EP1, "ann", "192.168.1.1").from_allowed);
    ck_assert(!of(e, EP1, "ann", "11.0.0.1").from_allowed &&
              !of(e, EP1, "nobody", "192.168.1.2").from_allowed);
    put(EP1, "ann", "nonsense");
    ck_assert(!of(directory_find(dir, EP1), EP1, "ann", "10.0.0.1").from_allowed);
}
END_TEST

START_TEST(what_is_settled)
{
    ck_assert(!directory_is_settled(dir, "a", 1));
    directory_settle(dir, "a", 1);
    ck_assert(directory_is_settled(dir, "a", 1));
    ck_assert(!directory_is_settled(dir, "b", 1) && !directory_is_settled(dir, "a", 2));
    for (int i = 0; i < 100000; i++) /* others push it out; the table does not grow */
        directory_settle(dir, &i, sizeof(i));
    ck_assert(!directory_is_settled(dir, "a", 1));
}
END_TEST

Suite *t_directory_suite(void)
{
    Suite *s = suite_create("directory");
    TCase *t = tcase_create("directory");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, roles);
    tcase_add_test(t, mocks);
    tcase_add_test(t, replacing_and_forgetting);
    tcase_add_test(t, many);
    tcase_add_test(t, addresses);
    tcase_add_test(t, what_is_settled);
    suite_add_tcase(s, t);
    return s;
}
