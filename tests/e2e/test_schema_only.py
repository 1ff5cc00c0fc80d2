"""Schema-only branches: all that is in the parent's databases except its rows, and nobody reaches what lies before."""
import contextlib
import uuid

import psycopg2
import pytest

from harness.server import lsn

SCHEMA = """
    CREATE SCHEMA app;
    CREATE TYPE app.mood AS ENUM ('sad', 'happy');
    CREATE TABLE app.people (id serial PRIMARY KEY, name text NOT NULL, mood app.mood DEFAULT 'happy', big text);
    CREATE TABLE pets (id int GENERATED ALWAYS AS IDENTITY, owner int REFERENCES app.people (id), parent int);
    ALTER TABLE pets ADD PRIMARY KEY (id), ADD FOREIGN KEY (parent) REFERENCES pets (id);
    CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
    CREATE INDEX ON app.people (lower(name));
    CREATE VIEW names AS SELECT name FROM app.people;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM app.people;
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('is_superuser') = 'on' THEN EXECUTE 'ALTER ROLE ' || quote_ident(TG_ARGV[0]) || ' SUPERUSER'; END IF;
        RETURN NULL; END $$;
"""
ROWS = """
    INSERT INTO app.people (name, big) SELECT 'secret ' || i, repeat(md5(i::text), 200) FROM generate_series(1, 500) AS i;
    INSERT INTO pets (owner, parent) SELECT i, NULLIF(i - 1, 0) FROM generate_series(1, 100) AS i;
    INSERT INTO parts SELECT i, 'secret' FROM generate_series(0, 99) AS i;
    SELECT lo_from_bytea(0, 'secret');
    REFRESH MATERIALIZED VIEW counted;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def parent(mere):
    p = mere.create_project()
    with contextlib.closing(p.main.connect()) as conn, conn.cursor() as cur:
        cur.execute(SCHEMA)
        for n, kind in enumerate(("ENABLE ALWAYS", "ENABLE REPLICA", "ENABLE")):
            cur.execute(f"CREATE TRIGGER tell_{n} AFTER TRUNCATE ON app.people EXECUTE FUNCTION tell('{p.role}');"
                        f"ALTER TABLE app.people {kind} TRIGGER tell_{n}")
        cur.execute(ROWS)
    other = p.call("POST", p.main.path("/databases"), {"database": {"name": "other", "owner_name": p.role}})
    mere.wait_operations(p.id, other)
    p.main.query("CREATE TABLE o AS SELECT 1 AS one", database="other")
    yield p
    p.delete()


def make(p, name=None, **fields):
    return p.branch(p.main, name or "s-" + uuid.uuid4().hex[:6], init_source="schema-only", **fields)


def schema(branch, database="neondb"):
    return branch.project.call("GET", branch.path(f"/schema?db_name={database}"))["sql"]


def rows_of(branch):
    tables = ("app.people", "pets", "parts", "parts_1", "names", "pg_largeobject_metadata", "pg_statistic_ext")
    return {t: branch.value(f"SELECT count(*) FROM {t}") for t in tables}


def triggers(branch):
    return branch.query("SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1")


def test_all_but_the_rows(mere, parent):
    b = make(parent)
    assert b.body["init_source"] == "schema-only" and not [k for k in b.body if k.startswith("parent")]
    assert schema(b) == schema(parent.main), "before its first start"
    assert set(rows_of(b).values()) == {0}
    assert b.value("SELECT count(*) FROM o", database="other") == 0
    assert schema(b) == schema(parent.main) and schema(b, "other") == schema(parent.main, "other")
    assert triggers(b) == triggers(parent.main) and [t[1] for t in triggers(b)] == ["A", "R", "O"]
    assert b.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False, "a trigger was run by a superuser"
    assert b.value("INSERT INTO app.people (name) VALUES ('first') RETURNING id") == 1, "the sequence goes on where the parent's was"
    assert b.value("INSERT INTO pets (owner) VALUES (1) RETURNING id") == 1
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
        b.query("SELECT * FROM counted")
    b.query("REFRESH MATERIALIZED VIEW counted")
    assert b.value("SELECT n FROM counted") == 1
    assert parent.main.value("SELECT count(*) FROM app.people") == 500
    b.delete()


def test_nothing_of_the_rows_is_on_its_disk(mere, parent):
    b = make(parent)
    assert b.value("SELECT 1") == 1
    b.suspend()
    parent.main.suspend()  # what it holds is on its disk by then
    found = [f for f in b.pgdata().rglob("*") if f.is_file() and b"secret" in f.read_bytes().replace(b"secret'", b"")]
    source = [f for f in parent.main.pgdata().rglob("*") if f.is_file() and b"secret " in f.read_bytes()]
    assert source, "nor on the parent's, so this shows nothing"
    assert not found, found
    b.delete()


def test_its_history_begins_with_it(mere, parent):
    b = make(parent)
    assert b.value("SELECT count(*) FROM pets") == 0
    begins = mere.rows("SELECT begins_lsn, fork_lsn, parent_lsn FROM branch WHERE id = ?", b.id)[0]
    history = b.refresh()["history"]
    assert lsn(history["earliest_lsn"]) == begins["begins_lsn"] > begins["fork_lsn"]
    before = f"{begins['parent_lsn'] >> 32:X}/{begins['parent_lsn'] & 0xffffffff:X}"
    for where in ({"parent_lsn": before}, {"parent_timestamp": "2001-01-01T00:00:00Z"}):
        status, _, reply = mere.request("POST", parent.path("/branches"), {"branch": {"parent_id": b.id, **where}})
        assert status == 422 and "before the history" in reply["message"], (where, reply)
    child = parent.branch(b, "of-" + b.name)
    assert child.value("SELECT count(*) FROM app.people") == 0 and "init_source" not in child.body and child.body["parent_id"] == b.id
    status, _, reply = mere.request("POST", parent.path("/branches"), {"branch": {"parent_id": child.id, "parent_lsn": before}})
    assert status == 422 and "before the history" in reply["message"], reply
    status, _, reply = mere.request("POST", parent.path(b.path("/reset_to_parent")))
    assert status == 422 and "root" in reply["message"]
    child.delete()
    b.delete()


def test_made_of_one_that_was_never_started(mere, parent):
    """Child, snapshot and schema of a branch that still lies there as it was cloned: none of them shows a row."""
    b = make(parent)
    child = parent.branch(b, "child-" + b.name)
    snapshot = parent.call("POST", b.path("/snapshot?name=s"))["snapshot"]
    made = parent.call("POST", f"/snapshots/{snapshot['id']}/restore", {"name": "of-snapshot-" + b.name})
    mere.wait_operations(parent.id, made)
    endpoint = parent.call("POST", "/endpoints", {"endpoint": {"branch_id": made["branch"]["id"], "type": "read_write"}})["endpoint"]
    assert child.value("SELECT count(*) FROM app.people") == 0
    with contextlib.closing(psycopg2.connect(**mere.dsn(parent.role, parent.password, endpoint=endpoint["id"]))) as conn, conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM app.people")
        assert cur.fetchone() == (0,)
    assert b.value("SELECT count(*) FROM app.people") == 0
    for ref in (made["branch"]["id"], child.id, b.id):
        mere.wait_operations(parent.id, parent.call("DELETE", f"/branches/{ref}?hard_delete=true"))
    mere.wait_operations(parent.id, parent.call("DELETE", f"/snapshots/{snapshot['id']}", expect=(202,)))


def test_readers_wait_for_the_schema(mere, parent, expect_log):
    expect_log("cannot prepare", "could not be prepared")
    b = make(parent)
    reader = parent.call("POST", "/endpoints", {"endpoint": {"branch_id": b.id, "type": "read_only"}})["endpoint"]
    dsn = mere.dsn(parent.role, parent.password, endpoint=reader["id"])
    with pytest.raises(psycopg2.OperationalError) as e:
        psycopg2.connect(**dsn)
    assert "could not be started" in str(e.value)
    assert b.value("SELECT count(*) FROM app.people") == 0
    mere.wait_operations(parent.id, parent.call("POST", f"/endpoints/{reader['id']}/start"))
    with contextlib.closing(psycopg2.connect(**dsn)) as conn, conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM app.people")
        assert cur.fetchone() == (0,)
    b.delete()


def test_restored_over_another(mere, parent):
    """A branch that takes over what was never started takes over that it is to be emptied."""
    b, target = make(parent), parent.branch(parent.main, "target")
    assert target.value("SELECT count(*) FROM pets") == 100
    mere.wait_operations(parent.id, parent.call("POST", target.path("/restore"), {"source_branch_id": b.id}))
    assert target.value("SELECT count(*) FROM pets") == 0
    target.delete()
    b.delete()


def test_with_a_time_to_live(mere, parent):
    b = make(parent, ttl_seconds=3600)
    assert b.body["expires_at"]
    b.delete()


def test_killed_while_it_is_emptied(new_mere):
    m = new_mere(crash=True)
    m.start(env={"CRASH_AT": "start.emptied:1"})
    p = m.create_project()
    p.main.query("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i")
    b = make(p)
    with pytest.raises(psycopg2.OperationalError):
        b.connect()
    m.wait()
    m.disturbed = True
    m.start()
    assert b.value("SELECT count(*) FROM t") == 0 and p.main.value("SELECT count(*) FROM t") == 1000
