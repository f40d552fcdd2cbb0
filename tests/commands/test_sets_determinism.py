"""The same program gives the same replies and the same state whatever the process's hash seed."""

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
from tests.commands.collection_programs import HASH, LEX, LIST, SET, TABLE, ZSET, Maker, keyed, program
from tests.commands.running import Failed, Run

# Orders that stay hidden from the comparison with another server must still be the same on every node.
CHANCE: list[Maker] = [
    keyed("SPOP"), keyed("SPOP", lambda d: "2"), keyed("SRANDMEMBER", lambda d: "-5"),
    keyed("HRANDFIELD", lambda d: "2"),
    keyed("ZRANDMEMBER", lambda d: "2"), lambda d: ["SADD", d.choice(("k1", "k2")), *map(str, range(d.randrange(40)))],
]  # fmt: skip


def fingerprint(seed: int, length: int) -> str:
    """Over every reply, in order, and the final digest."""
    run = Run(TABLE)
    total = hashlib.sha256()
    for words in program(Random(seed), HASH + LIST + SET + ZSET + LEX + CHANCE * 3, length):
        reply = run(*words)
        for event in run.events:
            total.update(repr(event).encode())
        run.events.clear()
        if type(reply).__name__ == "Parked":
            total.update(b"parked")
        else:
            total.update(encode(CommandError(reply.text) if isinstance(reply, Failed) else reply, 3))
        if run.units % 50 == 0:
            # Types mix only so far before everything is WRONGTYPE.
            run("FLUSHALL")
    total.update(digest(run.ks))
    return total.hexdigest()


def in_process(hash_seed: str) -> str:
    root = Path(__file__).parents[2]
    code = "from tests.commands.test_sets_determinism import fingerprint; print(fingerprint(5, 4000))"
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
