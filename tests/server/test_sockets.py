"""The server on real loopback sockets: uvloop, RealNetwork, ClientListener and a fake engine."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from durakv.config.settings import Settings
from durakv.server.listener import ClientListener, ListenError
from durakv.world.ports import Stream
from durakv.world.real_clock import RealClock
from durakv.world.real_network import RealNetwork
from durakv.world.real_rng import RealRng
from tests.server.fakes import FakeEngine, command

PING = command(b"PING")


class Node:
    def __init__(self, **directives: str) -> None:
        self.settings = Settings()
        for name, text in {"bind": "127.0.0.1", "port": "0", **directives}.items():
            self.settings.load(name.replace("_", "-"), text)
        loop = asyncio.get_running_loop()
        self.problems: list[dict[str, object]] = []
        loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self.engine = FakeEngine()
        self.network = RealNetwork(loop)
        self.listener = ClientListener(self.engine, self.network, self.settings, RealClock(loop))
        self.listener.listen()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.listener.port())

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not happen within 10 s")


@asynccontextmanager
async def node(**directives: str) -> AsyncIterator[Node]:
    n = Node(**directives)
    try:
        yield n
    finally:
        n.listener.close()
        await n.until(lambda: not n.listener.connections)
    assert n.problems == []


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 60)

    uvloop.run(limited())


def test_pipelines_and_single_bytes() -> None:
    async def test() -> None:
        async with node() as n:
            reader, writer = await n.dial()
            writer.write(PING * 5000)
            assert await reader.readexactly(7 * 5000) == b"+PONG\r\n" * 5000
            for byte in command(b"ECHO", b"hello"):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert await reader.readexactly(11) == b"$5\r\nhello\r\n"
            writer.close()
            await n.until(lambda: not n.listener.connections)
            assert n.engine.closed == n.engine.sessions

    run(test)


def test_a_large_argument_and_a_large_reply() -> None:
    async def test() -> None:
        async with node() as n:
            reader, writer = await n.dial()
            value = random.Random(1).randbytes(20_000_000)
            writer.write(command(b"ECHO", value))
            assert await reader.readexactly(11) == b"$20000000\r\n"
            assert await reader.readexactly(len(value) + 2) == value + b"\r\n"
            writer.close()

    run(test)


def test_binary_junk_resets_and_half_frames() -> None:
    async def test() -> None:
        rng = random.Random(9)
        async with node() as n:
            for i in range(300):
                reader, writer = await n.dial()
                writer.write(rng.choice([b"", PING, b"*1\r\n$100\r\n"]) + rng.randbytes(rng.randrange(300)) + b"\r\n")
                if i % 3 == 0:
                    # Linger 0: closing sends a reset.
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                elif i % 3 == 1:
                    writer.write_eof()
                    await reader.read()
                writer.close()
            await n.until(lambda: not n.listener.connections)
            reader, writer = await n.dial()
            writer.write(PING)
            assert await reader.readexactly(7) == b"+PONG\r\n"
            writer.close()

    run(test)


def test_a_half_closed_client_gets_its_late_reply() -> None:
    async def test() -> None:
        async with node() as n:
            reader, writer = await n.dial()
            writer.write(command(b"SLOW") + PING)
            writer.write_eof()
            await n.until(lambda: bool(n.engine.sessions) and len(n.engine.sessions[0].held) == 1)
            await asyncio.sleep(0.05)
            n.engine.answer(n.engine.sessions[0])
            assert await reader.read() == b"+DONE\r\n+PONG\r\n"
            writer.close()

    run(test)


def test_a_protocol_error_reaches_the_client_before_the_end() -> None:
    async def test() -> None:
        async with node() as n:
            reader, writer = await n.dial()
            writer.write(PING + b"*1\r\n:\r\n")
            assert await reader.read() == b"+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"
            writer.close()

    run(test)


def test_a_client_that_does_not_read_is_killed_at_the_limit() -> None:
    async def test() -> None:
        async with node(client_output_buffer_limit="normal 1mb 0 0") as n:
            _, writer = await n.dial()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await n.until(lambda: bool(n.listener.connections))
            while n.listener.connections and not writer.is_closing():
                writer.write(command(b"ECHO", b"x" * 100_000))
                await asyncio.sleep(0.001)
            await n.until(lambda: not n.listener.connections)
            assert n.engine.stats.output_buffer_closes == 1
            writer.close()

    run(test)


def test_paused_input_stays_in_the_kernel() -> None:
    async def test() -> None:
        async with node() as n:
            reader, writer = await n.dial()
            writer.write(command(b"BLOCK") + PING * 200_000)
            await n.until(lambda: bool(n.engine.sessions) and len(n.engine.sessions[0].held) > 1024)
            await asyncio.sleep(0.1)
            assert len(n.engine.sessions[0].held) < 60_000
            n.engine.answer(n.engine.sessions[0])
            assert await reader.readexactly(7 * 200_001) == b"+DONE\r\n" + b"+PONG\r\n" * 200_000
            writer.close()

    run(test)


def test_the_port_in_use_is_an_error_at_once() -> None:
    async def test() -> None:
        async with node() as n:
            with pytest.raises(ListenError, match="another process has the port"):
                Node(port=str(n.listener.port()))

    run(test)


def test_ten_thousand_idle_clients() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * 10_000 + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    count = min(10_000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)

    async def test() -> None:
        async with node() as n:
            tracemalloc.start()
            try:
                links = await _connect_many(n, count)
                await n.until(lambda: len(n.listener.connections) == count)
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held / count < 12_000
            for link in (links[0], links[count // 2], links[-1]):
                link.setblocking(True)
                link.settimeout(0)
                link.send(PING)
            await n.until(lambda: len(n.engine.seen) == 3)
            await asyncio.sleep(0.02)
            assert [link.recv(100) for link in (links[0], links[count // 2], links[-1])] == [b"+PONG\r\n"] * 3
            for link in links:
                link.close()
            await n.until(lambda: not n.listener.connections)

    try:
        run(test)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _connect_many(n: Node, count: int) -> list[socket.socket]:
    links = []
    for i in range(count):
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(("127.0.0.1", n.listener.port()))
        links.append(link)
        if i % 200 == 199:
            await n.until(lambda wanted=i + 1: len(n.listener.connections) >= wanted)  # type: ignore[misc]
    return links


class Peer:
    """A StreamHandler that records what it hears."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.data = b""
        self.closed: list[Exception | None] = []

    def on_open(self, stream: Stream) -> None:
        self.stream = stream

    def on_data(self, data: bytes) -> None:
        self.data += data

    def on_close(self, error: Exception | None) -> None:
        self.closed.append(error)


def test_dialling() -> None:
    async def test() -> None:
        async with node() as n:
            peer = Peer()
            n.network.connect("127.0.0.1", n.listener.port(), peer, 1000)
            await n.until(lambda: peer.stream is not None)
            assert peer.stream is not None
            assert peer.stream.peer_address() == ("127.0.0.1", n.listener.port())
            peer.stream.write(PING)
            await n.until(lambda: peer.data == b"+PONG\r\n")
            peer.stream.pause_reading()
            peer.stream.pause_reading()
            peer.stream.resume_reading()
            peer.stream.close()
            peer.stream.close()
            await n.until(lambda: peer.closed == [None])
            # All of these are harmless on a closed stream.
            peer.stream.write(b"x")
            peer.stream.pause_reading()
            peer.stream.resume_reading()
            peer.stream.abort()
            assert peer.stream.write_buffer_bytes() == 0
            assert peer.stream.peer_address() == ("", 0)

    run(test)


def test_dialling_nobody() -> None:
    async def test() -> None:
        async with node() as n:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            peer = Peer()
            n.network.connect("127.0.0.1", port, peer, 1000)
            await n.until(lambda: bool(peer.closed))
            assert isinstance(peer.closed[0], ConnectionRefusedError)
            # A full backlog never answers: the timeout ends it.
            with socket.socket() as full:
                full.bind(("127.0.0.1", 0))
                full.listen(0)
                port = full.getsockname()[1]
                peers = [Peer() for _ in range(6)]
                for one in peers:
                    n.network.connect("127.0.0.1", port, one, 150)
                await n.until(lambda: any(one.closed for one in peers))
                late = [one for one in peers if one.closed]
                assert all(isinstance(one.closed[0], TimeoutError) and one.stream is None for one in late)
                for one in peers:
                    if one.stream is not None:
                        one.stream.abort()
                await n.until(lambda: all(len(one.closed) == 1 for one in peers))

    run(test)


class LateLoop:
    """Opens a connection, and is cancelled before it can say so: the transport is closed and nobody hears of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_task = loop.create_task
        self.socket = socket.socket()
        self.closed = False

    async def create_connection(self, factory: Callable[[], asyncio.BaseProtocol], *_: object, **__: object) -> None:
        factory().connection_made(self)  # type: ignore[arg-type]
        try:
            await asyncio.sleep(60)
        finally:
            self.closed = True

    def get_extra_info(self, _: str) -> socket.socket:
        return self.socket

    def write(self, _: bytes) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")

    def abort(self) -> None:
        self.closed = True


def test_a_dial_that_times_out_just_when_it_succeeds_is_closed() -> None:
    async def test() -> None:
        loop = LateLoop(asyncio.get_running_loop())
        peer = Peer()
        RealNetwork(loop, keepalive_s=0).connect("127.0.0.1", 1, peer, 20)  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert peer.stream is not None
        (error,) = peer.closed
        assert isinstance(error, TimeoutError)
        peer.stream.write(b"x")
        assert peer.stream.write_buffer_bytes() == 0
        loop.socket.close()

    run(test)


def test_an_unknown_tls_context_is_refused() -> None:
    async def test() -> None:
        async with node() as n:
            with pytest.raises(ValueError, match="no TLS context is called 'clients'"):
                n.network.listen("127.0.0.1", 0, Peer, "clients")

    run(test)


def test_a_listener_closed_before_the_loop_ran() -> None:
    async def test() -> None:
        network = RealNetwork(asyncio.get_running_loop())
        listener = network.listen("127.0.0.1", 0, Peer)
        port = listener.port()
        listener.close()
        await asyncio.sleep(0.01)
        network.listen("127.0.0.1", port, Peer).close()
        await asyncio.sleep(0.01)

    run(test)


def test_clock_and_rng() -> None:
    async def test() -> None:
        clock = RealClock(asyncio.get_running_loop())
        order: list[str] = []
        begin_ns = clock.monotonic_ns()
        clock.call_later(20, lambda: order.append("later"))
        clock.call_later(5, lambda: order.append("never")).cancel()
        clock.call_soon(lambda: order.append("soon"))
        await asyncio.sleep(0.05)
        assert order == ["soon", "later"]
        assert clock.monotonic_ns() - begin_ns >= 20_000_000
        assert clock.wall_ms() > 1_700_000_000_000

    run(test)
    rng = RealRng()
    seen = {rng.bits64() for _ in range(2000)}
    assert len(seen) == 2000
    assert min(seen) >= 0
    assert max(seen) < 1 << 64
    assert {rng.below(3) for _ in range(200)} == {0, 1, 2}
    assert len(rng.token(16)) == 16
    assert rng.token(16) != rng.token(16)


class _Dialled:
    """A handler that writes without end to a peer that takes nothing."""

    def __init__(self) -> None:
        self.closed: list[Exception | None] = []

    def on_open(self, stream: Stream) -> None:
        stream.write(bytes(16 << 20))

    def on_data(self, data: bytes) -> None:
        raise AssertionError("the peer says nothing")

    def on_close(self, error: Exception | None) -> None:
        self.closed.append(error)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="no TCP_USER_TIMEOUT: UNTESTED vanished peers")
def test_a_dialled_peer_that_acknowledges_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durakv.world.real_network.UNACKNOWLEDGED_MAX_MS", 300)

    async def scenario() -> list[Exception | None]:
        network = RealNetwork(asyncio.get_running_loop())
        with socket.create_server(("127.0.0.1", 0)) as server:
            handler = _Dialled()
            network.connect("127.0.0.1", server.getsockname()[1], handler, 1000)
            for _ in range(1500):
                if handler.closed:
                    break
                await asyncio.sleep(0.01)
            return handler.closed

    closed = uvloop.new_event_loop().run_until_complete(scenario())
    assert len(closed) == 1
    assert isinstance(closed[0], TimeoutError), closed
