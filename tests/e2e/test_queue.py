"""Conflicting work queues inside: whatever comes in whatever order is done, or refused with nothing left of it."""
import concurrent.futures
import contextlib
import os
import shutil
import signal
import time

import pytest

from harness import procs
from harness.server import ApiError, Branch, until


def fill(branch, rows=20000):
    branch.query(f"CREATE TABLE t AS SELECT i, repeat('x', 100) AS pad FROM generate_series(1, {rows}) i")


def in_admin(branch, *statements):
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        for s in statements:
            cur.execute(s)


def new_endpoint(project, branch):
    body = project.call("POST", "/endpoints", {"endpoint": {"branch_id": branch.id, "type": "read_write"}})
    return Branch(project, branch.body, body["endpoint"]["id"])


def test_delete_right_behind_a_fork_of_a_running_branch(mere, project):
    fill(project.main)
    for _ in range(5):
        child = project.branch(project.main, wait=False)
        child.delete(timeout=20)


def test_an_endpoint_added_while_the_image_is_completed(mere, project):
    """The first start waits for the WAL that its image still lacks, instead of going without."""
    fill(project.main, 100000)
    for _ in range(3):
        child = project.branch(project.main, endpoint=False, wait=False)
        assert new_endpoint(project, child).value("SELECT count(*) FROM t") == 100000
        child.delete()


@pytest.mark.expect_log("fork failed|missing or damaged|cannot be prepared|could not be prepared|cannot prepare")
def test_an_acknowledged_fork_is_completed_later(mere, project):
    """A segment is away while the image is completed: the branch was acknowledged, so it only goes on."""
    b = project.main
    fill(b, 1000)
    in_admin(b, "CHECKPOINT")
    b.query("CREATE TABLE filler AS SELECT repeat('y', 500) FROM generate_series(1, 6000)")
    in_admin(b, "SELECT pg_switch_wal()")
    archive, pg_wal = (mere.data / "wal" / b.id / d for d in ("archive", "pg_wal"))
    until(lambda: len([n for n in os.listdir(archive) if len(n) == 24]) >= 3, 20, "the archiver")
    names = sorted(n for n in os.listdir(archive) if len(n) == 24)[-2:-1]
    away = mere.base / "away"
    away.mkdir()
    for place in (archive, pg_wal):
        for n in names:
            if (place / n).exists():
                (away / place.name).mkdir(exist_ok=True)
                shutil.move(place / n, away / place.name / n)
    child = project.branch(b, wait=False)
    op = child.answer["operations"][0]["id"]
    time.sleep(3)
    assert project.call("GET", f"/operations/{op}")["operation"]["status"] in ("scheduling", "running")
    for place in (archive, pg_wal):
        for n in names:
            if (away / place.name / n).exists():
                shutil.move(away / place.name / n, place / n)
    shutil.rmtree(away)
    mere.wait_operation(project.id, op, 20)
    assert child.value("SELECT count(*) FROM t") == 1000 and child.value("SELECT count(*) FROM filler") == 6000


def test_a_fork_behind_the_deletion_of_the_parents_endpoint(mere, project):
    fill(project.main, 1000)
    project.call("DELETE", f"/endpoints/{project.main.endpoint_id}")
    child = project.branch(project.main)
    assert child.value("SELECT count(*) FROM t") == 1000


def test_an_endpoint_behind_the_deletion_of_another(mere, project):
    fill(project.main, 1000)
    project.call("DELETE", f"/endpoints/{project.main.endpoint_id}")
    assert new_endpoint(project, project.main).value("SELECT count(*) FROM t") == 1000


@pytest.mark.expect_log("fork failed|failed|could not be made|ended by itself|no image")
def test_a_fork_that_cannot_be_made_leaves_nothing(mere, project):
    b = project.main
    fill(b, 1000)
    procs.kill(b.postmaster())
    b.await_state("idle", 20)
    b.patch_endpoint(disabled=True)
    with pytest.raises(ApiError) as e:
        project.branch(b, name="nothing")
    assert e.value.status == 409 and "disabled" in str(e.value)
    assert [x["name"] for x in project.branches()] == ["main"]
    b.patch_endpoint(disabled=False)
    assert project.branch(b, name="nothing").value("SELECT count(*) FROM t") == 1000


def test_forks_at_once_of_a_suspended_branch(new_mere):
    """Where a clone costs its size, the first fork takes the image and the others wait for it."""
    m = new_mere(store="copy").start()
    project = m.create_project()
    fill(project.main, 1000)
    project.main.suspend()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        children = list(pool.map(lambda _: project.branch(project.main), range(6)))
    assert [c.value("SELECT count(*) FROM t") for c in children[:2]] == [1000, 1000]
    assert len({c.body["parent_lsn"] for c in children}) == 1


@pytest.mark.parametrize("after_ms", [0, 5, 20, 60])
def test_stop_during_a_start_that_the_api_asked_for(new_mere, after_ms):
    m = new_mere().start()
    project = m.create_project()
    project.call("POST", f"/endpoints/{project.main.endpoint_id}/start")
    time.sleep(after_ms / 1000)
    began = time.monotonic()
    assert m.stop(timeout=20) == 0
    assert time.monotonic() - began < 10


@pytest.mark.expect_log("ended by itself|proxy|no image|activity")
def test_stop_while_the_computes_are_killed_by_somebody_else(new_mere, expect_log):
    """What a supervisor does that kills the whole group."""
    expect_log("ended by itself|proxy|no image|activity|ended")
    m = new_mere().start()
    project = m.create_project()
    fill(project.main, 1000)
    postmaster = project.main.postmaster()
    m.proc.send_signal(signal.SIGTERM)
    procs.kill(postmaster)
    assert m.stop(timeout=20) == 0
    m.start()
    assert project.main.value("SELECT count(*) FROM t") == 1000


@pytest.mark.expect_log("activity|suspend|stop|ended|fast shutdown")
def test_hung_computes_do_not_hold_up_the_others(new_mere, expect_log):
    expect_log("activity|fast shutdown|killing|ended|no image")
    m = new_mere().start()
    project, other = m.create_project(), m.create_project()
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    project.main.suspend()
    hung = [project.branch(project.main, settings={"suspend_timeout_seconds": 2}) for _ in range(7)]
    for b in hung:
        assert b.value("SELECT n FROM t") == 1
    stopped = [p for b in hung for p in b.compute()]
    for p in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(p.pid, signal.SIGSTOP)
    try:
        time.sleep(4)
        began = time.monotonic()
        assert other.main.value("SELECT 1") == 1
        assert time.monotonic() - began < 5
    finally:
        for p in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p.pid, signal.SIGCONT)


# --- roles and databases ---------------------------------------------------------------------------------------------------------


def names(project, what):
    return sorted(x["name"] for x in project.call("GET", f"/branches/{project.main.id}/{what}")[what])


def change(project, method, rest, body=None, **kw):
    return project.call(method, f"/branches/{project.main.id}{rest}", body, **kw)


@pytest.mark.parametrize("asleep", [True, False])
def test_names_are_as_asked_at_once(mere, project, asleep):
    """What was renamed or deleted a moment ago is not in the way of what is asked for next, nor found under its old name."""
    b = project.main
    b.query("SELECT 1")
    if asleep:
        b.suspend()
    ops = []

    def do(*args, **kw):
        answer = change(project, *args, **kw)
        ops.extend(answer["operations"])

    do("POST", "/databases", {"database": {"name": "q1", "owner_name": project.role}})
    do("PATCH", "/databases/q1", {"database": {"name": "q2"}})
    assert names(project, "databases") == ["neondb", "q2"]
    do("PATCH", "/databases/q2", {"database": {"name": "q3"}})
    do("POST", "/databases", {"database": {"name": "q1", "owner_name": project.role}})
    do("DELETE", "/databases/q3")
    do("POST", "/databases", {"database": {"name": "q3", "owner_name": project.role}})
    assert names(project, "databases") == ["neondb", "q1", "q3"]
    do("POST", "/roles", {"role": {"name": "r"}})
    do("DELETE", "/roles/r")
    do("POST", "/roles", {"role": {"name": "r"}})
    assert names(project, "roles") == sorted(["r", project.role])
    for op in ops:
        mere.wait_operation(project.id, op)
    assert sorted(n for (n,) in b.query("SELECT datname FROM pg_database WHERE datname LIKE 'q%%'", None) if n) == ["q1", "q3"]
    assert [n for (n,) in b.query("SELECT rolname FROM pg_roles WHERE rolname = 'r'")] == ["r"]
    password = change(project, "GET", "/roles/r/reveal_password")["password"]
    assert b.value("SELECT current_user", user="r", password=password) == "r"


def test_a_renamed_database_keeps_its_rows(mere, project):
    b = project.main
    mere.wait_operations(project.id, change(project, "POST", "/databases", {"database": {"name": "old", "owner_name": project.role}}))
    b.query("CREATE TABLE t AS SELECT 7 AS n", database="old")
    held = b.connect(database="old")
    mere.wait_operations(project.id, change(project, "PATCH", "/databases/old", {"database": {"name": "new"}}))
    held.close()
    assert b.value("SELECT n FROM t", database="new") == 7


def test_the_last_password_counts(mere, project):
    """A reset that comes while the role is being made is not forgotten when that ends."""
    b = project.main
    b.query("SELECT 1")
    for i in range(12):
        name = f"w{i}"
        ops = change(project, "POST", "/roles", {"role": {"name": name}})["operations"]
        time.sleep(0.002 * i)
        reset = change(project, "POST", f"/roles/{name}/reset_password")
        for op in ops + reset["operations"]:
            mere.wait_operation(project.id, op)
        password = reset["role"]["password"]
        assert change(project, "GET", f"/roles/{name}/reveal_password")["password"] == password
        assert b.value("SELECT current_user", user=name, password=password) == name
        change(project, "DELETE", f"/roles/{name}")
    assert names(project, "roles") == [project.role]


@pytest.mark.expect_log("applied|refused|owns|failed")
def test_a_role_that_cannot_be_dropped_stays(mere, project):
    b = project.main
    mere.wait_operations(project.id, change(project, "POST", "/roles", {"role": {"name": "r"}}))
    password = change(project, "GET", "/roles/r/reveal_password")["password"]
    b.query(f'GRANT CREATE ON SCHEMA public TO r')
    b.query("CREATE TABLE owned (n int)", user="r", password=password)
    b.suspend()
    op = change(project, "DELETE", "/roles/r")["operations"][0]
    assert b.value("SELECT 1") == 1
    o = mere.wait_operation(project.id, op, expect=("failed",))
    assert "r" in o["error"] if "error" in o else True
    assert names(project, "roles") == sorted(["r", project.role])
    assert b.value("SELECT current_user", user="r", password=password) == "r"
