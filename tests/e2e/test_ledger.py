"""
Can the leak ledger see?  One planted leak of each kind, on a stand-in for a server: two sleeping processes, a directory and the real
schema.  With nothing planted it must be silent, and silent again when the leak is taken away.
"""
import contextlib
import ctypes
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from harness import procs
from harness.ledger import Ledger
from harness.server import ROOT, Mere

SLEEP = shutil.which("sleep")


class StandIn(Mere):
    """What the ledger reads of a server, without one."""

    def start(self, **_):
        for name in ("volumes/.tmp", "volumes/.trash", "wal", "locks", "logs", "run/s", "run/conf"):
            (self.data / name).mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.data / "mere.db")) as db:
            db.executescript((ROOT / "migrations/0001_init.sql").read_text())
        self.proc = self.spawn("mered")
        self.proxy = self.spawn("mere-proxy")
        self._pinned["runtime"] = {str(self.data / "run")}
        self.log_path.touch()
        return self

    def spawn(self, name, cwd=None):
        program = self.base / name
        if not program.exists():
            shutil.copy2(SLEEP, program)
        return subprocess.Popen([str(program), "600"], cwd=cwd or self.data, stdin=subprocess.DEVNULL)

    def sql(self, *statements):
        with contextlib.closing(sqlite3.connect(self.data / "mere.db")) as db:
            for s in statements:
                db.execute(s)
            db.commit()

    def stop(self, **_):
        for p in (self.proc, self.proxy):
            p.kill()
            p.wait()


@pytest.fixture
def stand_in():
    m = StandIn()
    m.start()
    entry = Ledger(m)
    entry.open()
    m.entry = entry
    assert entry.complaints() == []
    yield m
    m.stop()
    m.proc.stdout = None
    m.scrub()


PROJECT = """INSERT INTO project (id, name, state, pg_version, region_id, store_passwords, history_retention_seconds, created_at, updated_at)
             VALUES ('p', 'p', 'ready', 15, 'local', 1, 0, 0, 0)"""
BRANCH = """INSERT INTO branch (id, project_id, name, state, volume, volume_id, state_changed_at, created_at, updated_at)
            VALUES ('br-a-b-c', 'p', 'main', '{state}', '{volume}', 'br-a-b-c', 0, 0, 0)"""
ENDPOINT = """INSERT INTO endpoint (id, project_id, branch_id, type, desired, observed, min_cu, max_cu, pid, created_at, updated_at)
              VALUES ('ep-a-b-c', 'p', 'br-a-b-c', 'read_write', '{desired}', '{observed}', 1, 1, 0, 0, 0)"""
OPERATION = """INSERT INTO operation (id, project_id, action, status, created_at, updated_at)
               VALUES ('op', 'p', 'create_branch', '{status}', 0, 0)"""
IMAGE = "INSERT INTO image (id, pg_version, method, state, tli, redo_lsn, lsn, created_at) VALUES ('im-1', 15, 'cold', '{state}', 1, 1, 1, 0)"


def sees(m, word, clean=None):
    found = m.entry.complaints()
    assert any(word in c for c in found), f"nothing about {word!r}: {found}"
    if clean:
        clean()
        assert m.entry.complaints() == []


def test_process(stand_in):
    p = stand_in.spawn("postgres")
    sees(stand_in, "process nobody accounts for", lambda: (p.kill(), p.wait()))


def test_process_known_by_its_environment(stand_in):
    p = subprocess.Popen([SLEEP, "600"], cwd="/", env={"WHERE": str(stand_in.data)})
    sees(stand_in, "process nobody accounts for", lambda: (p.kill(), p.wait()))


def test_process_known_by_an_open_file(stand_in):
    with open(stand_in.data / "mere.db", "rb") as f:
        p = subprocess.Popen([SLEEP, "600"], cwd="/", env={}, stdin=f)
    sees(stand_in, "process nobody accounts for", lambda: (p.kill(), p.wait()))


def test_second_proxy(stand_in):
    p = stand_in.spawn("mere-proxy")
    sees(stand_in, "2 mere-proxy processes", lambda: (p.kill(), p.wait()))


def test_no_proxy(stand_in):
    stand_in.proxy.kill()
    stand_in.proxy.wait()
    sees(stand_in, "0 mere-proxy processes")


def test_descriptors(stand_in):
    stand_in.entry.fds["mered"] = (stand_in.proc.pid, -1000, 0)
    sees(stand_in, "open descriptors")


def test_shared_memory_segment(stand_in):
    # Made by a child that ends at once, as a compute that was killed leaves it.
    code = "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o600 | 0o1000))"
    segment = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    sees(stand_in, "shared memory segment", lambda: ctypes.CDLL(None).shmctl(segment, 0, None))


def test_shared_memory_file(stand_in):
    path = pathlib.Path("/dev/shm/PostgreSQL.1234567890")
    path.write_bytes(b"x")
    sees(stand_in, "/dev/shm/PostgreSQL.1234567890", path.unlink)


@pytest.mark.root
def test_mount(stand_in):
    point = stand_in.data / "volumes"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    sees(stand_in, "mounted", lambda: subprocess.run(["umount", str(point)], check=True))


@pytest.mark.root
def test_loop_device(stand_in):
    image = stand_in.data / "extra.img"
    image.write_bytes(bytes(1 << 20))
    device = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if device.returncode != 0:
        pytest.skip("no loop devices here")
    sees(stand_in, "loop devices", lambda: subprocess.run(["losetup", "-d", device.stdout.strip()], check=True))


@pytest.mark.parametrize("place, word", [
    ("volumes/im-unknown", "belongs to no row"), ("volumes/.tmp/half", "left in volumes/.tmp"), ("volumes/.trash/x", "left in volumes/.trash"),
    ("wal/br-unknown", "left in wal"), ("locks/br-unknown.lock", "left in locks"), ("logs/ep-unknown.log", "left in logs"),
    ("run/s/ep-unknown", "/s: ep-unknown"), ("run/conf/ep-unknown", "/conf: ep-unknown")])
def test_directory(stand_in, place, word):
    path = stand_in.data / place
    path.mkdir()
    sees(stand_in, word, path.rmdir)


def test_socket_of_a_stopped_compute(stand_in):
    stand_in.sql(PROJECT, BRANCH.format(state="ready", volume="none"), ENDPOINT.format(desired="stopped", observed="STOPPED"))
    where = stand_in.data / "run/s/ep-a-b-c"
    where.mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(where / ".s.PGSQL.5432"))
    sees(stand_in, "which does not run", lambda: shutil.rmtree(where))


def test_missing_volume(stand_in):
    stand_in.sql(PROJECT, BRANCH.format(state="ready", volume="ready"))
    sees(stand_in, "volume br-a-b-c is missing", lambda: (stand_in.data / "volumes/br-a-b-c").mkdir())


def test_missing_segment(stand_in):
    """Of those from 0/C00100 to 0/E00080: two are kept, one is not."""
    stand_in.sql(PROJECT, BRANCH.format(state="ready", volume="ready"), f"UPDATE branch SET tli = 2, fork_lsn = {0xC00100}, head_lsn = {0xE00080}")
    (stand_in.data / "volumes/br-a-b-c").mkdir()
    for place, segno in (("archive", 12), ("pg_wal", 14)):
        path = stand_in.data / "wal/br-a-b-c" / place / f"0000000200000000000000{segno:02X}"
        path.parent.mkdir(parents=True)
        path.touch()
    sees(stand_in, "WAL segment 00000002000000000000000D", (stand_in.data / "wal/br-a-b-c/archive/00000002000000000000000D").touch)


@pytest.mark.parametrize("rows, word", [
    ([OPERATION.format(status="scheduling")], "still scheduling"), ([OPERATION.format(status="running")], "still running"),
    ([PROJECT, BRANCH.format(state="init", volume="none")], "still init"),
    ([PROJECT, BRANCH.format(state="deleting", volume="none")], "still deleting"),
    ([PROJECT, BRANCH.format(state="ready", volume="making")], "still making"),
    ([IMAGE.format(state="taking")], "still taking"), ([IMAGE.format(state="trash")], "still trash"),
    ([PROJECT.replace("'ready'", "'deleting'")], "project p is still deleting"),
    ([PROJECT, BRANCH.format(state="ready", volume="none"), ENDPOINT.format(desired="deleted", observed="STOPPED")], "wants to be deleted"),
    ([PROJECT, BRANCH.format(state="ready", volume="none"), ENDPOINT.format(desired="stopped", observed="RUNNING")], "is RUNNING")])
def test_row(stand_in, rows, word):
    stand_in.sql(*rows)
    sees(stand_in, word)


def test_log(stand_in):
    with open(stand_in.log_path, "a", encoding="utf-8") as f:
        f.write('2026-01-02T03:04:05.678Z info sched msg="fine"\n2026-01-02T03:04:05.678Z warn sched msg="odd thing" ep=ep-x\n')
    assert [c for c in stand_in.entry.unexpected_log() if "odd thing" in c]
    assert stand_in.entry.unexpected_log(["odd thing"]) == []


def test_after_the_stop(stand_in):
    stand_in.stop()
    assert stand_in.entry.leftovers() == []
    p = stand_in.spawn("postgres")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(stand_in.data / "run/wake.sock"))
    found = stand_in.entry.leftovers()
    assert any("process after the stop" in c for c in found) and any("socket after the stop" in c for c in found), found
    p.kill()
    p.wait()


def test_waits_for_things_to_settle(stand_in):
    p = subprocess.Popen([SLEEP, "0.5"], cwd=stand_in.data)
    begun = time.monotonic()
    assert procs.alive(p.pid)
    threading.Thread(target=p.wait, daemon=True).start()
    assert stand_in.entry.close() == []
    assert time.monotonic() - begun >= 0.3
