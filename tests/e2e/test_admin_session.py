"""Mere's own session in a compute: settings of users do not reach it, and what it cannot do keeps nobody else out."""
import contextlib

import psycopg2
import pytest

from harness.server import until


def log_of(b):
    return b.mere.data / "logs" / f"{b.endpoint_id}.log"


def patient(b, **who):
    """A session that lifts the limits the test has set."""
    d = b.dsn(**who)
    d["options"] = f"{d.get('options', '')} -c statement_timeout=0 -c client_min_messages=warning".strip()
    conn = psycopg2.connect(**d)
    conn.autocommit = True
    return conn


def says_one(b, **who):
    with contextlib.closing(patient(b, **who)) as conn, conn.cursor() as cur:
        cur.execute("SELECT 1")
        return cur.fetchone()[0] == 1


def operations(project):
    return project.call("GET", "/operations?limit=100")["operations"]


def test_no_verifier_reaches_the_log_and_no_limit_the_session(mere, project):
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {
        "log_min_duration_statement": "0", "statement_timeout": "1", "lock_timeout": "1", "idle_session_timeout": "1000",
        "idle_in_transaction_session_timeout": "1", "client_min_messages": "debug5", "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable"}})
    b.act("restart")
    with contextlib.closing(patient(b)) as conn, conn.cursor() as cur:
        cur.execute("SELECT 'a statement that is logged'")
    mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "app"}}))
    reply = mere.wait_operations(project.id, project.call("POST", b.path("/roles/app/reset_password")))
    password = reply["role"]["password"]
    mere.wait_operations(project.id, project.call("POST", b.path("/databases"), {"database": {"name": "appdb", "owner_name": "app"}}))
    assert says_one(b, user="app", password=password, database="appdb")
    b.suspend()
    # Made while it sleeps, and so applied at its start.
    mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "late"}}))
    b.act("start")
    assert says_one(b, user="app", password=password, database="appdb")
    text = log_of(b).read_text()
    assert "a statement that is logged" in text, "nothing was logged at all"
    assert "SCRAM-SHA-256" not in text and "ALTER ROLE" not in text
    assert "SCRAM-SHA-256" not in mere.log_text() and "DEBUG:" not in mere.log_text()
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%SCRAM-SHA-256$%' AND pid <> pg_backend_pid()")
        assert cur.fetchone()[0] == 0
        cur.execute("SELECT count(*) FROM pg_authid WHERE rolname IN ('app', 'late') AND rolpassword LIKE 'SCRAM-SHA-256$%'")
        assert cur.fetchone()[0] == 2


def test_it_falls_asleep_under_a_short_statement_timeout(project):
    """The look at its activity is a statement, too."""
    b = project.main
    b.patch_endpoint(settings={"pg_settings": {"statement_timeout": "1"}}, suspend_timeout_seconds=1)
    b.act("restart")
    assert says_one(b)
    b.await_state("idle", 20)


@pytest.mark.expect_log(r"not applied|refused|does not exist")
def test_what_cannot_be_applied_keeps_nobody_out(mere, project):
    b = project.main
    reply = mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "app"}}))
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("ALTER ROLE app RENAME TO elsewhere")
    made = project.call("POST", b.path("/databases"), {"database": {"name": "orphan", "owner_name": "app"}})
    (op,) = made["operations"]
    ended = mere.wait_operation(project.id, op, expect=("failed",))
    assert 'database "orphan"' in ended["error"] and 'role "app" does not exist' in ended["error"], ended
    b.suspend()

    seen = {o["id"] for o in operations(project)}
    b.act("start")
    assert b.value("SELECT 1") == 1
    failed = until(lambda: [o for o in operations(project) if o["id"] not in seen and o["action"] == "apply_config" and o["status"] == "failed"], 20,
                   "an operation that says what was not applied")
    assert len(failed) == 1 and 'database "orphan"' in failed[0]["error"], failed
    assert "not applied yet" in mere.log_text()

    # A wake by a client is no different, and what is asked for now is done beside it.
    b.suspend()
    assert b.value("SELECT 1") == 1
    other = project.call("POST", b.path("/databases"), {"database": {"name": "other", "owner_name": project.role}})
    for o in other["operations"]:
        mere.wait_operation(project.id, o, expect=("failed", "finished"))
    assert b.value("SELECT count(*) FROM pg_database WHERE datname = 'other'") == 1

    # What stood in the way is gone: the next start applies it.
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("ALTER ROLE elsewhere RENAME TO app")
    b.suspend()
    b.act("start")
    assert b.value("SELECT 1", user="app", password=reply["role"]["password"], database="orphan") == 1
    assert not [o for o in operations(project) if o["status"] in ("scheduling", "running")]


@pytest.mark.expect_log(r"not applied|refused|depend")
def test_a_role_that_cannot_be_dropped_stays(mere, project):
    b = project.main
    reply = mere.wait_operations(project.id, project.call("POST", b.path("/roles"), {"role": {"name": "app"}}))
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("CREATE SCHEMA held AUTHORIZATION app")
    (op,) = project.call("DELETE", b.path("/roles/app"))["operations"]
    ended = mere.wait_operation(project.id, op, expect=("failed",))
    assert 'role "app"' in ended["error"], ended
    assert b.value("SELECT 1", user="app", password=reply["role"]["password"]) == 1
    assert "app" in [r["name"] for r in project.call("GET", b.path("/roles"))["roles"]]
