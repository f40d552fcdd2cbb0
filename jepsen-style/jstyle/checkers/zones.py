"""Linearizability of a register whose every write writes another value, by zones: Gibbons and Korach, O(n log n).

A value's *zone* reaches from the earliest return to the latest invocation among its write and the reads of it. Where
the return comes first the zone is *forward*: the register certainly held the value all that time. Else it is
*backward*: one instant somewhere inside is enough. A history is linearizable exactly when no read precedes its write,
no two forward zones overlap, and no backward zone lies inside a forward one.

A write that never completed has no return; with a read of it, it took effect, without one it need not have. A key holds
``None`` before anything happens: a write that completed before the first call. Rule: where values repeat, or something
other than reads and writes is there, it says ``unknown`` and why; it must not guess.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Options, Verdict, flag_option
from jstyle.history.edn import frozen
from jstyle.history.keys import lift
from jstyle.history.op import FAIL, OK, Op, calls

_NEVER: Final = 1 << 62
_READS: Final = frozenset({"read", "get", "r", "GET"})
_WRITES: Final = frozenset({"write", "set", "put", "w", "SET"})


class _Cluster:
    """A value's write and reads. ``first_end`` and ``last_start`` bound the zone; indexes of operations throughout."""

    __slots__ = ("first_end", "first_end_read", "last_start", "reads", "value", "write_end", "write_start")

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self.write_start = -1
        self.write_end = _NEVER
        self.first_end = _NEVER
        self.last_start = -1
        self.first_end_read = _NEVER
        self.reads = 0


class _Key:
    __slots__ = ("clusters", "failed", "unusable", "written")

    def __init__(self) -> None:
        initial = _Cluster(None)
        initial.write_start, initial.write_end = -3, -2
        initial.first_end, initial.last_start = -2, -3
        self.clusters: dict[Hashable, _Cluster] = {None: initial}
        self.written: set[Hashable] = {None}
        self.failed: dict[Hashable, int] = {}
        self.unusable = ""


def _collect(history: Sequence[Op]) -> dict[Hashable, _Key]:
    keys: dict[Hashable, _Key] = {}
    for call in calls(history):
        start, done = call.start, call.done
        name = frozen(start.key)
        key = keys.get(name)
        if key is None:
            key = keys[name] = _Key()
        ended = done.index if done is not None and done.type == OK else _NEVER
        if start.f in _READS:
            if ended == _NEVER or done is None:
                continue
            value = frozen(done.value)
            cluster = key.clusters.get(value)
            if cluster is None:
                cluster = key.clusters[value] = _Cluster(value)
            cluster.reads += 1
            if ended < cluster.first_end_read:
                cluster.first_end_read = ended
        elif start.f in _WRITES:
            value = frozen(start.value)
            if done is not None and done.type == FAIL:
                key.failed[value] = start.index
                continue
            if value in key.written:
                key.unusable = key.unusable or f"operation {start.index} writes {start.value!r}, which was there before"
            key.written.add(value)
            cluster = key.clusters.get(value)
            if cluster is None:
                cluster = key.clusters[value] = _Cluster(value)
            cluster.write_start, cluster.write_end = start.index, ended
        else:
            key.unusable = key.unusable or f"operation {start.index} is {start.f!r}, neither a read nor a write"
            continue
        if ended < cluster.first_end:
            cluster.first_end = ended
        if start.index > cluster.last_start:
            cluster.last_start = start.index
    return keys


def _unwritten(name: Hashable, key: _Key) -> list[Anomaly]:
    """Values read that no write can have put there by then."""
    found = []
    for value, cluster in key.clusters.items():
        at = cluster.first_end_read
        if value not in key.written:
            if value in key.failed:
                wrote = key.failed[value]
                text = f"the read at {at} saw {value!r}, whose write at {wrote} failed"
                found.append(Anomaly("failed-write-visible", text, [wrote, at], name))
            else:
                found.append(Anomaly("phantom-read", f"the read at {at} saw {value!r}, which nobody wrote", [at], name))
        elif at < cluster.write_start:
            text = f"the read at {at} saw {value!r}, written only at {cluster.write_start}"
            found.append(Anomaly("future-read", text, [at, cluster.write_start], name))
    return found


def _crossing(name: Hashable, key: _Key) -> list[Anomaly]:
    """Zones that cannot both be."""
    forward: list[_Cluster] = []
    backward: list[_Cluster] = []
    for cluster in key.clusters.values():
        if cluster.write_end == _NEVER and not cluster.reads:
            continue
        (forward if cluster.first_end < cluster.last_start else backward).append(cluster)
    forward.sort(key=lambda cluster: cluster.first_end)
    found = []
    widest: _Cluster | None = None
    for cluster in forward:
        if widest is not None and cluster.first_end < widest.last_start:
            found.append(_overlap(name, widest, cluster))
        if widest is None or cluster.last_start > widest.last_start:
            widest = cluster
    if found:
        return found
    begins = [cluster.first_end for cluster in forward]
    for cluster in backward:
        at = bisect_right(begins, cluster.last_start) - 1
        if at >= 0 and cluster.first_end < forward[at].last_start:
            found.append(_inside(name, cluster, forward[at]))
    return found


def _overlap(name: Hashable, one: _Cluster, other: _Cluster) -> Anomaly:
    """Both values were certainly there between the later begin and the earlier end."""
    ops = [one.first_end, one.last_start, other.first_end, other.last_start]
    if one.value is None:
        text = f"{other.value!r} was there from {other.first_end}, and nothing at {one.last_start}"
        return Anomaly("lost-write", text, [other.first_end, one.last_start], name)
    text = (
        f"{one.value!r} was there from {one.first_end} to {one.last_start},"
        f" {other.value!r} from {other.first_end} to {other.last_start}"
    )
    return Anomaly(_returned(one, other), text, sorted(ops), name)


def _inside(name: Hashable, inner: _Cluster, outer: _Cluster) -> Anomaly:
    """The inner value came and went while the outer one was certainly there."""
    text = (
        f"{inner.value!r} was there between {inner.last_start} and {inner.first_end}, yet {outer.value!r}"
        f" from {outer.first_end} to {outer.last_start}"
    )
    bounds = (inner.last_start, inner.first_end, outer.first_end, outer.last_start)
    ops = sorted({index for index in bounds if index >= 0})
    if outer.value is None:
        return Anomaly("lost-write", text, ops, name)
    return Anomaly(_returned(outer, inner), text, ops, name)


def _returned(old: _Cluster, new: _Cluster) -> str:
    """The name for an old value seen again: had the newer write been acknowledged by then, or only been seen?"""
    return "stale-read" if new.write_end < old.last_start else "non-monotonic-read"


def check(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability per key of histories of reads and unique writes. Option ``independent`` as everywhere."""
    keys = _collect(lift(history, independent=flag_option(options, "independent")))
    anomalies: list[Anomaly] = []
    unusable: list[str] = []
    counts = {"keys": len(keys), "values": 0, "reads": 0}
    for name, key in keys.items():
        counts["values"] += len(key.written) - 1
        counts["reads"] += sum(cluster.reads for cluster in key.clusters.values())
        if key.unusable:
            unusable.append(f"key {name!r}: {key.unusable}")
            continue
        anomalies.extend(_unwritten(name, key) or _crossing(name, key))
    if anomalies:
        return Verdict("zones", FALSE, anomalies, counts)
    if unusable:
        return Verdict("zones", UNKNOWN, [], counts, f"not a unique-value register: {'; '.join(unusable[:10])}")
    if not counts["reads"]:
        return Verdict("zones", UNKNOWN, [], counts, "no completed read could have shown a fault")
    return Verdict("zones", TRUE, [], counts)
