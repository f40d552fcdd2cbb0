"""Whether production recovery, given a disk, keeps every promise.

Rule: judged by opening the disk with ``durakv.storage`` and by nothing else. What a disk recovers to does not depend on
the promises, so it is worked out once per distinct disk (``Recoveries``); promises are held against it afterwards. It
must not know which crash or damage made the disk.

Checks: D1 acknowledged entries survive; D4 the log is a prefix of what was asked for; R6 term and vote are not older
than what was externalized; P9 recovery neither fails nor guesses; TWICE a second recovery changes no byte; ONWARD the
recovered node can go on.
"""

from __future__ import annotations

from typing import Final

from durakv.storage.errors import StorageError
from jstyle.crash.ledger import Ballot, History, Promises
from jstyle.crash.node import OpenNode, Settings, entries_of, payload
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.states import Medium, build, fingerprint, medium_at, variants
from jstyle.crash.trace import DATA_OPS, MARK, NAME_OPS, Event, Image

OPENED: Final = "opened"
REFUSED: Final = "refused"
CRASHED: Final = "crashed"

NESTED_SUBSETS: Final = 6
# A boot number no script reaches, so that salts made while judging differ from those on the disk.
_JUDGE_BOOT: Final = 1000


class Finding:
    """A broken promise: which check, a sentence, and the rest of the word that names the state."""

    __slots__ = ("check", "suffix", "text")

    def __init__(self, check: str, text: str, suffix: str = "") -> None:
        self.check = check
        self.text = text
        self.suffix = suffix


class Outcome:
    """What one recovery came to. ``text`` is the error when it was refused or crashed."""

    __slots__ = ("ballot", "held", "status", "text")

    def __init__(self, status: str, text: str, held: History, ballot: Ballot) -> None:
        self.status = status
        self.text = text
        self.held = held
        self.ballot = ballot


class Recovery:
    """All that a disk can come to: recovered at once (first), or after power cuts inside recovery (the others).

    ``outcomes`` pairs the suffix of the state's word with an outcome; ``findings`` need no promises to be wrong.
    """

    __slots__ = ("findings", "outcomes", "settled")

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []
        self.findings: list[Finding] = []
        self.settled: Image | None = None

    def broken(self, promises: Promises) -> list[Finding]:
        """Everything that is wrong when these promises had been made."""
        found = list(self.findings)
        for suffix, outcome in self.outcomes:
            if outcome.status == REFUSED:
                found.append(Finding("P9", f"refused after a mere power cut: {outcome.text}", suffix))
                continue
            if outcome.status == CRASHED:
                found.append(Finding("P9", f"recovery failed: {outcome.text}", suffix))
                continue
            broken = (promises.broken_log(outcome.held), promises.broken_vote(outcome.ballot))
            found += [Finding(*one, suffix) for one in broken if one is not None]
        return found


class Recoveries:
    """Recoveries by content of the disk. ``nested_left`` bounds how many disks inside recoveries are looked at."""

    def __init__(self, directory: str, settings: Settings, *, nested_max: int = 20_000) -> None:
        self.directory = directory
        self.settings = settings
        self.nested_left = nested_max
        self.nested_states = 0
        self._known: dict[bytes, Recovery] = {}
        self._direct: dict[bytes, Outcome] = {}

    def of(self, image: Image, *, nested: bool = True) -> Recovery:
        """Recover a disk; the same disk is recovered once."""
        key = fingerprint(image)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._recover(image, key, nested=nested)
        return known

    def _recover(self, image: Image, key: bytes, *, nested: bool) -> Recovery:
        recovery = Recovery()
        outcome, disk, node = self._open(image)
        recovery.outcomes.append(("", outcome))
        self._direct[key] = outcome
        if node is None:
            return recovery
        events = list(disk.trace.events)
        recovery.settled = disk.image()
        recovery.findings += self._again(recovery.settled, outcome)
        recovery.findings += self._onward(disk, node, outcome)
        if nested and any(event.kind in DATA_OPS or event.kind in NAME_OPS for event in events):
            # The dice depend on the disk alone, so that any word that leads to it repeats the same.
            self._cut_inside(recovery, image, events, key.hex())
        return recovery

    def _open(self, image: Image) -> tuple[Outcome, RecordingDisk, OpenNode | None]:
        disk = RecordingDisk(image)
        try:
            node = OpenNode(disk, self.directory, self.settings, boot=_JUDGE_BOOT)
            held = node.held()
        except StorageError as error:
            return Outcome(REFUSED, str(error), (), (0, 0)), disk, None
        except Exception as error:  # noqa: BLE001 - any other exception of recovery is what this judge looks for
            return Outcome(CRASHED, f"{type(error).__name__}: {error}", (), (0, 0)), disk, None
        return Outcome(OPENED, "", held, node.ballot()), disk, node

    def _again(self, settled: Image, outcome: Outcome) -> list[Finding]:
        second, disk, node = self._open(settled)
        if node is None:
            return [Finding("TWICE", f"the second recovery {second.status}: {second.text}")]
        if second.held != outcome.held or second.ballot != outcome.ballot:
            return [Finding("TWICE", f"{len(outcome.held)} entries at first, {len(second.held)} the second time")]
        image = disk.image()
        changed = sorted(
            path for path in {**image.files, **settled.files} if image.files.get(path) != settled.files.get(path)
        )
        return [Finding("TWICE", f"the second recovery changed {', '.join(changed)}")] if changed else []

    def _onward(self, disk: RecordingDisk, node: OpenNode, outcome: Outcome) -> list[Finding]:
        """One more entry is acknowledged and survives a power cut that leaves only what was synced."""
        key = payload(len(outcome.held) + 1, 1_000_000, 64)
        heard: list[OSError | None] = []
        try:
            node.log.append(entries_of([key]), heard.append)
            node.log.set_sync("always")
            node.settle()
        except Exception as error:  # noqa: BLE001 - as above
            return [Finding("ONWARD", f"an append after recovery failed: {type(error).__name__}: {error}")]
        if heard != [None]:
            return [Finding("ONWARD", f"an append after recovery was answered {heard}")]
        left = medium_at(disk.trace, len(disk.trace.events)).image([])
        after, _, _ = self._open(left)
        if after.held != (*outcome.held, key):
            return [Finding("ONWARD", f"an entry acknowledged after recovery is lost: {after.status} {after.text}")]
        return []

    def _cut_inside(self, recovery: Recovery, image: Image, events: list[Event], seed: str) -> None:
        """Power cuts at each step of this recovery; a distinct outcome is kept with the first word that led to it."""
        seen = {_essence(outcome) for _, outcome in recovery.outcomes}
        medium = Medium(image)
        for position, event in enumerate(events, 1):
            medium.feed(event)
            if event.kind == MARK:
                continue
            for word in variants(medium, NESTED_SUBSETS):
                if self.nested_left <= 0:
                    return
                inner = build(medium, word, f"{seed}/{position}")
                key = fingerprint(inner)
                outcome = self._direct.get(key)
                if outcome is None:
                    self.nested_left -= 1
                    self.nested_states += 1
                    outcome = self._direct[key] = self._open(inner)[0]
                if _essence(outcome) not in seen:
                    seen.add(_essence(outcome))
                    recovery.outcomes.append((f"/{position}/{word}", outcome))


def _essence(outcome: Outcome) -> tuple[str, str, History, Ballot]:
    return outcome.status, outcome.text, outcome.held, outcome.ballot
