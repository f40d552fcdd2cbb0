"""Random histories of the lease protocol; and planted mistakes, one per rule, which such histories must find."""

import os
import re
import subprocess
import sys

import pytest

from raft.primary_backup import primary
from tests.raft.primary_backup.episode import Episode
from tests.raft.primary_backup.lease_histories import HISTORIES, a_slow_primary_and_fast_members
from tests.raft.primary_backup.mistakes import PLANTED, PLANTED_IN_HISTORIES

# A function of a compiled module calls its neighbours directly, so nothing can be put in their place.
interpreted = pytest.mark.skipif(not primary.__file__.endswith(".py"), reason="mistakes are planted in source modules")

SEEDS = {"3": 50, "2": 50}


def many(shape, seeds, skew=150, force=False):
    for seed in range(seeds):
        episode = Episode(seed, shape, skew, force)
        try:
            episode.play()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        yield episode


@pytest.mark.parametrize("force", [False, True], ids=["steady", "forced"])
@pytest.mark.parametrize("shape", SEEDS)
def test_seeds(shape, force):
    acked = reads = epochs = forces = 0
    count = SEEDS[shape]
    for episode in many(shape, count, force=force):
        acked += len(episode.acked)
        reads += episode.served
        epochs += episode.invariants.holder.epoch % 1000
        forces += episode.invariants.forces
    # A history in which nothing happens proves nothing.
    assert acked > 8 * count
    assert reads > 20 * count
    assert epochs > 3 * count
    assert (forces > 0) is force


def test_beyond_the_bound_reads_may_be_wrong_but_no_write_is_lost():
    wrong = [text for episode in many("3", 60, skew=400) for text in episode.violations]
    # If clocks this bad did no harm, the histories above would not test leases at all.
    assert any(text.startswith("LeaseExclusive") for text in wrong)


@pytest.mark.parametrize("skew", [0, 150, 400])
def test_the_same_history_within_the_bound_and_beyond(skew):
    w = a_slow_primary_and_fast_members({1: 1000 - skew, 2: 1000 + skew, 3: 1000 + skew})
    kinds = {text.split(":")[0] for text in w.violations}
    assert kinds == ({"LeaseExclusive", "StaleRead"} if skew > 150 else set())


def test_a_seed_replays_the_same_in_every_process():
    code = (
        "import durakv; from tests.raft.primary_backup.episode import run; "
        "print([run(s, shape, 150, force) for s in range(700, 703) for shape in '23' for force in (False, True)])"
    )
    digests = []
    for hash_seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        digests.append(done.stdout)
    assert len(set(digests)) == 1
    assert len(set(digests[0].strip("[]\n").split(", "))) > 8


@pytest.mark.parametrize("history", HISTORIES, ids=[h.__name__.replace("_", "-") for h in HISTORIES])
def test_precise_histories(history):
    several(history)


def several(history):
    for seed in range(6):
        history(seed)


@interpreted
@pytest.mark.parametrize(
    ("plant", "history", "rule"),
    PLANTED_IN_HISTORIES,
    ids=[row[0].__name__.replace("_", "-") for row in PLANTED_IN_HISTORIES],
)
def test_a_planted_mistake_is_found_in_its_history(plant, history, rule):
    with plant(), pytest.raises(AssertionError, match=rule):
        several(history)


@interpreted
@pytest.mark.parametrize(
    ("plant", "shape", "force", "seeds", "rule"), PLANTED, ids=[row[0].__name__.replace("_", "-") for row in PLANTED]
)
def test_a_planted_mistake_is_found(plant, shape, force, seeds, rule):
    with plant(), pytest.raises(AssertionError) as caught:
        list(many(shape, seeds, force=force))
    assert re.search(rule, str(caught.value)), caught.value
