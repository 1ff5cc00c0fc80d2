#!/usr/bin/python3
"""Writes src/meta/migrations.gen.h from migrations/NNNN_name.sql.

Numbers begin at 0001 and have no gaps and no doubles.  A migration must not begin or end a transaction itself: it is
applied in one, together with its number.  Whole-line comments stay behind in the source.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
TRANSACTION = re.compile(r"^\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA\s+user_version)\b.*;\s*$", re.I)


def fail(text):
    sys.exit(f"gen_migrations: {text}")


def c_string(line):
    return '"%s\\n"' % line.replace("\\", "\\\\").replace('"', '\\"')


def lines_of(path):
    text = path.read_text(encoding="ascii")
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    if not lines:
        fail(f"{path.name} is empty")
    for line in lines:
        if TRANSACTION.match(line):
            fail(f"{path.name}: transactions are the business of who applies it: {line.strip()}")
    return lines


def main():
    paths = sorted(p for p in (TOP / "migrations").iterdir() if p.is_file())
    if not paths:
        fail("there are no migrations")
    out = [
        "/* Made by tools/gen_migrations.py from migrations/; do not edit. */",
        "",
        "static const char *const MIGRATIONS[] = {",
    ]
    for number, path in enumerate(paths, start=1):
        match = NAME.fullmatch(path.name)
        if not match:
            fail(f"{path.name} is not called NNNN_name.sql")
        if int(match.group(1)) != number:
            fail(f"{path.name} should be number {number:04d}: numbers have no gaps and no doubles")
        out.append(f"    /* {path.name} */")
        out += ["    " + c_string(line) for line in lines_of(path)]
        out[-1] += ","
    out.append("};")
    (TOP / "src/meta/migrations.gen.h").write_text("\n".join(out) + "\n", encoding="ascii")


main()
