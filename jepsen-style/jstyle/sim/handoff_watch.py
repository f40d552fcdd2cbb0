"""Slots on their way between groups, as seen by somebody who knows every group's committed log at every instant.

Each group's shadow tells of the handoff items it applies. From them follows who serves a slot, since when and until
when in true time, and what the slot held at its fence. Ids are the harness's: S1 one serving group at any instant, S2
epochs that only rise and are the same in both logs, S3 no answer from a group that no longer serves, S4 the same keys
on both sides of a fence, S5 exactly one owner in the end, S6 redirections that arrive, SH nothing staged shows.
Rule: reads shadows only and judges; what operators force by FORCE-ABORT is exempt from S1, S3 and S4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from durakv.cluster.handoff import entries
from durakv.cluster.handoff.apply import Outcome
from durakv.cluster.handoff.invariants import Monitor
from durakv.cluster.handoff.state import EXPORTING, FENCED, IMPORT, IMPORTING, NONE, OWNED, Record, State
from durakv.engine.places import FIRST_EPOCH
from durakv.keyspace.digest import slot_digest
from durakv.keyspace.slots import SLOTS, slot_of
from jstyle.sim.groups import TAGS, Groups, slot_of_tag
from jstyle.sim.shadow import Shadow
from jstyle.sim.violation import Violation

SLOTS_USED: Final = tuple(sorted(slot_of_tag(tag) for tag in TAGS))
_HOPS_MAX: Final = 3
# What ends or decides a migration: then its promises are judged.
_DECISIVE: Final = (
    entries.ABORT, entries.ACTIVATE, entries.EXPORT_CANCEL, entries.FORCE_ABORT, entries.RELEASE, entries.UNFENCE,
    entries.YIELD,
)  # fmt: skip
# What each verb is counted as when it took effect.
_COUNTED: Final = {
    entries.EXPORT_BEGIN: "begun", entries.FENCE: "fenced", entries.ACTIVATE: "moved", entries.UNFENCE: "unfenced",
    entries.EXPORT_CANCEL: "cancelled", entries.FORCE_ABORT: "forced", entries.YIELD: "yielded",
}  # fmt: skip

Content = dict[int, list[bytes]]
# Told of (group, verb, the record after it) of every item that took effect.
OnItem = Callable[[int, bytes, Record | None], None]


class Interval:
    """A group served a slot in true time; ``to_ns`` None: it does."""

    __slots__ = ("from_ns", "group", "to_ns")

    def __init__(self, group: int, from_ns: int) -> None:
        self.group = group
        self.from_ns = from_ns
        self.to_ns: int | None = None


class HandoffWatch:
    """See the module's text. ``shadows[g - 1]`` is group ``g``'s. ``counts`` are of items that took effect."""

    def __init__(self, groups: Groups, shadows: list[Shadow]) -> None:
        self.groups = groups
        self.timeline = groups.timeline
        self.shadows = shadows
        self.counts: Counter[str] = Counter()
        # Slots that an operator took back by force: acknowledged writes of theirs may be gone.
        self.forced: dict[int, None] = {}
        self.on_item: OnItem | None = None
        # The owner by decision and its epoch, of every slot.
        self.owners = [0] * SLOTS
        self.epochs = [FIRST_EPOCH] * SLOTS
        self.serving: dict[int, list[Interval]] = {slot: [] for slot in SLOTS_USED}
        # What the slots of a migration held when its fence was applied.
        self._fenced: dict[bytes, Content] = {}
        founded = {}
        for number, cluster in enumerate(groups.clusters, 1):
            assert cluster.place is not None
            runs = tuple((first, last, FIRST_EPOCH) for first, last in cluster.place.founding.slots)
            founded[number] = runs
            for first, last, _ in runs:
                self.owners[first : last + 1] = [number] * (last + 1 - first)
            self._listen(number, shadows[number - 1], runs)
        self.monitor = Monitor(founded)
        for number in groups.numbers():
            self._follow(number, list(SLOTS_USED))

    def state(self, group: int) -> State:
        """What the group's committed log says of slots."""
        return self.shadows[group - 1].applier.handoff.state

    def _listen(self, group: int, shadow: Shadow, runs: entries.Runs) -> None:
        handoff: Any = shadow.applier.handoff
        handoff.begin(group, runs)
        apply, flushed = handoff.apply, handoff.flushed

        def applied(argv: list[bytes], now_ms: int, index: int) -> Outcome:
            outcome: Outcome = apply(argv, now_ms, index)
            self._applied(group, argv, index, outcome)
            return outcome

        def ended(databases: list[int], now_ms: int) -> list[Record]:
            records: list[Record] = flushed(databases, now_ms)
            for record in records:
                self.monitor.flushed(group, record.mid)
                self.counts["flushed"] += 1
            return records

        handoff.apply, handoff.flushed = applied, ended
        shadow.on_run = partial(self._runs, group)

    # -- what logs say -------------------------------------------------------------------------------------------------

    def _applied(self, group: int, argv: list[bytes], index: int, outcome: Outcome) -> None:
        verb, record = outcome.verb, outcome.record
        self.timeline.fold("handoff", group, verb, outcome.mid, outcome.done)
        self.monitor.item(group, index, argv, done=outcome.done)
        if not outcome.done:
            self.counts["without effect"] += 1
            return
        if verb in _COUNTED:
            self.counts[_COUNTED[verb]] += 1
        slots = [] if record is None else [slot for slot in SLOTS_USED if record.covers(slot)]
        if record is not None:
            self._judge_content(group, verb, record, slots)
            self._judge_epochs(group, verb, record)
        self._follow(group, slots)
        self._hidden(group, slots)
        if verb in _DECISIVE:
            broken = self.monitor.violations()
            if broken:
                raise Violation("S5", "; ".join(broken[:3]))
        if self.on_item is not None:
            self.on_item(group, verb, record)

    def content(self, group: int, slots: list[int]) -> Content:
        """Digests of what the group's databases hold of slots, deadlines included."""
        ks = self.shadows[group - 1].ks
        return {slot: [slot_digest(db, slot) for db in ks.dbs] for slot in slots}

    def _judge_content(self, group: int, verb: bytes, record: Record, slots: list[int]) -> None:
        if verb == entries.FENCE:
            self._fenced[record.mid] = self.content(group, slots)
        elif verb == entries.FORCE_ABORT:
            self.forced.update(dict.fromkeys(record.slots()))
        elif verb == entries.ACTIVATE:
            there = self._fenced.get(record.mid)
            if there is None:
                raise Violation("S4", f"group {group} activates {record.mid[:8]!r}, which no log has fenced")
            here = self.content(group, slots)
            differ = [slot for slot in slots if here[slot] != there[slot] and slot not in self.forced]
            if differ:
                raise Violation(
                    "S4", f"group {group} takes slots {differ} over with other keys, values or deadlines than they had "
                    f"at their fence in group {record.peer}",
                )  # fmt: skip

    def _judge_epochs(self, group: int, verb: bytes, record: Record) -> None:
        if verb not in {entries.ACTIVATE, entries.FORCE_ABORT, entries.RELEASE}:
            return
        epochs = self.state(group).epochs
        for first, last, _ in record.runs:
            for slot in range(first, last + 1):
                if verb == entries.RELEASE:
                    if epochs[slot] != self.epochs[slot]:
                        raise Violation(
                            "S2", f"group {group} gives slot {slot} away at epoch {epochs[slot]}; it was taken over at "
                            f"{self.epochs[slot]}",
                        )  # fmt: skip
                    continue
                if epochs[slot] <= self.epochs[slot] and not (verb == entries.ACTIVATE and slot in self.forced):
                    raise Violation(
                        "S2", f"slot {slot} went from epoch {self.epochs[slot]} to {epochs[slot]} in group {group}"
                    )
                if epochs[slot] > self.epochs[slot]:
                    self.owners[slot], self.epochs[slot] = group, epochs[slot]

    def _follow(self, group: int, slots: list[int]) -> None:
        """Note who serves since when."""
        now_ns = self.timeline.now_ns
        own = self.state(group).own
        for slot in slots:
            # What the group is to the slot decides, not what it does.
            serves = own[slot] in {OWNED, EXPORTING}
            known = self.serving[slot]
            mine = next((one for one in known if one.group == group and one.to_ns is None), None)
            if serves and mine is None:
                others = [one.group for one in known if one.to_ns is None]
                if others and slot not in self.forced:
                    raise Violation("S1", f"group {group} serves slot {slot} while group {others[0]} does")
                known.append(Interval(group, now_ns))
            elif not serves and mine is not None:
                mine.to_ns = now_ns

    def _hidden(self, group: int, slots: list[int]) -> None:
        own, ks = self.state(group).own, self.shadows[group - 1].ks
        for slot in slots:
            if own[slot] in {NONE, IMPORTING} and any(db.slots[slot] for db in ks.dbs):
                raise Violation("SH", f"group {group} shows keys of slot {slot}, which is not its own")

    def _runs(self, group: int, keys: list[bytes]) -> None:
        """The group's log runs a command on these keys."""
        for key in keys:
            slot = slot_of(key)
            assert slot in self.serving, f"key {key!r} has none of the tags"
            if slot in self.forced:
                continue
            if not any(one.group == group and one.to_ns is None for one in self.serving[slot]):
                raise Violation("S1", f"group {group} runs a command on {key!r} of slot {slot}, which is not its own")

    # -- what clients see ----------------------------------------------------------------------------------------------

    def answered(self, group: int, slot: int, asked_ns: int) -> None:
        """A client that asked at that time gets an answer about the slot now. Raises Violation S3."""
        if slot in self.forced:
            return
        for one in self.serving[slot]:
            if one.group == group and (one.to_ns is None or one.to_ns >= asked_ns):
                return
        raise Violation("S3", f"group {group} answers about slot {slot}, which it did not serve since it was asked")

    def arrived(self, slot: int, hops: int) -> None:
        """In a healthy cluster a request found its slot after so many redirections. Raises Violation S6."""
        if hops > _HOPS_MAX:
            raise Violation("S6", f"it took {hops} redirections to find slot {slot}")

    # -- the end -------------------------------------------------------------------------------------------------------

    def ongoing(self) -> str:
        """Migrations that need something yet, in words; empty when there are none."""
        found = []
        for group in self.groups.numbers():
            for record in self.state(group).records.values():
                side = "into" if record.role == IMPORT else "out of"
                found.append(f"{record.mid[:8].decode()} {side} group {group}, phase {record.phase}")
        return "; ".join(found)

    def judge_cover(self) -> None:
        """Every slot is claimed by its owner by decision and by nobody else. Raises Violation S5."""
        states = [(group, self.state(group)) for group in self.groups.numbers()]
        for slot in range(SLOTS):
            claims = [group for group, state in states if state.own[slot] not in {NONE, IMPORTING}]
            if claims != [self.owners[slot]]:
                raise Violation("S5", f"slot {slot} is claimed by groups {claims} and is group {self.owners[slot]}'s")
        for slot in SLOTS_USED:
            self._hidden_everywhere(slot)

    def _hidden_everywhere(self, slot: int) -> None:
        for group in self.groups.numbers():
            self._hidden(group, [slot])

    def fenced(self) -> list[tuple[int, Record]]:
        """(group, record) of every export that is fenced."""
        found = []
        for group in self.groups.numbers():
            found += [(group, one) for one in self.state(group).records.values() if one.phase == FENCED]
        return found
