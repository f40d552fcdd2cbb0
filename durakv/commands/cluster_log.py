"""CLUSTER LOGENTRIES: committed entries of the group's log, for a stopped member whose copy of them is damaged.

Rule: reads only, and only what is committed and durable here; what a caller makes of it, it proves itself by the
running digest. It must not know files.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext
from durakv.commands.local_text import integer
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import CommandError
from durakv.resp.types import Map, Reply

COMMANDS: Final[Commands] = Commands("cluster")

ENTRIES_MAX: Final = 1000
# A reply ends after this many bytes of entries, though it holds at least one.
ENTRIES_BYTES_MAX: Final = 1 << 20
_BAD_FIRST: Final = "ERR first must be the index of a log entry, a number from 1"
_BAD_COUNT: Final = f"ERR count must be between 0 and {ENTRIES_MAX}"
_NO_LOG: Final = "ERR this node keeps no log of its own; ask a full member of the group"


@COMMANDS.local("CLUSTER|LOGENTRIES", arity=4, since="9.1.0",
                summary="Committed entries of the group's log, for durakv-cli repair --from-peer.",
                complexity="O(N), N the number of entries", flags="no_async_loading admin stale")  # fmt: skip
def cluster_logentries(ctx: LocalContext, argv: Argv) -> Reply:
    """CLUSTER LOGENTRIES <first> <count>: map of cluster, group, first and committed index of this node's log, entries.

    Each entry: index, term, subterm, kind (0 commands, 1 no-op, 2 membership), data, running digest after it. There
    are fewer than asked for where the log does not hold them, and when they are large.
    """
    first = integer(argv[2], _BAD_FIRST)
    if first < 1:
        raise CommandError(_BAD_FIRST)
    count = integer(argv[3], _BAD_COUNT)
    if not 0 <= count <= ENTRIES_MAX:
        raise CommandError(_BAD_COUNT)
    history = ctx.node.group().history
    if history is None:
        raise CommandError(_NO_LOG)
    entries: list[Reply] = [
        [entry.index, entry.term, entry.subterm, entry.kind, entry.data, entry.chain]
        for entry in history.entries(first, count, ENTRIES_BYTES_MAX)
    ]
    return Map([
        b"cluster", history.cluster_id.encode(), b"group", history.group_id, b"first", history.first_index(),
        b"committed", history.committed_index(), b"entries", entries,
    ])  # fmt: skip
