"""durakv: an in-memory store that speaks RESP and keeps every acknowledged write.

Importing the package settles one thing before any other module loads: whether the compiled modules may be used
(``durakv/native.py``). Everything else is named in ``durakv/app.py``.
"""

from __future__ import annotations

from pathlib import Path

from durakv import native

__all__ = ["__version__", "build_mode"]

__version__ = "0.1.0"

_VERDICT = native.activate(Path(__file__).resolve().parent.parent)


def build_mode() -> str:
    """``compiled (N modules)`` or ``interpreted (reason)``, as decided when the package was imported."""
    return _VERDICT.describe()
