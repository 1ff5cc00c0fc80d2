/*
 * settings_value.h - is this text a number with a unit, a time zone, a date style, a locale to Postgres?
 *
 * Only settings.c includes it.  Any thread.  Each answers no where Postgres would, and where it is in doubt:
 * a value that Postgres refuses in its configuration file keeps it from starting.
 */
#ifndef MERE_PG_SETTINGS_VALUE_H
#define MERE_PG_SETTINGS_VALUE_H

#include "base/base.h"

/* What a number without a unit counts in: the unit column of the view pg_settings. */
enum setting_unit { U_NONE, U_KB, U_8KB, U_MB, U_MS, U_S };

/* "64MB" counted in unit, rounded as Postgres does; whole: nothing behind the point may be left. */
bool setting_number(const char *s, enum setting_unit unit, bool whole, double *ret);
/* v of this unit as people write it: "8MB", "1min", "100". */
#define SETTING_TEXT_SIZE 32
const char *setting_text(double v, enum setting_unit unit, char out[SETTING_TEXT_SIZE]);
/* The units that may follow, for a message: "us, ms, s, min, h, d", or "" for none. */
const char *setting_units(enum setting_unit unit);
/* "ms"; "8kB pages". */
const char *setting_unit_name(enum setting_unit unit);

bool setting_is_zone(const char *s);
bool setting_is_datestyle(const char *s);
bool setting_is_locale(const char *s);

#endif
