#!/usr/bin/python3
"""
Holds recorded calls of the API against openapi.yaml.

    check_api.py [--partial] RECORD…

A record is a file of lines, one JSON object a call: method, path (with query), status, type (Content-Type of the answer), request (the
body sent, when it was JSON) and reply.  An answer must be one that its operation lists, of its content type and its schema; a member that
the schema does not name is an error, so that the document cannot fall behind.  A request that was accepted must be one that the document
allows.  An operation that no call carried out with success is an error too, unless --partial is given.
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
            "maxLength", "minItems", "maxItems", "maxProperties", "allOf", "description", "default", "deprecated"}


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


class Contract:
    def __init__(self, path):
        self.schemas = Schemas(yaml.safe_load(path.read_text()))
        self.operations, self.hit = [], set()
        for pattern, item in self.schemas.document["paths"].items():
            regex = re.compile("^" + re.sub(r"\\{[a-z_]+\\}", "([^/]+)", re.escape(pattern)) + "$")
            for method in METHODS:
                if method in item:
                    self.operations.append((pattern.count("{"), regex, method, item[method]))
        self.operations.sort(key=lambda o: o[0])  # a fixed segment beats a parameter

    def find(self, method, path):
        """The operation, and whether the path exists at all."""
        fitting = [o for o in self.operations if o[1].match(path)]
        fitting = [o for o in fitting if o[1] == fitting[0][1]]
        return next((o[3] for o in fitting if o[2] == method.lower()), None), bool(fitting)

    def error_schema(self):
        return {"$ref": "#/components/schemas/Error"}

    def check(self, call):
        path = urllib.parse.urlsplit(call["path"]).path
        operation, known = self.find(call["method"], path)
        status = call["status"]
        if call.get("type", "").split(";")[0] not in ("application/json", "application/problem+json"):
            return [f"the answer is {call.get('type')!r}, not JSON"]
        if operation is None:
            if status != (405 if known else 404):
                return [f"{status} for {'another method' if known else 'an unknown path'}"]
            return self.schemas.check(self.error_schema(), call.get("reply"))
        response = operation["responses"].get(str(status))
        if response is None:
            return [f"{operation['operationId']} does not list the status {status}"]
        content = self.schemas.deref(response)["content"]["application/json"]["schema"]
        found = self.schemas.check(content, call.get("reply"), "")
        if status < 300:
            self.hit.add(operation["operationId"])
            found += [f"accepted, but {f}" for f in self.check_request(operation, call)]
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


def main(argv):
    partial = "--partial" in argv
    files = [a for a in argv if a != "--partial"]
    if not files:
        sys.exit(__doc__.strip())
    contract, calls, findings = Contract(TOP / "openapi.yaml"), 0, {}
    for name in files:
        with open(name, encoding="utf-8") as f:
            for line in filter(str.strip, f):
                call = json.loads(line)
                calls += 1
                for text in contract.check(call):
                    findings.setdefault(f"{call['method']} {call['path']} {call['status']}: {text}", 0)
    for text in findings:
        print(text)
    missing = [] if partial else contract.never_hit()
    for name in missing:
        print(f"{name} was never called with success")
    print(f"check_api: {calls} calls, {len(contract.hit)} operations, {len(findings) + len(missing)} findings")
    return 1 if findings or missing or not calls else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
