"""How fast RDB files are written, read and loaded: `python3 -m tools.rdb_speed [--keys N] [--dir DIR]`.

CPU time, not wall time, so that a busy machine changes little. Import through a server is measured with
`durakv-cli import`, which reports its own rate.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from durakv import build_mode
from durakv.cli.admin_files import FileSink, ReadOnlyFile
from durakv.keyspace.digest import digest
from durakv.keyspace.journal import steps
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.values.hash import Hash
from durakv.rdb.crc64 import Crc64
from durakv.rdb.load import load_file
from durakv.rdb.reader import RdbFile
from durakv.rdb.save import write_keyspace
from durakv.rdb.writer import RdbWriter


def main() -> None:
    """Print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=500_000)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    path: Path = options.dir / f"rdb-speed-{os.getpid()}.rdb"
    print(f"{build_mode()}, {options.keys:,} keys")
    gc.disable()
    try:
        for kind, fill in (("strings of 32 bytes", strings), ("hashes of 5 fields", hashes)):
            measure(kind, filled(options.keys, fill), path)
    finally:
        path.unlink(missing_ok=True)
    data = os.urandom(32 << 20)

    def checksum() -> None:
        total = Crc64()
        for at in range(0, len(data), 4 << 20):
            total.update(data[at : at + (4 << 20)])

    print(f"CRC-64        {len(data) / timed(checksum) / 1e6:10.0f} MB/s")


def strings(number: int) -> object:
    """One value."""
    return b"%032d" % number


def hashes(number: int) -> object:
    """One value."""
    value = Hash()
    for field in range(5):
        value.set(b"field%d" % field, b"value%d" % number)
    return value


def filled(keys: int, fill: Callable[[int], object]) -> Keyspace:
    """A keyspace whose every fourth key has a deadline."""
    ks = Keyspace(1)
    for number in range(keys):
        key = b"key:%012d" % number
        ks.dbs[0].put(key, fill(number))
        if number % 4 == 0:
            ks.dbs[0].set_expiry(key, 1 << 42)
        steps.clear()
    return ks


def measure(kind: str, ks: Keyspace, path: Path) -> None:
    """Write, read, load; the loaded state must be the written one."""
    keys = ks.dbs[0].size
    print(kind)

    def write() -> None:
        sink = FileSink(path)
        writer = RdbWriter(sink)
        write_keyspace(writer, ks)
        writer.finish()
        sink.publish()

    def read() -> None:
        file = RdbFile(ReadOnlyFile(str(path)), str(path))
        while file.next() is not None:
            pass

    again = Keyspace(1)
    for name, step in (
        ("write", write), ("read, verify", read),
        ("load", lambda: load_file(RdbFile(ReadOnlyFile(str(path)), str(path)), again, 0)),
    ):  # fmt: skip
        seconds = timed(step)
        print(f"  {name:<12}{keys / seconds:10,.0f} keys/s {path.stat().st_size / seconds / 1e6:8.1f} MB/s")
    if digest(again) != digest(ks):
        raise SystemExit("what was loaded is not what was written")


def timed(step: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    step()
    return time.process_time() - began


if __name__ == "__main__":
    main()
