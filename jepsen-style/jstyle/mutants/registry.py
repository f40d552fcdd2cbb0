"""The catalogue of planted bugs: what each is, who must notice it, and how soon.

Rule: the one list. A mutant that cannot be planted yet is listed too, with what it waits for, so that no number of the
catalogue is ever silently missing. It must not know how runs are started or reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from jstyle.mutants import (
    checker_mutants,
    checkpoint_mutants,
    collection_checker_mutants,
    engine_mutants,
    handoff_mutants,
    lease_mutants,
    raft_mutants,
    storage_mutants,
    txn_checker_mutants,
    witness_mutants,
)
from jstyle.mutants.cut_off import CutOffProbe
from jstyle.mutants.figure8 import Figure8Probe, StaleTailProbe
from jstyle.mutants.golden import GoldenProbe
from jstyle.mutants.probe_sim import SimProbe
from jstyle.mutants.probes import CrashProbe, Probe
from jstyle.mutants.queues import QueueProbe

Patch = Callable[[], AbstractContextManager[object]]


class Mutant:
    """``checks`` are those of which one must fail; ``seeds`` is the budget, 1 for a direct probe."""

    __slots__ = ("bug", "checks", "id", "layer", "patch", "probe", "seeds")

    def __init__(
        self, id: str, bug: str, layer: str, checks: Sequence[str], patch: Patch, probe: Probe, seeds: int = 1
    ) -> None:
        self.id = id
        self.bug = bug
        self.layer = layer
        self.checks = tuple(checks)
        self.patch = patch
        self.probe = probe
        self.seeds = seeds

    @property
    def direct(self) -> bool:
        """Needs no luck."""
        return self.seeds == 1


class Waiting:
    """A catalogue number that cannot be planted yet, and why."""

    __slots__ = ("bug", "id", "why")

    def __init__(self, id: str, bug: str, why: str) -> None:
        self.id = id
        self.bug = bug
        self.why = why


_STATES: Final = CrashProbe(("bootstrap", "rotate", "conflict", "votes"))
_FAULTS: Final = CrashProbe(("rotate", "votes"), ("faults",))
_DAMAGE: Final = CrashProbe(("rotate", "aftermath"), ("damages",))
_FIGURE_8: Final = Figure8Probe()
_STALE_TAIL: Final = StaleTailProbe()
_CUT_OFF: Final = CutOffProbe()
_QUEUES: Final = QueueProbe()
_LINEAR: Final = GoldenProbe("linear")
_TRANSACTIONS: Final = GoldenProbe("append", "wr")

_ROUGH: Final = ("kill", "power", "partition", "frames", "loss", "pause")
_SIM: Final = SimProbe("3", _ROUGH, ("register", "append"), 15_000)
_SIM_FORWARD: Final = SimProbe("3", ("kill", "transfer", "reset"), ("append", "counter"), 15_000)
_SIM_MIXED: Final = SimProbe("3", _ROUGH, ("append", "counter", "register"), 15_000)
_SIM_READS: Final = SimProbe("3", ("partition", "pause"), ("register", "unique-register"), 15_000, judged=True)
_SIM_SLOW: Final = SimProbe("3", ("kill", "transfer", "slow", "frames"), ("register", "unique-register"), 15_000,
                            judged=True)  # fmt: skip
_SIM_EXPIRY: Final = SimProbe("3", ("skew", "clock"), ("expiry",), 15_000)
_SIM_MULTI: Final = SimProbe("3", ("transfer",), ("bank",), 10_000)

_SIM_MEMBERS: Final = SimProbe("5", ("membership", "slow", "partition", "frames", "pause"), ("append",), 25_000)

_LOADS: Final = ("append", "counter")
# Two full nodes that come and go, with a witness that is slow to hear and to be heard.
_SIM_WITNESS: Final = SimProbe("2+w", ("kill", "power", "partition", "witness"), _LOADS, 20_000)
_SIM_STORMY: Final = SimProbe(
    "2+w", ("kill", "partition", "pause", "slow", "loss", "clog", "witness"), _LOADS, 30_000
)  # fmt: skip
_SIM_FLAPPING: Final = SimProbe("2+w", ("witness",), _LOADS, 30_000)
_SIM_FOUR: Final = SimProbe("4+w", ("kill", "power", "partition", "pause", "witness"), _LOADS, 20_000)
_SIM_LOST: Final = SimProbe("2+w", ("kill", "partition", "witness", "witness-loss"), _LOADS, 20_000)
_SIM_REPLACED: Final = SimProbe(
    "2+w", ("kill", "membership", "slow", "partition", "frames", "witness-change"), ("append",), 30_000
)  # fmt: skip

_SIM_CHECKPOINT: Final = SimProbe("3", ("kill", "power", "pause", "checkpoints"), ("queue", "append"), 30_000)
_SIM_PARKED: Final = SimProbe("3", ("kill", "checkpoints"), ("blocking",), 30_000)

# The core asserts some promises itself and stops the node rather than break them; that is how those bugs show.
_ASSERTED: Final = "CRASH:AssertionError"

# Slots that move all the time; faults that make decisions late.
_SIM_MOVES: Final = SimProbe("2x1", ("moves", "slow", "loss"), ("append", "register", "expiry"), 8000)
# Streams that take their time, so that much is written while they do.
_SIM_LATE: Final = SimProbe("2x3", ("moves", "slow", "loss", "slow-cpu"), ("append", "set", "register"), 10_000)
# Leaders that go while slots are fenced, and leave a scan to begin anew.
_SIM_FENCED: Final = SimProbe("2x3", ("moves", "points"), ("append", "set", "expiry"), 10_000, small_batches=True)
# Old messages that come again, between leaders that stay.
_SIM_ECHOES: Final = SimProbe("2x1", ("moves", "frames"), ("append", "register"), 15_000)
_SIM_HANDOFF: Final = SimProbe("2x3", ("moves", "apart", "points", "kill", "frames"), ("append", "register"), 10_000)

# Primaries that are cut off, go and come back at once; clocks at the edge of the bound.
_SIM_LEASE: Final = SimProbe("lease", ("kill", "partition", "skew", "clock"), ("register", "append"), 15_000)
_SIM_LEASE_POWER: Final = SimProbe(
    "lease", ("kill", "power", "partition", "pause", "disk-slow"), ("append", "counter"), 15_000
)  # fmt: skip
_SIM_LEASE_PAUSED: Final = SimProbe("lease", ("pause", "kill", "partition"), ("append",), 30_000)
_SIM_LEASE_SLOW: Final = SimProbe("lease", ("pause", "partition", "slow", "skew", "transfer"), ("append",), 15_000)

_c = checker_mutants
_h = handoff_mutants
_k = checkpoint_mutants
_l = lease_mutants
_e = engine_mutants
_r = raft_mutants
_s = storage_mutants
_w = witness_mutants


def _planted(name: str) -> Patch:
    return lambda: _c.planted(name)


MUTANTS: Final[Sequence[Mutant]] = (
    Mutant("M1", "ack before the local fsync completes", "crash", ("D1",), _s.ack_before_sync, _STATES),
    Mutant("M2", "leader counts its own un-fsynced entry toward quorum", "sim", ("R7", "R4"), _r.counts_unsynced, _SIM,
           300),
    Mutant("M3", "vote not persisted before the reply", "sim", ("R1", "R6", "P9"), _r.vote_not_persisted, _SIM, 20),
    Mutant("M4", "vote for a candidate with a stale log", "sim", ("R4",), _r.votes_for_stale_logs, _SIM, 5),
    Mutant("M5", "commit an older-term entry by counting", "direct", ("R8",), _r.commits_old_terms, _FIGURE_8),
    Mutant("M6", "commit with a minority (quorum off by one)", "sim", ("R7",), _r.commits_by_minority, _SIM, 5),
    Mutant("M7", "follower sets commit beyond the last matched entry", "direct", ("R5",), _r.commit_beyond_match,
           _STALE_TAIL),
    Mutant("M8", "truncate the log on any Append", "sim", ("R2", "R4", _ASSERTED), _r.truncates_always, _SIM, 100),
    Mutant("M9", "serve reads without ReadIndex", "sim", ("K1",), _r.reads_unproven, _SIM_READS, 20),
    Mutant("M10", "ReadIndex before the term's no-op commits", "sim", ("K1",), _r.reads_before_noop, _SIM_SLOW, 30),
    Mutant("M11", "serve reads after lease expiry", "lease", ("L1", "L2"), _l.serves_without_a_lease, _SIM_LEASE, 20),
    Mutant("M12", "lease measured with wall clock", "lease", ("L1", "L3"), _l.leases_by_the_wall_clock, _SIM_LEASE, 20),
    Mutant("M13", "new primary does not wait out the old lease after restart", "lease", ("L1", "L3"),
           _l.a_started_node_forgets_its_promise, _SIM_LEASE),
    Mutant("M14", "witness ack of an old subterm counted", "witness", ("W5", "R7"), _w.late_answer_is_a_record,
           _SIM_FLAPPING, 100),
    Mutant("M15", "witness votes ignoring the replication-set subset rule", "witness", ("W6", "R4", "P6"),
           _w.vouchers_do_not_matter, _SIM_WITNESS, 100),
    Mutant("M16", "no new entry on replication-set change", "witness", ("W3", "P10"), _w.set_changes_without_entry,
           _SIM_WITNESS, 50),
    Mutant("M17", "witness loses (term, subterm, set) on restart", "witness", ("W2", "W1", "R4"),
           _w.forgets_on_restart, _SIM_WITNESS, 100),
    Mutant("M18", "slot ownership applied at propose, before commit", "groups", ("S1", "S2", "S3", "R5"),
           _h.owns_at_propose, _SIM_MOVES, 50),
    Mutant("M19", "handoff skips keys written after the copy cursor", "groups", ("S4",),
           _h.changes_behind_the_cursor_are_lost, _SIM_LATE, 50),
    Mutant("M20", "handoff forgets deadlines", "groups", ("S4",), _h.deadlines_are_forgotten, _SIM_MOVES, 20),
    Mutant("M21", "source keeps serving after the fence", "groups", ("S1", "S3"), _h.serves_behind_the_fence,
           _SIM_MOVES, 20),
    Mutant("M22", "failed fsync retried on the same descriptor", "crash", ("D1",), _s.sync_retried, _FAULTS),
    Mutant("M23", "recovery truncates at the first bad CRC though valid records follow", "crash", ("P9",),
           _s.cut_at_first_bad_frame, _DAMAGE),
    Mutant("M25", "directory not fsynced after log rotation", "crash", ("D1", "D4"), _s.directory_not_synced, _STATES),
    Mutant("M28", "reply matched by index only, not (index, term)", "sim", ("K1", "R5", "D1"), _e.matched_by_index,
           _SIM_MIXED, 100),
    Mutant("M29", "forwarded command applied twice on leader change", "sim", ("D3", "P3"), _e.forwarded_again,
           _SIM_FORWARD, 100),
    Mutant("M30", "a node that is being removed still counts for commits", "sim", ("R7", "R4", "R5"),
           _r.counts_the_removed, _SIM_MEMBERS, 100),
    Mutant("M31", "two membership changes in flight", "sim", ("R9",), _r.two_changes, _SIM_MEMBERS, 100),
    Mutant("M30-w", "a node that is being removed counts in the place of another beside a witness", "witness",
           ("R7", "R4", "R5"), _w.counts_the_removed_beside_a_witness, _SIM_REPLACED, 100),
    Mutant("M31-w", "two membership changes in flight beside a witness", "witness", ("R9",), _r.two_changes,
           _SIM_REPLACED, 100),
    Mutant("M32", "replica expires keys by its own clock", "sim", ("R5",), _e.expires_by_own_clock, _SIM_EXPIRY, 20),
    Mutant("M33", "MULTI not atomic across a yield point", "sim", ("P3", "K1"), _e.transaction_yields, _SIM_MULTI, 20),
    Mutant("M34", "definite error after the entry was appended", "sim", ("P3", "K1"), _e.definite_although_logged,
           _SIM_FORWARD, 50),
    Mutant("M35", "pre-vote missing: an isolated node forces elections", "direct", ("P10",), _r.no_pre_vote, _CUT_OFF),
    Mutant("M36", "unbounded queue to a dead peer", "direct", ("MEM",), _e.queue_without_end, _QUEUES),
    Mutant("S1", "hard state overwrites its newest slot", "crash", ("P9", "R6"), _s.one_slot, _STATES),
    Mutant("S2", "IDENTITY renamed before it is fsynced", "crash", ("P9",), _s.identity_renamed_unsynced, _STATES),
    Mutant("S3", "segment named before its first line is fsynced", "crash", ("P9",), _s.segment_named_before_synced,
           _STATES),
    Mutant("S4", "a cut removes the oldest segment first", "crash", ("P9",), _s.cut_oldest_first, _STATES),
    Mutant("S5", "recovery cuts a tail without saving it", "crash", ("P9",), _s.tail_not_saved, _DAMAGE),
    Mutant("S6", "frames claim to be synced before they are", "crash", ("P9",), _s.claims_synced_at_once, _STATES),
    Mutant("S7", "a sealed segment is not fsynced", "crash", ("P9",), _s.seal_not_synced, _STATES),
    Mutant("S8", "a full disk is ignored", "crash", ("D1", "FULL"), _s.full_disk_ignored, _FAULTS),
    Mutant("S9", "recovery leaves the torn tail in place", "crash", ("ONWARD",), _s.tail_left_in_place, _STATES),
    Mutant("X1", "replication set changes within a subterm", "witness", ("W3",), _w.set_changes_within_a_subterm,
           _SIM_FOUR, 50),
    Mutant("X2", "a membership starts no subterm", "witness", ("W3",), _w.membership_starts_no_subterm, _SIM_REPLACED,
           50),
    Mutant("X3", "witness asked for an entry of a former subterm", "witness", ("W4",), _w.asks_for_a_former_subterm,
           _SIM_FOUR, 50),
    Mutant("X4", "witness counted before it has recorded", "witness", ("W5", "R7"), _w.counts_before_the_record,
           _SIM_WITNESS, 50),
    Mutant("X5", "leader alone with the witness counts its own un-fsynced entry", "witness", ("W4", "W5", "R7"),
           _w.counts_its_unsynced_self, _SIM_WITNESS, 50),
    Mutant("X6", "voters outside the set count for the witness's record", "witness", ("W4", "W5", "R7"),
           _w.outsiders_count_for_the_record, _SIM_FOUR, 50),
    Mutant("X7", "a record counts in the next term", "witness", ("W5", "R7"), _w.record_outlives_its_term,
           _SIM_WITNESS, 50),
    Mutant("X8", "leader outside its own set", "witness", ("LeaderS",), _w.leader_leaves_its_set, _SIM_WITNESS, 50),
    Mutant("X9", "witness asked while it is at rest", "witness", ("WitnessQuiet",), _w.witness_is_always_asked,
           _SIM_WITNESS, 5),
    Mutant("X10", "witness without a state begins anew", "witness", ("NoAmnesia", "R4"), _w.lost_state_begins_anew,
           _SIM_LOST, 50),
    Mutant("X11", "witness answers before its record is synced", "witness", ("W1", "W2"), _w.answers_before_the_sync,
           _SIM_WITNESS, 20),
    Mutant("X12", "witness votes more than once in a term", "witness", ("W1", "R1"), _w.votes_as_often_as_asked,
           _SIM_STORMY, 300),
    Mutant("X13", "witness replaces a record by an older one", "witness", ("W2",), _w.records_whatever_comes,
           _SIM_STORMY, 300),
    Mutant("X14", "half of the full nodes elect without the witness", "witness", ("R1", "R4", "P6", "PinExclusive"),
           _w.half_is_a_majority, _SIM_WITNESS, 20),
    Mutant("X15", "a candidate overstates its subterm to the witness", "witness", ("R4", "P6", "PinExclusive"),
           _w.candidate_boasts, _SIM_WITNESS, 50),
    Mutant("X16", "a write is acknowledged with one copy although two are promised", "witness", ("P2",),
           _w.one_copy_is_two, _SIM_WITNESS, 200),
    Mutant("H1", "handoff skips keys created behind the copy cursor", "groups", ("S4",),
           _h.new_keys_behind_the_cursor_are_lost, _SIM_LATE, 50),
    Mutant("H2", "digest of an unfinished scan", "groups", ("S4",), _h.digest_of_an_unfinished_scan, _SIM_FENCED, 50),
    Mutant("H3", "source unfences by timeout", "groups", ("S1", "S5"), _h.unfences_by_timeout, _SIM_HANDOFF, 50),
    Mutant("H4", "source releases without a decision", "groups", ("S2", "S5"), _h.releases_without_decision, _SIM_MOVES,
           20),
    Mutant("H5", "an unknown migration is answered as aborted", "groups", ("S1", "S5"), _h.unknown_is_aborted,
           _SIM_HANDOFF, 100),
    Mutant("H6", "an abort takes an activation back", "groups", ("S1", "S5", "R5"), _h.decision_changes, _SIM_HANDOFF,
           50),
    Mutant("H7", "a decided migration begins again", "groups", ("S5", "P10"), _h.tombstones_are_forgotten, _SIM_ECHOES,
           100),
    Mutant("LS1", "a lease counts from the answer", "lease", ("L1",), _l.a_lease_counts_from_the_answer,
           _SIM_LEASE_SLOW, 50),
    Mutant("LS2", "who takes over forgets its own promise", "lease", ("L1", "L3"), _l.the_promise_ends_with_the_office,
           _SIM_LEASE, 50),
    Mutant("LS3", "the old primary serves while it hands over", "lease", ("L1", _ASSERTED),
           _l.the_old_primary_serves_while_it_hands_over, _SIM_LEASE_SLOW, 50),
    Mutant("LS4", "commits while unsure without the union", "lease", ("EffectiveCovers", "NoCommitWhileUnsure", "R7"),
           _l.commits_without_the_union, _SIM_LEASE, 20),
    Mutant("LS5", "admission by lag", "lease", ("AdmitCovered", "R7"), _l.admitted_by_lag, _SIM_LEASE_POWER, 50),
    Mutant("LS6", "a joining node does not count", "lease", ("AdmitCovered", "EffectiveCovers", "R7", "P10"),
           _l.a_joining_node_does_not_count, _SIM_LEASE_POWER, 50),
    Mutant("LS7", "a member acknowledges before its sync", "lease", ("R7", "D1", "D4"),
           _l.acknowledged_before_it_is_durable, _SIM_LEASE_POWER, 20),
    Mutant("LS8", "an epoch is resumed after a restart", "lease", ("NoResume",), _l.an_epoch_is_resumed, _SIM_LEASE,
           20),
    Mutant("LS9", "a member is promoted that is not in sync", "lease", ("PromoteOnlyISR",), _l.anyone_is_promoted,
           _SIM_LEASE_POWER, 50),
    Mutant("LS10", "a node's own pause counts as the others' silence", "lease", ("PauseIsNotSilence",),
           _l.a_pause_is_silence, _SIM_LEASE_PAUSED, 100),
    Mutant("CK1", "log dropped before the checkpoint has it", "sim", ("D4", "R7", "P9"), _k.log_dropped_too_early,
           _SIM_CHECKPOINT, 50),
    Mutant("CK2", "checkpoint's index committed before its rows", "sim", ("R5", "P9"), _k.index_ahead_of_its_rows,
           _SIM_CHECKPOINT, 50),
    Mutant("CK3", "removed keys stay in the checkpoint", "sim", ("R5", "P9"), _k.removed_keys_stay, _SIM_CHECKPOINT,
           50),
    Mutant("CK4", "parked requests are not in the checkpoint", "sim", ("R5", "P3", "P9"), _k.waiters_left_out,
           _SIM_PARKED, 50),
    Mutant("CK5", "a list's rows do not follow its head", "sim", ("R5", "P9"), _k.popped_elements_stay,
           _SIM_CHECKPOINT, 50),
    *(
        Mutant(known.name, f"checker {known.about}", "checker", ("GOLDEN",), _planted(known.name), _LINEAR)
        for known in _c.CHECKER_MUTANTS.values()
    ),
    *(
        Mutant(name, f"checker {about}", "checker", ("GOLDEN",), txn_checker_mutants.MUTANTS[name], _TRANSACTIONS)
        for name, about in (
            ("C1-txn", "drops real-time edges between transactions"),
            ("C2-txn", "treats info as fail in transactions"),
            ("C4-txn", "skips crashed transactions"),
        )
    ),
    *(
        Mutant(known.name, f"checker {known.about}", "checker", ("GOLDEN",), known.patch, GoldenProbe(*known.folders))
        for known in collection_checker_mutants.CATALOGUE.values()
    ),
)  # fmt: skip

_CHECKPOINTS: Final = "waits for checkpoints: the log is the only durable state, restart is replay"

WAITING: Final[Sequence[Waiting]] = (
    Waiting("M24", "snapshot renamed before its data is fsynced", _CHECKPOINTS),
    Waiting("M26", "log cut before the snapshot is durable", _CHECKPOINTS),
    Waiting("M27", "snapshot taken without request-id table", _CHECKPOINTS),
)


def mutant(id: str) -> Mutant:
    """Raises KeyError, with the reason when the number is known but cannot be planted yet."""
    for known in MUTANTS:
        if known.id == id:
            return known
    for waiting in WAITING:
        if waiting.id == id:
            raise KeyError(f"{id} ({waiting.bug}) {waiting.why}")
    raise KeyError(f"no mutant {id!r}; there are {', '.join(known.id for known in MUTANTS)}")


def quick(rotation: int, count: int = 6) -> list[Mutant]:
    """The direct mutants and ``count`` of the others; ``rotation`` says where in their circle to start."""
    others = [known for known in MUTANTS if not known.direct]
    begin = rotation * count % len(others) if others else 0
    chosen = (others[begin:] + others[:begin])[:count]
    return [known for known in MUTANTS if known.direct or known in chosen]
