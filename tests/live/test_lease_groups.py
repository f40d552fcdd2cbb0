"""Several groups of lease mode as one cluster: slots move between them, and to and from a group of Raft mode."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import redis
from redis.cluster import RedisCluster

from durakv.cli import shards as groups
from durakv.cli.layout import Cluster
from durakv.cli.slot_moves import Mover, owned
from durakv.cli.status import leader_of, survey
from durakv.keyspace.slots import SLOTS
from tests.live.test_shards import Shards, ask, everybody_knows, wait

# redis-py does not close the socket of a connection that was refused.
pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

MOVING: Final = list(range(3000))
VALUE: Final = "v" * 500
FAILURES: Final = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)


def free_base(count: int) -> int:
    """The first of so many neighbouring ports that are free, with those of peers and config holders."""
    for base in range(11_000 + 40 * (os.getpid() % 200), 21_900, count):
        try:
            for port in range(base, base + count):
                for offset in (0, 10_000, 20_000):
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return base
    raise AssertionError("no free range of ports")


class LeaseShards(Shards):
    """Groups of lease mode."""

    def __init__(self, root: Path, shards: int, nodes: int) -> None:
        self.root = root
        self.shards = shards
        self.nodes = nodes
        self.base = free_base(10 * (shards + 1))

    def up(self) -> None:
        self.run("up", "--mode", "lease", "--shards", str(self.shards), "--nodes", str(self.nodes), "--base-port",
                 str(self.base), "--detach")  # fmt: skip

    def group(self, number: int) -> Cluster:
        return groups.of_group(self.root, number)

    def kill_primary(self, number: int) -> None:
        """SIGKILL."""
        cluster = self.group(number)
        leader = leader_of(survey(cluster))
        assert leader is not None
        os.kill(cluster.node(leader.node_id).pid, signal.SIGKILL)


@contextmanager
def leased(root: Path, shards: int, nodes: int) -> Iterator[LeaseShards]:
    made = LeaseShards(root / "c", shards, nodes)
    try:
        made.up()
        yield made
    finally:
        subprocess.run(
            [sys.executable, "-m", "durakv", "cluster", "stop", "--dir", str(made.root)], timeout=60, check=False
        )


class Writer(threading.Thread):
    """Sets keys that nobody else sets, each once, until told to stop; knows which were acknowledged."""

    def __init__(self, made: LeaseShards, number: int) -> None:
        super().__init__(daemon=True)
        self.made = made
        self.number = number
        self.going = True
        self.acked: list[str] = []
        self.failed = 0

    def run(self) -> None:
        n = 0
        while self.going:
            try:
                client = self.connected()
                while self.going:
                    n += 1
                    key = f"w{self.number}:{n}"
                    if client.set(key, key):
                        self.acked.append(key)
                    time.sleep(0.001)
            except FAILURES:
                self.failed += 1
                time.sleep(0.05)

    def connected(self) -> RedisCluster:
        return RedisCluster(host="127.0.0.1", port=self.made.port(1 + self.failed % 2, self.failed % 3),
                            socket_timeout=3, socket_connect_timeout=1)  # fmt: skip


def in_sync(made: LeaseShards, number: int) -> int:
    """How many members the group's primary counts on; 0 while there is none."""
    leader = leader_of(survey(made.group(number)))
    return 0 if leader is None else len([n for n in leader.lease.get("isr", "").split(",") if n])


def moving(made: LeaseShards, source: int, target: int) -> threading.Thread:
    """Moves the slots; whoever leads is asked."""
    mover = Mover(made.group(source), "", 20.0, lambda _: None)
    thread = threading.Thread(target=mover.move, args=(MOVING, made.group(target)), daemon=True)
    thread.start()
    return thread


def same_everywhere(made: LeaseShards, runs: list[list[int]]) -> bool:
    ports = [made.port(group, node) for group in (1, 2) for node in range(made.nodes)]
    return all([run[:2] for run in ask(port, "CLUSTER SLOTS")] == runs for port in ports)


@pytest.mark.timeout(90)
def test_slots_move_both_ways_while_the_primaries_of_both_sides_are_killed(tmp_path: Path) -> None:
    with leased(tmp_path, 2, 3) as made:
        wait(lambda: everybody_knows(made))
        assert same_everywhere(made, [[0, 8191], [8192, 16383]])
        client = made.client()
        for n in range(400):
            assert client.set(f"k{n}", f"{n}{VALUE}")
        with pytest.raises(redis.exceptions.MovedError) as elsewhere, redis.Redis(port=made.port(1, 1)) as plain:
            plain.execute_command("SET", "foo", "x")  # slot 12182
        assert (elsewhere.value.port - made.base) // 10 == 1
        writers = [Writer(made, n) for n in range(2)]
        for writer in writers:
            writer.start()
        mover = moving(made, 1, 2)
        # A few hundred slots in, the source's primary, and the target's when it goes on.
        for struck in (1, 2):
            before = len(owned(made.group(2), ""))
            wait(lambda n=before: len(owned(made.group(2), "")) > n, 30)
            made.kill_primary(struck)
        mover.join(40)
        assert not mover.is_alive()
        of_one, of_two = owned(made.group(1), ""), owned(made.group(2), "")
        assert (of_one[0], of_two[: len(MOVING)]) == (len(MOVING), MOVING)
        assert sorted(of_one + of_two) == list(range(SLOTS))
        made.again()
        wait(lambda: in_sync(made, 1) == in_sync(made, 2) == 3, 30)
        mover = moving(made, 2, 1)
        mover.join(40)
        assert not mover.is_alive()
        for writer in writers:
            writer.going = False
        for writer in writers:
            writer.join(10)
        wait(lambda: same_everywhere(made, [[0, 8191], [8192, 16383]]))
        again = made.client()
        acked = [key for writer in writers for key in writer.acked]
        assert len(acked) > 500
        print(f"{len(acked)} writes acknowledged, {sum(writer.failed for writer in writers)} times a client failed")
        assert [key for key in acked if again.get(key) != key.encode()] == []
        assert [n for n in range(400) if again.get(f"k{n}") != f"{n}{VALUE}".encode()] == []


@pytest.mark.timeout(90)
def test_a_raft_group_joins_a_lease_group_gets_slots_and_gives_them_back(tmp_path: Path) -> None:
    with leased(tmp_path, 1, 2) as made:
        client = made.client()
        for n in range(300):
            assert client.set(f"k{n}", n)
        said = made.run("add-shard", "--mode", "raft", "--nodes", "1", "--fill")
        assert "Group 2 owns 8192 slots" in said
        modes = [survey(made.group(number))[0].lease.get("replication_mode", "raft") for number in (1, 2)]
        assert modes == ["lease", "raft"]
        assert [run[:2] for run in ask(made.port(2), "CLUSTER SLOTS")] == [[0, 8191], [8192, 16383]]
        assert [client.get(f"k{n}") for n in range(300)] == [b"%d" % n for n in range(300)]
        assert client.set("foo", "at the raft group")  # slot 12182
        made.run("remove-shard", "--group", "2")
        again = made.client()
        assert again.get("foo") == b"at the raft group"
        assert [again.get(f"k{n}") for n in range(300)] == [b"%d" % n for n in range(300)]
        # A node that joins hears which group it is, and what that owns.
        made.run("add-node", "--group", "1")
        wait(lambda: in_sync(made, 1) == 3)
        with redis.Redis(port=made.port(1, 2)) as plain:
            assert [run[:2] for run in plain.execute_command("CLUSTER SLOTS")] == [[0, 16383]]
            with pytest.raises(redis.exceptions.MovedError):
                plain.execute_command("GET", "foo")
