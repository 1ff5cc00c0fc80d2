"""
A branch whose history is known three times over: by pg_waldump (which transactions had committed where), by an append table (what
was acknowledged when) and by a bank (sums that are equal in every committed state).  Any state of its past can be held against all.
"""
import contextlib
import random
import subprocess
import threading

from . import checkers
from .cluster import BINDIR
from .history import PAGE, History
from .load import pgbench_init
from .server import lsn

SEGMENT = 1 << 20
SCALE = 1


def text(n):
    return f"{n >> 32:X}/{n & 0xFFFFFFFF:X}"


def write(branch, rounds, writers=4, pad=300):
    """Concurrent transactions of different sizes; each row knows the transaction it came with."""
    def one(k):
        r = random.Random(k)
        with contextlib.closing(branch.connect()) as conn, conn.cursor() as cur:
            for _ in range(rounds):
                cur.execute("BEGIN")
                for _ in range(r.randint(1, 3)):
                    cur.execute("INSERT INTO h (xid, pad) VALUES (pg_current_xact_id()::text::bigint, repeat('x', %s))", (r.randint(0, pad),))
                cur.execute("ROLLBACK" if r.random() < 0.1 else "COMMIT")
    threads = [threading.Thread(target=one, args=(k,)) for k in range(writers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def move_money(branch, transactions, clients=2):
    argv = [f"{BINDIR}/pgbench", "-n", "-c", str(clients), "-t", str(transactions // clients)]
    done = subprocess.run(argv, env=branch.environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BIG = """
CREATE TEMP TABLE IF NOT EXISTS mine (n int);
DO $$ BEGIN
    FOR i IN 1..40000 LOOP
        BEGIN INSERT INTO mine VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
    INSERT INTO h (xid, pad) VALUES (pg_current_xact_id()::text::bigint, 'big');
END $$
"""
SMALL = """
DO $$ BEGIN
    FOR i IN 1..600 LOOP
        INSERT INTO h (xid, pad) VALUES (pg_current_xact_id()::text::bigint, 'small');
        COMMIT;
    END LOOP;
END $$
"""
BULK = "INSERT INTO bulk SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 3000) i"


def overtake(branch):
    """
    Commits whose stamps are not in the order of their records.  A transaction takes its stamp, then waits for one of eight locks to
    insert its record: where that is held by somebody who waits for room in the WAL's buffers, others go past.
    """
    def run(sql, times):
        with contextlib.closing(branch.connect()) as conn, conn.cursor() as cur:
            cur.execute("SET synchronous_commit = off")
            for _ in range(times):
                cur.execute(sql)
    threads = [threading.Thread(target=run, args=args) for args in [(BIG, 1)] + 4 * [(BULK, 1)] + 10 * [(SMALL, 1)]]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def inversions(history):
    """Neighbours among commits and aborts whose stamps are not in the order of their places."""
    stamped = [r for r in history.records if r.stamp is not None]
    return [(a, b) for a, b in zip(stamped, stamped[1:]) if a.stamp > b.stamp]


def overtake_surely(branch):
    branch.query("CREATE TABLE bulk (n int, pad text)")
    branch.patch_endpoint(settings={"pg_settings": {"shared_buffers": "2MB"}})  # and with them the WAL's buffers: 64 kB
    branch.act("restart")
    for _ in range(6):
        begin = lsn(branch.value("SELECT pg_current_wal_flush_lsn()"))
        overtake(branch)
        if inversions(History(branch, begin)):
            branch.patch_endpoint(settings={"pg_settings": {}})
            return
    raise AssertionError("no commit has overtaken another: the history would prove less than it should")


class Recording:
    """Makes it, and leaves the branch suspended.  sizes: transactions of each kind between one suspend and the next."""

    def __init__(self, branch, sizes=(100, 100, 50)):
        self.branch = branch
        branch.query("CREATE TABLE h (id bigserial PRIMARY KEY, xid bigint NOT NULL, pad text)")
        pgbench_init(branch.environ(), SCALE)
        self.append = checkers.Append(branch.connect, clients=2, pause=0.005)
        self.begin = lsn(branch.value("SELECT pg_current_wal_flush_lsn()"))
        for i, size in enumerate(sizes):
            self._work(size, first=i == 0)
            if i == 1:
                overtake_surely(branch)
            branch.suspend()
        self.xids = {x for (x,) in branch.query("SELECT DISTINCT xid FROM h")}
        branch.suspend()
        self.history = History(branch, self.begin)
        self.commits = [r for r in self.history.records if r.rmgr == "Transaction" and r.what == "COMMIT"]
        self.stamped = [r for r in self.history.records if r.stamp is not None]

    def _work(self, size, first):
        threads = self.append.threads
        if not first:  # a thread runs once; who appends goes on where he was
            self.append.threads = [self._successor(t) for t in threads]
        self.append.start()
        bank = threading.Thread(target=move_money, args=(self.branch, size))
        bank.start()
        write(self.branch, size)
        with contextlib.closing(self.branch.connect()) as conn, conn.cursor() as cur:  # records longer than a page
            cur.execute("INSERT INTO h (xid, pad) SELECT pg_current_xact_id()::text::bigint, string_agg(md5(i::text), '') FROM generate_series(1, 3000) i")
        bank.join()
        self.append.stop()
        assert not self.append.errors(), self.append.errors()

    @staticmethod
    def _successor(old):
        new = checkers.Appender(old.client, old.connect_fn, old.pause)
        new.acks, new.maybe = old.acks, old.maybe
        return new

    def wrong(self, child, at):
        """What a child at LSN `at` has too much or too little."""
        with contextlib.closing(child.connect()) as conn, conn.cursor() as cur:
            cur.execute("SELECT DISTINCT xid FROM h")
            got = {x for (x,) in cur.fetchall()}
            found = self.append.check(conn, at=at) + checkers.bank(conn, SCALE)
        want = self.history.commits_before(at) & self.xids
        found += [f"extra: {sorted(got - want)[:5]}"] if got - want else []
        return found + ([f"missing: {sorted(want - got)[:5]}"] if want - got else [])

    # --- places -------------------------------------------------------------------------------------------------------------

    def random_places(self, rng, count):
        """Half of them exactly where a commit record begins."""
        low, high = self.commits[0].start, self.history.records[-1].start
        return [rng.choice(self.commits[1:]).start if i % 2 else rng.randrange(low, high) for i in range(count)]

    def edges(self, rng, count):
        """Of records, of pages, of segments, and inside records that cross pages."""
        low, high = self.commits[0].start, self.history.records[-1].start
        long = [r for r in self.history.records if r.size > PAGE and r.start > low]
        crossing = [r for r in self.history.records if r.start > low and r.start // PAGE != (r.start + r.size - 1) // PAGE]
        kinds = [lambda: rng.randrange(low // PAGE + 1, high // PAGE) * PAGE, lambda: rng.randrange(low // SEGMENT + 1, high // SEGMENT + 1) * SEGMENT,
                 lambda: (lambda r: r.start + rng.randrange(1, r.size))(rng.choice(long)),
                 lambda: (lambda r: r.start + rng.randrange(1, r.size))(rng.choice(crossing)),
                 lambda: rng.choice(self.history.records[1:-1]).start + rng.choice((-1, 0, 1)),
                 lambda: rng.randrange(low // PAGE + 1, high // PAGE) * PAGE + rng.choice((-1, 1, 24, 40))]
        return [max(low, kinds[i % len(kinds)]()) for i in range(count)]
