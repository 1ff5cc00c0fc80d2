#!/usr/bin/python3
"""
Holds recorded calls of the API against openapi.yaml.

    check_api.py [--partial] RECORD…

A record is a file of lines, one JSON object a call: method, path (with query), status, type (Content-Type of the answer), request (the
body sent, when it was JSON) and reply.  An answer must be one that its operation lists, of its content type and its schema; a member that
the schema does not name is an error, so that the document cannot fall behind.  A request that was accepted, its query included, must be
one that the document allows.  An operation that no call carried out with success is an error too, unless --partial is given.

The document itself is looked at first: a reference to nothing, a schema that asks for a member it does not describe, a path parameter that
is not declared, an operation that leaves out an answer every operation can give.
"""
import json
import pathlib
import re
import sys
import urllib.parse

import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent
METHODS = ("get", "put", "post", "patch", "delete")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
# What may stand in a schema; a keyword that is not understood would be a check that is not made.
KEYWORDS = {"$ref", "type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "minimum", "maximum", "minLength",
            "maxLength", "minItems", "maxItems", "maxProperties", "allOf", "oneOf", "description", "default", "deprecated"}


class Schemas:
    def __init__(self, document):
        self.document = document

    def deref(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = {**target, **{k: v for k, v in node.items() if k not in ("$ref", "description", "deprecated")}}
        return node

    def flat(self, schema):
        """The schema with $ref followed and allOf merged."""
        schema = self.deref(schema)
        unknown = set(schema) - KEYWORDS
        if unknown:
            raise SystemExit(f"check_api: the schema keywords {sorted(unknown)} are not understood")
        if "allOf" not in schema:
            return schema
        merged = {"type": "object", "properties": {}, "required": []}
        for part in map(self.flat, schema["allOf"]):
            merged["properties"].update(part.get("properties", {}))
            merged["required"] += part.get("required", [])
        return merged

    def check(self, schema, value, where="", closed=True):
        """Sentences about what is wrong with the value."""
        schema = self.flat(schema)
        if "oneOf" in schema:
            tries = [self.check(one, value, where, closed) for one in schema["oneOf"]]
            return min(tries, key=len)  # none when one of them fits
        found = []
        types = schema.get("type")
        if types and not any(is_type(value, t) for t in ([types] if isinstance(types, str) else types)):
            return [f"{where or '/'}: {short(value)} is no {types}"]
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{where}: {short(value)} is not one of {schema['enum']}")
        if isinstance(value, str):
            found += self._text(schema, value, where)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < schema.get("minimum", value) or value > schema.get("maximum", value):
                found.append(f"{where}: {value} is out of range")
        elif isinstance(value, list):
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
                found.append(f"{where}: {len(value)} items")
            for i, item in enumerate(value):
                found += self.check(schema.get("items", {}), item, f"{where}/{i}", closed)
        elif isinstance(value, dict):
            found += self._object(schema, value, where, closed)
        return found

    @staticmethod
    def _text(schema, value, where):
        found = []
        if "pattern" in schema and not re.search(schema["pattern"], value, re.ASCII):
            found.append(f"{where}: {short(value)} does not look like {schema['pattern']}")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            found.append(f"{where}: {len(value)} characters")
        return found

    def _object(self, schema, value, where, closed):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        found = [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        if len(value) > schema.get("maxProperties", len(value)):
            found.append(f"{where}: {len(value)} members")
        for name, member in value.items():
            if name in properties:
                found += self.check(properties[name], member, f"{where}/{name}", closed)
            elif isinstance(more, dict):
                found += self.check(more, member, f"{where}/{name}", closed)
            elif more is False or (more is None and closed and properties):
                found.append(f"{where}: {name} is not in the document")
        return found


def is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def short(value):
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "…"


def as_query(schema, text):
    """What a text in a query stands for, where it stands for something; else the text."""
    if schema.get("type") == "integer" and re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    return {"true": True, "false": False}.get(text, text) if schema.get("type") == "boolean" else text


class Contract:
    def __init__(self, document):
        self.schemas = Schemas(document)
        self.operations, self.hit = [], set()
        for pattern, item in self.schemas.document["paths"].items():
            regex = re.compile("^" + re.sub(r"\\{[a-z_]+\\}", "([^/]+)", re.escape(pattern)) + "$")
            for method in METHODS:
                if method in item:
                    parameters = [self.schemas.deref(x) for x in item.get("parameters", []) + item[method].get("parameters", [])]
                    self.operations.append((pattern.count("{"), regex, method, {**item[method], "parameters": parameters}))
        self.operations.sort(key=lambda o: o[0])  # a fixed segment beats a parameter

    def find(self, method, path):
        """The operation, and whether the path exists at all."""
        fitting = [o for o in self.operations if o[1].match(path)]
        fitting = [o for o in fitting if o[1] == fitting[0][1]]
        return next((o[3] for o in fitting if o[2] == method.lower()), None), bool(fitting)

    def error_schema(self):
        return {"$ref": "#/components/schemas/Error"}

    def check_document(self):
        """Sentences about the document itself."""
        found = list(dead_references(self.schemas.document, self.schemas.document))
        if found:
            return found
        for where, schema in every_schema(self.schemas.document):
            flat = self.schemas.flat(schema)
            found += [f"{where}: {name} is required and not described" for name in flat.get("required", [])
                      if name not in flat.get("properties", {})]
        for pattern, item in self.schemas.document["paths"].items():
            for method in set(METHODS) & set(item):
                operation = self.find(method, pattern)[0]
                found += [f"{operation['operationId']}: {text}" for text in operation_defects(pattern, operation)]
        return sorted(found)

    def check(self, call):
        path = urllib.parse.urlsplit(call["path"]).path
        operation, known = self.find(call["method"], path)
        status, kind = call["status"], call.get("type", "").split(";")[0]
        response = operation["responses"].get(str(status)) if operation else None
        contents = self.schemas.deref(response).get("content", {}) if response else {"application/json": {}}
        if response and not contents:
            self.hit.add(operation["operationId"])
            return [f"the answer has content of the type {kind!r}"] if kind else []
        if kind not in contents:
            return [f"the answer is {call.get('type')!r}, not {' or '.join(contents)}"]
        if operation is None:
            if status != (405 if known else 404):
                return [f"{status} for {'another method' if known else 'an unknown path'}"]
            return self.schemas.check(self.error_schema(), call.get("reply"))
        if response is None:
            return [f"{operation['operationId']} does not list the status {status}"]
        found = self.schemas.check(contents[kind]["schema"], call.get("reply"), "")
        if status < 300:
            self.hit.add(operation["operationId"])
            found += [f"accepted, but {f}" for f in self.check_request(operation, call) + self.check_query(operation, call["path"])]
        return found

    def check_query(self, operation, target):
        """Parameters that the document does not name are ignored by the server, and here."""
        described = {x["name"]: x["schema"] for x in operation["parameters"] if x["in"] == "query"}
        found = []
        for name, text in urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query, keep_blank_values=True):
            if name in described:
                found += self.schemas.check(described[name], as_query(described[name], text), f"query {name}")
        return found

    def check_request(self, operation, call):
        body = operation.get("requestBody")
        if body is None:
            return [] if not call.get("request") or call["method"] == "GET" else ["no body is described"]
        if call.get("request") is None:
            return ["the body is required"] if body.get("required") else []
        return self.schemas.check(body["content"]["application/json"]["schema"], call["request"], "request")

    def never_hit(self):
        return sorted(o[3]["operationId"] for o in self.operations if o[3]["operationId"] not in self.hit)


def dead_references(document, node, where=""):
    if isinstance(node, dict):
        target = document
        for part in node["$ref"].removeprefix("#/").split("/") if "$ref" in node else ():
            target = target.get(part) if isinstance(target, dict) else None
        if target is None:
            yield f"{where}: {node['$ref']} is not there"
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from dead_references(document, value, f"{where}/{key}")


def every_schema(node, where="", inside=False):
    """Every schema of the document and every one inside it, those that no call has met included."""
    if isinstance(node, list):
        for i, value in enumerate(node):
            yield from every_schema(value, f"{where}/{i}", inside)
    elif isinstance(node, dict):
        if inside:
            yield where, node
        for key, value in node.items():
            below = f"{where}/{key}"
            if key in ("properties", "schemas") and isinstance(value, dict):
                for name, schema in value.items():
                    yield from every_schema(schema, f"{below}/{name}", True)
            elif key in ("schema", "items", "allOf", "oneOf") or key == "additionalProperties" and isinstance(value, dict):
                yield from every_schema(value, below, True)
            elif not inside:
                yield from every_schema(value, below)


def operation_defects(pattern, operation):
    named = {x["name"] for x in operation["parameters"] if x["in"] == "path"}
    statuses = set(operation["responses"])
    if named != set(re.findall(r"\{([^}]*)\}", pattern)):
        yield f"its path parameters are declared as {sorted(named)}"
    wanted = {"400", "503"}
    if operation.get("x-auth") != "none":
        wanted |= {"401", "500"}
    if "requestBody" in operation:
        wanted |= {"413", "415", "422"}
    if wanted - statuses:
        yield f"it does not list {sorted(wanted - statuses)}"
    good = {s for s in statuses if s.startswith("2")}
    good -= {"202"} if len(good) > 1 else set()  # not done in time
    if len(good) != 1 and good != {"200", "201"}:  # there already, or made
        yield "it must list one status of success"


def main(argv):
    partial = "--partial" in argv
    files = [a for a in argv if a != "--partial"]
    if not files:
        sys.exit(__doc__.strip())
    contract, calls = Contract(yaml.safe_load((TOP / "openapi.yaml").read_text())), 0
    findings = dict.fromkeys(f"openapi.yaml: {text}" for text in contract.check_document())
    for name in files:
        with open(name, encoding="utf-8") as f:
            for line in filter(str.strip, f):
                call = json.loads(line)
                calls += 1
                for text in contract.check(call):
                    findings.setdefault(f"{call['method']} {call['path']} {call['status']}: {text}")
    for text in findings:
        print(text)
    missing = [] if partial else contract.never_hit()
    for name in missing:
        print(f"{name} was never called with success")
    print(f"check_api: {calls} calls, {len(contract.hit)} operations, {len(findings) + len(missing)} findings")
    return 1 if findings or missing or not calls else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
