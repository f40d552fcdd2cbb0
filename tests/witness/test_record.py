"""The bytes at rest: every one is covered, and the file is small."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from durakv.witness.errors import StateLostError
from durakv.witness.parts import StateKey
from durakv.witness.record import MEMBERS_MAX, SEALED_BYTES_MAX, Marker, Sealed
from durakv.witness.store import ask, create
from durakv.witness.store_file import FileRegister
from durakv.world.real_disk import RealDisk
from raft.types import DecodeError
from raft.witness import WitnessState
from tests.witness.places import CLUSTER, WITNESS, append, key, vote

FULL = Sealed(
    key(), b"i" * 16, 7, b"t" * 8, WitnessState(1, WITNESS, 5, 2, 4, 3, tuple(range(1, MEMBERS_MAX + 1)))
)  # fmt: skip
MARK = Marker(key(), b"i" * 16, b"t" * 8)


def test_the_largest_state_is_under_512_bytes():
    assert len(FULL.encode()) == 508 <= SEALED_BYTES_MAX
    assert len(Sealed(key(), b"i" * 16, 1, b"t" * 8, WitnessState(1, WITNESS)).encode()) == 124


def test_both_come_back_as_they_were():
    back = Sealed.decode(FULL.encode())
    assert (back.key, back.incarnation, back.version, back.token, back.state) == (
        FULL.key, FULL.incarnation, FULL.version, FULL.token, FULL.state,
    )  # fmt: skip
    mark = Marker.decode(MARK.encode())
    assert (mark.key, mark.incarnation, mark.token) == (MARK.key, MARK.incarnation, MARK.token)


@pytest.mark.parametrize(("data", "decode"), [(FULL.encode(), Sealed.decode), (MARK.encode(), Marker.decode)])
def test_every_damaged_bit_and_every_length_is_noticed(data: bytes, decode):
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises(DecodeError):
                decode(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:length])
    for more in (b"\x00", b"x" * 100, data):
        with pytest.raises(DecodeError):
            decode(data + more)


def test_strangers_bytes_are_no_state():
    random = Random(1)
    for _ in range(3000):
        with pytest.raises(DecodeError):
            Sealed.decode(random.randbytes(random.randrange(600)))


@pytest.fixture
def disk():
    made = RealDisk(lambda fn: fn())
    yield made
    made.close()


def test_damage_of_any_byte_of_the_newest_file_loses_the_state_and_no_older_one_is_used(disk: RealDisk, tmp_path: Path):
    create(FileRegister(disk, str(tmp_path), key(), "create"), b"i" * 16, b"creation")
    register = FileRegister(disk, str(tmp_path), key(), "n1")
    ask(register, vote(1, 2, (1, 0)), b"question")
    ask(register, append(1, 2, (2, 1), (1, WITNESS)), b"question")
    newest = tmp_path / key().name() / "3.st"
    data = newest.read_bytes()
    assert (newest.parent / "2.st").exists()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        newest.write_bytes(damaged)
        with pytest.raises(StateLostError, match="damaged"):
            ask(register, vote(2, 9, (9, 0)), b"question")
    for torn in (b"", data[:1], data[:-1], bytes(len(data)), data + b"\x00"):
        newest.write_bytes(torn)
        with pytest.raises(StateLostError):
            ask(register, vote(2, 9, (9, 0)), b"question")
    assert sorted(path.name for path in newest.parent.iterdir()) == ["1.st", "2.st", "3.st", "CREATED"]
    newest.write_bytes(data)
    assert ask(register, vote(1, 2, (2, 1)), b"question").reply.granted  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: (d / "CREATED").unlink(), "marker of its creation is missing"),
        (lambda d: (d / "CREATED").write_bytes(b"?"), "marker of its creation is damaged"),
        (lambda d: (d / "CREATED").write_bytes(Marker(key(), b"j" * 16, b"t" * 8).encode()), "different creations"),
        (lambda d: (d / "CREATED").write_bytes(Marker(key(2), b"i" * 16, b"t" * 8).encode()), "marker there belongs"),
        (lambda d: (d / "2.st").rename(d / "3.st"), "holds version 2"),
        (lambda d: (d / "3.st").write_bytes(Sealed(key(2), b"i" * 16, 3, b"t" * 8, WitnessState(2, WITNESS)).encode()),
         "belongs to"),
        (lambda d: [path.unlink() for path in d.glob("*.st")], "no state in"),
    ],
)  # fmt: skip
def test_what_is_not_this_witnesss_whole_state_is_a_lost_state(disk: RealDisk, tmp_path: Path, change, reason: str):
    create(FileRegister(disk, str(tmp_path), key(), "create"), b"i" * 16, b"creation")
    ask(FileRegister(disk, str(tmp_path), key(), "n1"), vote(1, 2, (1, 0)), b"question")
    change(tmp_path / key().name())
    with pytest.raises(StateLostError, match=reason):
        ask(FileRegister(disk, str(tmp_path), key(), "n1"), vote(2, 9, (9, 0)), b"question")


def test_a_key_has_one_name():
    for state in (key(), key(1 << 63, (1 << 64) - 1), StateKey(CLUSTER, 0, 1)):
        assert StateKey.named(state.name()) == state
    for name in ("", "LOCK", f"{CLUSTER.hex()}-1-0", f"{CLUSTER.hex()}-01-9", f"{CLUSTER.hex().upper()}-1-9",
                 f"{CLUSTER.hex()}-1", f"{CLUSTER.hex()}--9", f"{CLUSTER.hex()}-1-{1 << 64}", "zz" * 16 + "-1-9",
                 f"{CLUSTER.hex()}-1-\u0661"):  # fmt: skip
        assert StateKey.named(name) is None
