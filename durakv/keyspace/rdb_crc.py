"""CRC-64 as RDB files and DUMP payloads carry it.

Source: valkey crc64.c (Jones; reflected, no final xor).
"""

from __future__ import annotations

from typing import Final

_POLY: Final = 0x95AC9329AC4BC9B5


def _crc_table() -> list[int]:
    table: list[int] = []
    for n in range(256):
        crc = n
        for _ in range(8):
            crc = (crc >> 1) ^ _POLY if crc & 1 else crc >> 1
        table.append(crc)
    return table


_TABLE: Final[list[int]] = _crc_table()


def crc64(data: bytes, crc: int = 0) -> int:
    """CRC-64/Jones as RDB files use it (reflected, no final xor), continued from ``crc``."""
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc
