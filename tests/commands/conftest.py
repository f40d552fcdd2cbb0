"""Fixtures for command tests: ``run`` (no server), ``reference`` (a stock redis-server), ``both`` (they must agree)."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator

import pytest

from durakv.commands.table import Table
from tests.commands.running import DATA_MODULES, Both, Reference, Run, declarations


@pytest.fixture(scope="session")
def table() -> Table:
    return Table.freeze(declarations(DATA_MODULES))


@pytest.fixture
def run(table: Table) -> Run:
    return Run(table)


@pytest.fixture(scope="session")
def reference() -> Iterator[Reference]:
    binary = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if binary is None:
        print("no redis-server on PATH: untested that replies equal stock Redis's")
        pytest.skip("no redis-server on PATH: untested that replies equal stock Redis's")
    with tempfile.TemporaryDirectory() as directory:
        server = Reference(binary, directory)
        try:
            yield server
        finally:
            server.close()


@pytest.fixture
def both(run: Run, reference: Reference) -> Both:
    run.now_ms = int(time.time() * 1000)
    return Both(run, reference)


@pytest.fixture(scope="session", params=["redis-server", "valkey-server"])
def stock(request: pytest.FixtureRequest) -> Iterator[Reference]:
    """Each stock server in turn: what both have must agree with both."""
    binary = shutil.which(request.param)
    if binary is None:
        print(f"no {request.param} on PATH: untested that replies equal its")
        pytest.skip(f"no {request.param} on PATH: untested that replies equal its")
    with tempfile.TemporaryDirectory() as directory:
        server = Reference(binary, directory)
        server.name = request.param
        try:
            yield server
        finally:
            server.close()
