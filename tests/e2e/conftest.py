"""
Fixtures of the end-to-end tests.

    mere         a server on a data directory of its own, one for each module; the leak ledger looks at it after every test
    crash_mere   the same from the build that has crash points
    new_mere     makes servers that a test starts, kills and examines itself; each is held against the ledger at the end
    project      a project with a branch `main`, deleted after the test
    api, p       a client that keeps a record of its calls, and a project that the tests of a module share
    expect_log   expect_log(r"…"): a warning or error line of this kind is part of the test.  Also as a marker on a test or module
"""
import concurrent.futures
import os
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from apiclient import Client  # noqa: E402
from harness import procs  # noqa: E402
from harness.ledger import Ledger  # noqa: E402
from harness.server import Mere, binaries, scratch  # noqa: E402

procs.isolate()
# A runner that is told to stop still takes down what it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also the tests marked slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; run with -m slow or --slow")
    config.addinivalue_line("markers", "expect_log(pattern, …): warning or error lines of the log that belong to the test")
    config.addinivalue_line("markers", "root: needs root")


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--slow") or "slow" in (config.getoption("-m") or "")
    for item in items:
        if "slow" in item.keywords and not wanted:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "root" in item.keywords and os.getuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


class Books:
    """The servers a test may have touched, each with its ledger."""

    def __init__(self):
        self.ledgers, self.expected = [], []

    def add(self, mere):
        ledger = Ledger(mere)
        self.ledgers.append(ledger)
        return ledger


@pytest.fixture(scope="session")
def books():
    return Books()


@pytest.fixture(autouse=True)
def ledger(request, books):
    """Opens before and closes after every test."""
    books.expected = [p for m in request.node.iter_markers("expect_log") for p in m.args]
    for entry in books.ledgers:
        entry.open()
    yield books
    found = [c for entry in books.ledgers for c in entry.close(books.expected)]
    if found:
        pytest.fail("left behind, or said in the log:\n  " + "\n  ".join(found[:40]), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With a failure comes what the servers said meanwhile: it may never happen again."""
    report = (yield).get_result()
    books = item.funcargs.get("books") if hasattr(item, "funcargs") else None
    if report.failed and books:
        for entry in books.ledgers:
            report.sections.append((f"log of the server in {entry.mere.data}", entry.said()))


@pytest.fixture
def expect_log(books):
    return lambda *patterns: books.expected.extend(patterns)


def serve(books, request, crash=False):
    if not (binaries(crash) / "mered").exists():
        pytest.skip(f"{binaries(crash)}/mered is not built")
    m = Mere(crash=crash, **getattr(request.module, "MERE_OPTIONS", {}))
    entry = books.add(m)
    try:
        m.start()
        yield m
        if not m.is_running():
            m.start()
        entry.mark()
        status = m.stop()
        found = entry.close(timeout=10)
        assert status == 0, f"SIGTERM ended it with status {status}"
        assert not found, "after the stop:\n  " + "\n  ".join(found)
    finally:
        books.ledgers.remove(entry)
        m.scrub()


@pytest.fixture(scope="module")
def mere(books, request):
    yield from serve(books, request)


@pytest.fixture(scope="module")
def crash_mere(books, request):
    yield from serve(books, request, crash=True)


@pytest.fixture
def new_mere(books, request, ledger):
    """new_mere(**options of Mere): not started yet.  After the test it is stopped if it runs, and must leave nothing."""
    made = []

    def make(crash=False, **options):
        if not (binaries(crash) / "mered").exists():
            pytest.skip(f"{binaries(crash)}/mered is not built")
        m = Mere(crash=crash, **options)
        made.append((m, books.add(m)))
        return m

    yield make
    problems = []
    for m, entry in made:
        try:
            if m.is_running():
                problems += entry.close(books.expected)
                entry.mark()
                status = m.stop()
                if status != 0:
                    problems.append(f"SIGTERM ended it with status {status}")
            problems += entry.close(books.expected, timeout=10)
        except AssertionError as e:
            problems.append(str(e))
        finally:
            books.ledgers.remove(entry)
            m.scrub()
    assert not problems, "left behind:\n  " + "\n  ".join(problems)


@pytest.fixture
def project(mere, ledger):
    p = mere.create_project()
    yield p
    if mere.is_running():
        p.delete()


@pytest.fixture
def workdir(request):
    """A scratch directory that Postgres's own user may enter."""
    path = scratch()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def api(mere):
    directory = scratch("mere-api-")
    client = Client(mere, directory / "calls.jsonl")
    # Connections to the metadata are opened when they are first needed and then kept; the ledger shall not take that for a leak.
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: mere.request("GET", "/projects"), range(128)))
    yield client
    (directory / "calls.jsonl").unlink(missing_ok=True)
    directory.rmdir()


@pytest.fixture(scope="module")
def p(api):
    """A project that the tests of this module share, with a branch `dev` that has no endpoint."""
    made = api.wait(api.ok("POST", "/projects", {"project": {"name": "shared", "store_passwords": True}}))
    path = "/projects/" + made["project"]["id"]
    made["dev"] = api.ok("POST", path + "/branches", {"branch": {"name": "dev/1"}})["branch"]
    made["path"] = path
    yield made
    api.ok("DELETE", path + "?hard_delete=true")
