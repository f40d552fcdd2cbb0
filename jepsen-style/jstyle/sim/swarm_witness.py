"""What a seed's plan has beside the rest when the group has a witness: its faults, and what is whole in the end.

Rule: draws from streams of its own only, so that plans of groups without a witness are what they were before there was
one.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from jstyle.sim.disk_crash import ORDERS
from jstyle.sim.schedule import Strike
from jstyle.sim.streams import stream

# Classes of faults that only a group with a witness knows, and what each can do.
WITNESS_CLASSES: Final = ("witness", "witness-loss", "witness-change")
WITNESS_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "witness": (
        "witness-kill", "witness-power", "witness-pause", "witness-cut", "witness-hang", "witness-disk-error",
        "witness-flap",
    ),
    "witness-loss": ("witness-destroy",),
    "witness-change": ("witness-remove", "witness-add"),
}  # fmt: skip
WITNESS_SHAPES: Final = {"2+w": 2, "4+w": 4}
# How many of the seeds whose shape nobody fixed have a witness, and how many of those two full nodes.
_SHARE: Final = 0.3
_PAIRS: Final = 0.7
_LOSSES_MAX: Final = 2


def shape_of(seed: int) -> str:
    """A witness shape for a seed whose shape is free; "" for most."""
    random = stream(seed, "swarm", "witness-share")
    if random.random() >= _SHARE:
        return ""
    return "2+w" if random.random() < _PAIRS else "4+w"


def place_of(seed: int) -> str:
    """A process or a directory."""
    return "file" if stream(seed, "swarm", "witness-place").random() < 0.3 else "tcp"


def classes_of(seed: int, classes: list[str], all_classes: tuple[str, ...]) -> list[str]:
    """The witness's classes that go with those drawn: none with none, all with all, else each with a half."""
    random = stream(seed, "swarm", "witness-classes")
    if not classes:
        return []
    if len(classes) == len(all_classes):
        return list(WITNESS_CLASSES)
    # A destroyed state makes all that follows a matter of the full nodes alone, so it is rarer.
    chances = {"witness": 0.6, "witness-loss": 0.2, "witness-change": 0.35}
    return [name for name in WITNESS_CLASSES if random.random() < chances[name]]


def strikes_of(seed: int, classes: list[str], safety_ms: int) -> list[Strike]:
    """Timed faults of the witness."""
    wanted = [name for name in WITNESS_CLASSES if name in classes]
    random = stream(seed, "swarm", "witness-strikes")
    strikes: list[Strike] = []
    if not wanted:
        return strikes
    pace_ms = random.choice((1500, 3000, 6000))
    losses = 0
    at_ms = random.randrange(3000)
    while at_ms < safety_ms:
        cls = random.choice(wanted)
        strike = _strike(random, at_ms, cls)
        losses += cls == "witness-loss"
        if cls != "witness-loss" or losses <= _LOSSES_MAX:
            strikes.append(strike)
        at_ms += int(random.expovariate(1 / pace_ms)) + 1
    return strikes


def _strike(random: Random, at_ms: int, cls: str) -> Strike:
    kind = random.choice(WITNESS_KINDS[cls])
    for_ms = int(random.choice((200, 1000, 3000, 8000)) * random.uniform(0.3, 1.5))
    params: dict[str, Any] = {}
    if kind == "witness-power":
        params = {"order": random.choice(ORDERS)}
        if random.random() < 0.5:
            params["calls"] = random.randrange(10)
    elif kind == "witness-cut":
        params = {
            "from": random.choice(("all", "leader", "others")),
            "way": random.choice(("both", "both", "in", "out")),
        }
    elif kind == "witness-hang":
        params = {"ms": random.choice((300, 1000, 5000))}
    elif kind == "witness-disk-error":
        params = {"call": random.choice(("fsync", "fsync", "fsync_dir", "write", "link"))}
    elif kind == "witness-flap":
        cut_ms, back_ms = random.randint(300, 700), random.randint(400, 800)
        late_ms = cut_ms + back_ms + random.randint(300, 600)
        params = {"pick": random.randrange(4), "cut_ms": cut_ms, "back_ms": back_ms, "late_ms": late_ms}
    elif kind == "witness-destroy":
        params = {"how": random.choice(("disk", "disk", "states", "marker", "rot"))}
    if kind not in {"witness-kill", "witness-power", "witness-pause", "witness-cut"}:
        for_ms = 0
    return Strike(at_ms, cls, kind, "witness", for_ms, params)


def with_witness_cut_off(seed: int, strikes: list[Strike]) -> None:
    """Half of the partitions of nodes also part them from the witness."""
    for place, strike in enumerate(strikes):
        if strike.kind in {"cut", "clog"}:
            strike.params["witness"] = stream(seed, "swarm", "witness-side", place).random() < 0.5


def core_of(seed: int, nodes: int) -> tuple[list[int], bool, bool]:
    """Who is whole in the end: full nodes, whether the witness is, and whether all others are gone for good (else they
    stay as broken as they are).
    """
    random = stream(seed, "swarm", "witness-core")
    order = list(range(1, nodes + 1))
    random.shuffle(order)
    quorum = (nodes + 1) // 2 + 1
    count = random.choice((quorum - 1, quorum - 1, quorum - 1, quorum, nodes))
    whole = count < quorum or random.random() < 0.5
    return sorted(order[:count]), whole, random.random() < 0.6


def two_copies(seed: int) -> bool:
    """Whether writes with one copy are refused."""
    return stream(seed, "swarm", "witness-copies").random() < 0.4
