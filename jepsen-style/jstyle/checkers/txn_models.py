"""Consistency models, which is stronger than which, and which anomaly rules out which.

Names and strengths follow Adya's and Cerone's definitions as Elle arranges them. Rule: the only place that says what an
anomaly means for a promise; it must not know how anomalies are found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jstyle.checkers.verdict import OptionError, Options, words_option

STRICT: Final = "strict-serializable"

# Each model with the models it includes: a history that breaks one of those breaks it too.
_INCLUDES: Final[dict[str, tuple[str, ...]]] = {
    "read-uncommitted": (),
    "read-committed": ("read-uncommitted",),
    "read-atomic": ("read-committed",),
    "consistent-view": ("read-committed",),
    "repeatable-read": ("read-committed",),
    "snapshot-isolation": ("read-atomic", "consistent-view"),
    "serializable": ("snapshot-isolation", "repeatable-read"),
    "strong-session-snapshot-isolation": ("snapshot-isolation",),
    "strong-session-serializable": ("serializable", "strong-session-snapshot-isolation"),
    "strong-snapshot-isolation": ("strong-session-snapshot-isolation",),
    STRICT: ("strong-session-serializable", "strong-snapshot-isolation"),
}
MODELS: Final = tuple(_INCLUDES)

_SESSION_SI: Final = ("strong-session-snapshot-isolation",)
_STRONG_SI: Final = ("strong-snapshot-isolation",)

# The weakest models each anomaly rules out, most severe anomaly first: the order of reports.
_BREAKS: Final[dict[str, tuple[str, ...]]] = {
    "garbage-read": ("read-uncommitted",),
    "duplicate-elements": ("read-uncommitted",),
    "cyclic-versions": ("read-uncommitted",),
    "incompatible-order": ("read-committed",),
    "G1a": ("read-committed",),
    "dirty-update": ("read-committed",),
    "G1b": ("read-committed",),
    "internal": ("read-atomic",),
    "future-read": ("read-atomic",),
    "lost-update": ("consistent-view", "repeatable-read"),
    "G0": ("read-uncommitted",),
    "G1c": ("read-committed",),
    "G-single": ("consistent-view", "repeatable-read"),
    "G-nonadjacent": ("snapshot-isolation", "repeatable-read"),
    "G2-item": ("repeatable-read",),
    "G0-process": _SESSION_SI,
    "G1c-process": _SESSION_SI,
    "G-single-process": _SESSION_SI,
    "G-nonadjacent-process": _SESSION_SI,
    "G2-item-process": ("strong-session-serializable",),
    "G0-realtime": _STRONG_SI,
    "G1c-realtime": _STRONG_SI,
    "G-single-realtime": _STRONG_SI,
    "G-nonadjacent-realtime": _STRONG_SI,
    "G2-item-realtime": (STRICT,),
}
ANOMALIES: Final = tuple(_BREAKS)


def requested(options: Options) -> list[str]:
    """The models of option ``models``; strict-serializable when there are none. Raises OptionError."""
    names = words_option(options, "models") or [STRICT]
    for name in names:
        if name not in _INCLUDES:
            raise OptionError(f"option models names {name!r}; there are {', '.join(MODELS)}")
    return names


def weakest_broken(anomaly: str) -> list[str]:
    """The weakest models the anomaly rules out. KeyError for a name that is none."""
    return list(_BREAKS[anomaly])


def breaks(anomaly: str, models: Iterable[str]) -> bool:
    """Whether the anomaly rules out any of the models."""
    broken = _BREAKS[anomaly]
    return any(name in broken for model in models for name in _included(model))


def _included(model: str) -> set[str]:
    found = {model}
    for weaker in _INCLUDES[model]:
        found |= _included(weaker)
    return found
