"""Media damage to disks at rest: what was synced turns bad, and recovery must notice wherever anything proves it.

Rule: damage hits one place of a disk on which nothing is pending. A log that opens may then miss acknowledged entries
only at its end, only where no intact later write was made after their acknowledgement, and only after saving what it
cut. Everything else must be refused by name. It must not know how recovery finds its proof: what is provable is worked
out from the trace alone.

Checks: P9 refusal by name, no guess, nothing cut without quarantine; D4 nothing invented; R6 a hard state of which a
slot is intact is at most one update old.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from time import process_time
from typing import Final

from durakv.storage.hardstate import SLOT_OFFSETS
from durakv.storage.record import HEADER_BYTES, MAGIC
from durakv.storage.recovery import QUARANTINE
from jstyle.crash.campaign import Run, Tally, play
from jstyle.crash.judge import CRASHED, OPENED, Finding, Outcome, Recoveries
from jstyle.crash.ledger import Promises, common
from jstyle.crash.scripts import DIRECTORY, Script
from jstyle.crash.states import SECTOR_BYTES, fingerprint
from jstyle.crash.trace import WRITE, Image

LOG_PART: Final = "/log/dk."
# Positions looked at in one script, spread over its length; the last one is always among them.
_POSITIONS: Final = 5


class Rest:
    """A disk with nothing pending. ``proofs`` are its log writes and how many entries were acknowledged before each."""

    __slots__ = ("image", "position", "promises", "proofs")

    def __init__(
        self, position: int, image: Image, promises: Promises, proofs: list[tuple[str, int, bytes, int]]
    ) -> None:
        self.position = position
        self.image = image
        self.promises = promises
        self.proofs = proofs

    def provable(self, damaged: Image) -> int:
        """How many acknowledged entries some intact write of the log was made after."""
        most = 0
        for path, offset, data, acked in self.proofs:
            if acked > most and damaged.files.get(path, b"")[offset : offset + len(data)] == data:
                most = acked
        return most


def rests(run: Run) -> list[Rest]:
    """The disks of a run at rest, thinned out."""
    found = []
    writes: list[tuple[int, int, bytes, int]] = []
    for position, medium, promises in run.positions():
        event = run.trace.events[position - 1] if position else None
        if event is not None and event.kind == WRITE and event.data.startswith(MAGIC):
            writes.append((event.inode, event.offset, event.data, len(promises.acked)))
        if medium.pending or not promises.acked:
            continue
        paths = {inode: path for path, inode in medium.names.items()}
        proofs = [
            (paths[inode], offset, data, acked)
            for inode, offset, data, acked in writes
            if LOG_PART in paths.get(inode, "")
        ]
        found.append(Rest(position, medium.image([]), promises.frozen(), proofs))
    distinct = [rest for at, rest in enumerate(found) if at + 1 == len(found) or _differs(rest, found[at + 1])]
    step = max(len(distinct) // _POSITIONS, 1)
    return distinct[::-1][::step][::-1]


def _differs(one: Rest, other: Rest) -> bool:
    return fingerprint(one.image) != fingerprint(other.image)


def damages(image: Image) -> Iterator[str]:
    """Words for single damages: flip:PATH:BYTE, zero:PATH:BYTE:SIZE, copy:PATH:TO:FROM:SIZE, cut:PATH:SIZE,
    gone:PATH.
    """
    for path, content in sorted(image.files.items()):
        name = path.removeprefix(DIRECTORY + "/")
        if LOG_PART in path and path.endswith(".log"):
            yield from _log_damages(name, content)
        elif name == "raft/hardstate":
            for offset in SLOT_OFFSETS:
                for byte in (0, 17, 25, 120, 509):
                    yield f"flip:{name}:{offset + byte}"
            yield f"copy:{name}:{SLOT_OFFSETS[0]}:{SLOT_OFFSETS[1]}:512"
            yield f"zero:{name}:0:8192"
        elif name == "IDENTITY":
            for byte in range(0, len(content), 11):
                yield f"flip:{name}:{byte}"
        else:
            continue
        yield f"cut:{name}:0"
        yield f"cut:{name}:{len(content) // 2}"
        yield f"gone:{name}"


def _log_damages(name: str, content: bytes) -> Iterator[str]:
    frames = []
    at = content.find(MAGIC)
    while at >= 0:
        frames.append(at)
        at = content.find(MAGIC, at + 1)
    for byte in (0, 60, 200, 245):
        yield f"flip:{name}:{byte}"
    for number, at in enumerate(frames):
        end = frames[number + 1] if number + 1 < len(frames) else len(content.rstrip(b"\x00"))
        for byte in (0, 5, 22, 66, 86, 110, 119, 127, HEADER_BYTES, (at + HEADER_BYTES + end) // 2 - at, end - at - 1):
            if at + byte < end:
                yield f"flip:{name}:{at + byte}"
        yield f"zero:{name}:{at}:{end - at}"
        yield f"cut:{name}:{at}"
        if number:
            size = min(end - at, at - frames[number - 1])
            yield f"copy:{name}:{at}:{frames[number - 1]}:{size}"
    for at in range(0, len(content.rstrip(b"\x00")), SECTOR_BYTES):
        yield f"zero:{name}:{at}:{SECTOR_BYTES}"


def apply_damage(image: Image, word: str, dice: random.Random) -> Image:
    """The disk after the damage a word names. Raises ValueError for a word that fits nothing."""
    kind, name, *rest = word.split(":")
    path = f"{DIRECTORY}/{name}"
    if path not in image.files or kind not in ("flip", "zero", "copy", "cut", "gone"):
        raise ValueError(f"no damage {word!r} here")
    numbers = [int(number) for number in rest]
    content = bytearray(image.files[path])
    files = dict(image.files)
    if kind == "gone":
        del files[path]
        return Image(files, image.folders)
    if kind == "flip":
        content[numbers[0]] ^= 1 << dice.randrange(8)
    elif kind == "zero":
        end = min(numbers[0] + numbers[1], len(content))
        content[numbers[0] : end] = bytes(end - numbers[0])
    elif kind == "copy":
        to, source, size = numbers
        content[to : to + size] = image.files[path][source : source + size]
    else:
        del content[numbers[0] :]
    files[path] = bytes(content)
    return Image(files, image.folders)


def try_damages(script: Script, tally: Tally, only: tuple[int, str] | None = None) -> None:
    """Judge every damage of every disk at rest; ``only`` is a (position, word) to repeat.

    Raises ValueError when ``only`` names nothing.
    """
    begin_s = process_time()
    recoveries = Recoveries(DIRECTORY, script.settings)
    before = tally.damaged
    run = play(script, tally)
    for rest in [] if run is None else rests(run):
        if only is not None and rest.position != only[0]:
            continue
        for word in damages(rest.image):
            if only is not None and word != only[1]:
                continue
            damaged = apply_damage(rest.image, word, random.Random(f"{script.name}/{rest.position}/{word}"))
            if damaged.files == rest.image.files:
                continue
            tally.damaged += 1
            tally.add(rest.position, f"damage:{word}", _judge(rest, damaged, recoveries, tally))
    if only is not None and tally.damaged == before:
        raise ValueError(f"trace {script.name} has no damage {only[1]} at position {only[0]}")
    tally.cpu_s += process_time() - begin_s


def _judge(rest: Rest, damaged: Image, recoveries: Recoveries, tally: Tally) -> list[Finding]:
    recovery = recoveries.of(damaged, nested=False)
    outcome = recovery.outcomes[0][1]
    if outcome.status == CRASHED:
        return [Finding("P9", f"recovery failed instead of refusing by name: {outcome.text}")]
    if outcome.status != OPENED:
        return []
    promises = rest.promises
    # Of acknowledged entries only the unprovable ones at the end may be missing; the rest is judged as after a crash.
    kept = common(outcome.held, promises.acked)
    provable = rest.provable(damaged)
    found = list(recovery.findings)
    if kept < min(provable, len(promises.acked)):
        text = (
            f"opened with {kept} of {len(promises.acked)} acknowledged entries, but an intact later write proves that"
        )
        found.append(Finding("P9", f"{text} {provable} had been synced"))
    elif kept < len(promises.acked):
        tally.unprovable += 1
    weaker = promises.frozen()
    weaker.acked = promises.acked[:kept]
    broken = (weaker.broken_log(outcome.held), _bad_ballot(rest, outcome))
    found += [Finding(*one) for one in broken if one is not None]
    if recovery.settled is not None:
        found += _cut_unsaved(damaged, recovery.settled)
    return found


def _bad_ballot(rest: Rest, outcome: Outcome) -> tuple[str, str] | None:
    """One of two slots may be lost, and with it one update."""
    allowed = rest.promises.frozen()
    allowed.vote_acked = max(allowed.vote_acked - 1, 0)
    return allowed.broken_vote(outcome.ballot)


def _cut_unsaved(before: Image, after: Image) -> list[Finding]:
    """Every byte that recovery took off a segment must be in quarantine."""
    saved = [content for path, content in after.files.items() if f"/{QUARANTINE}/" in path]
    found = []
    for path, content in before.files.items():
        if LOG_PART not in path or not path.endswith(".log"):
            continue
        left = after.files.get(path, b"")
        lost = content[len(left) :].rstrip(b"\x00")
        if not content.startswith(left[: len(content)]):
            found.append(Finding("P9", f"recovery changed bytes of {path}"))
        elif lost and not any(lost in kept for kept in saved):
            found.append(Finding("P9", f"{len(lost)} bytes were cut from {path} and are not in {QUARANTINE}/"))
    return found
