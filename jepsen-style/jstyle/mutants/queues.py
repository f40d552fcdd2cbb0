"""A peer that takes nothing: does what is queued for it stay bounded?

Rule: direct; the production transport on a network whose streams open and never drain. Bounded-memory is its one check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.replication.transport import KIND_RAFT, LANE_BULK, QUEUE_BYTES_MAX, Transport
from durakv.world.ports import Listener, Stream, StreamHandler
from jstyle.crash.node import ManualClock
from jstyle.mutants.probes import Sighting

_FRAME_BYTES: Final = 1 << 20
_FRAMES: Final = 400


class StuckStream:
    """Accepts bytes and sends none."""

    def __init__(self) -> None:
        self.queued_bytes = 0

    def write(self, data: bytes) -> None:
        self.queued_bytes += len(data)

    def write_buffer_bytes(self) -> int:
        return self.queued_bytes

    def close(self) -> None:
        """Nothing to flush to."""

    def abort(self) -> None:
        self.queued_bytes = 0

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def peer_address(self) -> tuple[str, int]:
        return "peer", 1

    def local_address(self) -> tuple[str, int]:
        return "here", 1


class StuckNetwork:
    """Every connection opens at once and is stuck."""

    def __init__(self) -> None:
        self.streams: list[StuckStream] = []

    def listen(self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None) -> Listener:
        raise OSError(f"nothing listens on {host}:{port} here")

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        stream = StuckStream()
        self.streams.append(stream)
        typed: Stream = stream
        handler.on_open(typed)


def _no_frame(node: int, kind: int, data: bytes) -> None:
    raise AssertionError(f"a stuck peer sent frame {kind} of {len(data)} bytes as node {node}")


def _nothing(_: object) -> None:
    """A link that broke, or a stranger: neither happens here and neither would matter."""


class QueueProbe:
    """MEM: bytes queued for one peer stay below the limit and one frame."""

    name = "stuck peer"

    def run(self, seed: int) -> list[Sighting]:
        network = StuckNetwork()
        transport = Transport(network, ManualClock(), bytes(16), 1, _no_frame, _nothing, _nothing)
        transport.set_peers({2: ("peer", 1)})
        taken = sum(transport.send(2, LANE_BULK, KIND_RAFT, bytes(_FRAME_BYTES)) for _ in range(_FRAMES))
        queued = max(stream.queued_bytes for stream in network.streams)
        if taken == 0:
            return [Sighting("MEM", "an open stream takes nothing at all")]
        if queued > QUEUE_BYTES_MAX + 2 * _FRAME_BYTES:
            return [
                Sighting("MEM", f"{queued >> 20} MiB are queued for one dead peer, {QUEUE_BYTES_MAX >> 20} allowed")
            ]
        return []
