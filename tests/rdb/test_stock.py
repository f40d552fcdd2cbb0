"""Both ways with stock servers: what they save we load, what we save they load, and DEBUG DIGEST sees no difference."""

from __future__ import annotations

from pathlib import Path
from random import Random
from struct import pack

import pytest
import redis

from durakv.keyspace.digest import digest as our_digest
from durakv.keyspace.keyspace import Keyspace
from durakv.rdb.load import load_file
from durakv.rdb.reader import Entry, RdbFile
from durakv.rdb.save import write_keyspace
from durakv.rdb.writer import RdbWriter
from tests.rdb.formats import Bytes, Memory, intset, rdb, string, ziplist, zipmap
from tests.rdb.stock import PROGRAMS, at, digest, stock

DATABASES = 32
# Fixed deadlines: DEBUG DIGEST covers them.
SOON_MS = 1 << 42

LIMITS = {
    "default": [],
    "none-packed": [
        "--list-max-listpack-size", "1", "--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0",
        "--set-max-intset-entries", "0", "--rdbcompression", "no", "--stream-node-max-entries", "1",
    ],
    "all-packed": [
        "--list-max-listpack-size", "-5", "--hash-max-listpack-value", "100000", "--hash-max-listpack-entries", "9999",
        "--zset-max-listpack-value", "100000", "--zset-max-listpack-entries", "9999",
        "--set-max-intset-entries", "9999", "--list-compress-depth", "1",
    ],
    "no-checksum": ["--rdbchecksum", "no"],
}  # fmt: skip


def text(random: Random) -> bytes:
    pick = random.randrange(10)
    if pick < 3:
        return b"%d" % random.choice([0, 7, -1, 127, 128, -129, 40_000, -(1 << 31), 1 << 31, (1 << 63) - 1, -(1 << 63)])
    if pick < 8:
        return random.randbytes(random.choice([0, 1, 10, 60, 64, 70, 300]))
    if pick == 8:
        return b"repeat " * random.choice([5, 500])
    return b"%.3f" % random.uniform(-1e6, 1e6)


def fill(client: redis.Redis, seed: int, keys: int) -> None:
    """All types, small and large, with and without deadlines, in many databases, under binary names."""
    random = Random(seed)
    for db in [0, 1, 9, 31]:
        pipe = at(client, db).pipeline(transaction=False)
        for n in range(keys):
            key = random.randbytes(random.choice([1, 4, 70])) + b"%d" % n
            some = list(dict.fromkeys(text(random) for _ in range(random.choice([1, 3, 20, 150]))))
            numbers = [random.choice([random.randrange(99), random.randrange(-(1 << 40), 1 << 40)]) for _ in some]
            scores = [random.choice([0.0, 1.5, -2e30, float("inf"), float("-inf"), 17.0, 0.1]) for _ in some]
            pipe.set(b"s" + key, some[0])
            pipe.rpush(b"l" + key, *some)
            pipe.sadd(b"i" + key, *numbers)
            pipe.sadd(b"e" + key, *some)
            pipe.hset(b"h" + key, mapping=dict(zip(some, reversed(some), strict=True)))
            pipe.zadd(b"z" + key, dict(zip(some, scores, strict=True)))
            if n % 3 == 0:
                for kind in b"slz":
                    pipe.pexpireat(bytes((kind,)) + key, SOON_MS + n)
            if n % 4 == 0:
                for m, item in enumerate(some[:30]):
                    pipe.xadd(b"x" + key, {b"f": item, b"g%d" % (m % 3): b"v"}, id=f"{n + 1}-{m + 1}")
                pipe.xgroup_create(b"x" + key, "group", id="0")
                pipe.xreadgroup("group", "consumer", {b"x" + key: ">"}, count=5)
                pipe.xdel(b"x" + key, f"{n + 1}-1")
        pipe.execute()


def load(data: bytes) -> Keyspace:
    ks = Keyspace(DATABASES)
    loaded = load_file(RdbFile(Bytes(data), "dump.rdb"), ks, 0)
    assert loaded.left_out == {}
    return ks


def save(ks: Keyspace) -> bytes:
    sink = Memory()
    writer = RdbWriter(sink)
    writer.aux(b"redis-bits", b"64")
    saved = write_keyspace(writer, ks)
    assert writer.finish() == sum(map(len, sink.parts))
    assert saved.keys == sum(db.size for db in ks.dbs)
    return sink.data


@pytest.mark.live
@pytest.mark.parametrize("limits", LIMITS, ids=list(LIMITS))
@pytest.mark.parametrize("program", PROGRAMS)
def test_there_and_back(program: str, limits: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with stock(program, tmp_path / "a", *LIMITS[limits]) as source:
        fill(source, 1, 25)
        source.save()
        expected = digest(source)
        sizes = [at(source, db).dbsize() for db in range(DATABASES)]
    data = (tmp_path / "a" / "dump.rdb").read_bytes()
    ks = load(data)
    assert [db.size for db in ks.dbs] == sizes
    ours = save(ks)
    assert our_digest(load(ours)) == our_digest(ks)
    (tmp_path / "b" / "dump.rdb").write_bytes(ours)
    with stock(program, tmp_path / "b") as target:
        assert [at(target, db).dbsize() for db in range(DATABASES)] == sizes
        assert digest(target) == expected


def kinds_in(data: bytes) -> set[int]:
    file = RdbFile(Bytes(data), "dump.rdb")
    found = set()
    while (record := file.next()) is not None:
        if isinstance(record, Entry):
            found.add(record.kind)
    return found


@pytest.mark.live
def test_the_thresholds_bring_out_every_type_of_today(tmp_path: Path) -> None:
    found: set[int] = set()
    for program in PROGRAMS:
        for limits in ["default", "none-packed"]:
            directory = tmp_path / f"{program}-{limits}"
            directory.mkdir()
            with stock(program, directory, *LIMITS[limits]) as source:
                fill(source, 2, 10)
                source.save()
            found |= kinds_in((directory / "dump.rdb").read_bytes())
    assert {0, 2, 4, 5, 11, 16, 17, 18, 19, 20, 21} <= found


OLD = rdb(
    b"\xfe\x00"
     b"\x09" + string(b"zipmap") + string(zipmap([(b"f", b"1"), (b"g", b"x" * 70)]))
    + b"\x0a" + string(b"list") + string(ziplist([b"a", b"5", b"-300", b"hello" * 20]))
    + b"\x0b" + string(b"set") + string(intset([-5, 70_000, 3], 4))
    + b"\x0c" + string(b"zset") + string(ziplist([b"m", b"-2.5", b"n", b"3", b"o", b"inf"]))
    + b"\x0d" + string(b"hash") + string(ziplist([b"f", b"1", b"g", b"y" * 300]))
    + b"\x0e" + string(b"quicklist") + b"\x02" + string(ziplist([b"1", b"b"])) + string(ziplist([b"c" * 400]))
    + b"\x03" + string(b"text-scores") + b"\x02" + string(b"m") + string(b"0.10000000000000001")
    + string(b"n") + b"\xff"
    + b"\xfd" + pack("<i", 2_000_000_000) + b"\x01" + string(b"seconds") + b"\x01" + string(b"x"),
    6,
)  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_of_old_encodings_means_the_same_to_a_stock_server(program: str, tmp_path: Path) -> None:
    """No server of today writes these; that one loads the golden file shows that the file is right."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "dump.rdb").write_bytes(OLD)
    (tmp_path / "b" / "dump.rdb").write_bytes(save(load(OLD)))
    with stock(program, tmp_path / "a") as first:
        assert first.dbsize() == 8
        expected = digest(first)
    with stock(program, tmp_path / "b") as second:
        assert second.hgetall("zipmap") == {b"f": b"1", b"g": b"x" * 70}
        assert second.execute_command("PEXPIRETIME", "seconds") == 2_000_000_000_000
        assert digest(second) == expected
