"""Parked stream readers: what wakes them, with what, and that every node keeps the same of them."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pytest

from tests.commands.reference_server import needs_newer, running
from tests.engine.rig import Client, Rig
from tests.engine.test_blocking_reference import Theirs
from tests.replication.test_forward import Pair

NO_GROUP = "NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
IN_GROUP = "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"


def entries(key: str, *found: str) -> list[Any]:
    """``entries("s", "1-0 f v", ...)``: the reply of a reader of one stream."""
    out = []
    for text in found:
        entry_id, *flat = text.encode().split()
        out.append([entry_id, flat])
    return [[[key.encode(), out]]]


def start(*commands: str) -> tuple[Rig, Client, Client]:
    """(rig, a client that waits, one that writes), after ``commands``."""
    rig = Rig()
    reader, writer = rig.client(), rig.client()
    for command in commands:
        rig.ask(writer, command)
    return rig, reader, writer


# -- XREAD ---------------------------------------------------------------------------------------------------------


def test_only_block_makes_a_read_an_entry_of_the_log() -> None:
    rig, reader, _ = start("XADD s 1 f v")
    before = rig.engine.applier.applied
    assert rig.ask(reader, "XREAD STREAMS s 0") == entries("s", "1-0 f v")
    assert rig.ask(reader, "XREAD COUNT 1 STREAMS s $") == [None]
    assert rig.engine.applier.applied == before
    assert rig.ask(reader, "xread block 0 STREAMS s 0") == entries("s", "1-0 f v")
    assert rig.engine.applier.applied == before + 1
    assert rig.ask(reader, "XREAD BLOCK x STREAMS s 0", "PING") == [
        "ERR timeout is not an integer or out of range", b"PONG"
    ]  # fmt: skip
    rig.check_follower()


def test_dollar_is_the_end_at_the_time_of_asking() -> None:
    rig, reader, writer = start("XADD b 5 old 1")
    assert rig.ask(reader, "XREAD BLOCK 20000 STREAMS a b c $ $ $") == []
    assert rig.engine.applier.sessions.waiters[next(iter(rig.engine.applier.sessions.waiters))].argv[-3:] == [
        b"0-0", b"5-0", b"0-0"
    ]  # fmt: skip
    rig.ask(writer, "XADD other 1 f v")
    assert reader.got() == []
    rig.ask(writer, "MULTI", "XADD b 6 f one", "XADD b 7 f two", "EXEC")
    assert reader.got() == entries("b", "6-0 f one", "7-0 f two")
    rig.check_follower()


def test_old_data_is_served_at_once_and_the_same_stream_twice() -> None:
    rig, reader, writer = start("XADD b 5 old 1")
    assert rig.ask(reader, "XREAD BLOCK 0 STREAMS a b $ 0-0") == entries("b", "5-0 old 1")
    assert rig.ask(reader, "XREAD BLOCK 0 STREAMS b b $ 1") == entries("b", "5-0 old 1")
    assert rig.ask(reader, "XREAD BLOCK 0 STREAMS b b $ $") == []
    rig.ask(writer, "XADD b 6 f v")
    assert reader.got() == [[[b"b", [[b"6-0", [b"f", b"v"]]]]] * 2]


def test_a_stream_that_ran_dry() -> None:
    rig, reader, writer = start("XADD s 666 f v", "XDEL s 666")
    assert rig.ask(reader, "XREAD BLOCK 10 STREAMS s 665") == []
    rig.pass_ms(20)
    rig.settle()
    assert reader.got() == [None]
    assert rig.ask(reader, "XREAD BLOCK 0 STREAMS s 665") == []
    assert "equal or smaller" in str(rig.ask(writer, "XADD s 666 f v")[0])
    rig.ask(writer, "XADD s 667 f v")
    assert reader.got() == entries("s", "667-0 f v")


def test_the_last_entry_of_a_stream_that_is_to_come() -> None:
    rig, reader, writer = start()
    assert rig.ask(reader, "XREAD BLOCK 20000 STREAMS s +") == []
    rig.ask(writer, "XADD s 1 f v")
    assert reader.got() == entries("s", "1-0 f v")
    assert rig.ask(reader, "XREAD BLOCK 20000 STREAMS s +") == entries("s", "1-0 f v")
    rig.check_follower()


def test_what_is_no_entry_does_not_wake_a_reader() -> None:
    rig, reader, writer = start("XADD s 1 f v")
    assert rig.ask(reader, "XREAD BLOCK 0 STREAMS s $") == []
    for commands in (
        ["XDEL s 1"], ["DEL s"], ["SET s x"], ["DEL s"], ["MULTI", "XADD s 5 f v", "DEL s", "EXEC"],
        ["MULTI", "XADD s 5 f v", "DEL s", "LPUSH s x", "EXEC"], ["DEL s"], ["XGROUP CREATE s g $ MKSTREAM"],
        ["XGROUP DESTROY s g"], ["FLUSHALL"], ["SWAPDB 0 1"],
    ):  # fmt: skip
        rig.ask(writer, *commands)
        assert reader.got() == []
    rig.ask(writer, "XADD s 6 f v")
    assert reader.got() == entries("s", "6-0 f v")
    rig.check_follower()


def test_waiting_is_impossible_inside_a_transaction() -> None:
    rig, reader, _ = start("XGROUP CREATE s g $ MKSTREAM")
    replies = rig.ask(reader, "MULTI", "XREAD BLOCK 0 STREAMS s $", IN_GROUP, "EXEC")
    assert replies[-1] == [None, None]
    assert rig.engine.applier.sessions.idle()
    rig.check_follower()


def test_readers_in_resp3_and_after_a_timeout() -> None:
    rig, reader, writer = start()
    rig.ask(reader, "HELLO 3")
    assert rig.ask(reader, "XREAD BLOCK 100 STREAMS s $") == []
    rig.pass_ms(150)
    rig.settle()
    assert reader.got() == [None]
    assert rig.ask(reader, "XREAD BLOCK 100 STREAMS s $") == []
    rig.ask(writer, "XADD s 1 f v")
    assert reader.got() == [{b"s": [[b"1-0", [b"f", b"v"]]]}]


def test_all_readers_get_an_entry_and_leave_nothing_behind() -> None:
    rig, first, writer = start()
    second = rig.client()
    rig.ask(first, "XREAD BLOCK 0 STREAMS s $")
    rig.ask(second, "XREAD BLOCK 0 STREAMS t s 0 0")
    rig.ask(writer, "XADD s 1 f v")
    assert first.got() == second.got() == entries("s", "1-0 f v")
    assert rig.engine.applier.sessions.idle()


# -- XREADGROUP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("commands", "reply"), [
    (["DEL s"], NO_GROUP),
    (["SET s val"], WRONGTYPE),
    (["MULTI", "DEL s", "SADD s e", "EXEC"], WRONGTYPE),
    (["FLUSHALL"], NO_GROUP),
    (["SWAPDB 0 1"], NO_GROUP),
    (["SELECT 1", "LPUSH s e", "SWAPDB 0 1"], WRONGTYPE),
    (["XGROUP DESTROY s g"], NO_GROUP),
    (["XADD t 100 f v", "RENAME t s"], NO_GROUP),
    (["PEXPIRE s 1"], None),
    (["XGROUP CREATE t g $ MKSTREAM", "XADD t 100 f v", "RENAME t s"], entries("s", "100-0 f v")[0]),
    (["MULTI", "DEL s", "XGROUP CREATE s g $ MKSTREAM", "EXEC"], None),
    (["XGROUP DESTROY s none", "XDEL s 666", "XTRIM s MAXLEN 0", "XGROUP CREATE s h 0"], None),
    (["XGROUP CREATE s h 0", "XGROUP DESTROY s h"], None),
])  # fmt: skip
def test_what_becomes_of_the_key_of_a_waiting_consumer(commands: list[str], reply: object) -> None:
    rig, reader, writer = start("XADD s 666 f v", "XGROUP CREATE s g $")
    assert rig.ask(reader, IN_GROUP) == []
    rig.ask(writer, *commands)
    assert reader.got() == ([] if reply is None else [reply])
    rig.check_follower()


def test_expiry_of_the_key_ends_the_wait_of_a_consumer() -> None:
    rig, reader, _ = start("XADD s 666 f v", "XGROUP CREATE s g $", "PEXPIRE s 50")
    assert rig.ask(reader, IN_GROUP) == []
    for _ in range(20):
        rig.pass_ms(100)
        rig.settle()
    assert reader.got() == [NO_GROUP]
    rig.check_follower()


def test_consumers_get_entries_in_the_order_they_came() -> None:
    rig, first, writer = start("XGROUP CREATE s g $ MKSTREAM")
    second = rig.client()
    rig.ask(first, "XREADGROUP GROUP g c COUNT 10 BLOCK 0 STREAMS s >")
    rig.ask(second, "XREADGROUP GROUP g d COUNT 10 BLOCK 1000 STREAMS s >")
    rig.ask(writer, "XADD s 1 f v")
    assert (first.got(), second.got()) == (entries("s", "1-0 f v"), [])
    # Being passed over does not begin the time to wait anew.
    rig.pass_ms(500)
    rig.ask(first, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >")
    rig.ask(writer, "XADD s 2 f v")
    assert (first.got(), second.got()) == ([], entries("s", "2-0 f v"))
    assert rig.ask(writer, "XPENDING s g") == [[2, b"1-0", b"2-0", [[b"c", b"1"], [b"d", b"1"]]]]
    rig.check_follower()


def test_the_deadline_outlives_a_wake_up_in_vain() -> None:
    rig, first, writer = start("XGROUP CREATE s g $ MKSTREAM")
    second = rig.client()
    rig.ask(first, IN_GROUP)
    rig.ask(second, "XREADGROUP GROUP g d BLOCK 1000 STREAMS s >")
    rig.pass_ms(900)
    rig.ask(writer, "XADD s 1 f v")
    assert (first.got(), second.got()) == (entries("s", "1-0 f v"), [])
    rig.pass_ms(110)
    rig.settle()
    assert second.got() == [None]
    rig.check_follower()


def test_history_never_waits() -> None:
    rig, reader, writer = start("XGROUP CREATE s g $ MKSTREAM", "XADD s 666 f v", "XDEL s 666")
    for after in ("0", "600", "666", "700"):
        assert rig.ask(reader, f"XREADGROUP GROUP g c BLOCK 0 STREAMS s {after}") == [[[b"s", []]]]
    rig.ask(writer, "XADD s 667 f v")
    assert rig.ask(reader, "XREADGROUP GROUP g c BLOCK 0 STREAMS s 0") == [[[b"s", []]]]
    assert rig.ask(reader, IN_GROUP) == entries("s", "667-0 f v")
    assert rig.ask(reader, "XREADGROUP GROUP g c BLOCK 0 STREAMS s 600") == entries("s", "667-0 f v")
    assert rig.ask(reader, "XREADGROUP GROUP g c BLOCK 0 STREAMS s 667") == [[[b"s", []]]]
    rig.ask(writer, "XACK s g 667")
    assert rig.ask(reader, "XREADGROUP GROUP g c BLOCK 0 STREAMS s 600") == [[[b"s", []]]]
    rig.check_follower()


def test_a_deleted_entry_is_nothing_to_serve() -> None:
    rig, reader, writer = start("XGROUP CREATE s g $ MKSTREAM", "XADD s 666 f v")
    assert rig.ask(reader, IN_GROUP) == entries("s", "666-0 f v")
    rig.ask(writer, "XADD s 667 f v", "XDEL s 667")
    assert rig.ask(reader, "XREADGROUP GROUP g c BLOCK 10 STREAMS s >") == []
    rig.pass_ms(20)
    rig.settle()
    assert reader.got() == [None]


def test_a_waiting_consumer_exists_and_a_list_reader_waits_on() -> None:
    rig, reader, writer = start()
    on_list = rig.client()
    rig.ask(on_list, "BLPOP s 0")
    rig.ask(writer, "XADD s 666 f v", "XGROUP CREATE s g $")
    assert rig.ask(reader, "XREADGROUP GROUP g Bob NOACK BLOCK 0 STREAMS s >") == []
    told: Any = rig.ask(writer, "XINFO CONSUMERS s g")
    assert told[0][0][1] == b"Bob"
    rig.ask(writer, "DEL s")
    assert reader.got() == [NO_GROUP]
    rig.ask(writer, "RPUSH s x")
    assert on_list.got() == [[b"s", b"x"]]
    rig.check_follower()


def test_idle_times_pass_without_writes() -> None:
    rig, reader, _ = start("XGROUP CREATE s g $ MKSTREAM", "XADD s 1 f v")
    rig.ask(reader, IN_GROUP)
    rig.pass_ms(5000)
    rows: Any = rig.ask(reader, "XPENDING s g - + 10", "XINFO CONSUMERS s g", "XPENDING s g IDLE 6000 - + 10")
    assert rows[0][0][0] == b"1-0" and rows[0][0][2] >= 5000
    assert rows[1][0][5] >= 5000 and rows[1][0][7] >= 5000
    assert rows[2] == []


def test_a_reader_of_a_group_that_was_watched_changes_nothing_watched() -> None:
    rig, reader, writer = start("XGROUP CREATE s g $ MKSTREAM", "XADD s 1 f v")
    rig.ask(reader, "WATCH s")
    rig.ask(writer, IN_GROUP, "XACK s g 1", "XGROUP SETID s g 0", "XSETID s 9")
    assert rig.ask(reader, "MULTI", "XLEN s", "EXEC")[-1] == [1]
    rig.ask(reader, "WATCH s")
    rig.ask(writer, "XADD s 10 f v")
    assert rig.ask(reader, "MULTI", "XLEN s", "EXEC")[-1] is None
    rig.check_follower()


def test_readers_on_a_follower_wait_at_the_leader() -> None:
    pair = Pair()
    a, other = pair.client(), pair.lead.client()
    pair.lead.ask(other, "XGROUP CREATE s g $ MKSTREAM")
    assert pair.ask(a, "XREAD STREAMS s 0", "XREAD BLOCK 0 STREAMS s $") == [None]
    assert a.session.blocked
    pair.lead.ask(other, "XADD s 1 f v")
    assert pair.ask(a) == entries("s", "1-0 f v")
    assert pair.ask(a, IN_GROUP) == entries("s", "1-0 f v") and pair.ask(a, IN_GROUP) == []
    pair.lead.ask(other, "DEL s")
    assert pair.ask(a) == [NO_GROUP]
    pair.ask(a, "XREAD BLOCK 0 STREAMS s $")
    a.disconnect()
    pair.to_lead(pair.home_turn())
    pair.lead.settle()
    assert pair.lead.engine.applier.sessions.idle()


def test_a_stale_read_on_a_follower_stays_there_unless_it_waits() -> None:
    pair = Pair()
    a = pair.client()
    forwarded = pair.home.engine.stats.forwarded
    assert pair.ask(a, "READONLY", "XREAD STREAMS s 0") == [b"OK", None]
    assert pair.home.engine.stats.forwarded == forwarded
    assert pair.ask(a, "XREAD BLOCK 0 STREAMS s 0") == []
    assert pair.home.engine.stats.forwarded == forwarded + 1


# -- everything at once --------------------------------------------------------------------------------------------

KEYS = ("a", "b", "c")


class Story:
    """Random commands with ids that only grow."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.ms = 0

    def plain(self) -> str:
        dice = self.dice
        k, j = dice.choice(KEYS), dice.choice(KEYS)
        self.ms += dice.randint(0, 2)
        return dice.choice([
            *[f"XADD {k} {self.ms}-* f {dice.randrange(9)}"] * 8,
            f"XADD {k} MAXLEN {dice.randint(0, 2)} {self.ms}-* f v",
            *[f"XGROUP CREATE {key} {g} $ MKSTREAM" for g in "gh" for key in (k, j)],
            f"XGROUP DESTROY {k} {dice.choice('gh')}", f"XDEL {k} {dice.randint(0, self.ms)}-0", f"DEL {k}",
            f"XTRIM {k} MAXLEN 1", f"SET {k} x", f"RENAME {k} {j}", f"COPY {k} {j} REPLACE", f"MOVE {k} 1",
            "SWAPDB 0 1", f"RPUSH {k} 1", f"XPENDING {k} g", f"XRANGE {k} - +", f"XINFO GROUPS {k}",
            f"XACK {k} g {self.ms}-0", f"XGROUP DELCONSUMER {k} g c1",
        ])  # fmt: skip

    def one(self) -> list[str]:
        if self.dice.random() < 0.2:
            return ["MULTI", *[self.plain() for _ in range(self.dice.randint(1, 4))], "EXEC"]
        return [self.plain()]

    def waiting(self) -> str:
        dice = self.dice
        k, j = dice.choice(KEYS), dice.choice(KEYS)
        count = dice.choice(("", "", "COUNT 1 "))
        return dice.choice([
            f"XREAD {count}BLOCK 0 STREAMS {k} {j} $ $", f"XREAD {count}BLOCK 0 STREAMS {k} +",
            f"XREAD {count}BLOCK 0 STREAMS {k} {self.ms}-0", f"BLPOP {k} 0",
            *[f"XREADGROUP GROUP {dice.choice('gh')} c{dice.randint(1, 3)} {count}BLOCK 0 STREAMS {k} >"] * 4,
            f"XREADGROUP GROUP g c1 NOACK BLOCK 0 STREAMS {k} {j} > >",
        ])  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("seed", range(16))
def test_everyone_gets_what_a_stock_server_gives(seed: int) -> None:
    dice = Random(seed)
    story = Story(dice)
    rig = Rig()
    with running() as connect:
        control = connect()
        needs_newer(control, "what clients that wait for streams get")
        mine = [rig.client() for _ in range(5)]
        theirs = [Theirs(connect()) for _ in range(5)]
        told: list[str] = []
        for _ in range(150):
            free = [n for n, client in enumerate(mine) if not client.session.blocked]
            n = dice.choice(free)
            for command in [story.waiting()] if len(free) > 1 and dice.random() < 0.5 else story.one():
                told.append(f"{n}: {command}")
                mine[n].send(command)
                rig.settle()
                theirs[n].send(command)
            time.sleep(0.002)
            control("PING")
            for who in range(5):
                ours = mine[who].got()
                other = theirs[who].got(len(ours))
                assert ours == other, "\n".join([*told[-40:], f"client {who}: {ours} instead of {other}"])
    rig.check_follower()
