"""A slice of the exploration, and the proof that it sees what it looks for."""

import pytest

from durakv.cluster.handoff import source
from tests.cluster.handoff.explore import explore
from tests.cluster.handoff.mutants import MUTANTS, mutated
from tests.cluster.handoff.rig import Violation, episode

CAUGHT_WITHIN = 60


def test_no_promise_is_broken():
    done, counts, broken = explore(0, 120, 60)
    assert broken is None
    assert done == 120
    # It would prove nothing if nothing happened.
    assert counts["activate"] > 250
    assert counts["unfence"] > 20
    assert counts["export-cancel"] > 20
    assert counts["crash"] > 400


@pytest.mark.skipif(not source.__file__.endswith(".py"), reason="what is compiled cannot be replaced: run interpreted")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mistake_is_caught(mutant):
    with mutated(mutant), pytest.raises((Violation, AssertionError)):
        several()


def several():
    for seed in range(CAUGHT_WITHIN):
        episode(seed, 2 + seed % 2)
