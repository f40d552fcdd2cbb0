"""What a page is made from: judged histories, faults, samples of the nodes, and the runs of a campaign.

Rule: data only; reading it from files is ``gather``'s, drawing it the views'. Times are nanoseconds since the start of
the recording, as in ``Op.time``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Verdict, worst
from jstyle.history.op import Op

OPEN_END: Final = -1


@dataclass
class Window:
    """A fault that lasted from ``begin_ns`` to ``end_ns``; OPEN_END: as long as the recording. Equal: an instant."""

    kind: str
    begin_ns: int
    end_ns: int
    about: str = ""


@dataclass
class Sample:
    """A node at one moment. ``role``: leader, follower, candidate, ... or down; ``commit`` -1 when not known."""

    time_ns: int
    node: str
    role: str
    term: int = 0
    commit: int = -1


@dataclass
class Judged:
    """A history and what its checkers said; ``workload`` is empty when nobody knew it."""

    name: str
    workload: str
    ops: list[Op]
    verdicts: list[Verdict] = field(default_factory=list)

    def anomalies(self) -> list[tuple[Verdict, Anomaly]]:
        """All anomalies with the verdict they belong to, in order of the checkers."""
        return [(verdict, anomaly) for verdict in self.verdicts for anomaly in verdict.anomalies]


@dataclass
class Held:
    """A promise that was watched while the run went on, not read from a history. ``promise`` is its id (R5, P10)."""

    promise: str
    valid: str
    text: str = ""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Run:
    """One run of several, as far as the matrix and the list of runs need it."""

    name: str
    valid: str
    broke: str = ""
    text: str = ""
    repeat: str = ""
    # Workload -> completed operations by outcome.
    ops: dict[str, dict[str, int]] = field(default_factory=dict)
    # Class of faults -> how often one was injected.
    faults: dict[str, int] = field(default_factory=dict)


@dataclass
class Report:
    """Everything one page shows. ``missing`` says in sentences what could not be shown and why."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    repeat: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def valid(self) -> str:
        """The worst verdict on the page; unknown when there is none. What is no verdict counts as unknown."""
        found = [held.valid for held in self.held] + [v.valid for judged in self.judged for v in judged.verdicts]
        found += [run.valid for run in self.runs]
        found += [UNKNOWN for judged in self.judged if not judged.verdicts]
        return worst([valid if valid in (TRUE, FALSE) else UNKNOWN for valid in found])
