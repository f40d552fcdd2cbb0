"""Directives of groups at work: several databases move with their slots, and who is asked about rebalancing says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from tests.live.test_shards import Shards, ask, everybody_knows, wait

pytestmark = pytest.mark.live

# Slot 0.
KEY = "{06S}key"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    made = Shards(tmp_path_factory.mktemp("directives") / "c", 2, 2)
    command = [
        sys.executable, "-m", "durakv", "cluster", "up", "--dir", str(made.root), "--shards", "2", "--nodes", "2",
        "--base-port", str(made.base), "--detach", "--", "--cluster-databases", "3",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        wait(lambda: everybody_knows(made))
        yield made
    finally:
        made.run("stop")


def leader(shards: Shards, group: int) -> int:
    """Its port."""
    return next(port for port in ports(shards, group) if ask(port, "ROLE")[0] == b"master")


def ports(shards: Shards, group: int) -> list[int]:
    return [shards.port(group, node) for node in (0, 1)]


def in_db(port: int, db: int, *words: str) -> object:
    with redis.Redis(port=port, db=db, socket_timeout=10) as client:
        return client.execute_command(*words)


def test_a_slot_moves_with_all_databases(shards: Shards) -> None:
    source, target = leader(shards, 1), leader(shards, 2)
    for db in range(3):
        assert in_db(source, db, "SET", KEY, f"in {db}")
    with pytest.raises(redis.exceptions.ResponseError, match="DB index is out of range"):
        in_db(source, 3, "PING")
    name = ask(target, "CLUSTER MYID").decode()
    assert in_db(source, 1, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", "0", "NODE", name) == b"OK"
    wait(lambda: ask(source, "CLUSTER GETSLOTMIGRATIONS")[0][b"state"] == b"success")
    for db in range(3):
        assert in_db(target, db, "GET", KEY) == b"in %d" % db
        assert in_db(target, db, "CLUSTER", "COUNTKEYSINSLOT", "0") == 1
        wait(lambda db=db: in_db(source, db, "CLUSTER", "COUNTKEYSINSLOT", "0") == 0)
        with pytest.raises(redis.exceptions.MovedError):
            in_db(source, db, "GET", KEY)
    # What it costs is counted over all of them.
    (row,) = ask(target, "CLUSTER", "SLOT-STATS", "SLOTSRANGE", "0", "0")
    assert row == [0, {b"key-count": 3}]


def test_who_is_asked_about_rebalancing_says_so(shards: Shards) -> None:
    first = leader(shards, 1)
    follower = next(port for port in ports(shards, 1) if port != first)

    def refused(port: int, word: str, text: str) -> None:
        with pytest.raises(redis.exceptions.ResponseError, match=text):
            ask(port, "CLUSTER", "REBALANCE", word)

    for word in ("PLAN", "RESUME"):
        refused(first, word, "CONFIG SET rebalance suggest, or auto")
    refused(first, "NONSENSE", "syntax error")
    found = ask(first, "CLUSTER", "REBALANCE", "STATUS")
    assert (found[b"mode"], found[b"leader"], found[b"ready"], found[b"groups"]) == (b"off", 1, 0, [])
    for port in (first, follower):
        ask(port, "CONFIG", "SET", "rebalance", "suggest")
    refused(follower, "PLAN", f"the leader of a group plans for it; ask 127.0.0.1:{first}")
    wait(lambda: len(ask(first, "CLUSTER", "REBALANCE", "STATUS")[b"groups"]) == 1)
    refused(first, "PLAN", "has not watched the group for long enough")
    assert ask(first, "CLUSTER", "REBALANCE", "RESUME") == b"OK"
    # The other group takes no part, but hears.
    wait(lambda: len(ask(leader(shards, 2), "CLUSTER", "REBALANCE", "STATUS")[b"groups"]) == 1)
    for port in (first, follower):
        ask(port, "CONFIG", "SET", "rebalance", "off")
    refused(first, "PLAN", "takes no part")
