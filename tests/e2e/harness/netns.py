"""Another machine, nearly: a network namespace with a wire to ours.  Root only; it is gone with its holder."""
import contextlib
import ctypes
import os
import random
import subprocess

import pytest

CLONE_NEWNET = 0x40000000


def _ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


class Elsewhere:
    """near: our address on the wire, far: the other's."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 100000"], stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.pid, self.link = self.holder.pid, f"mere{random.randrange(1 << 24):06x}"
        try:
            self._wire()
        except subprocess.CalledProcessError:
            self.close()
            raise

    def _wire(self):
        used = _ip("-o", "addr")
        while True:
            net = random.randrange(0, 1 << 15) * 4
            self.near, self.far = (f"198.{18 + (net >> 16)}.{net >> 8 & 255}.{(net & 255) + i}" for i in (1, 2))
            if self.near not in used:
                break
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "wire", "netns", str(self.pid))
        _ip("addr", "add", f"{self.near}/30", "dev", self.link)
        _ip("link", "set", self.link, "up")
        for words in (["addr", "add", f"{self.far}/30", "dev", "wire"], ["link", "set", "wire", "up"], ["link", "set", "lo", "up"]):
            self.run("ip", *words)

    def run(self, *argv, **kw):
        return subprocess.run(self.argv(*argv), check=True, **kw)

    def argv(self, *argv):
        return ["nsenter", "-t", str(self.pid), "-n", *argv]

    @contextlib.contextmanager
    def there(self):
        """Sockets that this thread makes inside are of the other machine, and stay so."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as own, open(f"/proc/{self.pid}/ns/net", "rb") as other:
            assert libc.setns(other.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield self
            finally:
                assert libc.setns(own.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    def close(self):
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)
        self.holder.kill()
        self.holder.wait()


@pytest.fixture
def elsewhere():
    """Import it by name."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    try:
        place = Elsewhere()
    except (subprocess.CalledProcessError, FileNotFoundError) as e:
        pytest.skip(f"no network namespace here: {e}")
    yield place
    place.close()
