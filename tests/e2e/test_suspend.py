"""Suspending: what counts as activity, what is gone afterwards, and that nothing a client was told is."""
import contextlib
import os
import signal
import subprocess
import threading
import time

import psycopg2
import pytest

from harness import checkers, load, procs
from harness.server import until


def stays_active(branch, seconds=3.5):
    """Longer than the timeout of 1 s and its checks: still the same start."""
    generation, deadline = branch.generation(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if branch.endpoint()["current_state"] != "active" or branch.generation() != generation:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def sleepy(project):
    """main, which suspends after a second."""
    project.main.patch_endpoint(suspend_timeout_seconds=1)
    return project.main


def test_nothing_is_left_of_a_suspended_compute(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    pids = [p.pid for p in b.compute()]
    assert len(pids) > 3
    b.suspend()
    assert not [p for p in pids if procs.alive(p)]
    assert mere.processes_named("postgres") == []
    assert mere.rows("SELECT head_lsn FROM branch WHERE id = ?", b.id)[0]["head_lsn"] > 0
    assert b.value("SELECT count(*) FROM t") == 1000


def test_start_suspend_restart_by_the_api(mere, project):
    b = project.main
    b.act("start")
    b.await_state("active")
    g = b.generation()
    b.act("start")
    assert b.generation() == g, "starting what runs starts nothing"
    b.act("restart")
    b.await_state("active")
    assert b.generation() == g + 1
    b.suspend()
    b.act("suspend")
    assert b.generation() == g + 1 and b.endpoint()["current_state"] == "idle"
    assert b.endpoint()["suspended_at"]


def test_an_open_idle_session_does_not_keep_it(sleepy):
    with contextlib.closing(sleepy.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")
        sleepy.await_state("idle", 20)


def test_a_transaction_keeps_it(sleepy):
    with contextlib.closing(sleepy.connect()) as conn:
        conn.autocommit = False
        with conn.cursor() as cur:
            cur.execute("CREATE TABLE t (n int)")
            assert stays_active(sleepy)
            cur.execute("INSERT INTO t VALUES (1)")
        conn.commit()
    sleepy.await_state("idle", 20)
    assert sleepy.value("SELECT n FROM t") == 1


def test_a_long_query_keeps_it(sleepy):
    with contextlib.closing(sleepy.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_sleep(4)")
        cur.execute("SELECT 1")
    sleepy.await_state("idle", 20)


def test_short_queries_keep_it(sleepy):
    generation = None
    with contextlib.closing(sleepy.connect()) as conn, conn.cursor() as cur:
        for _ in range(16):
            cur.execute("SELECT 1")
            generation = generation or sleepy.generation()
            time.sleep(0.25)
    assert sleepy.generation() == generation
    sleepy.await_state("idle", 20)


def test_never_means_never(mere, project):
    project.main.patch_endpoint(suspend_timeout_seconds=-1)
    assert project.main.value("SELECT 1") == 1
    assert stays_active(project.main)


def test_suspend_under_load_loses_nothing(mere, project):
    """Asked for explicitly it ends sessions; what was acknowledged is there, what was not is not half there."""
    b = project.main
    load.pgbench_init(b.environ(), 1)
    append = checkers.Append(b.connect, clients=2).start()
    bench = load.Pgbench(b.environ(), clients=2)
    until(lambda: append.acknowledged() > 100, 30, "100 rows")
    for _ in range(3):
        n = append.acknowledged()
        b.act("suspend")
        until(lambda n=n: append.acknowledged() > n + 20, 30, "appends to go on after the wake")
    bench.stop()
    append.stop()
    with contextlib.closing(b.connect()) as conn:
        assert checkers.bank(conn, 1) + append.check(conn) == []


def test_suspend_again_and_again_costs_little_wal(mere, project):
    b = project.main
    b.query("CREATE TABLE t (n int)")
    sizes = []
    for i in range(6):
        b.query("INSERT INTO t VALUES (%s)", i)
        b.suspend()
        wal = mere.data / "wal" / b.id
        sizes.append(sum(f.stat().st_blocks * 512 for f in wal.rglob("*") if f.is_file()))
    assert b.value("SELECT count(*) FROM t") == 6
    assert (sizes[-1] - sizes[1]) / 4 <= 3 << 20, sizes


def test_a_restart_of_mered_leaves_the_archiver_alone(new_mere):
    """What Postgres runs to keep its WAL is bound into the compute's namespace: a new mered must not pull it away."""
    mere = new_mere()
    mere.start()
    b = mere.create_project().main
    b.query("CREATE TABLE t (n int, pad text)")
    for life in range(2):
        mere.kill9()
        mere.start()
        b.query("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 6000) AS i")
    archive = mere.data / "wal" / b.id / "archive"
    until(lambda: len([n for n in os.listdir(archive) if len(n) == 24]) >= 6, 20, "the archiver")
    b.suspend()  # the ledger counts the segments


def images_of(branch):
    return branch.mere.rows("SELECT id, lsn, until_lsn, state FROM image WHERE branch_id = ? ORDER BY lsn", branch.id)


def archived_bytes(branch):
    archive = branch.mere.data / "wal" / branch.id / "archive"
    return sum(os.path.getsize(archive / n) for n in os.listdir(archive))


def rest(branch):
    """To suspended, where the images it leaves and the head are told together."""
    branch.suspend()
    return images_of(branch), branch.mere.rows("SELECT head_lsn FROM branch WHERE id = ?", branch.id)[0]["head_lsn"]


def test_idle_cycles_leave_one_image(mere, project):
    """An image is taken when somebody did something; until then the newest one is the branch as it is."""
    b = project.main
    b.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    first, _ = rest(b)
    b.query("SELECT count(*) FROM t")  # sets hints, which is nothing that was done
    before = archived_bytes(b)
    for i in range(20):
        b.act("start")
        b.await_state("active")
        images, head = rest(b)
        assert [x["id"] for x in images] == [x["id"] for x in first] and images[-1]["until_lsn"] == head, i
        if i % 9 == 4:
            child = project.branch(b)
            assert child.parent_lsn == first[-1]["lsn"] < head and child.answer["operations"][0]["status"] == "finished"
            assert child.value("SELECT count(*) FROM t") == 1000
            there = project.branch(b, parent_lsn=f"{head >> 32:X}/{head & 0xFFFFFFFF:X}")
            assert there.value("SELECT count(*) FROM t") == 1000
    assert archived_bytes(b) - before <= 21 << 20
    b.query("INSERT INTO t VALUES (1001)")
    images, head = rest(b)
    assert len(images) == len(first) + 1 and images[-1]["lsn"] == head
    assert project.branch(b).value("SELECT count(*) FROM t") == 1001
    assert b.value("SELECT count(*) FROM t") == 1001


@pytest.mark.parametrize("what", ["CREATE UNLOGGED TABLE u AS SELECT 1 AS n", "CREATE TEMPORARY TABLE x (n int)", "SELECT nextval('s')",
                                  "SELECT n FROM t FOR UPDATE", "ANALYZE t", "DELETE FROM t"])
def test_what_is_not_idle(mere, project, what):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    b.query("CREATE SEQUENCE s")
    before, _ = rest(b)
    b.query(what)
    after, head = rest(b)
    assert after[-1]["lsn"] == head > before[-1]["until_lsn"]


def test_a_role_that_was_applied_is_not_idle(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    before, _ = rest(b)
    mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "another"}}))
    after, head = rest(b)
    assert after[-1]["lsn"] == head > before[-1]["until_lsn"]
    assert project.branch(b).value("SELECT count(*) FROM pg_roles WHERE rolname = 'another'") == 1


def test_fifty_cycles_leak_no_descriptors(mere, project):
    b = project.main
    b.value("SELECT 1")
    b.suspend()
    before = {pid: procs.count_fds(pid) for pid in (mere.proc.pid, mere.proxy_pid())}
    for _ in range(25):
        assert b.value("SELECT 1") == 1
        b.suspend()
    until(lambda: all(procs.count_fds(pid) <= n + 4 for pid, n in before.items()), 10, f"descriptors to be as few as before: {before}")


# --- computes that die ---------------------------------------------------------------------------------------------------------------


DIED = r"(?i)exit|died|crash|signal|ended|killed|recover|unexpected|lost|cannot see|killing"


@pytest.mark.expect_log(DIED)
@pytest.mark.parametrize("victim", ["postmaster", "backend", "everything"])
def test_a_killed_compute_comes_back(mere, project, victim):
    b = project.main
    append = checkers.Append(b.connect, clients=2).start()
    until(lambda: append.acknowledged() > 50, 30, "50 rows")
    found = b.compute()
    if victim == "postmaster":
        pids = [b.postmaster()]
    elif victim == "backend":
        pids = [p.pid for p in found if "neondb" in p.cmdline][:1]
        assert pids, found
    else:
        pids = [p.pid for p in found]
    for pid in pids:
        procs.kill(pid)
    n = append.acknowledged()
    until(lambda: append.acknowledged() > n + 20, 30, "appends to go on")
    append.stop()
    with contextlib.closing(b.connect()) as conn:
        assert append.check(conn) == []
    assert len([1 for ep in mere.postmasters().values() if ep == b.endpoint_id]) == 1


@pytest.mark.expect_log(DIED)
def test_an_orphan_backend_is_waited_out_or_ended(mere, project):
    """The postmaster is gone, a backend of it still commits: nobody else may be started beside it."""
    b = project.main
    b.query("CREATE TABLE t (n bigint)")
    b.query("""CREATE PROCEDURE spin() LANGUAGE plpgsql AS $$ DECLARE x bigint := 0; BEGIN FOR i IN 1..1000000 LOOP
               FOR j IN 1..200000 LOOP x := x + j % 7; END LOOP; INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$""")

    def spin():
        with contextlib.suppress(psycopg2.Error), contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
            cur.execute("CALL spin()")

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    until(lambda: b.value("SELECT count(*) FROM t") > 2, 30, "the loop to commit")
    old = {p.pid for p in b.compute()}
    spinner = {p.pid for p in b.compute() if "CALL" in p.cmdline}
    procs.kill(b.postmaster())
    count = b.value("SELECT count(*) FROM t")
    assert not [p for p in spinner if procs.alive(p)], "a second server runs beside an orphan of the first"
    assert count > 2
    thread.join(30)
    assert not [p for p in old if procs.alive(p)]


@pytest.mark.expect_log(DIED)
def test_killed_and_deleted_leaves_no_shared_memory(mere, project):
    b = project.branch(project.main)
    assert b.value("SELECT 1") == 1
    for p in b.compute():
        procs.kill(p.pid)
    b.delete()


@pytest.mark.expect_log(DIED)
def test_a_stale_pid_file_is_no_obstacle(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    b.suspend()
    sleeper = subprocess.Popen(["sleep", "600"], user="postgres" if os.getuid() == 0 else None)
    try:
        for content in (f"{sleeper.pid}\n{b.pgdata()}\n", "1\n", "garbage\n", "", f"{2**22 - 3}\n", f"{os.getpid()}\n"):
            pid_file = b.pgdata() / "postmaster.pid"
            pid_file.write_text(content)
            assert b.value("SELECT n FROM t") == 1, repr(content)
            assert procs.alive(sleeper.pid)
            b.suspend()
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.expect_log(r"(?i)stop|quit|kill|fast|immediate|in time")
@pytest.mark.slow
def test_a_compute_that_will_not_stop(mere, project):
    """A frozen backend ignores every signal but the last."""
    b = project.main
    conn = b.connect()
    with conn.cursor() as cur:
        cur.execute("CREATE TABLE t AS SELECT 1 AS n")
        cur.execute("SELECT pg_backend_pid()")
        pid = cur.fetchone()[0]
    os.kill(pid, signal.SIGSTOP)
    b.suspend(timeout=90)
    assert not procs.alive(pid)
    conn.close()
    assert b.value("SELECT n FROM t") == 1
