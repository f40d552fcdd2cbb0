"""One cluster and one proxy for all tests that do not break them."""

from __future__ import annotations

import pytest

from tests.proxy.cluster import ProxyProcess, RedisCluster, available


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if not available():
        pytest.skip("redis-server is not on the PATH")
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="session")
def proxy(cluster):
    with ProxyProcess([node.port for node in cluster.nodes]) as made:
        yield made


@pytest.fixture
def client(proxy):
    found = proxy.client()
    found.flushall()
    yield found
    found.close()


@pytest.fixture
def client3(proxy):
    found = proxy.client(protocol=3)
    found.flushall()
    yield found
    found.close()
