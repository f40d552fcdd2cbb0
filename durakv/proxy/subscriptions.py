"""SUBSCRIBE and its like: one client's channels, on connections of its own.

Rule: what a client is subscribed to outlives the connections: when one ends, or a slot moves, its channels are
subscribed again elsewhere without the client hearing of it. Messages published in between are lost, as they are to a
client that reconnects. Confirmations are written here, since only the proxy knows the client's counts.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.keyspace.slots import slot_of
from durakv.proxy import texts
from durakv.proxy.lane import CLOSED, Lane
from durakv.proxy.refusal import ASK, LATER, MOVED, NONE, UNSENT, kind_of, redirection
from durakv.proxy.request import LaneWatcher, request_wire
from durakv.proxy.resend import delay_ms
from durakv.proxy.task import Task
from durakv.resp import split
from durakv.resp.encoder import encode
from durakv.resp.types import Push
from durakv.world.ports import Timer

if TYPE_CHECKING:
    from durakv.proxy.client import Client

CHANNEL: Final = 0
PATTERN: Final = 1
SHARD: Final = 2
_VERBS: Final = (b"subscribe", b"psubscribe", b"ssubscribe")
_UNVERBS: Final = (b"unsubscribe", b"punsubscribe", b"sunsubscribe")
_MESSAGES: Final = (b"message", b"pmessage", b"smessage")
_KINDS: Final = {"subscribe": CHANNEL, "psubscribe": PATTERN, "ssubscribe": SHARD}
_MINUS: Final = 0x2D
_ARRAYS: Final = b"*>"


class _Expected:
    """A command whose confirmations, one per name, are to come on a connection."""

    __slots__ = ("kind", "leaving", "names")

    def __init__(self, kind: int, names: list[bytes], *, leaving: bool) -> None:
        self.kind = kind
        self.names = deque(names)
        self.leaving = leaving


class Subscriptions(LaneWatcher):
    """``wanted[kind]`` are the names the client was told it is subscribed to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._hub = client.hub
        self.wanted: tuple[dict[bytes, None], ...] = ({}, {}, {})
        # Names the task now running waits for, by kind.
        self._asked: tuple[dict[bytes, None], ...] = ({}, {}, {})
        # One for channels and patterns, one per node for sharded channels.
        self._main: Lane | None = None
        self._shards: dict[Lane, dict[bytes, None]] = {}
        self._expected: dict[Lane, deque[_Expected]] = {}
        self._task: Subscribe | None = None
        self._timer: Timer | None = None
        self._tries = 0

    def confines(self, protocol: int) -> bool:
        """Whether the client may only subscribe and unsubscribe."""
        return protocol == 2 and any(self.wanted)

    def subscribe(self, task: Subscribe, kind: int, names: list[bytes]) -> None:
        """Subscribe to more; the task is over when all are confirmed."""
        self._task = task
        for name in names:
            self._asked[kind][name] = None
        self._say(kind, names)

    def unsubscribe(self, kind: int, names: list[bytes]) -> None:
        """Subscribe to less; told to the client at once, and nothing more of these arrives."""
        wanted = self.wanted[kind]
        gone = names or list(wanted)
        for name in gone:
            was = name in wanted
            wanted.pop(name, None)
            self._confirm(_UNVERBS[kind], name, kind)
            if was:
                self._leave(kind, name)
        if not gone:
            self._confirm(_UNVERBS[kind], None, kind)
        if not any(self.wanted):
            self.end()
            self._client.subscriptions = None

    def end(self) -> None:
        """Leave everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lanes = list(self._expected)
        self._expected.clear()
        self._shards.clear()
        self._main = None
        for lane in lanes:
            lane.watcher = None
            lane.close("no longer used")

    # -- LaneWatcher -----------------------------------------------------------------------------------------------

    def on_push(self, lane: Lane, wire: bytes) -> None:
        """A message, a confirmation or a refusal."""
        expected = self._expected.get(lane)
        if expected is None:
            return
        if wire[0] == _MINUS:
            if expected:
                self._refused(lane, expected.popleft(), wire)
            return
        if wire[0] not in _ARRAYS:
            # An answer to a PING that asked for a sign of life.
            return
        items = split.items(b"*" + wire[1:])
        word = _bulk(items[0])
        if word in _MESSAGES:
            if _bulk(items[1]) in self.wanted[_MESSAGES.index(word)]:
                self._client.push(wire)
            return
        if word == b"pong":
            return
        name = _bulk(items[1])
        leaving = word in _UNVERBS
        if leaving and not (expected and expected[0].leaving and name in expected[0].names):
            # The slot has moved: its subscribers go on where it is now.
            self._shards.get(lane, {}).pop(name, None)
            self._hub.refresh()
            self._later(MOVED)
            return
        if not expected:
            return
        head = expected[0]
        if name in head.names:
            head.names.remove(name)
        if not head.names:
            expected.popleft()
        if leaving:
            return
        self._tries = 0
        asked = self._asked[head.kind]
        if name in asked:
            del asked[name]
            self.wanted[head.kind][name] = None
            self._confirm(_VERBS[head.kind], name, head.kind)
            self._settle()

    def on_end(self, lane: Lane) -> None:
        """Subscribe again what was on it."""
        if self._expected.pop(lane, None) is None:
            return
        self._shards.pop(lane, None)
        if self._main is lane:
            self._main = None
        self._hub.refresh()
        self._later(UNSENT, texts.unsent(lane.node.name, lane.why))

    # -- saying it -------------------------------------------------------------------------------------------------

    def _say(self, kind: int, names: list[bytes]) -> None:
        if kind != SHARD:
            lane = self._main
            if lane is None or lane.state == CLOSED:
                lane = self._main = self._open_main()
            self._subscribe_on(lane, kind, names)
            return
        by_slot: dict[int, list[bytes]] = {}
        for name in names:
            by_slot.setdefault(slot_of(name), []).append(name)
        for slot, group in by_slot.items():
            node = self._hub.table.leaders[slot]
            if node is None:
                self._hub.refresh()
                self._later(LATER, texts.NOT_SERVED)
                continue
            found = next((lane for lane in self._shards if lane.node is node and lane.state != CLOSED), None)
            if found is None:
                found = self._hub.lanes.borrow(node, self._client.profile)
                self._begin_on(found)
                self._shards[found] = {}
            for name in group:
                self._shards[found][name] = None
            self._subscribe_on(found, kind, group)

    def _open_main(self) -> Lane:
        lane = self._hub.lanes.borrow(self._hub.any_node(self._client.number + self._tries), self._client.profile)
        self._begin_on(lane)
        return lane

    def _begin_on(self, lane: Lane) -> None:
        lane.watcher = self
        lane.raw = True
        self._expected[lane] = deque()

    def _subscribe_on(self, lane: Lane, kind: int, names: list[bytes]) -> None:
        self._expected[lane].append(_Expected(kind, names, leaving=False))
        lane.say(request_wire([_VERBS[kind], *names]))

    def _leave(self, kind: int, name: bytes) -> None:
        lane = self._main
        if kind == SHARD:
            lane = next((lane for lane, names in self._shards.items() if name in names), None)
            if lane is not None:
                del self._shards[lane][name]
        if lane is not None and lane.state != CLOSED:
            self._expected[lane].append(_Expected(kind, [name], leaving=True))
            lane.say(request_wire([_UNVERBS[kind], name]))

    def _confirm(self, word: bytes, name: bytes | None, kind: int) -> None:
        count = len(self.wanted[SHARD]) if kind == SHARD else len(self.wanted[CHANNEL]) + len(self.wanted[PATTERN])
        self._client.push(encode(Push([word, name, count]), self._client.profile.protocol))

    # -- when it does not go as planned ----------------------------------------------------------------------------

    def _refused(self, lane: Lane, what: _Expected, wire: bytes) -> None:
        kind = kind_of(wire, script=False)
        if what.leaving:
            return
        names = list(what.names)
        for name in names:
            self._shards.get(lane, {}).pop(name, None)
        if kind != NONE:
            to = redirection(wire) if kind in (MOVED, ASK) else None
            if to is not None:
                self._hub.table.learn(to.slot, self._hub.table.node(to.host or lane.node.host, to.port))
            self._hub.refresh()
            if lane is self._main:
                lane.close(wire.rstrip().decode("utf-8", "replace"))
            self._later(kind, wire)
            return
        for name in names:
            self.wanted[what.kind].pop(name, None)
            self._asked[what.kind].pop(name, None)
        self._settle(wire)

    def _later(self, kind: int, wire: bytes = b"") -> None:
        """Subscribe to what is missing, soon; a task that has waited for too long is told why."""
        task = self._task
        if task is not None and wire and self._hub.clock.monotonic_ns() > task.deadline_ns:
            for asked in self._asked:
                asked.clear()
            self._settle(wire)
        if self._timer is None and self._client.subscriptions is self:
            self._timer = self._hub.clock.call_later(max(delay_ms(kind, self._tries), 1), self._complete)
            self._tries += 1

    def _complete(self) -> None:
        """Say everything that is wanted or asked for and on no connection."""
        self._timer = None
        if self._main is None:
            for kind in (CHANNEL, PATTERN):
                names = [*self.wanted[kind], *self._asked[kind]]
                if names:
                    self._say(kind, names)
        placed = {name: None for names in self._shards.values() for name in names}
        missing = [name for name in [*self.wanted[SHARD], *self._asked[SHARD]] if name not in placed]
        if missing:
            self._say(SHARD, missing)

    def _settle(self, error: bytes = b"") -> None:
        """End the task once nothing it asked for is missing."""
        task = self._task
        if task is not None and not any(self._asked):
            self._task = None
            if not any(self.wanted):
                self.end()
                self._client.subscriptions = None
            task.finish(error)


class Subscribe(Task):
    """All six commands."""

    deadline_ns = 0

    def start(self) -> None:
        """Say it, or for the un- half do it."""
        client = self.client
        name = self.plan.name
        kind = _KINDS[name.replace("unsubscribe", "subscribe")]
        self.deadline_ns = client.hub.clock.monotonic_ns() + client.hub.settings.retry_ms * 1_000_000
        subscriptions = client.subscriptions
        if subscriptions is None:
            subscriptions = client.subscriptions = Subscriptions(client)
        if "unsubscribe" in name:
            subscriptions.unsubscribe(kind, self.argv[1:])
            self.finish(b"")
        else:
            subscriptions.subscribe(self, kind, list(dict.fromkeys(self.argv[1:])))


class Ping(Task):
    """PING of a client with subscriptions."""

    def start(self) -> None:
        """Answer it here: a RESP2 client expects the shape of a message."""
        client = self.client
        word = self.argv[1] if len(self.argv) > 1 else b""
        if client.subscriptions is not None and client.subscriptions.confines(client.profile.protocol):
            self.finish(encode([b"pong", word], 2))
        else:
            self.finish(encode(word, 2) if word else b"+PONG\r\n")


def _bulk(item: bytes) -> bytes:
    """The text of an encoded bulk string."""
    line_end = item.index(b"\r\n")
    return item[line_end + 2 : -2] if item[:1] == b"$" and item[1:2] != b"-" else item[1:line_end]
