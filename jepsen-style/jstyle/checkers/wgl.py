"""The second opinion on linearizability: Wing and Gong's depth-first search with Lowe's memory of visited points.

Calls and returns form a list. Take the first call that is legal, lift it and its return out of the list, go on; at a
return that is still in the list the last choice was wrong: put it back and try the next call. A point (calls taken,
state) is visited once.

Rule: an own path from history to verdict. It cuts the history itself and shares the models alone with the
just-in-time engine, so that the two can convict each other. Where it is slower it still has to agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from jstyle.checkers.models import ILLEGAL, Counter, Model, Register, State, Step
from jstyle.checkers.models_command import Commands
from jstyle.checkers.models_multi import BLOCKS, Blocks, block_keys
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Options, Verdict, flag_option, number_option
from jstyle.history.edn import frozen
from jstyle.history.keys import lift
from jstyle.history.op import FAIL, OK, Call, Op, calls

BUDGET_S: Final = 60.0
BUDGET_STEPS: Final = 5_000_000
_CLOCK_MASK: Final = 4095


class _Entry:
    """A call or a return in a doubly linked list. ``number`` is the call's, ``match`` a call's return if it has one."""

    __slots__ = ("is_call", "match", "next", "number", "prev")

    def __init__(self, number: int, *, is_call: bool) -> None:
        self.number = number
        self.is_call = is_call
        self.match: _Entry | None = None
        self.prev: _Entry | None = None
        self.next: _Entry | None = None


class Outcome:
    """``linearizable`` is None when the budget went first; ``deepest`` is the operation index never got past."""

    __slots__ = ("deepest", "linearizable", "steps")

    def __init__(self, linearizable: bool | None, deepest: int, steps: int) -> None:
        self.linearizable = linearizable
        self.deepest = deepest
        self.steps = steps


def _remove(entry: _Entry) -> None:
    assert entry.prev is not None
    entry.prev.next = entry.next
    if entry.next is not None:
        entry.next.prev = entry.prev


def _restore(entry: _Entry) -> None:
    assert entry.prev is not None
    entry.prev.next = entry
    if entry.next is not None:
        entry.next.prev = entry


def _lift(entry: _Entry) -> None:
    _remove(entry)
    if entry.match is not None:
        _remove(entry.match)


def _unlift(entry: _Entry) -> None:
    if entry.match is not None:
        _restore(entry.match)
    _restore(entry)


def _link(found: Sequence[tuple[Call, Step]]) -> _Entry:
    """The events of the calls as a list behind a head that is no event."""
    timed: list[tuple[int, _Entry]] = []
    for number, (call, _) in enumerate(found):
        entry = _Entry(number, is_call=True)
        timed.append((call.start.index, entry))
        if call.done is not None and call.done.type == OK:
            entry.match = _Entry(number, is_call=False)
            timed.append((call.done.index, entry.match))
    timed.sort(key=lambda pair: pair[0])
    head = last = _Entry(-1, is_call=False)
    for _, entry in timed:
        last.next = entry
        entry.prev = last
        last = entry
    return head


def _twins(found: Sequence[tuple[Call, Step]]) -> list[int]:
    """For each crashed call the bit of the one like it before, which must be used first; 0 where there is none."""
    latest: dict[Step, int] = {}
    before = []
    for number, (call, step) in enumerate(found):
        if call.outcome == OK:
            before.append(0)
        else:
            before.append(latest.get(step, 0))
            latest[step] = 1 << number
    return before


def search(
    found: Sequence[tuple[Call, Step]], model: Model, steps_max: int, deadline_s: float, clock: Callable[[], float],
) -> Outcome:  # fmt: skip
    """Whether the calls have a linearization from the model's initial state."""
    head = _link(found)
    twins = _twins(found)
    crashed = [call.outcome != OK for call, _ in found]
    waiting = crashed.count(False)
    apply = model.apply
    state: State = model.initial()
    taken = 0
    chosen: list[tuple[_Entry, State]] = []
    visited: set[tuple[int, State]] = set()
    entry = head.next
    steps = 0
    deepest = -1
    while waiting:
        if entry is not None and entry.is_call:
            steps += 1
            if steps > steps_max or (not steps & _CLOCK_MASK and clock() > deadline_s):
                return Outcome(None, deepest, steps)
            number = entry.number
            after: State = ILLEGAL
            if not twins[number] & ~taken:
                after = apply(state, found[number][1])
            if after is ILLEGAL or (crashed[number] and after == state):
                entry = entry.next
                continue
            point = (taken | 1 << number, after)
            if point in visited:
                entry = entry.next
                continue
            visited.add(point)
            chosen.append((entry, state))
            taken |= 1 << number
            state = after
            if not crashed[number]:
                waiting -= 1
            _lift(entry)
            entry = head.next
            continue
        if entry is not None:
            done = found[entry.number][0].done
            assert done is not None
            deepest = max(deepest, done.index)
        if not chosen:
            return Outcome(False, deepest, steps)
        last, state = chosen.pop()
        taken &= ~(1 << last.number)
        if not crashed[last.number]:
            waiting += 1
        _unlift(last)
        entry = last.next
    return Outcome(True, deepest, steps)


def _groups(history: Sequence[Op], base: Model) -> list[tuple[object, Model, list[tuple[Call, Step]]]]:
    """Label, model and calls of each key; one group of all keys as soon as any call is a block."""
    kept = [call for call in calls(history) if call.outcome != FAIL]
    blocks = any(call.start.f in BLOCKS for call in kept)
    keys: dict[Hashable, list[Call]] = {}
    for call in kept:
        for key in block_keys(call) if call.start.f in BLOCKS else [frozen(call.start.key)]:
            keys.setdefault(key, []).append(call)
    grouped: list[tuple[object, Model, list[Call]]] = []
    if blocks:
        grouped.append((list(keys), Blocks(base, list(keys)), kept))
    else:
        grouped.extend([(key, base, members) for key, members in keys.items()])
    found: list[tuple[object, Model, list[tuple[Call, Step]]]] = []
    for label, model, members in grouped:
        steps = [(call, model.step(call)) for call in members]
        used = [(call, step) for call, step in steps if step is not None]
        if used:
            found.append((label, model, used))
    return found


def check(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability of a register per key."""
    return check_model(history, options, Register())


def check_commands(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability of string commands per key."""
    return check_model(history, options, Commands())


def check_counter(history: Sequence[Op], options: Options) -> Verdict:
    """Linearizability of a counter per key."""
    return check_model(history, options, Counter())


def check_model(history: Sequence[Op], options: Options, base: Model) -> Verdict:
    """Linearizability under any model; options ``budget_s`` for the history and ``budget_steps`` for each key."""
    steps_max = int(number_option(options, "budget_steps", BUDGET_STEPS))
    deadline_s = time.monotonic() + number_option(options, "budget_s", BUDGET_S)
    anomalies: list[Anomaly] = []
    given_up: list[str] = []
    counts = {"calls": 0, "partitions": 0, "telling": 0, "unknown": 0, "steps": 0}
    # Two arguments of a command look like a [key value] pair, so for commands pairs must be announced.
    paired = flag_option(options, "independent")
    if paired is None and isinstance(base, Commands):
        paired = False
    for label, model, found in _groups(lift(history, independent=paired), base):
        outcome = search(found, model, steps_max, deadline_s, time.monotonic)
        counts["calls"] += len(found)
        counts["partitions"] += 1
        counts["telling"] += sum(1 for call, step in found if call.outcome == OK and model.shows(step))
        counts["steps"] += outcome.steps
        if outcome.linearizable is None:
            given_up.append(f"key {label!r} at {outcome.deepest}")
        elif not outcome.linearizable:
            text = f"no order of the calls explains the history up to operation {outcome.deepest}"
            anomalies.append(Anomaly("not-linearizable", text, [outcome.deepest], label))
    counts["unknown"] = len(given_up)
    if anomalies:
        return Verdict("wgl", FALSE, anomalies, counts)
    if given_up:
        return Verdict("wgl", UNKNOWN, [], counts, f"out of budget: {'; '.join(given_up[:10])}")
    if not counts["telling"]:
        return Verdict("wgl", UNKNOWN, [], counts, "no completed call could have shown a fault")
    return Verdict("wgl", TRUE, [], counts)
