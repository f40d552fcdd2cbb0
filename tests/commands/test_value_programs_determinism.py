"""Bitmaps, HyperLogLogs, positions and fields with deadlines: the same on every node whatever its hash seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random

from durakv.keyspace.digest import digest
from durakv.resp.encoder import encode
from durakv.resp.errors import CommandError
from tests.commands import test_bitfield, test_bitmaps, test_geo, test_hash_fields_expire, test_hyperloglog
from tests.commands.running import Failed, Run
from tests.commands.value_programs import TABLE, Words

_HLL_NAMES = ("PFADD", "PFADD", "PFCOUNT", "PFMERGE", "PFDEBUG", "DEL")


def some_command(dice: Random) -> Words:
    kind = dice.randrange(4)
    if kind == 0:
        return test_bitmaps.bit_command(dice, faulty=True)
    if kind == 1:
        return test_bitfield.command(dice)
    if kind == 2:
        return test_hyperloglog.command(dice, _HLL_NAMES)
    return test_geo.command(dice)


def fingerprint(seed: int, length: int) -> str:
    """Over every reply and event, in order, and the final digest."""
    dice = Random(seed)
    run = Run(TABLE)
    fields = Run(TABLE)
    model = test_hash_fields_expire.Model()
    total = hashlib.sha256()
    for _ in range(length):
        reply = run(*some_command(dice))
        total.update(encode(CommandError(reply.text) if isinstance(reply, Failed) else reply, 3))
        fields.now_ms = model.now = fields.now_ms + dice.randrange(20)
        reply, _, words = test_hash_fields_expire.step(dice, fields, model)
        total.update(repr((words, reply, fields.events)).encode())
        fields.events.clear()
        for key in fields.ks.dbs[0].fields.due_keys(fields.now_ms, 1):
            total.update(key)
        if run.units % 40 == 0:
            # Types mix only so far before everything is WRONGTYPE.
            run("FLUSHALL")
    total.update(repr(run.events).encode() + digest(run.ks) + digest(fields.ks))
    return total.hexdigest()


def in_process(hash_seed: str) -> str:
    root = Path(__file__).parents[2]
    code = "from tests.commands.test_value_programs_determinism import fingerprint; print(fingerprint(5, 1500))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True, timeout=100
    )
    return done.stdout.strip()


def test_the_hash_seed_changes_nothing() -> None:
    first, second = in_process("1"), in_process("20021")
    assert first == second
    assert len(first) == 64


def test_another_program_has_another_fingerprint() -> None:
    assert fingerprint(1, 100) != fingerprint(2, 100)
    assert fingerprint(1, 100) == fingerprint(1, 100)
