"""What a seed's plan has when several groups share the slots: how many of what size, orders to move slots, traps.

Rule: draws from streams of its own only, so that plans of a single group are what they were before there were several.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from jstyle.sim.schedule import Strike
from jstyle.sim.streams import stream

# Classes that only several groups know, and what each can do. A trap is at its place until something runs into it.
GROUP_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "moves": ("migrate", "cancel"), "apart": ("groups-cut", "node-cut"), "points": ("trap",), "force": ("force-abort",),
    "flush": ("fill", "flush"),
}  # fmt: skip
GROUP_CLASSES: Final = tuple(GROUP_KINDS)
# Groups and nodes in each; (0, 0): drawn from the seed.
GROUP_SHAPES: Final[dict[str, tuple[int, int]]] = {
    "groups": (0, 0), "2x1": (2, 1), "3x1": (3, 1), "2x3": (2, 3), "3x3": (3, 3),
}  # fmt: skip
_DRAWN: Final = ("2x3", "2x3", "2x3", "3x3", "2x1", "3x1")
# Classes of a single group's faults that make no sense here yet: media that lie, and distances for which the patience
# of handoffs is not made.
_LEFT_OUT: Final = ("rot", "wan")
_VERBS: Final = (
    "export-begin", "fence", "unfence", "release", "export-cancel", "import-begin", "import-batch", "activate", "abort",
    "import-forget",
)  # fmt: skip
# Where things go wrong if they do.
_CRITICAL: Final = ("fence", "activate", "release", "import-batch")


def size_of(seed: int, shape: str) -> tuple[int, int]:
    """(groups, nodes in each)."""
    found = GROUP_SHAPES[shape]
    return found if found[0] else GROUP_SHAPES[stream(seed, "swarm", "groups-shape").choice(_DRAWN)]


def classes_of(seed: int, classes: list[str], all_classes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """What is left of the classes drawn, and those of several groups that go with them; slots always move."""
    random = stream(seed, "swarm", "groups-classes")
    kept = [name for name in classes if name not in _LEFT_OUT]
    if not classes:
        return kept, ["moves"]
    if len(classes) == len(all_classes):
        return kept, list(GROUP_CLASSES)
    # What is forced is not judged, so it is rare.
    chances = {"moves": 1.0, "apart": 0.4, "points": 0.5, "force": 0.1, "flush": 0.3}
    return kept, [name for name in GROUP_CLASSES if random.random() < chances[name]]


def in_small_batches(seed: int) -> bool:
    """Whether a handoff takes many batches, as it does where there is much more data."""
    return stream(seed, "swarm", "groups-batches").random() < 0.4


def core_of(seed: int, groups: int, nodes: int) -> list[int]:
    """The nodes that are there in the end: all, or just a quorum of each group; where no group changes its members."""
    random = stream(seed, "swarm", "groups-core")
    whole = random.random() < 0.5
    core: list[int] = []
    for group in range(groups):
        order = [group * nodes + n + 1 for n in range(nodes)]
        random.shuffle(order)
        core += order if whole else order[: nodes // 2 + 1]
    return sorted(core)


def in_groups(seed: int, strikes: list[Strike]) -> None:
    """Each strike that was drawn for one group hits one of them."""
    random = stream(seed, "swarm", "groups-strikes")
    for strike in strikes:
        strike.params["group"] = random.randrange(12)


def strikes_of(seed: int, classes: list[str], safety_ms: int) -> list[Strike]:
    """Orders, parted groups and traps."""
    strikes: list[Strike] = []
    for name in GROUP_CLASSES:
        if name not in classes:
            continue
        random = stream(seed, "swarm", f"groups-{name}")
        pace_ms = random.choice(_PACES_MS[name])
        at_ms = random.randrange(pace_ms)
        while at_ms < safety_ms:
            strikes.append(_MADE[name](random, at_ms))
            at_ms += int(random.expovariate(1 / pace_ms)) + 1
    _vary_traps(stream(seed, "swarm", "groups-traps"), strikes)
    return strikes


def _vary_traps(random: Random, strikes: list[Strike]) -> None:
    """Some traps do what none of the others do: stop in good order, hold a disk up, set a clock."""
    for strike in strikes:
        if strike.kind == "trap" and random.random() < 0.25:
            strike.params["what"] = random.choice(("stop", "disk-hang", "clock-step"))
            hang_ms = random.choice((300, 1000, 5000))
            step_ms = random.choice((-3_600_000, -5000, 5000, 3_600_000))
            strike.params["ms"] = hang_ms if strike.params["what"] == "disk-hang" else step_ms


def _moves(random: Random, at_ms: int) -> Strike:
    if random.random() < 0.12:
        return Strike(at_ms, "moves", "cancel", params={"group": random.randrange(12)})
    params: dict[str, Any] = {
        "slot": random.randrange(64), "to": random.randrange(6), "pick": random.randrange(6),
        "width": random.choice((1, 1, 1, 2, 40, 3000)), "more": random.random() < 0.3,
    }  # fmt: skip
    return Strike(at_ms, "moves", "migrate", params=params)


def _apart(random: Random, at_ms: int) -> Strike:
    for_ms = int(random.choice((300, 1000, 4000, 9000)) * random.uniform(0.3, 1.5))
    if random.random() < 0.5:
        params: dict[str, Any] = {"pick": random.randrange(6), "way": random.choice(("both", "both", "out"))}
        return Strike(at_ms, "apart", "groups-cut", "", for_ms, params)
    params = {"group": random.randrange(12), "pick": random.randrange(6), "way": random.choice(("both", "in", "out"))}
    return Strike(at_ms, "apart", "node-cut", random.choice(("leader", "leader", "follower")), for_ms, params)


def _points(random: Random, at_ms: int) -> Strike:
    what = random.choice(("kill", "kill", "power-cut", "pause", "transfer", "cut"))
    params: dict[str, Any] = {
        "verb": random.choice((*_VERBS, *_CRITICAL, *_CRITICAL)),
        "moment": random.choice(("appended", "committed")), "whom": random.choice(("own", "own", "peer")),
        "skip": random.choice((0, 0, 1, 3)), "what": what,
    }  # fmt: skip
    if what == "power-cut":
        params |= {"order": "ordered-prefix", "keep": random.choice((0.1, 0.5, 0.9)), "tear": 0.5, "bytewise": False,
                   "strict_names": random.random() < 0.6}  # fmt: skip
    elif what == "cut":
        params["shape"] = random.choice(("isolate", "one-way-in", "one-way-out"))
    elif what == "transfer":
        params["to"] = random.randrange(10)
    return Strike(at_ms, "points", "trap", "", int(random.choice((200, 1000, 4000)) * random.uniform(0.3, 1.5)), params)


def _force(random: Random, at_ms: int) -> Strike:
    return Strike(at_ms, "force", "force-abort", "", random.choice((3000, 8000)))


def _flush(random: Random, at_ms: int) -> Strike:
    kind = "flush" if random.random() < 0.3 else "fill"
    return Strike(at_ms, "flush", kind, params={"group": random.randrange(12), "number": random.randrange(40)})


_PACES_MS: Final = {
    "moves": (40, 80, 150, 400), "apart": (2000, 5000), "points": (400, 1000, 2500), "force": (9000,),
    "flush": (60, 200, 600),
}  # fmt: skip
_MADE: Final = {"moves": _moves, "apart": _apart, "points": _points, "force": _force, "flush": _flush}
