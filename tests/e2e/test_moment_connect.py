"""Reading a branch as it was: `neon_lsn:` and `neon_timestamp:` lead to a standby at exactly that moment, which is gone when nobody reads."""
import contextlib
import datetime
import os
import random
import subprocess
import threading
import time

import psycopg2
import pytest

from harness.server import gone, lsn, until

FUTURE = "2999-01-01T00:00:00Z"


def text(n):
    return f"{n >> 32:X}/{n & 0xFFFFFFFF:X}"


def at(branch, moment, named="branch", **kw):
    """Keyword arguments for psycopg2.connect: the branch as it was at an LSN or at a time."""
    words = f"neon_lsn:{moment}" if "/" in moment else f"neon_timestamp:{moment}"
    name = {"branch": {"endpoint": None, "branch": branch.id}, "name": {"endpoint": None, "branch": branch.name}, "endpoint": {}}[named]
    return branch.dsn(options=words, **name, **kw)


def open_at(branch, moment, named="branch", **kw):
    conn = psycopg2.connect(**at(branch, moment, named, **kw))
    conn.autocommit = True
    return conn


def value_at(branch, moment, sql, named="branch"):
    with contextlib.closing(open_at(branch, moment, named)) as conn, conn.cursor() as cur:
        cur.execute(sql)
        return cur.fetchone()[0]


def refusal(branch, moment, **kw):
    with pytest.raises(psycopg2.OperationalError) as e:
        open_at(branch, moment, **kw)
    return str(e.value)


def readers(mere):
    return mere.rows("SELECT b.id, b.parent_lsn, b.volume_id, e.id AS endpoint_id, e.observed, e.generation, e.suspend_timeout_seconds AS suspend, e.type"
                     " FROM branch b JOIN endpoint e ON e.branch_id = b.id WHERE b.kind = 'temporary' ORDER BY b.created_at")


def nothing_left(mere, reader):
    return not (mere.rows("SELECT 1 FROM branch WHERE id = ?", reader["id"]) or mere.rows("SELECT 1 FROM endpoint WHERE id = ?", reader["endpoint_id"])
                or any((mere.data / place / name).exists() for place, name in (("volumes", reader["volume_id"]), ("wal", reader["volume_id"]),
                                                                              ("locks", reader["volume_id"] + ".lock"), ("logs", reader["endpoint_id"] + ".log"))))


def wait_gone(mere, timeout=30):
    gone(lambda: readers(mere), timeout, "the computes of moments")


@pytest.fixture
def steps(project):
    """A branch with ten commits, and where and when each of them was."""
    b = project.main
    project.call("PATCH", f"/endpoints/{b.endpoint_id}", {"endpoint": {"suspend_timeout_seconds": 2}})
    places, times = [], []
    with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
        cur.execute("CREATE TABLE t (n int PRIMARY KEY)")
        for n in range(10):
            cur.execute("INSERT INTO t VALUES (%s)", (n,))
            cur.execute("SELECT pg_current_wal_flush_lsn()::text, clock_timestamp()")
            place, moment = cur.fetchone()
            places.append(place)
            times.append(moment.astimezone(datetime.timezone.utc).isoformat())
            time.sleep(0.01)
    b.places, b.times = places, times
    return b


COUNT = "SELECT coalesce(string_agg(n::text, ',' ORDER BY n), '') FROM t"


def rows(n):
    return ",".join(map(str, range(n)))


@pytest.mark.parametrize("asleep", [False, True])
def test_exactly_what_was_there(mere, steps, asleep):
    if asleep:
        steps.suspend()
    generation = steps.generation()
    for i in (2, 7, 9):
        assert value_at(steps, steps.places[i], COUNT) == rows(i + 1)
        assert value_at(steps, steps.times[i], COUNT) == rows(i + 1)
    assert steps.generation() == generation, "looking back woke the branch"
    assert value_at(steps, steps.places[4], COUNT, named="endpoint") == rows(5)
    assert value_at(steps, steps.places[4], COUNT, named="name") == rows(5)
    assert steps.value(COUNT) == rows(10)
    wait_gone(mere)


def test_by_host_name_and_in_psql(mere, steps):
    d = steps.dsn()
    env = {**os.environ, "PGPASSWORD": d["password"]}
    got = subprocess.run(["psql", "-XAt", "-c", COUNT, f"host={steps.id}.localhost hostaddr={d['host']} port={d['port']} user={d['user']} dbname={d['dbname']}"
                          f" sslmode=require options='-c geqo=off neon_lsn:{steps.places[5]} -c work_mem=1MB'"], env=env, capture_output=True, text=True, check=False)
    assert got.stdout.strip() == rows(6), got.stderr
    mere_cli = [str(mere.bin / "mere")]
    env = {**os.environ, "MERE_API_KEY": mere.key, "MERE_API_URL": mere.api_url}
    for moment, n in ((steps.places[3], 4), (steps.times[6], 7)):
        got = subprocess.run([*mere_cli, "psql", f"{steps.name}@{moment}", "--project", steps.project.id, "--", "-XAt", "-c", COUNT], env=env,
                             capture_output=True, text=True, check=False)
        assert got.stdout.strip() == rows(n), got.stderr
    wait_gone(mere)


@pytest.mark.parametrize("sql", ["INSERT INTO t VALUES (99)", "CREATE TABLE u ()", "CREATE TEMP TABLE v ()", "SELECT nextval('s')", "SELECT n FROM t FOR UPDATE"])
def test_a_write_is_refused_by_postgres(mere, steps, sql):
    steps.query("CREATE SEQUENCE s")
    head = steps.value("SELECT pg_current_wal_flush_lsn()::text")
    with contextlib.closing(open_at(steps, head)) as conn, conn.cursor() as cur:
        for setting in ("SET default_transaction_read_only = off", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"):
            cur.execute(setting)
            with pytest.raises(psycopg2.Error) as e:
                cur.execute(sql)
            assert e.value.pgcode == "25006", e.value
        cur.execute("SELECT pg_is_in_recovery()")
        assert cur.fetchone()[0] is True


def test_sessions_at_one_moment_share_a_compute(mere, steps):
    with contextlib.ExitStack() as open_ones:
        conns = [None] * 8

        def one(i):
            conns[i] = open_at(steps, steps.places[i % 2], "branch" if i % 4 < 2 else "endpoint")
        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(conns))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for c in conns:
            open_ones.enter_context(contextlib.closing(c))
        assert len(readers(mere)) == 2
        for i, c in enumerate(conns):
            with c.cursor() as cur:
                cur.execute(COUNT)
                assert cur.fetchone()[0] == rows(i % 2 + 1)
        one_more = open_ones.enter_context(contextlib.closing(open_at(steps, steps.times[0])))
        with one_more.cursor() as cur:
            cur.execute(COUNT)
            assert cur.fetchone()[0] == rows(1)
        assert len(readers(mere)) <= 3
    wait_gone(mere)


def test_gone_when_idle(mere, steps):
    with contextlib.closing(open_at(steps, steps.places[3])) as conn, conn.cursor() as cur:
        reader, = readers(mere)
        assert reader["type"] == "read_only" and reader["suspend"] == 2
        assert {b["id"] for b in steps.project.branches()} == {steps.id}, "nobody sees it"
        assert [e["id"] for e in steps.project.call("GET", "/endpoints")["endpoints"]] == [steps.endpoint_id]
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:  # a session that works keeps it
            cur.execute(COUNT)
            assert cur.fetchone()[0] == rows(4)
            time.sleep(0.3)
        until(lambda: nothing_left(mere, reader), 30, "the compute, its volume and its WAL to be gone")
        with pytest.raises(psycopg2.Error) as e:
            cur.execute("SELECT 1")
        assert e.value.pgcode in ("57P01", None), e.value
    assert not mere.rows("SELECT 1 FROM image WHERE branch_id = ?", reader["id"])
    assert value_at(steps, steps.places[3], COUNT) == rows(4), "and there again for the next one"
    second, = readers(mere)
    assert second["id"] != reader["id"]
    wait_gone(mere)


def test_it_takes_no_longer_than_a_minute_to_go(mere, project):
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=-1)
    head = b.value("SELECT pg_current_wal_flush_lsn()::text")
    value_at(b, head, "SELECT 1")
    reader, = readers(mere)
    assert reader["suspend"] == 60


def test_what_is_no_moment(mere, steps):
    head = steps.project.call("GET", steps.path(f"/lsn?timestamp={FUTURE}"))["lsn"]
    oldest = steps.project.call("GET", steps.path("/lsn?timestamp=2001-01-01T00:00:00Z"))["lsn"]
    for moment, what in ((text(lsn(head) + 1000), "beyond the head"), ("FFFFFFFF/0", "beyond the head"), ("0/28", "before the history"),
                         (FUTURE, "in the future"), ("2001-01-01T00:00:00Z", "before the history")):
        said = refusal(steps, moment)
        assert what in said and "what can be reached is" in said and "HINT" in said, said
        assert "nothing was changed" in said and oldest.split("/")[0] + "/" in said, said
    for words, what in (("neon_lsn:0/0", "names no moment"), ("neon_lsn:xyz", "names no moment"), ("neon_timestamp:yesterday", "names no moment"),
                        ("neon_lsn:0/1 neon_timestamp:2001-01-01T00:00:00Z", "names two moments"), ("neon_lsn:0/1 neon_endpoint_type:read_write", "can only be read")):
        with pytest.raises(psycopg2.OperationalError, match=what):
            psycopg2.connect(**steps.dsn(options=words))
    place = steps.places[3]
    for d, what in ((steps.dsn(endpoint=None, branch="no-such", options=f"neon_lsn:{place}"), 'there is no branch "no-such"'),
                    (steps.dsn(endpoint="ep-no-such-one", options=f"neon_lsn:{place}"), "password authentication failed"),
                    (at(steps, place, password="wrong"), "password authentication failed"), (at(steps, place, database="nowhere"), "does not exist")):
        with pytest.raises(psycopg2.OperationalError, match=what):
            psycopg2.connect(**d)
    wait_gone(mere)


def test_before_the_branch_itself_its_ancestor_answers(mere, steps):
    child = steps.project.branch(steps, endpoint=False)
    grandchild = steps.project.branch(child, endpoint=False)
    for n in (4, 9):
        assert value_at(grandchild, steps.places[n], COUNT) == rows(n + 1)
    assert [r["suspend"] for r in readers(mere)] == [60, 60], "there is no endpoint to take a shorter one from"


def test_roles_and_settings_are_those_of_the_moment(mere, project):
    """But the password is the present one."""
    b = project.main
    b.query("CREATE TABLE t (n int)")
    place = b.value("SELECT pg_current_wal_flush_lsn()::text")
    old = project.password
    new = project.call("POST", b.path(f"/roles/{project.role}/reset_password"))
    mere.wait_operations(project.id, new)
    project.password = new["role"]["password"]
    assert b.value("SELECT 1") == 1
    with contextlib.closing(open_at(b, place)) as conn, conn.cursor() as cur:
        cur.execute("SELECT current_user")
        assert cur.fetchone() == (project.role,)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):  # what is revoked opens nothing
        open_at(b, place, password=old)
    mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "late"}}))
    late = mere.wait_operations(project.id, project.call("POST", b.path("/roles/late/reset_password")))["role"]["password"]
    with pytest.raises(psycopg2.OperationalError, match='role "late" does not exist'):
        open_at(b, place, user="late", password=late)


def test_more_connections_than_now(mere, project):
    """A standby must have at least what its primary had then, at every point of what it replays."""
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {"max_connections": "300", "max_locks_per_transaction": "200", "max_worker_processes": "20"}})
    b.query("CREATE TABLE t (n int)")
    b.suspend()
    b.patch_endpoint(settings={"pg_settings": {"max_connections": "50"}})
    b.query("INSERT INTO t VALUES (1)")
    place = b.value("SELECT pg_current_wal_flush_lsn()::text")
    assert value_at(b, place, "SELECT count(*) FROM t") == 1
    b.patch_endpoint(settings={"pg_settings": {"max_connections": "20", "default_transaction_isolation": "serializable"}})
    assert value_at(b, place, "SELECT count(*) FROM t") == 1
    assert value_at(b, place, "SELECT current_setting('max_connections')::int") >= 50


def test_a_branch_that_goes_takes_its_readers_along(mere, steps):
    child = steps.project.branch(steps)
    place = child.value("SELECT pg_current_wal_flush_lsn()::text")
    with contextlib.closing(open_at(child, place)) as conn, conn.cursor() as cur:
        stop = threading.Event()

        def busy():
            with contextlib.suppress(psycopg2.Error):
                while not stop.is_set():
                    cur.execute("SELECT count(*) FROM t")
        t = threading.Thread(target=busy)
        t.start()
        try:
            child.delete(timeout=30)
        finally:
            stop.set()
            t.join()
    assert not readers(mere)


@pytest.mark.expect_log(r"mere-proxy")
def test_sessions_outlive_mered(new_mere):
    mere = new_mere().start()
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t AS SELECT generate_series(1, 5) AS n")
    place = b.value("SELECT pg_current_wal_flush_lsn()::text")
    b.query("DELETE FROM t")
    with contextlib.closing(open_at(b, place)) as conn, conn.cursor() as cur:
        reader, = readers(mere)
        pid = next(p for p, ep in mere.postmasters().items() if ep == reader["endpoint_id"])
        mere.kill9()
        cur.execute("SELECT count(*) FROM t")
        assert cur.fetchone()[0] == 5
        mere.start()
        cur.execute("SELECT count(*) FROM t")
        assert cur.fetchone()[0] == 5
        assert value_at(b, place, "SELECT count(*) FROM t") == 5, "the one that was there serves the next"
        assert [r["id"] for r in readers(mere)] == [reader["id"]] and mere.postmasters()[pid] == reader["endpoint_id"]
    project.delete()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["moment.taken", "materialise.placed", "start.spawned", "start.recorded", "start.replaying",
                                   "start.released", "stop.signalled", "stop.captured", "branch.discarded", "remove.volume", "delete.removed"])
def test_killed_on_the_way(new_mere, point):
    """Whatever mered was doing: the next one brings a client there, and leaves nothing behind."""
    mere = new_mere(crash=True, config={"suspend-timeout-seconds": 1}).start()
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t AS SELECT generate_series(1, 5) AS n")
    place = b.value("SELECT pg_current_wal_flush_lsn()::text")
    b.query("DELETE FROM t")
    b.suspend()
    mere.restart(env={"CRASH_AT": f"{point}:1"})
    with contextlib.suppress(psycopg2.Error):
        open_at(b, place, connect_timeout=3).close()
    mere.wait(60)
    mere.start()
    assert value_at(b, place, "SELECT count(*) FROM t") == 5
    wait_gone(mere, 60)
    project.delete()
    assert not os.listdir(mere.data / "wal")


@pytest.mark.slow
def test_storm_around_the_end(mere, steps):
    """Clients that come while it is being stopped and discarded: every one of them reads what was there."""
    rng = random.Random(1)
    steps.patch_endpoint(suspend_timeout_seconds=1)
    ends, wrong, phases, seen = 12, [], set(), set()

    def client(after):
        time.sleep(after)
        try:
            if value_at(steps, steps.places[3], COUNT) != rows(4):
                wrong.append("rows")
        except psycopg2.Error as e:
            wrong.append(str(e))
    client(0)
    for _ in range(ends):
        before = readers(mere)
        seen |= {r["id"] for r in before}
        phase = until(lambda old=before: [r["observed"] for r in readers(mere) if r["observed"] not in ("RUNNING", "STARTING", "PREPARING")] or
                      [r["id"] for r in old] != [r["id"] for r in readers(mere)], 30, "it to go", pause=0.001)
        phases.add(str(phase))
        base = rng.choice((0, 0, 0.5, 1, 1.5, 2, 2.5))  # what has stopped is swept every two seconds
        threads = [threading.Thread(target=client, args=(base + rng.choice((0, 0.01, 0.05, 0.2)),)) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong, wrong[:3]
    assert len(seen) > 2 and phases, (seen, phases)
    wait_gone(mere)
