"""Linearizability of a history under a sequential model, key by key.

Rule: ``false`` as soon as one key has no linearization; ``unknown`` when a key went over its budget or nothing in the
history could have shown a fault; else ``true``. Small keys are searched first, so a spent budget costs the fewest.

Options: ``budget_s`` seconds for the whole history, ``budget_steps`` and ``budget_configs`` for each key, ``jobs``
processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

from jstyle.checkers.linear_machine import Machine
from jstyle.checkers.linear_search import Budget, Finding, decide
from jstyle.checkers.linear_words import describe
from jstyle.checkers.models import Counter, Model, Register
from jstyle.checkers.models_command import Commands
from jstyle.checkers.partition import Partition, partitions
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Options, Verdict, flag_option, number_option, worst
from jstyle.history.keys import lift
from jstyle.history.op import Op

BUDGET_S: Final = 60.0
BUDGET_STEPS: Final = 5_000_000
BUDGET_CONFIGS: Final = 500_000
# Below so many calls a second process costs more than it saves.
_PARALLEL_FROM: Final = 5_000
_LISTED: Final = 10


def check(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability of a register per key, see ``models.Register``."""
    return check_model(history, options, Register())


def check_model(history: Sequence[Op], options: Options, model: Model) -> Verdict:
    """Linearizability under any model. Raises HistoryError for what the model cannot read."""
    parts = partitions(lift(history, independent=_paired(options, model)), model)
    budget = Budget(
        int(number_option(options, "budget_steps", BUDGET_STEPS)),
        int(number_option(options, "budget_configs", BUDGET_CONFIGS)),
        time.monotonic() + number_option(options, "budget_s", BUDGET_S),
        time.monotonic,
    )
    jobs = int(number_option(options, "jobs", 1))
    calls = sum(len(part.steps) for part in parts)
    if jobs > 1 and len(parts) > 1 and calls >= _PARALLEL_FROM:
        found = _search_in_processes(parts, budget, jobs)
    else:
        found = search_all(parts, budget)
    return _verdict(parts, found)


def _paired(options: Options, model: Model) -> bool | None:
    """Whether values are [key value] pairs; two arguments of a command look just like one, so there it must be said."""
    said = flag_option(options, "independent")
    return False if said is None and isinstance(model, Commands) else said


def search_all(parts: Sequence[Partition], budget: Budget) -> list[Finding]:
    """A finding for each partition, smallest partitions searched first."""
    machines: dict[int, Machine] = {}
    found: dict[int, Finding] = {}
    for at in sorted(range(len(parts)), key=lambda at: len(parts[at].steps)):
        part = parts[at]
        if budget.clock() > budget.deadline_s:
            found[at] = Finding(None, 0, 0, 0)
            found[at].why = "the time allowed, before it was begun"
            continue
        machine = machines.get(id(part.model))
        if machine is None:
            machine = machines[id(part.model)] = Machine(part.model)
        found[at] = decide(part, machine, budget)
    return [found[at] for at in range(len(parts))]


def _search_in_processes(parts: Sequence[Partition], budget: Budget, jobs: int) -> list[Finding]:
    """As ``search_all`` over processes that inherit the partitions and send their findings back."""
    context = get_context("fork")
    shares = [list(range(first, len(parts), jobs)) for first in range(min(jobs, len(parts)))]
    running = []
    for share in shares[1:]:
        receiver, sender = context.Pipe(duplex=False)
        mine = [parts[at] for at in share]
        process = context.Process(target=_send_findings, args=(mine, budget, sender), daemon=True)
        process.start()
        sender.close()
        running.append((share, receiver, process))
    found: dict[int, Finding] = dict(zip(shares[0], search_all([parts[at] for at in shares[0]], budget), strict=True))
    for share, receiver, process in running:
        try:
            answer = receiver.recv()
        except EOFError as error:
            process.join()
            raise RuntimeError(f"a checking process ended with {process.exitcode}: run again with one job") from error
        process.join()
        found.update(zip(share, answer, strict=True))
    return [found[at] for at in range(len(parts))]


def _send_findings(parts: list[Partition], budget: Budget, sender: Connection) -> None:
    sender.send(search_all(parts, budget))
    sender.close()


def word(finding: Finding) -> str:
    """The verdict on one partition."""
    if finding.linearizable is None:
        return UNKNOWN
    return TRUE if finding.linearizable else FALSE


def shown_by(parts: Sequence[Partition]) -> int:
    """How many completed calls could have shown a fault."""
    count = 0
    for part in parts:
        shows = part.model.shows
        count += sum(1 for step, end in zip(part.steps, part.ends, strict=True) if end >= 0 and shows(step))
    return count


def _verdict(parts: Sequence[Partition], found: Sequence[Finding]) -> Verdict:
    seen = shown_by(parts)
    counts = {
        "calls": sum(len(part.steps) for part in parts),
        "crashed": sum(1 for part in parts for end in part.ends if end < 0),
        "telling": seen,
        "partitions": len(parts),
        "unknown": sum(1 for finding in found if finding.linearizable is None),
        "steps": sum(finding.steps for finding in found),
        "configs_peak": max([finding.configs_peak for finding in found], default=0),
    }
    anomalies = [
        describe(part, finding) for part, finding in zip(parts, found, strict=True) if finding.linearizable is False
    ]
    valid = worst(map(word, found))
    why = ""
    if valid == TRUE and seen == 0:
        valid = UNKNOWN
    if seen == 0:
        why = "no completed call could have shown a fault: the history has no answered reads"
    gave_up = [(part, finding) for part, finding in zip(parts, found, strict=True) if finding.linearizable is None]
    if gave_up:
        listed = [
            f"key {part.label()!r} operations {part.starts[0]}..{max(part.starts[-1], *part.ends)}"
            f" at {part.ends[finding.at]} ({finding.why})"
            for part, finding in gave_up[:_LISTED]
        ]
        more = f" and {len(gave_up) - _LISTED} more" if len(gave_up) > _LISTED else ""
        why = f"gave up on {len(gave_up)} of {len(parts)}: {'; '.join(listed)}{more}"
    return Verdict("linear", valid, anomalies, counts, why)


def check_commands(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability of string commands per key, see ``models_command.Commands``."""
    return check_model(history, options, Commands())


def check_counter(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability of a counter per key, see ``models.Counter``."""
    return check_model(history, options, Counter())
