/*
 * base.c - guards, allocation that cannot fail, crash points
 *
 * Any thread.  Knows nothing of the rest of base, so that the smallest programs can link it alone.
 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

void ptr_free(void *p)
{
    void **slot = p;

    free(*slot);
    *slot = NULL;
}

static NORETURN void out_of_memory(void)
{
    static const char text[] = "out of memory\n";

    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    if (p == NULL)
        out_of_memory();
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    if (p == NULL)
        out_of_memory();
    return p;
}

void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);

    if (q == NULL)
        out_of_memory();
    return q;
}

char *xstrdup(const char *s)
{
    char *p = strdup(s);

    if (p == NULL)
        out_of_memory();
    return p;
}

char *xasprintf(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&p, fmt, ap);
    va_end(ap);
    if (n < 0)
        out_of_memory();
    return p;
}

#ifdef MERE_CRASH_POINTS
static void crash_point_list(const char *name)
{
    const char *path = getenv("CRASH_LIST");
    auto_free char *line = NULL;
    auto_fd fd = -1;

    if (path == NULL)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        return;
    line = xasprintf("%s\n", name);
    (void)!write(fd, line, strlen(line));
}

void crash_point(const char *name)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static unsigned long hits;
    const char *at = getenv("CRASH_AT");
    size_t len = strlen(name);

    crash_point_list(name);
    if (at == NULL || strncmp(at, name, len) != 0 || at[len] != ':')
        return;
    pthread_mutex_lock(&lock);
    if (++hits == strtoul(at + len + 1, NULL, 10))
        _exit(137);
    pthread_mutex_unlock(&lock);
}
#endif
