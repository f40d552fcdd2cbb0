"""One operation of a client as wire commands, and what its replies mean for the history.

Rule: an action has at most one unit with an effect (one write command or one EXEC), so that one reply decides its
outcome. Every written value is unique in the run wherever the command allows it: the shadow finds each effect in the
log by its bytes. It must not know connections, time or nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from jstyle.history.op import FAIL, INFO, OK, Value
from jstyle.sim.outcomes import ErrorText, is_forbidden, of_error

Command = list[bytes]


class UnexpectedReply(Exception):
    """A reply that the command can never have; the text names both."""


class Done:
    """How an operation ended: ``type`` is ok, fail or info."""

    __slots__ = ("error", "type", "value")

    def __init__(self, type: str, value: Value = None, error: str | None = None) -> None:
        self.type = type
        self.value = value
        self.error = error


class Action:
    """One operation; see the module's text. ``effect``: some command in it can change something.

    ``key`` and ``value`` go into the invocation. ``first()`` gives the first commands, ``next(replies)`` the following
    ones or the end; replies are as many as commands, errors are ErrorText.
    """

    f = ""
    effect = True

    def __init__(self, key: Value, value: Value) -> None:
        self.key = key
        self.value = value

    def first(self) -> list[Command]:
        """The commands to begin with."""
        raise NotImplementedError

    def next(self, replies: list[object]) -> list[Command] | Done:
        """What follows from the replies to the last commands."""
        raise NotImplementedError

    def writes(self) -> list[Command]:
        """Commands with an effect that may show in the log if the operation happens; all of them or none."""
        return []

    def answered(self, replies: list[object]) -> list[object] | None:
        """Of the last replies, those to ``writes()``; None when nothing was executed."""
        final = replies[-1]
        return final if isinstance(final, list) else None


class Simple(Action):
    """One command, one reply."""

    def command(self) -> Command:
        """The command."""
        raise NotImplementedError

    def done(self, reply: object) -> Done:
        """What the reply, which is no error, means."""
        raise NotImplementedError

    def first(self) -> list[Command]:
        """See Action."""
        return [self.command()]

    def next(self, replies: list[object]) -> list[Command] | Done:
        """See Action."""
        reply = replies[0]
        return failed(self, reply) if isinstance(reply, ErrorText) else self.done(reply)

    def writes(self) -> list[Command]:
        """See Action."""
        return [self.command()] if self.effect else []

    def answered(self, replies: list[object]) -> list[object] | None:
        """See Action."""
        return replies if self.effect else []


class Transaction(Action):
    """MULTI, commands, EXEC, sent at once."""

    def body(self) -> list[Command]:
        """The commands inside."""
        raise NotImplementedError

    def done(self, replies: list[object]) -> Done:
        """What the replies inside EXEC's mean."""
        raise NotImplementedError

    def first(self) -> list[Command]:
        """See Action."""
        return [[b"MULTI"], *self.body(), [b"EXEC"]]

    def next(self, replies: list[object]) -> list[Command] | Done:
        """See Action."""
        final = replies[-1]
        if isinstance(final, ErrorText):
            return failed(self, final)
        if not isinstance(final, list) or len(final) != len(self.body()):
            raise UnexpectedReply(f"EXEC of {self.body()!r} answered {final!r}")
        for reply in final:
            if isinstance(reply, ErrorText):
                raise UnexpectedReply(f"inside EXEC of {self.body()!r}: {reply}")
        return self.done(final)

    def writes(self) -> list[Command]:
        """See Action."""
        return [argv for argv in self.body() if argv[0] not in READS]

    def answered(self, replies: list[object]) -> list[object] | None:
        """See Action."""
        final = replies[-1]
        assert isinstance(final, list)
        return [reply for argv, reply in zip(self.body(), final, strict=True) if argv[0] not in READS]


READS = (b"GET", b"LRANGE", b"MGET", b"SMEMBERS", b"TTL", b"PTTL", b"LLEN", b"EXISTS")


def failed(action: Action, error: ErrorText) -> Done:
    """How an operation ends whose deciding reply is an error. Raises UnexpectedReply for one that cannot be right."""
    if is_forbidden(error):
        raise UnexpectedReply(f"{action.f} of {action.key!r}: {error}")
    outcome = of_error(error)
    if outcome == INFO and not action.effect:
        outcome = FAIL
    return Done(outcome, action.value, error)


def okay(value: Value) -> Done:
    """A success."""
    return Done(OK, value)


def number(reply: object) -> int:
    """An integer out of a bulk string, an integer reply or null (0). Raises UnexpectedReply."""
    if reply is None:
        return 0
    if isinstance(reply, int) or (isinstance(reply, bytes) and reply.lstrip(b"-").isdigit()):
        return int(reply)
    raise UnexpectedReply(f"{reply!r} is no number")


def optional(reply: object) -> int | None:
    """As ``number``, null is None."""
    return None if reply is None else number(reply)


class Workload(Protocol):
    """A kind of work on keys of its own. ``name`` is what the checkers know it by."""

    name: str

    def setup(self) -> list[Command]:
        """Commands that run once before any client begins."""

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """An operation; ``unique`` is a number that no other operation of the run has, ``turn`` counts the client's."""

    def saw(self, action: Action, value: Value) -> None:
        """An operation of this client succeeded with that value."""

    def final(self) -> Sequence[Action]:
        """Reads of everything, for the end of the run."""
