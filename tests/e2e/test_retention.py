"""What of history is kept, and that nothing somebody needs ever goes."""
import contextlib
import os
import random
import threading
import time

import pytest

from harness.server import ApiError, lsn, until

SEGMENT = 1 << 20


def keep(project, seconds):
    project.call("PATCH", "", {"project": {"history_retention_seconds": seconds}})


def fill(branch, n, rows=4000):
    """One numbered commit of about 1 MB of WAL; the place behind it."""
    branch.query("INSERT INTO t SELECT %s, repeat('x', 200) FROM generate_series(1, %s)", n, rows)
    return branch.value("SELECT pg_current_wal_flush_lsn()")


def numbers(branch):
    return [n for (n,) in branch.query("SELECT DISTINCT n FROM t ORDER BY n")]


def row(branch):
    return branch.mere.rows("SELECT * FROM branch WHERE id = ?", branch.id)[0]


def archived(branch):
    b = row(branch)
    path = branch.mere.data / "wal" / b["volume_id"] / "archive"
    return {int(n[8:16], 16) * 4096 + int(n[16:], 16) for n in os.listdir(path) if len(n) == 24 and int(n[:8], 16) == b["tli"]}


def images(branch):
    return branch.mere.rows("SELECT * FROM image WHERE branch_id = ? ORDER BY lsn", branch.id)


def swept(project, condition, what):
    """Until a sweep has made it so; setting the retention asks for one."""
    seconds = project.call("GET")["project"]["history_retention_seconds"]

    def asked():
        keep(project, seconds)
        return condition()

    until(asked, 40, what, pause=0.5)


@pytest.fixture
def aged(project):
    """main with a few suspends: places of 1 to 6, a suspend after each.  A sweep that comes meanwhile leaves the newest image alone."""
    b = project.main
    b.query("CREATE TABLE t (n int, pad text)")
    b.places = {}
    for n in range(1, 7):
        b.places[n] = fill(b, n)
        b.suspend()
    return b


def test_a_window_of_nothing_keeps_the_newest_image(mere, project, aged):
    b = aged
    assert len(archived(b)) >= 6
    keep(project, 0)
    newest = images(b)[-1]
    swept(project, lambda: [i["id"] for i in images(b)] == [newest["id"]], "the older images to go")
    swept(project, lambda: not archived(b) or min(archived(b)) * SEGMENT > newest["lsn"] - SEGMENT, "the WAL before it to go")
    assert row(b)["history_from"] == newest["lsn"] and row(b)["image_id"] == newest["id"]
    with pytest.raises(ApiError) as e:
        project.branch(b, parent_lsn=b.places[3])
    assert e.value.status == 422 and lsn(e.value.body["earliest_lsn"]) == newest["lsn"]
    assert numbers(project.branch(b)) == [1, 2, 3, 4, 5, 6]
    assert numbers(b) == [1, 2, 3, 4, 5, 6]
    # Nothing comes back when more is kept from now on.
    keep(project, 86400)
    here = fill(b, 7)
    fill(b, 8)
    assert numbers(project.branch(b, parent_lsn=here)) == [1, 2, 3, 4, 5, 6, 7]
    time.sleep(3)
    assert row(b)["history_from"] == newest["lsn"]


def test_below_at_and_above_the_cutoff(mere, project, aged):
    b = aged
    keep(project, 0)
    swept(project, lambda: row(b)["history_from"] is not None and len(images(b)) == 1, "a window that begins at the newest image")
    keep(project, 86400)
    cutoff = row(b)["history_from"]
    above = fill(b, 7)
    fill(b, 8)

    def text(at):
        return f"{at >> 32:X}/{at & 0xFFFFFFFF:X}"

    with pytest.raises(ApiError) as e:
        project.branch(b, parent_lsn=text(cutoff - 8))
    assert e.value.status == 422 and e.value.body["errors"][0]["pointer"] == "/branch/parent_lsn"
    assert numbers(project.branch(b, parent_lsn=text(cutoff))) == [1, 2, 3, 4, 5, 6]
    assert numbers(project.branch(b, parent_lsn=above)) == [1, 2, 3, 4, 5, 6, 7]


def test_what_a_child_needs_stays_until_it_needs_it_no_more(mere, project):
    b = project.main
    b.query("CREATE TABLE t (n int, pad text)")
    places, holders = {}, []
    for n in range(1, 7):
        places[n] = fill(b, n)
        b.suspend()
        holders.append(project.branch(b))  # a sweep may come at any time, and would take all images but the newest
    never = project.branch(b, parent_lsn=places[2], name="never")
    made = project.branch(b, parent_lsn=places[3], name="made")
    for holder in holders:
        holder.delete()
    assert numbers(made) == [1, 2, 3]
    keep(project, 0)
    swept(project, lambda: row(b)["history_from"] is not None, "the window")
    made.suspend()
    swept(project, lambda: row(made)["history_from"] is not None, "the window of the child")
    held = row(never)["image_id"]
    swept(project, lambda: {i["id"] for i in images(b)} == {held, images(b)[-1]["id"]}, "the images nobody needs to go")
    at = lsn(never.body["parent_lsn"])
    swept(project, lambda: archived(b) and all(s * SEGMENT < at or s * SEGMENT > images(b)[-1]["lsn"] - SEGMENT for s in archived(b)), "the WAL nobody needs to go")
    assert numbers(never) == [1, 2]
    never.suspend()
    swept(project, lambda: held not in {i["id"] for i in images(b)}, "the image it began with to go")
    assert numbers(never) == [1, 2] and numbers(made) == [1, 2, 3] and numbers(b) == [1, 2, 3, 4, 5, 6]
    # All of them still have children, and children of children.
    for parent, rows in ((never, [1, 2]), (made, [1, 2, 3])):
        child = project.branch(parent)
        assert numbers(child) == rows and numbers(project.branch(child)) == rows


def test_a_restored_branch_and_its_old_state(mere, project, aged):
    b = aged
    body = project.call("POST", b.path("/restore"), {"source_branch_id": b.id, "source_lsn": b.places[4], "preserve_under_name": "old"})
    mere.wait_operations(project.id, body)
    keep(project, 0)
    old = next(x for x in project.branches() if x["name"] == "old")
    swept(project, lambda: mere.rows("SELECT history_from FROM branch WHERE id = ?", old["id"])[0]["history_from"], "the window of the old state")
    time.sleep(3)
    assert numbers(b) == [1, 2, 3, 4]
    assert numbers(project.branch(None, parent_id=old["id"])) == [1, 2, 3, 4, 5, 6]


def test_many_forks_while_history_goes(mere, project):
    """50 forks at random places of the window, while sweeps run all the time: none fails for want of history, and what nobody
    needs in the end has gone."""
    b = project.main
    b.query("CREATE TABLE t (n int, pad text)")
    places, made, errors, stop = [], [], [], threading.Event()
    for n in range(1, 9):
        places.append((n, fill(b, n)))
        if n % 2:
            b.suspend()

    def sweep():
        while not stop.is_set():
            keep(project, 6)
            time.sleep(0.2)

    def fork(seed):
        rnd = random.Random(seed)
        for _ in range(10):
            n, at = rnd.choice(places[-3:])
            try:
                made.append((n, project.branch(b, parent_lsn=at)))
            except ApiError as e:
                if e.status != 422 or "earliest_lsn" not in e.body:  # it has just left the window
                    errors.append(e)

    def grow():
        n = 9
        while not stop.is_set():
            places.append((n, fill(b, n)))
            if n % 3 == 0:
                with contextlib.suppress(ApiError):
                    b.suspend()
            n += 1
            time.sleep(0.5)

    helpers = [threading.Thread(target=f) for f in (sweep, grow)]
    forks = [threading.Thread(target=fork, args=(i,)) for i in range(5)]
    for t in helpers + forks:
        t.start()
    for t in forks:
        t.join()
    stop.set()
    for t in helpers:
        t.join()
    assert not errors and len(made) >= 25, (errors, len(made))
    for n, child in random.Random(7).sample(made, 12):
        assert numbers(child) == list(range(1, n + 1))
    for _, child in made:
        child.delete()
    b.suspend()
    keep(project, 0)
    newest = images(b)[-1]
    swept(project, lambda: [i["id"] for i in images(b)] == [newest["id"]], "all but the newest image to go")
    swept(project, lambda: not archived(b) or min(archived(b)) * SEGMENT > newest["lsn"] - SEGMENT, "the WAL to go")


@pytest.mark.expect_log("unfinished image")
@pytest.mark.parametrize("point", [pytest.param("sweep.decided", marks=pytest.mark.slow), "sweep.image", "sweep.segment"])
def test_killed_while_sweeping(new_mere, point):
    mere = new_mere(crash=True)
    mere.start()
    project = mere.create_project()
    b = project.main
    b.query("CREATE TABLE t (n int, pad text)")
    fill(b, 1)
    b.suspend()
    holder = project.branch(b)  # of the first image, which no sweep may take before its time
    fill(b, 2)
    b.suspend()
    # From here on the newest image is the child's too.
    child = project.branch(b, parent_lsn=fill(b, 3))
    b.suspend()
    mere.kill9()
    mere.start(env={"CRASH_AT": f"{point}:1" if point != "sweep.decided" else f"{point}:2"})
    with contextlib.suppress(ApiError, OSError):
        project.call("DELETE", holder.path("?hard_delete=true"))
        until(lambda: not mere.rows("SELECT 1 FROM branch WHERE id = ?", holder.id) or not mere.is_running(), 30, "the holder to go")
        keep(project, 0)
    until(lambda: not mere.is_running(), 60, "the crash")
    mere.start()
    until(lambda: len(images(b)) <= 2 and row(b)["history_from"], 60, "the sweep to be done")
    assert numbers(child) == [1, 2, 3] and numbers(b) == [1, 2, 3]
    until(lambda: not archived(b) or min(archived(b)) * SEGMENT > images(b)[0]["lsn"] - SEGMENT, 60, "the WAL to go")
    project.delete()
