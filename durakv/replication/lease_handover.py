"""Office given up or taken on purpose in lease mode: a planned switchover, an orderly stop, a forced promotion.

Rule: asks the core and nothing else. A switchover loses no write. A forced promotion may, so it has to be confirmed by
naming the in-sync members that are given up, and those have to be stopped first: they may still serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.replication.transport import KIND_HANDOVER, LANE_CONTROL
from durakv.resp.errors import CommandError
from raft.primary_backup.errors import Refused

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.replication.lease_node import LeaseNode

_WISH: Final = b"\x01"
# How long a successor may take when the node stops.
_PATIENCE_NS: Final = 3_000_000_000

NO_PRIMARY: Final = (
    "ERR no primary is heard: an in-sync member takes over by itself after lease-grace-ms, if the config holder can be "
    "asked; only when all of them are lost see CLUSTER FORCE-PROMOTE"
)
NOT_IN_SYNC: Final = "ERR this node is not in sync and cannot take over; wait until INFO replication lists it in isr"


class LeaseHandover:
    """One node's part in it. ``stop_begun_ns`` 0 = nobody has asked it to stop."""

    def __init__(self, node: LeaseNode) -> None:
        self.node = node
        self.stop_begun_ns = 0

    # -- planned -------------------------------------------------------------------------------------------------------

    def transfer(self, node_id: int, *, force: bool) -> None:
        """See Consensus.transfer. ``force`` changes nothing: without a primary in-sync members do not wait for it."""
        node = self.node
        if not node.leading and node_id == node.node_id:
            self._ask()
            return
        if not node.leading:
            raise CommandError(node.not_leader("transfer"))
        target = node_id or node.most_caught_up()
        if not target:
            raise CommandError("ERR no other in-sync member is connected; start one, or add one with CLUSTER ADDNODE")
        try:
            node.core.transfer_leader(target, node.begin_turn())
        except Refused as refused:
            raise CommandError(refused.text) from None
        node.engine.schedule()

    def _ask(self) -> None:
        node = self.node
        known = node.core.known
        if known is not None and node.node_id not in known.isr:
            raise CommandError(NOT_IN_SYNC)
        if not node.leader_id or not node.transport.send(node.leader_id, LANE_CONTROL, KIND_HANDOVER, _WISH):
            raise CommandError(NO_PRIMARY)

    def on_frame(self, from_id: int, payload: bytes) -> None:
        """Another member asks for office. Raises ValueError when malformed."""
        node = self.node
        if payload != _WISH:
            raise ValueError("malformed hand-over frame")
        if node.leading and node.core.transferee != from_id:
            try:
                node.core.transfer_leader(from_id, node.begin_turn())
            except Refused as refused:
                node.notice("hand-over-refused", f"to node {from_id}: {refused.text}")
                return
            node.notice("hand-over", f"to node {from_id}: it asked for leadership")
            node.engine.schedule()

    # -- stopping ------------------------------------------------------------------------------------------------------

    def stop(self, *, transfer: bool, now: bool) -> None:
        """See Consensus.stop; a second call changes nothing."""
        node = self.node
        if node.stopping is None or self.stop_begun_ns:
            return
        self.stop_begun_ns = node.clock.monotonic_ns()
        if transfer and not now:
            self._step()
        else:
            node.stopping()

    def _step(self) -> None:
        node = self.node
        assert node.stopping is not None
        late = node.clock.monotonic_ns() - self.stop_begun_ns > _PATIENCE_NS
        target = node.most_caught_up()
        if node.leading and target and not late:
            if not node.core.transferee:
                # Refused while another change is under way; then the next step tries again.
                node.try_transfer(target)
            node.engine.schedule()
            node.clock.call_later(node.tick_ms, self._step)
            return
        node.stopping()

    # -- forced --------------------------------------------------------------------------------------------------------

    def given_up(self) -> tuple[int, ...]:
        """The in-sync members that a forced promotion of this node gives up. Raises CommandError."""
        node = self.node
        known = node.core.known
        if node.leading:
            raise CommandError("ERR this node is the primary already")
        if known is None or known.epoch != node.core.term:
            node.core.read_wanted = True
            node.engine.schedule()
            raise CommandError(
                "ERR the config holder has not said yet who is in sync now; it has to be up for a forced promotion as "
                "well, retry when it has"
            )
        return tuple(n for n in known.isr if n != node.node_id)

    def losses(self) -> str:
        """What a forced promotion would mean now, in one line. Raises CommandError."""
        given_up = self.given_up()
        log = self.node.core.log
        certain = min(log.commit, log.stable)
        names = " ".join(str(n) for n in given_up)
        kept = f"entries through {certain} are kept"
        if log.stable > certain:
            kept += f", {certain + 1}..{log.stable} are kept as this node has them"
        lost = (
            f"node {self.node.node_id} would become primary and give up the in-sync members {list(given_up)}: {kept}, "
            f"acknowledged writes above {log.stable} may be lost for ever"
        )
        if self.node.neighbours is not None:
            lost += "; slots that moved then may be claimed twice or by nobody, compare CLUSTER SHARDS of all groups"
        how = f"Stop these nodes first, then confirm with CLUSTER FORCE-PROMOTE CONFIRM {names}".rstrip()
        return f"{lost}. {how}"

    def force(self, session: Session, confirmed: str) -> None:
        """Begin it; ``session`` is answered when it is in force, or refused. Raises CommandError.

        ``confirmed``: "confirm" and the ids of those given up; empty: the session is told what would be lost, no more.
        """
        node = self.node
        if not confirmed:
            node.engine.respond(session, self.losses().encode())
            return
        self.given_up()
        ids = tuple(sorted([int(word) for word in confirmed.split()[1:]]))
        try:
            number = node.core.force(ids, node.begin_turn())
        except Refused as refused:
            raise CommandError(refused.text) from None
        session.pending += 1
        session.blocked = True
        node.members.waiting[number] = session
        node.engine.schedule()
