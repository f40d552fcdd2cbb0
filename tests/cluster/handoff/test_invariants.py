"""The monitor sees each broken promise, and none in a history that keeps them."""

import pytest

from durakv.cluster.handoff import entries
from durakv.cluster.handoff.invariants import Monitor

MID = b"a" * 40
OTHER = b"b" * 40
RUNS = ((0, 1, 1),)
BEGIN = (1, 10, entries.export_begin(MID, 2, RUNS))
FENCE = (1, 11, entries.fence(MID, (3, 1)))
IMPORT = (2, 20, entries.import_begin(MID, 1, 10, (3, 1), RUNS))
ACTIVATE = (2, 21, entries.activate(MID, (3, 1), 11, 0, 0, bytes(16), bytes(16)))
ABORT = (2, 22, entries.abort(MID, 1, 10, RUNS, b""))
RELEASE = (1, 12, entries.release(MID))
UNFENCE = (1, 12, entries.unfence(MID, b""))
CANCEL = (1, 12, entries.export_cancel(MID, b""))
FORCE = (1, 12, entries.force_abort(MID))


def monitor(*history):
    made = Monitor({1: ((0, 9, 1),), 2: ((10, 10, 1),)})
    for group, index, argv in history:
        made.item(group, index, argv, done=True)
    return made


@pytest.mark.parametrize(
    "history",
    [
        (BEGIN, IMPORT, FENCE, ACTIVATE, RELEASE),
        (BEGIN, IMPORT, FENCE, ABORT, UNFENCE),
        (BEGIN, IMPORT, CANCEL, ABORT),
        (BEGIN, IMPORT, FENCE, FORCE, ACTIVATE),
        (BEGIN, FENCE, ABORT, (2, 23, ABORT[2]), UNFENCE),
    ],
)
def test_what_may_happen(history):
    assert monitor(*history).violations() == []


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ((BEGIN, (1, 11, BEGIN[2])), "begun twice"),
        (((2, 10, BEGIN[2]),), "never group 2's"),
        (((1, 10, entries.export_begin(MID, 2, ((0, 0, 2),))),), "never group 1's"),
        ((BEGIN, FENCE, ACTIVATE, ABORT), "decided 2 times"),
        ((BEGIN, FENCE, ACTIVATE, (2, 22, ACTIVATE[2])), "decided 2 times"),
        ((BEGIN, FENCE, (3, 21, ACTIVATE[2])), "decided by group 3"),
        ((BEGIN, ACTIVATE), "for a fence at 11 that never was"),
        ((BEGIN, (1, 12, FENCE[2]), ACTIVATE), "for a fence at 11 that never was"),
        ((BEGIN, (1, 11, entries.fence(MID, (3, 2))), ACTIVATE), "older than its fence's"),
        ((BEGIN, FENCE, (1, 12, FENCE[2])), "fenced twice"),
        ((BEGIN, FENCE, UNFENCE), "never aborted it"),
        ((BEGIN, FENCE, RELEASE), "never activated it"),
        ((BEGIN, FENCE, ACTIVATE, CANCEL), "was cancelled and the target activated it"),
        ((BEGIN, ABORT, UNFENCE), "left a fence that never was"),
        ((BEGIN, FENCE, ABORT, UNFENCE, (1, 13, UNFENCE[2])), "ended twice"),
        ((FENCE, BEGIN), "applied index 10 after 11"),
        ((ACTIVATE,), "never begun"),
        (
            (BEGIN, FENCE, ACTIVATE, (3, 30, entries.activate(MID, (3, 1), 11, 0, 0, bytes(16), bytes(16)))),
            "slot 0 at epoch 2 is owned by group 2 and, by an activation, by group 3",
        ),
    ],
)
def test_what_may_not(history, text):
    assert any(text in found for found in monitor(*history).violations())


def test_items_without_effect_do_not_count():
    made = monitor(BEGIN, FENCE, ABORT)
    made.item(2, 23, ACTIVATE[2], done=False)
    made.item(1, 13, UNFENCE[2], done=True)
    assert made.violations() == []


def test_a_flush_decides_as_an_abort_does():
    made = monitor(BEGIN, FENCE)
    made.flushed(2, MID)
    made.item(1, 13, UNFENCE[2], done=True)
    assert made.violations() == []
    made.item(2, 24, ACTIVATE[2], done=True)
    assert any("decided 2 times" in found for found in made.violations())


def test_owners_and_claims():
    made = monitor(BEGIN, FENCE, ACTIVATE)
    assert (made.owner(0), made.owner(5), made.owner(10), made.owner(11)) == ((2, 2), (1, 1), (2, 1), (0, -1))
    claims = {slot: [1] for slot in range(10)} | {10: [2]}
    assert made.cover(claims) == [f"slot {slot} is claimed by groups [1] and is group 2's" for slot in (0, 1)]
    assert made.cover(claims | {0: [2], 1: [2]}) == []
    assert made.cover(claims | {0: [1, 2], 1: [2]}) != []
    assert monitor(BEGIN, FENCE, FORCE).owner(0) == (1, 3)
