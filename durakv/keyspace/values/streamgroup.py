"""A consumer group of a stream: its cursor, who consumes, and which entries are delivered but not acknowledged.

Ids are integers as in streamnode. A pending entry belongs to exactly one consumer; the group's and the consumers' views
of what is pending never disagree.
Rule: every mutator of a group journals its inverse; consumers and pending entries are changed through their group
only. It knows neither entries nor time. [compiled]
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Any, Final

from durakv.keyspace.journal import steps
from durakv.keyspace.values.packed import netstring
from durakv.keyspace.values.touched import TouchedGroup

# Not known: the group's cursor was set to where counting is impossible.
READ_UNKNOWN: Final = -1

_UNDO_CURSOR: Final = 1
_UNDO_PENDING: Final = 2
_UNDO_CONSUMER: Final = 3
_UNDO_TIMES: Final = 4

_COUNT_MASK: Final = (1 << 64) - 1
_BLOCK_BUILT: Final = 512
_BLOCK_MAX: Final = 1024


class IdSet:
    """Ids in order, in sorted blocks; ``firsts[i]`` is the least id of ``blocks[i]``."""

    __slots__ = ("blocks", "firsts", "size")

    def __init__(self) -> None:
        self.blocks: list[list[int]] = []
        self.firsts: list[int] = []
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def add(self, entry_id: int) -> None:
        """Put in an id that is not there."""
        blocks = self.blocks
        self.size += 1
        if not blocks or entry_id > blocks[-1][-1]:
            if blocks and len(blocks[-1]) < _BLOCK_BUILT:
                blocks[-1].append(entry_id)
            else:
                blocks.append([entry_id])
                self.firsts.append(entry_id)
            return
        number = max(bisect_right(self.firsts, entry_id) - 1, 0)
        block = blocks[number]
        insort(block, entry_id)
        self.firsts[number] = block[0]
        if len(block) > _BLOCK_MAX:
            half = len(block) // 2
            blocks.insert(number + 1, block[half:])
            self.firsts.insert(number + 1, block[half])
            del block[half:]

    def remove(self, entry_id: int) -> None:
        """Take out an id that is there."""
        number = bisect_right(self.firsts, entry_id) - 1
        block = self.blocks[number]
        position = bisect_left(block, entry_id)
        assert block[position] == entry_id
        self.size -= 1
        del block[position]
        if not block:
            del self.blocks[number]
            del self.firsts[number]
        elif position == 0:
            self.firsts[number] = block[0]

    def least(self) -> int:
        """The least id of a set that is not empty."""
        return self.firsts[0]

    def greatest(self) -> int:
        """The greatest id of a set that is not empty."""
        return self.blocks[-1][-1]

    def starting(self, entry_id: int, count_max: int) -> list[int]:
        """Up to ``count_max`` ids >= ``entry_id``, ascending."""
        out: list[int] = []
        number = max(bisect_right(self.firsts, entry_id) - 1, 0)
        while number < len(self.blocks) and len(out) < count_max:
            block = self.blocks[number]
            position = 0 if out else bisect_left(block, entry_id)
            out.extend(block[position : position + count_max - len(out)])
            number += 1
        return out


class Consumer:
    """``seen_ms``: last time it asked, ``active_ms``: last time it got something, -1 if never."""

    __slots__ = ("active_ms", "name", "pending", "seen_ms")

    def __init__(self, name: bytes, seen_ms: int, active_ms: int) -> None:
        self.name = name
        self.seen_ms = seen_ms
        self.active_ms = active_ms
        self.pending = IdSet()


class Pending:
    """An entry delivered to the consumer named ``owner`` at ``delivered_ms``, for the ``count``-th time."""

    __slots__ = ("count", "delivered_ms", "owner")

    def __init__(self, owner: bytes, delivered_ms: int, count: int) -> None:
        self.owner = owner
        self.delivered_ms = delivered_ms
        self.count = count


class Group:
    """``last_id``: the greatest id delivered; ``entries_read``: how many entries that makes, or READ_UNKNOWN."""

    __slots__ = ("consumers", "entries_read", "last_id", "order", "pending", "tracker")

    def __init__(self, last_id: int, entries_read: int) -> None:
        self.last_id = last_id
        self.entries_read = entries_read
        self.consumers: dict[bytes, Consumer] = {}
        self.pending: dict[int, Pending] = {}
        self.order = IdSet()
        # See touched.
        self.tracker: TouchedGroup | None = None

    # -- reading --------------------------------------------------------------------------------------------------

    def in_order(self) -> list[Consumer]:
        """The consumers by name, which is how upstream lists them."""
        return [self.consumers[name] for name in sorted(self.consumers)]

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content whatever the order of events."""
        out = [b"%d %d %d;" % (self.last_id, self.entries_read, len(self.consumers))]
        for consumer in self.in_order():
            out.append(netstring(consumer.name))
            out.append(b"%d %d %d;" % (consumer.seen_ms, consumer.active_ms, len(consumer.pending)))
            for entry_id in consumer.pending.starting(0, consumer.pending.size):
                pending = self.pending[entry_id]
                out.append(b"%d %d %d;" % (entry_id, pending.delivered_ms, pending.count))
        return b"".join(out)

    def copy(self) -> Group:
        """An independent group with the same content."""
        twin = Group(self.last_id, self.entries_read)
        for consumer in self.consumers.values():
            twin.consumers[consumer.name] = Consumer(consumer.name, consumer.seen_ms, consumer.active_ms)
        for entry_id in self.order.starting(0, self.order.size):
            pending = self.pending[entry_id]
            twin.own(entry_id, Pending(pending.owner, pending.delivered_ms, pending.count))
        return twin

    def follow(self) -> None:
        """Its rows are written: note what changes from now on."""
        self.tracker = TouchedGroup()

    # -- writing --------------------------------------------------------------------------------------------------

    def move(self, last_id: int, entries_read: int) -> None:
        """Set the cursor."""
        steps.append((self, _UNDO_CURSOR, self.last_id, self.entries_read))
        self.last_id = last_id
        self.entries_read = entries_read
        if self.tracker is not None:
            self.tracker.cursor = True

    def create(self, name: bytes, now_ms: int) -> Consumer:
        """A new consumer; there is none of that name."""
        consumer = Consumer(name, now_ms, -1)
        self.consumers[name] = consumer
        steps.append((self, _UNDO_CONSUMER, name, None))
        if self.tracker is not None:
            self.tracker.consumers[name] = None
        return consumer

    def delete(self, consumer: Consumer) -> int:
        """Remove a consumer with all that is pending for it; how many entries that were."""
        ids = consumer.pending.starting(0, consumer.pending.size)
        for entry_id in ids:
            self.drop(entry_id)
        del self.consumers[consumer.name]
        steps.append((self, _UNDO_CONSUMER, consumer.name, consumer))
        if self.tracker is not None:
            self.tracker.consumers[consumer.name] = None
        return len(ids)

    def seen(self, consumer: Consumer, now_ms: int) -> None:
        """The consumer asked."""
        steps.append((self, _UNDO_TIMES, consumer, (consumer.seen_ms, consumer.active_ms)))
        consumer.seen_ms = now_ms
        if self.tracker is not None:
            self.tracker.consumers[consumer.name] = None

    def active(self, consumer: Consumer, now_ms: int) -> None:
        """The consumer got something."""
        if consumer.active_ms != now_ms:
            steps.append((self, _UNDO_TIMES, consumer, (consumer.seen_ms, consumer.active_ms)))
            consumer.active_ms = now_ms
            if self.tracker is not None:
                self.tracker.consumers[consumer.name] = None

    def assign(self, entry_id: int, consumer: Consumer, delivered_ms: int, count: int) -> None:
        """Make an entry pending for ``consumer``, whoever had it before; ``count`` is 64 bits wide, as in RDB."""
        count &= _COUNT_MASK
        if self.tracker is not None:
            self.tracker.pending[entry_id] = None
        pending = self.pending.get(entry_id)
        if pending is None:
            self.own(entry_id, Pending(consumer.name, delivered_ms, count))
            steps.append((self, _UNDO_PENDING, entry_id, None))
            return
        steps.append((self, _UNDO_PENDING, entry_id, (pending.owner, pending.delivered_ms, pending.count)))
        self._reassign(entry_id, pending, consumer.name, delivered_ms, count)

    def drop(self, entry_id: int) -> None:
        """A pending entry is acknowledged, or gone."""
        pending = self.pending[entry_id]
        if self.tracker is not None:
            self.tracker.pending[entry_id] = None
        self._disown(entry_id, pending)
        steps.append((self, _UNDO_PENDING, entry_id, (pending.owner, pending.delivered_ms, pending.count)))

    # -- inside ---------------------------------------------------------------------------------------------------

    def own(self, entry_id: int, pending: Pending) -> None:
        """Add a pending entry without a journal step: to a new group that no stream holds yet, or to undo."""
        self.pending[entry_id] = pending
        self.order.add(entry_id)
        self.consumers[pending.owner].pending.add(entry_id)

    def _disown(self, entry_id: int, pending: Pending) -> None:
        del self.pending[entry_id]
        self.order.remove(entry_id)
        self.consumers[pending.owner].pending.remove(entry_id)

    def _reassign(self, entry_id: int, pending: Pending, owner: bytes, delivered_ms: int, count: int) -> None:
        if pending.owner != owner:
            self.consumers[pending.owner].pending.remove(entry_id)
            self.consumers[owner].pending.add(entry_id)
            pending.owner = owner
        pending.delivered_ms = delivered_ms
        pending.count = count

    def undo(self, op: int, a: Any, b: Any) -> None:
        """Revert one journal step."""
        tracker = self.tracker
        if op == _UNDO_CURSOR:
            self.last_id = a
            self.entries_read = b
            if tracker is not None:
                tracker.cursor = True
        elif op == _UNDO_TIMES:
            a.seen_ms, a.active_ms = b
            if tracker is not None:
                tracker.consumers[a.name] = None
        elif op == _UNDO_CONSUMER:
            if tracker is not None:
                tracker.consumers[a] = None
            if b is None:
                del self.consumers[a]
            else:
                self.consumers[a] = b
        else:
            assert op == _UNDO_PENDING
            if tracker is not None:
                tracker.pending[a] = None
            pending = self.pending.get(a)
            if b is None:
                assert pending is not None
                self._disown(a, pending)
            elif pending is None:
                self.own(a, Pending(b[0], b[1], b[2]))
            else:
                self._reassign(a, pending, b[0], b[1], b[2])
