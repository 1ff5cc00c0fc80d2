"""The API's roles and databases are those of Postgres: after DDL by SQL, a suspend, a wake, a fork in the past."""
import contextlib
import threading
import time

import psycopg2
import pytest

from harness.server import ApiError, until


def databases(branch):
    return {d["name"]: d for d in branch.project.call("GET", branch.path("/databases"))["databases"]}


def roles(branch):
    return {r["name"]: r for r in branch.project.call("GET", branch.path("/roles"))["roles"]}


def in_postgres(branch):
    """(roles, {database: owner}) as the catalogue has them, of users only."""
    have = branch.query("SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|mere_)'")
    dbs = branch.query("SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')")
    return {r for (r,) in have}, dict(dbs)


def agree(branch):
    have_roles, have_dbs = in_postgres(branch)
    return set(roles(branch)) == have_roles and {n: d["owner_name"] for n, d in databases(branch).items()} == have_dbs


def add_role(branch, name):
    body = branch.project.call("POST", branch.path("/roles"), {"role": {"name": name}})
    branch.mere.wait_operations(branch.project.id, body)
    return body["role"]["password"]


def add_database(branch, name, owner):
    body = branch.project.call("POST", branch.path("/databases"), {"database": {"name": name, "owner_name": owner}})
    return branch.mere.wait_operations(branch.project.id, body)


def drop(branch, what, name):
    body = branch.project.call("DELETE", branch.path(f"/{what}/{name}"))
    return branch.mere.wait_operations(branch.project.id, body)


def moment(branch):
    """An LSN of which the whole past is on disk."""
    branch.query("CREATE TABLE IF NOT EXISTS marks (n int)")
    branch.query("INSERT INTO marks VALUES (1)")
    return branch.value("SELECT pg_current_wal_flush_lsn()")


def test_databases_made_by_sql_show(project):
    b = project.main
    b.query("CREATE DATABASE made")
    until(lambda: "made" in databases(b), 8, "the new database to show")
    made = databases(b)["made"]
    assert made["owner_name"] == project.role and made["state"] == "ready" and made["id"] > 10000000
    b.query("ALTER DATABASE made RENAME TO called")
    until(lambda: set(databases(b)) == {"neondb", "called"}, 8, "the new name to show")
    b.query("DROP DATABASE called")
    until(lambda: set(databases(b)) == {"neondb"}, 8, "the dropped one to go")
    assert agree(b)


def test_an_owner_given_by_sql_shows(project):
    b = project.main
    add_role(b, "heir")
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("ALTER DATABASE neondb OWNER TO heir")
    until(lambda: databases(b)["neondb"]["owner_name"] == "heir", 8, "the owner to show")
    assert databases(b)["neondb"]["state"] == "ready"


def test_roles_made_by_sql_show_without_a_password(project):
    b = project.main
    b.query("SELECT 1")
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("CREATE ROLE bysql LOGIN PASSWORD 'of-sql-only'")
        cur.execute("CREATE ROLE team NOLOGIN")
        cur.execute("CREATE ROLE \"no\nname\"")
    until(lambda: {"bysql", "team"} <= set(roles(b)), 8, "the roles to show")
    assert roles(b)["team"]["authentication_method"] == "no_login"
    assert set(roles(b)) == {project.role, "bysql", "team"}, "one that no request could name is left out"
    with pytest.raises(ApiError) as e:
        project.call("GET", b.path("/roles/bysql/reveal_password"))
    assert e.value.status == 412 and "reset it" in e.value.body["message"]
    body = project.call("POST", b.path("/roles/bysql/reset_password"))
    project.mere.wait_operations(project.id, body)
    assert b.value("SELECT current_user", user="bysql", password=body["role"]["password"]) == "bysql"
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("DROP ROLE team")
        cur.execute('DROP ROLE "no\nname"')
    until(lambda: set(roles(b)) == {project.role, "bysql"}, 8, "the dropped one to go")
    assert "of-sql-only" not in project.mere.log_text()


def test_ddl_just_before_a_suspend_is_not_missed(project):
    b = project.main
    b.query("CREATE DATABASE one")
    b.suspend()
    assert set(databases(b)) == {"neondb", "one"}
    b.patch_endpoint(suspend_timeout_seconds=1)
    b.query("CREATE DATABASE two")
    b.query("DROP DATABASE one")
    b.await_state("idle", 20)
    assert set(databases(b)) == {"neondb", "two"}
    child = project.branch(b)
    assert set(databases(child)) == {"neondb", "two"} and agree(child)


def test_a_compute_that_never_suspends_is_looked_at_too(project):
    project.main.patch_endpoint(suspend_timeout_seconds=-1)
    project.main.query("CREATE DATABASE made")
    until(lambda: "made" in databases(project.main), 8, "the new database to show")


def test_what_was_missed_shows_after_a_wake(new_mere, expect_log):
    """mered was away while it happened, and the compute ended by itself."""
    expect_log(r"(?i)exit|died|crash|signal|ended|killed|recover|unexpected|lost|cannot see|killing")
    m = new_mere()
    m.start()
    project = m.create_project()
    b = project.main
    b.query("SELECT 1")
    with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
        m.kill9()
        cur.execute("CREATE DATABASE made")
    m.start()
    until(lambda: "made" in databases(b), 10, "the new database to show")
    project.delete()


@pytest.fixture(scope="module")
def told(mere):
    """A history in which roles and databases come and go: LSNs before and after each."""
    project = mere.create_project()
    b = project.main
    at = {"first": moment(b)}
    reader = add_role(b, "reader")
    add_database(b, "library", "reader")
    at["both"] = moment(b)
    drop(b, "databases", "library")
    drop(b, "roles", "reader")
    late = add_role(b, "late")
    b.query("CREATE DATABASE bysql")
    at["after"] = moment(b)
    until(lambda: "bysql" in databases(b), 8, "the new database to show")
    body = project.call("POST", b.path(f"/roles/{project.role}/reset_password"))
    mere.wait_operations(project.id, body)
    project.password = body["role"]["password"]
    b.suspend()
    yield project, at, reader, late
    if mere.is_running():
        project.delete()


@pytest.mark.parametrize("when, want_roles, want_databases", [
    ("first", set(), {"neondb"}), ("both", {"reader"}, {"neondb", "library"}), ("after", {"late"}, {"neondb", "bysql"})])
def test_a_fork_in_the_past_has_those_of_that_moment(told, when, want_roles, want_databases):
    project, at, _, late = told
    child = project.branch(project.main, parent_lsn=at[when])
    assert {d["state"] for d in databases(child).values()} == {"inherited"}
    assert {r["state"] for r in roles(child).values()} == {"inherited"}
    assert child.value("SELECT current_user", password=project.password) == project.role, "today's password is good at the first connect"
    until(lambda: set(databases(child)) == want_databases, 8, f"the databases to be {want_databases}: {databases(child)}")
    assert set(roles(child)) == want_roles | {project.role}
    assert {x["state"] for x in [*databases(child).values(), *roles(child).values()]} == {"ready"}
    assert agree(child)
    got = project.call("GET", child.path(f"/roles/{project.role}/reveal_password"))["password"]
    assert got == project.password
    said = project.mere.log_text() + "".join(f.read_text(errors="replace") for f in (project.mere.data / "logs").iterdir())
    assert project.password not in said and "SCRAM-SHA-256$" not in said
    if when == "after":
        assert child.value("SELECT current_user", user="late", password=late) == "late"
    if when == "both":
        with pytest.raises(ApiError) as e:
            project.call("GET", child.path("/roles/reader/reveal_password"))
        assert e.value.status == 412, "it is gone from the parent, and its password with it"
    child.delete()


def test_a_fork_of_a_fork_in_the_past(told):
    """The first child was never connected to: what it inherits is still to be found, and stays so."""
    project, at, _, late = told
    child = project.branch(project.main, parent_lsn=at["first"])
    grandchild = project.branch(child)
    assert set(roles(grandchild)) == {project.role, "late"}
    assert grandchild.value("SELECT current_user", password=project.password) == project.role
    until(lambda: set(roles(grandchild)) == {project.role}, 8, "the role of later to go")
    grandchild.delete()
    child.delete()


def test_wishes_on_a_branch_of_the_past(told):
    """Changes that are asked for before it ever ran hold, whatever the moment had."""
    project, at, _, _ = told
    child = project.branch(project.main, parent_lsn=at["first"])
    password = add_role(child, "asked")
    add_database(child, "wanted", "asked")
    drop(child, "databases", "neondb")
    assert child.value("SELECT current_user", user="asked", password=password, database="wanted") == "asked"
    assert set(databases(child)) == {"wanted"} and set(roles(child)) == {project.role, "asked"}
    child.delete()


def test_wishes_race_with_sql(project):
    """Whatever SQL does at the same time, what the API answered comes true and both agree in the end."""
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    stop = threading.Event()

    def by_sql():
        with contextlib.closing(b.connect()) as conn, conn.cursor() as cur:
            for i in range(1000):
                if stop.is_set():
                    return
                for sql in (f"CREATE DATABASE sql{i % 2}", f"ALTER DATABASE sql{i % 2} RENAME TO sqlx", "DROP DATABASE sqlx"):
                    with contextlib.suppress(psycopg2.Error):
                        cur.execute(sql)
                time.sleep(0.05)

    thread = threading.Thread(target=by_sql)
    thread.start()
    try:
        for i in range(4):
            add_role(b, f"r{i}")
            add_database(b, f"d{i}", f"r{i}")
            if i % 2:
                drop(b, "databases", f"d{i}")
                drop(b, "roles", f"r{i}")
    finally:
        stop.set()
        thread.join()
    assert {"r0", "r2"} <= set(roles(b)) and {"d0", "d2"} <= set(databases(b))
    assert not {"r1", "r3"} & set(roles(b)) and not {"d1", "d3"} & set(databases(b))
    until(lambda: agree(b), 10, "the API and Postgres to agree")


@pytest.mark.slow
def test_killed_while_it_learns(new_mere, expect_log):
    expect_log(r"(?i)crash|killed|recover|lost|unexpected|ended")
    m = new_mere(crash=True)
    m.start()
    project = m.create_project()
    b = project.main
    at = moment(b)
    add_role(b, "late")
    b.suspend()
    child = project.branch(b, parent_lsn=at)
    m.stop()
    m.start(env={"CRASH_AT": "catalog.read:1"})
    with contextlib.suppress(psycopg2.Error):
        child.query("SELECT 1", connect_timeout=5)
    m.proc.wait(20)
    m.start()
    assert child.value("SELECT current_user") == project.role
    until(lambda: set(roles(child)) == {project.role}, 10, "the role of later to go")
    assert agree(child)
    project.delete()


def test_a_restore_has_those_of_that_moment(project):
    b = project.main
    at = moment(b)
    add_role(b, "late")
    b.query("CREATE DATABASE bysql")
    body = project.call("POST", b.path(f"/roles/{project.role}/reset_password"))
    project.mere.wait_operations(project.id, body)
    project.password = body["role"]["password"]
    body = project.call("POST", b.path("/restore"), {"source_branch_id": b.id, "source_lsn": at, "preserve_under_name": "before"})
    project.mere.wait_operations(project.id, body)
    assert b.value("SELECT current_user") == project.role, "today's password is good"
    until(lambda: set(databases(b)) == {"neondb"}, 8, "the database of later to go")
    assert set(roles(b)) == {project.role} and agree(b)
    before = project.call("GET", "/branches/before/databases")["databases"]
    assert {d["name"] for d in before} == {"neondb", "bysql"}
