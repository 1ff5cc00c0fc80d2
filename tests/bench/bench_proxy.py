#!/usr/bin/python3
"""
Measures mere-proxy against no proxy, PgBouncer and a plain relay, before one and the same Postgres.  Writes build/bench/proxy.json.

That Postgres is a stock one with scram-sha-256 that listens on a unix socket (for the proxies) and on loopback TCP, with and without
TLS (direct).  The rows of sleeping endpoints have a whole Mere instead.  Compared runs alternate, so that whatever else the machine does
hits all of them.

MERE_BENCH_QUICK=1     small sizes and few repeats: shows that everything works, proves little
MERE_BENCH_ROWS        names from ROWS below, separated by commas; all when not given
MERE_BENCH_DIR         where the data goes (a temporary one).  MERE_STORE: the driver of the rows with Mere
"""
import contextlib
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/e2e"), str(ROOT / "tests/bench")]

from harness import crowd, flood, procs  # noqa: E402
from harness.cluster import BINDIR, Cluster, os_user, own  # noqa: E402
from harness.netns import Elsewhere  # noqa: E402
from harness.proxyrig import DATABASE, EP, PASSWORD, USER, Proxy, serves  # noqa: E402
from harness.server import Mere, binaries, until  # noqa: E402
from table import Table  # noqa: E402

QUICK = os.environ.get("MERE_BENCH_QUICK") == "1"
MB = 1 << 20
HBA = "local all super trust\nlocal all all scram-sha-256\nhost all all 127.0.0.0/8 scram-sha-256\n"


def pick(quick, full):
    return quick if QUICK else full


def clean_environ():
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")}


# --- a Postgres and the ways to it --------------------------------------------------------------------------------------------------


class PgBouncer:
    """Session mode, one thread, over the same unix socket as ours."""

    def __init__(self, base, cluster, verifier):
        self.base, self.cluster, self.verifier = base / "pgbouncer", cluster, verifier

    def start(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.base.mkdir()
        (self.base / "users").write_text(f'"{USER}" "{self.verifier}"\n')
        (self.base / "ini").write_text(
            f"[databases]\n{DATABASE} = host={self.cluster.socket} port=5432 dbname={DATABASE}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nauth_type = scram-sha-256\nauth_file = {self.base}/users\npool_mode = session\ndefault_pool_size = 50\n"
            f"unix_socket_dir =\nlog_connections = 0\nlog_disconnections = 0\n")
        own(self.base)
        self.proc = subprocess.Popen(["pgbouncer", str(self.base / "ini")], stdout=subprocess.DEVNULL, stderr=open(self.base / "log", "wb"),
                                     stdin=subprocess.DEVNULL, user=os_user(), start_new_session=True)
        until(self.answers, 10, "PgBouncer to listen")

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self):
        self.proc.terminate()
        self.proc.wait(20)


class PlainRelay:
    """The least that a proxy can do (tests/bench/plain/relay.c): what the machine takes for two more hops."""

    def __init__(self, socket_path):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.proc = subprocess.Popen([binaries() / "plain-relay", str(self.port), socket_path], stdin=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        self.proc.kill()
        self.proc.wait(20)


class Rig:
    """The cluster, and before it mere-proxy, PgBouncer and a plain relay."""

    def __init__(self, base):
        self.base = base
        self.host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.1"  # so that 5432 is free
        self.hba = base / "hba"
        self.cluster = self.bouncer = self.relay = self.proxy = None

    def start(self):
        self.hba.write_text(HBA)
        self.hba.chmod(0o644)
        tls = self.directory("tls")
        own(tls)
        self.cluster = Cluster(self.base, "pg", conf=[
            f"listen_addresses={self.host}", f"hba_file={self.hba}", "ssl=on", f"ssl_cert_file={tls}/crt", f"ssl_key_file={tls}/key",
            "max_connections=100", "shared_buffers=256MB", "fsync=off", "max_wal_size=4GB", "autovacuum=off"]).initdb().start()
        self.cluster.query(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.cluster.query(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        self.verifier = self.cluster.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", USER)
        subprocess.run([f"{BINDIR}/pgbench", "-i", "-q", "-s", str(pick(1, 10))], env=self.environ("direct"), check=True, capture_output=True)
        self.bouncer = PgBouncer(self.base, self.cluster, self.verifier)
        self.bouncer.start()
        self.relay = PlainRelay(self.cluster.socket / ".s.PGSQL.5432")
        self.proxy = self.make_proxy("proxy", self.cluster.socket / ".s.PGSQL.5432", 90)
        return self

    def directory(self, name):
        """One with a certificate of its own, which Postgres and ours need alike."""
        path = self.base / name
        path.mkdir()
        path.chmod(0o755)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path / "key"),
                        "-out", str(path / "crt"), "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
        (path / "key").chmod(0o600)
        return path

    def make_proxy(self, name, socket_path, most):
        proxy = Proxy(self.directory(name))
        proxy.mered.logins = {EP: {USER: self.verifier}}
        proxy.mered.answers[EP] = serves(socket_path, most=most)
        return proxy.start()

    def stop(self):
        if self.proxy:
            self.proxy.stop()
        if self.relay:
            self.relay.stop()
        if self.bouncer:
            self.bouncer.stop()
        if self.cluster:
            self.cluster.kill()

    def environ(self, way):
        """way: direct, pgbouncer or proxy; with " tls" behind it inside TLS."""
        who, _, tls = way.partition(" ")
        host, port = {"direct": (self.host, 5432), "pgbouncer": ("127.0.0.1", self.bouncer and self.bouncer.port),
                      "relay": ("127.0.0.1", self.relay and self.relay.port),
                      "proxy": ("127.0.0.1", self.proxy and self.proxy.port)}[who]
        env = {**clean_environ(), "PGHOST": host, "PGPORT": str(port), "PGUSER": USER, "PGPASSWORD": PASSWORD, "PGDATABASE": DATABASE,
               "PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable"}
        if who == "proxy":
            env["PGOPTIONS"] = f"endpoint={EP}"
        return env


def alternate(ways, rounds, measure):
    """{way: figures}, each round in another order."""
    figures = {way: [] for way in ways}
    for i in range(rounds):
        for way in ways[i % len(ways):] + ways[:i % len(ways)]:
            figures[way].append(measure(way))
    return figures


def ratio(table, measure, ours, theirs, must):
    """Of the medians; beside it the ratios of the single rounds, for the spread."""
    table.row(measure, statistics.median(ours) / statistics.median(theirs), "x", must)
    each = sorted(a / b for a, b in zip(ours, theirs))
    table.row("  single rounds: least", each[0], "x")
    table.row("  single rounds: most", each[-1], "x")


# --- throughput ---------------------------------------------------------------------------------------------------------------------


def pgbench(rig, way, seconds, *more):
    argv = [f"{BINDIR}/pgbench", "-n", "-S", "-c", "8", "-j", "2", "-T", str(seconds), *more]
    done = subprocess.run(argv, env=rig.environ(way), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pgbench {way}: {done.stderr[-2000:]}"
    return float(re.search(r"^tps = ([\d.]+)", done.stdout, re.M).group(1))


def measure_reads(rig, table):
    ways = ["direct", "pgbouncer", "relay", "proxy", "direct tls", "proxy tls"]
    tps = alternate(ways, pick(2, 9), lambda way: pgbench(rig, way, pick(2, 8)))
    for way in ways:
        table.series(f"pgbench -S -c 8 -j 2, {way}", tps[way], "1/s")
    ratio(table, "pgbench -S: mere-proxy against PgBouncer in session mode", tps["proxy"], tps["pgbouncer"], ">= 1.1")
    ratio(table, "pgbench -S: mere-proxy against a direct TCP connection", tps["proxy"], tps["direct"], ">= 0.75")
    ratio(table, "pgbench -S: a relay that does nothing but copy, against a direct TCP connection", tps["relay"], tps["direct"], None)
    ratio(table, "pgbench -S: mere-proxy against that relay", tps["proxy"], tps["relay"], None)
    ratio(table, "pgbench -S: mere-proxy against a direct connection, TLS on both", tps["proxy tls"], tps["direct tls"], ">= 0.75")


def measure_connects(rig, table):
    ways = ["direct", "pgbouncer", "proxy", "direct tls", "proxy tls"]
    tps = alternate(ways, pick(2, 7), lambda way: pgbench(rig, way, pick(2, 8), "-C"))
    for way in ways:
        table.series(f"pgbench -S -C (a connection for each transaction), {way}", tps[way], "1/s")
    ratio(table, "pgbench -S -C: mere-proxy against a direct TCP connection", tps["proxy"], tps["direct"], ">= 0.8")
    ratio(table, "pgbench -S -C: the same, TLS on both", tps["proxy tls"], tps["direct tls"], None)


def psql(rig, way, sql, **more):
    begun = time.monotonic()
    done = subprocess.run([f"{BINDIR}/psql", "-XAtqc", sql], env=rig.environ(way), stderr=subprocess.PIPE, check=False, **{"stdout": subprocess.DEVNULL, **more})
    assert done.returncode == 0, f"{sql} {way}: {done.stderr[-2000:]}"
    return time.monotonic() - begun


def measure_copy(rig, table):
    size, ways = pick(100, 1000), ["direct", "proxy", "direct tls", "proxy tls"]
    path = rig.base / "rows"
    with contextlib.closing(rig.cluster.connect(DATABASE, "super")) as conn, conn.cursor() as cur:
        cur.execute("CREATE UNLOGGED TABLE wide (n int, line text)")
        cur.execute("CREATE UNLOGGED TABLE sink (n int, line text)")
        cur.execute("INSERT INTO wide SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, %s) i", (size * 5000,))
        cur.execute(f"GRANT ALL ON wide, sink TO {USER}")
        cur.execute("VACUUM ANALYZE wide")
    with open(path, "wb") as f:
        psql(rig, "direct", "COPY wide TO STDOUT", stdout=f)
    name = f"COPY of {path.stat().st_size / MB:.0f} MB in rows of 200 bytes"

    def upload(way):
        psql(rig, "direct", "TRUNCATE sink")
        with open(path, "rb") as f:
            return psql(rig, way, "COPY sink FROM STDIN", stdin=f)

    for direction, one in (("out", lambda way: psql(rig, way, "COPY wide TO STDOUT")), ("in", upload)):
        took = alternate(ways, pick(2, 7), one)
        for way in ways:
            table.series(f"{name} {direction}, {way}", took[way])
        ratio(table, f"COPY {direction}: speed through mere-proxy against direct", took["direct"], took["proxy"], ">= 0.9")
        ratio(table, f"COPY {direction}: the same, TLS on both", took["direct tls"], took["proxy tls"], None)
    rig.cluster.query("CHECKPOINT")


# --- idle sessions ------------------------------------------------------------------------------------------------------------------


def memory(pid):
    """(RSS, PSS) in bytes."""
    text = procs.read(f"/proc/{pid}/smaps_rollup")
    return tuple(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M).group(1)) * 1024 for name in ("Rss", "Pss"))


def measure_idle(rig, table):
    """Behind the proxy a server that logs in as Postgres does: so many backends of a real one do not fit on a small machine."""
    n, path = pick(500, 5000), rig.base / "many"
    backends, stop = crowd.Crowd(), threading.Event()
    backends.serve(path, lambda: crowd.server(rig.verifier))

    def run():
        while not stop.is_set():
            backends.turn(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    proxy = rig.make_proxy("idle", path, n + 100)
    try:
        for tls, limit in ((False, 16), (True, 64)):
            with proxy.session(tls):  # what the first one alone needs
                pass
            rss, pss = memory(proxy.pid)
            held = [proxy.session(tls) for _ in range(n)]
            time.sleep(1)
            more, most = memory(proxy.pid)
            name = f"{n} idle {'TLS' if tls else 'plain'} sessions (before a server that only logs in)"
            table.row(f"{name}: memory of mere-proxy for each, RSS", (more - rss) / n / 1024, "KB", f"<= {limit}")
            table.row("  PSS", (most - pss) / n / 1024, "KB")
            for w in held:
                w.close()
            until(lambda: procs.count_fds(proxy.pid) < 50, 60, "the sessions to end")
    finally:
        stop.set()
        thread.join()
        backends.close()
        proxy.stop()


# --- sleeping endpoints: a whole Mere ------------------------------------------------------------------------------------------------


def measure_rush(mere, table):
    n, p = pick(100, 1000), mere.create_project()
    b = p.main
    talk = lambda: crowd.client(p.password, "SELECT 1", user=p.role, database=p.database, options=f"endpoint={b.endpoint_id}")  # noqa: E731
    cold, late, warm, starts, wrong, served = [], [], [], [], [], 0
    for _ in range(pick(2, 5)):
        b.suspend()
        cold += crowd.rush((mere.pg_host, mere.pg_port), 1, talk, 60)[0]
        b.suspend()
        before = b.generation()
        took, problems = crowd.rush((mere.pg_host, mere.pg_port), n, talk, 60)
        starts.append(b.generation() - before)
        wrong += problems
        served += len(took)
        late.append(statistics.quantiles(took, n=100)[98])
        warm.append(statistics.quantiles(crowd.rush((mere.pg_host, mere.pg_port), n, talk, 60)[0], n=100)[98])
    for problem in sorted(set(wrong))[:5]:
        print(f"    {wrong.count(problem)} x {problem}", file=sys.stderr)
    name = f"{n} clients at once on a sleeping endpoint"
    table.series("one client on a sleeping endpoint, connect to answer", cold)
    table.row(f"{name}: most starts of a run", max(starts), "", "= 1")
    table.row(f"{name}: served", 100 * served / n / len(starts), "%", ">= 99.9")
    table.series(f"{name}: 99th percentile, connect to answer", late)
    table.row(f"{name}: that beyond the one client", statistics.median(late) - statistics.median(cold), "s", "<= 1")
    table.series(f"{n} clients at once on the endpoint when it runs: 99th percentile", warm)
    p.delete(timeout=300)


class Visitor(threading.Thread):
    """Connects, asks, rests for less than the idle limit, asks again, leaves; comes back before or after the suspend."""

    REST = 0.6  # beside a limit of 1 s: what the machine delays must not count as idling past it

    def __init__(self, branch, until_when, seed):
        super().__init__()
        self.branch, self.until_when, self.rng = branch, until_when, random.Random(seed)
        self.sessions, self.queries, self.late, self.problems = 0, 0, 0, []

    def run(self):
        while time.monotonic() < self.until_when:
            last = None
            try:
                with contextlib.closing(self.branch.connect()) as conn, conn.cursor() as cur:
                    self.sessions += 1
                    for _ in range(self.rng.randint(1, 4)):
                        last = self.ask(cur)
                        time.sleep(self.rng.uniform(0, self.REST))
            except psycopg2.Error as e:
                if last and time.monotonic() - last > 0.95:
                    self.late += 1  # the machine kept us: we did idle past it
                else:
                    self.problems.append(str(e).strip())
            time.sleep(self.rng.choice((0, self.rng.uniform(0.9, 1.3), self.rng.uniform(1.5, 3))))

    def ask(self, cur):
        cur.execute("SELECT 1")
        self.queries += 1
        return time.monotonic()


def measure_storm(mere, table):
    seconds, p = pick(20, 600), mere.create_project(default_endpoint_settings={"suspend_timeout_seconds": 1})
    branches = [p.main] + [p.branch(p.main) for _ in range(3)]
    for b in branches:
        b.patch_endpoint(suspend_timeout_seconds=1)
    before = sum(b.generation() for b in branches)
    visitors = [Visitor(b, time.monotonic() + seconds, 10 * i + j) for i, b in enumerate(branches) for j in range(2)]
    for v in visitors:
        v.start()
    for v in visitors:
        v.join()
    problems = [x for v in visitors for x in v.problems]
    for problem in sorted(set(problems))[:5]:
        print(f"    {problems.count(problem)} x {problem}", file=sys.stderr)
    table.row(f"connect-suspend storm of {seconds} s, limit 1 s, {len(visitors)} clients on {len(branches)} endpoints: starts",
              sum(b.generation() for b in branches) - before, "", f">= {pick(5, 100)}")
    table.row("  sessions", sum(v.sessions for v in visitors), "")
    table.row("  queries", sum(v.queries for v in visitors), "")
    table.row("  errors of clients that the machine kept from asking in time", sum(v.late for v in visitors), "")
    table.row("  errors", len(problems), "", "= 0")
    p.delete(timeout=300)


def measure_flood(mere, table):
    """Of connects that name endpoints that are not there, and one that sleeps, from another machine as it were."""
    seconds = pick(6, 60)
    with contextlib.closing(Elsewhere()) as elsewhere:
        seen = flood.of_mere(mere, elsewhere, seconds)
    table.row(f"flood of {seconds} s from another address: connects a second", seen.made / seconds, "1/s", ">= 2000")
    table.row("  computes that were started", seen.woken, "", "= 0")
    table.series("connect and query of a known endpoint, without it", seen.usual)
    table.series("  meanwhile", seen.during)
    table.row("  meanwhile against without, p50", statistics.median(seen.during) / statistics.median(seen.usual), "x", "<= 2")


# In this order.
RIG_ROWS = {"reads": measure_reads, "connects": measure_connects, "copy": measure_copy, "idle": measure_idle}
MERE_ROWS = {"rush": measure_rush, "storm": measure_storm, "flood": measure_flood}
ROWS = [*RIG_ROWS, *MERE_ROWS]


@contextlib.contextmanager
def rig_at(base):
    rig = Rig(base / "rig")
    rig.base.mkdir()
    rig.base.chmod(0o755)
    try:
        yield rig.start()
    except BaseException:
        if rig.proxy:
            print(rig.proxy.log_text()[-3000:], file=sys.stderr)
        raise
    finally:
        rig.stop()


@contextlib.contextmanager
def mere_at(base):
    (base / "mere").mkdir()
    (base / "mere").chmod(0o755)
    m = Mere(base=base / "mere", store=os.environ.get("MERE_STORE") or ("disk:8GB" if os.getuid() == 0 else "auto"),
             config={"suspend-timeout-seconds": 3600}, args=["--allow-plaintext"])
    m.pg_listen = "0.0.0.0:0"  # the flood comes from elsewhere
    try:
        yield m.start()
        m.stop(timeout=120)
    except BaseException:
        print(m.log_text()[-3000:], file=sys.stderr)
        raise
    finally:
        m.scrub()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is taken down also then
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    wanted = os.environ.get("MERE_BENCH_ROWS")
    names = wanted.split(",") if wanted else ROWS
    base = pathlib.Path(tempfile.mkdtemp(prefix="mere-bench-", dir=os.environ.get("MERE_BENCH_DIR") or "/tmp"))
    base.chmod(0o755)
    table = Table()
    print(f"{os.cpu_count()} cores{', quick' if QUICK else ''}")
    try:
        for surroundings, rows in ((rig_at, RIG_ROWS), (mere_at, MERE_ROWS)):
            if not set(names) & set(rows):
                continue
            with surroundings(base) as place:
                for name in (n for n in rows if n in names):
                    print(f"\n{name}:")
                    rows[name](place, table)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 1 if table.end(ROOT / "build/bench/proxy.json") else 0


if __name__ == "__main__":
    sys.exit(main())
