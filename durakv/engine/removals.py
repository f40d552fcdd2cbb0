"""Keys that the node's own work removes, in apply: past their deadline, or to make room. [compiled]

Rule: nothing of a slot that the group does not serve is removed; what is fenced must stay as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.commands.context import NOTIFY_EVICTED
from durakv.keyspace.journal import steps
from durakv.keyspace.slots import slot_of

if TYPE_CHECKING:
    from durakv.engine.apply import Applier


def _served(applier: Applier, keys: list[bytes]) -> list[bytes]:
    if not applier.ks.guarded:
        return keys
    serves = applier.handoff.state.serves
    return [key for key in keys if serves[slot_of(key)]]


def sweep(applier: Applier, db: int, keys: list[bytes]) -> None:
    """Delete those of ``keys`` whose deadline has passed by the entry's time."""
    if steps:
        steps.clear()
    database = applier.ks.dbs[db]
    for key in _served(applier, keys):
        database.get(key)
    applier.after_unit()


def evict(applier: Applier, db: int, keys: list[bytes]) -> None:
    """Delete ``keys``, which the leader chose to make room."""
    if steps:
        steps.clear()
    database = applier.ks.dbs[db]
    ctx = applier.wctx
    for key in _served(applier, keys):
        if database.delete(key):
            applier.ks.evicted_keys += 1
            if ctx.notify_mask & NOTIFY_EVICTED:
                ctx.events.append((db, b"evicted", key))
    for key in keys:
        applier.outcome.evicted(db, key)
    applier.after_unit()
