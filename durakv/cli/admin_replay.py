"""A node's engine without a node, which applies log entries to a keyspace in memory.

Rule: an entry is applied here exactly as a node applies it at replay. It must not know where entries come from or what
the state is wanted for.
"""

from __future__ import annotations

from collections.abc import Callable

from durakv.commands.acl import build_acl
from durakv.commands.table import build_table
from durakv.config.load import load
from durakv.engine.apply import Applier
from durakv.engine.engine import Engine
from durakv.engine.places import FIRST_EPOCH
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import Event
from durakv.observe.stats import Stats
from durakv.replication import addresses
from durakv.storage.entries import KIND_CONFIG, KIND_NOOP, KIND_NORMAL
from durakv.storage.errors import StorageError
from durakv.world.real_process import RealProcess
from durakv.world.real_rng import RealRng
from raft.types import Membership


class _StillClock:
    """Time does not pass and nothing is due: entries carry their own time."""

    def monotonic_ns(self) -> int:
        return 0

    def raw_ns(self) -> int:
        return self.monotonic_ns()

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


def found_group(applier: Applier, membership: bytes) -> None:
    """As a membership says which group this is, and what it owned when its log began. Raises ValueError."""
    state = applier.handoff.state
    founding = addresses.decode_founding(Membership.decode(membership).context)
    if founding is not None and not state.applied:
        applier.handoff.begin(founding.group, tuple((first, last, FIRST_EPOCH) for first, last in founding.slots))


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
        if kind == KIND_CONFIG:
            found_group(applier, data)
        # A NOOP of a later subterm only marks that the witness stands in, or rests.
        applier.applied = index
