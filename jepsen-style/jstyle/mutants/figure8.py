"""The schedule of figure 8 of the Raft paper, played on real cores: may an entry of an older term commit by counting?

Rule: hand-written, no dice. Five nodes; a leader of term 4 brings an entry of term 2 to a majority but none of its own,
then a node that never saw that entry is elected. Random schedules hardly ever get here, because a leader's first entry
follows so promptly.
"""

from __future__ import annotations

from typing import Final

from jstyle.mutants.probes import Sighting
from raft import Config, HardState, Membership, MemoryLog, Message, Raft, bootstrap
from raft.messages import Append, Vote
from raft.types import Role

NODES: Final = (1, 2, 3, 4, 5)


class _Dice:
    """Election timeouts do not matter here: nobody's clock ticks."""

    def below(self, n: int) -> int:
        return 0


class Server:
    """One member whose disk writes take no time."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.log = MemoryLog()
        hard_state, entry = bootstrap(Membership(NODES, (), ()))
        self.log.append([entry])
        self.hard_state: HardState = hard_state
        self.start()

    def start(self) -> None:
        """Start, or start again from the disk."""
        # One entry per message, so that an entry of an old term can travel without the leader's own.
        config = Config(self.node, pre_vote=False, check_quorum=False, max_size_per_msg=1)
        self.core = Raft(config, self.log, _Dice(), self.hard_state)

    def work(self) -> list[Message]:
        """Do all that is ready; returns what leaves."""
        out: list[Message] = []
        while self.core.has_ready():
            ready = self.core.ready()
            self.log.append(ready.entries)
            if ready.hard_state is not None:
                self.hard_state = ready.hard_state
            for message in [*ready.messages, *ready.after_persist]:
                if message.to == self.node:
                    self.core.step(message)
                else:
                    out.append(message)
            if ready.committed_entries:
                self.core.applied_to(ready.committed_entries[-1].index)
        return out


class Figure8:
    """The five, and what reached whom."""

    def __init__(self) -> None:
        self.servers = {node: Server(node) for node in NODES}

    def exchange(self, leader: int, *others: int, own: bool = True) -> None:
        """Carry messages between one node and some others until none is left; without ``own`` the leader's entries of
        its own term get lost on the way.
        """
        core = self.servers[leader].core
        for _ in range(core.config.heartbeat_ticks):
            # A beat makes the leader ask again where a message was lost before.
            core.tick()
        waiting = self.servers[leader].work()
        while waiting:
            message = waiting.pop(0)
            if message.to != leader and message.to not in others:
                continue
            receiver = self.servers[message.to]
            if not own and isinstance(message, Append) and message.entries:
                # One that does not fit must arrive, for its refusal leads back to the older entries.
                fits = receiver.core.log.matches(message.prev_index, message.prev_term)
                if fits and message.entries[-1].term == message.term:
                    continue
            receiver.core.step(message)
            waiting += receiver.work()

    def elect(self, node: int, *voters: int) -> None:
        """Make ``node`` campaign until it leads by these votes; nothing but votes is carried."""
        core = self.servers[node].core
        for _ in range(9):
            core.campaign()
            waiting = self.servers[node].work()
            while waiting and core.role != Role.LEADER:
                message = waiting.pop(0)
                if message.to == node or (isinstance(message, Vote) and message.to in voters):
                    self.servers[message.to].core.step(message)
                    if core.role != Role.LEADER:
                        waiting += self.servers[message.to].work()
            if core.role == Role.LEADER:
                return
            core.forget_leader()
        raise AssertionError(f"node {node} is never elected by {voters}")


class Figure8Probe:
    """R8: only entries of the leader's own term are committed by counting; R4: no committed entry is ever lost."""

    name = "figure 8"

    def run(self, seed: int) -> list[Sighting]:
        group = Figure8()
        servers = group.servers
        group.elect(1, 2, 3)
        group.exchange(1, 2, 3, 4, 5)
        base = servers[1].core.log.last
        # (a) an entry of the first leader's term reaches node 2 only.
        servers[1].core.propose(b"old entry")
        group.exchange(1, 2)
        old = servers[1].core.term
        # (b) node 1 crashes; node 5 leads, and its entries reach nobody.
        servers[1].start()
        group.elect(5, 3, 4)
        servers[5].core.propose(b"other entry")
        servers[5].work()
        # (c) node 5 crashes; node 1 leads again and brings the old entry to node 3, but its own only to node 2.
        servers[5].start()
        group.elect(1, 2, 3, 4)
        leader = servers[1].core
        group.exchange(1, 2)
        group.exchange(1, 3, own=False)
        found = []
        held = [node for node in NODES if servers[node].core.log.matches(base + 1, old)]
        if held != [1, 2, 3]:
            raise AssertionError(f"the schedule is not figure 8: the old entry is on {held}")
        committed = leader.log.commit
        if committed > base:
            found.append(
                Sighting("R8", f"the leader of term {leader.term} commits index {committed} of term {old} by counting")
            )
        # (d) node 1 crashes; node 5 leads and replaces the old entry everywhere.
        servers[1].start()
        group.elect(5, 3, 4)
        try:
            group.exchange(5, 3, 4)
        except AssertionError as error:
            found.append(Sighting("R4", f"a committed entry was replaced: {error}"))
        if committed > base and servers[3].log.term(base + 1) != old:
            found.append(Sighting("R4", f"index {base + 1} was committed in term {leader.term} and is replaced"))
        return found


class StaleTailProbe:
    """R5: a follower commits nothing beyond the last entry that an Append has matched.

    Direct, because this core's leaders find the exact place where two logs part, so that the first entry they send ends
    a stale tail. Another legal leader may probe lower, with fewer entries than it has committed: this one does.
    """

    name = "stale tail"

    def run(self, seed: int) -> list[Sighting]:
        group = Figure8()
        servers = group.servers
        group.elect(1, 2, 3)
        group.exchange(1, 2, 3, 4, 5)
        base = servers[1].core.log.last
        servers[1].core.propose(b"common entry")
        group.exchange(1, 2)
        for data in (b"stale", b"stale too"):
            servers[1].core.propose(data)
        servers[1].work()
        servers[1].start()
        group.elect(2, 3, 4)
        group.exchange(2, 3, 4)
        leader, follower = servers[2].core, servers[1].core
        if leader.log.commit != base + 2 or follower.log.last != base + 3:
            raise AssertionError(f"no stale tail: commit {leader.log.commit}, last {follower.log.last}, base {base}")
        common = servers[2].log.entries(base + 1, base + 2, 1 << 20)
        term = servers[2].log.term(base)
        follower.step(Append(follower.group, 2, 1, leader.term, base, term, leader.log.commit, 0, 0, common))
        reached = follower.log.commit
        if reached > base + 1:
            return [Sighting("R5", f"the follower commits its own entry {reached}; only {base + 1} was matched")]
        return (
            [] if reached == base + 1 else [Sighting("R5", f"the follower stays at {reached}, {base + 1} was matched")]
        )
