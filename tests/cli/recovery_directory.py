"""Data directories made by the storage layer itself, without a server: a known log in several small segments."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from durakv.cli.admin import program
from durakv.engine.entry import FORMAT, HEADER, SEMANTICS, put_array, stamp
from durakv.replication import addresses
from durakv.storage.lane import Done
from durakv.storage.options import LogOptions
from durakv.storage.store import Store, StoreOptions, open_store
from durakv.world.real_clock import RealClock
from durakv.world.real_disk import RealDisk
from durakv.world.real_rng import RealRng
from raft.types import Entry, Membership

CLUSTER = bytes(range(16))
T0_MS = 1_700_000_000_000


def payload(*requests: list[bytes], at_ms: int = T0_MS) -> bytes:
    """One entry's payload; requests whose name begins with @ other than these do not count as items: db, as."""
    out: list[bytes] = []
    for argv in requests:
        put_array(out, argv)
    items = sum(argv[0] not in {b"@db", b"@as"} for argv in requests)
    return HEADER.pack(FORMAT, SEMANTICS, 0, items, at_ms, 7) + b"".join(out)


def words(text: str) -> list[bytes]:
    return [word.encode() for word in text.split()]


def membership(*voters: int) -> bytes:
    book = {n: addresses.Address("127.0.0.1", 7000 + n, 17000 + n) for n in voters}
    return Membership(voters=list(voters), context=addresses.encode(book)).encode()


def standard_entries(count: int = 40, voters: tuple[int, ...] = (1,)) -> list[Entry]:
    """1 the membership, 2 a no-op, then SETs a second apart; the last but one holds FLUSHALL between two SETs."""
    entries = [Entry(1, 1, 0, 2, membership(*voters)), Entry(2, 2, 0, 1, b"")]
    for index in range(3, count + 1):
        requests = [words(f"SET k{index} value-{index}")]
        if index == count - 1:
            requests = [words("SET before 1"), words("FLUSHALL"), words("SET after 1")]
        entries.append(Entry(index, 2, 0, 0, payload(*requests, at_ms=T0_MS + 1000 * index)))
    return entries


def write_directory(
    path: Path, entries: list[Entry], *, segment_bytes: int = 2048, proven: int | None = None, batch: int = 4
) -> None:
    """A stopped node's directory. ``proven``: what the hard state claims as synced; None: everything."""
    with opened(path, segment_bytes) as (loop, store):
        for at in range(0, len(entries), batch):
            wait(loop, partial(store.log.append, entries[at : at + batch]))
        last = entries[-1].index if proven is None else proven
        for _ in range(2):
            wait(loop, partial(store.hard.write, store.hard.current.voted(entries[-1].term, 1, last, last)))


def wait(loop: asyncio.AbstractEventLoop, start: Callable[[Done], None]) -> None:
    ended: asyncio.Future[OSError | None] = loop.create_future()
    start(ended.set_result)
    assert loop.run_until_complete(ended) is None


@contextlib.contextmanager
def opened(path: Path, segment_bytes: int = 2048) -> Iterator[tuple[asyncio.AbstractEventLoop, Store[Entry]]]:
    """The directory as a server opens it, closed cleanly in the end."""
    loop = asyncio.new_event_loop()

    def fatal(error: OSError) -> None:
        raise error

    disk = RealDisk(loop.call_soon_threadsafe)
    try:
        options = StoreOptions(
            CLUSTER, 1, reserve_bytes=0, min_free_bytes=0, segment_bytes=segment_bytes, log=LogOptions(stamp=stamp)
        )
        store: Store[Entry] = open_store(
            disk, RealClock(loop), RealRng(), str(path), Entry, fatal, lambda _: None, options
        )
        yield loop, store
        wait(loop, store.close)
    finally:
        disk.close()
        loop.close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def told(code: int, *arguments: object) -> dict[str, Any]:
    """The JSON document of a command that ends with ``code``."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, (result.output, result.exception)
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def segments(path: Path) -> list[Path]:
    return sorted((path / "log").glob("dk.*.log"))


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)
