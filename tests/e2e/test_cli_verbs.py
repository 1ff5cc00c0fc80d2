"""The mere command: what each verb asks of the API, and a session with a real server."""
import json

import pytest

from harness.cli import AUTH, CONFLICT, FAILURE, NOT_FOUND, PROJECT, UNREACHABLE, USAGE, operation, run_mere, stub  # noqa: F401

P = f"/projects/{PROJECT}"
B = f"{P}/branches/dev"
D = f"{P}/branches/br-2"


@pytest.fixture
def server(stub):
    stub[f"GET {P}/branches"] = (200, {"branches": [{"id": "br-2", "name": "main", "default": True}]})
    stub[f"GET {D}/databases"] = (200, {"databases": [{"name": "neondb"}]})
    stub[f"GET {B}/endpoints"] = (200, {"endpoints": [{"id": "ep-r-w-12345678", "type": "read_write"}]})
    return stub


BRANCH = {"branch": {"id": "br-d-d-12345678", "name": "dev"}, "operations": []}
ENDPOINT = {"endpoint": {"id": "ep-r-w-12345678"}, "operations": []}
EXTENSION = {"extension": {"name": "hstore", "state": "ready", "version": "1.8"}, "operations": []}


@pytest.mark.parametrize("words, call, body, answer", [
    (["projects", "update", "shop", "--name", "s2", "--retention", "7d", "--suspend-timeout", "60", "--allowed-ips", "10.0.0.0/8,192.0.2.1"], f"PATCH {P}",
     {"project": {"name": "s2", "history_retention_seconds": 604800, "default_endpoint_settings": {"suspend_timeout_seconds": 60},
                  "settings": {"allowed_ips": {"ips": ["10.0.0.0/8", "192.0.2.1"]}}}}, {"project": {"id": PROJECT, "name": "s2"}, "operations": []}),
    (["projects", "update", "shop", "--allowed-ips", "all", "--retention", "0"], f"PATCH {P}",
     {"project": {"history_retention_seconds": 0, "settings": {"allowed_ips": {"ips": []}}}}, {"project": {"id": PROJECT}, "operations": []}),
    (["branches", "protect", "dev"], f"PATCH {B}", {"branch": {"protected": True}}, BRANCH),
    (["branches", "unprotect", "dev"], f"PATCH {B}", {"branch": {"protected": False}}, BRANCH),
    (["branches", "set-default", "dev"], f"POST {B}/set_as_default", None, BRANCH),
    (["projects", "recover", PROJECT], f"POST {P}/recover", None, {"project": {"id": PROJECT, "name": "shop"}, "operations": []}),
    (["branches", "recover", "dev"], f"POST {B}/recover", None, BRANCH),
    (["branches", "lsn", "dev", "--at", "0/16B3748"], f"GET {B}/lsn?lsn=0%2F16B3748", None, {"lsn": "0/16B3748", "kind": "present"}),
    (["restore", "dev", "br-d-d-12345678@0/16B3748"], f"POST {B}/restore", {"source_branch_id": "br-d-d-12345678", "source_lsn": "0/16B3748"}, BRANCH),
    (["branches", "finalize", "dev", "--name", "before"], f"POST {B}/finalize_restore", {"name": "before"}, {"operations": []}),
    (["bookmarks", "get", "a b", "--branch", "dev"], f"GET {B}/bookmarks/a%20b", None, {"bookmark": {"name": "a b", "lsn": "0/1"}}),
    (["snapshots", "update", "sn-1", "--name", "x", "--expires-at", "never"], f"PATCH {P}/snapshots/sn-1", {"snapshot": {"name": "x", "expires_at": None}},
     {"snapshot": {"id": "sn-1", "name": "x"}}),
    (["schedule", "set", "dev", "--every", "never"], f"PUT {B}/backup_schedule", {"schedule": []}, {}),
    (["schedule", "set", "dev", "--every", "weekly", "--day", "7", "--hour", "3", "--keep", "30d"], f"PUT {B}/backup_schedule",
     {"schedule": [{"frequency": "weekly", "day": 7, "hour": 3, "retention_seconds": 2592000}]}, {}),
    (["schedule", "set", "dev", "--every", "hourly", "--add"], f"PUT {B}/backup_schedule", {"schedule": [{"frequency": "daily"}, {"frequency": "hourly"}]}, {}),
    (["endpoints", "update", "dev", "--disable", "--no-park-sessions", "--suspend-timeout", "-1", "--name", "e"], f"PATCH {P}/endpoints/ep-r-w-12345678",
     {"endpoint": {"disabled": True, "park_sessions": False, "suspend_timeout_seconds": -1, "name": "e"}}, ENDPOINT),
    (["endpoints", "update", "dev", "--enable", "--park-sessions"], f"PATCH {P}/endpoints/ep-r-w-12345678", {"endpoint": {"disabled": False, "park_sessions": True}}, ENDPOINT),
    (["databases", "update", "app", "--name", "app2", "--role", "o"], f"PATCH {D}/databases/app", {"database": {"name": "app2", "owner_name": "o"}},
     {"database": {"name": "app2"}, "operations": []}),
    (["extensions", "list"], f"GET {D}/databases/neondb/extensions", None, {"extensions": [EXTENSION["extension"]]}),
    (["extensions", "get", "hstore", "--database", "a b"], f"GET {D}/databases/a%20b/extensions/hstore", None, EXTENSION),
    (["extensions", "install", "hstore", "--to", "1.8", "--schema", "x", "--no-wait"], f"PUT {D}/databases/neondb/extensions/hstore",
     {"extension": {"version": "1.8", "schema": "x"}}, EXTENSION),
    (["extensions", "remove", "hstore"], f"DELETE {D}/databases/neondb/extensions/hstore", None, EXTENSION),
    (["api-keys", "list"], "GET /api_keys", None, [{"id": 7, "name": "ci"}]),
    (["api-keys", "create", "ci"], "POST /api_keys", {"key_name": "ci"}, {"id": 7, "name": "ci", "key": "napi_1"}),
    (["api-keys", "revoke", "7"], "DELETE /api_keys/7", None, {"id": 7, "name": "ci", "revoked": True}),
    (["limits"], f"GET {P}/limits", None, {"limits": {"max_branches": -1, "max_read_only_endpoints": -1}}),
    (["me"], "GET /users/me", None, {"id": "u", "login": "admin"}),
    (["regions"], "GET /regions", None, {"regions": [{"region_id": "here", "name": "here", "default": True}]}),
])
def test_what_is_asked(server, words, call, body, answer):
    server[f"GET {B}/backup_schedule"] = (200, {"schedule": [{"frequency": "daily"}]})
    server[f"GET {B}"] = (200, BRANCH)
    server[call.partition("?")[0]] = (200, answer)
    run_mere(*words, url=server.url)
    assert (call, body) in [(f"{m} {p.removeprefix('/api/v2')}", b) for m, p, b, _ in server.seen]
    assert json.loads(run_mere(*words, "--json", url=server.url).stdout) is not None


@pytest.mark.parametrize("words, says", [
    (["projects", "update", "shop"], "what shall be changed?"), (["projects", "update", "shop", "--retention", "long"], "--retention must be"),
    (["branches", "update", "dev"], "what shall be changed?"), (["snapshots", "update", "sn-1"], "what shall be changed?"),
    (["schedule", "set", "dev"], "how often?"), (["schedule", "set", "dev", "--every", "daily", "--hour", "24"], "--hour"),
    (["schedule", "set", "dev", "--every", "daily", "--keep", "1y"], "--keep must be"), (["endpoints", "update", "dev"], "what shall be changed?"),
    (["endpoints", "update", "dev", "--enable", "--disable"], "--disable and --enable: which?"), (["databases", "update", "app"], "what shall be changed?"),
    (["endpoints", "update", "dev", "--park-sessions", "--no-park-sessions"], "which?"), (["extensions", "list", "x"], "usage:"), (["restore", "dev"], "usage: mere restore")])
def test_nothing_is_changed_by_a_mistake(server, words, says):
    assert says in run_mere(*words, url=server.url, expect=USAGE).stderr
    assert not [a for a in server.asked() if not a.startswith("GET")]


def test_now_is_when_nothing_else_is_said(server):
    server[f"GET {D}/lsn"] = (200, {"lsn": "0/16B3748", "kind": "future"})
    assert "0/16B3748" in run_mere("branches", "lsn", url=server.url).stdout
    assert "/lsn?timestamp=20" in server.asked()[-1]


def test_operations_wait(server):
    path = f"GET {P}/operations/{operation('')['id']}"
    server[path] = [(200, {"operation": operation("running")}), (200, {"operation": operation("running")}), (200, {"operation": operation("finished")})]
    assert "finished" in run_mere("operations", "wait", operation("")["id"], url=server.url).stdout
    server[path] = (200, {"operation": operation("failed", error="the disk is full")})
    assert "the disk is full" in run_mere("operations", "wait", operation("")["id"], url=server.url, expect=FAILURE).stderr
    run_mere("operations", "wait", "other", url=server.url, expect=NOT_FOUND)


def test_a_new_key_is_shown_once(server):
    server["POST /api_keys"] = (200, {"id": 7, "name": "ci", "key": "napi_new"})
    server["GET /api_keys"] = (200, [{"id": 7, "name": "ci"}])
    assert "napi_new" in run_mere("api-keys", "create", "ci", url=server.url).stdout
    assert "KEY" not in run_mere("api-keys", "list", url=server.url).stdout.split()
    assert json.loads(run_mere("api-keys", "list", "--json", url=server.url).stdout) == [{"id": 7, "name": "ci"}]


def test_health_needs_no_key(server):
    server["GET /readyz"] = (200, {"status": "ok"})
    assert run_mere("health", url=server.url, key=None, cwd="/").stdout.split() == ["STATUS", "ok"]
    assert "Authorization" not in server.seen[-1][3]
    server["GET /readyz"] = (503, {"code": "unavailable", "message": "less space than the reserve"})
    assert "less space" in run_mere("health", url=server.url, key=None, expect=FAILURE).stderr
    run_mere("health", url="http://127.0.0.1:1", key=None, expect=UNREACHABLE)


def test_a_session(mere, project):
    """What the verbs bring about on a real server."""
    def cli(*words, **kw):
        return run_mere(*words, url=mere.api_url, key=kw.pop("key", mere.key), env={"MERE_PROJECT": project.id}, **kw)

    def get(*words):
        return json.loads(cli(*words, "--json").stdout)

    assert get("projects", "update", project.id, "--retention", "2h")["project"]["history_retention_seconds"] == 7200
    assert get("branches", "create", "dev", "--no-endpoint")["branch"]["current_state"] in ("init", "ready")
    assert get("branches", "protect", "dev")["branch"]["protected"] is True
    assert "protected" in cli("branches", "delete", "dev", expect=CONFLICT).stderr
    assert get("branches", "unprotect", "dev")["branch"]["protected"] is False
    assert get("branches", "set-default", "dev")["branch"]["default"] is True
    assert "dev" in cli("branches", "get").stdout.split()
    cli("branches", "set-default", "main")
    assert get("branches", "lsn", "main")["lsn"].count("/") == 1
    assert get("schedule", "set", "--every", "daily", "--hour", "3", "--keep", "7d")["schedule"][0]["retention_seconds"] == 604800
    assert len(get("schedule", "set", "--every", "hourly", "--add")["schedule"]) == 2
    assert get("schedule", "set", "--every", "never")["schedule"] == [] == get("schedule", "get")["schedule"]
    assert "frequency" in cli("schedule", "set", "--every", "sometimes", expect=CONFLICT).stderr
    assert get("endpoints", "update", "main", "--suspend-timeout", "600")["endpoint"]["suspend_timeout_seconds"] == 600
    cli("databases", "create", "app")
    assert get("databases", "update", "app", "--name", "app2")["database"]["name"] == "app2"
    made = get("api-keys", "create", "ci")
    assert "ci" in cli("api-keys", "list", key=made["key"]).stdout
    cli("api-keys", "revoke", str(made["id"]))
    cli("me", key=made["key"], expect=AUTH)
    assert "max_branches" in get("limits")["limits"] and cli("regions").stdout and "ok" in cli("health", key=None).stdout
    cli("restore", "dev", "main")
