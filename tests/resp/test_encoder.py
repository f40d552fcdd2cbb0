from __future__ import annotations

import math
import struct
from collections.abc import Callable

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.resp.encoder import encode, format_double, protocol_error_line
from durakv.resp.errors import CommandError, ProtocolError
from durakv.resp.types import (
    NO_REPLY,
    NULL_ARRAY,
    OK,
    Encoded,
    ErrorReply,
    HumanDouble,
    Map,
    Pairs,
    Parked,
    Push,
    SetReply,
    Simple,
    Verbatim,
)

GOLDEN: list[tuple[object, bytes, bytes]] = [
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (1023, b":1023\r\n", b":1023\r\n"),
    (1024, b":1024\r\n", b":1024\r\n"),
    (-1, b":-1\r\n", b":-1\r\n"),
    (2**63 - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
    (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"a\r\nb\0", b"$5\r\na\r\nb\0\r\n", b"$5\r\na\r\nb\0\r\n"),
    (bytearray(b"xyz"), b"$3\r\nxyz\r\n", b"$3\r\nxyz\r\n"),
    (b"x" * 1024, b"$1024\r\n" + b"x" * 1024 + b"\r\n", b"$1024\r\n" + b"x" * 1024 + b"\r\n"),
    (OK, b"+OK\r\n", b"+OK\r\n"),
    (Simple(b"Background saving started"), b"+Background saving started\r\n", b"+Background saving started\r\n"),
    (CommandError("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    (ErrorReply("WRONGTYPE x"), b"-WRONGTYPE x\r\n", b"-WRONGTYPE x\r\n"),
    (CommandError("ERR a\r\nb\n"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    (CommandError("ERR '\udcff\xe9'"), b"-ERR '\xff\xc3\xa9'\r\n", b"-ERR '\xff\xc3\xa9'\r\n"),
    (Encoded(b":7\r\n"), b":7\r\n", b":7\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n"),
    (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ([b"a", 1, None, [True]],
     b"*4\r\n$1\r\na\r\n:1\r\n$-1\r\n*1\r\n:1\r\n",
     b"*4\r\n$1\r\na\r\n:1\r\n_\r\n*1\r\n#t\r\n"),
    ((b"a", OK), b"*2\r\n$1\r\na\r\n+OK\r\n", b"*2\r\n$1\r\na\r\n+OK\r\n"),
    (Map([b"k", 1.0]), b"*2\r\n$1\r\nk\r\n$1\r\n1\r\n", b"%1\r\n$1\r\nk\r\n,1\r\n"),
    (SetReply([b"m"]), b"*1\r\n$1\r\nm\r\n", b"~1\r\n$1\r\nm\r\n"),
    (Push([b"message", b"c"]), b"*2\r\n$7\r\nmessage\r\n$1\r\nc\r\n", b">2\r\n$7\r\nmessage\r\n$1\r\nc\r\n"),
    (Pairs([b"m", 2.0]), b"*2\r\n$1\r\nm\r\n$1\r\n2\r\n", b"*1\r\n*2\r\n$1\r\nm\r\n,2\r\n"),
    (Pairs([]), b"*0\r\n", b"*0\r\n"),
    (HumanDouble(b"1.50"), b"$4\r\n1.50\r\n", b",1.50\r\n"),
    ([HumanDouble(b"-2"), 1], b"*2\r\n$2\r\n-2\r\n:1\r\n", b"*2\r\n,-2\r\n:1\r\n"),
    (Verbatim(b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
    ([ErrorReply("ERR x"), CommandError("ERR y"), NULL_ARRAY, bytearray(b"q"), Encoded(b":1\r\n"), 2.5],
     b"*6\r\n-ERR x\r\n-ERR y\r\n*-1\r\n$1\r\nq\r\n:1\r\n$3\r\n2.5\r\n",
     b"*6\r\n-ERR x\r\n-ERR y\r\n_\r\n$1\r\nq\r\n:1\r\n,2.5\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "resp2", "resp3"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden(reply: object, resp2: bytes, resp3: bytes) -> None:
    assert encode(reply, 2) == resp2
    assert encode(reply, 3) == resp3


@pytest.mark.parametrize(
    "reply", ["text", {1: 2}, object(), NO_REPLY, Parked([b"k"], 0, b"list", None), ["nested text"], {b"a"}]
)
def test_what_is_not_a_reply_is_refused(reply: object) -> None:
    with pytest.raises(TypeError, match="not a reply"):
        encode(reply, 2)


@pytest.mark.parametrize("reply", [Map([b"a"]), Pairs([b"a", 1, b"b"])])
def test_an_odd_map_is_refused(reply: object) -> None:
    with pytest.raises(TypeError, match="even number"):
        encode(reply, 3)


def test_a_verbatim_format_has_three_letters() -> None:
    with pytest.raises(TypeError, match="three letters"):
        encode(Verbatim(b"x", b"text"), 3)


def test_protocol_errors_carry_the_raw_byte() -> None:
    error = ProtocolError("expected '$', got '" + b"\xff".decode("utf-8", "surrogateescape") + "'")
    assert protocol_error_line(error) == b"-ERR Protocol error: expected '$', got '\xff'\r\n"


# Taken from a valkey-server (ZADD and ZSCORE), except -0, which ZADD turns into 0.
DOUBLES: list[tuple[float, bytes]] = [
    (0.0, b"0"),
    (-0.0, b"-0"),
    (1.0, b"1"),
    (-17.0, b"-17"),
    (0.1, b"0.1"),
    (3.14, b"3.14"),
    (1e17, b"100000000000000000"),
    (4611686018427387904.0, b"4611686018427387904"),
    (-4611686018427387904.0, b"-4611686018427387904"),
    (1e19, b"1e+19"),
    (1.2345678901234567e19, b"12345678901234567000"),
    (-3.346096292797418e19, b"-33460962927974180000"),
    (0.00012345678, b"1.2345678e-4"),
    (0.001, b"0.001"),
    (1e-07, b"1e-7"),
    (123456.1234567, b"1.234561234567e+5"),
    (123456.123456, b"123456.123456"),
    (-1.25e-08, b"-1.25e-8"),
    (5e-324, b"5e-324"),
    (1.7976931348623157e308, b"1.7976931348623157e+308"),
    (math.nan, b"nan"),
    (math.inf, b"inf"),
    (-math.inf, b"-inf"),
]


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_doubles_as_valkey_writes_them(value: float, text: bytes) -> None:
    assert format_double(value) == text


@given(st.binary(min_size=8, max_size=8))
def test_doubles_read_back_equal(raw: bytes) -> None:
    (value,) = struct.unpack("<d", raw)
    if not math.isnan(value):
        assert struct.pack("<d", float(format_double(value))) == raw


def _decoded(reply: object) -> object:
    """What a RESP3 client makes of a reply."""
    if isinstance(reply, Map):
        return {_decoded(reply.flat[i]): _decoded(reply.flat[i + 1]) for i in range(0, len(reply.flat), 2)}
    if isinstance(reply, SetReply):
        return [_decoded(item) for item in reply.items]
    if isinstance(reply, Pairs):
        return [[_decoded(reply.flat[i]), _decoded(reply.flat[i + 1])] for i in range(0, len(reply.flat), 2)]
    if isinstance(reply, list):
        return [_decoded(item) for item in reply]
    return reply


_leaf: st.SearchStrategy[object] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), st.floats(allow_nan=False)
)
_even: Callable[[list[object]], bool] = lambda items: len(items) % 2 == 0
_reply: st.SearchStrategy[object] = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=6).filter(_even).map(Pairs),
        st.lists(inner, max_size=4).map(SetReply),
        st.lists(st.tuples(st.binary(max_size=6), inner), max_size=4, unique_by=lambda kv: kv[0]).map(
            lambda pairs: Map([x for kv in pairs for x in kv])
        ),
    ),
    max_leaves=12,
)


@given(_reply)
def test_a_client_library_reads_resp3_back(reply: object) -> None:
    reader = hiredis.Reader()
    reader.feed(encode(reply, 3))
    assert reader.gets() == _decoded(reply)
    assert not reader.has_data()
