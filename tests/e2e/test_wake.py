"""A connect to a sleeping endpoint: one start, nobody turned away, and what happens when things go wrong meanwhile."""
import contextlib
import os
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from harness import crowd, procs, wire
from harness.fakeproxy import fake_proxy  # noqa: F401
from harness.server import until

CROWD = 200


def refused(mere, **kw):
    password = kw.pop("password", "x")
    return wire.refusal(mere.pg_host, mere.pg_port, password, **kw)


def test_a_crowd_causes_one_start(mere, project):
    """200 clients at once on a sleeping endpoint, one query each."""
    b = project.main
    b.suspend()
    generation = b.generation()
    gate = threading.Barrier(CROWD)

    def client(i):
        gate.wait()
        with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
            cur.execute("SELECT %s::int", (i,))
            return cur.fetchone()[0]

    with ThreadPoolExecutor(CROWD) as pool:
        answers = list(pool.map(client, range(CROWD)))
    assert answers == list(range(CROWD))
    assert b.generation() == generation + 1


@pytest.mark.expect_log("cannot see the activity")  # a look at a compute whose backlog is full of clients
@pytest.mark.parametrize("n", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_many_sleepers_at_once(mere, project, n):
    """Catalogue E2: ten clients each.  No more starts at a time than may be, one for each endpoint, and all in bounded memory."""
    sleepers, each, cores = [project.branch(project.main) for _ in range(n)], 10, os.cpu_count()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda b: b.value("SELECT 1"), sleepers))
        list(pool.map(lambda b: b.suspend(), sleepers))
    alone = timed(sleepers[0])
    sleepers[0].suspend()
    before = [b.generation() for b in sleepers]
    rss = {pid: memory(pid) for pid in (mere.proc.pid, mere.proxy_pid())}
    most, halt = [0], threading.Event()

    def watch():
        while not halt.wait(0.02):
            starting = mere.rows("SELECT count(*) AS n FROM endpoint WHERE observed IN ('PREPARING', 'STARTING')")[0]["n"]
            most[0] = max(most[0], starting)

    watcher = threading.Thread(target=watch)
    watcher.start()
    everybody, begun = crowd.Crowd(), time.monotonic()
    for b in sleepers * each:
        everybody.connect((mere.pg_host, mere.pg_port), crowd.client(project.password, "SELECT 1", user=project.role, database="neondb",
                                                                     options=f"endpoint={b.endpoint_id}"))
        everybody.turn(0)
    while everybody.live and time.monotonic() < begun + 300:
        everybody.turn(1)
    took = time.monotonic() - begun
    halt.set()
    watcher.join()
    problems = [s.problem for s in everybody.over if s.problem]
    everybody.close()
    print(f"{took:.1f} s for {len(sleepers)}, {alone:.2f} s for one; at most {most[0]} starting at a time")
    assert not problems and len(everybody.over) == each * len(sleepers), problems[:5]
    assert [b.generation() for b in sleepers] == [g + 1 for g in before]
    assert 1 < most[0] <= 2 * cores
    if n >= 100:  # of few it is the logins that take the time
        assert took <= n / cores * alone * 1.5
    assert all(memory(pid) - size < 100 << 20 for pid, size in rss.items()), (rss, {pid: memory(pid) for pid in rss})


def timed(b):
    begun = time.monotonic()
    b.value("SELECT 1")
    return time.monotonic() - begun


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", procs.read(f"/proc/{pid}/status")).group(1)) << 10


def test_more_clients_than_connections_wait(mere, project):
    """Beyond max_connections they wait in the proxy instead of being refused."""
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {"max_connections": "20"}})
    b.act("restart")

    def client(i):
        with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
            cur.execute("SELECT pg_sleep(0.05), %s::int", (i,))
            return cur.fetchone()[1]

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(client, range(100))) == list(range(100))


def test_where_the_time_of_a_start_went(mere, project):
    """Of one that a client causes, and of one that is asked for."""
    b = project.main
    for ask in (lambda: b.value("SELECT 1"), lambda: b.act("start")):
        b.suspend()
        ask()

        def started():
            o = next(o for o in project.call("GET", "/operations")["operations"] if o["action"] == "start_compute")
            return o if o["status"] == "finished" else None

        o = until(started, 10, "the operation's end")
        assert set(o["phases"]) == {"wait_ms", "prepare_ms", "recover_ms", "ready_ms"}, o
        assert o["phases"]["recover_ms"] > 0 and 0 < sum(o["phases"].values()) <= o["total_duration_ms"] + 50, o
    suspends = [o for o in project.call("GET", "/operations")["operations"] if o["action"] == "suspend_compute"]
    assert suspends and not any("phases" in o for o in suspends)


def test_suspends_when_idle_and_wakes(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 42 AS n")
    b.patch_endpoint(suspend_timeout_seconds=1)
    b.await_state("idle", 20)
    assert mere.postmasters() == {}
    assert b.value("SELECT n FROM t") == 42


def test_an_idle_session_is_told_57P01(mere, project):
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    # By hand: libpq sends before it reads, and then only says that the connection is closed.
    with wire.Wire(mere.pg_host, mere.pg_port) as w:
        w.login(project.password, user=project.role, database="neondb", options=f"endpoint={b.endpoint_id}")
        assert w.query("SELECT 1") == [["1"]]
        b.await_state("idle", 20)
        with pytest.raises(wire.Refused) as e:
            w.message()
        assert e.value.sqlstate == "57P01"
        with pytest.raises(EOFError):
            w.message()
    assert b.value("SELECT 1") == 1


def test_connect_and_suspend_in_a_race(mere, project):
    """Clients that come and go around the idle limit: no error is ever theirs to see."""
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    stop_at, errors, done = time.monotonic() + 16, [], [0] * 6
    first = b.generation()

    def client(i):
        dice = random.Random(i)
        # A name of the branch is asked for each time, an endpoint's is remembered by the proxy: both meet the closing door.
        named = {"endpoint": None, "branch": b.id} if i % 2 else {}
        while time.monotonic() < stop_at:
            try:
                with contextlib.closing(b.connect(**named)) as conn, conn.cursor() as cur:
                    cur.execute("SELECT 1")
                    done[i] += 1
            except psycopg2.Error as e:
                errors.append(f"client {i}: {str(e).strip()}")
            # All at about the same time, so that the endpoint does fall idle in between.
            now = time.monotonic()
            time.sleep(max(0.0, 1.9 - now % 1.9) + dice.uniform(0, 0.25))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(done))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[:10]
    assert min(done) > 3, done
    assert b.generation() >= first + 3, "the endpoint never fell asleep: the race was not run"


def test_connect_against_explicit_suspends(mere, project):
    """Suspend asked for again and again while clients connect: each gets its answer."""
    b = project.main
    halt, errors, served = threading.Event(), [], []

    def client():
        while not halt.is_set():
            try:
                conn = b.connect()
            except psycopg2.OperationalError as e:
                # In the middle of its password exchange nobody can be moved to another server.
                if "administrator command" not in str(e):
                    errors.append(f"connect: {str(e).strip()}")
                continue
            try:
                with conn.cursor() as cur:
                    cur.execute("SELECT 1")
                    served.append(1)
            except psycopg2.OperationalError as e:
                # Suspended on purpose between connect and query: told so, or libpq found the connection closed when it sent.
                if not re.search("administrator command|closed unexpectedly", str(e)):
                    errors.append(f"query: {str(e).strip()}")
            conn.close()

    threads = [threading.Thread(target=client) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in range(8):
        b.act("suspend")
        until(lambda n=len(served): len(served) > n, 30, "a client to be served after a suspend")
    halt.set()
    for t in threads:
        t.join(60)
    assert not errors, errors[:5]


# --- names and passwords -----------------------------------------------------------------------------------------------------------


def test_every_way_to_name_it(mere, project):
    b, login = project.main, {"user": project.role, "database": project.database}
    ways = [
        ({"options": f"endpoint={b.endpoint_id}"}, None), ({"options": f"-c geqo=off endpoint={b.endpoint_id}"}, None),
        ({"options": f"branch={b.id}"}, None), ({"database": f"{project.database}@{b.endpoint_id}"}, None),
        ({}, f"{b.endpoint_id}.localhost")]
    for words, sni in ways:
        with wire.Wire(mere.pg_host, mere.pg_port, sni=sni) as w:
            w.login(project.password, **{**login, **words})
            assert w.query("SELECT current_database()") == [[project.database]], words
            assert w.query("SELECT current_setting('geqo')") == [["off" if "geqo" in str(words) else "on"]]


def test_branch_by_name_and_ambiguity(mere, project):
    child = project.branch(project.main, name="by-name")
    assert mere_value(mere, project, branch="by-name") == 1
    other = mere.create_project()
    try:
        twin = other.branch(other.main, name="by-name")
        e = refused(mere, user=project.role, database="neondb", options="branch=by-name", password=project.password)
        assert e.sqlstate not in ("28P01", None) and "by-name" in e.message, e
        twin.delete()
        assert mere_value(mere, project, branch="by-name") == 1
    finally:
        other.delete()
    child.delete()


def mere_value(mere, project, **named):
    with contextlib.closing(psycopg2.connect(**mere.dsn(project.role, project.password, **named))) as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")
        return cur.fetchone()[0]


def test_wrong_password(mere, project):
    e = refused(mere, user=project.role, database="neondb", options=f"endpoint={project.main.endpoint_id}", password="wrong")
    assert e.sqlstate == "28P01", e
    e = refused(mere, user="nobody_at_all", database="neondb", options=f"endpoint={project.main.endpoint_id}")
    assert e.sqlstate == "28P01", e


def test_unknown_names(mere, project):
    """An endpoint that is not there is as a password that is wrong; a name that means nothing is told."""
    good = {"user": project.role, "database": "neondb", "password": project.password}
    for words in ({"options": "endpoint=ep-no-such-00000000"}, {"database": "neondb@ep-no-such-00000000"}):
        e = refused(mere, **{**good, **words})
        assert e.sqlstate == "28P01" and "endpoint" in e.fields["H"], (words, e)
    for words in ({"options": "branch=no-such-branch"}, {}):
        e = refused(mere, **{**good, **words})
        assert e.sqlstate and e.sqlstate != "28P01" and len(e.message) > 10, (words, e)
    e = refused(mere, **good, options=f"endpoint={project.main.endpoint_id} branch=no-such-branch")
    assert e.sqlstate, e


def test_names_that_disagree(mere, project):
    child = project.branch(project.main)
    with pytest.raises(wire.Refused), wire.Wire(mere.pg_host, mere.pg_port, sni=f"{child.endpoint_id}.localhost") as w:
        w.login(project.password, user=project.role, database="neondb", options=f"endpoint={project.main.endpoint_id}")


def test_unknown_database_is_postgres_own_answer(mere, project):
    e = refused(mere, user=project.role, database="no_such_db", options=f"endpoint={project.main.endpoint_id}", password=project.password)
    assert e.sqlstate == "3D000", e


def test_the_admin_role_is_nobodys(mere, project):
    e = refused(mere, user="mere_admin", database="postgres", options=f"endpoint={project.main.endpoint_id}")
    assert e.sqlstate and e.sqlstate.startswith("28"), e


def test_a_disabled_endpoint_refuses(mere, project):
    b = project.main
    b.patch_endpoint(disabled=True)
    b.await_state("idle")
    generation = b.generation()
    e = refused(mere, user=project.role, database="neondb", options=f"endpoint={b.endpoint_id}", password=project.password)
    assert "disabled" in e.message, e
    assert b.generation() == generation
    b.patch_endpoint(disabled=False)
    assert b.value("SELECT 1") == 1


# --- a start that fails ------------------------------------------------------------------------------------------------------------


@pytest.mark.expect_log(r"(?i)fail|exit|start|crash|back")
def test_clients_are_told_when_a_start_fails(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    b.suspend()
    broken = b.pgdata() / "postgresql.auto.conf"
    good = broken.read_bytes()
    named = {"user": project.role, "password": project.password, "database": "neondb", "options": f"endpoint={b.endpoint_id}"}
    broken.write_bytes(b"this is = not ' a configuration\n")
    try:
        begun = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            told = list(pool.map(lambda _: refused(mere, **named), range(10)))
        took = time.monotonic() - begun
        assert all(e.sqlstate and e.sqlstate not in ("28P01", "08006") for e in told), told
        assert took < 30, f"it took {took:.1f} s to be told"
        # The next one is told at once or after one more attempt: no storm of starts.
        generation = b.generation()
        for _ in range(10):
            refused(mere, **named)
        assert b.generation() <= generation + 3
    finally:
        broken.write_bytes(good)
    b.act("start", wait=False)
    until(lambda: served(b), 60, "the endpoint to come back")
    assert b.value("SELECT n FROM t") == 1


def served(b):
    try:
        return b.value("SELECT 1") == 1
    except psycopg2.Error:
        return False


# --- cancel ------------------------------------------------------------------------------------------------------------------------


def test_cancel_reaches_ones_own_query(mere, project):
    with contextlib.closing(project.main.connect()) as conn, conn.cursor() as cur:
        timer = threading.Timer(0.5, conn.cancel)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cur.execute("SELECT pg_sleep(30)")
        assert time.monotonic() - begun < 10
        cur.execute("SELECT 1")
        timer.join()


def test_cancel_wakes_nobody_and_tells_nothing(mere, project):
    b = project.main
    with contextlib.closing(wire.Wire(mere.pg_host, mere.pg_port)) as w:
        w.login(project.password, user=project.role, database="neondb", options=f"endpoint={b.endpoint_id}")
        pid, key = w.backend_key
    b.suspend()
    generation = b.generation()
    assert wire.cancel(mere.pg_host, mere.pg_port, pid, key) == b""
    for _ in range(20):
        assert wire.cancel(mere.pg_host, mere.pg_port, random.getrandbits(31), random.getrandbits(31)) == b""
    assert b.endpoint()["current_state"] == "idle" and b.generation() == generation
    assert mere.postmasters() == {}


def test_cancel_with_a_wrong_key_hits_nobody(mere, project):
    with contextlib.closing(wire.Wire(mere.pg_host, mere.pg_port)) as w:
        w.login(project.password, user=project.role, database="neondb", options=f"endpoint={project.main.endpoint_id}")
        pid, key = w.backend_key
        threading.Timer(0.2, lambda: wire.cancel(mere.pg_host, mere.pg_port, pid, key ^ 1)).start()
        assert w.query("SELECT 1 FROM pg_sleep(1)") == [["1"]]


# --- mere-proxy comes and goes ---------------------------------------------------------------------------------------------------------


@pytest.mark.expect_log("the wake socket is lost", "not in the protocol")
@pytest.mark.parametrize("way", ["unread answer", "replaced", "nonsense", "endless line", "closed"])
def test_no_proxy_gets_the_answer_to_another(mere, project, fake_proxy, way):
    """What a lost proxy still waited for is dropped, in whichever way it was lost: its number means something else to the next one."""
    cold, mine = project.branch(project.main), project.branch(project.main)
    for b in (cold, mine):
        b.suspend()
    project.main.act("start")
    old = fake_proxy()
    if way == "unread answer":
        old.say(f"WAKE 7 endpoint {cold.endpoint_id} - - -", f"WAKE 8 endpoint {project.main.endpoint_id} - - -")
    else:
        old.say(f"WAKE 7 endpoint {cold.endpoint_id} - - -")
    if way == "nonsense":
        old.say("FROB")
    elif way == "endless line":
        old.say("x" * 5000)
    if way not in ("replaced", "nonsense", "endless line"):
        old.close()
    until(lambda: cold.endpoint()["current_state"] != "idle", 10, "mered to read the question", pause=0.005)
    new = fake_proxy()
    new.say(f"WAKE 7 endpoint {mine.endpoint_id} - - -")
    for b in (cold, mine):
        b.await_state("active")
    new.say(f"WAKE 9 endpoint {cold.endpoint_id} - - -")  # answered last
    answers = []
    for line in new.lines():
        if line.startswith(("OK", "ERR")):
            answers.append(line.split(" ")[:3])
        if answers and answers[-1][1] == "9":
            break
    assert answers == [["OK", "7", mine.endpoint_id], ["OK", "9", cold.endpoint_id]]


# --- mered comes and goes --------------------------------------------------------------------------------------------------------------


@pytest.mark.expect_log("proxy|wake|adopt")
def test_sessions_survive_kill_9_of_mered(mere, project):
    b = project.main
    conn = b.connect()
    cur = conn.cursor()
    cur.execute("CREATE TEMP TABLE mine AS SELECT pg_backend_pid() AS pid")
    postmaster, proxy, generation = b.postmaster(), mere.proxy_pid(), b.generation()
    mere.kill9()
    cur.execute("SELECT pid = pg_backend_pid() FROM mine")
    assert cur.fetchone()[0]
    # A running endpoint needs no mered for a new session.
    assert b.value("SELECT 1") == 1
    mere.start()
    cur.execute("SELECT pid = pg_backend_pid() FROM mine")
    assert cur.fetchone()[0]
    assert (b.postmaster(), mere.proxy_pid(), b.generation()) == (postmaster, proxy, generation)
    assert b.endpoint()["current_state"] == "active"
    assert b.value("SELECT 1") == 1
    conn.close()
    b.suspend()
    assert not procs.alive(postmaster)


@pytest.mark.expect_log("proxy|wake|adopt")
def test_twenty_computes_are_adopted(mere, project):
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    project.main.suspend()
    branches = [project.branch(project.main) for _ in range(10)]
    sessions = [b.connect() for b in branches]
    before = {b.endpoint_id: b.postmaster() for b in branches}
    mere.kill9()
    mere.start()
    assert {b.endpoint_id: b.postmaster() for b in branches} == before
    for s in sessions:
        with s.cursor() as cur:
            cur.execute("SELECT n FROM t")
        s.close()


@pytest.mark.expect_log("proxy|wake|adopt")
def test_a_waiting_client_is_served_after_the_restart(mere, project):
    b = project.main
    b.suspend()
    mere.kill9()
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(b.value, "SELECT 1") for _ in range(5)]
        time.sleep(0.5)
        assert not any(w.done() for w in waiting), "nobody can have been served yet"
        mere.start()
        assert [w.result(60) for w in waiting] == [1] * 5


@pytest.mark.expect_log("proxy|wake|adopt")
def test_idle_timer_goes_on_after_a_restart(mere, project):
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=2)
    assert b.value("SELECT 1") == 1
    mere.kill9()
    mere.start()
    b.await_state("idle", 20)


@pytest.mark.expect_log("proxy")
def test_a_killed_proxy_comes_back(mere, project):
    assert project.main.value("SELECT 1") == 1
    old = mere.proxy_pid()
    procs.kill(old)
    until(lambda: mere.proxy_pid() not in (0, old), 20, "another proxy")
    until(lambda: served(project.main), 20, "a session through the new proxy")
