"""WAIT and WAITAOF: answer when enough full nodes hold the connection's last write on disk, or at the timeout.

Followers acknowledge only what they have synced, so a stable replica is counted, never one that merely received bytes.
A WAIT whose count reaches a quorum also waits for the commit, so a sufficient reply means the write survives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine


class Wait:
    """One waiting session. ``deadline_ns`` 0 = no timeout."""

    def __init__(self, session: Session, index: int, local: int, replicas: int, deadline_ns: int, aof: bool) -> None:
        self.session = session
        self.index = index
        self.local = local
        self.replicas = replicas
        self.deadline_ns = deadline_ns
        self.aof = aof


def begin(engine: Engine, session: Session, local: int, replicas: int, timeout_ms: int, aof: bool) -> None:
    """Answer at once when already satisfied, else when it becomes so. Raises CommandError on a follower."""
    if not engine.leading:
        raise CommandError(
            "ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local "
            "and are not propagated."
            if not aof
            else "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are "
            "just local and are not propagated."
        )
    if engine.in_transaction:
        now = Wait(session, session.last_write_index, local, replicas, 0, aof)
        held_local, held = counts(engine, now)
        engine.at_once = [held_local, held] if aof else held
        return
    deadline_ns = engine.clock.monotonic_ns() + timeout_ms * 1_000_000 if timeout_ms else 0
    session.pending += 1
    session.blocked = True
    waiting = Wait(session, session.last_write_index, local, replicas, deadline_ns, aof)
    engine.waits.append(waiting)
    if timeout_ms:
        engine.clock.call_later(timeout_ms, lambda: check(engine))
    check(engine)
    engine.schedule()


def counts(engine: Engine, waiting: Wait) -> tuple[int, int]:
    """(1 if synced here, other nodes that have it synced)."""
    # Writes that earlier leaders acknowledged to this client lie before this leader's first entry, and those that other
    # groups did, to slots that have come here since, before the entry that took these over.
    index = max(waiting.index, engine.term_start, engine.moving.gained_index)
    local = 1 if engine.consensus.durable_index() >= index else 0
    return local, engine.consensus.stable_replicas(index)


def check(engine: Engine) -> None:
    """Answer every waiting session that is satisfied or out of time."""
    if not engine.waits:
        return
    now_ns = engine.clock.monotonic_ns()
    left: list[Wait] = []
    for waiting in engine.waits:
        if waiting.session.closing:
            continue
        local, replicas = counts(engine, waiting)
        enough = local >= waiting.local and replicas >= waiting.replicas
        if enough and replicas >= engine.consensus.quorum() - 1:
            enough = engine.applier.applied >= waiting.index
        if enough or (waiting.deadline_ns and waiting.deadline_ns <= now_ns):
            _answer(engine, waiting, local, replicas)
        else:
            left.append(waiting)
    engine.waits = left
    if engine.dirty:
        engine.schedule()


def fail_all(engine: Engine) -> None:
    """Leadership is lost; the sessions were answered with the others' error."""
    engine.waits = []


def _answer(engine: Engine, waiting: Wait, local: int, replicas: int) -> None:
    s = waiting.session
    s.pending -= 1
    s.blocked = False
    engine.respond(s, [local, replicas] if waiting.aof else replicas)
