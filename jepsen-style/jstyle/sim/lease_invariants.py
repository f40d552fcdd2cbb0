"""The promises of lease mode, checked against the shadow and the config holder after every event.

Ids are those of the harness's design where it has one: L1 no two nodes would serve reads at one instant of true time,
and nobody relies on a promise that is over; L2 nobody would serve outside its own leases; L3 nobody serves before it
has waited out what it, or an earlier run of it, may have promised. The rest: R1 an epoch has one primary, R4 what was
acknowledged survives, R6 epochs only grow, R7 what is committed is durable on every in-sync member, and the rules of
the holder by their names. Rule: reads only, as invariants.py; clocks beyond the bound excuse L1 alone, and are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from durakv.app import App
from jstyle.sim.cluster import Cluster
from jstyle.sim.invariants import Invariants, Watch
from jstyle.sim.lease_holder_watch import HolderWatch, lease_node, member_of
from jstyle.sim.shadow import Shadow
from jstyle.sim.violation import Violation
from raft.primary_backup import leases
from raft.primary_backup.core import PrimaryBackup
from raft.primary_backup.messages import CasCall
from raft.primary_backup.node import Change, ChangeKind
from raft.primary_backup.types import ShardConfig
from raft.types import Role

# Of what a run's result counts.
OVERLAPS: Final = "overlaps"


class Office:
    """What else is kept of one machine: its running process's member's commit index, and the change seen last."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.holder_commit = -1
        self.change: Change | None = None
        self.reign = 0
        # By the node's own clock: when its process began.
        self.started_ns = 0
        self.served = False
        # By the same clock: when it was seen to stand still (-1: it does not), and when it went on after long.
        self.still_ns = -1
        self.woke_ns = -1


class LeaseInvariants(Invariants):
    """``counts``: what happened, for the result; ``holder`` is what is in force."""

    def __init__(self, cluster: Cluster, shadow: Shadow) -> None:
        super().__init__(cluster, shadow)
        self.holder = HolderWatch(self._in_force)
        self.offices = [Office(watch) for watch in self.watches]
        self._office_of = {office.watch.where: office for office in self.offices}
        # Epoch -> the run of a node that is its primary.
        self.runs: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
        # What PreparedSuperset was checked for last: (commit index, epoch).
        self._prepared = (0, 0)
        # What overlaps now, and did at the last look: an occasion is counted once.
        self._overlapping: dict[str, None] = {}
        self._overlapped: dict[str, None] = {}

    def check(self) -> bool:
        """See Invariants."""
        self._look_at_holder()
        super().check()
        self._check_prepared()
        self._check_offices()
        return False

    @staticmethod
    def lease_core(app: App) -> PrimaryBackup:
        """A node's core."""
        return lease_node(app).core

    # -- the holder ----------------------------------------------------------------------------------------------------

    def _look_at_holder(self) -> None:
        holder = self.holder
        for office in self.offices:
            watch = office.watch
            app = watch.machine.app
            if watch.app is not None and watch.app is not app:
                # It may have committed in the very event that ended it.
                holder.look(member_of(watch.app))
            if app is not None:
                member = member_of(app)
                if member.core.log.commit != office.holder_commit:
                    office.holder_commit = member.core.log.commit
                    holder.look(member)
                    holder.agrees(member)
        arbiter = self.cluster.arbiter
        if arbiter is not None and arbiter.member is not None:
            holder.look(arbiter.member)

    def _in_force(self, before: ShardConfig | None, now: ShardConfig) -> None:
        """Another configuration is in force. Raises Violation."""
        self.cluster.timeline.fold("epoch", now.epoch, now.primary, now.isr)
        self.counts["epochs"] += 1
        if before is None:
            return
        if now.epoch != before.epoch + 1 or now.forced_epoch != before.forced_epoch:
            raise Violation("HolderMonotone", f"{now!r} follows {before!r}")
        if now.primary != before.primary:
            self.counts["promotions"] += 1
            if now.primary not in before.isr:
                raise Violation("PromoteOnlyISR", f"{now!r} follows {before!r}")
        elif len(now.isr) < len(before.isr):
            self.counts["put out"] += 1
        elif len(now.isr) > len(before.isr):
            self.counts["taken in"] += 1
        else:
            self.counts["begun anew"] += 1

    def _check_prepared(self) -> None:
        """Everything committed is on the disks of all that may be promoted."""
        config, index = self.holder.config, self.shadow.commit
        if config is None or (index, config.epoch) == self._prepared:
            return
        self._prepared = (index, config.epoch)
        term = self.shadow.terms[index]
        for node in config.isr:
            if not self.by_id[node].holds(index, term):
                raise Violation(
                    "R7", f"PreparedSuperset: {self.by_id[node].where} is in sync by {config!r} and lacks committed "
                    f"entry {index} of term {term}",
                )  # fmt: skip

    # -- one node moved ------------------------------------------------------------------------------------------------

    def _process_changed(self, watch: Watch, app: App | None) -> None:
        office = self._office_of[watch.where]
        if app is not None:
            assert watch.machine.clock is not None
            office.started_ns = watch.machine.clock.boot_ns
            office.holder_commit = -1
            office.change = None
            office.served = False
            office.still_ns = office.woke_ns = -1
        super()._process_changed(watch, app)

    def _same_reign(self, watch: Watch, app: App) -> bool:
        return self._office_of[watch.where].reign == self.lease_core(app).reign_term

    def _moved(self, watch: Watch, app: App) -> None:
        super()._moved(watch, app)
        core = self.lease_core(app)
        self._office_of[watch.where].reign = core.reign_term
        if core.term > max(self.holder.epoch, 1):
            raise Violation("R1", f"{watch.where} knows epoch {core.term} before the holder, at {self.holder.epoch}")

    def _elected(self, watch: Watch, app: App) -> None:
        super()._elected(watch, app)
        core = self.lease_core(app)
        run = self.runs.setdefault(core.term, core.nonce)
        if run != core.nonce:
            raise Violation("NoResume", f"{watch.where} acts as primary in epoch {core.term} of an earlier run of it")

    def _check_own(self, watch: Watch, app: App, commit: int, term: int) -> None:
        core = self.lease_core(app)
        if core.role == Role.LEADER and term < core.reign_term:
            raise Violation("R8", f"{watch.where} reigns since {core.reign_term} and commits {commit} of term {term}")

    def _certify(self, watch: Watch, app: App, commit: int, term: int) -> None:
        """As many members as the shard demands hold it on their media; which ones, _check_prepared() says."""
        self.certificates += 1
        config = self.holder.config
        if config is None:
            # What the shard was founded with.
            return
        holders = [w.machine.node_id for w in self.watches if w.holds(commit, term)]
        if len(holders) < config.min_isr:
            raise Violation(
                "FailClosed", f"{watch.where} commits {commit} of term {term}, which is durable only on {holders}; "
                f"{config.min_isr} are demanded",
            )  # fmt: skip

    def _membership_appended(self, watch: Watch, app: App, index: int) -> None:
        if index != 1:
            raise Violation("R9", f"{watch.where} has a membership at {index}; in lease mode the holder keeps it")

    # -- who serves ----------------------------------------------------------------------------------------------------

    def _check_offices(self) -> None:
        serving: list[Office] = []
        self._overlapped, self._overlapping = self._overlapping, {}
        for office in self.offices:
            app, clock = office.watch.machine.app, office.watch.machine.clock
            if app is None or clock is None:
                continue
            core = self.lease_core(app)
            if clock.paused:
                office.still_ns = clock.monotonic_ns() if office.still_ns < 0 else office.still_ns
                continue
            if office.still_ns >= 0:
                if clock.monotonic_ns() - office.still_ns > core.config.pause_ns():
                    office.woke_ns = clock.monotonic_ns()
                office.still_ns = -1
            if core.role != Role.LEADER:
                office.served = False
                self._check_silence(office, core)
                continue
            self._check_sets(office, core)
            now_ns = lease_node(app).clock.monotonic_ns()
            if now_ns < core.now_ns:
                # It answers nobody before what it does now is done.
                continue
            if not would_serve(core, now_ns):
                office.served = False
                continue
            serving.append(office)
            self._check_window(office, core, now_ns)
        if len(serving) > 1:
            names = " and ".join(office.watch.where for office in serving)
            self._overlaps(f"{names} would serve reads at once")

    def _check_silence(self, office: Office, core: PrimaryBackup) -> None:
        """Who stood still itself waits as long as ever before it takes the others' silence for one."""
        change = core.change
        if change is None or change is office.change:
            return
        office.change = change
        if change.kind == ChangeKind.PROMOTE and core.relinquished_term != core.term and office.woke_ns >= 0:
            awake_ns = core.now_ns - office.woke_ns
            if awake_ns < core.config.grace_ns:
                raise Violation(
                    "PauseIsNotSilence", f"{office.watch.where} asks for office in epoch {core.term}, awake for "
                    f"{awake_ns // 1_000_000} ms after a pause",
                )  # fmt: skip

    def _overlaps(self, text: str) -> None:
        """What only clocks beyond the bound may cause. Raises Violation when they are not."""
        if not self.cluster.options.beyond_bound:
            raise Violation("L1", text)
        if text not in self._overlapped:
            self.counts[OVERLAPS] += 1
        self._overlapping[text] = None

    def _check_sets(self, office: Office, core: PrimaryBackup) -> None:
        """A primary counts everybody who may be in sync; an admission is asked for only when it is covered."""
        where, change, config = office.watch.where, core.change, self.holder.config
        effective = core.effective()
        if config is not None and config.primary == core.id and config.request.made_by(core.id, core.nonce):
            outside = [node for node in config.isr if node not in effective]
            if outside:
                raise Violation("EffectiveCovers", f"{where} counts {effective}; in force is {config!r}")
        if change is None or not isinstance(change.call, CasCall):
            office.change = None
            return
        asked = change.call.config
        outside = [node for node in (*core.isr, *asked.isr) if node not in effective]
        if outside:
            raise Violation("NoCommitWhileUnsure", f"{where} counts {effective} while it asks for {asked!r}")
        if change is office.change:
            return
        office.change = change
        index = core.log.commit
        for node in asked.isr:
            if node in core.isr or core.resigned:
                continue
            if index < core.noop_index or not self.by_id[node].holds(index, core.log.term(index)):
                raise Violation("AdmitCovered", f"{where} asks for {asked!r}; {node} lacks {index}, or it is not of it")

    def _check_window(self, office: Office, core: PrimaryBackup, now_ns: int) -> None:
        where, config = office.watch.where, core.config
        for node in core.effective():
            if node == core.id:
                continue
            peer = core.peers.get(node)
            sent_ns = 0 if peer is None else peer.progress.ack_sent_ns
            if not 0 < sent_ns <= now_ns < sent_ns + config.lease_ns:
                raise Violation("L2", f"{where} would serve in epoch {core.term} without a lease with {node}")
            self._check_promise(where, core, node)
        if not office.served:
            office.served = True
            self.counts["served"] += 1
            # A primary in office relinquishes only when its own promise is over, so nobody's may be open then.
            relieved = core.relinquished_term == core.reign_term - 1 > 0
            promised_ns = max(core.promised_ns, office.started_ns)
            if not relieved and now_ns < promised_ns + config.grace_ns:
                left_ms = (promised_ns + config.grace_ns - now_ns) // 1_000_000
                raise Violation("L3", f"{where} serves in epoch {core.term} {left_ms} ms before its promise is over")

    def _check_promise(self, where: str, core: PrimaryBackup, node: int) -> None:
        """Who relies on a promise does so while the other, by its own clock, still keeps it."""
        app = self.by_id[node].machine.app
        if app is None:
            return
        other, now_ns = self.lease_core(app), lease_node(app).clock.monotonic_ns()
        if now_ns < other.now_ns:
            # What it noted last is still to come.
            return
        if other.role == Role.LEADER or other.promise_over or now_ns >= other.promised_ns + other.config.grace_ns:
            self._overlaps(
                f"{where} would serve in epoch {core.term} relying on {self.by_id[node].where}, whose promise is over"
            )


def would_serve(core: PrimaryBackup, now_ns: int) -> bool:
    """Whether the node would answer a read if it came now, by the program's own judgement."""
    before, over = core.now_ns, core.promise_over
    core.now_ns = now_ns
    serving = leases.serving(core)
    core.now_ns, core.promise_over = before, over
    return serving


def serves(app: App) -> bool:
    """Whether a node takes reads and writes now."""
    node = lease_node(app)
    core = node.core
    return would_serve(core, node.clock.monotonic_ns()) and core.sure_size >= core.min_isr
