"""One mere-proxy hands over to another: no session ends, no client is refused, and nothing is suspended under anybody."""
import contextlib
import os
import shutil
import signal
import socket
import threading
import time

import psycopg2
import pytest

from harness import procs
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures
from harness.server import binaries, scratch, until

KEEP = ["--keep-computes"]
SUCCEEDED = "mere-proxy hands over"
MANY = 10  # successions; two more than retired proxies may live


@pytest.fixture
def kept(new_mere):
    """(server, project): a stop leaves everything running."""
    m = new_mere(args=KEEP).start()
    project = m.create_project()
    yield m, project
    stops_all(m)


def stops_all(m):
    """The next stop leaves nothing running."""
    m.stop()
    m.args = []
    m.start()


@pytest.fixture
def own_binaries(new_mere):
    """A server with programs of its own, which may be exchanged; a stop leaves everything running."""
    place = scratch()
    for name in os.listdir(binaries()):
        shutil.copy2(binaries() / name, place / name)
    place.chmod(0o755)
    m = new_mere(args=KEEP)
    m.bin = place
    yield m.start()
    stops_all(m)
    m.stop()
    shutil.rmtree(place)


def proxies(m):
    return {p.pid for p in m.processes_named("mere-proxy")}


def change(m):
    """Something of the proxy's own setting is another from the next start on."""
    m.config["connects-per-address"] = f"{int(m.config.get('connects-per-address', '600,1,1').split(',')[0]) + 1},400,300"


def succeed(m):
    """{old}, {new} proxies."""
    before = proxies(m)
    m.stop()
    change(m)
    m.start()
    new = proxies(m) - before
    assert len(new) == 1
    return before, new


def ask(conn, sql):
    with conn.cursor() as cur:
        cur.execute(sql)
        return cur.fetchone()[0] if cur.description else None


def is_cancelled(conn):
    """A query of this session ends by a CancelRequest that goes to whoever listens."""
    timer = threading.Timer(0.5, conn.cancel)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        ask(conn, "SELECT pg_sleep(20)")
    assert time.monotonic() - begun < 10
    timer.join()


# --- sessions


def test_sessions_go_on_and_new_ones_are_the_successors(kept):
    m, project = kept
    b = project.main
    with contextlib.closing(b.connect()) as old:
        ask(old, "CREATE TEMP TABLE t AS SELECT 42 AS n")
        was, now = succeed(m)
        assert ask(old, "SELECT n FROM t") == 42
        with contextlib.closing(b.connect()) as new:
            until(lambda: was < proxies(m), 5, "both to live")
            is_cancelled(old)
            is_cancelled(new)
            assert ask(old, "SELECT n FROM t") == 42
            old.close()
            until(lambda: proxies(m) == now, 10, "the retired one to end")
            assert ask(new, "SELECT 1") == 1
    assert m.log_text().count(SUCCEEDED) == 1


def test_nobody_is_refused(kept):
    """Clients come all the time, while mered is away too."""
    m, project = kept
    b, halt, failed, served = project.main, threading.Event(), [], [0]
    b.query("SELECT 1")

    def client():
        while not halt.is_set():
            try:
                assert b.value("SELECT 1") == 1
                served[0] += 1
            except Exception as e:  # noqa: BLE001
                failed.append(repr(e))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for c in clients:
        c.start()
    try:
        for _ in range(3):
            before = served[0]
            succeed(m)
            until(lambda: served[0] > before + 20, 20, "clients to be served")
    finally:
        halt.set()
        for c in clients:
            c.join()
    assert not failed
    until(lambda: len(proxies(m)) == 1, 10, "the retired ones to end")


def test_who_waits_for_a_start_is_served(kept):
    """Whom the old one has let in waits with it for the compute that mered starts when it is back."""
    m, project = kept
    b, got = project.main, []
    b.suspend()
    m.stop()
    change(m)
    client = threading.Thread(target=lambda: got.append(b.value("SELECT 1")))
    client.start()
    time.sleep(0.3)
    m.start()
    client.join()
    assert got == [1]
    until(lambda: len(proxies(m)) == 1, 10, "the retired one to end")


def test_the_same_again_is_adopted(kept):
    m, project = kept
    before = proxies(m)
    m.restart()
    assert proxies(m) == before and SUCCEEDED not in m.log_text()
    assert project.main.value("SELECT 1") == 1


def test_another_binary(own_binaries):
    m = own_binaries
    b = m.create_project().main
    with contextlib.closing(b.connect()) as old:
        was = proxies(m)
        m.stop()
        shutil.copy2(m.bin / "mere-proxy", m.bin / "another")
        os.rename(m.bin / "another", m.bin / "mere-proxy")
        m.start()
        assert SUCCEEDED in m.log_text() and was < proxies(m)
        assert ask(old, "SELECT 1") == 1
    until(lambda: not was & proxies(m), 10, "the retired one to end")


@pytest.mark.expect_log("could not be started; the old one goes on", "mere-proxy ended")
@pytest.mark.parametrize("binary", ["#!/bin/false\n", pytest.param("#!/bin/sh\nexec sleep 60\n", marks=pytest.mark.slow)])
def test_a_successor_that_fails_leaves_all_as_it_was(own_binaries, binary):
    m = own_binaries
    b = m.create_project().main
    with contextlib.closing(b.connect()) as old:
        was = proxies(m)
        m.stop()
        os.rename(m.bin / "mere-proxy", m.bin / "good")
        (m.bin / "mere-proxy").write_text(binary)
        (m.bin / "mere-proxy").chmod(0o755)
        change(m)
        m.start()
        assert proxies(m) == was
        assert ask(old, "SELECT 1") == 1 and b.value("SELECT 1") == 1
        os.rename(m.bin / "good", m.bin / "mere-proxy")
        m.restart()
        assert was < proxies(m) and ask(old, "SELECT 1") == 1 and b.value("SELECT 1") == 1
    until(lambda: not was & proxies(m), 10, "the retired one to end")


@pytest.mark.slow
@pytest.mark.expect_log("cannot hand over", "mere-proxy")
def test_one_that_hangs_is_replaced(kept):
    m, project = kept
    was = proxies(m)
    for pid in was:
        os.kill(pid, signal.SIGSTOP)
    m.stop()
    change(m)
    m.start()
    assert not was & proxies(m)
    assert project.main.value("SELECT 1") == 1


@pytest.mark.parametrize("point", ["proxy.retiring", "proxy.retired"])
@pytest.mark.expect_log("proxy|wake|adopt")
def test_mered_dies_on_the_way(new_mere, point):
    m = new_mere(crash=True, args=KEEP).start()
    b = m.create_project().main
    with contextlib.closing(b.connect()) as old:
        was = proxies(m)
        m.stop()
        change(m)
        with contextlib.suppress(Exception):
            m.start(env={"CRASH_AT": f"{point}:1"})
        until(lambda: not m.is_running(), 10, "the crash")
        m.wait()
        assert ask(old, "SELECT 1") == 1
        m.start()
        assert ask(old, "SELECT 1") == 1 and b.value("SELECT 1") == 1
        assert was < proxies(m)
    until(lambda: not was & proxies(m), 10, "the retired ones to end")
    until(lambda: len(proxies(m)) == 1, 10, "one to be left")
    stops_all(m)


@pytest.mark.expect_log("too many retired")
def test_many(kept):
    m, project = kept
    b, sessions = project.main, []
    for _ in range(MANY):
        sessions.append(b.connect())
        succeed(m)
    for conn in sessions[:1]:
        with pytest.raises(psycopg2.OperationalError):
            for _ in range(50):
                ask(conn, "SELECT 1")
                time.sleep(0.1)
    for conn in sessions[MANY - 8:]:
        assert ask(conn, "SELECT 1") == 1
    until(lambda: len(proxies(m)) == 9, 10, "the oldest ones to end")
    for conn in sessions:
        conn.close()
    until(lambda: len(proxies(m)) == 1, 10, "the retired ones to end")


# --- suspends


def test_a_session_of_a_retired_one_keeps_its_compute(kept):
    """Also across a restart of mered: it knows that there is another proxy, before that one has said so."""
    m, project = kept
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    with contextlib.closing(b.connect()) as old:
        generation = b.generation()
        old.autocommit = False
        ask(old, "SELECT 1")  # in a transaction
        succeed(m)
        m.restart()
        time.sleep(3)
        assert ask(old, "SELECT 1") == 1 and b.generation() == generation
        old.rollback()
        b.await_state("idle")
        with pytest.raises(psycopg2.OperationalError):
            ask(old, "SELECT 1")
    assert b.value("SELECT 1") == 1 and b.generation() > generation
    until(lambda: len(proxies(m)) == 1, 10, "the retired one to end")


@pytest.mark.expect_log("the wake socket is lost")
def test_nothing_is_suspended_while_one_does_not_answer(kept):
    m, project = kept
    b = project.main
    with contextlib.closing(b.connect()) as old:
        was, _ = succeed(m)
        b.patch_endpoint(suspend_timeout_seconds=1)
        generation = b.generation()
        for pid in was:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(5)
            assert b.generation() == generation and b.endpoint()["current_state"] == "active"
        finally:
            for pid in was:
                os.kill(pid, signal.SIGCONT)
        b.await_state("idle")
    until(lambda: len(proxies(m)) == 1, 10, "the retired one to end")


def test_what_is_parked_comes_back_by_the_retired_one(kept):
    m, project = kept
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1, park_sessions=True)
    with contextlib.closing(b.connect()) as old:
        ask(old, "SET work_mem = '7MB'")
        b.await_state("idle")
        was, _ = succeed(m)
        time.sleep(0.5)
        assert was < proxies(m)
        assert ask(old, "SHOW work_mem") == "7MB"
    until(lambda: len(proxies(m)) == 1, 10, "the retired one to end")


def test_sessions_open_meanwhile_are_not_parked(kept):
    """What the sessions of one proxy define, the other does not read; so whoever was open beside it stays a session."""
    m, project = kept
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1, park_sessions=True)
    with contextlib.closing(b.connect()) as old:
        ask(old, "SELECT 1")
        succeed(m)
        with contextlib.closing(b.connect()) as new:
            ask(new, "SET work_mem = '7MB'")
            generation = b.generation()
            old.close()
            until(lambda: len(proxies(m)) == 1, 10, "the retired one to end")
            time.sleep(4)
            assert b.generation() == generation and b.endpoint()["current_state"] == "active"
            assert ask(new, "SHOW work_mem") == "7MB"
        with contextlib.closing(b.connect()) as later:
            ask(later, "SET work_mem = '8MB'")
            b.await_state("idle")
            assert ask(later, "SHOW work_mem") == "8MB"
    assert b.generation() > generation


def test_a_stop_ends_them_all(kept):
    m, project = kept
    with contextlib.closing(project.main.connect()) as old:
        succeed(m)
        assert len(proxies(m)) == 2
        stops_all(m)
        assert len(proxies(m)) == 2 and ask(old, "SELECT 1") == 1
        m.stop()
        assert proxies(m) == set()
    m.start()


# --- what the proxy does with RETIRE


def retire(proxy, to):
    socket.send_fds(proxy.mered.conn, [b"RETIRE\n"], [to.fileno()])
    to.close()


def test_the_sockets_are_given_away(proxy):
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with contextlib.closing(proxy.connect()) as conn:
        retire(proxy, theirs)
        byte, fds, _, _ = socket.recv_fds(ours, 1, 8)
        assert len(byte) == 1 and len(fds) == 1 and ours.recv(1) == b"", "it lets go of the pair when it listens no more"
        with socket.socket(fileno=fds[0]) as listener:
            assert listener.getsockname() == ("127.0.0.1", proxy.port)
            with socket.create_connection(("127.0.0.1", proxy.port)), listener.accept()[0]:
                assert ask(conn, "SELECT 1") == 1
        proxy.mered.conn.shutdown(socket.SHUT_RDWR)
        proxy.mered.wait(r"HELLO 4 \d+ 127\.0\.0\.1 0")
        assert ask(conn, "SELECT 1") == 1
    assert proxy.proc.wait(10) == 0


def test_a_successor_that_is_gone(proxy):
    ours, theirs = socket.socketpair()
    ours.close()
    retire(proxy, theirs)
    assert len(set(proxy.mered.wait(r"HELLO .*", 2))) == 1, "where it listens is as before"
    assert proxy.value("SELECT 1") == 1
