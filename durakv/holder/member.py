"""One member of a config holder: a Raft group whose state machine is the register of raft.primary_backup.

Rule: the only place that proposes calls and the only one that answers them. An answer says OK or REFUSED only after the
call was applied, or when it was never proposed; everything else is UNKNOWN. A read takes ReadIndex and adds nothing to
the log. Needs nothing of the data node it may live in, and shares no connection with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Final

from durakv.holder import journal, wire
from durakv.holder.address import Members
from durakv.holder.durable import DurableLog
from durakv.holder.health import MemberHealth
from durakv.holder.peers import Peers
from durakv.holder.record import Image
from durakv.holder.visitor import Reply, Visitor
from durakv.storage.errors import DirectoryLocked, DirectoryUnusable
from durakv.storage.lane import Lane
from durakv.world.ports import Clock, Disk, Listener, Network, Rng
from raft.bootstrap import bootstrap
from raft.codec import decode, encode
from raft.config import Config
from raft.core import Raft
from raft.errors import NotLeader, ProposalDropped
from raft.messages import Message
from raft.primary_backup.codec import decode_call, encode_answer
from raft.primary_backup.messages import HolderAnswer, HolderCall, Outcome, ReadCall, Reason
from raft.primary_backup.register import Register, RegisterClock
from raft.primary_backup.types import ShardConfig
from raft.ready import Ready
from raft.types import ConfChange, Entry, EntryKind, HardState, Membership, Role

TICK_MS: Final = 50
# A member that hears nothing for one to two seconds asks to lead; a leader is heard every 150 ms.
ELECTION_TICKS: Final = 20
HEARTBEAT_TICKS: Final = 3
VISITORS_MAX: Final = 1024
# The register of a holder is the only group its members form.
GROUP: Final = 1
_SNAPSHOT_CHUNK_BYTES: Final = 256 << 10
# Lines about refused callers in so much time; the rest is counted.
_REFUSALS_MAX: Final = 20
_REFUSALS_PERIOD_MS: Final = 10_000
_STAMP: Final = Struct("<Q")
# A report has to fit a frame.
_SHARDS_SHOWN: Final = 500


def found_member(disk: Disk, directory: str, cluster_id: bytes, member_id: int, member_ids: tuple[int, ...]) -> None:
    """Make the file of a member of a new holder; all of ``member_ids`` are founded alike. Blocks.

    Once per member, when the cluster is created: a member founded again forgets its votes. Raises IdentityError when
    the directory has a member, ValueError, OSError.
    """
    if member_id not in member_ids:
        raise ValueError(f"member {member_id} is none of the holder's members {sorted(member_ids)}; list it with them")
    hard_state, entry = bootstrap(Membership(voters=member_ids))
    journal.create(disk, directory.rstrip("/"), Image(cluster_id, member_id, hard_state, None, b"", [entry]))


def join_member(disk: Disk, directory: str, cluster_id: bytes, member_id: int) -> None:
    """Make the file of a member that is to take another's place in a holder that runs; see HolderMember.replace().

    The id must be one that no member ever had. Blocks. Raises IdentityError when the directory has a member, OSError.
    """
    journal.create(disk, directory.rstrip("/"), Image(cluster_id, member_id, HardState(), None, b"", []))


def member_exists(disk: Disk, directory: str) -> bool:
    """Whether a member was founded, or made to join, in the directory."""
    return journal.exists(disk, directory.rstrip("/"))


def _shard_row(config: ShardConfig) -> dict[str, object]:
    return {
        "shard": config.shard, "epoch": config.epoch, "primary": config.primary, "isr": list(config.isr),
        "learners": list(config.learners), "min_isr": config.min_isr, "forced_epoch": config.forced_epoch,
    }  # fmt: skip


class _Asked:
    """A call on its way through the group."""

    __slots__ = ("call_id", "reply", "shard", "term")

    def __init__(self, call: HolderCall, term: int, reply: Reply) -> None:
        self.call_id = call.call_id
        self.shard = call.shard
        self.term = term
        self.reply = reply


class HolderMember:
    """``directory`` is the member's own; ``members`` say where all are. ``on_event`` takes lines for an operator's log,
    ``on_fatal`` the error after which the process must end: what it wrote may be gone though it can be read.
    """

    def __init__(
        self, clock: Clock, rng: Rng, disk: Disk, network: Network, directory: str, cluster_id: bytes, member_id: int,
        members: Members, on_event: Callable[[str], None], on_fatal: Callable[[OSError], None], tls: str | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.member_id = member_id
        self.members = members
        self.cluster_id = cluster_id
        self.register = Register()
        self._stamps = RegisterClock()
        self._rng = rng
        self._disk = disk
        self._network = network
        self._directory = directory.rstrip("/")
        self._on_event = on_event
        self._lane = Lane(disk, clock, on_fatal)
        self._tls = tls
        self._peers = Peers(network, clock, cluster_id, member_id, members, self._peer_down, tls)
        self._listener: Listener | None = None
        self._visitors: dict[Visitor, None] = {}
        self._refusals = 0
        # By the index of the entry; only while this member leads.
        self._proposed: dict[int, _Asked] = {}
        self._led_term = 0
        self._pumping = False
        self._pump_due = False
        self.closed = False

    def open(self, host: str, port: int) -> int:
        """Recover, listen, and begin; the port. Blocks. Raises StorageError, ValueError, or OSError of the port."""
        if self.member_id not in self.members:
            raise ValueError(f"member {self.member_id} has no address among the holder's members; list it with them")
        try:
            durable = self.durable = self._recover()
        except OSError as error:
            raise DirectoryUnusable(self._directory, error) from error
        meta = durable.log.snapshot_meta()
        if meta is not None:
            self.register = Register.from_bytes(durable.state)
        config = Config(
            self.member_id, GROUP, ELECTION_TICKS, HEARTBEAT_TICKS, max_size_per_msg=_SNAPSHOT_CHUNK_BYTES,
            snapshot_chunk_bytes=_SNAPSHOT_CHUNK_BYTES, max_uncommitted_bytes=8 << 20,
        )  # fmt: skip
        self.core = Raft(config, durable.log, self._rng, durable.hard_state, 0 if meta is None else meta.index)
        for voter in self.core.membership.voters:
            if voter not in self.members:
                self._on_event(f"config holder: member {voter} has no address here; list all members on each of them")
        listener = self._listener = self._network.listen(host, port, lambda: Visitor(self), self._tls)
        self._peers.start()
        if self.core.membership.voters == (self.member_id,):
            self.core.campaign()
        self.clock.call_later(TICK_MS, self._tick)
        self._pump()
        return listener.port()

    def _recover(self) -> DurableLog:
        journal.expect(self._disk, self._directory)
        if not self._disk.lock(f"{self._directory}/{journal.LOCK}"):
            raise DirectoryLocked(f"{self._directory} is in use by another process; stop that one first")
        return DurableLog(
            self._lane, self._directory, self.cluster_id, self.member_id, self._promised, self._snapshot
        )  # fmt: skip

    def close(self, done: Callable[[], None]) -> None:
        """Stop listening, hang up; what is being written will be written before ``done``, perhaps called at once."""
        self.closed = True
        if self._listener is not None:
            self._listener.close()
        self._peers.close()
        for visitor in list(self._visitors):
            visitor.drop()
        self._visitors.clear()
        self._give_up()
        self.durable.close(done)

    # -- requests ------------------------------------------------------------------------------------------------------

    def call(self, payload: bytes, reply: Reply) -> None:
        """Take the bytes of a call (codec.encode_call). Raises ValueError when they are none."""
        call = decode_call(payload)
        core = self.core
        if self.closed or core.role != Role.LEADER:
            reply(wire.NOT_HERE, wire.leader(0 if self.closed else core.leader))
            return
        asked = _Asked(call, core.term, reply)
        try:
            if isinstance(call, ReadCall):
                core.read_index(asked)
            else:
                stamp = self._stamps.stamp(self.clock.monotonic_ns())
                self._proposed[core.propose(_STAMP.pack(stamp) + payload)] = asked
        except NotLeader as e:
            reply(wire.NOT_HERE, wire.leader(e.leader))
        except ProposalDropped:
            self._answer(asked, Outcome.REFUSED, Reason.NOT_SENT)
        self._pump_soon()

    def status(self, reply: Reply) -> None:
        """Report how the member is and what it has applied, in JSON. What is in force is asked with a ReadCall."""
        configs = self.register.shards()
        rows = [_shard_row(config) for config in configs[:_SHARDS_SHOWN]]
        document = {**self.health().document(), "shard_count": len(configs), "shards": rows}
        reply(wire.REPORT, json.dumps(document).encode())

    def replace(self, old_id: int, new_id: int, reply: Reply) -> None:
        """Put a member that join_member() made in another's place; all members' lists must have its address."""
        text = self._replace(old_id, new_id)
        reply(wire.REPLACED, text.encode())
        self._pump_soon()

    def _replace(self, old_id: int, new_id: int) -> str:
        if new_id not in self.members:
            return f"member {new_id} has no address among this member's members; add it there on all members first"
        voters = self.core.membership.voters
        if old_id not in voters and new_id in voters:
            return ""
        if old_id not in voters:
            return f"member {old_id} is none of the holder's members {list(voters)}"
        try:
            self.core.propose_conf(ConfChange(add_voter=[new_id], remove=[old_id]))
        except NotLeader as e:
            return f"this member does not lead; ask member {e.leader}" if e.leader else "no leader is known; ask again"
        except ProposalDropped as e:
            return str(e)
        return ""

    def health(self) -> MemberHealth:
        """How this member is."""
        status = self.core.status()
        connected = [member for member in self.members if self._peers.connected(member)]
        behind = [peer.node for peer in status.peers if peer.match < status.commit]
        return MemberHealth(
            self.member_id, status.role_name(), status.leader, status.term, status.commit, status.applied, self.members,
            connected, list(status.membership.members()), behind, self.durable.journal.length_bytes,
        )  # fmt: skip

    # -- Host ----------------------------------------------------------------------------------------------------------

    def came(self, visitor: Visitor) -> bool:
        """A caller is connected; False when it must go."""
        if self.closed or len(self._visitors) >= VISITORS_MAX:
            self.refused(visitor, f"there are {len(self._visitors)} callers already")
            return False
        self._visitors[visitor] = None
        return True

    def went(self, visitor: Visitor) -> None:
        """A caller is gone."""
        self._visitors.pop(visitor, None)

    def refused(self, visitor: Visitor, why: str) -> None:
        """Log that a caller was cut off, unless that happens all the time."""
        if self._refusals == 0:
            self.clock.call_later(_REFUSALS_PERIOD_MS, self._refusals_over)
        self._refusals += 1
        if self._refusals <= _REFUSALS_MAX:
            self._on_event(f"config holder refused {visitor.name()}: {why}")

    def _refusals_over(self) -> None:
        more, self._refusals = self._refusals - _REFUSALS_MAX, 0
        if more > 0:
            self._on_event(f"config holder refused {more} more callers in {_REFUSALS_PERIOD_MS // 1000} s")

    def greet(self, hello: wire.Hello) -> str:
        """See Host."""
        if hello.cluster_id != self.cluster_id and hello.kind != wire.AS_STRANGER:
            return f"it belongs to cluster {hello.cluster_id.hex()}"
        if hello.to_id not in (wire.ANYBODY, self.member_id):
            return f"it looks for member {hello.to_id}, this is {self.member_id}; correct its list of members"
        if hello.kind == wire.AS_MEMBER and (hello.from_id == self.member_id or hello.from_id not in self.members):
            return f"member {hello.from_id} is none of the others in this member's list"
        return ""

    def raft(self, from_id: int, payload: bytes) -> None:
        """See Host."""
        try:
            message = decode(payload)
        except StructError as e:
            raise ValueError(f"malformed message: {e}") from None
        if message.from_ != from_id or message.to != self.member_id or message.group != GROUP:
            raise ValueError(f"a message from {message.from_} to {message.to} from member {from_id}")
        if not self.closed:
            self.core.step(message)
            self._pump_soon()

    # -- the pump ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.closed:
            return
        self.clock.call_later(TICK_MS, self._tick)
        self.core.tick()
        self._pump()

    def _peer_down(self, member_id: int) -> None:
        if not self.closed:
            self.core.report_unreachable(member_id)
            self._pump_soon()

    def _pump_soon(self) -> None:
        """After what else is ready in this turn, so that calls that came together share a sync."""
        if not self._pump_due:
            self._pump_due = True
            self.clock.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pump_due = False
        self._pump()

    def _pump(self) -> None:
        if self._pumping or self.closed:
            return
        self._pumping = True
        while self.core.has_ready():
            self._handle(self.core.ready())
        self._pumping = False
        self.durable.flush()

    def _handle(self, rd: Ready) -> None:
        core = self.core
        leading = core.role == Role.LEADER
        if self._led_term and (not leading or self._led_term != core.term):
            self._give_up()
            self._led_term = 0
        if leading and not self._led_term:
            self._led_term = core.term
            self._stamps.begin(self.register.last_ns, self.clock.monotonic_ns())
            self._on_event(f"config holder is led by this member, {self.member_id}, in term {core.term}")
        for message in rd.messages:
            self._send(message)
        state = self.durable.received(rd)
        if state is not None and rd.snapshot is not None:
            self.register = Register.from_bytes(state)
            core.applied_to(rd.snapshot.index)
        self.durable.hand_over(rd)
        for entry in rd.committed_entries:
            self._apply(entry)
        if rd.committed_entries:
            core.applied_to(rd.committed_entries[-1].index)
        for ctx in rd.failed_reads:
            assert isinstance(ctx, _Asked)
            self._answer(ctx, Outcome.UNKNOWN, Reason.NONE)
        for ctx, _ in rd.read_states:
            assert isinstance(ctx, _Asked)
            self._answer_read(ctx)

    def _apply(self, entry: Entry) -> None:
        asked = self._proposed.pop(entry.index, None)
        if entry.kind != EntryKind.NORMAL:
            return
        (stamp,) = _STAMP.unpack_from(entry.data)
        answer = self.register.apply(entry.data[_STAMP.size :], stamp)
        if asked is not None:
            # A member that leads has at this index what it proposed: the log of a leader only grows.
            assert asked.term == entry.term, f"entry {entry.index} is of term {entry.term}, proposed in {asked.term}"
            asked.reply(wire.ANSWER, answer)

    def _answer_read(self, asked: _Asked) -> None:
        config = self.register.shard(asked.shard)
        if config is None:
            self._answer(asked, Outcome.REFUSED, Reason.MISSING)
            return
        asked.reply(wire.ANSWER, encode_answer(HolderAnswer(asked.call_id, Outcome.OK, Reason.NONE, config)))

    def _answer(self, asked: _Asked, outcome: int, reason: int) -> None:
        asked.reply(wire.ANSWER, encode_answer(HolderAnswer(asked.call_id, outcome, reason, None)))

    def _give_up(self) -> None:
        """Leadership is gone, or the process ends: what was proposed may be committed by others, or not."""
        asked, self._proposed = self._proposed, {}
        for one in asked.values():
            self._answer(one, Outcome.UNKNOWN, Reason.NONE)

    def _send(self, message: Message) -> None:
        if message.to == self.member_id:
            self.core.step(message)
        elif not self._peers.send(message.to, encode(message)):
            self.core.report_unreachable(message.to)

    def _promised(self, messages: list[Message]) -> None:
        """What these say is durable."""
        if self.closed:
            return
        for message in messages:
            self._send(message)
        self._pump()

    def _snapshot(self) -> tuple[int, Membership, bytes]:
        applied = self.core.log.applied
        return applied, self.core.membership_at(applied), self.register.to_bytes()
