from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripting.stock import Pair, stock


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with stock(str(tmp_path)) as server:
        yield Pair(server)
