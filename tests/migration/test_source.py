"""The replicated state of an import, and how items are applied: in order, once, and as a replica would."""

from __future__ import annotations

import pytest

from durakv.engine import source as states
from durakv.engine.apply import Applier
from durakv.engine.batch import ITEM_IMPORT, Item, Part
from durakv.engine.ending import end_all
from durakv.engine.outcome import Outcome
from durakv.engine.scripts import attach
from durakv.engine.source import READONLY, Source
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from tests.engine.rig import Err, Rig, sessions_of

ID = b"a" * 40


def item(rig: Rig, verb: bytes, seq: int, *rest: bytes, commands: str = "", generation: int = 1, db: int = 0) -> None:
    """Propose one import item and commit it."""
    rig.turn()
    it = Item(ITEM_IMPORT, None, None, [verb, b"%d" % generation, b"%d" % seq, *rest], 0, 0, 0)
    it.parts = [Part(rig.table.find(c.encode().split()), c.encode().split(), db) for c in commands.split(";") if c]
    rig.engine.internal(it)
    rig.settle()


def position(offset: int, db: int = 0) -> tuple[bytes, bytes, bytes]:
    return (ID, b"%d" % offset, b"%d" % db)


def followed(rig: Rig) -> Source:
    """Order an import and bring it to its stream."""
    client = rig.client()
    assert rig.ask(client, "REPLICAOF 10.0.0.9 6379") == [b"OK"]
    item(rig, states.BEGIN, 0, commands="FLUSHALL")
    item(rig, states.DONE, 1, *position(100))
    assert rig.ks.source is not None
    return rig.ks.source


def check(rig: Rig) -> None:
    """Another node that replays the log comes to the same state."""
    ks = Keyspace(4)
    ks.source = Source(ks)
    other = Applier(ks, rig.table, Outcome())
    ks.source.on_follow = lambda: end_all(other, b"UNBLOCKED x")
    attach(other, rig.table, rig.engine.acl.index)
    for entry in rig.consensus.committed:
        if entry.kind == 0:
            other.apply_payload(entry.index, entry.data)
        else:
            other.new_leader(entry.index)
    assert digest(ks) == digest(rig.ks)
    assert sessions_of(other) == sessions_of(rig.engine.applier)
    assert ks.source is not None
    assert rig.ks.source is not None
    assert ks.source.to_bytes() == rig.ks.source.to_bytes()


def test_an_item_that_is_not_the_next_one_changes_nothing() -> None:
    rig = Rig()
    source = followed(rig)
    item(rig, states.FEED, 2, *position(110), commands="INCR n;RPUSH l a")
    for generation, seq in ((1, 2), (1, 4), (0, 3), (2, 3)):
        item(rig, states.FEED, seq, *position(120), commands="INCR n", generation=generation)
    assert (source.offset, source.seq, source.ignored) == (110, 3, 4)
    item(rig, states.FEED, 3, *position(120, 1), commands="INCR n", db=1)
    assert (source.offset, source.db) == (120, 1)
    client = rig.client()
    assert rig.ask(client, "GET n", "LRANGE l 0 -1") == [b"1", [b"a"]]
    check(rig)


def test_clients_write_nothing_meanwhile_and_read_what_is_whole() -> None:
    rig = Rig()
    client, waiter = rig.client(), rig.client()
    rig.ask(client, "SET mine 1", "SET other 2")
    waiter.send("BLPOP queue 0")
    rig.settle()
    assert rig.ask(client, "REPLICAOF 10.0.0.9 6379") == [b"OK"]
    assert str(waiter.got()[0]).startswith("UNBLOCKED ")
    assert rig.ask(client, "SET mine 2", "GET mine", "EVAL return(1) 0", "BLPOP queue 0") == [
        Err(READONLY), b"1", 1, Err(READONLY),
    ]  # fmt: skip
    assert str(rig.ask(client, [b"EVAL", b"return redis.call('SET', 'mine', 3)", b"0"])[0]).startswith("READONLY ")
    assert str(rig.ask(client, "PSYNC ? -1")[0]).startswith("NOMASTERLINK ")
    assert rig.ask(client, "MULTI", "GET mine", "SET mine 2", "EXEC")[2:] == [
        Err(READONLY), Err("EXECABORT Transaction discarded because of previous errors."),
    ]  # fmt: skip
    item(rig, states.BEGIN, 0, commands="FLUSHALL")
    assert str(rig.ask(client, "GET mine", "PING")[0]).startswith("LOADING ")
    item(rig, states.LOAD, 1, commands="SET theirs 1")
    item(rig, states.DONE, 2, *position(100))
    assert rig.ask(client, "GET mine", "GET theirs", "REPLICAOF 10.0.0.9 6379") == [
        None, b"1", b"OK Already connected to specified master",
    ]  # fmt: skip
    assert rig.ask(client, "REPLICAOF NO ONE", "SET mine 4", "GET theirs") == [b"OK", b"OK", b"1"]
    check(rig)


def test_a_write_that_was_on_its_way_when_the_order_came_is_refused_in_the_log() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.send("REPLICAOF 10.0.0.9 6379")
    other.send("SET a 1", "INCR b")
    rig.settle()
    assert client.got() == [b"OK"]
    assert other.got() == [Err(READONLY), Err(READONLY)]
    check(rig)


def test_the_source_alone_decides_when_keys_go() -> None:
    rig = Rig()
    source = followed(rig)
    now_ms = rig.clock.wall_ms()
    soon = now_ms + 50
    commands = f"SET a 1 PXAT {soon};HSET h f 1 g 1;HPEXPIREAT h {soon} FIELDS 1 f"
    item(rig, states.FEED, 2, *position(110), commands=commands)
    client = rig.client()
    assert rig.ask(client, "GET a", "HLEN h") == [b"1", 2]
    rig.pass_ms(500)
    # Hidden from readers as on a replica, also from those in the log, and still there.
    assert rig.ask(client, "GET a", "HGET h f", "WATCH a") == [None, None, b"OK"]
    assert rig.ks.dbs[0].peek(b"a") is not None
    # Sent before the deadlines, come late.
    commands = "INCR a;PERSIST a;HPERSIST h FIELDS 1 f;SET late 1 PXAT 5;PERSIST late"
    item(rig, states.FEED, 3, *position(120), commands=commands)
    assert rig.ask(client, "GET a", "HGET h f", "GET late", "TTL late") == [b"2", b"1", b"1", -1]
    item(rig, states.FEED, 4, *position(130), commands=f"PEXPIREAT a {now_ms - 5}")
    rig.pass_ms(1000)
    assert rig.ks.dbs[0].peek(b"a") is not None
    assert rig.ask(client, "REPLICAOF NO ONE") == [b"OK"]
    rig.pass_ms(500)
    rig.settle()
    assert rig.ks.dbs[0].peek(b"a") is None
    assert source.errors == 0
    check(rig)


def test_readers_that_wait_hear_of_what_the_source_adds() -> None:
    rig = Rig()
    followed(rig)
    client = rig.client()
    client.send("XREAD BLOCK 0 STREAMS x 0")
    rig.settle()
    assert client.got() == []
    item(rig, states.FEED, 2, *position(110), commands="XADD x 1-1 f v")
    assert client.got() == [[[b"x", [[b"1-1", [b"f", b"v"]]]]]]
    check(rig)


def test_a_command_that_fails_here_is_counted_and_told() -> None:
    rig = Rig()
    source = followed(rig)
    item(rig, states.FEED, 2, *position(110), commands="SET a x;INCR a;SET b 1")
    assert source.errors == 1
    assert source.last_error == b"incr: ERR value is not an integer or out of range"
    assert rig.ks.dbs[0].peek(b"b") == b"1"
    check(rig)


def test_half_a_copy_is_nobodys_data() -> None:
    rig = Rig()
    client = rig.client()
    rig.ask(client, "REPLICAOF 10.0.0.9 6379")
    item(rig, states.BEGIN, 0, commands="FLUSHALL")
    item(rig, states.LOAD, 1, commands="SET a 1")
    item(rig, states.STOP, 2, b"too odd")
    assert "too odd" in str(rig.ask(client, "GET a")[0])
    assert rig.ask(client, "REPLICAOF NO ONE", "DBSIZE", "SET a 2") == [b"OK", 0, b"OK"]
    check(rig)


def test_another_source_may_go_on_where_the_first_was() -> None:
    rig = Rig()
    source = followed(rig)
    client = rig.client()
    assert rig.ask(client, "REPLICAOF 10.0.0.10 6379") == [b"OK"]
    assert (source.phase, source.replid, source.offset, source.generation) == (states.ASKED, ID, 100, 2)
    item(rig, states.FEED, 2, *position(110), commands="SET a 1")
    assert source.ignored == 1
    item(rig, states.FEED, 0, *position(110), commands="SET a 1", generation=2)
    assert source.phase == states.STREAMING
    assert rig.ask(client, "REPLICAOF NO ONE", "REPLICAOF 10.0.0.9 6379") == [b"OK", b"OK"]
    assert source.replid == b""
    check(rig)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ("REPLICAOF host 65536", "ERR Invalid master port"),
        ("REPLICAOF host x", "ERR Invalid master port"),
        ("REPLICAOF bad..host 1", "ERR Invalid master host: give a name or an address, or NO ONE"),
        ("SLAVEOF NO TWO", "ERR Invalid master port"),
    ],
)
def test_orders_that_make_no_sense_are_not_logged(order: str, error: str) -> None:
    rig = Rig()
    before = len(rig.consensus.committed)
    assert rig.ask(rig.client(), order) == [Err(error)]
    assert len(rig.consensus.committed) == before


def test_an_order_in_a_transaction_that_is_undone_is_undone() -> None:
    ks = Keyspace(1)
    source = Source(ks)
    ks.source = source
    source.follow(b"h", 1)
    before = source.to_bytes()
    from durakv.keyspace import journal

    journal.steps.clear()
    source.leave()
    assert not ks.following
    journal.roll_back()
    assert source.to_bytes() == before
    assert ks.following
    assert ks.read_only


def test_the_state_survives_a_checkpoint() -> None:
    rig = Rig()
    source = followed(rig)
    item(rig, states.FEED, 2, *position(110, 3), commands="SET a x;INCR a")
    item(rig, states.STOP, 3, "höhere Gewalt: 1\n2".encode())
    ks = Keyspace(1)
    other = Source(ks)
    other.from_bytes(source.to_bytes())
    assert other.to_bytes() == source.to_bytes()
    assert (other.host, other.port, other.replid, other.offset, other.db) == (b"10.0.0.9", 6379, ID, 110, 3)
    assert ks.following
    for bad in (b"", b"2 0 0 0 0 0 0 0 0\n", source.to_bytes() + b"x:", b"1 9 0 0 0 0 0 0 y\n0:0:0:0:"):
        with pytest.raises(ValueError, match="live import"):
            other.from_bytes(bad)
    fresh = Source(Keyspace(1))
    assert fresh.canonical() == b""
