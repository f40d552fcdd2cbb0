"""One client connection: bytes to requests for the engine, and the session's queued replies back to the bytes' sender.

Rule: the only place that decides when a client's link closes. It runs no command and never looks into a reply; replies
are written only in flush(), each turn's in one piece. CLIENT REPLY is honoured where replies are queued
(Engine.emit), not here.
"""

from __future__ import annotations

from typing import Final, Protocol

from durakv.commands.session import Session
from durakv.config.settings import Settings
from durakv.observe.instruments import Instruments
from durakv.observe.stats import Stats
from durakv.resp.encoder import protocol_error_line
from durakv.resp.parser import Parser
from durakv.world.ports import Clock, Stream, Timer

MAX_CLIENTS_LINE: Final = b"-ERR max number of clients reached\r\n"
# Requests, and bytes received since, that may wait behind a blocked one before input is left to the kernel.
HELD_MAX: Final = 1024
HELD_BYTES_MAX: Final = 4 << 20
# How long a closed link may take to deliver its last replies.
LINGER_MS: Final = 10_000


class ClientEngine(Protocol):
    """What a connection needs of the engine."""

    stats: Stats
    instruments: Instruments
    # The end of this turn is to come: it sends what is queued.
    scheduled: bool

    def on_event(self, what: str, facts: dict[str, object]) -> None:
        """Tell the operators."""

    def open_session(self, address: str, local_address: str) -> Session: ...

    def dispatch(self, s: Session, argv: list[bytes]) -> None:
        """Take one request; replies are queued on ``s.out`` now or later."""

    def close_session(self, s: Session) -> None: ...


class ClientRules:
    """What all connections share: limits from the settings, and the time as of the last tick (for idleness)."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.arg_max_bytes = 0
        self.query_buffer_max_bytes = 0
        self.clients_max = 0
        self.idle_max_s = 0
        # Bytes on the wire from which COMMANDLOG keeps a request; -1: none.
        self.request_large = -1
        # (hard bytes, soft bytes, soft seconds); zeros mean no limit.
        self.normal_output = (0, 0, 0)
        self.pubsub_output = (0, 0, 0)
        self.now_ns = 0
        self.wall_ms = 0
        self.refresh()
        self.tick()

    def refresh(self) -> None:
        """Read the settings again after a change."""
        settings = self._settings
        self.arg_max_bytes = settings.proto_max_bulk_len
        self.query_buffer_max_bytes = settings.client_query_buffer_limit
        self.clients_max = settings.maxclients
        self.idle_max_s = settings.timeout
        self.request_large = settings.commandlog_request_larger_than
        self.normal_output = settings.output_limit("normal")
        self.pubsub_output = settings.output_limit("pubsub")

    def tick(self) -> None:
        """Look at the clock."""
        self.now_ns = self._clock.monotonic_ns()
        self.wall_ms = self._clock.wall_ms()


class ClientConnection:
    """A StreamHandler and the Sink of its session.

    ``connections`` are all open ones of the node; ``over_soft`` those whose unread replies passed the soft limit, with
    the time in ns they first did.
    """

    def __init__(
        self,
        engine: ClientEngine,
        clock: Clock,
        rules: ClientRules,
        connections: dict[ClientConnection, None],
        over_soft: dict[ClientConnection, int],
    ) -> None:
        self._engine = engine
        self._dispatch = engine.dispatch
        self._stats = engine.stats
        self._clock = clock
        self.rules = rules
        self._connections = connections
        self._over_soft = over_soft
        self.parser = Parser(rules.arg_max_bytes, rules.query_buffer_max_bytes)
        self.active_ns = rules.now_ns
        # Both exist from on_open() on, for clients that were not turned away.
        self.session: Session | None = None
        self._stream: Stream | None = None
        # No further request is read: a close was decided.
        self.stopped = False
        # One of the following asks flush() to look closer.
        self._attention = False
        self._held_full = False
        self._held_bytes = 0
        self._engine_paused = False
        self._eof = False
        self._last_words = b""
        self._linger: Timer | None = None

    # -- StreamHandler ---------------------------------------------------------------------------------------------

    def on_open(self, stream: Stream) -> None:
        """Open a session, or turn the client away when there are too many."""
        if len(self._connections) >= self.rules.clients_max:
            self._stats.rejected_connections += 1
            self.stopped = True
            stream.write(MAX_CLIENTS_LINE)
            stream.close()
            return
        self._stream = stream
        self._connections[self] = None
        self._stats.connections += 1
        session = self._engine.open_session(_text(stream.peer_address()), _text(stream.local_address()))
        session.sink = session.link = self
        self.session = session
        self.parser.authenticated = session.authenticated

    def on_data(self, data: bytes) -> None:
        """Read requests and hand them over, then send what was answered at once."""
        session = self.session
        if session is None or self.stopped:
            return
        rules = self.rules
        self.active_ns = rules.now_ns
        session.last_ms = rules.wall_ms
        size = len(data)
        session.bytes_in += size
        self._stats.bytes_in += size
        self._stats.reads += 1
        parser = self.parser
        dispatch = self._dispatch
        begun = parser.pending_bytes() if parser.waiting() else 0
        argvs = parser.feed(data)
        if size + begun >= rules.request_large >= 0:
            self._note_large(session, argvs, rules.request_large)
        while argvs:
            for argv in argvs:
                dispatch(session, argv)
                if self.stopped:
                    return
            session.commands += len(argvs)
            if parser.authenticated:
                break
            # The next request may be read under the limits of a client that has just authenticated.
            parser.authenticated = session.authenticated
            argvs = parser.feed(b"")
        parser.authenticated = session.authenticated
        if parser.error is not None or parser.dropped:
            self._input_refused()
        if session.held:
            self._count_held(session, size)
        # Replies that go before one which this turn will give are sent together with it.
        if session.out and not (session.pending and self._engine.scheduled):
            self.flush()

    def on_eof(self) -> bool:
        """The client sends no more; True keeps the link until what it asked is answered."""
        session = self.session
        if session is None or self.stopped:
            return False
        self._eof = True
        self.flush()
        if session.blocked or not (session.pending or session.held):
            return False
        self._attention = True
        return True

    def on_close(self, error: Exception | None) -> None:
        """The link is gone, for whatever reason."""
        self.stopped = True
        self._stream = None
        self._connections.pop(self, None)
        self._over_soft.pop(self, None)
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        session = self.session
        if session is not None:
            self.session = None
            session.out.clear()
            session.out_bytes = 0
            self._engine.close_session(session)

    # -- Sink ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the session has queued."""
        session = self.session
        stream = self._stream
        if session is None or stream is None:
            return
        out = session.out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            session.out_bytes = 0
            size = len(data)
            session.bytes_out += size
            self._stats.bytes_out += size
            self._stats.writes += 1
            rules = self.rules
            self.active_ns = rules.now_ns
            stream.write(data)
            hard, soft, _ = rules.pubsub_output if session.in_pubsub() else rules.normal_output
            if (hard or soft) and not session.replica:
                self._check_output(stream.write_buffer_bytes(), hard, soft)
        if self._attention:
            self._attend(session, stream)

    def close_after_flush(self) -> None:
        """Send what is queued by the end of this turn, then close."""
        if self.stopped or self.session is None:
            return
        self.stopped = True
        self.session.closing = True
        self._clock.call_soon(self.finish)

    def kill(self) -> None:
        """Close now; unsent replies are lost."""
        self.stopped = True
        if self.session is not None:
            self.session.closing = True
        if self._stream is not None:
            self._stream.abort()

    def pause_reading(self) -> None:
        """Take no more input until resume_reading()."""
        self._engine_paused = True
        if self._stream is not None:
            self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Undo pause_reading()."""
        self._engine_paused = False
        if self._stream is not None and not self._held_full:
            self._stream.resume_reading()

    # -- Link ------------------------------------------------------------------------------------------------------

    def waiting_bytes(self) -> tuple[int, int]:
        """See Link."""
        session, stream = self.session, self._stream
        if session is None or stream is None:
            return 0, 0
        return self.parser.pending_bytes() + self._held_bytes, stream.write_buffer_bytes()

    # -- what the listener asks every second -----------------------------------------------------------------------

    def finish(self) -> None:
        """Send the last replies and close; a peer that does not read them gets LINGER_MS."""
        self.stopped = True
        if self.session is not None:
            self.session.closing = True
        self._attention = False
        self.flush()
        stream = self._stream
        if stream is not None:
            stream.close()
            if self._stream is not None and self._linger is None and stream.write_buffer_bytes():
                self._linger = self._clock.call_later(LINGER_MS, stream.abort)

    def is_idle(self) -> bool:
        """Silent for longer than ``timeout``; clients that wait for the server are not idle."""
        session = self.session
        if session is None or session.blocked or session.pending or session.in_pubsub() or session.replica:
            return False
        return self.rules.now_ns - self.active_ns > self.rules.idle_max_s * 1_000_000_000

    def check_soft(self, since_ns: int) -> None:
        """Kill the client once its unread replies have been above the soft limit for too long."""
        session = self.session
        stream = self._stream
        if session is None or stream is None:
            self._over_soft.pop(self, None)
            return
        _, soft, seconds = self.rules.pubsub_output if session.in_pubsub() else self.rules.normal_output
        unread = stream.write_buffer_bytes()
        if not soft or unread <= soft:
            self._over_soft.pop(self, None)
        elif self.rules.now_ns - since_ns > seconds * 1_000_000_000:
            self._output_refused(unread, f"{soft} bytes for {seconds} s")

    # -- limits ----------------------------------------------------------------------------------------------------

    def _check_output(self, unread: int, hard: int, soft: int) -> None:
        if hard and unread > hard:
            self._output_refused(unread, f"{hard} bytes")
        elif soft and unread > soft and self not in self._over_soft:
            self._over_soft[self] = self.rules.now_ns

    def _output_refused(self, unread: int, limit: str) -> None:
        self._stats.output_buffer_closes += 1
        self._over_soft.pop(self, None)
        self._tell(f"{unread} bytes of replies are unread, client-output-buffer-limit is {limit}")
        self.kill()

    def _input_refused(self) -> None:
        """The client broke the protocol or a limit: replies owed to it come first."""
        parser = self.parser
        if parser.error is None:
            self._stats.query_buffer_closes += 1
            self._tell(parser.dropped)
            self.kill()
            return
        self._stats.error("ERR " + parser.error.text)
        self._last_words = protocol_error_line(parser.error)
        self._attention = True
        if self._stream is not None:
            self._stream.pause_reading()
        self.flush()

    def _note_large(self, session: Session, argvs: list[list[bytes]], large: int) -> None:
        """Tell COMMANDLOG of requests that took at least ``large`` bytes on the wire."""
        for argv in argvs:
            size = _wire_bytes(argv)
            if size >= large:
                self._engine.instruments.large_requests.note(
                    size, argv, session.address, session.name, self._clock.wall_ms()
                )

    def _count_held(self, session: Session, size: int) -> None:
        self._held_bytes += size
        if not self._held_full and (len(session.held) > HELD_MAX or self._held_bytes > HELD_BYTES_MAX):
            self._held_full = True
            if self._stream is not None:
                self._stream.pause_reading()
        self._attention = True

    def _attend(self, session: Session, stream: Stream) -> None:
        """Do what had to wait for earlier requests."""
        if not session.held:
            self._held_bytes = 0
            if self._held_full:
                self._held_full = False
                if not self._engine_paused and not self._last_words:
                    stream.resume_reading()
        waits = bool(session.pending or session.held or session.blocked)
        if not waits and self._last_words:
            session.write(self._last_words)
            self._last_words = b""
            self.finish()
        elif not waits and self._eof:
            self.finish()
        else:
            self._attention = bool(session.held or self._last_words or self._eof)

    def _tell(self, reason: str) -> None:
        if self.session is not None:
            facts: dict[str, object] = {"client": self.session.address, "id": self.session.id, "reason": reason}
            self._engine.on_event("client-dropped", facts)


def _text(address: tuple[str, int]) -> str:
    """``host:port``, the host in brackets when it has colons of its own."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wire_bytes(argv: list[bytes]) -> int:
    """Size of a request as a RESP array."""
    return len(b"*%d\r\n" % len(argv)) + sum(len(b"$%d\r\n\r\n" % len(arg)) + len(arg) for arg in argv)
