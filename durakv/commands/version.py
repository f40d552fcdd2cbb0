"""Which versions durakv claims: its own, and those of the servers whose behaviour it follows."""

from __future__ import annotations

from typing import Final

DURAKV: Final = b"0.1.0"
# Clients choose features by these.
COMPATIBLE_VALKEY: Final = b"9.1.0"
COMPATIBLE_REDIS: Final = b"7.2.4"
