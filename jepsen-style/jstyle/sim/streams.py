"""Independent random generators: one per use, so that changing one thing in a run leaves all other chances alone.

Rule: the only place in the simulator that seeds a generator. Nobody draws from another entity's stream.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random


def stream(seed: int, purpose: str, entity: str, counter: int = 0) -> Random:
    """The generator of one entity for one purpose; ``counter`` tells apart successive ones (incarnations, episodes)."""
    name = f"{seed}/{purpose}/{entity}/{counter}".encode()
    return Random(int.from_bytes(blake2b(name, digest_size=16).digest(), "big"))
