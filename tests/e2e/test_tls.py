"""TLS at the Postgres port: first packets, certificates of our own and of the user, and new ones without a session lost."""
import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import ssl
import subprocess
import time

import psycopg2
import pytest

from harness import procs, wire
from harness.netns import elsewhere  # noqa: F401 - fixture
from harness.proxyrig import (
    DATABASE, EP, GOOD, GSS_REQUEST, NOT_BUILT, PASSWORD, SSL_REQUEST, USER, later, read_error, serves, startup_packet,
)
from harness.proxyrig import certificate, make, pg, proxy  # noqa: F401 - fixtures
from harness.server import StartFailed, scratch, until

pytestmark = NOT_BUILT
WITHOUT_NAME = startup_packet(user=USER, database=DATABASE)
CANCEL = b"\0\0\0\x10\x04\xd2\x16\x2e" + b"12345678"


def context(alpn=None, oldest=None, newest=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if alpn:
        c.set_alpn_protocols(alpn)
    if newest and newest < ssl.TLSVersion.TLSv1_2:
        c.set_ciphers("ALL:@SECLEVEL=0")
    for name, version in (("minimum_version", oldest), ("maximum_version", newest)):
        if version:
            setattr(c, name, version)
    return c


def shown(host, port, sni=None):
    """The certificate that a new client is shown, as PEM."""
    with socket.create_connection((host, port), timeout=20) as s:
        s.sendall(SSL_REQUEST)
        assert s.recv(1) == b"S"
        with context().wrap_socket(s, server_hostname=sni) as t:
            return ssl.DER_cert_to_PEM_cert(t.getpeercert(True))


def pem(path):
    text = path.read_text()
    return text[text.index("-----BEGIN CERT"):]


def new_pair(base, name, *more):
    """A self-signed pair beside what is in base."""
    cert, key = base / f"{name}.crt", base / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out",
                    str(cert), "-days", "2", "-subj", f"/CN={name}", *more], check=True, capture_output=True)
    return cert, key


# --- first packets (catalogue E8) ------------------------------------------------------------------------------------------------------

DROPPED, TLS_FAILS, STARTED = "closed without a word", "no TLS comes up", "asked for a password"


def talk(proxy, steps):
    """Does one step after the other on one connection; returns what came of it: one of the above or an SQLSTATE."""
    s = proxy.raw()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: s.close())
        for step in steps:
            if isinstance(step, bytes):
                s.sendall(step)
            elif isinstance(step, dict):
                try:
                    s = context(step.get("alpn"), step.get("oldest"), step.get("newest")).wrap_socket(s, server_hostname=step.get("sni"))
                except (ssl.SSLError, ConnectionError):
                    return TLS_FAILS
            else:
                assert s.recv(1) == step.encode(), step
        try:
            first = s.recv(1, socket.MSG_PEEK) if not isinstance(s, ssl.SSLSocket) else s.read(1)
        except (ssl.SSLError, ConnectionError):
            return DROPPED
        if first in (b"", b"\x15"):  # nothing, or a TLS alert
            return DROPPED
        if first == b"R":
            return STARTED
        assert first == b"E", first
        if isinstance(s, ssl.SSLSocket):
            rest = first
            while chunk := s.recv(4096):
                rest += chunk
            return next(f[1:].decode() for f in rest[5:].split(b"\0") if f[:1] == b"C")
        return read_error(s)["C"]


SNI = {"sni": f"{EP}.localhost"}
PG = ["postgresql"]


@pytest.mark.parametrize("steps,comes", [
    ([SSL_REQUEST, "S", {}, GOOD], STARTED),
    ([SSL_REQUEST, "S", SNI, WITHOUT_NAME], STARTED),
    ([SSL_REQUEST, "S", SNI, GOOD], STARTED),
    ([SSL_REQUEST, "S", {}, WITHOUT_NAME], "08004"),
    ([SSL_REQUEST, "S", {"sni": "ep-other-sun-b6944ocj.localhost"}, GOOD], "08004"),
    ([SSL_REQUEST, "S", {"alpn": PG}, GOOD], STARTED),
    ([SSL_REQUEST, "S", {"alpn": ["http/1.1", "postgresql"]}, GOOD], STARTED),
    ([SSL_REQUEST, "S", {"alpn": ["http/1.1"]}], TLS_FAILS),
    ([SSL_REQUEST, "S", {"alpn": ["postgresq"]}], TLS_FAILS),
    ([SSL_REQUEST, "S", {"alpn": ["postgresqll"]}], TLS_FAILS),
    ([SSL_REQUEST, "S", {"oldest": ssl.TLSVersion.TLSv1_3}, GOOD], STARTED),
    ([SSL_REQUEST, "S", {"newest": ssl.TLSVersion.TLSv1_2}, GOOD], STARTED),
    ([SSL_REQUEST, "S", {"oldest": ssl.TLSVersion.TLSv1, "newest": ssl.TLSVersion.TLSv1_1}], TLS_FAILS),
    ([SSL_REQUEST + GOOD], DROPPED),
    ([SSL_REQUEST + SSL_REQUEST], DROPPED),
    ([SSL_REQUEST + b"\x16"], DROPPED),
    ([SSL_REQUEST + b"\0"], DROPPED),
    ([SSL_REQUEST, "S", GOOD], DROPPED),
    ([SSL_REQUEST, "S", SSL_REQUEST], DROPPED),
    ([SSL_REQUEST, "S", GSS_REQUEST], DROPPED),
    ([SSL_REQUEST, "S", CANCEL], DROPPED),
    ([SSL_REQUEST, "S", {}, SSL_REQUEST], "08P01"),
    ([SSL_REQUEST, "S", {}, GSS_REQUEST], "08P01"),
    ([SSL_REQUEST, "S", {}, b"\x16\x03\x01"], "08P01"),
    ([GSS_REQUEST, "N", GOOD], STARTED),
    ([GSS_REQUEST, "N", SSL_REQUEST, "S", {}, GOOD], STARTED),
    ([GSS_REQUEST, "N", SSL_REQUEST, "S", {}, GSS_REQUEST], "08P01"),
    ([GSS_REQUEST, "N", SSL_REQUEST, "S", GSS_REQUEST], DROPPED),
    ([GSS_REQUEST, "N", GSS_REQUEST], DROPPED),
    ([GSS_REQUEST + GOOD], DROPPED),
    ([GSS_REQUEST + SSL_REQUEST], DROPPED),
    ([GSS_REQUEST, "N", {"alpn": PG, **SNI}], TLS_FAILS),
    ([{"alpn": PG, **SNI}, WITHOUT_NAME], STARTED),
    ([{"alpn": PG}, GOOD], STARTED),
    ([{"alpn": PG}, WITHOUT_NAME], "08004"),
    ([{"alpn": ["http/1.1", "postgresql"], **SNI}, WITHOUT_NAME], STARTED),
    ([{"alpn": ["http/1.1"], **SNI}], TLS_FAILS),
    ([{"alpn": PG, **SNI}, SSL_REQUEST], "08P01"),
    ([{"alpn": PG, "newest": ssl.TLSVersion.TLSv1_2}, GOOD], STARTED),
    ([{**SNI}, WITHOUT_NAME], DROPPED),
    ([{"newest": ssl.TLSVersion.TLSv1_2, **SNI}, WITHOUT_NAME], DROPPED),
], ids=lambda x: x if isinstance(x, str) else None)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_first_packets(proxy, steps, comes):
    got = talk(proxy, steps)
    # Direct TLS without ALPN ends when the handshake does, which the client may see as either.
    assert got == comes or (comes == DROPPED and got == TLS_FAILS and isinstance(steps[0], dict)), got
    if comes != STARTED:
        assert proxy.mered.seen("WAKE .*") == [], "nobody was to be asked"
    assert proxy.value() == 1


def test_the_table_can_see(proxy):
    """Bytes that come a moment later are nobody's who wants to be taken for the client: they are the client's."""
    assert talk(proxy, [GSS_REQUEST, "N", GOOD]) == STARTED
    assert talk(proxy, [GSS_REQUEST + GOOD]) == DROPPED
    assert talk(proxy, [SSL_REQUEST, "S", {}, GOOD]) != talk(proxy, [SSL_REQUEST, "S", {}, WITHOUT_NAME])


# --- from elsewhere ----------------------------------------------------------------------------------------------------------------------


def test_plaintext_only_from_this_machine(make, elsewhere):
    proxy = make(listen="0.0.0.0")
    named = {"user": USER, "database": DATABASE, "options": f"endpoint={EP}"}
    with elsewhere.there():
        with pytest.raises(wire.Refused) as e, wire.Wire(elsewhere.near, proxy.port, tls=False) as w:
            w.login(PASSWORD, **named)
        assert e.value.sqlstate == "28000" and "sslmode=require" in e.value.fields["H"]
        assert proxy.mered.seen("WAKE .*") == []
        with wire.Wire(elsewhere.near, proxy.port, tls=True) as w:
            w.login(PASSWORD, **named)
            assert w.query("SELECT 6 * 7") == [["42"]]
        with socket.create_connection((elsewhere.near, proxy.port), timeout=20) as s:  # whom it cancels says the key
            s.sendall(CANCEL)
            assert s.recv(1) == b""
    with wire.Wire("127.0.0.1", proxy.port, tls=False) as w:
        w.login(PASSWORD, **named)
    with wire.Wire(elsewhere.near, proxy.port, tls=False) as w, pytest.raises(wire.Refused):  # an address of ours, but not loopback
        w.login(PASSWORD, **named)


def test_plaintext_where_it_is_allowed(make, elsewhere):
    proxy = make("--allow-plaintext", listen="0.0.0.0")
    with elsewhere.there(), wire.Wire(elsewhere.near, proxy.port, tls=False) as w:
        w.login(PASSWORD, user=USER, database=DATABASE, options=f"endpoint={EP}")
        assert w.query("SELECT 6 * 7") == [["42"]]


# --- another certificate, by hand --------------------------------------------------------------------------------------------------------


def test_a_certificate_from_mered(proxy):
    """New sessions get it; those that are there, or in the middle of their handshake, go on with what they have."""
    old = pem(proxy.base / "crt")
    with contextlib.closing(proxy.connect()) as conn, conn.cursor() as cur, proxy.raw() as waiting:
        waiting.sendall(SSL_REQUEST)
        assert waiting.recv(1) == b"S"
        for i in range(3):
            cert, key = new_pair(proxy.base, f"new{i}")
            proxy.mered.certify(cert, key)
            until(lambda: shown("127.0.0.1", proxy.port) == pem(cert), 5, "the new certificate")  # noqa: B023
            cur.execute("SELECT %s", (i,))
            assert cur.fetchone() == (i,)
        with context().wrap_socket(waiting) as t:
            assert ssl.DER_cert_to_PEM_cert(t.getpeercert(True)) == old
    assert proxy.value() == 1
    assert "PRIVATE" not in proxy.log_text()


def test_a_chain(proxy):
    """What vouches for a certificate is shown along with it."""
    base = proxy.base
    ca, ca_key = new_pair(base, "root")
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", base / "mid.key", "-out",
                    base / "mid.csr", "-subj", "/CN=middle"], check=True, capture_output=True)
    (base / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\n")
    (base / "leaf.ext").write_text("subjectAltName=DNS:localhost\n")
    subprocess.run(["openssl", "x509", "-req", "-in", base / "mid.csr", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile",
                    base / "ca.ext", "-out", base / "mid.crt"], check=True, capture_output=True)
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", base / "leaf.key", "-out",
                    base / "leaf.csr", "-subj", "/CN=leaf"], check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-req", "-in", base / "leaf.csr", "-CA", base / "mid.crt", "-CAkey", base / "mid.key",
                    "-CAcreateserial", "-extfile", base / "leaf.ext", "-out", base / "leaf.crt"], check=True, capture_output=True)
    (base / "chain.crt").write_text((base / "leaf.crt").read_text() + (base / "mid.crt").read_text())
    verified = f"host=localhost port={proxy.port} dbname={DATABASE}@{EP} sslmode=verify-full sslrootcert={ca}"
    proxy.mered.certify(base / "leaf.crt", base / "leaf.key")
    until(lambda: shown("127.0.0.1", proxy.port) == pem(base / "leaf.crt"), 5, "the certificate")
    assert "certificate verify failed" in proxy.psql(verified).stderr
    proxy.mered.certify(base / "chain.crt", base / "leaf.key")
    until(lambda: proxy.psql(verified).returncode == 0, 10, "the chain", pause=0.1)


@pytest.mark.parametrize("what", ["another key", "no certificate", "no key", "empty", "a directory", "no descriptors", "one descriptor",
                                  "more words"])
def test_what_is_no_pair_changes_nothing(proxy, what):
    old = shown("127.0.0.1", proxy.port)
    cert, key = new_pair(proxy.base, "new")
    other = new_pair(proxy.base, "other")[1]
    for name, text in (("none", "nonsense\n"), ("empty", "")):
        (proxy.base / name).write_text(text)
    send = {
        "another key": lambda: proxy.mered.certify(cert, other), "no certificate": lambda: proxy.mered.certify(proxy.base / "none", key),
        "no key": lambda: proxy.mered.certify(cert, proxy.base / "none"), "empty": lambda: proxy.mered.certify(proxy.base / "empty", key),
        "a directory": lambda: send_dirs(proxy), "no descriptors": lambda: proxy.mered.say("CERT"),
        "one descriptor": lambda: send_fds(proxy, b"CERT\n", [cert]), "more words": lambda: send_fds(proxy, b"CERT x\n", [cert, key]),
    }[what]
    before = procs.count_fds(proxy.pid)
    send()
    malformed = what in ("no descriptors", "one descriptor", "more words")
    until(lambda: ("cannot read a line" if malformed else "stays in force") in proxy.log_text(), 5, "the log")
    assert shown("127.0.0.1", proxy.port) == old and proxy.value() == 1
    for _ in range(20):
        send()
    proxy.mered.certify(cert, key)
    until(lambda: shown("127.0.0.1", proxy.port) == pem(cert), 5, "the good one")
    until(lambda: procs.count_fds(proxy.pid) <= before + 2, 5, "descriptors to be closed")


def send_fds(proxy, line, paths):
    with contextlib.ExitStack() as stack:
        socket.send_fds(proxy.mered.conn, [line], [stack.enter_context(open(p, "rb")).fileno() for p in paths])


def send_dirs(proxy):
    fd = os.open(proxy.base, os.O_RDONLY)
    socket.send_fds(proxy.mered.conn, [b"CERT\n"], [fd, fd])
    os.close(fd)


def test_a_line_in_pieces_keeps_its_descriptors(proxy, pg):
    cert, key = new_pair(proxy.base, "new")
    send_fds(proxy, b"RELEASE ep-nobody 1\nC", [cert, key])
    time.sleep(0.05)
    proxy.mered.conn.sendall(b"ER")
    time.sleep(0.05)
    proxy.mered.say("T")
    until(lambda: shown("127.0.0.1", proxy.port) == pem(cert), 5, "the certificate")


# --- the whole -----------------------------------------------------------------------------------------------------------------------------


def verify(m, ca, host, branch, mode="verify-full", hostaddr="127.0.0.1"):
    """psql's output, or what it says against it."""
    p = branch.project
    conninfo = f"host={host} hostaddr={hostaddr} port={m.pg_port} dbname={p.database} user={p.role} sslmode={mode} sslrootcert={ca}" + \
        ("" if host.startswith("ep-") else f" options=endpoint={branch.endpoint_id}")
    got = subprocess.run(["psql", "-XAtc", "SELECT 6 * 7", conninfo], capture_output=True, text=True, timeout=60,
                         env={**os.environ, "PGPASSWORD": p.password})
    return got.stdout.strip() or got.stderr


def mere_ca(m, *more):
    return subprocess.run([str(m.bin / "mere"), "ca", "--api-url", m.api_url, "--api-key-file", str(m.data / "admin.key"), *more],
                          capture_output=True, text=True, timeout=20)


def test_verify_full_with_the_authority_made(new_mere):
    m = new_mere(args=["--host-suffix", "db.example"]).start()
    main = m.create_project().main
    cli = mere_ca(m)
    ca = cli.stdout.strip()
    assert ca == str(m.data / "ca.crt"), cli
    assert json.loads(mere_ca(m, "--json").stdout) == {"ca_file": ca}
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        cli = mere_ca(m, "--api-url", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert cli.returncode == 3 and cli.stdout == "" and "ca.crt" in cli.stderr, cli
    for host in ("localhost", "127.0.0.1", f"{main.endpoint_id}.localhost", f"{main.endpoint_id}.db.example", "db.example"):
        assert verify(m, ca, host, main) == "42", host
    assert "does not match host name" in verify(m, ca, "db.example.org", main)
    assert verify(m, ca, "db.example.org", main, mode="verify-ca") == "42"
    with_other = new_pair(m.base, "other")[0]
    assert "certificate verify failed" in verify(m, with_other, "localhost", main)
    for name, mode in (("ca.key", 0o600), ("tls.key", 0o600), ("ca.crt", 0o644), ("tls.crt", 0o644)):
        assert (m.data / name).stat().st_mode & 0o7777 == mode
    # Another name of the server: another certificate, of the same authority.
    m.stop()
    m.args = ["--host-suffix", "other.example"]
    m.start()
    assert verify(m, ca, f"{main.endpoint_id}.other.example", main) == "42"
    assert "does not match host name" in verify(m, ca, f"{main.endpoint_id}.db.example", main)


@pytest.mark.root
def test_the_proxy_cannot_read_the_keys(new_mere):
    m = new_mere().start()
    for name in ("ca.key", "tls.key"):
        got = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "cat", str(m.data / name)], capture_output=True, text=True)
        assert got.returncode != 0 and "denied" in got.stderr
    assert not any("memfd" in link or "tls.key" in link for link in procs.links(m.proxy_pid()))
    assert "PRIVATE KEY" not in procs.read(m.log_path) + procs.read(m.data / "logs/proxy.log")


def test_user_certificates_are_read_again_on_hangup(new_mere, expect_log):
    expect_log("stays in force", "not valid today")
    base = scratch("mere-tls-")
    cert, key = new_pair(base, "mine", "-addext", "subjectAltName=DNS:localhost")
    m = new_mere(args=["--tls-cert", str(cert), "--tls-key", str(key)]).start()
    assert not (m.data / "ca.key").exists()
    cli = mere_ca(m)
    assert cli.returncode == 3 and cli.stdout == "" and "tls-cert" in cli.stderr, cli
    main = m.create_project().main
    proxy, mered = m.proxy_pid(), m.proc.pid
    assert verify(m, cert, "localhost", main) == "42"
    with contextlib.closing(main.connect()) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid()")
        backend = cur.fetchone()
        for i in range(2):
            again, its_key = new_pair(base, f"again{i}", "-addext", "subjectAltName=DNS:localhost")
            its_key.replace(key)
            m.proc.send_signal(signal.SIGHUP)  # half done: the key is not that of the certificate
            until(lambda: m.log_text().count("stays in force") == i + 1, 5, "the log")  # noqa: B023
            assert "belong together" in m.log_text() and str(key) in m.log_text()
            assert verify(m, again, "localhost", main) != "42"
            again.replace(cert)
            m.proc.send_signal(signal.SIGHUP)
            until(lambda: shown("127.0.0.1", m.pg_port) == pem(cert), 5, "the new certificate")
            assert verify(m, cert, "localhost", main) == "42"
            cur.execute("SELECT pg_backend_pid()")
            assert cur.fetchone() == backend
        # Files that are none any more: what was good last is what a proxy gets that has to be started again.
        good = pem(cert)
        for name in (cert, key):
            name.write_text("nonsense\n")
        m.proc.send_signal(signal.SIGHUP)
        until(lambda: m.log_text().count("stays in force") == 3, 5, "the log")
        assert shown("127.0.0.1", m.pg_port) == good
    assert (m.proxy_pid(), m.proc.pid) == (proxy, mered)
    expect_log("mere-proxy ended")
    os.kill(proxy, signal.SIGKILL)
    until(lambda: m.proxy_pid() not in (0, None, proxy) and reachable(m), 15, "another proxy")
    assert shown("127.0.0.1", m.pg_port) == good and main.value("SELECT 1") == 1
    m.stop()
    with pytest.raises(StartFailed) as e:
        m.start()
    assert e.value.status == 1 and "holds no certificate" in str(e.value)
    # One that is over is said, and used.
    users, m.args = m.args, ["--certificate-seconds", "3"]
    m.start()
    for name, path in (("tls.crt", cert), ("tls.key", key)):
        shutil.copy(m.data / name, path)
    made = time.monotonic()
    m.stop()
    m.args = users
    until(lambda: time.monotonic() > made + 4, 10, "its end")
    m.start()
    assert "not valid today" in m.log_text() and shown("127.0.0.1", m.pg_port) == pem(cert)
    shutil.rmtree(base)


def reachable(m):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", m.pg_port), timeout=5):
        return True
    return False


def test_our_own_is_renewed_without_a_session_lost(new_mere):
    m = new_mere(args=["--certificate-seconds", "9"]).start()
    main = m.create_project().main
    ca, first = m.data / "ca.crt", shown("127.0.0.1", m.pg_port)
    was = ca.read_text()
    with contextlib.closing(main.connect()) as conn, conn.cursor() as cur:
        for _ in range(2):
            until(lambda: shown("127.0.0.1", m.pg_port) != first, 20, "a new certificate", pause=0.2)  # noqa: B023
            first = shown("127.0.0.1", m.pg_port)
            cur.execute("SELECT 1")
            assert verify(m, ca, "localhost", main) == "42"
    assert ca.read_text() == was


def test_sessions_outlive_a_restart_with_another_certificate(new_mere):
    m = new_mere(args=["--keep-computes"]).start()
    main = m.create_project().main
    proxy, first = m.proxy_pid(), shown("127.0.0.1", m.pg_port)
    with contextlib.closing(main.connect()) as conn, conn.cursor() as cur:
        m.stop()
        for name in ("tls.crt", "tls.key"):
            (m.data / name).unlink()
        m.args = []
        m.start()
        assert m.proxy_pid() == proxy
        until(lambda: shown("127.0.0.1", m.pg_port) != first, 5, "the new certificate")
        cur.execute("SELECT 1")
        assert verify(m, m.data / "ca.crt", "localhost", main) == "42"


@pytest.mark.parametrize("name,text", [("tls.crt", "nonsense\n"), ("tls.crt", ""), ("tls.key", "nonsense\n"), ("tls.key", None)])
def test_our_own_that_is_damaged_is_made_anew(new_mere, name, text):
    m = new_mere().start()
    ca = (m.data / "ca.crt").read_text()
    m.stop()
    (m.data / name).unlink()
    if text is not None:
        (m.data / name).write_text(text)
    m.start()
    assert (m.data / "ca.crt").read_text() == ca
    assert verify(m, m.data / "ca.crt", "localhost", m.create_project().main) == "42"


def test_a_lost_authority_is_an_error(new_mere):
    m = new_mere().start()
    m.stop()
    key = (m.data / "ca.key").read_bytes()
    for name in ("ca.key", "tls.key"):
        (m.data / name).unlink()
    with pytest.raises(StartFailed) as e:
        m.start()
    assert e.value.status == 1 and "ca.key is missing" in str(e.value) and "verify-full" in str(e.value)
    (m.data / "ca.key").write_bytes(key)
    m.start()


# --- SIGHUP, and the terminal ----------------------------------------------------------------------------------------------------------


def on_terminal(m, wrap=()):
    """Started in the foreground of a terminal; the descriptor keeps that open."""
    own, its = pty.openpty()
    with open(m.log_path, "ab") as log:
        m.proc = subprocess.Popen(["setsid", "-c", *wrap, *m.argv()], stdin=its, stdout=subprocess.PIPE, stderr=log, cwd="/")
    os.close(its)
    m._await_ready(60)
    return own


def test_hangup_reads_and_a_closed_terminal_ends(new_mere):
    m = new_mere()
    terminal = on_terminal(m)
    project = m.create_project()
    first = shown("127.0.0.1", m.pg_port)
    for name in ("tls.crt", "tls.key"):
        (m.data / name).unlink()
    m.proc.send_signal(signal.SIGHUP)
    until(lambda: shown("127.0.0.1", m.pg_port) != first, 5, "the new certificate")
    assert m.is_running() and project.main.value("SELECT 1") == 1
    m.disturbed = True
    os.close(terminal)
    assert m.wait(30) == 0
    assert m.processes() == []


def test_started_with_nohup_it_outlives_the_terminal(new_mere):
    m = new_mere()
    os.close(on_terminal(m, wrap=["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]))
    m.proc.send_signal(signal.SIGHUP)
    until(lambda: "is handed to mere-proxy" in m.log_text(), 5, "the log")
    assert m.create_project().main.value("SELECT 1") == 1


def test_without_a_terminal_hangup_never_ends_it(new_mere):
    m = new_mere().start()
    for i in range(20):
        m.proc.send_signal(signal.SIGHUP)
        until(lambda: m.log_text().count("is handed to mere-proxy") > i, 5, "the log")  # noqa: B023
    assert m.create_project().main.value("SELECT 1") == 1
