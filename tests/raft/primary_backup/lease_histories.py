"""Histories in which a small mistake about who may serve shows, too precise for chance to play them often."""

from raft.types import Role
from tests.raft.primary_backup.world import HOLDER, MS, World


def office(seed: int, rates: dict[int, int] | None = None, nodes: tuple[int, ...] = (1, 2, 3)) -> World:
    """The first node in office and serving; messages take 1 to 2 ms."""
    w = World(seed, nodes, rates=rates)
    w.delay_ns = 1 * MS
    w.stragglers = False
    assert w.run(5000 * MS, lambda: w.primary() == 1), w.picture()
    w.run(300 * MS)
    return w


def serves(w: World, nodes: tuple[int, ...], limit_ms: int = 6000) -> None:
    assert w.run(limit_ms * MS, lambda: w.primary() in nodes), w.picture()


def answered_again_while_asking_for_office(seed: int) -> None:
    """Node 2 asks for office, the holder is down; the old primary is heard again and answered meanwhile."""
    w = office(seed)
    w.cut |= {(1, 2), (2, 1), (3, HOLDER), (1, HOLDER)}
    assert w.run(6000 * MS, lambda: w.core(2).armed), w.picture()
    w.holder_up = False
    assert w.run(1000 * MS, lambda: w.core(2).change is not None), w.picture()
    w.cut = {(3, HOLDER), (1, HOLDER)}
    serves(w, (1,))
    w.isolate(1, holder=False)
    w.holder_up = True
    assert w.run(1500 * MS, lambda: w.core(2).role == Role.LEADER), w.picture()
    until_served(w, (2,))


def handing_over_on_slow_links(seed: int) -> None:
    """The old primary hears late that its successor serves."""
    w = office(seed)
    for other in (2, 3, HOLDER):
        w.slow[other, 1] = 900 * MS
    w.core(1).transfer_leader(2, w.local(w.sites[1]))
    w.pump(w.sites[1])
    serves(w, (2,), 300)


def answers_on_slow_links(seed: int) -> None:
    """Beacons arrive in time, their answers late, and then no beacon arrives any more."""
    w = office(seed)
    w.slow[2, 1] = w.slow[3, 1] = 1000 * MS
    w.run(400 * MS)
    w.cut |= {(1, 2), (1, 3), (1, HOLDER), (HOLDER, 1)}
    serves(w, (2, 3))


def until_served(w: World, nodes: tuple[int, ...]) -> None:
    """Clients try all nodes all the time; ends when one of `nodes` has acknowledged a write and shown it."""
    for _ in range(300):
        for node in w.sites:
            w.write(node)
            w.run(3 * MS)
        for node in w.sites:
            w.read(node)
        w.run(10 * MS)
        new = w.primary()
        if new in nodes and w.visible > w.core(new).noop_index:
            return
    raise AssertionError(w.picture())


def lone_primary(w: World) -> None:
    """Node 2 is cut off from node 1 and put out; both reach the holder, and no promise binds node 2 any more."""
    w.isolate(2, holder=False)
    assert w.run(6000 * MS, lambda: w.invariants.holder.isr == (1,)), w.picture()
    serves(w, (1,))
    w.run(3000 * MS)


def force(w: World, node: int, given_up: tuple[int, ...]) -> None:
    """The operator asks until it is done."""
    for _ in range(200):
        core = w.core(node)
        if w.losses:
            return
        if core.change is None and core.known is not None and core.known.epoch == core.term:
            core.force(given_up, w.local(w.sites[node]))
            w.pump(w.sites[node])
        w.run(20 * MS)
    raise AssertionError(w.picture())


def force_against_a_lone_primary(seed: int) -> None:
    """It lives, and serves, and cannot hear that it was given up."""
    w = office(seed, nodes=(1, 2))
    lone_primary(w)
    w.isolate(1)
    force(w, 2, (1,))
    until_served(w, (2,))


def a_given_up_node_is_offered_a_snapshot_of_what_it_has(seed: int) -> None:
    """Its log was committed further than the snapshot goes, but by another history."""
    w = office(seed, nodes=(1, 2))
    lone_primary(w)
    for _ in range(12):
        w.write(1)
        w.run(20 * MS)
    w.crash(1)
    w.cut.clear()
    force(w, 2, (1,))
    serves(w, (2,))
    for count in range(30):
        w.write(2)
        w.run(20 * MS)
        if count == 6:
            w.snapshot(2)
    w.start(1)
    whole = w.run(15_000 * MS, lambda: w.invariants.holder.isr == (1, 2) and w.sites[1].app.index > 30)
    assert whole, f"Liveness: {w.picture()}"
    assert w.sites[1].app.digest == w.sites[2].app.digest


def a_slow_primary_and_fast_members(rates: dict[int, int]) -> World:
    """The primary is cut off from everybody; whoever takes over acknowledges writes, and clients read everywhere."""
    w = office(5, rates)
    w.raising = False
    w.isolate(1)
    for _ in range(250):
        for node in w.sites:
            w.write(node)
            w.read(node)
        w.run(10 * MS)
    assert w.visible > w.core(w.primary()).noop_index, w.picture()
    return w


HISTORIES = [
    answered_again_while_asking_for_office,
    handing_over_on_slow_links,
    answers_on_slow_links,
    force_against_a_lone_primary,
    a_given_up_node_is_offered_a_snapshot_of_what_it_has,
]
