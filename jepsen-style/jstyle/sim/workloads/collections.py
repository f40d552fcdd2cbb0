"""Elements that must neither vanish nor double: sets, queues, and queues whose readers wait; and logs read by all.

A log (``order``) is a list that is only appended to; every client reads on from where it was, through any node.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from jstyle.history.op import FAIL, Value
from jstyle.sim.workloads.action import Action, Done, Once, UnexpectedReply, Workload, number, numbers

_EPOCH_OPS: Final = 40


def _read(f: str, verb: bytes, name: bytes, *rest: bytes) -> Once:
    return Once(f, [verb, name, *rest], numbers, effect=False)


def _push(name: bytes, element: int) -> Once:
    def pushed(reply: object) -> Value:
        number(reply)
        return element

    return Once("enqueue", [b"RPUSH", name, b"%d" % element], pushed, value=element)


def _add(name: bytes, element: int) -> Once:
    def added(reply: object) -> Value:
        if number(reply) != 1:
            raise UnexpectedReply(f"SADD of the new element {element} answered {reply!r}")
        return element

    return Once("add", [b"SADD", name, b"%d" % element], added, value=element)


class Sets(Workload):
    """Unique additions and reads of the whole."""

    name = "set"

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = self.named("s").encode()
        return _read("read", b"SMEMBERS", key) if random.random() < 0.25 else _add(key, unique)

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [_read("read", b"SMEMBERS", self.named("s").encode())]


def _popped(reply: object) -> Value | Done:
    return Done(FAIL, None, "empty") if reply is None else number(reply)


class Queues(Workload):
    """Unique elements in, elements out."""

    name = "queue"
    key = b"q"

    def take(self, random: Random) -> Once:
        """A read that removes."""
        return Once("dequeue", [b"LPOP", self.key], _popped)

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        return self.take(random) if random.random() < 0.45 else _push(self.key, unique)

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [_read("drain", b"LRANGE", self.key, b"0", b"-1")]


class Wait(Once):
    """BLPOP with a timeout in hundredths of a second."""

    def __init__(self, name: bytes, hundredths: int) -> None:
        super().__init__("dequeue", [b"BLPOP", name, b"%.2f" % (hundredths / 100)], self._took)
        self.name = name

    def _took(self, reply: object) -> Value | Done:
        if isinstance(reply, list) and (len(reply) != 2 or reply[0] != self.name):
            raise UnexpectedReply(f"BLPOP of {self.name!r} answered {reply!r}")
        return _popped(reply[1] if isinstance(reply, list) else reply)

    def answered(self, replies: list[object]) -> list[object] | None:
        """See Action: one that waited in vain ran nothing."""
        return None if replies[0] is None else replies


class Waiters(Queues):
    """A queue read by clients that wait."""

    name = "blocking"
    key = b"w"

    def take(self, random: Random) -> Once:
        """See Queues."""
        return Wait(self.key, random.randint(5, 100))


class Logs(Workload):
    """Appends to a log and reads of its rest by named observers, which survive reconnects."""

    name = "order"

    def __init__(self) -> None:
        # Named after the first operation, which no other client has.
        self.observer = ""
        # How much of each log it has seen.
        self.seen: dict[str, int] = {}

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        self.observer = self.observer or f"o{unique}"
        # Now and then the log before, which others may still append to.
        key = f"g{max(turn // _EPOCH_OPS - (random.random() < 0.2), 0)}"
        name = key.encode()
        if random.random() < 0.5:
            return Once("publish", [b"RPUSH", name, b"%d" % unique], self._length, key=key, value=unique)
        begin = b"%d" % self.seen.get(key, 0)
        return Once("observe", [b"LRANGE", name, begin, b"-1"], self._rest, key=key, effect=False)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""
        if action.f == "observe" and isinstance(action.key, str) and isinstance(value, dict):
            self.seen[action.key] = self.seen.get(action.key, 0) + len(value["seen"])

    def _length(self, reply: object) -> Value:
        return number(reply)

    def _rest(self, reply: object) -> Value:
        return {"observer": self.observer, "seen": numbers(reply)}
