"""Families of branches: each has its own history and its own files, whatever becomes of the others (A2, A16, B1, B4, D5)."""
import contextlib
import os
import re
import shutil
import struct

import psycopg2
import pytest

from harness import checkers, load
from harness.cluster import BINDIR
from harness.recording import move_money
from harness.server import until

pytestmark = pytest.mark.slow

SEGMENT, PAGE = 1 << 20, 8192
SCALE = 1


def amcheck(branch):
    return checkers.amcheck(branch.socket_dir(), 5432, "mere_admin", branch.project.database, BINDIR)


def sound(branch, deep=True):
    """What bank and amcheck find."""
    with contextlib.closing(branch.connect()) as conn:
        return checkers.bank(conn, SCALE) + (amcheck(branch) if deep else [])


def admin(branch, *statements):
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        for sql in statements:
            cur.execute(sql)
        return cur.fetchall() if cur.description else []


# --- deep and wide ------------------------------------------------------------------------------------------------------------------


def test_ten_deep_with_writes_on_all(mere, project):
    """A2.  Forked of running and of suspended branches, at the head and in the past, each writing before and after."""
    load.pgbench_init(project.main.environ(), SCALE)
    project.main.query("CREATE TABLE who (w text)")
    line, want = [project.main], {project.main.id: []}
    for depth in range(10):
        b = line[-1]
        b.query("INSERT INTO who VALUES (%s)", f"in-{depth}")
        move_money(b, 60)
        at = b.value("SELECT pg_current_wal_flush_lsn()")
        here = want[b.id] + [f"in-{depth}"]
        past = depth % 3 == 2
        if past:
            b.query("INSERT INTO who VALUES (%s)", f"after-{depth}")
        if depth % 2:
            b.suspend()
        line.append(project.branch(b, name=f"deep-{depth + 1}", **({"parent_lsn": at} if past else {})))
        want[line[-1].id] = list(here)
        want[b.id] = here + ([f"after-{depth}"] if past else [])
    for i, b in enumerate(line):
        b.query("INSERT INTO who VALUES (%s)", f"late-{i}")
        move_money(b, 20)
    wrong = []
    for i, b in enumerate(line):
        got = sorted(w for (w,) in b.query("SELECT w FROM who"))
        wrong += [f"{b.name}: {got}"] if got != sorted(want[b.id] + [f"late-{i}"]) else []
        wrong += [f"{b.name}: {w}" for w in sound(b, deep=i % 3 == 1)]
        b.suspend()
    assert not wrong, "\n".join(wrong)


def test_ten_wide_with_writes_on_all(mere, project):
    """A2.  All ten of one running parent, which goes on writing."""
    b = project.main
    load.pgbench_init(b.environ(), SCALE)
    b.query("CREATE TABLE who (w text)")
    children = []
    for i in range(10):
        b.query("INSERT INTO who VALUES (%s)", f"before-{i}")
        children.append(project.branch(b, name=f"wide-{i}"))
        b.query("INSERT INTO who VALUES (%s)", f"behind-{i}")
        move_money(b, 20)
    for i, child in enumerate(children):
        child.query("INSERT INTO who VALUES (%s)", f"own-{i}")
        move_money(child, 20)
    wrong = []
    for i, child in enumerate(children):
        want = sorted([f"before-{k}" for k in range(i + 1)] + [f"behind-{k}" for k in range(i)] + [f"own-{i}"])
        got = sorted(w for (w,) in child.query("SELECT w FROM who"))
        wrong += [f"{child.name}: {got}"] if got != want else []
        wrong += [f"{child.name}: {w}" for w in sound(child, deep=i % 5 == 4)]
        child.suspend()
    assert not wrong and not sound(b), "\n".join(wrong)


# --- siblings and their archives ---------------------------------------------------------------------------------------------------


def archive(branch):
    return branch.mere.data / "wal" / branch.id / "archive"


def archived(branch):
    return {n for n in os.listdir(archive(branch)) if re.fullmatch("[0-9A-F]{24}", n)}


def turn(branch, rows=50):
    """Some WAL of its own, and the segment it is in is full; its name."""
    branch.query("INSERT INTO t SELECT i, %s FROM generate_series(1, %s) i", branch.name, rows)
    [(name, _)] = admin(branch, "SELECT pg_walfile_name(pg_switch_wal()), 1")
    return name


def drained(branch, name):
    until(lambda: name in archived(branch), 60, f"{name} in the archive of {branch.name}")


def wrong_pages(path):
    """Pages whose address is not what the file's name says."""
    data, name = path.read_bytes(), path.name
    base = (int(name[8:16], 16) << 32) + (int(name[16:], 16) << 20)
    assert len(data) == SEGMENT
    found = []
    for at in range(0, SEGMENT, PAGE):
        page = data[at:at + PAGE]
        if page.count(0) != PAGE and struct.unpack_from("<Q", page, 8)[0] != base + at:
            found.append(f"{name}: the page at {at} is of {struct.unpack_from('<Q', page, 8)[0]:X}")
    return found + ([f"{name}: its first page is empty"] if data[:PAGE].count(0) == PAGE else [])


def failures(branch):
    return admin(branch, "SELECT failed_count FROM pg_stat_archiver")[0][0]


@pytest.mark.parametrize("parent_is", ["running", "suspended"])
def test_two_children_of_one_place_archive_apart(mere, project, parent_is):
    """B1.  They are alike to the last byte, and so are the names of what they write: only the directories differ."""
    b = project.main
    b.query("CREATE TABLE t (n int, who text)")
    at = b.value("SELECT pg_current_wal_flush_lsn()")
    if parent_is == "suspended":
        b.suspend()
    before = {n: (archive(b) / n).read_bytes() for n in os.listdir(archive(b)) if len(n) == 24}
    twins = [project.branch(b, name=f"twin-{i}", parent_lsn=at) for i in range(2)]
    assert twins[0].body["parent_lsn"] == twins[1].body["parent_lsn"]
    for _ in range(6):
        names = [turn(child) for child in twins]
        assert names[0] == names[1]
    for child, name in zip(twins, names):
        drained(child, name)
        assert failures(child) == 0
        assert child.query("SELECT DISTINCT who FROM t") == [(child.name,)]
        assert not [w for n in archived(child) for w in wrong_pages(archive(child) / n)]
    tli = mere.rows("SELECT tli FROM branch WHERE id = ?", b.id)[0]["tli"]
    assert not [n for child in twins for n in archived(child) if int(n[:8], 16) <= tli], "a child archived what is its parent's"
    common = archived(twins[0]) & archived(twins[1])
    assert len(common) >= 6
    for n in common:
        one, two = (archive(child) / n for child in twins)
        assert one.stat().st_ino != two.stat().st_ino and one.stat().st_nlink == two.stat().st_nlink == 1
    assert any((archive(twins[0]) / n).read_bytes() != (archive(twins[1]) / n).read_bytes() for n in common)
    for n, data in before.items():
        assert (archive(b) / n).read_bytes() == data
    for child in twins:  # and each can be forked along its own line
        grandchild = project.branch(child)
        assert grandchild.query("SELECT DISTINCT who FROM t") == [(child.name,)]


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_recycled_segments(mere, project, count):
    """B4.  Postgres writes its next segment over an old one: what was kept of that must not change."""
    b = project.main
    b.query("CREATE TABLE t (n int, who text)")
    log = mere.data / "logs" / f"{b.endpoint_id}.log"
    marks, rounds = [], 0

    def recycled():
        return sum(int(n) for n in re.findall(r"(\d+) recycled", log.read_text(errors="replace")))

    while recycled() < count:
        for _ in range(4):
            name = turn(b, rows=20)
        marks.append((b.value("SELECT pg_current_wal_flush_lsn()"), b.value("SELECT count(*) FROM t")))
        drained(b, name)  # nothing is recycled before it is kept
        admin(b, "CHECKPOINT")
        rounds += 1
        assert rounds < 2 * count, f"{recycled()} segments were recycled in {rounds} rounds"
    wrong = [w for n in sorted(archived(b)) for w in wrong_pages(archive(b) / n)]
    assert not wrong, "\n".join(wrong[:20])
    assert len(archived(b)) >= count and failures(b) == 0
    for at, rows in marks[::max(1, len(marks) // 4)]:
        assert project.branch(b, parent_lsn=at).value("SELECT count(*) FROM t") == rows


# --- what is deleted ----------------------------------------------------------------------------------------------------------------


def volume(mere, name):
    return mere.data / "volumes" / name


def empty(path):
    for entry in os.scandir(path):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


@pytest.mark.expect_log("damaged|missing|pg_control|image")
def test_children_outlive_the_images_they_came_from(mere, project):
    """A16.  With the bytes of parent and images gone, every child that has started is whole, down to its indexes."""
    b = project.main
    load.pgbench_init(b.environ(), SCALE)
    move_money(b, 60)
    at = b.value("SELECT pg_current_wal_flush_lsn()")
    children = [project.branch(b, name="of-running")]
    move_money(b, 60)
    b.suspend()
    children += [project.branch(b, name="of-suspended"), project.branch(b, name="of-the-past", parent_lsn=at)]
    for child in children:
        move_money(child, 20)
        child.suspend()
    images = mere.rows("SELECT id FROM image WHERE branch_id = ?", b.id)
    assert images
    for i in images:
        empty(volume(mere, i["id"]))
    empty(volume(mere, b.id))
    os.sync()
    for child in children:
        assert sound(child) == []
        move_money(child, 20)
        child.suspend()
        assert sound(child) == []
        child.delete()


@pytest.mark.expect_log("swept|left|unknown|removed")
def test_the_dead_do_not_come_back(mere, project):
    """D5.  A branch that is made where files of another lie takes nothing of them."""
    b = project.main
    b.query("CREATE TABLE t AS SELECT 'right'::text AS who")
    b.suspend()
    old = project.branch(b, name="again")
    old.query("UPDATE t SET who = 'wrong'; CREATE TABLE ghost (n int)")
    old.suspend()
    keep = mere.base / "ghost"
    shutil.copytree(old.mere.data / "volumes" / old.id, keep / "volume", symlinks=True)
    shutil.copytree(old.mere.data / "wal" / old.id, keep / "wal")
    old.delete()
    for path in (mere.data / "volumes" / old.id, mere.data / "wal" / old.id, mere.data / "locks" / f"{old.id}.lock"):
        assert not path.exists(), path
    new = project.branch(b, name="again")
    assert new.id != old.id
    # As if a deletion that was cut short had left them under this very id.
    shutil.copytree(keep / "volume", mere.data / "volumes" / new.id, symlinks=True)
    shutil.copytree(keep / "wal", mere.data / "wal" / new.id)
    assert new.query("SELECT who FROM t") == [("right",)]
    with pytest.raises(psycopg2.errors.UndefinedTable):
        new.query("SELECT * FROM ghost")
    new.suspend()
    stale = {n: (keep / "wal" / "archive" / n).read_bytes() for n in os.listdir(keep / "wal" / "archive") if re.fullmatch("[0-9A-F]{24}", n)}
    assert stale and archived(new)
    assert not [n for n in archived(new) if (archive(new) / n).read_bytes() == stale.get(n)]
    # And under the id of one that is gone, also across a restart: no row speaks of it, so nobody is started on it.
    shutil.copytree(keep / "volume", mere.data / "volumes" / old.id, symlinks=True)
    shutil.copytree(keep / "wal", mere.data / "wal" / old.id)
    mere.restart()
    assert old.id not in {b["id"] for b in project.branches()}
    with pytest.raises(psycopg2.OperationalError):
        old.query("SELECT 1")
    assert new.query("SELECT who FROM t") == [("right",)]
    for path in (keep, mere.data / "volumes" / old.id, mere.data / "wal" / old.id):
        shutil.rmtree(path)
