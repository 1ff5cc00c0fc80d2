"""
Real clients through mere-proxy (catalogue E11): psql, psycopg 2 and 3, node-postgres, JDBC.

Each connects in the ways that are its own, does what programs do, and is told the same bytes as by Postgres itself.  A driver that is
not installed is skipped by name; tools/deps.sh drivers installs all.
"""
import contextlib
import hashlib
import os
import shutil
import subprocess

import psycopg2
import pytest

from harness import drivers
from harness.cluster import BINDIR
from harness.drivers import Said
from harness.server import scratch
from harness.wiretap import Tap

SUFFIX = "db.example"
MERE_OPTIONS = {"args": ["--host-suffix", SUFFIX]}
NAMES = ["psql", "psycopg2", "psycopg3", "node-postgres", "jdbc"]


@pytest.fixture(scope="module")
def all_drivers():
    base = scratch("mere-drivers-")
    made = {d.name: d for d in (drivers.Psql(), drivers.Psycopg2(), drivers.Psycopg3(), drivers.Node(), drivers.Jdbc(base / "hosts"))}
    yield made
    for d in made.values():
        d.close()
    shutil.rmtree(base)


@pytest.fixture(params=NAMES)
def driver(request, all_drivers):
    d = all_drivers[request.param]
    why = d.missing()
    if why:
        pytest.skip(why)
    return d


def where(branch, **more):
    """By host name, verified against the authority that `mere ca` names."""
    p, m = branch.project, branch.mere
    given = {"host": f"{branch.endpoint_id}.{SUFFIX}", "port": m.pg_port, "user": p.role, "password": p.password, "database": p.database,
             "tls": "verify-full", "ca": m.data / "ca.crt", **more}
    return {k: v for k, v in given.items() if v is not None}


@contextlib.contextmanager
def session(driver, branch, **more):
    with contextlib.closing(driver.open(**where(branch, **more))) as s:
        yield s


def refused(driver, branch, **more):
    with pytest.raises(Said) as e:
        driver.open(**where(branch, **more))
    return e.value


# --- connecting --------------------------------------------------------------------------------------------------------------------------


def test_every_way_to_name_an_endpoint(driver, project):
    """The first one wakes it."""
    b = project.main
    b.suspend()
    generation = b.generation()
    ways = [{}, {"host": "localhost", "options": f"endpoint={b.endpoint_id}"}, {"host": "localhost", "options": f"-c geqo=off endpoint={b.endpoint_id}"},
            {"host": "localhost", "database": f"{project.database}@{b.endpoint_id}"}, {"tls": "disable", "options": f"endpoint={b.endpoint_id}"}]
    for way in ways:
        with session(driver, b, **way) as s:
            assert s.simple("SELECT current_database(), current_setting('geqo')") == [[project.database, "off" if "geqo" in str(way) else "on"]], way
    assert b.generation() == generation + 1
    e = refused(driver, b, host="localhost")
    assert e.sqlstate in ("08004", None) and "endpoint" in e.text, e


def test_a_wrong_password(driver, project):
    b = project.main
    b.suspend()
    generation = b.generation()
    for wrong in ({"password": "wrong"}, {"user": "nobody_at_all"}):
        e = refused(driver, b, **wrong)
        assert e.sqlstate in ("28P01", None) and "password authentication failed" in e.text, e
    assert b.generation() == generation, "somebody was woken"


def test_the_server_is_verified(driver, project, workdir):
    """The twin of every connection above: another authority, and a name that the certificate does not have."""
    b, other = project.main, workdir / "other.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", workdir / "key", "-out",
                    other, "-days", "2", "-subj", "/CN=other"], check=True, capture_output=True)
    for wrong in ({"ca": other}, {"host": f"{b.endpoint_id}.other.example"}):
        e = refused(driver, b, **wrong)
        assert any(word in e.text.lower() for word in ("certificate", "ssl error", "could not be verified", "altnames")), e


def test_channel_binding(driver, project):
    if "binding" not in driver.can:
        pytest.skip(f"{driver.name} of this version binds to no channel")
    with session(driver, project.main, binding="require") as s:
        assert s.simple("SELECT 6 * 7") == [["42"]]
    e = refused(driver, project.main, binding="require", tls="disable", options=f"endpoint={project.main.endpoint_id}")
    assert "channel binding" in e.text, e


def test_no_replication(driver, project):
    e = refused(driver, project.main, replication="database", preferQueryMode="simple" if driver.name == "jdbc" else None)
    assert e.sqlstate in ("0A000", None) and "replication connections are not available" in e.text, e


# --- what programs do --------------------------------------------------------------------------------------------------------------------


ROWS = 3000
TABLE = "CREATE TABLE t (n int, text text)"


def everything(s, can, session=True):
    """One session's work; what came of each part of it.  session=False: nothing that outlives a transaction."""
    got = {}
    s.simple("TRUNCATE t")
    got["simple"] = s.simple("SELECT i, NULL, 'x' || i FROM generate_series(1, 3) i")
    got["ask"] = s.ask("SELECT $1::int + $2::int, $3::text", "40", "2", "€uro")
    if "copy" in can:
        s.copy_in("COPY t FROM STDIN", "".join(f"{i}\trow {i}\n" for i in range(1, ROWS + 1)))
        got["copy"] = hashlib.md5(s.copy_out("COPY (SELECT * FROM t ORDER BY n) TO STDOUT").encode()).hexdigest()
    else:
        s.simple(f"INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, {ROWS}) i")
    if "walk" in can:
        got["walk"] = s.walk("SELECT n FROM t ORDER BY n", 100)
    if "batch" in can:
        got["batch"] = s.batch("DELETE FROM t WHERE n = $1::int", 50)
    got["count"] = s.simple("SELECT count(*), sum(n) FROM t")
    got["errors"] = []
    for wrong in ("SELECT 1 / 0", "SELECT nothing FROM nowhere"):
        with pytest.raises(Said) as e:
            s.simple(wrong)
        got["errors"].append(e.value.sqlstate)
    got["large"] = len(s.simple("SELECT repeat('x', 3000000)")[0][0])
    if session:
        if "named" in can:
            got["named"] = s.named("SELECT $1::int * 2", 12)
        got["transaction"] = transaction(s)
        s.simple("SET timezone = 'Europe/Rome'")
        got["set"] = s.simple("SHOW timezone")
        s.simple("LISTEN news")
        s.simple("NOTIFY news, 'hello'")
        got["heard"] = s.heard()
    return got


def transaction(s):
    s.simple("BEGIN")
    s.simple("DELETE FROM t")
    with pytest.raises(Said) as failed:
        s.simple("SELECT 1 / 0")
    with pytest.raises(Said) as aborted:
        s.simple("SELECT 1")
    s.simple("ROLLBACK")
    return [failed.value.sqlstate, aborted.value.sqlstate, s.simple("SELECT count(*) FROM t")[0][0]]


def expected(can, session=True):
    want = {"simple": [[str(i), None, f"x{i}"] for i in (1, 2, 3)], "ask": [["42", "€uro"]], "errors": ["22012", "42P01"], "large": 3000000}
    gone = 50 if "batch" in can else 0
    left = ROWS - gone
    want["count"] = [[str(left), str(ROWS * (ROWS + 1) // 2 - gone * (gone + 1) // 2)]]
    if "copy" in can:
        want["copy"] = hashlib.md5("".join(f"{i}\trow {i}\n" for i in range(1, ROWS + 1)).encode()).hexdigest()
    if "walk" in can:
        want["walk"] = (ROWS, str(ROWS))
    if "batch" in can:
        want["batch"] = 50
    if session:
        if "named" in can:
            want["named"] = [[str(2 * i)] for i in range(1, 13)]
        want.update(transaction=["22012", "25P02", str(left)], set=[["Europe/Rome"]], heard=["news=hello"])
    return want


def test_what_programs_do(driver, project):
    project.main.query(TABLE)
    with session(driver, project.main) as s:
        assert everything(s, driver.can) == expected(driver.can)


def test_the_simple_protocol_of_jdbc(all_drivers, project):
    jdbc = all_drivers["jdbc"]
    if jdbc.missing():
        pytest.skip(jdbc.missing())
    project.main.query(TABLE)
    with session(jdbc, project.main, preferQueryMode="simple") as s:
        assert everything(s, jdbc.can) == expected(jdbc.can)


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_every_protocol_of_pgbench(project, mode):
    env = project.main.environ()
    subprocess.run([f"{BINDIR}/pgbench", "-i", "-q", "-s", "1"], env=env, check=True, capture_output=True)
    got = subprocess.run([f"{BINDIR}/pgbench", "-n", "-c", "4", "-t", "50", "-M", mode], env=env, capture_output=True, text=True, check=True)
    assert "200/200" in got.stdout and "number of failed transactions: 0 " in got.stdout, got.stdout


def test_cancel(driver, project):
    with session(driver, project.main) as s, session(driver, project.main) as other:
        assert s.cancelled("SELECT pg_sleep(30)") == "57014"
        assert other.simple("SELECT 6 * 7") == [["42"]]
        if driver.name != "psql":  # which leaves then
            assert s.simple("SELECT 6 * 7") == [["42"]]


def test_pooled(driver, project):
    """With PgBouncer 1.18 named statements are the client's to switch off."""
    project.main.query(TABLE)
    project.main.suspend()
    can = driver.can - {"named"}
    with session(driver, project.main, host=f"{project.main.endpoint_id}-pooler.{SUFFIX}", **({"named": "0"} if "named" in driver.can else {})) as s:
        assert everything(s, can, session=False) == expected(can, session=False)
        assert s.cancelled("SELECT pg_sleep(30)") == "57014"


def test_a_parked_session_goes_on(driver, project):
    """With its settings and its prepared statements, whoever prepared them."""
    b = project.main
    b.patch_endpoint(park_sessions=True)
    with session(driver, b) as s:
        s.simple("SET timezone = 'Europe/Rome'")
        s.simple("PREPARE mine AS SELECT $1 * 3")
        if "named" in driver.can:
            s.named("SELECT $1::int * 2", 3)
        generation = b.generation()
        b.suspend()
        assert s.simple("SHOW timezone") == [["Europe/Rome"]]
        assert b.generation() == generation + 1
        assert s.simple("EXECUTE mine (14)") == [["42"]]
        if "named" in driver.can:
            assert s.named("SELECT $1::int * 2", 3) == [["2"], ["4"], ["6"]]


# --- byte for byte -----------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def both_ways(branch):
    """Taps before mere-proxy and before the socket of the compute, and what a client adds to name the endpoint."""
    branch.value("SELECT 1")
    through, direct = Tap((branch.mere.pg_host, branch.mere.pg_port)), Tap(os.path.join(branch.socket_dir(), ".s.PGSQL.5432"))
    yield (through, f"endpoint={branch.endpoint_id}"), (direct, None)
    through.close()
    direct.close()


def difference(a, b):
    """The first one between two lists of messages; None when there is none."""
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            return i, str(x)[:300], str(y)[:300]
    return None if len(a) == len(b) else (min(len(a), len(b)), a[len(b):][:3], b[len(a):][:3])


def test_the_same_bytes_as_without_it(driver, project):
    b = project.main
    b.query(TABLE)
    with both_ways(b) as ways:
        for tap, options in ways:
            if driver.name == "node-postgres":
                driver.close()  # it numbers its cursors from one connection to the next
            with session(driver, b, host="localhost", port=tap.port, tls="disable", options=options) as s:
                assert everything(s, driver.can) == expected(driver.can)
        (through,), (direct,) = [tap.conversations() for tap, _ in ways]
    assert len(direct[0]) > 20 and len(direct[1]) > 100
    assert [difference(through[0], direct[0]), difference(through[1], direct[1])] == [None, None]


def test_a_difference_would_be_seen(project):
    with both_ways(project.main) as ways:
        for i, (tap, options) in enumerate(ways):
            with session(drivers.Psycopg2(), project.main, host="localhost", port=tap.port, tls="disable", options=options) as s:
                s.simple(f"SELECT {i}")
        (through,), (direct,) = [tap.conversations() for tap, _ in ways]
    assert difference(through[0], direct[0])[1] == str((b"Q", b"SELECT 0\0"))
    assert difference(through[1], direct[1])[1] == str((b"D", b"\0\1\0\0\0\1" + b"0"))


COPY_MB = int(os.environ.get("MERE_E11_MB", "1024"))


@pytest.mark.slow
def test_a_gigabyte_each_way(project, workdir):
    """Rows out and COPY in; what arrives is what a direct connection gives."""
    b, rows = project.main, COPY_MB << 10
    out = f"COPY (SELECT i, repeat(md5(i::text), 31) FROM generate_series(1, {rows}) i) TO STDOUT"
    b.query("CREATE UNLOGGED TABLE big (n int, text text)")
    direct = psycopg2.connect(host=b.socket_dir(), port=5432, user=b.project.role, password=b.project.password, dbname=b.project.database)
    through = b.connect()
    sums, files = [], [workdir / "direct", workdir / "through"]
    for conn, path in ((direct, files[0]), (through, files[1])):
        with conn.cursor() as cur, open(path, "wb") as f:
            cur.copy_expert(out, f)
        with open(path, "rb") as f:
            sums.append(hashlib.file_digest(f, "md5").hexdigest())
    assert sums[0] == sums[1] and files[1].stat().st_size >= COPY_MB * 10**6
    with through.cursor() as cur, open(files[1], "rb") as f:
        cur.copy_expert("COPY big FROM STDIN", f)
    assert b.query("SELECT count(*), count(DISTINCT n), bool_and(text = repeat(md5(n::text), 31)) FROM big") == [(rows, rows, True)]
    direct.close()
    through.close()
