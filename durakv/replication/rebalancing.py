"""The rebalancer on one node: feeds the driver with what slots use, tells other groups, and orders the moves.

A move is ordered exactly as CLUSTER MIGRATESLOTS orders it, by a session nobody is connected to, and is a migration
like any other: to be seen, cancelled, and safe if the leader that ordered it is gone. Rule: decides nothing about
slots; the driver (cluster/rebalance) decides what should move, and the group's log whether it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.cluster.gossip.loads import GroupLoad
from durakv.cluster.handoff.state import EXPORT, IMPORT, MOVED, ONGOING, OWNED
from durakv.cluster.names import shard_name
from durakv.cluster.rebalance.driver import LONG, Driver, Own, limits_of
from durakv.cluster.rebalance.explain import permille, plan_reply, ranges_text
from durakv.cluster.rebalance.load import Load
from durakv.cluster.rebalance.moves import Move, Plan, ranges_of
from durakv.cluster.rebalance.stats import MINUTE, TEN_MINUTES
from durakv.commands.session import Session
from durakv.keyspace.slots import SLOTS
from durakv.observe.events import Notice
from durakv.resp.errors import CommandError
from durakv.resp.types import Map, Reply

if TYPE_CHECKING:
    from durakv.replication.neighbours import Neighbours

OFF: Final = "off"
AUTO: Final = "auto"
# All of the group's slots are read in so many ticks, a part at each.
_SLICES: Final = 10
# A group tells its load, and makes a plan, so many times in a window.
_TOLD_A_WINDOW: Final = 6
_PLANS_A_WINDOW: Final = 2
# Groups that were not heard of for so many windows are left alone.
_STALE_WINDOWS: Final = 5
# A move that the log has not begun by then was refused there.
_BEGIN_WITHIN_MS: Final = 30_000
# One core does all the work of a group's leader.
_CPU_US_S: Final = 1_000_000.0
OFF_HERE: Final = "ERR this group takes no part in rebalancing; CONFIG SET rebalance suggest, or auto, on its nodes"
NOT_READY: Final = "ERR the rebalancer has not watched the group for long enough; see CLUSTER REBALANCE STATUS"


class Rebalancing:
    """One node's. Does nothing on followers, and nothing while ``rebalance`` is off."""

    def __init__(self, neighbours: Neighbours) -> None:
        self.neighbours = neighbours
        self.node = neighbours.node
        self.engine = neighbours.node.engine
        self.driver: Driver | None = None
        self.last: Plan | None = None
        self._term = 0
        self._window_ms = 0
        self._slice = 0
        self._sequence = 0
        self._next_told_ms = 0
        self._next_plan_ms = 0
        # Moves ordered here, by id, and when; imports whose end the driver has heard of.
        self._ordered_ms: dict[str, int] = {}
        self._arrived: dict[bytes, None] = {}
        self._suggested = ""
        for name in ("rebalance-threshold", "rebalance-skew", "rebalance-window", "rebalance-bandwidth"):
            self.engine.settings.watch(name, lambda _: self._begin_anew())

    def mode(self) -> str:
        """off, suggest or auto."""
        return str(self.engine.settings.rebalance)

    def tick(self, now_ms: int) -> None:
        """Call several times a second."""
        usage = self.engine.usage
        if usage.on:
            usage.follow_slots()
            usage.copies = max(0, len(self.node.membership().members()) - 1) if self.node.leading else 0
        if not self._acts():
            self.driver = None
            return
        if self.driver is None or self._term != self.node.reign()[0]:
            self._begin(now_ms)
        driver = self.driver
        assert driver is not None
        self._read(driver, now_ms)
        if self._slice:
            return
        own = self._own()
        others = self._others(own.group, now_ms)
        self._tell_of_arrivals(driver, own.group, now_ms)
        driver.follow(now_ms, own, others, lambda mid: self._ended(mid, now_ms))
        if now_ms >= self._next_told_ms:
            self._next_told_ms = now_ms + self._window_ms // _TOLD_A_WINDOW
            self._tell_load(driver, own, now_ms)
        if now_ms >= self._next_plan_ms and driver.ready():
            self._next_plan_ms = now_ms + self._window_ms // _PLANS_A_WINDOW
            self._round(driver, own, others, now_ms)

    def _acts(self) -> bool:
        # Until its first entry is applied a leader does not know what it owns.
        ready = self.engine.applier.applied >= self.engine.term_start > 0
        return self.mode() != OFF and self.node.leading and ready and self.engine.places.is_known()

    def _begin_anew(self) -> None:
        # The next tick makes a new one.
        self.driver = None

    def _begin(self, now_ms: int) -> None:
        settings = self.engine.settings
        self._window_ms = int(settings.rebalance_window) * 1000
        limits = limits_of(
            self._window_ms, settings.rebalance_threshold / 100, settings.rebalance_skew / 100,
            float(settings.rebalance_bandwidth),
        )  # fmt: skip
        self.driver = Driver(limits, self._window_ms)
        self._term = self.node.reign()[0]
        self._slice = 0
        self._next_told_ms = now_ms
        self._next_plan_ms = now_ms + self._window_ms
        self._ordered_ms = {}
        self._arrived = {}
        self._suggested = ""
        self.last = None

    # -- readings ------------------------------------------------------------------------------------------------------

    def _read(self, driver: Driver, now_ms: int) -> None:
        """The next part of the slots."""
        usage = self.engine.usage
        own = self.engine.places.state.own
        counters, memory = usage.counters, usage.memory
        first = SLOTS * self._slice // _SLICES
        self._slice = (self._slice + 1) % _SLICES
        last = SLOTS * self._slice // _SLICES or SLOTS
        known = driver.rates.rates
        for slot in range(first, last):
            if own[slot] == OWNED:
                driver.rates.read(
                    slot, now_ms, counters.cpu_ns[slot] // 1000, counters.traffic(slot), counters.bytes_in[slot],
                    memory.used_bytes[slot], usage.keys(slot),
                )  # fmt: skip
            elif slot in known and not self.engine.places.handoff.claims(slot):
                driver.rates.forget(slot)
        if not self._slice:
            system, user, _, _ = self.engine.instruments.process.cpu_seconds()
            driver.read_process(now_ms, int((system + user) * 1_000_000))

    def _own(self) -> Own:
        engine = self.engine
        state = engine.places.state
        settings = engine.settings
        capacity = Load(_CPU_US_S, float(settings.rebalance_network_capacity), float(settings.maxmemory))
        own = Own(state.group, capacity)
        own.healthy = engine.refusal is None and not self.node.pinned()
        own.draining = bool(settings.rebalance_draining)
        own.exports = [record.mid.decode() for record in state.active(EXPORT)]
        own.imports = sum(1 for record in state.active(IMPORT) if record.result == ONGOING)
        own.settled = [slot for slot in range(SLOTS) if state.own[slot] == OWNED]
        routing = self.neighbours.routing
        owning = routing.slots_by_group()
        own.empty = [g for g in routing.facts if g not in owning and not routing.facts[g].removed]
        return own

    def _others(self, group: int, now_ms: int) -> list[GroupLoad]:
        facts = self.neighbours.routing.facts
        fresh = self.neighbours.gossip.loads.fresh(now_ms, _STALE_WINDOWS * max(self._window_ms, 10_000))
        return [
            load for load in fresh
            if load.group != group and load.group in facts and not facts[load.group].removed
            and facts[load.group].leader
        ]  # fmt: skip

    def _tell_load(self, driver: Driver, own: Own, now_ms: int) -> None:
        self._sequence += 1
        minute, ten = driver.used(MINUTE), driver.used(TEN_MINUTES)
        load = GroupLoad(own.group, self._term, self._sequence)
        load.healthy, load.draining = own.healthy, own.draining
        load.inbound, load.outbound = own.imports, len(own.exports)
        load.cpu, load.cpu_ten = round(minute.cpu_us_s), round(ten.cpu_us_s)
        load.network, load.network_ten = round(minute.network_bytes_s), round(ten.network_bytes_s)
        load.memory = round(minute.memory_bytes)
        load.capacity_cpu = round(own.capacity.cpu_us_s)
        load.capacity_network = round(own.capacity.network_bytes_s)
        load.capacity_memory = round(own.capacity.memory_bytes)
        self.neighbours.gossip.learn_load(load, now_ms)

    def _tell_of_arrivals(self, driver: Driver, group: int, now_ms: int) -> None:
        """Slots that came, whoever sent them, must rest here as well."""
        wall_ms = self.engine.clock.wall_ms()
        state = self.engine.places.state
        for record in state.finished.values():
            if record.role == IMPORT and record.result == MOVED and record.mid not in self._arrived:
                past_ms = max(0, wall_ms - record.ended_ms)
                if past_ms < LONG * self._window_ms:
                    driver.accounts.arrived(group, record.slots(), now_ms - past_ms)
        self._arrived = dict.fromkeys(mid for mid, r in state.finished.items() if r.role == IMPORT)

    # -- moves ---------------------------------------------------------------------------------------------------------

    def _round(self, driver: Driver, own: Own, others: list[GroupLoad], now_ms: int) -> None:
        driver.rounds += 1
        plan = self.last = driver.plan(now_ms, own, others, self.engine.rng.bits64())
        lines = [self._line(move) for move in plan.moves]
        text = "; ".join([*lines, *(f"{report.kind}: {report.text}" for report in plan.reports)])
        if self.mode() == AUTO:
            driver.start(plan, lambda move: self._order(move, now_ms))
            for line in lines:
                self._notice("rebalance-move", line)
        elif text and text != self._suggested:
            self._notice("rebalance-suggest", text)
        self._suggested = text

    def _line(self, move: Move) -> str:
        return (
            f"slots {ranges_text(move.slots)} from group {move.source} (load {move.source_before:.0%} to "
            f"{move.source_after:.0%}) to group {move.target} ({move.target_before:.0%} to {move.target_after:.0%}), "
            f"because: {move.reason}"
        )

    def _order(self, move: Move, now_ms: int) -> str:
        target = self.neighbours.leader_name(move.target)
        argv = [b"CLUSTER", b"MIGRATESLOTS", b"SLOTSRANGE"]
        for first, last in ranges_of(move.slots):
            argv += [b"%d" % first, b"%d" % last]
        argv += [b"NODE", target]
        moving = self.engine.moving
        try:
            if not target:
                raise CommandError(f"ERR nobody leads group {move.target} now")
            # Nobody waits for the answer; what becomes of it is seen in the group's state.
            moving.migrate(Session(0, self.node.node_id), argv)
        except CommandError as refusal:
            self._notice("rebalance-refused", f"{self._line(move)}: {refusal.text}")
            return ""
        (mid,) = moving.orders[-1].mids
        self._ordered_ms[mid.decode()] = now_ms
        return str(mid.decode())

    def _ended(self, mid: str, now_ms: int) -> bool | None:
        record = self.engine.places.state.find(mid.encode())
        if record is None:
            waited_ms = now_ms - self._ordered_ms.get(mid, 0)
            return None if waited_ms < _BEGIN_WITHIN_MS else self._forget(mid, moved=False)
        if record.result == ONGOING:
            return None
        return self._forget(mid, moved=record.result == MOVED)

    def _forget(self, mid: str, *, moved: bool) -> bool:
        self._ordered_ms.pop(mid, None)
        return moved

    def _notice(self, what: str, text: str) -> None:
        self.engine.observer.event(Notice(what, text))

    # -- RebalanceService ----------------------------------------------------------------------------------------------

    def plan(self) -> Reply:
        """See RebalanceService."""
        driver = self._leading_driver()
        if not driver.ready():
            raise CommandError(NOT_READY)
        now_ms = self.neighbours.now_ms()
        own = self._own()
        plan = driver.plan(now_ms, own, self._others(own.group, now_ms), self.engine.rng.bits64())
        return plan_reply(plan, driver.accounts, self._name, _no_keys)

    def status(self) -> Reply:
        """See RebalanceService."""
        now_ms = self.neighbours.now_ms()
        driver = self.driver
        group = self.engine.places.state.group
        flat: list[Reply] = [
            b"mode", self.mode().encode(), b"group", self._name(group).encode(), b"leader", int(self.node.leading),
            b"draining", int(bool(self.engine.settings.rebalance_draining)),
        ]  # fmt: skip
        counts = [0, 0, 0, 0, 0]
        stopped = ""
        if driver is not None:
            accounts = driver.accounts
            counts = [int(driver.ready()), driver.rounds, driver.started, driver.refused, len(accounts.running())]
            stopped = accounts.stopped
        names = (b"ready", b"rounds", b"moves-started", b"moves-refused", b"moves-running")
        for name, count in zip(names, counts, strict=True):
            flat += [name, count]
        last = self.last if driver is not None else None
        flat += [b"moves-planned", 0 if last is None else len(last.moves), b"stopped", stopped.encode()]
        importing = [record.peer for record in self.engine.places.state.active(IMPORT)]
        names_from: list[Reply] = [self._name(peer).encode() for peer in dict.fromkeys(importing)]
        # Moves that the other group has not confirmed included.
        flat += [b"importing-from", names_from]
        known = self.neighbours.gossip.loads.known
        heard = self.neighbours.gossip.loads.heard_ms
        groups: list[Reply] = [_load_row(known[g], self._name(g), now_ms - heard[g]) for g in sorted(known)]
        return Map([*flat, b"groups", groups])

    def resume(self) -> None:
        """See RebalanceService."""
        self._leading_driver().accounts.resume()

    def _leading_driver(self) -> Driver:
        if self.mode() == OFF:
            raise CommandError(OFF_HERE)
        if not self.node.leading:
            for member in self.engine.consensus.view().members:
                if member.node_id == self.node.leader_id:
                    place = f"{member.client_host}:{member.client_port}"
                    raise CommandError(f"ERR the leader of a group plans for it; ask {place}")
            raise CommandError("ERR the leader of a group plans for it, and this one has none now; try again")
        if self.driver is None:
            raise CommandError(NOT_READY)
        return self.driver

    def _name(self, group: int) -> str:
        return shard_name(self.node.transport.cluster_id.hex(), group)


def _load_row(load: GroupLoad, name: str, age_ms: int) -> Reply:
    used = Load(load.cpu, load.network, load.memory)
    capacity = Load(load.capacity_cpu, load.capacity_network, load.capacity_memory)
    return Map([
        b"group", name.encode(), b"load", permille(used.share(capacity)), b"cpu-usec-per-second", load.cpu,
        b"network-bytes-per-second", load.network, b"memory-bytes", load.memory, b"healthy", int(load.healthy),
        b"draining", int(load.draining), b"inbound", load.inbound, b"outbound", load.outbound, b"age-ms", age_ms,
    ])  # fmt: skip


def _no_keys(slot: int) -> list[bytes]:
    return []
