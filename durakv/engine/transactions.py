"""EXEC: turn a session's queue into one unit of the log, with the databases its SELECTs choose.

WATCH is a log entry that names the session; EXEC carries (db, key, version at WATCH), compared in apply.
Rule: commands about the connection or the node (SUBSCRIBE, CLIENT SETNAME, INFO) run on the node the client talks to.
On a follower that is once the leader has run the rest; weave() puts their replies in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.cluster.handoff.guard import on_its_way
from durakv.commands.spec import LOCAL
from durakv.engine.batch import ITEM_EXEC, Item, Part
from durakv.engine.moving import Held
from durakv.engine.scripts import admitted, for_leader
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError
from durakv.resp.split import items
from durakv.resp.types import NO_REPLY, NULL_ARRAY

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row
    from durakv.engine.engine import Engine

# In Session.watched: the leader that kept watch has changed, so EXEC must abort.
WATCH_LOST = (-1, b"")
# In Session.watched on the client's home node: the leader's image of the session knows the keys.
WATCH_ELSEWHERE = (-2, b"")


def begin_exec(engine: Engine, s: Session) -> object:
    """Propose or forward the queued transaction of ``s``; returns a reply only when nothing needs to be logged."""
    assert s.multi is not None
    queue = s.multi
    s.multi = None
    s.multi_error = False
    if WATCH_LOST in s.watched or (engine.leading and WATCH_ELSEWHERE in s.watched):
        engine.unwatch(s)
        return NULL_ARRAY
    if not queue and not s.watched:
        return []
    parts: list[Part] = []
    size_bytes = 64
    db = s.db
    for row, argv in queue:
        if row.prepares and engine.leading:
            parts.append(Part(row, engine.prepared(row, argv), db))
            continue
        if row.runs_script and engine.leading:
            argv = admitted(engine, s, argv)
        if row.kind == LOCAL and row.name == "select":
            db = _selected(argv, db, engine.settings.database_count())
        parts.append(Part(row, argv, db))
        size_bytes += 32 + 8 * len(argv)
        for arg in argv:
            size_bytes += len(arg)
    if not engine.leading:
        return _forward(engine, s, parts)
    if engine.refusal is not None:
        engine.unwatch(s)
        raise CommandError("EXECABORT Transaction discarded because of: " + engine.refusal)
    if engine.batch.size_bytes + size_bytes > engine.room_bytes:
        engine.unwatch(s)
        raise CommandError(engine.throttled())
    if engine.cluster_enabled:
        slots = _slots(engine, s, parts)
        if len(slots) > 1:
            engine.unwatch(s)
            raise CommandError("CROSSSLOT Keys in request don't hash to the same slot")
        if engine.gate.usage is not None:
            engine.gate.usage.transaction(slots)
    item = Item(ITEM_EXEC, s, None, [b"EXEC"], db, s.origin_node, s.uid)
    item.parts = parts
    if s.epoch:
        item.number = s.next_number()
    if s.watched:
        item.watch = [(watched_db, key, version) for (watched_db, key), version in s.watched.items()]
        s.watched = {}
    engine.propose_exec(item, size_bytes)
    if db != s.db:
        # What follows runs in a database that is settled when the SELECT runs.
        s.blocked = True
    return NO_REPLY


def _slots(engine: Engine, s: Session, parts: list[Part]) -> dict[int, None]:
    """The slots of a transaction, which is over when one of them is not served here. Raises CommandError."""
    slots: dict[int, None] = {}
    try:
        for part in parts:
            slots[engine.gate.check_slots(part.row, part.argv)] = None
    except Held as held:
        engine.unwatch(s)
        raise CommandError(on_its_way(held.slot)) from None
    except CommandError:
        engine.unwatch(s)
        raise
    slots.pop(-1, None)
    return slots


def refused_exec(engine: Engine, s: Session, text: str) -> str:
    """EXEC itself was refused (arity, permission): the transaction is over. Source: multi.c execCommandAbort()."""
    s.multi = None
    s.multi_error = False
    engine.unwatch(s)
    return "EXECABORT Transaction discarded because of: " + text.removeprefix("ERR ")


def _selected(argv: list[bytes], db: int, count: int) -> int:
    """The database after a queued SELECT; a bad index leaves it and fails when the SELECT itself runs."""
    try:
        chosen = int(argv[1])
    except ValueError:
        return db
    return chosen if 0 <= chosen < count else db


def _runs_here(row: Row) -> bool:
    return row.kind == LOCAL and not row.forwarded


def _forward(engine: Engine, s: Session, parts: list[Part]) -> object:
    """Send to the leader what it must run; a queue without such commands runs here and now."""
    if not s.watched and all(_runs_here(part.row) for part in parts):
        return [engine.local(s, part.row, part.argv) for part in parts]
    if not engine.leader_id or engine.leader_id == engine.node_id:
        engine.unwatch(s)
        raise CommandError("EXECABORT Transaction discarded because of: CLUSTERDOWN no leader is elected")
    watching = bool(s.watched)
    s.watched = {}
    s.pending += 1
    # What follows runs in a database that is settled when the transaction is answered.
    s.blocked = True
    # The leader must see SELECT to know which database the commands after it mean.
    sent = [part for part in parts if part.row.name == "select" or not _runs_here(part.row)]
    commands = [for_leader(s, part.row, part.argv) for part in sent]
    engine.forwarder.forward_exec(s, commands, parts, watching=watching)
    engine.schedule()
    return NO_REPLY


def weave(engine: Engine, s: Session, parts: list[Part], wire: bytes) -> bytes:
    """The reply of a forwarded transaction that ran: the leader's items, between them those of commands run here."""
    if not any(_runs_here(part.row) for part in parts):
        return wire
    theirs = items(wire)
    out = [b"*%d\r\n" % len(parts)]
    at = 0
    for part in parts:
        select = part.row.name == "select"
        if _runs_here(part.row):
            out.append(encode(engine.local(s, part.row, part.argv), s.protocol))
        else:
            out.append(theirs[at])
        at += select or not _runs_here(part.row)
    return b"".join(out)
