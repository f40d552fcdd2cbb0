from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from durakv.server.connection import ClientConnection
from durakv.server.listener import ClientListener, ListenError
from durakv.world.ports import Listener, StreamHandler
from tests.server.fakes import Bench, MemoryStream, command


class FakeListener:
    def __init__(self, port: int) -> None:
        self._port = port
        self.closed = False

    def port(self) -> int:
        return self._port

    def close(self) -> None:
        self.closed = True


class FakeNetwork:
    def __init__(self, errors: dict[str, int] | None = None) -> None:
        self.errors = errors or {}
        self.asked: list[tuple[str, int, str | None]] = []
        self.listeners: list[FakeListener] = []
        self.factory: Callable[[], StreamHandler] | None = None

    def listen(self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None) -> Listener:
        self.asked.append((host, port, tls))
        if host in self.errors:
            number = self.errors[host]
            raise OSError(number, errno.errorcode[number])
        self.factory = factory
        self.listeners.append(FakeListener(port or 7777))
        return self.listeners[-1]

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        raise NotImplementedError

    def accept(self) -> tuple[ClientConnection, MemoryStream]:
        assert self.factory is not None
        connection = self.factory()
        assert isinstance(connection, ClientConnection)
        stream = MemoryStream(connection)
        connection.on_open(stream)
        return connection, stream


def listening(network: FakeNetwork, **directives: str) -> tuple[ClientListener, Bench]:
    bench = Bench(**directives)
    listener = ClientListener(bench.engine, network, bench.settings, bench.clock)
    listener.listen()
    return listener, bench


def test_every_address_is_bound() -> None:
    network = FakeNetwork()
    listener, _ = listening(network, bind="127.0.0.1 * -::* 10.1.1.1", port="7000")
    assert network.asked == [
        ("127.0.0.1", 7000, None), ("0.0.0.0", 7000, None), ("::", 7000, None), ("10.1.1.1", 7000, None),
    ]  # fmt: skip
    listener.close()
    assert all(one.closed for one in network.listeners)


def test_port_zero_is_the_same_port_everywhere() -> None:
    network = FakeNetwork()
    listener, _ = listening(network, bind="127.0.0.1 ::1", port="0")
    assert network.asked == [("127.0.0.1", 0, None), ("::1", 7777, None)]
    assert listener.port() == 7777


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "choose another `port`"),
        (errno.EACCES, "above 1023"),
        (errno.EADDRNOTAVAIL, "correct `bind`"),
        (errno.EMFILE, "check `bind`"),
    ],
)
def test_errors_name_the_directive(number: int, advice: str) -> None:
    network = FakeNetwork({"10.0.0.1": number})
    with pytest.raises(ListenError) as caught:
        listening(network, bind="127.0.0.1 10.0.0.1", port="7001")
    text = str(caught.value)
    assert text.startswith("cannot listen on 10.0.0.1 port 7001: ")
    assert advice in text
    assert "\n" not in text
    assert caught.value.errno == number
    assert network.listeners[0].closed


def test_a_dash_forgives_a_missing_address_only() -> None:
    listener, _ = listening(FakeNetwork({"::1": errno.EADDRNOTAVAIL}))
    assert len(listener.listeners) == 1
    with pytest.raises(ListenError, match="another process has the port"):
        listening(FakeNetwork({"::1": errno.EADDRINUSE}))
    with pytest.raises(ListenError, match="none of the addresses"):
        listening(FakeNetwork({"::1": errno.EAFNOSUPPORT}), bind="-::1")


def test_idle_clients_are_closed() -> None:
    network = FakeNetwork()
    listener, bench = listening(network, timeout="10")
    idle, idle_stream = network.accept()
    busy, busy_stream = network.accept()
    blocked, blocked_stream = network.accept()
    subscriber, subscriber_stream = network.accept()
    blocked.on_data(command(b"BLOCK"))
    assert subscriber.session is not None
    subscriber.session.channels[b"news"] = None
    for _ in range(15):
        bench.clock.advance(1)
        busy.on_data(command(b"PING"))
    streams = (idle_stream, busy_stream, blocked_stream, subscriber_stream)
    assert [stream.closed for stream in streams] == ["closed", "", "", ""]
    assert idle.stopped
    assert busy.session is not None
    assert abs(busy.session.last_ms - bench.clock.wall_ms()) <= 1250
    bench.settings.set("timeout", "0")
    bench.clock.advance(100)
    assert busy_stream.closed == ""
    listener.close()
    assert busy_stream.closed == "closed"


def test_no_timer_outlives_the_listener() -> None:
    listener, bench = listening(FakeNetwork())
    listener.close()
    assert all(timer.cancelled for timer in bench.clock.timers)


def test_changed_settings_reach_open_connections() -> None:
    network = FakeNetwork()
    _, bench = listening(network)
    connection, stream = network.accept()
    bench.settings.set("proto-max-bulk-len", "1mb")
    connection.on_data(b"*1\r\n$1048577\r\n")
    assert stream.received == b"-ERR Protocol error: invalid bulk length\r\n"
    bench.settings.set("maxclients", "1")
    _, stream = network.accept()
    assert stream.received == b"-ERR max number of clients reached\r\n"


def test_the_soft_output_limit_is_looked_after() -> None:
    network = FakeNetwork()
    _, bench = listening(network, client_output_buffer_limit="normal 0 1000 3")
    connection, stream = network.accept()
    stream.stuck = True
    connection.on_data(command(b"ECHO", b"x" * 2000))
    bench.clock.advance(2)
    assert stream.closed == ""
    bench.clock.advance(4)
    assert stream.closed == "aborted"
