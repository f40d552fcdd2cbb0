"""A node without clients that applies a log, writes down what changes, and can be started again from its checkpoint."""

from __future__ import annotations

from durakv.acl.accounts import Accounts
from durakv.checkpoint.capture import Capture
from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.images import small
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.resume import follow
from durakv.commands.acl import build_acl
from durakv.config.settings import Settings
from durakv.engine.apply import Applier
from durakv.engine.beside import Beside
from durakv.engine.outcome import Outcome
from durakv.engine.scripts import attach
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from tests.engine.rig import TABLE, Entry, sessions_of
from tests.storage.world import SimRng

DATABASES = 4


class Follower:
    """``kv`` is its checkpoint. ``frames`` counts."""

    def __init__(self) -> None:
        self.kv = MemoryKv()
        found(self.kv, bytes(16), 1, DATABASES)
        self.capture: Capture
        self.applier: Applier
        self.materialiser = Materialiser(self.kv)
        self.frames = 0
        self.start()

    def start(self) -> None:
        """Begin from the checkpoint alone."""
        ks = Keyspace(DATABASES)
        acl = build_acl(Settings(), TABLE, SimRng(8))
        ks.accounts = Accounts(acl)
        applier = Applier(ks, TABLE, Outcome())
        attach(applier, TABLE, acl.index)
        beside = Beside(applier, TABLE)
        rows: list[tuple[bytes, bytes]] = []
        loaded = load(self.kv, ks, lambda name, blob: rows.append((name, blob)))
        beside.take(rows)
        applier.resume(loaded.applied.index, loaded.applied.ts_ms)
        self.capture = follow(ks, beside, loaded)
        self.applier = applier

    def apply(self, entry: Entry) -> None:
        """The next entry of the log."""
        if entry.kind == 0:
            self.applier.apply_payload(entry.index, entry.data)
        else:
            self.applier.new_leader(entry.index)

    def write_down(self, *, commit: bool) -> None:
        """A frame of what changed, to the materialiser."""
        index = self.applier.applied
        if index > self.capture.index:
            reader = FrameReader("test")
            reader.feed(self.capture.frame(index, 1, 0, 0))
            frame = reader.next()
            assert frame is not None
            assert self.materialiser.apply(frame)
            self.frames += 1
        if commit:
            self.materialiser.commit()
            while self.materialiser.garbage():
                self.materialiser.collect()

    def restart(self) -> None:
        """Stop and start; whoever gives it the log goes on after ``applier.applied``."""
        self.materialiser.abandon()
        self.materialiser = Materialiser(self.kv)
        self.start()


def content(ks: Keyspace) -> list[tuple[int, bytes, int, bytes]]:
    """(database, key, deadline, image) of all keys: orders inside values, encodings and deadlines included."""
    out = []
    for db in ks.dbs:
        for slot in db.slots:
            if slot:
                out += [(db.number, key, db.expiry(key), small(slot[key])) for key in slot]
    out.sort()
    return out


def assert_same(one: Applier, other: Applier) -> None:
    """Nothing tells the two apart."""
    first, second = content(one.ks), content(other.ks)
    if first != second:
        left = {(db, key): rest for db, key, *rest in first}
        right = {(db, key): rest for db, key, *rest in second}
        differing = [place for place in {**left, **right} if left.get(place) != right.get(place)]
        place = differing[0]
        raise AssertionError(f"{len(differing)} keys differ; {place}: {left.get(place)} and {right.get(place)}")
    assert digest(one.ks) == digest(other.ks)
    assert [(db.size, db.nexp, db.fields.count) for db in one.ks.dbs] == [
        (db.size, db.nexp, db.fields.count) for db in other.ks.dbs
    ]
    assert one.ks.log_ms == other.ks.log_ms
    assert sessions_of(one) == sessions_of(other)
