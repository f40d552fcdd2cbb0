"""Commands about all keys: asked of every group, their replies made one.

Rule: the only place that knows how replies of several groups add up. Nothing here is atomic: each group answers for
itself, and what a group could not do is said with what the others did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.proxy import texts
from durakv.proxy.task import Call, Task
from durakv.resp import split
from durakv.resp.encoder import encode, error_line

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.plans import Plan

_SUM: Final = ("dbsize", "pubsub|numpat")
_JOIN: Final = ("keys",)
_UNION: Final = ("pubsub|channels", "pubsub|shardchannels")
_BY_NAME: Final = ("pubsub|numsub", "pubsub|shardnumsub")
_ALL: Final = ("script|exists",)
# Done when any group did it: the script runs in one of them.
_ONE_DID: Final = ("script|kill", "function|kill")
_SLOT_BITS: Final = 14
_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1
# What clients read a cursor into.
_CURSOR_MAX: Final = 1 << 64


class Broadcast(Task):
    """One request to the leader of every group."""

    def __init__(self, client: Client, plan: Plan, argv: list[bytes], muted: bool) -> None:
        super().__init__(client, plan, argv, muted)
        self._calls: list[Call] = []
        self._replies: list[bytes] = []
        self._missing = 0

    def start(self) -> None:
        """Ask all at once."""
        client = self.client
        homes = client.hub.table.homes()
        if not homes or not client.hub.table.complete():
            client.hub.refresh()
        if not homes:
            self.finish(texts.NOT_SERVED)
            return
        self._replies = [b""] * len(homes)
        self._missing = len(homes)
        self._calls = [
            Call(client.hub, client.profile, self.plan, self.argv, slot, self._answered, number=client.number)
            for slot in homes
        ]
        for call in list(self._calls):
            call.start()

    def abandon(self) -> None:
        """See Task."""
        for call in self._calls:
            call.cancel()

    def _answered(self, call: Call, wire: bytes) -> None:
        self._replies[self._calls.index(call)] = wire
        if call.lane is not None and not self.plan.again:
            self.client.wrote[call.lane] = None
        self._missing -= 1
        if self._missing == 0:
            self.finish(merged(self.plan.name, self._replies, changes=not self.plan.again))


def merged(name: str, replies: list[bytes], *, changes: bool) -> bytes:
    """The replies of all groups as one. ``changes``: an error says how many groups did it all the same."""
    errors = [reply for reply in replies if reply[:1] == b"-"]
    if name in _ONE_DID and len(errors) < len(replies):
        return next(reply for reply in replies if reply[:1] != b"-")
    if errors:
        worst = next((reply for reply in errors if reply.startswith(b"-UNKNOWN")), errors[0])
        done = len(replies) - len(errors)
        if changes and done:
            return worst.rstrip() + b" (%d of %d groups did it)\r\n" % (done, len(replies))
        return worst
    if name in _SUM:
        return b":%d\r\n" % sum(int(reply[1:]) for reply in replies)
    if name in _JOIN:
        items = [item for reply in replies for item in _items(reply)]
        return b"*%d\r\n" % len(items) + b"".join(items)
    if name in _UNION:
        names = list(dict.fromkeys(item for reply in replies for item in _items(reply)))
        return b"*%d\r\n" % len(names) + b"".join(names)
    if name in _BY_NAME:
        return _summed_by_name(replies)
    if name in _ALL:
        return _everywhere(replies)
    return replies[0]


def _items(reply: bytes) -> list[bytes]:
    return split.items(b"*" + reply[1:])


def _summed_by_name(replies: list[bytes]) -> bytes:
    """Flat name, count, name, count...; under RESP3 NUMSUB's reply is a map."""
    counts: dict[bytes, int] = {}
    head = replies[0][: replies[0].index(b"\r\n") + 2]
    for reply in replies:
        size = int(reply[1 : reply.index(b"\r\n")])
        flat = reply
        if reply[:1] == b"%":
            flat = b"*%d" % (2 * size) + reply[reply.index(b"\r\n") :]
        items = split.items(flat)
        for i in range(0, len(items) - 1, 2):
            counts[items[i]] = counts.get(items[i], 0) + int(items[i + 1][1:])
    return head + b"".join(name + b":%d\r\n" % count for name, count in counts.items())


def _everywhere(replies: list[bytes]) -> bytes:
    """Per item 1 when every group says so."""
    columns = [[int(item[1:]) for item in _items(reply)] for reply in replies]
    return encode([min(column) for column in zip(*columns, strict=True)], 2)


class Scan(Task):
    """SCAN over all groups, one after the other.

    The cursor is the group's own with the lowest slot of the group below it, so that any proxy can go on with it.
    """

    _call: Call | None = None

    def start(self) -> None:
        """Ask the group the cursor belongs to."""
        client = self.client
        text = self.argv[1]
        if not text.isdigit() or int(text[:24]) >= _CURSOR_MAX:
            self.finish(error_line("ERR invalid cursor"))
            return
        cursor = int(text)
        slot = cursor & _SLOT_MASK
        if cursor == 0:
            homes = client.hub.table.homes()
            slot = homes[0] if homes else 0
        argv = [self.argv[0], b"%d" % (cursor >> _SLOT_BITS), *self.argv[2:]]
        call = Call(client.hub, client.profile, self.plan, argv, slot, self._answered, number=client.number)
        self._call = call
        call.start()

    def abandon(self) -> None:
        """See Task."""
        if self._call is not None:
            self._call.cancel()

    def _answered(self, call: Call, wire: bytes) -> None:
        if wire[:1] == b"-":
            self.finish(wire)
            return
        cursor_item, keys = split.items(wire)
        cursor = int(cursor_item.split(b"\r\n")[1])
        slot = call.slot
        if cursor == 0:
            slot = self._next_home(slot)
        joined = cursor << _SLOT_BITS | slot
        if joined >= _CURSOR_MAX:
            self.finish(error_line("ERR this node's cursor leaves no room for its group: scan the nodes themselves"))
            return
        self.finish(b"*2\r\n" + encode(b"%d" % joined, 2) + keys)

    def _next_home(self, slot: int) -> int:
        """The next group's lowest slot; 0, with a cursor of 0, ends the scan."""
        for home in self.client.hub.table.homes():
            if home > slot:
                return home
        return 0


class RandomKey(Task):
    """RANDOMKEY of a group drawn at random; of the next ones while those are empty."""

    _call: Call | None = None

    def start(self) -> None:
        """Draw a group."""
        hub = self.client.hub
        self._left = list(hub.table.homes())
        if not self._left:
            self.finish(texts.NOT_SERVED)
            return
        first = hub.rng.below(len(self._left))
        self._left = self._left[first:] + self._left[:first]
        self._ask()

    def abandon(self) -> None:
        """See Task."""
        if self._call is not None:
            self._call.cancel()

    def _ask(self) -> None:
        client = self.client
        slot = self._left.pop(0)
        call = Call(client.hub, client.profile, self.plan, self.argv, slot, self._answered, number=client.number)
        self._call = call
        call.start()

    def _answered(self, call: Call, wire: bytes) -> None:
        if wire in (b"$-1\r\n", b"_\r\n") and self._left:
            self._ask()
        else:
            self.finish(wire)
