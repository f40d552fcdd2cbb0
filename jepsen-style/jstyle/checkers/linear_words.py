"""A failed search in words: a name people know for what went wrong, one sentence, and the data for the picture.

The name is a reading of the call the search ended at, by simple rules over who wrote what when; ``not-linearizable``
when no rule fits. Rule: the verdict never depends on anything here.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from jstyle.checkers.linear_search import Finding, Prefix
from jstyle.checkers.models import ANY, State, Step
from jstyle.checkers.partition import Partition
from jstyle.checkers.verdict import Anomaly
from jstyle.history.op import Call

STALE_READ: Final = "stale-read"
LOST_WRITE: Final = "lost-write"
LOST_UPDATE: Final = "lost-update"
PHANTOM_READ: Final = "phantom-read"
FUTURE_READ: Final = "future-read"
FAILED_WRITE_VISIBLE: Final = "failed-write-visible"
NON_MONOTONIC_READ: Final = "non-monotonic-read"
RESURRECTED: Final = "resurrected"
OTHER: Final = "not-linearizable"

_NOTHING: Final = object()
_TO_ARGUMENT: Final = frozenset({"write", "setnx", "setxx", "getset"})
# Steps that leave behind what only the state before them tells.
_COMPUTED: Final = frozenset({"APPEND", "INCRBY", "DECRBY", "block"})
_COMMAND_WRITES: Final = frozenset({"SET", "SETNX", "GETSET"})


def put(step: Step) -> object:
    """The value a step may leave behind; a marker equal to no value when it leaves none."""
    name, given, result = step
    if name in _TO_ARGUMENT:
        return given
    if name == "cas" and isinstance(given, tuple):
        return given[1]
    if name == "del":
        return None
    if name in _COMMAND_WRITES and isinstance(given, tuple):
        return given[0]
    if name == "CAS" and isinstance(given, tuple):
        return given[1]
    if name in {"DEL", "UNLINK", "GETDEL"}:
        return None
    return result if name == "incr" else _NOTHING


def shown(step: Step) -> object:
    """The value a step's reply proves to have been there; the marker when it proves none."""
    name, given, result = step
    if result is ANY:
        return _NOTHING
    if name in {"read", "getset", "GET", "GETSET", "GETDEL"}:
        return result
    if name == "cas" and isinstance(given, tuple) and result == ("bool", 1):
        return given[0]
    if name == "CAS" and isinstance(given, tuple) and result == "1":
        return given[0]
    if (name == "setnx" and result == ("bool", 1)) or (name == "SETNX" and result == "1"):
        return None
    return _NOTHING


class _Scene:
    """The partition as seen from the call at which the search ended."""

    def __init__(self, part: Partition, at: int) -> None:
        self.part = part
        self.at = at
        self.start = part.starts[at]
        self.end = part.ends[at]
        self.value = shown(part.steps[at])
        self.writers = [n for n, step in enumerate(part.steps) if n != at and put(step) == self.value]

    def done_before(self, number: int) -> bool:
        """Whether the call completed before the accused one began."""
        return 0 <= self.part.ends[number] < self.start

    def began_after_all(self, number: int, others: list[int]) -> bool:
        """Whether the call began after all the others had completed."""
        ends = self.part.ends
        return all(0 <= ends[other] < self.part.starts[number] for other in others)

    def overwriter(self, *, deletes: bool) -> int | None:
        """A completed write of another value (or a delete) between all writers of the value and the accused call."""
        for number, step in enumerate(self.part.steps):
            value = put(step)
            if value is _NOTHING or value == self.value or (value is None) != deletes:
                continue
            if self.done_before(number) and self.began_after_all(number, self.writers):
                return number
        return None

    def newer_read(self) -> int | None:
        """A completed read of another value, itself after a completed call that wrote or showed the value."""
        part = self.part
        for number, step in enumerate(part.steps):
            value = shown(step)
            if value is _NOTHING or value == self.value or not self.done_before(number):
                continue
            for older, other in enumerate(part.steps):
                if (put(other) == self.value or shown(other) == self.value) and older != number:
                    if 0 <= part.ends[older] < part.starts[number]:
                        return number
        return None


def _failed_writer(part: Partition, value: object) -> Call | None:
    for call in part.failed:
        asked = call.start
        step = part.model.step(Call(asked, None)) if asked.f not in {"txn", "multi", "exec"} else None
        if step is not None and put(step) == value:
            return call
    return None


def _name(part: Partition, at: int) -> tuple[str, str, list[int]]:
    """The name, a clause that explains it, and further calls involved."""
    step = part.steps[at]
    name, _, _ = step
    if name == "incr":
        return _counted(part, at)
    scene = _Scene(part, at)
    if any(other[0] in _COMPUTED for other in part.steps):
        return OTHER, "no order of the calls explains it", []
    if scene.value is _NOTHING:
        return OTHER, "its reply fits no order of the calls", []
    if name in {"cas", "CAS"}:
        same = [n for n, other in enumerate(part.steps) if n != at and shown(other) == scene.value and other[0] == name]
        rewritten = [n for n in scene.writers if part.starts[n] < scene.end]
        if same and len(rewritten) <= 1:
            return LOST_UPDATE, "another one had already replaced the same value", same[:1]
    if scene.value is None or (name == "read" and scene.value == 0 and part.model.name == "counter"):
        return _absent(scene)
    begun = [n for n in scene.writers if part.starts[n] < scene.end]
    if part.model.name == "counter":
        return _miscounted(scene)
    if not begun:
        if scene.writers:
            return FUTURE_READ, "its value was written only later", scene.writers[:1]
        failed = _failed_writer(part, scene.value)
        if failed is not None:
            return FAILED_WRITE_VISIBLE, f"its value comes from operation {failed.start.index}, which failed", []
        return PHANTOM_READ, "nobody wrote its value", []
    scene.writers = begun
    deleted = scene.overwriter(deletes=True)
    if deleted is not None:
        return RESURRECTED, "its value had been deleted before it began", [begun[-1], deleted]
    newer = scene.overwriter(deletes=False)
    if newer is not None:
        return STALE_READ, "its value had been overwritten before it began", [begun[-1], newer]
    read = scene.newer_read()
    if read is not None:
        return NON_MONOTONIC_READ, "an earlier read had already seen another value", [begun[-1], read]
    return OTHER, "no order of the calls explains it", begun[-1:]


def _absent(scene: _Scene) -> tuple[str, str, list[int]]:
    part = scene.part
    removers = [n for n, step in enumerate(part.steps) if put(step) is None and part.starts[n] < scene.end]
    for number, step in enumerate(part.steps):
        if not scene.done_before(number) or number == scene.at or put(step) in {None, _NOTHING}:
            continue
        if step[0] in {"setnx", "setxx", "cas", "SETNX", "CAS"} and step[2] in {("bool", 0), "0"}:
            continue
        if not removers:
            return LOST_WRITE, "a write had been acknowledged and nobody deleted it", [number]
        if scene.began_after_all(number, removers):
            return STALE_READ, "a value had been written again before it began", [number]
    read = scene.newer_read()
    if read is not None:
        return NON_MONOTONIC_READ, "an earlier read had already seen a value", [read]
    return OTHER, "no order of the calls explains it", []


def _counted(part: Partition, at: int) -> tuple[str, str, list[int]]:
    for number, step in enumerate(part.steps):
        if number != at and step[0] == "incr" and step[2] == part.steps[at][2]:
            return LOST_UPDATE, "another increment answered the same total", [number]
    return OTHER, "its total fits no order of the increments", []


def _miscounted(scene: _Scene) -> tuple[str, str, list[int]]:
    part = scene.part
    least = most = 0
    for number, (name, amount, _) in enumerate(part.steps):
        if name not in {"add", "incr"} or not isinstance(amount, int):
            continue
        if amount < 0:
            return OTHER, "no order of the additions gives its total", []
        if part.starts[number] < scene.end:
            most += amount
        if scene.done_before(number):
            least += amount
    assert isinstance(scene.value, int)
    if scene.value < least:
        return STALE_READ, f"at least {least} had been added before it began", []
    if scene.value > most:
        return PHANTOM_READ, f"at most {most} had been added when it returned", []
    return OTHER, "no order of the additions gives its total", []


def plain(value: object) -> object:
    """A frozen value in JSON-like form for reports."""
    if isinstance(value, tuple):
        if len(value) == 2 and value[0] == "bool":
            return bool(value[1])
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return repr(value)


def sentence(part: Partition, number: int) -> str:
    """One call in words."""
    call = part.calls[number]
    at = call.start.index if call.done is None else call.done.index
    answered = part.ends[number] >= 0 and call.done is not None and call.done.value is not None
    value = call.done.value if answered and call.done is not None else call.start.value
    return f"{call.start.f} {value!r} by process {call.start.process} (operation {at})"


def describe(part: Partition, finding: Finding) -> Anomaly:
    """The anomaly a failed search stands for."""
    name, why, others = _name(part, finding.at)
    text = f"{sentence(part, finding.at)} cannot be placed: {why}"
    if others:
        text += "; see " + ", ".join([sentence(part, number) for number in others])
    involved = sorted({index for number in [finding.at, *others] for index in _indexes(part, number)})
    data = {
        "at": part.ends[finding.at],
        "window": [part.starts[finding.at], part.ends[finding.at]],
        "prefixes": [_picture(part, prefix) for prefix in finding.prefixes],
    }
    return Anomaly(name, text, involved, plain(_label(part)), data)


def _label(part: Partition) -> Hashable:
    return part.keys[0] if len(part.keys) == 1 else tuple(part.keys)


def _indexes(part: Partition, number: int) -> list[int]:
    return [part.starts[number]] if part.ends[number] < 0 else [part.starts[number], part.ends[number]]


def _picture(part: Partition, prefix: Prefix) -> dict[str, object]:
    """Calls by the index of their invocation: taken in order, and those that could not come next."""
    state: State = prefix.state
    return {
        "taken": [part.starts[number] for number in prefix.taken],
        "state": plain(state),
        "illegal": [part.starts[number] for number in prefix.illegal],
    }
