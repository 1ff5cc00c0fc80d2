"""
Neon's own clients, unmodified, against a real server: neonctl of two generations, the API client, the SDK, and the requests of
create-branch-action.  It is not enough that they end well: what they say they did is looked up on the server.
"""
import contextlib
import datetime
import json
import shutil

import psycopg2
import pytest

from harness import neon
from harness.neon import run_program
from harness.server import scratch, until

SUFFIX = "localhost"
MERE_OPTIONS = {"args": ["--host-suffix", SUFFIX]}
POOLED = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@pytest.fixture(scope="module")
def home():
    path = scratch("mere-neon-")
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["neonctl5", "neonctl2"])
def cli(request, mere, home):
    return neon.Neonctl(mere, request.param, home)


@pytest.fixture
def cli5(mere, home):
    return neon.Neonctl(mere, "neonctl5", home)


@pytest.fixture
def at(cli, project):
    """A command line that works with a project, which has a table with one row on main."""
    cli.project = project.id
    project.main.query("CREATE TABLE t AS SELECT 'main' AS who")
    return cli


def ask(uri, sql="SELECT who FROM t ORDER BY 1"):
    """As a client would that resolves the name."""
    with contextlib.closing(psycopg2.connect(uri, hostaddr="127.0.0.1", connect_timeout=60)) as conn, conn.cursor() as cur:
        conn.autocommit = True
        cur.execute(sql)
        return [row[0] for row in cur.fetchall()]


def branches(project):
    return {b["name"]: b for b in project.branches()}


def settle(mere, project):
    for o in mere.rows("SELECT id FROM operation WHERE project_id = ? AND status IN ('scheduling', 'running')", project.id):
        mere.wait_operation(project.id, o["id"])


def later(**ahead):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- the command line -------------------------------------------------------------------------------------------------------------------


def test_account(cli, mere):
    me = mere.call("GET", "/users/me")
    assert cli.json("me")["login"] == me["login"] and me["email"] in cli.table("me")
    organization = mere.call("GET", "/users/me/organizations")["organizations"][0]
    assert [o["id"] for o in cli.json("orgs", "list")] == [organization["id"]] and organization["name"] in cli.table("orgs", "list")


def test_api_keys(cli5, mere):
    key = cli5.json("api-keys", "create", "--name", "of neonctl")
    assert mere.request("GET", "/users/me", key=key["key"])[0] == 200
    assert "of neonctl" in [k["name"] for k in cli5.json("api-keys", "list")]
    mere.call("DELETE", f"/api_keys/{key['id']}")


def test_projects(cli, mere, project):
    version = project.body["project"]["pg_version"]
    made = cli.json("projects", "create", "--name", "of neonctl", "--cu", "0.5-2", *(["--pg-version", str(version)] if cli.package == "neonctl5" else []))
    p = made["project"]["id"]
    now = mere.call("GET", f"/projects/{p}")["project"]
    settings = now["default_endpoint_settings"]
    assert now["name"] == "of neonctl" and (settings["autoscaling_limit_min_cu"], settings["autoscaling_limit_max_cu"]) == (0.5, 2)
    assert ask(made["connection_uris"][0]["connection_uri"], "SELECT 1") == [1]
    listed = cli.json("projects", "list")
    listed = listed["projects"] if isinstance(listed, dict) else listed
    assert {p, project.id} <= {x["id"] for x in listed} and "of neonctl" in cli.table("projects", "list")
    assert cli.json("projects", "get", p)["id"] == p
    cli.json("projects", "update", p, "--name", "renamed", "--cu", "1")
    now = mere.call("GET", f"/projects/{p}")["project"]
    assert now["name"] == "renamed" and now["default_endpoint_settings"]["autoscaling_limit_max_cu"] == 1
    assert cli.json("projects", "delete", p)["id"] == p
    assert mere.request("GET", f"/projects/{p}")[0] == 404
    if cli.package == "neonctl5":
        recoverable = cli.json("projects", "list", "--recoverable-only")
        recoverable = recoverable["projects"] if isinstance(recoverable, dict) else recoverable
        assert p in [x["id"] for x in recoverable]
        cli.json("projects", "recover", p)
        assert mere.call("GET", f"/projects/{p}")["project"]["name"] == "renamed"
    mere.request("DELETE", f"/projects/{p}?hard_delete=true")


def test_the_only_project_is_meant(cli, new_mere):
    m = new_mere(**MERE_OPTIONS)
    m.start()
    alone = neon.Neonctl(m, cli.package, cli.home)
    made = alone.json("projects", "create", "--name", "alone", "--set-context", "--context-file", str(cli.home / "context"))
    assert json.loads((cli.home / "context").read_text())["projectId"] == made["project"]["id"]
    assert [b["name"] for b in alone.json("branches", "list")] == ["main"]


def test_branches(at, mere, project):
    dev = at.json("branches", "create", "--name", "dev")
    assert dev["branch"]["parent_id"] == project.main.id and ask(dev["connection_uris"][0]["connection_uri"]) == ["main"]
    assert "dev" in at.table("branches", "list") and at.json("branches", "get", "dev")["id"] == dev["branch"]["id"]
    at.json("branches", "create", "--name", "bare", "--parent", "dev", "--no-compute")
    bare = branches(project)["bare"]
    assert bare["parent_id"] == dev["branch"]["id"] and not project.call("GET", f"/branches/{bare['id']}/endpoints")["endpoints"]
    at.json("branches", "create", "--name", "read", "--type", "read_only", "--suspend-timeout", "60")
    (reader,) = project.call("GET", f"/branches/{branches(project)['read']['id']}/endpoints")["endpoints"]
    assert (reader["type"], reader["suspend_timeout_seconds"]) == ("read_only", 60)
    at.json("branches", "rename", "bare", "renamed")
    assert "renamed" in branches(project) and "bare" not in branches(project)
    at.json("branches", "add-compute", "renamed", "--cu", "1")
    (compute,) = project.call("GET", f"/branches/{bare['id']}/endpoints")["endpoints"]
    assert (compute["type"], compute["autoscaling_limit_max_cu"]) == ("read_only", 1)
    at.json("branches", "set-default", "dev")
    assert [b["name"] for b in project.branches() if b["default"]] == ["dev"]
    at.json("branches", "set-default", "main")
    at.json("branches", "delete", "renamed")
    assert "renamed" not in branches(project)
    settle(mere, project)


def test_branches_that_expire(at, project):
    when = later(days=3)
    at.json("branches", "create", "--name", "short", "--no-compute", "--expires-at", when)
    assert branches(project)["short"]["expires_at"] == when
    at.json("branches", "set-expiration", "short", "--expires-at", later(days=9))
    assert branches(project)["short"]["expires_at"] > when
    at.json("branches", "set-expiration", "short")
    assert "expires_at" not in branches(project)["short"]
    assert at.json("branches", "list") and at.table("branches", "list")


def test_branches_of_the_past(at, project):
    lsn = project.main.value("SELECT pg_current_wal_flush_lsn()")
    stamp = project.main.value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '1 second', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    project.main.query("SELECT pg_sleep(2)")
    project.main.query("INSERT INTO t VALUES ('later')")
    for name, where in (("by-lsn", lsn), ("by-time", stamp)):
        made = at.json("branches", "create", "--name", name, "--parent", where)
        assert made["branch"]["parent_id"] == project.main.id and ask(made["connection_uris"][0]["connection_uri"]) == ["main"], where
    uri = at.run("connection-string", f"main@{lsn}").strip()
    assert ask(uri) == ["main"] and ask(at.run("connection-string", "main").strip()) == ["later", "main"]


def test_schema_only(at, project):
    made = at.json("branches", "create", "--name", "empty", "--schema-only", *(["--protected"] if at.package == "neonctl5" else []))
    assert "parent_id" not in made["branch"]
    assert ask(made["connection_uris"][0]["connection_uri"]) == [] if "connection_uris" in made else True
    assert ask(at.run("connection-string", "empty").strip()) == [] and project.main.value("SELECT who FROM t") == "main"
    assert branches(project)["empty"]["protected"] == (at.package == "neonctl5")
    project.call("PATCH", "/branches/empty", {"branch": {"protected": False}})


def test_reset_and_restore(at, mere, project):
    at.json("branches", "create", "--name", "dev")
    uri = at.run("connection-string", "dev").strip()
    ask(uri, "INSERT INTO t VALUES ('dev') RETURNING 1")
    lsn = ask(uri, "SELECT pg_current_wal_flush_lsn()")[0]
    ask(uri, "INSERT INTO t VALUES ('more') RETURNING 1")
    at.json("branches", "restore", "dev", f"^self@{lsn}", "--preserve-under-name", "before")
    assert ask(uri) == ["dev", "main"] and branches(project)["dev"]["parent_id"] == branches(project)["before"]["id"]
    at.json("branches", "restore", "dev", "main")
    assert ask(uri) == ["main"]
    ask(uri, "INSERT INTO t VALUES ('again') RETURNING 1")
    at.json("branches", "restore", "dev", "^parent")
    assert ask(uri) == ["main"]
    ask(uri, "INSERT INTO t VALUES ('once more') RETURNING 1")
    at.json("branches", "reset", "dev", "--parent", "--preserve-under-name", "kept")
    assert ask(uri) == ["main"] and "last_reset_at" in branches(project)["dev"] and "kept" in branches(project)
    settle(mere, project)


def test_schema_diff(at, project):
    made = at.json("branches", "create", "--name", "dev")
    uri = made["connection_uris"][0]["connection_uri"]
    lsn = project.main.value("SELECT pg_current_wal_flush_lsn()")
    ask(uri, "CREATE TABLE added (n int); SELECT 1")
    assert "+CREATE TABLE public.added" in at.run("branches", "schema-diff", "main", "dev")
    project.main.query("CREATE TABLE here (n int)")
    out = at.run("branches", "schema-diff", "main", f"^self@{lsn}", "--database", "neondb")
    assert "public.here" in out and "public.t" not in [line.split()[-1] for line in out.splitlines() if line[:1] in "+-"]


def test_databases_and_roles(at, mere, project):
    b = project.main
    at.json("databases", "create", "--name", "shop")
    assert {d["name"]: d["owner_name"] for d in project.call("GET", b.path("/databases"))["databases"]}["shop"] == project.role
    at.json("roles", "create", "--name", "ana")
    assert "ana" in [r["name"] for r in at.json("roles", "list")] and "ana" in at.table("roles", "list")
    at.json("databases", "create", "--name", "hers", "--owner-name", "ana", "--branch", "main")
    assert {"shop", "hers"} <= {d["name"] for d in at.json("databases", "list", "--branch", "main")} and "shop" in at.table("databases", "list")
    settle(mere, project)
    assert sorted(b.query("SELECT datname::text, datdba::regrole::text FROM pg_database WHERE datname IN ('shop', 'hers')")) == [
        ("hers", "ana"), ("shop", project.role)]
    for words in (("databases", "delete", "hers"), ("databases", "delete", "shop"), ("roles", "delete", "ana")):
        at.json(*words)
        settle(mere, project)
    assert b.query("SELECT rolname FROM pg_roles WHERE rolname = 'ana'") == [] and b.query("SELECT 1 FROM pg_database WHERE datname = 'shop'") == []
    operations = at.json("operations", "list")
    assert {o["id"] for o in operations} == {o["id"] for o in project.call("GET", "/operations")["operations"]} and at.table("operations", "list")


def test_connection_strings(at, mere, project):
    plain = at.run("connection-string").strip()
    assert f"{project.main.endpoint_id}.{SUFFIX}:{mere.pg_port}" in plain and "channel_binding=require" in plain and ask(plain) == ["main"]
    assert ask(at.run("cs", "main", "--role-name", project.role, "--database-name", "neondb").strip()) == ["main"]
    assert "sslmode" not in at.run("cs", "--ssl", "omit") and "connect_timeout" in at.run("cs", "--prisma")
    extended = at.json("cs", "--extended")
    assert extended["role"] == project.role and extended["password"] == project.password and extended["database"] == "neondb"
    if POOLED:
        pooled = at.run("cs", "--pooled").strip()
        assert f"{project.main.endpoint_id}-pooler." in pooled and ask(pooled) == ["main"] and project.main.pooler()
    project.call("POST", "/endpoints", {"endpoint": {"branch_id": "main", "type": "read_only"}})
    reader = at.run("cs", "--endpoint-type", "read_only").strip()
    assert ask(reader) == ["main"] and ask(reader, "SELECT pg_is_in_recovery()") == [True]
    psql = ("psql", "main") if at.package == "neonctl5" else ("cs", "main", "--psql")
    assert at.run(*psql, "--", "-XAtc", "SELECT who FROM t").strip().splitlines()[-1] == "main"


def test_allowed_addresses(at, project):
    def now():
        return project.call("GET")["project"]["settings"]["allowed_ips"]["ips"]

    at.run("ip-allow", "add", "10.0.0.1", "127.0.0.1")
    assert now() == ["10.0.0.1", "127.0.0.1"] and "10.0.0.1" in at.run("ip-allow", "list")
    assert project.main.value("SELECT 1") == 1
    at.run("ip-allow", "remove", "127.0.0.1")
    assert now() == ["10.0.0.1"]
    with pytest.raises(psycopg2.OperationalError, match="not allowed"):
        project.main.connect()
    at.run("ip-allow", "reset")
    assert now() == [] and project.main.value("SELECT 1") == 1


# --- the command line of today ------------------------------------------------------------------------------------------------------------


def test_snapshots(cli5, mere, project):
    cli5.project = project.id
    project.main.query("CREATE TABLE t AS SELECT 'main' AS who")
    taken = cli5.json("snapshots", "create", "--name", "s")
    taken = taken.get("snapshot", taken)
    project.main.query("INSERT INTO t VALUES ('later')")
    settle(mere, project)
    assert [s["name"] for s in cli5.json("snapshots", "list")] == ["s"]
    cli5.json("snapshots", "restore", "s", "--name", "restored")
    settle(mere, project)
    made = branches(project)["restored"]
    assert made["restored_from"] == taken["id"]
    project.call("POST", "/endpoints", {"endpoint": {"branch_id": made["id"], "type": "read_write"}})
    assert ask(cli5.run("cs", "restored").strip()) == ["main"]
    wanted = [{"frequency": "daily", "hour": 3, "retention_seconds": 86400}]
    assert cli5.json("snapshots", "schedule", "set", "--branch", "main", "--frequency", "daily", "--hour", "3", "--retention", "86400")
    assert project.call("GET", project.main.path("/backup_schedule"))["schedule"] == wanted and "daily" in cli5.table("snapshots", "schedule", "get")
    cli5.run("snapshots", "delete", "s")
    assert project.call("GET", "/snapshots")["snapshots"] == []
    settle(mere, project)


def test_link_and_environment(cli5, mere, project, workdir):
    cli5.home = workdir
    project.main.query("CREATE TABLE t AS SELECT 'main' AS who")
    cli5.run("set-context", "--project-id", project.id)
    assert json.loads((workdir / ".neon").read_text())["projectId"] == project.id
    cli5.run("checkout", "main", "--no-env-pull")
    cli5.run("checkout", "made", "--create", "--no-env-pull")
    assert "made" in branches(project)
    cli5.run("link", "--project-id", project.id, "--branch", "main", "--no-env-pull")
    if not POOLED:
        pytest.skip("PgBouncer is not installed: a pooled connection string is refused")
    cli5.run("link", "--project-id", project.id, "--branch", "main")
    cli5.run("env", "pull")
    found = dict(line.split("=", 1) for line in (workdir / ".env.local").read_text().splitlines() if "=" in line and not line.startswith("#"))
    found = {k: v.strip('"') for k, v in found.items()}
    assert ask(found["DATABASE_URL_UNPOOLED"]) == ["main"] and ask(found["DATABASE_URL"]) == ["main"]
    assert "-pooler" in found["DATABASE_URL"] and "-pooler" not in found["DATABASE_URL_UNPOOLED"]
    assert cli5.run("status")
    settle(mere, project)


# --- the libraries --------------------------------------------------------------------------------------------------------------------------


def test_api_client(mere, home):
    found = run_program(mere, home, "api_client.mjs", "pooled" if POOLED else "direct")
    path = f"/projects/{found['project']}"
    project = mere.call("GET", path)["project"]
    assert project["name"] == "client 2" and project["settings"]["allowed_ips"]["ips"] == ["127.0.0.0/8"]
    names = {b["name"]: b for b in mere.call("GET", path + "/branches")["branches"]}
    assert set(names) == {"main", "dev", "before"} and names["dev"]["default"] and names["dev"]["id"] == found["branch"]
    assert [e["id"] for e in mere.call("GET", f"{path}/branches/dev/endpoints")["endpoints"]] == [found["endpoint"]]
    assert {r["name"] for r in mere.call("GET", f"{path}/branches/dev/roles")["roles"]} == {found["role"], "ana"}
    assert {d["name"]: d["owner_name"] for d in mere.call("GET", f"{path}/branches/dev/databases")["databases"]} == {"neondb": found["role"], "shop": "ana"}
    for uri in filter(None, (found["uri"], found["pooled"])):
        assert ask(uri, "SELECT current_user || '@' || current_database()") == ["ana@shop"]
    assert found["gone"] in [p["id"] for p in mere.call("GET", "/projects?recoverable=true&limit=400")["projects"]]
    mere.call("DELETE", path + "?hard_delete=true")


def test_sdk(mere, home):
    found = run_program(mere, home, "sdk.mjs", "pooled" if POOLED else "direct")
    path = f"/projects/{found['projectId']}"
    assert mere.call("GET", path)["project"]["name"] == "sdk 2"
    names = {b["name"]: b for b in mere.call("GET", path + "/branches")["branches"]}
    assert set(names) == {"main", "dev 2"} and names["dev 2"]["default"] and names["dev 2"]["id"] == found["branchId"]
    assert ask(found["dev"], "SELECT datname::text FROM pg_database WHERE datname IN ('neondb', 'store')") == ["neondb"], "the reset was none"
    if POOLED:
        assert "-pooler." in found["connectionString"] and ask(found["connectionString"], "SELECT 1") == [1]
        assert ask(found["guessed"], "SELECT 1") == [1]
    gone = {p["id"] for p in mere.call("GET", "/projects?recoverable=true&limit=400")["projects"]}
    assert set(found["others"]) <= gone
    mere.call("DELETE", path + "?hard_delete=true")


def test_create_branch_action(mere, home, project):
    project.main.query("CREATE TABLE t AS SELECT 'main' AS who")
    first = run_program(mere, home, "create_branch.mjs", project.id, "preview/pr-1", "main", later(days=1))
    assert first["created"] and ask(first["uri"]) == ["main"] and branches(project)["preview/pr-1"]["expires_at"]
    if POOLED:
        assert ask(first["pooled"]) == ["main"]
    project.main.query("INSERT INTO t VALUES ('later')")
    again = run_program(mere, home, "create_branch.mjs", project.id, "preview/pr-1")
    assert not again["created"] and again["branch"] == first["branch"] and ask(again["uri"]) == ["main"]
    other = run_program(mere, home, "create_branch.mjs", project.id, "preview/pr-12")
    assert other["created"] and ask(other["uri"]) == ["later", "main"]
    settle(mere, project)
