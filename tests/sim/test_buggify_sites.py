"""Buggify: what fires when, that it costs nothing elsewhere, and that each site of the node is reached and harmless."""

from __future__ import annotations

import pytest

from durakv.app import App, World
from jstyle.sim.buggify import SITES, Buggify
from jstyle.sim.cluster import Cluster, Options
from tests.sim.world_load import Probe, run_episode, settle

# Asked once, when a node starts.
AT_START = (
    "entries-read-from-disk", "little-uncommitted", "one-append-in-flight", "one-entry-appends",
    "one-entry-applied-at-once", "one-entry-written-at-once", "small-segments",
)  # fmt: skip


def test_a_quarter_of_the_sites_is_on_and_fires_each_fourth_time() -> None:
    on = fired = asked = 0
    for seed in range(400):
        buggify = Buggify(seed, "n1")
        buggify("site")
        if buggify.names() == ["site"]:
            on += 1
            fired += sum(buggify("site") for _ in range(100))
            asked += 100
        else:
            assert not any(buggify("site") for _ in range(100)) and buggify.names() == ["-site"]
    assert 70 < on < 130
    assert 0.22 < fired / asked < 0.28


def test_machines_share_the_choice_of_sites_but_not_the_dice() -> None:
    seed = next(n for n in range(100) if _is_on(n))
    one, two = Buggify(seed, "n1"), Buggify(seed, "n2")
    answers = [(one("site"), two("site")) for _ in range(100)]
    assert one.names() == two.names() == ["site"]
    assert any(a != b for a, b in answers)
    assert one.fired["site"] == sum(a for a, _ in answers)


def _is_on(seed: int) -> bool:
    buggify = Buggify(seed, "n1")
    buggify("site")
    return buggify.names() == ["site"]


def test_other_worlds_have_none() -> None:
    cluster = Cluster(1)
    app = cluster.machine(1).app
    assert isinstance(app, App)
    assert app.node.buggify is None and app.transport.buggify is None
    assert World.__init__.__defaults__ == (None,) * len(World.__init__.__defaults__ or ())


class OneSite(Buggify):
    """One site always on."""

    def __init__(self, seed: int, entity: str, site: str) -> None:
        super().__init__(seed, entity, enable=1.0, fire=1.0 if site in AT_START else 0.25)
        self.site = site

    def __call__(self, site: str) -> bool:
        return site == self.site and super().__call__(site)


@pytest.mark.parametrize("site", tuple(SITES))
def test_each_site_is_reached_and_the_group_stands_it(site: str) -> None:
    cluster = Cluster(3)
    for machine in cluster.machines:
        machine.buggify = OneSite(3, machine.name, site)
        machine.crash()
    for machine in cluster.machines:
        machine.start()
    history, _ = run_episode(cluster, 2, kinds=("crash", "cut"))
    fired = sum(m.buggify.fired.get(site, 0) for m in cluster.machines if m.buggify is not None)
    assert fired > 0
    assert sum(asked.outcome == "ok" for asked in history) > 20
    assert not any(m.exits for m in cluster.machines)


def test_a_calm_node_does_nothing_unusual_any_more() -> None:
    buggify = OneSite(1, "n1", "yield")
    assert any(buggify("yield") for _ in range(100))
    fired = buggify.fired["yield"]
    buggify.calm = True
    assert not any(buggify("yield") for _ in range(100))
    assert buggify.counts() == {"yield": fired}


def test_a_buggified_group_still_works() -> None:
    cluster = Cluster(4, Options(buggify=True))
    cluster.wait_leader()
    settle(cluster)
    assert Probe(cluster, 1).ask("ECHO x") == [b"x"]
    asked = {name.lstrip("-") for m in cluster.machines if m.buggify is not None for name in m.buggify.names()}
    assert asked <= set(SITES) and len(asked) >= 8
