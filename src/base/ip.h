/*
 * ip.h - lists of IP addresses, networks and ranges, as users write them
 *
 * Pure; any thread.  An entry is an address ("10.0.0.1", "2001:db8::1"), a network ("10.0.0.0/8"; what lies
 * behind the prefix does not count) or a range of one family ("10.0.0.1-10.0.0.9", the first no larger than
 * the last).  No blanks, no zones, no host names.  An IPv4 address in IPv6 clothes ("::ffff:10.0.0.1") is the
 * IPv4 address, in a list as well as where a client comes from.
 */
#ifndef MERE_IP_H
#define MERE_IP_H

#include "base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

bool ip_entry_ok(const char *entry);
/* The entries of list, separated by commas, hold the address that addr has.  False also for what is no
 * address of IPv4 or IPv6; an entry that cannot be read holds none. */
bool ip_list_has(const char *list, const struct sockaddr *addr);

#endif
