"""One operation of a client as wire commands, and what its replies mean for the history.

Rule: an action has at most one unit with an effect (one write command or one EXEC), so that one reply decides its
outcome. Written values are unique in the run wherever the command allows it: the shadow finds each effect in the log
by its bytes. It must not know connections, time or nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

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

    ``f``, ``key`` and ``value`` go into the invocation. ``first()`` gives the first commands, ``next(replies)`` the
    following ones or the end; replies are as many as commands, errors are ErrorText.
    """

    effect = True

    def __init__(self, f: str, key: Value, value: Value) -> None:
        self.f = f
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


class Once(Action):
    """One command, one reply. ``read`` says what a reply means that is no error: a value, or how it ended."""

    def __init__(
        self, f: str, argv: Command, read: Callable[[object], Value | Done], *, key: Value = None, value: Value = None,
        effect: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(f, key, value)
        self.argv = argv
        self.read = read
        self.effect = effect

    def first(self) -> list[Command]:
        """See Action."""
        return [self.argv]

    def next(self, replies: list[object]) -> list[Command] | Done:
        """See Action."""
        reply = replies[0]
        if isinstance(reply, ErrorText):
            return failed(self, reply)
        found = self.read(reply)
        return found if isinstance(found, Done) else okay(found)

    def writes(self) -> list[Command]:
        """See Action."""
        return [self.argv] if self.effect else []

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


class Guarded(Action):
    """WATCH and GET of one key; when what is there allows it, the writes in MULTI, which fail if it changed meanwhile.

    ``allows`` judges the value; where it does not allow the writes, the operation ends as ``otherwise``.
    """

    def __init__(
        self, f: str, watched: bytes, allows: Callable[[object], bool], writes: list[Command], otherwise: Done, *,
        key: Value = None, value: Value = None,
    ) -> None:  # fmt: skip
        super().__init__(f, key, value)
        self.watched = watched
        self.allows = allows
        self.otherwise = otherwise
        self._writes = writes
        self._asked = False
        self._allowed = False

    def executed(self, replies: list[object]) -> Value:
        """What the operation answers once its writes were executed with these replies; True unless a kind differs."""
        return True

    def first(self) -> list[Command]:
        """See Action."""
        return [[b"WATCH", self.watched], [b"GET", self.watched]]

    def next(self, replies: list[object]) -> list[Command] | Done:
        """See Action."""
        if not self._asked:
            self._asked = True
            for reply in replies:
                if isinstance(reply, ErrorText):
                    # Nothing that changes anything was sent yet; what may be watched must not fail the next EXEC.
                    self.otherwise = Done(FAIL, self.value, failed(self, reply).error)
                    return [[b"UNWATCH"]]
            self._allowed = self.allows(replies[1])
            return [[b"MULTI"], *self._writes, [b"EXEC"]] if self._allowed else [[b"UNWATCH"]]
        if not self._allowed:
            return self.otherwise
        final = replies[-1]
        if isinstance(final, ErrorText):
            return failed(self, final)
        if final is None:
            # Somebody changed the key, or the leader did; either way nothing was executed.
            return Done(FAIL, self.value, "aborted")
        if not isinstance(final, list) or len(final) != len(self._writes):
            raise UnexpectedReply(f"EXEC of {self._writes!r} answered {final!r}")
        return okay(self.executed(final))

    def writes(self) -> list[Command]:
        """See Action."""
        return self._writes


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


def is_one(reply: object) -> bool:
    """Whether a reply that counts says 1."""
    return number(reply) == 1


def numbers(reply: object) -> list[int]:
    """A list of integers. Raises UnexpectedReply."""
    if not isinstance(reply, list):
        raise UnexpectedReply(f"{reply!r} is no list")
    return [number(item) for item in reply]


def get(key: str, f: str = "read") -> Once:
    """GET of a number."""
    return Once(f, [b"GET", key.encode()], optional, key=key, effect=False)


class Workload:
    """A kind of work on keys of its own. ``name`` is what the checkers know it by; each client has its instance."""

    name = ""

    def named(self, name: str) -> str:
        """A key as this workload calls it on the wire; see slotted.py."""
        return name

    def setup(self) -> list[Command]:
        """Commands that run once before any client begins."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """An operation; ``unique`` is a number that no other operation of the run has, ``turn`` counts the client's."""
        raise NotImplementedError

    def saw(self, action: Action, value: Value) -> None:
        """An operation of this client succeeded with that value."""

    def final(self) -> Sequence[Action]:
        """Reads of everything, for the end of the run."""
        return ()
