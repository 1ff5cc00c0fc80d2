"""A branch back to a moment, or to what another branch is: it keeps its face, and whatever fails leaves it as it was."""
import contextlib
import datetime
import threading
import time

import psycopg2
import pytest

from harness.server import ApiError, lsn, until


def fill(branch, n):
    branch.query("INSERT INTO t VALUES (%s)", n)
    return branch.value("SELECT pg_current_wal_flush_lsn()")


def numbers(branch):
    return [n for (n,) in branch.query("SELECT n FROM t ORDER BY n")]


def restore(branch, source, verb="restore", **body):
    if source is not None:
        body["source_branch_id"] = source.id
    answer = branch.project.call("POST", branch.path("/" + verb), body)
    branch.mere.wait_operations(branch.project.id, answer)
    branch.refresh()
    return answer


def refused(branch, source, status, pointer=None, verb="restore", **body):
    before = branch.refresh()
    with pytest.raises(ApiError) as e:
        restore(branch, source, verb, **body)
    assert e.value.status == status, e.value.body
    if pointer:
        assert e.value.body["errors"][0]["pointer"] == pointer
    assert branch.refresh() == before
    return e.value.body


def find(project, name):
    return next((b for b in project.branches() if b["name"] == name), None)


def named(project, name):
    """The branch of that name, with an endpoint to look at it with."""
    from harness.server import Branch
    body = find(project, name)
    answer = project.call("POST", "/endpoints", {"endpoint": {"branch_id": body["id"], "type": "read_write"}})
    return Branch(project, body, answer["endpoint"]["id"])


@pytest.fixture
def dev(mere, project):
    """A child of main with rows 1..3 and the places after each."""
    b = project.main
    b.query("CREATE TABLE t (n int)")
    fill(b, 0)
    child = project.branch(b, name="dev")
    child.places = {i: fill(child, i) for i in (1, 2, 3)}
    return child


@pytest.mark.parametrize("state", ["running", "suspended"])
def test_to_its_own_past(mere, project, dev, state):
    if state == "suspended":
        dev.suspend()
    password, endpoint = dev.project.password, dev.endpoint_id
    before = dev.refresh()
    answer = restore(dev, dev, source_lsn=dev.places[2], preserve_under_name="dev_old")
    old = find(project, "dev_old")
    assert answer["branch"]["id"] == dev.id and dev.body["name"] == "dev"
    # The command line asks for the parent to tell the user where the old state is.
    assert dev.body["parent_id"] == old["id"] and lsn(dev.body["parent_lsn"]) == lsn(dev.places[2])
    assert old["parent_id"] == project.main.id and old["parent_lsn"] == before["parent_lsn"]
    assert "last_reset_at" in dev.body and not old["default"]
    assert (dev.endpoint_id, project.password) == (endpoint, password) and numbers(dev) == [0, 1, 2]
    dev.query("INSERT INTO t VALUES (9)")
    kept = named(project, "dev_old")
    assert numbers(kept) == [0, 1, 2, 3] and numbers(dev) == [0, 1, 2, 9]


def test_a_root_stays_a_root(mere, project):
    b = project.main
    b.query("CREATE TABLE t (n int)")
    at = fill(b, 1)
    moment = datetime.datetime.now(datetime.timezone.utc)
    fill(b, 2)
    restore(b, b, source_timestamp=moment.isoformat(), preserve_under_name="before")
    old = find(project, "before")
    assert not any(k.startswith("parent") for k in b.body) and not any(k.startswith("parent") for k in old)
    assert b.body["default"] and not old["default"] and numbers(b) == [1]
    # Again, to a moment of the line before the first restore, through what is now its ancestor.
    fill(b, 5)
    restore(b, b, source_lsn=at, preserve_under_name="before2")
    assert numbers(b) == [1] and numbers(named(project, "before2")) == [1, 5] and numbers(named(project, "before")) == [1, 2]
    with pytest.raises(ApiError) as e:
        project.call("POST", b.path("/reset_to_parent"))
    assert e.value.status == 422


def test_children_go_with_the_old_state(mere, project, dev):
    never = project.branch(dev, name="never", endpoint=False)
    child = project.branch(dev, name="child")
    assert numbers(child) == [0, 1, 2, 3]
    refused(dev, project.main, 422, "/preserve_under_name")
    restore(dev, dev, source_lsn=dev.places[1], preserve_under_name="old")
    old = find(project, "old")
    assert {child.refresh()["parent_id"], never.refresh()["parent_id"]} == {old["id"]}
    assert numbers(child) == [0, 1, 2, 3] and numbers(dev) == [0, 1]
    assert numbers(named(project, "never")) == [0, 1, 2, 3]
    # A child's own restore, across what was exchanged.
    restore(child, child, source_lsn=dev.places[2], preserve_under_name="child_old")
    assert numbers(child) == [0, 1, 2]


@pytest.mark.parametrize("state", ["running", "suspended"])
def test_reset(mere, project, dev, state):
    fill(project.main, 100)
    if state == "suspended":
        project.main.suspend()
    restore(dev, None, "reset_to_parent")
    assert numbers(dev) == [0, 100] and dev.body["parent_id"] == project.main.id
    assert sorted(b["name"] for b in project.branches()) == ["dev", "main"]
    until(lambda: len(mere.rows("SELECT id FROM branch WHERE project_id = ?", project.id)) == 2, 20, "the old state to be gone")
    fill(dev, 7)
    restore(dev, project.main, preserve_under_name="kept")
    assert numbers(dev) == [0, 100] and numbers(named(project, "kept")) == [0, 7, 100]


def test_from_another_branch(mere, project, dev):
    other = project.branch(project.main, name="other")
    places = {i: fill(other, i) for i in (20, 21)}
    restore(dev, other, source_lsn=places[20])
    assert numbers(dev) == [0, 20] and dev.body["parent_id"] == other.id
    # A descendant may be the source, too: the target's present then has children.
    below = project.branch(dev, name="below")
    fill(below, 30)
    refused(dev, below, 422, "/preserve_under_name")
    restore(dev, below, preserve_under_name="above")
    assert numbers(dev) == [0, 20, 30] and dev.body["parent_id"] == below.id
    assert below.refresh()["parent_id"] == find(project, "above")["id"]


def test_sessions_end_and_clients_come_back(mere, project, dev):
    with contextlib.closing(dev.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")
        restore(dev, dev, source_lsn=dev.places[1], preserve_under_name="x")
        with pytest.raises(psycopg2.Error):
            cur.execute("SELECT 1")
    assert numbers(dev) == [0, 1]


def test_clients_meanwhile(mere, project, dev):
    """Who connects while it is exchanged waits, and sees the one state or the other, whole."""
    seen, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            with contextlib.suppress(psycopg2.Error):
                seen.append(tuple(numbers(dev)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for t in threads:
        t.start()
    until(lambda: len(seen) > 4, 20, "the first looks")
    restore(dev, dev, source_lsn=dev.places[1], preserve_under_name="x")
    done = len(seen)
    until(lambda: len(seen) > done + 8, 20, "looks after it")
    stop.set()
    for t in threads:
        t.join()
    assert set(seen) == {(0, 1, 2, 3), (0, 1)} and seen[-1] == (0, 1)


def test_bad_input(mere, project, dev):
    assert "earliest_lsn" in refused(dev, dev, 422, "/source_lsn", source_lsn="FFFF/0", preserve_under_name="x")
    refused(dev, dev, 422, "/source_timestamp", source_timestamp="2999-01-01T00:00:00Z", preserve_under_name="x")
    refused(dev, dev, 422, "/source_lsn", preserve_under_name="x")
    refused(dev, dev, 422, "/preserve_under_name", source_lsn=dev.places[1])
    refused(dev, dev, 422, "/source_timestamp", source_lsn=dev.places[1], source_timestamp="2025-01-01T00:00:00Z", preserve_under_name="x")
    refused(dev, dev, 409, "/preserve_under_name", source_lsn=dev.places[1], preserve_under_name="main")
    refused(dev, dev, 409, "/preserve_under_name", source_lsn=dev.places[1], preserve_under_name="dev")
    refused(dev, dev, 422, "/preserve_under_name", source_lsn=dev.places[1], preserve_under_name="br-a-b-c")
    refused(dev, None, 404, "/source_branch_id", source_branch_id="nobody")
    refused(dev, None, 422, "/source_branch_id")
    refused(dev, dev, 422, "/source_lsn", source_lsn="nothing", preserve_under_name="x")
    refused(dev, dev, 422, source_lsn=dev.places[1], preserve_under_name="x", more=1)
    refused(project.main, None, 422, verb="reset_to_parent")
    project.call("PATCH", dev.path(), {"branch": {"protected": True}})
    refused(dev, dev, 422, source_lsn=dev.places[1], preserve_under_name="x")
    refused(dev, None, 422, verb="reset_to_parent")
    assert numbers(dev) == [0, 1, 2, 3]
    project.call("PATCH", dev.path(), {"branch": {"protected": False}})


def test_a_reset_and_a_ttl(mere, project, dev):
    refused(dev, None, 422, "/ttl_seconds", verb="reset_to_parent", ttl_seconds=0)
    refused(dev, None, 422, "/expires_at", verb="reset_to_parent", expires_at="2001-01-01T00:00:00Z")
    refused(project.main, dev, 422, "/ttl_seconds", preserve_under_name="x", ttl_seconds=60)
    restore(dev, None, "reset_to_parent", ttl_seconds=3600)
    first = dev.body
    assert first["ttl_interval_seconds"] == 3600
    time.sleep(2.1)
    restore(dev, None, "reset_to_parent")
    assert dev.body["expires_at"] > first["expires_at"] and dev.body["ttl_interval_seconds"] == 3600


def test_the_old_state_of_a_root_can_be_deleted(mere, project):
    """It is nobody's parent to users; what the restored root still needs of it stays, and goes when it needs it no more."""
    b = project.main
    b.query("CREATE TABLE t (n int)")
    at = fill(b, 1)
    fill(b, 2)
    restore(b, b, source_lsn=at, preserve_under_name="before")
    old = find(project, "before")
    mere.wait_operations(project.id, project.call("DELETE", f"/branches/{old['id']}?hard_delete=true"))
    assert find(project, "before") is None and numbers(b) == [1]
    assert mere.rows("SELECT state FROM branch WHERE id = ?", old["id"])[0]["state"] == "deleted"
    fill(b, 3)
    b.suspend()

    def gone():
        project.call("PATCH", "", {"project": {"history_retention_seconds": 0}})
        return not mere.rows("SELECT 1 FROM branch WHERE id = ?", old["id"])

    until(gone, 120, "the old state to go", pause=0.5)
    assert numbers(b) == [1, 3] and numbers(project.branch(b)) == [1, 3]


CRASHES = ["restore.inserted", "restore.exchanged", "restore.committed"]


@pytest.mark.expect_log("ended by itself|crash|no image")
@pytest.mark.parametrize("point", CRASHES)
def test_killed_on_the_way(new_mere, point):
    mere = new_mere(crash=True)
    mere.start()
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t (n int)")
    at = fill(b, 1)
    fill(b, 2)
    mere.kill9()
    mere.start(env={"CRASH_AT": f"{point}:1"})
    with contextlib.suppress(ApiError, OSError):
        project.call("POST", b.path("/restore"), {"source_branch_id": b.id, "source_lsn": at, "preserve_under_name": "old"}, timeout=20)
    until(lambda: not mere.is_running(), 20, "the crash")
    mere.start()
    # It was recorded, so it comes true.  Who connects while the branch stops is told to connect again.
    def is_restored():
        with contextlib.suppress(psycopg2.OperationalError):
            return numbers(b) == [1]
    until(is_restored, 60, "the restore")
    assert numbers(named(project, "old")) == [1, 2]
    kinds = {r["kind"] for r in mere.rows("SELECT kind FROM branch")}
    assert kinds == {"user"}
    project.delete()
