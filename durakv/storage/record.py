"""A frame: 128 bytes of ASCII header, then the body of one Raft entry.

Rule: the only place that knows the bytes of a frame header. A header is an annotation line (``#...CRLF``), so a log
whose bodies are commands is a legal append-only file of Redis and Valkey. docs/format.md describes every field.
It must not know files, segments as files, or what a body means.

A parsed header is canonical: each byte is the only byte a writer could have put there. Without that rule a bit flip
that only turns ``a`` into ``A`` would parse to the same number and go unnoticed.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from typing import Final

from crc32c import crc32c

HEADER_BYTES: Final = 128
MAGIC: Final = b"#DK1 "

# Frame types.
EFFECTS: Final = 0x44  # D
PAYLOAD: Final = 0x51  # Q: an opaque command payload
NOOP: Final = 0x4E  # N
CONFIG: Final = 0x43  # C
CHECK: Final = 0x4B  # K
MARK: Final = 0x4D  # M: everything before it was synced; takes no index
SEAL: Final = 0x53  # S: last frame of a segment; takes no index

FLAG_TRANSACTION: Final = 1
FLAG_IMPORT: Final = 2
FLAG_NEWER_SEMANTICS: Final = 4

UINT32_MAX: Final = 0xFFFFFFFF

_HEADER_FORMAT: Final = b"#DK1 %c %016x %08x %08x %011x %08x %08x %08x %08x %04x %04x %04x %012x"
_CRC_AT: Final = 117  # header_crc covers the bytes before this one
# The 11-digit time gets a leading zero so that all fields are whole bytes; 6-byte fields are a u16 and a u32.
_FIELDS: Final = struct.Struct(">QIIHIIIIIHHHHI")
_LINK: Final = struct.Struct("<QQI")
_TYPE_TEXT: Final = {kind: b"#DK1 %c" % kind for kind in (EFFECTS, PAYLOAD, NOOP, CONFIG, CHECK, MARK, SEAL)}
_DIGIT_ZERO: Final = 0x30
_CRC: Final = struct.Struct(">I")
_CRC_TEXT: Final = struct.Struct("c8s2s")


def _digits_to_zero() -> bytes:
    table = bytearray(range(256))
    for digit in b"0123456789abcdef":
        table[digit] = 0x30
    return bytes(table)


_DIGITS_TO_ZERO: Final = _digits_to_zero()
# What a canonical header looks like once each lower-case hex digit reads "0", by frame type.
_SHAPES: Final[dict[bytes, int]] = {
    (b"%s %08x\r\n" % (_HEADER_FORMAT % (kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0)).replace(b"#DK1", b"#DK0"): kind
    for kind in (EFFECTS, PAYLOAD, NOOP, CONFIG, CHECK, MARK, SEAL)
}


class Header:
    """A parsed frame header. ``kind`` is the type byte; sizes and offsets are bytes, ``ts_ms`` unix milliseconds."""

    __slots__ = (
        "body_crc",
        "body_len",
        "chain",
        "flags",
        "index",
        "kind",
        "ncmd",
        "offset",
        "seg",
        "subterm",
        "term",
        "ts_ms",
        "unsynced",
    )

    def __init__(
        self,
        kind: int,
        index: int,
        term: int,
        subterm: int,
        ts_ms: int,
        body_len: int,
        body_crc: int,
        chain: int,
        unsynced: int,
        ncmd: int,
        flags: int,
        seg: int,
        offset: int,
    ) -> None:
        self.kind: int = kind
        self.index: int = index
        self.term: int = term
        self.subterm: int = subterm
        self.ts_ms: int = ts_ms
        self.body_len: int = body_len
        self.body_crc: int = body_crc
        self.chain: int = chain
        self.unsynced: int = unsynced
        self.ncmd: int = ncmd
        self.flags: int = flags
        self.seg: int = seg
        self.offset: int = offset

    def synced_evidence(self) -> int:
        """Highest index that was durable on this node when the frame was built."""
        return self.index - self.unsynced if self.index > self.unsynced else 0


def crc(data: bytes, seed: int = 0) -> int:
    """CRC-32C (Castagnoli)."""
    value: int = crc32c(data, seed)
    return value


def next_chain(chain: int, index: int, term: int, body_crc: int) -> int:
    """The running digest of the log after entry ``index``; equal on all nodes that hold the same entries."""
    value: int = crc32c(_LINK.pack(index, term, body_crc), chain)
    return value


def parse_header(data: bytes, salt: int) -> Header | None:
    """The header in exactly 128 bytes, or None when any byte is not what a writer of this segment would have put."""
    kind = _SHAPES.get(data.translate(_DIGITS_TO_ZERO))
    if kind is None or data[3] != 0x31:
        return None
    own_crc: int = crc32c(data[:_CRC_AT], salt)
    if data[118:126] != b"%08x" % own_crc:
        return None
    (
        index,
        term,
        subterm,
        ts_high,
        ts_low,
        body_len,
        body_crc,
        chain,
        unsynced,
        ncmd,
        flags,
        seg,
        offset_high,
        offset_low,
    ) = _FIELDS.unpack(bytes.fromhex((data[7:42] + b"0" + data[42:_CRC_AT]).decode("ascii")))
    return Header(
        kind,
        index,
        term,
        subterm,
        (ts_high << 32) | ts_low,
        body_len,
        body_crc,
        chain,
        unsynced,
        ncmd,
        flags,
        seg,
        (offset_high << 32) | offset_low,
    )


def encode_header(header: Header, salt: int) -> bytes:
    """The 128 bytes that ``parse_header`` turns back into ``header``. Raises AssertionError when a field is too
    wide.
    """
    text = _HEADER_FORMAT % (
        header.kind,
        header.index,
        header.term,
        header.subterm,
        header.ts_ms,
        header.body_len,
        header.body_crc,
        header.chain,
        header.unsynced,
        header.ncmd,
        header.flags,
        header.seg,
        header.offset,
    )
    assert len(text) == _CRC_AT, "a frame header field is wider than its place"
    own_crc: int = crc32c(text, salt)
    return b"%s %08x\r\n" % (text, own_crc)


class FrameBuilder:
    """Builds the consecutive frames of one write into one segment.

    ``offset`` is where the next frame goes, ``chain`` the digest after the last entry; ``take()`` empties the buffer.
    """

    __slots__ = ("_parts", "chain", "offset", "salt", "seg")

    def __init__(self, seg: int, salt: int, offset: int, chain: int) -> None:
        self.seg: int = seg & 0xFFFF
        self.salt: int = salt
        self.offset: int = offset
        self.chain: int = chain
        self._parts: list[bytes] = []

    def add_entry(
        self,
        kind: int,
        index: int,
        term: int,
        subterm: int,
        body: bytes,
        durable_index: int,
        ts_ms: int = 0,
        ncmd: int = 0,
        flags: int = 0,
    ) -> None:
        """Append the frame of one entry. ``durable_index``: highest index known to be synced on this node."""
        body_crc: int = crc32c(body)
        chain: int = crc32c(_LINK.pack(index, term, body_crc), self.chain)
        unsynced = index - durable_index
        if unsynced > UINT32_MAX:
            unsynced = UINT32_MAX
        if ncmd > 0xFFFF:
            ncmd = 0xFFFF
        size = len(body)
        offset = self.offset
        # Converting all fields at once costs a third of formatting each.
        try:
            fields = _FIELDS.pack(
                index, term, subterm, ts_ms >> 32, ts_ms & UINT32_MAX, size, body_crc, chain, unsynced, ncmd, flags,
                self.seg, offset >> 32, offset & UINT32_MAX,
            )  # fmt: skip
        except struct.error as e:
            raise AssertionError("a frame header field is wider than its place") from e
        digits = hexlify(fields)
        assert digits[32] == _DIGIT_ZERO, "a frame header field is wider than its place"
        text = b" ".join((
            _TYPE_TEXT[kind], digits[0:16], digits[16:24], digits[24:32], digits[33:44], digits[44:52], digits[52:60],
            digits[60:68], digits[68:76], digits[76:80], digits[80:84], digits[84:88], digits[88:100],
        ))  # fmt: skip
        own_crc: int = crc32c(text, self.salt)
        parts = self._parts
        parts.append(text)
        parts.append(_CRC_TEXT.pack(b" ", hexlify(_CRC.pack(own_crc)), b"\r\n"))
        if body:
            parts.append(body)
        self.offset = offset + HEADER_BYTES + size
        self.chain = chain

    def add_note(self, kind: int, index: int, term: int, durable_index: int, body: bytes) -> None:
        """Append a frame that takes no index (M, S): it names the last entry before it and leaves the chain alone."""
        header = Header(
            kind,
            index,
            term,
            0,
            0,
            len(body),
            crc(body),
            self.chain,
            min(index - durable_index, UINT32_MAX),
            0,
            0,
            self.seg,
            self.offset,
        )
        self._parts.append(encode_header(header, self.salt))
        if body:
            self._parts.append(body)
        self.offset += HEADER_BYTES + len(body)

    def take(self) -> bytes:
        """All frames added since the last call, as one buffer."""
        data = b"".join(self._parts)
        self._parts = []
        return data
