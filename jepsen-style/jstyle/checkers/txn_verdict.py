"""From what an engine inferred to a verdict: the anomalies of single reads, the cycles, and the models they rule out.

Rule: ``false`` only for an anomaly that rules out a requested model; ``unknown`` when a search was cut short, when some
keys could not be judged, or when nothing was read; else ``true``. Anomalies that rule out no requested model are
reported all the same.

Options: ``models`` (default strict-serializable), ``budget_s`` seconds and ``budget_steps`` edges for the cycle search.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Final

from jstyle.checkers.txn_cycles import SearchBudget, find_cycles, said
from jstyle.checkers.txn_graph import READ, Graph, Txn, counted
from jstyle.checkers.txn_models import ANOMALIES, breaks, requested, weakest_broken
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Options, Verdict, number_option
from jstyle.history.op import OK, Op

BUDGET_S: Final = 60.0
BUDGET_STEPS: Final = 20_000_000
# Anomalies of one name that are reported; counts say how many there were.
LISTED: Final = 25
_KEYS_LISTED: Final = 10


class Findings:
    """Anomalies seen without a graph, and the keys that cannot be judged with the reason why."""

    __slots__ = ("anomalies", "unjudged")

    def __init__(self) -> None:
        self.anomalies: list[Anomaly] = []
        self.unjudged: dict[Hashable, str] = {}

    def add(self, name: str, text: str, txns: Iterable[Txn], key: Hashable) -> None:
        """One anomaly of ``key`` in which these transactions took part."""
        ops = sorted({txn.op for txn in txns})
        data: dict[str, object] = {"rules_out": weakest_broken(name)}
        self.anomalies.append(Anomaly(name, text, ops, key, data))


class Limits:
    """The options every transaction checker takes, checked before any work. Raises OptionError."""

    __slots__ = ("budget", "models")

    def __init__(self, options: Options) -> None:
        self.models = requested(options)
        steps = int(number_option(options, "budget_steps", BUDGET_STEPS))
        deadline_s = time.monotonic() + number_option(options, "budget_s", BUDGET_S)
        self.budget = SearchBudget(steps, deadline_s, time.monotonic)


def refuse_repeated(repeated: dict[Hashable, Hashable], findings: Findings) -> None:
    """Marks keys to which one value was written twice: nobody can tell which write a read saw."""
    for key, value in repeated.items():
        findings.unjudged[key] = f"{said(value)} was written to it twice, so a read does not tell which write it saw"


def present(txns: Sequence[Txn], observed: Collection[int]) -> list[bool]:
    """For each transaction whether it is known to have happened."""
    return [txn.outcome == OK or txn.number in observed for txn in txns]


def judge(checker: str, history: Sequence[Op], graph: Graph, findings: Findings, limits: Limits) -> Verdict:
    """The verdict on a history whose graph is complete."""
    txns = graph.txns
    found = list(findings.anomalies)
    counts = counted(txns, history)
    counts["edges"] = graph.edges()
    reasons: list[str] = []
    if limits.budget.late():
        reasons.append("the time allowed was over before cycles were looked for; raise budget_s")
    else:
        report = find_cycles(graph, limits.budget)
        found += report.anomalies
        counts["in_cycles"] = report.tangled
        counts["steps"] = limits.budget.used
        if report.unfinished:
            reasons.append(f"the search gave up on {report.unfinished} knots of cycles; raise budget_s or budget_steps")
    counts["unjudged_keys"] = len(findings.unjudged)
    if findings.unjudged:
        reasons.append(_unjudged(findings.unjudged))
    if not any(what == READ for txn in txns for what, _, _ in txn.micros):
        reasons.append("no transaction that answered ok has read anything")
    elif not any(what != READ for txn in txns for what, _, _ in txn.micros):
        reasons.append("no transaction has written anything")
    counts.update(_tally(found))
    if any(breaks(anomaly.name, limits.models) for anomaly in found):
        return Verdict(checker, FALSE, _listed(found), counts)
    valid = UNKNOWN if reasons else TRUE
    return Verdict(checker, valid, _listed(found), counts, "; ".join(reasons))


def _unjudged(keys: dict[Hashable, str]) -> str:
    shown = [f"key {said(key)}: {why}" for key, why in list(keys.items())[:_KEYS_LISTED]]
    more = f" and {len(keys) - _KEYS_LISTED} more keys" if len(keys) > _KEYS_LISTED else ""
    return f"{'; '.join(shown)}{more}"


def _tally(found: Iterable[Anomaly]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for anomaly in found:
        counts[anomaly.name] = counts.get(anomaly.name, 0) + 1
    return {name: counts[name] for name in ANOMALIES if name in counts}


def _listed(found: list[Anomaly]) -> list[Anomaly]:
    """Most severe first, and not more than LISTED of a name."""
    rank = {name: at for at, name in enumerate(ANOMALIES)}
    shown: list[Anomaly] = []
    seen: dict[str, int] = {}
    for anomaly in sorted(found, key=lambda anomaly: rank[anomaly.name]):
        seen[anomaly.name] = seen.get(anomaly.name, 0) + 1
        if seen[anomaly.name] <= LISTED:
            shown.append(anomaly)
    return shown
