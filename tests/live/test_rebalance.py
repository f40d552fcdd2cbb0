"""The rebalancer in real clusters: it suggests, then moves what is hot away from a group, then leaves everything be."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from durakv.keyspace.slots import slot_of
from tests.live.test_shards import Shards, ask, everybody_knows, running, wait

pytestmark = pytest.mark.live

# Of group 1 as it is founded.
HOT = [key for key in (f"k{n}" for n in range(400)) if slot_of(key.encode()) < 8192][:12]


class Load(threading.Thread):
    """Counts up keys of one group, and how far each must have come."""

    def __init__(self, shards: Shards) -> None:
        super().__init__()
        self.client = shards.client()
        self.rounds = 0
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            for key in HOT:
                for _ in range(3):
                    self.client.incr(key)
            self.rounds += 1

    def stop(self) -> None:
        self.ended = True
        self.join(20)


def status(shards: Shards) -> dict[bytes, Any]:
    found: dict[bytes, Any] = ask(shards.port(1), "CLUSTER REBALANCE", "STATUS")
    return found


def migrations(shards: Shards) -> list[dict[bytes, Any]]:
    found: list[dict[bytes, Any]] = ask(shards.port(1), "CLUSTER GETSLOTMIGRATIONS")
    return found


def on_all(shards: Shards, *words: str) -> None:
    for group in (1, 2):
        assert ask(shards.port(group), "CONFIG SET", *words)


def test_hot_slots_move_away_and_then_it_is_quiet(tmp_path: Path) -> None:
    with running(tmp_path, 2, 1) as shards:
        wait(lambda: everybody_knows(shards))
        on_all(shards, "rebalance-window", "1")
        load = Load(shards)
        load.start()
        try:
            evens_out(shards)
        finally:
            load.stop()
        # Nothing was lost or done twice on the way.
        assert [int(load.client.get(key) or 0) for key in HOT] == [3 * load.rounds] * len(HOT)


def evens_out(shards: Shards) -> None:
    on_all(shards, "rebalance", "suggest")
    wait(lambda: status(shards)[b"moves-planned"] > 0)
    plan = ask(shards.port(1), "CLUSTER REBALANCE", "PLAN")
    assert plan[b"moves"][0][b"reason"] == b"skew"
    assert plan[b"moves"][0][b"source-load-after"] < plan[b"moves"][0][b"source-load-before"]
    assert migrations(shards) == [] and status(shards)[b"moves-started"] == 0
    log = (shards.root / "g1" / "n1" / "durakv.log").read_text()
    assert "rebalance-suggest" in log and "rebalance-move" not in log

    on_all(shards, "rebalance", "auto")
    wait(lambda: any(m[b"state"] == b"success" for m in migrations(shards)))
    quiet(shards)
    moved = sum(len(m[b"slot_ranges"].split()) for m in migrations(shards))
    assert 1 <= moved < len(HOT), "the hottest stays, and what moves fits"
    assert ask(shards.port(2), "CLUSTER REBALANCE", "STATUS")[b"moves-started"] == 0
    assert status(shards)[b"stopped"] == b""
    loads = [row[b"load"] for row in status(shards)[b"groups"]]
    assert min(loads) > 0


def quiet(shards: Shards) -> None:
    """Some seconds, more than twice as long as it takes to plan, pass without another move."""
    end = time.monotonic() + 120
    before, since = len(migrations(shards)), time.monotonic()
    while time.monotonic() - since < 7:
        assert time.monotonic() < end, "it never came to rest"
        time.sleep(0.2)
        now = len(migrations(shards))
        if now != before:
            before, since = now, time.monotonic()
