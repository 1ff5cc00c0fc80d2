"""First starts that have much to replay: a standby that is promoted, and what is different about it until its first checkpoint."""
import contextlib
import subprocess

import psycopg2
import pytest

from harness import procs
from harness.cluster import BINDIR
from harness.server import lsn, until

SEGMENT = 1 << 20


def log_of(branch):
    return (branch.mere.data / "logs" / f"{branch.endpoint_id}.log").read_text(errors="replace")


def fill(branch, n, rows=200000):
    branch.query("INSERT INTO t SELECT %s, i FROM generate_series(1, %s) i", n, rows)


def rows(branch):
    return branch.query("SELECT n, count(*) FROM t GROUP BY n ORDER BY n")


def control(branch, what):
    out = subprocess.run([f"{BINDIR}/pg_controldata", str(branch.pgdata())], capture_output=True, text=True, check=True).stdout
    return next(line.partition(":")[2].strip() for line in out.splitlines() if line.startswith(what))


@pytest.fixture
def busy(project):
    """A running branch with 25 MB of WAL behind its last checkpoint: enough to be promoted, too little for a fork to order another."""
    b = project.main
    b.query("CREATE TABLE t (n int, i int)")
    fill(b, 1)
    fill(b, 2)
    return b


def promoted(branch):
    text = log_of(branch)
    return "received promote request" in text and "end-of-recovery" not in text


def test_it_is_promoted_and_has_exactly_what_there_was(busy):
    child = busy.project.branch(busy)
    busy.query("INSERT INTO t VALUES (3, 3)")
    assert rows(child) == [(1, 200000), (2, 200000)] and promoted(child)
    fill(child, 4, 10)
    assert rows(child)[-1] == (4, 10) and rows(busy)[-1] == (3, 1)
    line, = child.mere.rows("SELECT fork_tli, fork_lsn, tli FROM branch WHERE id = ?", child.id)
    assert line["tli"] > line["fork_tli"] and not (child.pgdata() / "standby.signal").exists() and not (child.pgdata() / "promote").exists()


def test_little_is_recovered_as_ever(project):
    b = project.main
    b.query("CREATE TABLE t (n int, i int)")
    fill(b, 1, 100)
    child = project.branch(b)
    assert rows(child) == [(1, 100)] and not promoted(child)


@pytest.mark.expect_log(r"postgres ended by itself", r"cannot see the activity")
def test_killed_before_its_first_checkpoint(busy):
    """Its redo point still lies in its parent's history: the WAL from there on is its own, too."""
    child = busy.project.branch(busy)
    fill(child, 5, 1000)
    assert promoted(child)
    assert int(control(child, "Latest checkpoint's TimeLineID")) < int(control(child, "Min recovery ending loc's timeline"))
    for n in (6, 7):
        procs.kill(child.postmaster())
        until(lambda: not child.postmaster(), 20, "it to be gone")
        fill(child, n, 10)
    assert rows(child) == [(1, 200000), (2, 200000), (5, 1000), (6, 10), (7, 10)]


def test_a_branch_of_it_before_its_first_checkpoint(busy):
    child = busy.project.branch(busy)
    fill(child, 5, 1000)
    assert promoted(child)
    other = child.project.branch(child)
    fill(child, 6, 10)
    assert rows(other) == [(1, 200000), (2, 200000), (5, 1000)]
    place = child.value("SELECT pg_current_wal_flush_lsn()::text")
    fill(child, 7, 10)
    past = child.project.branch(child, parent_lsn=place)
    assert rows(past) == [(1, 200000), (2, 200000), (5, 1000), (6, 10)]


def test_its_archive_holds_nothing_of_its_parent(busy):
    child = busy.project.branch(busy)
    fill(child, 5, 1000)
    assert promoted(child)
    tli = f"{int(control(child, 'Min recovery ending loc')[-1]):08X}"
    with contextlib.closing(child.admin()) as conn, conn.cursor() as cur:
        cur.execute("CHECKPOINT")
        cur.execute("SELECT pg_switch_wal()")
    archive = child.mere.data / "wal" / child.id / "archive"
    until(lambda: any(p.name.startswith(tli) for p in archive.iterdir()), 20, "a segment of its own to be kept")
    child.suspend()
    assert not [p.name for p in archive.iterdir() if not p.name.startswith(tli)]
    assert rows(child)[-1] == (5, 1000)
    grand = child.project.branch(child)
    assert rows(grand)[-1] == (5, 1000)


def test_a_past_far_from_its_image(busy):
    place = busy.value("SELECT pg_current_wal_flush_lsn()::text")
    busy.suspend()
    fill(busy, 3)
    fill(busy, 4)
    place = busy.value("SELECT pg_current_wal_flush_lsn()::text")
    fill(busy, 5)
    child = busy.project.branch(busy, parent_lsn=place)
    assert [n for n, _ in rows(child)] == [1, 2, 3, 4] and promoted(child)
    at, = child.mere.rows("SELECT fork_lsn FROM branch WHERE id = ?", child.id)
    assert at["fork_lsn"] >= lsn(place)


@pytest.mark.parametrize("point", ["start.spawned", "start.recorded", "start.verified"])
@pytest.mark.expect_log(r".")
def test_mered_dies_on_the_way(new_mere, point):
    mere = new_mere(crash=True)
    mere.start()
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t (n int, i int)")
    fill(b, 1)
    fill(b, 2)
    mere.kill9()
    mere.start(env={"CRASH_AT": f"{point}:1"})
    child = project.branch(b)

    def dies():
        with contextlib.suppress(psycopg2.Error):  # the proxy would let it wait for longer
            child.query("SELECT 1", connect_timeout=2)
        return not mere.is_running()

    until(dies, 60, "the crash")
    mere.start()
    assert rows(child) == [(1, 200000), (2, 200000)] and promoted(child)
    project.delete()
