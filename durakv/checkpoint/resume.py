"""A keyspace that was loaded, or is new, from which capture goes on.

Rule: the only place that turns what a load found into the marks the next frames start from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.checkpoint.capture import Capture
from durakv.checkpoint.load import Loaded
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.written import Written

if TYPE_CHECKING:
    from durakv.engine.beside import Beside


def follow(ks: Keyspace, beside: Beside, loaded: Loaded | None) -> Capture:
    """Note what changes in ``ks`` from now on, beginning with what ``loaded`` says the rows hold; None: nothing."""
    if loaded is None:
        ks.write_down()
        return Capture(ks, beside, 0, 1)
    for number in range(len(ks.dbs)):
        ks.dbs[number].written = Written(loaded.db_map[number])
    ks.next_phys = loaded.next_phys
    for number, key, kid in loaded.kids:
        written = ks.dbs[number].written
        assert written is not None
        written.kids[key] = kid
    for string in loaded.large_strings:
        written = ks.dbs[string.db].written
        assert written is not None
        written.chunks[string.key] = string.tracker
    return Capture(ks, beside, loaded.applied.index, loaded.next_kid)
