"""Keys with deadlines: written, read, asked for their time, and made to stay, on clocks that disagree."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from jstyle.history.op import Value
from jstyle.sim.workloads.action import Action, Command, Done, Simple, number, okay
from jstyle.sim.workloads.register import Read

_EPOCH_OPS: Final = 20


class SetFor(Simple):
    """SET with PX."""

    f = "set"

    def __init__(self, key: str, value: int, ms: int) -> None:
        super().__init__(key, {"value": value, "px": ms})
        self.argv = [b"SET", key.encode(), b"%d" % value, b"PX", b"%d" % ms]

    def command(self) -> Command:
        """See Simple."""
        return self.argv

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(self.value)


class TimeLeft(Simple):
    """PTTL: -2 without the key, -1 without a deadline."""

    f = "ttl"
    effect = False

    def __init__(self, key: str) -> None:
        super().__init__(key, None)
        self.argv = [b"PTTL", key.encode()]

    def command(self) -> Command:
        """See Simple."""
        return self.argv

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(number(reply))


class Persist(Simple):
    """PERSIST."""

    f = "persist"

    def __init__(self, key: str) -> None:
        super().__init__(key, None)
        self.argv = [b"PERSIST", key.encode()]

    def command(self) -> Command:
        """See Simple."""
        return self.argv

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(number(reply) == 1)


class Expiries:
    """See the module's text. Each key is written once, so that its deadline is known."""

    name = "expiry"

    def __init__(self) -> None:
        self.written: list[str] = []

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        dice = random.random()
        if dice < 0.3 or not self.written:
            key = f"e{unique}"
            self.written = [*self.written[-3:], key]
            return SetFor(key, unique, random.choice((100, 500, 2000, 8000)))
        key = random.choice(self.written)
        if dice < 0.75:
            return Read(key)
        return TimeLeft(key) if dice < 0.92 else Persist(key)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return ()
