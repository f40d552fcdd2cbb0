"""The checkpoint of a data directory as the survey sees it: CURRENT, pages, facts, and when asked every row.

Rule: changes nothing, and lets LMDB read a file only after every page of it was looked at. Beside a running server,
pages that failed while the file was being written are looked at again. It must not know the log.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from durakv.checkpoint import rows
from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit, SnapshotDamaged
from durakv.checkpoint.kv import AUX, ELEM, KEYS, KvStore
from durakv.checkpoint.meta import read_meta
from durakv.checkpoint.pages import PageReport, check_pages
from durakv.checkpoint.place import DATA_NAME, checkpoint_directory, environment, read_current, stream_number
from durakv.checkpoint.snapshot_file import MEMBERSHIP, verify_snapshot
from durakv.checkpoint.verify import Verified, verify_store
from durakv.cli.recovery_found import Survey
from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.segment import SEGMENT_HEADER_BYTES, parse_segment_header, segment_number
from durakv.world.real_kv import open_kv

_LIVE_LOOKS: Final = 5
_LIVE_PAUSE_S: Final = 0.2
_PAGE: Final = re.compile(r"(.*), page (\d+)")
_PAGE_BYTES: Final = 4096
_SHOWN_ROWS: Final = 20
ENVIRONMENT: Final = re.compile(r"env-(\d{1,20})")
SNAPSHOT: Final = re.compile(r"snap-\d+\.dksnap")


class CheckpointLook:
    """One environment. ``sound``: pages and facts were found right, so that LMDB may read it; ``applied`` is None when
    it is empty or not sound. ``named``: CURRENT could be read and says so.
    """

    def __init__(self, directory: str, number: int, *, named: bool) -> None:
        self.number = number
        self.place = environment(directory, number)
        self.path = f"{self.place}/{DATA_NAME}"
        self.named = named
        self.sound = False
        self.applied: rows.Applied | None = None
        self.cluster_id = bytes(16)
        self.node_id = 0
        self.databases = 0
        self.keys = 0
        self.elements = 0
        self.aux = 0
        self.membership = b""
        self.pages: PageReport | None = None
        self.file_bytes = 0
        # Filled when every row was looked at.
        self.verified: Verified | None = None

    @property
    def index(self) -> int:
        return 0 if self.applied is None else self.applied.index

    def document(self) -> dict[str, object]:
        """For --json."""
        at = self.applied
        return {
            "environment": f"env-{self.number}", "sound": self.sound, "index": self.index,
            "term": None if at is None else at.term, "chain": None if at is None else f"{at.chain:08x}",
            "time_ms": None if at is None else at.ts_ms, "keys": self.keys, "elements": self.elements,
            "bytes": self.file_bytes,
            "free_pages": None if self.pages is None else self.pages.free + self.pages.lost,
            "rows_checked": None if self.verified is None else not self.verified.findings,
        }  # fmt: skip


def look_at_checkpoint(found: Survey, *, thorough: bool) -> None:
    """Fill ``found.checkpoint`` and note what is wrong with it. Raises OSError."""
    directory = found.directory
    try:
        number = read_current(found.disk, directory)
    except CheckpointDamaged as error:
        _damaged_current(found, error.detail, thorough=thorough)
        return
    names = environments(found)
    if number is None:
        if names and _begins_late(found):
            _damaged_current(found, "missing, and the log does not begin with the first entry", thorough=thorough)
        elif names:
            found.notes.append(
                f"ckpt/ has {', '.join(f'env-{n}' for n in names)} and no CURRENT: no server uses any of them"
            )
        return
    look = CheckpointLook(directory, number, named=True)
    found.checkpoint = look
    if not found.files.exists(look.path):
        found.add(look.path, 0, 0, "missing, and CURRENT names it", "")
        return
    examine(found, look, thorough=thorough)
    others = [n for n in names if n != number]
    if others:
        found.notes.append(
            f"ckpt/ also has {', '.join(f'env-{n}' for n in others)}, which a snapshot replaced: worth nothing"
        )


def _begins_late(found: Survey) -> bool:
    """Whether the log needs a checkpoint before it."""
    log = f"{found.directory}/log"
    names = found.files.listdir(log) if found.files.exists(log) else []
    first = next((name for name in names if segment_number(name) is not None), None)
    if first is None:
        return False
    file = found.files.open(f"{log}/{first}")
    try:
        return parse_segment_header(file.pread(SEGMENT_HEADER_BYTES, 0), first).base > 1
    except (CorruptionError, IdentityError):
        # The look at the log says so.
        return False
    finally:
        file.close()


def _damaged_current(found: Survey, detail: str, *, thorough: bool) -> None:
    """One environment alone can only be the one CURRENT named; it must be sound for ``repair`` to say so."""
    found.add(f"{found.directory}/ckpt/CURRENT", 0, 0, detail, "")
    finding = found.findings[-1]
    names = environments(found)
    if len(names) == 1:
        look = CheckpointLook(found.directory, names[0], named=False)
        if found.files.exists(look.path):
            found.checkpoint = look
            examine(found, look, thorough=thorough)
            if look.sound:
                finding.repair = (
                    f"'durakv-cli repair {found.directory} --yes' writes it again: env-{names[0]} is the only "
                    "environment, and sound"
                )


def environments(found: Survey) -> list[int]:
    """Numbers of the environments there are."""
    folder = checkpoint_directory(found.directory)
    names = found.files.listdir(folder) if found.files.exists(folder) else []
    return sorted(int(match[1]) for match in map(ENVIRONMENT.fullmatch, names) if match is not None)


def examine(found: Survey, look: CheckpointLook, *, thorough: bool) -> None:
    """Look at one environment whose file exists. Raises OSError."""
    look.file_bytes = Path(look.path).stat().st_size
    try:
        look.pages = _pages(found, look)
    except (CheckpointDamaged, CheckpointUnfit) as error:
        _note(found, look, error)
        return
    if look.pages is None:
        return
    try:
        with opened(look) as store:
            _facts(found, look, store)
            if thorough and look.sound:
                _rows(found, look, store)
    except (CheckpointDamaged, CheckpointUnfit) as error:
        look.sound = False
        _note(found, look, error)
    except OSError as error:
        if error.errno not in (errno.EBADMSG, errno.ENOENT, errno.EINVAL):
            raise
        look.sound = False
        found.add(look.path, 0, 0, f"LMDB cannot read it: {error.strerror}", "")


def _pages(found: Survey, look: CheckpointLook) -> PageReport | None:
    """None: beside a running server the file changed during every look."""
    for _ in range(_LIVE_LOOKS):
        file = found.files.open(look.path, direct=not found.live)
        try:
            before = Path(look.path).stat().st_mtime_ns
            return check_pages(file, look.path)
        except CheckpointDamaged:
            if not found.live or Path(look.path).stat().st_mtime_ns == before:
                raise
        finally:
            file.close()
        time.sleep(_LIVE_PAUSE_S)
    found.notes.append(
        f"{found.relative(look.path)} was written during each of {_LIVE_LOOKS} looks and is not judged: look again, or "
        "at a backup"
    )
    return None


@contextmanager
def opened(look: CheckpointLook) -> Iterator[KvStore]:
    """The store, for reading; its pages must have been looked at. Raises OSError."""
    store = open_kv(look.place, write=False)
    try:
        yield store
    finally:
        store.close()


def _facts(found: Survey, look: CheckpointLook, store: KvStore) -> None:
    txn = store.begin(write=False)
    try:
        meta = read_meta(txn)
        if meta is None:
            look.sound = True
            return
        cfg = txn.get(AUX, MEMBERSHIP)
    finally:
        txn.abort()
    look.applied = meta.applied
    look.cluster_id, look.node_id = meta.cluster_id, meta.node_id
    look.databases = len(meta.db_map)
    look.keys, look.elements, look.aux = meta.sums.counts[KEYS], meta.sums.counts[ELEM], meta.sums.counts[AUX]
    if meta.applied.index:
        if cfg is None or not rows.intact(MEMBERSHIP, cfg) or len(cfg) <= rows.CRC_BYTES:
            reason = "is missing" if cfg is None else "has a wrong checksum"
            raise CheckpointDamaged("database aux, row cfg", f"the group's membership {reason}")
        look.membership = cfg[: -rows.CRC_BYTES]
    look.sound = True
    identity = found.identity
    if identity is not None and (look.cluster_id, look.node_id) != (identity.cluster_id, identity.node_id):
        look.sound = False
        found.add(
            look.path, 0, 0, f"it is the checkpoint of node {look.node_id} of cluster {look.cluster_id.hex()}",
            "put this node's own ckpt/ back, or restore a backup",
        )  # fmt: skip


def _rows(found: Survey, look: CheckpointLook, store: KvStore) -> None:
    result = Verified()
    verify_store(store, result)
    look.verified = result
    for one in result.findings[:_SHOWN_ROWS]:
        found.add(look.path, 0, 0, str(one), "")
    more = len(result.findings) + result.more - _SHOWN_ROWS
    if more > 0:
        found.add(look.path, 0, 0, f"and {more:,} more faults in its rows", "")
    if result.findings:
        look.sound = False


def _note(found: Survey, look: CheckpointLook, error: CheckpointDamaged | CheckpointUnfit) -> None:
    if isinstance(error, CheckpointUnfit):
        found.add(look.path, 0, 0, str(error), "run the durakv that wrote it")
        return
    place = _PAGE.fullmatch(error.where)
    if place is not None:
        found.add(look.path, int(place[2]) * _PAGE_BYTES, 0, f"page {place[2]}: {error.detail}", "")
    else:
        where = "" if error.where == look.path else f"{error.where}: "
        found.add(look.path, 0, 0, f"{where}{error.detail}", "")


def look_at_snapshots(found: Survey) -> None:
    """Check each snapshot made for others, whole. Raises OSError."""
    folder = checkpoint_directory(found.directory)
    for name in found.files.listdir(folder) if found.files.exists(folder) else []:
        if not SNAPSHOT.fullmatch(name):
            continue
        try:
            verify_snapshot(found.disk, f"{folder}/{name}")
        except SnapshotDamaged as error:
            found.add(
                f"{folder}/{name}", 0, 0, error.detail,
                "delete it: no node starts from it, and another is made when a member asks; but check this disk",
                stops=False,
            )  # fmt: skip
        except FileNotFoundError:
            # The server had no more use for it.
            continue


def stream_left(found: Survey) -> tuple[int, int]:
    """Files and bytes of the effect stream, which the next start throws away. Raises OSError."""
    folder = f"{found.directory}/fx"
    files = size = 0
    for name in found.files.listdir(folder) if found.files.exists(folder) else []:
        if stream_number(name) >= 0:
            files += 1
            try:
                size += Path(f"{folder}/{name}").stat().st_size
            except FileNotFoundError:
                files -= 1  # the materialiser has it now
    return files, size
