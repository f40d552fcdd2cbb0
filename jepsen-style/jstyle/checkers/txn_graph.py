"""Transactions of a history and the graph of what must have come before what.

An edge ``a -> b`` says that a came before b in every order that explains the history: ``ww`` b replaced what a wrote,
``wr`` b read what a wrote, ``rw`` b replaced what a read, ``process`` one client did a and then b, ``realtime`` a was
done before b began. Rule: the only place that decides which calls are transactions, which may have happened, and what
the order of processes and of real time is. It must not know how writes to one key are put in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Final

from jstyle.history.edn import frozen
from jstyle.history.op import FAIL, INFO, INVOKE, OK, Call, HistoryError, Op, calls, is_client

TXN: Final = "txn"
READ: Final = "r"

WW: Final = 1
WR: Final = 2
RW: Final = 4
PROCESS: Final = 8
REALTIME: Final = 16
# As ww and rw, but the order of the two writes is known from real time only.
WW_TIMED: Final = 32
RW_TIMED: Final = 64
KINDS: Final = (WW, WR, RW, WW_TIMED, RW_TIMED, PROCESS, REALTIME)
EDGE_NAMES: Final = {
    WW: "ww", WR: "wr", RW: "rw", PROCESS: "process", REALTIME: "realtime", WW_TIMED: "ww", RW_TIMED: "rw",
}  # fmt: skip

# (what, key, value); what is "r" or the engine's word for a write, key and value are frozen.
Micro = tuple[str, Hashable, Hashable]

# End of a transaction that never answered: later than every index.
NEVER: Final = 1 << 62


class Txn:
    """One transaction. ``start`` and ``end`` are operation indexes; ``end`` is NEVER unless it answered ok.

    ``micros`` holds the reads only of one that answered ok: nobody knows what the others read.
    """

    __slots__ = ("end", "micros", "number", "op", "outcome", "process", "start")

    def __init__(self, number: int, call: Call, outcome: str, micros: list[Micro]) -> None:
        self.number = number
        self.outcome = outcome
        self.process = call.start.process
        self.micros = micros
        self.start = call.start.index
        self.op = call.start.index if call.done is None else call.done.index
        self.end = self.op if outcome == OK else NEVER

    @property
    def name(self) -> str:
        """The name in texts: T and the index of the operation that holds its results."""
        return f"T{self.op}"


def outcome_of(call: Call) -> str:
    """``ok`` happened, ``fail`` never happened, ``info`` may have happened."""
    return call.outcome


def transaction_calls(history: Iterable[Op]) -> list[Call]:
    """The calls that are transactions, in order of invocation. Raises HistoryError."""
    return [call for call in calls(history) if call.start.f == TXN]


def transactions(history: Iterable[Op], write: str, reads: Callable[[object], Hashable]) -> list[Txn]:
    """All transactions. ``write`` is the word for a write; ``reads`` freezes a read's reply or raises TypeError."""
    found: list[Txn] = []
    for call in transaction_calls(history):
        outcome = outcome_of(call)
        asked = _micros(call.start, write)
        if outcome != OK:
            micros = [(what, key, frozen(value)) for what, key, value in asked if what != READ]
        else:
            assert call.done is not None
            answered = _micros(call.done, write)
            _same_request(call, asked, answered)
            micros = []
            for what, key, value in answered:
                try:
                    micros.append((what, key, reads(value) if what == READ else frozen(value)))
                except TypeError as error:
                    raise HistoryError(f"operation {call.done.index}: read of {key!r}: {error}") from error
        found.append(Txn(len(found), call, outcome, micros))
    return found


def _micros(op: Op, write: str) -> list[tuple[str, Hashable, object]]:
    value = op.value
    if not isinstance(value, list | tuple):
        raise HistoryError(f'operation {op.index}: a transaction is a list like [["{write}", 1, 2]], not {value!r}')
    found: list[tuple[str, Hashable, object]] = []
    for micro in value:
        if not isinstance(micro, list | tuple) or len(micro) not in {2, 3} or micro[0] not in {write, READ}:
            raise HistoryError(
                f'operation {op.index}: a part of a transaction is ["{write}", key, value] or ["r", key, value],'
                f" not {micro!r}"
            )
        if micro[0] != READ and len(micro) != 3:
            raise HistoryError(f"operation {op.index}: {micro!r} does not say what it writes")
        found.append((str(micro[0]), frozen(micro[1]), micro[2] if len(micro) == 3 else None))
    return found


def _same_request(
    call: Call, asked: list[tuple[str, Hashable, object]], answered: list[tuple[str, Hashable, object]]
) -> None:
    def request(micros: list[tuple[str, Hashable, object]]) -> list[tuple[str, Hashable, Hashable]]:
        return [(what, key, None if what == READ else frozen(value)) for what, key, value in micros]

    assert call.done is not None
    if request(asked) != request(answered):
        raise HistoryError(
            f"operation {call.done.index}: the answer's parts are not those of its request, operation"
            f" {call.start.index}; record the transaction as it was sent, with the results of its reads filled in"
        )


def repeated_writes(txns: Iterable[Txn]) -> dict[Hashable, Hashable]:
    """For each key that some value was written to twice, by any transactions, one such value."""
    seen: set[tuple[Hashable, Hashable]] = set()
    found: dict[Hashable, Hashable] = {}
    for txn in txns:
        for what, key, value in txn.micros:
            if what == READ:
                continue
            if (key, value) in seen:
                found.setdefault(key, value)
            seen.add((key, value))
    return found


class Graph:
    """``out[a][b]`` is the mask of the kinds of edges from transaction a to b.

    ``because`` holds for each edge (a, b, kind) the first reason given: key and the sentence's two values.
    """

    __slots__ = ("because", "out", "txns", "verb")

    def __init__(self, txns: Sequence[Txn], verb: str) -> None:
        self.txns = txns
        # Past tense of what a write does.
        self.verb = verb
        self.out: list[dict[int, int]] = [{} for _ in txns]
        self.because: dict[tuple[int, int, int], tuple[Hashable, Hashable, Hashable]] = {}

    def add(self, a: int, b: int, kind: int, key: Hashable, left: Hashable, right: Hashable) -> None:
        """An edge about ``key``. ``left`` is the version a wrote or read, ``right`` the one b wrote or read."""
        if a == b:
            return
        edges = self.out[a]
        mask = edges.get(b, 0)
        if not mask & kind:
            edges[b] = mask | kind
            self.because[a, b, kind] = (key, left, right)

    def add_order(self, pairs: Iterable[tuple[int, int]], kind: int) -> None:
        """Edges of one kind that are about no key."""
        for a, b in pairs:
            edges = self.out[a]
            edges[b] = edges.get(b, 0) | kind

    def edges(self) -> int:
        """How many pairs of transactions are joined."""
        return sum(map(len, self.out))


def process_edges(txns: Sequence[Txn], present: Sequence[bool]) -> list[tuple[int, int]]:
    """From each answered transaction to its process's next ones up to and including the next answered one."""
    last: dict[int | str, int] = {}
    pairs: list[tuple[int, int]] = []
    for txn in txns:
        if not present[txn.number]:
            continue
        before = last.get(txn.process)
        if before is not None:
            pairs.append((before, txn.number))
        # One in doubt may take effect after its process has gone on, so nothing follows from it.
        if txn.outcome == OK:
            last[txn.process] = txn.number
    return pairs


def real_time_edges(txns: Sequence[Txn], present: Sequence[bool]) -> list[tuple[int, int]]:
    """Who was done before who began, without the pairs that follow from others: O(n x concurrency) of them."""
    events: list[tuple[int, int]] = []
    for txn in txns:
        if present[txn.number]:
            events.append((txn.start, txn.number))
            if txn.end != NEVER:
                events.append((txn.end, ~txn.number))
    events.sort()
    # Those done that no other done one came after.
    frontier: dict[int, None] = {}
    begun_after: dict[int, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    for _, number in events:
        if number >= 0:
            begun_after[number] = list(frontier)
            pairs.extend((before, number) for before in frontier)
        else:
            number = ~number
            for before in begun_after.pop(number):
                frontier.pop(before, None)
            frontier[number] = None
    return pairs


def components(out: Sequence[dict[int, int]], nodes: Collection[int], mask: int) -> list[list[int]]:
    """Strongly connected components of two or more of ``nodes`` over edges in ``mask``; Tarjan's, without recursion."""
    within = nodes if isinstance(nodes, range | set | frozenset) else frozenset(nodes)
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in nodes:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(out[root].items()))]
        while work:
            node, edges = work[-1]
            for to, kinds in edges:
                if not kinds & mask or to not in within:
                    continue
                if to not in order:
                    order[to] = low[to] = len(order)
                    stack.append(to)
                    on_stack.add(to)
                    work.append((to, iter(out[to].items())))
                    break
                if to in on_stack and order[to] < low[node]:
                    low[node] = order[to]
            else:
                work.pop()
                if work and low[node] < low[work[-1][0]]:
                    low[work[-1][0]] = low[node]
                if low[node] == order[node]:
                    members = _cut(stack, on_stack, node)
                    if len(members) > 1:
                        found.append(sorted(members))
    return sorted(found)


def _cut(stack: list[int], on_stack: set[int], node: int) -> list[int]:
    members: list[int] = []
    while True:
        member = stack.pop()
        on_stack.discard(member)
        members.append(member)
        if member == node:
            return members


def counted(txns: Sequence[Txn], history: Iterable[Op]) -> dict[str, int]:
    """What the history holds, for a verdict's counts."""
    return {
        "transactions": len(txns),
        "ok": sum(1 for txn in txns if txn.outcome == OK),
        "failed": sum(1 for txn in txns if txn.outcome == FAIL),
        "info": sum(1 for txn in txns if txn.outcome == INFO),
        "reads": sum(1 for txn in txns for what, _, _ in txn.micros if what == READ),
        "writes": sum(1 for txn in txns for what, _, _ in txn.micros if what != READ),
        "other_calls": sum(1 for op in history if is_client(op) and op.type == INVOKE and op.f != TXN),
    }
