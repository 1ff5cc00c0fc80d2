"""What the WAL of a branch says, read by Postgres's own pg_waldump: the reference that moments are judged by."""
import bisect
import datetime
import os
import re
import shutil
import subprocess
import tempfile

from harness.cluster import BINDIR
from harness.server import lsn

LINE = re.compile(r"rmgr: (\S+)\s+len \(rec/tot\):\s+\d+/\s*(\d+), tx:\s+(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev [^,]+, desc: (\S+) ?(.*)")
STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
PAGE = 8192


class Record:
    def __init__(self, rmgr, size, xid, start, what, rest):
        self.rmgr, self.size, self.xid, self.start, self.what = rmgr, int(size), int(xid), lsn(start), what
        stamp = STAMP.search(rest) if rmgr == "Transaction" and what in ("COMMIT", "ABORT") else None
        self.stamp = None if stamp is None else datetime.datetime.fromisoformat(stamp.group(1)).replace(tzinfo=datetime.timezone.utc)


class History:
    """All records of a branch's own WAL, oldest first."""

    def __init__(self, branch, begin=None):
        wal = branch.mere.data / "wal" / branch.id
        scratch = tempfile.mkdtemp(prefix="mere-wal-")
        try:
            names = set()
            for place in ("pg_wal", "archive"):  # a name that is in both: what was kept counts
                for entry in os.scandir(wal / place):
                    if re.fullmatch("[0-9A-F]{24}", entry.name):
                        shutil.copyfile(entry.path, os.path.join(scratch, entry.name))
                        names.add(entry.name)
            tli = max(n[:8] for n in names)
            first = min(n for n in names if n.startswith(tli))
            start = (int(first[8:16], 16) << 32) + (int(first[16:], 16) << 20)
            start = max(start, begin or 0)
            out = subprocess.run([f"{BINDIR}/pg_waldump", "-p", scratch, "-t", str(int(tli, 16)), "-s", f"{start >> 32:X}/{start & 0xFFFFFFFF:X}"],
                                 capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}, check=False).stdout
        finally:
            shutil.rmtree(scratch)
        self.records = [Record(*m.groups()) for m in map(LINE.match, out.splitlines()) if m]
        self.starts = [r.start for r in self.records]
        assert self.records, "pg_waldump found nothing"

    def commits_before(self, at):
        """The xids committed in the state `at`: those whose record begins before it."""
        return {r.xid for r in self.records if r.what == "COMMIT" and r.rmgr == "Transaction" and r.start < at}

    def first_start(self, at):
        """The first record start at or after `at`; on a page boundary the header stands between the two."""
        i = bisect.bisect_left(self.starts, at)
        return self.starts[i] if i < len(self.starts) else None

    def at_time(self, moment):
        """The LSN that a time means: where the first commit or abort stamped after it begins."""
        return next((r.start for r in self.records if r.stamp is not None and r.stamp > moment), None)
