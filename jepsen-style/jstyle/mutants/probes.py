"""Ways to look for a planted bug: each runs one layer of the harness and says which checks failed.

Rule: a probe knows nothing of any bug; it runs the same with and without one, so that the twin (the program as it is)
can be put to the very same test. Seeds count from 0; a direct probe has only seed 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jstyle.crash.campaign import Failure, Tally, enumerate_states
from jstyle.crash.damage import try_damages
from jstyle.crash.faults import try_faults
from jstyle.crash.scripts import script_named


class Sighting:
    """A failed check: its name, a sentence, and the command that shows it again (empty when there is none)."""

    __slots__ = ("check", "repeat", "text")

    def __init__(self, check: str, text: str, repeat: str = "") -> None:
        self.check = check
        self.text = text
        self.repeat = repeat


class Probe(Protocol):
    """``name`` identifies a probe with all its settings."""

    name: str

    def run(self, seed: int) -> list[Sighting]:
        """Everything that one seed shows to be wrong."""


class CrashProbe:
    """Crash states, failing disks or damages of some scripted runs; direct."""

    def __init__(self, traces: Sequence[str], parts: Sequence[str] = ("states",), subsets: int = 2) -> None:
        """``parts``: states, faults, damages."""
        self.traces = traces
        self.parts = parts
        self.subsets = subsets
        self.name = f"crash {'+'.join(traces)} {'+'.join(parts)} {subsets}"

    def run(self, seed: int) -> list[Sighting]:
        found: list[Failure] = []
        for trace in self.traces:
            script = script_named(trace)
            tally = Tally(trace)
            if "states" in self.parts:
                tally = enumerate_states(script, subsets=self.subsets)
            if "faults" in self.parts:
                try_faults(script, tally)
            if "damages" in self.parts:
                try_damages(script, tally)
            found += tally.failures
            if found:
                # One trace is proof enough, and what is broken takes longest to judge.
                break
        return [Sighting(failure.check, failure.text, failure.repeat()) for failure in found]
