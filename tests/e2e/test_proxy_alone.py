"""mere-proxy by itself, up to the session: names, first packets, crowds, the process."""
import contextlib
import os
import random
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import procs, wire
from harness.proxyrig import (
    BRANCH, DATABASE, EP, GOOD, NOT_BUILT, OTHER, PASSWORD, PROXY, SSL_REQUEST, USER, backends, ended, read_error,
    serves, startup_packet,
)
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures
from harness.server import until

pytestmark = NOT_BUILT


# --- naming --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conninfo", [
    f"host={EP}.localhost hostaddr=127.0.0.1 sslmode=require dbname={DATABASE}",
    f"host=127.0.0.1 sslmode=require dbname={DATABASE} options=endpoint={EP}",
    f"host=localhost hostaddr=127.0.0.1 sslmode=require dbname={DATABASE} options='-c geqo=on endpoint={EP}'",
    f"host=127.0.0.1 sslmode=require dbname={DATABASE}@{EP}",
    f"host=127.0.0.1 sslmode=prefer dbname={DATABASE}@{EP}",
    f"host=127.0.0.1 sslmode=disable dbname={DATABASE}@{EP}",
    f"host=127.0.0.1 sslmode=disable dbname={DATABASE} options=project={EP}",
    f"host={EP}.localhost hostaddr=127.0.0.1 sslmode=require dbname={DATABASE}@{EP} options=endpoint={EP}",
    f"host=127.0.0.1 sslmode=require gssencmode=prefer dbname={DATABASE}@{EP}",
])
def test_psql_names_it(proxy, conninfo):
    got = proxy.psql(f"{conninfo} port={proxy.port}", "SELECT current_database(), 6 * 7")
    assert got.stdout == f"{DATABASE}|42\n", got.stderr
    asked = proxy.mered.seen("WAKE .*")
    assert len(asked) == 1 and re.fullmatch(rf"WAKE \d+ endpoint {EP} {DATABASE} - -", asked[0]), asked


def test_psql_url(proxy):
    got = proxy.psql(f"postgresql://{USER}@127.0.0.1:{proxy.port}/{DATABASE}?sslmode=require&options=endpoint%3D{EP}", "SHOW work_mem")
    assert got.returncode == 0, got.stderr


def test_branches_are_asked_for_every_time(proxy):
    proxy.mered.branches = {name: EP for name in ("main", "feature/ä b", BRANCH)}
    for name, host in (("main", None), ("feature/ä b", None), (None, f"{BRANCH}.localhost"), ("main", None)):
        word = name and name.replace(" ", "\\ ")
        assert proxy.value(options=word and f"branch={word}", **({"host": host, "hostaddr": "127.0.0.1"} if host else {})) == 1
    assert [w.split(" ")[2] for w in proxy.mered.seen("FIND .*")] == ["main", "feature%2F%C3%A4%20b", BRANCH, "main"]
    assert [w.split(" ")[2:] for w in proxy.mered.seen("WAKE .*")] == [["endpoint", EP, DATABASE, "-", "-"]]  # it runs


def test_options_of_postgres_arrive(proxy):
    assert proxy.value("SHOW application_name", options=f"-c application_name=a\\ b\\\\c endpoint={EP} -c geqo=off") == "a b\\c"
    assert proxy.value("SHOW geqo", options=f"--geqo=off endpoint={EP}") == "off"
    e = proxy.refusal(options=f"endpoint={EP} -c no_such_setting=1")
    assert e.sqlstate == "42704", e


@pytest.mark.parametrize("sqlstate,params,sni", [
    ("08004", {}, None), ("08004", {}, "localhost"), ("08004", {"options": f"endpoint={EP}"}, f"{OTHER}.localhost"),
    ("08004", {"database": f"x@{OTHER}", "options": f"endpoint={EP}"}, None), ("08004", {"options": f"branch=a endpoint={EP}"}, None),
    ("08004", {"options": "endpoint=nonsense"}, None), ("0A000", {"options": "-c geqo=off"}, f"{EP}-pooler.localhost"),
    ("0A000", {"options": f"endpoint={EP}", "replication": "database"}, None), ("28000", {"user": "mere_admin", "options": f"endpoint={EP}"}, None),
    ("22023", {"options": f"endpoint={EP} neon_lsn:1"}, None), ("28000", {"user": "", "options": f"endpoint={EP}"}, None),
])
def test_refused_before_anybody_is_asked(proxy, sqlstate, params, sni):
    e = proxy.refusal(sni=sni, **params)
    assert e.sqlstate == sqlstate and e.fields["S"] == "FATAL", e
    assert proxy.mered.seen("WAKE .*") == []


def test_what_mered_says_reaches_the_client(proxy):
    proxy.mered.branches["none"] = "ERR 3D000 branch%20%22none%22%20does%20not%20exist%2C%20100%25 look%20at%20%22mere%20branches%22"
    e = proxy.refusal(options="branch=none")
    assert (e.sqlstate, e.message, e.fields["H"]) == ("3D000", 'branch "none" does not exist, 100%', 'look at "mere branches"')
    proxy.mered.answers[EP] = "ERR 57P03 later -"
    e = proxy.refusal(options=f"endpoint={EP}")
    assert e.sqlstate == "57P03" and "H" not in e.fields


def test_another_endpoint_than_the_one_asked_for_is_refused(proxy, pg):
    """Whoever made the mistake: a client never lands in a database that it did not name."""
    proxy.mered.answers[OTHER] = serves(pg.socket / ".s.PGSQL.5432")
    e = proxy.refusal(options=f"endpoint={OTHER}")
    assert (e.fields["S"], e.sqlstate) == ("FATAL", "58000") and OTHER in e.message and EP not in e.message, e
    assert backends(pg) == 0
    assert re.search(rf'answered with another endpoint.* asked={OTHER} answer={EP}', proxy.log_text()), proxy.log_text()
    proxy.mered.answers[OTHER] = serves(pg.socket / ".s.PGSQL.5432", ep=OTHER)
    assert proxy.value(options=f"endpoint={OTHER}") == 1
    assert proxy.value() == 1


def test_no_two_proxies_count_alike(make):
    """So that an answer to one that died is nobody's."""
    numbers = []
    for _ in range(2):
        proxy = make()
        proxy.mered.answers[EP] = "ERR 57P03 later -"
        for _ in range(2):
            proxy.refusal(options=f"endpoint={EP}")
        numbers.append([int(line.split(" ")[1]) for line in proxy.mered.seen("WAKE .*")])
    (a, a2), (b, b2) = numbers
    assert a2 == a + 1 and b2 == b + 1 and abs(a - b) > 1000 and max(a, b) < 2**63, numbers


def test_what_postgres_says_reaches_the_client(proxy):
    e = proxy.refusal(options=f"endpoint={EP}", database="no_such_db")
    assert e.sqlstate == "3D000" and e.fields["R"] == "InitPostgres", e.fields  # its own words, to the last field


# --- first packets -------------------------------------------------------------------------------------------------------------------


def test_every_truncation_of_a_startup_packet(proxy):
    for n in range(len(GOOD)):
        with proxy.raw() as s:
            s.sendall(GOOD[:n])
            s.shutdown(socket.SHUT_WR)
            e = read_error(s)
            assert (e is None) if n == 0 else e["C"] == "08P01", (n, e)
    assert proxy.mered.seen("WAKE .*") == []
    assert proxy.value() == 1


@pytest.mark.parametrize("tls", [False, True])
def test_byte_by_byte(proxy, tls):
    """Every packet in pieces of one byte, to the end of a query."""

    class Slow:
        def __init__(self, sock):
            self.sock = sock

        def sendall(self, data):
            for i in range(len(data)):
                self.sock.send(data[i:i + 1])

        def __getattr__(self, name):
            return getattr(self.sock, name)

    with wire.Wire("127.0.0.1", proxy.port, tls=tls) as w:
        w.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        w.sock = Slow(w.sock)
        w.login(PASSWORD, user=USER, database=DATABASE, options=f"endpoint={EP}")
        assert w.query("SELECT 'slow'") == [["slow"]]


def test_garbage(proxy):
    dice = random.Random(7)
    for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\0\0\0", b"\xff" * 100, b"\0\0\x27\x11", b"\0\0\0\x08\0\2\0\0", b"SSH-2.0-x\r\n"):
        with proxy.raw() as s:
            s.sendall(text)
            e = read_error(s)
            assert e and e["C"] in ("08P01", "0A000"), (text, e)
    for _ in range(300):
        with proxy.raw() as s, contextlib.suppress(ConnectionError):
            s.sendall(dice.randbytes(dice.randrange(1, 200)))
            s.shutdown(socket.SHUT_WR)
            with contextlib.suppress(AssertionError):  # TLS alerts, where the first byte said TLS
                read_error(s)
    for _ in range(300):  # a good length and version, and noise behind
        body = bytes(dice.choice(b"\0\0\0useroptions=ep-@") for _ in range(dice.randrange(1, 120)))
        with proxy.raw() as s:
            s.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
            s.shutdown(socket.SHUT_WR)
            assert read_error(s)
    assert proxy.value() == 1


def test_a_packet_of_the_largest_size(proxy):
    filler = "x" * (10000 - len(GOOD) - len("application_name") - 2)
    with proxy.raw() as s:
        s.sendall(startup_packet(user=USER, database=DATABASE, options=f"endpoint={EP}", application_name=filler))
        assert s.recv(1) == b"R"
    with proxy.raw() as s:
        s.sendall(startup_packet(user=USER, database=DATABASE, options=f"endpoint={EP}", application_name=filler + "x"))
        assert read_error(s)["C"] == "08P01"


def test_newer_protocols_are_talked_down(proxy):
    with proxy.raw() as s:
        s.sendall(startup_packet(version=196610, user=USER, database=DATABASE, options=f"endpoint={EP}", **{"_pq_.report": "x"}))
        f = s.makefile("rb")
        kind, size = struct.unpack("!cI", f.read(5))
        assert kind == b"v" and f.read(size - 4) == struct.pack("!II", 196608, 1) + b"_pq_.report\0"
        assert f.read(1) == b"R"


# --- many clients --------------------------------------------------------------------------------------------------------------------


def test_200_clients_and_5_seats(proxy, pg):
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", most=5)
    gate, most, halt = threading.Barrier(200), [0], threading.Event()

    def watch():
        while not halt.is_set():
            most[0] = max(most[0], backends(pg))
            time.sleep(0.005)

    def client(i):
        gate.wait()
        return proxy.value(f"SELECT {i}")

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(client, range(200)))
    halt.set()
    watcher.join()
    assert answers == list(range(200))
    assert 1 <= most[0] <= 6, most  # one more may be seen between its last byte and its exit
    assert len(proxy.mered.seen("WAKE .*")) == 1


def test_no_seat_until_the_deadline(make, pg):
    proxy = make("--connect-timeout-ms", "700")
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", most=1)
    with contextlib.closing(proxy.connect()):
        begun = time.monotonic()
        assert proxy.refusal(options=f"endpoint={EP}").sqlstate == "53300"
        assert 0.6 < time.monotonic() - begun < 5


def test_no_answer_until_the_deadline(make):
    proxy = make("--connect-timeout-ms", "500")
    proxy.mered.answers[EP] = None
    assert proxy.refusal(options=f"endpoint={EP}").sqlstate == "57P03"
    number = proxy.mered.seen("WAKE .*")[0].split(" ")[1]
    proxy.mered.wait(f"CANCEL {number}")


def test_one_question_for_all(proxy):
    proxy.mered.answers[EP] = None
    socks = [proxy.waiting() for _ in range(50)]
    number = proxy.mered.wait("WAKE .*")[0].split(" ")[1]
    for s in socks[1:]:
        s.close()
    time.sleep(0.3)
    assert len(proxy.mered.seen("WAKE .*")) == 1 and proxy.mered.seen("CANCEL .*") == []
    socks[0].close()
    proxy.mered.wait(f"CANCEL {number}")


def test_more_clients_than_allowed(make):
    proxy = make("--max-clients", "3")
    conns = [proxy.connect() for _ in range(3)]
    e = proxy.refusal(options=f"endpoint={EP}")
    assert e.sqlstate == "53300", e
    conns.pop().close()
    until(lambda: "state=open" in proxy.log_text(), 5, "the closed session")
    conns.append(proxy.connect())
    for c in conns:
        c.close()


def test_out_of_descriptors(make):
    """More connections than descriptors: no spinning, nobody inside is hurt, and it recovers."""
    limit = ["prlimit", "--nofile=200:200"]
    if os.getuid() == 0:
        limit += ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    with contextlib.ExitStack() as stack:  # descriptors it does not know of, so that its own sums are wrong
        proxy = make(prefix=limit, inherit=[stack.enter_context(open("/dev/null", "rb")).fileno() for _ in range(150)])
    with contextlib.closing(proxy.connect()) as conn, conn.cursor() as cur:
        crowd = []
        for _ in range(300):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", proxy.port))
            crowd.append(s)
        until(lambda: "cannot accept" in proxy.log_text(), 5, "descriptors to run out")
        before = proxy.cpu()
        time.sleep(2)
        assert proxy.cpu() - before < 0.3
        cur.execute("SELECT 1")
        for s in crowd:
            s.close()
        assert proxy.value() == 1


# --- the process ---------------------------------------------------------------------------------------------------------------------


def test_sigterm(proxy):
    idle, busy = proxy.session(), proxy.session()
    waiting = proxy.waiting(options=f"endpoint={OTHER}")
    proxy.mered.wait(f"WAKE .*{OTHER}.*")
    busy.send(b"Q", b"SELECT pg_sleep(1.5)\0")
    time.sleep(0.3)
    begun = time.monotonic()
    proxy.proc.send_signal(signal.SIGTERM)
    assert ended(waiting) == "57P01"
    assert ended(idle) == "57P01"
    with pytest.raises(OSError):
        proxy.raw()
    assert [busy.message()[0] for _ in range(4)] == [b"T", b"D", b"C", b"Z"]  # who was active gets its answer
    assert ended(busy) == "57P01"
    assert proxy.proc.wait(10) == 0
    assert time.monotonic() - begun < 4


def test_sigterm_does_not_wait_for_ever(proxy):
    w = proxy.session()
    w.send(b"Q", b"SELECT pg_sleep(60)\0")
    time.sleep(0.3)
    proxy.proc.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert ended(w) == "57P01"
    assert proxy.proc.wait(10) == 0
    assert 4 < time.monotonic() - begun < 8


def test_sigint_is_for_somebody_else(proxy):
    proxy.proc.send_signal(signal.SIGINT)
    assert proxy.value() == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_privileges_are_given_up(proxy):
    status = procs.read(f"/proc/{proxy.pid}/status")
    for name, want in (("Uid", "65534\t65534\t65534\t65534"), ("Gid", "65534\t65534\t65534\t65534"), ("NoNewPrivs", "1"), ("Groups", ""),
                       ("CapEff", "0" * 16), ("CapPrm", "0" * 16)):
        assert re.search(rf"^{name}:\s*{want}\s*$", status, re.M), (name, status)
    assert os.stat(f"/proc/{proxy.pid}/mem").st_uid == 0  # not dumpable: not even its own user may look inside


def test_one_line_for_each_connection(proxy):
    proxy.value()
    proxy.refusal(options=f"endpoint={EP}", password="wrong")
    proxy.raw().close()
    until(lambda: proxy.log_text().count("msg=closed") == 3, 5, "three lines")
    line = re.search(r".*msg=closed ep=.*", proxy.log_text()).group(0)
    assert re.search(rf"ep={EP} user={USER} from=127\.0\.0\.1 ms=\d+ in=\d+ out=\d+ state=open reason=", line), line


@pytest.mark.parametrize("flags,says", [
    ([], "are needed"), (["--listen", "x"], "needed"), (["--nonsense"], "unknown"), (["--max-clients", "0"], "number"),
    (["--listen", "127.0.0.1:0", "--wake-socket", "/x", "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], "/nonexistent"),
])
def test_bad_flags(flags, says):
    got = subprocess.run([str(PROXY), *flags], capture_output=True, text=True, timeout=10)
    assert got.returncode == 1 and says in got.stderr, got


def test_a_port_in_use(proxy):
    got = subprocess.run([str(PROXY), "--listen", f"127.0.0.1:{proxy.port}", "--wake-socket", "/x", "--tls-cert", str(proxy.base / "crt"),
                          "--tls-key", str(proxy.base / "key")], capture_output=True, text=True, timeout=10)
    assert got.returncode == 1 and "cannot listen" in got.stderr, got


def test_connect_to_wake_is_quick(proxy):
    """From TCP connect to the WAKE line, TLS and the proof included (of which 4,096 rounds are the client's)."""
    proxy.mered.answers[EP] = None
    took = []
    for i in range(30):
        begun = time.monotonic()
        with proxy.waiting(tls=True):
            proxy.mered.wait("WAKE .*", i + 1)
            with proxy.mered.lock:
                took.append([at for at, line in proxy.mered.lines if line.startswith("WAKE")][i] - begun)
        proxy.mered.wait("CANCEL .*", i + 1)
    took.sort()
    print(f"connect to WAKE: median {took[15] * 1000:.2f} ms, best {took[0] * 1000:.2f} ms")
    assert took[0] < 0.02  # whatever else the machine does
