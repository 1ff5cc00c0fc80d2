"""mere-proxy by itself: the second door of an endpoint.  Postgres itself stands in for the pooler: it logs in alike."""
import contextlib
import time

import pytest

from harness import wire
from harness.proxyrig import DATABASE, EP, NOT_BUILT, ended, later, serves
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures

pytestmark = NOT_BUILT
POOLED = f"endpoint={EP}-pooler"


@pytest.fixture
def at(pg):
    return pg.socket / ".s.PGSQL.5432"


@pytest.fixture
def both(proxy, at):
    proxy.mered.answers[EP] = serves(at, pooler=at)
    return proxy


def test_it_is_asked_for_once(proxy, at):
    both = proxy
    assert both.value() == 1  # the compute runs, and its door is known
    both.mered.forget()
    both.mered.answers[EP] = serves(at, pooler=at)
    for _ in range(3):
        assert both.value(options=POOLED) == 1
    asked = [w.split(" ")[2:] for w in both.mered.seen("WAKE .*")]
    assert asked == [["endpoint", EP, DATABASE, "-", "pooled"]]
    assert both.value(options=None, dbname=f"{DATABASE}@{EP}-pooler") == 1
    assert both.psql(f"host={EP}-pooler.localhost hostaddr=127.0.0.1 port={both.port} dbname={DATABASE} sslmode=require").stdout == "1\n"
    assert len(both.mered.seen("WAKE .*")) == 1


def test_those_who_ask_for_different_things_share_no_question(both):
    both.mered.silent.add("WAKE")
    with both.waiting(), both.waiting(POOLED), both.waiting(POOLED):
        both.mered.wait("WAKE .* -")
        both.mered.wait("WAKE .* pooled")
        time.sleep(0.2)
        assert len(both.mered.seen("WAKE .*")) == 2


def test_an_answer_without_a_pooler_leads_nowhere(make, pg, at):
    """Never to the compute instead."""
    p = make("--connect-timeout-ms", "2000")
    p.mered.answers[EP] = serves(at)
    assert p.value() == 1
    e = p.refusal(options=POOLED)
    assert e.sqlstate == "57P03", e


def test_a_refusal_is_passed_on(proxy):
    proxy.mered.answers[EP] = "ERR 0A000 no%20pooler hint"
    e = proxy.refusal(options=POOLED)
    assert e.sqlstate == "0A000" and e.message == "no pooler" and e.fields["H"] == "hint"
    assert proxy.refusal(password="wrong", options=POOLED).sqlstate == "28P01"


def test_both_doors_open_and_shut_together(both):
    with contextlib.closing(both.connect()) as direct, contextlib.closing(both.connect(options=POOLED)) as pooled:
        for conn in (direct, pooled):
            with conn.cursor() as cur:
                cur.execute("BEGIN")
        both.mered.say(f"HOLD {EP} 1 7")
        assert both.mered.wait(f"HELD {EP} 1 7 .*") == [f"HELD {EP} 1 7 2"]
        newcomer = later(both.value, options=POOLED)
        for conn in (direct, pooled):
            with conn.cursor() as cur:
                cur.execute("COMMIT")
        both.mered.say(f"HOLD {EP} 1 7")
        assert both.mered.wait(f"HELD {EP} 1 7 .*", 2)[1] == f"HELD {EP} 1 7 0"
        query = later(lambda: pooled.cursor().execute("SELECT 1"))
        time.sleep(0.3)
        assert not newcomer.done() and not query.done()
        both.mered.say(f"RELEASE {EP} 1")
        assert newcomer.result(10) == 1
        query.result(10)


@pytest.mark.parametrize("word", ["GONE {} 1", "DROP {}"])
def test_both_end_together(both, at, word):
    sessions = both.session(), both.session(options=POOLED)
    both.mered.forget()
    both.mered.answers[EP] = serves(at, g=2, pooler=at)
    both.mered.say(word.format(EP))
    assert [ended(w) for w in sessions] == ["57P01", "57P01"]
    assert both.value(options=POOLED) == 1
    assert len(both.mered.seen("WAKE .* pooled")) == 1, "asked anew: the old address is forgotten"


def test_sessions_are_those_of_the_endpoint(both):
    with both.session(), both.session(options=POOLED), both.session(options=POOLED):
        both.mered.forget()
        both.mered.stop()
        both.mered.start()
        both.mered.wait("SYNCED")
        assert sorted(both.mered.seen("SESSIONS .*")) == [f"SESSIONS {EP} 1 1", f"SESSIONS {EP} 1 2"]


def test_a_pooler_that_is_not_there_any_more(both, at):
    """The compute runs on, and so do its direct sessions; mered is asked again for the pooler alone."""
    both.mered.answers[EP] = serves(at, pooler="/nowhere")
    with both.session() as direct:
        waiting = later(both.value, options=POOLED)
        both.mered.wait("WAKE .* pooled", 2)
        both.mered.answers[EP] = serves(at, pooler=at)
        assert waiting.result(10) == 1
        assert direct.query("SELECT 1") == [["1"]]
        both.mered.forget()
        assert both.value() == 1 and both.mered.seen("WAKE .*") == []


def test_seats_are_counted_apart(make, at):
    p = make("--connect-timeout-ms", "3000")
    p.mered.answers[EP] = serves(at, most=1, pooler=at)
    with p.session(), p.session(options=POOLED), p.session(options=POOLED):
        assert p.refusal(options=f"endpoint={EP}").sqlstate == "53300"


def test_a_cancel_goes_to_whom_the_session_is_with(both):
    with both.session(options=POOLED) as w:
        w.send(b"Q", b"SELECT pg_sleep(30)\0")
        time.sleep(0.3)
        wire.cancel("127.0.0.1", both.port, *w.backend_key)
        with pytest.raises(wire.Refused) as e:
            while True:
                w.message()
        assert e.value.sqlstate == "57014"
