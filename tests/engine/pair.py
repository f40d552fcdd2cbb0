"""Two engines as the leaders of two groups, and what they say to each other about slots, delivered by hand."""

from __future__ import annotations

from collections import deque

from durakv.cluster.handoff.entries import Runs
from durakv.cluster.handoff.jobs import Target
from tests.engine.rig import Client, Rig
from tests.storage.world import SimRng

NAMES = {1: b"1" * 40, 2: b"2" * 40}
# Slots of these tags: 0, 1 and 5462.
HERE = "{06S}"
BESIDE = "{Qi}"
THERE = "{450}"


class Numbered(SimRng):
    """Tokens that differ."""

    def __init__(self) -> None:
        super().__init__(11)
        self.given = 0

    def token(self, nbytes: int) -> bytes:
        self.given += 1
        return self.given.to_bytes(nbytes, "big")


class Link:
    """What one group knows of the other. Implements Cluster."""

    def __init__(self, pair: Pair, group: int) -> None:
        self.pair = pair
        self.group = group
        self.known: list[tuple[int, Runs, int]] = []

    def send_slots(self, group: int, blob: bytes) -> None:
        self.pair.sent.append((group, blob))

    def slots_moved(self, group: int, runs: Runs, epochs_up: int) -> None:
        self.known.append((group, runs, epochs_up))

    def owner_of(self, slot: int) -> int:
        return 1 if self.pair.sides[1].engine.places.handoff.claims(slot) else 2

    def elsewhere(self, slot: int) -> tuple[str, int] | None:
        other = 3 - self.group
        return (f"10.0.0.{other}", 7000 + other)

    def node_named(self, name: bytes) -> Target | None:
        for group, known in NAMES.items():
            if known == name:
                return Target(group, witness=False)
        return None

    def leader_name(self, group: int) -> bytes:
        return NAMES[group]


class Pair:
    """Group 1 owns slots 0-5000 as it begins, group 2 the others."""

    def __init__(self, **directives: str) -> None:
        self.sent: deque[tuple[int, bytes]] = deque()
        self.sides: dict[int, Rig] = {}
        for group, slots in ((1, (0, 5000)), (2, (5001, 16383))):
            rig = Rig(cluster_enabled="yes", **directives)  # type: ignore[arg-type]
            rig.found(group, slots)
            rig.engine.rng = Numbered()
            rig.engine.places.handoff.cluster_id = b"a-cluster"
            link = Link(self, group)
            rig.engine.moving.cluster = link
            rig.engine.places.elsewhere = link.elsewhere
            self.sides[group] = rig

    @property
    def source(self) -> Rig:
        return self.sides[1]

    @property
    def target(self) -> Rig:
        return self.sides[2]

    def deliver(self) -> bool:
        """Everything that was sent."""
        sent, self.sent = self.sent, deque()
        for group, blob in sent:
            self.sides[group].engine.moving.receive(blob)
        return bool(sent)

    def step(self) -> None:
        """Some milliseconds, in which logs commit and messages arrive."""
        for rig in self.sides.values():
            rig.settle()
        self.deliver()
        for rig in self.sides.values():
            rig.settle()
            rig.pass_ms(5)

    def order(self, first: int = 0, last: int = 1) -> Client:
        """MIGRATESLOTS to group 2, not answered yet."""
        client = self.source.client()
        client.send([b"CLUSTER", b"MIGRATESLOTS", b"SLOTSRANGE", b"%d" % first, b"%d" % last, b"NODE", NAMES[2]])
        return client

    def run(self, steps: int = 200) -> None:
        """Until nothing is under way."""
        for _ in range(steps):
            self.step()
            if not self.sent and not any(rig.engine.places.state.records for rig in self.sides.values()):
                return
        raise AssertionError("the migration does not end")

    def check_followers(self) -> None:
        for rig in self.sides.values():
            rig.check_follower()
