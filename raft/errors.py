"""Every way the core says no. Each is definite: nothing was appended, so the caller may retry elsewhere.

Rule: an error here never leaves a proposal in doubt. This file must not know why a role decides so.
"""


class ProposalDropped(Exception):
    """The proposal was not appended and never will be."""


class NotLeader(ProposalDropped):
    """Only the leader takes this; `leader` is the one known here, 0 if none is."""

    def __init__(self, leader: int) -> None:
        where = f"ask node {leader}" if leader else "no leader is known, retry after an election"
        super().__init__(f"this node is not the leader; {where}")
        self.leader = leader


class Overloaded(ProposalDropped):
    """Uncommitted entries already fill max_uncommitted_bytes; retry when some have committed."""


class Transferring(ProposalDropped):
    """Leadership is being handed over; retry at the new leader, or here after an election timeout."""


class ConfChangePending(ProposalDropped):
    """Another change is uncommitted or a joint phase is open, or this leader has not committed in its term yet."""


class ConfChangeInvalid(ProposalDropped):
    """The change makes no sense for the current membership; the text says what to correct."""


class TransferRefused(ProposalDropped):
    """The target cannot lead now: unknown, a learner, or not heard from; choose another voter."""
