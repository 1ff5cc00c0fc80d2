"""
Many Postgres sessions in one thread, by hand: clients that all come at once, and a server that stands in for as many backends.

A session is a generator: it yields the bytes to send and is given the next message, (type, payload).  libpq's own cost for each login
(4,096 rounds of HMAC) would hide what is measured; the key of a password is computed once here, as drivers do that keep it.
"""
import base64
import functools
import hashlib
import hmac
import os
import select
import socket
import struct
import time

PROTOCOL_3 = 196608


def frame(kind, payload):
    return kind + struct.pack("!I", len(payload) + 4) + payload


def auth(code, payload=b""):
    return frame(b"R", struct.pack("!I", code) + payload)


def sha256(data):
    return hashlib.sha256(data).digest()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def startup(**params):
    body = struct.pack("!I", PROTOCOL_3)
    for k, v in params.items():
        body += k.encode() + b"\0" + v.encode() + b"\0"
    return struct.pack("!I", len(body) + 5) + body + b"\0"


def fields(text):
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


@functools.lru_cache
def client_key(password, salt, iterations):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), iterations)
    return hmac.digest(salted, b"Client Key", "sha256")


class Failed(Exception):
    pass


def expect(message, kind):
    if message[0] != kind:
        raise Failed(f"{message[0]} instead of {kind}: {message[1][:200]}")
    return message[1]


def client(password, sql, **params):
    """Logs in, asks one thing, gets its answer."""
    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = f"n=,r={nonce}"
    first = b"n,," + bare.encode()
    expect((yield startup(**params)), b"R")
    server = expect((yield frame(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)), b"R")[4:].decode()
    got = fields(server)
    key = client_key(password, got["s"], int(got["i"]))
    final = f"c=biws,r={got['r']}"
    proof = xor(key, hmac.digest(sha256(key), f"{bare},{server},{final}".encode(), "sha256"))
    kind, payload = yield frame(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode())
    while kind != b"Z":
        if kind == b"E":
            raise Failed(payload.replace(b"\0", b" ").decode(errors="replace"))
        kind, payload = yield b""
    rows, kind = 0, None
    sending = frame(b"Q", sql.encode() + b"\0")
    while kind != b"Z":
        kind, payload = yield sending
        sending = b""
        rows += kind == b"D"
    if rows != 1:
        raise Failed(f"{rows} rows instead of one")


def server(verifier):
    """Lets in whoever can log in to a role with this verifier (as in pg_authid), and then says nothing more."""
    iterations, salt, stored, signing = verifier.removeprefix("SCRAM-SHA-256$").replace("$", ":").split(":")
    yield b""
    first = (yield auth(10, b"SCRAM-SHA-256\0\0"))[1].split(b"\0", 1)[1][4:].decode()
    bare = first.split(",", 2)[2]
    challenge = f"r={fields(bare)['r']}{base64.b64encode(os.urandom(18)).decode()},s={salt},i={iterations}"
    final, _, proof = (yield auth(11, challenge.encode()))[1].decode().rpartition(",p=")
    said = f"{bare},{challenge},{final}".encode()
    key = xor(base64.b64decode(proof), hmac.digest(base64.b64decode(stored), said, "sha256"))
    if sha256(key) != base64.b64decode(stored):
        raise Failed("wrong password")
    proved = b"v=" + base64.b64encode(hmac.digest(base64.b64decode(signing), said, "sha256"))
    told = frame(b"S", b"server_version\0" + b"15.0\0") + frame(b"S", b"client_encoding\0UTF8\0")
    while True:
        yield auth(12, proved) + auth(0) + told + frame(b"K", os.urandom(8)) + frame(b"Z", b"I")
        proved = told = b""


class Session:
    """A generator on a socket.  typed: the first message has a type (a startup packet has none)."""

    def __init__(self, sock, talk, typed=True):
        self.sock, self.talk, self.typed, self.data = sock, talk, typed, b""
        self.begun, self.ended, self.problem = time.monotonic(), None, None

    def message(self):
        head = 5 if self.typed else 4
        if len(self.data) < head:
            return None
        size = struct.unpack("!I", self.data[head - 4:head])[0] + head - 4
        if len(self.data) < size:
            return None
        found = (self.data[:1] if self.typed else b"", self.data[head:size])
        self.typed, self.data = True, self.data[size:]
        return found

    def say(self, words):
        if words:
            self.sock.sendall(words)  # a few hundred bytes: they always fit

    def go(self):
        """What has arrived, and what is to be said to it; False when the session is over."""
        try:
            more = self.sock.recv(65536)
            if not more:
                raise Failed("closed without a word")
            self.data += more
            while (message := self.message()) is not None:
                self.say(self.talk.send(message))
        except StopIteration:
            self.ended = time.monotonic()
        except (Failed, OSError) as e:
            self.ended, self.problem = time.monotonic(), str(e) or type(e).__name__
        return self.ended is None


class Crowd:
    """All its sessions, one thread."""

    def __init__(self):
        self.poll, self.live, self.listeners, self.over = select.epoll(), {}, {}, []

    def add(self, session):
        session.say(next(session.talk))
        self.live[session.sock.fileno()] = session
        self.poll.register(session.sock.fileno(), select.EPOLLIN)

    def connect(self, address, talk):
        self.add(Session(socket.create_connection(address), talk))

    def serve(self, path, talk):
        """Every connection to the unix socket becomes a session of its own: talk() makes its generator."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        os.chmod(path, 0o777)
        listener.listen(4096)
        self.listeners[listener.fileno()] = (listener, talk)
        self.poll.register(listener.fileno(), select.EPOLLIN)

    def turn(self, timeout):
        for fd, _ in self.poll.poll(timeout):
            if fd in self.listeners:
                listener, talk = self.listeners[fd]
                self.add(Session(listener.accept()[0], talk(), typed=False))
            elif not self.live[fd].go():
                session = self.live.pop(fd)
                self.poll.unregister(fd)
                session.sock.close()
                self.over.append(session)

    def close(self):
        for fd, session in self.live.items():
            self.poll.unregister(fd)
            session.sock.close()
        for listener, _ in self.listeners.values():
            listener.close()
        self.poll.close()


def rush(address, n, talk, timeout):
    """n clients at once.  (seconds of each from the common beginning to its answer, what went wrong)."""
    crowd, begun = Crowd(), time.monotonic()
    try:
        for _ in range(n):
            crowd.connect(address, talk())
            crowd.turn(0)
        while crowd.live and time.monotonic() < begun + timeout:
            crowd.turn(1)
        late = [f"no answer in {timeout} s"] * len(crowd.live)
        served = [s for s in crowd.over if not s.problem]
        return [s.ended - begun for s in served], [s.problem for s in crowd.over if s.problem] + late
    finally:
        crowd.close()
