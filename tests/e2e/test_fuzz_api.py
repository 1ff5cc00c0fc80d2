"""
Requests that openapi.yaml describes, and such as nobody describes, over all operations: whatever comes, the answer is one that the
document lists, no 5xx, and the connection stays.
"""
import http.client
import json
import random
import string
import threading
import urllib.parse

import pytest
import yaml

from apiclient import check_api
from test_api import ROOT

THREADS = 4
TEXTS = ["", " ", "main", "dev", "x" * 70, "x" * 1100, "ä", "\u202e", "a/b", "..", "%", "'", "\"", "\\", "0/16B3748", "2030-01-01T00:00:00Z", "br-a-b-12345678",
         "null", "-1", "1e9", "true", "\x7f", "a\u0000b", "\U0001f418"]
NUMBERS = [0, 1, -1, 2, 60, 300, 0.25, 1.5, 2**31, 2**53, 2**63, -2**63, 10**30, 1e308]
# What a run must not do to itself: the project that all requests are of goes, and the key they come with.
SPARED = {"project_delete", "apikey_revoke"}


class Generator:
    def __init__(self, seed, contract):
        self.r, self.schemas = random.Random(seed), contract.schemas

    def text(self):
        if self.r.random() < 0.5:
            return self.r.choice(TEXTS)
        return "".join(self.r.choices(string.printable + "äß€𝄞", k=self.r.randrange(1, 40)))

    def anything(self, depth=0):
        kind = self.r.randrange(7 if depth < 3 else 5)
        if kind == 5:
            return [self.anything(depth + 1) for _ in range(self.r.randrange(4))]
        if kind == 6:
            return {self.text(): self.anything(depth + 1) for _ in range(self.r.randrange(4))}
        return [None, True, self.r.choice(NUMBERS), self.text(), self.r.choice(NUMBERS)][kind]

    def value(self, schema):
        """Mostly one that fits."""
        schema = self.schemas.flat(schema)
        if self.r.random() < 0.06:
            return self.anything()
        if "oneOf" in schema:
            return self.value(self.r.choice(schema["oneOf"]))
        if "enum" in schema:
            return self.r.choice(schema["enum"])
        kinds = schema.get("type", "object")
        kind = self.r.choice(kinds) if isinstance(kinds, list) else kinds
        if kind == "object":
            required, members = schema.get("required", []), schema.get("properties", {})
            made = {name: self.value(inner) for name, inner in members.items() if name in required or self.r.random() < 0.3}
            if isinstance(schema.get("additionalProperties"), dict):
                made |= {self.text(): self.value(schema["additionalProperties"]) for _ in range(self.r.randrange(3))}
            return made
        if kind == "array":
            return [self.value(schema.get("items", {})) for _ in range(self.r.randrange(3))]
        if kind == "integer":
            return self.r.choice([n for n in NUMBERS if isinstance(n, int)])
        return {"string": self.text, "number": lambda: self.r.choice(NUMBERS), "boolean": lambda: self.r.random() < 0.5, "null": lambda: None}[kind]()

    def body(self, operation):
        if "requestBody" not in operation or self.r.random() < 0.1:
            return self.r.choice([None, None, b"", b"{}", b"[]", b"{", b"\xff\xfe"])
        if self.r.random() < 0.1:
            return bytes(self.r.randrange(256) for _ in range(self.r.randrange(60)))
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        return json.dumps(self.value(schema) if self.r.random() < 0.9 else self.anything(), ensure_ascii=self.r.random() < 0.5).encode("utf-8", "replace")

    def target(self, pattern, operation, known):
        path = pattern
        for p in operation["parameters"]:
            if p["in"] == "path":
                there = known.get(p["name"], []) if self.r.random() < 0.75 else []
                path = path.replace("{%s}" % p["name"], urllib.parse.quote(self.r.choice(there) if there else self.text() or "x", safe=""))
        query = [(p["name"], self.value(p["schema"])) for p in operation["parameters"] if p["in"] == "query" and (p.get("required") or self.r.random() < 0.2)]
        query = [(name, str(v).lower() if isinstance(v, bool) else str(v)) for name, v in query]
        return path + ("?" + urllib.parse.urlencode(query) if query else "")

    def headers(self, operation):
        offered = {"If-Match": ['"x"', "*", "", '"a.b", "c"'], "If-None-Match": ["*", '"x"'], "Prefer": ["wait=0", "wait=1", "wait=-1", "wait"],
                   "Idempotency-Key": ["k", "", "x" * 300, f"k{self.r.randrange(50)}"]}
        names = [p["name"] for p in operation["parameters"] if p["in"] == "header"]
        return {name: self.r.choice(offered[name]) for name in names if self.r.random() < 0.15}


def one(conn, mere, contract, g, pattern, method, operation, known):
    """What is wrong with one answer."""
    target, body = g.target(pattern, operation, known), g.body(operation)
    headers = {"Authorization": f"Bearer {mere.key}", "Content-Type": "application/json", **g.headers(operation)}
    call = {"method": method.upper(), "path": target}
    shown = f"{call['method']} {target} {body!r} {headers}"
    try:
        conn.request(call["method"], target, body=body, headers=headers)
        answer = conn.getresponse()
        raw = answer.read()
    except (OSError, http.client.HTTPException) as e:
        conn.close()
        return [f"{shown}: the connection broke: {e!r}"]
    try:
        call["request"] = json.loads(body) if body else None
    except (ValueError, RecursionError):
        call["request"] = None
    call |= {"status": answer.status, "type": answer.getheader("Content-Type", "")}
    call["reply"] = json.loads(raw) if call["type"].startswith("application/json") else raw.decode() or None
    found = [] if answer.status < 500 else [f"status {answer.status} {call['reply']}"]
    return [f"{shown}: {text}" for text in found + contract.check(call)]


def fuzz(mere, project, seed, n):
    contract = check_api.Contract(yaml.safe_load((ROOT / "openapi.yaml").read_text()))
    places = [(pattern, method, contract.find(method, pattern)[0]) for pattern, item in contract.schemas.document["paths"].items()
              for method in check_api.METHODS if method in item]
    places = [p for p in places if p[2]["operationId"] not in SPARED]
    endpoint = project.main.endpoint_id
    known = {"project_id": [project.id], "branch_id": ["main", project.main.id, "dev"], "endpoint_id": [endpoint], "role_name": ["neondb_owner"],
             "database_name": ["neondb"], "bookmark_name": ["mark"], "extension_name": ["hstore", "citext"], "org_id": ["org-mere-local-00000001"],
             "code": ["invalid"]}
    found, lock = [], threading.Lock()

    def run(thread):
        g = Generator(f"{seed}/{thread}", contract)
        conn = http.client.HTTPConnection(mere.host, mere.port, timeout=90)
        for i in range(n // THREADS):
            pattern, method, operation = places[(i * THREADS + thread) % len(places)]
            wrong = one(conn, mere, contract, g, pattern, method, operation, known)
            with lock:
                found.extend(wrong)
        conn.close()

    threads = [threading.Thread(target=run, args=(t,)) for t in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return found


@pytest.mark.expect_log("")  # what is asked for at random may fail, and the log says why
@pytest.mark.parametrize("seed, n", [("a", 2000), *(pytest.param(s, 20000, marks=pytest.mark.slow) for s in ("b", "c", "d"))])
def test_whatever_comes(new_mere, seed, n):
    mere = new_mere()
    mere.start()
    project = mere.create_project()
    project.branch(name="dev")
    found = fuzz(mere, project, seed, n)
    assert not found, f"{len(found)} findings\n" + "\n".join(sorted(found, key=len)[:15])
    assert mere.is_running() and mere.request("GET", "/readyz")[0] == 200


def test_the_fuzzer_sees(mere, project):
    """A document that leaves out what is answered, or describes another answer, is found at once."""
    contract = check_api.Contract(yaml.safe_load((ROOT / "openapi.yaml").read_text()))
    place = "/api/v2/projects/{project_id}", "get", contract.find("get", "/api/v2/projects/x")[0]
    conn = http.client.HTTPConnection(mere.host, mere.port, timeout=30)
    known = {"project_id": [project.id]}

    def found():
        return [w for seed in range(20) for w in one(conn, mere, contract, Generator(seed, contract), *place, known)]

    assert found() == []
    contract.schemas.document["components"]["schemas"]["Error"]["properties"].pop("instance")
    assert any("instance is not in the document" in w for w in found())
    place[2]["responses"].pop("404")
    assert any("does not list the status 404" in w for w in found())
    mere_that_is_gone = http.client.HTTPConnection(mere.host, 1, timeout=5)
    assert any("the connection broke" in w for w in one(mere_that_is_gone, mere, contract, Generator(1, contract), *place, known))
    conn.close()
