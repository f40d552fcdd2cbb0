"""What a witness link needs of the world, and the names of the thing it talks to.

Rule: handed in whole by whoever opens a link; nothing here does anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from durakv.world.ports import Clock, Disk, Network, OpenObjectStore, Rng

CLUSTER_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class WitnessParts:
    """``disk`` is a lane of its own, never the log's: a store far away may block it for seconds. Links to files and
    objects need it; ``open_objects`` only links to objects. ``tls`` names a context of the network (None: plain TCP).
    """

    clock: Clock
    rng: Rng
    network: Network
    disk: Disk | None = None
    open_objects: OpenObjectStore | None = None
    tls: str | None = None


@dataclass(frozen=True, slots=True)
class StateKey:
    """Which state: a witness serves many groups of many clusters, and an id is a witness's only within its group."""

    cluster_id: bytes
    group: int
    witness_id: int

    def __post_init__(self) -> None:
        assert len(self.cluster_id) == CLUSTER_ID_BYTES, "a cluster id has 16 bytes"
        assert 0 <= self.group < 1 << 64, "a group is a 64-bit number"
        assert 0 < self.witness_id < 1 << 64, "a witness id is a positive 64-bit number"

    def name(self) -> str:
        """A file or object name; ``named()`` reads it back."""
        return f"{self.cluster_id.hex()}-{self.group}-{self.witness_id}"

    @staticmethod
    def named(name: str) -> StateKey | None:
        """The key whose name() this is, or None."""
        fields = name.split("-")
        if len(fields) != 3 or not all(field.isascii() for field in fields):
            return None
        if not (fields[1].isdecimal() and fields[2].isdecimal()) or len(fields[0]) != 2 * CLUSTER_ID_BYTES:
            return None
        group, witness_id = int(fields[1]), int(fields[2])
        if group >= 1 << 64 or not 0 < witness_id < 1 << 64:
            return None
        try:
            key = StateKey(bytes.fromhex(fields[0]), group, witness_id)
        except ValueError:
            return None
        return key if key.name() == name else None
