"""What a checker says: a verdict, the anomalies behind it, and what it looked at.

Rule: ``false > unknown > true`` when verdicts are combined, and a checker that saw nothing to check says ``unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

TRUE: Final = "true"
UNKNOWN: Final = "unknown"
FALSE: Final = "false"
_RANK: Final = {TRUE: 0, UNKNOWN: 1, FALSE: 2}


# What ``jstyle check`` hands every checker: ``check(history: list[Op], options: Options) -> Verdict``. JSON-like; a
# checker takes the names it knows and ignores the rest. Names in use: ``budget_s`` (seconds for the whole check),
# ``budget_steps``, ``models`` (list of words), ``jobs`` (processes), ``workload``,
# ``independent`` (whether values are [key value] pairs; absent: find out).
Options = Mapping[str, object]


class OptionError(ValueError):
    """An option has a value its checker cannot use; the text says which and what would do."""


def number_option(options: Options, name: str, default: float) -> float:
    """Option ``name`` as a number, ``default`` when it is absent or None."""
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"option {name} must be a number, not {value!r}")
    return value


def words_option(options: Options, name: str) -> list[str]:
    """Option ``name`` as a list of words; absent or None is the empty list, one string is a list of one."""
    value = options.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return list(value)
    raise OptionError(f"option {name} must be a list of words, not {value!r}")


def flag_option(options: Options, name: str) -> bool | None:
    """Option ``name`` as True or False; None when it is absent."""
    value = options.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise OptionError(f"option {name} must be true or false, not {value!r}")


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


def as_json(verdict: Verdict) -> dict[str, object]:
    """The verdict as one JSON-like map, the form of ``results.json``."""
    return {
        "checker": verdict.checker,
        "valid": verdict.valid,
        "why": verdict.why,
        "counts": dict(verdict.counts),
        "anomalies": [
            {"name": found.name, "text": found.text, "ops": found.ops, "key": found.key, "data": found.data}
            for found in verdict.anomalies
        ],
    }
