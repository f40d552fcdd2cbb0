"""What clients are told when leadership moves, entries are refused, or a handler has a defect; see docs/errors.md."""

from __future__ import annotations

import pytest

from durakv.observe.events import InternalError
from tests.engine.rig import Rig, table_with_crashers

DEFINITE = ("CLUSTERDOWN ", "UNBLOCKED ", "THROTTLED ")


def test_a_write_in_flight_is_unknown_and_its_connection_closes() -> None:
    rig = Rig()
    a = rig.client()
    a.send("SET k 1", "GET k", "PING")
    rig.turn()
    rig.consensus.follow()
    replies = a.got()
    assert len(replies) == 2 and all(str(r).startswith("UNKNOWN ") for r in replies)
    assert a.closed


def test_what_was_not_proposed_is_definite_and_the_connection_stays() -> None:
    rig = Rig()
    a, b, c = rig.client(), rig.client(), rig.client()
    rig.consensus.busy = True
    a.send("SET k 1", "GET k")
    b.send("GET k")
    c.send("MULTI", "SET k 2", "EXEC")
    rig.turn()
    rig.consensus.follow()
    for client, count in ((a, 2), (b, 1), (c, 1)):
        replies = client.got()[-count:]
        assert all(str(r).startswith("CLUSTERDOWN ") for r in replies), replies
        assert not client.closed and client.session.pending == 0
    rig.consensus.busy = False
    rig.consensus.lead()
    rig.settle()
    assert rig.ask(a, "GET k") == [None]


def test_reads_out_for_proof_are_refused_once() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    a.send("GET k")
    rig.turn()
    a.send("SET k 1")
    b.send("GET j")
    rig.turn()
    rig.consensus.follow()
    assert [str(r).split()[0] for r in a.got()] == ["UNKNOWN", "UNKNOWN"]
    assert [str(r).split()[0] for r in b.got()] == ["CLUSTERDOWN"]
    assert a.session.pending == b.session.pending == 0


def test_a_proof_that_arrives_with_the_demotion_answers_nobody_twice() -> None:
    rig = Rig()
    a = rig.client()
    a.send("GET k")
    rig.turn()
    a.send("SET k 1")
    rig.turn()
    batch, _, index = rig.consensus.reads.popleft()
    rig.consensus.follow()
    rig.engine.reads_ready(batch, index)
    rig.engine.run_proven()
    assert len(a.got()) == 2
    assert a.session.pending == 0


def test_a_dropped_proposal_is_definite() -> None:
    rig = Rig()
    a = rig.client()
    rig.consensus.dropped = "CLUSTERDOWN leadership is being handed over; nothing was logged, try again"
    assert rig.ask(a, "SET k 1", "GET k") == [rig.consensus.dropped] * 2
    rig.consensus.dropped = ""
    assert rig.ask(a, "GET k") == [None]


def test_a_refusal_is_not_taken_for_the_answer_to_an_earlier_request() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    a.send("SET k 1")
    rig.turn()
    rig.consensus.dropped = "CLUSTERDOWN leadership is being handed over; nothing was logged, try again"
    a.send("SET k 2", "GET k")
    b.send("SET j 1")
    rig.turn()
    replies = a.got()
    assert len(replies) == 3 and all(str(r).startswith("UNKNOWN ") for r in replies)
    assert a.closed and a.session.pending == 0
    # Nobody else is drawn in, and the entry that was under way is answered to nobody.
    assert b.got() == [rig.consensus.dropped] and not b.closed
    assert rig.engine.stats.unknown_outcomes == 3
    rig.consensus.dropped = ""
    rig.settle()
    assert a.got() == [] and rig.ask(b, "GET k") == [b"1"]


def test_a_refusal_of_others_leaves_a_parked_request_alone() -> None:
    rig = Rig()
    a = rig.client()
    a.send("SET k 1", "BLPOP q 0")
    rig.turn()
    rig.consensus.dropped = "THROTTLED too much"
    rig.settle()
    assert a.got() == [b"OK"] and a.session.blocked
    b = rig.client()
    assert rig.ask(b, "SET j 1") == ["THROTTLED too much"]
    assert a.session.blocked and not a.closed


def test_demotion_with_an_entry_in_flight_leaves_parked_requests_unknown() -> None:
    rig = Rig()
    parked, writer, idle = rig.client(), rig.client(), rig.client()
    rig.ask(parked, "BLPOP q 0")
    rig.ask(idle, "SET k 0")
    # The next leader may commit this and the parked client be served by it.
    writer.send("RPUSH q 1", "GET k")
    rig.turn()
    rig.consensus.follow()
    for client, count in ((parked, 1), (writer, 2)):
        replies = client.got()
        assert len(replies) == count and all(str(r).startswith("UNKNOWN demoted") for r in replies)
        assert client.closed and client.session.pending == 0
    assert not idle.closed and idle.got() == []
    assert rig.engine.stats.unknown_outcomes == 3
    assert not rig.engine.proposed


def test_demotion_with_a_transaction_in_flight_is_one_unknown() -> None:
    rig = Rig()
    a = rig.client()
    a.send("MULTI", "SET k 1", "SELECT 1", "SET k 2", "EXEC", "GET k")
    rig.turn()
    rig.consensus.follow()
    replies = a.got()
    assert replies[:4] == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED"]
    assert [str(r).split()[0] for r in replies[4:]] == ["UNKNOWN"] and a.closed


def test_an_entry_of_another_term_at_the_same_index_is_unknown() -> None:
    rig = Rig()
    a = rig.client()
    a.send("SET k 1")
    rig.turn()
    rig.consensus.entries[0].term += 1
    rig.consensus.commit()
    assert [str(r).split()[0] for r in a.got()] == ["UNKNOWN"]
    assert a.closed


def test_back_pressure_refuses_before_logging() -> None:
    rig = Rig(max_uncommitted_bytes="1mb")
    rig.engine.room_bytes = 1 << 20
    a = rig.client()
    # Alone it may be larger than what may wait, or it never could be written; behind another it may not.
    assert rig.ask(a, [b"SET", b"k", b"x" * (2 << 20)]) == [b"OK"]
    rig.consensus.uncommitted = 1
    last = rig.consensus.last
    a.send([b"SET", b"k", b"x" * (2 << 20)])
    (reply,) = a.got()
    assert str(reply).startswith("THROTTLED ") and rig.consensus.last == last
    rig.consensus.uncommitted = 0
    a.send("MULTI", [b"SET", b"k", b"x" * (2 << 20)], "EXEC")
    assert str(a.got()[-1]).startswith("THROTTLED ")
    b = rig.client()
    a.send([b"SET", b"j", b"x" * 600_000], [b"SET", b"k", b"x" * 600_000])
    b.send([b"SET", b"k", b"y" * 600_000])
    (refused,) = b.got()
    assert str(refused).startswith("THROTTLED ")
    rig.settle()
    # The one whose earlier request was accepted waited for its turn instead.
    assert a.got() == [b"OK", b"OK"] and rig.ask(b, "STRLEN k") == [600_000]
    rig.check_follower()


def test_a_defect_in_a_write_undoes_its_unit_and_the_node_goes_on() -> None:
    rig = Rig(table=table_with_crashers())
    a = rig.client()
    assert rig.ask(a, "SET k before", "BREAKHALFWAY k", "GET k") == [b"OK", "ERR internal error", b"before"]
    replies = rig.ask(a, "MULTI", "PUTOK k 2", "BREAKHALFWAY k", "PUTOK j 3", "BREAKREAD k", "BREAKLOCAL", "EXEC")
    assert replies[-1] == [b"OK", "ERR internal error", b"OK", "ERR internal error", "ERR internal error"]
    assert rig.ask(a, "GET k", "GET j", "BREAKREAD k", "BREAKLOCAL", "PING") == [
        b"2", b"3", "ERR internal error", "ERR internal error", b"PONG",
    ]  # fmt: skip
    assert sum(isinstance(e, InternalError) for e in rig.events.seen) == 6
    rig.check_follower()


def test_a_read_of_an_expired_key_waits_for_log_time_and_keeps_order() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SET k 1 PX 50", "SET j 2")
    rig.clock.now_ns += 60_000_000
    a.send("GET k")
    rig.prove()
    assert a.got() == []
    a.send("GET j", "SET j 3", "PING")
    rig.turn()
    rig.prove()
    assert a.got() == []
    rig.settle()
    assert a.got() == [None, b"2", b"OK", b"PONG"]
    # Log time is past the deadline now: nothing is gated any more.
    a.send("GET k")
    rig.prove()
    assert a.got() == [None]
    rig.check_follower()


@pytest.mark.parametrize("proven", [False, True])
def test_a_key_that_was_read_as_expired_stays_so_though_the_clock_is_set_back(proven: bool) -> None:
    rig = Rig()
    rig.consensus.lease = not proven
    rig.engine.serving_changed(False, not proven)
    a = rig.client()
    rig.ask(a, "SET k 1 PX 50")
    rig.clock.now_ns += 60_000_000
    # The disk is busy: the entry that carries the time has to wait.
    rig.consensus.busy = True
    a.send("GET k")
    rig.turn()
    rig.prove()
    assert a.got() == []
    wall_ms = rig.clock.wall_ms()
    rig.clock.wall_ms = lambda: wall_ms - 3_600_000  # type: ignore[method-assign]
    rig.consensus.busy = False
    rig.engine.turn_end()
    rig.settle()
    assert a.got() == [None]
    assert rig.ks.log_ms >= wall_ms
    assert rig.ask(a, "GET k") == [None]
    rig.check_follower()


def test_a_gated_reply_is_withheld_at_demotion() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    rig.ask(a, "SET k 1 PX 50")
    rig.clock.now_ns += 60_000_000
    a.send("GET k", "GET j")
    b.send("GET k")
    rig.prove()
    assert a.got() == b.got() == []
    rig.consensus.follow()
    assert len(a.got()) == 2 and len(b.got()) == 1
    assert a.session.pending == b.session.pending == a.session.gates == 0


def test_a_stale_read_of_an_expired_key_is_answered_on_a_follower() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SET k 1 PX 50")
    rig.consensus.follow()
    a.send("READONLY", "GET k")
    assert a.got() == [b"OK", b"1"]
    rig.clock.now_ns += 60_000_000
    a.send("GET k", "PING")
    assert a.got() == [None, b"PONG"]


def test_requests_wait_for_a_leader_from_the_loss_on_and_no_longer() -> None:
    rig = Rig(leading=False, election_timeout_ms="1000")
    a, b = rig.client(), rig.client()
    rig.consensus.follow(leader_id=0)
    a.send("SET k 1", "PING")
    rig.pass_ms(2000)
    # New terms without a leader do not begin the wait anew.
    rig.consensus.follow(leader_id=0)
    assert a.got() == []
    rig.pass_ms(1100)
    down, pong = a.got()
    assert str(down).startswith("CLUSTERDOWN ") and pong == b"PONG"
    b.send("GET k")
    (reply,) = b.got()
    assert str(reply).startswith("CLUSTERDOWN ")


def test_a_node_that_has_just_started_waits_for_its_first_leader() -> None:
    rig = Rig(leading=False)
    rig.engine.leader_id = 0
    rig.consensus.term = 0
    fresh = Rig(leading=False)
    a = fresh.client()
    fresh.consensus.follow(leader_id=0)
    a.send("SET k 1")
    assert a.got() == []
    fresh.consensus.lead()
    fresh.settle()
    assert a.got() == [b"OK"]


def test_pause_holds_writes_or_everything_and_lets_go() -> None:
    rig = Rig()
    a, b, admin = rig.client(), rig.client(), rig.client()
    rig.ask(admin, "CLIENT PAUSE 1000 WRITE")
    assert rig.ask(a, "GET k", "SET k 1", "GET k") == [None]
    assert rig.ask(b, "MULTI", "SET j 1", "EXEC", "PING") == [b"OK", b"QUEUED"]
    assert rig.ask(admin, "CLIENT UNPAUSE") == [b"OK"]
    rig.settle()
    assert a.got() == [b"OK", b"1"] and b.got() == [[b"OK"], b"PONG"]
    rig.ask(admin, "CLIENT PAUSE 500 ALL")
    assert rig.ask(a, "GET k", "PING") == []
    rig.pass_ms(600)
    rig.settle()
    assert a.got() == [b"1", b"PONG"]


@pytest.mark.parametrize("aof", [False, True])
def test_wait_answers_when_enough_replicas_synced_or_at_the_timeout(aof: bool) -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SET k 1")
    index = a.session.last_write_index
    ask = "WAITAOF 1 1 {}" if aof else "WAIT 1 {}"
    rig.consensus.replicas = {2: index - 1, 3: 0}
    a.send(ask.format(100), "PING")
    assert a.got() == []
    rig.pass_ms(150)
    assert a.got() == [[0, 0] if aof else 0, b"PONG"]
    a.send(ask.format(0))
    assert a.got() == []
    rig.consensus.replicas[2] = rig.consensus.durable = index
    rig.engine.wait_check()
    assert a.got() == [[1, 1] if aof else 1]
    a.send(ask.format(0).replace(" 1 0", " 2 0"))
    rig.consensus.follow()
    (reply,) = a.got()
    assert str(reply).startswith("UNBLOCKED ")


def test_wait_after_a_leader_change_covers_what_the_old_leader_acknowledged() -> None:
    rig = Rig(leading=False)
    a = rig.client()
    # A forwarded write was acknowledged by the old leader; this node's session knows no index of it.
    rig.consensus.last = 9
    rig.consensus.committed.extend([])
    rig.consensus.lead()
    rig.consensus.replicas = {2: rig.consensus.last, 3: 5}
    a.send("WAIT 2 50")
    rig.pass_ms(100)
    assert a.got() == [1]


def test_read_commands_on_a_follower_are_forwarded_once() -> None:
    rig = Rig(leading=False)
    a = rig.client()
    a.send("GET k", "SET k 1", "PING")
    assert [argv for _, argv in rig.forwarder.sent] == [[b"GET", b"k"], [b"SET", b"k", b"1"]]
    assert a.got() == []
    a.session.pending -= 1
    rig.engine.emit(a.session, b"$-1\r\n")
    a.session.pending -= 1
    rig.engine.emit(a.session, b"+OK\r\n")
    rig.engine.flush_output()
    assert a.got() == [None, b"OK", b"PONG"]
