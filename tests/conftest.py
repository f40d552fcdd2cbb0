"""Loaded before any test: settles whether compiled modules are used before ``raft`` or ``durakv`` modules load."""

from __future__ import annotations

import durakv  # noqa: F401
