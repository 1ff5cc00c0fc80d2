"""mere run: a program on a branch of its own, which is there for as long as the program runs."""
import json
import os
import signal
import subprocess

import pytest

from harness.cli import CONFLICT, OK, PROJECT, SECRET, USAGE, created, environment, operation, run_mere, stub  # noqa: F401
from harness.server import binaries, until

BRANCH = "br-a-b-12345678"
URI = "postgresql://o:p%40ss@127.0.0.1:7433/neondb?sslmode=require&options=endpoint%3Dep-a-b-12345678"
DELETED = f"DELETE /projects/{PROJECT}/branches/{BRANCH}?hard_delete=true"
ASKED = ("DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGOPTIONS", "PGHOSTADDR", "PGSERVICE", "MERE_PROJECT", "MERE_BRANCH")
SHOW = ["python3", "-c", f"import json, os; print(json.dumps({{k: os.environ.get(k) for k in {ASKED}}}))"]


@pytest.fixture
def server(stub):
    stub[f"POST /projects/{PROJECT}/branches"] = created("finished")
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": URI})
    stub[f"DELETE /projects/{PROJECT}/branches/{BRANCH}"] = (200, {"branch": {}, "operations": []})
    for name in ("main", "stage"):
        stub[f"GET /projects/{PROJECT}/branches/{name}"] = (200, {"branch": {"id": f"br-{name}-x-12345678"}})
    return stub


def test_the_program_finds_its_branch(server):
    got = json.loads(run_mere("run", "--", *SHOW, url=server.url, env={"PGHOSTADDR": "192.0.2.1", "PGSERVICE": "x", "PGUSER": "me"}).stdout)
    assert got == {"DATABASE_URL": URI, "PGHOST": "127.0.0.1", "PGPORT": "7433", "PGUSER": "o", "PGPASSWORD": "p@ss", "PGDATABASE": "neondb", "PGSSLMODE": "require",
                   "PGOPTIONS": "endpoint=ep-a-b-12345678", "PGHOSTADDR": None, "PGSERVICE": None, "MERE_PROJECT": PROJECT, "MERE_BRANCH": BRANCH}
    assert server.bodies("POST") == [{"branch": {"ttl_seconds": 3600}, "endpoints": [{"type": "read_write"}]}]
    assert server.asked()[-1] == DELETED


@pytest.mark.parametrize("words, branch", [
    (["--from", "main"], {"parent_id": "br-main-x-12345678", "ttl_seconds": 3600}),
    (["--from", "main@0/16B3748", "--ttl", "5m", "--name", "t"],
     {"parent_id": "br-main-x-12345678", "ttl_seconds": 300, "parent_lsn": "0/16B3748", "name": "t"}),
    (["--from", "stage@2025-01-16T21:02:01Z"], {"parent_id": "br-stage-x-12345678", "ttl_seconds": 3600, "parent_timestamp": "2025-01-16T21:02:01Z"}),
    (["--expires-at", "2099-01-16T21:02:01Z"], {"expires_at": "2099-01-16T21:02:01Z"})])
def test_from_where_and_for_how_long(server, words, branch):
    run_mere("run", *words, "--", "true", url=server.url)
    assert server.bodies("POST")[0]["branch"] == branch


def test_from_the_pinned_branch(server, tmp_path):
    (tmp_path / ".mere").write_text(f"project = {PROJECT}\nbranch = stage\n")
    run_mere("run", "--", "true", url=server.url, cwd=tmp_path)
    assert server.bodies("POST")[0]["branch"]["parent_id"] == "br-stage-x-12345678"


def go(server, *words, **kw):
    return subprocess.Popen([str(binaries() / "mere"), "run", *words], env=environment(server.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", **kw)


@pytest.mark.parametrize("program, status, says", [
    (["sh", "-c", "exit 0"], 0, ""), (["sh", "-c", "echo x >&2; exit 3"], 3, "x\n"), (["sh", "-c", "kill -9 $$"], 137, ""), (["sh", "-c", "kill -15 $$"], 143, ""),
    (["/nonexistent/program"], 127, 'mere: there is no program "/nonexistent/program"\n'), (["/etc/passwd"], 126, 'mere: "/etc/passwd" cannot be run: Permission denied\n')])
def test_it_exits_as_the_program_does_and_the_branch_is_gone(server, program, status, says):
    p = go(server, "--", *program)
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out, err) == (status, "", says)
    assert server.asked()[-1] == DELETED


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_are_handed_on(server, signo):
    """Those that reach us alone; the program decides what they mean."""
    p = go(server, "--", "python3", "-c", "import signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\nprint('ready', flush=True)\n"
                                          "sys.exit(40 + signal.sigwait({1, 2, 3, 10, 15}))")
    assert p.stdout.readline() == "ready\n"
    p.send_signal(signo)
    _, err = p.communicate(timeout=30)
    assert (p.returncode, err) == (40 + signo, "")
    assert server.asked()[-1] == DELETED


def test_a_signal_before_the_program_runs_ends_it_all(server):
    """While the branch is being made; the program never starts."""
    server[f"POST /projects/{PROJECT}/branches"] = created("running")
    server[f"GET /projects/{PROJECT}/operations/{operation('')['id']}"] = (200, {"operation": operation("running")})
    p = go(server, "--", "touch", "/nonexistent/x")
    until(lambda: any("/operations/" in a for a in server.asked()), 20, "waiting")
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out) == (143, "") and "stopped waiting" in err
    assert server.asked()[-1] == DELETED


def test_kept_when_the_program_failed(server):
    made = created("finished")
    made[1]["branch"]["expires_at"] = "2099-01-16T21:02:01Z"
    server[f"POST /projects/{PROJECT}/branches"] = made
    p = go(server, "--keep-on-failure", "--", "false")
    _, err = p.communicate(timeout=30)
    assert p.returncode == 1 and err == f"branch dev is kept until 2099-01-16T21:02:01Z: mere psql {BRANCH}\n"
    assert DELETED not in server.asked()
    p = go(server, "--keep-on-failure", "--", "true")
    assert (p.communicate(timeout=30)[1], p.returncode) == ("", OK) and server.asked()[-1] == DELETED


def test_what_cannot_be_deleted_is_said_and_the_status_is_the_programs(server):
    server[f"DELETE /projects/{PROJECT}/branches/{BRANCH}"] = (503, {"message": "the queue is full"})
    p = go(server, "--", "true")
    assert "branch dev was not deleted" in p.communicate(timeout=30)[1] and p.returncode == OK


def test_no_branch_no_program(server, tmp_path):
    server[f"POST /projects/{PROJECT}/branches"] = (422, {"message": "too many branches"})
    assert "too many" in run_mere("run", "--", "touch", str(tmp_path / "x"), url=server.url, expect=CONFLICT).stderr
    server[f"POST /projects/{PROJECT}/branches"] = created("finished")
    server[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": "http://nonsense"})
    run_mere("run", "--keep-on-failure", "--", "touch", str(tmp_path / "x"), url=server.url, expect=USAGE)
    assert server.asked()[-1] == DELETED and not (tmp_path / "x").exists()


@pytest.mark.parametrize("words, says", [([], "which program?"), (["--"], "which program?"), (["true"], "usage: mere run"), (["--ttl", "soon", "--", "true"], "--ttl must be")])
def test_usage(server, words, says):
    assert says in run_mere("run", *words, url=server.url, expect=USAGE).stderr
    assert not server.bodies("POST")


def test_on_a_real_server(mere, project):
    """A branch of it, its own rows, and nothing left; the password is nowhere to be read."""
    env = {"MERE_PROJECT": project.id}
    with project.main.connect() as c, c.cursor() as cur:
        cur.execute("create table t as select 1 as n")
    script = 'psql -X -A -t -q -c "insert into t values (2)" -c "select count(*) from t"; psql -X -A -t "$DATABASE_URL" -c "select max(n) from t"'
    done = run_mere("run", "--from", "main", "--", "sh", "-c", script, url=mere.api_url, key=mere.key, env=env)
    assert done.stdout.split() == ["2", "2"] and done.stderr == ""
    assert project.main.value("select count(*) from t") == 1
    left = json.loads(run_mere("branches", "list", "--deleted", "--json", url=mere.api_url, key=mere.key, env=env).stdout)["branches"]
    assert [b["name"] for b in left] == ["main"]
    nested = run_mere("run", "--", str(binaries() / "mere"), "branches", "get", "--json", url=mere.api_url, key=mere.key, env=env).stdout
    assert json.loads(nested)["branch"]["parent_id"] == project.main.id, "mere in it is about its branch"
