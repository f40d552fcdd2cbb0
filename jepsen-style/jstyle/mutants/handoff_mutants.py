"""Planted bugs of slot handoff: of what is streamed, who decides, and who serves meanwhile.

Rule: the replacement is the mistake itself, not a fault that imitates its effect. Where several guards would each catch
a mistake, the mutant takes those away too, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from durakv.cluster.handoff import apply as applying
from durakv.cluster.handoff import entries, messages, source, target
from durakv.cluster.handoff.apply import Outcome, Refused
from durakv.cluster.handoff.exports import Exports
from durakv.cluster.handoff.state import ABORTED, EXPORTING, FENCED, IMPORT, IMPORTING, NONE, State
from durakv.cluster.handoff.stream import Stream
from durakv.engine import moving
from durakv.keyspace import staging
from jstyle.mutants.patching import replaced

Patch = AbstractContextManager[None]


@contextmanager
def _all(*patches: Patch) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


# ---- What is streamed ------------------------------------------------------------------------------------------------


def changes_behind_the_cursor_are_lost() -> Patch:
    """M19: what is written to a key after the scan has passed it stays at home; numbers of keys are not compared."""

    def make(_: object) -> Callable[[Stream, int, int, bytes], None]:
        def deaf(self: Stream, slot: int, db: int, key: bytes) -> None:
            del self, slot, db, key

        return deaf

    return _all(replaced(Stream, "changed", make), *_without_counts())


def new_keys_behind_the_cursor_are_lost() -> Patch:
    """H1: only keys that were sent before are sent again when they change; numbers of keys are not compared."""
    sent: dict[int, tuple[Stream, dict[tuple[int, bytes], None]]] = {}

    def make_op(op: Callable[[Stream, int, bytes], object]) -> Callable[[Stream, int, bytes], object]:
        def noting(self: Stream, db: int, key: bytes) -> object:
            sent.setdefault(id(self), (self, {}))[1][db, key] = None
            return op(self, db, key)

        return noting

    def make(_: object) -> Callable[[Stream, int, int, bytes], None]:
        def changed(self: Stream, slot: int, db: int, key: bytes) -> None:
            del slot
            if (db, key) in sent.get(id(self), (self, {}))[1]:
                self._dirty[db, key] = None

        return changed

    return _all(replaced(Stream, "_op", make_op), replaced(Stream, "changed", make), *_without_counts())


def deadlines_are_forgotten() -> Patch:
    """M20: staged keys have no deadline."""

    def make(put: Callable[[Any, int, bytes, object, int], None]) -> Callable[[Any, int, bytes, object, int], None]:
        def endless(self: Any, db: int, key: bytes, value: object, at_ms: int) -> None:
            del at_ms
            put(self, db, key, value, -1)

        return endless

    return replaced(staging.Area, "put", make)


def digest_of_an_unfinished_scan() -> Patch:
    """H2: a session that has not visited every key says that it is complete; numbers of keys are not compared."""

    def make(_: object) -> Callable[[Stream], bool]:
        return lambda self: not self._dirty and not self._round and not self._wipes

    return _all(replaced(Stream, "complete", make), *_without_counts())


def _without_counts() -> list[Patch]:
    def make(_: object) -> Callable[..., bytes]:
        return lambda *_: entries.NO_DIGEST

    return [replaced(entries, "counts_digest", make), replaced(Stream, "counts", make)]


# ---- Who decides -----------------------------------------------------------------------------------------------------


def owns_at_propose() -> Patch:
    """M18: the target takes the slots over when it proposes to, before that is committed."""

    def make(act: Callable[[Any], None]) -> Callable[[Any], None]:
        def early(self: Any) -> None:
            applier = self.engine.applier
            for argv in list(self.handoff.actions.proposals):
                if argv[0] == entries.ACTIVATE and not applier.in_entry:
                    applying.apply(
                        self.handoff.state, self.handoff.staging, applier.ks, argv, applier.ks.log_ms, applier.applied
                    )
            act(self)

        return early

    return replaced(moving.Moving, "_act", make)


def unfences_by_timeout() -> Patch:
    """H3: a source that has waited long enough takes its slots back without the target's word."""

    def make(_: object) -> Callable[[Any, int], None]:
        def impatient(self: Any, now_ms: int) -> None:
            del now_ms
            self._propose(entries.unfence(self.record.mid, b"late"))

        return impatient

    return replaced(source.Export, "_resolve", make)


def releases_without_decision() -> Patch:
    """H4: the source lets go of the slots as soon as it has told everything."""

    def make(tell: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
        def hasty(self: Any, now_ms: int) -> None:
            tell(self, now_ms)
            if self.stage == source.TOLD and self.record.phase == FENCED:
                self._propose(entries.release(self.record.mid))

        return hasty

    return replaced(source.Export, "_tell", make)


def unknown_is_aborted() -> Patch:
    """H5: a migration that the target does not know is answered as aborted, with nothing in its log. The source is in
    such haste that the target may hear of it late.
    """

    def make(resolve: Callable[[Any, int, Any, int], None]) -> Callable[[Any, int, Any, int], None]:
        def careless(self: Any, sender: int, message: Any, now_ms: int) -> None:
            if message.mid not in self.state.records:
                self._decided(sender, message.mid, ABORTED, b"not known here")
            else:
                resolve(self, sender, message, now_ms)

        return careless

    def make_blind(prepare: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
        def blind(self: Any, now_ms: int) -> None:
            prepare(self, now_ms)
            if self.record.phase == EXPORTING:
                self.stage = source.SCANNING
                self.heard_ms = now_ms

        return blind

    return _all(replaced(target.Imports, "_resolve", make), replaced(source.Export, "_prepare", make_blind))


def decision_changes() -> Patch:
    """H6: an abort that comes late takes an activation back, in the log too."""

    def make_apply(apply: Callable[..., Outcome]) -> Callable[..., Outcome]:
        def overruling(state: State, area: Any, ks: Any, argv: list[bytes], now_ms: int, index: int) -> Outcome:
            record = state.records.get(argv[1])
            decided = record is not None and record.role == IMPORT and record.phase not in {IMPORTING, EXPORTING}
            outcome = apply(state, area, ks, argv, now_ms, index)
            if argv[0] == entries.ABORT and decided and record is not None:
                record.result = ABORTED
                outcome.done = True
                outcome.record = record
            return outcome

        return overruling

    def make(message: Callable[[Any, int, Any, int], None]) -> Callable[[Any, int, Any, int], None]:
        def hears(self: Any, sender: int, said: Any, now_ms: int) -> None:
            if said.kind == messages.RESOLVE and self.leading and said.mid in self.state.records:
                self.actions.proposals.append(entries.abort(said.mid, sender, said.order, said.runs, said.reason))
            message(self, sender, said, now_ms)

        return hears

    return _all(replaced(applying, "apply", make_apply), replaced(target.Imports, "message", make))


def tombstones_are_forgotten() -> Patch:
    """H7: a migration that was decided may begin again when a message comes late."""

    def make(_: object) -> Callable[[Any, entries.Item], None]:
        def may_import(self: Any, item: entries.Item) -> None:
            for first, last, _ in item.runs:
                for slot in range(first, last + 1):
                    if self.state.own[slot] != NONE:
                        raise Refused("not free")

        return may_import

    def make_find(_: object) -> Callable[[State, bytes], object]:
        return lambda self, mid: self.records.get(mid)

    return _all(replaced(applying._Apply, "_may_import", make), replaced(State, "find", make_find))  # noqa: SLF001


# ---- Who serves ------------------------------------------------------------------------------------------------------


def serves_behind_the_fence() -> Patch:
    """M21: fenced slots are served on until they are given away, by the leader and by the log."""

    def make(apply: Callable[..., Outcome]) -> Callable[..., Outcome]:
        def open_fence(*arguments: Any) -> Outcome:
            outcome = apply(*arguments)
            record = outcome.record
            if outcome.verb == entries.FENCE and outcome.done and record is not None:
                for slot in record.slots():
                    arguments[0].serves[slot] = 1
            return outcome

        return open_fence

    def make_hold(_: object) -> Callable[..., None]:
        def never(self: Exports, record: object, *, held: bool) -> None:
            del self, record, held

        return never

    return _all(replaced(applying, "apply", make), replaced(Exports, "hold", make_hold))
