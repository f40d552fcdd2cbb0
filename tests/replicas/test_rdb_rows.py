"""A checkpoint as an RDB file: all of it, of one index, and nothing that is damaged."""

from __future__ import annotations

import pytest

from durakv.checkpoint.damage import CheckpointDamaged
from durakv.checkpoint.kv import ELEM, KEYS
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.keyspace.values.hash import Hash
from durakv.rdb.reader import Entry, Function, RdbFile
from durakv.rdb.values import value_of
from durakv.rdb.writer import RdbWriter
from durakv.replicas.rdb_rows import Exported, export_rows
from tests.checkpoint.follower import Follower
from tests.engine.rig import Client, Rig
from tests.replicas.stocks import Bytes, Target, assert_equal, held, in_file

LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"


def _exported(kv: MemoryKv, version: int, *, keys: bool = True, functions: bool = True) -> tuple[bytes, Exported]:
    target = Target()
    writer = RdbWriter(target, version)
    exported = export_rows(kv, writer, version, {"ctime": "1"}, keys=keys, functions=functions)
    assert writer.finish() == len(target.data)
    return bytes(target.data), exported


@pytest.fixture(scope="module")
def follower() -> Follower:
    rig = Rig()
    client = Client(rig)
    large = " ".join(f"m{n}" for n in range(200))
    client.send(
        "SET plain 1", "SET timed 1 EX 1000", "SET " + "k" * 500 + " long-key", "SETRANGE chunks 100000 end",
        "SADD set " + large, "SADD small a b", "RPUSH list " + large, "ZADD zset 1.5 a -inf b",
        "HSET hash " + " ".join(f"f{n} {n}" for n in range(50)), "HPEXPIRE hash 100000 FIELDS 1 f1",
        "HSET little a 1 b 2", "XADD stream 1-1 a b", "XGROUP CREATE stream g 0",
        "XREADGROUP GROUP g c STREAMS stream >", "SELECT 2", "SET other-database 1", "SELECT 1", "SADD gone " + large,
        "SET gone-too 1", "SWAPDB 0 3", "FLUSHDB",
    )  # fmt: skip
    client.send([b"FUNCTION", b"LOAD", LIBRARY.encode()])
    rig.settle()
    assert not [reply for reply in client.got() if str(reply).startswith("ERR")]
    made = Follower()
    for entry in rig.consensus.committed:
        made.apply(entry)
    made.write_down(commit=True)
    return made


def test_all_values(follower: Follower) -> None:
    data, exported = _exported(follower.kv, 80)
    ours = held(follower.applier.ks)
    assert_equal(ours, in_file(data))
    assert (exported.index, exported.keys, exported.deadlines_dropped) == (follower.capture.index, len(ours), 0)
    assert {db for db, _ in ours} == {2, 3}
    file = RdbFile(Bytes(data), "x", whole_bytes_max=1 << 30)
    found = []
    while (record := file.next()) is not None:
        found.append(record)
    assert [record.code for record in found if isinstance(record, Function)] == [LIBRARY.encode()]
    [entry] = [record for record in found if isinstance(record, Entry) and record.key == b"hash"]
    stored = value_of(entry.kind, file.body(entry))
    original = follower.applier.ks.dbs[3].peek(b"hash")
    assert isinstance(stored, Hash)
    assert isinstance(original, Hash)
    assert stored.deadlines is not None
    assert original.deadlines is not None
    assert stored.deadlines.at_ms == original.deadlines.at_ms


def test_what_redis_takes(follower: Follower) -> None:
    data, exported = _exported(follower.kv, 10)
    assert data.startswith(b"REDIS0010")
    assert_equal(held(follower.applier.ks), in_file(data))
    assert exported.deadlines_dropped == 1


def test_parts(follower: Follower) -> None:
    assert in_file(_exported(follower.kv, 10, keys=False)[0]) == {}
    assert LIBRARY.encode() in _exported(follower.kv, 10, keys=False)[0]
    assert LIBRARY.encode() not in _exported(follower.kv, 10, functions=False)[0]


def test_an_empty_store() -> None:
    data, exported = _exported(MemoryKv(), 10)
    assert (in_file(data), exported.index, exported.keys) == ({}, 0, 0)


@pytest.mark.parametrize("db", [KEYS, ELEM])
def test_damage(follower: Follower, db: int) -> None:
    before = follower.kv.begin(write=False)
    key, value = list(before.rows(db))[3]
    before.abort()
    for bad in (value[:-6] + bytes((value[-6] ^ 1,)) + value[-5:], value[:3]):
        txn = follower.kv.begin(write=True)
        txn.replace(db, key, bad)
        txn.commit()
        with pytest.raises(CheckpointDamaged, match="checksum is wrong"):
            _exported(follower.kv, 10)
    txn = follower.kv.begin(write=True)
    txn.replace(db, key, value)
    txn.commit()
    _exported(follower.kv, 10)
