"""Transactions of appends to lists and reads of them, in MULTI: what shows every anomaly of a transactional store."""

from __future__ import annotations

from random import Random
from typing import Final

from jstyle.sim.workloads.action import Action, Command, Done, Transaction, Workload, number, numbers, okay

_EPOCH_OPS: Final = 25
_KEYS: Final = 3
_OPS_MAX: Final = 4


class Txn(Transaction):
    """Micro-operations ``["append", key, value]`` and ``["r", key, None]``."""

    def __init__(self, steps: list[list[object]]) -> None:
        super().__init__("txn", None, [list(step) for step in steps])
        self.steps = steps
        self.effect = any(step[0] == "append" for step in steps)

    def body(self) -> list[Command]:
        """See Transaction."""
        out: list[Command] = []
        for kind, key, value in self.steps:
            name = str(key).encode()
            if kind == "append":
                out.append([b"RPUSH", name, str(value).encode()])
            else:
                out.append([b"LRANGE", name, b"0", b"-1"])
        return out

    def done(self, replies: list[object]) -> Done:
        """See Transaction."""
        out: list[list[object]] = []
        for (kind, key, value), reply in zip(self.steps, replies, strict=True):
            if kind == "append":
                number(reply)
                out.append([kind, key, value])
            else:
                out.append([kind, key, numbers(reply)])
        return okay(out)


class Appends(Workload):
    """See the module's text."""

    name = "append"
    epoch_ops = _EPOCH_OPS

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        epoch = turn // self.epoch_ops
        steps: list[list[object]] = []
        for place in range(random.randint(1, _OPS_MAX)):
            # The first key of an epoch is the hot one.
            key = self.named(f"a{epoch}.{min(random.randrange(_KEYS), random.randrange(_KEYS))}")
            if random.random() < 0.5:
                steps.append(["append", key, unique * 10 + place])
            else:
                steps.append(["r", key, None])
        return Txn(steps)
