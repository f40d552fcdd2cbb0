"""A frame of the effect stream: the row changes that take a checkpoint from one index to a later one. [compiled]

Rule: the only place that knows the bytes of a frame's header. A frame is whole or not there: the materialiser is told
up to where it may read, so anything that does not parse before that point is damage. It must not know what the body
means (ops.py does).
"""

from __future__ import annotations

import struct
from typing import Final

from durakv.checkpoint.damage import StreamDamaged
from durakv.storage.record import crc

MAGIC: Final = b"DKFX1\n"
HEADER_BYTES: Final = 64
_HEADER: Final = struct.Struct("<6sHQQQQIIIII")
_CRC: Final = struct.Struct("<I")
_CRC_AT: Final = 60


class Frame:
    """Takes a checkpoint at ``from_index`` to ``index``, whose entry has ``term``, ``subterm`` and log time ``ts_ms``.

    ``chain`` is the log's running digest there (0: not known); ``body`` holds ``ops`` row changes (0: not counted).
    """

    __slots__ = ("body", "chain", "from_index", "index", "ops", "subterm", "term", "ts_ms")

    def __init__(
        self, from_index: int, index: int, term: int, subterm: int, chain: int, ts_ms: int, ops: int, body: bytes
    ) -> None:
        self.from_index = from_index
        self.index = index
        self.term = term
        self.subterm = subterm
        self.chain = chain
        self.ts_ms = ts_ms
        self.ops = ops
        self.body = body


def build_frame(
    from_index: int, index: int, term: int, subterm: int, chain: int, ts_ms: int, ops_count: int, body: bytes
) -> bytes:
    """The bytes of a frame; ``index`` is above ``from_index``, ``ts_ms`` Unix ms."""
    assert index > from_index, "a frame must take the checkpoint forward"
    head = _HEADER.pack(
        MAGIC, 0, from_index, index, term, ts_ms, subterm, chain, ops_count, len(body), crc(body)
    )  # fmt: skip
    return b"".join((head, _CRC.pack(crc(head)), body))


class FrameReader:
    """Cuts the bytes of one stream file into frames. ``offset``: where in the file the next frame begins."""

    def __init__(self, name: str) -> None:
        """``name`` of the file, for errors."""
        self.name = name
        self.offset = 0
        self._parts: list[bytes] = []
        self._held = 0
        # Bytes needed before looking again is worth it.
        self._needed = HEADER_BYTES

    def feed(self, data: bytes) -> None:
        """Append bytes read from the file."""
        self._parts.append(data)
        self._held += len(data)

    def pending_bytes(self) -> int:
        """Bytes fed that do not make a whole frame yet."""
        return self._held

    def next(self) -> Frame | None:
        """The next whole frame, or None until more is fed. Raises StreamDamaged."""
        if self._held < self._needed:
            return None
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        magic, flags, from_index, index, term, ts_ms, subterm, chain, ops, size, body_crc = _HEADER.unpack_from(data)
        if magic != MAGIC or flags != 0:
            raise StreamDamaged(self._place(), "no frame begins here")
        if _CRC.unpack_from(data, _CRC_AT)[0] != crc(data[:_CRC_AT]):
            raise StreamDamaged(self._place(), "the checksum of a frame header is wrong")
        if index <= from_index:
            raise StreamDamaged(self._place(), f"a frame leads from index {from_index} to {index}")
        end = HEADER_BYTES + int(size)
        if len(data) < end:
            self._parts = [data]
            self._needed = end
            return None
        body = data[HEADER_BYTES:end]
        if crc(body) != body_crc:
            raise StreamDamaged(self._place(), "the checksum of a frame body is wrong")
        self._needed = HEADER_BYTES
        self._held -= end
        self._parts = [data[end:]] if self._held else []
        self.offset += end
        return Frame(from_index, index, term, subterm, chain, ts_ms, ops, body)

    def _place(self) -> str:
        return f"{self.name} at byte {self.offset}"
