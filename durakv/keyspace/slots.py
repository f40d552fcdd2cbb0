"""Which of the 16384 hash slots a key belongs to. [compiled]"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

# As a constant it is found without a look into the module.
_CRC: Final = crc_hqx
SLOTS: Final = 16384
# "{" and "}": looked for as numbers, because bytes in bytes first fails as one.
_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D
# A tag that ends within this many bytes is found by a loop, which costs less than two calls of find().
_NEAR: Final = 32


def slot_of(key: bytes) -> int:
    """The cluster slot of ``key``: CRC16 (XMODEM) of its hash tag, or of the whole key, modulo 16384."""
    if _OPEN in key:
        start, end = _tag(key)
        if end > start:
            key = key[start:end]
    return _CRC(key, 0) & 16383


def _tag(key: bytes) -> tuple[int, int]:
    """Where the hash tag of a key that has a brace starts and ends; the end is not after the start without a tag."""
    start = 0
    for i in range(min(len(key), _NEAR)):
        letter = key[i]
        if letter == _CLOSE and start:
            return start, i
        if letter == _OPEN and not start:
            start = i + 1
    start = key.find(b"{") + 1
    return start, key.find(b"}", start)
