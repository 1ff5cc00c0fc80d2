"""
The mere command under test, and a small HTTP server that answers what a test wants and remembers what it was asked.
"""
import contextlib
import fcntl
import http.server
import json
import os
import pty
import select
import subprocess
import termios
import threading
import time

import pytest

from .server import binaries

OK, FAILURE, USAGE, NOT_FOUND, CONFLICT, AUTH, TIMED_OUT, UNREACHABLE = range(8)
PROJECT = "old-violet-32930710"
SECRET = "napi_" + "k" * 60


class Answers(http.server.BaseHTTPRequestHandler):
    """Replies from self.server.replies: {"GET /path": (status, body), a function that gives one, or a list of them, used up one by one}."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, json.loads(body) if body else None, dict(self.headers)))
        reply = self.server.replies.get(f"{self.command} {self.path.partition('?')[0].removeprefix('/api/v2')}", (404, {"message": "not found"}))
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        status, parsed = reply() if callable(reply) else reply
        raw = parsed if isinstance(parsed, bytes) else json.dumps(parsed).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = answer


class Stub:
    def __init__(self):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.http.replies, self.http.seen = {}, []
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def __setitem__(self, key, reply):
        self.http.replies[key] = reply

    @property
    def seen(self):
        return self.http.seen

    def asked(self):
        return [f"{m} {p.removeprefix('/api/v2')}" for m, p, _, _ in self.http.seen]

    def bodies(self, method):
        return [b for m, _, b, _ in self.http.seen if m == method]

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def stub():
    s = Stub()
    s["GET /projects"] = (200, {"projects": [{"id": PROJECT, "name": "shop", "pg_version": 15, "created_at": "2025-01-16T21:02:01Z"}]})
    yield s
    s.close()


def environment(url=None, key=SECRET, **more):
    """Nothing of the machine's own that could answer for a test."""
    full = {k: v for k, v in os.environ.items() if not k.startswith(("MERE_", "PG", "XDG_"))}
    full |= {"NO_PROXY": "*"} | {f"XDG_{kind}_HOME": "/proc/none" for kind in ("CONFIG", "DATA", "CACHE")}  # where nobody can put anything
    if url:
        full["MERE_API_URL"] = url
    if key:
        full["MERE_API_KEY"] = key
    full.update(more)
    return full


def run_mere(*words, url=None, key=SECRET, cwd="/", env=None, expect=OK, user=None, wrap=(), stdin=""):
    full = environment(url, key)
    full.update(env or {})
    done = subprocess.run([*wrap, str(binaries() / "mere"), *words], capture_output=True, text=True, env=full, cwd=cwd, timeout=60, user=user, check=False,
                          input=stdin, errors="replace")
    assert done.returncode == expect, f"mere {words}: {done.returncode}, not {expect}: {done.stdout}{done.stderr}"
    if expect not in (OK, USAGE):
        assert done.stderr.startswith("mere: ") and done.stderr.count("\n") == 1, f"not one sentence: {done.stderr!r}"
        assert done.stdout == ""
    assert SECRET not in done.stdout + done.stderr
    return done


def operation(status, **more):
    return {"id": "11111111-2222-4333-8444-555555555555", "action": "create_branch", "status": status, **more}


def created(status):
    return 201, {"branch": {"id": "br-a-b-12345678", "name": "dev", "project_id": PROJECT, "parent_lsn": "0/16B3748"}, "endpoints": [{"id": "ep-a-b-12345678"}],
                 "operations": [operation(status)], "connection_uris": [{"connection_uri": "postgresql://u:p@127.0.0.1:7433/neondb"}]}


class Terminal:
    """The command on a terminal of its own: both standard input and standard error, and standard output if asked for."""

    def __init__(self, *words, url=None, stdout=subprocess.PIPE, **env):
        self.master, slave = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen([str(binaries() / "mere"), *words], stdin=slave, stderr=slave, stdout=stdout, cwd="/", text=True,
                                        env=environment(url, **({"TERM": "xterm"} | env)), start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)

    def read_until(self, wanted, timeout=20):
        end = time.monotonic() + timeout
        while wanted not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {wanted!r} in {self.text!r}"
            self.text += self._read()
        return self.text

    def _read(self):
        try:
            return os.read(self.master, 4096).decode()
        except OSError:  # EIO: the other side is closed
            raise AssertionError(f"ended after {self.text!r}") from None

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self, expect=OK):
        """Its standard output; self.text then has all that it said on the terminal."""
        out, _ = self.process.communicate(timeout=30)
        with contextlib.suppress(AssertionError):
            while True:
                self.text += self._read()
        os.close(self.master)
        assert self.process.returncode == expect, f"{self.process.returncode}, not {expect}: {self.text}"
        return out
