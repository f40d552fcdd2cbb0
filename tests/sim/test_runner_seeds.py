"""Every regression seed has the outcome that seeds.toml promises."""

from __future__ import annotations

import pytest

from jstyle.sim.regression import Regression, load
from jstyle.sim.runner import run


@pytest.mark.parametrize("regression", load(), ids=lambda regression: regression.name)
def test_regression_seed(regression: Regression) -> None:
    result = run(regression.plan)
    assert (result.invariant or result.valid) == regression.expect, result.text
    assert result.commits >= 10 and result.certificates > 5
