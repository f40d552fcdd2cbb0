"""What the leader decided about a script before logging it, as one more argument of the logged request.

Directives, memory and users differ from node to node and in time; a script is run by all nodes and must go the same way
on each. So the answers travel with it. Rule: apply reads nothing of this from the node it runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.acl.users import User

if TYPE_CHECKING:
    from durakv.acl.selector import CommandIndex
    from durakv.config.settings import Settings

_ATOMIC: Final = 1
_CLUSTER: Final = 2
_OVER_MEMORY: Final = 4


class Terms:
    """``user`` is None for one that may do everything. ``memory_bytes`` is what the script may hold in Lua."""

    __slots__ = ("atomic", "cluster", "instructions", "memory_bytes", "over_memory", "user")

    def __init__(self, instructions: int, memory_bytes: int, user: User | None) -> None:
        self.instructions = instructions
        self.memory_bytes = memory_bytes
        self.user = user
        self.atomic = False
        self.cluster = False
        self.over_memory = False


def rules_of(user: User | None) -> bytes:
    """What a request of ``user`` may do, in a form another node understands; empty when that is everything.

    Passwords and whether the user may log in stay behind. Words of rules hold no blanks, selectors stand in
    parentheses.
    """
    if user is None or user.allows_all:
        return b""
    words = user.selectors[0].text().split()
    words += [b"(" + selector.text() + b")" for selector in user.selectors[1:]]
    return b"\n".join([user.name, *words])


def user_of(rules: bytes, index: CommandIndex) -> User | None:
    """The inverse of rules_of()."""
    if not rules:
        return None
    name, *words = rules.split(b"\n")
    user = User(name, index, all_channels=False)
    for word in words:
        user.apply(word, all_channels=False)
    return user


class Encoder:
    """The argument for a request that is to be run. Directives rarely change: what was written last mostly fits."""

    __slots__ = ("_flags", "_instructions", "_memory_bytes", "_rules", "_text")

    def __init__(self) -> None:
        self._flags = -1
        self._instructions = 0
        self._memory_bytes = 0
        self._rules = b""
        self._text = b""

    def encode(self, settings: Settings, rules: bytes, *, over_memory: bool) -> bytes:
        """The terms under ``settings`` with the rights ``rules``."""
        flags = (
            _ATOMIC * settings.scripts_atomic + _CLUSTER * settings.cluster_enabled + _OVER_MEMORY * over_memory
        )  # fmt: skip
        instructions, memory_bytes = settings.script_max_instructions, settings.script_max_memory
        if (
            flags != self._flags
            or instructions != self._instructions
            or memory_bytes != self._memory_bytes
            or rules != self._rules
        ):
            self._flags, self._instructions, self._memory_bytes, self._rules = flags, instructions, memory_bytes, rules
            self._text = b"%d %d %d\n%b" % (flags, instructions, memory_bytes, rules)
        return self._text


def encode(settings: Settings, rules: bytes, *, over_memory: bool) -> bytes:
    """As Encoder.encode(), for once."""
    return Encoder().encode(settings, rules, over_memory=over_memory)


def decode(text: bytes, index: CommandIndex) -> Terms:
    """The inverse of encode()."""
    numbers, _, rules = text.partition(b"\n")
    flags, instructions, memory_bytes = (int(word) for word in numbers.split())
    terms = Terms(instructions, memory_bytes, user_of(rules, index))
    terms.atomic = bool(flags & _ATOMIC)
    terms.cluster = bool(flags & _CLUSTER)
    terms.over_memory = bool(flags & _OVER_MEMORY)
    return terms
