"""What a frame changed, as commands any Redis 7.0 or Valkey understands: final states, never what a client had asked.

A small value travels whole, as RESTORE takes it; of a large collection only the elements that differ. A frame's
commands go as one transaction, so that whoever follows is always at the state of one log index.
Rule: a checkpoint.capture_listener.Listener; reads no clock, and no command it makes does.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from durakv.engine.beside import LIBRARIES, unpacked
from durakv.keyspace.dump import dump_body
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.touched import Touched, TouchedChunks, TouchedEnds
from durakv.keyspace.values.zset import ZSet
from durakv.keyspace.written import CHUNK_BYTES
from durakv.rdb.values import sealed
from durakv.replicas.effects_stream import stream_changes
from durakv.replicas.wire import EXEC, MULTI, batches, command

# A collection with more elements, or more bytes, goes as commands that build it up.
_RESTORE_ELEMENTS_MAX: Final = 512
_RESTORE_BYTES_MAX: Final = 1 << 20
_STRINGS: Final = (bytes, bytearray)

# (index, bytes of the frame's commands, empty when there are none)
OnFrame = Callable[[int, bytes], None]


class Effects:
    """``field_deadlines``: whoever reads this knows deadlines of hash fields (Valkey 9 and later)."""

    def __init__(self, on_frame: OnFrame, *, field_deadlines: bool) -> None:
        self.on_frame = on_frame
        self.field_deadlines = field_deadlines
        # Hashes whose fields' deadlines could not be told.
        self.deadlines_untold = 0
        self._out: list[bytes] = []
        # Commands in it, SELECT not counted.
        self._count = 0
        self._number = 0
        # What the stream has selected; -1: whoever begins here has to be told.
        self._selected = -1
        # Deadlines replicas have, of keys stored element by element.
        self._known: dict[int, int] = {}
        self._libraries: dict[bytes, bytes] | None = None

    def select_again(self) -> None:
        """Somebody begins to read between two frames."""
        self._selected = -1

    # -- Listener ----------------------------------------------------------------------------------------------------

    def remapped(self, before: list[int], after: list[int]) -> None:
        """See Listener."""
        self._known.clear()
        now = list(before)
        if not any(phys in before for phys in after):
            self._add(command([b"FLUSHALL"]))
            return
        for number, wanted in enumerate(after):
            while now[number] != wanted:
                if wanted in now:
                    other = now.index(wanted)
                elif now[number] in after:
                    # What is here now is wanted elsewhere.
                    other = after.index(now[number])
                else:
                    self.database(number)
                    self._put([b"FLUSHDB"])
                    now[number] = wanted
                    break
                self._add(command([b"SWAPDB", b"%d" % number, b"%d" % other]))
                now[number], now[other] = now[other], now[number]

    def database(self, number: int) -> None:
        """See Listener."""
        self._number = number

    def changed(
        self, key: bytes, value: object, expire_ms: int, stored_kid: int, stored_chunks: TouchedChunks | None
    ) -> None:
        """See Listener."""
        if type(value) is bytes and not stored_kid:
            self._string(key, value, expire_ms)
        elif value is None:
            self._known.pop(stored_kid, None)
            self._put([b"DEL", key])
        elif isinstance(value, _STRINGS):
            if stored_chunks is not None and stored_chunks.text is value and stored_chunks.kid == stored_kid:
                self._deadline(key, stored_kid, expire_ms)
            else:
                self._known.pop(stored_kid, None)
                self._string(key, bytes(value), expire_ms)
        elif stored_kid and self._elements(key, value, stored_kid):
            self._deadline(key, stored_kid, expire_ms)
        else:
            self._known.pop(stored_kid, None)
            self._whole(key, value, expire_ms)

    def patched(self, key: bytes, value: bytearray, numbers: dict[int, None], stored_length: int) -> None:
        """See Listener."""
        count = (len(value) + CHUNK_BYTES - 1) // CHUNK_BYTES
        if len(value) < stored_length:
            # Only an append that was undone leaves less; the deadline stays.
            self._put([b"SET", key, bytes(value), b"KEEPTTL"])
            return
        for number in numbers:
            if number < count:
                at = number * CHUNK_BYTES
                self._put([b"SETRANGE", key, b"%d" % at, bytes(value[at : at + CHUNK_BYTES])])

    def beside(self, name: bytes, blob: bytes | None) -> None:
        """See Listener."""
        if name != LIBRARIES:
            return
        now: dict[bytes, bytes] = {}
        for part in unpacked(blob) if blob is not None else []:
            library, code, *_ = unpacked(part)
            now[library] = code
        before = self._libraries
        self._libraries = now
        if before is None:
            self._add(command([b"FUNCTION", b"FLUSH", b"SYNC"]))
            before = {}
        for library in before:
            if library not in now:
                self._add(command([b"FUNCTION", b"DELETE", library]))
        for library, code in now.items():
            if before.get(library) != code:
                self._add(command([b"FUNCTION", b"LOAD", b"REPLACE", code]))

    def frame_ends(self, index: int) -> None:
        """See Listener."""
        if not self._out:
            self.on_frame(index, b"")
            return
        if self._count > 1:
            data = b"".join([MULTI, *self._out, EXEC])
        else:
            data = b"".join(self._out)
        self._out = []
        self._count = 0
        self.on_frame(index, data)

    # -- commands ----------------------------------------------------------------------------------------------------

    def _add(self, wire: bytes) -> None:
        self._out.append(wire)
        self._count += 1

    def _put(self, words: list[bytes]) -> None:
        """A command about the current database."""
        self._select()
        self._out.append(command(words))
        self._count += 1

    def _put_all(self, wires: list[bytes]) -> None:
        if wires:
            self._select()
            self._out += wires
            self._count += len(wires)

    def _select(self) -> None:
        if self._selected != self._number:
            self._selected = self._number
            self._out.append(command([b"SELECT", b"%d" % self._number]))

    def _deadline(self, key: bytes, kid: int, expire_ms: int) -> None:
        """Of a key whose value was not replaced."""
        known = self._known.get(kid, -2)
        if known == expire_ms:
            return
        self._known[kid] = expire_ms
        if expire_ms >= 0:
            self._put([b"PEXPIREAT", key, b"%d" % expire_ms])
        else:
            self._put([b"PERSIST", key])

    def _string(self, key: bytes, value: bytes, expire_ms: int) -> None:
        if expire_ms < 0:
            # By far the most frequent change.
            if self._selected != self._number:
                self._select()
            self._out.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value))
            self._count += 1
        else:
            self._put([b"SET", key, value, b"PXAT", b"%d" % expire_ms])

    # -- values ------------------------------------------------------------------------------------------------------

    def _whole(self, key: bytes, value: object, expire_ms: int) -> None:
        if isinstance(value, Stream) or _size(value) <= _RESTORE_ELEMENTS_MAX:
            data, version = dump_body(value, redis_7_0=True)
            if isinstance(value, Stream) or len(data) <= _RESTORE_BYTES_MAX:
                at = b"%d" % max(expire_ms, 0)
                self._put([b"RESTORE", key, at, sealed(data, version), b"REPLACE", b"ABSTTL"])
                if isinstance(value, Hash):
                    self._field_deadlines(key, value, list(value.fields))
                return
        self._put([b"DEL", key])
        if isinstance(value, Hash):
            flat = [word for pair in value.fields.items() for word in pair]
            self._put_all(batches([b"HSET", key], flat, 2))
            self._field_deadlines(key, value, list(value.fields))
        elif isinstance(value, SetValue):
            self._put_all(batches([b"SADD", key], value.members, 1))
        elif isinstance(value, ZSet):
            pairs = [word for member, score in value.scores.items() for word in (_score(score), member)]
            self._put_all(batches([b"ZADD", key], pairs, 2))
        else:
            assert isinstance(value, ListValue)
            self._put_all(batches([b"RPUSH", key], list(value.items), 1))
        if expire_ms >= 0:
            self._put([b"PEXPIREAT", key, b"%d" % expire_ms])

    def _elements(self, key: bytes, value: object, stored_kid: int) -> bool:
        """What of a large value differs; False when it has to be told whole."""
        if isinstance(value, Hash):
            if value.tracker is None or value.tracker.kid != stored_kid:
                return False
            self._hash(key, value, value.tracker)
            return True
        if isinstance(value, ZSet):
            if value.tracker is None or value.tracker.kid != stored_kid:
                return False
            self._zset(key, value, value.tracker)
            return True
        if isinstance(value, SetValue):
            tracker = value.tracker
            if tracker is None or tracker.kid != stored_kid:
                return False
            members = value.members
            new = [members[place] for place in tracker.places if place < len(members)]
            self._put_all(batches([b"SADD", key], new, 1))
            gone = [member for member in tracker.gone if member not in value.positions]
            self._put_all(batches([b"SREM", key], gone, 1))
            return True
        if isinstance(value, ListValue):
            ends = value.tracker
            return ends is not None and ends.kid == stored_kid and not ends.whole and self._list(key, value, ends)
        assert isinstance(value, Stream)
        marks = value.tracker
        if marks is None or marks.kid != stored_kid:
            return False
        commands = stream_changes(key, value, marks)
        if commands is None:
            return False
        self._put_all(commands)
        return True

    def _hash(self, key: bytes, value: Hash, tracker: Touched) -> None:
        gone: list[bytes] = []
        there: list[bytes] = []
        flat: list[bytes] = []
        for field in tracker.marks:
            text = value.fields.get(field)
            if text is None:
                gone.append(field)
            else:
                there.append(field)
                flat += (field, text)
        # New ones first, here and below: a collection that is empty for a moment loses its deadline.
        self._put_all(batches([b"HSET", key], flat, 2))
        self._put_all(batches([b"HDEL", key], gone, 1))
        self._field_deadlines(key, value, there)

    def _field_deadlines(self, key: bytes, value: Hash, fields: list[bytes]) -> None:
        if value.deadlines is None:
            return
        if not self.field_deadlines:
            self.deadlines_untold += 1
            return
        by_time: dict[int, list[bytes]] = {}
        for field in fields:
            at_ms = value.deadline(field)
            if at_ms >= 0:
                by_time.setdefault(at_ms, []).append(field)
        for at_ms, some in by_time.items():
            self._put([b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"%d" % len(some), *some])

    def _zset(self, key: bytes, value: ZSet, tracker: Touched) -> None:
        gone: list[bytes] = []
        flat: list[bytes] = []
        for member in tracker.marks:
            score = value.scores.get(member)
            if score is None:
                gone.append(member)
            else:
                flat += (_score(score), member)
        self._put_all(batches([b"ZADD", key], flat, 2))
        self._put_all(batches([b"ZREM", key], gone, 1))

    def _list(self, key: bytes, value: ListValue, tracker: TouchedEnds) -> bool:
        """Pops, replaced elements, pushes; False when nothing of the old list is left."""
        items = value.items
        head = tracker.head
        tail = head + len(items)
        core_head = max(tracker.core_head, head)
        core_tail = min(tracker.core_tail, tail)
        if core_head >= core_tail:
            return False
        if core_head > tracker.stored_head:
            self._put([b"LPOP", key, b"%d" % (core_head - tracker.stored_head)])
        if core_tail < tracker.stored_tail:
            self._put([b"RPOP", key, b"%d" % (tracker.stored_tail - core_tail)])
        for position in tracker.places:
            if core_head <= position < core_tail:
                self._put([b"LSET", key, b"%d" % (position - core_head), items[position - head]])
        if head < core_head:
            before = list(islice(items, core_head - head))
            before.reverse()
            self._put_all(batches([b"LPUSH", key], before, 1))
        if core_tail < tail:
            behind = list(islice(reversed(items), tail - core_tail))
            behind.reverse()
            self._put_all(batches([b"RPUSH", key], behind, 1))
        return True


def _size(value: object) -> int:
    if isinstance(value, Hash):
        return len(value.fields)
    if isinstance(value, ListValue):
        return len(value.items)
    assert isinstance(value, (SetValue, ZSet))
    return len(value)


def _score(score: float) -> bytes:
    return repr(score).encode()
