"""The state a stopped node's directory holds, for those who take it elsewhere.

Rule: the directory is judged as a starting server judges it, but nothing is cut or repaired: a torn tail is left out,
damage is refused. It must not know what the state is wanted for.
"""

from __future__ import annotations

from collections.abc import Sequence

from durakv.cli.recovery_reach import end_of_reach
from durakv.cli.recovery_rebuild import Rebuilt
from durakv.cli.recovery_segments import Progress
from durakv.cli.recovery_survey import CUTS_TAIL, REFUSES, survey
from durakv.keyspace.keyspace import Keyspace
from durakv.storage.errors import CorruptionError, StorageError
from durakv.storage.identity import Identity, identity_path


class ReplayedState:
    """``index`` and ``term`` are of the last entry applied; ``known_committed`` is what the node knew for certain."""

    def __init__(self, identity: Identity, keyspace: Keyspace) -> None:
        self.identity = identity
        self.keyspace = keyspace
        self.index = 0
        self.term = 0
        self.last_in_log = 0
        self.known_committed = 0
        # Why the end of the log was left out; empty when it ends well.
        self.torn = ""


def replay(
    directory: str, at_index: int | None, databases: int, progress: Progress, *, committed_only: bool = False,
    more: Sequence[str] = (),
) -> ReplayedState:  # fmt: skip
    """Rebuild the state after ``at_index`` (None: after the last entry, or with ``committed_only`` after the last that
    is known to be committed). ``progress(done, total)`` counts bytes; ``databases`` is the server's setting; ``more``:
    see survey().

    Raises StorageError, OSError.
    """
    found = survey(directory, progress, live=False, more=more)
    if not found.files.exists(identity_path(found.directory)):
        raise StorageError(f"{directory}: is no data directory of durakv (it has no IDENTITY); name another one")
    stops = [finding for finding in found.findings if finding.stops]
    reached = at_index is not None and at_index <= end_of_reach(found)
    if found.outcome == REFUSES and (found.identity is None or not reached):
        first = stops[0]
        if first.path.startswith(("log", "ckpt", "raft")):
            raise CorruptionError(f"{found.directory}/{first.path}", first.offset, first.detail)
        raise StorageError(f"{found.directory}: {first.line()}; {first.repair}")
    assert found.identity is not None
    last_in_log = max(found.last_good, end_of_reach(found))
    known = found.last_good if found.alone() else min(found.known_committed, found.last_good)
    last = at_index if at_index is not None else known if committed_only else last_in_log
    if last > last_in_log:
        raise StorageError(f"{directory}: the log ends at index {last_in_log}; choose a smaller --at-index")
    rebuilt = Rebuilt(found, databases)
    rebuilt.advance(last, progress)
    state = ReplayedState(found.identity, rebuilt.keyspace)
    state.index, state.term = rebuilt.index, rebuilt.term
    state.last_in_log, state.known_committed = last_in_log, known
    if found.outcome == CUTS_TAIL and found.verdict is not None:
        state.torn = f"byte {found.verdict.offset} of {found.verdict.path}: {found.verdict.detail}"
    return state
