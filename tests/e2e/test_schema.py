"""Schemas of databases and how they differ, from computes that nobody else sees; what is asked about sleeps on, and nothing stays."""
import contextlib
import os
import signal
import subprocess
import threading
import urllib.parse

import psycopg2
import pytest

from harness.server import until

OLD = "CREATE TABLE t (id bigint PRIMARY KEY, note text DEFAULT 'x')"


def ask(branch, what="schema", expect=200, **query):
    query.setdefault("db_name", branch.project.database)
    path = branch.project.path(branch.path(f"/{what}?" + urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})))
    status, headers, reply = branch.mere.request("GET", path, timeout=150)
    assert status == expect, (status, reply)
    return reply if status != 200 else reply[{"schema": "json" if query.get("format") == "json" else "sql", "compare_schema": "diff"}[what]]


def hidden(mere):
    return mere.rows("SELECT id, state FROM branch WHERE kind = 'temporary'")


def await_nothing_hidden(mere, timeout=30):
    until(lambda: not hidden(mere), timeout, "the temporary branches to go")


@pytest.fixture(scope="module")
def old(mere):
    """A branch with a table, a moment, then more of it."""
    project = mere.create_project()
    b = project.main
    b.query(OLD)
    b.lsn, b.time = b.query("SELECT pg_current_wal_flush_lsn()::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")[0]
    b.query("ALTER TABLE t ADD COLUMN price numeric(10,2) NOT NULL CHECK (price > 0)")
    b.query("CREATE INDEX t_price ON t (price DESC)")
    b.query("CREATE VIEW v AS SELECT id FROM t")
    b.query("CREATE FUNCTION f(a integer, b text) RETURNS integer LANGUAGE sql AS 'SELECT a'")
    yield b
    if mere.is_running():
        project.delete()


def test_at_the_head_of_a_running_and_of_a_sleeping_branch(mere, old):
    old.query("SELECT 1")
    generation, pid = old.generation(), old.postmaster()
    running = ask(old)
    assert old.postmaster() == pid and old.generation() == generation
    old.suspend()
    sleeping = ask(old)
    assert old.endpoint()["current_state"] == "idle" and old.generation() == generation, "it was woken"
    assert running == sleeping
    for words in ("CREATE TABLE public.t (", "price numeric(10,2) NOT NULL", "CREATE INDEX t_price", "CREATE VIEW public.v",
                  "CREATE FUNCTION public.f(a integer, b text)", f"ALTER TABLE public.t OWNER TO {old.project.role};"):
        assert words in running, words
    assert "restrict" not in running and "Dumped" not in running
    assert running.startswith("--\n-- PostgreSQL database dump\n--\n\nSET ") and running.endswith("\n-- PostgreSQL database dump complete\n--\n\n")


def test_at_an_lsn_and_at_a_time(old):
    then = ask(old, lsn=old.lsn)
    assert "CREATE TABLE public.t (" in then and "price" not in then
    assert ask(old, timestamp=old.time) == then
    assert "price" not in str(ask(old, lsn=old.lsn, format="json"))


def test_as_json(old):
    got = ask(old, format="json")
    (t,) = got["tables"]
    assert (t["schema"], t["name"]) == ("public", "t")
    assert t["columns"] == [{"name": "id", "type": "bigint", "nullable": False}, {"name": "note", "type": "text", "nullable": True, "default": "'x'::text"},
                            {"name": "price", "type": "numeric(10,2)", "nullable": False}]
    assert t["constraints"] == [{"name": "t_pkey", "definition": "PRIMARY KEY (id)"}, {"name": "t_price_check", "definition": "CHECK ((price > (0)::numeric))"}]
    assert [i["name"] for i in t["indexes"]] == ["t_pkey", "t_price"] and "ON public.t USING btree (price DESC)" in t["indexes"][1]["definition"]
    assert got["views"] == [{"schema": "public", "name": "v"}]
    assert got["functions"] == [{"schema": "public", "name": "f", "arguments": "a integer, b text"}]
    empty = ask(old, format="json", lsn=old.lsn)
    assert empty["views"] == [] and empty["functions"] == []


def test_a_comparison_with_the_parent(old, workdir):
    child = old.project.branch(old)
    try:
        assert ask(child, "compare_schema") == ""
        child.query("ALTER TABLE t DROP COLUMN note")
        child.query("CREATE TABLE u (x integer)")
        generation = old.generation()
        diff = ask(child, "compare_schema")
        assert old.generation() == generation
        lines = diff.splitlines()
        assert lines[:2] == [f"--- a/{old.project.database}", f"+++ b/{old.project.database}"] and lines[2].startswith("@@ -")
        assert "-    note text DEFAULT 'x'::text," in lines and "+CREATE TABLE public.u (" in lines
        (workdir / "old").write_text(ask(old))
        (workdir / "diff").write_text(diff)
        subprocess.run(["patch", "-s", "old", "diff"], cwd=workdir, check=True)
        assert (workdir / "old").read_text() == ask(child)
        back = ask(old, "compare_schema", base_branch_id=child.name)
        assert "+    note text DEFAULT 'x'::text," in back.splitlines()
    finally:
        child.delete()


def test_a_comparison_with_another_moment(old):
    same = {"base_branch_id": old.id, "base_lsn": old.lsn}
    assert "+CREATE VIEW public.v AS" in ask(old, "compare_schema", **same).splitlines()
    assert ask(old, "compare_schema", **same, timestamp=old.time) == ""
    assert "-CREATE VIEW public.v AS" in ask(old, "compare_schema", base_branch_id=old.id, lsn=old.lsn).splitlines()


@pytest.mark.slow
def test_any_name_of_a_database(project):
    names = ["a'b\\c", "dbname=postgres host=nowhere", "postgresql://nowhere/x", "--version", "ü ☃", 'x"; DROP']
    for i, name in enumerate(names):
        project.main.query('CREATE DATABASE "%s"' % name.replace('"', '""'))
        project.main.query(f"CREATE TABLE only_here_{i} (n integer)", database=name)
    for i, name in enumerate(names):
        assert f"only_here_{i}" in (ask(project.main, db_name=name) if i % 2 == 0 else str(ask(project.main, db_name=name, format="json")))
    diff = ask(project.main, "compare_schema", base_branch_id="main", base_lsn=None, db_name=names[1])
    assert diff == ""


def test_what_an_owner_sets_for_his_database_counts_for_nothing(project):
    b, db = project.main, project.database
    b.query("CREATE TABLE t (at timestamptz DEFAULT '2020-01-01 00:00:00+00')")
    want, json = ask(b), ask(b, format="json")
    assert "2020-01-01 00:00:00+00" in want and "2020-01-01 00:00:00+00" in str(json)
    with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
        for setting in (f"role = '{project.role}'", "quote_all_identifiers = on", "timezone = 'Asia/Tokyo'", "search_path = pg_temp",
                        "statement_timeout = 1", "default_transaction_read_only = on", "client_encoding = 'LATIN1'", "lock_timeout = 1",
                        f"session_authorization = '{project.role}'"):
            with contextlib.suppress(psycopg2.Error):
                cur.execute(f"ALTER DATABASE {db} SET {setting}")
        cur.execute("SELECT setconfig FROM pg_db_role_setting")
        assert len(cur.fetchone()[0]) >= 8
    assert ask(b) == want and ask(b, format="json") == json


def test_other_encodings(project):
    b = project.main
    b.query("CREATE DATABASE l ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    b.query("CREATE TABLE \"é\" (n integer)", database="l")
    assert 'public."é" (' in ask(b, db_name="l") and [t["name"] for t in ask(b, db_name="l", format="json")["tables"]] == ["é"]
    b.query("CREATE DATABASE raw ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    b.query("DO $$ BEGIN EXECUTE 'CREATE TABLE ' || quote_ident(convert_from('\\x61ff'::bytea, 'SQL_ASCII')) || ' (n integer)'; END $$", database="raw")
    for form in ("sql", "json"):
        assert "invalid byte sequence" in ask(b, db_name="raw", format=form, expect=422)["message"]


@pytest.mark.parametrize("query, status, says", [
    ({"db_name": None}, 400, "db_name"), ({"db_name": ""}, 400, "db_name"), ({"format": "xml"}, 400, "format"), ({"lsn": "zero"}, 400, "lsn"),
    ({"timestamp": "yesterday"}, 400, "timestamp"), ({"lsn": "0/1", "timestamp": "2020-01-01T00:00:00Z"}, 400, "exclude"),
    ({"lsn": "FFFFFFFF/0"}, 422, "beyond the head"), ({"lsn": "0/0"}, 422, "before the history"), ({"lsn": "0/28"}, 422, "before the history"),
    ({"timestamp": "2999-01-01T00:00:00Z"}, 422, "future"), ({"timestamp": "1970-01-01T00:00:00Z"}, 422, "before the history"),
    ({"db_name": "nowhere"}, 404, "database not found: \"nowhere\""), ({"db_name": "postgres"}, 404, "\"postgres\""), ({"db_name": "template1"}, 404, "template1")])
def test_what_cannot_be_read(mere, old, query, status, says):
    reply = ask(old, **query, expect=status)
    assert says in reply["message"], reply
    if status == 422:
        assert [e["pointer"] for e in reply["errors"]] == ["/" + next(iter(query))] and reply["latest_lsn"]
    await_nothing_hidden(mere)


@pytest.mark.parametrize("query, status, says, pointer", [
    ({}, 422, "no parent", "/base_branch_id"), ({"base_branch_id": "nobody"}, 404, "\"nobody\"", "/base_branch_id"),
    ({"base_branch_id": "main", "base_lsn": "FFFFFFFF/0"}, 422, "beyond the head", "/base_lsn"),
    ({"base_branch_id": "main", "lsn": "FFFFFFFF/0"}, 422, "beyond the head", "/lsn"),
    ({"base_branch_id": "main", "base_timestamp": "2999-01-01T00:00:00Z"}, 422, "future", "/base_timestamp"),
    ({"base_branch_id": "main", "base_lsn": "0/1", "base_timestamp": "2020-01-01T00:00:00Z"}, 400, "exclude", None),
    ({"base_branch_id": "main", "db_name": "nowhere"}, 404, "\"nowhere\"", None), ({"db_name": None}, 400, "db_name", None)])
def test_what_cannot_be_compared(mere, old, query, status, says, pointer):
    reply = ask(old, "compare_schema", **query, expect=status)
    assert says in reply["message"], reply
    assert [e["pointer"] for e in reply.get("errors", [])] == ([pointer] if pointer else [])
    await_nothing_hidden(mere)


def test_a_database_that_is_only_in_the_past(project):
    b = project.main
    b.query("CREATE DATABASE gone")
    b.query(OLD, database="gone")
    at = b.value("SELECT pg_current_wal_flush_lsn()::text")
    b.query("DROP DATABASE gone")
    ask(b, db_name="gone", expect=404)
    assert "CREATE TABLE public.t" in ask(b, db_name="gone", lsn=at)


def test_of_a_branch_that_was_never_started(project):
    child = project.branch(project.main)
    assert "PostgreSQL database dump complete" in ask(child)
    assert child.mere.rows("SELECT volume FROM branch WHERE id = ?", child.id)[0]["volume"] == "none"
    fresh = child.mere.create_project()
    try:
        assert ask(fresh.main, format="json") == {"tables": [], "views": [], "functions": []}
        assert fresh.main.generation() == 0
    finally:
        fresh.delete()


@pytest.mark.expect_log(r"postgres ended by itself", r"cannot see the activity")
def test_a_branch_that_crashed_is_not_woken(old):
    old.query("INSERT INTO t VALUES (1, 'x', 1)")
    pid = old.postmaster()
    os.kill(pid, signal.SIGKILL)
    until(lambda: old.mere.rows("SELECT observed FROM endpoint WHERE id = ?", old.endpoint_id)[0]["observed"] in ("STOPPED", "FAILED"), 30, "it to be stopped")
    generation = old.generation()
    assert "CREATE VIEW public.v" in ask(old)
    assert old.generation() == generation and old.postmaster() == 0


def test_the_command_line(mere, old):
    env = {"PATH": os.environ["PATH"], "MERE_API_URL": mere.api_url, "MERE_API_KEY": mere.key, "MERE_PROJECT": old.project.id}

    def run(*words):
        return subprocess.run([mere.bin / "mere", *words], env=env, capture_output=True, text=True, timeout=150)
    assert run("schema").stdout == ask(old)
    assert "price" not in run("schema", "main", "--at", old.lsn).stdout
    assert run("schema-diff", "main", "main", "--at", old.lsn).stdout == ask(old, "compare_schema", base_branch_id="main", lsn=old.lsn)
    refused = run("schema-diff", "main")
    assert refused.returncode == 4 and "no parent" in refused.stderr
    assert run("schema", "--database", "nobody").returncode == 3


def test_many_at_once(mere, old):
    got = []
    threads = [threading.Thread(target=lambda: got.append(ask(old))) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == 6 and len(set(got)) == 1
    await_nothing_hidden(mere)


def test_nobody_sees_what_it_is_read_from(mere, old):
    before = {b["id"] for b in old.project.branches()}, len(old.project.call("GET", "/endpoints")["endpoints"])
    seen = []
    t = threading.Thread(target=lambda: seen.append(ask(old)))
    t.start()
    until(lambda: hidden(mere), 30, "a temporary branch")
    while t.is_alive():
        assert ({b["id"] for b in old.project.branches()}, len(old.project.call("GET", "/endpoints")["endpoints"])) == before
        t.join(0.02)
    assert seen
    await_nothing_hidden(mere)


@pytest.mark.expect_log(r"status=503", r"fork failed", r"action=create_branch")
def test_a_project_is_deleted_meanwhile(mere):
    project = mere.create_project()
    project.main.query(OLD)
    answers = []

    def one():
        path = project.path(project.main.path("/schema?db_name=" + project.database))
        answers.append(mere.request("GET", path, timeout=150)[0])
    threads = [threading.Thread(target=one) for _ in range(3)]
    for t in threads:
        t.start()
    until(lambda: hidden(mere), 30, "a temporary branch")
    project.delete()
    for t in threads:
        t.join()
    assert set(answers) <= {200, 404, 422, 503}, answers
    await_nothing_hidden(mere)


@pytest.mark.expect_log(r"postgres ended by itself", r"cannot see the activity")
@pytest.mark.parametrize("point", ["branch.inserted", "schema.opened", "schema.started", "branch.discarded"])
def test_a_crash_leaves_nothing(new_mere, point):
    """Everything dies at once; what was open is ended, what was made for a moment is swept."""
    mere = new_mere(crash=True).start()
    project = mere.create_project()
    project.main.query(OLD)
    project.main.suspend()
    mere.restart(env={"CRASH_AT": f"{point}:1"})
    with pytest.raises(OSError):
        ask(project.main)
    assert mere.wait() == 137
    mere.crash_all()
    mere.start()
    for op in mere.rows("SELECT id FROM operation WHERE status IN ('scheduling', 'running')"):
        mere.wait_operation(project.id, op["id"], expect=("finished", "cancelled"))
    for pid in mere.postmasters():  # one that was still to be started is; it would be idle for a minute and a half
        os.kill(pid, signal.SIGINT)
    await_nothing_hidden(mere)
    assert "CREATE TABLE public.t" in ask(project.main)
    project.delete()


@pytest.mark.slow
def test_a_crash_of_mered_alone_leaves_nothing(new_mere):
    mere = new_mere(crash=True).start()
    project = mere.create_project()
    project.main.query(OLD)
    mere.restart(env={"CRASH_AT": "schema.started:1"})
    with pytest.raises(OSError):
        ask(project.main)
    mere.wait()
    mere.start()
    assert len(hidden(mere)) == 1
    await_nothing_hidden(mere, 150)
    project.delete()


def quietly(branch):
    with contextlib.suppress(OSError, AssertionError):
        ask(branch)


def test_it_stops_while_a_schema_is_read(new_mere):
    mere = new_mere().start()
    project = mere.create_project()
    project.main.query(OLD)
    threads = [threading.Thread(target=quietly, args=(project.main,)) for _ in range(6)]
    for t in threads:
        t.start()
    until(lambda: hidden(mere), 30, "a temporary branch")
    assert mere.stop(timeout=30) == 0
    for t in threads:
        t.join()
    mere.start()
    await_nothing_hidden(mere)
    project.delete()
