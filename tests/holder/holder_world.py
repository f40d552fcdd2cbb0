"""Three members of a config holder and three data nodes in the simulator, what they did, and whether that can be.

Members 1 and 2 live in the processes of data nodes 1 and 2, member 9 alone, and node 4 has no member. The history of
all calls is judged against one register: the log the members applied gives the order, and every answer has to be the
one a single register gives in that order, within the call's time.
"""

from __future__ import annotations

from random import Random
from typing import Final

from durakv.holder.address import Members
from durakv.holder.client import HolderClient
from durakv.holder.member import HolderMember, found_member
from jstyle.sim.clock import NodeClock
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.disk_crash import CrashPolicy, after_power_cut
from jstyle.sim.net import Fabric, HostNetwork, NetOptions
from jstyle.sim.rng import NodeRng
from jstyle.sim.timeline import MS, Timeline
from raft.primary_backup.codec import decode_answer, decode_call, encode_answer
from raft.primary_backup.messages import (
    CasCall,
    CreateCall,
    ForceCall,
    HolderAnswer,
    HolderCall,
    Outcome,
    ReadCall,
    Reason,
    RenewCall,
)
from raft.primary_backup.register import Register
from raft.primary_backup.types import RequestId, ShardConfig
from raft.types import EntryKind

CLUSTER: Final = bytes(range(16))
PORT: Final = 27000
MEMBERS: Final[Members] = {1: ("m1", PORT), 2: ("m2", PORT), 9: ("m9", PORT)}
NODES: Final = (1, 2, 4)
SHARD: Final = 3
DIRECTORY: Final = "/data/holder"


class Op:
    """One call and its answer."""

    def __init__(self, call: HolderCall, invoked_ns: int) -> None:
        self.call = call
        self.invoked_ns = invoked_ns
        self.answered_ns = 1 << 63
        self.answer: HolderAnswer | None = None


class WatchedMember(HolderMember):
    """Tells the world what it applies."""

    watch = staticmethod(lambda member, entry: None)

    def _apply(self, entry) -> None:
        self.watch(self, entry)
        super()._apply(entry)


class Machine:
    def __init__(self, world: HolderWorld, machine_id: int) -> None:
        self.world = world
        self.id = machine_id
        self.name = f"m{machine_id}"
        self.disk = SimDisk(world.timeline, world.seed, self.name, DiskOptions())
        self.clock: NodeClock | None = None
        self.boots = 0
        self.member: WatchedMember | None = None
        self.client: HolderClient | None = None
        self.events: list[str] = []

    def boot(self) -> None:
        world = self.world
        self.boots += 1
        # Clocks of different machines, and of one machine's lives, have nothing in common.
        clock = self.clock = NodeClock(
            world.timeline, (self.boots * 97 + self.id) % 11 * 10**13 + 1, 0, 1_000_000, 0, self.power_cut, self.failed
        )  # fmt: skip
        self.disk.boot(clock)
        world.fabric.host(self.name).start(clock)
        clock.enter(self.start)

    def start(self) -> None:
        world, clock = self.world, self.clock
        assert clock is not None
        network = HostNetwork(world.fabric, self.name)
        self.member = None
        if self.id in MEMBERS:
            if self.boots == 1:
                found_member(self.disk, DIRECTORY, CLUSTER, self.id, tuple(MEMBERS))
            rng = NodeRng(Random(world.seed * 1000 + self.boots * 10 + self.id))
            member = WatchedMember(
                clock, rng, self.disk, network, DIRECTORY, CLUSTER, self.id, MEMBERS, self.events.append,
                self.disk_failed,
            )  # fmt: skip
            member.watch = world.applied
            member.open(self.name, PORT)
            self.member = member
        if self.id in NODES:
            self.client = HolderClient(
                clock, network, CLUSTER, self.id, MEMBERS, world.answered, member=self.member
            )  # fmt: skip

    def disk_failed(self, error: OSError) -> None:
        raise AssertionError(f"the simulated disk fails no sync: {error}")

    def failed(self, error: BaseException) -> None:
        raise error

    def power_cut(self) -> None:
        """The power fails now and comes back a little later."""
        assert self.clock is not None
        self.world.cuts += 1
        self.clock.kill()
        self.disk.boot(None)
        self.world.fabric.host(self.name).stop(power_cut=True)
        after_power_cut(self.disk, self.world.policy or CrashPolicy.draw(self.world.random), self.world.random)
        self.world.timeline.at(self.world.random.randrange(10, 2000) * MS, self.boot)

    def crash(self) -> None:
        """The process dies, its files stay as they are."""
        if self.clock is None or not self.clock.alive:
            return
        self.world.crashes += 1
        self.disk.interrupt()
        self.clock.kill()
        self.disk.boot(None)
        self.world.fabric.host(self.name).stop(power_cut=False)
        self.world.timeline.at(self.world.random.randrange(10, 2000) * MS, self.boot)

    def alive(self) -> bool:
        return self.clock is not None and self.clock.alive


class HolderWorld:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.timeline = Timeline()
        options = NetOptions(loss=(0.0, 0.05), give_up_ms=(500, 3000))
        self.fabric = Fabric(self.timeline, seed, options, 1)
        self.policy: CrashPolicy | None = None
        self.cuts = 0
        self.crashes = 0
        self.ops: dict[int, Op] = {}
        # (term, kind, data) and when it was first applied, by index.
        self.order: dict[int, tuple[int, int, bytes]] = {}
        self.applied_ns: dict[int, int] = {}
        self.call_id = 0
        self.number = 0
        self.machines = {i: Machine(self, i) for i in (1, 2, 4, 9)}
        for machine in self.machines.values():
            machine.boot()

    # -- what the parts report ---------------------------------------------------------------------------------------

    def applied(self, member: WatchedMember, entry) -> None:
        row = (entry.term, entry.kind, entry.data)
        known = self.order.setdefault(entry.index, row)
        assert known == row, f"entry {entry.index} is {known} and {row}"
        self.applied_ns.setdefault(entry.index, self.timeline.now_ns)

    def answered(self, answer: HolderAnswer) -> None:
        op = self.ops[answer.call_id]
        assert op.answer is None, "answered twice"
        op.answer = answer
        op.answered_ns = self.timeline.now_ns

    # -- calls -------------------------------------------------------------------------------------------------------

    def run(self, ms: float, until=None) -> bool:
        return self.timeline.run_for(int(ms * MS), until)

    def new_call_id(self) -> int:
        self.call_id += 1
        return self.call_id

    def request(self, node: int) -> RequestId:
        self.number += 1
        return RequestId(node, self.machines[node].boots, self.number)

    def send(self, node: int, call: HolderCall) -> Op | None:
        machine = self.machines[node]
        if not machine.alive() or machine.client is None:
            return None
        op = self.ops[call.call_id] = Op(call, self.timeline.now_ns)
        client = machine.client
        assert machine.clock is not None
        machine.clock.enter(lambda: client.submit(call))
        return op

    def create(self, node: int) -> CreateCall:
        request = RequestId(0, 0, 0)
        config = ShardConfig(SHARD, 1, 1, (1, 2), (4,), 1, 0, request, b"")
        return CreateCall(self.new_call_id(), SHARD, request, config)

    def read(self, node: int) -> ReadCall:
        return ReadCall(self.new_call_id(), SHARD, self.request(node))

    def renew(self, node: int, epoch: int, grace_ms: int) -> RenewCall:
        return RenewCall(self.new_call_id(), SHARD, self.request(node), epoch, grace_ms * MS)

    def force(self, node: int, seen: ShardConfig) -> ForceCall:
        given_up = tuple(member for member in seen.isr if member != node)
        return ForceCall(self.new_call_id(), SHARD, self.request(node), seen.epoch, node, given_up, 0, 0)

    def change(self, node: int, seen: ShardConfig) -> CasCall:
        """Some change this node might ask for, knowing ``seen``."""
        request = self.request(node)
        members, isr = seen.members(), seen.isr
        if node == seen.primary:
            others = [member for member in members if member != node]
            isr = (node, *(member for member in others if self.random.random() < 0.6))
        elif node in isr:
            isr = tuple(member for member in isr if member != seen.primary)
        else:
            isr = (node,)
        learners = tuple(member for member in members if member not in isr)
        config = ShardConfig(
            SHARD, seen.epoch + 1, node, isr, learners, seen.min_isr, seen.forced_epoch, request, seen.context
        )  # fmt: skip
        return CasCall(self.new_call_id(), SHARD, request, config)

    def again(self, call: CasCall) -> CasCall:
        """The same wish once more."""
        return CasCall(self.new_call_id(), SHARD, call.request, call.config)

    def ask(self, node: int, call: HolderCall, limit_ms: int = 20_000) -> HolderAnswer:
        """Send and wait for the answer."""
        op = self.send(node, call)
        assert op is not None
        assert self.run(limit_ms, lambda: op.answer is not None), "no answer at all"
        assert op.answer is not None
        return op.answer

    def settled(self, node: int, limit_ms: int = 20_000) -> ShardConfig | None:
        """Read until that gives an answer, as it has to when nothing is wrong any more."""
        for _ in range(limit_ms // 450):
            answer = self.ask(node, self.read(node)) if self.machines[node].alive() else None
            if answer is not None and answer.outcome == Outcome.OK:
                return answer.config
            if answer is not None and answer.reason == Reason.MISSING:
                return None
            self.run(50)
        client = self.machines[node].client
        raise AssertionError(f"no read is answered: {client and client.health().trouble}")

    def leader(self) -> Machine | None:
        for machine in self.machines.values():
            if machine.alive() and machine.member is not None and machine.member.core.role == 3:
                return machine
        return None

    # -- judging -----------------------------------------------------------------------------------------------------

    def judge(self) -> dict[str, int]:
        """Check the whole history; how much of what was in it."""
        last = max(self.order, default=0)
        register = Register()
        position: dict[int, int] = {}
        answers: dict[int, HolderAnswer] = {}
        states: list[bytes | None] = [None] * (last + 1)
        leased: list[tuple[int, int]] = []
        for index in range(1, last + 1):
            # The founding entry is never applied through the watch of a member that starts from a snapshot.
            assert index in self.order, f"nobody applied {index}"
            _, kind, data = self.order[index]
            if kind == EntryKind.NORMAL:
                call = decode_call(data[8:])
                assert call.call_id not in position, f"{type(call).__name__} {call.call_id} was applied twice"
                position[call.call_id] = index
                before = register.shard(SHARD)
                answer = answers[call.call_id] = decode_answer(
                    register.apply(data[8:], int.from_bytes(data[:8], "little"))
                )
                if isinstance(call, RenewCall) and answer.outcome == Outcome.OK:
                    leased.append((self.ops[call.call_id].invoked_ns, call.grace_ns))
                if isinstance(call, ForceCall) and register.shard(SHARD) != before:
                    for begin_ns, grace_ns in leased:
                        assert self.applied_ns[index] >= begin_ns + grace_ns, "forced within a lease"
            config = register.shard(SHARD)
            states[index] = None if config is None else config.encode()
        counts = self._judge_answers(position, answers)
        self._judge_order(position, states)
        return counts

    def _judge_answers(self, position: dict[int, int], answers: dict[int, HolderAnswer]) -> dict[str, int]:
        counts = {"ok": 0, "refused": 0, "not sent": 0, "unknown": 0, "read": 0, "changed": 0}
        for op in self.ops.values():
            answer, call_id = op.answer, op.call.call_id
            if call_id in position:
                assert self.applied_ns[position[call_id]] >= op.invoked_ns
            if answer is None or answer.outcome == Outcome.UNKNOWN:
                counts["unknown"] += 1
                continue
            if answer.reason == Reason.NOT_SENT:
                assert call_id not in position, f"call {call_id} was applied, and was said not to have been sent"
                counts["not sent"] += 1
            elif isinstance(op.call, ReadCall):
                assert call_id not in position
                counts["read"] += 1
            else:
                assert call_id in position, f"call {call_id} was answered and never applied"
                assert self.applied_ns[position[call_id]] <= op.answered_ns, f"call {call_id} was answered too early"
                assert encode_answer(answer) == encode_answer(answers[call_id]), f"call {call_id} is answered wrongly"
                counts["ok" if answer.outcome == Outcome.OK else "refused"] += 1
                counts["changed"] += answer.outcome == Outcome.OK and isinstance(op.call, CasCall)
        return counts

    def _judge_order(self, position: dict[int, int], states: list[bytes | None]) -> None:
        """What was answered before another call was made comes before it."""
        done: list[tuple[int, int]] = []
        for op in sorted(self.ops.values(), key=lambda one: one.answered_ns):
            answer = op.answer
            if answer is None or answer.outcome == Outcome.UNKNOWN or answer.reason == Reason.NOT_SENT:
                continue
            floor = max((at for answered_ns, at in done if answered_ns < op.invoked_ns), default=0)
            if isinstance(op.call, ReadCall):
                seen = None if answer.config is None else answer.config.encode()
                at = next((i for i in range(floor, len(states)) if states[i] == seen), -1)
                assert at >= 0, f"read {op.call.call_id} saw a state that was over before it was asked"
                if seen is not None:
                    assert self.applied_ns[at] <= op.answered_ns
            else:
                at = position[op.call.call_id]
                assert at > floor, f"call {op.call.call_id} came before one that was answered before it was made"
            done.append((op.answered_ns, at))
