"""What a checker says: a verdict, the anomalies behind it, and what it looked at.

Rule: ``false > unknown > true`` when verdicts are combined, and a checker that saw nothing to check says ``unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

TRUE: Final = "true"
UNKNOWN: Final = "unknown"
FALSE: Final = "false"
_RANK: Final = {TRUE: 0, UNKNOWN: 1, FALSE: 2}


class Anomaly:
    """A named violation. ``text`` explains it in one sentence; ``ops`` are indexes of the operations involved.

    ``data`` is JSON-like detail for the report (a cycle's edges, the longest linearizable prefix, ...).
    """

    __slots__ = ("data", "key", "name", "ops", "text")

    def __init__(self, name: str, text: str, ops: list[int], key: object = None, data: object = None) -> None:
        self.name = name
        self.text = text
        self.ops = ops
        self.key = key
        self.data = data


class Verdict:
    """``valid`` is TRUE, UNKNOWN or FALSE; ``counts`` says what was checked; ``why`` is said for UNKNOWN."""

    __slots__ = ("anomalies", "checker", "counts", "valid", "why")

    def __init__(
        self, checker: str, valid: str, anomalies: list[Anomaly] | None = None,
        counts: dict[str, int] | None = None, why: str = "",
    ) -> None:  # fmt: skip
        self.checker = checker
        self.valid = valid
        self.anomalies = anomalies if anomalies is not None else []
        self.counts = counts if counts is not None else {}
        self.why = why


def worst(verdicts: Iterable[str]) -> str:
    """The combined verdict; UNKNOWN when there is none to combine."""
    found = sorted(verdicts, key=_RANK.__getitem__)
    return found[-1] if found else UNKNOWN
