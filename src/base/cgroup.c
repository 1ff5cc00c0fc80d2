/*
 * cgroup.c - one control group per compute
 *
 * cgroup_init runs on the main thread before any other starts; afterwards the state is only read and any
 * thread may call. What is not there or not ours to write is quietly left out: an ordinary user or a
 * container simply gets fewer limits.
 */
#include "base/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define V2_ROOT       "/sys/fs/cgroup"
#define CPU_PERIOD_US 100000
#define SEARCH_DEPTH  8
#define KILL_BATCH    256
#define KILL_PAUSE_MS 10 /* v1 has no event for "empty" beyond the exits themselves */

/* The hierarchies a compute is put into.  v2: only MEMBER, which carries the limits too. */
enum hierarchy { MEMBER, MEMORY, CPU, N_HIERARCHIES };

static const char *const V1_CONTROLLER[N_HIERARCHIES] = { "pids", "memory", "cpu" };

static struct {
    enum cgroup_kind kind;
    bool memory_limit, cpu_limit;
    char *parent[N_HIERARCHIES]; /* directory of the instance's group; NULL = hierarchy not used */
} cg;

/* --- small files --- */

static bool read_file(const char *path, struct buf *out)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);

    buf_clear(out);
    if (fd < 0)
        return false;
    for (;;) {
        ssize_t n;

        buf_reserve(out, 4096);
        n = read(fd, out->data + out->len, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        out->len += (size_t)n;
    }
}

static bool write_file(const char *dir, const char *name, const char *text)
{
    auto_free char *path = xasprintf("%s/%s", dir, name);
    auto_fd fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static bool has_word(const char *list, const char *word, const char *separators)
{
    size_t len = strlen(word);

    for (const char *p = list; *p != '\0';) {
        size_t n = strcspn(p, separators);

        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n;
        p += strspn(p, separators);
    }
    return false;
}

/* --- where we are --- */

/* Our path inside the hierarchy of a controller ("" = v2), from /proc/self/cgroup; malloc'd or NULL. */
static char *own_path(const char *controller)
{
    auto_buf b = { 0 };
    char *line, *rest;

    if (!read_file("/proc/self/cgroup", &b))
        return NULL;
    buf_str(&b);
    rest = b.data;
    while ((line = strsep(&rest, "\n")) != NULL) { /* 4:memory:/path */
        char *list = strchr(line, ':');
        char *path = list != NULL ? strchr(list + 1, ':') : NULL;

        if (path == NULL)
            continue;
        *path++ = '\0';
        list++;
        if (controller[0] == '\0' ? list[0] == '\0' : has_word(list, controller, ","))
            return xstrdup(path);
    }
    return NULL;
}

/* A line of mountinfo: root and mount point (fields 4 and 5), type and super options (after " - "). */
struct mount_line {
    char *root, *point, *type, *options;
};

static bool parse_mount(char *line, struct mount_line *m)
{
    char *tail = strstr(line, " - "), *save = NULL, *word;

    if (tail == NULL)
        return false;
    *tail = '\0';
    word = strtok_r(line, " ", &save);
    for (int i = 1; word != NULL && i <= 5; i++, word = strtok_r(NULL, " ", &save)) {
        if (i == 4)
            m->root = word;
        if (i == 5)
            m->point = word;
    }
    m->type = strtok_r(tail + 3, " ", &save);
    strtok_r(NULL, " ", &save);
    m->options = strtok_r(NULL, " ", &save);
    return m->point != NULL && m->type != NULL && m->options != NULL;
}

/* Mount point and own directory in the hierarchy of a controller ("" = v2); both malloc'd. */
static bool find_hierarchy(const char *controller, char **ret_point, char **ret_own)
{
    auto_free char *own = own_path(controller);
    auto_buf b = { 0 };
    char *line, *rest;

    /* "/..": outside the namespace's root */
    if (own == NULL || text_starts_with(own, "/..") || !read_file("/proc/self/mountinfo", &b))
        return false;
    buf_str(&b);
    rest = b.data;
    while ((line = strsep(&rest, "\n")) != NULL) {
        struct mount_line m = { 0 };
        size_t root_len;

        if (!parse_mount(line, &m))
            continue;
        if (controller[0] == '\0' ? strcmp(m.type, "cgroup2") != 0 || strcmp(m.point, V2_ROOT) != 0
                                  : strcmp(m.type, "cgroup") != 0 || !has_word(m.options, controller, ","))
            continue;
        /* a container may have only its own part of the tree mounted */
        root_len = strcmp(m.root, "/") == 0 ? 0 : strlen(m.root);
        if (strncmp(own, m.root, root_len) != 0 || (own[root_len] != '/' && own[root_len] != '\0'))
            continue;
        *ret_point = xstrdup(m.point);
        *ret_own = xasprintf("%s%s", m.point, strcmp(own + root_len, "/") == 0 ? "" : own + root_len);
        return true;
    }
    return false;
}

/* A directory of this name anywhere below dir; malloc'd or NULL. */
static char *search(const char *dir, const char *name, int depth)
{
    auto_free char *here = xasprintf("%s/%s", dir, name);
    char *found = NULL;
    struct dirent *e;
    DIR *d;

    if (access(here, F_OK) == 0)
        return TAKE(here);
    d = depth > 0 ? opendir(dir) : NULL;
    if (d == NULL)
        return NULL;
    while (found == NULL && (e = readdir(d)) != NULL) {
        auto_free char *sub = NULL;

        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        sub = xasprintf("%s/%s", dir, e->d_name);
        found = search(sub, name, depth - 1);
    }
    closedir(d);
    return found;
}

/*
 * The instance's group in one hierarchy.  One that exists already is taken wherever it is: after a restart we
 * may sit in another group (another login session) while our computes still run in the old one.
 */
static char *make_parent(const char *controller, const char *name)
{
    auto_free char *point = NULL;
    auto_free char *own = NULL;
    auto_free char *procs = NULL;
    char *dir;

    if (!find_hierarchy(controller, &point, &own))
        return NULL;
    dir = xasprintf("%s/%s", own, name);
    if (access(dir, F_OK) < 0) {
        char *old = search(point, name, SEARCH_DEPTH);

        if (old != NULL) {
            free(dir);
            dir = old;
        }
    }
    procs = xasprintf("%s/cgroup.procs", dir);
    if ((mkdir(dir, 0755) < 0 && errno != EEXIST) || access(dir, W_OK) < 0 || access(procs, W_OK) < 0) {
        free(dir);
        return NULL;
    }
    return dir;
}

/* --- start --- */

/* May groups below dir (v2) carry this controller's limits? */
static bool v2_enable(const char *dir, const char *controller)
{
    auto_free char *path = xasprintf("%s/cgroup.controllers", dir);
    auto_free char *enable = xasprintf("+%s", controller);
    const char *slash = strrchr(dir, '/');
    auto_buf b = { 0 };

    if (!read_file(path, &b) || !has_word(buf_str(&b), controller, " \n")) {
        auto_free char *above = strndup(dir, (size_t)(slash - dir));

        /* fails where processes sit directly in our group, which v2 forbids for a group that hands
         * controllers down */
        if (above == NULL || !write_file(above, "cgroup.subtree_control", enable))
            return false;
    }
    return write_file(dir, "cgroup.subtree_control", enable);
}

static enum cgroup_kind init_v2(const char *name)
{
    cg.parent[MEMBER] = make_parent("", name);
    if (cg.parent[MEMBER] == NULL)
        return CGROUP_NONE;
    cg.memory_limit = v2_enable(cg.parent[MEMBER], "memory");
    cg.cpu_limit = v2_enable(cg.parent[MEMBER], "cpu");
    return CGROUP_V2;
}

static enum cgroup_kind init_v1(const char *name)
{
    cg.parent[MEMBER] = make_parent(V1_CONTROLLER[MEMBER], name);
    if (cg.parent[MEMBER] == NULL)
        return CGROUP_NONE;
    cg.parent[MEMORY] = make_parent(V1_CONTROLLER[MEMORY], name);
    cg.parent[CPU] = make_parent(V1_CONTROLLER[CPU], name);
    cg.memory_limit = cg.parent[MEMORY] != NULL;
    cg.cpu_limit = cg.parent[CPU] != NULL;
    return CGROUP_V1;
}

static void forget(void)
{
    for (int h = 0; h < N_HIERARCHIES; h++) {
        free(cg.parent[h]);
        cg.parent[h] = NULL;
    }
    cg.kind = CGROUP_NONE;
    cg.memory_limit = cg.cpu_limit = false;
}

enum cgroup_kind cgroup_init(const char *instance)
{
    auto_free char *name = xasprintf("mere-%s", instance);
    struct statfs st;

    forget();
    if (strchr(instance, '/') != NULL || statfs(V2_ROOT, &st) < 0)
        return CGROUP_NONE;
    cg.kind = st.f_type == CGROUP2_SUPER_MAGIC ? init_v2(name) : init_v1(name);
    return cg.kind;
}

const char *cgroup_kind_name(enum cgroup_kind k)
{
    return k == CGROUP_V2 ? "v2" : k == CGROUP_V1 ? "v1" : "none";
}

bool cgroup_has_limits(void)
{
    return cg.memory_limit && cg.cpu_limit;
}

/* --- one group --- */

static char *group_dir(enum hierarchy h, const char *name)
{
    if (cg.parent[h] == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
        return NULL;
    return xasprintf("%s/%s", cg.parent[h], name);
}

/* A limit of 0 is written too, as "none": the group may be left from a start with another limit. */
static bool set_memory(const char *name, uint64_t bytes)
{
    auto_free char *dir = group_dir(cg.kind == CGROUP_V2 ? MEMBER : MEMORY, name);
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
    if (cg.kind == CGROUP_V2)
        return write_file(dir, "memory.max", bytes != 0 ? text : "max");
    return write_file(dir, "memory.limit_in_bytes", bytes != 0 ? text : "-1");
}

static bool set_cpu(const char *name, int64_t milli)
{
    auto_free char *dir = group_dir(cg.kind == CGROUP_V2 ? MEMBER : CPU, name);
    long long quota = (long long)milli * CPU_PERIOD_US / 1000;
    char text[64];

    if (quota != 0 && quota < 1000)
        quota = 1000; /* the kernel's minimum */
    if (cg.kind == CGROUP_V2) {
        snprintf(text, sizeof(text), "%lld %d", quota, CPU_PERIOD_US);
        return write_file(dir, "cpu.max", milli > 0 ? text : "max");
    }
    snprintf(text, sizeof(text), "%lld", milli > 0 ? quota : -1);
    return write_file(dir, "cpu.cfs_quota_us", text);
}

void cgroup_favour(const char *name, bool favoured)
{
    auto_free char *dir = group_dir(cg.kind == CGROUP_V1 ? CPU : MEMBER, name);

    if (!cg.cpu_limit || dir == NULL)
        return;
    if (cg.kind == CGROUP_V2)
        (void)write_file(dir, "cpu.weight", favoured ? "800" : "100");
    else
        (void)write_file(dir, "cpu.shares", favoured ? "8192" : "1024");
}

int cgroup_create(const char *name, uint64_t memory_bytes, int64_t cpu_milli, struct err *err)
{
    for (int h = 0; h < N_HIERARCHIES && cg.kind != CGROUP_NONE; h++) {
        auto_free char *dir = group_dir(h, name);

        if (dir == NULL && cg.parent[h] == NULL)
            continue;
        if (dir == NULL)
            errno = EINVAL;
        if (dir == NULL || (mkdir(dir, 0755) < 0 && errno != EEXIST))
            return err_sys(err, "make control group %s", name);
    }
    if ((cg.memory_limit && !set_memory(name, memory_bytes)) || (cg.cpu_limit && !set_cpu(name, cpu_milli)))
        return err_sys(err, "set limits of control group %s", name);
    return 0;
}

static int move(const char *name, const char *pid, struct err *err)
{
    for (int h = 0; h < N_HIERARCHIES; h++) {
        auto_free char *dir = group_dir(h, name);

        if (dir != NULL && !write_file(dir, "cgroup.procs", pid) && errno != ESRCH)
            return err_sys(err, "move process %s to control group %s", pid, name);
    }
    return 0;
}

int cgroup_join(const char *name, int64_t pid, struct err *err)
{
    auto_free char *self = xasprintf("%lld", (long long)pid);
    auto_free char *path = xasprintf("/proc/%s/task/%s/children", self, self);
    auto_buf children = { 0 };
    char *save = NULL;

    if (cg.kind == CGROUP_NONE)
        return 0;
    if (move(name, self, err) < 0)
        return -1;
    if (!read_file(path, &children))
        return errno == ENOENT || errno == ESRCH ? 0 : err_sys(err, "read %s", path);
    buf_add(&children, "", 1);
    for (char *child = strtok_r(children.data, " \n", &save); child; child = strtok_r(NULL, " \n", &save))
        if (move(name, child, err) < 0)
            return -1;
    return 0;
}

/* The pids inside, as text lines; false: no such group (nothing is inside) or, with *ret_unknown, it cannot
 * be read. */
static bool read_procs(const char *name, struct buf *out, bool *ret_unknown)
{
    auto_free char *dir = group_dir(MEMBER, name);
    auto_free char *path = dir != NULL ? xasprintf("%s/cgroup.procs", dir) : NULL;

    *ret_unknown = false;
    if (path == NULL)
        return false;
    if (read_file(path, out))
        return out->len > 0;
    *ret_unknown = errno != ENOENT && errno != ENODEV;
    return false;
}

bool cgroup_is_empty(const char *name)
{
    auto_buf b = { 0 };
    bool unknown;

    return !read_procs(name, &b, &unknown) && !unknown;
}

/*
 * One signal to one process of the group.  Its descriptor is opened first and its membership confirmed after,
 * so that a pid that was given to another process meanwhile is left alone.  The descriptor, or -1 when it is
 * gone.
 */
static int kill_member(const char *name, const char *pid_text)
{
    auto_buf again = { 0 };
    auto_fd pidfd = -1;
    bool unknown;
    int64_t pid;

    if (!text_to_i64(pid_text, 1, INT32_MAX, &pid))
        return -1;
    pidfd = pidfd_open((pid_t)pid, 0);
    if (pidfd < 0 || !read_procs(name, &again, &unknown) || !has_word(buf_str(&again), pid_text, "\n"))
        return -1;
    pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    return TAKE_FD(pidfd);
}

/* Kills what is in the list and waits for those exits, at most timeout_ms. */
static void kill_listed(const char *name, struct buf *list, int64_t end_ms)
{
    struct pollfd p[KILL_BATCH];
    nfds_t n = 0, waited = 0;
    char *line, *rest;

    buf_str(list);
    rest = list->data;
    while (n < KILL_BATCH && (line = strsep(&rest, "\n")) != NULL) {
        int fd = line[0] != '\0' ? kill_member(name, line) : -1;

        if (fd >= 0)
            p[n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
    }
    for (nfds_t i = 0; i < n; i++) {
        int64_t left = end_ms - clock_mono_ms();

        if (poll(&p[i], 1, left > 0 ? (int)left : 0) > 0)
            waited++;
        close(p[i].fd);
    }
    if (waited ==
        0) /* all vanished between list and signal, or hang: give the kernel a moment before the next look */
        poll(NULL, 0, KILL_PAUSE_MS);
}

int cgroup_kill(const char *name, int timeout_ms, struct err *err)
{
    auto_free char *dir = group_dir(MEMBER, name);
    int64_t end = clock_mono_ms() + timeout_ms;
    auto_buf list = { 0 };
    bool unknown;

    if (dir == NULL)
        return 0;
    while (read_procs(name, &list, &unknown) || unknown) {
        if (cg.kind == CGROUP_V2)
            write_file(dir, "cgroup.kill",
                       "1"); /* since Linux 5.14; the loop below does it where that is missing */
        kill_listed(name, &list, end);
        if (clock_mono_ms() >= end && !cgroup_is_empty(name)) {
            err_set(err, ERR_TIMEOUT,
                    "processes of a compute did not end in time; it stays as it is, try again later");
            return err_detail(err, "control group %s is not empty after %d ms", dir, timeout_ms);
        }
    }
    return 0;
}

void cgroup_remove(const char *name)
{
    for (int h = 0; h < N_HIERARCHIES; h++) {
        auto_free char *dir = group_dir(h, name);

        if (dir != NULL && rmdir(dir) < 0 && errno != ENOENT)
            log_event(LOG_DEBUG, "cgroup", "group not removed", "dir", dir, "why", strerrordesc_np(errno),
                      NULL);
    }
}

void cgroup_fini(void)
{
    for (int h = 0; h < N_HIERARCHIES; h++) {
        if (cg.parent[h] != NULL)
            rmdir(cg.parent[h]); /* stays while a compute lives on: the next start finds it again */
    }
    forget();
}
