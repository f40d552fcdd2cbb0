"""When which fault was active, from whatever recorded it.

Sources: operations of a process that is no client (``start-partition`` .. ``stop-partition``, ``kill`` .. ``start``,
``pause`` .. ``resume``, anything .. ``heal``), lines of a ``nemesis.jsonl`` (such operations, ``{kind, time, until}``
in nanoseconds, or strikes ``{at_ms, for_ms, cls, kind, target}``), strikes of a simulated plan. Rule: a fault nobody
ended lasts to the end of the recording; a line that says nothing of these is counted, never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jstyle.history.op import Op, is_client
from jstyle.report.markup import shortened, words
from jstyle.report.model import OPEN_END, Window

MS_NS: Final = 1_000_000
_BEGIN: Final = ("start-", "begin-", "open-")
_END: Final = ("stop-", "end-", "heal-", "close-")
# What ends a fault that is named by the deed itself.
_ENDS: Final = {
    "start": ("kill", "stop", "fault"),
    "restart": ("kill", "stop"),
    "resume": ("pause",),
    "unpause": ("pause",),
}
_BARE: Final = {"start": "fault"}
_ABOUT: Final = 160


class _Open:
    """Faults that have begun and not ended, by kind."""

    def __init__(self) -> None:
        self.found: list[Window] = []
        self._active: dict[str, Window] = {}

    def begin(self, kind: str, time_ns: int, about: str) -> None:
        active = self._active.get(kind)
        if active is None:
            active = self._active[kind] = Window(kind, time_ns, OPEN_END, about)
            self.found.append(active)
        elif about:
            # The second of two records says what was done.
            active.about = about

    def end(self, kind: str, time_ns: int) -> bool:
        active = self._active.pop(kind, None)
        if active is not None:
            active.end_ns = time_ns
        return active is not None

    def end_all(self, time_ns: int) -> None:
        for kind in list(self._active):
            self.end(kind, time_ns)


def of_ops(history: Iterable[Op]) -> list[Window]:
    """The windows that operations of the nemesis mark, in order of their beginning."""
    state = _Open()
    for op in history:
        if not is_client(op):
            _take(state, op.f, max(op.time, 0), _about(op.value))
    return state.found


def _about(value: object) -> str:
    if value is None:
        return ""
    return shortened(value, _ABOUT) if isinstance(value, str) else words(value, _ABOUT)


def _take(state: _Open, name: str, time_ns: int, about: str) -> None:
    for prefix in _END:
        if name.startswith(prefix):
            state.end(name.removeprefix(prefix), time_ns)
            return
    for prefix in _BEGIN:
        if name.startswith(prefix):
            state.begin(name.removeprefix(prefix), time_ns, about)
            return
    ended = [state.end(kind, time_ns) for kind in _ENDS.get(name, ())]
    if any(ended):
        return
    if name == "heal":
        state.end_all(time_ns)
    elif name == "stop" and state.end("fault", time_ns):
        return
    elif name not in _ENDS or name in _BARE:
        state.begin(_BARE.get(name, name), time_ns, about)


def of_strikes(strikes: Iterable[Mapping[str, Any]], origin_ns: int) -> list[Window]:
    """The windows of a plan's strikes, whose times count from ``origin_ns``."""
    found = []
    for strike in strikes:
        begin_ns = origin_ns + int(strike["at_ms"]) * MS_NS
        kind = str(strike["kind"])
        group = str(strike.get("cls") or kind)
        target = str(strike.get("target") or "")
        about = " ".join(word for word in (kind if kind != group else "", target) if word)
        found.append(Window(group, begin_ns, begin_ns + int(strike.get("for_ms") or 0) * MS_NS, about))
    return sorted(found, key=lambda window: window.begin_ns)


def of_records(records: Iterable[object]) -> tuple[list[Window], int]:
    """The windows of a ``nemesis.jsonl``, and how many of its records say nothing of a fault's time."""
    found: list[Window] = []
    state = _Open()
    unclear = 0
    for record in records:
        if not isinstance(record, Mapping):
            unclear += 1
        elif isinstance(record.get("at_ms"), int) and "kind" in record:
            found += of_strikes([record], 0)
        elif isinstance(record.get("time"), int) and ("kind" in record or "cls" in record):
            begin_ns, until = record["time"], record.get("until", record["time"])
            end_ns = until if isinstance(until, int) else OPEN_END
            about = " ".join(str(record[name]) for name in ("target", "about") if record.get(name))
            kind = str(record.get("cls") or record.get("kind"))
            found.append(Window(kind, begin_ns, end_ns, shortened(about, _ABOUT)))
        elif isinstance(record.get("time"), int) and isinstance(record.get("f"), str):
            about = _about(record.get("value"))
            _take(state, record["f"].removeprefix(":"), record["time"], about)
        else:
            unclear += 1
    return sorted(found + state.found, key=lambda window: window.begin_ns), unclear
