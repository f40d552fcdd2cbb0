"""A node that is cut off and comes back, played on real cores: does it end a leader that a majority follows?

Rule: hand-written, no dice. Whoever asks before it campaigns keeps its term while nobody answers, and what it finds on
its return goes on; whoever does not comes back with a higher term, and everybody has to elect again.
"""

from __future__ import annotations

from typing import Final

from jstyle.mutants.figure8 import NODES, Server
from jstyle.mutants.probes import Sighting
from raft import Config, Raft
from raft.types import Role

_AWAY: Final = 5
_ELECTIONS: Final = 20


class _Dice:
    """Everybody waits equally long; only one node ever hears nothing."""

    def below(self, n: int) -> int:
        return 0


class _Asking(Server):
    """A member as it is configured in a group."""

    def start(self) -> None:
        """See Server."""
        self.core = Raft(Config(self.node), self.log, _Dice(), self.hard_state)


class CutOffProbe:
    """P10: a majority that hears its leader keeps it."""

    name = "cut off"

    def run(self, seed: int) -> list[Sighting]:
        servers = {node: _Asking(node) for node in NODES}
        servers[1].core.campaign()
        _settle(servers, NODES)
        leader = servers[1].core
        if leader.role != Role.LEADER:
            raise AssertionError("node 1 is not elected")
        term = leader.term
        rest = tuple(node for node in NODES if node != _AWAY)
        away = servers[_AWAY].core
        for _ in range(_ELECTIONS * away.config.election_ticks):
            _tick(servers, rest)
            away.tick()
            servers[_AWAY].work()
        found = []
        if away.term != term:
            found.append(Sighting("P10", f"cut off, node {_AWAY} raised its term from {term} to {away.term}"))
        for _ in range(2 * away.config.election_ticks):
            _tick(servers, NODES)
        if leader.role != Role.LEADER or leader.term != term:
            found.append(Sighting("P10", f"the return of node {_AWAY} ended the leader of term {term}"))
        return found


def _tick(servers: dict[int, _Asking], nodes: tuple[int, ...]) -> None:
    for node in nodes:
        servers[node].core.tick()
    _settle(servers, nodes)


def _settle(servers: dict[int, _Asking], nodes: tuple[int, ...]) -> None:
    """Carry messages between these until none is left."""
    waiting = [message for node in nodes for message in servers[node].work()]
    while waiting:
        message = waiting.pop(0)
        if message.to in nodes:
            servers[message.to].core.step(message)
            waiting += servers[message.to].work()
