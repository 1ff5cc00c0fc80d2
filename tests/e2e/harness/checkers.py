"""
Checkers: each holds a branch against a truth that was recorded elsewhere, and answers with a list of what is wrong.

Bank: pgbench moves money so that four sums stay equal in every committed state.  Append: clients append numbers and write down when
each was acknowledged and how far the WAL was then, so what a branch at LSN X must and must not hold is known.
"""
import dataclasses
import os
import subprocess
import threading
import time

import psycopg2

from .server import lsn

BANK = """
SELECT (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts), (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers),
       (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_accounts), (SELECT count(*) FROM pgbench_tellers), (SELECT count(*) FROM pgbench_branches),
       (SELECT count(*) FROM pgbench_history)
"""
ACCOUNTS_PER_SCALE, TELLERS_PER_SCALE = 100000, 10


def bank(conn, scale, before=None):
    """What is wrong with the sums and counts; `before` is a number of history rows that must be reached."""
    with conn.cursor() as cur:
        # The primary keys hold every row as well: reading them once each way would hide a lost index entry from nobody.
        cur.execute("SET enable_indexonlyscan = off")
        cur.execute(BANK)
        a, t, b, h, n_a, n_t, n_b, n_h = cur.fetchone()
    wrong = []
    if not a == t == b == h:
        wrong.append(f"sums differ: accounts {a}, tellers {t}, branches {b}, history {h}")
    if (n_a, n_t, n_b) != (scale * ACCOUNTS_PER_SCALE, scale * TELLERS_PER_SCALE, scale):
        wrong.append(f"rows at scale {scale}: accounts {n_a}, tellers {n_t}, branches {n_b}")
    if before is not None and n_h < before:
        wrong.append(f"history has {n_h} rows, {before} were there before")
    return wrong


def amcheck(host, port, user, database, bindir="/usr/lib/postgresql/15/bin", os_user=None):
    """pg_amcheck with heapallindexed over every relation; what it says, by line."""
    argv = [f"{bindir}/pg_amcheck", "--heapallindexed", "--install-missing", "-h", str(host), "-p", str(port), "-U", user, database]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=300, user=os_user, check=False)
    if done.returncode == 0:
        return []
    return ["amcheck: " + line for line in (done.stdout + done.stderr).splitlines() if line.strip()][:20]


@dataclasses.dataclass
class Ack:
    n: int
    begun: float      # clock before the INSERT was sent
    begun_lsn: int    # insert position then: the commit record is not before it
    acked: float      # clock when the answer was there
    acked_lsn: int    # insert position then: the commit record is before it


class Appender(threading.Thread):
    """One client that appends 1, 2, 3… and keeps a list of acknowledgements.  Goes on after a lost connection."""

    def __init__(self, client, connect, pause=0.0):
        super().__init__(daemon=True)
        self.client, self.connect_fn, self.pause = client, connect, pause
        self.acks, self.maybe, self.errors = [], set(), []
        self.halt, self.go = threading.Event(), threading.Event()
        self.go.set()

    def run(self):
        conn = None
        n, now = 1, 0
        while not self.halt.is_set():
            self.go.wait()
            try:
                if conn is None:
                    conn = self.connect_fn()
                    now = self.position(conn)
                    n = self.resume(conn, n)
                begun = time.monotonic()
                self.maybe.add(n)
                with conn.cursor() as cur:
                    cur.execute("INSERT INTO append (client, n) VALUES (%s, %s)", (self.client, n))
                acked = time.monotonic()
                after = self.position(conn)
                self.acks.append(Ack(n, begun, now, acked, after))
                n, now = n + 1, after
                if self.pause:
                    self.halt.wait(self.pause)
            except psycopg2.Error as e:
                self.errors.append(f"client {self.client}, n {n}: {str(e).strip()}")
                conn = self.close(conn)
                self.halt.wait(0.05)
        self.close(conn)

    @staticmethod
    def close(conn):
        if conn is not None:
            conn.close()

    @staticmethod
    def position(conn):
        with conn.cursor() as cur:
            cur.execute("SELECT pg_current_wal_insert_lsn()")
            return lsn(cur.fetchone()[0])

    def resume(self, conn, n):
        """After a broken connection the last number may be in or not; it was never acknowledged, so either is right."""
        with conn.cursor() as cur:
            cur.execute("SELECT coalesce(max(n), 0) FROM append WHERE client = %s", (self.client,))
            last = cur.fetchone()[0]
        return max(n, last + 1)


class Append:
    """A group of appenders on one branch."""

    def __init__(self, connect, clients=2, pause=0.0, create=True):
        if create:
            conn = connect()
            with conn.cursor() as cur:
                cur.execute("CREATE TABLE append (client int, n bigint, at timestamptz DEFAULT clock_timestamp(), "
                            "PRIMARY KEY (client, n))")
            conn.close()
        self.threads = [Appender(c, connect, pause) for c in range(clients)]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def pause(self):
        for t in self.threads:
            t.go.clear()

    def resume(self):
        for t in self.threads:
            t.go.set()

    def stop(self):
        self.resume()
        for t in self.threads:
            t.halt.set()
        for t in self.threads:
            t.join(60)
        return self

    def acknowledged(self):
        return sum(len(t.acks) for t in self.threads)

    def errors(self):
        return [e for t in self.threads for e in t.errors]

    def rows(self, conn):
        with conn.cursor() as cur:
            cur.execute("SELECT client, n FROM append")
            got = {}
            for client, n in cur.fetchall():
                got.setdefault(client, set()).add(n)
            return got

    def check(self, conn, at=None, sent=None, answered=None):
        """
        What is wrong in a branch: at = its fork LSN, sent and answered = clocks around the request that made it.  Nothing given: a
        branch that must hold everything acknowledged so far.
        """
        got, wrong = self.rows(conn), []
        for t in self.threads:
            rows, acks, tried = got.get(t.client, set()), list(t.acks), set(t.maybe)
            for a in acks:
                inside = a.n in rows
                must = (at is None and sent is None) or (at is not None and a.acked_lsn <= at) or (sent is not None and a.acked < sent)
                must_not = (at is not None and a.begun_lsn >= at) or (answered is not None and a.begun > answered)
                if must and not inside:
                    wrong.append(f"client {t.client}: {a.n} was acknowledged at {a.acked_lsn:X} and is missing")
                elif must_not and inside:
                    wrong.append(f"client {t.client}: {a.n} began at {a.begun_lsn:X} and is there")
            if rows - tried - {a.n for a in acks}:
                wrong.append(f"client {t.client}: rows nobody wrote: {sorted(rows - tried)[:5]}")
            # A client writes one after another, so whatever a state holds is a prefix of what it was acknowledged.
            top = max(rows, default=0)
            holes = [a.n for a in acks if a.n < top and a.n not in rows]
            if holes:
                wrong.append(f"client {t.client}: has {top} but not {holes[:5]}")
        return wrong[:20]
