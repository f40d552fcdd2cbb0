"""EXEC: turn a session's queue into one unit of the log, with the databases its SELECTs choose.

WATCH is a log entry that names the session; EXEC carries (db, key, version at WATCH), compared in apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.commands.spec import LOCAL
from durakv.engine.batch import ITEM_EXEC, Item, Part
from durakv.resp.errors import CommandError
from durakv.resp.types import NO_REPLY, NULL_ARRAY

if TYPE_CHECKING:
    from durakv.commands.session import Session
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
        if row.kind == LOCAL and row.name == "select":
            db = _selected(argv, db, len(engine.ks.dbs))
        parts.append(Part(row, argv, db))
        size_bytes += 32 + sum(len(arg) + 8 for arg in argv)
    if not engine.leading:
        _forward(engine, s, parts, db)
        return NO_REPLY
    if engine.refusal is not None:
        engine.unwatch(s)
        raise CommandError("EXECABORT Transaction discarded because of: " + engine.refusal)
    if engine.batch.size_bytes + size_bytes > engine.room_bytes:
        engine.unwatch(s)
        raise CommandError(engine.throttled())
    slots = set()
    if engine.cluster_enabled:
        for part in parts:
            slots.add(engine.gate.check_slots(part.row, part.argv))
        slots.discard(-1)
        if len(slots) > 1:
            raise CommandError("CROSSSLOT Keys in request don't hash to the same slot")
    item = Item(ITEM_EXEC, s, None, [b"EXEC"], db, s.origin_node, s.uid)
    item.parts = parts
    if s.watched:
        item.watch = [(watched_db, key, version) for (watched_db, key), version in s.watched.items()]
        s.watched = {}
    engine.propose_exec(item, size_bytes)
    if db != s.db:
        # What follows runs in a database that is settled when the SELECT runs.
        s.blocked = True
    return NO_REPLY


def _selected(argv: list[bytes], db: int, count: int) -> int:
    """The database after a queued SELECT; a bad index leaves it and fails when the SELECT itself runs."""
    try:
        chosen = int(argv[1])
    except ValueError:
        return db
    return chosen if 0 <= chosen < count else db


def _forward(engine: Engine, s: Session, parts: list[Part], db: int) -> None:
    if not engine.leader_id or engine.leader_id == engine.node_id:
        raise CommandError("EXECABORT Transaction discarded because of: CLUSTERDOWN no leader is elected")
    watching = bool(s.watched)
    s.watched = {}
    s.pending += 1
    # What follows runs in a database that is settled when the transaction is answered.
    s.blocked = True
    engine.forwarder.forward_exec(s, [part.argv for part in parts], watching=watching, db=db)
    engine.schedule()
