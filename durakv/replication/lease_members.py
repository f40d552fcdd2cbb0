"""Who belongs to a shard of lease mode, as the config holder says: addresses, the operator's changes, removals.

The holder need not be there for nodes to find each other: the founding membership is the log's first entry, and the
newest configuration this node has seen is kept in ``<dir>/raft/shard``. Rule: the only place that asks the core for a
change of members on an operator's behalf, and the only reader and writer of that file, which is a hint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.replication import addresses
from durakv.replication.transport import KIND_REMOVED, LANE_CONTROL, REMOVED
from durakv.resp.errors import CommandError
from durakv.resp.types import OK
from durakv.storage.record import crc
from raft.primary_backup.errors import Refused
from raft.primary_backup.types import ShardConfig
from raft.types import DecodeError, Entry, EntryKind, Membership

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.replication.lease_node import LeaseNode
    from durakv.world.ports import Disk
    from raft.primary_backup.ready import Finished

_FILE: Final = "raft/shard"
_FILE_BYTES_MAX: Final = 1 << 20
_CRC_BYTES: Final = 4
NO_WITNESS: Final = (
    "ERR lease mode has no witness: the config holder decides; see holder-members, or found a group of Raft mode"
)


def kept_config(disk: Disk, directory: str, group: int) -> ShardConfig | None:
    """The configuration kept there; None when there is none that can be read, for it is only a hint."""
    path = f"{directory}/{_FILE}"
    if not disk.exists(path):
        return None
    file = disk.open(path)
    try:
        data = file.pread(_FILE_BYTES_MAX, 0)
    finally:
        file.close()
    body = data[:-_CRC_BYTES]
    if data[len(body) :] != crc(body).to_bytes(_CRC_BYTES, "little"):
        return None
    try:
        config = ShardConfig.decode(body)
    except DecodeError:
        return None
    return config if config.shard == group else None


class LeaseMembers:
    """One node's view of its shard. ``founding``: the membership the shard began with, empty on a joining node."""

    def __init__(self, node: LeaseNode, disk: Disk, directory: str, founding: Membership) -> None:
        self.node = node
        self.disk = disk
        self.directory = directory
        self.founding = founding
        # Nobody asks for one; the same field as in Raft mode.
        self.witness: tuple[int, str] | None = None
        self.config = kept_config(disk, directory, node.core.group)
        self.book: dict[int, addresses.Address] = {}
        self.ids: tuple[int, ...] = ()
        # In Raft's words: in-sync members vote.
        self.membership = founding
        # By the core's number of the wish.
        self.waiting: dict[int, Session] = {}
        self.leaving: dict[int, addresses.Address] = {}
        self.removed = False
        self.ever_member = node.node_id in founding.members()
        self.on_removed: Callable[[], None] | None = None
        self._saving = False
        self._saved: ShardConfig | None = self.config
        self._take()

    def changed(self) -> None:
        """The core may know a newer configuration: take it over, keep it, dial who is in it."""
        known = self.node.core.known
        if known is None or (self.config is not None and known.epoch <= self.config.epoch):
            return
        self.config = known
        self._take()
        self._save()
        self.dial()
        self._settle_removals()

    def _take(self) -> None:
        config = self.config
        if config is None:
            self.book = addresses.decode(self.founding.context) if self.founding.context else {}
            self.ids = self.founding.members()
            return
        before = self.book
        self.book = addresses.decode(config.context)
        self.ids = config.members()
        self.membership = Membership(config.isr, learners=config.learners, context=config.context)
        self.ever_member = self.ever_member or self.node.node_id in self.ids
        for gone, address in before.items():
            if gone not in self.ids:
                self.leaving[gone] = address

    def found(self, context: bytes) -> None:
        """A newcomer hears how its group was founded: which one it is, and the slots it owned. Raises ValueError."""
        places = self.node.engine.places
        if places.is_known() or not context:
            return
        founding = addresses.decode_founding(context)
        if founding is None:
            raise ValueError("group-id is set, but this node's group is the only one: leave it out")
        places.found(founding.group, founding.slots)

    def read(self, entries: list[Entry]) -> None:
        """These are to be applied: the log's first one says how the group was founded."""
        if not self.node.engine.places.is_known():
            for entry in entries:
                if entry.kind == EntryKind.CONFIG:
                    self.found(Membership.decode(entry.data).context)

    def dial(self) -> None:
        """Have links to everybody who is a member, and to those that have still to be told that they are none."""
        peers = {n: (a.host, a.peer_port) for n, a in self.book.items() if n in self.ids}
        for n, a in self.leaving.items():
            peers.setdefault(n, (a.host, a.peer_port))
        self.node.transport.set_peers(peers)

    def _save(self) -> None:
        if self._saving or self.config is None or self.config is self._saved or self.node.stopped:
            return
        config = self.config
        self._saving = True
        body = config.encode()
        data = body + crc(body).to_bytes(_CRC_BYTES, "little")
        path = f"{self.directory}/{_FILE}"

        def job() -> None:
            file = self.disk.open(f"{path}.new", create=True)
            try:
                file.truncate(0)
                if file.pwrite(data, 0) != len(data):
                    raise OSError(f"{path}.new: short write; check the disk")
                file.fsync()
            finally:
                file.close()
            self.disk.rename(f"{path}.new", path)
            self.disk.fsync_dir(path.rpartition("/")[0])

        def done(error: OSError | None) -> None:
            self._saving = False
            if error is not None:
                # A full or failing volume is the log's to report; the next configuration is the next attempt.
                self.node.notice("shard-not-kept", f"the newest members are not written down: {error}")
                return
            self._saved = config
            self._save()

        self.disk.submit(job, done)

    # -- the operator's changes ----------------------------------------------------------------------------------------

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Consensus."""
        node = self.node
        if verb == "add-witness":
            raise CommandError(NO_WITNESS)
        if verb == "force-promote":
            node.handover.force(session, address)
            return
        if not node.leading:
            raise CommandError(node.not_leader(verb))
        now_ns = node.begin_turn()
        book = dict(self.book)
        try:
            if verb == "add-learner":
                book[node_id] = addresses.parse(address)
                number = node.core.alter(now_ns, add=(node_id,), context=self._context(book))
            elif verb == "remove":
                book.pop(node_id, None)
                number = node.core.alter(now_ns, remove=(node_id,), context=self._context(book))
            elif verb == "min-isr":
                if node_id > len(self.ids):
                    raise CommandError(
                        f"ERR min-isr {node_id} with {len(self.ids)} members: no write would ever be taken; choose at "
                        "most as many, or add nodes first"
                    )
                number = node.core.alter(now_ns, min_isr=node_id)
            elif verb == "promote":
                node.core.admit(node_id, now_ns)
                node.engine.respond(session, OK)
                node.engine.schedule()
                return
            else:
                raise CommandError(f"ERR unknown membership change {verb}")
        except Refused as refused:
            raise CommandError(refused.text) from None
        session.pending += 1
        session.blocked = True
        self.waiting[number] = session
        node.engine.schedule()

    def _context(self, book: dict[int, addresses.Address]) -> bytes:
        known = self.node.core.known
        assert known is not None
        founding = addresses.decode_founding(known.context)
        return addresses.encode(book, None, founding, addresses.decode_min_isr(known.context) or known.min_isr)

    def finished(self, done: list[Finished]) -> None:
        """Wishes of an operator ended."""
        for each in done:
            session = self.waiting.pop(each.number, None)
            if session is None or session.closing or not session.pending:
                continue
            session.pending -= 1
            session.blocked = False
            answer = CommandError(f"ERR the change was refused: {each.error}") if each.error else OK
            self.node.engine.respond(session, answer)

    def demoted(self) -> None:
        """This node is not primary any more: whoever waits for a change cannot be told how it ends."""
        waiting, self.waiting = self.waiting, {}
        for session in waiting.values():
            if session.pending and not session.closing:
                self.node.engine.forward_lost(session, maybe_logged=True)

    # -- removals ------------------------------------------------------------------------------------------------------

    def epoch(self) -> int:
        """Of the newest configuration this node knows of; 0 for none."""
        return 0 if self.config is None else self.config.epoch

    def _settle_removals(self) -> None:
        node = self.node
        if node.core.known is not None and node.node_id not in self.ids:
            # What the holder says is in force.
            self._leave()
            return
        if node.leading and self.leaving:
            for gone in self.leaving:
                node.transport.send(gone, LANE_CONTROL, KIND_REMOVED, REMOVED.pack(self.epoch()))
            self.leaving = {}
            node.clock.call_later(1000, self.dial)

    def tell_strangers(self) -> None:
        """Nodes that were down while they were removed dial the shard they remember."""
        if self.node.leading and self.node.core.known is not None:
            self.node.transport.answer_strangers(self.ids, REMOVED.pack(self.epoch()))

    def removed_by(self, payload: bytes) -> None:
        """A primary says that this node is no member. Raises struct.error. Believed unless a later epoch counts it."""
        (epoch,) = REMOVED.unpack(payload)
        if self.ids and (epoch > self.epoch() or self.node.node_id not in self.ids):
            self._leave()

    def _leave(self) -> None:
        if self.ever_member and not self.removed:
            self.removed = True
            if self.on_removed is not None:
                self.on_removed()
