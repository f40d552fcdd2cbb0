"""Arguments that upstream reads as C strings end at their first zero byte; cursors are read as strtoull() does."""

from __future__ import annotations

import pytest

from tests.commands.running import Failed, Run


def test_an_option_is_quoted_up_to_its_zero_byte(run: Run) -> None:
    run("SET", "k", "v")
    assert run("EXPIRE", "k", 10, b"ab\0cd") == Failed("ERR Unsupported option ab")


def test_a_score_bound_ends_at_its_zero_byte(run: Run) -> None:
    run("ZADD", "z", 0, "a", 1, "b")
    assert run("ZCOUNT", "z", b"\0x", b"0\0x") == 1


@pytest.mark.parametrize("cursor", ["0", "-0", "+0", " 0", b"0\0x", "000"])
def test_cursors_that_mean_zero(run: Run, cursor: object) -> None:
    run("HSET", "h", "f", "v")
    assert run("HSCAN", "h", cursor) == [b"0", [b"f", b"v"]]


@pytest.mark.parametrize("cursor", ["-1", "", "x", "0x", "18446744073709551616", "--0", b"\0"])
def test_cursors_that_are_refused(run: Run, cursor: object) -> None:
    assert run("SSCAN", "none", cursor) == Failed("ERR invalid cursor")


def test_a_short_hyperloglog_is_raw(run: Run) -> None:
    run("PFADD", "p", "a")
    assert run("OBJECT", "ENCODING", "p") == b"raw"
    assert run("PFADD", "p", "a") == 0
    assert run("PFADD", "p", "b") == 1
    assert run("PFCOUNT", "p") == 2
