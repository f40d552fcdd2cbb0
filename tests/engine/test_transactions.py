"""MULTI, EXEC and WATCH through the engine, and that nothing of a session stays behind in replicated state."""

from __future__ import annotations

import pytest

from tests.engine.rig import Rig


def gone(rig: Rig) -> bool:
    s = rig.engine.applier.sessions
    return not (s.watchers or s.watched_by or s.versions or s.waiters or s.waiting_on)


def test_exec_is_one_entry_and_each_error_undoes_its_own_command() -> None:
    rig = Rig()
    a = rig.client()
    entries = rig.consensus.last
    replies = rig.ask(a, "MULTI", "SET k 1", "LPUSH k x", "GET k", "PING", "INCR k", "EXEC")
    assert rig.consensus.last == entries + 1
    results = replies[-1]
    assert isinstance(results, list)
    assert str(results.pop(1)).startswith("WRONGTYPE")
    assert results == [b"OK", b"1", b"PONG", 2]
    rig.check_follower()


@pytest.mark.parametrize(("change", "broken"), [
    ("SET k 2", True), ("DEL k", True), ("EXPIRE k 100", True), ("FLUSHALL", True), ("GET k", False),
    ("SET other 1", False), ("DEL nosuch", False),
])  # fmt: skip
def test_watch(change: str, broken: bool) -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    rig.ask(b, "SET k 1")
    rig.ask(a, "WATCH k")
    rig.ask(b, change)
    assert rig.ask(a, "MULTI", "SET mine 1", "EXEC")[-1] == (None if broken else [b"OK"])
    assert gone(rig)
    rig.check_follower()


def test_changes_in_the_same_entry_are_ordered_by_the_unit() -> None:
    rig = Rig()
    a, b, c = rig.client(), rig.client(), rig.client()
    b.send("SET k 1")
    a.send("WATCH k")
    rig.settle()
    assert a.got() == [b"OK"] and b.got() == [b"OK"]
    assert rig.ask(a, "MULTI", "PING", "EXEC")[-1] == [b"PONG"]
    a.send("WATCH k")
    c.send("WATCH k")
    b.send("SET k 2")
    rig.settle()
    assert a.got() == [b"OK"]
    c.send("MULTI", "SET won 1")
    a.send("MULTI", "SET won 1")
    rig.settle()
    a.send("EXEC")
    b.send("SET k 3")
    c.send("EXEC")
    rig.settle()
    assert a.got()[-1] is None and c.got()[-1] is None
    rig.check_follower()


def test_the_first_exec_of_an_entry_wins_and_breaks_the_second() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    for client in (a, b):
        rig.ask(client, "WATCH k", "MULTI", "INCR k")
    a.send("EXEC")
    b.send("EXEC")
    rig.settle()
    assert a.got()[-1] == [1] and b.got()[-1] is None
    assert gone(rig)
    rig.check_follower()


def test_a_watched_key_that_expires_breaks_the_transaction_and_an_expired_one_does_not() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    rig.ask(b, "SET k 1 PX 50", "SET dead 1 PX 10")
    rig.clock.now_ns += 20_000_000
    rig.ask(a, "WATCH dead", "WATCH k")
    rig.clock.now_ns += 60_000_000
    assert rig.ask(a, "MULTI", "SET x 1", "EXEC")[-1] is None
    rig.ask(b, "SET dead 1 PX 10")
    rig.clock.now_ns += 20_000_000
    rig.ask(a, "WATCH dead")
    assert rig.ask(a, "MULTI", "SET x 1", "EXEC")[-1] == [b"OK"]
    rig.check_follower()


@pytest.mark.parametrize("end", ["UNWATCH", "MULTI;DISCARD", "MULTI;EXEC", "MULTI;NOSUCH;EXEC", "RESET", "disconnect"])
def test_every_end_of_a_watch_leaves_nothing(end: str) -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "WATCH k j", "SELECT 1", "WATCH k")
    if end == "disconnect":
        a.disconnect()
        rig.settle()
    else:
        rig.ask(a, *end.split(";"))
    assert gone(rig)
    rig.check_follower()


def test_a_watch_whose_client_left_before_it_was_applied_leaves_nothing() -> None:
    rig = Rig()
    a = rig.client()
    a.send("WATCH k")
    rig.turn()
    a.disconnect()
    rig.settle()
    assert gone(rig)


def test_a_refused_exec_leaves_nothing() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "WATCH k", "MULTI", "SET k 1")
    rig.consensus.dropped = "THROTTLED too much"
    assert rig.ask(a, "EXEC") == ["THROTTLED too much"]
    rig.consensus.dropped = ""
    rig.pass_ms(200)
    rig.settle()
    assert gone(rig)


def test_watches_do_not_survive_a_leader_change() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "WATCH k")
    rig.consensus.follow()
    rig.consensus.lead()
    rig.ask(a, "WATCH j")
    assert rig.ask(a, "MULTI", "SET k 1", "EXEC")[-1] is None
    assert rig.ask(a, "MULTI", "SET k 1", "EXEC")[-1] == [b"OK"]
    assert gone(rig)


def test_a_local_command_in_a_transaction_sees_the_keyspace_as_a_reader() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SET k 1 PX 10")
    rig.clock.now_ns += 20_000_000
    rig.ask(a, "MULTI", "MEMORY USAGE k", "DEBUG OBJECT k", "INFO keyspace", "EXEC")
    rig.check_follower()


def test_wait_in_a_transaction_answers_inside_it() -> None:
    rig = Rig()
    a = rig.client()
    replies = rig.ask(a, "MULTI", "SET k 1", "WAIT 1 100", "WAITAOF 1 0 100", "EXEC", "PING")
    rig.pass_ms(300)
    replies += a.got()
    assert replies == [b"OK", b"QUEUED", b"QUEUED", b"QUEUED", [b"OK", 0, [0, 0]], b"PONG"]


def test_watched_keys_on_a_follower_travel_with_the_transaction() -> None:
    rig = Rig(leading=False)
    a = rig.client()
    a.send("WATCH k")
    (sent,) = rig.forwarder.sent
    assert sent[1] == [b"WATCH", b"k"]
    a.session.pending -= 1
    rig.engine.emit(a.session, b"+OK\r\n")
    a.send("MULTI", "SET k 1", "EXEC")
    ((_, commands, watching),) = rig.forwarder.transactions
    assert commands == [[b"SET", b"k", b"1"]] and watching
    a.session.pending -= 1
    assert a.session.blocked, "what follows waits: the transaction may have changed the database"
    a.session.blocked = False
    rig.engine.emit(a.session, b"*-1\r\n")
    a.send("MULTI", "SET k 1", "EXEC")
    assert not rig.forwarder.transactions[-1][2]
