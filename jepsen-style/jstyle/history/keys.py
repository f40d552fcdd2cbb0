"""Histories of many independent keys, as ``jepsen.independent`` writes them: every value is a pair ``[key value]``.

Rule: the only place that takes such pairs apart. A history whose operations already name their ``key`` stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jstyle.history.op import INVOKE, HistoryError, Op, is_client

# Functions whose own argument is a pair, so that only [key, [a, b]] says they are keyed.
_PAIR_ARGUMENT = frozenset({"cas", "compare-and-set", "compare-and-swap"})


def keyed(history: Iterable[Op]) -> bool:
    """Whether every client invocation's value is a pair [key value] and none names its key."""
    seen = False
    for op in history:
        if not is_client(op) or op.type != INVOKE:
            continue
        value = op.value
        if op.key is not None or not isinstance(value, list | tuple) or len(value) != 2:
            return False
        if op.f in _PAIR_ARGUMENT and not (isinstance(value[1], list | tuple) and len(value[1]) == 2):
            return False
        if isinstance(value[0], list | tuple | dict):
            return False
        seen = True
    return seen


def lift(history: Sequence[Op], *, independent: bool | None = None) -> list[Op]:
    """The history with keys taken out of the values; None for ``independent`` means: find out (``keyed``)."""
    if independent is None:
        independent = keyed(history)
    if not independent:
        return list(history)
    return [_split(op) if is_client(op) else op for op in history]


def _split(op: Op) -> Op:
    pair = op.value
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        if op.type == INVOKE:
            raise HistoryError(f"operation {op.index}: value {pair!r} is no [key value] pair")
        # Some clients complete a crashed call with no value; calls() takes the key from the invocation.
        return op
    return Op(op.index, op.time, op.process, op.type, op.f, pair[1], op.error, pair[0], op.node, op.req)
