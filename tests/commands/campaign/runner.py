"""One program on both servers: its replies, then everything it left; and the least part of it that still differs.

Rule: a program starts on empty servers and fresh connection state, so that it differs again whenever it is run again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.commands.campaign.compare import Judge
from tests.commands.campaign.grammar import Words
from tests.commands.campaign.programs import Step
from tests.commands.campaign.wire import Server, Stuck, Tree, both, packed, runs, trees

DATABASES = (0, 1, 2)
# How long the search for the least part of a program may take.
_SHRINKING_S = 20.0
_MESSAGES = (b"message", b"pmessage", b"smessage")
_CLEARING: list[Words] = [
    [b"DISCARD"], [b"UNWATCH"], [b"SELECT", b"0"], [b"SCRIPT", b"FLUSH"], [b"FUNCTION", b"FLUSH"], [b"FLUSHALL"],
]  # fmt: skip
_READS: list[Words] = [[b"TYPE"], [b"OBJECT", b"ENCODING"], [b"PEXPIRETIME"]]
_CONTENT: dict[bytes, list[Words]] = {
    b"string": [[b"GET"]], b"list": [[b"LRANGE", b"0", b"-1"]], b"set": [[b"SMEMBERS"]], b"hash": [[b"HGETALL"]],
    b"zset": [[b"ZRANGE", b"0", b"-1", b"WITHSCORES"]],
    b"stream": [[b"XRANGE", b"-", b"+"], [b"XINFO", b"STREAM"], [b"XINFO", b"GROUPS"]],
}  # fmt: skip


@dataclass
class Difference:
    """The first request whose replies differ; ``at`` is its step, ``len(steps)`` for the state afterwards."""

    at: int
    words: Words
    mine: Tree
    other: Tree
    steps: list[Step] = field(default_factory=list)

    @property
    def kind(self) -> tuple[bytes, str, str]:
        """What makes two differences the same bug, roughly."""
        return self.words[0].upper(), str(self.mine[0]), str(self.other[0])


class Runner:
    """Runs programs against one pair of servers. ``marked``: replies are separated, since a request may have many."""

    def __init__(self, ours: Server, theirs: Server, judge: Judge, *, marked: bool = False) -> None:
        self.ours = ours
        self.theirs = theirs
        self.judge = judge
        self.marked = marked

    def difference(self, steps: list[Step]) -> Difference | None:
        """The first one of a program, None when there is none."""
        try:
            self._clear()
            found = self._replies(steps)
            return found or self._state(len(steps))
        except Stuck as error:
            self.ours.reset()
            self.theirs.reset()
            return Difference(len(steps), [b"(silence)"], ("?", str(error)), ("?", ""))

    def _clear(self) -> None:
        if self.marked or any(len(server.lines) > 1 for server in (self.ours, self.theirs)):
            self.ours.reset()
            self.theirs.reset()
        # DISCARD ends a transaction that a program left open, and is an error where there is none.
        mine, other = self._both_replies(_CLEARING)
        assert (mine[-1][0], other[-1][0]) == ("+", "+"), f"FLUSHALL failed: {mine[-1]}, {other[-1]}"

    def _both_replies(self, commands: list[Words]) -> tuple[list[Tree], list[Tree]]:
        """Replies of both to commands that have one each."""
        mine, other = both(self.ours, self.theirs, 0, b"".join(map(packed, commands)), len(commands))
        return trees(mine), trees(other)

    def _replies(self, steps: list[Step]) -> Difference | None:
        at = 0
        queues: dict[int, list[Words]] = {}
        stretches = runs(steps)
        several = len(stretches) > 1 and not self.marked
        for connection, commands in stretches:
            request = b"".join(self._request(at + n, words) for n, words in enumerate(commands))
            # Programs of more than one connection may switch within a transaction, which would queue a marker.
            replies = len(commands) if several else 0
            mine, other = both(self.ours, self.theirs, connection, request, replies)
            queue = queues.setdefault(connection, [])
            if mine != other or several:
                found = self._compare(at, commands, queue, mine, other)
                if found:
                    return found
            at += len(commands)
        return None

    def _request(self, number: int, words: Words) -> bytes:
        return packed(words) + (packed([b"PING", b"step %d" % number]) if self.marked else b"")

    def _compare(
        self, at: int, commands: list[Words], queue: list[Words], mine: bytes, other: bytes
    ) -> Difference | None:
        if self.marked:
            return self._compare_marked(at, commands, mine, other)
        ours, theirs = trees(mine), trees(other)
        for n, (words, our, their) in enumerate(zip(commands, ours, theirs, strict=True)):
            if not self.judge.alike(words, queue, our, their):
                return Difference(at + n, words, our, their)
            if our == ("+", b"QUEUED"):
                queue.append(words)
            elif words[0].upper() in (b"EXEC", b"DISCARD"):
                queue.clear()
        return None

    def _compare_marked(self, at: int, commands: list[Words], mine: bytes, other: bytes) -> Difference | None:
        # In a transaction markers are replies of its own, so that steps have none.
        ours, theirs = _grouped(trees(mine)), _grouped(trees(other))
        for n in range(max(len(ours), len(theirs))):
            our = ours[n] if n < len(ours) else []
            their = theirs[n] if n < len(theirs) else []
            if not self.judge.channels_alike(our, their):
                step = min(n, len(commands) - 1)
                return Difference(at + step, commands[step], ("*", our), ("*", their))
        return None

    def _state(self, at: int) -> Difference | None:
        if self.marked:
            self.ours.reset()
            self.theirs.reset()
        looks: list[Words] = [[b"DISCARD"]]
        for db in DATABASES:
            looks += [[b"SELECT", b"%d" % db], [b"KEYS", b"*"]]
        mine, other = self._both_replies(looks)
        for db in DATABASES:
            ours, theirs = (sorted(name for _, name in found[2 * db + 2][1]) for found in (mine, other))
            if ours != theirs:
                return Difference(at, [b"KEYS", b"*", b"db%d" % db], ("*", ours), ("*", theirs))
            found = self._content(at, db, ours) if ours else None
            if found:
                return found
        return None

    def _content(self, at: int, db: int, names: list[bytes]) -> Difference | None:
        select = [b"SELECT", b"%d" % db]
        commands = [select, *([*read, name] for name in names for read in _READS)]
        mine, other = self._both_replies(commands)
        found = self._compare_all(at, commands, mine, other)
        if found:
            return found
        kinds = [tree[1] for words, tree in zip(commands, mine, strict=True) if words[0] == b"TYPE"]
        commands = [
            [*read[: 1 + (read[0] == b"XINFO")], name, *read[1 + (read[0] == b"XINFO") :]]
            for name, kind in zip(names, kinds, strict=True)
            for read in _CONTENT[kind]
        ]
        return self._compare_all(at, commands, *self._both_replies(commands))

    def _compare_all(self, at: int, commands: list[Words], mine: list[Tree], other: list[Tree]) -> Difference | None:
        for words, our, their in zip(commands, mine, other, strict=True):
            if not self.judge.alike(words, [], our, their):
                return Difference(at, words, our, their)
        return None

    def shrink(self, steps: list[Step], found: Difference) -> Difference:
        """The same difference with fewer steps."""
        kept = steps[: found.at + 1]
        best = found
        until = time.monotonic() + _SHRINKING_S
        size = max(1, len(kept) // 2)
        while size and time.monotonic() < until:
            at = 0
            while at < len(kept) and time.monotonic() < until:
                shorter = kept[:at] + kept[at + size :]
                again = self.difference(shorter) if shorter else None
                if again and again.kind == found.kind:
                    kept, best = shorter[: again.at + 1], again
                else:
                    at += size
            size //= 2
        best.steps = kept
        return best


def _grouped(found: list[Tree]) -> list[list[Tree]]:
    """Replies of each step: those up to its marker; all messages are one more group."""
    groups: list[list[Tree]] = [[]]
    messages: list[Tree] = []
    for tree in found:
        kind, value = tree
        if kind in "*>" and value and value[0][1] in _MESSAGES:
            messages.append(tree)
        elif _is_marker(tree):
            groups.append([])
        else:
            groups[-1].append(tree)
    # They may come before or after the reply to what sent them.
    return [*groups, [("messages", messages)]]


def _is_marker(tree: Tree) -> bool:
    kind, value = tree
    if kind == "*" and len(value) == 2 and value[0][1] == b"pong":
        value = value[1][1]
    return isinstance(value, bytes) and value.startswith(b"step ")
