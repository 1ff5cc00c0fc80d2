/*
 * t_ip.c - which addresses are in a list, and what is no list
 */
#include "base/ip.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

Suite *t_ip_suite(void);

static bool has(const char *list, const char *address)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        return ip_list_has(list, (const struct sockaddr *)&v4);
    ck_assert_int_eq(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
    return ip_list_has(list, (const struct sockaddr *)&v6);
}

START_TEST(members)
{
    static const struct {
        const char *list, *in, *out;
    } CASES[] = {
        { "10.0.0.1", "10.0.0.1", "10.0.0.2" },
        { "10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2" },
        { "::ffff:10.0.0.1", "10.0.0.1", "::10.0.0.1" },
        { "10.0.0.0/8", "10.255.255.255", "11.0.0.0" },
        { "10.1.2.3/8", "10.0.0.0", "9.255.255.255" }, /* behind the prefix nothing counts */
        { "10.0.0.128/25", "10.0.0.128", "10.0.0.127" },
        { "10.0.0.1/32", "10.0.0.1", "10.0.0.0" },
        { "0.0.0.0/0", "255.255.255.255", "::1" }, /* all of one family */
        { "::/0", "2001:db8::1", "10.0.0.1" },
        { "::ffff:0:0/90", "::fffe:1:1", "10.0.0.1" },
        { "::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0" },
        { "2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::" },
        { "10.0.0.5-10.0.0.9", "10.0.0.5", "10.0.0.4" },
        { "10.0.0.5-10.0.1.1", "10.0.1.1", "10.0.1.2" },
        { "2001:db8::5-2001:db8::1:0", "2001:db8::ffff", "2001:db8::4" },
        { "10.0.0.1,192.168.0.0/16,::1", "192.168.3.4", "192.169.0.0" },
        { "10.0.0.1,192.168.0.0/16,::1", "::1", "::2" },
        { "nonsense,,10.0.0.1,", "10.0.0.1", "10.0.0.2" }, /* what cannot be read holds nobody */
    };
    for (size_t i = 0; i < N_ELEMENTS(CASES); i++) {
        ck_assert_msg(has(CASES[i].list, CASES[i].in), "%s is not in %s", CASES[i].in, CASES[i].list);
        ck_assert_msg(!has(CASES[i].list, CASES[i].out), "%s is in %s", CASES[i].out, CASES[i].list);
    }
}
END_TEST

START_TEST(strangers)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    ck_assert(!ip_list_has("0.0.0.0/0,::/0", (const struct sockaddr *)&local));
    ck_assert(!has("", "10.0.0.1"));
}
END_TEST

/* Two of the longest addresses, and no address at all that is longer. */
#define LAST    "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
#define LONGEST "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.254-" LAST
#define LONG    LONGEST "-" LAST

START_TEST(entries)
{
    static const char *const BAD[] = {
        "",
        " ",
        "10.0.0.1 ",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "localhost",
        "10.0.0.1/",
        "10.0.0.1/33",
        "10.0.0.1/-1",
        "10.0.0.1/+8",
        "10.0.0.1/8/8",
        "10.0.0.1/0008",
        "::1/129",
        "::ffff:10.0.0.1/129",
        "/8",
        "10.0.0.2-10.0.0.1",
        "10.0.0.1-",
        "-10.0.0.1",
        "10.0.0.1-10.0.0.2-10.0.0.3",
        "10.0.0.1-::1",
        "::1-10.0.0.1",
        "fe80::1%eth0",
        "10.0.0.1,10.0.0.2",
        "::ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "10.0.0.0/8-10.0.0.1",
        LONG,
    };
    static const char *const GOOD[] = { "10.0.0.1", "0.0.0.0/0", "::/0", "::1", "1.2.3.4-1.2.3.4", LONGEST };
    for (size_t i = 0; i < N_ELEMENTS(BAD); i++)
        ck_assert_msg(!ip_entry_ok(BAD[i]), "accepted \"%s\"", BAD[i]);
    for (size_t i = 0; i < N_ELEMENTS(GOOD); i++)
        ck_assert_msg(ip_entry_ok(GOOD[i]), "refused \"%s\"", GOOD[i]);
}
END_TEST

Suite *t_ip_suite(void)
{
    Suite *s = suite_create("ip");
    TCase *t = tcase_create("ip");

    tcase_add_test(t, members);
    tcase_add_test(t, strangers);
    tcase_add_test(t, entries);
    suite_add_tcase(s, t);
    return s;
}
