"""Many episodes, until one breaks a promise or time is up: ``python -m tests.cluster.handoff.explore --seconds 60``.

Every fourth episode lets the source hurry ahead of the target, which must be as safe; in every fifth operators take
fenced slots back by force.
"""

import argparse
import collections
import sys
import time

from tests.cluster.handoff.mutants import MUTANTS, blind_source, mutated
from tests.cluster.handoff.rig import Violation, episode

REPLAY_EVERY = 10


def one(seed):
    replay = seed % REPLAY_EVERY == 0
    forces = seed % 5 == 4
    if seed % 4 == 3:
        with mutated(blind_source):
            return episode(seed, 2 + seed % 2, replay=replay, forces=forces)
    return episode(seed, 2 + seed % 2, replay=replay, forces=forces)


def explore(first, episodes, seconds):
    """(episodes run, counts of what happened, the violation or None). ``seconds`` are of processor time."""
    counts = collections.Counter()
    end = time.process_time() + seconds
    done = 0
    for seed in range(first, first + episodes):
        try:
            world = one(seed)
        except (Violation, AssertionError) as broken:
            return done, counts, f"seed {seed}: {type(broken).__name__}: {broken}"
        done += 1
        counts.update(world.counts)
        if time.process_time() > end:
            break
    return done, counts, None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--episodes", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time")
    parser.add_argument("--mutant", choices=[mutant.__name__ for mutant in MUTANTS], help="with one thing wrong")
    options = parser.parse_args()
    began = time.monotonic()
    if options.mutant:
        with mutated({mutant.__name__: mutant for mutant in MUTANTS}[options.mutant]):
            done, counts, broken = explore(options.first, options.episodes, options.seconds)
    else:
        done, counts, broken = explore(options.first, options.episodes, options.seconds)
    took = time.monotonic() - began
    print(
        f"{done} episodes in {took:.1f} s ({done / took:.1f}/s), {counts['activate']} handoffs, "
        f"{counts['fence']} fences, {counts['unfence']} unfences, {counts['crash']} crashes"
    )
    for what, count in sorted(counts.items()):
        print(f"  {count:8d} {what}")
    print(broken or "no violation")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
