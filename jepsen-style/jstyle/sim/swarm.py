"""From a seed to a plan: which classes of faults are on, how the world is shaped, who works and what strikes when.

Rule: the only place that draws a plan. Each class of faults is off with probability one half; one seed in ten has no
fault, one in ten a single class, one in ten all of them: a fault that is always on hides what only its absence shows.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from jstyle.sim import swarm_groups, swarm_lease
from jstyle.sim.atlas import MINORITY, Atlas
from jstyle.sim.client import ClientPlan
from jstyle.sim.clock import RATE_ONE, ClockOptions
from jstyle.sim.cluster import Options
from jstyle.sim.disk import DiskOptions
from jstyle.sim.disk_crash import ORDERS
from jstyle.sim.disk_faults import FaultOptions
from jstyle.sim.interposer import FrameOptions
from jstyle.sim.net import NetOptions
from jstyle.sim.schedule import Plan, Strike
from jstyle.sim.streams import stream
from jstyle.sim.swarm_groups import GROUP_CLASSES, GROUP_SHAPES
from jstyle.sim.swarm_lease import LEASE_CLASSES, LEASE_SHAPES
from jstyle.sim.swarm_witness import (
    WITNESS_CLASSES,
    WITNESS_SHAPES,
    classes_of,
    core_of,
    place_of,
    shape_of,
    strikes_of,
    two_copies,
    with_witness_cut_off,
)
from jstyle.sim.workloads.catalogue import WORKLOADS
from jstyle.sim.workloads.slotted import SLOTTED

# Classes that strike at times, and classes that are a property of the world.
TIMED: Final = (
    "kill", "power", "pause", "partition", "clog", "reset", "slow", "clock", "disk-slow", "disk-error", "disk-full",
    "rot", "transfer", "membership",
)  # fmt: skip
STANDING: Final = ("frames", "loss", "slow-cpu", "wan", "skew", "buggify")
CLASSES: Final = (*TIMED, *STANDING)
# What each timed class can do: kinds of strikes, methods of the nemesis.
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "kill": ("kill", "stop"), "power": ("power-cut", "power-in-batch"), "pause": ("pause",), "partition": ("cut",),
    "clog": ("clog", "swizzle"), "reset": ("refuse", "reset"), "slow": ("slow-net",),
    "clock": ("clock-rate", "clock-step"), "disk-slow": ("disk-hang", "disk-slow"), "disk-error": ("disk-error",),
    "disk-full": ("disk-full",), "rot": ("flip-bit",), "transfer": ("transfer",),
    "membership": ("add-node", "remove-node"),
}  # fmt: skip
SHAPES: Final = {"1": 1, "3": 3, "5": 5, **WITNESS_SHAPES}
ALL_SHAPES: Final = (*SHAPES, *GROUP_SHAPES, *LEASE_SHAPES)
# Nodes keep checkpoints and forget their log behind them; drawn apart, so that it changes nothing else of a plan.
CHECKPOINTS: Final = "checkpoints"
ALL_CLASSES: Final = (*CLASSES, *WITNESS_CLASSES, *GROUP_CLASSES, *LEASE_CLASSES, CHECKPOINTS)
_DRIFT_BOUND_PPM: Final = 1000
_COPIES: Final = 2


class Draw:
    """What the caller fixes; None or empty: drawn from the seed."""

    def __init__(
        self, shape: str = "", classes: tuple[str, ...] | None = None, workloads: tuple[str, ...] = (),
        safety_ms: int = 40_000,
    ) -> None:  # fmt: skip
        self.shape = shape
        self.classes = classes
        self.workloads = workloads
        self.safety_ms = safety_ms

    def command(self, seed: int) -> str:
        """The command line that draws and runs this again."""
        words = [f"jstyle sim --seed {seed} --time {self.safety_ms // 1000}"]
        words += [f"--shape {self.shape}"] if self.shape else []
        words += [f"--faults {','.join(self.classes) or repr('')}"] if self.classes is not None else []
        words += [f"--workload {','.join(self.workloads)}"] if self.workloads else []
        return " ".join(words)


def draw_plan(seed: int, draw: Draw | None = None) -> Plan:
    """The plan of a seed."""
    draw = draw if draw is not None else Draw()
    if draw.shape in GROUP_SHAPES:
        return _draw_groups(seed, draw)
    if draw.shape in LEASE_SHAPES:
        return _draw_lease(seed, draw)
    random = stream(seed, "swarm", "plan")
    shape = draw.shape or shape_of(seed)
    nodes = SHAPES[draw.shape] if draw.shape else random.choice((1, 3, 3, 3, 3, 3, 3, 5, 5, 5))
    nodes = SHAPES[shape] if shape else nodes
    classes = _classes(random) if draw.classes is None else _named(draw.classes, CLASSES)
    if nodes == 1:
        # Nobody holds a second copy of what rots, and nobody takes over.
        classes = [name for name in classes if name not in {"rot", "transfer", "partition", "clog", "membership"}]
    extra: list[str] = []
    if shape in WITNESS_SHAPES:
        extra = classes_of(seed, classes, CLASSES) if draw.classes is None else _named(draw.classes, WITNESS_CLASSES)
        # While the witness stands in there may be one copy of a write, so no medium may lie.
        classes = [name for name in classes if name != "rot"]
    options = _options(random, nodes, classes)
    plan = Plan(seed, options, classes + extra, safety_ms=draw.safety_ms)
    plan.clients = _clients(stream(seed, "swarm", "clients"), nodes, draw.workloads)
    plan.strikes = _strikes(seed, plan, nodes)
    # With changes of membership the core is all who are members in the end.
    plan.core = [] if "membership" in classes else _core(random, seed, nodes, options, rot="rot" in classes)
    if shape in WITNESS_SHAPES:
        _add_witness(seed, plan)
    _maybe_checkpoints(seed, plan, draw)
    return plan


def _draw_groups(seed: int, draw: Draw) -> Plan:
    """A plan of several groups: their world and faults as of one, and what happens between them."""
    random = stream(seed, "swarm", "plan")
    groups, nodes = swarm_groups.size_of(seed, draw.shape)
    drawn = _classes(random) if draw.classes is None else _named(draw.classes, CLASSES)
    classes, extra = swarm_groups.classes_of(seed, drawn, CLASSES)
    if draw.classes is not None:
        extra = _named(draw.classes, GROUP_CLASSES)
    if nodes == 1:
        classes = [name for name in classes if name not in {"transfer", "partition", "clog", "membership"}]
    options = _options(random, nodes, classes)
    options.groups = groups
    if "flush" in extra:
        options.directives["cluster-databases"] = "2"
    options.small_batches = swarm_groups.in_small_batches(seed)
    plan = Plan(seed, options, classes + extra, safety_ms=draw.safety_ms)
    known = draw.workloads or tuple(random.sample(sorted(SLOTTED), 2))
    # Transactions cross groups in most runs.
    plan.clients = _clients(stream(seed, "swarm", "clients"), nodes, draw.workloads or ("append", *known))
    for client in plan.clients:
        client.home = 0
    plan.strikes = _strikes(seed, plan, nodes)
    swarm_groups.in_groups(seed, plan.strikes)
    plan.strikes += swarm_groups.strikes_of(seed, plan.classes, plan.safety_ms)
    plan.strikes.sort(key=lambda strike: strike.at_ms)
    plan.core = [] if "membership" in classes else swarm_groups.core_of(seed, groups, nodes)
    plan.rest_gone = True
    _maybe_checkpoints(seed, plan, draw)
    return plan


def _draw_lease(seed: int, draw: Draw) -> Plan:
    """A plan of lease mode: world and faults as of Raft mode, clocks within its bound, and the arbiter's faults."""
    random = stream(seed, "swarm", "plan")
    nodes = LEASE_SHAPES[draw.shape]
    drawn = _classes(random) if draw.classes is None else _named(draw.classes, CLASSES)
    extra = swarm_lease.classes_of(seed, drawn, CLASSES, draw.shape)
    if draw.classes is not None:
        extra = _named(draw.classes, LEASE_CLASSES)
    classes = [name for name in drawn if name not in swarm_lease.LEFT_OUT]
    options = _options(random, nodes, classes)
    swarm_lease.in_lease_mode(seed, options, classes, extra, draw.shape)
    plan = Plan(seed, options, classes + extra, safety_ms=draw.safety_ms)
    plan.clients = _clients(stream(seed, "swarm", "clients"), nodes, draw.workloads)
    plan.strikes = swarm_lease.strikes_of(seed, plan, _strikes(seed, plan, nodes))
    plan.core, plan.rest_gone = swarm_lease.core_of(seed, nodes), True
    _maybe_checkpoints(seed, plan, draw)
    return plan


def _maybe_checkpoints(seed: int, plan: Plan, draw: Draw) -> None:
    if CHECKPOINTS in draw.classes if draw.classes is not None else stream(seed, "swarm", CHECKPOINTS).random() < 0.5:
        plan.options.checkpoints = True
        plan.classes.append(CHECKPOINTS)


def _named(wanted: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    return [name for name in wanted if name in known]


def _add_witness(seed: int, plan: Plan) -> None:
    plan.options.witness = place_of(seed)
    with_witness_cut_off(seed, plan.strikes)
    plan.strikes += strikes_of(seed, plan.classes, plan.safety_ms)
    plan.strikes.sort(key=lambda strike: strike.at_ms)
    core, plan.core_witness, plan.rest_gone = core_of(seed, plan.options.nodes)
    if plan.core:
        plan.core = core
    else:
        plan.core_witness = True
    if (not plan.core or len(plan.core) >= _COPIES) and two_copies(seed):
        # A core of one full node would have to refuse writes for ever.
        plan.options.directives["min-data-copies"] = str(_COPIES)


def _classes(random: Random) -> list[str]:
    dice = random.randrange(10)
    if dice == 0:
        return []
    if dice == 1:
        return [random.choice(CLASSES)]
    if dice == 2:
        return list(CLASSES)
    return [name for name in CLASSES if random.random() < 0.5]


def _core(random: Random, seed: int, nodes: int, options: Options, *, rot: bool) -> list[int]:
    order = list(range(1, nodes + 1))
    random.shuffle(order)
    if rot:
        atlas = Atlas(seed, sorted(order), options.atlas)
        order.sort(key=lambda node: atlas.may_damage(node, 0))
    return sorted(order[: nodes // 2 + 1])


# ---- The world ------------------------------------------------------------------------------------------------------


def _options(random: Random, nodes: int, classes: list[str]) -> Options:
    wan = "wan" in classes
    net = NetOptions()
    if wan:
        net.delay_min_us = (500, 30_000)
        net.delay_mean_us = (30_000, 100_000)
        net.tail = (0.0, 0.02)
    if "loss" in classes:
        net.loss = (0.0, random.choice((0.01, 0.05, 0.2)))
    if "frames" in classes:
        net.frames = FrameOptions(
            drop=random.choice((0.0, 0.02, 0.2)),
            duplicate=random.choice((0.0, 0.05, 0.3)),
            delay=random.choice((0.0, 0.05, 0.3)),
            delay_ms_max=random.choice((50, 500, 5000)),
            replay=random.choice((0.0, 0.02, 0.1)),
        )
    disk = DiskOptions()
    if "disk-slow" in classes:
        disk.spike, disk.spike_ms = (0.0, 0.02), 300
    faults = None
    if any(name in classes for name in ("disk-error", "disk-full", "rot")):
        faults = FaultOptions(revert_on_fsync_eio=random.random() < 0.3)
        if "rot" in classes:
            faults.lost_write = random.choice((0.0, 0.001))
            faults.misdirected_write = random.choice((0.0, 0.001))
    lease = random.random() < 0.3
    clock = ClockOptions()
    if "skew" in classes:
        worst = int(_DRIFT_BOUND_PPM * 0.9) if lease else 100_000
        clock.rate_ppm = (RATE_ONE - worst, RATE_ONE + worst)
        clock.wall_offset_ms = (-3_600_000, 3_600_000)
    if "slow-cpu" in classes:
        clock.step_cost_ns = (0, random.choice((50_000, 400_000)))
    directives = _directives(random, wan=wan, lease=lease)
    spares = 2 if "membership" in classes else 0
    return Options(nodes=nodes, spares=spares, directives=directives, net=net, disk=disk,
                   disk_faults=faults, atlas=MINORITY, clock=clock, buggify="buggify" in classes)  # fmt: skip


def _directives(random: Random, *, wan: bool, lease: bool) -> dict[str, str]:
    timeout_ms = random.choice((2000, 4000)) if wan else random.choice((500, 1000, 1000))
    return {
        "reads": "lease" if lease else "readindex",
        "clock-drift-bound": str(_DRIFT_BOUND_PPM),
        "election-timeout-ms": str(timeout_ms),
        "heartbeat-interval-ms": str(timeout_ms // 10),
        "tick-ms": str(random.choice((25, 50)) if timeout_ms < 1000 else 50),
        "log-sync": random.choice(("auto", "auto", "thread", "inline")),
        "max-uncommitted-bytes": random.choice(("64mb", "64kb")),
    }


def _clients(random: Random, nodes: int, workloads: tuple[str, ...]) -> list[ClientPlan]:
    names = list(workloads) or random.sample(sorted(WORKLOADS), random.randint(1, 3))
    count = max(random.choice((3, 4, 5, 5)), len(names))
    think_ms = random.choice((40, 150, 150, 200, 400))
    stay = random.random() < 0.5
    return [
        ClientPlan(
            f"c{n}", names[n % len(names)], home=n % nodes + 1 if stay else 0, think_ms=think_ms,
            timeout_ms=random.choice((1000, 4000, 4000)),
        )
        for n in range(count)
    ]  # fmt: skip


# ---- Strikes --------------------------------------------------------------------------------------------------------


def _strikes(seed: int, plan: Plan, nodes: int) -> list[Strike]:
    random = stream(seed, "swarm", "strikes")
    classes = [name for name in TIMED if name in plan.classes]
    if not classes:
        return []
    pace_ms = random.choice((700, 2000, 2000, 5000))
    lease = plan.options.directives["reads"] == "lease"
    strikes: list[Strike] = []
    at_ms = random.randrange(2000)
    while at_ms < plan.safety_ms:
        strikes.append(_strike(random, at_ms, random.choice(classes), nodes, lease=lease))
        at_ms += int(random.expovariate(1 / pace_ms)) + 1
    return strikes


def _who(random: Random, *, many: bool = False) -> str:
    if many and random.random() < 0.3:
        return random.choice(("minority", "majority", "all"))
    return random.choice(("leader", "leader", "follower"))


def _strike(random: Random, at_ms: int, cls: str, nodes: int, *, lease: bool) -> Strike:
    target = _who(random, many=cls in {"kill", "power", "pause"})
    params: dict[str, Any] = {"pick": random.randrange(nodes)}
    for_ms = int(random.choice((200, 1000, 3000, 8000)) * random.uniform(0.3, 1.5))
    if cls in _DRAWN:
        kind, more = _DRAWN[cls](random)
        params |= more
        if kind in _AT_ONCE:
            for_ms = 0
    else:
        assert cls == "clock"
        if random.random() < 0.6:
            kind, for_ms = "clock-step", 0
            params["ms"] = random.choice((-3_600_000, -5000, -100, 100, 5000, 3_600_000))
        else:
            kind = "clock-rate"
            worst = int(_DRIFT_BOUND_PPM * 0.9) if lease else 100_000
            params["ppm"] = RATE_ONE + random.choice((-worst, worst))
    if kind == "swizzle":
        target = ""
    return Strike(at_ms, cls, kind, target, for_ms, params)


def _kill(random: Random) -> tuple[str, dict[str, Any]]:
    return random.choice(("kill", "kill", "kill", "stop")), {}


def _power(random: Random) -> tuple[str, dict[str, Any]]:
    if random.random() < 0.3:
        return "power-in-batch", {"calls": random.randrange(12)}
    return "power-cut", {
        "order": random.choice(ORDERS),
        "keep": random.choice((0.1, 0.5, 0.9)),
        "tear": random.choice((0.0, 0.5, 1.0)),
        "bytewise": random.random() < 0.3,
        "strict_names": random.random() < 0.6,
    }


def _pause(random: Random) -> tuple[str, dict[str, Any]]:
    return "pause", {}


def _partition(random: Random) -> tuple[str, dict[str, Any]]:
    shapes = ("isolate", "isolate", "one-way-in", "one-way-out", "clients", "bridge", "ring")
    return "cut", {"shape": random.choice(shapes)}


def _clog(random: Random) -> tuple[str, dict[str, Any]]:
    if random.random() < 0.4:
        return "swizzle", {}
    return "clog", {"shape": random.choice(("isolate", "one-way-in", "one-way-out"))}


def _reset(random: Random) -> tuple[str, dict[str, Any]]:
    if random.random() < 0.2:
        return "refuse", {}
    return "reset", {"scope": random.choice(("all", "peers", "clients"))}


def _slow(random: Random) -> tuple[str, dict[str, Any]]:
    return "slow-net", {"factor": random.choice((3, 20, 100))}


def _disk_slow(random: Random) -> tuple[str, dict[str, Any]]:
    if random.random() < 0.5:
        return "disk-hang", {"ms": random.choice((300, 1000, 5000))}
    return "disk-slow", {"factor": random.choice((5, 25))}


def _disk_error(random: Random) -> tuple[str, dict[str, Any]]:
    return "disk-error", {"call": random.choice(("fsync", "fsync", "write")), "errno": "EIO"}


def _disk_full(random: Random) -> tuple[str, dict[str, Any]]:
    return "disk-full", {"at": random.choice(("write", "fsync"))}


def _rot(random: Random) -> tuple[str, dict[str, Any]]:
    return "flip-bit", {}


def _membership(random: Random) -> tuple[str, dict[str, Any]]:
    return random.choice(("add-node", "add-node", "remove-node")), {}


def _transfer(random: Random) -> tuple[str, dict[str, Any]]:
    return "transfer", {"to": random.randrange(6)}


# Kinds that are over as soon as they have struck.
_AT_ONCE: Final = (
    "add-node", "clock-step", "disk-error", "disk-hang", "flip-bit", "remove-node", "reset", "transfer",
)  # fmt: skip
_DRAWN: Final = {
    "clog": _clog, "disk-error": _disk_error, "disk-full": _disk_full, "disk-slow": _disk_slow, "kill": _kill,
    "membership": _membership, "partition": _partition, "pause": _pause, "power": _power, "reset": _reset, "rot": _rot,
    "slow": _slow, "transfer": _transfer,
}  # fmt: skip
