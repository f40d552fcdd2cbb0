"""LCS: the longest common subsequence of two strings. [compiled]

Rows of the usual table grow by 0 or 1 from cell to cell, so a row is one big integer of growth bits and a whole row is
computed by a few operations on it (Hyyro's bit-parallel recurrence). The way back follows upstream's preferences,
so that equally long answers are the same.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import STRING_MAX, parse_int64
from durakv.commands.context import ReadContext
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Map, Reply

COMMANDS: Final = Commands("string")

LCS_TYPES: Final = "ERR The specified keys must contain string values"
LCS_BOTH: Final = "ERR If you want both the length and indexes, please just use IDX."
LCS_MEMORY: Final = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
# Upstream refuses a table of 4-byte cells above proto-max-bulk-len; the same inputs are refused here, and lopsided ones
# whose rows would take long or much memory, because nothing else runs meanwhile.
_CELL_BYTES: Final = 4
_ROWS_BYTES_MAX: Final = 128 * 1024 * 1024
_ROW_OVERHEAD_BYTES: Final = 40
_TEXT_MAX: Final = 8 * 1024 * 1024
_ONE: Final = 49


class Match:
    """One run common to both strings: offsets of its first and last byte in each."""

    __slots__ = ("a_first", "a_last", "b_first", "b_last")

    def __init__(self, a: int, b: int) -> None:
        self.a_first = self.a_last = a
        self.b_first = self.b_last = b


class _Options:
    __slots__ = ("idx", "length", "match_min", "with_length")

    def __init__(self) -> None:
        self.idx = False
        self.length = False
        self.with_length = False
        self.match_min = 0


@COMMANDS.read("LCS", arity=-3, since="7.0.0", keys="RO|ACCESS@i1+r1/1/0",
               complexity="O(N*M), N and M the lengths of the strings",
               summary="Finds the longest common subsequence of two strings.")  # fmt: skip
def lcs(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: the bytes; LEN: their number; IDX: the runs, last first. Source: t_string.c lcsCommand()."""
    a = _text(ctx.db.get(argv[1]))
    b = _text(ctx.db.get(argv[2]))
    options = _parse(argv)
    if (
        (len(a) + 1) * (len(b) + 1) * _CELL_BYTES > STRING_MAX
        or (len(b) + 1) * (len(a) // 8 + _ROW_OVERHEAD_BYTES) > _ROWS_BYTES_MAX
        or max(len(a), len(b)) > _TEXT_MAX
    ):
        raise CommandError(LCS_MEMORY)
    rows = growth_rows(a, b)
    total = rows[len(b)].bit_count()
    if options.length:
        return total
    common, matches = walk_back(a, b, rows)
    if not options.idx:
        return common
    found: list[object] = []
    for match in matches:
        size = match.a_last - match.a_first + 1
        if options.match_min and size < options.match_min:
            continue
        item: list[object] = [[match.a_first, match.a_last], [match.b_first, match.b_last]]
        if options.with_length:
            item.append(size)
        found.append(item)
    return Map([b"matches", found, b"len", total])


def _text(value: object) -> bytes:
    if value is None:
        return b""
    if type(value) is bytes:
        return value
    if type(value) is bytearray:
        return bytes(value)
    raise CommandError(LCS_TYPES)


def _parse(argv: Argv) -> _Options:
    options = _Options()
    i = 3
    while i < len(argv):
        word = argv[i].upper()
        i += 1
        if word == b"IDX":
            options.idx = True
        elif word == b"LEN":
            options.length = True
        elif word == b"WITHMATCHLEN":
            options.with_length = True
        elif word == b"MINMATCHLEN" and i < len(argv):
            options.match_min = max(parse_int64(argv[i]), 0)
            i += 1
        else:
            raise CommandError(SYNTAX)
    if options.length and options.idx:
        raise CommandError(LCS_BOTH)
    return options


def growth_rows(a: bytes, b: bytes) -> list[int]:
    """For each prefix of ``b``: bit i set where one more byte of ``a`` (a[i]) lengthens the common subsequence."""
    places: dict[int, int] = {}
    backwards = a[::-1]
    for byte in dict.fromkeys(b):
        if byte in a:
            digits = bytearray(b"0" * 256)
            digits[byte] = _ONE
            # Base 2 is read in linear time.
            places[byte] = int(backwards.translate(bytes(digits)), 2)
    everything = (1 << len(a)) - 1
    flat = everything
    rows = [0]
    for byte in b:
        hit = flat & places.get(byte, 0)
        flat = ((flat + hit) | (flat - hit)) & everything
        rows.append(everything ^ flat)
    return rows


def walk_back(a: bytes, b: bytes, rows: list[int]) -> tuple[bytes, list[Match]]:
    """The subsequence and its contiguous runs, from the end of the strings to the start.

    ``here`` is the length for the prefixes a[:i] and b[:j], ``above`` for a[:i] and b[:j-1].
    """
    common = bytearray()
    matches: list[Match] = []
    run: Match | None = None
    i = len(a)
    j = len(b)
    size = i // 8 + 1
    here = rows[j].bit_count()
    above = rows[j - 1].bit_count() if j else 0
    row = rows[j].to_bytes(size, "little")
    row_above = rows[j - 1].to_bytes(size, "little") if j else row
    while i > 0 and j > 0:
        ended = False
        left = i - 1
        down = True
        if a[left] == b[j - 1]:
            common.append(a[left])
            if run is None:
                run = Match(left, j - 1)
            elif run.a_first == i and run.b_first == j:
                run.a_first -= 1
                run.b_first -= 1
            else:
                ended = True
            if run.a_first == 0 or run.b_first == 0:
                ended = True
            i = left
        else:
            # Upstream drops a byte of `a` only when that alone keeps the length.
            if above < here and not row[left >> 3] >> (left & 7) & 1:
                above -= row_above[left >> 3] >> (left & 7) & 1
                i = left
                down = False
            ended = run is not None
        if down:
            j -= 1
            here = (rows[j] & ((1 << i) - 1)).bit_count()
            row = row_above
            if j:
                above = (rows[j - 1] & ((1 << i) - 1)).bit_count()
                row_above = rows[j - 1].to_bytes(size, "little")
        if ended and run is not None:
            matches.append(run)
            run = None
    common.reverse()
    return bytes(common), matches
