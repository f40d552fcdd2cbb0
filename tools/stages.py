"""The stages of a long verb: each is announced, timed and said to have passed or not; the last one closes the output.

Rule: a stage that fails does not keep the others from running, so that one run shows all that is wrong. What a stage
does is its caller's business. Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


class Stage:
    """``action`` returns an exit code. ``name`` is a few words."""

    __slots__ = ("action", "name")

    def __init__(self, name: str, action: Callable[[], int]) -> None:
        self.name = name
        self.action = action


def run_stages(stages: Sequence[Stage], clock: Callable[[], float] = time.monotonic) -> int:
    """Run all; 0 when all passed, else 1. The times so far are printed before the last stage begins, so that its own
    closing line is the last line of a good run.
    """
    times: list[str] = []
    failed: list[str] = []
    for number, stage in enumerate(stages, 1):
        last = number == len(stages)
        if last and times:
            print(f"== so far: {', '.join(times)}", flush=True)
        print(f"== stage {number} of {len(stages)}: {stage.name}", flush=True)
        began_s = clock()
        code = stage.action()
        took_s = clock() - began_s
        times.append(f"{stage.name} {took_s:.0f} s")
        if code != 0:
            failed.append(stage.name)
            print(f"== {stage.name}: FAILED with exit code {code} after {took_s:.0f} s", flush=True)
        elif not last:
            print(f"== {stage.name}: passed in {took_s:.0f} s", flush=True)
    if failed:
        print(f"== {len(failed)} of {len(stages)} stages failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0
