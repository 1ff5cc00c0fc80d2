"""mere-proxy by itself, from the session on: relay, cancel, mered and computes that come and go."""
import contextlib
import hashlib
import io
import os
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from harness import procs, wire
from harness.proxyrig import (
    DATABASE, EP, GOOD, LOGIN, NOT_BUILT, OTHER, PASSWORD, SANITIZED, SSL_REQUEST, USER, FakePostgres, auth, backends, ended, error,
    later, scram, serves, startup_packet,
)
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures
from harness.server import until

pytestmark = NOT_BUILT


# --- relay ---------------------------------------------------------------------------------------------------------------------------


def slow_reader(w, total):
    """Reads a result of that many bytes with pauses, and proves that each arrives once and in order."""
    got, digest, begun = 0, hashlib.md5(), time.monotonic()
    while True:
        kind, payload = w.message()
        if kind == b"d":
            got += len(payload)
            digest.update(payload)
            if got < total // 20 and got % 2000000 < len(payload):
                time.sleep(0.1)
        elif kind == b"Z":
            return got, digest.hexdigest(), time.monotonic() - begun


@pytest.mark.parametrize("tls", [False, True])
def test_back_pressure(proxy, tls):
    rows, width = 100000, 2000
    sql = f"COPY (SELECT lpad(i::text, {width - 1}, 'x') FROM generate_series(1, {rows}) i) TO STDOUT"
    want = hashlib.md5()
    for i in range(1, rows + 1):
        want.update(str(i).rjust(width - 1, "x").encode() + b"\n")
    with proxy.session(tls) as w:
        before = proxy.rss()
        w.send(b"Q", sql.encode() + b"\0")
        time.sleep(1.5)
        stuck = proxy.rss()
        got, digest, took = slow_reader(w, rows * width)
        assert (got, digest) == (rows * width, want.hexdigest())
        assert SANITIZED or max(stuck, proxy.rss()) - before < 4 << 20, (before, stuck, proxy.rss())
        print(f"200 MB, tls={tls}: {took:.1f} s, rss {before >> 10} -> {stuck >> 10} KB")


def test_back_pressure_towards_postgres(proxy, pg):
    """COPY into a table that is locked: Postgres does not read, so the client must be stopped, not buffered."""
    pg_conn = psycopg2.connect(host=str(pg.socket), port=5432, user="super", dbname=DATABASE)
    proxy.value("CREATE TABLE up (t text); SELECT 1")
    with pg_conn.cursor() as cur:
        cur.execute("LOCK TABLE up IN ACCESS EXCLUSIVE MODE")
    row = b"y" * 999 + b"\n"
    with contextlib.closing(proxy.session()) as w:
        w.send(b"Q", b"COPY up FROM STDIN\0")
        before, sent = proxy.rss(), [0]

        def upload():
            for _ in range(30000):
                w.send(b"d", row)
                sent[0] += 1
            w.send(b"c", b"")

        thread = threading.Thread(target=upload)
        thread.start()
        time.sleep(1.5)
        assert sent[0] < 30000 and (SANITIZED or proxy.rss() - before < 4 << 20), (sent, proxy.rss() - before)
        pg_conn.rollback()
        thread.join(60)
        kinds = []
        while not kinds or kinds[-1] != b"Z":
            kinds.append(w.message()[0])
        assert kinds[-2:] == [b"C", b"Z"]
        assert w.query("SELECT count(*), min(length(t)) FROM up") == [["30000", "999"]]
        w.query("DROP TABLE up")
    pg_conn.close()


def test_half_close(proxy):
    """A client that closes its half still gets its answer."""
    with proxy.session(tls=False) as w:
        w.send(b"Q", b"SELECT pg_sleep(0.3), 'late'\0")
        w.sock.shutdown(socket.SHUT_WR)
        kinds = []
        with contextlib.suppress(EOFError):
            while True:
                kinds.append(w.message()[0])
        assert kinds == [b"T", b"D", b"C", b"Z"]


def message(kind, payload=b""):
    return kind + struct.pack("!I", len(payload) + 4) + payload


EXTENDED_COPY = message(b"P", b"\0COPY t FROM STDIN\0\0\0") + message(b"B", b"\0\0\0\0\0\0\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"S")


def test_copy_and_pipelines_leave_the_session_idle(proxy):
    """What HELD reports after each: the session counts as idle when it is."""
    def held():
        proxy.mered.forget()
        proxy.mered.say(f"HOLD {EP} 1 7")
        n = int(proxy.mered.wait(f"HELD {EP} 1 7 .*")[0].split(" ")[4])
        proxy.mered.say(f"RELEASE {EP} 1")
        return n

    with contextlib.closing(proxy.connect()) as conn, conn.cursor() as cur:
        assert held() == 0
        cur.execute("CREATE TEMP TABLE t (a text)")
        cur.copy_expert("COPY t FROM STDIN", io.StringIO("a\nb\n"))
        assert held() == 0
        with pytest.raises(psycopg2.Error):
            cur.copy_expert("COPY t (nope) FROM STDIN", io.StringIO("a\n"))
        assert held() == 0
        cur.execute("BEGIN")
        assert held() == 1
        with pytest.raises(psycopg2.Error):
            cur.execute("SELECT 1/0")
        assert held() == 1
        cur.execute("ROLLBACK")
        assert held() == 0
        cur.execute("LISTEN x")
        assert held() == 0
    with contextlib.closing(proxy.session()) as w:
        w.send(b"Q", b"SELECT 1\0")
        w.send(b"Q", b"SELECT pg_sleep(1)\0")
        while w.message()[0] != b"Z":
            pass
        assert held() == 1  # the second one runs
        while w.message()[0] != b"Z":
            pass
        assert held() == 0
        w.send(b"P", b"\0SELECT 1\0\0\0")
        w.send(b"H", b"")
        assert w.message()[0] == b"1"
        assert held() == 1  # nothing closes the batch yet
        w.send(b"S", b"")
        assert w.message()[0] == b"Z"
        assert held() == 0
        w.query("CREATE TEMP TABLE t (a text)")
        w.sock.sendall(EXTENDED_COPY + message(b"d", b"a\n") + message(b"c") + message(b"S"))  # one go, without waiting for Postgres
        while w.message()[0] != b"Z":
            pass
        assert held() == 0
        w.sock.sendall(EXTENDED_COPY + message(b"d", b"a\n") + message(b"c") + message(b"H"))
        while w.message()[0] != b"C":
            pass
        assert held() == 1  # only a Sync ends its transaction
        w.send(b"S", b"")
        assert w.message()[0] == b"Z"
        assert held() == 0
        assert w.query("SELECT count(*) FROM t") == [["2"]]
        w.sock.sendall(b"Q")
        time.sleep(0.1)
        assert held() == 1  # half a message


def test_memory_of_idle_sessions(make, pg):
    n = 50
    proxy = make()
    with contextlib.closing(proxy.connect()):
        pass
    for mode, limit in (("disable", 16 << 10), ("require", 64 << 10)):
        before = proxy.rss()
        conns = [proxy.connect(sslmode=mode) for _ in range(n)]
        each = (proxy.rss() - before) // n
        print(f"idle session, sslmode={mode}: {each} bytes")
        assert SANITIZED or each <= limit
        for c in conns:
            c.close()
        until(lambda: backends(pg) == 0, 10, "sessions to end")


def test_resets_in_every_state(proxy, pg):
    """RST from the client at each point: nothing is left, neither descriptor nor backend."""
    def reset(s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    proxy.value()
    until(lambda: backends(pg) == 0, 10, "the first session to end")
    before = procs.count_fds(proxy.pid)
    for _ in range(20):
        reset(proxy.raw())
        s = proxy.raw()
        s.sendall(GOOD[:20])
        reset(s)
        s = proxy.raw()
        s.sendall(SSL_REQUEST)
        reset(s)
        s = proxy.raw()
        s.sendall(SSL_REQUEST + b"")
        s.recv(1)
        s.sendall(b"\x16\x03\x01\x02\x00")
        reset(s)
        s = proxy.raw()
        s.sendall(startup_packet(user=USER, database=DATABASE, options=f"endpoint={OTHER}"))
        reset(s)
        s = proxy.raw()
        s.sendall(GOOD)
        reset(s)
        w = proxy.session(tls=False)
        w.send(b"Q", b"SELECT repeat('x', 1000000) FROM generate_series(1, 20)\0")
        reset(w.sock)
    until(lambda: backends(pg) == 0 and procs.count_fds(proxy.pid) <= before, 20, "everything to be closed")


# --- cancel --------------------------------------------------------------------------------------------------------------------------


def test_cancel(proxy, pg):
    with contextlib.closing(proxy.session()) as w:
        pid, key = w.backend_key
        assert [[str(pid)]] != w.query("SELECT pg_backend_pid()")  # the proxy's own, not Postgres's
        w.send(b"Q", b"SELECT pg_sleep(30)\0")
        until(lambda: pg.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' AND pid <> "
                               "pg_backend_pid()") == 1, 10, "the query to run")
        for wrong in ((pid, key ^ 1), (pid ^ 2, key), (0, 0)):
            assert wire.cancel("127.0.0.1", proxy.port, *wrong) == b""
        time.sleep(0.2)
        w.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            w.message()
        w.sock.settimeout(10)
        assert wire.cancel("127.0.0.1", proxy.port, pid, key) == b""
        with pytest.raises(wire.Refused) as e:
            while True:
                w.message()
        assert e.value.sqlstate == "57014"
        assert w.message()[0] == b"Z"
        assert w.query("SELECT 1") == [["1"]]
    until(lambda: backends(pg) == 0, 10, "the session to end")
    assert wire.cancel("127.0.0.1", proxy.port, pid, key) == b""  # late
    assert len(proxy.mered.seen("WAKE .*")) == 1


def test_cancel_through_psycopg_and_tls(proxy):
    with contextlib.closing(proxy.connect()) as conn, conn.cursor() as cur:
        timer = threading.Timer(0.3, conn.cancel)
        timer.start()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cur.execute("SELECT pg_sleep(30)")
        timer.join()
    with wire.Wire("127.0.0.1", proxy.port) as w:  # inside TLS, as newer clients do
        w.sock.sendall(struct.pack("!IIII", 16, 80877102, 1, 1))
        assert w.sock.recv(10) == b""


# --- mered comes and goes ------------------------------------------------------------------------------------------------------------


def test_mered_is_killed_and_comes_back(make, pg):
    proxy = make("--connect-timeout-ms", "20000")
    conns = [proxy.connect() for _ in range(3)]
    proxy.mered.stop()
    proxy.mered.forget()
    for c in conns:
        with c.cursor() as cur:
            cur.execute("SELECT 1")
    assert proxy.value() == 1  # a new session to a running endpoint
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(proxy.value, options=f"endpoint={OTHER}")
        time.sleep(0.5)
        assert not waiting.done()
        proxy.mered.answers[OTHER] = serves(pg.socket / ".s.PGSQL.5432", ep=OTHER)
        proxy.mered.start()
        assert waiting.result(10) == 1
    lines = [line for _, line in proxy.mered.lines]
    assert lines[0].startswith("HELLO 4 ") and lines[1] == f"SESSIONS {EP} 1 3" and lines[2] == "SYNCED", lines
    assert lines[3].startswith("WAKE ") and OTHER in lines[3], lines
    for c in conns:
        with c.cursor() as cur:
            cur.execute("SELECT 1")
        c.close()


def test_deadline_while_mered_is_away(make):
    proxy = make("--connect-timeout-ms", "500")
    proxy.mered.stop()
    e = proxy.refusal(options=f"endpoint={EP}")
    assert e.sqlstate == "57P03" and "control plane" in e.message
    proxy.mered.start()
    assert proxy.value() == 1


def test_a_mered_that_talks_nonsense(proxy):
    for line in ("", " ", "OK", "OK 1", f"OK x {EP} 1 /s 5 -", f"OK 1 {EP} -1 /s 5 -", f"OK 1 {EP} 1 /s 0 -", "OK 1 ../x 1 /s 5 -",
                 f"OK 1 {EP} 1 %zz 5 -", f"OK 1 {EP} 1 /s 5", f"OK 1 {EP} 1 /s 5 %zz",
                 "ERR 1 x y z", f"HOLD {EP}", f"HOLD {EP} x 7", "HOLD x/y 1 7", f"HOLD {EP} 1 x", "OTHERS x", "OTHERS", "STRAY 00", "RETIRE", "RETIRE 1", f"GONE {EP} 1 2", "DROP", "FROB 1", "a b c d e f g h i j k l m", "\0",
                 f"RELEASE {EP} 99999999999999999999"):
        proxy.mered.say(line)
    assert proxy.value() == 1
    assert len(proxy.mered.seen("HELLO .*")) == 1
    proxy.mered.say("x" * 5000)
    proxy.mered.wait("HELLO .*", 2)
    assert proxy.value() == 1


# --- HOLD, RELEASE, GONE, DROP -------------------------------------------------------------------------------------------------------


def test_hold_and_release(proxy):
    with contextlib.closing(proxy.connect()) as idle, contextlib.closing(proxy.connect()) as busy:
        with busy.cursor() as cur:
            cur.execute("BEGIN")
        proxy.mered.say(f"HOLD {EP} 1 7")
        assert proxy.mered.wait(f"HELD {EP} 1 7 .*") == [f"HELD {EP} 1 7 1"]
        newcomer = later(proxy.value)
        query = later(lambda: idle.cursor().execute("SELECT 1"))
        with busy.cursor() as cur:  # who is active goes on
            cur.execute("SELECT 1")
            cur.execute("COMMIT")
        time.sleep(0.5)
        assert not newcomer.done() and not query.done()
        proxy.mered.say(f"RELEASE {EP} 1")
        assert newcomer.result(10) == 1
        query.result(10)
    assert len(proxy.mered.seen("WAKE .*")) == 1


def test_hold_counts_bytes_that_nobody_has_read_yet(proxy):
    """A query that arrives together with HOLD is activity, or it is not read; it is never lost half-way."""
    with contextlib.closing(proxy.session()) as w:
        for i in range(200):
            proxy.mered.forget()
            w.send(b"Q", b"SELECT 1\0")
            proxy.mered.say(f"HOLD {EP} 1 7")
            active = int(proxy.mered.wait(f"HELD {EP} 1 7 .*")[0].split(" ")[4])
            if active == 0:  # then the query has either been answered, or waits outside
                proxy.mered.say(f"RELEASE {EP} 1")
            while w.message()[0] != b"Z":
                pass
            proxy.mered.say(f"RELEASE {EP} 1")


def test_gone(proxy, pg):
    idle, other = proxy.session(), proxy.session(tls=False)
    proxy.mered.say(f"HOLD {EP} 1 7")
    proxy.mered.wait(f"HELD {EP} 1 7 0")
    newcomer = later(proxy.value)
    time.sleep(0.3)
    first = int(proxy.mered.seen("WAKE .*")[0].split(" ")[1])
    proxy.mered.forget()
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=2)
    proxy.mered.say(f"GONE {EP} 1")
    assert newcomer.result(10) == 1
    asked = proxy.mered.seen("WAKE .*")
    assert len(asked) == 1 and int(asked[0].split(" ")[1]) == first + 1 and asked[0].endswith(f" endpoint {EP} {DATABASE} - -"), asked
    other.send(b"Q", b"SELECT 1\0")  # too late: nobody answers, but nobody resets either
    assert [ended(idle), ended(other)] == ["57P01", "57P01"]
    proxy.mered.forget()
    for line in (f"GONE {EP} 1", f"HOLD {EP} 1 7"):  # old news
        proxy.mered.say(line)
    assert proxy.value() == 1
    assert proxy.mered.seen("WAKE .*|HELD .*") == []


def test_gone_while_a_result_is_under_way(proxy):
    """Inside a message nothing can be added: the stream ends, cleanly."""
    with contextlib.closing(proxy.session(tls=False)) as w:
        w.send(b"Q", b"SELECT repeat('x', 50000000)\0")
        time.sleep(0.5)
        proxy.mered.say(f"DROP {EP}")
        time.sleep(0.2)
        with pytest.raises((EOFError, wire.Refused)):  # never ConnectionResetError
            while True:
                w.message()


def test_drop_ends_everybody(proxy):
    busy, idle = proxy.session(), proxy.session()
    busy.query("BEGIN")
    busy.send(b"Q", b"SELECT pg_sleep(30)\0")
    time.sleep(0.2)
    proxy.mered.answers[EP] = "ERR 3D000 gone -"
    proxy.mered.say(f"DROP {EP}")
    assert [ended(busy), ended(idle)] == ["57P01", "57P01"]
    assert proxy.refusal(options=f"endpoint={EP}").sqlstate == "3D000"


def test_hold_for_an_unknown_endpoint(proxy, pg):
    proxy.mered.say(f"HOLD {EP} 3 7")
    proxy.mered.wait(f"HELD {EP} 3 7 0")
    client = later(proxy.value)
    time.sleep(0.3)
    assert not client.done() and proxy.mered.seen("WAKE .*") == []
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=4)
    proxy.mered.say(f"GONE {EP} 3")
    assert client.result(10) == 1


def test_mered_dies_while_it_holds_the_door(proxy):
    with contextlib.closing(proxy.connect()) as conn:
        proxy.mered.say(f"HOLD {EP} 1 7")
        proxy.mered.wait(f"HELD {EP} 1 7 0")
        query = later(lambda: conn.cursor().execute("SELECT 1"))
        newcomer = later(proxy.value)
        time.sleep(0.2)
        proxy.mered.stop()
        query.result(10)
        assert newcomer.result(10) == 1


def test_races_of_hold_and_clients(proxy, pg):
    """Doors open and shut, generations change, clients come and query: each is served or told 57P01, and no one hangs."""
    halt, served, told, odd, dice = threading.Event(), [0], [0], [], random.Random(3)
    g = [1]

    def answer():
        proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=g[0], most=4)

    def client():
        while not halt.is_set():
            try:
                with contextlib.closing(proxy.session(tls=dice.random() < 0.5)) as w:
                    w.send(b"Q", b"SELECT 1\0")
                    while w.message()[0] != b"Z":
                        pass
                served[0] += 1
            except wire.Refused as e:
                told[0] += 1
                if e.sqlstate != "57P01":
                    odd.append(repr(e))
            except (OSError, EOFError) as e:
                odd.append(repr(e))

    answer()
    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    begun = time.monotonic()
    while time.monotonic() < begun + 8 or (served[0] <= 50 and time.monotonic() < begun + 90):  # a busy machine takes longer for as many
        n = len(proxy.mered.seen("HELD .*"))
        proxy.mered.say(f"HOLD {EP} {g[0]} 7")
        proxy.mered.wait("HELD .*", n + 1)
        time.sleep(dice.random() * 0.02)
        if dice.random() < 0.5:
            proxy.mered.say(f"RELEASE {EP} {g[0]}")
        else:
            g[0] += 1
            answer()
            proxy.mered.say(f"GONE {EP} {g[0] - 1}")
        time.sleep(dice.random() * 0.05)
    halt.set()
    proxy.mered.say(f"RELEASE {EP} {g[0]}")
    for t in threads:
        t.join(40)
    assert not odd and served[0] > 50, (served, told, odd[:3])
    assert not any(t.is_alive() for t in threads)
    print(f"served {served[0]}, told {told[0]}, generations {g[0]}")


# --- computes that come and go -------------------------------------------------------------------------------------------------------


def test_a_stale_address(proxy, pg):
    """The compute moved without a word: the next client does not notice."""
    proxy.mered.answers[EP] = serves(proxy.base / "nobody")
    client = later(proxy.value)
    proxy.mered.wait("WAKE .*", 3)  # asked again and again, with pauses
    time.sleep(1)
    assert len(proxy.mered.seen("WAKE .*")) < 30
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=2)
    assert client.result(10) == 1


def test_not_ready_is_tried_again(proxy):
    """57P03 and 53300 before authentication, silence and half an error: none of it reaches the client."""
    def script(conn, n):
        words = [error("57P03"), error("53300"), b"", b"E\0\0\0", b"Ecould not fork\n\0", auth(10, b"SCRAM-SHA-256\0\0")]
        if n > len(words):
            scram(conn)
            conn.sendall(LOGIN)
            conn.recv(100)
        else:
            conn.sendall(words[n - 1])

    fake = FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.login(PASSWORD, user=USER, options=f"endpoint={EP}")
        assert w.backend_key != (77, 88)
    assert fake.count == 7


def test_refusals_that_waking_cannot_cure(proxy):
    def script(conn, n):
        if n == 2:
            scram(conn)
        conn.sendall(error("3D000") if n == 1 else auth(0) + error("53300"))

    fake = FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    assert proxy.refusal(options=f"endpoint={EP}").sqlstate == "3D000"
    assert fake.count == 1
    assert proxy.refusal(options=f"endpoint={EP}").sqlstate == "53300"  # of the role, once it is known to be the role
    assert fake.count == 2


def test_a_backlog_that_is_full(proxy):
    """EAGAIN from a unix socket means try again: all are served, in time."""
    gate = threading.Event()

    def script(conn, _):
        with contextlib.suppress(OSError):
            scram(conn)
            conn.sendall(LOGIN)
            conn.recv(100)

    path = proxy.base / "pg"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.chmod(path, 0o777)
    listener.listen(0)
    proxy.mered.answers[EP] = serves(path, most=50)
    clients = [later(lambda: login_only(proxy)) for _ in range(30)]
    time.sleep(0.7)
    assert not any(c.done() for c in clients)

    def accept():
        while not gate.is_set():
            conn = listener.accept()[0]
            size = struct.unpack("!I", conn.recv(4))[0]
            conn.recv(size - 4)
            threading.Thread(target=script, args=(conn, 0), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    for c in clients:
        c.result(15)
    gate.set()
    assert len(proxy.mered.seen("WAKE .*")) == 1


def login_only(proxy):
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.login(PASSWORD, user=USER, options=f"endpoint={EP}")


def test_a_compute_that_crashes(proxy):
    """The client is told, between two messages; inside one it is a plain end."""
    def script(conn, n):
        scram(conn)
        conn.sendall(LOGIN + (b"D\0\0\1\0ab" if n == 2 else b""))
        time.sleep(0.2)

    FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.prove(PASSWORD, user=USER, options=f"endpoint={EP}")
        with pytest.raises(wire.Refused) as e:
            while True:
                w.message()
        assert e.value.sqlstate == "57P02"
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.prove(PASSWORD, user=USER, options=f"endpoint={EP}")
        with pytest.raises(EOFError):
            while True:
                w.message()


def test_hostile_computes(proxy):
    """Whatever the server sends, before or after it has let the client in, only its own session ends."""
    dice = random.Random(5)
    before = [b"R\0\0\0\3", b"\0" * 50, b"R" * 3, b"E\0\0\0\4", b"E\0\1\0\0" + b"x" * 40000, LOGIN, auth(3), auth(10, b"SCRAM-SHA-256"),
              auth(10, b"PLAIN\0\0"), auth(11, b"r=x,s=AAAA,i=4096"), auth(12, b"v=x"), auth(10, b"SCRAM-SHA-256\0\0") + LOGIN,
              auth(10, b"SCRAM-SHA-256\0\0") * 2, b"R\x7f\xff\xff\xff", b"N\0\0\0\4" * 5000]
    after = [b"Z\xff\xff\xff\xff", LOGIN + b"Z\0\0\0\0", b"K\0\0\0\5x" + LOGIN, LOGIN * 50]
    gate = [b""]

    def spoil(data):
        data = bytearray(data)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        return bytes(data)

    def script(conn, n):
        if gate[0] in before:
            conn.sendall(gate[0])
        elif gate[0] in after:
            scram(conn)
            conn.sendall(gate[0])
        else:
            scram(conn, spoil=lambda step, data: spoil(data) if step == gate[0] else data)
            conn.sendall(spoil(LOGIN * 3))

    FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[OTHER] = serves(proxy.base / "pg", ep=OTHER)
    with contextlib.closing(proxy.connect()) as conn:
        for gate[0] in [*before, *after, *("offer", "challenge", "final") * 30, *[""] * 60]:
            with contextlib.suppress(OSError, EOFError, wire.Refused), \
                    wire.Wire("127.0.0.1", proxy.port, tls=dice.random() < 0.3, timeout=1) as w:
                w.prove(PASSWORD, user=USER, options=f"endpoint={OTHER}")
                while w.sock.recv(65536):
                    pass
        with conn.cursor() as cur:
            cur.execute("SELECT 1")
