"""A picture of a member for operators: INFO sections, administration, test transcripts.

Rule: plain copies; holding one never reaches into the core.
"""

from raft.progress import STATE_NAMES
from raft.types import ROLE_NAMES, Membership


class PeerStatus:
    """What the leader knows of one peer."""

    __slots__ = ("inflight", "is_learner", "match", "next", "node", "recent_active", "state")

    def __init__(
        self, node: int, state: int, match: int, next_: int, is_learner: bool, recent_active: bool, inflight: int
    ) -> None:
        self.node = node
        self.state = STATE_NAMES[state]
        self.match = match
        self.next = next_
        self.is_learner = is_learner
        self.recent_active = recent_active
        self.inflight = inflight


class WitnessView:
    """How the group's witness stands; all but the id and the counters is empty unless this member leads.

    engaged: the witness is in the replication set and has recorded this subterm, so it counts without being asked.
    pinned: besides, nobody else could lead now; this member answers for the group alone, with the only sure copy.
    asking: it is in the set but has not recorded the subterm yet.
    """

    __slots__ = (
        "asking",
        "engaged",
        "pinned",
        "refused",
        "replication_set",
        "sent",
        "subterm",
        "swaps",
        "witness",
        "witness_subterm",
    )

    def __init__(
        self,
        witness: int,
        replication_set: tuple[int, ...],
        subterm: int,
        witness_subterm: int,
        engaged: bool,
        pinned: bool,
        asking: bool,
        swaps: int,
        sent: int,
        refused: int,
    ) -> None:
        self.witness = witness
        self.replication_set = replication_set
        self.subterm = subterm
        self.witness_subterm = witness_subterm
        self.engaged = engaged
        self.pinned = pinned
        self.asking = asking
        self.swaps = swaps
        self.sent = sent
        self.refused = refused


class Status:
    """One member at one moment; `peers` is empty unless it leads."""

    __slots__ = (
        "applied",
        "commit",
        "conf_index",
        "last_index",
        "leader",
        "membership",
        "node",
        "peers",
        "role",
        "stable",
        "term",
        "transferee",
        "vote",
        "witness",
    )

    def __init__(
        self,
        node: int,
        role: int,
        term: int,
        vote: int,
        leader: int,
        commit: int,
        applied: int,
        last_index: int,
        stable: int,
        transferee: int,
        conf_index: int,
        membership: Membership,
        peers: list[PeerStatus],
        witness: WitnessView,
    ) -> None:
        self.node = node
        self.role = role
        self.term = term
        self.vote = vote
        self.leader = leader
        self.commit = commit
        self.applied = applied
        self.last_index = last_index
        self.stable = stable
        self.transferee = transferee
        self.conf_index = conf_index
        self.membership = membership
        self.peers = peers
        self.witness = witness

    def role_name(self) -> str:
        """The role as a word."""
        return ROLE_NAMES[self.role]
