"""One set of permissions: which commands, on which keys, on which channels; read from rules, written back as rules.

Rule: the only place that interprets a permission rule. It knows commands as CommandFacts and nothing of users,
sessions or how a key pattern is matched (``match`` is given).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from durakv.resp.errors import CommandError

Match: TypeAlias = Callable[[bytes, bytes], bool]

READ: Final = 1
WRITE: Final = 2

ALLOWED: Final = 0
# In rising order of relevance when several selectors refuse for different reasons.
DENIED_COMMAND: Final = 1
DENIED_KEY: Final = 2
DENIED_CHANNEL: Final = 4

UNKNOWN_COMMAND: Final = "Unknown command or category name in ACL"
SYNTAX: Final = "Syntax error"
KEYS_AFTER_ALL: Final = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try "
    "'resetkeys' to start with an empty list of patterns"
)
CHANNELS_AFTER_ALL: Final = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try "
    "'resetchannels' to start with an empty list of channels"
)
FIRST_ARG_OF_SUB: Final = "Allowing first-arg of a subcommand is not supported"

# Command -> (first channel argument, only one, arguments are patterns). UNSUBSCRIBE and its kin need no permission.
_CHANNELS: Final = {
    "publish": (1, True, False), "spublish": (1, True, False), "subscribe": (1, False, False),
    "ssubscribe": (1, False, False), "psubscribe": (1, False, True),
}  # fmt: skip
_BITFIELD_WRITES: Final = (b"SET", b"INCRBY")


class RuleError(Exception):
    """A rule is not understood; ``text`` is what follows ``Error in ACL SETUSER modifier '...':``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class KeySpecView(Protocol):
    """The part of a command's key spec that matters here."""

    flags: tuple[str, ...]

    def positions(self, argv: list[bytes]) -> list[int]:
        """Indexes of keys in argv. Raises CommandError."""


class CommandFacts:
    """What permissions need to know of a command or subcommand (``config|get``); ``categories`` are lower case."""

    __slots__ = ("categories", "container", "key_positions", "keys", "name", "no_auth")

    def __init__(
        self, name: str, categories: frozenset[str], keys: tuple[KeySpecView, ...],
        key_positions: Callable[[list[bytes]], list[int]] | None, *, no_auth: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.container = name.partition("|")[0] if "|" in name else ""
        self.categories = categories
        self.keys = tuple(spec for spec in keys if "NOT_KEY" not in spec.flags)
        self.key_positions = key_positions
        self.no_auth = no_auth

    def accesses(self, argv: list[bytes]) -> list[tuple[int, int]]:
        """(position, READ|WRITE bits) of each key a request names."""
        out: dict[int, int] = {}
        unknown = 0
        for spec in self.keys:
            bits = self._bits(spec.flags, argv)
            try:
                positions = spec.positions(argv)
            except CommandError:
                # The command itself will refuse these arguments with a better text.
                positions = []
            for at in positions:
                out[at] = out.get(at, 0) | bits
            if not positions:
                unknown |= bits
        if self.key_positions is not None:
            for at in self.key_positions(argv):
                if at not in out:
                    out[at] = unknown
        return list(out.items())

    def _bits(self, flags: tuple[str, ...], argv: list[bytes]) -> int:
        if "VARIABLE_FLAGS" in flags:
            words = [word.upper() for word in argv[2:]]
            if self.name == "set" and b"GET" not in words[1:]:
                return WRITE
            if self.name == "bitfield" and not any(word in words for word in _BITFIELD_WRITES):
                return READ
        bits = READ if "ACCESS" in flags else 0
        if "INSERT" in flags or "DELETE" in flags or "UPDATE" in flags:
            bits |= WRITE
        return bits


class CommandIndex:
    """All commands, by lower-case full name, in table order."""

    def __init__(self, facts: list[CommandFacts], categories: tuple[str, ...], match: Match) -> None:
        self.facts = {fact.name: fact for fact in facts}
        self.category_names = categories
        self.match = match
        self.subs: dict[str, list[str]] = {}
        for fact in facts:
            if fact.container:
                self.subs.setdefault(fact.container, []).append(fact.name)

    def in_category(self, category: str) -> list[str]:
        """Names of the commands and subcommands in a category."""
        return [name for name, fact in self.facts.items() if category in fact.categories]


class Selector:
    """See the module's text. ``allowed`` holds names of allowed commands while ``all_commands`` is off."""

    def __init__(self, index: CommandIndex, *, all_channels: bool) -> None:
        self.index = index
        self.all_keys = False
        self.all_commands = False
        self.all_channels = all_channels
        # Set by +@all: commands that later versions add are allowed too; decides how the rules are written back.
        self.future = False
        self.allowed: dict[str, None] = {}
        self.first_args: dict[str, list[bytes]] = {}
        self.rules: list[str] = []
        self.key_patterns: dict[bytes, int] = {}
        self.channel_patterns: dict[bytes, None] = {}

    def copy(self) -> Selector:
        """An independent copy."""
        other = Selector(self.index, all_channels=self.all_channels)
        other.all_keys = self.all_keys
        other.all_commands = self.all_commands
        other.future = self.future
        other.allowed = dict(self.allowed)
        other.first_args = {name: list(args) for name, args in self.first_args.items()}
        other.rules = list(self.rules)
        other.key_patterns = dict(self.key_patterns)
        other.channel_patterns = dict(self.channel_patterns)
        return other

    # -- rules -----------------------------------------------------------------------------------------------------

    def apply(self, rule: bytes) -> None:
        """Take one rule such as ``+get``, ``~cache:*`` or ``allkeys``. Raises RuleError."""
        word = rule.lower()
        if word in (b"allkeys", b"~*"):
            self.all_keys = True
            self.key_patterns = {}
        elif word == b"resetkeys":
            self.all_keys = False
            self.key_patterns = {}
        elif word in (b"allchannels", b"&*"):
            self.all_channels = True
            self.channel_patterns = {}
        elif word == b"resetchannels":
            self.all_channels = False
            self.channel_patterns = {}
        elif word in (b"allcommands", b"+@all"):
            self._all(True)
        elif word in (b"nocommands", b"-@all"):
            self._all(False)
        elif rule[:1] in (b"~", b"%"):
            self._key_pattern(rule)
        elif rule[:1] == b"&":
            self._channel_pattern(rule[1:])
        elif rule[:2] in (b"+@", b"-@"):
            self._category(word[2:].decode("latin-1"), allow=rule[:1] == b"+")
        elif rule[:1] == b"+":
            self._allow(word[1:].decode("latin-1"))
        elif rule[:1] == b"-":
            name = self._known(word[1:].decode("latin-1"))
            self._set(name, allow=False)
            self._note(name, allow=False)
        else:
            raise RuleError(SYNTAX)

    def _all(self, allow: bool) -> None:
        self.all_commands = self.future = allow
        self.allowed = dict.fromkeys(self.index.facts) if allow else {}
        self.first_args = {}
        self.rules = []

    def _key_pattern(self, rule: bytes) -> None:
        if self.all_keys:
            raise RuleError(KEYS_AFTER_ALL)
        bits = READ | WRITE
        pattern = rule[1:]
        if rule[:1] == b"%":
            letters, tilde, pattern = rule[1:].partition(b"~")
            upper = letters.upper()
            if not tilde or upper not in (b"R", b"W", b"RW", b"WR"):
                raise RuleError(SYNTAX)
            bits = (READ if b"R" in upper else 0) | (WRITE if b"W" in upper else 0)
        if _has_space(pattern):
            raise RuleError(SYNTAX)
        self.key_patterns[pattern] = self.key_patterns.get(pattern, 0) | bits

    def _channel_pattern(self, pattern: bytes) -> None:
        if self.all_channels:
            raise RuleError(CHANNELS_AFTER_ALL)
        if _has_space(pattern):
            raise RuleError(SYNTAX)
        self.channel_patterns[pattern] = None

    def _category(self, category: str, *, allow: bool) -> None:
        if category not in self.index.category_names:
            raise RuleError(UNKNOWN_COMMAND)
        self._note("@" + category, allow=allow)
        for name in self.index.in_category(category):
            self._set(name, allow=allow)

    def _allow(self, name: str) -> None:
        if "|" not in name:
            self._set(self._known(name), allow=True)
            self._note(name, allow=True)
            return
        parent, _, sub = name.rpartition("|")
        if parent not in self.index.facts:
            raise RuleError(UNKNOWN_COMMAND)
        if "|" in parent:
            raise RuleError(FIRST_ARG_OF_SUB)
        if not sub:
            raise RuleError(SYNTAX)
        if parent in self.index.subs:
            self._set(self._known(name), allow=True)
        else:
            args = self.first_args.setdefault(parent, [])
            if sub.encode("latin-1") not in args:
                args.append(sub.encode("latin-1"))
        self._note(name, allow=True)

    def _known(self, name: str) -> str:
        if name not in self.index.facts:
            raise RuleError(UNKNOWN_COMMAND)
        return name

    def _set(self, name: str, *, allow: bool) -> None:
        for one in (name, *self.index.subs.get(name, ())):
            if allow:
                self.allowed[one] = None
            else:
                self.allowed.pop(one, None)
                self.all_commands = False
        self.first_args.pop(name, None)

    def _note(self, name: str, *, allow: bool) -> None:
        """Remember the rule, replacing those it makes void (the same name, or its subcommands)."""
        kept = [rule for rule in self.rules if rule[1:] != name and not rule[1:].startswith(name + "|")]
        self.rules = [*kept, ("+" if allow else "-") + name]

    # -- checks ----------------------------------------------------------------------------------------------------

    def check(self, facts: CommandFacts, argv: list[bytes]) -> tuple[int, int]:
        """(ALLOWED or a DENIED_ reason, index of the refused argument or 0)."""
        name = facts.name
        if not self.all_commands and not facts.no_auth and name not in self.allowed:
            words = self.first_args.get(name)
            at = 2 if facts.container else 1
            if words is None or len(argv) <= at or argv[at].lower() not in words:
                return DENIED_COMMAND, 0
        if not self.all_keys and (facts.keys or facts.key_positions is not None):
            for at, bits in facts.accesses(argv):
                if not self.key_allowed(argv[at], bits):
                    return DENIED_KEY, at
        if not self.all_channels:
            shape = _CHANNELS.get(name)
            if shape is not None:
                first, single, patterns = shape
                for at in range(first, first + 1 if single else len(argv)):
                    if not self.channel_allowed(argv[at], pattern=patterns):
                        return DENIED_CHANNEL, at
        return ALLOWED, 0

    def key_allowed(self, key: bytes, bits: int) -> bool:
        """Whether a pattern grants all of ``bits`` on ``key``."""
        if self.all_keys:
            return True
        match = self.index.match
        for pattern, granted in self.key_patterns.items():
            if granted & bits == bits and match(pattern, key):
                return True
        return False

    def channel_allowed(self, channel: bytes, *, pattern: bool) -> bool:
        """Whether a channel is granted; a subscriber's pattern must be granted literally."""
        if self.all_channels:
            return True
        if pattern:
            return channel in self.channel_patterns
        match = self.index.match
        return any(match(granted, channel) for granted in self.channel_patterns)

    # -- text ------------------------------------------------------------------------------------------------------

    def command_text(self) -> str:
        """``+@all`` or ``-@all`` and the rules after it."""
        return " ".join(["+@all" if self.future else "-@all", *self.rules])

    def key_text(self) -> bytes:
        """Key patterns as rules."""
        if self.all_keys:
            return b"~*"
        prefix = {READ: b"%R~", WRITE: b"%W~", READ | WRITE: b"~"}
        return b" ".join(prefix[bits] + pattern for pattern, bits in self.key_patterns.items())

    def channel_text(self) -> bytes:
        """Channel patterns as rules."""
        if self.all_channels:
            return b"&*"
        return b" ".join(b"&" + pattern for pattern in self.channel_patterns)

    def text(self) -> bytes:
        """Everything, as ACL LIST shows it."""
        parts = [self.key_text()] if self.key_text() else []
        if self.all_channels:
            parts.append(b"&*")
        else:
            parts.append(b"resetchannels")
            if self.channel_patterns:
                parts.append(self.channel_text())
        parts.append(self.command_text().encode("latin-1"))
        return b" ".join(parts)


def _has_space(text: bytes) -> bool:
    return any(letter in b" \t\n\v\f\r\0" for letter in text)
