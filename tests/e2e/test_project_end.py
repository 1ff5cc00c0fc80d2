"""The end of projects: deleted ones can be recovered for as long as they keep history, then they go for good."""
import psycopg2
import pytest

from harness.server import gone, until

KEPT = 3600


@pytest.fixture
def full(mere, ledger):
    """A project with a tree of branches, each with a row that says which one it is, and one that was deleted before."""
    p = mere.create_project(history_retention_seconds=KEPT)
    p.main.query("CREATE TABLE t (who text)")
    p.main.query("INSERT INTO t VALUES ('main')")
    child = p.branch(p.main, "child")
    child.query("INSERT INTO t VALUES ('child')")
    never = p.branch(child, "never-started", endpoint=False)
    before = p.branch(p.main, "deleted-before")
    mere.wait_operations(p.id, p.call("DELETE", before.path()))
    mere.wait_operations(p.id, p.call("POST", p.main.path("/snapshot?name=kept")))
    yield p, child, never
    if mere.is_running() and mere.rows("SELECT id FROM project WHERE id = ? AND state = 'ready'", p.id):
        p.delete()


def delete(mere, project):
    body = mere.call("DELETE", project.path())
    for o in mere.rows("SELECT id FROM operation WHERE project_id = ? AND status IN ('scheduling', 'running')", project.id):
        mere.wait_operation(project.id, o["id"])
    return body["project"]


def listed(mere, query=""):
    return {p["id"]: p for p in mere.call("GET", "/projects?limit=400" + query)["projects"]}


def test_recover(mere, full):
    p, child, never = full
    assert p.main.postmaster() and child.postmaster()
    delete(mere, p)
    assert not p.main.postmaster() and not child.postmaster(), "its computes go on"
    assert p.id not in listed(mere)
    recoverable = listed(mere, "&recoverable=true")[p.id]
    assert recoverable["recoverable_until"] > recoverable["deleted_at"]
    for method, path in (("GET", p.path()), ("DELETE", p.path()), ("GET", p.path("/branches")), ("POST", p.path("/branches/child/recover"))):
        status, _, reply = mere.request(method, path)
        assert status == 404 and "project not found" in reply["message"], (method, path, reply)
    with pytest.raises(psycopg2.OperationalError):
        child.connect()
    back = mere.call("POST", p.path("/recover"), expect=(200,))["project"]
    assert back["id"] == p.id and "deleted_at" not in back
    assert mere.call("POST", p.path("/recover"))["project"]["id"] == p.id, "twice"
    assert listed(mere)[p.id]["name"] == p.name and p.id not in listed(mere, "&recoverable=true")
    assert sorted(b["name"] for b in p.branches()) == ["child", "main", "never-started"]
    assert [b["name"] for b in p.branches() if b["default"]] == ["main"]
    assert [s["name"] for s in p.call("GET", "/snapshots")["snapshots"]] == ["kept"]
    assert sorted(child.query("SELECT who FROM t")) == [("child",), ("main",)] and p.main.value("SELECT who FROM t") == "main"
    p.call("POST", "/branches/deleted-before/recover")  # its own deletion is its own


def test_only_once_deleted(mere):
    status, _, reply = mere.request("POST", "/projects/no-such-12345678/recover")
    assert status == 404 and "no deleted project" in reply["message"]
    p = mere.create_project(history_retention_seconds=0)
    delete(mere, p)
    gone(lambda: mere.rows("SELECT id FROM project WHERE id = ?", p.id), 30, "a project that keeps no history")
    assert mere.request("POST", p.path("/recover"))[0] == 404


def test_hard_delete(mere, full):
    p = full[0]
    mere.call("DELETE", p.path("?hard_delete=true"))
    gone(lambda: mere.rows("SELECT id FROM project WHERE id = ?", p.id), 60, "all of it")
    assert mere.request("POST", p.path("/recover"))[0] == 404
    assert not mere.rows("SELECT id FROM branch WHERE project_id = ?", p.id)


def test_protected(mere, project):
    project.call("PATCH", project.main.path(), {"branch": {"protected": True}})
    for query in ("", "?hard_delete=true"):
        status, _, reply = mere.request("DELETE", project.path(query))
        assert status == 422 and "protected" in reply["message"]
    project.call("PATCH", project.main.path(), {"branch": {"protected": False}})


def test_purge(new_mere):
    """Who comes too late finds nothing, and what it took is given back."""
    m = new_mere()
    m.start()
    p = m.create_project(history_retention_seconds=2)
    p.main.query("CREATE TABLE t ()")
    child = p.branch(p.main, "child")
    assert child.value("SELECT count(*) FROM t") == 0
    m.call("DELETE", p.path())
    gone(lambda: m.rows("SELECT id FROM project WHERE id = ?", p.id), 60, "all of it")
    assert m.request("POST", p.path("/recover"))[0] == 404
    assert not list((m.data / "wal").glob("br-*"))


@pytest.mark.slow
def test_kills(new_mere):
    """Whenever mered dies, a deleted project is there as a whole or not at all."""
    for point in ("project.deleting", "project.recovered", "project.purged"):
        m = new_mere(crash=True)
        m.start(env={"CRASH_AT": f"{point}:1"})
        p = m.create_project(history_retention_seconds=KEPT if point != "project.purged" else 2)
        p.main.query("CREATE TABLE t AS SELECT 1 AS one")
        for method, path in (("DELETE", p.path()), ("POST", p.path("/recover"))):
            if m.is_running() and (point != "project.purged" or method == "DELETE"):
                try:
                    m.request(method, path)
                except OSError:
                    pass
            until(lambda: not m.is_running() or not m.rows("SELECT id FROM operation WHERE status IN ('scheduling', 'running')"), 60, "what is under way")
        until(lambda: not m.is_running(), 30, f"the death at {point}")
        m.wait()
        m.disturbed = True
        m.start()
        if point == "project.purged":
            gone(lambda: m.rows("SELECT id FROM project WHERE id = ?", p.id), 60, "all of it")
            continue
        until(lambda: not m.rows("SELECT id FROM operation WHERE status IN ('scheduling', 'running')"), 60, "what is under way")
        m.call("POST", p.path("/recover"))
        assert p.main.value("SELECT one FROM t") == 1, point
