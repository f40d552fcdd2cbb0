"""Who a client is to the nodes: everything that makes one connection unfit for another client's requests. [compiled]

Rule: connections are shared between clients of the same profile and no others. The proxy keeps no users: credentials
are the client's own, sent to the nodes as they came.
"""

from __future__ import annotations

from durakv.proxy.request import LaneWatcher, request_wire


class Profile:
    """``user`` and ``password`` None: never logged in (``user`` alone None: AUTH with a password only).

    ``replica``: asks replicas for reads. ``tracking`` are the words after CLIENT TRACKING ON of the one client this
    profile belongs to, then ``private`` is its number, else 0. ``greeting`` is sent first on every connection and gets
    ``greetings`` replies.
    """

    __slots__ = (
        "db", "greeting", "greetings", "number", "password", "private", "protocol", "replica", "tracking", "user",
        "watcher",
    )  # fmt: skip

    def __init__(
        self, number: int, user: bytes | None, password: bytes | None, protocol: int, db: int, replica: bool,
        private: int, tracking: tuple[bytes, ...],
    ) -> None:  # fmt: skip
        self.number = number
        self.user = user
        self.password = password
        self.protocol = protocol
        self.db = db
        self.replica = replica
        self.private = private
        self.tracking = tracking
        # Hears of pushes on every connection of this profile.
        self.watcher: LaneWatcher | None = None
        words = self._greeting()
        self.greeting = b"".join(request_wire(argv) for argv in words)
        self.greetings = len(words)

    def may_refuse(self, wire: bytes) -> bool:
        """Whether an error in answer to the greeting is no reason to give up."""
        # Nobody logged in yet: what clients send will be refused the same way, by the node.
        return self.password is None and self.protocol == 2 and wire.startswith((b"-NOAUTH", b"-NOPERM"))

    def _greeting(self) -> list[list[bytes]]:
        words: list[list[bytes]] = []
        login = [self.password or b""] if self.user is None else [self.user, self.password or b""]
        if self.protocol == 3:
            hello = [b"HELLO", b"3"]
            if self.password is not None:
                hello += [b"AUTH", b"default" if self.user is None else self.user, self.password]
            words.append(hello)
        elif self.password is not None:
            words.append([b"AUTH", *login])
        if self.db:
            words.append([b"SELECT", b"%d" % self.db])
        if self.replica:
            words.append([b"READONLY"])
        if self.private:
            words.append([b"CLIENT", b"TRACKING", b"ON", *self.tracking])
        # A full server says so only after the connection stands.
        return words or [[b"PING"]]


class Profiles:
    """All profiles in use, each with its number."""

    def __init__(self) -> None:
        self._known: dict[
            tuple[bytes | None, bytes | None, int, int, bool, int, tuple[bytes, ...]], Profile
        ] = {}  # fmt: skip
        self._last = 0

    def get(
        self, user: bytes | None, password: bytes | None, protocol: int, db: int, *, replica: bool = False,
        private: int = 0, tracking: tuple[bytes, ...] = (),
    ) -> Profile:  # fmt: skip
        """The one profile with these facts."""
        facts = (user, password, protocol, db, replica, private, tracking)
        found = self._known.get(facts)
        if found is None:
            self._last += 1
            found = self._known[facts] = Profile(self._last, user, password, protocol, db, replica, private, tracking)
        return found

    def like(self, old: Profile, *, replica: bool) -> Profile:
        """The same client, asking leaders or replicas."""
        if old.replica == replica:
            return old
        found = self.get(
            old.user, old.password, old.protocol, old.db, replica=replica, private=old.private, tracking=old.tracking
        )
        found.watcher = old.watcher
        return found

    def forget(self, numbers: list[int]) -> None:
        """Drop profiles nobody uses."""
        gone = dict.fromkeys(numbers)
        for facts in [facts for facts, profile in self._known.items() if profile.number in gone]:
            del self._known[facts]

    def all(self) -> list[Profile]:
        """Those in use."""
        return list(self._known.values())
