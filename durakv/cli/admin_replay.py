"""The state that a data directory holds, rebuilt by applying its log in memory. Read-only.

Rule: the log is judged as a starting server judges it, but nothing is cut or repaired: a torn tail is left out, damage
is refused. It must not know what the state is wanted for.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from durakv.cli.admin_files import ReadOnlyFiles
from durakv.commands.acl import build_acl
from durakv.commands.table import build_table
from durakv.config.load import load
from durakv.engine.apply import Applier
from durakv.engine.engine import Engine
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import Event
from durakv.observe.stats import Stats
from durakv.storage.entries import KIND_CONFIG, KIND_NOOP, KIND_NORMAL, TermRuns, entry_of_frame
from durakv.storage.errors import CorruptionError, StorageError
from durakv.storage.hardstate import SLOT_BYTES, SLOT_OFFSETS, HardState, decode_slot
from durakv.storage.identity import Identity, hardstate_path, log_directory, read_identity
from durakv.storage.record import HEADER_BYTES, parse_header
from durakv.storage.recovery import Outcome as LogEnd
from durakv.storage.recovery import Verdict, decide
from durakv.storage.scan import SegmentScan, Window, scan_segment
from durakv.storage.segment import segment_name, segment_number
from durakv.world.ports import Disk
from durakv.world.real_process import RealProcess
from durakv.world.real_rng import RealRng
from raft.types import Membership

_PROGRESS_EVERY: Final = 2048

Progress = Callable[[int, int], None]


class ReplayedState:
    """``index`` and ``term`` are of the last entry applied; ``known_committed`` is what the node knew for certain."""

    def __init__(self, identity: Identity, hard: HardState, keyspace: Keyspace) -> None:
        self.identity = identity
        self.hard = hard
        self.keyspace = keyspace
        self.index = 0
        self.term = 0
        self.last_in_log = 0
        self.known_committed = 0
        # The newest configuration entry applied; empty before the first.
        self.configuration = b""
        # Why the end of the log was left out; empty when it ends well.
        self.torn = ""


def replay(
    directory: str, at_index: int | None, databases: int, progress: Progress, *, committed_only: bool = False
) -> ReplayedState:
    """Rebuild the state after ``at_index`` (None: after the last entry, or with ``committed_only`` after the last that
    is known to be committed). ``progress(done, total)`` counts bytes; ``databases`` is the server's setting.

    Raises StorageError, OSError.
    """
    files = ReadOnlyFiles()
    # Of a Disk, identity and scan use only the methods that read.
    disk = cast("Disk", files)
    identity = read_identity(disk, directory)
    if identity is None:
        raise StorageError(f"{directory}: is no data directory of durakv (it has no IDENTITY); name another one")
    hard = _hard_state(files, directory)
    runs = TermRuns()
    scans, verdict = _scans(disk, directory, identity, hard, runs)
    if verdict.outcome is LogEnd.CORRUPT:
        raise CorruptionError(verdict.path, verdict.offset, verdict.detail)
    state = ReplayedState(identity, hard, Keyspace(databases))
    state.last_in_log = scans[-1].last_index
    state.known_committed = min(max(hard.commit_hint, hard.synced_hint), state.last_in_log)
    if verdict.outcome is LogEnd.TORN_TAIL:
        state.torn = f"byte {verdict.offset} of {verdict.path}: {verdict.detail}"
    last = at_index if at_index is not None else state.known_committed if committed_only else state.last_in_log
    if last > state.last_in_log:
        raise StorageError(f"{directory}: the log ends at index {state.last_in_log}; choose a smaller --at-index")
    applier = new_applier(state.identity.node_id, state.keyspace)
    _apply(files, scans, state, applier, last, progress)
    if _alone(state):
        # What a group of one has on its disk is committed, whatever it had time to note.
        state.known_committed = state.last_in_log
        if at_index is None:
            _apply(files, scans, state, applier, state.last_in_log, progress)
    if state.index:
        state.term = runs.term(state.index)
    return state


def _alone(state: ReplayedState) -> bool:
    if not state.configuration:
        return False
    membership = Membership.decode(state.configuration)
    voters = tuple(membership.voters)
    return voters == (state.identity.node_id,) and not membership.is_joint() and not membership.witness


def _hard_state(files: ReadOnlyFiles, directory: str) -> HardState:
    path = hardstate_path(directory)
    file = files.open(path)
    try:
        slots = [decode_slot(file.pread(SLOT_BYTES, offset)) for offset in SLOT_OFFSETS]
    finally:
        file.close()
    good = [slot for slot in slots if slot is not None]
    if not good:
        raise CorruptionError(path, 0, "both hard state slots are damaged")
    return max(good, key=lambda slot: slot[0])[1]


def _scans(
    disk: Disk, directory: str, identity: Identity, hard: HardState, runs: TermRuns
) -> tuple[list[SegmentScan], Verdict]:
    log = log_directory(directory)
    numbers = sorted(number for number in map(segment_number, disk.listdir(log)) if number is not None)
    scans = []
    for number in numbers:
        scan = scan_segment(disk, f"{log}/{segment_name(number)}", runs, direct=False)
        if scan.header.cluster_id != identity.cluster_id or scan.header.number != number:
            raise StorageError(f"{scan.path}: is a segment of another node or place; put this node's own file back")
        scans.append(scan)
        if scan.bad_reason and number != numbers[-1]:
            raise CorruptionError(scan.path, scan.end, f"{scan.bad_reason}, but a later segment exists")
    if scans[0].header.base != 1:
        raise StorageError(
            f"{scans[0].path}: begins at index {scans[0].header.base}, and what came before lies in a checkpoint that "
            "this version cannot export; export on another node, or copy over with durakv-cli import --to"
        )
    return scans, decide(scans, hard.synced_hint)


def _apply(
    files: ReadOnlyFiles, scans: list[SegmentScan], state: ReplayedState, applier: Applier, last: int,
    progress: Progress,
) -> None:  # fmt: skip
    """Apply the entries behind the last applied one, up to ``last``."""
    total = sum(scan.end for scan in scans)
    before = 0
    # Nothing of the state is cyclic, and collections over millions of keys would take most of the time.
    gc.disable()
    try:
        for scan in scans:
            file = files.open(scan.path)
            try:
                _apply_segment(Window(file), scan, state, applier, last, partial(_shifted, progress, before, total))
            finally:
                file.close()
            before += scan.end
    finally:
        gc.enable()
    state.index = applier.applied


class _StillClock:
    """Time does not pass and nothing is due: entries carry their own time."""

    def monotonic_ns(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 0

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> _NoTimer:
        return _NoTimer()

    def call_soon(self, fn: Callable[[], None]) -> None:
        """There is no loop to call it."""


class _NoTimer:
    def cancel(self) -> None:
        """It never runs anyway."""


class _NoObserver:
    def event(self, event: Event) -> None:
        """Who exports has no use for what happened long ago."""


def _no_file(path: str) -> str:
    raise AssertionError(f"no configuration file is named, least of all {path}")


def new_applier(node_id: int, keyspace: Keyspace) -> Applier:
    """A node's engine without a node: all that a log entry may ask for is in place, and nobody is connected."""
    settings = load(["--databases", str(len(keyspace.dbs))], _no_file)
    rng = RealRng()
    table = build_table()
    acl = build_acl(settings, table, rng)
    engine = Engine(settings, table, _StillClock(), rng, keyspace, Stats(), acl, _NoObserver(), RealProcess(), node_id)
    return engine.applier


def apply_content(applier: Applier, index: int, subterm: int, kind: int, data: bytes, path: str) -> None:
    """Apply one entry as a node does at replay. Raises StorageError when ``databases`` is too low for it."""
    if kind == KIND_NORMAL:
        try:
            applier.apply_payload(index, data)
        except IndexError:
            # Commands report their own defects; this can only be a database number.
            raise StorageError(
                f"{path}: entry {index} uses a database beyond {len(applier.ks.dbs) - 1}; give --databases as it is in "
                "the server's configuration"
            ) from None
    elif kind == KIND_NOOP and subterm == 0:
        applier.new_leader(index)
    else:
        # A NOOP of a later subterm only marks that the witness stands in, or rests.
        applier.applied = index


def _shifted(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _apply_segment(
    window: Window, scan: SegmentScan, state: ReplayedState, applier: Applier, last: int,
    progress: Callable[[int], None],
) -> None:  # fmt: skip
    first = max(applier.applied + 1, scan.header.base)
    for index, offset in enumerate(scan.offsets[first - scan.header.base :], first):
        if index > last:
            return
        header = parse_header(window.view(offset, HEADER_BYTES), scan.header.salt)
        if header is None or header.index != index:
            raise CorruptionError(scan.path, offset, f"the frame of index {index} changed while it was read")
        content = entry_of_frame(header.kind, window.view(offset + HEADER_BYTES, header.body_len))
        if content is None:
            raise CorruptionError(scan.path, offset, f"the frame of index {index} changed while it was read")
        apply_content(applier, index, header.subterm, content[0], content[1], scan.path)
        if content[0] == KIND_CONFIG:
            state.configuration = content[1]
        if index % _PROGRESS_EVERY == 0:
            progress(offset)
