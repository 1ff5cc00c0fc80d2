#!/usr/bin/python3
"""
Starts a mered of its own on a temporary directory, lets mere-bench measure it, stops it.

MERE_BIN_DIR: the build (build/bin).  MERE_BENCH_DIR: where the data directory goes (a temporary one).  MERE_BENCH_REPEATS: 200.
MERE_STORE: the driver; as root by default a disk file of 8 GB.  The JSON goes to build/bench/fork.json.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from harness.cluster import BINDIR  # noqa: E402
from harness.server import Mere, binaries  # noqa: E402


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is taken down also then
    where = os.environ.get("MERE_BENCH_DIR") or "/tmp"
    base = pathlib.Path(tempfile.mkdtemp(prefix="mere-bench-", dir=where))
    base.chmod(0o755)
    store = os.environ.get("MERE_STORE") or ("disk:8GB" if os.getuid() == 0 else "auto")
    out = ROOT / "build/bench/fork.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = base / "baseline"
    scratch.mkdir()
    scratch.chmod(0o755)
    m = Mere(base=base, store=store)
    try:
        m.start()
        argv = [str(binaries() / "mere-bench"), "--host", m.host, "--port", str(m.port), "--pg-host", m.pg_host, "--pg-port", str(m.pg_port),
                "--data", str(m.data), "--store", m.store, "--scratch", str(scratch), "--bindir", BINDIR, "--out", str(out),
                "--mered", str(m.proc.pid), "--proxy", str(m.proxy_pid()), "--repeats", os.environ.get("MERE_BENCH_REPEATS", "200")]
        status = subprocess.run(argv, env={**os.environ, "MERE_API_KEY": m.key}, check=False).returncode
        if status > 1:
            print(m.log_text()[-3000:], file=sys.stderr)
        m.stop(timeout=120)
        return status
    finally:
        subprocess.run(["umount", "-q", str(scratch / "vol")], check=False, stderr=subprocess.DEVNULL)
        m.scrub()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
