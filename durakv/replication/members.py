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
from durakv.storage.options import SYNC_ALWAYS
from durakv.witness.address import WitnessAddress
from raft.errors import ProposalDropped
from raft.types import ConfChange, Membership

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.replication.node import GroupNode

# A learner within this many entries of the leader is promoted: it will catch up within a heartbeat.
_PROMOTE_LAG_ENTRIES: Final = 64
_PROMOTE_CHECK_MS: Final = 200
# With one full node alone a witness could neither stand in for anybody nor be done without.
_VOTERS_BESIDE_WITNESS_MIN: Final = 2
UNSYNCED_WITH_WITNESS: Final = "a node beside a witness always syncs before it answers"
_TOO_FEW_FOR_WITNESS: Final = "a witness needs at least two full nodes that vote beside it"


class _Creation:
    """A witness whose state is being created; ``session`` waits for all of it."""

    def __init__(self, session: Session, witness_id: int, address: str) -> None:
        self.session = session
        self.witness_id = witness_id
        self.address = address


class Members:
    """One node's view of its group."""

    def __init__(self, node: GroupNode) -> None:
        self.node = node
        self.membership: Membership | None = None
        self.book: dict[int, addresses.Address] = {}
        # Id and address of the witness in the book.
        self.witness: tuple[int, str] | None = None
        # Of a group of several.
        self.founding: addresses.Founding | None = None
        self.creation: _Creation | None = None
        # Being removed, told so once that is committed; until then their lanes stay.
        self.leaving: dict[int, addresses.Address] = {}
        self.changes: list[tuple[int, Session | None]] = []
        self.removed = False
        # Whether the log has ever counted this node in; one that reads the history before it joined is not removed.
        self.ever_member = any(node.node_id in membership.members() for _, membership in node.core.conf)
        self.on_removed: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to look for learners that can be promoted."""
        self.node.clock.call_later(_PROMOTE_CHECK_MS, self._promote)

    def alone(self) -> bool:
        """Whether this node is the only member of its group."""
        membership = self.membership
        return membership is not None and membership.members() == (self.node.node_id,) and not membership.witness_id()

    def demoted(self) -> None:
        """This node no longer leads: whoever waits for a change cannot be told how it ends."""
        for _, session in self.changes:
            if session is not None and session.pending:
                self.node.engine.forward_lost(session, maybe_logged=True)
        self.changes = []
        creation = self.creation
        if creation is not None:
            self.creation = None
            if creation.session.pending:
                self.node.engine.forward_lost(creation.session, maybe_logged=False)

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
        if verb == "add-witness":
            self._begin_witness(session, node_id, address)
            return
        book = dict(self.book)
        if verb == "add-learner":
            self._refuse_member(node_id)
            book[node_id] = addresses.parse(address)
            change = ConfChange(add_learner=[node_id], context=addresses.encode(book, self.witness, self.founding))
        elif verb == "promote":
            change = ConfChange(promote=[node_id])
        elif verb == "remove" and self.witness is not None and node_id == self.witness[0]:
            change = ConfChange(remove_witness=True, context=addresses.encode(book, None, self.founding))
        elif verb == "remove":
            if node_id not in book:
                raise CommandError(f"ERR node {node_id} is not a member; CLUSTER NODES lists them")
            self._refuse_too_few(node_id)
            self.leaving[node_id] = book.pop(node_id)
            change = ConfChange(remove=[node_id], context=addresses.encode(book, self.witness, self.founding))
        else:
            raise CommandError(f"ERR unknown membership change {verb}")
        self._propose_change(change, session)

    def _refuse_member(self, node_id: int) -> None:
        if node_id in self.book or (self.witness is not None and node_id == self.witness[0]):
            raise CommandError(
                f"ERR node {node_id} is already a member; CLUSTER REMOVENODE it first, or choose another id"
            )

    def _refuse_too_few(self, leaver: int) -> None:
        voters = [n for n in self.node.core.membership.voters if n != leaver]
        if self.witness is not None and len(voters) < _VOTERS_BESIDE_WITNESS_MIN:
            raise CommandError(
                f"ERR {_TOO_FEW_FOR_WITNESS}; first add a node with CLUSTER ADDNODE, or remove the witness with "
                f"CLUSTER REMOVENODE {self.witness[0]}"
            )

    # -- a new witness -------------------------------------------------------------------------------------------------

    def _begin_witness(self, session: Session, witness_id: int, text: str) -> None:
        """First its state, then the membership that names it: a member without a state counts as one that lost it."""
        node = self.node
        self._refuse_member(witness_id)
        try:
            address = WitnessAddress.parse(text)
        except ValueError as e:
            raise CommandError(f"ERR {e}") from None
        membership = node.core.membership
        if self.witness is not None:
            raise CommandError(
                f"ERR the group has witness {self.witness[0]} at {self.witness[1]}; CLUSTER REMOVENODE "
                f"{self.witness[0]} first"
            )
        if len(membership.voters) < _VOTERS_BESIDE_WITNESS_MIN:
            raise CommandError(f"ERR {_TOO_FEW_FOR_WITNESS}; add a node with CLUSTER ADDNODE first")
        if node.engine.settings.appendfsync != SYNC_ALWAYS:
            raise CommandError(f"ERR {UNSYNCED_WITH_WITNESS}; CONFIG SET appendfsync always first, on every node")
        if self.creation is not None or membership.is_joint() or node.core.conf_index > node.core.log.commit:
            raise CommandError("ERR another membership change is under way; send it again once that is done")
        creation = _Creation(session, witness_id, address.text())
        self.creation = creation
        session.pending += 1
        session.blocked = True
        node.witness.create(witness_id, address, lambda error: self._created(creation, error))

    def _created(self, creation: _Creation, error: OSError | None) -> None:
        if self.creation is not creation:
            # Leadership went meanwhile, and whoever waited has been told. The id is spent.
            return
        self.creation = None
        node = self.node
        session = creation.session
        waits = session.pending > 0 and not session.closing
        if waits:
            # Taken up again by the proposal.
            session.pending -= 1
            session.blocked = False
        try:
            if error is not None:
                raise CommandError(f"ERR the group is unchanged: {error.strerror or error}")
            change = ConfChange(
                add_witness=creation.witness_id,
                context=addresses.encode(self.book, (creation.witness_id, creation.address), self.founding),
            )
            self._propose_change(change, session if waits else None)
        except CommandError as e:
            if waits:
                spent = "" if error is not None else f"; id {creation.witness_id} is spent, take the next one"
                node.engine.respond(session, CommandError(e.text + spent))
        node.engine.schedule()

    # -- the membership in force ---------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The membership in force may be another one: take over its addresses and what it allows."""
        node = self.node
        membership = node.core.membership
        if membership is self.membership:
            return
        self.membership = membership
        if membership.context:
            self.book = addresses.decode(membership.context)
            self.witness = addresses.decode_witness(membership.context)
            self._found(addresses.decode_founding(membership.context))
        if node.node_id in membership.members():
            self.ever_member = True
        # Only a node on its own may answer before its disk did; in a group an acknowledgement is a promise to others.
        node.log.set_sync(node.engine.settings.appendfsync if self.alone() else SYNC_ALWAYS)
        node.witness.follow()
        self._dial_peers()

    def _found(self, founding: addresses.Founding | None) -> None:
        """Every membership of a group says how it was founded; a newcomer hears it with the first."""
        self.founding = founding
        places = self.node.engine.places
        if not places.is_known():
            if founding is None:
                raise ValueError("group-id is set, but this node's group is the only one: leave it out")
            places.found(founding.group, founding.slots)

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
        if self.ever_member and not self.removed:
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
