"""
What may happen at the door, over and over (catalogue E): branches that go, computes and proxies that die, mered away.  Each is one thing
at a time elsewhere (docs/proofs.md); here it is many.
"""
import contextlib
import os
import random
import signal
import socket
import threading
import time
import traceback

import pytest

from harness import procs, wire
from harness.proxyrig import SSL_REQUEST
from harness.server import until


def login(mere, project, endpoint, tls=True):
    w = wire.Wire(mere.pg_host, mere.pg_port, tls=tls)
    try:
        w.login(project.password, user=project.role, database=project.database, options=f"endpoint={endpoint}")
    except BaseException:
        w.close()
        raise
    return w


# --- E4: branches that go -----------------------------------------------------------------------------------------------------------


def test_clients_of_branches_that_are_deleted(mere, project):
    """Each gets a session of the branch that it named, or one clean refusal; never a reset, and never another branch."""
    project.main.query("CREATE TABLE who AS SELECT 'main' AS name")
    doomed = [project.branch(project.main) for _ in range(5)]
    for b in doomed:
        b.query(f"UPDATE who SET name = '{b.id}'")
    alive, halt, odd = {b.id for b in doomed}, threading.Event(), []
    served, told = {b.id: 0 for b in doomed}, {}

    def client(seed):
        dice = random.Random(seed)
        while not halt.is_set():
            b = dice.choice(doomed)
            was_there = b.id in alive
            try:
                with login(mere, project, b.endpoint_id, tls=dice.random() < 0.5) as w:
                    for _ in range(dice.randrange(1, 4)):
                        (name,), = w.query("SELECT name FROM who")
                        if name != b.id:
                            odd.append(f"{b.id} showed {name}")
                        time.sleep(dice.random() * 0.05)
                served[b.id] += 1
            except wire.Refused as e:
                told.setdefault(e.sqlstate, e.message)
                if was_there and b.id in alive:
                    odd.append(f"refused before anybody deleted it: {e}")
            except (OSError, EOFError) as e:
                odd.append(f"{b.id}: {traceback.format_exc()}")

    threads = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for b in doomed:
        n = served[b.id]
        until(lambda b=b, n=n: served[b.id] >= n + 5, 60, "clients to come by")
        alive.discard(b.id)
        b.delete()
        with pytest.raises(wire.Refused) as e:
            login(mere, project, b.endpoint_id)
        assert e.value.sqlstate == "28P01", e.value
    halt.set()
    for t in threads:
        t.join(60)
    print(f"served {served}, told {told}")
    assert not odd, "\n".join(odd[:5])
    # Who had proved himself before is told what has become of it.
    assert set(told) <= {"28P01", "57P01", "3D000"} and "28P01" in told, told
    assert project.main.value("SELECT name FROM who") == "main"


# --- E6: computes that die ----------------------------------------------------------------------------------------------------------


@pytest.mark.expect_log("postgres ended by itself", "cannot see the activity")
@pytest.mark.parametrize("n", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_compute_killed_again_and_again(mere, project, n):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 42 AS n")
    for i in range(n):
        before = b.generation()
        procs.kill(b.postmaster())
        assert b.value("SELECT n FROM t") == 42, i
        assert b.generation() == before + 1


# --- E13: proxies that die ----------------------------------------------------------------------------------------------------------


def accepts(mere):
    with contextlib.suppress(OSError), socket.create_connection((mere.pg_host, mere.pg_port), timeout=5) as s:
        s.sendall(SSL_REQUEST)
        return s.recv(1) == b"S"
    return False


@pytest.mark.expect_log("mere-proxy ended")
@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGKILL])
def test_another_proxy_within_a_second(mere, project, signo):
    """With sessions open, whose sockets keep the port in use for a while."""
    b, took = project.main, []
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(contextlib.closing(b.connect()))
            old, since = mere.proxy_pid(), mere.log_mark()
            os.kill(old, signo)
            assert procs.wait_gone([old], 10)
            begun = time.monotonic()
            until(lambda: accepts(mere), 10, "another proxy", pause=0.005)
            took.append(time.monotonic() - begun)
            assert mere.proxy_pid() not in (0, old)
            assert b.value("SELECT 1") == 1
            assert "in use" not in mere.log_text(since)
        time.sleep(1.2)  # one that dies again at once is given time on purpose
    print(f"signal {signo.name}: accepts after {', '.join(f'{t:.2f}' for t in took)} s")
    assert max(took) <= 1


@pytest.mark.expect_log("proxy|wake|adopt")
def test_mered_ends_with_sessions_open_and_clients_waiting(new_mere):
    """SIGTERM with --keep-computes, as at an upgrade: nobody inside notices, who comes to a running endpoint is served, who waits is later."""
    m = new_mere(args=["--keep-computes"]).start()
    p = m.create_project()
    asleep = p.branch(name="asleep")
    asleep.value("SELECT 1")
    asleep.suspend()
    with contextlib.closing(p.main.connect()) as conn, conn.cursor() as cur:
        assert m.stop() == 0
        cur.execute("SELECT 1")
        assert p.main.value("SELECT 2") == 2
        got = []
        waiting = threading.Thread(target=lambda: got.append(asleep.value("SELECT 3")))
        waiting.start()
        time.sleep(0.5)
        assert not got
        m.start()
        waiting.join(60)
        assert got == [3]
        cur.execute("SELECT 1")
    m.stop()
    m.args = []  # so that the next stop takes all of it
    m.start()
