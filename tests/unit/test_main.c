/*
 * test_main.c - runs every suite
 *
 * The list (suites.h) is read by the Makefile from the lines `Suite *t_<module>_suite(void)` of tests/unit,
 * so a suite cannot be forgotten.  Arguments pick suites by name; none = all.  The last line is `unit: N
 * passed, N failed`. A test that cannot run on this machine prints `SKIP name: reason` and returns: it is
 * named, and not counted.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUITE(fn) Suite *fn(void);
#include "suites.h"
#undef SUITE

static const struct {
    const char *name;
    Suite *(*make)(void);
} SUITES[] = {
#define SUITE(fn) { #fn, fn },
#include "suites.h"
#undef SUITE
    { NULL, NULL },
};

/* t_buf_suite is also "t_buf" and "buf". */
static int suite_is(const char *fn, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(word, "t_", 2) != 0)
        fn += 2;
    return strncmp(fn, word, n) == 0 && (fn[n] == '\0' || strcmp(fn + n, "_suite") == 0);
}

static int suite_wanted(const char *fn, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (suite_is(fn, argv[i]))
            return 1;
    return argc < 2;
}

int main(int argc, char **argv)
{
    SRunner *runner = srunner_create(NULL);
    int n = 0, run, failed;

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; SUITES[i].name != NULL; i++) {
        if (suite_wanted(SUITES[i].name, argc, argv)) {
            srunner_add_suite(runner, SUITES[i].make());
            n++;
        }
    }
    if (n == 0) {
        fprintf(stderr, "unit-tests: no such suite\n");
        return 2;
    }
    srunner_run_all(runner, CK_ENV);
    run = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    printf("unit: %d passed, %d failed\n", run - failed, failed);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
