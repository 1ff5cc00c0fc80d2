"""
The mere command: what it prints, what it exits with, how it finds a server.

Most of it runs against a small HTTP server here that answers what a test wants and remembers what it was asked; the last part runs
against a real one.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess

import pytest

from harness.cli import (AUTH, CONFLICT, FAILURE, NOT_FOUND, OK, PROJECT, SECRET, TIMED_OUT, UNREACHABLE, USAGE, Stub, created, operation, run_mere,
                         stub)  # noqa: F401
from harness.server import binaries, scratch


# --- usage ---------------------------------------------------------------------------------------------------------------------


def test_help_names_every_command():
    text = run_mere("--help").stdout
    for word in ("projects list", "branches create", "endpoints suspend", "operations get", "mere url", "mere psql", "--json", "Exit status"):
        assert word in text
    assert "--parent" in run_mere("branches", "create", "--help").stdout
    assert "--parent" not in run_mere("branches", "delete", "--help").stdout


def test_version():
    assert run_mere("--version").stdout.startswith("mere ")


@pytest.mark.parametrize("words, hint", [
    (["brnches", "list"], "did you mean mere branches?"),
    (["branches", "craete", "x"], "did you mean create?"),
    (["branches", "list", "--jsno"], "mere branches list has no option --jsno; did you mean --json? (mere branches list --help)"),
    (["branches", "list", "--jsno=x", "y"], "has no option --jsno; did you mean --json?"),
    (["branches", "list", "--colour", "red"], "mere branches list has no option --colour (mere branches list --help)"),
    (["--colour"], "mere has no option --colour (mere --help)"),
    (["projects", "list", "--project", "x"], "mere projects list has no option --project"),
    (["psql", "dev", "-c", "select 1"], "psql's own options go after --: mere psql [BRANCH] -- -c"),
    (["psql", "--databse", "x"], "did you mean --database? (mere psql --help)"),
    (["databases", "create"], "usage: mere databases create NAME\n"),
    (["branches", "list", "x"], "usage: mere branches list\n"),
    (["roles", "reset"], "there is no mere roles reset"),
    (["branches", "create", b"\xff\xfe"], "word 3 of the command is not UTF-8"),
    (["branches", "create", "--name", b"a\xff"], "not UTF-8"),
    (["branches", "create", b"--name=\xc0\xaf"], "not UTF-8"),
    (["projects", "list", "-o", "xml"], "--output must be json or table"),
    (["xyzzyx"], "there is no command"),
    (["branches"], "needs a verb"),
    (["branches", "delete"], "usage: mere branches delete BRANCH"),
    (["branches", "get", "a", "b"], "usage: mere branches get [BRANCH]"),
    (["branches", "get", ""], "names nothing"),
    (["branches", "list", "--parent", "x"], "no option"),
    (["branches", "delete", "x", "--timeout", "soon"], "--timeout"),
    (["branches", "delete", "x", "--timeout"], "needs a value"),
    (["branches", "list", "--json=1"], "takes no value"),
    (["branches", "list", "--", "x"], "nothing may follow"),
    (["operations", "list", "--api-url", "localhost:1"], "is not a URL"),
])
def test_usage(words, hint):
    done = run_mere(*words, expect=USAGE)
    assert hint in done.stderr and done.stdout == ""


def test_help_speaks_of_the_command_it_is_about():
    made = run_mere("projects", "create", "--help").stdout
    assert "what its branch is called" in made and "by name or id" not in made and "--project" not in made
    assert "--branch NAME" in run_mere("roles", "list", "--help").stdout and "its owner" in run_mere("databases", "create", "--help").stdout
    assert "--project" not in run_mere("projects", "list", "--help").stdout and "--project" in run_mere("branches", "list", "--help").stdout
    for words in ([], ["branches"], ["branches", "list"], ["url"], ["projects", "create"]):
        assert not [line for line in run_mere(*words, "--help").stdout.splitlines() if line != line.rstrip()]


def test_words_after_the_dashes_are_not_ours(stub, tmp_path):
    fake = tmp_path / "psql"
    fake.write_text("#!/bin/sh\necho called\n")
    fake.chmod(0o755)
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": URI})
    assert run_mere("psql", "--", "-c", b"\xff", url=stub.url, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).stdout == "called\n"


def test_a_project_in_the_environment_that_is_no_text(stub):
    assert "MERE_PROJECT" in run_mere("branches", "list", url=stub.url, env={b"MERE_PROJECT": b"\xff"}, expect=USAGE).stderr
    assert stub.asked() == []


def test_no_words_show_help_as_a_message():
    done = run_mere(expect=USAGE)
    assert done.stdout == "" and "Commands:" in done.stderr


@pytest.mark.parametrize("words, hint", [
    (["projects", "create", "a", "--name", "b"], "name it once"),
    (["projects", "create", "--pg-version", "fifteen"], "--pg-version"),
    (["branches", "create", "--suspend-timeout", "-2"], "--suspend-timeout"),
    (["projects", "list", "--limit", "0"], "--limit"),
])
def test_values_are_checked_before_anything_is_changed(stub, words, hint):
    assert hint in run_mere(*words, url=stub.url, expect=USAGE).stderr
    assert not [a for a in stub.asked() if not a.startswith("GET")]


# --- answers and exit codes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status, body, code, says", [
    (404, {"code": "", "message": "branch not found"}, NOT_FOUND, "branch not found"),
    (409, {"code": "conflict", "message": "branch already exists"}, CONFLICT, "branch already exists"),
    (412, {"code": "precondition_failed", "message": "the branch has children"}, CONFLICT, "the branch has children"),
    (401, {"code": "unauthorized", "message": "x"}, AUTH, "the key was refused"),
    (403, {"code": "forbidden", "message": "this key may only read"}, AUTH, "this key may only read"),
    (422, {"code": "invalid", "message": "name: too long"}, CONFLICT, "name: too long"),
    (422, {"code": "not_supported", "message": "not here"}, CONFLICT, "not here"),
    (400, {"code": "bad_request", "message": "no JSON"}, FAILURE, "no JSON"),
    (503, {"code": "timeout", "message": "not ready in time"}, TIMED_OUT, "not ready in time"),
    (503, {"code": "unavailable", "message": "the queue is full"}, FAILURE, "the queue is full"),
    (500, b"<html>", FAILURE, "HTTP 500"),
    (200, b"not json", FAILURE, "HTTP 200"),
])
def test_exit_codes(stub, status, body, code, says):
    stub[f"GET /projects/{PROJECT}/branches/dev"] = (status, body)
    assert says in run_mere("branches", "get", "dev", url=stub.url, expect=code).stderr


def test_unreachable():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        assert url in run_mere("projects", "list", url=url, expect=UNREACHABLE).stderr


def test_table_and_json(stub):
    done = run_mere("projects", "list", url=stub.url)
    head, row = done.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "POSTGRES", "CREATED"]
    assert row.split() == [PROJECT, "shop", "15", "2025-01-16T21:02:01Z"]
    assert json.loads(run_mere("projects", "list", "--json", url=stub.url).stdout)["projects"][0]["id"] == PROJECT
    assert stub.seen[0][3]["Authorization"] == f"Bearer {SECRET}"
    assert run_mere("projects", "list", "-o", "json", url=stub.url).stdout == run_mere("projects", "list", "--json", url=stub.url).stdout
    assert run_mere("projects", "list", "--output=table", url=stub.url).stdout == done.stdout


def test_names_cannot_command_the_terminal(stub):
    stub["GET /projects"] = (200, {"projects": [{"id": PROJECT, "name": "a\x1b[2Jb\nc"}]})
    text = run_mere("projects", "list", url=stub.url).stdout
    assert "\x1b" not in text and len(text.splitlines()) == 2 and "a?[2Jb?c" in text


def test_pages_are_followed(stub):
    stub["GET /projects"] = [(200, {"projects": [{"id": f"p-{i}"}], "pagination": {"cursor": f"c&{i}"}}) for i in range(3)] + [(200, {"projects": []})]
    got = json.loads(run_mere("projects", "list", "--json", url=stub.url).stdout)
    assert [p["id"] for p in got["projects"]] == ["p-0", "p-1", "p-2"] and "pagination" not in got
    assert stub.asked()[1].endswith("&cursor=c%260")


def test_limit_is_kept(stub):
    stub["GET /projects"] = [(200, {"projects": [{"id": f"p-{i}"}], "pagination": {"cursor": "c"}}) for i in range(9)]
    assert len(json.loads(run_mere("projects", "list", "--json", "--limit", "2", url=stub.url).stdout)["projects"]) == 2


def test_the_only_project_is_taken_and_several_are_asked_about(stub):
    stub[f"GET /projects/{PROJECT}/endpoints"] = (200, {"endpoints": []})
    run_mere("endpoints", "list", url=stub.url)
    stub["GET /projects"] = (200, {"projects": [{"id": "a-b-11111111"}, {"id": "a-b-22222222"}]})
    assert "--project" in run_mere("endpoints", "list", url=stub.url, expect=USAGE).stderr
    stub["GET /projects"] = (200, {"projects": []})
    assert "projects create" in run_mere("endpoints", "list", url=stub.url, expect=NOT_FOUND).stderr


def test_project_by_flag_environment_and_name(stub):
    for words, env in ((["--project", PROJECT], {}), ([], {"MERE_PROJECT": PROJECT}), (["--project", "shop"], {"MERE_PROJECT": "other"})):
        stub[f"GET /projects/{PROJECT}/endpoints"] = (200, {"endpoints": []})
        run_mere("endpoints", "list", *words, url=stub.url, env=env)
        assert stub.asked()[-1] == f"GET /projects/{PROJECT}/endpoints"
    run_mere("endpoints", "list", "--project", "shap", url=stub.url, expect=NOT_FOUND)


def test_branch_names_are_encoded(stub):
    stub[f"GET /projects/{PROJECT}/branches/a%2F..%2Fb%3Fc"] = (200, {"branch": {"id": "br-a-b-12345678", "name": "a/../b?c"}})
    assert "br-a-b-12345678" in run_mere("branches", "get", "a/../b?c", url=stub.url).stdout


def test_create_waits_and_shows_what_it_made(stub):
    op = f"GET /projects/{PROJECT}/operations/{operation('')['id']}"
    stub[f"POST /projects/{PROJECT}/branches"] = created("running")
    stub[op] = [(200, {"operation": operation("running")}), (200, {"operation": operation("finished")})]
    text = run_mere("branches", "create", "dev", "--durability", "relaxed", "--suspend-timeout", "-1", url=stub.url).stdout
    assert "0/16B3748" in text and "postgresql://u:p@127.0.0.1:7433/neondb" in text
    assert len([a for a in stub.asked() if a.startswith(op)]) == 2
    assert [b for m, _, b, _ in stub.seen if m == "POST"] == [
        {"branch": {"name": "dev", "durability": "relaxed"}, "endpoints": [{"type": "read_write", "suspend_timeout_seconds": -1}]}]


def test_create_without_waiting(stub):
    stub[f"POST /projects/{PROJECT}/branches"] = created("running")
    run_mere("branches", "create", "--no-wait", "--no-endpoint", url=stub.url)
    assert not [a for a in stub.asked() if "/operations/" in a]
    assert [b for m, _, b, _ in stub.seen if m == "POST"] == [{"branch": {}}]


def test_parent_by_name(stub):
    stub[f"GET /projects/{PROJECT}/branches/stage"] = (200, {"branch": {"id": "br-x-y-12345678"}})
    stub[f"POST /projects/{PROJECT}/branches"] = created("finished")
    run_mere("branches", "create", "dev", "--parent", "stage", url=stub.url)
    assert stub.seen[-1][2]["branch"]["parent_id"] == "br-x-y-12345678"


def test_waiting_ends_at_the_timeout_and_says_how_to_go_on(stub):
    stub[f"POST /projects/{PROJECT}/branches"] = created("running")
    stub[f"GET /projects/{PROJECT}/operations/{operation('')['id']}"] = (200, {"operation": operation("running")})
    assert "mere operations get 11111111" in run_mere("branches", "create", "--timeout", "1", url=stub.url, expect=TIMED_OUT).stderr


def test_failed_work_is_a_failure(stub):
    stub[f"POST /projects/{PROJECT}/branches"] = created("running")
    stub[f"GET /projects/{PROJECT}/operations/{operation('')['id']}"] = (200, {"operation": operation("failed", error="the disk is full")})
    assert "the disk is full" in run_mere("branches", "create", url=stub.url, expect=FAILURE).stderr


def test_endpoint_of_a_branch(stub):
    stub[f"GET /projects/{PROJECT}/branches/dev/endpoints"] = (200, {"endpoints": [{"id": "ep-r-o-12345678", "type": "read_only"},
                                                                                  {"id": "ep-r-w-12345678", "type": "read_write"}]})
    stub[f"POST /projects/{PROJECT}/endpoints/ep-r-w-12345678/suspend"] = (200, {"endpoint": {}, "operations": []})
    stub[f"GET /projects/{PROJECT}/endpoints/ep-r-w-12345678"] = (200, {"endpoint": {"id": "ep-r-w-12345678", "current_state": "idle"}})
    assert "idle" in run_mere("endpoints", "suspend", "dev", url=stub.url).stdout
    stub[f"GET /projects/{PROJECT}/branches/dev/endpoints"] = (200, {"endpoints": []})
    assert "endpoints create dev" in run_mere("endpoints", "start", "dev", url=stub.url, expect=NOT_FOUND).stderr


# --- url and psql ----------------------------------------------------------------------------------------------------------------

URI = "postgresql://neondb_owner:p%40ss%2Fw@127.0.0.1:7433/neondb?sslmode=require&options=endpoint%3Dep-a-b-12345678"


def test_url(stub):
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": URI})
    assert run_mere("url", "dev", "--database", "d b", url=stub.url).stdout == URI + "\n"
    assert stub.asked()[-1] == f"GET /projects/{PROJECT}/connection_uri?branch_id=dev&database_name=d%20b"
    run_mere("url", url=stub.url)
    assert stub.asked()[-1] == f"GET /projects/{PROJECT}/connection_uri"


def test_psql_gets_the_password_in_its_environment_only(stub, tmp_path):
    fake = tmp_path / "psql"
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$PGPASSWORD" "$@"\nexit 5\n')
    fake.chmod(0o755)
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": URI})
    full = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MERE_API_URL": stub.url, "MERE_API_KEY": SECRET}
    done = subprocess.run([str(binaries() / "mere"), "psql", "dev", "--", "-c", "select '--json'"], capture_output=True, text=True, env=full, check=False)
    assert done.returncode == 5, "the exit status is psql's"
    assert done.stdout.splitlines() == ["p@ss/w", "-d", URI.replace(":p%40ss%2Fw", ""), "-c", "select '--json'"]


def named(*names):
    return [{"name": n} for n in names]


@pytest.mark.parametrize("command", ["url", "psql"])
@pytest.mark.parametrize("words, databases, roles, says, code", [
    ([], ["app", "neondb"], ["o"], 'branch "main" has 2 databases: app, neondb; choose one with --database NAME', USAGE),
    (["--database", "app"], ["app", "neondb"], ["o", "reader"], 'branch "main" has 2 roles: o, reader; choose one with --role NAME', USAGE),
    (["dev"], ["x"], ["o", "reader"], 'branch "dev" has 2 roles: o, reader; choose one with --role NAME', USAGE),
    ([], [], ["o"], 'branch "main" has no databases; make one: mere databases create NAME', NOT_FOUND),
    ([], [f"d{i:02}" for i in range(25)], ["o"], "d18, d19 and 5 more; choose", USAGE),
    (["--database", "x", "--role", "o"], [], [], "something else", FAILURE)])
def test_several_databases_or_roles_are_named(stub, command, words, databases, roles, says, code):
    message = "something else" if "--role" in words else "database_name is required"
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (400, {"code": "bad_request", "message": message})
    stub[f"GET /projects/{PROJECT}/branches"] = (200, {"branches": [{"id": "br-1", "name": "old"}, {"id": "br-2", "name": "main", "default": True}]})
    for branch in ("br-2", "dev"):
        stub[f"GET /projects/{PROJECT}/branches/{branch}/databases"] = (200, {"databases": named(*databases)})
        stub[f"GET /projects/{PROJECT}/branches/{branch}/roles"] = (200, {"roles": named(*roles)})
    assert says in run_mere(command, *words, url=stub.url, expect=code).stderr


# --- databases and roles -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def branch(stub):
    stub[f"GET /projects/{PROJECT}/branches"] = (200, {"branches": [{"id": "br-2", "name": "main", "default": True}]})
    return f"/projects/{PROJECT}/branches/br-2"


def test_the_default_branch_is_found_on_any_page(stub):
    pages = [{"branches": [{"id": "br-1", "name": "a"}], "pagination": {"next": "c"}}, {"branches": [{"id": "br-2", "name": "main", "default": True}]}]
    stub[f"GET /projects/{PROJECT}/branches"] = [(200, page) for page in pages]
    stub[f"GET /projects/{PROJECT}/branches/br-2/roles"] = (200, {"roles": []})
    run_mere("roles", "list", url=stub.url)


def test_databases(stub, branch):
    one = {"name": "app", "owner_name": "o", "created_at": "2025-01-16T21:02:01Z"}
    stub[f"GET {branch}/databases"] = (200, {"databases": [one]})
    assert run_mere("databases", "list", url=stub.url).stdout.splitlines()[1].split() == ["app", "o", one["created_at"]]
    stub[f"GET /projects/{PROJECT}/branches/a%2Fb/databases"] = (200, {"databases": []})
    assert run_mere("database", "list", "--branch", "a/b", url=stub.url).stdout.split() == ["NAME", "OWNER", "CREATED"]
    stub[f"GET {branch}/roles"] = (200, {"roles": named("o")})
    stub[f"POST {branch}/databases"] = (201, {"database": one, "operations": [operation("running")]})
    stub[f"GET /projects/{PROJECT}/operations/{operation('')['id']}"] = (200, {"operation": operation("finished")})
    assert "app" in run_mere("databases", "create", "app", url=stub.url).stdout
    assert [b for m, _, b, _ in stub.seen if m == "POST"] == [{"database": {"name": "app", "owner_name": "o"}}]
    assert stub.asked()[-1].startswith(f"GET /projects/{PROJECT}/operations/")
    run_mere("databases", "create", "app", "--role", "x", "--no-wait", url=stub.url)
    assert stub.seen[-1][2] == {"database": {"name": "app", "owner_name": "x"}}
    stub[f"GET {branch}/roles"] = (200, {"roles": named("o", "p")})
    assert "2 roles: o, p; choose one with --role NAME" in run_mere("databases", "create", "app", url=stub.url, expect=USAGE).stderr
    stub[f"GET {branch}/databases/a%20b"] = (200, {"database": one})
    assert "OWNER" in run_mere("databases", "get", "a b", url=stub.url).stdout
    stub[f"DELETE {branch}/databases/app"] = (200, {"database": one, "operations": []})
    assert run_mere("databases", "delete", "app", url=stub.url).stderr == "database app deleted\n"
    run_mere("databases", "get", "nope", url=stub.url, expect=NOT_FOUND)


def test_roles(stub, branch):
    role = {"name": "reader", "authentication_method": "password"}
    stub[f"GET {branch}/roles"] = (200, {"roles": [role]})
    assert "PASSWORD" not in run_mere("roles", "list", url=stub.url).stdout
    stub[f"POST {branch}/roles"] = (201, {"role": {**role, "password": "npg_1"}, "operations": []})
    assert "npg_1" in run_mere("roles", "create", "reader", url=stub.url).stdout
    run_mere("roles", "create", "reader", "--no-login", url=stub.url)
    assert [b for m, _, b, _ in stub.seen if m == "POST"] == [{"role": {"name": "reader"}}, {"role": {"name": "reader", "no_login": True}}]
    stub[f"GET {branch}/roles/reader"] = (200, {"role": role})
    assert "reader" in run_mere("roles", "get", "reader", url=stub.url).stdout
    stub[f"GET {branch}/roles/reader/reveal_password"] = (200, {"password": "npg_1"})
    assert run_mere("roles", "password", "reader", url=stub.url).stdout == "npg_1\n"
    assert json.loads(run_mere("roles", "password", "reader", "--json", url=stub.url).stdout) == {"password": "npg_1"}
    stub[f"POST {branch}/roles/reader/reset_password"] = (200, {"role": {**role, "password": "npg_2"}, "operations": []})
    assert "npg_2" in run_mere("roles", "reset-password", "reader", url=stub.url).stdout
    stub[f"DELETE {branch}/roles/reader"] = (422, {"code": "invalid", "message": "it owns a database"})
    assert "it owns" in run_mere("roles", "delete", "reader", url=stub.url, expect=CONFLICT).stderr


def test_psql_missing(stub, tmp_path):
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": URI})
    assert "postgresql-client" in run_mere("psql", url=stub.url, env={"PATH": str(tmp_path)}, expect=FAILURE).stderr


# --- how a server of this machine is found -----------------------------------------------------------------------------------------


def state_file(runtime, name, url, key_file):
    place = pathlib.Path(runtime) / "mere" / name
    place.mkdir(parents=True)
    (place / "cli.json").write_text(json.dumps({"api": url, "key_file": str(key_file)}))
    return place / "cli.json"


def unshared(*what):
    """A wrap in which the other servers of this machine have left nothing to be found."""
    hide = 'for d in /run/mere /tmp/mere-*; do if [ -d "$d" ]; then mount -t tmpfs none "$d"; fi; done; exec "$@"'
    return ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", *what, "sh", "-c", hide, "sh"]


def can_unshare(wrap):
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("namespaces cannot be made here")
    return wrap


@pytest.fixture
def alone():
    return can_unshare(unshared())


@pytest.fixture
def no_network():
    """Nobody at all to be reached, whatever listens on this machine."""
    return can_unshare(unshared("-n"))


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "the.key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_state_file(stub, alone, tmp_path, key_file):
    state_file(tmp_path, "abc", stub.url, key_file)
    run_mere("projects", "list", key=None, env={"XDG_RUNTIME_DIR": str(tmp_path)}, wrap=alone)
    assert stub.seen[0][3]["Authorization"] == f"Bearer {SECRET}"


def test_of_several_the_one_that_answers(stub, alone, tmp_path, key_file):
    def cli(*words, **kw):
        return run_mere("projects", "list", *words, key=None, env={"XDG_RUNTIME_DIR": str(tmp_path)}, wrap=alone, **kw)

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        state_file(tmp_path, "killed", f"http://127.0.0.1:{s.getsockname()[1]}", key_file)
        state_file(tmp_path, "living", stub.url, key_file)
        cli()
    other = Stub()
    state_file(tmp_path, "second", other.url, key_file)
    assert "--api-url" in cli(expect=USAGE).stderr
    other["GET /projects"] = (200, {"projects": []})
    cli("--api-url", other.url + "/api/v2/")
    assert other.asked()[-1].startswith("GET /projects?")
    other.close()


def data_key(place):
    (place / "data").mkdir()
    (place / "data/admin.key").write_text(SECRET + "\n")
    return place / "data/admin.key"


def test_key_in_the_data_directory(stub, alone, tmp_path):
    data_key(tmp_path)
    run_mere("projects", "list", key=None, cwd=tmp_path, url=stub.url, wrap=alone)
    assert stub.seen[0][3]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("state", [None, "http://127.0.0.1:{}", "http://localhost:{}", "http://0.0.0.0:{}", "http://[::]:{}", "http://[::1]:{}"])
def test_every_name_of_this_machine_gets_the_key(stub, alone, tmp_path, state):
    """Where the server has said where it is, and where it has not; the key in ./data, and the one that the server named."""
    path, port = data_key(tmp_path), stub.http.server_port
    if state:
        state_file(tmp_path, "abc", state.format(port), path)
    for cwd in [tmp_path] + [pathlib.Path("/")] * bool(state):
        for name in ("localhost", "127.0.0.1", "LOCALHOST"):
            run_mere("projects", "list", key=None, cwd=cwd, url=f"http://{name}:{port}/", env={"XDG_RUNTIME_DIR": str(tmp_path)}, wrap=alone)
            assert stub.seen[-1][3]["Authorization"] == f"Bearer {SECRET}"
        # Nobody listens there, but there is nothing wrong with the key.
        assert "no server answers" in run_mere("projects", "list", key=None, cwd=cwd, url=f"http://[::1]:{port}", wrap=alone, expect=UNREACHABLE,
                                               env={"XDG_RUNTIME_DIR": str(tmp_path)}).stderr


def test_the_key_of_another_server_of_this_machine_is_not_sent(stub, alone, tmp_path):
    """./data/admin.key is known to belong to another port."""
    state_file(tmp_path, "abc", "http://127.0.0.1:1", data_key(tmp_path))
    done = run_mere("projects", "list", key=None, cwd=tmp_path, url=stub.url, env={"XDG_RUNTIME_DIR": str(tmp_path)}, wrap=alone, expect=AUTH)
    assert f"no key is known for {stub.url};" in done.stderr and "MERE_API_KEY" in done.stderr
    assert not [h for _, _, _, h in stub.seen if "Authorization" in h]


@pytest.mark.root
def test_a_data_directory_of_somebody_else(stub):
    place = scratch("mere-cli-")
    try:
        place.chmod(0o755)
        data_key(place)
        (place / "data").chmod(0o700)
        done = run_mere("projects", "list", key=None, cwd=place, url=stub.url, user="nobody", expect=AUTH)
        assert "data/admin.key cannot be read" in done.stderr and "sudo" in done.stderr
    finally:
        shutil.rmtree(place)


def test_nobody_there_is_not_a_missing_key(alone, tmp_path):
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        assert f"no server answers at {url}" in run_mere("projects", "list", key=None, url=url, cwd=tmp_path, wrap=alone, expect=UNREACHABLE).stderr
    data_key(tmp_path)
    run_mere("projects", "list", key=None, url="http://127.0.0.1:1", cwd=tmp_path, wrap=alone, expect=UNREACHABLE)


def test_no_server_no_key(no_network, tmp_path):
    done = run_mere("projects", "list", key=None, cwd=tmp_path, wrap=no_network, expect=UNREACHABLE)
    assert "no server answers at http://127.0.0.1:7432" in done.stderr and "make run" in done.stderr


def test_a_key_that_was_found_stays_on_this_machine(tmp_path):
    data_key(tmp_path)
    for url in ("http://db.example.com:7432", "http://127.0.0.1@example.com", "http://127.0.0.1.example.com", "http://localhost:1@example.com",
                "http://127.0.0.1:7432x", "http://[::1]x:1", "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.2:7432"):
        assert "no key is known for" in run_mere("projects", "list", key=None, cwd=tmp_path, url=url, expect=AUTH).stderr


def test_key_file_flag(stub, key_file):
    run_mere("projects", "list", "--api-key-file", str(key_file), url=stub.url, key="wrong")
    assert stub.seen[0][3]["Authorization"] == f"Bearer {SECRET}"
    assert "no key can be read" in run_mere("projects", "list", "--api-key-file", "/nonexistent", url=stub.url, expect=AUTH).stderr


@pytest.mark.root
@pytest.mark.parametrize("what", ["file", "directory"])
def test_state_of_a_stranger_is_not_believed(stub, alone, tmp_path, key_file, what):
    state = state_file(tmp_path, "abc", stub.url, key_file)
    stranger = pwd.getpwnam("nobody")
    os.chown(state if what == "file" else state.parent, stranger.pw_uid, stranger.pw_gid)
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    run_mere("projects", "list", key=None, cwd=tmp_path, env=env, wrap=alone, url=stub.url, expect=AUTH)
    assert [(m, p) for m, p, _, _ in stub.seen] == [("GET", "/livez")] and "Authorization" not in stub.seen[0][3]
    run_mere("projects", "list", key=None, cwd=tmp_path, env=env, wrap=can_unshare(unshared("-n")), expect=UNREACHABLE)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"api": 1, "key_file": 2}', '{"api": "http://127.0.0.1:1"}', "x" * 10000])
def test_damaged_state_is_passed_over(stub, alone, tmp_path, key_file, text):
    state_file(tmp_path, "abc", stub.url, key_file).write_text(text)
    run_mere("projects", "list", key=None, cwd=tmp_path, env={"XDG_RUNTIME_DIR": str(tmp_path)}, url=stub.url, wrap=alone, expect=AUTH)


# --- a real server -----------------------------------------------------------------------------------------------------------------


def databases_and_roles(cli):
    password = cli("roles", "create", "reader").stdout.split("PASSWORD")[1].split()[0]
    assert cli("roles", "password", "reader").stdout == password + "\n"
    assert "--role NAME" in cli("url", expect=USAGE).stderr
    cli("databases", "create", "app", "--role", "reader")
    assert "2 databases: app, neondb" in cli("url", "--role", "reader", expect=USAGE).stderr
    uri = cli("url", "--database", "app", "--role", "reader").stdout.strip()
    assert password in uri
    assert subprocess.run(["psql", uri, "-X", "-A", "-t", "-c", "select 6 * 7"], capture_output=True, text=True, check=True).stdout == "42\n"
    assert cli("databases", "get", "app").stdout.split()[3] == "reader"
    assert [r["name"] for r in json.loads(cli("roles", "list", "--json").stdout)["roles"]] == ["neondb_owner", "reader"]
    assert "owns database" in cli("roles", "delete", "reader", expect=CONFLICT).stderr
    assert password not in cli("roles", "reset-password", "reader").stdout
    cli("databases", "delete", "app")
    cli("roles", "delete", "reader")
    cli("roles", "get", "reader", expect=NOT_FOUND)
    cli("url")


def test_first_session(mere):
    """The session that `make run` prints, results checked; the key travels by file."""
    def cli(*words, **kw):
        return run_mere(*words, "--api-key-file", str(mere.data / "admin.key"), url=mere.api_url, key=None, **kw)

    def sql(branch, text):
        return run_mere("psql", branch, "--", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text, url=mere.api_url, key=mere.key).stdout.strip()

    made = cli("projects", "create", "--name", "hello").stdout
    project = made.split()[1]
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: cli("projects", "delete", project, "--hard"))
        sql("main", "create table t as select generate_series(1, 10) as n")
        assert "PARENT LSN" in cli("branches", "create", "--name", "dev").stdout
        sql("dev", "delete from t where n > 3")
        assert (sql("dev", "select count(*) from t"), sql("main", "select count(*) from t")) == ("3", "10")
        assert "already exists" in cli("branches", "create", "dev", expect=CONFLICT).stderr
        cli("branches", "get", "nobody", expect=NOT_FOUND)
        run_mere("branches", "list", url=mere.api_url, key="napi_wrong", expect=AUTH)
        assert json.loads(cli("endpoints", "suspend", "dev", "--json").stdout)["endpoint"]["current_state"] == "idle"
        assert sql("dev", "select count(*) from t") == "3"
        cli("endpoints", "restart", "dev")
        assert [o for o in json.loads(cli("operations", "list", "--json").stdout)["operations"] if o["action"] == "start_compute"]
        assert "cannot be deleted" in cli("branches", "delete", "main", expect=CONFLICT).stderr
        assert cli("branches", "delete", "dev").stderr == "branch dev deleted\n"
        assert 'branch not found: "dev"' in cli("branches", "get", "dev", expect=NOT_FOUND).stderr
        databases_and_roles(cli)
    assert project not in cli("projects", "list").stdout


def test_what_is_kept(mere):
    """Deleted and recovered, expiring, snapshots, bookmarks."""
    def cli(*words, **kw):
        return run_mere(*words, "--api-key-file", str(mere.data / "admin.key"), url=mere.api_url, key=None, **kw)

    def get(*words):
        return json.loads(cli(*words, "--json").stdout)

    project = cli("projects", "create", "--name", "kept").stdout.split()[1]
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: cli("projects", "delete", project, "--hard"))
        made = get("branches", "create", "dev", "--ttl", "2h", "--no-endpoint")["branch"]
        assert made["ttl_interval_seconds"] == 7200
        assert get("branches", "update", "dev", "--ttl", "7d")["branch"]["ttl_interval_seconds"] == 7 * 86400
        assert "expires_at" not in get("branches", "update", "dev", "--expires-at", "never", "--name", "dev2")["branch"]
        assert "--ttl must be" in cli("branches", "update", "dev2", "--ttl", "1w", expect=USAGE).stderr
        cli("branches", "update", "dev2", expect=USAGE)
        cli("branches", "delete", "dev2")
        assert made["id"] in cli("branches", "list", "--deleted").stdout and made["id"] not in cli("branches", "list").stdout
        assert get("branches", "recover", "dev2")["branch"]["id"] == made["id"]
        cli("branches", "delete", "dev2", "--hard")
        cli("branches", "recover", "dev2", expect=NOT_FOUND)
        snapshot = get("snapshots", "create", "--name", "s 1")["snapshot"]
        assert snapshot["id"] in cli("snapshots", "list").stdout
        assert get("snapshots", "restore", snapshot["id"], "--name", "back")["branch"]["restored_from"] == snapshot["id"]
        assert cli("snapshots", "delete", snapshot["id"]).stderr == f"snapshot {snapshot['id']} deleted\n"
        mark = get("bookmarks", "set", "v1", "--hold", "--ttl", "1h")["bookmark"]
        assert mark["hold"] is True and mark["expires_at"] and mark["lsn"] in cli("bookmarks", "list", "--branch", "main").stdout
        assert cli("bookmarks", "delete", "v1").stderr == "bookmark v1 deleted\n"
        cli("bookmarks", "delete", "v1", expect=NOT_FOUND)


def test_a_local_server_is_found(new_mere):
    """By the file it leaves where only we can write, and no longer after it stopped."""
    m = new_mere().start()
    name = hashlib.sha256(os.urandom(8)).hexdigest()[:8]
    env = {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", "")}
    run_mere("projects", "create", "--name", name, "--api-url", m.api_url, key=None, env=env)
    assert name in run_mere("projects", "list", "--api-url", m.api_url, key=None, env=env).stdout
    run_mere("projects", "delete", name, "--hard", "--api-url", m.api_url, key=None, env=env)
    m.stop()
    run_mere("projects", "list", "--api-url", m.api_url, key=None, env=env, cwd="/", expect=UNREACHABLE)
