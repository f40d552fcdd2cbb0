"""The explorer can fail: each way of breaking the proxy's rules is found by some seed."""

from __future__ import annotations

import pytest

from durakv.proxy import client as client_module
from durakv.proxy import resend
from durakv.proxy.client import Client
from durakv.proxy.refusal import LOST_READ
from durakv.proxy.topology import Table
from durakv.proxy.transaction import Exec
from tests.proxy.test_explore import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not client_module.__file__.endswith(".py"), reason="compiled classes cannot be changed while they run"
    ),
]


def found(seeds) -> str:
    """The first thing some seed finds wrong."""
    for seed in seeds:
        world = World(seed)
        try:
            world.run(120)
            world.check()
        except (AssertionError, ValueError) as e:
            return str(e)
    return ""


def test_sending_a_lost_write_again_is_found(monkeypatch):
    def on_lost(self, request, sent, why):
        if not self.closed:
            self._refuse(request, LOST_READ, b"-CLUSTERDOWN lost\r\n")

    monkeypatch.setattr(Client, "on_lost", on_lost)
    assert found(range(40))


def test_ignoring_what_has_overtaken_a_request_is_found(monkeypatch):
    monkeypatch.setattr(resend, "_was_overtaken", lambda window, request: False)
    assert found(range(40))


def test_not_waiting_for_what_went_by_an_older_table_is_found(monkeypatch):
    """Never wrong, as what was overtaken is not sent again; but clients notice the move."""

    def learn(self, slot, node):
        self.leaders[slot] = node

    monkeypatch.setattr(Table, "learn", learn)
    noticed = 0
    for seed in range(8):
        world = World(seed, clients=8)
        world.run(120, moves_only=True)
        noticed += world.check()["refused"]
    assert noticed


def test_sending_again_at_once_is_found(monkeypatch):
    def refuse(self, request, kind, wire):
        if not client_module.follow(self.hub, request, kind, wire):
            return False
        request.tries += 1
        self.inflight -= 1
        if request.tries > 6:
            self.inflight += 1
            return False
        if kind in (1, 2):
            self.send_again(request)
            return True
        self.inflight += 1
        return False

    monkeypatch.setattr(Client, "_refuse", refuse)
    assert found(range(60))


def test_forgetting_what_is_watched_is_found(monkeypatch):
    start = Exec.start

    def forget(self):
        if self.client.watch is not None:
            self.client.watch.end()
            self.client.watch = None
        start(self)

    monkeypatch.setattr(Exec, "start", forget)
    assert "had not seen" in found(range(40))


def test_sending_a_watched_transaction_again_is_found(monkeypatch):
    again = Exec._again

    def send_again(self, request, kind):
        self.client.watch = None
        again(self, request, kind)

    monkeypatch.setattr(Exec, "_again", send_again)
    assert "had not seen" in found(range(60))
