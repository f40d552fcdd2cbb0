"""maxmemory: when keys must go, and which. The leader chooses, the log says, and every node removes the same keys.

Rule: removes nothing itself; it adds items to the batch, ahead of the write that needs the room. Keys chosen and not
yet removed count as gone, so that a pipeline of writes does not evict for each of them anew. Source: evict.c.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from durakv.engine.batch import ITEM_EVICT, Item
from durakv.keyspace.access import Access
from durakv.keyspace.ledger import Ledger
from durakv.keyspace.slots import SLOTS

if TYPE_CHECKING:
    from durakv.engine.engine import Engine
    from durakv.keyspace.keyspace import Db

NOEVICTION: Final = "noeviction"
# What one write may evict; the next goes on. Keeps a lowered maxmemory from stalling one client.
_KEYS_A_WRITE_MAX: Final = 64
# What the timer evicts per tick where nobody writes.
_KEYS_A_TICK_MAX: Final = 2000
_WEIGH_STEPS_A_TICK: Final = 4
_SLOT_TRIES_MAX: Final = 2 * SLOTS


class Eviction:
    """One node's share in it; chooses only while the node leads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.limit = 0
        self.policy = NOEVICTION
        # RSS when the ledger began, less what it knew then: memory that is not keys.
        self.base_bytes = 0
        # (db number, key) -> weight of keys whose eviction was proposed.
        self.leaving: dict[tuple[int, bytes], int] = {}
        self.leaving_bytes = 0
        self._draws = 0
        self._seed = engine.rng.bits64()
        for name in ("maxmemory", "maxmemory-policy", "lfu-log-factor", "lfu-decay-time"):
            engine.settings.watch(name, lambda _: self.follow())
        self.follow()

    def follow(self) -> None:
        """Take over the directives."""
        engine, settings = self.engine, self.engine.settings
        ks = engine.ks
        self.limit = int(settings.maxmemory)
        self.policy = str(settings.maxmemory_policy)
        if not self.limit:
            ks.ledger = None
            engine.over_memory = False
        elif ks.ledger is None:
            ks.ledger = Ledger(ks)
            self.base_bytes = engine.instruments.process.rss_bytes()
        lfu = self.policy.endswith("lfu")
        if not (lfu or self.policy.endswith("lru")):
            ks.access = None
        elif ks.access is None or ks.access.lfu != lfu:
            ks.access = Access(lfu=lfu, seed=self._seed >> 8)
        if ks.access is not None:
            ks.access.log_factor = int(settings.lfu_log_factor)
            ks.access.decay_minutes = int(settings.lfu_decay_time)
            ks.access.now_s = engine.clock.wall_ms() // 1000
        engine.applier.follow_ledger()

    def used_bytes(self) -> int:
        """What maxmemory is compared with; the process's memory while nothing is counted."""
        ledger = self.engine.ks.ledger
        if ledger is None:
            return self.engine.instruments.process.rss_bytes()
        return self.base_bytes + ledger.used_bytes() + self.engine.applier.handoff.staging.weight_bytes()

    def tick(self) -> None:
        """Call now and then: weigh what is not weighed, remember the time, evict where nobody writes."""
        engine = self.engine
        ks = engine.ks
        if ks.access is not None:
            ks.access.now_s = engine.clock.wall_ms() // 1000
        ledger = ks.ledger
        if ledger is None:
            return
        if ledger.weighed < SLOTS:
            before = ledger.total
            for _ in range(_WEIGH_STEPS_A_TICK):
                ledger.step()
            # These keys were part of the process when the count began.
            self.base_bytes = max(0, self.base_bytes - (ledger.total - before))
        if engine.leading and engine.refusal is None and self._excess() > 0:
            self._evict(_KEYS_A_TICK_MAX)
        engine.over_memory = self._excess() > 0

    def refused(self) -> bool:
        """Whether a write that may grow the data must be refused; evicts first where the policy allows."""
        if self._excess() <= 0:
            self.engine.over_memory = False
            return False
        if self.policy != NOEVICTION and self._evict(_KEYS_A_WRITE_MAX):
            return False
        return self._excess() > 0

    def applied(self, db: int, key: bytes) -> None:
        """The key's eviction was applied, or its entry is lost."""
        self.leaving_bytes -= self.leaving.pop((db, key), 0)

    def demoted(self) -> None:
        """Another node chooses from now on."""
        self.leaving.clear()
        self.leaving_bytes = 0

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _excess(self) -> int:
        return self.used_bytes() - self.leaving_bytes - self.limit if self.limit else 0

    def _evict(self, keys_max: int) -> bool:
        """Propose keys until there is room; True if any was found."""
        if self.policy == NOEVICTION or self.engine.ks.following:
            return False
        engine = self.engine
        ledger = engine.ks.ledger
        assert ledger is not None
        chosen: dict[int, list[bytes]] = {}
        for _ in range(keys_max):
            if self._excess() <= 0:
                break
            found = self._best()
            if found is None:
                break
            db, key = found
            weight = ledger.weight(db, key)
            self.leaving[(db.number, key)] = weight
            self.leaving_bytes += weight
            chosen.setdefault(db.number, []).append(key)
        for number, keys in chosen.items():
            engine.internal(Item(ITEM_EVICT, None, None, keys, number, 0, 0))
        return bool(chosen)

    def _best(self) -> tuple[Db, bytes] | None:
        """The key that should go first among a few that chance shows."""
        best: tuple[Db, bytes] | None = None
        best_rank = 0
        wanted = 1 if self.policy.endswith("random") else int(self.engine.settings.maxmemory_samples)
        for db, key in self._sample(wanted):
            rank = self._rank(db, key)
            if best is None or rank > best_rank:
                best, best_rank = (db, key), rank
        return best

    def _rank(self, db: Db, key: bytes) -> int:
        access = self.engine.ks.access
        if self.policy == "volatile-ttl":
            return -db.expiry(key)
        if access is None:
            return 0
        return -access.frequency(db, key) if access.lfu else access.idle_s(db, key)

    def _sample(self, wanted: int) -> list[tuple[Db, bytes]]:
        volatile = self.policy.startswith("volatile")
        dbs = [db for db in self.engine.ks.dbs if (db.nexp if volatile else db.size)]
        out: list[tuple[Db, bytes]] = []
        for n in range(wanted if dbs else 0):
            db = dbs[n % len(dbs)]
            key = self._any_key(db, volatile=volatile)
            if key is not None:
                out.append((db, key))
        return out

    def _any_key(self, db: Db, *, volatile: bool) -> bytes | None:
        """A key of a slot at random, none that is leaving already."""
        slot = self._below(SLOTS)
        for _ in range(_SLOT_TRIES_MAX):
            mapping: dict[bytes, object] | dict[bytes, int] | None = db.exps[slot] if volatile else db.slots[slot]
            if mapping:
                start = self._below(len(mapping))
                for key in (*islice(mapping, start, None), *islice(mapping, start)):
                    if (db.number, key) not in self.leaving:
                        return key
            slot = slot + 1 if slot + 1 < SLOTS else 0
        return None

    def _below(self, n: int) -> int:
        # Chance of this node alone; the log carries what came of it.
        self._draws += 1
        mixed = (self._seed + self._draws * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 31)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        return (mixed >> 20) % n
