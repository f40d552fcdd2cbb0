"""Parked requests: order, waking, ending, and what their session may do meanwhile."""

from __future__ import annotations

import pytest

from tests.engine.rig import Rig


def test_waiters_are_served_in_park_order() -> None:
    rig = Rig()
    first, second, pusher = rig.client(), rig.client(), rig.client()
    assert rig.ask(first, "BLPOP q 0") == [] and rig.ask(second, "BLPOP q 0") == []
    assert rig.ask(pusher, "RPUSH q 1") == [1]
    assert (first.got(), second.got()) == ([[b"q", b"1"]], [])
    assert rig.ask(pusher, "RPUSH q 2") == [1]
    assert second.got() == [[b"q", b"2"]]
    rig.check_follower()


def test_keys_wake_in_the_order_they_changed_after_the_whole_transaction() -> None:
    rig = Rig()
    on_a, on_b, pusher = rig.client(), rig.client(), rig.client()
    rig.ask(on_b, "BLPOP b a 0")
    rig.ask(on_a, "BLPOP a 0")
    replies = rig.ask(pusher, "MULTI", "RPUSH b 1", "RPUSH a 2 3", "LPOP a", "EXEC")
    assert replies[-1] == [1, 2, b"2"]
    assert on_b.got() == [[b"b", b"1"]] and on_a.got() == [[b"a", b"3"]]
    rig.check_follower()


def test_a_chain_of_moves_wakes_through() -> None:
    rig = Rig()
    mover, end, pusher = rig.client(), rig.client(), rig.client()
    rig.ask(end, "BLPOP b 0")
    rig.ask(mover, "BLMOVE a b LEFT RIGHT 0")
    rig.ask(pusher, "RPUSH a 1")
    assert mover.got() == [b"1"] and end.got() == [[b"b", b"1"]]
    rig.check_follower()


def test_blocking_inside_a_transaction_answers_at_once() -> None:
    rig = Rig()
    a = rig.client()
    assert rig.ask(a, "MULTI", "BLPOP q 0", "EXEC")[-1] == [None]
    assert rig.engine.applier.sessions.idle()


def test_the_timeout_is_answered_through_the_log() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "BLPOP q 0.2")
    rig.pass_ms(100)
    rig.settle()
    assert a.got() == []
    rig.pass_ms(150)
    assert a.got() == []
    rig.settle()
    assert a.got() == [None]
    assert rig.ask(a, "PING") == [b"PONG"]
    rig.check_follower()


def test_a_push_ahead_of_the_timeouts_entry_wins() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0.2")
    pusher.send("RPUSH q 1")
    rig.turn()
    rig.pass_ms(300)
    rig.settle()
    assert a.got() == [[b"q", b"1"]]
    rig.check_follower()


@pytest.mark.parametrize("how", ["", " TIMEOUT", " ERROR"])
def test_client_unblock(how: str) -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0")
    assert rig.ask(other, f"CLIENT UNBLOCK {a.session.id}{how}") == [1]
    replies = a.got()
    assert replies == ([None] if how != " ERROR" else ["UNBLOCKED client unblocked via CLIENT UNBLOCK"])
    assert rig.ask(other, f"CLIENT UNBLOCK {a.session.id}") == [0]
    rig.check_follower()


def test_client_unblock_tells_whether_it_ended_the_wait() -> None:
    rig = Rig()
    a, other, pusher = rig.client(), rig.client(), rig.client()
    assert rig.ask(other, "CLIENT UNBLOCK 99", f"CLIENT UNBLOCK {a.session.id}") == [0, 0]
    rig.ask(a, "BLPOP q 0")
    # The push is ahead in the log: it serves the client, and nothing is left to end.
    pusher.send("RPUSH q 1")
    rig.turn()
    other.send(f"CLIENT UNBLOCK {a.session.id}", "GET k")
    rig.settle()
    assert (a.got(), other.got()) == ([[b"q", b"1"]], [0, None])
    # Accepted in the same turn, not parked yet: the entry that parks it is ahead of the one that ends it.
    a.send("BLPOP q 0")
    other.send(f"CLIENT UNBLOCK {a.session.id} ERROR", "PING")
    rig.settle()
    assert (a.got(), other.got()) == (["UNBLOCKED client unblocked via CLIENT UNBLOCK"], [1, b"PONG"])
    rig.check_follower()


def test_client_unblock_in_a_transaction_answers_at_once() -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0")
    assert rig.ask(other, "MULTI", f"CLIENT UNBLOCK {a.session.id}", "EXEC")[-1] == [1]
    assert a.got() == [None]
    assert rig.ask(other, "MULTI", f"CLIENT UNBLOCK {a.session.id}", "EXEC")[-1] == [0]
    rig.check_follower()


@pytest.mark.parametrize(("how", "reply"), [("TIMEOUT", 0), ("ERROR", "UNBLOCKED client unblocked via CLIENT UNBLOCK")])
def test_client_unblock_ends_a_wait_for_replicas(how: str, reply: object) -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    assert rig.ask(a, "SET k 1", "WAIT 3 0") == [b"OK"]
    assert rig.ask(other, f"CLIENT UNBLOCK {a.session.id} {how}") == [1]
    assert a.got() == [reply]
    assert rig.ask(a, "PING") == [b"PONG"]
    assert rig.engine.waits == []


def test_a_client_held_by_a_pause_is_not_unblocked() -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    rig.ask(other, "CLIENT PAUSE 10000 WRITE")
    assert rig.ask(a, "BLPOP q 0") == []
    assert rig.ask(other, f"CLIENT UNBLOCK {a.session.id}") == [0]


def test_a_disconnected_waiter_takes_nothing() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0")
    a.disconnect()
    rig.settle()
    assert rig.engine.applier.sessions.idle()
    assert rig.ask(pusher, "RPUSH q 1", "LLEN q") == [1, 1]
    rig.check_follower()


def test_a_waiter_disconnected_before_it_parked_takes_nothing() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    a.send("BLPOP q 0")
    rig.turn()
    a.disconnect()
    rig.settle()
    assert rig.engine.applier.sessions.idle()
    assert rig.ask(pusher, "RPUSH q 1", "LLEN q") == [1, 1]


def test_a_write_before_the_blocking_command_does_not_unblock_its_session() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    assert rig.ask(a, "SET k 1", "BLPOP q 0") == [b"OK"]
    assert rig.ask(a, "SET k 2", "GET k", "BLPOP q 0") == []
    assert rig.ask(pusher, "GET k") == [b"1"]
    assert rig.ask(pusher, "RPUSH q a", "RPUSH q b") == [1, 1]
    rig.settle()
    assert a.got() == [[b"q", b"a"], b"OK", b"2", [b"q", b"b"]]
    rig.check_follower()


def test_a_write_in_an_earlier_entry_does_not_unblock_its_session() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    a.send("SET k 1")
    rig.turn()
    a.send("BLPOP q 0")
    rig.turn()
    rig.consensus.commit()
    a.send("SET k 2")
    rig.settle()
    assert a.got() == [b"OK"]
    rig.ask(pusher, "RPUSH q a")
    rig.settle()
    assert a.got() == [[b"q", b"a"], b"OK"]


def test_a_read_before_the_blocking_command_does_not_unblock_its_session() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    a.send("GET k")
    rig.turn()
    a.send("BLPOP q 0")
    rig.turn()
    rig.consensus.prove()
    a.send("SET k 2")
    rig.settle()
    assert a.got() == [None]
    rig.ask(pusher, "RPUSH q a")
    rig.settle()
    assert a.got() == [[b"q", b"a"], b"OK"]


def test_a_parked_client_that_wrote_before_can_be_unblocked_and_dropped() -> None:
    rig = Rig()
    a, b, other = rig.client(), rig.client(), rig.client()
    rig.ask(a, "SET k 1", "BLPOP q 0")
    rig.ask(b, "SET k 1", "BLPOP q 0")
    assert rig.ask(other, f"CLIENT UNBLOCK {a.session.id}") == [1]
    b.disconnect()
    rig.settle()
    assert rig.engine.applier.sessions.idle()


def test_a_leader_change_unblocks() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0")
    rig.ask(b, "SET k 1", "BLPOP q 5")
    rig.consensus.follow()
    for client in (a, b):
        (reply,) = client.got()
        assert str(reply).startswith("UNBLOCKED ")
        assert not client.closed and client.session.pending == 0
    rig.consensus.lead()
    assert rig.engine.applier.sessions.idle()
    # The deadline of the old park must not reach into the new term.
    rig.pass_ms(6000)
    rig.settle()
    assert b.got() == []


def test_wrong_type_goes_on_waiting() -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0")
    rig.ask(pusher, "SET q x")
    assert a.got() == []
    rig.ask(pusher, "DEL q", "RPUSH q 1")
    assert a.got() == [[b"q", b"1"]]


WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.mark.parametrize("command", ["BLMOVE q d LEFT RIGHT 0", "BRPOPLPUSH q d 0"])
@pytest.mark.parametrize("before", [True, False])
def test_a_move_whose_destination_has_another_type_when_it_is_served_fails_and_moves_nothing(
    command: str, before: bool
) -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    if before:
        rig.ask(pusher, "SET d x")
    rig.ask(a, command)
    rig.ask(pusher, "SET d x")
    assert a.got() == []
    assert rig.ask(pusher, "RPUSH q 1") == [1]
    assert a.got() == [WRONGTYPE]
    assert rig.ask(pusher, "LRANGE q 0 -1", "GET d") == [[b"1"], b"x"]
    assert rig.ask(a, "PING") == [b"PONG"]
    assert rig.engine.applier.sessions.idle()
    rig.check_follower()


@pytest.mark.parametrize(("command", "push"), [
    ("BLPOP other q 0", "RPUSH q 1"), ("BRPOP other q 0", "RPUSH q 1"), ("BLMPOP 0 2 other q LEFT", "RPUSH q 1"),
    ("BZPOPMIN other q 0", "ZADD q 1 m"), ("BZPOPMAX other q 0", "ZADD q 1 m"),
    ("BZMPOP 0 2 other q MIN", "ZADD q 1 m"),
])  # fmt: skip
def test_a_key_named_earlier_that_got_another_type_is_an_error_once_a_later_one_is_ready(
    command: str, push: str
) -> None:
    rig = Rig()
    a, pusher = rig.client(), rig.client()
    rig.ask(a, command)
    rig.ask(pusher, "SET other x")
    assert a.got() == []
    rig.ask(pusher, push)
    assert a.got() == [WRONGTYPE]
    assert rig.ask(pusher, "EXISTS q") == [1]
    assert rig.engine.applier.sessions.idle()
    rig.check_follower()


def test_the_next_in_line_gets_what_a_failing_one_left() -> None:
    rig = Rig()
    a, b, pusher = rig.client(), rig.client(), rig.client()
    rig.ask(pusher, "SET d x")
    rig.ask(a, "BLMOVE q d LEFT RIGHT 0")
    rig.ask(b, "BLPOP q 0")
    rig.ask(pusher, "RPUSH q 1")
    assert a.got() == [WRONGTYPE] and b.got() == [[b"q", b"1"]]
    rig.check_follower()


@pytest.mark.parametrize("command", [
    "BLPOP q 0.05", "BLMOVE q d LEFT RIGHT 0.05", "BRPOPLPUSH q d 0.05", "BLMPOP 0.05 1 q LEFT", "BZPOPMIN q 0.05",
    "BLPOP q 1e-400",
])  # fmt: skip
def test_every_timeout_is_answered_with_a_null_array(command: str) -> None:
    rig = Rig()
    a = rig.client()
    wires: list[bytes] = []

    def flush() -> None:
        wires.extend(a.session.out)
        a.session.out.clear()

    a.flush = flush  # type: ignore[method-assign]
    rig.ask(a, command)
    rig.pass_ms(60)
    rig.settle()
    a.flush()
    assert wires == [b"*-1\r\n"]


def test_internal_work_of_a_refused_entry_is_done_later() -> None:
    rig = Rig()
    a, b, c, writer = rig.client(), rig.client(), rig.client(), rig.client()
    rig.ask(a, "BLPOP q 0")
    rig.ask(b, "BLPOP q 0.1")
    rig.ask(c, "WATCH w")
    rig.consensus.dropped = "CLUSTERDOWN leadership is being handed over"
    a.disconnect()
    c.disconnect()
    rig.pass_ms(150)
    writer.send("SET k 1")
    rig.settle()
    assert writer.got() == ["CLUSTERDOWN leadership is being handed over"]
    rig.consensus.dropped = ""
    rig.pass_ms(200)
    rig.settle()
    assert b.got() == [None]
    assert rig.engine.applier.sessions.idle()
    rig.check_follower()


def test_a_gated_read_survives_a_refused_entry() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SET k 1 PX 50")
    rig.consensus.dropped = "CLUSTERDOWN leadership is being handed over"
    rig.clock.now_ns += 60_000_000
    a.send("GET k")
    rig.prove()
    assert a.got() == []
    rig.consensus.dropped = ""
    rig.pass_ms(200)
    rig.settle()
    assert a.got() == [None]


def test_a_timeout_counts_from_log_time_where_that_is_ahead_of_the_clock() -> None:
    """A former leader's clock was an hour ahead; waiting half a second still takes half a second."""
    rig = Rig()
    client = rig.client()
    rig.ks.log_ms = rig.clock.wall_ms() + 3_600_000
    client.send("BLPOP none 0.5")
    rig.settle()
    rig.pass_ms(400)
    rig.settle()
    assert client.got() == []
    rig.pass_ms(200)
    rig.settle()
    assert client.got() == [None]
