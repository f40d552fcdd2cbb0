"""The requests of one event-loop turn, in arrival order. [compiled]

A batch with at least one write becomes one log entry; its read items run in place when that entry is applied here, so
a connection's pipeline keeps its order and its reads need no proof beyond the entry's own commit. A batch of reads
only waits for a leadership proof instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row

ITEM_WRITE: Final = 0
ITEM_READ: Final = 1
ITEM_EXEC: Final = 2
# Drop a session's replicated state (watches, parked request); nobody waits for a reply.
ITEM_DROP: Final = 3
# End a parked request: argv = [reason]; `uid` says whose, session who is told whether it did.
ITEM_UNPARK: Final = 4
# Carries only time, so that a read that saw an expired key can be answered.
ITEM_TICK: Final = 5
# Delete keys whose deadline has passed: argv = keys.
ITEM_SWEEP: Final = 6
# Delete keys to make room, whatever their deadline: argv = keys.
ITEM_EVICT: Final = 7
# What the source sent, as one unit: argv = head, see engine/source.py; parts = its commands.
ITEM_IMPORT: Final = 8
# Slots come or go: argv = an item of cluster/handoff/entries.py.
ITEM_HANDOFF: Final = 9


class Part:
    """One command queued by MULTI: its row, argv and database."""

    def __init__(self, row: Row, argv: list[bytes], db: int) -> None:
        self.row = row
        self.argv = argv
        self.db = db


class Item:
    """One request. ``uid`` and ``node`` name the session in the log; ``session`` is None for internal work."""

    def __init__(
        self, kind: int, session: Session | None, row: Row | None, argv: list[bytes], db: int, node: int, uid: int
    ) -> None:
        self.kind = kind
        self.session = session
        self.row = row
        self.argv = argv
        self.db = db
        self.node = node
        self.uid = uid
        self.parts: list[Part] | None = None
        # Which request of another node's client this is, counted from 1 in its epoch; 0: this node's own.
        self.number = 0
        # EXEC: (db, key, version at WATCH).
        self.watch: list[tuple[int, bytes, int]] | None = None


class Batch:
    """Items in order. ``writes`` counts those that must be logged; ``index`` and ``term`` are set when proposed."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.writes = 0
        self.size_bytes = 0
        self.index = 0
        self.term = 0
        self.need_applied = 0
        self.now_ms = 0
        self.seed = 0

    def add(self, item: Item) -> None:
        """Append; the caller accounts for size_bytes and writes."""
        self.items.append(item)
