"""What surrounds mere-proxy when it is tested by itself: a wake socket, a compute that misbehaves, clients that speak by hand."""
import base64
import contextlib
import hashlib
import hmac
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from . import procs, wire
from .cluster import BINDIR, Cluster
from .server import binaries, scratch

EP, OTHER, BRANCH = "ep-misty-sea-a5833nbi", "ep-other-sun-b6944ocj", "br-noisy-breeze-a5e59rrb"
BEGIN = "DIRECTORY " + "5eed" * 16
USER, PASSWORD, DATABASE = "ann", "correct horse", "shop"
PROXY = binaries() / "mere-proxy"
SANITIZED = PROXY.exists() and b"__asan_init" in PROXY.read_bytes()  # then freed memory is kept, and says nothing
NOT_BUILT = pytest.mark.skipif(not PROXY.exists(), reason=f"{PROXY} is not built")
SSL_REQUEST, GSS_REQUEST = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)


# --- the other side of the wake socket -----------------------------------------------------------------------------------------------


def word(text):
    return "-" if text is None else urllib.parse.quote(str(text), safe="") or "-"


class FakeMered:
    """Listens, notes every line, and answers from tables.  answers to WAKE: {name: line without R, or None for silence}; branches, to
    FIND: {name: endpoint id, or such a line}; logins, the directory: {endpoint id: {role: verifier, or (verifier, until)}}; ips: {endpoint
    id: list}; parks: ids of those whose sessions outlive a suspend.  LOOK sends the endpoint anew, if look is True, and all that has not been sent yet; where silent holds its first word,
    nothing is answered."""

    def __init__(self, path):
        self.path, self.lines, self.answers = str(path), [], {}
        self.branches, self.logins, self.ips, self.told, self.look, self.silent = {}, {}, {}, set(), True, set()
        self.parks = set()
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
        if words[0] in self.silent:
            return
        if words[0] == "HELLO":
            self.say(BEGIN)
            self.tell(*self.logins)
            self.say("COMPLETE")
        elif words[0] == "LOOK":
            self.tell(*[ep for ep in self.logins if ep not in self.told or (ep == words[2] and self.look)])
            self.say(f"LOOKED {words[1]}")
        elif words[0] == "FIND":
            self._find(words[1], self.branches.get(urllib.parse.unquote(words[2])))
        elif words[0] == "WAKE" and len(words) == 7:
            self._answer(words[1], self.answers.get(urllib.parse.unquote(words[3])))

    def _answer(self, number, answer):
        if answer:
            kind, rest = answer.split(" ", 1)
            self.say(f"{kind} {number} {rest}")

    def _find(self, number, answer):
        if answer and " " not in answer:
            self.say("\n".join([f"FOUND {number} {self.head(answer)}", *self.roles(answer)]))
        else:
            self._answer(number, answer)

    def head(self, ep):
        return f"{ep} {len(self.logins[ep])} {self.ips.get(ep, '-')} {'park' if ep in self.parks else '-'}"

    def roles(self, ep):
        pairs = [(role, *(v if isinstance(v, tuple) else (v, None))) for role, v in self.logins[ep].items()]
        return [f"LOGIN {word(role)} {word(verifier)} {word(until)}" for role, verifier, until in pairs]

    def tell(self, *endpoints):
        for ep in endpoints:
            self.told.add(ep)
            self.say("\n".join([f"ENDPOINT {self.head(ep)}", *self.roles(ep)]))

    def say(self, line):
        self.conn.sendall(line.encode() + b"\n")

    def certify(self, cert, key):
        with open(cert, "rb") as c, open(key, "rb") as k:
            socket.send_fds(self.conn, [b"CERT\n"], [c.fileno(), k.fileno()])

    def seen(self, pattern):
        with self.lock:
            return [line for _, line in self.lines if re.fullmatch(pattern, line)]

    def wait(self, pattern, n=1, timeout=30):
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


def serves(cluster_socket, g=1, most=50, ep=EP, pooler=None):
    return f"OK {ep} {g} {urllib.parse.quote(str(cluster_socket), safe='')} {most} {word(pooler)}"


SALT = b"salt of the rigs"


def verifier(password, salt=SALT, iterations=4096):
    """As pg_authid has it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    b64 = [base64.b64encode(x).decode() for x in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"


def verifier_parts(text):
    salt, keys = text.split(":", 1)[1].split("$")
    return salt, int(text.split("$")[1].split(":")[0]), *(base64.b64decode(k) for k in keys.split(":"))


class Proxy:
    """mere-proxy and its fake mered."""

    def __init__(self, base, *flags, prefix=(), inherit=(), listen="127.0.0.1"):
        self.base, self.flags, self.prefix, self.inherit, self.listen = base, list(flags), list(prefix), inherit, listen
        self.mered = FakeMered(base / "wake").start()
        self.log = base / "proxy.log"
        self.proc = None

    def start(self):
        argv = [*self.prefix, str(PROXY), "--listen", f"{self.listen}:0", "--wake-socket", self.mered.path, "--tls-cert", str(self.base / "crt"),
                "--tls-key", str(self.base / "key"), "--reserved-user", "mere_admin", "--reserved-user", "root", *self.flags]
        if os.getuid() == 0:
            argv += ["--uid", "65534"]
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(argv, stderr=log, stdout=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                         pass_fds=self.inherit)
        hello = self.mered.wait(r"HELLO 4 \d+ " + re.escape(self.listen) + r" \d+")[0].split(" ")
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

    def waiting(self, options=f"endpoint={EP}", tls=False):
        """Has proved who it is, and waits for its compute."""
        w = wire.Wire("127.0.0.1", self.port, tls=tls)
        w.prove(PASSWORD, user=USER, database=DATABASE, options=options)
        return w

    def raw(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def refusal(self, sni=None, password=PASSWORD, **params):
        return wire.refusal("127.0.0.1", self.port, password, sni=sni, **{"user": USER, "database": DATABASE, **params})

    def log_text(self):
        return procs.read(self.log)

    def log_count(self, text):
        return self.log_text().count(text)


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


def recv_exactly(conn, n):
    data = b""
    while len(data) < n:
        more = conn.recv(n - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def recv_message(conn):
    kind, size = struct.unpack("!cI", recv_exactly(conn, 5))
    return kind, recv_exactly(conn, size - 4)


def auth(code, data=b""):
    return b"R" + struct.pack("!II", 8 + len(data), code) + data


def scram(conn, password=PASSWORD, spoil=lambda step, data: data):
    """Plays Postgres's side of SCRAM-SHA-256 up to AuthenticationOk, which is not sent."""
    salt, iterations, stored, server = verifier_parts(verifier(password))
    conn.sendall(spoil("offer", auth(10, b"SCRAM-SHA-256\0\0")))
    first = recv_message(conn)[1].split(b"n,,", 1)[1].decode()
    challenge = f"{first.split(',')[1]}{base64.b64encode(os.urandom(18)).decode()},s={salt},i={iterations}"
    conn.sendall(spoil("challenge", auth(11, challenge.encode())))
    final = recv_message(conn)[1].decode()
    signed = f"{first},{challenge},{final.rpartition(',p=')[0]}".encode()
    proof = base64.b64decode(final.rpartition(",p=")[2])
    key = bytes(a ^ b for a, b in zip(proof, hmac.digest(stored, signed, "sha256")))
    if hashlib.sha256(key).digest() != stored:
        conn.sendall(error("28P01"))
        raise OSError("denied")
    conn.sendall(spoil("final", auth(12, b"v=" + base64.b64encode(hmac.digest(server, signed, "sha256")))))


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


def later(fn, *args, **kw):
    pool = ThreadPoolExecutor(1)
    future = pool.submit(fn, *args, **kw)
    pool.shutdown(wait=False)
    return future


# --- fixtures: import them by name -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pg():
    base = scratch("mere-proxy-pg-")
    hba = base / "hba"
    hba.write_text("local all super,past trust\nlocal all all scram-sha-256\n")
    hba.chmod(0o644)
    cluster = Cluster(base, "pg", conf=[f"hba_file={hba}", "max_connections=60", "fsync=off"]).initdb().start()
    cluster.query(f"CREATE ROLE {USER} LOGIN PASSWORD '{verifier(PASSWORD)}'")
    cluster.query("CREATE ROLE past LOGIN")
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

    def build(*flags, prepare=lambda base: None, silent=(), **more):
        base = scratch("mere-proxy-")
        base.chmod(0o755)
        for name in ("crt", "key"):
            shutil.copy(certificate / name, base / name)
        prepare(base)
        (base / "key").chmod(0o600)
        p = Proxy(base, *flags, **more)
        p.mered.silent = set(silent)
        p.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432")
        p.mered.logins = {ep: {USER: verifier(PASSWORD)} for ep in (EP, OTHER)}
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
        assert PASSWORD not in text and "SCRAM-SHA-256$" not in text


@pytest.fixture
def proxy(make):
    return make()


def backends(pg):
    return pg.value(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'")
