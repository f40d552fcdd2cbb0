"""Which of the 16384 hash slots a key belongs to. [compiled]"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

SLOTS: Final = 16384
# "{": looked for as a number, because bytes in bytes first fails as one.
_OPEN: Final = 0x7B


def slot_of(key: bytes) -> int:
    """The cluster slot of ``key``: CRC16 (XMODEM) of its hash tag, or of the whole key, modulo 16384."""
    if _OPEN in key:
        start = key.find(b"{")
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) & 16383
