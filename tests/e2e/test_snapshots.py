"""Snapshots: taken, kept, restored, put in the place of the original, and by schedule."""
import contextlib
import datetime
import sqlite3
import time

import pytest

from harness.server import Branch, until
from test_keep import delete, gone, parsed, refused, row, stamp


def take(branch, query="", **kw):
    answer = branch.project.call("POST", branch.path("/snapshot" + query), **kw)
    branch.mere.wait_operations(branch.project.id, answer)
    return answer["snapshot"]


def snapshots(project):
    return project.call("GET", "/snapshots")["snapshots"]


def restore(project, snapshot, **body):
    answer = project.call("POST", f"/snapshots/{snapshot['id']}/restore", body)
    project.mere.wait_operations(project.id, answer)
    return Branch(project, answer["branch"])


def drop(project, snapshot):
    answer = project.call("DELETE", f"/snapshots/{snapshot['id']}", expect=(202,))
    project.mere.wait_operations(project.id, answer)


def with_endpoint(branch):
    made = branch.project.call("POST", "/endpoints", {"endpoint": {"branch_id": branch.id, "type": "read_write"}})
    branch.endpoint_id = made["endpoint"]["id"]
    return branch


def vanished(project, snapshot):
    until(lambda: not project.mere.rows("SELECT id FROM branch WHERE id = ?", snapshot["id"]), 30, f"snapshot {snapshot['id']} to be gone")


@pytest.mark.parametrize("running", [True, False])
def test_a_snapshot_is_that_moment(project, running):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    if not running:
        b.suspend()
    first = take(b, "?name=before")
    assert first["id"].startswith("snap-") and first["name"] == "before" and first["manual"] is True
    assert first["source_branch_id"] == b.id and first["lsn"] and first["timestamp"] and "expires_at" not in first
    b.query("INSERT INTO t VALUES (2)")
    at = b.value("SELECT pg_current_wal_insert_lsn()::text")
    b.query("INSERT INTO t VALUES (3)")
    second = take(b, f"?lsn={at}&expires_at={stamp(3600)}")
    assert second["name"].startswith("main 20") and second["expires_at"]
    assert [s["id"] for s in snapshots(project)] == [second["id"], first["id"]]
    # Nobody sees the branch behind it.
    assert [x["name"] for x in project.branches()] == ["main"]
    assert project.call("GET", "/branches/count")["count"] == 1
    refused(project, 404, "GET", f"/branches/{first['id']}")
    refused(project, 404, "POST", "/branches", {"branch": {"parent_id": first["id"]}}, pointer="/branch/parent_id")
    one, two = restore(project, first, name="one"), restore(project, second)
    for made, of in ((one, first), (two, second)):
        body = made.refresh()
        assert body["parent_id"] == b.id and body["parent_lsn"] == of["lsn"]
        assert body["restore_status"] == "restored" and body["restored_from"] == of["id"] and body["restored_as"] == b.id
    assert with_endpoint(one).query("SELECT n FROM t ORDER BY n") == [(1,)]
    assert with_endpoint(two).query("SELECT n FROM t ORDER BY n") == [(1,), (2,)]
    # Deleted, it is gone at once; what stands on it is not.
    drop(project, first)
    assert [s["id"] for s in snapshots(project)] == [second["id"]]
    refused(project, 404, "POST", f"/snapshots/{first['id']}/restore", {})
    one.suspend()
    assert one.value("SELECT count(*) FROM t") == 1
    one.delete()
    vanished(project, first)
    drop(project, second)


def test_a_snapshot_outlives_its_branch(project):
    b = project.branch(name="short")
    b.query("CREATE TABLE t AS SELECT 7 AS n")
    snapshot = take(b, "?name=keep")
    b.project.call("DELETE", b.path("?hard_delete=true"))
    until(lambda: row(b)["state"] == "deleted", 30, "the branch to be deleted")
    refused(project, 404, "GET", b.path())
    refused(project, 404, "POST", b.path("/recover"))
    (listed,) = snapshots(project)
    assert listed["id"] == snapshot["id"] and "source_branch_id" not in listed
    refused(project, 422, "POST", f"/snapshots/{snapshot['id']}/restore", {"finalize_restore": True}, pointer="/target_branch_id")
    made = with_endpoint(restore(project, snapshot, name="short"))
    assert "parent_id" not in made.body and "restored_as" not in made.body
    assert made.value("SELECT n FROM t") == 7
    refused(project, 422, "POST", made.path("/finalize_restore"), text="does not exist any more")
    made.delete()
    drop(project, snapshot)
    vanished(project, snapshot)
    gone(b)


def test_a_snapshot_expires_and_is_changed(project):
    snapshot = take(project.main)
    path = f"/snapshots/{snapshot['id']}"
    got = project.call("PATCH", path, {"snapshot": {"name": "renamed", "expires_at": "2030-01-01T00:00:00.000Z"}})["snapshot"]
    assert got["name"] == "renamed" and got["expires_at"] == "2030-01-01T00:00:00Z"
    assert "expires_at" not in project.call("PATCH", path, {"snapshot": {"expires_at": None}})["snapshot"]
    for body, pointer in (({}, "/snapshot"), ({"snapshot": {"name": ""}}, "/snapshot/name"), ({"snapshot": {"name": " x"}}, "/snapshot/name"),
                          ({"snapshot": {"expires_at": stamp(-5)}}, "/snapshot/expires_at"), ({"snapshot": {"expires_at": "soon"}}, "/snapshot/expires_at"),
                          ({"snapshot": {"expires_at": "1970-01-01T00:00:00Z"}}, "/snapshot/expires_at"), ({"snapshot": {"lsn": "0/1"}}, "/snapshot/lsn"),
                          ({"snapshot": {}, "x": 1}, "/x")):
        refused(project, 422, "PATCH", path, body, pointer=pointer)
    refused(project, 404, "PATCH", "/snapshots/snap-no-such-one", {"snapshot": {}}, text="snapshot not found")
    refused(project, 404, "DELETE", "/snapshots/snap-no-such-one")
    refused(project, 404, "DELETE", f"/snapshots/{project.main.id}")
    project.call("PATCH", path, {"snapshot": {"expires_at": stamp(2)}})
    vanished(project, snapshot)
    refused(project, 404, "PATCH", path, {"snapshot": {}})


def test_what_is_no_snapshot(project):
    b, path = project.main, project.main.path("/snapshot")
    b.query("SELECT 1")
    before = project.mere.rows("SELECT count(*) AS n FROM branch")
    for query in ("lsn=x", "lsn=0/0", "lsn=", "timestamp=yesterday", "timestamp=2026-01-01", "expires_at=never", "expires_at=",
                  "lsn=0/1&timestamp=2026-01-01T00:00:00Z"):
        refused(project, 400, "POST", f"{path}?{query}")
    for query, pointer in (("lsn=FFFFFFFF/0", "/lsn"), ("lsn=0/1", "/lsn"), (f"timestamp={stamp(600)}", "/timestamp"),
                           ("timestamp=2001-01-01T00:00:00Z", "/timestamp"), (f"expires_at={stamp(-60)}", "/expires_at"), ("name=%20x", "/name"),
                           ("name=br-a-b-c", "/name"), ("name=" + "x" * 257, "/name")):
        reply = refused(project, 422, "POST", f"{path}?{query}", pointer=pointer)
        assert ("earliest_lsn" in reply) == query.startswith(("lsn", "timestamp")), reply
    refused(project, 404, "POST", "/branches/none/snapshot")
    refused(project, 422, "POST", path, {"name": "x"}, pointer="/name")
    assert project.mere.rows("SELECT count(*) AS n FROM branch") == before
    snapshot = take(b)
    again = f"/snapshots/{snapshot['id']}/restore"
    for body, status, pointer in (({"name": "main"}, 409, "/name"), ({"name": ""}, 422, "/name"), ({"name": "br-a-b-c"}, 422, "/name"),
                                  ({"target_branch_id": "none"}, 404, "/target_branch_id"), ({"finalize_restore": 1}, 422, "/finalize_restore"),
                                  ({"x": 1}, 422, "/x")):
        refused(project, status, "POST", again, body, pointer=pointer)
    refused(project, 404, "POST", "/snapshots/snap-no-such-one/restore", {})
    refused(project, 422, "POST", b.path("/finalize_restore"), text="was not restored")
    drop(project, snapshot)


# --- in the place of the original ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_the_restored_branch_takes_the_place_of_the_original(project, at_once):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    project.call("PUT", b.path("/backup_schedule"), {"schedule": [{"frequency": "yearly"}]})
    snapshot = take(b)
    b.query("INSERT INTO t VALUES (2)")
    if at_once:
        made = restore(project, snapshot, finalize_restore=True)
    else:
        made = with_endpoint(restore(project, snapshot, name="made"))
        own = made.endpoint_id
        assert made.value("SELECT count(*) FROM t") == 1
        refused(project, 409, "POST", made.path("/finalize_restore"), {"name": "main"}, pointer="/name")
        refused(project, 422, "POST", made.path("/finalize_restore"), {"name": ""}, pointer="/name")
        project.call("PATCH", b.path(), {"branch": {"protected": True}})
        refused(project, 422, "POST", made.path("/finalize_restore"), text="protected")
        project.call("PATCH", b.path(), {"branch": {"protected": False}})
        project.mere.wait_operations(project.id, project.call("POST", made.path("/finalize_restore"), {"name": "was main"}))
    # The string that was handed out before leads to the new one.
    assert b.query("SELECT n FROM t") == [(1,)]
    body, old = made.refresh(), b.refresh()
    assert body["name"] == "main" and body["default"] is True and body["restore_status"] == "finalized"
    assert old["default"] is False and (old["name"].startswith("main_old_") if at_once else old["name"] == "was main")
    assert [e["id"] for e in project.call("GET", made.path("/endpoints"))["endpoints"]] == [b.endpoint_id]
    assert [e["id"] for e in project.call("GET", b.path("/endpoints"))["endpoints"]] == ([] if at_once else [own])
    assert project.call("GET", made.path("/backup_schedule"))["schedule"] == [{"frequency": "yearly"}]
    assert project.call("GET", b.path("/backup_schedule"))["schedule"] == []
    if not at_once:
        made.endpoint_id = own
        assert made.query("SELECT n FROM t ORDER BY n") == [(1,), (2,)]  # which leads to the original now
    refused(project, 422, "POST", made.path("/finalize_restore"), text="already")
    b.query("INSERT INTO t VALUES (9)")
    b.suspend()
    assert b.query("SELECT n FROM t ORDER BY n") == [(1,), (9,)]


def test_who_connects_meanwhile_waits(project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    snapshot = take(b)
    b.query("INSERT INTO t VALUES (2)")
    made = restore(project, snapshot)
    session = b.connect()
    answer = project.call("POST", made.path("/finalize_restore"), {})
    seen = set()
    deadline = time.monotonic() + 20
    while seen != {1} and time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            seen = {b.value("SELECT count(*) FROM t")}
    project.mere.wait_operations(project.id, answer)
    assert b.value("SELECT count(*) FROM t") == 1
    session.close()


def test_a_finalize_that_cannot_be_done_changes_nothing(project):
    snapshot = take(project.main)
    b = project.branch(name="b")
    b.query("SELECT 1")
    made = restore(project, snapshot, target_branch_id="b", name="made")
    delete(b)
    refused(project, 422, "POST", made.path("/finalize_restore"), text="does not exist any more")
    assert made.refresh()["name"] == "made" and made.body["restore_status"] == "restored"


# --- schedules -------------------------------------------------------------------------------------------------------------------


def test_schedules_are_kept(project):
    path = project.main.path("/backup_schedule")
    assert project.call("GET", path) == {"schedule": []}
    entries = [{"frequency": "daily", "hour": 3, "retention_seconds": 86400}, {"frequency": "yearly", "month": 2, "day": 29}]
    assert project.call("PUT", path, {"schedule": entries}) == {}
    assert project.call("GET", path) == {"schedule": entries}
    for schedule, pointer in ((None, ""), ({}, ""), ([1], "/0"), ([{}], "/0/frequency"), ([{"frequency": "minutely"}], "/0/frequency"),
                              ([{"frequency": "daily", "hour": 24}], "/0/hour"), ([{"frequency": "daily", "retention_seconds": 60}], "/0/retention_seconds"),
                              ([{"frequency": "hourly"}] * 17, "")):
        refused(project, 422, "PUT", path, {"schedule": schedule}, pointer="/schedule" + pointer)
    refused(project, 422, "PUT", path, {}, pointer="/schedule")
    refused(project, 422, "PUT", path, {"schedule": [], "x": 1}, pointer="/x")
    refused(project, 404, "PUT", "/branches/none/backup_schedule", {"schedule": []})
    refused(project, 404, "GET", "/branches/none/backup_schedule")
    assert project.call("GET", path) == {"schedule": entries}
    project.call("PUT", path, {"schedule": []})
    assert project.call("GET", path) == {"schedule": []}


def test_what_is_due_is_taken_once(new_mere):
    m = new_mere()
    m.start()
    p = m.create_project()
    p.main.query("CREATE TABLE t AS SELECT 1 AS n")
    p.call("PUT", p.main.path("/backup_schedule"), {"schedule": [{"frequency": "hourly", "retention_seconds": 7200}, {"frequency": "yearly", "retention_seconds": 3600}]})
    m.stop()
    with contextlib.closing(sqlite3.connect(m.database_file())) as db, db:
        db.execute("UPDATE backup_schedule SET done_until = done_until - ?", (5 * 3600 * 1000000,))
    m.start()
    until(lambda: snapshots(p), 20, "a snapshot to be taken")
    until(lambda: not m.rows("SELECT 1 FROM operation WHERE status IN ('scheduling', 'running')"), 30, "operations to end")
    (one,) = snapshots(p)
    assert one["manual"] is False and one["name"].startswith("main 20") and one["source_branch_id"] == p.main.id
    kept = parsed(one["expires_at"]) - parsed(one["created_at"])
    assert abs(kept - datetime.timedelta(hours=2)) <= datetime.timedelta(seconds=2)
    m.stop()
    m.start()
    time.sleep(4)
    assert [s["id"] for s in snapshots(p)] == [one["id"]]
    m.stop()
    with contextlib.closing(sqlite3.connect(m.database_file())) as db, db:
        db.execute("UPDATE branch SET expires_at = 1000000 WHERE kind = 'snapshot'")
    m.start()
    vanished(p, one)
    p.delete()
