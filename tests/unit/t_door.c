/*
 * t_door.c - seats, queues, generations, and doors that shut while somebody is in them
 */
#include "proxy/door.h"

#include <check.h>

Suite *t_door_suite(void);

#define EP "ep-a-b-c"
#define N  20

enum what { NOTHING, SEATED, ASKING, ENDED };

static struct doors *doors;
static struct person {
    struct door_guest guest;
    enum what what;
    bool active, paused, leaves_at_once, steps_back;
    int seen; /* order of being seated */
} people[N];
static int seatings;

static struct person *person(struct door_guest *g)
{
    return LIST_OWNER(g, struct person, guest);
}

static void seat(struct door_guest *g)
{
    person(g)->what = SEATED;
    person(g)->seen = ++seatings;
    if (person(g)->leaves_at_once)
        door_leave(g);
}

static void ask(struct door_guest *g)
{
    person(g)->what = ASKING;
}

static bool hold(struct door_guest *g)
{
    if (person(g)->steps_back)
        door_step_back(g);
    else if (!person(g)->active)
        person(g)->paused = true;
    return person(g)->active;
}

static void resume(struct door_guest *g)
{
    person(g)->paused = false;
}

static void gone(struct door_guest *g)
{
    person(g)->what = ENDED;
    door_leave(g);
}

static void make_way(struct door_guest *g)
{
    person(g)->what = ENDED;
    door_leave(g);
}

static const struct door_ops OPS = { seat, ask, hold, resume, gone, make_way };

static void setup(void)
{
    memset(people, 0, sizeof(people));
    for (int i = 0; i < N; i++)
        list_init(&people[i].guest.link);
    seatings = 0;
    doors = doors_new(&OPS);
}

static void teardown(void)
{
    for (int i = 0; i < N; i++)
        door_leave(&people[i].guest);
    doors_free(doors);
}

static void join(int from, int to)
{
    for (int i = from; i < to; i++)
        door_join(doors, EP, &people[i].guest);
}

static int count(enum what what)
{
    int n = 0;

    for (int i = 0; i < N; i++)
        n += people[i].what == what;
    return n;
}

static int total;

static void add(void *arg, const char *id, uint64_t g, int n)
{
    ck_assert_ptr_eq(arg, &total);
    ck_assert_str_eq(id, EP);
    ck_assert_uint_gt(g, 0);
    total += n;
}

START_TEST(seats_in_order)
{
    door_learn(doors, EP, 1, "/s", 3);
    join(0, N);
    ck_assert_int_eq(count(SEATED), 3);
    ck_assert(door_is_full(people[0].guest.door));
    total = 0;
    doors_each(doors, add, &total);
    ck_assert_int_eq(total, 3);
    door_leave(&people[10].guest); /* gives up while it waits */
    for (int i = 0; i < N; i++)
        door_leave(&people[i].guest);
    ck_assert_int_eq(count(SEATED), N - 1);
    for (int i = 1, last = people[0].seen; i < N; i++)
        if (i != 10) {
            ck_assert_int_gt(people[i].seen, last);
            last = people[i].seen;
        }
}
END_TEST

/* Everybody who is let in leaves at once: one loop, no recursion, nobody forgotten. */
START_TEST(seats_that_fail)
{
    for (int i = 0; i < N; i++)
        people[i].leaves_at_once = true;
    door_learn(doors, EP, 1, "/s", 1);
    join(0, N);
    ck_assert_int_eq(count(SEATED), N);
}
END_TEST

START_TEST(forgotten_addresses)
{
    ck_assert(!doors_know(doors, EP));
    door_learn(doors, EP, 4, "/s", 1);
    ck_assert(doors_know(doors, EP));
    join(0, 3);
    door_forget(people[0].guest.door, 3); /* old news */
    ck_assert_int_eq(count(ASKING), 0);
    door_forget(people[0].guest.door, 4);
    ck_assert_int_eq(count(ASKING), 2);
    ck_assert(!doors_know(doors, EP));
    ck_assert_int_eq(people[0].what, SEATED);
    door_learn(doors, EP, 3, "/old", 1); /* an answer that came too late */
    ck_assert(!doors_know(doors, EP));
    door_learn(doors, EP, 5, "/new", 2);
    ck_assert_str_eq(door_socket(people[0].guest.door), "/new");
}
END_TEST

START_TEST(shut_and_open)
{
    people[1].active = true;
    door_learn(doors, EP, 2, "/s", 3);
    join(0, 2);
    ck_assert_int_eq(door_hold(doors, EP, 1), -1); /* an old generation changes nothing */
    ck_assert(!people[0].paused);
    ck_assert_int_eq(door_hold(doors, EP, 2), 1);
    ck_assert(people[0].paused && !people[1].paused);
    join(2, 4);
    ck_assert_int_eq(count(SEATED), 2);
    ck_assert(doors_know(doors, EP));
    door_release(doors, EP, 1);
    ck_assert_int_eq(count(SEATED), 2);
    door_release(doors, EP, 2);
    ck_assert(!people[0].paused);
    ck_assert_int_eq(count(SEATED), 3);
}
END_TEST

START_TEST(stepping_back_keeps_the_order)
{
    door_learn(doors, EP, 1, "/s", 2);
    join(0, 4);
    people[0].steps_back = people[1].steps_back = true;
    ck_assert_int_eq(door_hold(doors, EP, 1), 0);
    door_release(doors, EP, 1);
    ck_assert_int_eq(people[0].seen, 3);
    ck_assert_int_eq(people[1].seen, 4);
    ck_assert_int_eq(people[2].what, NOTHING);
}
END_TEST

START_TEST(generation_over)
{
    door_learn(doors, EP, 2, "/s", 2);
    join(0, 4);
    door_hold(doors, EP, 2);
    door_gone(doors, EP, 1);
    ck_assert_int_eq(count(ENDED), 0);
    door_gone(doors, EP, 2);
    ck_assert_int_eq(count(ENDED), 2);
    ck_assert_int_eq(count(ASKING), 2);
    ck_assert(!doors_know(doors, EP));
    door_gone(doors, EP, 2); /* again, with nobody there */
    door_learn(doors, EP, 3, "/s", 2);
    join(4, 5);
    door_gone(doors, EP, UINT64_MAX);
    ck_assert_int_eq(count(ENDED), 3);
}
END_TEST

/* HOLD for what we never heard of: those who come wait, and have to ask when it opens. */
START_TEST(shut_and_unknown)
{
    ck_assert_int_eq(door_hold(doors, EP, 7), 0);
    ck_assert(doors_know(doors, EP));
    join(0, 2);
    ck_assert_int_eq(count(SEATED), 0);
    door_release(doors, EP, 7);
    ck_assert_int_eq(count(ASKING), 2);
    ck_assert(!doors_know(doors, EP));
}
END_TEST

START_TEST(shut_for_an_older_generation)
{
    door_learn(doors, EP, 1, "/s", 2);
    join(0, 1);
    door_hold(doors, EP, 1);
    join(1, 2);
    door_learn(doors, EP, 1, "/s", 2); /* the same one: stays shut */
    ck_assert_int_eq(people[1].what, NOTHING);
    door_learn(doors, EP, 2, "/t", 2);
    ck_assert_int_eq(people[1].what, SEATED);
    ck_assert(!people[0].paused);
}
END_TEST

START_TEST(wake_socket_breaks)
{
    door_learn(doors, EP, 1, "/s", 1);
    join(0, 2);
    door_hold(doors, EP, 1);
    ck_assert(people[0].paused);
    doors_release_all(doors);
    ck_assert(!people[0].paused);
    ck_assert(doors_know(doors, EP)); /* running endpoints need no mered */
    door_leave(&people[0].guest);
    ck_assert_int_eq(people[1].what, SEATED);
}
END_TEST

START_TEST(an_early_guest_beside_a_pooler)
{
    door_learn(doors, EP, 1, "/s", 2);
    door_learn(doors, EP DOOR_POOLER, 1, "/p", 100);
    ck_assert(door_sit(doors, EP, &people[0].guest));
    ck_assert(!door_sit(doors, EP, &people[1].guest)); /* the last seat */
    door_gone(doors, EP DOOR_POOLER, 1);
    ck_assert(door_sit(doors, EP, &people[1].guest));
    door_leave(&people[1].guest);
    door_leave(&people[0].guest);
}
END_TEST

START_TEST(an_early_guest)
{
    ck_assert(!door_sit(doors, EP, &people[0].guest)); /* nobody knows where */
    door_learn(doors, EP, 1, "/s", 2);
    ck_assert(door_sit(doors, EP, &people[0].guest));
    ck_assert(door_sit(doors, EP, &people[1].guest));
    ck_assert_int_eq(people[0].what, NOTHING);         /* nobody calls back */
    ck_assert(!door_sit(doors, EP, &people[2].guest)); /* full */
    door_stay(&people[0].guest);                       /* has proved itself */
    join(3, 4);
    ck_assert_int_eq(people[1].what, ENDED); /* made way */
    ck_assert_int_eq(people[3].what, SEATED);
    ck_assert_int_eq(people[0].what, NOTHING);
    join(4, 5);
    ck_assert_int_eq(people[4].what, NOTHING); /* all seats are somebody's */
    door_leave(&people[0].guest);
    ck_assert_int_eq(people[4].what, SEATED);
    join(5, 6);
    door_leave(&people[3].guest);
    ck_assert(!door_sit(doors, EP, &people[6].guest));
    door_leave(&people[4].guest);
    ck_assert(door_sit(doors, EP, &people[6].guest));
    ck_assert_int_eq(door_hold(doors, EP, 1), 0);
    ck_assert(!door_sit(doors, EP, &people[7].guest)); /* shut */
    door_leave(&people[6].guest);
}
END_TEST

Suite *t_door_suite(void)
{
    Suite *s = suite_create("door");
    TCase *t = tcase_create("door");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, seats_in_order);
    tcase_add_test(t, seats_that_fail);
    tcase_add_test(t, forgotten_addresses);
    tcase_add_test(t, shut_and_open);
    tcase_add_test(t, stepping_back_keeps_the_order);
    tcase_add_test(t, generation_over);
    tcase_add_test(t, shut_and_unknown);
    tcase_add_test(t, shut_for_an_older_generation);
    tcase_add_test(t, wake_socket_breaks);
    tcase_add_test(t, an_early_guest);
    tcase_add_test(t, an_early_guest_beside_a_pooler);
    suite_add_tcase(s, t);
    return s;
}
