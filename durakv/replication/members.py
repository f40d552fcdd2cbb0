"""Who belongs to the group, as this node's log says: addresses, changes under way, learners, removals. [compiled]

Rule: the only place that proposes memberships and that believes a node was removed. A membership is in force from when
it is appended; a node leaves only when its removal is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.replication import addresses
from durakv.replication.transport import KIND_REMOVED, LANE_CONTROL, REMOVED
from durakv.resp.errors import CommandError
from durakv.resp.types import OK
from durakv.storage.log import SYNC_ALWAYS
from raft.errors import ProposalDropped
from raft.types import ConfChange, Membership

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.replication.node import GroupNode

# A learner within this many entries of the leader is promoted: it will catch up within a heartbeat.
_PROMOTE_LAG_ENTRIES: Final = 64
_PROMOTE_CHECK_MS: Final = 200


class Members:
    """One node's view of its group."""

    def __init__(self, node: GroupNode) -> None:
        self.node = node
        self.membership: Membership | None = None
        self.book: dict[int, addresses.Address] = {}
        # Being removed, told so once that is committed; until then their lanes stay.
        self.leaving: dict[int, addresses.Address] = {}
        self.changes: list[tuple[int, Session | None]] = []
        self.removed = False
        self.on_removed: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to look for learners that can be promoted."""
        self.node.clock.call_later(_PROMOTE_CHECK_MS, self._promote)

    def alone(self) -> bool:
        """Whether this node is the only member of its group."""
        return self.membership is not None and self.membership.members() == (self.node.node_id,)

    def demoted(self) -> None:
        """This node no longer leads: whoever waits for a change cannot be told how it ends."""
        for _, session in self.changes:
            if session is not None and session.pending:
                self.node.engine.forward_lost(session, maybe_logged=True)
        self.changes = []

    def committed(self, index: int) -> None:
        """The membership at ``index`` is committed and applied."""
        self.changed()
        self._change_committed(index)
        self._settle_removals()

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Consensus."""
        node = self.node
        if not node.leading:
            raise CommandError(node.not_leader(verb))
        book = dict(self.book)
        if verb == "add-learner":
            if node_id in book:
                raise CommandError(
                    f"ERR node {node_id} is already a member; CLUSTER REMOVENODE it first, or choose another id"
                )
            book[node_id] = addresses.parse(address)
            change = ConfChange(add_learner=[node_id], context=addresses.encode(book))
        elif verb == "promote":
            change = ConfChange(promote=[node_id])
        elif verb == "remove":
            if node_id not in book:
                raise CommandError(f"ERR node {node_id} is not a member; CLUSTER NODES lists them")
            self.leaving[node_id] = book.pop(node_id)
            change = ConfChange(remove=[node_id], context=addresses.encode(book))
        else:
            raise CommandError(f"ERR unknown membership change {verb}")
        self._propose_change(change, session)

    def changed(self) -> None:
        """The membership in force may be another one: take over its addresses and what it allows."""
        node = self.node
        membership = node.core.membership
        if membership is self.membership:
            return
        self.membership = membership
        if membership.context:
            self.book = addresses.decode(membership.context)
        members = membership.members()
        # Only a node on its own may answer before its disk did; in a group an acknowledgement is a promise to others.
        alone = members == (node.node_id,)
        node.log.set_sync(node.engine.settings.appendfsync if alone else SYNC_ALWAYS)
        self._dial_peers()

    def _dial_peers(self) -> None:
        node = self.node
        members = node.core.membership.members()
        peers = {n: (a.host, a.peer_port) for n, a in self.book.items() if n in members}
        for n, a in self.leaving.items():
            peers.setdefault(n, (a.host, a.peer_port))
        node.transport.set_peers(peers)

    def tell_strangers(self) -> None:
        """Nodes that were down while they were removed dial the group they remember. Only a leader can be sure."""
        node = self.node
        core = node.core
        if node.leading and max(core.conf_index, core.noop_index) <= core.log.commit:
            node.transport.answer_strangers(core.membership.members(), REMOVED.pack(core.conf_index))

    def removed_by(self, payload: bytes) -> None:
        """A member says that this node's removal is committed. Raises struct.error.

        Believed unless this node knows a later membership that counts it in: the sender may lag behind.
        """
        node = self.node
        (index,) = REMOVED.unpack(payload)
        members = node.core.membership.members()
        if members and (index > node.core.conf_index or node.node_id not in members):
            self._leave()

    def _leave(self) -> None:
        if not self.removed:
            self.removed = True
            if self.on_removed is not None:
                self.on_removed()

    def _settle_removals(self) -> None:
        """A membership is committed: nodes it leaves out are told, and go; so does this one."""
        node = self.node
        members = node.core.membership.members()
        for node_id in list(self.leaving):
            del self.leaving[node_id]
            if node_id not in members:
                node.transport.send(node_id, LANE_CONTROL, KIND_REMOVED, REMOVED.pack(node.core.conf_index))
        self._dial_peers()
        if members and node.node_id not in members and node.core.log.commit >= node.boot_last_index:
            self._leave()

    def _propose_change(self, change: ConfChange, session: Session | None) -> None:
        node = self.node
        try:
            index = node.core.propose_conf(change)
        except ProposalDropped as e:
            raise CommandError(f"ERR membership change refused: {e}") from None
        if session is not None:
            session.pending += 1
            session.blocked = True
        self.changes.append((index, session))
        # Effective when appended: new members must be dialled before the entry can commit.
        self.changed()
        node.engine.schedule()

    def _change_committed(self, index: int) -> None:
        node = self.node
        waiting = self.changes
        self.changes = [pair for pair in waiting if pair[0] > index]
        for at, session in waiting:
            if at <= index and session is not None:
                session.pending -= 1
                session.blocked = False
                node.engine.respond(session, OK)

    def _promote(self) -> None:
        node = self.node
        node.clock.call_later(_PROMOTE_CHECK_MS, self._promote)
        if not node.leading or self.changes or node.core.membership.is_joint():
            return
        learners = node.core.membership.learners
        for peer in node.core.status().peers:
            if (
                peer.node in learners
                and peer.match > 0
                and peer.recent_active
                and peer.match + _PROMOTE_LAG_ENTRIES >= node.core.log.last
            ):
                try:
                    self._propose_change(ConfChange(promote=[peer.node]), None)
                except CommandError:
                    # Another change is open; the next round of this timer tries again.
                    return
                return
