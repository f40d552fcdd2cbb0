"""Whether what is left of a group with a witness may serve: the case table of the design, as one question.

Rule: works on what the nodes and the witness's medium hold now, not on how it came to that. Full nodes that are a
quorum by themselves must serve, whatever the witness does. Fewer must serve when one of them leads and the record pins
the rest out, or when one can be elected: it has enough voters whose logs are no better than its own, and the witness's
record lets it. Else nobody may lead (P6): those who are gone may hold acknowledged writes that nobody here has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jstyle.sim.quorums import full_voters, halves, is_quorum
from raft.types import Role

if TYPE_CHECKING:
    from durakv.app import App
    from jstyle.sim.witness_invariants import WitnessInvariants
    from raft.core import Raft


class WitnessOracle:
    """``answers``: the witness runs, is reached by the core and has its state."""

    def __init__(self, witness: WitnessInvariants) -> None:
        self._witness = witness
        self.answers = False

    def look(self, *, reached: bool) -> None:
        """Note how the witness is."""
        self.answers = reached and self._witness.host.running

    def alone(self, apps: list[App]) -> bool:
        """Whether the full nodes are a quorum of every membership that one of them has in force."""
        nodes = [app.node.node_id for app in apps]
        memberships = [app.node.core.membership for app in apps]
        return bool(memberships) and all(is_quorum(membership, nodes) for membership in memberships)

    def may_serve(self, apps: list[App]) -> bool:
        """Whether these, with the witness if it answers, can have a leader that commits."""
        self._witness.records.refresh()
        if self.alone(apps):
            return True
        cores = [app.node.core for app in apps]
        return any(self._leads_on(core, cores) or self._electable(core, cores) for core in cores)

    def _leads_on(self, core: Raft, cores: list[Raft]) -> bool:
        """It leads, and what it has on record lets it commit with those that are here."""
        rs = core.replication
        if core.role != Role.LEADER or rs is None or not rs.has_witness:
            return False
        at = (core.term, core.subterm)
        recorded = self._witness.records.of(rs.witness).recorded.get(at)
        if recorded != rs.members or rs.witness_subterm != core.subterm:
            return False
        here = [other.id for other in cores if other.id in rs.members]
        return is_quorum(core.membership, [*here, rs.witness])

    def _electable(self, core: Raft, cores: list[Raft]) -> bool:
        membership = core.membership
        witness_id = membership.witness_id()
        if core.id not in full_voters(membership) or not halves(membership):
            return False
        votes = [other.id for other in cores if not _better(other, core) and other.id in full_voters(membership)]
        if not self.answers or not witness_id or witness_id in self._witness.host.lost:
            return is_quorum(membership, votes)
        state = self._witness.records.of(witness_id).state
        pair = (core.log.last_term, self._witness.shadow.entries[core.log.last, core.log.last_term].subterm)
        stored = (state.last_log_term, state.last_log_subterm) if state is not None else (0, 0)
        if pair < stored:
            return is_quorum(membership, votes)
        if pair == stored and state is not None:
            # It needs the witness, so only votes of the set may be named.
            votes = [node for node in votes if node in state.replication_set]
        return core.id in votes and is_quorum(membership, [*votes, witness_id])


def _better(one: Raft, other: Raft) -> bool:
    return (one.log.last_term, one.log.last) > (other.log.last_term, other.log.last)
