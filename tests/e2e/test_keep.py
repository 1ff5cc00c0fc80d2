"""Branches that are deleted and come back, expire, or may not go."""
import datetime

import psycopg2
import pytest

from harness.server import until

NOW = datetime.timezone.utc


def stamp(seconds, digits=0):
    t = datetime.datetime.now(NOW) + datetime.timedelta(seconds=seconds)
    return t.strftime("%Y-%m-%dT%H:%M:%S") + (f".{t.microsecond:06d}"[:digits + 1] if digits else "") + "Z"


def parsed(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def refused(project, status, method, rest, body=None, text=None, pointer=None):
    got, _, reply = project.mere.request(method, project.path(rest), body)
    assert got == status, (method, rest, body, got, reply)
    if text:
        assert text in reply["message"], reply
    if pointer:
        assert [e["pointer"] for e in reply.get("errors", [])] == [pointer], reply
    return reply


def row(branch):
    rows = branch.mere.rows("SELECT * FROM branch WHERE id = ?", branch.id)
    return rows[0] if rows else None


def gone(branch, timeout=30):
    until(lambda: row(branch) is None, timeout, f"branch {branch.id} to be gone")


def delete(branch, hard=False):
    """Deletes it; what is answered."""
    answer = branch.project.call("DELETE", branch.path("?hard_delete=true" if hard else ""))
    branch.mere.wait_operations(branch.project.id, answer)
    return answer


def recover(branch, ref=None):
    answer = branch.project.call("POST", f"/branches/{ref or branch.id}/recover")
    branch.mere.wait_operations(branch.project.id, answer)
    return answer["branch"]


def unreachable(where, **kw):
    with pytest.raises(psycopg2.OperationalError) as e:
        where.connect(**kw)
    return str(e.value)


# --- soft delete ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
def test_a_deleted_branch_comes_back_as_it_was(project, running):
    b = project.branch(name="dev")
    b.query("CREATE TABLE t AS SELECT 42 AS n")
    project.mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "app"}}))
    password = project.call("GET", b.path("/roles/app/reveal_password"))["password"]
    session = b.connect()
    if not running:
        session.close()
        b.suspend()
    answer = delete(b)
    recovery = answer["branch"]["recovery"]
    assert recovery["deletion_method"] == "user"
    assert parsed(recovery["recoverable_until"]) - parsed(recovery["deleted_at"]) == datetime.timedelta(days=1)
    assert [o["action"] for o in answer["operations"]] == ["delete_timeline"]
    # "finished" means that nothing of it runs.
    assert b.postmaster() == 0 and row(b)["state"] == "deleted"
    refused(project, 404, "GET", b.path(), text="branch not found")
    refused(project, 404, "GET", b.path("/roles"))
    refused(project, 404, "GET", f"/endpoints/{b.endpoint_id}", text="endpoint not found")
    refused(project, 404, "POST", f"/endpoints/{b.endpoint_id}/start")
    refused(project, 404, "DELETE", b.path())
    refused(project, 404, "PATCH", b.path(), {"branch": {"name": "x"}})
    refused(project, 404, "POST", "/branches", {"branch": {"parent_id": b.id}}, pointer="/branch/parent_id")
    assert "password authentication failed" in unreachable(b)
    assert "no branch" in unreachable(b, endpoint=None, branch="dev")
    assert "no branch" in unreachable(b, endpoint=None, branch=b.id)
    assert [x["name"] for x in project.branches()] == ["main"]
    assert project.call("GET", "/branches/count")["count"] == 1
    assert [e["branch_id"] for e in project.call("GET", "/endpoints")["endpoints"]] == [project.main.id]
    listed = {x["name"]: x for x in project.call("GET", "/branches?include_deleted=true")["branches"]}
    assert listed["dev"]["recovery"] == recovery and "recovery" not in listed["main"]
    back = recover(b)
    assert back["id"] == b.id and back["name"] == "dev" and "recovery" not in back
    assert b.value("SELECT n FROM t") == 42
    assert b.value("SELECT 1", user="app", password=password) == 1
    if running:
        with pytest.raises(psycopg2.Error):
            session.cursor().execute("SELECT 1")
        session.close()
    assert recover(b)["id"] == b.id  # asked for twice
    b.delete()


def test_names_of_deleted_branches(project):
    first, path = project.branch(name="a/b", endpoint=False), "/branches/a%2Fb/recover"
    refused(project, 404, "POST", path, text="no deleted branch")
    refused(project, 404, "POST", "/branches/br-no-such-branch/recover")
    delete(first)
    second = project.branch(name="a/b", endpoint=False)  # the name is free at once
    reply = refused(project, 409, "POST", path, text="called \"a/b\"")
    assert "rename" in reply["message"]
    refused(project, 409, "POST", first.path("/recover"))
    assert row(first)["state"] == "deleted"
    project.call("PATCH", second.path(), {"branch": {"name": "other"}})
    assert recover(first, "a%2Fb")["id"] == first.id
    delete(first)
    project.call("PATCH", second.path(), {"branch": {"name": "a/b"}})
    delete(second)
    refused(project, 409, "POST", path, text="several")
    recover(second)
    refused(project, 422, "POST", first.path("/recover"), {"branch": {"name": "x"}}, pointer="/branch")
    refused(project, 400, "DELETE", second.path("?hard_delete=maybe"))
    refused(project, 400, "GET", "/branches?include_deleted=maybe")


def test_hard_deletion_and_no_retention(project):
    b = project.branch(name="hard")
    b.query("SELECT 1")
    answer = delete(b, hard=True)
    assert "recovery" not in answer["branch"]
    gone(b)
    refused(project, 404, "POST", b.path("/recover"))
    project.call("PATCH", "", {"project": {"history_retention_seconds": 0}})
    b = project.branch(name="hard")
    assert "recovery" not in delete(b)["branch"]
    gone(b)
    project.call("PATCH", "", {"project": {"history_retention_seconds": 30 * 86400}})
    b = project.branch(name="soft", endpoint=False)
    recovery = delete(b)["branch"]["recovery"]
    assert parsed(recovery["recoverable_until"]) - parsed(recovery["deleted_at"]) == datetime.timedelta(days=7)


def test_a_deleted_branch_goes_when_the_time_is_up(project):
    project.call("PATCH", "", {"project": {"history_retention_seconds": 3}})
    parent = project.branch(name="parent")
    parent.query("CREATE TABLE t AS SELECT 1 AS n")
    child = project.branch(parent, name="child")
    child.query("SELECT n FROM t")
    refused(project, 422, "DELETE", parent.path(), text="child")
    delete(child)
    delete(parent, hard=True)  # its only child is deleted: it stays, unseen, until that is gone
    assert row(parent)["state"] == "deleted"
    refused(project, 404, "POST", parent.path("/recover"))
    assert "parent_id" not in recover(child) and "parent_lsn" not in project.call("GET", child.path())["branch"]
    assert child.value("SELECT n FROM t") == 1
    delete(child)
    gone(child)
    gone(parent)
    volumes = {p.name for p in (project.mere.data / "volumes").iterdir()} | {p.name for p in (project.mere.data / "wal").iterdir()}
    assert not {child.id, parent.id} & volumes


def test_a_project_takes_its_deleted_branches_with_it(mere):
    p = mere.create_project()
    b = p.branch(name="b")
    b.query("SELECT 1")
    delete(b)
    p.delete()
    assert row(b) is None


# --- TTL -----------------------------------------------------------------------------------------------------------------------


def test_a_branch_expires(project):
    b = project.branch(name="short", ttl_seconds=4)
    assert b.body["ttl_interval_seconds"] == 4
    at = parsed(b.body["expires_at"])
    b.query("SELECT 1")
    until(lambda: datetime.datetime.now(NOW) >= at, 10, "the time to be up")
    # From that moment on it is not there, even before it is gone.
    refused(project, 404, "GET", b.path())
    refused(project, 404, "PATCH", b.path(), {"branch": {"expires_at": None}})
    refused(project, 404, "POST", f"/endpoints/{b.endpoint_id}/start")
    refused(project, 404, "POST", b.path("/recover"))
    gone(b)
    assert b.postmaster() == 0
    refused(project, 404, "POST", b.path("/recover"))
    project.branch(name="short", endpoint=False)


@pytest.mark.expect_log("housekeeping")
def test_an_expired_branch_is_not_touched(new_mere):
    """Where nothing can be swept, it is seen: everything is refused, and nothing about it changes."""
    m = new_mere()
    m.start()
    p = m.create_project()
    b = p.branch(name="late", ttl_seconds=86400)
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    b.suspend()
    m.stop()
    import sqlite3
    with sqlite3.connect(m.database_file()) as db:
        db.execute("UPDATE branch SET expires_at = 1000000, is_protected = 1 WHERE id = ?", (b.id,))
    db.close()
    m.start()
    before = row(b)
    for method, rest, body in (("GET", "", None), ("PATCH", "", {"branch": {"name": "x"}}), ("DELETE", "", None), ("POST", "/set_as_default", None),
                               ("GET", "/roles", None), ("POST", "/roles", {"role": {"name": "r"}}), ("GET", "/databases", None), ("GET", "/endpoints", None),
                               ("GET", "/lsn?lsn=0/1", None), ("GET", "/roles/neondb_owner/reveal_password", None)):
        refused(p, 404, method, b.path(rest), body, text="expired")
    refused(p, 404, "POST", "/branches", {"branch": {"parent_id": b.id}}, pointer="/branch/parent_id")
    refused(p, 404, "POST", "/endpoints", {"endpoint": {"branch_id": b.id, "type": "read_write"}}, pointer="/endpoint/branch_id")
    assert "password authentication failed" in unreachable(b)
    assert "no branch" in unreachable(b, endpoint=None, branch="late")
    assert row(b) == before
    m.stop()
    with sqlite3.connect(m.database_file()) as db:
        db.execute("UPDATE branch SET is_protected = 0 WHERE id = ?", (b.id,))
    db.close()
    m.start()
    gone(b)


def test_times_of_expiry(project):
    b = project.branch(name="t", endpoint=False, expires_at="2030-01-01T00:00:00.000Z")
    assert b.body["expires_at"] == "2030-01-01T00:00:00Z" and b.body["ttl_interval_seconds"] > 86400 * 365
    patch = lambda **fields: project.call("PATCH", b.path(), {"branch": fields})["branch"]  # noqa: E731
    assert patch(expires_at="2031-06-01T12:00:00.2+02:00")["expires_at"] == "2031-06-01T10:00:01Z"
    assert patch(name="u")["expires_at"] == "2031-06-01T10:00:01Z"
    both = patch(ttl_seconds=3600, expires_at=stamp(3610, 3))
    assert both["ttl_interval_seconds"] == 3600
    far = patch(expires_at="9999-12-31T23:59:59Z")
    assert far["expires_at"] == "9999-12-31T23:59:59Z"
    none = patch(expires_at=None)
    assert "expires_at" not in none and "ttl_interval_seconds" not in none
    assert patch(ttl_seconds=100 * 365 * 86400)["ttl_interval_seconds"] == 100 * 365 * 86400
    assert "expires_at" not in patch(ttl_seconds=None)
    before = row(b)
    for fields, pointer in (
            ({"expires_at": stamp(-1)}, "expires_at"), ({"expires_at": "1970-01-01T00:00:00Z"}, "expires_at"), ({"expires_at": "2030-01-01"}, "expires_at"),
            ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"), ({"expires_at": "2030-13-01T00:00:00Z"}, "expires_at"), ({"expires_at": 1}, "expires_at"),
            ({"expires_at": ""}, "expires_at"), ({"ttl_seconds": 0}, "ttl_seconds"), ({"ttl_seconds": -1}, "ttl_seconds"), ({"ttl_seconds": 1.5}, "ttl_seconds"),
            ({"ttl_seconds": "60"}, "ttl_seconds"), ({"ttl_seconds": 2**63 - 1}, "ttl_seconds"), ({"ttl_seconds": 10**12}, "ttl_seconds"),
            ({"ttl_seconds": 60, "expires_at": stamp(600)}, "ttl_seconds"), ({"ttl_seconds": None, "expires_at": stamp(600)}, "ttl_seconds"),
            ({"ttl_seconds": 60, "expires_at": None}, "ttl_seconds")):
        refused(project, 422, "PATCH", b.path(), {"branch": fields}, pointer=f"/branch/{pointer}")
        refused(project, 422, "POST", "/branches", {"branch": fields}, pointer=f"/branch/{pointer}")
    assert row(b) == before


def test_what_may_not_expire(project):
    b = project.branch(name="b", endpoint=False)
    later = stamp(3600)
    refused(project, 422, "PATCH", project.main.path(), {"branch": {"expires_at": later}}, text="default", pointer="/branch/expires_at")
    refused(project, 422, "POST", "/branches", {"branch": {"expires_at": later, "protected": True}}, text="protected", pointer="/branch/expires_at")
    child = project.branch(b, name="child", endpoint=False, expires_at=later)
    refused(project, 422, "PATCH", b.path(), {"branch": {"ttl_seconds": 60}}, text="children", pointer="/branch/ttl_seconds")
    refused(project, 422, "PATCH", child.path(), {"branch": {"protected": True}}, text="protected", pointer="/branch/protected")
    refused(project, 422, "POST", child.path("/set_as_default"), text="expires")
    refused(project, 422, "POST", "/branches", {"branch": {"parent_id": child.id}}, text="expires", pointer="/branch/parent_id")
    project.call("POST", b.path("/set_as_default"))
    refused(project, 422, "PATCH", project.main.path(), {"branch": {"ttl_seconds": 60}}, text="root", pointer="/branch/ttl_seconds")
    project.call("POST", project.main.path("/set_as_default"))
    # A deleted one is not kept beyond its time.
    child.refresh()
    project.call("PATCH", child.path(), {"branch": {"ttl_seconds": 60}})
    assert delete(child)["branch"]["recovery"]["recoverable_until"] <= stamp(61)


# --- protected -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_children_of_a_protected_branch_have_their_own_passwords(mere, stored):
    project = mere.create_project(store_passwords=stored)
    parent = project.main
    mere.wait_operations(project.id, project.call("POST", parent.path("/roles"), {"role": {"name": "other"}}))
    mere.wait_operations(project.id, project.call("POST", parent.path("/roles"), {"role": {"name": "nobody", "no_login": True}}))
    parent.query("SELECT 1")
    open_child = project.branch(parent, name="open")
    assert open_child.value("SELECT 1") == 1
    project.call("PATCH", parent.path(), {"branch": {"protected": True}})
    child = project.branch(parent, name="child")
    shown = {r["name"]: r.get("password") for r in child.answer["roles"]}
    assert shown["neondb_owner"] and shown["other"] and shown["nobody"] is None
    assert shown["neondb_owner"] != project.password
    assert child.value("SELECT 1", password=shown["neondb_owner"]) == 1
    assert child.value("SELECT current_user", user="other", password=shown["other"]) == "other"
    assert "password" in unreachable(child)
    assert parent.value("SELECT 1") == 1  # the parent's are its own
    if stored:
        assert project.call("GET", child.path("/roles/other/reveal_password"))["password"] == shown["other"]
    grandchild = project.branch(child, name="grandchild")
    assert "password" not in grandchild.answer["roles"][0]
    assert grandchild.value("SELECT 1", password=shown["neondb_owner"]) == 1
    project.call("PATCH", parent.path(), {"branch": {"protected": False}})
    project.delete()


def test_a_protected_branch_keeps_its_computes(project):
    b = project.branch(name="safe", protected=True)
    refused(project, 422, "DELETE", b.path(), text="protected")
    refused(project, 422, "DELETE", b.path("?hard_delete=true"), text="protected")
    refused(project, 422, "DELETE", f"/endpoints/{b.endpoint_id}", text="protected")
    status, _, reply = project.mere.request("DELETE", project.path())
    assert status == 422 and "protected" in reply["message"]
    assert b.endpoint()["id"] == b.endpoint_id
    project.call("PATCH", b.path(), {"branch": {"protected": False}})
    project.mere.wait_operations(project.id, project.call("DELETE", f"/endpoints/{b.endpoint_id}"))
