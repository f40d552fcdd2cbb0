"""Forwarding between a home node and a leader: at most once, in order, late replies dropped, losses told honestly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durakv.replication.forward import ForwardHub, RemoteSink
from durakv.replication.transport import KIND_FORWARD, KIND_REPLY, Transport
from tests.engine.rig import Client, FakeConsensus, Rig


class Wire:
    """Stands for a Transport: keeps frames until the test lets them through."""

    def __init__(self) -> None:
        self.up = True
        self.frames: list[tuple[int, int, bytes]] = []
        self.lanes: dict[int, object] = {}
        self.cuts: list[int] = []

    def send(self, node_id: int, lane: int, kind: int, payload: bytes) -> bool:
        if self.up:
            self.frames.append((node_id, kind, payload))
        return self.up

    def cut(self, node_id: int) -> None:
        self.cuts.append(node_id)


class Pair:
    """Node 3 is home of the clients, node 1 leads."""

    def __init__(self) -> None:
        self.home = Rig(leading=False)
        self.lead = Rig()
        self.home.engine.node_id = 3
        self.home.engine.role_changed(leading=False, leader_id=1, term=9)
        self.wires = (Wire(), Wire())
        self.hubs = (_hub(self.home, self.wires[0]), _hub(self.lead, self.wires[1]))

    def client(self) -> Client:
        return self.home.client()

    def home_turn(self) -> list[tuple[int, int, bytes]]:
        """End the home node's turn; returns the frames it sent."""
        self.home.engine.turn_end()
        frames, self.wires[0].frames = self.wires[0].frames, []
        return frames

    def lead_turn(self) -> list[tuple[int, int, bytes]]:
        self.lead.settle()
        self.lead.engine.turn_end()
        frames, self.wires[1].frames = self.wires[1].frames, []
        return frames

    def to_lead(self, frames: list[tuple[int, int, bytes]]) -> None:
        for to, kind, payload in frames:
            assert (to, kind) == (1, KIND_FORWARD)
            self.hubs[1].on_frame(3, kind, payload)

    def to_home(self, frames: list[tuple[int, int, bytes]]) -> None:
        for to, kind, payload in frames:
            assert (to, kind) == (3, KIND_REPLY)
            self.hubs[0].on_frame(1, kind, payload)
        self.home.engine.turn_end()

    def ask(self, client: Client, *commands: str) -> list[object]:
        client.send(*commands)
        for _ in range(20):
            self.to_lead(self.home_turn())
            self.to_home(self.lead_turn())
        return client.got()


def _hub(rig: Rig, wire: Wire) -> ForwardHub:
    transport: Transport = wire  # type: ignore[assignment]
    hub = ForwardHub(rig.engine, transport)
    rig.engine.forwarder = hub
    pump: Callable[[], None] = rig.consensus.pump

    def pump_and_flush() -> None:
        hub.flush()
        pump()
        hub.flush()

    consensus: FakeConsensus = rig.consensus
    consensus.pump = pump_and_flush  # type: ignore[method-assign]
    return hub


def kinds(replies: list[object]) -> list[str]:
    return [str(r).split()[0] for r in replies]


def test_a_pipeline_is_run_by_the_leader_in_order() -> None:
    pair = Pair()
    a = pair.client()
    assert pair.ask(a, "SET k 1", "GET k", "PING", "SELECT 2", "INCR n", "MULTI", "INCR n", "SELECT 1", "INCR n",
                    "EXEC", "INCR n") == [b"OK", b"1", b"PONG", b"OK", 1, b"OK", b"QUEUED", b"QUEUED", b"QUEUED",
                                  [2, b"OK", 1], 2]  # fmt: skip
    assert len(pair.lead.engine.by_origin) == 1
    a.disconnect()
    pair.to_lead(pair.home_turn())
    assert not pair.lead.engine.by_origin


def test_each_request_is_sent_once_and_a_link_lost_with_a_write_is_unknown() -> None:
    pair = Pair()
    a, b, c = pair.client(), pair.client(), pair.client()
    a.send("SET k 1", "GET k")
    b.send("GET k")
    c.send("PING")
    assert len(pair.home_turn()) == 1
    pair.hubs[0].lost(1)
    assert kinds(b.got()) == ["CLUSTERDOWN"] and not b.closed
    assert a.got() == []
    pair.home.pass_ms(2999)
    assert a.got() == [] and not a.closed
    pair.home.pass_ms(1)
    assert kinds(a.got()) == ["UNKNOWN", "UNKNOWN"] and a.closed
    assert pair.home_turn() == []
    assert a.session.pending == b.session.pending == 0


def test_a_transaction_that_meets_a_broken_link_at_once_is_answered_once() -> None:
    pair = Pair()
    a = pair.client()
    a.send("MULTI", [b"SET", b"k", bytes(2 << 20)], "SELECT 3")
    assert a.got() == [b"OK", b"QUEUED", b"QUEUED"]
    pair.wires[0].up = False
    # Too large to wait for the end of the turn: the link's state shows while EXEC still runs.
    a.send("EXEC")
    # Nothing left this node: nothing was logged.
    assert kinds(a.got()) == ["CLUSTERDOWN"]
    assert (a.closed, a.session.pending) == (False, 0)


def test_late_replies_of_a_lost_time_are_dropped() -> None:
    pair = Pair()
    a = pair.client()
    a.send("GET k")
    pair.to_lead(pair.home_turn())
    late = pair.lead_turn()
    assert late
    pair.hubs[0].lost(1)
    assert kinds(a.got()) == ["CLUSTERDOWN"]
    a.send("GET j")
    again = pair.home_turn()
    pair.to_home(late)
    assert a.got() == []
    pair.to_lead(again)
    pair.to_home(pair.lead_turn())
    assert a.got() == [None]


def test_replies_from_a_node_that_is_not_asked_are_dropped() -> None:
    pair = Pair()
    a = pair.client()
    a.send("GET k")
    pair.to_lead(pair.home_turn())
    (frame,) = pair.lead_turn()
    pair.hubs[0].on_frame(2, frame[1], frame[2])
    assert a.got() == []
    pair.to_home([frame])
    assert a.got() == [None]


def test_a_late_request_of_a_lost_time_does_not_disturb_the_session() -> None:
    pair = Pair()
    a = pair.client()
    a.send("GET k")
    late = pair.home_turn()
    pair.hubs[0].lost(1)
    a.got()
    assert pair.ask(a, "WATCH k") == [b"OK"]
    pair.to_lead(late)
    pair.to_home(pair.lead_turn())
    assert a.got() == []
    assert pair.ask(a, "MULTI", "SET k 1", "EXEC")[-1] == [b"OK"]


def test_another_peers_link_does_not_lose_requests() -> None:
    pair = Pair()
    a = pair.client()
    a.send("SET k 1")
    pair.hubs[0].lost(2)
    pair.to_lead(pair.home_turn())
    pair.to_home(pair.lead_turn())
    assert a.got() == [b"OK"]


@pytest.mark.parametrize("who", ["home", "leader", "both"])
def test_a_watch_does_not_survive_a_broken_link(who: str) -> None:
    pair = Pair()
    a, other = pair.client(), pair.lead.client()
    assert pair.ask(a, "WATCH k") == [b"OK"]
    if who != "leader":
        pair.hubs[0].lost(1)
    if who != "home":
        pair.hubs[1].lost(3)
        pair.lead.settle()
    pair.lead.ask(other, "SET k 2")
    reply = pair.ask(a, "MULTI", "SET k 1", "EXEC")[-1]
    assert pair.lead.ask(other, "GET k") == [b"2"]
    if who == "leader":
        # The home node knew nothing of it until the leader refused to go on in the middle.
        assert kinds([reply]) == ["UNKNOWN"] and a.closed
    else:
        assert reply is None
        assert pair.ask(a, "MULTI", "SET k 1", "EXEC")[-1] == [b"OK"]


def test_watches_work_across_nodes() -> None:
    pair = Pair()
    a, other = pair.client(), pair.lead.client()
    pair.ask(a, "WATCH k")
    pair.lead.ask(other, "SET k 2")
    assert pair.ask(a, "MULTI", "SET k 1", "EXEC")[-1] is None
    pair.ask(a, "WATCH k", "UNWATCH")
    pair.lead.ask(other, "SET k 3")
    assert pair.ask(a, "MULTI", "SET k 1", "EXEC")[-1] == [b"OK"]
    assert pair.ask(a, "WATCH k", "MULTI", "SET k 5", "EXEC")[-1] == [b"OK"]
    pair.lead.settle()
    assert not pair.lead.engine.applier.sessions.watched_by


def test_a_leader_that_cannot_answer_cuts_the_home_node_off() -> None:
    pair = Pair()
    a = pair.client()
    a.send("SET k 1")
    pair.to_lead(pair.home_turn())
    pair.wires[1].up = False
    pair.lead_turn()
    # Otherwise the home node would wait for ever for a reply nobody holds any more.
    assert set(pair.wires[1].cuts) == {3}


def test_a_home_node_that_cannot_send_tells_its_clients() -> None:
    pair = Pair()
    a, b = pair.client(), pair.client()
    pair.wires[0].up = False
    a.send("SET k 1")
    b.send("GET k")
    assert pair.home_turn() == []
    assert kinds(a.got()) == ["CLUSTERDOWN"] and kinds(b.got()) == ["CLUSTERDOWN"]
    assert not a.closed


def test_demotion_of_the_leader_closes_clients_with_writes_and_refuses_reads() -> None:
    pair = Pair()
    a, b, c = pair.client(), pair.client(), pair.client()
    pair.ask(c, "PING", "GET k")
    a.send("SET k 1")
    b.send("GET k")
    pair.to_lead(pair.home_turn())
    pair.lead.turn()
    pair.lead.consensus.follow()
    pair.hubs[1].end_images()
    pair.lead.engine.turn_end()
    frames, pair.wires[1].frames = pair.wires[1].frames, []
    pair.to_home(frames)
    assert a.got() == []
    pair.home.pass_ms(3000)
    assert kinds(a.got()) == ["UNKNOWN"] and a.closed
    assert kinds(b.got()) == ["CLUSTERDOWN"] and not b.closed
    assert not any(isinstance(s.sink, RemoteSink) for s in pair.lead.engine.by_origin.values())


def test_a_node_that_does_not_lead_refuses_and_keeps_nothing() -> None:
    pair = Pair()
    a = pair.client()
    pair.lead.consensus.follow()
    replies = pair.ask(a, "SET k 1", "GET k")
    assert kinds(replies) == ["CLUSTERDOWN", "CLUSTERDOWN"] and not a.closed
    assert not pair.lead.engine.by_origin


def test_a_forwarded_blocking_pop_waits_and_other_replies_do_not_unblock_it() -> None:
    pair = Pair()
    a, other = pair.client(), pair.lead.client()
    assert pair.ask(a, "SET k 1", "BLPOP q 0") == [b"OK"]
    assert a.session.blocked
    assert pair.ask(a, "SET k 2") == []
    pair.lead.ask(other, "RPUSH q x")
    assert pair.ask(a) == [[b"q", b"x"], b"OK"]
    pair.ask(a, "BLPOP q 0")
    a.disconnect()
    pair.to_lead(pair.home_turn())
    pair.lead.settle()
    assert pair.lead.engine.applier.sessions.idle()


@pytest.mark.parametrize("how", ["", " TIMEOUT", " ERROR"])
def test_a_client_parked_through_a_follower_is_unblocked_there(how: str) -> None:
    pair = Pair()
    a, other, elsewhere = pair.client(), pair.client(), pair.lead.client()
    pair.ask(a, "BLPOP q 0")
    assert a.session.blocked
    # Ids count the clients of one node: the leader does not know this one.
    number = max(a.session.id, *pair.lead.engine.clients)
    assert pair.lead.ask(elsewhere, f"CLIENT UNBLOCK {number + 1}") == [0]
    assert pair.ask(other, f"CLIENT UNBLOCK {a.session.id}{how}", "PING") == [1, b"PONG"]
    replies = a.got()
    assert replies == ([None] if how != " ERROR" else ["UNBLOCKED client unblocked via CLIENT UNBLOCK"])
    assert not a.session.blocked
    assert pair.ask(a, "PING") == [b"PONG"]
    assert pair.ask(other, f"CLIENT UNBLOCK {a.session.id}{how}") == [0]
    assert pair.lead.engine.applier.sessions.idle()
    pair.lead.check_follower()


def test_unblock_through_a_follower_comes_too_late_for_a_client_that_was_served() -> None:
    pair = Pair()
    a, other, pusher = pair.client(), pair.client(), pair.lead.client()
    pair.ask(a, "BLPOP q 0")
    pusher.send("RPUSH q x")
    pair.lead.turn()
    assert pair.ask(other, f"CLIENT UNBLOCK {a.session.id}") == [0]
    assert a.got() == [[b"q", b"x"]]


def test_unblock_through_a_follower_ends_a_wait() -> None:
    pair = Pair()
    a, other = pair.client(), pair.client()
    assert pair.ask(a, "SET k 1", "WAIT 3 0") == [b"OK"]
    assert pair.ask(other, f"CLIENT UNBLOCK {a.session.id}") == [1]
    assert a.got() == [0]


def test_unblock_whose_leader_is_lost_may_have_happened() -> None:
    pair = Pair()
    a, other = pair.client(), pair.client()
    pair.ask(a, "BLPOP q 0")
    other.send(f"CLIENT UNBLOCK {a.session.id}")
    assert len(pair.home_turn()) == 1
    pair.hubs[0].lost(1)
    assert kinds(other.got()) == ["UNKNOWN"]
    assert other.closed and pair.home_turn() == []


def test_unblock_in_a_transaction_on_a_follower_says_why_not() -> None:
    pair = Pair()
    a, other = pair.client(), pair.client()
    pair.ask(a, "BLPOP q 0")
    replies = pair.ask(other, "MULTI", "SET k 1", f"CLIENT UNBLOCK {a.session.id}", "EXEC")
    last = replies[-1]
    assert isinstance(last, list)
    assert last[0] == b"OK" and "send it alone" in str(last[1])
    assert a.session.blocked


def test_a_reply_close_flag_closes_the_client() -> None:
    pair = Pair()
    a = pair.client()
    pair.ask(a, "GET k")
    (session,) = pair.lead.engine.by_origin.values()
    pair.lead.engine.close_client(session)
    pair.to_home(pair.lead_turn())
    assert a.closed


def test_malformed_frames_are_refused() -> None:
    pair = Pair()
    with pytest.raises(Exception, match="unpack"):
        pair.hubs[1].on_frame(3, KIND_FORWARD, b"short")
    with pytest.raises(ValueError, match="unknown frame kind"):
        pair.hubs[1].on_frame(3, 77, b"")


def test_a_leader_that_forgets_the_clients_of_a_node_tells_that_node() -> None:
    pair = Pair()
    a = pair.client()
    pair.ask(a, "GET k")
    pair.hubs[1].lost(2)
    assert pair.wires[1].cuts == []
    # Only the leader's own stream broke, perhaps before its HELLO arrived: the home node has seen nothing.
    pair.hubs[1].lost(3)
    assert pair.wires[1].cuts == [3] and not pair.lead.engine.by_origin
    pair.hubs[1].lost(3)
    assert set(pair.wires[1].cuts) == {3}


def test_a_forgotten_session_is_not_taken_up_in_the_middle() -> None:
    pair = Pair()
    a = pair.client()
    a.send("GET k", "SET k 1")
    pair.to_lead(pair.home_turn())
    pair.hubs[1].lost(3)
    a.send("INCR n")
    pair.to_lead(pair.home_turn())
    # The reply of INCR would be taken for GET's.
    pair.to_home(pair.lead_turn())
    assert kinds(a.got()) == ["UNKNOWN"] * 3 and a.closed
    assert pair.lead.ask(pair.lead.client(), "GET n") == [None]


def test_the_database_follows_a_transaction_that_ran_and_no_other() -> None:
    pair = Pair()
    a, other = pair.client(), pair.lead.client()
    assert pair.ask(a, "MULTI", "SET k zero", "SELECT 1", "SET k one", "EXEC", "GET k")[-2:] == [
        [b"OK", b"OK", b"OK"], b"one",
    ]  # fmt: skip
    assert a.session.db == 1
    pair.ask(a, "WATCH w")
    pair.lead.ask(other, "SELECT 1", "SET w changed")
    assert pair.ask(a, "MULTI", "SELECT 2", "SET k two", "EXEC")[-1] is None
    assert a.session.db == 1 and pair.ask(a, "GET k") == [b"one"]
    pair.lead.consensus.dropped = "THROTTLED too much"
    assert kinds(pair.ask(a, "MULTI", "SELECT 3", "SET k three", "EXEC")[-1:]) == ["THROTTLED"]
    pair.lead.consensus.dropped = ""
    assert a.session.db == 1
    # A SELECT that fails leaves the database where the one before put it.
    results = pair.ask(a, "MULTI", "SELECT 2", "SELECT 99", "SET k two", "EXEC")[-1]
    assert isinstance(results, list) and kinds(results)[1:] == ["ERR", "b'OK'"]
    assert a.session.db == 2
    assert pair.lead.ask(other, "SELECT 0", "GET k", "SELECT 2", "GET k")[1::2] == [b"zero", b"two"]


def test_commands_about_the_connection_run_on_its_own_node_and_only_when_the_transaction_ran() -> None:
    pair = Pair()
    a, other = pair.client(), pair.lead.client()
    pair.ask(a, "WATCH w")
    pair.lead.ask(other, "SET w changed")
    assert pair.ask(a, "MULTI", "SUBSCRIBE c", "CLIENT SETNAME me", "SET k 1", "EXEC")[-1] is None
    assert not a.session.in_pubsub() and a.session.name == b""
    replies = pair.ask(a, "MULTI", "CLIENT SETNAME me", "SET k 1", "SUBSCRIBE c", "EXEC")
    assert replies[-1] == [b"OK", b"OK", [b"subscribe", b"c", 1]]
    assert a.session.name == b"me" and list(pair.home.engine.pubsub.channels) == [b"c"]
    assert not pair.lead.engine.pubsub.channels
    assert pair.home.ask(pair.client(), "PUBLISH c hi") == [1]
    assert a.got() == [[b"message", b"c", b"hi"]]


def test_a_transaction_without_data_needs_no_leader() -> None:
    pair = Pair()
    a = pair.client()
    a.send("MULTI", "PING", "SELECT 2", "EXEC")
    assert a.got()[-1] == [b"PONG", b"OK"] and a.session.db == 2
    assert pair.home_turn() == []
