"""What a client may ask of any call: only if, only once, and only when it is done."""
import concurrent.futures
import contextlib
import json
import threading
import time

import psycopg2
import pytest

from harness.server import until


def together(n, fn):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(fn, range(n)))


@pytest.fixture
def path(p):
    return p["path"]


@pytest.fixture
def branch(api, path, request):
    name = "c-" + request.node.name.replace("_", "-").lower()[:40]
    api.ok("PUT", f"{path}/branches/{name}", {})
    yield f"{path}/branches/{name}"
    api.request("DELETE", f"{path}/branches/{name}?hard_delete=true&wait=ready")


# --- ETag, If-Match, If-None-Match ---

def test_an_etag_for_each_kind(api, path, branch):
    for url in (branch, f"{branch}/roles/neondb_owner", f"{branch}/databases/neondb", f"{path}/endpoints/{api.ok('GET', branch + '/endpoints')['endpoints'][0]['id']}"):
        _, headers, _ = api.request("GET", url)
        tag = headers["etag"]
        status, again, reply = api.request("GET", url, headers={"If-None-Match": tag})
        assert (status, reply, again["etag"]) == (304, None, tag) and again.get("content-length", "0") == "0"
        for other in ('"x"', "W/" + '"x"', '"x", "y"', "nonsense", '"'):
            assert api.request("GET", url, headers={"If-None-Match": other})[0] == 200
        assert api.request("GET", url, headers={"If-None-Match": f'"x", {tag}'})[0] == 304
        assert api.request("GET", url, headers={"If-None-Match": "*"})[0] == 304
        _, spec, _ = api.request("GET", f"{url}?view=spec")
        assert spec["etag"] != tag  # another answer


def test_what_moves_by_itself_is_seen_and_spoils_nothing(api, path, branch):
    endpoint = api.ok("GET", f"{branch}/endpoints")["endpoints"][0]["id"]
    url = f"{path}/endpoints/{endpoint}"
    tag = api.request("GET", url)[1]["etag"]
    assert api.ok("POST", f"{url}/start?wait=ready")["endpoint"]["current_state"] == "active"
    assert api.request("GET", url, headers={"If-None-Match": tag})[0] == 200
    assert api.request("PATCH", url, {"endpoint": {"name": "x"}}, headers={"If-Match": tag})[0] == 200
    assert api.request("PATCH", url, {"endpoint": {"name": "y"}}, headers={"If-Match": tag})[0] == 412


def test_only_one_of_many_changes(api, mere, branch):
    tag = api.request("GET", branch)[1]["etag"]
    got = together(20, lambda n: mere.request("PATCH", branch, {"branch": {}, "annotation_value": {"n": str(n)}}, headers={"If-Match": tag})[0])
    assert sorted(got) == [200] + [412] * 19
    _, reply = api.refused("PATCH", branch, {"branch": {}, "annotation_value": {}}, status=412, code="precondition_failed", headers={"If-Match": tag})
    assert "nothing was changed" in reply["message"]
    assert api.request("PATCH", branch, {"branch": {}, "annotation_value": {}}, headers={"If-Match": "*"})[0] == 200
    status, headers, _ = api.request("PATCH", branch, {"branch": {}, "annotation_value": {"last": "1"}}, headers={"If-Match": api.request("GET", branch)[1]["etag"]})
    assert status == 200 and api.request("DELETE", branch, headers={"If-Match": headers["etag"]})[0] == 200


def test_make_and_never_change(api, path, branch):
    api.refused("PUT", branch, {"labels": {"a": "b"}}, status=412, headers={"If-None-Match": "*"})
    assert api.ok("GET", branch)["annotation"]["value"] == {}
    fresh = branch + "-2"
    api.refused("PUT", fresh, {}, status=412, headers={"If-Match": "*"})
    assert api.request("GET", fresh)[0] == 404
    assert api.request("PUT", fresh, {}, headers={"If-None-Match": "*"})[0] == 201
    api.refused("PUT", fresh, {}, status=412, headers={"If-None-Match": "*"})
    api.ok("DELETE", f"{fresh}?hard_delete=true&wait=ready")


# --- wait ---

def test_an_answer_when_it_is_done(api, path, branch):
    endpoint = api.ok("GET", f"{branch}/endpoints")["endpoints"][0]["id"]
    got = api.ok("POST", f"{path}/endpoints/{endpoint}/start?wait=ready&timeout=60")
    assert got["operations"][0]["status"] == "finished" and got["endpoint"]["current_state"] == "active"
    status, headers, got = api.request("POST", f"{path}/endpoints/{endpoint}/restart", headers={"Prefer": "respond-async, wait=20"})
    assert status == 200 and headers["preference-applied"] == "wait=20" and {o["status"] for o in got["operations"]} == {"finished"}
    _, headers, _ = api.request("POST", f"{path}/endpoints/{endpoint}/suspend", headers={"Prefer": "return=minimal"})
    assert "preference-applied" not in headers
    status, _, got = api.request("POST", f"{branch}/roles?wait=true", {"role": {"name": "r"}})
    assert status == 201 and got["operations"][0]["status"] in ("finished", "skipped") and got["role"]["password"]


def test_an_answer_when_the_time_is_over(api, path, branch):
    endpoint = api.ok("GET", f"{branch}/endpoints")["endpoints"][0]["id"]
    for query, headers in (("?wait=ready&timeout=0", {}), ("", {"Prefer": "wait=0"})):
        status, got, reply = api.request("POST", f"{path}/endpoints/{endpoint}/restart{query}", headers=headers)
        assert status == 202 and reply["endpoint"]["id"] == endpoint
        open_one = next(o for o in reply["operations"] if o["status"] in ("scheduling", "running"))
        assert got["location"] == f"/api/v2{path}/operations/{open_one['id']}"
        assert api.ok("GET", got["location"].removeprefix("/api/v2") + "?wait=true&timeout=60")["operation"]["status"] == "finished"
        api.wait(reply)
    for bad in ("wait=soon", "wait=", "wait=ready&timeout=61", "wait=ready&timeout=x", "wait=ready&timeout=-1"):
        api.refused("POST", f"{path}/endpoints/{endpoint}/restart?{bad}", status=400)
        api.refused("PUT", f"{path}/branches/never?{bad}", {}, status=400)
    assert api.request("GET", f"{path}/branches/never")[0] == 404


@pytest.mark.expect_log("apply")
def test_work_that_fails_is_told(api, path, branch):
    """A role that owns a table cannot go."""
    api.ok("PUT", f"{branch}/roles/holder?wait=ready", {})
    api.ok("PUT", f"{branch}/databases/held?wait=ready", {"owner_name": "holder"})
    held = psycopg2.connect(api.ok("GET", f"{branch}/connection?database_name=held&role_name=holder").strip())
    with contextlib.closing(held), held, held.cursor() as c:
        c.execute("CREATE TABLE t ()")
    api.ok("PUT", f"{branch}/databases/held?wait=ready", {"owner_name": "neondb_owner"})
    _, reply = api.refused("DELETE", f"{branch}/roles/holder?wait=ready", status=409, code="conflict")
    assert "its work failed" in reply["message"] and "holder" in reply["message"]
    assert api.request("GET", f"{branch}/roles/holder")[0] == 200


# --- Idempotency-Key ---

def test_fifty_posts_with_one_key(api, mere, path):
    body = {"branch": {"name": "once-50"}, "endpoints": [{"type": "read_write"}]}
    got = together(50, lambda _: mere.request("POST", f"{path}/branches", body, headers={"Idempotency-Key": "fifty"}))
    assert {s for s, _, _ in got} == {201} and len({json.dumps(a, sort_keys=True) for _, _, a in got}) == 1
    assert sorted(h.get("idempotency-replayed", "") for _, h, _ in got) == [""] + ["true"] * 49
    branch = got[0][2]["branch"]["id"]
    assert len(mere.rows("SELECT id FROM operation WHERE branch_id = ?", branch)) == 1
    assert mere.rows("SELECT count(*) AS n FROM branch WHERE name LIKE 'once-50%'")[0]["n"] == 1
    # Of another account it is another key, and of another request a mistake.
    key = api.ok("POST", "/api_keys", {"key_name": "other"})
    _, reply = api.refused("POST", f"{path}/branches", body, status=409, key=key["key"], headers={"Idempotency-Key": "fifty"})
    assert "already exists" in reply["message"]
    api.refused("POST", f"{path}/branches", {"branch": {"name": "x"}}, status=422, headers={"Idempotency-Key": "fifty"}, text="another request")
    api.refused("POST", f"{path}/branches?wait=ready", body, status=422, headers={"Idempotency-Key": "fifty"})
    assert key["key"] not in json.dumps(mere.rows("SELECT * FROM replay")) and "password" not in json.dumps(mere.rows("SELECT * FROM replay"))
    api.ok("DELETE", f"/api_keys/{key['id']}")
    api.ok("DELETE", f"{path}/branches/once-50?hard_delete=true&wait=ready")
    assert api.request("POST", f"{path}/branches", body, headers={"Idempotency-Key": "fifty"})[2]["branch"]["id"] == branch  # told again, not made again


def test_keys_that_are_none(api, mere, path):
    before = mere.rows("SELECT count(*) AS n FROM branch")
    for bad in ("", "x" * 256, "a b", "\xe9"):
        api.refused("POST", f"{path}/branches", {}, status=400, headers={"Idempotency-Key": bad})
    assert mere.rows("SELECT count(*) AS n FROM branch") == before


def test_what_was_refused_is_not_kept(api, mere, path):
    headers = {"Idempotency-Key": "later"}
    api.refused("POST", f"{path}/branches", {"branch": {"name": "later", "parent_id": "late-parent"}}, status=404, headers=headers)
    api.ok("PUT", f"{path}/branches/late-parent", {})
    status, got, _ = api.request("POST", f"{path}/branches", {"branch": {"name": "later", "parent_id": "late-parent"}}, headers=headers)
    assert status == 201 and "idempotency-replayed" not in got
    for name in ("later", "late-parent"):
        api.ok("DELETE", f"{path}/branches/{name}?hard_delete=true&wait=ready")


def test_a_second_one_waits_for_the_first(api, mere, path, branch):
    """While the first still works: the second is answered what that is."""
    endpoint = api.ok("GET", f"{branch}/endpoints")["endpoints"][0]["id"]
    url, headers, got = f"{path}/endpoints/{endpoint}/restart", {"Idempotency-Key": "restart-1"}, []
    threads = [threading.Thread(target=lambda: got.append(mere.request("POST", f"{url}?wait=ready", headers=headers))) for _ in range(2)]
    for t in threads:
        t.start()
        time.sleep(0.05)
    for t in threads:
        t.join()
    assert [s for s, _, _ in got] == [200, 200] and got[0][2]["operations"] == got[1][2]["operations"]
    assert len(mere.rows("SELECT id FROM operation WHERE endpoint_id = ? AND action = 'start_compute'", endpoint)) == 1


@pytest.mark.parametrize("point, again", [("branch.inserted", 409), ("once.made", 409)])
def test_killed_between_the_change_and_its_answer(new_mere, point, again):
    mere = new_mere(crash=True)
    mere.start()
    project = mere.create_project()
    mere.stop()
    mere.start(env={"CRASH_AT": f"{point}:1"})
    body, headers = {"branch": {"name": "one"}}, {"Idempotency-Key": "k"}
    with pytest.raises(OSError):
        mere.request("POST", f"/projects/{project.id}/branches", body, headers=headers)
    until(lambda: not mere.is_running(), 30, "the crash")
    mere.start()
    status, _, reply = mere.request("POST", f"/projects/{project.id}/branches", body, headers=headers)
    assert status == again and "was carried out" in reply["message"], reply
    assert [b["name"] for b in project.branches()].count("one") == 1
    project.delete()


def test_what_was_kept_outlives_a_crash(new_mere):
    mere = new_mere(crash=True)
    mere.start()
    project = mere.create_project()
    body, headers = {"branch": {"name": "one"}}, {"Idempotency-Key": "k"}
    first = mere.request("POST", f"/projects/{project.id}/branches", body, headers=headers)
    mere.kill9()
    mere.start()
    status, got, again = mere.request("POST", f"/projects/{project.id}/branches", body, headers=headers)
    assert status == first[0] == 201 and got["idempotency-replayed"] == "true" and again == first[2]
    project.delete()
