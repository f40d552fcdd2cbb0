"""A broken promise of the system under test: the invariant's id (R1, D2, P10, ...) and what was seen.

Rule: raised only for what the system did; a mistake of the harness is any other exception.
"""

from __future__ import annotations


class Violation(AssertionError):
    """``invariant`` is the id by which reports, mutants and shrinking know the promise."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text
