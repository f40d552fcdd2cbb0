"""All crash states of one scripted run, judged.

Rule: the only place that decides how many states are looked at, and the only one that makes the line which repeats a
failure. Systematic states come first at every position; random subsets share what the cap leaves, one round at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import process_time
from typing import Final

from jstyle.crash.judge import Finding, Recoveries
from jstyle.crash.ledger import Promises
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, Script
from jstyle.crash.states import RANDOM_SUBSETS, Medium, build, fingerprint, variants
from jstyle.crash.trace import DATA_OPS, MARK, NAME_OPS, Trace

STATES_MAX: Final = 20_000
# More failures of one check than this are one bug seen often.
FAILURES_MAX: Final = 20


class Failure:
    """A broken promise and how to see it again. ``word`` names the state at ``position`` of ``trace``."""

    __slots__ = ("check", "position", "text", "trace", "word")

    def __init__(self, trace: str, position: int, word: str, check: str, text: str) -> None:
        self.trace = trace
        self.position = position
        self.word = word
        self.check = check
        self.text = text

    def repeat(self) -> str:
        """The command that shows this failure alone."""
        return f"jstyle crash --trace {self.trace} --position {self.position} --variant {self.word}"


class Tally:
    """What was looked at in one trace, and what was wrong with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events = 0
        self.tried = 0
        self.states = 0
        self.nested = 0
        self.faults = 0
        self.damaged = 0
        self.unprovable = 0
        self.capped = False
        self.cpu_s = 0.0
        self.failures: list[Failure] = []
        self.failure_count = 0
        self.by_check: dict[str, int] = {}

    def add(self, position: int, word: str, findings: list[Finding]) -> None:
        """Take in what a state was found guilty of."""
        for finding in findings:
            self.failure_count += 1
            seen = self.by_check[finding.check] = self.by_check.get(finding.check, 0) + 1
            if seen <= FAILURES_MAX:
                self.failures.append(
                    Failure(self.name, position, f"{word}{finding.suffix}", finding.check, finding.text)
                )

    def checks(self) -> list[str]:
        """The names of the checks that failed."""
        return sorted(self.by_check)


class Run:
    """A script played once on a recording disk."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.origin = script.origin()
        disk = RecordingDisk(self.origin.image)
        self.life = script.run(disk)
        self.trace: Trace = disk.trace
        assert self.life.errors == 0, f"{script.name}: a run without faults was answered with errors"

    def positions(self) -> Iterator[tuple[int, Medium, Promises]]:
        """Medium and promises after each event; they move on with the iteration."""
        medium = Medium(self.trace.start)
        promises = Promises(self.life.ledger, acked=self.origin.acked)
        yield 0, medium, promises
        for position, event in enumerate(self.trace.events, 1):
            medium.feed(event)
            promises.feed(event)
            yield position, medium, promises

    def changes(self) -> int:
        """Calls that change the disk."""
        return sum(event.kind in DATA_OPS or event.kind in NAME_OPS for event in self.trace.events)


def play(script: Script, tally: Tally) -> Run | None:
    """Play a script; a run that breaks although the disk does all it is told is a finding, and None is returned."""
    try:
        return Run(script)
    except Exception as error:  # noqa: BLE001 - whatever breaks the storage on a healthy disk is a bug in it
        tally.add(0, "run", [Finding("P9", f"the run itself broke: {type(error).__name__}: {error}")])
        return None


def enumerate_states(
    script: Script,
    *,
    states_max: int = STATES_MAX,
    subsets: int = RANDOM_SUBSETS,
    stop_early: Callable[[Tally], bool] | None = None,
) -> Tally:
    """Judge every crash state of a script, up to ``states_max`` distinct ones; ``stop_early`` may end it sooner."""
    begin_s = process_time()
    tally = Tally(script.name)
    run = play(script, tally)
    if run is None:
        return tally
    tally.events = sum(event.kind != MARK for event in run.trace.events)
    recoveries = Recoveries(DIRECTORY, script.settings, nested_max=states_max)
    seen: set[tuple[bytes, tuple[int, int, int, int]]] = set()
    disks: set[bytes] = set()

    def examine(position: int, medium: Medium, promises: Promises, word: str) -> None:
        image = build(medium, word, f"{script.name}/{position}")
        tally.tried += 1
        content = fingerprint(image)
        key = (content, promises.key())
        if key in seen:
            return
        seen.add(key)
        disks.add(content)
        recovery = recoveries.of(image)
        tally.add(position, word, recovery.broken(promises))

    for wanted in range(subsets + 1):
        for position, medium, promises in run.positions():
            if wanted == 0:
                words = list(variants(medium, 0))
            else:
                words = [f"i:{wanted - 1}"] if medium.pending else []
            for word in words:
                examine(position, medium, promises, word)
            if len(disks) >= states_max or (stop_early is not None and stop_early(tally)):
                tally.capped = len(disks) >= states_max
                break
        else:
            continue
        break
    tally.states = len(disks)
    tally.nested = recoveries.nested_states
    tally.cpu_s = process_time() - begin_s
    return tally


def show_one(script: Script, position: int, word: str) -> tuple[Tally, list[str]]:
    """Judge one state by the word a failure was reported with; also tells what was pending there.

    Raises ValueError when the trace has no such state.
    """
    tally = Tally(script.name)
    run = Run(script)
    outer, _, inner = word.partition("/")
    for at, medium, promises in run.positions():
        if at != position:
            continue
        image = build(medium, outer, f"{script.name}/{position}")
        recovery = Recoveries(DIRECTORY, script.settings).of(image)
        suffix = f"/{inner}" if inner else ""
        findings = [finding for finding in recovery.broken(promises) if finding.suffix == suffix]
        tally.states = 1
        tally.add(position, outer, findings)
        story = [f"last event: {run.trace.events[position - 1]!r}" if position else "before the first event"]
        story += [f"pending {number}: {event!r}" for number, event in enumerate(medium.pending)]
        story += [f"on disk: {path} {len(content)} bytes" for path, content in sorted(image.files.items())]
        status = [f"recovery{suffix}: {outcome.status}, {len(outcome.held)} entries, ballot {outcome.ballot} "
                  f"{outcome.text}" for suffix, outcome in recovery.outcomes]  # fmt: skip
        return tally, [*story, *status]
    raise ValueError(f"trace {script.name} has {len(run.trace.events)} events, no position {position}")
