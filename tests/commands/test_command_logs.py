"""COMMANDLOG's three logs and LATENCY, filled by real requests, in the form a live valkey-server gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from durakv.observe.latency import Spikes, graph
from durakv.observe.stats import Stats, bucket_ns
from tests.commands.fake_services import FakeNode, wire
from tests.commands.reference_server import running
from tests.engine.rig import Rig
from tests.server.fakes import Bench, command


@pytest.fixture(scope="module")
def connect() -> Iterator[Any]:
    with running() as factory:
        yield factory


def test_large_requests_are_kept_with_their_size_on_the_wire() -> None:
    bench = Bench(commandlog_request_larger_than="40")
    connection, _ = bench.connect()
    large, small = command(b"SET", b"kk", b"v" * 12), command(b"PING")
    assert len(large) == 40
    connection.on_data(small + large + small)
    log = bench.engine.instruments.large_requests
    assert [(e.took_us, e.argv) for e in log.newest(-1)] == [(40, [b"SET", b"kk", b"v" * 12])]
    # In pieces, none of which is large.
    for at in range(0, len(large), 7):
        connection.on_data(large[at : at + 7])
    assert len(log.entries) == 2 and log.newest(1)[0].address == "10.0.0.9:4321"
    bench.settings.set("commandlog-request-larger-than", "-1")
    bench.rules.refresh()
    connection.on_data(large)
    assert len(log.entries) == 2


def test_large_replies_are_kept_with_the_request_they_answer() -> None:
    rig = Rig(commandlog_reply_larger_than="30")
    a = rig.client()
    rig.ask(a, "CLIENT SETNAME me", [b"SET", b"k", b"x" * 50], "ECHO short")
    rig.ask(a, "GET k")
    rig.ask(a, "ECHO " + "y" * 40)
    rig.ask(a, "MULTI", "GET k", "EXEC")
    (entries,) = rig.ask(a, "COMMANDLOG GET -1 large-reply")
    assert isinstance(entries, list)
    assert [(entry[2], entry[3]) for entry in entries] == [
        (len(b"*1\r\n$50\r\n") + 52, [b"EXEC"]),
        (len(b"$40\r\n") + 42, [b"ECHO", b"y" * 40]),
        (len(b"$50\r\n") + 52, [b"GET", b"k"]),
    ]
    assert entries[0][4:] == [b"10.0.0.1:1", b"me"]
    # Several of one entry are not told apart.
    rig.ask(a, [b"SET", b"j", b"x" * 50], "GET k", "GET j")
    (entries,) = rig.ask(a, "COMMANDLOG GET 2 large-reply")
    assert isinstance(entries, list)
    assert [entry[3] for entry in entries] == [[b"(one of 3 pipelined requests)"]] * 2
    assert rig.ask(a, "COMMANDLOG RESET large-reply", "COMMANDLOG LEN large-reply") == [b"OK", 0]
    rig.ask(a, "CONFIG SET commandlog-reply-larger-than -1", "GET k")
    assert rig.ask(a, "COMMANDLOG LEN large-reply") == [0]


def test_logs_keep_as_many_as_they_may() -> None:
    rig = Rig(commandlog_reply_larger_than="1", commandlog_large_reply_max_len="3")
    a = rig.client()
    for _ in range(5):
        rig.ask(a, "PING")
    assert rig.ask(a, "COMMANDLOG LEN large-reply") == [3]
    rig.ask(a, "CONFIG SET commandlog-large-reply-max-len 1")
    assert rig.ask(a, "COMMANDLOG LEN large-reply") == [1]


REFUSED = [
    "GET 1 nope", "GET x slow", "GET -2 slow", "GET x nope", "GET 1", "LEN", "LEN nope", "RESET", "RESET nope",
    "LEN slow x", "GET 0 slow", "GET 5 SLOW", "LEN Large-Reply", "RESET large-REQUEST",
]  # fmt: skip


@pytest.mark.live
def test_commandlog_answers_as_valkey_does(connect: Any) -> None:
    reference = connect()
    reference("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    if isinstance(reference("COMMANDLOG", "LEN", "slow"), hiredis.ReplyError):
        pytest.skip("needs valkey-server 8.1 on PATH")
    node = FakeNode()
    s = node.client()
    for words in REFUSED:
        assert wire(node, s, f"COMMANDLOG {words}") == reference.raw("COMMANDLOG", *words.split()), words


def test_times_are_spread_over_valkeys_buckets() -> None:
    # As the documentation of LATENCY HISTOGRAM shows them.
    assert [bucket_ns(k) // 1000 for k in range(13)] == [1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227]
    stats = Stats()
    for took_us in (1, 1, 3, 3, 40, 100_000_000):
        stats.took("sort", took_us * 1000)
    assert [(bound // 1000, calls) for bound, calls in stats.buckets("sort", 6)] == [
        (1, 2), (4, 4), (66, 5), (bucket_ns(20) // 1000, 6)]  # fmt: skip
    assert [round(us) for us in stats.percentiles_us("sort", 6, [0.0, 50.0, 66.0, 80.0])] == [1, 4, 4, 66]
    stats.plain_calls, stats.plain_ns = 10, 30_000
    assert stats.buckets("get", 7) == [(bucket_ns(2), 7)]
    assert stats.percentiles_us("none", 0, [50.0]) == [0.0]
    for k in range(20):
        stats = Stats()
        stats.took("x", bucket_ns(k))
        stats.took("x", bucket_ns(k) + 1)
        assert [bound for bound, _ in stats.buckets("x", 2)] == [bucket_ns(k), bucket_ns(k + 1)]


@pytest.mark.live
def test_the_histogram_has_valkeys_form(connect: Any) -> None:
    reference = connect()
    reference("SORT", "nope")
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SORT nope", "SORT nope", "CONFIG GET nope", "CONFIG SET timeout 0")
    reference("CONFIG", "GET", "nope")
    for words in (("sort", "nope"), ("config|get",), ("config",)):
        theirs = reference("LATENCY", "HISTOGRAM", *words)
        (ours,) = rig.ask(a, "LATENCY HISTOGRAM " + " ".join(words))
        assert isinstance(ours, list) and isinstance(theirs, list)
        assert sorted(set(theirs[::2]) - set(ours[::2])) == []
        assert list(ours[1][::2]) == theirs[1][::2]
        assert ours[1][3][-1] == ours[1][1]


def test_a_graph_has_a_column_for_each_sample() -> None:
    spikes = Spikes()
    for at_s, took_ms in ((100, 10), (3600, 500), (86_500, 255), (90_000, 500)):
        spikes.add(at_s, took_ms)
    assert graph("command", spikes, 90_030).split("\n") == [
        "command - high 500 ms, low 10 ms (all time high 500 ms)", "-" * 80, " # #", " |_|", " |||", "_|||", "    ",
        "1153", "dd80", "  ms", "",
    ]  # fmt: skip
    for at_s in range(100_000, 100_090):
        spikes.add(at_s, 10)
    assert "" in graph("command", spikes, 100_100).rstrip("\n").split("\n")


@pytest.mark.live
def test_the_graph_is_that_of_valkey() -> None:
    with running("--enable-debug-command", "yes", "--latency-monitor-threshold", "1") as connect:
        reference = connect()
        for seconds in ("0.01", "0.05", "0.02"):
            reference("DEBUG", "SLEEP", seconds)
            time.sleep(1.05)
        spikes = Spikes()
        for at_s, took_ms in reference("LATENCY", "HISTORY", "command"):
            spikes.add(at_s, took_ms)
        now_s = int(time.time())
        shown = reference("LATENCY", "GRAPH", "command").decode()
        assert shown in (graph("command", spikes, now_s), graph("command", spikes, now_s + 1))
