"""Rehearse a migration on this machine: a live Redis or Valkey into a cluster of three nodes, under writes, and back.

    python docs/examples/migration/rehearse.py                       # redis-server of PATH
    python docs/examples/migration/rehearse.py --server valkey-server

Starts the server with keys of every type, many with deadlines, and a client that goes on writing to it. Lets
``durakv-cli import --from-live --cut-over`` bring all of it into a new cluster, compares every key, writes there,
exports a node's data as an RDB file, loads that into the server's program again and compares once more.
Everything lives in a temporary directory and is removed at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_DATABASES = (0, 3)


def connect(port: int, db: int = 0) -> redis.Redis:
    """A client that sends nothing twice."""
    return redis.Redis(port=port, db=db, socket_timeout=90, retry=Retry(NoBackoff(), 0))


def fill(port: int) -> None:
    """Keys of every type, some with deadlines, in two databases."""
    p = connect(port).pipeline(transaction=False)
    for n in range(2000):
        p.set(f"string {n}", f"value {n}", px=3_600_000 if n % 3 == 0 else None)
    for size in (5, 500, 5000):
        p.rpush(f"list {size}", *[f"element {n}" for n in range(size)])
        p.sadd(f"set {size}", *[f"member {n}" for n in range(size)])
        p.sadd(f"numbers {size}", *range(size))
        p.zadd(f"zset {size}", {f"member {n}": n / 7 for n in range(size)})
        p.hset(f"hash {size}", mapping={f"field {n}": f"value {n}" for n in range(size)})
        p.pexpire(f"hash {size}", 7_200_000)
    for n in range(1, 500):
        p.xadd("stream", {"field": n}, id=f"{n}-0")
    p.xgroup_create("stream", "group", "0")
    p.xreadgroup("group", "consumer", {"stream": ">"}, count=20)
    p.setbit("bits", 100_000, 1)
    p.pfadd("sketch", *range(1000))
    p.geoadd("places", (13.361389, 38.115556, "Palermo"))
    p.execute()
    connect(port, 3).mset({f"other {n}": n for n in range(100)})


def digest(port: int) -> tuple[int, str]:
    """(number of keys, one hash over all of them): type, deadline and content."""
    count = 0
    total = hashlib.sha256()
    for db in _DATABASES:
        client = connect(port, db)
        keys = sorted(client.scan_iter(count=1000))
        kinds = _ask(client, [("TYPE", key) for key in keys])
        deadlines = _ask(client, [("PEXPIRETIME", key) for key in keys])
        contents = _ask(client, [(*_READ[kind], key, *_REST[kind]) for key, kind in zip(keys, kinds, strict=True)])
        for key, kind, deadline, content in zip(keys, kinds, deadlines, contents, strict=True):
            # Sets and hashes have no order.
            shown = sorted(content.items() if isinstance(content, dict) else content) if kind in _UNORDERED else content
            total.update(repr((db, key, kind, deadline, shown)).encode())
        streams = [key for key, kind in zip(keys, kinds, strict=True) if kind == b"stream"]
        for key in streams:
            groups = [(g["name"], g["pending"], g["last-delivered-id"]) for g in client.xinfo_groups(key)]
            total.update(repr(groups).encode())
        count += len(keys)
    return count, total.hexdigest()[:16]


_READ = {b"string": ("GET",), b"list": ("LRANGE",), b"set": ("SMEMBERS",), b"zset": ("ZRANGE",), b"hash": ("HGETALL",),
         b"stream": ("XRANGE",)}  # fmt: skip
_REST = {
    b"string": (),
    b"list": (0, -1),
    b"set": (),
    b"zset": (0, -1, "WITHSCORES"),
    b"hash": (),
    b"stream": ("-", "+"),
}
_UNORDERED = (b"set", b"hash")


def _ask(client: redis.Redis, commands: list[tuple[object, ...]]) -> list[object]:
    """The replies to many commands, a thousand under way at a time."""
    out: list[object] = []
    for at in range(0, len(commands), 1000):
        p = client.pipeline(transaction=False)
        for command in commands[at : at + 1000]:
            p.execute_command(*command)
        out += p.execute()
    return out


class Writer(threading.Thread):
    """Somebody who knows nothing of a migration."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.written = 0
        self.stopping = False

    def run(self) -> None:
        """Count, and note every number in a list, until told to stop or until the server goes."""
        client = connect(self.port)
        try:
            while not self.stopping:
                with client.pipeline(transaction=True) as p:
                    p.incr("count")
                    p.rpush("log", self.written)
                    p.execute()
                self.written += 1
                time.sleep(0.001)
        except redis.RedisError:
            return


class Rehearsal:
    """The programs, the directory and the ports."""

    def __init__(self, server: str, directory: Path, base_port: int) -> None:
        self.server = server
        self.directory = directory
        self.base_port = base_port
        self.running: list[subprocess.Popen[bytes]] = []

    def start_server(self, name: str, port: int) -> None:
        """Run the server in its own directory and wait until it answers."""
        home = self.directory / name
        home.mkdir(exist_ok=True)
        with (home / "log").open("ab") as log:
            self.running.append(
                subprocess.Popen(
                    [self.server, "--port", str(port), "--dir", str(home), "--save", "", "--appendonly", "no"],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                )
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if connect(port).ping():
                    return
            except redis.RedisError:
                time.sleep(0.05)
        raise SystemExit(f"{self.server} does not answer on port {port}; see {home / 'log'}")

    def run(self, *words: str) -> str:
        """One durakv command; what it printed."""
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def cluster(self, *words: str) -> str:
        """``durakv cluster``, on the cluster of this rehearsal."""
        return self.run("durakv", "cluster", *words, "--dir", str(self.directory / "cluster"))

    def stop(self) -> None:
        """End everything."""
        for process in self.running:
            process.kill()
            process.wait()
        if (self.directory / "cluster").exists():
            self.cluster("stop")


def compare(what: str, one: tuple[int, str], other: tuple[int, str]) -> None:
    """Say that two digests are equal, or end."""
    if one != other:
        raise SystemExit(f"{what}: {one} and {other} differ")
    print(f"{what}: {one[0]} keys, digest {one[1]}, identical")


def main() -> None:
    """The whole way there and back."""
    parser = argparse.ArgumentParser(description="Rehearse a migration on this machine.")
    parser.add_argument("--server", default="redis-server", help="program of the source")
    parser.add_argument("--base-port", type=int, default=7400, help="the cluster's first port; five are used")
    options = parser.parse_args()
    if shutil.which(options.server) is None:
        raise SystemExit(f"{options.server} is not on PATH; install it, or name another with --server")
    directory = Path(tempfile.mkdtemp(prefix="durakv-rehearsal-"))
    rehearsal = Rehearsal(options.server, directory, options.base_port)
    old, new, back = options.base_port + 3, options.base_port, options.base_port + 4
    try:
        rehearsal.start_server("source", old)
        fill(old)
        writer = Writer(old)
        writer.start()
        rehearsal.cluster("up", "--nodes", "3", "--base-port", str(new), "--detach")
        print("source and cluster are up, a client writes to the source", flush=True)
        said = rehearsal.run(
            "durakv.cli.admin", "import", "--from-live", f"127.0.0.1:{old}", "--to", f"127.0.0.1:{new + 1}",
            "--cut-over",
        )  # fmt: skip
        print(said.strip())
        # Its writers are held, so nothing changes while both are read.
        writer.stopping = True
        compare("source and cluster", digest(old), digest(new))
        client = connect(new + 2)
        count = int(client.get("count") or 0)
        if client.llen("log") != count or count < writer.written:
            raise SystemExit(f"{writer.written} writes were acknowledged, {count} arrived")
        print(f"all {writer.written} acknowledged writes are there; the cluster takes its own: {client.set('mine', 1)}")
        final = digest(new)
        rehearsal.cluster("stop")
        home = directory / "back"
        home.mkdir()
        node = min(path.parent for path in (directory / "cluster").rglob("IDENTITY"))
        rehearsal.run("durakv.cli.admin", "export", str(node), "--rdb", str(home / "dump.rdb"))
        rehearsal.start_server("back", back)
        compare("exported and loaded again", final, digest(back))
    finally:
        rehearsal.stop()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
