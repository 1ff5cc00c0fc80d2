#!/usr/bin/python3
"""
Writes what mered shows of itself: src/api/pages.gen.h (openapi.yaml as JSON, and the files of src/api/page) and docs/errors.md (the
table of base/err.h).

A page may run only the script and the style that are in it: its Content-Security-Policy names them by their hashes.
"""
import base64
import hashlib
import json
import pathlib
import re

import yaml

top = pathlib.Path(__file__).resolve().parent.parent
LINE = 100


def literal(name, text):
    """As lines of C; a string literal that long is no string literal to some compilers, an array of characters is."""
    lines = [f"static const char {name}[] ="]
    for at in range(0, len(text), LINE):
        part = text[at:at + LINE].encode()
        lines.append('    "' + "".join(escaped(byte) for byte in part) + '"')
    return lines[:-1] + [lines[-1] + ";", ""]


def escaped(byte):
    """Octal, which ends after three digits whatever follows; a question mark, too, since two of them begin a trigraph."""
    if byte in b'"\\?' or not 32 <= byte < 127:
        return f"\\{byte:03o}"
    return chr(byte)


def policy(page):
    def hashes(element):
        inside = re.findall(rf"<{element}>(.*?)</{element}>", page, re.S)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inside)

    return (f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'")


def pages():
    docs = (top / "src/api/page/docs.html").read_text()
    out = ["/* Made by tools/gen_pages.py; do not edit. */", "#ifndef MERE_PAGES_GEN_H", "#define MERE_PAGES_GEN_H", ""]
    out += literal("PAGE_OPENAPI", json.dumps(yaml.safe_load((top / "openapi.yaml").read_text()), ensure_ascii=False, separators=(",", ":")))
    out += literal("PAGE_DOCS", docs)
    out += literal("PAGE_DOCS_POLICY", policy(docs))
    out += literal("PAGE_LLMS", (top / "src/api/page/llms.txt").read_text())
    return "\n".join(out + ["#endif"]) + "\n"


def errors():
    table = re.search(r"#define ERR_CODES\(X\)(.*?)\n\n", (top / "src/base/err.h").read_text(), re.S).group(1)
    rows = re.findall(r'X\((\w+),\s*(\d+),\s*"(\w*)",\s*(true|false),((?:\s*\\?\s*"(?:[^"\\]|\\.)*")+)\)', table)
    out = ["# Errors", "", "Made from `src/base/err.h` by `make gen`.", "",
           "Every error is JSON: `request_id`, `code`, `message` (Neon's three) and the members of RFC 9457: `type` (`/problems/CODE`, which the",
           "server answers with what stands here), `title`, `status`, `detail` (the message again), `instance` (the path), and `errors`, the JSON",
           "pointers of the members of the body that are at fault. `code` is stable: programs compare it, people read `message`, which says what",
           "happened, what was not changed and what to do. \"Try again\": the answer has `Retry-After`, in seconds.", "",
           "| code | status | try again | meaning |", "|---|---|---|---|"]
    for _, status, code, retry, words in rows:
        if code:
            text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', words)).replace('\\"', '"')
            out.append(f"| `{code}` | {status} | {'yes' if retry == 'true' else 'no'} | {text} |")
    return "\n".join(out) + "\n"


def main():
    (top / "src/api/pages.gen.h").write_text(pages())
    (top / "docs").mkdir(exist_ok=True)
    (top / "docs/errors.md").write_text(errors())


main()
