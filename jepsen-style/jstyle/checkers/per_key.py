"""The calls of a history key by key, as the checkers of collections want them.

Rule: the only place where those checkers read operations: what they may be called, which values are numbers or lists,
and what happened before what. ``index`` is the order of everything; times are used only where a deadline is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Options, Verdict, flag_option
from jstyle.history.edn import frozen
from jstyle.history.keys import lift
from jstyle.history.op import OK, Call, HistoryError, Op, calls

NEVER: Final = 1 << 62
NS_PER_MS: Final = 1_000_000


def calls_by_key(history: Sequence[Op], options: Options, known: Iterable[str]) -> dict[Hashable, list[Call]]:
    """Each key's calls in order of invocation; keys in order of first use.

    Raises HistoryError for a function that is not ``known``: what it did to the state would be missed.
    """
    names = tuple(known)
    found: dict[Hashable, list[Call]] = {}
    for call in calls(lift(history, independent=flag_option(options, "independent"))):
        if call.start.f not in names:
            raise HistoryError(
                f"operation {call.start.index} is {call.start.f!r}, but this workload has {', '.join(names)};"
                " name the workload that the history is of"
            )
        found.setdefault(frozen(call.start.key), []).append(call)
    return found


def ended(call: Call) -> int:
    """Index of the success that ended the call, NEVER for one that was not answered (or refused)."""
    return call.done.index if call.done is not None and call.done.type == OK else NEVER


def answer(call: Call) -> Op | None:
    """The success that ended the call, None when there is none."""
    return call.done if call.done is not None and call.done.type == OK else None


def whole(op: Op, value: object) -> int:
    """``value`` as a whole number. Raises HistoryError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise HistoryError(f"operation {op.index}: {value!r} in {op.f} must be a whole number")
    return value


def members(op: Op) -> list[Hashable]:
    """The elements a collection was seen to hold, in the order seen. Raises HistoryError."""
    value = op.value
    if not isinstance(value, list | tuple | set | frozenset):
        raise HistoryError(f"operation {op.index}: {op.f} must answer a list of elements, not {value!r}")
    return [frozen(element) for element in value]


def field(op: Op, name: str) -> object:
    """An entry of a value that is a map; None when the map has none. Raises HistoryError for what is no map."""
    if not isinstance(op.value, dict):
        raise HistoryError(f"operation {op.index}: the value of {op.f} must be a map with {name!r}, not {op.value!r}")
    return op.value.get(name)


def of(key: Hashable) -> str:
    """The key for a sentence, empty when operations name none."""
    return "" if key is None else f" of {key!r}"


def decided(
    checker: str, anomalies: list[Anomaly], counts: dict[str, int], telling: int, why: Callable[[], str]
) -> Verdict:
    """FALSE with anomalies; UNKNOWN, and why, when no observation was ``telling``; else TRUE."""
    if anomalies:
        return Verdict(checker, FALSE, anomalies, counts)
    if not telling:
        return Verdict(checker, UNKNOWN, [], counts, why())
    return Verdict(checker, TRUE, [], counts)
