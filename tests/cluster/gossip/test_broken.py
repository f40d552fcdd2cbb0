"""Gossip with one idea taken out: the tests of the whole one must notice."""

from __future__ import annotations

import pytest

from durakv.cluster.gossip import gossip as gossip_module
from durakv.cluster.gossip.gossip import Gossip
from durakv.cluster.gossip.routing import Routing
from tests.cluster.gossip import test_gossip as whole


def test_the_last_message_wins(monkeypatch):
    def overwrite(self, first, last, epoch, group):
        for slot in range(first, last + 1):
            self.epochs[slot], self.groups[slot] = epoch, group
        self.changes += 1
        return True

    monkeypatch.setattr(Routing, "learn_slots", overwrite)
    # One run may be spared the order of messages that shows it.
    with pytest.raises(AssertionError, match="an epoch went back"):
        several_runs()


def several_runs():
    for seed in range(10):
        whole.test_convergence_under_loss_duplicates_and_reordering(seed)


def test_news_without_digests(monkeypatch):
    monkeypatch.setattr(Gossip, "_digest", lambda self, now_ms, out: None)
    with pytest.raises(AssertionError, match="not within"):
        whole.test_digests_alone_repair_what_news_missed()


def test_digests_without_news(monkeypatch):
    monkeypatch.setattr(Gossip, "_tell", lambda self, what, which: None)
    with pytest.raises(AssertionError):
        whole.test_a_move_reaches_all_within_a_few_ticks()


def test_the_dead_are_never_asked(monkeypatch):
    pick = Gossip._pick
    monkeypatch.setattr(Gossip, "_pick", lambda self, *, alive: pick(self, alive=True))
    monkeypatch.setattr(Gossip, "_refresh", only_the_living(Gossip._refresh))
    with pytest.raises(AssertionError, match="not within"):
        whole.test_two_halves_find_each_other_again(0)


def only_the_living(refresh):
    def wrapped(self):
        refresh(self)
        self._strangers = []
        # Without anybody alive to ask it asks nobody.
        living = [n for n in self._others if self.peers.state(n) != gossip_module.DEAD]
        self._others, self._view = living, list(living)

    return wrapped


def test_suspects_that_do_not_refute(monkeypatch):
    def quiet(self, claim, now_ms):
        if claim.node_id != self.node_id and claim.node_id in self.routing.members:
            if self.peers.claim(claim.node_id, claim.incarnation, claim.state, now_ms):
                self._tell(gossip_module._NODE, claim.node_id)

    monkeypatch.setattr(Gossip, "_claim", quiet)
    with pytest.raises(AssertionError, match="not within"):
        whole.test_a_dead_node_is_suspected_then_dead_then_alive_again()


def test_a_removal_that_can_be_unlearnt(monkeypatch):
    def eager(self, m, now_ms):
        for facts in m.groups:
            self.learn_group(facts, now_ms)
        for r in m.slots:
            self.learn_slots(r.first, r.last, r.epoch, r.group)

    monkeypatch.setattr(Gossip, "_learn", eager)
    monkeypatch.setattr(gossip_module.GroupFacts, "version", lambda self: (self.term, self.config_index, self.sequence))
    with pytest.raises(AssertionError):
        whole.test_removed_nodes_and_groups_are_forgotten_and_stay_so()
