"""durability relaxed: quick, and honest about what a crash of the host does to it."""
import contextlib

import psycopg2
import pytest

from harness import checkers, wire
from harness.server import ApiError

ANOTHER_BOOT = "00000000-0000-4000-8000-000000000002"
CRASHED = r"(?i)damaged|relaxed|crash|exit|gone|boot|recover|died|ended|lost|signal|proxy"


def test_relaxed_means_fsync_off(mere, project):
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    child = project.branch(project.main, durability="relaxed")
    assert child.value("SHOW fsync") == "off"
    assert child.value("SELECT n FROM t") == 1
    assert project.main.value("SHOW fsync") == "on"
    assert mere.rows("SELECT durability FROM branch WHERE id = ?", child.id)[0]["durability"] == "relaxed"


def test_any_other_word_is_refused(mere, project):
    with pytest.raises(ApiError) as e:
        project.branch(project.main, durability="none")
    assert e.value.status == 422 and len(project.branches()) == 1


def test_suspend_and_wake_keep_its_rows(mere, project):
    child = project.branch(project.main, durability="relaxed")
    child.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    child.suspend()
    assert child.value("SELECT count(*) FROM t") == 1000
    assert child.value("SHOW fsync") == "off"


def test_a_child_of_a_relaxed_branch(mere, project):
    child = project.branch(project.main, durability="relaxed")
    child.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    grandchild = project.branch(child)
    assert grandchild.value("SELECT count(*) FROM t") == 1000
    assert grandchild.value("SHOW fsync") == "on"


def test_after_a_crash_of_the_host(new_mere, expect_log):
    """Another boot: the full branch recovers with all it acknowledged, the relaxed one is not started as if it were good."""
    expect_log(CRASHED)
    m = new_mere(crash=True).start()
    project = m.create_project()
    full = project.main
    append = checkers.Append(full.connect, clients=1).start()
    relaxed = project.branch(full, name="relaxed", durability="relaxed")
    relaxed.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    asleep = project.branch(full, name="asleep", durability="relaxed")
    asleep.query("CREATE TABLE t AS SELECT 1 AS n")
    asleep.suspend()
    append.stop()
    m.crash_all()
    m.start(env={"MERE_TEST_BOOT_ID": ANOTHER_BOOT})
    with contextlib.closing(full.connect()) as conn:
        assert append.check(conn) == []
    state = m.rows("SELECT state FROM branch WHERE id = ?", relaxed.id)[0]["state"]
    if state == "damaged":
        e = wire.refusal(m.pg_host, m.pg_port, project.password, user=project.role, database="neondb",
                         options=f"endpoint={relaxed.endpoint_id}")
        assert e.sqlstate and e.sqlstate != "28P01" and "damaged" in str(e), e
        status, _, body = m.request("POST", f"/api/v2/projects/{project.id}/endpoints/{relaxed.endpoint_id}/start")
        assert status in (200, 409, 422), body
    else:
        # Back at its last image: what it held when it was forked, and nothing of what came after.
        with pytest.raises(psycopg2.errors.UndefinedTable):
            relaxed.query("SELECT * FROM t")
    assert relaxed.endpoint_id not in m.postmasters().values() or state != "damaged"
    # Nobody was writing to this one: it was shut down cleanly.
    assert asleep.value("SELECT n FROM t") == 1
    relaxed.delete()


def test_after_a_kill_of_its_processes_only(mere, project, expect_log):
    """The host lives on, so the kernel still has what was written: a killed compute recovers."""
    expect_log(CRASHED)
    from harness import procs
    child = project.branch(project.main, durability="relaxed")
    child.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    for p in child.compute():
        procs.kill(p.pid)
    try:
        assert child.value("SELECT count(*) FROM t") == 1000
    except psycopg2.OperationalError as e:
        assert "damaged" in str(e)
