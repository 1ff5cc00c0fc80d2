/*
 * greet.c - the order of the first packets
 */
#include "proxy/greet.h"

static enum greet_step refuse(struct wire_first *first, const char *sqlstate, const char *hint,
                              const char *what)
{
    wire_error_set(&first->error, sqlstate, hint, "%s", what);
    return GREET_REFUSE;
}

/*
 * A client waits for the answer to a request before it says more.  Bytes behind it were put there by somebody
 * who wants them to be taken for the client's, once TLS vouches for it.
 */
static enum greet_step encryption(struct greet *g, bool *asked, enum greet_step step, size_t len,
                                  struct wire_first *first)
{
    if (g->secure)
        return refuse(first, "08P01", NULL, "encryption was asked for inside an encrypted connection");
    if (*asked || len > first->len)
        return GREET_DROP;
    *asked = true;
    return step;
}

enum greet_step greet_next(struct greet *g, const void *data, size_t len, struct wire_first *first)
{
    switch (wire_first_parse(data, len, first)) {
    case WIRE_INCOMPLETE:
        return GREET_MORE;
    case WIRE_SSL:
        return encryption(g, &g->tls_asked, GREET_TLS, len, first);
    case WIRE_GSS:
        return encryption(g, &g->gss_asked, GREET_NO_GSS, len, first);
    case WIRE_CANCEL:
        return GREET_CANCEL;
    case WIRE_STARTUP:
        if (!g->secure && !g->plain)
            return refuse(first, "28000",
                          "Connect with sslmode=require (or verify-full) in the connection string; the "
                          "server allows connections without TLS from its own machine alone.",
                          "connection is insecure: TLS is required");
        return GREET_START;
    case WIRE_INVALID:
        break;
    }
    return GREET_REFUSE;
}
