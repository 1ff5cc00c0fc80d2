"""Completion and the manual page: what shells and readers are told comes from the tables that the command goes by."""
import os
import re
import shutil
import socket
import subprocess
import time

import pytest

from harness.cli import PROJECT, USAGE, environment, run_mere, stub  # noqa: F401
from harness.server import binaries


@pytest.fixture
def server(stub):
    stub[f"GET /projects/{PROJECT}/branches"] = (200, {"branches": [{"name": n, "current_state": "ready"} for n in ("main", "dev", "it's one", "t\tab")]})
    return stub


def offered(*words, url=None, **kw):
    done = run_mere("__complete", "--", *words, url=url, **kw)
    assert done.stderr == ""
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("words, among, not_among", [
    ([""], ["projects", "psql", "run"], ["__complete", "__man", "list"]),
    (["br"], ["branches"], ["projects"]),
    (["branches", ""], ["list", "create", "lsn"], ["psql"]),
    (["branch", "cre"], ["create"], ["list"]),
    (["branches", "create", "--"], ["--parent", "--json", "--no-wait"], ["--every", "--finalize"]),
    (["--json", "branches", ""], ["list"], []),
    (["--api-url", "http://x", "branches", ""], ["list"], []),
    (["projects", "delete", "x", "--"], ["--yes"], ["--parent"]),
    (["branches", "create", "--durability", ""], ["full", "relaxed"], ["list"]),
    (["branches", "create", "--durability="], [], ["list"]),
    (["branches", "create", "--durability", "=", "r"], ["relaxed"], ["full"]),
    (["projects", "list", "--api-key-file", ""], [":files"], []),
    (["completion", ""], ["bash", "zsh", "fish"], []),
    (["psql", "dev", "--", "-"], [], ["--json"]),
    (["xyzzyx", ""], [], ["list"]),
    ([], ["projects"], []),
])
def test_what_the_tables_know(words, among, not_among):
    got = offered(*words, url="http://127.0.0.1:1")
    assert set(among) <= set(got) and not set(not_among) & set(got)
    assert among or not got


@pytest.mark.parametrize("words, names", [
    (["psql", ""], ["main", "dev", "it's one"]), (["branches", "delete", "d"], ["dev"]), (["branches", "create", "--parent", "m"], ["main"]),
    (["roles", "list", "--branch", ""], ["main", "dev", "it's one"]), (["run", "--from", "de"], ["dev"]), (["restore", "dev", "ma"], ["main"]),
    (["endpoints", "start", "dev"], ["dev"]), (["--project", "sh"], ["shop"]), (["doctor", ""], ["shop"]), (["branches", "delete", "dev", ""], [])])
def test_what_the_server_knows(server, words, names):
    assert offered(*words, url=server.url) == names


def test_a_server_that_is_not_there_or_refuses_says_nothing(server):
    assert offered("psql", "", url="http://127.0.0.1:1") == []
    server[f"GET /projects/{PROJECT}/branches"] = (401, {"message": "no"})
    assert offered("psql", "", url=server.url) == []
    assert offered("psql", "", url="nonsense") == []


def test_a_server_that_hangs_holds_nobody_up():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        begun = time.monotonic()
        assert offered("psql", "", url=f"http://127.0.0.1:{s.getsockname()[1]}") == []
        assert time.monotonic() - begun < 5


def shell(name):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_scripts_are_ones(name):
    script = run_mere("completion", name, key=None).stdout
    subprocess.run([shell(name), "-n"], input=script, text=True, check=True)
    run_mere("completion", "csh", key=None, expect=USAGE)


def path_env(url):
    return environment(url, PATH=f"{binaries()}:{os.environ['PATH']}")


@pytest.mark.parametrize("line, wanted", [("mere branches cre", ["create"]), ("mere psql it", [r"it\'s\ one"]), ("mere branches create --durability=re", ["relaxed"]), ("mere nope ", [])])
def test_bash(server, line, wanted):
    script = f'''source <(mere completion bash)
words=({line!r}); COMP_LINE={line!r}
COMP_WORDS=($(sed 's/=/ = /' <<<"$COMP_LINE")); [ "${{COMP_LINE: -1}}" != " " ] || COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_mere; printf '%s\\n' "${{COMPREPLY[@]}}"'''
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=path_env(server.url), check=True)
    assert done.stdout.split("\n")[:-1] == (wanted or [""]) and done.stderr == ""


def test_fish(server):
    script = "mere completion fish | source; complete -C 'mere branches cre'; complete -C 'mere psql d'"
    done = subprocess.run([shell("fish"), "-c", script], capture_output=True, text=True, env=path_env(server.url), check=True)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["create", "dev"]


def test_zsh(server):
    """The function with the words that zsh would give it, and _describe in the place of zsh's own."""
    script = """compdef() { :; }; _describe() { print -l -- "${(@P)2}"; }
eval "$(mere completion zsh)"
words=(mere branches cre); CURRENT=3; _mere; words=(mere psql d); CURRENT=3; _mere"""
    done = subprocess.run([shell("zsh"), "-f", "-c", script], capture_output=True, text=True, env=path_env(server.url), check=True)
    assert done.stdout.splitlines()[0].startswith("create:branch off: a copy") and done.stdout.splitlines()[1:] == ["dev:ready"]


# --- the manual page -------------------------------------------------------------------------------------------------------------------


def page():
    return run_mere("__man", "--", "2026-01-31", key=None).stdout


def test_the_page_names_all_that_help_names():
    text = re.sub(r"\\f.", "", page()).replace("\\-", "-")
    for line in run_mere("--help").stdout.partition("Commands:")[2].splitlines():
        name = re.match(r"  (mere [a-z-]+(?: [a-z-]+)?|--[a-z-]+)", line)
        assert not name or name[1] in text, name[1]
    assert "__" not in text and "EXIT STATUS" in text and '"2026-01-31"' in text


@pytest.mark.parametrize("checker", [["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]])
def test_the_page_has_no_faults(tmp_path, checker):
    shell(checker[0])
    (tmp_path / "mere.1").write_text(page())
    done = subprocess.run([*checker, str(tmp_path / "mere.1")], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "" and (checker[0] == "man" or done.stdout == ""), done.stdout + done.stderr


def test_a_checker_sees_faults(tmp_path):
    shell("mandoc")
    (tmp_path / "mere.1").write_text(page() + ".NOSUCH macro\n")
    assert "NOSUCH" in subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(tmp_path / "mere.1")], capture_output=True, text=True, check=False).stdout
