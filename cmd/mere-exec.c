/*
 * mere-exec.c - the last step before a program of a compute starts
 *
 * Does what posix_spawn cannot: makes a private view of some directories, gives up every privilege, closes
 * every descriptor but one, and becomes the program.  Runs once per process, single-threaded, links libc only
 * and starts in well under a millisecond.  Never runs a program as root.
 *
 *   mere-exec [--uid N --gid N] [--bind SRC DST]... [--bind-ro SRC DST]... [--lock-fd N] -- PROGRAM
 * [ARGUMENT]...
 *
 * With --bind the program has mounts, System V IPC and /dev/shm to itself.
 *
 * Exit status: 126 when a step failed (one line on standard error), 127 when the program cannot be executed.
 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/text.h"

#define EXIT_STEP_FAILED 126
#define EXIT_EXEC_FAILED 127
#define LAST_CAPABILITY  63 /* more than any kernel has: the rest is refused and that is fine */

struct bind {
    const char *from, *to;
    bool read_only;
};

struct options {
    int64_t uid, gid; /* -1 = as we are */
    struct bind *binds;
    size_t n_binds;
    int lock_fd;
    char **program;
};

static NORETURN PRINTF_LIKE(2, 3) void die(int status, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "mere-exec: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    fflush(stderr);
    _exit(status);
}

/* A system call failed: what, and errno's reason. */
static NORETURN void die_sys(const char *what, const char *object)
{
    const char *why = strerrordesc_np(errno);

    die(EXIT_STEP_FAILED, "%s%s%s: %s", what, object[0] != '\0' ? " " : "", object,
        why != NULL ? why : "unknown error");
}

/* --- arguments --- */

static int64_t number(const char *option, const char *text, int64_t min, int64_t max)
{
    int64_t n;

    if (!text_to_i64(text, min, max, &n))
        die(EXIT_STEP_FAILED, "%s: \"%s\" is not a number from %lld to %lld", option, text, (long long)min,
            (long long)max);
    return n;
}

/* Puts one option with its values into o; how many words it took, 0 = unknown. */
static int take_option(struct options *o, char **word)
{
    const char *name = word[0], *value = word[1], *second = value != NULL ? word[2] : NULL;

    bool read_only = strcmp(name, "--bind-ro") == 0;

    if ((read_only || strcmp(name, "--bind") == 0) && second != NULL) {
        o->binds[o->n_binds++] = (struct bind){ value, second, read_only };
        return 3;
    }
    if (value == NULL)
        return 0;
    if (strcmp(name, "--uid") == 0)
        o->uid = number(name, value, 0, (int64_t)UINT32_MAX - 1);
    else if (strcmp(name, "--gid") == 0)
        o->gid = number(name, value, 0, (int64_t)UINT32_MAX - 1);
    else if (strcmp(name, "--lock-fd") == 0)
        o->lock_fd = (int)number(name, value, 3, INT_MAX - 1);
    else
        return 0;
    return 2;
}

static void parse(struct options *o, int argc, char **argv)
{
    int i = 1;

    o->binds = xcalloc((size_t)argc, sizeof(*o->binds));
    while (i < argc && strcmp(argv[i], "--") != 0) {
        int n = take_option(o, argv + i);

        if (n == 0)
            die(EXIT_STEP_FAILED, "option %s is unknown or lacks a value", argv[i]);
        i += n;
    }
    if (i + 1 >= argc || argv[i + 1][0] != '/')
        die(EXIT_STEP_FAILED, "\"-- PROGRAM\" with an absolute path is expected");
    o->program = argv + i + 1;
    if ((o->uid < 0) != (o->gid < 0))
        die(EXIT_STEP_FAILED, "--uid and --gid are given together");
}

static void refuse_root(const struct options *o)
{
    if (o->uid == 0 || (o->uid < 0 && (geteuid() == 0 || getuid() == 0)))
        die(EXIT_STEP_FAILED, "refused to run %s as root: give the --uid and --gid of an ordinary user",
            o->program[0]);
}

/* --- steps, in order --- */

/*
 * Namespaces of our own for mounts and for System V IPC: they receive what is mounted outside later, give
 * nothing back, and are gone with their last process, and with them all shared memory that a killed server
 * would leave behind.
 */
static void private_mounts(void)
{
    auto_fd root = -1;
    auto_fd cwd = -1;
    auto_fd ns = -1;

    if (unshare(CLONE_NEWNS | CLONE_NEWIPC) < 0)
        die_sys("make namespaces for mounts and shared memory", "");
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0)
        return;
    if (errno != EINVAL)
        die_sys("make mounts private", "");
    /* in a chroot "/" is no mount point: setns() to where we are leads to the real root, and then we return
     */
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (root < 0 || cwd < 0 || ns < 0 || setns(ns, CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 || fchdir(root) < 0 || chroot(".") < 0 ||
        fchdir(cwd) < 0)
        die_sys("make mounts private in a chroot", "");
}

static void bind_directories(const struct options *o)
{
    if (o->n_binds == 0)
        return;
    private_mounts();
    if (mount("mere", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
        die_sys("make a private", "/dev/shm");
    for (size_t i = 0; i < o->n_binds; i++) {
        const struct bind *b = &o->binds[i];
        struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };

        if (b->read_only)
            attr.attr_set |= MOUNT_ATTR_RDONLY;
        if (mount(b->from, b->to, NULL, MS_BIND | MS_REC, NULL) < 0)
            die(EXIT_STEP_FAILED, "bind %s to %s: %s", b->from, b->to, strerrordesc_np(errno));
        if (mount_setattr(AT_FDCWD, b->to, AT_RECURSIVE, &attr, sizeof(attr)) < 0 &&
            (b->read_only || (errno != EPERM && errno != ENOSYS)))
            die_sys("bind as it is asked for", b->to);
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Is path the directory, or something in it? */
static bool is_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* What is detached takes along all that is mounted below it. */
static bool is_needed(const struct options *o, const char *mountpoint)
{
    for (size_t i = 0; i < o->n_binds; i++)
        if (is_in(o->binds[i].to, mountpoint))
            return true;
    return is_in(o->program[0], mountpoint);
}

/* mountinfo writes blanks and the like as \\ooo. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *p = text; *p != '\0'; p++, to++)
        if (p[0] == '\\' && strspn(p + 1, "01234567") >= 3) {
            *to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
            p += 3;
        } else {
            *to = *p;
        }
    *to = '\0';
}

/*
 * Where a line of mountinfo says that a disk file is mounted, for free(); else NULL.  Loop devices carry much
 * else, the root of a container among it.
 */
static char *disk_file_at(const char *line)
{
    const char *rest = strstr(line, " - btrfs /dev/loop");
    char *root = NULL, *path = NULL;
    bool is_one;

    if (rest == NULL || sscanf(line, "%*s %*s %*s %ms %ms", &root, &path) != 2) {
        free(root);
        return NULL;
    }
    unescape(path);
    is_one = strcmp(root, "/") == 0 && ends_with(path, "/volumes");
    free(root);
    if (is_one)
        return path;
    free(path);
    return NULL;
}

/*
 * Ours and other servers'.  A copy of such a mount in a namespace that lives on would keep its device busy
 * after its server has stopped; the program needs none but what was bound for it.
 */
static void leave_disk_files(const struct options *o)
{
    FILE *f = o->n_binds > 0 ? fopen("/proc/self/mountinfo", "re") : NULL;
    char *line = NULL;
    size_t cap = 0;

    while (f != NULL && getline(&line, &cap, f) > 0) {
        char *path = disk_file_at(line);

        if (path != NULL && !is_needed(o, path))
            umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
        free(path);
    }
    free(line);
    if (f != NULL)
        fclose(f);
}

static void clear_capabilities(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        die_sys("drop ambient capabilities", "");
    if (syscall(SYS_capset, &head, none) < 0)
        die_sys("drop capabilities", "");
}

static void become_user(const struct options *o)
{
    if (o->uid >= 0 && geteuid() == 0) {
        for (int cap = 0; cap <= LAST_CAPABILITY; cap++)
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        if (setgroups(0, NULL) < 0)
            die_sys("drop supplementary groups", "");
    }
    if (o->uid >= 0) {
        if (setresgid((gid_t)o->gid, (gid_t)o->gid, (gid_t)o->gid) < 0)
            die_sys("change the group", "");
        if (setresuid((uid_t)o->uid, (uid_t)o->uid, (uid_t)o->uid) < 0)
            die_sys("change the user", "");
    }
    clear_capabilities();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        die_sys("give up new privileges", "");
}

static void close_descriptors(const struct options *o)
{
    unsigned lock = (unsigned)o->lock_fd;

    if (o->lock_fd < 0) {
        if (close_range(3, UINT_MAX, 0) < 0)
            die_sys("close descriptors", "");
        return;
    }
    if (fcntl(o->lock_fd, F_SETFD, 0) < 0)
        die_sys("keep the lock descriptor", "");
    if ((lock > 3 && close_range(3, lock - 1, 0) < 0) || close_range(lock + 1, UINT_MAX, 0) < 0)
        die_sys("close descriptors", "");
}

int main(int argc, char **argv)
{
    struct options o = { .uid = -1, .gid = -1, .lock_fd = -1 };

    parse(&o, argc, argv);
    refuse_root(&o);
    bind_directories(&o);
    leave_disk_files(&o);
    become_user(&o);
    umask(077);
    close_descriptors(&o);
    execv(o.program[0], o.program);
    die(EXIT_EXEC_FAILED, "execute %s: %s", o.program[0], strerrordesc_np(errno));
}
