"""The newest known owner of every slot and the newest known members of every group.

Rule: a fact is replaced by a newer one only: slots by epoch, groups by (term, configuration index, sequence). Facts
come in any order, any number of times and through anybody; equal sets of facts give equal tables. Nothing here decides
ownership, and nothing here knows how facts travel.
"""

from __future__ import annotations

from array import array
from typing import Final

from durakv.keyspace.slots import SLOTS

BUCKETS: Final = 64
SLOTS_IN_BUCKET: Final = SLOTS // BUCKETS
_MASK: Final = (1 << 64) - 1

VOTER: Final = 0
LEARNER: Final = 1
WITNESS: Final = 2

ONLINE: Final = 0
FAIL: Final = 1
LOADING: Final = 2


class Member:
    """One member of a group as its leader last described it; not changed afterwards.

    ``health`` is the leader's opinion, ``applied_index`` how far the member was then. A port of 0 is not open. A
    witness's ``host`` is its address and it has no ports.
    """

    __slots__ = ("applied_index", "health", "host", "hostname", "kind", "node_id", "peer_port", "port", "tls_port",
                 "zone")  # fmt: skip

    def __init__(self, node_id: int, host: str, port: int, peer_port: int, *, kind: int = VOTER, health: int = ONLINE,
                 tls_port: int = 0, hostname: str = "", zone: str = "", applied_index: int = 0) -> None:  # fmt: skip
        self.node_id = node_id
        self.host = host
        self.port = port
        self.tls_port = tls_port
        self.peer_port = peer_port
        self.hostname = hostname
        self.zone = zone
        self.kind = kind
        self.health = health
        self.applied_index = applied_index

    def with_health(self, health: int) -> Member:
        """The same member in another state."""
        return Member(self.node_id, self.host, self.port, self.peer_port, kind=self.kind, health=health,
                      tls_port=self.tls_port, hostname=self.hostname, zone=self.zone,
                      applied_index=self.applied_index)  # fmt: skip

    def same_place(self, other: Member) -> bool:
        """Whether the two differ in nothing but health and progress."""
        return (
            self.node_id == other.node_id and self.host == other.host and self.port == other.port
            and self.tls_port == other.tls_port and self.peer_port == other.peer_port and self.kind == other.kind
            and self.hostname == other.hostname and self.zone == other.zone
        )  # fmt: skip


class GroupFacts:
    """A group at one version; not changed afterwards, so that tables may share it.

    Only the leader of ``term`` makes them, and counts ``sequence`` up for what the log does not say: a member's health,
    a lost leader. ``leader`` is 0 when there is none. ``removed``: the group is gone for good; members are empty.
    """

    __slots__ = ("config_index", "group", "leader", "members", "removed", "sequence", "term")

    def __init__(self, group: int, term: int, config_index: int, sequence: int, leader: int, members: list[Member], *,
                 removed: bool = False) -> None:  # fmt: skip
        self.group = group
        self.term = term
        self.config_index = config_index
        self.sequence = sequence
        self.leader = leader
        self.members = members
        self.removed = removed

    def version(self) -> tuple[bool, int, int, int]:
        """Compares: the greater is the newer. Nothing is newer than a removal."""
        return (self.removed, self.term, self.config_index, self.sequence)

    def same_places(self, other: GroupFacts) -> bool:
        """Whether a LeaderChange can tell the difference between the two."""
        if self.removed or other.removed or self.config_index != other.config_index:
            return False
        if len(self.members) != len(other.members):
            return False
        return all(mine.same_place(its) for mine, its in zip(self.members, other.members, strict=True))

    def change(self) -> LeaderChange:
        """These facts for whoever knows the members."""
        health = bytes(m.health for m in self.members)
        return LeaderChange(self.group, self.term, self.config_index, self.sequence, self.leader, health)


class LeaderChange:
    """What most often changes of a group, without its members: the leader, and health, a byte each in their order.

    Means something only to whoever knows the members as of ``config_index``.
    """

    __slots__ = ("config_index", "group", "health", "leader", "sequence", "term")

    def __init__(self, group: int, term: int, config_index: int, sequence: int, leader: int, health: bytes) -> None:
        self.group = group
        self.term = term
        self.config_index = config_index
        self.sequence = sequence
        self.leader = leader
        self.health = health


class SlotRange:
    """Slots ``first`` to ``last`` are the group's since ``epoch``."""

    __slots__ = ("epoch", "first", "group", "last")

    def __init__(self, first: int, last: int, epoch: int, group: int) -> None:
        self.first = first
        self.last = last
        self.epoch = epoch
        self.group = group


def scramble(value: int) -> int:
    """64 bits that look random (the finalizer of SplitMix64)."""
    z = (value + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


# A slot's entry adds its own random factor times its content to a sum, so that a whole range is added at little cost
# and equal sums mean equal tables but for one case in 2**64.
_FACTOR: Final = [scramble(slot) | 1 for slot in range(SLOTS)]


def _slot_content(epoch: int, group: int) -> int:
    return scramble(scramble(epoch) ^ group) if group else 0


def _group_content(facts: GroupFacts) -> int:
    if facts.removed:
        # Nodes that remember a removal, have forgotten it or never heard of the group agree on what there is.
        return 0
    first = scramble(scramble(facts.group) ^ facts.term)
    return scramble(scramble(first ^ facts.config_index) ^ facts.sequence)


class Routing:
    """``epochs`` and ``groups`` are by slot, 0 for a slot nobody is known to own. ``changes`` counts what was new."""

    def __init__(self) -> None:
        self.epochs = array("Q", bytes(8 * SLOTS))
        self.groups = array("I", bytes(4 * SLOTS))
        self.facts: dict[int, GroupFacts] = {}
        # Full nodes and learners of all groups: node to group.
        self.group_of_node: dict[int, int] = {}
        self.members: dict[int, Member] = {}
        self.slot_sums = [0] * BUCKETS
        self.group_sums = [0] * BUCKETS
        self.changes = 0
        # Two owners at one epoch: forbidden by the handoff protocol, so a sign of a damaged or foreign node.
        self.conflicts = 0
        self._folded_at = -1
        self._folded = (0, 0)

    # -- learning ----------------------------------------------------------------------------------------------------

    def learn_slots(self, first: int, last: int, epoch: int, group: int) -> bool:
        """True when any slot of the range was given a newer owner."""
        assert 0 <= first <= last < SLOTS and group > 0 and epoch > 0, f"{first}-{last} {epoch} {group}"
        epochs, groups, sums = self.epochs, self.groups, self.slot_sums
        new = _slot_content(epoch, group)
        seen_epoch = seen_group = seen = 0
        changed = False
        for slot in range(first, last + 1):
            known = epochs[slot]
            if known > epoch or (known == epoch and groups[slot] == group):
                continue
            if known == epoch:
                self.conflicts += 1
                # Any rule will do that all nodes share.
                if groups[slot] > group:
                    continue
            if known != seen_epoch or groups[slot] != seen_group:
                seen_epoch, seen_group = known, groups[slot]
                seen = _slot_content(seen_epoch, seen_group)
            bucket = slot // SLOTS_IN_BUCKET
            sums[bucket] = (sums[bucket] + _FACTOR[slot] * (new - seen)) & _MASK
            epochs[slot] = epoch
            groups[slot] = group
            changed = True
        self.changes += changed
        return changed

    def learn_group(self, facts: GroupFacts) -> bool:
        """True when the facts are newer than what is known of the group."""
        old = self.facts.get(facts.group)
        if old is not None and old.version() >= facts.version():
            return False
        self._replace(facts.group, old, facts)
        return True

    def learn_leader(self, change: LeaderChange) -> bool:
        """True when the change is newer; False also when its members are not known here, which digests will mend."""
        old = self.facts.get(change.group)
        if old is None or old.config_index != change.config_index or len(old.members) != len(change.health):
            return False
        members: list[Member] = []
        for m, health in zip(old.members, change.health, strict=True):
            members.append(m if m.health == health else m.with_health(health))
        return self.learn_group(
            GroupFacts(change.group, change.term, change.config_index, change.sequence, change.leader, members)
        )

    def forget_group(self, group: int) -> bool:
        """Drop the memory of a removed group; False when it is not known as removed."""
        old = self.facts.get(group)
        if old is None or not old.removed:
            return False
        self._replace(group, old, None)
        return True

    def _replace(self, group: int, old: GroupFacts | None, new: GroupFacts | None) -> None:
        total = self.group_sums[group % BUCKETS]
        if old is not None:
            total -= _group_content(old)
            for member in old.members:
                if self.group_of_node.get(member.node_id) == group:
                    del self.group_of_node[member.node_id]
                    del self.members[member.node_id]
        if new is None:
            del self.facts[group]
        else:
            total += _group_content(new)
            self.facts[group] = new
            for member in new.members:
                if member.kind != WITNESS:
                    self.group_of_node[member.node_id] = group
                    self.members[member.node_id] = member
        self.group_sums[group % BUCKETS] = total & _MASK
        self.changes += 1

    # -- asking ------------------------------------------------------------------------------------------------------

    def owner(self, slot: int) -> GroupFacts | None:
        """The group that serves the slot, as far as known."""
        return self.facts.get(self.groups[slot])

    def leader_of(self, slot: int) -> Member | None:
        """Where to send a client that asks for the slot; without a known leader any voter, who will know better."""
        facts = self.owner(slot)
        if facts is None:
            return None
        leader = self.members.get(facts.leader)
        if leader is not None:
            return leader
        voters = [m for m in facts.members if m.kind == VOTER]
        return min(voters, key=lambda m: m.node_id, default=None)

    def ranges(self, first: int = 0, last: int = SLOTS - 1) -> list[SlotRange]:
        """Owned slots in runs of equal owner and epoch, ascending."""
        epochs, groups = self.epochs, self.groups
        out: list[SlotRange] = []
        run: SlotRange | None = None
        for slot in range(first, last + 1):
            group, epoch = groups[slot], epochs[slot]
            if run is not None and run.group == group and run.epoch == epoch:
                run.last = slot
            elif group:
                run = SlotRange(slot, slot, epoch, group)
                out.append(run)
            else:
                run = None
        return out

    def slots_by_group(self) -> dict[int, list[tuple[int, int]]]:
        """Runs of slots each group serves, whatever their epochs; groups in the order of their first slot."""
        out: dict[int, list[tuple[int, int]]] = {}
        for r in self.ranges():
            runs = out.setdefault(r.group, [])
            if runs and runs[-1][1] == r.first - 1:
                runs[-1] = (runs[-1][0], r.last)
            else:
                runs.append((r.first, r.last))
        return out

    def highest_epoch(self) -> int:
        """Of any slot or group: what CLUSTER INFO calls the current epoch."""
        highest = max(self.epochs)
        for facts in self.facts.values():
            highest = max(highest, facts.term)
        return highest

    # -- digests -----------------------------------------------------------------------------------------------------

    def slots_digest(self) -> int:
        """Equal on nodes that know the same owners."""
        return self._fold_all()[0]

    def groups_digest(self) -> int:
        """Equal on nodes that know the same versions of the same groups."""
        return self._fold_all()[1]

    def _fold_all(self) -> tuple[int, int]:
        if self._folded_at != self.changes:
            self._folded_at = self.changes
            self._folded = (_fold(self.slot_sums), _fold(self.group_sums))
        return self._folded


def _fold(sums: list[int]) -> int:
    out = 0
    for total in sums:
        out = scramble(out ^ total)
    return out
