"""Connects with invented names, as a stranger would who has nothing to lose: flood.py HOST PORT SECONDS RATE [ENDPOINT…].
One in ten names one of the endpoints.  Prints how many it made."""
import collections
import contextlib
import random
import socket
import struct
import subprocess
import sys
import time

RATE = 5000  # connects a second


def packet(name):
    body = struct.pack("!I", 196608) + b"user\0ann\0database\0shop\0options\0endpoint=" + name.encode() + b"\0\0"
    return struct.pack("!I", len(body) + 4) + body


def flood(host, port, seconds, rate, known):
    open_now, made, begun = collections.deque(), 0, time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        if made >= passed * rate:
            time.sleep(0.002)
            continue
        s = socket.socket()
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a port each, for a moment only
        with contextlib.suppress(OSError):
            s.connect_ex((host, port))
            s.send(packet(random.choice(known) if known and made % 10 == 0 else f"ep-x-y-{random.randrange(1 << 40):08x}"))
        open_now.append(s)
        made += 1
        if len(open_now) > 500:
            open_now.popleft().close()
    return made


def start(elsewhere, port, seconds, *endpoints):
    """Another machine's CPU would not be ours: it takes what is left of that."""
    argv = elsewhere.argv("nice", "-n", "19", sys.executable, __file__, elsewhere.near, str(port), str(seconds), str(RATE), *endpoints)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def latencies(branch, n):
    """Seconds of a connect with one query each."""
    took = []
    for _ in range(n):
        begun = time.monotonic()
        assert branch.value("SELECT 1") == 1
        took.append(time.monotonic() - begun)
    return took


class Seen:
    """made: connects of the flood; usual, during: latencies of a known endpoint; woken: how many computes were started."""


def of_mere(mere, elsewhere, seconds):
    """A flood on one that listens everywhere and allows plaintext."""
    seen, p = Seen(), mere.create_project()
    main, asleep = p.main, p.branch(name="asleep")
    main.value("SELECT 1")
    asleep.await_state("idle", 30)
    starts = [b.generation() for b in (main, asleep)]
    seen.usual, seen.during = latencies(main, 40), []
    with start(elsewhere, mere.pg_port, seconds, asleep.endpoint_id) as stranger:
        time.sleep(1)  # its first burst is over
        begun = time.monotonic()
        while stranger.poll() is None and time.monotonic() - begun < seconds - 1.5:
            seen.during += latencies(main, 5)
        seen.made = int(stranger.communicate()[0])
    seen.usual += latencies(main, 40)
    seen.woken = sum(b.generation() for b in (main, asleep)) - sum(starts) + (asleep.postmaster() != 0)
    return seen


if __name__ == "__main__":
    print(flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]))
