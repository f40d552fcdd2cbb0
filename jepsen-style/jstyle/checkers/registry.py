"""Which checkers judge which workload.

Rule: the one table from workload names to checkers; a checker is a function ``check(history, options) -> Verdict`` and
is imported when it is wanted. It must not know how any of them works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from jstyle.checkers.verdict import Options, Verdict
from jstyle.history.op import Op

Check = Callable[[list[Op], Options], Verdict]


class Workload:
    """A workload as ``jstyle check`` knows it. ``checkers`` are ``module:function`` below ``jstyle.checkers``."""

    __slots__ = ("about", "checkers", "name", "second")

    def __init__(self, name: str, about: str, checkers: Sequence[str], second: str = "") -> None:
        self.name = name
        self.about = about
        self.checkers = tuple(checkers)
        # The independent engine asked for a second opinion on the first checker; empty when there is none.
        self.second = second


_ALL: Final = (
    Workload("register", "read, write, cas, setnx, del per key", ["linear:check"], "wgl:check"),
    Workload("commands", "GET SET DEL SETNX CAS INCRBY ... per key", ["linear:check_commands"], "wgl:check_commands"),
    Workload("multi-register", "MULTI blocks over registers", ["linear:check"], "wgl:check"),
    Workload("counter-linear", "add, incr, read per key", ["linear:check_counter"], "wgl:check_counter"),
    Workload("unique-register", "unique writes and reads, hot keys", ["zones:check"], "linear:check"),
    Workload("append", "list-append transactions", ["elle_append:check"]),
    Workload("wr", "read-write register transactions", ["elle_wr:check"]),
    Workload("set", "unique adds, reads of all", ["set_full:check"]),
    Workload("bank", "transfers under a constant total", ["bank:check"]),
    Workload("counter", "additions and reads within bounds", ["counter:check"]),
    Workload("queue", "enqueue, dequeue, drain", ["queue:check"]),
    Workload("lock", "acquire, release, fenced writes", ["lock:check"]),
    Workload("expiry", "keys with a deadline", ["expiry:check"]),
    Workload("order", "publishers and observers of one stream", ["order:check"]),
)
WORKLOADS: Final = {workload.name: workload for workload in _ALL}


class UnknownWorkload(ValueError):
    """No such workload; the text names those there are."""


def find(name: str) -> Workload:
    """The workload of this name. Raises UnknownWorkload."""
    workload = WORKLOADS.get(name)
    if workload is None:
        raise UnknownWorkload(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    return workload


def checker(reference: str) -> Check:
    """The function ``module:function`` names. Raises ImportError or AttributeError when the table is wrong."""
    module, _, function = reference.partition(":")
    found = getattr(import_module(f"jstyle.checkers.{module}"), function)
    assert callable(found)
    return found  # type: ignore[no-any-return]


def check(name: str, history: list[Op], options: Options) -> list[Verdict]:
    """The verdicts of all checkers of a workload, in the table's order."""
    return [checker(reference)(history, options) for reference in find(name).checkers]
