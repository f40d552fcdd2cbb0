"""What each slot costs this node: time, traffic and memory of the requests it runs, told to the counters of slots.

Rule: counts only while somebody wants to know (cluster-slot-stats-enabled, or a rebalancer that is on), and then hangs
on hooks that exist for other reasons: the stopwatch of commands and the size limit of COMMANDLOG. Without it nothing
on the way of a request looks for it. It changes nothing and knows no other node.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from durakv.cluster.handoff.state import EXPORTING, FENCED, OWNED
from durakv.cluster.slot_stats import SlotCounters, SlotMemory
from durakv.commands.spec import LOCAL, WRITE
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.keyspace.weights import DEADLINE_BYTES, ENTRY_BYTES, bytes_weight, weight_of
from durakv.resp.types import OK

if TYPE_CHECKING:
    from durakv.commands.table import Row
    from durakv.engine.engine import Engine

NO_SLOT: Final = -1
_NOTHING: Final = object()
# Slots weighed at each call of tick().
_SLOTS_A_TICK: Final = 256
# A slot of so many keys, or fewer, is weighed exactly; of others so many keys speak for all.
SAMPLE_KEYS: Final = 64
# What MULTI and EXEC take on the wire, as all clients write them.
EXEC_BYTES: Final = len(b"*1\r\n$5\r\nmulti\r\n" + b"*1\r\n$4\r\nexec\r\n")
# What a group is to a slot, as whether the slot is its.
_CLAIMED: Final = bytes(int(own in {OWNED, EXPORTING, FENCED}) for own in range(256))
# Their channel chooses the slot, but is no key.
_SHARD_CHANNELS: Final = ("spublish", "ssubscribe", "sunsubscribe")


def request_bytes(argv: list[bytes]) -> int:
    """What a request takes on the wire, written as an array of bulk strings."""
    total = _digits(len(argv)) + 3
    for word in argv:
        size = len(word)
        total += size + _digits(size) + 5
    return total


def _digits(n: int) -> int:
    return 1 if n < 10 else len(str(n))


class Usage:
    """One node's. ``copies``: members of the group that get a copy of each write from this node, while it leads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.counters = SlotCounters()
        self.memory = SlotMemory()
        self.on = False
        self.copies = 0
        # Of the command that ran last: its slot, and which unit of the log's that was.
        self._slot = NO_SLOT
        self._unit = (0, 0)
        # Whose slots they were at the last look; nobody has looked yet.
        self._owned = b""
        self._weighed = 0
        self._rounds = 0
        for name in ("cluster-slot-stats-enabled", "rebalance"):
            engine.settings.watch(name, lambda _: self.follow())
        self.follow()

    def shown(self) -> bool:
        """Whether clients may see the counters."""
        return bool(self.engine.settings.cluster_enabled and self.engine.settings.cluster_slot_stats_enabled)

    def follow(self) -> None:
        """Take over the directives."""
        engine = self.engine
        settings = engine.settings
        wanted = settings.cluster_slot_stats_enabled or settings.rebalance != "off"
        self.on = bool(settings.cluster_enabled and wanted)
        counted = self if self.on else None
        engine.timing.usage = counted
        engine.timing.follow()
        engine.gate.usage = counted
        engine.gate.follow_replies()
        engine.pubsub.usage = counted
        # What passes the size limit by, otherwise.
        engine.quick = OK if counted is None else _NOTHING

    # -- requests ------------------------------------------------------------------------------------------------------

    def ran(self, row: Row, argv: list[bytes], took_ns: int) -> None:
        """A command has run, or begun to wait. What a script calls is the script's."""
        engine = self.engine
        applier = engine.applier
        if engine.scripting.calls.running is not None:
            return
        in_entry = applier.in_entry
        if in_entry and applier.replaying:
            # Another node was asked, or an earlier run of this one.
            return
        slot = self._slot_of(row, argv)
        if slot < 0:
            if not in_entry or applier.wctx.can_block:
                self._slot = NO_SLOT
            return
        self._slot = slot
        self._unit = (applier.wctx.index, applier.ordinal)
        size = 0
        if not row.is_blocking or (in_entry and not applier.wctx.can_block):
            # A request that may wait runs more than once and was counted when it was let in.
            size = request_bytes(argv[:-1] if row.runs_script else argv)
        copied = size * self.copies if row.kind == WRITE else 0
        self.counters.charge(slot, took_ns, size, copied)

    def asked(self, slot: int, argv: list[bytes]) -> None:
        """A request that may wait was let in."""
        self.counters.charge(slot, 0, request_bytes(argv), 0)

    def transaction(self, slots: dict[int, None]) -> None:
        """A transaction on ``slots``, one or none in a cluster, was let in."""
        for slot in slots:
            self.counters.charge(slot, 0, EXEC_BYTES, 0)

    def answered(self, size_bytes: int) -> None:
        """A reply of what has just run: nothing of a unit that ran no command (WATCH, the end of a wait)."""
        applier = self.engine.applier
        if self._slot >= 0 and self._unit == (applier.wctx.index, applier.ordinal):
            self.counters.sent(self._slot, size_bytes)

    def pushed(self, channel: bytes, size_bytes: int) -> None:
        """Listeners of a shard channel were sent so much."""
        self.counters.sent(slot_of(channel), size_bytes)

    @staticmethod
    def _slot_of(row: Row, argv: list[bytes]) -> int:
        if row.key_at > 0:
            return slot_of(argv[row.key_at])
        if row.key_at < 0:
            keys = row.keys(argv)
            return slot_of(keys[0]) if keys else NO_SLOT
        if row.kind == LOCAL and row.name in _SHARD_CHANNELS and len(argv) > 1:
            return slot_of(argv[1])
        return NO_SLOT

    # -- slots ---------------------------------------------------------------------------------------------------------

    def follow_slots(self) -> None:
        """Counters of slots that have come or gone since the last call start from nothing."""
        own = bytes(self.engine.places.state.own).translate(_CLAIMED)
        if own == self._owned:
            return
        before = self._owned or own
        for slot in range(SLOTS):
            if own[slot] != before[slot]:
                self.counters.forget(slot, slot)
                self.memory.weighed(slot, 0)
        self._owned = own

    def owned(self) -> list[int]:
        """The group's slots as of the last follow_slots(), ascending."""
        return [slot for slot in range(SLOTS) if self._owned[slot]]

    def tick(self) -> None:
        """Call every 100 ms: weigh some slots."""
        if self.on:
            self._rounds += 1
            self.weigh(self._weighed, self._weighed + _SLOTS_A_TICK - 1)
            self._weighed = (self._weighed + _SLOTS_A_TICK) % SLOTS

    def weigh(self, first: int, last: int) -> None:
        """Look at the slots' keys now."""
        for slot in range(first, last + 1):
            total = 0
            for db in self.engine.ks.dbs:
                held = db.slots[slot]
                if held:
                    total += self._weight(held)
                    deadlines = db.exps[slot]
                    if deadlines:
                        total += len(deadlines) * DEADLINE_BYTES
            self.memory.weighed(slot, total)

    def _weight(self, held: dict[bytes, object]) -> int:
        count = len(held)
        if count <= SAMPLE_KEYS:
            return _sum(held, 0, count)
        # Others each time, since neighbours in a dict are of an age and often of a kind.
        start = (self._rounds * SAMPLE_KEYS) % (count - SAMPLE_KEYS + 1)
        return _sum(held, start, start + SAMPLE_KEYS) * count // SAMPLE_KEYS

    def keys(self, slot: int) -> int:
        """How many keys the slot holds, over all databases."""
        total = 0
        for db in self.engine.ks.dbs:
            held = db.slots[slot]
            if held is not None:
                total += len(held)
        return total


def _sum(held: dict[bytes, object], start: int, end: int) -> int:
    total = 0
    for key, value in islice(held.items(), start, end):
        total += bytes_weight(len(key)) + ENTRY_BYTES + weight_of(value)
    return total
