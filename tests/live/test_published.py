"""What is published in one group reaches listeners of all groups; shard channels stay in the group of their slot."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from durakv.keyspace.slots import slot_of
from tests.live.test_shards import Shards, ask, everybody_knows, running, wait

pytestmark = pytest.mark.live

EVERYWHERE = [(group, node) for group in (1, 2) for node in (0, 1)]


class Listener:
    """One client of one node."""

    def __init__(self, port: int) -> None:
        self.client = redis.Redis(port=port, socket_timeout=10)
        self.pubsub = self.client.pubsub()

    def to(self, *words: str) -> None:
        """SUBSCRIBE, PSUBSCRIBE or SSUBSCRIBE to one name; returns once the node has said so."""
        getattr(self.pubsub, words[0])(words[1])
        message = None
        while message is None:
            message = self.pubsub.get_message(timeout=10)
        assert message["type"] == words[0]

    def take(self, count: int, seconds: float = 10) -> list[Any]:
        """So many messages, confirmations left out; fewer when no more come."""
        out: list[Any] = []
        end = time.monotonic() + seconds
        while len(out) < count and time.monotonic() < end:
            message = self.pubsub.get_message(timeout=0.1)
            if message is not None and message["type"] in ("message", "pmessage", "smessage"):
                out.append((message["type"], message["channel"], message["data"]))
        return out

    def nothing(self) -> bool:
        return self.take(1, 0.3) == []


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("published"), 2, 2) as made:
        wait(lambda: everybody_knows(made))
        yield made


def listeners(shards: Shards) -> list[Listener]:
    return [Listener(shards.port(group, node)) for group, node in EVERYWHERE]


def test_every_node_hears_what_any_node_publishes_in_order(shards: Shards) -> None:
    heard = listeners(shards)
    for one in heard:
        one.to("subscribe", "news")
        one.to("psubscribe", "ne?s")
    for at, (group, node) in enumerate(EVERYWHERE):
        with redis.Redis(port=shards.port(group, node)) as client:
            # The first that this node ever sends to nodes of the other group, too.
            assert client.publish("news", f"{at}-0") == 2
            for n in range(1, 100):
                client.publish("news", f"{at}-{n}")
        wanted = [
            (kind, b"news", f"{at}-{n}".encode()) for n in range(100) for kind in ("message", "pmessage")
        ]  # fmt: skip
        for one in heard:
            assert one.take(200) == wanted


def test_scripts_and_transactions_publish_once(shards: Shards) -> None:
    heard = listeners(shards)
    for one in heard:
        one.to("subscribe", "once")
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=shards.port(1))
    client.eval("redis.call('SET', KEYS[1], 'x') return redis.call('PUBLISH', 'once', 'script')", 1, "k1")
    for one in heard:
        assert one.take(1) == [("message", b"once", b"script")]
    with redis.Redis(port=shards.port(2, 1), single_connection_client=True) as plain:
        plain.execute_command("MULTI")
        plain.execute_command("PUBLISH", "once", "transaction")
        plain.execute_command("EXEC")
    for one in heard:
        assert one.take(1) == [("message", b"once", b"transaction")]
        assert one.nothing()


def test_a_shard_channel_is_served_by_the_group_of_its_slot(shards: Shards) -> None:
    channel = "foo"  # slot 12182, of group 2
    assert slot_of(b"foo") == 12182
    for words in (("SSUBSCRIBE", channel), ("SPUBLISH", channel, "x"), ("SUNSUBSCRIBE", channel)):
        for node in (0, 1):
            with redis.Redis(port=shards.port(1, node)) as plain, pytest.raises(redis.exceptions.MovedError) as moved:
                plain.execute_command(*words)
            assert moved.value.slot_id == 12182
    with redis.Redis(port=shards.port(2)) as plain, pytest.raises(redis.exceptions.ClusterCrossSlotError):
        plain.execute_command("SSUBSCRIBE", "foo", "bar")
    heard = [Listener(shards.port(2, node)) for node in (0, 1)]
    for one in heard:
        one.to("ssubscribe", channel)
    assert [ask(shards.port(2, node), "SPUBLISH", channel, f"{node}") for node in (0, 1)] == [1, 1]
    for one in heard:
        assert sorted(one.take(2)) == [("smessage", b"foo", b"0"), ("smessage", b"foo", b"1")]
        assert one.nothing()
    # Nobody of the other group was told.
    assert ask(shards.port(1), "PUBSUB SHARDCHANNELS") == []
