"""A clock that is told what time it is, a network whose streams are lists, and a carrier that only notes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from durakv.witness.exchange import Question
from durakv.world.ports import StreamHandler
from jstyle.sim.disk import DiskOptions, SimDisk
from jstyle.sim.timeline import MS, Timeline


class FakeTimer:
    def __init__(self) -> None:
        self.live = True

    def cancel(self) -> None:
        self.live = False


class FakeClock:
    """Runs on a timeline of its own."""

    def __init__(self, timeline: Timeline | None = None) -> None:
        self.timeline = timeline or Timeline()

    def monotonic_ns(self) -> int:
        return self.timeline.now_ns

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return self.timeline.now_ns // MS

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer()
        self.timeline.at(int(delay_ms * MS), lambda: fn() if timer.live else None)
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.timeline.at(0, fn)

    def run(self, ms: float) -> None:
        self.timeline.run_for(int(ms * MS))


class FakeRng:
    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)

    def below(self, n: int) -> int:
        return self.random.randrange(n)

    def bits64(self) -> int:
        return self.random.getrandbits(64)

    def token(self, nbytes: int) -> bytes:
        return self.random.randbytes(nbytes)


class FakeStream:
    """One end; what is written is kept in ``out``."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.unread = 0
        self.ended = False

    def write(self, data: bytes) -> None:
        if not self.ended:
            self.out += data

    def write_buffer_bytes(self) -> int:
        return self.unread

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def peer_address(self) -> tuple[str, int]:
        return ("127.0.0.1", 4242)

    def local_address(self) -> tuple[str, int]:
        return ("127.0.0.1", 7400)


class FakeNetwork:
    """Notes who listens and who dials."""

    def __init__(self) -> None:
        self.factory: Callable[[], StreamHandler] | None = None
        self.dialled: list[StreamHandler] = []

    def listen(self, host, port, factory, tls=None):
        self.factory = factory
        return self

    def connect(self, host, port, handler, timeout_ms, tls=None) -> None:
        self.dialled.append(handler)

    def port(self) -> int:
        return 7400

    def close(self) -> None:
        self.factory = None


class FakeCarrier:
    def __init__(self) -> None:
        self.open = True
        self.carried: list[Question] = []
        self.overdue = 0

    def ready(self) -> bool:
        return self.open

    def carry(self, question: Question) -> None:
        self.carried.append(question)

    def on_overdue(self) -> None:
        self.overdue += 1


def lane_disk(clock: FakeClock, seed: int = 1) -> SimDisk:
    """A simulated disk whose jobs run on the clock's timeline."""
    disk = SimDisk(clock.timeline, seed, "w", DiskOptions())

    def submit(job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        def run() -> None:
            error: OSError | None = None
            try:
                job()
            except OSError as e:
                error = e
            clock.timeline.at(MS // 10, lambda: done(error))

        clock.timeline.at(MS, run)

    disk.submit = submit  # type: ignore[method-assign]
    return disk
