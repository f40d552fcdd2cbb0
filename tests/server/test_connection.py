from __future__ import annotations

import random

import pytest

from durakv.server.connection import HELD_BYTES_MAX, HELD_MAX, LINGER_MS
from tests.server.fakes import PASSWORD, Bench, command

PING = command(b"PING")


def test_a_pipeline_is_answered_in_one_write() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.on_data(PING * 50 + command(b"ECHO", b"x"))
    assert stream.received == b"+PONG\r\n" * 50 + b"$1\r\nx\r\n"
    assert stream.writes == 1


def test_single_bytes_and_halves() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    data = command(b"ECHO", b"\r\n\0$1") + b"PING\r\n"
    for i in range(len(data)):
        connection.on_data(data[i : i + 1])
    assert stream.take() == b"$5\r\n\r\n\0$1\r\n+PONG\r\n"
    connection.on_data(PING[:7])
    assert stream.take() == b""
    connection.on_data(PING[7:])
    assert stream.take() == b"+PONG\r\n"


def test_the_session_knows_its_addresses_and_counts() -> None:
    bench = Bench()
    connection, _ = bench.connect()
    connection.on_data(PING)
    session = bench.engine.sessions[0]
    assert (session.address, session.local_address) == ("10.0.0.9:4321", "[::1]:6379")
    assert (session.bytes_in, session.bytes_out) == (len(PING), 7)
    assert (bench.engine.stats.bytes_in, bench.engine.stats.bytes_out) == (len(PING), 7)
    assert bench.engine.stats.connections == 1


def test_a_protocol_error_is_told_after_the_replies_and_closes() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.on_data(PING + b"*1\r\n+X\r\n" + PING)
    assert stream.received == b"+PONG\r\n-ERR Protocol error: expected '$', got '+'\r\n"
    assert stream.closed == "closed"
    connection.on_data(PING)
    assert bench.engine.seen == [[b"PING"]]
    connection.on_close(None)
    assert bench.engine.closed == bench.engine.sessions
    assert not bench.connections


def test_a_protocol_error_waits_for_replies_still_owed() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.on_data(command(b"SLOW") + PING + b"*x\r\n")
    assert (stream.received, stream.closed) == (b"", "")
    bench.engine.answer(bench.engine.sessions[0])
    assert stream.received == b"+DONE\r\n+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"
    assert stream.closed == "closed"


def test_binary_junk_never_raises() -> None:
    rng = random.Random(5)
    bench = Bench()
    for _ in range(3000):
        connection, stream = bench.connect()
        data = rng.choice([b"", PING, b"*2\r\n$4\r\n"]) + rng.randbytes(rng.randrange(200)) + rng.choice([b"", b"\r\n"])
        for at in range(0, len(data), 30):
            connection.on_data(data[at : at + 30])
        for line in stream.received.split(b"\r\n")[:-1]:
            assert line == b"+PONG" or line.startswith(b"-ERR Protocol error: ")
        connection.on_close(None)
    assert len(bench.engine.closed) == 3000


def test_http_is_dropped_without_a_word() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.on_data(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + command(b"FLUSHALL"))
    assert (stream.received, stream.closed) == (b"", "aborted")
    assert bench.engine.seen == []
    assert "HTTP" in str(bench.engine.events[0][1]["reason"])


def test_query_buffer_limit() -> None:
    bench = Bench(client_query_buffer_limit="1mb")
    connection, stream = bench.connect()
    connection.on_data(b"*1\r\n$5000000\r\n")
    for _ in range(20):
        connection.on_data(b"x" * 65536)
    assert (stream.received, stream.closed) == (b"", "aborted")
    assert bench.engine.stats.query_buffer_closes == 1
    assert connection.parser.pending_bytes() == 0


def test_limits_before_and_after_authentication() -> None:
    bench = Bench()
    bench.engine.authenticated = False
    big = command(b"ECHO", b"x" * 20_000)
    connection, stream = bench.connect()
    connection.on_data(command(b"AUTH", PASSWORD) + big + command(*[b"PING"] * 20))
    assert stream.received == b"+OK\r\n$20000\r\n" + b"x" * 20_000 + b"\r\n+PONG\r\n"
    connection, stream = bench.connect()
    connection.on_data(command(b"AUTH", b"wrong") + big)
    assert stream.received == b"-WRONGPASS\r\n-ERR Protocol error: unauthenticated bulk length\r\n"


def test_quit_sends_its_reply_and_runs_nothing_behind_it() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.on_data(PING + command(b"QUIT") + PING)
    bench.clock.advance(0)
    assert stream.received == b"+PONG\r\n+OK\r\n"
    assert stream.closed == "closed"
    assert bench.engine.seen == [[b"PING"], [b"QUIT"]]


def test_a_closed_link_that_nobody_reads_is_aborted() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    stream.stuck = True
    connection.on_data(PING + command(b"QUIT"))
    bench.clock.advance(0)
    assert stream.closed == "closed"
    bench.clock.advance(LINGER_MS / 1000 + 1)
    assert stream.closed == "aborted"


def test_max_clients() -> None:
    bench = Bench(maxclients="2")
    first, _ = bench.connect()
    bench.connect()
    turned_away, stream = bench.connect()
    assert (stream.received, stream.closed) == (b"-ERR max number of clients reached\r\n", "closed")
    turned_away.on_data(PING)
    turned_away.on_close(None)
    assert (len(bench.engine.sessions), bench.engine.stats.rejected_connections) == (2, 1)
    first.on_close(None)
    _, stream = bench.connect()
    assert stream.closed == ""


def test_hard_output_limit() -> None:
    bench = Bench(client_output_buffer_limit="normal 1000 0 0")
    connection, stream = bench.connect()
    stream.stuck = True
    connection.on_data(command(b"ECHO", b"x" * 900))
    assert stream.closed == ""
    connection.on_data(command(b"ECHO", b"x" * 900))
    assert stream.closed == "aborted"
    assert bench.engine.stats.output_buffer_closes == 1
    assert "client-output-buffer-limit" in str(bench.engine.events[0][1]["reason"])


@pytest.mark.parametrize(("drained", "closed"), [(False, "aborted"), (True, "")])
def test_soft_output_limit(drained: bool, closed: str) -> None:
    bench = Bench(client_output_buffer_limit="normal 0 1000 5")
    connection, stream = bench.connect()
    stream.stuck = True
    connection.on_data(command(b"ECHO", b"x" * 2000))
    assert connection in bench.over_soft
    for second in range(8):
        if drained and second == 3:
            stream.unread = 0
        bench.clock.advance(1)
        bench.rules.tick()
        for over, since_ns in list(bench.over_soft.items()):
            over.check_soft(since_ns)
    assert stream.closed == closed
    assert not bench.over_soft


def test_subscribers_have_limits_of_their_own() -> None:
    bench = Bench(client_output_buffer_limit="pubsub 100 0 0")
    connection, stream = bench.connect()
    stream.stuck = True
    connection.on_data(command(b"ECHO", b"x" * 900))
    assert stream.closed == ""
    bench.engine.sessions[0].channels[b"news"] = None
    connection.flush()
    connection.on_data(PING)
    assert stream.closed == "aborted"


def test_input_stops_while_too_much_is_held() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    session = bench.engine.sessions[0]
    connection.on_data(command(b"BLOCK") + PING * HELD_MAX)
    assert not stream.paused
    connection.on_data(PING)
    assert stream.paused
    bench.engine.answer(session)
    assert stream.received == b"+DONE\r\n" + b"+PONG\r\n" * (HELD_MAX + 1)
    assert not stream.paused
    connection.on_data(command(b"BLOCK"))
    connection.on_data(command(b"ECHO", b"x" * HELD_BYTES_MAX))
    assert stream.paused
    connection.pause_reading()
    bench.engine.answer(session)
    assert stream.paused
    connection.resume_reading()
    assert not stream.paused


def test_half_closed_peers_get_what_they_asked_for() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.on_data(command(b"SLOW") + PING)
    assert connection.on_eof()
    assert stream.closed == ""
    bench.engine.answer(bench.engine.sessions[0])
    assert stream.received == b"+DONE\r\n+PONG\r\n"
    assert stream.closed == "closed"


@pytest.mark.parametrize("data", [b"", PING, PING[:5], command(b"BLOCK") + PING])
def test_half_closed_peers_that_wait_for_nothing_are_closed(data: bytes) -> None:
    bench = Bench()
    connection, _ = bench.connect()
    connection.on_data(data)
    assert not connection.on_eof()


def test_kill() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    connection.kill()
    assert stream.closed == "aborted"
    connection.on_data(PING)
    assert bench.engine.seen == []


def test_output_after_the_link_is_gone_goes_nowhere() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    session = bench.engine.sessions[0]
    connection.on_data(command(b"SLOW"))
    connection.on_close(ConnectionResetError())
    bench.engine.answer(session)
    connection.close_after_flush()
    connection.kill()
    bench.clock.advance(60)
    assert stream.received == b""
