"""A set that only grows: every acknowledged element must be in every read that began later.

An element is *known* from the first acknowledgement of an addition of it or, if earlier, the first answered read that
showed it; from then on each read that begins must show it. Rule: nothing is said about an addition whose outcome is
unknown until a read shows it. An element known only after the last read began is counted as ``never_read``.

Operations: ``add`` of an element; ``read``, answered by all elements. Options: ``linearizable`` false counts stale
reads without holding them against the system, ``independent`` as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, NS_PER_MS, answer, calls_by_key, decided, members, of
from jstyle.checkers.verdict import Anomaly, Options, Verdict, flag_option
from jstyle.history.edn import frozen
from jstyle.history.op import Call, Op

LOST: Final = "lost"
STALE: Final = "stale"
DUPLICATED: Final = "duplicated"
PHANTOM: Final = "phantom"
FAILED_VISIBLE: Final = "failed-add-visible"


class Read:
    """An answered read; ``start`` and ``end`` are operations."""

    __slots__ = ("elements", "end", "listed", "start")

    def __init__(self, start: Op, end: Op) -> None:
        self.start = start
        self.end = end
        self.listed = members(end)
        self.elements = frozenset(self.listed)


class Element:
    """``begun``: first addition that may have happened; ``known``: the operation that proved it was there."""

    __slots__ = ("acked", "begun", "failed", "known", "value")

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self.begun = NEVER
        self.failed = NEVER
        self.acked = False
        self.known: Op | None = None


class Grown:
    """One key's elements and reads, reads in order of their beginning."""

    __slots__ = ("elements", "key", "reads")

    def __init__(self, key: Hashable, calls: Sequence[Call]) -> None:
        self.key = key
        self.reads: list[Read] = []
        self.elements: dict[Hashable, Element] = {}
        for call in calls:
            done = answer(call)
            if call.start.f == "add":
                self._added(call, done)
            elif done is not None:
                self.reads.append(Read(call.start, done))
        for read in self.reads:
            for value in read.elements:
                element = self.elements.get(value)
                if element is not None:
                    _prove(element, read.end)

    def _added(self, call: Call, done: Op | None) -> None:
        value = frozen(call.start.value)
        element = self.elements.setdefault(value, Element(value))
        if without_effect(call):
            element.failed = min(element.failed, call.start.index)
            return
        element.begun = min(element.begun, call.start.index)
        if done is not None:
            element.acked = True
            _prove(element, done)


def _prove(element: Element, op: Op) -> None:
    if element.known is None or op.index < element.known.index:
        element.known = op


def repeated(listed: Sequence[Hashable]) -> list[Hashable]:
    """What occurs more than once."""
    return [value for value, times in Counter(listed).items() if times > 1]


def duplicates(grown: Grown) -> list[Anomaly]:
    """Elements that one answer lists twice."""
    return [
        Anomaly(
            DUPLICATED,
            f"the read{of(grown.key)} at {read.end.index} lists {value!r} {read.listed.count(value)} times",
            [read.start.index, read.end.index],
            grown.key,
        )
        for read in grown.reads
        for value in repeated(read.listed)
    ]


def phantoms(grown: Grown) -> list[Anomaly]:
    """The first read of each element that nobody can have added by then."""
    found: dict[Hashable, Anomaly] = {}
    for read in sorted(grown.reads, key=lambda read: read.end.index):
        at, seen = read.end.index, f"the read{of(grown.key)} at {read.end.index} shows"
        for value in read.listed:
            element = grown.elements.get(value)
            if value in found or (element is not None and element.begun < at):
                continue
            if element is None:
                found[value] = Anomaly(PHANTOM, f"{seen} {value!r}, which nobody added", [at], grown.key)
            elif element.begun == NEVER and element.failed < at:
                text = f"{seen} {value!r}, whose addition at {element.failed} failed"
                found[value] = Anomaly(FAILED_VISIBLE, text, [element.failed, at], grown.key)
            else:
                begun = min(element.begun, element.failed)
                text = f"{seen} {value!r}, which was added only at {begun}"
                found[value] = Anomaly(PHANTOM, text, [at, begun], grown.key)
    return list(found.values())


class Fate:
    """What became of a known element: reads that missed it since, and whether the last word is that it is there."""

    __slots__ = ("element", "judged", "missed", "present")

    def __init__(self, grown: Grown, element: Element, known: Op) -> None:
        self.element = element
        self.judged = 0
        self.missed: list[Read] = []
        self.present: Read | None = None
        for read in grown.reads:
            there = element.value in read.elements
            if there:
                self.present = read
            if read.start.index > known.index:
                self.judged += 1
                if not there:
                    self.missed.append(read)

    @property
    def lost(self) -> bool:
        """Whether no read that began after the last one to miss it shows it."""
        if not self.missed:
            return False
        return self.present is None or self.present.start.index < self.missed[-1].start.index

    def stable_ms(self, known: Op) -> int:
        """How long after it was known a read could still miss it; 0 when none did or times were not recorded."""
        if not self.missed or known.time < 0:
            return 0
        return max(0, (self.missed[-1].end.time - known.time) // NS_PER_MS)


def missing(key: Hashable, fate: Fate, known: Op) -> Anomaly:
    """The anomaly of an element that reads missed."""
    value, first = fate.element.value, fate.missed[0]
    proof = "acknowledged" if known.f == "add" else "seen"
    text = f"{value!r}{of(key)} was {proof} at {known.index}, but the read begun at {first.start.index} misses it"
    ops = [known.index, first.start.index, first.end.index]
    if fate.lost:
        return Anomaly(LOST, f"{text} and no later one shows it", ops, key, {"missed": len(fate.missed)})
    assert fate.present is not None
    ops.append(fate.present.end.index)
    return Anomaly(
        STALE, f"{text} although a later one, at {fate.present.end.index}, shows it", ops, key,
        {"missed": len(fate.missed)},
    )  # fmt: skip


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text. ``stable_ms_max`` in the counts is milliseconds."""
    strict = flag_option(options, "linearizable") is not False
    anomalies: list[Anomaly] = []
    counts = dict.fromkeys(
        ("keys", "adds", "acknowledged", "reads", "judged", "stable", "stale", "lost", "never_read", "stable_ms_max"), 0
    )
    telling = 0
    for key, calls in calls_by_key(history, options, ("add", "read")).items():
        grown = Grown(key, calls)
        counts["keys"] += 1
        counts["reads"] += len(grown.reads)
        counts["adds"] += len(grown.elements)
        anomalies += duplicates(grown)
        anomalies += phantoms(grown)
        for element in grown.elements.values():
            counts["acknowledged"] += element.acked
            if element.known is None or element.begun == NEVER:
                continue
            fate = Fate(grown, element, element.known)
            telling += fate.judged > 0
            counts["judged"] += fate.judged
            if not fate.judged:
                counts["never_read"] += 1
            elif not fate.missed:
                counts["stable"] += 1
            elif fate.lost or strict:
                anomalies.append(missing(key, fate, element.known))
            if fate.missed:
                counts["lost" if fate.lost else "stale"] += 1
                counts["stable_ms_max"] = max(counts["stable_ms_max"], fate.stable_ms(element.known))
    return decided("set-full", anomalies, counts, telling, lambda: _why(counts))


def _why(counts: dict[str, int]) -> str:
    if not counts["reads"]:
        return "no read was answered: end the run with one"
    if not counts["never_read"]:
        return "no addition was acknowledged or seen"
    return f"none of {counts['never_read']} elements was known before a read began: end the run with a read"
