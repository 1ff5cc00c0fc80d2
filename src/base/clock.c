/*
 * clock.c - the two clocks
 *
 * Any thread.  The test override is atomic, so that a test may move time under running threads.
 */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

static atomic_bool test_on;
static _Atomic int64_t test_mono_us, test_wall_us;

static int64_t now_us(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
    return atomic_load(&test_on) ? atomic_load(&test_mono_us) : now_us(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

int64_t clock_wall_us(void)
{
    return atomic_load(&test_on) ? atomic_load(&test_wall_us) : now_us(CLOCK_REALTIME);
}

void clock_test_set(int64_t mono_us, int64_t wall_us)
{
    atomic_store(&test_mono_us, mono_us);
    atomic_store(&test_wall_us, wall_us);
    atomic_store(&test_on, true);
}

void clock_test_reset(void)
{
    atomic_store(&test_on, false);
}
