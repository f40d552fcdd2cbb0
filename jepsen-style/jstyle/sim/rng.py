"""A node's dice, rolled by its seed."""

from __future__ import annotations

from random import Random


class NodeRng:
    """Implements ports.Rng."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def below(self, n: int) -> int:
        """See Rng."""
        return self._random.randrange(n)

    def bits64(self) -> int:
        """See Rng."""
        return self._random.getrandbits(64)

    def token(self, nbytes: int) -> bytes:
        """See Rng."""
        return self._random.randbytes(nbytes)
