"""Replies are found however a node's bytes are cut, and nothing else is taken for one."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.proxy.replies import ReplyCutter
from durakv.resp.encoder import encode
from durakv.resp.types import ErrorReply, Map, Push, SetReply, Simple, Verbatim

leaves = (
    st.none() | st.integers(-(2**40), 2**40) | st.binary(max_size=40) | st.floats(allow_nan=False) | st.booleans()
    | st.sampled_from([Simple(b"OK"), ErrorReply("ERR no"), Verbatim(b"text")])
)  # fmt: skip
replies = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5)
    | st.lists(inner, max_size=3).map(lambda items: Map([x for item in items for x in (b"k", item)]))
    | st.lists(inner, max_size=4).map(SetReply) | st.lists(inner, min_size=1, max_size=3).map(Push),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(replies, max_size=4), st.sampled_from([2, 3]), st.lists(st.integers(0, 400), max_size=8))
def test_any_cut_gives_the_same_replies(values, protocol, cuts):
    wires = [encode(value, protocol) for value in values]
    stream = b"".join(wires)
    cutter = ReplyCutter()
    found = []
    start = 0
    for end in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        if end > start:
            found += cutter.feed(stream[start:end])
            start = end
    assert found == wires
    assert cutter.pending_bytes() == 0


@given(st.lists(replies, max_size=3))
def test_single_bytes(values):
    wires = [encode(value, 3) for value in values]
    cutter = ReplyCutter()
    assert [reply for byte in b"".join(wires) for reply in cutter.feed(bytes([byte]))] == wires


def test_special_forms():
    wires = [
        b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"(123456789012345678901234567890\r\n", b"!5\r\nERR x\r\n",
        b"|1\r\n+a\r\n:1\r\n+described\r\n", b"*0\r\n", b"%0\r\n",
    ]  # fmt: skip
    assert ReplyCutter().feed(b"".join(wires)) == wires


def test_a_large_reply_costs_each_byte_once():
    """Quadratic work would take minutes here."""
    wire = encode([b"x" * 50] * 100_000, 2)
    cutter = ReplyCutter()
    found = []
    for start in range(0, len(wire), 4096):
        found += cutter.feed(wire[start : start + 4096])
    assert found == [wire]
    reader = hiredis.Reader()
    reader.feed(found[0])
    assert len(reader.gets()) == 100_000


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad\r\n", b"$x\r\n", b"*1\r\n?\r\n", b"$99999999999\r\n", b"\0\r\n", b"*-2\r\n"]
)
def test_what_is_no_reply(data):
    with pytest.raises(ValueError):
        ReplyCutter().feed(data)
    cutter = ReplyCutter()
    with pytest.raises(ValueError):
        [cutter.feed(bytes([byte])) for byte in data]
