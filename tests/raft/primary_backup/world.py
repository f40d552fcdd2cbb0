"""Data nodes and a config holder in one process, in real time that nobody can read: every node has a clock of its own.

Every message passes the codec, every disk write takes time, and the invariants are checked after every step. Events
happen in order of real time; what is random about them comes from one Dice. The episode decides which faults happen."""

import heapq
from collections import deque
from typing import Any

from raft import HardState
from raft.primary_backup import (
    HolderAnswer,
    HolderCall,
    Outcome,
    PrimaryBackup,
    Reason,
    Refused,
    Register,
    RegisterClock,
    Settings,
    ShardConfig,
    codec,
    leases,
)
from raft.primary_backup.invariants import Invariants, InvariantViolation
from raft.primary_backup.messages import CasCall, CreateCall
from raft.types import Entry, EntryKind, Membership, Role
from tests.raft.cluster import App, Dice, Image

MS = 1_000_000
HOLDER = 0


class Clock:
    """Local time: runs at `rate` permille of real time, and may be stepped; `raw` never is."""

    def __init__(self, local_ns: int, rate: int) -> None:
        self.base_ns = 0
        self.local_ns = local_ns
        self.raw_ns = local_ns
        self.rate = rate

    def read(self, now_ns: int) -> int:
        return self.local_ns + (now_ns - self.base_ns) * self.rate // 1000

    def raw(self, now_ns: int) -> int:
        return self.raw_ns + (now_ns - self.base_ns) * self.rate // 1000

    def change(self, now_ns: int, rate: int, step_ns: int = 0) -> None:
        self.local_ns, self.raw_ns = self.read(now_ns) + step_ns, self.raw(now_ns)
        self.base_ns = now_ns
        self.rate = rate


class Site:
    """One data node's machine: `written` is what storage shows, `durable` what a crash leaves."""

    def __init__(self, node: int, clock: Clock) -> None:
        self.node = node
        self.clock = clock
        self.written = Image()
        self.durable = Image()
        self.pending: deque = deque()
        self.core: PrimaryBackup | None = None
        self.app = App()
        self.boots = 0
        self.paused_until_ns = 0
        self.inbox: list = []
        # Local time of the end of the last pause, for the rule that a pause is not silence.
        self.woke_ns = -1
        self.stepped = False
        self.stuck = False
        self.disk_ns = 2 * MS
        self.mine: dict[int, bytes] = {}
        # The number of the newest change the running core asked for.
        self.wish = 0


class World:
    """See the module text."""

    def __init__(self, seed: int, nodes=(1, 2, 3), min_isr: int = 1, rates=None, **settings) -> None:
        self.dice = Dice(seed)
        self.nodes = tuple(nodes)
        self.settings = {
            "tick_ns": 100 * MS, "beacon_ns": 250 * MS, "holder_timeout_ns": 300 * MS, "stuck_after_ns": 600 * MS,
            "evict_after_ns": 1200 * MS, "admit_timeout_ns": 1500 * MS, "hold_ns": 800 * MS,
            "snapshot_chunk_bytes": 64, **settings,
        }  # fmt: skip
        self.now_ns = 0
        self.events: list = []
        self.seq = 0
        self.sites: dict[int, Site] = {}
        self.cut: set[tuple[int, int]] = set()
        self.loss = 0
        self.duplicate = 0
        self.stragglers = True
        self.delay_ns = 10 * MS
        # Links that are slow, by how much at most.
        self.slow: dict[tuple[int, int], int] = {}
        self.visible = 0
        self.served = 0
        self.acked: dict[int, bytes] = {}
        self.violations: list[str] = []
        self.raising = True
        self.digests: dict[int, int] = {}
        self.losses: list = []
        self.finished: list = []
        self.trace = 0
        self.steps = 0

        self.register = Register()
        self.holder_up = True
        self.holder_clock = Clock(5_000 * MS, 1000)
        self.stamps = RegisterClock()
        self.stamps.begin(0, self.holder_clock.read(0))
        founded = ShardConfig(1, 1, self.nodes[0], self.nodes, min_isr=min_isr)
        call = CreateCall(1, 1, founded.request, founded)
        assert codec.decode_answer(self.register.apply(codec.encode_call(call), 0)).outcome == Outcome.OK
        self.invariants = Invariants(founded)
        entry = Entry(1, 1, 0, EntryKind.CONFIG, Membership(self.nodes).encode())
        self.invariants.note_founded(entry)
        for node in self.nodes:
            rate = 1000 if rates is None else rates[node]
            site = self.sites[node] = Site(node, Clock((10**6 + self.dice.below(10**6)) * MS, rate))
            for image in (site.written, site.durable):
                image.log.append([entry])
                image.hard_state = HardState(1, 0, 1)
            self.start(node)

    # Time

    def at(self, delay_ns: int, do, *args) -> None:
        self.seq += 1
        heapq.heappush(self.events, (self.now_ns + delay_ns, self.seq, do, args))

    def run(self, duration_ns: int, until=None) -> bool:
        """Let that much real time pass; True as soon as `until` holds."""
        end_ns = self.now_ns + duration_ns
        while self.events and self.events[0][0] <= end_ns:
            self.now_ns, _, do, args = heapq.heappop(self.events)
            self.steps += 1
            do(*args)
            self.check_serving()
            if until is not None and until():
                return True
        self.now_ns = end_ns
        return until is not None and until()

    def local(self, site: Site) -> int:
        return site.clock.read(self.now_ns)

    # Life of a node

    def start(self, node: int) -> None:
        site = self.sites[node]
        site.boots += 1
        site.written = site.durable.copy()
        self.invariants.note_disk(node, site.durable.log)
        meta = site.durable.log.snapshot_meta()
        site.app = App()
        if meta is not None:
            site.app = App.load(site.durable.log.snapshot_chunk(meta.id, 0, 1 << 30))
        dice = Dice(self.dice.below(1 << 30) * 64 + node)
        site.core = PrimaryBackup(
            Settings(node, **self.settings), site.written.log, dice, site.durable.hard_state, applied=site.app.index
        )
        site.core.log.trim_entries = 1
        site.core.applied_to(site.app.index)
        site.mine = {}
        site.wish = 0
        site.inbox = []
        site.paused_until_ns = 0
        # A node that starts was not awake before.
        site.woke_ns = self.local(site)
        self.invariants.note_started(site.core)
        self.at(self.dice.below(50 * MS), self.tick, node, site.boots)

    def crash(self, node: int, survive: int = 0, torn: bool = False) -> None:
        """Power off; `survive` pending writes reached the disk though nobody was told, and the next one in part."""
        site = self.sites[node]
        if site.core is None:
            return
        for _ in range(min(survive, len(site.pending))):
            site.durable.write(site.pending.popleft())
        if torn and site.pending:
            rd = site.pending[0]
            if rd.snapshot is None and not rd.snapshot_chunks:
                if self.dice.chance(50):
                    site.durable.log.append(rd.entries[: self.dice.below(len(rd.entries) + 1)])
                elif rd.hard_state is not None:
                    site.durable.hard_state = rd.hard_state
        site.pending.clear()
        site.core = None

    def pause(self, node: int, duration_ns: int) -> None:
        site = self.sites[node]
        if site.core is None or site.paused_until_ns:
            return
        site.paused_until_ns = self.now_ns + duration_ns
        self.at(duration_ns, self.wake, node, site.boots)

    def wake(self, node: int, boots: int) -> None:
        site = self.sites[node]
        if site.boots != boots or site.core is None:
            return
        local_ns = self.local(site)
        if site.paused_until_ns:
            site.paused_until_ns = 0
            if local_ns - site.core.now_ns > site.core.config.pause_ns():
                site.woke_ns = local_ns
            inbox, site.inbox = site.inbox, []
            # A timer may well be served before the sockets.
            if self.dice.chance(50):
                self.turn(site)
                site.core.tick(local_ns, site.clock.raw(self.now_ns))
                self.pump(site)
            for do, args in inbox:
                do(*args)

    def asleep(self, site: Site, do, *args) -> bool:
        """Whether the node is paused; then the event waits."""
        if not site.paused_until_ns:
            return False
        site.inbox.append((do, args))
        return True

    def turn(self, site: Site) -> int:
        """The first act of a turn of the loop."""
        local_ns = self.local(site)
        assert site.core is not None
        site.core.begin_turn(local_ns, site.clock.raw(self.now_ns))
        site.stepped = False
        return local_ns

    def tick(self, node: int, boots: int) -> None:
        site = self.sites[node]
        if site.boots != boots or site.core is None or self.asleep(site, self.tick, node, boots):
            return
        local_ns = self.turn(site)
        if not site.stuck:
            site.core.executor_ticked(local_ns)
        site.core.tick(local_ns, site.clock.raw(self.now_ns))
        self.pump(site)
        every_ns = self.settings["tick_ns"] * 1000 // site.clock.rate
        self.at(every_ns * 9 // 10 + self.dice.below(every_ns // 10), self.tick, node, boots)

    # Doing what a core asks for

    def pump(self, site: Site) -> None:
        core = site.core
        assert core is not None
        self.invariants.check(core)
        while core.has_ready():
            self.take(site, core)

    def take(self, site: Site, core: PrimaryBackup) -> None:
        rd: Any = core.ready()
        persist = bool(rd.entries or rd.hard_state or rd.snapshot or rd.snapshot_chunks)
        site.written.write(rd)
        for m in rd.messages:
            self.post(site, m)
        for call in rd.calls:
            self.call(site, core, call)
        if persist or rd.after_persist:
            site.pending.append(rd)
            self.at(site.disk_ns // 2 + self.dice.below(site.disk_ns), self.fsync, site.node, site.boots)
        if rd.snapshot is not None:
            site.app = App.load(site.written.log.snapshot_chunk(rd.snapshot.id, 0, 1 << 30))
            core.applied_to(rd.snapshot.index)
        if rd.soft_state is not None and rd.soft_state.role != Role.LEADER:
            site.mine = {}
        for entry in rd.committed_entries:
            self.apply(site, core, entry)
        if rd.committed_entries:
            core.applied_to(rd.committed_entries[-1].index)
        for ctx, index in rd.read_states:
            if index > site.app.index:
                raise InvariantViolation(f"read {ctx!r} at {index} released before it was given out to apply")
            self.read_answered(site, ctx)
        self.finished.extend(rd.finished)
        if rd.force_loss is not None:
            self.losses.append(rd.force_loss)
        self.invariants.check(core)

    def apply(self, site: Site, core: PrimaryBackup, entry) -> None:
        site.app.apply(entry.index, entry.kind, entry.data)
        forced_epoch = self.invariants.holder.forced_epoch
        # A node that was given up goes on in its own history until it has compared logs with the new primary.
        if core.log.term(core.log.commit) >= forced_epoch and not core.rebuild_for:
            other = self.digests.setdefault(entry.index, site.app.digest)
            if other != site.app.digest:
                raise InvariantViolation(f"StateMachineSafety: node {site.node} differs after {entry.index}")
        if site.mine.pop(entry.index, None) is not None:
            self.invariants.note_acknowledged(entry.index)
            self.acked[entry.index] = entry.data
            self.visible = max(self.visible, entry.index)
            self.trace = (self.trace * 31 + entry.index + self.now_ns) % (1 << 61)

    def fsync(self, node: int, boots: int) -> None:
        """The oldest pending write becomes durable and what waited for it goes out."""
        site = self.sites[node]
        if site.boots != boots or site.core is None or self.asleep(site, self.fsync, node, boots):
            return
        rd = site.pending.popleft()
        site.durable.write(rd)
        local_ns = self.turn(site)
        for m in rd.after_persist:
            if m.to == node:
                site.core.step(m, local_ns)
            else:
                self.post(site, m)
        self.pump(site)

    # The network

    def post(self, site: Site, m) -> None:
        self.invariants.note_sent(m, site.durable.log, site.durable.hard_state)
        data = codec.encode(m)
        self.transmit(site.node, m.to, self.deliver, m.to, data)

    def transmit(self, from_: int, to: int, do, *args) -> None:
        dice = self.dice
        if (from_, to) in self.cut:
            return
        times = 1
        if self.loss and dice.below(1000) < self.loss:
            times = 0
        elif self.duplicate and dice.below(1000) < self.duplicate:
            times = 2
        for _ in range(times):
            delay_ns = 1 * MS + dice.below(self.delay_ns)
            slow_ns = self.slow.get((from_, to), 0)
            if slow_ns:
                delay_ns += slow_ns // 2 + dice.below(slow_ns // 2)
            if self.stragglers and dice.chance(2):
                delay_ns += dice.below(100 * self.delay_ns)
            self.at(delay_ns, do, *args)

    def deliver(self, to: int, data: bytes) -> None:
        site = self.sites[to]
        if site.core is None or self.asleep(site, self.deliver, to, data):
            return
        m = codec.decode(data)
        if (m.from_, to) in self.cut:
            return
        local_ns = self.turn(site)
        site.core.step(m, local_ns)
        self.pump(site)

    # The holder

    def call(self, site: Site, core: PrimaryBackup, call: HolderCall) -> None:
        self.invariants.note_call(core, call)
        # A wish that was made before the pause is only repeated.
        first = call.request.number > site.wish
        site.wish = max(site.wish, call.request.number)
        takes_over = isinstance(call, CasCall) and call.config.primary == site.node != self.primary_before(call)
        if first and isinstance(call, CasCall) and takes_over:
            grace_ns = core.config.grace_ns
            relinquished = core.relinquished_term == call.config.epoch - 1
            if not relinquished and core.now_ns - site.woke_ns < grace_ns:
                raise InvariantViolation(f"PauseIsNotSilence: node {site.node} takes over after its own pause")
        data = codec.encode_call(call)
        if (site.node, HOLDER) in self.cut and self.dice.chance(30):
            answer = HolderAnswer(call.call_id, Outcome.REFUSED, Reason.NOT_SENT, None)
            self.at(1 * MS, self.answered, site.node, site.boots, codec.encode_answer(answer))
            return
        self.transmit(site.node, HOLDER, self.holder_takes, site.node, site.boots, data)

    def primary_before(self, call: CasCall) -> int:
        core = self.sites[call.request.node].core
        assert core is not None
        assert core.known is not None
        return core.known.primary

    def holder_takes(self, node: int, boots: int, data: bytes) -> None:
        if not self.holder_up or (node, HOLDER) in self.cut:
            if self.dice.chance(20):
                unknown = HolderAnswer(codec.decode_call(data).call_id, Outcome.UNKNOWN, Reason.NONE, None)
                self.at(5 * MS, self.answered, node, boots, codec.encode_answer(unknown))
            return
        now_ns = self.stamps.stamp(self.holder_clock.read(self.now_ns))
        answer = self.register.apply(data, now_ns)
        config = self.register.shard(1)
        assert config is not None
        if config.forced_epoch > self.invariants.holder.forced_epoch:
            self.forced_now()
        self.invariants.note_holder(config)
        if self.invariants.forces:
            self.visible = min(self.visible, self.invariants.committed_max)
        self.transmit(HOLDER, node, self.answered, node, boots, answer)

    def forced_now(self) -> None:
        """A forced promotion: what clients were told before no longer binds."""
        self.acked = {}
        self.digests = {}
        self.visible = 0

    def holder_restart(self) -> None:
        """The holder's group elects another member, with a clock of its own."""
        self.register = Register.from_bytes(self.register.to_bytes())
        self.holder_clock = Clock(self.dice.below(10**6) * MS, self.holder_clock.rate)
        self.holder_clock.base_ns = self.now_ns
        self.stamps = RegisterClock()
        self.stamps.begin(self.register.last_ns, self.holder_clock.read(self.now_ns))
        self.holder_up = True

    def answered(self, node: int, boots: int, data: bytes) -> None:
        site = self.sites[node]
        # An answer to an earlier run cannot reach this one: its call ids are others, but let it try.
        if site.core is None or self.asleep(site, self.answered, node, boots, data):
            return
        local_ns = self.turn(site)
        site.core.answer(codec.decode_answer(data), local_ns)
        self.pump(site)

    # Clients

    def write(self, node: int) -> bool:
        """A client writes at this node; True if it was taken."""
        site = self.sites[node]
        core = site.core
        if core is None or site.paused_until_ns or core.role != Role.LEADER:
            return False
        local_ns = self.turn(site)
        data = b"%d" % self.dice.below(1 << 40)
        try:
            index = core.propose(data, local_ns)
        except Refused:
            self.pump(site)
            return False
        site.mine[index] = data
        self.invariants.note_admitted(core)
        self.pump(site)
        return True

    def read(self, node: int) -> None:
        """A client reads at this node, at once if it may and otherwise when it may."""
        site = self.sites[node]
        core = site.core
        if core is None or site.paused_until_ns or core.role != Role.LEADER:
            return
        local_ns = self.turn(site)
        if core.lease_valid(local_ns) and core.log.applied >= core.noop_index:
            self.read_answered(site, self.visible)
        elif core.role == Role.LEADER:
            core.read_index(self.visible, local_ns)
        self.pump(site)

    def read_answered(self, site: Site, visible: object) -> None:
        """The state at the node's applied index is shown to a client that began when `visible` was."""
        assert isinstance(visible, int)
        self.served += 1
        shown = site.app.index
        if shown < min(visible, self.visible):
            self.violated(f"StaleRead: node {site.node} shows {shown} after {visible} was seen")
        self.visible = max(self.visible, min(shown, self.invariants.committed_max))
        self.trace = (self.trace * 31 + shown) % (1 << 61)

    def violated(self, text: str) -> None:
        """A rule that only holds while clocks keep the bound."""
        if self.raising:
            raise InvariantViolation(text)
        self.violations.append(text)

    # Looking on

    def serving(self) -> list[int]:
        """Who would answer a read if it came at this very instant."""
        out = []
        for node, site in self.sites.items():
            core = site.core
            if core is None or site.paused_until_ns or site.stepped or core.role != Role.LEADER:
                continue
            before, over = core.now_ns, core.promise_over
            core.now_ns = self.local(site)
            if leases.serving(core):
                out.append(node)
            core.now_ns, core.promise_over = before, over
        return out

    def check_serving(self) -> None:
        serving = self.serving()
        if len(serving) > 1:
            try:
                self.invariants.note_serving(serving)
            except InvariantViolation as error:
                self.violated(str(error))

    def up(self) -> list[int]:
        return [node for node, site in self.sites.items() if site.core is not None]

    def core(self, node: int) -> PrimaryBackup:
        core = self.sites[node].core
        assert core is not None, f"node {node} is down"
        return core

    def isolate(self, *nodes: int, holder: bool = True) -> None:
        """Cut these nodes off from all others (not from each other), and from the holder."""
        for a in nodes:
            for b in (*self.sites, HOLDER):
                if b not in nodes and (holder or b != HOLDER):
                    self.cut |= {(a, b), (b, a)}

    def primary(self) -> int:
        """The node that serves reads now, 0 if none does."""
        serving = self.serving()
        return serving[0] if serving else 0

    def snapshot(self, node: int) -> None:
        """The node keeps a snapshot of its applied state and drops the log before it."""
        site = self.sites[node]
        core = site.core
        index = site.app.index
        if core is None or site.pending or core.rebuild_for or index < site.written.log.first_index():
            return
        id_ = self.seq * 100 + node
        first = max(site.written.log.first_index() - 1, index - self.dice.below(4))
        for image in (site.written, site.durable):
            image.log.create_snapshot(index, core.membership, id_, site.app.save())
            image.log.compact(first)
        core.snapshot_wanted = False

    def heal(self) -> None:
        """All faults end: everybody is up and connected."""
        self.cut.clear()
        self.loss = self.duplicate = 0
        self.delay_ns = 10 * MS
        self.slow.clear()
        if not self.holder_up:
            self.holder_restart()
        for node, site in self.sites.items():
            site.stuck = False
            site.disk_ns = 2 * MS
            if site.core is None:
                self.start(node)
            elif site.paused_until_ns:
                self.wake(node, site.boots)

    def picture(self) -> str:
        """For messages of failed tests."""
        lines = [repr(self.invariants.holder)]
        for node, site in self.sites.items():
            if site.core is None:
                lines.append(f"node {node}: down")
                continue
            s = site.core.status()
            peers = [(p.node, p.state, p.match, p.in_sync, p.leased) for p in s.peers]
            lines.append(
                f"node {node}: {s.role_name()} term {s.term} leader {s.leader} commit {s.commit}/{s.last_index} stable "
                f"{s.stable} change {s.change_open} joining {s.joining} {s.not_serving!r} {peers} known "
                f"{s.config_epoch}"
            )
        return "\n".join(lines)
