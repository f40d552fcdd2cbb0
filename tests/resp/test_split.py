"""An encoded array falls into the items it was made of, whatever they are, under both protocols."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.resp.encoder import encode
from durakv.resp.split import items
from durakv.resp.types import NULL_ARRAY, OK, ErrorReply, Map, Push, SetReply, Verbatim

FLAT = st.one_of(
    st.none(), st.integers(-5, 5000), st.binary(max_size=20), st.floats(allow_nan=False), st.booleans(),
    st.sampled_from([OK, NULL_ARRAY, ErrorReply("ERR no"), Verbatim(b"a\r\nb"), Push([b"x", 1]), [], b"\r\n$3\r\n"]),
)  # fmt: skip
REPLIES = st.recursive(
    FLAT,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=2).map(SetReply),
        st.lists(st.tuples(inner, inner), max_size=2).map(lambda pairs: Map([x for pair in pairs for x in pair])),
    ),
    max_leaves=12,
)


@given(st.lists(REPLIES, max_size=6), st.sampled_from([2, 3]))
def test_the_items_are_those_that_were_put_in(replies, protocol):
    assert items(encode(replies, protocol)) == [encode(reply, protocol) for reply in replies]


@pytest.mark.parametrize("wire", [b"", b"+OK\r\n", b"*2\r\n:1\r\n", b"*1\r\n$5\r\nab\r\n", b"*1\r\n:1"])
def test_what_is_no_whole_array_is_refused(wire):
    with pytest.raises((ValueError, IndexError)):
        items(wire)
