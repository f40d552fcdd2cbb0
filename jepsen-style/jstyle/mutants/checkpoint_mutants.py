"""Planted bugs of checkpoints: log that goes too early, a checkpoint that lacks what it claims, state left out of it.

Rule: one function replaced per bug, by one that a tired programmer could have written. CK numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from durakv.checkpoint import materialise, ops
from durakv.checkpoint.kv import DB_NAMES
from durakv.engine import beside
from durakv.keyspace.values.touched import TouchedEnds
from durakv.replication import checkpoints
from jstyle.mutants.patching import replaced

Patch = AbstractContextManager[None]


def log_dropped_too_early() -> Patch:
    """CK1: what was written down is taken for what the checkpoint has."""

    def make(_: object) -> Callable[[checkpoints.Checkpoints], None]:
        def forget(self: checkpoints.Checkpoints) -> None:
            self.log.drop_through(self.capture.index, 0)

        return forget

    return replaced(checkpoints.Checkpoints, "forget_log", make)


def index_ahead_of_its_rows() -> Patch:
    """CK2: the index is committed at once, the rows with the next commit."""

    def make(_: object) -> Callable[[materialise.Materialiser], None]:
        def commit(self: Any) -> None:
            if not self.pending():
                return
            gathered, self._gathered = self._gathered, [{} for _ in DB_NAMES]
            txn = self._flush()
            self._meta.applied = self.reached
            materialise._write_meta(txn, self._meta)  # noqa: SLF001 - a bug is planted where the code is
            self._txn = None
            txn.commit()
            self.applied = self.reached
            self._gathered = gathered

        return commit

    return replaced(materialise.Materialiser, "commit", make)


def removed_keys_stay() -> Patch:
    """CK3."""

    def make(_: object) -> Callable[..., None]:
        def nothing(out: list[bytes], phys: int, slot: int, key: bytes) -> None:
            """The key's row stays."""

        return nothing

    return replaced(ops, "delete_key", make)


def waiters_left_out() -> Patch:
    """CK4: parked requests are not in the checkpoint."""

    def make(_: object) -> Callable[..., None]:
        def without(self: beside.Beside, sessions: Any, out: list[beside.Change]) -> None:
            sessions.moved = {}
            sessions.watch_moved = False

        return without

    return replaced(beside.Beside, "_sessions", make)


def popped_elements_stay() -> Patch:
    """CK5: a list's rows do not follow its head."""

    def make(_: object) -> Callable[[TouchedEnds], None]:
        def popped_left(self: TouchedEnds) -> None:
            """The head is taken to be where it was."""

        return popped_left

    return replaced(TouchedEnds, "popped_left", make)
