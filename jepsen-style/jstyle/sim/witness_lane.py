"""A node's way to a witness's directory on a file server: the tree is everybody's, the lane of jobs the node's own.

Rule: a job does all it does at one instant, as the server orders it, and not while the server is down, stopped or cut
off from the node: it waits, as on a hard mount. A node that dies in the middle leaves any part of its job done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from jstyle.sim.clock import NodeClock, PowerCut
from jstyle.sim.disk import SimDisk, SimFile
from jstyle.sim.timeline import MS

if TYPE_CHECKING:
    from jstyle.sim.witness_host import WitnessHost

_AGAIN_NS: Final = 20 * MS


class WitnessLane:
    """Implements ports.Disk for one process of a node."""

    def __init__(self, server: WitnessHost, clock: NodeClock, node: str) -> None:
        self._server = server
        self._clock = clock
        self._node = node
        self._jobs: deque[tuple[Callable[[], None], Callable[[OSError | None], None]]] = deque()

    @property
    def _tree(self) -> SimDisk:
        return self._server.disk

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> SimFile:
        """See Disk."""
        return self._tree.open(path, create=create, direct=direct)

    def exists(self, path: str) -> bool:
        """See Disk."""
        return self._tree.exists(path)

    def listdir(self, path: str) -> list[str]:
        """See Disk."""
        return self._tree.listdir(path)

    def mkdir(self, path: str) -> None:
        """See Disk."""
        self._tree.mkdir(path)

    def rename(self, old: str, new: str) -> None:
        """See Disk."""
        self._tree.rename(old, new)

    def link(self, old: str, new: str) -> None:
        """See Disk."""
        self._tree.link(old, new)

    def unlink(self, path: str) -> None:
        """See Disk."""
        self._tree.unlink(path)

    def fsync_dir(self, path: str) -> None:
        """See Disk."""
        self._tree.fsync_dir(path)

    def free_bytes(self, path: str) -> int:
        """See Disk."""
        return self._tree.free_bytes(path)

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        """Nobody else is here."""
        return True

    def lock(self, path: str) -> bool:
        """See Disk."""
        return self._tree.lock(path)

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        """See Disk."""
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._set_out()

    def _set_out(self) -> None:
        timeline = self._tree.timeline
        timeline.at(self._clock.lead_ns() + self._tree.latency_ns(), lambda: self._clock.aside(self._serve))

    def _reaches(self) -> bool:
        server, fabric = self._server, self._server.cluster.fabric
        there, back = fabric.link(self._node, server.name), fabric.link(server.name, self._node)
        return server.running and not server.paused and not there.blocked and not back.blocked

    def _serve(self) -> None:
        timeline = self._tree.timeline
        if not self._reaches():
            timeline.at(_AGAIN_NS, lambda: self._clock.aside(self._serve))
            return
        job, done = self._jobs.popleft()
        error: OSError | None = None
        try:
            job()
        except OSError as caught:
            error = caught
        clock = self._clock
        timeline.at(self._tree.random.randrange(1000, 50_000), lambda: clock.enter(lambda: done(error)))
        if self._jobs:
            self._set_out()

    def interrupt(self) -> None:
        """The process dies now: the job in service may have got any part of its way."""
        tree = self._tree
        if self._jobs and self._reaches() and tree.random.random() < 0.5:
            tree.cut_after = tree.random.randrange(6)
            with suppress(PowerCut, OSError):
                self._jobs[0][0]()
            tree.cut_after = -1
        self._jobs.clear()
