"""What happens to several groups together: slots that are ordered to move, parted groups, traps along a handoff.

Database 1 of each group is filled and flushed by orders as well. No client works there: what a handoff carries of it is
judged at its fence, as all else, and what clients keep in database 0 must not notice.

Orders go through ordinary connections of a host of their own, as an administrator's would; nobody waits for answers. A
trap strikes one node at a moment of the protocol: when it has appended an item, or its group has committed one.
Rule: as nemesis.py: what it does is a function of the plan and of who leads, owns and serves at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import hiredis

from durakv.cluster.handoff.state import Record
from durakv.cluster.names import node_name
from durakv.keyspace.slots import SLOTS
from durakv.world.ports import Stream
from jstyle.sim.client import wire_of
from jstyle.sim.groups import TAGS, Groups, slot_of_tag
from jstyle.sim.handoff_watch import SLOTS_USED, HandoffWatch
from jstyle.sim.invariants import Invariants, Watch
from jstyle.sim.machine import CLUSTER_ID, Machine
from jstyle.sim.nemesis import Nemesis, Undo
from jstyle.sim.outcomes import ErrorText
from jstyle.sim.schedule import Plan, Strike
from jstyle.sim.timeline import MS
from raft.types import Entry, Role

HOST: Final = "mover"
# Kinds of strikes that are carried out here; all others concern the machines of one group.
SHARED_KINDS: Final = ("cancel", "fill", "flush", "force-abort", "groups-cut", "migrate", "node-cut", "trap")
_ORDER_MS: Final = 20_000
_CONNECT_MS: Final = 1000
# A group is cut off for so long before its partner's operator loses patience.
_PATIENCE_MS: Final = 1500
_CONTROL: Final = b"@handoff"
_SELECT: Final = (b"SELECT", b"1")


class Trap:
    """Waits for the ``skip``-th item of a verb from now on that reaches ``moment``; then its strike falls."""

    def __init__(self, strike: Strike) -> None:
        self.strike = strike
        self.verb = str(strike.params["verb"]).encode()
        self.moment = str(strike.params["moment"])
        self.skip = int(strike.params["skip"])

    def springs(self, verb: bytes, moment: str) -> bool:
        """Whether this is what it has waited for."""
        if verb != self.verb or moment != self.moment:
            return False
        self.skip -= 1
        return self.skip < 0


class GroupsNemesis:
    """See the module's text. ``nemeses[g - 1]`` disturbs the machines of group ``g``."""

    def __init__(
        self, groups: Groups, plan: Plan, watch: HandoffWatch, nemeses: list[Nemesis], invariants: list[Invariants]
    ) -> None:
        self.groups = groups
        self.timeline = groups.timeline
        self.plan = plan
        self.watch = watch
        self.nemeses = nemeses
        self.injected: dict[str, int] = {}
        # What orders were answered, by the first words.
        self.answers: dict[str, int] = {}
        self.over = False
        self.traps: list[Trap] = []
        self._kinds: dict[str, Callable[[Strike], Undo | None]] = {
            "cancel": self._cancel,
            "fill": self._fill,
            "flush": self._flush,
            "force-abort": self._force,
            "groups-cut": self._groups_cut,
            "migrate": self._migrate,
            "node-cut": self._node_cut,
            "trap": self._trap,
        }
        assert tuple(sorted(self._kinds)) == SHARED_KINDS, "a kind of strike is in one list only"
        watch.on_item = self._committed
        for one in invariants:
            one.on_entry = self._appended

    def begin(self) -> None:
        """Put all strikes on the timeline."""
        for strike in self.plan.strikes:
            if strike.kind in SHARED_KINDS:
                self.timeline.at(strike.at_ms * MS, lambda strike=strike: self.strike(strike))  # type: ignore[misc]

    def strike(self, strike: Strike) -> None:
        """Do one, and see to its end."""
        if self.over:
            return
        undo = self._kinds[strike.kind](strike)
        if undo is None:
            return
        self._count(strike)
        if strike.for_ms:
            self.timeline.at(strike.for_ms * MS, lambda: None if self.over else undo())

    def _count(self, strike: Strike) -> None:
        name = f"{strike.cls}/{strike.kind}"
        self.injected[name] = self.injected.get(name, 0) + 1
        self.timeline.fold("strike", strike.kind, strike.target, strike.for_ms)

    def end(self) -> None:
        """Nothing more; what parted nodes of different groups ends."""
        self.over = True
        self.traps = []

    # -- orders --------------------------------------------------------------------------------------------------------

    def _migrate(self, strike: Strike) -> Undo | None:
        """Some slots of the group that owns a tag's slot, to another group."""
        owners = self.watch.owners
        slot = SLOTS_USED[int(strike.params["slot"]) % len(SLOTS_USED)]
        source = owners[slot]
        others = [group for group in self.groups.numbers() if group != source]
        target = others[int(strike.params["to"]) % len(others)]
        ranges = [_range_of(owners, slot, int(strike.params["width"]))]
        if strike.params.get("more"):
            first, last = ranges[0]
            ranges += [(one, one) for one in SLOTS_USED if owners[one] == source and not first <= one <= last][:2]
        argv = [b"CLUSTER", b"MIGRATESLOTS", b"SLOTSRANGE"]
        for first, last in ranges:
            argv += [b"%d" % first, b"%d" % last]
        self._order(source, [[*argv, b"NODE", self._name_in(target, strike)]])
        return _nothing

    def _cancel(self, strike: Strike) -> Undo | None:
        group = int(strike.params["group"]) % len(self.groups.clusters) + 1
        self._order(group, [[b"CLUSTER", b"CANCELSLOTMIGRATIONS"]])
        return _nothing

    def _fill(self, strike: Strike) -> Undo | None:
        """Keys in database 1 of a group, under every tag whose slot it owns."""
        group = int(strike.params["group"]) % len(self.groups.clusters) + 1
        number = int(strike.params["number"])
        writes: list[list[bytes]] = []
        for tag in TAGS:
            if self.watch.owners[slot_of_tag(tag)] == group:
                stem = b"{%b}other" % tag.encode()
                writes.append([b"SET", b"%b.%d" % (stem, number), b"%d" % strike.at_ms])
                writes.append([b"SET", b"%b.%d.t" % (stem, number), b"%d" % strike.at_ms, b"PX", b"1500"])
                writes.append([b"RPUSH", b"%b.l" % stem, b"%d" % strike.at_ms])
        self._order(group, [list(_SELECT), *writes], writes)
        return _nothing

    def _flush(self, strike: Strike) -> Undo | None:
        """Database 1 of a group."""
        flush = [b"FLUSHDB"]
        self._order(int(strike.params["group"]) % len(self.groups.clusters) + 1, [list(_SELECT), flush], [flush])
        return _nothing

    def _force(self, strike: Strike) -> Undo | None:
        """The next group to be fenced loses sight of its partner, and its operator takes the slots back."""
        self.traps.append(Trap(replace(strike, params={"verb": "fence", "moment": "committed", "skip": 0})))
        return _nothing

    def _order(self, group: int, commands: list[list[bytes]], effects: list[list[bytes]] | None = None) -> None:
        """Send commands to the group's leader; ``effects``: those of them whose effects the logs must account for."""
        leader = self.groups.group(group).leader() or self.groups.group(group).machines[0]
        self.groups.dial(HOST, leader.number, _Order(self, commands, effects or []), _CONNECT_MS)

    def _name_in(self, group: int, strike: Strike) -> bytes:
        machines = [machine for machine in self.groups.group(group).machines if machine.starts]
        machine = machines[int(strike.params["pick"]) % len(machines)]
        return node_name(CLUSTER_ID.hex(), machine.node_id).encode()

    def told(self, reply: object) -> None:
        """An order was answered."""
        words = " ".join(str(reply).split(" ")[:6]) if isinstance(reply, ErrorText) else "OK"
        self.answers[words] = self.answers.get(words, 0) + 1
        self.timeline.fold("order", words)

    # -- parted groups -------------------------------------------------------------------------------------------------

    def _groups_cut(self, strike: Strike) -> Undo | None:
        numbers = self.groups.numbers()
        one = numbers[int(strike.params["pick"]) % len(numbers)]
        other = numbers[(int(strike.params["pick"]) + 1) % len(numbers)]
        return self._cut(_between(self.groups, one, other, str(strike.params["way"])))

    def _node_cut(self, strike: Strike) -> Undo | None:
        """A node is alone, or hears or is heard by nobody of any group."""
        nemesis = self.nemeses[int(strike.params["group"]) % len(self.nemeses)]
        victims = [machine.name for machine in nemesis.machines(strike)]
        others = [machine.name for machine in self.groups.machines if machine.name not in victims]
        way = strike.params["way"]
        pairs = [(v, o) for v in victims for o in others if way != "in"]
        pairs += [(o, v) for v in victims for o in others if way != "out"]
        return self._cut(pairs)

    def _cut(self, wanted: list[tuple[str, str]]) -> Undo | None:
        fabric = self.groups.fabric
        pairs = [pair for pair in wanted if not fabric.is_cut(*pair)]
        for pair in pairs:
            fabric.cut(*pair)

        def undo() -> None:
            for pair in pairs:
                fabric.heal(*pair)

        return undo if pairs else None

    # -- traps ---------------------------------------------------------------------------------------------------------

    def _trap(self, strike: Strike) -> Undo | None:
        self.traps.append(Trap(strike))
        return None

    def _appended(self, watch: Watch, entry: Entry) -> None:
        app = watch.machine.app
        if not self.traps or _CONTROL not in entry.data or app is None or app.node.core.role != Role.LEADER:
            return
        for trap in list(self.traps):
            if trap.verb in entry.data and trap.springs(trap.verb, "appended"):
                self._spring(trap, watch.machine)

    def _committed(self, group: int, verb: bytes, record: Record | None) -> None:
        for trap in list(self.traps):
            if trap.springs(verb, "committed"):
                if trap.strike.kind == "force-abort":
                    self._forced(trap, group, record)
                    continue
                side = group
                if trap.strike.params["whom"] == "peer" and record is not None:
                    side = record.peer
                leader = self.groups.group(side).leader()
                if leader is not None:
                    self._spring(trap, leader)

    def _spring(self, trap: Trap, machine: Machine) -> None:
        self.traps.remove(trap)
        strike = trap.strike
        struck = replace(strike, kind=str(strike.params["what"]), target=str(machine.node_id))
        self._count(strike)
        nemesis = self.nemeses[self.groups.group_of(machine.number) - 1]
        self.timeline.at(0, lambda: None if self.over else nemesis.strike(struck))

    def _forced(self, trap: Trap, group: int, record: Record | None) -> None:
        self.traps.remove(trap)
        assert record is not None
        undo = self._cut(_between(self.groups, group, record.peer, "both"))
        argv = [b"CLUSTER", b"MIGRATIONS", b"FORCE-ABORT", record.mid]
        self.timeline.at(_PATIENCE_MS * MS, lambda: None if self.over else self._order(group, [argv]))
        if undo is not None:
            self.timeline.at(trap.strike.for_ms * MS, lambda: None if self.over else undo())


class _Order:
    """Commands on a connection of their own; implements StreamHandler."""

    def __init__(self, nemesis: GroupsNemesis, commands: list[list[bytes]], effects: list[list[bytes]]) -> None:
        self.nemesis = nemesis
        self.commands = commands
        self.effects = effects
        self.unanswered = len(commands)
        self.stream: Stream | None = None
        self.reader = hiredis.Reader(replyError=ErrorText)  # type: ignore[arg-type]

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        self.stream = stream
        # What clients of any group ask for is known to the shadows of all.
        self.nemesis.watch.shadows[0].asked(self.effects)
        stream.write(b"".join([wire_of(argv) for argv in self.commands]))
        self.nemesis.timeline.at(_ORDER_MS * MS, self._hang_up)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        self.reader.feed(data)
        reply = self.reader.gets()
        while reply is not False and self.stream is not None:
            self.nemesis.told(reply)
            self.unanswered -= 1
            if not self.unanswered:
                self._hang_up()
                return
            reply = self.reader.gets()

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self.stream = None

    def _hang_up(self) -> None:
        if self.stream is not None:
            self.stream.abort()
            self.stream = None


def _range_of(owners: list[int], slot: int, width: int) -> tuple[int, int]:
    """Up to ``width`` slots around one that have the same owner: first and last."""
    first = last = slot
    while last - first + 1 < width and last + 1 < SLOTS and owners[last + 1] == owners[slot]:
        last += 1
    while last - first + 1 < width and first > 0 and owners[first - 1] == owners[slot]:
        first -= 1
    return first, last


def _between(groups: Groups, one: int, other: int, way: str) -> list[tuple[str, str]]:
    """Directed links between two groups: ``both`` ways, or ``out`` of the first only."""
    here = [machine.name for machine in groups.group(one).machines]
    there = [machine.name for machine in groups.group(other).machines]
    pairs = [(a, b) for a in here for b in there]
    return pairs + [(b, a) for a, b in pairs] if way == "both" else pairs


def _nothing() -> None:
    """No end to bring about."""
