"""Which entry a point-in-time restore ends with: by index, by time, or just before a command.

Rule: only finds the place and says what lies around it; it restores nothing. A place may be inside an entry, because
one entry holds whatever arrived together: then the items before the command are kept.
"""

from __future__ import annotations

import datetime as dt
import shlex
from typing import Final

from durakv.cli.recovery_entries import StoredEntry, stored_entries
from durakv.cli.recovery_outcome import NeedsDecision, when
from durakv.cli.recovery_payload import PayloadError, decode_payload
from durakv.cli.recovery_reach import base_for, bases, nothing_older
from durakv.cli.recovery_survey import Progress, Survey
from durakv.commands.glob import glob_match
from durakv.storage.entries import KIND_NORMAL

_SHOWN_MATCHES: Final = 10
FIRST: Final = "first"
LAST: Final = "last"


class Target:
    """All entries up to ``index``, and of the one after it the first ``items`` items. ``why`` says how it was found."""

    def __init__(self, index: int, items: int, why: str) -> None:
        self.index = index
        self.items = items
        self.why = why

    @property
    def last(self) -> int:
        """The last entry of which anything is kept."""
        return self.index + 1 if self.items else self.index


class _Match:
    """A command that fits: the entry's index and time, and its item's place in the entry."""

    def __init__(self, index: int, ts_ms: int, item: int) -> None:
        self.index = index
        self.ts_ms = ts_ms
        self.item = item


def parse_time(text: str) -> int:
    """Unix milliseconds of an ISO 8601 time (UTC unless it says otherwise), or of a number of seconds or milliseconds.
    Raises ValueError.
    """
    if text.isdigit():
        return int(text) if len(text) > 11 else int(text) * 1000
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)


def by_index(found: Survey, index: int) -> Target:
    """Raises NeedsDecision when the state after it cannot be built."""
    base_for(found, index)
    return Target(index, 0, f"index {index:,}")


def by_time(found: Survey, ts_ms: int, progress: Progress) -> Target:
    """The last entry of which the log's time, which never steps back, is not later than ``ts_ms``."""
    reached, last = 0, 0
    for base in reversed(bases(found)):
        at = base.look.applied if base.look is not None else None
        if at is not None and at.ts_ms > ts_ms:
            break
        if base.last <= last:
            continue
        if at is not None and at.index > last:
            reached, last = at.ts_ms, at.index
        for entry in stored_entries(found.disk, base.scans, last + 1, base.last, progress):
            if entry.ts_ms > ts_ms:
                break
            reached = max(reached, entry.ts_ms)
            last = entry.index
    if not reached:
        raise NeedsDecision(
            f"{found.directory}: nothing is as old as {when(ts_ms)}; 'durakv-cli inspect {found.directory}' shows the "
            f"times it covers; {nothing_older(found)}"
        )
    return Target(last, 0, f"time {when(ts_ms)}; the last write before it was at {when(reached)}")


def before_command(found: Survey, text: str, which: str, progress: Progress) -> Target:
    """The place right before the command that fits ``text``: its name in any case, then patterns for its arguments, as
    many as are given. ``which``: "first", "last" or "" to refuse when several fit.
    """
    words = [word.encode("utf-8", "surrogateescape") for word in shlex.split(text)]
    if not words:
        raise NeedsDecision("--before-command is empty; name a command, like FLUSHALL or 'DEL user:*'")
    matches = []
    seen = 0
    for base in reversed(bases(found)):
        # The state before the first of these entries is the base itself.
        for entry in stored_entries(found.disk, base.scans, max(base.index, seen) + 1, base.last, progress):
            seen = entry.index
            if entry.kind == KIND_NORMAL:
                matches += _matches(entry, words)
    if not matches:
        raise NeedsDecision(
            f"{found.directory}: no command in the log fits '{text}'; 'durakv-cli log dump' shows them (a script's or "
            f"function's commands are in the log as its EVAL or FCALL); {nothing_older(found)}"
        )
    if len(matches) > 1 and not which:
        places = ", ".join(f"index {match.index} at {when(match.ts_ms)}" for match in matches[:_SHOWN_MATCHES])
        more = f" and {len(matches) - _SHOWN_MATCHES} more" if len(matches) > _SHOWN_MATCHES else ""
        raise NeedsDecision(
            f"{found.directory}: {len(matches)} commands fit '{text}': {places}{more}; add --which first, --which "
            f"last, "
            "or use --to-index with one less"
        )
    match = matches[-1] if which == LAST else matches[0]
    return Target(match.index - 1, match.item, f"just before '{text}' of index {match.index:,}, {when(match.ts_ms)}")


def _matches(entry: StoredEntry, words: list[bytes]) -> list[_Match]:
    # Most entries hold nothing of the kind, and looking is much cheaper than decoding.
    if words[0].upper() not in entry.data.upper():
        return []
    try:
        payload = decode_payload(entry.data)
    except PayloadError as error:
        raise NeedsDecision(f"{entry.path}: entry {entry.index} cannot be decoded: {error}") from None
    return [
        _Match(entry.index, entry.ts_ms, place)
        for place, item in enumerate(payload.items)
        if any(_fits(command.argv, words) for command in item.commands)
    ]


def _fits(argv: list[bytes], words: list[bytes]) -> bool:
    return (
        len(argv) >= len(words)
        and argv[0].upper() == words[0].upper()
        and all(glob_match(word, argument) for word, argument in zip(words[1:], argv[1:], strict=False))
    )
