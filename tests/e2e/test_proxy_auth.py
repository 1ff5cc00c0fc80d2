"""mere-proxy as the one who asks for the password: who gets in, who does not, and what an outsider can tell from it."""
import base64
import contextlib
import os
import random
import socket
import statistics
import struct
import subprocess
import time

import pytest

from harness import wire
from harness.proxyrig import (
    BEGIN, BRANCH, DATABASE, EP, GOOD, LOGIN, NOT_BUILT, OTHER, PASSWORD, SANITIZED, USER, FakePostgres, auth, backends, ended, later,
    recv_message, scram, serves, verifier,
)
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures
from harness.server import until

pytestmark = NOT_BUILT

UNKNOWN = "ep-no-such-a1b2c3d4"
OLD, NEW = PASSWORD, "npg_Changed1234"


@pytest.fixture
def running(proxy):
    assert proxy.value() == 1
    proxy.mered.forget()
    return proxy


@pytest.fixture
def role(pg):
    """A role of its own, whose password may be changed."""
    def give(password=OLD, more="", salt=b"salt of a person"):
        pg.query(f"ALTER ROLE eve LOGIN PASSWORD '{verifier(password, salt)}' {more}")
        return verifier(password, salt)

    pg.query("CREATE ROLE eve LOGIN")
    yield give
    pg.query("DROP ROLE eve")


def refused(proxy, ep=EP, password="wrong", user=USER, **more):
    return proxy.refusal(options=f"endpoint={ep}", password=password, user=user, **more)


# --- who gets in ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
def test_channel_binding(proxy, sslmode, binding):
    got = proxy.psql(f"host=127.0.0.1 port={proxy.port} sslmode={sslmode} channel_binding={binding} dbname={DATABASE}@{EP}", "SELECT 6 * 7")
    if (sslmode, binding) == ("disable", "require"):
        assert got.returncode == 2 and "channel binding" in got.stderr, got
    else:
        assert got.stdout == "42\n", got.stderr


def test_a_certificate_that_gives_nothing_to_bind_to(make):
    def ed25519(base):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", str(base / "key"), "-out", str(base / "crt"),
                        "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)

    proxy = make(prepare=ed25519)
    for binding, status in (("prefer", 0), ("require", 2)):
        got = proxy.psql(f"host=127.0.0.1 port={proxy.port} sslmode=require channel_binding={binding} dbname={DATABASE}@{EP}")
        assert got.returncode == status, got


def test_the_first_login_wakes_and_the_second_needs_nobody(proxy):
    assert proxy.value("SELECT current_user") == USER
    assert [line.split(" ")[0] for line in proxy.mered.seen(".*")] == ["HELLO", "SYNCED", "WAKE"]
    proxy.mered.stop()
    proxy.mered.forget()
    assert proxy.value() == 1
    assert proxy.mered.seen(".*") == []


def test_an_endpoint_that_was_made_a_moment_ago(proxy, pg):
    """mered has it, and its line is still on the way."""
    proxy.mered.logins[UNKNOWN] = {USER: verifier(PASSWORD)}
    proxy.mered.answers[UNKNOWN] = serves(pg.socket / ".s.PGSQL.5432", ep=UNKNOWN)
    assert proxy.value(options=f"endpoint={UNKNOWN}") == 1
    assert len(proxy.mered.seen("LOOK .* -")) == 1


def test_before_the_first_directory(make):
    """A proxy that has just begun knows nobody, and says so to nobody."""
    proxy = make(silent={"HELLO", "LOOK"})
    early, wrong = later(proxy.value), later(refused, proxy)
    proxy.mered.wait("LOOK .* -")
    time.sleep(0.3)
    assert not early.done() and not wrong.done()
    proxy.mered.silent.clear()
    proxy.mered.say(BEGIN)
    proxy.mered.tell(EP)
    proxy.mered.say("COMPLETE")
    proxy.mered.say(f"LOOKED {proxy.mered.seen('LOOK .*')[0].split(' ')[1]}")
    assert early.result(10) == 1 and wrong.result(10).sqlstate == "28P01"


def test_all_in_one_breath(running):
    """A client that does not wait: its query lies behind its proof."""
    with contextlib.closing(wire.Wire("127.0.0.1", running.port, tls=False)) as w:
        w.startup(user=USER, database=DATABASE, options=f"endpoint={EP}")
        w.message()
        said = w.first()
        query = b"Q" + struct.pack("!I", 13) + b"SELECT 8\0"
        send = w.sock.sendall
        w.sock = type("Together", (), {"sendall": lambda _, data: send(data + query), "recv": w.sock.recv, "close": w.sock.close})()
        w.proof(PASSWORD, *said)
        assert w.message()[1][:4] == struct.pack("!I", 12) and w.message()[0] == b"R"
        w.settle()
        assert [w.message()[0] for _ in range(4)] == [b"T", b"D", b"C", b"Z"]


def test_an_empty_database_is_that_of_the_user(proxy):
    assert proxy.refusal(options=f"endpoint={EP}", database="").message == f'database "{USER}" does not exist'
    assert proxy.mered.seen("WAKE .*")[0].endswith(f" endpoint {EP} {USER} - -")


# --- who does not --------------------------------------------------------------------------------------------------------------------


def test_nobody_can_tell_why(proxy, pg):
    """A wrong password, a role that is not there, one without a password, an endpoint that is not there; asleep and running."""
    proxy.mered.logins[EP]["bob"] = proxy.mered.logins[OTHER]["bob"] = None
    proxy.mered.tell(EP, OTHER)
    answers = []
    for _ in range(2):
        for ep in (EP, OTHER, UNKNOWN):
            answers += [(refused(proxy, ep, user=user).fields, user) for user in (USER, "nobody", "bob")]
        assert proxy.mered.seen("WAKE .*") == []
        proxy.value()
        proxy.mered.forget()
    same = {tuple(sorted((k, v.replace(user, "USER")) for k, v in fields.items())) for fields, user in answers}
    assert len(same) == 1, same
    fields = dict(same.pop())
    assert (fields["C"], fields["M"], fields["S"]) == ("28P01", 'password authentication failed for user "USER"', "FATAL")
    assert all(word in fields["H"] for word in ("endpoint", "role", "password"))
    for why in ("no such endpoint", "no such role", "wrong password"):  # the operator can
        assert f'reason="denied: {why}' in proxy.log_text()


def test_challenges_do_not_tell(make):
    """Salt and iterations of what is not there: as of what is, the same each time, and in the next process."""
    seen = []
    for _ in range(2):
        proxy = make()
        for ep, user in ((EP, "nobody"), (UNKNOWN, USER), (EP, "nobody")):
            with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
                w.startup(user=user, options=f"endpoint={ep}")
                w.message()
                seen.append(w.first()[1].split(",", 1)[1])
    assert seen[0] == seen[2] == seen[3] and seen[1] == seen[4] != seen[0], seen
    assert all(len(base64.b64decode(s[2:].split(",")[0])) == 16 and s.endswith(",i=4096") for s in seen), seen


def attempt(proxy, ep, user):
    """Seconds from the startup packet to the refusal; the proof is noise, so that nothing of ours takes time."""
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port, tls=False)) as w:
        begun = time.perf_counter()
        w.startup(user=user, database=DATABASE, options=f"endpoint={ep}")
        w.message()
        _, challenge = w.first()
        w.send(b"p", f"c=biws,{challenge.split(',')[0]},p={base64.b64encode(os.urandom(32)).decode()}".encode())
        with pytest.raises(wire.Refused) as e:
            w.message()
        assert e.value.sqlstate == "28P01"
        return time.perf_counter() - begun


CASES = {"wrong password": (EP, USER), "unknown role": (EP, "nobody"), "wrong password, asleep": (OTHER, USER),
         "unknown role, asleep": (OTHER, "nobody"), "unknown endpoint": (UNKNOWN, USER)}


def medians(proxy, n):
    took, order = {case: [] for case in CASES}, list(CASES)
    dice = random.Random(n)
    for _ in range(n):
        dice.shuffle(order)
        for case in order:
            took[case].append(attempt(proxy, *CASES[case]))
    got = {case: statistics.median(t) * 1000 for case, t in took.items()}
    print({case: round(ms, 3) for case, ms in got.items()})
    return got


@pytest.mark.skipif(SANITIZED, reason="takes its own time")
@pytest.mark.parametrize("n", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_time_does_not_tell(running, n):
    """Less than a millisecond between the medians; more where others make the machine slow, which may also blur one measurement: what
    tells, tells in each."""
    medians(running, 64)  # what running computes take is known then
    spread = []
    while not spread or (spread[-1] >= 0 and len(spread) < 3):
        got = medians(running, n).values()
        spread.append(max(got) - min(got) - max(1, min(got) / 4))
    assert spread[-1] < 0, spread
    assert running.mered.seen("WAKE .*") == []


@pytest.mark.skipif(SANITIZED, reason="takes its own time")
def test_time_would_tell(running):
    """The twin: were an endpoint that is not there answered at once, the same measurement would show it."""
    bare = statistics.median(attempt_at_once(running) for _ in range(200)) * 1000
    assert min(medians(running, 100).values()) - bare > 0.5, bare


def attempt_at_once(proxy):
    """A refusal that waits for nothing: the mechanism is not on offer, as known from the very first message."""
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port, tls=False)) as w:
        begun = time.perf_counter()
        w.startup(user=USER, database=DATABASE, options=f"endpoint={UNKNOWN}")
        w.message()
        w.send(b"X", b"")
        with pytest.raises(wire.Refused):
            w.message()
        return time.perf_counter() - begun


def test_a_flood_of_names_costs_nobody(running):
    dice = random.Random(11)
    socks = []
    for _ in range(300):
        w = wire.Wire("127.0.0.1", running.port, tls=False)
        w.startup(user=USER, database=DATABASE, options=f"endpoint=ep-a-b-{dice.randrange(10**8)}")
        socks.append(w)
    assert running.value() == 1
    for w in socks:
        w.message()
        w.first()
        w.close()
    assert running.mered.seen("WAKE .*") == [] and running.mered.seen("FIND .*") == []
    assert running.value() == 1


def test_addresses(proxy):
    proxy.mered.ips[EP] = "10.0.0.0/8,::2"
    proxy.mered.tell(EP)
    e = refused(proxy, password=PASSWORD)
    assert (e.sqlstate, "127.0.0.1" in e.message) == ("28000", True) and "allowed_ips" in e.fields["H"]
    assert refused(proxy).sqlstate == "28P01"  # who is nobody learns nothing of it
    assert proxy.mered.seen("WAKE .*") == []
    proxy.mered.ips[EP] = "10.0.0.0/8,127.0.0.0/8"
    proxy.mered.tell(EP)
    assert proxy.value() == 1
    proxy.mered.ips[EP] = "10.0.0.1"
    proxy.mered.tell(EP)
    assert refused(proxy, password=PASSWORD).sqlstate == "28000"  # also while it runs


# --- passwords that change -----------------------------------------------------------------------------------------------------------


def test_a_password_changed_by_sql(running, role):
    """Postgres has it, mered not yet: it is asked once, and the first login with the new one works."""
    running.mered.logins[EP]["eve"] = role()
    running.mered.tell(EP)
    assert running.value(user="eve") == 1
    assert running.mered.seen("LOOK .*") == []
    running.mered.logins[EP]["eve"] = role(NEW, salt=b"another, of then")
    assert running.value(user="eve", password=NEW) == 1
    assert len(running.mered.seen(f"LOOK .* {EP}")) == 1
    assert running.value(user="eve", password=NEW) == 1
    assert refused(running, user="eve", password=OLD).sqlstate == "28P01"
    assert len(running.mered.seen("LOOK .*")) == 1 and running.mered.seen("WAKE .*") == []


def test_the_same_password_set_again(running, role):
    """Only the salt is another."""
    running.mered.logins[EP]["eve"] = role()
    running.mered.tell(EP)
    assert running.value(user="eve") == 1
    running.mered.logins[EP]["eve"] = role(salt=b"another, of then")
    assert running.value(user="eve") == 1


def test_a_change_that_mered_does_not_find(running, role, pg):
    """Asked once for each generation, not for each client."""
    running.mered.look = False
    running.mered.logins[EP]["eve"] = role(OLD)
    running.mered.tell(EP)
    role(NEW, salt=b"another, of then")
    for _ in range(3):
        for password in (OLD, NEW):  # what we know is not in force, and the other we do not know
            e = refused(running, user="eve", password=password)
            assert e.sqlstate == "28P01" and "endpoint" in e.fields["H"], e
        assert refused(running, user="nobody").sqlstate == "28P01"
    assert len(running.mered.seen("LOOK .*")) == 2
    running.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=2)
    running.mered.say(f"GONE {EP} 1")
    assert running.value() == 1
    refused(running, user="eve")
    assert len(running.mered.seen("LOOK .*")) == 3


def test_two_changes_while_mered_looks(make, role):
    """An answer that is older than the doubt settles nothing: it is asked again."""
    running = make("--log-level", "debug")
    running.value()
    running.mered.silent.add("LOOK")
    running.mered.logins[EP]["eve"] = role("first password", salt=b"salt the first..")
    one = later(running.value, user="eve", password="first password")
    number = running.mered.wait(f"LOOK .* {EP}")[0].split(" ")[1]
    found = running.mered.roles(EP)
    running.mered.logins[EP]["eve"] = role("other password", salt=b"salt the second.")
    two = later(running.value, user="eve", password="other password")
    until(lambda: running.log_count("from=sounding to=looking") == 2, 10, "both to wait")
    running.mered.say("\n".join([f"ENDPOINT {EP} {len(found)} - -", *found, f"LOOKED {number}"]))
    number = running.mered.wait(f"LOOK .* {EP}", 2)[1].split(" ")[1]
    running.mered.tell(EP)
    running.mered.say(f"LOOKED {number}")
    assert [one.result(10), two.result(10)] == [1, 1]  # Postgres had challenged each by the password of its time


def test_changed_while_mered_is_away(running, role):
    running.mered.logins[EP]["eve"] = role()
    running.mered.tell(EP)
    assert running.value(user="eve") == 1
    running.mered.stop()
    assert running.value(user="eve") == 1  # as ever
    role(NEW, salt=b"another, of then")
    e = refused(running, user="eve", password=NEW)
    assert e.sqlstate == "57P03" and "control plane" in e.message and "H" in e.fields
    assert refused(running, UNKNOWN).sqlstate == "28P01"
    running.mered.logins[EP]["eve"] = role(NEW, salt=b"another, of then")
    running.mered.start()
    until(lambda: running.mered.seen("SYNCED"), 10, "the proxy to come back")
    assert running.value(user="eve", password=NEW) == 1


def test_valid_until(proxy, role):
    """Where a compute runs, it says so itself; where none does, we do."""
    past = int((time.time() - 60) * 1e6)
    proxy.mered.logins[EP]["eve"] = (role(more="VALID UNTIL '2001-01-01'"), past)
    proxy.mered.tell(EP)
    assert refused(proxy, user="eve", password=OLD).sqlstate == "28P01"
    assert proxy.mered.seen("WAKE .*") == []
    proxy.value()
    assert refused(proxy, user="eve", password=OLD).sqlstate == "28P01"
    role(more="VALID UNTIL 'infinity'")  # by SQL: mered has not seen it yet
    assert proxy.value(user="eve") == 1
    role(more="VALID UNTIL '2001-01-01'")
    proxy.mered.logins[EP]["eve"] = (verifier(OLD, b"salt of a person"), past + int(3600e6))
    proxy.mered.tell(EP)
    assert refused(proxy, user="eve", password=OLD).sqlstate == "28P01"
    role(more="VALID UNTIL 'infinity'")


def test_of_the_past_no_password_is_asked(proxy, pg):
    """Behind a moment the present password counts, and to us alone; a compute that asks for one there is not what it should be."""
    moment = BRANCH.replace("br-", "ep-")
    proxy.mered.branches["main"] = BRANCH  # without a writer
    proxy.mered.logins[BRANCH] = {"past": verifier(PASSWORD), USER: verifier(PASSWORD)}
    proxy.mered.told.add(BRANCH)
    proxy.mered.answers[BRANCH] = serves(pg.socket / ".s.PGSQL.5432", ep=moment)
    options = "branch=main neon_lsn:0/16B3748"
    assert proxy.value("SELECT current_user", options=options, user="past") == "past"
    assert proxy.mered.seen("WAKE .*")[0].split(" ")[2:] == ["branch", BRANCH, DATABASE, "lsn%3A0%2F16B3748", "-"]
    assert proxy.refusal(options=options).sqlstate == "08P01"
    proxy.mered.forget()
    e = proxy.refusal(options=options, user="past", password=NEW)
    assert e.sqlstate == "28P01" and "endpoint" in e.fields["H"]
    assert proxy.mered.seen("WAKE .*") == []


# --- between the startup packet and the proof ----------------------------------------------------------------------------------------


def half(proxy, tls=False, options=f"endpoint={EP}"):
    """Has a challenge, and has not answered it."""
    w = wire.Wire("127.0.0.1", proxy.port, tls=tls)
    w.startup(user=USER, database=DATABASE, options=options)
    w.message()
    return w, w.first()


def finish(w, said):
    w.proof(PASSWORD, *said)
    assert w.message()[1][:4] == struct.pack("!I", 12)
    w.settle()
    assert w.query("SELECT 1") == [["1"]]
    w.close()


def test_hold_amid_authentication(running, pg):
    """Who has not proved himself is no activity: his backend goes, and he does not notice."""
    silent = wire.Wire("127.0.0.1", running.port, tls=False)
    silent.startup(user=USER, database=DATABASE, options=f"endpoint={EP}")
    some = [half(running) for _ in range(3)]
    running.mered.say(f"HOLD {EP} 1 7")
    assert running.mered.wait(f"HELD {EP} 1 7 .*") == [f"HELD {EP} 1 7 0"]
    late = half(running)  # comes while the door is shut
    finishing = [later(finish, *pair) for pair in (*some, late)]
    time.sleep(0.3)
    assert not any(f.done() for f in finishing)
    assert running.mered.seen("WAKE .*") == []
    running.mered.say(f"RELEASE {EP} 1")
    for f in finishing:
        f.result(10)
    silent.message()
    finish(silent, silent.first())


def test_gone_amid_authentication(running, pg):
    some = [half(running) for _ in range(3)]
    running.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", g=2)
    running.mered.say(f"GONE {EP} 1")
    for pair in some:
        finish(*pair)
    assert len(running.mered.seen("WAKE .*")) == 1


@pytest.mark.parametrize("awake", [False, True])
def test_deleted_amid_authentication(make, awake):
    """The right password of an endpoint that has gone meanwhile is as wrong as any: it is not the address that was."""
    proxy = make()
    if awake:
        assert proxy.value() == 1
    w, said = half(proxy)
    proxy.mered.logins.pop(EP)
    proxy.mered.say(f"DROP {EP}\nFORGET {EP}")
    time.sleep(0.2)
    w.proof(PASSWORD, *said)
    with pytest.raises(wire.Refused) as e:
        w.settle()
    w.close()
    assert e.value.sqlstate == "28P01" and "endpoint" in e.value.fields["H"], e.value


def test_the_unproved_make_way(proxy, pg):
    """They may sit while nobody waits; all seats taken by them keep nobody out."""
    proxy.mered.answers[EP] = serves(pg.socket / ".s.PGSQL.5432", most=3)
    assert proxy.value() == 1
    until(lambda: backends(pg) == 0, 10, "the first session to end")
    idle = [half(proxy) for _ in range(6)]
    users = [proxy.session(tls=False) for _ in range(3)]
    assert proxy.mered.seen("LOOK .*") == [] and len(proxy.mered.seen("WAKE .*")) == 1
    for w in users:
        assert w.query("SELECT 1") == [["1"]]
        w.close()
    for pair in idle:
        finish(*pair)


@pytest.mark.slow
def test_a_compute_that_does_not_answer_delays_nobody_for_ever(proxy):
    """It accepts, and says nothing: the client's own deadline ends it, and no password is asked for."""
    FakePostgres(proxy.base / "pg", lambda conn, n: (scram(conn), conn.sendall(LOGIN), conn.recv(9)) if n == 1 else conn.recv(9999) and conn.recv(9))
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    with contextlib.closing(wire.Wire("127.0.0.1", proxy.port)) as w:
        w.login(PASSWORD, user=USER, options=f"endpoint={EP}")
    w = wire.Wire("127.0.0.1", proxy.port, tls=False, timeout=1)
    w.startup(user=USER, options=f"endpoint={EP}")
    w.message()
    with pytest.raises(socket.timeout):
        w.first()
    w.sock.settimeout(20)
    with pytest.raises(wire.Refused) as e:
        w.message()
    assert e.value.sqlstate == "57P03" and EP in e.value.message
    w.close()


@pytest.mark.slow
def test_fifteen_seconds_in_all(running):
    nothing, first = wire.Wire("127.0.0.1", running.port, tls=False), half(running)[0]
    nothing.startup(user=USER, database=DATABASE, options=f"endpoint={EP}")
    nothing.message()
    running.mered.silent.add("FIND")
    finding = wire.Wire("127.0.0.1", running.port, tls=False)
    finding.startup(user=USER, database=DATABASE, options="branch=main")
    finding.message()
    finding.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", 9) + b"n,,n=,r=x")
    begun = time.monotonic()
    assert [ended(nothing), ended(first), ended(finding)] == ["08P01", "08P01", "57P03"]
    assert 13 < time.monotonic() - begun < 18
    assert running.value() == 1


def test_messages_that_may_not_come(running, pg):
    """Every prefix, repetition and reordering, at both places: the end of that client alone."""
    first = b"SCRAM-SHA-256\0" + struct.pack("!I", 9) + b"n,,n=,r=x"
    message = b"p" + struct.pack("!I", len(first) + 4) + first

    def start():
        w = wire.Wire("127.0.0.1", running.port, tls=False)
        w.startup(user=USER, database=DATABASE, options=f"endpoint={EP}")
        w.message()
        return w

    for n in range(len(message)):
        with contextlib.closing(start()) as w:
            w.sock.sendall(message[:n])
            w.sock.shutdown(socket.SHUT_WR)
            assert w.sock.recv(100) == b""
    for bad in (message + message, b"Q\0\0\0\x0dSELECT 1\0", b"X\0\0\0\4", b"p\0\0\0\3", b"p\x7f\xff\xff\xff", b"p" + struct.pack("!I", 2000) + b"x" * 2000,
                GOOD, message.replace(b"SHA-256", b"SHA-512"), message.replace(b"n,,", b"y,a"), b"p\0\0\0\4", b"\0" * 100, b"p" * 20000):
        with contextlib.closing(start()) as w:
            w.sock.sendall(bad)
            with pytest.raises(wire.Refused) as e:
                while True:
                    w.message()
            assert e.value.sqlstate in ("08P01", "28000", "0A000"), e.value
    until(lambda: backends(pg) == 0, 10, "no backend to be left")
    assert running.value() == 1


def test_resets_amid_authentication(running, pg):
    def reset(w):
        w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        w.close()

    for options in (f"endpoint={EP}", f"endpoint={OTHER}", f"endpoint={UNKNOWN}", "branch=main"):
        for _ in range(10):
            w = wire.Wire("127.0.0.1", running.port, tls=False)
            w.startup(user=USER, database=DATABASE, options=options)
            reset(w)
    for _ in range(10):
        reset(half(running)[0])
        reset(running.waiting())
        reset(running.waiting(options=f"endpoint={OTHER}"))
    until(lambda: backends(pg) == 0, 20, "no backend to be left")
    assert running.value() == 1


# --- what Postgres says afterwards ---------------------------------------------------------------------------------------------------


def test_refusals_of_postgres_come_after_the_proof(running, role, pg):
    running.mered.logins[EP]["eve"] = role(more="CONNECTION LIMIT 0")
    running.mered.tell(EP)
    for sqlstate, params in (("3D000", {"database": "no_such_db"}), ("53300", {"user": "eve"})):
        e = running.refusal(**{"options": f"endpoint={EP}", "password": PASSWORD, **params})
        assert e.sqlstate == sqlstate and "R" in e.fields, e.fields  # "R": the routine, as Postgres says it
        assert running.refusal(**{"options": f"endpoint={EP}", "password": "wrong", **params}).sqlstate == "28P01"
    pg.query("ALTER ROLE eve CONNECTION LIMIT -1")


def test_a_postgres_that_cannot_prove_itself(proxy):
    """It lets us in, but does not know the verifier: somebody else's."""
    def script(conn, n):
        conn.sendall(auth(10, b"SCRAM-SHA-256\0\0"))
        first = recv_message(conn)[1].split(b",r=")[1]
        conn.sendall(auth(11, b"r=" + first + b"x,s=" + base64.b64encode(b"salt of the rigs") + b",i=4096"))
        recv_message(conn)
        conn.sendall(auth(12, b"v=" + base64.b64encode(bytes(32))) + LOGIN)

    FakePostgres(proxy.base / "pg", script)
    proxy.mered.answers[EP] = serves(proxy.base / "pg")
    e = refused(proxy, password=PASSWORD)
    assert e.sqlstate == "08P01" and EP in e.message, e


# --- size ----------------------------------------------------------------------------------------------------------------------------


def test_a_large_directory(make):
    proxy = make()
    before, begun = proxy.rss(), time.monotonic()
    many = {f"ep-many-{i}-x": {f"role{j}": verifier("x", iterations=1) for j in range(3)} for i in range(100)}
    proxy.mered.logins.update({f"{ep}{n}": roles for ep, roles in many.items() for n in range(100)})
    proxy.mered.tell(*proxy.mered.logins)
    proxy.mered.say("COMPLETE")
    assert proxy.value() == 1
    print(f"10,000 endpoints: {(proxy.rss() - before) >> 20} MB, {time.monotonic() - begun:.2f} s")
    assert SANITIZED or proxy.rss() - before < 64 << 20
    proxy.mered.say(BEGIN)
    proxy.mered.tell(OTHER)
    proxy.mered.say("COMPLETE")
    proxy.mered.logins = {OTHER: proxy.mered.logins[OTHER]}
    assert refused(proxy, password=PASSWORD).sqlstate == "28P01"  # it runs, but there is no such endpoint any more
