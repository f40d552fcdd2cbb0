"""Who comes and who goes: the primary puts out members that hold up commits and takes in nodes that have caught up.

A node is taken in by three steps: it catches up while nothing waits for it; then it joins, and from here on nothing
commits without it; when it holds all that is committed, and something of this reign is, the change is asked for. Asking
by "its lag is small" instead would make a node eligible that lacks entries committed before it joined.

Rule: the only place where the primary decides about members; every decision is a change that changes.py sees through.
"""

from raft.primary_backup import changes
from raft.primary_backup.errors import ChangeRefused, NotPrimary
from raft.primary_backup.leases import executor_stuck, lapsed, valid_with
from raft.primary_backup.node import ChangeKind, Member, Peer
from raft.primary_backup.primary import maybe_commit
from raft.primary_backup.types import CONTEXT_BYTES_MAX, MEMBERS_MAX
from raft.progress import ProgressState
from raft.types import Role


def tick(r: Member) -> None:
    """Judge members and candidates."""
    if r.role != Role.LEADER or executor_stuck(r):
        return
    if r.change is None and not r.transferee:
        _put_out(r)
    if r.joining and r.change is None:
        _go_on_joining(r)
    elif r.change is None and not r.transferee and r.config.admit_learners:
        for peer in r.peer_list:
            if not peer.in_sync and r.now_ns >= peer.held_until_ns and _close(r, peer):
                start_joining(r, peer.node)
                return


def _failed(r: Member, peer: Peer) -> bool:
    """True if the member is silent, or holds up entries that this node has had on its own disk for long."""
    if lapsed(r, peer):
        return True
    if not r.uncommitted:
        return False
    index, _, proposed_ns = r.uncommitted[0]
    waited_ns = r.now_ns - max(proposed_ns, peer.since_ns)
    return peer.progress.match < index <= r.log.stable and waited_ns >= r.config.evict_after_ns


def _put_out(r: Member) -> None:
    failed = [peer for peer in r.counted if peer.node in r.isr and _failed(r, peer)]
    if not failed:
        return
    if r.joining:
        # Asking for one change at a time: the one that lets writes go on comes first.
        _stop_joining(r)
    known = r.known
    assert known is not None
    out = [peer.node for peer in failed]
    for peer in failed:
        peer.held_until_ns = r.now_ns + r.config.hold_ns
    isr = tuple(node for node in r.isr if node not in out)
    changes.ask_change(r, ChangeKind.ALTER, r.id, isr, tuple(sorted((*known.learners, *out))))
    r.rewire()
    maybe_commit(r)


def _close(r: Member, peer: Peer) -> bool:
    pr = peer.progress
    near = r.log.last - pr.match <= r.config.admit_lag_entries
    return pr.state == ProgressState.REPLICATE and near and valid_with(r, peer)


def start_joining(r: Member, node: int) -> None:
    """Nothing commits without the node from here on."""
    r.joining = node
    r.joining_since_ns = r.now_ns
    r.rewire()


def _stop_joining(r: Member) -> None:
    peer = r.peers.get(r.joining)
    if peer is not None:
        peer.held_until_ns = r.now_ns + r.config.hold_ns
    r.joining = 0


def covered(r: Member, peer: Peer) -> bool:
    """True if the node holds all that is committed, and what is committed is of this reign."""
    return peer.progress.match >= r.log.commit >= r.noop_index


def _go_on_joining(r: Member) -> None:
    peer = r.peers[r.joining]
    if not valid_with(r, peer) or r.now_ns - r.joining_since_ns >= r.config.admit_timeout_ns:
        _stop_joining(r)
        r.rewire()
        maybe_commit(r)
        return
    if not covered(r, peer):
        return
    known = r.known
    assert known is not None
    isr = tuple(sorted((*r.isr, peer.node)))
    changes.ask_change(r, ChangeKind.ALTER, r.id, isr, tuple(n for n in known.learners if n != peer.node))
    r.joining = 0
    r.rewire()


def admit(r: Member, node: int) -> None:
    """The operator's admission; see PrimaryBackup.admit."""
    if r.role != Role.LEADER:
        raise NotPrimary(r.leader)
    peer = r.peers.get(node)
    if peer is None or peer.in_sync:
        raise ChangeRefused(f"node {node} is no learner of this shard, or joining already")
    if r.change is not None or r.joining or r.transferee:
        raise ChangeRefused("another change is under way; retry when it is done")
    if not _close(r, peer):
        raise ChangeRefused(f"node {node} has not caught up; retry when its match is near the primary's last index")
    start_joining(r, node)


def closed(r: Member) -> None:
    """A change of the primary's was refused for good: what it proposed is not in force."""
    if r.role == Role.LEADER:
        r.rewire()
        maybe_commit(r)


def alter(
    r: Member,
    add: tuple[int, ...],
    remove: tuple[int, ...],
    min_isr: int,
    context: bytes | None,
) -> int:
    """The operator's change; see PrimaryBackup.alter."""
    if r.role != Role.LEADER:
        raise NotPrimary(r.leader)
    if r.change is not None or r.transferee:
        raise ChangeRefused("another change is under way; retry when it is done")
    known = r.known
    assert known is not None
    members = known.members()
    for node in add:
        if node in members or node <= 0:
            raise ChangeRefused(f"node {node} is a member already, or no id; name a new node")
    for node in remove:
        if node not in members or node == r.id:
            raise ChangeRefused(f"node {node} is not a member, or the primary; hand over first to remove the primary")
    if len(members) + len(add) > MEMBERS_MAX or not 0 <= min_isr <= MEMBERS_MAX:
        raise ChangeRefused(f"a shard has at most {MEMBERS_MAX} members and needs at most as many in sync")
    if context is not None and len(context) > CONTEXT_BYTES_MAX:
        raise ChangeRefused(f"a context of {len(context)} bytes; at most {CONTEXT_BYTES_MAX} fit")
    if r.joining:
        _stop_joining(r)
    isr = tuple(node for node in r.isr if node not in remove)
    learners = tuple(sorted([*(node for node in known.learners if node not in remove), *add]))
    changes.ask_change(r, ChangeKind.ALTER, r.id, isr, learners, min_isr, context)
    r.operator_number = r.next_number
    r.rewire()
    maybe_commit(r)
    return r.operator_number
