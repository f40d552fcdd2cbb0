"""The rows of the report: which target, which operation, how many clients, and one run of a row.

Rule: the only place that runs a load generator. A row's servers are loaded by one generator at a time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass

from tools.bench.measure import Load, Sample, cpu_s, descendants, parse_benchmark_csv
from tools.bench.targets import Running, Unavailable

VALUE_BYTES = 32
KEYS = 100_000
PROBE_REQUESTS = 2000
# The table whose rows are compared with each other, and the row that others are divided by.
SECTIONS = {
    "memory": "In memory, one node",
    "always": "One node, every write synced to disk before its reply",
    "replicated": "Three nodes, every write on the disks of a majority before its reply",
    "witness": "Two nodes and a witness",
    "reads": "Reads from three nodes that never return stale data",
}


@dataclass(frozen=True)
class Row:
    """One line of one table."""

    section: str
    target: str
    operation: str
    clients: int
    pipeline: int

    @property
    def key(self) -> str:
        """How --rows selects it and the report names it."""
        return f"{self.section}/{self.target}/{self.operation}/c{self.clients}/P{self.pipeline}"


def all_rows() -> list[Row]:
    """Every row, grouped by target so that each is started once a round."""
    shapes = ((1, 1), (50, 1), (200, 1), (50, 16))
    rows = []
    for program in ("redis", "valkey", "durakv"):
        for operation in ("SET", "GET"):
            rows += [Row("memory", f"{program}-memory", operation, *shape) for shape in shapes]
        rows += [Row("always", f"{program}-always", "SET", *shape) for shape in shapes]
    for clients in (1, 50, 200):
        rows += [Row("replicated", f"{program}-waitaof", "SET+WAITAOF", clients, 1) for program in ("redis", "valkey")]
        rows.append(Row("replicated", "etcd-3", "PUT", clients, 1))
        rows.append(Row("replicated", "durakv-3", "SET (loop)", clients, 1))
    rows += [Row("replicated", "durakv-3", "SET", *shape) for shape in shapes]
    rows += [Row("reads", name, "GET", *shape) for name in ("durakv-3", "durakv-3-lease") for shape in shapes]
    for clients in (50, 200):
        names = ("durakv-3", "durakv-2w", "durakv-always", "durakv-2w-degraded")
        rows += [Row("witness", name, "SET", clients, 1) for name in names]
    order = {row.target: n for n, row in enumerate(rows)}
    return sorted(rows, key=lambda row: order[row.target])


def generator() -> str:
    """The redis-benchmark kind of load generator found. Raises Unavailable."""
    for name in ("valkey-benchmark", "redis-benchmark"):
        if shutil.which(name) is not None:
            return name
    raise Unavailable("neither valkey-benchmark nor redis-benchmark is installed")


def benchmark_command(row: Row, port: int, requests: int) -> list[str]:
    """The generator's command line for a SET or GET row."""
    return [
        generator(), "-h", "127.0.0.1", "-p", str(port), "-t", row.operation.lower(), "-n", str(requests),
        "-c", str(row.clients), "-P", str(row.pipeline), "-d", str(VALUE_BYTES), "-r", str(KEYS), "--csv",
    ]  # fmt: skip


def loop_command(row: Row, port: int, seconds: float) -> list[str]:
    """The own generator's command line for what redis-benchmark cannot send."""
    mode = {"SET+WAITAOF": "set-waitaof", "PUT": "etcd-put", "SET (loop)": "set"}[row.operation]
    return [sys.executable, "-m", "tools.bench.closed_loop", mode, "--ports", str(port), "--clients",
            str(row.clients), "--seconds", str(seconds)]  # fmt: skip


def fill(running: Running) -> None:
    """Give reads something to find, the same for every target."""
    _benchmark(Row("", "", "SET", 50, 16), running, KEYS)


def run_row(row: Row, running: Running, seconds: float, sizes: dict[Row, int]) -> Sample:
    """Load the row's servers for about ``seconds``. ``sizes`` remembers how many requests that takes."""
    if row.operation in ("SET", "GET"):
        if row not in sizes:
            probe = _benchmark(row, running, max(PROBE_REQUESTS, row.clients * row.pipeline * 10))
            sizes[row] = max(PROBE_REQUESTS, int(probe.per_s * seconds))
        pids = descendants(running.pids)
        before = cpu_s(pids)
        load = _benchmark(row, running, sizes[row])
    else:
        pids = descendants(running.pids)
        before = cpu_s(pids)
        load = Load(**json.loads(_output(loop_command(row, running.port, seconds), seconds + 60)))
    return Sample(load, (cpu_s(pids) - before) / load.requests * 1e6)


def _benchmark(row: Row, running: Running, requests: int) -> Load:
    return parse_benchmark_csv(_output(benchmark_command(row, running.port, requests), 180), requests)


def _output(command: list[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} did not finish within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout
