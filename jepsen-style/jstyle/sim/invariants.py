"""The promises of the protocol, checked against the shadow after every event in which a node may have moved.

Rule: reads only, and only what changed since the last look: a handful of comparisons per event and node when nothing
did. Ids are those of the harness's design: R1-R9 for the protocol, D4 for recovery; D1-D3 and P3 are the shadow's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.app import App
from jstyle.sim.cluster import Cluster
from jstyle.sim.machine import Machine
from jstyle.sim.probe import DurableState
from jstyle.sim.quorums import is_quorum, overlap
from jstyle.sim.shadow import DIGEST_STRIDE, Shadow
from jstyle.sim.violation import Violation
from jstyle.sim.witness_invariants import WitnessInvariants
from raft.types import Entry, EntryKind, Role

_ALL_BYTES: Final = 1 << 40


class Watch:
    """One machine as seen at the last look; the fields after ``app`` are those of its running core."""

    def __init__(self, machine: Machine, shadow: Shadow) -> None:
        self.machine = machine
        self.shadow = shadow
        self.where = machine.name
        self.durable = DurableState(self._found, shadow.terms)
        self.disk = machine.disk
        self.hard = (0, 0)
        self.app: App | None = None
        self.term = 0
        self.role: int = Role.FOLLOWER
        self.last = 0
        self.last_term = 0
        self.commit = 0
        self.applied = 0
        # What the last process knew to be durable: (index, term).
        self.claim = (0, 0)

    def _found(self, index: int, term: int, subterm: int, kind: int, data: bytes, before: int, chain: int) -> None:
        self.shadow.note_durable(f"the disk of {self.where}", index, term, subterm, kind, data, before, chain)

    def damaged(self) -> bool:
        """Whether the medium may differ from what was written, by the nemesis's hand."""
        faults = self.machine.disk.faults
        return faults is not None and faults.medium_damaged()

    def refresh(self) -> None:
        """Read what is newly durable. Raises Violation R3 or R6."""
        machine = self.machine
        if machine.disk is not self.disk:
            self.disk = machine.disk
            self.durable = DurableState(self._found, self.shadow.terms)
            self.hard = (0, 0)
            self.claim = (0, 0)
        image = machine.durable_image()
        host = machine.checkpoints
        if not self.durable.refresh(image, 0 if host is None else host.durable_end(image)):
            return
        term, vote = self.durable.hard
        if term < self.hard[0] or (term == self.hard[0] and self.hard[1] not in (0, vote)):
            raise Violation("R6", f"the disk of {self.where} went from (term, vote) {self.hard} to {(term, vote)}")
        self.hard = (term, vote)

    def holds(self, index: int, term: int) -> bool:
        """Whether its medium holds the entry, or did before the nemesis damaged it."""
        self.refresh()
        if self.durable.holds(index, term):
            return True
        if not self.damaged():
            return False
        self.update_claim()
        return self.claim[0] >= index

    def update_claim(self) -> None:
        """Ask the process, or what is left of the last one, what it had synced."""
        app = self.app
        if app is not None:
            log = app.driver.core.log
            durable = min(app.store.log.durable_index(), log.last)
            if log.pending_snapshot is not None:
                # It replaces what was promised before, and promises nothing until it is in place.
                self.claim = (0, 0)
            else:
                self.claim = (durable, log.term(durable) if durable else 0)


class Invariants:
    """``check`` after every event. ``leaders`` maps terms to leaders; ``elections`` counts them."""

    def __init__(self, cluster: Cluster, shadow: Shadow) -> None:
        self.cluster = cluster
        self.shadow = shadow
        self.leaders: dict[int, str] = {}
        self.watches = [Watch(machine, shadow) for machine in cluster.machines]
        self.by_id = {watch.machine.node_id: watch for watch in self.watches}
        self.witness: WitnessInvariants | None = None
        if cluster.witness is not None:
            self.witness = WitnessInvariants(cluster.witness, self.watches, shadow)
        self.digests_compared = 0
        self.certificates = 0
        self.recoveries = 0
        # How many full nodes must hold what a client was told is done.
        self.copies = int(cluster.options.directives.get("min-data-copies", "1"))
        if self.copies > 1:
            shadow.on_acknowledged = self.acknowledged
        # Told when a machine's process begins or ends.
        self.on_process: Callable[[Watch], None] | None = None
        # Told of each entry that a node has appended.
        self.on_entry: Callable[[Watch, Entry], None] | None = None

    @property
    def elections(self) -> int:
        """How many terms had a leader."""
        return len(self.leaders)

    def check(self) -> bool:
        """Look at every node that moved. Raises Violation. Always False, so that it can be a timeline's ``until``."""
        for watch in self.watches:
            app = watch.machine.app
            if app is not watch.app:
                self._process_changed(watch, app)
            if app is None:
                continue
            core = app.driver.core
            log = core.log
            if (
                log.last != watch.last
                or log.commit != watch.commit
                or core.term != watch.term
                or core.role != watch.role
                or log.last_term != watch.last_term
            ):
                self._moved(watch, app)
            applied = app.engine.applier.applied
            if applied != watch.applied:
                self._applied(watch, app, applied)
        if self.witness is not None:
            self.witness.check()
        return False

    def acknowledged(self, indexes: list[int]) -> None:
        """A client was told of a write, which one of these entries did. Raises Violation P2."""
        terms = self.shadow.terms
        held = [sum(watch.holds(index, terms[index]) for watch in self.watches) for index in indexes]
        if max(held, default=0) < self.copies:
            raise Violation("P2", f"entries {indexes} were acknowledged with {held} copies; {self.copies} are promised")

    # -- processes -----------------------------------------------------------------------------------------------------

    def _process_changed(self, watch: Watch, app: App | None) -> None:
        """The process ended or began: what it had proved durable must be there, and what is there must be a prefix."""
        if watch.app is not None and watch.app.driver.core.log.commit != watch.commit:
            # It committed, and may have answered, in the very event that ended it.
            self._moved(watch, watch.app)
        watch.refresh()
        if watch.machine.disk is watch.disk:
            watch.update_claim()
        index, term = watch.claim
        if not watch.damaged() and not watch.durable.holds(index, term):
            raise Violation(
                "D4", f"{watch.where} had synced entry {index} of term {term}; its disk now ends at "
                f"{watch.durable.last}",
            )  # fmt: skip
        watch.app = app
        watch.applied = 0
        if app is not None:
            core = app.driver.core
            self.recoveries += 1
            watch.term, watch.role = watch.hard[0], Role.FOLLOWER
            watch.last, watch.last_term = watch.durable.last, watch.durable.last_term
            watch.commit = 0
            if core.log.last < watch.durable.last and not watch.damaged():
                raise Violation(
                    "D4", f"{watch.where} recovered {core.log.last} entries; its disk holds {watch.durable.last}"
                )
            self._moved(watch, app)
        if self.on_process is not None:
            self.on_process(watch)

    # -- one node moved ------------------------------------------------------------------------------------------------

    def _moved(self, watch: Watch, app: App) -> None:
        core = app.driver.core
        log = core.log
        if core.term < watch.term:
            raise Violation("R6", f"{watch.where} went from term {watch.term} to {core.term}")
        led = watch.role == Role.LEADER and core.role == Role.LEADER and self._same_reign(watch, app)
        if (log.last, log.last_term) != (watch.last, watch.last_term):
            self._log_changed(watch, app, led=led)
        if core.role == Role.LEADER and (not led or watch.term != core.term):
            self._elected(watch, app)
        if log.commit != watch.commit:
            if self.witness is not None:
                self.witness.before_commit(watch)
            self._committed(watch, app, led=led)
        watch.term, watch.role, watch.commit = core.term, core.role, log.commit
        watch.last, watch.last_term = log.last, log.last_term

    def _same_reign(self, watch: Watch, app: App) -> bool:
        """Whether a node that leads, and led at the last look, has done so without a break."""
        return watch.term == app.driver.core.term

    def _log_changed(self, watch: Watch, app: App, *, led: bool) -> None:
        log = app.driver.core.log
        start = watch.last + 1
        if not log.matches(watch.last, watch.last_term):
            if led:
                raise Violation("R2", f"{watch.where} leads term {watch.term} and lost entry {watch.last} of its log")
            start = min(watch.commit, self.shadow.commit, watch.last, log.last) + 1
        # What a checkpoint or a snapshot stands in for is committed, and judged as state.
        start = max(start, log.first_index())
        if start > log.last:
            return
        before = log.term(start - 1)
        if start < log.offset:
            # On disk already, where the durable state has read and judged it.
            watch.refresh()
            start, before = log.offset, log.term(log.offset - 1)
            if start > log.last:
                return
        for entry in log.entries(start, log.last + 1, _ALL_BYTES):
            known = self.shadow.note(
                watch.where, entry.index, entry.term, entry.subterm, entry.kind, entry.data, before
            )
            if entry.term == before and known.subterm < self.shadow.entries[entry.index - 1, before].subterm:
                raise Violation("W3", f"{watch.where} holds entry {entry.index} of a lower subterm than the one before")
            if entry.kind == EntryKind.CONFIG:
                self._membership_appended(watch, app, entry.index)
            if self.on_entry is not None:
                self.on_entry(watch, entry)
            before = entry.term

    def _elected(self, watch: Watch, app: App) -> None:
        core = app.driver.core
        other = self.leaders.setdefault(core.term, watch.where)
        if other != watch.where:
            raise Violation("R1", f"{other} and {watch.where} both lead term {core.term}")
        self.cluster.timeline.fold("leader", watch.where, core.term)
        index = self.shadow.last_committed_before(core.term)
        if index >= core.log.first_index() and not core.log.matches(index, self.shadow.terms[index]):
            raise Violation(
                "R4", f"{watch.where} leads term {core.term} without committed entry {index} of term "
                f"{self.shadow.terms[index]}",
            )  # fmt: skip

    def _committed(self, watch: Watch, app: App, *, led: bool) -> None:
        core = app.driver.core
        log, shadow = core.log, self.shadow
        commit = log.commit
        if commit < watch.commit:
            raise Violation("R5", f"the commit index of {watch.where} fell from {watch.commit} to {commit}")
        if commit < log.first_index() - 1:
            # A checkpoint of lease mode stands in for more than its node has heard to be committed.
            return
        term = log.term(commit)
        if led:
            self._check_own(watch, app, commit, term)
        if commit <= shadow.commit:
            if shadow.terms[commit] != term:
                raise Violation(
                    "R5", f"{watch.where} commits {commit} of term {term}, committed there is term "
                    f"{shadow.terms[commit]}",
                )  # fmt: skip
            return
        self._certify(watch, app, commit, term)
        shadow.commit_to(watch.where, commit, term, core.term)

    def _check_own(self, watch: Watch, app: App, commit: int, term: int) -> None:
        """A leader counts copies of its own term's entries only."""
        core = app.driver.core
        if term != core.term:
            raise Violation("R8", f"{watch.where} leads term {core.term} and commits {commit} of term {term} by count")

    def _certify(self, watch: Watch, app: App, commit: int, term: int) -> None:
        """Some membership in force has a quorum whose media hold the entry now. In force at a leader is the newest of
        its log, or was when this event began; a follower may have heard of a commit under any it knows.
        """
        core = app.node.core
        holders = [w.machine.node_id for w in self.watches if w.holds(commit, term)]
        memberships = [membership for at, membership in core.conf if at <= core.log.last]
        if core.role == Role.LEADER:
            former = sum(at <= watch.last for at, _ in core.conf)
            memberships = memberships[max(former - 1, 0) :]
        self.certificates += 1
        witness = self.witness
        if not any(
            is_quorum(one, holders) or (witness is not None and witness.vouches(commit, term, one, holders))
            for one in memberships
        ):
            raise Violation(
                "R7", f"{watch.where} commits {commit} of term {term}, which is durable only on {holders} of "
                f"{memberships[-1]!r}",
            )  # fmt: skip

    def _membership_appended(self, watch: Watch, app: App, index: int) -> None:
        core = app.node.core
        if core.role == Role.LEADER:
            open_changes = [at for at, _ in core.conf if at > core.log.commit]
            if len(open_changes) > 1:
                raise Violation("R9", f"{watch.where} has uncommitted memberships at {open_changes}")
        pair = [membership for at, membership in core.conf if at <= index][-2:]
        if len(pair) == 2 and not overlap(pair[0], pair[1]):
            raise Violation("R9", f"quorums of {pair[0]!r} and {pair[1]!r} need not meet")

    # -- state ---------------------------------------------------------------------------------------------------------

    def _applied(self, watch: Watch, app: App, applied: int) -> None:
        watch.applied = applied
        if applied > self.shadow.commit:
            raise Violation("R5", f"{watch.where} applied {applied}; only {self.shadow.commit} is committed")
        if applied % DIGEST_STRIDE == 0 and applied:
            self.compare_state(watch, app)

    def compare_state(self, watch: Watch, app: App) -> None:
        """The node's state is the shadow's at that index, where the shadow kept a digest. Raises Violation R5."""
        applied = app.engine.applier.applied
        expected = self.shadow.digests.get(applied)
        if expected is None:
            return
        self.digests_compared += 1
        if self.shadow.digest_of(app.engine.ks) != expected:
            raise Violation("R5", f"{watch.where} holds another state at index {applied} than the log gives")
