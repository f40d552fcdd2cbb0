"""CLUSTER's tables: of one group exactly what a node prints today, of several what the protocol's grammar asks for."""

from __future__ import annotations

import re

import pytest

from durakv.cluster.gossip.peers import DEAD, SUSPECT, Peers
from durakv.cluster.gossip.routing import FAIL, LEARNER, LOADING, ONLINE, WITNESS, GroupFacts, Member, Routing
from durakv.cluster.gossip.tables import TableCache, Tables, Viewer
from durakv.cluster.names import node_name, shard_name
from durakv.commands import cluster as one_group
from durakv.commands.services import Member as ViewMember
from durakv.resp.types import Map
from tests.commands.fake_services import FakeNode

ID = "c" * 32


class Ctx:
    def __init__(self, node):
        self.node = node


def plain(reply):
    if isinstance(reply, Map):
        return [plain(item) for item in reply.flat]
    return [plain(item) for item in reply] if isinstance(reply, list) else reply


def one_group_tables(node, *, up=True):
    """The view a one-group node has, said as routing."""
    view = node.view
    members, viewer = [], Viewer(view.cluster_id, view.node_id, 1)
    nodes = one_group.Nodes(Ctx(node))
    words = {"online": ONLINE, "fail": FAIL, "loading": LOADING}
    for m in view.members:
        kind = WITNESS if m.witness else LEARNER if m.learner else 0
        members.append(Member(m.node_id, m.client_host, m.client_port, m.peer_port, kind=kind))
        if not m.witness:
            viewer.health[m.node_id] = words[nodes.health(m)]
            viewer.applied[m.node_id] = view.applied_index if m.node_id == view.node_id else m.match_index
    viewer.up = up
    viewer.endpoint_type = node.settings.cluster_preferred_endpoint_type
    routing = Routing()
    routing.learn_group(GroupFacts(1, view.term, 1, 0, view.leader_id, members))
    routing.learn_slots(0, 16383, 1, 1)
    return Tables(routing, Peers(), viewer)


@pytest.fixture
def node():
    return FakeNode()


def change_nothing(node):
    pass


def lose_a_follower(node):
    node.view.members[1].connected = False


def no_leader(node):
    node.view.role, node.view.leader_id = "follower", 0


def add_learner_and_witness(node):
    learner = ViewMember(4, "10.0.0.4", 7004, 17004, learner=True)
    learner.connected, learner.match_index = True, 50
    node.view.members += [learner, ViewMember(5, "s3://bucket/w", 0, 0, witness=True)]


@pytest.mark.parametrize("change", [change_nothing, lose_a_follower, no_leader, add_learner_and_witness])
@pytest.mark.parametrize("endpoint", ["ip", "unknown-endpoint"])
def test_one_group_as_today(node, change, endpoint):
    change(node)
    node.settings.cluster_preferred_endpoint_type = endpoint
    tables = one_group_tables(node, up=node.view.leader_id != 0)
    ctx = Ctx(node)
    assert plain(tables.shards()) == plain(one_group.cluster_shards(ctx, []))
    today = one_group.cluster_nodes(ctx, []).text
    assert tables.nodes() == today
    # Today's metadata is always empty; the protocol names the address when it is not the endpoint.
    slots = plain(tables.slots())
    for entry in slots:
        for shown in entry[2:]:
            assert shown[3] == ([] if endpoint == "ip" else [b"ip", shown_host(node, shown[2])])
            shown[3] = []
    assert slots == plain(one_group.cluster_slots(ctx, []))
    info = dict(tables.info())
    today_info = dict(line.split(":") for line in one_group.cluster_info(ctx, []).text.decode().split())
    assert {name: str(value) for name, value in info.items()} == today_info


def shown_host(node, name):
    return next(m.client_host for m in node.view.members if node_name(ID, m.node_id).encode() == name).encode()


def three_groups():
    routing = Routing()
    for g in (1, 2, 3):
        ids = [10 * g + n for n in (1, 2, 3)]
        members = [
            Member(n, f"10.0.{g}.{n}", 7000 + n, 17000 + n, tls_port=8000 + n, zone=f"z{n % 10}", applied_index=n * 100)
            for n in ids
        ]
        routing.learn_group(GroupFacts(g, 4 + g, 1, 0, ids[1], members))
    routing.learn_slots(0, 5460, 1, 1)
    routing.learn_slots(5461, 10922, 1, 2)
    routing.learn_slots(10923, 16383, 1, 3)
    routing.learn_slots(100, 100, 2, 3)
    return routing


def names_of(entry):
    return [shown[2] for shown in entry[2:]]


def name(node_id):
    return node_name(ID, node_id).encode()


def test_slots_of_several_groups():
    peers = Peers()
    peers.claim(13, 0, DEAD, 0)
    peers.claim(22, 0, DEAD, 0)
    slots = plain(Tables(three_groups(), peers, Viewer(ID, 11, 1)).slots())
    assert [entry[:2] for entry in slots] == [[0, 99], [100, 100], [101, 5460], [5461, 10922], [10923, 16383]]
    # Leader first, then by node; the failed replica is left out, a failed leader is what there is.
    assert names_of(slots[0]) == [name(12), name(11)] == names_of(slots[2])
    assert names_of(slots[1]) == [name(32), name(31), name(33)]
    assert names_of(slots[3]) == [name(22), name(21), name(23)]


def test_tls_clients_get_tls_ports_and_hostnames_where_asked():
    routing = three_groups()
    named = Member(11, "10.0.1.11", 7011, 17011, hostname="a.example", tls_port=8011)
    routing.learn_group(GroupFacts(1, 9, 1, 0, 11, [named, Member(12, "10.0.1.12", 7012, 17012)]))
    viewer = Viewer(ID, 11, 1)
    first = plain(Tables(routing, Peers(), viewer).slots())[0]
    assert first[2] == [b"10.0.1.11", 7011, name(11), [b"hostname", b"a.example"]]
    viewer.endpoint_type, viewer.tls = "hostname", True
    first = plain(Tables(routing, Peers(), viewer).slots())[0]
    assert first[2] == [b"a.example", 8011, name(11), [b"ip", b"10.0.1.11"]]
    # No host name and no TLS port: the protocol's mark, and the port there is.
    assert first[3] == [b"?", 7012, name(12), [b"ip", b"10.0.1.12"]]


def test_shards_of_several_groups_and_an_empty_one():
    routing = three_groups()
    routing.learn_group(GroupFacts(7, 1, 1, 0, 71, [Member(71, "10.0.7.71", 7071, 17071, health=LOADING)]))
    routing.learn_group(GroupFacts(8, 0, 0, 0, 0, [], removed=True))
    viewer = Viewer(ID, 11, 1)
    viewer.applied[11] = 4242
    shards = [dict(zip(s[0::2], s[1::2], strict=True)) for s in plain(Tables(routing, Peers(), viewer).shards())]
    assert [s[b"slots"] for s in shards] == [[0, 99, 101, 5460], [5461, 10922], [100, 100, 10923, 16383], []]
    assert [s[b"id"] for s in shards] == [shard_name(ID, g).encode() for g in (1, 2, 3, 7)]
    leader, me = (dict(zip(n[0::2], n[1::2], strict=True)) for n in shards[0][b"nodes"][:2])
    assert leader == {
        b"id": name(12), b"port": 7012, b"tls-port": 8012, b"ip": b"10.0.1.12", b"endpoint": b"10.0.1.12",
        b"role": b"master", b"replication-offset": 1200, b"health": b"online", b"availability-zone": b"z2",
    }  # fmt: skip
    assert me[b"replication-offset"] == 4242 and me[b"role"] == b"replica"
    assert shards[3][b"nodes"][0][-1] == b"loading"


LINE = re.compile(
    r"[0-9a-f]{40} [^ :]+:\d+@\d+(,[^ ,]+)? (myself,)?(master|slave)(,fail\??)? (-|[0-9a-f]{40}) \d+ \d+ \d+ "
    r"(dis)?connected( \d+(-\d+)?)*( \[\d+-[<>]-[0-9a-f]{40}\])*"
)


def test_nodes_of_several_groups():
    peers = Peers()
    peers.claim(22, 0, SUSPECT, 0)
    peers.claim(33, 0, DEAD, 0)
    viewer = Viewer(ID, 12, 1)
    viewer.moving = [(5, True, node_name(ID, 22)), (77, False, node_name(ID, 32))]
    lines = Tables(three_groups(), peers, viewer).nodes().decode().splitlines()
    assert len(lines) == 9 and all(LINE.fullmatch(line) for line in lines)
    by_name = {line.split()[0].encode(): line.split() for line in lines}
    mine = by_name[name(12)]
    assert mine[1:8] == ["10.0.1.12:7012@17012", "myself,master", "-", "0", "0", "5", "connected"]
    assert mine[8:] == ["0-99", "101-5460", f"[5->-{node_name(ID, 22)}]", f"[77-<-{node_name(ID, 32)}]"]
    assert by_name[name(22)][2] == "master,fail?" and by_name[name(33)][2] == "slave,fail"
    assert by_name[name(33)][3].encode() == name(32) and by_name[name(33)][7] == "disconnected"
    assert by_name[name(32)][8:] == ["100", "10923-16383"]


def test_the_own_groups_leader_is_who_leads_its_log_before_gossip_tells():
    viewer = Viewer(ID, 13, 1)
    cache, routing, peers = TableCache(), three_groups(), Peers()
    assert f"{node_name(ID, 12)} 10.0.1.12:7012@17012 master" in cache.get(routing, peers, viewer).nodes().decode()
    viewer = Viewer(ID, 13, 1)
    viewer.leader = 13
    tables = cache.get(routing, peers, viewer)
    by_name = {line.split()[0].encode(): line.split() for line in tables.nodes().decode().splitlines()}
    assert by_name[name(13)][2:4] == ["myself,master", "-"] and by_name[name(13)][8] == "0-99"
    assert by_name[name(12)][2:4] == ["slave", node_name(ID, 13)] and len(by_name[name(12)]) == 8
    assert by_name[name(22)][2] == "master"
    assert all(entry[2][2] == name(13) for entry in tables.slots() if entry[0] in (0, 101))
    assert [node.flat[node.flat.index(b"role") + 1] for node in tables.shards()[0].flat[3]].count(b"master") == 1
    # Somebody whom no table of members knows yet: what was told last.
    viewer = Viewer(ID, 13, 1)
    viewer.leader = 99
    assert "10.0.1.12:7012@17012 master" in Tables(routing, peers, viewer).nodes().decode()


def test_info_counts_slots_by_what_their_groups_can_do():
    routing, peers, viewer = three_groups(), Peers(), Viewer(ID, 11, 1)
    info = dict(Tables(routing, peers, viewer).info())
    assert info["cluster_state"] == "ok" and info["cluster_slots_ok"] == 16384
    assert info["cluster_known_nodes"] == 9 and info["cluster_size"] == 3
    assert info["cluster_current_epoch"] == 7 and info["cluster_my_epoch"] == 5
    peers.claim(22, 0, SUSPECT, 0)
    info = dict(Tables(routing, peers, viewer).info())
    assert info["cluster_slots_pfail"] == 5462 and info["cluster_state"] == "ok"
    # Two of three gone: that group serves nothing.
    peers.claim(31, 0, DEAD, 0)
    peers.claim(33, 0, DEAD, 0)
    info = dict(Tables(routing, peers, viewer).info())
    assert info["cluster_slots_fail"] == 5462 and info["cluster_state"] == "fail"
    viewer.up = False
    assert dict(Tables(routing, peers, viewer).info())["cluster_slots_pfail"] == 5462 + 5460


def test_unassigned_slots_fail_the_cluster_and_are_in_no_table():
    routing = Routing()
    routing.learn_group(GroupFacts(1, 1, 1, 0, 1, [Member(1, "h", 1, 2)]))
    routing.learn_slots(0, 9, 1, 1)
    # Known to belong to a group of which nothing else is known yet.
    routing.learn_slots(10, 19, 1, 2)
    tables = Tables(routing, Peers(), Viewer(ID, 1, 1))
    assert [entry[:2] for entry in plain(tables.slots())] == [[0, 9]]
    info = dict(tables.info())
    assert info["cluster_state"] == "fail" and info["cluster_slots_assigned"] == 20
    assert info["cluster_slots_fail"] == 10


def test_tables_are_kept_while_they_show_the_same():
    routing, peers, cache = three_groups(), Peers(), TableCache()

    def get(**facts):
        viewer = Viewer(ID, 11, 1)
        for name_, value in facts.items():
            setattr(viewer, name_, value)
        return cache.get(routing, peers, viewer)

    first = get()
    slots = first.slots()
    assert get(applied={11: 5}) is first and first.slots() is slots and cache.misses == 1
    # Progress is shown as it is.
    assert plain(first.shards())[0][3][1][12:14] == [b"replication-offset", 5]
    assert get(tls=True) is not first and get() is first and cache.misses == 2
    for change in (
        lambda: routing.learn_slots(7, 7, 9, 2),
        lambda: peers.claim(13, 0, DEAD, 0),
        lambda: routing.learn_group(GroupFacts(3, 99, 1, 0, 31, routing.facts[3].members)),
    ):
        held, shown = get(), get().nodes()
        assert change()
        assert get() is not held and get().nodes() != shown
    moving = [(1, True, "f" * 40)]
    for facts in ({"up": False}, {"health": {12: FAIL}}, {"moving": moving}, {"endpoint_type": "hostname"}):
        plain_tables = get()
        assert get(**facts) is not plain_tables
