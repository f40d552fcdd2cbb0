"""The fast sum equals the table's on every shape of input."""

from __future__ import annotations

from random import Random

import pytest

from durakv.keyspace.rdb_crc import crc64
from durakv.rdb import crc64 as fast
from durakv.rdb.crc64 import Crc64, change_start

POLY = 0xAD93D23594C935A9


def test_the_known_value() -> None:
    total = Crc64()
    total.update(b"123456789")
    assert total.value() == 0xE9C6D914C4B8D9CA


def test_the_places_cancel_a_bit() -> None:
    # x^-s for each place, and the bit itself, add up to nothing modulo the polynomial.
    value, total, s = 1, 1, 0
    for place in fast.PLACES:
        while s < place:
            value = (value ^ (1 << 64 | POLY)) >> 1 if value & 1 else value >> 1
            s += 1
        total ^= value
    assert total == 0


@pytest.mark.parametrize("size", [0, 1, 39_763, 130_086, 130_088, 200_001, 700_000])
def test_it_equals_the_table(size: int) -> None:
    random = Random(size)
    data = random.randbytes(size)
    total = Crc64()
    at = 0
    while at < size:
        step = random.choice([1, 1000, 50_000, 300_000])
        total.update(data[at : at + step])
        at += step
    assert total.value() == crc64(data)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, 65_537])
def test_a_changed_start_needs_no_second_pass(size: int) -> None:
    rest = Random(size).randbytes(size)
    assert change_start(crc64(b"REDIS0009" + rest), b"REDIS0009", b"VALKEY080", size) == crc64(b"VALKEY080" + rest)
