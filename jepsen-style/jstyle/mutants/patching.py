"""Putting a planted bug into the running program, and taking it out again.

Rule: exactly one function is replaced, wherever it is reachable: under its own name, under names it was imported by,
and in dispatch tables. Compiled functions cannot be replaced, so a program with mutants runs interpreted. It must not
know any particular bug.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from durakv.native import INTERPRETED_VARIABLE

_PACKAGES = ("durakv", "raft", "jstyle")


@contextmanager
def replaced(owner: type | ModuleType, name: str, make: Callable[[Any], Callable[..., Any]]) -> Iterator[None]:
    """Within the block, ``owner.name`` is ``make(original)``. Raises RuntimeError for a compiled function."""
    original = vars(owner)[name]
    if type(original) is not FunctionType:
        raise RuntimeError(
            f"{owner.__name__}.{name} is compiled and cannot be replaced; set {INTERPRETED_VARIABLE}=1 and start again"
        )
    replacement = make(original)
    undo = list(_put(owner, name, original, replacement))
    try:
        yield
    finally:
        for back in undo:
            back()


def _put(owner: type | ModuleType, name: str, original: object, replacement: object) -> Iterator[Callable[[], None]]:
    setattr(owner, name, replacement)
    yield lambda: setattr(owner, name, original)
    if not isinstance(owner, ModuleType):
        return
    for module in list(sys.modules.values()):
        if module is None or module.__name__.partition(".")[0] not in _PACKAGES:
            continue
        for key, value in list(vars(module).items()):
            if value is original:
                setattr(module, key, replacement)
                yield lambda module=module, key=key: setattr(module, key, original)  # type: ignore[misc]
            elif isinstance(value, dict):
                for entry in [entry for entry, held in value.items() if held is original]:
                    value[entry] = replacement
                    yield lambda value=value, entry=entry: value.__setitem__(entry, original)  # type: ignore[misc]
