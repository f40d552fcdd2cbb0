"""A follower that lost its leader with writes out: own apply answers them, once, or nobody knows."""

from __future__ import annotations

import pytest

from tests.replication.test_forward import Pair, kinds


class Doubt:
    """A pair whose leader logs what it is sent and is lost before it answers; its entries reach the home node later."""

    def __init__(self, *commands: str | list[bytes], applied_first: bool = False) -> None:
        self.pair = Pair()
        self.client = self.pair.client()
        self.applied = 0
        self.client.send(*commands)
        self.pair.to_lead(self.pair.home_turn())
        self.late = self.pair.lead_turn()
        if applied_first:
            self.apply()
        self.pair.hubs[0].lost(1)
        self.pair.home.engine.turn_end()

    def apply(self) -> None:
        """The home node's own apply gets what the leader committed."""
        entries = self.pair.lead.consensus.committed[self.applied :]
        self.applied += len(entries)
        self.pair.home.engine.committed([entry for entry in entries if entry.kind == 0])
        self.pair.home.engine.turn_end()


@pytest.mark.parametrize("applied_first", [False, True])
def test_a_write_is_answered_from_own_apply_once(applied_first: bool) -> None:
    doubt = Doubt("SET k 1", "INCR k", "INCRBY k x", "LPUSH k a", applied_first=applied_first)
    client, pair = doubt.client, doubt.pair
    if not applied_first:
        assert client.got() == []
        doubt.apply()
    replies = client.got()
    assert replies[:2] == [b"OK", 2]
    assert kinds(replies[2:]) == ["ERR", "WRONGTYPE"]
    assert not client.closed and client.session.pending == 0 and not client.session.blocked
    # The leader's own answer comes late, and the wait ends: nothing is said twice.
    pair.to_home(doubt.late)
    pair.home.pass_ms(5000)
    doubt.apply()
    assert client.got() == []
    assert pair.ask(client, "GET k") == [b"2"]
    assert pair.hubs[0].doubtful == {}


def test_reads_between_writes_are_refused_in_their_place() -> None:
    doubt = Doubt("GET k", "SET k 1", "GET k", "INCR k", "GET k")
    assert kinds(doubt.client.got()) == ["CLUSTERDOWN"]
    doubt.apply()
    replies = doubt.client.got()
    assert (replies[0], replies[2]) == (b"OK", 2)
    assert kinds([replies[1], replies[3]]) == ["CLUSTERDOWN", "CLUSTERDOWN"]


def test_what_comes_meanwhile_waits_its_turn() -> None:
    doubt = Doubt("SET k 1")
    doubt.client.send("INCR k", "PING")
    assert doubt.pair.home_turn() == [] and doubt.client.got() == []
    doubt.apply()
    assert doubt.client.got() == [b"OK"]
    assert doubt.pair.ask(doubt.client) == [2, b"PONG"]


def test_only_the_very_request_counts() -> None:
    pair = Pair()
    a, b = pair.client(), pair.client()
    a.send("SET k a")
    b.send("SET k b")
    pair.to_lead(pair.home_turn())
    pair.lead_turn()
    mine, other = pair.hubs[0].outstanding[a.session.uid], pair.hubs[0].outstanding[b.session.uid]
    pair.hubs[0].lost(1)
    names = {"node": b"3", "uid": b"%d" % mine.session.uid, "epoch": b"%d" % mine.epoch, "number": b"1"}
    for wrong in ({"node": b"2"}, {"uid": b"99"}, {"epoch": b"%d" % other.epoch}, {"number": b"2"}, {"number": b"0"}):
        pair.hubs[0].executed(list({**names, **wrong}.values()), b"wrong")
    assert a.got() == [] and b.got() == []
    pair.hubs[0].executed(list(names.values()), b"right")
    assert a.got() == [b"right"]
    pair.hubs[0].executed(list(names.values()), b"again")
    assert a.got() == [] and b.got() == []


def test_a_transaction_of_writes_is_answered_from_own_apply() -> None:
    doubt = Doubt("MULTI", "SET k 1", "INCR k", "LPUSH k x", "EXEC")
    assert doubt.client.got() == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED"]
    doubt.apply()
    (replies,) = doubt.client.got()
    assert isinstance(replies, list)
    assert replies[:2] == [b"OK", 2] and kinds(replies[2:]) == ["WRONGTYPE"]


@pytest.mark.parametrize("commands", [
    ("MULTI", "SET k 1", "GET k", "EXEC"), ("MULTI", "SELECT 1", "SET k 1", "EXEC"), ("SET k 1", "BLPOP q 0"),
])  # fmt: skip
def test_what_own_apply_cannot_tell_is_unknown_at_once(commands: tuple[str, ...]) -> None:
    doubt = Doubt(*commands)
    assert kinds(doubt.client.got())[-1] == "UNKNOWN"
    assert doubt.client.closed


def test_a_write_that_the_leader_refused_is_unknown_when_the_wait_ends() -> None:
    pair = Pair()
    pair.lead.engine.refusal = "MISCONF no disk"
    a = pair.client()
    a.send("SET k 1")
    pair.to_lead(pair.home_turn())
    pair.lead_turn()
    pair.hubs[0].lost(1)
    pair.home.pass_ms(3000)
    assert kinds(a.got()) == ["UNKNOWN"] and a.closed


def test_a_demoted_leaders_client_hears_from_the_next_leaders_entries() -> None:
    pair = Pair()
    a = pair.client()
    a.send("SET k 1", "INCR k")
    pair.to_lead(pair.home_turn())
    pair.lead.turn()
    (entry,) = pair.lead.consensus.entries
    pair.lead.consensus.follow()
    pair.hubs[1].end_images()
    pair.lead.engine.turn_end()
    frames, pair.wires[1].frames = pair.wires[1].frames, []
    pair.to_home(frames)
    assert a.got() == [] and not a.closed
    # It was on a majority after all.
    pair.home.engine.committed([entry])
    pair.home.engine.turn_end()
    assert a.got() == [b"OK", 2] and not a.closed


def test_a_node_that_begins_and_ends_to_lead_leaves_nobody_waiting() -> None:
    doubt = Doubt("SET k 1")
    home = doubt.pair.home
    home.engine.role_changed(leading=True, leader_id=3, term=10)
    doubt.pair.hubs[0].lost(0)
    assert kinds(doubt.client.got()) == ["UNKNOWN"] and doubt.client.closed


def test_a_client_that_leaves_is_not_waited_for() -> None:
    doubt = Doubt("SET k 1")
    doubt.client.disconnect()
    doubt.apply()
    doubt.pair.home.pass_ms(5000)
    assert doubt.pair.hubs[0].doubtful == {}


def test_entries_name_only_the_requests_of_other_nodes() -> None:
    pair = Pair()
    a, own = pair.client(), pair.lead.client()
    pair.ask(a, "SET k 1", "GET k", "INCR k")
    pair.lead.ask(own, "SET k 5")
    data = b"".join(entry.data for entry in pair.lead.consensus.committed if entry.kind == 0)
    named = data.split(b"*5\r\n$3\r\n@as\r\n")[1:]
    assert len(named) == 2
    assert [line.split(b"\r\n")[7] for line in named] == [b"1", b"3"]
    pair.lead.check_follower()


def test_a_request_that_parks_at_home_too_is_left_to_the_leader() -> None:
    pair = Pair()
    a, pusher = pair.client(), pair.lead.client()
    pair.ask(a, "BLPOP q 0")
    pair.home.engine.committed([entry for entry in pair.lead.consensus.committed if entry.kind == 0])
    assert a.got() == []
    pair.lead.ask(pusher, "RPUSH q x")
    assert pair.ask(a) == [[b"q", b"x"]]


def test_two_copies_are_the_leaders_to_promise() -> None:
    pair = Pair()
    pair.home.engine.settings.load("min-data-copies", "2")
    a, b = pair.client(), pair.client()
    a.send("SET k 1")
    b.send("SET j 1")
    pair.to_lead(pair.home_turn())
    pair.lead_turn()
    out = pair.hubs[0].outstanding[b.session.uid]
    wire = b"-UNKNOWN committed with one copy\r\n"
    pair.hubs[1].queue_reply(3, out.session.uid, out.epoch, 0, wire)
    pair.hubs[1].flush()
    frames, pair.wires[1].frames = pair.wires[1].frames, []
    pair.to_home(frames)
    assert kinds(b.got()) == ["UNKNOWN"]
    pair.hubs[0].lost(1)
    assert kinds(a.got()) == ["UNKNOWN"] and a.closed


def test_nobody_waits_beyond_a_new_leaders_first_entry() -> None:
    """What the old leader left in the log comes before it."""
    pair = Pair()
    a = pair.client()
    a.send("SET k 1")
    pair.to_lead(pair.home_turn())
    pair.hubs[0].lost(1)
    pair.home.engine.turn_end()
    assert a.got() == [] and not a.closed
    pair.hubs[0].new_leader()
    pair.home.engine.turn_end()
    assert kinds(a.got()) == ["UNKNOWN"] and a.closed
    # A write that shows up before it is answered with what it did.
    doubt = Doubt("SET k 1")
    doubt.apply()
    doubt.pair.hubs[0].new_leader()
    assert doubt.client.got() == [b"OK"] and not doubt.client.closed
