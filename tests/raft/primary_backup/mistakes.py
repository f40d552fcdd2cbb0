"""Planted mistakes, one per rule of the lease protocol; random histories must find each."""

from contextlib import contextmanager

from raft.primary_backup import candidate, changes, leases, node, office, primary, register, secondary
from raft.primary_backup.messages import Reason
from raft.types import Role
from tests.raft.primary_backup.lease_histories import (
    a_given_up_node_is_offered_a_snapshot_of_what_it_has,
    answered_again_while_asking_for_office,
    answers_on_slow_links,
    force_against_a_lone_primary,
    handing_over_on_slow_links,
)


@contextmanager
def instead(places, name, make):
    """Put make(original) in the place of a function, wherever it was imported to."""
    originals = [(place, place.__dict__[name]) for place in places]
    changed = make(originals[0][1])
    for place, _ in originals:
        setattr(place, name, changed)
    try:
        yield
    finally:
        for place, original in originals:
            setattr(place, name, original)


def commit_without_the_union():
    def make(_):
        def newest(r):
            change = r.change
            return [r.isr] if change is None else [change.call.config.isr]

        return newest

    return instead([node.Member], "possible_sets", make)


def admission_by_lag():
    return instead([candidate], "covered", lambda _: lambda r, peer: r.log.last - peer.progress.match <= 3)


def admission_before_a_commit_of_the_reign():
    return instead([candidate], "covered", lambda _: lambda r, peer: peer.progress.match >= r.log.commit)


def a_joining_node_does_not_count():
    def make(effective):
        def without(self):
            joining, self.joining = self.joining, 0
            out = effective(self)
            self.joining = joining
            return out

        return without

    return instead([node.Member], "effective", make)


def the_epoch_is_resumed_after_a_restart():
    def make(note_config):
        def trusting(r, config):
            if config.primary == r.id:
                config.request.nonce = r.nonce
                config.request.node = r.id
                if config.epoch == r.term and r.role != Role.LEADER:
                    r.term -= 1
            note_config(r, config)

        return trusting

    return instead([office], "note_config", make)


def anyone_is_promoted():
    def make(_):
        def willing(r):
            known = r.known
            return known is not None and r.change is None and r.log.pending_snapshot is None and not r.rebuild_for

        return willing

    def take_over(_):
        def take(r):
            known = r.known
            r.armed = False
            if known is None or r.change is not None or known.epoch != r.term or known.primary == r.id:
                return
            isr = tuple(sorted({*known.isr, r.id} - {known.primary}))
            learners = tuple(n for n in known.members() if n not in isr)
            changes.ask_change(r, node.ChangeKind.PROMOTE, r.id, isr, learners)

        return take

    @contextmanager
    def planted():
        with (
            instead([secondary], "_may_take_over", make),
            instead([secondary], "_take_over", take_over),
            instead([register], "_judge_promotion", lambda _: lambda current, new: Reason.NONE),
        ):
            yield

    return planted()


def reads_without_a_lease():
    return instead([leases, primary], "missing", lambda _: lambda r: "" if r.role == Role.LEADER else "not in office")


def a_pause_is_silence():
    return instead([leases], "_was_paused", lambda _: lambda r: None)


def a_started_node_forgets_its_promise():
    def make(note_now):
        def forgetful(r, now_ns, raw_ns=-1):
            first = r.now_ns < 0
            note_now(r, now_ns, raw_ns)
            if first:
                r.promise_over = True
                r.heard_ns -= r.config.grace_ns

        return forgetful

    return instead([leases], "note_now", make)


def the_promise_ends_with_the_office():
    return instead([leases, primary], "promise_kept", lambda _: lambda r: True)


def writes_do_not_wait_for_the_promise():
    return instead([primary], "promise_kept", lambda _: lambda r: True)


def a_lease_counts_from_the_answer():
    def make(_):
        def late(r, peer, round_, t_sent_ns):
            peer.heard_ns = r.now_ns
            if r.lease_floor <= round_ <= r.round:
                peer.progress.ack_sent_ns = r.now_ns

        return late

    return instead([leases, primary], "extend", make)


def a_step_of_the_clock_is_ignored():
    return instead([leases], "_clocks_are_odd", lambda _: lambda r: None)


def entries_count_before_they_are_durable():
    def make(_):
        def hasty(r, m, match, round_, t_sent_ns):
            r.messages.append(
                secondary.PrepareOk(r.group, r.id, m.from_, r.term, True, False, match, 0, 0, round_, t_sent_ns)
            )

        return hasty

    return instead([secondary], "_acknowledge", make)


def the_old_primary_stays_while_it_hands_over():
    def make(hand_over):
        def stays(r, peer):
            acks = {other.node: other.progress.ack_sent_ns for other in r.peer_list}
            floor = r.lease_floor
            was = r.resigned
            hand_over(r, peer)
            if r.resigned and not was:
                r.resigned = False
                r.lease_floor = floor
                for other in r.peer_list:
                    other.progress.ack_sent_ns = acks[other.node]

        return stays

    return instead([primary], "hand_over_when_ready", make)


def a_snapshot_known_already_proves_the_commit():
    def make(_):
        def claim(r, m):
            secondary._acknowledge(r, m, r.log.commit, 0, 0)
            return True

        return claim

    return instead([secondary], "_known_already", make)


def min_isr_is_not_asked():
    def make(propose):
        def brave(r, data):
            wanted, r.min_isr = r.min_isr, 1
            try:
                return propose(r, data)
            finally:
                r.min_isr = wanted

        return brave

    return instead([primary], "propose", make)


def the_holder_is_not_asked_when_alone():
    return instead([leases, primary], "holder_valid", lambda _: lambda r: True)


def force_does_not_wait():
    def make(judge):
        return lambda current, call, leased: judge(current, call, False)

    return instead([register], "judge_force", make)


# Those that need one precise history.
PLANTED_IN_HISTORIES = [
    (the_promise_ends_with_the_office, answered_again_while_asking_for_office, "LeaseExclusive|StaleRead"),
    (writes_do_not_wait_for_the_promise, answered_again_while_asking_for_office, "StaleRead"),
    (the_old_primary_stays_while_it_hands_over, handing_over_on_slow_links, "LeaseExclusive"),
    (the_holder_is_not_asked_when_alone, force_against_a_lone_primary, "LeaseExclusive|StaleRead|PreparedSuperset"),
    (force_does_not_wait, force_against_a_lone_primary, "LeaseExclusive|StaleRead|PreparedSuperset"),
    (
        a_snapshot_known_already_proves_the_commit,
        a_given_up_node_is_offered_a_snapshot_of_what_it_has,
        "lost|AdmitCovered|PreparedSuperset|Liveness|PrepareOk",
    ),
    (a_lease_counts_from_the_answer, answers_on_slow_links, "LeaseExclusive"),
]

# mistake, shape, forced promotions, episodes it has to be found in, what finds it
PLANTED = [
    (commit_without_the_union, "3", False, 60, "EffectiveCovers|NoCommitWhileUnsure|PreparedSuperset|AckedSurvives"),
    (admission_by_lag, "3", False, 60, "AdmitCovered|PreparedSuperset"),
    (admission_before_a_commit_of_the_reign, "3", False, 120, "AdmitCovered|PreparedSuperset"),
    (a_joining_node_does_not_count, "3", False, 60, "AdmitCovered|PreparedSuperset|Liveness"),
    (the_epoch_is_resumed_after_a_restart, "3", False, 60, "NoResume"),
    (anyone_is_promoted, "3", False, 100, "PromoteOnlyISR"),
    (reads_without_a_lease, "3", False, 60, "LeaseExclusive|StaleRead"),
    (a_pause_is_silence, "3", False, 120, "PauseIsNotSilence"),
    (a_started_node_forgets_its_promise, "3", False, 60, "PauseIsNotSilence|LeaseExclusive|StaleRead"),
    (a_step_of_the_clock_is_ignored, "3", False, 100, "LeaseExclusive|StaleRead|PauseIsNotSilence"),
    (entries_count_before_they_are_durable, "3", False, 60, "AckDurable"),
    (min_isr_is_not_asked, "2", False, 60, "FailClosed"),
]
