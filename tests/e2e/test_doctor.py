"""What the doctor says: of a healthy project nothing, of each kind of damage what it is; and the sizes a branch tells of itself."""
import os
import shutil
import subprocess

import pytest

from harness.server import lsn, until


def look(project):
    return project.call("GET", "/doctor")


def fill(branch, n):
    branch.query("INSERT INTO t SELECT %s, repeat('x', 200) FROM generate_series(1, 6000)", n)
    return branch.value("SELECT pg_current_wal_flush_lsn()")


@pytest.fixture
def family(project):
    """main with some history, a child of its past that was never started, a snapshot and a bookmark."""
    b = project.main
    b.query("CREATE TABLE t (n int, pad text)")
    at = fill(b, 1)
    fill(b, 2)
    b.suspend()
    b.child = project.branch(b, name="never", parent_lsn=at)
    body = project.call("POST", b.path(f"/snapshot?name=s&lsn={at}"))
    project.mere.wait_operations(project.id, body)
    project.call("PUT", b.path("/bookmarks/here"), {"lsn": at})
    b.at = at
    return b


def test_a_healthy_family(mere, project, family):
    said = look(project)
    assert said["findings"] == [] and said["looked_at"]["branches"] == 2 and said["looked_at"]["snapshots"] == 1
    assert said["looked_at"]["bookmarks"] == 1 and said["space"]["volumes_total_bytes"] > said["space"]["volumes_free_bytes"] > 0


def test_the_sizes_of_a_branch(mere, project, family):
    body = until(lambda: (lambda x: x if "measured_at" in x["history"] else None)(family.refresh()), 30, "the measurement")
    assert body["logical_size"] > 20 << 20 and body["history"]["images"] >= 1
    assert 0 < body["history"]["history_bytes"] < 100 << 20
    assert lsn(body["history"]["earliest_lsn"]) < lsn(family.at) and body["history"]["earliest_timestamp"] < body["history"]["measured_at"]
    never = family.child.refresh()
    assert "measured_at" not in never["history"] and lsn(never["history"]["earliest_lsn"]) <= lsn(family.at)


def archive(branch):
    path = branch.mere.data / "wal" / branch.id / "archive"
    return sorted(path / n for n in os.listdir(path) if len(n) == 24)


def damage_segment(branch):
    path = archive(branch)[1]
    good = path.read_bytes()
    path.write_bytes(good[:400_000] + bytes(64) + good[400_064:])
    return lambda: path.write_bytes(good)


def lose_segment(branch):
    path = archive(branch)[1]
    shutil.move(path, str(path) + ".away")
    return lambda: shutil.move(str(path) + ".away", path)


@pytest.mark.expect_log("cannot read when an image was")  # where housekeeping comes across it first
@pytest.mark.parametrize("how, of", [(damage_segment, {"branch", "snapshot", "bookmark"}), (lose_segment, {"branch", "snapshot", "bookmark"})])
def test_what_is_broken_is_named(mere, project, family, how, of):
    mend = how(family)
    said = look(project)
    assert {f["of"] for f in said["findings"]} == of, said
    assert all("segment" in f["what"] for f in said["findings"])
    got = cli(mere, project)
    assert got.returncode == 1 and "never" in got.stdout and "cannot be reached" in got.stderr
    mend()
    assert look(project)["findings"] == []


def cli(mere, project):
    env = {"PATH": os.environ["PATH"], "MERE_API_URL": mere.api_url, "MERE_API_KEY": mere.key}
    return subprocess.run([str(mere.bin / "mere"), "doctor", project.id], env=env, capture_output=True, text=True, check=False)


def test_by_the_command_line(mere, project, family):
    got = cli(mere, project)
    assert got.returncode == 0, got.stderr
    assert "never" in got.stdout and "free:" in got.stdout
