"""Branches: what is in them, what is not, and that nobody notices anybody else."""
import contextlib
import re
import threading
import time

import psycopg2
import pytest

from harness import checkers, load, wire
from harness.cluster import BINDIR
from harness.server import ApiError, Branch, lsn, until

SCALE = 3
FORKS = 20


def amcheck(branch):
    return checkers.amcheck(branch.socket_dir(), 5432, "mere_admin", branch.project.database, BINDIR)


def compute_log(branch):
    path = branch.mere.data / "logs" / f"{branch.endpoint_id}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def scan(branch):
    """Lines of its Postgres that no good start writes."""
    bad = re.compile(r"PANIC|invalid page|could not read block|checksum|unexpected pageaddr|corrupt|missing chunk|FATAL:  (?!terminating|the database)")
    return ["log: " + line for line in compute_log(branch).splitlines() if bad.search(line)]


# --- a running parent ----------------------------------------------------------------------------------------------------------


def judge(child, append, sent, answered, before):
    """Everything that is wrong with a child made under load."""
    told = child.answer["branch"].get("parent_lsn")
    child.mere.wait_operations(child.project.id, child.answer)
    child.refresh()
    wrong = []
    if told != child.body["parent_lsn"]:
        wrong.append(f"the answer said parent_lsn {told}, now it is {child.body['parent_lsn']}")
    with contextlib.closing(child.connect()) as conn:
        wrong += checkers.bank(conn, SCALE)
        wrong += append.check(conn, at=child.parent_lsn, sent=sent, answered=answered)
        if sum(len(r) for r in append.rows(conn).values()) < before:
            wrong.append(f"has fewer rows than the {before} acknowledged before the request")
    wrong += amcheck(child) + scan(child)
    child.suspend()
    child.delete()
    return [f"{child.name} at {child.body['parent_lsn']}: {w}" for w in wrong]


def checkpoint(branch):
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        cur.execute("CHECKPOINT")


def redo_of(branch):
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        cur.execute("SELECT redo_lsn::text FROM pg_control_checkpoint()")
        return lsn(cur.fetchone()[0])


def test_much_wal_behind_the_last_checkpoint_is_not_the_childs_to_replay(mere, project):
    b = project.main
    b.query("CREATE TABLE t (n int, pad text)")

    def write(megabytes):
        b.query("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, %s) i", megabytes * 950)

    checkpoint(b)
    before = redo_of(b)
    write(4)
    little = project.branch(b)
    if mere.store == "btrfs":  # where nothing is copied, a fork of little WAL orders nothing
        assert redo_of(b) == before
    write(40)
    much = project.branch(b)
    assert before < redo_of(b) <= lsn(much.body["parent_lsn"]) <= redo_of(b) + (1 << 20)
    assert little.value("SELECT count(*) FROM t") == 4 * 950 and much.value("SELECT count(*) FROM t") == 44 * 950


def forks_under_load(parent, count):
    """
    The load that made careless copies silently wrong: money moves, tables come and go, checkpoints follow one another and recycle WAL.
    It runs at full speed around each request and mostly stands still while the child is examined.
    """
    parent.patch_endpoint(settings={"pg_settings": {"max_wal_size": "32MB", "checkpoint_timeout": "30s"}})
    parent.act("restart")
    load.pgbench_init(parent.environ(), SCALE)
    append = checkers.Append(parent.connect, clients=2).start()
    churn, bench = load.Churn(parent.connect), load.Pgbench(parent.environ(), clients=4)
    churn.start()
    loads, wrong = (append, churn, bench), []
    try:
        for i in range(count):
            for one in loads:
                one.resume()
            before = append.acknowledged()
            until(lambda n=before: append.acknowledged() > n + 50, 60, "the load to go on")
            other = threading.Thread(target=checkpoint, args=(parent,)) if i % 2 else None
            if other:
                other.start()
            before, sent = append.acknowledged(), time.monotonic()
            child = parent.project.branch(parent, name=f"fork-{i}", wait=False)
            answered = time.monotonic()
            if other:
                other.join()
            if i % 10:
                for one in loads:
                    one.pause()
            wrong += judge(child, append, sent, answered, before)
            assert bench.running(), f"pgbench ended: {bench.stop()}"
    finally:
        out = bench.stop()
        churn.stop()
        append.stop()
    assert not wrong, "\n".join(wrong)
    assert not append.errors() and not churn.errors, (append.errors(), churn.errors)
    assert append.acknowledged() > 50 * count and churn.rounds > count, (append.acknowledged(), churn.rounds, out)
    with contextlib.closing(parent.connect()) as conn:
        assert not checkers.bank(conn, SCALE) + append.check(conn)


def test_forks_of_a_parent_under_load(mere, project):
    forks_under_load(project.main, FORKS)


@pytest.mark.slow
def test_two_hundred_forks_under_load(mere, project):
    forks_under_load(project.main, 200)


def test_fork_of_a_quiet_running_parent_is_exact(mere, project):
    project.main.query("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
    here = lsn(project.main.value("SELECT pg_current_wal_insert_lsn()"))
    child = project.branch(project.main)
    after = lsn(project.main.value("SELECT pg_current_wal_insert_lsn()"))
    assert here <= child.parent_lsn <= after
    project.main.query("INSERT INTO t SELECT generate_series(101, 200)")
    assert child.value("SELECT count(*) FROM t") == 100
    assert child.value("SELECT timeline_id FROM pg_control_checkpoint()") > 1


def test_commits_during_the_request_are_in_or_out_by_the_lsn(mere, project):
    append = checkers.Append(project.main.connect, clients=3).start()
    try:
        until(lambda: append.acknowledged() > 50, 30, "50 rows")
        for _ in range(5):
            sent = time.monotonic()
            child = project.branch(project.main, wait=False)
            answered = time.monotonic()
            with contextlib.closing(child.connect()) as conn:
                child.refresh()
                assert append.check(conn, at=child.parent_lsn, sent=sent, answered=answered) == []
            child.delete()
    finally:
        append.stop()
    assert not append.errors()


def test_branches_of_a_running_parent_at_the_same_time(mere, project):
    """Eight requests at once: each child has all that was acknowledged before its own request."""
    from concurrent.futures import ThreadPoolExecutor
    append = checkers.Append(project.main.connect, clients=2).start()
    until(lambda: append.acknowledged() > 20, 30, "20 rows")

    def fork(i):
        sent = time.monotonic()
        child = project.branch(project.main, name=f"many-{i}", wait=False)
        return child, sent, time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(fork, range(8)))
    append.stop()
    for child, sent, answered in made:
        mere.wait_operations(project.id, child.answer)
        child.refresh()
        with contextlib.closing(child.connect()) as conn:
            assert append.check(conn, at=child.parent_lsn, sent=sent, answered=answered) == []


def test_a_running_parent_goes_on_undisturbed(mere, project):
    pid = project.main.value("SELECT pg_backend_pid()")
    conn = project.main.connect()
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        pid = cur.fetchone()[0]
        generation = project.main.generation()
        for _ in range(3):
            project.branch(project.main, endpoint=False)
        cur.execute("SELECT pg_backend_pid()")
        assert cur.fetchone()[0] == pid
    assert project.main.generation() == generation
    conn.close()


# --- a suspended parent --------------------------------------------------------------------------------------------------------


def test_fork_of_a_suspended_parent_starts_nothing(mere, project):
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    project.main.suspend()
    head = mere.rows("SELECT head_lsn FROM branch WHERE id = ?", project.main.id)[0]["head_lsn"]
    child = project.branch(project.main)
    assert mere.postmasters() == {}
    assert child.parent_lsn == head
    assert child.endpoint()["current_state"] == "idle"
    assert child.value("SELECT n FROM t") == 1
    assert project.main.endpoint()["current_state"] == "idle"


def test_fork_of_a_child_that_never_started(mere, project):
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    project.main.suspend()
    child = project.branch(project.main, name="never-started")
    grandchild = project.branch(child, name="of-never-started")
    assert grandchild.value("SELECT n FROM t") == 1
    grandchild.query("INSERT INTO t VALUES (2)")
    assert child.query("SELECT n FROM t ORDER BY n") == [(1,)]
    assert project.main.query("SELECT n FROM t ORDER BY n") == [(1,)]


def test_fork_of_a_fresh_project(mere, project):
    child = project.branch(project.main)
    assert child.value("SELECT 1") == 1


def test_fork_right_after_a_crash_of_the_parent(mere, project, expect_log):
    """Killed computes have no clean image; the child must still hold every acknowledged row."""
    expect_log("exited|died|crash|signal|ended|recover|lost|broke")
    import os
    import signal
    from harness import procs
    append = checkers.Append(project.main.connect, clients=1).start()
    until(lambda: append.acknowledged() > 50, 30, "50 rows")
    append.stop()
    pids = [p.pid for p in project.main.compute()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    procs.wait_gone(pids)
    child = project.branch(project.main)
    with contextlib.closing(child.connect()) as conn:
        assert append.check(conn) == []


# --- families ------------------------------------------------------------------------------------------------------------------


def test_chain_five_deep_with_writes_on_all(mere, project):
    branches = [project.main]
    project.main.query("CREATE TABLE t (who text)")
    for depth in range(5):
        branches[-1].query("INSERT INTO t VALUES (%s)", f"level-{depth}")
        if depth % 2:
            branches[-1].suspend()
        branches.append(project.branch(branches[-1], name=f"level-{depth + 1}"))
    for depth, b in enumerate(branches):
        b.query("INSERT INTO t VALUES (%s)", f"late-{depth}")
    for depth, b in enumerate(branches):
        expected = sorted([f"level-{d}" for d in range(min(depth + 1, 5))] + [f"late-{depth}"])
        assert sorted(r[0] for r in b.query("SELECT who FROM t")) == expected, b.name


def test_ten_children_of_one_parent_do_not_see_each_other(mere, project):
    project.main.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    project.main.suspend()
    children = [project.branch(project.main, name=f"flat-{i}") for i in range(10)]
    for i, child in enumerate(children):
        child.query("DELETE FROM t WHERE n %% 10 = %s", i)
        child.query("INSERT INTO t VALUES (%s)", -1 - i)
    for i, child in enumerate(children):
        assert child.query("SELECT count(*), min(n), count(*) FILTER (WHERE n %% 10 = %s) FROM t", i)[0][:2] == (901, -1 - i)
        assert amcheck(child) == [] if i == 0 else True
    assert project.main.query("SELECT count(*), min(n) FROM t")[0] == (1000, 1)


@pytest.mark.parametrize("suspended", [False, True])
def test_both_sides_diverge(mere, project, suspended):
    project.main.query("CREATE TABLE t AS SELECT 1 AS n")
    if suspended:
        project.main.suspend()
    child = project.branch(project.main)
    child.query("UPDATE t SET n = 2; CREATE TABLE only_child (x int)")
    project.main.query("UPDATE t SET n = 3; CREATE TABLE only_parent (x int)")
    assert child.value("SELECT n FROM t") == 2 and project.main.value("SELECT n FROM t") == 3
    with pytest.raises(psycopg2.errors.UndefinedTable):
        child.query("SELECT * FROM only_parent")
    with pytest.raises(psycopg2.errors.UndefinedTable):
        project.main.query("SELECT * FROM only_child")
    for b in (child, project.main):
        b.suspend()
    assert child.value("SELECT n FROM t") == 2 and project.main.value("SELECT n FROM t") == 3


def test_roles_and_passwords_are_inherited_and_then_separate(mere, project):
    body = project.call("POST", project.main.path("/roles"), {"role": {"name": "app"}})
    mere.wait_operations(project.id, body)
    password = body["role"]["password"]
    child = project.branch(project.main)
    assert child.value("SELECT current_user", user="app", password=password) == "app"
    reset = project.call("POST", child.path("/roles/app/reset_password"))
    mere.wait_operations(project.id, reset)
    fresh = reset["role"]["password"]
    assert child.value("SELECT current_user", user="app", password=fresh) == "app"
    refused = wire.refusal(mere.pg_host, mere.pg_port, password, user="app", database="neondb", options=f"endpoint={child.endpoint_id}")
    assert refused.sqlstate == "28P01"
    assert project.main.value("SELECT current_user", user="app", password=password) == "app"


def test_a_child_of_another_parent_than_the_default(mere, project):
    project.main.query("CREATE TABLE t AS SELECT 'main'::text AS who")
    a = project.branch(project.main, name="a")
    a.query("UPDATE t SET who = 'a'")
    b = project.branch(a, name="b")
    assert b.body["parent_id"] == a.id and b.value("SELECT who FROM t") == "a"


# --- deleting ------------------------------------------------------------------------------------------------------------------


def test_a_parent_with_children_is_not_deleted(mere, project):
    child = project.branch(project.main, name="child")
    grandchild = project.branch(child, name="grandchild")
    with pytest.raises(ApiError) as e:
        child.delete()
    assert e.value.status in (409, 422), e.value
    assert {b["name"] for b in project.branches()} == {"main", "child", "grandchild"}
    grandchild.delete()
    child.delete()
    assert {b["name"] for b in project.branches()} == {"main"}


def test_siblings_outlive_each_other_and_images(mere, project):
    project.main.query("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
    project.main.suspend()
    first, second, third = [project.branch(project.main, name=f"s-{i}") for i in range(3)]
    assert first.value("SELECT count(*) FROM t") == 100
    project.main.query("DELETE FROM t")
    project.main.suspend()
    first.delete()
    assert second.value("SELECT count(*) FROM t") == 100
    second.delete()
    assert third.value("SELECT count(*) FROM t") == 100
    assert amcheck(third) == []


def test_deleting_a_branch_that_is_in_use_ends_its_sessions(mere, project):
    child = project.branch(project.main)
    conn = child.connect()
    child.delete()
    with pytest.raises(psycopg2.Error) as e, conn.cursor() as cur:
        cur.execute("SELECT 1")
    assert e.value.pgcode in ("57P01", None), e.value
    conn.close()
    refused = wire.refusal(mere.pg_host, mere.pg_port, project.password, user=project.role, database="neondb",
                           options=f"endpoint={child.endpoint_id}")
    assert refused.sqlstate == "28P01", "as one that never was"


def test_branch_without_endpoint_then_with_one(mere, project):
    child = project.branch(project.main, endpoint=False)
    assert "endpoints" not in child.answer or child.answer["endpoints"] == []
    body = project.call("POST", "/endpoints", {"endpoint": {"branch_id": child.id, "type": "read_write"}})
    mere.wait_operations(project.id, body)
    child = Branch(project, child.body, body["endpoint"]["id"])
    assert child.value("SELECT 1") == 1
