"""Random histories of groups with a witness; and planted mistakes, one per rule, which such histories must find."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from raft import leader, pin, witness
from raft.witness import WitnessState
from tests.raft.test_random import STEPS
from tests.raft.witness_episode import SHAPES, WitnessEpisode

# A function of a compiled module calls its neighbours directly, so nothing can be put in their place.
interpreted = pytest.mark.skipif(not pin.__file__.endswith(".py"), reason="mistakes are planted in source modules")


@pytest.mark.parametrize("changes", [True, False], ids=["changing", "steady"])
@pytest.mark.parametrize("shape", SHAPES)
def test_seeds(shape, changes):
    committed = reads = engaged = pins = swaps = witnesses = 0
    for seed in range(30):
        episode = WitnessEpisode(seed, shape, changes)
        try:
            episode.run(STEPS)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        committed += episode.invariants.committed_max
        reads += sum(len(r) for r in episode.reads.values())
        engaged += episode.involved
        pins += episode.pins
        swaps += episode.swaps
        witnesses += len(episode.witnesses)
    # A history in which nothing happens proves nothing.
    assert committed > 30 * 40
    assert reads > 30 * 8
    assert engaged > 300
    assert swaps > 10
    assert (pins > 300) or shape != "2+1"
    assert (witnesses > 30) is changes


def test_a_seed_replays_the_same_in_every_process():
    code = (
        "import durakv; from tests.raft.witness_episode import run; "
        "print([run(s, shape, 400) for s in range(900, 902) for shape in ('2+1', '3+1', '4+1')])"
    )
    digests = []
    for hash_seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        digests.append(done.stdout)
    assert len(set(digests)) == 1
    assert len(set(digests[0].strip("[]\n").split(", "))) == 6


@contextmanager
def instead(module, name, make):
    """Put make(original) in the place of a function."""
    original = getattr(module, name)
    setattr(module, name, make(original))
    try:
        yield
    finally:
        setattr(module, name, original)


def vouchers_do_not_matter():
    def make(_):
        def later_or_equal(state, m):
            return (m.last_log_term, m.last_log_subterm) >= (state.last_log_term, state.last_log_subterm)

        return later_or_equal

    return instead(witness, "_may_lead", make)


def the_set_changes_within_a_subterm():
    def make(swap):
        def same_subterm(r, rs, outside):
            r.subterm -= 1
            swap(r, rs, outside)

        return same_subterm

    return instead(pin, "_swap", make)


def a_late_answer_counts_as_a_record():
    def make(recorded):
        def any_subterm(r, m):
            out = recorded(r, m)
            if out and r.replication.has_witness:
                r.replication.witness_subterm = r.subterm
            return out

        return any_subterm

    return instead(pin, "recorded", make)


def the_witness_forgets():
    def make(disaster):
        def forgetful(self):
            down = [node for node, site in self.witnesses.items() if not site.up]
            disaster(self)
            for node in down:
                if self.witnesses[node].up:
                    self.witnesses[node].state = WitnessState(1, node)

        return forgetful

    return instead(WitnessEpisode, "disaster", make)


def a_membership_starts_no_subterm():
    def make(append_membership):
        def same_subterm(r, membership):
            r.subterm -= 1
            return append_membership(r, membership)

        return same_subterm

    return instead(leader, "_append_membership", make)


def the_pin_counts_before_its_record():
    def make(involve):
        def hasty(r, rs):
            involve(r, rs)
            if rs.asked_index:
                rs.witness_subterm = r.subterm
                involve(r, rs)

        return hasty

    return instead(pin, "_involve_witness", make)


def the_leader_leaves_the_set():
    def make(swap):
        def itself(r, rs, outside):
            swap(r, rs, r.id if outside else 0)

        return itself

    return instead(pin, "_swap", make)


def the_empty_entry_is_forgotten():
    def make(swap):
        def nothing_appended(r, rs, outside):
            log = r.log
            append, log.append = log.append, lambda entry: None
            swap(r, rs, outside)
            log.append = append
            assert log.last < rs.start_index

        return nothing_appended

    return instead(pin, "_swap", make)


def an_undurable_leader_counts():
    def make(involve):
        def eager(r, rs):
            stable, r.log.stable = r.log.stable, r.log.last
            involve(r, rs)
            r.log.stable = stable

        return eager

    return instead(pin, "_involve_witness", make)


def outsiders_count_beside_the_witness():
    def make(half):
        def all_of_it(r, outgoing, stat, outside, value):
            return half(r, outgoing, stat, 0, value)

        return all_of_it

    return instead(pin, "_half", make)


def a_record_outlives_its_term():
    def make(lead):
        def kept(r, votes):
            lead(r, votes)
            if r.replication is not None:
                r.replication.witness_subterm = 0

        return kept

    return instead(pin, "lead", make)


def the_witness_is_always_asked():
    def make(tick):
        def chatty(r, rs):
            r.witness_sent += 1
            tick(r, rs)

        return chatty

    return instead(pin, "tick", make)


PLANTED = [
    (vouchers_do_not_matter, "2+1", False, 40, "PinExclusive|LeaderCompleteness"),
    (the_set_changes_within_a_subterm, "2+1", False, 40, "SubtermMonotone"),
    (a_late_answer_counts_as_a_record, "2+1", True, 40, "ShortcutOnlyPinned"),
    (the_witness_forgets, "2+1", False, 40, "WitnessMonotone|NoAmnesia"),
    (a_membership_starts_no_subterm, "3+1", True, 40, "SubtermMonotone"),
    (the_pin_counts_before_its_record, "2+1", False, 40, "ShortcutOnlyPinned|SelfAckStable"),
    (the_leader_leaves_the_set, "2+1", False, 40, "LeaderS"),
    (the_empty_entry_is_forgotten, "2+1", False, 40, "stuck without a voter|no recovery"),
    (an_undurable_leader_counts, "2+1", False, 40, "WitnessBacked"),
    (outsiders_count_beside_the_witness, "4+1", False, 40, "WitnessBacked"),
    (a_record_outlives_its_term, "2+1", False, 40, "ShortcutOnlyPinned"),
    (the_witness_is_always_asked, "2+1", False, 40, "WitnessQuiet"),
]


@interpreted
@pytest.mark.parametrize(
    ("plant", "shape", "changes", "seeds", "rule"), PLANTED, ids=[row[0].__name__.replace("_", "-") for row in PLANTED]
)
def test_a_planted_mistake_is_found(plant, shape, changes, seeds, rule):
    with plant(), pytest.raises(AssertionError, match=rule):
        many(shape, changes, seeds)


def many(shape, changes, seeds):
    for seed in range(seeds):
        WitnessEpisode(seed, shape, changes).run(STEPS)
