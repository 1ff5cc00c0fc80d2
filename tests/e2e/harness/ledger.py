"""
The leak ledger: everything a server has on this machine, held against what its rows say it should have.

While it runs, each process, mount, socket, directory and shared memory segment must belong to something the metadata names, and
nothing may hang half-done.  After it stopped there must be nothing at all.  A complaint is one sentence.
"""
import os
import re
import stat
import time

from . import procs

LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z (warn|error) ", re.M)
STOPPED = ("STOPPED", "FAILED")
# A warm server opens descriptors once (reader pool, log of each compute); more than this in one test is growth.
FD_SLACK = 24
FD_PER_COMPUTE = 8


class Ledger:
    def __init__(self, mere):
        self.mere = mere
        self.seg0, self.shm0 = set(procs.shm_segments()), procs.shm_files()
        self.fds = {}
        self.seen = {}
        self.mark()

    def _logs(self):
        """Ours only: what Postgres writes is Postgres's."""
        return [self.mere.log_path, self.mere.data / "logs" / "proxy.log"]

    def mark(self):
        """What the logs say up to here has been judged."""
        self.seen = {path: os.path.getsize(path) if path.exists() else 0 for path in self._logs()}

    # --- per test --------------------------------------------------------------------------------------------------------

    def open(self):
        """A test begins."""
        self.mark()
        self.fds = {}
        if self.mere.is_running():
            computes = len(self.mere.postmasters())
            for name, pid in self._daemons():
                self.fds[name] = (pid, procs.count_fds(pid), computes)

    def close(self, expected=(), timeout=45.0):
        """A test ends: what is still wrong after things had time to settle."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.complaints() if self.mere.is_running() else self.leftovers()
            if not found or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return found + self.unexpected_log(expected)

    def unexpected_log(self, expected=()):
        if self.mere.disturbed:
            expected = [*expected, "the wake socket is lost"]
        bad = []
        for path in self._logs():
            if path.exists():
                with open(path, "rb") as f:
                    f.seek(self.seen.get(path, 0))
                    bad += [line for line in f.read().decode(errors="replace").splitlines() if LOG_LINE.match(line)]
        return [f"log: {line}" for line in bad if not any(re.search(e, line) for e in expected)]

    def said(self, lines=200):
        """The last lines of the log since the test began, but for requests that went well."""
        quiet = re.compile(r" msg=request .* status=[23]\d\d ")
        text = self.mere.log_text(self.seen.get(self.mere.log_path, 0))
        return "\n".join([line for line in text.splitlines() if not quiet.search(line)][-lines:])

    # --- while it runs ---------------------------------------------------------------------------------------------------

    def complaints(self):
        found = self._rows()
        procs_now = self.mere.processes()
        found += self._processes(procs_now)
        found += self._descriptors()
        found += self._shared_memory(procs_now)
        found += self._mounts(running=True)
        found += self._directories()
        found += self._history()
        found += self._sockets()
        return found

    def _daemons(self):
        return [("mered", self.mere.proc.pid), ("mere-proxy", self.mere.proxy_pid())]

    def _running_rows(self):
        rows = self.mere.rows("SELECT id, pid, observed FROM endpoint")
        return [r for r in rows if r["observed"] not in STOPPED]

    def _rows(self):
        q = self.mere.rows
        found = [f"operation {r['action']} of {r['branch_id']} is still {r['status']}: {r['error']}"
                 for r in q("SELECT * FROM operation WHERE status IN ('scheduling', 'running')")]
        found += [f"branch {r['id']} is still {r['state']}" for r in q("SELECT * FROM branch WHERE state IN ('init', 'deleting')")]
        found += [f"volume of branch {r['id']} is still {r['volume']}" for r in q("SELECT * FROM branch WHERE volume = 'making'")]
        found += [f"image {r['id']} is still {r['state']}" for r in q("SELECT * FROM image WHERE state IN ('taking', 'trash')")]
        found += [f"project {r['id']} is still {r['state']}" for r in q("SELECT * FROM project WHERE state = 'deleting'")]
        found += [f"endpoint {r['id']} wants to be {r['desired']} and is {r['observed']}" for r in
                  q("SELECT * FROM endpoint WHERE desired = 'deleted' OR (desired = 'stopped' AND observed NOT IN ('STOPPED', 'FAILED'))")]
        return found

    def _processes(self, now):
        postmasters = {r["pid"] for r in self._running_rows()}
        running = {r["id"] for r in self._running_rows()}
        allowed = {self.mere.proc.pid, *(pid for _, pid in self._daemons())}
        allowed |= {pid for pid, ep in self.mere.poolers().items() if ep in running}
        found = []
        for p in now:
            if p.state == "Z":
                found.append(f"zombie: {p}")
            elif p.pid not in allowed and not postmasters & {p.pid, p.ppid, p.session}:
                found.append(f"process nobody accounts for: {p}")
        proxies = [p for p in now if p.comm == "mere-proxy" and p.state != "Z"]
        if len(proxies) != 1:
            found.append(f"{len(proxies)} mere-proxy processes")
        return found

    def _descriptors(self):
        found, computes = [], len(self.mere.postmasters())
        for name, pid in self._daemons():
            before = self.fds.get(name)
            if before is None or before[0] != pid:
                continue
            allowed = before[1] + FD_SLACK + FD_PER_COMPUTE * max(0, computes - before[2])
            count = procs.count_fds(pid)
            if count > allowed:
                found.append(f"{name} has {count} open descriptors, {before[1]} before the test")
        return found

    def _shared_memory(self, now):
        alive = {p.pid for p in now}
        found = [f"shared memory segment {i} of process {pid}, which is gone" for i, (pid, attached) in procs.shm_segments().items()
                 if i not in self.seg0 and pid not in alive and not (attached and procs.alive(pid))]
        left = procs.shm_files() - self.shm0
        if left:
            left -= procs.mapped_shm_files(p.pid for p in procs.everybody())
        return found + [f"/dev/shm/{name} is mapped by nobody" for name in sorted(left)]

    def _inside(self, path):
        return any(path == n or path.startswith(n + "/") for n in self.mere.needles())

    def _mounts(self, running):
        allowed_mounts, allowed_loops = (1, 1) if running and (self.mere.data / "disk.btrfs").exists() else (0, 0)
        mounted = [m for m in procs.mounts() if self._inside(m)]
        looped = {d: b for d, b in procs.loops().items() if self._inside(b)}
        found = []
        if len(mounted) > allowed_mounts:
            found.append(f"mounted: {mounted}")
        if len(looped) > allowed_loops:
            found.append(f"loop devices: {looped}")
        return found

    def _directories(self):
        q, data, found = self.mere.rows, self.mere.data, []
        images = {r["id"] for r in q("SELECT id FROM image WHERE state <> 'taking'")}
        started = {r["volume_id"] for r in q("SELECT volume_id FROM branch WHERE volume = 'ready'")}
        branches = {r["volume_id"] for r in q("SELECT volume_id FROM branch")}
        volumes = names(data / "volumes") - {".tmp", ".trash"}
        found += [f"volume {v} belongs to no row" for v in sorted(volumes - images - branches) if not v.startswith(".")]
        found += [f"volume {v} of a branch that has none" for v in sorted((volumes & branches) - started)]
        found += [f"volume {v} is missing" for v in sorted((images | started) - volumes)]
        for place in ("volumes/.tmp", "volumes/.trash"):
            found += [f"left in {place}: {n}" for n in sorted(names(data / place))]
        endpoints = {r["id"] for r in q("SELECT id FROM endpoint")}
        found += [f"left in wal: {n}" for n in sorted(names(data / "wal") - branches)]
        found += [f"left in locks: {n}" for n in sorted(names(data / "locks")) if n.removesuffix(".lock") not in branches]
        found += [f"left in logs: {n}" for n in sorted(names(data / "logs")) if n.startswith("ep-") and n.split(".")[0] not in endpoints]
        return found

    def _history(self):
        """The WAL of every suspended branch is there from where it begins to where it ends."""
        found = []
        for r in self.mere.rows("SELECT * FROM branch WHERE volume = 'ready' AND state = 'ready' AND head_lsn IS NOT NULL"):
            wal, have = self.mere.data / "wal" / r["volume_id"], set()
            for place in ("archive", "pg_wal"):
                have |= {n for n in names(wal / place) if len(n) == 24}
            for segno in range((r["history_from"] or r["fork_lsn"]) >> 20, (r["head_lsn"] - 1 >> 20) + 1):
                name = f"{r['tli']:08X}{segno >> 12:08X}{segno & 0xFFF:08X}"
                if name not in have:
                    found.append(f"WAL segment {name} of branch {r['id']} is missing")
        return found

    def _sockets(self):
        """Socket files of computes that do not run, and directories of endpoints that are no more."""
        now = set(self.mere.postmasters().values())
        endpoints = {r["id"] for r in self.mere.rows("SELECT id FROM endpoint")}
        found = []
        for top in self.mere.runtime_dirs():
            running = {r["id"] for r in self._running_rows()}
            found += [f"left in {top}/pool: {n}" for n in sorted(names(os.path.join(top, "pool")) - running)]
            for place in ("s", "conf"):
                found += [f"left in {top}/{place}: {n}" for n in sorted(names(os.path.join(top, place)) - endpoints)]
            for ep in sorted(names(os.path.join(top, "s")) - now):
                found += [f"socket of {ep}, which does not run: {f}" for f in names(os.path.join(top, "s", ep)) if f.startswith(".s.PGSQL.")]
        return found

    # --- after it stopped ------------------------------------------------------------------------------------------------

    def leftovers(self):
        found = [f"process after the stop: {p}" for p in self.mere.processes()]
        found += [f"shared memory segment {i} after the stop" for i, (pid, _) in procs.shm_segments().items()
                  if i not in self.seg0 and not procs.alive(pid)]
        left = procs.shm_files() - self.shm0
        left -= procs.mapped_shm_files(p.pid for p in procs.everybody()) if left else set()
        found += [f"/dev/shm/{name} after the stop" for name in sorted(left)]
        found += [f"after the stop, {c}" for c in self._mounts(running=False)]
        for top in self.mere.runtime_dirs() | {str(self.mere.data)}:
            found += [f"socket after the stop: {s}" for s in sockets_below(top)]
        return found


def names(path):
    try:
        return set(os.listdir(path))
    except OSError:
        return set()


def sockets_below(top):
    found = []
    for where, dirs, files in os.walk(top):
        if os.path.basename(where) in ("volumes", "wal"):
            dirs[:] = []
            continue
        for f in files:
            path = os.path.join(where, f)
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.append(path)
            except OSError:
                pass
    return found
