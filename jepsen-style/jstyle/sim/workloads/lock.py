"""A lock with a time to live and a fence: SET NX PX and INCR in one transaction, writes that carry their token.

The token is drawn also when the lock is not free, which costs a number and nothing else. A write is accepted when no
larger token was seen by what it writes to; a release deletes the lock only while it is still the holder's own.
"""

from __future__ import annotations

from random import Random
from typing import Final

from jstyle.history.op import FAIL, Value
from jstyle.sim.workloads.action import (
    Action,
    Command,
    Done,
    Guarded,
    Transaction,
    UnexpectedReply,
    Workload,
    is_one,
    number,
    okay,
)

HELD: Final = "held"
_LOCKS: Final = 2


class Acquire(Transaction):
    """Answered by the token, refused while somebody has the lock."""

    def __init__(self, key: str, owner: int, px_ms: int) -> None:
        super().__init__("acquire", key, {"px": px_ms})
        self.owner = owner
        self.px_ms = px_ms

    def body(self) -> list[Command]:
        """See Transaction."""
        assert isinstance(self.key, str)
        name = self.key.encode()
        return [
            [b"SET", b"lk." + name, b"%d" % self.owner, b"NX", b"PX", b"%d" % self.px_ms],
            [b"INCR", b"lf." + name],
        ]

    def done(self, replies: list[object]) -> Done:
        """See Transaction."""
        if replies[0] is None:
            return Done(FAIL, self.value, HELD)
        if replies[0] != b"OK":
            raise UnexpectedReply(f"SET NX PX answered {replies[0]!r}")
        return okay({"token": number(replies[1]), "px": self.px_ms})


class Release(Guarded):
    """Answered whether the lock was still the holder's."""

    def __init__(self, key: str, token: int, owner: int) -> None:
        name = b"lk." + key.encode()
        own = b"%d" % owner
        super().__init__(
            "release", name, lambda found: found == own, [[b"DEL", name]], okay(False), key=key, value={"token": token}
        )

    def executed(self, replies: list[object]) -> Value:
        """See Guarded. Its time may have been over meanwhile."""
        return is_one(replies[0])


def _fenced_write(key: str, token: int, unique: int) -> Guarded:
    name = b"ld." + key.encode()

    def allows(found: object) -> bool:
        return found is None or (isinstance(found, bytes) and int(found.split(b":")[0]) <= token)

    writes = [[b"SET", name, b"%d:%d" % (token, unique)]]
    value: Value = {"token": token, "value": unique}
    return Guarded("fenced-write", name, allows, writes, okay(False), key=key, value=value)


class Locks(Workload):
    """See the module's text. A client goes on writing with a token that may be out of date: the fence must notice."""

    name = "lock"

    def __init__(self) -> None:
        # (token, owner) of the newest acquisition, by lock; released or not.
        self.newest: dict[str, tuple[int, int]] = {}
        self.holds: dict[str, None] = {}

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = str(random.randrange(_LOCKS))
        dice = random.random()
        known = self.newest.get(key)
        if known is None or dice < (0.15 if key in self.holds else 0.6):
            return Acquire(key, unique, random.choice((300, 2000, 2000, 15_000)))
        if key in self.holds and dice < 0.5:
            return Release(key, *known)
        return _fenced_write(key, known[0], unique)

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""
        assert isinstance(action.key, str)
        if isinstance(action, Acquire):
            assert isinstance(value, dict)
            self.newest[action.key] = (value["token"], action.owner)
            self.holds[action.key] = None
        elif action.f == "release":
            self.holds.pop(action.key, None)
