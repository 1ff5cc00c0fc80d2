"""What crosses a fork and what must not: state beside the tables, subscriptions and slots, files that are nobody's (A10 to A12)."""
import contextlib
import os
import shutil
import socket

import psycopg2
import pytest

from harness import checkers
from harness.cluster import BINDIR, Cluster
from harness.server import ApiError, lsn, scratch, until


# --- all that is not a plain table ------------------------------------------------------------------------------------------------

STATE = """
CREATE TABLE plain AS SELECT i AS n, md5(i::text) AS t, to_tsvector('simple', 'word' || i) AS v, now() - i * interval '1 hour' AS at
    FROM generate_series(1, 2000) i;
CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 100) AS n;
CREATE SEQUENCE seq;
CREATE MATERIALIZED VIEW view AS SELECT count(*) AS n FROM plain;
CREATE INDEX plain_part ON plain (n) WHERE n % 7 = 0;
CREATE INDEX plain_gin ON plain USING gin (v);
CREATE INDEX plain_brin ON plain USING brin (at);
CREATE INDEX plain_hash ON plain USING hash (t);
SELECT nextval('seq') FROM generate_series(1, 41);
SELECT lo_from_bytea(4711, decode(repeat('a1b2', 20000), 'hex'));
"""

ASK = {
    "plain": "SELECT count(*), sum(n) FROM plain",
    "partial": "SELECT count(*) FROM plain WHERE n % 7 = 0",
    "gin": "SELECT count(*) FROM plain WHERE v @@ 'word77'::tsquery",
    "brin": "SELECT count(*) FROM plain WHERE at > (SELECT max(at) FROM plain) - interval '5 hours'",
    "hash": "SELECT n FROM plain WHERE t = md5('77')",
    "large object": "SELECT length(lo_get(4711)), md5(lo_get(4711))",
    "view": "SELECT n FROM view",
    "options": "SELECT reloptions FROM pg_class WHERE relname = 'plain'",
}


def answers(branch):
    """By index where there is one."""
    with contextlib.closing(branch.connect()) as conn, conn.cursor() as cur:
        cur.execute("SET enable_seqscan = off")
        got = {}
        for name, sql in ASK.items():
            cur.execute(sql)
            got[name] = cur.fetchall()
        return got


def amcheck(branch):
    return checkers.amcheck(branch.socket_dir(), 5432, "mere_admin", branch.project.database, BINDIR)


@pytest.mark.parametrize("parent_is", ["running", "suspended", "in the past"])
def test_state_beside_the_tables(mere, project, parent_is):
    b = project.main
    b.query(STATE)
    want = answers(b)
    assert want["gin"] == [(1,)] and want["hash"] == [(77,)] and want["large object"][0][0] == 40000
    at = b.value("SELECT pg_current_wal_flush_lsn()")
    past = {}
    if parent_is == "suspended":
        b.suspend()
    if parent_is == "in the past":
        b.query("TRUNCATE plain; DROP MATERIALIZED VIEW view; SELECT lo_unlink(4711)")
        past = {"parent_lsn": at}
    child = project.branch(b, **past)
    assert answers(child) == want
    # A sequence may skip, because it logs ahead; it never gives a number twice.
    assert 42 <= child.value("SELECT nextval('seq')") <= 42 + 32
    # What was not logged is not in the WAL, and every first start is a recovery.
    assert child.value("SELECT count(*) FROM unlogged") == 0
    child.query("INSERT INTO unlogged VALUES (1); REFRESH MATERIALIZED VIEW view; INSERT INTO plain (n) VALUES (7007)")
    assert child.value("SELECT count(*) FROM plain WHERE n % 7 = 0") == 286
    assert amcheck(child) == []


def test_nothing_can_be_prepared(mere, project):
    """A prepared transaction would go on holding its locks in every branch."""
    project.main.query("CREATE TABLE t (n int)")
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
        project.main.query("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'x'")


def test_sessions_stay_with_the_parent(mere, project):
    b = project.main
    with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_advisory_lock(7); LISTEN x; CREATE TEMP TABLE mine (n int); CREATE TABLE open_one (n int)")
        cur.execute("BEGIN; INSERT INTO open_one VALUES (1)")
        child = project.branch(b)
        assert child.value("SELECT pg_try_advisory_lock(7)") is True
        assert child.value("SELECT count(*) FROM open_one") == 0
        child.query("DROP TABLE open_one")  # nobody holds a lock on it there
        with pytest.raises(psycopg2.errors.UndefinedTable):
            child.query("SELECT * FROM mine")
        cur.execute("COMMIT")
    assert b.value("SELECT count(*) FROM open_one") == 1


# --- logical replication -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def publisher():
    """A stock server that publishes one table."""
    base = scratch("mere-pub-")
    c = Cluster(base, "pub", ("wal_level=logical", "max_wal_senders=5", "max_replication_slots=5", "wal_sender_timeout=5s")).initdb().start()
    c.socket.chmod(0o755)
    c.query("CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1)")
    c.query("CREATE PUBLICATION p FOR TABLE t")
    yield c
    c.stop()
    shutil.rmtree(base, ignore_errors=True)


def admin(branch, sql, fetch=True):
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        cur.execute(sql)
        return cur.fetchall() if fetch and cur.description else []


def subscribe(branch, publisher):
    branch.query("SELECT 1")
    branch.act("restart")  # no worker runs in a first start
    branch.query("CREATE TABLE t (n int PRIMARY KEY)")
    admin(branch, f"CREATE SUBSCRIPTION s CONNECTION 'host={publisher.socket} port=5432 user=super dbname=postgres' PUBLICATION p")
    until(lambda: branch.value("SELECT count(*) FROM t") == 1, 30, "the first copy")


def confirmed(publisher):
    return lsn(publisher.value("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'"))


@pytest.mark.expect_log("subscription")
@pytest.mark.parametrize("parent_is", ["running", "suspended", "in the past"])
def test_a_subscription_stays_with_the_parent(mere, project, publisher, parent_is):
    b = project.main
    subscribe(b, publisher)
    admin(b, "SELECT pg_create_physical_replication_slot('kept', true)")
    b.query("CREATE TABLE behind_the_copy ()")  # the worker's commit is not flushed by itself at once; this one takes it along
    at = b.value("SELECT pg_current_wal_flush_lsn()")
    if parent_is == "suspended":
        b.suspend()
    child = project.branch(b, **({"parent_lsn": at} if parent_is == "in the past" else {}))
    child.query("SELECT 1")
    if parent_is == "running":  # the parent itself goes on with the same process
        assert publisher.value("SELECT count(*) FROM pg_stat_replication") == 1
    assert admin(child, "SELECT subname, subenabled FROM pg_subscription") == [("s", False)]
    assert admin(child, "SELECT count(*) FROM pg_replication_slots") == [(0,)]
    assert admin(child, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%'") == [(0,)]
    # Nobody but the parent moves its slot, and only the parent gets what is published: here and after the next start.
    before = confirmed(publisher)
    publisher.query("INSERT INTO t VALUES (2)")
    child.suspend()
    assert child.value("SELECT count(*) FROM t") == 1
    assert admin(child, "SELECT subenabled FROM pg_subscription") == [(False,)]
    until(lambda: b.value("SELECT count(*) FROM t") == 2, 30, "the parent to get what is published")
    until(lambda: confirmed(publisher) > before, 30, "the slot to move on")
    assert admin(b, "SELECT subenabled FROM pg_subscription") == [(True,)]
    assert admin(b, "SELECT slot_name FROM pg_replication_slots") == [("kept",)]
    assert child.value("SELECT count(*) FROM t") == 1
    # Whoever wants it in the child after all makes it his own.
    admin(child, "ALTER SUBSCRIPTION s SET (slot_name = NONE)", fetch=False)
    admin(child, "DROP SUBSCRIPTION s", fetch=False)
    grandchild = project.branch(child)
    assert admin_count(grandchild) == 0
    for one in (grandchild, child):
        one.suspend()
    admin(b, "DROP SUBSCRIPTION s", fetch=False)


def admin_count(branch):
    branch.query("SELECT 1")
    return admin(branch, "SELECT count(*) FROM pg_subscription")[0][0]


def test_a_branch_of_a_parent_without_subscriptions_can_have_one(mere, project, publisher):
    """It begins to work at the next start: in its first one no worker runs."""
    child = project.branch(project.main)
    child.query("CREATE TABLE t (n int PRIMARY KEY)")
    admin(child, f"CREATE SUBSCRIPTION s CONNECTION 'host={publisher.socket} port=5432 user=super dbname=postgres' PUBLICATION p")
    child.act("restart")
    until(lambda: child.value("SELECT count(*) FROM t") == 1, 30, "the first copy")
    admin(child, "DROP SUBSCRIPTION s", fetch=False)


# --- files that do not belong there -----------------------------------------------------------------------------------------------


def make_link(path):
    os.symlink("/tmp", path)


def make_socket(path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(str(path))


ODD = {"link": make_link, "fifo": os.mkfifo, "socket": make_socket}


def volumes(mere):
    return {e.name for e in os.scandir(mere.data / "volumes") if not e.name.startswith(".")}


@pytest.mark.expect_log("symbolic link|fifo|socket|image|fork")
@pytest.mark.parametrize("where", ["", pytest.param("base/1/", marks=pytest.mark.slow)])
@pytest.mark.parametrize("odd", ODD)
def test_what_is_neither_file_nor_directory_is_not_copied(mere, project, odd, where):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    path = b.pgdata() / f"{where}odd"
    ODD[odd](path)
    before, names = volumes(mere), {x["name"] for x in project.branches()}
    with pytest.raises(ApiError) as e:
        child = project.branch(b)
        child.query("SELECT 1")
    assert "odd" in str(e.value), e.value
    assert {x["name"] for x in project.branches()} == names
    until(lambda: volumes(mere) <= before, 20, "what was begun to be gone")
    path.unlink()
    assert project.branch(b).value("SELECT n FROM t") == 1


@pytest.mark.expect_log("WAL directory|could not be|prepare")
def test_a_wal_directory_of_another_branch_is_not_used(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    child = project.branch(b)
    child.query("INSERT INTO t VALUES (2)")
    child.suspend()
    link = child.pgdata() / "pg_wal"
    own = os.readlink(link)
    for wrong in (str(mere.data / "wal" / b.id / "pg_wal"), "/tmp"):
        os.unlink(link)
        os.symlink(wrong, link)
        with pytest.raises(psycopg2.OperationalError) as e:
            child.query("SELECT 1")
        assert "not its own" in str(e.value), e.value
        assert not child.postmaster()
    os.unlink(link)
    os.symlink(own, link)
    until(lambda: works(child), 20, "the start after the back-off")
    assert child.value("SELECT count(*) FROM t") == 2 and b.value("SELECT count(*) FROM t") == 1


def works(branch):
    try:
        return branch.value("SELECT 1") == 1
    except psycopg2.OperationalError:
        return False
