"""The real storage stands every crash state, fault and damage of the small scripts; each failure can be repeated."""

from __future__ import annotations

import pytest

from durakv.storage.health import FULL, LOW
from jstyle.crash.campaign import Run, Tally, enumerate_states, show_one
from jstyle.crash.damage import try_damages
from jstyle.crash.faults import try_faults
from jstyle.crash.judge import Finding
from jstyle.crash.node import OpenNode, Settings
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, EMPTY, SCRIPTS, script_named
from jstyle.crash.trace import CREATE, MARK, RENAME, SYNC_DIR, TRUNCATE, UNLINK


def shown(tally):
    return [(failure.check, failure.text, failure.repeat()) for failure in tally.failures]


@pytest.mark.parametrize("name", ["bootstrap", "votes", "aftermath"])
def test_every_crash_state_of_a_small_trace(name):
    tally = enumerate_states(script_named(name), subsets=4)
    assert shown(tally) == []
    assert tally.states > 60
    assert tally.nested > 200, "power cuts inside recovery"


def test_some_crash_states_of_conflicts():
    tally = enumerate_states(script_named("conflict"), states_max=120, subsets=0)
    assert shown(tally) == []
    assert tally.capped


@pytest.mark.parametrize("name", ["bootstrap", "votes", "everysec"])
def test_every_fault(name):
    tally = Tally(name)
    try_faults(script_named(name), tally)
    assert shown(tally) == []
    assert tally.faults > 60


@pytest.mark.parametrize("name", ["votes", "aftermath"])
def test_every_damage(name):
    tally = Tally(name)
    try_damages(script_named(name), tally)
    assert shown(tally) == []
    assert tally.damaged > 400


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_deterministic_and_promise_something(script):
    first, second = Run(script), Run(script)
    assert [repr(event) for event in first.trace.events] == [repr(event) for event in second.trace.events]
    assert sum(event.kind == MARK for event in first.trace.events) > 5
    *_, (_, _, promises) = first.positions()
    assert len(promises.acked) >= 2
    assert promises.vote_acked >= 1


def test_the_scripts_together_do_everything_to_a_log():
    kinds = {event.kind for script in SCRIPTS for event in Run(script).trace.events}
    assert {CREATE, RENAME, TRUNCATE, UNLINK, SYNC_DIR} <= kinds


def test_a_failure_is_shown_again_by_its_words():
    script = script_named("votes")
    tally = Tally("votes")
    tally.add(40, "a", [Finding("D1", "lost", "/3/b")])
    assert tally.failures[0].repeat() == "jstyle crash --trace votes --position 40 --variant a/3/b"
    again, story = show_one(script, 40, "a")
    assert again.failure_count == 0
    assert any("recovery: opened" in line for line in story)
    with pytest.raises(ValueError, match="no position"):
        show_one(script, 10_000, "a")
    with pytest.raises(ValueError, match="no fault"):
        try_faults(script, tally, ("eio-sync", 999))
    with pytest.raises(ValueError, match="no damage"):
        try_damages(script, tally, (1, "flip:log/none:1"))


@pytest.mark.parametrize(("free_mib", "level"), [(1500, LOW), (0, FULL)])
def test_a_node_starts_on_a_volume_that_is_short_of_space(free_mib, level):
    node = OpenNode(RecordingDisk(EMPTY, free_mib << 20), DIRECTORY, Settings())
    assert node.levels == [level]
    assert node.store.health.level == level
