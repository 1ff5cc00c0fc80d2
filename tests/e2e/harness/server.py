"""A mered under test: its data directory, its log, its REST face, and the clients' way in."""
import atexit
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import pwd
import random
import re
import secrets
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.parse

import psycopg2
import psycopg2.extensions

from . import procs

ROOT = pathlib.Path(__file__).resolve().parents[3]
ADMIN_ROLE = "mere_admin"
ROOTED = ("/api/", "/livez", "/readyz", "/healthz", "/openapi.json", "/docs", "/llms.txt", "/problems/")  # paths that are not below the API
READY = re.compile(r"^ready api=(http://(\S+):(\d+)) postgres=(\S+):(\d+) store=(\w+)$")
API = "/api/v2"
PATIENCE = 3  # times what a good machine needs at most
_living = []


def binaries(crash=False):
    """Where the programs are.  Crash points exist in the sanitized builds too; a release build has none."""
    given = os.environ.get("MERE_BIN") or os.environ.get("MERE_BIN_DIR")
    if given and (not crash or "/build/bin" not in os.path.abspath(given)):
        return pathlib.Path(given)
    if crash or not (ROOT / "build/bin/mered").exists():
        return pathlib.Path(os.environ.get("MERE_CRASH_BIN_DIR") or ROOT / "build/crash/bin")
    return ROOT / "build/bin"


def store_choice():
    """MERE_STORE names a driver; as root a small disk file keeps the machine's disk ours to fill."""
    return os.environ.get("MERE_STORE") or ("disk:2GB" if os.getuid() == 0 else "auto")


def scratch(prefix="mere-e2e-"):
    """A short path, so that what is long about a path is our code's doing and not the temporary directory's."""
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


_ports = itertools.count(random.Random(os.getpid()).randrange(20000))


def free_port():
    """Below those that the kernel gives away, so that a server that stops finds its own again."""
    while True:
        port = 10000 + next(_ports) % 20000
        with contextlib.suppress(OSError), socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("0.0.0.0", port))
            return port


class StartFailed(Exception):
    def __init__(self, status, stderr, stdout=""):
        super().__init__(f"mered ended with status {status}: {stderr[-2000:]}")
        self.status, self.stderr, self.stdout = status, stderr, stdout


class ApiError(AssertionError):
    def __init__(self, method, path, status, body):
        super().__init__(f"{method} {path} answered {status}: {body}")
        self.status, self.body = status, body


class Mere:
    """One data directory and, most of the time, the mered that serves it."""

    def __init__(self, base=None, data=None, store=None, config=None, args=(), env=None, user=None, crash=False):
        self.base = pathlib.Path(base) if base else scratch()
        self.data = pathlib.Path(data) if data else self.base / "d"
        self.bin = binaries(crash)
        self.store_option = store or store_choice()
        self.args, self.env, self.user = list(args), dict(env or {}), user
        self.log_path = self.base / "mered.log"
        self.config = {"suspend-timeout-min-seconds": 1, **(config or {})}
        self.listen, self.pg_listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.proc = self.api_url = self.host = self.port = self.pg_host = self.pg_port = self.store = self.key = None
        self.stdout = ""
        self._pinned = {}
        self.disturbed = False  # mered went away under its proxy: that the proxy says so is no finding
        if user:
            account = pwd.getpwnam(user)
            os.chown(self.base, account.pw_uid, account.pw_gid)
        _living.append(self)

    # --- life ---------------------------------------------------------------------------------------------------------

    def argv(self):
        conf = self.base / "mere.conf"
        conf.write_text("".join(f"{k} = {v}\n" for k, v in self.config.items()))
        conf.chmod(0o644)
        return [str(self.bin / "mered"), "--data", str(self.data), "--listen", self.listen, "--pg-listen", self.pg_listen,
                "--store", self.store_option, "--config", str(conf), *self.args]

    def start(self, env=None, timeout=90, wrap=(), extra=(), pass_fds=()):
        """Starts it and returns when it is ready.  The ports of the first start are kept for the next ones."""
        assert self.proc is None or self.proc.poll() is not None, "it is already running"
        full = {k: v for k, v in os.environ.items() if not k.startswith(("MERE_", "CRASH_", "PG"))}
        full.update(self.env)
        full.update(env or {})
        who = {}
        if self.user:
            account = pwd.getpwnam(self.user)
            who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            full["HOME"] = str(self.base)
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen([*wrap, *self.argv(), *extra], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                         env=full, start_new_session=True, cwd="/", pass_fds=pass_fds, **who)
        self._await_ready(timeout)
        return self

    def _await_ready(self, timeout):
        deadline, text, fd = time.monotonic() + timeout, b"", self.proc.stdout.fileno()
        start = os.path.getsize(self.log_path) if self.proc.poll() is None else 0
        while b"\n" not in text:
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill9()
                raise StartFailed("timeout", self.log_text())
            if not select.select([fd], [], [], left)[0]:
                continue
            chunk = os.read(fd, 4096)
            if not chunk:
                status = self.proc.wait()
                raise StartFailed(status, self.log_text(max(0, start - 4096)), text.decode())
            text += chunk
        self.stdout = text.decode()
        m = READY.match(self.stdout.splitlines()[0])
        assert m, f"not a ready line: {self.stdout!r}"
        self.api_url, self.host, self.port = m.group(1), m.group(2), int(m.group(3))
        self.pg_host, self.pg_port, self.store = m.group(4), int(m.group(5)), m.group(6)
        self.listen, self.pg_listen = f"{self.host}:{self.port}", f"{self.pg_host}:{self.pg_port}"
        key = self.data / "admin.key"  # or it came as a credential
        self.key = key.read_text().strip() if key.exists() else self.key
        self.runtime_dirs()

    def is_running(self):
        return self.proc is not None and self.proc.poll() is None

    def wait(self, timeout=30):
        """The exit status; negative for a signal."""
        status = self.proc.wait(timeout)
        self._drain_stdout()
        return status

    def _drain_stdout(self):
        if self.proc and self.proc.stdout and not self.proc.stdout.closed:
            os.set_blocking(self.proc.stdout.fileno(), False)
            with contextlib.suppress(OSError):
                self.stdout += (self.proc.stdout.read() or b"").decode()
            self.proc.stdout.close()

    def stop(self, signo=signal.SIGTERM, timeout=60):
        if not self.is_running():
            return None
        self.disturbed = True
        self.proc.send_signal(signo)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"mered did not stop within {timeout} s of signal {signo}:\n{self.log_text()[-3000:]}") from None

    def kill9(self):
        """kill -9 of mered alone."""
        self.disturbed = True
        if self.is_running():
            self.proc.kill()
        if self.proc:
            self.wait()

    def restart(self, **kw):
        self.stop()
        return self.start(**kw)

    def crash_all(self):
        """kill -9 of everything at once: what a power cut does to processes (what was written stays, unlike then)."""
        pids = [p.pid for p in self.processes()]
        for pid in pids:
            procs.kill(pid)
        self.kill9()
        assert procs.wait_gone(pids), "something survived kill -9"

    def scrub(self):
        """Whatever the test left: processes of this very data directory, mounts and loop devices in it, the files."""
        with contextlib.suppress(Exception):
            self.kill9()
        for _ in range(5):
            pids = [p.pid for p in self.processes()]
            for pid in pids:
                procs.kill(pid)
            if procs.wait_gone(pids, 5):
                break
        places = {str(self.base), os.path.realpath(self.base)}
        for point in sorted(procs.mounts(), key=len, reverse=True):
            if any(point.startswith(p + "/") for p in places):
                subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for device, backing in procs.loops().items():
            if any(backing.startswith(p + "/") for p in places):
                subprocess.run(["losetup", "-d", device], check=False, capture_output=True)
        for path in self.runtime_dirs():
            shutil.rmtree(path, ignore_errors=True)
        if os.environ.get("MERE_KEEP") != "1":
            shutil.rmtree(self.base, ignore_errors=True)
        if self in _living:
            _living.remove(self)

    # --- what it is on this machine ---------------------------------------------------------------------------------------

    def runtime_dirs(self):
        """Directories outside DIR where its sockets are, learnt from what its processes listen on.  Remembered once seen."""
        found = self._pinned.setdefault("runtime", set())
        if self.is_running():
            for path in procs.unix_sockets_of(self.proc.pid):
                if path.startswith("/") and not path.startswith(str(self.data)):
                    found.add(os.path.dirname(path))
        return {f for f in found if os.path.isdir(f)}

    def needles(self):
        names = {str(self.data), os.path.realpath(self.data)}
        self.runtime_dirs()
        return [n for n in names | self._pinned.get("runtime", set()) if n not in ("/", "/run", "/tmp")]

    def processes(self):
        return procs.owned_by(self.needles(), exclude=procs.lineage())

    def processes_named(self, comm):
        return [p for p in self.processes() if p.comm == comm and p.state not in "ZX"]

    def postmasters(self):
        """{pid: endpoint id} of every running compute; its socket directory is named after the endpoint."""
        found = {}
        for p in self.processes_named("postgres"):
            m = re.search(r"unix_socket_directories=\S*/(ep-[^\s/]+)", p.cmdline)
            if m and " -D " in p.cmdline:
                found[p.pid] = m.group(1)
        return found

    def poolers(self):
        """{pid: endpoint id} of every pgbouncer; the lock that it holds is its endpoint's."""
        found = {}
        for p in self.processes_named("pgbouncer"):
            found[p.pid] = next((m.group(1) for m in (re.search(r"/pool/(ep-[^/]+)/lock$", t) for t in procs.links(p.pid)) if m), None)
        return found

    def proxy_pid(self):
        pids = [p.pid for p in self.processes_named("mere-proxy")]
        return pids[0] if pids else 0

    def database_file(self):
        for path in sorted(self.data.iterdir()):
            if path.is_file():
                with contextlib.suppress(OSError), open(path, "rb") as f:
                    if f.read(16) == b"SQLite format 3\0":
                        return path
        raise AssertionError(f"no SQLite file in {self.data}")

    def rows(self, sql, *params):
        """Rows of the metadata as dictionaries, read beside the server."""
        path = urllib.parse.quote(str(self.database_file()))
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            db.row_factory = sqlite3.Row
            return [dict(r) for r in db.execute(sql, params)]

    def log_mark(self):
        return os.path.getsize(self.log_path) if self.log_path.exists() else 0

    def log_text(self, since=0):
        if not self.log_path.exists():
            return ""
        with open(self.log_path, "rb") as f:
            f.seek(since)
            return f.read().decode(errors="replace")

    def log_about(self, operation):
        """What the log says of the things an operation names."""
        ids = [operation[k] for k in ("id", "branch_id", "endpoint_id") if operation.get(k)]
        lines = [line for line in self.log_text().splitlines() if any(i in line for i in ids) and "msg=request" not in line]
        return "\n".join(lines[-40:])

    # --- REST ----------------------------------------------------------------------------------------------------------------

    def request(self, method, path, body=None, key=..., headers=None, timeout=60):
        """(status, headers, parsed body).  A dict or list is sent as JSON, bytes and str as they are; key=None sends none."""
        if not path.startswith(ROOTED):
            path = API + path
        h = dict(headers or {})
        if key is ...:
            key = self.key
        if key is not None:
            h.setdefault("Authorization", f"Bearer {key}")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if body is not None:
            h.setdefault("Content-Type", "application/json")
        conn = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            conn.request(method, path, body=body.encode() if isinstance(body, str) else body, headers=h)
            answer = conn.getresponse()
            raw = answer.read()
            got = {k.lower(): v for k, v in answer.getheaders()}
            try:
                parsed = json.loads(raw) if raw else None
            except ValueError:
                parsed = raw.decode(errors="replace")
            return answer.status, got, parsed
        finally:
            conn.close()

    def call(self, method, path, body=None, expect=(200, 201, 202), **kw):
        """The parsed body of an answer that must be one of `expect`."""
        status, _, parsed = self.request(method, path, body, **kw)
        if status not in expect:
            raise ApiError(method, path, status, parsed)
        return parsed

    def wait_operation(self, project_id, op, timeout=60, expect=("finished", "skipped")):
        """Long-polls one operation (its id or its object) to an end and returns it."""
        op_id = op["id"] if isinstance(op, dict) else op
        deadline = time.monotonic() + timeout
        while True:
            o = self.call("GET", f"/projects/{project_id}/operations/{op_id}?wait=true&timeout=10")["operation"]
            if o["status"] not in ("scheduling", "running", "cancelling"):
                break
            assert time.monotonic() < deadline, f"operation still {o['status']} after {timeout} s: {o}\n" + self.log_about(o)
            time.sleep(0.01)
        assert o["status"] in expect, f"operation ended {o['status']}: {o}\n" + self.log_about(o)
        return o

    def wait_operations(self, project_id, body, timeout=60):
        for op in (body or {}).get("operations", []):
            self.wait_operation(project_id, op, timeout)
        return body

    def create_project(self, name=None, **fields):
        body = self.call("POST", "/projects", {"project": {"name": name or "p-" + secrets.token_hex(4), **fields}})
        project = Project(self, body)
        self.wait_operations(project.id, body)
        return project

    def projects(self):
        return self.call("GET", "/projects?limit=400")["projects"]

    # --- Postgres ------------------------------------------------------------------------------------------------------------

    def dsn(self, user, password, database="neondb", endpoint=None, branch=None, **kw):
        """Keyword arguments for psycopg2.connect, through the proxy."""
        named = f"endpoint={endpoint}" if endpoint else f"branch={branch}" if branch else None
        words = [w for w in (named, kw.pop("options", None)) if w]
        d = {"host": self.pg_host, "port": self.pg_port, "user": user, "password": password, "dbname": database,
             "sslmode": "require", "connect_timeout": 60, "application_name": "e2e"}
        if words:
            d["options"] = " ".join(words)
        d.update(kw)
        return d


class Project:
    def __init__(self, mere, body):
        self.mere, self.body = mere, body
        self.id, self.name = body["project"]["id"], body["project"]["name"]
        role = body["roles"][0]
        self.role, self.password = role["name"], role["password"]
        self.database = body["databases"][0]["name"]
        self.main = Branch(self, body["branch"], body["endpoints"][0]["id"])

    def path(self, rest=""):
        return f"/projects/{self.id}{rest}"

    def call(self, method, rest="", body=None, **kw):
        return self.mere.call(method, self.path(rest), body, **kw)

    def branch(self, parent=None, name=None, endpoint=True, wait=True, timeout=60, settings=None, **fields):
        """A child of parent (a Branch; None = default).  wait=False returns what the POST answered."""
        branch = {"name": name or "b-" + secrets.token_hex(4), **fields}
        if parent is not None:
            branch["parent_id"] = parent.id
        body = {"branch": branch}
        if endpoint:
            body["endpoints"] = [{"type": "read_write", **(settings or {})}]
        answer = self.call("POST", "/branches", body, timeout=timeout)
        child = Branch(self, answer["branch"], answer["endpoints"][0]["id"] if endpoint else None)
        child.answer = answer
        if wait:
            self.mere.wait_operations(self.id, answer, timeout)
            child.refresh()
        return child

    def branches(self):
        return self.call("GET", "/branches")["branches"]

    def delete(self, timeout=60):
        """All of it, and waits until the storage is released."""
        self.mere.call("DELETE", self.path("?hard_delete=true"), expect=(200, 202, 404))
        gone(lambda: self.mere.rows("SELECT id FROM project WHERE id = ?", self.id), timeout, f"project {self.id}")


class Branch:
    def __init__(self, project, body, endpoint_id=None):
        self.project, self.mere, self.body, self.endpoint_id = project, project.mere, body, endpoint_id
        self.id, self.name = body["id"], body["name"]

    def path(self, rest=""):
        return f"/branches/{self.id}{rest}"

    def refresh(self):
        self.body = self.project.call("GET", self.path())["branch"]
        return self.body

    @property
    def parent_lsn(self):
        return lsn(self.body["parent_lsn"])

    def endpoint(self):
        return self.project.call("GET", f"/endpoints/{self.endpoint_id}")["endpoint"]

    def generation(self):
        return self.mere.rows("SELECT generation FROM endpoint WHERE id = ?", self.endpoint_id)[0]["generation"]

    def patch_endpoint(self, **fields):
        body = self.project.call("PATCH", f"/endpoints/{self.endpoint_id}", {"endpoint": fields})
        self.mere.wait_operations(self.project.id, body)
        return body

    def dsn(self, user=None, password=None, database=None, **kw):
        kw.setdefault("endpoint", self.endpoint_id)
        return self.mere.dsn(user or self.project.role, password or self.project.password, database or self.project.database, **kw)

    def connect(self, **kw):
        conn = psycopg2.connect(**self.dsn(**kw))
        conn.autocommit = True
        return conn

    def query(self, sql, *params, **kw):
        """One session, one statement, all rows."""
        with contextlib.closing(self.connect(**kw)) as conn, conn.cursor() as cur:
            cur.execute(sql, params or None)
            return cur.fetchall() if cur.description else []

    def value(self, sql, *params, **kw):
        return self.query(sql, *params, **kw)[0][0]

    def environ(self):
        """The environment for pgbench, psql and other programs of libpq."""
        d = self.dsn()
        keys = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
                "sslmode": "PGSSLMODE", "options": "PGOPTIONS", "connect_timeout": "PGCONNECT_TIMEOUT"}
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {**env, **{keys[k]: str(v) for k, v in d.items() if k in keys}}

    def act(self, verb, wait=True, timeout=60):
        body = self.project.call("POST", f"/endpoints/{self.endpoint_id}/{verb}")
        if wait:
            self.mere.wait_operations(self.project.id, body, timeout)
        return body

    def suspend(self, timeout=60):
        self.act("suspend", timeout=timeout)
        self.await_state("idle", timeout)

    def await_state(self, state, timeout=30):
        until(lambda: self.endpoint()["current_state"] == state, timeout, f"endpoint {self.endpoint_id} to be {state}")

    def postmaster(self):
        """The pid of its compute, or 0."""
        return next((pid for pid, ep in self.mere.postmasters().items() if ep == self.endpoint_id), 0)

    def pooler(self):
        """The pid of its pgbouncer, or 0."""
        return next((pid for pid, ep in self.mere.poolers().items() if ep == self.endpoint_id), 0)

    def compute(self):
        """Every process of its Postgres."""
        pid = self.postmaster()
        return [p for p in procs.everybody() if pid and (p.pid == pid or p.session == pid or p.ppid == pid)]

    def pgdata(self):
        return self.mere.data / "volumes" / self.id / "pgdata"

    def socket_dir(self):
        pid = self.postmaster()
        assert pid, f"the compute of {self.endpoint_id} is not running"
        return re.search(r"unix_socket_directories=(\S+)", procs.stat(pid).cmdline).group(1)

    def admin(self, database=None):
        """A superuser session over the compute's own socket: peer authentication knows mered's user."""
        conn = psycopg2.connect(host=self.socket_dir(), port=5432, user=ADMIN_ROLE, dbname=database or self.project.database,
                                options="-c statement_timeout=0")
        conn.autocommit = True
        return conn

    def delete(self, timeout=60):
        """Deletes it for good and waits until its storage is released."""
        body = self.project.call("DELETE", self.path("?hard_delete=true"))
        self.mere.wait_operations(self.project.id, body, timeout)
        gone(lambda: self.mere.rows("SELECT id FROM branch WHERE id = ?", self.id), timeout, f"branch {self.id}")


def until(condition, timeout, what, pause=0.02):
    """
    Looks again and again until it is so; for states that nothing announces.  timeout: what a good machine needs at most; a slow one gets
    more, which only a failure waits for.  Where the time is the claim, the test looks at the clock.
    """
    deadline = time.monotonic() + PATIENCE * timeout
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < deadline, f"waited {PATIENCE * timeout} s in vain for {what}"
        time.sleep(pause)


def gone(condition, timeout, what):
    until(lambda: not condition(), timeout, f"{what} to be gone")


def sqlstate(error):
    """The SQLSTATE of a failed connect or query.  psycopg2 has none for a failed connect: the text is all there is."""
    return getattr(error, "pgcode", None)


@atexit.register
def _scrub_all():
    for mere in list(_living):
        mere.scrub()
