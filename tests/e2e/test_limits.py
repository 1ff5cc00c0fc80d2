"""Limits: space that runs out, a reserve that is kept, and what a compute may take."""
import contextlib
import itertools
import os
import re
import subprocess
import threading
import time

import psycopg2
import pytest

from harness import procs, wire
from harness.server import ApiError, until

FULL = r"(?i)full|space|reserve|disk|ENOSPC|could not|failed|retry|exit|PANIC|died|crash|ended"


def space(path):
    s = os.statvfs(path)
    return s.f_bavail * s.f_frsize


def served(branch):
    try:
        return branch.value("SELECT 1") == 1
    except psycopg2.Error:
        return False


@contextlib.contextmanager
def filler(directory, leave):
    """A file that takes all but `leave` bytes."""
    path = directory / ".filler"
    try:
        with open(path, "wb") as f:
            block = os.urandom(1 << 20)
            while space(directory) > leave:
                try:
                    f.write(block)
                    f.flush()
                    os.fsync(f.fileno())
                except OSError:
                    break
        yield path
    finally:
        path.unlink(missing_ok=True)
        subprocess.run(["sync", "-f", str(directory)], check=False)


@pytest.fixture
def small(new_mere):
    """The whole data directory on a small file system of its own, so that it can be filled without filling the machine."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    m = new_mere(store="copy")
    image, point = m.base / "fs.img", m.base / "mnt"
    with open(image, "wb") as f:
        f.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    point.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot mount")
    m.data = point / "d"
    m.point = point
    yield m.start()
    if m.is_running():
        assert m.stop() == 0
    subprocess.run(["umount", str(point)], check=True)


@pytest.mark.expect_log(FULL)
def test_below_the_reserve_creates_and_starts_are_refused(small):
    m = small
    project = m.create_project()
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    project.main.suspend()
    with filler(m.point, leave=20 << 20):
        until(lambda: m.request("GET", "/readyz", key=None)[0] != 200, 30, "/readyz to say so")
        before = sorted(os.listdir(m.data / "volumes"))
        for method, path, body in (("POST", project.path("/branches"), {"branch": {"name": "x"}}), ("POST", "/projects", {"project": {}})):
            status, _, answer = m.request(method, path, body)
            assert status == 507, (path, status, answer)
            assert "space" in answer["message"].lower() or "full" in answer["message"].lower(), answer
        e = wire.refusal(m.pg_host, m.pg_port, project.password, user=project.role, database="neondb", options=f"endpoint={project.main.endpoint_id}")
        assert e.sqlstate in ("53100", "57P03") and "reserve" in str(e), e
        assert sorted(os.listdir(m.data / "volumes")) == before
        assert [b["name"] for b in project.branches()] == ["main"]
        assert m.call("GET", "/projects")["projects"]
    until(lambda: m.request("GET", "/readyz", key=None)[0] == 200, 30, "/readyz to be well again")
    until(lambda: served(project.main), 60, "the endpoint to be tried again")
    assert project.main.value("SELECT n FROM t") == 1
    child = project.branch(project.main)
    assert child.value("SELECT n FROM t") == 1


@pytest.mark.root
@pytest.mark.expect_log(FULL)
def test_a_disk_that_fills_while_creating(new_mere):
    """A branch that does not fit: a clean failure, nothing left, and all is well when there is room again."""
    m = new_mere(store="copy", config={"reserve": "1MB"})
    image, point = m.base / "fs.img", m.base / "mnt"
    with open(image, "wb") as f:
        f.truncate(600 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    m.data = point / "d"
    try:
        m.start()
        project = m.create_project()
        project.main.query("CREATE TABLE t AS SELECT generate_series(1, 1000000) AS n")
        project.main.suspend()
        made, failed = [], None
        for i in range(40):
            try:
                child = project.branch(project.main, name=f"c-{i}")
                child.value("SELECT count(*) FROM t")
                child.suspend()
                made.append(child)
            except (ApiError, psycopg2.OperationalError, AssertionError) as e:
                failed = e
                break
        assert failed is not None, "it never filled"
        assert re.search(r"(?i)space|full|disk", str(failed)), failed
        assert m.call("GET", "/projects")["projects"]
        made.pop().delete()
        made.pop().delete()
        for b in made:
            assert b.value("SELECT count(*) FROM t") == 1000000
            b.suspend()
        assert m.stop() == 0
    finally:
        m.stop()
        subprocess.run(["umount", str(point)], check=True)


def fill_to_the_last_name(directory):
    """So that nothing can be tried on the file system any more."""
    directory.mkdir()
    for size in (1 << 20, 4096, 1000):
        with contextlib.suppress(OSError):
            for n in itertools.count():
                with open(directory / f"{size}.{n}", "wb") as f:
                    f.write(os.urandom(size))
                    f.flush()
                    os.fsync(f.fileno())
    os.sync()


@pytest.mark.root
@pytest.mark.expect_log(FULL)
def test_it_starts_on_a_full_disk_file_and_deletes(new_mere):
    m = new_mere(store="disk:256MB", config={"reserve": "1MB"}).start()
    gone, kept = m.create_project(), m.create_project()
    for p in (gone, kept):
        p.main.query("CREATE TABLE t AS SELECT 1 AS n")
        p.main.suspend()
    m.stop()
    m.config["reserve"] = "1000TB"  # the host has no room for it to grow
    m.start()
    fill_to_the_last_name(m.data / "volumes" / gone.main.id / "fill")
    m.restart()
    assert (m.data / "disk.btrfs").stat().st_size == 256 << 20
    assert "the file system of the volumes is full" in m.log_text()
    gone.delete()
    assert not (m.data / "volumes" / gone.main.id).exists()  # btrfs gives its blocks back within half a minute
    m.stop()
    m.config["reserve"] = "1MB"
    m.start()  # grows it, when that is still needed
    assert kept.main.value("SELECT n FROM t") == 1



def test_max_connections_is_the_settings(mere, project):
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {"max_connections": "30", "work_mem": "8MB"}})
    b.act("restart")
    assert b.value("SHOW max_connections") == "30"
    assert b.value("SHOW work_mem") == "8MB"


@pytest.mark.parametrize("name, value", [
    ("archive_command", "true"), ("shared_preload_libraries", "x"), ("no_such", "1"), ("work_mem", "1"), ("work_mem", "8MB'; x = '"),
    ("max_connections", "1000000"), ("fsync", "off"), ("listen_addresses", "*"), ("restore_command", "x"), ("data_directory", "/")])
def test_settings_that_may_not_be_chosen(mere, project, name, value):
    with pytest.raises(ApiError) as e:
        project.main.patch_endpoint(settings={"pg_settings": {name: value}})
    assert e.value.status == 422 and name in str(e.value.body), e.value.body
    assert project.main.value("SELECT 1") == 1


def test_sessions_beyond_the_limit_wait_for_their_turn(mere, project):
    """All connections taken by open transactions: one more waits and gets in when one ends."""
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {"max_connections": "12"}})
    b.act("restart")
    held = []
    with contextlib.suppress(psycopg2.Error):
        for _ in range(12):
            held.append(psycopg2.connect(**b.dsn(connect_timeout=2)))
    assert len(held) >= 5
    got = []
    thread = threading.Thread(target=lambda: got.append(b.value("SELECT 1")))
    thread.start()
    time.sleep(0.5)
    assert got == []
    held.pop().close()
    thread.join(30)
    assert got == [1]
    for conn in held:
        conn.close()


def test_a_tenant_gets_no_shell(mere, project):
    b = project.main
    for sql in ("COPY (SELECT 1) TO PROGRAM 'id'", "SELECT pg_read_file('/etc/passwd')", "ALTER SYSTEM SET fsync = off", "CREATE ROLE x SUPERUSER",
                "CREATE ROLE x", "GRANT pg_execute_server_program TO neondb_owner", "SET ROLE mere_admin", "LOAD 'auto_explain'",
                "SELECT lo_export(1, '/tmp/x')", "ALTER ROLE neondb_owner SUPERUSER", "CREATE EXTENSION adminpack", "CREATE TABLESPACE x LOCATION '/tmp'"):
        with pytest.raises(psycopg2.Error):
            b.query(sql)
    assert b.value("SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user") is False


def test_a_compute_is_in_a_group_of_its_own(mere, project):
    child = project.branch(project.main)
    assert child.value("SELECT 1") == project.main.value("SELECT 1")
    groups = [{line.split(":", 2)[2] for line in procs.read(f"/proc/{b.postmaster()}/cgroup").splitlines()} for b in (project.main, child)]
    if "cgroup" in mere.log_text() and "none" in mere.log_text().split("cgroup", 1)[1][:40]:
        pytest.skip("no control groups here")
    mine = {line.split(":", 2)[2] for line in procs.read(f"/proc/{mere.proc.pid}/cgroup").splitlines()}
    if groups[0] <= mine:
        pytest.skip("no writable control groups here")
    assert groups[0] - mine and groups[1] - mine and not (groups[0] & groups[1]) - mine
    for p in project.main.compute():
        assert {line.split(":", 2)[2] for line in procs.read(f"/proc/{p.pid}/cgroup").splitlines()} == groups[0], p
    where = groups[0] - mine
    project.main.suspend()
    left = [str(g) for g in where for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory") if os.path.isdir(top + g)]
    assert left == []


def test_descriptors_of_a_compute(mere, project):
    """Nothing of ours is open in a backend but its lock."""
    b = project.main
    assert b.value("SELECT 1") == 1
    b.act("restart")
    targets = procs.links(b.postmaster())
    assert not [t for t in targets if re.search(r"\.db(-wal|-shm)?$|admin\.key|secret\.key|wake", t)], targets
    assert any("lock" in t for t in targets), targets
