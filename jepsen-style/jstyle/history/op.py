"""One step of a recorded history, and how invocations pair with their completions.

Rule: the only definition of an operation; every reader, checker, workload and report speaks it. A process has at most
one open operation, an invocation at most one completion; an operation without one counts as ``info`` for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

INVOKE: Final = "invoke"
OK: Final = "ok"
FAIL: Final = "fail"
INFO: Final = "info"
TYPES: Final = (INVOKE, OK, FAIL, INFO)

# JSON-like. Micro-operations are lists: ["append", k, v], ["r", k, [..] | None], ["w", k, v].
Value = object


class HistoryError(ValueError):
    """The history breaks a rule of the format; the text names the operation by its index."""


class Op:
    """``index`` is the recorder's total order; ``time`` is nanoseconds since its start, -1 when not recorded."""

    __slots__ = ("error", "f", "index", "key", "node", "process", "req", "time", "type", "value")

    def __init__(
        self,
        index: int,
        time: int,
        process: int | str,
        type: str,
        f: str,
        value: Value = None,
        error: str | None = None,
        key: Value = None,
        node: str | None = None,
        req: str | None = None,
    ) -> None:
        self.index = index
        self.time = time
        self.process = process
        self.type = type
        self.f = f
        self.value = value
        self.error = error
        self.key = key
        self.node = node
        self.req = req

    def __repr__(self) -> str:
        key = "" if self.key is None else f" {self.key!r}"
        return f"<{self.index} p{self.process} {self.type} {self.f}{key} {self.value!r}>"


class Call:
    """An invocation with its completion; ``done`` is None for one that never completed (as good as ``info``)."""

    __slots__ = ("done", "start")

    def __init__(self, start: Op, done: Op | None) -> None:
        self.start = start
        self.done = done

    @property
    def outcome(self) -> str:
        """``ok``, ``fail`` or ``info``."""
        return INFO if self.done is None else self.done.type


def is_client(op: Op) -> bool:
    """Whether a client did it; nemesis operations have a named process."""
    return isinstance(op.process, int)


def calls(history: Iterable[Op]) -> Iterator[Call]:
    """Client calls in order of invocation. Raises HistoryError when completions do not match invocations."""
    found: list[Call] = []
    open_calls: dict[int | str, Call] = {}
    for op in history:
        if not is_client(op):
            continue
        if op.type == INVOKE:
            if op.process in open_calls:
                raise HistoryError(f"operation {op.index}: process {op.process} already has an open operation")
            call = Call(op, None)
            open_calls[op.process] = call
            found.append(call)
        else:
            begun = open_calls.pop(op.process, None)
            if begun is None:
                raise HistoryError(f"operation {op.index}: process {op.process} completes what it never invoked")
            begun.done = op
    return iter(found)
