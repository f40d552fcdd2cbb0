"""``python3 -m tools.dev bench --only stalls``: what grows with the size of a value, and how long others wait.

Two tables for durakv and a stock server. The first gives the server's CPU time of a command on a value of ten thousand
and of a million elements. The second gives how long another client waits for PING while one client moves a value of
512 MB, builds and drops a value of ten million elements, or asks for a hundred thousand keys. Rule: prints, and writes
no file.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hiredis

from tools.bench.measure import cpu_s
from tools.bench.targets import Running, Unavailable, known_targets, running

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL, LARGE = 10_000, 1_000_000
# Commands of one figure: enough for /proc's ticks of ten milliseconds.
COMMANDS = 20_000
PIPELINE = 200
# Elements of one command and commands of one round trip, while a value is built.
_PER_COMMAND = 200
_PER_TRIP = 50
HUGE_MB = (512, 48)
MANY_KEYS = 100_000
_PATIENCE_S = 600.0
Request = bytes


class Loader:
    """One connection that sends many requests at once."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self.reader = hiredis.Reader()

    def many(self, requests: list[Request]) -> list[object]:
        """Every reply. Raises Unavailable for an error reply."""
        self.socket.sendall(b"".join(requests))
        replies: list[object] = []
        while len(replies) < len(requests):
            reply = self.reader.gets()
            if reply is False:
                data = self.socket.recv(1 << 20)
                if not data:
                    raise Unavailable("the server closed the connection")
                self.reader.feed(data)
            elif isinstance(reply, hiredis.ReplyError):
                raise Unavailable(str(reply))
            else:
                replies.append(reply)
        return replies

    def drain(self, request: Request, size: int) -> None:
        """Send one request and throw away a reply of so many bytes and its frame."""
        self.socket.sendall(request)
        left = size + len(b"$%d\r\n\r\n" % size)
        buffer = memoryview(bytearray(1 << 20))
        while left > 0:
            got = self.socket.recv_into(buffer)
            if not got:
                raise Unavailable("the server closed the connection")
            left -= got

    def close(self) -> None:
        self.socket.close()


def packed(*words: str | bytes) -> Request:
    """One request on the wire."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)


def elements(kind: str, first: int, count: int) -> list[bytes]:
    """The arguments that add ``count`` elements to a value of the kind."""
    numbers = range(first, first + count)
    if kind == "zset":
        return [word for n in numbers for word in (b"%d" % n, b"member:%d" % n)]
    if kind == "hash":
        return [word for n in numbers for word in (b"field:%d" % n, b"%d" % n)]
    return [b"member:%d" % n for n in numbers]


ADD = {"set": b"SADD", "hash": b"HSET", "zset": b"ZADD", "list": b"RPUSH"}


def build(loader: Loader, kind: str, key: bytes, count: int) -> None:
    """Make a value of so many elements, pipelined."""
    trip = _PER_COMMAND * _PER_TRIP
    for first in range(0, count, trip):
        ends = range(first, min(first + trip, count), _PER_COMMAND)
        loader.many([packed(ADD[kind], key, *elements(kind, at, min(_PER_COMMAND, count - at))) for at in ends])


# -- growth --------------------------------------------------------------------------------------------------------


def operations(size: int) -> dict[str, Callable[[], Request]]:
    """Makers of requests on the sorted set and the list of so many elements; the same ones for every server."""
    dice = random.Random(size)
    zset, items, middle = b"z%d" % size, b"l%d" % size, b"%d" % (size // 2)
    stop = b"%d" % (size // 2 + 9)

    def member() -> bytes:
        return b"member:%d" % dice.randrange(size)

    return {
        "ZADD, another score": lambda: packed(b"ZADD", zset, b"%d" % dice.randrange(size), member()),
        "ZRANGE 0 9": lambda: packed(b"ZRANGE", zset, b"0", b"9"),
        "ZRANGE of 10 in the middle": lambda: packed(b"ZRANGE", zset, middle, stop),
        "ZRANK": lambda: packed(b"ZRANK", zset, member()),
        "LINDEX in the middle": lambda: packed(b"LINDEX", items, middle),
        "LRANGE of 10 in the middle": lambda: packed(b"LRANGE", items, middle, stop),
        "LMOVE from end to end": lambda: packed(b"LMOVE", items, items, b"RIGHT", b"LEFT"),
    }


def growth(started: Running) -> dict[str, tuple[float, float]]:
    """Operation to microseconds of server CPU for each command, on the small and on the large value."""
    loader = Loader(started.port)
    # Without processes beside it, whose work does not follow the commands.
    pids = started.pids
    found: dict[str, list[float]] = {}
    try:
        for size in (SMALL, LARGE):
            build(loader, "zset", b"z%d" % size, size)
            build(loader, "list", b"l%d" % size, size)
            for name, make in operations(size).items():
                trips = [[make() for _ in range(PIPELINE)] for _ in range(COMMANDS // PIPELINE)]
                before = cpu_s(pids)
                for trip in trips:
                    loader.many(trip)
                found.setdefault(name, []).append((cpu_s(pids) - before) / COMMANDS * 1e6)
    finally:
        loader.close()
    return {name: (small, large) for name, (small, large) in found.items()}


# -- stalls --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stall:
    """How long the work took, and how long others waited meanwhile."""

    seconds: float
    p999_ms: float
    max_ms: float


class Pinger:
    """The process that asks for a sign of life."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench.pinger", str(port)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def tell(self, word: str) -> dict[str, float]:
        """Send one line and wait for what it is answered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Unavailable("the client that pings has ended")
        told: dict[str, float] = json.loads(line)
        return told

    def during(self, work: Callable[[], object]) -> Stall:
        """Measure while ``work`` runs."""
        self.tell("begin")
        # The first requests after a pause are not what is measured.
        time.sleep(0.2)
        began_s = time.perf_counter()
        work()
        spent_s = time.perf_counter() - began_s
        time.sleep(0.1)
        told = self.tell("end")
        return Stall(spent_s, told["p999_ms"], told["max_ms"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@contextmanager
def pinging(started: Running) -> Iterator[tuple[Pinger, Loader]]:
    """A client that pings and one that works."""
    pinger, loader = Pinger(started.port), Loader(started.port)
    try:
        yield pinger, loader
    finally:
        loader.close()
        pinger.close()


def stalls(started: Running, count: int) -> Iterator[tuple[str, Stall]]:
    """Each kind of work with what it did to others. ``count``: elements of a value that is built and dropped."""
    with pinging(started) as (pinger, loader):
        yield "nothing, for a second", pinger.during(lambda: time.sleep(1.0))
        for size_mb in HUGE_MB:
            size = size_mb * 1024 * 1024
            try:
                yield (
                    f"SET of {size_mb} MB",
                    pinger.during(partial(loader.many, [packed(b"SET", b"huge", bytes(size))])),
                )
            except Unavailable as error:
                print(f"  SET of {size_mb} MB is refused: {error}", flush=True)
                pinger.tell("begin")
                continue
            yield f"GET of {size_mb} MB", pinger.during(partial(loader.drain, packed(b"GET", b"huge"), size))
            yield f"DEL of {size_mb} MB", pinger.during(partial(loader.many, [packed(b"DEL", b"huge")]))
        keys = [b"key:%d" % n for n in range(MANY_KEYS)]
        for at in range(0, MANY_KEYS, 1000):
            loader.many([packed(b"MSET", *[word for key in keys[at : at + 1000] for word in (key, key)])])
        request = packed(b"MGET", *keys)
        yield f"MGET of {MANY_KEYS:,} keys", pinger.during(lambda: loader.many([request]))
        for kind, add in ADD.items():
            for drop in ("DEL", "UNLINK"):
                grown = pinger.during(partial(build, loader, kind, b"big", count))
                if drop == "DEL":
                    yield f"{add.decode()} of {count:,} elements, {_PER_COMMAND} a command", grown
                yield f"{drop} of that {kind}", pinger.during(partial(loader.many, [packed(drop, b"big")]))


# -- report --------------------------------------------------------------------------------------------------------


def growth_table(found: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    """Microseconds and their ratio for each target."""
    names = list(found)
    header = "".join(f" {name} {SMALL:,} | {LARGE:,} | ratio |" for name in names)
    lines = [f"| us of server CPU for each command |{header}", "|---|" + "---:|---:|---:|" * len(names)]
    for operation in next(iter(found.values())):
        cells = ""
        for name in names:
            small, large = found[name][operation]
            cells += f" {small:.2f} | {large:.2f} | {large / small if small else 0:.1f} |"
        lines.append(f"| {operation} |{cells}")
    return lines


def stall_table(found: dict[str, dict[str, Stall]]) -> list[str]:
    """Seconds of work, and p99.9 and maximum of PING meanwhile, for each target."""
    names = list(found)
    header = "".join(f" {name} s | p99.9 ms | max ms |" for name in names)
    lines = [f"| while one client does |{header}", "|---|" + "---:|---:|---:|" * len(names)]
    for work in next(iter(found.values())):
        cells = ""
        for name in names:
            stall = found[name].get(work)
            told = f" {stall.seconds:.2f} | {stall.p999_ms:.1f} | {stall.max_ms:.1f} |" if stall else " - | - | - |"
            cells += told
        lines.append(f"| {work} |{cells}")
    return lines


def main(argv: list[str]) -> int:
    """Measure the targets one after the other and print both tables."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.dev bench --only stalls", description=__doc__)
    parser.add_argument("--targets", nargs="*", default=["durakv-memory", "redis-memory"], help="which servers")
    parser.add_argument("--elements", type=int, default=10_000_000, help="of each value built and dropped")
    parser.add_argument("--parts", nargs="*", default=["growth", "stalls"], choices=("growth", "stalls"))
    options = parser.parse_args(argv)
    targets = {target.name: target for target in known_targets()}
    grown: dict[str, dict[str, tuple[float, float]]] = {}
    stalled: dict[str, dict[str, Stall]] = {}
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stalls-", dir=ROOT / "build") as directory:
        for name in options.targets:
            try:
                with running(targets[name], Path(directory) / name) as started:
                    if "growth" in options.parts:
                        grown[name] = growth(started)
                        print("\n".join(growth_table({name: grown[name]})), flush=True)
                    if "stalls" in options.parts:
                        for work, stall in stalls(started, options.elements):
                            stalled.setdefault(name, {})[work] = stall
                            print(f"  {name}: {work}: {stall.seconds:.2f} s, p99.9 {stall.p999_ms:.1f} ms, "
                                  f"max {stall.max_ms:.1f} ms", flush=True)  # fmt: skip
            except Unavailable as error:
                print(f"  {name}: not measured further: {error}", flush=True)
    if grown:
        print("\n".join(["", *growth_table(grown)]))
    if stalled:
        print("\n".join(["", *stall_table(stalled)]))
    return 0 if grown or stalled else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
