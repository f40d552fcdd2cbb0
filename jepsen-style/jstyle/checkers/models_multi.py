"""Several keys changed in one atomic step: MULTI/EXEC blocks and transactions over the single-key models.

State is a tuple of the keys' states. A step's argument is a tuple of ``(position of the key, step of the base model)``;
a call on one key is a block of one. Rule: a block happens at one instant; whether it may is the base model's word.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.models import ILLEGAL, SHARP, Model, State, Step
from jstyle.history.edn import frozen
from jstyle.history.op import FAIL, INFO, INVOKE, OK, Call, HistoryError, Op

# f of an invocation whose value is a list of [f, key, argument...].
BLOCKS: Final = frozenset({"multi", "txn", "exec"})


def block_keys(call: Call) -> list[Hashable]:
    """The frozen keys of a block in order of use. Raises HistoryError when it is not a block."""
    value = call.start.value
    if not isinstance(value, list | tuple):
        raise HistoryError(f"operation {call.start.index}: a block is a list of [f, key, ...], not {value!r}")
    keys: list[Hashable] = []
    for micro in value:
        if not isinstance(micro, list | tuple) or len(micro) < 2 or not isinstance(micro[0], str):
            raise HistoryError(f"operation {call.start.index}: a block's part is [f, key, ...], not {micro!r}")
        keys.append(frozen(micro[1]))
    return keys


class Blocks:
    """The base model on each of ``keys``, and blocks over them."""

    def __init__(self, base: Model, keys: Sequence[Hashable]) -> None:
        self.name = f"{base.name} in blocks"
        self._base = base
        self._position = {key: at for at, key in enumerate(keys)}

    def initial(self) -> State:
        return tuple([self._base.initial()] * len(self._position))

    def step(self, call: Call) -> Step | None:
        if call.start.f not in BLOCKS:
            one = self._base.step(call)
            return None if one is None else ("block", ((self._position[frozen(call.start.key)], one),), None)
        parts = []
        for at, (key, part) in enumerate(zip(block_keys(call), _split(call), strict=True)):
            one = self._base.step(part)
            if one is not None:
                parts.append((self._position[key], one))
            elif call.outcome == OK:
                raise HistoryError(f"operation {call.start.index}: part {at} has no reply, but the block is ok")
        return ("block", tuple(parts), None) if parts else None

    def apply(self, state: State, step: Step) -> State:
        parts = step[1]
        assert isinstance(state, tuple) and isinstance(parts, tuple)
        states = list(state)
        for at, one in parts:
            after = self._base.apply(states[at], one)
            if after is ILLEGAL:
                return ILLEGAL
            states[at] = after
        return tuple(states)

    def pure(self, step: Step) -> bool:
        parts = step[1]
        assert isinstance(parts, tuple)
        return all(self._base.pure(one) for _, one in parts)

    def shows(self, step: Step) -> bool:
        parts = step[1]
        assert isinstance(parts, tuple)
        return any(self._base.shows(one) for _, one in parts)

    def sight(self, step: Step) -> State:
        return SHARP

    def gives(self, step: Step) -> State:
        return None


def _split(call: Call) -> list[Call]:
    """The block's parts as calls of their own. A completion is a list of replies, or of parts with replies put in."""
    start, done = call.start, call.done
    asked = start.value
    assert isinstance(asked, list | tuple)
    replies: Sequence[object] = ()
    if done is not None and done.type == OK:
        if not isinstance(done.value, list | tuple) or len(done.value) != len(asked):
            raise HistoryError(f"operation {done.index}: a block of {len(asked)} parts needs as many replies")
        replies = done.value
    parts = []
    for at, micro in enumerate(asked):
        given = micro[2] if len(micro) == 3 else list(micro[2:]) or None
        begun = Op(start.index, start.time, start.process, INVOKE, micro[0], given, key=micro[1])
        ended: Op | None = None
        if done is not None and done.type != FAIL:
            ended = Op(done.index, done.time, done.process, INFO, micro[0], key=micro[1])
            if replies:
                ended.type = OK
                ended.value = _reply(micro, replies[at])
        parts.append(Call(begun, ended))
    return parts


def _reply(asked: Sequence[object], reply: object) -> object:
    """The reply to one part: itself, or the third place of the part repeated with its reply (``["r", k, v]``)."""
    if isinstance(reply, list | tuple) and len(reply) == 3 and list(reply[:2]) == list(asked[:2]):
        return reply[2]
    return reply
