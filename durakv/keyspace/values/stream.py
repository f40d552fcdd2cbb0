"""A stream: entries in order of their ids, in nodes, and the consumer groups that read it. [compiled]

Rule: every mutator journals its inverse. It knows neither keys nor time, and unlike other collections it may be empty.
``node_bytes_max`` and ``node_entries_max`` are stream-node-max-bytes and -entries at their defaults: what approximate
trimming removes depends on them, so they are the same on every node and no directive changes them.
Source: t_stream.c.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, ClassVar, Final

from durakv.keyspace.journal import steps
from durakv.keyspace.values.packed import netstring
from durakv.keyspace.values.streamgroup import READ_UNKNOWN, Group
from durakv.keyspace.values.streamnode import DELETED, SEQ_MASK, Node
from durakv.keyspace.values.streampack import signed64
from durakv.keyspace.values.touched import TouchedStream

ID_MAX: Final = (1 << 128) - 1
# More bytes of fields and values do not fit a listpack.
ENTRY_BYTES_MAX: Final = 1 << 30

_UNDO_APPEND: Final = 1
_UNDO_MARK: Final = 2
_UNDO_NODES: Final = 3
_UNDO_HEAD: Final = 4
_UNDO_GROUP: Final = 5
_KEY_BYTES: Final = 16


def format_id(entry_id: int) -> bytes:
    """``ms-seq``, as clients see an id."""
    seq = entry_id & SEQ_MASK
    return b"%d-%d" % (entry_id >> 64, seq) if seq else b"%d-0" % (entry_id >> 64)


class Stream:
    """``length`` counts live entries, ``entries_added`` all there ever were; ``max_deleted_id`` is the greatest id that
    XDEL removed. ``first_ids[i]`` is ``nodes[i].first_id``.
    """  # fmt: skip

    __slots__ = ("entries_added", "first_ids", "groups", "last_id", "length", "max_deleted_id", "nodes", "tracker")

    kind: ClassVar[bytes] = b"stream"
    node_bytes_max: Final = 4096
    node_entries_max: Final = 100

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.first_ids: list[int] = []
        self.length = 0
        self.last_id = 0
        self.max_deleted_id = 0
        self.entries_added = 0
        self.groups: dict[bytes, Group] = {}
        # See touched.
        self.tracker: TouchedStream | None = None

    def __len__(self) -> int:
        return self.length

    # -- reading --------------------------------------------------------------------------------------------------

    def first_live_id(self) -> int:
        """The least id of the entries; 0 when there are none."""
        if self.length:
            for node in self.nodes:
                if node.live:
                    return node.id_at(node.first_live())
        return 0

    def last_live_id(self) -> int:
        """The greatest id of the entries; 0 when there are none."""
        if self.length:
            for node in reversed(self.nodes):
                if node.live:
                    return node.id_at(node.last_live())
        return 0

    def get(self, entry_id: int) -> list[bytes] | None:
        """Field, value, ... of the entry with exactly this id, or None."""
        number = bisect_right(self.first_ids, entry_id) - 1
        if number < 0:
            return None
        node = self.nodes[number]
        position = node.find(entry_id)
        if position == node.count() or node.id_at(position) != entry_id or node.flags[position] & DELETED:
            return None
        return node.entry(position, bytes(node.data))

    def exists(self, entry_id: int) -> bool:
        """Whether there is an entry with exactly this id."""
        number = bisect_right(self.first_ids, entry_id) - 1
        if number < 0:
            return False
        node = self.nodes[number]
        position = node.find(entry_id)
        return position < node.count() and node.id_at(position) == entry_id and not node.flags[position] & DELETED

    def range(self, start: int, stop: int, count: int) -> list[tuple[int, list[bytes]]]:
        """(id, flat fields) of up to ``count`` entries (0: all) with start <= id <= stop, ascending."""
        out: list[tuple[int, list[bytes]]] = []
        number = max(bisect_right(self.first_ids, start) - 1, 0)
        nodes = self.nodes
        while number < len(nodes):
            node = nodes[number]
            flags = node.flags
            data = bytes(node.data)
            for i in range(node.find(start), len(flags)):
                if flags[i] & DELETED:
                    continue
                entry_id = node.id_at(i)
                if entry_id > stop:
                    return out
                out.append((entry_id, node.entry(i, data)))
                if len(out) == count:
                    return out
            number += 1
        return out

    def range_back(self, start: int, stop: int, count: int) -> list[tuple[int, list[bytes]]]:
        """As range(), descending from ``stop``."""
        out: list[tuple[int, list[bytes]]] = []
        number = bisect_right(self.first_ids, stop) - 1
        while number >= 0:
            node = self.nodes[number]
            flags = node.flags
            data = bytes(node.data)
            last = node.count() if stop == ID_MAX else node.find(stop + 1)
            for i in range(last - 1, -1, -1):
                if flags[i] & DELETED:
                    continue
                entry_id = node.id_at(i)
                if entry_id < start:
                    return out
                out.append((entry_id, node.entry(i, data)))
                if len(out) == count:
                    return out
            number -= 1
        return out

    def deleted_after(self, entry_id: int) -> bool:
        """Whether XDEL may have left a hole at or after ``entry_id``. Source: streamRangeHasTombstones()."""
        if not self.length or not self.max_deleted_id or self.first_live_id() > self.max_deleted_id:
            return False
        return entry_id <= self.max_deleted_id

    def count_through(self, entry_id: int) -> int:
        """How many entries were ever added up to ``entry_id``, or READ_UNKNOWN.

        Source: streamEstimateDistanceFromFirstEverEntry().
        """
        added = self.entries_added
        if not added:
            return 0
        if (not self.length and entry_id <= self.last_id) or entry_id == self.last_id:
            return added
        if entry_id > self.last_id:
            return READ_UNKNOWN
        first = self.first_live_id()
        if not self.max_deleted_id or self.max_deleted_id < first:
            if entry_id < first:
                return added - self.length
            if entry_id == first:
                return added - self.length + 1
        return READ_UNKNOWN

    def lag(self, group: Group) -> int | None:
        """How many entries the group has not got yet; None when that cannot be told. Source: streamReplyWithCGLag()."""
        if not self.entries_added:
            return 0
        if group.entries_read != READ_UNKNOWN and not self.deleted_after(group.last_id):
            return signed64(self.entries_added - group.entries_read)
        read = self.count_through(group.last_id)
        return None if read == READ_UNKNOWN else signed64(self.entries_added - read)

    def index_nodes(self) -> int:
        """How many nodes upstream's radix tree over the first ids would have, for XINFO. Source: rax.c raxInsert().

        Keys are 16 bytes. There is a node per key, per branching, and per stretch of bytes without one.
        """
        ids = self.first_ids
        if not ids:
            return 1
        count = 0
        open_depths: list[int] = []
        before = -1
        for i in range(len(ids)):
            after = -1
            if i + 1 < len(ids):
                after = (8 * _KEY_BYTES - (ids[i] ^ ids[i + 1]).bit_length()) // 8
            count += 1 if max(before, after) == _KEY_BYTES - 1 else 2
            while open_depths and open_depths[-1] > after:
                depth = open_depths.pop()
                parent = max(after, open_depths[-1] if open_depths else -1)
                count += 1 if depth == parent + 1 else 2
            if after >= 0 and (not open_depths or open_depths[-1] < after):
                open_depths.append(after)
            before = after
        return count

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows."""
        return b"stream"

    def canonical(self) -> bytes:
        """Content as bytes, deleted entries and the cut into nodes included: they decide what trimming removes."""
        out = [b"%d %d %d %d;" % (self.last_id, self.max_deleted_id, self.entries_added, len(self.nodes))]
        for node in self.nodes:
            out.append(b"%d " % node.first_id)
            out.append(netstring(node.as_listpack()))
        for name in sorted(self.groups):
            out.append(netstring(name))
            out.append(netstring(self.groups[name].canonical()))
        return b"".join(out)

    def copy(self) -> Stream:
        """An independent stream with the same content, nodes and groups."""
        twin = Stream()
        twin.nodes = [node.copy() for node in self.nodes]
        twin.first_ids = self.first_ids.copy()
        twin.length = self.length
        twin.last_id = self.last_id
        twin.max_deleted_id = self.max_deleted_id
        twin.entries_added = self.entries_added
        for name, group in self.groups.items():
            twin.groups[name] = group.copy()
        return twin

    # -- writing --------------------------------------------------------------------------------------------------

    def append(self, entry_id: int, flat: list[bytes]) -> None:
        """Add an entry with an id above ``last_id``: field, value, field, value, ..."""
        node = self.nodes[-1] if self.nodes else None
        if node is not None:
            size = 0
            for text in flat:
                size += len(text)
            if node.listpack_size() + size >= Stream.node_bytes_max or node.count() >= Stream.node_entries_max:
                node = None
        if node is None:
            node = Node(entry_id, flat[::2])
            self.nodes.append(node)
            self.first_ids.append(entry_id)
        steps.append((self, _UNDO_APPEND, node.size, self.last_id))
        if self.tracker is not None:
            self.tracker.nodes[node.first_id] = None
        node.append(entry_id, flat)
        self.length += 1
        added = self.entries_added + 1
        # 64 bits wide, as upstream and RDB have it.
        self.entries_added = 0 if added >> 64 else added
        self.last_id = entry_id

    def delete(self, entry_id: int) -> bool:
        """Remove one entry for XDEL; False when it is not there."""
        if not self.exists(entry_id):
            return False
        number = bisect_right(self.first_ids, entry_id) - 1
        node = self.nodes[number]
        if node.live == 1:
            self._remove_nodes(number, number + 1)
        else:
            self._mark(node, node.find(entry_id))
        if entry_id > self.max_deleted_id:
            self.set_head(self.last_id, entry_id, self.entries_added)
        return True

    def trim_length(self, length_max: int, approximate: bool, limit: int) -> int:
        """Remove entries from the head until ``length_max`` are left; how many went.

        Approximate: whole nodes only, and no more than ``limit`` entries unless that is 0. Source: streamTrim().
        """
        lives: list[int] = []
        left = self.length
        for node in self.nodes:
            if left <= length_max:
                break
            left -= node.live
            if left < length_max:
                break
            lives.append(node.live)
        removed = self._trim_nodes(lives, limit)
        if approximate or self.length <= length_max:
            return removed
        node = self.nodes[0]
        position = 0
        while self.length > length_max:
            if not node.flags[position] & DELETED:
                self._mark(node, position)
                removed += 1
            position += 1
        return removed

    def trim_below(self, id_min: int, approximate: bool, limit: int) -> int:
        """Remove entries with ids below ``id_min``; how many went. ``approximate``, ``limit`` as in trim_length()."""
        lives: list[int] = []
        for node in self.nodes:
            if node.id_at(node.count() - 1) >= id_min:
                break
            lives.append(node.live)
        removed = self._trim_nodes(lives, limit)
        if approximate or not self.nodes:
            return removed
        node = self.nodes[0]
        for position in range(node.find(id_min)):
            if not node.flags[position] & DELETED:
                self._mark(node, position)
                removed += 1
        return removed

    def set_head(self, last_id: int, max_deleted_id: int, entries_added: int) -> None:
        """Set what XSETID sets."""
        steps.append((self, _UNDO_HEAD, (self.last_id, self.max_deleted_id, self.entries_added), None))
        if self.tracker is not None and last_id < self.last_id:
            self.tracker.rewound = True
        self.last_id = last_id
        self.max_deleted_id = max_deleted_id
        self.entries_added = entries_added

    def create_group(self, name: bytes, last_id: int, entries_read: int) -> None:
        """Add a consumer group; there is none of that name."""
        self.groups[name] = Group(last_id, entries_read)
        steps.append((self, _UNDO_GROUP, name, None))
        if self.tracker is not None:
            self.tracker.made(name)

    def destroy_group(self, name: bytes) -> None:
        """Remove an existing consumer group."""
        gone = self.groups.pop(name)
        steps.append((self, _UNDO_GROUP, name, gone))
        if self.tracker is not None:
            self.tracker.removed(name, gone)

    def _trim_nodes(self, lives: list[int], limit: int) -> int:
        """Remove the leading nodes whose live entries ``lives`` counts, as far as ``limit`` goes; how many went."""
        removed = 0
        count = 0
        for live in lives:
            if limit and removed + live > limit:
                break
            removed += live
            count += 1
        if count:
            self._remove_nodes(0, count)
        return removed

    def _remove_nodes(self, start: int, stop: int) -> None:
        gone = self.nodes[start:stop]
        steps.append((self, _UNDO_NODES, start, gone))
        del self.nodes[start:stop]
        del self.first_ids[start:stop]
        for node in gone:
            self.length -= node.live
            if self.tracker is not None:
                self.tracker.nodes[node.first_id] = None
                if start:
                    for i in range(node.count()):
                        self.tracker.gone[node.id_at(i)] = None

    def _mark(self, node: Node, position: int) -> None:
        steps.append((self, _UNDO_MARK, node, position))
        node.mark(position)
        self.length -= 1
        if self.tracker is not None:
            self.tracker.nodes[node.first_id] = None

    def undo(self, op: int, a: Any, b: Any) -> None:
        """Revert one journal step."""
        tracker = self.tracker
        if op == _UNDO_APPEND:
            node = self.nodes[-1]
            if tracker is not None:
                tracker.nodes[node.first_id] = None
            if node.count() == 1:
                self.nodes.pop()
                self.first_ids.pop()
            else:
                node.unappend(a)
            self.length -= 1
            self.entries_added = self.entries_added - 1 & SEQ_MASK
            self.last_id = b
        elif op == _UNDO_MARK:
            a.unmark(b)
            self.length += 1
            if tracker is not None:
                tracker.nodes[a.first_id] = None
        elif op == _UNDO_NODES:
            self.nodes[a:a] = b
            self.first_ids[a:a] = [node.first_id for node in b]
            for node in b:
                self.length += node.live
                if tracker is not None:
                    tracker.nodes[node.first_id] = None
        elif op == _UNDO_HEAD:
            self.last_id, self.max_deleted_id, self.entries_added = a
        else:
            assert op == _UNDO_GROUP
            if b is None:
                gone = self.groups.pop(a)
                if tracker is not None:
                    tracker.removed(a, gone)
            else:
                self.groups[a] = b
                if tracker is not None:
                    tracker.made(a)
