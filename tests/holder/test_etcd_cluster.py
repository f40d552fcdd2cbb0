"""Two data nodes of lease mode, real processes, with a real etcd as their config holder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from tests.holder.test_etcd import ETCD, Etcd
from tests.live.lease_group import GRACE_MS, LeaseGroup

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(ETCD is None, reason="no etcd on PATH: data nodes with etcd as config holder are untested"),
    # redis-py does not close the socket of a connection that was refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def first_write(nodes, timeout_s: float = 20):
    """The node that takes a write, and how long that took."""
    began = time.monotonic()
    while True:
        assert time.monotonic() - began < timeout_s, nodes[0].log_text()
        for node in nodes:
            try:
                with node.client() as client:
                    if client.set("after", "1"):
                        return node, time.monotonic() - began
            except redis.RedisError:
                continue
        time.sleep(0.02)


def test_data_nodes_decided_by_etcd(tmp_path: Path):
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        with LeaseGroup(tmp_path, 2, ["--holder-etcd", f"127.0.0.1:{etcd.port}"], min_isr=1) as group:
            primary = group.wait_in_sync(2)
            assert group.info(primary)["holder_kind"] == "etcd"
            with primary.client() as client:
                for n in range(200):
                    assert client.set(f"k{n}", str(n))
            other = next(node for node in group.nodes if node is not primary)
            primary.kill()
            taken, took = first_write([other])
            assert took < GRACE_MS / 1000 + 3
            with taken.client() as client:
                assert client.mget([f"k{n}" for n in range(200)]) == [str(n).encode() for n in range(200)]
            primary.start()
            group.wait_up(primary)
            group.wait_in_sync(2)

            # Both are in sync: etcd is not needed until something changes.
            etcd.stop()
            time.sleep(GRACE_MS / 1000 + 1)
            with taken.client() as client:
                assert client.set("without", "etcd") and client.get("without") == b"etcd"
            assert "gives no answer" in group.info(taken)["holder_trouble"]
            # The other one dies: nothing is decided until etcd is back, and then it is.
            primary.kill()
            with pytest.raises(redis.RedisError), taken.client() as client:
                client.set("alone", "1")
            etcd.start()
            first_write([taken])
            with taken.client() as client:
                assert client.get("without") == b"etcd"
    finally:
        etcd.stop()
