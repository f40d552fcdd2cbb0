"""The rehearsal of docs/migration.md: into a cluster under writes, out of it again, and nothing differs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.group import free_ports
from tests.migration.live import SERVERS

ROOT = Path(__file__).parents[2]


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(not SERVERS, reason="neither redis-server nor valkey-server is on PATH")
def test_there_and_back() -> None:
    ports = sorted(free_ports(40))
    base = next(p for p in ports if all(p + n in ports for n in range(5)))
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/examples/migration/rehearse.py"), "--server", SERVERS[0],
         "--base-port", str(base)],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("identical") == 2, done.stdout
    assert "acknowledged writes are there" in done.stdout
