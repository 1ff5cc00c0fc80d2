/*
 * notify.c - messages to the service manager
 *
 * The socket is connected by each message anew (sendto), so that a manager that was started again is found.
 */
#include "base/notify.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/text.h"

#define SEND_WAIT_S 2 /* a manager that is busy has a queue; one that hangs does not hang us */

static struct {
    int fd;
    struct sockaddr_un to;
    socklen_t to_len;
    int64_t alive_ms;
    atomic_bool ready;
} manager = { .fd = -1 };

/* A path, or behind an @ a name in the kernel's own space, where the first byte is zero. */
static bool find_address(const char *name)
{
    size_t len = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(manager.to.sun_path))
        return false;
    manager.to = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(manager.to.sun_path, name, len);
    if (name[0] == '@')
        manager.to.sun_path[0] = '\0';
    manager.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
    return true;
}

/* WATCHDOG_PID: it may have been meant for who started us. */
static int64_t find_alive_ms(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t usec, whose = getpid();

    if (us == NULL || !text_to_i64(us, 1, INT64_MAX / 2, &usec) ||
        (pid != NULL && !text_to_i64(pid, 1, INT64_MAX, &whose)) || whose != getpid())
        return 0;
    return usec / 2000 > 0 ? usec / 2000 : 1;
}

void notify_open(void)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct timeval limit = { .tv_sec = SEND_WAIT_S };

    notify_close();
    if (name != NULL && find_address(name))
        manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (manager.fd >= 0) {
        (void)setsockopt(manager.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        manager.alive_ms = find_alive_ms();
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_close(void)
{
    fd_close(&manager.fd);
    manager.alive_ms = 0;
    manager.ready = false;
}

static void tell(const char *text, int flags)
{
    if (manager.fd >= 0)
        (void)!sendto(manager.fd, text, strlen(text), MSG_NOSIGNAL | flags, (struct sockaddr *)&manager.to,
                      manager.to_len);
}

static void tell_with_status(const char *what, const char *status)
{
    auto_free char *text = xasprintf("%sSTATUS=%s\n", what, status);

    tell(text, 0);
}

void notify_ready(const char *status)
{
    manager.ready = true; /* who has heard it may ask for a reload at once */
    tell_with_status("READY=1\n", status);
}

/* With the time, by which a manager tells this reload from one that was asked for later. */
void notify_reloading(void)
{
    auto_free char *text = xasprintf("RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\n", clock_mono_us());

    if (manager.ready)
        tell(text, 0);
}

void notify_reloaded(void)
{
    if (manager.ready)
        tell("READY=1\n", 0);
}

void notify_stopping(const char *status)
{
    tell_with_status("STOPPING=1\n", status);
}

void notify_status(const char *status)
{
    tell_with_status("", status);
}

int64_t notify_alive_ms(void)
{
    return manager.alive_ms;
}

void notify_alive(void)
{
    tell("WATCHDOG=1\n", MSG_DONTWAIT);
}
