"""Parked sessions: idle connections outlive a suspend and go on as they were; what cannot be restored keeps its compute awake."""
import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import wire
from harness.fakeproxy import fake_proxy  # noqa: F401
from harness.server import until


@pytest.fixture
def main(project):
    """main, whose idle sessions are parked."""
    project.main.patch_endpoint(park_sessions=True)
    return project.main


@pytest.fixture
def sleepy(main):
    """The same, suspended after a second."""
    main.patch_endpoint(suspend_timeout_seconds=1)
    return main


def run(conn, sql, *params):
    if isinstance(conn, wire.Wire):
        return conn.query(sql)
    with conn.cursor() as cur:
        cur.execute(sql, params or None)
        return cur.fetchall() if cur.description else []


def show(conn, name):
    return run(conn, f"SHOW {name}")[0][0]


@contextlib.contextmanager
def session(branch, **kw):
    with contextlib.closing(branch.connect(**kw)) as conn:
        yield conn


def by_hand(branch, **params):
    """A connection of bytes, logged in."""
    mere, project = branch.mere, branch.project
    w = wire.Wire(mere.pg_host, mere.pg_port)
    w.told = w.login(project.password, user=project.role, database=project.database, options=f"endpoint={branch.endpoint_id}", **params)
    return w


def bind(w, name, *values):
    body = b"\0" + name + b"\0" + struct.pack("!HH", 0, len(values))
    for v in values:
        body += struct.pack("!I", len(v)) + v
    w.send(b"B", body + struct.pack("!H", 0))
    w.send(b"E", b"\0" + struct.pack("!I", 0))


def parse(w, name, sql, *oids):
    w.send(b"P", name + b"\0" + sql + b"\0" + struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def sync(w):
    """Rows up to ReadyForQuery; the first error is raised then."""
    w.send(b"S", b"")
    rows, problem = [], None
    while True:
        try:
            kind, payload = w.message()
        except wire.Refused as e:
            problem = problem or e
            continue
        if kind == b"D":
            rows.append(wire._row(payload))
        elif kind == b"Z":
            if problem:
                raise problem
            return rows


def told(mere, text):
    return (mere.data / "logs" / "proxy.log").read_text().count(text)


def ended(w):
    """How a session that was ended is told; libpq loses it where TLS was closed behind it."""
    with contextlib.suppress(OSError):
        w.send(b"Q", b"SELECT 1\0")
    with pytest.raises(wire.Refused) as e:
        w.message()
    with pytest.raises((EOFError, OSError)):
        w.message()
    return e.value.sqlstate


# --- parked and back


def test_a_session_goes_on_as_it_was(main):
    main.query("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 7 AS n")
    with contextlib.closing(main.admin()) as admin:
        run(admin, f"CREATE ROLE other; GRANT other TO {main.project.role}; GRANT USAGE ON SCHEMA s TO other; GRANT SELECT ON s.t TO other")
    with session(main) as conn:
        run(conn, "SET timezone = 'Asia/Tokyo'")
        run(conn, "SET search_path = s, public")
        run(conn, "SET statement_timeout = '77s'")
        run(conn, "SET work_mem = '12345kB'")
        run(conn, "SET datestyle = 'German'")
        run(conn, "SET role = other")
        run(conn, "PREPARE p(int) AS SELECT n + $1 FROM t")
        before = run(conn, "SELECT name, setting, source FROM pg_settings WHERE source = 'session' ORDER BY name")
        pid = run(conn, "SELECT pg_backend_pid()")
        g = main.generation()
        main.suspend()
        assert run(conn, "EXECUTE p(1)") == [(8,)]
        assert main.generation() == g + 1
        assert run(conn, "SELECT pg_backend_pid()") != pid
        assert run(conn, "SELECT current_user, session_user") == [("other", main.project.role)]
        assert show(conn, "timezone") == "Asia/Tokyo" and show(conn, "search_path") == "s, public"
        assert show(conn, "statement_timeout") == "77s" and show(conn, "work_mem") == "12345kB" and show(conn, "datestyle") == "German, DMY"
        assert run(conn, "SELECT name, setting, source FROM pg_settings WHERE source = 'session' ORDER BY name") == before
        assert conn.get_parameter_status("TimeZone") == "Asia/Tokyo"
        run(conn, "RESET role")


def test_again_and_again(main):
    with session(main) as conn:
        run(conn, "SET work_mem = '9MB'")
        run(conn, "PREPARE p AS SELECT 1 AS one")
        for i in range(3):
            main.suspend()
            assert run(conn, "EXECUTE p") == [(1,)] and show(conn, "work_mem") == "9MB", i


def test_the_idle_limit_parks(sleepy):
    with session(sleepy) as conn:
        run(conn, "SET work_mem = '9MB'")
        sleepy.await_state("idle", 30)
        assert show(conn, "work_mem") == "9MB"
        sleepy.await_state("idle", 30)
        assert show(conn, "work_mem") == "9MB"


def test_without_the_wish_sessions_end_as_ever(project):
    assert project.main.endpoint()["park_sessions"] is False
    with by_hand(project.main) as conn:
        run(conn, "SELECT 1")
        project.main.suspend()
        assert ended(conn) == "57P01"


def test_a_session_from_before_the_wish_is_not_parked(project):
    with by_hand(project.main) as conn:
        run(conn, "SELECT 1")
        project.main.patch_endpoint(park_sessions=True)
        assert project.main.endpoint()["park_sessions"] is True
        project.main.suspend()
        assert ended(conn) == "57P01"


def test_statements_of_the_protocol(main):
    main.query("CREATE TABLE t AS SELECT 1 AS n, 'x'::text AS word")
    with by_hand(main) as w:
        parse(w, b"named", b"SELECT n + $1, word FROM t", 23)
        parse(w, b"", b"SELECT $1 || word FROM t")
        assert sync(w) == []
        main.suspend()
        bind(w, b"named", b"41")
        bind(w, b"", b"y")
        assert sync(w) == [["42", "x"], ["yx"]]
        assert w.query("SELECT name FROM pg_prepared_statements") == [["named"]], "nothing of ours is left"
        with pytest.raises(wire.Refused) as e:
            bind(w, b"", b"y")
            sync(w)
        assert e.value.sqlstate == "26000", "a Query has dropped the unnamed one, as ever"


def test_the_unnamed_statement_stays_where_nothing_is_parked(sleepy):
    """Our questions are asked in the client's own session."""
    with by_hand(sleepy) as w:
        w.query("LISTEN x")  # is never parked
        g = sleepy.generation()
        parse(w, b"", b"SELECT 1")
        sync(w)
        time.sleep(3)
        assert sleepy.generation() == g
        bind(w, b"")
        assert sync(w) == [["1"]]


def test_half_a_message_wakes(main):
    with by_hand(main) as w:
        main.suspend()
        message = b"Q" + struct.pack("!I", 13) + b"SELECT 5\0"
        w.sock.sendall(message[:3])
        main.await_state("active", 30)
        w.sock.sendall(message[3:])
        rows = []
        while True:
            kind, payload = w.message()
            if kind == b"D":
                rows.append(wire._row(payload))
            if kind == b"Z":
                break
        assert rows == [["5"]]


def test_what_changed_meanwhile_is_told(main, expect_log):
    """Defaults that a new login would get, and the session would not have: it ends rather than going on with others."""
    expect_log("a session could not be restored")
    with by_hand(main) as conn, by_hand(main) as same:
        main.suspend()
        main.query("ALTER ROLE CURRENT_USER SET work_mem = '3MB'")
        assert ended(conn) == ended(same) == "57P01"


def test_a_statement_of_another_shape_is_told(main, expect_log):
    expect_log("a session could not be restored")
    main.query("CREATE TABLE t AS SELECT 1 AS n")
    with by_hand(main) as w:
        parse(w, b"s", b"SELECT * FROM t")
        sync(w)
        main.suspend()
        main.query("ALTER TABLE t ADD COLUMN m int DEFAULT 2")
        bind(w, b"s")
        with pytest.raises(wire.Refused) as e:
            w.message()
        assert e.value.sqlstate == "57P01" and "prepared statements" in e.value.message


def test_another_password_ends_it(main):
    with by_hand(main) as conn:
        main.suspend()
        main.query("ALTER ROLE CURRENT_USER PASSWORD 'another-one-of-these'")
        assert ended(conn) == "28P01"


@pytest.mark.expect_log("cannot see the activity")  # the crowd fills the backlog of its socket
def test_many_wake_one_compute(main):
    """All speak at once: one start, and all are served."""
    n = 50
    conns = [main.connect() for _ in range(n)]
    try:
        for i, conn in enumerate(conns):
            run(conn, f"SET work_mem = '{i + 100}kB'")
        g = main.generation()
        main.suspend()
        found = [None] * n

        def one(i):
            found[i] = show(conns[i], "work_mem")

        threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        assert found == [f"{i + 100}kB" for i in range(n)]
        assert main.generation() == g + 1
    finally:
        for conn in conns:
            conn.close()


def test_who_leaves_wakes_nobody(main):
    conn, gone, w = main.connect(), main.connect(), by_hand(main)
    g = main.generation()
    main.suspend()
    n = told(main.mere, 'state=parked')
    conn.close()  # says goodbye
    gone_fd = os.dup(gone.fileno())
    sock = socket.socket(fileno=gone_fd)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    w.close()
    until(lambda: told(main.mere, 'state=parked') == n + 3, 10, "all three to be gone")
    assert main.endpoint()["current_state"] == "idle" and main.generation() == g
    gone.close()


def test_a_cancel_of_a_parked_session_wakes_nobody(main):
    with by_hand(main) as w:
        g = main.generation()
        main.suspend()
        assert wire.cancel(main.mere.pg_host, main.mere.pg_port, *w.backend_key) == b""
        time.sleep(0.5)
        assert main.generation() == g and main.endpoint()["current_state"] == "idle"
        assert w.query("SELECT 1") == [["1"]]
        done = threading.Timer(0.5, lambda: wire.cancel(main.mere.pg_host, main.mere.pg_port, *w.backend_key))
        done.start()
        with pytest.raises(wire.Refused) as e:
            w.query("SELECT pg_sleep(30)")
        assert e.value.sqlstate == "57014", "its key is the same, and cancels"


def test_deleting_the_endpoint_ends_it(project):
    b = project.branch(settings={"park_sessions": True})
    with by_hand(b) as conn:
        run(conn, "SELECT 1")
        b.suspend()
        b.delete()
        assert ended(conn) == "57P01"


def test_another_address_ends_it(main):
    with by_hand(main) as conn:
        main.suspend()
        main.project.call("PATCH", "", {"project": {"settings": {"allowed_ips": {"ips": ["192.0.2.1"]}}}})
        mere = main.mere
        wire.refusal(mere.pg_host, mere.pg_port, user="x", database="x", options="endpoint=ep-nobody-knows-a1b2c3d4")  # until then it has been told
        assert ended(conn) == "28000"
        assert main.endpoint()["current_state"] == "idle"


def test_a_restart_of_mered_disturbs_no_parked_session(new_mere):
    mere = new_mere()
    mere.start()
    b = mere.create_project().main
    b.patch_endpoint(park_sessions=True)
    with session(b) as conn:
        run(conn, "SET work_mem = '9MB'")
        b.suspend()
        mere.kill9()
        mere.start()
        assert show(conn, "work_mem") == "9MB"


def test_the_end_of_the_proxy_is_told(new_mere, expect_log):
    expect_log("mere-proxy ended")
    mere = new_mere()
    mere.start()
    b = mere.create_project().main
    b.patch_endpoint(park_sessions=True)
    with by_hand(b) as conn:
        run(conn, "SELECT 1")
        b.suspend()
        os.kill(mere.proxy_pid(), signal.SIGTERM)
        assert ended(conn) == "57P01"


def test_psql(main):
    """A real client that waits for its user."""
    env = main.environ()
    with subprocess.Popen(["psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as psql:
        def ask(sql):
            psql.stdin.write(sql + "\n")
            psql.stdin.flush()
            return psql.stdout.readline().strip()
        assert ask("SET timezone = 'Europe/Rome'; SELECT 1;") == "1"
        main.suspend()
        assert ask("SHOW timezone;") == "Europe/Rome"
        psql.stdin.close()


# --- between mered and mere-proxy


@pytest.mark.expect_log("the wake socket is lost")
def test_what_mered_asks(mere, project, fake_proxy):
    """PARK comes behind the last look, and only the answer to it stops the compute."""
    b = project.main
    ep = b.endpoint_id
    p = fake_proxy().complete()
    b.patch_endpoint(park_sessions=True, suspend_timeout_seconds=1)
    p.expect(f"ENDPOINT {ep} 1 - park")
    p.say(f"WAKE 1 endpoint {ep} - - -")
    g = p.expect(f"OK 1 {ep} .*")[-1].split(" ")[3]
    p.expect(f"HOLD {ep} {g} .*")
    p.say(f"PARKED {ep} {g} {p.question} 0")  # nobody has asked for that
    p.expect(f"HOLD {ep} {g} .*")
    p.say(f"HELD {ep} {g} {p.question} 0")
    p.expect(f"PARK {ep} {g} .* -")
    first = p.question
    p.say(f"PARKED {ep} {g} {first} 1")
    p.expect(f"RELEASE {ep} {g}")
    p.expect(f"HOLD {ep} {g} .*")
    p.say(f"HELD {ep} {g} {p.question} 0")
    p.expect(f"PARK {ep} {g} .* -")
    p.say(f"PARKED {ep} {int(g) - 1} {p.question} 1")  # of a generation that is over
    p.say(f"PARKED {ep} {g} {first} 1")  # to a question that is over
    p.say(f"PARKED {ep} {g} {p.question} 0")
    assert "RELEASE" not in " ".join(p.expect(f"GONE {ep} {g}"))
    p.say(f"WAKE 2 endpoint {ep} - - -")
    g = p.expect(f"OK 2 {ep} .*")[-1].split(" ")[3]
    b.act("suspend", wait=False)
    p.expect(f"HOLD {ep} {g} .*")
    p.expect(f"PARK {ep} {g} .* all")
    p.say(f"PARKED {ep} {g} {p.question} 3")  # it stops all the same
    p.expect(f"GONE {ep} {g}")
    b.await_state("idle")


# --- never parked


OWN = {
    "temporary table": "CREATE TEMP TABLE t (n int)",
    "temporary function": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "listen": "LISTEN news",
    "cursor with hold": "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "sequence": "SELECT nextval('s')",
    "setseed": "SELECT setseed(0.5)",
    "set seed": "SET seed = 0.5",
    "custom setting": "SET app.tenant = '7'",
    "set_config": "SELECT set_config('app.tenant', '7', false)",
    "set_config, spelt otherwise": 'SELECT "set\\005fconfig"'.replace('"set', 'U&"set') + "('app.tenant', '7', false)",
    "by a text that is run": "SELECT query_to_xml('SELECT set_' || 'config(''app.tenant'', ''7'', false)', true, true, '')",
    "DO": "DO $$ BEGIN PERFORM 1; END $$",
    "prepared with others": "SET work_mem = '4MB'; PREPARE p AS SELECT 1",
    "a real": "SET random_page_cost = 1.1",
    "idle_session_timeout": "SET idle_session_timeout = '1h'",
    "a statement whose table is gone": "CREATE TABLE gone (n int); PREPARE q AS SELECT * FROM gone; DROP TABLE gone",
    "a transaction": "BEGIN",
}


@pytest.mark.parametrize("what", OWN)
def test_what_cannot_be_restored_keeps_its_compute(sleepy, what):
    sleepy.query("CREATE SEQUENCE s")
    g = sleepy.generation()
    with by_hand(sleepy) as conn, by_hand(sleepy) as other:
        run(other, "SELECT 1")
        run(conn, OWN[what])
        deadline = time.monotonic() + 3.5
        while time.monotonic() < deadline:
            assert sleepy.endpoint()["current_state"] == "active" and sleepy.generation() == g
            time.sleep(0.1)
        run(conn, "SELECT 1")
        sleepy.suspend()  # asked for, it ends the one and parks the other, if that has not seen it change a definition
        assert ended(conn) == "57P01"


THEIRS = {
    "a function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a procedure": "CREATE PROCEDURE f() LANGUAGE sql AS 'SELECT 1'",
    "an aggregate": "CREATE AGGREGATE f(text, bool) (sfunc = set_config, stype = text, initcond = 'app.tenant')",
    "an operator": "CREATE OPERATOR @@@ (leftarg = tsquery, rightarg = text, function = ts_rewrite)",
    "a view": "CREATE VIEW v AS SELECT set_config('app.tenant', '7', false)",
    "a default": "CREATE TABLE t (n int, x text DEFAULT set_config('app.tenant', '7', false))",
    "a check": "CREATE TABLE t (n int CHECK (set_config('app.tenant', n::text, false) <> ''))",
    "a domain": "CREATE DOMAIN d AS int CHECK (set_config('app.tenant', VALUE::text, false) <> '')",
    "a domain's default": "CREATE DOMAIN d AS text DEFAULT set_config('app.tenant', '7', false)",
    "a policy": "CREATE TABLE t (n int); CREATE POLICY p ON t USING (set_config('app.tenant', '7', false) = '7')",
    "a trigger's condition": "CREATE TABLE t (n int); CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW "
                             "WHEN (set_config('app.tenant', '7', false) = '7') EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a rule": "CREATE TABLE t (n int); CREATE RULE r AS ON INSERT TO t DO ALSO SELECT setseed(0.5)",
    "custom default of the role": "ALTER ROLE {role} SET app.tenant = '7'",
    "custom default of the database": "ALTER DATABASE neondb SET app.tenant = '7'",
}


@pytest.mark.parametrize("what", THEIRS)
def test_what_others_have_made_keeps_sessions_from_being_parked(main, what):
    if "default of the" in what:  # no user may
        main.query("SELECT 1")
        with contextlib.closing(main.admin()) as admin:
            run(admin, THEIRS[what].format(role=main.project.role))
    else:
        main.query(THEIRS[what])
    with by_hand(main) as conn:
        run(conn, "SELECT 1")
        n = told(main.mere, "a session cannot be parked")
        main.suspend()
        assert ended(conn) == "57P01"
        assert told(main.mere, "a session cannot be parked") == n + 1


def test_a_function_that_is_gone_again_counts(main):
    """The twin of the rule: without it the tenant would be lost silently, and with it all that row-level security stands on."""
    main.query("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', '7', false) $$")
    with by_hand(main) as conn, by_hand(main) as other:
        run(conn, "SELECT f()")
        run(other, "DROP FUNCTION f()")
        assert show(conn, "app.tenant") == "7"
        main.suspend()
        assert ended(conn) == "57P01" and ended(other) == "57P01"
    with by_hand(main) as conn:
        run(conn, "SELECT 1")
        main.suspend()
        assert run(conn, "SELECT 1") == [["1"]], "who came after it is parked"


def test_an_extension_does_not_count(main):
    with by_hand(main) as conn:
        run(conn, "CREATE EXTENSION pg_trgm")
        run(conn, "SELECT similarity('a', 'b')")
        main.suspend()
        assert run(conn, "SELECT similarity('a', 'a')") == [["1"]]
        run(conn, "SELECT set_limit(0.7)")
        main.suspend()
        assert ended(conn) == "57P01", "but a setting of its library does"


def test_a_client_is_not_kept_waiting(sleepy):
    """Whoever comes while sessions are examined is served, and the compute stays."""
    with session(sleepy) as conn:
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            at = time.monotonic()
            run(conn, "SELECT 1")
            assert time.monotonic() - at < 3
            time.sleep(1.0)
