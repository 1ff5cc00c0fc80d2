/*
 * mere-wal - keeps and hands back one WAL file; Postgres runs it (archive_command, restore_command)
 *
 *   mere-wal push ARCHIVE PATH         keep PATH (relative to the data directory) under its own name in
 * ARCHIVE mere-wal fetch ARCHIVE NAME PATH   put NAME from ARCHIVE to PATH
 *   mere-wal follow ARCHIVE PG_WAL NAME PATH   the same, or else as far as it is written in PG_WAL
 *
 * push answers 0 only when the bytes are durable under their final name: Postgres then recycles the file. The
 * same file again with the same content is success; other content under a name that is taken is refused for
 * ever.  What is not what its name says is refused.  fetch answers 0 when the whole file is in place, 1 when
 * there is no such file, and more than 125 for anything else: Postgres takes 1 for "the WAL ends here", so an
 * I/O error must never look like it. It needs nothing but the two directories: no mered, no network.  One
 * call at a time per archive.
 */
#include "base/base.h"
#include "base/err.h"
#include "pg/walseg.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_SECONDS 10 /* a hung push makes a fast shutdown of Postgres wait for it */
#define OTHER_FILE_MAX   ((off_t)1 << 20)
#define BLOCK            8192

enum { EXIT_KEPT = 0, EXIT_ABSENT = 1, EXIT_REFUSED = 2, EXIT_BROKEN = 200 };

static void complain(const char *name, const char *what, const char *why)
{
    auto_free char *line = xasprintf("mere-wal: %s: %s%s%s\n", name, what, why ? ": " : "", why ? why : "");
    (void)!write(STDERR_FILENO, line, strlen(line));
}

static void on_deadline(int signo)
{
    static const char TEXT[] = "mere-wal: gave up after 10 seconds\n";
    (void)signo;
    (void)!write(STDERR_FILENO, TEXT, sizeof(TEXT) - 1);
    _exit(EXIT_REFUSED);
}

/* The system identifier stands first in pg_control; Postgres runs us in its data directory. */
static uint64_t own_system_id(void)
{
    uint64_t id = 0;
    auto_fd fd = open("global/pg_control", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &id, sizeof(id)) != sizeof(id))
        return 0;
    return id;
}

static int check(int fd, const char *name, uint64_t system_id)
{
    struct err err = ERR_INIT;
    struct stat st;
    uint32_t tli;
    uint64_t segno;
    switch (walseg_parse(name, &tli, &segno)) {
    case WALSEG_SEGMENT:
    case WALSEG_PARTIAL:
        if (walseg_check(fd, segno, system_id, &err) == 0)
            return 0;
        complain(name, "refused", err.msg);
        return -1;
    case WALSEG_HISTORY:
    case WALSEG_BACKUP:
        if (fstat(fd, &st) == 0 && st.st_size <= OTHER_FILE_MAX)
            return 0;
        complain(name, "refused", "too large");
        return -1;
    case WALSEG_OTHER:
        break;
    }
    complain(name, "refused", "not the name of a WAL file");
    return -1;
}

/* Copies all bytes; a block of zeros becomes a hole, so that a suspended branch's last segment costs what was
 * written in it. */
static int copy(int from, int to)
{
    static const char ZEROS[BLOCK];
    char block[BLOCK];
    off_t at = 0;
    for (;;) {
        ssize_t n = pread(from, block, sizeof(block), at);
        if (n < 0)
            return -1;
        if (n == 0)
            return ftruncate(to, at);
        if (memcmp(block, ZEROS, (size_t)n) != 0 && pwrite(to, block, (size_t)n, at) != n)
            return -1;
        at += n;
    }
}

static bool same_content(int a, int b)
{
    char x[BLOCK], y[BLOCK];
    for (off_t at = 0;; at += BLOCK) {
        ssize_t n = pread(a, x, sizeof(x), at), m = pread(b, y, sizeof(y), at);
        if (n < 0 || n != m || memcmp(x, y, (size_t)n) != 0)
            return false;
        if (n == 0)
            return true;
    }
}

static int already_there(int dir, const char *temp, const char *name, int from)
{
    auto_fd kept = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    (void)unlinkat(dir, temp, 0); /* a second name for it, when a push was killed after its link */
    if (kept >= 0 && same_content(from, kept)) {
        complain(name, "was kept before, with the same content", NULL);
        return fsync(kept) == 0 && fsync(dir) == 0 ? EXIT_KEPT : EXIT_REFUSED;
    }
    complain(name, "refused", "another file is kept under this name");
    return EXIT_REFUSED;
}

/* Under its final name, which must be free.  NFS cannot rename so; a link never replaces either. */
static int publish(int dir, const char *temp, const char *name)
{
    if (renameat2(dir, temp, dir, name, RENAME_NOREPLACE) == 0)
        return fsync(dir);
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (linkat(dir, temp, dir, name, 0) < 0 || fsync(dir) < 0)
        return -1;
    CRASH_POINT("wal.linked");
    (void)unlinkat(dir, temp, 0);
    return 0;
}

static int push(const char *archive, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    auto_fd from = open(path, O_RDONLY | O_CLOEXEC);
    auto_fd dir = open(archive, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || dir < 0) {
        complain(name, from < 0 ? "cannot be read" : "the archive cannot be opened", strerror(errno));
        return EXIT_REFUSED;
    }
    if (check(from, name, own_system_id()) < 0)
        return EXIT_REFUSED;
    /* One push at a time: a temporary file found here is what a killed one left. */
    auto_free char *temp = xasprintf(".%s.tmp", name);
    if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return already_there(dir, temp, name, from);
    auto_fd to = openat(dir, temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0 || copy(from, to) < 0 || fsync(to) < 0) {
        complain(name, "not kept", strerror(errno));
        (void)unlinkat(dir, temp, 0);
        return EXIT_REFUSED;
    }
    CRASH_POINT("wal.pushed");
    if (publish(dir, temp, name) < 0) {
        complain(name, "not kept", strerror(errno));
        (void)unlinkat(dir, temp, 0);
        return EXIT_REFUSED;
    }
    return EXIT_KEPT;
}

static int fetch(const char *archive, const char *name, const char *path)
{
    uint32_t tli;
    uint64_t segno;
    if (walseg_parse(name, &tli, &segno) == WALSEG_OTHER)
        return EXIT_ABSENT;
    auto_fd dir = open(archive, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        complain(name, "the archive cannot be opened", strerror(errno));
        return EXIT_BROKEN;
    }
    auto_fd from = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0 && errno == ENOENT)
        return EXIT_ABSENT;
    auto_fd to = from < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0 || check(from, name, own_system_id()) < 0 || copy(from, to) < 0) {
        complain(name, "not handed back", strerror(errno));
        return EXIT_BROKEN;
    }
    return EXIT_KEPT;
}

/*
 * What is not kept yet, from where it is being written.  Postgres reads in it as far as it is valid and asks
 * again; a file that waits to be written under this name (it has another one's pages) is not there yet.
 */
static int fetch_live(const char *pg_wal, const char *name, const char *path)
{
    struct err why = ERR_INIT;
    uint32_t tli;
    uint64_t segno;
    enum walseg_kind kind = walseg_parse(name, &tli, &segno);
    auto_fd dir = open(pg_wal, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_fd from = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (from < 0 && errno == ENOENT)
        return EXIT_ABSENT;
    if (from >= 0 && kind == WALSEG_SEGMENT && walseg_check(from, segno, own_system_id(), &why) < 0)
        return EXIT_ABSENT;
    auto_fd to = from < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from < 0 || to < 0 || copy(from, to) < 0) {
        complain(name, "not handed on", strerror(errno));
        return EXIT_BROKEN;
    }
    return EXIT_KEPT;
}

static int follow(const char *archive, const char *pg_wal, const char *name, const char *path)
{
    int rc = fetch(archive, name, path);
    if (rc == EXIT_ABSENT)
        rc = fetch_live(pg_wal, name, path);
    /* Kept and recycled between the two looks. */
    return rc == EXIT_ABSENT ? fetch(archive, name, path) : rc;
}

int main(int argc, char **argv)
{
    struct sigaction deadline = { .sa_handler = on_deadline };
    (void)sigaction(SIGALRM, &deadline, NULL);
    (void)alarm(DEADLINE_SECONDS);
    if (argc == 4 && strcmp(argv[1], "push") == 0)
        return push(argv[2], argv[3]);
    if (argc == 5 && strcmp(argv[1], "fetch") == 0)
        return fetch(argv[2], argv[3], argv[4]);
    if (argc == 6 && strcmp(argv[1], "follow") == 0)
        return follow(argv[2], argv[3], argv[4], argv[5]);
    complain("usage",
             "mere-wal push ARCHIVE PATH | fetch ARCHIVE NAME PATH | follow ARCHIVE PG_WAL NAME PATH", NULL);
    return EXIT_BROKEN;
}
