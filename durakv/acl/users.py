"""Users of this node: their passwords and permissions, who may log in, and whether a request is allowed.

Rule: users change all rules of a call or none: by this node's configuration here, by the log through accounts.py. The
hot path reads ``user.allows_all`` and calls ``user.check`` only when it is False.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Protocol

from durakv.acl.denials import DenialLog
from durakv.acl.selector import (
    ALLOWED,
    DENIED_CHANNEL,
    DENIED_COMMAND,
    DENIED_KEY,
    CommandFacts,
    CommandIndex,
    RuleError,
    Selector,
)
from durakv.resp.errors import WRONGPASS, CommandError

if TYPE_CHECKING:
    from durakv.world.ports import Rng

DEFAULT: Final = b"default"
AUTH_NOT_NEEDED: Final = (
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration "
    "is correct?"
)
_HEX: Final = b"0123456789abcdef"
_BAD_HASH: Final = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
_NOT_AMONG: Final = "The password you are trying to remove from the user does not exist"


class NamedRow(Protocol):
    """A command as the gate knows it; ``name`` is the lower-case full name (``config|get``)."""

    name: str


class Denied(CommandError):
    """NOPERM. ``reason`` is command, key or channel and ``refused`` what was, for ACL LOG."""

    def __init__(self, text: str, reason: str, refused: bytes) -> None:
        super().__init__(text)
        self.reason = reason
        self.refused = refused


class User:
    """One user. ``selectors[0]`` is the root; a request is allowed when any selector allows all of it."""

    def __init__(self, name: bytes, index: CommandIndex, *, all_channels: bool) -> None:
        self.name = name
        self.index = index
        self.enabled = False
        self.nopass = False
        self.sanitize = True
        # sha256 of each password, hex.
        self.passwords: dict[bytes, None] = {}
        self.selectors = [Selector(index, all_channels=all_channels)]
        self.allows_all = False
        # Becomes true when the user is deleted; its connections are closed then.
        self.deleted = False

    def copy(self) -> User:
        """An independent copy, for trying rules out."""
        other = User(self.name, self.index, all_channels=False)
        other.take(self)
        other.selectors = [s.copy() for s in self.selectors]
        return other

    def take(self, other: User) -> None:
        """Become like ``other``; sessions keep pointing here."""
        self.enabled = other.enabled
        self.nopass = other.nopass
        self.sanitize = other.sanitize
        self.passwords = dict(other.passwords)
        self.selectors = other.selectors
        root = self.selectors[0]
        self.allows_all = root.all_commands and root.all_keys and root.all_channels

    def apply(self, rule: bytes, *, all_channels: bool) -> None:
        """Take one rule of ACL SETUSER; ``all_channels`` is acl-pubsub-default. Raises RuleError."""
        word = rule.lower()
        if not rule:
            return
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitize = word == b"sanitize-payload"
        elif word in (b"nopass", b"resetpass"):
            self.nopass = word == b"nopass"
            self.passwords = {}
        elif rule[:1] in (b">", b"#"):
            self.passwords[_digest(rule)] = None
            self.nopass = False
        elif rule[:1] in (b"<", b"!"):
            if self.passwords.pop(_digest(rule), self) is self:
                raise RuleError(_NOT_AMONG)
        elif rule[:1] == b"(" and rule[-1:] == b")":
            selector = Selector(self.index, all_channels=all_channels)
            for inner in rule[1:-1].split():
                selector.apply(inner)
            self.selectors.append(selector)
        elif word == b"clearselectors":
            del self.selectors[1:]
        elif word == b"reset":
            self.enabled = self.nopass = False
            self.sanitize = True
            self.passwords = {}
            self.selectors = [Selector(self.index, all_channels=all_channels)]
        else:
            self.selectors[0].apply(rule)

    def check(self, row: NamedRow, argv: list[bytes]) -> None:
        """Raises Denied with Valkey's NOPERM text unless the request is allowed."""
        if self.allows_all:
            return
        denied = self.judge(self.index.facts[row.name], argv)
        if denied is not None:
            raise denied

    def judge(self, facts: CommandFacts, argv: list[bytes], *, verbose: bool = False) -> Denied | None:
        """None when allowed. ``verbose`` names keys and channels, for ACL DRYRUN."""
        worst = DENIED_COMMAND
        at_worst = 0
        for selector in self.selectors:
            reason, at = selector.check(facts, argv)
            if reason == ALLOWED:
                return None
            if reason > worst or (reason == worst and at > at_worst):
                worst, at_worst = reason, at
        who = self.name.decode("utf-8", "backslashreplace")
        refused = argv[at_worst]
        what = refused.decode("utf-8", "backslashreplace")
        if worst == DENIED_KEY:
            text = f"User {who} has no permissions to access the '{what}' key" if verbose else (
                "No permissions to access a key")  # fmt: skip
            return Denied("NOPERM " + text, "key", refused)
        if worst == DENIED_CHANNEL:
            text = f"User {who} has no permissions to access the '{what}' channel" if verbose else (
                "No permissions to access a channel")  # fmt: skip
            return Denied("NOPERM " + text, "channel", refused)
        text = f"NOPERM User {who} has no permissions to run the '{facts.name}' command"
        return Denied(text, "command", facts.name.encode("latin-1"))

    def flags(self) -> list[bytes]:
        """The words ACL GETUSER and ACL LIST show, in Valkey's order."""
        out = [b"on" if self.enabled else b"off"]
        if self.nopass:
            out.append(b"nopass")
        out.append(b"sanitize-payload" if self.sanitize else b"skip-sanitize-payload")
        return out

    def rules(self) -> list[bytes]:
        """Rules that make a fresh user like this one, each ``( ... )`` as one."""
        parts = self.flags() + [b"#" + digest for digest in self.passwords] + self.selectors[0].text().split()
        parts += [b"(" + selector.text() + b")" for selector in self.selectors[1:]]
        return parts

    def text(self) -> bytes:
        """All rules, as ACL LIST shows them after ``user <name> ``."""
        return b" ".join(self.rules())


class Acl:
    """The users by name. ``all_channels`` follows acl-pubsub-default."""

    def __init__(self, rng: Rng, index: CommandIndex) -> None:
        self.rng = rng
        self.index = index
        self.all_channels = False
        self.denials = DenialLog()
        self.users: dict[bytes, User] = {}
        self.default = User(DEFAULT, index, all_channels=True)
        staged = self.default.copy()
        for rule in (b"+@all", b"~*", b"&*", b"on", b"nopass"):
            staged.apply(rule, all_channels=True)
        self.default.take(staged)
        self.users[DEFAULT] = self.default
        # The log has said what the default user is: requirepass of this node no longer does.
        self.default_logged = False
        # Stands for clients of other nodes, whose home node checks their rights. Not listed, cannot log in.
        self._internal = User(b"(peer)", index, all_channels=True)
        self._internal.take(staged.copy())
        self._internal.nopass = False

    def initial_user(self) -> User | None:
        """The user of a new connection: ``default`` when it needs no password, else None (AUTH comes first)."""
        return self.default if self.default.enabled and self.default.nopass else None

    def internal_user(self) -> User:
        """The user of a session that stands for a client of another node."""
        return self._internal

    def set_requirepass(self, password: str) -> None:
        """requirepass: the default user's only password; empty removes it. Without effect once ACL SETUSER or LOAD has
        named the default user, who is the same on all nodes from then on.
        """
        if self.default_logged:
            return
        staged = self.default.copy()
        staged.apply(b"resetpass", all_channels=self.all_channels)
        rule = b">" + password.encode("utf-8", "surrogateescape") if password else b"nopass"
        staged.apply(rule, all_channels=self.all_channels)
        self.default.take(staged)

    def authenticate(self, name: bytes, password: bytes) -> User:
        """The user, when the pair is right and the user enabled. Raises CommandError WRONGPASS."""
        user = self.users.get(name)
        # Hash in every case, so that an unknown user takes as long as a wrong password.
        digest = hashlib.sha256(password).hexdigest().encode()
        if user is None or not user.enabled:
            raise CommandError(WRONGPASS)
        if user.nopass:
            return user
        right = False
        for known in user.passwords:
            right = hmac.compare_digest(known, digest) or right
        if not right:
            raise CommandError(WRONGPASS)
        return user

    def authenticate_default(self, password: bytes) -> User:
        """AUTH with one argument. Raises CommandError."""
        if self.default.nopass:
            raise CommandError(AUTH_NOT_NEEDED)
        return self.authenticate(DEFAULT, password)

    def try_user(self, name: bytes, rules: list[bytes]) -> User:
        """What the user would be after ``rules``; changes nothing. Raises CommandError."""
        current = self.users.get(name)
        staged = current.copy() if current is not None else User(name, self.index, all_channels=self.all_channels)
        for rule in joined(rules):
            try:
                staged.apply(rule, all_channels=self.all_channels)
            except RuleError as e:
                raise CommandError(refused(rule, e)) from None
        return staged

    def become(self, name: bytes, rules: list[bytes] | None) -> None:
        """Make the user what ``rules`` (of User.rules()) say, or delete it for None. Sessions keep pointing at it."""
        user = self.users.get(name)
        if rules is None:
            if user is not None:
                del self.users[name]
                user.take(User(name, self.index, all_channels=False))
                user.deleted = True
            return
        if user is None:
            user = User(name, self.index, all_channels=False)
            self.users[name] = user
        staged = User(name, self.index, all_channels=False)
        for rule in rules:
            staged.apply(rule, all_channels=False)
        user.take(staged)

    def set_user(self, name: bytes, rules: list[bytes]) -> User:
        """Create or change a user. Raises CommandError and changes nothing when a rule is refused."""
        staged = self.try_user(name, rules)
        user = self.users.get(name)
        if user is None:
            user = User(name, self.index, all_channels=self.all_channels)
            self.users[name] = user
        user.take(staged)
        return user

    def genpass(self, bits: int) -> bytes:
        """Unpredictable hex digits for ``bits`` bits."""
        digits = (bits + 3) // 4
        return self.rng.token((digits + 1) // 2).hex().encode()[:digits]


def _digest(rule: bytes) -> bytes:
    """The stored form of the password in a ``>``, ``<``, ``#`` or ``!`` rule. Raises RuleError."""
    if rule[:1] in (b">", b"<"):
        return hashlib.sha256(rule[1:]).hexdigest().encode()
    if len(rule) != 65 or any(letter not in _HEX for letter in rule[1:]):
        raise RuleError(_BAD_HASH)
    return rule[1:]


def hashed(rule: bytes) -> bytes:
    """A rule as it may be logged: without a password in clear."""
    if rule[:1] in (b">", b"<"):
        return (b"#" if rule[:1] == b">" else b"!") + _digest(rule)
    return rule


def refused(rule: bytes, error: RuleError) -> str:
    """The answer to a SETUSER with a wrong rule."""
    shown = rule.decode("utf-8", "backslashreplace")
    return f"ERR Error in ACL SETUSER modifier '{shown}': {error.text}"


def joined(rules: list[bytes]) -> list[bytes]:
    """Join the words of each ``( ... )`` into one rule. Raises CommandError when a parenthesis stays open."""
    out: list[bytes] = []
    open_at = -1
    for at, rule in enumerate(rules):
        if open_at >= 0:
            out[-1] += b" " + rule
            if rule[-1:] == b")":
                open_at = -1
            continue
        out.append(rule)
        if rule[:1] == b"(" and rule[-1:] != b")":
            open_at = at
    if open_at >= 0:
        shown = rules[open_at].decode("utf-8", "backslashreplace")
        raise CommandError(f"ERR Unmatched parenthesis in acl selector starting at '{shown}'.")
    return out
