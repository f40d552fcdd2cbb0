"""What went into a queue comes out once: nothing lost, nothing twice, nothing nobody put there.

An element acknowledged, or shown by a drain, that neither a dequeue nor a later drain shows may have gone to a dequeue
that was never answered; only more such elements than such dequeues are a loss. Rule: an element counts as often as
additions of it may have happened. Stream entries are elements whose addition is answered by an id.

Operations: ``enqueue`` of an element; ``xadd`` of one, answered by its id ``"ms-seq"``; ``dequeue``, answered by an
element or refused with error ``empty``; ``drain``, answered by all elements still there. Options: ``fifo`` true when
elements come out in the order of their addition, ``drain_takes`` true when a drain removes what it shows,
``independent`` as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, answer, calls_by_key, decided, members, of
from jstyle.checkers.verdict import Anomaly, Options, Verdict, flag_option
from jstyle.history.edn import frozen
from jstyle.history.op import Call, HistoryError, Op

LOST: Final = "lost"
DUPLICATED: Final = "duplicated"
UNEXPECTED: Final = "unexpected"
FAILED_VISIBLE: Final = "failed-enqueue-visible"
WRONGLY_EMPTY: Final = "wrongly-empty"
OUT_OF_ORDER: Final = "out-of-order"
IDS: Final = "id-not-increasing"
_EMPTY: Final = "empty"


class Element:
    """Indexes of operations: ``begun`` first addition that may have happened, ``known`` first proof of it."""

    __slots__ = ("acked", "additions", "begun", "failed", "known", "taken")

    def __init__(self) -> None:
        self.acked = False
        self.additions = 0
        self.begun = NEVER
        self.failed = NEVER
        self.known = NEVER
        # (start, end) of the dequeues that were answered by it.
        self.taken: list[tuple[int, int]] = []


class Look:
    """A drain that leaves the queue as it is, or an answer that it is empty."""

    __slots__ = ("end", "listed", "start")

    def __init__(self, start: int, end: int, listed: list[Hashable]) -> None:
        self.start = start
        self.end = end
        self.listed = listed


class Queue:
    """One key's elements in order of first mention, and everything that was seen."""

    __slots__ = ("crashed", "drain_takes", "drains", "elements", "empties", "ids", "key")

    def __init__(self, key: Hashable, calls: Sequence[Call], *, drain_takes: bool) -> None:
        self.key = key
        self.drain_takes = drain_takes
        self.elements: dict[Hashable, Element] = {}
        self.drains: list[Look] = []
        self.empties: list[Look] = []
        # Starts of dequeues that may have taken an element nobody was told of.
        self.crashed: list[int] = []
        # (start, end, id) of answered stream additions.
        self.ids: list[tuple[int, int, tuple[int, int]]] = []
        for call in calls:
            if call.start.f == "dequeue":
                self._dequeue(call)
            elif call.start.f == "drain":
                self._drain(call)
            else:
                self._enqueue(call)

    def _element(self, value: object) -> Element:
        return self.elements.setdefault(frozen(value), Element())

    def _enqueue(self, call: Call) -> None:
        start, done = call.start, answer(call)
        element = self._element(start.value)
        if without_effect(call):
            element.failed = min(element.failed, start.index)
            return
        element.additions += 1
        element.begun = min(element.begun, start.index)
        if done is not None:
            element.acked = True
            element.known = min(element.known, done.index)
            if start.f == "xadd":
                self.ids.append((start.index, done.index, stream_id(done)))

    def _dequeue(self, call: Call) -> None:
        start, done = call.start.index, call.done
        if without_effect(call):
            if done is not None and done.error == _EMPTY:
                self.empties.append(Look(start, done.index, []))
        elif answer(call) is None:
            self.crashed.append(start)
        elif done is not None and done.value is None:
            self.empties.append(Look(start, done.index, []))
        elif done is not None:
            self._element(done.value).taken.append((start, done.index))

    def _drain(self, call: Call) -> None:
        done, takes = answer(call), self.drain_takes
        if done is None:
            if takes and not without_effect(call):
                raise HistoryError(
                    f"operation {call.start.index}: a drain that takes elements was not answered, so anything may be"
                    " gone; judge the history up to there"
                )
            return
        look = Look(call.start.index, done.index, members(done))
        self.drains.append(look)
        for value in look.listed:
            element = self._element(value)
            if takes:
                element.taken.append((look.start, look.end))
            else:
                element.known = min(element.known, look.end)
        if takes:
            look.listed = []

    def gone(self, look: Look) -> list[Hashable]:
        """Elements that were there before the look, are not in it, and that no answered dequeue can have taken."""
        found = []
        listed = set(look.listed)
        for value, element in self.elements.items():
            if element.known >= look.start or value in listed or not element.additions:
                continue
            if not any(start < look.end for start, _ in element.taken):
                found.append(value)
        return found

    def takers(self, look: Look) -> int:
        """How many unanswered dequeues can have taken an element before the look ended."""
        return sum(start < look.end for start in self.crashed)


def stream_id(op: Op) -> tuple[int, int]:
    """The id an ``xadd`` was answered. Raises HistoryError."""
    first, dash, second = str(op.value).partition("-")
    if not dash or not first.isdecimal() or not second.isdecimal():
        raise HistoryError(f"operation {op.index}: xadd must answer an id such as 1700000000000-0, not {op.value!r}")
    return int(first), int(second)


def losses(queue: Queue) -> list[Anomaly]:
    """What the first drain that misses too much misses."""
    drains = sorted(queue.drains, key=lambda look: look.end)
    # Drains that take may share the rest among them, so only the last one ends the account.
    for drain in drains[-1:] if queue.drain_takes else drains:
        gone, takers = queue.gone(drain), queue.takers(drain)
        if len(gone) > takers:
            ops = [*sorted(queue.elements[value].known for value in gone)[:20], drain.start, drain.end]
            listed = ", ".join(map(repr, gone[:10])) + (", ..." if len(gone) > 10 else "")
            text = (
                f"{len(gone)} acknowledged or seen{of(queue.key)} ({listed}) are neither dequeued nor in the drain at"
                f" {drain.end}, and only {takers} unanswered dequeues can have taken one"
            )
            return [Anomaly(LOST, text, ops, queue.key, {"elements": gone, "takers": takers})]
    return []


def duplicates(queue: Queue) -> list[Anomaly]:
    """Elements that came out more often than they went in, or were still there afterwards."""
    found = []
    for value, element in queue.elements.items():
        if not element.additions:
            continue
        ends = sorted(end for _, end in element.taken)
        if len(ends) > element.additions:
            text = f"{value!r}{of(queue.key)} was added {_times(element.additions)} and dequeued {_times(len(ends))}"
            found.append(Anomaly(DUPLICATED, text, [element.begun, *ends], queue.key))
            continue
        for drain in queue.drains:
            before = [end for end in ends if end < drain.start]
            if len(before) + drain.listed.count(value) > element.additions and value in drain.listed:
                times = _times(drain.listed.count(value))
                text = (
                    f"{value!r}{of(queue.key)} was added {_times(element.additions)} and is {times} in the drain at"
                    f" {drain.end}, having been dequeued {_times(len(before))}"
                )
                found.append(Anomaly(DUPLICATED, text, [element.begun, *before, drain.start, drain.end], queue.key))
                break
    return found


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def unexpected(queue: Queue) -> list[Anomaly]:
    """Elements seen that nobody can have added by then."""
    first_seen: dict[Hashable, int] = {}
    for value, element in queue.elements.items():
        for _, end in element.taken:
            first_seen[value] = min(first_seen.get(value, NEVER), end)
    for drain in queue.drains:
        for value in drain.listed:
            first_seen[value] = min(first_seen.get(value, NEVER), drain.end)
    found = []
    for value, at in first_seen.items():
        element = queue.elements[value]
        if element.begun < at:
            continue
        seen = f"{value!r}{of(queue.key)} was seen at {at}"
        if element.begun == NEVER and element.failed < at:
            text = f"{seen}, but its addition at {element.failed} failed"
            found.append(Anomaly(FAILED_VISIBLE, text, [element.failed, at], queue.key))
        elif element.begun == NEVER and element.failed == NEVER:
            found.append(Anomaly(UNEXPECTED, f"{seen}, but nobody added it", [at], queue.key))
        else:
            begun = min(element.begun, element.failed)
            text = f"{seen}, but it was added only at {begun}"
            found.append(Anomaly(UNEXPECTED, text, [at, begun], queue.key))
    return found


def wrongly_empty(queue: Queue) -> list[Anomaly]:
    """Answers that the queue is empty while more was in it than can have been taken."""
    found = []
    for look in queue.empties:
        there, takers = queue.gone(look), queue.takers(look)
        if len(there) > takers:
            known = queue.elements[there[0]].known
            text = (
                f"the dequeue{of(queue.key)} at {look.end} was told there is nothing, but {there[0]!r} had been added"
                f" by {known} and nobody had taken it"
            )
            found.append(Anomaly(WRONGLY_EMPTY, text, [known, look.start, look.end], queue.key))
    return found


def out_of_order(queue: Queue) -> list[Anomaly]:
    """Elements taken after one that was added later: its addition began when theirs was known, and so its taking."""
    once = [
        (element.begun, element.known, *element.taken[0], value)
        for value, element in queue.elements.items()
        if element.additions == 1 and len(element.taken) == 1
    ]
    by_begun = sorted(once, key=lambda entry: entry[0], reverse=True)
    found = []
    at = 0
    earliest: tuple[int, int, int, int, Hashable] | None = None
    for entry in sorted(once, key=lambda entry: entry[1], reverse=True):
        _, known, taken_start, taken_end, value = entry
        while at < len(by_begun) and by_begun[at][0] > known:
            if earliest is None or by_begun[at][3] < earliest[3]:
                earliest = by_begun[at]
            at += 1
        if earliest is not None and earliest[3] < taken_start:
            text = (
                f"{value!r}{of(queue.key)}, added by {known}, was dequeued at {taken_end}, after {earliest[4]!r}, which"
                f" was added only from {earliest[0]} and dequeued by {earliest[3]}"
            )
            found.append(Anomaly(OUT_OF_ORDER, text, sorted([known, earliest[0], earliest[3], taken_end]), queue.key))
    return found


def falling_ids(queue: Queue) -> list[Anomaly]:
    """Ids given twice, and ids not above one that had been given before the addition began."""
    found = []
    for one, times in Counter(entry[2] for entry in queue.ids).items():
        if times > 1:
            ends = [end for _, end, given in queue.ids if given == one]
            text = f"the id {one[0]}-{one[1]}{of(queue.key)} was given {_times(times)}"
            found.append(Anomaly(IDS, text, ends, queue.key))
    by_end = sorted(queue.ids, key=lambda entry: entry[1])
    at = 0
    highest: tuple[int, int, tuple[int, int]] | None = None
    for start, end, given in sorted(queue.ids):
        while at < len(by_end) and by_end[at][1] < start:
            if highest is None or by_end[at][2] > highest[2]:
                highest = by_end[at]
            at += 1
        if highest is not None and given < highest[2]:
            text = (
                f"the addition{of(queue.key)} at {end} got the id {given[0]}-{given[1]}, though"
                f" {highest[2][0]}-{highest[2][1]} had been given by {highest[1]}"
            )
            found.append(Anomaly(IDS, text, [highest[1], start, end], queue.key))
    return found


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text."""
    drain_takes = flag_option(options, "drain_takes") is True
    fifo = flag_option(options, "fifo") is True
    anomalies: list[Anomaly] = []
    names = ("keys", "additions", "acknowledged", "dequeued", "crashed_dequeues", "empty", "drains", "drained", "ids")
    counts = dict.fromkeys(names, 0)
    for key, calls in calls_by_key(history, options, ("enqueue", "xadd", "dequeue", "drain")).items():
        queue = Queue(key, calls, drain_takes=drain_takes)
        counts["keys"] += 1
        counts["additions"] += sum(element.additions for element in queue.elements.values())
        counts["acknowledged"] += sum(element.acked for element in queue.elements.values())
        counts["dequeued"] += sum(len(element.taken) for element in queue.elements.values())
        counts["crashed_dequeues"] += len(queue.crashed)
        counts["empty"] += len(queue.empties)
        counts["drains"] += len(queue.drains)
        counts["drained"] += sum(len(drain.listed) for drain in queue.drains)
        counts["ids"] += len(queue.ids)
        anomalies += losses(queue)
        anomalies += duplicates(queue)
        anomalies += unexpected(queue)
        anomalies += wrongly_empty(queue)
        anomalies += falling_ids(queue)
        if fifo:
            anomalies += out_of_order(queue)
    # An empty drain or answer tells something only after an addition that must have been in it.
    looks = counts["acknowledged"] and counts["drains"] + counts["empty"]
    telling = counts["dequeued"] + counts["drained"] + looks + max(0, counts["ids"] - 1)
    return decided("queue", anomalies, counts, telling, lambda: "nothing was dequeued or drained after an addition")
