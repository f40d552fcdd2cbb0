"""Cycles in a graph of transactions: the worst of each tangle, as short as can be, named and put in words.

Edge subsets are searched from the most severe anomaly to the least, first over the data alone, then with the order of
processes, then with real time. In a component that holds a cycle already reported, only worse shapes are looked for.
Rule: the search may give up, but never silently: a component it could not finish is reported as what its weakest
cycle must be, and a cycle that may not be the shortest is still a cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Final

from jstyle.checkers.txn_graph import (
    EDGE_NAMES,
    KINDS,
    PROCESS,
    REALTIME,
    RW,
    RW_TIMED,
    WR,
    WW,
    WW_TIMED,
    Graph,
    components,
)
from jstyle.checkers.txn_models import weakest_broken
from jstyle.checkers.verdict import Anomaly

SHAPES: Final = ("G0", "G1c", "G-single", "G-nonadjacent", "G2-item")
_G0, _G1C, _SINGLE, _NONADJACENT, _ITEM = range(5)
_SUFFIXES: Final = ("", "-process", "-realtime")
_DATA: Final = ((WW, RW), (WW, RW), (WW | WW_TIMED, RW | RW_TIMED))
_ORDER: Final = (0, PROCESS, PROCESS | REALTIME)
_ANY_RW: Final = RW | RW_TIMED
_TIMED: Final = REALTIME | WW_TIMED | RW_TIMED
_CLOCK_EVERY: Final = 1024
# Operations of an unfinished component that a report lists.
_LISTED: Final = 40
# Elements of a list that a text spells out.
_SAID: Final = 8

# A cycle as (transaction, kind of the edge that leaves it), in order.
Cycle = list[tuple[int, int]]


class OutOfBudget(Exception):
    """The search has used up what it was given."""


class SearchBudget:
    """Steps (edges looked at) and a deadline for one search. ``clock`` gives seconds."""

    __slots__ = ("clock", "deadline_s", "steps", "used")

    def __init__(self, steps: int, deadline_s: float, clock: Callable[[], float]) -> None:
        self.steps = steps
        self.deadline_s = deadline_s
        self.clock = clock
        self.used = 0

    def step(self) -> None:
        """Counts one edge. Raises OutOfBudget."""
        self.used += 1
        if self.used > self.steps or (self.used % _CLOCK_EVERY == 0 and self.late()):
            raise OutOfBudget

    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.clock() > self.deadline_s


class CycleReport:
    """``anomalies`` in order of severity within each family; ``unfinished`` components among them."""

    __slots__ = ("anomalies", "tangled", "unfinished")

    def __init__(self) -> None:
        self.anomalies: list[Anomaly] = []
        self.tangled = 0
        self.unfinished = 0


def find_cycles(graph: Graph, budget: SearchBudget) -> CycleReport:
    """One cycle for each component and shape that no worse one explains."""
    report = CycleReport()
    out = graph.out
    everything = sum(KINDS)
    tangles = components(out, range(len(out)), everything)
    report.tangled = sum(map(len, tangles))
    nodes = [node for tangle in tangles for node in tangle]
    # (rank of the shape, a transaction of the cycle) of all that is reported.
    known: list[tuple[int, int]] = []
    for family, suffix in enumerate(_SUFFIXES):
        ww, rw = _DATA[family]
        order = _ORDER[family]
        searches = (
            (ww | order, (_G0,)),
            (ww | WR | order, (_G1C,)),
            (ww | WR | rw | order, (_SINGLE, _NONADJACENT, _ITEM)),
        )
        for mask, ranks in searches:
            for members in components(out, nodes, mask):
                within = frozenset(members)
                for rank in ranks:
                    if any(found <= rank and node in within for found, node in known):
                        break
                    try:
                        cycle = _search(out, members, within, mask, rank, budget)
                    except OutOfBudget:
                        known.append((_G0, members[0]))
                        report.unfinished += 1
                        report.anomalies.append(_unfinished(graph, members, SHAPES[ranks[-1]] + suffix))
                        break
                    if cycle is not None:
                        known.append((rank, cycle[0][0]))
                        report.anomalies.append(_describe(graph, cycle))
    return report


def _search(
    out: Sequence[dict[int, int]],
    members: list[int],
    within: frozenset[int],
    mask: int,
    rank: int,
    budget: SearchBudget,
) -> Cycle | None:
    """The shortest cycle of the shape, given that the component holds none of a worse shape."""
    best: Cycle | None = None
    limit = len(members) * 2
    for start in members:
        try:
            cycle = _shortest_from(out, start, within, mask, rank, limit, budget)
        except OutOfBudget:
            if best is None:
                raise
            break
        if cycle is not None:
            best, limit = cycle, len(cycle) - 1
        if limit < 2:
            break
    return best


def _shortest_from(
    out: Sequence[dict[int, int]],
    start: int,
    within: frozenset[int],
    mask: int,
    rank: int,
    limit: int,
    budget: SearchBudget,
) -> Cycle | None:
    """As ``_search`` for cycles of at most ``limit`` edges that begin with an edge from ``start``."""
    if rank in {_G0, _G1C, _ITEM}:
        return _path(out, start, start, within, mask, limit, budget)
    best: Cycle | None = None
    find = _path if rank == _SINGLE else _spaced_path
    allowed = mask & ~_ANY_RW if rank == _SINGLE else mask
    for first, kinds in out[start].items():
        budget.step()
        rw = kinds & mask & _ANY_RW
        if not rw or first not in within:
            continue
        rest = find(out, first, start, within, allowed, limit - 1, budget)
        if rest is not None:
            best = [(start, _label(rw)), *rest]
            limit = len(rest)
    return best


def _label(kinds: int) -> int:
    for kind in KINDS:
        if kinds & kind:
            return kind
    raise AssertionError(f"no edge in {kinds}")


def _path(
    out: Sequence[dict[int, int]],
    start: int,
    goal: int,
    within: Collection[int],
    mask: int,
    limit: int,
    budget: SearchBudget,
) -> Cycle | None:
    """The edges of a shortest path of at most ``limit`` edges, breadth first."""
    came: dict[int, int] = {start: -1}
    level = [start]
    depth = 0
    while level and depth < limit:
        depth += 1
        reached: list[int] = []
        for node in level:
            for to, kinds in out[node].items():
                budget.step()
                if not kinds & mask:
                    continue
                if to == goal:
                    return _walk_back(out, came, node, goal, mask)
                if to not in came and to in within:
                    came[to] = node
                    reached.append(to)
        level = reached
    return None


def _walk_back(out: Sequence[dict[int, int]], came: dict[int, int], last: int, goal: int, mask: int) -> Cycle:
    path: Cycle = []
    node, to = last, goal
    while node >= 0:
        path.append((node, _label(out[node][to] & mask)))
        node, to = came[node], node
    path.reverse()
    return path


def _spaced_path(
    out: Sequence[dict[int, int]],
    start: int,
    goal: int,
    within: Collection[int],
    mask: int,
    limit: int,
    budget: SearchBudget,
) -> Cycle | None:
    """As ``_path`` for a path that begins and ends with an edge that is no rw, and has no two rw in a row."""
    origin = (start, True)
    came: dict[tuple[int, bool], tuple[int, bool]] = {}
    seen = {origin}
    level = deque([(origin, 0)])
    while level:
        state, depth = level.popleft()
        node, after_rw = state
        if depth >= limit:
            break
        for to, kinds in out[node].items():
            budget.step()
            kinds &= mask
            if to not in within or not kinds:
                continue
            # An edge that is both counts as what leaves more choice.
            rw = not kinds & ~_ANY_RW
            if rw and (after_rw or to == goal):
                continue
            reached = (to, rw)
            if reached in seen:
                continue
            seen.add(reached)
            came[reached] = state
            if to == goal:
                return _walk_states(out, came, reached, origin, mask)
            level.append((reached, depth + 1))
    return None


def _walk_states(
    out: Sequence[dict[int, int]],
    came: dict[tuple[int, bool], tuple[int, bool]],
    end: tuple[int, bool],
    origin: tuple[int, bool],
    mask: int,
) -> Cycle | None:
    path: Cycle = []
    state = end
    visited = {end[0]}
    while state != origin:
        before = came[state]
        # A walk that crosses itself holds a shorter cycle, which another start finds.
        if before[0] in visited:
            return None
        visited.add(before[0])
        kinds = out[before[0]][state[0]] & mask
        path.append((before[0], _label(kinds & (_ANY_RW if state[1] else ~_ANY_RW))))
        state = before
    path.reverse()
    return path


def shape_of(cycle: Cycle) -> str:
    """The anomaly a cycle is, by its edges."""
    kinds = [kind for _, kind in cycle]
    rws = [bool(kind & _ANY_RW) for kind in kinds]
    if any(rws):
        adjacent = any(rw and rws[at - 1] for at, rw in enumerate(rws))
        rank = _SINGLE if sum(rws) == 1 else _ITEM if adjacent else _NONADJACENT
    else:
        rank = _G1C if WR in kinds else _G0
    if any(kind & _TIMED for kind in kinds):
        return SHAPES[rank] + _SUFFIXES[2]
    return SHAPES[rank] + _SUFFIXES[1 if PROCESS in kinds else 0]


def _describe(graph: Graph, cycle: Cycle) -> Anomaly:
    first = min(range(len(cycle)), key=lambda at: cycle[at][0])
    cycle = cycle[first:] + cycle[:first]
    name = shape_of(cycle)
    steps: list[dict[str, object]] = []
    parts: list[str] = []
    keys: list[Hashable] = []
    for at, (a, kind) in enumerate(cycle):
        b = cycle[(at + 1) % len(cycle)][0]
        key, why = explain(graph, a, b, kind)
        step: dict[str, object] = {"op": graph.txns[a].op, "edge": EDGE_NAMES[kind], "key": key, "why": why}
        steps.append(step)
        parts.append(f"{graph.txns[a].name} < {graph.txns[b].name} because {why}")
        if key is not None and key not in keys:
            keys.append(key)
    text = f"{'; '.join(parts)}: a cycle"
    ops = sorted(graph.txns[a].op for a, _ in cycle)
    data: dict[str, object] = {"cycle": steps, "rules_out": weakest_broken(name)}
    return Anomaly(name, text, ops, keys[0] if len(keys) == 1 else None, data)


def _unfinished(graph: Graph, members: list[int], name: str) -> Anomaly:
    ops = sorted(graph.txns[node].op for node in members)
    shown = ", ".join(graph.txns[node].name for node in members[:_LISTED])
    more = f" and {len(members) - _LISTED} more" if len(members) > _LISTED else ""
    text = (
        f"each of {shown}{more} comes before itself; the budget was spent before a shortest cycle was found,"
        f" and it is at best {name}: check again with a larger budget_s or budget_steps"
    )
    return Anomaly(name, text, ops, None, {"component": ops, "unfinished": True, "rules_out": weakest_broken(name)})


def explain(graph: Graph, a: int, b: int, kind: int) -> tuple[Hashable, str]:
    """The key an edge is about, None for an edge of order, and the reason in words."""
    one, two = graph.txns[a], graph.txns[b]
    if kind == PROCESS:
        return None, f"process {one.process} did {one.name} before {two.name}"
    if kind == REALTIME:
        return None, f"{one.name} was done at {one.end} before {two.name} began at {two.start}"
    key, left, right = graph.because[a, b, kind]
    verb = graph.verb
    if kind == WW:
        return key, f"{two.name} {verb} {said(right)} to {said(key)} after {one.name} {verb} {said(left)}"
    if kind == WR:
        return key, f"{two.name} read {said(right)} in {said(key)}, which {one.name} {verb}"
    if kind == RW:
        return key, f"{one.name} read {said(key)} as {said(left)}, before {two.name} {verb} {said(right)} to it"
    if kind == WW_TIMED:
        return key, (
            f"{two.name} {verb} {said(right)} to {said(key)}, read again once {one.name}, which {verb} {said(left)},"
            " was done"
        )
    return key, (
        f"{one.name} read {said(key)} as {said(left)}, which by the times of its reads and writes came before"
        f" {said(right)}, which {two.name} {verb}"
    )


def said(value: Hashable) -> str:
    """A frozen value in a text."""
    if isinstance(value, tuple):
        if len(value) == 2 and value[0] == "bool":
            return "true" if value[1] else "false"
        if len(value) > _SAID:
            return f"[{len(value)} elements to {' '.join(map(said, value[-_SAID // 2 :]))}]"
        return f"[{' '.join(map(said, value))}]"
    return "nil" if value is None else str(value)
