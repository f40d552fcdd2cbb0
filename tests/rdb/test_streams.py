"""A stream that goes by commands arrives with its entries, ids, groups and pending entries."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from durakv.cli.admin_import_rdb import Mark, RdbImport
from durakv.cli.admin_outcome import Outcome
from durakv.cli.admin_pipe import connect
from durakv.rdb.errors import DamagedRdb
from durakv.rdb.reader import Entry, RdbFile
from durakv.rdb.stream_commands import stream_commands
from tests.rdb.formats import Bytes, listpack, rdb, string
from tests.rdb.stock import PROGRAMS, digest, stock
from tests.rdb.test_reader import GROUP, STREAM


def fill_streams(client: redis.Redis) -> None:
    random = Random(4)
    for n in range(400):
        number = random.choice([n, -n, 1 << 40])
        fields: dict[Any, Any] = {b"f": b"%d" % number, b"g": random.randbytes(random.choice([1, 90]))}
        if n % 7 == 0:
            fields = {b"other": b"x" * 300}
        client.xadd("s", fields, id=f"{1000 + n // 9}-{n + 1}")
    for n in [1, 50, 51, 52, 399]:
        client.xdel("s", f"{1000 + (n - 1) // 9}-{n}")
    client.xgroup_create("s", "g", id="0")
    client.xgroup_create("s", "at-end", id="$")
    client.xgroup_create("s", "somewhere", id="1010-5")
    client.execute_command("XGROUP", "CREATECONSUMER", "s", "at-end", "idle")
    client.xreadgroup("g", "c1", {"s": ">"}, count=30)
    client.xreadgroup("g", "c2", {"s": ">"}, count=40)
    client.xreadgroup("g", "c2", {"s": "0"}, count=3)
    client.xack("s", "g", "1000-2", "1000-3")
    client.xadd("emptied", {"a": "b"}, id="7-7")
    client.xdel("emptied", "7-7")
    client.xgroup_create("never-filled", "g", mkstream=True)
    client.pexpireat("s", 1 << 42)


def described(client: redis.Redis, key: str) -> object:
    """XINFO STREAM FULL without what commands cannot restore."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            left_out = {b"seen-time", b"active-time", "radix-tree-keys", "radix-tree-nodes"}
            return {name: without(part) for name, part in value.items() if name not in left_out}
        return [without(part) for part in value] if isinstance(value, list) else value

    return without(client.xinfo_stream(key, full=True))


@pytest.mark.live
@pytest.mark.parametrize("program", PROGRAMS)
def test_streams_by_commands(program: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with stock(program, tmp_path / "a", "--stream-node-max-entries", "30") as source:
        fill_streams(source)
        source.save()
        with stock(program, tmp_path / "b") as target:
            port = target.connection_pool.connection_kwargs["port"]
            file = RdbFile(Bytes((tmp_path / "a" / "dump.rdb").read_bytes()), "dump.rdb", whole_bytes_max=0)
            outcome = Outcome()
            pipe = connect(f"127.0.0.1:{port}", "", "", 10.0)
            job = RdbImport(file, pipe, outcome, 0, replace=False, resume=Mark(0, 0), request_bytes_max=0)
            job.run(lambda done, total: None)
            pipe.close()
            assert (outcome.imported, outcome.left_out) == (3, {})
            assert digest(target) == digest(source)
            for key in ("s", "emptied", "never-filled"):
                assert described(target, key) == described(source, key)


def commands(kind: int, body: bytes) -> list[list[bytes]]:
    file = RdbFile(Bytes(rdb(bytes((kind,)) + string(b"k") + body)), "x.rdb")
    entry = file.next()
    assert isinstance(entry, Entry)
    return list(stream_commands(file, entry))


def test_the_first_format() -> None:
    assert commands(15, STREAM + GROUP % (b"", b"")) == [
        [b"XADD", b"k", b"1000-1", b"f", b"v"],
        [b"XSETID", b"k", b"1000-1"],
        [b"XGROUP", b"CREATE", b"k", b"g", b"1000-1"],
        [b"XGROUP", b"CREATECONSUMER", b"k", b"g", b"consumer"],
        b"XCLAIM k g consumer 0 1000-1 TIME 5000 RETRYCOUNT 2 FORCE JUSTID".split(),
    ]


@pytest.mark.parametrize("items", [
    [b"1", b"0", b"1", b"f", b"0", b"2", b"0", b"0"], [b"1", b"0", b"9", b"f"], [b"x"],
    [b"1", b"0", b"1", b"f", b"0", b"q"],
])  # fmt: skip
def test_a_damaged_node_is_told(items: list[bytes]) -> None:
    body = b"\x01" + string(bytes(16)) + string(listpack(items)) + b"\x01\x01\x01\x00"
    with pytest.raises(DamagedRdb, match="stream b'k' holds a node that is not well-formed"):
        commands(15, body)
