"""``python3 -m tools.dev bench --only moves``: what clients notice of slots that move under writes, beside Valkey's.

A million keys of 100 bytes in moving slots go from one of two groups to the other and back, under a fixed rate of
writes to just these keys. A pause is what the write of a client took that met the move: the first one that ended at the
next owner. Printed for each server: keys a second that were copied, the median, p99 and maximum of the pauses, the
longest wait of each client at any time of a move, errors that clients saw, and the ratios. Valkey keeps all in memory
here and durakv syncs every write before it answers. Rule: prints, and writes no file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durakv.keyspace.slots import slot_of
from tools.bench.measure import percentile
from tools.bench.stalls import Loader, packed
from tools.bench.targets import Unavailable, free_ports

ROOT = Path(__file__).resolve().parent.parent.parent
# Slots that move.
FIRST, LAST = 0, 63
HALF = 8192
_TRIP = 2000
_PATIENCE_S = 180.0
_SETTLE_S = 1.0
FINAL = (b"success", b"failed", b"cancelled")


def tags() -> list[str]:
    """A hash tag of each slot that moves."""
    found: dict[int, str] = {}
    n = 0
    while len(found) <= LAST - FIRST:
        slot = slot_of(b"%d" % n)
        if FIRST <= slot <= LAST:
            found.setdefault(slot, str(n))
        n += 1
    return [found[slot] for slot in sorted(found)]


def ask(port: int, *words: str) -> Any:
    """One command on a connection of its own. Raises Unavailable for an error."""
    loader = Loader(port)
    try:
        return loader.many([packed(*words)])[0]
    finally:
        loader.close()


def wait(what: Callable[[], bool], about: str) -> None:
    """Until it comes true. Raises Unavailable."""
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            raise Unavailable(f"{about} did not come true")
        time.sleep(0.05)


# -- the two clusters --------------------------------------------------------------------------------------------------


@contextmanager
def durakv_pair(root: Path) -> Iterator[list[int]]:
    """Two groups of one node each; their ports."""
    base = free_ports(12, 10_000)[0]
    words = [sys.executable, "-m", "durakv", "cluster"]
    made = ["--shards", "2", "--nodes", "1", "--base-port", str(base), "--detach"]
    up = subprocess.run([*words, "up", "--dir", str(root), *made], check=False, capture_output=True, text=True)
    if up.returncode:
        raise Unavailable(f"the cluster does not start: {(up.stdout + up.stderr)[-300:]}")
    try:
        yield [base, base + 10]
    finally:
        subprocess.run([*words, "stop", "--dir", str(root)], check=False, capture_output=True)


@contextmanager
def valkey_pair(root: Path) -> Iterator[list[int]]:
    """Two primaries that share the slots; their ports."""
    program = shutil.which("valkey-server")
    if program is None:
        raise Unavailable("valkey-server is not installed")
    ports = free_ports(2, 10_000)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            home = root / str(port)
            home.mkdir(parents=True)
            with (home / "server.out").open("ab") as out:
                processes.append(subprocess.Popen(
                    [program, "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "",
                     "--appendonly", "no", "--dir", str(home)],
                    stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                ))  # fmt: skip
        for port in ports:
            wait(lambda port=port: answers(port), "a start of valkey-server")  # type: ignore[misc]
        if not ask(ports[0], "COMMAND", "INFO", "CLUSTER|MIGRATESLOTS")[0]:
            raise Unavailable("this valkey-server has no CLUSTER MIGRATESLOTS")
        ask(ports[0], "CLUSTER", "ADDSLOTSRANGE", "0", str(HALF - 1))
        ask(ports[1], "CLUSTER", "ADDSLOTSRANGE", str(HALF), "16383")
        ask(ports[1], "CLUSTER", "SET-CONFIG-EPOCH", "2")
        ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", str(ports[1]))
        yield ports
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


def answers(port: int) -> bool:
    """Whether a server serves there."""
    try:
        return bool(ask(port, "PING") == b"PONG")
    except (OSError, Unavailable):
        return False


# -- measuring ---------------------------------------------------------------------------------------------------------


class Writers:
    """The process of clients that write all the time."""

    def __init__(self, ports: list[int], rate: int, clients: int, keys: int) -> None:
        words = [str(rate), str(clients), str(keys), ",".join(tags()), *map(str, ports)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench.slot_writers", *words], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def tell(self, word: str) -> dict[str, Any]:
        """Send one line and wait for what it is answered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Unavailable("the clients have ended")
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Found:
    """What the moves of one server came to."""

    def __init__(self) -> None:
        self.pauses_ms: list[float] = []
        self.worst_ms: list[float] = []
        self.calm_ms: list[float] = []
        self.p99_ms: list[float] = []
        self.keys_s: list[float] = []
        self.writes_s: list[float] = []
        self.errors: dict[str, int] = {}

    def add(self, told: dict[str, Any], keys: int, copy_s: float, spent_s: float) -> None:
        """One move."""
        self.pauses_ms += told["moved_ms"]
        self.worst_ms += told["worst_ms"]
        self.p99_ms.append(told["p99_ms"])
        self.keys_s.append(keys / copy_s)
        self.writes_s.append(told["writes"] / spent_s)
        for text, count in told["errors"].items():
            self.errors[text] = self.errors.get(text, 0) + count

    def pause(self, percent: float) -> float:
        """A percentile of the pauses, in milliseconds."""
        return percentile(sorted(self.pauses_ms), percent)

    def text(self) -> str:
        """In one line."""
        rate = sum(self.keys_s) / len(self.keys_s)
        writes = sum(self.writes_s) / len(self.writes_s)
        calm_ms = percentile(sorted(self.calm_ms), 50)
        seen = "none" if not self.errors else str(self.errors)
        pause = f"p50 {self.pause(50):.1f} ms, p99 {self.pause(99):.1f} ms, max {max(self.pauses_ms):.1f} ms"
        worst = f"p50 {percentile(sorted(self.worst_ms), 50):.1f} ms, max {max(self.worst_ms):.1f} ms"
        return (
            f"{len(self.keys_s)} moves under {writes:.0f} writes/s: {rate:.0f} keys/s copied; pause {pause}; a "
            f"client's longest wait in the whole move {worst} (p99 of all writes {max(self.p99_ms):.1f} ms; longest "
            f"wait in a calm second {calm_ms:.1f} ms); errors: {seen}"
        )


def fill(port: int, keys: int) -> None:
    """So many keys of each tag, with values of 100 bytes."""
    loader = Loader(port)
    value = b"v" * 100
    for tag in tags():
        for first in range(0, keys, _TRIP):
            numbers = range(first, min(first + _TRIP, keys))
            loader.many([packed(b"SET", b"{%b}:%08d" % (tag.encode(), n), value) for n in numbers])
    loader.close()


def state_of(port: int, source: bytes, before: list[bytes]) -> bytes:
    """Of the migration that this node knows and did not know before."""
    for row in ask(port, "CLUSTER", "GETSLOTMIGRATIONS"):
        facts = dict(zip(row[::2], row[1::2], strict=True))
        if facts[b"name"] not in before and facts[b"source_node"] == source:
            state: bytes = facts[b"state"]
            return state
    return b""


def move(source: int, target: int) -> float:
    """Move the slots; seconds until the source says so."""
    before = [row[row.index(b"name") + 1] for row in ask(source, "CLUSTER", "GETSLOTMIGRATIONS")]
    name, mine = ask(target, "CLUSTER", "MYID"), ask(source, "CLUSTER", "MYID")
    began_s = time.perf_counter()
    ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", str(FIRST), str(LAST), "NODE", name.decode())
    wait(lambda: state_of(source, mine, before) in FINAL, "a move")
    spent_s = time.perf_counter() - began_s
    state = state_of(source, mine, before)
    if state != b"success":
        raise Unavailable(f"a move ended as {state.decode()}")
    return spent_s


def measure(ports: list[int], options: argparse.Namespace) -> Found:
    """There and back as often as wanted."""
    each = options.keys // len(tags())
    for port in ports:
        wait(lambda port=port: b"cluster_state:ok" in ask(port, "CLUSTER", "INFO"), "a cluster")  # type: ignore[misc]
    fill(ports[0], each)
    writers = Writers(ports, options.rate, options.clients, each)
    found = Found()
    try:
        writers.tell("begin")
        time.sleep(2.0)
        for number in range(options.moves):
            source, target = ports[number % 2], ports[(number + 1) % 2]
            # What the last one left behind is done by now.
            time.sleep(options.calm)
            writers.tell("begin")
            time.sleep(1.0)
            found.calm_ms += writers.tell("end")["worst_ms"]
            began_s = time.perf_counter()
            copy_s = move(source, target)
            time.sleep(_SETTLE_S)
            told = writers.tell("end")
            found.add(told, each * len(tags()), copy_s, time.perf_counter() - began_s)
            longest = f"longest pause {max(told['moved_ms']):.1f} ms, longest wait {max(told['worst_ms']):.1f} ms"
            print(f"  move {number + 1}: {copy_s:.2f} s, {longest}", flush=True)
    finally:
        writers.close()
    return found


def ratios(found: dict[str, Found]) -> str:
    """Each figure of durakv over that of Valkey."""
    ours, theirs = found["durakv"], found["valkey"]
    parts = [f"pause {name} {ours.pause(at) / theirs.pause(at):.2f}x" for name, at in (("p50", 50), ("p99", 99))]
    parts.append(f"max {max(ours.pauses_ms) / max(theirs.pauses_ms):.2f}x")
    rate = sum(ours.keys_s) / len(ours.keys_s) / (sum(theirs.keys_s) / len(theirs.keys_s))
    return f"durakv / valkey: {', '.join(parts)}, copy rate {rate:.2f}x"


def main(argv: list[str]) -> int:
    """Print all figures; exit code 1 when one of them could not be taken."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.dev bench --only moves")
    parser.add_argument("--keys", type=int, default=1_000_000, help="in the slots that move")
    parser.add_argument("--rate", type=int, default=5000, help="writes per second to them")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--moves", type=int, default=6)
    parser.add_argument("--calm", type=float, default=3.0, help="seconds before each move")
    parser.add_argument("--targets", nargs="*", default=["durakv", "valkey"], choices=("durakv", "valkey"))
    options = parser.parse_args(argv)
    # SIGTERM unwinds like Ctrl-C, so that every server is stopped and every file removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    (ROOT / "build").mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="moves-", dir=ROOT / "build"))
    pairs = {"durakv": durakv_pair, "valkey": valkey_pair}
    found: dict[str, Found] = {}
    print(f"{options.keys} keys of 100 bytes in slots {FIRST}-{LAST}; load of the machine {os.getloadavg()[0]:.1f}")
    failed = False
    try:
        for name in options.targets:
            try:
                with pairs[name](root / name) as ports:
                    found[name] = measure(ports, options)
                print(f"{name}: {found[name].text()}", flush=True)
            except (Unavailable, OSError) as error:
                failed = True
                print(f"{name}: not measured: {error}", file=sys.stderr)
        if len(found) > 1:
            print(ratios(found))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if failed else 0
