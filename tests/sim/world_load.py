"""A load for tests of the simulated world: clients over simulated streams, and a nemesis that uses everything once."""

from __future__ import annotations

from random import Random

import hiredis

from durakv.world.ports import Stream
from jstyle.sim.cluster import Cluster
from jstyle.sim.machine import Machine
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS, SECOND
from tests.engine.rig import Err
from tests.replication.clients import KEYS, Asked, outcome

TIMEOUT_NS = 3 * SECOND


class LoadClient:
    """One connection at a time to any node; one request out at a time, given up after a while."""

    def __init__(self, cluster: Cluster, number: int, history: list[Asked], pause_ms: int = 60) -> None:
        self.cluster = cluster
        self.random = stream(cluster.seed, "client", str(number))
        self.host = f"c{number}"
        self.history = history
        self.pause_ms = pause_ms
        self.stream: Stream | None = None
        self.waiting: list[Asked] = []
        self.replies = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]
        self.stopped = False
        self.connect()

    def connect(self) -> None:
        if not self.stopped:
            self.replies = hiredis.Reader(replyError=Err)  # type: ignore[arg-type]
            self.cluster.dial(self.host, self.random.choice(self.cluster.machines).number, self, 300)

    def on_open(self, stream: Stream) -> None:
        self.stream = stream
        self.ask()

    def on_close(self, error: Exception | None) -> None:
        self.stream = None
        self.waiting = []
        self.cluster.timeline.at(self.random.randint(1, 100) * MS, self.connect)

    def on_data(self, data: bytes) -> None:
        self.replies.feed(data)
        while (reply := self.replies.gets()) is not False:
            assert self.waiting, f"a reply nobody asked for: {reply!r}"
            asked = self.waiting.pop(0)
            asked.reply = reply
            asked.outcome = outcome(asked, reply)
            if asked.outcome != "info":
                asked.done_ns = self.cluster.timeline.now_ns
        if not self.waiting and not self.stopped:
            self.cluster.timeline.at(self.random.randint(0, 2 * self.pause_ms) * MS, self.ask)

    def ask(self) -> None:
        if self.stream is None or self.waiting or self.stopped:
            return
        now_ns = self.cluster.timeline.now_ns
        kind = self.random.choice(("set", "get", "get", "incr", "exec"))
        key = b"k%d" % self.random.randrange(KEYS)
        asked = Asked(kind, key, len(self.history) + 1, now_ns)
        self.history.append(asked)
        commands = [[b"SET", key, b"%d" % asked.value]]
        if kind == "get":
            commands = [[b"GET", key]]
        elif kind == "incr":
            commands = [[b"INCR", b"n"]]
        elif kind == "exec":
            commands = [[b"MULTI"], [b"INCR", b"n"], [b"INCR", b"m"], [b"EXEC"]]
            self.waiting += [Asked("step", b"", 0, now_ns) for _ in range(3)]
        self.waiting.append(asked)
        for argv in commands:
            self.stream.write(b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv))
        self.cluster.timeline.at(TIMEOUT_NS, lambda: self._late(asked))

    def _late(self, asked: Asked) -> None:
        if asked in self.waiting and self.stream is not None:
            self.stream.abort()


class Nemesis:
    """Draws one fault after another."""

    KINDS = (
        "crash", "power", "batch", "cut", "oneway", "clog", "swizzle", "reset", "refuse", "slow", "hang", "pause",
        "step", "rate", "kill-all",
    )  # fmt: skip

    def __init__(self, cluster: Cluster, random: Random, kinds: tuple[str, ...] = KINDS) -> None:
        self.cluster = cluster
        self.random = random
        self.kinds = kinds
        self.faults: list[str] = []

    def strike(self) -> None:
        cluster, random, fabric = self.cluster, self.random, self.cluster.fabric
        victim = random.choice(cluster.machines)
        leader = cluster.leader()
        if leader is not None and random.random() < 0.5:
            victim = leader
        kind = random.choice(self.kinds)
        self.faults.append(f"{cluster.timeline.now_ns // MS} {kind} {victim.name}")
        names = [m.name for m in cluster.machines]
        others = [name for name in names if name != victim.name]
        if kind == "crash":
            victim.crash()
        elif kind == "power":
            victim.power_cut()
        elif kind == "batch":
            victim.power_cut_in_batch(random.randrange(5))
        elif kind == "kill-all":
            for machine in cluster.machines:
                machine.power_cut()
        elif kind == "cut":
            fabric.partition([victim.name], others)
        elif kind == "oneway":
            fabric.cut(*random.choice(((victim.name, others[0]), (others[0], victim.name))))
        elif kind == "clog":
            fabric.clog(victim.name, others[0], random.randrange(1, 5000) * MS)
        elif kind == "swizzle":
            fabric.swizzle(names, 4 * SECOND)
        elif kind == "reset":
            fabric.reset(lambda end: end.host.name == victim.name or random.random() < 0.2)
        elif kind == "refuse":
            fabric.refuse(victim.name)
        elif kind == "slow":
            fabric.slow(50, source=victim.name)
        elif kind == "hang":
            victim.disk.hang(random.randrange(1, 3000) * MS)
        else:
            self._time(kind, victim)

    def _time(self, kind: str, victim: Machine) -> None:
        if kind == "pause":
            victim.pause()
        elif kind == "step":
            victim.step_wall(self.random.randrange(-3_600_000, 3_600_000))
        else:
            victim.set_rate(self.random.randrange(950_000, 1_050_000))

    def repair(self) -> None:
        fabric = self.cluster.fabric
        fabric.heal()
        fabric.slow(1)
        for machine in self.cluster.machines:
            fabric.refuse(machine.name, refusing=False)
            machine.resume()
            machine.disk.cut_after = -1
            machine.set_rate(1_000_000)
            if not machine.running:
                machine.start()


def settle(cluster: Cluster) -> None:
    """Until all nodes have applied the same."""

    def level() -> bool:
        applied = {m.app.engine.applier.applied for m in cluster.machines if m.app is not None}
        return len(applied) == 1 and all(not m.app.engine.proposed for m in cluster.machines if m.app is not None)

    cluster.wait_leader()
    assert cluster.run(20_000, level), "the nodes do not catch up"


def run_episode(
    cluster: Cluster, rounds: int, kinds: tuple[str, ...] = Nemesis.KINDS, clients: int = 5
) -> tuple[list[Asked], Nemesis]:
    """Load and faults for ``rounds``, then repair and quiet."""
    cluster.wait_leader()
    random = stream(cluster.seed, "nemesis", "test")
    history: list[Asked] = []
    load = [LoadClient(cluster, n, history) for n in range(clients)]
    nemesis = Nemesis(cluster, random, kinds)
    for _ in range(rounds):
        cluster.run(random.randint(100, 1500))
        nemesis.strike()
        if random.random() < 0.3:
            cluster.run(random.randint(0, 300))
            nemesis.strike()
        cluster.run(random.randint(50, 4000))
        nemesis.repair()
    for client in load:
        client.stopped = True
    cluster.run(15_000)
    settle(cluster)
    return history, nemesis


class Probe:
    """A client that sends given commands and collects the replies."""

    def __init__(self, cluster: Cluster, number: int, name: str = "probe") -> None:
        self.cluster = cluster
        self.reader = hiredis.Reader()
        self.replies: list[object] = []
        self.stream: Stream | None = None
        self.closed = False
        self.error: Exception | None = None
        cluster.dial(name, number, self)
        assert cluster.run(2000, lambda: self.stream is not None)

    def on_open(self, stream: Stream) -> None:
        self.stream = stream

    def on_data(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.replies.append(reply)

    def on_close(self, error: Exception | None) -> None:
        self.closed = True
        self.error = error

    def send(self, *commands: str) -> None:
        assert self.stream is not None
        for command in commands:
            argv = command.encode().split()
            self.stream.write(b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv))

    def ask(self, *commands: str, ms: int = 10_000) -> list[object]:
        self.send(*commands)
        assert self.cluster.run(ms, lambda: len(self.replies) >= len(commands)), (commands, self.replies)
        replies, self.replies = self.replies, []
        return replies

    def read(self, *commands: str) -> list[object]:
        """As ask(), again while a node says that it cannot answer now."""
        for _ in range(5):
            replies = self.ask(*commands)
            if not any(isinstance(reply, hiredis.ReplyError) for reply in replies):
                return replies
            self.cluster.run(1000)
        raise AssertionError(f"{commands} answered {replies}")
