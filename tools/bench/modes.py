"""Raft mode and lease mode side by side: what a request costs, and what clients see of each fault.

``python3 -m tools.dev bench --only modes`` prints two tables for docs/choosing-a-mode.md. Every cell is a run: a fault
table written by hand would say what its author hopes. Rule: faults strike processes by pid, one fault to a cluster
that was started for it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tools.bench.incidents import failovers, spread
from tools.bench.measure import Sample, median
from tools.bench.outages import Watch
from tools.bench.rows import Row, fill, run_row
from tools.bench.targets import Running, Target, Unavailable, durakv_running, known_targets, running

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {
    "durakv-3": "Raft, 3 nodes",
    "durakv-2w": "Raft, 2 nodes and a witness",
    "durakv-lease-3": "lease, 3 nodes",
    "durakv-lease-2": "lease, 2 nodes and an arbiter",
}
# Raft's other way to read, for the rows of reads only.
LEASE_READS = "durakv-3-lease"
_CALM_S = 1.5
_PAUSE_S = 3.0

Strike = Callable[[Running], list[int]]


class Fault:
    """``strike`` hits a cluster and names the pids to wake later; ``beside``: needs a witness or an arbiter.

    ``watch_s``: how long what clients see is watched behind the strike, or behind its last step.
    """

    def __init__(self, name: str, strike: Strike, *, beside: bool = False, watch_s: float = 6.0) -> None:
        self.name = name
        self.strike = strike
        self.beside = beside
        self.watch_s = watch_s


def _pid(at: Running, *, leader: bool) -> int:
    return next(pid for pid, port in zip(at.pids, at.ports, strict=True) if (port == at.port) == leader)


def _kill(*pids: int) -> list[int]:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return []


def _stop(pid: int) -> list[int]:
    os.kill(pid, signal.SIGSTOP)
    return [pid]


def _beside(at: Running) -> int:
    """The pid of the witness or the arbiter."""
    said = json.loads((at.directory / "cluster.json").read_text())
    found = said.get("witness") or said.get("arbiter")
    if not found or not found.get("pid"):
        raise Unavailable("there is neither a witness nor an arbiter")
    return int(found["pid"])


def _beside_then_follower(at: Running) -> list[int]:
    _kill(_beside(at))
    time.sleep(_CALM_S)
    return _kill(_pid(at, leader=False))


FAULTS = (
    Fault("follower killed", lambda at: _kill(_pid(at, leader=False))),
    Fault("leader killed", lambda at: _kill(_pid(at, leader=True))),
    Fault("follower stands still for 3 s", lambda at: _stop(_pid(at, leader=False)), watch_s=_PAUSE_S),
    Fault("leader stands still for 3 s", lambda at: _stop(_pid(at, leader=True)), watch_s=_PAUSE_S),
    Fault("witness or arbiter killed", lambda at: _kill(_beside(at)), beside=True, watch_s=4.0),
    Fault("witness or arbiter killed, then the follower", _beside_then_follower, beside=True),
)


def outage(target: Target, fault: Fault, directory: Path) -> tuple[float, float, int, int]:
    """(seconds without a served write, without a read, acknowledged writes lost, old values read)."""
    with running(target, directory) as started, Watch(started.ports) as watch:
        watch.wait_for_both(20)
        time.sleep(_CALM_S)
        now = durakv_running(started.directory)
        began = time.monotonic()
        asleep: list[int] = []
        try:
            asleep = fault.strike(now)
            time.sleep(fault.watch_s)
        finally:
            ended = time.monotonic()
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
        gaps = watch.writes.longest_gap(began, ended), watch.reads.longest_gap(began, ended)
        time.sleep(_CALM_S)
        if not asleep:
            # Who was killed comes back, so that what is asked for afterwards does not depend on who is gone.
            up = [sys.executable, "-m", "durakv", "cluster", "up", "--detach", "--dir", str(started.directory)]
            done = subprocess.run(up, check=False, capture_output=True, text=True, timeout=120)
            if done.returncode != 0:
                raise Unavailable(f"the cluster did not come back: {done.stderr.strip()[-300:]}")
        watch.wait_for_both(30)
        watch.end()
        return *gaps, watch.missing(), len(watch.stale)


def _shown(seconds: float, watched_s: float) -> str:
    return "not served" if seconds > watched_s - 0.5 else f"{seconds * 1000:.0f} ms"


def fault_table(targets: list[Target], root: Path, rounds: int) -> list[str]:
    """Lines of the table: the longest time without a served write / read, the median of the runs."""
    lines = ["| longest time without a write / a read | " + " | ".join(SHAPES[t.name] for t in targets) + " |",
             "|---|" + "---|" * len(targets)]  # fmt: skip
    lost = stale = runs = 0
    for fault in FAULTS:
        cells = []
        for target in targets:
            if fault.beside and not (target.witness or target.nodes == 2):
                cells.append("")
                continue
            found = [outage(target, fault, root / "outage") for _ in range(rounds)]
            runs += rounds
            lost += sum(each[2] for each in found)
            stale += sum(each[3] for each in found)
            gaps = [statistics.median(each[n] for each in found) for n in (0, 1)]
            cells.append(" / ".join(_shown(gap, fault.watch_s) for gap in gaps))
        lines.append(f"| {fault.name} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, "", f"In these {runs} runs {lost} acknowledged writes were lost and {stale} old values were read."]


def speed_table(targets: list[Target], reads: list[Target], root: Path, rounds: int, seconds: float) -> list[str]:
    """Lines of the table: writes and reads, interleaved over all targets, medians of the rounds."""
    shapes = [(target, Row("modes", target.name, "SET", clients, 1)) for target in targets for clients in (1, 50, 200)]
    shapes += [(target, Row("modes", target.name, "GET", 50, 1)) for target in reads]
    found: dict[Row, list[Sample]] = {row: [] for _, row in shapes}
    sizes: dict[Row, int] = {}
    for _ in range(rounds):
        for target in {target.name: target for target, _ in shapes}.values():
            with running(target, root / "speed") as started:
                fill(started)
                for of, row in shapes:
                    if of is target:
                        found[row].append(run_row(row, started, seconds, sizes))
    lines = ["| | operation, clients | a second | p50 | p99 | CPU of all nodes |", "|---|---|---|---|---|---|"]
    for target, row in shapes:
        m = median(found[row])
        name = SHAPES.get(target.name, "Raft, 3 nodes, reads lease")
        lines.append(
            f"| {name} | {row.operation}, {row.clients} | {m.per_s:,.0f} | {m.p50_us:.0f} us | {m.p99_us:.0f} us | "
            f"{m.cpu_us:.1f} us |"
        )
    return lines


def main(argv: list[str]) -> int:
    """Print both tables and the times of ten failovers each; exit code 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.dev bench --only modes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--failovers", type=int, default=10)
    parser.add_argument("--part", choices=("speed", "failover", "faults"), help="that part alone")
    options = parser.parse_args(argv)
    known = {target.name: target for target in known_targets()}
    targets = [known[name] for name in SHAPES]
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="modes-", dir=ROOT / "build") as base:
        root = Path(base)
        try:
            if options.part in (None, "speed"):
                reads = [*targets, known[LEASE_READS]]
                print("\n".join(speed_table(targets, reads, root, options.rounds, options.seconds)), flush=True)
            if options.part in (None, "failover"):
                for target in targets:
                    times = spread(failovers(target, root / "failover", options.failovers))
                    print(f"{SHAPES[target.name]}: leader killed {options.failovers} times under load, to the next "
                          f"acknowledged write: {times}", flush=True)  # fmt: skip
            if options.part in (None, "faults"):
                print("\n".join(fault_table(targets, root, options.rounds)), flush=True)
        except Unavailable as error:
            print(f"not measured: {error}", file=sys.stderr)
            return 1
    return 0
