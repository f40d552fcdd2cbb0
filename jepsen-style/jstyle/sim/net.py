"""All hosts and the links between them: delays, loss, clogs, partitions, resets, refusals, machines without power.

Rule: the only place that decides whether something sent arrives. Each directed link has its own parameters and its own
dice, drawn from the seed. Loss is what TCP makes of it: a late arrival. It must not know nodes or messages.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import log
from random import Random
from typing import Final

from durakv.world.ports import StreamHandler
from jstyle.sim.clock import Door, OpenDoor
from jstyle.sim.interposer import FrameOptions, Interposer
from jstyle.sim.net_stream import ACCEPT, End
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS, Timeline

_TAIL_FACTOR: Final = 12
_RTO_MS: Final = 200
_RTO_MS_MAX: Final = 3000


@dataclass
class NetOptions:
    """Ranges (low, high) from which each directed link is drawn. Probabilities are 0..1, delays microseconds."""

    delay_min_us: tuple[int, int] = (50, 300)
    delay_mean_us: tuple[int, int] = (200, 2000)
    # A delay of the heavy tail is this probable and twelve times as long.
    tail: tuple[float, float] = (0.0, 0.02)
    loss: tuple[float, float] = (0.0, 0.0)
    # How often a piece arrives in two parts.
    split: tuple[float, float] = (0.0, 0.3)
    window_bytes: tuple[int, int] = (1 << 16, 1 << 22)
    # After this long without an acknowledgement a stream is given up.
    give_up_ms: tuple[int, int] = (5_000, 60_000)
    # What happens to whole consensus messages above the streams; None: nothing.
    frames: FrameOptions | None = None


class Link:
    """One direction between two hosts."""

    def __init__(self, fabric: Fabric, source: str, target: str, options: NetOptions) -> None:
        self.fabric = fabric
        self.timeline = fabric.timeline
        self.source = source
        self.target = target
        name = f"{source}>{target}"
        self.random: Random = stream(fabric.seed, "link", name)
        shape = stream(fabric.seed, "link-shape", name)
        self.min_ns = shape.randint(*options.delay_min_us) * 1000
        self.mean_ns = max(shape.randint(*options.delay_mean_us) * 1000, self.min_ns + 1000)
        self.tail = shape.uniform(*options.tail)
        self.loss = shape.uniform(*options.loss)
        self.split = shape.uniform(*options.split)
        self.window_bytes = shape.randint(*options.window_bytes)
        self.give_up_ms = shape.randint(*options.give_up_ms)
        # A factor on delays, for a slow network; retransmission has its own times.
        self.slowness = 1
        self.cut = False
        self.clogs = 0
        self.blocked = False
        # Counts how often its clogs were ended before their time; what was planned before that is off.
        self.calm = 0
        # Ends with arrivals that met the blocked link, one mention per arrival.
        self.held: list[End] = []
        self.interposer: Interposer | None = None
        if options.frames is not None:
            self.interposer = Interposer(stream(fabric.seed, "frames", name), self.timeline, options.frames)

    def back(self) -> Link:
        """The other direction."""
        return self.fabric.link(self.target, self.source)

    def delay_ns(self) -> int:
        """How long the next thing takes."""
        random = self.random.random
        delay_ns = self.min_ns - int((self.mean_ns - self.min_ns) * log(1.0 - random()))
        if self.tail and random() < self.tail:
            delay_ns *= _TAIL_FACTOR
        delay_ns *= self.slowness
        if self.loss:
            wait_ms = _RTO_MS
            while random() < self.loss:
                delay_ns += wait_ms * MS
                wait_ms = min(2 * wait_ms, _RTO_MS_MAX)
        return delay_ns

    def splits(self) -> bool:
        """Whether the piece that arrives now arrives in two parts."""
        return self.split > 0 and self.random.random() < self.split

    def settle(self) -> None:
        """Work out whether anything passes; when it does again, what was held sets out anew."""
        self.blocked = self.cut or self.clogs > 0
        if not self.blocked:
            held, self.held = self.held, []
            for end in held:
                end.again()


class Host:
    """A machine on the network. ``door`` leads into the process that runs on it now."""

    def __init__(self, fabric: Fabric, name: str) -> None:
        self.fabric = fabric
        self.name = name
        self.door: Door = OpenDoor()
        self.powered = True
        # Connections to it are refused although a process listens.
        self.refusing = False
        self.listeners: dict[int, Callable[[], StreamHandler]] = {}
        self.ends: dict[End, None] = {}
        # Other hosts' ends that sent something to streams which a power cut here has ended.
        self.knocking: dict[End, None] = {}
        self.next_port = 40_000

    def ephemeral_port(self) -> int:
        """A fresh port for a stream dialled from here."""
        self.next_port += 1
        return self.next_port

    def start(self, door: Door) -> None:
        """A process starts on it."""
        self.powered = True
        self.door = door
        knocking, self.knocking = self.knocking, {}
        for end in knocking:
            end.again()

    def stop(self, *, power_cut: bool) -> None:
        """The process is gone; with ``power_cut`` so is the machine, until ``start``."""
        self.powered = not power_cut
        self.listeners.clear()
        for end in list(self.ends):
            end.vanish(silent=power_cut)


class SimListener:
    """Implements ports.Listener."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self._port = port

    def port(self) -> int:
        """See Listener."""
        return self._port

    def close(self) -> None:
        """See Listener."""
        self._host.listeners.pop(self._port, None)


class Fabric:
    """The network: hosts, links and what the nemesis does to them."""

    def __init__(self, timeline: Timeline, seed: int, options: NetOptions, peer_port: int) -> None:
        self.timeline = timeline
        self.peer_port = peer_port
        self.seed = seed
        self.options = options
        self.hosts: dict[str, Host] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._swizzles = 0

    def host(self, name: str) -> Host:
        """The host of that name; the first mention creates it, as a client's."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(self, name)
        return host

    def link(self, source: str, target: str) -> Link:
        """The directed link between two hosts."""
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(self, source, target, self.options)
        return link

    def links(self) -> list[Link]:
        """Every link used so far, in the order of first use."""
        return list(self._links.values())

    # -- connections -------------------------------------------------------------------------------------------------

    def listen(self, name: str, port: int, factory: Callable[[], StreamHandler]) -> SimListener:
        """Open a port of a host. Raises OSError when it is taken."""
        host = self.host(name)
        if port in host.listeners:
            raise OSError(errno.EADDRINUSE, f"port {port} of {name} is taken")
        host.listeners[port] = factory
        return SimListener(host, port)

    def connect(self, source: str, target: str, port: int, handler: StreamHandler, timeout_ms: int) -> None:
        """Dial from one host to another; the handler hears on_open or on_close."""
        here, there = self.host(source), self.host(target)
        door = here.door
        out, back = self.link(source, target), self.link(target, source)
        begin_ns = self.timeline.now_ns
        timeline = self.timeline

        def fail(error: Exception, at_ns: int) -> None:
            timeline.at(max(at_ns - timeline.now_ns, 0), lambda: door.enter(partial(handler.on_close, error)))

        def late() -> None:
            fail(TimeoutError(f"no answer from {target}"), begin_ns + timeout_ms * MS)

        def knock() -> None:
            if out.blocked or back.blocked or not there.powered:
                late()
            elif there.refusing or port not in there.listeners:
                fail(ConnectionRefusedError(f"{target} port {port} refused"), timeline.now_ns + back_ns)
            else:
                process = there.door
                timeline.at(back_ns, lambda: door.enter(partial(opened, process)))

        def opened(process: Door) -> None:
            if back.blocked:
                late()
                return
            if there.door is not process or port not in there.listeners:
                # Whoever was to accept it has gone meanwhile; the kernel answers for the next process, or for none.
                fail(ConnectionResetError(f"{target} port {port}: no such stream"), timeline.now_ns)
                return
            mine, theirs = End(here, out, port, here.ephemeral_port()), End(there, back, port, port)
            mine.peer, theirs.peer = theirs, mine
            mine.handler = handler
            mine.is_peer_lane = port == self.peer_port
            here.ends[mine] = there.ends[theirs] = None
            timeline.fold("open", source, target, port)
            mine._put(ACCEPT)  # noqa: SLF001 - the other half of this module
            handler.on_open(mine)

        out_ns, back_ns = out.delay_ns() + door.lead_ns(), back.delay_ns()
        if out_ns + back_ns > timeout_ms * MS:
            late()
        else:
            timeline.at(out_ns, knock)

    # -- what the nemesis does ---------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Nothing passes from ``source`` to ``target`` until ``heal``; the other direction is untouched."""
        link = self.link(source, target)
        link.cut = True
        link.settle()

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut both ways between hosts of different sides; a host on no side keeps all its links."""
        groups = [list(side) for side in sides]
        for a in groups:
            for b in groups:
                if a is not b:
                    for source in a:
                        for target in b:
                            self.cut(source, target)

    def heal(self, source: str | None = None, target: str | None = None) -> None:
        """End the cuts: all, or those from ``source``, to ``target``, or both."""
        for link in self.links():
            if link.cut and source in (None, link.source) and target in (None, link.target):
                link.cut = False
                link.settle()

    def is_cut(self, source: str, target: str) -> bool:
        """Whether that direction is cut."""
        return self.link(source, target).cut

    def clog(self, source: str, target: str, duration_ns: int) -> None:
        """Freeze a direction for a while; then everything held arrives in a burst."""
        link = self.link(source, target)
        link.clogs += 1
        link.settle()

        calm = link.calm

        def unclog() -> None:
            if link.calm == calm:
                link.clogs -= 1
                link.settle()

        self.timeline.at(duration_ns, unclog)

    def unclog(self, source: str, target: str) -> None:
        """End a direction's clogs before their time, and those that a swizzle still had in mind."""
        link = self.link(source, target)
        link.calm += 1
        link.clogs = 0
        link.settle()

    def swizzle(self, names: Iterable[str], duration_ns: int) -> None:
        """Clog a random part of the links among hosts one after another, and free them in another order; those not
        yet clogged when ``unclog`` or ``repair`` comes stay free.
        """
        self._swizzles += 1
        random = stream(self.seed, "swizzle", "fabric", self._swizzles)
        hosts = list(names)
        for source in hosts:
            for target in hosts:
                if source != target and random.random() < 0.5:
                    begin_ns = random.randrange(duration_ns // 2 + 1)
                    length_ns = random.randrange(1, duration_ns - begin_ns + 1)
                    calm = self.link(source, target).calm
                    self.timeline.at(begin_ns, partial(self._clog_unless_over, source, target, length_ns, calm))

    def _clog_unless_over(self, source: str, target: str, duration_ns: int, calm: int) -> None:
        if self.link(source, target).calm == calm:
            self.clog(source, target, duration_ns)

    def reset(self, choose: Callable[[End], bool]) -> None:
        """Break streams at an arbitrary byte; both ends hear of it, at different times, one perhaps much later."""
        for host in list(self.hosts.values()):
            for end in list(host.ends):
                if not end.closed and choose(end):
                    for one in (end, end.peer):
                        one.cut_flight()
                        one.send_reset(one.out.random.choice((1, 1, 20, 200)))

    def refuse(self, name: str, *, refusing: bool = True) -> None:
        """Make a host refuse new connections, or accept them again."""
        self.host(name).refusing = refusing

    def repair(self, *, lossless: bool = False) -> None:
        """End whatever the nemesis does to the network now; ``lossless`` also what the links were drawn with. What is
        still on its way arrives soon.
        """
        for link in self.links():
            link.cut, link.clogs, link.slowness = False, 0, 1
            link.calm += 1
            if lossless:
                link.loss = link.tail = 0.0
                if link.interposer is not None:
                    link.interposer.enabled = False
            link.settle()
        for host in self.hosts.values():
            host.refusing = False
            for end in host.ends:
                end.hurry()
                if end.peer.closed:
                    # The goodbye of an end that is gone.
                    end.peer.hurry()

    def slow(self, factor: int, source: str | None = None, target: str | None = None) -> None:
        """Multiply delays (1: as drawn) of all links, or of those from or to a host."""
        for link in self.links():
            if source in (None, link.source) and target in (None, link.target):
                link.slowness = factor


class HostNetwork:
    """Implements ports.Network: the network as one host sees it."""

    def __init__(self, fabric: Fabric, name: str) -> None:
        self._fabric = fabric
        self._name = name

    def listen(self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None) -> SimListener:
        """See Network."""
        assert tls is None, "the simulated network carries no TLS"
        return self._fabric.listen(self._name, port, factory)

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        """See Network."""
        assert tls is None, "the simulated network carries no TLS"
        self._fabric.connect(self._name, host, port, handler, timeout_ms)
