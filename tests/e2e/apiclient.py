"""
A client of the REST API that looks at every answer and keeps a record for tools/check_api.py.

With MERE_API_RECORD=FILE the calls are appended to FILE, which may be that of several runs.
"""
import importlib.util
import json
import urllib.parse
import os
import pathlib

from harness.server import ROOTED, until


def load_checker():
    spec = importlib.util.spec_from_file_location("check_api", pathlib.Path(__file__).resolve().parents[2] / "tools/check_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_api = load_checker()


def record(path, method, target, status, headers, request, reply):
    """One line of the record.  A body that is no JSON is left out: no document says anything about it."""
    line = {"method": method, "path": target, "status": status, "type": headers.get("content-type", ""), "reply": reply}
    if isinstance(request, (bytes, str)):
        try:
            request = json.loads(request)
        except (ValueError, RecursionError):
            request = None
    if request is not None:
        line["request"] = request
    with open(path, "a", encoding="utf-8") as f:
        f.write(json.dumps(line) + "\n")


def nulls(value, where=""):
    """Pointers of everything that is null."""
    if value is None:
        return [where or "/"]
    if isinstance(value, dict):
        return [n for k, v in value.items() for n in nulls(v, f"{where}/{k}")]
    if isinstance(value, list):
        return [n for i, v in enumerate(value) for n in nulls(v, f"{where}/{i}")]
    return []


class Client:
    """Wraps a server under test; what holds for every answer is checked here."""

    def __init__(self, mere, path):
        self.mere, self.path = mere, os.environ.get("MERE_API_RECORD") or str(path)

    def request(self, method, path, body=None, **kw):
        status, headers, reply = self.mere.request(method, path, body, **kw)
        target = path if path.startswith(ROOTED) else "/api/v2" + path
        record(self.path, method, target, status, headers, body, reply)
        if status == 304:
            assert reply is None and "content-type" not in headers, (method, path, headers, reply)
            return status, headers, reply
        wanted = ("text/plain; charset=utf-8", "text/html; charset=utf-8") if isinstance(reply, str) else ("application/json",)
        assert headers["content-type"] in wanted, (method, path, headers)
        assert headers["x-neon-ret-request-id"] == headers["x-request-id"]
        assert target == "/openapi.json" or nulls(reply) == [], (method, path, reply)  # which speaks of null
        assert status != 423 and status != 500, (method, path, status, reply)
        if status >= 400:
            assert reply["message"] and reply["detail"] == reply["message"] and reply["status"] == status, reply
            assert reply["request_id"] == headers["x-request-id"]
        return status, headers, reply

    def ok(self, method, path, body=None, expect=(200, 201), **kw):
        status, _, reply = self.request(method, path, body, **kw)
        assert status in expect, (method, path, status, reply)
        return reply

    def wait(self, reply):
        """Waits for the operations of an answer, in the way clients do: one by one, with the project id they carry."""
        for o in reply["operations"]:
            got = self.ok("GET", f"/projects/{o['project_id']}/operations/{o['id']}?wait=true&timeout=60")["operation"]
            assert got["status"] in ("finished", "skipped"), got
        return reply

    def refused(self, method, path, body=None, status=422, code=None, pointer=None, text=None, **kw):
        got, headers, reply = self.request(method, path, body, **kw)
        assert got == status, (method, path, body, got, reply)
        if code is not None:
            assert reply["code"] == code, reply
        if pointer is not None:
            assert [e["pointer"] for e in reply.get("errors", [])] == [pointer], reply
        if text is not None:
            assert text in reply["message"], reply
        return headers, reply


def enc(text):
    return urllib.parse.quote(text, safe="")


def counts(mere):
    """How much there is of everything: bad input must change nothing.  What earlier tests left under way may still ask for more, so it is waited for."""
    until(lambda: not mere.rows("SELECT id FROM operation WHERE status IN ('scheduling', 'running')"), 60, "what is under way")
    tables = ("project", "branch", "endpoint", "role", "database", "operation", "api_key")  # images are swept in the background
    return {t: mere.rows(f"SELECT count(*) AS n FROM {t}")[0]["n"] for t in tables}
