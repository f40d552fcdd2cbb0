"""One mutant, or its twin, in a process of its own: ``python -m jstyle.mutants.worker MUTANT [--twin SEEDS]``.

Rule: prints one line of JSON. A process per mutant, because a planted bug must not outlive its run; interpreted,
because compiled functions cannot be replaced. It must not judge; ``runner.py`` does.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from time import process_time

from jstyle.mutants.probes import Sighting
from jstyle.mutants.registry import mutant
from jstyle.mutants.runner import HARNESS


def main(argv: list[str]) -> None:
    """Run seed after seed until a named check fails or the budget is spent; a twin stops at any.

    A planted bug may break other promises first; that is no reason to stop looking for the one it must be caught by.
    """
    subject = mutant(argv[0])
    twin = "--twin" in argv
    budget = int(argv[2]) if twin else subject.seeds
    begin_s = process_time()
    found: list[Sighting] = []
    used = 0
    with nullcontext() if twin else subject.patch():
        for seed in range(budget):
            used += 1
            seen = subject.probe.run(seed)
            found = seen or found
            if seen and (twin or any(sighting.check in (*subject.checks, HARNESS) for sighting in seen)):
                break
    shown = [sighting for sighting in found if sighting.check in subject.checks] or found
    line = {
        "id": subject.id,
        "seeds": used,
        "cpu_s": round(process_time() - begin_s, 2),
        "checks": sorted({sighting.check for sighting in found}),
        "text": shown[0].text if shown else "",
        "repeat": shown[0].repeat if shown else "",
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
