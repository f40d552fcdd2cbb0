"""What changed since the last frame, as the next frame: the server's side of the effect stream. [compiled]

Applying an entry only marks keys (keyspace/written.py) and elements (values/touched.py). Now and then, between two
entries, their state is written down: what was changed many times since then costs once.
Rule: the only place that turns marks into row changes and clears them. It must not know files or what becomes of a
frame; whoever loses one has to begin again with a checkpoint.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from durakv.checkpoint import elements, images, ops
from durakv.checkpoint.capture_stream import write_stream
from durakv.checkpoint.frames import build_frame
from durakv.keyspace.slots import slot_of
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.touched import FRESH, Touched, TouchedChunks, TouchedEnds, TouchedPlaces, TouchedStream
from durakv.keyspace.values.zset import ZSet

if TYPE_CHECKING:
    from durakv.checkpoint.capture_listener import Listener
    from durakv.engine.beside import Beside
    from durakv.keyspace.keyspace import Db, Keyspace
    from durakv.keyspace.written import Written


class Capture:
    """Follows ``ks`` from ``index`` on; ``next_kid``, and ``ks.next_phys``, are numbers no row ever bore."""

    def __init__(self, ks: Keyspace, beside: Beside, index: int, next_kid: int) -> None:
        self.ks = ks
        self.beside = beside
        self.index = index
        self.next_kid = next_kid
        # Set while replicas follow this node.
        self.listener: Listener | None = None
        self.out: list[bytes] = []
        self.leaving: dict[int, None] = {}
        self.staying: dict[int, None] = {}
        # By physical number, as the rows have them.
        self.mapped: dict[int, Written] = {}
        # The first frame always says.
        self.map: list[int] = []
        for db in ks.dbs:
            assert db.written is not None, "Keyspace.write_down() comes first"
            self.mapped[db.written.phys] = db.written

    def frame(self, index: int, term: int, subterm: int, chain: int) -> bytes:
        """All that changed up to ``index``, the last entry applied, as a frame that goes on from the last one."""
        out = self.out
        if self.listener is not None:
            self._tell_map(self.listener)
        physical: list[int] = []
        for db in self.ks.dbs:
            written = db.written
            assert written is not None
            physical.append(written.phys)
            if written.dirty or written.patches or written.dead or written.arrived:
                if self.listener is not None:
                    self.listener.database(db.number)
                self._database(db, written)
        if physical != self.map:
            self._map(physical)
        for kid in self.leaving:
            if kid not in self.staying:
                ops.kid_dead(out, kid)
        if self.leaving:
            self.leaving = {}
        if self.staying:
            self.staying = {}
        for name, blob in self.beside.changes():
            if blob is None:
                ops.delete_aux(out, name)
            else:
                ops.put_aux(out, name, blob)
            if self.listener is not None:
                self.listener.beside(name, blob)
        if self.listener is not None:
            self.listener.frame_ends(index)
        body = b"".join(out)
        out.clear()
        made = build_frame(self.index, index, term, subterm, chain, self.ks.log_ms, 0, body)
        self.index = index
        return made

    def _tell_map(self, listener: Listener) -> None:
        """Commands for keys come after those for whole databases, other than in a frame."""
        physical: list[int] = []
        for db in self.ks.dbs:
            assert db.written is not None
            physical.append(db.written.phys)
        # In the order of the databases; ``map`` says nothing before the first frame.
        before = list(self.mapped)
        if physical != before:
            listener.remapped(before, physical)

    def _map(self, physical: list[int]) -> None:
        """Databases were swapped or emptied."""
        self.map = physical
        ops.db_map(self.out, physical)
        now: dict[int, Written] = {}
        for db in self.ks.dbs:
            written = db.written
            assert written is not None
            now[written.phys] = written
        for phys, written in self.mapped.items():
            if phys not in now:
                for key, kid in written.kids.items():
                    if kid in self.staying:
                        # The value moved to another database before this one was emptied.
                        ops.delete_key(self.out, phys, slot_of(key), key)
                ops.db_dead(self.out, phys)
        self.mapped = now

    # -- keys --------------------------------------------------------------------------------------------------------

    def _database(self, db: Db, written: Written) -> None:
        dirty = written.dirty
        if written.dead:
            self._dead(written)
        if written.arrived and self.listener is not None:
            # Whoever follows key by key has not heard of them.
            for slot in written.arrived:
                for key in db.slots[slot] or ():
                    dirty[key] = None
        # Without deadlines and rows of elements a string is all there is to its key.
        plain = not db.nexp and not written.kids and self.listener is None
        out = self.out
        for key, known in dirty.items():
            if plain and type(known) is bytes and len(known) <= images.STRING_BYTES_MAX:
                ops.put_key(out, written.phys, slot_of(key), -1, key, b"\x00" + known)
            else:
                self._key(db, written, key)
                plain = plain and not written.kids
        if written.patches:
            for key, numbers in written.patches.items():
                if key not in dirty:
                    self._patched(db, written, key, numbers)
            written.patches = {}
        written.dirty = {}
        if written.arrived:
            written.arrived = {}

    def _dead(self, written: Written) -> None:
        """All rows of some slots go; what is dirty is written behind that."""
        dead = written.dead
        dirty = written.dirty
        written.dead = {}
        listener = self.listener
        if listener is not None:
            for slot, seen in dead.items():
                for key in seen or ():
                    if key not in dirty or slot in written.staged:
                        listener.changed(key, None, -1, written.kids.get(key, 0), written.chunks.get(key))
        for key in dirty:
            if slot_of(key) in dead:
                # The string it held when it was marked may be gone.
                dirty[key] = None
        for key in list(written.kids):
            if key not in dirty and slot_of(key) in dead:
                del written.kids[key]
                written.chunks.pop(key, None)
        for key in list(written.patches):
            if slot_of(key) in dead:
                del written.patches[key]
        first = last = -2
        for slot in sorted(dead):
            if slot != last + 1:
                if last >= 0:
                    ops.slots_dead(self.out, written.phys, first, last)
                first = slot
            last = slot
        ops.slots_dead(self.out, written.phys, first, last)

    def _key(self, db: Db, written: Written, key: bytes) -> None:
        out = self.out
        slot = slot_of(key)
        mapping = db.slots[slot]
        value = None if mapping is None else mapping.get(key)
        deadlines = db.exps[slot]
        hidden = False
        if value is None and slot in written.staged:
            staged = written.staged[slot]
            mapping = staged.slots[slot]
            value = None if mapping is None else mapping.get(key)
            deadlines = staged.exps[slot]
            hidden = True
        expire_ms = -1 if deadlines is None else deadlines.get(key, -1)
        if self.listener is not None and not hidden:
            if slot in written.arrived:
                self.listener.changed(key, value, expire_ms, 0, None)
            else:
                self.listener.changed(key, value, expire_ms, written.kids.get(key, 0), written.chunks.get(key))
        if type(value) is bytes and len(value) <= images.STRING_BYTES_MAX and not written.kids:
            ops.put_key(out, written.phys, slot, expire_ms, key, b"\x00" + value)
            return
        old_kid = written.kids.pop(key, 0) if written.kids else 0
        kid = 0
        if value is None:
            ops.delete_key(out, written.phys, slot, key)
        else:
            kid = self._elements(written, key, value)
            if kid:
                tracker: object = written.chunks[key] if type(value) in _STRINGS else value.tracker  # type: ignore[attr-defined]
                image = elements.large(value, tracker)
            else:
                image = images.small(value)
            ops.put_key(out, written.phys, slot, expire_ms, key, image)
        if kid:
            written.kids[key] = kid
            self.staying[kid] = None
        if old_kid and old_kid != kid:
            self.leaving[old_kid] = None

    def _patched(self, db: Db, written: Written, key: bytes, numbers: dict[int, None]) -> None:
        """Some chunks of a large string changed, and nothing else of its key."""
        slot = slot_of(key)
        mapping = db.slots[slot]
        value = None if mapping is None else mapping.get(key)
        assert type(value) is bytearray, "a patched string is replaced only by a change of its key"
        tracker = written.chunks[key]
        if self.listener is not None:
            self.listener.patched(key, value, numbers, tracker.length)
        stored = (tracker.length + elements.CHUNK_BYTES - 1) // elements.CHUNK_BYTES
        count = (len(value) + elements.CHUNK_BYTES - 1) // elements.CHUNK_BYTES
        for number in numbers:
            if number < count:
                ops.insert_element(
                    self.out, tracker.kid, 0, elements.chunk_key(number), elements.chunk_value(value, number)
                )
        for number in range(count, stored):
            # What an undone append had added.
            ops.remove_element(self.out, tracker.kid, elements.chunk_key(number))
        tracker.length = len(value)
        deadlines = db.exps[slot]
        expire_ms = -1 if deadlines is None else deadlines.get(key, -1)
        ops.put_key(self.out, written.phys, slot, expire_ms, key, elements.large(value, tracker))

    # -- elements ----------------------------------------------------------------------------------------------------

    def _new_kid(self) -> int:
        kid = self.next_kid
        self.next_kid = kid + 1
        return kid

    def _all(self, value: object, tracker: object, kid: int) -> int:
        """Every element of a value that has no rows under ``kid`` yet; how many."""
        order = 0
        for name, text in elements.elements(value, tracker):
            ops.insert_element(self.out, kid, order, name, text)
            order += 1
        return order

    def _elements(self, written: Written, key: bytes, value: object) -> int:
        """Bring the element rows of a value up to date; its kid, 0 for one that is stored whole."""
        cls = type(value)
        if cls is Hash:
            assert isinstance(value, Hash)
            return self._hash(value)
        if cls is ListValue:
            assert isinstance(value, ListValue)
            return self._list(value)
        if cls is SetValue:
            assert isinstance(value, SetValue)
            return self._set(value)
        if cls is ZSet:
            assert isinstance(value, ZSet)
            return self._zset(value)
        if cls is Stream:
            assert isinstance(value, Stream)
            return self._stream(value)
        assert isinstance(value, (bytes, bytearray))
        return self._string(written, key, value)

    def _string(self, written: Written, key: bytes, value: bytes | bytearray) -> int:
        known = written.chunks.pop(key, None)
        if not images.is_large(value):
            return 0
        if known is not None and known.text is value:
            # Only its deadline differs.
            written.chunks[key] = known
            return known.kid
        tracker = TouchedChunks(self._new_kid(), len(value), value if type(value) is bytes else None)
        written.chunks[key] = tracker
        self._all(value, tracker, tracker.kid)
        return tracker.kid

    def _hash(self, value: Hash) -> int:
        tracker = value.tracker
        if tracker is None:
            if not images.is_large(value):
                return 0
            kid = self._new_kid()
            tracker = Touched(kid, 0)
            tracker.next_order = self._all(value, tracker, kid)
            value.tracker = tracker
            return kid
        kid = tracker.kid
        if tracker.marks:
            out = self.out
            fields = value.fields
            for field, mark in tracker.marks.items():
                if field not in fields:
                    ops.remove_element(out, kid, field)
                elif mark == FRESH:
                    ops.insert_element(out, kid, tracker.next_order, field, elements.field_value(value, field))
                    tracker.next_order += 1
                else:
                    ops.update_element(out, kid, field, elements.field_value(value, field))
            tracker.clear()
        return kid

    def _zset(self, value: ZSet) -> int:
        tracker = value.tracker
        if tracker is None:
            if not images.is_large(value):
                return 0
            kid = self._new_kid()
            tracker = Touched(kid, 0)
            tracker.next_order = self._all(value, tracker, kid)
            value.tracker = tracker
            return kid
        kid = tracker.kid
        if tracker.marks:
            out = self.out
            scores = value.scores
            for member, mark in tracker.marks.items():
                score = scores.get(member)
                if score is None:
                    ops.remove_element(out, kid, member)
                elif mark == FRESH:
                    ops.insert_element(out, kid, tracker.next_order, member, elements.score_value(score))
                    tracker.next_order += 1
                else:
                    ops.update_element(out, kid, member, elements.score_value(score))
            tracker.clear()
        return kid

    def _set(self, value: SetValue) -> int:
        tracker = value.tracker
        members = value.members
        length = len(members)
        if tracker is None:
            if not images.is_large(value):
                return 0
            kid = self._new_kid()
            tracker = TouchedPlaces(kid, length)
            value.tracker = tracker
            self._all(value, tracker, kid)
            return kid
        kid = tracker.kid
        out = self.out
        for place in tracker.places:
            if place < length:
                ops.insert_element(out, kid, 0, elements.place_key(place), members[place])
        for place in range(length, tracker.length):
            ops.remove_element(out, kid, elements.place_key(place))
        tracker.clear(length)
        return kid

    def _list(self, value: ListValue) -> int:
        tracker = value.tracker
        length = len(value.items)
        if tracker is None or tracker.whole:
            if tracker is None and not images.is_large(value):
                return 0
            kid = self._new_kid()
            tracker = TouchedEnds(kid, 0, length)
            value.tracker = tracker
            self._all(value, tracker, kid)
            return kid
        kid = tracker.kid
        head = tracker.head
        tail = head + length
        for position in range(tracker.stored_head, min(head, tracker.stored_tail)):
            ops.remove_element(self.out, kid, elements.position_key(position))
        for position in range(max(tail, tracker.stored_head), tracker.stored_tail):
            ops.remove_element(self.out, kid, elements.position_key(position))
        core_head = max(tracker.core_head, head)
        core_tail = min(tracker.core_tail, tail)
        if core_head >= core_tail:
            self._span(value, tracker, head, tail)
        else:
            self._span(value, tracker, head, core_head)
            for position in tracker.places:
                if core_head <= position < core_tail:
                    self._span(value, tracker, position, position + 1)
            self._span(value, tracker, core_tail, tail)
        tracker.clear(length)
        return kid

    def _span(self, value: ListValue, tracker: TouchedEnds, start: int, stop: int) -> None:
        """The elements at positions ``start`` up to ``stop``."""
        if start >= stop:
            return
        kid = tracker.kid
        head = tracker.head
        items = value.items
        if stop - start == 1:
            ops.insert_element(self.out, kid, 0, elements.position_key(start), items[start - head])
        elif start - head <= len(items) - (stop - head):
            position = start
            for item in islice(items, start - head, stop - head):
                ops.insert_element(self.out, kid, 0, elements.position_key(position), item)
                position += 1
        else:
            # Nearer to the tail.
            position = stop
            end = head + len(items)
            for item in islice(reversed(items), end - stop, end - start):
                position -= 1
                ops.insert_element(self.out, kid, 0, elements.position_key(position), item)

    def _stream(self, value: Stream) -> int:
        tracker = value.tracker
        if tracker is None:
            if not images.is_large(value):
                return 0
            kid = self._new_kid()
            tracker = TouchedStream(kid)
            value.tracker = tracker
            self._all(value, tracker, kid)
            tracker.clear(value.last_id, value.max_deleted_id, value.entries_added)
            for group in value.groups.values():
                group.follow()
            return kid
        write_stream(self.out, value, tracker)
        return tracker.kid


_STRINGS: Final = (bytes, bytearray)
