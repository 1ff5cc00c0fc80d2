"""What mere-proxy is told of who may log in: all of it, every change, and what SQL did a moment ago."""
import base64
import contextlib
import hashlib
import hmac
import sqlite3
import time

import pytest

from harness.fakeproxy import fake_proxy, instead_of_proxy  # noqa: F401
from harness.server import ApiError, until

pytestmark = pytest.mark.expect_log("the wake socket is lost")


def sql(branch, statement, *params):
    """By a superuser, past the proxy, which is stopped here."""
    with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
        cur.execute(statement, params)
        return cur.fetchall() if cur.description else None


def in_postgres(branch):
    return dict(sql(branch, "SELECT rolname, rolpassword FROM pg_authid WHERE rolname !~ '^(pg_|mere_)'"))


def verifiers(logins):
    return {role: verifier for role, (verifier, _) in logins.items()}


def fits(verifier, password):
    kind, rest, keys = verifier.split("$")
    iterations, salt = rest.split(":")
    assert kind == "SCRAM-SHA-256"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    return hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == base64.b64decode(keys.split(":")[0])


def reveal(branch, role):
    return branch.project.call("GET", branch.path(f"/roles/{role}/reveal_password"))["password"]


def add_role(branch, name, **fields):
    return branch.project.call("POST", branch.path("/roles"), {"role": {"name": name, **fields}})["role"].get("password")


def test_all_is_told_after_hello(mere, project, fake_proxy):
    b = project.main
    add_role(b, "ann \"of\" x")
    add_role(b, "nobody", no_login=True)
    b.act("start")
    p = fake_proxy().complete()
    ips, logins = p.known[b.endpoint_id]
    assert ips == "-" and verifiers(logins) == in_postgres(b) and logins["nobody"] == (None, None)
    assert fits(logins[project.role][0], project.password) and not fits(logins[project.role][0], project.password + "x")
    assert set(p.known) == {r["id"] for r in mere.rows("SELECT id FROM endpoint WHERE desired <> 'deleted'")}


def test_changes_are_told_as_they_are_made(mere, project, fake_proxy):
    b = project.main
    p = fake_proxy().complete()
    password = add_role(b, "ann")
    p.look()
    assert fits(p.logins(b)["ann"][0], password), "also while nobody has started the compute"
    b.act("start")
    p.look()
    assert in_postgres(b)["ann"] == p.logins(b)["ann"][0], "Postgres has the very same verifier"
    body = project.call("POST", b.path("/roles/ann/reset_password"))
    mere.wait_operations(project.id, body)
    p.look()
    assert in_postgres(b)["ann"] == p.logins(b)["ann"][0] and fits(p.logins(b)["ann"][0], body["role"]["password"])
    mere.wait_operations(project.id, project.call("DELETE", b.path("/roles/ann")))
    p.look()
    assert set(p.logins(b)) == {project.role}

    child = project.branch(b)
    p.look()
    assert verifiers(p.logins(child)) == verifiers(p.logins(b))
    reader = project.call("POST", "/endpoints", {"endpoint": {"branch_id": child.id, "type": "read_only"}})["endpoint"]["id"]
    p.look()
    assert p.known[reader] == p.known[child.endpoint_id]
    mere.wait_operations(project.id, project.call("DELETE", f"/endpoints/{reader}"))
    p.look()
    assert reader not in p.known
    child.delete()
    p.look()
    assert child.endpoint_id not in p.known and b.endpoint_id in p.known


def test_changes_come_unasked(mere, project, fake_proxy):
    p = fake_proxy().complete()
    password = add_role(project.main, "ann")
    p.expect(f"ENDPOINT {project.main.endpoint_id} .*")
    assert fits(p.logins(project.main)["ann"][0], password)


def test_a_deleted_branch_is_forgotten_and_known_again(mere, project, fake_proxy):
    child = project.branch(project.main)
    p = fake_proxy().complete()
    had = p.known[child.endpoint_id]
    mere.wait_operations(project.id, project.call("DELETE", child.path()))
    p.look()
    assert child.endpoint_id not in p.known
    project.call("POST", child.path("/recover"))
    p.look()
    assert p.known[child.endpoint_id] == had


def test_children_of_a_protected_branch_get_passwords_of_their_own(mere, project, fake_proxy):
    b = project.main
    project.call("PATCH", b.path(), {"branch": {"protected": True}})
    p = fake_proxy().complete()
    child = project.branch(b)
    p.look()
    assert not fits(p.logins(child)[project.role][0], project.password)
    assert fits(p.logins(child)[project.role][0], reveal(child, project.role))
    child.act("start")
    p.look()
    assert in_postgres(child) == verifiers(p.logins(child))
    project.call("PATCH", b.path(), {"branch": {"protected": False}})


def test_passwords_by_sql_are_read_when_asked_for(mere, project, fake_proxy):
    b = project.main
    b.act("start")
    p = fake_proxy().complete()
    role = project.role
    # The same password, hashed anew: nothing is lost.
    sql(b, f"ALTER ROLE {role} PASSWORD %s", project.password)
    lines = p.look(b.endpoint_id)
    assert any(line.startswith(f"ENDPOINT {b.endpoint_id} ") for line in lines), lines
    assert verifiers(p.logins(b)) == in_postgres(b) and reveal(b, role) == project.password
    # Another one.
    sql(b, f"ALTER ROLE {role} PASSWORD 'of sql only' VALID UNTIL '2031-02-03 04:05:06.5+00'")
    p.look(b.endpoint_id)
    assert fits(p.logins(b)[role][0], "of sql only") and p.logins(b)[role][1] == 1927857906500000
    with pytest.raises(ApiError) as e:
        reveal(b, role)
    assert e.value.status == 412 and "by SQL" in e.value.body["message"] and "reset it" in e.value.body["message"]
    with pytest.raises(ApiError) as e:
        project.call("GET", f"/connection_uri?role_name={role}&database_name=neondb")
    assert e.value.status == 412 and "by SQL" in e.value.body["message"]
    # A reset makes one that is known, and leaves VALID UNTIL as it is.
    body = project.call("POST", b.path(f"/roles/{role}/reset_password"))
    mere.wait_operations(project.id, body)
    p.look(b.endpoint_id)
    assert verifiers(p.logins(b)) == in_postgres(b) and fits(p.logins(b)[role][0], body["role"]["password"])
    assert p.logins(b)[role][1] == 1927857906500000 and reveal(b, role) == body["role"]["password"]
    assert "of sql only" not in mere.log_text() and "SCRAM-SHA" not in mere.log_text()


@pytest.mark.parametrize("statement, logins", [
    ("ALTER ROLE ann NOLOGIN", {"ann": (None, None)}),
    ("ALTER ROLE ann PASSWORD NULL", {"ann": (None, None)}),
    ("ALTER ROLE ann VALID UNTIL 'infinity'", {"ann": (True, None)}),
    ("ALTER ROLE ann VALID UNTIL '-infinity'", {"ann": (True, 1)}),
    ("ALTER ROLE ann VALID UNTIL '1969-01-01'", {"ann": (True, 1)}),
    ("ALTER ROLE ann VALID UNTIL '294276-12-31'", {"ann": (True, None)}),
    ("DROP ROLE ann", {}),
    ("ALTER ROLE ann RENAME TO bob", {"bob": (True, None)}),
    ("CREATE ROLE \"\"\"q\"\" %% ü\" LOGIN PASSWORD 'x'", {"ann": (True, None), "\"q\" % ü": (True, None)}),
    ("SET password_encryption = 'md5'; ALTER ROLE ann PASSWORD 'x'", {"ann": (None, None)}),
    # Nobody tries the stored password as often as whoever wrote this wants it.
    ("ALTER ROLE ann PASSWORD 'SCRAM-SHA-256$200000:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "='", {"ann": (True, None)}),
])
def test_what_sql_makes_of_roles(mere, project, fake_proxy, statement, logins):
    b = project.main
    add_role(b, "ann")
    b.act("start")
    p = fake_proxy().complete()
    sql(b, statement)
    before = time.monotonic()
    p.look(b.endpoint_id)
    assert time.monotonic() - before < 5
    now = {role: (verifier and True, until) for role, (verifier, until) in p.logins(b).items() if role != project.role}
    assert now == logins


def test_looking_at_what_does_not_run(mere, project, fake_proxy):
    b = project.main
    p = fake_proxy().complete()
    for ep in (b.endpoint_id, "ep-never-was-a1b2c3d4", "x"):
        p.look(ep)
    assert b.endpoint()["current_state"] == "idle", "nothing is woken for it"


def test_a_role_asked_for_a_moment_ago_is_made_before_the_look_is_answered(mere, project, fake_proxy):
    b = project.main
    b.act("start")
    p = fake_proxy().complete()
    for i in range(5):
        password = add_role(b, f"r{i}")
        p.look(b.endpoint_id)
        assert in_postgres(b)[f"r{i}"] == p.logins(b)[f"r{i}"][0] and fits(p.logins(b)[f"r{i}"][0], password)


def test_looks_at_several_at_once(mere, project, fake_proxy):
    b, c = project.main, project.branch(project.main)
    for one in (b, c):
        one.act("start")
        sql(one, "ALTER ROLE %s PASSWORD 'x'" % project.role)
    p = fake_proxy().complete()
    p.say(f"LOOK 901 {b.endpoint_id}", f"LOOK 902 {c.endpoint_id}", "LOOK 903 -", f"LOOK 904 {b.endpoint_id}")
    answers = set()
    while len(answers) < 4:
        answers.add(p.expect("LOOKED [0-9]+")[-1])
    assert answers == {f"LOOKED {n}" for n in (901, 902, 903, 904)}
    assert verifiers(p.logins(b)) == in_postgres(b) and verifiers(p.logins(c)) == in_postgres(c)


def test_a_reader_has_the_roles_of_its_writer(mere, project, fake_proxy):
    b = project.main
    b.act("start")
    body = project.call("POST", "/endpoints", {"endpoint": {"branch_id": b.id, "type": "read_only"}})
    mere.wait_operations(project.id, body)
    reader = body["endpoint"]["id"]
    mere.wait_operations(project.id, project.call("POST", f"/endpoints/{reader}/start"))
    p = fake_proxy().complete()
    sql(b, f"ALTER ROLE {project.role} PASSWORD 'x'")
    p.look(reader)
    assert verifiers(p.known[reader][1]) == in_postgres(b) == verifiers(p.logins(b))


def test_passwords_by_sql_are_read_before_a_suspend(mere, project, fake_proxy):
    """Else nobody who knows the new one could wake it."""
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    b.act("start")
    p = fake_proxy().complete()
    role, generation = project.role, b.generation()
    line = ""
    while not line.startswith("HOLD"):
        line = p.line()
    sql(b, f"ALTER ROLE {role} PASSWORD 'in the last moment'")
    has = in_postgres(b)
    p.say(f"HELD {b.endpoint_id} {generation} {p.question} 0")
    while not line.startswith("GONE"):
        line = p.line()
        if line.startswith("HOLD"):  # our own session was seen
            p.say(f"HELD {b.endpoint_id} {generation} {p.question} 0")
    assert verifiers(p.logins(b)) == has and fits(p.logins(b)[role][0], "in the last moment")


def test_a_suspend_that_is_asked_for_waits_a_moment_for_who_reads(mere, project, fake_proxy):
    b = project.main
    b.act("start")
    p = fake_proxy().complete()
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        conn.autocommit = False
        cur.execute("LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE")
        cur.execute(f"ALTER ROLE {project.role} PASSWORD 'in the last moment'")
        p.say(f"LOOK 1 {b.endpoint_id}")
        until(lambda: cur.execute("SELECT 1 FROM pg_locks WHERE NOT granted") or cur.fetchone(), 10, "the look to wait for the lock")
        b.act("suspend", wait=False)
        p.expect(f"HOLD {b.endpoint_id} .*")
        conn.commit()
    p.expect(f"GONE {b.endpoint_id} .*")
    assert fits(p.logins(b)[project.role][0], "in the last moment")


@pytest.mark.expect_log("cannot bring roles", "the wake socket is lost")
def test_no_suspend_while_a_new_password_cannot_be_kept(mere, project, fake_proxy):
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=1)
    b.act("start")
    p = fake_proxy().complete()
    generation, held = b.generation(), 0
    with contextlib.closing(sqlite3.connect(mere.database_file(), isolation_level=None)) as db:
        db.execute("CREATE TRIGGER refuse BEFORE UPDATE OF verifier ON role BEGIN SELECT RAISE(ABORT, 'not now'); END")
        sql(b, f"ALTER ROLE {project.role} PASSWORD 'kept later'")
        has = in_postgres(b)
        while held < 2:
            line = p.line()
            assert not line.startswith("GONE"), "what is new was lost"
            if line.startswith("HOLD"):
                p.say(f"HELD {b.endpoint_id} {generation} {p.question} 0")
                held += 1
        assert p.expect("(RELEASE|GONE) .*")[-1].startswith("RELEASE")
        db.execute("DROP TRIGGER refuse")
    line = ""
    while not line.startswith("GONE"):
        line = p.line()
        if line.startswith("HOLD"):
            p.say(f"HELD {b.endpoint_id} {generation} {p.question} 0")
    assert verifiers(p.logins(b)) == has


@pytest.mark.expect_log("cannot read what is kept of a password", "the wake socket is lost")
def test_a_verifier_that_is_spoilt_is_read_anew(mere, project, fake_proxy):
    b = project.main
    b.act("start")
    add_role(b, "ann")
    p = fake_proxy().complete()
    p.look(b.endpoint_id)
    with contextlib.closing(sqlite3.connect(mere.database_file())) as db, db:
        db.execute("UPDATE role SET verifier = x'00' WHERE branch_id = ? AND name = ?", (b.id, project.role))
    p.look()
    assert p.logins(b)[project.role] == (None, None) and p.logins(b)["ann"][0], "it alone has no way in"
    p.look(b.endpoint_id)
    assert verifiers(p.logins(b)) == in_postgres(b) and reveal(b, project.role) == project.password


def test_which_endpoint_serves_a_branch(mere, project, fake_proxy):
    b = project.main
    bare = project.branch(b, endpoint=False)
    b.suspend()
    p = fake_proxy().complete()
    for name in (b.id, "main"):
        if name == "main" and len(mere.rows("SELECT 1 FROM branch WHERE name = 'main' AND kind = 'user' AND state = 'ready'")) > 1:
            continue
        assert p.find(name).split(" ")[2:] == [b.endpoint_id, str(len(p.logins(b))), "-", "-"]
        assert p.found == (b.endpoint_id, "-", p.logins(b))
    assert p.find(bare.id).split(" ")[2] == bare.id and verifiers(p.found[2]) == verifiers(p.logins(b))
    assert p.find("no such %s\n branch").startswith(f"ERR {p.r} 3D000 there%20is%20no%20branch")
    assert b.endpoint()["current_state"] == "idle", "nothing is woken for it"


def test_allowed_addresses(mere, project, fake_proxy):
    b = project.main
    guarded = project.branch(b)
    p = fake_proxy().complete()

    def settings(**allowed):
        project.call("PATCH", "", {"project": {"settings": {"allowed_ips": allowed}}})
        p.look()
        assert p.find(guarded.id) and p.found[1] == p.known[guarded.endpoint_id][0]
        return p.known[b.endpoint_id][0], p.known[guarded.endpoint_id][0]

    listed = "10.0.0.0/8,2001:db8::1,10.0.0.1-10.0.0.9"
    assert settings(ips=listed.split(",")) == (listed, listed)
    assert settings(ips=listed.split(","), protected_branches_only=True) == ("-", "-")
    project.call("PATCH", guarded.path(), {"branch": {"protected": True}})
    p.look()
    assert (p.known[b.endpoint_id][0], p.known[guarded.endpoint_id][0]) == ("-", listed)
    assert settings(ips=[], protected_branches_only=False) == ("-", "-")
    project.call("PATCH", guarded.path(), {"branch": {"protected": False}})
    added = project.branch(b, name="later")
    settings(ips=["::/0"])
    p.look()
    assert p.known[added.endpoint_id][0] == "::/0"


@pytest.mark.expect_log("not in the protocol", "the wake socket is lost")
@pytest.mark.parametrize("line", ["LOOK", "LOOK 1", "LOOK x -", "LOOK -1 -", "LOOK 1 - -", "FIND 1", "FIND x y", "FIND 1 %zz", "FIND 1 a b",
                                  "HELLO 4 1 h 1", "STRAY 1", "STRAY 00000000000000zz", "HELD ep-x-y-z 1 0", "LOOKED 1", "LOOK 99999999999999999999 -"])
def test_what_is_not_in_the_protocol(mere, project, fake_proxy, line):
    p = fake_proxy().complete()
    p.say(line)
    with pytest.raises((AssertionError, ConnectionResetError)):
        while True:
            p.line()
    again = fake_proxy().complete()
    assert again.known == p.known


@pytest.mark.expect_log("not in the protocol", "the wake socket is lost")
def test_another_version_is_told_nothing(mere, project, fake_proxy):
    with pytest.raises((AssertionError, ConnectionResetError)):
        fake_proxy(version=2).line()
    fake_proxy().complete()


def test_thousands_of_endpoints_and_a_slow_reader(new_mere, expect_log):
    """All come, in pieces: another question's answer does not wait for the last of them, and nobody hangs up because they are many."""
    expect_log("the wake socket is lost")
    n = 8000
    m = new_mere()
    m.start()
    project = m.create_project()
    b = project.main
    m.stop()
    with contextlib.closing(sqlite3.connect(m.database_file())) as db, db:
        def copies(table, **new):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(new.get(name, name) for name in names)
            db.execute(f"WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < {n}) "
                       f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table}, k")

        copies("branch", id="'br-copy-' || i", name="'copy' || i", volume_id="'br-copy-' || i", is_default="0", volume="'none'")
        copies("endpoint", id="'ep-copy-' || i", branch_id="'br-copy-' || i")
        copies("role", branch_id="'br-copy-' || i", verifier="NULL", sealed="NULL")
    m.start(timeout=180)
    with instead_of_proxy(m) as make:
        p = make()
        p.expect("DIRECTORY .*")
        p.find(b.id)
        assert p.found[0] == b.endpoint_id and p.fresh is not None, "in the middle of the directory"
        p.expect("COMPLETE")
        assert len(p.known) == n + 1 and all(len(roles) == 1 for _, roles in p.known.values())
        p.look()
        assert len(p.known) == n + 1
