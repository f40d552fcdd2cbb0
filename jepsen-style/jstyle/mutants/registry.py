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
    collection_checker_mutants,
    engine_mutants,
    raft_mutants,
    storage_mutants,
    txn_checker_mutants,
    witness_mutants,
)
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

# The core asserts some promises itself and stops the node rather than break them; that is how those bugs show.
_ASSERTED: Final = "CRASH:AssertionError"

_c = checker_mutants
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
    Mutant("M14", "witness ack of an old subterm counted", "witness", ("W5", "R7"), _w.late_answer_is_a_record,
           _SIM_FLAPPING, 100),
    Mutant("M15", "witness votes ignoring the replication-set subset rule", "witness", ("W6", "R4", "P6"),
           _w.vouchers_do_not_matter, _SIM_WITNESS, 100),
    Mutant("M16", "no new entry on replication-set change", "witness", ("W3", "P10"), _w.set_changes_without_entry,
           _SIM_WITNESS, 50),
    Mutant("M17", "witness loses (term, subterm, set) on restart", "witness", ("W2", "W1", "R4"),
           _w.forgets_on_restart, _SIM_WITNESS, 100),
    Mutant("M22", "failed fsync retried on the same descriptor", "crash", ("D1",), _s.sync_retried, _FAULTS),
    Mutant("M23", "recovery truncates at the first bad CRC though valid records follow", "crash", ("P9",),
           _s.cut_at_first_bad_frame, _DAMAGE),
    Mutant("M25", "directory not fsynced after log rotation", "crash", ("D1", "D4"), _s.directory_not_synced, _STATES),
    Mutant("M28", "reply matched by index only, not (index, term)", "sim", ("K1", "R5", "D1"), _e.matched_by_index,
           _SIM_MIXED, 50),
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
    Mutant("M35", "pre-vote missing: an isolated node forces elections", "sim", ("P10",), _r.no_pre_vote, _SIM, 50),
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
_LEASE: Final = "waits for lease mode's invariants L1-L4 in the simulator"
_SLOTS: Final = "waits for sharded groups and slot handoff"

WAITING: Final[Sequence[Waiting]] = (
    Waiting("M11", "serve reads after lease expiry", _LEASE),
    Waiting("M12", "lease measured with wall clock", _LEASE),
    Waiting("M13", "new leader does not wait out the old lease after restart", _LEASE),
    Waiting("M18", "slot ownership applied at propose, before commit", _SLOTS),
    Waiting("M19", "handoff skips keys written after the copy cursor", _SLOTS),
    Waiting("M20", "handoff forgets the request-id table / TTLs", _SLOTS),
    Waiting("M21", "source keeps acking after freeze until next heartbeat", _SLOTS),
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
