"""Which nodes seem dead: suspected by whoever gets no answer, refuted by the suspect itself, dead when it does not.

Rule: SWIM's order. Of two claims about a node the one with the higher incarnation holds; at the same incarnation dead
beats suspect beats alive; only the node itself raises its incarnation. A node nobody ever suspected has no entry, so
that a calm cluster keeps nothing. Source: Das, Gupta, Motivala, DSN 2002.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.gossip.routing import scramble

ALIVE: Final = 0
SUSPECT: Final = 1
DEAD: Final = 2

_MASK: Final = (1 << 64) - 1


class NodeState:
    """A claim about a node. ``since_ms`` is when this node first heard it."""

    __slots__ = ("incarnation", "node_id", "since_ms", "state")

    def __init__(self, node_id: int, incarnation: int, state: int, since_ms: int = 0) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.state = state
        self.since_ms = since_ms


def _content(s: NodeState) -> int:
    return scramble(scramble(s.node_id) ^ (s.incarnation << 2 | s.state))


class Peers:
    """All claims that hold now, about others and, once it had to refute one, about this node."""

    def __init__(self) -> None:
        self.states: dict[int, NodeState] = {}
        self.digest = 0

    def state(self, node_id: int) -> int:
        """ALIVE, SUSPECT or DEAD."""
        known = self.states.get(node_id)
        return ALIVE if known is None else known.state

    def incarnation(self, node_id: int) -> int:
        """The highest heard of, 0 of a node never suspected."""
        known = self.states.get(node_id)
        return 0 if known is None else known.incarnation

    def claim(self, node_id: int, incarnation: int, state: int, now_ms: int) -> bool:
        """True when the claim holds against what is known and was not known."""
        known = self.states.get(node_id)
        if known is None:
            if incarnation == 0 and state == ALIVE:
                return False
        elif (incarnation, state) <= (known.incarnation, known.state):
            return False
        new = NodeState(node_id, incarnation, state, now_ms)
        self._replace(known, new)
        self.states[node_id] = new
        return True

    def forget(self, node_id: int) -> None:
        """The node is no member of any group any more."""
        known = self.states.pop(node_id, None)
        self._replace(known, None)

    def _replace(self, old: NodeState | None, new: NodeState | None) -> None:
        if old is not None:
            self.digest = (self.digest - _content(old)) & _MASK
        if new is not None:
            self.digest = (self.digest + _content(new)) & _MASK

    def overdue(self, now_ms: int, suspicion_ms: int) -> list[NodeState]:
        """Suspects that had their time to refute."""
        return [s for s in self.states.values() if s.state == SUSPECT and now_ms - s.since_ms >= suspicion_ms]


class Probe:
    """A digest that waits for an answer."""

    __slots__ = ("attempt", "sent_ms", "sequence")

    def __init__(self, sequence: int, sent_ms: int, attempt: int) -> None:
        self.sequence = sequence
        self.sent_ms = sent_ms
        self.attempt = attempt
