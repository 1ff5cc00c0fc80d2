"""Bookmarks: names for places in history, held or not."""
import contextlib
import sqlite3

import pytest

from harness.server import Branch, until
from test_keep import delete, gone, recover, refused, stamp


def put(branch, name, expect=(200, 201), **body):
    return branch.project.call("PUT", branch.path(f"/bookmarks/{name}"), body, expect=expect)["bookmark"]


def marks(branch):
    return branch.project.call("GET", branch.path("/bookmarks"))["bookmarks"]


def holds(mere):
    return mere.rows("SELECT id FROM branch WHERE made_by = 'bookmark'")


@pytest.mark.parametrize("hold", [False, True])
def test_a_bookmark_names_a_place(project, hold):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    first = put(b, "v1.0", expect=(201,), hold=hold)
    assert first["name"] == "v1.0" and first["branch_id"] == b.id and first["hold"] is hold and first["expired"] is False
    b.query("INSERT INTO t VALUES (2)")
    again = put(b, "v1.0", expect=(200,), hold=hold)  # resolved once
    assert (again["lsn"], again["timestamp"], again["created_at"]) == (first["lsn"], first["timestamp"], first["created_at"])
    assert len(holds(project.mere)) == hold
    at = b.value("SELECT pg_current_wal_insert_lsn()::text")
    b.query("INSERT INTO t VALUES (3)")
    second = put(b, "second", lsn=at)
    assert second["hold"] is False
    assert [m["name"] for m in marks(b)] == ["second", "v1.0"]
    assert project.call("GET", b.path("/bookmarks/second"))["bookmark"] == second
    got = project.call("GET", b.path("/lsn?bookmark=v1.0"))
    assert got["lsn"] == first["lsn"]
    for name, rows in (("v1.0", [(1,)]), ("second", [(1,), (2,)])):
        child = project.branch(b, parent_bookmark=name)
        assert child.body["parent_id"] == b.id and child.query("SELECT n FROM t ORDER BY n") == rows
        assert marks(child) == []
        child.delete()
    moved = put(b, "v1.0", expect=(200,), lsn=at)
    assert moved["lsn"] == second["lsn"] and moved["hold"] is False
    assert put(b, "v1.0", hold=True)["hold"] is True
    assert put(b, "v1.0")["hold"] is True and put(b, "v1.0", hold=False)["hold"] is False
    until(lambda: not holds(project.mere), 30, "what held it to be gone")
    project.call("DELETE", b.path("/bookmarks/v1.0"))
    refused(project, 404, "GET", b.path("/bookmarks/v1.0"), text="bookmark not found")
    refused(project, 404, "DELETE", b.path("/bookmarks/v1.0"))
    refused(project, 404, "POST", "/branches", {"branch": {"parent_bookmark": "v1.0"}}, pointer="/branch/parent_bookmark")


def test_bookmarks_go_with_their_branch_and_come_back(project):
    project.call("PATCH", "", {"project": {"history_retention_seconds": 4}})
    b = project.branch(name="b")
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    kept = put(b, "kept", hold=True)
    short = put(b, "short", hold=True, ttl_seconds=1)
    assert short["expires_at"]
    until(lambda: [m["name"] for m in marks(b)] == ["kept"], 20, "the short one to be gone")
    until(lambda: len(holds(project.mere)) == 1, 20, "what held it to be gone")
    delete(b)
    refused(project, 404, "GET", b.path("/bookmarks"))
    recover(b)
    assert [m["lsn"] for m in marks(b)] == [kept["lsn"]]
    delete(b)
    gone(b)
    assert holds(project.mere) == []


def test_what_is_no_bookmark(project):
    b = project.main
    b.query("SELECT 1")
    path = b.path("/bookmarks/x")
    before = project.mere.rows("SELECT count(*) AS n FROM branch")
    for name in ("X", "-a", ".a", "a%20b", "a%2Fb", "%C3%A4", "x" * 64):
        refused(project, 422, "PUT", b.path(f"/bookmarks/{name}"), {}, text="name")
    for body, pointer in (({"lsn": "x"}, "/lsn"), ({"lsn": "0/0"}, "/lsn"), ({"lsn": 1}, "/lsn"), ({"lsn": "FFFFFFFF/0"}, "/lsn"), ({"lsn": "0/1"}, "/lsn"),
                          ({"timestamp": "now"}, "/timestamp"), ({"timestamp": stamp(60)}, "/timestamp"), ({"timestamp": "1970-01-01T00:00:00Z"}, "/timestamp"),
                          ({"lsn": "0/1", "timestamp": stamp(-1)}, "/timestamp"), ({"hold": 1}, "/hold"), ({"ttl_seconds": 0}, "/ttl_seconds"),
                          ({"ttl_seconds": 2**62}, "/ttl_seconds"), ({"ttl_seconds": "1d"}, "/ttl_seconds"), ({"name": "y"}, "/name")):
        reply = refused(project, 422, "PUT", path, body, pointer=pointer)
        if body in ({"lsn": "FFFFFFFF/0"}, {"lsn": "0/1"}):
            assert reply["earliest_lsn"] and reply["latest_lsn"]
    refused(project, 404, "PUT", "/branches/none/bookmarks/x", {})
    refused(project, 404, "GET", "/branches/none/bookmarks")
    refused(project, 404, "GET", b.path("/lsn?bookmark=x"), text="bookmark not found")
    refused(project, 400, "GET", b.path("/lsn?bookmark=x&lsn=0/1"))
    refused(project, 422, "POST", "/branches", {"branch": {"parent_bookmark": "x", "parent_lsn": "0/1"}}, pointer="/branch/parent_bookmark")
    assert marks(b) == [] and project.mere.rows("SELECT count(*) AS n FROM branch") == before


def test_a_place_that_is_out_of_reach(new_mere):
    """Before the history that is kept: expired when nothing holds it, as it was when something does."""
    m = new_mere()
    m.start()
    p = m.create_project()
    p.main.query("CREATE TABLE t AS SELECT 1 AS n")
    put(p.main, "loose")
    m.stop()
    with contextlib.closing(sqlite3.connect(m.database_file())) as db, db:
        db.execute("UPDATE bookmark SET lsn = 1")
    m.start()
    (mark,) = marks(p.main)
    assert mark["expired"] is True
    reply = refused(p, 422, "POST", "/branches", {"branch": {"parent_bookmark": "loose"}}, pointer="/branch/parent_bookmark")
    assert reply["earliest_lsn"]
    p.delete()


def restore(branch, source, **body):
    answer = branch.project.call("POST", branch.path("/restore"), {"source_branch_id": source.id, **body})
    branch.mere.wait_operations(branch.project.id, answer)


def test_a_restore_takes_those_along_that_it_goes_back_behind(project):
    """Before the moment they stay with the branch, after it they go with the state they are of: all can be reached."""
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    for n in (2, 3):
        put(b, f"before-{n}")
        b.query("INSERT INTO t VALUES (%s)", n)
    put(b, "held", hold=True)
    restore(b, b, source_lsn=project.call("GET", b.path("/bookmarks/before-3"))["bookmark"]["lsn"], preserve_under_name="old")
    assert [m["name"] for m in marks(b)] == ["before-2", "before-3"]
    old = project.call("GET", "/branches/old/bookmarks")["bookmarks"]
    assert [m["name"] for m in old] == ["held"] and old[0]["hold"] is True
    for parent, name, rows in (("main", "before-2", 1), ("main", "before-3", 2), ("old", "held", 3)):
        body = {"branch": {"parent_id": parent, "parent_bookmark": name, "name": f"at-{name}"}, "endpoints": [{"type": "read_write"}]}
        answer = project.call("POST", "/branches", body)
        child = Branch(project, answer["branch"], answer["endpoints"][0]["id"])
        assert child.value("SELECT count(*) FROM t") == rows, name
        child.delete()
    assert b.value("SELECT count(*) FROM t") == 2


def test_a_reset_asks_for_a_name_where_a_bookmark_holds_what_it_would_leave(project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    child = project.branch(b, name="child")
    put(child, "of-the-parent")
    child.query("INSERT INTO t VALUES (2)")
    put(child, "loose")
    put(child, "held", hold=True)
    refused(project, 422, "POST", child.path("/reset_to_parent"), {}, pointer="/preserve_under_name")
    put(child, "held", hold=False)
    project.mere.wait_operations(project.id, project.call("POST", child.path("/reset_to_parent"), {}))
    assert [m["name"] for m in marks(child)] == ["of-the-parent"]
    assert child.value("SELECT count(*) FROM t") == 1
