"""A lock with a time to live and a fence: holders may overlap once the time is over, writes must never go back.

The fence is what keeps data safe: a write accepted with token ``t`` forbids every later write with a smaller one. The
lock itself is judged only where it promises something: nobody gets it while an acknowledged holder's time cannot be
over and no release was asked for. Rule: how far clocks may be apart is said by ``bound_ms``; without it a holder with a
time to live may have lost the lock at any time.

Operations per lock: ``acquire`` of ``{"px": ms or null}``, answered by ``{"token": t, "px": ms or null}`` or refused
with error ``held``; ``release`` of ``{"token": t}``, answered whether it was held; ``fenced-write`` of
``{"token": t, "value": v}``, answered whether it was accepted. Options: ``bound_ms``, ``independent`` as everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Final

from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, NS_PER_MS, answer, calls_by_key, decided, field, of, whole
from jstyle.checkers.verdict import Anomaly, Options, Verdict, number_option
from jstyle.history.op import Call, HistoryError, Op

OLDER: Final = "older-token-accepted"
TWO_HOLDERS: Final = "two-holders"
REFUSED_FREE: Final = "refused-while-free"
TOKENS: Final = "token-not-increasing"
_HELD: Final = "held"


class Holder:
    """An acquisition that may have happened. ``end`` is None for one without an answer; ``px_ms`` None: for ever."""

    __slots__ = ("asked_back", "end", "given_back", "px_ms", "start", "token")

    def __init__(self, call: Call) -> None:
        self.start = call.start
        self.end = answer(call)
        said = self.end or call.start
        px = field(said, "px")
        self.px_ms = None if px is None else whole(said, px)
        self.token = whole(self.end, field(self.end, "token")) if self.end is not None else -1
        # Index at which a release that may have happened began, and at which one was certain.
        self.asked_back = NEVER
        self.given_back = NEVER

    def may_be_free_by(self, moment: Op, bound_ms: float | None) -> bool:
        """Whether the lock can have been free again by then: released, or its time over by some clock."""
        if self.asked_back < moment.index:
            return True
        if self.px_ms is None:
            return False
        if bound_ms is None or self.start.time < 0 or moment.time < 0:
            return True
        return moment.time - self.start.time >= (self.px_ms - bound_ms) * NS_PER_MS

    def surely_free_by(self, moment: Op, bound_ms: float | None) -> bool:
        """Whether the lock must have been free again by then, as far as this holder goes."""
        if self.given_back < moment.index:
            return True
        if self.end is None or self.px_ms is None or bound_ms is None or self.end.time < 0 or moment.time < 0:
            return False
        return moment.time - self.end.time > (self.px_ms + bound_ms) * NS_PER_MS


class Lock:
    """One key's calls in order of their beginning."""

    __slots__ = ("accepted", "holders", "key", "refused")

    def __init__(self, key: Hashable, calls: Sequence[Call]) -> None:
        self.key = key
        self.holders: list[Holder] = []
        # Acquisitions that were told the lock is held.
        self.refused: list[tuple[Op, Op]] = []
        # (start, end, token) of writes that were accepted.
        self.accepted: list[tuple[int, int, int]] = []
        for call in calls:
            if call.start.f == "acquire":
                if not without_effect(call):
                    self.holders.append(Holder(call))
                elif call.done is not None and call.done.error == _HELD:
                    self.refused.append((call.start, call.done))
        for call in calls:
            if call.start.f == "acquire" or without_effect(call):
                continue
            start, done = call.start, answer(call)
            token = whole(start, field(start, "token"))
            if call.start.f == "release":
                self._released(token, start, done)
            elif done is not None and _yes(done):
                self.accepted.append((start.index, done.index, token))

    def _released(self, token: int, start: Op, done: Op | None) -> None:
        if _yes(done) is False:
            return
        for holder in self.holders:
            too_early = done is not None and done.index < holder.start.index
            if holder.end is None or holder.token != token or too_early:
                continue
            holder.asked_back = min(holder.asked_back, start.index)
            if done is not None:
                holder.given_back = min(holder.given_back, done.index)

    def told(self) -> list[tuple[Holder, Op]]:
        """Acquisitions that were acknowledged, with the acknowledgement."""
        return [(holder, holder.end) for holder in self.holders if holder.end is not None]


def _yes(done: Op | None) -> bool | None:
    """What the answer says, None without one. Raises HistoryError for one that is neither yes nor no."""
    if done is None:
        return None
    if not isinstance(done.value, bool):
        raise HistoryError(f"operation {done.index}: {done.f} must be answered by true or false, not {done.value!r}")
    return done.value


Claim = tuple[int, int, int]
"""Where something with a token began and was acknowledged, and the token."""


def _overtaken(claims: Sequence[Claim]) -> list[tuple[Claim, Claim]]:
    """Each claim, in order of beginning, with a smaller token than one acknowledged before it began; and that one."""
    found = []
    by_end = sorted(claims, key=lambda claim: claim[1])
    at = 0
    highest: Claim | None = None
    for claim in claims:
        while at < len(by_end) and by_end[at][1] < claim[0]:
            if highest is None or by_end[at][2] > highest[2]:
                highest = by_end[at]
            at += 1
        if highest is not None and claim[2] < highest[2]:
            found.append((claim, highest))
    return found


def older_tokens(lock: Lock) -> list[Anomaly]:
    """Writes accepted although one with a larger token had been."""
    found = []
    for (start, end, token), (_, known, larger) in _overtaken(lock.accepted):
        text = (
            f"the write{of(lock.key)} at {end} was accepted with token {token}, though one with token {larger}"
            f" had been accepted by {known}"
        )
        found.append(Anomaly(OLDER, text, [known, start, end], lock.key))
    return found


def falling_tokens(lock: Lock) -> list[Anomaly]:
    """Acquisitions that did not get a larger token than one acknowledged before they began, or got another's."""
    claims = [(holder.start.index, end.index, holder.token) for holder, end in lock.told()]
    found = []
    owners: dict[int, int] = {}
    shared: list[int] = []
    for _, end, token in claims:
        other = owners.setdefault(token, end)
        if other != end:
            shared.append(end)
            text = f"the acquisitions{of(lock.key)} at {other} and {end} got the same token {token}"
            found.append(Anomaly(TOKENS, text, sorted([other, end]), lock.key))
    for (start, end, token), (_, known, larger) in _overtaken(claims):
        if end not in shared:
            text = (
                f"the acquisition{of(lock.key)} at {end} got token {token}, though {larger} had been given by {known}"
            )
            found.append(Anomaly(TOKENS, text, [known, start, end], lock.key))
    return found


def two_holders(lock: Lock, bound_ms: float | None) -> list[Anomaly]:
    """Pairs of acknowledged holders of whom neither can have been done before the other got the lock."""
    found = []
    active: list[tuple[Holder, Op]] = []
    for holder, end in lock.told():
        active = [entry for entry in active if not entry[0].may_be_free_by(holder.start, bound_ms)]
        for other, other_end in active:
            if other.may_be_free_by(end, bound_ms):
                continue
            # The other order is possible only if they overlap and this one was done before the other was answered.
            if holder.start.index < other_end.index and holder.may_be_free_by(other_end, bound_ms):
                continue
            text = (
                f"the lock{of(lock.key)} was given at {end.index} with token {holder.token} while the holder of token"
                f" {other.token}, acknowledged at {other_end.index}, must still have had it"
            )
            ops = sorted([other.start.index, other_end.index, holder.start.index, end.index])
            found.append(Anomaly(TWO_HOLDERS, text, ops, lock.key))
        active.append((holder, end))
    return found


def overlaps(lock: Lock) -> int:
    """How many acquisitions were acknowledged before the previous holder asked to release: allowed past the time."""
    told = lock.told()
    return sum(one[0].asked_back > other[1].index for one, other in pairwise(told))


def refused_while_free(lock: Lock, bound_ms: float | None) -> list[Anomaly]:
    """Refusals at a time when nobody can have held the lock."""
    found = []
    for start, end in lock.refused:
        if any(
            holder.start.index < end.index and not holder.surely_free_by(start, bound_ms) for holder in lock.holders
        ):
            continue
        text = f"the acquisition{of(lock.key)} at {end.index} was told the lock is held, but nobody can have had it"
        found.append(Anomaly(REFUSED_FREE, text, [start.index, end.index], lock.key))
    return found


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text."""
    bound_ms = None if options.get("bound_ms") is None else number_option(options, "bound_ms", 0)
    anomalies: list[Anomaly] = []
    counts = dict.fromkeys(("keys", "acquired", "refused", "uncertain", "overlaps", "accepted_writes"), 0)
    telling = 0
    for key, calls in calls_by_key(history, options, ("acquire", "release", "fenced-write")).items():
        lock = Lock(key, calls)
        acquired = len(lock.told())
        counts["keys"] += 1
        counts["acquired"] += acquired
        counts["refused"] += len(lock.refused)
        counts["uncertain"] += len(lock.holders) - acquired
        counts["overlaps"] += overlaps(lock)
        counts["accepted_writes"] += len(lock.accepted)
        telling += max(0, acquired - 1) + max(0, len(lock.accepted) - 1) + len(lock.refused)
        anomalies += older_tokens(lock)
        anomalies += falling_tokens(lock)
        anomalies += two_holders(lock, bound_ms)
        anomalies += refused_while_free(lock, bound_ms)
    why = "no lock was asked for twice and no second write was accepted, so nothing could contradict anything"
    return decided("lock", anomalies, counts, telling, lambda: why)
