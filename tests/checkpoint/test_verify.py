"""The deep check: silent about sound checkpoints, and for each kind of contradiction it names the place."""

from __future__ import annotations

from random import Random

import pytest

from durakv.checkpoint import elements, ops, rows
from durakv.checkpoint.frames import Frame
from durakv.checkpoint.kv import ELEM, GC, KEYS, META
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.verify import FINDINGS_MAX, Verified, verify_environment, verify_store
from durakv.keyspace.slots import slot_of
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv

from .emit import DATABASES, Source
from .test_images import tracker_for
from .values import a_value


def store(some=(), *, kv=None):
    """A store with what these ops make, and all that the deep check says of it."""
    kv = kv or MemoryKv()
    found(kv, bytes(16), 1, DATABASES)
    out = []
    for encode, *arguments in some:
        encode(out, *arguments)
    keeper = Materialiser(kv)
    keeper.apply(Frame(0, 5, 1, 0, 0, 0, len(some), b"".join(out)))
    keeper.commit()
    return kv


def said(kv):
    result = Verified()
    verify_store(kv, result)
    return [str(finding) for finding in result.findings]


def large(kid, key=b"h", phys=0):
    """A hash of 40 fields in rows of ``kid``."""
    value = a_value(Random(3), "hash", 60)
    tracker = tracker_for(value, kid, 100)
    some = [(ops.insert_element, kid, i, k, v) for i, (k, v) in enumerate(elements.elements(value, tracker))]
    return [*some, (ops.put_key, phys, slot_of(key), -1, key, elements.large(value, tracker))]


@pytest.mark.parametrize("seed", range(4))
def test_a_sound_checkpoint_is_sound(seed):
    source = Source(seed)
    kv = MemoryKv()
    found(kv, bytes(16), 1, DATABASES)
    keeper = Materialiser(kv)
    for index in range(8):
        for _ in range(6):
            source.change()
        count, body = source.take()
        keeper.apply(Frame(index, index + 1, 1, 0, 0, 0, count, body))
        keeper.commit()
    result = Verified()
    verify_store(kv, result)
    assert [str(finding) for finding in result.findings] == []
    assert result.applied is not None and result.applied.index == 8
    assert result.keys >= sum(db.size for db in source.ks.dbs) and result.aux == len(source.aux)
    assert result.elements == len(kv.committed[ELEM])
    while keeper.garbage():
        keeper.collect()
    after = Verified()
    verify_store(kv, after)
    assert after.findings == [] and after.garbage == 0
    assert after.elements == result.elements - result.garbage


def test_an_empty_store_is_sound():
    assert said(MemoryKv()) == []
    assert said(store()) == []


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ([(ops.put_key, 0, 5, -1, b"k", b"\0v")], f"it is in slot 5 and belongs to slot {slot_of(b'k')}"),
        ([(ops.put_key, 9, slot_of(b"k"), -1, b"k", b"\0v")], "key b'k' in database 9: no database has that number"),
        ([(ops.put_key, 0, slot_of(b"k"), -1, b"k", b"\x63v")], "kind 99"),
        ([(ops.insert_element, 5, 0, b"e", b"v")], "no key has elements of 5"),
        (large(4)[1:], "rows"),
        ([*large(4), *large(4, b"twin")[-1:]], "which another key has too"),
        ([*large(4), (ops.kid_dead, 4)], "which are to be removed"),
        ([(ops.db_dead, 2)], "database 2 is in use and to be removed"),
    ],
)
def test_contradictions_are_named(some, message):
    assert any(message in text for text in said(store(some))), said(store(some))


def test_what_waits_to_be_removed_is_no_fault():
    kv = store([*large(4), (ops.kid_dead, 4), (ops.delete_key, 0, slot_of(b"h"), b"h"), *large(6, b"i", 3),
                (ops.db_dead, 3), (ops.db_map, [0, 1, 2, 9])])  # fmt: skip
    result = Verified()
    verify_store(kv, result)
    assert [str(finding) for finding in result.findings] == []
    assert result.garbage == result.elements > 80


def test_it_goes_on_after_a_finding_and_counts_the_rest():
    kv = store([(ops.put_key, 0, slot_of(b"%d" % i), -1, b"%d" % i, b"\0v") for i in range(300)])
    for row_key in list(kv.committed[KEYS])[:250]:
        kv.committed[KEYS][row_key] = kv.committed[KEYS][row_key][:-1] + b"?"
    result = Verified()
    verify_store(kv, result)
    assert len(result.findings) == FINDINGS_MAX and result.more >= 250 - FINDINGS_MAX
    assert result.keys >= 50


def test_rows_from_the_past_and_lost_rows_are_named():
    kv = store(large(4))
    past = dict(kv.committed[KEYS])
    keeper = Materialiser(kv)
    out: list[bytes] = []
    ops.put_key(out, 0, slot_of(b"k"), -1, b"k", b"\0v")
    keeper.apply(Frame(5, 6, 1, 0, 0, 0, 1, b"".join(out)))
    keeper.commit()
    now = kv.committed[KEYS]
    kv.committed[KEYS] = past
    assert said(kv) == ["database keys: it has 1 sound rows instead of 2"]
    row = rows.key_row(slot_of(b"k"), 0, b"k")
    kv.committed[KEYS] = {**past, row: rows.sealed(row, rows.key_payload(b"k", -1, b"\0w"))}
    assert said(kv) == ["database keys: its rows are not those of the last commit, though each is sound"]
    kv.committed[KEYS] = now
    assert said(kv) == []
    name = rows.dead_kid_row(77)
    kv.committed[GC][name] = rows.sealed(name, b"")
    assert said(kv) == ["database gc: it has 1 sound rows instead of 0"]


@pytest.mark.parametrize("name", [rows.APPLIED, rows.SUMS, rows.DB_MAP, rows.NEXT, rows.IDENTITY])
def test_damaged_facts_do_not_end_the_check(name):
    kv = store([*large(4), (ops.insert_element, 9, 0, b"e", b"v")])
    kv.committed[META][name] = kv.committed[META][name][:-1] + b"?"
    found_now = said(kv)
    assert f"database meta, row {name.decode()}: the checksum is wrong" in found_now
    assert any("no key has elements of 9" in text for text in found_now)


def test_pages_come_first(tmp_path):
    store(large(4), kv=(kv := open_kv(str(tmp_path), write=True)))
    kv.close()
    disk = RealDisk(lambda job: job())
    result = verify_environment(disk, open_kv, str(tmp_path))
    assert result.findings == [] and result.pages is not None and result.elements > 40
    path = tmp_path / "data.mdb"
    whole = path.read_bytes()
    at = whole.index(rows.key_row(slot_of(b"h"), 0, b"h"))
    path.write_bytes(whole[: at + 3] + b"\xff" + whole[at + 4 :])
    assert any("the checksum is wrong" in str(f) for f in verify_environment(disk, open_kv, str(tmp_path)).findings)
    path.write_bytes(whole[:8192] + bytes(4096) + whole[12288:])
    result = verify_environment(disk, open_kv, str(tmp_path))
    assert len(result.findings) == 1 and "page 2" in result.findings[0].where and result.applied is None
    with pytest.raises(FileNotFoundError):
        verify_environment(disk, open_kv, str(tmp_path / "nowhere"))
    disk.close()
