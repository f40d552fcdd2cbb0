"""What a campaign tried: faults by class and kind, rare choices of the nodes, and above all what it never did.

Rule: adds up and prints; what there is to be tried is said by ``swarm`` and ``buggify``. A class that a plan allowed
and a strike that happened are different things, and only the second one tests anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table

from jstyle.sim.buggify import SITES
from jstyle.sim.runner import Result
from jstyle.sim.swarm import ALL_CLASSES, KINDS, STANDING
from jstyle.sim.swarm_groups import GROUP_KINDS
from jstyle.sim.swarm_lease import LEASE_KINDS
from jstyle.sim.swarm_witness import WITNESS_KINDS

_KINDS: Final = {**KINDS, **WITNESS_KINDS, **GROUP_KINDS, **LEASE_KINDS}


@dataclass
class Coverage:
    """Counts over runs; names are those of ``swarm`` and ``buggify``."""

    # class -> runs that allowed it, runs in which it struck; a standing class is there for the whole run.
    allowed: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    # "class/kind" -> strikes.
    injected: Counter[str] = field(default_factory=Counter)
    # site -> runs that passed it with the site on or off, runs in which it fired, times it fired.
    asked: Counter[str] = field(default_factory=Counter)
    fired_in: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Take in one run."""
        self.allowed.update(result.classes)
        self.struck.update({name.split("/")[0] for name in result.injected} - {"medium"})
        self.struck.update(name for name in result.classes if name in STANDING)
        self.injected.update(result.injected)
        self.asked.update(list(result.sites))
        self.fired_in.update(name for name, count in result.sites.items() if count)
        self.fired.update(result.sites)

    def never(self) -> tuple[list[str], list[str]]:
        """Faults that never struck, as class/kind or class, and sites that never fired."""
        kinds = [f"{cls}/{kind}" for cls in _KINDS for kind in _KINDS[cls] if not self.injected[f"{cls}/{kind}"]]
        kinds += [cls for cls in STANDING if not self.allowed[cls]]
        return kinds, [site for site in SITES if not self.fired[site]]

    def show(self, console: Console) -> None:
        """Print the faults by class, the sites, and what is missing."""
        table = Table(title="faults", title_justify="left")
        for heading in ("class", "runs with it", "runs it struck in", "strikes"):
            table.add_column(heading, justify="right" if heading.startswith("runs") else "left", overflow="fold")
        for cls in ALL_CLASSES:
            kinds = ", ".join(f"{kind} {self.injected[f'{cls}/{kind}']}" for kind in _KINDS.get(cls, ()))
            table.add_row(cls, str(self.allowed[cls]), str(self.struck[cls]), kinds or "all the time")
        console.print(table)
        medium = [name for name in sorted(self.injected) if name.startswith("medium/")]
        if medium:
            shown = ", ".join(f"{name.removeprefix('medium/')} {self.injected[name]}" for name in medium)
            console.print(f"what disks did: {shown}", soft_wrap=True)
        sites = ", ".join(f"{site} {self.fired[site]} in {self.fired_in[site]}" for site in SITES if self.fired[site])
        console.print(f"rare choices made (times, runs): {sites or 'none'}", soft_wrap=True)
        strangers = sorted(set(self.asked) - set(SITES))
        if strangers:
            console.print(f"sites that SITES does not name: {', '.join(strangers)}", soft_wrap=True)
        faults, silent = self.never()
        console.print(f"never struck: {', '.join(faults) or 'nothing, each fault did'}", soft_wrap=True)
        console.print(f"never chosen: {', '.join(silent) or 'nothing, each site fired'}", soft_wrap=True)
