"""Handoffs with one thing wrong each: every one of them must be caught, or the explorer proves nothing.

Where several guards would each catch a mistake, the mutant takes all of them away but the model's own judgement.
"""

import contextlib
from unittest import mock

from durakv.cluster.handoff import apply as applying
from durakv.cluster.handoff import entries, messages, source, target
from durakv.cluster.handoff.apply import _VERBS, Refused, _Apply
from durakv.cluster.handoff.exports import Exports
from durakv.cluster.handoff.state import ABORTED, EXPORTING, FENCED, IMPORT, IMPORTING, NONE
from durakv.cluster.handoff.stream import Stream


def digest_before_fence(stack):
    """All is told as soon as the fence is proposed."""
    go_on = source.Export.go_on

    def eager(self, now_ms):
        go_on(self, now_ms)
        if self.stage == source.FENCING and self.record.phase == EXPORTING:
            self.record.fenced_ms = self.exports.ks.log_ms + 1000
            self._tell(now_ms)
            self.stage = source.FENCING

    stack.enter_context(mock.patch.object(source.Export, "go_on", eager))


def digest_of_unfinished_scan(stack):
    """A session that has not visited every key says that it is complete."""

    def complete(self):
        return not self._dirty and not self._round and not self._wipes

    stack.enter_context(mock.patch.object(Stream, "complete", complete))
    _without_counts(stack)


def blind_source(stack):
    """No mistake yet, only haste: the source streams and fences without a word from the target."""
    prepare = source.Export._prepare

    def hasty(self, now_ms):
        prepare(self, now_ms)
        if self.record.phase == EXPORTING:
            self.stage = source.SCANNING
            self.heard_ms = now_ms

    stack.enter_context(mock.patch.object(source.Export, "_prepare", hasty))


def unknown_is_aborted(stack):
    """A migration the target does not know is answered as aborted, with nothing in its log."""
    resolve = target.Imports._resolve

    def careless(self, sender, message, now_ms):
        if message.mid not in self.state.records:
            self._decided(sender, message.mid, ABORTED, b"not known here")
        else:
            resolve(self, sender, message, now_ms)

    stack.enter_context(mock.patch.object(target.Imports, "_resolve", careless))
    blind_source(stack)


def unfence_by_timeout(stack):
    """A source that waited long enough takes its slots back."""

    def impatient(self, now_ms):
        self._propose(entries.unfence(self.record.mid, b"late"))

    stack.enter_context(mock.patch.object(source.Export, "_resolve", impatient))


def new_key_behind_the_cursor(stack):
    """Only changes of keys that were sent before are sent again."""
    sent = {}
    op = Stream._op

    def noting(self, db, key):
        sent.setdefault(id(self), (self, set()))[1].add((db, key))
        return op(self, db, key)

    def changed(self, slot, db, key):
        if (db, key) in sent.get(id(self), (self, ()))[1]:
            self._dirty[(db, key)] = None

    stack.enter_context(mock.patch.object(Stream, "_op", noting))
    stack.enter_context(mock.patch.object(Stream, "changed", changed))
    _without_counts(stack)


def activation_of_any_session(stack):
    """What one session told activates whatever another has staged."""
    message = target.Imports.message

    def forgiving(self, sender, said, now_ms):
        record = self.state.records.get(said.mid)
        if said.kind == messages.DIGEST and record is not None and record.phase == IMPORTING:
            argv = entries.activate(
                said.mid, record.session, said.f_index, said.time_ms, record.seq, record.chain, said.counts
            )
            self.actions.proposals.append(argv)
            return
        message(self, sender, said, now_ms)

    stack.enter_context(mock.patch.object(target.Imports, "message", forgiving))
    _without_counts(stack)


def late_writes_behind_the_fence(stack):
    """Slots go on being served while they are fenced."""
    fence = _Apply.fence

    def open_fence(self):
        fence(self)
        for slot in self.outcome.record.slots():
            self.state.serves[slot] = 1

    stack.enter_context(mock.patch.dict(_VERBS, {entries.FENCE: open_fence}))
    stack.enter_context(mock.patch.object(Exports, "hold"))


def flush_forgotten(stack):
    """The stream does not say that a database was emptied."""
    stack.enter_context(mock.patch.object(Stream, "flushed"))
    _without_counts(stack)


def tombstones_forgotten(stack):
    """A migration that was decided and confirmed may begin again when a message comes late."""

    def may_import(self, item):
        for first, last, _ in item.runs:
            for slot in range(first, last + 1):
                if self.state.own[slot] != NONE:
                    raise Refused("not free")

    def find(self, mid):
        return self.records.get(mid)

    stack.enter_context(mock.patch.object(_Apply, "_may_import", may_import))
    stack.enter_context(mock.patch.object(applying.State, "find", find))


def decision_changes(stack):
    """An abort takes an activation back."""
    abort = _Apply.abort

    def overruling(self):
        record = self.state.records.get(self.item.mid)
        if record is not None and record.role == IMPORT and record.phase != IMPORTING:
            self.outcome.record = record
            self.end(record, ABORTED, b"overruled")
            return
        abort(self)

    def resolve(self, sender, message, now_ms):
        record = self.state.records.get(message.mid)
        if record is not None and record.result:
            self.actions.proposals.append(
                entries.abort(message.mid, sender, message.order, message.runs, message.reason)
            )

    told = target.Imports.message

    def message(self, sender, said, now_ms):
        if said.kind == messages.RESOLVE and self.leading:
            resolve(self, sender, said, now_ms)
        told(self, sender, said, now_ms)

    stack.enter_context(mock.patch.dict(_VERBS, {entries.ABORT: overruling}))
    stack.enter_context(mock.patch.object(target.Imports, "message", message))


def release_without_decision(stack):
    """The source lets go of the slots as soon as it has told everything."""
    tell = source.Export._tell

    def hasty(self, now_ms):
        tell(self, now_ms)
        if self.stage == source.TOLD and self.record.phase == FENCED:
            self._propose(entries.release(self.record.mid))

    stack.enter_context(mock.patch.object(source.Export, "_tell", hasty))


def _without_counts(stack):
    stack.enter_context(mock.patch.object(applying, "counts_digest", return_value=entries.NO_DIGEST))
    stack.enter_context(mock.patch.object(target, "counts_digest", return_value=entries.NO_DIGEST))
    stack.enter_context(mock.patch.object(Stream, "counts", return_value=entries.NO_DIGEST))


MUTANTS = (
    digest_before_fence,
    digest_of_unfinished_scan,
    unknown_is_aborted,
    unfence_by_timeout,
    new_key_behind_the_cursor,
    activation_of_any_session,
    late_writes_behind_the_fence,
    flush_forgotten,
    tombstones_forgotten,
    decision_changes,
    release_without_decision,
)


@contextlib.contextmanager
def mutated(mutant):
    with contextlib.ExitStack() as stack:
        mutant(stack)
        yield
