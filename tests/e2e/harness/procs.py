"""Processes and kernel objects as /proc and /sys tell them.  Reads only; never signals anything it was not given by id."""
import ctypes
import dataclasses
import os
import re
import signal
import time

CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


@dataclasses.dataclass(frozen=True)
class Proc:
    pid: int
    ppid: int
    session: int
    state: str
    start: int
    comm: str
    cmdline: str

    def __str__(self):
        return f"{self.pid} (parent {self.ppid}, {self.state}) {self.cmdline or self.comm}"


def read(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return default


def stat(pid):
    """The process, or None when it is gone."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    cmdline = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    return Proc(int(pid), int(fields[1]), int(fields[3]), fields[0], int(fields[19]), head.partition("(")[2], cmdline)


def everybody():
    return [p for p in (stat(int(d)) for d in os.listdir("/proc") if d.isdigit()) if p]


def alive(pid):
    p = stat(pid)
    return p is not None and p.state not in "ZX"


def links(pid):
    """Where cwd, exe and the open descriptors lead."""
    found = []
    paths = [f"/proc/{pid}/cwd", f"/proc/{pid}/exe"]
    try:
        paths += [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        pass
    for path in paths:
        try:
            found.append(os.readlink(path))
        except OSError:
            pass
    return found


def count_fds(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def belongs(proc, needles):
    """Does it name one of these paths in its arguments, environment, working directory or open files?"""
    texts = [proc.cmdline, read(f"/proc/{proc.pid}/environ")] + links(proc.pid)
    return any(n in t for n in needles for t in texts)


def owned_by(needles, exclude=()):
    """Processes that belong to these paths, and their descendants; zombies of theirs too."""
    procs = [p for p in everybody() if p.pid not in exclude]
    ours = {p.pid for p in procs if belongs(p, needles)}
    grown = True
    while grown:
        more = {p.pid for p in procs if p.ppid in ours and p.pid not in ours}
        ours |= more
        grown = bool(more)
    return [p for p in procs if p.pid in ours]


def lineage():
    """Ourselves and our ancestors: never suspects."""
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        p = stat(pid)
        pid = p.ppid if p else 0
    return found


def kill(pid, signo=signal.SIGKILL):
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        pass


def wait_gone(pids, timeout=30.0):
    deadline = time.monotonic() + timeout
    while any(alive(p) for p in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def shm_segments():
    """System V segments of our IPC namespace: {id: (creator pid, attached)}"""
    found = {}
    for line in read("/proc/sysvipc/shm").splitlines()[1:]:
        f = line.split()
        found[int(f[1])] = (int(f[4]), int(f[6]))
    return found


def shm_files():
    try:
        return set(os.listdir("/dev/shm"))
    except OSError:
        return set()


def mapped_shm_files(pids):
    found = set()
    for pid in pids:
        found |= set(re.findall(r"/dev/shm/(\S+)", read(f"/proc/{pid}/maps")))
    return found


def mounts():
    """Mount points of our namespace, as the kernel spells them."""
    return [line.split()[4].replace("\\040", " ") for line in read("/proc/self/mountinfo").splitlines()]


def loops():
    """{device: backing file}"""
    found = {}
    for name in os.listdir("/sys/block") if os.path.isdir("/sys/block") else []:
        backing = read(f"/sys/block/{name}/loop/backing_file").strip()
        if backing:
            found["/dev/" + name] = backing
    return found


def listening_unix():
    """Paths of listening unix sockets and the inode that names them: [(path, inode)]"""
    found = []
    for line in read("/proc/net/unix").splitlines()[1:]:
        f = line.split(None, 7)
        if len(f) == 8 and f[3] == "00010000":
            found.append((f[7], int(f[6])))
    return found


def unix_sockets_of(pid):
    inodes = {int(m.group(1)) for m in (re.match(r"socket:\[(\d+)\]", t) for t in links(pid)) if m}
    return [path for path, inode in listening_unix() if inode in inodes]


def isolate():
    """
    As root: own IPC and mount namespace and an own /dev/shm, so that what others do on the machine at the same time is not taken
    for ours, and what we mount ends with us.  Elsewhere nothing.
    """
    if os.getuid() != 0 or os.environ.get("MERE_TEST_SHARED") == "1":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0:
        return False
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    return libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"mode=1777") == 0
