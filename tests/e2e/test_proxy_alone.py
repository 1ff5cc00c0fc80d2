"""mere-proxy by itself: a wake socket played by the test, a real Postgres behind it, psql and raw sockets in front."""
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.extensions
import pytest

from harness import procs, wire
from harness.cluster import BINDIR, Cluster
from harness.server import binaries, scratch, until

EP, OTHER, BRANCH = "ep-misty-sea-a5833nbi", "ep-other-sun-b6944ocj", "br-noisy-breeze-a5e59rrb"
USER, PASSWORD, DATABASE = "ann", "correct horse", "shop"
PROXY = binaries() / "mere-proxy"
SANITIZED = PROXY.exists() and b"__asan_init" in PROXY.read_bytes()  # then freed memory is kept, and says nothing
SSL_REQUEST, GSS_REQUEST = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)

pytestmark = pytest.mark.skipif(not PROXY.exists(), reason=f"{PROXY} is not built")


# --- the other side of the wake socket -----------------------------------------------------------------------------------------------


class FakeMered:
    """Listens, notes every line, and answers WAKE from a table.  answers: {name: line without R, or None for silence}."""

    def __init__(self, path):
        self.path, self.lines, self.answers = str(path), [], {}
        self.conn, self.listener, self.lock = None, None, threading.Condition()

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o777)
        self.listener.listen(8)
        threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()
        return self

    def _serve(self, listener):
        while True:
            try:
                conn = listener.accept()[0]
            except OSError:
                return
            with self.lock:
                self.conn = conn
            self._read(conn)

    def _read(self, conn):
        with contextlib.suppress(OSError), conn.makefile("r", encoding="ascii", newline="\n") as f:
            for line in f:
                self._line(line.rstrip("\n"))

    def _line(self, line):
        words = line.split(" ")
        with self.lock:
            self.lines.append((time.monotonic(), line))
            self.lock.notify_all()
        if words[0] == "WAKE" and len(words) == 5:
            answer = self.answers.get(urllib.parse.unquote(words[3]))
            if answer:
                kind, rest = answer.split(" ", 1)
                self.say(f"{kind} {words[1]} {rest}")

    def say(self, line):
        self.conn.sendall(line.encode() + b"\n")

    def seen(self, pattern):
        with self.lock:
            return [line for _, line in self.lines if re.fullmatch(pattern, line)]

    def wait(self, pattern, n=1, timeout=10):
        with self.lock:
            assert self.lock.wait_for(lambda: len([1 for _, x in self.lines if re.fullmatch(pattern, x)]) >= n, timeout), \
                (pattern, self.lines[-20:])
        return self.seen(pattern)

    def forget(self):
        with self.lock:
            self.lines.clear()

    def stop(self):
        """As kill -9 would: connection and listener are gone at once."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if self.conn:
            with contextlib.suppress(OSError):
                self.conn.shutdown(socket.SHUT_RDWR)
            self.conn.close()
        os.unlink(self.path)


def serves(cluster_socket, g=1, most=50, ep=EP):
    return f"OK {ep} {g} {urllib.parse.quote(str(cluster_socket), safe='')} {most}"


class Proxy:
    """mere-proxy and its fake mered."""

    def __init__(self, base, *flags, prefix=(), inherit=()):
        self.base, self.flags, self.prefix, self.inherit = base, list(flags), list(prefix), inherit
        self.mered = FakeMered(base / "wake").start()
        self.log = base / "proxy.log"
        self.proc = None

    def start(self):
        argv = [*self.prefix, str(PROXY), "--listen", "127.0.0.1:0", "--wake-socket", self.mered.path, "--tls-cert", str(self.base / "crt"),
                "--tls-key", str(self.base / "key"), "--reserved-user", "mere_admin", "--reserved-user", "root", *self.flags]
        if os.getuid() == 0:
            argv += ["--uid", "65534"]
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(argv, stderr=log, stdout=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                         pass_fds=self.inherit)
        hello = self.mered.wait(r"HELLO 1 \d+ 127\.0\.0\.1 \d+")[0].split(" ")
        self.mered.wait("SYNCED")
        self.pid, self.port = int(hello[2]), int(hello[4])
        return self

    def stop(self, signo=signal.SIGTERM, timeout=20):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signo)
        status = self.proc.wait(timeout)
        with contextlib.suppress(FileNotFoundError):
            self.mered.stop()
        return status

    def rss(self):
        return int(re.search(r"VmRSS:\s+(\d+) kB", procs.read(f"/proc/{self.pid}/status")).group(1)) * 1024

    def cpu(self):
        fields = procs.read(f"/proc/{self.pid}/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self, options=f"endpoint={EP}", **more):
        given = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": DATABASE, "sslmode": "require",
                 "options": options, "connect_timeout": 30, **more}
        conn = psycopg2.connect(**{k: v for k, v in given.items() if v is not None})
        conn.autocommit = True
        return conn

    def value(self, sql="SELECT 1", **kw):
        with contextlib.closing(self.connect(**kw)) as conn, conn.cursor() as cur:
            cur.execute(sql)
            return cur.fetchone()[0]

    def psql(self, conninfo, sql="SELECT 1"):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return subprocess.run([f"{BINDIR}/psql", "-XAtc", sql, conninfo], capture_output=True, text=True, timeout=60,
                              env={**env, "PGPASSWORD": PASSWORD, "PGUSER": USER})

    def session(self, tls=True, options=f"endpoint={EP}"):
        """Logged in, by hand: psycopg2 hides a FATAL that comes before the close, also from Postgres itself."""
        w = wire.Wire("127.0.0.1", self.port, tls=tls)
        w.login(PASSWORD, user=USER, database=DATABASE, options=options)
        return w

    def raw(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def refusal(self, sni=None, password=PASSWORD, **params):
        return wire.refusal("127.0.0.1", self.port, password, sni=sni, **{"user": USER, "database": DATABASE, **params})

    def log_text(self):
        return procs.read(self.log)


@pytest.fixture(scope="module")
def pg():
    base = scratch("mere-proxy-pg-")
    hba = base / "hba"
    hba.write_text("local all super trust\nlocal all all scram-sha-256\n")
    hba.chmod(0o644)
    cluster = Cluster(base, "pg", conf=[f"hba_file={hba}", "max_connections=60", "fsync=off"]).initdb().start()
    cluster.query(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
    cluster.query(f"CREATE DATABASE {DATABASE} OWNER {USER}")
    cluster.query(f"GRANT pg_monitor TO {USER}")
    yield cluster
    cluster.kill()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def certificate():
    base = scratch("mere-proxy-crt-")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(base / "key"),
                    "-out", str(base / "crt"), "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def make(pg, certificate):
    """make(*flags): a started proxy; after the test it must still run, or have ended with status 0, and say nothing odd."""
    made = []

    def build(*flags, **more):
        base = scratch("mere-proxy-")
        base.chmod(0o755)
        for name in ("crt", "key"):
            shutil.copy(certificate / name, base / name)
        (base / "key").chmod(0o600)
        p = Proxy(base, *flags, **more)
        p.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432")
        made.append(p)
        return p.start()

    yield build
    for p in made:
        ended = p.proc.poll() if p.proc else 0
        status = p.stop() if p.proc else 0
        text = p.log_text()
        shutil.rmtree(p.base, ignore_errors=True)
        assert ended in (None, 0) and status == 0, f"ended with {ended}, {status}: {text[-3000:]}"
        assert "Sanitizer" not in text and "runtime error" not in text, text[-6000:]
        assert PASSWORD not in text and "SCRAM" not in text


@pytest.fixture
def proxy(make):
    return make()


def backends(pg):
    return pg.value(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'")


def ended(w):
    """The SQLSTATE a session ends with; the stream then ends cleanly."""
    with pytest.raises(wire.Refused) as e:
        while True:
            w.message()
    assert w.sock.recv(100) == b""
    w.close()
    return e.value.sqlstate


def read_error(sock):
    """The ErrorResponse on a socket; None when it was closed without a word."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(4096):
            data += chunk
    if not data:
        return None
    assert data[:1] == b"E", data[:60]
    size = struct.unpack("!I", data[1:5])[0]
    assert len(data) == size + 1, data
    return {chr(f[0]): f[1:].decode() for f in data[5:-1].split(b"\0") if f}


def startup_packet(version=196608, **params):
    body = struct.pack("!I", version)
    for k, v in params.items():
        body += k.encode() + b"\0" + v.encode() + b"\0"
    return struct.pack("!I", len(body) + 5) + body + b"\0"


GOOD = startup_packet(user=USER, database=DATABASE, options=f"endpoint={EP}")


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
    assert proxy.mered.seen(r"WAKE \d+ .*") == [f"WAKE 1 endpoint {EP} {DATABASE}"]


def test_psql_url(proxy):
    got = proxy.psql(f"postgresql://{USER}@127.0.0.1:{proxy.port}/{DATABASE}?sslmode=require&options=endpoint%3D{EP}", "SHOW work_mem")
    assert got.returncode == 0, got.stderr


def test_branches_are_asked_for_every_time(proxy, pg):
    for name in ("main", "feature/ä b", BRANCH):
        proxy.mered.answers[name] = serves(pg.socket / ".s.PGSQL.5432")
    for name, host in (("main", None), ("feature/ä b", None), (None, f"{BRANCH}.localhost"), ("main", None)):
        word = name and name.replace(" ", "\\ ")
        assert proxy.value(options=word and f"branch={word}", **({"host": host, "hostaddr": "127.0.0.1"} if host else {})) == 1
    asked = [w.split(" ")[2:] for w in proxy.mered.seen("WAKE .*")]
    assert asked == [["branch", "main", DATABASE], ["branch", "feature%2F%C3%A4%20b", DATABASE], ["branch", BRANCH, DATABASE],
                     ["branch", "main", DATABASE]]


def test_options_of_postgres_arrive(proxy):
    assert proxy.value("SHOW application_name", options=f"-c application_name=a\\ b\\\\c endpoint={EP} -c geqo=off") == "a b\\c"
    assert proxy.value("SHOW geqo", options=f"--geqo=off endpoint={EP}") == "off"
    e = proxy.refusal(options=f"endpoint={EP} -c no_such_setting=1")
    assert e.sqlstate == "42704", e


@pytest.mark.parametrize("sqlstate,params,sni", [
    ("08004", {}, None), ("08004", {}, "localhost"), ("08004", {"options": f"endpoint={EP}"}, f"{OTHER}.localhost"),
    ("08004", {"database": f"x@{OTHER}", "options": f"endpoint={EP}"}, None), ("08004", {"options": f"branch=a endpoint={EP}"}, None),
    ("08004", {"options": "endpoint=nonsense"}, None), ("0A000", {}, f"{EP}-pooler.localhost"),
    ("0A000", {"options": f"endpoint={EP}", "replication": "database"}, None), ("28000", {"user": "mere_admin", "options": f"endpoint={EP}"}, None),
    ("0A000", {"options": f"endpoint={EP} neon_lsn:0/1"}, None), ("28000", {"user": "", "options": f"endpoint={EP}"}, None),
])
def test_refused_before_anybody_is_asked(proxy, sqlstate, params, sni):
    e = proxy.refusal(sni=sni, **params)
    assert e.sqlstate == sqlstate and e.fields["S"] == "FATAL", e
    assert proxy.mered.seen("WAKE .*") == []


def test_what_mered_says_reaches_the_client(proxy):
    proxy.mered.answers["none"] = "ERR 3D000 branch%20%22none%22%20does%20not%20exist%2C%20100%25 look%20at%20%22mere%20branches%22"
    e = proxy.refusal(options="branch=none")
    assert (e.sqlstate, e.message, e.fields["H"]) == ("3D000", 'branch "none" does not exist, 100%', 'look at "mere branches"')
    proxy.mered.answers["none"] = "ERR 57P03 later -"
    e = proxy.refusal(options="branch=none")
    assert e.sqlstate == "57P03" and "H" not in e.fields


def test_passwords_are_between_client_and_postgres(proxy):
    assert proxy.refusal(options=f"endpoint={EP}", password="wrong").sqlstate == "28P01"
    assert proxy.refusal(options=f"endpoint={EP}", user="nobody").sqlstate == "28P01"
    assert proxy.refusal(options=f"endpoint={EP}", database="no_such_db").sqlstate == "3D000"
    got = proxy.psql(f"host=127.0.0.1 port={proxy.port} sslmode=require channel_binding=require dbname={DATABASE}@{EP}")
    assert got.returncode == 2 and "channel binding" in got.stderr


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


def test_nothing_is_carried_into_tls(proxy):
    for first in (SSL_REQUEST, GSS_REQUEST):
        with proxy.raw() as s:
            s.sendall(first + GOOD)
            assert s.recv(100) == b""
    with proxy.raw() as s:
        s.sendall(SSL_REQUEST)
        assert s.recv(1) == b"S"
        s.sendall(GOOD)  # in the clear, where the handshake should be
        assert b"R" not in s.recv(1000)
    assert proxy.mered.seen("WAKE .*") == []


def test_order_of_requests(proxy):
    with proxy.raw() as s:
        s.sendall(GSS_REQUEST)
        assert s.recv(1) == b"N"
        s.sendall(SSL_REQUEST)
        assert s.recv(1) == b"S"
    with proxy.raw() as s:
        s.sendall(GSS_REQUEST)
        assert s.recv(1) == b"N"
        s.sendall(GSS_REQUEST)
        assert s.recv(1) == b""
    with wire.Wire("127.0.0.1", proxy.port) as w:
        w.sock.sendall(SSL_REQUEST)
        with pytest.raises(wire.Refused) as e:
            w.message()
        assert e.value.sqlstate == "08P01"


def direct_tls(proxy, alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context.wrap_socket(proxy.raw(), server_hostname=f"{EP}.localhost")


def test_direct_tls(proxy):
    with direct_tls(proxy, ["http/1.1", "postgresql"]) as s:
        assert s.selected_alpn_protocol() == "postgresql"
        s.sendall(startup_packet(user=USER, database=DATABASE))
        assert s.recv(1) == b"R"
    with pytest.raises(ssl.SSLError):
        direct_tls(proxy, ["http/1.1"])
    with contextlib.suppress(ssl.SSLError, ConnectionError), direct_tls(proxy, None) as s:
        s.sendall(startup_packet(user=USER, database=DATABASE))
        assert s.recv(100) == b""


def test_old_tls_is_refused(proxy):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with proxy.raw() as s:
        s.sendall(SSL_REQUEST)
        assert s.recv(1) == b"S"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(s)


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
    proxy.mered.wait(r"CANCEL 1")


def test_one_question_for_all(proxy):
    proxy.mered.answers[EP] = None
    socks = [proxy.raw() for _ in range(50)]
    for s in socks:
        s.sendall(GOOD)
    proxy.mered.wait("WAKE .*")
    for s in socks[1:]:
        s.close()
    time.sleep(0.3)
    assert len(proxy.mered.seen("WAKE .*")) == 1 and proxy.mered.seen("CANCEL .*") == []
    socks[0].close()
    proxy.mered.wait("CANCEL 1")


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
        proxy = make(prefix=limit, inherit=[stack.enter_context(open("/dev/null", "rb")).fileno() for _ in range(110)])
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


def test_copy_and_pipelines_leave_the_session_idle(proxy):
    """What HELD reports after each: the session counts as idle when it is."""
    def held():
        proxy.mered.forget()
        proxy.mered.say(f"HOLD {EP} 1")
        n = int(proxy.mered.wait(f"HELD {EP} 1 .*")[0].split(" ")[3])
        proxy.mered.say(f"RELEASE {EP} 1")
        return n

    with contextlib.closing(proxy.connect()) as conn, conn.cursor() as cur:
        assert held() == 0
        cur.execute("CREATE TEMP TABLE t (a text)")
        import io
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
    assert lines[0].startswith("HELLO 1 ") and lines[1] == f"SESSIONS {EP} 1 3" and lines[2] == "SYNCED", lines
    assert lines[3].startswith("WAKE ") and OTHER in lines[3]
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
    for line in ("", " ", "OK", "OK 1", f"OK x {EP} 1 /s 5", f"OK 1 {EP} -1 /s 5", f"OK 1 {EP} 1 /s 0", "OK 1 ../x 1 /s 5", f"OK 1 {EP} 1 %zz 5",
                 "ERR 1 x y z", f"HOLD {EP}", f"HOLD {EP} x", "HOLD x/y 1", f"GONE {EP} 1 2", "DROP", "FROB 1", "a b c d e f g h i j k l m", "\0",
                 f"RELEASE {EP} 99999999999999999999"):
        proxy.mered.say(line)
    assert proxy.value() == 1
    assert len(proxy.mered.seen("HELLO .*")) == 1
    proxy.mered.say("x" * 5000)
    proxy.mered.wait("HELLO .*", 2)
    assert proxy.value() == 1


# --- HOLD, RELEASE, GONE, DROP -------------------------------------------------------------------------------------------------------


def later(fn, *args, **kw):
    pool = ThreadPoolExecutor(1)
    future = pool.submit(fn, *args, **kw)
    pool.shutdown(wait=False)
    return future


def test_hold_and_release(proxy):
    with contextlib.closing(proxy.connect()) as idle, contextlib.closing(proxy.connect()) as busy:
        with busy.cursor() as cur:
            cur.execute("BEGIN")
        proxy.mered.say(f"HOLD {EP} 1")
        assert proxy.mered.wait(f"HELD {EP} 1 .*") == [f"HELD {EP} 1 1"]
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
            proxy.mered.say(f"HOLD {EP} 1")
            active = int(proxy.mered.wait(f"HELD {EP} 1 .*")[0].split(" ")[3])
            if active == 0:  # then the query has either been answered, or waits outside
                proxy.mered.say(f"RELEASE {EP} 1")
            while w.message()[0] != b"Z":
                pass
            proxy.mered.say(f"RELEASE {EP} 1")


def test_gone(proxy, pg):
    idle, other = proxy.session(), proxy.session(tls=False)
    proxy.mered.say(f"HOLD {EP} 1")
    proxy.mered.wait(f"HELD {EP} 1 0")
    newcomer = later(proxy.value)
    time.sleep(0.3)
    proxy.mered.forget()
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=2)
    proxy.mered.say(f"GONE {EP} 1")
    assert newcomer.result(10) == 1
    assert proxy.mered.seen("WAKE .*") == [f"WAKE 2 endpoint {EP} {DATABASE}"]
    other.send(b"Q", b"SELECT 1\0")  # too late: nobody answers, but nobody resets either
    assert [ended(idle), ended(other)] == ["57P01", "57P01"]
    proxy.mered.say(f"GONE {EP} 1")  # old news
    proxy.mered.forget()
    assert proxy.value() == 1
    assert proxy.mered.seen("WAKE .*") == []


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
    proxy.mered.say(f"HOLD {EP} 3")
    proxy.mered.wait(f"HELD {EP} 3 0")
    client = later(proxy.value)
    time.sleep(0.3)
    assert not client.done() and proxy.mered.seen("WAKE .*") == []
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=4)
    proxy.mered.say(f"GONE {EP} 3")
    assert client.result(10) == 1


def test_mered_dies_while_it_holds_the_door(proxy):
    with contextlib.closing(proxy.connect()) as conn:
        proxy.mered.say(f"HOLD {EP} 1")
        proxy.mered.wait(f"HELD {EP} 1 0")
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
    stop_at = time.monotonic() + 8
    while time.monotonic() < stop_at:
        n = len(proxy.mered.seen("HELD .*"))
        proxy.mered.say(f"HOLD {EP} {g[0]}")
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


class FakePostgres:
    """Accepts on a unix socket and runs a script for each connection."""

    def __init__(self, path, script, backlog=100):
        self.sock, self.script, self.count = socket.socket(socket.AF_UNIX), script, 0
        self.sock.bind(str(path))
        os.chmod(path, 0o777)
        self.sock.listen(backlog)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                conn = self.sock.accept()[0]
            except OSError:
                return
            self.count += 1
            threading.Thread(target=self._run, args=(conn, self.count), daemon=True).start()

    def _run(self, conn, n):
        with conn, contextlib.suppress(OSError):
            size = struct.unpack("!I", conn.recv(4))[0]
            conn.recv(size - 4)
            self.script(conn, n)


def error(sqlstate, severity=b"FATAL"):
    body = b"S" + severity + b"\0V" + severity + b"\0C" + sqlstate.encode() + b"\0Mno\0\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


LOGIN = b"R" + struct.pack("!II", 8, 0) + b"K" + struct.pack("!III", 12, 77, 88) + b"Z" + struct.pack("!I", 5) + b"I"


def test_not_ready_is_tried_again(proxy):
    """57P03 and 53300 before authentication, silence and half an error: none of it reaches the client."""
    def script(conn, n):
        words = [error("57P03"), error("53300"), b"", b"E\0\0\0", b"Ecould not fork\n\0", LOGIN]
        conn.sendall(words[min(n, len(words)) - 1])
        if n >= len(words):
            conn.recv(100)

    fake = FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.startup(user=USER, options=f"endpoint={EP}")
        assert w.message() == (b"R", b"\0\0\0\0")
        kind, key = w.message()
        assert kind == b"K" and key != struct.pack("!II", 77, 88)
    assert fake.count == 6


def test_refusals_that_waking_cannot_cure(proxy):
    fake = FakePostgres(proxy.base / "pg", lambda conn, n: conn.sendall(error("3D000")))
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    assert proxy.refusal(options=f"endpoint={EP}").sqlstate == "3D000"
    assert fake.count == 1


def test_a_backlog_that_is_full(proxy):
    """EAGAIN from a unix socket means try again: all are served, in time."""
    gate = threading.Event()

    def script(conn, _):
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
        w.startup(user=USER, options=f"endpoint={EP}")
        while w.message()[0] != b"Z":
            pass


def test_a_compute_that_crashes(proxy):
    """The client is told, between two messages; inside one it is a plain end."""
    def script(conn, n):
        conn.sendall(LOGIN + (b"D\0\0\1\0ab" if n == 2 else b""))
        time.sleep(0.2)

    FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.startup(user=USER, options=f"endpoint={EP}")
        with pytest.raises(wire.Refused) as e:
            while True:
                w.message()
        assert e.value.sqlstate == "57P02"
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.startup(user=USER, options=f"endpoint={EP}")
        with pytest.raises(EOFError):
            while True:
                w.message()


def test_hostile_computes(proxy):
    """Whatever the server sends, only its own session ends."""
    dice = random.Random(5)
    scripts = [b"R\0\0\0\3", b"\0" * 50, b"Z\xff\xff\xff\xff", LOGIN + b"Z\0\0\0\0", b"K\0\0\0\5x" + LOGIN, b"R" * 3,
               b"E\0\0\0\4", b"E\0\1\0\0" + b"x" * 40000, LOGIN * 50]

    def script(conn, n):
        data = bytearray(scripts[n - 1] if n <= len(scripts) else LOGIN * 3)
        if n > len(scripts):
            for _ in range(dice.randrange(1, 6)):
                data[dice.randrange(len(data))] = dice.randrange(256)
        conn.sendall(bytes(data))

    FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[OTHER] = serves(proxy.base / "pg", ep=OTHER)
    with contextlib.closing(proxy.connect()) as conn:
        for _ in range(len(scripts) + 150):
            with contextlib.suppress(OSError), wire.Wire("127.0.0.1", proxy.port, tls=dice.random() < 0.3, timeout=2) as w:
                w.startup(user=USER, options=f"endpoint={OTHER}")
                while w.sock.recv(65536):
                    pass
        with conn.cursor() as cur:
            cur.execute("SELECT 1")


# --- the process ---------------------------------------------------------------------------------------------------------------------


def test_sigterm(proxy):
    idle, busy = proxy.session(), proxy.session()
    waiting = proxy.raw()
    waiting.sendall(startup_packet(user=USER, options=f"endpoint={OTHER}"))
    proxy.mered.wait(f"WAKE .*{OTHER}.*")
    busy.send(b"Q", b"SELECT pg_sleep(1.5)\0")
    time.sleep(0.3)
    begun = time.monotonic()
    proxy.proc.send_signal(signal.SIGTERM)
    assert read_error(waiting)["C"] == "57P01"
    waiting.close()
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
    (["--listen", "127.0.0.1:0", "--wake-socket", "/x", "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], "certificate"),
])
def test_bad_flags(flags, says):
    got = subprocess.run([str(PROXY), *flags], capture_output=True, text=True, timeout=10)
    assert got.returncode == 1 and says in got.stderr, got


def test_a_port_in_use(proxy):
    got = subprocess.run([str(PROXY), "--listen", f"127.0.0.1:{proxy.port}", "--wake-socket", "/x", "--tls-cert", str(proxy.base / "crt"),
                          "--tls-key", str(proxy.base / "key")], capture_output=True, text=True, timeout=10)
    assert got.returncode == 1 and "cannot listen" in got.stderr, got


def test_connect_to_wake_is_quick(proxy):
    """From TCP connect to the WAKE line, TLS included."""
    proxy.mered.answers[EP] = None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    took = []
    for i in range(30):
        begun = time.monotonic()
        with proxy.raw() as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(SSL_REQUEST)
            assert s.recv(1) == b"S"
            with context.wrap_socket(s, server_hostname=f"{EP}.localhost") as t:
                t.sendall(startup_packet(user=USER, database=DATABASE))
                proxy.mered.wait("WAKE .*", i + 1)
                with proxy.mered.lock:
                    took.append([at for at, line in proxy.mered.lines if line.startswith("WAKE")][i] - begun)
        proxy.mered.wait("CANCEL .*", i + 1)
    took.sort()
    print(f"connect to WAKE: median {took[15] * 1000:.2f} ms, best {took[0] * 1000:.2f} ms")
    assert took[15] < 0.02


