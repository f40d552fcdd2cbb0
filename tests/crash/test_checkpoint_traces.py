"""Scripts in which the log is dropped behind checkpoints and snapshots take its place; planted bugs there are seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durakv.checkpoint import place, snapshot_file
from durakv.storage import recovery
from durakv.storage.segment import Segment, SegmentWriter
from jstyle.crash import standin
from jstyle.crash.campaign import Run, Tally, enumerate_states, play
from jstyle.crash.damage import try_damages
from jstyle.crash.faults import try_faults
from jstyle.crash.judge import Recoveries
from jstyle.crash.kernel import compare, strace_missing
from jstyle.crash.node import OpenNode
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, script_named
from jstyle.crash.states import build, variants
from jstyle.crash.trace import LINK, RENAME, UNLINK

MISSING = strace_missing()
NAMES = ("truncate", "archive", "install")


def shown(tally: Tally) -> list[tuple[str, str, str]]:
    return [(failure.check, failure.text, failure.repeat()) for failure in tally.failures]


@pytest.mark.parametrize("name", NAMES)
def test_some_crash_states(name: str) -> None:
    tally = enumerate_states(script_named(name), states_max=220, subsets=0)
    assert shown(tally) == []
    assert tally.nested > 100, "power cuts inside recovery"


@pytest.mark.parametrize("name", ["truncate", "install"])
def test_some_faults_and_every_damage(name: str) -> None:
    script = script_named(name)
    tally = Tally(name)
    for number in (5, 12, 20):
        try_faults(script, tally, ("eio-sync", number))
    try_faults(script, tally, ("enospc", 20))
    try_damages(script, tally)
    assert shown(tally) == []
    assert tally.damaged > 150


def test_the_scripts_do_what_they_are_for() -> None:
    for name, kinds in (("truncate", {UNLINK, RENAME}), ("archive", {LINK, UNLINK}), ("install", {UNLINK, RENAME})):
        run = Run(script_named(name))
        assert kinds <= {event.kind for event in run.trace.events}
        # The log begins far behind the first entry, and what is held reaches back to it all the same.
        assert run.life.node.log.first_index() > 4
        (*_, (_, medium, _)) = run.positions()
        node = OpenNode(RecordingDisk(medium.image([])), DIRECTORY, run.script.settings)
        assert [key[0] for key in node.held()] == list(range(1, run.life.node.log.last_index() + 1))


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_kernel_saw_what_was_recorded() -> None:
    assert compare(script_named("install")) == []


def caught(name: str) -> set[str]:
    """The checks that fail first, of states without power cuts inside recovery."""
    script = script_named(name)
    tally = Tally(name)
    run = play(script, tally)
    if run is None:
        return set(tally.by_check)
    recoveries = Recoveries(DIRECTORY, script.settings)
    for position, medium, promises in run.positions():
        found = [
            finding.check
            for word in variants(medium, 2)
            for finding in recoveries.of(build(medium, word, f"{name}/{position}"), nested=False).broken(promises)
        ]
        if found:
            return set(found)
    return set()


def test_old_segments_that_go_before_the_new_log_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    start = SegmentWriter.start

    def replace(self: SegmentWriter, doomed: list[Segment], fresh: Segment) -> None:
        for old in doomed:
            self._remove(old)
        start(self, fresh, self.segment_bytes)

    monkeypatch.setattr(SegmentWriter, "replace", replace)
    assert "P9" in caught("install")


def test_a_name_that_is_not_made_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """CURRENT is renamed, the log goes, and the rename is lost."""

    def write(disk: object, directory: str, number: int) -> None:
        lazy = _NoSync(disk, f"{directory}/ckpt")
        place.write_current(lazy, directory, number)  # type: ignore[arg-type]

    monkeypatch.setattr(standin, "write_current", write)
    assert {"D1", "P9"} & caught("install")


def test_a_snapshot_that_is_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(disk: object, path: str, folder: str) -> object:
        return snapshot_file.unpack_snapshot(_NoSync(disk, folder), path, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(standin, "unpack_snapshot", unpack)
    assert "P9" in caught("install")


def test_log_that_goes_before_the_checkpoint_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(disk: object, directory: str, held: tuple[object, ...], covered: object) -> None:
        """What was written down is taken for what the checkpoint has."""

    monkeypatch.setattr(standin, "commit", commit)
    assert {"D1", "P9"} & caught("truncate")


def test_a_log_that_is_always_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery that takes every log for one that a snapshot replaces."""
    monkeypatch.setattr(recovery, "_reaches", lambda scans, runs, covered: False)
    assert {"D1", "P9"} & caught("truncate")


class _NoSync:
    """A disk that does not sync one folder, nor the files in it."""

    def __init__(self, disk: object, folder: str) -> None:
        self._disk = disk
        self._folder = folder

    def __getattr__(self, name: str) -> Callable[..., object]:
        found: Callable[..., object] = getattr(self._disk, name)
        return found

    def fsync_dir(self, path: str) -> None:
        if path != self._folder:
            self._disk.fsync_dir(path)  # type: ignore[attr-defined]

    def open(self, path: str, **how: bool) -> object:
        file = self._disk.open(path, **how)  # type: ignore[attr-defined]
        if path.startswith(f"{DIRECTORY}/ckpt/env-"):
            file.fsync = lambda: None
        return file
