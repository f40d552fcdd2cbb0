"""What must hold over the committed logs of all groups together, whatever happened on the way.

A monitor is fed every handoff item as each group applies it, and says afterwards which promise was broken: one owner
for a slot and epoch, one decision for a migration, no activation without a fence, no way out of one without a decision.
Rule: judges from the logs alone and shares no code with what it judges but the decoding of items.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.handoff import entries
from durakv.cluster.handoff.entries import Item, Runs

_ACTIVATED: Final = "activated"
_ABORTED: Final = "aborted"


class Effect:
    """An item that took effect: where, at which index of that group's log."""

    __slots__ = ("group", "index", "item")

    def __init__(self, group: int, index: int, item: Item) -> None:
        self.group = group
        self.index = index
        self.item = item


class Migration:
    """All effects on one migration, of both groups, each log in its order."""

    __slots__ = ("begun", "decisions", "ends", "fences", "forced", "mid")

    def __init__(self, mid: bytes) -> None:
        self.mid = mid
        self.begun: Effect | None = None
        self.fences: list[Effect] = []
        # UNFENCE, RELEASE, EXPORT_CANCEL, FORCE_ABORT.
        self.ends: list[Effect] = []
        # ACTIVATE and ABORT with their groups; a flush at the target aborts without an item.
        self.decisions: list[tuple[str, int, Effect | None]] = []
        self.forced = False

    def decided(self, how: str) -> bool:
        """Whether the target's log decided so."""
        return any(decision == how for decision, _, _ in self.decisions)


class Monitor:
    """``owned``: what each group owned at the beginning."""

    def __init__(self, owned: dict[int, Runs]) -> None:
        self.migrations: dict[bytes, Migration] = {}
        self._last_index: dict[int, int] = {}
        self._owners: dict[tuple[int, int], int] = {}
        self._found: list[str] = []
        for group, runs in owned.items():
            for run in runs:
                self._own(group, run, 0, "at the beginning")

    def item(self, group: int, index: int, argv: list[bytes], *, done: bool) -> None:
        """A group applied an item; each group's in log order, several of one index one after the other."""
        if index < self._last_index.get(group, 0):
            self._found.append(f"group {group} applied index {index} after {self._last_index[group]}")
        self._last_index[group] = index
        if not done:
            return
        item = entries.decode(argv)
        migration = self._migration(item.mid)
        effect = Effect(group, index, item)
        verb = item.verb
        if verb == entries.EXPORT_BEGIN:
            if migration.begun is not None:
                self._broken(migration, "was begun twice")
            migration.begun = effect
            for first, last, epoch in item.runs:
                for slot in range(first, last + 1):
                    if self._owners.get((slot, epoch)) != group:
                        self._broken(migration, f"exports slot {slot} of epoch {epoch}, never group {group}'s")
        elif verb == entries.FENCE:
            migration.fences.append(effect)
        elif verb in {entries.UNFENCE, entries.RELEASE, entries.EXPORT_CANCEL, entries.FORCE_ABORT}:
            migration.ends.append(effect)
            if verb == entries.FORCE_ABORT:
                self._forced(migration, group)
        elif verb == entries.ACTIVATE:
            migration.decisions.append((_ACTIVATED, group, effect))
            self._activated(migration, group)
        elif verb == entries.ABORT:
            migration.decisions.append((_ABORTED, group, effect))

    def flushed(self, group: int, mid: bytes) -> None:
        """A flush ended an import of the group."""
        self._migration(mid).decisions.append((_ABORTED, group, None))

    # -- the verdict ------------------------------------------------------------------------------------------------

    def violations(self) -> list[str]:
        """Every broken promise, as text; all logs must have been fed up to some moment."""
        out = list(self._found)
        for migration in self.migrations.values():
            out += [f"migration {migration.mid[:8].decode()} {text}" for text in _broken_promises(migration)]
        return out

    def owner(self, slot: int) -> tuple[int, int]:
        """(group, epoch) of the slot's owner by the decisions so far, (0, -1) when nobody ever owned it."""
        best = (0, -1)
        for (at, epoch), group in self._owners.items():
            if at == slot and epoch > best[1]:
                best = (group, epoch)
        return best

    def cover(self, claims: dict[int, list[int]]) -> list[str]:
        """Judge what groups claim to own in the end, by slot: exactly the owner by decision, and nobody else."""
        out: list[str] = []
        for slot in sorted({slot for slot, _ in self._owners}):
            owner = self.owner(slot)[0]
            if claims.get(slot, []) != [owner]:
                out.append(f"slot {slot} is claimed by groups {claims.get(slot, [])} and is group {owner}'s")
        return out

    # -- inside -----------------------------------------------------------------------------------------------------

    def _migration(self, mid: bytes) -> Migration:
        migration = self.migrations.get(mid)
        if migration is None:
            migration = Migration(mid)
            self.migrations[mid] = migration
        return migration

    def _activated(self, migration: Migration, group: int) -> None:
        if migration.begun is None:
            self._broken(migration, "was activated and never begun")
            return
        for run in migration.begun.item.runs:
            self._own(group, run, 1, "by an activation")

    def _forced(self, migration: Migration, group: int) -> None:
        migration.forced = True
        if migration.begun is not None:
            for run in migration.begun.item.runs:
                self._own(group, run, 2, "by force")

    def _own(self, group: int, run: tuple[int, int, int], up: int, how: str) -> None:
        first, last, epoch = run
        for slot in range(first, last + 1):
            other = self._owners.setdefault((slot, epoch + up), group)
            if other != group:
                self._found.append(
                    f"slot {slot} at epoch {epoch + up} is owned by group {other} and, {how}, by group {group}"
                )

    def _broken(self, migration: Migration, text: str) -> None:
        self._found.append(f"migration {migration.mid[:8].decode()} {text}")


def _broken_promises(migration: Migration) -> list[str]:
    out: list[str] = []
    decisions = migration.decisions
    # An abort may be repeated once its record is gone; it says the same.
    if len({how for how, _, _ in decisions}) > 1 or [how for how, _, _ in decisions].count(_ACTIVATED) > 1:
        out.append(f"was decided {len(decisions)} times: {[(how, group) for how, group, _ in decisions]}")
    begun = migration.begun
    for how, group, effect in decisions:
        if begun is not None and begun.item.peer != group:
            out.append(f"was decided by group {group} and went to {begun.item.peer}")
        if how == _ACTIVATED and effect is not None:
            fences = [fence for fence in migration.fences if fence.index == effect.item.f_index]
            if not fences:
                out.append(f"was activated for a fence at {effect.item.f_index} that never was")
            elif effect.item.session < fences[0].item.session:
                out.append("was activated in a session older than its fence's")
    if len(migration.fences) > 1:
        out.append("was fenced twice")
    if len(migration.ends) > 1:
        out.append("ended twice at its source")
    for end in migration.ends:
        verb = end.item.verb
        if verb == entries.UNFENCE and not migration.decided(_ABORTED):
            out.append("was unfenced and the target never aborted it")
        if verb == entries.RELEASE and not migration.decided(_ACTIVATED):
            out.append("was released and the target never activated it")
        if verb == entries.EXPORT_CANCEL and migration.decided(_ACTIVATED):
            out.append("was cancelled and the target activated it")
        if verb != entries.EXPORT_CANCEL and not migration.fences:
            out.append(f"left a fence that never was ({verb.decode()})")
    return out
