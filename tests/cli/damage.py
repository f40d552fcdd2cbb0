"""Flips bits all over a small directory with a checkpoint: ``verify`` finds them, or they change nothing.

``python -m tests.cli.damage <empty directory> [<step>]`` flips every ``step``-th byte (default: all) and prints the
table of what was found and what was harmless; it fails when a flip goes unseen and changes what a start makes of the
directory.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from durakv.checkpoint.load import load
from durakv.checkpoint.place import CheckedStores
from durakv.cli.admin_progress import unseen
from durakv.cli.recovery_survey import survey
from durakv.engine.entry import stamp
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.replication.resuming import Resuming
from durakv.storage.errors import StorageError
from durakv.storage.options import LogOptions
from durakv.storage.store import StoreOptions, open_store
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from durakv.world.real_rng import RealRng
from raft.types import Entry

from .checkpoint_directory import DATABASES, make
from .recovery_directory import CLUSTER, flip, segments, wait

REFUSED = "refused"


class Booted:
    """What a start ended with: the digest of the checkpoint, and the entries it would replay."""

    def __init__(self, state: str, entries: list[tuple[int, int, bytes]], last: int) -> None:
        self.state = state
        self.entries = entries
        self.last = last

    def same(self, other: Booted) -> bool:
        return (self.state, self.entries, self.last) == (other.state, other.entries, other.last)


def boot(path: Path) -> Booted | None:
    """As far as a server gets before it talks to others; None when it refuses. Changes the directory as a start "
    "does."""
    import asyncio

    loop = asyncio.new_event_loop()
    disk = RealDisk(loop.call_soon_threadsafe)
    resuming = Resuming(disk, CheckedStores(disk, open_kv))

    def fatal(error: OSError) -> None:
        raise error

    try:
        options = StoreOptions(
            CLUSTER, 1, reserve_bytes=0, min_free_bytes=0, segment_bytes=2048, log=LogOptions(stamp=stamp),
            covered=resuming.covered,
        )  # fmt: skip
        store = open_store(disk, RealClock(loop), RealRng(), str(path), Entry, fatal, lambda _: None, options)
        state = "empty"
        first = 1
        if resuming.store is not None:
            ks = Keyspace(DATABASES)
            loaded = load(resuming.store, ks, lambda name, blob: None)
            first = loaded.applied.index + 1
            state = digest(ks).hex()
        log = store.log
        entries = [(e.index, e.term, e.data) for e in log.entries(first, log.last_index() + 1, 1 << 30)]
        booted = Booted(state, entries, log.last_index())
        wait(loop, store.close)
        for segment in log._segments:
            # A process that ends closes them; this one goes on.
            if segment.file is not None:
                segment.file.close()
        return booted
    except StorageError:
        return None
    finally:
        resuming.close()
        disk.close()
        loop.close()


class Row:
    """One line of the table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.flips = self.found = self.refused = self.harmless = 0
        self.wrong: list[int] = []

    def text(self) -> str:
        return (
            f"{self.name:<34} {self.flips:>7} flips {self.found:>7} found {self.refused:>7} stop a start "
            f"{self.harmless:>7} harmless {len(self.wrong):>3} WRONG"
        )


def flip_all(data: Path, name: str, spots: range, truth: Booted, row: Row, work: Path) -> None:
    """Flip one bit at each spot of one file; what verify says, and what a start makes of it when verify says "
    "nothing."""
    file = data / name
    for at in spots:
        flip(file, at, at % 8)
        row.flips += 1
        findings = survey(str(data), unseen, live=False, thorough=True).findings
        mine = [finding for finding in findings if finding.path == name]
        assert not findings or mine, (name, at, [finding.line() for finding in findings])
        assert all(finding.repair for finding in mine)
        row.found += bool(mine)
        row.harmless += not mine
        # A start is tried where verify is silent, and on some of the rest.
        if not mine or at % 16 == 0:
            shutil.copytree(data, work, ignore=shutil.ignore_patterns("lock.mdb"))
            booted = boot(work)
            shutil.rmtree(work)
            stops = any(finding.stops for finding in findings)
            if booted is None:
                row.refused += 1
                if not stops:
                    row.wrong.append(at)
            elif not booted.same(truth) or stops:
                row.wrong.append(at)
        flip(file, at, at % 8)


def table(data: Path, work: Path, step: int) -> list[Row]:
    """Flips through every kind of file of ``data``."""
    shutil.copytree(data, work)
    truth = boot(work)
    shutil.rmtree(work)
    assert truth is not None
    mdb = data / "ckpt/env-1/data.mdb"
    page = 4096
    last = segments(data)[-1].relative_to(data)
    middle = segments(data)[1].relative_to(data)
    snapshot = next((data / "ckpt").glob("*.dksnap")).relative_to(data)
    plan = [
        ("IDENTITY", "IDENTITY", range(0, (data / "IDENTITY").stat().st_size, step)),
        ("hard state, slot 0", "raft/hardstate", range(0, 512, step)),
        ("hard state, slot 1", "raft/hardstate", range(4096, 4608, step)),
        ("CURRENT", "ckpt/CURRENT", range((data / "ckpt/CURRENT").stat().st_size)),
        ("sealed log segment", str(middle), range(0, (data / middle).stat().st_size, step)),
        ("active log segment", str(last), range(0, (data / last).stat().st_size, step)),
        ("data.mdb, both head pages", "ckpt/env-1/data.mdb", range(0, 2 * page, max(step // 2, 5))),
        ("data.mdb, all other pages", "ckpt/env-1/data.mdb", range(2 * page, mdb.stat().st_size, max(3 * step, 37))),
        ("snapshot, header", str(snapshot), range(0, page, step)),
        ("snapshot, the rest", str(snapshot), range(page, (data / snapshot).stat().st_size, 31 * step)),
    ]
    rows = []
    for title, name, spots in plan:
        row = Row(title)
        flip_all(data, name, spots, truth, row, work)
        rows.append(row)
    return rows


def main(arguments: list[str]) -> int:
    root = Path(arguments[0])
    data = root / "data"
    make(data, snapshot=True)
    rows = table(data, root / "work", int(arguments[1]) if len(arguments) > 1 else 1)
    for row in rows:
        print(row.text())
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
