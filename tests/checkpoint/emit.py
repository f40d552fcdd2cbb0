"""A keyspace, changed through its own mutators, and the ops that tell of each change: the server's part, in short."""

from __future__ import annotations

from random import Random
from typing import Any

from durakv.checkpoint import elements, images, ops
from durakv.keyspace import journal
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.slots import slot_of
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.touched import FRESH, Touched, TouchedChunks, TouchedEnds, TouchedPlaces, TouchedStream
from durakv.keyspace.values.zset import ZSet

from .values import a_value, facts, text

DATABASES = 4


class Source:
    """``take()`` yields the ops of all changes since the last time; ``index`` counts these times."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.ks = Keyspace(DATABASES)
        self.ks.writing = True
        self.physical = list(range(DATABASES))
        self.next_phys = DATABASES
        self.next_kid = 1
        self.aux: dict[bytes, bytes] = {}
        self._out: list[bytes] = []
        self.count = 0
        # Values with rows, by their identity, so that renaming keeps them: (value, tracker)
        self._stored: dict[int, tuple[object, object]] = {}
        self._held: dict[tuple[int, bytes], int] = {}
        self._dirty: dict[tuple[int, bytes], None] = {}
        # What rows a stream has.
        self._rows: dict[int, dict[bytes, bytes]] = {}

    # -- changes ----------------------------------------------------------------------------------------------------

    def change(self) -> None:
        rng = self.rng
        n = rng.randrange(DATABASES)
        db = self.ks.dbs[n]
        keys = [key for d in db.slots if d for key in d]
        choice = rng.random()
        if choice < 0.45 or not keys:
            key = rng.choice([b"", b"k%d" % rng.randrange(12), b"{t}%d" % rng.randrange(5), text(rng), b"K" * 401])
            db.put(key, a_value(rng))
            if rng.random() < 0.3:
                db.set_expiry(key, rng.randrange(1, 1 << 41))
        elif choice < 0.55:
            key = rng.choice(keys)
            db.remove(key)
        elif choice < 0.65:
            key = rng.choice(keys)
            if db.expiry(key) < 0:
                db.set_expiry(key, rng.randrange(1, 1 << 41))
            else:
                db.clear_expiry(key)
        elif choice < 0.92:
            key = rng.choice(keys)
            self.alter(n, key)
        elif choice < 0.95:
            self.flush(n)
            return
        elif choice < 0.97:
            other = (n + 1) % DATABASES
            self.settle()
            self.ks.swap(n, other)
            p = self.physical
            p[n], p[other] = p[other], p[n]
            swapped = {n: other, other: n}
            self._held = {(swapped.get(d, d), k): v for (d, k), v in self._held.items()}
            self._add(ops.db_map, p)
            journal.steps.clear()
            return
        else:
            name = b"aux%d" % rng.randrange(4)
            if name in self.aux and rng.random() < 0.5:
                del self.aux[name]
                self._add(ops.delete_aux, name)
            else:
                self.aux[name] = rng.randbytes(rng.randrange(50))
                self._add(ops.put_aux, name, self.aux[name])
            return
        self._dirty[n, key] = None
        journal.steps.clear()

    def alter(self, n: int, key: bytes) -> None:
        rng = self.rng
        db = self.ks.dbs[n]
        value = db.peek(key)
        for _ in range(rng.randrange(1, 8)):
            if isinstance(value, (bytes, bytearray)):
                value = bytearray(value) + rng.randbytes(rng.choice((1, 100, 40_000)))
                db.put_keep(key, value)
            elif isinstance(value, Hash):
                before = -1 if value.deadlines is None else value.deadlines.next_ms()
                field = rng.choice([*value.fields, text(rng)])
                if rng.random() < 0.4 and field in value.fields and len(value) > 1:
                    value.delete(field)
                elif rng.random() < 0.3 and field in value.fields:
                    value.set_deadline(field, rng.randrange(1, 1 << 41))
                else:
                    value.set(field, text(rng))
                db.fields.changed(key, value, before)
            elif isinstance(value, ZSet):
                member = rng.choice([*value.scores, text(rng)])
                if rng.random() < 0.4 and len(value) > 1:
                    value.remove(member)
                else:
                    value.set(member, rng.uniform(-5, 5))
            elif isinstance(value, SetValue):
                if rng.random() < 0.5 and len(value) > 1:
                    value.pop_at(rng.randrange(len(value)))
                else:
                    value.add(text(rng))
            elif isinstance(value, ListValue):
                choice = rng.random()
                if choice < 0.3:
                    value.push_left([text(rng), text(rng)])
                elif choice < 0.5:
                    value.push_right([text(rng)])
                elif choice < 0.6:
                    value.set(rng.randrange(len(value)), text(rng))
                elif len(value) > 1:
                    value.pop_left() if choice < 0.8 else value.pop_right()
            elif isinstance(value, Stream):
                value.append(value.last_id + rng.randrange(1, 1 << 70), [b"f", text(rng)])
                if rng.random() < 0.3:
                    value.trim_length(rng.randrange(50), False, 0)
                if rng.random() < 0.2 and b"G" not in value.groups:
                    value.create_group(b"G", 0, 0)
                    value.groups[b"G"].create(text(rng), 5)
                elif rng.random() < 0.2 and value.groups:
                    value.destroy_group(rng.choice(list(value.groups)))
        if self.rng.random() < 0.5:
            # What was done is undone: rows must tell the same.
            journal.roll_back()
        journal.steps.clear()

    def flush(self, n: int) -> None:
        self.settle()
        self.ks.dbs[n].flush()
        journal.steps.clear()
        self._add(ops.db_dead, self.physical[n])
        self.physical[n] = self.next_phys
        self.next_phys += 1
        self._add(ops.db_map, self.physical)
        for place in [place for place in self._held if place[0] == n]:
            del self._stored[self._held.pop(place)]

    # -- telling of them --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Turn what is dirty into ops."""
        for n, key in self._dirty:
            self._emit(n, key)
        self._dirty = {}

    def take(self) -> tuple[int, bytes]:
        """(number of ops, body)."""
        self.settle()
        count, body = self.count, b"".join(self._out)
        self._out, self.count = [], 0
        return count, body

    def _add(self, encode, *arguments) -> None:
        encode(self._out, *arguments)
        self.count += 1

    def _emit(self, n: int, key: bytes) -> None:
        db = self.ks.dbs[n]
        value = db.peek(key)
        held = self._held.get((n, key))
        if held is not None and self._stored[held][0] is not value:
            self._add(ops.kid_dead, held)
            del self._stored[held]
            del self._held[n, key]
            held = None
        if value is None:
            self._add(ops.delete_key, self.physical[n], slot_of(key), key)
            return
        if held is None and not images.is_large(value):
            image = images.small(value)
        elif held is None:
            image = self._first(n, key, value)
        else:
            image = self._again(held)
        self._add(ops.put_key, self.physical[n], slot_of(key), db.expiry(key), key, image)

    def _first(self, n: int, key: bytes, value: object) -> bytes:
        kid = self.next_kid
        self.next_kid += 1
        tracker: object = TouchedChunks(kid, 0)
        if isinstance(value, (Hash, ZSet)):
            tracker = value.tracker = Touched(kid, len(value))
        elif isinstance(value, SetValue):
            tracker = value.tracker = TouchedPlaces(kid, len(value))
        elif isinstance(value, ListValue):
            tracker = value.tracker = TouchedEnds(kid, 0, len(value))
        elif isinstance(value, Stream):
            tracker = value.tracker = TouchedStream(kid)
        self._stored[kid] = (value, tracker)
        self._held[n, key] = kid
        self._rows[kid] = {}
        order = 0
        for element, row in elements.elements(value, tracker):
            self._add(ops.insert_element, kid, order, element, row)
            self._rows[kid][element] = row
            order += 1
        return elements.large(value, tracker)

    def _again(self, kid: int) -> bytes:
        value, tracker = self._stored[kid]
        if isinstance(tracker, Touched):
            for element, mark in tracker.marks.items():
                there: Any = value.fields if isinstance(value, Hash) else value.scores  # type: ignore[attr-defined]
                if element not in there:
                    self._add(ops.remove_element, kid, element)
                    continue
                row = (
                    elements.field_value(value, element)
                    if isinstance(value, Hash)
                    else elements.score_value(there[element])
                )
                if mark == FRESH:
                    self._add(ops.insert_element, kid, tracker.next_order, element, row)
                    tracker.next_order += 1
                else:
                    self._add(ops.update_element, kid, element, row)
            tracker.clear()
            return elements.large(value, tracker)
        # Whatever differs from the rows; order means nothing for these kinds.
        now = dict(elements.elements(value, tracker))
        before = self._rows[kid]
        for element in before:
            if element not in now:
                self._add(ops.remove_element, kid, element)
        for element, row in now.items():
            if element not in before:
                self._add(ops.insert_element, kid, 0, element, row)
            elif before[element] != row:
                self._add(ops.update_element, kid, element, row)
        self._rows[kid] = now
        return elements.large(value, tracker)


def keyspace_facts(ks: Keyspace) -> object:
    """Everything about a keyspace except orders nothing applied depends on."""
    out = []
    for db in ks.dbs:
        assert db.size == sum(len(d) for d in db.slots if d)
        assert not any(d == {} for d in db.slots) and not any(e == {} for e in db.exps)
        deadlines = {key: at for e in db.exps if e for key, at in e.items()}
        assert set(deadlines.items()) <= {(key, at) for at, key in db.deadlines}
        assert all(slot_of(key) == slot for slot, d in enumerate(db.slots) if d for key in d)
        assert all(slot_of(key) == slot for slot, e in enumerate(db.exps) if e for key in e)
        values = {key: facts(value) for d in db.slots if d for key, value in d.items()}
        with_fields = {
            key for d in db.slots if d for key, v in d.items() if isinstance(v, Hash) and v.deadlines is not None
        }
        assert with_fields <= {key for _, key in db.fields.queue}
        out.append((db.number, values, deadlines, db.size, db.nexp, db.fields.count, len(with_fields)))
    return out
