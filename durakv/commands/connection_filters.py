"""Which clients CLIENT LIST and CLIENT KILL mean, and the line that describes one.

Rule: reads sessions, changes none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.commands.local_text import integer, text
from durakv.commands.session import Session
from durakv.resp.errors import SYNTAX, CommandError

_TYPES: Final = {"normal": "normal", "master": "master", "primary": "master", "slave": "slave", "replica": "slave",
                 "pubsub": "pubsub"}  # fmt: skip
_FLAG_LETTERS: Final = "AbBcdDegiIMNOPrRStTuUx"
# What CLIENT CAPA may claim. Followers forward instead of redirecting, so it is shown and changes nothing.
CAPABILITIES: Final = {b"redirect": "r"}
# Memory of a connection that does nothing, about: its session, its parser and its stream.
CLIENT_BYTES: Final = 4096
# In Session.watched: EXEC will abort; see engine/transactions.py.
_WATCH_LOST: Final = (-1, b"")
_TEXT_OPTIONS: Final = ("ADDR", "LADDR", "IP", "NAME", "LIB-NAME", "LIB-VER")

Test = Callable[[Session], bool]


class ClientFilter:
    """The options of one call. ``matches`` is the conjunction; ``skip_me`` is set when SKIPME was given."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.tests: list[Test] = []
        self.skip_me: bool | None = None

    def parse(self, argv: list[bytes], start: int, users: dict[bytes, object]) -> None:
        """Read ``option value`` pairs; ID and NOT-ID take several values. Raises CommandError."""
        at = start
        while at < len(argv):
            option = text(argv[at]).upper()
            if at + 1 >= len(argv):
                raise CommandError(SYNTAX)
            if option in ("ID", "NOT-ID"):
                at = self._ids(argv, at + 1, negate=option == "NOT-ID")
                continue
            value = argv[at + 1]
            if option == "SKIPME":
                if value.upper() not in (b"YES", b"NO"):
                    raise CommandError(SYNTAX)
                self.skip_me = value.upper() == b"YES"
            else:
                negate = option.startswith("NOT-")
                self._add(self._test(option.removeprefix("NOT-"), value, users), negate=negate)
            at += 2

    def matches(self, s: Session) -> bool:
        """Whether every test holds."""
        return all(test(s) for test in self.tests)

    def _add(self, test: Test, *, negate: bool) -> None:
        if negate:
            self.tests.append(lambda s: not test(s))
        else:
            self.tests.append(test)

    def _ids(self, argv: list[bytes], start: int, *, negate: bool) -> int:
        ids: dict[int, None] = {}
        at = start
        while at < len(argv) and (at == start or argv[at].isdigit()):
            value = integer(argv[at], "ERR Invalid client ID")
            if value < 1:
                raise CommandError("ERR client-id should be greater than 0")
            ids[value] = None
            at += 1
        self._add(lambda s: s.id in ids, negate=negate)
        return at

    def _test(self, option: str, value: bytes, users: dict[bytes, object]) -> Test:
        if option in _TEXT_OPTIONS:
            return _text_test(option, value)
        if option == "TYPE":
            kind = _TYPES.get(text(value).lower())
            if kind is None:
                raise CommandError(f"ERR Unknown client type '{text(value)}'")
            return lambda s: client_type(s) == kind
        if option == "USER":
            if value not in users:
                raise CommandError(f"ERR No such user '{text(value)}'")
            return lambda s: s.user is not None and s.user.name == value
        if option == "MAXAGE":
            age_s = integer(value, "ERR maxage is not an integer or out of range")
            if age_s <= 0:
                raise CommandError("ERR maxage should be greater than 0")
            return lambda s: (self.now_ms - s.created_ms) // 1000 >= age_s
        if option == "IDLE":
            idle_s = integer(value, "ERR idle is not an integer or out of range")
            if idle_s <= 0:
                raise CommandError("ERR idle should be greater than 0")
            return lambda s: (self.now_ms - s.last_ms) // 1000 >= idle_s
        if option == "DB":
            db = integer(value, "ERR DB number is not an integer or out of range")
            return lambda s: s.db == db
        if option == "FLAGS":
            letters = text(value)
            unknown = [letter for letter in letters if letter not in _FLAG_LETTERS]
            if not letters or unknown:
                raise CommandError(f"ERR Unknown flags found in the provided filter: {''.join(unknown)}")
            return lambda s: all(letter in client_flags(s) for letter in letters)
        if option == "CAPA":
            wanted = text(value)
            unknown = [letter for letter in wanted if letter not in CAPABILITIES.values()]
            if not wanted or unknown:
                raise CommandError(f"ERR Unknown capa found in the provided filter: {''.join(unknown)}")
            return lambda s: all(letter in s.capa for letter in wanted)
        raise CommandError(SYNTAX)


def _text_test(option: str, value: bytes) -> Test:
    shown = text(value)
    if option == "ADDR":
        return lambda s: s.address == shown
    if option == "LADDR":
        return lambda s: s.local_address == shown
    if option == "IP":
        return lambda s: s.address.rpartition(":")[0] == shown
    if option == "NAME":
        return lambda s: s.name == value
    if option == "LIB-NAME":
        return lambda s: s.lib_name == value
    return lambda s: s.lib_ver == value


def client_type(s: Session) -> str:
    """``pubsub`` for subscribers, ``slave`` for replicas, else ``normal``: peers are not clients here."""
    if s.replica:
        return "slave"
    return "pubsub" if s.in_pubsub() else "normal"


def client_flags(s: Session) -> str:
    """The letters of CLIENT LIST's ``flags``."""
    letters = ""
    if s.replica:
        letters += "S"
    if s.monitor:
        letters += "O"
    if s.in_pubsub():
        letters += "P"
    if s.multi is not None:
        letters += "x"
    if s.blocked:
        letters += "b"
    if _WATCH_LOST in s.watched:
        letters += "d"
    if s.closing:
        letters += "c"
    if s.tracking is not None:
        letters += "t"
        if s.tracking.broken:
            letters += "R"
        if s.tracking.bcast:
            letters += "B"
    if s.readonly:
        letters += "r"
    if s.no_evict:
        letters += "e"
    if s.no_touch:
        letters += "T"
    return letters or "N"


def client_memory(s: Session, argv_bytes: int = 0) -> tuple[int, int, int, int]:
    """Bytes of (input that waits, queue of MULTI, output the client does not take, all); ``argv_bytes`` as below."""
    waiting, unsent = s.link.waiting_bytes() if s.link is not None else (0, 0)
    queued = 0
    if s.multi is not None:
        queued = sum(len(arg) for _, argv in s.multi for arg in argv)
    return waiting, queued, unsent, CLIENT_BYTES + waiting + queued + unsent + s.out_bytes + argv_bytes


def client_line(s: Session, now_ms: int, argv_bytes: int = 0) -> str:
    """One line of CLIENT LIST without its newline, Valkey's fields in Valkey's order.

    ``argv_bytes`` is the size of the request that ``s`` runs at this moment. What has no counterpart is -1 or 0: file
    descriptors belong to the event loop, and no buffer of a fixed size is kept for replies.
    """
    waiting, queued, unsent, total = client_memory(s, argv_bytes)
    user = text(s.user.name) if s.user is not None else "(superuser)"
    redirect = -1 if s.tracking is None else s.tracking.redirect
    command = "NULL" if s.last_row is None else s.last_row.name
    fields: list[tuple[str, object]] = [
        ("id", s.id), ("addr", s.address), ("laddr", s.local_address), ("fd", -1), ("name", text(s.name)),
        ("age", max(0, now_ms - s.created_ms) // 1000), ("idle", max(0, now_ms - s.last_ms) // 1000),
        ("flags", client_flags(s)), ("capa", s.capa), ("db", s.db), ("sub", len(s.channels)), ("psub", len(s.patterns)),
        ("ssub", len(s.shard_channels)), ("multi", -1 if s.multi is None else len(s.multi)),
        ("watch", len(s.watched)), ("qbuf", waiting), ("qbuf-free", 0), ("argv-mem", argv_bytes),
        ("multi-mem", queued), ("rbs", 0), ("rbp", 0), ("obl", s.out_bytes), ("oll", int(unsent > 0)), ("omem", unsent),
        ("tot-mem", total), ("events", "rw" if unsent else "r"), ("cmd", command), ("user", user), ("redir", redirect),
        ("resp", s.protocol), ("lib-name", text(s.lib_name)), ("lib-ver", text(s.lib_ver)), ("tot-net-in", s.bytes_in),
        ("tot-net-out", s.bytes_out), ("tot-cmds", s.commands),
    ]  # fmt: skip
    return " ".join(f"{name}={value}" for name, value in fields)
