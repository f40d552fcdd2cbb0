"""One node's part in spreading routing: news to a few at once, digests to one now and then, differences where found.

Rules. No sockets, no clock, no threads: time and bytes come in, bytes to send come out. What is learnt is passed on a
few times and then left to digests, so that a calm cluster exchanges two short messages per node and period however
large it is. Every message is bounded; what does not fit goes with a later one. A hint is never wrong for long and never
decides anything.

Exchange: DIGEST; its answer is ACK when both know the same, else BUCKET_SUMS; to which DELTA brings all entries of the
buckets that differ; to which a second DELTA brings back what was newer there.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.gossip.codec import (
    ACK,
    BUCKET_SUMS,
    CLUSTER_ID_BYTES,
    DELTA,
    DIGEST,
    HEAD_BYTES,
    NEWS,
    NODE_BYTES,
    RANGE_BYTES,
    Message,
    decode,
    encode,
    group_bytes,
    leader_bytes,
)
from durakv.cluster.gossip.loads import LOAD_BYTES, GroupLoad, Loads
from durakv.cluster.gossip.peers import ALIVE, DEAD, SUSPECT, NodeState, Peers, Probe
from durakv.cluster.gossip.routing import BUCKETS, SLOTS_IN_BUCKET, GroupFacts, Routing, SlotRange
from durakv.world.ports import Rng

# Pieces of news remembered for passing on; older ones are left to the digests.
_NEWS_MAX: Final = 1024
_SLOTS: Final = 0
_GROUP: Final = 1
_NODE: Final = 2
_LEADER: Final = 3
_LOAD: Final = 4


class GossipLimits:
    """Periods in milliseconds, sizes in bytes."""

    def __init__(self) -> None:
        # One digest to one random node each period.
        self.digest_ms = 1000
        # News goes to so many nodes, in so many ticks.
        self.fanout = 3
        self.news_rounds = 3
        self.news_bytes = 4096
        self.delta_bytes = 16_384
        # Nodes spoken with at a time, so that links stay few in a large cluster; one of them is exchanged for another
        # each ``view_ms``.
        self.view = 32
        self.view_ms = 60_000
        # A digest without an answer for so long is repeated; after so many the node is suspected.
        self.answer_ms = 2000
        self.attempts = 3
        self.suspicion_ms = 10_000
        # Every so many digests goes to a node thought dead, so that two halves of a cluster find each other again; and
        # one to a seed that is no known member.
        self.dead_every = 8
        # Removed groups are remembered so long, lest a node that slept brings them back.
        self.forget_removed_ms = 86_400_000


class Outgoing:
    """Bytes for a node. ``node_id`` 0: a seed, whose number is not known. ``host`` empty: the node is not known; send
    along the link that its message came by, or not at all.
    """

    __slots__ = ("data", "host", "node_id", "port")

    def __init__(self, node_id: int, host: str, port: int, data: bytes) -> None:
        self.node_id = node_id
        self.host = host
        self.port = port
        self.data = data


class Gossip:
    """Call tick() every ``digest_ms`` / 5 or so, receive() with each message, learn_*() with what the log decided."""

    def __init__(self, limits: GossipLimits, cluster_id: bytes, node_id: int, routing: Routing, rng: Rng,
                 seeds: list[tuple[str, int]]) -> None:  # fmt: skip
        assert len(cluster_id) == CLUSTER_ID_BYTES
        self.limits = limits
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.routing = routing
        self.peers = Peers()
        self.loads = Loads()
        self.rng = rng
        # Where to ask for nodes that are not known yet: a group knows its own members and nobody else at first.
        self.seeds = seeds
        self.incarnation = 0
        self.sequence = 0
        self.digests = 0
        self.next_digest_ms = 0
        self.probes: dict[int, Probe] = {}
        # (what, which) to the ticks it still goes out in; oldest first. A range is (_SLOTS, first << 16 | last).
        self.news: dict[tuple[int, int], int] = {}
        self.removed_ms: dict[int, int] = {}
        self._known_at = -1
        self._others: list[int] = []
        self._view: list[int] = []
        self._next_view_ms = 0
        self._strangers: list[tuple[str, int]] = list(seeds)
        self.sent = 0
        self.received = 0
        self.sent_bytes = 0

    # -- what this node's own group decided ---------------------------------------------------------------------------

    def learn_slots(self, first: int, last: int, epoch: int, group: int) -> bool:
        """The group's log gave it the slots; every member may say so. True when that was new."""
        if not self.routing.learn_slots(first, last, epoch, group):
            return False
        self._tell(_SLOTS, first << 16 | last)
        return True

    def learn_group(self, facts: GroupFacts, now_ms: int) -> bool:
        """The leader's description of its group. True when that was new."""
        old = self.routing.facts.get(facts.group)
        if not self.routing.learn_group(facts):
            return False
        if facts.removed:
            self.removed_ms[facts.group] = now_ms
        self._tell_group(facts.group, short=old is not None and old.same_places(facts))
        return True

    def learn_load(self, load: GroupLoad, now_ms: int) -> bool:
        """How loaded a group is: this node's own, or another's. True when that was new."""
        if not self.loads.learn(load, now_ms):
            return False
        self._tell(_LOAD, load.group)
        return True

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> list[Outgoing]:
        """What is due."""
        out: list[Outgoing] = []
        self._refresh()
        if now_ms >= self._next_view_ms:
            self._next_view_ms = now_ms + self.limits.view_ms
            if len(self._others) > len(self._view) > 0:
                del self._view[self.rng.below(len(self._view))]
                self._fill_view()
        self._repeat(now_ms, out)
        for late in self.peers.overdue(now_ms, self.limits.suspicion_ms):
            self._claim(NodeState(late.node_id, late.incarnation, DEAD), now_ms)
        for group in [g for g, at in self.removed_ms.items() if now_ms - at >= self.limits.forget_removed_ms]:
            del self.removed_ms[group]
            self.routing.forget_group(group)
        if now_ms >= self.next_digest_ms:
            self.next_digest_ms = now_ms + self.limits.digest_ms
            self._digest(now_ms, out)
        if self.news:
            self._send_news(out)
        return out

    def _digest(self, now_ms: int, out: list[Outgoing]) -> None:
        self.digests += 1
        usual = self.digests % self.limits.dead_every != 0
        # A node that knows its own group only asks at once; later a seed may be in the other half of a cut cluster.
        alone = not self._others or len(self.routing.facts) < 2
        if self._strangers and (alone or not usual):
            host, port = self._strangers[self.rng.below(len(self._strangers))]
            self._send(0, host, port, self._digest_message(), out)
            if alone or not self.peers.states:
                return
        target = self._pick(alive=usual)
        if target and target not in self.probes:
            self._probe(target, now_ms, 1, out)

    def _probe(self, target: int, now_ms: int, attempt: int, out: list[Outgoing]) -> None:
        message = self._digest_message()
        self.probes[target] = Probe(message.sequence, now_ms, attempt)
        self._send_to(target, message, out)

    def _repeat(self, now_ms: int, out: list[Outgoing]) -> None:
        for target, probe in list(self.probes.items()):
            if now_ms - probe.sent_ms < self.limits.answer_ms:
                continue
            if target not in self.routing.members:
                del self.probes[target]
            elif probe.attempt < self.limits.attempts and self.peers.state(target) == ALIVE:
                self._probe(target, now_ms, probe.attempt + 1, out)
            else:
                del self.probes[target]
                if self.peers.state(target) == ALIVE:
                    self._claim(NodeState(target, self.peers.incarnation(target), SUSPECT), now_ms)

    def _pick(self, *, alive: bool) -> int:
        """A random node of the view, not thought dead if ``alive``; else rather any that is. 0: nobody is known."""
        others = self._others
        if not others:
            return 0
        if not alive:
            dead = [n for n in self.peers.states if self.peers.state(n) != ALIVE and n != self.node_id]
            if dead:
                return dead[self.rng.below(len(dead))]
        for _ in range(8):
            node = self._view[self.rng.below(len(self._view))]
            if self.peers.state(node) != DEAD:
                return node
        living = [n for n in others if self.peers.state(n) != DEAD] or others
        return living[self.rng.below(len(living))]

    def _refresh(self) -> None:
        """Follow what is known of who there is."""
        if self._known_at == self.routing.changes:
            return
        self._known_at = self.routing.changes
        others = sorted(node for node in self.routing.members if node != self.node_id)
        if others != self._others:
            self._others = others
            self._view = [node for node in self._view if node in self.routing.members]
            self._fill_view()
        known = {(m.host, m.peer_port) for m in self.routing.members.values()}
        self._strangers = [seed for seed in self.seeds if seed not in known]
        for node in [n for n in self.peers.states if n not in self.routing.members and n != self.node_id]:
            self.peers.forget(node)

    def _fill_view(self) -> None:
        size = min(self.limits.view, len(self._others))
        while len(self._view) < size:
            node = self._others[self.rng.below(len(self._others))]
            if node not in self._view:
                self._view.append(node)

    # -- news --------------------------------------------------------------------------------------------------------

    def _tell(self, what: int, which: int) -> None:
        key = (what, which)
        self.news.pop(key, None)
        self.news[key] = self.limits.news_rounds
        if len(self.news) > _NEWS_MAX:
            del self.news[next(iter(self.news))]

    def _tell_group(self, group: int, *, short: bool) -> None:
        # While its members are still news, whoever is told of the leader has to be told of them.
        if short and (_GROUP, group) not in self.news:
            self._tell(_LEADER, group)
        else:
            self.news.pop((_LEADER, group), None)
            self._tell(_GROUP, group)

    def _send_news(self, out: list[Outgoing]) -> None:
        targets: list[int] = []
        for _ in range(self.limits.fanout):
            node = self._pick(alive=True)
            if node and node not in targets:
                targets.append(node)
        message = self._message(NEWS)
        self._add_news(message, self.limits.news_bytes)
        for node in targets:
            self._send_to(node, message, out)

    def _add_news(self, m: Message, size_bytes: int) -> None:
        """The newest first: the older have been told more often."""
        left = size_bytes - HEAD_BYTES
        for key in list(reversed(self.news)):
            what, which = key
            if what == _SLOTS:
                ranges = self.routing.ranges(which >> 16, which & 0xFFFF)
                need = RANGE_BYTES * len(ranges)
                if need <= left:
                    m.slots += ranges
            elif what == _GROUP:
                facts = self.routing.facts.get(which)
                need = 0 if facts is None else group_bytes(facts)
                if facts is not None and need <= left:
                    m.groups.append(facts)
            elif what == _LEADER:
                facts = self.routing.facts.get(which)
                need = 0 if facts is None else leader_bytes(facts)
                if facts is not None and need <= left:
                    m.leaders.append(facts.change())
            elif what == _LOAD:
                load = self.loads.known.get(which)
                need = 0 if load is None else LOAD_BYTES
                if load is not None and need <= left:
                    m.loads.append(load)
            else:
                state = self.peers.states.get(which)
                need = NODE_BYTES
                if state is not None and need <= left:
                    m.nodes.append(state)
            # What fits into no such message is not news but a difference, which digests will find.
            if need <= left or need > size_bytes - HEAD_BYTES:
                left -= need if need <= left else 0
                self.news[key] -= 1
                if not self.news[key]:
                    del self.news[key]

    # -- messages ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ms: int) -> list[Outgoing]:
        """Answers to one message. Raises GossipError for bytes that are none of this cluster's."""
        m = decode(data, self.cluster_id)
        self.received += 1
        out: list[Outgoing] = []
        if m.sender == self.node_id:
            return out
        probe = self.probes.get(m.sender)
        if probe is not None and m.kind in (ACK, BUCKET_SUMS):
            del self.probes[m.sender]
        if m.sender in self.routing.members and self.peers.state(m.sender) != ALIVE:
            self._claim(NodeState(m.sender, m.incarnation, ALIVE), now_ms)
        # Before what it brings is taken in: what it brings is compared with what was known.
        back = self._newer(m) if m.kind == DELTA and (m.wanted_slots or m.wanted_groups) else None
        self._learn(m, now_ms)
        if m.kind == DIGEST:
            self._answer_digest(m, out)
        elif m.kind == BUCKET_SUMS:
            self._answer_sums(m, out)
        elif back is not None and (back.slots or back.groups or back.nodes):
            self._send_to(m.sender, back, out)
        return out

    def _learn(self, m: Message, now_ms: int) -> None:
        for r in m.slots:
            self.learn_slots(r.first, r.last, r.epoch, r.group)
        for facts in m.groups:
            # Whoever has forgotten a removed group must not be taught to remember it anew, for ever in turn.
            if not facts.removed or facts.group in self.routing.facts:
                self.learn_group(facts, now_ms)
        for change in m.leaders:
            if self.routing.learn_leader(change):
                self._tell_group(change.group, short=True)
        self._refresh()
        for load in m.loads:
            self.learn_load(load, now_ms)
        for state in m.nodes:
            self._claim(state, now_ms)

    def _claim(self, claim: NodeState, now_ms: int) -> None:
        node_id = claim.node_id
        if node_id == self.node_id:
            if claim.incarnation >= self.incarnation and (claim.state != ALIVE or claim.incarnation > self.incarnation):
                # Also after a restart: what others remember of the last life must not outrank this one.
                self.incarnation = claim.incarnation + 1
                self.peers.claim(node_id, self.incarnation, ALIVE, now_ms)
                self._tell(_NODE, node_id)
        elif node_id in self.routing.members and self.peers.claim(node_id, claim.incarnation, claim.state, now_ms):
            self._tell(_NODE, node_id)

    def _answer_digest(self, m: Message, out: list[Outgoing]) -> None:
        mine = (self.routing.slots_digest(), self.routing.groups_digest(), self.peers.digest)
        if m.digests == mine:
            answer = self._message(ACK, m.sequence)
        else:
            answer = self._message(BUCKET_SUMS, m.sequence)
            answer.bucket_sums = (*self.routing.slot_sums, *self.routing.group_sums)
            if m.digests[2] != mine[2]:
                self._add_states(answer)
        if self.peers.state(m.sender) != ALIVE and not answer.nodes:
            # It can refute only what it hears of.
            answer.nodes.append(self.peers.states[m.sender])
        self._send_to(m.sender, answer, out)

    def _answer_sums(self, m: Message, out: list[Outgoing]) -> None:
        sums = m.bucket_sums
        slots = [b for b in range(BUCKETS) if sums[b] != self.routing.slot_sums[b]]
        groups = [b for b in range(BUCKETS) if sums[BUCKETS + b] != self.routing.group_sums[b]]
        answer = self._message(DELTA)
        left = self.limits.delta_bytes - HEAD_BYTES
        for b in self._rotated(groups):
            facts = [f for f in self.routing.facts.values() if f.group % BUCKETS == b]
            fitting = [f for f in facts if group_bytes(f) <= left]
            need = sum(group_bytes(f) for f in facts)
            if need <= left:
                answer.wanted_groups |= 1 << b
                answer.groups += facts
                left -= need
            elif fitting and not answer.groups:
                # A bucket too large for any message goes piece by piece, unasked for.
                answer.groups.append(fitting[self.rng.below(len(fitting))])
                left -= group_bytes(answer.groups[0])
        for b in self._rotated(slots):
            ranges = self.routing.ranges(b * SLOTS_IN_BUCKET, (b + 1) * SLOTS_IN_BUCKET - 1)
            if RANGE_BYTES * len(ranges) <= left:
                answer.wanted_slots |= 1 << b
                answer.slots += ranges
                left -= RANGE_BYTES * len(ranges)
        if m.nodes or self.peers.states:
            self._add_states(answer)
        if slots or groups or answer.nodes:
            self._send_to(m.sender, answer, out)

    def _newer(self, m: Message) -> Message:
        """What this node knows better in the buckets of which the sender told all it knows."""
        out = self._message(DELTA)
        left = self.limits.delta_bytes - HEAD_BYTES
        theirs = {f.group: f.version() for f in m.groups}
        for group, facts in self.routing.facts.items():
            if m.wanted_groups >> (group % BUCKETS) & 1:
                known = theirs.get(group)
                need = group_bytes(facts)
                newer = not facts.removed if known is None else known < facts.version()
                if newer and need <= left:
                    out.groups.append(facts)
                    left -= need
        told: dict[int, int] = {}
        for r in m.slots:
            for slot in range(r.first, r.last + 1):
                told[slot] = r.epoch
        for b in [b for b in range(BUCKETS) if m.wanted_slots >> b & 1]:
            for r in self.routing.ranges(b * SLOTS_IN_BUCKET, (b + 1) * SLOTS_IN_BUCKET - 1):
                if left >= RANGE_BYTES and any(told.get(slot, 0) < r.epoch for slot in range(r.first, r.last + 1)):
                    out.slots.append(SlotRange(r.first, r.last, r.epoch, r.group))
                    left -= RANGE_BYTES
        return out

    def _add_states(self, m: Message) -> None:
        limit = self.limits.delta_bytes // (4 * NODE_BYTES)
        states = list(self.peers.states.values())
        first = self.rng.below(len(states)) if len(states) > limit else 0
        m.nodes += (states[first:] + states[:first])[:limit]

    def _rotated(self, buckets: list[int]) -> list[int]:
        """From a random one on, so that what never fits together is not always the same."""
        if not buckets:
            return buckets
        first = self.rng.below(len(buckets))
        return buckets[first:] + buckets[:first]

    def _message(self, kind: int, sequence: int = 0) -> Message:
        return Message(kind, self.node_id, self.incarnation, sequence)

    def _digest_message(self) -> Message:
        self.sequence = (self.sequence + 1) & 0xFFFFFFFF
        m = self._message(DIGEST, self.sequence)
        m.digests = (self.routing.slots_digest(), self.routing.groups_digest(), self.peers.digest)
        return m

    def _send_to(self, node_id: int, m: Message, out: list[Outgoing]) -> None:
        member = self.routing.members.get(node_id)
        if member is None:
            self._send(node_id, "", 0, m, out)
        else:
            self._send(node_id, member.host, member.peer_port, m, out)

    def _send(self, node_id: int, host: str, port: int, m: Message, out: list[Outgoing]) -> None:
        data = encode(m, self.cluster_id)
        self.sent += 1
        self.sent_bytes += len(data)
        out.append(Outgoing(node_id, host, port, data))
