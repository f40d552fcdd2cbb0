"""When a batch of writes becomes an entry: by size, by what is expected, and never later than the deadline."""

from __future__ import annotations

from durakv.replication.gather import ENOUGH_BYTES, ENOUGH_ITEMS, Gathering
from tests.replication.sim import SimCluster


def test_a_lone_request_waits_for_nobody() -> None:
    gathering = Gathering()
    assert gathering.enough(1, 40)
    gathering.observe(1)
    assert gathering.enough(1, 40)


def test_most_of_those_expected_are_enough() -> None:
    gathering = Gathering()
    gathering.observe(50)
    assert not gathering.enough(30, 1000)
    assert gathering.enough(43, 1000)


def test_the_estimate_rises_at_once_and_decays() -> None:
    gathering = Gathering()
    gathering.observe(80)
    for _ in range(50):
        gathering.observe(2)
    assert gathering.expected == 2
    gathering.observe(9)
    assert gathering.expected == 9


def test_a_large_batch_is_enough_whatever_is_expected() -> None:
    gathering = Gathering()
    gathering.observe(100_000)
    assert gathering.enough(ENOUGH_ITEMS, 1)
    assert gathering.enough(2, ENOUGH_BYTES)
    assert not gathering.enough(ENOUGH_ITEMS - 1, ENOUGH_BYTES - 1)


def test_fewer_than_expected_go_at_the_deadline() -> None:
    cluster = SimCluster(1)
    leader = cluster.wait_leader()
    assert leader.app is not None
    engine = leader.app.engine
    s = engine.open_session("test:1", "test:2")
    engine.dispatch(s, [b"SET", b"a", b"1"])
    assert cluster.time.run(1000, lambda: s.out == [b"+OK\r\n"])
    # As if many had been writing a moment ago.
    leader.app.node.gathering.expected = 200
    began_ns = cluster.time.now_ns
    engine.dispatch(s, [b"SET", b"a", b"2"])
    assert cluster.time.run(1000, lambda: len(s.out) == 2)
    assert cluster.time.now_ns - began_ns < 30_000_000
