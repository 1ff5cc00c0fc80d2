"""Can the checkers see?  A sound database is fine; each single thing broken by hand is named."""
import contextlib
import shutil
import time

import pytest

from harness import checkers, load, wire
from harness.cluster import BINDIR, Cluster, os_user
from harness.server import scratch, until


@pytest.fixture(scope="module")
def stock():
    base = scratch("mere-check-")
    c = Cluster(base, "c", ["autovacuum=off"]).initdb().start()
    load.pgbench_init(c.environ(), 1)
    bench = load.Pgbench(c.environ(), clients=2)
    until(lambda: c.value("SELECT count(*) FROM pgbench_history") > 100, 30, "some transactions")
    bench.stop()
    yield c
    c.kill()
    shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def undone(cluster):
    """A session whose changes are rolled back."""
    conn = cluster.connect()
    conn.autocommit = False
    try:
        yield conn
    finally:
        conn.rollback()
        conn.close()


@pytest.mark.parametrize("damage", [
    "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1", "UPDATE pgbench_tellers SET tbalance = tbalance - 1 WHERE tid = 1",
    "UPDATE pgbench_branches SET bbalance = bbalance + 1", "INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES (1, 1, 1, 1)",
    "DELETE FROM pgbench_accounts WHERE aid = (SELECT aid FROM pgbench_accounts WHERE abalance = 0 LIMIT 1)"])
def test_bank_sees(stock, damage):
    with undone(stock) as conn:
        assert checkers.bank(conn, 1, before=100) == []
        conn.cursor().execute(damage)
        assert checkers.bank(conn, 1)


def test_bank_sees_a_short_history(stock):
    with undone(stock) as conn:
        assert checkers.bank(conn, 1, before=10**9)


def test_amcheck_sees_a_lost_index_entry(stock):
    """The index of a table that lacks one row, put in the place of the index of one that has it."""
    stock.query("CREATE TABLE am AS SELECT generate_series(1, 1000) AS n; CREATE INDEX am_n ON am (n)")
    stock.query("CREATE TABLE am_short AS SELECT generate_series(1, 999) AS n; CREATE INDEX am_short_n ON am_short (n)")
    assert amcheck(stock) == []
    stock.query("SET allow_system_table_mods = on; UPDATE pg_class SET relfilenode = pg_relation_filenode('am_short_n') WHERE relname = 'am_n'")
    assert any("lacks matching index tuple" in line for line in amcheck(stock)), amcheck(stock)


def amcheck(stock):
    return checkers.amcheck(stock.socket, 5432, "super", "postgres", BINDIR, os_user())


@pytest.fixture(scope="module")
def history(stock):
    """A quiet append history, and the LSN in its middle."""
    append = checkers.Append(stock.connect, clients=2).start()
    until(lambda: append.acknowledged() > 40, 30, "rows")
    append.stop()
    assert append.errors() == []
    for t in append.threads:
        assert [a.n for a in t.acks] == list(range(1, len(t.acks) + 1))
        assert all(a.begun_lsn <= a.acked_lsn and a.begun <= a.acked for a in t.acks)
    return append


def test_append_is_content_with_the_truth(stock, history):
    with undone(stock) as conn:
        assert history.check(conn) == []
        assert history.check(conn, at=2**63, sent=time.monotonic()) == []


@pytest.mark.parametrize("damage, word", [
    ("DELETE FROM append WHERE client = 0 AND n = 3", "is missing"), ("DELETE FROM append WHERE client = 1", "is missing"),
    ("INSERT INTO append VALUES (0, 1000000)", "nobody wrote"), ("UPDATE append SET n = n + 100000 WHERE client = 1 AND n = 2", "nobody wrote")])
def test_append_sees(stock, history, damage, word):
    with undone(stock) as conn:
        conn.cursor().execute(damage)
        assert any(word in w for w in history.check(conn)), history.check(conn)


def test_append_sees_what_is_past_the_fork(stock, history):
    middle = history.threads[0].acks[len(history.threads[0].acks) // 2]
    with undone(stock) as conn:
        # All rows are there, which is too much for a branch at that LSN …
        assert any("and is there" in w for w in history.check(conn, at=middle.acked_lsn))
        # … and for one that was asked for and answered before they began.
        assert any("and is there" in w for w in history.check(conn, sent=middle.begun, answered=middle.begun))
        # Exactly what was acknowledged by then is right.
        for t in history.threads:
            conn.cursor().execute("DELETE FROM append WHERE client = %s AND n > %s",
                                  (t.client, max((a.n for a in t.acks if a.acked_lsn <= middle.acked_lsn), default=0)))
        assert history.check(conn, at=middle.acked_lsn) == []


def test_append_sees_a_row_acknowledged_before_the_request(stock, history):
    last = history.threads[0].acks[-1]
    with undone(stock) as conn:
        conn.cursor().execute("DELETE FROM append WHERE client = 0 AND n = %s", (last.n,))
        assert any("is missing" in w for w in history.check(conn, sent=last.acked + 1))


def test_the_hand_made_client_speaks_the_protocol(stock):
    stock.query("CREATE ROLE scram LOGIN PASSWORD 'secret'")
    hba = stock.pgdata / "pg_hba.conf"
    old = hba.read_text()
    hba.write_text("host all scram 127.0.0.1/32 scram-sha-256\n" + old)
    port = free_port()
    stock.stop()
    conf, stock.conf = stock.conf, [*stock.conf, "listen_addresses=127.0.0.1", f"port={port}"]
    try:
        stock.start(wait=False)
        until(lambda: (stock.socket / f".s.PGSQL.{port}").exists(), 30, "the server")
        until(lambda: lets_in(port), 30, "a login")
        with pytest.raises(wire.Refused) as e, wire.Wire("127.0.0.1", port, tls=False) as w:
            w.login("wrong", user="scram", database="postgres")
        assert e.value.sqlstate == "28P01"
        with wire.Wire("127.0.0.1", port, tls=False) as w:
            w.login("secret", user="scram", database="postgres")
            with pytest.raises(wire.Refused) as e:
                w.query("SELECT 1/0")
            assert e.value.sqlstate == "22012" and w.query("SELECT 'x', NULL") == [["x", None]]
    finally:
        stock.stop()
        stock.conf = conf
        hba.write_text(old)
        stock.start()


def lets_in(port):
    try:
        with wire.Wire("127.0.0.1", port, tls=False) as w:
            return w.login("secret", user="scram", database="postgres")
    except (OSError, wire.Refused):
        return None


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
