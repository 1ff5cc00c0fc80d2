/*
 * alone.c - a target as a program of its own, with libFuzzer
 *
 * FUZZ_SEEDS=DIR FUZZ_CORPUS=DIR: the seeds of the first are written into the second as bytes, which is what
 * libFuzzer reads.  FUZZ_PLANT=N plants the fault of the target's N-th property (from 1): the run must end.
 */
#include "fuzz.h"

#include <dirent.h>

#include "base/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

static const char *planted;

bool fuzz_planted(const char *property)
{
    return property == planted;
}

void fuzz_expect(bool holds, const char *property)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz: not true: %s\n", property);
    abort();
}

static void plant(long number)
{
    for (long i = 0; i < number; i++) {
        planted = fuzz_properties[i];
        if (planted == NULL) {
            fprintf(stderr, "fuzz: FUZZ_PLANT is at most %ld\n", i);
            exit(2);
        }
    }
}

static void write_seed(const char *from, const char *to, const char *name)
{
    auto_free char *in = xasprintf("%s/%s", from, name), *out = xasprintf("%s/seed-%s", to, name);
    auto_buf bytes = { 0 };
    FILE *f;

    if (!seed_read(in, &bytes) || (f = fopen(out, "we")) == NULL) {
        fprintf(stderr, "fuzz: cannot read %s or write %s\n", in, out);
        exit(2);
    }
    (void)fwrite(bytes.data, 1, bytes.len, f);
    (void)fclose(f);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *from = getenv("FUZZ_SEEDS"), *to = getenv("FUZZ_CORPUS"), *number = getenv("FUZZ_PLANT");
    DIR *dir = from != NULL && to != NULL ? opendir(from) : NULL;
    struct dirent *entry;

    (void)argc;
    (void)argv;
    log_set_level(LOG_ERROR);
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            write_seed(from, to, entry->d_name);
    if (dir != NULL)
        (void)closedir(dir);
    if (number != NULL)
        plant(strtol(number, NULL, 10));
    return 0;
}
