"""Publish and subscribe on one node, and the seams to other nodes and to keyspace events."""

from __future__ import annotations

import pytest

from durakv.commands.context import NOTIFY_EXPIRED, NOTIFY_GENERIC, NOTIFY_KEY_MISS, NOTIFY_LIST, NOTIFY_STRING
from tests.commands.fake_services import FakeNode, run, wire


@pytest.fixture
def node():
    return FakeNode()


def sent(s) -> bytes:
    out = b"".join(s.out)
    s.out.clear()
    return out


def test_resp2_and_resp3_shapes(node):
    old, new, p = node.client(2), node.client(3), node.client()
    assert wire(node, old, "SUBSCRIBE c") == b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    assert wire(node, new, "SUBSCRIBE c") == b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    assert run(node, p, "PUBLISH c hi") == 2
    assert sent(old) == b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
    assert sent(new) == b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
    assert node.woken == [old, new]


def test_several_channels_are_confirmed_in_order(node):
    s = node.client()
    assert wire(node, s, "SUBSCRIBE a b a") == (
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n"
    )
    assert wire(node, s, "UNSUBSCRIBE") == (
        b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n"
    )
    assert not s.in_pubsub()
    assert node.pubsub.channels == {}


def test_unsubscribing_nothing_answers_once_with_null(node):
    assert wire(node, node.client(), "UNSUBSCRIBE") == b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    assert wire(node, node.client(3), "PUNSUBSCRIBE") == b">3\r\n$12\r\npunsubscribe\r\n_\r\n:0\r\n"


def test_counts_cover_channels_and_patterns_but_not_shards(node):
    s = node.client()
    run(node, s, "SUBSCRIBE a")
    assert wire(node, s, "PSUBSCRIBE p*").endswith(b":2\r\n")
    assert wire(node, s, "SSUBSCRIBE s").endswith(b":1\r\n")
    assert wire(node, s, "UNSUBSCRIBE a").endswith(b":1\r\n")


def test_a_client_hears_once_per_matching_subscription(node):
    s = node.client()
    run(node, s, "SUBSCRIBE news.x")
    run(node, s, "PSUBSCRIBE news.* n*")
    s.out.clear()
    assert run(node, node.client(), "PUBLISH news.x hi") == 3
    out = sent(s)
    assert out.count(b"pmessage") == 2
    assert out.index(b"message") < out.index(b"pmessage")
    assert run(node, node.client(), "PUBLISH other hi") == 0


def test_publish_is_forwarded_and_delivery_is_not(node):
    told = []
    node.pubsub.forward = lambda channel, message, shard: told.append((channel, message, shard))
    s = node.client()
    run(node, s, "SUBSCRIBE c")
    run(node, node.client(), "PUBLISH c 1")
    run(node, node.client(), "SPUBLISH c 2")
    assert told == [(b"c", b"1", False), (b"c", b"2", True)]
    assert node.pubsub.deliver(b"c", b"3") == 1
    assert len(told) == 2


def test_forget_drops_everything(node):
    s, other = node.client(), node.client()
    for command in ("SUBSCRIBE a b", "PSUBSCRIBE p*", "SSUBSCRIBE s"):
        run(node, s, command)
    run(node, other, "SUBSCRIBE a")
    node.pubsub.forget(s)
    assert list(node.pubsub.channels) == [b"a"]
    assert (node.pubsub.patterns, node.pubsub.shard_channels) == ({}, {})
    s.out.clear()
    assert run(node, other, "PUBLISH a m") == 1
    assert s.out == []


def test_pubsub_introspection(node):
    s, t = node.client(), node.client()
    run(node, s, "SUBSCRIBE a b")
    run(node, t, "SUBSCRIBE a")
    run(node, s, "PSUBSCRIBE x* y*")
    run(node, t, "PSUBSCRIBE x*")
    run(node, s, "SSUBSCRIBE sh")
    assert run(node, t, "PUBSUB CHANNELS") == [b"a", b"b"]
    assert run(node, t, "PUBSUB CHANNELS a*") == [b"a"]
    assert run(node, t, "PUBSUB NUMSUB a b c") == [b"a", 2, b"b", 1, b"c", 0]
    assert run(node, t, "PUBSUB NUMPAT") == 2
    assert run(node, t, "PUBSUB SHARDCHANNELS") == [b"sh"]
    assert run(node, t, "PUBSUB SHARDNUMSUB sh") == [b"sh", 1]


def test_keyspace_events_follow_the_flags(node):
    s = node.client()
    run(node, s, "PSUBSCRIBE __key*")
    s.out.clear()
    node.pubsub.set_notify("K$")
    assert node.pubsub.notify_mask == NOTIFY_STRING
    node.pubsub.keyspace_events([(2, b"set", b"k")])
    out = sent(s)
    assert b"__keyspace@2__:k" in out
    assert b"__keyevent" not in out
    node.pubsub.set_notify("EA")
    assert node.pubsub.notify_mask & (NOTIFY_GENERIC | NOTIFY_LIST | NOTIFY_EXPIRED)
    assert not node.pubsub.notify_mask & NOTIFY_KEY_MISS
    node.pubsub.keyspace_events([(0, b"del", b"k")])
    assert b"$18\r\n__keyevent@0__:del\r\n$1\r\nk\r\n" in sent(s)
    node.pubsub.set_notify("g$")
    assert node.pubsub.notify_mask == 0


def test_slots_that_leave_take_their_shard_channels(node):
    s = node.client()
    run(node, s, "SSUBSCRIBE a b")
    s.out.clear()
    node.pubsub.drop_slots(0, 16383)
    assert sent(s).count(b"sunsubscribe") == 2
    assert not s.in_pubsub()
