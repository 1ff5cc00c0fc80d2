"""A relay on loopback that keeps what both sides said, and what of it may differ from one connection to the next."""
import contextlib
import pathlib
import socket
import struct
import threading

SASL_CONTINUE, SASL_FINAL = 11, 12


class Tap:
    """target: the path of a unix socket, or a (host, port).  For connections in the clear."""

    def __init__(self, target):
        self.target, self.said, self.pumps = target, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                if isinstance(self.target, (str, pathlib.Path)):
                    far = socket.socket(socket.AF_UNIX)
                    far.connect(str(self.target))
                else:
                    far = socket.create_connection(self.target)
                both = (bytearray(), bytearray())
                self.said.append(both)
                for a, b, kept in ((near, far, both[0]), (far, near, both[1])):
                    self.pumps.append(threading.Thread(target=self._pump, args=(a, b, kept), daemon=True))
                    self.pumps[-1].start()

    @staticmethod
    def _pump(a, b, kept):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                kept += data
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def conversations(self):
        """When all have ended: for each ([what the client said], [what it was told]) as messages (type, payload)."""
        for pump in self.pumps:
            pump.join(30)
            assert not pump.is_alive(), "a connection is still open"
        return [(client_messages(bytes(a)), server_messages(bytes(b))) for a, b in self.said]


def messages(data):
    at, found = 0, []
    while at < len(data):
        kind, size = struct.unpack_from("!cI", data, at)
        assert len(data) >= at + 1 + size, f"half a message at the end: {data[at:at + 40]}"
        found.append((kind, data[at + 5:at + 1 + size]))
        at += 1 + size
    return found


def client_messages(data):
    """Without the startup packet, which names the endpoint on one way alone.  Proofs are of their challenges."""
    start = struct.unpack_from("!I", data)[0]
    return [(kind, None if kind == b"p" else payload) for kind, payload in messages(data[start:])]


def server_messages(data):
    """The challenge is random, the cancel key and the pid in it are whose the session is, and so is the pid in a notification."""
    found = []
    for kind, payload in messages(data):
        if (kind == b"R" and struct.unpack_from("!I", payload)[0] in (SASL_CONTINUE, SASL_FINAL)) or kind == b"K":
            payload = len(payload) if kind == b"K" else None
        found.append((kind, payload[4:] if kind == b"A" else payload))
    return found
