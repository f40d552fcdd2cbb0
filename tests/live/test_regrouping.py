"""Groups join a cluster and leave it while clients write; redis-cli and valkey-cli look at several groups."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

from tests.live.test_shards import Shards, ask, everybody_knows, running, wait

pytestmark = pytest.mark.live

KEYS = [f"k{n}" for n in range(60)]


class Writers(threading.Thread):
    """Counts up keys of all slots, and how far each must have come at least and at most."""

    def __init__(self, shards: Shards, group: int) -> None:
        super().__init__()
        self.client = redis.cluster.RedisCluster(host="127.0.0.1", port=shards.port(group))
        self.sure = dict.fromkeys(KEYS, 0)
        self.unsure = dict.fromkeys(KEYS, 0)
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            for key in KEYS:
                try:
                    self.client.incr(key)
                    self.sure[key] += 1
                except redis.exceptions.RedisError:
                    self.unsure[key] += 1

    def stop(self) -> None:
        self.ended = True
        self.join(30)

    def check(self) -> None:
        for key in KEYS:
            found = int(self.client.get(key) or 0)
            assert self.sure[key] <= found <= self.sure[key] + self.unsure[key], key


def cli(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return subprocess.run([program, *words], check=False, capture_output=True, text=True, timeout=60)


def ports(shards: Shards, *groups: int) -> list[int]:
    return [shards.port(group) for group in groups]


def test_a_group_joins_and_another_leaves_under_load(tmp_path: Path) -> None:
    with running(tmp_path, 2, 1) as shards:
        wait(lambda: everybody_knows(shards))
        load = Writers(shards, 2)
        load.start()
        try:
            said = shards.run("add-shard", "--nodes", "1", "--fill")
            assert "Group 3 owns 5461 slots" in said
            for port in ports(shards, 1, 2, 3):
                wait(lambda port=port: [run[1] - run[0] + 1 for run in ask(port, "CLUSTER SLOTS")] != [])
            owned = sum(run[1] - run[0] + 1 for run in ask(shards.port(1), "CLUSTER SLOTS")
                        if run[2][1] == shards.port(3))  # fmt: skip
            assert owned == 5461
            said = shards.run("remove-shard", "--group", "1")
            assert "Group 1 is no longer part of the cluster" in said
        finally:
            load.stop()
        load.check()
        for port in ports(shards, 2, 3):
            wait(lambda port=port: ask(port, "CLUSTER INFO")["cluster_known_nodes"] == "2")
            assert ask(port, "CLUSTER INFO")["cluster_state"] == "ok"
        with pytest.raises(redis.exceptions.ConnectionError):
            ask(shards.port(1), "PING")
        restarted(shards, load)


def restarted(shards: Shards, load: Writers) -> None:
    """The groups that are left start again as one cluster, and a new one gets a number of its own."""
    shards.run("stop")
    shards.again()
    for port in ports(shards, 2, 3):
        wait(lambda port=port: ask(port, "CLUSTER INFO")["cluster_state"] == "ok")
        assert ask(port, "CLUSTER INFO")["cluster_known_nodes"] == "2"
    load.check()
    assert "Group 4 owns no slots yet" in shards.run("add-shard", "--nodes", "1")
    wait(lambda: ask(shards.port(2), "CLUSTER INFO")["cluster_known_nodes"] == "3")
    assert "Group 4 is no longer part" in shards.run("remove-shard", "--group", "4")
    wait(lambda: ask(shards.port(2), "CLUSTER INFO")["cluster_known_nodes"] == "2")


def test_nodes_join_and_leave_by_group_and_tools_see_several_groups(tmp_path: Path) -> None:
    with running(tmp_path, 2, 1) as shards:
        wait(lambda: everybody_knows(shards))
        shards.run("add-node", "--group", "2")
        wait(lambda: ask(shards.port(1), "CLUSTER INFO")["cluster_known_nodes"] == "3")
        node = f"127.0.0.1:{shards.port(1)}"
        for program in ("redis-cli", "valkey-cli"):
            look(program, node, shards)
        shards.run("remove-node", "--node", "1002")
        wait(lambda: ask(shards.port(1), "CLUSTER INFO")["cluster_known_nodes"] == "2")
        refused = subprocess.run(
            [sys.executable, "-m", "durakv", "cluster", "add-node", "--dir", str(shards.root)],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 1 and "say which one with --group" in refused.stderr
        forgetting(shards)


def look(program: str, node: str, shards: Shards) -> None:
    """check and info work over all groups; what would move slots key by key is refused, and says by what instead."""
    checked = cli(program, "--cluster", "check", node)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "All nodes agree about slots configuration" in checked.stdout
    assert "All 16384 slots covered" in checked.stdout
    informed = cli(program, "--cluster", "info", node)
    assert informed.returncode == 0 and "in 2 masters" in informed.stdout.replace("primaries", "masters")
    names = [ask(port, "CLUSTER MYID").decode() for port in ports(shards, 1, 2)]
    moved = cli(program, "--cluster", "reshard", node, "--cluster-from", names[0], "--cluster-to", names[1],
                "--cluster-slots", "2", "--cluster-yes")  # fmt: skip
    assert "use CLUSTER MIGRATESLOTS" in moved.stdout + moved.stderr
    evened = cli(program, "--cluster", "rebalance", node, "--cluster-weight", f"{names[0]}=3")
    assert "use CLUSTER MIGRATESLOTS" in evened.stdout + evened.stderr
    assert [run[:2] for run in ask(shards.port(1), "CLUSTER SLOTS")] == [[0, 8191], [8192, 16383]]


def forgetting(shards: Shards) -> None:
    """Only a group that owns nothing is forgotten, and never one's own."""
    mine, other = (ask(port, "CLUSTER MYSHARDID").decode() for port in ports(shards, 1, 2))
    for name, error in (
        (other, "the shard owns 8192 slots"), (mine, "this node belongs to that shard"), ("ab" * 20, "Unknown shard"),
    ):  # fmt: skip
        with pytest.raises(redis.exceptions.ResponseError, match=error):
            ask(shards.port(1), "CLUSTER", "FORGETSHARD", name)
