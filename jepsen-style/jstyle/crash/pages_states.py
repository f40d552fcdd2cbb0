"""Files that a power cut or a lying disk could leave of a checkpoint's commit, and what a start makes of each.

Rule: ``words`` names every state of a commit in a short word, ``build`` makes the file, ``Judge`` opens it with the
production code alone. A word is ``HEAD/DATA``. HEAD: ``old``, ``new``, ``cut:N`` the first N bytes of the new one,
``tail:N`` the old one's first N and then the new one. DATA: ``all``, ``none``, ``but:N`` all written pages but the
N-th, ``only:N``, ``upto:N``, ``mask:BITS`` exactly those, ``zero:N`` or ``junk:N`` in place of the N-th, ``some:K``
random subset K, torn by sector, and ``short`` all, but the file did not grow.

Checks: C2 whatever opens holds exactly the state of one commit, and its rows and sums are right; D1 a disk that keeps
its word about syncs has the commit before or this one, whole, and never the one before once this one was synced;
ONWARD the materialiser goes on from there; P9 what does not open is refused by name; P2 LMDB writes as is taken for
granted here. A disk that lies about syncs may be refused, or have a commit that is older still: those are counted as
``unprovable``, for it is the log, shortened for a newer one, that has to notice (storage/recovery.py).
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time
from types import TracebackType
from typing import Final

from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.kv import KvStore
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser
from durakv.checkpoint.meta import read_meta
from durakv.checkpoint.place import DATA_NAME, open_checked
from durakv.checkpoint.verify import verify_environment
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from jstyle.crash.campaign import Tally
from jstyle.crash.judge import Finding
from jstyle.crash.pages import DATABASES, PAGE_BYTES, Commit, State, protocol_broken, recorded
from jstyle.crash.states import SECTOR_BYTES

NAME: Final = "checkpoint"
ABOUT: Final = "pages of each LMDB commit of a checkpoint, lost, torn and mixed"
SUBSETS_MAX: Final = 6
# A head page says nothing behind the first 152 bytes; cuts in there are not on sector edges.
_HEAD_CUTS: Final = (16, 24, 88, 136, 144, 152, SECTOR_BYTES)
# Of commits that write more pages than this, this many are looked at one by one.
_SINGLE_MAX: Final = 6
_ENUMERATED_MAX: Final = 4


def words(commit: Commit, subsets: int) -> Iterator[str]:
    """The words of all states to try."""
    count = len(commit.written())
    dice = random.Random(f"{commit.name}/{commit.new[0]}")
    singles = sorted(dice.sample(range(count), min(count, _SINGLE_MAX)))
    yield from ("old/none", "old/all", "new/none", "new/all")
    for number in singles:
        yield from (f"{head}/{kind}:{number}" for head in ("old", "new") for kind in ("but", "only"))
        yield f"old/junk:{number}"
        yield f"new/zero:{number}"
    if count > _SINGLE_MAX:
        yield from (f"{head}/upto:{singles[_SINGLE_MAX // 2]}" for head in ("old", "new"))
    elif count <= _ENUMERATED_MAX:
        yield from (f"{head}/mask:{number}" for head in ("old", "new") for number in range(1, 2**count - 1))
    for number in range(subsets):
        yield from (f"old/some:{number}", f"new/some:{number}")
    if len(commit.after) > len(commit.before):
        yield from ("old/short", "new/short")
    for size in _HEAD_CUTS:
        yield from (f"cut:{size}/all", f"tail:{size}/all")


def build(commit: Commit, word: str) -> bytes:
    """The file. Raises ValueError for a word that names nothing here."""
    head, _, data = word.partition("/")
    image = bytearray(commit.before)
    size = len(commit.before) if data == "short" else max(len(commit.before), len(commit.after))
    image.extend(bytes(max(size - len(image), 0)))
    for number, content in _pages(commit, data):
        at = number * PAGE_BYTES
        if at + PAGE_BYTES <= size:
            image[at : at + PAGE_BYTES] = content
    at = commit.head() * PAGE_BYTES
    image[at : at + PAGE_BYTES] = _head(commit, head)
    return bytes(image)


def _head(commit: Commit, word: str) -> bytes:
    old, new = (commit.page(commit.head(), new=which) for which in (False, True))
    kind, _, size = word.partition(":")
    if kind == "old":
        return old
    if kind == "new":
        return new
    if kind not in ("cut", "tail") or not size.isdigit():
        raise ValueError(f"no head {word!r}")
    first, rest = (new, old) if kind == "cut" else (old, new)
    return first[: int(size)] + rest[int(size) :]


def _pages(commit: Commit, word: str) -> Iterator[tuple[int, bytes]]:
    """The written pages that arrived, whole or not."""
    written = commit.written()
    kind, _, place = word.partition(":")
    if kind in ("but", "only", "upto", "zero", "junk") and not (place.isdigit() and int(place) < len(written)):
        raise ValueError(f"no state {word!r} here: {len(written)} pages were written")
    at = int(place or 0)
    dice = random.Random(f"{commit.name}/{commit.new[0]}/{word}")
    for number, page in enumerate(written):
        new = commit.page(page, new=True)
        if kind in ("all", "short"):
            yield page, new
        elif kind == "but":
            if number != at:
                yield page, new
        elif kind == "only":
            if number == at:
                yield page, new
        elif kind == "upto":
            if number <= at:
                yield page, new
        elif kind == "mask":
            if at >> number & 1:
                yield page, new
        elif kind in ("zero", "junk"):
            lost = bytes(PAGE_BYTES) if kind == "zero" else hashlib.shake_128(b"stale").digest(PAGE_BYTES)
            yield page, lost if number == at else new
        elif kind == "some":
            yield page, _torn(commit.page(page, new=False), new, dice)
        elif kind != "none":
            raise ValueError(f"no state {word!r}")


def _torn(old: bytes, new: bytes, dice: random.Random) -> bytes:
    """A page of which some sectors arrived, or all, or none."""
    share = dice.choice((0.0, 0.5, 1.0, 1.0))
    sectors = range(0, PAGE_BYTES, SECTOR_BYTES)
    return b"".join((new if dice.random() < share else old)[at : at + SECTOR_BYTES] for at in sectors)


class Opened:
    """What a start made of a file: the state it holds, or why it is refused; ``wrong`` when it opened and lies."""

    __slots__ = ("refused", "state", "wrong")

    def __init__(self, state: State | None, refused: str, wrong: str = "") -> None:
        self.state = state
        self.refused = refused
        self.wrong = wrong


class Judge:
    """Opens files in a directory of its own; the same file is opened once. Use as a context manager."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="jstyle-pages-")
        self._disk = RealDisk(_nothing_is_queued)
        self._known: dict[bytes, Opened] = {}
        self._count = 0

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._disk.close()
        self._place.cleanup()

    @property
    def distinct(self) -> int:
        """How many different files were opened."""
        return len(self._known)

    def opened(self, image: bytes) -> Opened:
        """As a starting server opens it, and as ``durakv-cli verify`` looks at it."""
        key = hashlib.blake2b(image, digest_size=16).digest()
        if key not in self._known:
            folder = self._laid_out(image)
            self._known[key] = self._open(folder)
            self._clear(folder)
        return self._known[key]

    def goes_on(self, image: bytes, commit: Commit) -> str:
        """What is wrong when the materialiser goes on from a file in the commit's old state; empty when nothing is."""
        folder = self._laid_out(image)
        try:
            kv = open_checked(self._disk, open_kv, str(folder), write=True)
            try:
                keeper = Materialiser(kv)
                reader = FrameReader("stream")
                reader.feed(commit.frames)
                frame = reader.next()
                assert frame is not None, "a commit of frames has one"
                keeper.apply(frame)
                keeper.commit()
            finally:
                kv.close()
            after = self._open(folder)
        finally:
            self._clear(folder)
        if after.state != commit.new:
            return f"the next commit from there leads to {after.state or after.refused}, not {commit.new}"
        return after.wrong

    def _open(self, folder: Path) -> Opened:
        try:
            kv = open_checked(self._disk, open_kv, str(folder), write=False)
            try:
                keyspace = Keyspace(DATABASES)
                # One that was made and holds nothing is what a node without entries has.
                index = load(kv, keyspace, _ignored).applied.index if _has_facts(kv) else 0
            finally:
                kv.close()
        except FileNotFoundError as error:
            # A start says of it that the environment CURRENT names is not there (replication/resuming.py).
            return Opened(None, str(error))
        except (CheckpointDamaged, CheckpointUnfit) as error:
            found = verify_environment(self._disk, open_kv, str(folder)).findings
            return Opened(None, str(error), "" if found else f"verify finds nothing, but a start says: {error}")
        state = index, digest(keyspace).hex()
        found = verify_environment(self._disk, open_kv, str(folder)).findings
        return Opened(state, "", f"it opens, but verify finds: {found[0]}" if found else "")

    def _laid_out(self, image: bytes) -> Path:
        # LMDB keeps one environment per path in a process, and a reader's table beside it.
        self._count += 1
        folder = Path(self._place.name, f"env-{self._count}")
        folder.mkdir()
        (folder / DATA_NAME).write_bytes(image)
        return folder

    def _clear(self, folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _has_facts(kv: KvStore) -> bool:
    txn = kv.begin(write=False)
    try:
        return read_meta(txn) is not None
    finally:
        txn.abort()


def _ignored(name: bytes, blob: bytes) -> None:
    """What is beside the keys is not compared."""


def _nothing_is_queued(call: object) -> None:
    raise AssertionError(f"files are opened on this thread; {call!r} came from elsewhere")


def judged(judge: Judge, commit: Commit, word: str, earlier: Sequence[State], tally: Tally) -> list[Finding]:
    """Everything that is wrong with one state. ``earlier``: those that commits before this one led to."""
    image = build(commit, word)
    try:
        opened = judge.opened(image)
    except Exception as error:  # noqa: BLE001 - any other exception of a start is what this judge looks for
        return [Finding("P9", f"the start failed instead of refusing by name: {type(error).__name__}: {error}")]
    found = [Finding("C2", opened.wrong)] if opened.wrong else []
    head, _, data = word.partition("/")
    # A head torn inside a sector is no disk's doing, but must not lead to a wrong value either.
    honest = head == "old" or (head == "new" and data == "all") or (data == "all" and _on_sector_edge(head))
    if opened.state is None:
        return [*found, Finding("D1", f"a mere power cut, but: {opened.refused}")] if honest else found
    if not honest and opened.state in earlier:
        tally.unprovable += opened.state != commit.old
    elif opened.state not in (commit.old, commit.new):
        found.append(Finding("C2", f"it holds {opened.state}, neither {commit.old} nor {commit.new}"))
    if head == "new" and data == "all" and opened.state != commit.new:
        found.append(Finding("D1", f"the commit was synced, but index {opened.state[0]} is there"))
    if head == "old" and opened.state != commit.old:
        found.append(Finding("C2", f"the commit had not happened, but index {opened.state[0]} is there"))
    if head == "old" and commit.frames and data in ("none", "all", "some:0"):
        wrong = judge.goes_on(image, commit)
        found += [Finding("ONWARD", wrong)] if wrong else []
    return found


def _on_sector_edge(head: str) -> bool:
    size = head.partition(":")[2]
    return size.isdigit() and int(size) % SECTOR_BYTES == 0


def try_pages(
    tally: Tally, *, subsets: int = SUBSETS_MAX, watch: bool = False, only: tuple[int, str] | None = None
) -> None:
    """Judge every state of every commit; ``only`` is a (commit, word) to repeat. ``watch``: also that LMDB writes as is
    taken for granted here, with strace.

    Raises ValueError when ``only`` names nothing.
    """
    begin_s = process_time()
    commits = recorded()
    states = [commit.old for commit in commits]
    tally.events = sum(len(commit.written()) + 1 for commit in commits)
    with Judge() as judge:
        for position, commit in enumerate(commits):
            if only is not None and position != only[0]:
                continue
            for word in [only[1]] if only is not None else words(commit, subsets):
                tally.tried += 1
                tally.add(position, word, judged(judge, commit, word, states[: position + 1], tally))
        tally.states = judge.distinct
    if only is not None and not tally.tried:
        raise ValueError(f"{NAME} has {len(commits)} commits, no position {only[0]}")
    if watch:
        tally.add(0, "protocol", [Finding("P2", text) for text in protocol_broken()])
    tally.cpu_s += process_time() - begin_s
