"""An archiver that fails is seen: in the log once, at the endpoint as long as it lasts; nothing is lost by it."""
import contextlib
import os

import pytest

from harness.server import until

FAILS = "cannot be kept"
AGAIN = "is kept again"


@pytest.fixture
def wal(mere, project):
    """A branch that is running, its archive, and what finishes a segment of it."""
    b = project.main
    b.query("CREATE TABLE t (n int)")
    archive = mere.data / "wal" / b.id / "archive"

    def switch():
        b.query("INSERT INTO t VALUES (1)")
        with contextlib.closing(b.admin("postgres")) as conn, conn.cursor() as cur:
            cur.execute("SELECT pg_walfile_name(pg_switch_wal())")
            return cur.fetchone()[0]

    return b, archive, switch


def told(mere, since, words):
    return mere.log_text(since).count(words)


def await_failing(b, name):
    """Retried three times a second apart before Postgres counts on: the endpoint says so at the next look."""
    got = until(lambda: b.endpoint().get("archiver"), 30, "the endpoint to say so", pause=0.2)
    assert got["last_failed_wal"] == name and got["failed_count"] >= 1 and got["backlog"] >= 1 and got["last_failed_at"], got


def await_working(b, switch):
    """It sleeps up to a minute after its tries; a finished segment wakes it."""
    switch()
    until(lambda: "archiver" not in b.endpoint(), 30, "the endpoint to be well again", pause=0.2)


@pytest.mark.expect_log(FAILS)
@pytest.mark.parametrize("never", [pytest.param(False, marks=pytest.mark.slow), True])
def test_another_file_under_the_name(mere, wal, never):
    b, archive, switch = wal
    if never:
        b.patch_endpoint(suspend_timeout_seconds=-1)
    since = mere.log_mark()
    assert "archiver" not in b.endpoint()
    name = switch()
    until(lambda: (archive / name).exists(), 20, "the segment to be kept")
    following = f"{int(name, 16) + 1:024X}"
    (archive / following).write_bytes(b"nobody knows what this is")
    assert switch() == following
    await_failing(b, following)
    switch()
    until(lambda: b.endpoint()["archiver"]["backlog"] >= 2, 30, "the second to wait", pause=0.2)
    assert (archive / following).read_bytes() == b"nobody knows what this is"
    os.unlink(archive / following)
    await_working(b, switch)
    until(lambda: (archive / following).exists(), 20, "the segment to be kept")
    assert told(mere, since, FAILS) == 1 and told(mere, since, AGAIN) == 1
    rows = b.value("SELECT count(*) FROM t")
    b.suspend()
    assert b.value("SELECT count(*) FROM t") == rows


@pytest.mark.skipif(os.getuid() != 0, reason="root is needed to take a directory from the computes' user")
@pytest.mark.expect_log(FAILS)
def test_a_directory_that_cannot_be_written(mere, wal):
    b, archive, switch = wal
    os.chmod(archive, 0o500)
    try:
        await_failing(b, switch())
    finally:
        os.chmod(archive, 0o700)
    await_working(b, switch)


@pytest.mark.skipif(os.getuid() != 0, reason="root is needed to take a directory from the computes' user")
@pytest.mark.expect_log(FAILS + "|adopt|proxy|gone")
def test_told_by_the_next_mered_too(new_mere):
    m = new_mere()
    m.start()
    b = m.create_project().main
    b.query("CREATE TABLE t (n int)")
    archive = m.data / "wal" / b.id / "archive"
    os.chmod(archive, 0o500)
    with contextlib.closing(b.admin("postgres")) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_switch_wal()")
    until(lambda: b.endpoint().get("archiver"), 30, "the endpoint to say so", pause=0.2)
    m.kill9()
    os.chmod(archive, 0o700)
    m.start()
    b.query("INSERT INTO t VALUES (1)")
    with contextlib.closing(b.admin("postgres")) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_switch_wal()")
    until(lambda: "archiver" not in b.endpoint(), 60, "the endpoint to be well again", pause=0.2)
    m.stop()


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_every_segment_is_what_its_name_says(wal, count):
    """Postgres writes over its finished segments; what was kept stays what it was."""
    b, archive, _ = wal
    with contextlib.closing(b.connect()) as conn, contextlib.closing(b.admin("postgres")) as admin, conn.cursor() as cur, admin.cursor() as switch:
        for i in range(count):
            cur.execute("INSERT INTO t VALUES (%s)", (i,))
            switch.execute("SELECT pg_switch_wal()")
            if i % 20 == 19:
                switch.execute("CHECKPOINT")  # segments are recycled by it
    until(lambda: len([n for n in os.listdir(archive) if len(n) == 24]) >= count, 120, "the archiver", pause=0.2)
    for name in os.listdir(archive):
        if len(name) == 24:
            with open(archive / name, "rb") as f:
                head = f.read(16)
                f.seek(0, os.SEEK_END)
                assert f.tell() == 1 << 20, name
            assert int.from_bytes(head[8:16], "little") == (int(name[8:16], 16) << 32) + (int(name[16:], 16) << 20), name
