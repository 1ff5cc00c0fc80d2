"""
Forks of a recorded history are exact: nothing extra, nothing missing, wherever the LSN and whatever the moment (A4, A5, A7, A8, A9).

Run by `make slow`: a sample of each, then the numbers of the catalogue.
"""
import contextlib
import datetime
import os
import random
import time
import urllib.parse

import pytest

from harness.history import PAGE
from harness.recording import SEGMENT, Recording, inversions, text
from harness.server import ApiError, lsn

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recording(mere):
    project = mere.create_project()
    r = Recording(project.main)
    assert len(r.history.records) > 3000 and len(r.commits) > 800
    yield r
    if mere.is_running():
        project.delete()


def sample(quick, slow):
    return [quick, pytest.param(slow, marks=pytest.mark.slow)]


@contextlib.contextmanager
def fork(parent, **spec):
    child = parent.project.branch(parent, **spec)
    yield child
    child.delete()


def reached_by(child):
    """Where it left its parent, as the history file that its own Postgres wrote tells."""
    row = child.mere.rows("SELECT fork_lsn FROM branch WHERE id = ?", child.id)[0]
    return row["fork_lsn"]


def is_first_start(history, asked, reached):
    """The first record at or after `asked` begins there; on a page boundary the page's header lies between."""
    want = history.first_start(asked)
    return reached == want or (reached % PAGE == 0 and want - reached in (24, 40))


@pytest.mark.parametrize("count", sample(12, 1000))
def test_random_places(recording, count):
    """A4.  Half of the places are where a commit record begins: that one is not in."""
    wrong = []
    for at in recording.random_places(random.Random(count), count):
        with fork(recording.branch, parent_lsn=text(at)) as child:
            wrong += [f"{text(at)}: {w}" for w in recording.wrong(child, at)]
    assert not wrong, "\n".join(wrong[:50])


@pytest.mark.parametrize("count", sample(12, 400))
def test_edges(recording, count):
    """A7."""
    wrong = []
    for at in recording.edges(random.Random(count), count):
        with fork(recording.branch, parent_lsn=text(at)) as child:
            wrong += [f"{text(at)}: {w}" for w in recording.wrong(child, at)]
            if not is_first_start(recording.history, at, reached_by(child)):
                wrong.append(f"{text(at)}: reached {text(reached_by(child))} instead of {text(recording.history.first_start(at))}")
    assert not wrong, "\n".join(wrong[:50])


def test_the_judge_can_see(recording):
    """A state that is one commit off is caught, in both directions, by the transactions or the acknowledgements."""
    rng = random.Random(1)
    ours = [c for c in recording.commits[20:-20] if c.xid in recording.xids]
    for _ in range(4):
        at = rng.choice(ours)
        i = recording.commits.index(at)
        with fork(recording.branch, parent_lsn=text(at.start)) as child:
            assert recording.wrong(child, at.start) == []
            assert any("missing" in w for w in recording.wrong(child, at.start + 1))
            before = next(c for c in reversed(recording.commits[:i]) if c.xid in recording.xids)
            assert any("extra" in w for w in recording.wrong(child, before.start))


# --- moments ----------------------------------------------------------------------------------------------------------------------


def ask(branch, **query):
    return branch.project.call("GET", branch.path("/lsn?" + urllib.parse.urlencode(query)))


def moments(recording, rng, count):
    """Exact ties, just before, just after, between, around stamps that are out of order, before the first and after the last."""
    s, odd = recording.stamped[1:], inversions(recording.history)
    micro = datetime.timedelta(microseconds=1)
    between = lambda a, b: a + (b - a) * rng.random()  # noqa: E731
    kinds = [lambda: rng.choice(s).stamp, lambda: rng.choice(s).stamp - micro, lambda: rng.choice(s).stamp + micro,
             lambda: between(s[0].stamp, s[-1].stamp), lambda: rng.choice(odd)[0].stamp, lambda: rng.choice(odd)[1].stamp,
             lambda: (lambda p: between(p[1].stamp, p[0].stamp))(rng.choice(odd)), lambda: max(r.stamp for r in s)]
    return [kinds[i % len(kinds)]() for i in range(count)]


@pytest.mark.parametrize("count", sample(100, 500))
def test_a_moment_is_what_a_reference_scan_says(recording, count):
    """A9.  Committers overtake one another between taking the time and writing the record."""
    assert inversions(recording.history)
    for moment in moments(recording, random.Random(count), count):
        want, got = recording.history.at_time(moment), ask(recording.branch, timestamp=moment.isoformat())
        if want is None:
            assert lsn(got["lsn"]) >= recording.stamped[-1].start, (moment, got)
        else:
            assert lsn(got["lsn"]) == want, f"{moment}: {got} instead of {text(want)}"


@pytest.mark.parametrize("count", sample(8, 100))
def test_a_branch_of_a_moment_is_exact(recording, count):
    for moment in moments(recording, random.Random(count + 1), count):
        want = recording.history.at_time(moment)
        with fork(recording.branch, parent_timestamp=moment.isoformat()) as child:
            at = child.parent_lsn
            assert want is None or at == want, f"{moment}: {text(at)} instead of {text(want)}"
            wrong = recording.wrong(child, at)
            # What is in has a stamp at or before the moment, up to where the first later one stands.
            assert not wrong, f"{moment}: {wrong}"


# --- the head of a server that does nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", sample(10, 100))
def test_the_head_of_an_idle_server(mere, project, count):
    """A5.  No record lies behind it, and nothing has to be made for it to be reached."""
    b = project.main
    b.query("CREATE TABLE t (n int)")
    took = []
    for i in range(count):
        b.query("INSERT INTO t VALUES (%s)", i)
        head = b.value("SELECT pg_current_wal_insert_lsn()")
        begun = time.monotonic()
        child = project.branch(b, parent_lsn=head, wait=False)
        assert child.value("SELECT count(*), max(n) FROM t") == i + 1
        took.append(time.monotonic() - begun)
        child.delete()
    assert max(took) <= 3, [round(t, 2) for t in took]


# --- damage ---------------------------------------------------------------------------------------------------------------------------


def flip(rng, path):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def overwrite(_, path):
    other = next(p for p in sorted(path.parent.iterdir()) if len(p.name) == 24 and p != path)
    path.write_bytes(other.read_bytes())


DAMAGE = {"missing": lambda _, p: p.unlink(), "truncated": lambda r, p: os.truncate(p, r.randrange(SEGMENT)),
          "zeroed": lambda _, p: p.write_bytes(bytes(SEGMENT)), "of another place": overwrite, "one bit": flip}


def image_before(branch, at):
    rows = branch.mere.rows("SELECT max(lsn) AS lsn FROM image WHERE (branch_id = ? OR branch_id IS NULL) AND state = 'ready' AND lsn <= ?", branch.id, at)
    return max(rows[0]["lsn"], branch.mere.rows("SELECT fork_lsn FROM branch WHERE id = ?", branch.id)[0]["fork_lsn"])


def damaged_cases(recording, rng, count):
    """(place, the file of a whole segment between its image and it)."""
    b = recording.branch
    archive, tli = b.mere.data / "wal" / b.id / "archive", b.mere.rows("SELECT tli FROM branch WHERE id = ?", b.id)[0]["tli"]
    while count > 0:
        at = recording.random_places(rng, 1)[0]
        low, high = image_before(b, at) // SEGMENT + 1, at // SEGMENT
        if low < high:
            n = rng.randrange(low, high)
            yield at, archive / f"{tli:08X}{n >> 12:08X}{n & 0xFFF:08X}"
            count -= 1


@pytest.mark.expect_log("damaged|missing|prepare")
@pytest.mark.parametrize("count", sample(40, 200))
def test_damage_anywhere(recording, count):
    """A8.  It is named, or (a bit that nothing depends on, in the padding between two records) it makes no difference."""
    rng, b, harmless = random.Random(count), recording.branch, 0
    for i, (at, path) in enumerate(damaged_cases(recording, rng, count)):
        how = list(DAMAGE)[i % len(DAMAGE)]
        good = path.read_bytes()
        DAMAGE[how](rng, path)
        try:
            with fork(b, parent_lsn=text(at)) as child:
                assert how == "one bit", f"{path.name} is {how}, and nobody minds"
                harmless += 1
                assert recording.wrong(child, at) == [], f"a bit of {path.name} was changed at {text(at)}"
        except ApiError as e:
            assert e.status == 500 and path.name in e.body["message"], e
        finally:
            path.write_bytes(good)
    assert harmless <= count // 5 // 4 + 1, f"{harmless} of {count // 5} flipped bits went unseen"
