"""What a seed's plan has beside the rest in lease mode: clocks within its bound or beyond, faults of the arbiter.

Rule: draws from streams of its own only, so that plans of Raft mode are what they were before there was this one.
"""

from __future__ import annotations

from typing import Any, Final

from jstyle.sim.clock import RATE_ONE
from jstyle.sim.cluster import Options
from jstyle.sim.disk_crash import ORDERS
from jstyle.sim.schedule import Plan, Strike
from jstyle.sim.streams import stream

# Nodes by shape; two of them have an arbiter beside them.
LEASE_SHAPES: Final = {"lease": 3, "lease-2": 2}
ARBITER: Final = "arbiter"
# Clocks beyond the bound: a property of the whole run, never drawn, because it excuses old reads.
DRIFT: Final = "drift"
LEASE_CLASSES: Final = (ARBITER, DRIFT)
LEASE_KINDS: Final[dict[str, tuple[str, ...]]] = {ARBITER: ("arbiter-kill", "arbiter-pause", "arbiter-power")}
# One copy of a write may be all there is, and whoever holds a vote of the config holder stays.
LEFT_OUT: Final = ("rot", "membership")
# lease-clock-bound is 150 thousandths; and how far clocks are off when they keep no bound.
BOUND_PPM: Final = 149_000
BEYOND_PPM: Final = 400_000


def classes_of(seed: int, classes: list[str], all_classes: tuple[str, ...], shape: str) -> list[str]:
    """Lease mode's own classes that go with those drawn: none with none, all with all."""
    random = stream(seed, "swarm", "lease-classes")
    if LEASE_SHAPES[shape] > 2 or not classes:
        return []
    return [ARBITER] if len(classes) == len(all_classes) or random.random() < 0.5 else []


def in_lease_mode(seed: int, options: Options, classes: list[str], extra: list[str], shape: str) -> None:
    """Make the world one of lease mode."""
    options.lease = True
    options.arbiter = LEASE_SHAPES[shape] == 2
    options.beyond_bound = DRIFT in extra
    worst = BEYOND_PPM if options.beyond_bound else BOUND_PPM
    if "skew" in classes or options.beyond_bound:
        options.clock.rate_ppm = (RATE_ONE - worst, RATE_ONE + worst)
    random = stream(seed, "swarm", "lease-times")
    # On long ways one message in a hundred takes longer than a second.
    lease_ms = random.choice((2000, 4000) if "wan" in classes else (600, 1000, 1000))
    options.directives |= {"lease-duration-ms": str(lease_ms), "lease-grace-ms": str(lease_ms * 3 // 2)}
    options.directives["reads"] = "readindex"


def strikes_of(seed: int, plan: Plan, drawn: list[Strike]) -> list[Strike]:
    """Timed faults: those drawn as for Raft mode, their clocks at this mode's bound, and the arbiter's."""
    worst = BEYOND_PPM if plan.options.beyond_bound else BOUND_PPM
    strikes = list(drawn)
    for place, strike in enumerate(strikes):
        if strike.kind == "clock-rate":
            strike.params["ppm"] = RATE_ONE + (worst if int(strike.params["ppm"]) > RATE_ONE else -worst)
        elif strike.kind in {"cut", "clog"} and plan.options.arbiter:
            # Half of the partitions of nodes also part them from the arbiter.
            strike.params["witness"] = stream(seed, "swarm", "arbiter-side", place).random() < 0.5
    random = stream(seed, "swarm", "arbiter-strikes")
    at_ms = random.randrange(3000)
    while plan.options.arbiter and ARBITER in plan.classes and at_ms < plan.safety_ms:
        kind = random.choice(LEASE_KINDS[ARBITER])
        for_ms = int(random.choice((200, 1000, 3000, 8000)) * random.uniform(0.3, 1.5))
        params: dict[str, Any] = {}
        if kind == "arbiter-power":
            params = {"order": random.choice(ORDERS)}
            if random.random() < 0.5:
                params["calls"], for_ms = random.randrange(10), 0
        strikes.append(Strike(at_ms, ARBITER, kind, ARBITER, for_ms, params))
        at_ms += int(random.expovariate(1 / 4000)) + 1
    return sorted(strikes, key=lambda strike: strike.at_ms)


def core_of(seed: int, nodes: int) -> list[int]:
    """Who is whole in the end: everybody, or as few as the config holder can do with, all others gone for good."""
    random = stream(seed, "swarm", "lease-core")
    order = list(range(1, nodes + 1))
    random.shuffle(order)
    return sorted(order if random.random() < 0.6 else order[: max(nodes - 1, 1)])
