"""A client of the simulated cluster: one connection, one operation at a time, no retry and no redirect.

Rule: what is recorded is what a careful observer saw, nothing more. An operation whose outcome is unknown ends its
logical process; the next one begins under a new process id on a new connection. Everything a client does is drawn
from streams named after it and the number of the operation, so that leaving one operation out changes no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import hiredis

from durakv.world.ports import Stream, StreamHandler
from jstyle.history.op import FAIL, INFO, INVOKE, OK, Op, Value
from jstyle.sim.machine import Machine
from jstyle.sim.outcomes import CLOSED, SILENT, TIMEOUT, ErrorText, of_silence
from jstyle.sim.shadow import Shadow
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS, START_NS, Timeline
from jstyle.sim.violation import Violation
from jstyle.sim.workloads.action import Action, Command, Done, UnexpectedReply, Workload
from jstyle.sim.workloads.catalogue import WORKLOADS

CONNECT_TIMEOUT_MS: Final = 1000
_RETRY_MS: Final = 100
# Operation numbers of one client stay below this, so that its unique values are its own.
OPS_MAX: Final = 100_000


@dataclass
class ClientPlan:
    """A client as data. ``home``: the node it dials (0: any, a new one each time). ``skip``: operations left out."""

    name: str
    workload: str
    home: int = 0
    think_ms: int = 150
    timeout_ms: int = 4000
    ops_max: int = OPS_MAX
    skip: tuple[int, ...] = ()


class World(Protocol):
    """What a client needs of a simulated world: a Cluster, or Groups."""

    seed: int

    @property
    def timeline(self) -> Timeline: ...

    @property
    def machines(self) -> list[Machine]: ...

    def dial(self, client: str, number: int, handler: StreamHandler, timeout_ms: int = 1000) -> None:
        """Connect a client host to a machine's client port."""


class History:
    """All operations of a run in order, and the same by workload. ``counts`` is (workload, f, outcome) -> how many."""

    def __init__(self, cluster: World) -> None:
        self._timeline = cluster.timeline
        self.ops: list[Op] = []
        self.by_workload: dict[str, list[Op]] = {}
        self.counts: dict[tuple[str, str, str], int] = {}

    def add(
        self, workload: str, process: int | str, type: str, f: str, value: Value, key: Value = None,
        node: str | None = None, error: str | None = None,
    ) -> Op:  # fmt: skip
        """Record a step."""
        op = Op(len(self.ops), self._timeline.now_ns - START_NS, process, type, f, value, error, key, node)
        self.ops.append(op)
        self.by_workload.setdefault(workload, []).append(op)
        if type != INVOKE:
            counted = (workload, f, type)
            self.counts[counted] = self.counts.get(counted, 0) + 1
        self._timeline.mix(len(type) + 8 * len(self.ops))
        return op


class Client:
    """See the module's text. ``busy`` while an operation is open; ``nodes`` are those it may dial."""

    def __init__(
        self, cluster: World, shadow: Shadow, history: History, plan: ClientPlan, number: int, of: int
    ) -> None:
        self.cluster = cluster
        self.shadow = shadow
        self.history = history
        self.plan = plan
        # Under which name its operations are recorded.
        self.label = plan.workload
        self.number = number
        self.concurrency = of
        self.process = number
        self.workload: Workload = WORKLOADS[plan.workload]()
        self.nodes = [machine.node_id for machine in cluster.machines]
        self.dials = 0
        self.turn = 0
        self.action: Action | None = None
        self.finals: list[Action] = []
        self.stopped = False
        self.ok = 0
        # Operations that the group answered, also with an empty queue or a lock that is held; not with an error.
        self.served = 0
        # When the operations that ran into their timeout began, in nanoseconds, and at which node.
        self.timeouts: list[tuple[int, int]] = []
        self._link: Link | None = None
        self._dialling = False
        self._sent_effect = False
        self._began = 0
        self._began_ns = 0

    @property
    def busy(self) -> bool:
        """An operation is open."""
        return self.action is not None

    def start(self) -> None:
        """Begin to work."""
        self._later(self._think_ms(), self._next)

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopped = True

    def run_finals(self, actions: list[Action]) -> None:
        """Run these as soon as nothing is open; ``finals`` is empty and ``busy`` false when they are done."""
        self.finals = actions
        self._later(1, self._next)

    def restrict(self, nodes: list[int]) -> None:
        """Dial only these from now on; a connection to another is dropped when it is idle."""
        self.nodes = nodes
        link = self._link
        if link is not None and link.node not in nodes and self.action is None:
            link.drop()

    # -- connection ----------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        if self._link is not None or self._dialling:
            return
        self.dials += 1
        self._dialling = True
        home = self.plan.home
        if home not in self.nodes:
            random = stream(self.cluster.seed, "dial", self.plan.name, self.dials)
            home = random.choice(self.nodes)
        self.cluster.dial(self.plan.name, home, Link(self, home), CONNECT_TIMEOUT_MS)

    def opened(self, link: Link) -> None:
        """The connection is there."""
        self._dialling = False
        self._link = link
        if link.node not in self.nodes:
            link.drop()
            return
        self._later(self._think_ms(), self._next)

    def closed(self, link: Link) -> None:
        """The connection is gone, or never came."""
        if self._link is link:
            self._link = None
            if self.action is not None:
                self._silent(CLOSED)
        else:
            self._dialling = False
        self._later(_RETRY_MS, self._next)

    # -- operations ----------------------------------------------------------------------------------------------------

    def _later(self, ms: int, fn: Callable[[], None]) -> None:
        self.cluster.timeline.at(ms * MS, fn)

    def _think_ms(self) -> int:
        random = stream(self.cluster.seed, "think", self.plan.name, self.turn)
        return (
            int(min(random.expovariate(1 / self.plan.think_ms), 10 * self.plan.think_ms)) if self.plan.think_ms else 0
        )

    def _next(self) -> None:
        """Begin the next operation when nothing is open."""
        if self.action is not None or self._dialling:
            return
        action = self._pick()
        if action is None:
            return
        if self._link is None:
            self._dial()
            return
        self._picked()
        self._begin(action, self._link)

    def _pick(self) -> Action | None:
        """The next operation, the same again until ``_picked``; None: there is none."""
        if self.finals:
            return self.finals[0]
        if self.stopped or self.turn >= self.plan.ops_max:
            return None
        while self.turn in self.plan.skip:
            self.turn += 1
        random = stream(self.cluster.seed, "op", self.plan.name, self.turn)
        return self.workload.draw(random, self.number * OPS_MAX + self.turn + 1, self.turn)

    def _picked(self) -> None:
        if self.finals:
            self.finals.pop(0)
        else:
            self.turn += 1

    def _begin(self, action: Action, link: Link) -> None:
        self.action = action
        self._sent_effect = False
        self._began += 1
        began = self._began
        self._began_ns = self.cluster.timeline.now_ns
        self.history.add(self.label, self.process, INVOKE, action.f, action.value, action.key, f"n{link.node}")
        self._later(self.plan.timeout_ms, lambda: self._timed_out(began))
        self._send(action, link, action.first())

    def _send(self, action: Action, link: Link, commands: list[Command]) -> None:
        if not self._sent_effect and action.effect:
            writes = action.writes()
            if all(argv in commands for argv in writes):
                self._sent_effect = True
                self.shadow.asked(writes)
        link.send(commands)

    def answered(self, link: Link, replies: list[object]) -> None:
        """All replies to what was sent last are there."""
        action = self.action
        if action is None:
            raise Violation("K1", f"client {self.plan.name} got {replies!r}, which it did not ask for")
        try:
            following = action.next(replies)
        except UnexpectedReply as error:
            raise Violation("K1", f"client {self.plan.name} at n{link.node}: {error}") from None
        if isinstance(following, Done):
            self._account(action, following, replies)
            self._end(following)
        else:
            self._send(action, link, following)

    def _account(self, action: Action, done: Done, replies: list[object]) -> None:
        if not self._sent_effect:
            return
        if done.type == FAIL and (isinstance(replies[-1], ErrorText) or done.error == "aborted"):
            self.shadow.refused(action.writes(), done.error or "")
        elif done.type != INFO:
            answered = action.answered(replies)
            if answered is not None:
                self.shadow.acknowledged(action.writes(), answered)

    def _timed_out(self, began: int) -> None:
        if self.action is not None and began == self._began:
            self.timeouts.append((self._began_ns, self._link.node if self._link is not None else 0))
            self._silent(TIMEOUT)

    def _silent(self, why: str) -> None:
        action = self.action
        assert action is not None
        self._end(Done(of_silence(sent=True, effect=self._sent_effect), action.value, why))

    def _end(self, done: Done) -> None:
        action = self.action
        assert action is not None
        self.action = None
        value = done.value if done.type == OK else action.value
        self.history.add(self.label, self.process, done.type, action.f, value, action.key, None, done.error)
        if done.type == OK or (
            done.type == FAIL and not isinstance(done.error, ErrorText) and done.error not in SILENT
        ):
            self.served += 1
        if done.type == OK:
            self.ok += 1
            self.workload.saw(action, done.value)
        if done.type == INFO:
            self.process += self.concurrency
        link = self._link
        if link is not None and (done.type == INFO or done.error in {CLOSED, TIMEOUT} or link.node not in self.nodes):
            # A late reply must not be taken for another operation's.
            link.drop()
            return
        self._later(self._think_ms(), self._next)


class Link:
    """One connection; implements StreamHandler."""

    def __init__(self, client: Client, node: int) -> None:
        self.client = client
        self.node = node
        self.stream: Stream | None = None
        self.reader = hiredis.Reader(replyError=ErrorText)  # type: ignore[arg-type]
        self.expected = 0
        self.replies: list[object] = []
        self.dropped = False

    def send(self, commands: list[Command]) -> None:
        """Write requests in one piece."""
        assert self.stream is not None
        self.expected = len(commands)
        self.replies = []
        self.stream.write(b"".join(wire_of(argv) for argv in commands))

    def drop(self) -> None:
        """Close; nothing that still arrives is heard."""
        if not self.dropped:
            self.dropped = True
            if self.stream is not None:
                self.stream.abort()
            self.client.closed(self)

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        self.stream = stream
        self.client.opened(self)

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self.dropped:
            return
        self.reader.feed(data)
        while not self.dropped and (reply := self.reader.gets()) is not False:
            self.replies.append(reply)
            if len(self.replies) == self.expected:
                replies, self.replies = self.replies, []
                self.expected = 0
                self.client.answered(self, replies)
            elif len(self.replies) > self.expected:
                raise Violation("K1", f"client {self.client.plan.name} got an unasked {reply!r} from n{self.node}")

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        if not self.dropped:
            self.dropped = True
            self.client.closed(self)


def wire_of(argv: Command) -> bytes:
    """A request as RESP."""
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in argv)
