"""What clients are told when requests cannot be answered as asked: leadership lost, links lost, entries replaced.

Rule: the only place that words the outcome of a request that was accepted and not applied here. A definite error is
given only for what was never appended; everything else is UNKNOWN and the connection closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.engine import parking, wait
from durakv.engine.batch import ITEM_DROP, ITEM_TICK, Batch, Item
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine

NO_LEADER: Final = "CLUSTERDOWN no leader is elected; a quorum of nodes must be up and connected"
LOST: Final = "CLUSTERDOWN leadership moved before the request was logged; send it again"
UNBLOCKED: Final = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
UNKNOWN_LEADER: Final = "UNKNOWN the leader was lost with the request in flight; outcome unknown"
UNKNOWN_DEMOTED: Final = "UNKNOWN demoted while the request was in flight; outcome unknown"
UNKNOWN_REPLACED: Final = "UNKNOWN another leader replaced the entry; outcome unknown"


def forward_lost(engine: Engine, s: Session, *, maybe_logged: bool) -> None:
    """The link to the leader broke, or the leader changed, while requests of ``s`` were with it."""
    if s.closing:
        return
    if maybe_logged:
        answer_all(engine, s, UNKNOWN_LEADER)
        engine.close_client(s)
    else:
        answer_all(engine, s, UNBLOCKED if s.blocked else LOST)


def demoted(engine: Engine) -> None:
    """This node no longer leads: answer everything that was in its hands."""
    unknown: dict[Session, None] = {}
    refused: dict[Session, None] = {}
    for batch in engine.proposed.values():
        for item in batch.items:
            if item.session is not None:
                unknown[item.session] = None
    for batch in [engine.batch, engine.reads, *engine.proven]:
        for item in batch.items:
            if item.session is not None:
                refused[item.session] = None
    # An entry in flight may yet serve a parked request before the next leader's first entry ends it.
    in_flight = bool(engine.proposed)
    engine.batch = Batch()
    engine.reads = Batch()
    engine.proven = []
    engine.proposed = {}
    for s in unknown:
        answer_all(engine, s, UNKNOWN_DEMOTED)
        engine.close_client(s)
    for s in refused:
        if s not in unknown:
            answer_all(engine, s, LOST)
    for origin in list(engine.park_timers):
        parking.disarm(engine, origin)
    for s in list(engine.by_origin.values()):
        if s.blocked and s.pending:
            answer_all(engine, s, UNKNOWN_DEMOTED if in_flight else UNBLOCKED)
            if in_flight:
                engine.close_client(s)
    wait.fail_all(engine)
    engine.eviction.demoted()
    engine.schedule()


def answer_all(engine: Engine, s: Session, text: str) -> None:
    """Answer every pending request of ``s`` with the same error, in order."""
    # Gated replies relied on an expiry that nobody may have logged, or follow one that did: withheld.
    n = s.pending + len(s.gated) - s.gates
    s.gated = []
    s.gates = 0
    wire = encode(CommandError(text), s.protocol)
    s.pending = 0
    s.blocked = False
    if text.startswith("UNKNOWN"):
        engine.stats.unknown_outcomes += n
    for _ in range(n):
        engine.emit(s, wire)


def refuse(engine: Engine, batch: Batch, text: str) -> None:
    """Definite failure of a batch that was never appended.

    A session with earlier requests still on their way would take the error for the answer to one of those, so it is
    told that all are unknown.
    """
    mine: dict[Session, int] = {}
    for item in batch.items:
        s = item.session
        if s is None or item.kind == ITEM_TICK:
            engine.postpone(item)
            continue
        if item.watch is not None:
            engine.postpone(Item(ITEM_DROP, None, None, [], 0, item.node, item.uid))
        if s.pending:
            mine[s] = mine.get(s, 0) + 1
    for s, count in mine.items():
        if s.pending > count:
            answer_all(engine, s, UNKNOWN_DEMOTED)
            engine.close_client(s)
        else:
            answer_all(engine, s, text)


def replaced(engine: Engine, batch: Batch) -> None:
    """Another leader's entry took the place of this batch."""
    for item in batch.items:
        if item.session is not None:
            answer_all(engine, item.session, UNKNOWN_REPLACED)
            engine.close_client(item.session)
