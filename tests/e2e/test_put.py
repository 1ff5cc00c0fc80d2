"""What shall be there, by its name: PUT, ?view=spec, labels; and how to connect to it."""
import base64
import concurrent.futures
import json
import subprocess

import pytest

from apiclient import enc
from harness.server import ApiError, until

SPEC = {"name": "preview-1", "parent": "main", "ttl_seconds": 86400, "labels": {"pr": "12", "by": "ci"}, "protected": False}


def together(n, fn):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(fn, range(n)))


def rows(mere, sql, *params):
    return mere.rows(sql, *params)


@pytest.fixture
def path(p):
    return p["path"]


@pytest.fixture
def gone(api, path):
    """Deletes at the end what a test has put there."""
    names = []
    yield names.append
    for name in names:
        api.request("PATCH", f"{path}/branches/{enc(name)}", {"branch": {"protected": False}})
        api.request("DELETE", f"{path}/branches/{enc(name)}?hard_delete=true&wait=ready")


# --- branches ---

def test_made_then_left_alone(api, mere, path, gone):
    gone("preview-1")
    status, headers, made = api.request("PUT", f"{path}/branches/preview-1?wait=ready", SPEC)
    assert status == 201 and made["branch"]["name"] == "preview-1" and made["endpoints"][0]["type"] == "read_write"
    assert made["branch"]["parent_lsn"] and made["connection_uris"][0]["connection_uri"].startswith("postgresql://")
    before = rows(mere, "SELECT * FROM branch WHERE id = ?", made["branch"]["id"])
    n = rows(mere, "SELECT count(*) AS n FROM operation")[0]["n"]
    for _ in range(3):
        status, headers, again = api.request("PUT", f"{path}/branches/preview-1", SPEC)
        assert status == 200 and again["operations"] == [] and set(again) == set(made)
        assert {k: v for k, v in again.items() if k != "operations"} == {k: v for k, v in made.items() if k != "operations"}
    assert rows(mere, "SELECT * FROM branch WHERE id = ?", made["branch"]["id"]) == before
    assert rows(mere, "SELECT count(*) AS n FROM operation")[0]["n"] == n
    # By its id it is the same one; a body is not needed, and says that nothing is set.
    status, _, by_id = api.request("PUT", f"{path}/branches/{made['branch']['id']}", {})
    assert status == 200 and by_id["branch"]["id"] == made["branch"]["id"]
    assert api.ok("GET", f"{path}/branches/preview-1?view=spec") == {"name": "preview-1"}


def test_fifty_at_once_make_one(api, mere, path, gone):
    gone("crowd")
    got = together(50, lambda _: mere.request("PUT", f"{path}/branches/crowd", {"parent": "main", "labels": {"n": "50"}}))
    assert sorted(s for s, _, _ in got) == [200] * 49 + [201], sorted(s for s, _, _ in got)
    assert len({a["branch"]["id"] for _, _, a in got}) == 1
    branch = got[0][2]["branch"]["id"]
    assert len(rows(mere, "SELECT id FROM operation WHERE branch_id = ?", branch)) == 1
    assert len(rows(mere, "SELECT id FROM endpoint WHERE branch_id = ?", branch)) == 1


def test_what_differs_is_changed_and_what_is_left_out_goes_back(api, mere, path, gone):
    gone("moving")
    api.ok("PUT", f"{path}/branches/moving", {"ttl_seconds": 3600, "labels": {"a": "1"}})
    first = api.ok("GET", f"{path}/branches/moving")["branch"]
    again = api.ok("PUT", f"{path}/branches/moving", {"ttl_seconds": 3600, "labels": {"a": "2"}})["branch"]
    assert again["expires_at"] == first["expires_at"]  # it counts from when it was given first
    assert api.ok("GET", f"{path}/branches/moving")["annotation"]["value"] == {"a": "2"}
    assert api.ok("PUT", f"{path}/branches/moving", {"ttl_seconds": 7200})["branch"]["expires_at"] > first["expires_at"]
    plain = api.ok("PUT", f"{path}/branches/moving", {"protected": True})["branch"]
    assert "expires_at" not in plain and plain["protected"] is True
    got = api.ok("GET", f"{path}/branches/moving")
    assert got["annotation"]["value"] == {}
    assert api.ok("PUT", f"{path}/branches/moving", {"protected": None, "labels": None})["branch"]["protected"] is False


@pytest.mark.parametrize("body, status, pointer", [
    ({"name": "other"}, 422, "/name"), ({"parent": "dev/1"}, 409, "/parent"), ({"parent_lsn": "0/1"}, 409, "/parent_lsn"),
    ({"parent_timestamp": "2020-01-01T00:00:00Z"}, 409, "/parent_timestamp"), ({"durability": "relaxed"}, 409, "/durability"),
    ({"parent": "no such"}, 409, "/parent"), ({"ttl_seconds": 0}, 422, "/ttl_seconds"), ({"expires_at": "2001-01-01T00:00:00Z"}, 422, "/expires_at"),
    ({"protected": True, "ttl_seconds": 60}, 422, "/ttl_seconds"), ({"labels": {"a": 1}}, 422, "/labels"), ({"parent_id": "main"}, 422, "/parent_id"),
    ({"branch": {}}, 422, "/branch"), ({"init_source": "nothing"}, 422, "/init_source"), ({"parent_lsn": "0/1", "parent_timestamp": "2020-01-01T00:00:00Z"}, 422, "/parent_timestamp"),
])
def test_what_cannot_be(api, mere, path, gone, body, status, pointer):
    gone("fixed")
    api.ok("PUT", f"{path}/branches/fixed", {"parent": "main"})
    before = rows(mere, "SELECT * FROM branch WHERE name = 'fixed'")
    _, reply = api.refused("PUT", f"{path}/branches/fixed", body, status=status, pointer=pointer)
    assert "nothing was" in reply["message"] or status == 422
    assert rows(mere, "SELECT * FROM branch WHERE name = 'fixed'") == before


def test_what_was_given_may_be_given_again(api, mere, path, gone):
    """A parent that has another name by now, a place that a reset has moved: the same body still changes nothing."""
    gone("child")
    gone("elsewhere")
    api.ok("PUT", f"{path}/branches/mother", {})
    body = {"parent": "mother", "parent_lsn": api.ok("GET", f"{path}/branches/mother")["branch"]["parent_lsn"]}
    child = api.ok("PUT", f"{path}/branches/child", body)["branch"]
    api.ok("PATCH", f"{path}/branches/mother", {"branch": {"name": "elsewhere"}})
    assert api.ok("PUT", f"{path}/branches/child", body)["branch"]["id"] == child["id"]
    api.ok("POST", f"{path}/branches/child/reset_to_parent?wait=ready")
    assert api.ok("PUT", f"{path}/branches/child", body)["operations"] == []
    assert api.ok("PUT", f"{path}/branches/child", {"parent": "elsewhere"})["branch"]["id"] == child["id"]


def test_names_that_put_makes(api, path, gone):
    for name in ("feature/x", "Upper", "-x", "a" * 64, "ä"):
        api.refused("PUT", f"{path}/branches/{enc(name)}", {}, status=422, pointer="/name")
    api.refused("PUT", f"{path}/branches/br-no-such-branch", {}, status=422, pointer="/name")
    gone("feature/x")
    api.ok("POST", f"{path}/branches", {"branch": {"name": "feature/x"}})
    assert api.ok("PUT", f"{path}/branches/{enc('feature/x')}", {"labels": {"a": "b"}})["branch"]["name"] == "feature/x"
    api.refused("PUT", "/projects/no-such-12345678/branches/x", {}, status=404, text="project not found")
    api.refused("PUT", f"{path}/branches/x", {"parent": "no such"}, status=404, pointer="/parent")


# --- view=spec ---

def test_the_spec_is_what_was_set(api, path, gone):
    gone("preview-1")
    url = f"{path}/branches/preview-1?view=spec"
    status, headers, made = api.request("PUT", url, SPEC)
    assert status == 201 and made == SPEC
    assert api.ok("GET", url) == SPEC and api.ok("PUT", url, SPEC) == SPEC
    # What others change shows, where it was set and where it was not.
    api.ok("PATCH", f"{path}/branches/preview-1", {"branch": {"ttl_seconds": 60}, "annotation_value": {"pr": "13"}})
    assert api.ok("GET", url) == {**SPEC, "ttl_seconds": 60, "labels": {"pr": "13"}}
    assert api.ok("PUT", url, SPEC) == SPEC
    api.ok("PATCH", f"{path}/branches/preview-1", {"branch": {"expires_at": None, "ttl_seconds": None}})
    assert api.ok("GET", url) == {k: v for k, v in SPEC.items() if k != "ttl_seconds"}
    for bad in ("all", "", "SPEC"):
        api.refused("GET", f"{path}/branches/preview-1?view={bad}", status=400)
        api.refused("PUT", f"{path}/branches/never?view={bad}", {}, status=400)
    api.refused("GET", f"{path}/branches/never", status=404)


def test_the_spec_of_what_a_post_has_made(api, path, gone):
    gone("posted")
    api.ok("POST", f"{path}/branches", {"branch": {"name": "posted", "parent_id": "main", "expires_at": "2090-01-01T00:00:00.000Z"}, "annotation_value": {"a": "b"}})
    assert api.ok("GET", f"{path}/branches/posted?view=spec") == {"name": "posted", "parent": "main", "expires_at": "2090-01-01T00:00:00.000Z", "labels": {"a": "b"}}
    assert api.ok("GET", f"{path}/branches/main?view=spec") == {"name": "main"}
    assert api.ok("DELETE", f"{path}/branches/posted?view=spec")["branch"]["name"] == "posted"  # a DELETE has nothing to show of it


# --- endpoints, roles, databases ---

def test_endpoints(api, mere, path, gone):
    gone("host")
    api.ok("POST", f"{path}/branches", {"branch": {"name": "host"}})
    api.refused("PUT", f"{path}/endpoints/web", {"type": "read_write"}, status=422, pointer="/branch")
    body = {"branch": "host", "type": "read_write", "suspend_timeout_seconds": 600, "settings": {"pg_settings": {"work_mem": "8MB"}}}
    status, _, made = api.request("PUT", f"{path}/endpoints/web", body)
    assert status == 201 and made["endpoint"]["suspend_timeout_seconds"] == 600 and made["endpoint"]["name"] == "web"
    status, _, again = api.request("PUT", f"{path}/endpoints/web", body)
    assert status == 200 and again["operations"] == [] and again["endpoint"] == made["endpoint"]
    assert api.ok("GET", f"{path}/endpoints/web?view=spec") == {"name": "web", **body}
    changed = api.ok("PUT", f"{path}/endpoints/web", {"branch": "host"})["endpoint"]
    assert changed["suspend_timeout_seconds"] == 0 and changed["settings"].get("pg_settings", {}) == {} and changed["id"] == made["endpoint"]["id"]
    api.refused("PUT", f"{path}/endpoints/web", {"branch": "main"}, status=409, pointer="/branch")
    api.refused("PUT", f"{path}/endpoints/web", {"type": "read_only"}, status=409, pointer="/type")
    api.refused("PUT", f"{path}/endpoints/web", {"suspend_timeout_seconds": -5}, status=422, pointer="/suspend_timeout_seconds")
    assert api.ok("PUT", f"{path}/endpoints/{made['endpoint']['id']}", {"branch": "host"})["endpoint"]["name"] == "web"  # by its id, too
    api.refused("PUT", f"{path}/endpoints/ep-no-such-endpoint", {"branch": "host"}, status=404)
    api.refused("PUT", f"{path}/endpoints/web2", {"branch": "host"}, status=409)  # it has one that writes
    api.refused("PUT", f"{path}/endpoints/web2", {"branch": "no such"}, status=404, pointer="/branch")
    assert api.ok("POST", f"{path}/endpoints/web/start?wait=ready")["operations"][0]["status"] == "finished"
    # A running one takes it in.
    assert api.ok("PUT", f"{path}/endpoints/web?wait=ready", {"branch": "host", "suspend_timeout_seconds": 900})["operations"][0]["status"] == "finished"
    assert api.ok("PUT", f"{path}/endpoints/web", {"branch": "host", "suspend_timeout_seconds": 900})["operations"] == []
    assert api.ok("PATCH", f"{path}/endpoints/web", {"endpoint": {"suspend_timeout_seconds": 900, "branch_id": "host"}})["operations"] == []


def test_many_at_once_make_one_endpoint(api, mere, path, gone):
    gone("host")
    api.ok("PUT", f"{path}/branches/host", {})
    got = together(20, lambda _: mere.request("PUT", f"{path}/endpoints/reader", {"branch": "host", "type": "read_only"}))
    assert sorted(s for s, _, _ in got) == [200] * 19 + [201] and len({a["endpoint"]["id"] for _, _, a in got}) == 1


def test_a_name_that_several_endpoints_have(api, path, gone):
    gone("host")
    api.ok("POST", f"{path}/branches", {"branch": {"name": "host"}})
    made = [api.ok("POST", f"{path}/endpoints", {"endpoint": {"branch_id": "host", "type": "read_only", "name": "twin"}})["endpoint"] for _ in range(2)]
    for method, rest, body in (("GET", "", None), ("PATCH", "", {"endpoint": {}}), ("POST", "/start", None), ("PUT", "", {}), ("DELETE", "", None)):
        _, reply = api.refused(method, f"{path}/endpoints/twin{rest}", body, status=409)
        assert "several endpoints" in reply["message"]
    api.ok("DELETE", f"{path}/endpoints/{made[0]['id']}?wait=ready")
    assert api.ok("GET", f"{path}/endpoints/twin")["endpoint"]["id"] == made[1]["id"]
    assert api.ok("DELETE", f"{path}/endpoints/twin?wait=ready")["endpoint"]["id"] == made[1]["id"]


def test_roles_and_databases(api, path, gone):
    gone("host")
    api.ok("PUT", f"{path}/branches/host", {})
    url = f"{path}/branches/host"
    status, _, made = api.request("PUT", f"{url}/databases/app", {})
    assert status == 201 and made["database"]["owner_name"] == "neondb_owner"  # the only role there is
    status, _, role = api.request("PUT", f"{url}/roles/app?wait=ready", {"no_login": False})
    assert status == 201 and len(role["role"]["password"]) > 8
    status, _, again = api.request("PUT", f"{url}/roles/app", {"no_login": False})
    assert status == 200 and "password" not in again["role"] and again["operations"] == []
    assert api.ok("GET", f"{url}/roles/app?view=spec") == {"name": "app", "no_login": False}
    assert api.ok("PUT", f"{url}/roles/app?view=spec", {}) == {"name": "app"}  # what is set is what was said last
    api.refused("PUT", f"{url}/databases/app", {"owner_name": "nobody"}, status=404, pointer="/owner_name")
    api.refused("PUT", f"{url}/roles/app", {"no_login": True}, status=409, pointer="/no_login")
    api.refused("PUT", f"{url}/roles/mere_admin", {}, status=422, pointer="/name")
    api.refused("PUT", f"{url}/databases/b", {}, status=422, pointer="/owner_name")
    api.refused("PUT", f"{url}/databases/b", {"owner_name": "nobody"}, status=404, pointer="/owner_name")
    status, _, given = api.request("PUT", f"{url}/databases/app?wait=ready", {"owner_name": "app"})
    assert status == 200 and given["database"]["owner_name"] == "app" and given["operations"][0]["status"] in ("finished", "skipped")
    assert api.ok("PUT", f"{url}/databases/app", {"owner_name": "app"})["operations"] == []
    assert api.ok("PUT", f"{url}/databases/app", {})["database"]["owner_name"] == "app"  # what is not said stays with its owner
    got = together(20, lambda _: api.mere.request("PUT", f"{url}/databases/crowd", {"owner_name": "app"}))
    assert sorted(s for s, _, _ in got) == [200] * 19 + [201]


# --- labels ---

def test_labels_find_and_delete(api, mere, path, gone):
    for n, labels in enumerate([{"pr": "7", "x": "a:b"}, {"pr": "7"}, {"pr": "8"}, {}]):
        gone(f"labelled-{n}")
        api.ok("PUT", f"{path}/branches/labelled-{n}", {"labels": labels})
    api.ok("PUT", f"{path}/branches/below", {"parent": "labelled-1", "labels": {"pr": "7"}})
    gone("below")

    def found(label):
        return sorted(b["name"] for b in api.ok("GET", f"{path}/branches?label={enc(label)}")["branches"])

    assert found("pr:7") == ["below", "labelled-0", "labelled-1"] and found("x:a:b") == ["labelled-0"] and found("pr:9") == [] and found("pr:") == []
    for bad in ("pr", ":7", ""):
        api.refused("GET", f"{path}/branches?label={enc(bad)}", status=400)
        api.refused("POST", f"{path}/branches:delete", {"label": bad}, status=422, pointer="/label")
    api.refused("POST", f"{path}/branches:delete", {}, status=422, pointer="/label")
    api.ok("PATCH", f"{path}/branches/labelled-0", {"branch": {"protected": True}})
    got = api.ok("POST", f"{path}/branches:delete?wait=ready", {"label": "pr:7", "hard_delete": True})
    assert sorted(b["name"] for b in got["branches"]) == ["below", "labelled-1"]
    assert [(r["name"], r["code"]) for r in got["refused"]] == [("labelled-0", "invalid")] and "protected" in got["refused"][0]["message"]
    assert all(o["status"] in ("finished", "skipped") for o in got["operations"])
    assert found("pr:7") == ["labelled-0"] and found("pr:8") == ["labelled-2"]
    assert api.ok("POST", f"{path}/branches:delete", {"label": "no:such"}) == {"branches": [], "refused": [], "operations": []}


# --- connecting ---

def test_how_to_connect(api, mere, path, gone, tmp_path):
    gone("reach")
    made = api.ok("PUT", f"{path}/branches/reach?wait=ready", {})
    uri, ep = made["connection_uris"][0]["connection_uri"], made["endpoints"][0]["id"]
    password = made["connection_uris"][0]["connection_parameters"]["password"]
    url = f"{path}/branches/reach/connection"
    assert api.ok("GET", url) == uri + "\n" == api.ok("GET", f"{url}?format=url")
    assert api.ok("GET", f"{url}?format=pgpass") == f"{mere.pg_host}:{mere.pg_port}:neondb:neondb_owner:{password}\n"
    assert api.ok("GET", f"{url}?format=jdbc") == (f"jdbc:postgresql://{mere.pg_host}:{mere.pg_port}/neondb?user=neondb_owner&password={password}"
                                                   f"&sslmode=require&options=endpoint%3D{ep}\n")
    assert api.ok("GET", f"{url}?format=prisma") == f"{uri}&connect_timeout=15\n"
    (tmp_path / "env").write_text(api.ok("GET", f"{url}?format=env"))
    script = f"set -a; . {tmp_path}/env; psql -XAtc 'SELECT current_user' && psql -XAtc 'SELECT 1' \"$DATABASE_URL\""
    got = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert got.stdout == "neondb_owner\n1\n", got.stderr
    api.refused("GET", f"{url}?format=yaml", status=400)
    api.refused("GET", f"{url}?role_name=nobody", status=404)
    api.refused("GET", f"{path}/branches/dev%2F1/connection", status=404, text="has none that writes")
    api.refused("GET", f"{path}/branches/none/connection", status=404)


def test_hostile_names_in_the_forms(api, mere, path, gone, tmp_path):
    gone("odd")
    name = "it's \"a\" $HOME `id` :\\"
    api.ok("PUT", f"{path}/branches/odd", {})
    api.ok("POST", f"{path}/branches/odd/databases?wait=ready", {"database": {"name": name, "owner_name": "neondb_owner"}})
    url = f"{path}/branches/odd/connection?database_name={enc(name)}"
    api.refused("GET", f"{path}/branches/odd/connection", status=400, text="database_name is required")
    (tmp_path / "env").write_text(api.ok("GET", f"{url}&format=env"))
    got = subprocess.run(["sh", "-c", f". {tmp_path}/env; printf %s \"$PGDATABASE\""], capture_output=True, text=True, check=True)
    assert got.stdout == name
    (tmp_path / "pgpass").write_text(api.ok("GET", f"{url}&format=pgpass"))
    (tmp_path / "pgpass").chmod(0o600)
    ep = api.ok("GET", f"{path}/branches/odd/endpoints")["endpoints"][0]["id"]
    got = subprocess.run(["psql", "-XAtwc", "SELECT current_database()", "-h", mere.pg_host, "-p", str(mere.pg_port), "-U", "neondb_owner", "-d", name],
                         env={"PATH": "/usr/bin:/bin", "PGPASSFILE": str(tmp_path / "pgpass"), "PGOPTIONS": f"endpoint={ep}", "PGSSLMODE": "require"},
                         capture_output=True, text=True, check=False)
    assert got.stdout == name + "\n", got.stderr


def test_state_for_terraform(api, mere, path, gone):
    gone("declared")
    made = api.ok("PUT", f"{path}/branches/declared", {})
    uri = made["connection_uris"][0]["connection_uri"]
    basic = {"Authorization": "Basic " + base64.b64encode(f"mere:{mere.key}".encode()).decode()}
    state = api.ok("GET", f"{path}/branches/declared/tfstate", key=None, headers=basic)
    assert state == api.ok("GET", f"{path}/branches/declared/tfstate")
    assert state["version"] == 4 and state["lineage"] == made["branch"]["id"] and state["resources"] == []
    assert state["outputs"]["connection_uri"] == {"value": uri, "type": "string", "sensitive": True}
    assert state["outputs"]["id"] == {"value": made["branch"]["id"], "type": "string"}
    assert api.ok("GET", f"{path}/branches/none/tfstate", key=None, headers=basic)["outputs"] == {}
    assert "connection_uri" not in api.ok("GET", f"{path}/branches/dev%2F1/tfstate")["outputs"]  # it has no endpoint
    for bad in (b"mere:wrong", b"", b":", b"no colon", mere.key.encode(), b"x" * 600, b"a:\0" + mere.key.encode()):
        api.refused("GET", f"{path}/branches/declared/tfstate", status=401, key=None, headers={"Authorization": "Basic " + base64.b64encode(bad).decode()})
    api.refused("GET", f"{path}/branches/declared", status=401, key=None, headers=basic)  # nowhere else


@pytest.mark.expect_log("the wake socket is lost")
def test_a_put_is_whole_after_a_crash(new_mere):
    """Killed behind its transaction: the branch is there, once, and the same PUT finds it."""
    mere = new_mere(crash=True)
    mere.start(env={"CRASH_AT": "branch.inserted:1"})
    project = mere.create_project()
    with pytest.raises((ApiError, OSError)):
        project.call("PUT", "/branches/one", {"labels": {"a": "b"}})
    until(lambda: not mere.is_running(), 30, "the crash")
    mere.start()
    status, _, got = mere.request("PUT", f"/projects/{project.id}/branches/one?wait=ready", {"labels": {"a": "b"}})
    assert status == 200 and json.dumps(got["operations"]) == "[]"
    assert [b["name"] for b in project.branches()].count("one") == 1
    project.delete()
