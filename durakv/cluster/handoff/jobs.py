"""Migrations as cluster clients order and see them: CLUSTER MIGRATESLOTS, GETSLOTMIGRATIONS, CANCELSLOTMIGRATIONS.

Rule: pure; arguments, orders and rows, with Valkey's texts to the letter where it has one. Who carries out an order and
who leads a group is handed in. Source: valkey 9 cluster_migrateslots.c; its states' names stand for what is closest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.cluster.handoff import source
from durakv.cluster.handoff.entries import MID_DIGITS, Runs
from durakv.cluster.handoff.exports import Exports
from durakv.cluster.handoff.source import Export
from durakv.cluster.handoff.state import (
    ABORTED,
    CANCELLED,
    ENDED,
    EXPORT,
    EXPORTING,
    FENCED,
    IMPORT,
    MOVED,
    Record,
    State,
)
from durakv.cluster.handoff.target import Imports
from durakv.keyspace.slots import SLOTS
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Map

NOT_LEADER: Final = "ERR Slot migration can only be used on primary nodes."
NO_RANGES: Final = "ERR No slot ranges specified"
NO_END: Final = "ERR No end slot for final slot range"
BAD_SLOT: Final = "ERR Invalid or out of range slot"
SPAN: Final = "ERR Requested slots span multiple shards"
NOT_SERVED_HERE: Final = "ERR Slots are not served by this node."
OVERLAP: Final = "ERR Slot ranges in migrations overlap"
TARGET_IS_SELF: Final = "ERR Target node can not be this node."
TARGET_IS_WITNESS: Final = "ERR Target node can not be a witness."
NONE_ONGOING: Final = "ERR No migrations ongoing"
_FIRST_ARGUMENT: Final = 2
_DIGITS_MAX: Final = 18
_CANCELLED: Final = b"cancelled"

_EXPORT_STATES: Final = {
    source.PREPARING: b"reading-establish-response",
    source.SCANNING: b"snapshotting",
    source.CATCHING_UP: b"replicating",
    source.FENCING: b"waiting-to-pause",
    source.DRAINING: b"failover-paused",
    source.TOLD: b"failover-granted",
}


class Target:
    """A node as NODE names it: its group, and whether it can hold data."""

    __slots__ = ("group", "witness")

    def __init__(self, group: int, *, witness: bool) -> None:
        self.group = group
        self.witness = witness


class Order:
    """One migration that was asked for: ``runs`` of this group's slots to ``group``."""

    __slots__ = ("group", "runs")

    def __init__(self, runs: Runs, group: int) -> None:
        self.runs = runs
        self.group = group


def migrate_orders(
    argv: list[bytes],
    state: State,
    *,
    leads: bool,
    owner_of: Callable[[int], int],
    node_named: Callable[[bytes], Target | None],
) -> list[Order]:
    """What CLUSTER MIGRATESLOTS (``argv`` with both words) asks for. Raises CommandError; then nothing may be begun.

    ``leads``: this node leads its group. ``owner_of``: the group that owns a slot as routing has it, 0 for nobody.
    """
    if not leads:
        raise CommandError(NOT_LEADER)
    orders: list[Order] = []
    taken: dict[int, None] = {}
    at = _FIRST_ARGUMENT
    while at < len(argv):
        if argv[at].upper() != b"SLOTSRANGE":
            raise CommandError(SYNTAX)
        ranges, at = _ranges(argv, at + 1, state, owner_of)
        slots = [slot for first, last in ranges for slot in range(first, last + 1)]
        _must_be_ours(slots, state, owner_of)
        for slot in slots:
            if slot in taken:
                raise CommandError(OVERLAP)
        taken.update(dict.fromkeys(slots))
        if at + 1 >= len(argv) or argv[at].upper() != b"NODE":
            raise CommandError(SYNTAX)
        orders.append(Order(_with_epochs(sorted(slots), state), _target(argv[at + 1], state, node_named)))
        at += 2
    return orders


def _ranges(
    argv: list[bytes], at: int, state: State, owner_of: Callable[[int], int]
) -> tuple[list[tuple[int, int]], int]:
    """(ranges in the order given, where the next argument is)."""
    ranges: list[tuple[int, int]] = []
    owner = 0
    while at < len(argv) and _integer(argv[at]) is not None:
        first = _slot(argv[at])
        if at + 1 >= len(argv):
            raise CommandError(NO_END)
        last = _slot(argv[at + 1])
        if first > last:
            raise CommandError(f"ERR Start slot number {first} is greater than end slot number {last}.")
        for slot in range(first, last + 1):
            owns = _owner(slot, state, owner_of)
            if not owns:
                raise CommandError(f"ERR Slot {slot} has no node served.")
            owner = owner or owns
            if owns != owner:
                raise CommandError(SPAN)
        for other_first, other_last in ranges:
            if first <= other_last and other_first <= last:
                raise CommandError(
                    f"ERR Slot range {first}-{last} overlaps with previous range {other_first}-{other_last}."
                )
        ranges.append((first, last))
        at += 2
    if not ranges:
        raise CommandError(NO_RANGES)
    return ranges, at


def _owner(slot: int, state: State, owner_of: Callable[[int], int]) -> int:
    # What the group's own log says comes before what is heard of others.
    return state.group if state.serves[slot] or state.own[slot] == FENCED else owner_of(slot)


def _must_be_ours(slots: list[int], state: State, owner_of: Callable[[int], int]) -> None:
    for slot in slots:
        if _owner(slot, state, owner_of) != state.group:
            raise CommandError(NOT_SERVED_HERE)
    for slot in slots:
        if state.own[slot] in {EXPORTING, FENCED}:
            raise CommandError(f"ERR I am already migrating slot {slot}.")
    for record in state.active(IMPORT):
        if record.result == MOVED and any(record.covers(slot) for slot in slots):
            raise CommandError("ERR Slots that have just moved here are not confirmed by their source yet, try again")


def _target(name: bytes, state: State, node_named: Callable[[bytes], Target | None]) -> int:
    text = name.decode("utf-8", "backslashreplace")
    if len(name) != MID_DIGITS:
        raise CommandError(f"ERR Invalid node name: {text}")
    node = node_named(name)
    if node is None:
        raise CommandError(f"ERR Unknown node name: {text}")
    if node.witness:
        raise CommandError(TARGET_IS_WITNESS)
    if node.group == state.group:
        raise CommandError(TARGET_IS_SELF)
    return node.group


def _with_epochs(slots: list[int], state: State) -> Runs:
    out: list[tuple[int, int, int]] = []
    for slot in slots:
        epoch = state.epochs[slot]
        if out and out[-1][1] == slot - 1 and out[-1][2] == epoch:
            out[-1] = (out[-1][0], slot, epoch)
        else:
            out.append((slot, slot, epoch))
    return tuple(out)


def _slot(text: bytes) -> int:
    slot = _integer(text)
    if slot is None or not 0 <= slot < SLOTS:
        raise CommandError(BAD_SLOT)
    return slot


def _integer(text: bytes) -> int | None:
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > _DIGITS_MAX or (digits[0] == 0x30 and len(text) > 1):
        return None
    return int(text)


# -- what is to be seen -----------------------------------------------------------------------------------------------


def cancel_all(exports: Exports, now_ms: int) -> list[bytes]:
    """CANCELSLOTMIGRATIONS: ids that are being cancelled; reply when all of them have ended. Raises CommandError."""
    if not exports.drivers:
        raise CommandError(NONE_ONGOING)
    mids = list(exports.drivers)
    for mid in mids:
        exports.cancel(mid, now_ms)
    return mids


def migration_rows(state: State, exports: Exports, imports: Imports, node_of: Callable[[int], bytes]) -> list[Map]:
    """GETSLOTMIGRATIONS, newest first. ``node_of``: the id of the node that leads a group, as this node knows it."""
    records = [*state.finished.values(), *state.records.values()]
    records.sort(key=lambda record: (record.began_ms, record.order), reverse=True)
    return [_row(record, state, exports, imports, node_of) for record in records]


def _row(record: Record, state: State, exports: Exports, imports: Imports, node_of: Callable[[int], bytes]) -> Map:
    driver = exports.drivers.get(record.mid)
    outward = record.role == EXPORT
    ours, theirs = node_of(state.group), node_of(record.peer)
    return Map([
        b"name", record.mid,
        b"operation", b"EXPORT" if outward else b"IMPORT",
        b"slot_ranges", ranges_text(record.runs),
        b"target_node", theirs if outward else ours,
        b"source_node", ours if outward else theirs,
        b"create_time", record.began_ms // 1000,
        b"last_update_time", record.updated_ms // 1000,
        b"last_ack_time", _last_ack_s(record, driver),
        b"state", state_name(record, driver, imports),
        b"message", record.reason or (b"" if driver is None else driver.trouble) or record.trouble,
        b"cow_size", 0,
        b"remaining_repl_size", 0 if driver is None else driver.remaining_bytes(),
    ])  # fmt: skip


def _last_ack_s(record: Record, driver: Export | None) -> int:
    if driver is not None and driver.heard_ms >= 0:
        return driver.heard_ms // 1000
    return record.updated_ms // 1000


def ranges_text(runs: Runs) -> bytes:
    """``0-5 7-7``; neighbours under different epochs are one range."""
    out: list[tuple[int, int]] = []
    for first, last, _ in runs:
        if out and out[-1][1] == first - 1:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return b" ".join([b"%d-%d" % pair for pair in out])


def state_name(record: Record, driver: Export | None, imports: Imports) -> bytes:
    """Valkey's name of what a migration is doing. ``driver`` is None where the group is not led from."""
    if record.phase == ENDED:
        if record.result == MOVED:
            return b"success"
        if record.role == EXPORT and (record.result not in {ABORTED, CANCELLED} or record.reason == _CANCELLED):
            return _CANCELLED
        return b"cleaning-up" if record.mid in imports.imports else b"failed"
    if record.role == EXPORT:
        if driver is None:
            return b"failover-paused" if record.phase == FENCED else b"snapshotting"
        if driver.stage == source.CATCHING_UP and driver.drain_ms() <= driver.exports.limits.pause_ms_max:
            return b"waiting-to-pause"
        return _EXPORT_STATES[driver.stage]
    mine = imports.imports.get(record.mid)
    if mine is None:
        return b"occurring-on-primary"
    if mine.digest is not None:
        return b"failover-requested"
    return b"receiving-snapshot" if record.seq else b"waiting-for-ack"
