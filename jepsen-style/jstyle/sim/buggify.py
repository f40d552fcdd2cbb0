"""Rare choices made often: places in the node where it may act unusually but never wrongly.

Rule: production code asks ``buggify(site)`` and, outside the simulator, always hears no. For a run each site is on with
probability ``enable``; one that is on says yes with probability ``fire``. Every site has its own dice.
"""

from __future__ import annotations

from random import Random
from typing import Final

from jstyle.sim.streams import stream

ENABLE: Final = 0.25
FIRE: Final = 0.25
# Every site of the production code, and what it does there.
SITES: Final[dict[str, str]] = {
    "drop-ack": "an acknowledgement of entries is not sent",
    "early-election": "a follower campaigns before its time",
    "entries-read-from-disk": "no entry is kept in memory for those that ask for it",
    "hold-noop": "the first entry of a term is not sent to others",
    "little-uncommitted": "very few bytes may be uncommitted",
    "one-append-in-flight": "the next entries wait for the acknowledgement of the last ones",
    "one-entry-appends": "one entry a message",
    "one-entry-applied-at-once": "one entry a turn is applied",
    "one-entry-written-at-once": "one entry a write of the log",
    "one-request-frames": "one forwarded request a frame",
    "reconnect": "a stream to a peer is closed",
    "refuse-proposal": "a command is refused as if too much were uncommitted",
    "small-segments": "a log segment holds very little",
    "yield": "a node does other work before it goes on applying",
}
# Where saying yes each fourth time would leave no time for anything else.
FIRE_RARELY: Final[dict[str, float]] = {"early-election": 0.005, "reconnect": 0.005}


class Buggify:
    """The sites of one machine. ``fired`` counts by site; ``names()`` are those asked so far. Sites of ``always`` say
    yes each time, those of ``never`` never do.
    """

    def __init__(
        self, seed: int, entity: str, enable: float = ENABLE, fire: float = FIRE, always: tuple[str, ...] = (),
        never: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._seed = seed
        self._entity = entity
        self._enable = enable
        self._fire = fire
        self._always = dict.fromkeys(always)
        self._never = dict.fromkeys(never)
        self._sites: dict[str, Random | None] = {}
        # Nothing unusual happens any more, sites of ``always`` apart.
        self.calm = False
        self.fired: dict[str, int] = {}

    def __call__(self, site: str) -> bool:
        """Whether the unusual happens at this site now."""
        if site in self._always:
            self.fired[site] = self.fired.get(site, 0) + 1
            return True
        try:
            random = self._sites[site]
        except KeyError:
            random = self._sites[site] = self._open(site)
        if random is None or self.calm or random.random() >= FIRE_RARELY.get(site, self._fire):
            return False
        self.fired[site] = self.fired.get(site, 0) + 1
        return True

    def _open(self, site: str) -> Random | None:
        # On or off is the run's choice, the same for all machines; when it fires is each machine's own.
        on = site not in self._never and stream(self._seed, "buggify-site", site).random() < self._enable
        return stream(self._seed, f"buggify/{site}", self._entity) if on else None

    def names(self) -> list[str]:
        """Sites asked so far, and whether each is on: ``name`` or ``-name``."""
        return [*self._always] + [name if random is not None else f"-{name}" for name, random in self._sites.items()]

    def counts(self) -> dict[str, int]:
        """How often each site fired that was asked so far, 0 for one that never did."""
        return {name.removeprefix("-"): self.fired.get(name.removeprefix("-"), 0) for name in self.names()}
