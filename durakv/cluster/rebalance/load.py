"""How full a group is: the fullest of its resources, as a share of what the group can take.

Rule: the only place that compares CPU with bytes. Knows neither slots' owners nor time.
"""

from __future__ import annotations

from typing import Final

RESOURCES: Final = ("cpu", "network", "memory")
MIB: Final = 1 << 20


class Load:
    """What something uses, or can take: CPU in microseconds a second, network in bytes a second, memory in bytes."""

    __slots__ = ("cpu_us_s", "memory_bytes", "network_bytes_s")

    def __init__(self, cpu_us_s: float = 0.0, network_bytes_s: float = 0.0, memory_bytes: float = 0.0) -> None:
        self.cpu_us_s = cpu_us_s
        self.network_bytes_s = network_bytes_s
        self.memory_bytes = memory_bytes

    def plus(self, other: Load, times: float = 1.0) -> Load:
        """This and ``times`` the other; never below nothing, since two averages may be a moment apart."""
        return Load(
            max(0.0, self.cpu_us_s + times * other.cpu_us_s),
            max(0.0, self.network_bytes_s + times * other.network_bytes_s),
            max(0.0, self.memory_bytes + times * other.memory_bytes),
        )

    def shares(self, capacity: Load) -> tuple[float, float, float]:
        """Of each resource, in the order of RESOURCES. A capacity of 0 means that nobody counts that resource."""
        return (
            self.cpu_us_s / capacity.cpu_us_s if capacity.cpu_us_s else 0.0,
            self.network_bytes_s / capacity.network_bytes_s if capacity.network_bytes_s else 0.0,
            self.memory_bytes / capacity.memory_bytes if capacity.memory_bytes else 0.0,
        )

    def share(self, capacity: Load) -> float:
        """The fullest resource's share: 1.0 is all the group can take."""
        return max(self.shares(capacity))

    def dominant(self, capacity: Load) -> int:
        """Which resource that is, as an index of RESOURCES; the first of equals."""
        shares = self.shares(capacity)
        return shares.index(max(shares))


class SlotLoad:
    """One slot: what it uses, and what it would take to copy it."""

    __slots__ = ("keys", "load", "slot", "write_bytes_s")

    def __init__(self, slot: int, load: Load, keys: int = 0, write_bytes_s: float = 0.0) -> None:
        self.slot = slot
        self.load = load
        self.keys = keys
        # What writes add to the stream while the slot is copied.
        self.write_bytes_s = write_bytes_s

    def copy_bytes(self, stream_bytes_s: float) -> float:
        """The slot's content, and what is written to it while that is sent at ``stream_bytes_s``."""
        content = self.load.memory_bytes
        return content + self.write_bytes_s * (content / stream_bytes_s)


class GroupState:
    """One group as whoever plans knows it.

    ``used``: what its slots use together, as measured. ``slots``: only where this planner may move them away; empty for
    a group known by its totals alone. ``draining``: it is to be emptied. ``joining``: it is new and to be filled.
    ``inbound`` and ``outbound``: migrations now running that the planner's own history does not know of.
    """

    __slots__ = ("capacity", "draining", "group", "healthy", "inbound", "joining", "outbound", "slots", "used")

    def __init__(self, group: int, used: Load, capacity: Load, slots: list[SlotLoad] | None = None) -> None:
        self.group = group
        self.used = used
        self.capacity = capacity
        self.slots: list[SlotLoad] = [] if slots is None else slots
        self.draining = False
        self.joining = False
        # It has a quorum, is not pinned by its witness and not degraded.
        self.healthy = True
        self.inbound = 0
        self.outbound = 0


def total(slots: list[SlotLoad]) -> Load:
    """What slots use together, added in the order given."""
    cpu = network = memory = 0.0
    for s in slots:
        cpu += s.load.cpu_us_s
        network += s.load.network_bytes_s
        memory += s.load.memory_bytes
    return Load(cpu, network, memory)
