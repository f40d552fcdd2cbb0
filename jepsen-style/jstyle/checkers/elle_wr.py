"""Read-write register transactions: ``["w", k, v]`` and ``["r", k, v]`` against strict serializability or less.

A read names the write it saw, since no value is written to a key twice, but not what was there before. The order of
versions is inferred: nil is first, what a transaction writes follows what it read, and, as option
``linearizable_keys`` (on unless false), the order in which reads and writes of a key were done and begun. Edges from
the last kind count as real time, so they never accuse a system that promised less. Rule: a version order that
contradicts itself is reported and not used. It must not know how cycles are found or named.

Option ``models``: words of ``txn_models.MODELS``; see ``txn_verdict`` for the rest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.txn_cycles import said
from jstyle.checkers.txn_graph import (
    NEVER,
    PROCESS,
    READ,
    REALTIME,
    RW,
    RW_TIMED,
    WR,
    WW,
    WW_TIMED,
    Graph,
    Txn,
    components,
    process_edges,
    real_time_edges,
    repeated_writes,
    transactions,
)
from jstyle.checkers.txn_verdict import Findings, Limits, judge, present, refuse_repeated
from jstyle.checkers.verdict import Options, Verdict, flag_option
from jstyle.history.edn import frozen
from jstyle.history.op import FAIL, Op

WRITE: Final = "w"
# To so many writers a read of nil is ordered directly, those answered first: any other that began after one of these
# follows from them, so real-time faults are never missed.
FIRST_LINKED: Final = 64


class _Key:
    """All that is known of one key."""

    __slots__ = ("chain", "external", "final_of", "key", "readers", "reads", "writer", "writes")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        # Value -> who wrote it, whatever became of them; in order of invocation.
        self.writer: dict[Hashable, Txn] = {}
        # Number of a transaction -> what it leaves behind here, and all it writes here.
        self.final_of: dict[int, Hashable] = {}
        self.writes: dict[int, list[Hashable]] = {}
        self.reads: list[tuple[Txn, Hashable]] = []
        # Number of a transaction -> what was there before it did anything to the key.
        self.external: dict[int, Hashable] = {}
        # Value -> who saw it as the first thing they did to the key.
        self.readers: dict[Hashable, list[Txn]] = {}
        # Value -> what its writer had read, for writers that read first. Every version has one such parent at most.
        self.chain: dict[Hashable, Hashable] = {}


def check(history: Sequence[Op], options: Options) -> Verdict:
    """The anomalies of a register history. Raises HistoryError for what is none, OptionError for bad options."""
    limits = Limits(options)
    timed = flag_option(options, "linearizable_keys") is not False
    txns = transactions(history, WRITE, frozen)
    findings = Findings()
    refuse_repeated(repeated_writes(txns), findings)
    _refuse_nil(txns, findings)
    keys = _by_key(txns, findings)
    _check_inside(txns, findings)
    observed: set[int] = set()
    for key in keys:
        _check_values(key, findings)
        for _, value in key.reads:
            writer = key.writer.get(value)
            if writer is not None and writer.outcome != FAIL:
                observed.add(writer.number)
    happened = present(txns, observed)
    graph = Graph(txns, "wrote")
    for key in keys:
        _check_lost_updates(key, findings)
        _add_reads(key, graph, happened)
        if _ordered(key, findings):
            _add_versions(key, graph, happened)
            if timed:
                _add_timed(key, graph, happened)
    graph.add_order(process_edges(txns, happened), PROCESS)
    graph.add_order(real_time_edges(txns, happened), REALTIME)
    return judge("elle-wr", history, graph, findings, limits)


def _refuse_nil(txns: Sequence[Txn], findings: Findings) -> None:
    for txn in txns:
        for what, key, value in txn.micros:
            if what != READ and value is None:
                findings.unjudged.setdefault(key, "nil was written to it, which reads as if nothing had been written")


def _by_key(txns: Sequence[Txn], findings: Findings) -> list[_Key]:
    """What each key that can be judged saw, keys in order of first use."""
    keys: dict[Hashable, _Key] = {}
    for txn in txns:
        number = txn.number
        for what, name, value in txn.micros:
            if name in findings.unjudged:
                continue
            key = keys.get(name)
            if key is None:
                key = keys[name] = _Key(name)
            if what == READ:
                key.reads.append((txn, value))
                if number not in key.external and number not in key.writes:
                    key.external[number] = value
                    key.readers.setdefault(value, []).append(txn)
            else:
                key.writer[value] = txn
                key.final_of[number] = value
                key.writes.setdefault(number, []).append(value)
    for key in keys.values():
        for number, values in key.writes.items():
            if number in key.external and key.external[number] not in values:
                key.chain.update(dict.fromkeys(values, key.external[number]))
    return list(keys.values())


def _check_inside(txns: Sequence[Txn], findings: Findings) -> None:
    """Each transaction against itself: it reads what it last read or wrote, and nothing it has yet to write."""
    for txn in txns:
        expected: dict[Hashable, Hashable] = {}
        ahead = {(key, value) for what, key, value in txn.micros if what != READ}
        for what, key, value in txn.micros:
            if what != READ:
                ahead.discard((key, value))
            else:
                if key in expected and expected[key] != value:
                    own = said(expected[key])
                    text = f"{txn.name} read {said(key)} as {said(value)}, but by its own steps it was {own}"
                    findings.add("internal", text, [txn], key)
                if (key, value) in ahead:
                    text = f"{txn.name} read {said(key)} as {said(value)} before it wrote that itself"
                    findings.add("future-read", text, [txn], key)
            expected[key] = value


def _check_values(key: _Key, findings: Findings) -> None:
    """Reads of what nobody wrote, of what was never committed, and of what was replaced by its own transaction."""
    told: set[Hashable] = set()
    for txn, value in key.reads:
        if value is None:
            continue
        writer = key.writer.get(value)
        if writer is not None and writer.outcome != FAIL:
            final = key.final_of[writer.number]
            if writer is not txn and final != value:
                seen = f"{txn.name} read {said(key.key)} as {said(value)}"
                text = f"{seen}, but {writer.name} went on to write {said(final)}"
                findings.add("G1b", text, [writer, txn], key.key)
            continue
        if writer is not None and txn.number in key.final_of and key.external.get(txn.number) == value:
            text = (
                f"{txn.name} wrote {said(key.final_of[txn.number])} to {said(key.key)} on top of {said(value)}, which"
                f" {writer.name} wrote, and it failed"
            )
            findings.add("dirty-update", text, [writer, txn], key.key)
        if value in told:
            continue
        told.add(value)
        if writer is None:
            text = f"{txn.name} read {said(value)} in {said(key.key)}, which no transaction wrote"
            findings.add("garbage-read", text, [txn], key.key)
        else:
            text = f"{txn.name} read {said(value)} in {said(key.key)}, which {writer.name} wrote, and it failed"
            findings.add("G1a", text, [writer, txn], key.key)


def _check_lost_updates(key: _Key, findings: Findings) -> None:
    """Transactions that replaced the same version, each having read it first: only one of them can be next."""
    for value, readers in key.readers.items():
        updates = [txn for txn in readers if key.chain.get(key.final_of.get(txn.number), txn) == value]
        if len(updates) > 1:
            names = " and ".join(txn.name for txn in updates)
            text = f"{names} each read {said(key.key)} as {said(value)} and then wrote to it"
            findings.add("lost-update", text, updates, key.key)


def _ordered(key: _Key, findings: Findings) -> bool:
    """Whether the versions a transaction left on top of what it read are in an order at all."""
    values = list(key.writer)
    number = {value: at for at, value in enumerate(values)}
    out: list[dict[int, int]] = [{} for _ in values]
    for value, parent in key.chain.items():
        if parent in number:
            out[number[parent]][number[value]] = 1
    tangles = components(out, range(len(values)), 1)
    for tangle in tangles:
        versions = [values[at] for at in tangle]
        writers = [key.writer[version] for version in versions]
        text = f"versions {', '.join(map(said, versions))} of {said(key.key)} were each written on top of one another"
        findings.add("cyclic-versions", text, writers, key.key)
    return not tangles


def _add_reads(key: _Key, graph: Graph, happened: Sequence[bool]) -> None:
    for value, readers in key.readers.items():
        writer = key.writer.get(value)
        if writer is not None and happened[writer.number]:
            for reader in readers:
                graph.add(writer.number, reader.number, WR, key.key, value, value)


def _add_versions(key: _Key, graph: Graph, happened: Sequence[bool]) -> None:
    """The ww and rw edges that need no clock: nil first, then what each transaction put on top of what."""
    # Those that follow from no other version of the key.
    roots: list[Txn] = []
    for number, values in key.writes.items():
        if not happened[number]:
            continue
        parent = key.chain.get(values[0])
        below = key.writer.get(parent)
        if below is None or not happened[below.number]:
            roots.append(graph.txns[number])
        else:
            graph.add(below.number, number, WW, key.key, parent, values[0])
        for reader in key.readers.get(parent, ()) if parent is not None else ():
            graph.add(reader.number, number, RW, key.key, parent, values[0])
        for one in values[:-1]:
            for reader in key.readers.get(one, ()):
                graph.add(reader.number, number, RW, key.key, one, values[-1])
    roots.sort(key=lambda txn: txn.end)
    for reader in key.readers.get(None, ()):
        for root in roots[:FIRST_LINKED]:
            graph.add(reader.number, root.number, RW, key.key, None, key.writes[root.number][0])


class _Version:
    """A value that its transaction left behind, and when it must have been there."""

    __slots__ = ("last_seen", "readers", "there", "value", "writer")

    def __init__(self, value: Hashable, writer: Txn, readers: list[Txn]) -> None:
        self.value = value
        self.writer = writer
        self.readers = readers
        # By this operation it was written; it was still current, or so a read says, after that one began.
        self.there = min([writer.end, *(reader.end for reader in readers)])
        self.last_seen = max([-1, *(reader.start for reader in readers if reader is not writer)])


def _add_timed(key: _Key, graph: Graph, happened: Sequence[bool]) -> None:
    """The ww and rw edges from when reads and writes of the key were done and begun, but for those that follow."""
    versions = [
        _Version(value, graph.txns[number], key.readers.get(value, []))
        for number, value in key.final_of.items()
        if happened[number]
    ]
    versions.sort(key=lambda version: version.writer.start)
    starts = [version.writer.start for version in versions]
    for old in versions:
        limit = NEVER
        for at in range(bisect_right(starts, old.there), len(versions)):
            new = versions[at]
            if new.writer.start > limit:
                break
            if new is not old:
                limit = min(limit, new.there)
                _add_readers(key, graph, old, new)
    by_end = sorted((version for version in versions if version.writer.end != NEVER), key=lambda it: it.writer.end)
    ends = [version.writer.end for version in by_end]
    for new in versions:
        latest = -1
        low, high = bisect_right(ends, new.writer.start), bisect_left(ends, new.last_seen)
        for at in range(high - 1, low - 1, -1):
            old = by_end[at]
            if old.writer.end < latest:
                break
            if old is new or old.writer.start > new.there:
                continue
            latest = max(latest, old.writer.start)
            _add_readers(key, graph, old, new)
            # Where the versions have been seen the other way round too, the reads alone tell of it.
            if new.writer.end > old.last_seen and not _on_top(key, old.value, new.value):
                graph.add(old.writer.number, new.writer.number, WW_TIMED, key.key, old.value, new.value)


def _add_readers(key: _Key, graph: Graph, old: _Version, new: _Version) -> None:
    for reader in old.readers:
        if reader.end >= new.writer.start:
            graph.add(reader.number, new.writer.number, RW_TIMED, key.key, old.value, new.value)


def _on_top(key: _Key, value: Hashable, below: Hashable) -> bool:
    """Whether ``value`` was written, by way of others, on top of ``below``; the chain must hold no circle."""
    at: Hashable | None = value
    while at is not None:
        if at == below:
            return True
        at = key.chain.get(at)
    return False
