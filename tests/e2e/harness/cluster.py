"""A stock Postgres that the harness runs itself, without any of our programs: for twins and for checking the checkers."""
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import time

import psycopg2

from . import procs
from .server import lsn


def _bindir():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    return str(found[-1].parent) if found else "/usr/lib/postgresql/15/bin"


BINDIR = _bindir()
SEGMENT = 1 << 20


def os_user():
    """Postgres refuses root; then it runs as the user its package brought."""
    return "postgres" if os.getuid() == 0 else None


def own(path):
    if os_user():
        account = pwd.getpwnam(os_user())
        for where, dirs, files in os.walk(path):
            for f in [where, *(os.path.join(where, n) for n in dirs + files)]:
                os.chown(f, account.pw_uid, account.pw_gid, follow_symlinks=False)


class DidNotStart(Exception):
    pass


class Cluster:
    """One data directory.  conf: lines added to postgresql.conf."""

    def __init__(self, base, name, conf=()):
        self.base, self.name = pathlib.Path(base), name
        self.pgdata = self.base / name
        self.socket = self.base / f"s-{name}"
        self.log = self.base / f"{name}.log"
        self.conf = list(conf)
        self.proc = None

    def initdb(self):
        self.base.chmod(0o755)
        self.pgdata.mkdir(mode=0o700)
        own(self.pgdata)
        argv = [f"{BINDIR}/initdb", "-D", str(self.pgdata), "-U", "super", "-A", "trust", "--wal-segsize=1", "-E", "UTF8", "--locale=C.UTF-8",
                "--data-checksums", "-N"]
        subprocess.run(argv, check=True, capture_output=True, user=os_user())
        return self

    def start(self, timeout=60, wait=True):
        self.socket.mkdir(exist_ok=True)
        own(self.socket)
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
        argv = [f"{BINDIR}/postgres", "-D", str(self.pgdata), "-k", str(self.socket), "-c", "listen_addresses=", "-c", "port=5432"]
        for line in self.conf:
            argv += ["-c", line]
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=os_user(), start_new_session=True)
        return self.wait_ready(timeout) if wait else self

    def wait_ready(self, timeout=60):
        """Accepts connections and is no longer in recovery."""
        deadline = time.monotonic() + timeout
        while True:
            if self.proc.poll() is not None:
                raise DidNotStart(self.log_text()[-3000:])
            try:
                with self.connect() as conn, conn.cursor() as cur:
                    cur.execute("SELECT pg_is_in_recovery()")
                    if not cur.fetchone()[0]:
                        return self
            except psycopg2.OperationalError:
                pass
            if time.monotonic() > deadline:
                raise DidNotStart("not ready in time: " + self.log_text()[-3000:])
            time.sleep(0.02)

    def stop(self, signo=2):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signo)
            self.proc.wait(60)

    def kill(self):
        """Every process of it; waits until none is left."""
        if self.proc and self.proc.poll() is None:
            pids = [p.pid for p in procs.everybody() if p.ppid == self.proc.pid or p.pid == self.proc.pid]
            for pid in pids:
                procs.kill(pid)
            self.proc.wait(30)
            procs.wait_gone(pids)

    def connect(self, database="postgres", user="super"):
        conn = psycopg2.connect(host=str(self.socket), port=5432, user=user, dbname=database)
        conn.autocommit = True
        return conn

    def query(self, sql, *params):
        conn = self.connect()
        try:
            with conn.cursor() as cur:
                cur.execute(sql, params or None)
                return cur.fetchall() if cur.description else []
        finally:
            conn.close()

    def value(self, sql, *params):
        return self.query(sql, *params)[0][0]

    def lsn(self, what="pg_current_wal_insert_lsn()"):
        return lsn(self.value(f"SELECT {what}"))

    def environ(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {**env, "PGHOST": str(self.socket), "PGPORT": "5432", "PGUSER": "super", "PGDATABASE": "postgres"}

    def log_text(self):
        return procs.read(self.log)

    def remove(self):
        self.kill()
        shutil.rmtree(self.pgdata, ignore_errors=True)

    # --- what the files say, without asking the server ------------------------------------------------------------------------

    def control(self):
        out = subprocess.run([f"{BINDIR}/pg_controldata", "-D", str(self.pgdata)], capture_output=True, text=True, check=True).stdout
        return {k.strip(): v.strip() for k, v in (line.split(":", 1) for line in out.splitlines() if ":" in line)}

    def redo(self):
        return lsn(self.control()["Latest checkpoint's REDO location"])

    def segments(self):
        return sorted(f.name for f in (self.pgdata / "pg_wal").iterdir() if re.fullmatch("[0-9A-F]{24}", f.name))

    def reached(self):
        """Where recovery ended and the new timeline began, as the newest history file says; 0 when there is none."""
        files = sorted((self.pgdata / "pg_wal").glob("*.history"))
        if not files:
            return 0
        lines = [line.split("\t") for line in files[-1].read_text().splitlines() if line.strip() and not line.startswith("#")]
        return lsn(lines[-1][1])


def segment_name(position, tli=1):
    n = position // SEGMENT
    per = 0x100000000 // SEGMENT
    return f"{tli:08X}{n // per:08X}{n % per:08X}"
