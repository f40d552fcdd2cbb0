"""The omniscient shadow: every entry that ever existed, the committed log, and the state and replies it must give.

The committed log is applied once more here, with the production state machine on a keyspace of its own whose command
handlers are wrapped to tell what each of them answered. Rules: an effect in the log was asked for by a client, at most
as often as it was asked, never after a definite refusal; a client's reply is the one this log gives. It must not know
nodes, disks or time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import hiredis

from durakv.commands.table import Row, build_table
from durakv.engine.apply import Applier
from durakv.engine.outcome import Outcome
from durakv.keyspace.digest import canonical_value, digest, slot_digest
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.slots import slot_of
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError
from durakv.resp.types import Parked
from durakv.storage.entries import frame_body
from durakv.storage.record import crc, next_chain
from jstyle.sim.outcomes import ErrorText
from jstyle.sim.violation import Violation
from raft.types import EntryKind

DATABASES: Final = 2
# State digests are compared at indexes divisible by this.
DIGEST_STRIDE: Final = 16

Token = tuple[bytes, ...]


class Known:
    """An entry as first seen. ``before`` is the term of the one before it, ``chain`` the digest of all up to it."""

    __slots__ = ("before", "chain", "data", "kind", "subterm")

    def __init__(self, before: int, chain: int, subterm: int, kind: int, data: bytes) -> None:
        self.before = before
        self.chain = chain
        self.subterm = subterm
        self.kind = kind
        self.data = data


class Effect:
    """One command with an effect: how often clients asked for it and gave up, how often the log ran it."""

    __slots__ = ("asked", "at", "refused", "replies", "runs")

    def __init__(self) -> None:
        self.asked = 0
        self.refused = 0
        self.runs = 0
        # What it answered each time, as a client decodes it, and the index of the entry that ran it.
        self.replies: list[object] = []
        self.at: list[int] = []


class Shadow:
    """``commit`` is the highest committed index; ``terms[i]`` the term of the committed entry at ``i``.

    ``beside``: the shadow of another group of the same cluster; what clients asked for, and keys, are of all groups.
    """

    def __init__(self, beside: Shadow | None = None) -> None:
        self.entries: dict[tuple[int, int], Known] = {(0, 0): Known(0, 0, 0, EntryKind.NORMAL, b"")}
        self.terms = [0]
        # Lowest term of a node that knew the index as committed.
        self.committed_in = [0]
        self.memberships: dict[int, bytes] = {}
        self.effects: dict[Token, Effect] = {} if beside is None else beside.effects
        self.digests: dict[int, bytes] = {}
        self.keys: dict[tuple[int, bytes], None] = {} if beside is None else beside.keys
        self.internal_errors = 0
        self._where = "nothing yet"
        self._index = 0
        # Told of the indexes of which one must account for an answer that a client got.
        self.on_acknowledged: Callable[[list[int]], None] | None = None
        # Told of the keys of each command that the log runs, before anybody else is.
        self.on_run: Callable[[list[bytes]], None] | None = None
        self._handlers: dict[str, Callable[[Any, list[bytes]], object]] = {}
        table = build_table()
        for row in table.all:
            self._wrap(row)
        self.ks = Keyspace(DATABASES)
        self.applier = Applier(self.ks, table, Outcome())

    @property
    def commit(self) -> int:
        """Highest committed index."""
        return len(self.terms) - 1

    # -- entries -------------------------------------------------------------------------------------------------------

    def note(self, where: str, index: int, term: int, subterm: int, kind: int, data: bytes, before: int) -> Known:
        """An entry was seen after one of term ``before``. Raises Violation R3 unless it is the same as ever."""
        known = self.entries.get((index, term))
        if known is not None:
            if known.before != before or known.subterm != subterm or known.kind != kind or known.data != data:
                raise Violation(
                    "R3", f"{where} holds another entry {index} of term {term} (after term {before}) than first seen "
                    f"(after term {known.before})",
                )  # fmt: skip
            return known
        previous = self.entries.get((index - 1, before))
        if previous is None:
            raise Violation("R3", f"{where} holds entry {index} of term {term} after an unknown one of term {before}")
        chain = next_chain(previous.chain, index, term, crc(frame_body(kind, data)))
        known = self.entries[index, term] = Known(before, chain, subterm, kind, data)
        return known

    def note_durable(
        self, where: str, index: int, term: int, subterm: int, kind: int, data: bytes, before: int, chain: int
    ) -> None:
        """An entry was found on a medium. Raises Violation R3."""
        known = self.note(where, index, term, subterm, kind, data, before)
        if known.chain != chain:
            raise Violation("R3", f"{where}: the log up to {index} of term {term} is not the one its digest names")

    # -- the committed log ---------------------------------------------------------------------------------------------

    def commit_to(self, where: str, index: int, term: int, by_term: int) -> None:
        """Everything up to entry (index, term) is committed, known by a node in ``by_term``. Raises Violation."""
        path: list[tuple[int, int, Known]] = []
        at, of = index, term
        while at > self.commit:
            known = self.entries[at, of]
            path.append((at, of, known))
            at, of = at - 1, known.before
        if at >= 1 and self.terms[at] != of:
            raise Violation(
                "R5", f"{where} commits {index} of term {term} over entry {at} of term {of}; committed there is term "
                f"{self.terms[at]}",
            )  # fmt: skip
        for at, of, known in reversed(path):
            self.terms.append(of)
            self.committed_in.append(by_term)
            self._apply(at, of, known)

    def last_committed_before(self, term: int) -> int:
        """The highest index known as committed by a node of a lower term."""
        at = self.commit
        while at > 0 and self.committed_in[at] >= term:
            at -= 1
        return at

    def _apply(self, index: int, term: int, known: Known) -> None:
        applier = self.applier
        self._where = f"entry {index} of term {term}"
        self._index = index
        if known.kind == EntryKind.NORMAL:
            applier.apply_payload(index, known.data)
        elif known.kind == EntryKind.NOOP and known.subterm == 0:
            applier.new_leader(index)
        elif known.kind == EntryKind.NOOP:
            applier.applied = index
        else:
            self.memberships[index] = known.data
            applier.applied = index
        if applier.internal_errors > self.internal_errors:
            self.internal_errors = applier.internal_errors
            raise Violation("R5", f"{self._where}: a command handler failed with an internal error")
        if index % DIGEST_STRIDE == 0:
            self.digests[index] = self.digest_of(self.ks)

    def digest_of(self, ks: Keyspace) -> bytes:
        """A digest of the part of a keyspace that this log ever touched, and of its size."""
        parts = [b"%d %d" % (db.size, db.nexp) for db in ks.dbs]
        slots: dict[tuple[int, int], None] = {}
        for number, key in self.keys:
            slots[number, slot_of(key)] = None
        # Empty ones are left out: slots that are touched later must not change what an earlier index compares with.
        parts += [slot_digest(ks.dbs[number], slot) for number, slot in sorted(slots) if ks.dbs[number].slots[slot]]
        if ks.guarded and ks.handoff is not None:
            parts.append(ks.handoff.canonical())
        return b"|".join(parts)

    def read(self, argv: list[bytes]) -> object:
        """What a read answers in the state at ``commit``."""
        ctx = self.applier.rctx
        ctx.db = self.ks.dbs[0]
        return decoded(encode(self._handlers[argv[0].decode().lower()](ctx, argv), 2))

    def lasting_keys(self) -> list[tuple[bytes, bytes]]:
        """(key, kind) of every key of database 0 without a deadline, sorted."""
        db = self.ks.dbs[0]
        found = []
        for number, key in sorted(self.keys):
            value = db.peek(key) if number == 0 and db.expiry(key) < 0 else None
            if value is not None:
                found.append((key, canonical_value(value)[0]))
        return found

    def full_digest(self) -> bytes:
        """As ``durakv.keyspace.digest.digest`` of the state at ``commit``."""
        return digest(self.ks)

    # -- effects -------------------------------------------------------------------------------------------------------

    def _wrap(self, row: Row) -> None:
        fn: Callable[[Any, list[bytes]], object] = row.fn
        self._handlers[row.name] = fn

        def told(ctx: Any, argv: list[bytes]) -> object:
            try:
                reply = fn(ctx, argv)
            except CommandError as error:
                self._ran(row, ctx, argv, error)
                raise
            if type(reply) is not Parked:
                self._ran(row, ctx, argv, reply)
            return reply

        row.fn = told

    def _ran(self, row: Row, ctx: Any, argv: list[bytes], reply: object) -> None:
        number: int = ctx.db.number
        keys = row.keys(argv)
        for key in keys:
            self.keys[number, key] = None
        if self.on_run is not None:
            self.on_run(keys)
        token = tuple(argv)
        effect = self.effects.get(token)
        if effect is None:
            raise Violation("D2", f"{self._where} runs {_shown(token)}, which no client ever sent")
        effect.runs += 1
        if effect.runs > effect.asked - effect.refused:
            self._overrun(token, effect)
        effect.replies.append(decoded(encode(reply, 2)))
        effect.at.append(self._index)

    def _overrun(self, token: Token, effect: Effect) -> None:
        if effect.runs > effect.asked:
            raise Violation("D3", f"{self._where} runs {_shown(token)} a {effect.runs}th time; asked {effect.asked}")
        raise Violation(
            "P3", f"{self._where} runs {_shown(token)} {effect.runs} times; of {effect.asked} requests "
            f"{effect.refused} were refused for good",
        )  # fmt: skip

    def asked(self, commands: list[list[bytes]]) -> None:
        """A client is about to send commands with an effect."""
        for argv in commands:
            token = tuple(argv)
            effect = self.effects.get(token)
            if effect is None:
                effect = self.effects[token] = Effect()
            effect.asked += 1

    def refused(self, commands: list[list[bytes]], why: str) -> None:
        """A client was told for certain that its commands have no effect. Raises Violation P3 when they had."""
        for argv in commands:
            token = tuple(argv)
            effect = self.effects[token]
            effect.refused += 1
            if effect.runs > effect.asked - effect.refused:
                self._where = f"a client was told {why!r} but the log"
                self._overrun(token, effect)

    def acknowledged(self, commands: list[list[bytes]], replies: list[object]) -> None:
        """A client got replies to commands with an effect. Raises Violation D1 or R5."""
        for argv, reply in zip(commands, replies, strict=True):
            token = tuple(argv)
            effect = self.effects[token]
            if effect.runs == 0:
                raise Violation("D1", f"{_shown(token)} was answered {reply!r} but no committed entry runs it")
            if reply not in effect.replies:
                raise Violation("R5", f"{_shown(token)} was answered {reply!r}; the log gives {effect.replies[-3:]!r}")
            if self.on_acknowledged is not None:
                self.on_acknowledged([at for at, one in zip(effect.at, effect.replies, strict=True) if one == reply])


def _shown(token: Token) -> str:
    return b" ".join(token[:6]).decode("utf-8", "backslashreplace")[:120]


def decoded(wire: bytes) -> object:
    """One reply as a client sees it; errors are ErrorText."""
    reader = hiredis.Reader(replyError=ErrorText)  # type: ignore[arg-type]
    reader.feed(wire)
    return reader.gets()
