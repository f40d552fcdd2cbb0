"""Lua states that are used once give their memory back, in a process that collects no cycles, as a server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.rig import Client, Rig


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def ask(rig: Rig, client: Client, *words: str) -> object:
    (reply,) = rig.ask(client, [word.encode() for word in words])
    return reply


@pytest.mark.usefixtures("uncollected")
def test_loading_a_library_again_and_again_costs_no_memory() -> None:
    rig = Rig()
    client = rig.client()

    def load(n: int) -> None:
        body = f"#!lua name=l\nredis.register_function('f', function() return {n} end)"
        assert ask(rig, client, "FUNCTION", "LOAD", "REPLACE", body) == b"l"

    for n in range(40):
        load(n)
    before = resident_kib()
    for n in range(100):
        load(n)
    # A state takes 240 KiB, and each node of the rig makes one.
    assert resident_kib() - before < 8 * 1024
    assert ask(rig, client, "FCALL", "f", "0") == 99
