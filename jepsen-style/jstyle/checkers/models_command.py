"""The string commands of the server as a sequential model, reply by reply.

State is the value as text, ``None`` when the key is absent. Arguments and replies may be written as numbers or strings;
a number and its decimal text are the same. Rule: replies as the protocol gives them (SET is "OK" or nil, DEL a count).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Final

from jstyle.checkers.models import ANY, BLIND, ILLEGAL, SHARP, State, Step, seen
from jstyle.history.op import Call, HistoryError

Reply = Hashable
Words = tuple[str, ...]
_Command = Callable[[str | None, Words], tuple[str | None, Reply]]

# A reply that is an error; the state stays.
ERROR: Final = "error"


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _get(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return state, state


def _set(state: str | None, words: Words) -> tuple[str | None, Reply]:
    flags = {word.upper() for word in words[1:]}
    refused = ("NX" in flags and state is not None) or ("XX" in flags and state is None)
    reply: Reply = state if "GET" in flags else (None if refused else "OK")
    return (state if refused else words[0]), reply


def _setnx(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return (words[0], "1") if state is None else (state, "0")


def _del(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return None, "0" if state is None else "1"


def _exists(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return state, "0" if state is None else "1"


def _cas(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return (words[1], "1") if state == words[0] else (state, "0")


def _incrby(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return _added(state, int(words[0]))


def _decrby(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return _added(state, -int(words[0]))


def _added(state: str | None, amount: int) -> tuple[str | None, Reply]:
    try:
        total = int(state or "0") + amount
    except ValueError:
        return state, ERROR
    return str(total), str(total)


def _append(state: str | None, words: Words) -> tuple[str | None, Reply]:
    joined = (state or "") + words[0]
    return joined, str(len(joined.encode()))


def _getset(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return words[0], state


def _getdel(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return None, state


def _strlen(state: str | None, words: Words) -> tuple[str | None, Reply]:
    return state, str(len((state or "").encode()))


# Name: (arguments after the key: at least, how it acts).
_COMMANDS: Final[Mapping[str, tuple[int, _Command]]] = {
    "GET": (0, _get),
    "STRLEN": (0, _strlen),
    "EXISTS": (0, _exists),
    "SET": (1, _set),
    "SETNX": (1, _setnx),
    "DEL": (0, _del),
    "UNLINK": (0, _del),
    "CAS": (2, _cas),
    "INCRBY": (1, _incrby),
    "DECRBY": (1, _decrby),
    "APPEND": (1, _append),
    "GETSET": (1, _getset),
    "GETDEL": (0, _getdel),
}
_READS: Final = frozenset({"GET", "STRLEN", "EXISTS"})
_MAY_BE_NIL: Final = frozenset({"GET", "SET", "GETSET", "GETDEL"})
_SHORT: Final = {"INCR": ("INCRBY", "1"), "DECR": ("DECRBY", "1")}


class Commands:
    """GET SET SETNX DEL CAS INCRBY APPEND GETSET and their near kin on one key.

    ``f`` is the command, the invocation's value its arguments after the key (one may stand alone), the completion's
    value the reply; nil from a command that never answers nil means the reply was not recorded. A reply of
    ``{"error": ...}`` or ``["error", ...]`` means the command answered an error.
    """

    name = "commands"

    def initial(self) -> State:
        return None

    def step(self, call: Call) -> Step | None:
        name = call.start.f.upper()
        given = call.start.value
        words = () if given is None else tuple(map(_text, given if isinstance(given, list | tuple) else [given]))
        if name in _SHORT:
            name, *rest = _SHORT[name]
            words = (*rest, *words)
        if name not in _COMMANDS:
            raise HistoryError(f"operation {call.start.index}: no model of command {call.start.f!r}")
        if len(words) < _COMMANDS[name][0]:
            raise HistoryError(f"operation {call.start.index}: {name} needs {_COMMANDS[name][0]} arguments")
        if name in {"INCRBY", "DECRBY"} and not words[0].lstrip("+-").isdecimal():
            raise HistoryError(f"operation {call.start.index}: {name} takes a whole number, not {words[0]!r}")
        result = reply_text(seen(call))
        if result is None and name not in _MAY_BE_NIL:
            result = ANY
        if name in _READS and result is ANY:
            return None
        return (name, words, result)

    def apply(self, state: State, step: Step) -> State:
        name, words, result = step
        assert (state is None or isinstance(state, str)) and isinstance(words, tuple)
        after, reply = _COMMANDS[name][1](state, words)
        return after if result is ANY or reply == result else ILLEGAL

    def pure(self, step: Step) -> bool:
        name, _, result = step
        return name in _READS or result == ERROR or (name in {"SETNX", "CAS", "DEL", "UNLINK"} and result == "0")

    def shows(self, step: Step) -> bool:
        name, words, result = step
        assert isinstance(words, tuple)
        return result is not ANY and (name != "SET" or len(words) > 1 or result != "OK")

    def sight(self, step: Step) -> State:
        name, words, result = step
        assert isinstance(words, tuple)
        if name == "SET" and len(words) == 1:
            return BLIND if result is ANY or result == "OK" else SHARP
        if name == "CAS" and (result is ANY or result == "1"):
            expected: Hashable = words[0]
            return expected
        if name == "GET":
            return result
        if name == "GETSET":
            return BLIND if result is ANY else result
        if name in {"DEL", "UNLINK"} and result is ANY:
            return BLIND
        return SHARP

    def gives(self, step: Step) -> State:
        name, words, _ = step
        assert isinstance(words, tuple)
        if name in {"DEL", "UNLINK"}:
            return None
        given: tuple[Hashable, ...] = words
        return given[1] if name == "CAS" else given[0] if given else None


def reply_text(reply: Hashable) -> Hashable:
    """A frozen reply in the model's words: numbers as text, every error as ERROR."""
    if reply is ANY or reply is None or isinstance(reply, str):
        return reply
    if isinstance(reply, tuple):
        if len(reply) == 2 and reply[0] == "bool":
            return str(reply[1])
        named_error = reply[:1] == ("error",) or (reply[:1] == ("map",) and "'error'" in repr(reply))
        return ERROR if named_error else reply
    return _text(reply)
