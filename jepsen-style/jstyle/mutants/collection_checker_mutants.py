"""Planted bugs in the checkers of collections: sets, banks, counters, queues, locks, deadlines, orders.

Three kinds: calls of unknown outcome are misread (C2, C4), duplicates are overlooked (C3), and one rule of one checker
says nothing any more (C7). Rule: each replaces one function for as long as its block runs, and a golden history of
every folder it concerns must notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import Final

from jstyle.checkers import partition
from jstyle.history import op
from jstyle.history.op import FAIL, INFO, OK, Call, Op
from jstyle.mutants.patching import replaced

# Folders of golden histories; the checker of ``set`` is ``set_full``, every other has the name of its folder.
FOLDERS: Final = ("set", "bank", "counter", "queue", "lock", "expiry", "order")


class CollectionMutant:
    """``folders``: whose golden histories must each notice. ``patch`` plants it."""

    __slots__ = ("about", "folders", "name", "patch")

    def __init__(
        self, name: str, about: str, folders: Iterable[str], patch: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.name = name
        self.about = about
        self.folders = tuple(folders)
        self.patch = patch


def _info_is_fail() -> AbstractContextManager[None]:
    def make(sound: Callable[[Call], bool]) -> Callable[[Call], bool]:
        return lambda call: call.outcome in {FAIL, INFO}

    return replaced(partition, "without_effect", make)


def _crashed_skipped() -> AbstractContextManager[None]:
    def make(sound: Callable[[Iterable[Op]], Iterator[Call]]) -> Callable[[Iterable[Op]], Iterator[Call]]:
        return lambda history: (call for call in sound(history) if call.outcome in {OK, FAIL})

    return replaced(op, "calls", make)


def _silent(folder: str, rule: str, answer: Callable[[], object]) -> AbstractContextManager[None]:
    """The rule finds nothing."""
    checker = import_module(f"jstyle.checkers.{'set_full' if folder == 'set' else folder}")

    def silent(*_seen: object) -> object:
        return answer()

    return replaced(checker, rule, lambda _: silent)


def _nothing() -> None:
    return None


_RULES: Final = (
    ("set", "phantoms", list),
    ("bank", "wrong_totals", list),
    ("bank", "negatives", list),
    ("bank", "strangers", list),
    ("bank", "unexplained", list),
    ("counter", "bounds", list),
    ("counter", "unequal", list),
    ("counter", "steps_back", list),
    ("counter", "overlaps", list),
    ("queue", "losses", list),
    ("queue", "unexpected", list),
    ("queue", "wrongly_empty", list),
    ("queue", "out_of_order", list),
    ("queue", "falling_ids", list),
    ("lock", "older_tokens", list),
    ("lock", "falling_tokens", list),
    ("lock", "two_holders", list),
    ("lock", "refused_while_free", list),
    ("expiry", "after_deadline", list),
    ("expiry", "before_deadline", list),
    ("expiry", "resurrections", list),
    ("expiry", "times_left", list),
    ("expiry", "phantoms", list),
    ("order", "repeats", list),
    ("order", "phantoms", list),
    ("order", "step_back", _nothing),
    ("order", "disagreement", _nothing),
    ("order", "gaps", list),
)


def _all() -> Iterator[CollectionMutant]:
    yield CollectionMutant("C2-collections", "treats info as fail", FOLDERS, _info_is_fail)
    yield CollectionMutant("C4-collections", "skips crashed calls", FOLDERS, _crashed_skipped)
    yield CollectionMutant("C3", "ignores duplicates in set reads", ["set"], partial(_silent, "set", "repeated", list))
    yield CollectionMutant(
        "C3-queue", "ignores what comes out twice", ["queue"], partial(_silent, "queue", "duplicates", list)
    )
    for folder, rule, answer in _RULES:
        name = f"C7-{folder}-{rule.replace('_', '-')}"
        yield CollectionMutant(name, f"of {folder} forgets {rule}", [folder], partial(_silent, folder, rule, answer))


CATALOGUE: Final[Mapping[str, CollectionMutant]] = {mutant.name: mutant for mutant in _all()}
MUTANTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    name: mutant.patch for name, mutant in CATALOGUE.items()
}
