"""What many runs amounted to: simulated hours, faults by class, operations by outcome, verdicts, failures.

Rule: adds up and prints; it decides nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN
from jstyle.sim.coverage import Coverage
from jstyle.sim.runner import HARNESS, Result

_HOUR_MS = 3_600_000


@dataclass
class Failure:
    """A run that was not true, and how to see it again."""

    seed: int
    invariant: str
    text: str
    event: int
    repeat: str


@dataclass
class Summary:
    """Adds up results."""

    runs: int = 0
    sim_ms: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    elections: int = 0
    commits: int = 0
    certificates: int = 0
    digests_compared: int = 0
    recoveries: int = 0
    events: int = 0
    by_valid: Counter[str] = field(default_factory=Counter)
    # What witnesses were good for, and in how many runs there was one.
    witness: Counter[str] = field(default_factory=Counter)
    witnessed: int = 0
    # What became of migrations of slots between groups, and in how many runs there were several.
    handoffs: Counter[str] = field(default_factory=Counter)
    grouped: int = 0
    # What happened in lease mode, and how many runs were of it.
    lease: Counter[str] = field(default_factory=Counter)
    leased: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    ops: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    why: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, result: Result, repeat: str) -> None:
        """Take in one result."""
        self.runs += 1
        self.sim_ms += result.sim_ms
        self.cpu_s += result.cpu_s
        self.elections += result.elections
        self.commits += result.commits
        self.certificates += result.certificates
        self.digests_compared += result.digests_compared
        self.recoveries += result.recoveries
        self.events += result.event
        self.by_valid[result.valid] += 1
        self.coverage.add(result)
        self.witness.update(result.witness)
        self.witnessed += bool(result.witness)
        self.handoffs.update(result.handoffs)
        self.grouped += bool(result.handoffs)
        self.lease.update(result.lease)
        self.leased += bool(result.lease)
        self.ops.update(result.ops)
        for name, valid in result.verdicts.items():
            self.verdicts[f"{name} {valid}"] += 1
        for why in result.why:
            self.why[why.splitlines()[0] if why else "?"] += 1
        if result.invariant:
            self.failures.append(Failure(result.seed, result.invariant, result.text, result.event, repeat))

    def exit_code(self, unknown_percent: int = 0) -> int:
        """0 all true, 1 something false, 2 more than so many percent unknown, 3 the harness failed."""
        if any(failure.invariant == HARNESS for failure in self.failures):
            return 3
        if self.by_valid[FALSE]:
            return 1
        return 2 if self.by_valid[UNKNOWN] * 100 > unknown_percent * self.runs else 0

    def hours(self) -> float:
        """Simulated cluster-hours."""
        return self.sim_ms / _HOUR_MS

    def hours_per_cpu_hour(self) -> float:
        """Simulated hours per CPU-hour."""
        return self.hours() / (self.cpu_s / 3600) if self.cpu_s else 0.0

    def plain(self) -> dict[str, Any]:
        """Everything as JSON-like data."""
        return {
            **asdict(self),
            "never": self.coverage.never(),
            "hours": self.hours(),
            "hours_per_cpu_hour": self.hours_per_cpu_hour(),
        }

    def show(self, console: Console) -> None:
        """Print all of it."""
        by = ", ".join(f"{count} {name}" for name in (TRUE, UNKNOWN, FALSE) if (count := self.by_valid[name]))
        console.print(
            f"{self.runs} seeds ({by}), {self.hours():.2f} simulated hours, {self.hours_per_cpu_hour():.0f} per "
            f"CPU-hour, {self.cpu_s:.0f} CPU s, {self.wall_s:.0f} s"
        )
        console.print(
            f"{self.events} events, {self.elections} elections, {self.commits} entries committed, {self.certificates} "
            f"commit certificates, {self.digests_compared} states compared, {self.recoveries} starts"
        )
        if self.witnessed:
            told = ", ".join(f"{name} {count}" for name, count in sorted(self.witness.items()))
            console.print(f"{self.witnessed} runs with a witness: {told}", soft_wrap=True)
        if self.leased:
            told = ", ".join(f"{name} {count}" for name, count in sorted(self.lease.items()))
            console.print(f"{self.leased} runs of lease mode: {told}", soft_wrap=True)
        if self.grouped:
            told = ", ".join(f"{name} {count}" for name, count in sorted(self.handoffs.items()))
            a_minute = self.handoffs["ended"] * 60 / self.cpu_s if self.cpu_s else 0
            console.print(
                f"{self.grouped} runs with several groups: handoffs {told}; {a_minute:.0f} ended a CPU-minute",
                soft_wrap=True,
            )
        self.coverage.show(console)
        self._show_ops(console)
        if self.verdicts:
            console.print("checkers: " + ", ".join(f"{name} {n}" for name, n in sorted(self.verdicts.items())))
        for why, count in self.why.most_common(5):
            console.print(f"unknown x{count}: {why}", markup=False, soft_wrap=True)
        for failure in self.failures:
            colour = "yellow" if failure.invariant == HARNESS else "red"
            console.print(
                f"[{colour}]seed {failure.seed} {escape(failure.invariant)}[/] at event {failure.event}: "
                f"{escape(failure.text)}\n    {escape(failure.repeat)}", soft_wrap=True,
            )  # fmt: skip

    def _show_ops(self, console: Console) -> None:
        table = Table(title="operations", title_justify="left")
        for heading in ("workload", "operation", "ok", "fail", "info"):
            table.add_column(heading, justify="left" if heading in {"workload", "operation"} else "right")
        rows: dict[tuple[str, str], Counter[str]] = {}
        for name, count in self.ops.items():
            workload, f, outcome = name.split(" ")
            rows.setdefault((workload, f), Counter())[outcome] += count
        for (workload, f), counts in sorted(rows.items()):
            table.add_row(workload, f, *[str(counts[outcome]) for outcome in ("ok", "fail", "info")])
        console.print(table)
