"""Branches of the past: exactly what was committed there, judged by pg_waldump; and everything that is no place to branch from."""
import contextlib
import datetime
import os
import random
import signal
import subprocess
import threading
import urllib.parse

import psycopg2
import pytest

from harness import procs
from harness.history import PAGE, History
from harness.recording import write
from harness.server import ApiError, lsn, until

SEGMENT = 1 << 20


def text(n):
    return f"{n >> 32:X}/{n & 0xFFFFFFFF:X}"


@pytest.fixture(scope="module")
def recorded(mere):
    """A branch with a history that spans suspends, and what pg_waldump says of it."""
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE h (id bigserial PRIMARY KEY, xid bigint NOT NULL, pad text)")
    begin = lsn(b.value("SELECT pg_current_wal_flush_lsn()"))
    write(b, 150)
    b.suspend()
    write(b, 150)
    with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:  # records longer than a page
        cur.execute("INSERT INTO h (xid, pad) SELECT pg_current_xact_id()::text::bigint, string_agg(md5(i::text), '') FROM generate_series(1, 3000) i")
    b.suspend()
    write(b, 50)
    b.suspend()
    history = History(b, begin)
    assert len(history.records) > 1500
    yield b, history
    if mere.is_running():
        project.delete()


def wrong_rows(child, want):
    with contextlib.closing(child.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT DISTINCT xid FROM h")
        got = {x for (x,) in cur.fetchall()}
    return (got - want, (want & child.all_xids) - got)


def check(parent, history, all_xids, at, **spec):
    child = parent.project.branch(parent, **spec)
    child.all_xids = all_xids
    extra, missing = wrong_rows(child, history.commits_before(at))
    row = child.mere.rows("SELECT fork_lsn FROM branch WHERE id = ?", child.id)[0]
    child.delete()
    assert not extra and not missing, f"at {text(at)}: extra {sorted(extra)[:5]}, missing {sorted(missing)[:5]}"
    return row["fork_lsn"]


def rows_of(branch):
    return {x for (x,) in branch.query("SELECT DISTINCT xid FROM h")}


@pytest.fixture(scope="module")
def all_xids(recorded):
    b, _ = recorded
    xids = rows_of(b)
    b.suspend()
    return xids


def places(history, rng, count):
    """Random LSNs, and the edges: of records, of pages, of segments, inside records that cross pages."""
    first = next(r.start for r in history.records if r.what == "COMMIT")
    low, high = first, history.records[-1].start
    commits = [r for r in history.records if r.what == "COMMIT" and r.start > low]
    long = [r for r in history.records if r.size > PAGE and r.start > low]
    kinds = [lambda: rng.randrange(low, high), lambda: rng.choice(commits).start, lambda: rng.choice(commits).start + 1,
             lambda: rng.randrange(low // PAGE + 1, high // PAGE) * PAGE, lambda: rng.randrange(low // SEGMENT + 1, high // SEGMENT + 1) * SEGMENT,
             lambda: (lambda r: r.start + rng.randrange(1, r.size))(rng.choice(long))]
    return [kinds[i % len(kinds)]() for i in range(count)]


@pytest.mark.parametrize("count", [18, pytest.param(400, marks=pytest.mark.slow)])
def test_any_lsn_is_exactly_what_was_committed_there(recorded, all_xids, count):
    parent, history = recorded
    for at in places(history, random.Random(count), count):
        reached = check(parent, history, all_xids, at, parent_lsn=text(at))
        want = history.first_start(at)
        assert reached == want or reached // PAGE * PAGE == reached and want - reached in (24, 40), f"asked {text(at)}, reached {text(reached)}, record {text(want)}"


@pytest.mark.parametrize("count", [6, pytest.param(500, marks=pytest.mark.slow)])
def test_a_time_means_the_first_commit_after_it(recorded, all_xids, count):
    parent, history = recorded
    rng = random.Random(count)
    stamped = [r for r in history.records if r.stamp is not None][5:]
    for i in range(count):
        r = rng.choice(stamped)
        moment = r.stamp + datetime.timedelta(microseconds=(0, -1, 1)[i % 3])
        at = history.at_time(moment)
        child = parent.project.branch(parent, parent_timestamp=moment.isoformat(), endpoint=i < 6)
        assert child.body["parent_timestamp"][:19] == moment.isoformat()[:19]
        if at is not None:
            assert child.parent_lsn == at, f"{moment}: {child.body['parent_lsn']} instead of {text(at)}"
            if i < 6:
                child.all_xids = all_xids
                assert wrong_rows(child, history.commits_before(at)) == (set(), set())
        child.delete()


def refused(project, status=422, **spec):
    before = {b["name"] for b in project.branches()}
    with pytest.raises(ApiError) as e:
        project.branch(**spec)
    assert e.value.status == status, e.value
    assert {b["name"] for b in project.branches()} == before
    return e.value.body


def test_what_is_no_place_to_branch_from(recorded):
    parent, history = recorded
    project = parent.project
    head = parent.refresh() and project.call("GET", parent.path("/lsn?timestamp=" + "2999-01-01T00:00:00Z"))["lsn"]
    for spec in ({"parent_lsn": text(lsn(head) + 1)}, {"parent_lsn": "FFFFFFFF/0"}, {"parent_lsn": "0/28"},
                 {"parent_timestamp": "2999-01-01T00:00:00Z"}, {"parent_timestamp": "2001-01-01T00:00:00Z"}):
        body = refused(project, parent=parent, **spec)
        assert body["latest_lsn"] == head and lsn(body["earliest_lsn"]) < history.records[len(history.records) // 2].start, body
        assert body["earliest_timestamp"] < body["latest_timestamp"]
        assert body["errors"][0]["pointer"] == "/branch/" + next(iter(spec))
    refused(project, parent=parent, parent_lsn=head, parent_timestamp="2025-01-01T00:00:00Z")
    for bad in ("", "x", "0/", "/0", "1/2/3", "0/123456789", "-1/0", "0x1/0"):
        refused(project, parent=parent, parent_lsn=bad)
    for bad in ("", "yesterday", "2025-13-01T00:00:00Z", "2025-01-01"):
        refused(project, parent=parent, parent_timestamp=bad)


def test_time_and_lsn_go_both_ways(recorded):
    parent, history = recorded
    commit = [r for r in history.records if r.stamp is not None][20]

    def ask(**query):
        return parent.project.call("GET", parent.path("/lsn?" + urllib.parse.urlencode(query)))

    got = ask(timestamp=commit.stamp.isoformat())
    assert lsn(got["lsn"]) == history.at_time(commit.stamp) and got["kind"] == "present"
    back = ask(lsn=got["lsn"])
    assert datetime.datetime.fromisoformat(back["timestamp"].replace("Z", "+00:00")) == commit.stamp
    assert ask(timestamp="2999-01-01T00:00:00Z")["kind"] == "future"
    assert ask(timestamp="1999-01-01T00:00:00Z")["kind"] == "past"
    for query in ({}, {"lsn": "0/1", "timestamp": "2025-01-01T00:00:00Z"}, {"lsn": "nothing"}, {"timestamp": "now"}):
        with pytest.raises(ApiError) as e:
            ask(**query)
        assert e.value.status == 400
    with pytest.raises(ApiError) as e:
        ask(lsn="FFFF/0")
    assert e.value.status == 422


def stamped_images(branch):
    """Its ready images, when all of them know the newest commit before them."""
    rows = branch.mere.rows("SELECT lsn, stamp_us, created_at FROM image WHERE branch_id = ? AND state = 'ready' ORDER BY lsn", branch.id)
    return rows if rows and all(r["stamp_us"] > 0 for r in rows) else None


@pytest.mark.expect_log("damaged|missing")
def test_a_time_is_read_from_the_newest_image_before_it(recorded):
    """Each image knows the newest commit before it, so that no more is read for a time than lies between two images."""
    parent, history = recorded
    parent.suspend()
    history = History(parent, history.records[0].start)
    images = until(lambda: stamped_images(parent), 20, "the stamps of the images")
    for image in images:
        newest = max(r.stamp for r in history.records if r.stamp is not None and r.start < image["lsn"])
        assert image["stamp_us"] == round(newest.timestamp() * 1e6), image
        assert image["created_at"] >= image["stamp_us"]
    early = next(r for r in history.records if r.stamp is not None)
    late = datetime.datetime.fromtimestamp(images[-1]["stamp_us"] / 1e6, datetime.timezone.utc)
    archive = parent.mere.data / "wal" / parent.id / "archive"
    name = sorted(n for n in os.listdir(archive) if len(n) == 24 and int(n[8:16], 16) << 32 | int(n[16:], 16) << 20 <= early.start)[-1]
    os.rename(archive / name, archive / "hidden")
    try:
        got = parent.project.call("GET", parent.path("/lsn?" + urllib.parse.urlencode({"timestamp": late.isoformat()})))
        assert got["kind"] == "future" and lsn(got["lsn"]) >= images[-1]["lsn"]
        with pytest.raises(ApiError) as e:
            parent.project.call("GET", parent.path("/lsn?" + urllib.parse.urlencode({"timestamp": early.stamp.isoformat()})))
        assert e.value.status == 500 and name in e.value.body["message"]
    finally:
        os.rename(archive / "hidden", archive / name)


def head_of(branch):
    return lsn(branch.project.call("GET", branch.path("/lsn?timestamp=2999-01-01T00:00:00Z"))["lsn"])


def test_a_question_writes_nothing(mere, project):
    b = project.main
    b.query("CREATE TABLE h (id bigserial PRIMARY KEY, xid bigint NOT NULL, pad text)")
    until(lambda: b.value("SELECT pg_current_wal_insert_lsn() = pg_current_wal_flush_lsn()"), 20, "the WAL writer")
    before = b.value("SELECT pg_current_wal_insert_lsn()")
    heads = {head_of(b) for _ in range(5)}
    after = b.value("SELECT pg_current_wal_insert_lsn()")
    assert before == after and heads == {lsn(before)}
    # While many write, each answer is where a record ends.
    heads = set()
    writers = threading.Thread(target=write, args=(b, 150), kwargs={"pad": 9000})
    writers.start()
    while writers.is_alive():
        heads.add(head_of(b))
    writers.join()
    starts = set(History(b, lsn(before)).starts)
    assert len(heads) > 5
    for head in sorted(heads)[:-1]:
        assert head in starts or head % PAGE == 0 and {head + 24, head + 40} & starts, text(head)


def test_an_idle_head(mere, project):
    """The head of a server that does nothing has no record behind it."""
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    head = b.value("SELECT pg_current_wal_flush_lsn()")
    child = project.branch(b, parent_lsn=head)
    assert child.value("SELECT n FROM t") == 1
    now = project.branch(b, parent_timestamp=datetime.datetime.now(datetime.timezone.utc).isoformat())
    assert now.value("SELECT n FROM t") == 1


def test_of_a_running_branch(mere, project):
    b = project.main
    b.query("CREATE TABLE t (n int)")
    places = []
    for i in range(6):
        b.query("INSERT INTO t VALUES (%s)", i)
        places.append(b.value("SELECT pg_current_wal_flush_lsn()"))
    for i in (0, 3, 5):
        assert project.branch(b, parent_lsn=places[i]).value("SELECT max(n) FROM t") == i
    assert b.value("SELECT count(*) FROM t") == 6


def test_a_cascade_and_the_time_before_it(mere, project):
    """Each branch has a row of its own; any of them reaches any moment of its line, also before its own beginning."""
    b, places = project.main, {}
    b.query("CREATE TABLE t (n int)")
    for depth in range(5):
        b.query("INSERT INTO t VALUES (%s)", depth)
        places[depth] = b.value("SELECT pg_current_wal_flush_lsn()")
        b.query("INSERT INTO t VALUES (%s)", 100 + depth)
        if depth % 2:
            b.suspend()
        b = project.branch(b, parent_lsn=places[depth])
        assert [n for (n,) in b.query("SELECT n FROM t ORDER BY n")] == list(range(depth + 1))
    for depth, at in places.items():
        child = project.branch(b, parent_lsn=at)
        assert child.body["parent_id"] == b.id
        assert [n for (n,) in child.query("SELECT n FROM t ORDER BY n")] == list(range(depth + 1)), depth
    # What was never started is forked like what was.
    first = project.branch(project.main, parent_lsn=places[0], endpoint=False)
    second = project.branch(first)
    assert second.body["parent_lsn"] == first.body["parent_lsn"]
    assert [n for (n,) in second.query("SELECT n FROM t")] == [0]


@pytest.fixture
def spoiled(mere, project):
    """A branch whose history is in its archive, a place in it, and the segment before that place."""
    b = project.main
    b.query("CREATE TABLE t AS SELECT i AS n, repeat('x', 200) AS pad FROM generate_series(1, 20000) i")
    at = b.value("SELECT pg_current_wal_flush_lsn()")
    b.query("INSERT INTO t SELECT i, repeat('y', 200) FROM generate_series(1, 20000) i")
    b.suspend()
    tli = mere.rows("SELECT tli FROM branch WHERE id = ?", b.id)[0]["tli"]
    segno = (lsn(at) >> 20) - 1
    name = f"{tli:08X}{segno >> 12:08X}{segno & 0xFFF:08X}"
    path = mere.data / "wal" / b.id / "archive" / name
    assert path.exists()
    return b, at, path


def bit_flip(path):
    with open(path, "r+b") as f:
        f.seek(500_000)
        byte = f.read(1)[0]
        f.seek(500_000)
        f.write(bytes([byte ^ 4]))


SPOIL = {"missing": os.unlink, "truncated": lambda p: os.truncate(p, 300_000), "zeroed": lambda p: p.write_bytes(bytes(SEGMENT)), "bit flip": bit_flip}


@pytest.mark.expect_log("damaged|missing")
@pytest.mark.parametrize("how", SPOIL)
def test_a_damaged_history_is_named(mere, project, spoiled, how):
    b, at, path = spoiled
    good = path.read_bytes()
    SPOIL[how](path)
    body = refused(project, status=500, parent=b, parent_lsn=at)
    assert path.name in body["message"], body
    path.write_bytes(good)
    assert project.branch(b, parent_lsn=at).value("SELECT count(*) FROM t") == 20000


def count_or_none(branch):
    try:
        return branch.value("SELECT count(*) FROM t")
    except psycopg2.OperationalError:
        return None


@pytest.mark.expect_log("damaged|missing|prepare|could not be")
@pytest.mark.parametrize("how", SPOIL)
def test_a_history_damaged_after_the_fork_starts_nothing(mere, project, spoiled, how):
    b, at, path = spoiled
    child = project.branch(b, parent_lsn=at)
    good = path.read_bytes()
    SPOIL[how](path)
    with pytest.raises(psycopg2.OperationalError) as e:
        child.value("SELECT 1")
    assert path.name in str(e.value)
    assert not child.postmaster() and mere.rows("SELECT volume FROM branch WHERE id = ?", child.id)[0]["volume"] != "ready"
    path.write_bytes(good)
    until(lambda: count_or_none(child) == 20000, 20, "the start after the back-off")


@pytest.mark.expect_log("damaged|ended by itself|no image")
def test_damage_is_not_taken_for_the_head(mere, project):
    """After a crash the head is where the WAL ends; where it only seems to end, nobody is told so."""
    b = project.main
    b.query("CREATE TABLE t AS SELECT i AS n, repeat('x', 200) AS pad FROM generate_series(1, 30000) i")
    archive = mere.data / "wal" / b.id / "archive"
    until(lambda: len([n for n in os.listdir(archive) if len(n) == 24]) >= 4, 20, "the archiver")
    head = b.value("SELECT pg_current_wal_flush_lsn()")
    for p in b.compute():
        with contextlib.suppress(ProcessLookupError):
            os.kill(p.pid, signal.SIGKILL)
    b.await_state("idle", 20)
    path = archive / sorted(n for n in os.listdir(archive) if len(n) == 24)[-2]
    good = path.read_bytes()
    bit_flip(path)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    assert path.name in refused(project, status=500, parent=b, parent_timestamp=now)["message"]
    assert path.name in refused(project, status=500, parent=b, parent_lsn=head)["message"]
    path.write_bytes(good)
    assert project.branch(b, parent_lsn=head).value("SELECT count(*) FROM t") == 30000


def test_by_the_command_line(mere, project):
    b = project.main
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    at = b.value("SELECT pg_current_wal_flush_lsn()")
    b.query("INSERT INTO t VALUES (2)")
    made = subprocess.run([str(mere.bin / "mere"), "branches", "create", "--project", project.id, "--name", "then", "--at", at],
                          env={"PATH": os.environ["PATH"], "MERE_API_URL": mere.api_url, "MERE_API_KEY": mere.key}, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    then = next(x for x in project.branches() if x["name"] == "then")
    assert then["parent_lsn"] == at
