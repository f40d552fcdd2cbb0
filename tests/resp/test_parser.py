from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.resp.parser import ARGS_MAX, LINE_MAX, Parser
from tests.resp import reference_parser

Outcome = tuple[list[list[bytes]], str | None]


def command(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def run(parser: Parser, chunks: list[bytes]) -> Outcome:
    """Feed as a connection does; (argvs, error text, or "drop")."""
    got: list[list[bytes]] = []
    for chunk in chunks:
        more = parser.feed(chunk)
        while more:
            got += more
            more = [] if parser.authenticated else parser.feed(b"")
    if parser.dropped:
        return got, "drop"
    return got, parser.error.text if parser.error is not None else None


def once(data: bytes, *, authenticated: bool = True, arg_max: int = 512 << 20) -> Outcome:
    return run(Parser(arg_max_bytes=arg_max, authenticated=authenticated), [data])


GOLDEN: list[tuple[bytes, list[list[bytes]], str | None]] = [
    (command(b"SET", b"k", b"v"), [[b"SET", b"k", b"v"]], None),
    (command(b"A") + command(b"B", b""), [[b"A"], [b"B", b""]], None),
    (command(b"SET", b"k", b"\r\n$3\r\n*1\r\n\0"), [[b"SET", b"k", b"\r\n$3\r\n*1\r\n\0"]], None),
    (b"*0\r\n*-1\r\n*-5\r\n\r\n\n  \r\n" + command(b"A"), [[b"A"]], None),
    (b"PING\r\n", [[b"PING"]], None),
    (b"PING\n", [[b"PING"]], None),
    (b" \t set  a\tb \r\n", [[b"set", b"a", b"b"]], None),
    (b"\vset\va \v\fb\r\n", [[b"set\va", b"b"]], None),
    (b'set "a b" \'c d\'\r\n', [[b"set", b"a b", b"c d"]], None),
    (b'set "\\x41\\n\\r\\t\\b\\a\\q\\xzz\\"" \'\\\'\\n\'\r\n', [[b"set", b'A\n\r\t\b\aqxzz"', b"'\\n"]], None),
    (b'set a"b c"\r\n', [[b"set", b"ab c"]], None),
    (b'set ""\r\n', [[b"set", b""]], None),
    (b'set "a"b\r\n', [], "unbalanced quotes in request"),
    (b"PING\r\nset 'a\r\n", [[b"PING"]], "unbalanced quotes in request"),
    (b'set "a\\\r\n', [], "unbalanced quotes in request"),
    # Neither the line feed nor the two bytes behind an argument are looked at, as in Valkey.
    (b"*1\rX$1\rYaZZ", [[b"a"]], None),
    (b"*x\r\n", [], "invalid multibulk length"),
    (b"*\r\n", [], "invalid multibulk length"),
    (b"*01\r\n", [], "invalid multibulk length"),
    (b"*-0\r\n", [], "invalid multibulk length"),
    (b"*+1\r\n", [], "invalid multibulk length"),
    (b"* 1\r\n", [], "invalid multibulk length"),
    (b"*1_0\r\n", [], "invalid multibulk length"),
    (b"*1048577\r\n", [], "invalid multibulk length"),
    (b"*20000000000000000000\r\n", [], "invalid multibulk length"),
    (b"*1\r\n$-1\r\n", [], "invalid bulk length"),
    (b"*1\r\n$\r\n", [], "invalid bulk length"),
    (b"*1\r\n$00\r\n", [], "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", [], "invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", [], "invalid bulk length"),
    (b"*1\r\n+PING\r\n", [], "expected '$', got '+'"),
    (b"*2\r\n$1\r\na\r\n:1\r\n", [], "expected '$', got ':'"),
    (b"*1\r\n*1\r\n", [], "expected '$', got '*'"),
    (b"*1\r\n\r\n", [], "expected '$', got '\r'"),
    (b"*1\r\n\xff\r\n", [], "expected '$', got '\udcff'"),
    (command(b"A") + b"*1\r\nx\r\n" + command(b"B"), [[b"A"]], "expected '$', got 'x'"),
    (b"*1" + b"1" * LINE_MAX, [], "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * LINE_MAX, [], "too big bulk count string"),
    (b"a" * (LINE_MAX + 1), [], "too big inline request"),
    (b"a" * (LINE_MAX + 1) + b"\r\n", [], "too big inline request"),
    (b"a" * LINE_MAX, [], None),
    # A NUL hides the end of its line.
    (b"*1\0\r\n", [], None),
    (b"a\0\r\n" + b"x" * LINE_MAX, [], "too big inline request"),
    (b"GET k\r\nPOST / HTTP/1.1\r\n" + command(b"FLUSHALL"), [[b"GET", b"k"]], "drop"),
    (b"hOsT: localhost\r\n", [], "drop"),
    (command(b"POST", b"x"), [[b"POST", b"x"]], None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "argvs", "error"), GOLDEN, ids=lambda value: repr(value)[:40])
def test_golden(data: bytes, argvs: list[list[bytes]], error: str | None) -> None:
    assert once(data) == (argvs, error)
    assert reference_parser.parse(data, authenticated=True) == (argvs, error)
    assert run(Parser(), [data[i : i + 1] for i in range(len(data))]) == (argvs, error)


def test_unauthenticated_limits() -> None:
    ten = [b"a"] * 10
    assert once(command(*ten), authenticated=False) == ([ten], None)
    assert once(command(*ten, b"b"), authenticated=False) == ([], "unauthenticated multibulk length")
    assert once(command(b"x" * 16384), authenticated=False) == ([[b"x" * 16384]], None)
    assert once(command(b"x" * 16385), authenticated=False) == ([], "unauthenticated bulk length")
    assert once(b"*1\r\n$536870913\r\n", authenticated=False) == ([], "invalid bulk length")


def test_limits_follow_authentication_within_one_chunk() -> None:
    parser = Parser(authenticated=False)
    big = command(b"SET", b"k", b"x" * 20000)
    assert parser.feed(command(b"AUTH", b"p") + big + big[:100]) == [[b"AUTH", b"p"]]
    parser.authenticated = True
    assert parser.feed(b"") == [[b"SET", b"k", b"x" * 20000]]
    assert parser.feed(b"") == []
    assert parser.feed(big[100:] + command(b"A")) == [[b"SET", b"k", b"x" * 20000], [b"A"]]
    assert parser.pending_bytes() == 0


def test_one_command_per_call_before_authentication() -> None:
    parser = Parser(authenticated=False)
    assert parser.feed(command(b"A") + command(b"B") + b"C\r\nD") == [[b"A"]]
    # New input may come before the caller asked for the rest.
    assert parser.feed(b"D\r\n") == [[b"B"]]
    assert [parser.feed(b""), parser.feed(b""), parser.feed(b"")] == [[[b"C"]], [[b"DD"]], []]


def test_the_largest_argument_is_a_setting() -> None:
    assert once(command(b"x" * 2000), arg_max=2000) == ([[b"x" * 2000]], None)
    assert once(command(b"x" * 2001), arg_max=2000) == ([], "invalid bulk length")


def test_after_an_error_nothing_is_read() -> None:
    parser = Parser()
    assert parser.feed(b"*x\r\n") == []
    assert parser.error is not None
    assert parser.feed(command(b"A")) == []
    assert parser.pending_bytes() == 0


def test_a_million_arguments() -> None:
    data = command(*[b"a"] * ARGS_MAX)
    parser = Parser()
    chunks = [data[i : i + 65536] for i in range(0, len(data), 65536)]
    argvs, error = run(parser, chunks)
    assert (len(argvs), len(argvs[0]), error) == (1, ARGS_MAX, None)


def test_query_buffer_limit_drops_the_client() -> None:
    parser = Parser(query_buffer_max_bytes=100_000)
    parser.feed(command(b"A") + b"*3\r\n$60000\r\n")
    for _ in range(15):
        assert parser.feed(b"x" * 4000) == []
    assert parser.feed(b"\r\n$60000\r\n") == []
    while not parser.dropped:
        assert 60_000 <= parser.pending_bytes() <= 100_000
        parser.feed(b"y" * 4000)
    assert "client-query-buffer-limit" in parser.dropped
    assert parser.error is None
    assert parser.pending_bytes() == 0
    assert parser.feed(b"z") == []


def test_small_arguments_count_with_their_overhead() -> None:
    parser = Parser(query_buffer_max_bytes=1 << 20)
    parser.feed(b"*1000000\r\n")
    sent = 0
    while not parser.dropped:
        parser.feed(b"$2\r\nab\r\n" * 1000)
        sent += 1000
    assert sent < (1 << 20) // 56 + 1001


def test_unauthenticated_pending_is_bounded_whatever_the_setting() -> None:
    parser = Parser(authenticated=False)
    worst = b"*10\r\n" + (b"$" + b"1" * (LINE_MAX - 2)) * 40
    for i in range(0, len(worst), 16384):
        parser.feed(worst[i : i + 16384])
        assert parser.pending_bytes() <= 1 << 20


UNITS = {
    "small arguments": b"$5\r\nhello\r\n",
    "line ends hidden by a NUL": b"\0\r\r\r\r",
    "a header without end": b"1",
    "one large argument": b"$1000000\r\n" + b"v" * 200_000,
}


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_single_byte_writes_are_linear(unit: bytes) -> None:
    # Four times the input may take about four times as long, not sixteen times.
    def seconds(size: int) -> float:
        data = b"*1000000\r\n" + (unit * (size // len(unit) + 1))[:size]
        best = 1e9
        for _ in range(4):
            parser = Parser()
            begin = time.process_time()
            for i in range(len(data)):
                parser.feed(data[i : i + 1])
            best = min(best, time.process_time() - begin)
        return best

    assert seconds(60_000) < 9 * seconds(15_000) + 0.01


_argument = st.one_of(st.binary(max_size=30), st.just(b"x" * 17_000), st.sampled_from([b"", b"\r\n", b"*1\r\n$1\r\na"]))
_command = st.lists(_argument, min_size=1, max_size=12).map(lambda args: command(*args))
_piece = st.one_of(
    _command,
    st.sampled_from([data for data, _, _ in GOLDEN if len(data) < 1000]),
    st.binary(max_size=20),
    st.text("\"'\\ \t\v\nx41ab", max_size=20).map(lambda text: text.encode() + b"\r\n"),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_piece, max_size=6), st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_any_chunking_reads_the_same(pieces: list[bytes], cuts: list[int], authenticated: bool) -> None:
    data = b"".join(pieces)
    expected = reference_parser.parse(data, authenticated=authenticated)
    assert once(data, authenticated=authenticated) == expected
    chunks = []
    at = 0
    for cut in cuts:
        chunks.append(data[at : at + cut])
        at += cut
    chunks.append(data[at:])
    assert run(Parser(authenticated=authenticated), chunks) == expected
    if len(data) < 2000:
        assert run(Parser(authenticated=authenticated), [data[i : i + 1] for i in range(len(data))]) == expected


def test_random_chunks_of_a_long_stream() -> None:
    rng = random.Random(7)
    argvs = [[rng.randbytes(rng.choice([0, 1, 3, 30, 3000])) for _ in range(rng.randrange(1, 6))] for _ in range(400)]
    data = b"".join(command(*argv) for argv in argvs)
    for mean in (3, 100, 5000):
        chunks = []
        at = 0
        while at < len(data):
            size = rng.randrange(1, 2 * mean)
            chunks.append(data[at : at + size])
            at += size
        parser = Parser()
        assert run(parser, chunks) == (argvs, None)
        assert parser.pending_bytes() == 0
