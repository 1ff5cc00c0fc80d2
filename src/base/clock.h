/*
 * clock.h - time, replaceable in tests
 *
 * Deadlines and timers use clock_mono_ms(); what users see uses clock_wall_us().
 */
#ifndef MERE_CLOCK_H
#define MERE_CLOCK_H

#include "base/base.h"

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_us(void); /* microseconds since 1970 */

/* Tests only: freezes both clocks at the given values until clock_test_reset(). */
void clock_test_set(int64_t mono_us, int64_t wall_us);
void clock_test_reset(void);

#endif
