"""Deadlines of parked requests on the leader, and CLIENT UNBLOCK. [compiled]

Rule: ends no request by itself. It asks for an ITEM_UNPARK in the log; every node ends the request when it is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.engine import failure, wait
from durakv.engine.batch import ITEM_UNPARK, Item
from durakv.engine.blocking import Origin, Waiter
from durakv.resp.errors import CommandError
from durakv.resp.types import NO_REPLY

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine

UNBLOCKED: Final = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
_NOT_IN_EXEC: Final = (
    "ERR CLIENT UNBLOCK inside a transaction works on the leader only, which must log it; send it alone, or to the "
    "node that INFO replication names"
)


def arm(engine: Engine, waiter: Waiter) -> None:
    """Start the clock of a request that was parked with a deadline."""
    origin = waiter.origin
    # Log time, as the deadline is: it may be far ahead of this node's clock.
    now_ms = max(engine.clock.wall_ms(), engine.ks.log_ms)
    delay_ms = max(0, waiter.deadline_ms - now_ms)

    def expire() -> None:
        engine.park_timers.pop(origin, None)
        engine.internal(Item(ITEM_UNPARK, None, None, [b"timeout"], 0, origin[0], origin[1]))

    engine.park_timers[origin] = engine.clock.call_later(delay_ms, expire)


def disarm(engine: Engine, origin: Origin) -> None:
    """Forget the deadline of a parked request."""
    if engine.park_timers:
        timer = engine.park_timers.pop(origin, None)
        if timer is not None:
            timer.cancel()


def served(engine: Engine, origin: Origin, reply: object) -> None:
    """Answer a parked request that the entry being applied ended."""
    disarm(engine, origin)
    s = engine.by_origin.get(origin)
    if s is None or not s.pending:
        return
    applier = engine.applier
    thin = applier.thin.get(applier.wctx.index) if applier.thin else None
    if thin is None:
        engine.reply(s, reply)
    else:
        failure.answer_all(engine, s, thin)
        engine.close_client(s)


def unblock(engine: Engine, asker: Session, client_id: int, *, error: bool) -> object:
    """CLIENT UNBLOCK: end a client's wait as by timeout or with an error. Raises CommandError.

    Returns 1 or 0, whether it ended one; NO_REPLY when the log decides: a push ahead of the entry may still serve it.
    ``client_id`` counts the clients of this node; a request another node sent on names its client by uid.
    """
    if asker.origin_node == engine.node_id:
        target = engine.clients.get(client_id)
    else:
        target = engine.by_origin.get((asker.origin_node, client_id))
    if target is None or not target.blocked or not target.pending:
        return 0
    if not engine.leading:
        return _ask_leader(engine, asker, target, error=error)
    if _end_wait(engine, target, error=error):
        return 1
    origin: Origin = (target.origin_node, target.uid)
    reason = UNBLOCKED.encode() if error else b"timeout"
    if engine.in_transaction:
        if origin not in engine.applier.sessions.waiters:
            return 0
        engine.internal(Item(ITEM_UNPARK, None, None, [reason], 0, origin[0], origin[1]))
        return 1
    asker.pending += 1
    engine.internal(Item(ITEM_UNPARK, asker, None, [reason], 0, origin[0], origin[1]))
    return NO_REPLY


def _ask_leader(engine: Engine, asker: Session, target: Session, *, error: bool) -> object:
    """The leader ends the wait of a client of this node; without one nothing is parked."""
    if engine.in_transaction:
        raise CommandError(_NOT_IN_EXEC)
    if not engine.leader_id or engine.leader_id == engine.node_id:
        return 0
    asker.pending += 1
    engine.stats.forwarded += 1
    how = b"ERROR" if error else b"TIMEOUT"
    engine.forwarder.forward(asker, [b"CLIENT", b"UNBLOCK", b"%d" % target.uid, how])
    engine.schedule()
    return NO_REPLY


def _end_wait(engine: Engine, target: Session, *, error: bool) -> bool:
    """End a WAIT or WAITAOF, which is in no log."""
    for waiting in engine.waits:
        if waiting.session is target:
            if not error:
                waiting.deadline_ns = max(1, engine.clock.monotonic_ns())
                wait.check(engine)
            else:
                engine.waits.remove(waiting)
                target.pending -= 1
                target.blocked = False
                engine.respond(target, CommandError(UNBLOCKED))
            return True
    return False
