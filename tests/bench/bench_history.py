#!/usr/bin/python3
"""
Measures history: forks in the past, forks of large and busy parents, deep chains, recovery, suspends.  Writes build/bench/history.json.

Baseline and measured runs alternate, so that whatever else the machine does hits both.  A row that counts what is wrong is missed when
anything is.

MERE_BENCH_QUICK=1     small sizes and few repeats: shows that everything works, proves little
MERE_BENCH_ROWS        names from ROWS below, separated by commas; all when not given
MERE_BENCH_SIZES       megabytes of the parents under load, 400,5000
MERE_BENCH_DIR         where the data directory goes (a temporary one).  MERE_STORE: the driver; as root a disk file by default.
"""
import contextlib
import glob
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/e2e"), str(ROOT / "tests/bench")]

import stock  # noqa: E402
from harness.cluster import BINDIR  # noqa: E402
from harness.recording import Recording, inversions, text  # noqa: E402
from harness.server import ApiError, Mere, lsn  # noqa: E402
from table import Table  # noqa: E402

QUICK = os.environ.get("MERE_BENCH_QUICK") == "1"
MB = 1 << 20
MB_PER_SCALE = 15  # of pgbench, with its indexes
CLIENTS = 4
LIMITS = {400: "<= 0.6", 5000: "<= 0.15"}


def pick(quick, full):
    return quick if QUICK else full


def sizes():
    given = os.environ.get("MERE_BENCH_SIZES")
    return [int(s) for s in given.split(",")] if given else pick([400], [400, 5000])


def vacuum(branch):
    """pgbench -i leaves hint bits and statistics to be written: done now, it disturbs no measurement later."""
    branch.query("VACUUM ANALYZE")


def filled(mere, megabytes):
    """A project whose default branch holds about so much, suspended once, so that there is an image.  The filling leaves no history: it takes room."""
    project = mere.create_project()
    usual = project.call("GET", "")["project"]["history_retention_seconds"]
    pgbench_init_long(project.main, max(1, round(megabytes / MB_PER_SCALE)))
    vacuum(project.main)
    project.main.suspend(timeout=300)
    for seconds in (0, usual):
        project.call("PATCH", "", {"project": {"history_retention_seconds": seconds}})  # asks for a sweep, too
        time.sleep(pick(2, 20))
    return project


def pgbench_init_long(branch, scale):
    argv = [f"{BINDIR}/pgbench", "-i", "-q", "-I", "dtGp", "-s", str(scale)]
    subprocess.run(argv, env=branch.environ(), check=True, capture_output=True, timeout=3600)


def first_write(branch):
    branch.query("CREATE TABLE first_write (n int)")


# --- what a branch of the past holds ------------------------------------------------------------------------------------------------


def counted(recording, places, judge):
    wrong = 0
    for at in places:
        child = recording.branch.project.branch(recording.branch, parent_lsn=text(at))
        found = judge(child, at)
        if found:
            wrong += 1
            print(f"    {text(at)}: {found}", file=sys.stderr)
        child.delete()
    return wrong


def measure_exact(mere, table):
    project = mere.create_project()
    r = Recording(project.main, sizes=(200, 200, 100))
    rng = random.Random(15)
    n = pick(30, 1000)
    table.row(f"{n} random LSNs, half of them where a commit begins: states with a transaction extra or missing",
              counted(r, r.random_places(rng, n), r.wrong), "", "= 0")
    n = pick(30, 400)
    table.row(f"{n} LSNs at page, segment and record edges: states with a transaction extra or missing", counted(r, r.edges(rng, n), r.wrong), "", "= 0")
    measure_moments(r, table, rng)
    project.delete(timeout=300)


def measure_moments(r, table, rng):
    s, odd = r.stamped[1:], inversions(r.history)
    n, wrong = pick(20, 200), 0
    for i in range(n):
        moment = (rng.choice(s) if i % 2 else rng.choice(rng.choice(odd))).stamp
        child = r.branch.project.branch(r.branch, parent_timestamp=moment.isoformat())
        want = r.history.at_time(moment)
        wrong += (want is not None and child.parent_lsn != want) or bool(r.wrong(child, child.parent_lsn))
        child.delete()
    table.row("  stamps of that history that are out of LSN order", len(odd), "", ">= 1")
    table.row(f"{n} moments: forks elsewhere than a reference scan says, or with a transaction extra or missing", wrong, "", "= 0")


# --- what goes while branches are made ----------------------------------------------------------------------------------------------


SEGMENT = 1 << 20


class Growing:
    """A branch that gets a numbered megabyte again and again, is suspended now and then, and swept all the time."""

    def __init__(self, project, keep_seconds):
        self.project, self.branch, self.seconds = project, project.main, keep_seconds
        self.places, self.stop = [], threading.Event()
        self.branch.query("CREATE TABLE t (n int, pad text)")
        self.threads = [threading.Thread(target=f) for f in (self.grow, self.sweep)]

    def keep(self, seconds):
        self.project.call("PATCH", "", {"project": {"history_retention_seconds": seconds}})  # asks for a sweep, too

    def write(self, n):
        self.branch.query("INSERT INTO t SELECT %s, repeat('x', 200) FROM generate_series(1, 4000)", n)
        self.places.append((lsn(self.branch.value("SELECT pg_current_wal_flush_lsn()")), n))

    def grow(self):
        n = len(self.places)
        while not self.stop.wait(0.3):
            n += 1
            self.write(n)
            if n % 4 == 0:
                with contextlib.suppress(ApiError):  # a fork is under way
                    self.branch.suspend()

    def sweep(self):
        while not self.stop.wait(0.2):
            self.keep(self.seconds)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()


def wrong_rows(child, at, places):
    """Complete numbers from 1 on, up to the last one written before the place (or the one that was being written)."""
    have = child.query("SELECT n, count(*) FROM t GROUP BY n ORDER BY n")
    last = max((n for place, n in places if place <= at), default=0)
    return have not in ([(n, 4000) for n in range(1, last + 1)], [(n, 4000) for n in range(1, last + 2)])


def unneeded(mere, branch):
    """Bytes of a branch without children and without a window: all beside its newest image and the WAL from that on."""
    images = mere.rows("SELECT id, lsn FROM image WHERE branch_id = ? ORDER BY lsn", branch.id)
    row, = mere.rows("SELECT volume_id, tli FROM branch WHERE id = ?", branch.id)
    archive = mere.data / "wal" / row["volume_id"] / "archive"
    old = [e for e in os.scandir(archive) if len(e.name) == 24 and int(e.name[:8], 16) == row["tli"]
           and (int(e.name[8:16], 16) * 4096 + int(e.name[16:], 16) + 1) * SEGMENT <= images[-1]["lsn"]]
    volumes = sum(disk_of_tree(mere.data / "volumes" / i["id"]) for i in images[:-1])
    return volumes + sum(e.stat().st_size for e in old)


def disk_of_tree(top):
    return sum(os.lstat(os.path.join(where, f)).st_blocks * 512 for where, _, files in os.walk(top) for f in files)


def measure_garbage(mere, table):
    project = mere.create_project()
    g = Growing(project, 20)
    for n in range(1, 9):
        g.write(n)
        if n % 2:
            g.branch.suspend()
    for t in g.threads:
        t.start()
    made, failed, gone = [], [], []

    def fork(seed):
        rng = random.Random(seed)
        for _ in range(5):
            lo, hi = g.places[-min(len(g.places), 6)][0], g.places[-1][0]
            at = rng.randrange(lo, hi)
            try:
                made.append((at, project.branch(g.branch, parent_lsn=text(at))))
            except ApiError as e:
                (gone if "earliest_lsn" in (e.body or {}) else failed).append(e)

    forks = [threading.Thread(target=fork, args=(seed,)) for seed in range(10)]
    for t in forks:
        t.start()
    for t in forks:
        t.join()
    g.end()
    wrong = sum(wrong_rows(child, at, g.places) for at, child in made)
    table.row("forks at random LSNs from 10 threads, while the branch grows and is swept", len(made), "", ">= 45")
    table.row("  refused because the window had passed their LSN", len(gone), "")
    table.row("  failed", len(failed), "", "= 0")
    table.row("  branches with other rows than were there", wrong, "", "= 0")
    for _, child in made:
        child.delete()
    g.branch.suspend()
    g.keep(0)
    time.sleep(2)
    before = unneeded(mere, g.branch)
    g.keep(0)
    time.sleep(3)
    table.row("bytes that nothing needs, after the window was closed", before, "B")
    table.row("bytes that nothing needs, after one more pass", unneeded(mere, g.branch), "B", "= 0")
    project.delete(timeout=300)


# --- a busy parent ------------------------------------------------------------------------------------------------------------------


class Busy:
    """pgbench that writes down when each transaction ended."""

    def __init__(self, branch, base):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pgbench-", dir=base))
        argv = [f"{BINDIR}/pgbench", "-n", "-c", str(CLIENTS), "-j", "1", "-T", "36000", "-l", "--log-prefix", str(self.dir / "log")]
        self.proc = subprocess.Popen(argv, env=branch.environ(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)

    def stop(self):
        assert self.proc.poll() is None, f"pgbench ended: {self.proc.stderr.read().decode()[-1000:]}"
        self.proc.terminate()
        self.proc.wait(60)
        ends = []
        for path in glob.glob(str(self.dir / "log*")):
            for line in open(path, encoding="ascii"):
                words = line.split()
                if len(words) >= 6:
                    ends.append(int(words[4]) + int(words[5]) / 1e6)
        shutil.rmtree(self.dir)
        return sorted(ends)


def rate(ends, begin, end):
    return sum(begin <= t < end for t in ends) / (end - begin)


def stall(ends, begin, end):
    """The longest time in which no client's transaction ended."""
    inside = [begin] + [t for t in ends if begin <= t < end] + [end]
    return max(b - a for a, b in zip(inside, inside[1:]))


def fork_and_write(parent):
    """(seconds of the POST, seconds until a session has written)."""
    begun = time.monotonic()
    child = parent.project.branch(parent, wait=False)
    answered = time.monotonic()
    first_write(child)
    done = time.monotonic()
    parent.mere.wait_operations(parent.project.id, child.answer, 300)
    child.delete(timeout=300)
    return answered - begun, done - begun


def settle():
    """What the run before has left to be written and freed is not the next one's."""
    for _ in range(2):
        os.sync()
        time.sleep(pick(1, 4))


def against_base_backup(table, by_hand, parent, megabytes):
    post, ours, copied, theirs = [], [], [], []
    by_hand.allow_backups(parent)
    for _ in range(pick(3, 9)):
        settle()
        one, all_of_it = fork_and_write(parent)
        post.append(one)
        ours.append(all_of_it)
        settle()
        one, all_of_it = by_hand.base_backup(parent)
        copied.append(one)
        theirs.append(all_of_it)
    name = f"parent of {megabytes} MB under pgbench -c {CLIENTS}"
    table.series(f"{name}: POST until a session has written", ours)
    table.series("  of which the POST", post)
    table.series(f"{name}: pg_basebackup --checkpoint=fast until a session has written", theirs)
    table.series("  of which the copy", copied)
    table.row(f"{name}: a branch against a base backup, p50", statistics.median(ours) / statistics.median(theirs), "x", LIMITS.get(megabytes, "<= 0.6"))


def undisturbed(table, parent, megabytes, base):
    """Around forks, and by turns around moments at which nothing is done: what the load does by itself."""
    load = Busy(parent, base)
    moments, children = {"fork": [], "nothing": []}, []
    time.sleep(pick(15, 30))
    for i in range(2 * pick(2, 9)):
        what = "nothing" if i % 2 else "fork"
        moments[what].append(time.time())
        if what == "fork":
            children.append(parent.project.branch(parent, wait=False))
        time.sleep(21)
    ends = load.stop()
    for child in children:
        parent.mere.wait_operations(parent.project.id, child.answer, 300)
        child.delete(timeout=300)
    ratios = {what: [rate(ends, t - 1, t + 9) / rate(ends, t - 11, t - 1) for t in times] for what, times in moments.items()}
    stalls = {what: max(stall(ends, t - 1, t + 9) for t in times) for what, times in moments.items()}
    name = f"parent of {megabytes} MB under pgbench -c {CLIENTS}"
    table.row(f"{name}: transactions a second before forks", statistics.mean(rate(ends, t - 11, t - 1) for t in moments["fork"]), "1/s")
    table.row(f"{name}: throughput of the 10 s around a fork against the 10 s before, p50 of {len(children)}", statistics.median(ratios["fork"]), "x", ">= 0.9")
    table.row("  the worst of them", min(ratios["fork"]), "x")
    table.row("  the same around nothing, p50", statistics.median(ratios["nothing"]), "x")
    table.row("  the worst of these", min(ratios["nothing"]), "x")
    table.row(f"{name}: longest time without a commit, around forks", stalls["fork"], "s", "<= 0.5")
    table.row("  the same around nothing", stalls["nothing"], "s")


def measure_busy(mere, table):
    by_hand = stock.Bench(mere)
    try:
        for megabytes in sizes():
            project = filled(mere, megabytes)
            parent = project.main
            undisturbed(table, parent, megabytes, mere.base)
            load = Busy(parent, mere.base)
            time.sleep(5)
            against_base_backup(table, by_hand, parent, megabytes)
            load.stop()
            project.delete(timeout=600)
    finally:
        by_hand.close()


def measure_images(mere, table):
    """A busy branch of which an image is taken in the background every 48 MB of WAL, against the time before."""
    project = filled(mere, 400)
    b = project.main
    load = Busy(b, mere.base)
    time.sleep(pick(15, 40))
    begun = time.time()
    project.call("PATCH", "", {"project": {"settings": {"image_wal_bytes": 48 * MB}}})
    time.sleep(pick(40, 120))
    end = time.time()
    ends = load.stop()
    taken = [r["created_at"] / 1e6 for r in mere.rows("SELECT created_at FROM image WHERE branch_id = ? AND state = 'ready'", b.id)]
    taken = [t for t in taken if begun < t < end - 9]
    name = "parent of 400 MB under pgbench -c 4, an image every 48 MB of WAL"
    table.row(f"{name}: images taken while it ran", len(taken), "", ">= 2")
    table.row("  transactions a second before", rate(ends, begun - 20, begun), "1/s")
    table.row("  transactions a second meanwhile, against before", rate(ends, begun, end) / rate(ends, begun - 20, begun), "x")
    table.row("  longest time without a commit, around images", max((stall(ends, t - 1, t + 9) for t in taken), default=99), "s", "<= 0.5")
    table.row("  the same before", stall(ends, begun - 20, begun), "s")
    project.delete(timeout=600)


# --- suspended parents of different sizes -------------------------------------------------------------------------------------------


def measure_sizes(mere, table):
    all_sizes = pick([20, 200], [20, 1000, 5000])
    projects = {size: filled(mere, size) for size in all_sizes}
    took, post = {s: [] for s in all_sizes}, {s: [] for s in all_sizes}
    for _ in range(pick(5, 15)):
        for size, project in projects.items():
            one, all_of_it = fork_and_write(project.main)
            post[size].append(one)
            took[size].append(all_of_it)
    for size in all_sizes:
        table.series(f"fork of a suspended parent of {size} MB, POST until a session has written", took[size])
        table.row("  of which the POST, p50", statistics.median(post[size]), "s")
    medians = [statistics.median(took[s]) for s in all_sizes]
    table.row(f"fork time of a suspended parent at {', '.join(map(str, all_sizes))} MB, largest against smallest", max(medians) / min(medians), "x", "<= 1.5")
    for project in projects.values():
        project.delete(timeout=600)


# --- a chain ------------------------------------------------------------------------------------------------------------------------


def reads(branch, seconds):
    out = subprocess.run([f"{BINDIR}/pgbench", "-n", "-S", "-c", "2", "-T", str(seconds)], env=branch.environ(), capture_output=True, text=True, check=True).stdout
    return float(next(line.split()[2] for line in out.splitlines() if line.startswith("tps")))


def measure_chain(mere, table):
    depth, scale = 20, pick(3, 20)
    project = mere.create_project()
    line = [project.main]
    pgbench_init_long(project.main, scale)
    vacuum(project.main)
    for _ in range(depth):
        subprocess.run([f"{BINDIR}/pgbench", "-n", "-c", "2", "-t", str(pick(50, 500))], env=line[-1].environ(), capture_output=True, check=True)
        line[-1].suspend(timeout=120)
        line.append(project.branch(line[-1]))
    root, deepest = line[0], line[-1]
    for b in (root, deepest):
        vacuum(b)
        reads(b, 2)
    one, other = [], []
    for i in range(pick(8, 20)):  # short and many, by turns first: what else the machine does hits both
        for b, figures in ((root, one), (deepest, other))[::1 if i % 2 else -1]:
            figures.append(reads(b, 3))
    table.row(f"reads a second of the root of {depth} chained branches, p50", statistics.median(one), "1/s")
    table.row("reads a second of the deepest, p50", statistics.median(other), "1/s")
    table.row("the deepest against the root", statistics.median(other) / statistics.median(one), "x", ">= 0.95")
    project.delete(timeout=600)


# --- replay -------------------------------------------------------------------------------------------------------------------------


def newest_image(mere, branch):
    rows = mere.rows("SELECT id, lsn FROM image WHERE branch_id = ? AND state = 'ready' ORDER BY lsn DESC LIMIT 1", branch.id)
    return rows[0]["id"], rows[0]["lsn"]


def place_behind(mere, branch, distance):
    """Writes until the head is `distance` behind the newest image; (image, a place so far behind it)."""
    image, start = newest_image(mere, branch)
    while lsn(branch.value("SELECT pg_current_wal_flush_lsn()")) < start + distance:
        subprocess.run([f"{BINDIR}/pgbench", "-n", "-c", "4", "-t", "500"], env=branch.environ(), capture_output=True, check=True)
    assert newest_image(mere, branch)[0] == image, "an image was taken meanwhile: there is nothing to replay"
    return image, start, start + distance


def measure_replay(mere, table):
    by_hand = stock.Bench(mere)
    try:
        project = filled(mere, pick(60, 200))
        b = project.main
        image, _, at = place_behind(mere, b, 64 * MB)
        ours, theirs = [], []
        for _ in range(pick(3, 9)):
            begun = time.monotonic()
            child = project.branch(b, parent_lsn=text(at), wait=False)
            first_write(child)
            ours.append(time.monotonic() - begun)
            child.delete(timeout=120)
            theirs.append(by_hand.recover(b, image, text(at)))
        table.series("an LSN 64 MB of WAL after its image, POST until a session has written", ours)
        table.series("recovery of the same image and WAL by hand until a session has written", theirs)
        table.row("materialise an LSN 64 MB of WAL after its image, against stock recovery of the same", statistics.median(ours) / statistics.median(theirs), "x", "<= 1.3")
        project.delete(timeout=300)
    finally:
        by_hand.close()


# --- suspends -----------------------------------------------------------------------------------------------------------------------


def apparent(path):
    """Bytes as names and sizes say: before compression and holes."""
    return sum(e.stat(follow_symlinks=False).st_size for e in os.scandir(path) if e.is_file(follow_symlinks=False))


def measure_suspends(mere, table):
    cycles = pick(50, 1000)
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    b.suspend()
    archive = mere.data / "wal" / b.id / "archive"
    before, blocks = apparent(archive), disk(archive)
    for _ in range(cycles):
        b.act("start")
        b.suspend()
    table.row(f"{cycles} suspends of an idle branch: history grows in a cycle by", (apparent(archive) - before) / cycles / MB, "MB", "<= 1")
    table.row("  on disk", (disk(archive) - blocks) / cycles / MB, "MB")
    table.row("  images at the end", mere.rows("SELECT count(*) AS n FROM image WHERE branch_id = ?", b.id)[0]["n"], "")
    table.row("  and in pg_wal", apparent(archive.parent / "pg_wal") / MB, "MB")
    project.delete(timeout=300)


def disk(path):
    return sum(e.stat(follow_symlinks=False).st_blocks * 512 for e in os.scandir(path))


# In this order.
ROWS = {"exact": measure_exact, "garbage": measure_garbage, "busy": measure_busy, "images": measure_images, "sizes": measure_sizes, "chain": measure_chain, "replay": measure_replay, "suspends": measure_suspends}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is taken down also then
    wanted = os.environ.get("MERE_BENCH_ROWS")
    names = wanted.split(",") if wanted else list(ROWS)
    base = pathlib.Path(tempfile.mkdtemp(prefix="mere-bench-", dir=os.environ.get("MERE_BENCH_DIR") or "/tmp"))
    base.chmod(0o755)
    store = os.environ.get("MERE_STORE") or (f"disk:{pick('8GB', '16GB')}" if os.getuid() == 0 else "auto")
    m, table = Mere(base=base, store=store, config={"suspend-timeout-seconds": 3600}), Table()
    try:
        m.start()
        print(f"store {m.store}, {os.cpu_count()} cores{', quick' if QUICK else ''}")
        for name in names:
            print(f"\n{name}:")
            ROWS[name](m, table)
        m.stop(timeout=120)
    except BaseException:
        print(m.log_text()[-3000:], file=sys.stderr)
        raise
    finally:
        subprocess.run(["umount", "-q", str(base / "stock" / "volumes")], check=False, stderr=subprocess.DEVNULL)
        m.scrub()
        shutil.rmtree(base, ignore_errors=True)
    return 1 if table.end(ROOT / "build/bench/history.json") else 0


if __name__ == "__main__":
    sys.exit(main())
