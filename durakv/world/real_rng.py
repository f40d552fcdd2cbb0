"""The kernel's randomness.

Rule: the only place that asks for entropy. Nothing replicated may depend on it: entries carry their own seed.
"""

from __future__ import annotations

import secrets
from typing import Final

_POOL_BYTES: Final = 4096
_SEED_BYTES: Final = 8


class RealRng:
    """See ports.Rng."""

    def __init__(self) -> None:
        # A system call for each seed of an entry would cost more than the rest of making it.
        self._pool = b""
        self._used = 0

    def below(self, n: int) -> int:
        """Uniform int in [0, n)."""
        return secrets.randbelow(n)

    def bits64(self) -> int:
        """Uniform 64-bit int."""
        at = self._used
        if at >= len(self._pool):
            self._pool = secrets.token_bytes(_POOL_BYTES)
            at = 0
        self._used = at + _SEED_BYTES
        return int.from_bytes(self._pool[at : at + _SEED_BYTES], "little")

    def token(self, nbytes: int) -> bytes:
        """Bytes nobody can guess."""
        return secrets.token_bytes(nbytes)
