"""Keys with a deadline: there until it, gone after it, and once gone never there again.

The deadline of a write lies its time to live after the instant of the write, which is somewhere between the write's
beginning and the first proof of it. Clocks of the group disagree by up to ``bound_ms``, and so may it and the
deadline. Rule: it never guesses how good clocks were; without ``bound_ms`` only what no clock excuses is judged, and
the verdict is unknown at best.

Operations per key: ``set`` of ``{"value": v, "px": ms or null}``, values unique in the key; ``read``, answered by the
value or null; ``ttl``, answered by the milliseconds left, -1 without a deadline, -2 without the key; ``persist``,
answered whether it took a deadline away. Options: ``bound_ms``, ``independent`` as everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, NS_PER_MS, answer, calls_by_key, decided, field, of, whole
from jstyle.checkers.verdict import FALSE, UNKNOWN, Anomaly, Options, Verdict, number_option
from jstyle.history.edn import frozen
from jstyle.history.op import Call, HistoryError, Op

AFTER: Final = "readable-after-deadline"
BEFORE: Final = "gone-before-deadline"
RESURRECTED: Final = "resurrected"
DEADLINE_LOST: Final = "deadline-lost"
WRONG_TTL: Final = "wrong-ttl"
PHANTOM: Final = "phantom"
FAILED_VISIBLE: Final = "failed-write-visible"
# Replies are rounded to milliseconds, at both ends of a difference.
_ROUNDING_MS: Final = 2


class Life:
    """A write that may have happened. ``known`` is the first proof of it; ``px_ms`` None: no deadline."""

    __slots__ = ("known", "px_ms", "shows", "start", "value")

    def __init__(self, start: Op, end: Op | None) -> None:
        self.start = start
        self.known = end
        self.value = frozen(field(start, "value"))
        px = field(start, "px")
        self.px_ms = None if px is None else whole(start, px)
        # Observations of it.
        self.shows: list[Call] = []

    def known_before(self, op: Op) -> bool:
        """Whether it was proved before that operation."""
        return self.known is not None and self.known.index < op.index


class Key:
    """One key's lives and what was seen of them. ``gone`` are observations that there is no such key."""

    __slots__ = ("failed", "gone", "left", "lives", "name", "persists", "reads", "twice")

    def __init__(self, name: Hashable, calls: Sequence[Call]) -> None:
        self.name = name
        self.lives: dict[Hashable, Life] = {}
        self.failed: dict[Hashable, int] = {}
        # A value was written twice: what a read shows says nothing about which.
        self.twice = False
        self.reads: list[Call] = []
        # Answered ttl calls.
        self.left: list[Call] = []
        # Calls that may have taken the deadline away.
        self.persists: list[Call] = []
        self.gone: list[Call] = []
        for call in calls:
            if call.start.f == "set":
                self._set(call)
            elif call.start.f == "persist" and not without_effect(call) and _told(call) is not False:
                self.persists.append(call)
        for call in calls:
            if answer(call) is not None and call.start.f != "set":
                self._seen(call)

    @property
    def sole(self) -> Life | None:
        """The one write there is; None when there are several or none."""
        return next(iter(self.lives.values())) if len(self.lives) == 1 else None

    def _set(self, call: Call) -> None:
        life = Life(call.start, answer(call))
        if without_effect(call):
            self.failed.setdefault(life.value, call.start.index)
            return
        self.twice = self.twice or life.value in self.lives
        self.lives[life.value] = life

    def _seen(self, call: Call) -> None:
        said = _told(call)
        life: Life | None = None
        if call.start.f == "read":
            self.reads.append(call)
            if said is None:
                self.gone.append(call)
                return
            life = self.lives.get(frozen(said))
        elif call.start.f == "ttl":
            self.left.append(call)
            if said == -2:
                self.gone.append(call)
                return
            life = self.sole
        elif said is True:
            life = self.sole
        elif self.sole is not None and self.sole.px_ms is not None and not self.may_stay(call):
            # Nothing to take away, though there was a deadline: the key was gone, if it was ever there.
            self.gone.append(call)
        if life is not None:
            life.shows.append(call)
            end = answer(call)
            if end is not None and (life.known is None or end.index < life.known.index):
                life.known = end

    def may_stay(self, seen: Call) -> bool:
        """Whether another call can have taken the deadline away before that observation ended."""
        return any(call is not seen and call.start.index < _end(seen).index for call in self.persists)

    def stays(self, seen: Call) -> bool:
        """Whether the one life had certainly lost its deadline before that observation began."""
        if self.sole is None:
            return False
        ends = [answer(call) for call in self.persists]
        return any(end is not None and end.index < seen.start.index for end in ends)


def _told(call: Call) -> object:
    """The answer; None for a call without one as well as for the answer null. Raises HistoryError."""
    done = answer(call)
    if done is None:
        return None
    if done.f == "ttl" and whole(done, done.value) < -2:
        raise HistoryError(f"operation {done.index}: ttl must answer milliseconds, -1 or -2, not {done.value!r}")
    if done.f == "persist" and not isinstance(done.value, bool):
        raise HistoryError(f"operation {done.index}: persist must be answered by true or false, not {done.value!r}")
    return done.value


def _end(call: Call) -> Op:
    end = answer(call)
    assert end is not None
    return end


def _ms(later: Op, earlier: Op) -> float | None:
    """Milliseconds from one operation to another; None when times were not recorded."""
    return None if later.time < 0 or earlier.time < 0 else (later.time - earlier.time) / NS_PER_MS


def after_deadline(key: Key, bound_ms: float | None) -> list[Anomaly]:
    """The first observation of each life when its deadline had passed by all clocks."""
    found = []
    for life in key.lives.values():
        if life.px_ms is None or life.known is None or bound_ms is None:
            continue
        for seen in life.shows:
            age_ms = _ms(seen.start, life.known)
            if age_ms is None or age_ms <= life.px_ms + bound_ms or key.may_stay(seen):
                continue
            text = (
                f"{life.value!r}{of(key.name)}, written by {life.known.index} for {life.px_ms} ms, was still there for"
                f" the {seen.start.f} at {_end(seen).index}, {age_ms - life.px_ms:.0f} ms after its deadline"
            )
            ops = [life.start.index, life.known.index, seen.start.index, _end(seen).index]
            found.append(Anomaly(AFTER, text, ops, key.name))
            break
    return found


def _may_be_gone(key: Key, life: Life, seen: Call, bound_ms: float | None) -> bool:
    if life.px_ms is None or key.stays(seen):
        return False
    age_ms = _ms(_end(seen), life.start)
    return bound_ms is None or age_ms is None or age_ms >= life.px_ms - bound_ms


def before_deadline(key: Key, bound_ms: float | None) -> list[Anomaly]:
    """The first observation that a key is gone while every write it can have had must still be there."""
    lives = list(key.lives.values())
    for seen in key.gone:
        certain = [life for life in lives if life.known_before(seen.start)]
        if not certain:
            continue
        # A life that another, known by now, replaced cannot be the one that is gone.
        current = [
            life
            for life in lives
            if life.start.index < _end(seen).index and not any(life.known_before(other.start) for other in certain)
        ]
        if any(_may_be_gone(key, life, seen, bound_ms) for life in current):
            continue
        life = max(certain, key=lambda life: life.start.index)
        lasting = "for ever" if life.px_ms is None else f"for {life.px_ms} ms"
        lasting = f"{lasting} and made to stay" if key.stays(seen) else lasting
        text = (
            f"{life.value!r}{of(key.name)}, written at {life.start.index} {lasting}, was gone already for the"
            f" {seen.start.f} at {_end(seen).index}"
        )
        return [Anomaly(BEFORE, text, [life.start.index, seen.start.index, _end(seen).index], key.name)]
    return []


def resurrections(key: Key) -> list[Anomaly]:
    """Lives seen after the key had been gone."""
    found = []
    for life in key.lives.values():
        known = life.known
        ends = [_end(seen).index for seen in key.gone if known is not None and known.index < seen.start.index]
        gone = min(ends, default=NEVER)
        back = next((seen for seen in life.shows if seen.start.index > gone), None)
        if back is not None and known is not None:
            text = (
                f"{life.value!r}{of(key.name)}, known at {known.index}, was gone at {gone} and there again for the"
                f" {back.start.f} at {_end(back).index}"
            )
            found.append(Anomaly(RESURRECTED, text, [known.index, gone, _end(back).index], key.name))
    return found


def times_left(key: Key, bound_ms: float | None) -> list[Anomaly]:
    """Answers to ``ttl`` that do not fit the one write there is."""
    life = key.sole
    if life is None:
        return []
    found = []
    for seen in key.left:
        left, end = whole(_end(seen), _told(seen)), _end(seen)
        asked = f"the ttl{of(key.name)} at {end.index} is {left}"
        ops = [life.start.index, seen.start.index, end.index]
        if left == -1 and life.px_ms is not None and not key.may_stay(seen):
            text = f"{asked}, but nobody took away the deadline written at {life.start.index}"
            found.append(Anomaly(DEADLINE_LOST, text, ops, key.name))
        if left < 0:
            continue
        if life.px_ms is None or key.stays(seen):
            found.append(Anomaly(WRONG_TTL, f"{asked}, but the key has no deadline", ops, key.name))
            continue
        youngest, oldest = _ms(seen.start, life.known or end), _ms(end, life.start)
        if bound_ms is None or youngest is None or oldest is None:
            continue
        least = life.px_ms - oldest - bound_ms - _ROUNDING_MS
        most = life.px_ms - youngest + bound_ms + _ROUNDING_MS
        if not least <= left <= most:
            text = f"{asked} ms, but the write at {life.start.index} allows {max(least, 0):.0f} to {most:.0f}"
            found.append(Anomaly(WRONG_TTL, text, ops, key.name))
    return found


def phantoms(key: Key) -> list[Anomaly]:
    """Values that nobody can have written by then."""
    found = []
    for call in key.reads:
        end, value = _end(call), frozen(_told(call))
        life = key.lives.get(value)
        if value is None or (life is not None and life.start.index < end.index):
            continue
        seen = f"the read{of(key.name)} at {end.index} shows {value!r}"
        if life is not None:
            text = f"{seen}, which was written only at {life.start.index}"
            found.append(Anomaly(PHANTOM, text, [end.index, life.start.index], key.name))
        elif value in key.failed:
            text = f"{seen}, whose write at {key.failed[value]} failed"
            found.append(Anomaly(FAILED_VISIBLE, text, [key.failed[value], end.index], key.name))
        else:
            found.append(Anomaly(PHANTOM, f"{seen}, which nobody wrote", [end.index], key.name))
    return found


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text."""
    bound_ms = None if options.get("bound_ms") is None else number_option(options, "bound_ms", 0)
    anomalies: list[Anomaly] = []
    counts = dict.fromkeys(("keys", "unjudged", "writes", "shown", "gone", "ttls", "persists"), 0)
    telling = 0
    for name, calls in calls_by_key(history, options, ("set", "read", "ttl", "persist")).items():
        key = Key(name, calls)
        counts["keys"] += 1
        if key.twice:
            counts["unjudged"] += 1
            continue
        counts["writes"] += len(key.lives)
        counts["shown"] += sum(len(life.shows) for life in key.lives.values())
        counts["gone"] += len(key.gone)
        counts["ttls"] += len(key.left)
        counts["persists"] += len(key.persists)
        seen = [*key.gone, *(show for life in key.lives.values() for show in life.shows)]
        telling += sum(any(life.known_before(call.start) for life in key.lives.values()) for call in seen)
        anomalies += after_deadline(key, bound_ms)
        anomalies += before_deadline(key, bound_ms)
        anomalies += resurrections(key)
        anomalies += times_left(key, bound_ms)
        anomalies += phantoms(key)
    verdict = decided("expiry", anomalies, counts, telling, lambda: _why(counts))
    if verdict.valid != FALSE and telling and bound_ms is None:
        verdict.valid = UNKNOWN
        verdict.why = "deadlines were not judged: say with bound_ms how many milliseconds clocks may be apart"
    return verdict


def _why(counts: dict[str, int]) -> str:
    if counts["unjudged"]:
        return f"{counts['unjudged']} keys had one value written twice: write each value once"
    return "nobody looked at a key that had been written"
