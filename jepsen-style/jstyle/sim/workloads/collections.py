"""Elements that must neither vanish nor double: sets, queues, and queues whose readers wait."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from jstyle.history.op import FAIL, Value
from jstyle.sim.workloads.action import Action, Command, Done, Simple, UnexpectedReply, number, okay


class Add(Simple):
    """SADD of a unique element."""

    f = "add"

    def __init__(self, name: bytes, element: int) -> None:
        super().__init__(None, element)
        self.name = name
        self.element = element

    def command(self) -> Command:
        """See Simple."""
        return [b"SADD", self.name, b"%d" % self.element]

    def done(self, reply: object) -> Done:
        """See Simple."""
        if number(reply) != 1:
            raise UnexpectedReply(f"SADD of the new element {self.element} answered {reply!r}")
        return okay(self.value)


class Members(Simple):
    """SMEMBERS, or LRANGE for a queue's rest."""

    f = "read"
    effect = False

    def __init__(self, command: Command, f: str = "read") -> None:
        super().__init__(None, None)
        self.argv = command
        self.f = f

    def command(self) -> Command:
        """See Simple."""
        return self.argv

    def done(self, reply: object) -> Done:
        """See Simple."""
        if not isinstance(reply, list):
            raise UnexpectedReply(f"{self.argv!r} answered {reply!r}")
        return okay([number(item) for item in reply])


class Sets:
    """Unique additions and reads of the whole."""

    name = "set"

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        return Members([b"SMEMBERS", b"s"]) if random.random() < 0.25 else Add(b"s", unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [Members([b"SMEMBERS", b"s"])]


class Enqueue(Simple):
    """RPUSH of a unique element."""

    f = "enqueue"

    def __init__(self, name: bytes, element: int) -> None:
        super().__init__(None, element)
        self.name = name
        self.element = element

    def command(self) -> Command:
        """See Simple."""
        return [b"RPUSH", self.name, b"%d" % self.element]

    def done(self, reply: object) -> Done:
        """See Simple."""
        number(reply)
        return okay(self.value)


class Dequeue(Simple):
    """LPOP."""

    f = "dequeue"

    def __init__(self, name: bytes) -> None:
        super().__init__(None, None)
        self.name = name

    def command(self) -> Command:
        """See Simple."""
        return [b"LPOP", self.name]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return Done(FAIL, None, "empty") if reply is None else okay(number(reply))


class Wait(Dequeue):
    """BLPOP with a timeout in hundredths of a second."""

    def __init__(self, name: bytes, hundredths: int) -> None:
        super().__init__(name)
        self.hundredths = hundredths

    def command(self) -> Command:
        """See Simple."""
        return [b"BLPOP", self.name, b"%.2f" % (self.hundredths / 100)]

    def done(self, reply: object) -> Done:
        """See Simple."""
        if reply is None:
            return Done(FAIL, None, "empty")
        if not isinstance(reply, list) or len(reply) != 2 or reply[0] != self.name:
            raise UnexpectedReply(f"BLPOP of {self.name!r} answered {reply!r}")
        return okay(number(reply[1]))

    def answered(self, replies: list[object]) -> list[object] | None:
        """See Action: one that waited in vain ran nothing."""
        return None if replies[0] is None else replies


class Queues:
    """Unique elements in, elements out."""

    name = "queue"

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        return Dequeue(b"q") if random.random() < 0.45 else Enqueue(b"q", unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [Members([b"LRANGE", b"q", b"0", b"-1"], "drain")]


class Waiters:
    """A queue read by clients that wait."""

    name = "blocking"

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        if random.random() < 0.5:
            return Wait(b"w", random.randint(5, 100))
        return Enqueue(b"w", unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [Members([b"LRANGE", b"w", b"0", b"-1"], "drain")]
