"""What mere-proxy lets in when too many come: from one address, to one endpoint, without logging in, without descriptors left."""
import contextlib
import os
import re
import socket
import statistics
import subprocess
import threading
import time

import pytest

from harness import flood, procs
from harness.netns import Elsewhere, elsewhere  # noqa: F401 - fixture
from harness.proxyrig import DATABASE, EP, GOOD, NOT_BUILT, OTHER, USER, read_error, startup_packet
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures
from harness.server import free_port, until

pytestmark = NOT_BUILT


def knock(host, port, n):
    """n connects, then a startup packet on each: (those who are asked for a password, the errors of the others)."""
    socks = [socket.create_connection((host, port), timeout=20) for _ in range(n)]
    let_in, errors = [], []
    for s in socks:
        with contextlib.suppress(OSError):  # turned away already
            s.sendall(GOOD)
    for s in socks:
        if s.recv(1, socket.MSG_PEEK) == b"R":
            let_in.append(s)
        else:
            errors.append(read_error(s))
            s.close()
    return let_in, errors


def asked(proxy):
    """What those have caused in mered who did not prove who they are: never a WAKE."""
    assert proxy.mered.seen("WAKE .*") == []
    return proxy.mered.seen("(FIND|LOOK) .*")


def close(socks):
    for s in socks:
        s.close()


def test_a_rate_for_each_address(make, elsewhere):
    proxy = make("--connects-per-address", "20,20,20", "--allow-plaintext", listen="0.0.0.0")
    with elsewhere.there():
        let_in, errors = knock(elsewhere.near, proxy.port, 60)
        assert 20 <= len(let_in) < 40, len(let_in)
        assert {(e["S"], e["C"]) for e in errors} == {("FATAL", "53400")}
        assert "too many new connections from your address" in errors[0]["M"] and "pool" in errors[0]["H"]
        close(let_in)
    assert asked(proxy) == []
    let_in, errors = knock("127.0.0.1", proxy.port, 40)  # this machine is not counted
    assert errors == [] and proxy.value() == 1
    close(let_in)
    other = Elsewhere()
    with contextlib.closing(other), other.there():
        let_in, errors = knock(other.near, proxy.port, 5)
        assert errors == []
        close(let_in)
    lines = re.findall(r"warn proxy msg=\"refused connections.*", proxy.log_text())
    assert len(lines) == 1 and "connects-per-address" in lines[0], lines
    with elsewhere.there():
        until(lambda: len(knock(elsewhere.near, proxy.port, 1)[0]) == 1, 5, "the rate to allow it again")


def test_a_rate_for_each_endpoint(make):
    proxy = make("--connects-per-endpoint", "5,5,5")
    proxy.mered.answers[OTHER] = "ERR 57P03 later -"
    got = [proxy.refusal(options=f"endpoint={EP}", password="wrong") for _ in range(20)]
    states = [e.sqlstate for e in got]
    assert states[:5] == ["28P01"] * 5 and states.count("53400") >= 5, states
    refused = next(e for e in got if e.sqlstate == "53400")
    assert refused.fields["S"] == "FATAL" and EP in refused.message and "pool" in refused.fields["H"]
    assert asked(proxy) == []
    assert proxy.refusal(options=f"endpoint={OTHER}").sqlstate == "57P03"
    until(lambda: proxy.refusal(options=f"endpoint={EP}", password="wrong").sqlstate == "28P01", 5, "the rate to allow it again", pause=0.3)


def test_rates_can_be_off(make):
    proxy = make("--connects-per-endpoint", "off")
    packet = startup_packet(user=USER, database=DATABASE, options=f"endpoint={OTHER}")
    for _ in range(2500):
        with proxy.raw() as s:
            s.sendall(packet)
            assert s.recv(1) == b"R"
    assert asked(proxy) == []


@pytest.mark.parametrize("flags,says", [
    (["--connects-per-address", "1,2"], "three numbers"), (["--connects-per-endpoint", "0,1,1"], "three numbers"),
    (["--connects-per-endpoint", ""], "three numbers"), (["--logins", "0"], "number"), (["--logins-per-address", "x"], "number"),
])
def test_bad_limits(flags, says, proxy):
    got = subprocess.run([*proxy.proc.args, *flags], capture_output=True, text=True, timeout=10)
    assert got.returncode == 1 and says in got.stderr and flags[0] in got.stderr, got


def test_those_who_have_not_logged_in(make):
    proxy = make("--logins", "10")
    close(knock("127.0.0.1", proxy.port, 15)[0])
    assert asked(proxy) == []
    until(lambda: len(knock("127.0.0.1", proxy.port, 1)[0]) == 1, 5, "room")
    sessions = [proxy.session() for _ in range(20)]  # who has logged in is counted no more
    let_in, errors = knock("127.0.0.1", proxy.port, 15)
    assert len(let_in) == 10 and {(e["S"], e["C"]) for e in errors} == {("FATAL", "53300")}
    assert "have not logged in" in errors[0]["M"] and errors[0]["H"]
    for w in sessions:
        assert w.query("SELECT 1") == [["1"]]
    let_in.pop().close()
    until(lambda: not knock("127.0.0.1", proxy.port, 1)[1], 5, "room for one")
    close(let_in)
    until(lambda: len(knock("127.0.0.1", proxy.port, 1)[0]) == 1, 5, "room")
    assert proxy.value() == 1
    close([w.sock for w in sessions])


def test_who_waits_for_a_compute_has_logged_in(make):
    """A cold start takes no place from those who come meanwhile."""
    proxy = make("--logins", "3")
    proxy.mered.answers[OTHER] = None
    waiting = []
    for _ in range(12):
        waiting.append(proxy.waiting(f"endpoint={OTHER}"))
    assert len(proxy.mered.wait("WAKE .*")) == 1 and proxy.value() == 1
    close([w.sock for w in waiting])


def test_those_who_have_not_logged_in_from_one_address(make, elsewhere):
    proxy = make("--logins", "50", "--logins-per-address", "5", "--allow-plaintext", listen="0.0.0.0")
    with elsewhere.there():
        held, errors = knock(elsewhere.near, proxy.port, 12)
        assert len(held) == 5 and {e["C"] for e in errors} == {"53300"} and "from your address" in errors[0]["M"]
    assert asked(proxy) == []
    assert knock("127.0.0.1", proxy.port, 20)[1] == []
    with contextlib.closing(proxy.connect()), elsewhere.there():
        assert knock(elsewhere.near, proxy.port, 1)[1] != []
        close(held)
        until(lambda: len(knock(elsewhere.near, proxy.port, 1)[0]) == 1, 5, "room")


def test_a_client_that_says_nothing_makes_room(make):
    """15 s from accept to startup packet, then its place is another's."""
    proxy = make("--logins", "2")
    silent, begun = [proxy.raw() for _ in range(2)], time.monotonic()
    assert len(knock("127.0.0.1", proxy.port, 2)[1]) == 2
    until(lambda: proxy_is_open(proxy), 25, "room", pause=0.2)
    assert 10 < time.monotonic() - begun
    close(silent)


def test_why_is_told_inside_a_session(make, certificate):
    """libpq shows nothing that comes before TLS; and what a crowd costs that does not listen is bounded."""
    proxy = make("--logins", "1")
    with proxy.raw():
        got = proxy.psql(f"host=127.0.0.1 port={proxy.port} sslmode=require dbname={DATABASE}@{EP}")
        assert got.returncode == 2 and "too many connections that have not logged in yet" in got.stderr and "HINT" in got.stderr
        fds = procs.count_fds(proxy.pid)
        crowd = [proxy.raw() for _ in range(300)]
        read_error(crowd[-1])
        assert procs.count_fds(proxy.pid) <= fds + 32
        close(crowd)
        until(lambda: procs.count_fds(proxy.pid) <= fds, 5, "those who heard why to be gone")
    until(lambda: proxy_is_open(proxy), 5, "room")


def proxy_is_open(proxy):
    with proxy.raw() as s:
        s.sendall(GOOD)
        return s.recv(1) == b"R"


# --- descriptors (catalogue F3) --------------------------------------------------------------------------------------------------------


def test_500_clients_and_no_descriptors(make):
    """No spinning, nobody inside is hurt, and it recovers."""
    limit = ["prlimit", "--nofile=200:200"]
    if os.getuid() == 0:
        limit += ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    with contextlib.ExitStack() as stack:  # descriptors it does not know of, so that its own sums are wrong
        proxy = make(prefix=limit, inherit=[stack.enter_context(open("/dev/null", "rb")).fileno() for _ in range(150)])
    halt, hurt = threading.Event(), []

    def inside():
        with contextlib.closing(proxy.connect()) as conn, conn.cursor() as cur:
            ready.set()
            while not halt.wait(0.01):
                begun = time.monotonic()
                cur.execute("SELECT 1")
                hurt.append(time.monotonic() - begun)

    ready = threading.Event()
    session = threading.Thread(target=inside)
    session.start()
    assert ready.wait(20)
    crowd = []
    for _ in range(500):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", proxy.port))
        crowd.append(s)
    until(lambda: "cannot accept" in proxy.log_text(), 5, "descriptors to run out")
    n, before, begun = len(hurt), proxy.cpu(), time.monotonic()
    time.sleep(3)
    used, passed = proxy.cpu() - before, time.monotonic() - begun
    queries = len(hurt) - n
    own = queries * 0.0003  # what the queries of the session inside may cost
    assert used < 0.2 * passed + own, f"{used:.2f} s of CPU in {passed:.2f} s, {queries} queries"
    assert queries > 50 and max(hurt[n:]) < 1
    assert proxy.log_text().count("cannot accept") < 10
    close(crowd)
    halt.set()
    session.join()
    assert proxy.value() == 1


# --- a flood from another address ------------------------------------------------------------------------------------------------------


def test_a_flood_asks_for_no_compute(make, elsewhere):
    """Of invented names, and of one that is there and sleeps: nobody proves anything, so there is no WAKE."""
    proxy = make("--allow-plaintext", listen="0.0.0.0")
    with flood.start(elsewhere, proxy.port, 3, OTHER) as stranger:
        made = int(stranger.communicate()[0])
    looks = asked(proxy)
    print(f"{made} connects, {len(looks)} questions")
    assert made > 3000 and all(x.split(" ")[2] == "-" for x in looks)
    assert proxy.value() == 1 and len(proxy.mered.seen("WAKE .*")) == 1  # the check would have seen one


def under_flood(m, elsewhere, seconds):
    seen = flood.of_mere(m, elsewhere, seconds)
    a, b = statistics.median(seen.usual), statistics.median(seen.during)
    print(f"{seen.made / seconds:.0f} connects/s for {seconds} s; usual {a * 1000:.1f} ms, during {b * 1000:.1f} ms, worst {max(seen.during) * 1000:.1f} ms")
    assert seen.woken == 0
    assert seen.made > 2000 * seconds, f"{seen.made} in {seconds} s is no flood"
    assert b <= 2 * a, f"{b * 1000:.1f} ms instead of {a * 1000:.1f} ms"


def test_a_flood_of_invented_names(new_mere, elsewhere, expect_log):
    expect_log("refused connections")
    m = new_mere(args=["--allow-plaintext"])
    m.pg_listen = f"0.0.0.0:{free_port()}"
    under_flood(m.start(), elsewhere, 6)


@pytest.mark.slow
def test_a_flood_of_a_minute(new_mere, elsewhere, expect_log):
    expect_log("refused connections")
    m = new_mere(args=["--allow-plaintext"])
    m.pg_listen = f"0.0.0.0:{free_port()}"
    under_flood(m.start(), elsewhere, 60)


def test_a_limit_that_is_none_is_refused_at_the_start(new_mere):
    m = new_mere()
    for setting, value in (("connects-per-address", "1,2"), ("connects-per-endpoint", "fast"), ("logins", "-1"), ("max-clients", "x")):
        got = subprocess.run([*m.argv(), f"--{setting}", value], capture_output=True, text=True, timeout=20)
        assert got.returncode == 2 and setting in got.stderr, got
