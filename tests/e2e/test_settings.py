"""
The allow-list of Postgres settings against Postgres itself: each row's type, unit and range, and that a compute starts with them.

The rows are read from the source: a row that the pattern does not understand fails the test instead of being left out.
"""
import contextlib
import re

import psycopg2
import pytest

from harness.server import ROOT, ApiError

UNITS = {"U_NONE": None, "U_KB": "kB", "U_8KB": "8kB", "U_MB": "MB", "U_MS": "ms", "U_S": "s"}
TYPES = {"S_BOOL": {"bool", "enum"}, "S_INT": {"integer"}, "S_REAL": {"real"}, "S_ENUM": {"enum"}, "S_ZONE": {"string"},
         "S_DATESTYLE": {"string"}, "S_LOCALE": {"string"}}
TEXTS = {"S_ZONE": ["America/New_York", "UTC", "Etc/GMT+5"], "S_DATESTYLE": ["SQL, DMY", "german", "postgres", "ymd"], "S_LOCALE": ["C.UTF-8", "C", "POSIX"],
         "S_BOOL": ["on", "off", "1", "0", "true", "false"]}
# Each of these takes memory at the start: at its most by itself.
HEAVY = ["max_connections", "max_locks_per_transaction", "max_worker_processes", "shared_buffers"]


class Row:
    def __init__(self, name, kind, unit, least, most, words, since):
        self.name, self.kind, self.unit, self.words, self.since = name, kind, UNITS[unit], words.split(",") if words else [], int(since)
        self.least, self.most = float(least), float(most)
        self.number = kind in ("S_INT", "S_REAL")


def rows():
    text = (ROOT / "src/pg/settings.c").read_text()
    table = re.search(r"SETTINGS\[\] = \{\n(.*?)\n\};", text, re.S).group(1)
    found = [Row(n, k, u, a, b, w, s) for n, k, u, a, b, w, s in re.findall(
        r'\{ "(\w+)",\s*(S_\w+),\s*(U_\w+),\s*([-\d.e]+),\s*([-\d.e]+),\s*(?:NULL|"([^"]*)"),\s*(\d+) \}', table)]
    assert len(found) == table.count('{ "') > 50
    return found


ROWS = rows()


def plain(v):
    return str(int(v)) if v == int(v) else repr(v)


@pytest.fixture(scope="module")
def version(mere):
    project = mere.create_project()
    with contextlib.closing(project.main.connect()) as conn:
        major = conn.server_version // 10000
    project.delete()
    return major


@pytest.fixture
def had(version):
    return [r for r in ROWS if r.since <= version]


def most(row, b):
    """Shared memory is bounded by the machine's, too: what the refusal says is the most."""
    if row.name != "shared_buffers":
        return plain(row.most)
    message = refused(b, row.name, plain(row.most + 1))
    return re.search(r" to (\S+); units", message).group(1)


def choose(b, settings):
    b.patch_endpoint(settings={"pg_settings": settings})


def refused(b, name, value):
    with pytest.raises(ApiError) as e:
        choose(b, {name: value})
    assert e.value.status == 422, e.value
    assert e.value.body["errors"][0]["pointer"] == f"/endpoint/settings/pg_settings/{name}", e.value.body
    assert name in e.value.body["message"], e.value.body
    return e.value.body["message"]


def starts_with(b, settings):
    """A compute with them starts, serves, and has taken them from its configuration file."""
    choose(b, settings)
    b.act("restart")
    with contextlib.closing(b.admin()) as conn, conn.cursor() as cur:
        cur.execute("SELECT lower(name), error, applied, setting FROM pg_file_settings")
        got = {}
        for name, error, applied, setting in cur.fetchall():
            assert error is None, (name, error, setting)
            if applied:
                got[name] = setting
    assert serves(b)
    for name, value in settings.items():
        assert got[name] == value.replace("read_committed", "read committed").replace("repeatable_read", "repeatable read"), name


def serves(b):
    """Settings may cut a session off at once (a timeout of 1 ms): a few tries."""
    for _ in range(20):
        with contextlib.suppress(psycopg2.Error):
            if b.value("SELECT 1") == 1:
                return True
    return False


def test_rows_agree_with_postgres(project, had, version):
    assert project.main.value("SELECT 1") == 1
    with contextlib.closing(project.main.admin()) as conn, conn.cursor() as cur:
        cur.execute("SELECT lower(name), vartype, unit, min_val, max_val, enumvals FROM pg_settings")
        theirs = {r[0]: r[1:] for r in cur.fetchall()}
    for r in had:
        kind, unit, least, greatest, words = theirs[r.name]
        assert kind in TYPES[r.kind], (r.name, kind)
        assert unit == r.unit, (r.name, unit)
        if r.number:
            assert float(least) <= r.least <= r.most <= float(greatest), (r.name, least, greatest)
        if r.words:
            assert {w.replace("read_committed", "read committed").replace("repeatable_read", "repeatable read") for w in r.words} <= set(words), (r.name, words)
    for r in ROWS:
        if r.since > version:
            assert r.name not in theirs, r.name


def test_limits_are_limits(project, had):
    b = project.main
    for r in had:
        if not r.number:
            refused(b, r.name, "no such value")
            continue
        step = 1 if r.kind == "S_INT" else 0.5
        refused(b, r.name, plain(r.least - step))
        refused(b, r.name, plain(r.most * 1.01 + 1 if r.kind == "S_REAL" else r.most + 1))
        if r.unit:
            refused(b, r.name, "1 parsec")
        choose(b, {r.name: plain(r.least)})
        choose(b, {r.name: most(r, b)})


def test_it_starts_with_the_least_of_all(project, had):
    settings = {r.name: plain(r.least) for r in had if r.number}
    settings.update({r.name: TEXTS[r.kind][0] for r in had if r.kind in TEXTS})
    settings.update({r.name: r.words[0] for r in had if r.words})
    starts_with(project.main, settings)


def test_it_starts_with_the_most_of_all(project, had):
    b = project.main
    settings = {r.name: most(r, b) for r in had if r.number and r.name not in HEAVY}
    settings.update({r.name: TEXTS[r.kind][-1] for r in had if r.kind in TEXTS})
    settings.update({r.name: r.words[-1] for r in had if r.words})
    starts_with(b, settings)


@pytest.mark.parametrize("name", HEAVY)
def test_it_starts_with_the_most_of(project, had, name):
    row = next(r for r in had if r.name == name)
    starts_with(project.main, {name: most(row, project.main)})


def test_every_word_and_text_starts(project, had):
    b = project.main
    choices = {r.name: r.words or TEXTS.get(r.kind, []) for r in had}
    for i in range(max(len(c) for c in choices.values())):
        starts_with(b, {n: c[i] for n, c in choices.items() if i < len(c)})


def test_numbers_with_and_without_units(project, had):
    """In the middle of each range, alone and with every unit that fits: what the server has is what was meant."""
    b = project.main
    bare = {"max_wal_size": ("1024", "1GB"), "checkpoint_timeout": ("90", "90s"), "autovacuum_naptime": ("120", "2min"), "shared_buffers": ("2048", "16MB"),
            "work_mem": ("8192", "8MB"), "statement_timeout": ("60000", "1min"), "temp_buffers": ("256", "2MB"), "effective_cache_size": ("131072", "1GB"),
            "deadlock_timeout": ("2500", "2500ms"), "max_connections": ("2e1", "20"), "temp_file_limit": ("1048576", "1GB")}
    starts_with(b, {n: v[0] for n, v in bare.items()})
    assert {n: b.value(f"SHOW {n}") for n in bare} == {n: v[1] for n, v in bare.items()}
    united = {"max_wal_size": ("1.5GB", "1536MB"), "checkpoint_timeout": ("1.5min", "90s"), "shared_buffers": ("16777216B", "16MB"),
              "statement_timeout": ("0.5 h", "30min"), "work_mem": ("0.25GB", "256MB"), "deadlock_timeout": ("2500000us", "2500ms")}
    starts_with(b, {n: v[0] for n, v in united.items()})
    assert {n: b.value(f"SHOW {n}") for n in united} == {n: v[1] for n, v in united.items()}


@pytest.mark.parametrize("name, value", [
    ("checkpoint_timeout", "100000"), ("timezone", "Mars/Base"), ("timezone", "right/UTC"), ("datestyle", "foo"), ("datestyle", "iso, sql"),
    ("lc_monetary", "xx_YY"), ("max_connections", "010"), ("max_locks_per_transaction", "08"), ("statement_timeout", "24.855134814d")])
def test_what_would_keep_it_from_starting_is_refused(project, name, value):
    refused(project.main, name, value)
    refused_as_default = project.mere.request("POST", "/projects", {"project": {"default_endpoint_settings": {"pg_settings": {name: value}}}})
    assert refused_as_default[0] == 422, refused_as_default


def test_a_setting_of_a_later_version(mere, project, version):
    if version >= 17:
        pytest.skip("this Postgres has it")
    message = refused(project.main, "transaction_timeout", "5s")
    assert "Postgres 17" in message, message
    body = {"project": {"default_endpoint_settings": {"pg_settings": {"transaction_timeout": "5s"}}}}
    assert mere.request("POST", "/projects", body)[0] == 422
    assert mere.request("PATCH", f"/projects/{project.id}", body)[0] == 422
    fork = {"branch": {"parent_id": project.main.id}, "endpoints": [{"type": "read_write", "settings": {"pg_settings": {"transaction_timeout": "5s"}}}]}
    assert mere.request("POST", f"/projects/{project.id}/branches", fork)[0] == 422


def test_compute_units_are_echoed(api, p):
    """Whatever the machine can enforce."""
    made = api.ok("POST", p["path"] + "/branches", {"branch": {"name": "large"}, "endpoints": [
        {"type": "read_write", "autoscaling_limit_min_cu": 0.5, "autoscaling_limit_max_cu": 2}]})
    endpoint = f"{p['path']}/endpoints/{made['endpoints'][0]['id']}"
    assert [made["endpoints"][0][f"autoscaling_limit_{x}_cu"] for x in ("min", "max")] == [0.5, 2]
    api.ok("PATCH", endpoint, {"endpoint": {"branch_id": "large", "autoscaling_limit_min_cu": 1, "autoscaling_limit_max_cu": 8}})  # its branch, by name
    assert [api.ok("GET", endpoint)["endpoint"][f"autoscaling_limit_{x}_cu"] for x in ("min", "max")] == [1, 8]
    api.refused("PATCH", endpoint, {"endpoint": {"branch_id": "main"}}, code="not_supported", pointer="/endpoint/branch_id")
    api.wait(api.ok("DELETE", p["path"] + "/branches/large?hard_delete=true"))
