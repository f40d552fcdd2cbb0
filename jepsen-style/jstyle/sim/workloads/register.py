"""Registers: read, write, delete, set-if-absent, exchange, and compare-and-set through WATCH.

Keys rotate so that none sees more operations than the checkers can search. ``unique-register`` is the cheap variant
for hot keys: only unique writes and reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from jstyle.history.op import Value
from jstyle.sim.workloads.action import Action, Done, Guarded, Once, Workload, get, is_one, okay, optional

_EPOCH_OPS: Final = 60
_KEYS: Final = 4


def _put(f: str, verb: bytes, key: str, value: int, read: Callable[[object], Value | Done] | None = None) -> Once:
    """A command that writes; what it answers is the value written unless ``read`` says otherwise."""
    return Once(f, [verb, key.encode(), b"%d" % value], read or (lambda _: value), key=key, value=value)


def _delete(key: str) -> Once:
    return Once("del", [b"DEL", key.encode()], is_one, key=key)


def _exchange_if(key: str, old: int | None, new: int) -> Guarded:
    name = key.encode()
    writes = [[b"SET", name, b"%d" % new]]
    return Guarded("cas", name, lambda found: optional(found) == old, writes, okay(False), key=key, value=[old, new])


class Registers(Workload):
    """See the module's text. Remembers the last value it saw per key, as what to expect in a compare-and-set."""

    name = "register"

    def __init__(self) -> None:
        self.seen: dict[str, int | None] = {}

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = self.named(f"r{turn // _EPOCH_OPS}.{random.randrange(_KEYS)}")
        dice = random.random()
        if dice < 0.4:
            return get(key)
        if dice < 0.65:
            return _put("write", b"SET", key, unique)
        if dice < 0.75:
            return _put("setnx", b"SETNX", key, unique, is_one)
        if dice < 0.8:
            return _put("getset", b"GETSET", key, unique, optional)
        if dice < 0.86:
            return _delete(key)
        return _exchange_if(key, self.seen.get(key), unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""
        if action.f == "read" and isinstance(action.key, str):
            self.seen[action.key] = value if isinstance(value, int) else None


class UniqueRegisters(Workload):
    """Unique writes and reads of few hot keys."""

    name = "unique-register"

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = self.named(f"u{random.randrange(2)}")
        return get(key) if random.random() < 0.5 else _put("write", b"SET", key, unique)

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [get(self.named(key)) for key in ("u0", "u1")]
