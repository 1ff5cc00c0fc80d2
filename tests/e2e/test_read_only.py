"""Read-only endpoints: standbys that follow a branch, beside it while it runs and alone while it sleeps."""
import contextlib
import os
import signal
import subprocess
import threading
import time

import psycopg2
import pytest

from harness import procs
from harness.cluster import BINDIR
from harness.server import ApiError, Branch, gone, lsn, until


class Reader(Branch):
    """A read_only endpoint of a branch, with the branch's own ways of connecting."""

    def __init__(self, branch, endpoint_id):
        super().__init__(branch.project, branch.body, endpoint_id)

    def volume(self):
        return self.mere.data / "volumes" / self.endpoint_id

    def left(self):
        d = self.mere.data
        return [p for p in (d / "volumes" / self.endpoint_id, d / "wal" / self.endpoint_id, d / "locks" / f"{self.endpoint_id}.lock") if p.exists()]


def reader(branch, **fields):
    body = branch.project.call("POST", "/endpoints", {"endpoint": {"branch_id": branch.id, "type": "read_only", **fields}})
    branch.mere.wait_operations(branch.project.id, body)
    assert body["endpoint"]["type"] == "read_only"
    return Reader(branch, body["endpoint"]["id"])


def refused(r, sql="INSERT INTO t VALUES (99)"):
    with pytest.raises(psycopg2.Error) as e:
        r.query(sql)
    return e.value.pgcode


@pytest.fixture
def b(project):
    branch = project.main
    branch.query("CREATE TABLE t (n int)")
    return branch


def count(x):
    return x.value("SELECT count(*) FROM t")


def test_it_follows_a_running_branch(b):
    r = reader(b)
    assert count(r) == 0 and refused(r) == "25006"
    with contextlib.closing(r.connect()) as conn, conn.cursor() as cur:
        for n in range(5):
            b.query("INSERT INTO t SELECT generate_series(1, 1000)")
            wrote = time.monotonic()

            def there(want=1000 * (n + 1), cur=cur):
                cur.execute("SELECT count(*) FROM t")
                return cur.fetchone()[0] == want
            until(there, 20, "the rows to come over")
            print(f"lag {time.monotonic() - wrote:.2f} s")
    assert b.endpoint()["current_state"] == "active" and r.endpoint()["current_state"] == "active"
    lag = until(lambda: r.endpoint()["lag_bytes"] == 0 and r.endpoint(), 20, "it to have all of it")
    assert lag["lag_seconds"] == 0 and lsn(lag["replay_lsn"]) >= lsn(b.value("SELECT pg_current_wal_flush_lsn()::text")) - 65536
    assert "lag_bytes" not in b.endpoint()


def test_many_segments_and_big_transactions(b):
    r = reader(b)
    assert count(r) == 0
    b.query("INSERT INTO t SELECT generate_series(1, 200000)")
    b.query("CREATE INDEX ON t (n)")
    b.query("DELETE FROM t WHERE n % 2 = 0")
    b.query("VACUUM t")
    until(lambda: count(r) == 100000, 60, "all of it to come over")
    assert r.value("SELECT count(*) FROM t WHERE n = 77777") == 1


def test_all_that_was_committed_before_the_branch_fell_asleep(b):
    r = reader(b)
    for n in range(1, 6):
        b.query("INSERT INTO t VALUES (%s)", n)
        b.suspend()
        generation = b.generation()
        assert count(r) == n, "the last, partial segment too"
        assert b.generation() == generation and b.endpoint()["current_state"] == "idle", "reading woke it"
        if n % 2:
            r.suspend()


def test_it_goes_on_across_sleep_and_wake_of_the_branch(b):
    r = reader(b)
    with contextlib.closing(r.connect()) as conn, conn.cursor() as cur:
        pid = conn.info.backend_pid
        for n in range(1, 5):
            b.query("INSERT INTO t VALUES (%s)", n)
            b.suspend()

            def there(want=n, cur=cur):
                cur.execute("SELECT count(*) FROM t")
                return cur.fetchone()[0] == want
            until(there, 20, "the row to come over")
        assert conn.info.backend_pid == pid


def test_of_a_branch_that_was_never_started(b):
    b.query("INSERT INTO t VALUES (1)")
    child = b.project.branch(b)
    r = reader(child)
    assert count(r) == 1 and not child.postmaster()
    assert child.mere.rows("SELECT volume FROM branch WHERE id = ?", child.id)[0]["volume"] == "none"
    child.query("INSERT INTO t VALUES (2)")  # its first start, on a timeline of its own, while it is followed
    until(lambda: count(r) == 2, 20, "what was written after the first start to come over")
    child.suspend()
    r.suspend()
    assert count(r) == 2


def test_many_of_them_and_the_branch_is_not_kept_awake(b):
    """Each suspends and wakes by itself, and leaves nothing on disk while it sleeps."""
    b.patch_endpoint(suspend_timeout_seconds=1)
    rs = [reader(b, suspend_timeout_seconds=n) for n in (1, 1, -1)]
    threads = [threading.Thread(target=count, args=(r,)) for r in rs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for x in (b, rs[0], rs[1]):
        x.await_state("idle")
    assert rs[2].endpoint()["current_state"] == "active"
    until(lambda: not rs[0].left() and not rs[1].left(), 20, "the volumes of sleeping readers to be gone")
    assert count(rs[0]) == 0
    rs[2].suspend()
    started = time.monotonic()
    b.query("SELECT 1")
    b.suspend()
    print(f"wake and suspend of a branch that was followed: {time.monotonic() - started:.2f} s")


def test_made_with_the_branch(b):
    body = b.project.call("POST", "/branches", {"branch": {"name": "with"}, "endpoints": [{"type": "read_only"}, {"type": "read_write"}, {"type": "read_only"}]})
    b.mere.wait_operations(b.project.id, body)
    assert [e["type"] for e in body["endpoints"]] == ["read_only", "read_write", "read_only"]
    assert body["connection_uris"][0]["connection_uri"].endswith(body["endpoints"][1]["id"])
    child = Branch(b.project, body["branch"], body["endpoints"][1]["id"])
    child.query("INSERT INTO t VALUES (5)")
    r = Reader(child, body["endpoints"][2]["id"])
    until(lambda: count(r) == 1, 20, "the row to come over")
    assert r.endpoint()["type"] == "read_only"
    child.delete()
    gone(r.left, 20, "what its reader had")
    for wrong in ([{"type": "read_write"}, {"type": "read_only"}, {"type": "read_write"}],):
        with pytest.raises(ApiError) as e:
            b.project.call("POST", "/branches", {"branch": {}, "endpoints": wrong})
        assert e.value.status == 409, e.value
    with pytest.raises(ApiError) as e:
        b.project.call("POST", "/endpoints", {"endpoint": {"branch_id": b.id, "type": "read_write"}})
    assert e.value.status == 409, e.value


def test_deleted_while_somebody_reads(b):
    r = reader(b)
    with contextlib.closing(r.connect()):
        body = b.project.call("DELETE", f"/endpoints/{r.endpoint_id}")
        b.mere.wait_operations(b.project.id, body)
    gone(r.left, 20, "what the endpoint had")
    assert count(b) == 0


def test_a_restore_seeds_it_anew(b):
    place = b.value("SELECT pg_current_wal_flush_lsn()::text")
    b.query("INSERT INTO t SELECT generate_series(1, 10)")
    r = reader(b)
    assert count(r) == 10
    body = b.project.call("POST", b.path("/restore"), {"source_branch_id": b.id, "source_lsn": place, "preserve_under_name": "before"})
    b.mere.wait_operations(b.project.id, body)
    assert count(r) == 0
    b.query("INSERT INTO t VALUES (1)")
    until(lambda: count(r) == 1, 20, "the row to come over")


@pytest.mark.expect_log(r"postgres ended by itself", r"cannot see the activity")
def test_crashes(b):
    """Its Postgres dies, with everything; the branch does not notice, and the next client is served."""
    r = reader(b)
    assert count(r) == 0
    procs.kill(r.postmaster())
    until(lambda: not r.postmaster(), 20, "it to be gone")
    b.query("INSERT INTO t VALUES (1)")
    until(lambda: count(r) == 1, 30, "the row to come over")


def streams(r):
    """The compute it receives WAL from, by its socket, or None."""
    with contextlib.closing(r.admin()) as conn, conn.cursor() as cur:
        cur.execute("SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'")
        row = cur.fetchone()
        return row and row[0]


def log_of(x):
    return (x.mere.data / "logs" / f"{x.endpoint_id}.log").read_text(errors="replace")


def test_it_receives_from_the_branch_while_that_runs(b):
    r = reader(b)
    assert count(r) == 0
    until(lambda: streams(r) == b.socket_dir(), 30, "it to stream")
    took = []
    with contextlib.closing(r.connect()) as conn, conn.cursor() as cur:
        conn.autocommit = True
        for n in range(1, 21):
            b.query("INSERT INTO t VALUES (%s)", n)
            wrote = time.monotonic()
            while True:
                cur.execute("SELECT count(*) FROM t")
                if cur.fetchone()[0] == n:
                    break
            took.append(time.monotonic() - wrote)
        assert sorted(took)[10] < 0.1, f"{took}: by files it takes half a second at the median"
        b.suspend()
        until(lambda: streams(r) is None, 30, "it to know that there is nobody")
        time.sleep(0.6)
        tries = log_of(r).count("FATAL")
        time.sleep(3)
        assert log_of(r).count("FATAL") == tries, "it goes on trying to reach a branch that sleeps"
        b.query("INSERT INTO t VALUES (0)")
        until(lambda: streams(r) == b.socket_dir(), 30, "it to stream again")
        cur.execute("SELECT count(*) FROM t")
        assert cur.fetchone()[0] == 21
    print(f"lag p50 {sorted(took)[10]:.4f} s, worst {max(took):.4f} s")


def test_a_second_start_of_the_branch_writes_nothing_for_it(b):
    """The role is there: what a follower needs is no reason for an image."""
    r = reader(b)
    assert count(r) == 0
    until(lambda: streams(r), 30, "it to stream")
    b.suspend()
    images = "SELECT count(*) AS n FROM image WHERE branch_id = ?"
    before = b.mere.rows(images, b.id)[0]["n"]
    b.query("SELECT 1")
    until(lambda: streams(r), 30, "it to stream again")
    b.suspend()
    assert b.mere.rows(images, b.id)[0]["n"] == before


def test_the_branch_does_not_wait_for_one_that_hangs(b):
    r = reader(b)
    assert count(r) == 0
    until(lambda: streams(r), 30, "it to stream")
    receiver, = (p for p in r.compute() if "walreceiver" in p.cmdline)
    os.kill(receiver.pid, signal.SIGSTOP)
    try:
        b.query("INSERT INTO t SELECT generate_series(1, 1000)")
        began = time.monotonic()
        b.suspend()
        took = time.monotonic() - began
        assert took < 15, f"the suspend took {took:.1f} s"
        assert "in production" not in log_of(b) and "was not properly shut down" not in log_of(b)
    finally:
        os.kill(receiver.pid, signal.SIGCONT)
    until(lambda: count(r) == 1000, 20, "the rows to come over")


def test_its_password_opens_nothing_else(b):
    """It replicates: no session in a database, not through the proxy, and not in another project."""
    r = reader(b)
    assert count(r) == 0
    until(lambda: streams(r), 30, "it to stream")
    path = r.volume() / "pgdata" / "mere_replica.pass"
    assert path.stat().st_mode & 0o777 == 0o600
    password = path.read_text().strip().rsplit(":", 1)[1]
    with pytest.raises(psycopg2.Error):
        psycopg2.connect(host=b.socket_dir(), port=5432, user="mere_replica", password=password, dbname="neondb")
    with pytest.raises(psycopg2.Error):
        b.connect(user="mere_replica", password=password)

    def replicate(branch):
        argv = [f"{BINDIR}/pg_receivewal", "-h", branch.socket_dir(), "-p", "5432", "-U", "mere_replica", "-D", str(b.mere.base), "--endpos", "0/1", "-n"]
        return subprocess.run(argv, env={"PGPASSWORD": password, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=30)
    assert replicate(b).returncode == 0, "the password is right"
    stranger = b.mere.create_project()
    other = reader(stranger.main)
    stranger.main.query("SELECT 1")
    assert other.value("SELECT 1") == 1
    until(lambda: streams(other), 30, "it to stream")
    assert "password authentication failed" in replicate(stranger.main).stderr
    stranger.delete()
    assert "mere_replica" not in {x["name"] for x in b.project.call("GET", b.path("/roles"))["roles"]}
    with pytest.raises(ApiError) as e:
        b.project.call("POST", b.path("/roles"), {"role": {"name": "mere_replica"}})
    assert e.value.status == 422 and "reserved" in str(e.value)


@pytest.mark.expect_log(r"mere-proxy")
def test_sessions_outlive_mered(new_mere):
    mere = new_mere().start()
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t (n int)")
    r = reader(b)
    with contextlib.closing(r.connect()) as conn, conn.cursor() as cur:
        mere.kill9()
        mere.start()
        b.query("INSERT INTO t VALUES (1)")

        def there():
            cur.execute("SELECT count(*) FROM t")
            return cur.fetchone()[0] == 1
        until(there, 20, "the row to come over")
        assert count(r) == 1
    project.delete()
    assert not list((mere.data / "wal").iterdir())


def test_how_far_it_lies_behind(b):
    """One that cannot go on says by how much."""
    r = reader(b)
    assert count(r) == 0
    startup, = (p for p in r.compute() if "startup" in p.cmdline)
    os.kill(startup.pid, signal.SIGSTOP)
    try:
        b.query("INSERT INTO t SELECT generate_series(1, 20000)")
        time.sleep(1.2)
        lag = r.endpoint()
        assert lag["lag_bytes"] > 1 << 20 and lag["lag_seconds"] > 1, lag
        assert count(r) == 0
    finally:
        os.kill(startup.pid, signal.SIGCONT)
    until(lambda: r.endpoint()["lag_bytes"] == 0, 20, "it to catch up")
    assert count(r) == 20000
    b.suspend()
    assert r.endpoint()["lag_bytes"] == 0 or until(lambda: r.endpoint()["lag_bytes"] == 0, 20, "the end of the branch to come over")
