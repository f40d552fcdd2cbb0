"""Slots that come and go, in apply: which units may run, what an item of a handoff does, who hears of it. [compiled]

A unit whose key is in a slot that the group does not serve changes nothing, on any node, whatever its proposer thought:
that is what makes it safe that admission and fences race. Rule: replicated state alone decides; the cost for a group
that owns all slots and never moved any is one test of ``ks.guarded`` for each unit, which the caller makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.cluster.handoff.apply import LOST
from durakv.cluster.handoff.guard import FENCE_HOLDS, NONE, WHOLE, slot_refused
from durakv.cluster.handoff.state import FENCED
from durakv.commands.spec import WRITE
from durakv.engine.ending import unpark
from durakv.engine.outcome import UnknownFormat
from durakv.keyspace.journal import steps
from durakv.keyspace.slots import slot_of
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.cluster.handoff.hub import Handoff
    from durakv.cluster.handoff.state import Record
    from durakv.commands.table import Row
    from durakv.engine.apply import Applier
    from durakv.engine.batch import Part


def refused(applier: Applier, row: Row, argv: list[bytes]) -> CommandError | None:
    """Why a unit, or a command of one, may not run; None when it may."""
    handoff = applier.handoff
    if row.key_at == 0 and row.name in WHOLE:
        return None if handoff.state.may_flush() else CommandError(FENCE_HOLDS)
    slot = slot_refused(handoff.state, row, argv)
    return None if slot == NONE else CommandError(applier.outcome.not_served(slot))


def refused_transaction(
    applier: Applier, parts: list[Part], watch: list[tuple[int, bytes, int]] | None
) -> CommandError | None:
    """Why a transaction may not run as a whole; None when it may.

    What the log carries of it decides: its writes and the keys it watches. Reads are judged one by one, unless there is
    nothing else to it.
    """
    writes = 0
    for part in parts:
        if part.row.kind == WRITE:
            writes += 1
            error = refused(applier, part.row, part.argv)
            if error is not None:
                return error
    for _, key, _ in watch or ():
        slot = slot_of(key)
        if not applier.handoff.state.serves[slot]:
            return CommandError(applier.outcome.not_served(slot))
    if not writes:
        for part in parts:
            error = refused(applier, part.row, part.argv)
            if error is not None:
                return error
    return None


# -- after units ------------------------------------------------------------------------------------------------------


def after_unit(applier: Applier) -> None:
    """Imports end when the group is flushed: what they bring would be there again. Exports pass it on."""
    ks = applier.ks
    if ks.flushes != applier.flushes_seen:
        applier.flushes_seen = ks.flushes
        emptied, ks.emptied = ks.emptied, []
        applier.handoff.flushed(emptied, ks.log_ms)
        follow(applier)
        applier.outcome.slots_stirred()


def tell(applier: Applier) -> None:
    """Exports of this leader hear of what changed."""
    ks = applier.ks
    if ks.changed or ks.streams_used:
        applier.handoff.changed(ks.changed + ks.streams_used)
        ks.streams_used.clear()


def follow(applier: Applier) -> None:
    """Exports have begun or ended: hear of changes, or no longer."""
    ks = applier.ks
    listens = applier.handoff.listens()
    applier.exporting = ks.hears_streams = listens
    if not listens:
        ks.streams_used.clear()
    applier.listen_again()


# -- items ------------------------------------------------------------------------------------------------------------


def apply_item(applier: Applier, argv: list[bytes]) -> None:
    """Apply a control record ``@handoff``. Raises UnknownFormat."""
    if steps:
        steps.clear()
    ks, handoff = applier.ks, applier.handoff
    index = applier.wctx.index
    try:
        outcome = handoff.apply(argv, ks.log_ms, index)
    except ValueError as error:
        raise UnknownFormat(f"entry {index} moves slots in a way this build does not know: {error}") from None
    # Until now flushes may have concerned nobody.
    applier.flushes_seen = ks.flushes
    ks.emptied.clear()
    # Taking slots over may have brought a later time with it.
    applier.wctx.now_ms = applier.rctx.now_ms = ks.now_ms = ks.log_ms
    # First, so that the node knows where to send those who are waiting.
    applier.outcome.slots_moved(outcome)
    if outcome.serving == LOST:
        assert outcome.record is not None
        _lost(applier, outcome.record)
    follow(applier)


def _lost(applier: Applier, record: Record) -> None:
    """Whoever watches a key of these slots, or waits for one, has to ask their next owner."""
    sessions = applier.sessions
    version = applier.version()
    for dbkey in sessions.watchers:
        if record.covers(slot_of(dbkey[1])):
            sessions.versions[dbkey] = version
            sessions.watch_moved = True
    for origin, waiter in list(sessions.waiters.items()):
        for key in waiter.keys:
            slot = slot_of(key)
            if record.covers(slot):
                unpark(applier, origin, applier.outcome.not_served(slot).encode())
                break


def fenced(handoff: Handoff, slot: int) -> bool:
    """Whether the slot is on its way to another group."""
    return handoff.state.own[slot] == FENCED
