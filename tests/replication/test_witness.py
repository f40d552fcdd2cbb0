"""A group's dealings with its witness, as one node's driver sees them: added, refused, followed, reported."""

from __future__ import annotations

from durakv.replication import addresses
from durakv.replication.stopping import StoppedPinned
from durakv.replication.witness_port import WitnessStandsIn, WitnessTrouble
from durakv.witness.service import WitnessService
from tests.replication.sim import HostNetwork, Machine, NodeRng, SimCluster
from tests.replication.test_cluster import Probe, settle
from tests.replication.test_sync_policy import Lone

WITNESS_PORT = 7100


class WitnessHost(Machine):
    """A machine that runs a witness process."""

    def start_service(self) -> None:
        fabric = self.cluster.fabric
        fabric.down.pop(self.host, None)
        self.starts += 1
        fabric.incarnations[self.host] = self.starts
        network = HostNetwork(fabric, self.host)
        self.said: list[str] = []
        self.service = WitnessService(
            self._clock(), NodeRng(self.node_id), self.disk, network, "/w", self.said.append, self._fatal
        )
        self.service.open(self.host, WITNESS_PORT)


class Witnessed(SimCluster):
    """Three full nodes, and a host for witnesses that no group knows yet."""

    def __init__(self, seed: int, **directives: str) -> None:
        super().__init__(seed, **directives)
        self.host = WitnessHost(self, 9)
        self.host.start_service()

    def ask(self, machine: Machine, *commands: str) -> list[object]:
        return Probe(self, machine.node_id).ask(*commands)

    def add_witness(self, witness_id: int) -> Machine:
        leader = self.wait_leader()
        assert self.ask(leader, f"CLUSTER ADDWITNESS {witness_id} tcp://n9:{WITNESS_PORT}") == [b"OK"]
        return leader

    def shrink(self) -> Machine:
        """Take a follower out, so that two full nodes remain; the leader."""
        leader = self.wait_leader()
        leaver = next(m for m in self.machines if m is not leader)
        assert self.ask(leader, f"CLUSTER REMOVENODE {leaver.node_id}") == [b"OK"]
        leaver.crash("none")
        self.machines.remove(leaver)
        settle(self)
        return leader

    def other(self, machine: Machine) -> Machine:
        (found,) = [m for m in self.machines if m is not machine]
        return found

    def until(self, condition: object, ms: int = 10_000) -> None:
        assert callable(condition)
        assert condition() or self.time.run(ms, condition), "it did not come to pass"


def port(machine: Machine):
    assert machine.app is not None
    return machine.app.node.witness


def in_step(machine: Machine) -> bool:
    """Whether it leads and counts the full nodes alone."""
    return machine.app is not None and machine.app.engine.leading and not port(machine).stands_in()


def test_address_books() -> None:
    book = {2: addresses.Address("b", 7001, 17001), 1: addresses.Address("witness", 7000, 17000)}
    plain = addresses.encode(book)
    assert plain == b"1 witness 7000 17000\n2 b 7001 17001"
    assert addresses.decode_witness(plain) is None
    full = addresses.encode(book, (3, "s3://bucket/a%20b?region=x"))
    assert full == plain + b"\n3 witness s3://bucket/a%20b?region=x"
    assert addresses.decode_witness(full) == (3, "s3://bucket/a%20b?region=x")
    assert {n: (a.host, a.client_port, a.peer_port) for n, a in addresses.decode(full).items()} == {
        1: ("witness", 7000, 17000), 2: ("b", 7001, 17001),
    }  # fmt: skip


def test_what_is_refused_before_anything_is_created() -> None:
    cluster = Witnessed(1)
    leader = cluster.wait_leader()
    for words, text in (
        ("2 tcp://n9:7100", "already a member"),
        ("4 n9:7100", "invalid witness address"),
        ("0 tcp://n9:7100", "not a node id"),
    ):
        (reply,) = cluster.ask(leader, f"CLUSTER ADDWITNESS {words}")
        assert text in str(reply), reply
    assert not cluster.host.service.states()
    cluster.add_witness(4)
    (reply,) = cluster.ask(leader, "CLUSTER ADDWITNESS 5 tcp://n9:7100")
    assert "CLUSTER REMOVENODE 4 first" in str(reply)
    (reply,) = cluster.ask(leader, "CLUSTER ADDNODE 4 n4:7000")
    assert "already a member" in str(reply)
    assert len(cluster.host.service.states()) == 1

    lone = Lone(2)
    (reply,) = Probe(lone, lone.wait_leader().node_id).ask("CLUSTER ADDWITNESS 2 tcp://n9:7100")
    assert "at least two full nodes" in str(reply) and "CLUSTER ADDNODE" in str(reply)


def test_a_creation_that_fails_leaves_the_group_as_it_was() -> None:
    cluster = Witnessed(3)
    leader = cluster.wait_leader()
    (reply,) = cluster.ask(leader, "CLUSTER ADDWITNESS 4 tcp://n9:7999")
    assert str(reply).startswith("ERR the group is unchanged"), reply
    (reply,) = cluster.ask(leader, "CLUSTER ADDWITNESS 4 file:///shared")
    assert str(reply).startswith("ERR the group is unchanged"), reply
    assert port(leader).node_id == 0
    # Nothing is in the way of the next attempt.
    cluster.add_witness(4)
    settle(cluster)
    for machine in cluster.machines:
        assert (port(machine).node_id, port(machine).address) == (4, f"tcp://n9:{WITNESS_PORT}")


def test_the_link_follows_a_membership_that_is_rolled_back() -> None:
    cluster = Witnessed(4)
    old = cluster.wait_leader()
    others = [m for m in cluster.machines if m is not old]
    for other in others:
        cluster.fabric.cut(old.host, other.host)
        cluster.fabric.cut(other.host, old.host)
    session = Probe(cluster, old.node_id)
    session.send(f"CLUSTER ADDWITNESS 4 tcp://n9:{WITNESS_PORT}")
    cluster.until(lambda: port(old).node_id == 4, 500)
    assert port(old).link is not None
    cluster.until(lambda: any(m.app is not None and m.app.engine.leading for m in others))
    assert all(port(m).node_id == 0 for m in others)
    cluster.fabric.heal()
    cluster.until(lambda: port(old).node_id == 0)
    assert port(old).link is None
    # The id is spent, the group is not stuck.
    (reply,) = cluster.ask(cluster.wait_leader(), f"CLUSTER ADDWITNESS 4 tcp://n9:{WITNESS_PORT}")
    assert "another id" in str(reply)
    cluster.add_witness(5)


def test_a_leader_pins_says_so_and_rests_again() -> None:
    cluster = Witnessed(5, min_data_copies="2")
    cluster.add_witness(4)
    leader = cluster.shrink()
    assert leader.app is not None
    other = cluster.other(leader)
    asked = port(leader).asked()
    assert cluster.ask(leader, "SET k 1") == [b"OK"]
    cluster.time.run(3000)
    assert port(leader).asked() == asked, "asked at rest"
    other.crash("none")
    cluster.until(lambda: port(leader).pinned())
    cluster.time.run(100)
    (reply,) = cluster.ask(leader, "SET k 2")
    assert str(reply).startswith("NOREPLICAS"), reply
    assert cluster.ask(leader, "GET k") == [b"1"]
    (reply,) = cluster.ask(leader, "SHUTDOWN")
    assert f"for node {other.node_id}" in str(reply)
    events = [e for e in leader.events.seen if isinstance(e, WitnessStandsIn)]
    assert [(e.replication_set, e.pinned) for e in events] == [(tuple(sorted((leader.node_id, 4))), True)]
    other.start()
    cluster.until(lambda: not port(leader).stands_in(), 20_000)
    cluster.time.run(100)
    assert cluster.ask(leader, "SET k 3") == [b"OK"]
    assert port(leader).shown == ((), False)


def test_a_node_on_its_own_is_one_copy() -> None:
    cluster = Lone(10, min_data_copies="2")
    probe = Probe(cluster, cluster.wait_leader().node_id)
    cluster.time.run(100)
    replies = probe.ask("SET k 1", "CONFIG SET min-data-copies 1", "SET k 1", "CONFIG SET min-data-copies 2", "SET k 2")
    assert replies[1:4] == [b"OK", b"OK", b"OK"]
    for reply in (replies[0], replies[4]):
        assert str(reply).startswith("NOREPLICAS") and "CLUSTER ADDNODE" in str(reply), reply
    (refused,) = probe.ask("CONFIG SET min-data-copies 3")
    assert "min-data-copies" in str(refused)


def test_a_write_under_way_when_the_copy_is_lost_is_unknown() -> None:
    cluster = Witnessed(6, min_data_copies="2")
    cluster.add_witness(4)
    leader = cluster.shrink()
    other = cluster.other(leader)
    session = Probe(cluster, leader.node_id)
    assert session.ask("SET k 1") == [b"OK"]
    other.crash("none")
    session.send("SET k 2")
    cluster.until(lambda: port(leader).pinned())
    cluster.until(lambda: bool(session.replies))
    assert str(session.replies[0]).startswith("UNKNOWN committed with one copy"), session.replies
    assert cluster.ask(leader, "GET k") == [b"2"], "it is in force all the same"


def test_a_pinned_node_told_to_stop_waits_then_warns() -> None:
    cluster = Witnessed(7)
    cluster.add_witness(4)
    leader = cluster.shrink()
    assert leader.app is not None
    other = cluster.other(leader)
    other.crash("none")
    cluster.until(lambda: port(leader).pinned())
    leader.app.node.stop(transfer=True, now=False)
    cluster.time.run(1000)
    assert leader.exits == []
    cluster.until(lambda: leader.exits == [0], 5000)
    assert any(isinstance(e, StoppedPinned) for e in leader.events.seen)


def test_a_pinned_node_told_to_stop_hands_over_to_one_that_comes_back() -> None:
    cluster = Witnessed(8)
    cluster.add_witness(4)
    leader = cluster.shrink()
    assert leader.app is not None
    other = cluster.other(leader)
    other.crash("none")
    cluster.until(lambda: port(leader).pinned())
    assert cluster.ask(leader, "SET k 1") == [b"OK"]
    other.start()
    cluster.time.run(500)
    leader.app.node.stop(transfer=True, now=False)
    cluster.until(lambda: leader.exits == [0], 12_000)
    assert not any(isinstance(e, StoppedPinned) for e in leader.events.seen)
    assert other.app is not None and other.app.engine.leading


def test_a_lost_state_is_told_with_the_repair() -> None:
    cluster = Witnessed(9)
    cluster.add_witness(4)
    leader = cluster.shrink()
    disk = cluster.host.disk
    for path in [path for path in disk.names if path.startswith("/w/") and path.endswith((".st", "CREATED"))]:
        disk.unlink(path)
    other = cluster.other(leader)
    other.crash("none")
    cluster.until(lambda: bool(port(leader).trouble))
    troubles = [e.detail for e in leader.events.seen if isinstance(e, WitnessTrouble)]
    assert troubles[0].startswith("WITNESS_STATE_LOST") and "CLUSTER REMOVENODE 4" in troubles[0]
    (reply,) = cluster.ask(leader, "INFO replication")
    assert "witness_trouble:WITNESS_STATE_LOST" in str(reply)
    other.start()
    cluster.until(lambda: any(in_step(m) for m in cluster.machines), 20_000)
    now = cluster.wait_leader()
    assert cluster.ask(now, "CLUSTER REMOVENODE 4", f"CLUSTER ADDWITNESS 5 tcp://n9:{WITNESS_PORT}") == [b"OK", b"OK"]
    assert port(now).trouble == ""


def test_who_waits_is_served_after_the_witness_began_to_stand_in() -> None:
    cluster = Witnessed(11)
    cluster.add_witness(4)
    leader = cluster.shrink()
    other = cluster.other(leader)
    waiting = Probe(cluster, leader.node_id)
    waiting.send("BLPOP list 0")
    cluster.time.run(200)
    other.crash("none")
    cluster.until(lambda: port(leader).pinned())
    cluster.time.run(100)
    assert waiting.replies == []
    assert cluster.ask(leader, "RPUSH list item") == [1]
    cluster.until(lambda: bool(waiting.replies), 1000)
    assert waiting.replies == [[b"list", b"item"]]
    other.start()
    cluster.until(lambda: in_step(leader), 20_000)
    settle(cluster)
    digests = {m.app.engine.state_digest() for m in cluster.machines if m.app is not None}
    assert len(digests) == 1, digests
