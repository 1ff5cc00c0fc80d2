#!/usr/bin/python3
"""Writes src/meta/migrations.gen.h from migrations/NNNN_name.sql; refuses gaps."""

import pathlib
import re
import sys

top = pathlib.Path(__file__).resolve().parent.parent
out = ["/* Made by tools/gen_migrations.py from migrations/; do not edit. */", "", "static const char *const MIGRATIONS[] = {"]
for number, path in enumerate(sorted((top / "migrations").glob("*.sql")), start=1):
    match = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name)
    if not match or int(match.group(1)) != number:
        sys.exit(f"gen_migrations: {path.name} should be number {number:04d}")
    out.append(f"    /* {path.name} */")
    for line in path.read_text().splitlines():
        text = line.split("--")[0].rstrip()
        if text:
            out.append('    "%s\\n"' % text.replace("\\", "\\\\").replace('"', '\\"'))
    out[-1] += ","
out.append("};")
target = top / "src/meta/migrations.gen.h"
target.write_text("\n".join(out) + "\n")
