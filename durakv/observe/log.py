"""Events as log lines: ``logfmt`` (default), ``json`` or Valkey's ``legacy`` shape.

Rule: the only place that turns an event into text. Writing is a callable it is given; time is a Clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from durakv.observe.events import LEVELS, Event

if TYPE_CHECKING:
    from durakv.config.settings import Settings
    from durakv.world.ports import Clock

_LEGACY_MARKS: Final = {"debug": ".", "verbose": "-", "notice": "*", "warning": "#"}


class LineLog:
    """An Observer that writes one line per event at or above ``loglevel``; ``write`` gets it with its newline."""

    def __init__(self, settings: Settings, clock: Clock, node_id: int, write: Callable[[str], None]) -> None:
        self.settings = settings
        self.clock = clock
        self.node_id = node_id
        self.write = write

    def event(self, event: Event) -> None:
        """See Observer."""
        if LEVELS.index(event.level) < LEVELS.index(self.settings.loglevel):
            return
        self.write(line(event, self.clock.wall_ms(), self.node_id, self.settings.log_format) + "\n")


def line(event: Event, now_ms: int, node_id: int, log_format: str) -> str:
    """One event as text, without a newline."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03d}Z"
    if log_format == "json":
        record: dict[str, object] = {"time": stamp, "level": event.level, "node": node_id, "event": event.kind()}
        record.update(event.facts())
        return json.dumps(record, default=str)
    facts = " ".join(f"{name}={_shown(value)}" for name, value in event.facts())
    if log_format == "legacy":
        mark = _LEGACY_MARKS[event.level]
        return f"{node_id}:M {moment.strftime('%d %b %Y %H:%M:%S')}.{now_ms % 1000:03d} {mark} {event.kind()} {facts}"
    return f"time={stamp} level={event.level} node={node_id} event={event.kind()} {facts}".rstrip()


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        value = ",".join(str(item) for item in value)
    text = str(value)
    if not text or any(c.isspace() or c in '"=' or not c.isprintable() for c in text):
        return json.dumps(text)
    return text
