"""The same entries give the same state: in any process, and whatever was read in between."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest

from durakv.commands.spec import READ
from durakv.keyspace.digest import digest
from durakv.scripting import terms
from tests.engine.rig import TABLE, Rig, sessions_of

SETUP = (
    "SET s hello PX 5000", "SET n 12", "APPEND s x", "SETBIT bits 7 1", "RPUSH l a b c 1 2", "HSET h f 1 g two",
    "SADD set a b c 1 2 3", "SADD other b c d", "ZADD z 1 a 2 b 3 c", "ZADD y 5 b", "SELECT 1", "SET k v", "SPOP other",
    "SELECT 0", "SPOP set", "SADD many a b c d e f g h i j", "SPOP many 3", "MULTI", "INCR n", "SPOP many", "LPOP l",
    "EXEC",
    "SORT set ALPHA STORE sorted", "SUNIONSTORE u set other many", "WATCH n z", "COPY s s2", "EXPIRE h 100",
    "ZUNIONSTORE zz 2 z y", "RENAME s2 s3", "GETEX n EX 50", "SRANDMEMBER many 2", "LMOVE l l2 LEFT RIGHT",
)  # fmt: skip


def prepared() -> Rig:
    rig = Rig()
    client = rig.client()
    for command in SETUP:
        rig.ask(client, command)
    parked = rig.client()
    rig.ask(parked, "BLPOP waited 0")
    return rig


def fingerprint() -> str:
    rig = prepared()
    rig.check_follower()
    payloads = b"".join(entry.data for entry in rig.consensus.committed)
    return digest(rig.ks).hex() + payloads.hex() + repr(sessions_of(rig.engine.applier))


def test_hash_seeds_change_nothing() -> None:
    found = set()
    for seed in ("0", "1", "31337"):
        done = subprocess.run(
            [sys.executable, "-c", "from tests.engine.test_determinism import fingerprint; print(fingerprint())"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1


ARGUMENTS = (
    b"s", b"n", b"l", b"h", b"set", b"z", b"nosuch", b"0", b"1", b"-1", b"2", b"a", b"f", b"*", b"COUNT", b"WITHSCORES",
    b"[a", b"(1", b"+inf", b"-inf", b"other", b"y", b"BYLEX", b"ALPHA",
)  # fmt: skip


@pytest.mark.parametrize("after_ms", [0, 10_000])
def test_read_commands_change_nothing(after_ms: int) -> None:
    rig = prepared()
    rig.clock.now_ns += after_ms * 1_000_000
    random = Random(4)
    before = digest(rig.ks)
    sizes = [(db.size, db.nexp) for db in rig.ks.dbs]
    answered = 0
    for row in TABLE.all:
        if row.kind != READ:
            continue
        container, _, sub = row.name.upper().partition("|")
        head = [container.encode()] + ([sub.encode()] if sub else [])
        most = min(row.argc_max, row.argc_min + 3)
        for _ in range(60):
            count = random.randint(row.argc_min, most)
            argv = head + [random.choice(ARGUMENTS) for _ in range(count - len(head))]
            if row.runs_script:
                argv.append(terms.encode(rig.engine.settings, b"", over_memory=False))
            reply = rig.engine.gate.evaluate(row, argv, 0)
            answered += type(reply).__name__ != "CommandError"
            rig.ks.tick_needed = False
    assert answered > 300
    assert not rig.engine.applier.internal_errors and not rig.engine.stats.internal_errors
    assert digest(rig.ks) == before
    assert [(db.size, db.nexp) for db in rig.ks.dbs] == sizes
    rig.check_follower()
