"""The REST face: every operation, every kind of bad input, and what the HTTP side does under hostile clients."""
import base64
import contextlib
import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse

import psycopg2
import pytest
import yaml

from apiclient import check_api, counts, enc

ROOT = pathlib.Path(__file__).resolve().parents[2]
NONE = "br-no-such-branch"
UUID = "11111111-1111-4111-8111-111111111111"


# --- what works -----------------------------------------------------------------------------------------------------------------


def test_account(api):
    me = api.ok("GET", "/users/me")
    assert re.fullmatch(r"[0-9a-f-]{36}", me["id"]) and me["auth_accounts"] == []
    organizations = api.ok("GET", "/users/me/organizations")["organizations"]
    assert len(organizations) == 1 and organizations[0]["managed_by"] == "console"
    org = organizations[0]["id"]
    assert api.ok("GET", f"/organizations/{org}") == organizations[0]
    api.refused("GET", "/organizations/org-no-such-00000000", status=404, text="organization not found")
    assert api.ok("GET", "/auth") == {"account_id": me["id"], "auth_method": "api_key_user", "auth_data": "admin"}
    regions = api.ok("GET", "/regions")["regions"]
    assert [r["default"] for r in regions] == [True]
    assert api.ok("GET", "/projects/shared") == {"projects": []}


def test_api_keys(api, mere):
    made = api.ok("POST", "/api_keys", {"key_name": "ci"}, expect=(200,))
    token = made["key"]
    listed = [k for k in api.ok("GET", "/api_keys") if k["id"] == made["id"]][0]
    assert listed["name"] == "ci" and listed["last_used_from_addr"] == "" and "last_used_at" not in listed and "key" not in listed
    assert api.ok("GET", "/auth", key=token)["auth_data"] == str(made["id"])
    api.ok("GET", "/users/me", headers={"Authorization": f"bearer  {token} "}, key=None)
    deadline = time.monotonic() + 5
    while "last_used_at" not in listed and time.monotonic() < deadline:
        listed = [k for k in api.ok("GET", "/api_keys") if k["id"] == made["id"]][0]
    assert listed["last_used_from_addr"] == "127.0.0.1" and listed["last_used_at"].endswith("Z")
    before = mere.rows("SELECT last_used_at FROM api_key WHERE id = ?", made["id"])
    for _ in range(5):
        api.ok("GET", "/users/me", key=token)
    assert mere.rows("SELECT last_used_at FROM api_key WHERE id = ?", made["id"]) == before
    gone = api.ok("DELETE", f"/api_keys/{made['id']}", expect=(200,))
    assert gone["revoked"] is True and "key" not in gone
    api.refused("GET", "/users/me", key=token, status=401)
    api.refused("DELETE", f"/api_keys/{made['id']}", status=404)
    assert made["id"] not in [k["id"] for k in api.ok("GET", "/api_keys")]
    stored = mere.rows("SELECT hash FROM api_key WHERE id = ?", made["id"])[0]["hash"]
    assert len(stored) == 32 and token.encode() not in stored
    for bad in ("0", "-1", "x", "1" * 30, "%31x"):
        api.refused("DELETE", f"/api_keys/{bad}", status=404)


def test_health(api):
    for path in ("/livez", "/readyz", "/healthz", "/readyz?verbose"):
        assert api.ok("GET", path, key=None) == {"status": "ok"}


def test_a_new_project(api, mere):
    body = api.ok("POST", "/projects", {"project": {"name": "Grünes Haus"}}, expect=(201,))
    project, branch, endpoint = body["project"], body["branch"], body["endpoints"][0]
    path = "/projects/" + project["id"]
    assert re.fullmatch(r"[a-z]+-[a-z]+-[0-9]{8}", project["id"])
    assert project["name"] == "Grünes Haus" and project["store_passwords"] is True and project["history_retention_seconds"] == 86400
    assert project["settings"]["allowed_ips"] == {"ips": [], "protected_branches_only": False}
    assert branch["name"] == "main" and branch["default"] is True and branch["primary"] is True
    assert not [k for k in branch if k.startswith("parent")]
    assert [d["name"] for d in body["databases"]] == ["neondb"]
    assert [(r["name"], bool(r["password"])) for r in body["roles"]] == [("neondb_owner", True)]
    assert endpoint["branch_id"] == branch["id"] and endpoint["type"] == "read_write" and endpoint["current_state"] in ("init", "idle")
    assert endpoint["host"] == f"{endpoint['id']}.localhost:{mere.pg_port}"
    assert "." + endpoint["proxy_host"] == endpoint["host"].removeprefix(endpoint["id"])
    assert endpoint["host"].replace(endpoint["id"], endpoint["id"] + "-pooler") == body["connection_uris"][0]["connection_parameters"]["pooler_host"]
    api.wait(body)
    assert api.ok("GET", path)["project"] == project
    assert api.ok("GET", path + "/limits")["limits"]["max_branches"] == -1
    listed = [x for x in api.ok("GET", "/projects")["projects"] if x["id"] == project["id"]]
    assert len(listed) == 1 and "active_time" in listed[0]
    assert "password" not in json.dumps([api.ok("GET", path), api.ok("GET", f"{path}/endpoints"), api.ok("GET", f"{path}/branches")]).replace(
        "store_passwords", "").replace("passwordless_access", "")
    deleted = api.ok("DELETE", path, expect=(200,))
    assert list(deleted) == ["project"] and deleted["project"]["id"] == project["id"]
    api.refused("GET", path, status=404, text="project not found")
    api.refused("DELETE", path, status=404, text="project not found")


def test_a_project_with_names_of_its_own(api):
    body = api.ok("POST", "/projects", {"project": {"branch": {"name": "trunk", "database_name": "shop", "annotations": {"team": "a"}}}})
    path = "/projects/" + body["project"]["id"]
    assert body["project"]["name"] == body["project"]["id"]
    assert body["branch"]["name"] == "trunk" and body["databases"][0]["name"] == "shop" and body["roles"][0]["name"] == "shop_owner"
    api.wait(body)
    got = api.ok("GET", f"{path}/branches/trunk")
    assert got["annotation"]["value"] == {"team": "a"} and got["annotation"]["object"]["id"] == body["branch"]["id"]
    with contextlib.closing(psycopg2.connect(body["connection_uris"][0]["connection_uri"])) as conn, conn.cursor() as cur:
        cur.execute("SELECT current_database(), current_user")
        assert cur.fetchone() == ("shop", "shop_owner")
    api.ok("DELETE", path)


def test_change_a_project(api):
    path = "/projects/" + api.ok("POST", "/projects", {"project": {}})["project"]["id"]
    window = {"weekdays": [6, 7], "start_time": "01:00", "end_time": "05:30"}
    body = api.ok("PATCH", path, {"project": {"name": "renamed", "history_retention_seconds": 0,
                                              "settings": {"maintenance_window": window, "allowed_ips": {"ips": ["10.0.0.0/8", "::1"]}, "hipaa": False},
                                              "default_endpoint_settings": {"suspend_timeout_seconds": 3600}}}, expect=(200,))
    assert body["operations"] == []
    project = api.ok("GET", path)["project"]
    assert project == body["project"] and project["name"] == "renamed" and project["history_retention_seconds"] == 0
    assert project["settings"]["maintenance_window"] == window
    assert project["settings"]["allowed_ips"] == {"ips": ["10.0.0.0/8", "::1"], "protected_branches_only": False}
    body = api.ok("PATCH", path, {"project": {"settings": {"allowed_ips": {"ips": [], "protected_branches_only": True}}}})
    assert body["project"]["settings"]["allowed_ips"] == {"ips": [], "protected_branches_only": True}
    api.ok("PATCH", path, {"project": {"settings": {"audit_log_level": "base"}, "default_endpoint_settings": {"pg_settings": {"work_mem": "8MB"}}}})
    project = api.ok("GET", path)["project"]
    assert project["settings"]["maintenance_window"] == window and project["settings"]["audit_log_level"] == "base"
    assert project["default_endpoint_settings"]["suspend_timeout_seconds"] == 3600
    assert project["default_endpoint_settings"]["pg_settings"] == {"work_mem": "8MB"}
    made = api.ok("POST", path + "/branches", {"branch": {"name": "with-defaults"}, "endpoints": [{"type": "read_write"}]})
    assert made["endpoints"][0]["suspend_timeout_seconds"] == 3600
    assert made["endpoints"][0]["settings"]["pg_settings"] == {"work_mem": "8MB"}
    api.ok("DELETE", path)


def test_a_project_that_comes_back(api):
    path = "/projects/" + api.ok("POST", "/projects", {"project": {"name": "back"}})["project"]["id"]
    api.ok("DELETE", path)
    api.refused("GET", path, status=404, text="project not found")
    listed = api.ok("GET", "/projects?recoverable=true")["projects"]
    assert [x["name"] for x in listed if path.endswith(x["id"])] == ["back"] and all(x["recoverable_until"] for x in listed)
    assert api.ok("POST", path + "/recover", expect=(200,))["project"] == {**api.ok("GET", path)["project"]}
    api.ok("DELETE", path + "?hard_delete=true")
    api.refused("POST", path + "/recover", status=404, text="no deleted project")


def test_consumption(api, p):
    """What the figures are is told in test_consumption.py."""
    today = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())
    query = f"?from={today}&to={today}&granularity=daily&project_ids={p['project']['id']}"
    more = f"&org_id={api.ok('GET', '/users/me/organizations')['organizations'][0]['id']}&metrics=compute_unit_seconds"
    for path in ("projects" + query, "v2/projects" + query + more, "v2/branches" + query + more):
        api.ok("GET", "/consumption_history/" + path)
    api.refused("GET", "/consumption_history/v2/projects" + query, status=400, text="org_id is required")
    api.refused("GET", "/consumption_history/projects" + query.replace(today, "2020-01-01T00:00:00Z", 1), status=406, code="not_acceptable")


def test_permissions(api, p):
    path = p["path"] + "/permissions"
    assert api.ok("GET", path) == {"project_permissions": []}
    one = api.ok("POST", path, {"email": "ana@example.com"}, expect=(200,))
    assert one["granted_to_email"] == "ana@example.com" and one["granted_at"].endswith("Z")
    two = api.ok("POST", path, {"email": "bob@example.com"})
    api.refused("POST", path, {"email": "bob@example.com"}, status=409, pointer="/email", text="already exists")
    assert api.ok("GET", path) == {"project_permissions": [one, two]}
    gone = api.ok("DELETE", f"{path}/{one['id']}", expect=(200,))
    assert {**one, "revoked_at": gone["revoked_at"]} == gone
    api.refused("DELETE", f"{path}/{one['id']}", status=404, text="permission not found")
    other = "/projects/" + api.ok("POST", "/projects", {"project": {}})["project"]["id"]
    api.refused("DELETE", f"{other}/permissions/{two['id']}", status=404)
    assert api.ok("GET", path) == {"project_permissions": [two]}
    api.ok("POST", f"{other}/permissions", {"email": "bob@example.com"})
    api.ok("DELETE", other + "?hard_delete=true")  # with what it has


def test_libraries_to_preload(api, p):
    path = p["path"] + "/available_preload_libraries"
    libraries = api.ok("GET", path)["libraries"]
    assert {x["library_name"] for x in libraries} <= {"pg_prewarm", "pg_stat_statements"} and all(not x["is_default"] for x in libraries)
    names = [x["library_name"] for x in libraries]
    body = {"endpoint": {"settings": {"preload_libraries": {"enabled_libraries": names}}}}
    settings = api.ok("PATCH", f"{p['path']}/endpoints/{p['endpoints'][0]['id']}", body)["endpoint"]["settings"]
    assert settings["preload_libraries"] == {"enabled_libraries": names}
    api.wait(api.ok("PATCH", f"{p['path']}/endpoints/{p['endpoints'][0]['id']}", {"endpoint": {"settings": {"preload_libraries": {"enabled_libraries": []}}}}))
    api.refused("GET", "/projects/nobody/available_preload_libraries", status=404)


def test_lsn_and_time(api, p):
    where = p["path"] + "/branches/main/lsn"
    head = api.ok("GET", where + "?timestamp=2999-01-01T00:00:00Z")
    assert head["kind"] in ("future", "no_data")
    assert api.ok("GET", where + "?lsn=" + enc(head["lsn"]))["lsn"] == head["lsn"]
    api.refused("GET", where, status=400, text="either")
    api.refused("GET", where + "?lsn=x", status=400, text="lsn")
    api.refused("GET", where + "?timestamp=x", status=400, text="timestamp")
    api.refused("GET", where + "?lsn=FFFF/0", status=422, text="beyond")
    api.refused("GET", p["path"] + "/branches/nobody/lsn?lsn=0/1", status=404, text="branch not found")


def test_schemas(api, p):
    where, database = p["path"] + "/branches/main/", "?db_name=" + enc(p["databases"][0]["name"])
    assert "PostgreSQL database dump" in api.ok("GET", where + "schema" + database)["sql"]
    assert api.ok("GET", where + "schema" + database + "&format=json")["json"].keys() == {"tables", "views", "functions"}
    assert api.ok("GET", where + "compare_schema" + database + "&base_branch_id=main") == {"diff": ""}
    api.refused("GET", where + "schema", status=400, text="db_name")
    api.refused("GET", where + "schema?db_name=nobody", status=404, text="database not found")
    api.refused("GET", p["path"] + "/branches/nobody/schema" + database, status=404, text="branch not found")
    api.refused("GET", where + "compare_schema" + database, status=422, text="no parent", pointer="/base_branch_id")


def test_project_updates_at_once_lose_nothing(api):
    """Each client changes one member; a merge that was made with an older row would put another's back."""
    path = "/projects/" + api.ok("POST", "/projects", {"project": {}})["project"]["id"]
    windows = [{"weekdays": [1 + i % 7], "start_time": "01:00", "end_time": f"02:{i:02}"} for i in range(30)]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for i, window in enumerate(windows):
            bodies = ({"settings": {"maintenance_window": window}}, {"settings": {"audit_log_level": ("base", "extended")[i % 2]}},
                      {"default_endpoint_settings": {"suspend_timeout_seconds": 100 + i}})
            list(pool.map(lambda body: api.ok("PATCH", path, {"project": body}), bodies))
            project = api.ok("GET", path)["project"]
            assert project["settings"]["maintenance_window"] == window
            assert project["settings"]["audit_log_level"] == ("base", "extended")[i % 2]
            assert project["default_endpoint_settings"]["suspend_timeout_seconds"] == 100 + i
    api.ok("DELETE", path)


def test_branches(api, p):
    path = p["path"] + "/branches"
    body = api.ok("POST", path, {"branch": {"name": "test/0f-ü x", "parent_id": "main", "protected": True}, "endpoints": [{"type": "read_write"}],
                                 "annotation_value": {"integration-test": "true"}}, expect=(201,))
    branch = body["branch"]
    assert re.fullmatch(r"br-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+", branch["id"]) and branch["protected"] is True and branch["default"] is False
    assert branch["parent_id"] == p["branch"]["id"] and re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", branch["parent_lsn"]) and branch["parent_timestamp"]
    assert [r["name"] for r in body["roles"]] == ["neondb_owner"] and "password" not in body["roles"][0]
    assert body["connection_uris"][0]["connection_parameters"]["host"] == body["endpoints"][0]["host"]
    api.wait(body)
    for ref in (branch["id"], enc(branch["name"])):
        got = api.ok("GET", f"{path}/{ref}")
        assert got["branch"]["id"] == branch["id"] and got["annotation"]["value"] == {"integration-test": "true"}
        assert [e["id"] for e in api.ok("GET", f"{path}/{ref}/endpoints")["endpoints"]] == [body["endpoints"][0]["id"]]
        assert [r["name"] for r in api.ok("GET", f"{path}/{ref}/roles")["roles"]] == ["neondb_owner"]
    listed = api.ok("GET", path)
    assert branch["id"] in [b["id"] for b in listed["branches"]] and list(listed["annotations"]) == [branch["id"]]
    assert listed["annotations"][branch["id"]]["value"] == {"integration-test": "true"}
    renamed = api.ok("PATCH", f"{path}/{branch['id']}", {"branch": {"name": "count", "protected": False, "expires_at": None}}, expect=(200,))
    assert renamed["branch"]["name"] == "count" and renamed["operations"] == []
    assert api.ok("GET", f"{path}/count")["count"] == len(api.ok("GET", path)["branches"])
    assert api.ok("GET", f"{path}/count?search=COUN") == {"count": 1}
    made = api.ok("POST", f"{path}/{branch['id']}/set_as_default", expect=(200,))
    assert made["branch"]["default"] is True
    assert [b["id"] for b in api.ok("GET", path)["branches"] if b["default"]] == [branch["id"]]
    api.refused("DELETE", f"{path}/{branch['id']}", text="default")
    api.ok("POST", f"{path}/main/set_as_default", b"")
    deleted = api.wait(api.ok("DELETE", f"{path}/{branch['id']}", expect=(200,)))
    assert deleted["branch"]["name"] == "count"
    api.refused("GET", f"{path}/{branch['id']}", status=404, text="branch not found")
    api.refused("DELETE", f"{path}/{branch['id']}", status=404)


@pytest.mark.parametrize("body, headers", [
    (None, {}), (b"", {"Content-Type": "application/json"}), (b" \n", {}), ({}, {}), ({"branch": {}}, {}),
    ({"endpoints": [], "annotation_value": {}}, {}), (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}), (b"{}", {"Content-Type": ""})])
def test_a_branch_of_nearly_nothing(api, p, body, headers):
    made = api.ok("POST", p["path"] + "/branches", body, headers=headers, expect=(201,))
    assert made["branch"]["name"] == made["branch"]["id"] and made["endpoints"] == [] and "connection_uris" not in made
    assert made["branch"]["parent_id"] == p["branch"]["id"]
    api.wait(api.ok("DELETE", f"{p['path']}/branches/{made['branch']['id']}"))


def test_branches_that_come_back_or_expire(api, p):
    path = p["path"] + "/branches"
    made = api.ok("POST", path, {"branch": {"name": "back", "ttl_seconds": 3600}, "endpoints": [{"type": "read_write"}]})
    branch = made["branch"]
    assert branch["ttl_interval_seconds"] == 3600 and branch["expires_at"].endswith("Z")
    assert "expires_at" not in api.ok("PATCH", f"{path}/back", {"branch": {"expires_at": None}})["branch"]
    api.wait(api.ok("DELETE", f"{path}/back?hard_delete=false"))
    api.refused("GET", f"{path}/back", status=404)
    assert branch["id"] in [b["id"] for b in api.ok("GET", path + "?include_deleted=true")["branches"] if "recovery" in b]
    back = api.wait(api.ok("POST", f"{path}/back/recover", expect=(200,)))["branch"]
    assert back["id"] == branch["id"] and "recovery" not in back
    assert api.ok("GET", f"{path}/back/endpoints")["endpoints"][0]["id"] == made["endpoints"][0]["id"]
    api.wait(api.ok("DELETE", f"{path}/back?hard_delete=true"))
    api.refused("POST", f"{path}/back/recover", status=404, text="no deleted branch")
    api.refused("POST", f"{path}/back/recover", {"x": 1}, status=422, pointer="/x")


def test_snapshots(api, p):
    path, branches = p["path"] + "/snapshots", p["path"] + "/branches"
    b = api.ok("POST", branches, {"branch": {"name": "pictured"}})["branch"]
    made = api.wait(api.ok("POST", f"{branches}/pictured/snapshot?name=one", expect=(200,)))["snapshot"]
    assert made["name"] == "one" and made["source_branch_id"] == b["id"] and made["manual"] is True
    assert api.ok("GET", path)["snapshots"] == [made]
    assert api.ok("PATCH", f"{path}/{made['id']}", {"snapshot": {"name": "two"}})["snapshot"]["name"] == "two"
    restored = api.wait(api.ok("POST", f"{path}/{made['id']}/restore", {"name": "of one"}, expect=(200,)))["branch"]
    assert restored["restored_from"] == made["id"] and restored["parent_id"] == b["id"]
    api.wait(api.ok("POST", f"{branches}/{restored['id']}/finalize_restore", {"name": "was"}, expect=(200,)))
    assert api.ok("GET", f"{branches}/pictured")["branch"]["id"] == restored["id"]
    assert api.ok("PUT", f"{branches}/pictured/backup_schedule", {"schedule": [{"frequency": "weekly", "day": 7}]}) == {}
    assert api.ok("GET", f"{branches}/pictured/backup_schedule")["schedule"] == [{"frequency": "weekly", "day": 7}]
    api.wait(api.ok("DELETE", f"{path}/{made['id']}", expect=(202,)))
    for name in ("pictured", "was"):
        api.wait(api.ok("DELETE", f"{branches}/{name}?hard_delete=true"))


def test_bookmarks(api, p):
    path = p["path"] + "/branches/main/bookmarks"
    made = api.ok("PUT", f"{path}/here", {"hold": True, "ttl_seconds": 3600}, expect=(201,))["bookmark"]
    assert made["hold"] is True and made["expired"] is False
    same = api.ok("PUT", f"{path}/here", expect=(200,))["bookmark"]
    assert same["lsn"] == made["lsn"] and same["expires_at"] == made["expires_at"]
    assert api.ok("GET", path)["bookmarks"] == [same] and api.ok("GET", f"{path}/here")["bookmark"] == same
    assert api.ok("GET", f"{p['path']}/branches/main/lsn?bookmark=here")["lsn"] == made["lsn"]
    child = api.ok("POST", p["path"] + "/branches", {"branch": {"name": "of here", "parent_bookmark": "here"}})["branch"]
    assert child["parent_lsn"] == made["lsn"]
    api.wait(api.ok("DELETE", f"{p['path']}/branches/{child['id']}?hard_delete=true"))
    assert api.ok("DELETE", f"{path}/here")["bookmark"]["name"] == "here"


def test_the_doctor(api, p):
    said = api.ok("GET", p["path"] + "/doctor")
    assert said["findings"] == [] and said["looked_at"]["branches"] >= len(said["branches"]) > 0  # deleted ones too
    api.refused("GET", "/projects/nothing-here-12345678/doctor", status=404)


def test_restore_and_reset(api, p):
    path = p["path"] + "/branches"
    made = api.wait(api.ok("POST", path, {"branch": {"name": "back"}}))["branch"]
    lsn = api.ok("GET", f"{path}/main/lsn?lsn={made['parent_lsn']}")["lsn"]
    api.wait(api.ok("POST", f"{path}/back/restore", {"source_branch_id": p["branch"]["id"], "source_lsn": lsn, "preserve_under_name": "back_old"}))
    assert api.ok("GET", f"{path}/back_old")["branch"]["parent_id"] == p["branch"]["id"]
    again = api.wait(api.ok("POST", f"{path}/back/reset_to_parent", {}))["branch"]
    assert again["id"] == made["id"] and "last_reset_at" in again
    for name in ("back", "back_old"):
        api.wait(api.ok("DELETE", f"{path}/{name}?hard_delete=true"))


def test_branches_that_may_not_go(api, p):
    path = p["path"] + "/branches"
    api.refused("DELETE", path + "/main", text="default")
    safe = api.ok("POST", path, {"branch": {"name": "safe", "protected": True}})["branch"]
    api.refused("DELETE", f"{path}/{safe['id']}", text="protected")
    api.refused("DELETE", p["path"], text="protected")
    api.ok("PATCH", f"{path}/{safe['id']}", {"branch": {"protected": False}})
    child = api.ok("POST", path, {"branch": {"name": "child", "parent_id": safe["id"]}})["branch"]
    api.refused("DELETE", f"{path}/{safe['id']}", text="child")
    api.wait(api.ok("DELETE", f"{path}/{child['id']}"))
    api.wait(api.ok("DELETE", f"{path}/{safe['id']}"))


def pages(api, path, key, cursor_key, limit):
    """Every page up to the empty one."""
    cursor, got = None, []
    for _ in range(100):
        separator = "&" if "?" in path else "?"
        body = api.ok("GET", f"{path}{separator}limit={limit}" + (f"&cursor={enc(cursor)}" if cursor else ""))
        if not body[key]:
            return got
        assert len(body[key]) <= limit
        got.append([x["id"] for x in body[key]])
        cursor = body["pagination"][cursor_key]
    raise AssertionError("it never ends")


def test_pages(api, p):
    path = p["path"]
    made = [api.ok("POST", path + "/branches", {"branch": {"name": f"page-{i}"}})["branch"]["id"] for i in range(5)]
    everything = api.ok("GET", path + "/branches")
    assert len(everything["branches"]) == 7 and everything["pagination"]["sort_order"] == "DESC"
    for order in ("", "?sort_by=name", "?sort_by=created_at&sort_order=asc", "?sort_by=name&sort_order=desc", "?sort_order=ASC"):
        got = pages(api, path + "/branches" + order, "branches", "next", 2)
        assert [len(x) for x in got] == [2, 2, 2, 1]
        assert sorted(sum(got, [])) == sorted(b["id"] for b in everything["branches"])
        assert sum(got, []) == [b["id"] for b in api.ok("GET", path + "/branches" + order)["branches"]]
    assert [b["name"] for b in api.ok("GET", path + "/branches?sort_by=name&sort_order=asc&search=PAGE-")["branches"]] == [f"page-{i}" for i in range(5)]
    assert [b["id"] for b in api.ok("GET", f"{path}/branches?search={made[0]}&limit=10000")["branches"]] == [made[0]]
    assert [b["id"] for b in api.ok("GET", f"{path}/branches?name=page-3&cursor=&search=")["branches"]] == [made[3]]
    assert api.ok("GET", f"{path}/branches?name=page-")["branches"] == []
    operations = api.ok("GET", path + "/operations")["operations"]
    assert operations[0]["created_at"] >= operations[-1]["created_at"]
    got = sum(pages(api, path + "/operations", "operations", "cursor", 3), [])
    assert got == [o["id"] for o in operations]
    assert api.ok("GET", f"{path}/operations/{got[0]}")["operation"] == operations[0]
    for branch in made:
        api.wait(api.ok("DELETE", f"{path}/branches/{branch}"))


def test_pages_of_projects(api):
    made = [api.ok("POST", "/projects", {"project": {"name": f"many-{i}"}})["project"]["id"] for i in range(3)]
    got = sum(pages(api, "/projects?search=many-", "projects", "cursor", 2), [])
    assert got == made[::-1]
    assert len(api.ok("GET", "/projects?limit=1")["projects"]) == 1
    org = api.ok("GET", "/users/me/organizations")["organizations"][0]["id"]
    assert len(api.ok("GET", f"/projects?limit=100&org_id={org}&timeout=1000")["projects"]) >= 3
    recoverable = api.ok("GET", "/projects?recoverable=true")["projects"]
    assert not {x["id"] for x in recoverable} & {x["id"] for x in api.ok("GET", "/projects?limit=400")["projects"]} and all("deleted_at" in x for x in recoverable)
    assert [x["id"] for x in api.ok("GET", "/projects?name=many-1")["projects"]] == [made[1]]
    api.refused("GET", "/projects?org_id=org-another-one-12345678", status=404)
    for project in made:
        api.ok("DELETE", f"/projects/{project}")
    assert "pagination" not in api.ok("GET", "/projects?search=many-")


def test_endpoints(api, p):
    path, dev = p["path"], p["dev"]["id"]
    spec = {"branch_id": "dev/1", "type": "read_write", "name": "mine", "suspend_timeout_seconds": 120, "provisioner": "k8s-neonvm", "settings": {},
            "region_id": "local", "pooler_enabled": False, "pooler_mode": "transaction", "passwordless_access": True, "disabled": False}
    body = api.ok("POST", path + "/endpoints", {"endpoint": spec}, expect=(201,))
    e = body["endpoint"]
    here = f"{path}/endpoints/{e['id']}"
    assert e["branch_id"] == dev and e["name"] == "mine" and e["suspend_timeout_seconds"] == 120 and e["settings"] == {"pg_settings": {}}
    assert e["current_state"] == "idle" and "pending_state" not in e and "last_active" not in e
    api.refused("POST", path + "/endpoints", {"endpoint": {"branch_id": dev, "type": "read_write"}}, status=409, text="read-write endpoint already exists")
    assert api.ok("GET", here)["endpoint"] == e
    assert e["id"] in [x["id"] for x in api.ok("GET", path + "/endpoints")["endpoints"]]
    started = api.ok("POST", here + "/start", expect=(200,))
    assert started["operations"]
    api.wait(started)
    running = api.ok("GET", here)["endpoint"]
    assert running["current_state"] == "active" and running["started_at"]
    api.wait(api.ok("POST", here + "/restart", {}, expect=(200,)))
    assert api.ok("GET", here)["endpoint"]["current_state"] == "active"
    api.wait(api.ok("POST", here + "/suspend", b"{}", expect=(200,)))
    assert api.ok("GET", here)["endpoint"]["current_state"] == "idle"
    changed = api.ok("PATCH", here, {"endpoint": {"name": "yours", "suspend_timeout_seconds": -1, "disabled": True, "branch_id": dev,
                                                  "settings": {"pg_settings": {"work_mem": "8MB"}}}}, expect=(200,))
    api.wait(changed)
    got = api.ok("GET", here)["endpoint"]
    assert got["disabled"] is True and got["name"] == "yours" and got["suspend_timeout_seconds"] == -1
    assert got["settings"]["pg_settings"] == {"work_mem": "8MB"}
    api.refused("POST", here + "/start", text="disabled")
    api.wait(api.ok("DELETE", here, expect=(200,)))
    api.refused("GET", here, status=404, text="endpoint not found")
    api.refused("POST", here + "/suspend", status=404)
    assert api.ok("GET", f"{path}/branches/{dev}/endpoints")["endpoints"] == []


def test_roles_and_databases(api, p):
    path = f"{p['path']}/branches/main"
    made = api.ok("POST", path + "/roles", {"role": {"name": "app/1"}}, expect=(201,))
    assert made["role"]["password"] and made["role"]["authentication_method"] == "password"
    api.wait(made)
    role = f"{path}/roles/{enc('app/1')}"
    assert "password" not in api.ok("GET", role)["role"]
    assert sorted(r["name"] for r in api.ok("GET", path + "/roles")["roles"]) == ["app/1", "neondb_owner"]
    assert api.ok("GET", role + "/reveal_password") == {"password": made["role"]["password"]}
    reset = api.ok("POST", role + "/reset_password", expect=(200,))
    assert reset["role"]["password"] not in ("", made["role"]["password"])
    api.wait(reset)
    assert api.ok("GET", role + "/reveal_password")["password"] == reset["role"]["password"]
    api.refused("POST", path + "/roles", {"role": {"name": "app/1"}}, status=409)
    group = api.ok("POST", path + "/roles", {"role": {"name": "group", "no_login": True}})
    assert group["role"]["authentication_method"] == "no_login" and "password" not in group["role"]
    api.wait(group)
    api.refused("GET", path + "/roles/group/reveal_password", status=412)
    api.refused("POST", path + "/roles/group/reset_password", status=412)
    database = api.ok("POST", path + "/databases", {"database": {"name": "a b", "owner_name": "app/1"}}, expect=(201,))
    api.wait(database)
    assert isinstance(database["database"]["id"], int)
    assert sorted(d["name"] for d in api.ok("GET", path + "/databases")["databases"]) == ["a b", "neondb"]
    assert api.ok("GET", f"{path}/databases/a%20b")["database"]["owner_name"] == "app/1"
    api.refused("POST", path + "/databases", {"database": {"name": "a b", "owner_name": "app/1"}}, status=409)
    api.refused("POST", path + "/databases", {"database": {"name": "x", "owner_name": "nobody"}}, status=404, pointer="/database/owner_name")
    api.refused("DELETE", role, text="owns")
    uri = api.ok("GET", f"{p['path']}/connection_uri?database_name=a+b&role_name={enc('app/1')}")["uri"]
    with contextlib.closing(psycopg2.connect(uri)) as conn, conn.cursor() as cur:
        cur.execute("SELECT current_database(), current_user")
        assert cur.fetchone() == ("a b", "app/1")
    api.wait(api.ok("PATCH", f"{path}/databases/a%20b", {"database": {"name": "ab", "owner_name": "neondb_owner"}}, expect=(200,)))
    assert api.ok("GET", f"{path}/databases/ab")["database"]["owner_name"] == "neondb_owner"
    api.refused("GET", f"{path}/databases/a%20b", status=404)
    api.wait(api.ok("DELETE", f"{path}/databases/ab", expect=(200,)))
    api.wait(api.ok("DELETE", role, expect=(200,)))
    api.wait(api.ok("DELETE", path + "/roles/group"))
    api.refused("GET", role, status=404, text="role not found")
    api.refused("DELETE", f"{path}/databases/ab", status=404)


def test_connection_uri(api, p, mere):
    path = p["path"] + "/connection_uri"
    want = p["connection_uris"][0]["connection_uri"]
    endpoint = p["endpoints"][0]["id"]
    assert want == (f"postgresql://neondb_owner:{p['roles'][0]['password']}@127.0.0.1:{mere.pg_port}/neondb"
                    f"?sslmode=require&options=endpoint%3D{endpoint}")
    for query in ("", "?branch_id=main", f"?branch_id={p['branch']['id']}", f"?endpoint_id={endpoint}", "?database_name=neondb&role_name=neondb_owner",
                  "?pooled=false", f"?branch_id=main&endpoint_id={endpoint}&pooled=false"):
        assert api.ok("GET", path + query) == {"uri": want}
    got = subprocess.run(["psql", "-X", "-A", "-t", "-c", "SELECT 7 * 6", want], capture_output=True, text=True, timeout=60, check=False)
    assert got.stdout == "42\n", got.stderr
    assert api.ok("GET", path + "?pooled=true") == {"uri": want + "-pooler"}
    api.refused("GET", path + "?pooled=maybe", status=400)
    api.refused("GET", path + "?branch_id=nope", status=404, text='branch not found: "nope"')
    api.refused("GET", path + "?endpoint_id=ep-no-such-endpoint", status=404, text="endpoint not found")
    api.refused("GET", path + "?database_name=nope", status=404, text="database not found")
    api.refused("GET", path + "?role_name=nope", status=404, text="role not found")
    api.refused("GET", path + "?branch_id=dev%2F1", status=404, text="endpoint not found")
    api.refused("GET", f"{path}?branch_id=dev%2F1&endpoint_id={endpoint}", status=404, text="another branch")


def test_passwords_that_are_not_stored(api, mere):
    body = api.wait(api.ok("POST", "/projects", {"project": {"store_passwords": False}}))
    path = "/projects/" + body["project"]["id"]
    password, uri = body["roles"][0]["password"], body["connection_uris"][0]["connection_uri"]
    assert password in uri
    # Neither from a parent that was never started, whose role still has to be made, nor from one that was.
    for started in (False, True):
        answer = api.ok("POST", path + "/branches", {"branch": {"name": f"b{started}"}, "endpoints": [{"type": "read_write"}]})
        assert password not in json.dumps(answer) and "connection_uris" not in answer and "password" not in answer["roles"][0]
        api.wait(answer)
        child = uri.replace(body["endpoints"][0]["id"], answer["endpoints"][0]["id"])
        for place in (uri, child):
            with contextlib.closing(psycopg2.connect(place)) as conn, conn.cursor() as cur:
                cur.execute("SELECT 1")
        for branch in (body["branch"], answer["branch"]):
            assert mere.rows("SELECT sealed FROM role WHERE branch_id = ?", branch["id"]) == [{"sealed": None}]
    api.refused("GET", f"{path}/branches/main/roles/neondb_owner/reveal_password", status=412)
    api.refused("GET", path + "/connection_uri", status=412)
    made = api.ok("POST", f"{path}/branches/main/roles", {"role": {"name": "other"}})
    api.wait(made)
    other = uri.replace("neondb_owner:" + password, "other:" + made["role"]["password"])
    new = api.wait(api.ok("POST", f"{path}/branches/main/roles/neondb_owner/reset_password"))["role"]["password"]
    for place in (other, uri.replace(password, new)):
        psycopg2.connect(place).close()
    assert {r["sealed"] for r in mere.rows("SELECT sealed FROM role WHERE branch_id = ?", body["branch"]["id"])} == {None}
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(uri)
    api.ok("DELETE", path)


def test_a_password_that_is_not_stored_is_not_even_kept_for_a_while(api, mere):
    """What is kept for the first start is a verifier, whichever way; the password beside it only where that was asked for."""
    cipher = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead").AESGCM((mere.data / "secret.key").read_bytes())
    for stored in (False, True):
        body = api.ok("POST", "/projects", {"project": {"store_passwords": stored}})
        branch, role = body["branch"]["id"], body["roles"][0]
        row = mere.rows("SELECT sealed, verifier FROM role WHERE branch_id = ? AND name = ?", branch, role["name"])[0]

        def opened(what, blob, branch=branch, role=role):
            return cipher.decrypt(blob[:12], blob[12:], f"{what}/{branch}/{role['name']}".encode()).decode()

        assert (row["sealed"] is not None) == stored and (not stored or opened("role", row["sealed"]) == role["password"])
        assert opened("verifier", row["verifier"]).startswith("SCRAM-SHA-256$4096:")
        api.ok("DELETE", "/projects/" + body["project"]["id"])


def test_waiting_for_an_operation(api, p):
    path = f"{p['path']}/endpoints/{p['endpoints'][0]['id']}"
    api.wait(api.ok("POST", path + "/suspend"))
    operation = api.ok("POST", path + "/start")["operations"][-1]
    here = f"{p['path']}/operations/{operation['id']}"
    assert api.ok("GET", here + "?wait=false&timeout=60")["operation"]["id"] == operation["id"]
    assert api.ok("GET", here + "?wait=true")["operation"]["status"] == "finished"
    begin = time.monotonic()
    assert api.ok("GET", here + "?wait=true&timeout=60")["operation"]["status"] == "finished"
    assert time.monotonic() - begin < 5
    for query in ("wait=perhaps", "wait=true&timeout=61", "timeout=-1", "timeout=x"):
        api.refused("GET", f"{here}?{query}", status=400)
    api.wait(api.ok("POST", path + "/suspend"))


def test_projects_do_not_see_each_other(api, p):
    other = api.wait(api.ok("POST", "/projects", {"project": {"name": "other"}}))
    path, mine = "/projects/" + other["project"]["id"], p["endpoints"][0]["id"]
    for method, rest in (("GET", f"/branches/{p['branch']['id']}"), ("DELETE", f"/branches/{p['dev']['id']}"), ("GET", "/branches/dev%2F1"),
                         ("GET", f"/endpoints/{mine}"), ("POST", f"/endpoints/{mine}/suspend"), ("DELETE", f"/endpoints/{mine}"),
                         ("GET", f"/connection_uri?branch_id={p['branch']['id']}"), ("GET", f"/connection_uri?endpoint_id={mine}"),
                         ("GET", f"/branches/{p['branch']['id']}/roles/neondb_owner/reveal_password"),
                         ("GET", f"/operations/{p['operations'][0]['id']}")):
        api.refused(method, path + rest, status=404)
    api.refused("POST", path + "/branches", {"branch": {"parent_id": p["branch"]["id"]}}, status=404, pointer="/branch/parent_id")
    api.refused("POST", path + "/endpoints", {"endpoint": {"branch_id": p["dev"]["id"], "type": "read_write"}}, status=404, pointer="/endpoint/branch_id")
    api.ok("DELETE", path)


# --- bad input ------------------------------------------------------------------------------------------------------------------

DEEP = "[" * 100 + "]" * 100
BODIES = [
    (b"{", 400), (b"nope", 400), (b"{\"project\": {\"name\": \"a\", \"name\": \"b\"}}", 400), (b"{\"project\": {\"name\": \"\xff\xfe\"}}", 400),
    (b"{\"project\": {\"name\": \"\\u0000\"}}", 400), (b"{\"project\": {\"name\": \"\\ud800\"}}", 400), (b"\xef\xbb\xbf{}", 400),
    (f'{{"project": {{"settings": {DEEP}}}}}'.encode(), 400), (b"[" * 200000, 400), (b"{\"project\": {\"history_retention_seconds\": 1e999}}", 400),
    (b"{\"project\": {\"history_retention_seconds\": 99999999999999999999}}", 400), (b"{} {}", 400), (b"{}\0", 400),
    (b"null", 422), (b"[]", 422), (b"\"x\"", 422), (b"17", 422), (b"", 422), (b"{}", 422), (b"a=b&c=d", 400), (b"<project/>", 400)]
SPECS = [
    ("POST", "/projects", {"project": None}, "/project"), ("POST", "/projects", {"project": []}, "/project"),
    ("POST", "/projects", {"project": {}, "extra": 1}, "/extra"), ("POST", "/projects", {"project": {"nmae": "x"}}, "/project/nmae"),
    ("POST", "/projects", {"project": {"name": None}}, "/project/name"), ("POST", "/projects", {"project": {"pg_version": 99}}, "/project/pg_version"),
    ("POST", "/projects", {"project": {"pg_version": "15"}}, "/project/pg_version"),
    ("POST", "/projects", {"project": {"region_id": "aws-us-east-2"}}, "/project/region_id"),
    ("POST", "/projects", {"project": {"history_retention_seconds": 2592001}}, "/project/history_retention_seconds"),
    ("POST", "/projects", {"project": {"history_retention_seconds": -1}}, "/project/history_retention_seconds"),
    ("POST", "/projects", {"project": {"branch": {"role_name": "pg_monitor"}}}, "/project/branch/role_name"),
    ("POST", "/projects", {"project": {"branch": {"database_name": "template1"}}}, "/project/branch/database_name"),
    ("POST", "/projects", {"project": {"default_endpoint_settings": {"suspend_timeout_seconds": 604801}}},
     "/project/default_endpoint_settings/suspend_timeout_seconds"),
    ("POST", "/api_keys", {}, "/key_name"), ("POST", "/api_keys", {"key_name": 1}, "/key_name"), ("POST", "/api_keys", {"key_name": "x", "project_id": "y"},
                                                                                                  "/project_id"),
    ("PATCH", "P", {"project": {"pg_version": 15}}, "/project/pg_version"), ("PATCH", "P", {}, "/project"),
    ("PATCH", "P", {"project": {"default_endpoint_settings": {"autoscaling_limit_min_cu": 3, "autoscaling_limit_max_cu": 1}}},
     "/project/default_endpoint_settings/autoscaling_limit_max_cu"),
    ("POST", "P/branches", {"branch": {"nam": "x"}}, "/branch/nam"), ("POST", "P/branches", {"branches": {}}, "/branches"),
    ("POST", "P/branches", {"branch": []}, "/branch"), ("POST", "P/branches", {"branch": {"name": "br-looks-like-anid"}}, "/branch/name"),
    ("POST", "P/branches", {"branch": {"protected": "yes"}}, "/branch/protected"), ("POST", "P/branches", {"branch": {"parent_lsn": "zz"}}, "/branch/parent_lsn"),
    ("POST", "P/branches", {"branch": {"durability": "none"}}, "/branch/durability"), ("POST", "P/branches", {"branch": {"init_source": "data-only"}}, "/branch/init_source"),
    ("POST", "P/permissions", {}, "/email"), ("POST", "P/permissions", {"email": "nobody"}, "/email"), ("POST", "P/permissions", {"email": "a b@c"}, "/email"),
    ("POST", "P/permissions", {"email": "@c"}, "/email"), ("POST", "P/permissions", {"email": "a@" + "x" * 256}, "/email"),
    ("POST", "P/permissions", {"email": "a@b", "role": "x"}, "/role"), ("POST", "P/recover", {"x": 1}, "/x"),
    ("POST", "P/branches", {"endpoints": [{}]}, "/endpoints/0/type"),
    ("POST", "P/branches", {"endpoints": [{"type": "write_only"}]}, "/endpoints/0/type"), ("POST", "P/branches", {"endpoints": "x"}, "/endpoints"),
    ("POST", "P/branches", {"endpoints": [{"type": "read_write", "suspend_timeout_seconds": 604801}]}, "/endpoints/0/suspend_timeout_seconds"),
    ("POST", "P/branches", {"endpoints": [{"type": "read_write", "suspend_timeout_seconds": -2}]}, "/endpoints/0/suspend_timeout_seconds"),
    ("POST", "P/branches", {"endpoints": [{"type": "read_write", "autoscaling_limit_max_cu": 0}]}, "/endpoints/0/autoscaling_limit_max_cu"),
    ("POST", "P/branches", {"annotation_value": {"a": 1}}, "/annotation_value"), ("POST", "P/branches", {"annotation_value": {"a": "x" * 1025}}, "/annotation_value"),
    ("PATCH", "P/branches/main", {"branch": {"parent_id": "x"}}, "/branch/parent_id"), ("PATCH", "P/branches/main", {}, "/branch"),
    ("PATCH", "P/branches/main", {"branch": {"name": ""}}, "/branch/name"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": "main"}}, "/endpoint/type"), ("POST", "P/endpoints", {"endpoint": {"type": "read_write"}}, "/endpoint/branch_id"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": "dev/1", "type": "read_write", "name": "x" * 65}}, "/endpoint/name"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": "dev/1", "type": "read_write", "settings": {"pg_settings": {"fsync": "off"}}}},
     "/endpoint/settings/pg_settings/fsync"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": "dev/1", "type": "read_write", "settings": {"pg_settings": []}}}, "/endpoint/settings/pg_settings"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": "dev/1", "type": "write_only"}}, "/endpoint/type"),
    ("POST", "P/branches", {"endpoints": [{"type": "read_only"}, {"type": "both"}]}, "/endpoints/1/type"),
    ("PATCH", "E", {"endpoint": {"type": "read_only"}}, "/endpoint/type"), ("PATCH", "E", {"endpoint": {"disabled": None}}, "/endpoint/disabled"),
    ("POST", "E/start", {"force": True}, "/force"), ("DELETE", "E", {"now": 1}, "/now"), ("POST", "P/branches/main/set_as_default", {"x": {}}, "/x"),
    ("POST", "P/branches/main/roles", {"role": {}}, "/role/name"), ("POST", "P/branches/main/roles", {"role": {"name": "mere_admin"}}, "/role/name"),
    ("POST", "P/branches/main/roles", {"role": {"name": "x" * 64}}, "/role/name"), ("POST", "P/branches/main/roles", {"role": {"name": "x", "superuser": True}},
                                                                                   "/role/superuser"),
    ("POST", "P/branches/main/roles", {"role": {"name": "pg_x"}}, "/role/name"), ("POST", "P/branches/main/roles", {"role": {"name": "public"}}, "/role/name"),
    ("POST", "P/branches/main/roles", {"role": {"name": "ü" * 32}}, "/role/name"), ("POST", "P/branches/main/roles", {"role": {"name": ["x"]}}, "/role/name"),
    ("POST", "P/branches/main/databases", {"database": {"name": "x" * 64, "owner_name": "neondb_owner"}}, "/database/name"),
    ("POST", "P/branches/main/databases", {"database": {"name": "ü" * 32, "owner_name": "neondb_owner"}}, "/database/name"),
    ("PATCH", "P/branches/main/databases/neondb", {"database": {"name": "x" * 64}}, "/database/name"),
    ("PATCH", "P", {"project": {"name": "x" * 257}}, "/project/name"), ("PATCH", "P", {"project": {"settings": {"quota": {"cpu": 0}}}}, "/project/settings/quota/cpu"),
    ("PATCH", "P", {"project": {"settings": {"maintenance_window": {"weekdays": [8], "start_time": "01:00", "end_time": "02:00"}}}},
     "/project/settings/maintenance_window/weekdays"),
    ("POST", "/projects", {"project": {"default_endpoint_settings": {"pg_settings": {"archive_command": "x"}}}},
     "/project/default_endpoint_settings/pg_settings/archive_command"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": 5, "type": "read_write"}}, "/endpoint/branch_id"), ("POST", "P/endpoints", {}, "/endpoint"),
    ("POST", "E/suspend", {"a": 1}, "/a"), ("POST", "E/restart", {"a/~b": 1}, "/a~1~0b"), ("DELETE", "P", {"x": 1}, "/x"),
    ("DELETE", "P/branches/dev%2F1", {"x": 1}, "/x"), ("DELETE", "P/branches/main/roles/neondb_owner", {"x": 1}, "/x"),
    ("DELETE", "P/branches/main/databases/neondb", {"x": 1}, "/x"), ("POST", "P/branches/main/roles/neondb_owner/reset_password", {"password": "x"}, "/password"),
    ("POST", "P/branches/main/databases", {"database": {"name": "x"}}, "/database/owner_name"),
    ("POST", "P/branches/main/databases", {"database": {"name": "template0", "owner_name": "neondb_owner"}}, "/database/name"),
    ("PATCH", "P/branches/main/databases/neondb", {"database": {"id": 1}}, "/database/id"),
    ("POST", "/projects", {"project": {"settings": {"allowed_ips": {"ips": ["10.0.0.0/8", "10.0.0.256"]}}}}, "/project/settings/allowed_ips/ips/1"),
    ("PATCH", "P", {"project": {"settings": {"allowed_ips": {"ips": ["10.0.0.9-10.0.0.1"]}}}}, "/project/settings/allowed_ips/ips/0"),
    ("PATCH", "P", {"project": {"settings": {"allowed_ips": {"ips": ["10.0.0.1"] * 400}}}}, "/project/settings/allowed_ips/ips"),
    ("POST", "/projects", {"project": {"settings": {"preload_libraries": {"enabled_libraries": ["x"]}}}}, "/project/settings/preload_libraries/enabled_libraries"),
    ("PATCH", "P", {"project": {"settings": {"preload_libraries": {"enabled_libraries": ["pg_prewarm", "timescaledb"]}}}},
     "/project/settings/preload_libraries/enabled_libraries"),
    ("PATCH", "E", {"endpoint": {"settings": {"preload_libraries": {"enabled_libraries": ["../x"]}}}}, "/endpoint/settings/preload_libraries/enabled_libraries"),
    ("POST", "P/branches", {"endpoints": [{"type": "read_write", "settings": {"preload_libraries": {"enabled_libraries": ["x"]}}}]},
     "/endpoints/0/settings/preload_libraries/enabled_libraries")]
NOT_SUPPORTED = [
    ("POST", "/projects", {"project": {"settings": {"quota": {"logical_size_bytes": 1}}}}, "/project/settings/quota/logical_size_bytes"),
    ("POST", "/projects", {"project": {"settings": {"enable_logical_replication": True}}}, "/project/settings/enable_logical_replication"),
    ("PATCH", "P", {"project": {"settings": {"block_public_connections": True}}}, "/project/settings/block_public_connections"),
    ("PATCH", "P", {"project": {"settings": {"hipaa": True}}}, "/project/settings/hipaa"),
    ("POST", "P/branches", {"branch": {"archived": True}}, "/branch/archived"),
    ("PATCH", "E", {"endpoint": {"passwordless_access": False}}, "/endpoint/passwordless_access"),
    ("PATCH", "E", {"endpoint": {"branch_id": NONE}}, "/endpoint/branch_id"),
    ("POST", "P/endpoints", {"endpoint": {"branch_id": "dev/1", "type": "read_write", "passwordless_access": False}}, "/endpoint/passwordless_access"),
    ("PATCH", "E", {"endpoint": {"settings": {"pgbouncer_settings": {"pool_mode": "session"}}}}, "/endpoint/settings/pgbouncer_settings"),
    ("POST", "/projects", {"project": {"provisioner": "k8s-pod"}}, "/project/provisioner"),
    ("PATCH", "P", {"project": {"settings": {"block_vpc_connections": True}}}, "/project/settings/block_vpc_connections"),
    *(("PATCH", "P", {"project": {"settings": {"quota": {name: 1}}}}, f"/project/settings/quota/{name}")
      for name in ("active_time_seconds", "compute_time_seconds", "written_data_bytes", "data_transfer_bytes"))]


def fill(p, path):
    return path.replace("P", p["path"], 1) if path.startswith("P") else path.replace("E", f"{p['path']}/endpoints/{p['endpoints'][0]['id']}", 1)


@pytest.mark.parametrize("body, status", BODIES, ids=range(len(BODIES)))
def test_bodies_that_cannot_be_read(api, mere, body, status):
    before = counts(mere)
    _, reply = api.refused("POST", "/projects", body, status=status)
    assert reply["code"] == ("bad_request" if status == 400 else "invalid")
    assert counts(mere) == before


def refused_one_by_one(api, mere, p, rows, code):
    """Every row is tried, and nothing may have changed after each."""
    before, wrong = counts(mere), []
    for method, path, body, pointer in rows:
        try:
            api.refused(method, fill(p, path), body, status=422, code=code, pointer=pointer)
            assert counts(mere) == before, "something was changed"
        except AssertionError as e:
            wrong.append(f"{method} {path} {json.dumps(body)[:200]}: wanted {pointer}, got {e}")
    assert not wrong, "\n".join(wrong)


def test_values_that_are_not_possible(api, mere, p):
    refused_one_by_one(api, mere, p, SPECS, "invalid")


KINDS = [None, True, -5, 1.5, 10**12, "", "x", "\a", [], [1], ["x"], {}, {"x": 1}]
BASES = {"project_create": {"project": {}}, "project_update": {"project": {}}, "branch_create": {"branch": {}, "endpoints": [{"type": "read_write"}]},
         "branch_update": {"branch": {}}, "endpoint_create": {"endpoint": {"branch_id": "dev/1", "type": "read_write"}}, "endpoint_update": {"endpoint": {}},
         "role_create": {"role": {"name": "r"}}, "database_create": {"database": {"name": "d", "owner_name": "neondb_owner"}},
         "database_update": {"database": {}}, "apikey_create": {"key_name": "k"}, "extension_put": {"extension": {}},
         "branch_restore": {"source_branch_id": "main"}, "branch_reset_to_parent": {}, "snapshot_update": {"snapshot": {}}, "snapshot_restore": {},
         "branch_put": {}, "endpoint_put": {}, "role_put": {}, "database_put": {}, "branch_delete_labelled": {"label": "no:such"},
         "branch_finalize_restore": {}, "permission_grant": {"email": "a@example.com"}, "schedule_set": {"schedule": [{"frequency": "yearly"}]}, "bookmark_put": {}}


def spoilt(schemas, schema, base, where=""):
    """(pointer, body) for each member that the schema names: the base with a value there that the schema forbids."""
    schema = schemas.flat(schema)
    members = dict(schema.get("properties", {}))
    if "items" in schema and isinstance(base, list) and base:
        members = {0: schema["items"]}
    for name, inner in members.items():
        for value in (v for v in KINDS if schemas.check(inner, v)):
            yield f"{where}/{name}", [value] if isinstance(base, list) else {**base, name: value}
        below = {"weekdays": [1], "start_time": "01:00", "end_time": "02:00"} if name == "maintenance_window" else {}
        for pointer, value in spoilt(schemas, inner, base[0] if isinstance(base, list) else base.get(name, below), f"{where}/{name}"):
            yield pointer, [value] if isinstance(base, list) else {**base, name: value}


def test_every_member_of_every_body_spoilt(api, mere, p):
    contract = check_api.Contract(yaml.safe_load((ROOT / "openapi.yaml").read_text()))
    assert {o[3]["operationId"] for o in contract.operations if "requestBody" in o[3]} == set(BASES)
    places = {"branch_id": "main", "endpoint_id": p["endpoints"][0]["id"], "database_name": "neondb", "project_id": p["project"]["id"],
              "extension_name": "hstore", "snapshot_id": "snap-a-b-c", "bookmark_name": "x", "role_name": "neondb_owner"}
    before, wrong, n = counts(mere), [], 0
    for pattern, item in contract.schemas.document["paths"].items():
        for method in set(item) & {"post", "patch", "put"}:
            operation = item[method]
            if "requestBody" not in operation:
                continue
            path = pattern.removeprefix("/api/v2").format(**places)
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            for pointer, body in spoilt(contract.schemas, schema, BASES[operation["operationId"]]):
                n += 1
                status, _, reply = mere.request(method.upper(), path, body)
                named = [e["pointer"] for e in reply.get("errors", [])]
                if re.fullmatch(r"/project/autoscaling_limit_m.._cu", pointer):  # may be named where it has moved to
                    named = [n.replace("/default_endpoint_settings", "") for n in named]
                if status not in (422, 404) or not named or not (named[0] + "/").startswith(pointer + "/") and not (pointer + "/").startswith(named[0] + "/"):
                    wrong.append(f"{method} {path} {json.dumps(body)}: {status} {named}")
    assert not wrong, "\n".join(wrong)
    assert counts(mere) == before and n > 500


def test_what_is_known_and_not_supported(api, mere, p):
    refused_one_by_one(api, mere, p, NOT_SUPPORTED, "not_supported")
    settings = api.ok("GET", p["path"])["project"]["settings"]
    assert settings["allowed_ips"]["ips"] == [] and settings["hipaa"] is False


def test_unknown_ids(api, mere, p):
    before, path = counts(mere), p["path"]
    for project in ("nothing-here-12345678", "undefined", "%00x"[3:], "x" * 300, ".."):
        for rest in ("", "/branches", "/branches/count", "/endpoints", "/operations", "/connection_uri", "/limits", "/branches/main/roles"):
            api.refused("GET", f"/projects/{project}{rest}", status=404, text="project not found")
        api.refused("PATCH", f"/projects/{project}", {"project": {"name": "x"}}, status=404)
        api.refused("DELETE", f"/projects/{project}", status=404)
        api.refused("POST", f"/projects/{project}/branches", {}, status=404)
        api.refused("POST", f"/projects/{project}/endpoints", {"endpoint": {"branch_id": "b", "type": "read_write"}}, status=404)
        api.refused("GET", f"/projects/{project}/operations/{UUID}", status=404)
    for rest in ("", "/endpoints", "/roles", "/databases", "/roles/x", "/databases/x", "/roles/x/reveal_password"):
        api.refused("GET", f"{path}/branches/{NONE}{rest}", status=404, text="branch not found")
    api.refused("PATCH", f"{path}/branches/{NONE}", {"branch": {"name": "x"}}, status=404)
    api.refused("DELETE", f"{path}/branches/{NONE}", status=404)
    api.refused("POST", f"{path}/branches/{NONE}/set_as_default", status=404)
    api.refused("POST", f"{path}/branches", {"branch": {"parent_id": NONE}}, status=404, pointer="/branch/parent_id")
    api.refused("POST", f"{path}/branches/{NONE}/roles", {"role": {"name": "x"}}, status=404)
    api.refused("POST", f"{path}/branches/{NONE}/databases", {"database": {"name": "x", "owner_name": "neondb_owner"}}, status=404)
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/suspend"), ("POST", "/restart")):
        api.refused(method, f"{path}/endpoints/ep-no-such-endpoint{rest}", status=404, text="endpoint not found")
    api.refused("PATCH", f"{path}/endpoints/ep-no-such-endpoint", {"endpoint": {}}, status=404)
    api.refused("GET", f"{path}/operations/{UUID}", status=404, text="operation not found")
    api.refused("GET", f"{path}/branches/main/roles/x", status=404, text="role not found")
    api.refused("DELETE", f"{path}/branches/main/roles/x", status=404)
    api.refused("POST", f"{path}/branches/main/roles/x/reset_password", status=404)
    api.refused("GET", f"{path}/branches/main/databases/x", status=404)
    api.refused("PATCH", f"{path}/branches/main/databases/x", {"database": {"name": "y"}}, status=404)
    api.refused("DELETE", f"{path}/branches/main/databases/x", status=404)
    api.refused("PATCH", f"{path}/branches/main/databases/neondb", {"database": {"owner_name": "x"}}, status=404, pointer="/database/owner_name")
    api.refused("PATCH", f"{path}/branches/main", {"branch": {"name": "dev/1"}}, status=409, text="branch already exists")
    assert counts(mere) == before


def test_queries_that_cannot_be_read(api, mere, p):
    before, path = counts(mere), p["path"]
    for target in ("/projects?limit=0", "/projects?limit=401", "/projects?limit=x", "/projects?limit=", "/projects?cursor=x", "/projects?cursor=%21",
                   "/projects?search=%ff", "/projects?search=%zz", "/projects?search=%00", "/projects?recoverable=maybe", f"{path}/branches?limit=10001",
                   f"{path}/branches?limit=-1", f"{path}/branches?sort_by=size", f"{path}/branches?sort_order=up", f"{path}/branches?cursor=x",
                   f"{path}/operations?limit=1001", f"{path}/operations?cursor=yesterday", "/projects/%zz", "/projects/%00", "/projects/%c3%28",
                   "/projects?" + "&".join(f"a{i}=1" for i in range(40)), f"{path}/branches/a%00b", f"{path}/branches/main/roles/%ff", f"{path}/branches/a%2"):
        for method in ("GET", "DELETE") if "?" not in target else ("GET",):
            _, reply = api.refused(method, target, status=400)
            assert reply["code"] == "bad_request"
    assert counts(mere) == before


def test_unknown_paths_and_methods(api, mere):
    for target in ("/nothing", "/projects/", "//projects", "/projects/x/branches/y/buckets", "/projects/x/branches/y/data-api/neondb",
                   "/projects/x/branches/y/auth", "/projects/x/branches/y/functions", "/projects/x/branches/y/credentials", "/organizations/x/members",
                   "/consumption_history/account", "/projects/x/transfer_requests", "/projects/x/jwks"):
        for key in (..., None):
            _, reply = api.refused("GET", target, status=404, code="not_found", key=key)
            assert reply["instance"] == "/api/v2" + target
            assert ("Mere does not have this yet" in reply["message"]) == (target not in ("/nothing", "/projects/", "//projects")), reply
    api.refused("POST", "/projects/x/branch_anonymized", {}, status=404, text="does not exist: anonymized branches")
    for method, target, allow in (("PUT", "/projects", "GET, POST"), ("POST", "/projects/x", "GET, PATCH, DELETE"), ("DELETE", "/projects/shared", "GET"),
                                  ("GET", "/projects/x/endpoints/y/start", "POST"), ("POST", "/livez", "GET"), ("OPTIONS", "/users/me", "GET"),
                                  ("BREW", "/regions", "GET"), ("DELETE", "/api_keys", "GET, POST"), ("PATCH", "/projects/x/branches/count", "GET")):
        headers, _ = api.refused(method, target, status=405, code="method_not_allowed")
        assert headers["allow"] == allow
    status, headers, _ = mere.request("HEAD", "/projects")
    assert (status, headers["allow"]) == (405, "GET, POST")


def test_declared(api, p):
    """test_put.py has the rest."""
    url = f"{p['path']}/branches/declared"
    assert api.request("PUT", url, {"labels": {"test": "declared"}})[0] == 201
    assert api.request("PUT", f"{url}/roles/second?wait=ready", {})[0] == 201
    assert api.request("PUT", f"{url}/databases/second", {"owner_name": "second"})[0] == 201
    endpoint = api.ok("GET", f"{url}/endpoints")["endpoints"][0]["id"]
    assert api.ok("PUT", f"{p['path']}/endpoints/{endpoint}", {"suspend_timeout_seconds": 600})["endpoint"]["suspend_timeout_seconds"] == 600
    assert api.ok("GET", f"{url}/connection?role_name=second&database_name=second").startswith("postgresql://second:")
    assert api.ok("GET", f"{url}/tfstate")["outputs"]["name"]["value"] == "declared"
    assert [b["name"] for b in api.ok("POST", f"{p['path']}/branches:delete?wait=ready", {"label": "test:declared"})["branches"]] == ["declared"]


def test_what_the_server_says_of_itself(api, mere):
    document = api.ok("GET", "/openapi.json", key=None)
    assert document == yaml.safe_load((ROOT / "openapi.yaml").read_text())
    _, headers, page = api.request("GET", "/docs", key=None)
    assert "/openapi.json" in page and headers["content-security-policy"].startswith("default-src 'none'")
    for element in ("script", "style"):  # the policy lets run what the page holds, and a changed page would not
        inside = page.split(f"<{element}>")[1].split(f"</{element}>")[0]
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in headers["content-security-policy"]
    text = api.ok("GET", "/llms.txt", key=None)
    for method, path in re.findall(r"`(GET|PUT|POST) (/api/v2/\S*?)[?` ]", text):  # nothing in it that is not there
        got, _, reply = mere.request(method, re.sub(r"/(P|NAME|BEFORE)(?=/|:|$)", "/none", path), {} if method != "GET" else None)
        assert got in (400, 404, 422) and "there is nothing at this path" not in reply["message"], (method, path, reply)
    for code in document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]:
        told = api.ok("GET", f"/problems/{code}", key=None)
        assert told["code"] == code and told["description"] and f"| `{code}` | {told['status']} |" in (ROOT / "docs/errors.md").read_text()
    _, reply = api.refused("GET", "/problems/none", status=404, key=None)
    assert api.ok("GET", reply["type"], key=None)["status"] == 404


def test_a_body_of_a_chunk_at_a_time_and_a_compressed_one(api, mere):
    conn = http.client.HTTPConnection(mere.host, mere.port, timeout=30)
    with contextlib.closing(conn):
        conn.request("POST", "/api/v2/api_keys", body=iter([b'{"key_', b'name": "chun', b'ks"}']), headers={"Authorization": f"Bearer {mere.key}"},
                     encode_chunked=True)
        answer = conn.getresponse()
        made = json.loads(answer.read())
        assert answer.status == 200, made
        conn.request("DELETE", f"/api/v2/api_keys/{made['id']}", headers={"Authorization": f"Bearer {mere.key}"})
        assert conn.getresponse().status == 200
    api.refused("POST", "/projects", b"\x1f\x8b\x08", status=415, headers={"Content-Encoding": "gzip"})
    api.refused("POST", "/projects", b"{", status=400, headers={"Content-Encoding": "identity"})


def test_no_secret_in_the_log(api, mere, p):
    token = api.ok("POST", "/api_keys", {"key_name": "log"})
    uri = api.ok("GET", p["path"] + "/connection_uri?role_name=neondb_owner", key=token["key"])["uri"]
    api.refused("GET", "/users/me?token=hunter2hunter2", status=401, key="hunter2hunter2")
    api.ok("DELETE", f"/api_keys/{token['id']}")
    log = mere.log_text()
    assert f"route=/api/v2/projects/{{project_id}}/connection_uri status=200" in log
    for secret in (token["key"], uri, p["roles"][0]["password"], mere.key, "hunter2"):
        assert secret not in log


def test_extensions(api, p):
    path = f"{p['path']}/branches/main/databases/neondb/extensions"
    assert "hstore" in [e["name"] for e in api.ok("GET", path)["extensions"]]
    assert api.wait(api.ok("PUT", path + "/hstore", expect=(200,)))["extension"]["state"] == "creating"
    assert api.ok("PUT", path + "/hstore", {"extension": {"schema": "extensions"}}, expect=(200,))["operations"] == []
    assert api.ok("GET", path + "/hstore")["extension"]["installed"] is True
    api.wait(api.ok("DELETE", path + "/hstore", expect=(200,)))
    assert api.ok("GET", path + "/hstore")["extension"]["state"] == "available"
    api.refused("PUT", path + "/dblink", text="may be installed")
    api.refused("GET", path + "/dblink", status=404)
    api.refused("PUT", path + "/hstore", {"extension": {"schema": "public"}}, pointer="/extension/schema")


# --- the contract ---------------------------------------------------------------------------------------------------------------


def test_the_record_agrees_with_the_document(request, api):
    """Last of this file: every call so far, and that there was one of each operation (when all tests of the file were run)."""
    ran = {item.originalname for item in request.session.items if item.module is request.module}
    every = {name for name in dir(request.module) if name.startswith("test_")}
    words = [] if every <= ran else ["--partial"]
    got = subprocess.run([sys.executable, str(ROOT / "tools/check_api.py"), *words, api.path], capture_output=True, text=True, timeout=120, check=False)
    assert got.returncode == 0, got.stdout + got.stderr
