"""The proxy in a simulated network against model nodes: slots move, nodes refuse, connections break at any byte.

Checked for every client: its replies come in the order of its requests; a write that was acknowledged ran once, one
that was refused never, one of unknown outcome at most once; requests on one key take effect in the order sent.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import pytest

from durakv.keyspace.slots import slot_of
from durakv.proxy.replies import ReplyCutter
from durakv.proxy.request import request_wire
from durakv.proxy.service import Proxy
from durakv.proxy.settings import ProxySettings
from durakv.resp import split
from jstyle.sim.clock import RATE_ONE, NodeClock
from jstyle.sim.net import Fabric, HostNetwork, NetOptions
from jstyle.sim.rng import NodeRng
from jstyle.sim.timeline import MS, SECOND, Timeline
from tests.proxy.model import ModelNode, Truth

NODES = ["n0", "n1", "n2"]
KEYS = [b"{a}1", b"{a}2", b"{a}3", b"b", b"c", b"d", b"e", b"f"]


class SimClient:
    """Sends batches of requests and keeps what it was told. A StreamHandler."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.dice = Random(f"client {world.seed} {number}")
        self.cutter = ReplyCutter()
        self.stream: Any = None
        self.sent: list[list[bytes]] = []
        self.replies: list[bytes] = []
        self.tokens = 0

    def on_open(self, stream) -> None:
        self.stream = stream
        self.batch()

    def on_close(self, error) -> None:
        assert self.world.over, f"the proxy closed a client: {error}"

    def on_data(self, data: bytes) -> None:
        self.replies += self.cutter.feed(data)

    def batch(self) -> None:
        if self.world.over:
            return
        # Now and then without waiting for replies.
        self.world.timeline.at(self.dice.randrange(1, 4 * MS), self.batch)
        waiting = len(self.sent) - len(self.replies)
        if waiting > 30 or (waiting and self.dice.random() < 0.5):
            return
        requests: list[list[bytes]] = []
        while len(requests) < self.dice.choice((1, 1, 3, 12)):
            requests += self.some()
        self.sent += requests
        self.stream.write(b"".join(request_wire(argv) for argv in requests))

    def some(self) -> list[list[bytes]]:
        dice = self.dice
        what = dice.randrange(10)
        if what < 5:
            return [self.append(dice.choice(KEYS))]
        if what < 7:
            return [[b"GET", dice.choice(KEYS)]]
        if what < 9:
            return [[b"MGET", *dice.sample(KEYS, dice.randrange(1, 4))]]
        keys = KEYS[:3] if dice.random() < 0.5 else [dice.choice(KEYS)]
        inner = [self.append(dice.choice(keys)) for _ in range(dice.randrange(1, 4))]
        return [[b"MULTI"], *inner, [b"EXEC"]]

    def append(self, key: bytes) -> list[bytes]:
        self.tokens += 1
        return [b"APPEND", key, b"<%d.%d>" % (self.number, self.tokens)]


class Swapper:
    """Appends to one key only if nobody else did since it looked. A StreamHandler."""

    KEY = b"{a}swap"

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.dice = Random(f"swapper {world.seed} {number}")
        self.cutter = ReplyCutter()
        self.stream: Any = None
        self.got: list[bytes] = []
        self.wanted = 0
        self.tries = 0
        self.swaps: list[tuple[bytes, int]] = []
        self.failed: list[bytes] = []
        self.unknown = 0
        self.watching = False

    def on_open(self, stream) -> None:
        self.stream = stream
        self.look()

    def on_close(self, error) -> None:
        assert self.world.over, f"the proxy closed a client: {error}"

    def on_data(self, data: bytes) -> None:
        self.got += self.cutter.feed(data)
        if len(self.got) == self.wanted:
            self.world.timeline.at(self.dice.randrange(2 * MS), self.swap if self.watching else self.look)

    def ask(self, *requests: list[bytes]) -> None:
        self.got = []
        self.wanted = len(requests)
        self.stream.write(b"".join(request_wire(argv) for argv in requests))

    def look(self) -> None:
        self.judge()
        if not self.world.over:
            self.watching = True
            self.ask([b"WATCH", self.KEY], [b"GET", self.KEY])

    def swap(self) -> None:
        self.watching = False
        watched, value = self.got
        if watched[:1] == b"-" or value[:1] == b"-":
            self.ask([b"UNWATCH"])
            return
        self.tries += 1
        self.token = b"<s%d.%d>" % (self.number, self.tries)
        self.seen = len(value.split(b"\r\n", 1)[1]) - 2 - len(self.KEY) - 1
        self.ask([b"MULTI"], [b"APPEND", self.KEY, self.token], [b"EXEC"])

    def judge(self) -> None:
        if self.wanted != 3:
            return
        reply = self.got[2]
        if reply.startswith(b"*1\r\n:"):
            self.swaps.append((self.token, self.seen))
        elif reply.startswith(b"-UNKNOWN"):
            self.unknown += 1
        else:
            assert reply in (b"*-1\r\n", b"-EXECABORT Transaction discarded because of previous errors.\r\n"), reply
            self.failed.append(self.token)

    def check(self) -> None:
        value = self.world.truth.values.get(self.KEY, b"")
        for token, seen in self.swaps:
            assert value.find(token) == seen, f"{token!r} was swapped in over something it had not seen"
        for token in self.failed:
            assert token not in value, f"{token!r} failed, and ran"


class World:
    def __init__(self, seed: int, clients: int = 3) -> None:
        self.seed = seed
        self.dice = Random(f"world {seed}")
        self.timeline = Timeline()
        options = NetOptions(delay_min_us=(20, 60), delay_mean_us=(80, 400), give_up_ms=(300, 900))
        self.fabric = Fabric(self.timeline, seed, options, 0)
        self.truth = Truth(seed, NODES)
        for name in NODES:
            self.fabric.listen(name, 1, partial(ModelNode, self.truth, name))

        def fail(error: BaseException) -> None:
            raise error

        self.clock = NodeClock(self.timeline, SECOND, 0, RATE_ONE, 0, lambda: None, fail)
        self.fabric.host("proxy").door = self.clock
        settings = ProxySettings([(name, 1) for name in NODES])
        settings.port, settings.host = 9, "proxy"
        settings.retry_ms, settings.answer_ms, settings.connect_ms, settings.refresh_ms = 800, 400, 100, 300
        self.proxy = Proxy(
            HostNetwork(self.fabric, "proxy"), self.clock, NodeRng(Random(seed)), settings, lambda event, text: None
        )
        self.over = False
        ports: list[int] = []
        self.clock.enter(lambda: ports.append(self.proxy.open()))
        self.timeline.run_for(20 * MS)
        self.clients = [SimClient(self, n) for n in range(clients)]
        for client in self.clients:
            self.fabric.connect(f"c{client.number}", "proxy", 9, client, 1000)
        self.swappers = [Swapper(self, n) for n in range(2)]
        for swapper in self.swappers:
            self.fabric.connect(f"s{swapper.number}", "proxy", 9, swapper, 1000)

    def run(self, rounds: int, *, moves_only: bool = False) -> None:
        for _ in range(rounds):
            self.timeline.run_for(self.dice.randrange(1, 12) * MS)
            self.trouble(self.dice.randrange(9 if moves_only else 14))
        self.over = True
        self.truth.refusals = 0.0
        for slot in list(self.truth.moving):
            self.truth.end_move(slot)
        self.fabric.repair()
        done = self.timeline.run_for(30 * SECOND, lambda: all(len(c.replies) == len(c.sent) for c in self.clients))
        assert done, [(len(c.replies), len(c.sent)) for c in self.clients]
        assert self.timeline.run_for(30 * SECOND, lambda: all(len(s.got) == s.wanted for s in self.swappers)) or all(
            len(s.got) == s.wanted for s in self.swappers
        )

    def trouble(self, what: int) -> None:
        dice, truth = self.dice, self.truth
        slot = slot_of(dice.choice(KEYS))
        name = dice.choice(NODES)
        if what < 2:
            truth.flip(slot, name)
        elif what < 4:
            truth.begin_move(slot, name)
        elif what < 7:
            for moving in list(truth.moving):
                truth.move_some(moving)
        elif what < 9:
            for moving in list(truth.moving):
                truth.end_move(moving)
        elif what == 9:
            truth.refusals = dice.choice((0.0, 0.0, 0.1, 0.5))
        elif what == 10:
            self.fabric.reset(lambda end: end.host.name == "proxy" and end.peer.host.name == name)
        elif what == 11:
            self.fabric.refuse(name, refusing=dice.random() < 0.5)
        elif what == 12:
            self.fabric.cut(*dice.choice([("proxy", name), (name, "proxy")]))
        else:
            self.fabric.repair()

    # -- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> dict[str, int]:
        seen = {
            "acked": 0,
            "refused": 0,
            "unknown": 0,
            "reads": 0,
            "aborted": 0,
            "errors": 0,
            "swapped": 0,
            "unswapped": 0,
        }
        for client in self.clients:
            self.check_client(client, seen)
        for swapper in self.swappers:
            swapper.check()
            seen["swapped"] += len(swapper.swaps)
            seen["unswapped"] += len(swapper.failed)
        return seen

    def check_client(self, client: SimClient, seen: dict[str, int]) -> None:
        # Per key: acknowledged tokens so far, and tokens no read before now may contain.
        acked: dict[bytes, list[bytes]] = {key: [] for key in KEYS}
        unsent = {key: [argv[2] for argv in client.sent if argv[0] == b"APPEND" and argv[1] == key] for key in KEYS}
        refused: list[tuple[bytes, bytes]] = []
        queued: list[list[bytes]] | None = None
        for argv, reply in zip(client.sent, client.replies, strict=True):
            word = argv[0]
            if word == b"MULTI":
                assert reply == b"+OK\r\n"
                queued = []
            elif queued is not None and word == b"APPEND":
                assert reply == b"+QUEUED\r\n"
                queued.append(argv)
            elif word == b"EXEC":
                assert queued is not None
                items = split.items(reply) if reply[:1] == b"*" else [reply] * len(queued)
                for inner, item in zip(queued, items, strict=True):
                    self.appended(inner, item, acked, unsent, refused, seen)
                seen["aborted"] += reply[:1] == b"-"
                queued = None
            elif word == b"APPEND":
                self.appended(argv, reply, acked, unsent, refused, seen)
            elif word == b"GET":
                self.read(argv[1], reply, acked, unsent, seen)
            elif reply[:1] == b"*":
                for key, item in zip(argv[1:], split.items(reply), strict=True):
                    self.read(key, item, acked, unsent, seen)
            else:
                assert reply.startswith((b"-CLUSTERDOWN", b"-LOADING", b"-TRYAGAIN")), reply
                seen["errors"] += 1
        for key, tokens in acked.items():
            value = self.truth.values.get(key, b"")
            places = [value.index(token) for token in tokens]
            assert places == sorted(places), f"acknowledged writes of {client.number} on {key!r} ran out of order"
        for key, token in refused:
            assert token not in self.truth.values.get(key, b""), f"{token!r} was refused, and ran"
        for argv in client.sent:
            if argv[0] == b"APPEND":
                assert self.truth.values.get(argv[1], b"").count(argv[2]) <= 1, f"{argv[2]!r} ran twice"

    def appended(self, argv, reply, acked, unsent, refused, seen) -> None:
        _, key, token = argv
        unsent[key].remove(token)
        if reply[:1] == b":":
            seen["acked"] += 1
            acked[key].append(token)
            assert self.truth.values[key][: int(reply[1:])].endswith(token), "a reply of another request"
        elif reply.startswith(b"-UNKNOWN"):
            seen["unknown"] += 1
        else:
            assert reply.startswith((b"-CLUSTERDOWN", b"-LOADING", b"-TRYAGAIN", b"-EXECABORT")), reply
            seen["refused"] += 1
            refused.append((key, token))

    def read(self, key, item, acked, unsent, seen) -> None:
        if item[:1] == b"-":
            assert item.startswith((b"-CLUSTERDOWN", b"-LOADING", b"-TRYAGAIN")), item
            seen["errors"] += 1
            return
        seen["reads"] += 1
        text = item.split(b"\r\n", 1)[1]
        assert text.startswith(key + b"="), "a reply of another request"
        for token in acked[key]:
            assert token in text, f"a read misses {token!r}, acknowledged before it was sent"
        for token in unsent[key]:
            assert token not in text, f"a read sees {token!r}, sent after it"


@pytest.mark.parametrize("seed", range(8))
def test_order_and_at_most_once(seed):
    world = World(seed)
    world.run(120)
    seen = world.check()
    assert seen["acked"] > 20
    assert seen["reads"] > 10


@pytest.mark.parametrize("seed", range(5))
def test_moves_alone_are_not_noticed(seed):
    world = World(seed)
    world.run(120, moves_only=True)
    seen = world.check()
    assert (seen["refused"], seen["unknown"], seen["aborted"], seen["errors"]) == (0, 0, 0, 0)
    assert seen["acked"] > 100
    assert world.proxy.hub.tally.moved > 5 and world.proxy.hub.tally.asked > 0


@pytest.mark.slow
def test_all_outcomes_occur():
    total: dict[str, int] = {}
    for seed in range(100, 108):
        world = World(seed)
        world.run(120)
        for name, count in world.check().items():
            total[name] = total.get(name, 0) + count
    assert all(total.values()), total


def test_the_same_seed_is_the_same_run():
    digests = []
    for _ in range(2):
        world = World(7)
        world.run(60)
        digests.append(world.timeline.digest())
    assert digests[0] == digests[1]
