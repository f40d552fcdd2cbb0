"""What a node does by the clock: expiring keys and fields nobody reads, sampling rates, ending overdue waits.

Rule: deletes nothing itself. The leader proposes a sweep of keys whose deadline, or a field's, has passed; every node
deletes them when that entry is applied. One sweep is in flight at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.engine import routing, wait
from durakv.engine.batch import ITEM_SWEEP, Item

if TYPE_CHECKING:
    from durakv.engine.engine import Engine

INTERVAL_MS: Final = 100
_SWEEP_KEYS_MAX: Final = 1000
# What was deleted, or has moved away with its slot, is freed in pieces of so many elements, a millisecond or less, with
# pauses for everybody else.
_DIG_ELEMENTS: Final = 4096
_DIG_PAUSE_MS: Final = 3
# Memory is read from the operating system, so not at every interval.
_MEMORY_INTERVALS: Final = 5


class Upkeep:
    """The periodic work of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rounds = 0
        self.sweep_index = 0
        self.digging = False
        # DEBUG SET-ACTIVE-EXPIRE.
        self.sweeping = True

    def start(self) -> None:
        """Begin."""
        self.engine.clock.call_later(INTERVAL_MS, self._run)
        self.engine.clock.call_later(routing.LEADER_WAIT_POLL_MS, self._leader_wait)

    def _run(self) -> None:
        engine = self.engine
        engine.clock.call_later(INTERVAL_MS, self._run)
        self.rounds += 1
        self._sample()
        wait.check(engine)
        self._sweep()
        if not self.digging:
            self._dig()
        if engine.dirty or engine.batch.items:
            engine.schedule()

    def _dig(self) -> None:
        engine = self.engine
        graveyard = engine.ks.graveyard
        assert not engine.applier.in_entry, "timers run between entries"
        self.digging = graveyard.dig(_DIG_ELEMENTS) | engine.moving.free(_DIG_ELEMENTS)
        engine.stats.lazyfree_pending = len(graveyard.held)
        engine.stats.lazyfreed = graveyard.freed
        if self.digging:
            engine.clock.call_later(_DIG_PAUSE_MS, self._dig)

    def _leader_wait(self) -> None:
        engine = self.engine
        engine.clock.call_later(routing.LEADER_WAIT_POLL_MS, self._leader_wait)
        routing.refuse_late(engine)
        if engine.dirty:
            engine.flush_output()

    def _sample(self) -> None:
        engine = self.engine
        stats = engine.stats
        stats.commands = sum(row.calls for row in engine.table.all)
        stats.keyspace_hits = engine.gate.hits
        stats.keyspace_misses = engine.gate.misses
        stats.expired_keys = engine.ks.expired_keys
        stats.sample(engine.clock.wall_ms())
        stats.evicted_keys = engine.ks.evicted_keys
        engine.eviction.tick()
        engine.usage.tick()
        if self.rounds % _MEMORY_INTERVALS == 0:
            stats.memory_peak_bytes = max(stats.memory_peak_bytes, engine.eviction.used_bytes())

    def _sweep(self) -> None:
        engine = self.engine
        if not self.sweeping or not engine.leading or engine.refusal is not None:
            return
        if self.sweep_index > engine.applier.applied:
            return
        if engine.ks.following:
            # The source says when keys expire.
            return
        now_ms = engine.clock.wall_ms()
        for db in engine.ks.dbs:
            keys: list[bytes] = []
            if db.deadlines and db.deadlines[0][0] <= now_ms:
                keys = db.due(now_ms, _SWEEP_KEYS_MAX)
            if db.fields.count:
                keys += db.fields.due_keys(now_ms, _SWEEP_KEYS_MAX)
            if keys:
                engine.internal(Item(ITEM_SWEEP, None, None, keys, db.number, 0, 0))
                self.sweep_index = engine.last_proposed + 1
