"""What was used: figures come from what happened, and asking for them wakes nobody."""
import datetime
import time
import urllib.parse
import uuid

import pytest

from harness.server import until

METRICS = "compute_unit_seconds,root_branch_bytes_month,child_branch_bytes_month,instant_restore_bytes_month"


def at(**back):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**back)).strftime("%Y-%m-%dT%H:%M:%SZ")


def query(**more):
    given = {"from": at(hours=3), "to": at(), "granularity": "hourly", **more}
    return "?" + urllib.parse.urlencode({k: v for k, v in given.items() if v is not None})


def org(mere):
    return mere.call("GET", "/users/me/organizations")["organizations"][0]["id"]


def frames(mere, project, kind="projects", **more):
    body = mere.call("GET", f"/consumption_history/{kind}" + query(project_ids=project.id, **more))
    assert len(body["projects"]) <= 1
    return [f for p in body["projects"] for period in p["periods"] for f in period["consumption"]]


def test_seconds_of_computes(mere, project):
    """As long as it ran, to the second of each hour; and neither more nor less by asking."""
    b = project.main
    assert frames(mere, project) == []
    begun = time.monotonic()
    b.query("SELECT pg_sleep(3.2)")
    b.suspend()
    ran = time.monotonic() - begun
    generation = b.generation()
    noted = sum(f["active_time_seconds"] for f in frames(mere, project))
    assert 2 <= noted <= ran, (noted, ran)
    assert sum(f["compute_time_seconds"] for f in frames(mere, project)) <= (noted + 2) * b.endpoint()["autoscaling_limit_max_cu"]
    metrics = frames(mere, project, "v2/projects", org_id=org(mere), metrics=METRICS)
    assert sum(m["value"] for f in metrics for m in f["metrics"] if m["metric_name"] == "compute_unit_seconds") >= 1
    for granularity in ("daily", "monthly"):
        assert noted <= sum(f["active_time_seconds"] for f in frames(mere, project, granularity=granularity)) <= ran
    assert b.generation() == generation and not b.postmaster(), "somebody was woken"


def test_space_by_branch(mere, project):
    child = project.branch(project.main, "child")
    for b in (project.main, child):
        b.query(f"CREATE TABLE t_{b.name} AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 5000) AS i")
        b.suspend()

    def values():
        body = mere.call("GET", "/consumption_history/v2/branches" + query(project_ids=project.id, org_id=org(mere), metrics=METRICS))
        return {i["branch_id"]: {m["metric_name"]: m["value"] for p in i["periods"] for f in p["consumption"] for m in f["metrics"]} for i in body["branches"]}

    until(lambda: values().get(project.main.id, {}).get("root_branch_bytes_month", 0) > 0 and values().get(child.id, {}).get("child_branch_bytes_month", 0) > 0,
          120, "both to be measured")
    found = values()
    assert found[project.main.id]["child_branch_bytes_month"] == 0 and found[child.id]["root_branch_bytes_month"] == 0
    measured = {r["branch_id"]: r for r in mere.rows("SELECT branch_id, logical_bytes, own_bytes FROM branch_size")}
    assert found[project.main.id]["root_branch_bytes_month"] >= measured[project.main.id]["logical_bytes"]
    assert found[child.id]["child_branch_bytes_month"] >= measured[child.id]["own_bytes"] > 0
    child.delete()
    assert child.id in values(), "the record ends with the branch"


def test_pages_and_lists(mere):
    made = sorted((mere.create_project() for _ in range(3)), key=lambda p: p.id)
    for p in made:
        p.main.query("SELECT pg_sleep(0.2)")
        p.main.suspend()
    for ids in (",".join(p.id for p in made), None):
        path = "/consumption_history/projects" + query(project_ids=ids, limit=1) + ("" if ids else "".join(f"&project_ids={p.id}" for p in made))
        seen, cursor = [], ""
        while True:
            body = mere.call("GET", path + cursor)
            if not body["projects"]:
                break
            seen += [p["project_id"] for p in body["projects"]]
            assert uuid.UUID(body["projects"][0]["periods"][0]["period_id"])
            cursor = "&cursor=" + urllib.parse.quote(body["pagination"]["cursor"])
        assert seen == [p.id for p in made]
    for p in made:
        p.delete()


def test_a_crash_of_mered_loses_at_most_a_minute(new_mere):
    m = new_mere()
    m.start()
    p = m.create_project()
    p.main.query("SELECT pg_sleep(1.5)")
    m.kill9()
    m.start()
    p.main.suspend()
    assert sum(f["active_time_seconds"] for f in frames(m, p)) >= 1, "an adopted compute goes on being metered"


@pytest.mark.parametrize("kind", ["projects", "v2/projects", "v2/branches"])
def test_bad_questions(mere, kind):
    good = {"metrics": METRICS, "org_id": org(mere)} if kind != "projects" else {}
    mere.call("GET", f"/consumption_history/{kind}" + query(**good))
    for bad, status in (({"from": None}, 400), ({"to": None}, 400), ({"granularity": None}, 400), ({"granularity": "weekly"}, 400), ({"from": "yesterday"}, 400),
                        ({"from": at(hours=170)}, 406), ({"from": at(days=62), "granularity": "daily"}, 406), ({"limit": 0}, 400), ({"limit": 101}, 400),
                        ({"from": at(days=400), "granularity": "monthly"}, 406), ({"from": at(), "to": at(hours=2)}, 400), ({"org_id": "org-other-one-12345678"}, 404),
                        *(({name: None}, 400) for name in good), *(({"metrics": "elephants"}, 400) for _ in good)):
        got, _, reply = mere.request("GET", f"/consumption_history/{kind}" + query(**{**good, **bad}))
        assert got == status, (bad, got, reply)
    mere.call("GET", f"/consumption_history/{kind}" + query(**{**good, "from": at(days=59), "granularity": "daily"}))
