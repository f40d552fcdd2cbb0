"""Mischief with whole frames between nodes: lost, doubled, late, overtaken, repeated long afterwards, damaged.

A consensus message, or one about slots between groups, promises nothing about the fate of another, so a group must
stand any of this; requests and replies of forwarded clients rely on their stream's order and pass untouched.
Rule: the only part of the simulated network that looks into bytes, and only at a frame's kind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from struct import Struct
from typing import TYPE_CHECKING, Final

from durakv.replication.transport import KIND_RAFT, KIND_SLOTS
from jstyle.sim.timeline import MS, Timeline

if TYPE_CHECKING:
    from jstyle.sim.net_stream import End

_HEAD: Final = Struct("<IIB")
_LENGTH_BYTES: Final = 4
_KEPT: Final = 32
# What promises nothing about its fate.
_LOOSE: Final = (KIND_RAFT, KIND_SLOTS)


@dataclass
class FrameOptions:
    """Probabilities per consensus frame, and how late a late one may be."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_ms_max: int = 2000
    # A bit of any frame between nodes arrives flipped, past TCP's checksum. Never one of its length, which no checksum
    # protects: the receiver would wait for what never comes.
    flip: float = 0.0
    # An old frame, perhaps of an earlier stream, is sent again along with this one.
    replay: float = 0.0


class Interposer:
    """Sits on one directed link."""

    def __init__(self, random: Random, timeline: Timeline, options: FrameOptions) -> None:
        self.random = random
        self.timeline = timeline
        self.options = options
        self.enabled = True
        self._old: deque[bytes] = deque(maxlen=_KEPT)

    def takes(self, end: End, data: bytes) -> bool:
        """Whether the frame is dealt with here; False: send it as usual. A peer stream is written a frame at a time."""
        if not self.enabled or not end.is_peer_lane or len(data) < _HEAD.size:
            return False
        size, _, kind = _HEAD.unpack_from(data)
        assert size + _HEAD.size == len(data), "a peer stream is not written frame by frame"
        options, random = self.options, self.random
        if options.flip and random.random() < options.flip:
            self.timeline.fold("frame-flip", end.host.name, end.out.target)
            damaged = bytearray(data)
            damaged[random.randrange(_LENGTH_BYTES, len(damaged))] ^= 1 << random.randrange(8)
            end.send(bytes(damaged))
            return True
        if kind not in _LOOSE:
            return False
        chance = random.random()
        if options.replay and self._old and random.random() < options.replay:
            end.send(random.choice(self._old))
        if options.replay:
            self._old.append(bytes(data))
        if chance < options.drop:
            self.timeline.fold("frame-drop", end.host.name, end.out.target)
            return True
        chance -= options.drop
        if chance < options.delay:
            self._later(end, data)
            return True
        chance -= options.delay
        if chance < options.duplicate:
            end.send(data)
            self._later(end, data)
            return True
        return False

    def _later(self, end: End, data: bytes) -> None:
        """Send the frame after others have gone."""

        def send() -> None:
            if not end.closed:
                end.send(data)

        self.timeline.at(int(self.random.random() * self.options.delay_ms_max * MS), send)
