"""SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP: a model of single bits, stock servers, events, undo."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.commands import bitmaps
from tests.commands.running import Failed, Reference, Run
from tests.commands.value_programs import TABLE, Words, assert_programs_alike

KEYS = ("a", "b", "c", "{a}d", "list")
OFFSETS = (0, 1, 7, 8, 9, 15, 100, 4095, 65543, 70001, -1, "x", "", "01", 2**32, 2**63, 2**64, "#3")
ENDS = (0, 1, 2, 5, 7, 8, 15, 16, 17, 31, 100, -1, -2, -8, -9, -100, 2**63 - 1, -(2**63), "x", "", 2**63)
# 2**32 bits is where a string would be longer than allowed: nothing may be grown to its largest size here.
GROWABLE = tuple(offset for offset in OFFSETS if not isinstance(offset, int) or offset < 2**20 or offset >= 2**32)


def key(dice: Random) -> str:
    return dice.choice(KEYS) if dice.random() < 0.9 else "none"


def content(dice: Random) -> bytes:
    kind = dice.randrange(5)
    if kind == 0:
        return b"\xff" * dice.randrange(20)
    if kind == 1:
        return bytes(dice.randrange(20))
    if kind == 2:
        return b"%d" % dice.randrange(1000)
    if kind == 3:
        # Long enough for several chunks, with the interesting bit far behind.
        return bytes((dice.choice((0, 255)),)) * dice.choice((65535, 65536, 131073)) + dice.randbytes(2)
    return dice.randbytes(dice.randrange(24))


def range_words(dice: Random, faulty: bool) -> Words:
    ends = [end for end in ENDS if faulty or (isinstance(end, int) and end < 2**63)]
    words: Words = [dice.choice(ends) for _ in range(dice.randrange(3))]
    if len(words) == 2 and dice.random() < 0.6:
        words.append(dice.choice(("BIT", "bit", "BYTE", "byte", *(["x"] if faulty else []))))
    return words + (["extra"] if faulty and dice.random() < 0.02 else [])


def bit_command(dice: Random, faulty: bool) -> Words:
    """``faulty``: ranges may be malformed, or have a start alone, as Valkey reads them; Redis 7 differs."""
    name = dice.choice(("SETBIT", "SETBIT", "SETBIT", "GETBIT", "BITCOUNT", "BITPOS", "BITOP", "SET", "APPEND", "DEL"))
    if name == "SETBIT":
        return [name, key(dice), dice.choice(GROWABLE), dice.choice((0, 1, 1, 1, 2, -1, "x"))]
    if name == "GETBIT":
        return [name, key(dice), dice.choice(OFFSETS)]
    if name == "BITCOUNT":
        words = range_words(dice, faulty)
        return [name, key(dice), *(words if faulty or len(words) != 1 else [])]
    if name == "BITPOS":
        return [name, key(dice), dice.choice((0, 1, 0, 1, 2, "x") if faulty else (0, 1)), *range_words(dice, faulty)]
    if name == "BITOP":
        return [name, dice.choice(("AND", "OR", "XOR", "NOT", "and", "x")), key(dice),
                *[key(dice) for _ in range(dice.choice((1, 1, 2, 3)))]]  # fmt: skip
    if name == "DEL":
        return [name, key(dice)]
    return [name, dice.choice(KEYS[:-1]), content(dice)]


@pytest.mark.live
def test_replies_and_bytes_equal_stock_servers(stock: Reference) -> None:
    faulty = stock.name == "valkey-server"
    assert_programs_alike(
        stock, 200, lambda dice: [["RPUSH", "list", "x"], *[bit_command(dice, faulty) for _ in range(30)]]
    )


class Bits:
    """A string as a list of bits, the slowest way there is."""

    def __init__(self, text: bytes) -> None:
        self.bits = [byte >> (7 - i) & 1 for byte in text for i in range(8)]

    def clamped(self, start: int, end: int, unit: int) -> tuple[int, int]:
        total = len(self.bits) // unit
        start = max(start + total, 0) if start < 0 else start
        end = max(end + total, 0) if end < 0 else end
        return start * unit, (min(end, total - 1) + 1) * unit


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(st.binary(max_size=40), st.sampled_from([bytes(40), b"\xff" * 40, b"\xff" * 20 + b"\xfe"])),
    start=st.integers(-400, 400), end=st.integers(-400, 400), unit=st.sampled_from([1, 8]), bit=st.sampled_from([0, 1]),
    chunk=st.sampled_from([1, 2, 3, 65536]),
)  # fmt: skip
def test_ranges_equal_a_model_of_single_bits(
    text: bytes, start: int, end: int, unit: int, bit: int, chunk: int
) -> None:
    run = Run(TABLE)
    run("SET", "k", text)
    model = Bits(text)
    word = "BIT" if unit == 1 else "BYTE"
    low, high = model.clamped(start, end, unit)
    inside = model.bits[low:high] if low < high else []
    whole = bitmaps._CHUNK
    bitmaps._CHUNK = chunk  # type: ignore[misc]
    try:
        counted = run("BITCOUNT", "k", start, end, word)
        found = run("BITPOS", "k", bit, start, end, word)
        open_ended = run("BITPOS", "k", 0, start)
    finally:
        bitmaps._CHUNK = whole  # type: ignore[misc]
    empty = start < 0 and end < 0 and start > end
    assert counted == (0 if empty else sum(inside))
    assert found == (low + inside.index(bit) if bit in inside else -1) or not text
    if text:
        first = max(start * 8 + len(model.bits), 0) if start < 0 else start * 8
        rest = model.bits[first:]
        assert open_ended == (first + rest.index(0) if 0 in rest else (len(model.bits) if rest else -1))


@settings(max_examples=150, deadline=None)
@given(
    word=st.sampled_from(["AND", "OR", "XOR"]), texts=st.lists(st.binary(max_size=30), min_size=1, max_size=4),
    chunk=st.sampled_from([1, 7, 65536]),
)  # fmt: skip
def test_bitop_equals_a_model_of_single_bytes(word: str, texts: list[bytes], chunk: int) -> None:
    run = Run(TABLE)
    run.check_undo = True
    for i, text in enumerate(texts):
        run("SET", i, text)
    size = max(len(text) for text in texts)
    padded = [text.ljust(size, b"\0") for text in texts]
    wanted = bytearray(padded[0])
    for text in padded[1:]:
        for i in range(size):
            wanted[i] = {"AND": wanted[i] & text[i], "OR": wanted[i] | text[i], "XOR": wanted[i] ^ text[i]}[word]
    whole = bitmaps._CHUNK
    bitmaps._CHUNK = chunk  # type: ignore[misc]
    try:
        assert run("BITOP", word, "to", *range(len(texts))) == size
    finally:
        bitmaps._CHUNK = whole  # type: ignore[misc]
    assert run("GET", "to") == (bytes(wanted) if size else None)


@pytest.mark.parametrize(("command", "events"), [
    ("SETBIT n 0 1", "new n, setbit n"), ("SETBIT n 9 0", "new n, setbit n"), ("SETBIT k 1 1", ""),
    ("SETBIT k 0 1", "setbit k"), ("SETBIT k 80 0", "setbit k"), ("BITOP NOT to k", "new to, set to"),
    ("BITOP AND k none", "del k"), ("BITOP AND none none", ""), ("GETBIT k 0", ""),
])  # fmt: skip
def test_events(command: str, events: str) -> None:
    run = Run(TABLE)
    run("SET", "k", "A")
    run.events.clear()
    run(*command.split())
    assert ", ".join(f"{event.decode()} {key.decode()}" for _, event, key in run.events) == events


def test_a_string_patched_in_place_is_undone_in_place() -> None:
    run = Run(TABLE)
    run("SETBIT", "k", 100, 1)
    run.check_undo = True
    for offset in (0, 100, 101, 5000, 99):
        run("SETBIT", "k", offset, 1)
        run("SETBIT", "k", offset, 0)
    assert run("BITCOUNT", "k") == 0
    assert run("STRLEN", "k") == 626


def test_a_setbit_that_changes_nothing_breaks_no_watch() -> None:
    run = Run(TABLE)
    run("SETBIT", "k", 3, 1)
    run.ks.listening = True
    run("SETBIT", "k", 3, 1)
    assert run.ks.changed == []
    run("SETBIT", "k", 3, 0)
    assert run.ks.changed == [(0, b"k")]


def test_deadlines_are_kept_by_setbit_and_dropped_by_bitop() -> None:
    run = Run(TABLE)
    run("SET", "k", "A", "PX", "5000")
    run("SETBIT", "k", 0, 1)
    assert run("PTTL", "k") == 5000
    run("BITOP", "NOT", "k", "k")
    assert run("PTTL", "k") == -1


def test_bitop_leaves_a_string_to_be_changed_in_place() -> None:
    run = Run(TABLE)
    run.check_undo = True
    run("SET", "a", "abc")
    for word in ("AND", "OR", "XOR", "NOT"):
        assert run("BITOP", word, "k", "a") == 3
        assert run("OBJECT", "ENCODING", "k") == b"raw"
    before = run("GET", "a")
    run("BITOP", "OR", "k", "a")
    run("SETBIT", "k", 0, 1)
    assert (run("GET", "k"), run("GET", "a")) == (b"\xe1bc", before)


def test_the_last_bit_of_the_longest_string_is_the_limit() -> None:
    run = Run(TABLE)
    assert run("GETBIT", "k", 2**32 - 1) == 0
    assert run("GETBIT", "k", 2**32) == Failed(bitmaps.BIT_OFFSET)
    assert run("SETBIT", "k", 2**32, 1) == Failed(bitmaps.BIT_OFFSET)
