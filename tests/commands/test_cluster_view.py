"""CLUSTER's shapes as cluster clients read them, and durakv's own membership commands."""

from __future__ import annotations

import pytest

from durakv.cluster.names import node_name, shard_name
from durakv.cluster.redirect import DOWN, MIXED, NO_SLOT, Owner, decide, moved, slot_of_keys
from durakv.commands.cluster import LOG_DECIDES, NO_MIGRATION
from durakv.commands.connection import NO_CLUSTER
from durakv.resp.errors import CROSSSLOT
from durakv.resp.types import NO_REPLY, OK
from tests.commands.fake_services import FakeNode, error, run, wire

CLUSTER_ID = "c" * 32
NAMES = {n: node_name(CLUSTER_ID, n) for n in (1, 2, 3)}


@pytest.fixture
def node():
    node = FakeNode()
    node.settings.cluster_enabled = True
    return node


def flat(reply) -> dict:
    return dict(zip(reply.flat[::2], reply.flat[1::2], strict=True))


def test_names_are_40_hex_digits_and_differ():
    names = [*NAMES.values(), shard_name(CLUSTER_ID), node_name("d" * 32, 1)]
    assert len(set(names)) == 5
    assert all(len(name) == 40 and int(name, 16) >= 0 for name in names)


def test_slots_list_the_leader_first(node):
    s = node.client()
    node.view.leader_id = 2
    assert run(node, s, "CLUSTER SLOTS") == [[
        0, 16383, [b"10.0.0.2", 7002, NAMES[2].encode(), []], [b"10.0.0.1", 7001, NAMES[1].encode(), []],
        [b"10.0.0.3", 7003, NAMES[3].encode(), []],
    ]]  # fmt: skip


def test_slots_omit_the_unreachable_and_witnesses(node):
    s = node.client()
    node.view.members[1].connected = False
    node.view.members[2].witness = True
    assert [entry[1] for entry in run(node, s, "CLUSTER SLOTS")[0][2:]] == [7001]
    node.view.role = "follower"
    assert [entry[1] for entry in run(node, s, "CLUSTER SLOTS")[0][2:]] == [7001, 7002]


def test_without_a_leader_every_node_names_the_same_one(node):
    node.view.leader_id, node.view.role = 0, "candidate"
    first = run(node, node.client(), "CLUSTER SLOTS")[0][2]
    node.view.node_id = 3
    assert run(node, node.client(), "CLUSTER SLOTS")[0][2] == first == [b"10.0.0.1", 7001, NAMES[1].encode(), []]
    assert "cluster_state:fail" in run(node, node.client(), "CLUSTER INFO").text.decode()


def test_unknown_endpoint_is_null(node):
    node.settings.set("cluster-preferred-endpoint-type", "unknown-endpoint")
    assert run(node, node.client(), "CLUSTER SLOTS")[0][2][0] is None


def test_shards(node):
    s = node.client()
    node.view.members[1].learner = True
    node.view.members[1].match_index = 40
    node.view.members[2].connected = False
    (shard,) = run(node, s, "CLUSTER SHARDS")
    facts = flat(shard)
    assert facts[b"slots"] == [0, 16383]
    assert facts[b"id"] == shard_name(CLUSTER_ID).encode()
    nodes = [flat(entry) for entry in facts[b"nodes"]]
    assert [(n[b"port"], n[b"role"], n[b"health"], n[b"replication-offset"]) for n in nodes] == [
        (7001, b"master", b"online", 100), (7002, b"replica", b"loading", 40), (7003, b"replica", b"fail", 0),
    ]  # fmt: skip
    assert list(nodes[0]) == [b"id", b"port", b"ip", b"endpoint", b"role", b"replication-offset", b"health"]


def test_nodes_lines_keep_the_grammar(node):
    s = node.client()
    node.view.members[2].connected = False
    lines = run(node, s, "CLUSTER NODES").text.decode().splitlines()
    assert lines == [
        f"{NAMES[1]} 10.0.0.1:7001@17001 myself,master - 0 0 7 connected 0-16383",
        f"{NAMES[2]} 10.0.0.2:7002@17002 slave {NAMES[1]} 0 0 7 connected",
        f"{NAMES[3]} 10.0.0.3:7003@17003 slave,fail {NAMES[1]} 0 0 7 disconnected",
    ]
    assert run(node, s, f"CLUSTER REPLICAS {NAMES[1]}") == [line.encode() for line in lines[1:]]
    assert error(node, s, f"CLUSTER SLAVES {NAMES[2]}") == "ERR The specified node is not a master"
    assert error(node, s, "CLUSTER REPLICAS zz") == "ERR Unknown node zz"


def test_redis_py_parses_the_shapes(node):
    redis = pytest.importorskip("redis")
    from redis._parsers.helpers import parse_cluster_info, parse_cluster_nodes

    assert redis.VERSION
    s = node.client()
    nodes = parse_cluster_nodes(run(node, s, "CLUSTER NODES").text.decode())
    assert nodes["10.0.0.1:7001"]["slots"] == [["0", "16383"]]
    assert nodes["10.0.0.2:7002"]["master_id"] == NAMES[1]
    info = parse_cluster_info(run(node, s, "CLUSTER INFO").text.decode())
    assert info["cluster_state"] == "ok"
    assert info["cluster_slots_ok"] == "16384"


def test_info_and_ids(node):
    s = node.client()
    text = run(node, s, "CLUSTER INFO").text.decode()
    assert "cluster_known_nodes:3\r\ncluster_size:1\r\ncluster_current_epoch:7\r\n" in text
    assert run(node, s, "CLUSTER MYID") == NAMES[1].encode()
    assert run(node, s, "CLUSTER MYSHARDID") == shard_name(CLUSTER_ID).encode()
    assert run(node, s, f"CLUSTER COUNT-FAILURE-REPORTS {NAMES[3]}") == 0
    assert len(run(node, s, "CLUSTER LINKS")) == 4


def test_keys_of_slots(node):
    s = node.client()
    for key in ("{06S}a", "{06S}b", "{06S}c", "other"):
        run(node, s, f"SET {key} v")
    assert run(node, s, "CLUSTER KEYSLOT {06S}zz") == 0
    assert run(node, s, "CLUSTER KEYSLOT 123456789") == 0x31C3
    assert run(node, s, "CLUSTER COUNTKEYSINSLOT 0") == 3
    assert run(node, s, "CLUSTER GETKEYSINSLOT 0 2") == [b"{06S}a", b"{06S}b"]
    assert run(node, s, "CLUSTER GETKEYSINSLOT 1 2") == []
    assert error(node, s, "CLUSTER COUNTKEYSINSLOT 16384") == "ERR Invalid slot"
    assert error(node, s, "CLUSTER GETKEYSINSLOT 0 -1") == "ERR Invalid slot or number of keys"
    assert run(node, s, "CLUSTER SLOT-STATS SLOTSRANGE 0 1")[0][1].flat == [b"key-count", 3]
    ordered = run(node, s, "CLUSTER SLOT-STATS ORDERBY KEY-COUNT LIMIT 2")
    assert [(slot, stats.flat[1]) for slot, stats in ordered] == [(0, 3), (run(node, s, "CLUSTER KEYSLOT other"), 1)]
    ascending = run(node, s, "CLUSTER SLOT-STATS ORDERBY key-count ASC")
    assert (len(ascending), ascending[-1][0]) == (16384, 0)
    assert error(node, s, "CLUSTER SLOT-STATS ORDERBY cpu-usec") == "ERR Unrecognized sort metric for ORDERBY."
    assert run(node, s, "CLUSTER FLUSHSLOT 0 SYNC") is OK
    assert run(node, s, "CLUSTER COUNTKEYSINSLOT 0") == 0
    assert run(node, s, "GET other") == b"v"


def test_membership_goes_to_the_engine(node):
    s = node.client()
    assert run(node, s, "CLUSTER ADDNODE 4 host.example:7004") is NO_REPLY
    assert run(node, s, "CLUSTER PROMOTENODE 2") is NO_REPLY
    assert run(node, s, f"CLUSTER REMOVENODE {NAMES[3]}") is NO_REPLY
    assert run(node, s, "CLUSTER TRANSFER 2") is OK
    assert run(node, s, "CLUSTER TRANSFER 0") is OK
    assert node.calls == [
        ("change", "add-learner", 4, "host.example:7004"), ("change", "promote", 2, ""), ("change", "remove", 3, ""),
        ("transfer", 2), ("transfer", 0),
    ]  # fmt: skip
    for command in ("ADDNODE 0 h:1", "ADDNODE x h:1", "REMOVENODE 9", "TRANSFER 9"):
        assert error(node, s, f"CLUSTER {command}").startswith("ERR ")
    assert len(node.calls) == 5


def test_members_are_shown_in_both_modes(node):
    node.settings.cluster_enabled = False
    node.view.members[2].witness = True
    members = [flat(entry) for entry in run(node, node.client(), "CLUSTER MEMBERS")]
    assert [(m[b"id"], m[b"kind"], m[b"role"]) for m in members] == [
        (1, b"voter", b"leader"), (2, b"voter", b"follower"), (3, b"witness", b"follower"),
    ]  # fmt: skip


def test_cluster_failover_asks_for_itself(node):
    s = node.client()
    assert error(node, s, "CLUSTER FAILOVER") == "ERR You should send CLUSTER FAILOVER to a replica"
    node.view.role, node.view.leader_id = "follower", 2
    assert run(node, s, "CLUSTER FAILOVER") is OK
    assert run(node, s, "CLUSTER FAILOVER FORCE") is OK
    assert node.calls == [("transfer", 1), ("transfer by force", 1)]
    assert error(node, s, "CLUSTER FAILOVER TAKEOVER").startswith("ERR TAKEOVER would lead without a majority's votes")
    assert error(node, s, "CLUSTER FAILOVER NOW") == "ERR syntax error"


def test_what_the_log_decides_is_refused(node):
    s = node.client()
    assert error(node, s, "CLUSTER MEET 1.2.3.4 1") == LOG_DECIDES
    assert error(node, s, "CLUSTER RESET") == LOG_DECIDES
    assert error(node, s, "CLUSTER SETSLOT 1 MIGRATING x") == NO_MIGRATION
    assert run(node, s, "CLUSTER SAVECONFIG") is OK
    node.settings.cluster_enabled = False
    assert error(node, s, "CLUSTER CANCELSLOTMIGRATIONS") == "ERR No migrations ongoing"
    assert run(node, s, "CLUSTER GETSLOTMIGRATIONS") == []
    for command in ("MEET 1.2.3.4 1", "ADDSLOTS 1", "MIGRATESLOTS SLOTSRANGE 0 1 NODE x"):
        assert error(node, s, f"CLUSTER {command}") == NO_CLUSTER


def test_one_group_owns_all_slots_outside_cluster_mode_too(node):
    node.settings.cluster_enabled = False
    s = node.client()
    assert run(node, s, "CLUSTER KEYSLOT a") == 15495
    assert run(node, s, "CLUSTER SLOTS")[0][:2] == [0, 16383]
    assert b"cluster_slots_ok:16384" in run(node, s, "CLUSTER INFO").text
    assert len(run(node, s, "CLUSTER MYID")) == 40


def test_resp3_shards_are_maps(node):
    assert wire(node, node.client(3), "CLUSTER SHARDS").startswith(b"*1\r\n%3\r\n$5\r\nslots\r\n")


def test_redirect_decisions():
    here, away = Owner("a", 1, here=True), Owner("::1", 7002, here=False)
    assert slot_of_keys([]) == NO_SLOT
    assert slot_of_keys([b"{06S}a", b"{06S}b"]) == 0
    assert slot_of_keys([b"{06S}a", b"{Qi}b"]) == MIXED
    assert decide(NO_SLOT, None, replica_read=False) is None
    assert decide(MIXED, here, replica_read=True) == CROSSSLOT
    assert decide(5, None, replica_read=False) == DOWN
    assert decide(5, here, replica_read=False) is None
    assert decide(5, away, replica_read=False) == "MOVED 5 ::1:7002"
    assert decide(5, away, replica_read=True) is None
    assert moved(3999, "", 6381) == "MOVED 3999 :6381"
