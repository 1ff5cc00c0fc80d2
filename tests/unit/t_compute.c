/*
 * t_compute.c - the transition table: printed and compared with tests/golden/compute.dot, and every pair
 * walked
 */
#include "../../src/scheduler/compute.c"

#include "base/buf.h"
#include "base/fs.h"

#include <check.h>

Suite *t_compute_suite(void);

START_TEST(the_table_is_the_picture)
{
    auto_buf dot = { 0 };
    auto_arena *a = arena_new(0);
    struct err err = ERR_INIT;
    char *golden;
    size_t len;
    buf_adds(&dot, "digraph compute {\n");
    for (size_t s = 0; s < COMPUTE_N_STATES; s++)
        for (size_t e = 0; e < EVENT_N; e++)
            if (TABLE[s][e].reason)
                buf_addf(&dot, "    %s -> %s [label=\"%s: %s\"];\n", STATE_NAMES[s],
                         STATE_NAMES[TABLE[s][e].next], EVENT_NAMES[e], TABLE[s][e].reason);
    buf_adds(&dot, "}\n");
    ck_assert_int_eq(fs_read(a, "tests/golden/compute.dot", 1 << 16, &golden, &len, &err), 0);
    ck_assert_str_eq(buf_str(&dot), golden);
}
END_TEST

START_TEST(every_state_has_a_name_and_a_way_out)
{
    for (size_t s = 0; s < COMPUTE_N_STATES; s++) {
        size_t out = 0;
        ck_assert_ptr_nonnull(STATE_NAMES[s]);
        for (size_t e = 0; e < EVENT_N; e++) {
            ck_assert_ptr_nonnull(EVENT_NAMES[e]);
            out += TABLE[s][e].reason && TABLE[s][e].next != s;
        }
        ck_assert_msg(out > 0, "%s", STATE_NAMES[s]);
    }
}
END_TEST

/* From anywhere a compute can come to rest, and from rest it can run. */
START_TEST(every_state_leads_to_stopped_and_running)
{
    static const enum compute_state GOALS[] = { COMPUTE_STOPPED, COMPUTE_RUNNING };
    for (size_t g = 0; g < N_ELEMENTS(GOALS); g++) {
        bool reaches[COMPUTE_N_STATES] = { false };
        reaches[GOALS[g]] = true;
        for (size_t round = 0; round < COMPUTE_N_STATES; round++)
            for (size_t s = 0; s < COMPUTE_N_STATES; s++)
                for (size_t e = 0; e < EVENT_N; e++)
                    if (TABLE[s][e].reason && reaches[TABLE[s][e].next])
                        reaches[s] = true;
        for (size_t s = 0; s < COMPUTE_N_STATES; s++)
            ck_assert_msg(reaches[s], "%s never reaches %s", STATE_NAMES[s], STATE_NAMES[GOALS[g]]);
    }
}
END_TEST

/* The end of a process must never be missed where one can exist. */
START_TEST(an_exit_is_answered_wherever_a_process_lives)
{
    static const enum compute_state WITH_PROCESS[] = { COMPUTE_STARTING, COMPUTE_RUNNING, COMPUTE_DRAINING,
                                                       COMPUTE_STOPPING };
    for (size_t i = 0; i < N_ELEMENTS(WITH_PROCESS); i++)
        ck_assert_ptr_nonnull(TABLE[WITH_PROCESS[i]][EVENT_EXITED].reason);
}
END_TEST

Suite *t_compute_suite(void)
{
    Suite *s = suite_create("compute");
    TCase *t = tcase_create("compute");
    tcase_add_test(t, the_table_is_the_picture);
    tcase_add_test(t, every_state_has_a_name_and_a_way_out);
    tcase_add_test(t, every_state_leads_to_stopped_and_running);
    tcase_add_test(t, an_exit_is_answered_wherever_a_process_lives);
    suite_add_tcase(s, t);
    return s;
}
