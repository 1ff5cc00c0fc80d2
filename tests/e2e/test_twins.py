"""
Can the checks see?  Wrong copies of a cluster, forced, must be caught every time; right ones must pass.

Stock Postgres only.  Without these, a green fork test would only say that nobody looked.
"""
import pytest

from harness import twins
from harness.cluster import Cluster

REPEATS = 3


@pytest.fixture(scope="module")
def source():
    import shutil
    from harness.server import scratch
    base = scratch("mere-twin-")
    src = twins.Source(base)
    yield src
    src.close()
    shutil.rmtree(base, ignore_errors=True)


def target(source, name):
    return Cluster(source.main.base, name, twins.CONF)


def test_backup_mode_with_its_label_is_right(source):
    v = twins.backup_mode(source, target(source, "label"), with_label=True)
    assert not v.caught, v


@pytest.mark.parametrize("i", range(REPEATS))
def test_backup_mode_without_its_label_is_caught(source, i):
    v = twins.backup_mode(source, target(source, f"nolabel{i}"), with_label=False)
    assert v.caught, v
    # It starts and says it reached the end: only the books show that something is missing.
    assert not v.refused and v.findings, v


@pytest.mark.parametrize("i", range(REPEATS))
def test_copy_held_past_a_checkpoint_is_caught(source, i):
    v = twins.stretched(source, target(source, f"stretched{i}"))
    assert v.caught, v
    assert v.refused or any("sums differ" in f or "missing" in f for f in v.findings), v


def test_snapshot_with_its_wal_held_is_right(source):
    v = twins.snapshot(source, target(source, "held"), hold=True)
    assert not v.caught, v
    assert v.reached >= v.wanted, v


@pytest.mark.parametrize("i", range(REPEATS))
def test_snapshot_whose_wal_was_recycled_is_caught(source, i):
    v = twins.snapshot(source, target(source, f"recycled{i}"), hold=False)
    assert "could not locate a valid checkpoint record" in v.refused or v.short, v


@pytest.mark.parametrize("i", range(REPEATS))
def test_segment_left_out_is_caught_by_where_recovery_ended(source, i):
    v = twins.snapshot(source, target(source, f"hole{i}"), hold=True, leave_out=lambda n: 1 + i % (n - 1))
    # It starts, promotes and answers: that it stopped short is what must be seen.
    assert not v.refused, v
    assert v.short, v


def test_cold_copy_is_right_with_its_wal_and_refused_without(source):
    assert not twins.cold(source, source.main.base, "cold", with_wal=True).caught
    for i in range(REPEATS):
        v = twins.cold(source, source.main.base, f"coldless{i}", with_wal=False)
        assert "could not locate a valid checkpoint record" in v.refused, v


def test_copy_that_keeps_archive_status_archives_what_is_its_parents(source):
    assert twins.archived(source, source.main.base, "emptied", status_kept=False) == []
    for i in range(REPEATS):
        assert twins.archived(source, source.main.base, f"kept{i}", status_kept=True)
