"""How loaded each group is, as its leader last said, for whoever plans to move slots.

Rule: hints that grow old: each is replaced by the next, none is asked for again, and digests know nothing of them.
"""

from __future__ import annotations

import struct
from typing import Final

_LOAD: Final = struct.Struct("<IQIBHH8Q")
LOAD_BYTES: Final = _LOAD.size
_HEALTHY: Final = 1
_DRAINING: Final = 2
_MOST: Final = (1 << 64) - 1


class GroupLoad:
    """One group at one moment; not changed afterwards. ``term`` and ``sequence`` order what its leaders said.

    ``cpu`` in microseconds a second and ``network`` in bytes a second, over the last minute and the last ten; memory in
    bytes. Capacities of 0 are not counted. ``inbound`` and ``outbound``: migrations under way. ``healthy``: it can
    commit and is not pinned. ``draining``: it is to be emptied.
    """

    __slots__ = (
        "capacity_cpu", "capacity_memory", "capacity_network", "cpu", "cpu_ten", "draining", "group", "healthy",
        "inbound", "memory", "network", "network_ten", "outbound", "sequence", "term",
    )  # fmt: skip

    def __init__(self, group: int, term: int, sequence: int) -> None:
        self.group = group
        self.term = term
        self.sequence = sequence
        self.healthy = True
        self.draining = False
        self.inbound = 0
        self.outbound = 0
        self.cpu = 0
        self.cpu_ten = 0
        self.network = 0
        self.network_ten = 0
        self.memory = 0
        self.capacity_cpu = 0
        self.capacity_network = 0
        self.capacity_memory = 0

    def version(self) -> tuple[int, int]:
        """Compares: the greater is the newer."""
        return (self.term, self.sequence)

    def encode(self) -> bytes:
        """LOAD_BYTES."""
        flags = (_HEALTHY if self.healthy else 0) | (_DRAINING if self.draining else 0)
        amounts = (
            self.cpu, self.cpu_ten, self.network, self.network_ten, self.memory, self.capacity_cpu,
            self.capacity_network, self.capacity_memory,
        )  # fmt: skip
        return _LOAD.pack(
            self.group, self.term, self.sequence, flags, min(self.inbound, 0xFFFF), min(self.outbound, 0xFFFF),
            *[min(max(0, amount), _MOST) for amount in amounts],
        )  # fmt: skip


def decode_load(data: bytes, at: int) -> GroupLoad:
    """The load at ``at``. Raises struct.error when cut off, ValueError for a group or flags that cannot be."""
    group, term, sequence, flags, inbound, outbound, *amounts = _LOAD.unpack_from(data, at)
    if not group or flags > _HEALTHY | _DRAINING:
        raise ValueError(f"load of group {group} with flags {flags}")
    load = GroupLoad(group, term, sequence)
    load.healthy = bool(flags & _HEALTHY)
    load.draining = bool(flags & _DRAINING)
    load.inbound, load.outbound = inbound, outbound
    load.cpu, load.cpu_ten, load.network, load.network_ten, load.memory = amounts[:5]
    load.capacity_cpu, load.capacity_network, load.capacity_memory = amounts[5:]
    return load


class Loads:
    """The newest of each group, and when this node heard of it."""

    def __init__(self) -> None:
        self.known: dict[int, GroupLoad] = {}
        self.heard_ms: dict[int, int] = {}

    def learn(self, load: GroupLoad, now_ms: int) -> bool:
        """True when that was new."""
        old = self.known.get(load.group)
        if old is not None and old.version() >= load.version():
            return False
        self.known[load.group] = load
        self.heard_ms[load.group] = now_ms
        return True

    def fresh(self, now_ms: int, age_ms_max: int) -> list[GroupLoad]:
        """Those heard of within so long, by group; older ones are forgotten."""
        for group in [g for g, at in self.heard_ms.items() if now_ms - at > age_ms_max]:
            del self.heard_ms[group]
            del self.known[group]
        return [self.known[group] for group in sorted(self.known)]
