"""Slots that come and go between two frames, however large their values: a checkpoint holds what memory holds."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest

from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.resume import follow
from durakv.checkpoint.verify import Verified, verify_store
from durakv.cluster.handoff import entries
from durakv.cluster.handoff.entries import Op
from durakv.cluster.handoff.hub import Handoff
from durakv.cluster.handoff.state import IMPORTING, NONE, OWNED
from durakv.engine.beside import Beside
from durakv.keyspace import journal
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Db, Keyspace
from durakv.keyspace.slots import slot_of
from durakv.keyspace.staging import value_payload
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.listvalue import ListValue
from durakv.rdb.writer import RdbWriter
from durakv.replicas.rdb_rows import export_rows
from tests.replicas.stocks import Target

from .values import a_value

DATABASES = 2
# Slots 0, 1 and 5462.
TAGS = (b"06S", b"Qi", b"450")


def slot(tag: bytes) -> int:
    return slot_of(b"{%b}" % tag)


class Hearer:
    """What somebody who follows key by key believes, by database."""

    def __init__(self) -> None:
        self.keys: dict[int, dict[bytes, tuple[object, int]]] = {}
        self.number = -1

    def remapped(self, before: list[int], after: list[int]) -> None:
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                self.keys[number] = {}

    def database(self, number: int) -> None:
        self.number = number

    def changed(self, key: bytes, value: object, expire_ms: int, stored_kid: int, stored_chunks: object) -> None:
        mine = self.keys.setdefault(self.number, {})
        if value is None:
            mine.pop(key, None)
            return
        # Only of a key it knows may it be told differences.
        assert not stored_kid or key in mine
        mine[key] = (value, expire_ms)

    def patched(self, key: bytes, value: bytearray, numbers: dict[int, None], stored_length: int) -> None:
        assert key in self.keys[self.number]

    def beside(self, name: bytes, blob: bytes | None) -> None:
        pass

    def frame_ends(self, index: int) -> None:
        pass


class Node:
    """A keyspace and its slots, changed as an engine would; all of it is written down now and then."""

    def __init__(self, seed: int, *, heard: bool) -> None:
        self.rng = Random(seed)
        self.index = 0
        self.kv = MemoryKv()
        found(self.kv, bytes(16), 1, DATABASES)
        self.keeper = Materialiser(self.kv)
        self.ks, self.hub = self._made()
        self.capture = follow(self.ks, cast(Beside, self.hub), None)
        self.hearer = Hearer() if heard else None
        self.capture.listener = self.hearer
        self.mids: dict[bytes, bytes] = {}
        self.seqs: dict[bytes, int] = {}
        self.migrations = 0

    @staticmethod
    def _made() -> tuple[Keyspace, Handoff]:
        ks = Keyspace(DATABASES)
        ks.writing = True
        owned = ((slot(TAGS[0]), slot(TAGS[0]), 1),)
        return ks, Handoff(ks, 1, owned, b"c", lambda: 0, lambda: 1 << 30)

    def apply(self, argv: list[bytes]) -> bool:
        self.index += 1
        return self.hub.apply(argv, 0, self.index).done

    # -- what happens ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        rng = self.rng
        tag = rng.choice(TAGS)
        own = self.hub.state.own[slot(tag)]
        if own == OWNED:
            if rng.random() < 0.08:
                self._leave(tag)
            else:
                self._write(tag)
        elif own == NONE:
            self._begin(tag, 1)
        else:
            dice = rng.random()
            if dice < 0.6:
                self._batch(tag)
            elif dice < 0.8:
                self._activate(tag)
            elif dice < 0.9:
                self._begin(tag, self._record(tag).session[1] + 1)
            else:
                mid = self.mids[tag]
                assert self.apply(entries.abort(mid, 2, self._record(tag).order, self._record(tag).runs, b"no"))
                assert self.apply(entries.import_forget(mid))
        journal.steps.clear()
        if rng.random() < 0.3:
            self.hub.staging.step(rng.randrange(1, 40))
        if rng.random() < 0.02:
            self._flush()

    def _record(self, tag: bytes):
        return self.hub.state.records[self.mids[tag]]

    def _write(self, tag: bytes) -> None:
        rng = self.rng
        db: Db = rng.choice(self.ks.dbs)
        key = b"{%b}%d" % (tag, rng.randrange(6))
        value = db.peek(key)
        dice = rng.random()
        self.index += 1
        if value is None or dice < 0.3:
            db.put_last(key, b"v%d" % self.index) if dice < 0.1 else db.put(key, self._value())
        elif dice < 0.4:
            db.remove(key)
        elif dice < 0.5:
            db.set_expiry(key, 1 << 41)
        elif type(value) is Hash:
            value.set(b"more", b"%d" % self.index)
            db.touched(key)
        elif type(value) is ListValue:
            value.push_right([b"%d" % self.index])
            db.touched(key)
        elif type(value) is bytearray and len(value) > 4:
            value[2:4] = b"%02d" % (self.index % 100)
            db.patched(key, 2, 4)

    def _value(self) -> object:
        if self.rng.random() < 0.1:
            return self.rng.randbytes(70_000)
        if self.rng.random() < 0.1:
            return bytearray(self.rng.randbytes(70_000))
        return a_value(self.rng)

    def _begin(self, tag: bytes, number: int) -> None:
        number_of = slot(tag)
        if number == 1:
            self.migrations += 1
            self.mids[tag] = b"%040x" % self.migrations
            epoch = self.hub.state.epochs[number_of] + 1
            order, runs = self.migrations, ((number_of, number_of, epoch),)
        else:
            order, runs = self._record(tag).order, self._record(tag).runs
        assert self.apply(entries.import_begin(self.mids[tag], 2, order, (1, number), runs))

    def _batch(self, tag: bytes) -> None:
        rng = self.rng
        words: list[bytes] = []
        for _ in range(rng.randrange(1, 5)):
            dice = rng.random()
            key = b"{%b}%d" % (tag, rng.randrange(6))
            number = rng.randrange(DATABASES)
            if dice < 0.8:
                op = Op(entries.PUT, number, key, rng.choice((-1, 1 << 41)), value_payload(self._value()))
            elif dice < 0.95:
                op = Op(entries.DELETE, number, key)
            else:
                op = Op(entries.WIPE, number)
            entries.put_op(words, op)
        record = self._record(tag)
        assert self.apply(entries.import_batch(record.mid, record.session, record.seq + 1, b"".join(words)))

    def _activate(self, tag: bytes) -> None:
        record = self._record(tag)
        counts = entries.counts_digest(self.hub.staging.areas[record.mid].counts(record.slots()))
        argv = entries.activate(record.mid, record.session, 9, 0, record.seq, record.chain, counts)
        assert self.apply(argv)
        assert self.apply(entries.import_forget(record.mid))

    def _leave(self, tag: bytes) -> None:
        self.migrations += 1
        mid = b"%040x" % self.migrations
        number = slot(tag)
        assert self.apply(entries.export_begin(mid, 2, ((number, number, self.hub.state.epochs[number]),)))
        assert self.apply(entries.fence(mid, (1, 1)))
        assert self.apply(entries.release(mid))

    def _flush(self) -> None:
        self.index += 1
        emptied = self.rng.choice(self.ks.dbs)
        emptied.flush()
        for record in self.hub.flushed([emptied.number], 0):
            assert self.apply(entries.import_forget(record.mid))
        journal.steps.clear()

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def write_down(self) -> None:
        if self.index == self.capture.index:
            return
        reader = FrameReader("frame")
        reader.feed(self.capture.frame(self.index, 1, 0, 0))
        frame = reader.next()
        assert frame is not None
        self.keeper.apply(frame)
        if self.hearer is not None:
            for db in self.ks.dbs:
                live = {key: db.peek(key) for mapping in db.slots for key in mapping or ()}
                told = self.hearer.keys.get(db.number, {})
                assert {key: value for key, (value, _) in told.items()} == live
                assert all(db.expiry(key) == expire_ms for key, (_, expire_ms) in told.items())

    def content(self) -> bytes:
        return digest(self.ks) + self.hub.canonical()

    def compare(self, *, goes_on: bool) -> None:
        """The checkpoint against memory; ``goes_on``: with what was loaded, as after a start."""
        self.write_down()
        self.keeper.commit()
        while self.keeper.garbage():
            self.keeper.collect()
        seen = Verified()
        verify_store(self.kv, seen)
        assert not seen.findings, [str(each) for each in seen.findings]
        assert seen.garbage == 0
        ks, hub = self._made()
        rows: list[tuple[bytes, bytes]] = []
        loaded = load(self.kv, ks, lambda name, blob: rows.append((name, blob)))
        hub.take_rows(rows)
        assert digest(ks) + hub.canonical() == self.content()
        exported = export_rows(self.kv, RdbWriter(Target(), 80), 80, {}, keys=True, functions=False)
        assert exported.keys == sum(db.size for db in ks.dbs)
        if goes_on:
            self.ks, self.hub = ks, hub
            self.capture = follow(ks, cast(Beside, hub), loaded)
            self.capture.listener = None
            self.hearer = None


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_checkpoint_holds_what_memory_holds(seed: int, heard: bool) -> None:
    node = Node(seed, heard=heard)
    reached: set[int] = set()
    for n in range(250):
        node.step()
        reached.add(node.hub.state.own[slot(TAGS[1])])
        if node.rng.random() < 0.3:
            node.write_down()
        if n % 25 == 24:
            node.compare(goes_on=not heard and node.rng.random() < 0.5)
    assert reached >= {NONE, IMPORTING, OWNED}
    assert node.migrations > 10


def test_taking_slots_over_and_giving_them_away_costs_frames_nothing() -> None:
    node = Node(1, heard=False)
    tag = TAGS[1]
    node._begin(tag, 1)
    for seq in range(1, 21):
        words: list[bytes] = []
        for n in range(100):
            entries.put_op(words, Op(entries.PUT, 0, b"{%b}%d-%d" % (tag, seq, n), -1, value_payload(b"v" * 100)))
        assert node.apply(entries.import_batch(node.mids[tag], (1, 1), seq, b"".join(words)))
        node.write_down()
    node._activate(tag)
    before = node.keeper
    frame = node.capture.frame(node.index, 1, 0, 0)
    assert len(frame) < 2000
    reader = FrameReader("frame")
    reader.feed(frame)
    before.apply(reader.next())  # type: ignore[arg-type]
    node.compare(goes_on=False)
    assert node.ks.dbs[0].size == 2000
    node._leave(tag)
    assert len(node.capture.frame(node.index, 1, 0, 0)) < 2000
