"""A run as data: the seed, the shape of the world, the clients and every timed fault; written to and read from JSON.

Rule: a run is a function of its plan alone. Removing a fault or a client from a plan changes nothing else in it, which
is what makes shrinking work. It must not know how a plan is drawn or carried out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Final

from jstyle.sim.atlas import MINORITY
from jstyle.sim.client import ClientPlan
from jstyle.sim.clock import ClockOptions
from jstyle.sim.cluster import Options
from jstyle.sim.disk import DiskOptions
from jstyle.sim.disk_faults import FaultOptions
from jstyle.sim.interposer import FrameOptions
from jstyle.sim.net import NetOptions

FORMAT: Final = 1


class PlanError(ValueError):
    """A seed.json that this version cannot read; the text says what to do."""


@dataclass
class Strike:
    """One timed fault: what is done at ``at_ms``, to whom, and (``for_ms`` > 0) undone after.

    ``kind`` names a method of the nemesis, ``target`` a node id, ``leader``, ``follower`` or nobody; ``params`` are the
    kind's own. ``cls`` is the class of faults it belongs to.
    """

    at_ms: int
    cls: str
    kind: str
    target: str = ""
    for_ms: int = 0
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class Plan:
    """Times are milliseconds of true time after the clients begin. ``core``: the nodes that must serve in the end,
    with the witness if ``core_witness``; all others are then gone for good if ``rest_gone``, else as they are.
    """

    seed: int
    options: Options = field(default_factory=Options)
    classes: list[str] = field(default_factory=list)
    clients: list[ClientPlan] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    safety_ms: int = 30_000
    liveness_ms: int = 30_000
    core: list[int] = field(default_factory=list)
    core_witness: bool = True
    rest_gone: bool = False


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON-like data."""
    return {"format": FORMAT, **asdict(plan)}


_NESTED: Final[dict[str, type]] = {
    "net": NetOptions,
    "disk": DiskOptions,
    "disk_faults": FaultOptions,
    "clock": ClockOptions,
    "frames": FrameOptions,
    "options": Options,
}


def _build(cls: type, data: dict[str, Any]) -> Any:
    assert is_dataclass(cls)
    known = {f.name for f in fields(cls)}
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            raise PlanError(f"{cls.__name__} has no {name!r}; replay the seed with the version that wrote it")
        nested = _NESTED.get(name)
        if nested is not None and isinstance(value, dict):
            value = _build(nested, value)
        elif isinstance(value, list) and name not in {"core", "classes"}:
            # Ranges and skipped operations are tuples.
            value = tuple(value)
        values[name] = value
    return cls(**values)


def plan_of(data: dict[str, Any]) -> Plan:
    """The inverse of ``plan_json``. Raises PlanError."""
    if data.get("format") != FORMAT:
        raise PlanError(f"plan format {data.get('format')!r} is not {FORMAT}; replay it with the version that wrote it")
    try:
        clients = [_build(ClientPlan, item) for item in data["clients"]]
        strikes = [Strike(**item) for item in data["strikes"]]
        options: Options = _build(Options, data["options"])
        return Plan(
            int(data["seed"]), options, list(data["classes"]), clients, strikes, int(data["safety_ms"]),
            int(data["liveness_ms"]), list(data["core"]), bool(data.get("core_witness", True)),
            bool(data.get("rest_gone", False)),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise PlanError(
            f"the plan is not one of this version: {error}; replay it with the version that wrote it"
        ) from None


__all__ = ["FORMAT", "MINORITY", "Plan", "PlanError", "Strike", "plan_json", "plan_of"]
