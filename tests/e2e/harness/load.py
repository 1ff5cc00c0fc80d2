"""Load: pgbench that keeps its books, and tables that come and go."""
import signal
import subprocess
import threading

import psycopg2

from .cluster import BINDIR


def pgbench_init(env, scale):
    done = subprocess.run([f"{BINDIR}/pgbench", "-i", "-q", "-s", str(scale)], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


class Pgbench:
    """pgbench in the background until stopped.  -n: without it the history is emptied at start and the sums never match again."""

    def __init__(self, env, clients=4, seconds=3600, rate=None):
        argv = [f"{BINDIR}/pgbench", "-n", "-c", str(clients), "-j", "1", "-T", str(seconds)]
        if rate:
            argv += ["-R", str(rate)]
        self.proc = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def running(self):
        return self.proc.poll() is None

    def pause(self):
        """It stands still, transactions open."""
        self.proc.send_signal(signal.SIGSTOP)

    def resume(self):
        self.proc.send_signal(signal.SIGCONT)

    def stop(self):
        """Ends it; its output.  Transactions under way are rolled back by Postgres: the books stay even."""
        self.resume()
        self.proc.terminate()
        out, _ = self.proc.communicate(timeout=30)
        return out


class Churn(threading.Thread):
    """Creates, fills, indexes and drops tables, so that catalogues and files change under a copy."""

    def __init__(self, connect):
        super().__init__(daemon=True)
        self.connect_fn, self.halt, self.rounds, self.errors = connect, threading.Event(), 0, []
        self.go = threading.Event()
        self.go.set()

    def run(self):
        conn = None
        while not self.halt.is_set():
            self.go.wait()
            try:
                conn = conn or self.connect_fn()
                name = f"churn_{self.rounds % 5}"
                with conn.cursor() as cur:
                    cur.execute(f"DROP TABLE IF EXISTS {name}")
                    cur.execute(f"CREATE TABLE {name} AS SELECT g AS id, repeat('x', 50) AS t FROM generate_series(1, 500) g")
                    cur.execute(f"CREATE INDEX ON {name} (id)")
                    cur.execute(f"ALTER TABLE {name} ADD COLUMN extra int DEFAULT 7")
                self.rounds += 1
                self.halt.wait(0.02)
            except psycopg2.Error as e:
                self.errors.append(str(e).strip())
                if conn is not None:
                    conn.close()
                conn = None
                self.halt.wait(0.1)
        if conn is not None:
            conn.close()

    def pause(self):
        self.go.clear()

    def resume(self):
        self.go.set()

    def stop(self):
        self.resume()
        self.halt.set()
        self.join(30)
        return self
