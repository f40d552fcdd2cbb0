"""Several groups as one cluster: `durakv cluster up --shards`, cluster clients, failovers, restarts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from tests.live.group import free_ports

pytestmark = pytest.mark.live

# Of groups of several nodes: a disk that stalls for a second or two changes no leader, and one that is killed has a
# successor after about so long.
PATIENT = ("--election-timeout-ms", "2500")


def free_range(count: int) -> int:
    """The first of so many neighbouring ports that were free a moment ago, those of peers included."""
    base = free_ports(1)[0]
    while True:
        try:
            for port in range(base, base + count):
                for offset in (0, 10_000):
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port + offset))
        except OSError:
            # Another one's, or one that was closed just now: the first free port may be the same for a minute.
            base = base + count if base + 2 * count < 21_900 else 11_000
            continue
        return base


class Shards:
    """A cluster of groups on this machine."""

    def __init__(self, root: Path, shards: int, nodes: int, directives: tuple[str, ...] = ()) -> None:
        self.root = root
        self.directives = ("--", *directives) if directives else ()
        self.shards = shards
        self.nodes = nodes
        self.base = free_range(10 * shards)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "durakv", "cluster", words[0], "--dir", str(self.root), *words[1:]],
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        self.run("up", "--shards", str(self.shards), "--nodes", str(self.nodes), "--base-port", str(self.base),
                 "--detach", *self.directives)  # fmt: skip

    def again(self) -> None:
        self.run("up", "--detach")

    def port(self, group: int, node: int = 0) -> int:
        return self.base + 10 * (group - 1) + node

    def status(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("status", "--json"))["groups"]
        return found

    def client(self) -> RedisCluster:
        retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 30)
        return RedisCluster(host="127.0.0.1", port=self.port(1), retry=retry)


@contextmanager
def running(root: Path, groups: int, nodes: int, directives: tuple[str, ...] = ()) -> Iterator[Shards]:
    made = Shards(root / "c", groups, nodes, directives)
    try:
        made.up()
        yield made
    finally:
        subprocess.run(
            [sys.executable, "-m", "durakv", "cluster", "stop", "--dir", str(made.root)], timeout=60, check=False
        )


def wait(what: Any, seconds: float = 60) -> None:
    """Until it is true. The limit is a machine's that does other things too; nothing here measures time by it."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.05)


def ask(port: int, *words: str) -> Any:
    with redis.Redis(port=port, socket_timeout=10) as client:
        return client.execute_command(*words)


def written(client: RedisCluster, key: str, value: int) -> bool:
    """False while the key's group elects a leader, which takes longer than the client's retries."""
    try:
        return bool(client.set(key, value))
    except (redis.exceptions.ConnectionError, redis.exceptions.ClusterDownError):
        return False


def everybody_knows(made: Shards) -> bool:
    for group in range(1, made.shards + 1):
        for node in range(made.nodes):
            info = ask(made.port(group, node), "CLUSTER INFO")
            if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) != made.shards * made.nodes:
                return False
    return True


def test_cluster_clients_find_every_key_through_failover_and_restart(tmp_path: Path) -> None:
    with running(tmp_path, 3, 3, PATIENT) as shards:
        everything_is_found(shards)


def everything_is_found(shards: Shards) -> None:
    wait(lambda: everybody_knows(shards))
    slots = ask(shards.port(2, 1), "CLUSTER SLOTS")
    assert [run[:2] for run in slots] == [[0, 5460], [5461, 10921], [10922, 16383]]
    assert all(len(run) == 5 for run in slots)
    client = shards.client()
    for n in range(300):
        assert client.set(f"k{n}", n)
    assert client.mget_nonatomic([f"k{n}" for n in range(300)]) == [b"%d" % n for n in range(300)]
    # Each group has a part of the keys, and only that; the node that is asked may be a little behind.
    wait(lambda: sum(ask(shards.port(group), "DBSIZE") for group in (1, 2, 3)) == 300)
    assert min(ask(shards.port(group), "DBSIZE") for group in (1, 2, 3)) > 50
    with pytest.raises(redis.exceptions.MovedError) as moved, redis.Redis(port=shards.port(1)) as plain:
        plain.execute_command("SET", "foo", "x")  # slot 12182
    assert moved.value.slot_id == 12182
    assert (moved.value.port - shards.base) // 10 == 2
    with redis.Redis(port=shards.port(1)) as plain, pytest.raises(redis.exceptions.ClusterCrossSlotError):
        plain.execute_command("MGET", "foo", "bar")
    # A transaction and a read of a replica are sent where they belong as well.
    with redis.Redis(port=shards.port(2), single_connection_client=True) as plain:
        plain.execute_command("READONLY")
        with pytest.raises(redis.exceptions.MovedError):
            plain.execute_command("GET", "foo")
        plain.execute_command("MULTI")
        with pytest.raises(redis.exceptions.MovedError):
            plain.execute_command("SET", "foo", "x")
        with pytest.raises(redis.exceptions.ExecAbortError):
            plain.execute_command("EXEC")

    # The leader of one group is killed: the others go on at once, this one after an election, and all hear of it.
    wait(lambda: shards.status()[1]["leader"])
    leader = shards.status()[1]["leader"]
    known = json.loads((shards.root / "g2" / "cluster.json").read_text())["nodes"]
    os.kill(next(node["pid"] for node in known if node["id"] == leader), signal.SIGKILL)
    for n in range(300):
        wait(lambda n=n: written(client, f"k{n}", n + 1))

    def heard() -> bool:
        text = ask(shards.port(1), "CLUSTER NODES")
        mine = [
            facts
            for address, facts in text.items()
            if shards.port(2) <= int(address.rpartition(":")[2]) < shards.port(3)
        ]
        masters = [facts for facts in mine if "master" in facts["flags"]]
        return len(masters) == 1 and "fail" not in masters[0]["flags"] and any("fail" in f["flags"] for f in mine)

    wait(heard)
    shards.run("stop")
    shards.again()
    wait(lambda: everybody_knows(shards))
    again = shards.client()
    assert again.mget_nonatomic([f"k{n}" for n in range(300)]) == [b"%d" % (n + 1) for n in range(300)]


def test_a_group_grows_and_its_newcomer_knows_the_slots(tmp_path: Path) -> None:
    with running(tmp_path, 3, 1) as shards:
        one_grows(shards)


def one_grows(shards: Shards) -> None:
    wait(lambda: everybody_knows(shards))
    client = shards.client()
    for n in range(100):
        client.set(f"k{n}", n)
    done = subprocess.run(
        [sys.executable, "-m", "durakv", "cluster", "add-node", "--dir", str(shards.root / "g2")],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    port = shards.port(2, 1)
    wait(lambda: ask(port, "CLUSTER INFO")["cluster_known_nodes"] == "4")
    assert ask(port, "DBSIZE") == ask(shards.port(2), "DBSIZE")
    with redis.Redis(port=port, single_connection_client=True) as plain:
        plain.execute_command("READONLY")
        for n in range(100):
            slot = client.keyslot(f"k{n}")
            if 5461 <= slot <= 10921:
                assert plain.execute_command("GET", f"k{n}") == b"%d" % n
            else:
                with pytest.raises(redis.exceptions.MovedError):
                    plain.execute_command("GET", f"k{n}")
    mine = ask(port, "CLUSTER MYSHARDID")
    assert mine == ask(shards.port(2), "CLUSTER MYSHARDID") != ask(shards.port(1), "CLUSTER MYSHARDID")
