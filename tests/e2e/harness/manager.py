"""A service manager, played: the notify socket, sockets that it opens and keeps, credentials, the journal."""
import os
import re
import select
import socket
import time

# The number of a descriptor in the child, and whose pid is meant, are only known there.
HAND_OVER = 'export LISTEN_PID=$$; exec "$@"'


class Manager:
    def __init__(self, base, abstract=False):
        self.base, self.sockets = base, []
        self.heard = []
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"\0mere-test/{os.getpid()}/{id(self)}" if abstract else str(base / "notify")
        self.notify.bind(path)
        self.env = {"NOTIFY_SOCKET": path.replace("\0", "@")}

    def close(self):
        for s in (self.notify, *(s for _, s in self.sockets)):
            s.close()

    # --- what it is told

    def take(self, timeout=0.0):
        """Reads what came, and one more message if it comes in time."""
        while select.select([self.notify], [], [], timeout)[0]:
            timeout = 0.0
            self.heard.append(self.notify.recv(4096).decode())

    def until(self, pattern, timeout=20):
        """The first message from now on that matches; those before it are forgotten."""
        deadline = time.monotonic() + timeout
        while True:
            while self.heard:
                message = self.heard.pop(0)
                if re.search(pattern, message, re.M):
                    return message
            left = deadline - time.monotonic()
            assert left > 0, f"the manager never heard {pattern}"
            self.take(left)

    # --- what it hands over

    def listen(self, name, port=0, host="127.0.0.1", kind=socket.SOCK_STREAM):
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, port))
        if kind == socket.SOCK_STREAM:
            s.listen(128)
        self.sockets.append((name, s))
        return s.getsockname()[1]

    def start(self, m, pid="$$", **kw):
        """Starts a server as its service."""
        fds = [s.fileno() for _, s in self.sockets]
        # From high numbers, which nobody uses, to 3, 4, …
        moves = " ".join(f"{3 + i}<&{fd + 100}" for i, fd in enumerate(fds))
        high = []
        for fd in fds:
            os.dup2(fd, fd + 100, inheritable=True)
            high.append(fd + 100)
        env = dict(self.env, **kw.pop("env", {}))
        if fds:
            env.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(name for name, _ in self.sockets))
        closes = " ".join(f"{fd}<&-" for fd in high)
        script = HAND_OVER.replace("$$", pid) + (f" {moves} {closes}" if fds else "")
        try:
            return m.start(wrap=[*kw.pop("wrap", ()), "bash", "-c", script, "bash"], env=env, pass_fds=high, **kw)
        finally:
            for fd in high:
                os.close(fd)
