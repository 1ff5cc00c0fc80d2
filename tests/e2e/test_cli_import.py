"""mere import: a running Postgres into a branch, whole or not at all."""
import json
import pathlib
import signal
import subprocess

import pytest

from harness.cli import CONFLICT, FAILURE, PROJECT, USAGE, environment, run_mere, stub  # noqa: F401
from harness.server import binaries, until

SOURCE = "postgresql://me:s3cr%40t@127.0.0.1:1/shop"


def programs(tmp_path, **scripts):
    """Programs that stand for what is hard to provoke, in front of PATH; each notes its words and what it finds in its environment."""
    for name, script in scripts.items():
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$0" "$@" >>{tmp_path}/words\nprintf "%s\\n" "$PGPASSWORD" >>{tmp_path}/{name}.password\n{script}\n')
        path.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


@pytest.fixture
def server(stub):
    stub[f"GET /projects/{PROJECT}"] = (200, {"project": {"pg_version": 15}})
    stub[f"POST /projects/{PROJECT}/branches"] = (201, {"branch": {"id": "br-a-b-12345678", "name": "dev"}, "operations": []})
    stub[f"GET /projects/{PROJECT}/branches/br-a-b-12345678/roles"] = (200, {"roles": [{"name": "o"}]})
    stub[f"POST /projects/{PROJECT}/branches/br-a-b-12345678/databases"] = (201, {"database": {"name": "shop"}, "operations": []})
    stub[f"GET /projects/{PROJECT}/connection_uri"] = (200, {"uri": "postgresql://o:t%40rget@127.0.0.1:7433/shop?sslmode=require"})
    stub[f"DELETE /projects/{PROJECT}/branches/br-a-b-12345678"] = (200, {"branch": {}, "operations": []})
    return stub


DELETED = f"DELETE /projects/{PROJECT}/branches/br-a-b-12345678?hard_delete=true"
PSQL = "echo 150004"
DUMP = '[ "$1" != --version ] || { echo "pg_dump (PostgreSQL) 15.4 (Debian)"; exit; }\n'


def test_passwords_are_in_no_words(server, tmp_path):
    env = programs(tmp_path, psql=PSQL, pg_dump=DUMP + "head -c 300000 /dev/zero", pg_restore=f"cat >{tmp_path}/loaded")
    shown = run_mere("import", "-", "--branch", "new", url=server.url, env=env, stdin=SOURCE + "\n").stdout
    assert "300000" in shown and (tmp_path / "loaded").stat().st_size == 300000
    words = (tmp_path / "words").read_text()
    assert "s3cr" not in words and "rget" not in words and "postgresql://me@127.0.0.1:1/shop" in words.splitlines()
    assert (tmp_path / "pg_dump.password").read_text().splitlines()[-1] == "s3cr@t" and (tmp_path / "pg_restore.password").read_text() == "t@rget\n"
    assert [b for b in server.bodies("POST")] == [{"branch": {"name": "new"}, "endpoints": [{"type": "read_write"}]}, {"database": {"name": "shop", "owner_name": "o"}}]
    assert DELETED not in server.asked()
    made = json.loads(run_mere("import", SOURCE, "--json", url=server.url, env=env).stdout)
    assert made["database"] == "shop" and made["bytes"] == 300000 and made["branch"]["id"] == "br-a-b-12345678"


@pytest.mark.parametrize("dump, restore, says", [
    ("echo 'pg_dump: error: permission denied for table t' >&2; exit 1", "cat >/dev/null; exit 1", "the source cannot be dumped: permission denied for table t"),
    ("exec cat /dev/zero", 'head -c 9 >/dev/null; echo "pg_restore: while X:" >&2; echo "pg_restore: error: no room" >&2; exit 1', "the dump cannot be loaded: no room"),
    ("echo x", "cat >/dev/null; echo 'pg_restore: error: not an archive' >&2; exit 1", "the dump cannot be loaded: not an archive"),
    ("echo x; kill -9 $$", "cat >/dev/null", "the source cannot be dumped: pg_dump ended with status 137")])
def test_a_failure_leaves_no_branch(server, tmp_path, dump, restore, says):
    env = programs(tmp_path, psql=PSQL, pg_dump=DUMP + dump, pg_restore=restore)
    assert says in run_mere("import", SOURCE, url=server.url, env=env, expect=FAILURE).stderr
    assert server.asked()[-1] == DELETED


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(server, tmp_path, signo):
    env = programs(tmp_path, psql=PSQL, pg_dump=DUMP + f"echo $$ >{tmp_path}/pid; exec cat /dev/zero", pg_restore="exec cat >/dev/null")
    p = subprocess.Popen([str(binaries() / "mere"), "import", SOURCE], env=environment(server.url, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, cwd="/")
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), 20, "pg_dump")
    p.send_signal(signo)
    assert p.communicate(timeout=30) == ("", "mere: stopped\n") and p.returncode == 128 + signo
    assert server.asked()[-1] == DELETED and not pathlib.Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize("psql, project, code, says", [
    ("echo 180001", 15, CONFLICT, "the source is Postgres 18 and the project 15"),
    ("echo 970001", 98, FAILURE, "the source is Postgres 97, and pg_dump here is 15; on Debian: apt-get install postgresql-client-97"),
    ("echo eighteen", 15, FAILURE, "nothing that is a version"),
    ("echo 'psql: error: connection refused' >&2; exit 2", 15, FAILURE, "the source cannot be read: connection refused")])
def test_versions_are_looked_at_first(server, tmp_path, psql, project, code, says):
    server[f"GET /projects/{PROJECT}"] = (200, {"project": {"pg_version": project}})
    env = programs(tmp_path, psql=psql, pg_dump=DUMP, pg_restore="")
    assert says in run_mere("import", SOURCE, url=server.url, env=env, expect=code).stderr
    assert not server.bodies("POST")


@pytest.mark.parametrize("url, says", [
    ("shop", "no connection string"), ("host=x dbname=y", "no connection string"), ("postgresql://me:100%@h/d", "percent-encoded"),
    ("postgresql://h/d?password=x", "before the @")])
def test_usage(server, url, says):
    assert says in run_mere("import", url, url=server.url, expect=USAGE).stderr
    assert says in run_mere("import", "-", url=server.url, stdin=url + "\n", expect=USAGE).stderr
    assert "first line" in run_mere("import", "-", url=server.url, expect=USAGE).stderr
    assert not server.bodies("POST")


def test_from_one_project_into_another(mere, project):
    """The real programs; what is loaded is what was dumped, and a second time into the same database leaves nothing behind."""
    def cli(*words, **kw):
        return run_mere(*words, url=mere.api_url, key=mere.key, **kw)

    with project.main.connect() as c, c.cursor() as cur:
        cur.execute("create table t (n int primary key, x text); insert into t select i, repeat('x', i % 100) from generate_series(1, 20000) i;"
                    "create view v as select count(*) as n, sum(length(x)) as l from t; create sequence s start 7")
    source = cli("url", "--project", project.id).stdout.strip()
    other = mere.create_project("target")
    try:
        made = json.loads(cli("import", source, "--project", other.id, "--branch", "loaded", "--database", "shop", "--json").stdout)
        told = cli("psql", "loaded", "--project", other.id, "--database", "shop", "--", "-X", "-A", "-t", "-c", "select n, l from v", "-c", "select nextval('s')").stdout
        assert told.split() == ["20000|{}".format(sum(i % 100 for i in range(1, 20001))), "7"] and made["bytes"] > 1000000
        again = cli("import", source, "--project", other.id, "--parent", "loaded", "--branch", "again", "--database", "shop", expect=FAILURE)
        assert "the dump cannot be loaded" in again.stderr and "already exists" in again.stderr
        names = [b["name"] for b in json.loads(cli("branches", "list", "--project", other.id, "--deleted", "--json").stdout)["branches"]]
        assert sorted(names) == ["loaded", "main"]
    finally:
        other.delete()
