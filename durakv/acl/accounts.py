"""Users as replicated state: who was set or deleted through the log, the same on every node.

A node starts with users of its own (``requirepass``, ``user`` lines, ``aclfile``); what the log says of a name replaces
what the node had by it. Rule: changes only in apply, by definitions that need nothing of the node they run on. So the
leader resolves what is local before it logs a request: passwords become hashes, and the user as it is on the leader
travels along, for nodes where the log has not named it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.acl.selector import RuleError
from durakv.acl.users import DEFAULT, Acl, User, hashed, joined, refused
from durakv.keyspace import journal
from durakv.resp.errors import CommandError

# Marks the argument that says what precedes the rules of a logged ACL SETUSER; no rule starts with it.
BASE: Final = b"\0"
_CHANGED: Final = 1
NO_DEFAULT: Final = "ERR The 'default' user cannot be removed"
BAD_NAME: Final = "ERR Usernames can't contain spaces or null characters"


class Accounts:
    """Definitions by user name: the rules that make the user, or None for one that was deleted."""

    def __init__(self, acl: Acl) -> None:
        self.acl = acl
        self.definitions: dict[bytes, tuple[bytes, ...] | None] = {}
        # For checkpoints: names defined since they were last written down.
        self.moved: dict[bytes, None] = {}
        # Called on every node with the users a request has changed or deleted.
        self.on_change: Callable[[list[User]], None] | None = None

    # -- before logging ----------------------------------------------------------------------------------------------

    def prepared(self, argv: list[bytes]) -> list[bytes]:
        """The form of ACL SETUSER name rule... that is logged. Raises CommandError where a rule is wrong."""
        name = argv[2]
        if any(letter in b" \t\n\v\f\r\0" for letter in name):
            raise CommandError(BAD_NAME)
        acl = self.acl
        rules = [hashed(rule) for rule in joined(argv[3:])]
        acl.try_user(name, argv[3:])
        current = acl.users.get(name) or User(name, acl.index, all_channels=acl.all_channels)
        base = current.rules()
        head = b"%c%d %d" % (0, acl.all_channels, len(base))
        return [argv[0], argv[1], name, head, *base, *rules]

    # -- in apply ----------------------------------------------------------------------------------------------------

    def set_user(self, argv: list[bytes]) -> None:
        """Apply what prepared() made. Raises CommandError and changes nothing when a rule is refused."""
        name = argv[2]
        if len(argv) < 4 or argv[3][:1] != BASE:
            raise CommandError("ERR ACL SETUSER was logged without its base")
        flag, count = argv[3][1:].split()
        all_channels = flag == b"1"
        rules = argv[4 + int(count) :]
        if self.definitions.get(name) is not None:
            staged = self.acl.users[name].copy()
        else:
            staged = User(name, self.acl.index, all_channels=all_channels)
            if name not in self.definitions:
                # The log has not named it so far: it is what the leader took it for. Otherwise it was deleted.
                rules = argv[4:]
        for rule in rules:
            try:
                staged.apply(rule, all_channels=all_channels)
            except RuleError as e:
                raise CommandError(refused(rule, e)) from None
        self._define(name, staged.rules())
        self._tell([name])

    def delete_users(self, names: list[bytes]) -> int:
        """How many of them existed. Raises CommandError for the default user."""
        if DEFAULT in names:
            raise CommandError(NO_DEFAULT)
        gone = [self.acl.users[name] for name in dict.fromkeys(names) if name in self.acl.users]
        for name in dict.fromkeys(names):
            # Also where this node has no such user: another may have one of its own.
            self._define(name, None)
        if self.on_change is not None and gone:
            self.on_change(gone)
        return len(gone)

    def replace(self, users: list[tuple[bytes, list[bytes]]]) -> None:
        """ACL LOAD: these and no others, the default user as at first unless it is among them."""
        wanted = dict(users)
        pristine = User(DEFAULT, self.acl.index, all_channels=True)
        for rule in (b"+@all", b"~*", b"&*", b"on", b"nopass"):
            pristine.apply(rule, all_channels=True)
        wanted.setdefault(DEFAULT, pristine.rules())
        before = dict(self.acl.users)
        for name in dict.fromkeys([*self.acl.users, *self.definitions, *wanted]):
            self._define(name, wanted.get(name))
        if self.on_change is not None:
            self.on_change(list({**before, **self.acl.users}.values()))

    def _define(self, name: bytes, rules: list[bytes] | None) -> None:
        user = self.acl.users.get(name)
        was = None if user is None else tuple(user.rules())
        old = self.definitions.get(name, ())
        journal.steps.append((self, _CHANGED, name, (old, was)))
        self.moved[name] = None
        self.definitions[name] = None if rules is None else tuple(rules)
        self.acl.become(name, rules)
        self.acl.default_logged = DEFAULT in self.definitions

    def restore(self, name: bytes, rules: tuple[bytes, ...] | None) -> None:
        """Take over what a checkpoint says of a name."""
        self.definitions[name] = rules
        self.acl.become(name, None if rules is None else list(rules))
        self.acl.default_logged = DEFAULT in self.definitions

    def forget(self, name: bytes) -> None:
        """The log has not named it, as far as this node knows: before a snapshot is taken over."""
        del self.definitions[name]
        self.acl.default_logged = DEFAULT in self.definitions

    def undo(self, op: int, name: bytes, state: tuple[tuple[bytes, ...] | None, tuple[bytes, ...] | None]) -> None:
        """See journal: () stands for a name the log had not named."""
        assert op == _CHANGED
        old, was = state
        self.moved[name] = None
        if old == ():
            del self.definitions[name]
        else:
            self.definitions[name] = old
        self.acl.default_logged = DEFAULT in self.definitions
        self.acl.become(name, None if was is None else list(was))

    def _tell(self, names: list[bytes]) -> None:
        if self.on_change is not None:
            self.on_change([self.acl.users[name] for name in names])

    def canonical(self) -> bytes:
        """Content as bytes for the state digest; empty as long as the log has named nobody."""
        out: list[bytes] = []
        for name in sorted(self.definitions):
            rules = self.definitions[name]
            parts = [b"-"] if rules is None else [b"+", *rules]
            out.append(b"%d:%b %d\n" % (len(name), name, len(parts)))
            out += [b"%d:%b" % (len(part), part) for part in parts]
        return b"".join(out)
