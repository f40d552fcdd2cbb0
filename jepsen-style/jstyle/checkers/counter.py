"""A counter that is only added to: reads within what the additions allow, replies that only rise, one effect a request.

A read may show the additions acknowledged before it began, and any of those begun before it ended. Where all additions
are positive, each reply ``v`` to an addition of ``d`` claims the step from ``v - d`` to ``v`` for itself, and nothing
that begins later may be lower. Calls with the same ``req`` are one request: one effect, equal replies. Rule: refused
calls had no effect, unanswered ones may have theirs at any later time.

Operations: ``add`` of an amount; ``incr`` of an amount, answered by the new value; ``read``, answered by the value.
Options: ``initial`` (0), ``independent`` as everywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Final

from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, answer, calls_by_key, decided, of, whole
from jstyle.checkers.verdict import Anomaly, Options, Verdict, number_option
from jstyle.history.op import Call, Op

TOO_LOW: Final = "too-low"
TOO_HIGH: Final = "too-high"
TWICE: Final = "applied-twice"
UNEQUAL: Final = "unequal-replies"
STEP_BACK: Final = "step-back"
REPEATED: Final = "repeated-reply"


class Request:
    """An addition, in as many submissions as it took. ``end`` is NEVER while no submission succeeded."""

    __slots__ = ("amount", "end", "replies", "start", "submissions")

    def __init__(self, amount: int, start: int) -> None:
        self.amount = amount
        self.start = start
        self.end = NEVER
        self.submissions = 0
        # Answers of ``incr`` in order of submission.
        self.replies: list[Op] = []

    def value(self) -> int | None:
        """The new value it was answered; None when nobody was told."""
        return whole(self.replies[0], self.replies[0].value) if self.replies else None


class Seen:
    """A value that somebody was told: by a read, or by a reply to ``request``."""

    __slots__ = ("end", "request", "start", "value")

    def __init__(self, start: int, end: int, value: int, request: Request | None) -> None:
        self.start = start
        self.end = end
        self.value = value
        self.request = request

    def name(self) -> str:
        """What it was, for a sentence."""
        return f"the {'read' if self.request is None else 'reply'} at {self.end}"


class Tally:
    """One key's requests and what was seen, both in order of their beginning."""

    __slots__ = ("calls", "key", "requests", "seen")

    def __init__(self, key: Hashable, calls: Sequence[Call]) -> None:
        self.key = key
        self.calls = 0
        self.requests: list[Request] = []
        self.seen: list[Seen] = []
        named: dict[str, Request] = {}
        for call in calls:
            done = answer(call)
            if call.start.f != "read":
                self._added(call, done, named)
            elif done is not None:
                self.seen.append(Seen(call.start.index, done.index, whole(done, done.value), None))
        for request in self.requests:
            value = request.value()
            if value is not None:
                self.seen.append(Seen(request.start, request.end, value, request))
        self.seen.sort(key=lambda seen: seen.start)

    def _added(self, call: Call, done: Op | None, named: dict[str, Request]) -> None:
        if without_effect(call):
            return
        start = call.start
        request = None if start.req is None else named.get(start.req)
        if request is None:
            request = Request(whole(start, start.value), start.index)
            self.requests.append(request)
            if start.req is not None:
                named[start.req] = request
        self.calls += 1
        request.submissions += 1
        if done is not None:
            request.end = min(request.end, done.index)
            if start.f == "incr":
                request.replies.append(done)


class Sums:
    """Sums of amounts by the time they began and by the time they were certain, asked in any order.

    ``changes`` are (begin, certain or NEVER, amount) of everything that may have happened, once each.
    """

    __slots__ = ("_begins", "_certain")

    def __init__(self, changes: Sequence[tuple[int, int, int]]) -> None:
        self._begins = _Steps([(begin, amount) for begin, _, amount in changes])
        self._certain = _Steps([(end, amount) for _, end, amount in changes if end != NEVER])

    def least(self, begin: int, end: int) -> int:
        """The lowest sum somebody may see between operations ``begin`` and ``end``."""
        certain = self._certain.at(begin)
        return certain[0] + certain[1] + self._begins.at(end)[1] - certain[1]

    def most(self, begin: int, end: int) -> int:
        """The highest."""
        certain = self._certain.at(begin)
        return certain[0] + certain[1] + self._begins.at(end)[0] - certain[0]


class _Steps:
    """Running sums of the positive and of the negative amounts."""

    __slots__ = ("_at", "_sums")

    def __init__(self, steps: list[tuple[int, int]]) -> None:
        self._at: list[int] = []
        self._sums: list[tuple[int, int]] = [(0, 0)]
        up = down = 0
        for at, amount in sorted(steps):
            up, down = up + max(amount, 0), down + min(amount, 0)
            self._at.append(at)
            self._sums.append((up, down))

    def at(self, index: int) -> tuple[int, int]:
        """Sums of all steps before the operation ``index``."""
        return self._sums[bisect_left(self._at, index)]


def bounds(tally: Tally, initial: int) -> list[Anomaly]:
    """Values that no choice among the uncertain additions explains."""
    sums = Sums([(request.start, request.end, request.amount) for request in tally.requests])
    most_doubled = initial + sum(request.submissions * max(request.amount, 0) for request in tally.requests)
    found = []
    for seen in tally.seen:
        least = initial + sums.least(seen.start, seen.end)
        most = initial + sums.most(seen.start, seen.end)
        own = seen.request
        if own is not None:
            # Its own addition is certain in its own reply.
            least, most = least + max(own.amount, 0), most + min(own.amount, 0)
        if least <= seen.value <= most:
            continue
        text = f"{seen.name()}{of(tally.key)} is {seen.value}, but the additions allow {least} to {most}"
        name = TOO_LOW if seen.value < least else TOO_HIGH
        ops = [seen.start, seen.end]
        again = [request for request in tally.requests if request.submissions > 1 and request.start < seen.end]
        if name == TOO_HIGH and again and seen.value <= most_doubled:
            name, text = TWICE, f"{text} unless a request that was sent again counts again"
            ops = sorted({*ops, *[request.start for request in again]})
        found.append(Anomaly(name, text, ops, tally.key, {"least": least, "most": most}))
    return found


def unequal(tally: Tally) -> list[Anomaly]:
    """Requests whose submissions were answered differently."""
    found = []
    for request in tally.requests:
        values = [reply.value for reply in request.replies]
        if any(value != values[0] for value in values):
            told = " and ".join(map(str, values))
            at = [reply.index for reply in request.replies]
            text = f"one request{of(tally.key)}, begun at {request.start}, was answered {told}"
            found.append(Anomaly(UNEQUAL, text, [request.start, *at], tally.key))
    return found


def rising(tally: Tally) -> bool:
    """Whether no addition lowers the counter."""
    return all(request.amount >= 0 for request in tally.requests)


def steps_back(tally: Tally) -> list[Anomaly]:
    """Values lower than one that had been told before they began; only where the counter cannot fall."""
    if not rising(tally):
        return []
    found = []
    by_end = sorted(tally.seen, key=lambda seen: seen.end)
    at = 0
    highest: Seen | None = None
    for seen in tally.seen:
        while at < len(by_end) and by_end[at].end < seen.start:
            if highest is None or by_end[at].value > highest.value:
                highest = by_end[at]
            at += 1
        if highest is None:
            continue
        least = highest.value + (seen.request.amount if seen.request is not None else 0)
        if seen.value < least:
            text = f"{seen.name()}{of(tally.key)} is {seen.value}, though {highest.name()} was {highest.value} already"
            found.append(Anomaly(STEP_BACK, text, [highest.end, seen.start, seen.end], tally.key))
    return found


def overlaps(tally: Tally) -> list[Anomaly]:
    """Replies that claim the same step of the counter; only where the counter cannot fall."""
    if not rising(tally):
        return []
    steps = sorted(
        (seen.value - seen.request.amount, seen.value, seen.end, seen.request.amount)
        for seen in tally.seen
        if seen.request is not None and seen.request.amount > 0
    )
    found = []
    for one, other in pairwise(steps):
        if other[0] < one[1]:
            text = (
                f"the replies{of(tally.key)} at {one[2]} and {other[2]}, {one[1]} after +{one[3]} and {other[1]} after"
                f" +{other[3]}, count the same step twice"
            )
            found.append(Anomaly(REPEATED, text, sorted([one[2], other[2]]), tally.key))
    return found


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text."""
    initial = int(number_option(options, "initial", 0))
    anomalies: list[Anomaly] = []
    counts = dict.fromkeys(("keys", "additions", "acknowledged", "uncertain", "resubmitted", "seen"), 0)
    for key, calls in calls_by_key(history, options, ("add", "incr", "read")).items():
        tally = Tally(key, calls)
        counts["keys"] += 1
        counts["additions"] += len(tally.requests)
        counts["acknowledged"] += sum(request.end != NEVER for request in tally.requests)
        counts["uncertain"] += sum(request.end == NEVER for request in tally.requests)
        counts["resubmitted"] += tally.calls - len(tally.requests)
        counts["seen"] += len(tally.seen)
        anomalies += unequal(tally)
        anomalies += bounds(tally, initial)
        anomalies += steps_back(tally)
        anomalies += overlaps(tally)
    return decided("counter", anomalies, counts, counts["seen"], lambda: "nobody was told a value of a counter")
