"""Replicated state beside the keys as named blobs: parked requests, watched keys, scripts, functions, users, members.

A checkpoint holds it as aux rows, so that a node that starts from one applies what follows as the others do.
Rule: knows what each piece consists of, never how or when rows are written. A piece tells only what changed since it
was asked last; a name that is longer than a row's may be goes by its digest, so every blob repeats its name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from durakv.cluster.handoff.hub import Handoff
from durakv.engine.blocking import Origin, ReplicatedSessions, Waiter
from durakv.resp.types import NULL_ARRAY
from durakv.scripting.programs import Function, Library, Programs, Script

if TYPE_CHECKING:
    from durakv.acl.accounts import Accounts
    from durakv.commands.table import Table
    from durakv.engine.apply import Applier

# None: the row is gone.
Change = tuple[bytes, bytes | None]

WAITER: Final = b"waiter/"
WATCHES: Final = b"watches"
SCRIPT: Final = b"script/"
ORDER: Final = b"script-order"
LIBRARIES: Final = b"libraries"
USER: Final = b"user/"
MEMBERSHIP: Final = b"cfg"
SOURCE: Final = b"source"

_COUNT: Final = struct.Struct("<I")
_ORIGIN: Final = struct.Struct("<QQ")
_WAITER: Final = struct.Struct("<QQQQI")
_NAME_MAX: Final = 200


def packed(parts: list[bytes]) -> bytes:
    """Byte strings, each behind its length."""
    out = [_COUNT.pack(len(parts))]
    for part in parts:
        out.append(_COUNT.pack(len(part)))
        out.append(part)
    return b"".join(out)


def unpacked(blob: bytes) -> list[bytes]:
    """The inverse of packed(). Raises ValueError."""
    try:
        (count,) = _COUNT.unpack_from(blob)
        at = _COUNT.size
        out: list[bytes] = []
        for _ in range(count):
            (size,) = _COUNT.unpack_from(blob, at)
            at += _COUNT.size + size
            if at > len(blob):
                raise ValueError("a part is cut short")
            out.append(blob[at - size : at])
    except struct.error:
        raise ValueError("a length is cut short") from None
    if at != len(blob):
        raise ValueError("bytes behind the last part")
    return out


def _named(prefix: bytes, name: bytes) -> bytes:
    if len(name) <= _NAME_MAX:
        return prefix + b"=" + name
    return prefix + b"#" + blake2b(name, digest_size=32).digest()


class Beside:
    """All pieces of one node. ``membership`` is what the last applied configuration entry says, encoded."""

    def __init__(self, applier: Applier, table: Table) -> None:
        self.applier = applier
        self.table = table
        self.membership = b""
        self._membership_written = b""
        # Scripts in the order in which they are forgotten, until all of them are read.
        self._order: list[bytes] = []
        # Other replicated state, by name: (what it is now, what takes it over); written down when it differs.
        self.others: dict[bytes, tuple[Callable[[], bytes], Callable[[bytes], None]]] = {}
        self._others_written: dict[bytes, bytes] = {}
        self._pristine: dict[bytes, bytes] = {}
        # Whether rows of slot handoffs are asked for.
        self._slots_told = False
        source = applier.ks.source
        if source is not None:
            self.keep(SOURCE, source.to_bytes, source.from_bytes)

    def keep(self, name: bytes, take: Callable[[], bytes], give: Callable[[bytes], None]) -> None:
        """Other replicated state, which is now as it is before the log has said anything of it."""
        self.others[name] = (take, give)
        self._others_written[name] = self._pristine[name] = take()

    # -- writing -----------------------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """Rows that differ from what the last call said."""
        out: list[Change] = []
        sessions = self.applier.sessions
        if sessions.moved or sessions.watch_moved:
            self._sessions(sessions, out)
        ks = self.applier.ks
        if ks.programs is not None:
            self._programs(ks.programs, out)
        if ks.accounts is not None and ks.accounts.moved:
            self._users(ks.accounts, out)
        if self.membership != self._membership_written:
            self._membership_written = self.membership
            out.append((MEMBERSHIP, self.membership))
        if self._slots_told:
            out += self.applier.handoff.changes()
        for name, (take, _) in self.others.items():
            blob = take()
            if blob != self._others_written.get(name):
                self._others_written[name] = blob
                out.append((name, blob))
        return out

    def write_down_slots(self) -> None:
        """From now on changes() will be asked for."""
        self._slots_told = True

    def all_of_it(self) -> list[Change]:
        """Every row, for a checkpoint that begins with nothing."""
        applier = self.applier
        applier.sessions.moved.update(dict.fromkeys(applier.sessions.waiters))
        applier.sessions.watch_moved = True
        if applier.ks.programs is not None:
            programs = applier.ks.programs
            programs.moved.update(dict.fromkeys(programs.scripts))
            programs.order_moved = programs.libraries_moved = True
        if applier.ks.accounts is not None:
            applier.ks.accounts.moved.update(dict.fromkeys(applier.ks.accounts.definitions))
        self._membership_written = b""
        self._others_written = {}
        if not self._slots_told:
            return self.changes()
        self._slots_told = False
        out = self.changes()
        self._slots_told = True
        return out + self.applier.handoff.all_of_it()

    def _sessions(self, sessions: ReplicatedSessions, out: list[Change]) -> None:
        for origin in sessions.moved:
            waiter = sessions.waiters.get(origin)
            out.append((WAITER + _ORIGIN.pack(*origin), None if waiter is None else self._waiter(waiter)))
        sessions.moved = {}
        if not sessions.watch_moved:
            return
        sessions.watch_moved = False
        parts: list[bytes] = []
        for origin, mine in sessions.watched_by.items():
            parts.append(_ORIGIN.pack(*origin))
            parts.append(_COUNT.pack(len(mine)))
            for dbkey in mine:
                parts.append(_ORIGIN.pack(dbkey[0], sessions.versions.get(dbkey, 0)))
                parts.append(dbkey[1])
        out.append((WATCHES, packed(parts)))

    @staticmethod
    def _waiter(waiter: Waiter) -> bytes:
        # No blocking command answers a timeout with anything else.
        assert waiter.on_timeout is NULL_ARRAY, "a parked request with another answer to a timeout"
        head = _WAITER.pack(*waiter.origin, waiter.number, waiter.deadline_ms, waiter.db)
        name = waiter.row.name.encode()
        return packed([head, name, waiter.kind, packed(waiter.keys), packed(waiter.argv)])

    @staticmethod
    def _programs(programs: Programs, out: list[Change]) -> None:
        for sha in programs.moved:
            script = programs.scripts.get(sha)
            blob = None if script is None else packed([sha, _COUNT.pack(script.flags), script.text])
            out.append((_named(SCRIPT, sha), blob))
        programs.moved = {}
        if programs.order_moved:
            programs.order_moved = False
            out.append((ORDER, packed(list(programs.evicting))))
        if programs.libraries_moved:
            programs.libraries_moved = False
            parts: list[bytes] = []
            for library in programs.libraries.values():
                made = [library.name, library.code]
                for f in library.functions:
                    absent = _COUNT.pack(f.description is None)
                    made += [f.name, absent, f.description or b"", _COUNT.pack(f.flags)]
                parts.append(packed(made))
            out.append((LIBRARIES, packed(parts)))

    @staticmethod
    def _users(accounts: Accounts, out: list[Change]) -> None:
        for name in accounts.moved:
            if name not in accounts.definitions:
                out.append((_named(USER, name), None))
                continue
            rules = accounts.definitions[name]
            parts = [name, b"-"] if rules is None else [name, b"+", *rules]
            out.append((_named(USER, name), packed(parts)))
        accounts.moved = {}

    # -- reading -----------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything, before a snapshot's rows are taken over."""
        applier = self.applier
        applier.sessions.clear()
        programs = applier.ks.programs
        if programs is not None:
            programs.take({}, {}, {})
        if applier.ks.accounts is not None:
            for name in list(applier.ks.accounts.definitions):
                applier.ks.accounts.forget(name)
        applier.handoff.take_rows([])
        for name, blob in self._pristine.items():
            self.others[name][1](blob)
            self._others_written[name] = blob

    def take(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Take over the aux rows of a checkpoint. Raises ValueError for one that cannot be read, LookupError for a
        command this program does not know.
        """
        programs = self.applier.ks.programs
        accounts = self.applier.ks.accounts
        scripts: dict[bytes, Script] = {}
        order: list[bytes] = []
        libraries: dict[bytes, Library] = {}
        waiters: list[tuple[int, Waiter]] = []
        slots: list[tuple[bytes, bytes]] = []
        for name, blob in rows:
            if name.startswith(WAITER):
                waiters.append(self._waiter_of(unpacked(blob)))
            elif name == WATCHES:
                self._watch(unpacked(blob))
            elif name.startswith(SCRIPT):
                sha, flags, text = unpacked(blob)
                scripts[sha] = Script(text, _COUNT.unpack(flags)[0])
            elif name == ORDER:
                order = unpacked(blob)
            elif name == LIBRARIES:
                libraries = _libraries(unpacked(blob))
            elif name.startswith(USER):
                user, form, *rules = unpacked(blob)
                assert accounts is not None
                accounts.restore(user, None if form == b"-" else tuple(rules))
            elif name == MEMBERSHIP:
                self.membership = self._membership_written = blob
            elif Handoff.owns_row(name):
                slots.append((name, blob))
            elif name in self.others:
                self._others_written[name] = blob
                self.others[name][1](blob)
            else:
                raise ValueError(f"aux row {name!r} is none this program knows")
        self.applier.handoff.take_rows(slots)
        if programs is not None:
            programs.take(scripts, dict.fromkeys(order), libraries)
            programs.moved = {}
            programs.order_moved = programs.libraries_moved = False
        sessions = self.applier.sessions
        waiters.sort(key=lambda found: found[0])
        for _, waiter in waiters:
            sessions.park(waiter)
        sessions.moved = {}
        sessions.watch_moved = False
        if accounts is not None:
            accounts.moved = {}

    def _waiter_of(self, parts: list[bytes]) -> tuple[int, Waiter]:
        head, name, kind, keys, argv = parts
        node, uid, number, deadline_ms, db = _WAITER.unpack(head)
        words = unpacked(argv)
        row = self.table.find(words)
        if row.name.encode() != name:
            raise LookupError(f"a request is parked in {name!r}, which this program does not know")
        waiter = Waiter((node, uid), row, words, db, unpacked(keys), kind, deadline_ms, NULL_ARRAY)
        return number, waiter

    def _watch(self, parts: list[bytes]) -> None:
        sessions = self.applier.sessions
        at = 0
        while at < len(parts):
            node, uid = _ORIGIN.unpack(parts[at])
            origin: Origin = (node, uid)
            (count,) = _COUNT.unpack(parts[at + 1])
            at += 2
            for _ in range(count):
                db, version = _ORIGIN.unpack(parts[at])
                key = parts[at + 1]
                at += 2
                sessions.watch(origin, db, [key])
                if version:
                    sessions.versions[(db, key)] = version


def _libraries(parts: list[bytes]) -> dict[bytes, Library]:
    out: dict[bytes, Library] = {}
    for part in parts:
        name, code, *facts = unpacked(part)
        library = Library(name, code)
        for i in range(0, len(facts), 4):
            absent = _COUNT.unpack(facts[i + 1])[0]
            flags = _COUNT.unpack(facts[i + 3])[0]
            library.functions.append(Function(library, facts[i], None if absent else facts[i + 2], flags))
        out[name] = library
    return out
