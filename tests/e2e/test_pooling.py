"""Pooled connections: the host with -pooler, through a real PgBouncer beside the compute."""
import contextlib
import os
import pwd
import re
import signal
import stat
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from harness import procs, wire
from harness.server import until

CROWD = 200
POOL = 9  # max_connections 14, of which 4 are kept, and one to ask about clients


def where(branch, **kw):
    """Keyword arguments of a pooled connection."""
    return {"endpoint": branch.endpoint_id + "-pooler", **kw}


def pooled(branch, **kw):
    return contextlib.closing(branch.connect(**where(branch, **kw)))


def value(branch, sql="SELECT 1", **kw):
    return branch.value(sql, **where(branch, **kw))


def pid_of(conn):
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        return cur.fetchone()[0]


def refusal(branch, password=None, words="", user=None, database="neondb", **params):
    p = branch.project
    return wire.refusal(branch.mere.pg_host, branch.mere.pg_port, password or p.password, user=user or p.role, database=database,
                        options=f"endpoint={branch.endpoint_id}-pooler{words}", **params)


def denied(branch, **kw):
    """Kept out, and not for another reason than the password."""
    try:
        value(branch, **kw)
    except psycopg2.OperationalError as e:
        assert "password authentication failed" in str(e)
        return True
    return False


@contextlib.contextmanager
def by_hand(branch, **params):
    with wire.Wire(branch.mere.pg_host, branch.mere.pg_port) as w:
        w.told = w.login(branch.project.password, user=branch.project.role, database="neondb",
                         options=f"endpoint={branch.endpoint_id}-pooler", **params)
        yield w


@pytest.fixture
def few(project):
    """main with few connections."""
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {"max_connections": str(POOL + 5)}})
    b.suspend()
    return b


# --- what it is for ------------------------------------------------------------------------------------------------------------------


def test_many_clients_on_few_sessions(mere, few):
    """200 at once on a sleeping endpoint: one start, one pooler, and nine sessions for all."""
    generation, gate = few.generation(), threading.Barrier(CROWD, timeout=120)  # one that fails must not keep the others

    def client(i):
        gate.wait()
        with pooled(few) as conn, conn.cursor() as cur:
            seen = set()
            for _ in range(3):
                cur.execute("SELECT pg_backend_pid(), %s::int, pg_sleep(0.01)", (i,))
                pid, mine, _ = cur.fetchone()
                assert mine == i
                seen.add(pid)
            gate.wait()  # all are connected at once
            return seen

    with ThreadPoolExecutor(CROWD) as pool:
        pids = set().union(*pool.map(client, range(CROWD)))
    assert 1 < len(pids) <= POOL
    assert few.generation() == generation + 1
    assert list(mere.poolers().values()) == [few.endpoint_id]


def test_an_endpoint_that_nobody_pools_pays_nothing(mere, project):
    assert project.main.value("SELECT 1") == 1
    assert mere.poolers() == {}
    for top in mere.runtime_dirs():
        assert os.listdir(os.path.join(top, "pool")) == []


def test_a_session_is_a_clients_for_one_transaction(project):
    b = project.main
    with pooled(b) as one, pooled(b) as two:
        with one.cursor() as cur:
            cur.execute("BEGIN")
        pid = pid_of(one)
        assert pid_of(one) == pid and pid_of(two) != pid
        with one.cursor() as cur:
            cur.execute("COMMIT")
        assert pid_of(two) == pid, "the session that was used last serves the next one"


def test_what_is_kept_apart(project):
    """Two clients on one session see their own of what PgBouncer keeps track of."""
    b = project.main
    with pooled(b, application_name="one") as one, pooled(b, application_name="two") as two:
        for _ in range(2):
            for conn, name in ((one, "one"), (two, "two")):
                with conn.cursor() as cur:
                    cur.execute("SHOW application_name")
                    assert cur.fetchone()[0] == name
        assert pid_of(one) == pid_of(two)
    with by_hand(b, TimeZone="Asia/Tokyo", DateStyle="German", client_encoding="LATIN1", extra_float_digits=3, replication="off") as w:
        assert w.query("SHOW TimeZone") == [["Asia/Tokyo"]] and w.query("SHOW DateStyle") == [["German, DMY"]]
        assert w.told["client_encoding"] == "LATIN1" and w.told["application_name"] == ""


def test_named_prepared_statements(project):
    """Postgres has them by session: without PgBouncer's help another session knows none.  The API says which it is."""
    b = project.main
    with by_hand(b) as one, by_hand(b) as two:
        one.send(b"P", b"s1\0SELECT 42\0" + struct.pack("!H", 0))
        one.send(b"S", b"")
        assert [one.message()[0] for _ in range(2)] == [b"1", b"Z"]
        two.query("BEGIN")  # now the session on which s1 lives serves somebody else
        one.send(b"B", b"\0s1\0" + struct.pack("!HHH", 0, 0, 0))
        one.send(b"E", b"\0" + struct.pack("!I", 0))
        one.send(b"S", b"")
        works = b.endpoint()["pooler_capabilities"]["prepared_statements"]
        if works:
            assert one.message()[0] == b"2" and one.message()[1].endswith(b"42")
        else:
            with pytest.raises(wire.Refused) as e:
                one.message()
            assert e.value.sqlstate == "26000"
        two.query("ROLLBACK")
    version = subprocess.run(["/usr/sbin/pgbouncer", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, re.match(r"PgBouncer (\d+)\.(\d+)", version).groups())
    assert works == ((major, minor) >= (1, 21))


def test_cancel(project):
    b = project.main
    with pooled(b) as conn, conn.cursor() as cur:
        timer = threading.Timer(0.5, conn.cancel)
        timer.start()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cur.execute("SELECT pg_sleep(60)")
        timer.join()
        cur.execute("SELECT 1")


def test_a_reader_is_pooled_too(mere, project):
    body = project.call("POST", "/endpoints", {"endpoint": {"branch_id": "main", "type": "read_only"}})
    mere.wait_operations(project.id, body)
    ep = body["endpoint"]["id"]
    project.main.query("CREATE TABLE t AS SELECT 7 AS n")
    until(lambda: project.main.value("SELECT to_regclass('t') IS NOT NULL", endpoint=ep), 20, "the reader to have it")
    assert project.main.value("SELECT n FROM t", endpoint=ep + "-pooler") == 7
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        project.main.query("INSERT INTO t VALUES (1)", endpoint=ep + "-pooler")
    assert list(mere.poolers().values()) == [ep]


# --- who comes in --------------------------------------------------------------------------------------------------------------------


def test_roles_and_passwords_by_the_api(mere, project):
    b = project.main
    assert value(b, "SELECT current_user") == project.role
    body = project.call("POST", b.path("/roles"), {"role": {"name": 'odd "one"'}})
    mere.wait_operations(project.id, body)
    for _ in range(5):
        password = body["role"]["password"]
        assert value(b, "SELECT current_user", user='odd "one"', password=password) == 'odd "one"'
        body = project.call("POST", b.path("/roles/odd%20%22one%22/reset_password"))
        mere.wait_operations(project.id, body)
        assert refusal(b, password=password, user='odd "one"').sqlstate == "28P01"
    assert value(b, user='odd "one"', password=body["role"]["password"]) == 1
    mere.wait_operations(project.id, project.call("DELETE", b.path("/roles/odd%20%22one%22")))
    assert refusal(b, password=body["role"]["password"], user='odd "one"').sqlstate == "28P01"


def test_roles_and_passwords_by_sql(project):
    """The pooler has been told before the login that needs it, each time."""
    b = project.main
    assert value(b) == 1
    with contextlib.closing(b.admin()) as admin, admin.cursor() as cur:
        for i in range(10):
            cur.execute(f"CREATE ROLE r{i} LOGIN PASSWORD 'first'")
            assert value(b, "SELECT current_user", user=f"r{i}", password="first") == f"r{i}"
            cur.execute(f"ALTER ROLE r{i} PASSWORD 'second'")
            assert value(b, user=f"r{i}", password="second") == 1
            assert refusal(b, password="first", user=f"r{i}").sqlstate == "28P01"
        cur.execute("ALTER ROLE r0 VALID UNTIL '2001-01-01'")
        assert refusal(b, password="second", user="r0").sqlstate == "28P01"
        cur.execute("ALTER ROLE r1 NOLOGIN")  # shows in no challenge: known when the catalogue is read next
        until(lambda: denied(b, password="second", user="r1"), 20, "a role that may not log in to be kept out")
        cur.execute("".join(f"DROP ROLE r{i};" for i in range(10)))
        assert refusal(b, password="second", user="r2").sqlstate == "28P01"


def test_a_denial_says_what_a_direct_one_says(project):
    b = project.main
    direct = wire.refusal(b.mere.pg_host, b.mere.pg_port, "wrong", user=project.role, database="neondb", options=f"endpoint={b.endpoint_id}")
    for denied in (refusal(b, password="wrong"), refusal(b, user="nobody_here"), refusal(b, user="pgbouncer")):
        assert denied.sqlstate == "28P01" and denied.fields["H"] == direct.fields["H"]


def test_an_old_session_goes_on_after_a_change_of_password(project):
    b = project.main
    assert value(b) == 1
    with contextlib.closing(b.admin()) as admin, admin.cursor() as cur:
        cur.execute("CREATE ROLE old LOGIN PASSWORD 'first'")
        with pooled(b, user="old", password="first") as conn:
            pid_of(conn)
            cur.execute("ALTER ROLE old PASSWORD 'second'")
            cur.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'old'")
            assert value(b, user="old", password="second") == 1  # the pooler learns the key
            pid_of(conn)
        cur.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'old'")
        cur.execute("DROP ROLE old")


def test_what_a_pooled_connection_cannot_have(project):
    b = project.main
    b.suspend()
    for asked in ({"words": " -c geqo=off"}, {"words": " neon_lsn:0/16B3748"}, {"search_path": "x"}, {"statement_timeout": 5}, {"database": "pgbouncer"}):
        e = refusal(b, **asked)
        assert e.sqlstate == "0A000" and f'"{b.endpoint_id}"' in e.fields["H"], (asked, e)
    assert b.endpoint()["current_state"] == "idle", "nothing was woken for them"


def test_a_database_that_is_not_there(project):
    e = refusal(project.main, database="nope")
    assert "does not exist" in e.message


# --- sleep -----------------------------------------------------------------------------------------------------------------------------


def test_idle_clients_sleep_and_come_back(mere, project):
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    with by_hand(b) as one, by_hand(b) as two:
        assert one.query("SELECT 1") == [["1"]] and two.query("SELECT 1") == [["1"]]
        assert b.pooler()
        b.await_state("idle", 25)
        for w in (one, two):
            with pytest.raises(wire.Refused) as e:
                w.message()
            assert e.value.sqlstate == "57P01"
            with pytest.raises(EOFError):
                w.message()
    assert mere.poolers() == {}
    assert value(b) == 1


def test_what_keeps_it_awake(project):
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    with pooled(b) as conn, conn.cursor() as cur:
        generation = b.generation()
        cur.execute("SELECT pg_sleep(4)")
        cur.execute("BEGIN; SELECT 1")
        with contextlib.suppress(AssertionError):
            b.await_state("idle", 4)
        cur.execute("COMMIT")
        assert b.generation() == generation
    b.await_state("idle", 25)


def test_a_suspend_by_the_api_ends_queries(mere, few):
    """Also of those who wait for a session: all are told why, as direct sessions are."""
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(POOL + 3) as pool:
        clients = [stack.enter_context(by_hand(few)) for _ in range(POOL + 3)]
        for w in clients:
            w.send(b"Q", b"SELECT pg_sleep(60)\0")
        waiting = [pool.submit(w.message) for w in clients]
        with contextlib.closing(few.admin()) as admin, admin.cursor() as cur:
            until(lambda: cur.execute(asleep) or cur.fetchone()[0] >= POOL - 1, 10, "the queries to run")  # the look takes a session, too
        few.suspend()
        for w in waiting:
            with pytest.raises(wire.Refused) as e:
                w.result(20)
            assert e.value.sqlstate == "57P01"
    assert mere.poolers() == {}
    assert value(few) == 1


# --- when things go wrong ----------------------------------------------------------------------------------------------------------


@pytest.mark.expect_log("pgbouncer ended by itself")
def test_a_crash_of_the_pooler(mere, project):
    b = project.main
    with by_hand(b) as w, contextlib.closing(b.connect()) as direct:
        w.query("SELECT 1")
        generation, first = b.generation(), b.pooler()
        procs.kill(first)
        with pytest.raises(wire.Refused) as e:
            w.message()
        assert e.value.sqlstate == "57P02" and "pooler" in e.value.message
        for _ in range(20):
            assert value(b) == 1
        assert b.pooler() not in (0, first) and b.generation() == generation
        pid_of(direct)


@pytest.mark.expect_log("postgres ended by itself", "pgbouncer ended by itself", "cannot see the activity")
def test_a_crash_of_the_compute(mere, project):
    b = project.main
    with pooled(b) as conn, conn.cursor() as cur:
        cur.execute("CREATE TABLE t AS SELECT 1 AS n")
        pids = [p.pid for p in b.compute()]
        for pid in pids:
            procs.kill(pid)
        with pytest.raises(psycopg2.OperationalError):
            for _ in range(100):
                cur.execute("SELECT 1")

    def is_served():  # until mered has seen the end, the pooler still lets clients in
        with contextlib.suppress(psycopg2.OperationalError):
            return value(b, "SELECT n FROM t") == 1

    until(is_served, 20, "a new compute")
    assert len(mere.poolers()) == 1


def test_it_outlives_mered(mere, project):
    b = project.main
    with pooled(b) as conn:
        pid, pooler, generation = pid_of(conn), b.pooler(), b.generation()
        mere.kill9()
        pid_of(conn)
        assert value(b) == 1, "new sessions come in without mered"
        mere.start()
        assert pid_of(conn) and b.pooler() == pooler and b.generation() == generation
        with contextlib.closing(b.admin()) as admin, admin.cursor() as cur:
            cur.execute("CREATE ROLE later LOGIN PASSWORD 'x'")
            assert value(b, user="later", password="x") == 1
            cur.execute("DROP OWNED BY later; DROP ROLE later")
        assert b.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid) <= 1
    b.suspend()
    assert mere.poolers() == {}


@pytest.mark.expect_log("pgbouncer ended by itself")
def test_its_end_while_mered_is_away(mere, project):
    b = project.main
    assert value(b) == 1
    pooler = b.pooler()
    mere.kill9()
    procs.kill(pooler)
    assert procs.wait_gone([pooler])
    mere.start()
    assert value(b) == 1 and b.pooler() not in (0, pooler)


def test_the_end_of_its_compute_while_mered_is_away(mere, project, expect_log):
    expect_log("postgres ended by itself", "pgbouncer ended by itself")
    b = project.main
    assert value(b) == 1
    pids = [p.pid for p in b.compute()]
    mere.kill9()
    for pid in pids:
        procs.kill(pid)
    assert procs.wait_gone(pids)
    mere.start()
    assert mere.poolers() == {}
    assert value(b) == 1


def test_a_kill_between_its_start_and_its_watch(new_mere):
    m = new_mere(crash=True)
    m.start(env={"CRASH_AT": "pooler.spawned:1"})
    b = m.create_project().main
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(value, b)
        assert m.wait(30) == 128 + signal.SIGKILL
        m.disturbed = True
        m.start()
        assert waiting.result(30) == 1, "the client waits for the next mered"
    until(lambda: len(m.poolers()) == 1, 10, "one pooler to be there, and no more")


@pytest.mark.root
def test_as_an_ordinary_user(new_mere):
    """Everything runs as that user, whom PgBouncer would let into its console by peer: no client gets there."""
    m = new_mere(user="nobody", store="copy")
    m.start()
    b = m.create_project().main
    assert value(b) == 1
    assert os.stat(f"/proc/{b.pooler()}").st_uid == pwd.getpwnam("nobody").pw_uid
    assert refusal(b, user="pgbouncer", database="pgbouncer").sqlstate == "0A000"
    with contextlib.closing(b.connect(**where(b))) as conn:
        pooler = b.pooler()
        m.kill9()
        m.start()
        pid_of(conn)
        assert b.pooler() == pooler
    b.suspend()
    assert m.poolers() == {}


# --- with none -------------------------------------------------------------------------------------------------------------------------


def test_without_pgbouncer(new_mere, workdir):
    program = workdir / "pgbouncer"
    m = new_mere(config={"pgbouncer": str(program)})
    m.start()
    p = m.create_project()
    b = p.main
    b.suspend()
    e = refusal(b)
    assert e.sqlstate == "0A000" and "PgBouncer" in e.message and "package pgbouncer" in e.fields["H"]
    assert b.endpoint()["current_state"] == "idle", "nothing was woken for it"
    assert refusal(b, password="wrong").sqlstate == "28P01", "strangers are told nothing of it"
    assert b.value("SELECT 1") == 1
    endpoint = b.endpoint()
    assert endpoint["pooler_enabled"] is False and endpoint["pooler_capabilities"] == {"installed": False, "prepared_statements": False}
    assert m.request("GET", p.path("/connection_uri?pooled=true"))[0] == 422
    status, _, body = m.request("PATCH", p.path(f"/endpoints/{b.endpoint_id}"), {"endpoint": {"pooler_enabled": True}})
    assert status == 422 and body["errors"][0]["pointer"] == "/endpoint/pooler_enabled", body
    assert p.call("GET", "/doctor")["pooler"] == {"installed": False, "prepared_statements": False}
    program.symlink_to("/usr/sbin/pgbouncer")  # it is installed while we run
    assert value(b) == 1
    endpoint = b.endpoint()
    assert endpoint["pooler_enabled"] is True and endpoint["pooler_capabilities"]["version"].startswith("1.")
    p.call("PATCH", f"/endpoints/{b.endpoint_id}", {"endpoint": {"pooler_enabled": True}})
    assert p.call("GET", "/doctor")["pooler"]["installed"] is True


def test_a_pgbouncer_that_does_not_start(new_mere, workdir, expect_log):
    expect_log("pooler.*cannot start", "pgbouncer ended by itself")
    program = workdir / "pgbouncer"
    m = new_mere(config={"pgbouncer": str(program)})
    m.start()
    b = m.create_project().main
    for text in ('[ "$1" = --version ] && echo PgBouncer 1.18.0 && exit; exit 1', "exit 1"):
        program.write_text("#!/bin/sh\n" + text + "\n")
        program.chmod(0o755)
        e = refusal(b)
        assert e.sqlstate == "57P03" and "pooler" in e.message, e
        assert b.value("SELECT 1") == 1
    assert m.poolers() == {}


def test_an_absolute_path_is_asked_for(new_mere):
    m = new_mere(config={"pgbouncer": "pgbouncer"})
    argv = subprocess.run(m.argv(), capture_output=True, text=True, check=False, timeout=30)
    assert argv.returncode == 2 and "--pgbouncer must be an absolute path" in argv.stderr


# --- secrets -----------------------------------------------------------------------------------------------------------------------------


def test_secrets_lie_in_no_open_place(mere, project):
    b = project.main
    assert value(b) == 1
    pid = b.pooler()
    seen = procs.stat(pid).cmdline + procs.read(f"/proc/{pid}/environ")
    verifier = contextlib.closing(b.admin())
    with verifier as admin, admin.cursor() as cur:
        cur.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (project.role,))
        secret = cur.fetchone()[0]
    assert "SCRAM" not in seen and project.password not in seen
    (top,) = [t for t in mere.runtime_dirs() if os.path.isdir(os.path.join(t, "pool"))]
    here = os.path.join(top, "pool", b.endpoint_id)
    assert sorted(os.listdir(here)) == ["lock", "pgbouncer.ini", "users.txt"]
    for name in os.listdir(here):
        assert stat.S_IMODE(os.stat(os.path.join(here, name)).st_mode) == 0o600, name
    with open(os.path.join(here, "users.txt")) as f:
        assert f.read() == f'"{project.role}" "{secret}"\n'
    for path in (mere.log_path, mere.data / "logs" / f"{b.endpoint_id}.log", mere.data / "logs" / "proxy.log"):
        text = path.read_text(errors="replace")
        assert secret not in text and project.password not in text and secret.split("$")[2] not in text
    if os.getuid() == 0:
        other = pwd.getpwnam("postgres")
        spy = subprocess.run(["cat", os.path.join(here, "users.txt")], user=other.pw_uid, group=other.pw_gid, extra_groups=[],
                             capture_output=True, text=True, check=False)
        assert spy.returncode != 0 and "SCRAM" not in spy.stdout, "another compute, of the same uid, cannot read it"
        assert procs.stat(pid) and os.stat(f"/proc/{pid}").st_uid == other.pw_uid


def test_it_is_in_the_control_group_of_its_compute(project):
    b = project.main
    assert value(b) == 1
    postmaster = procs.read(f"/proc/{b.postmaster()}/cgroup")
    if b.endpoint_id not in postmaster:
        pytest.skip("no control groups here")
    until(lambda: procs.read(f"/proc/{b.pooler()}/cgroup") == postmaster, 5, "the pooler to be in the group")
