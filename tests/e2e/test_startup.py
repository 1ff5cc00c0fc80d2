"""Starting, stopping and the places where Mere may be put."""
import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from harness import procs
from harness.server import ROOT, StartFailed, binaries, free_port, scratch, until

AS_NOBODY = {"user": "nobody", "store": "copy"}


def one_sentence(failure, *words):
    """What a user sees: the last line says it, names the thing, and is neither a trace nor empty."""
    lines = [line for line in failure.stderr.strip().splitlines() if line.strip()]
    assert lines and len(lines[-1]) > 20, failure.stderr
    text = " ".join(lines[-3:])
    for w in words:
        assert w.lower() in text.lower(), (w, text)
    assert failure.status not in (0, "timeout") and failure.status < 128 and failure.status > 0, failure.status
    assert failure.stdout == ""


def works(m):
    """A database is made, forked, and both answer."""
    project = m.create_project()
    project.main.query("CREATE TABLE t AS SELECT 42 AS n")
    child = project.branch(project.main)
    assert child.value("SELECT n FROM t") == 42
    project.main.suspend()
    cold = project.branch(project.main)
    assert cold.value("SELECT n FROM t") == 42
    return project


def test_ready_line_and_files(new_mere):
    m = new_mere()
    m.listen = m.pg_listen = "127.0.0.1:0"
    m.start()
    assert m.port > 0 and m.pg_port > 0 and m.port != m.pg_port
    assert stat.S_IMODE(os.stat(m.data).st_mode) == 0o700
    key = m.data / "admin.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text().splitlines()) == 1
    for secret in m.data.glob("*.key"):
        assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0, secret
    assert m.request("GET", "/livez", key=None)[0] == 200
    assert m.request("GET", "/readyz", key=None)[0] == 200
    assert m.call("GET", "/users/me")["id"]
    m.stop()
    assert len(m.stdout.splitlines()) == 1, m.stdout


def test_admin_key_stays_the_same(new_mere):
    m = new_mere().start()
    key = m.key
    m.restart()
    assert m.key == key


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_and_the_next_start_finds_everything(new_mere, signo):
    m = new_mere().start()
    project = works(m)
    conn = project.main.connect()
    assert m.stop(signo) == 0
    assert m.processes() == []
    conn.close()
    m.start()
    assert project.main.value("SELECT n FROM t") == 42
    assert len(project.branches()) == 3


def test_second_signal_while_stopping_does_no_harm(new_mere):
    m = new_mere().start()
    works(m)
    m.proc.send_signal(signal.SIGTERM)
    m.proc.send_signal(signal.SIGINT)
    assert m.wait(60) == 0
    assert m.processes() == []


def test_a_second_mered_on_the_same_directory_refuses(new_mere, expect_log):
    expect_log("in use|already|another|lock")
    m = new_mere().start()
    twin = type(m)(base=scratch(), data=m.data)
    try:
        with pytest.raises(StartFailed) as e:
            twin.start()
        one_sentence(e.value, str(m.data))
    finally:
        twin.data = twin.base / "none"
        twin.scrub()
    assert m.call("GET", "/users/me")["id"]
    works(m)


@pytest.mark.parametrize("which", ["listen", "pg_listen"])
def test_ports_in_use(new_mere, expect_log, which):
    expect_log("in use")
    m = new_mere()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        setattr(m, which, f"127.0.0.1:{s.getsockname()[1]}")
        with pytest.raises(StartFailed) as e:
            m.start()
    one_sentence(e.value, str(s and m.__dict__[which].split(":")[1]))
    assert m.processes() == []


@pytest.mark.root
def test_under_a_closed_home(new_mere):
    """The clone lies where the compute's user cannot go."""
    m = new_mere()
    home = m.base / "home"
    home.mkdir(mode=0o700)
    m.data = home / "mere" / "data"
    m.data.parent.mkdir()
    m.base.chmod(0o700)
    m.start()
    works(m)


def test_a_very_long_path(new_mere):
    m = new_mere()
    m.data = m.base / ("long-" + "x" * 90) / ("y" * 90) / "d"
    m.data.parent.mkdir(parents=True)
    assert len(str(m.data)) > 200
    m.start()
    project = works(m)
    assert project.main.value("SELECT 1") == 1
    assert len(project.main.socket_dir() + "/.s.PGSQL.5432") <= 107


def test_a_path_with_blanks_and_quotes(new_mere):
    m = new_mere()
    m.data = m.base / "it's a \"strange\" $HOME; dir"
    m.start()
    works(m)


def test_a_relative_path(new_mere):
    m = new_mere()
    m.data = m.base / "rel"
    real = m.argv
    m.argv = lambda: [a if a != str(m.data) else os.path.relpath(m.data, "/") for a in real()]
    m.start()
    works(m)


def test_keep_computes(new_mere):
    m = new_mere(args=["--keep-computes"]).start()
    project = works(m)
    conn = project.main.connect()
    cur = conn.cursor()
    cur.execute("SELECT pg_backend_pid()")
    backend, proxy, computes = cur.fetchone()[0], m.proxy_pid(), m.postmasters()
    assert m.stop() == 0
    assert m.proxy_pid() == proxy and m.postmasters() == computes
    cur.execute("SELECT pg_backend_pid()")
    assert cur.fetchone()[0] == backend
    m.start()
    assert m.proxy_pid() == proxy and m.postmasters() == computes
    cur.execute("SELECT pg_backend_pid()")
    assert cur.fetchone()[0] == backend
    conn.close()
    # Without the flag the next stop takes all of it, also what it adopted.
    assert m.stop() == 0
    m.args = []
    m.start()
    assert m.postmasters() == computes
    assert m.stop() == 0
    assert m.processes() == []


@pytest.mark.root
def test_computes_are_never_root(new_mere):
    m = new_mere().start()
    works(m)
    for p in m.processes():
        status = procs.read(f"/proc/{p.pid}/status")
        if not status:  # a backend that ended meanwhile
            continue
        uids = {int(u) for u in status.split("Uid:")[1].split("\n")[0].split()}
        assert (0 in uids) == (p.comm == "mered") or p.comm == "mere-proxy", p


def test_no_secret_in_any_process_list_or_log(new_mere):
    m = new_mere().start()
    project = works(m)
    secrets = [m.key, project.password]
    for p in m.processes():
        shown = p.cmdline + procs.read(f"/proc/{p.pid}/environ")
        assert not [s for s in secrets if s in shown], p
    texts = [m.log_text()] + [f.read_text(errors="replace") for f in (m.data / "logs").glob("*")]
    assert not [s for s in secrets for t in texts if s in t]
    assert project.password.encode() not in m.database_file().read_bytes()
    assert m.key.encode() not in m.database_file().read_bytes()


@pytest.mark.root
def test_as_an_ordinary_user(new_mere):
    m = new_mere(**AS_NOBODY).start()
    assert m.store == "copy"
    project = works(m)
    for p in m.processes():
        with contextlib.suppress(FileNotFoundError):  # a backend that ended meanwhile
            assert os.stat(f"/proc/{p.pid}").st_uid == 65534, p
    m.kill9()
    m.start()
    assert project.main.value("SELECT n FROM t") == 42


@pytest.mark.root
def test_a_directory_one_may_not_write(new_mere, expect_log):
    expect_log("ermission|denied|cannot")
    m = new_mere(**AS_NOBODY)
    closed = m.base / "closed"
    closed.mkdir(mode=0o700)
    m.data = closed / "d"
    with pytest.raises(StartFailed) as e:
        m.start()
    one_sentence(e.value, "closed")


@pytest.mark.root
def test_no_postgres_found(new_mere, expect_log):
    expect_log("ostgres")
    m = new_mere()
    empty = m.base / "empty"
    empty.mkdir()
    hide = ["unshare", "-m", "sh", "-c", f'mount --bind {empty} /usr/lib/postgresql && exec "$@"', "sh"]
    with pytest.raises(StartFailed) as e:
        m.start(wrap=hide)
    one_sentence(e.value, "postgres")
    assert "apt" in e.value.stderr or "install" in e.value.stderr


@pytest.mark.parametrize("args, word", [
    (["--store", "zfs"], "--store"), (["--no-such-flag"], "no-such-flag"), (["--listen", "nonsense"], "nonsense"), (["--config", "/nonexistent"], "nonexistent")])
def test_wrong_arguments(new_mere, expect_log, args, word):
    expect_log(word)
    m = new_mere()
    with pytest.raises(StartFailed) as e:
        m.start(extra=args)
    one_sentence(e.value, word)
    assert m.processes() == []


def test_an_unknown_setting_in_the_file(new_mere, expect_log):
    expect_log("suspend-timeout")
    m = new_mere(config={"suspend-timeout-minimum": 1})
    with pytest.raises(StartFailed) as e:
        m.start()
    one_sentence(e.value, "suspend-timeout-minimum")


@pytest.mark.parametrize("args, word", [
    (["--data", "x", "--log-level", "loud"], "log-level"), (["--data", ""], "--data is empty"), ([], "--data DIR is required"),
    (["--data", "x", "--listen", "nonsense"], "--listen"), (["--data", "x", "--pg-listen", "1"], "--pg-listen"),
    (["--data", "x", "--store", "zfs"], "--store"), (["--data", "x", "--tls-key", "y"], "tls-cert"),
    (["--data", "x", "--config", "/nonexistent"], "/nonexistent cannot be read: it does not exist"), (["--data"], "needs a value"), (["data"], "unexpected")])
def test_usage_is_status_2_and_one_sentence(workdir, args, word):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MERE_")}
    done = subprocess.run([binaries() / "mered", *args], capture_output=True, text=True, check=False, timeout=20, cwd=workdir, env=env)
    assert done.returncode == 2 and done.stdout == "", done
    assert done.stderr.startswith("mered: ") and len(done.stderr.splitlines()) == 1 and word in done.stderr, done.stderr


def test_help_and_version():
    assert subprocess.run([binaries() / "mered", "--version"], capture_output=True, text=True, check=True).stdout.endswith(")\n"), "no commit"
    for flag in ("--help", "--version"):
        done = subprocess.run([binaries() / "mered", flag], capture_output=True, text=True, check=False, timeout=10)
        assert done.returncode == 0 and done.stdout.strip(), (flag, done)


def test_a_data_directory_that_is_something_else(new_mere, expect_log):
    expect_log("(?i)director")
    m = new_mere()
    m.data.write_text("a file")
    with pytest.raises(StartFailed) as e:
        m.start()
    one_sentence(e.value, str(m.data))
    m.data.unlink()


def test_killed_while_starting_for_the_first_time(new_mere, expect_log):
    """At some moment of the first start: the second one ends up with a whole server."""
    expect_log("left|template|half|trash|again")
    m = new_mere()
    m.disturbed = True  # at the last moment it may have a proxy
    for pause in (0.02, 0.1, 0.3, 0.6, 1.0):
        full = {k: v for k, v in os.environ.items() if not k.startswith(("MERE_", "CRASH_", "PG"))}
        with open(m.log_path, "ab") as log:
            p = subprocess.Popen(m.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=full, start_new_session=True, cwd="/")
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.wait(pause)
        p.kill()
        p.wait()
    m.start()
    works(m)


def test_everything_killed_then_started(new_mere, expect_log):
    expect_log("(?i)exit|gone|crash|recover|ended|died|proxy|lost")
    m = new_mere().start()
    project = works(m)
    m.crash_all()
    m.start()
    assert project.main.value("SELECT n FROM t") == 42
    assert len(project.branches()) == 3


@pytest.mark.parametrize("store", ["copy", "reflink", "btrfs"])
def test_every_driver(new_mere, store):
    m = new_mere(store=store)
    if store != "copy":
        mounted = make_file_system(m, "xfs" if store == "reflink" else "btrfs")
        m.data = mounted / "d"
    m.start()
    assert m.store == store
    works(m)
    assert m.stop() == 0
    m.start()
    m.stop()
    if store != "copy":
        subprocess.run(["umount", str(mounted)], check=True)


def make_file_system(m, kind):
    if os.getuid() != 0 or not shutil.which(f"mkfs.{kind}"):
        pytest.skip(f"needs root and mkfs.{kind}")
    image, point = m.base / "fs.img", m.base / "mnt"
    with open(image, "wb") as f:
        f.truncate(1 << 30)
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
    point.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(point)], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"cannot mount {kind}")
    return point


@pytest.mark.root
def test_auto_makes_a_disk_file_and_says_so(new_mere):
    m = new_mere(store="auto").start()
    # What it picks depends on the temporary directory's file system; a disk file reports btrfs.
    assert m.store in ("btrfs", "reflink", "copy")
    disk = m.data / "disk.btrfs"
    if disk.exists():
        assert m.store == "btrfs" and "disk file" in m.log_text()
        free = os.statvfs(m.base).f_bavail * os.statvfs(m.base).f_frsize
        assert disk.stat().st_size <= min(10 << 30, free // 4 + disk.stat().st_size // 4)
        assert disk.stat().st_blocks * 512 >= disk.stat().st_size * 0.99, "it must be preallocated"


def test_leftovers_in_the_data_directory_are_put_away(new_mere, expect_log):
    """Half-made things of an earlier life."""
    expect_log("left|half|unknown|quarantine|trash|removed")
    m = new_mere().start()
    works(m)
    m.stop()
    if m.store != "btrfs":
        for place in ("volumes/.tmp/im-half", "volumes/.trash/im-old"):
            (m.data / place).mkdir(parents=True, exist_ok=True)
    m.start()
    if m.store == "btrfs":
        m.kill9()
        for place in ("volumes/.tmp/im-half", "volumes/.trash/im-old"):
            (m.data / place).mkdir(parents=True, exist_ok=True)
        m.start()
    until(lambda: not os.listdir(m.data / "volumes/.tmp") and not os.listdir(m.data / "volumes/.trash"), 45, "leftovers to go")


def test_ready_line_is_machine_readable_even_when_nobody_reads(new_mere):
    """Standard output closed: not a reason to fail."""
    m = new_mere().start()
    m.proc.stdout.close()
    assert json.dumps(m.call("GET", "/regions"))


# --- somebody else's directory -------------------------------------------------------------------------------------------------


def look(path):
    """All that a start could change of a directory."""
    return {str(p): (p.lstat().st_mode, p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in [path, *path.rglob("*")]}


@pytest.mark.parametrize("names", [["letter.txt"], ["lock", "partial/x"], [".hidden"], ["mere.db.bak", "wal/x"]])
def test_a_foreign_directory_is_left_alone(new_mere, names):
    m = new_mere()
    m.data.mkdir(mode=0o755)
    for name in names:
        (m.data / name).parent.mkdir(exist_ok=True)
        (m.data / name).write_text("mine")
    before = look(m.data)
    with pytest.raises(StartFailed) as e:
        m.start()
    one_sentence(e.value, str(m.data), "holds other things", "nothing was changed")
    assert look(m.data) == before
    assert traces(m) == []


def test_an_empty_directory_is_taken_and_keeps_its_mode(new_mere):
    m = new_mere()
    m.data.mkdir()
    (m.data / "lost+found").mkdir()
    m.data.chmod(0o755)
    m.start()
    assert stat.S_IMODE(m.data.stat().st_mode) == 0o755
    for secret in [*m.data.glob("*.key"), m.database_file()]:
        assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0, secret
    m.restart()
    assert stat.S_IMODE(m.data.stat().st_mode) == 0o755


def test_a_directory_that_others_may_write(new_mere):
    m = new_mere()
    m.data.mkdir()
    m.data.chmod(0o777)
    with pytest.raises(StartFailed) as e:
        m.start()
    one_sentence(e.value, "others may write")
    assert stat.S_IMODE(m.data.stat().st_mode) == 0o777 and list(m.data.iterdir()) == []
    m.data.chmod(0o700)
    m.start().stop()
    m.data.chmod(0o770)
    m.start()
    assert stat.S_IMODE(m.data.stat().st_mode) == 0o700, "its own it closes"


# --- starts that fail ----------------------------------------------------------------------------------------------------------


def traces(m):
    """Where a server of this data directory is outside of it."""
    name = hashlib.sha256(os.path.realpath(m.data).encode()).hexdigest()[:8]
    uid = os.stat(m.base).st_uid
    return [p for pattern in (f"/run/mere/{name}", f"/tmp/mere-{uid}/{name}", f"/sys/fs/cgroup/mere-{name}", f"/sys/fs/cgroup/*/mere-{name}",
                              f"/sys/fs/cgroup/*/*/mere-{name}") for p in glob.glob(pattern)]


def with_proxy(m, script):
    """The same programs, but for a mere-proxy of the test's."""
    m.base.chmod(0o755)
    other = m.base / "bin"
    other.mkdir()
    for tool in m.bin.iterdir():
        if tool.name in ("mered", "mere-exec", "mere-wal"):
            shutil.copy(tool, other)
    (other / "mere-proxy").write_text("#!/bin/sh\n" + script)
    (other / "mere-proxy").chmod(0o755)
    m.bin = other


def taken(m, which):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    setattr(m, which, f"127.0.0.1:{s.getsockname()[1]}")
    return s


@pytest.mark.parametrize("what", ["listen", "pg_listen", "proxy", "certificate", "initdb"])
def test_a_failed_start_leaves_nothing_outside(new_mere, expect_log, what):
    expect_log("proxy|in use|initdb")
    m, kw = new_mere(), {}
    held = taken(m, what) if what.endswith("listen") else None
    if what == "proxy":
        with_proxy(m, "echo 2026-01-01T00:00:00Z error proxy the moon is full; exit 1\n")
    elif what == "certificate":
        kw = {"extra": ["--tls-cert", "/nonexistent.crt", "--tls-key", "/nonexistent.key"]}
    elif what == "initdb":
        if os.getuid() != 0:
            pytest.skip("needs root")
        kw = {"wrap": ["unshare", "-m", "sh", "-c", 'for i in /usr/lib/postgresql/*/bin/initdb; do mount --bind /bin/false "$i"; done; exec "$@"', "sh"]}
    begun = time.monotonic()
    with pytest.raises(StartFailed) as e:
        m.start(**kw)
    assert e.value.status == 1 and time.monotonic() - begun < 12
    one_sentence(e.value, {"listen": "listen", "pg_listen": "--pg-listen", "proxy": "the moon is full", "certificate": "/nonexistent.crt",
                           "initdb": "initdb"}[what])
    assert traces(m) == []
    if held:
        held.close()


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_proxy_does_not_come_up(new_mere, signo):
    m = new_mere()
    m.start().stop()
    with_proxy(m, f"echo > {m.base}/called; exec sleep 600\n")
    with open(m.log_path, "ab") as log:
        m.proc = subprocess.Popen(m.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, cwd="/")
    until((m.base / "called").exists, 20, "the proxy to be started")
    begun = time.monotonic()
    m.proc.send_signal(signo)
    assert m.wait(10) == 1 and time.monotonic() - begun < 5
    assert "stopped by a signal" in m.log_text()
    assert m.processes() == [] and traces(m) == []


# --- the proxy of an earlier life ----------------------------------------------------------------------------------------------


def refused(host, port):
    with socket.socket() as s:
        s.settimeout(5)
        return s.connect_ex((host, port)) != 0


def test_a_proxy_that_listens_elsewhere_is_replaced(new_mere):
    m = new_mere(args=["--keep-computes"])
    m.pg_listen = f"0.0.0.0:{free_port()}"
    m.start()
    project = works(m)
    proxy, port, computes = m.proxy_pid(), m.pg_port, m.postmasters()
    assert not refused("127.0.0.2", port)
    m.stop()
    m.start()
    assert m.proxy_pid() == proxy, "nothing has changed"
    m.stop()
    m.pg_listen, m.args = f"127.0.0.1:{port}", []
    m.start()
    assert m.proxy_pid() != proxy and not procs.alive(proxy) and m.postmasters() == computes
    assert refused("127.0.0.2", port) and project.main.value("SELECT n FROM t") == 42


def test_addresses_of_version_6_are_printed_in_brackets(new_mere):
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    m = new_mere()
    m.listen, m.pg_listen = f"[::1]:{free_port()}", f"[::1]:{free_port()}"
    # The harness dials the address without the brackets.
    m.start()
    assert m.api_url.startswith("http://[::1]:") and m.pg_host == "[::1]"
    m.host = m.pg_host = "::1"
    works(m)


# --- the keys -----------------------------------------------------------------------------------------------------------------


def test_a_lost_key_of_stored_passwords_is_no_new_key(new_mere):
    m = new_mere().start()
    project = works(m)
    m.stop()
    key = m.data / "secret.key"
    good = key.read_bytes()
    for other, words in ((None, "missing"), (b"x" * 32, "another key"), (b"short", "damaged"), (b"y" * 40, "damaged")):
        key.unlink()
        if other is not None:
            key.write_bytes(other)
        with pytest.raises(StartFailed) as e:
            m.start()
        one_sentence(e.value, "secret.key", words, "nothing was started")
        assert key.exists() == (other is not None) and traces(m) == []
        key.write_bytes(good)
    m.start()
    assert project.password in m.call("GET", f"/projects/{project.id}/connection_uri")["uri"]


def test_without_stored_passwords_a_new_key_is_made(new_mere):
    m = new_mere().start()
    m.stop()
    (m.data / "secret.key").unlink()
    m.start()
    assert (m.data / "secret.key").stat().st_size == 32
    works(m)


def test_a_removed_admin_key_is_made_anew(new_mere):
    m = new_mere().start()
    old = m.key
    m.stop()
    (m.data / "admin.key").unlink()
    m.start()
    assert m.key != old and m.call("GET", "/users/me")["id"]
    assert m.request("GET", "/users/me", key=old)[0] == 401


# --- make run ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, data", [([], "data"), (["DATA=else where"], "else where"), (["DATA=/tmp/./there"], "/tmp/there")])
def test_make_run_names_the_directory(workdir, words, data):
    """The real Makefile and script around a mered that only says what it was asked for."""
    for name, text in (("tools/deps.sh", "exit 0"), ("build/bin/mered", 'echo "asked $*"; echo ready api=http://127.0.0.1:1 postgres=127.0.0.1:2 store=copy')):
        (workdir / name).parent.mkdir(parents=True)
        (workdir / name).write_text(f"#!/bin/sh\n{text}\n")
        (workdir / name).chmod(0o755)
    shutil.copy(ROOT / "tools/run.sh", workdir / "tools")
    shutil.copy(ROOT / "Makefile", workdir)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "DATA", "RUN_ARGS"))}
    done = subprocess.run(["make", "--no-print-directory", "run", *words], cwd=workdir, env=env, capture_output=True, text=True, timeout=60, check=True)
    where = os.path.join(workdir.resolve(), data)
    assert f"asked --data {where}\n" in done.stdout and f"admin key   {where}/admin.key" in done.stdout
    first, readme = (set(re.findall(r"projects create --name (\S+)", t)) for t in (done.stdout, (ROOT / "README.md").read_text()))
    assert first and readme and not first & readme, "the two sessions may both be pasted"
