"""Random programs of commands on strings with an inside (bits, registers, fields), run here and on a stock server.

In every fourth program each write is first undone and redone here. Bytes of the strings are compared at the end.
Programs come from plain seeds: a failure names its whole program, and no time goes into making it smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from durakv.commands.table import Table
from tests.commands.running import DATA_MODULES, Failed, Reference, Run, declarations, parsed

TABLE = Table.freeze(declarations(DATA_MODULES))

Word = str | bytes | int
Words = list[Word]
Maker = Callable[[Random], Words]
Alike = Callable[[Words, Any], Any]


def assert_programs_alike(stock: Reference, programs: int, make: Callable[[Random], list[Words]]) -> None:
    """``make`` one program for each of as many seeds, and compare them all."""
    for seed in range(programs):
        assert_alike(make(Random(seed)), stock, check_undo=seed % 4 == 0)


def as_is(words: Words, reply: Any) -> Any:
    return reply


def assert_alike(commands: list[Words], stock: Reference, check_undo: bool, comparable: Alike = as_is) -> Run:
    """Every reply equal to the stock server's; then every string's bytes. Returns the run, for further looks."""
    run = Run(TABLE)
    run.check_undo = check_undo
    stock("FLUSHALL")
    for i, words in enumerate(commands):
        ours = comparable(words, parsed(run.wire(*words)))
        theirs = comparable(words, stock(*words))
        if isinstance(theirs, Failed):
            # A text ends at its last word on the wire; stray blanks before the line end are upstream's.
            theirs = Failed(theirs.text.rstrip())
        assert ours == theirs, f"{stock.name}: {commands[: i + 1]}: ours {ours!r}, theirs {theirs!r}"
    names = sorted(stock("KEYS", "*"))
    assert sorted(run("KEYS", "*")) == names
    for name in names:
        kind = stock("TYPE", name)
        assert parsed(run.wire("TYPE", name)) == kind
        if kind == b"string":
            words = ["GET", name]
            assert comparable(words, run("GET", name)) == comparable(words, stock("GET", name)), f"{commands}: {name!r}"
        elif kind == b"zset":
            words = ["ZRANGE", name, "0", "-1", "WITHSCORES"]
            ours, theirs = comparable(words, parsed(run.wire(*words))), comparable(words, stock(*words))
            assert ours == theirs, f"{commands}: {name!r}"
    return run
