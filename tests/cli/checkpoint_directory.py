"""Data directories with a checkpoint, made by the classes a server and its materialiser use, without either of them."""

from __future__ import annotations

import os
from pathlib import Path

from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.place import environment, write_current
from durakv.checkpoint.resume import follow
from durakv.checkpoint.snapshot_file import write_snapshot
from durakv.cli.admin_progress import unseen
from durakv.cli.admin_replay import apply_content, new_applier
from durakv.cli.recovery_entries import stored_entries
from durakv.cli.recovery_survey import survey
from durakv.engine.beside import Beside
from durakv.keyspace.keyspace import Keyspace
from durakv.storage.entries import KIND_CONFIG
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from raft.types import Entry

from .recovery_directory import CLUSTER, T0_MS, membership, payload, segments, words, write_directory

DATABASES = 16
CHECKPOINT = 26
LAST = 40


def rich_entries(count: int = LAST, voters: tuple[int, ...] = (1,)) -> list[Entry]:
    """1 the membership, 2 a no-op, then writes of all types a second apart; the last but one holds a FLUSHALL."""
    entries = [Entry(1, 1, 0, 2, membership(*voters)), Entry(2, 2, 0, 1, b"")]
    for index in range(3, count + 1):
        requests = [
            words(f"SET k{index} value-{index}"),
            words(f"HSET hash f{index} v{index}"),
            words(f"RPUSH list e{index} e{index}b"),
            words(f"SADD set m{index}"),
            words(f"ZADD scores {index} z{index}"),
            words(f"XADD stream {index}-1 k v"),
            words("INCR counter"),
        ]
        if index == 10:
            requests += [[b"HSET", b"large", *[b"%c%d" % (c, n) for n in range(40) for c in b"fv"]],
                         [b"SET", b"long", b"x" * 70_000]]  # fmt: skip
        if index == count - 1:
            requests = [words("SET before 1"), words("FLUSHALL"), words("SET after 1")]
        entries.append(Entry(index, 2, 0, 0, payload(*requests, at_ms=T0_MS + 1000 * index)))
    return entries


def add_checkpoint(data: Path, at: int, *, number: int = 1, snapshot: bool = False) -> None:
    """As a materialiser leaves it after entry ``at``, in two commits; nothing of the log goes."""
    looked = survey(str(data), unseen, live=False)
    ks = Keyspace(DATABASES)
    applier = new_applier(1, ks)
    beside = Beside(applier, applier.table)
    capture = follow(ks, beside, None)
    disk = RealDisk(lambda job: job())
    place = environment(str(data), number)
    Path(place).mkdir(parents=True)
    kv = open_kv(place, write=True)
    found(kv, CLUSTER, 1, DATABASES)
    keeper = Materialiser(kv)
    scans = next(run for run in looked.pool if run[0].header.base == 1)
    for entry in stored_entries(looked.disk, scans, 1, at):
        apply_content(applier, entry.index, entry.subterm, entry.kind, entry.data, entry.path)
        if entry.kind == KIND_CONFIG:
            beside.membership = entry.data
        if entry.index in (at // 2, at):
            reader = FrameReader("stream")
            reader.feed(capture.frame(entry.index, entry.term, entry.subterm, entry.chain))
            frame = reader.next()
            assert frame is not None
            assert keeper.apply(frame)
            keeper.commit()
    while keeper.garbage():
        keeper.collect()
    if snapshot:
        write_snapshot(kv, disk, str(data / "ckpt"))
    kv.close()
    write_current(disk, str(data), number)
    disk.close()
    (data / "fx").mkdir(exist_ok=True)
    (data / "fx/dk.00000000000000000001.fx").write_bytes(b"x" * 100)


def drop_covered(data: Path, archive: Path | None = None) -> int:
    """As a server that keeps nothing for followers; how many segments went."""
    looked = survey(str(data), unseen, live=False)
    for scan in looked.scans[: looked.unneeded]:
        path = Path(scan.path)
        if archive is not None:
            archive.mkdir(exist_ok=True)
            os.link(path, archive / path.name)
        path.unlink()
    return looked.unneeded


def make(
    data: Path, at: int = CHECKPOINT, *, archive: Path | None = None, drop: bool = True, snapshot: bool = False,
    voters: tuple[int, ...] = (1,),
) -> None:  # fmt: skip
    """A stopped node with a checkpoint at ``at``, and a log that begins behind the segments it covers."""
    write_directory(data, rich_entries(voters=voters), segment_bytes=2048, batch=2)
    add_checkpoint(data, at, snapshot=snapshot)
    if drop:
        assert drop_covered(data, archive) > 2
        assert len(segments(data)) > 2
