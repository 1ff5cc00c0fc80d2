"""Extensions that mered installs for users, and libraries that computes preload."""
import contextlib
import urllib.parse

import psycopg2
import pytest

from harness.server import ApiError, until


def path(branch, name="", database="neondb"):
    return branch.path(f"/databases/{database}/extensions" + (f"/{name}" if name else ""))


def listed(branch, database="neondb"):
    return {e["name"]: e for e in branch.project.call("GET", path(branch, database=database))["extensions"]}


def put(branch, name, wait=True, expect=(200,), **fields):
    body = branch.project.call("PUT", path(branch, name), {"extension": fields} if fields else None, expect=expect)
    if wait:
        branch.mere.wait_operations(branch.project.id, body)
    return body


def delete(branch, name):
    return branch.mere.wait_operations(branch.project.id, branch.project.call("DELETE", path(branch, name)))


def failed(branch, body):
    """The error of the one operation, which must fail."""
    op = body["operations"][0]
    return branch.mere.wait_operation(branch.project.id, op, expect=("failed",))["error"]


def refused(branch, method, name, body=None, status=422, pointer=None, database="neondb"):
    with pytest.raises(ApiError) as e:
        branch.project.call(method, path(branch, name, database), body)
    assert e.value.status == status, e.value
    assert pointer is None or e.value.body["errors"][0]["pointer"] == pointer
    return e.value.body["message"]


def installed(branch):
    return dict(branch.query("SELECT extname, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname <> 'plpgsql'"))


def preload(project, *names):
    project.call("PATCH", "", {"project": {"settings": {"preload_libraries": {"enabled_libraries": list(names)}}}})


def preloaded(branch):
    branch.query("SELECT 1")
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        cur.execute("SHOW shared_preload_libraries")
        return cur.fetchone()[0]


def test_install_use_and_remove(project):
    b = project.main
    have = listed(b)
    assert {"pg_trgm", "pg_stat_statements", "hstore"} <= set(have) and not {"dblink", "file_fdw", "adminpack", "plpgsql"} & set(have)
    assert have["pg_trgm"]["state"] == "available" and not have["pg_trgm"]["installed"]
    assert have["pg_trgm"]["default_version"] in have["pg_trgm"]["available_versions"]
    body = put(b, "pg_trgm")
    assert body["extension"]["state"] == "creating" and body["operations"]
    got = project.call("GET", path(b, "pg_trgm"))["extension"]
    assert (got["state"], got["installed"], got["schema"], got["version"]) == ("ready", True, "extensions", got["default_version"])
    assert b.value("SELECT similarity('word', 'words')") > 0.5, "found without naming its schema"
    assert put(b, "pg_trgm")["operations"] == [], "nothing is left to do"
    assert put(b, "pg_trgm", version=got["version"], schema="extensions")["operations"] == []
    delete(b, "pg_trgm")
    assert listed(b)["pg_trgm"]["state"] == "available" and installed(b) == {}
    delete(b, "pg_trgm")


def test_installed_while_suspended_and_in_a_branch(project):
    b = project.main
    before = b.value("SELECT pg_current_wal_flush_lsn()")
    b.suspend()
    put(b, "hstore")
    b.suspend()
    assert listed(b)["hstore"]["installed"]
    child = project.branch(b)
    assert listed(child)["hstore"]["installed"]
    assert child.value("SELECT 'a=>1'::hstore -> 'a'") == "1"
    past = project.branch(b, parent_lsn=before)
    assert listed(past)["hstore"]["state"] == "inherited"
    assert installed(past) == {}
    until(lambda: listed(past)["hstore"]["state"] == "available", 8, "hstore to be found missing")
    b.query("ALTER DATABASE neondb SET search_path = public")
    assert listed(b)["hstore"]["installed"]


def test_what_it_requires_comes_along(project):
    put(project.main, "earthdistance")
    assert installed(project.main) == {"cube": "extensions", "earthdistance": "extensions"}


def test_another_version_and_schema(project):
    b = project.main
    have = listed(b)["pg_trgm"]
    old = next(v for v in have["available_versions"] if v != have["default_version"] and v >= "1.3")
    put(b, "pg_trgm", version=old, schema="Search \"it\"")
    got = listed(b)["pg_trgm"]
    assert (got["version"], got["schema"]) == (old, 'Search "it"')
    put(b, "pg_trgm", version=have["default_version"])
    got = listed(b)["pg_trgm"]
    assert (got["version"], got["schema"]) == (have["default_version"], 'Search "it"')
    refused(b, "PUT", "pg_trgm", {"extension": {"schema": "other"}}, status=409, pointer="/extension/schema")


@pytest.mark.parametrize("name", ["dblink", "file_fdw", "postgres_fdw", "adminpack", "pageinspect", "pg_surgery", "plpython3u", "xml2", "x", "../x", "pg_trgm' --"])
def test_refused_names(mere, shared, name):
    quoted = urllib.parse.quote(name, safe="")
    assert "may be installed" in refused(shared, "PUT", quoted)
    refused(shared, "GET", quoted, status=404)
    refused(shared, "DELETE", quoted, status=404)


@pytest.fixture(scope="module")
def shared(mere):
    project = mere.create_project()
    yield project.main
    if mere.is_running():
        project.delete()


@pytest.mark.parametrize("fields, pointer", [
    ({"version": "0.0"}, "/extension/version"), ({"schema": "public"}, "/extension/schema"), ({"schema": "pg_catalog"}, "/extension/schema"),
    ({"schema": "pg_x"}, "/extension/schema"), ({"schema": "information_schema"}, "/extension/schema"), ({"schema": ""}, "/extension/schema"),
    ({"schema": "x" * 64}, "/extension/schema"), ({"cascade": True}, "/extension/cascade"), ({"version": 1}, "/extension/version")])
def test_bad_input(shared, fields, pointer):
    refused(shared, "PUT", "pg_trgm", {"extension": fields}, pointer=pointer)
    assert listed(shared)["pg_trgm"]["state"] == "available"


def test_unknown_places(shared):
    for method in ("GET", "PUT", "DELETE"):
        refused(shared, method, "pg_trgm", status=404, database="nosuch")
        refused(shared, method, "pg_trgm", status=404, database="postgres")
    refused(shared, "GET", "", status=404, database="nosuch")
    refused(shared, "PUT", "pg_trgm", {"nosuch": {}}, pointer="/nosuch")


@pytest.mark.expect_log("was not applied")
def test_a_schema_of_users_is_refused(project):
    """What a user put there first would be found by the script that a superuser runs."""
    b = project.main
    b.query("CREATE SCHEMA extensions")
    b.query("CREATE FUNCTION extensions.similarity(text, text) RETURNS real LANGUAGE sql AS 'SELECT 0.0::real'")
    error = failed(b, put(b, "pg_trgm", wait=False))
    assert "others may create" in error
    assert listed(b)["pg_trgm"]["state"] == "available" and installed(b) == {}
    put(b, "pg_trgm", schema="trgm")
    assert installed(b) == {"pg_trgm": "trgm"}


@pytest.mark.expect_log("was not applied")
def test_a_required_one_of_users_is_refused(project):
    b = project.main
    b.query("CREATE SCHEMA mine")
    b.query("CREATE EXTENSION cube SCHEMA mine")
    assert "others may create" in failed(b, put(b, "earthdistance", wait=False))
    assert installed(b) == {"cube": "mine"}
    put(b, "cube")
    assert listed(b)["cube"]["schema"] == "mine", "what SQL installed is told as it is"
    delete(b, "cube")
    put(b, "earthdistance")


def test_users_get_no_rights_by_it(project):
    """The schema and the extension are ours; settings of a database do not reach the session that installs."""
    b = project.main
    b.query("ALTER DATABASE neondb SET role = neondb_owner")
    b.query("ALTER DATABASE neondb SET search_path = public")
    b.query("CREATE FUNCTION public.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT ''boo'''")
    put(b, "pg_stat_statements")
    owner = "SELECT rolname FROM pg_namespace JOIN pg_roles r ON r.oid = nspowner WHERE nspname = 'extensions'"
    assert b.value(owner) == "mere_admin"
    for sql in ("CREATE TABLE extensions.t (n int)", "DROP EXTENSION pg_stat_statements", "ALTER SCHEMA extensions OWNER TO neondb_owner",
                "ALTER EXTENSION pg_stat_statements SET SCHEMA public", "CREATE EXTENSION dblink"):
        with pytest.raises(psycopg2.Error):
            b.query(sql)


@pytest.mark.expect_log("was not applied")
def test_an_extension_in_use_stays(project):
    b = project.main
    put(b, "hstore")
    b.query("CREATE TABLE t (h hstore)")
    body = project.call("DELETE", path(b, "hstore"))
    assert listed(b)["hstore"]["state"] == "available"
    assert "depend" in failed(b, body)
    assert listed(b)["hstore"]["installed"] and installed(b) == {"hstore": "extensions"}


def test_statements_are_counted(project):
    """Preload, extension, and a user who reads it; nothing of ours is in it."""
    b = project.main
    preload(project, "pg_stat_statements")
    put(b, "pg_stat_statements")
    assert preloaded(b) == "pg_stat_statements"
    b.query("SELECT count(*) AS counted FROM pg_class")
    texts = [q for (q,) in b.query("SELECT query FROM pg_stat_statements")]
    assert any("AS counted" in q for q in texts), texts
    body = project.call("POST", b.path("/roles"), {"role": {"name": "second"}})
    project.mere.wait_operations(project.id, body)
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("SELECT query FROM extensions.pg_stat_statements")
        seen = [q for (q,) in cur.fetchall()]
    assert not [q for q in seen if "SCRAM" in q or "ROLE" in q], seen
    child = project.branch(b)
    assert preloaded(child) == "pg_stat_statements"


def test_preloaded_libraries_of_an_endpoint(project):
    b = project.main
    preload(project, "pg_stat_statements")
    assert preloaded(b) == "pg_stat_statements"
    generation = b.generation()
    b.patch_endpoint(settings={"preload_libraries": {"enabled_libraries": ["pg_stat_statements", "pg_prewarm"]}})
    assert b.endpoint()["settings"]["preload_libraries"]["enabled_libraries"] == ["pg_stat_statements", "pg_prewarm"]
    assert preloaded(b) == "pg_stat_statements,pg_prewarm" and b.generation() > generation
    b.patch_endpoint(settings={"preload_libraries": {"enabled_libraries": []}})
    assert preloaded(b) == ""


def test_a_kill_loses_no_wish(new_mere, expect_log):
    expect_log(r"(?i)crash|killed|recover|lost|unexpected|ended|refused|not applied")
    m = new_mere(crash=True)
    m.start()
    project = m.create_project()
    b = project.main
    b.query("SELECT 1")
    for point in ("extension.wished", "extension.applied"):
        m.stop()
        m.start(env={"CRASH_AT": f"{point}:1"})
        with contextlib.suppress(Exception):
            put(b, "hstore", wait=False)
        m.proc.wait(20)
        m.start()
        until(lambda: listed(b)["hstore"]["state"] == "ready", 20, "hstore to be installed")
        assert installed(b) == {"hstore": "extensions"}
        delete(b, "hstore")
    project.delete()
