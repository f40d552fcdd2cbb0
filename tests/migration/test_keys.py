"""A file's keys as commands: whatever it holds, in whatever form, comes out the same; and giants in small steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from durakv.cli.admin_files import ReadOnlyFiles
from durakv.engine.apply import Applier
from durakv.engine.outcome import Outcome
from durakv.engine.scripts import attach
from durakv.keyspace.keyspace import Keyspace
from durakv.migration.keys import PIECE_BYTES, Found, build, survey
from durakv.migration.walk import ELEMENTS, SteppedRdb
from durakv.rdb.errors import DamagedRdb
from durakv.rdb.load import load_file
from durakv.rdb.reader import RdbFile
from durakv.rdb.window import ByteSource
from tests.engine.rig import TABLE, Rig
from tests.migration.live import SERVERS, Server, fill
from tests.migration.sim_source import contents, rdb_of


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]

    def size(self) -> int:
        return len(self.data)


def rebuilt(source: ByteSource) -> tuple[Keyspace, Found, list[int]]:
    """(what the commands build, what the survey found, bytes of each command)."""
    ends: dict[int, int] = {}
    found = Found()
    for _ in survey(SteppedRdb(source, "f", ends, keep_bytes_max=PIECE_BYTES), found):
        pass
    ks = Keyspace(16)
    applier = Applier(ks, TABLE, Outcome())
    attach(applier, TABLE, Rig().engine.acl.index)
    ks.writing = True
    sizes = []
    for command in build(SteppedRdb(source, "f", ends, keep_bytes_max=PIECE_BYTES)):
        if command is not None:
            db, argv = command
            reply = applier.run_write(TABLE.find(argv), argv, db, (0, 0))
            assert not isinstance(reply, Exception), (argv[:2], reply)
            sizes.append(sum(len(arg) for arg in argv))
    return ks, found, sizes


def loaded(source: ByteSource) -> Keyspace:
    ks = Keyspace(16)
    ks.writing = True
    load_file(RdbFile(source, "f"), ks, 0)
    return ks


@pytest.mark.parametrize("program", SERVERS)
@pytest.mark.parametrize("packed", [True, False])
def test_what_servers_save_comes_out_the_same(tmp_path: Path, program: str, packed: bool) -> None:
    limits = [] if packed else ["--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0",
                                "--set-max-intset-entries", "0", "--rdbcompression", "no"]  # fmt: skip
    with Server(program, tmp_path / "source", *limits) as server:
        client = server.client()
        fill(client, scale=5)
        client.set("long", b"abc" * 200_000, px=100_000)
        client.save()
    file = ReadOnlyFiles().open(str(tmp_path / "source" / "dump.rdb"))
    try:
        ks, found, sizes = rebuilt(file)
        assert contents(ks) == contents(loaded(file))
        assert found.keys == sum(db.size for db in ks.dbs)
        assert found.db_max == 3
        assert found.complaint(16) == ""
        assert "database 3" in found.complaint(3)
        assert max(sizes) < 2 * PIECE_BYTES
    finally:
        file.close()


def test_giants_of_every_kind_are_walked_in_steps_and_then_jumped_over() -> None:
    ks = Keyspace(16)
    applier = Applier(ks, TABLE, Outcome())
    ks.writing = True

    def run(*argv: bytes) -> None:
        reply = applier.run_write(TABLE.find(list(argv)), list(argv), 0, (0, 0))
        assert not isinstance(reply, Exception), reply

    many = range(3 * ELEMENTS)
    run(b"RPUSH", b"list", *(b"element %d" % n for n in many))
    run(b"SADD", b"set", *(b"member %d" % n for n in many))
    run(b"ZADD", b"zset", *(word for n in many for word in (b"%d.5" % n, b"member %d" % n)))
    run(b"HSET", b"hash", *(word for n in many for word in (b"field %d" % n, b"value %d" % n)))
    run(b"HSET", b"deadlines", *(word for n in many for word in (b"field %d" % n, b"value %d" % n)))
    run(b"HPEXPIREAT", b"deadlines", b"1900000000000", b"FIELDS", b"500", *(b"field %d" % n for n in range(500)))
    run(b"PEXPIREAT", b"set", b"1900000000001")
    run(b"SET", b"small", b"1")
    source = Bytes(rdb_of(ks))
    ends: dict[int, int] = {}
    found = Found()
    file = SteppedRdb(source, "f", ends, keep_bytes_max=PIECE_BYTES)
    steps = sum(1 for _ in survey(file, found))
    assert steps > 5 * 3
    assert len(ends) == 5
    assert found.keys == 6
    again, _, sizes = rebuilt(source)
    assert contents(again) == contents(ks)
    assert max(sizes) < 2 * PIECE_BYTES
    for cut in range(len(source.data) // 7, len(source.data), len(source.data) // 7):
        with pytest.raises(DamagedRdb):
            rebuilt(Bytes(source.data[:cut]))


def test_a_key_of_many_bytes_before_a_giant() -> None:
    ks = Keyspace(16)
    applier = Applier(ks, TABLE, Outcome())
    ks.writing = True
    argv = [b"SADD", b"k" * (5 << 20), *(b"member %d" % n for n in range(2 * ELEMENTS))]
    applier.run_write(TABLE.find(argv), argv, 0, (0, 0))
    again, _, _ = rebuilt(Bytes(rdb_of(ks)))
    assert contents(again) == contents(ks)


def test_a_passed_deadline_is_kept() -> None:
    ks = Keyspace(16)
    applier = Applier(ks, TABLE, Outcome())
    ks.writing = True
    argv = [b"SET", b"a", b"1", b"PXAT", b"5"]
    applier.run_write(TABLE.find(argv), argv, 0, (0, 0))
    again, _, _ = rebuilt(Bytes(rdb_of(ks)))
    assert again.dbs[0].expiry(b"a") == 5
