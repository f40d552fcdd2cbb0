"""An engine, a clock and a stream for tests of the server: all in memory, all driven by hand."""

from __future__ import annotations

from collections.abc import Callable

from durakv.commands.session import Session
from durakv.config.settings import Settings
from durakv.observe.instruments import Instruments
from durakv.observe.stats import Stats
from durakv.server.connection import ClientConnection, ClientRules
from durakv.world.ports import Clock, Timer
from tests.engine.rig import Probe

PASSWORD = b"sesame"


def command(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


class FakeTimer:
    def __init__(self, at_ns: int, fn: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.fn = fn
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 10**12
        self.timers: list[FakeTimer] = []

    def monotonic_ns(self) -> int:
        return self.now_ns

    def raw_ns(self) -> int:
        return self.monotonic_ns()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ns // 1_000_000

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        timer = FakeTimer(self.now_ns + int(delay_ms * 1_000_000), fn)
        self.timers.append(timer)
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        self.call_later(0, fn)

    def advance(self, seconds: float) -> None:
        end_ns = self.now_ns + int(seconds * 1e9)
        while due := sorted((t for t in self.timers if t.at_ns <= end_ns), key=lambda t: t.at_ns):
            timer = due[0]
            self.timers.remove(timer)
            self.now_ns = max(self.now_ns, timer.at_ns)
            if not timer.cancelled:
                timer.fn()
        self.now_ns = end_ns


class MemoryStream:
    """A peer that reads everything at once, or nothing while ``stuck``."""

    def __init__(self, connection: ClientConnection | None = None) -> None:
        self.connection = connection
        self.received = b""
        self.writes = 0
        self.unread = 0
        self.stuck = False
        self.closed = ""
        self.paused = False

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        self.writes += 1
        if self.stuck:
            self.unread += len(data)
        else:
            self.received += data

    def write_buffer_bytes(self) -> int:
        return self.unread

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = "aborted"

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def peer_address(self) -> tuple[str, int]:
        return ("10.0.0.9", 4321)

    def local_address(self) -> tuple[str, int]:
        return ("::1", 6379)

    def take(self) -> bytes:
        received, self.received = self.received, b""
        return received


class FakeEngine:
    """PING, ECHO, AUTH and QUIT answer at once; SLOW stays pending and BLOCK blocked until answer()."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.instruments = Instruments(Settings(), Probe(), lambda _: None)
        self.on_event: Callable[[str, dict[str, object]], None] = self._event
        self.events: list[tuple[str, dict[str, object]]] = []
        self.sessions: list[Session] = []
        self.closed: list[Session] = []
        self.seen: list[list[bytes]] = []
        self.authenticated = True
        self.scheduled = False

    def _event(self, name: str, facts: dict[str, object]) -> None:
        self.events.append((name, facts))

    def open_session(self, address: str, local_address: str) -> Session:
        session = Session(len(self.sessions) + 1, 1)
        session.address = address
        session.local_address = local_address
        session.authenticated = self.authenticated
        self.sessions.append(session)
        return session

    def close_session(self, s: Session) -> None:
        assert s not in self.closed
        self.closed.append(s)

    def dispatch(self, s: Session, argv: list[bytes]) -> None:
        if s.blocked or s.held or s.pending:
            s.held.append(argv)
        else:
            self._run(s, argv)

    def _run(self, s: Session, argv: list[bytes]) -> None:
        self.seen.append(argv)
        name = argv[0].upper()
        if name == b"SLOW":
            s.pending += 1
        elif name == b"BLOCK":
            s.pending += 1
            s.blocked = True
        elif name == b"ECHO":
            s.write(b"$%d\r\n%b\r\n" % (len(argv[1]), argv[1]))
        elif name == b"AUTH":
            s.authenticated = argv[1] == PASSWORD
            s.write(b"+OK\r\n" if s.authenticated else b"-WRONGPASS\r\n")
        elif name == b"QUIT":
            assert s.sink is not None
            s.sink.close_after_flush()
            s.write(b"+OK\r\n")
        else:
            s.write(b"+PONG\r\n")

    def answer(self, s: Session) -> None:
        """The pending request of ``s`` is done; held ones go on."""
        s.pending -= 1
        s.blocked = False
        s.write(b"+DONE\r\n")
        while s.held and not s.pending:
            self._run(s, s.held.popleft())
        assert s.sink is not None
        s.sink.flush()


class Bench:
    """One engine and the connections a listener would share."""

    def __init__(self, **directives: str) -> None:
        self.settings = Settings()
        for name, text in directives.items():
            self.settings.load(name.replace("_", "-"), text)
        self.clock = FakeClock()
        self.engine = FakeEngine()
        self.engine.instruments = Instruments(self.settings, Probe(), lambda _: None)
        clock: Clock = self.clock
        self.rules = ClientRules(self.settings, clock)
        self.connections: dict[ClientConnection, None] = {}
        self.over_soft: dict[ClientConnection, int] = {}

    def connect(self) -> tuple[ClientConnection, MemoryStream]:
        connection = ClientConnection(self.engine, self.clock, self.rules, self.connections, self.over_soft)
        stream = MemoryStream(connection)
        connection.on_open(stream)
        return connection, stream
