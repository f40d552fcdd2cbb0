"""Who listens to which channel on this node, and how a message reaches them. [compiled]

Rule: the only place that changes a session's subscriptions. It delivers to sessions of this node and hands what was
published here to ``forward``, which tells the group's other nodes, and ``shout``, which tells other groups; what they
tell us comes in through ``deliver``. Messages are not logged: a subscriber that is away misses them, as in Valkey.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.commands.context import (
    NOTIFY_EVICTED,
    NOTIFY_EXPIRED,
    NOTIFY_GENERIC,
    NOTIFY_HASH,
    NOTIFY_KEY_MISS,
    NOTIFY_LIST,
    NOTIFY_NEW,
    NOTIFY_SET,
    NOTIFY_STREAM,
    NOTIFY_STRING,
    NOTIFY_ZSET,
)
from durakv.commands.glob import glob_match
from durakv.keyspace.slots import slot_of
from durakv.resp.encoder import encode
from durakv.resp.types import Push, Reply

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.usage import Usage

_CLASSES: Final = {
    "g": NOTIFY_GENERIC, "$": NOTIFY_STRING, "l": NOTIFY_LIST, "s": NOTIFY_SET, "h": NOTIFY_HASH, "z": NOTIFY_ZSET,
    "x": NOTIFY_EXPIRED, "e": NOTIFY_EVICTED, "t": NOTIFY_STREAM, "m": NOTIFY_KEY_MISS, "n": NOTIFY_NEW,
}  # fmt: skip
_ALL: Final = "g$lshzxet"

Index = dict[bytes, dict["Session", None]]
Forward = Callable[[bytes, bytes, bool], None]
Shout = Callable[[bytes, bytes], None]


class PubSub:
    """Channels, patterns and shard channels. ``wake(session)`` asks for a flush of what was queued on it."""

    def __init__(self, wake: Callable[[Session], None]) -> None:
        self.wake = wake
        # forward(channel, message, shard): set once links to other nodes exist.
        self.forward: Forward | None = None
        # shout(channel, message): tells the nodes of other groups; set where there may be any.
        self.shout: Shout | None = None
        self.channels: Index = {}
        self.patterns: Index = {}
        self.shard_channels: Index = {}
        # Keyspace events: classes somebody may listen to, and which of the two channel families are on.
        self.notify_mask = 0
        self.keyspace_on = False
        self.keyevent_on = False
        # Set while requests are counted by slot.
        self.usage: Usage | None = None

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def subscribe(self, s: Session, channel: bytes) -> Push:
        """Add; returns the confirmation."""
        _add(self.channels, s.channels, s, channel)
        return Push([b"subscribe", channel, len(s.channels) + len(s.patterns)])

    def psubscribe(self, s: Session, pattern: bytes) -> Push:
        """Add a glob pattern."""
        _add(self.patterns, s.patterns, s, pattern)
        return Push([b"psubscribe", pattern, len(s.channels) + len(s.patterns)])

    def ssubscribe(self, s: Session, channel: bytes) -> Push:
        """Add a shard channel."""
        _add(self.shard_channels, s.shard_channels, s, channel)
        return Push([b"ssubscribe", channel, len(s.shard_channels)])

    def unsubscribe(self, s: Session, channel: bytes | None) -> Push:
        """Remove; ``None`` makes the answer to UNSUBSCRIBE without subscriptions."""
        if channel is not None:
            _drop(self.channels, s.channels, s, channel)
        return Push([b"unsubscribe", channel, len(s.channels) + len(s.patterns)])

    def punsubscribe(self, s: Session, pattern: bytes | None) -> Push:
        """Remove a pattern; see unsubscribe."""
        if pattern is not None:
            _drop(self.patterns, s.patterns, s, pattern)
        return Push([b"punsubscribe", pattern, len(s.channels) + len(s.patterns)])

    def sunsubscribe(self, s: Session, channel: bytes | None) -> Push:
        """Remove a shard channel; see unsubscribe."""
        if channel is not None:
            _drop(self.shard_channels, s.shard_channels, s, channel)
        return Push([b"sunsubscribe", channel, len(s.shard_channels)])

    def forget(self, s: Session) -> None:
        """Drop everything of a session that is gone or was reset; says nothing to it."""
        for index, own in (
            (self.channels, s.channels), (self.patterns, s.patterns), (self.shard_channels, s.shard_channels),
        ):  # fmt: skip
            for name in list(own):
                _drop(index, own, s, name)

    # -- messages --------------------------------------------------------------------------------------------------

    def publish(self, channel: bytes, message: bytes, sender: Session | None = None) -> int:
        """Deliver here and tell the other nodes; returns how many clients of this node received it.

        What ``sender`` itself receives goes to its ``late``, which show_late() sends after the reply.
        """
        if self.forward is not None:
            self.forward(channel, message, False)
        if self.shout is not None:
            self.shout(channel, message)
        return self.deliver(channel, message, sender)

    def publish_all(self, channel: bytes, message: bytes, *, first: bool) -> None:
        """Deliver what every node of the group publishes by itself; the ``first`` of them tells other groups."""
        if first and self.shout is not None:
            self.shout(channel, message)
        self.deliver(channel, message)

    def spublish(self, channel: bytes, message: bytes, sender: Session | None = None) -> int:
        """publish() for shard channels."""
        if self.forward is not None:
            self.forward(channel, message, True)
        return self.deliver_shard(channel, message, sender)

    def deliver(self, channel: bytes, message: bytes, sender: Session | None = None) -> int:
        """Deliver to this node's subscribers only; returns how many received it (a client may count twice)."""
        count = 0
        subscribers = self.channels.get(channel)
        if subscribers:
            count = self._send(subscribers, [b"message", channel, message], sender)
        if self.patterns:
            for pattern, listeners in self.patterns.items():
                if glob_match(pattern, channel):
                    count += self._send(listeners, [b"pmessage", pattern, channel, message], sender)
        return count

    def deliver_shard(self, channel: bytes, message: bytes, sender: Session | None = None) -> int:
        """deliver() for shard channels."""
        subscribers = self.shard_channels.get(channel)
        if not subscribers:
            return 0
        items: list[Reply] = [b"smessage", channel, message]
        if self.usage is not None:
            self.usage.pushed(channel, sum(len(encode(Push(items), s.protocol)) for s in subscribers))
        return self._send(subscribers, items, sender)

    def show_late(self, s: Session) -> None:
        """The session's command is answered: now the messages it sent to itself. Source: server.c afterCommand()."""
        for wire in s.late:
            s.write(wire)
        s.late = []
        self.wake(s)

    def _send(self, subscribers: dict[Session, None], items: list[Reply], sender: Session | None) -> int:
        push = Push(items)
        wires = [b"", b"", b"", b""]
        for s in subscribers:
            wire = wires[s.protocol]
            if not wire:
                wire = encode(push, s.protocol)
                wires[s.protocol] = wire
            if s is sender:
                s.late.append(wire)
                continue
            s.write(wire)
            self.wake(s)
        return len(subscribers)

    # -- keyspace events -------------------------------------------------------------------------------------------

    def set_notify(self, flags: str) -> None:
        """Take over ``notify-keyspace-events``; call at start and when it changes."""
        letters = flags.replace("A", _ALL)
        self.keyspace_on = "K" in letters
        self.keyevent_on = "E" in letters
        mask = 0
        if self.keyspace_on or self.keyevent_on:
            for letter in letters:
                mask |= _CLASSES.get(letter, 0)
        self.notify_mask = mask

    def keyspace_events(self, events: list[tuple[int, bytes, bytes]]) -> None:
        """Publish (db, event, key) triples to this node's subscribers; every node makes its own from apply."""
        if not self.channels and not self.patterns:
            return
        for db, event, key in events:
            if self.keyspace_on:
                self.deliver(b"__keyspace@%d__:%s" % (db, key), event)
            if self.keyevent_on:
                self.deliver(b"__keyevent@%d__:%s" % (db, event), key)

    # -- PUBSUB ----------------------------------------------------------------------------------------------------

    def active(self, pattern: bytes | None, *, shard: bool) -> list[bytes]:
        """Channels with subscribers on this node, optionally those matching a glob."""
        index = self.shard_channels if shard else self.channels
        return [name for name in index if pattern is None or glob_match(pattern, name)]

    def count(self, channel: bytes, *, shard: bool) -> int:
        """Subscribers of a channel on this node, patterns not included."""
        return len((self.shard_channels if shard else self.channels).get(channel, ()))

    def drop_slots(self, first: int, last: int) -> None:
        """Unsubscribe everybody from shard channels whose slot has left this node, telling them so."""
        for channel in list(self.shard_channels):
            if first <= slot_of(channel) <= last:
                for s in list(self.shard_channels[channel]):
                    s.write(encode(self.sunsubscribe(s, channel), s.protocol))
                    self.wake(s)


def _add(index: Index, own: dict[bytes, None], s: Session, name: bytes) -> None:
    own[name] = None
    listeners = index.get(name)
    if listeners is None:
        index[name] = {s: None}
    else:
        listeners[s] = None


def _drop(index: Index, own: dict[bytes, None], s: Session, name: bytes) -> None:
    if name in own:
        del own[name]
        listeners = index[name]
        del listeners[s]
        if not listeners:
            del index[name]
