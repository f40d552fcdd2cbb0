"""Stock Redis and Valkey servers that follow this node: who they are, what they are sent, and when.

Any node serves them what it has applied. While there is none, nothing is done for them; the first one makes capture
tell its changes to a feed (effects.py, feed.py), which is kept for a while after the last one left. Replicas that know
deadlines of hash fields have a feed of their own. A full synchronisation is a file of an index (job.py) and the feed
from the end of that index's frame on.
Rule: the only place that writes to a replica's connection. A node whose state was replaced, or that was started again,
has new feeds under new ids: then every replica begins with a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.replica_services import ReplicaFacts, ReplicaRow
from durakv.observe.events import Notice
from durakv.replicas import replica as states
from durakv.replicas.effects import Effects
from durakv.replicas.feed import Feed
from durakv.replicas.job import Form, Job, Made
from durakv.replicas.replica import Announced, Replica, pairs
from durakv.replicas.wire import PING
from durakv.resp.errors import CommandError
from durakv.resp.types import NO_REPLY, OK, Reply

if TYPE_CHECKING:
    from durakv.checkpoint.capture import Capture
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine
    from durakv.keyspace.values.touched import TouchedChunks
    from durakv.replication.checkpoints import Checkpoints

TICK_MS: Final = 1000
# Handed to a connection and not yet taken by the kernel, at most; and read at once.
_UNSENT_BYTES_MAX: Final = 1 << 20
_READ_BYTES: Final = 256 << 10
_PUMP_MS: Final = 5
# One job's file is named by its number; a start removes what an earlier run left.
_FILE_PREFIX: Final = "replica-"
_FILE_SUFFIX: Final = ".rdb"
_REDIS_7_0: Final = 10
_VALKEY_9: Final = 80
_DIGITS_MAX: Final = 19
NOT_SYNCED: Final = "NOMASTERLINK Can't SYNC while this node fetches its data from another member; try again"
REPLICA_ALREADY: Final = "ERR this connection is a replica's already"


class _Group:
    """Replicas that are told the same: their feed and what fills it."""

    def __init__(self, feed: Feed, effects: Effects) -> None:
        self.feed = feed
        self.effects = effects
        self.idle_since_ms = 0


class _Transfer:
    """A file under way for those who wait for it. ``hold`` keeps the feed from where the file may end."""

    def __init__(self, group: _Group, form: Form) -> None:
        self.group = group
        self.hold = group.feed.open(group.feed.offset)
        self.form = form
        self.job: Job
        self.waiting: list[Replica] = []


class Replicas:
    """One node's; implements commands.replica_services.ReplicaService and checkpoint.capture_listener.Listener."""

    def __init__(self, engine: Engine, checkpoints: Checkpoints, directory: str) -> None:
        """``directory``: where files lie while they are sent."""
        self.engine = engine
        self.checkpoints = checkpoints
        self.clock = checkpoints.clock
        self.disk = checkpoints.disk
        self.directory = directory
        self.announced: dict[Session, Announced] = {}
        self.replicas: dict[Session, Replica] = {}
        # False: whoever knows no deadlines of fields.
        self.groups: dict[bool, _Group] = {}
        self.transfers: list[_Transfer] = []
        self.full_syncs = 0
        self.partial_syncs = 0
        self.partial_refusals = 0
        self.last_file = 0
        self.seconds = 0
        self.pumping = False
        self.stopped = False
        self.told_deadlines = False
        # A file is removed when nobody reads it any more: path -> readers.
        self.readers: dict[str, int] = {}

    def start(self) -> None:
        """Remove what an earlier run left, and look after replicas from now on."""
        self.disk.mkdir(self.directory)
        for name in self.disk.listdir(self.directory):
            if name.startswith(_FILE_PREFIX) and name.endswith(_FILE_SUFFIX):
                self.disk.unlink(f"{self.directory}/{name}")
        self.checkpoints.on_new_capture = self.new_capture
        self.clock.call_later(TICK_MS, self._tick)

    def stop(self) -> None:
        """The node stops."""
        self.stopped = True
        for transfer in list(self.transfers):
            transfer.job.cancel("the node stops")

    # -- commands ----------------------------------------------------------------------------------------------------

    def configure(self, s: Session, argv: list[bytes]) -> Reply:
        """REPLCONF. Raises CommandError. Source: replication.c replconfCommand()."""
        announced = self.announced.get(s)
        if announced is None:
            announced = Announced()
        for name, value in pairs(argv):
            if name == b"ack":
                replica = self.replicas.get(s)
                if replica is not None:
                    replica.acknowledge(value, self.clock.wall_ms())
                return NO_REPLY
            if name == b"getack":
                return NO_REPLY
            if name != b"fack" and not announced.option(name, value):
                raise CommandError(f"ERR Unrecognized REPLCONF option: {name.decode('ascii', 'replace')}")
        self.announced[s] = announced
        return OK

    def sync(self, s: Session, argv: list[bytes]) -> Reply:
        """SYNC or PSYNC. Raises CommandError. Source: replication.c syncCommand()."""
        if s in self.replicas:
            raise CommandError(REPLICA_ALREADY)
        if self.stopped or self.checkpoints.paused or self.engine.group().loading:
            raise CommandError(NOT_SYNCED)
        old = argv[0].upper() == b"SYNC"
        wanted = -1 if old else _offset(argv[2])
        announced = self.announced.setdefault(s, Announced())
        group = self._group(knows=announced.knows_field_deadlines())
        replica = Replica(s, announced, group.feed, self.clock.wall_ms(), old=old)
        s.replica = True
        self.replicas[s] = replica
        group.idle_since_ms = 0
        if not old and self._goes_on(replica, argv[1], wanted - 1):
            return NO_REPLY
        self.full_syncs += 1
        self._full(replica, group)
        return NO_REPLY

    def _goes_on(self, replica: Replica, replid: bytes, offset: int) -> bool:
        """A replica whose link broke reads on where it was."""
        feed = replica.feed
        if replid == b"?":
            return False
        if replid != feed.replid or not feed.holds(offset):
            self.partial_refusals += 1
            return False
        self.partial_syncs += 1
        replica.session.write(b"+CONTINUE %b\r\n" % feed.replid)
        replica.acked = offset
        self._online(replica, offset)
        return True

    def forget(self, s: Session) -> None:
        """The connection is gone."""
        self.announced.pop(s, None)
        replica = self.replicas.pop(s, None)
        if replica is None:
            return
        s.replica = False
        if replica.cursor is not None:
            replica.feed.close(replica.cursor)
            replica.cursor = None
        self._close_file(replica)
        for transfer in list(self.transfers):
            if replica in transfer.waiting:
                transfer.waiting.remove(replica)
                if not transfer.waiting:
                    transfer.job.cancel("nobody waits for it any more")

    # -- feeds -------------------------------------------------------------------------------------------------------

    def _group(self, *, knows: bool) -> _Group:
        group = self.groups.get(knows)
        if group is None:
            # From the next frame on, so what came before must be written down.
            self.checkpoints.flush()
            feed = Feed(self.engine.rng.token(20).hex().encode(), int(self.engine.settings.repl_backlog_size))
            effects = Effects(lambda index, data: self._made(feed, index, data), field_deadlines=knows)
            group = self.groups[knows] = _Group(feed, effects)
            self.checkpoints.capture.listener = self
        return group

    def new_capture(self, capture: Capture) -> None:
        """The node's state was replaced: what the feeds said does not lead to it."""
        for transfer in list(self.transfers):
            transfer.job.cancel("this node's data was replaced")
        self.groups.clear()
        for replica in list(self.replicas.values()):
            self._drop(replica, "this node's data was replaced, it begins again with a file")

    def _made(self, feed: Feed, index: int, data: bytes) -> None:
        """A frame of one feed."""
        feed.append(data)
        for transfer in self.transfers:
            if transfer.group.feed is feed:
                feed.marks[index] = feed.offset
                # Whoever begins after this frame has selected nothing.
                transfer.group.effects.select_again()
        if data:
            for replica in list(self.replicas.values()):
                if replica.feed is feed and replica.state == states.ONLINE:
                    self._pump_stream(replica)

    def remapped(self, before: list[int], after: list[int]) -> None:
        """See Listener."""
        for group in self.groups.values():
            group.effects.remapped(before, after)

    def database(self, number: int) -> None:
        """See Listener."""
        for group in self.groups.values():
            group.effects.database(number)

    def changed(
        self, key: bytes, value: object, expire_ms: int, stored_kid: int, stored_chunks: TouchedChunks | None
    ) -> None:
        """See Listener."""
        for group in self.groups.values():
            group.effects.changed(key, value, expire_ms, stored_kid, stored_chunks)

    def patched(self, key: bytes, value: bytearray, numbers: dict[int, None], stored_length: int) -> None:
        """See Listener."""
        for group in self.groups.values():
            group.effects.patched(key, value, numbers, stored_length)

    def beside(self, name: bytes, blob: bytes | None) -> None:
        """See Listener."""
        for group in self.groups.values():
            group.effects.beside(name, blob)

    def frame_ends(self, index: int) -> None:
        """See Listener."""
        for group in list(self.groups.values()):
            group.effects.frame_ends(index)

    # -- full synchronisation ----------------------------------------------------------------------------------------

    def _full(self, replica: Replica, group: _Group) -> None:
        announced = replica.announced
        version = _VALKEY_9 if announced.knows_field_deadlines() else _REDIS_7_0
        form = Form(version, keys=not announced.without_keys, functions=not announced.without_functions)
        for transfer in self.transfers:
            if transfer.group is group and transfer.form.same(form):
                transfer.waiting.append(replica)
                return
        self.checkpoints.flush()
        transfer = _Transfer(group, form)
        transfer.waiting.append(replica)
        self.transfers.append(transfer)
        group.feed.marks[self.checkpoints.capture.index] = group.feed.offset
        group.effects.select_again()
        self.last_file += 1
        path = f"{self.directory}/{_FILE_PREFIX}{self.last_file}{_FILE_SUFFIX}"
        transfer.job = Job(
            self.checkpoints, path, form, lambda made, error: self._file_made(transfer, made, error), fsync=False
        )
        transfer.job.start()

    def _file_made(self, transfer: _Transfer, made: Made | None, error: str) -> None:
        self.transfers.remove(transfer)
        feed = transfer.group.feed
        offset = -1 if made is None else feed.marks.get(made.index, -1)
        if made is not None and offset < 0:
            error = f"the file ends at index {made.index}, where no frame of the stream does"
        if made is not None and offset >= 0:
            # A short file may have been read to its end before the next one begins.
            self.readers[made.path] = 1
            for replica in list(transfer.waiting):
                self._send_file(replica, made, offset)
            self._release(made.path)
        else:
            if transfer.waiting:
                self.engine.observer.event(Notice("replica-sync-failed", f"{error}; its replicas are to ask again"))
            for replica in list(transfer.waiting):
                self._drop(replica, f"no file for a full synchronisation: {error}")
            if self.disk.exists(transfer.job.path):
                self.disk.unlink(transfer.job.path)
        feed.close(transfer.hold)
        if not any(other.group.feed is feed for other in self.transfers):
            feed.marks.clear()

    def _send_file(self, replica: Replica, made: Made, offset: int) -> None:
        replica.cursor = replica.feed.open(offset)
        replica.acked = offset
        replica.file = self.disk.open(made.path)
        replica.file_bytes = made.size
        self.readers[made.path] += 1
        replica.path = made.path
        replica.state = states.SEND
        replica.moved_ms = self.clock.wall_ms()
        replica.session.write(replica.answer_to_full_sync(made.size))
        self._pump_file(replica)

    def _close_file(self, replica: Replica) -> None:
        if replica.file is None:
            return
        replica.file.close()
        replica.file = None
        self._release(replica.path)

    def _release(self, path: str) -> None:
        left = self.readers.pop(path) - 1
        if left:
            self.readers[path] = left
        else:
            self.disk.unlink(path)

    def _online(self, replica: Replica, offset: int) -> None:
        if replica.cursor is None:
            replica.cursor = replica.feed.open(offset)
        replica.state = states.ONLINE
        replica.acked_ms = self.clock.wall_ms()
        self._pump_stream(replica)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _unsent(self, replica: Replica) -> int:
        s = replica.session
        return s.out_bytes + (s.link.waiting_bytes()[1] if s.link is not None else 0)

    def _send(self, replica: Replica) -> None:
        sink = replica.session.sink
        if sink is not None:
            sink.flush()

    def _pump_file(self, replica: Replica) -> None:
        """As much of the file as the connection takes now."""
        while replica.file is not None and self._unsent(replica) < _UNSENT_BYTES_MAX:
            try:
                data = replica.next_of_file(_READ_BYTES)
            except OSError as e:
                self._drop(replica, f"its file cannot be read: {e}")
                return
            if data:
                replica.session.write(data)
                replica.moved_ms = self.clock.wall_ms()
                self._send(replica)
                continue
            self._close_file(replica)
            if replica.announced.rdb_only:
                self.engine.close_client(replica.session)
                return
            self._online(replica, 0)
        self._wake()

    def _pump_stream(self, replica: Replica) -> None:
        """As much of the stream as the connection takes now."""
        cursor = replica.cursor
        assert cursor is not None
        while cursor.offset < replica.feed.offset and self._unsent(replica) < _UNSENT_BYTES_MAX:
            replica.session.write(replica.feed.read(cursor, _READ_BYTES))
            self._send(replica)
            if replica.cursor is None:
                # Sending found the connection gone.
                return
        self._send(replica)
        if cursor.offset < replica.feed.offset:
            self._wake()

    def _wake(self) -> None:
        if not self.pumping and not self.stopped:
            self.pumping = True
            self.clock.call_later(_PUMP_MS, self._pump)

    def _pump(self) -> None:
        self.pumping = False
        for replica in list(self.replicas.values()):
            if replica.state == states.SEND:
                self._pump_file(replica)
            elif replica.state == states.ONLINE and replica.behind_bytes():
                self._pump_stream(replica)

    def _drop(self, replica: Replica, reason: str) -> None:
        facts: dict[str, object] = {"replica": replica.session.address, "reason": reason}
        self.engine.on_event("replica-dropped", facts)
        if replica.session.sink is not None:
            replica.session.sink.kill()
        self.forget(replica.session)

    # -- by the clock ------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.stopped:
            return
        self.clock.call_later(TICK_MS, self._tick)
        self.seconds += 1
        if not self.groups:
            return
        settings = self.engine.settings
        if self.seconds % int(settings.repl_ping_replica_period) == 0:
            self._ping()
        now_ms = self.clock.wall_ms()
        limit = settings.output_limit("slave")
        for transfer in list(self.transfers):
            held = transfer.group.feed.offset - transfer.hold.offset
            if limit[0] and held > limit[0]:
                transfer.job.cancel(
                    f"{held} bytes of stream wait for it, more than {limit[0]} (client-output-buffer-limit replica)"
                )
        for replica in list(self.replicas.values()):
            reason = replica.over_limit(limit, self._unsent(replica), now_ms)
            if reason:
                self.engine.stats.output_buffer_closes += 1
                reason += " (client-output-buffer-limit replica)"
            else:
                reason = self._silent(replica, now_ms, int(settings.repl_timeout))
            if reason:
                self._drop(replica, reason)
        self._groups_without_replicas(now_ms, int(settings.repl_backlog_ttl))

    def _ping(self) -> None:
        """So that replicas see that the link lives: in the stream where they read it, else a line they skip."""
        for group in self.groups.values():
            if any(r.feed is group.feed and r.state == states.ONLINE for r in self.replicas.values()):
                self._made(group.feed, self.checkpoints.capture.index, PING)
        for replica in self.replicas.values():
            if replica.state == states.WAIT:
                replica.session.write(b"\n")
                self._send(replica)

    def _silent(self, replica: Replica, now_ms: int, timeout_s: int) -> str:
        """Why its link counts as dead; empty when it does not."""
        if replica.state == states.SEND and now_ms - replica.moved_ms > timeout_s * 1000:
            return f"it took nothing of its file for {timeout_s} s (repl-timeout)"
        # A replica that loads its file sends line ends.
        heard_ms = max(replica.acked_ms, replica.session.last_ms)
        if replica.state == states.ONLINE and not replica.old and now_ms - heard_ms > timeout_s * 1000:
            return f"it was silent for {timeout_s} s (repl-timeout)"
        return ""

    def _groups_without_replicas(self, now_ms: int, ttl_s: int) -> None:
        for knows, group in list(self.groups.items()):
            if group.effects.deadlines_untold and not self.told_deadlines:
                self.told_deadlines = True
                self.engine.observer.event(
                    Notice("replica-lossy", "a replica does not know deadlines of hash fields (or did not say, by "
                           "REPLCONF version, that it is Valkey 9 or later): fields go there when they expire here, "
                           "but it cannot tell their time to live")
                )  # fmt: skip
            if any(replica.feed is group.feed for replica in self.replicas.values()):
                group.idle_since_ms = 0
            elif not group.idle_since_ms:
                group.idle_since_ms = now_ms
            elif ttl_s and now_ms - group.idle_since_ms > ttl_s * 1000:
                del self.groups[knows]
        if not self.groups:
            self.checkpoints.capture.listener = None

    # -- what INFO and ROLE tell -------------------------------------------------------------------------------------

    def facts(self) -> ReplicaFacts | None:
        """See ReplicaService."""
        if not self.groups:
            return None
        followed = [r.feed for r in self.replicas.values()]
        # With two feeds, one counts for all: the others' replicas are shown as far behind as they are.
        feed = min(self.groups.items(), key=lambda item: (item[1].feed not in followed, item[0]))[1].feed
        now_ms = self.clock.wall_ms()
        out = ReplicaFacts(feed.replid.decode(), feed.offset, feed.start, feed.held_bytes())
        for replica in self.replicas.values():
            offset = max(0, feed.offset - (replica.feed.offset - replica.acked))
            out.rows.append(
                ReplicaRow(replica.host(), replica.announced.port, replica.state, offset, replica.lag_s(now_ms))
            )
        return out


def _offset(text: bytes) -> int:
    """PSYNC's last argument: the next byte wanted, counted from 1. Raises CommandError."""
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _DIGITS_MAX:
        raise CommandError("ERR value is not an integer or out of range")
    return int(text)
