"""Runs the link to the source on the leader: dials, spools and loads the file, turns the stream into log entries.

What it proposes goes into the engine's batch as items numbered per order (engine/source.py), so that a proposal that
was lost, or made by a leader of yesterday, changes nothing. Rule: the log's state decides where to go on, never what
this object remembers; a new leader starts from there. No slice of work takes more than a few milliseconds, and no more
than ``WINDOW_BYTES`` wait for commit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from durakv.engine import source as states
from durakv.engine.batch import ITEM_IMPORT, Item, Part
from durakv.engine.source import LinkFacts
from durakv.migration.feed import Feed, Garbled, Unfit
from durakv.migration.filling import Filling
from durakv.migration.link import Link
from durakv.migration.psync import Terms
from durakv.observe.events import Notice

if TYPE_CHECKING:
    from durakv.engine.engine import Engine
    from durakv.world.ports import Clock, Disk, Network

TICK_MS: Final = 100
_ACK_TICKS: Final = 10
_CONNECT_TIMEOUT_MS: Final = 5000
_RETRY_MIN_MS: Final = 250
_RETRY_MAX_MS: Final = 5000
# Proposed and not applied yet.
WINDOW_BYTES: Final = 512 << 10
# One item; and what an entry may hold before the next item waits for another one.
ITEM_BYTES: Final = 128 << 10
ENTRY_BYTES: Final = 128 << 10
# Read from the source and not proposed yet.
_READ_BYTES_MAX: Final = 2 << 20
# Of the stream, while the file is loaded.
_TAIL_BYTES_MAX: Final = 64 << 20
_ITEM_OVERHEAD_BYTES: Final = 64
_NS_PER_MS: Final = 1_000_000


class Importer:
    """See the module's text. Implements the link's Owner."""

    def __init__(self, engine: Engine, network: Network, clock: Clock, disk: Disk, directory: str) -> None:
        """``directory``: where files of full synchronisations lie for a while; nothing else may be in it."""
        self.engine = engine
        self.clock = clock
        self.disk = disk
        self.directory = directory
        self._network = network
        assert engine.ks.source is not None, "the engine has it from the start"
        self.source = engine.ks.source
        # Both 0 while this node does not run the link.
        self._term = 0
        self._generation = 0
        self._facts = LinkFacts()
        self._ticking = False
        self._ticks = 0
        self._link: Link | None = None
        self._retry_ms = _RETRY_MIN_MS
        self._retry_at_ns = 0
        # Number of the next item, and (number, bytes) of those that are under way.
        self._seq = 0
        self._under_way: deque[tuple[int, int]] = deque()
        self._under_way_bytes = 0
        self._ignored = 0
        self._proposed_offset = 0
        self._replid = b""
        self._feed: Feed | None = None
        self._filling: Filling | None = None
        # Bytes of the stream that are not looked at yet.
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._heard_ns = 0
        # Why no command behind those that wait can be run.
        self._unfit = ""
        self._pumping = False

    def start(self) -> None:
        """Begin to listen to the log. Call once, before anything is applied."""
        self.source.on_change = self._changed
        self.source.on_cut = self._cut
        # A checkpoint may say that somebody is followed.
        self._changed()

    # -- the log -----------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """In apply: the state has changed."""
        source = self.source
        while self._under_way and self._under_way[0][0] < source.seq and source.generation == self._generation:
            self._under_way_bytes -= self._under_way.popleft()[1]
        if source.active() and not self._ticking:
            self._ticking = True
            self.clock.call_later(TICK_MS, self._tick)
        if self._term and not self._pumping:
            self._pumping = True
            # Not now: the entry is still being applied.
            self.clock.call_soon(self._pump)

    def _may_run(self) -> bool:
        engine = self.engine
        return (
            engine.leading and not engine.stopped and self.source.active()
            and engine.term_start <= engine.applier.applied
        )  # fmt: skip

    def _in_charge(self) -> bool:
        """Whether this run is still the one that may propose."""
        return (
            self._term == self.engine.term > 0 and self._generation == self.source.generation and self._may_run()
        )  # fmt: skip

    def _tick(self) -> None:
        if self.engine.stopped or not (self.source.active() or self._term):
            self._ticking = False
            self._end("")
            return
        self.clock.call_later(TICK_MS, self._tick)
        self._ticks += 1
        if not self._in_charge():
            self._end("")
            if self._may_run():
                self._begin()
        elif self._ignored != self.source.ignored:
            # Something was lost between here and the log; nothing has been applied since.
            self._end("")
            self._begin()
        if not self._term:
            return
        if self._link is None:
            if self._filling is None and not self._under_way and self.clock.monotonic_ns() >= self._retry_at_ns:
                self._dial()
        else:
            self._check_link()
        if self._ticks % _ACK_TICKS == 0:
            self._acknowledge()
        self._pump()

    def _begin(self) -> None:
        engine, source = self.engine, self.source
        self._term = engine.term
        self._generation = source.generation
        self._seq = source.seq
        self._ignored = source.ignored
        self._retry_ms = _RETRY_MIN_MS
        self._retry_at_ns = 0
        self._facts = source.link = LinkFacts()
        self._facts.down_since_ms = self.clock.wall_ms()
        self._facts.read_offset = source.offset

    def _end(self, trouble: str) -> None:
        """This node runs the link no more."""
        self._drop(trouble)
        self._term = self._generation = 0
        self._under_way.clear()
        self._under_way_bytes = 0
        self.source.link = None

    # -- the link ----------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        settings, source = self.engine.settings, self.source
        known = bool(source.replid) and not source.partial
        terms = Terms(
            user=settings.masteruser, password=settings.masterauth, port=settings.port,
            address=settings.cluster_announce_ip, position=(source.replid, source.offset) if known else None,
        )  # fmt: skip
        self._facts.state = "connecting"
        self._link = Link(self, terms)
        self.on_heard()
        self._link.dial(self._network, source.host.decode(), source.port, _CONNECT_TIMEOUT_MS)

    def _check_link(self) -> None:
        """A source that says nothing for long is not there any more."""
        link, limit_s = self._link, int(self.engine.settings.repl_timeout)
        if self._filling is not None and self.engine.disk_refusal is not None:
            self.on_refused("there is too little room for its data: " + self.engine.disk_refusal)
        elif link is not None and (link.paused() or (self._filling is not None and self._filling.whole)):
            # It may have much to say, and is not listened to.
            self._heard_ns = self.clock.monotonic_ns()
        elif self.clock.monotonic_ns() - self._heard_ns > limit_s * 1000 * _NS_PER_MS:
            self.on_refused(f"nothing was heard from it for {limit_s} s (repl-timeout)")

    def _drop(self, trouble: str) -> None:
        """End the connection and forget what came over it."""
        facts = self._facts
        if self._link is not None:
            self._link.drop()
            self._link = None
            if not facts.down_since_ms:
                facts.down_since_ms = self.clock.wall_ms()
        if self._filling is not None:
            self._filling.close()
            self._filling = None
        self._feed = None
        self._tail.clear()
        self._tail_bytes = 0
        self._unfit = ""
        facts.state = "connect"
        facts.trouble = trouble

    def _retry(self, trouble: str) -> None:
        """Try again after a while."""
        told = self._facts.trouble == trouble
        self._drop(trouble)
        self._retry_at_ns = self.clock.monotonic_ns() + self._retry_ms * _NS_PER_MS
        self._retry_ms = min(2 * self._retry_ms, _RETRY_MAX_MS)
        if not told:
            self._note("import-link-down", trouble)

    def _note(self, what: str, detail: str) -> None:
        source = self.source
        self.engine.observer.event(Notice(what, f"{source.host.decode()}:{source.port} {detail}"))

    def on_up(self) -> None:
        """See Owner."""
        self.on_heard()

    def on_heard(self) -> None:
        """See Owner."""
        self._facts.heard_ms = self.clock.wall_ms()
        self._heard_ns = self.clock.monotonic_ns()

    def on_lost(self, reason: str) -> None:
        """See Owner. What has arrived as a whole is loaded all the same, and the stream asked for from there."""
        trouble = f"the connection is gone: {reason}"
        if self._filling is None or not self._filling.whole:
            self._retry(trouble)
            return
        self._link = None
        self._tail.clear()
        self._tail_bytes = 0
        self._facts.trouble = trouble
        self._note("import-link-down", trouble)

    def on_refused(self, reason: str) -> None:
        """See Events."""
        self._retry(reason)

    # -- a full synchronisation ----------------------------------------------------------------------------------------

    def on_full(self, replid: bytes, offset: int) -> None:
        """See Events."""
        self._facts.state = "sync"
        self._facts.sync_read = 0
        self._facts.sync_total = -1
        self._filling = Filling(self, replid, offset)
        self._note("import-full-sync", f"sends all its data, as of byte {offset}")

    def on_file_size(self, size: int) -> None:
        """See Events."""
        self._facts.sync_total = size

    def on_file(self, data: bytes) -> None:
        """See Events."""
        if self._filling is not None:
            self._facts.sync_read += len(data)
            self._filling.take(data)

    def on_file_end(self) -> None:
        """See Events."""
        if self._filling is not None:
            self._facts.sync_total = self._facts.sync_read
            self._filling.complete()

    def pause(self, *, on: bool) -> None:
        """Take nothing from the source for now, or go on."""
        if self._link is not None:
            self._link.pause(on=on)

    def filled(self, replid: bytes, offset: int, db: int) -> None:
        """The file is in the log, but for its end."""
        assert self._filling is not None
        keys = self._filling.keys
        self._filling.close()
        self._filling = None
        self.propose(states.DONE, [], 0, replid, b"%d" % offset, b"%d" % db)
        self._note("import-loaded", f"{keys} keys are in the log; following from byte {offset}")
        if self._link is None:
            self._facts.state = "connect"
            return
        self._stream_from(offset, db)
        assert self._feed is not None
        # Behind a marked file the source sends nothing before it has heard.
        self._feed.ack_wanted = True
        self._pump()

    def stop(self, reason: str) -> None:
        """End the import until somebody orders it anew: trying again would not help."""
        self._drop(reason)
        self.propose(states.STOP, [], 0, reason.encode("utf-8", "backslashreplace"))
        self._note("import-stopped", reason)

    # -- the stream --------------------------------------------------------------------------------------------------

    def on_continue(self, replid: bytes) -> None:
        """See Events."""
        source = self.source
        self._stream_from(source.offset, source.db)
        self._replid = replid
        if replid != source.replid or source.phase != states.STREAMING:
            self.propose(states.FEED, [], 0, replid, b"%d" % source.offset, b"%d" % source.db)
        self._note("import-continued", f"goes on from byte {source.offset}")

    def _stream_from(self, offset: int, db: int) -> None:
        engine = self.engine
        self._feed = Feed(
            engine.table, engine.settings, len(engine.ks.dbs), offset, db, self.clock.wall_ms, self._publish
        )
        self._proposed_offset = offset
        self._retry_ms = _RETRY_MIN_MS
        facts = self._facts
        facts.state = "connected"
        facts.trouble = ""
        facts.down_since_ms = 0
        facts.read_offset = offset

    def _publish(self, channel: bytes, message: bytes, shard: bool) -> None:
        pubsub = self.engine.pubsub
        if shard:
            pubsub.deliver_shard(channel, message)
        else:
            pubsub.deliver(channel, message)
        if pubsub.forward is not None:
            pubsub.forward(channel, message, shard)

    def on_stream(self, data: bytes) -> None:
        """See Events."""
        self._tail.append(data)
        self._tail_bytes += len(data)
        if self._feed is None:
            if self._tail_bytes > _TAIL_BYTES_MAX:
                self.pause(on=True)
            return
        self._pump()

    def _look(self, feed: Feed) -> bool:
        """Cut the next bytes into steps; False when the connection has ended over them."""
        data = self._tail.popleft()
        self._tail_bytes -= len(data)
        if self._unfit:
            return True
        try:
            feed.feed(data)
        except Unfit as error:
            self._unfit = str(error)
        except Garbled as error:
            self._retry(str(error))
            return False
        self._facts.read_offset = feed.offset
        return True

    # -- proposing -----------------------------------------------------------------------------------------------------

    def room(self) -> bool:
        """Whether another item may be proposed now; if not, pump() is called when that may have changed."""
        engine = self.engine
        return (
            self._in_charge() and engine.refusal is None and self._under_way_bytes < WINDOW_BYTES
            and engine.batch.size_bytes < ENTRY_BYTES
        )  # fmt: skip

    def propose(self, verb: bytes, parts: list[Part], size_bytes: int, *rest: bytes) -> None:
        """Add an item to this turn's entry."""
        engine = self.engine
        head = [verb, b"%d" % self._generation, b"%d" % self._seq, *rest]
        item = Item(ITEM_IMPORT, None, None, head, 0, 0, 0)
        item.parts = parts
        size_bytes += _ITEM_OVERHEAD_BYTES
        self._under_way.append((self._seq, size_bytes))
        self._under_way_bytes += size_bytes
        self._seq += 1
        if verb in (states.DONE, states.FEED):
            self._replid = rest[0]
        engine.batch.size_bytes += size_bytes
        engine.internal(item)

    def _pump(self) -> None:
        """Propose what is there, as far as there is room."""
        self._pumping = False
        if not self._in_charge():
            return
        if self._filling is not None:
            self._filling.go_on()
            return
        feed = self._feed
        if feed is None:
            return
        while True:
            while feed.steps and self.room():
                self._propose_steps(feed)
            # What is there goes into an item together, as far as that has room.
            if not self._tail or feed.size_bytes > ITEM_BYTES:
                break
            if not self._look(feed):
                return
        if self._unfit and not feed.steps and self.room():
            self.stop(self._unfit)
            return
        waiting = feed.size_bytes + self._tail_bytes
        if waiting > _READ_BYTES_MAX:
            self.pause(on=True)
        elif waiting < _READ_BYTES_MAX // 4:
            self.pause(on=False)
        if feed.ack_wanted and not feed.steps and not self._tail and not self._under_way:
            feed.ack_wanted = False
            self._acknowledge()

    def _propose_steps(self, feed: Feed) -> None:
        steps = feed.take(ITEM_BYTES)
        parts: list[Part] = []
        size = 0
        for step in steps:
            parts += step.parts
            size += step.size_bytes
        last = steps[-1]
        self._proposed_offset = last.offset
        self.propose(states.FEED, parts, size, self._replid, b"%d" % last.offset, b"%d" % last.db)

    def _acknowledge(self) -> None:
        """Tell the source what is committed; a stream without data is brought up to date first."""
        link, feed = self._link, self._feed
        if link is None:
            return
        if feed is not None:
            if (
                feed.idle()
                and not self._tail
                and not self._unfit
                and feed.offset > self._proposed_offset
                and self.room()
            ):
                self._proposed_offset = feed.offset
                self.propose(states.FEED, [], 0, self._replid, b"%d" % feed.offset, b"%d" % feed.db)
            link.psync.acknowledge(self.source.offset)
        elif self._filling is not None and link.psync.streaming():
            link.psync.keep_alive()
        else:
            return
        link.send()

    def _cut(self) -> None:
        """REPLICAOF NO ONE is about to be logged: everything received goes before it."""
        feed = self._feed
        if feed is None or not self._in_charge():
            return
        while self._tail:
            if not self._look(feed):
                break
        while feed.steps:
            self._propose_steps(feed)
        self._note("import-cut-over", f"{feed.offset} was the last byte received")
