"""CLUSTERSCAN: full passes, the slot a cursor leads to, one slot alone, and what it refuses."""

from __future__ import annotations

import pytest

from durakv.commands.cluster_scan import tag_of
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.resp.types import OK
from tests.commands.running import Failed, Run

NAMES = {b"key:%d" % n for n in range(300)} | {b"{same}%d" % n for n in range(700)}


def walk(run: Run, *options: object) -> tuple[list[bytes], int]:
    """Keys in the order they came, and how many steps it took; each cursor must lead to the slot it stands in."""
    cursor, found, steps = b"0", [], 0
    while True:
        cursor, keys = run("CLUSTERSCAN", cursor, *options)
        assert steps or keys == [], "the first step only tells where to begin"
        found += keys
        steps += 1
        if cursor == b"0":
            return found, steps
        assert len(cursor.partition(b"{")[2].partition(b"}")[0]) == 3
        assert steps < 5000


@pytest.fixture
def full(run: Run) -> Run:
    for name in NAMES:
        run("SET", name, "v")
    run("LPUSH", "list", "v")
    return run


def test_a_pass_returns_every_key(full: Run) -> None:
    found, steps = walk(full)
    assert set(found) == NAMES | {b"list"}
    assert steps > 20
    assert walk(full, "COUNT", 10_000)[1] < steps


def test_options_are_those_of_scan(full: Run) -> None:
    assert walk(full, "TYPE", "list")[0] == [b"list"]
    assert set(walk(full, "MATCH", "key:1*", "count", 50)[0]) == {n for n in NAMES if n.startswith(b"key:1")}
    assert full("CLUSTERSCAN", "0", "NOPE", "1") == Failed("ERR syntax error")
    assert full("CLUSTERSCAN", "0", "SLOT") == Failed("ERR syntax error")


def test_one_slot(full: Run) -> None:
    slot = slot_of(b"{same}")
    found, _ = walk(full, "SLOT", slot, "COUNT", 20)
    assert set(found) == {name for name in NAMES if slot_of(name) == slot}
    assert full("CLUSTERSCAN", b"0-{%b}-0" % tag_of((slot + 1) % SLOTS), "SLOT", slot) == [b"0", []]


@pytest.mark.parametrize("slot", ["-1", "16384", "x"])
def test_slots_out_of_range(run: Run, slot: str) -> None:
    assert run("CLUSTERSCAN", "0", "SLOT", slot) == Failed("ERR Invalid or out of range slot")


@pytest.mark.parametrize("cursor", ["", "x", "1", "1-{}-0", "1-{06S}-x", "1-{06S}--1", "-{06S}-0", "1-06S-0"])
def test_cursors_it_never_gave(run: Run, cursor: str) -> None:
    assert run("CLUSTERSCAN", cursor) == Failed("ERR invalid cursor")


def test_tags_lead_to_their_slot() -> None:
    assert [slot_of(tag_of(slot)) for slot in range(0, SLOTS, 13)] == list(range(0, SLOTS, 13))


def test_restore_asking_is_restore(run: Run) -> None:
    run("SET", "k", "v")
    payload = run("DUMP", "k")
    assert run("RESTORE-ASKING", "copy", 0, payload) is OK
    assert run("GET", "copy") == b"v"
    assert run("RESTORE-ASKING", "copy", 0, payload) == Failed("BUSYKEY Target key name already exists.")
