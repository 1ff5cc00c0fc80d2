"""Images that nobody asked for: of running branches, every so much WAL, whatever happens to mered meanwhile."""
import contextlib

import pytest

from harness import checkers, load
from harness.server import ApiError, until

LEAST = 16 << 20
DIED = 137
POINTS = ("capture.taking", "capture.cloned", "image.taken", "capture.completed")


def shares_blocks(mere):
    return mere.store in ("btrfs", "reflink")


def images_of(branch, state="ready"):
    return branch.mere.rows("SELECT * FROM image WHERE branch_id = ? AND state = ? ORDER BY lsn", branch.id, state)


def fill(branch, megabytes=17):
    branch.query("INSERT INTO t SELECT coalesce((SELECT max(n) FROM t), 0) + i, repeat('x', 1000) FROM generate_series(1, %s) i", megabytes * 950)


@pytest.fixture
def busy(mere):
    """main of a project that wants an image as often as possible; it never suspends."""
    if not shares_blocks(mere):
        pytest.skip("an image costs a copy here: none is taken in the background")
    project = mere.create_project(settings={"image_wal_bytes": LEAST})
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=-1)
    b.query("CREATE TABLE t (n int, pad text)")
    yield b
    if mere.is_running():
        project.delete()


def newest(branch):
    return max((i["lsn"] for i in images_of(branch)), default=0)


def await_image(branch, behind=0, timeout=40):
    """One whose LSN is later: how many there are says nothing, the sweep thins them out."""
    return until(lambda: newest(branch) > behind and images_of(branch)[-1], timeout, "an image of the running branch", pause=0.1)


def test_a_running_branch_gets_images(mere, busy):
    fill(busy)
    at = busy.value("SELECT pg_current_wal_flush_lsn()")
    rows = busy.value("SELECT count(*) FROM t")
    image = await_image(busy)
    assert image["method"] in ("snapshot", "backup") and image["lsn"] >= image["redo_lsn"]
    assert not images_of(busy, "taking") and busy.endpoint()["current_state"] == "active"
    busy.query("INSERT INTO t VALUES (-1)")
    after = busy.value("SELECT pg_current_wal_flush_lsn()")
    child = busy.project.branch(busy, parent_lsn=after)
    assert mere.rows("SELECT image_id FROM branch WHERE id = ?", child.id)[0]["image_id"] == image["id"]
    assert child.value("SELECT count(*) FROM t") == rows + 1
    before = busy.project.branch(busy, parent_lsn=at)  # the image may lie behind it: then it begins with an older one
    assert before.value("SELECT count(*) FROM t") == rows


@pytest.mark.slow
def test_the_books_of_every_image_are_even(mere, busy):
    """pgbench goes on while they are taken; a branch of each is checked by the sums that must be equal."""
    load.pgbench_init(busy.environ(), 2)
    bench = load.Pgbench(busy.environ(), clients=4)
    try:
        for _ in range(2):
            behind = newest(busy)
            fill(busy)
            image = await_image(busy, behind)
            child = busy.project.branch(busy, parent_lsn=f"{image['lsn'] >> 32:X}/{image['lsn'] & 0xFFFFFFFF:X}")
            with contextlib.closing(child.connect()) as conn:
                assert checkers.bank(conn, 2) == []
            child.delete()
    finally:
        bench.stop()


@pytest.mark.slow
def test_switched_off(mere, busy):
    busy.project.call("PATCH", "", {"project": {"settings": {"image_wal_bytes": 0}}})
    fill(busy, 20)
    with pytest.raises(AssertionError):
        await_image(busy, timeout=12)
    busy.project.call("PATCH", "", {"project": {"settings": {"image_wal_bytes": LEAST}}})
    fill(busy, 20)
    await_image(busy)


def test_how_often_is_said_and_checked(mere, project):
    assert project.call("GET")["project"]["settings"]["image_wal_bytes"] == 256 << 20
    for bad in (1, LEAST - 1, -1, "16MB", 1.5, True, 1 << 70):
        with pytest.raises(ApiError) as e:
            project.call("PATCH", "", {"project": {"settings": {"image_wal_bytes": bad}}})
        assert e.value.status in (400, 422), bad
        if e.value.status == 422:
            assert e.value.body["errors"][0]["pointer"] == "/project/settings/image_wal_bytes", bad
    for good in (0, LEAST, 1 << 40):
        assert project.call("PATCH", "", {"project": {"settings": {"image_wal_bytes": good}}})["project"]["settings"]["image_wal_bytes"] == good


def test_deleted_while_it_is_taken(mere, busy):
    child = busy.project.branch(busy)
    child.patch_endpoint(suspend_timeout_seconds=-1)
    fill(child)
    until(lambda: images_of(child, "taking") or images_of(child), 40, "an image to be begun", pause=0.001)
    child.delete()
    assert not mere.rows("SELECT id FROM image WHERE branch_id = ?", child.id)


@pytest.mark.expect_log(r"(?i)adopt|proxy|wake|gone|left|half|again|interrupted|retry|exit|recover|undone|resum|restart|unfinished")
@pytest.mark.slow
def test_nothing_is_left_of_one_that_was_interrupted(crash_mere):
    m = crash_mere
    if not shares_blocks(m):
        pytest.skip("an image costs a copy here: none is taken in the background")
    project = m.create_project(settings={"image_wal_bytes": LEAST})
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=-1)
    b.query("CREATE TABLE t (n int, pad text)")
    for point in POINTS:
        until(lambda: not m.rows("SELECT id FROM image WHERE state = 'taking'"), 40, "the image before")
        m.kill9()
        m.start(env={"CRASH_AT": f"{point}:1"})
        behind = newest(b)
        fill(b)
        assert m.proc.wait(60) == DIED, point
        m.wait()
        assert b.value("SELECT count(*) > 0 FROM t"), point  # the compute lives on
        assert m.rows("SELECT id FROM image WHERE state = 'taking'"), point
        m.start()
        volumes = {i["id"] for i in m.rows("SELECT id FROM image")}
        on_disk = {p.name for p in (m.data / "volumes").iterdir() if p.name.startswith("im-")}
        assert on_disk <= volumes | {i["id"] for i in m.rows("SELECT id FROM image WHERE state = 'taking'")}, point
        image = await_image(b, behind)
        child = project.branch(b, parent_lsn=f"{image['lsn'] >> 32:X}/{image['lsn'] & 0xFFFFFFFF:X}")
        assert child.value("SELECT count(*) > 0 FROM t"), point
        child.delete()
    project.delete()
