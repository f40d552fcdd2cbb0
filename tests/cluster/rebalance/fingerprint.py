"""Prints a digest of every plan of a small run: equal in every process, whatever its hash seed."""

from __future__ import annotations

import hashlib

from tests.cluster.rebalance.world import World, even, zipf


def fingerprint() -> str:
    loads = zipf(160, 5, 0.45, 0.8, 4)
    world = World(even(160, 5), 5, lambda slot, now_ms: loads[slot], seed=4, apart=True).run(20)
    lines = [
        f"{now_ms} {m.source} {m.target} {m.slots} {m.copy_bytes!r} {m.target_after!r}"
        for now_ms, plan in world.plans
        for m in plan.moves
    ]
    assert lines
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    print(fingerprint())
