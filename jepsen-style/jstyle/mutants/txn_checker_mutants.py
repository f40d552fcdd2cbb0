"""Planted bugs in the transaction checkers: each replaces one function that both engines use.

Rule: a mutant damages nothing outside its ``with`` block, and the golden histories of both engines must notice it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from jstyle.checkers import txn_graph
from jstyle.checkers.txn_graph import Txn
from jstyle.history.op import FAIL, INFO, Call, Op
from jstyle.mutants.patching import replaced

_Outcome = Callable[[Call], str]
_Calls = Callable[[Iterable[Op]], list[Call]]
_Pairs = Callable[[Sequence[Txn], Sequence[bool]], list[tuple[int, int]]]


def _no_real_time(original: _Pairs) -> _Pairs:
    def broken(txns: Sequence[Txn], present: Sequence[bool]) -> list[tuple[int, int]]:
        return []

    return broken


def _info_is_fail(original: _Outcome) -> _Outcome:
    def broken(call: Call) -> str:
        outcome = original(call)
        return FAIL if outcome == INFO else outcome

    return broken


def _no_crashed(original: _Calls) -> _Calls:
    def broken(history: Iterable[Op]) -> list[Call]:
        return [call for call in original(history) if call.outcome != INFO]

    return broken


def drops_real_time() -> AbstractContextManager[None]:
    """C1: no edge says that one transaction was done before another began."""
    return replaced(txn_graph, "real_time_edges", _no_real_time)


def info_as_fail() -> AbstractContextManager[None]:
    """C2: a transaction that may have happened is taken for one that never did."""
    return replaced(txn_graph, "outcome_of", _info_is_fail)


def skips_crashed() -> AbstractContextManager[None]:
    """C4: transactions that never answered are left out."""
    return replaced(txn_graph, "transaction_calls", _no_crashed)


MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    "C1-txn": drops_real_time,
    "C2-txn": info_as_fail,
    "C4-txn": skips_crashed,
}
