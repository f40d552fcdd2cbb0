"""When and how often keys were used, where the eviction policy asks for it: LRU and LFU. Source: evict.c.

Rule: local to a node, never replicated: reads are seen only by the node that answers them. A stamp is the time of the
last use in seconds, or for LFU minutes * 256 + a logarithmic counter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durakv.keyspace.keyspace import Db

LFU_START: Final = 5
_COUNTER_MAX: Final = 255
# Knuth's linear congruential generator.
_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407
_MASK: Final = (1 << 64) - 1


class Access:
    """``now_s`` is set by the owner now and then; ``lfu`` says what stamps mean."""

    def __init__(self, *, lfu: bool, seed: int) -> None:
        self.lfu = lfu
        self.stamps: dict[tuple[Db, bytes], int] = {}
        self.now_s = 0
        self.log_factor = 10
        self.decay_minutes = 1
        # CLIENT NO-TOUCH holds for the command that runs.
        self.paused = False
        self._state = seed

    def used(self, db: Db, key: bytes) -> None:
        """The key was read or written."""
        if self.paused:
            return
        place = (db, key)
        if not self.lfu:
            self.stamps[place] = self.now_s
            return
        minutes = self.now_s // 60
        stamp = self.stamps.get(place)
        counter = LFU_START if stamp is None else self._grown(self._decayed(stamp))
        self.stamps[place] = minutes * 256 + counter

    def forget(self, db: Db, key: bytes) -> None:
        """The key is gone."""
        self.stamps.pop((db, key), None)

    def emptied(self, db: Db) -> None:
        """All keys of the database are gone."""
        self.stamps = {place: stamp for place, stamp in self.stamps.items() if place[0] is not db}

    def idle_s(self, db: Db, key: bytes) -> int:
        """Seconds since the last use; 0 for a key never seen used."""
        stamp = self.stamps.get((db, key), self.now_s)
        return max(0, self.now_s - stamp)

    def frequency(self, db: Db, key: bytes) -> int:
        """The logarithmic counter, 0 .. 255, as it is now."""
        stamp = self.stamps.get((db, key))
        return LFU_START if stamp is None else self._decayed(stamp)

    def _decayed(self, stamp: int) -> int:
        minutes, counter = stamp >> 8, stamp & _COUNTER_MAX
        if self.decay_minutes:
            counter -= max(0, self.now_s // 60 - minutes) // self.decay_minutes
        return max(0, counter)

    def _grown(self, counter: int) -> int:
        if counter >= _COUNTER_MAX:
            return _COUNTER_MAX
        base = max(0, counter - LFU_START)
        # Any cheap sequence will do: what comes of it stays on this node.
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return counter + 1 if (self._state >> 33) % (base * self.log_factor + 1) == 0 else counter
