"""The history checkers as a run uses them: each workload's histories to the checkers of the table, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jstyle.checkers import registry
from jstyle.checkers.verdict import UNKNOWN, Verdict
from jstyle.history.op import Op
from jstyle.sim.clock import RATE_ONE
from jstyle.sim.schedule import Plan
from jstyle.sim.workloads.sums import ACCOUNTS, BALANCE

# Workloads of the simulator that are another's kind to the checkers.
_KIND: Final = {"blocking": "queue"}
BUDGET_S: Final = 20.0
# More than what follows the faults of a run.
_LATER_MS: Final = 300_000


# A leader stamps a request later than the client sent it, and log time may wait for the next entry.
_STAMP_MS: Final = 1000


def clocks_apart_ms(plan: Plan) -> int:
    """How far two wall clocks of a run can ever be apart, from its plan alone."""
    clock = plan.options.clock
    apart_ms = clock.wall_offset_ms[1] - clock.wall_offset_ms[0] + _STAMP_MS
    # A trap may set a clock as well.
    steps = [one for one in plan.strikes if "clock-step" in {one.kind, one.params.get("what")}]
    apart_ms += sum(abs(int(strike.params["ms"])) for strike in steps)
    worst_ppm = max(abs(rate - RATE_ONE) for rate in clock.rate_ppm)
    rates = [abs(int(strike.params["ppm"]) - RATE_ONE) for strike in plan.strikes if strike.kind == "clock-rate"]
    run_ms = plan.safety_ms + _LATER_MS
    return apart_ms + 2 * run_ms * max([worst_ppm, *rates]) // RATE_ONE


def judge_with(plan: Plan, budget_s: float = BUDGET_S) -> Callable[[str, list[Op]], list[Verdict]]:
    """A judge for ``runner.run``."""

    def judge(name: str, history: list[Op]) -> list[Verdict]:
        kind = _KIND.get(name, name)
        options: dict[str, object] = {"workload": kind, "budget_s": budget_s, "jobs": 1}
        if kind == "bank":
            options |= {"total": ACCOUNTS * BALANCE, "accounts": [str(n) for n in range(ACCOUNTS)]}
        if kind == "queue":
            options["fifo"] = True
        if kind in {"expiry", "lock"}:
            options["bound_ms"] = clocks_apart_ms(plan)
        out = []
        for reference in registry.find(kind).checkers:
            try:
                check = registry.checker(reference)
            except ImportError as error:
                out.append(Verdict(reference, UNKNOWN, why=f"the checker is not there: {error}"))
                continue
            out.append(check(history, options))
        return out

    return judge
