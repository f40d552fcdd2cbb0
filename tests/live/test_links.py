"""What a follower's clients notice when other nodes come and go: never silence, and no wrong word about a write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.group import Group
from tests.live.load import Load, Pipeliner, Writer, eventually, found, going_on, missing

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")]


def test_another_followers_death_goes_unnoticed(tmp_path: Path) -> None:
    with Group(tmp_path, 3, ["--election-timeout-ms", "2500"]) as group:
        leader = group.leader()
        near, other = (node for node in group.nodes if node is not leader)
        loads = [Pipeliner(near, f"p{n}", 20) for n in range(3)]
        writer = Writer(near, "w")
        for _ in range(4):
            other.kill()
            going_on([*loads, writer], 20, "writes through the follower go on while another follower is down")
            other.start()
        for load in loads:
            load.stopping.set()
            load.finish()
        writer.finish()
        every: list[Load] = [*loads, writer]
        assert group.leader() is leader
        for each in every:
            assert each.unknown == [] and each.refused == [], "only a follower that serves nobody here was killed"
            assert missing(leader, each.acked) == []


def test_the_leaders_death_is_told_truthfully(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        old = group.leader()
        followers = [node for node in group.nodes if node is not old]
        loads = [Pipeliner(node, f"p{node.node_id}.{n}", 20) for node in followers for n in range(2)]
        eventually(lambda: min(len(load.acked) for load in loads) > 100, "the writers write")
        old.kill()
        new = group.leader()
        for load in loads:
            # A connection ends when the outcome of a write is unknown; a follower that saw all of them happen goes on.
            load.stopping.set()
            load.finish()
        for load in loads:
            assert missing(new, load.acked) == [], "acknowledged writes are gone"
            assert found(new, load.refused) == [], "refused writes have happened"
