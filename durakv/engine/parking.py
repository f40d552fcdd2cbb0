"""Deadlines of parked requests on the leader, and CLIENT UNBLOCK. [compiled]

Rule: ends no request by itself. It asks for an ITEM_UNPARK in the log; every node ends the request when it is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.engine import failure
from durakv.engine.batch import ITEM_UNPARK, Item
from durakv.engine.blocking import Origin, Waiter

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine


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


def unblock(engine: Engine, session: Session, *, error: bool) -> bool:
    """CLIENT UNBLOCK: end a parked request as by timeout or with an error; False when it is not parked."""
    origin: Origin = (session.origin_node, session.uid)
    if not session.blocked or origin not in engine.applier.sessions.waiters or not engine.leading:
        return False
    reason = b"UNBLOCKED client unblocked via CLIENT UNBLOCK" if error else b"timeout"
    engine.internal(Item(ITEM_UNPARK, None, None, [reason], 0, origin[0], origin[1]))
    return True
