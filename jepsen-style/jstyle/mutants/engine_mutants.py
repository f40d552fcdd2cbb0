"""Planted bugs of the engine and of what connects nodes: replies, forwarding, expiry, transactions, queues.

Rule: one function replaced per bug; the replacement is the mistake itself, not a fault that imitates its effect.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from durakv.commands.spec import WRITE
from durakv.engine import apply, engine, failure
from durakv.engine.apply import Applier
from durakv.engine.batch import ITEM_WRITE, Item
from durakv.engine.entry import HEADER, HEADER_SIZE
from durakv.replication import forward, transport
from durakv.replication.forward import ForwardHub
from durakv.replication.transport import KIND_FORWARD, LANE_BULK, Transport, frame
from jstyle.mutants.patching import replaced

Patch = AbstractContextManager[None]

_YIELD_MS: Final = 3
_WRITES_MIN: Final = 2


class _AnyTerm(int):
    """Equal to every term."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    def __hash__(self) -> int:
        return 0


def matched_by_index() -> Patch:
    """M28: what a demoted leader had proposed stays in the table, and is answered by whatever comes at its index."""

    def make(demoted: Callable[[Any], None]) -> Callable[[Any], None]:
        def forgetful(node: Any) -> None:
            proposed = node.proposed
            node.proposed = {}
            demoted(node)
            for batch in proposed.values():
                batch.term = _AnyTerm()
            node.proposed = proposed

        return forgetful

    return replaced(failure, "demoted", make)


def forwarded_again() -> Patch:
    """M29: what went to the former leader last goes to the new one too."""

    def make(flush: Callable[[ForwardHub], None]) -> Callable[[ForwardHub], None]:
        former: dict[ForwardHub, tuple[int, bytes]] = {}

        def persistent(self: ForwardHub) -> None:
            now = self.engine.leader_id
            leader, payload = former.get(self, (0, b""))
            if leader not in (0, now) and now != 0:
                self.transport.send(now, LANE_BULK, KIND_FORWARD, payload)
            former[self] = (now, b"".join(self.requests))
            flush(self)

        return persistent

    return replaced(forward.ForwardHub, "_flush_requests", make)


def expires_by_own_clock() -> Patch:
    """M32."""

    def make(apply_payload: Callable[[Applier, int, bytes], None]) -> Callable[[Applier, int, bytes], None]:
        def local(self: Applier, index: int, data: bytes) -> None:
            clock = getattr(self.outcome, "clock", None)
            if clock is not None:
                fields = HEADER.unpack_from(data)
                data = HEADER.pack(*fields[:4], clock.wall_ms(), fields[5]) + data[HEADER_SIZE:]
            apply_payload(self, index, data)

        return local

    return replaced(apply.Applier, "apply_payload", make)


def transaction_yields() -> Patch:
    """M33: the first write of a transaction goes ahead; the rest follows after other work had a turn."""

    def make(propose_exec: Callable[[Any, Item, int], None]) -> Callable[[Any, Item, int], None]:
        def in_two_turns(self: Any, item: Item, size_bytes: int) -> None:
            parts = item.parts or []
            if sum(part.row.kind == WRITE for part in parts) < _WRITES_MIN:
                propose_exec(self, item, size_bytes)
                return
            early = next(part for part in parts if part.row.kind == WRITE)
            item.parts = [part for part in parts if part is not early]
            self.internal(Item(ITEM_WRITE, None, early.row, early.argv, early.db, item.node, item.uid))
            session = item.session
            assert session is not None
            session.pending += 1

            def rest() -> None:
                if session.pending and self.leading:
                    session.pending -= 1
                    propose_exec(self, item, size_bytes)

            self.clock.call_later(_YIELD_MS, rest)

        return in_two_turns

    return replaced(engine.Engine, "propose_exec", make)


def definite_although_logged() -> Patch:
    """M34."""

    def make(answer_all: Callable[[Any, Any, str], None]) -> Callable[[Any, Any, str], None]:
        def sure(node: Any, s: Any, text: str) -> None:
            answer_all(node, s, failure.LOST if text.startswith("UNKNOWN") else text)

        return sure

    return replaced(failure, "answer_all", make)


def queue_without_end() -> Patch:
    """M36."""

    def make(_: object) -> Callable[[Transport, int, int, int, bytes], bool]:
        def send(self: Transport, node_id: int, lane: int, kind: int, payload: bytes) -> bool:
            lanes = self.lanes.get(node_id)
            stream = lanes[lane].stream if lanes is not None else None
            if stream is None:
                return False
            stream.write(frame(kind, payload))
            return True

        return send

    return replaced(transport.Transport, "send", make)
