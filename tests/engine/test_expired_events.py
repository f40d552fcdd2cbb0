"""A key's `expired` event is told once, when the unit that found it expired took effect; an undone unit tells none."""

from __future__ import annotations

import pytest

from tests.engine.rig import Client, Rig, table_with_crashers


def listening(rig: Rig) -> Client:
    rig.engine.settings.set_many([("notify-keyspace-events", "Ex")])
    rig.engine.set_notify()
    listener = rig.client()
    rig.ask(listener, "SUBSCRIBE __keyevent@0__:expired")
    return listener


def told(listener: Client) -> list[object]:
    return [message[2] for message in listener.got() if isinstance(message, list) and message[0] == b"message"]


@pytest.mark.parametrize(
    "failing", ["SINTERSTORE d gone text", "BREAKAFTER gone", "MULTI;SINTERSTORE d gone text;EXEC"]
)
def test_an_undone_unit_tells_of_no_expiry(failing: str) -> None:
    rig = Rig(table=table_with_crashers())
    listener = listening(rig)
    a = rig.client()
    rig.ask(a, "SADD gone 1", "SET text x", "PEXPIRE gone 50")
    rig.clock.now_ns += 60_000_000
    reply = rig.ask(a, *failing.split(";"))[-1]
    error = reply[0] if isinstance(reply, list) else reply
    assert str(error).split()[0] in {"WRONGTYPE", "ERR"}
    assert told(listener) == []
    assert rig.ks.expired_keys == 0
    assert rig.ask(a, "SINTERSTORE d gone") == [0]
    assert told(listener) == [b"gone"]
    assert rig.ks.expired_keys == 1
    rig.check_follower()


def test_a_commands_expiry_is_told_although_a_later_one_of_the_transaction_fails() -> None:
    rig = Rig()
    listener = listening(rig)
    a = rig.client()
    rig.ask(a, "SADD one 1", "SADD two 1", "SET text x", "PEXPIRE one 50", "PEXPIRE two 50")
    rig.clock.now_ns += 60_000_000
    rig.ask(a, "MULTI", "SADD one 2", "SINTERSTORE d two text", "EXEC")
    assert told(listener) == [b"one"]
    assert rig.ks.expired_keys == 1
