"""Replicated sessions: watched keys and parked (blocking) requests, the same on every node. [compiled]

Rule: changed only from apply. A session is named by (node, uid). Everything here dies with a new leader's first entry,
because the connections it belongs to were cut off or answered -UNBLOCKED when the old leader went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.zset import ZSet

if TYPE_CHECKING:
    from durakv.commands.table import Row

# (node id, uid)
Origin = tuple[int, int]
# (db, key)
DbKey = tuple[int, bytes]


# A reader of a consumer group wakes whatever becomes of its key, to be told that the group is gone.
_TYPES: Final[dict[bytes, type | None]] = {b"list": ListValue, b"zset": ZSet, b"stream": Stream, b"group": None}


class Waiter:
    """A parked request. ``deadline_ms`` is log time, 0 = never; only the leader acts on it.

    Only a value of type ``wakes`` at one of its keys wakes it; None: any change of one does.
    """

    def __init__(
        self, origin: Origin, row: Row, argv: list[bytes], db: int, keys: list[bytes], kind: bytes, deadline_ms: int,
        on_timeout: object,
    ) -> None:  # fmt: skip
        self.origin = origin
        self.row = row
        self.argv = argv
        self.db = db
        self.keys = keys
        # Place in the order of parking, given by park().
        self.number = 0
        self.kind = kind
        self.wakes = _TYPES[kind]
        self.deadline_ms = deadline_ms
        self.on_timeout = on_timeout


class ReplicatedSessions:
    """Who watches which keys since when, and who is parked on which keys, in park order."""

    def __init__(self) -> None:
        self.watchers: dict[DbKey, dict[Origin, None]] = {}
        self.watched_by: dict[Origin, dict[DbKey, None]] = {}
        # Version of the last change of a watched key; absent = unchanged since somebody began to watch.
        self.versions: dict[DbKey, int] = {}
        self.waiters: dict[Origin, Waiter] = {}
        self.waiting_on: dict[DbKey, dict[Origin, None]] = {}
        # For checkpoints: requests that were parked or ended since they were last written down, and whether what is
        # watched changed.
        self.moved: dict[Origin, None] = {}
        self.watch_moved = False
        self.parked = 0

    def idle(self) -> bool:
        """Whether changes of keys interest nobody."""
        return not self.watchers and not self.waiting_on

    def watch(self, origin: Origin, db: int, keys: list[bytes]) -> None:
        """Begin to watch ``keys`` of ``db``."""
        self.watch_moved = True
        mine = self.watched_by.setdefault(origin, {})
        for key in keys:
            mine[(db, key)] = None
            self.watchers.setdefault((db, key), {})[origin] = None

    def unwatch(self, origin: Origin) -> None:
        """Forget all keys the session watches."""
        mine = self.watched_by.pop(origin, None)
        if mine is None:
            return
        self.watch_moved = True
        for dbkey in mine:
            who = self.watchers[dbkey]
            del who[origin]
            if not who:
                del self.watchers[dbkey]
                self.versions.pop(dbkey, None)

    def park(self, waiter: Waiter) -> None:
        """Add a parked request; a session has at most one."""
        assert waiter.origin not in self.waiters
        self.parked += 1
        waiter.number = self.parked
        self.waiters[waiter.origin] = waiter
        self.moved[waiter.origin] = None
        for key in waiter.keys:
            self.waiting_on.setdefault((waiter.db, key), {})[waiter.origin] = None

    def unpark(self, origin: Origin) -> Waiter | None:
        """Remove and return the session's parked request, if any."""
        waiter = self.waiters.pop(origin, None)
        if waiter is None:
            return None
        self.moved[origin] = None
        for key in waiter.keys:
            dbkey = (waiter.db, key)
            who = self.waiting_on.get(dbkey)
            # The same key may be named twice by one request.
            if who is not None:
                who.pop(origin, None)
                if not who:
                    del self.waiting_on[dbkey]
        return waiter

    def clear(self) -> None:
        """A new leader begins: connections that owned this state are gone."""
        self.watch_moved = self.watch_moved or bool(self.watched_by)
        self.moved.update(dict.fromkeys(self.waiters))
        self.watchers.clear()
        self.watched_by.clear()
        self.versions.clear()
        self.waiters.clear()
        self.waiting_on.clear()
