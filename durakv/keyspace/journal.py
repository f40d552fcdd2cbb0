"""The undo journal of the unit being applied. [compiled]

Every mutator of applied state appends one inverse step ``(target, op, a, b)``; ``target.undo(op, a, b)`` reverts it.
The engine clears the journal before each unit and rolls back when a handler fails with anything but CommandError
(or when a script must leave no partial state). One list serves the whole process: units are applied one at a time on
one thread and never interleave, also when a simulation runs several nodes.
"""

from __future__ import annotations

from typing import Any, Final

# (target, op, a, b): target has .undo(op, a, b)
steps: Final[list[tuple[Any, int, Any, Any]]] = []


def roll_back() -> None:
    """Revert every step of the current unit, newest first, and clear the journal."""
    taken = steps[:]
    steps.clear()
    for i in range(len(taken) - 1, -1, -1):
        target, op, a, b = taken[i]
        target.undo(op, a, b)
    steps.clear()
