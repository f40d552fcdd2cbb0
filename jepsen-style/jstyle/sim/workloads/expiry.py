"""Keys with deadlines: written, read, asked for their time, and made to stay, on clocks that disagree."""

from __future__ import annotations

from random import Random
from typing import Final

from jstyle.history.op import Value
from jstyle.sim.workloads.action import Action, Once, Workload, get, is_one, number

_KEPT: Final = 4


def _set_for(key: str, number_: int, ms: int) -> Once:
    value: Value = {"value": number_, "px": ms}
    argv = [b"SET", key.encode(), b"%d" % number_, b"PX", b"%d" % ms]
    return Once("set", argv, lambda _: value, key=key, value=value)


class Expiries(Workload):
    """See the module's text. Each key is written once, so that its deadline is known."""

    name = "expiry"

    def __init__(self) -> None:
        self.written: list[str] = []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        dice = random.random()
        if dice < 0.3 or not self.written:
            key = self.named(f"e{unique}")
            self.written = [*self.written[1 - _KEPT :], key]
            return _set_for(key, unique, random.choice((100, 500, 2000, 8000)))
        key = random.choice(self.written)
        if dice < 0.75:
            return get(key)
        if dice < 0.92:
            return Once("ttl", [b"PTTL", key.encode()], number, key=key, effect=False)
        return Once("persist", [b"PERSIST", key.encode()], is_one, key=key)
