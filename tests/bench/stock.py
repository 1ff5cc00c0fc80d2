"""
What the same machine needs for the same result with stock Postgres and nothing of ours: a base backup of a running compute, and
recovery of an image to an LSN by hand.  A recovered image lies where ours lie: data on the file system of the volumes, WAL on that of
the server's directory.  A base backup goes to the latter altogether, which is the faster one where the volumes are in a disk file.
"""
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import time

import psycopg2

from harness.cluster import BINDIR, os_user, own
from harness.server import lsn

HBA = "local all all trust\nlocal replication all trust\n"


def run(*argv, **kw):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **kw)
    assert done.returncode == 0, f"{argv[0]} failed: {done.stderr[-2000:]}"
    return done.stdout


def writable(**dsn):
    """Waits for a session that can write; the time when it had written."""
    deadline = time.monotonic() + 300
    while True:
        try:
            with contextlib.closing(psycopg2.connect(**dsn)) as conn, conn.cursor() as cur:
                conn.autocommit = True
                cur.execute("SELECT pg_is_in_recovery()")
                if not cur.fetchone()[0]:
                    cur.execute("CREATE TABLE first_write (n int)")
                    return time.monotonic()
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.002)


class Bench:
    """A scratch directory and, as root, the server's volumes seen from it: the server's own directory is closed to Postgres's user."""

    def __init__(self, mere):
        self.mere, self.n = mere, 0
        self.base = mere.base / "stock"
        self.base.mkdir()
        self.base.chmod(0o755)
        self.volumes = mere.data / "volumes"
        if os.getuid() == 0:
            self.volumes = self._bind(self.volumes)
        self.clones = self.volumes / ".stock"
        self.clones.mkdir(exist_ok=True)
        self.clones.chmod(0o755)
        self.hba = self.base / "hba.conf"
        self.hba.write_text(HBA)

    def _bind(self, what):
        seen = self.base / what.name
        seen.mkdir()
        run("mount", "--bind", what, seen)
        return seen

    def close(self):
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.clones):
                self._destroy(pathlib.Path(entry.path))
            self.clones.rmdir()
        subprocess.run(["umount", "-q", str(self.base / "volumes")], check=False, stderr=subprocess.DEVNULL)

    def _destroy(self, path):
        if self.mere.store == "btrfs" and subprocess.run(["btrfs", "-q", "subvolume", "delete", str(path)], check=False, capture_output=True).returncode == 0:
            return
        shutil.rmtree(path, ignore_errors=True)

    def _clone(self, source, target):
        if self.mere.store == "btrfs":
            run("btrfs", "-q", "subvolume", "snapshot", source, target)
        else:
            run("cp", "-a", "--reflink=auto", source, target)

    def _start(self, pgdata, name, *settings):
        socket = self.base / f"s{name}"
        socket.mkdir(exist_ok=True)
        own(socket)
        argv = [f"{BINDIR}/postgres", "-D", str(pgdata), "-k", str(socket), "-c", f"hba_file={self.hba}", "-c", "listen_addresses=", "-c", "port=5432",
                "-c", "max_wal_size=256MB"]
        for s in settings:
            argv += ["-c", s]
        with open(self.base / f"{name}.log", "ab") as log:
            proc = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=os_user(), start_new_session=True)
        return proc, {"host": str(socket), "port": 5432, "user": "mere_admin", "dbname": "neondb"}

    def _stop(self, proc):
        proc.send_signal(2)
        proc.wait(120)

    # --- a base backup --------------------------------------------------------------------------------------------------------

    def allow_backups(self, branch):
        """Lets Postgres's own user take base backups of a running compute."""
        conf = pathlib.Path(re.search(r"hba_file=(\S+)/pg_hba.conf", (pathlib.Path("/proc") / str(branch.postmaster()) / "cmdline")
                                      .read_bytes().replace(b"\0", b" ").decode()).group(1))
        user = os_user() or pwd.getpwuid(os.getuid()).pw_name
        hba, ident = conf / "pg_hba.conf", conf / "pg_ident.conf"
        hba.write_text("local replication mere_admin peer map=mere\n" + hba.read_text())
        ident.write_text(ident.read_text() + f"mere {user} mere_admin\n")
        with contextlib.closing(branch.admin()) as conn, conn.cursor() as cur:
            cur.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)

    def base_backup(self, branch):
        """(seconds of the backup, seconds until the first write)."""
        self.n += 1
        pgdata = self.base / f"b{self.n}"
        pgdata.mkdir(mode=0o700)
        own(pgdata)
        begun = time.monotonic()
        run(f"{BINDIR}/pg_basebackup", "-h", branch.socket_dir(), "-p", "5432", "-U", "mere_admin", "-D", pgdata, "--checkpoint=fast", "-X", "stream",
            user=os_user())
        copied = time.monotonic()
        proc, dsn = self._start(pgdata, "backup")
        try:
            done = writable(**dsn)
        finally:
            self._stop(proc)
            self._destroy(pgdata)
        return copied - begun, done - begun

    # --- recovery to an LSN ---------------------------------------------------------------------------------------------------

    def recover(self, branch, image, target):
        """Seconds from the clone of the image to the first write in the state `target`."""
        self.n += 1
        volume, wal = self.clones / f"r{self.n}", self.base / f"w{self.n}"
        tli = self.mere.rows("SELECT tli FROM branch WHERE id = ?", branch.id)[0]["tli"]
        source = self.mere.data / "wal" / branch.id
        archive = self.base / f"a{self.n}"  # all that is needed in one place, as an archive of one's own would be
        archive.mkdir()
        for place in ("pg_wal", "archive"):
            for entry in os.scandir(source / place):
                if re.fullmatch("[0-9A-F]{24}", entry.name):
                    shutil.copyfile(entry.path, archive / entry.name)
        own(archive)
        begun = time.monotonic()
        self._clone(self.volumes / image, volume)
        pgdata = volume / "pgdata"
        shutil.copytree(volume / "wal", wal)
        own(wal)
        with contextlib.suppress(FileNotFoundError):
            (pgdata / "pg_wal").unlink()
        os.symlink(wal, pgdata / "pg_wal")
        (pgdata / "recovery.signal").touch()
        proc, dsn = self._start(pgdata, "recovery", f"restore_command=cp \"{archive}/%f\" \"%p\"", f"recovery_target_lsn={target}",
                                "recovery_target_inclusive=off", f"recovery_target_timeline={tli}", "recovery_target_action=promote",
                                "recovery_init_sync_method=syncfs", "hot_standby=off")
        try:
            done = writable(**dsn)
            reached = self._reached(wal)
            assert reached >= lsn(target), f"stock recovery ended at {reached:X}"
        finally:
            self._stop(proc)
            self._destroy(volume)
            shutil.rmtree(wal)
            shutil.rmtree(archive)
        return done - begun

    @staticmethod
    def _reached(wal):
        newest = sorted(wal.glob("*.history"))[-1]
        return lsn([line.split("\t") for line in newest.read_text().splitlines() if line and line[0] != "#"][-1][1])
