"""The bench of stalls: a wait stands for the requests it held up, requests are what they say, tables line up."""

from __future__ import annotations

import pytest

from tools.bench import pinger, stalls


def test_a_long_wait_counts_for_those_it_held_up() -> None:
    assert pinger.with_omitted([0.0005, 0.0045]) == pytest.approx([0.0005, 0.0015, 0.0025, 0.0035, 0.0045])
    quick = [0.0002] * 999
    assert pinger.summary(quick)["p999_ms"] == pytest.approx(0.2)
    stalled = pinger.summary([*quick, 1.0])
    assert stalled["max_ms"] == pytest.approx(1000.0)
    # A thousand requests would have waited up to that second: half of all.
    assert stalled["p999_ms"] > 990
    assert pinger.summary([]) == {"p50_ms": 0.0, "p999_ms": 0.0, "max_ms": 0.0}


@pytest.mark.parametrize("kind", sorted(stalls.ADD))
def test_elements_are_distinct_and_as_many_as_asked(kind: str) -> None:
    words = stalls.elements(kind, 5, 300)
    names = {"zset": words[1::2], "hash": words[::2]}.get(kind, words)
    assert len(set(names)) == 300
    assert set(stalls.elements(kind, 305, 10)).isdisjoint(names)


def test_the_same_requests_for_every_server() -> None:
    first = {name: [make() for _ in range(5)] for name, make in stalls.operations(100).items()}
    again = {name: [make() for _ in range(5)] for name, make in stalls.operations(100).items()}
    assert first == again
    assert first["LINDEX in the middle"][0] == stalls.packed(b"LINDEX", b"l100", b"50")


def test_tables_have_a_cell_for_every_server() -> None:
    grown = {"a": {"ZRANK": (1.0, 3.0)}, "b": {"ZRANK": (2.0, 0.0)}}
    assert stalls.growth_table(grown)[-1] == "| ZRANK | 1.00 | 3.00 | 3.0 | 2.00 | 0.00 | 0.0 |"
    stalled = {"a": {"GET": stalls.Stall(1.0, 2.0, 3.0), "DEL": stalls.Stall(0.5, 0.25, 1.0)}, "b": {}}
    lines = stalls.stall_table(stalled)
    assert lines[2:] == ["| GET | 1.00 | 2.0 | 3.0 | - | - | - |", "| DEL | 0.50 | 0.2 | 1.0 | - | - | - |"]
    assert len({line.count("|") for line in lines}) == 1
