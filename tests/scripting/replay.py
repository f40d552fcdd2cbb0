"""A second engine that applies what the first one committed, as a follower or a restarted node does."""

from __future__ import annotations

from tests.engine.rig import Rig


def replayed(rig: Rig, **directives: str) -> Rig:
    """A node with settings of its own after the same log."""
    other = Rig(leading=False, **directives)  # type: ignore[arg-type]
    for entry in rig.consensus.committed:
        if entry.kind == 0:
            other.engine.applier.apply_payload(entry.index, entry.data)
        else:
            other.engine.applier.new_leader(entry.index)
    return other
