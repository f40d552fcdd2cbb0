"""Random histories, a few hundred short ones; a failure names its seed, and the seed alone replays it."""

import os
import subprocess
import sys

import pytest

from tests.raft.episode import Episode, run

STEPS = 800


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_seeds(first):
    committed = reads = leases = installs = 0
    for seed in range(first, first + 20):
        episode = Episode(seed)
        try:
            episode.run(STEPS)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        committed += episode.invariants.committed_max
        reads += sum(len(r) for r in episode.reads.values())
        leases += episode.leases
        installs += episode.installed
    # A history in which nothing happens proves nothing.
    assert committed > 20 * 40
    assert reads > 20 * 10
    assert leases > 20 * 10
    assert installs > 0


def test_a_seed_replays_the_same_in_every_process():
    code = "import durakv; from tests.raft.episode import run; print([run(s, 500) for s in range(500, 506)])"
    digests = []
    for hash_seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        digests.append(done.stdout)
    assert len(set(digests)) == 1
    assert len(set(digests[0].strip("[]\n").split(", "))) == 6


def test_another_seed_is_another_history():
    assert run(1, 300) != run(2, 300)
