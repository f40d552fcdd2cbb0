"""What each slot costs, counted as commands run, and CLUSTER SLOT-STATS over those counters.

Rule: the only place that knows the metrics' names, their order and the command's error texts. Counters belong to this
node and are never replicated. Who owns a slot, how many keys it holds and when a counter starts again is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.keyspace.slots import SLOTS
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import Map, Reply

BAD_SLOT: Final = "ERR Invalid or out of range slot"
BAD_METRIC: Final = "ERR Unrecognized sort metric for ORDERBY."
BAD_LIMIT: Final = "ERR Limit has to lie in between 1 and 16384 (maximum number of slots)."
REPEATED: Final = "ERR Multiple filters of the same type are disallowed."

KEY_COUNT: Final = 0
CPU_USEC: Final = 1
NETWORK_BYTES_IN: Final = 2
NETWORK_BYTES_OUT: Final = 3
# durakv's own: what the slot's keys and values take.
MEMORY_BYTES: Final = 4
METRICS: Final = (b"key-count", b"cpu-usec", b"network-bytes-in", b"network-bytes-out", b"memory-bytes")

_NS_PER_US: Final = 1000


class SlotCounters:
    """CPU and traffic by slot since the slot came or CONFIG RESETSTAT. Exists only with cluster-slot-stats-enabled.

    Every method ignores a negative slot, which is how a command without one, or with several, is called. CPU is kept in
    nanoseconds, because a command takes few microseconds and would lose a good part of them each time.
    """

    __slots__ = ("bytes_in", "bytes_out", "cpu_ns")

    def __init__(self) -> None:
        self.cpu_ns: list[int] = [0] * SLOTS
        self.bytes_in: list[int] = [0] * SLOTS
        self.bytes_out: list[int] = [0] * SLOTS

    def charge(self, slot: int, cpu_ns: int, bytes_in: int, bytes_out: int) -> None:
        """A command ended. EXEC and a script are charged once, as a whole; time spent blocked is no CPU."""
        if slot >= 0:
            self.cpu_ns[slot] += cpu_ns
            self.bytes_in[slot] += bytes_in
            self.bytes_out[slot] += bytes_out

    def sent(self, slot: int, bytes_out: int) -> None:
        """Bytes that left later than their command: a blocked client's reply, SPUBLISH, copies sent to followers."""
        if slot >= 0:
            self.bytes_out[slot] += bytes_out

    def forget(self, first: int, last: int) -> None:
        """Ownership of the slots changed: they start from nothing."""
        for slot in range(first, last + 1):
            self.cpu_ns[slot] = 0
            self.bytes_in[slot] = 0
            self.bytes_out[slot] = 0

    def forget_all(self) -> None:
        """CONFIG RESETSTAT."""
        self.forget(0, SLOTS - 1)

    def traffic(self, slot: int) -> int:
        """Bytes in and out."""
        return self.bytes_in[slot] + self.bytes_out[slot]


class SlotMemory:
    """Bytes that the keys of a slot take with their values, over all databases, as they were last weighed."""

    __slots__ = ("used_bytes",)

    def __init__(self) -> None:
        self.used_bytes: list[int] = [0] * SLOTS

    def weighed(self, slot: int, used_bytes: int) -> None:
        """The slot takes so much now."""
        self.used_bytes[slot] = used_bytes

    def total_bytes(self, first: int, last: int) -> int:
        """Of a range of slots, both ends included."""
        return sum(self.used_bytes[first : last + 1])


class Query:
    """One parsed CLUSTER SLOT-STATS. ``metric`` negative: SLOTSRANGE ``first`` to ``last``; otherwise ORDERBY."""

    __slots__ = ("descending", "first", "last", "limit", "metric")

    def __init__(self) -> None:
        self.first = 0
        self.last = SLOTS - 1
        self.metric = -1
        self.limit = SLOTS
        self.descending = True


def parse(argv: list[bytes], *, counted: bool, weighed: bool) -> Query:
    """``argv`` is the whole command, at least four long. Raises CommandError.

    ``counted``: there are SlotCounters; ``weighed``: there is a SlotMemory. Source: cluster_slot_stats.c.
    """
    query = Query()
    kind = argv[2].upper()
    if kind == b"SLOTSRANGE" and len(argv) == 5:
        query.first = _number(argv[3], 0, SLOTS - 1, BAD_SLOT)
        query.last = _number(argv[4], 0, SLOTS - 1, BAD_SLOT)
        if query.first > query.last:
            raise CommandError(f"ERR Start slot number {query.first} is greater than end slot number {query.last}")
        return query
    if kind != b"ORDERBY":
        name = argv[1].decode("utf-8", "surrogateescape")[:128]
        raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try CLUSTER HELP.")
    query.metric = _metric(argv[3].lower(), counted=counted, weighed=weighed)
    limits = orders = 0
    at = 4
    while at < len(argv):
        word = argv[at].upper()
        if word == b"LIMIT" and at + 1 < len(argv):
            at += 1
            query.limit = _number(argv[at], 1, SLOTS, BAD_LIMIT)
            limits += 1
        elif word in (b"ASC", b"DESC"):
            query.descending = word == b"DESC"
            orders += 1
        else:
            raise CommandError(SYNTAX)
        if limits > 1 or orders > 1:
            raise CommandError(REPEATED)
        at += 1
    return query


def _metric(name: bytes, *, counted: bool, weighed: bool) -> int:
    if name == METRICS[KEY_COUNT]:
        return KEY_COUNT
    if name == METRICS[MEMORY_BYTES]:
        if weighed:
            return MEMORY_BYTES
    elif counted and name in METRICS:
        return METRICS.index(name)
    raise CommandError(BAD_METRIC)


def _number(argument: bytes, low: int, high: int, error: str) -> int:
    # As Valkey reads integers: no plus sign, no blanks, no leading zeros.
    if argument.isdigit() and len(argument) <= 5 and (argument[0] != 48 or len(argument) == 1):
        value = int(argument)
        if low <= value <= high:
            return value
    raise CommandError(error)


class SlotStats:
    """Answers queries from the counters there are; either may be None.

    ``keys_of``: how many keys a slot holds over all databases.
    """

    __slots__ = ("counters", "keys_of", "memory")

    def __init__(self, keys_of: Callable[[int], int], counters: SlotCounters | None, memory: SlotMemory | None) -> None:
        self.keys_of = keys_of
        self.counters = counters
        self.memory = memory

    def answer(self, query: Query, owned: list[int]) -> Reply:
        """Array of [slot, map]. ``owned``: the slots of this node's group, ascending."""
        if query.metric < 0:
            return [self._row(slot) for slot in owned if query.first <= slot <= query.last]
        sign = -1 if query.descending else 1
        ranked = sorted((sign * self.value(slot, query.metric), slot) for slot in owned)
        return [self._row(slot) for _, slot in ranked[: query.limit]]

    def value(self, slot: int, metric: int) -> int:
        """One metric of one slot; 0 for one that is not kept."""
        counters = self.counters
        if metric == KEY_COUNT:
            return self.keys_of(slot)
        if metric == MEMORY_BYTES:
            return 0 if self.memory is None else self.memory.used_bytes[slot]
        if counters is None:
            return 0
        if metric == CPU_USEC:
            return counters.cpu_ns[slot] // _NS_PER_US
        return counters.bytes_in[slot] if metric == NETWORK_BYTES_IN else counters.bytes_out[slot]

    def _row(self, slot: int) -> Reply:
        flat: list[Reply] = [METRICS[KEY_COUNT], self.keys_of(slot)]
        if self.counters is not None:
            for metric in (CPU_USEC, NETWORK_BYTES_IN, NETWORK_BYTES_OUT):
                flat += [METRICS[metric], self.value(slot, metric)]
        if self.memory is not None:
            flat += [METRICS[MEMORY_BYTES], self.memory.used_bytes[slot]]
        return [slot, Map(flat)]
