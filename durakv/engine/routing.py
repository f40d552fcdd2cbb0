"""Requests on a node that does not lead: answered stale on request, redirected, forwarded, or held for a leader.

Rule: a request is forwarded at most once. While nobody leads, requests wait a bounded time, counted from when the
leader was lost, and are then refused with a definite error: nothing was logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.spec import READ
from durakv.engine import failure
from durakv.engine.places import moved
from durakv.engine.scripts import admitted, for_leader
from durakv.engine.transactions import WATCH_ELSEWHERE
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row
    from durakv.engine.engine import Engine

LEADER_WAIT_POLL_MS: Final = 50
# Elections are drawn from one to two timeouts; a third covers the votes and one lost round.
_LEADER_WAIT_TIMEOUTS: Final = 3


def away(engine: Engine, s: Session, row: Row, argv: list[bytes]) -> None:
    """A read, a write or a leader's local command (WAIT) on a node that does not lead. Raises CommandError."""
    stale_reads = s.readonly and engine.settings.replica_serve_stale_reads
    if row.kind == READ and stale_reads and not row.logged(argv):
        if engine.refusal_reads is not None:
            # What is here is old beyond measure, incomplete, or being replaced.
            raise CommandError(engine.refusal_reads)
        if s.pending:
            s.held.appendleft(argv)
        else:
            if engine.cluster_enabled and row.key_at != 0:
                engine.gate.check_slots(row, argv)
            engine.gate.read_now(s, row, admitted(engine, s, argv) if row.runs_script else argv)
        return
    if engine.cluster_enabled and s.origin_node == engine.node_id and row.key_at != 0:
        slot = engine.gate.check_slots(row, argv)
        if slot >= 0:
            raise CommandError(moved(engine, slot))
    if not engine.leader_id or engine.leader_id == engine.node_id:
        _wait_for_leader(engine, s, row, argv)
        return
    if row.is_blocking or row.forwarded:
        s.blocked = True
    if row.name == "watch":
        s.watched[WATCH_ELSEWHERE] = 0
    s.pending += 1
    engine.stats.forwarded += 1
    engine.forwarder.forward(s, for_leader(s, row, argv))
    engine.schedule()


def leader_found(engine: Engine) -> None:
    """Send on what waited for an election."""
    waiting = engine.waiting_for_leader
    engine.waiting_for_leader = {}
    for s, (_, _, argv) in waiting.items():
        s.blocked = False
        engine.gate.execute(s, argv)
        engine.wake(s)


def refuse_late(engine: Engine) -> None:
    """Refuse requests that have waited too long for a leader."""
    if not engine.waiting_for_leader:
        return
    now_ns = engine.clock.monotonic_ns()
    late = [s for s, (deadline_ns, _, _) in engine.waiting_for_leader.items() if deadline_ns <= now_ns]
    for s in late:
        del engine.waiting_for_leader[s]
        s.blocked = False
        engine.respond(s, CommandError(failure.NO_LEADER))


def _wait_for_leader(engine: Engine, s: Session, row: Row, argv: list[bytes]) -> None:
    if s.pending:
        s.held.appendleft(argv)
        return
    waited_ns = engine.clock.monotonic_ns() - engine.leaderless_since_ns
    limit_ns = _LEADER_WAIT_TIMEOUTS * engine.settings.election_timeout_ms * 1_000_000
    if waited_ns > limit_ns:
        raise CommandError(failure.NO_LEADER)
    s.blocked = True
    engine.waiting_for_leader[s] = (engine.clock.monotonic_ns() + limit_ns, row, argv)
