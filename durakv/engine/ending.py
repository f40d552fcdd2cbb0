"""Parked requests that end unserved, in apply: by timeout, by order, because client or slot has gone. [compiled]

Rule: ends them the same on every node; whoever waits for an answer hears it through Outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.resp.types import ErrorReply

if TYPE_CHECKING:
    from durakv.engine.apply import Applier
    from durakv.engine.blocking import Origin


def unpark(applier: Applier, origin: Origin, reason: bytes) -> bool:
    """End a parked request: ``timeout``, or with an error. False when it was served before."""
    waiter = applier.sessions.unpark(origin)
    if waiter is None:
        return False
    reply = waiter.on_timeout if reason == b"timeout" else ErrorReply(reason.decode())
    applier.outcome.woken(origin, reply)
    applier.listen_again()
    return True


def end_all(applier: Applier, reason: bytes) -> None:
    """End every parked request with an error."""
    for origin in list(applier.sessions.waiters):
        unpark(applier, origin, reason)


def drop(applier: Applier, origin: Origin) -> None:
    """The session has gone: it watches nothing and waits for nothing."""
    applier.sessions.unwatch(origin)
    applier.sessions.unpark(origin)
    applier.listen_again()
