"""Deadlines of single fields, seen from a database: which hashes have some, and what is left of one now. [compiled]

Fields go the way keys go: a write that meets a due field deletes it first, a read does not see it and waits for an
entry with a later time, and the leader proposes sweeps of hashes nobody touches.
Rule: ``count`` is exact, also after undo, for nodes are compared by it (as part of ``Db.nexp``). ``queue`` is derived
and may hold entries that mean nothing any more.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, Protocol

from durakv.keyspace import journal
from durakv.keyspace.values.hash import Hash

if TYPE_CHECKING:
    from durakv.keyspace.keyspace import Db

_UNDO_COUNT: Final = 1
_UNDO_EXPIRED: Final = 2
_UNDO_EMPTIED: Final = 3
# As in commands.context, which stands above this module.
_NOTIFY_GENERIC: Final = 1 << 2
_NOTIFY_HASH: Final = 1 << 6
# Fewer stale entries than this are not worth a rebuild.
_SLACK: Final = 1024


class EventSink(Protocol):
    """Where keyspace events go that no handler tells of: (database, event, key), of the classes in ``notify_mask``."""

    notify_mask: int
    events: list[tuple[int, bytes, bytes]]


def earliest(value: Hash) -> int:
    """The earliest deadline of a field in Unix ms, -1 without."""
    return -1 if value.deadlines is None else value.deadlines.next_ms()


class FieldExpiry:
    """``count`` is the number of keys whose hash has a field with a deadline.

    ``queue`` has, for each of them, an entry (Unix ms, key) that is no later than its earliest deadline.
    """

    def __init__(self, db: Db) -> None:
        self.db = db
        self.count = 0
        self.queue: list[tuple[int, bytes]] = []
        self.queue_max = _SLACK

    # -- looking --------------------------------------------------------------------------------------------------

    def live(self, key: bytes, value: Hash) -> Hash | None:
        """The hash at ``key`` as it is now, None when nothing of it is left. Inside apply due fields are deleted.

        A read gets a copy, and is answered only after an entry with a later time than the deadlines it relied on.
        """
        deadlines = value.deadlines
        ks = self.db.ks
        if deadlines is None or deadlines.next_ms() > ks.now_ms:
            return value
        if ks.writing and not ks.following:
            return self._expire(key, value)
        for field in deadlines.due(ks.now_ms):
            if deadlines.at_ms[field] > ks.log_ms:
                ks.tick_needed = True
        view = value.view(ks.now_ms)
        return view if view.fields else None

    def _expire(self, key: bytes, value: Hash) -> Hash | None:
        db = self.db
        ks = db.ks
        gone = value.expire(ks.now_ms)
        ks.expired_fields += gone
        journal.steps.append((self, _UNDO_EXPIRED, gone, None))
        self.changed(key, value, ks.now_ms)
        db.touched(key)
        sink = ks.sink
        if sink is not None and sink.notify_mask & _NOTIFY_HASH:
            sink.events.append((db.number, b"hexpired", key))
        if value.fields:
            return value
        db.remove(key)
        if sink is not None and sink.notify_mask & _NOTIFY_GENERIC:
            sink.events.append((db.number, b"del", key))
        return None

    def due_keys(self, now_ms: int, count_max: int) -> list[bytes]:
        """Up to ``count_max`` keys of hashes with a deadline <= now_ms, about oldest first; leaves them in place."""
        out: list[bytes] = []
        queue = self.queue
        again: list[tuple[int, bytes]] = []
        seen: dict[bytes, None] = {}
        while queue and len(out) < count_max and queue[0][0] <= now_ms:
            _, key = heappop(queue)
            value = self.db.peek(key)
            if key in seen or type(value) is not Hash or value.deadlines is None:
                continue
            seen[key] = None
            next_ms = value.deadlines.next_ms()
            again.append((next_ms, key))
            if next_ms <= now_ms:
                out.append(key)
        for item in again:
            heappush(queue, item)
        return out

    # -- following changes ----------------------------------------------------------------------------------------

    def changed(self, key: bytes, value: Hash, before_ms: int) -> None:
        """Deadlines of fields of the hash at ``key`` were set or taken away; ``before_ms``: earliest() before that."""
        deadlines = value.deadlines
        had = before_ms >= 0
        if (deadlines is not None) != had:
            delta = -1 if had else 1
            self.count += delta
            self.db.nexp += delta
            journal.steps.append((self, _UNDO_COUNT, delta, None))
        if deadlines is not None:
            next_ms = deadlines.next_ms()
            if not had or next_ms < before_ms:
                heappush(self.queue, (next_ms, key))

    def replaced(self, key: bytes, old: object, new: object) -> None:
        """``key`` held ``old`` and holds ``new`` now, either by a change or by its undo; None stands for nothing."""
        if type(old) is Hash and old.deadlines is not None:
            self.count -= 1
            self.db.nexp -= 1
        if type(new) is Hash and new.deadlines is not None:
            self.count += 1
            self.db.nexp += 1
            heappush(self.queue, (new.deadlines.next_ms(), key))

    def emptied(self) -> None:
        """All keys are gone."""
        journal.steps.append((self, _UNDO_EMPTIED, self.count, self.queue))
        self.count = 0
        self.queue = []

    def trim(self) -> None:
        """Drop what means nothing any more from a queue grown long.

        Only before a unit's first change: its undo may bring deadlines back without telling.
        """
        if len(self.queue) <= self.queue_max or journal.steps:
            return
        kept: dict[bytes, int] = {}
        for _, key in self.queue:
            value = self.db.peek(key)
            if type(value) is Hash and value.deadlines is not None:
                kept[key] = value.deadlines.next_ms()
        self.queue = [(at_ms, key) for key, at_ms in kept.items()]
        heapify(self.queue)
        self.queue_max = 2 * len(kept) + _SLACK

    def undo(self, op: int, a: int, b: list[tuple[int, bytes]] | None) -> None:
        """Revert one journal step."""
        if op == _UNDO_COUNT:
            self.count -= a
            self.db.nexp -= a
        elif op == _UNDO_EXPIRED:
            self.db.ks.expired_fields -= a
        else:
            assert op == _UNDO_EMPTIED
            assert b is not None
            self.count = a
            self.queue = b
