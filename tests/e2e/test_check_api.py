"""The checker of recorded calls can see: each kind of disagreement with openapi.yaml, forced and caught.  No server is needed."""
import copy
import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

from apiclient import check_api

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPERATIONS = len(re.findall(r"(?m)^ +operationId: ", (ROOT / "openapi.yaml").read_text()))
UUID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def checker():
    return check_api


@pytest.fixture(scope="module")
def loaded():
    return yaml.safe_load((ROOT / "openapi.yaml").read_text())


@pytest.fixture
def document(loaded):
    """One to spoil."""
    return copy.deepcopy(loaded)


REGION = {"region_id": "local", "name": "here", "default": True, "geo_lat": "0", "geo_long": "0"}
GOOD = {"method": "GET", "path": "/api/v2/regions", "status": 200, "type": "application/json", "reply": {"regions": [REGION]}}
KEY = {"method": "POST", "path": "/api/v2/api_keys", "status": 200, "type": "application/json", "request": {"key_name": "x"},
       "reply": {"id": 1, "key": "napi_" + "a" * 64, "name": "x", "created_at": "2026-01-01T00:00:00Z", "created_by": UUID}}
PAGE = {"method": "GET", "path": "/api/v2/projects?limit=10", "status": 200, "type": "application/json",
        "reply": {"projects": [], "applications": {}, "integrations": {}}}


@pytest.mark.parametrize("call, change, says", [
    (GOOD, {"reply": {"regions": [{**REGION, "default": "true"}]}}, "/regions/0/default: \"true\" is no boolean"),
    (GOOD, {"reply": {"regions": {}}}, "/regions: {} is no array"),
    (GOOD, {"reply": {"regions": [{k: v for k, v in REGION.items() if k != "name"}]}}, "/regions/0: name is missing"),
    (GOOD, {"reply": {}}, ": regions is missing"),
    (GOOD, {"reply": {"regions": [{**REGION, "name": None}]}}, "/regions/0/name: null is no string"),
    (GOOD, {"reply": {"regions": [{**REGION, "colour": "red"}]}}, "/regions/0: colour is not in the document"),
    (GOOD, {"status": 404}, "region_list does not list the status 404"),
    (GOOD, {"status": 423}, "region_list does not list the status 423"),
    (GOOD, {"type": "text/plain"}, "the answer is 'text/plain', not application/json"),
    (GOOD, {"status": 401}, ": request_id is missing"),
    (GOOD, {"method": "PUT"}, "200 for another method"),
    (GOOD, {"path": "/api/v2/nothing"}, "200 for an unknown path"),
    (GOOD, {"path": "/api/v2/nothing", "status": 404}, ": message is missing"),
    (KEY, {"reply": {**KEY["reply"], "id": True}}, "/id: true is no integer"),
    (KEY, {"reply": {**KEY["reply"], "key": "hunter2"}}, "/key: \"hunter2\" does not look like ^napi_[a-z0-9]{64}$"),
    (KEY, {"request": {"key_name": "x", "scope": 1}}, "accepted, but request: scope is not in the document"),
    (KEY, {"request": {}}, "accepted, but request: key_name is missing"),
    (KEY, {"request": None}, "accepted, but the body is required"),
    (PAGE, {"path": "/api/v2/projects?limit=401"}, "accepted, but query limit: 401 is out of range"),
    (PAGE, {"path": "/api/v2/projects?recoverable=maybe"}, "accepted, but query recoverable: \"maybe\" is no boolean")])
def test_the_checker_sees(checker, document, call, change, says):
    contract = checker.Contract(document)
    assert contract.check(call) == []
    assert says in contract.check({**call, **change})


def test_the_checker_misses_operations_that_nobody_called(checker, document, tmp_path):
    contract = checker.Contract(document)
    assert len(contract.never_hit()) == len(contract.operations) == OPERATIONS
    contract.check({**GOOD, "status": 401})
    assert "region_list" in contract.never_hit()
    contract.check(GOOD)
    assert "region_list" not in contract.never_hit() and "project_list" in contract.never_hit()
    (tmp_path / "calls.jsonl").write_text(json.dumps(GOOD) + "\n")
    for words, code in ((["--partial"], 0), ([], 1)):
        got = subprocess.run([sys.executable, str(ROOT / "tools/check_api.py"), *words, tmp_path / "calls.jsonl"], capture_output=True, text=True, check=False)
        assert got.returncode == code and ("project_list was never called with success" in got.stdout) == bool(code)


def test_the_checker_reads_the_document_too(checker, document):
    assert checker.Contract(document).check_document() == []
    regions, schemas = document["paths"]["/api/v2/regions"]["get"], document["components"]["schemas"]
    limits, key = document["paths"]["/api/v2/projects/{project_id}/limits"], document["paths"]["/api/v2/api_keys"]["post"]
    for node, name, value, says in ((regions["responses"], "401", None, "region_list: it does not list ['401']"),
                                    (regions["responses"], "200", None, "region_list: it must list one status of success"),
                                    (key["responses"], "422", None, "apikey_create: it does not list ['422']"),
                                    (limits, "parameters", [], "project_limits: its path parameters are declared as []"),
                                    (schemas, "Uuid", {"type": "object", "required": ["a"]}, "/components/schemas/Uuid: a is required and not described"),
                                    (schemas, "Quota", None, "#/components/schemas/Quota is not there")):
        kept = copy.deepcopy(node)
        node.pop(name)
        if value is not None:
            node[name] = value
        found = checker.Contract(document).check_document() if says[0] != "#" else list(checker.dead_references(document, document))
        assert any(says in text for text in found), found
        node.clear()
        node.update(kept)
    schemas["Uuid"]["format"] = "uuid"
    with pytest.raises(SystemExit, match="format"):
        checker.Contract(document).check_document()
