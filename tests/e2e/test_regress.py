"""Postgres's own regression suite, directly and through mere-proxy: the same result, test by test and byte by byte.  `make regress`."""
import contextlib
import difflib
import os
import re
import shutil
import subprocess

import pytest

from harness.cluster import BINDIR
from harness.server import ROOT

SUITES = sorted((ROOT / "build/regress").glob("[0-9]*[0-9]"))
PG_REGRESS = f"{BINDIR}/../lib/pgxs/src/test/regress/pg_regress"
LINE = re.compile(r"^(?:test|    ) +(\S+) +\.\.\. (ok|FAILED|failed \(ignored\))", re.M)
PASSWORD = "of the suite"


@pytest.fixture
def suite(workdir):
    """A copy that the compute's user can read."""
    if not SUITES:
        pytest.skip("the suite is not there: make regress")
    shutil.copytree(SUITES[-1], workdir / "given")
    return workdir / "given"


def run(branch, suite, out, host, port, **environ):
    """(what came of each test, what each printed)."""
    uid = branch.pgdata().stat().st_uid
    out.mkdir()
    os.chown(out, uid, -1)
    argv = [PG_REGRESS, f"--inputdir={suite / 'suite'}", f"--outputdir={out}", f"--bindir={BINDIR}", f"--dlpath={suite}", f"--host={host}", f"--port={port}",
            "--user=suite", "--max-concurrent-tests=20", f"--schedule={suite / 'suite/parallel_schedule'}"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    with open(out / "log", "wb") as log:
        subprocess.run(argv, cwd=out, user=uid, stdout=log, stderr=log, timeout=1800, check=False,
                       env={**env, "HOME": str(out), "PGPASSWORD": PASSWORD, **environ})
    said = (out / "log").read_text()
    came = dict(LINE.findall(said))
    assert len(came) > 150, said[-3000:]
    return came, {f.stem: f.read_text(errors="replace") for f in (out / "results").glob("*.out")}


@pytest.mark.slow
def test_the_same_result_as_without_it(mere, project, suite, workdir):
    """Each way on a branch of its own, with a superuser that only a test has."""
    main = project.main
    main.patch_endpoint(suspend_timeout_seconds=-1)
    assert main.value("SELECT 1") == 1
    with contextlib.closing(main.admin()) as admin, admin.cursor() as cur:
        cur.execute(f"CREATE ROLE suite SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    main.suspend()  # then the role is known
    branches = [project.branch(main, settings={"suspend_timeout_seconds": -1}) for _ in range(2)]
    for b in branches:
        assert b.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", user="suite", password=PASSWORD, database="postgres")
    direct = run(branches[0], suite, workdir / "direct", branches[0].socket_dir(), 5432)
    through = run(branches[1], suite, workdir / "through", mere.pg_host, mere.pg_port, PGOPTIONS=f"endpoint={branches[1].endpoint_id}", PGSSLMODE="require")
    failed = [sorted(name for name, came in way[0].items() if came != "ok") for way in (direct, through)]
    other = {name: "\n".join(list(difflib.unified_diff(direct[1][name].splitlines(), through[1].get(name, "").splitlines(), "direct", "through", lineterm=""))[:30])
             for name in direct[1] if direct[1][name] != through[1].get(name)}
    print(f"{len(direct[0])} tests; failed directly {failed[0]}, through mere-proxy {failed[1]}; printed something else: {sorted(other)}")
    assert direct[0].keys() == through[0].keys()
    assert failed[0] == failed[1], "\n".join(other.values())
    assert not other, "\n".join(other.values())
