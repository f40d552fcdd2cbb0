"""Flips single bits of a small checkpoint on LMDB and opens, loads and goes on with what is left.

``python -m tests.checkpoint.flips <empty directory> <how many; 0: one in every byte>`` prints how many were found and
how many were harmless; it fails when one leads to a wrong value.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from durakv.checkpoint import ops
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.checkpoint.frames import Frame
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.place import open_checked
from durakv.keyspace import journal
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.slots import slot_of
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv

from .emit import DATABASES, Source
from .values import a_value

DISK = RealDisk(lambda job: job())


def build(directory: str, *, compact: bool) -> None:
    """A checkpoint of some commits, with branches, values that have pages of their own and, not compact, free pages."""
    kv = open_kv(directory, write=True)
    found(kv, bytes(16), 1, DATABASES)
    keeper = Materialiser(kv)
    source = Source(8)
    db = source.ks.dbs[1]
    for index in range(1, 6):
        for number, kind in enumerate(("hash", "zset", "set", "list", "stream")):
            key = b"%d%s" % (number + index & 3, kind.encode())
            db.put(key, a_value(source.rng, kind, 9 * index))
            source._dirty[1, key] = None
        for number in range(12):
            key = b"%d:%d" % (index, number)
            db.put(key, b"v" * (150 if number else 3000))
            source._dirty[1, key] = None
        if index == 4:
            source.flush(1)
            journal.steps.clear()
        count, body = source.take()
        keeper.apply(Frame(index - 1, index, 1, 0, 0, index, count, body))
        keeper.commit()
    keeper.collect()
    if compact:
        kv.compact()
    kv.close()


def outcome(directory: str) -> tuple[bytes, int]:
    """(digest, index) of what is loaded, after one more commit. Raises what a node would stop with."""
    kv = open_checked(DISK, open_kv, directory, write=True)
    try:
        ks = Keyspace(DATABASES)
        result = load(kv, ks, lambda name, blob: None)
        keeper = Materialiser(kv)
        out: list[bytes] = []
        key = b"one more"
        ops.put_key(out, result.db_map[0], slot_of(key), -1, key, b"\0" + b"x" * 3000)
        ops.delete_key(out, result.db_map[1], slot_of(b"5:1"), b"5:1")
        keeper.apply(Frame(result.applied.index, 1000, 9, 0, 0, 0, 2, b"".join(out)))
        keeper.commit()
        again = Keyspace(DATABASES)
        load(kv, again, lambda name, blob: None)
        for some in (ks, again):
            some.writing = True
        ks.dbs[0].put(key, b"x" * 3000)
        if ks.dbs[1].peek(b"5:1") is not None:
            ks.dbs[1].remove(b"5:1")
        journal.steps.clear()
        assert digest(ks) == digest(again), "a commit after the flip changed something else"
        return digest(ks), result.applied.index
    finally:
        kv.close()


def main(directory: str, flips: int) -> None:
    noticed = harmless = 0
    for compact in (False, True):
        place = Path(directory) / ("compact" if compact else "grown")
        place.mkdir()
        build(str(place), compact=compact)
        one, two = flip(place, flips // 2)
        noticed += one
        harmless += two
    print(noticed, harmless)


def flip(place: Path, flips: int) -> tuple[int, int]:
    """(noticed, harmless)."""
    path = place / "data.mdb"
    whole = path.read_bytes()
    good = outcome(str(place))
    rng = Random(1)
    places = list(range(len(whole))) if not flips else []
    while len(places) < flips:
        # Heads of pages and of the store more often than the rest.
        page = rng.randrange(len(whole) // 4096) * 4096
        places.append(page + rng.choice((rng.randrange(200), rng.randrange(4096))))
    noticed = harmless = 0
    for at in places:
        bad = bytearray(whole)
        bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        try:
            found_now = outcome(str(place))
        except (CheckpointDamaged, CheckpointUnfit):
            noticed += 1
        else:
            assert found_now == good, f"byte {at} of page {at // 4096} changed what is loaded"
            harmless += 1
        if (noticed + harmless) % 1000 == 0:
            print(place.name, noticed, harmless, file=sys.stderr)
    return noticed, harmless


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
