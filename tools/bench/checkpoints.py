"""``python3 -m tools.dev bench --only checkpoints``: starts, what a checkpoint costs others, files in and out.

Each figure stands beside a stock server's, or beside the same server without checkpoints, taken in the same run:
seconds from start to serving a million small keys; p99 and memory of 50 writing clients while checkpoints are made;
the log's size under endless writes; keys a second out to an RDB file and in again. Rule: prints, and writes no file.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.bench.measure import Load, descendants, parse_benchmark_csv
from tools.bench.rows import generator
from tools.bench.stalls import Loader, packed
from tools.bench.targets import Unavailable, free_ports

ROOT = Path(__file__).resolve().parent.parent.parent
_TRIP = 2000
_PATIENCE_S = 120.0


class Server:
    """One server of a kind on a directory that outlives it; ``start()`` returns the seconds until it served."""

    def __init__(self, directory: Path, command: list[str], port: int) -> None:
        self.directory = directory
        self.command = command
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, keys: int = 0) -> float:
        """Start and wait until it says that it has ``keys`` keys, or anything for 0."""
        # Another one each time: connections of the last run may still linger on the old one.
        at = self.command.index("--port") + 1
        self.port = free_ports(1, 10000)[0]
        self.command[at] = str(self.port)
        began = time.perf_counter()
        with (self.directory / "server.out").open("ab") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out, cwd=self.directory)
        while time.perf_counter() - began < _PATIENCE_S:
            if self.process.poll() is not None:
                break
            try:
                found = self.ask("DBSIZE")
            except (OSError, Unavailable):
                time.sleep(0.002)
                continue
            if isinstance(found, int) and found >= keys:
                return time.perf_counter() - began
        raise Unavailable(f"{self.command[0]} does not serve: {(self.directory / 'server.out').read_text()[-500:]}")

    def ask(self, *words: str) -> object:
        """One command on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass
        loader = Loader(self.port)
        try:
            return loader.many([packed(*words)])[0]
        finally:
            loader.close()

    def info(self, name: str) -> int:
        """A number of INFO."""
        text = self.ask("INFO", "everything")
        assert isinstance(text, bytes)
        for line in text.decode().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.partition(":")[2])
        raise Unavailable(f"INFO has no {name}")

    def rss_bytes(self) -> int:
        """Memory of the server alone, without what it started."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self) -> None:
        """SIGTERM, and wait for all it started."""
        process, self.process = self.process, None
        if process is None:
            return
        family = descendants([process.pid])
        process.terminate()
        process.wait(60)
        for pid in family[1:]:
            deadline = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.01)


@contextmanager
def server(kind: str, directory: Path, *directives: str) -> Iterator[Server]:
    """A stopped ``redis`` or ``durakv`` server, gone at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_ports(1, 10000)[0]
    if kind == "durakv":
        command = [sys.executable, "-m", "durakv", "server", "--dir", str(directory / "data"), "--appendfsync", "no"]
    else:
        if shutil.which("redis-server") is None:
            raise Unavailable("redis-server is not installed")
        command = ["redis-server", "--dir", str(directory), "--save", "", "--appendonly", "no"]
    made = Server(directory, [*command, "--port", str(port), "--bind", "127.0.0.1", *directives], port)
    try:
        yield made
    finally:
        made.stop()


def fill(made: Server, keys: int) -> None:
    """Keys of 16 bytes with values of 100."""
    loader = Loader(made.port)
    value = "v" * 100
    for first in range(0, keys, _TRIP):
        loader.many([packed("SET", f"key:{n:012d}", value) for n in range(first, min(first + _TRIP, keys))])
    loader.close()


def starts(root: Path, keys: int, rounds: int) -> list[str]:
    """Seconds from the start of the process to serving all keys, interleaved."""
    found: dict[str, list[float]] = {"redis": [], "durakv": []}
    with server("redis", root / "redis") as redis, server("durakv", root / "durakv") as durakv:
        for made in (redis, durakv):
            made.start()
            fill(made, keys)
        redis.ask("SAVE")
        for made in (redis, durakv):
            made.stop()
        for _ in range(rounds):
            for name, made in (("redis", redis), ("durakv", durakv)):
                found[name].append(made.start(keys))
                made.stop()
    middle = {name: statistics.median(times) for name, times in found.items()}
    return [
        (f"start with {keys} keys, median of {rounds}: redis-server (RDB) {middle['redis']:.2f} s, durakv (checkpoint) "
        f"{middle['durakv']:.2f} s = {middle['durakv'] / middle['redis']:.2f}x")
    ]  # fmt: skip


def load_of(made: Server, seconds: float, keys: int) -> Load:
    """50 clients writing values of 100 bytes to random keys for about so long."""
    requests = 20_000
    while True:
        began = time.perf_counter()
        done = subprocess.run(
            [generator(), "-h", "127.0.0.1", "-p", str(made.port), "-t", "set", "-n", str(requests), "-c", "50", "-d",
             "100", "-r", str(keys), "--csv"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        took = time.perf_counter() - began
        if took > seconds / 2 or requests > 10_000_000:
            return parse_benchmark_csv(done.stdout, requests)
        requests = int(requests * seconds / max(took, 0.05))


def beside_checkpoints(root: Path, keys: int, seconds: float, rounds: int) -> list[str]:
    """p99 and memory with and without checkpoints, interleaved."""
    p99: dict[str, list[float]] = {"no": [], "yes": []}
    rate: dict[str, list[float]] = {"no": [], "yes": []}
    growth: list[float] = []
    shapes = {"no": ("--checkpoints", "no"), "yes": ("--checkpoint-interval", "5")}
    for name, directives in shapes.items():
        with server("durakv", root / f"beside-{name}", *directives) as made:
            made.start()
            fill(made, keys)
            if name == "yes":
                before = made.rss_bytes()
                made.ask("BGSAVE")
            for _ in range(rounds):
                got = load_of(made, seconds, keys)
                p99[name].append(got.p99_us)
                rate[name].append(got.per_s)
            if name == "yes":
                growth.append(made.rss_bytes() / before)
    middle = {name: statistics.median(values) for name, values in p99.items()}
    speed = {name: statistics.median(values) for name, values in rate.items()}
    return [
        (f"50 writing clients on {keys} keys, median of {rounds}: without checkpoints p99 {middle['no']:.0f} us at "
        f"{speed['no']:.0f}/s, with one each 5 s {middle['yes']:.0f} us at {speed['yes']:.0f}/s = "
        f"{middle['yes'] / middle['no']:.2f}x; memory of the server {100 * (growth[0] - 1):+.1f} %")
    ]  # fmt: skip


def log_size(root: Path, seconds: float) -> list[str]:
    """The most log held while 50 clients write without end."""
    limit = 64 << 20
    most = 0
    with server(
        "durakv", root / "log", "--log-max", "64mb", "--segment-size", "8mb", "--log-follower-keep", "8mb",
        "--checkpoint-interval", "2",
    ) as made:  # fmt: skip
        made.start()
        deadline = time.monotonic() + seconds
        written = 0
        while time.monotonic() < deadline:
            got = load_of(made, 1.0, 100_000)
            written += got.requests * 160
            most = max(most, made.info("log_held_bytes"))
    verdict = "bounded" if most <= limit else "NOT bounded"
    return [f"log under {written >> 20} MiB of writes: at most {most >> 20} MiB held, log-max 64: {verdict}"]


def files(root: Path, keys: int) -> list[str]:
    """Keys a second out to an RDB file by the offline export, and in through the log."""
    out: list[str] = []
    cli = [str(Path(sys.executable).parent / "durakv-cli")]
    with server("durakv", root / "files") as made, server("durakv", root / "into") as into:
        made.start()
        fill(made, keys)
        made.stop()
        dump = root / "out.rdb"
        began = time.perf_counter()
        subprocess.run(
            [*cli, "export", str(made.directory / "data"), "--rdb", str(dump)], check=True, capture_output=True
        )
        took = time.perf_counter() - began
        size = dump.stat().st_size >> 20
        out.append(f"export of {keys} keys to RDB: {took:.2f} s, {keys / took:.0f} keys/s, {size} MiB")
        into.start()
        began = time.perf_counter()
        subprocess.run([*cli, "import", str(dump), "--to", f"127.0.0.1:{into.port}"], check=True, capture_output=True)
        took = time.perf_counter() - began
        out.append(f"import of that file through the log: {took:.2f} s, {keys / took:.0f} keys/s")
    return out


def main(argv: list[str]) -> int:
    """Print all figures; exit code 1 when one of them could not be taken."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.dev bench --only checkpoints")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(argv)
    (ROOT / "build").mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="checkpoints-", dir=ROOT / "build"))
    parts: list[Callable[[], list[str]]] = [
        lambda: starts(root, options.keys, options.rounds),
        lambda: beside_checkpoints(root, options.keys, options.seconds, options.rounds),
        lambda: log_size(root, 3 * options.seconds),
        lambda: files(root, options.keys),
    ]
    failed = False
    try:
        for part in parts:
            try:
                for line in part():
                    print(line, flush=True)
            except (Unavailable, OSError, subprocess.CalledProcessError) as error:
                failed = True
                said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
                detail = (said if isinstance(said, str) else said.decode())[-300:]
                print(f"not measured: {error} {detail}", file=sys.stderr)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if failed else 0
