"""Mere as a service: what the manager hears, how settings are read again, sockets and credentials that are handed over."""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import psycopg2
import pytest

from harness import procs
from harness.manager import Manager
from harness.server import ROOT, StartFailed, binaries, until

@pytest.fixture
def manager(workdir):
    made = Manager(workdir)
    yield made
    made.close()


def hang_up(m):
    """SIGHUP, and what the log says of it; waits until it is dealt with."""
    mark = m.log_mark()
    m.proc.send_signal(signal.SIGHUP)
    until(lambda: re.search("read again|old ones stay in force", m.log_text(mark)), 20, "the reload")
    return m.log_text(mark)


def write_config(m, **settings):
    m.config.update({k.replace("_", "-"): v for k, v in settings.items()})
    m.argv()


# --- what the manager hears


@pytest.mark.parametrize("abstract", [False, True])
def test_the_life_of_a_service(new_mere, workdir, abstract):
    manager = Manager(workdir, abstract)
    m = manager.start(new_mere())
    ready = manager.until("^READY=1$")
    assert f"STATUS=api={m.api_url}, Postgres on port {m.pg_port}" in ready
    assert not [e for e in procs.read(f"/proc/{m.proxy_pid()}/environ").split("\0") if e.startswith("NOTIFY")]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    hang_up(m)
    again = manager.until("^RELOADING=1$")
    stamp = int(re.search(r"^MONOTONIC_USEC=(\d+)$", again, re.M).group(1))
    assert before <= stamp <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.until("^READY=1$")
    assert m.stop() == 0
    manager.until("^STOPPING=1$", 1)
    manager.take()
    assert not [t for t in manager.heard if "READY" in t]
    manager.close()


def test_nothing_is_ready_before_it_is(new_mere, manager, expect_log):
    expect_log("in use")
    m = new_mere()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        m.listen = f"127.0.0.1:{s.getsockname()[1]}"
        with pytest.raises(StartFailed):
            manager.start(m)
    manager.take()
    assert not [t for t in manager.heard if "READY" in t], manager.heard


def test_the_watchdog_is_fed_while_the_loop_turns(new_mere, manager):
    m = manager.start(new_mere(), env={"WATCHDOG_USEC": "400000"})
    for _ in range(4):
        manager.until("^WATCHDOG=1$", 5)
    m.proc.send_signal(signal.SIGSTOP)
    until(lambda: procs.read(f"/proc/{m.proc.pid}/stat").rsplit(")", 1)[1].split()[0] == "T", 5, "it to hang")
    manager.take()
    manager.heard.clear()
    manager.take(1.0)
    assert manager.heard == []  # four times what it had
    m.proc.send_signal(signal.SIGCONT)
    manager.until("^WATCHDOG=1$", 5)


def test_a_watchdog_that_is_meant_for_another(new_mere, manager):
    m = manager.start(new_mere(), env={"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"})
    manager.until("^READY=1$")
    hang_up(m)
    manager.until("^RELOADING=1$")
    manager.take(0.5)
    assert not [t for t in manager.heard if "WATCHDOG" in t]


# --- the log


def test_json_lines(new_mere):
    m = new_mere(args=["--log-format", "json", "--log-level", "debug"]).start()
    m.call("GET", "/users/me")
    m.stop()
    for path in (m.log_path, m.data / "logs" / "proxy.log"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines and all({"ts", "level", "module", "msg"} <= set(line) for line in lines)
        assert all(isinstance(v, str) for line in lines for v in line.values())
    request = next(e for e in map(json.loads, m.log_text().splitlines()) if e["msg"] == "request")
    assert request["module"] == "api" and request["status"] == "200" and request["req"]


def test_the_journal_gets_priorities(new_mere):
    m = new_mere()
    m.log_path.touch()
    st = m.log_path.stat()
    m.start(env={"JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
    m.stop()
    assert all(re.match(r"<[3467]>\d{4}-", line) for line in m.log_text().splitlines())
    assert not [line for line in (m.data / "logs" / "proxy.log").read_text().splitlines() if line.startswith("<")]
    mark = m.log_mark()
    m.start(env={"JOURNAL_STREAM": "1:1"})
    assert not [line for line in m.log_text(mark).splitlines() if line.startswith("<")]


def test_a_proxy_that_fails_says_why_in_json_too(new_mere, expect_log):
    expect_log("cannot|mere-proxy")
    m = new_mere(args=["--log-format", "json"])
    m.bin = m.base / "bin"
    shutil.copytree(binaries(), m.bin)
    (m.bin / "mere-proxy").write_text('#!/bin/sh\necho \'{"ts":"x","level":"error","msg":"no such luck"}\' >&2\nexit 1\n')
    with pytest.raises(StartFailed) as e:
        m.start()
    assert "the last it said: no such luck;" in e.value.stderr


# --- settings that are read again


def test_what_sighup_changes(new_mere, manager):
    m = manager.start(new_mere())
    project = m.create_project()
    b = project.main
    b.patch_endpoint(suspend_timeout_seconds=0)
    proxy = m.proxy_pid()
    with contextlib.closing(b.connect()) as conn:
        write_config(m, log_level="debug", log_format="json")
        hang_up(m)
        # mere-proxy follows itself, without ending a session
        until(lambda: any("--log-level=debug" in p.cmdline and p.pid != proxy for p in m.processes_named("mere-proxy")), 20, "another mere-proxy")
        with conn.cursor() as cur:
            cur.execute("SELECT 1")
    write_config(m, suspend_timeout_seconds=1)
    hang_up(m)
    b.await_state("idle")
    mark = m.log_mark()
    m.call("GET", "/users/me")
    assert json.loads(m.log_text(mark).splitlines()[-1])["level"] in ("debug", "info")


def test_what_it_does_not_change_is_named_once(new_mere, expect_log):
    expect_log("stay as they were")
    m = new_mere().start()
    write_config(m, http_connections=7, host_suffix="x.example", suspend_timeout_min_seconds=40)
    said = hang_up(m)
    assert said.count("stay as they were") == 1
    assert 'names="host-suffix, http-connections"' in said
    answer = m.request("POST", "/projects", {"project": {"default_endpoint_settings": {"suspend_timeout_seconds": 39}}})
    assert answer[0] in (400, 422) and "40" in json.dumps(answer[2])
    # as often as it is asked for, and no more when it is as it was
    del m.config["http-connections"], m.config["host-suffix"]
    m.argv()
    assert "stay as they were" not in hang_up(m)


@pytest.mark.parametrize("text, why", [
    ("suspend-timeout-min-seconds = 40\nnonsense = 1\n", "unknown setting"), ("suspend-timeout-min-seconds = none\n", "whole number"),
    ("suspend-timeout-min-seconds = 40\nlog-format = xml\n", "log-format"), ("no equals sign\n", "name = value")])
def test_a_bad_file_changes_nothing(new_mere, expect_log, text, why):
    expect_log("stay in force")
    m = new_mere().start()
    proxy = m.proxy_pid()
    (m.base / "mere.conf").write_text(text)
    said = hang_up(m)
    assert why in said and said.count("the old ones stay in force") == 1
    status, _, body = m.request("POST", "/projects", {"project": {"default_endpoint_settings": {"suspend_timeout_seconds": 0}}})
    assert status == 201, body
    m.wait_operations(body["project"]["id"], body)
    made = m.request("PATCH", f"/projects/{body['project']['id']}/endpoints/{body['endpoints'][0]['id']}", {"endpoint": {"suspend_timeout_seconds": 1}})
    assert made[0] == 200  # the smallest there was
    assert m.proxy_pid() == proxy


def test_a_file_that_is_gone_changes_nothing(new_mere, expect_log):
    expect_log("stay in force")
    m = new_mere().start()
    (m.base / "mere.conf").unlink()
    assert "cannot be read" in hang_up(m)
    m.argv()
    assert "read again" in hang_up(m)


def test_limits_of_the_proxy_change(new_mere):
    m = new_mere().start()
    project = m.create_project()
    for n in (701, 702, 703):
        proxy = m.proxy_pid()
        write_config(m, connects_per_address=f"{n},300,200")
        hang_up(m)
        until(lambda: [p for p in m.processes_named("mere-proxy") if p.pid != proxy and f"{n},300,200" in p.cmdline], 20, "the next proxy")
        until(lambda: len(m.processes_named("mere-proxy")) == 1, 20, "the one before to end")
        assert project.main.value("SELECT 1") == 1


# --- looking at settings


def mered(*args, env=None, cwd="/"):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MERE_")}
    return subprocess.run([binaries() / "mered", *args], capture_output=True, text=True, check=False, timeout=20, cwd=cwd, env={**clean, **(env or {})})


def test_check_config(workdir):
    conf = workdir / "mere.conf"
    conf.write_text(f"data = {workdir}/d\nlog-format = json\n")
    good = mered("--check-config", "--config", conf)
    assert (good.returncode, good.stdout, good.stderr) == (0, "the settings are good\n", "")
    assert not (workdir / "d").exists()
    conf.write_text(f"data = {workdir}/d\nlog-format = yaml\n")
    bad = mered("--config", conf, "--check-config")
    assert bad.returncode == 2 and bad.stdout == "" and "log-format" in bad.stderr
    assert mered("--check-config").returncode == 2  # no --data


def test_print_config_is_a_file_that_says_the_same(workdir):
    conf = workdir / "mere.conf"
    conf.write_text(f"data = {workdir}/d\nreserve = 1GB\n")
    key = workdir / "tls-key"
    key.write_text("x")
    env = {"MERE_MAX_CLIENTS": "7", "CREDENTIALS_DIRECTORY": str(workdir)}
    shown = mered("--config", conf, "--print-config", "--keep-computes", env=env)
    assert shown.returncode == 0, shown
    text = shown.stdout
    for origin, line in [("option --keep-computes", "keep-computes = true"), ("environment variable MERE_MAX_CLIENTS", "max-clients = 7"),
                         (f"{conf} line 2", "reserve = 1GB"), ("credential tls-key", f"tls-key = {key}"), ("option --config", f"#config = {conf}")]:
        assert f"# {origin}\n{line}\n" in text, (line, text)
    assert "\n#log-level = info\n" in text and "\n#host-suffix =\n" in text
    conf.write_text(text)
    again = mered("--config", conf, "--print-config")
    values = [[line for line in t.splitlines() if not line.startswith("#")] for t in (text, again.stdout)]
    assert values[0] == values[1]


def test_values_from_files(workdir):
    data, bad = workdir / "name", workdir / "bad"
    data.write_text(f"{workdir}/d\n")
    bad.write_text("a\nb\n")
    shown = mered("--print-config", env={"MERE_DATA_FILE": str(data)})
    assert f"# environment variable MERE_DATA_FILE\ndata = {workdir}/d\n" in shown.stdout
    for env, why in [({"MERE_DATA_FILE": str(bad)}, "one line"), ({"MERE_DATA_FILE": str(workdir / "none")}, "does not exist"),
                     ({"MERE_DATA_FILE": str(data), "MERE_DATA": "x"}, "both"), ({"MERE_MAX_CLIENTS_FILE": str(data)}, "MERE_MAX_CLIENTS_FILE")]:
        done = mered("--print-config", env=env)
        assert done.returncode == 2 and why in done.stderr, (env, done)


@pytest.mark.root
def test_the_secrets_of_a_container(workdir):
    """A machine with no /run but ours."""
    script = "mount -t tmpfs none /run && mkdir /run/secrets && echo x >/run/secrets/admin-key && exec \"$@\""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MERE_", "CREDENTIALS"))}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", binaries() / "mered", "--print-config"], capture_output=True, text=True, check=True, env=env)
    assert "# credential admin-key\nadmin-key = /run/secrets/admin-key\n" in done.stdout


# --- sockets


def get(port, path="/livez", timeout=30):
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    conn.request("GET", path)
    status = conn.getresponse().status
    conn.close()
    return status


def test_clients_queue_over_a_restart(new_mere, manager):
    """Both ports are the manager's: who comes while nothing runs is served by the next start."""
    api, pg = manager.listen("api"), manager.listen("postgres")
    m = manager.start(new_mere(args=["--keep-computes"]))
    assert (m.port, m.pg_port) == (api, pg)
    project = m.create_project()
    b = project.main
    b.query("CREATE TABLE t AS SELECT 42 AS n")
    assert m.stop(signal.SIGINT) == 0
    assert m.processes() == []  # SIGINT takes all along
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(get(api))), threading.Thread(target=lambda: answers.append(b.value("SELECT n FROM t")))]
    for t in waiting:
        t.start()
    until(lambda: all(queued(p) for p in (api, pg)), 10, "both to queue")
    manager.start(m)
    for t in waiting:
        t.join(60)
    assert sorted(answers) == [42, 200]
    # The computes and the proxy that live on have the port; another start gets along with that.
    proxy = m.proxy_pid()
    m.stop()
    assert b.connect().closed == 0
    manager.start(m)
    assert m.proxy_pid() == proxy and b.value("SELECT n FROM t") == 42 and get(api) == 200
    assert m.stop(signal.SIGINT) == 0


def queued(port):
    """Somebody is connected to a port and not yet accepted."""
    rows = [line.split() for line in procs.read("/proc/net/tcp").splitlines()[1:]]
    return any(r[1].endswith(f":{port:04X}") and r[3] == "0A" and int(r[4].split(":")[1], 16) > 0 for r in rows)


def test_a_proxy_that_ends_gets_the_socket_again(new_mere, manager, expect_log):
    expect_log("mere-proxy ended")
    pg = manager.listen("postgres")
    m = manager.start(new_mere())
    assert m.pg_port == pg and m.port != pg
    project = m.create_project()
    proxy = m.proxy_pid()
    os.kill(proxy, signal.SIGKILL)
    until(lambda: m.proxy_pid() not in (0, proxy), 20, "the next one")
    assert project.main.value("SELECT 1") == 1
    # and so does one that follows because of a setting
    write_config(m, max_clients=50)
    hang_up(m)
    until(lambda: [p for p in m.processes_named("mere-proxy") if "--max-clients=50" in p.cmdline], 20, "the successor")
    assert project.main.value("SELECT 1") == 1
    assert m.pg_port == pg


def test_another_port_after_a_restart(new_mere, manager):
    """The proxy that lives on listens elsewhere: the next one gets the manager's new socket."""
    m = new_mere(args=["--keep-computes"])
    manager.listen("postgres")
    manager.start(m)
    project = m.create_project()
    with contextlib.closing(project.main.connect()) as conn:
        m.stop()
        manager.sockets[0][1].close()
        manager.sockets.clear()
        other = manager.listen("postgres")
        m.pg_listen = f"127.0.0.1:{other}"
        manager.start(m)
        assert m.pg_port == other
        assert project.main.value("SELECT 1") == 1
        with conn.cursor() as cur:
            cur.execute("SELECT 1")
    m.stop(signal.SIGINT)


@pytest.mark.parametrize("names, why", [(["web"], "called \"web\""), (["api", "api"], "two sockets called api"), ([""], "called \"\"")])
def test_sockets_nobody_knows(new_mere, manager, expect_log, names, why):
    expect_log("service manager")
    for name in names:
        manager.listen(name)
    with pytest.raises(StartFailed) as e:
        manager.start(new_mere())
    assert why in e.value.stderr and e.value.status == 1


def test_a_socket_that_is_none(new_mere, manager, expect_log):
    expect_log("service manager")
    manager.listen("api", kind=socket.SOCK_DGRAM)
    with pytest.raises(StartFailed) as e:
        manager.start(new_mere())
    assert "no TCP socket that listens" in e.value.stderr


def test_sockets_that_are_meant_for_another(new_mere, manager):
    port = manager.listen("api")
    m = manager.start(new_mere(), pid="1")
    assert m.port != port


# --- credentials


def test_credentials(new_mere, manager, workdir):
    key = "k" * 40
    creds = workdir / "creds"
    creds.mkdir(mode=0o700)
    (creds / "admin-key").write_text(key + "\n")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", creds / "tls-key", "-out",
                    creds / "tls-cert", "-days", "2", "-subj", "/CN=given.example"], check=True, capture_output=True)
    m = new_mere()
    m.key = key
    manager.start(m, env={"CREDENTIALS_DIRECTORY": str(creds)})
    assert not (m.data / "admin.key").exists() and not (m.data / "tls.key").exists()
    assert m.call("GET", "/users/me")["id"]
    assert m.request("GET", "/users/me", key="x" * 40)[0] == 401
    shown = subprocess.run(["openssl", "s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{m.pg_port}"], input="", capture_output=True, text=True, check=False)
    assert "given.example" in shown.stdout
    project = m.create_project()
    assert project.main.value("SELECT 1") == 1
    for f in (m.log_path, m.data / "logs" / "proxy.log"):
        assert key not in f.read_text()


@pytest.mark.parametrize("files, why", [({"tls-key": "x"}, "go together"), ({"admin-key": "short"}, "no usable key")])
def test_credentials_that_are_not_good(new_mere, manager, workdir, expect_log, files, why):
    expect_log(why)
    for name, text in files.items():
        (workdir / name).write_text(text)
    m = new_mere()
    with pytest.raises(StartFailed) as e:
        manager.start(m, env={"CREDENTIALS_DIRECTORY": str(workdir)})
    assert why in e.value.stderr


def test_a_first_start_that_died_with_credentials(new_mere, manager, workdir):
    """What it left does not make the directory somebody else's."""
    (workdir / "admin-key").write_text("k" * 40)
    m = new_mere()
    m.key = "k" * 40
    m.data.mkdir(mode=0o700)
    for name in ("lock", "ca.crt.x", "ca.key", "ca.crt"):
        (m.data / name).touch()
    (m.data / "ca.key").unlink()
    (m.data / "ca.crt").unlink()
    manager.start(m, env={"CREDENTIALS_DIRECTORY": str(workdir)})
    assert m.call("GET", "/users/me")["id"]


# --- how sessions end


@pytest.mark.parametrize("seconds, ends_well", [("20", True), ("0", False)])
def test_a_stop_lets_sessions_finish_what_they_are_at(new_mere, seconds, ends_well):
    m = new_mere(args=["--drain-seconds", seconds]).start()
    project = m.create_project()
    working, idle, got = project.main.connect(), project.main.connect(), []

    def work():
        with contextlib.suppress(psycopg2.OperationalError), working.cursor() as cur:
            cur.execute("SELECT pg_sleep(2.5), 42")
            got.append(cur.fetchone()[1])

    t = threading.Thread(target=work)
    t.start()
    sleepers = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    until(lambda: project.main.value(sleepers) == 1, 10, "the query")
    begun = time.monotonic()
    assert m.stop() == 0
    took = time.monotonic() - begun
    t.join(10)
    assert (got == [42]) == ends_well
    assert took < 15, "it does not wait for the idle one"
    with pytest.raises(psycopg2.Error), idle.cursor() as cur:
        cur.execute("SELECT 1")
    working.close()
    idle.close()


# --- the unit


SYSTEMD = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not there")
UNITS = ROOT / "packaging/systemd"


def installed(workdir):
    """The units as `make install` writes them for programs of this build."""
    for unit in UNITS.iterdir():
        (workdir / unit.name).write_text(unit.read_text().replace("/usr/sbin/mered", str(binaries() / "mered")))
    return [str(workdir / unit.name) for unit in sorted(UNITS.iterdir())]


def directive(name):
    return [line.split("=", 1)[1] for line in (UNITS / "mered.service").read_text().splitlines() if line.startswith(name + "=")]


@SYSTEMD
def test_systemd_finds_nothing_wrong_with_the_units(workdir):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *installed(workdir)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not [line for line in done.stderr.splitlines() if "mere" in line], done.stderr
    twin = workdir / "mered.service"
    twin.write_text(twin.read_text().replace("KillMode=process", "KillMode=proces"))
    bad = subprocess.run(["systemd-analyze", "verify", "--man=no", twin], capture_output=True, text=True, check=False)
    assert "kill mode" in bad.stderr


def test_the_file_of_the_package_is_good():
    done = mered("--check-config", "--config", ROOT / "packaging/mere.conf")
    assert (done.returncode, done.stdout) == (0, "the settings are good\n"), done
    words = directive("ExecStart")[0].split()
    assert words[0] == "/usr/sbin/mered" and "--keep-computes" in words
    assert mered("--print-config", *[w.replace("/etc/mere/mere.conf", str(ROOT / "packaging/mere.conf")) for w in words[1:]]).returncode == 0


@pytest.mark.root
def test_what_the_unit_takes_away_is_not_missed(new_mere, manager):
    """The capabilities of the unit and no others: computes with limits, a disk file, a fork, a suspend, a wake."""
    kept = ",".join("+" + c.removeprefix("CAP_").lower() for c in directive("CapabilityBoundingSet")[0].split())
    m = manager.start(new_mere(), wrap=["setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}"])
    bounds = int(re.search(r"CapBnd:\s*(\S+)", procs.read(f"/proc/{m.proc.pid}/status")).group(1), 16)
    assert 0 < bin(bounds).count("1") <= len(directive("CapabilityBoundingSet")[0].split())
    project = m.create_project()
    project.main.query("CREATE TABLE t AS SELECT 42 AS n")
    child = project.branch(project.main)
    assert child.value("SELECT n FROM t") == 42
    child.suspend()
    assert child.value("SELECT n FROM t") == 42
    assert m.stop() == 0


@pytest.mark.root
def test_a_mount_survives_a_restart_in_another_namespace(new_mere, manager):
    """As where a drop-in asks for a namespace: nobody outside sees the mount, not even the next start."""
    apart = ["unshare", "-m", "--propagation", "slave"]
    m = new_mere(args=["--keep-computes"], store="disk:1GB")
    manager.start(m, wrap=apart)
    project = m.create_project()
    b = project.main
    b.query("CREATE TABLE t AS SELECT 42 AS n")
    first = os.readlink(f"/proc/{m.proc.pid}/ns/mnt")
    with contextlib.closing(b.connect()) as conn:
        computes = m.postmasters()
        m.stop()
        assert m.postmasters() == computes
        manager.start(m, wrap=apart)
        assert os.readlink(f"/proc/{m.proc.pid}/ns/mnt") not in (first, os.readlink("/proc/self/ns/mnt"))
        assert m.store == "btrfs" and m.postmasters() == computes
        with conn.cursor() as cur:
            cur.execute("INSERT INTO t SELECT n + 1 FROM t")
        child = project.branch(b)
        assert child.query("SELECT n FROM t ORDER BY n") == [(42,), (43,)]
        mine = [d for d, file in procs.loops().items() if file.startswith(str(m.data))]
        assert len(mine) == 1, "one device under both mounts"
    b.suspend()
    m.stop()
    manager.start(m, wrap=apart)
    assert b.query("SELECT n FROM t ORDER BY n") == [(42,), (43,)]
    assert m.stop(signal.SIGINT) == 0
    assert m.processes() == []


# --- packages


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(not shutil.which("dpkg-buildpackage"), reason="dpkg-buildpackage is not there")
def test_the_debian_packages_build():
    done = subprocess.run([ROOT / "tools/deb.sh"], capture_output=True, text=True, check=False, env={**os.environ, "DEB_BUILD_OPTIONS": "nocheck"})
    assert done.returncode == 0, done.stdout + done.stderr
    out = ROOT / "build/deb"
    listed = {name: subprocess.run(["dpkg-deb", "-c", next(out.glob(f"{name}_*.deb"))], capture_output=True, text=True, check=True).stdout for name in ("mere", "mere-cli")}
    for path in ("lib/systemd/system/mered.service", "lib/systemd/system/mered.socket", "usr/lib/mere/mere-proxy", "usr/lib/mere/mere-exec",
                 "usr/lib/mere/mere-wal", "usr/lib/mere/mered", "usr/sbin/mered", "etc/mere/mere.conf", "usr/lib/sysusers.d/mere.conf"):
        assert f" ./{path}" in listed["mere"], path
    assert " ./usr/bin/mere\n" in listed["mere-cli"] and "usr/bin/mere\n" not in listed["mere"]
