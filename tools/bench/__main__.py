"""``python3 -m tools.dev bench [--quick] [--rounds N] [--rows TEXT ...]``: run the rounds, write docs/benchmarks.md.

Every round starts each target once, on an empty directory, runs its rows and stops it, so that a disturbance of the
machine falls on all targets alike. Nothing is left running or on disk, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from durakv import __version__, build_mode
from tools.bench import checkpoints, incidents, modes, moves, report, stalls
from tools.bench.measure import Sample, median, percentile, sync_times_us
from tools.bench.rows import Row, all_rows, benchmark_command, fill, generator, loop_command, run_row
from tools.bench.targets import Target, Unavailable, known_targets, running

ROOT = Path(__file__).resolve().parent.parent.parent
INCIDENTS = ("failover", "witness-failover", "idle", "connections", "lone-client")


class Bench:
    """One invocation: options, where servers keep their files, and what has been measured so far."""

    def __init__(self, directory: Path, *, rounds: int, seconds: float, wanted: list[str]) -> None:
        self.directory = directory
        self.rounds = rounds
        self.seconds = seconds
        self.targets = {target.name: target for target in known_targets()}
        self.rows = [row for row in all_rows() if not wanted or any(word in row.key for word in wanted)]
        self.incidents = [name for name in INCIDENTS if not wanted or any(word in name for word in wanted)]
        self.samples: dict[Row, list[Sample]] = {}
        self.reasons: dict[str, str] = {}
        self.sizes: dict[Row, int] = {}
        self.syncs: list[float] = []
        self.found: list[str] = []

    def run_rounds(self) -> None:
        """All rounds of all selected rows."""
        names = list(dict.fromkeys(row.target for row in self.rows))
        for number in range(1, self.rounds + 1):
            self.syncs += sync_times_us(self.directory)
            for name in names:
                if name in self.reasons:
                    continue
                print(f"round {number}/{self.rounds}: {name}", flush=True)
                try:
                    self._run_target(self.targets[name])
                except Unavailable as error:
                    self.reasons[name] = str(error)
                    print(f"  not measured: {error}", flush=True)

    def _run_target(self, target: Target) -> None:
        with running(target, self.directory / "target") as started:
            rows = [row for row in self.rows if row.target == target.name]
            if any(row.operation == "GET" for row in rows):
                fill(started)
            for row in rows:
                sample = run_row(row, started, self.seconds, self.sizes)
                self.samples.setdefault(row, []).append(sample)
                print(f"  {row.key:<45} {sample.load.per_s:>10,.0f}/s  p50 {sample.load.p50_us:>7,.0f} us  "
                      f"p99 {sample.load.p99_us:>7,.0f} us  cpu {sample.cpu_us:.1f} us", flush=True)  # fmt: skip

    def run_incidents(self, *, quick: bool) -> None:
        """Failover, idle CPU, many connections and the lone client beside the disk."""
        three, one, pair = self.targets["durakv-3"], self.targets["durakv-always"], self.targets["durakv-2w"]
        crowd = Target(one.name, one.kind, one.program, one.about, (*one.options, "--maxclients", "20000"))
        place = self.directory / "target"
        count = 3 if quick else 10

        def failover() -> str:
            return (
                f"Failover, {count} leader SIGKILLs under load, to the first acknowledged write: "
                + incidents.spread(incidents.failovers(three, place, count))
            )

        def survivor() -> str:
            return (
                f"Two nodes and a witness, {count} SIGKILLs of leader and follower in turn under load, to the first "
                "acknowledged write: " + incidents.spread(incidents.failovers(pair, place, count, followers_too=True))
            )

        def idle() -> str:
            each = incidents.idle_cpu(three, place, 3 if quick else 10)
            return "CPU of an idle node of three: " + ", ".join(f"{ms:.1f}" for ms in each) + " ms a second"

        def connections() -> str:
            held, load = incidents.many_connections(crowd, place, self.seconds)
            return (
                f"{held:,} idle connections and {incidents.ACTIVE_CLIENTS:,} active clients (SET, appendfsync always):"
                f" {load.per_s:,.0f} requests/s, p50 {load.p50_us / 1000:.2f} ms, p99 {load.p99_us / 1000:.2f} ms"
            )

        def lone() -> str:
            load = incidents.lone_client(one, place, self.seconds)
            sync = percentile(sorted(self.syncs or sync_times_us(self.directory)), 50)
            return f"One client, appendfsync always: p50 {load.p50_us:.0f} us, where one fdatasync takes {sync:.0f} us"

        steps: dict[str, Callable[[], str]] = {
            "failover": failover, "witness-failover": survivor, "idle": idle, "connections": connections,
            "lone-client": lone,
        }  # fmt: skip
        for name in self.incidents:
            print(name, flush=True)
            try:
                self.found.append(steps[name]())
                print(f"  {self.found[-1]}", flush=True)
            except Unavailable as error:
                self.reasons[name] = str(error)
                print(f"  not measured: {error}", flush=True)

    def machine(self) -> list[str]:
        """The lines that say what the numbers were measured on and with."""
        ordered = sorted(self.syncs or sync_times_us(self.directory))
        lines = [
            f"{cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
            f"disk: fdatasync of 128 bytes {percentile(ordered, 50):.0f} us p50, {percentile(ordered, 99):.0f} us p99",
            f"durakv {__version__}, {build_mode()}, Python {platform.python_version()}",
            *(line for line in (version_of(name) for name in ("redis-server", "valkey-server", "etcd")) if line),
            f"load: {version_of(generator())}, 32-byte values, 100,000 keys",
            "load of SET+WAITAOF, PUT and SET (loop): `tools/bench/closed_loop.py`",
            f"{self.rounds} rounds of about {self.seconds:g} s a row",
            "CPU: user and system time of all server processes, from /proc",
            "etcd is driven through its HTTP/JSON gateway, which costs it CPU that its gRPC interface does not",
        ]
        if self.rounds < 3:
            lines.append("fewer than three rounds: an indication only")
        return lines

    def write(self, path: Path) -> None:
        """Replace the report."""
        abouts = {name: target.about for name, target in self.targets.items()}
        medians = {row: median(samples) for row, samples in self.samples.items()}
        example = Row("memory", "durakv-memory", "SET", 50, 1)
        looped = Row("replicated", "valkey-waitaof", "SET+WAITAOF", 50, 1)
        commands = [
            " ".join(benchmark_command(example, 7000, 100000)),
            " ".join(["python3", *loop_command(looped, 7000, self.seconds)[1:]]),
            *(f"{target.program} {' '.join(target.options)}".strip() for target in self.targets.values()),
        ]
        path.write_text(report.render(self.machine(), abouts, medians, self.reasons, self.found, commands))
        print(f"wrote {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


def cpu_model() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def version_of(program: str) -> str:
    """The first line of ``program --version``; empty when it is not installed."""
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    line = (done.stdout or done.stderr).splitlines()[0].strip()
    return line if line.startswith(program) else f"{program}: {line}"


def main(argv: list[str]) -> int:
    """Run the benchmark; exit code 1 when nothing at all could be measured."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.dev bench", description="Measure durakv beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round; an indication only")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 3; with --quick 1)")
    parser.add_argument("--seconds", type=float, help="length of one run (default 3; with --quick 1)")
    parser.add_argument("--rows", nargs="*", default=[], metavar="TEXT", help="only rows whose name contains a TEXT")
    parser.add_argument("--list", action="store_true", help="print the rows' names and exit")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "benchmarks.md", help="where to write the report"
    )
    parser.add_argument(
        "--only", choices=("stalls", "checkpoints", "moves", "modes"),
        help="the figures of that module of tools.bench alone, printed",
    )  # fmt: skip
    options, further = parser.parse_known_args(argv)
    if options.only == "stalls":
        return stalls.main(further)
    if options.only == "checkpoints":
        return checkpoints.main(further)
    if options.only == "moves":
        return moves.main(further)
    if options.only == "modes":
        return modes.main(further)
    if further:
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    if options.list:
        print("\n".join([*(row.key for row in all_rows()), *INCIDENTS]))
        return 0
    rounds = options.rounds or (1 if options.quick else 3)
    seconds = options.seconds or (1.0 if options.quick else 3.0)
    # SIGTERM unwinds like Ctrl-C, so that every server is stopped and every file removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # In the repository and not in the system's temporary directory, which may be memory and never sync.
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))
    try:
        bench = Bench(directory, rounds=rounds, seconds=seconds, wanted=options.rows)
        bench.run_rounds()
        bench.run_incidents(quick=options.quick)
        if not bench.samples and not bench.found:
            print("nothing could be measured; see the reasons above", file=sys.stderr)
            return 1
        bench.write(options.output)
    except KeyboardInterrupt:
        print("interrupted; nothing written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
