"""A mere-proxy that speaks by hand: what mered says on its wake socket, and what it makes of what it is told."""
import contextlib
import os
import re
import signal
import socket
import urllib.parse

import pytest

from . import procs


class FakeProxy:
    """Speaks on mered's wake socket as the proxy's user; the newest connection is the one that mered listens to."""

    def __init__(self, mere, uid, version=4):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        path = next(p for d in mere.runtime_dirs() if os.path.exists(p := os.path.join(d, "wake.sock")))
        os.seteuid(uid)  # what the other side is told is who connected
        try:
            self.sock.connect(path)
        finally:
            os.seteuid(os.getuid())
        self.reader = self.sock.makefile("r", encoding="ascii", newline="\n")
        self.known, self.fresh, self.r = {}, None, 0
        self.say(f"HELLO {version} 1 {mere.pg_host} {mere.pg_port}", "SYNCED")

    def say(self, *lines):
        self.sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def lines(self):
        return self.reader

    def close(self):
        self.sock.close()

    # --- the directory: {endpoint id: (ips, {role: (verifier or None, until or None)})}

    def _logins(self, n):
        roles = {}
        for _ in range(n):
            word, role, verifier, until = self._line().split(" ")
            assert word == "LOGIN", "nothing comes between an endpoint and its roles"
            roles[urllib.parse.unquote(role)] = (None if verifier == "-" else urllib.parse.unquote(verifier), None if until == "-" else int(until))
        return roles

    def _line(self):
        line = self.reader.readline()
        assert line.endswith("\n") and len(line) <= 4096, line[:100]
        return line[:-1]

    def line(self):
        """The next line, with its roles where it has some; the directory follows it."""
        line = self._line()
        word, *rest = line.split(" ")
        if word == "DIRECTORY":
            self.fresh = set()
        elif word == "ENDPOINT":
            self.known[rest[0]] = (rest[2], self._logins(int(rest[1])))
            if self.fresh is not None:
                self.fresh.add(rest[0])
        elif word == "FORGET":
            self.known.pop(rest[0], None)
        elif word == "COMPLETE":
            self.known = {ep: what for ep, what in self.known.items() if ep in self.fresh}
            self.fresh = None
        elif word in ("HOLD", "PARK"):
            self.question = rest[2]
        elif word == "FOUND":
            self.found = (rest[1], rest[3], self._logins(int(rest[2])))
        return line

    def expect(self, pattern):
        """Goes on to a line that is this one, and gives all up to it."""
        seen = []
        while not seen or not re.fullmatch(pattern, seen[-1]):
            seen.append(self.line())
        return seen

    def complete(self):
        self.expect("DIRECTORY [0-9a-f]{64}")
        self.expect("COMPLETE")
        return self

    def look(self, ep="-"):
        self.r += 1
        self.say(f"LOOK {self.r} {ep}")
        return self.expect(f"LOOKED {self.r}")

    def find(self, name):
        self.r += 1
        self.say(f"FIND {self.r} {urllib.parse.quote(name, safe='')}")
        return self.expect(f"(FOUND|ERR) {self.r} .*")[-1]

    def logins(self, branch):
        return self.known[branch.endpoint_id][1]


@contextlib.contextmanager
def instead_of_proxy(mere):
    """Makes fake proxies while the real one is stopped."""
    real, made = mere.proxy_pid(), []
    uid = int(re.search(r"^Uid:\s+(\d+)", procs.read(f"/proc/{real}/status"), re.M).group(1))

    def make(**kw):
        made.append(FakeProxy(mere, uid, **kw))
        return made[-1]

    os.kill(real, signal.SIGSTOP)
    try:
        yield make
    finally:
        for f in made:
            f.close()
        os.kill(real, signal.SIGCONT)  # finds its connection closed, and makes another


@pytest.fixture
def fake_proxy(mere):
    with instead_of_proxy(mere) as make:
        yield make
