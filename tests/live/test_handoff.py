"""Slots that move between groups of a running cluster: nothing is lost or doubled, and clients follow."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from tests.live.test_shards import PATIENT, Shards, ask, wait

pytestmark = pytest.mark.live

FIRST, LAST = 0, 1500
# Slots 0 and 1.
TAGS = ("06S", "Qi")
COUNT_AND_LOG = "redis.call('INCR', KEYS[1]); return redis.call('RPUSH', KEYS[2], ARGV[1])"
FAILURES = (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError)
FINAL = (b"success", b"failed", b"cancelled")


def stop(made: Shards) -> None:
    subprocess.run(
        [sys.executable, "-m", "durakv", "cluster", "stop", "--dir", str(made.root)], timeout=60, check=False
    )


def started(root: Path, nodes: int) -> Shards:
    made = Shards(root, 3, nodes, PATIENT if nodes > 1 else ())
    made.up()
    wait(lambda: all_know(made))
    return made


def all_know(made: Shards) -> bool:
    for group in range(1, made.shards + 1):
        for node in range(made.nodes):
            info = ask(made.port(group, node), "CLUSTER INFO")
            known = int(info["cluster_known_nodes"]) == made.shards * made.nodes
            if info["cluster_state"] != "ok" or not known or info["cluster_slots_assigned"] != "16384":
                return False
    return True


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    made = started(tmp_path_factory.mktemp("single") / "c", 1)
    try:
        yield made
    finally:
        stop(made)


@pytest.fixture
def triple(tmp_path: Path) -> Iterator[Shards]:
    made = started(tmp_path / "c", 3)
    try:
        yield made
    finally:
        stop(made)


def leader_port(made: Shards, group: int) -> int:
    for _ in range(200):
        for node in range(made.nodes):
            # The dead are not asked twice.
            with redis.Redis(port=made.port(group, node), socket_timeout=10, retry=Retry(NoBackoff(), 0)) as plain:
                try:
                    if plain.execute_command("ROLE")[0] == b"master":
                        return made.port(group, node)
                except redis.exceptions.ConnectionError:
                    continue
        time.sleep(0.05)
    raise AssertionError(f"group {group} has no leader")


def pid_of_leader(made: Shards, group: int) -> int:
    found: int = ask(leader_port(made, group), "INFO", "server")["process_id"]
    return found


def name_of(made: Shards, group: int, node: int = 0) -> str:
    found: str = ask(made.port(group, node), "CLUSTER MYID").decode()
    return found


def migrate(made: Shards, source: int, target: int, first: int = FIRST, last: int = LAST) -> bytes:
    """Orders it of whoever leads; the name of the migration."""
    end = time.monotonic() + 60
    while True:
        with redis.Redis(port=leader_port(made, source)) as plain:
            before = {row[b"name"] for row in plain.execute_command("CLUSTER GETSLOTMIGRATIONS")}
            words = ("SLOTSRANGE", first, last, "NODE", name_of(made, target))
            try:
                assert plain.execute_command("CLUSTER", "MIGRATESLOTS", *words) in (b"OK", True)
            except redis.exceptions.ResponseError as error:
                # Another node leads by now; this one has ordered nothing.
                if "can only be used on primary nodes" not in str(error) or time.monotonic() > end:
                    raise
                continue
            rows = plain.execute_command("CLUSTER GETSLOTMIGRATIONS")
        (mid,) = {row[b"name"] for row in rows} - before
        found: bytes = mid
        return found


def state_of(made: Shards, group: int, mid: bytes) -> bytes:
    for row in ask(leader_port(made, group), "CLUSTER GETSLOTMIGRATIONS"):
        if row[b"name"] == mid:
            state: bytes = row[b"state"]
            return state
    return b""


def ended(made: Shards, group: int, mid: bytes) -> bytes:
    wait(lambda: state_of(made, group, mid) in FINAL)
    return state_of(made, group, mid)


def owners(made: Shards, slot: int) -> list[int]:
    """Groups whose leader serves the slot."""
    tag = {0: "06S", 1: "Qi"}[slot]
    out = []
    for group in range(1, made.shards + 1):
        with redis.Redis(port=leader_port(made, group)) as plain:
            try:
                plain.execute_command("GET", f"{{{tag}}}:nothing")
            except redis.exceptions.MovedError:
                continue
            out.append(group)
    return out


def total(made: Shards) -> int:
    return sum(ask(leader_port(made, group), "DBSIZE") for group in range(1, made.shards + 1))


def settled(made: Shards, keys: int) -> None:
    wait(lambda: total(made) == keys)


def fill(client: RedisCluster) -> int:
    """Keys of every kind; how many."""
    for tag in TAGS:
        k = f"{{{tag}}}"
        client.set(f"{k}:string", b"\x00\xff" * 40)
        client.set(f"{k}:large", random.Random(1).randbytes(300_000))
        client.set(f"{k}:number", 12)
        client.rpush(f"{k}:list", *range(3000))
        client.sadd(f"{k}:set", *range(700))
        client.sadd(f"{k}:words", "a", "b", "c")
        client.zadd(f"{k}:zset", {f"m{n}": n / 3 for n in range(500)})
        client.hset(f"{k}:hash", mapping={f"f{n}": n for n in range(600)})
        client.hset(f"{k}:fading", mapping={"stays": 1, "goes": 2})
        client.execute_command("HPEXPIRE", f"{k}:fading", 3_600_000, "FIELDS", 1, "goes")
        client.setbit(f"{k}:bits", 7_001, 1)
        client.pfadd(f"{k}:hll", *range(1000))
        client.geoadd(f"{k}:geo", (13.361389, 38.115556, "Palermo"))
        client.set(f"{k}:ttl", "x", px=3_600_000)
        for n in range(40):
            client.xadd(f"{k}:stream", {"n": n}, id=f"1-{n + 1}")
        client.xgroup_create(f"{k}:stream", "group", id="0")
        client.xreadgroup("group", "reader", {f"{k}:stream": ">"}, count=10)
        client.xack(f"{k}:stream", "group", "1-1", "1-2")
    with client.pipeline() as queue:
        for n in range(1500):
            queue.set(f"k{n}", n)
        assert queue.execute() == [True] * 1500
    return len(TAGS) * 14 + 1500


def contents(client: RedisCluster) -> list[object]:
    """All that fill() made, times of expiry and groups included."""
    out: list[object] = []
    for tag in TAGS:
        k = f"{{{tag}}}"
        out += [client.get(f"{k}:{name}") for name in ("string", "large", "number", "ttl", "bits")]
        out += [client.lrange(f"{k}:list", 0, -1), sorted(client.smembers(f"{k}:set"))]
        out += [sorted(client.smembers(f"{k}:words")), client.zrange(f"{k}:zset", 0, -1, withscores=True)]
        out += [client.hgetall(f"{k}:hash"), client.hgetall(f"{k}:fading")]
        out += [client.execute_command("HPEXPIRETIME", f"{k}:fading", "FIELDS", 2, "stays", "goes")]
        out += [client.pfcount(f"{k}:hll"), client.geopos(f"{k}:geo", "Palermo"), client.pexpiretime(f"{k}:ttl")]
        out += [client.xrange(f"{k}:stream"), client.xpending(f"{k}:stream", "group")]
        out += [client.xinfo_groups(f"{k}:stream")]
    out += client.mget_nonatomic([f"k{n}" for n in range(1500)])
    return out


class Writers:
    """Clients that write to moving slots all the time and keep count."""

    def __init__(self, made: Shards, *, may_fail: bool = False) -> None:
        self.made = made
        self.may_fail = may_fail
        self.going = True
        self.errors: list[BaseException] = []
        self.counted = dict.fromkeys(TAGS, 0)
        self.unsure = dict.fromkeys(TAGS, 0)
        client = made.client()
        for tag in TAGS:
            client.xgroup_create(f"{{{tag}}}:events", "g", "0", mkstream=True)
        self.threads = [threading.Thread(target=self.write, args=(tag,), daemon=True) for tag in TAGS]
        for thread in self.threads:
            thread.start()

    def write(self, tag: str) -> None:
        client = self.made.client()
        k = f"{{{tag}}}"
        while self.going:
            n = self.counted[tag]
            try:
                client.execute_command("EVAL", COUNT_AND_LOG, 2, f"{k}:count", f"{k}:log", n)
                assert client.get(f"{k}:count") is not None
                client.xadd(f"{k}:events", {"n": n})
                found: Any = client.xreadgroup("g", "c", {f"{k}:events": ">"}, count=5)
                for _, entries in found:
                    client.xack(f"{k}:events", "g", *[entry for entry, _ in entries])
            except FAILURES as error:
                if not self.may_fail:
                    self.errors.append(error)
                    return
                self.unsure[tag] += 1
                time.sleep(0.02)
            self.counted[tag] = n + 1

    def finish(self) -> None:
        self.going = False
        for thread in self.threads:
            thread.join(30)
        assert not self.errors, self.errors

    def check(self, client: RedisCluster) -> None:
        for tag, count in self.counted.items():
            k = f"{{{tag}}}"
            assert count > 5
            assert int(client.get(f"{k}:count") or 0) == count
            assert client.lrange(f"{k}:log", 0, -1) == [b"%d" % n for n in range(count)]
            events: Any = client.xrange(f"{k}:events")
            assert [int(found[b"n"]) for _, found in events] == list(range(count))
            (group,) = client.xinfo_groups(f"{k}:events")
            assert (group["pending"], group["entries-read"], group["lag"]) == (0, count, 0)


def clear(made: Shards) -> None:
    for group in range(1, made.shards + 1):
        ask(leader_port(made, group), "FLUSHALL")


def test_every_kind_of_key_moves_under_writes_and_back(single: Shards) -> None:
    clear(single)
    client = single.client()
    keys = fill(client)
    before = contents(client)
    settled(single, keys)
    sizes = [ask(single.port(group), "DBSIZE") for group in (1, 2, 3)]
    writers = Writers(single)
    time.sleep(0.3)
    mid = migrate(single, 1, 2)
    assert ended(single, 1, mid) == b"success"
    wait(lambda: state_of(single, 2, mid) == b"success")
    assert owners(single, 0) == owners(single, 1) == [2]
    time.sleep(0.3)
    assert contents(client) == before
    third = migrate(single, 2, 3, 0, 0)
    assert ended(single, 2, third) == b"success"
    assert (owners(single, 0), owners(single, 1)) == ([3], [2])
    assert ended(single, 2, migrate(single, 2, 1, 1, LAST)) == b"success"
    assert ended(single, 3, migrate(single, 3, 1, 0, 0)) == b"success"
    assert owners(single, 0) == owners(single, 1) == [1]
    writers.finish()
    writers.check(client)
    assert contents(client) == before
    # A counter, a list and a stream for each writer.
    settled(single, keys + 3 * len(TAGS))
    assert [ask(single.port(group), "DBSIZE") for group in (2, 3)] == sizes[1:]


def test_clients_that_wait_watch_or_listen_are_sent_on(single: Shards) -> None:
    clear(single)
    key = "{06S}:waited"
    with (
        redis.Redis(port=single.port(1), single_connection_client=True) as waiting,
        redis.Redis(port=single.port(1), single_connection_client=True) as watching,
        redis.Redis(port=single.port(1), single_connection_client=True) as listening,
    ):
        answers: list[object] = []

        def pop() -> None:
            try:
                answers.append(waiting.execute_command("BLPOP", key, 20))
            except redis.exceptions.MovedError as error:
                answers.append(error)

        thread = threading.Thread(target=pop, daemon=True)
        thread.start()
        watching.execute_command("WATCH", "{06S}:watched")
        listener = listening.pubsub()
        listener.ssubscribe("{06S}:channel")
        assert listener.get_sharded_message(timeout=5)["type"] == "ssubscribe"
        wait(lambda: ask(single.port(1), "INFO", "clients")["blocked_clients"] == 1)
        assert ended(single, 1, migrate(single, 1, 2, 0, 10)) == b"success"
        thread.join(10)
        (moved,) = answers
        assert isinstance(moved, redis.exceptions.MovedError)
        assert (moved.slot_id, moved.port) == (0, single.port(2))
        assert listener.get_sharded_message(timeout=5)["type"] == "sunsubscribe"
        assert ended(single, 2, migrate(single, 2, 1, 0, 10)) == b"success"
        watching.execute_command("MULTI")
        watching.execute_command("SET", "{06S}:watched", "x")
        assert watching.execute_command("EXEC") is None
    # A client of the cluster that waits goes on waiting where the slot is now.
    client = single.client()
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(client.blpop([key], 20)), daemon=True)
    thread.start()
    wait(lambda: ask(single.port(1), "INFO", "clients")["blocked_clients"] == 1)
    assert ended(single, 1, migrate(single, 1, 2, 0, 10)) == b"success"
    wait(lambda: ask(single.port(2), "INFO", "clients")["blocked_clients"] == 1)
    single.client().rpush(key, "here")
    thread.join(10)
    assert found == [(key.encode(), b"here")]
    assert ended(single, 2, migrate(single, 2, 1, 0, 10)) == b"success"


def test_orders_are_judged_and_can_be_cancelled(single: Shards) -> None:
    clear(single)
    client = single.client()
    client.set("{06S}:a", 1)
    target = name_of(single, 2)
    with redis.Redis(port=single.port(1)) as plain:
        for words, text in (
            (("SLOTSRANGE", 0, 1, "NODE", "0" * 40), "Unknown node name"),
            (("SLOTSRANGE", 0, 1, "NODE", name_of(single, 1)), "can not be this node"),
            (("SLOTSRANGE", 16000, 16001, "NODE", target), "not served by this node"),
            (("SLOTSRANGE", 5, 1, "NODE", target), "greater than end slot"),
        ):
            with pytest.raises(redis.exceptions.ResponseError, match=text):
                plain.execute_command("CLUSTER", "MIGRATESLOTS", *words)
        with pytest.raises(redis.exceptions.ResponseError, match="No migrations ongoing"):
            plain.execute_command("CLUSTER CANCELSLOTMIGRATIONS")
        pid = pid_of_leader(single, 2)
        os.kill(pid, signal.SIGSTOP)
        try:
            words = ("SLOTSRANGE", 0, 5, "NODE", target)
            plain.execute_command("CLUSTER", "MIGRATESLOTS", *words)
            with pytest.raises(redis.exceptions.ResponseError, match="already migrating slot 0"):
                plain.execute_command("CLUSTER", "MIGRATESLOTS", *words)
            client.set("{06S}:a", 2)
            assert plain.execute_command("CLUSTER CANCELSLOTMIGRATIONS") in (b"OK", True)
            row = plain.execute_command("CLUSTER GETSLOTMIGRATIONS")[0]
            assert (row[b"state"], row[b"slot_ranges"]) == (b"cancelled", b"0-5")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert plain.get("{06S}:a") == b"2"
    assert ended(single, 1, migrate(single, 1, 2, 0, 5)) == b"success"
    assert client.get("{06S}:a") == b"2"
    assert ended(single, 2, migrate(single, 2, 1, 0, 5)) == b"success"


def test_a_move_survives_the_end_of_every_node(single: Shards) -> None:
    clear(single)
    client = single.client()
    keys = fill(client)
    before = contents(client)
    # The target holds still: the move is under way when everybody goes.
    pids = [pid_of_leader(single, group) for group in (2, 1, 3)]
    os.kill(pids[0], signal.SIGSTOP)
    source = single.port(1)
    with redis.Redis(port=source) as plain:
        words = ("SLOTSRANGE", FIRST, LAST, "NODE", name_of_stopped(single, 2))
        plain.execute_command("CLUSTER", "MIGRATESLOTS", *words)
        mid = plain.execute_command("CLUSTER GETSLOTMIGRATIONS")[0][b"name"]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    single.run("stop")
    single.again()
    wait(lambda: all_know(single))
    state = ended(single, 1, mid)
    assert owners(single, 0) == owners(single, 1) == [2 if state == b"success" else 1]
    assert contents(single.client()) == before
    settled(single, keys)


def name_of_stopped(made: Shards, group: int) -> str:
    """As its neighbours know it."""
    for run in ask(made.port(1), "CLUSTER SLOTS"):
        for _, port, name, *_ in run[2:]:
            if port == made.port(group):
                found: str = name.decode()
                return found
    raise AssertionError(f"group {group} is not known")


def test_leaders_of_both_sides_are_killed_on_the_way(triple: Shards) -> None:
    client = triple.client()
    keys = fill(client)
    before = contents(client)
    writers = Writers(triple, may_fail=True)
    owner = move_and_kill(triple, 1, 2, victim=1)
    # Whoever has it now, the third group has lost no node yet.
    owner = move_and_kill(triple, owner, 3, victim=3)
    writers.finish()
    assert contents(client) == before
    for tag in TAGS:
        logged = [int(found) for found in client.lrange(f"{{{tag}}}:log", 0, -1)]
        # What failed may have happened or not; the rest did once, in order.
        assert len(logged) >= writers.counted[tag] - writers.unsure[tag] > 5
        assert sorted(set(logged)) == logged
        assert int(client.get(f"{{{tag}}}:count") or 0) == len(logged)
    settled(triple, keys + 3 * len(TAGS))
    assert ask(leader_port(triple, owner), "CLUSTER COUNTKEYSINSLOT 0") >= 17


def move_and_kill(made: Shards, source: int, target: int, *, victim: int) -> int:
    """Who owns the slots after a move on which the leader of group ``victim`` was killed; both groups agree."""
    pid = pid_of_leader(made, victim)
    mid = migrate(made, source, target)
    os.kill(pid, signal.SIGKILL)
    state = ended(made, source, mid)
    wait(lambda: state_of(made, target, mid) in FINAL)
    owner = target if state == b"success" else source
    assert owners(made, 0) == owners(made, 1) == [owner]
    return owner
