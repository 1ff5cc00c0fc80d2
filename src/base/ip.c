/*
 * ip.c - lists of IP addresses, networks and ranges
 *
 * All addresses are 16 bytes, those of IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2), so that one comparison does
 * for both.  A range of one family never holds an address of the other.
 */
#include "base/ip.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define ENTRY_MAX 100 /* two of the longest addresses fit */

struct address {
    uint8_t bytes[16];
    bool v4;
};

struct range {
    struct address from, to;
};

static const uint8_t MAPPED[12] = { [10] = 0xff, [11] = 0xff };

static struct address from_v4(const void *four)
{
    struct address ret = { .v4 = true };
    memcpy(ret.bytes, MAPPED, sizeof(MAPPED));
    memcpy(ret.bytes + sizeof(MAPPED), four, 4);
    return ret;
}

static struct address from_v6(const void *sixteen)
{
    struct address ret = { .v4 = memcmp(sixteen, MAPPED, sizeof(MAPPED)) == 0 };
    memcpy(ret.bytes, sixteen, sizeof(ret.bytes));
    return ret;
}

static bool read_address(const char *text, struct address *ret)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1)
        *ret = from_v4(bytes);
    else if (inet_pton(AF_INET6, text, bytes) == 1)
        *ret = from_v6(bytes);
    else
        return false;
    return true;
}

/* Bits behind the prefix: all 0 in the first address, all 1 in the last one. */
static bool read_network(const char *address, const char *prefix, struct range *ret)
{
    int64_t len;
    if (!read_address(address, &ret->from) || strlen(prefix) > 3 || !text_to_i64(prefix, 0, 128, &len))
        return false;
    if (!strchr(address, ':'))
        len += 96;
    if (len > 128)
        return false;
    ret->to = ret->from;
    for (int bit = (int)len; bit < 128; bit++) {
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        ret->from.bytes[bit / 8] &= (uint8_t)~mask;
        ret->to.bytes[bit / 8] |= mask;
    }
    /* A wide network of IPv6 around the mapped addresses is still one of IPv6. */
    ret->from.v4 = ret->to.v4 = ret->from.v4 && len >= 96;
    return true;
}

static bool read_entry(const char *entry, size_t len, struct range *ret)
{
    char text[ENTRY_MAX];
    char *mark;
    if (len >= sizeof(text))
        return false;
    memcpy(text, entry, len);
    text[len] = '\0';
    if ((mark = strchr(text, '/')) != NULL) {
        *mark = '\0';
        return read_network(text, mark + 1, ret);
    }
    if ((mark = strchr(text, '-')) == NULL) {
        bool ok = read_address(text, &ret->from);
        ret->to = ret->from;
        return ok;
    }
    *mark = '\0';
    return read_address(text, &ret->from) && read_address(mark + 1, &ret->to) && ret->from.v4 == ret->to.v4 &&
           memcmp(ret->from.bytes, ret->to.bytes, sizeof(ret->from.bytes)) <= 0;
}

bool ip_entry_ok(const char *entry)
{
    struct range ignored;
    return read_entry(entry, strlen(entry), &ignored);
}

static bool read_peer(const struct sockaddr *addr, struct address *ret)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (addr->sa_family == AF_INET) {
        memcpy(&v4, addr, sizeof(v4));
        *ret = from_v4(&v4.sin_addr);
    } else if (addr->sa_family == AF_INET6) {
        memcpy(&v6, addr, sizeof(v6));
        *ret = from_v6(&v6.sin6_addr);
    } else {
        return false;
    }
    return true;
}

static bool range_has(const struct range *r, const struct address *who)
{
    return r->from.v4 == who->v4 && memcmp(r->from.bytes, who->bytes, sizeof(who->bytes)) <= 0 &&
           memcmp(who->bytes, r->to.bytes, sizeof(who->bytes)) <= 0;
}

bool ip_list_has(const char *list, const struct sockaddr *addr)
{
    struct address who;
    struct range r;
    if (!read_peer(addr, &who))
        return false;
    for (const char *p = list;; p++) {
        size_t len = strcspn(p, ",");
        if (read_entry(p, len, &r) && range_has(&r, &who))
            return true;
        p += len;
        if (*p == '\0')
            return false;
    }
}
