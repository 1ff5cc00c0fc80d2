#!/usr/bin/python3
"""
Writes src/api/routes.gen.h from openapi.yaml: one prototype and one line of the route table for each operation.

Every operation has an operationId (its handler is api_<operationId>) and says with x-auth who may call it: key, basic (the key also as the password of Basic authentication) or none.  Paths are
ordered so that a fixed segment comes before a parameter: the first path that fits is the one that is meant.

x-not-yet names routes that clients may ask for and that are not there: a second table, of how such paths begin.
"""
import pathlib
import re
import sys

import yaml

BODY_MAX = 1 << 20    # of an operation that describes a body
NO_BODY_MAX = 4096    # of one that does not: room for an empty object and blanks
METHODS = ("get", "put", "post", "patch", "delete")
AUTHS = {"key": "ROUTE_KEY", "basic": "ROUTE_BASIC", "none": "ROUTE_OPEN"}
PARAMS_MAX = 4        # path_params of struct http_req

top = pathlib.Path(__file__).resolve().parent.parent


def stop(text):
    sys.exit(f"gen_routes: {text}")


def segments(path):
    return [(part.startswith("{"), part) for part in path.split("/")]


def read_routes(document):
    routes, seen = [], set()
    for path, item in sorted(document["paths"].items(), key=lambda p: segments(p[0])):
        shape = re.sub(r"\{[^}]*\}", "{}", path)
        if shape in seen:
            stop(f"two paths have the shape {shape}")
        seen.add(shape)
        names = re.findall(r"\{([^}]*)\}", path)
        if len(names) > PARAMS_MAX or not all(re.fullmatch(r"[a-z_]+", n) for n in names):
            stop(f"{path}: at most {PARAMS_MAX} parameters, in lower case")
        for method in METHODS:
            if method in item:
                routes.append((method, path, item[method]))
    return routes


def line(method, path, operation):
    name, auth = operation.get("operationId", ""), operation.get("x-auth")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        stop(f"{method} {path}: operationId {name!r} is no name of a function")
    if auth not in AUTHS:
        stop(f"{name}: x-auth must be one of {', '.join(AUTHS)}, not {auth!r}")
    limit = BODY_MAX if "requestBody" in operation else NO_BODY_MAX
    takes = "true" if "requestBody" in operation else "false"
    return f'    {{ "{method.upper()}", "{path}", api_{name}, {AUTHS[auth]}, {takes}, {limit} }},'


def read_not_yet(document, routes):
    lines = []
    for group in document.get("x-not-yet", []):
        for path in group["paths"]:
            if not re.fullmatch(r"(/([a-z0-9_-]+|\{[a-z_]+\}))+", path) or re.search(r'["\\]', group["what"]):
                stop(f"x-not-yet: {path!r} is no path, or {group['what']!r} no words for it")
            if any((p + "/").startswith(path + "/") for _, p, _ in routes):
                stop(f"x-not-yet: {path} is there")
            lines.append(f'    {{ "{path}", "{group["what"]}" }},')
    return lines


def main():
    document = yaml.safe_load((top / "openapi.yaml").read_text())
    routes = read_routes(document)
    names = [operation.get("operationId", "") for _, _, operation in routes]
    for name in sorted(n for n in set(names) if names.count(n) > 1):
        stop(f"two operations are called {name}")
    out = ["/* Made by tools/gen_routes.py from openapi.yaml; do not edit. */", "#ifndef MERE_ROUTES_GEN_H", "#define MERE_ROUTES_GEN_H", "",
           '#include "api/router.h"', ""]
    out += [f"int api_{name}(struct http_req *req, struct http_res *res, struct err *err);" for name in sorted(names)]
    out += ["", "/* For router.c alone. */", "#ifdef ROUTES_TABLE", "static const struct route ROUTES[] = {"]
    out += [line(*route) for route in routes]
    out += ["};", "", "static const struct not_yet NOT_YET[] = {", *read_not_yet(document, routes), "};", "#endif", "", "#endif"]
    (top / "src/api/routes.gen.h").write_text("\n".join(out) + "\n")


main()
