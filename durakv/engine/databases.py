"""Databases in cluster mode: which of them MOVE, COPY and SWAPDB may name.

Rule: judged where a request is admitted, since directives may differ between nodes and the log must not depend on
them; what is logged runs on every node. As in Valkey 9 a slot is a part of every database, and moves with all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.resp.errors import DB_INDEX, CommandError

if TYPE_CHECKING:
    from durakv.commands.table import Row
    from durakv.config.settings import Settings

NO_SWAP: Final = "ERR SWAPDB is not allowed in cluster mode"
_DIGITS_MAX: Final = 10


def judged(settings: Settings, row: Row, argv: list[bytes]) -> list[bytes]:
    """The request as it is. Raises CommandError for databases that there are not in cluster mode."""
    if not settings.cluster_enabled:
        return argv
    if row.name == "swapdb":
        raise CommandError(NO_SWAP)
    index = argv[2] if row.name == "move" else _copied_to(argv)
    # Of what is no number the command itself will say so.
    if index.isdigit() and (len(index) > _DIGITS_MAX or int(index) >= settings.database_count()):
        raise CommandError(DB_INDEX)
    return argv


def _copied_to(argv: list[bytes]) -> bytes:
    for at in range(3, len(argv) - 1):
        if argv[at].upper() == b"DB":
            return argv[at + 1]
    return b""
