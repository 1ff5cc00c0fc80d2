"""Who gets in, from a password that SQL or the API has changed to the Postgres behind: all of it, with nothing made up."""
import contextlib

import psycopg2
import pytest

from harness import wire
from harness.server import ApiError, until


def sql(branch, *statements):
    """By a superuser, in one session, past the proxy."""
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        for statement in statements:
            cur.execute(statement)


def enters(branch, password, user=None):
    return branch.value("SELECT current_user", password=password, **({"user": user} if user else {})) == (user or branch.project.role)


def refusal(branch, password, user=None):
    return wire.refusal(branch.mere.pg_host, branch.mere.pg_port, password, user=user or branch.project.role, database="neondb",
                        options=f"endpoint={branch.endpoint_id}")


def denied(branch, password, user=None):
    e = refusal(branch, password, user)
    return e.sqlstate == "28P01" and all(word in e.fields["H"] for word in ("endpoint", "role", "password"))


def reset(branch, role):
    body = branch.project.call("POST", branch.path(f"/roles/{role}/reset_password"))
    branch.mere.wait_operations(branch.project.id, body)
    return body["role"]["password"]


def reveal(branch, role):
    return branch.project.call("GET", branch.path(f"/roles/{role}/reveal_password"))["password"]


def test_nothing_is_woken_for_who_has_no_password(project):
    b = project.main
    b.suspend()
    generation = b.generation()
    assert denied(b, "wrong") and denied(b, project.password, "nobody") and denied(b, "")
    assert b.endpoint()["current_state"] == "idle" and b.generation() == generation
    assert enters(b, project.password)


def test_a_password_changed_by_sql(project):
    b, role, old = project.main, project.role, project.password
    assert enters(b, old)
    b.query(f"ALTER ROLE {role} PASSWORD 'by sql 1'")
    assert enters(b, "by sql 1") and denied(b, old), "at once"
    with pytest.raises(ApiError) as e:
        reveal(b, role)
    assert e.value.status == 412 and "by SQL" in e.value.body["message"]
    b.query(f"ALTER ROLE {role} PASSWORD 'by sql 2'", password="by sql 1")
    b.suspend()
    generation = b.generation()
    assert denied(b, old) and denied(b, "by sql 1") and b.generation() == generation
    assert enters(b, "by sql 2") and b.generation() == generation + 1
    fresh = reset(b, role)
    assert enters(b, fresh) and denied(b, "by sql 2") and reveal(b, role) == fresh


def test_a_password_changed_just_before_it_falls_asleep(project):
    b, role = project.main, project.role
    b.patch_endpoint(suspend_timeout_seconds=1)
    b.query(f"ALTER ROLE {role} PASSWORD 'by sql'")
    b.await_state("idle", 20)
    assert denied(b, project.password) and enters(b, "by sql")


def test_a_reset_while_it_sleeps(project):
    b = project.main
    b.suspend()
    fresh = reset(b, project.role)
    assert denied(b, project.password) and enters(b, fresh)


def test_roles_made_a_moment_ago(project):
    b = project.main
    b.query("SELECT 1")
    sql(b, "CREATE ROLE bysql LOGIN PASSWORD 'of sql'")
    assert enters(b, "of sql", "bysql")
    password = project.call("POST", b.path("/roles"), {"role": {"name": "byapi"}})["role"]["password"]
    assert enters(b, password, "byapi")
    sql(b, "ALTER ROLE bysql NOLOGIN")
    until(lambda: denied(b, "of sql", "bysql") or refusal(b, "of sql", "bysql").sqlstate == "28000", 10, "the role to be shut out")


def test_valid_until(project):
    b = project.main
    b.query("SELECT 1")
    sql(b, "CREATE ROLE brief LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'", "CREATE ROLE later LOGIN PASSWORD 'x' VALID UNTIL '2101-01-01'")
    assert denied(b, "x", "brief") and enters(b, "x", "later")
    b.suspend()
    generation = b.generation()
    assert denied(b, "x", "brief") and b.generation() == generation
    assert enters(b, "x", "later")


def test_md5_lets_nobody_in(project):
    b = project.main
    b.query("SELECT 1")
    sql(b, "SET password_encryption = 'md5'", "CREATE ROLE old LOGIN PASSWORD 'x'")
    assert denied(b, "x", "old")
    assert enters(b, reset(b, "old"), "old")


def test_forks_know_what_sql_has_changed(project):
    b, role = project.main, project.role
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    then = b.value("SELECT pg_current_wal_flush_lsn()")
    b.query(f"ALTER ROLE {role} PASSWORD 'by sql'")
    assert enters(b, "by sql")
    child = project.branch(b)
    assert enters(child, "by sql") and denied(child, project.password)
    past = project.branch(b, parent_lsn=then)
    assert enters(past, "by sql"), "a branch of the past has the passwords of today"
    with pytest.raises(ApiError) as e:
        reveal(past, role)
    assert e.value.status == 412


def test_a_restore_keeps_the_passwords_of_today(project):
    b, role = project.main, project.role
    b.query("CREATE TABLE t AS SELECT 1 AS n")
    then = b.value("SELECT pg_current_wal_flush_lsn()")
    b.query(f"ALTER ROLE {role} PASSWORD 'by sql'")
    assert enters(b, "by sql")
    body = project.call("POST", b.path("/restore"), {"source_branch_id": b.id, "source_lsn": then, "preserve_under_name": "before"})
    b.mere.wait_operations(project.id, body)
    assert enters(b, "by sql") and denied(b, project.password)


def test_allowed_addresses(project):
    b = project.main

    def allow(*ips, only=False):
        project.call("PATCH", "", {"project": {"settings": {"allowed_ips": {"ips": list(ips), "protected_branches_only": only}}}})

    allow("10.0.0.0/8", "::/0")
    b.suspend()
    generation = b.generation()
    e = refusal(b, project.password)
    assert e.sqlstate == "28000" and "This IP address 127.0.0.1 is not allowed to connect to this endpoint" in e.message, e
    assert denied(b, "wrong"), "who has no password is not told"
    assert b.generation() == generation, "nothing was woken"
    allow("10.0.0.0/8", only=True)
    assert enters(b, project.password)
    allow("10.0.0.0/8", "127.0.0.0-127.0.0.9")
    assert enters(b, project.password)
    with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
        allow("10.0.0.0/8")
        assert refusal(b, project.password).sqlstate == "28000", "of a running compute, too"
        cur.execute("SELECT 1")  # who is in stays
    allow()
    assert enters(b, project.password)


def test_an_endpoint_made_a_moment_ago(mere, project):
    for _ in range(5):
        body = project.call("POST", "/branches", {"branch": {"parent_id": project.main.id}, "endpoints": [{"type": "read_write"}]})
        ep = body["endpoints"][0]["id"]
        with contextlib.closing(psycopg2.connect(**mere.dsn(project.role, project.password, endpoint=ep))) as conn, conn.cursor() as cur:
            cur.execute("SELECT 1")
            assert cur.fetchone() == (1,)


@pytest.mark.expect_log("proxy|wake|adopt")
def test_logins_while_mered_is_away(mere, project):
    b = project.main
    b.query("SELECT 1")
    mere.kill9()
    try:
        assert enters(b, project.password) and denied(b, "wrong")
        assert refusal(b, "x", "nobody").sqlstate == "57P03", "it may have been made meanwhile"
    finally:
        mere.start()
    b.query(f"ALTER ROLE {project.role} PASSWORD 'by sql'")
    assert enters(b, "by sql")
