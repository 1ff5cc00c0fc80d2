"""
mered dies at every named place of making a branch, of a first connect and of a suspend; and at random ones.

Each time: sessions through the proxy live on, the restart finds or undoes everything, a client that asks again gets what it asked
for, and nothing acknowledged is missing.
"""
import contextlib
import random
import subprocess
import threading
import time

import psycopg2
import pytest

from harness import checkers
from harness.server import ApiError, Branch, StartFailed, until

pytestmark = pytest.mark.expect_log(r"(?i)adopt|proxy|wake|gone|left|half|again|interrupted|retry|exit|recover|undone|resum|restart")
DIED = 137
HOUSEKEEPING = ("sweep.", "stamp.", "image.", "schedule.", "branch.swept")
BROKEN = (ConnectionError, OSError, EOFError, ApiError)


class Crashes:
    """Runs a step with CRASH_LIST to learn its points, then with CRASH_AT for each."""

    def __init__(self, mere):
        self.mere = mere
        self.list = mere.base / "points"
        self.list.touch()
        self.list.chmod(0o666)

    def listed(self, step):
        """The names that a step passes, in order, each once."""
        self.mere.kill9()
        self.mere.start(env={"CRASH_LIST": str(self.list)})
        self.settle()
        self.list.write_text("")
        step()
        self.settle()
        # What housekeeping does beside the step is not of the step; test_retention dies in it.
        names = [n for n in dict.fromkeys(self.list.read_text().split()) if not n.startswith(HOUSEKEEPING)]
        self.mere.kill9()
        self.mere.start()
        return names

    def settle(self):
        until(lambda: not self.mere.rows("SELECT id FROM operation WHERE status IN ('scheduling', 'running')"), 60, "operations to end")
        until(lambda: not self.mere.rows("SELECT id FROM image WHERE state IN ('taking', 'snapped', 'trash') OR stamp_us = -1"), 60, "images to be complete")

    def arm(self, name):
        """The next time after the start.  A point on the way of a start as well is died at there first: one more crash survived."""
        self.settle()
        self.mere.kill9()
        for hit in range(1, 20):
            try:
                return self.mere.start(env={"CRASH_AT": f"{name}:{hit}"})
            except StartFailed as e:
                assert e.status == DIED, (name, e)
        raise AssertionError(f"every start dies at {name}")

    def await_death(self, name, timeout=30):
        try:
            status = self.mere.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} was not passed this time") from None
        self.mere.wait()
        assert status == DIED, f"at {name} it ended with {status}"


@pytest.fixture
def crashes(crash_mere):
    return Crashes(crash_mere)


@pytest.fixture
def home(crash_mere, ledger):
    p = crash_mere.create_project()
    yield p
    if not crash_mere.is_running():
        crash_mere.start()
    p.delete()


def attempt(step):
    """A client whose server may die under it."""
    try:
        return step()
    except BROKEN as e:
        if isinstance(e, ApiError) and e.status < 500:
            raise
        return None


def retry_create(project, parent, name):
    """The client asks again after the restart: it is there or it is made."""
    found = [b for b in project.branches() if b["name"] == name]
    if not found:
        return project.branch(parent, name=name)
    endpoints = project.call("GET", f"/branches/{found[0]['id']}/endpoints")["endpoints"]
    child = Branch(project, found[0], endpoints[0]["id"])
    until(lambda: child.refresh()["current_state"] == "ready", 60, f"branch {name} to be ready")
    return child


class Witness:
    """A session that was open before and must answer all the time."""

    def __init__(self, branch):
        self.conn = branch.connect()
        self.pid = self.ask("SELECT pg_backend_pid()")

    def ask(self, sql):
        with self.conn.cursor() as cur:
            cur.execute(sql)
            return cur.fetchone()[0]

    def check(self):
        assert self.ask("SELECT pg_backend_pid()") == self.pid

    def close(self):
        self.conn.close()


@pytest.mark.parametrize("parent_state", ["running", "suspended"])
def test_create_branch(crash_mere, crashes, home, parent_state):
    project, witness_home = home, home.branch(home.main, name="witness")
    witness = Witness(witness_home)
    append = checkers.Append(project.main.connect, clients=2, pause=0.005)
    if parent_state == "running":
        append.start()
    else:
        append.start()
        until(lambda: append.acknowledged() > 50, 30, "50 rows")
        append.stop()
        project.main.suspend()

    def create(name):
        return project.branch(project.main, name=name, wait=False, timeout=30)

    points = crashes.listed(lambda: crash_mere.wait_operations(project.id, create("listed").answer))
    assert points, "no crash point is passed when a branch is made"
    for i, point in enumerate(points):
        name = f"c-{i}"
        crashes.arm(point)
        sent = time.monotonic()
        acked = attempt(lambda n=name: create(n))
        crashes.await_death(point)
        witness.check()
        crash_mere.start()
        witness.check()
        if acked is not None:
            assert name in [b["name"] for b in project.branches()], f"{point}: an acknowledged branch is gone"
        child = retry_create(project, project.main, name)
        with contextlib.closing(child.connect()) as conn:
            child.refresh()
            wrong = append.check(conn, at=child.parent_lsn, sent=sent)
        assert not wrong, (point, wrong)
        if acked is not None and "parent_lsn" in acked.answer["branch"] and acked.answer["branch"]["current_state"] == "ready":
            assert acked.answer["branch"]["parent_lsn"] == child.body["parent_lsn"], point
        child.delete()
    witness.close()
    append.stop()
    with contextlib.closing(project.main.connect()) as conn:
        assert append.check(conn) == []
    assert not append.errors()


def test_first_connect(crash_mere, crashes, home):
    project = home
    project.main.query("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
    witness = Witness(project.main)
    children = {}

    def fresh(name):
        children[name] = project.branch(project.main, name=name)
        return children[name]

    first = fresh("listed")
    points = crashes.listed(lambda: first.value("SELECT count(*) FROM t"))
    assert points, "no crash point is passed when a branch is first connected to"
    for i, point in enumerate(points):
        child = fresh(f"c-{i}")
        crashes.arm(point)
        got = []
        client = threading.Thread(target=lambda c=child, g=got: g.append(attempt_connect(c)))
        client.start()
        crashes.await_death(point)
        witness.check()
        crash_mere.start()
        client.join(90)
        assert got == [100], f"{point}: the client that waited got {got}"
        assert child.value("SELECT count(*) FROM t") == 100, point
        assert child.value("SELECT timeline_id FROM pg_control_checkpoint()") > 1, point
        child.delete()
    witness.close()


def attempt_connect(branch):
    try:
        return branch.value("SELECT count(*) FROM t")
    except psycopg2.Error as e:
        return str(e).strip()


def test_suspend(crash_mere, crashes, home):
    project, target = home, home.branch(home.main, name="target")
    witness = Witness(project.main)
    append = checkers.Append(target.connect, clients=1)

    def work(rows=20):
        n = append.acknowledged()
        threads = append.threads
        append.threads = [checkers.Appender(threads[0].client, target.connect)]
        append.threads[0].acks, append.threads[0].maybe = threads[0].acks, threads[0].maybe
        append.start()
        until(lambda: append.acknowledged() >= n + rows, 30, "rows")
        append.stop()

    def suspend():
        project.call("POST", f"/endpoints/{target.endpoint_id}/suspend", timeout=30)

    def listed():
        suspend()
        target.await_state("idle", 30)

    work()
    points = crashes.listed(listed)
    assert points, "no crash point is passed when a compute is suspended"
    for point in points:
        work()
        crashes.arm(point)
        attempt(suspend)
        crashes.await_death(point)
        witness.check()
        crash_mere.start()
        witness.check()
        crashes.settle()
        attempt(suspend)
        target.await_state("idle", 30)
        with contextlib.closing(target.connect()) as conn:
            assert append.check(conn) == [], point
    witness.close()


def test_delete_branch(crash_mere, crashes, home):
    project = home
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")

    def made(name):
        child = project.branch(project.main, name=name)
        child.value("SELECT n FROM t")
        return child

    first = made("listed")
    points = crashes.listed(lambda: first.delete())
    assert points, "no crash point is passed when a branch is deleted"
    for i, point in enumerate(points):
        child = made(f"c-{i}")
        crashes.arm(point)
        attempt(lambda c=child: project.call("DELETE", c.path("?hard_delete=true")))
        crashes.await_death(point)
        crash_mere.start()
        status, _, _ = crash_mere.request("DELETE", project.path(child.path("?hard_delete=true")))
        assert status in (200, 202, 404), (point, status)
        until(lambda c=child: not crash_mere.rows("SELECT id FROM branch WHERE id = ?", c.id), 60, f"{point}: the branch to be gone")
        assert project.main.value("SELECT n FROM t") == 1


@pytest.mark.slow
def test_delete_and_recover(crash_mere, crashes, home):
    """Deleted or not, recovered or not: never half, and asking again is harmless."""
    project = home
    child = project.branch(project.main, name="soft")
    child.query("CREATE TABLE t AS SELECT 7 AS n")

    def delete():
        attempt(lambda: crash_mere.request("DELETE", project.path(child.path())))  # 404: it is deleted

    def recover():
        attempt(lambda: project.call("POST", child.path("/recover")))

    for step, undo, must in ((delete, recover, "branch.deleting"), (recover, delete, "branch.recovered")):
        points = crashes.listed(step)
        assert must in points
        for point in points:
            undo()
            crashes.settle()
            if step is delete:
                child.value("SELECT n FROM t")
            crashes.arm(point)
            step()
            crashes.await_death(point)
            crash_mere.start()
            step()  # asked for again
            crashes.settle()
            deleted = crash_mere.rows("SELECT id FROM branch WHERE id = ? AND state = 'deleted'", child.id)
            assert bool(deleted) == (step is delete), point
            if step is delete:
                assert child.postmaster() == 0, point
            else:
                assert child.value("SELECT n FROM t") == 7, point
    child.delete()


@pytest.mark.slow
def test_expire(crash_mere, crashes, home):
    for i, point in enumerate(["branch.swept", "delete.removed", "delete.rows"]):
        crashes.arm(point)
        child = home.branch(home.main, name=f"x-{i}", ttl_seconds=3)
        child.query("SELECT 1")
        crashes.await_death(point)
        crash_mere.start()
        until(lambda c=child: not crash_mere.rows("SELECT id FROM branch WHERE id = ?", c.id), 60, f"{point}: the branch to be gone")


@pytest.mark.slow
def test_snapshot_and_restore(crash_mere, crashes, home):
    """Taken, restored and put in the place of the original: each is done or not, and the original's string leads to a whole branch."""
    project, b = home, home.branch(home.main, name="b")
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    snapshot = project.call("POST", b.path("/snapshot"))["snapshot"]
    b.query("INSERT INTO t VALUES (2)")
    rows = {1: [(1,)], 2: [(1,), (2,)]}
    for i, point in enumerate(["snapshot.restored", "restore.finalizing", "restore.swapped"]):
        crashes.arm(point)
        made = attempt(lambda: project.call("POST", f"/snapshots/{snapshot['id']}/restore", {"name": f"made-{i}"}))
        if made:
            attempt(lambda m=made: project.call("POST", f"/branches/{m['branch']['id']}/finalize_restore", {"name": f"old-{i}"}))
        crashes.await_death(point)
        crash_mere.start()
        crashes.settle()
        names = {x["name"] for x in project.branches()}
        done = f"old-{i}" in names
        assert done == (point != "snapshot.restored") and "b" in names and (f"made-{i}" in names) != done, (point, names)
        assert b.query("SELECT n FROM t ORDER BY n") == rows[1 if i else 2], point
    crashes.arm("snapshot.deleting")
    attempt(lambda: project.call("DELETE", f"/snapshots/{snapshot['id']}", expect=(202,)))
    crashes.await_death("snapshot.deleting")
    crash_mere.start()
    crashes.settle()
    assert project.call("GET", "/snapshots")["snapshots"] == []


@pytest.mark.slow
def test_bookmark(crash_mere, crashes, home):
    b, path = home.main, home.main.path("/bookmarks/x")
    b.query("SELECT 1")

    def holds():
        return len(crash_mere.rows("SELECT id FROM branch WHERE made_by = 'bookmark'"))

    for point, method, there in (("bookmark.put", "PUT", True), ("bookmark.deleted", "DELETE", False)):
        crashes.arm(point)
        attempt(lambda m=method: home.call(m, path, {"hold": True} if m == "PUT" else None))
        crashes.await_death(point)
        crash_mere.start()
        assert bool(home.call("GET", b.path("/bookmarks"))["bookmarks"]) == there, point
        until(lambda n=int(there): holds() == n, 30, f"{point}: {int(there)} places to be held")


def test_create_project(crash_mere, crashes, home):
    made = []

    def create():
        body = crash_mere.call("POST", "/projects", {"project": {"name": "crashing"}}, timeout=30)
        made.append(body["project"]["id"])
        crash_mere.wait_operations(made[-1], body)

    for point in crashes.listed(create):
        crashes.arm(point)
        attempt(create)
        crashes.await_death(point)
        crash_mere.start()
        crashes.settle()
    there = {p["id"]: p["name"] for p in crash_mere.projects()}
    assert set(there) >= set(made), "acknowledged projects are gone"
    for p in there:
        assert [b["name"] for b in crash_mere.call("GET", f"/projects/{p}/branches")["branches"]]
        if there[p] == "crashing":
            crash_mere.call("DELETE", f"/projects/{p}?hard_delete=true")
    until(lambda: not [r for r in crash_mere.rows("SELECT name FROM project") if r["name"] == "crashing"], 60, "projects to be gone")


@pytest.mark.slow
def test_first_start(new_mere):
    """The disk file, the template cluster: half made, the next start makes them whole."""
    m = new_mere(crash=True)
    points = m.base / "points"
    m.start(env={"CRASH_LIST": str(points)})
    m.stop()
    names = list(dict.fromkeys(points.read_text().split())) if points.exists() else []
    for name in names:
        again = new_mere(crash=True)
        with pytest.raises(StartFailed) as e:
            again.start(env={"CRASH_AT": f"{name}:1"})
        assert e.value.status == DIED, (name, e.value)
        again.start()
        assert again.create_project().main.value("SELECT 1") == 1, name
        again.stop()


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_moments(crash_mere, home, seed):
    """Somebody always forgets a crash point: kill -9 at any time while branches are made, used and deleted."""
    mere, project, dice = crash_mere, home, random.Random(seed)
    append = checkers.Append(project.main.connect, clients=2, pause=0.002).start()
    witness = Witness(project.main)
    halt, acked, errors = threading.Event(), {}, []

    def client(who):
        own = random.Random(f"{seed}-{who}")
        n = 0
        while not halt.is_set():
            n += 1
            name = f"r-{who}-{n}"
            try:
                sent = time.monotonic()
                child = project.branch(project.main, name=name, wait=False, timeout=20)
                acked[name] = (child, sent)
                if own.random() < 0.5:
                    child.value("SELECT count(*) FROM append")
                if own.random() < 0.3:
                    child.act("suspend", wait=False)
                if own.random() < 0.5:
                    acked.pop(name)  # it may be heard even when the answer is lost
                    project.call("DELETE", child.path())
            except BROKEN as e:
                if isinstance(e, ApiError) and e.status < 500:
                    errors.append(f"{name}: {e}")
                halt.wait(0.05)
            except psycopg2.Error as e:
                errors.append(f"{name}: {str(e).strip()}")

    clients = [threading.Thread(target=client, args=(i,)) for i in range(2)]
    for c in clients:
        c.start()
    for _ in range(10):
        time.sleep(dice.uniform(0.2, 2.0))
        mere.kill9()
        witness.check()
        mere.start()
    halt.set()
    for c in clients:
        c.join(120)
    append.stop()
    witness.check()
    witness.close()
    assert not errors, errors[:5]
    assert not append.errors(), append.errors()[:5]
    Crashes(mere).settle()
    there = {b["name"]: b for b in project.branches()}
    assert [n for n in acked if n not in there] == [], "acknowledged branches are gone"
    for name in list(acked)[:4]:
        child, sent = acked[name]
        child.refresh()
        with contextlib.closing(child.connect()) as conn:
            assert append.check(conn, at=child.parent_lsn, sent=sent) == [], name
    with contextlib.closing(project.main.connect()) as conn:
        assert append.check(conn) == []
