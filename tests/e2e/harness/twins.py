"""
Negative twins: copies of a running cluster made wrongly on purpose, and the same copies made rightly.

Each fault is forced, not waited for, and returns a verdict: what the checks found.  A twin that nothing catches means that the checks
are blind; a right copy that something catches means that they cry wolf.  Stock Postgres only; nothing of ours runs here.
"""
import dataclasses
import contextlib
import os
import shutil
import signal
import subprocess

from . import checkers, cluster, load, procs
from .server import until

SCALE = 1
CONF = ("wal_recycle=on", "min_wal_size=2MB", "max_wal_size=32MB", "checkpoint_timeout=1h", "autovacuum=off", "wal_keep_size=0")
HEAD = ("restore_command=/bin/false", "recovery_target_timeline=current")


@dataclasses.dataclass
class Verdict:
    refused: str = ""           # it did not start, and why
    reached: int = 0            # where recovery ended
    wanted: int = 0             # where it had to end
    findings: tuple = ()        # what bank, append and amcheck said

    @property
    def short(self):
        return bool(self.wanted) and self.reached < self.wanted

    @property
    def caught(self):
        return bool(self.refused or self.short or self.findings)


class Source:
    """A cluster with a bank and an append table, and an exact idea of what is in it."""

    def __init__(self, base):
        self.main = cluster.Cluster(base, "source", CONF).initdb().start()
        load.pgbench_init(self.main.environ(), SCALE)
        self.main.query("CREATE TABLE append (client int, n bigint, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (client, n))")
        self.append = checkers.Append(self.main.connect, clients=1, create=False)
        self.work()
        self.main.query("CHECKPOINT")

    def work(self, transactions=200):
        """Some committed transactions of both kinds; returns when all are acknowledged."""
        argv = [f"{cluster.BINDIR}/pgbench", "-n", "-c", "2", "-t", str(transactions // 2)]
        subprocess.run(argv, env=self.main.environ(), check=True, capture_output=True)
        a = self.append.threads[0]
        conn = self.main.connect()
        n, now = a.resume(conn, 1), a.position(conn)
        for i in range(n, n + 20):
            with conn.cursor() as cur:
                cur.execute("INSERT INTO append (client, n) VALUES (0, %s)", (i,))
            after = a.position(conn)
            a.maybe.add(i)
            a.acks.append(checkers.Ack(i, 0.0, now, 0.0, after))
            now = after
        conn.close()

    def turn(self):
        """A checkpoint that recycles: afterwards nothing before its redo point is in pg_wal."""
        self.main.query("SELECT pg_switch_wal()")
        self.work(20)
        self.main.query("CHECKPOINT")
        self.main.query("SELECT pg_switch_wal()")
        self.main.query("CHECKPOINT")

    def close(self):
        self.main.kill()


def copy(source, target, skip=(), only=None):
    """Like cp -a, leaving out or taking only some top-level names; files that vanish meanwhile are nobody's loss."""
    target.pgdata.mkdir(mode=0o700, exist_ok=True)
    for name in sorted(os.listdir(source.pgdata)):
        if name in ("postmaster.pid", "postmaster.opts", *skip) or (only and name not in only):
            continue
        copy_into(source.pgdata / name, target.pgdata / name)


def copy_into(src, dst):
    if src.is_dir():
        shutil.copytree(src, dst, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    else:
        shutil.copy2(src, dst)


def frozen_copy(source, target, **kw):
    """All of it at one instant: every process stands still meanwhile."""
    stopped = []

    def stop(pid):
        with contextlib.suppress(ProcessLookupError):  # a worker that ended meanwhile
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    try:
        stop(source.proc.pid)  # first: it starts nobody any more
        for p in procs.everybody():
            if p.ppid == source.proc.pid:
                stop(p.pid)
        copy(source, target, **kw)
    finally:
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def examine(src, target, wanted=0, at=None, recovery=True):
    """Starts a copy and lets every check look at it."""
    for name in ("archive_status",):
        for f in (target.pgdata / "pg_wal" / name).glob("*"):
            f.unlink()
    if recovery:
        (target.pgdata / "recovery.signal").touch()
        target.conf += HEAD
    cluster.own(target.pgdata)
    verdict = Verdict(wanted=wanted)
    try:
        target.start()
        verdict.reached = target.reached()
        conn = target.connect()
        try:
            found = checkers.bank(conn, SCALE) + src.append.check(conn, at=at)
        except Exception as e:  # a broken catalogue is a finding too
            found = [f"could not be read: {e}"]
        conn.close()
        verdict.findings = tuple(found + checkers.amcheck(target.socket, 5432, "super", "postgres", cluster.BINDIR, cluster.os_user()))
    except cluster.DidNotStart as e:
        verdict.refused = str(e)
    finally:
        target.remove()
    return verdict


def backup_mode(src, target, with_label):
    """
    Data files first, then work and a checkpoint, then the control file: legal in backup mode, because the label says where to begin.
    Without it recovery begins at the later checkpoint, and what lies between is lost without a word.
    """
    conn = src.main.connect()
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backup_start('twin', true)")
        copy(src.main, target, skip=("global", "pg_wal"))
        copy_into(src.main.pgdata / "global", target.pgdata / "global")
        src.work()
        copy_into(src.main.pgdata / "pg_wal", target.pgdata / "pg_wal")  # as an archive would keep it
        src.main.query("CHECKPOINT")
        copy_into(src.main.pgdata / "global" / "pg_control", target.pgdata / "global" / "pg_control")
        src.work(20)
        cur.execute("SELECT lsn, labelfile FROM pg_backup_stop(true)")
        _, label = cur.fetchone()
    conn.close()
    head = src.main.lsn("pg_current_wal_flush_lsn()")
    copy_into(src.main.pgdata / "pg_wal", target.pgdata / "pg_wal")
    if with_label:
        (target.pgdata / "backup_label").write_text(label)
    return examine(src, target, wanted=head)


def stretched(src, target):
    """No backup mode: half of the files, then work and recycling checkpoints, then the rest.  Starts, and is wrong."""
    copy(src.main, target, only=("base",))
    src.work()
    src.turn()
    copy(src.main, target, skip=("base",))
    return examine(src, target)


def snapshot(src, target, hold, leave_out=None):
    """
    Data at one instant T, its WAL copied afterwards up to F.  hold=True keeps the WAL from the redo point on, as an archive would;
    hold=False takes what pg_wal still has after checkpoints have recycled it.  leave_out picks a segment to lose.
    """
    src.main.query("CHECKPOINT")
    src.work(100)
    src.main.query("SELECT pg_switch_wal()")
    src.work(100)
    src.main.query("SELECT pg_switch_wal()")
    src.work(100)
    frozen_copy(src.main, target, skip=("pg_wal",))
    redo = target_redo(target)
    head = src.main.lsn("pg_current_wal_flush_lsn()")
    wal = target.pgdata / "pg_wal"
    if hold:
        copy_into(src.main.pgdata / "pg_wal", wal)
    else:
        src.work()
        for _ in range(4):
            src.turn()
        first = cluster.segment_name(redo)
        assert first not in src.main.segments(), "the fault did not happen: the redo segment was not recycled"
        copy_into(src.main.pgdata / "pg_wal", wal)
    (wal / "archive_status").mkdir(exist_ok=True)
    needed = [s for s in sorted(os.listdir(wal)) if cluster.segment_name(redo) <= s <= cluster.segment_name(head) and len(s) == 24]
    if leave_out is not None:
        assert len(needed) >= 3, f"the fault needs a segment in the middle: {needed}"
        (wal / needed[leave_out(len(needed))]).unlink()
    return examine(src, target, wanted=head, at=head)


def target_redo(target):
    cluster.own(target.pgdata)
    return target.redo()


def cold(src, base, name, with_wal):
    """A stopped cluster, with or without the segment that holds its shutdown checkpoint."""
    target = cluster.Cluster(base, name, CONF)
    src.main.stop()
    try:
        copy(src.main, target)
    finally:
        src.main.start()
    if not with_wal:
        for f in (target.pgdata / "pg_wal").iterdir():
            if f.is_file():
                f.unlink()
    return examine(src, target)


def archived(src, base, name, status_kept):
    """
    What a cold copy archives that is its parent's: names of whole segments of the parent's timeline.  With archive_status as its
    parent left it, it archives what the parent had still to archive.
    """
    target, kept = cluster.Cluster(base, name, CONF), base / f"archive-{name}"
    src.main.query("SELECT pg_switch_wal()")
    src.main.stop()
    try:
        copy(src.main, target)
    finally:
        src.main.start()
    status = target.pgdata / "pg_wal" / "archive_status"
    for f in status.iterdir():
        f.unlink()
    if status_kept:
        for segment in (n for n in os.listdir(target.pgdata / "pg_wal") if len(n) == 24):
            (status / f"{segment}.ready").touch()
    kept.mkdir()
    (target.pgdata / "recovery.signal").touch()
    cluster.own(target.pgdata)
    cluster.own(kept)
    target.conf += [*HEAD, "archive_mode=on", f"archive_command=cp %p {kept}/%f"]
    try:
        target.start()
        own = target.value("SELECT pg_walfile_name(pg_switch_wal())")
        until(lambda: (kept / own).exists(), 30, "the copy's archiver")
        return [n for n in sorted(os.listdir(kept)) if len(n) == 24 and n[:8] < own[:8]]
    finally:
        target.stop()
        target.remove()
