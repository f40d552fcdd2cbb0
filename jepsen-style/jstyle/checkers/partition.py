"""One history cut into parts that can be judged alone: one per key, keys joined where a block touches several.

A system is linearizable when each key is, so parts are small and the search affordable. Rule: the only place that
decides which calls matter: failed ones had no effect, an unanswered read shows nothing, both are left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from jstyle.checkers.models import Model, Step
from jstyle.checkers.models_multi import BLOCKS, Blocks, block_keys
from jstyle.history.edn import frozen
from jstyle.history.op import FAIL, OK, Call, HistoryError, Op, calls


class Partition:
    """Calls on ``keys`` in order of invocation, as parallel lists.

    ``starts`` and ``ends`` are indexes of operations; an end is -1 for a crashed call, which may take effect at any
    later time or never. ``failed`` calls are kept for explanations alone.
    """

    __slots__ = ("calls", "ends", "failed", "keys", "model", "starts", "steps")

    def __init__(self, keys: list[Hashable], model: Model) -> None:
        self.keys = keys
        self.model = model
        self.steps: list[Step] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.calls: list[Call] = []
        self.failed: list[Call] = []

    def add(self, call: Call, step: Step) -> None:
        """Add a call that is later than all before."""
        done = call.done
        self.steps.append(step)
        self.starts.append(call.start.index)
        self.ends.append(done.index if done is not None and done.type == OK else -1)
        self.calls.append(call)

    def label(self) -> object:
        """The key, or the list of keys, for people."""
        names: list[object] = list(self.keys)
        return names[0] if len(names) == 1 else names


def without_effect(call: Call) -> bool:
    """Whether the call certainly changed nothing: only an answer that says so is proof."""
    return call.outcome == FAIL


def partitions(history: Iterable[Op], model: Model) -> list[Partition]:
    """The parts of a history whose operations name their keys, in order of first use. Raises HistoryError."""
    relevant: list[tuple[Call, Hashable]] = []
    failed: list[tuple[Call, Hashable]] = []
    joined: dict[Hashable, Hashable] = {}
    last = -1
    for call in calls(history):
        if call.start.index <= last:
            raise HistoryError(f"operation {call.start.index}: follows {last}; indexes must rise through the history")
        last = call.start.index
        if without_effect(call):
            failed.append((call, frozen(call.start.key)))
            continue
        if call.start.f in BLOCKS:
            keys = block_keys(call)
            if not keys:
                continue
            for key in keys:
                _join(joined, keys[0], key)
            relevant.append((call, keys[0]))
        else:
            key = call.start.key
            relevant.append((call, key if isinstance(key, str | int) else frozen(key)))
    found = _cut(relevant, joined, model)
    for call, key in failed:
        part = found.get(_root(joined, key) if key in joined else key)
        if part is not None:
            part.failed.append(call)
    return [part for part in found.values() if part.steps]


def _cut(
    relevant: list[tuple[Call, Hashable]], joined: dict[Hashable, Hashable], model: Model,
) -> dict[Hashable, Partition]:  # fmt: skip
    # A block's keys, by the key that stands for all of them.
    groups: dict[Hashable, list[Hashable]] = {}
    for key in joined:
        groups.setdefault(_root(joined, key), []).append(key)
    parts: dict[Hashable, Partition] = {}
    step_of = model.step
    for call, key in relevant:
        root = _root(joined, key) if joined and key in joined else key
        part = parts.get(root)
        if part is None:
            keys = groups.get(root)
            part = parts[root] = Partition([key], model) if keys is None else Partition(keys, Blocks(model, keys))
        step = step_of(call) if part.model is model else part.model.step(call)
        if step is not None:
            part.add(call, step)
    return parts


def _root(joined: dict[Hashable, Hashable], key: Hashable) -> Hashable:
    while joined[key] != key:
        joined[key] = joined[joined[key]]
        key = joined[key]
    return key


def _join(joined: dict[Hashable, Hashable], one: Hashable, other: Hashable) -> None:
    joined.setdefault(one, one)
    joined.setdefault(other, other)
    joined[_root(joined, other)] = _root(joined, one)
