"""List-append transactions: ``["append", k, v]`` and ``["r", k, [..]]`` against strict serializability or less.

A read of a list shows the whole history of its key, so the order of versions is the prefix order of the reads; appends
nobody read come after the longest read, in no known order. Rule: an order is used only as far as all reads of the key
agree on it. It must not know how cycles are found or named.

Option ``models``: words of ``txn_models.MODELS``; see ``txn_verdict`` for the rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Final

from jstyle.checkers.txn_cycles import said
from jstyle.checkers.txn_graph import (
    PROCESS,
    READ,
    REALTIME,
    RW,
    WR,
    WW,
    Graph,
    Txn,
    process_edges,
    real_time_edges,
    repeated_writes,
    transactions,
)
from jstyle.checkers.txn_verdict import Findings, Limits, judge, present, refuse_repeated
from jstyle.checkers.verdict import Options, Verdict
from jstyle.history.edn import frozen
from jstyle.history.op import FAIL, Op

APPEND: Final = "append"
# To so many unread appends a read is ordered directly, those answered first: any other that began after a read's end
# or after one of these follows from them, so real-time faults are never missed.
UNREAD_LINKED: Final = 64

Elements = tuple[Hashable, ...]


class _Key:
    """All that is known of one key."""

    __slots__ = ("appends", "external", "key", "last_of", "longest", "open_end", "reads", "seen", "trusted", "writer")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        # In order of invocation, whatever became of them.
        self.appends: list[tuple[Txn, Hashable]] = []
        self.writer: dict[Hashable, Txn] = {}
        # Number of a transaction -> the last value it appends here.
        self.last_of: dict[int, Hashable] = {}
        self.reads: list[tuple[Txn, Elements]] = []
        # The reads that say what was there before their transaction did anything to the key.
        self.external: list[tuple[Txn, Elements]] = []
        self.longest: Elements = ()
        self.seen: set[Hashable] = set()
        # So many elements of the longest read have a known order.
        self.trusted = 0
        # Whether what nobody read is known to come after the longest read.
        self.open_end = True


def check(history: Sequence[Op], options: Options) -> Verdict:
    """The anomalies of a list-append history. Raises HistoryError for what is none, OptionError for bad options."""
    limits = Limits(options)
    txns = transactions(history, APPEND, _elements)
    findings = Findings()
    refuse_repeated(repeated_writes(txns), findings)
    keys = _by_key(txns, findings)
    _check_inside(txns, findings)
    observed: set[int] = set()
    for key in keys:
        _order_versions(key, findings)
        _check_values(key, findings)
        observed.update(key.writer[value].number for value in key.seen if value in key.writer)
    happened = present(txns, {number for number in observed if txns[number].outcome != FAIL})
    graph = Graph(txns, "appended")
    for key in keys:
        _add_edges(key, graph, happened)
        _check_lost_updates(key, findings)
    graph.add_order(process_edges(txns, happened), PROCESS)
    graph.add_order(real_time_edges(txns, happened), REALTIME)
    return judge("elle-append", history, graph, findings, limits)


def _elements(value: object) -> Elements:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise TypeError(f"a list or null was expected, not {value!r}")
    return tuple([item if type(item) is int else frozen(item) for item in value])


def _by_key(txns: Sequence[Txn], findings: Findings) -> list[_Key]:
    """What each key that can be judged saw, keys in order of first use."""
    keys: dict[Hashable, _Key] = {}
    for txn in txns:
        touched: set[Hashable] = set()
        for what, name, value in txn.micros:
            if name in findings.unjudged:
                continue
            key = keys.get(name)
            if key is None:
                key = keys[name] = _Key(name)
            if what == READ:
                assert isinstance(value, tuple)
                key.reads.append((txn, value))
                if name not in touched:
                    key.external.append((txn, value))
            else:
                key.appends.append((txn, value))
                key.writer[value] = txn
                key.last_of[txn.number] = value
            touched.add(name)
    return list(keys.values())


def _check_inside(txns: Sequence[Txn], findings: Findings) -> None:
    """Each transaction against itself: what it read and appended must show in what it reads next, and not before."""
    for txn in txns:
        # Key -> whether all of the list is known, and the list or its known end.
        expected: dict[Hashable, tuple[bool, Elements]] = {}
        ahead: dict[Hashable, list[Hashable]] = {}
        for what, key, value in txn.micros:
            if what != READ:
                ahead.setdefault(key, []).append(value)
        for what, key, value in txn.micros:
            if what != READ:
                whole, known = expected.get(key, (False, ()))
                expected[key] = (whole, (*known, value))
                ahead[key].pop(0)
                continue
            assert isinstance(value, tuple)
            if key in expected:
                whole, known = expected[key]
                if value != known if whole else known and value[-len(known) :] != known:
                    end = "" if whole else "something that ends in "
                    text = (
                        f"{txn.name} read {said(key)} as {said(value)}, but by its own steps it was {end}{said(known)}"
                    )
                    findings.add("internal", text, [txn], key)
            early = [item for item in ahead.get(key, ()) if item in value]
            if early:
                text = f"{txn.name} read {said(key)} as {said(value)} before it appended {said(early[0])} itself"
                findings.add("future-read", text, [txn], key)
            expected[key] = (True, value)


def _order_versions(key: _Key, findings: Findings) -> None:
    """Finds the order of the key's elements and how far it can be trusted."""
    clean: list[tuple[Txn, Elements]] = []
    for txn, elements in key.reads:
        if len(set(elements)) == len(elements):
            clean.append((txn, elements))
            continue
        key.open_end = False
        twice = next(item for at, item in enumerate(elements) if item in elements[:at])
        text = f"{txn.name} read {said(key.key)} as {said(elements)}, where {said(twice)} is more than once"
        findings.add("duplicate-elements", text, [txn], key.key)
    longest_txn: Txn | None = None
    for txn, elements in clean:
        if len(elements) > len(key.longest):
            longest_txn, key.longest = txn, elements
    longest = key.longest
    key.trusted = len(longest)
    key.seen.update(longest)
    for txn, elements in key.reads:
        if elements == longest[: len(elements)]:
            continue
        key.seen.update(elements)
        pairs = zip(elements, longest, strict=False)
        at = next((at for at, (one, other) in enumerate(pairs) if one != other), len(longest))
        key.trusted = min(key.trusted, at)
        key.open_end = False
        if longest_txn is not None and at < len(longest) and len(set(elements)) == len(elements):
            text = (
                f"{txn.name} read {said(key.key)} as {said(elements)}, {longest_txn.name} as {said(longest)}: they"
                f" differ at element {at + 1}, so neither came before the other"
            )
            findings.add("incompatible-order", text, [longest_txn, txn], key.key)
    if longest_txn is not None:
        _check_own_order(key, longest_txn, findings)


def _check_own_order(key: _Key, reader: Txn, findings: Findings) -> None:
    """The longest read against the steps of each writer; the graph, whose nodes are transactions, cannot show this."""
    step = {value: at for at, (_, value) in enumerate(key.appends)}
    latest: dict[int, Hashable] = {}
    told: set[int] = set()
    for value in key.longest:
        writer = key.writer.get(value)
        if writer is None or writer.outcome == FAIL:
            continue
        before = latest.setdefault(writer.number, value)
        if step[before] <= step[value]:
            latest[writer.number] = value
        elif writer.number not in told:
            told.add(writer.number)
            text = (
                f"{reader.name} read {said(before)} before {said(value)} in {said(key.key)}, but {writer.name} appended"
                f" {said(value)} before {said(before)}"
            )
            findings.add("cyclic-versions", text, [writer, reader], key.key)


def _check_values(key: _Key, findings: Findings) -> None:
    """Reads of what nobody appended, of what was never committed, and of what was not yet all."""
    for value in sorted(key.seen, key=repr):
        writer = key.writer.get(value)
        if writer is not None and writer.outcome != FAIL:
            continue
        reader = next(txn for txn, elements in key.reads if value in elements)
        if writer is None:
            text = f"{reader.name} read {said(value)} in {said(key.key)}, which no transaction appended"
            findings.add("garbage-read", text, [reader], key.key)
            continue
        text = f"{reader.name} read {said(value)} in {said(key.key)}, which {writer.name} appended, and it failed"
        findings.add("G1a", text, [writer, reader], key.key)
        _check_dirty_update(key, writer, value, findings)
    for txn, elements in key.external:
        last = elements[-1] if elements else None
        writer = key.writer.get(last)
        if writer is None or writer is txn or writer.outcome == FAIL or key.last_of[writer.number] in elements:
            continue
        text = (
            f"{txn.name} read {said(key.key)} up to {said(last)}, but {writer.name} went on to append"
            f" {said(key.last_of[writer.number])}"
        )
        findings.add("G1b", text, [writer, txn], key.key)


def _check_dirty_update(key: _Key, aborted: Txn, value: Hashable, findings: Findings) -> None:
    order = key.longest[: key.trusted]
    if value not in order:
        return
    for later in order[order.index(value) + 1 :]:
        writer = key.writer.get(later)
        if writer is not None and writer.outcome != FAIL:
            text = (
                f"{writer.name} appended {said(later)} to {said(key.key)} on top of {said(value)}, which {aborted.name}"
                " appended, and it failed"
            )
            findings.add("dirty-update", text, [aborted, writer], key.key)
            return


def _check_lost_updates(key: _Key, findings: Findings) -> None:
    """Transactions that appended to the same version, each having read it first: only one of them can be next."""
    groups: dict[Elements, list[Txn]] = {}
    for txn, elements in key.external:
        if txn.number in key.last_of and key.last_of[txn.number] not in elements:
            groups.setdefault(elements, []).append(txn)
    for elements, txns in groups.items():
        if len(txns) > 1:
            names = " and ".join(txn.name for txn in txns)
            text = f"{names} each read {said(key.key)} as {said(elements)} and then appended to it"
            findings.add("lost-update", text, txns, key.key)


def _add_edges(key: _Key, graph: Graph, happened: Sequence[bool]) -> None:
    """The ww, wr and rw edges of one key."""
    name = key.key
    # The committed part of the trusted order: writers and values, and for each length of a read how many it holds.
    line: list[tuple[int, Hashable]] = []
    held = [0]
    for value in key.longest[: key.trusted]:
        writer = key.writer.get(value)
        if writer is not None and happened[writer.number]:
            line.append((writer.number, value))
        held.append(len(line))
    for (one, left), (two, right) in pairwise(line):
        graph.add(one, two, WW, name, left, right)
    unread = _unread(key, happened) if key.open_end else []
    if line:
        for appender, value in unread:
            graph.add(line[-1][0], appender, WW, name, line[-1][1], value)
    for txn, elements in key.external:
        reader = txn.number
        known = (
            elements[: key.trusted] == key.longest[: min(len(elements), key.trusted)] and len(elements) <= key.trusted
        )
        if not known:
            for value in elements:
                writer = key.writer.get(value)
                if writer is not None and happened[writer.number]:
                    graph.add(writer.number, reader, WR, name, elements, value)
            continue
        before = at = held[len(elements)]
        while before and line[before - 1][0] == reader:
            before -= 1
        if before:
            graph.add(line[before - 1][0], reader, WR, name, elements, line[before - 1][1])
        while at < len(line) and line[at][0] == reader:
            at += 1
        if at < len(line):
            graph.add(reader, line[at][0], RW, name, elements, line[at][1])
        else:
            for appender, value in unread[:UNREAD_LINKED]:
                graph.add(reader, appender, RW, name, elements, value)


def _unread(key: _Key, happened: Sequence[bool]) -> list[tuple[int, Hashable]]:
    """Who is known to have appended what nobody read, those answered first in front."""
    first: dict[int, tuple[Txn, Hashable]] = {}
    for txn, value in key.appends:
        if happened[txn.number] and value not in key.seen:
            first.setdefault(txn.number, (txn, value))
    return [(txn.number, value) for txn, value in sorted(first.values(), key=lambda pair: pair[0].end)]
