"""Planted bugs in the checkers themselves: each replaces one function, and a golden history must notice.

Rule: the only place that damages a checker, and only inside ``with planted(...)``. A mutant that no golden history
kills means the golden histories are too weak, whatever the checkers say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from jstyle.checkers.linear_search import Finding, Search
from jstyle.checkers.partition import Partition
from jstyle.checkers.verdict import FALSE, TRUE
from jstyle.history.op import FAIL, INFO, Call


class CheckerMutant:
    """``target`` is ``module:function`` or ``module:Class.method`` below ``jstyle.checkers``."""

    __slots__ = ("about", "broken", "name", "target")

    def __init__(self, name: str, about: str, target: str, broken: Callable[..., object]) -> None:
        self.name = name
        self.about = about
        self.target = target
        self.broken = broken


def _calls_before_returns(part: Partition) -> list[int]:
    timed = sorted((at, number) for number, at in enumerate(part.starts))
    ended = sorted((at, ~number) for number, at in enumerate(part.ends) if at >= 0)
    return [number for _, number in timed + ended]


def _info_is_fail(call: Call) -> bool:
    return call.outcome in {FAIL, INFO}


def _no_crashed_kinds(part: Partition, kinds: list[int]) -> dict[int, list[int]]:
    return {}


def _unknown_is_true(finding: Finding) -> str:
    return FALSE if finding.linearizable is False else TRUE


def _uncounted_crashed_call(search: Search, number: int) -> None:
    group = search.groups[search.kinds[number]]
    if group not in search.live_groups:
        search.live_groups.append(group)
    group.available, group.unit = 1, 0


_ALL: Final = (
    CheckerMutant(
        "C1-linear", "forgets the order of calls in real time", "linear_search:events", _calls_before_returns
    ),
    CheckerMutant("C2", "treats info as fail", "partition:without_effect", _info_is_fail),
    CheckerMutant("C4", "skips crashed calls", "linear_search:crashed_kinds", _no_crashed_kinds),
    CheckerMutant("C5", "says true when the budget is spent", "linear:word", _unknown_is_true),
    CheckerMutant(
        "C6",
        "lets one crashed call happen again and again",
        "linear_search:Search._crashed_call",
        _uncounted_crashed_call,
    ),
)
CHECKER_MUTANTS: Final = {mutant.name: mutant for mutant in _ALL}


@contextmanager
def planted(name: str) -> Iterator[CheckerMutant]:
    """The checkers with the named bug for as long as the block runs. KeyError for a name that is none."""
    mutant = CHECKER_MUTANTS[name]
    module, _, path = mutant.target.partition(":")
    owner: object = import_module(f"jstyle.checkers.{module}")
    *holders, attribute = path.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    sound = getattr(owner, attribute)
    setattr(owner, attribute, mutant.broken)
    try:
        yield mutant
    finally:
        setattr(owner, attribute, sound)
