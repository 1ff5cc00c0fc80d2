"""
Neon's own clients, unmodified, aimed at a server under test: two generations of neonctl, and programs of node over the libraries.

tools/deps.sh clients puts them into build/clients.  What is not there is skipped by name.  There is no DNS for the host names of
endpoints: libpq is told the address by PGHOSTADDR, everything else does not connect.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from .drivers import clean_environ
from .server import ROOT

MODULES = ROOT / "build/clients/node_modules"
PROGRAMS = pathlib.Path(__file__).resolve().parents[1] / "neon"
SECONDS = 120


def need(package):
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    if not (MODULES / package).is_dir():
        pytest.skip(f"{package} is not installed: tools/deps.sh clients")


def environ(mere, home, **more):
    """analytics off, no prompts, no proxy, no configuration of whoever runs the tests."""
    kept = {k: v for k, v in clean_environ().items() if not k.lower().endswith("_proxy") and not k.startswith("NEON")}
    return {**kept, "NEON_API_HOST": f"http://{mere.host}:{mere.port}/api/v2", "NEON_API_KEY": mere.key, "CI": "1", "NO_PROXY": "127.0.0.1",
            "HOME": str(home), "XDG_CONFIG_HOME": str(home), "PGHOSTADDR": "127.0.0.1", **more}


class Failed(AssertionError):
    def __init__(self, words, done):
        super().__init__(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        self.stderr, self.returncode = done.stderr, done.returncode


class Neonctl:
    """One version of the command line.  Every call must end with status 0 and say something."""

    def __init__(self, mere, package, home):
        need(package)
        self.mere, self.package, self.home, self.project = mere, package, home, None
        manifest = json.loads((MODULES / package / "package.json").read_text())
        binary = manifest["bin"] if isinstance(manifest["bin"], str) else next(iter(manifest["bin"].values()))
        self.entry, self.version = MODULES / package / binary, manifest["version"]

    def run(self, *words, project=True, env=None):
        at = words.index("--") if "--" in words else len(words)
        more = ["--no-analytics", *(["--project-id", self.project] if project and self.project else [])]
        argv = ["node", str(self.entry), *words[:at], *more, *words[at:]]
        done = subprocess.run(argv, env=environ(self.mere, self.home, **(env or {})), cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=SECONDS, check=False)
        if done.returncode != 0:
            raise Failed(words, done)
        return done.stdout

    def json(self, *words, **kw):
        out = self.run(*words, "--output", "json", **kw)
        assert out.strip(), f"{' '.join(words)} said nothing"
        return json.loads(out)

    def table(self, *words, **kw):
        """The default output: what a null, or a missing field, makes it die of."""
        out = self.run(*words, **kw)
        assert out.strip(), f"{' '.join(words)} said nothing"
        return re.sub(r"\x1b\[[0-9;]*m", "", out)


def run_program(mere, home, name, *words):
    """A program of tests/e2e/neon: its last line is what it found, as JSON."""
    need("@neondatabase/api-client" if name == "api_client.mjs" or name == "create_branch.mjs" else "@neon/sdk")
    copy = home / name  # beside the packages it imports, which node looks for above the file
    (home / "node_modules").symlink_to(MODULES) if not (home / "node_modules").exists() else None
    shutil.copy(PROGRAMS / name, copy)
    done = subprocess.run(["node", str(copy), *words], env=environ(mere, home), cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise Failed([name, *words], done)
    return json.loads(done.stdout.strip().splitlines()[-1])
