"""Registers: read, write, delete, set-if-absent, exchange, and compare-and-set through WATCH.

Keys rotate so that none sees more operations than the checkers can search. ``unique-register`` is the cheap variant
for hot keys: only unique writes and reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from jstyle.history.op import FAIL, Value
from jstyle.sim.outcomes import ErrorText
from jstyle.sim.workloads.action import Action, Command, Done, Simple, failed, number, okay, optional

_EPOCH_OPS: Final = 60
_KEYS: Final = 4


class Read(Simple):
    """GET."""

    f = "read"
    effect = False

    def __init__(self, key: str) -> None:
        super().__init__(key, None)
        self.name = key.encode()

    def command(self) -> Command:
        """See Simple."""
        return [b"GET", self.name]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(optional(reply))


class Write(Simple):
    """SET."""

    f = "write"

    def __init__(self, key: str, value: int) -> None:
        super().__init__(key, value)
        self.name = key.encode()
        self.number = value

    def command(self) -> Command:
        """See Simple."""
        return [b"SET", self.name, b"%d" % self.number]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(self.value)


class SetIfAbsent(Write):
    """SETNX."""

    f = "setnx"

    def command(self) -> Command:
        """See Simple."""
        return [b"SETNX", self.name, b"%d" % self.number]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(number(reply) == 1)


class Exchange(Write):
    """GETSET."""

    f = "getset"

    def command(self) -> Command:
        """See Simple."""
        return [b"GETSET", self.name, b"%d" % self.number]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(optional(reply))


class Delete(Simple):
    """DEL."""

    f = "del"

    def __init__(self, key: str) -> None:
        super().__init__(key, None)
        self.name = key.encode()

    def command(self) -> Command:
        """See Simple."""
        return [b"DEL", self.name]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(number(reply) == 1)


class CompareAndSet(Action):
    """WATCH and GET; when the value is the expected one, MULTI, SET, EXEC."""

    f = "cas"

    def __init__(self, key: str, old: int | None, new: int) -> None:
        super().__init__(key, [old, new])
        self.name = key.encode()
        self.old = old
        self.new = new
        self.step = 0

    def first(self) -> list[Command]:
        """See Action."""
        return [[b"WATCH", self.name], [b"GET", self.name]]

    def next(self, replies: list[object]) -> list[Command] | Done:
        """See Action."""
        self.step += 1
        if self.step == 1:
            for reply in replies:
                if isinstance(reply, ErrorText):
                    # Nothing that changes the key was sent yet.
                    done = failed(self, reply)
                    return Done(FAIL, self.value, done.error)
            if optional(replies[1]) == self.old:
                return [[b"MULTI"], [b"SET", self.name, b"%d" % self.new], [b"EXEC"]]
            self.step = 10
            return [[b"UNWATCH"]]
        if self.step > 10:
            return okay(False)
        final = replies[-1]
        if isinstance(final, ErrorText):
            return failed(self, final)
        if final is None:
            # Somebody changed the key, or the leader did; either way nothing was executed.
            return Done(FAIL, self.value, "aborted")
        return okay(True)

    def writes(self) -> list[Command]:
        """See Action."""
        return [[b"SET", self.name, b"%d" % self.new]]


class Registers:
    """See the module's text. Remembers the last value it saw per key, as what to expect in a compare-and-set."""

    name = "register"

    def __init__(self) -> None:
        self.seen: dict[str, int | None] = {}

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = f"r{turn // _EPOCH_OPS}.{random.randrange(_KEYS)}"
        dice = random.random()
        if dice < 0.4:
            return Read(key)
        if dice < 0.65:
            return Write(key, unique)
        if dice < 0.75:
            return SetIfAbsent(key, unique)
        if dice < 0.8:
            return Exchange(key, unique)
        if dice < 0.86:
            return Delete(key)
        return CompareAndSet(key, self.seen.get(key), unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""
        if isinstance(action, Read) and isinstance(action.key, str):
            self.seen[action.key] = value if isinstance(value, int) else None

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return ()


class UniqueRegisters:
    """Unique writes and reads of few hot keys."""

    name = "unique-register"

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = f"u{random.randrange(2)}"
        return Read(key) if random.random() < 0.5 else Write(key, unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [Read("u0"), Read("u1")]
