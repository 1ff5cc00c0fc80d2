"""Names: what is refused, and that whatever is not is that very name everywhere."""
import contextlib

import psycopg2
import pytest

from apiclient import counts, enc

HOSTILE = ["", " ", " x", "x ", "a\nb", "a\x1b[2Jb", "a\x7fb", "\u0085", "x" * 257, "ü" * 200, "\u202egnp.exe", "a\u200bb", "\u2066x", "x\ufeff"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names(api, mere, p, name):
    before = counts(mere)
    path = p["path"]
    api.refused("POST", "/projects", {"project": {"name": name}}, pointer="/project/name")
    api.refused("POST", path + "/branches", {"branch": {"name": name}}, pointer="/branch/name")
    api.refused("POST", path + "/branches/main/roles", {"role": {"name": name}}, pointer="/role/name")
    api.refused("POST", path + "/branches/main/databases", {"database": {"name": name, "owner_name": "neondb_owner"}}, pointer="/database/name")
    api.refused("POST", "/api_keys", {"key_name": name}, pointer="/key_name")
    if name:
        api.refused("GET", f"{path}/branches/{enc(name)}", status=404)
        api.refused("GET", f"{path}/branches/main/roles/{enc(name)}", status=404)
    assert counts(mere) == before


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_a_path_would_swallow(api, mere, p, name):
    before, path = counts(mere), p["path"]
    for target, body, pointer in (
            ("/projects", {"project": {"name": name}}, "/project/name"), ("/projects", {"project": {"branch": {"name": name}}}, "/project/branch/name"),
            ("/projects", {"project": {"branch": {"role_name": name}}}, "/project/branch/role_name"),
            ("/projects", {"project": {"branch": {"database_name": name}}}, "/project/branch/database_name"),
            (path + "/branches", {"branch": {"name": name}}, "/branch/name"), (path + "/branches/main/roles", {"role": {"name": name}}, "/role/name"),
            (path + "/branches/main/databases", {"database": {"name": name, "owner_name": "neondb_owner"}}, "/database/name")):
        api.refused("POST", target, body, pointer=pointer, text="may not be")
    api.refused("PATCH", path + "/branches/main", {"branch": {"name": name}}, pointer="/branch/name")
    api.refused("PATCH", path + "/branches/main/databases/neondb", {"database": {"name": name}}, pointer="/database/name")
    assert counts(mere) == before


def test_names_that_only_look_hostile(api, p):
    for name in ("'; DROP TABLE branch; --", "../../etc/passwd", "%2e%2e", "a\"b\\c", "<script>", "名前", "🦎", "x" * 256, "null", "-", "a=b;c", "...", ".x", "אבג", "a\u0301"):
        branch = api.ok("POST", p["path"] + "/branches", {"branch": {"name": name}})["branch"]
        assert branch["name"] == name
        assert api.ok("GET", f"{p['path']}/branches/{enc(name)}")["branch"]["id"] == branch["id"]
        api.refused("POST", p["path"] + "/branches", {"branch": {"name": name}}, status=409, text="branch already exists")
        api.wait(api.ok("DELETE", f"{p['path']}/branches/{enc(name)}"))


@pytest.mark.parametrize("name", ["a\"b'c\\d", "$$; DROP ROLE neondb_owner; --", "user@example.com", "%s%n", "ü" * 31 + "x", "all", "a=b c&d?e#f"])
def test_names_that_postgres_gets_to_see(api, p, name):
    """A role and a database of that name: made, reached through the proxy, and gone again."""
    path = f"{p['path']}/branches/main"
    api.wait(api.ok("POST", path + "/roles", {"role": {"name": name}}, expect=(201,)))
    api.wait(api.ok("POST", path + "/databases", {"database": {"name": name, "owner_name": name}}, expect=(201,)))
    uri = api.ok("GET", f"{p['path']}/connection_uri?database_name={enc(name)}&role_name={enc(name)}")["uri"]
    with contextlib.closing(psycopg2.connect(uri)) as conn, conn.cursor() as cur:
        cur.execute("SELECT current_database(), current_user, (SELECT count(*) FROM pg_roles WHERE rolname = 'neondb_owner')")
        assert cur.fetchone() == (name, name, 1)
    api.wait(api.ok("DELETE", f"{path}/databases/{enc(name)}"))
    api.wait(api.ok("DELETE", f"{path}/roles/{enc(name)}"))
    api.refused("GET", f"{path}/roles/{enc(name)}", status=404)
