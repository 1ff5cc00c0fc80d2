"""The Postgres protocol by hand: for what libpq hides (SQLSTATE of a refused connect, half packets, cancel of nobody)."""
import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct

SSL_REQUEST, CANCEL_REQUEST, PROTOCOL_3 = 80877103, 80877102, 196608


class Refused(Exception):
    """An ErrorResponse: fields by their letter."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('C')}: {fields.get('M')}" + (f" ({fields['H']})" if "H" in fields else ""))
        self.fields, self.sqlstate, self.message = fields, fields.get("C"), fields.get("M", "")


class Wire:
    """One connection.  tls=False stays in the clear."""

    def __init__(self, host, port, tls=True, sni=None, timeout=60):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as every driver does
        if tls:
            self.sock.sendall(struct.pack("!II", 8, SSL_REQUEST))
            answer = self.sock.recv(1)
            assert answer == b"S", f"SSLRequest was answered {answer!r}"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=sni)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise EOFError(f"closed after {len(data)} of {n} bytes")
            data += more
        return data

    def message(self):
        """(type, payload); an ErrorResponse is raised."""
        kind, size = struct.unpack("!cI", self.exactly(5))
        payload = self.exactly(size - 4)
        if kind == b"E":
            parts = [p for p in payload.split(b"\0") if p]
            raise Refused({chr(p[0]): p[1:].decode(errors="replace") for p in parts})
        return kind, payload

    def send(self, kind, payload):
        self.sock.sendall(kind + struct.pack("!I", len(payload) + 4) + payload)

    def startup(self, **params):
        body = struct.pack("!I", PROTOCOL_3)
        for k, v in params.items():
            body += k.encode() + b"\0" + str(v).encode() + b"\0"
        body += b"\0"
        self.sock.sendall(struct.pack("!I", len(body) + 4) + body)

    def login(self, password, **params):
        """Startup and SCRAM-SHA-256 to the first ReadyForQuery; returns the server's parameters."""
        self.prove(password, **params)
        kind, payload = self.message()
        assert kind == b"R" and payload[:4] == struct.pack("!I", 12), (kind, payload)
        assert self.message() == (b"R", struct.pack("!I", 0))
        return self.settle()

    def settle(self):
        """To ReadyForQuery."""
        told = {}
        while True:
            kind, payload = self.message()
            if kind == b"S":
                name, value = payload.split(b"\0")[:2]
                told[name.decode()] = value.decode()
            elif kind == b"K":
                self.backend_key = struct.unpack("!II", payload)
            elif kind == b"Z":
                return told

    def prove(self, password, **params):
        """Startup and SCRAM-SHA-256 up to the proof, which nobody has answered yet."""
        self.startup(**params)
        kind, payload = self.message()
        assert kind == b"R" and payload[:4] == struct.pack("!I", 10) and b"SCRAM-SHA-256\0" in payload, (kind, payload)
        self.proof(password, *self.first())

    def first(self):
        """client-first-message; what was said, and the challenge."""
        bare = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
        first = ("n,," + bare).encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
        return bare, self.message()[1][4:].decode()

    def proof(self, password, bare, server):
        got = dict(p.split("=", 1) for p in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(got["s"]), int(got["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={got['r']}"
        said = f"{bare},{server},{final}".encode()
        proof = bytes(a ^ b for a, b in zip(key, hmac.digest(hashlib.sha256(key).digest(), said, "sha256")))
        self.send(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode())

    def query(self, sql):
        """Rows of text by the simple protocol."""
        self.send(b"Q", sql.encode() + b"\0")
        rows, problem = [], None
        while True:
            try:
                kind, payload = self.message()
            except Refused as e:
                problem = e
                continue
            except EOFError:
                if problem:  # a FATAL is the last word
                    raise problem from None
                raise
            if kind == b"D":
                rows.append(_row(payload))
            elif kind == b"Z":
                if problem:
                    raise problem
                return rows


def _row(payload):
    row, at = [], 2
    for _ in range(struct.unpack("!H", payload[:2])[0]):
        size = struct.unpack("!i", payload[at:at + 4])[0]
        at += 4
        row.append(None if size < 0 else payload[at:at + size].decode())
        at += max(size, 0)
    return row


def refusal(host, port, password="", sni=None, **params):
    """The ErrorResponse a connect is answered with; an AssertionError when it is let in."""
    try:
        with Wire(host, port, sni=sni) as w:
            w.login(password, **params)
    except Refused as e:
        return e
    raise AssertionError(f"was let in: {params}")


def cancel(host, port, pid, key):
    """A CancelRequest; returns what came back before the server closed (nothing, if it behaves)."""
    with socket.create_connection((host, port), timeout=10) as s:
        s.sendall(struct.pack("!IIII", 16, CANCEL_REQUEST, pid, key))
        return s.recv(100)
