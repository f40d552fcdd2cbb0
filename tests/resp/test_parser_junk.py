"""Hostile input: mutated requests in random chunks give a protocol error or a drop at worst, in bounded memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from durakv.resp.parser import Parser
from tests.resp import reference_parser
from tests.resp.test_parser import command, run

INPUTS = 60_000
SEEDS = [
    command(b"SET", b"key", b"value"),
    command(b"AUTH", b"user", b"secret"),
    command(b"MSET", *[b"k%d" % i for i in range(12)]),
    command(b"SET", b"blob", bytes(range(256))),
    command(b"GET", b"x" * 200),
    b"SET key value\r\n",
    b"SET \"a\\x41\\n\" 'b' c\r\n",
    b"*0\r\n*-1\r\n\r\n",
]
SPLICES = [
    b"\r\n", b"\r", b"\n", b"\0", b"*", b"$", b"$-1\r\n", b"*-1\r\n", b"*1048576\r\n", b"*1048577\r\n",
    b"*2147483648\r\n", b"$536870912\r\n", b"$99999999999999999999\r\n", b"$16385\r\n", b"*11\r\n", b'"', b"'", b"\\",
    b":1\r\n", b"+OK\r\n", b"POST / HTTP/1.1\r\n", b"-0", b"00", b"\xff\xfe", b" ", b"_\r\n", b"*1\r\n*1\r\n*1\r\n",
]  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    data = bytearray(b"".join(rng.choices(SEEDS, k=rng.randrange(1, 4))))
    for _ in range(rng.randrange(0, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.choice(SPLICES)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 6)]
        elif kind == 3:
            data[at : at + rng.randrange(8)] = rng.choice(SPLICES)
        else:
            del data[at:]
    return bytes(data)


def chunked(rng: random.Random, data: bytes) -> list[bytes]:
    chunks = []
    at = 0
    while at < len(data):
        size = rng.choice([1, 1, 2, 7, 40, 400])
        chunks.append(data[at : at + size])
        at += size
    return chunks


@pytest.mark.parametrize("authenticated", [True, False])
def test_mutants_read_as_by_the_reference(authenticated: bool) -> None:
    rng = random.Random(20 + authenticated)
    outcomes: dict[str, int] = {}
    for _ in range(INPUTS):
        data = mutated(rng)
        expected = reference_parser.parse(data, authenticated=authenticated)
        assert run(Parser(authenticated=authenticated), [data]) == expected, data
        assert run(Parser(authenticated=authenticated), chunked(rng, data)) == expected, data
        outcomes[str(expected[1])[:8]] = outcomes.get(str(expected[1])[:8], 0) + 1
    # The mutants reach every kind of error, so the comparison means something.
    assert {"None", "drop", "invalid ", "expected", "unbalanc"} <= set(outcomes)


@pytest.mark.parametrize("authenticated", [True, False])
def test_memory_is_bounded_by_what_was_sent(authenticated: bool) -> None:
    rng = random.Random(3)
    tracemalloc.start()
    try:
        for _ in range(1500):
            data = mutated(rng)
            parser = Parser(authenticated=authenticated)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            run(parser, chunked(rng, data))
            _, peak = tracemalloc.get_traced_memory()
            # A header that promises 512 MB or a million arguments reserves nothing.
            assert peak - before < 60 * len(data) + 20_000, data
    finally:
        tracemalloc.stop()


def test_a_dribbled_argument_is_held_once() -> None:
    size = 1 << 19
    parser = Parser()
    piece = b"ab"
    tracemalloc.start()
    try:
        parser.feed(b"*2\r\n$3\r\nSET\r\n$%d\r\n" % size)
        for _ in range(size // 2):
            parser.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
        assert held < 1.25 * size
        tracemalloc.reset_peak()
        argvs = parser.feed(b"\r\n")
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 2.4 * size
    finally:
        tracemalloc.stop()
    assert len(argvs[0][1]) == size
