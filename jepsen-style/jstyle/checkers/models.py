"""Sequential models: what one operation may do to the value of one key, and what it then must have answered.

A model turns a call into a *step*, a hashable ``(f, argument, result)`` whose result is ``ANY`` when no reply was seen,
and applies a step to a state: the next state, or ``ILLEGAL`` when the reply could not have come from there. States are
hashable; ``None`` is an absent key. Applying is deterministic: an unseen reply is whatever the state implies.

Rule: the only meaning of operations; both search engines share this file and nothing else. It must not know time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Final, Protocol

from jstyle.history.edn import frozen
from jstyle.history.op import OK, Call, HistoryError

State = Hashable
Step = tuple[str, Hashable, Hashable]


class _Mark:
    """A value equal to nothing else that can be in a history."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


ANY: Final = _Mark("?")
ILLEGAL: Final = _Mark("illegal")
# What a step can tell of the state it meets: nothing, or more than whether it is one certain state.
BLIND: Final = _Mark("blind")
SHARP: Final = _Mark("sharp")


class Model(Protocol):
    """A sequential data type held under one key. Implementations hold no state of their own."""

    name: str

    def initial(self) -> State:
        """The state of a key nobody wrote."""

    def step(self, call: Call) -> Step | None:
        """The step of a call that did not fail; None when it neither changes nor shows anything. HistoryError."""

    def apply(self, state: State, step: Step) -> State:
        """The next state, or ILLEGAL."""

    def pure(self, step: Step) -> bool:
        """Whether the step never changes a state it is legal in."""

    def shows(self, step: Step) -> bool:
        """Whether the step's reply depends on the state, so that it can accuse the system."""

    def sight(self, step: Step) -> State:
        """BLIND when the step is legal and acts the same in every state; the one state it is legal in or acts in; SHARP
        for all others.
        """

    def gives(self, step: Step) -> State:
        """The state after a step that is not SHARP and acts; undefined for one that never acts."""


Rule = Callable[[State, Hashable, Hashable], State]


def seen(call: Call) -> Hashable:
    """The reply of a call, frozen; ANY when there is none."""
    if call.done is None or call.done.type != OK:
        return ANY
    return frozen(call.done.value)


def argument(call: Call) -> Hashable:
    """The frozen argument of a call."""
    return frozen(call.start.value)


# ---- Register: read, write, cas, set if (not) there, delete ---------------------------------------------------------

_YES: Final = ("bool", 1)
_NO: Final = ("bool", 0)


def _read(state: State, argument: Hashable, result: Hashable) -> State:
    return state if result is ANY or state == result else ILLEGAL


def _write(state: State, argument: Hashable, result: Hashable) -> State:
    return argument


def _cas(state: State, argument: Hashable, result: Hashable) -> State:
    assert isinstance(argument, tuple)
    matches = state == argument[0]
    if result is ANY:
        return argument[1] if matches else state
    if result == _NO:
        return ILLEGAL if matches else state
    return argument[1] if matches else ILLEGAL


def _setnx(state: State, argument: Hashable, result: Hashable) -> State:
    if result is ANY:
        return argument if state is None else state
    if result == _NO:
        return ILLEGAL if state is None else state
    return argument if state is None else ILLEGAL


def _setxx(state: State, argument: Hashable, result: Hashable) -> State:
    if result is ANY:
        return state if state is None else argument
    if result == _NO:
        return state if state is None else ILLEGAL
    return ILLEGAL if state is None else argument


def _del(state: State, argument: Hashable, result: Hashable) -> State:
    if result == _YES and state is None:
        return ILLEGAL
    if result == _NO and state is not None:
        return ILLEGAL
    return None


def _getset(state: State, argument: Hashable, result: Hashable) -> State:
    return argument if result is ANY or state == result else ILLEGAL


_REGISTER_RULES: Final[Mapping[str, Rule]] = {
    "read": _read,
    "write": _write,
    "cas": _cas,
    "setnx": _setnx,
    "setxx": _setxx,
    "del": _del,
    "getset": _getset,
}
_REGISTER_NAMES: Final[Mapping[str, str]] = {
    "get": "read", "r": "read", "set": "write", "put": "write", "w": "write", "delete": "del", "set-nx": "setnx",
    "set-xx": "setxx", "compare-and-set": "cas", "compare-and-swap": "cas",
}  # fmt: skip


class Register:
    """One value: ``read``, ``write``, ``cas [old new]``, ``setnx``, ``setxx``, ``del``, ``getset``.

    An ok ``cas``, ``setnx`` or ``setxx`` took effect unless its completion's value is false; an ok ``del`` found a
    value if its completion says true or a positive count, none if it says false or 0, and may have otherwise.
    """

    name = "register"

    def initial(self) -> State:
        return None

    def step(self, call: Call) -> Step | None:
        name = _REGISTER_NAMES.get(call.start.f, call.start.f)
        if name not in _REGISTER_RULES:
            raise HistoryError(f"operation {call.start.index}: a register has no {call.start.f!r}")
        result = seen(call)
        if name == "read":
            return None if result is ANY else (name, None, result)
        given = argument(call)
        if name == "cas" and not (isinstance(given, tuple) and len(given) == 2):
            raise HistoryError(f"operation {call.start.index}: cas takes [old new], not {call.start.value!r}")
        if name == "write":
            return (name, given, None)
        if name == "del":
            if isinstance(result, int):
                result = _YES if result else _NO
            return (name, None, result if result in {_YES, _NO} else ANY)
        if name != "getset" and result is not ANY and result != _NO:
            result = _YES
        return (name, given, result)

    def apply(self, state: State, step: Step) -> State:
        return _REGISTER_RULES[step[0]](state, step[1], step[2])

    def pure(self, step: Step) -> bool:
        name, _, result = step
        return name == "read" or (name in {"cas", "setnx", "setxx", "del"} and result == _NO)

    def shows(self, step: Step) -> bool:
        return step[0] != "write" and step[2] is not ANY

    def sight(self, step: Step) -> State:
        name, given, result = step
        if name == "read":
            return result
        if name == "cas" and result != _NO:
            assert isinstance(given, tuple)
            expected: Hashable = given[0]
            return expected
        if name == "write" or (name == "del" and result is ANY):
            return BLIND
        if name == "getset":
            return BLIND if result is ANY else result
        return SHARP

    def gives(self, step: Step) -> State:
        name, given, _ = step
        if name == "cas":
            assert isinstance(given, tuple)
            given = given[1]
        return None if name == "del" else given


# ---- Counter --------------------------------------------------------------------------------------------------------


class Counter:
    """One number from 0: ``add n`` answers nothing, ``incr n`` answers the new value, ``read`` the value (nil is 0)."""

    name = "counter"

    def initial(self) -> State:
        return 0

    def step(self, call: Call) -> Step | None:
        name = {"get": "read", "r": "read", "incrby": "incr", "decrby": "decr"}.get(call.start.f, call.start.f)
        result = seen(call)
        if name == "read":
            return None if result is ANY else (name, 0, 0 if result is None else result)
        if name not in {"add", "incr", "decr"}:
            raise HistoryError(f"operation {call.start.index}: a counter has no {call.start.f!r}")
        amount = 1 if call.start.value is None else call.start.value
        if type(amount) is not int:
            raise HistoryError(f"operation {call.start.index}: {name} takes a whole number, not {amount!r}")
        if name == "decr":
            amount = -amount
        return ("add", amount, ANY) if name == "add" or result is None else ("incr", amount, result)

    def apply(self, state: State, step: Step) -> State:
        name, amount, result = step
        assert isinstance(state, int) and isinstance(amount, int)
        if name == "read":
            return state if state == result else ILLEGAL
        return state + amount if result is ANY or state + amount == result else ILLEGAL

    def pure(self, step: Step) -> bool:
        return step[0] == "read"

    def shows(self, step: Step) -> bool:
        return step[0] == "read" or step[2] is not ANY

    def sight(self, step: Step) -> State:
        return SHARP

    def gives(self, step: Step) -> State:
        return None
