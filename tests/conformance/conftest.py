"""Real servers for client libraries to talk to: a lone node and a group of three, started once for all tests here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.group import Group, Node

# No test here kills a node of the shared groups, so nothing but a busy machine could cause an election.
_CALM = ["--election-timeout-ms", "2500"]
DEADLINE_S = 8.0


class Site:
    """One group, the node the clients under test are connected to, and the protocol they speak."""

    def __init__(self, group: Group, place: str, protocol: int) -> None:
        self.group = group
        self.place = place
        self.protocol = protocol
        leader = group.leader()
        self.leader = leader
        others = [node for node in group.nodes if node is not leader]
        self.node: Node = others[0] if place == "follower" else leader
        self.other: Node = others[-1] if others else leader

    def client(self, node: Node | None = None, **options: object) -> Any:
        """A client of ``node``, by default the one under test."""
        return (node or self.node).client(protocol=self.protocol, **options)

    def text(self) -> Any:
        """A client that decodes replies."""
        return self.client(decode_responses=True)


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Poll until the condition holds; fails after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """redis-py leaves the socket of a refused connection to the collector, which is no fault of ours."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket"))
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("alone"), 1, _CALM) as group:
        yield group


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with Group(tmp_path_factory.mktemp("three"), 3, _CALM) as group:
        yield group


@pytest.fixture(
    params=[("alone", 2), ("alone", 3), ("leader", 2), ("follower", 2), ("follower", 3)],
    ids=lambda pair: f"{pair[0]}-resp{pair[1]}",
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    place, protocol = request.param
    group = request.getfixturevalue("alone" if place == "alone" else "three")
    site = Site(group, place, protocol)
    with site.client() as client:
        client.flushall()
    yield site
    for node in group.nodes:
        assert node.process is not None and node.process.poll() is None, node.log_text()
        assert "internal-error" not in node.log_text() and "Traceback" not in node.log_text(), node.log_text()


@pytest.fixture
def r(site: Site) -> Iterator[Any]:
    with site.text() as client:
        yield client
