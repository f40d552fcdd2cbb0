"""Frames and ops: round trips, and no flipped bit of a frame goes unnoticed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.checkpoint import ops
from durakv.checkpoint.damage import StreamDamaged
from durakv.checkpoint.frames import HEADER_BYTES, MAGIC, FrameReader, build_frame

U16, U32, U64 = st.integers(0, (1 << 16) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
BLOB = st.binary(max_size=40)


def fields(frame):
    return (
        frame.from_index, frame.index, frame.term, frame.subterm, frame.chain, frame.ts_ms, frame.ops, frame.body,
    )  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(1, 9), U64, U32, U32, U64, U32, BLOB), max_size=6), st.integers(1, 200), st.data()
)
@settings(deadline=None)
def test_frames_come_back_however_they_are_cut(steps, piece, data):
    index = 0
    expected, stream = [], b""
    for ahead, term, subterm, chain, ts_ms, count, body in steps:
        made = (index, index + ahead, term, subterm, chain, ts_ms, count, body)
        expected.append(made)
        stream += build_frame(*made)
        index += ahead
    reader = FrameReader("x.fx")
    found = []
    for at in range(0, len(stream), piece):
        reader.feed(stream[at : at + piece])
        while (frame := reader.next()) is not None:
            found.append(fields(frame))
    assert found == expected
    assert reader.pending_bytes() == 0 and reader.offset == len(stream)


def test_a_header_has_the_documented_size():
    assert len(build_frame(0, 1, 2, 3, 4, 5, 0, b"")) == HEADER_BYTES == struct.calcsize("<6sHQQQQIIIIII")


def test_a_frame_must_go_forward():
    with pytest.raises(AssertionError, match="forward"):
        build_frame(5, 5, 1, 0, 0, 0, 0, b"")


def test_every_flipped_bit_is_noticed():
    good = build_frame(7, 9, 2, 1, 0x1234, 1_700_000_000_000, 1, b"body of the frame")
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            reader = FrameReader("x.fx")
            reader.feed(bytes(bad))
            with pytest.raises(StreamDamaged, match=r"x\.fx at byte 0"):
                reader.next()


def test_a_whole_header_of_nonsense_is_named_with_its_place():
    reader = FrameReader("dk.1.fx")
    reader.feed(build_frame(0, 1, 1, 0, 0, 0, 0, b"ab") + MAGIC + bytes(HEADER_BYTES))
    assert reader.next() is not None
    with pytest.raises(StreamDamaged, match="at byte 66: the checksum of a frame header"):
        reader.next()


OPS = st.one_of(
    st.tuples(st.just("put_key"), U32, U16, st.integers(-1, 1 << 62), BLOB, BLOB),
    st.tuples(st.just("delete_key"), U32, U16, BLOB),
    st.tuples(st.just("insert_element"), U64, U64, BLOB, BLOB),
    st.tuples(st.just("update_element"), U64, BLOB, BLOB),
    st.tuples(st.just("remove_element"), U64, BLOB),
    st.tuples(st.just("kid_dead"), U64),
    st.tuples(st.just("db_map"), st.lists(U32, max_size=20)),
    st.tuples(st.just("db_dead"), U32),
    st.tuples(st.just("slots_dead"), U32, U16, U16),
    st.tuples(st.just("put_aux"), BLOB, BLOB),
    st.tuples(st.just("delete_aux"), BLOB),
)
CODES = {
    ops.PUT_KEY: ("put_key", "phys", "slot", "expire_ms", "name", "value"),
    ops.DELETE_KEY: ("delete_key", "phys", "slot", "name"),
    ops.INSERT: ("insert_element", "kid", "order", "name", "value"),
    ops.UPDATE: ("update_element", "kid", "name", "value"),
    ops.REMOVE: ("remove_element", "kid", "name"),
    ops.KID_DEAD: ("kid_dead", "kid"),
    ops.DB_MAP: ("db_map", "physical"),
    ops.DB_DEAD: ("db_dead", "phys"),
    ops.SLOTS_DEAD: ("slots_dead", "phys", "slot", "last"),
    ops.PUT_AUX: ("put_aux", "name", "value"),
    ops.DELETE_AUX: ("delete_aux", "name"),
}


def encoded(some):
    out = []
    for name, *arguments in some:
        getattr(ops, name)(out, *arguments)
    return b"".join(out)


def decoded(body):
    reader = ops.OpReader(body)
    found = []
    while code := reader.next():
        name, *parts = CODES[code]
        found.append((name, *[getattr(reader, part) for part in parts]))
    return found


@given(st.lists(OPS, max_size=12))
@settings(deadline=None)
def test_ops_come_back(some):
    assert decoded(encoded(some)) == some


@given(st.lists(OPS, min_size=1, max_size=4), st.integers(1, 5))
@settings(deadline=None)
def test_a_body_cut_short_is_refused(some, cut):
    body = encoded(some)
    before = len(encoded(some[:-1]))
    cut = min(cut, len(body) - before - 1)
    if cut:
        with pytest.raises(ValueError, match="cut short"):
            decoded(body[:-cut])


def test_an_unknown_op_is_refused():
    with pytest.raises(ValueError, match="unknown op 0x5a at byte 0"):
        decoded(b"Z")
