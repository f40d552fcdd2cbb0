"""Slots that move: units of the log are judged by replicated state alone, and clients wait or are sent on."""

from __future__ import annotations

from typing import Any

import pytest

from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.resume import follow
from durakv.cluster.handoff import entries
from durakv.engine.apply import Applier
from durakv.engine.batch import ITEM_EVICT, ITEM_HANDOFF, ITEM_SWEEP, Item
from durakv.engine.beside import Beside
from durakv.engine.moving import LAZY
from durakv.engine.outcome import Outcome, UnknownFormat
from durakv.keyspace import journal
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from tests.engine.pair import BESIDE, HERE, THERE, Pair
from tests.engine.rig import TABLE, Client, Err, Rig

MID = b"ab" * 20
RUNS = ((0, 0, 1),)
TRYAGAIN = Err("TRYAGAIN slot 0 is on its way to another group; send it again")
MOVED = Err("MOVED 0 10.0.0.2:7002")


def propose(rig: Rig, *items: list[bytes]) -> None:
    for argv in items:
        rig.engine.internal(Item(ITEM_HANDOFF, None, None, argv, 0, 0, 0))


def fenced() -> Rig:
    """Slot 0 is fenced by the log, and nobody here knew beforehand; every command was admitted."""
    rig = Pair().source
    client = rig.client()
    assert rig.ask(client, f"SET {HERE}a 1", f"RPUSH {HERE}l x", f"SET {HERE}t x PX 50") == [b"OK", 1, b"OK"]
    propose(rig, entries.export_begin(MID, 2, RUNS))
    rig.settle()
    rig.engine.places.handoff.retire()
    return rig


def fence(rig: Rig) -> None:
    """As the next item of the entry that is gathering."""
    propose(rig, entries.fence(MID, (1, 1)))


@pytest.mark.parametrize(
    "command",
    [
        f"SET {HERE}a 2", f"DEL {HERE}a", f"LPUSH {HERE}l y", f"BLPOP {HERE}none 0",
        f"WATCH {HERE}a", f"EVAL return#redis.call('SET',KEYS[1],'x') 1 {HERE}a", "CLUSTER FLUSHSLOT 0",
        f"EXPIRE {HERE}a 10", f"XREAD BLOCK 0 STREAMS {HERE}s 0",
    ],
)  # fmt: skip
def test_a_unit_behind_the_fence_changes_nothing(command: str) -> None:
    rig = fenced()
    before = digest(rig.ks).hex()
    client = rig.client()
    fence(rig)
    client.send([word.replace("#", " ").encode() for word in command.split()])
    rig.commit()
    assert client.got() == [TRYAGAIN]
    assert digest(rig.ks).hex() != before, "the fence itself is part of the state"
    rig.check_follower()
    assert rig.ks.dbs[0].peek(f"{HERE}a".encode()) == b"1"
    assert not rig.engine.applier.sessions.waiters
    assert not rig.engine.applier.sessions.watchers


def test_a_unit_before_the_fence_runs_and_a_read_behind_it_does_not() -> None:
    rig = fenced()
    client = rig.client()
    client.send(f"SET {HERE}a 2")
    fence(rig)
    client.send(f"GET {HERE}a")
    rig.commit()
    assert client.got() == [b"OK", TRYAGAIN]
    rig.check_follower()


def test_flushes_are_refused_behind_a_fence_and_whole_transactions_are() -> None:
    rig = fenced()
    client, other = rig.client(), rig.client()
    assert rig.ask(other, "MULTI", f"SET {BESIDE}b 1") == [b"OK", b"QUEUED"]
    assert rig.ask(client, "MULTI", f"SET {HERE}a 2", f"GET {HERE}a") == [b"OK", b"QUEUED", b"QUEUED"]
    fence(rig)
    client.send("EXEC")
    other.send("EXEC")
    third = rig.client()
    third.send("FLUSHALL")
    rig.commit()
    assert client.got() == [TRYAGAIN]
    assert other.got() == [[b"OK"]]
    (refusal,) = third.got()
    assert isinstance(refusal, Err)
    assert refusal.startswith("TRYAGAIN slots of this group are on their way")
    assert rig.ks.dbs[0].peek(f"{HERE}a".encode()) == b"1"
    rig.check_follower()


def test_scripts_may_not_touch_what_they_do_not_name() -> None:
    rig = fenced()
    client = rig.client()
    fence(rig)
    for body in (f"return redis.pcall('SET','{HERE}a','x')", "return redis.pcall('FLUSHALL')",
                 f"redis.pcall('SET','{THERE}a','x') return 1"):  # fmt: skip
        client.send([b"EVAL", body.encode(), b"0"])
    rig.commit()
    foreign, flush, done = client.got()
    assert foreign == Err("ERR Script attempted to access a non local key in a cluster node")
    assert isinstance(flush, Err)
    assert flush.startswith("TRYAGAIN")
    assert done == 1
    assert rig.ks.dbs[0].peek(f"{HERE}a".encode()) == b"1"
    assert rig.ks.dbs[0].peek(f"{THERE}a".encode()) is None
    rig.check_follower()


def test_nothing_fenced_expires_or_is_evicted() -> None:
    rig = fenced()
    client = rig.client()
    rig.ask(client, f"SET {BESIDE}a 1", f"SET {BESIDE}t x PX 50")
    fence(rig)
    rig.settle()
    rig.clock.advance(1000)
    for tag in (HERE, BESIDE):
        rig.engine.internal(Item(ITEM_SWEEP, None, None, [f"{tag}t".encode()], 0, 0, 0))
        rig.engine.internal(Item(ITEM_EVICT, None, None, [f"{tag}a".encode()], 0, 0, 0))
    rig.settle()
    db = rig.ks.dbs[0]
    kept = [db.peek(f"{tag}{name}".encode()) is not None for tag in (HERE, BESIDE) for name in "at"]
    assert kept == [True, True, False, False]
    rig.check_follower()


def test_whoever_watches_or_waits_is_sent_to_the_next_owner() -> None:
    rig = fenced()
    waiting, watching = rig.client(), rig.client()
    rig.ask(waiting, f"BLPOP {HERE}w 0")
    rig.ask(watching, f"WATCH {HERE}a")
    fence(rig)
    rig.settle()
    assert waiting.got() == []
    propose(rig, entries.release(MID))
    rig.settle()
    assert waiting.got() == [MOVED]
    assert not rig.engine.applier.sessions.waiters
    assert rig.ks.dbs[0].size == 0
    assert rig.ask(watching, "MULTI", "PING", "EXEC")[-1] == MOVED
    assert rig.ask(watching, f"GET {HERE}a") == [MOVED]
    rig.check_follower()
    assert not rig.engine.moving.free(1000)
    assert not rig.engine.places.handoff.staging.dropped


def test_an_item_nobody_knows_stops_the_node() -> None:
    rig = Pair().source
    propose(rig, [b"teleport", MID])
    with pytest.raises(UnknownFormat, match="moves slots in a way this build does not know"):
        rig.settle()


def test_a_group_that_owns_everything_is_not_judged_and_keeps_its_digest() -> None:
    rig = Rig()
    assert not rig.ks.guarded
    with_state = digest(rig.ks)
    rig.ks.handoff = None
    assert digest(rig.ks) == with_state


# -- between two groups -----------------------------------------------------------------------------------------------


def test_slots_move_with_all_they_hold_and_back_pressure_waits() -> None:
    pair = Pair()
    source, target = pair.source, pair.target
    writer = source.client()
    source.ask(writer, f"SET {HERE}a 1", f"XADD {HERE}s 1-1 f v", f"XGROUP CREATE {HERE}s g 0", f"SET {BESIDE}b 2",
               f"HSET {HERE}h f v")  # fmt: skip
    asker = pair.order()
    asked: list[Client] = []
    for _ in range(400):
        client = source.client()
        # Groups of streams change as well, without a change of the key.
        client.send(f"INCR {HERE}n", f"XREADGROUP GROUP g c COUNT 1 STREAMS {HERE}s >")
        asked.append(client)
        pair.step()
        if not source.engine.places.handoff.claims(0):
            break
    late = source.client()
    late.send(f"INCR {HERE}n", f"GET {HERE}n")
    asked.append(late)
    pair.run()
    assert asker.got() == [b"OK"]
    done = moved = 0
    for client in asked:
        first, second = client.got()
        if first == MOVED:
            moved += 1
            assert second == MOVED
        else:
            done += 1
            assert first == done
    assert done > 0
    assert moved > 0
    reader = target.client()
    assert target.ask(reader, f"GET {HERE}n", f"GET {HERE}a", f"GET {BESIDE}b", f"HGET {HERE}h f") == [
        b"%d" % done, b"1", b"2", b"v",
    ]  # fmt: skip
    assert target.ask(reader, f"XPENDING {HERE}s g")[0][0] == 1  # type: ignore[index]
    assert source.ks.dbs[0].size == 0
    assert target.ks.dbs[0].size == 5
    assert target.engine.places.handoff.state.epochs[0] == 2
    pair.check_followers()
    rows: Any = target.ask(reader, "CLUSTER GETSLOTMIGRATIONS")[0]
    (row,) = rows
    assert row[row.index(b"state") + 1] == b"success"


def until_fenced(pair: Pair) -> None:
    """The source is fenced, and the target has not decided, for nothing reaches it any more."""
    for _ in range(400):
        for rig in pair.sides.values():
            rig.settle()
        if not pair.source.engine.places.state.serves[0]:
            return
        pair.deliver()
        for rig in pair.sides.values():
            rig.settle()
            rig.pass_ms(5)
    raise AssertionError("there is no fence")


def test_commands_on_fenced_slots_wait_and_then_run_where_the_slot_is() -> None:
    pair = Pair()
    source = pair.source
    source.ask(source.client(), f"SET {HERE}a 1")
    pair.order()
    until_fenced(pair)
    reading, pipelined, whole, transaction = (source.client() for _ in range(4))
    source.ask(reading, f"GET {HERE}a")
    source.ask(pipelined, "SET {3560}x 1", f"SET {HERE}b 1", "PING")
    source.ask(whole, "FLUSHALL")
    source.ask(transaction, "MULTI", "PING")
    assert transaction.got() == []
    assert reading.got() == []
    assert whole.got() == []
    assert len(source.engine.moving.parked) == 3
    pair.run()
    assert reading.got() == [MOVED]
    assert pipelined.got()[-2:] == [MOVED, b"PONG"]
    assert whole.got() == [b"OK"]
    pair.check_followers()


def test_a_decision_against_it_lets_them_go_on_here() -> None:
    pair = Pair()
    source = pair.source
    source.ask(source.client(), f"SET {HERE}a 1")
    pair.order()
    until_fenced(pair)
    reading = source.client()
    source.ask(reading, f"GET {HERE}a", f"INCR {HERE}a")
    pair.sent.clear()
    # Nothing of the stream's end arrives, and the operator wants no more of it.
    canceller = source.client()
    canceller.send("CLUSTER CANCELSLOTMIGRATIONS")
    pair.target.ask(pair.target.client(), "FLUSHALL")
    pair.run()
    assert canceller.got() == [b"OK"]
    assert reading.got() == [b"1", 2]
    assert source.engine.places.serves[0]
    assert not pair.target.engine.places.serves[0]
    # What comes late for it makes it no job again.
    target = pair.target
    (record,) = target.engine.places.state.finished.values()
    propose(target, entries.abort(record.mid, 1, record.order, record.runs, b"late"))
    target.settle()
    assert target.ask(target.client(), "CLUSTER GETSLOTMIGRATIONS")[0][0][17] == b"failed"  # type: ignore[index]
    pair.check_followers()


def test_whoever_waits_too_long_is_refused() -> None:
    pair = Pair(handoff_park_limit_ms="300")
    source = pair.source
    pair.order()
    until_fenced(pair)
    client, other = source.client(), source.client()
    source.ask(client, f"GET {HERE}a", "PING")
    source.ask(other, f"GET {HERE}a")
    other.disconnect()
    for _ in range(10):
        source.pass_ms(50)
    assert client.got() == [Err("CLUSTERDOWN Hash slot not served"), b"PONG"]
    assert not source.engine.moving.parked


def test_when_to_fence_and_when_to_slow_writers_down_can_be_set_while_slots_move() -> None:
    pair = Pair(handoff_max_pause_ms="70")
    source = pair.source
    limits = source.engine.places.handoff.limits
    pair.order()
    pair.step()
    assert (limits.pause_ms_max, limits.throttle_after_ms) == (70, 5000)
    client = source.client()
    assert source.ask(client, "CONFIG SET handoff-max-pause-ms 30 handoff-throttle-after-ms 900") == [b"OK"]
    pair.step()
    assert (limits.pause_ms_max, limits.throttle_after_ms) == (30, 900)
    pair.run()
    pair.check_followers()


def test_a_leader_that_is_deposed_lets_go_of_who_waits() -> None:
    pair = Pair()
    source = pair.source
    pair.order()
    until_fenced(pair)
    client = source.client()
    source.ask(client, f"GET {HERE}a")
    source.consensus.follow()
    source.turn()
    assert client.got() == [Err("CLUSTERDOWN The cluster is down")]
    assert not source.engine.places.handoff.listens()
    source.consensus.lead()
    source.ask(client, f"GET {HERE}a")
    assert client.got() == []
    pair.run()
    assert client.got() == [MOVED]


def test_flushing_either_side_under_way_loses_nothing_that_came_later() -> None:
    pair = Pair()
    source = pair.source
    client = source.client()
    source.ask(client, f"SET {HERE}old 1")
    pair.order()
    pair.step()
    assert source.ask(client, "MULTI", "FLUSHALL", f"SET {HERE}new 1", "EXEC")[-1] == [b"OK", b"OK"]
    pair.run()
    reader = pair.target.client()
    assert pair.target.ask(reader, f"GET {HERE}new", f"GET {HERE}old") == [b"1", None]
    pair.check_followers()


def test_waiting_for_replicas_counts_what_came_with_a_slot() -> None:
    pair = Pair()
    source, target = pair.source, pair.target
    source.ask(source.client(), f"SET {HERE}a 1")
    pair.order()
    pair.run()
    index = target.engine.moving.gained_index
    assert index == max(entry.index for entry in target.consensus.committed if b"activate" in entry.data)
    # One node has all of it, the other the last thing before it.
    target.consensus.replicas = {2: index, 3: index - 1}
    client = target.client()
    assert target.ask(client, "WAIT 1 0") == [1]
    target.ask(client, "WAIT 2 0")
    assert client.got() == []
    target.consensus.replicas[3] = index
    target.engine.wait_check()
    target.settle()
    assert client.got() == [2]


def test_flushing_one_database_does_not_begin_the_others_anew() -> None:
    pair = Pair(cluster_databases="2")
    source, handoff = pair.source, pair.source.engine.places.handoff
    limits = handoff.limits
    limits.batch_bytes = limits.turn_bytes = 500
    limits.window_bytes = 1000
    client, other = source.client(), source.client()
    source.ask(other, "SELECT 1")
    source.ask(client, *[f"SET {HERE}{n} {n}" for n in range(200)])
    source.ask(other, *[f"SET {HERE}{n} {n}" for n in range(100)])
    pair.order()
    driver = None
    for _ in range(100):
        pair.step()
        driver = next(iter(handoff.exports.drivers.values()), None)
        if driver is not None and driver.stream.visited(0, 1, b"{06S}99"):
            break
    assert driver is not None
    assert source.ask(other, "MULTI", "FLUSHDB", f"SET {HERE}new 1", "EXEC")[-1] == [b"OK", b"OK"]
    assert next(iter(handoff.exports.drivers.values())) is driver, "its session goes on"
    # One key that is new, and none of those that went with the database.
    assert driver.stream.backlog_bytes() <= 2 * driver.stream.op_bytes
    assert source.ks.emptied == []
    pair.run()
    (record,) = pair.target.engine.places.state.finished.values()
    assert record.keys == 201
    reader = pair.target.client()
    assert pair.target.ask(reader, f"GET {HERE}199", "SELECT 1", f"GET {HERE}new", f"GET {HERE}99") == [
        b"199", b"OK", b"1", None,
    ]  # fmt: skip
    pair.check_followers()


def test_a_flush_that_was_undone_is_passed_on_to_nobody() -> None:
    ks = Keyspace(2)
    ks.guarded = ks.writing = True
    ks.dbs[1].put(b"a", b"1")
    journal.steps.clear()
    ks.dbs[0].flush()
    journal.steps.clear()
    ks.dbs[1].flush()
    journal.roll_back()
    assert ks.emptied == [0]
    assert ks.dbs[1].peek(b"a") == b"1"


def test_orders_are_refused_with_the_reason() -> None:
    pair = Pair()
    asker = pair.order(6000, 6001)
    pair.step()
    assert asker.got() == [Err("ERR Slots are not served by this node.")]
    source = pair.source
    assert source.ask(asker, "CLUSTER CANCELSLOTMIGRATIONS") == [Err("ERR No migrations ongoing")]
    force = f"CLUSTER MIGRATIONS FORCE-ABORT {MID.decode()}"
    assert source.ask(asker, force)[0].startswith("ERR no export of this id")  # type: ignore[attr-defined]
    first, second = pair.order(), pair.order()
    pair.source.settle()
    assert first.got() == [b"OK"]
    assert second.got() == [Err("ERR slot 0 is exporting, not owned")]
    pair.run()


def test_slots_move_only_where_logs_are_synced() -> None:
    pair = Pair(appendfsync="no")
    asker = pair.order()
    assert asker.got() == [Err(LAZY)]
    # Nor are they taken in: what this side commits could be gone when the other has let go.
    pair = Pair()
    target = pair.target
    target.engine.settings.load("appendfsync", "no")
    target.engine.moving.sync_changed()
    pair.order()
    for _ in range(50):
        pair.step()
    assert not target.engine.places.state.records
    assert pair.source.engine.places.serves[0] == 1
    target.engine.settings.load("appendfsync", "always")
    target.engine.moving.sync_changed()
    pair.run()
    assert target.engine.places.serves[0] == 1
    # While slots are on their way nobody may stop syncing.
    pair = Pair()
    pair.order()
    pair.step()
    pair.source.engine.settings.load("appendfsync", "everysec")
    with pytest.raises(ValueError, match="on their way"):
        pair.source.engine.moving.refuse_lazy()


def test_an_operator_takes_back_what_was_fenced() -> None:
    pair = Pair()
    source = pair.source
    source.ask(source.client(), f"SET {HERE}a 1")
    pair.order()
    until_fenced(pair)
    (mid,) = source.engine.places.state.records
    assert source.ask(source.client(), f"CLUSTER MIGRATIONS FORCE-ABORT {mid.decode()}") == [b"OK"]
    assert source.ask(source.client(), f"GET {HERE}a") == [b"1"]
    pair.run()
    assert not pair.target.engine.places.serves[0]
    assert source.engine.places.state.epochs[0] == 3
    pair.check_followers()


def test_writers_of_slots_that_cannot_be_copied_as_fast_are_slowed_down() -> None:
    pair = Pair()
    source = pair.source
    source.engine.moving.delays = {0: 40}
    quick, slow, whole = source.client(), source.client(), source.client()
    assert source.ask(quick, f"SET {BESIDE}a 1", f"GET {HERE}a") == [b"OK", None]
    source.ask(slow, f"SET {HERE}a 1", f"SET {HERE}b 1", "PING")
    source.ask(whole, "MULTI", f"SET {HERE}c 1", "EXEC")
    assert slow.got() == []
    assert whole.got() == []
    source.pass_ms(45)
    source.settle()
    assert slow.got() == [b"OK"]
    source.pass_ms(45)
    source.settle()
    assert slow.got() == [b"OK", b"PONG"]
    assert whole.got() == [[b"OK"]]
    gone = source.client()
    source.ask(gone, f"SET {HERE}d 1")
    gone.disconnect()
    source.pass_ms(45)
    source.settle()
    assert source.ask(quick, f"GET {HERE}d") == [None]
    pair.check_followers()


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_in_the_middle_of_an_import_brings_all_of_it_back() -> None:
    pair = Pair()
    target = pair.target
    applier = target.engine.applier
    beside = Beside(applier, TABLE)
    beside.write_down_slots()
    kv = MemoryKv()
    found(kv, bytes(16), 1, len(applier.ks.dbs))
    keeper = Materialiser(kv)
    capture = follow(applier.ks, beside, None)
    limits = pair.source.engine.places.handoff.limits
    limits.batch_bytes = limits.turn_bytes = 500
    limits.window_bytes = 1000
    pair.source.ask(pair.source.client(), *[f"SET {HERE}{n} {n}" for n in range(200)])
    pair.order()
    handoff = target.engine.places.handoff
    for _ in range(100):
        pair.step()
        if applier.applied > capture.index:
            reader = FrameReader("frame")
            reader.feed(capture.frame(applier.applied, 1, 0, 0))
            frame = reader.next()
            assert frame is not None
            keeper.apply(frame)
        if any(area.ks.dbs[0].size for area in handoff.staging.areas.values()):
            break
    keeper.commit()
    assert any(area.ks.dbs[0].size for area in handoff.staging.areas.values())
    other = Applier(Keyspace(len(applier.ks.dbs)), TABLE, Outcome())
    other.handoff.begin(2, ((5001, 16383, 1),))
    started = Beside(other, TABLE)
    started.write_down_slots()
    rows: list[tuple[bytes, bytes]] = []
    load(kv, other.ks, lambda name, blob: rows.append((name, blob)))
    started.take(rows)
    assert other.ks.dbs[0].size == 0
    assert other.handoff.canonical() == handoff.canonical()
    assert other.ks.guarded
    started.clear()
    assert other.handoff.canonical() == b""
    assert [other.handoff.state.serves[slot] for slot in (0, 5000, 5001, 16383)] == [0, 0, 1, 1]
    pair.run()
