"""Scripted lives of the production storage: what happens, in which order, on any disk.

Rule: a script says only what a node's driver could ask of the storage, and marks what it asked and what it was told.
It must not know crash states. Each has a name, under which failures are reported and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from durakv.checkpoint.place import read_current
from durakv.storage.entries import frame_body
from durakv.storage.record import HEADER_BYTES, crc, next_chain
from durakv.storage.segment import Covered
from jstyle.crash import standin
from jstyle.crash.ledger import ACK, BOUNDARY, ISSUE, VOTE, VOTE_ACK, Ballot, History, Key, Ledger
from jstyle.crash.node import DrivenDisk, OpenNode, Settings, entries_of, payload
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.states import Medium
from jstyle.crash.trace import WRITE, Event, Image

# Where a recorded run lives; the parent exists before.
PARENT: Final = "/w"
DIRECTORY: Final = "/w/d"
EMPTY: Final = Image({}, (PARENT,))
_ROOMY: Final = Settings(segment_bytes=5000)


class Stage(DrivenDisk, Protocol):
    """A disk that hears marks and survives its process. ``elsewhere``: another process than the node's calls it."""

    elsewhere: bool

    def mark(self, label: str, *value: int) -> None: ...

    def forget_process(self) -> None: ...


class Life:
    """One node's life on a stage, with its ledger. ``errors`` counts operations answered with an error."""

    def __init__(self, stage: Stage, directory: str, settings: Settings, ledger: Ledger) -> None:
        self.stage = stage
        self.directory = directory
        self.settings = settings
        self.ledger = ledger
        self.errors = 0
        self.boots = 0
        self.node: OpenNode

    def boot(self) -> OpenNode:
        """Open the store, as a starting process does."""
        self.boots += 1
        # Boots of the origin have small numbers too, and salts must not repeat.
        boot = self.boots + 10 * len(self.ledger.histories[0])
        self.node = OpenNode(self.stage, self.directory, self.settings, boot=boot)
        if self.settings.checkpoints and read_current(self.stage, self.directory) is None:
            self._beside(lambda: standin.found(self.stage, self.directory))
        self.stage.mark(BOUNDARY, self.boots)
        return self.node

    def append(self, *keys: Key) -> None:
        """Ask for entries; marks the acknowledgement when it comes."""
        number = self._issue(keys)
        self.node.log.append(entries_of(keys), self._done(number))

    def append_inline(self, *keys: Key) -> None:
        """As ``append``, on the calling thread if the lane is idle."""
        number = self._issue(keys)
        self.node.log.append_inline(entries_of(keys), self._done(number))

    def vote(self, term: int, voted_for: int, *, inline: bool = False) -> None:
        """Ask for a term and vote, with the hints a driver adds."""
        number = self.ledger.vote((term, voted_for))
        self.stage.mark(VOTE, number)
        log, hard = self.node.log, self.node.store.hard
        state = hard.current.voted(term, voted_for, synced_hint=log.synced_hint())
        if inline:
            self._heard_vote(number, hard.write_inline(state))
        else:
            hard.write(state, partial(self._heard_vote, number))

    def save(self, upto: int, *, keep_bytes: int = 0, archive: str = "") -> None:
        """The materialiser brings the checkpoint to entry ``upto``, and the log forgets what that covers."""
        log = self.node.log
        if self.node.fatal or log.durable_index() < upto:
            return
        covered = Covered(upto, log.term(upto), log.chain(upto))
        self._beside(lambda: standin.commit(self.stage, self.directory, self.ledger.histories[-1][:upto], covered))
        log.drop_through(upto, keep_bytes, archive)

    def install(self, *keys: Key) -> bool:
        """A snapshot that holds these entries, from the first on, arrives and takes the place of the log; False when
        the node's process has ended before.
        """
        if self.node.fatal:
            return False
        assert self.node.log.idle(), "a snapshot is installed when nothing is on its way to the disk"
        number = self._issue(keys)
        chain = 0
        for index, term, _, kind, data in keys:
            chain = next_chain(chain, index, term, crc(frame_body(kind, data)))
        covered = Covered(keys[-1][0], keys[-1][1], chain)
        self._beside(lambda: standin.receive(self.stage, self.directory, keys, covered))
        self._beside(lambda: standin.unpack(self.stage, self.directory))
        heard = self._done(number)

        def begun(error: OSError | None) -> None:
            if error is None:
                self._beside(lambda: standin.forget_others(self.stage, self.directory))
            heard(error)

        self.node.log.begin_after(covered, begun)
        return True

    def _beside(self, work: Callable[[], None]) -> None:
        """Calls whose failure does not end the log: the node starts what makes them again, or says why not."""
        self.stage.elsewhere = True
        work()
        self.stage.elsewhere = False

    def settle(self, idle_ms: int = 0) -> None:
        """Let the disk finish, then time pass."""
        self.node.settle()
        if idle_ms:
            self.node.clock.advance(idle_ms)
            self.node.settle()
        if self.node.log.lazy() and not self.node.fatal:
            self.stage.mark(ACK, len(self.ledger.histories) - 1, self.node.log.durable_index())

    def stop(self) -> None:
        """Stop cleanly."""
        self.node.store.close(self._heard_close)
        self.node.settle()
        self.stage.forget_process()

    def _issue(self, keys: Sequence[Key]) -> int:
        number = self.ledger.extend(keys)
        self.stage.mark(ISSUE, number)
        return number

    def _done(self, number: int) -> Callable[[OSError | None], None]:
        length = len(self.ledger.histories[number])

        def done(error: OSError | None) -> None:
            if error is not None:
                self.errors += 1
            elif not self.node.log.lazy():
                # A lazy log answers before its disk did; what it promises is said in ``settle``.
                self.stage.mark(ACK, number, length)

        return done

    def _heard_vote(self, number: int, error: OSError | None) -> None:
        if error is None:
            self.stage.mark(VOTE_ACK, number)
        else:
            self.errors += 1

    def _heard_close(self, error: OSError | None) -> None:
        if error is not None:
            self.errors += 1


class Origin:
    """The disk a script starts from: its image, the log it recovers to, the ballots it has seen, and how many entries
    were acknowledged.
    """

    __slots__ = ("acked", "ballots", "held", "image")

    def __init__(self, image: Image, held: History = (), ballots: Sequence[Ballot] = ((0, 0),), acked: int = 0) -> None:
        self.image = image
        self.held = held
        self.ballots = ballots
        self.acked = acked


def _nothing() -> Origin:
    return Origin(EMPTY)


class Script:
    """A named life. ``origin`` makes what is on the disk before; ``play`` does what follows the first boot.

    ``faulty``: an error of any call must end the node or be waited for, as ``faults.py`` wants it.
    """

    __slots__ = ("about", "faulty", "name", "origin", "play", "settings")

    def __init__(
        self,
        name: str,
        about: str,
        settings: Settings,
        play: Callable[[Life], None],
        origin: Callable[[], Origin] = _nothing,
        *,
        faulty: bool = True,
    ) -> None:
        self.faulty = faulty
        self.name = name
        self.about = about
        self.settings = settings
        self.play = play
        self.origin = origin

    def life(self, stage: Stage, directory: str = DIRECTORY) -> Life:
        """A life on a stage that holds this script's origin, before its first boot."""
        origin = self.origin()
        return Life(stage, directory, self.settings, Ledger(origin.held, origin.ballots))

    def run(self, stage: Stage, directory: str = DIRECTORY) -> Life:
        """Live the whole life."""
        life = self.life(stage, directory)
        self.perform(life)
        return life

    def perform(self, life: Life) -> None:
        """Boot and play."""
        life.boot()
        self.play(life)


def _bootstrap(life: Life) -> None:
    life.vote(1, 7)
    life.settle()
    life.append((1, 1, 0, 1, b""))
    life.settle()
    life.stop()
    life.boot()
    life.append(payload(2, 1, 40))
    life.settle()


def _rotate(life: Life) -> None:
    life.vote(1, 7)
    life.settle()
    index = 1
    for size in (20, 700, 30, 900, 10):
        life.append(payload(index, 1, size), payload(index + 1, 1, size // 2 + 8))
        life.settle(25)
        index += 2
    life.append(payload(index, 1, 5000), payload(index + 1, 1, 10))
    life.settle()
    life.append(*[payload(number, 1, 1200) for number in range(index + 2, index + 5)])
    life.settle(25)
    life.stop()
    life.boot()
    life.append(payload(index + 5, 1, 50))
    life.settle()


def _votes(life: Life) -> None:
    index = 0
    for term in range(1, 7):
        life.vote(term, 0 if term % 2 else 8)
        if term % 2:
            life.settle()
            life.vote(term, 7)
        index += 1
        life.append((index, term, 0, 1, b""))
        life.settle(25 if term == 3 else 0)
        life.node.log.set_committed(index)
    life.vote(7, 9)
    life.vote(8, 7)
    life.settle()
    life.stop()
    life.boot()
    life.vote(9, 7, inline=True)
    life.vote(9, 7)
    life.settle()


def _conflict(life: Life) -> None:
    life.vote(1, 7)
    life.settle()
    life.append(*[payload(number, 1, 300) for number in range(1, 8)])
    life.settle(25)
    life.node.log.set_committed(2)
    # Within the tail segment, then across two older ones.
    life.append(payload(7, 2, 200), payload(8, 2, 900))
    life.settle()
    life.append(*[payload(number, 2, 900) for number in range(9, 12)])
    life.settle()
    life.vote(3, 9)
    life.append(payload(4, 3, 500), payload(5, 3, 40))
    life.settle(25)
    # A cut while the entries it removes are on their way, and one of entries that never left memory.
    life.append(payload(6, 3, 600))
    life.append(payload(7, 3, 600))
    life.append(payload(6, 4, 30), payload(7, 4, 2500))
    life.append(payload(7, 5, 64))
    life.settle()
    life.vote(5, 8)
    life.settle()
    # The whole tail rewritten after a restart.
    life.stop()
    life.boot()
    life.append(payload(3, 6, 100))
    life.settle()


def _group(life: Life) -> None:
    life.vote(1, 7)
    index = 0
    for burst in (3, 7, 5):
        for _ in range(burst):
            index += 1
            life.append(payload(index, 1, 90 + 60 * (index % 5)))
        life.vote(1, 7)
        life.settle(25 if burst == 7 else 0)
    life.node.log.set_committed(index)
    life.vote(2, 9)
    life.append(payload(index + 1, 2, 1700), payload(index + 2, 2, 1700))
    life.append(payload(index + 3, 2, 16))
    life.settle()


def _inline(life: Life) -> None:
    life.vote(1, 7, inline=True)
    index = 0
    for size in (30, 600, 800, 20, 1900):
        index += 1
        life.append_inline(payload(index, 1, size))
        life.append_inline(payload(index + 1, 1, 25))
        index += 1
        life.settle(25 if size == 800 else 0)
    life.append_inline(payload(6, 2, 700), payload(7, 2, 700))
    life.append_inline(payload(8, 2, 20))
    life.settle()


def _torn_origin() -> Origin:
    """A node whose power failed while a group of entries was being written: two arrived, the rest is junk."""
    disk = RecordingDisk(EMPTY)
    life = Life(disk, DIRECTORY, _ROOMY, Ledger())
    life.boot()
    life.vote(1, 7)
    life.append(*[payload(number, 1, 300) for number in range(1, 9)])
    life.settle()
    acked = 8
    life.append(*[payload(number, 1, 90) for number in range(9, 13)])
    life.settle()
    events = disk.trace.events
    writes = [
        at for at, event in enumerate(events) if event.kind == WRITE and event.path.startswith(f"{DIRECTORY}/log")
    ]
    last = writes[-1]
    medium = Medium(disk.trace.start)
    for event in events[:last]:
        medium.feed(event)
    torn = events[last]
    frame = HEADER_BYTES + 90
    kept = 2 * frame + 50
    junk = bytes(byte ^ 0x5A for byte in torn.data[kept:])
    write = Event(WRITE, torn.path, torn.inode, offset=torn.offset, data=torn.data[:kept] + junk)
    image = medium.image([*medium.pending, write])
    return Origin(image, life.ledger.histories[-1][:10], life.ledger.ballots, acked)


def _aftermath(life: Life) -> None:
    life.append(payload(11, 1, 120), payload(12, 1, 30))
    life.settle()
    life.vote(2, 9)
    life.append(payload(10, 2, 2100), payload(11, 2, 60))
    life.settle(25)


def _lazy(life: Life) -> None:
    life.vote(1, 7)
    life.settle()
    index = 0
    for round_number in range(4):
        for size in (40, 500, 90):
            index += 1
            life.append(payload(index, 1, size))
        life.settle(1000 if round_number % 2 else 0)
    life.append(payload(index - 1, 2, 400))
    life.settle()
    life.stop()


def _truncate(life: Life) -> None:
    life.vote(1, 7)
    life.append(*[payload(index, 1, 520) for index in range(1, 8)])
    life.settle()
    life.node.log.set_committed(7)
    life.save(5)
    life.settle()
    life.append(*[payload(number, 1, 300) for number in range(8, 13)])
    life.settle(25)
    life.node.log.set_committed(12)
    life.vote(2, 9)
    life.settle()
    life.save(11, keep_bytes=2100)
    life.settle()
    life.append(payload(13, 1, 700), payload(14, 1, 40))
    life.settle()
    life.append(payload(14, 2, 900), payload(15, 2, 300))
    life.settle()
    life.node.log.set_committed(15)
    life.save(15)
    life.settle()
    life.stop()
    life.boot()
    life.append(payload(16, 3, 50))
    life.settle()


def _archive(life: Life) -> None:
    archive = f"{life.directory}/archive"
    life.vote(1, 7)
    life.append(*[payload(index, 1, 520) for index in range(1, 8)])
    life.settle()
    life.save(4, archive=archive)
    life.settle()
    life.append(payload(8, 1, 1500))
    life.settle()
    life.save(7, archive=archive)
    life.settle()


def _install(life: Life) -> None:
    life.vote(1, 7)
    early = [payload(index, 1, 520) for index in range(1, 7)]
    life.append(*early)
    life.settle(25)
    life.node.log.set_committed(4)
    life.save(4)
    life.settle()
    life.vote(3, 8)
    life.settle()
    # What was not committed here has become something else meanwhile.
    later = [payload(index, 3, 60) for index in range(6, 13)]
    if not life.install(*early[:5], *later):
        return
    life.settle()
    life.append(payload(13, 3, 900), payload(14, 3, 900))
    life.settle()
    life.node.log.set_committed(14)
    life.stop()
    life.boot()
    whole = (*early[:5], *later, payload(13, 3, 900), payload(14, 3, 900))
    if not life.install(*whole, *[payload(index, 4, 25) for index in range(15, 21)]):
        return
    life.settle()
    life.append(payload(21, 4, 40))
    life.settle()


_KEEPING: Final = Settings(checkpoints=True)

SCRIPTS: Final[Sequence[Script]] = (
    Script("bootstrap", "a directory is created, used, closed, opened", Settings(reserve_bytes=4096), _bootstrap),
    Script("rotate", "segments fill, seal and follow each other; oversize entries; restart", Settings(), _rotate),
    Script("votes", "term and vote change among appends, with hints", Settings(), _votes),
    Script("conflict", "later leaders replace suffixes, across segments and in flight", Settings(), _conflict),
    Script("group", "bursts gather into batches of limited size", Settings(batch_bytes_max=700), _group),
    Script("inline", "appends and votes on the calling thread", Settings(), _inline),
    Script("aftermath", "recovery of a torn tail, and life behind it", _ROOMY, _aftermath, _torn_origin),
    Script("everysec", "one sync a second: only a suffix may go", Settings(sync="everysec"), _lazy),
    Script("nosync", "no syncs but those of rotation and stop", Settings(sync="no"), _lazy),
    Script("truncate", "the log forgets what a checkpoint covers, keeps some of it, and goes on", _KEEPING, _truncate),
    Script(
        "archive",
        "what the log forgets gets a second name first",
        _KEEPING,
        _archive,
        faulty=False,
    ),
    Script("install", "snapshots take the place of log and checkpoint", _KEEPING, _install),
)


def script_named(name: str) -> Script:
    """Raises KeyError with the names there are."""
    for script in SCRIPTS:
        if script.name == name:
            return script
    raise KeyError(f"no trace {name!r}; there are {', '.join(script.name for script in SCRIPTS)}")
