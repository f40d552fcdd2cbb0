"""All exports of a group, on its leader: one driver each, what the gate has to hold back, and the answers to targets.

Rule: the one door of the source's side: the host calls nothing else of it. What drivers want done gathers in
``actions``; what they may know comes through here.
"""

from __future__ import annotations

from durakv.cluster.handoff import actions, entries, messages
from durakv.cluster.handoff.actions import Actions, Limits, Notice
from durakv.cluster.handoff.apply import LOST, RESUMED, Outcome
from durakv.cluster.handoff.entries import Runs
from durakv.cluster.handoff.messages import Message
from durakv.cluster.handoff.source import FENCING, TOLD, Export
from durakv.cluster.handoff.state import EXPORT, FENCED, ONGOING, Record, State
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.slots import SLOTS, slot_of


class Exports:
    """All exports of the group, on its leader. ``held[slot]``: 1 when a fence on the slot may be in the log.

    The gate admits a command on a slot when ``state.serves[slot]`` and not ``held[slot]``. ``now_ms`` is everywhere
    Unix time of a clock that never steps back.
    """

    def __init__(self, state: State, ks: Keyspace, limits: Limits, actions_: Actions) -> None:
        self.state = state
        self.ks = ks
        self.limits = limits
        self.actions = actions_
        self.held = bytearray(SLOTS)
        # Slots whose changes somebody wants to hear of.
        self.watched = bytearray(SLOTS)
        self.drivers: dict[bytes, Export] = {}
        self.leading = False
        self._term = 0
        self._attempts = 0

    # -- leadership -------------------------------------------------------------------------------------------------

    def lead(self, term: int, now_ms: int) -> None:
        """This node leads: go on with every export, each in a new session."""
        self.retire()
        self.leading = True
        self._term = term
        for record in self.state.active(EXPORT):
            self._start(record, now_ms)

    def retire(self) -> None:
        """This node leads no longer; clients that are parked here are the host's to close."""
        self.leading = False
        self.drivers.clear()
        self.held[:] = bytes(SLOTS)
        self.watched[:] = bytes(SLOTS)

    # -- orders -----------------------------------------------------------------------------------------------------

    def begin(self, mid: bytes, target: int, runs: Runs) -> None:
        """Propose a migration; it is ordered once its EXPORT_BEGIN has taken effect."""
        self.actions.proposals.append(entries.export_begin(mid, target, runs))

    def cancel(self, mid: bytes, now_ms: int) -> bool:
        """Cancel an export, or find out that it is too late; False when there is none. Its end tells which."""
        driver = self.drivers.get(mid)
        if driver is None:
            return False
        driver.cancelling = True
        driver.go_on(now_ms)
        return True

    # -- events -----------------------------------------------------------------------------------------------------

    def applied(self, outcome: Outcome, now_ms: int) -> None:
        """A handoff item of the log was applied here."""
        if not self.leading:
            return
        driver = self.drivers.get(outcome.mid)
        verb = outcome.verb
        if verb == entries.EXPORT_BEGIN:
            if outcome.done and outcome.record is not None:
                self._start(outcome.record, now_ms)
        elif driver is None:
            return
        elif verb == entries.FENCE:
            if outcome.done:
                # Also a fence of an earlier leader's.
                self.hold(driver.record, held=True)
                driver.fenced(now_ms)
        elif outcome.done and driver.record.result != ONGOING:
            self._end(driver, outcome)

    def changed(self, keys: list[tuple[int, bytes]], flushed: list[int], now_ms: int) -> None:
        """An entry was applied: (database, key) of all it changed, and databases it emptied, by number."""
        if not self.drivers:
            return
        for db in flushed:
            for driver in self.drivers.values():
                driver.stream.flushed(db)
        watched = self.watched
        for db, key in keys:
            slot = slot_of(key)
            if watched[slot]:
                self._changed(slot, db, key, now_ms)

    def _changed(self, slot: int, db: int, key: bytes, now_ms: int) -> None:
        for mid, driver in self.drivers.items():
            if driver.record.covers(slot):
                if driver.stage == TOLD:
                    # Nothing may change behind a fence; should it have, then what was told is not what is here.
                    self.drivers[mid] = self._driver(driver.record, now_ms)
                    self.notice(actions.ALARM, driver.record, text=f"a key of the fenced slot {slot} was changed")
                else:
                    driver.stream.changed(slot, db, key)
                return

    def message(self, sender: int, message: Message, now_ms: int) -> None:
        """From the leader of group ``sender``."""
        if not self.leading:
            return
        if message.kind == messages.QUERY:
            self._answer(sender, message)
            return
        driver = self.drivers.get(message.mid)
        if driver is not None and driver.record.peer == sender:
            driver.on_message(message, now_ms)

    def wants_turn(self) -> bool:
        """Whether tick() should be called in the next turn of the loop, and not only after some milliseconds."""
        for driver in self.drivers.values():
            if driver.wants_turn():
                return True
        return False

    def tick(self, now_ms: int) -> None:
        """Time has passed; call it every few milliseconds while there are drivers, see wants_turn()."""
        for driver in list(self.drivers.values()):
            driver.go_on(now_ms)

    # -- for drivers ------------------------------------------------------------------------------------------------

    def may_fence(self, driver: Export, now_ms: int) -> bool:
        """One fence at a time, so that pauses do not add up; one that hangs does not hold up the others."""
        for other in self.drivers.values():
            if other is driver:
                continue
            if other.stage == FENCING:
                return False
            if other.record.phase == FENCED and now_ms - other.fenced_ms < self.limits.fenced_ms_max:
                return False
        return True

    def hold(self, record: Record, *, held: bool) -> None:
        """Admit nothing on the slots of a migration, or admit it again."""
        for first, last, _ in record.runs:
            self.held[first : last + 1] = (b"\x01" if held else b"\x00") * (last + 1 - first)

    def notice(self, kind: str, record: Record, *, delay_ms: int = 0, text: str = "") -> None:
        """Tell the host."""
        self.actions.notices.append(Notice(kind, record.mid, record.runs, delay_ms=delay_ms, text=text))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _driver(self, record: Record, now_ms: int) -> Export:
        self._attempts += 1
        return Export(self, record, (self._term, self._attempts), now_ms)

    def _start(self, record: Record, now_ms: int) -> None:
        driver = self._driver(record, now_ms)
        self.drivers[record.mid] = driver
        for first, last, _ in record.runs:
            self.watched[first : last + 1] = b"\x01" * (last + 1 - first)
        if record.phase == FENCED:
            self.hold(record, held=True)
        driver.go_on(now_ms)

    def _end(self, driver: Export, outcome: Outcome) -> None:
        record = driver.record
        del self.drivers[record.mid]
        driver.throttle(0)
        held = self.held[record.runs[0][0]]
        self.hold(record, held=False)
        for first, last, _ in record.runs:
            self.watched[first : last + 1] = bytes(last + 1 - first)
        if outcome.serving == LOST:
            self.notice(actions.MOVED, record)
        elif outcome.serving == RESUMED or held:
            self.notice(actions.SERVE, record)
        self._send_status(record.peer, record.mid, self._status(record.mid, record.order, record.runs))

    def _answer(self, sender: int, query: Message) -> None:
        status = self._status(query.mid, query.order, query.runs)
        if status >= 0:
            self._send_status(sender, query.mid, status)

    def _status(self, mid: bytes, order: int, runs: Runs) -> int:
        """What the log says of a migration as far as it was applied here, -1 when that is not far enough to tell.

        None of the answers but ACTIVE can become wrong, so a leader that was deposed may give them too.
        """
        record = self.state.records.get(mid)
        if record is not None:
            return messages.ACTIVE if record.role == EXPORT else -1
        if self.state.applied < order:
            return -1
        for first, _, epoch in runs:
            if self.state.epochs[first] > epoch + 1:
                return messages.FORCED
        return messages.GONE

    def _send_status(self, group: int, mid: bytes, status: int) -> None:
        message = Message(messages.STATUS, mid)
        message.status = status
        self.actions.messages.append((group, message))
