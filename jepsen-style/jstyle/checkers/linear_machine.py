"""A sequential model with states and steps numbered, so that a search handles small integers alone.

Rule: every transition is asked of the model once; partitions of one model share what was learnt.
"""

from __future__ import annotations

from jstyle.checkers.models import ILLEGAL, Model, State, Step


class Machine:
    """A model with states and steps numbered and every transition remembered; shared by partitions of one model."""

    __slots__ = ("_numbers", "_steps", "model", "pures", "state_steps", "states", "tables")

    def __init__(self, model: Model) -> None:
        self.model = model
        self.states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._steps: dict[Step, int] = {}
        self.state_steps: list[Step] = []
        self.tables: list[dict[int, int]] = []
        self.pures: list[bool] = []

    def number(self, state: State) -> int:
        """The number of a state."""
        found = self._numbers.get(state)
        if found is None:
            found = self._numbers[state] = len(self.states)
            self.states.append(state)
        return found

    def kind(self, step: Step) -> int:
        """The number of a step; ``tables[kind]`` maps a state's number to the next one's, -1 when illegal."""
        found = self._steps.get(step)
        if found is None:
            found = self._steps[step] = len(self.tables)
            self.tables.append({})
            self.state_steps.append(step)
            self.pures.append(self.model.pure(step))
        return found

    def move(self, kind: int, state: int) -> int:
        """Work out a transition no table has yet."""
        after = self.model.apply(self.states[state], self.state_steps[kind])
        to = -1 if after is ILLEGAL else self.number(after)
        self.tables[kind][state] = to
        return to
