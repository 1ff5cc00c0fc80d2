"""The mere command: what is meant where nothing was said (environment, .mere, the user's file), and how it talks to people."""
import os
import pathlib
import signal
import subprocess
import threading

import pytest

from harness.cli import (AUTH, FAILURE, NOT_FOUND, OK, PROJECT, SECRET, TIMED_OUT, USAGE, Stub, Terminal, created, environment, operation, run_mere,
                         stub)  # noqa: F401
from harness.server import binaries

OTHER = "new-yellow-11111111"
URI = "postgresql://o:p@127.0.0.1:7433/neondb"


@pytest.fixture
def there(stub):
    """Two projects with a branch dev; `main` is the default one."""
    for project in (PROJECT, OTHER):
        stub[f"GET /projects/{project}/branches/dev"] = (200, {"branch": {"id": "br-d-d-12345678", "name": "dev"}})
        stub[f"GET /projects/{project}/branches"] = (200, {"branches": [{"id": "br-m-m-12345678", "name": "main", "default": True}]})
        stub[f"GET /projects/{project}/connection_uri"] = (200, {"uri": URI})
        stub[f"GET /projects/{project}/branches/dev/roles"] = (200, {"roles": []})
        stub[f"GET /projects/{project}/branches/br-m-m-12345678/roles"] = (200, {"roles": []})
    return stub


# --- .mere -----------------------------------------------------------------------------------------------------------------------


def test_checkout_pins_a_branch_to_a_directory(there, tmp_path):
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    done = run_mere("checkout", "dev", url=there.url, cwd=tmp_path)
    assert ".mere says branch dev" in done.stderr and done.stdout == ""
    assert f"project = {PROJECT}\nbranch = dev\n" in (tmp_path / ".mere").read_text()
    run_mere("url", url=there.url, cwd=below)
    assert there.asked()[-1] == f"GET /projects/{PROJECT}/connection_uri?branch_id=dev"
    run_mere("roles", "list", url=there.url, cwd=below)
    assert there.asked()[-1] == f"GET /projects/{PROJECT}/branches/dev/roles"
    run_mere("branches", "get", url=there.url, cwd=below)
    assert there.asked()[-1] == f"GET /projects/{PROJECT}/branches/dev"
    assert not [a for a in there.asked()[-3:] if a.startswith("GET /projects?")], "the project is known"
    # Written again from below, it is the same file that changes.
    run_mere("checkout", "dev", "--project", OTHER, url=there.url, cwd=below)
    assert f"project = {OTHER}" in (tmp_path / ".mere").read_text() and not (below / ".mere").exists()


@pytest.mark.parametrize("words, env, path", [
    (["main"], {}, f"/projects/{PROJECT}/connection_uri?branch_id=main"),
    (["--branch", "main"], {"MERE_BRANCH": "x"}, f"/projects/{PROJECT}/connection_uri?branch_id=main"),
    ([], {"MERE_BRANCH": "x"}, f"/projects/{PROJECT}/connection_uri?branch_id=x"),
    (["--project", PROJECT], {}, f"/projects/{PROJECT}/connection_uri?branch_id=dev"),
    (["--project", OTHER], {}, f"/projects/{OTHER}/connection_uri"),
    ([], {"MERE_PROJECT": OTHER}, f"/projects/{OTHER}/connection_uri")])
def test_what_was_said_comes_before_the_file(there, tmp_path, words, env, path):
    """And a pinned branch is one of its own project only."""
    (tmp_path / ".mere").write_text(f"project = {PROJECT}\nbranch = dev\n")
    run_mere("url", *words, url=there.url, cwd=tmp_path, env=env)
    assert there.asked()[-1] == "GET " + path


def test_without_a_file_nothing_is_pinned(there, tmp_path):
    run_mere("url", url=there.url, cwd=tmp_path)
    assert there.asked()[-1] == f"GET /projects/{PROJECT}/connection_uri"


def test_checkout_makes_a_branch_when_told_to(there, tmp_path):
    assert "--create" in run_mere("checkout", "nope", url=there.url, cwd=tmp_path, expect=NOT_FOUND).stderr
    assert not (tmp_path / ".mere").exists() and not there.bodies("POST")
    there[f"POST /projects/{PROJECT}/branches"] = created("finished")
    run_mere("checkout", "new", "--create", "--ttl", "1h", url=there.url, cwd=tmp_path)
    assert there.bodies("POST") == [{"branch": {"name": "new", "ttl_seconds": 3600}, "endpoints": [{"type": "read_write"}]}]
    assert "branch = dev" in (tmp_path / ".mere").read_text(), "what the server calls it"
    run_mere("checkout", "dev", "--create", url=there.url, cwd=tmp_path)
    assert len(there.bodies("POST")) == 1, "it is there"


@pytest.mark.parametrize("text, says", [
    ("branch dev\n", "line 1"), ("brunch = dev\n", "unknown setting"), ("branch = a\nbranch = b\n", "already set"),
    ("api-url = http://evil.example\n", "unknown setting"), (b"branch = \xff\n", "UTF-8"), (b"branch = a\0b\n", "not a text file")])
def test_a_damaged_file_is_an_error(there, tmp_path, text, says):
    (tmp_path / ".mere").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run_mere("url", url=there.url, cwd=tmp_path, expect=USAGE)
    assert says in done.stderr and str(tmp_path / ".mere") in done.stderr
    run_mere("url", "dev", "--project", PROJECT, url=there.url, cwd=tmp_path)


def test_a_directory_of_that_name_is_none_of_ours(there, tmp_path):
    (tmp_path / ".mere").mkdir()
    run_mere("url", url=there.url, cwd=tmp_path)


def test_a_file_that_cannot_be_written_is_said(there, tmp_path):
    (tmp_path / ".mere.tmp").mkdir()
    assert "was not changed" in run_mere("checkout", "dev", url=there.url, cwd=tmp_path, expect=FAILURE).stderr


@pytest.mark.root
def test_the_file_of_a_stranger_is_not_believed(there, tmp_path):
    (tmp_path / ".mere").write_text(f"project = {PROJECT}\nbranch = dev\n")
    os.chown(tmp_path / ".mere", 65534, 65534)
    assert "belongs to somebody else" in run_mere("url", url=there.url, cwd=tmp_path, expect=USAGE).stderr
    run_mere("url", "main", "--project", PROJECT, url=there.url, cwd=tmp_path)


# --- the user's file -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    """Writes the user's file; the environment in which it is that."""
    def write(text):
        path = tmp_path / "config/mere/config"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    return write


@pytest.fixture
def key_file(tmp_path):
    (tmp_path / "key").write_text(SECRET + "\n")
    return tmp_path / "key"


def test_server_key_and_project_of_the_users_file(there, config, key_file):
    env = config(f"# mine\napi-url = {there.url}\napi-key-file = {key_file}\nproject = {OTHER}\n")
    run_mere("url", key=None, env=env)
    assert there.asked() == [f"GET /projects/{OTHER}/connection_uri"]
    assert there.seen[-1][3]["Authorization"] == f"Bearer {SECRET}"
    run_mere("url", key=None, env=env | {"MERE_PROJECT": PROJECT})
    assert there.asked()[-1] == f"GET /projects/{PROJECT}/connection_uri"
    run_mere("url", key="other", env=env)
    assert there.seen[-1][3]["Authorization"] == "Bearer other"


def test_below_home_when_nothing_else_is_said(there, tmp_path, key_file):
    (tmp_path / ".config/mere").mkdir(parents=True)
    (tmp_path / ".config/mere/config").write_text(f"api-url = {there.url}\napi-key-file = {key_file}\n")
    run_mere("projects", "list", key=None, env={"XDG_CONFIG_HOME": "", "HOME": str(tmp_path)})


def test_the_key_of_the_users_file_is_for_its_server_only(there, config, key_file):
    env = config(f"api-url = http://db.example.com\napi-key-file = {key_file}\n")
    done = run_mere("projects", "list", url=there.url, key=None, env=env, expect=AUTH)
    assert "no key is known" in done.stderr and not [h for _, _, _, h in there.seen if "Authorization" in h]
    env = config(f"api-key-file = {key_file}\n")
    assert "no key is known" in run_mere("projects", "list", url="http://db.example.com", key=None, env=env, expect=AUTH).stderr
    run_mere("projects", "list", url=there.url, key=None, env=env)


@pytest.mark.parametrize("text", ["api-key = napi_x\n", "timeout\n", "branch = dev\n"])
def test_a_damaged_users_file_is_an_error(there, config, text):
    assert "config line 1" in run_mere("projects", "list", url=there.url, env=config(text), expect=USAGE).stderr


def test_a_key_on_standard_input(there, tmp_path):
    fake = tmp_path / "psql"
    fake.write_text("#!/bin/sh\ncat\n")
    fake.chmod(0o755)
    done = run_mere("psql", "--api-key-file", "-", url=there.url, key="wrong", stdin=SECRET + "\nselect 1\n", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert there.seen[-1][3]["Authorization"] == f"Bearer {SECRET}"
    assert done.stdout == "select 1\n", "the rest is the program's"
    for text in ("", "\n", "\r\nkey\n"):
        assert "no key in its first line" in run_mere("url", "--api-key-file", "-", url=there.url, stdin=text, expect=AUTH).stderr


# --- people ----------------------------------------------------------------------------------------------------------------------------


def test_a_terminal_is_asked_before_a_deletion(there):
    there[f"DELETE /projects/{PROJECT}/branches/dev"] = (200, {"branch": {"id": "br-d-d-12345678"}, "operations": []})
    for answer in ("n\n", "\n", "\x04", "no\n"):
        t = Terminal("branches", "delete", "dev", url=there.url)
        t.read_until("[y/N]")
        t.type(answer)
        assert t.end(FAILURE) == "" and "nothing was done" in t.text
    assert not [a for a in there.asked() if a.startswith("DELETE")]
    t = Terminal("branches", "delete", "dev", url=there.url)
    t.read_until("mere branches delete dev: ")
    t.type("y\n")
    t.end()
    assert there.asked()[-1].startswith("DELETE") and "branch dev deleted" in t.text


@pytest.mark.parametrize("words, says", [(["--yes"], "branch dev deleted"), (["--no-input"], "branch dev deleted"), (["--yes", "--quiet"], "")])
def test_who_has_said_so_is_not_asked(there, words, says):
    there[f"DELETE /projects/{PROJECT}/branches/dev"] = (200, {"branch": {"id": "br-d-d-12345678"}, "operations": []})
    t = Terminal("branches", "delete", "dev", *words, url=there.url)
    t.end()
    assert t.text.strip() == says


def test_quiet_says_errors_only(there):
    there[f"DELETE /projects/{PROJECT}/branches/dev"] = (200, {"branch": {}, "operations": []})
    assert run_mere("branches", "delete", "dev", "--quiet", url=there.url).stderr == ""
    assert run_mere("branches", "delete", "nope", "--quiet", url=there.url, expect=NOT_FOUND).stderr != ""
    run_mere("branches", "delete", "dev", "--wait", "--no-wait", url=there.url, expect=USAGE)
    run_mere("branches", "list", "--yes", url=there.url, expect=USAGE)


@pytest.mark.parametrize("words, env, red", [([], {}, True), (["--no-color"], {}, False), ([], {"NO_COLOR": "1"}, False), ([], {"TERM": "dumb"}, False)])
def test_colours(there, words, env, red):
    t = Terminal("branches", "get", "nope", *words, url=there.url, **env)
    t.end(NOT_FOUND)
    assert ("\x1b[" in t.text) == red and "mere:" in t.text


class Slow:
    """An operation that goes on until somebody lets it end; long polls are held like the server holds them."""

    def __init__(self, stub):
        self.asked, self.over = threading.Event(), threading.Event()
        stub[f"POST /projects/{PROJECT}/branches"] = created("running")
        stub[f"GET /projects/{PROJECT}/operations/{operation('')['id']}"] = self.answer

    def answer(self):
        self.asked.set()
        over = self.over.wait(20)
        return 200, {"operation": operation("finished" if over else "running")}


@pytest.fixture
def slow(stub):
    s = Slow(stub)
    yield s
    s.over.set()


def test_progress_is_shown_on_a_terminal_after_a_second(stub, slow):
    t = Terminal("branches", "create", "dev", url=stub.url)
    t.read_until("create_branch, ")
    slow.over.set()
    assert "br-a-b-12345678" in t.end()
    assert t.text.endswith("\r\x1b[K"), "and is wiped away"


@pytest.mark.parametrize("words, env", [(["--quiet"], {}), ([], {"TERM": "dumb"})])
def test_progress_is_not_shown_where_nobody_wants_it(stub, slow, words, env):
    t = Terminal("branches", "create", "dev", "--timeout", "2", *words, url=stub.url, **env)
    slow.asked.wait(20)
    threading.Timer(2.5, slow.over.set).start()  # longer than what would be told
    t.end()
    assert t.text == ""


def test_ctrl_c_ends_the_waiting_and_not_the_work(stub, slow):
    p = subprocess.Popen([str(binaries() / "mere"), "branches", "create", "dev"], env=environment(stub.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, cwd="/")
    assert slow.asked.wait(20)
    p.send_signal(signal.SIGINT)
    out, said = p.communicate(timeout=20)
    assert (p.returncode, out) == (TIMED_OUT, "")
    assert said == f"mere: stopped waiting for create_branch, which goes on: mere operations get {operation('')['id']}\n"


def test_ctrl_c_twice_ends_at_once(stub, slow):
    p = subprocess.Popen([str(binaries() / "mere"), "branches", "create", "dev"], env=environment(stub.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, cwd="/")
    assert slow.asked.wait(20)
    # Stopped, it takes both at once when it goes on.
    for signo in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        p.send_signal(signo)
    out, said = p.communicate(timeout=20)
    assert p.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM) and (out, said) == ("", "")


def test_after_the_waiting_things_are_shown_as_they_are_then(stub):
    stub[f"POST /projects/{PROJECT}/branches"] = created("running")
    stub[f"GET /projects/{PROJECT}/operations/{operation('')['id']}"] = (200, {"operation": operation("finished")})
    stub[f"GET /projects/{PROJECT}/branches/br-a-b-12345678"] = (200, {"branch": {"id": "br-a-b-12345678", "name": "dev", "current_state": "ready"}})
    assert "ready" in run_mere("branches", "create", "dev", url=stub.url).stdout
    text = run_mere("branches", "create", "dev", "--json", url=stub.url).stdout
    assert '"current_state": "ready"' in text and '"status": "finished"' in text and '"status": "running"' not in text
    stub[f"GET /projects/{PROJECT}/branches/br-a-b-12345678"] = (404, {"message": "gone"})
    assert "br-a-b-12345678" in run_mere("branches", "create", "dev", url=stub.url).stdout
