"""Observers of one stream or channel: all see the same order, without a gap, a repeat or a step back.

What one observer sees is everything its ``observe`` operations were answered, one after the other, also across a
reconnect. It begins at the first thing it sees, so nothing before that is missing. Rule: order is known in two ways
only: an element published after another was acknowledged is later, and what an observer saw later is later.

Operations: ``publish`` of an element, unique in its stream; ``observe``, answered by the list of elements that came
since, or by ``{"observer": name, "seen": [..]}`` where observers outlive processes. Options: ``gaps`` true where
deliveries may be missed, as in a channel; ``independent`` as everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, answer, calls_by_key, decided, of
from jstyle.checkers.verdict import Anomaly, Options, Verdict, flag_option
from jstyle.history.edn import frozen
from jstyle.history.op import Call, HistoryError, Op

DISAGREEMENT: Final = "order-disagreement"
GAP: Final = "gap"
REPEAT: Final = "repeat"
STEP_BACK: Final = "step-back"
PHANTOM: Final = "phantom"
FAILED_VISIBLE: Final = "failed-publish-visible"


class Published:
    """Indexes: first publication that may have happened, its acknowledgement, first that failed."""

    __slots__ = ("begun", "end", "failed")

    def __init__(self) -> None:
        self.begun = NEVER
        self.end = NEVER
        self.failed = NEVER


class Observer:
    """What one observer saw. ``order`` and ``at`` have each element where it came first, ``at`` its operation."""

    __slots__ = ("at", "name", "order", "place", "repeats")

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.order: list[Hashable] = []
        self.at: dict[Hashable, int] = {}
        self.place: dict[Hashable, int] = {}
        self.repeats: list[tuple[Hashable, int]] = []

    def see(self, element: Hashable, index: int) -> None:
        """Take in the next element."""
        if element in self.at:
            self.repeats.append((element, index))
            return
        self.place[element] = len(self.order)
        self.order.append(element)
        self.at[element] = index


class Stream:
    """One key's publications and observers."""

    __slots__ = ("key", "observers", "published")

    def __init__(self, key: Hashable, calls: Sequence[Call]) -> None:
        self.key = key
        self.published: dict[Hashable, Published] = {}
        found: dict[Hashable, Observer] = {}
        looks: list[Op] = []
        for call in calls:
            done = answer(call)
            if call.start.f == "publish":
                self._publish(call, done)
            elif done is not None:
                looks.append(done)
        for done in sorted(looks, key=lambda op: op.index):
            name, seen = _seen(done)
            observer = found.setdefault(name, Observer(name))
            for element in seen:
                observer.see(element, done.index)
        self.observers = [observer for observer in found.values() if observer.order]

    def _publish(self, call: Call, done: Op | None) -> None:
        one = self.published.setdefault(frozen(call.start.value), Published())
        if without_effect(call):
            one.failed = min(one.failed, call.start.index)
            return
        one.begun = min(one.begun, call.start.index)
        if done is not None:
            one.end = min(one.end, done.index)


def _seen(op: Op) -> tuple[Hashable, list[Hashable]]:
    value = op.value
    name: object = op.process
    if isinstance(value, dict):
        name, value = value.get("observer"), value.get("seen")
    if not isinstance(value, list | tuple):
        raise HistoryError(f"operation {op.index}: observe must answer a list of elements, not {op.value!r}")
    return frozen(name), [frozen(element) for element in value]


def repeats(stream: Stream) -> list[Anomaly]:
    """Elements an observer saw again."""
    return [
        Anomaly(
            REPEAT,
            f"observer {observer.name!r}{of(stream.key)} saw {element!r} at {observer.at[element]} and {index}",
            sorted({observer.at[element], index}),
            stream.key,
        )
        for observer in stream.observers
        for element, index in observer.repeats
    ]


def phantoms(stream: Stream) -> list[Anomaly]:
    """Elements seen that nobody can have published by then; only where publications are recorded."""
    if not stream.published:
        return []
    first: dict[Hashable, int] = {}
    for observer in stream.observers:
        for element, index in observer.at.items():
            first[element] = min(first.get(element, NEVER), index)
    found = []
    for element, index in first.items():
        one = stream.published.get(element)
        if one is not None and one.begun < index:
            continue
        seen = f"{element!r}{of(stream.key)} was seen at {index}"
        if one is None:
            found.append(Anomaly(PHANTOM, f"{seen}, but nobody published it", [index], stream.key))
        elif one.begun == NEVER and one.failed < index:
            text = f"{seen}, but its publication at {one.failed} failed"
            found.append(Anomaly(FAILED_VISIBLE, text, [one.failed, index], stream.key))
        else:
            begun = min(one.begun, one.failed)
            found.append(Anomaly(PHANTOM, f"{seen}, but it was published only at {begun}", [index, begun], stream.key))
    return found


def step_back(stream: Stream, observer: Observer) -> Anomaly | None:
    """The first element an observer saw after one that was published only when it had been acknowledged."""
    latest: Hashable = None
    begun = -1
    for element in observer.order:
        one = stream.published.get(element)
        if one is None or one.begun == NEVER:
            continue
        if one.end < begun:
            text = (
                f"observer {observer.name!r}{of(stream.key)} saw {element!r} after {latest!r}, though it was"
                f" acknowledged at {one.end} and {latest!r} published only from {begun}"
            )
            ops = sorted({one.end, begun, observer.at[latest], observer.at[element]})
            return Anomaly(STEP_BACK, text, ops, stream.key)
        if one.begun > begun:
            latest, begun = element, one.begun
    return None


def disagreement(stream: Stream, one: Observer, other: Observer) -> Anomaly | None:
    """The first two elements that two observers saw in different orders."""
    before: Hashable = None
    reached = -1
    for element in other.order:
        place = one.place.get(element)
        if place is None:
            continue
        if place < reached:
            text = (
                f"observer {one.name!r}{of(stream.key)} saw {element!r} before {before!r}, observer {other.name!r}"
                f" {before!r} before {element!r}"
            )
            ops = sorted({one.at[element], one.at[before], other.at[element], other.at[before]})
            return Anomaly(DISAGREEMENT, text, ops, stream.key)
        before, reached = element, place
    return None


def gaps(stream: Stream, observer: Observer, trusted: Sequence[Observer]) -> list[Anomaly]:
    """Elements an observer never saw although it saw earlier and later ones, by time or by what a trusted one saw."""
    first_end, last_begun = NEVER, -1
    for element in observer.order:
        one = stream.published.get(element)
        if one is not None and one.begun < NEVER:
            first_end, last_begun = min(first_end, one.end), max(last_begun, one.begun)
    around: dict[Hashable, list[int]] = {}
    for element, one in stream.published.items():
        if element not in observer.at and first_end < one.begun and one.end < last_begun:
            around[element] = [first_end, one.begun, one.end, last_begun]
    for other in trusted:
        common = [element for element in other.order if element in observer.at]
        if not common:
            continue
        for element in other.order[other.place[common[0]] : other.place[common[-1]]]:
            if element not in observer.at:
                around.setdefault(element, [other.at[element]])
    return [
        Anomaly(
            GAP,
            f"observer {observer.name!r}{of(stream.key)} saw what came before {element!r} and what came after, not it",
            sorted({*ops, observer.at[observer.order[0]], observer.at[observer.order[-1]]}),
            stream.key,
        )
        for element, ops in around.items()
    ]


def compared(stream: Stream) -> tuple[list[Anomaly], int, list[Observer]]:
    """Order anomalies, how many pairs of observers were held against each other, and observers nobody contradicts.

    An observer that stepped back disagrees with everybody else; that is said once.
    """
    found = []
    straight = []
    for observer in stream.observers:
        back = step_back(stream, observer)
        if back is not None:
            found.append(back)
        else:
            straight.append(observer)
    pairs = 0
    contradicted: list[Observer] = []
    for at, one in enumerate(straight):
        for other in straight[at + 1 :]:
            pairs += 1
            apart = disagreement(stream, one, other)
            if apart is not None:
                found.append(apart)
                contradicted += [one, other]
    return found, pairs, [observer for observer in straight if observer not in contradicted]


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text."""
    complete = flag_option(options, "gaps") is not True
    anomalies: list[Anomaly] = []
    counts = dict.fromkeys(("keys", "published", "observers", "seen", "pairs", "gaps"), 0)
    telling = 0
    for key, calls in calls_by_key(history, options, ("publish", "observe")).items():
        stream = Stream(key, calls)
        counts["keys"] += 1
        counts["published"] += len(stream.published)
        counts["observers"] += len(stream.observers)
        counts["seen"] += sum(len(observer.order) for observer in stream.observers)
        telling += sum(len(observer.order) > 1 or bool(observer.repeats) for observer in stream.observers)
        anomalies += repeats(stream)
        anomalies += phantoms(stream)
        out_of_order, pairs, trusted = compared(stream)
        anomalies += out_of_order
        counts["pairs"] += pairs
        for observer in stream.observers:
            missed = gaps(stream, observer, trusted)
            counts["gaps"] += len(missed)
            anomalies += missed if complete else []
    return decided("order", anomalies, counts, telling, lambda: "no observer saw two elements, so none could be amiss")
