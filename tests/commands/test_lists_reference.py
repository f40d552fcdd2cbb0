"""Random programs of lists commands: every reply equals a stock server's."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.commands.collection_programs import LIST, assert_alike, program
from tests.commands.running import Reference


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_replies_equal_a_stock_server(reference: Reference, dice: Random) -> None:
    assert_alike(program(dice, LIST, 30), reference)
