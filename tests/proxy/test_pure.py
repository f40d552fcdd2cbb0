"""What follows from a picture of the slots, from error replies, and from the replies of several groups."""

from __future__ import annotations

import pytest

from durakv.proxy.broadcast import merged
from durakv.proxy.profile import Profiles
from durakv.proxy.refusal import ASK, DEMOTED, LATER, MOVED, NONE, kind_of, redirection
from durakv.proxy.resend import delay_ms
from durakv.proxy.topology import Shard, Table, TopologyError, read_shards, read_slots


def member(port: int, role: bytes, **more) -> list:
    fields = [b"id", b"x" * 40, b"port", port, b"endpoint", b"h", b"role", role, b"health", b"online"]
    for words, value in more.items():
        name = words.replace("_", "-").encode()
        if name in fields:
            fields[fields.index(name) + 1] = value
        else:
            fields += [name, value]
    return fields


def test_shards():
    table = Table()
    reply = [
        [b"slots", [0, 10, 20, 30], b"nodes", [member(1, b"replica", availability_zone=b"z1"), member(2, b"master")]],
        [b"slots", [11, 19], b"nodes", [member(3, b"master", endpoint=b""), member(4, b"replica", health=b"loading")]],
        [b"slots", [], b"nodes", [member(5, b"master")]],
    ]
    shards = read_shards(reply, "asked", False, table)
    assert table.replace(shards) is True
    assert [table.leaders[s].port for s in (0, 10, 11, 19, 20, 30)] == [2, 2, 3, 3, 2, 2]
    assert table.leaders[31] is None and not table.complete()
    assert table.leaders[11].host == "asked"
    assert table.homes() == [0, 11]
    assert table.nearest(5, "z1", 0).port == 1
    assert table.nearest(11, "", 0) is None
    version = table.version
    assert table.replace(read_shards(reply, "asked", False, table)) is False
    assert table.version == version
    table.learn(0, table.node("h", 9))
    assert table.version == version + 1 and table.homes() == [0, 1, 11]


def test_a_node_without_an_endpoint_is_where_it_was_asked():
    table = Table()
    for endpoint in (None, b"", b"?"):
        nodes = [member(7, b"master", endpoint=endpoint)]
        assert read_shards([[b"slots", [0, 1], b"nodes", nodes]], "me", False, table)[0].leader.host == "me"


def test_the_tls_port_counts_when_nodes_speak_tls():
    table = Table()
    fields = member(7, b"master", tls_port=8)
    assert read_shards([[b"slots", [0, 1], b"nodes", [fields]]], "me", True, table)[0].leader.port == 8


def test_a_failed_leader_gives_way_to_a_new_one():
    table = Table()
    both = [member(1, b"master", health=b"fail"), member(2, b"master")]
    for nodes in (both, both[::-1]):
        assert read_shards([[b"slots", [0, 1], b"nodes", nodes]], "me", False, table)[0].leader.port == 2


UNREADABLE = [
    b"x", [b"x"], [[b"slots", [1], b"nodes", []]], [[b"slots", [0, 99999], b"nodes", []]],
    [[b"slots", b"x", b"nodes", []]], [[b"slots"]], None,
]  # fmt: skip


@pytest.mark.parametrize("reply", UNREADABLE)
def test_unreadable_answers(reply):
    with pytest.raises(TopologyError):
        read_shards(reply, "me", False, Table())


def test_slots_for_older_servers():
    table = Table()
    reply = [[0, 5, [b"h", 1, b"id"], [b"h", 2, b"id"]], [6, 9, [None, 3, b"id"]], [10, 12, [b"h", 1, b"id"]]]
    shards = read_slots(reply, "me", table)
    assert [(s.ranges, s.leader.name, [r.port for r in s.replicas]) for s in shards] == [
        ([(0, 5), (10, 12)], "h:1", [2]), ([(6, 9)], "me:3", []),
    ]  # fmt: skip
    with pytest.raises(TopologyError):
        read_slots([[0, 5]], "me", table)


def test_the_nearest_replica():
    table = Table()
    a, b, c, leader = (table.node("h", port) for port in (1, 2, 3, 4))
    table.replace([Shard([(0, 16383)], leader, [a, b, c])])
    a.zone, b.zone, c.zone = "x", "y", "y"
    b.latency_us, c.latency_us = 300, 200
    assert table.nearest(0, "y", 0) is c
    assert table.nearest(0, "x", 0) is a
    a.latency_us = 500
    assert table.nearest(0, "", 0) is c
    c.suspect_ns = 100
    assert table.nearest(0, "y", 50) is b
    assert table.nearest(0, "y", 101) is c


def test_refusals():
    cases = {
        b"-MOVED 1 h:1\r\n": MOVED, b"-ASK 1 h:1\r\n": ASK, b"-TRYAGAIN Multiple\r\n": LATER,
        b"-CLUSTERDOWN x\r\n": LATER, b"-LOADING x\r\n": LATER, b"-MASTERDOWN x\r\n": LATER,
        b"-READONLY You can't\r\n": DEMOTED, b"-ERR x\r\n": NONE, b"-OOM x\r\n": NONE, b"-NOREPLICAS x\r\n": NONE,
        b"-THROTTLED x\r\n": NONE, b"-UNKNOWN x\r\n": NONE, b"-BUSY x\r\n": NONE, b"-MOVEDX\r\n": NONE,
    }  # fmt: skip
    for wire, kind in cases.items():
        assert kind_of(wire, False) == kind, wire
    # A script's own errors are its caller's to read.
    assert kind_of(b"-TRYAGAIN my own\r\n", True) == NONE
    assert kind_of(b"-UNBLOCKED my own\r\n", True) == NONE


def test_redirections():
    found = redirection(b"-MOVED 3999 ::1:6381\r\n")
    assert (found.slot, found.host, found.port) == (3999, "::1", 6381)
    assert redirection(b"-MOVED 3999 :6381\r\n").host == ""
    assert redirection(b"-MOVED 3999 ?:6381\r\n").host == ""
    for wire in (b"-MOVED\r\n", b"-MOVED x h:1\r\n", b"-MOVED 1 h\r\n", b"-MOVED 99999 h:1\r\n", b"-MOVED 1 h:0\r\n"):
        assert redirection(wire) is None


def test_waits_grow_to_a_bound():
    assert [delay_ms(MOVED, n) for n in range(8)] == [0, 0, 0, 0, 0, 5, 10, 20]
    assert [delay_ms(LATER, n) for n in range(9)] == [0, 5, 10, 20, 40, 80, 160, 200, 200]
    assert delay_ms(LATER, 10**6) == 200


def test_replies_of_several_groups():
    def of(name, *replies, changes=False):
        return merged(name, list(replies), changes=changes)

    assert of("dbsize", b":1\r\n", b":41\r\n") == b":42\r\n"
    assert of("keys", b"*1\r\n$1\r\na\r\n", b"*0\r\n", b"*2\r\n$1\r\nb\r\n$1\r\nc\r\n") == (
        b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
    )
    ab = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    assert of("pubsub|channels", b"*1\r\n$1\r\na\r\n", ab) == ab
    assert of("pubsub|numsub", b"*2\r\n$1\r\na\r\n:1\r\n", b"*2\r\n$1\r\na\r\n:2\r\n") == b"*2\r\n$1\r\na\r\n:3\r\n"
    assert of("pubsub|numsub", b"%1\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:2\r\n") == b"%1\r\n$1\r\na\r\n:3\r\n"
    assert of("script|exists", b"*2\r\n:1\r\n:1\r\n", b"*2\r\n:0\r\n:1\r\n") == b"*2\r\n:0\r\n:1\r\n"
    assert of("script|kill", b"-NOTBUSY x\r\n", b"+OK\r\n") == b"+OK\r\n"
    assert of("script|kill", b"-NOTBUSY x\r\n", b"-NOTBUSY x\r\n") == b"-NOTBUSY x\r\n"
    assert of("flushall", b"+OK\r\n", b"+OK\r\n") == b"+OK\r\n"
    assert of("flushall", b"+OK\r\n", b"-NOPERM x\r\n", changes=True) == b"-NOPERM x (1 of 2 groups did it)\r\n"
    assert of("flushall", b"-NOPERM x\r\n", b"-UNKNOWN y\r\n", changes=True) == b"-UNKNOWN y\r\n"
    assert of("keys", b"*0\r\n", b"-CLUSTERDOWN x\r\n") == b"-CLUSTERDOWN x\r\n"


def test_profiles_are_shared_by_the_same_identity_only():
    profiles = Profiles()
    a = profiles.get(None, None, 2, 0)
    assert profiles.get(None, None, 2, 0) is a
    others = [
        profiles.get(None, b"p", 2, 0), profiles.get(b"u", b"p", 2, 0), profiles.get(b"u", b"q", 2, 0),
        profiles.get(None, None, 3, 0), profiles.get(None, None, 2, 1), profiles.like(a, replica=True),
        profiles.get(None, None, 3, 0, private=7),
    ]  # fmt: skip
    assert len({profile.number for profile in [a, *others]}) == 8
    assert a.greeting == b"*1\r\n$4\r\nPING\r\n" and a.greetings == 1
    assert others[1].greeting == b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n"
    assert others[4].greeting == b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n"
    profiles.forget([a.number])
    assert profiles.get(None, None, 2, 0) is not a
