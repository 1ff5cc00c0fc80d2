/*
 * notify.h - what the service manager that started us is told, in the protocol of sd_notify
 *
 * One datagram a message to the socket that NOTIFY_SOCKET names; where there is none, nothing happens.
 * Nothing here fails: whoever does not listen is not told.  notify_open once, before any other thread starts;
 * then any thread.
 */
#ifndef MERE_NOTIFY_H
#define MERE_NOTIFY_H

#include "base/base.h"

/* Reads what the environment says and takes it out, so that no child answers in our place. */
void notify_open(void);
void notify_close(void);

void notify_ready(const char *status); /* served from now on; a line for people */
/* Settings are read anew from one to the other.  Neither is told before notify_ready was: it would be taken
 * for that. */
void notify_reloading(void);
void notify_reloaded(void);
void notify_stopping(const char *status);
void notify_status(const char *status);

/* How often notify_alive is to be called, half of what the manager waits for; 0 = it does not want it. */
int64_t notify_alive_ms(void);
void notify_alive(void); /* never waits */

#endif
