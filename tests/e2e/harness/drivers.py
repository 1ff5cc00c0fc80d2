"""
Real clients behind one face, so that a test is written once for all of them.

A driver opens sessions; a session does what a program does: queries with and without parameters, prepared statements, COPY, a result in
pieces, a batch, notifications, a cancel.  Rows are lists of text (None is NULL).  What Postgres or the proxy says against it is a Said.
What a driver cannot do, it does not have (`can`).  psycopg 2 and 3 run in this process; psql, node and java are programs of their own
(tests/e2e/drivers, which speak in lines).

Host names are those of endpoints, and there is no DNS: each driver is told in its own way that they are this machine.
"""
import contextlib
import io
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse

import psycopg2
import psycopg2.extensions

from .server import ROOT

HERE = pathlib.Path(__file__).resolve().parents[1] / "drivers"
JDBC = pathlib.Path("/usr/share/java/postgresql.jar")
NODE_PATH = [str(ROOT / "build/drivers/node_modules"), "/usr/share/nodejs", "/usr/lib/nodejs"]
SECONDS = 60


class Said(Exception):
    def __init__(self, sqlstate, text):
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate, self.text = sqlstate, text


def clean_environ(**more):
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, **more}


def conninfo(host, port, user, password, database, tls, ca=None, binding=None, options=None, replication=None):
    """What libpq calls it."""
    given = {"host": host, "hostaddr": "127.0.0.1", "port": port, "user": user, "password": password, "dbname": database, "sslmode": tls,
             "sslrootcert": ca, "channel_binding": binding, "options": options, "replication": replication, "gssencmode": "disable",
             "connect_timeout": SECONDS}
    return {k: v for k, v in given.items() if v is not None}


def texts(cursor):
    return [[None if v is None else str(v) for v in row] for row in cursor.fetchall()] if cursor.description else []


def broken_off(session, sql, cancel):
    """The SQLSTATE that a query ends with that is cancelled while it runs."""
    timer = threading.Timer(0.5, cancel)
    timer.start()
    try:
        session.simple(sql)
        return ""
    except Said as e:
        return e.sqlstate
    finally:
        timer.join()


class Driver:
    name, can = None, frozenset()

    def missing(self):
        """Why it cannot be had here; None when it can."""
        return None

    def open(self, **where):
        raise NotImplementedError

    def close(self):
        pass


# --- psycopg2: libpq, the simple protocol alone -----------------------------------------------------------------------------------------


class Psycopg2(Driver):
    name, can = "psycopg2", frozenset({"copy", "binding", "walk"})

    def open(self, **where):
        try:
            conn = psycopg2.connect(**conninfo(**where))
        except psycopg2.Error as e:
            raise Said(e.pgcode, str(e)) from None
        conn.autocommit = True
        return Psycopg2Session(conn)


class Psycopg2Session:
    def __init__(self, conn):
        self.conn = conn

    @contextlib.contextmanager
    def cursor(self):
        try:
            with self.conn.cursor() as cur:
                yield cur
        except psycopg2.Error as e:
            raise Said(e.pgcode, str(e)) from None

    def simple(self, sql):
        with self.cursor() as cur:
            cur.execute(sql)
            return texts(cur)

    def ask(self, sql, *values):
        with self.cursor() as cur:
            cur.execute(re.sub(r"\$\d", "%s", sql), values)
            return texts(cur)

    def walk(self, sql, size):
        self.conn.autocommit = False
        count, last = 0, None
        with self.conn.cursor("walker") as cur:
            cur.itersize = size
            cur.execute(sql)
            for row in cur:
                count, last = count + 1, str(row[0])
        self.conn.commit()
        self.conn.autocommit = True
        return count, last

    def copy_in(self, sql, data):
        with self.cursor() as cur:
            cur.copy_expert(sql, io.StringIO(data))

    def copy_out(self, sql):
        out = io.StringIO()
        with self.cursor() as cur:
            cur.copy_expert(sql, out)
        return out.getvalue()

    def cancelled(self, sql):
        return broken_off(self, sql, self.conn.cancel)

    def heard(self, seconds=10):
        end = time.monotonic() + seconds
        self.conn.poll()
        while not self.conn.notifies and select.select([self.conn], [], [], max(0, end - time.monotonic()))[0]:
            self.conn.poll()
        found = [f"{n.channel}={n.payload}" for n in self.conn.notifies]
        self.conn.notifies.clear()
        return found

    def close(self):
        self.conn.close()


# --- psycopg 3: libpq, the extended protocol --------------------------------------------------------------------------------------------


class Psycopg3(Driver):
    name, can = "psycopg3", frozenset({"copy", "binding", "walk", "extended", "named", "batch"})

    def missing(self):
        try:
            import psycopg  # noqa: F401, PLC0415
        except ImportError as e:
            return str(e)
        return None

    def open(self, named=None, **where):
        import psycopg  # noqa: PLC0415
        try:
            conn = psycopg.connect(**conninfo(**where), autocommit=True)
        except psycopg.Error as e:
            raise Said(e.sqlstate, str(e)) from None
        if named == "0":
            conn.prepare_threshold = None
        return Psycopg3Session(conn)


class Psycopg3Session:
    def __init__(self, conn):
        self.conn, self.notes = conn, []
        conn.add_notify_handler(lambda n: self.notes.append(f"{n.channel}={n.payload}"))

    @contextlib.contextmanager
    def cursor(self):
        import psycopg  # noqa: PLC0415
        try:
            with self.conn.cursor() as cur:
                yield cur
        except psycopg.Error as e:
            raise Said(e.sqlstate, str(e)) from None

    def _run(self, sql, values=None, **kw):
        with self.cursor() as cur:
            cur.execute(re.sub(r"\$\d", "%s", sql) if values else sql, values, **kw)
            return texts(cur)

    def simple(self, sql):
        return self._run(sql)

    def ask(self, sql, *values):
        return self._run(sql, values, prepare=False)

    def named(self, sql, n):
        return [row for i in range(1, n + 1) for row in self._run(sql, (str(i),), prepare=True)]

    def batch(self, sql, n):
        with self.conn.pipeline():
            all_of_it = [self.conn.execute(sql.replace("$1", "%s"), (str(i),), prepare=False) for i in range(1, n + 1)]
        return sum(cur.rowcount for cur in all_of_it)

    def walk(self, sql, size):
        """Row by row of one portal: what this driver calls a stream."""
        count, last = 0, None
        with self.cursor() as cur:
            for row in cur.stream(sql):
                count, last = count + 1, str(row[0])
        return count, last

    def copy_in(self, sql, data):
        with self.cursor() as cur, cur.copy(sql) as copy:
            copy.write(data)

    def copy_out(self, sql):
        with self.cursor() as cur, cur.copy(sql) as copy:
            return b"".join(bytes(chunk) for chunk in copy).decode()

    cancelled = Psycopg2Session.cancelled

    def heard(self, seconds=10):
        """What came with an answer; it reads nothing of its own accord."""
        end = time.monotonic() + seconds
        while not self.notes and time.monotonic() < end:
            self.simple("SELECT 1")
        found, self.notes = self.notes, []
        return found

    def close(self):
        self.conn.close()


# --- psql ---------------------------------------------------------------------------------------------------------------------------------


class Psql(Driver):
    name, can = "psql", frozenset({"copy", "binding", "walk"})

    def open(self, **where):
        words = " ".join(f"{k}='{v}'" for k, v in ((k, str(v).replace("\\", "\\\\").replace("'", "\\'")) for k, v in conninfo(**where).items()))
        return PsqlSession(words)


class PsqlSession:
    """`psql` fed through a pipe; each request ends with a mark that it prints."""

    MARK = "== done"

    def __init__(self, words):
        self.proc = subprocess.Popen(["psql", "-XAtq", "-F", "\x1f", "-P", "null=\x01", "-v", "VERBOSITY=sqlstate", words], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environ())
        try:
            self.simple("SELECT 1")
        except Said:
            self.proc.wait(SECONDS)
            raise

    def _do(self, text):
        """The lines that came of it.  An error is raised once all has been read."""
        self.notes = []
        with contextlib.suppress(BrokenPipeError):
            self.proc.stdin.write(f"{text}\n\\echo {self.MARK}\n")
            self.proc.stdin.flush()
        lines = []
        for line in self.proc.stdout:
            line = line.rstrip("\n")
            if line == self.MARK:
                break
            if line.startswith("Asynchronous notification"):
                name, payload = re.match(r'Asynchronous notification "(.*?)" (?:with payload "(.*)" )?received', line).groups()
                self.notes.append(f"{name}={payload or ''}")
            else:
                lines.append(line)
        for line in lines:
            if m := re.match(r"(?:ERROR|FATAL): +(\w{5})$", line):
                raise Said(m.group(1), line)
            if line.startswith("psql: error"):
                raise Said(None, "\n".join(lines))
        return lines

    def simple(self, sql):
        return [[None if v == "\x01" else v for v in line.split("\x1f")] for line in self._do(sql + ";")]

    def ask(self, sql, *values):
        for i, value in enumerate(values, 1):
            sql = sql.replace(f"${i}", f":'p{i}'")
        sets = [f"\\set p{i} '{value}'" for i, value in enumerate(values, 1)]
        return self.simple("\n".join([*sets, sql]))

    def walk(self, sql, size):
        lines = self._do(f"\\set FETCH_COUNT {size}\n{sql};\n\\unset FETCH_COUNT")
        return len(lines), lines[-1]

    def copy_in(self, sql, data):
        self._do(f"{sql};\n{data}\\.")

    def copy_out(self, sql):
        return "".join(line + "\n" for line in self._do(sql + ";"))

    def cancelled(self, sql):
        """It leaves then, as when a script is interrupted."""
        return broken_off(self, sql, lambda: self.proc.send_signal(signal.SIGINT))

    def heard(self, seconds=10):
        """It tells of them behind the next query."""
        end = time.monotonic() + seconds
        found = self.notes
        while not found and time.monotonic() < end:
            self.simple("SELECT 1")
            found = self.notes
        self.notes = []
        return found

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.proc.stdin.close()
        self.proc.wait(SECONDS)
        self.proc.stdout.close()


# --- programs that speak in lines -----------------------------------------------------------------------------------------------------------


class Program(Driver):
    """One process for all its sessions, started when it is first wanted."""

    def __init__(self):
        self.proc, self.slots, self.lock = None, 0, threading.Lock()

    def argv(self):
        raise NotImplementedError

    def environ(self):
        return clean_environ()

    def start(self):
        self.proc = subprocess.Popen(self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environ())

    def tell(self, *words):
        with self.lock:
            if self.proc is None:
                self.start()
            self.proc.stdin.write(" ".join(urllib.parse.quote(str(w), safe="") for w in words) + "\n")
            self.proc.stdin.flush()
            assert select.select([self.proc.stdout], [], [], 2 * SECONDS)[0], f"{self.name} does not answer: {words[0]}"
            line = self.proc.stdout.readline()
        assert line, f"{self.name} ended with status {self.proc.wait(10)}"
        kind, *answer = [urllib.parse.unquote(w) for w in line.rstrip("\n").split(" ")]
        if kind != "ok":
            raise Said(answer[0], answer[1])
        return answer

    def open(self, **where):
        self.slots += 1
        slot = f"s{self.slots}"
        self.tell("open", slot, *[f"{k}={v}" for k, v in where.items() if v is not None])
        return ProgramSession(self, slot)

    def close(self):
        if self.proc:
            self.proc.stdin.close()
            self.proc.wait(SECONDS)
            self.proc.stdout.close()
            self.proc = None


def split(row):
    return [None if v == "\0" else v for v in row.split("\x1f")]


class ProgramSession:
    def __init__(self, program, slot):
        self.program, self.slot = program, slot

    def _tell(self, what, *args):
        return self.program.tell(what, self.slot, *args)

    def simple(self, sql):
        return [split(row) for row in self._tell("simple", sql)]

    def ask(self, sql, *values):
        return [split(row) for row in self._tell("ask", sql, *values)]

    def named(self, sql, n):
        return [split(row) for row in self._tell("named", sql, n)]

    def batch(self, sql, n):
        return int(self._tell("batch", sql, n)[0])

    def walk(self, sql, size):
        count, last = self._tell("walk", sql, size)
        return int(count), last

    def copy_in(self, sql, data):
        self._tell("copyin", sql, data)

    def copy_out(self, sql):
        return self._tell("copyout", sql)[0]

    def cancelled(self, sql):
        return self._tell("cancelled", sql)[0]

    def heard(self, seconds=10):
        return self._tell("heard", int(seconds * 1000))

    def close(self):
        self._tell("close")


class Node(Program):
    name = "node-postgres"

    def argv(self):
        return ["node", str(HERE / "pg_client.js")]

    def environ(self):
        return clean_environ(NODE_PATH=":".join(NODE_PATH))

    def missing(self):
        if not shutil.which("node"):
            return "there is no node"
        look = "const v = require('pg/package.json').version; console.log(v)"
        found = subprocess.run(["node", "-e", look], capture_output=True, text=True, env=self.environ(), check=False)
        return None if found.returncode == 0 else "node has no module pg"

    @property
    def can(self):
        version = subprocess.run(["node", "-p", "require('pg/package.json').version"], capture_output=True, text=True, env=self.environ(), check=True)
        binds = tuple(int(n) for n in version.stdout.strip().split(".")[:2]) >= (8, 14)
        return frozenset({"extended", "named", "batch", *(["binding"] if binds else []), *self.tell("has", "-")} - {"-"})


class Jdbc(Program):
    name, can = "jdbc", frozenset({"copy", "walk", "extended", "named", "batch"})

    def __init__(self, hosts):
        super().__init__()
        self.hosts = hosts  # a file like /etc/hosts

    def missing(self):
        if not shutil.which("javac"):
            return "there is no JDK"
        return None if JDBC.exists() else f"there is no {JDBC}"

    def argv(self):
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djdk.net.hosts.file={self.hosts}", "-cp", str(JDBC), str(HERE / "PgClient.java")]

    def open(self, **where):
        with open(self.hosts, "a", encoding="ascii") as f:
            f.write(f"127.0.0.1 {where['host']}\n")
        return super().open(**where)
