"""Frame headers: round trip, canonical form, every single-bit flip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.storage.record import (
    CHECK,
    CONFIG,
    EFFECTS,
    HEADER_BYTES,
    MARK,
    NOOP,
    PAYLOAD,
    SEAL,
    FrameBuilder,
    Header,
    crc,
    encode_header,
    next_chain,
    parse_header,
)

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
HEADERS = st.builds(
    Header,
    st.sampled_from([EFFECTS, PAYLOAD, NOOP, CONFIG, CHECK, MARK, SEAL]),
    st.integers(0, 2**64 - 1),
    U32,
    U32,
    st.integers(0, 2**44 - 1),
    U32,
    U32,
    U32,
    U32,
    U16,
    U16,
    U16,
    st.integers(0, 2**48 - 1),
)


# Named here: a compiled class has no __slots__ to ask.
FIELDS = (
    "body_crc", "body_len", "chain", "flags", "index", "kind", "ncmd", "offset", "seg", "subterm", "term", "ts_ms",
    "unsynced",
)  # fmt: skip


def fields(header: Header) -> list[int]:
    return [getattr(header, name) for name in FIELDS]


@given(HEADERS, U32)
def test_round_trip(header: Header, salt: int) -> None:
    data = encode_header(header, salt)
    assert len(data) == HEADER_BYTES
    assert data.endswith(b"\r\n")
    parsed = parse_header(data, salt)
    assert parsed is not None
    assert fields(parsed) == fields(header)
    assert parse_header(data, salt ^ 1) is None


def test_every_byte_change_is_seen() -> None:
    data = encode_header(Header(PAYLOAD, 0xABCDEF, 10, 11, 12, 13, 0xABCDEFAB, 0xFEDCBA98, 1, 2, 3, 4, 0xABC), 77)
    for at in range(HEADER_BYTES):
        for value in range(256):
            if value != data[at]:
                assert parse_header(data[:at] + bytes([value]) + data[at + 1 :], 77) is None, (at, value)


def test_upper_case_checksum_is_not_canonical() -> None:
    for index in range(100):
        data = encode_header(Header(PAYLOAD, index, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 1)
        shouted = data[:118] + data[118:126].upper() + data[126:]
        assert (parse_header(shouted, 1) is None) == (shouted != data)


def test_layout_is_the_documented_one() -> None:
    data = encode_header(Header(PAYLOAD, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 0)
    assert data[:117] == (
        b"#DK1 Q 0000000000000001 00000002 00000003 00000000004 00000005 00000006 00000007 00000008"
        b" 0009 000a 000b 00000000000c"
    )
    assert data[117:] == b" %08x\r\n" % crc(data[:117])
    assert [data.find(b"%016x" % 1), data.find(b"00000002"), data.rfind(b"00000000000c")] == [7, 24, 105]


def test_wide_fields_are_refused() -> None:
    builder = FrameBuilder(1, 0, 256, 0)
    with pytest.raises(AssertionError, match="wider"):
        builder.add_entry(PAYLOAD, 1, 2**32, 0, b"", 0)


def test_builder_chains_and_places_frames() -> None:
    builder = FrameBuilder(0x10007, 5, 256, 99)
    builder.add_entry(PAYLOAD, 4, 2, 1, b"hello", 1, ts_ms=1234, ncmd=70_000, flags=1)
    builder.add_note(MARK, 4, 2, 4, b"")
    builder.add_entry(NOOP, 5, 3, 0, b"", 4)
    data = builder.take()
    assert builder.take() == b""
    first = parse_header(data[:128], 5)
    mark = parse_header(data[133:261], 5)
    second = parse_header(data[261:], 5)
    assert first is not None
    assert mark is not None
    assert second is not None
    chain = next_chain(99, 4, 2, crc(b"hello"))
    assert (first.seg, first.offset, first.unsynced, first.ncmd, first.chain) == (7, 256, 3, 0xFFFF, chain)
    assert (mark.kind, mark.index, mark.offset, mark.chain, mark.synced_evidence()) == (MARK, 4, 389, chain, 4)
    assert (second.offset, second.chain) == (517, next_chain(chain, 5, 3, 0))
    assert builder.offset == 256 + len(data)


def test_known_checksums() -> None:
    assert crc(b"123456789") == 0xE3069283
    assert next_chain(0, 1, 1, 0) == crc(bytes([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
