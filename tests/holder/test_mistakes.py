"""The mistakes in mistakes.py are found by the histories, one of them each."""

from __future__ import annotations

import pytest

from jstyle.sim.guard import no_real_world
from tests.holder import mistakes
from tests.holder.holder_histories import SCENARIOS

SEEDS = 20


def found(mistake) -> str:
    """Which scenario finds the mistake; "" for none."""
    with no_real_world(), mistake():
        for scenario in SCENARIOS:
            for seed in range(SEEDS if scenario is SCENARIOS[-1] else 3):
                try:
                    scenario(seed)
                except Exception as error:  # noqa: BLE001 - whatever a mistake leads to
                    return f"{scenario.__name__} {seed}: {error!r}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("mistake", mistakes.ALL, ids=lambda mistake: mistake.__name__)
def test_a_planted_mistake_is_found(mistake):
    assert found(mistake)
